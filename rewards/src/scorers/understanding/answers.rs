//! Normalisation of VQAv2's answers: punctuation, numbers, articles and contractions, in the harnesses' variants.
//!
//! Source: GT-Vision-Lab/VQA `vqaEval.py`. Its `re.sub` passes a flag as the count, so that at most 32 full stops are
//! removed.

use super::super::python;

/// The characters that are removed or become a space, in order.
const SIGNS: [char; 21] = [
    ';', '/', '[', ']', '"', '{', '}', '(', ')', '=', '+', '\\', '_', '-', '>', '<', '@', '`', ',', '?', '!',
];

/// The most full stops that `re.sub` removes.
const STOPS: usize = 32;

/// Words with their spelling with an apostrophe, sorted by the form without it.
#[rustfmt::skip]
pub const CONTRACTIONS: [(&str, &str); 120] = [
    ("'ow'sat", "'ow's'at"), ("'ows'at", "'ow's'at"), ("I'dve", "I'd've"), ("Id've", "I'd've"), ("Im", "I'm"),
    ("Ive", "I've"), ("aint", "ain't"), ("arent", "aren't"), ("cant", "can't"), ("couldn'tve", "couldn't've"),
    ("couldnt", "couldn't"), ("couldnt've", "couldn't've"), ("couldve", "could've"), ("didnt", "didn't"),
    ("doesnt", "doesn't"), ("dont", "don't"), ("hadn'tve", "hadn't've"), ("hadnt", "hadn't"), ("hadnt've", "hadn't've"),
    ("hasnt", "hasn't"), ("havent", "haven't"), ("he'dve", "he'd've"), ("hed", "he'd"), ("hed've", "he'd've"),
    ("hes", "he's"), ("howd", "how'd"), ("howll", "how'll"), ("hows", "how's"), ("isnt", "isn't"), ("it'dve", "it'd've"),
    ("itd", "it'd"), ("itd've", "it'd've"), ("itll", "it'll"), ("let's", "let's"), ("maam", "ma'am"),
    ("mightn'tve", "mightn't've"), ("mightnt", "mightn't"), ("mightnt've", "mightn't've"), ("mightve", "might've"),
    ("mustnt", "mustn't"), ("mustve", "must've"), ("neednt", "needn't"), ("notve", "not've"), ("oclock", "o'clock"),
    ("oughtnt", "oughtn't"), ("ow's'at", "'ow's'at"), ("shant", "shan't"), ("she'dve", "she'd've"), ("she's", "she's"),
    ("shed've", "she'd've"), ("shouldn'tve", "shouldn't've"), ("shouldnt", "shouldn't"), ("shouldnt've", "shouldn't've"),
    ("shouldve", "should've"), ("somebody'd", "somebodyd"), ("somebody'dve", "somebody'd've"),
    ("somebodyd've", "somebody'd've"), ("somebodyll", "somebody'll"), ("somebodys", "somebody's"),
    ("someone'dve", "someone'd've"), ("someoned", "someone'd"), ("someoned've", "someone'd've"),
    ("someonell", "someone'll"), ("someones", "someone's"), ("something'dve", "something'd've"),
    ("somethingd", "something'd"), ("somethingd've", "something'd've"), ("somethingll", "something'll"),
    ("thats", "that's"), ("there'dve", "there'd've"), ("thered", "there'd"), ("thered've", "there'd've"),
    ("therere", "there're"), ("theres", "there's"), ("they'dve", "they'd've"), ("theyd", "they'd"),
    ("theyd've", "they'd've"), ("theyll", "they'll"), ("theyre", "they're"), ("theyve", "they've"), ("twas", "'twas"),
    ("wasnt", "wasn't"), ("we'dve", "we'd've"), ("wed've", "we'd've"), ("werent", "weren't"), ("weve", "we've"),
    ("whatll", "what'll"), ("whatre", "what're"), ("whats", "what's"), ("whatve", "what've"), ("whens", "when's"),
    ("whered", "where'd"), ("wheres", "where's"), ("whereve", "where've"), ("who'dve", "who'd've"), ("whod", "who'd"),
    ("whod've", "who'd've"), ("wholl", "who'll"), ("whos", "who's"), ("whove", "who've"), ("whyll", "why'll"),
    ("whyre", "why're"), ("whys", "why's"), ("wont", "won't"), ("wouldn'tve", "wouldn't've"), ("wouldnt", "wouldn't"),
    ("wouldnt've", "wouldn't've"), ("wouldve", "would've"), ("y'all'dve", "y'all'd've"), ("y'alld've", "y'all'd've"),
    ("y'allll", "y'all'll"), ("yall", "y'all"), ("yall'd've", "y'all'd've"), ("yall'll", "y'all'll"),
    ("you'dve", "you'd've"), ("youd", "you'd"), ("youd've", "you'd've"), ("youll", "you'll"), ("youre", "you're"),
    ("youve", "you've"),
];

/// The variants of the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rules {
    /// The official rules as run by Python 2: only ASCII digits are digits.
    Official,
    /// Those of lmms-eval and LLaVA.
    Lmms,
    /// VLMEvalKit's: a full stop after a digit stays.
    Kit,
}

/// Replaces newlines and tabs by spaces, then strips.
pub fn tidy(text: &str) -> String {
    python::strip(&text.replace(['\n', '\t'], " ")).to_owned()
}

/// Whether a text consists of ASCII letters, digits and spaces, so that no variant changes its punctuation.
pub fn is_plain(text: &str) -> bool {
    text.bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b' ')
}

/// Normalises punctuation, then numbers and articles.
pub fn normalised(text: &str, rules: Rules) -> String {
    if is_plain(text) {
        return digits_and_articles(text);
    }
    digits_and_articles(&punctuation(text, rules))
}

/// Removes a character beside a space, or in a text with a comma between digits; any other becomes a space. Then
/// removes full stops.
pub fn punctuation(text: &str, rules: Rules) -> String {
    let is_digit = |c: char| {
        if rules == Rules::Official {
            c.is_ascii_digit()
        } else {
            python::decimal(c).is_some()
        }
    };
    let has_comma = has_comma_number(text, rules, is_digit);
    let signs: Vec<char> = text.chars().collect();
    let beside_space = |sign: char| {
        signs
            .windows(2)
            .any(|pair| (pair[0] == sign && pair[1] == ' ') || (pair[0] == ' ' && pair[1] == sign))
    };
    let removed: Vec<bool> = SIGNS
        .iter()
        .map(|sign| has_comma || beside_space(*sign))
        .collect();
    let kept = signs
        .iter()
        .filter_map(|c| match SIGNS.iter().position(|sign| sign == c) {
            Some(at) if removed[at] => None,
            Some(_) => Some(' '),
            None => Some(*c),
        });
    without_stops(&kept.collect::<Vec<char>>(), rules, is_digit)
}

fn has_comma_number(text: &str, rules: Rules, is_digit: impl Fn(char) -> bool) -> bool {
    let signs: Vec<char> = text.chars().collect();
    signs.iter().enumerate().any(|(i, c)| {
        let after = if rules == Rules::Lmms {
            signs[i..].iter().find(|c| **c != ',')
        } else {
            signs.get(i + 1)
        };
        *c == ',' && i > 0 && is_digit(signs[i - 1]) && after.is_some_and(|c| is_digit(*c))
    })
}

fn without_stops(signs: &[char], rules: Rules, is_digit: impl Fn(char) -> bool) -> String {
    let mut left = STOPS;
    let mut text = String::with_capacity(signs.len());
    for (i, c) in signs.iter().enumerate() {
        let before = rules == Rules::Kit && i > 0 && is_digit(signs[i - 1]);
        if *c == '.' && left > 0 && !before && !signs.get(i + 1).is_some_and(|c| is_digit(*c)) {
            left -= 1;
        } else {
            text.push(*c);
        }
    }
    text
}

/// Lower-cases, writes numbers up to ten as digits, drops articles, spells contractions, and joins with single spaces.
pub fn digits_and_articles(text: &str) -> String {
    let lower = text.to_lowercase();
    let mut result = String::with_capacity(lower.len());
    for word in python::words(&lower) {
        let word = number(word);
        if matches!(word, "a" | "an" | "the") {
            continue;
        }
        let word = CONTRACTIONS
            .binary_search_by(|(key, _)| key.cmp(&word))
            .map_or(word, |at| CONTRACTIONS[at].1);
        if !result.is_empty() {
            result.push(' ');
        }
        result.push_str(word);
    }
    result
}

fn number(word: &str) -> &str {
    match word {
        "none" | "zero" => "0",
        "one" => "1",
        "two" => "2",
        "three" => "3",
        "four" => "4",
        "five" => "5",
        "six" => "6",
        "seven" => "7",
        "eight" => "8",
        "nine" => "9",
        "ten" => "10",
        other => other,
    }
}

/// Normalises an answer as LLaVA does for a submission: without commas and question marks, with the genitive apart,
/// then as above.
pub fn submission(text: &str) -> String {
    let text = text.to_lowercase().replace([',', '?'], "").replace("'s", " 's");
    normalised(&tidy(python::strip(&text)), Rules::Lmms)
}
