//! Text from models, files, the hub and other programs, made safe to print on a terminal (law L9): a control character
//! could send it a command, and is shown by its sign instead.

/// Returns a text on one line, without control characters.
#[must_use]
pub fn line(text: &str) -> String {
    text.chars().map(sign).collect()
}

/// Returns a text without control characters except line feeds and tabs.
#[must_use]
pub fn lines(text: &str) -> String {
    let shown = |character: char| match character {
        '\n' | '\t' => character,
        _ => sign(character),
    };
    text.chars().map(shown).collect()
}

/// Returns the sign of a control character, and any other character as it is.
fn sign(character: char) -> char {
    match character {
        '\n' => '⏎',
        '\u{7f}' => '␡',
        '\0'..='\u{1f}' => char::from_u32(0x2400 + u32::from(character)).unwrap_or('\u{fffd}'),
        _ if character.is_control() => '\u{fffd}',
        _ => character,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn l9_no_control_character_is_left_but_the_breaks_of_lines() {
        let every: String = ('\0'..='\u{ff}').collect();
        assert!(!line(&every).contains(char::is_control));
        let left: String = lines(&every).chars().filter(|sign| sign.is_control()).collect();
        assert_eq!(left, "\t\n");
        assert_eq!(
            lines("\u{1b}]0;title\u{7}a\r\n\u{9b}31mb"),
            "␛]0;title␇a␍\n\u{fffd}31mb"
        );
        assert_eq!(line("ein Äpfel, 🍏"), "ein Äpfel, 🍏");
    }
}
