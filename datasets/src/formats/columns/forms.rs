//! Single-turn rows: a question with its answer, a captioned picture, plain text.

use crate::example::{CAPTION_PROMPT, Check, Example, Kind};
use crate::formats::columns::encoded::Encoded;
use crate::formats::columns::fields::Fields;
use crate::formats::row::Origin;

/// Makes the example of a row without a picture.
pub(super) fn text(fields: &Fields, origin: &Origin) -> Result<Example, String> {
    let mut example = origin.blank();
    if fields.has("question") {
        example.kind = Kind::WordProblem;
        example.prompt = fields.word("question")?;
        worked(&mut example, &fields.word("answer")?)?;
    } else if fields.has("prompt") {
        example.kind = Kind::WordProblem;
        example.prompt = fields.word("prompt")?;
        let reasoning = fields.has("reasoning").then(|| fields.word("reasoning"));
        example.reasoning = reasoning.transpose()?;
        answered(&mut example, fields.word("answer")?);
    } else if fields.has("instruction") {
        example.kind = Kind::Instruction;
        example.prompt = fields.word("instruction")?;
        // Alpaca's rows without an input have an empty `input`.
        if let Ok(input) = fields.word("input") {
            example.prompt = format!("{}\n{input}", example.prompt);
        }
        let answer = if fields.has("output") {
            "output"
        } else {
            "response"
        };
        example.answer = Some(fields.word(answer)?);
    } else if fields.has("text") || fields.has("content") {
        example.kind = Kind::Text;
        let name = if fields.has("text") { "text" } else { "content" };
        example.answer = Some(fields.word(name)?);
    } else {
        return Err(format!(
            "question, prompt, image, instruction, messages or text was expected, found {}",
            fields.names()
        ));
    }
    Ok(example)
}

/// Makes the examples of a row with a picture.
pub(super) fn picture(
    picture: &Encoded,
    fields: &Fields,
    origin: &Origin,
    drawn: bool,
) -> Result<Vec<Example>, String> {
    let mut example = origin.blank();
    example.picture = Some(picture.decode(origin.pixels)?);
    let caption = ["caption", "text", "label"]
        .into_iter()
        .find(|name| fields.has(name));
    let Some(caption) = caption.filter(|caption| *caption == "caption" || !fields.has("question")) else {
        if !fields.has("question") {
            let found = fields.names();
            return Err(format!(
                "caption, or question and answer, was expected beside the picture, found {found}"
            ));
        }
        example.kind = Kind::Question;
        example.prompt = without_mark(&fields.word("question")?);
        answered(&mut example, fields.word("answer")?);
        return Ok(vec![example.with_id()]);
    };
    let words = without_mark(&fields.word(caption)?);
    let described = Example {
        kind: Kind::Caption,
        prompt: CAPTION_PROMPT.to_owned(),
        answer: Some(words.clone()),
        ..example.clone()
    };
    let asked = Example {
        kind: Kind::TextToImage,
        prompt: words,
        ..example
    };
    let all = drawn.then_some(asked).into_iter().chain([described]);
    Ok(all.map(Example::with_id).collect())
}

fn without_mark(text: &str) -> String {
    match text.contains("<image>") {
        true => text.replace("<image>", "").trim().to_owned(),
        false => text.to_owned(),
    }
}

/// Sets the answer and its check: an answer that begins like a number is compared by value, any other word for word.
fn answered(example: &mut Example, answer: String) {
    let number = answer
        .trim_start_matches(['$', '-'])
        .starts_with(|c: char| c.is_ascii_digit());
    example.check = if number {
        Check::Number {
            answer: answer.clone(),
        }
    } else {
        Check::Exact {
            answer: answer.clone(),
        }
    };
    example.answer = Some(answer);
}

/// Parses GSM8K's `answer`: worked lines, then `#### N`. Without the mark, the whole text is the answer.
fn worked(example: &mut Example, text: &str) -> Result<(), String> {
    let Some((lines, result)) = text.rsplit_once("####") else {
        answered(example, text.to_owned());
        return Ok(());
    };
    let result = result.trim().replace(',', "");
    if result.is_empty() {
        return Err("`answer`: a number was expected after ####, found nothing".into());
    }
    let lines: Vec<&str> = lines
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    example.reasoning = (!lines.is_empty()).then(|| without_notes(&lines.join(" ")));
    answered(example, result);
    Ok(())
}

/// Removes GSM8K's calculator notes, such as `<<48/2=24>>`.
fn without_notes(text: &str) -> String {
    let mut rest = text;
    let mut kept = String::with_capacity(text.len());
    while let Some(start) = rest.find("<<") {
        let Some(end) = rest[start..].find(">>") else {
            break;
        };
        kept.push_str(&rest[..start]);
        rest = &rest[start + end + 2..];
    }
    kept.push_str(rest);
    kept
}
