//! The abbreviations that keep their full stop in the Penn Treebank tokenizer, as observed in CoreNLP 3.4.1.

/// Abbreviations of months, days, states, companies, titles and others, in lower case and sorted.
#[rustfmt::skip]
const WORDS: [&str; 148] = [
    "adm", "al", "ala", "alex", "apr", "ariz", "ark", "assn", "assoc", "asst", "atty", "attys", "aug", "ave", "az",
    "bancorp", "bhd", "bldg", "blvd", "brig", "bros", "calif", "capt", "cf", "cie", "cmdr", "co", "col", "colo",
    "comdr", "conn", "corp", "cos", "cpl", "ct", "dak", "dec", "del", "dept", "det", "dr", "drs", "esq", "est", "etc",
    "ext", "feb", "fla", "fri", "ft", "ga", "gen", "gov", "govs", "hon", "ill", "inc", "ind", "insp", "intl", "jan",
    "jos", "jr", "jul", "jun", "kan", "kans", "ky", "la", "lieut", "lt", "ltd", "maj", "mar", "mass", "md", "messrs",
    "mfg", "mich", "minn", "miss", "mlle", "mme", "mo", "mon", "mont", "mr", "mrs", "ms", "mt", "natl", "neb", "nev",
    "nov", "oct", "okla", "ore", "p", "pa", "penn", "pfc", "plc", "ppty", "pres", "prof", "profs", "pte", "ptes", "pty",
    "ptys", "pvt", "rd", "rep", "reps", "rev", "rt", "sen", "sens", "sep", "sept", "seq", "sgt", "spc", "sq", "sr",
    "st", "ste", "supt", "supts", "sys", "tel", "tenn", "tex", "thu", "thurs", "treas", "tue", "tues", "univ", "va",
    "vs", "vt", "wash", "wed", "wis", "wisc", "wm", "wyo",
];

/// Those that are ordinary words in lower case.
const CAPITALISED: [&str; 10] = [
    "ark", "del", "ill", "la", "mass", "miss", "ore", "pa", "tex", "wash",
];

/// Whether a word of ASCII letters keeps the full stop after it. A single letter does.
pub fn is_abbreviation(word: &str) -> bool {
    let lower = word.to_ascii_lowercase();
    let is_word = CAPITALISED.contains(&word);
    word.len() == 1 || (WORDS.binary_search(&lower.as_str()).is_ok() && !is_word)
}
