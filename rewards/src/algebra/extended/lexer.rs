//! The lexer of `latex2sympy2_extended`'s grammar.

use super::super::tokens::{SPACES, Token, differential, sign};

/// Accent commands, whose content is taken verbatim.
const ACCENTS: [&str; 41] = [
    "acute",
    "bar",
    "overline",
    "breve",
    "check",
    "widecheck",
    "dot",
    "ddot",
    "grave",
    "hat",
    "tilde",
    "widetilde",
    "vec",
    "overrightarrow",
    "bm",
    "boldsymbol",
    "text",
    "textit",
    "textbf",
    "textnormal",
    "mathbb",
    "mathbin",
    "mathbf",
    "mathcal",
    "mathclap",
    "mathclose",
    "mathellipsis",
    "mathfrak",
    "mathinner",
    "mathit",
    "mathnormal",
    "mathop",
    "mathord",
    "mathpunct",
    "mathrel",
    "mathring",
    "mathrm",
    "mathscr",
    "mathsf",
    "mathtt",
    "mbox",
];

/// Greek letters and other commands that are symbols.
const SYMBOLS: [&str; 79] = [
    "alpha",
    "beta",
    "gamma",
    "Gamma",
    "delta",
    "Delta",
    "epsilon",
    "varepsilon",
    "zeta",
    "eta",
    "theta",
    "Theta",
    "vartheta",
    "iota",
    "kappa",
    "lambda",
    "Lambda",
    "mu",
    "nu",
    "xi",
    "Xi",
    "omicron",
    "pi",
    "Pi",
    "varpi",
    "rho",
    "varrho",
    "sigma",
    "Sigma",
    "varsigma",
    "tau",
    "upsilon",
    "Upsilon",
    "phi",
    "Phi",
    "varphi",
    "chi",
    "psi",
    "Psi",
    "omega",
    "Omega",
    "Bbbk",
    "wp",
    "nabla",
    "bigstar",
    "angle",
    "nexists",
    "measuredangle",
    "eth",
    "clubsuit",
    "varnothing",
    "Diamond",
    "complement",
    "diamondsuit",
    "imath",
    "Finv",
    "triangledown",
    "heartsuit",
    "jmath",
    "Game",
    "triangle",
    "spadesuit",
    "ell",
    "hbar",
    "vartriangle",
    "hslash",
    "lozenge",
    "blacksquare",
    "mho",
    "blacktriangle",
    "sharp",
    "prime",
    "Im",
    "flat",
    "square",
    "Re",
    "natural",
    "surd",
    "partial",
];

/// Words that are tokens wherever they occur.
const RESERVED: [&str; 40] = [
    "arsinh",
    "arcsinh",
    "arcosh",
    "arccosh",
    "artanh",
    "arctanh",
    "gcd",
    "lcm",
    "floor",
    "ceil",
    "eye",
    "zeros",
    "ones",
    "cols",
    "rows",
    "diag",
    "norm",
    "rank",
    "trace",
    "tr",
    "rref",
    "hstack",
    "vstack",
    "orth",
    "ortho",
    "orthogonal",
    "orthogonalize",
    "nullspace",
    "eig",
    "eigen",
    "diagonalize",
    "eigenvals",
    "eigenvalues",
    "eigenvects",
    "eigenvectors",
    "svd",
    "SVD",
    "matrix",
    "pmatrix",
    "bmatrix",
];

/// Unicode characters that stand for commands.
const SIGNS_OF_COMMANDS: [(char, &str); 45] = [
    ('π', "pi"),
    ('α', "alpha"),
    ('β', "beta"),
    ('γ', "gamma"),
    ('δ', "delta"),
    ('ε', "epsilon"),
    ('θ', "theta"),
    ('λ', "lambda"),
    ('μ', "mu"),
    ('ρ', "rho"),
    ('σ', "sigma"),
    ('τ', "tau"),
    ('φ', "phi"),
    ('ω', "omega"),
    ('Ω', "Omega"),
    ('Δ', "Delta"),
    ('Σ', "Sigma"),
    ('Γ', "Gamma"),
    ('Π', "Pi"),
    ('ν', "nu"),
    ('ξ', "xi"),
    ('η', "eta"),
    ('ζ', "zeta"),
    ('χ', "chi"),
    ('ψ', "psi"),
    ('∪', "cup"),
    ('∩', "cap"),
    ('∖', "setminus"),
    ('±', "pm"),
    ('∓', "pm"),
    ('∅', "emptyset"),
    ('≈', "approx"),
    ('≃', "approx"),
    ('≅', "approx"),
    ('≡', "equiv"),
    ('≠', "ne"),
    ('≤', "le"),
    ('≥', "ge"),
    ('≦', "le"),
    ('≧', "ge"),
    ('×', "times"),
    ('⋅', "cdot"),
    ('∗', "cdot"),
    ('∙', "cdot"),
    ('÷', "div"),
];

/// Whether a command is a symbol.
pub fn is_symbol(name: &str) -> bool {
    SYMBOLS.contains(&name) && name != "partial"
}

/// Returns all tokens of a text; `None` where the official lexer raises.
pub fn tokens(text: &str) -> Option<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let (token, length) = next(rest, c)?;
        tokens.extend(token);
        rest = &rest[length..];
    }
    Some(tokens)
}

/// Reads the token at the start of `rest`, whose first character is `c`. Returns the token, or none for a space, and
/// its length in bytes. Returns `None` for a character that the grammar does not know. The order of the cases is
/// significant: a longer token is tried before a shorter one with which it begins.
fn next(rest: &str, c: char) -> Option<(Option<Token>, usize)> {
    const SIGNS: [&str; 31] = [
        "+", "-", "*", "/", "(", ")", "\\(", "\\)", "{", "}", "\\{", "\\}", "[", "]", "|", "\\|", "_", "^",
        ":", ";", ",", ".", "\\\\", "&", "=", "==", "<", "<=", ">", ">=", "!",
    ];
    const DEGREES: [&str; 8] = [
        "^\\circ",
        "^\\degree",
        "^\\circle",
        "^°",
        "^{\\circ}",
        "^{\\degree}",
        "^{\\circle}",
        "^{°}",
    ];
    if matches!(c, ' ' | '\t' | '\r' | '\n') {
        return Some((None, 1));
    }
    if let Some(degree) = sign(rest, &DEGREES) {
        return Some((Some(Token::Sign("^degree")), degree.len()));
    }
    if let Some(transpose) = sign(rest, &["^T", "^{T}", "^{\\top}"]) {
        return Some((Some(Token::Sign("^T")), transpose.len()));
    }
    if ["\\,", "\\:", "\\;", "\\!", "\\$"]
        .iter()
        .any(|space| rest.starts_with(space))
    {
        return Some((None, 2));
    }
    if let Some(command) = rest
        .strip_prefix('\\')
        .filter(|command| command.starts_with(|c: char| c.is_ascii_alphabetic()))
    {
        return command_token(command);
    }
    if c.is_ascii_digit() || (c == '.' && rest[1..].starts_with(|c: char| c.is_ascii_digit())) {
        return Some(number_token(rest));
    }
    if c.is_ascii_alphabetic() {
        return Some(letter_token(rest, c));
    }
    if rest.starts_with("!=") {
        return Some((
            Some(Token::Sign("!=")),
            if rest.starts_with("!==") { 3 } else { 2 },
        ));
    }
    if rest.starts_with("~=") {
        return Some((Some(Token::Command("approx".to_owned())), 2));
    }
    if c == '\'' {
        return Some((Some(Token::Sign("'")), 1));
    }
    if let Some(sign) = sign(rest, &SIGNS) {
        return Some((Some(Token::Sign(sign)), sign.len()));
    }
    if c == '−' {
        return Some((Some(Token::Sign("-")), c.len_utf8()));
    }
    let command = SIGNS_OF_COMMANDS.iter().find(|pair| pair.0 == c)?.1;
    Some((Some(Token::Command(command.to_owned())), c.len_utf8()))
}

/// Reads the longest command that the grammar knows here, which may be shorter than the word.
fn command_token(command: &str) -> Option<(Option<Token>, usize)> {
    let length = command.bytes().take_while(u8::is_ascii_alphabetic).count();
    let word = &command[..length];
    if word == "begin" || word == "end" {
        return matrix_token(word == "begin", &command[length..], length);
    }
    let known = |name: &str| is_known(name) || SPACES.contains(&name) || ACCENTS.contains(&name);
    let length = (1..=length).rev().find(|length| known(&word[..*length]))?;
    let name = &word[..length];
    if SPACES.contains(&name) {
        return Some((None, length + 1));
    }
    if ACCENTS.contains(&name) {
        let after = &command[length..];
        let opened = after.strip_prefix([' ', '\t', '\n']).unwrap_or(after);
        if let Some(content) = opened.strip_prefix('{')
            && let Some(end) = closing(content)
        {
            let taken = command.len() - content.len() + end + 1;
            // A space before the brace is part of the accent's name.
            let name = &command[..command.len() - content.len() - 1];
            return Some((
                Some(Token::Accent(name.to_owned(), content[..end].to_owned())),
                taken + 1,
            ));
        }
        return None;
    }
    Some((Some(Token::Command(name.to_owned())), length + 1))
}

/// Finds the first closing brace that is not written `\}`.
fn closing(content: &str) -> Option<usize> {
    let mut escaped = false;
    for (i, c) in content.char_indices() {
        if c == '}' && !escaped {
            return Some(i);
        }
        escaped = c == '\\';
    }
    content.find('}')
}

/// Returns whether the grammar has a command of this name, other than spaces and accents.
fn is_known(name: &str) -> bool {
    const KNOWN: [&str; 108] = [
        "lgroup",
        "rgroup",
        "lbrace",
        "rbrace",
        "lbrack",
        "rbrack",
        "phantom",
        "boxed",
        "lvert",
        "rvert",
        "vert",
        "langle",
        "rangle",
        "lfloor",
        "rfloor",
        "llcorner",
        "lrcorner",
        "lceil",
        "rceil",
        "ulcorner",
        "urcorner",
        "lim",
        "to",
        "rightarrow",
        "Rightarrow",
        "longrightarrow",
        "Longrightarrow",
        "int",
        "sum",
        "prod",
        "log",
        "ln",
        "exp",
        "sin",
        "cos",
        "tan",
        "csc",
        "sec",
        "cot",
        "arcsin",
        "arccos",
        "arctan",
        "arccsc",
        "arcsec",
        "arccot",
        "sinh",
        "cosh",
        "tanh",
        "arsinh",
        "arcosh",
        "artanh",
        "arcsinh",
        "arccosh",
        "arctanh",
        "sqrt",
        "gcd",
        "lcm",
        "floor",
        "ceil",
        "max",
        "min",
        "det",
        "times",
        "cdot",
        "div",
        "frac",
        "dfrac",
        "tfrac",
        "cfrac",
        "binom",
        "tbinom",
        "dbinom",
        "choose",
        "mod",
        "mathit",
        "operatorname",
        "over",
        "in",
        "equiv",
        "approx",
        "lt",
        "leq",
        "le",
        "leqslant",
        "gt",
        "geq",
        "ge",
        "geqslant",
        "ne",
        "neq",
        "infty",
        "partial",
        "cup",
        "cap",
        "setminus",
        "pm",
        "mp",
        "emptyset",
        "supseteq",
        "subseteq",
        "notin",
        "exponentialE",
        "xrightarrow",
        "xRightarrow",
        "leftrightarrow",
        "Leftrightarrow",
        "hfil",
        "variable",
    ];
    KNOWN.contains(&name) || SYMBOLS.contains(&name)
}

fn matrix_token(begins: bool, after: &str, length: usize) -> Option<(Option<Token>, usize)> {
    let content = after.strip_prefix('{')?;
    let end = content.find('}')?;
    let kind = &content[..end];
    let mut taken = 1 + length + end + 2;
    match kind {
        "matrix" | "pmatrix" | "bmatrix" => Some((Some(Token::Matrix(begins, "matrix".to_owned())), taken)),
        "vmatrix" => Some((Some(Token::Matrix(begins, kind.to_owned())), taken)),
        "array" => {
            if begins {
                let columns = content[end + 1..].strip_prefix('{')?;
                let close = columns.find('}')?;
                columns[..close]
                    .bytes()
                    .all(|byte| matches!(byte, b'c' | b'l' | b'r'))
                    .then_some(())?;
                taken += close + 2;
            }
            Some((Some(Token::Matrix(begins, kind.to_owned())), taken))
        }
        _ => None,
    }
}

fn number_token(rest: &str) -> (Option<Token>, usize) {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let mut length = digits(rest);
    if let Some(after) = rest[length..].strip_prefix('.') {
        let decimals = digits(after);
        length += if decimals > 0 { decimals + 1 } else { 0 };
    }
    // A number may be in E-notation; a percent sign may follow after one space.
    if let Some(after) = rest[length..].strip_prefix('E') {
        let unsigned = after.strip_prefix(['+', '-']).unwrap_or(after);
        if digits(unsigned) > 0 {
            let taken = length + 1 + (after.len() - unsigned.len()) + digits(unsigned);
            return (Some(Token::Number(rest[..taken].to_owned())), taken);
        }
    }
    let after = &rest[length..];
    let spaced = after.strip_prefix([' ', '\t', '\r', '\n']).unwrap_or(after);
    let percent = if spaced.starts_with("\\%") {
        2
    } else {
        usize::from(spaced.starts_with('%'))
    };
    if percent > 0 {
        return (
            Some(Token::Percent(rest[..length].to_owned())),
            length + (after.len() - spaced.len()) + percent,
        );
    }
    (Some(Token::Number(rest[..length].to_owned())), length)
}

fn letter_token(rest: &str, c: char) -> (Option<Token>, usize) {
    let reserved = RESERVED
        .iter()
        .filter(|word| rest.starts_with(**word))
        .map(|word| word.len())
        .max();
    let differential = differential(rest);
    match (reserved, differential) {
        (Some(length), None) => (Some(Token::Reserved(rest[..length].to_owned())), length),
        (Some(length), Some((_, other))) if length >= other => {
            (Some(Token::Reserved(rest[..length].to_owned())), length)
        }
        (_, Some((name, length))) => (Some(Token::Differential(name)), length),
        (None, None) => (Some(Token::Letter(c)), 1),
    }
}
