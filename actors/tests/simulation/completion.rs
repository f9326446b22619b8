//! What the simulated engine writes where it is asked for a sample.

use demask_api::{Sample, SampleRequest};
use demask_datasets::example::{Example, Mode};

use crate::ground::Ground;

/// Answers a request: the sum of two numbers in its text, right or wrong depending on the seed, or 0 for any
/// other text.
pub fn filled(ground: &Ground, request: &SampleRequest, key: [u16; 4]) -> Sample {
    let builder = ground.inference.builder();
    let asked = &request.ids[request.left_pad..request.target.start];
    let text = builder.tokenizer().decode(asked).unwrap_or_default();
    let numbers: Vec<u64> = text
        .split(|letter: char| !letter.is_ascii_digit())
        .filter_map(|digits| digits.parse().ok())
        .collect();
    let (reasoning, result) = match numbers[..] {
        [first, second] => {
            let sum = first + second + u64::from(request.seed.is_multiple_of(3));
            (format!("{first} + {second} = {sum}."), sum.to_string())
        }
        _ => ("0 + 0 = 0.".to_owned(), "0".to_owned()),
    };
    let example = problem(&reasoning, &result);
    let modes = [Mode::Think, Mode::Direct].into_iter();
    let written = modes
        .filter_map(|mode| builder.train(&example, mode, &[], false).ok())
        .find(|written| written.answer_len() == request.target.len());
    let mut ids = request.ids.clone();
    if let Some(written) = written {
        let span = written.answer[0];
        ids[request.target.start..request.target.end].copy_from_slice(&written.ids[span.start..span.end]);
    }
    let length = request.target.len();
    let mut commit_step = vec![0; length];
    commit_step.iter_mut().zip(key).for_each(|(to, from)| *to = from);
    Sample {
        id: request.id,
        ids,
        commit_step,
        confidence: vec![0.5; length],
        forwards: 1,
        picture: None,
    }
}

/// Returns a word problem with this reasoning and result.
fn problem(reasoning: &str, result: &str) -> Example {
    let fields = serde_json::json!({
        "id": "", "source": "", "licence": "", "split": "train", "kind": "word_problem", "category": "",
        "prompt": "?", "picture": null, "reasoning": reasoning, "answer": result, "check": { "check": "none" },
    });
    serde_json::from_value(fields).unwrap()
}
