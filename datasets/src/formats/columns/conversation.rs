//! Multi-turn conversations: the columns `messages` (role, content) and `conversations` (from, value).
//!
//! Each turn of the assistant becomes an example whose prompt is the conversation before it (LLaDA, arXiv 2502.09992,
//! appendix B.1). A turn that no answer follows is left out, as in MMaDA. The `<think>…</think>` of an answer is its
//! reasoning; earlier answers in the prompt are shown without theirs.

use demask_api::Picture;
use serde_json::Value;

use crate::example::{Example, Kind, Turn};
use crate::formats::columns::fields::{Fields, kind_of};
use crate::formats::row::Origin;

/// The most turns of a conversation (law L9): each answer's example repeats all turns before it.
const MOST_TURNS: usize = 512;
/// The mark of a picture in a text.
const MARK: &str = "<image>";

/// The role names that data sets use, each with its canonical role.
const ROLES: [(&str, &str); 16] = [
    ("system", "system"),
    ("developer", "system"),
    ("user", "user"),
    ("human", "user"),
    ("assistant", "assistant"),
    ("gpt", "assistant"),
    ("chatgpt", "assistant"),
    ("model", "assistant"),
    ("bot", "assistant"),
    ("bing", "assistant"),
    ("bard", "assistant"),
    ("function_call", "assistant"),
    ("tool", "tool"),
    ("function", "tool"),
    ("observation", "tool"),
    ("ipython", "tool"),
];

/// A turn as the row has it.
struct Said {
    turn: Turn,
    /// The number of pictures that its text marks.
    marks: usize,
    /// Whether it is an answer to be learnt.
    taught: bool,
}

/// Returns the examples of a list of turns.
///
/// # Errors
/// A message that names the turn, what was expected and what was found.
pub(super) fn examples(
    name: &str,
    turns: &[Value],
    fields: &Fields,
    origin: &Origin,
) -> Result<Vec<Example>, String> {
    let said: Vec<Said> = turns
        .iter()
        .enumerate()
        .map(|(at, turn)| said(turn).map_err(|why| format!("`{name}`, turn {}: {why}", at + 1)))
        .collect::<Result<_, _>>()?;
    if said.len() > MOST_TURNS {
        return Err(format!(
            "`{name}` has {} turns, expected at most {MOST_TURNS}",
            said.len()
        ));
    }
    let picture = picture(&said, fields, origin)?;
    let shown = said.iter().position(|said| said.marks > 0).unwrap_or(0);
    let mut examples = Vec::new();
    for (at, answer) in said.iter().enumerate().filter(|(_, said)| said.taught) {
        let picture = picture.clone().filter(|_| shown < at);
        examples.extend(example(&said[..at], &answer.turn.content, picture, origin));
    }
    if examples.is_empty() {
        return Err(format!(
            "`{name}`: expected an assistant turn that answers a user turn, found none"
        ));
    }
    Ok(examples)
}

/// Makes the example of an answer and the turns before it; `None` if the user has said nothing yet.
fn example(before: &[Said], answer: &str, picture: Option<Picture>, origin: &Origin) -> Option<Example> {
    let asked = before.iter().rfind(|said| said.turn.is_users())?;
    let shown = |said: &Said| Turn {
        role: said.turn.role.clone(),
        content: match said.turn.role.as_str() {
            "assistant" => split_thought(&said.turn.content).1,
            _ => said.turn.content.clone(),
        },
    };
    let (reasoning, answer) = split_thought(answer);
    let kind = match picture {
        Some(_) => Kind::PictureInstruction,
        None => Kind::Instruction,
    };
    let turns = match before {
        [_] => Vec::new(),
        several => several.iter().map(shown).collect(),
    };
    let example = Example {
        kind,
        prompt: asked.turn.content.clone(),
        turns,
        picture,
        reasoning,
        answer: Some(answer),
        ..origin.blank()
    };
    Some(example.with_id())
}

/// Returns the row's picture. The row must have as many pictures as its turns mark, and at most one.
fn picture(said: &[Said], fields: &Fields, origin: &Origin) -> Result<Option<Picture>, String> {
    let marks: usize = said.iter().map(|said| said.marks).sum();
    let given = super::given_pictures(fields);
    match (given.as_slice(), marks) {
        ([], 0) => Ok(None),
        ([one], 0 | 1) => one.decode(origin.pixels).map(Some),
        (given, 0 | 1) if given.len() > 1 => Err(format!(
            "found {} pictures; a sequence has room for one",
            given.len()
        )),
        (given, marks) => Err(format!(
            "{marks} {MARK} in the text and {} pictures; one of each was expected",
            given.len()
        )),
    }
}

fn said(value: &Value) -> Result<Said, String> {
    let Value::Object(turn) = value else {
        return Err(format!(
            "an object with role and content was expected, found {}",
            kind_of(value)
        ));
    };
    let named = |names: [&str; 2]| {
        names
            .iter()
            .find_map(|name| turn.get(*name).filter(|value| !value.is_null()))
    };
    let role = named(["role", "from"])
        .and_then(Value::as_str)
        .unwrap_or_default();
    let Some((_, role)) = ROLES.iter().find(|(known, _)| *known == role.trim()) else {
        return Err(format!(
            "a role of system, user, assistant or tool was expected, found {role:?}"
        ));
    };
    let (text, marks) = named(["content", "value"]).map_or(Ok((String::new(), 0)), content)?;
    let calls = turn.get("tool_calls").is_some_and(|calls| !calls.is_null());
    let unwanted = turn.get("weight").and_then(Value::as_f64) == Some(0.0);
    if text.is_empty() && marks == 0 && !calls {
        return Err(format!("the turn of the {role} is empty"));
    }
    let taught = *role == "assistant" && !text.is_empty() && !unwanted;
    let turn = Turn {
        role: (*role).to_owned(),
        content: text,
    };
    Ok(Said { turn, marks, taught })
}

/// Returns a turn's text and the number of pictures that it marks. The content is a string or a list of parts.
fn content(value: &Value) -> Result<(String, usize), String> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            let parts: Vec<String> = parts.iter().map(part).collect::<Result<_, _>>()?;
            parts.join("\n")
        }
        other => {
            return Err(format!(
                "text or a list of parts was expected, found {}",
                kind_of(other)
            ));
        }
    };
    let marks = text.matches(MARK).count();
    let text = text
        .replace("<image>\n", "")
        .replace("\n<image>", "")
        .replace(MARK, "");
    Ok((text.trim().to_owned(), marks))
}

fn part(value: &Value) -> Result<String, String> {
    let kind = value["type"].as_str();
    match (kind, value["text"].as_str().or(value.as_str())) {
        (Some("image" | "image_url" | "input_image"), _) => Ok(MARK.to_owned()),
        (_, Some(text)) => Ok(text.to_owned()),
        _ => Err(format!(
            "a part of type text or image was expected, found {}",
            kind.unwrap_or(kind_of(value))
        )),
    }
}

/// Splits `<think>reasoning</think>answer`; a text that does not begin with `<think>` is all answer.
fn split_thought(text: &str) -> (Option<String>, String) {
    let thought = text
        .strip_prefix("<think>")
        .and_then(|rest| rest.split_once("</think>"));
    match thought {
        Some((reasoning, answer)) => {
            let reasoning = reasoning.trim();
            let reasoning = (!reasoning.is_empty()).then(|| reasoning.to_owned());
            (reasoning, answer.trim().to_owned())
        }
        None => (None, text.to_owned()),
    }
}
