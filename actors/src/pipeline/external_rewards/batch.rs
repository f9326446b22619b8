//! The request to an external reward: a batch of completions as one JSON object. It is a line on standard input, or the
//! body of a POST.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use demask_api::sequence::Task;
use demask_datasets::example::{Mode, Turn};
use demask_datasets::pictures::file::png;
use demask_rewards::verifiers::thought;
use demask_storage::Blobs;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::pipeline::judgement::JudgementItem;
use crate::profile::{ExternalReward, PictureForm};

/// A batch of completions.
#[derive(Debug, Serialize)]
struct RewardBatch<'a> {
    /// Name of the reward; one program may serve several.
    reward: &'a str,
    run: &'a str,
    /// Number of the batch, which an answer may repeat.
    batch: u64,
    items: Vec<BatchItem<'a>>,
}

/// One completion of a batch.
#[derive(Debug, Serialize)]
struct BatchItem<'a> {
    id: &'a str,
    task: Task,
    mode: Mode,
    prompt: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    turns: &'a [Turn],
    /// The right answer in words; empty where none is known.
    reference: String,
    /// The text of the model, including its reasoning.
    completion: &'a str,
    /// The text after the reasoning.
    answer: &'a str,
    tokens: usize,
    /// The drawing, or the picture that was asked about.
    #[serde(skip_serializing_if = "Option::is_none")]
    picture: Option<String>,
    source: &'a str,
    place: &'a str,
    category: &'a str,
    columns: Cow<'a, Map<String, Value>>,
}

/// Returns the batch as one line of JSON, without a line end.
///
/// # Errors
/// A message if a picture cannot be written.
pub(super) fn line(
    reward: &ExternalReward,
    (run, number): (&str, u64),
    items: &[&JudgementItem],
    blobs: &Blobs,
) -> Result<Vec<u8>, String> {
    let batch = RewardBatch {
        reward: &reward.name,
        run,
        batch: number,
        items: items
            .iter()
            .map(|item| told(item, reward.picture, blobs))
            .collect::<Result<_, _>>()?,
    };
    serde_json::to_vec(&batch).map_err(|error| error.to_string())
}

fn told<'a>(item: &'a JudgementItem, form: PictureForm, blobs: &Blobs) -> Result<BatchItem<'a>, String> {
    let (example, completion) = (&item.example, &item.completion);
    let shown = example.picture.as_ref().filter(|_| !example.kind.draws());
    let picture = completion.picture.as_ref().or(shown);
    let written = |picture| match form {
        PictureForm::Base64 => Ok(STANDARD.encode(png(picture))),
        PictureForm::Path => blobs
            .put(&png(picture))
            .map(|hash| blobs.path(&hash).to_string_lossy().into_owned())
            .map_err(|error| error.to_string()),
    };
    Ok(BatchItem {
        id: &item.id,
        task: example.task(item.mode),
        mode: item.mode,
        prompt: &example.prompt,
        turns: &example.turns,
        reference: example.reference(),
        completion: &completion.text,
        answer: thought::split(&completion.text).result,
        tokens: completion.tokens,
        picture: picture.map(written).transpose()?,
        source: &example.source,
        place: &example.place,
        category: &example.category,
        columns: Cow::Borrowed(&example.columns),
    })
}
