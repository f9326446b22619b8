//! `demask describe`: a picture read.

use std::process::ExitCode;

use demask_actors::home::Home;
use demask_actors::inference::typed_prompt::plain_example;
use demask_api::Task;
use demask_datasets::example::{Kind, Mode};
use demask_datasets::pictures::file::decode;
use demask_datasets::pictures::fit::fit as fit_picture;

use crate::args::Describe;
use crate::model::engine::runtime;
use crate::model::session::Session;
use crate::terminal::print;

/// What a published model is asked about a picture when nobody asks anything.
const DESCRIBE: &str = "Please describe this image in detail.";

/// `demask describe`.
///
/// # Errors
/// A picture that does not decode; as [`Session::open`] and [`Session::complete`].
pub fn describe(home: &Home, options: Describe) -> anyhow::Result<ExitCode> {
    let image = decode(&options.file).map_err(anyhow::Error::msg)?;
    let mode = if options.think { Mode::Think } else { Mode::Direct };
    let (prompt, made) = runtime()?.block_on(async {
        let session = Session::open_seeing(home, &options.model, Task::Understand).await?;
        let (kind, prompt) = match (&options.question, session.is_published_family) {
            (Some(question), _) => (Kind::Question, question.clone()),
            (None, true) => (Kind::Caption, DESCRIBE.to_owned()),
            (None, false) => (Kind::Caption, "describe the table".to_owned()),
        };
        // One of whole pixels stays sharp for a model of few of them.
        let picture = fit_picture(&image, session.size()?, options.fit, !session.is_published_family);
        let example = plain_example(kind, &prompt, Some(picture));
        let made = session
            .complete(example, mode, options.seed, &session.samplers, None)
            .await?;
        anyhow::Ok((prompt, made))
    })?;
    if options.output.json {
        print::json(
            &serde_json::json!({ "file": options.file, "question": prompt, "answer": made.completion.text }),
        )?;
    } else {
        print::written(&made.completion.text);
    }
    Ok(ExitCode::SUCCESS)
}
