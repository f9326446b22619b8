//! Static limits of downloaded templates (law L9), checked before the template library parses them: the library would
//! allocate and recurse without bounds.

/// The most bytes of a template; the longest known ones have 20 kB.
const LONGEST_TEMPLATE: usize = 512 << 10;
/// The most bytes of one tag.
const LONGEST_TAG: usize = 8 << 10;
/// The most operators in one tag: each may be a nesting level of the expression.
const MOST_OPERATORS: usize = 500;
/// Words and signs that are operators or open a nesting level.
const WORDS: [&[u8]; 7] = [b"not", b"and", b"or", b"if", b"else", b"in", b"is"];
const SIGNS: &[u8] = b"([{+-*/%~|.<>=!,";
/// The most tags of a template: each may be a nesting level of blocks.
const MOST_TAGS: usize = 2000;

/// Refuses a template that could overflow a parser.
///
/// # Errors
/// A message that names the exceeded limit.
pub(super) fn template(source: &str) -> Result<(), String> {
    if source.len() > LONGEST_TEMPLATE {
        let (found, most) = (source.len(), LONGEST_TEMPLATE);
        return Err(format!("the template has {found} bytes, expected at most {most}"));
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
        return Err(format!(
            "the template has {tags} tags, expected at most {MOST_TAGS}"
        ));
    }
    Ok(())
}

/// Words that store a template's output for reuse, or that produce more text than they are given.
const GROWING: [&str; 17] = [
    "set",
    "macro",
    "call",
    "caller",
    "filter",
    "with",
    "block",
    "extends",
    "include",
    "import",
    "from",
    "recursive",
    "namespace",
    "dict",
    "cycler",
    "joiner",
    "lipsum",
];
/// Filters and methods whose result is never longer than their input.
const SHORTENING: [&str; 23] = [
    "trim",
    "upper",
    "lower",
    "title",
    "capitalize",
    "length",
    "count",
    "first",
    "last",
    "int",
    "float",
    "string",
    "strip",
    "lstrip",
    "rstrip",
    "split",
    "startswith",
    "endswith",
    "get",
    "items",
    "keys",
    "values",
    "range",
];

/// Whether a template could grow its own output repeatedly, by storing or concatenating texts. A template that only
/// reads its variables and writes them cannot, because the length of its output is limited.
pub(super) fn may_grow(source: &str) -> bool {
    let mut rest = source;
    while let Some(at) = rest.find('{') {
        let opened = &rest[at..];
        let bytes = opened.as_bytes();
        let end = match bytes.get(1) {
            Some(b'{') => measured(bytes, b"}}").0,
            Some(b'%') if whole_tag(opened, "raw").is_some() => return true,
            Some(b'%') => measured(bytes, b"%}").0,
            Some(b'#') => after_comment(opened),
            _ => {
                rest = &opened[1..];
                continue;
            }
        };
        if bytes.get(1) != Some(&b'#') && tag_may_grow(&bytes[2..end.saturating_sub(2).max(2)]) {
            return true;
        }
        rest = &opened[end..];
    }
    false
}

/// Whether the content of a tag stores, repeats or joins text.
fn tag_may_grow(tag: &[u8]) -> bool {
    let mut at = 0;
    // How the previous word is used: after `|` it is a filter; before a bracket it is a call.
    let (mut is_filter, mut word): (bool, &[u8]) = (false, b"");
    while let Some(&byte) = tag.get(at) {
        let known = |word: &[u8], names: &[&str]| names.iter().any(|name| name.as_bytes() == word);
        let length = match byte {
            b'\'' | b'"' => quoted(&tag[at..]),
            byte if byte.is_ascii_alphabetic() || byte == b'_' => {
                let letters = tag[at..]
                    .iter()
                    .take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_');
                let length = letters.count();
                word = &tag[at..at + length];
                if known(word, &GROWING) || is_filter && !known(word, &SHORTENING) {
                    return true;
                }
                is_filter = false;
                at += length;
                continue;
            }
            b'(' if !word.is_empty() && !known(word, &SHORTENING) && !known(word, &CONDITIONS) => {
                return true;
            }
            // A sign at the edge of a tag trims white space; inside, a sum, product or remainder makes a new text.
            b'-' | b'+' if at == 0 || at + 1 == tag.len() => 1,
            b'~' | b'+' | b'*' | b'%' => return true,
            _ => 1,
        };
        if byte == b'|' {
            is_filter = true;
        }
        if !byte.is_ascii_whitespace() {
            word = b"";
        }
        at += length;
    }
    false
}

/// Words that may precede a bracket without being a call.
const CONDITIONS: [&str; 7] = ["not", "and", "or", "if", "elif", "in", "is"];

/// Returns the length of the tag with which a text begins; refuses tags that are too long or too deep.
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

/// Returns the length of a tag and its number of operators. It scans like Jinja's lexer: an end mark inside quotes or
/// brackets does not end the tag.
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

/// Returns the length of a quoted text with its quotes; the whole rest if the quote is not closed.
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

/// Returns the length of a tag that consists of `word` alone, if the text begins with one.
fn whole_tag(opened: &str, word: &str) -> Option<usize> {
    let without_sign = |text: &'_ str| text.strip_prefix(['-', '+']).map_or(0, |_| 1);
    let inside = opened.strip_prefix("{%")?;
    let inside = &inside[without_sign(inside)..];
    let rest = inside.trim_ascii_start().strip_prefix(word)?.trim_ascii_start();
    let rest = rest[without_sign(rest)..].strip_prefix("%}")?;
    Some(opened.len() - rest.len())
}

/// Returns where a raw block ends, after its closing tag.
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

/// Returns where a comment ends.
fn after_comment(opened: &str) -> usize {
    let begun = if opened[2..].starts_with(['-', '+']) { 3 } else { 2 };
    let end = opened[begun..].find("#}");
    end.map_or(opened.len(), |end| begun + end + 2)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

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
    fn l9_what_may_grow_is_told_from_what_cannot() {
        for plain in [
            super::super::chat_template::LLADA,
            super::super::chat_template::MMADA,
            "{{ question }}{% for one in choices %}\n{{ \"ABCD\"[loop.index0] }}. {{ one }}{% endfor %}",
            "{{- answer.split('####')[1].strip() -}}{# set x = x ~ x #}{% if not (a and b) %}{{ a | trim | upper }}{% endif %}",
        ] {
            assert!(!may_grow(plain), "{plain}");
        }
        for grows in [
            "{% set x = 'a' %}",
            "{{ a ~ a }}",
            "{{ a + a }}",
            "{{ 'a' * 100 }}",
            "{{ '%s' % a }}",
            "{{ a | replace('a', 'aa') }}",
            "{{ a.replace('a', 'aa') }}",
            "{{ a | join('x') }}",
            "{%- macro m(a) -%}{{ m(a) }}{% endmacro %}",
            "{% for a in b recursive %}{{ loop(a) }}{% endfor %}",
            "{% filter upper %}a{% endfilter %}",
            "{% call m() %}{% endcall %}",
            "{% with a = b %}{% endwith %}",
            "{{ namespace(a=1) }}",
            "{{ a | tojson(indent=9) }}",
            "{% raw %}{% set x = 1 %}{% endraw %}",
        ] {
            assert!(may_grow(grows), "{grows}");
        }
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
        // Operators inside quotes, comments and raw blocks do not count.
        let words = "a, b. ".repeat(400);
        template(&format!(
            "{{{{ '{words}' }}}}{{# {deep} #}}{{% raw %}}{deep}{{% endraw %}}"
        ))
        .unwrap();
    }
}
