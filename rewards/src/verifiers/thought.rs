//! The reasoning format of all tasks: `<think>` reasoning `</think>` result (`mmada.md` 4, 5.3).

/// The parts of a completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts<'a> {
    /// The text between the tags, if the format was followed.
    pub reasoning: Option<&'a str>,
    /// The text after the closing tag, or all of it.
    pub result: &'a str,
}

/// Splits a completion into its reasoning and its result.
#[must_use]
pub fn split(text: &str) -> Parts<'_> {
    let text = text.trim();
    let tagged = text
        .strip_prefix("<think>")
        .and_then(|rest| rest.split_once("</think>"));
    match tagged {
        Some((reasoning, result)) if !result.contains("<think>") && !result.contains("</think>") => Parts {
            reasoning: Some(reasoning.trim()),
            result: result.trim(),
        },
        _ => Parts {
            reasoning: None,
            result: text.rsplit("</think>").next().unwrap_or(text).trim(),
        },
    }
}

/// Computes the format reward: 1 if the completion is `<think>` something `</think>` something, else 0.
#[must_use]
pub fn format_reward(text: &str) -> f64 {
    let parts = split(text);
    f64::from(u8::from(
        parts.reasoning.is_some_and(|reasoning| !reasoning.is_empty()) && !parts.result.is_empty(),
    ))
}
