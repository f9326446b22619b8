//! Prints prompts and answers of the tabletop as tokens, a JSON line each, as input for `likelihood_spread` of
//! `demask-model`.
//!
//! `DEMASK_ENGINE=target/release/demask-engine likelihood_items [SHORTEST LONGEST COUNT]` prints the first `COUNT` test
//! items of each kind (captions, scenes, answers with reasoning, reasoning before a drawing) whose answers have
//! `SHORTEST` to `LONGEST` tokens, prompted as for the shipped model.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use demask_actors::engine::link::EngineLink;
use demask_actors::engine::options::EngineOptions;
use demask_actors::engine::process::EngineProcess;
use demask_actors::inference::checkpoint_settings;
use demask_actors::inference::complete::Inference;
use demask_api::{LoadOptions, ModelSource, Request};
use demask_datasets::example::{Example, Kind, Mode, Split};
use demask_datasets::tabletop::Tabletop;
use serde_json::{Value, json};

/// The kinds of items, and the mode in which each is answered.
const KINDS: [(Kind, Mode); 5] = [
    (Kind::Caption, Mode::Direct),
    (Kind::Scene, Mode::Direct),
    (Kind::Question, Mode::Think),
    (Kind::WordProblem, Mode::Think),
    (Kind::ThinkThenDraw, Mode::Think),
];
/// The number of items of each kind that are examined.
const LOOKED_AT: u64 = 400;

fn main() -> anyhow::Result<()> {
    let numbers: Vec<usize> = std::env::args()
        .skip(1)
        .map(|word| word.parse())
        .collect::<Result<_, _>>()?;
    let (shortest, longest, count) = match numbers.as_slice() {
        [] => (6, 9, 8),
        [shortest, longest, count] => (*shortest, *longest, *count),
        other => bail!("{} numbers: expected SHORTEST LONGEST COUNT", other.len()),
    };
    let dir = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../model/shipped/tabletop"));
    let inference = checkpoint_settings::inference(&dir)?;
    let model = ModelSource::Checkpoint {
        dir,
        resume: false,
        average: false,
        image_tokenizer: None,
        options: LoadOptions::sampling(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let engine = EngineProcess::start(&EngineOptions::default()).await?;
        engine.ask(&Request::Load { model }).await?;
        for (kind, mode) in KINDS {
            let mut left = count;
            for index in 0..LOOKED_AT {
                let example = Tabletop::new(0).example(kind, Split::Test, index);
                let item = item(&inference, &engine, &example, mode).await?;
                let length = item["answer"].as_array().context("no answer")?.len();
                if (shortest..=longest).contains(&length) && left > 0 {
                    println!("{item}");
                    left -= 1;
                }
            }
        }
        engine.stop().await;
        Ok(())
    })
}

/// Returns the tokens of the prompt and of the answer.
async fn item(
    inference: &Inference,
    link: &dyn EngineLink,
    example: &Example,
    mode: Mode,
) -> anyhow::Result<Value> {
    let shown = example
        .picture
        .as_ref()
        .filter(|_| example.kind != Kind::ThinkThenDraw);
    let pictures: Vec<_> = shown.into_iter().collect();
    let codes = inference.codes(link, &pictures).await?.pop().unwrap_or_default();
    let prompt = inference.builder().prompt(example, mode, &codes)?;
    let answer = inference
        .builder()
        .tokenizer()
        .encode(&example.completion(mode))?;
    Ok(json!({
        "kind": example.kind.name(),
        "prompt": prompt.ids[prompt.left_pad..prompt.target.start],
        "answer": answer,
    }))
}
