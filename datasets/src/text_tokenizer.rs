//! Text to token ids and back: any `tokenizer.json`, or a byte-level BPE of our own, with the special tokens by role.
//!
//! The picture code c has the id `len() + c`: codes follow the text vocabulary, special tokens included
//! (`mmada.md` 0.2).

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use tokenizers::decoders::byte_level::ByteLevel;
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{
    AddedToken, DecoderWrapper, ModelWrapper, PreTokenizerWrapper, SplitDelimiterBehavior, Tokenizer,
};

/// How our own tokenizer cuts text before merging: think marks whole, operators with their spaces, digits one by one,
/// words with the space before them.
const PATTERN: &str = r"</?think>| ?[+\-*=] ?|\p{N}| ?[\p{L}\p{M}]+|[.,:;?!]+ ?|\s+|[^\s\p{L}\p{M}\p{N}]+";

/// Each role's names: ours first, then LLaDA's (`mmada.md` 2.1).
const ROLES: [&[&str]; 12] = [
    &["<|startoftext|>"],
    &["<|endoftext|>"],
    &["<|soi|>", "<|reserved_token_0|>"],
    &["<|eoi|>", "<|reserved_token_1|>"],
    &["<|t2i|>", "<|reserved_token_4|>"],
    &["<|mmu|>", "<|reserved_token_5|>"],
    &["<|r2i|>", "<|reserved_token_10|>"],
    &["[iPAD]", "<|reserved_token_9|>"],
    &["<|mdm_mask|>"],
    &["<|start_header_id|>"],
    &["<|end_header_id|>"],
    &["<|eot_id|>"],
];

/// Why a tokenizer could not be made or used.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// The library's words.
    #[error("text tokenizer: {0}")]
    Tokenizers(#[from] tokenizers::Error),
}

/// The ids of the special tokens, by role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpecialTokens {
    /// Begins every text (`<|sot|>` is the same).
    pub bos: u32,
    /// Ends a text and fills it up.
    pub eos: u32,
    /// Start of a picture.
    pub soi: u32,
    /// End of a picture.
    pub eoi: u32,
    /// The task: text to picture.
    pub t2i: u32,
    /// The task: picture and text to text.
    pub mmu: u32,
    /// The task: reasoning, then a picture.
    pub r2i: u32,
    /// Left padding.
    pub pad: u32,
    /// A masked token.
    pub mask: u32,
    /// Begins a role's name in a chat.
    pub start_header: u32,
    /// Ends it.
    pub end_header: u32,
    /// Ends a turn.
    pub eot: u32,
}

impl SpecialTokens {
    /// LLaDA's reserved ids, as MMaDA uses them.
    pub const LLADA: Self = Self {
        bos: 126_080,
        eos: 126_081,
        soi: 126_084,
        eoi: 126_085,
        t2i: 126_088,
        mmu: 126_089,
        r2i: 126_094,
        pad: 126_093,
        mask: 126_336,
        start_header: 126_346,
        end_header: 126_347,
        eot: 126_348,
    };

    fn from_ids(
        [
            bos,
            eos,
            soi,
            eoi,
            t2i,
            mmu,
            r2i,
            pad,
            mask,
            start_header,
            end_header,
            eot,
        ]: [u32; 12],
    ) -> Self {
        Self {
            bos,
            eos,
            soi,
            eoi,
            t2i,
            mmu,
            r2i,
            pad,
            mask,
            start_header,
            end_header,
            eot,
        }
    }
}

/// A text tokenizer.
#[derive(Clone)]
pub struct TextTokenizer {
    inner: Tokenizer,
    specials: SpecialTokens,
    len: usize,
}

impl TextTokenizer {
    /// Trains a byte-level BPE on the texts: `vocab` ids at most, the twelve special tokens first, then the 256 bytes,
    /// then merges. The same texts give the same tokenizer.
    ///
    /// # Errors
    /// When the library fails; `vocab` below 268 leaves room for no merges but is no error.
    pub fn train(texts: &[String], vocab: usize) -> Result<Self, TokenizerError> {
        let byte_level = |regex| ByteLevel::new(false, false, regex);
        let split = Split::new(
            SplitPattern::Regex(PATTERN.to_owned()),
            SplitDelimiterBehavior::Isolated,
            false,
        )?;
        let steps = vec![
            PreTokenizerWrapper::Split(split),
            PreTokenizerWrapper::ByteLevel(byte_level(false)),
        ];
        let mut inner = Tokenizer::new(ModelWrapper::BPE(BPE::default()));
        inner.with_pre_tokenizer(Some(PreTokenizerWrapper::Sequence(Sequence::new(steps))));
        inner.with_decoder(Some(DecoderWrapper::ByteLevel(byte_level(true))));
        let alphabet: HashSet<char> = ByteLevel::alphabet().into_iter().collect();
        let trainer = BpeTrainer::builder()
            .vocab_size(vocab)
            .min_frequency(2)
            .show_progress(false)
            .special_tokens(
                ROLES
                    .iter()
                    .map(|names| AddedToken::from(names[0], true))
                    .collect(),
            )
            .initial_alphabet(alphabet)
            .build();
        inner.train(
            &mut TrainerWrapper::BpeTrainer(trainer),
            texts.iter().map(String::as_str),
        )?;
        Self::new(inner)
    }

    /// Reads a `tokenizer.json`. Roles that it has no token for, under our name or LLaDA's, are added at its end.
    ///
    /// # Errors
    /// When it is not one.
    pub fn from_json(json: &str) -> Result<Self, TokenizerError> {
        Self::new(Tokenizer::from_bytes(json.as_bytes())?)
    }

    /// Writes a `tokenizer.json`.
    ///
    /// # Errors
    /// When the library fails.
    pub fn to_json(&self) -> Result<String, TokenizerError> {
        Ok(self.inner.to_string(false)?)
    }

    fn new(mut inner: Tokenizer) -> Result<Self, TokenizerError> {
        let mut ids = [0; 12];
        for (id, names) in ids.iter_mut().zip(ROLES) {
            *id = role_id(&mut inner, names)?;
        }
        inner.set_encode_special_tokens(true);
        let highest = inner.get_vocab(true).into_values().max();
        let len = highest.map_or(0, |id| id as usize + 1);
        Ok(Self {
            inner,
            specials: SpecialTokens::from_ids(ids),
            len,
        })
    }

    /// The text's ids, nothing added. A special token's name in a text is text: it never becomes the special token.
    ///
    /// # Errors
    /// When the library fails.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        Ok(self.inner.encode_fast(text, false)?.get_ids().to_vec())
    }

    /// The ids' text; special tokens and picture codes are left out, bytes that are no UTF-8 become replacement
    /// characters.
    ///
    /// # Errors
    /// When the library fails.
    pub fn decode(&self, ids: &[u32]) -> Result<String, TokenizerError> {
        let text: Vec<u32> = ids
            .iter()
            .copied()
            .filter(|&id| (id as usize) < self.len())
            .collect();
        Ok(self.inner.decode(&text, true)?)
    }

    /// The special tokens.
    #[must_use]
    pub const fn specials(&self) -> SpecialTokens {
        self.specials
    }

    /// Ids in all: the first picture code's id.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no token, which never happens.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

fn role_id(inner: &mut Tokenizer, names: &[&str]) -> Result<u32, TokenizerError> {
    if let Some(id) = names.iter().find_map(|name| inner.token_to_id(name)) {
        return Ok(id);
    }
    inner.add_special_tokens(&[AddedToken::from(names[0], true)]);
    let missing = || format!("no id for the special token {}", names[0]);
    inner
        .token_to_id(names[0])
        .ok_or_else(|| TokenizerError::Tokenizers(missing().into()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, missing_docs)]
    use std::sync::LazyLock;

    use proptest::prelude::*;

    use super::*;
    use crate::tabletop::Tabletop;

    static TOKENIZER: LazyLock<TextTokenizer> =
        LazyLock::new(|| TextTokenizer::train(&Tabletop::new(0).corpus(200), 512).unwrap());

    #[test]
    fn training_is_deterministic_and_json_keeps_it() {
        let again = TextTokenizer::train(&Tabletop::new(0).corpus(200), 512).unwrap();
        assert_eq!(again.to_json().unwrap(), TOKENIZER.to_json().unwrap());
        let read = TextTokenizer::from_json(&again.to_json().unwrap()).unwrap();
        assert_eq!(read.specials(), TOKENIZER.specials());
        assert_eq!(read.len(), TOKENIZER.len());
        assert!(read.len() <= 512);
        assert_eq!(
            read.encode("a red circle").unwrap(),
            TOKENIZER.encode("a red circle").unwrap()
        );
    }

    #[test]
    fn digits_are_single_and_words_short() {
        let ids = TOKENIZER.encode("<think>12 + 5 = 17.</think>17").unwrap();
        assert_eq!(ids.len(), 12, "{ids:?}");
        assert!(
            TOKENIZER
                .encode("a red circle left of a blue square")
                .unwrap()
                .len()
                <= 8
        );
    }

    #[test]
    fn a_special_name_in_a_text_is_text() {
        let specials = TOKENIZER.specials();
        for text in ["<|mdm_mask|>", "a<|eot_id|>b", "[iPAD]"] {
            let ids = TOKENIZER.encode(text).unwrap();
            assert!(
                !ids.iter()
                    .any(|&id| id == specials.mask || id == specials.eot || id == specials.pad)
            );
            assert_eq!(TOKENIZER.decode(&ids).unwrap(), text);
        }
        assert_eq!(
            TOKENIZER
                .decode(&[specials.mask, specials.eos, 600, 10_000])
                .unwrap(),
            ""
        );
    }

    #[test]
    fn llada_names_are_found_and_missing_roles_are_added() {
        let json = TOKENIZER.to_json().unwrap();
        let renamed = TextTokenizer::from_json(&json.replace("<|soi|>", "<|reserved_token_0|>")).unwrap();
        assert_eq!(renamed.specials(), TOKENIZER.specials());
        let added = TextTokenizer::from_json(&json.replace("<|r2i|>", "<|other|>")).unwrap();
        assert_eq!(added.len(), TOKENIZER.len() + 1);
        assert_eq!(added.specials().r2i as usize, TOKENIZER.len());
    }

    proptest! {
        #[test]
        fn any_text_survives(text in ".{0,60}") {
            prop_assert_eq!(TOKENIZER.decode(&TOKENIZER.encode(&text).unwrap()).unwrap(), text);
        }
    }
}
