//! Law L5: before a batch is trained, every sequence in it has named its source, its generator, its verifier and its
//! score. Rows are handed to the recorder without waiting for the disk; only checkpoints wait.

use demask_datasets::example::Example;
use demask_storage::{Record, TrainUse, Verdict};

use crate::job::Job;
use crate::picked::Picked;
use crate::run_error::RunError;

/// Records what a step trains on.
///
/// # Errors
/// An example that cannot say where it comes from; a recorder that is gone.
pub async fn used(job: &Job, step: u64, stage: &str, used: &[Picked]) -> Result<(), RunError> {
    for picked in used {
        if picked.example.id.is_empty() || picked.generator.is_empty() || picked.verifier.is_empty() {
            return Err(RunError::Failed(format!(
                "L5: an example of {} cannot say where it comes from",
                picked.example.source
            )));
        }
        job.recorder.record(Record::Example(row(job, picked))).await?;
    }
    let used = TrainUse {
        run: job.run.clone(),
        step,
        stage: stage.to_owned(),
        subjects: used.iter().map(|picked| picked.example.id.clone()).collect(),
    };
    Ok(job.recorder.record(Record::TrainUse(used)).await?)
}

fn row(job: &Job, picked: &Picked) -> demask_storage::Example {
    let example = &picked.example;
    demask_storage::Example {
        id: example.id.clone(),
        run: job.run.clone(),
        source: example.source.clone(),
        split: example.split.name().to_owned(),
        modality: example.kind.name().to_owned(),
        generator: picked.generator.clone(),
        verifier: picked.verifier.clone(),
        score: picked.score,
        text: format!("{} ⇒ {}", example.prompt, example.completion(picked.mode)),
        picture: None,
        licence: example.licence.clone(),
    }
}

/// An example as a person finds it: where it was read, and as what, for a labelled picture is several; else its id.
#[must_use]
pub fn found(example: &Example) -> String {
    if example.place.is_empty() {
        return example.id.clone();
    }
    format!("{} ({})", example.place, example.kind.name())
}

/// Records that an example was left out at a gate, and why.
///
/// # Errors
/// A recorder that is gone.
pub async fn rejected(job: &Job, example: &Example, gate: &str, reason: &str) -> Result<(), RunError> {
    let verdict = Verdict {
        subject: found(example),
        run: job.run.clone(),
        round: 0,
        gate: gate.to_owned(),
        passed: false,
        reason: reason.to_owned(),
        source: example.source.clone(),
    };
    Ok(job.recorder.record(Record::Verdict(verdict)).await?)
}
