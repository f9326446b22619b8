//! Text to token ids and back, by any `tokenizer.json` or by Demask's own byte-level BPE, with the special tokens by
//! role.
//!
//! Picture code c has the id `len() + c`: the codes follow the text vocabulary, which includes the special tokens
//! (`mmada.md` 0.2).

use std::collections::HashSet;

use demask_api::tokenizer_rules;
use tokenizers::decoders::byte_level::ByteLevel;
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{
    AddedToken, DecoderWrapper, ModelWrapper, PreTokenizerWrapper, SplitDelimiterBehavior, Tokenizer,
};

use crate::prompts::special_tokens::ROLES;
pub use crate::prompts::special_tokens::{Family, SpecialTokens, Stated};

/// The pre-tokenisation of Demask's own tokenizer: think marks whole, operators with their spaces, single digits, words
/// with their leading space.
const PATTERN: &str = r"</?think>| ?[+\-*=] ?|\p{N}| ?[\p{L}\p{M}]+|[.,:;?!]+ ?|\s+|[^\s\p{L}\p{M}\p{N}]+";

/// Why a tokenizer could not be made or used.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// An error of the `tokenizers` library.
    #[error("text tokenizer: {0}")]
    Tokenizers(#[from] tokenizers::Error),
    /// A special token that the tokenizer does not have.
    #[error("text tokenizer: it has no token {name}, and the published id {id} is beyond its {len} tokens")]
    Missing {
        /// The token's name.
        name: &'static str,
        /// The token's published id.
        id: u32,
        /// The tokenizer's length.
        len: usize,
    },
    /// The configuration states another id than the tokenizer's, or one that the tokenizer does not have.
    #[error("config.json: {field} is {stated}, but the tokenizer has {found}")]
    Contradiction {
        /// The field.
        field: &'static str,
        /// The field's value.
        stated: u32,
        /// The value that the tokenizer implies.
        found: String,
    },
}

/// A text tokenizer.
#[derive(Clone)]
pub struct TextTokenizer {
    inner: Tokenizer,
    specials: SpecialTokens,
    /// The text and id of every special token, longest first.
    marks: Vec<(String, u32)>,
    len: usize,
}

/// The most characters of a word that a tokenizer is trained on. Longer words are cut, because training time grows with
/// the square of the length (law L9).
const LONGEST_WORD: usize = 1000;

/// Splits a text so that no piece has a longer word; most texts stay whole.
fn without_long_words(text: &str) -> Vec<&str> {
    let (mut pieces, mut begun, mut letters) = (Vec::new(), 0, 0);
    for (at, next) in text.char_indices() {
        letters = if next.is_whitespace() { 0 } else { letters + 1 };
        if letters > LONGEST_WORD {
            pieces.push(&text[begun..at]);
            (begun, letters) = (at, 1);
        }
    }
    pieces.push(&text[begun..]);
    pieces
}

/// Parses a downloaded `tokenizer.json` within limits.
fn read(json: &str) -> Result<Tokenizer, TokenizerError> {
    tokenizer_rules::check(json).map_err(|words| TokenizerError::Tokenizers(words.into()))?;
    let mut read = Tokenizer::from_bytes(json.as_bytes())?;
    // Padding and truncation settings of the file would change the number of tokens.
    read.with_padding(None).with_truncation(None)?;
    Ok(read)
}

/// The character that breaks up the name of a special token in user text, so that it stays text through a chat
/// template. Texts do not contain it: Unicode reserves it as a noncharacter.
const BREAK: char = '\u{FDD0}';

impl TextTokenizer {
    /// Trains a byte-level BPE of at most `vocab` ids: the twelve special tokens first, then the 256 bytes, then
    /// merges. Training is deterministic.
    ///
    /// # Errors
    /// An error if the library fails. A `vocab` below 268 leaves no room for merges, but is not an error.
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
                Family::Tabletop
                    .names()
                    .iter()
                    .map(|names| AddedToken::from(names[0], true))
                    .collect(),
            )
            .initial_alphabet(alphabet)
            .build();
        inner.train(
            &mut TrainerWrapper::BpeTrainer(trainer),
            texts.iter().flat_map(|text| without_long_words(text)),
        )?;
        Self::ours(inner)
    }

    /// Reads a `tokenizer.json`. A token is appended for each role that has none under Demask's name or LLaDA's.
    ///
    /// # Errors
    /// An error if the text is not a tokenizer.
    pub fn from_json(json: &str) -> Result<Self, TokenizerError> {
        Self::ours(read(json)?)
    }

    /// Reads the `tokenizer.json` of a published model. No token is added, because the embedding has no row for it. A
    /// special token's id is the stated one, else that of the family's name, else the published id.
    ///
    /// # Errors
    /// An error if the text is not a tokenizer, if a role has no token, or if configuration and tokenizer disagree.
    pub fn published(json: &str, family: Family, stated: Stated) -> Result<Self, TokenizerError> {
        let inner = read(json)?;
        let Some(published) = family.published_ids() else {
            return Self::ours(inner);
        };
        let (len, mut ids) = (length(&inner), published.ids());
        for (role, (id, names)) in ids.iter_mut().zip(family.names()).enumerate() {
            let named = names.iter().find_map(|name| inner.token_to_id(name));
            match (stated.of(role), named) {
                (Some((stated, field)), named)
                    if named.is_some_and(|named| named != stated) || stated as usize >= len =>
                {
                    let found = named.map_or_else(
                        || format!("{len} tokens"),
                        |named| format!("{} at {named}", names[0]),
                    );
                    return Err(TokenizerError::Contradiction { field, stated, found });
                }
                (Some((stated, _)), _) => *id = stated,
                (None, Some(named)) => *id = named,
                (None, None) if (*id as usize) < len || !family.needs(role) => {}
                (None, None) => {
                    let (name, id) = (names[0], *id);
                    return Err(TokenizerError::Missing { name, id, len });
                }
            }
        }
        Ok(Self::with(inner, SpecialTokens::from_ids(ids)))
    }

    /// Serialises the tokenizer as a `tokenizer.json`.
    ///
    /// # Errors
    /// An error if the library fails.
    pub fn to_json(&self) -> Result<String, TokenizerError> {
        Ok(self.inner.to_string(false)?)
    }

    fn ours(mut inner: Tokenizer) -> Result<Self, TokenizerError> {
        let mut ids = [0; ROLES];
        for (id, names) in ids.iter_mut().zip(Family::Tabletop.names()) {
            *id = role_id(&mut inner, &names)?;
        }
        Ok(Self::with(inner, SpecialTokens::from_ids(ids)))
    }

    fn with(mut inner: Tokenizer, specials: SpecialTokens) -> Self {
        inner.set_encode_special_tokens(true);
        let added = inner.get_added_tokens_decoder().into_iter();
        let mut marks: Vec<(String, u32)> = added
            .filter(|(_, token)| token.special && !token.content.is_empty())
            .map(|(id, token)| (token.content, id))
            .collect();
        marks.sort_by(|a, b| b.0.len().cmp(&a.0.len()).then(a.1.cmp(&b.1)));
        let len = length(&inner);
        Self {
            inner,
            specials,
            marks,
            len,
        }
    }

    /// Tokenises a text without adding tokens. The name of a special token in the text stays text.
    ///
    /// # Errors
    /// An error if the library fails.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        Ok(self.inner.encode_fast(text, false)?.get_ids().to_vec())
    }

    /// Tokenises a text with markup: the name of a special token becomes the token, except in words that went through
    /// [`Self::guarded`].
    ///
    /// # Errors
    /// An error if the library fails.
    pub fn encode_marked(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        let (mut ids, mut words, mut rest) = (Vec::new(), String::new(), text);
        while let Some(next) = rest.chars().next() {
            if let Some((name, id)) = self.mark_at(rest) {
                ids.extend(self.encode(&words)?);
                ids.push(id);
                words.clear();
                rest = &rest[name.len()..];
            } else {
                words.extend(Some(next).filter(|&next| next != BREAK));
                rest = &rest[next.len_utf8()..];
            }
        }
        ids.extend(self.encode(&words)?);
        Ok(ids)
    }

    /// Protects the names of special tokens in `words`, so that [`Self::encode_marked`] treats them as text.
    #[must_use]
    pub fn guarded(&self, words: &str) -> String {
        let mut kept = String::with_capacity(words.len());
        for (at, next) in words.char_indices() {
            kept.push(next);
            if self.mark_at(&words[at..]).is_some() {
                kept.push(BREAK);
            }
        }
        kept
    }

    /// Returns the longest special token with which a text begins.
    fn mark_at(&self, text: &str) -> Option<(&str, u32)> {
        let mark = self
            .marks
            .iter()
            .find(|(name, _)| text.starts_with(name.as_str()));
        mark.map(|(name, id)| (name.as_str(), *id))
    }

    /// Decodes ids to text. Special tokens and picture codes are left out; invalid UTF-8 becomes replacement
    /// characters.
    ///
    /// # Errors
    /// An error if the library fails.
    pub fn decode(&self, ids: &[u32]) -> Result<String, TokenizerError> {
        let text: Vec<u32> = ids
            .iter()
            .copied()
            .filter(|&id| (id as usize) < self.len())
            .collect();
        Ok(self.inner.decode(&text, true)?)
    }

    /// Returns the special tokens.
    #[must_use]
    pub const fn specials(&self) -> SpecialTokens {
        self.specials
    }

    /// Returns the number of ids, which is the id of the first picture code.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no token; this never happens.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// Returns the highest id plus one.
fn length(inner: &Tokenizer) -> usize {
    let highest = inner.get_vocab(true).into_values().max();
    highest.map_or(0, |id| id as usize + 1)
}

fn role_id(inner: &mut Tokenizer, names: &[&str]) -> Result<u32, TokenizerError> {
    if let Some(id) = names.iter().find_map(|name| inner.token_to_id(name)) {
        return Ok(id);
    }
    inner.add_special_tokens(&[AddedToken::from(names[0], true)]);
    let missing = || format!("it has no id for the special token {}", names[0]);
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
    fn l9_a_tokenizers_padding_and_truncation_are_left_out() {
        let mut asks: serde_json::Value = serde_json::from_str(&TOKENIZER.to_json().unwrap()).unwrap();
        asks["truncation"] = serde_json::json!({"direction": "Right", "max_length": 1, "strategy": "LongestFirst", "stride": 0});
        asks["padding"] = serde_json::json!({
            "strategy": {"Fixed": 1_u64 << 40}, "direction": "Right", "pad_to_multiple_of": null,
            "pad_id": 0, "pad_type_id": 0, "pad_token": "x"
        });
        let read = TextTokenizer::from_json(&asks.to_string()).unwrap();
        let text = "a red circle left of a blue square";
        assert_eq!(read.encode(text).unwrap(), TOKENIZER.encode(text).unwrap());
    }

    #[test]
    fn l9_a_word_without_an_end_is_cut_for_training() {
        let long = format!("short {} short", "ü".repeat(2 * LONGEST_WORD + 5));
        let pieces = without_long_words(&long);
        assert_eq!(pieces.concat(), long);
        assert_eq!(pieces.len(), 3);
        let longest = pieces.iter().flat_map(|piece| piece.split_whitespace());
        assert_eq!(longest.map(|word| word.chars().count()).max(), Some(LONGEST_WORD));
        assert_eq!(without_long_words("a red circle"), ["a red circle"]);
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
