//! Limits for what somebody else's tokenizer may do to a text (law L9): its `tokenizer.json` is checked before a library that would
//! do it, whatever its size.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::Value;

use crate::limits;

/// By how much a tokenizer's own rules may lengthen a text; SentencePiece's usual table alone makes 33 bytes of a character.
const MOST_GROWTH: usize = 256;

/// What a `tokenizer.json` does to a text before and after its words are looked up.
#[derive(Deserialize)]
struct TextRules {
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    #[serde(default)]
    decoder: Value,
}

/// Refuses a `tokenizer.json` whose rules could fill the memory.
///
/// # Errors
/// Too long, no JSON, or rules that lengthen a text without measure, in words.
pub fn check(json: &str) -> Result<(), String> {
    if json.len() as u64 > limits::LONGEST_TOKENIZER {
        return Err(format!(
            "it has {} bytes; at most {} are read",
            json.len(),
            limits::LONGEST_TOKENIZER
        ));
    }
    let rules: TextRules = serde_json::from_str(json).map_err(|error| error.to_string())?;
    let parts = [
        ("normalizer", &rules.normalizer),
        ("pre_tokenizer", &rules.pre_tokenizer),
        ("decoder", &rules.decoder),
    ];
    for (part, rule) in parts {
        let growth = growth(rule);
        if growth > MOST_GROWTH {
            return Err(format!(
                "its {part} makes a text up to {growth} times as long; at most {MOST_GROWTH} times is taken"
            ));
        }
    }
    Ok(())
}

/// By how much a rule, with those inside it, lengthens a text at most; a number too large to count is the largest.
fn growth(rule: &Value) -> usize {
    let inside = ["normalizers", "pretokenizers", "decoders"]
        .iter()
        .filter_map(|name| rule[name].as_array())
        .flatten()
        .map(growth)
        .fold(1_usize, usize::saturating_mul);
    let own = match rule["type"].as_str() {
        Some("Replace") => replacement(rule),
        // It stands before every piece between two special tokens, however short.
        Some("Prepend") => rule["prepend"].as_str().map_or(1, |words| 1 + words.len()),
        // Half the bytes become characters of two.
        Some("ByteLevel") => 2,
        Some("Precompiled") => rule["precompiled_charsmap"].as_str().map_or(1, longest_entry),
        _ => 1,
    };
    own.saturating_mul(inside)
}

fn replacement(rule: &Value) -> usize {
    let Some(content) = rule["content"].as_str() else {
        return 1;
    };
    // A regular expression may match a character, or nothing between two.
    let (found, between) = match rule["pattern"]["String"].as_str() {
        Some(words) if !words.is_empty() => (words.len(), 0),
        _ => (1, 1),
    };
    let instead = content.len().div_ceil(found).max(1);
    instead.saturating_add(between * content.len())
}

/// Bytes of the longest text that SentencePiece's table puts in place of a character: after the trie, whose bytes the first four
/// count, come the texts, each ended by a 0. A table that cannot be read is refused by the library that reads it next.
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
            refused.contains("normalizer makes a text up to 1073741824 times"),
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
                .contains("up to 1001 times")
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
                .contains("up to 1000 times")
        );
    }
}
