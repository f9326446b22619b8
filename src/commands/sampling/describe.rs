//! `demask describe`: describes a picture, or every picture of a list.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use demask_actors::home::Home;
use demask_actors::inference::complete::CompletionRequest;
use demask_actors::inference::typed_prompt::plain_example;
use demask_api::Task;
use demask_datasets::example::{Example, Kind, Mode};
use demask_datasets::pictures::file::decode;
use demask_datasets::pictures::fit::fit as fit_picture;

use super::prompts::{self, PictureRow};
use crate::args::Describe;
use crate::model::engine::runtime;
use crate::model::session::Session;
use crate::terminal::print;

/// Prompt for a published model if no question is asked.
const DESCRIBE: &str = "Please describe this image in detail.";
/// Pictures per request. Their results are printed before the next request.
const TOGETHER: usize = 32;

/// Runs `demask describe`.
///
/// # Errors
/// An error if a picture cannot be decoded, or if the list cannot be read; any error of [`Session::open`] or
/// [`Session::complete`].
pub fn describe(home: &Home, options: Describe) -> anyhow::Result<ExitCode> {
    let mode = if options.think { Mode::Think } else { Mode::Direct };
    let rows = match (&options.file, &options.picture) {
        (Some(file), _) => prompts::listed_pictures(file)?,
        (None, picture) => vec![PictureRow {
            image: picture.clone().context("give a picture")?,
            question: options.question.clone(),
        }],
    };
    // An unreadable picture is reported before the model is loaded.
    if let [alone] = rows.as_slice() {
        decode(&alone.image).map_err(anyhow::Error::msg)?;
    }
    let asked = |(row, sample): (usize, usize)| (&rows[row], options.seed.wrapping_add(sample as u64));
    let one = options.file.is_none();
    runtime()?.block_on(async {
        let session = Session::open_seeing(home, &options.model, Task::Understand).await?;
        for batch in prompts::batches(rows.len(), options.samples, TOGETHER) {
            let batch: Vec<(&PictureRow, u64)> = batch.into_iter().map(asked).collect();
            let request = |&(row, seed): &(&PictureRow, u64)| {
                Ok(CompletionRequest {
                    example: example(&session, &options, row)?,
                    mode,
                    seed,
                    watch: None,
                })
            };
            let wanted = batch.iter().map(request).collect::<anyhow::Result<Vec<_>>>()?;
            let made = session
                .inference
                .complete(&session.engine, &wanted, &session.samplers, None)
                .await?;
            for ((&(row, seed), wanted), made) in batch.iter().zip(&wanted).zip(made) {
                let answer = &made.completion.text;
                match (options.output.json, one) {
                    (true, true) => tell_one(&row.image, &wanted.example.prompt, answer)?,
                    (true, false) => println!(
                        "{}",
                        serde_json::json!({
                            "file": row.image, "question": wanted.example.prompt, "answer": answer, "seed": seed,
                        })
                    ),
                    (false, true) => print::written(answer),
                    (false, false) => print::say(&format!("{}: {answer}", row.image.display())),
                }
            }
        }
        anyhow::Ok(())
    })?;
    Ok(ExitCode::SUCCESS)
}

fn tell_one(file: &Path, question: &str, answer: &str) -> anyhow::Result<()> {
    print::json(&serde_json::json!({ "file": file, "question": question, "answer": answer }))
}

/// Makes an example of the resized picture and the question, or the default prompt.
fn example(session: &Session, options: &Describe, row: &PictureRow) -> anyhow::Result<Example> {
    let image = decode(&row.image).map_err(anyhow::Error::msg)?;
    let question = row.question.as_ref().or(options.question.as_ref());
    let (kind, prompt) = match (question, session.is_published_family) {
        (Some(question), _) => (Kind::Question, question.clone()),
        (None, true) => (Kind::Caption, DESCRIBE.to_owned()),
        (None, false) => (Kind::Caption, "describe the table".to_owned()),
    };
    // A picture enlarged by whole pixels stays sharp for a model of small pictures.
    let picture = fit_picture(&image, session.size()?, options.fit, !session.is_published_family);
    Ok(plain_example(kind, &prompt, Some(picture)))
}
