//! Limits for what somebody else's tokenizer and chat template may ask for (law L9): checked before a library that would build what
//! they ask for, whatever its size.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::Value;

/// Bytes of a `tokenizer.json`; the largest known ones have 35 MB.
const LONGEST_TOKENIZER: usize = 256 << 20;
/// By how much a tokenizer's own rules may lengthen a text; SentencePiece's usual table alone makes 33 bytes of a character.
const MOST_GROWTH: usize = 256;
/// Bytes of a template; the longest known ones have 20 kB.
const LONGEST_TEMPLATE: usize = 512 << 10;
/// Bytes of one of its tags.
const LONGEST_TAG: usize = 8 << 10;
/// Operators in one tag: each is a level of the expression.
const MOST_OPERATORS: usize = 500;
/// Words and signs that are operators, or begin a level.
const WORDS: [&[u8]; 7] = [b"not", b"and", b"or", b"if", b"else", b"in", b"is"];
const SIGNS: &[u8] = b"([{+-*/%~|.<>=!,";
/// Tags in all: each may be a level of blocks.
const MOST_TAGS: usize = 2000;

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
pub(super) fn tokenizer(json: &str) -> Result<(), String> {
    if json.len() > LONGEST_TOKENIZER {
        return Err(format!(
            "it has {} bytes; at most {LONGEST_TOKENIZER} are read",
            json.len()
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

/// Refuses a template that a parser could drown in.
///
/// # Errors
/// Which limit, in words.
pub(super) fn template(source: &str) -> Result<(), String> {
    if source.len() > LONGEST_TEMPLATE {
        let (found, most) = (source.len(), LONGEST_TEMPLATE);
        return Err(format!("it has {found} bytes; at most {most} are read"));
    }
    let (mut rest, mut tags) = (source, 0);
    while let Some(at) = rest.find('{') {
        let opened = &rest[at..];
        let end = match opened.as_bytes().get(1) {
            Some(b'{') => tag(opened, b"}}")?,
            Some(b'%') => match whole_tag(opened, "raw") {
                Some(inside) => after_raw(opened, inside),
                None => tag(opened, b"%}")?,
            },
            Some(b'#') => after_comment(opened),
            _ => {
                rest = &opened[1..];
                continue;
            }
        };
        tags += 1;
        rest = &opened[end..];
    }
    if tags > MOST_TAGS {
        return Err(format!("it has {tags} tags; at most {MOST_TAGS} are read"));
    }
    Ok(())
}

/// Where a tag ends, which a text is opened with; refuses one that is too long or too deep.
fn tag(opened: &str, close: &[u8; 2]) -> Result<usize, String> {
    let (end, operators) = measured(opened.as_bytes(), close);
    let beginning = || opened[..end].chars().take(40).collect::<String>();
    if end > LONGEST_TAG {
        return Err(format!(
            "the tag '{}…' has {end} bytes; at most {LONGEST_TAG} are read",
            beginning()
        ));
    }
    if operators > MOST_OPERATORS {
        return Err(format!(
            "the tag '{}…' has {operators} operators; at most {MOST_OPERATORS} are read",
            beginning()
        ));
    }
    Ok(end)
}

/// Where a tag ends, and how many operators it has: as Jinja's own reader goes through it, so that no end is seen inside quotes or
/// brackets, where the tag goes on.
fn measured(opened: &[u8], close: &[u8; 2]) -> (usize, usize) {
    let (mut at, mut depth, mut operators) = (2, 0_isize, 0);
    while let Some(&byte) = opened.get(at) {
        if depth == 0 && opened[at..].starts_with(close) {
            return (at + 2, operators);
        }
        let length = match byte {
            b'\'' | b'"' => quoted(&opened[at..]),
            byte if byte.is_ascii_alphabetic() => {
                let word = opened[at..].iter().take_while(|byte| byte.is_ascii_alphabetic());
                let length = word.count();
                operators += usize::from(WORDS.contains(&&opened[at..at + length]));
                length
            }
            byte => {
                operators += usize::from(SIGNS.contains(&byte));
                depth += match byte {
                    b'(' | b'[' | b'{' => 1,
                    b')' | b']' | b'}' => -1,
                    _ => 0,
                };
                1
            }
        };
        at += length;
    }
    (opened.len(), operators)
}

/// Bytes of a text in quotes, both of them counted; all that there is when it does not end.
fn quoted(text: &[u8]) -> usize {
    let mut at = 1;
    while let Some(&byte) = text.get(at) {
        match byte {
            b'\\' => at += 2,
            byte if byte == text[0] => return at + 1,
            _ => at += 1,
        }
    }
    text.len()
}

/// Where the tag ends that is nothing but this word, if a text begins with one.
fn whole_tag(opened: &str, word: &str) -> Option<usize> {
    let without_sign = |text: &'_ str| text.strip_prefix(['-', '+']).map_or(0, |_| 1);
    let inside = opened.strip_prefix("{%")?;
    let inside = &inside[without_sign(inside)..];
    let rest = inside.trim_ascii_start().strip_prefix(word)?.trim_ascii_start();
    let rest = rest[without_sign(rest)..].strip_prefix("%}")?;
    Some(opened.len() - rest.len())
}

/// Where what is written as it stands ends, with its last tag.
fn after_raw(opened: &str, inside: usize) -> usize {
    let mut at = inside;
    while let Some(found) = opened[at..].find("{%") {
        at += found;
        if let Some(length) = whole_tag(&opened[at..], "endraw") {
            return at + length;
        }
        at += 2;
    }
    opened.len()
}

/// Where a comment ends.
fn after_comment(opened: &str) -> usize {
    let begun = if opened[2..].starts_with(['-', '+']) { 3 } else { 2 };
    let end = opened[begun..].find("#}");
    end.map_or(opened.len(), |end| begun + end + 2)
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
        assert!(tokenizer(&rules(6).to_string()).is_ok());
        let refused = tokenizer(&rules(30).to_string()).unwrap_err();
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
        assert!(
            tokenizer(&levels.to_string())
                .unwrap_err()
                .contains("pre_tokenizer")
        );
        let prepends = json!({"normalizer": {"type": "Prepend", "prepend": "x".repeat(1000)}});
        assert!(
            tokenizer(&prepends.to_string())
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
            tokenizer(&refused.to_string())
                .unwrap_err()
                .contains("up to 1000 times")
        );
    }

    #[test]
    fn l9_templates_that_nest_without_measure_are_refused() {
        for known in [
            super::super::chat_template::LLADA,
            super::super::chat_template::MMADA,
        ] {
            template(known).unwrap();
        }
        let refused = |source: String| template(&source).unwrap_err();
        assert!(refused(format!("{{{{ {} x }}}}", "not ".repeat(1000))).contains("operators"));
        assert!(refused(format!("{{{{ {} x }}}}", "not ".repeat(100_000))).contains("bytes"));
        assert!(refused("{% if x %}".repeat(5000)).contains("tags"));
        assert!(refused("x".repeat(1 << 20)).contains("bytes"));
        template(&"a { b } c ".repeat(1000)).unwrap();
    }

    #[test]
    fn l9_no_end_of_a_tag_is_seen_where_jinja_sees_none() {
        let deep = format!("{{{{ {} x }}}}", "-".repeat(1000));
        for hidden in [
            format!("{{{{ \"}}}}\" ~ {} x }}}}", "-".repeat(1000)),
            format!("{{{{ '\\'}}}}' ~ {} x }}}}", "-".repeat(1000)),
            format!("{{{{ {{'a': {{}}}} ~ {} x }}}}", "-".repeat(1000)),
            format!("{{% raw %}}{{#{{% endraw %}}{deep}"),
            format!("{{%- raw -%}}{{%--endraw%}}{{#{{%- endraw -%}}{deep}"),
            format!("{{#}}{{% raw %}}#}}{deep}{{% endraw %}}"),
            format!("{{{{ {}1 }}}}", "\"a\"if\"b\"else".repeat(400)),
        ] {
            let refused = template(&hidden).unwrap_err();
            assert!(refused.contains("operators"), "{refused}");
        }
        // What is only words is no operator.
        let words = "a, b. ".repeat(400);
        template(&format!(
            "{{{{ '{words}' }}}}{{# {deep} #}}{{% raw %}}{deep}{{% endraw %}}"
        ))
        .unwrap();
    }
}
