//! The published prompt layouts as token ids in and out (`mmada.md` 2.3, appendix B), for any length.
//!
//! `text` is tokenised text; `image` is the token ids of picture codes. A missing bos is prepended to a text. Texts
//! that are too long are truncated as in the published code; `sequences/` refuses them instead.

use crate::prompts::text_tokenizer::SpecialTokens;

/// A sequence in a published layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Token ids.
    pub ids: Vec<u32>,
    /// The number of leading padding positions (attention mask 0).
    pub left_pad: usize,
    /// For each position, whether it is part of the prompt and thus never masked.
    pub prompt: Vec<bool>,
}

/// Returns the text with bos at its start.
#[must_use]
pub fn with_bos(specials: &SpecialTokens, text: &[u32]) -> Vec<u32> {
    let bos = (text.first() != Some(&specials.bos)).then_some(specials.bos);
    bos.into_iter().chain(text.iter().copied()).collect()
}

/// Lays out text to image: `[iPAD]… <|t2i|> bos text eos <|soi|> image <|eoi|>`, the left part `max_text_len + 1` long.
/// All but the picture is prompt. With every code masked this is `t2i_gen`; with an empty text, the unconditional half.
#[must_use]
pub fn t2i(specials: &SpecialTokens, text: &[u32], image: &[u32], max_text_len: usize) -> Layout {
    let left_len = max_text_len + 1;
    let mut left = vec![specials.t2i];
    left.extend(with_bos(specials, text));
    left.push(specials.eos);
    if left.len() > left_len {
        left.truncate(max_text_len);
        left.push(specials.eos);
    }
    let left_pad = left_len - left.len();
    let mut ids = vec![specials.pad; left_pad];
    ids.append(&mut left);
    ids.push(specials.soi);
    let start = ids.len();
    ids.extend_from_slice(image);
    ids.push(specials.eoi);
    let prompt = (0..ids.len())
        .map(|i| i < start || i >= start + image.len())
        .collect();
    Layout {
        ids,
        left_pad,
        prompt,
    }
}

/// Lays out plain text: `bos text eos eos…`, `max_seq_len` long; truncated without an eos when too long. Nothing is
/// prompt.
#[must_use]
pub fn lm(specials: &SpecialTokens, text: &[u32], max_seq_len: usize) -> Layout {
    let mut ids = with_bos(specials, text);
    ids.resize(max_seq_len, specials.eos);
    Layout {
        prompt: vec![false; ids.len()],
        ids,
        left_pad: 0,
    }
}

/// Lays out a chat like [`lm`]; the prompt extends through the last end of a header.
#[must_use]
pub fn lm_chat(specials: &SpecialTokens, text: &[u32], max_seq_len: usize) -> Layout {
    let mut layout = lm(specials, text, max_seq_len);
    let prompt_len = through_last_header(specials, &layout.ids);
    layout.prompt[..prompt_len].fill(true);
    layout
}

/// Lays out multimodal understanding: `<|mmu|> <|soi|> image <|eoi|> bos text eos…`, the text part `max_text_len` long;
/// the last token of a truncated text is eos. The prompt extends through the last end of a header, or through the
/// picture if there is none.
#[must_use]
pub fn mmu(specials: &SpecialTokens, image: &[u32], text: &[u32], max_text_len: usize) -> Layout {
    let mut ids = picture_first(specials, image);
    let head = ids.len();
    ids.extend(filled(specials, text, max_text_len));
    let prompt_len = through_last_header(specials, &ids).max(head);
    let prompt = (0..ids.len()).map(|i| i < prompt_len).collect();
    Layout {
        ids,
        left_pad: 0,
        prompt,
    }
}

/// Lays out a question about a picture at inference: `<|mmu|> <|soi|> image <|eoi|>` and the chat, unpadded.
#[must_use]
pub fn mmu_prompt(specials: &SpecialTokens, image: &[u32], chat: &[u32]) -> Vec<u32> {
    let mut ids = picture_first(specials, image);
    ids.extend(with_bos(specials, chat));
    ids
}

/// Lays out reasoning to image: `<|r2i|> bos text eos… <|soi|> image <|eoi|>`, the text part `max_text_len` long. The
/// prompt is the task token, the text through the last end of a header, soi and eoi; the answer is the reasoning and
/// the picture.
#[must_use]
pub fn r2i(specials: &SpecialTokens, text: &[u32], image: &[u32], max_text_len: usize) -> Layout {
    let mut ids = vec![specials.r2i];
    ids.extend(filled(specials, text, max_text_len));
    let (prompt_len, soi) = (through_last_header(specials, &ids).max(1), ids.len());
    ids.push(specials.soi);
    ids.extend_from_slice(image);
    let eoi = ids.len();
    ids.push(specials.eoi);
    let prompt = (0..ids.len())
        .map(|i| i < prompt_len || i == soi || i == eoi)
        .collect();
    Layout {
        ids,
        left_pad: 0,
        prompt,
    }
}

fn picture_first(specials: &SpecialTokens, image: &[u32]) -> Vec<u32> {
    [&[specials.mmu, specials.soi], image, &[specials.eoi]].concat()
}

fn filled(specials: &SpecialTokens, text: &[u32], len: usize) -> Vec<u32> {
    let mut ids = with_bos(specials, text);
    ids.push(specials.eos);
    if ids.len() > len {
        ids.truncate(len.saturating_sub(1));
    }
    ids.resize(len, specials.eos);
    ids
}

fn through_last_header(specials: &SpecialTokens, ids: &[u32]) -> usize {
    ids.iter()
        .rposition(|&id| id == specials.end_header)
        .map_or(0, |at| at + 1)
}
