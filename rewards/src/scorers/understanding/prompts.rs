//! The prompts of the understanding benchmarks: MMaDA's, VLMEvalKit's, and those of VLMEvalKit's judges.
//!
//! Source: Gen-Verse/MMaDA `build_prompt`, `build_mmada_prompt`; VLMEvalKit (Apache-2.0) `build_prompt` of its data
//! sets and of its judges.

use serde_json::{Map, Value, json};

use super::super::case::Case;
use super::super::{ScoreError, python};
use super::options::options;

/// The request for one word.
pub(crate) const SHORT: &str = "Answer the question using a single word or phrase.";
/// The request for a letter.
pub(crate) const LETTER: &str = "Answer with the option's letter from the given choices directly.";
/// The request for a letter in Chinese.
const LETTER_CHINESE: &str = "请直接回答选项字母。";
/// The request to reason first.
const THINK: &str = "You should first think about the reasoning process in the mind and then provide the user with the answer. The reasoning process is enclosed within <think> </think> tags, i.e. <think> reasoning process here </think> answer here";

/// VLMEvalKit's instruction to a judge of options, before the case.
#[rustfmt::skip]
const JUDGE: &str = "You are an AI assistant who will help me to match an answer with several options of a single-choice question. You are provided with a question, several options, and an answer, and you need to find which option is most similar to the answer. If the meaning of all options are significantly different from the answer, output Z. Your should output a single uppercase character in A, B, C, D (if they are valid options), and Z. \nExample 1: \nQuestion: What is the main object in image?\nOptions: A. teddy bear B. rabbit C. cat D. dog\nAnswer: a cute teddy bear\nYour output: A\nExample 2: \nQuestion: What is the main object in image?\nOptions: A. teddy bear B. rabbit C. cat D. dog\nAnswer: Spider\nYour output: Z\nExample 3: \n";
/// The same instruction in Chinese.
#[rustfmt::skip]
const JUDGE_CHINESE: &str = "你是一个帮助我匹配答案与单选题中多个选项的 AI 助手。你会被提供：一个问题，多个选项，一个答案。你的任务是找到与答案意义最相近的选项。如果所有选项的意义都与答案显著不同，则输出 Z。你应该输出一个单个的大写字母，例如 A, B, C, D（如果它们是有效选项），或 Z。例 1:问题: 图中最主要的物体是什么?\n选项: A. 泰迪熊 B. 兔子 C. 猫 D. 狗\n答案: 一只可爱的泰迪熊\n输出: A\n例 2: \n问题: 图中最主要的物体是什么?\n选项: A. 泰迪熊 B. 兔子 C. 猫 D. 狗\n答案: 蜘蛛\n输出: Z\n例 3: \n";
/// VLMEvalKit's instruction to a judge of yes and no, before the case.
#[rustfmt::skip]
const JUDGE_YES_NO: &str = "You are an AI assistant who will help me to match an answer with two options of a question. The options are only Yes / No. You are provided with a question and an answer, and you need to find which option (Yes / No) is most similar to the answer. If the meaning of all options are significantly different from the answer, output Unknown. Your should output a single word among the following 3 choices: Yes, No, Unknown.\nExample 1: \nQuestion: Is the word in this image 'Hello'?\nAnswer: The word in this image is 'Hello'.\nYour output: Yes\nExample 2: \nQuestion: Is the word in this image 'Hello'?\nAnswer: The word in this image is not 'Hello'.\nYour output: No\nExample 3: \n";

/// Writes a row's prompt under MMaDA's protocol, without and with reasoning, wrapped, and under VLMEvalKit's default.
///
/// # Errors
/// An error if a field is missing.
pub fn prompt(case: &Case<'_>) -> Result<Value, ScoreError> {
    let dataset = case.text(&["dataset"])?;
    let row = case.object(&["row"])?;
    let question = row
        .get("question")
        .and_then(Value::as_str)
        .ok_or_else(|| ScoreError::Missing("row.question".to_owned()))?;
    let (mmada, with_thought, kit) = match QuestionKind::of(dataset) {
        QuestionKind::YesOrNo if dataset.contains("MME") => {
            let asked = format!("{question} {SHORT}");
            (asked.clone(), asked, question.to_owned())
        }
        QuestionKind::YesOrNo => (question.to_owned(), question.to_owned(), question.to_owned()),
        QuestionKind::Open => {
            let asked = format!("{question}\n{SHORT}");
            (asked.clone(), asked.clone(), asked)
        }
        QuestionKind::Choice => {
            let asked = choice(row, question);
            let bare = asked.replace(LETTER, "");
            let thought = format!("{}\n{THINK}", python::strip(&bare));
            (asked, thought, kit_choice(row, question))
        }
    };
    Ok(json!({
        "mmada_with_cot": with_thought,
        "mmada_wrapped": format!("<|start_header_id|>user<|end_header_id|>\n{mmada}<eot_id><|start_header_id|>assistant<|end_header_id|>\n"),
        "mmada": mmada,
        "vlmevalkit_default": kit,
    }))
}

/// The kind of a data set's questions.
enum QuestionKind {
    YesOrNo,
    Choice,
    Open,
}

impl QuestionKind {
    fn of(dataset: &str) -> Self {
        let is_in = |names: &[&str]| names.iter().any(|name| dataset.contains(name));
        if is_in(&["MMMU", "MMBench", "SEEDBench"]) {
            Self::Choice
        } else if is_in(&["MME", "POPE"]) {
            Self::YesOrNo
        } else {
            Self::Open
        }
    }
}

fn hint(row: &Map<String, Value>) -> Option<&str> {
    row.get("hint")
        .and_then(Value::as_str)
        .filter(|hint| *hint != "__nan__")
}

fn is_chinese(text: &str) -> bool {
    text.chars().any(|c| ('\u{4e00}'..='\u{9fff}').contains(&c))
}

fn choice(row: &Map<String, Value>, question: &str) -> String {
    let options = options(row);
    let mut asked = hint(row).map_or_else(String::new, |hint| format!("{hint}\n"));
    asked.push_str(question);
    for (letter, text) in &options {
        asked.push_str(&format!("\n{letter}. {text}"));
    }
    let request = match (options.is_empty(), is_chinese(&asked)) {
        (false, false) => LETTER,
        (false, true) => LETTER_CHINESE,
        (true, false) => "Answer the question directly.",
        (true, true) => "请直接回答问题。",
    };
    format!("{asked}\n{request}")
}

fn kit_choice(row: &Map<String, Value>, question: &str) -> String {
    let options = options(row);
    let mut asked = hint(row).map_or_else(String::new, |hint| format!("Hint: {hint}\n"));
    asked.push_str(&format!("Question: {question}\n"));
    if !options.is_empty() {
        let lines: String = options
            .iter()
            .map(|(letter, text)| format!("{letter}. {text}\n"))
            .collect();
        asked.push_str(&format!(
            "Options:\n{lines}Please select the correct answer from the options above. \n"
        ));
    }
    asked
}

/// Writes the judge's prompt for options.
///
/// # Errors
/// An error if a field is missing.
pub fn judge_choice(case: &Case<'_>) -> Result<Value, ScoreError> {
    let question = case.text(&["question"])?;
    let reply = case.text(&["prediction"])?;
    let lines: String = options(case.object(&["choices"])?)
        .iter()
        .map(|(letter, text)| format!("{letter}. {text}\n"))
        .collect();
    let listed = format!("There are several options: \n{lines}");
    let prompt = if is_chinese(question) {
        format!("{JUDGE_CHINESE}问题: {question}?\n选项: {listed}\n答案: {reply}\n输出: ")
    } else {
        format!("{JUDGE}Question: {question}?\nOptions: {listed}\nAnswer: {reply}\nYour output: ")
    };
    Ok(json!({ "vlmevalkit": prompt }))
}

/// Writes the judge's prompt for yes and no.
///
/// # Errors
/// An error if a field is missing.
pub fn judge_yes_or_no(case: &Case<'_>) -> Result<Value, ScoreError> {
    let (question, reply) = (case.text(&["question"])?, case.text(&["prediction"])?);
    Ok(
        json!({ "vlmevalkit": format!("{JUDGE_YES_NO}Question: {question}?\nAnswer: {reply}\nYour output: ") }),
    )
}
