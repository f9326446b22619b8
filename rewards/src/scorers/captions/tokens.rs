//! The Penn Treebank tokenizer of the official caption evaluation.
//!
//! Source: pycocoevalcap `PTBTokenizer` over Stanford CoreNLP 3.4.1 (`-preserveLines -lowerCase`). Its lexer takes the
//! longest match of its rules at each place, and the earlier of equally long ones. This one does the same with the
//! rules that occur in captions. The first group of a rule, if it has one, is the token; the rest is lookahead.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::{Value, json};

use super::super::case::Case;
use super::super::{ScoreError, pattern, python};
use super::abbreviations::is_abbreviation;

/// How a match becomes a token.
#[derive(Debug, Clone, Copy)]
enum MatchRule {
    /// The match as it is.
    Word,
    /// The match with a straight apostrophe.
    Clitic,
    /// The match with no-break spaces, and brackets replaced by their names.
    Joined,
    /// Two tokens; the first has this many characters.
    Halves(usize),
    /// A fixed token, such as `#` for `£`.
    Named(&'static str),
    /// No token: quotes, stops and dashes, which the evaluation removes.
    Dropped,
}

/// The rules: a pattern and how its match becomes a token.
const RULES: [(&str, MatchRule); 43] = [
    (r"cannot(?:[^A-Za-z]|$)", MatchRule::Halves(3)),
    (
        r"(?:gonna|gotta|lemme|gimme|wanna)(?:[^A-Za-z]|$)",
        MatchRule::Halves(3),
    ),
    (r"'t(?:is|was)(?:[^A-Za-z]|$)", MatchRule::Halves(2)),
    (
        r"</?[A-Za-z!?][A-Za-z0-9_:.-]*(?: +[A-Za-z][A-Za-z0-9_:.-]*(?: *= *(?:'[^']*'|\x22[^\x22]*\x22|[A-Za-z0-9_:.-]+))?)* */?>",
        MatchRule::Word,
    ),
    (r"&amp;", MatchRule::Named("&")),
    (r"&lt;", MatchRule::Named("<")),
    (r"&gt;", MatchRule::Named(">")),
    (r"&nbsp;", MatchRule::Dropped),
    (r"(\p{L}[\p{L}\p{Nd}]*)['’](?:[msd]|re|ve|ll)", MatchRule::Word),
    (r"([A-Za-z]*[A-MO-Za-mo-z])n['’‘`]t", MatchRule::Word),
    (
        r"'n['’]|’n['’]?|[lLdDjJ]['’]|Dunkin['’]|somethin['’]|ol['’]|['’]em|[A-HJ-XZn]['’][\p{L}]{2}[\p{L}]*|['’][2-9]0s|['’]till?|\p{L}+[aeiouy]['’][aeiouA-Z]\p{L}*|['’]cause|c['’]mon|e['’]er|s['’]mores|ev['’]ry|li['’]l|nat['’]l",
        MatchRule::Word,
    ),
    (r"[yY]['’]", MatchRule::Word),
    (r"((?:['’](?:[msd]|re|ve|ll)))(?:[^A-Za-z]|$)", MatchRule::Clitic),
    (r"(n['’‘`]t)(?:[^A-Za-z]|$)", MatchRule::Clitic),
    (r"('n)(?:\s|$)", MatchRule::Word),
    (
        r"(?i:https?)://[^\s\x22<>|()]+[^\s\x22<>|.!?(){},-]",
        MatchRule::Word,
    ),
    (
        r"(?:www\.(?:[^\s\x22<>|.!?(){},]+\.)+[a-zA-Z]{2,4}|(?:[^\s\x22`'<>|.!?(){},_$/-]+\.)+(?:com|net|org|edu))(?:/[^\s\x22<>|()]+[^\s\x22<>|.!?(){},-])?",
        MatchRule::Word,
    ),
    (
        r"<?[a-zA-Z0-9][^\s\x22<>|(){}]*@(?:[^\s\x22<>|(){}.]+\.)*[^\s\x22<>|(){}.]+>?",
        MatchRule::Word,
    ),
    (r"@[a-zA-Z_][a-zA-Z_0-9]*", MatchRule::Word),
    (r"#\p{L}+", MatchRule::Word),
    (
        r"\p{L}[\p{L}\p{Nd}]*(?:[.!?]\p{L}[\p{L}\p{Nd}]*)*",
        MatchRule::Word,
    ),
    (
        r"(?:[dDoOlL]['’]\p{L})?[\p{L}\p{Nd}]+(?:[-_](?:[dDoOlL]['’]\p{L})?[\p{L}\p{Nd}]+)*",
        MatchRule::Word,
    ),
    (r"[A-Z]+(?:[+&][A-Z]+)+", MatchRule::Word),
    (r"(?:[Pp]h|[Ee]d)\.[Dd]\.", MatchRule::Word),
    (
        r"[A-Za-z](?:\.[A-Za-z])+\.?(?:-[\p{L}\p{Nd}]+)*|(?:anti|non|pre|post|pro|ex)-[A-Za-z](?:\.[A-Za-z])+\.?|[A-Za-z]\.-[\p{L}]+",
        MatchRule::Word,
    ),
    (
        r"[A-Za-z0-9]+(?:-[A-Za-z]+){0,2}(?:\\?/[A-Za-z0-9]+(?:-[A-Za-z]+){0,2}){1,2}",
        MatchRule::Word,
    ),
    (
        r"[-+]?(?:\p{Nd}*(?:[.:,]\p{Nd}+)+|\p{Nd}+)(?:-\p{L}+)?",
        MatchRule::Word,
    ),
    (
        r"(?:\p{Nd}{1,4}[- \x{a0}])?\p{Nd}{1,4}(?:\\?/|⁄)\p{Nd}{1,4}",
        MatchRule::Joined,
    ),
    (r"\p{Nd}{1,2}[-/]\p{Nd}{1,2}[-/]\p{Nd}{2,4}", MatchRule::Word),
    (
        r"(?:\([0-9]{2,3}\)[ \x{a0}]?|(?:\+\+?)?(?:[0-9]{2,4}[- \x{a0}])?[0-9]{2,4}[- \x{a0}])[0-9]{3,4}[- \x{a0}]?[0-9]{3,5}|(?:(?:\+\+?)?[0-9]{2,4}\.)?[0-9]{2,4}\.[0-9]{3,4}\.[0-9]{3,5}|1-[0-9]{3}-[0-9]{3}-[0-9]{4}",
        MatchRule::Joined,
    ),
    (
        r"([<>]?[:;=]['\x22]?[-o*']?[)\](\[dDpP:}{@|\\])(?:[^A-Za-z]|$)",
        MatchRule::Joined,
    ),
    (
        r"[\^x=~<>]\.[\^x=~<>]|[-^x=~<>']_[-^x=~<>']|\([-^x=~<>'][_.]?[-^x=~<>']\)",
        MatchRule::Joined,
    ),
    (r"[A-Z]+\$", MatchRule::Word),
    (r"[¢]", MatchRule::Named("cents")),
    (r"[£]", MatchRule::Named("#")),
    (r"[\x{20a0}€]", MatchRule::Named("$")),
    (r"\*+|@+|#+|_+|\$", MatchRule::Word),
    (r"[?!]{2,}|-{5,}", MatchRule::Word),
    (
        r"[.]+|…|[?!,:;]|-{1,4}|[–—―\x{96}\x{97}]|[\x22'`’‘“”‛‹›«»\x{91}-\x{94}]+?",
        MatchRule::Dropped,
    ),
    (r"\(", MatchRule::Named("-lrb-")),
    (r"\)", MatchRule::Named("-rrb-")),
    (r"\[", MatchRule::Named("-lsb-")),
    (r"\]", MatchRule::Named("-rsb-")),
];

/// Characters that are tokens by themselves. Characters that no rule matches are deleted, such as emoji.
const SIGNS: &str = r"[+&~^|\\/=%<>¦§´¨©¬®¯°-³µ-º×÷„\x{2016}\x{2017}\x{2020}-\x{2023}\x{2030}-\x{2038}\x{203b}\x{203e}-\x{2042}\x{2044}\x{207a}-\x{207f}\x{208a}-\x{208e}\x{2100}-\x{214f}\x{2190}-\x{21ff}\x{2200}-\x{2bff}\x{3001}-\x{3020}\x{30fb}\x{ff01}-\x{ff0f}\x{ff1a}-\x{ff20}\x{ff3b}-\x{ff40}\x{ff5b}-\x{ff65}¤¥]";

static COMPILED: LazyLock<Vec<(Regex, MatchRule)>> = LazyLock::new(|| {
    let written = RULES.iter().enumerate().map(|(i, (text, kind))| {
        let caseless = if i < 3 || i == 8 || i == 9 || i == 12 || i == 13 {
            "(?i)"
        } else {
            ""
        };
        (pattern(&format!("^{caseless}(?:{text})")), *kind)
    });
    written
        .chain([(pattern(&format!("^{SIGNS}")), MatchRule::Word)])
        .collect()
});

/// Tokenises a caption; the tokens are joined with spaces.
///
/// # Errors
/// An error if the caption is missing.
pub fn tokenise(case: &Case<'_>) -> Result<Value, ScoreError> {
    Ok(json!({ "official": tokens(case.text(&["caption", "prediction"])?) }))
}

/// Returns a caption's tokens in lower case, joined with spaces, without punctuation.
pub fn tokens(caption: &str) -> String {
    let mut text = String::with_capacity(caption.len());
    let mut at = 0;
    while let Some(sign) = caption[at..].chars().next() {
        if python::is_space(sign) {
            at += sign.len_utf8();
        } else if is_lone_mark(&caption[at..]) {
            at += 1;
        } else if let Some(length) = plain_word(&caption[at..]) {
            push(&mut text, &caption[at..at + length]);
            at += length;
        } else {
            at += lex(&caption[at..], &mut text).unwrap_or(sign.len_utf8());
        }
    }
    text
}

fn push(text: &mut String, token: &str) {
    if !text.is_empty() {
        text.push(' ');
    }
    if token.is_ascii() {
        text.extend(token.bytes().map(|byte| char::from(byte.to_ascii_lowercase())));
    } else {
        text.push_str(&token.to_lowercase());
    }
}

/// Whether a text begins with a removed punctuation mark before a space or the end.
fn is_lone_mark(rest: &str) -> bool {
    matches!(
        rest.as_bytes(),
        [b'.' | b',' | b'!' | b'?' | b':' | b';'] | [b'.' | b',' | b'!' | b'?' | b':' | b';', b' ', ..]
    )
}

/// Fast path: returns the length of a word of ASCII letters before a space, a comma, the end or the final full stop.
fn plain_word(rest: &str) -> Option<usize> {
    let length = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
    let is_whole = match &rest.as_bytes()[length..] {
        [] | [b' ' | b',', ..] => true,
        [b'.'] => !is_abbreviation(&rest[..length]),
        _ => false,
    };
    let is_split = length >= 5
        && matches!(
            rest[..length].to_ascii_lowercase().as_str(),
            "cannot" | "gonna" | "gotta" | "lemme" | "gimme" | "wanna"
        );
    (length > 0 && is_whole && !is_split).then_some(length)
}

/// Writes the token of the longest matching rule; returns the length of the match.
fn lex(rest: &str, text: &mut String) -> Option<usize> {
    if let Some(length) = abbreviation(rest) {
        push(text, &rest[..length]);
        return Some(length);
    }
    if let Some((sign, fraction)) = rest.chars().next().and_then(|sign| Some((sign, vulgar(sign)?))) {
        push(text, fraction);
        return Some(sign.len_utf8());
    }
    let mut best: Option<(usize, &Regex, MatchRule)> = None;
    for (rule, kind) in COMPILED.iter() {
        if let Some(found) = rule.find(rest)
            && best.is_none_or(|best| found.len() > best.0)
        {
            best = Some((found.len(), rule, *kind));
        }
    }
    let (whole, rule, kind) = best?;
    // Only the rule that is taken is asked for its group, which costs more than its match.
    let group = (rule.captures_len() > 1).then(|| rule.captures(rest)?.get(1));
    let length = group.flatten().map_or(whole, |token| token.len());
    let token = &rest[..length];
    match kind {
        MatchRule::Word => push(text, &token.replace('\u{ad}', "")),
        MatchRule::Clitic => push(text, &token.replace(['’', '‘', '`'], "'")),
        MatchRule::Joined => push(
            text,
            &token
                .replace(' ', "\u{a0}")
                .replace('(', "-lrb-")
                .replace(')', "-rrb-")
                .replace("-lrb-\u{a0}", "-lrb- "),
        ),
        MatchRule::Named(name) => push(text, name),
        MatchRule::Dropped => {}
        MatchRule::Halves(first) => {
            let letters = token.len()
                - token
                    .trim_start_matches(|c: char| c == '\'' || c.is_ascii_alphabetic())
                    .len();
            push(text, &token[..first]);
            push(text, &token[first..letters]);
            return Some(letters);
        }
    }
    Some(length)
}

/// Returns the length of an abbreviation with its full stop.
fn abbreviation(rest: &str) -> Option<usize> {
    let stop = rest.find('.')?;
    let word = &rest[..stop];
    let after = &rest[stop + 1..];
    if word.is_empty() || !word.bytes().all(|byte| byte.is_ascii_alphabetic()) {
        return None;
    }
    let before_letter = after.starts_with(|c: char| c.is_alphanumeric());
    let before_number = after
        .trim_start_matches(' ')
        .starts_with(|c: char| c.is_ascii_digit());
    let numbered = before_number
        && matches!(
            word.to_ascii_lowercase().as_str(),
            "no" | "nos" | "art" | "fig" | "figs" | "pp" | "ca" | "op" | "prop" | "p"
        );
    let is_stop = (!before_letter && !after.starts_with('-') && is_abbreviation(word))
        || numbered
        || after.starts_with(',');
    is_stop.then_some(stop + 1)
}

fn vulgar(sign: char) -> Option<&'static str> {
    const FRACTIONS: [(char, &str); 18] = [
        ('¼', "1/4"),
        ('½', "1/2"),
        ('¾', "3/4"),
        ('⅓', "1/3"),
        ('⅔', "2/3"),
        ('⅕', "1/5"),
        ('⅖', "2/5"),
        ('⅗', "3/5"),
        ('⅘', "4/5"),
        ('⅙', "1/6"),
        ('⅚', "5/6"),
        ('⅛', "1/8"),
        ('⅜', "3/8"),
        ('⅝', "5/8"),
        ('⅞', "7/8"),
        ('{', "-lcb-"),
        ('}', "-rcb-"),
        ('¡', "¡"),
    ];
    FRACTIONS
        .iter()
        .find(|fraction| fraction.0 == sign)
        .map(|fraction| fraction.1)
}
