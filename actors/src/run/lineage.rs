//! The lineage rows of law L5: before a batch is trained, every sequence in it is recorded with its source, generator,
//! verifier and score. The rows are handed to the recorder without waiting for the disk; only checkpoints wait for it.

use demask_api::sequence::Task;
use demask_datasets::example::Example;
use demask_storage::{Gate, GateVerdict, Modality, Record, TrainUse};

use crate::pipeline::curation::kept_pictures::KeptPictures;
use crate::pipeline::curation::mixture::REASONER;
use crate::pipeline::curation::training_example::{TrainingExample, location};
use crate::pipeline::run_error::RunError;
use crate::profile::Source;
use crate::run::context::RunContext;

/// Records examples that something is generated from or trained on.
///
/// # Errors
/// An error if a picture cannot be stored, or if the recorder has ended.
pub async fn known(
    context: &RunContext,
    pictures: &KeptPictures,
    examples: impl IntoIterator<Item = &TrainingExample>,
) -> Result<(), RunError> {
    for picked in examples {
        let example = demask_storage::ExampleRecord {
            picture: pictures.keep(&picked.example).await?,
            ..row(context, picked)
        };
        context.recorder.record(Record::Example(example)).await?;
    }
    Ok(())
}

/// Records what a step trains on. An accepted trace is recorded under the id of its proposal.
///
/// # Errors
/// An error if an example lacks its id, generator or verifier; any error of [`known`].
pub async fn used(
    context: &RunContext,
    pictures: &KeptPictures,
    step: u64,
    stage: &str,
    used: &[TrainingExample],
) -> Result<(), RunError> {
    for picked in used {
        if picked.example.id.is_empty() || picked.generator.is_empty() || picked.verifier.is_empty() {
            return Err(RunError::Failed(format!(
                "L5: an example of {} has no record of its origin",
                picked.example.source
            )));
        }
    }
    known(
        context,
        pictures,
        used.iter().filter(|picked| picked.trace.is_none()),
    )
    .await?;
    let subject = |picked: &TrainingExample| picked.trace.clone().unwrap_or(picked.example.id.clone());
    let used = TrainUse {
        run: context.run.clone(),
        step,
        stage: stage.to_owned(),
        subjects: used.iter().map(subject).collect(),
    };
    Ok(context.recorder.record(Record::TrainUse(used)).await?)
}

fn row(context: &RunContext, picked: &TrainingExample) -> demask_storage::ExampleRecord {
    let example = &picked.example;
    demask_storage::ExampleRecord {
        id: example.id.clone(),
        run: context.run.clone(),
        source: example.source.clone(),
        split: example.split.name().to_owned(),
        modality: modality(example.task(picked.mode)),
        generator: picked.generator.clone(),
        verifier: picked.verifier.clone(),
        score: picked.score,
        text: format!("{} ⇒ {}", example.prompt, example.completion(picked.mode)),
        picture: None,
        licence: example.licence.clone(),
        place: example.place.clone(),
    }
}

/// Returns the modality under which rows record a task.
#[must_use]
pub const fn modality(task: Task) -> Modality {
    match task {
        Task::TextToImage => Modality::Draw,
        Task::Text => Modality::Text,
        Task::Understand => Modality::Ask,
        Task::ThinkThenDraw => Modality::ThinkDraw,
    }
}

/// Records that a stage cannot use an example, and why. An example of a file or an accepted trace is in the funnel
/// already, where it passed because another stage or mode can use it, so its row adds nothing to the numbers there.
///
/// # Errors
/// An error if the recorder has ended.
pub async fn rejected(
    context: &RunContext,
    stage: &str,
    example: &Example,
    reason: &str,
) -> Result<(), RunError> {
    let reads = |source: &Source| source.name == example.source && source.kind.reads();
    let is_counted = example.source == REASONER || context.profile.sources.iter().any(reads);
    let (subject, reason) = match is_counted {
        true => (
            format!("{} in stage {stage}", location(example)),
            format!("not used in stage {stage}: {reason}"),
        ),
        false => (location(example), reason.to_owned()),
    };
    let verdict = GateVerdict {
        subject,
        run: context.run.clone(),
        round: 0,
        gate: Gate::Parse,
        passed: false,
        reason,
        source: example.source.clone(),
        count: u64::from(!is_counted),
    };
    Ok(context.recorder.record(Record::Verdict(verdict)).await?)
}
