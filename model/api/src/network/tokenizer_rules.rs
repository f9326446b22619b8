//! The limits on the rules of a foreign tokenizer (law L9). A `tokenizer.json` is checked before it is given to the
//! tokenizer library, which would apply its rules whatever the size of the result.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::Value;

use crate::{bounded_json, limits};

/// The largest factor by which the rules may lengthen a text. SentencePiece's usual table alone turns a character into
/// 33 bytes.
const MOST_GROWTH: usize = 256;

/// The rules of a `tokenizer.json` that transform a text before and after the vocabulary lookup.
#[derive(Deserialize)]
struct TextRules {
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    #[serde(default)]
    decoder: Value,
}

/// Checks that the rules of a `tokenizer.json` cannot fill the memory.
///
/// # Errors
/// A message if the text is too long or not JSON, or if its rules lengthen a text too much.
pub fn check(json: &str) -> Result<(), String> {
    if json.len() as u64 > limits::LONGEST_TOKENIZER {
        return Err(format!(
            "the file has {} bytes, expected at most {}",
            json.len(),
            limits::LONGEST_TOKENIZER
        ));
    }
    let rules = bounded_json::parse(json, limits::MOST_TOKENIZER_VALUES);
    let rules: TextRules = rules.map_err(|error| error.to_string())?;
    let parts = [
        ("normalizer", &rules.normalizer),
        ("pre_tokenizer", &rules.pre_tokenizer),
        ("decoder", &rules.decoder),
    ];
    for (part, rule) in parts {
        let growth = growth(rule);
        if growth > MOST_GROWTH {
            return Err(format!(
                "its {part} can make a text {growth} times as long, expected at most {MOST_GROWTH} times"
            ));
        }
    }
    Ok(())
}

/// Returns the largest factor by which a rule, with its nested rules, lengthens a text. It saturates.
fn growth(rule: &Value) -> usize {
    let inside = ["normalizers", "pretokenizers", "decoders"]
        .iter()
        .filter_map(|name| rule[name].as_array())
        .flatten()
        .map(growth)
        .fold(1_usize, usize::saturating_mul);
    let own = match rule["type"].as_str() {
        Some("Replace") => replacement(rule),
        // The prefix is added to every piece between two special tokens, however short.
        Some("Prepend") => rule["prepend"].as_str().map_or(1, |words| 1 + words.len()),
        // Half of the bytes become characters of two bytes.
        Some("ByteLevel") => 2,
        Some("Precompiled") => rule["precompiled_charsmap"].as_str().map_or(1, longest_entry),
        _ => 1,
    };
    own.saturating_mul(inside)
}

/// Returns the largest factor by which a replacement lengthens a text.
fn replacement(rule: &Value) -> usize {
    let Some(content) = rule["content"].as_str() else {
        return 1;
    };
    // A regular expression may match a single character, or the empty text between two.
    let (found, between) = match rule["pattern"]["String"].as_str() {
        Some(words) if !words.is_empty() => (words.len(), 0),
        _ => (1, 1),
    };
    let instead = content.len().div_ceil(found).max(1);
    instead.saturating_add(between * content.len())
}

/// Returns the bytes of the longest text with which SentencePiece's table replaces a character.
///
/// The table starts with the length of a trie in four bytes. After the trie come the texts, each ended by a 0. For a
/// table that cannot be read it returns 1, because the tokenizer library refuses such a table.
fn longest_entry(table: &str) -> usize {
    let Ok(bytes) = STANDARD.decode(table) else {
        return 1;
    };
    let Some((head, rest)) = bytes.split_first_chunk::<4>() else {
        return 1;
    };
    let trie = u32::from_le_bytes(*head) as usize / 4 * 4;
    let texts = rest.get(trie..).unwrap_or_default();
    let longest = texts.split(|&byte| byte == 0).map(<[u8]>::len).max();
    longest.unwrap_or_default().max(1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn l9_a_tokenizers_rules_that_lengthen_a_text_without_measure_are_refused() {
        let doubles = json!({"type": "Replace", "pattern": {"String": "a"}, "content": "aa"});
        let rules =
            |count| json!({"normalizer": {"type": "Sequence", "normalizers": vec![doubles.clone(); count]}});
        assert!(check(&rules(6).to_string()).is_ok());
        let refused = check(&rules(30).to_string()).unwrap_err();
        assert!(
            refused.contains("normalizer can make a text 1073741824 times"),
            "{refused}"
        );
        let usual = json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"});
        assert_eq!(growth(&usual), 3);
        assert_eq!(
            growth(&json!({"type": "Replace", "pattern": {"Regex": "x*"}, "content": "yy"})),
            4
        );
        let levels = vec![json!({"type": "ByteLevel"}); 30];
        let levels = json!({"pre_tokenizer": {"type": "Sequence", "pretokenizers": levels}});
        assert!(check(&levels.to_string()).unwrap_err().contains("pre_tokenizer"));
        let prepends = json!({"normalizer": {"type": "Prepend", "prepend": "x".repeat(1000)}});
        assert!(
            check(&prepends.to_string())
                .unwrap_err()
                .contains("a text 1001 times")
        );
    }

    #[test]
    fn l9_a_table_of_characters_grows_by_its_longest_entry() {
        let table = |texts: &[u8]| {
            let bytes = [&8_u32.to_le_bytes()[..], &[7; 8], texts].concat();
            json!({"type": "Precompiled", "precompiled_charsmap": STANDARD.encode(bytes)})
        };
        assert_eq!(growth(&table(b"ab\0abcde\0c\0")), 5);
        let refused = json!({"normalizer": table(&[b'x'; 1000])});
        assert!(
            check(&refused.to_string())
                .unwrap_err()
                .contains("a text 1000 times")
        );
    }
}
