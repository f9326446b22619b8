//! Limits for what somebody else's tokenizer and chat template may ask for (law L9): checked before a library that would build what
//! they ask for, whatever its size.

use serde_json::Value;

/// Bytes of a `tokenizer.json`; the largest known ones have 35 MB.
const LONGEST_TOKENIZER: usize = 256 << 20;
/// By how much a tokenizer's own rules may lengthen a text.
const MOST_GROWTH: usize = 64;
/// Bytes of a template; the longest known ones have 20 kB.
const LONGEST_TEMPLATE: usize = 512 << 10;
/// Bytes of one of its tags.
const LONGEST_TAG: usize = 8 << 10;
/// Operators in one tag: each is a level of the expression.
const MOST_OPERATORS: usize = 500;
/// Tags in all: each may be a level of blocks.
const MOST_TAGS: usize = 2000;

/// A `tokenizer.json` without what is never wanted here (padding and truncation to a length of its choice).
///
/// # Errors
/// Too long, no JSON, or rules that lengthen a text without measure, in words.
pub(super) fn tokenizer(json: &str) -> Result<String, String> {
    if json.len() > LONGEST_TOKENIZER {
        return Err(format!(
            "it has {} bytes; at most {LONGEST_TOKENIZER} are read",
            json.len()
        ));
    }
    let mut whole: Value = serde_json::from_str(json).map_err(|error| error.to_string())?;
    for part in ["normalizer", "pre_tokenizer", "decoder"] {
        let growth = growth(&whole[part]);
        if growth > MOST_GROWTH {
            return Err(format!(
                "its {part} makes a text up to {growth} times as long; at most {MOST_GROWTH} times is taken"
            ));
        }
    }
    let Some(fields) = whole.as_object_mut() else {
        return Err("expected an object".into());
    };
    let asks = |field: &Option<Value>| field.as_ref().is_some_and(|value| !value.is_null());
    let (padding, truncation) = (fields.remove("padding"), fields.remove("truncation"));
    if asks(&padding) || asks(&truncation) {
        return Ok(whole.to_string());
    }
    Ok(json.to_owned())
}

/// By how much a rule, with those inside it, lengthens a text at most; a number too large to count is the largest.
fn growth(rule: &Value) -> usize {
    let inside = ["normalizers", "pretokenizers", "decoders"]
        .iter()
        .filter_map(|name| rule[name].as_array())
        .flatten()
        .map(growth)
        .fold(1_usize, usize::saturating_mul);
    let own = match (rule["type"].as_str(), rule["content"].as_str()) {
        (Some("Replace"), Some(content)) => {
            // A regular expression may match a character, or nothing between two.
            let (found, between) = match rule["pattern"]["String"].as_str() {
                Some(words) if !words.is_empty() => (words.len(), 0),
                _ => (1, 1),
            };
            content
                .len()
                .div_ceil(found)
                .max(1)
                .saturating_add(between * content.len())
        }
        _ => 1,
    };
    own.saturating_mul(inside)
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
        let close = match opened.as_bytes().get(1) {
            Some(b'{') => "}}",
            Some(b'%') => "%}",
            Some(b'#') => "#}",
            _ => {
                rest = &opened[1..];
                continue;
            }
        };
        tags += 1;
        let end = opened.find(close).map_or(opened.len(), |end| end + 2);
        if close != "#}" {
            tag(&opened[..end])?;
        }
        rest = &opened[end..];
    }
    if tags > MOST_TAGS {
        return Err(format!("it has {tags} tags; at most {MOST_TAGS} are read"));
    }
    Ok(())
}

fn tag(text: &str) -> Result<(), String> {
    let beginning = || text.chars().take(40).collect::<String>();
    if text.len() > LONGEST_TAG {
        let found = text.len();
        return Err(format!(
            "the tag '{}…' has {found} bytes; at most {LONGEST_TAG} are read",
            beginning()
        ));
    }
    let words = text
        .split_whitespace()
        .filter(|word| matches!(*word, "not" | "and" | "or" | "if" | "else" | "in"));
    let signs = text.bytes().filter(|byte| b"([{+-*/~|.<>=!,".contains(byte));
    let operators = words.count() + signs.count();
    if operators > MOST_OPERATORS {
        return Err(format!(
            "the tag '{}…' has {operators} operators; at most {MOST_OPERATORS} are read",
            beginning()
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn l9_a_tokenizers_padding_and_truncation_are_left_out_and_rules_that_double_are_refused() {
        let asks = json!({"padding": {"strategy": {"Fixed": 1_u64 << 40}}, "truncation": {"max_length": 0}, "model": {}});
        assert_eq!(tokenizer(&asks.to_string()).unwrap(), r#"{"model":{}}"#);
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
}
