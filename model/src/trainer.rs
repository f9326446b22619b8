//! One optimiser step on micro-batches of sequences.

use std::collections::BTreeMap;
use std::time::Instant;

use demask_api::{Sequence, StepSettings, Task, TrainReport};

use crate::backbone::Backbone;
use crate::error::{ModelError, Result};
use crate::loss::{LossRow, backward_chunks, gather, position_weight};
use crate::noise::{Noised, noise};
use crate::optimizer::AdamW;

/// The order of `StepSettings::task_weights`.
const TASKS: [Task; 4] = [
    Task::TextToImage,
    Task::Text,
    Task::Understand,
    Task::ThinkThenDraw,
];

/// Trains one step. The noise is a function of `settings.seed` and the row's number over all micro-batches.
///
/// # Errors
/// An empty batch, a token outside the vocabulary, a sequence too long; libtorch's.
pub fn train(
    backbone: &mut Backbone,
    optimizer: &mut AdamW,
    micro_batches: &[Vec<Sequence>],
    settings: &StepSettings,
) -> Result<TrainReport> {
    let started = Instant::now();
    let rows: usize = micro_batches.iter().map(Vec::len).sum();
    if rows == 0 {
        return Err(ModelError::Refused("a training step without a sequence".into()));
    }
    let mut tally = Tally::default();
    let mut first_row = 0;
    for sequences in micro_batches {
        check(backbone, sequences)?;
        let share = 1.0 / micro_batches.len() as f64;
        micro_batch(backbone, sequences, settings, first_row, rows, share, &mut tally)?;
        optimizer.accumulate(backbone.parameters_mut())?;
        first_row += sequences.len();
    }
    let stepped = optimizer.step(
        backbone.parameters(),
        &settings.adam,
        settings.learning_rate,
        settings.clip_norm,
        settings.ema,
    )?;
    Ok(TrainReport {
        step: optimizer.step_count(),
        loss: tally.loss,
        task_losses: tally
            .tasks
            .into_iter()
            .map(|(task, (sum, count))| (task, sum / count))
            .collect(),
        grad_norm: stepped.grad_norm,
        tokens: tally.tokens,
        masked: tally.masked,
        seconds: started.elapsed().as_secs_f64(),
        finite: stepped.finite && tally.loss.is_finite(),
    })
}

#[derive(Default)]
struct Tally {
    loss: f64,
    tasks: BTreeMap<Task, (f64, f64)>,
    tokens: u64,
    masked: u64,
}

fn micro_batch(
    backbone: &Backbone,
    sequences: &[Sequence],
    settings: &StepSettings,
    first_row: usize,
    rows: usize,
    share: f64,
    tally: &mut Tally,
) -> Result<()> {
    let mask_token = backbone.config().mask_token_id;
    let noised: Vec<Noised> = sequences
        .iter()
        .enumerate()
        .map(|(number, sequence)| noise(sequence, mask_token, settings.seed, first_row + number, rows))
        .collect();
    for (task, weight) in TASKS.into_iter().zip(settings.task_weights) {
        let of_task = || {
            sequences
                .iter()
                .zip(&noised)
                .filter(move |(sequence, _)| sequence.task == task)
        };
        let count = of_task().count();
        if count == 0 {
            continue;
        }
        let masked: usize = of_task().map(|(_, noised)| noised.positions.len()).sum();
        tally.masked += masked as u64;
        tally.tokens += of_task()
            .map(|(sequence, _)| (sequence.ids.len() - sequence.left_pad) as u64)
            .sum::<u64>();
        let mut by_length: BTreeMap<usize, Vec<LossRow>> = BTreeMap::new();
        for (sequence, noised) in of_task() {
            let at = position_weight(task, count, masked, noised.p, sequence.answer_len());
            #[allow(clippy::cast_possible_truncation)]
            let at = (at * weight * share) as f32;
            let targets = noised
                .positions
                .iter()
                .map(|&position| (position, sequence.ids[position], at))
                .collect();
            let row = LossRow {
                ids: noised.ids.clone(),
                left_pad: sequence.left_pad,
                targets,
            };
            by_length.entry(sequence.ids.len()).or_default().push(row);
        }
        let mut loss = 0.0;
        for rows in by_length.values() {
            let gathered = gather(backbone, rows)?;
            loss += backward_chunks(backbone, &gathered, |log_probs, at, length| {
                Ok(log_probs
                    .f_mul(&gathered.weights_N.f_narrow(0, at, length)?)?
                    .f_sum(tch::Kind::Float)?
                    .f_neg()?)
            })?;
        }
        tally.loss += loss;
        let entry = tally.tasks.entry(task).or_insert((0.0, 0.0));
        if weight != 0.0 {
            entry.0 += loss / (weight * share);
        }
        entry.1 += 1.0;
    }
    Ok(())
}

/// Refuses tokens outside the vocabulary before libtorch meets them.
fn check(backbone: &Backbone, sequences: &[Sequence]) -> Result<()> {
    let rows = backbone.config().rows();
    for sequence in sequences {
        if let Some(id) = sequence.ids.iter().find(|&&id| id as usize >= rows) {
            let message = format!("sequence {}: token {id}, the vocabulary has {rows}", sequence.id);
            return Err(ModelError::Refused(message));
        }
        if let Some(span) = sequence.answer.iter().find(|span| span.end > sequence.ids.len()) {
            let message = format!(
                "sequence {}: an answer up to {}, but {} tokens",
                sequence.id,
                span.end,
                sequence.ids.len()
            );
            return Err(ModelError::Refused(message));
        }
    }
    Ok(())
}
