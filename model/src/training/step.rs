//! A training step: one optimizer step on micro-batches of sequences. Legend: N masked positions.

#![allow(non_snake_case)]

use std::collections::BTreeMap;
use std::time::Instant;

use tch::{Kind, Tensor};

use demask_api::{LossNormalization, Sequence, StepSettings, Task, TrainReport};

use crate::device::cuda;
use crate::device::transfer::{self, Arrived, Packet};
use crate::error::{ModelError, Result};
use crate::network::backbone::Backbone;
use crate::network::room::FORWARD_TOKENS;
use crate::training::interlude::{Interlude, Pause, Uninterrupted};
use crate::training::loss::{Gathered, LossRow, alike, answer_divisor, descend, position_weight};
use crate::training::mask_sampling::{Noised, noise};
use crate::training::optimizer::AdamW;
use crate::training::ranks::Share;
use crate::training::{gradients, sweep, threads, validation};

/// The tasks in the order of `StepSettings::task_weights`.
const TASKS: [Task; 4] = [
    Task::TextToImage,
    Task::Text,
    Task::Understand,
    Task::ThinkThenDraw,
];

/// Trains one step.
///
/// The noise is a function of `settings.seed` and the index of a row over all micro-batches. If the step
/// fails, or its loss or gradient is not finite, the weights and the optimizer stay as they were and no
/// gradient is left.
///
/// # Errors
/// [`ModelError::Refused`] if the batch is empty or [`validation`] refuses a sequence or a setting, or any
/// error libtorch reports.
pub fn train(
    backbone: &mut Backbone,
    optimizer: &mut AdamW,
    micro_batches: &[Vec<Sequence>],
    settings: &StepSettings,
) -> Result<TrainReport> {
    train_with(backbone, optimizer, micro_batches, settings, &mut Uninterrupted)
}

/// Trains one step as [`train`] does, and lets an interlude run between two micro-batches.
///
/// # Errors
/// The errors of [`train`] and of the interlude.
pub fn train_with(
    backbone: &mut Backbone,
    optimizer: &mut AdamW,
    micro_batches: &[Vec<Sequence>],
    settings: &StepSettings,
    interlude: &mut dyn Interlude,
) -> Result<TrainReport> {
    if micro_batches.iter().all(Vec::is_empty) {
        return Err(ModelError::Refused(
            "a training step needs at least one sequence".into(),
        ));
    }
    backbone.trained().trainable()?;
    validation::settings(settings)?;
    for sequence in micro_batches.iter().flatten() {
        validation::sequence(backbone.config(), sequence)?;
    }
    let lengths = micro_batches
        .iter()
        .flatten()
        .map(|one| one.ids.len() - one.left_pad);
    let longest = lengths.max().unwrap_or(0);
    let real = |one: &Sequence| one.ids.len() - one.left_pad;
    let batches = micro_batches.iter().map(|rows| rows.iter().map(real).sum());
    // Memory is planned for the largest micro-batch, but for no more tokens than are computed at one time.
    let most = FORWARD_TOKENS * threads::at_once(backbone);
    let tokens = batches.max().unwrap_or(0).min(most);
    backbone.work_room_out(optimizer.aside(&settings.adam), tokens, settings.recompute);
    let (began, share) = (Instant::now(), optimizer.share().cloned());
    share.iter().for_each(Share::begin_report);
    let mut report = retried(backbone, longest, |backbone| {
        backbone.set_dropout(Some(settings.seed));
        let report = step(backbone, optimizer, (micro_batches, settings), interlude);
        backbone.set_dropout(None);
        if report.is_err() {
            // A failed step may be repeated, so its partial gradients must not remain.
            optimizer.discard(backbone.trained_mut())?;
        }
        report
    })?;
    if let Some(share) = share {
        report.ranks = share.reports(began.elapsed().as_secs_f64())?;
    }
    Ok(report)
}

/// Runs a step deterministically (law L8) and repeats it where that can help. The step must leave everything
/// unchanged if it fails.
///
/// A step that runs out of memory is repeated with half as many tokens at a time, down to one row of
/// `longest` tokens. A step that needs an operator without a deterministic implementation is repeated without
/// determinism, which then stays off.
///
/// # Errors
/// The errors of the step.
pub(crate) fn retried<T>(
    backbone: &mut Backbone,
    longest: usize,
    mut step: impl FnMut(&mut Backbone) -> Result<T>,
) -> Result<T> {
    loop {
        let done = cuda::strictly(|| step(backbone));
        let Err(error) = &done else { return done };
        if error.is_out_of_memory() && backbone.room().halve(longest) {
            cuda::release(backbone.device());
            let most = backbone.room().forward_tokens();
            tracing::warn!("{error}; the step is repeated with {most} tokens at a time");
        } else if error.lacks_determinism() {
            tracing::warn!(
                "{error}; the step is repeated, and from now on results may differ in bits from run to run"
            );
            cuda::set_deterministic(false)?;
        } else {
            return done;
        }
    }
}

fn step(
    backbone: &mut Backbone,
    optimizer: &mut AdamW,
    (micro_batches, settings): (&[Vec<Sequence>], &StepSettings),
    interlude: &mut dyn Interlude,
) -> Result<TrainReport> {
    // The weights change after the last micro-batch only, so an interlude can use the backbone as it is.
    let mut pause = |backbone: &Backbone| match interlude.is_wanted() {
        true => interlude.take(backbone),
        false => Ok(()),
    };
    let started = Instant::now();
    let rows: usize = micro_batches.iter().map(Vec::len).sum();
    let (mut descended, mut first_row) = (Vec::new(), 0);
    for sequences in micro_batches {
        let share = 1.0 / micro_batches.len() as f64;
        let batch = MicroBatch {
            sequences,
            first_row,
            rows,
            share,
        };
        descended.push(batch.train(backbone, optimizer, settings, &mut pause)?);
        first_row += sequences.len();
    }
    let read = read(&descended, optimizer);
    let (tally, grad_norm) = match optimizer.share() {
        Some(share) => share.agree(read)?,
        None => read?,
    };
    let figures = (tally.loss, grad_norm);
    let stepped = optimizer.step_on(figures, backbone.trained_mut(), settings, settings.ema)?;
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
        finite: stepped.finite,
        ranks: Vec::new(),
    })
}

/// Reads the losses of all micro-batches and the norm of the gradient from the device in one transfer.
fn read(descended: &[Descended], optimizer: &AdamW) -> Result<(StepTally, f64)> {
    let mut figures: Vec<Tensor> = descended
        .iter()
        .flat_map(|one| one.losses.iter().map(Tensor::shallow_clone))
        .collect();
    figures.push(optimizer.norm()?);
    let figures = transfer::read(&Tensor::f_cat(&figures, 0)?)?;
    let (mut tally, mut at) = (StepTally::default(), 0);
    for one in descended {
        let end = at + one.losses.len() * TASKS.len();
        let parts: Vec<&[f64]> = figures[at..end].chunks_exact(TASKS.len()).collect();
        at = end;
        for (number, (own, task)) in one.shares.iter().zip(TASKS).enumerate() {
            if own.rows > 0 {
                let loss = parts.iter().map(|part| part[number]).sum();
                tally.add(task, own, loss, one.share);
            }
        }
    }
    Ok((tally, figures[at]))
}

/// A micro-batch whose gradient has been taken.
struct Descended {
    /// The share of each task, in the order of [`TASKS`].
    shares: Vec<TaskShare>,
    /// Its weight in the gradient of the step.
    share: f64,
    /// For each part of its rows, the sums of the losses of each task, on the device.
    losses: Vec<Tensor>,
}

/// The sums of a step over its micro-batches.
#[derive(Default)]
struct StepTally {
    loss: f64,
    tasks: BTreeMap<Task, (f64, f64)>,
    tokens: u64,
    masked: u64,
}

impl StepTally {
    fn add(&mut self, task: Task, own: &TaskShare, loss: f64, share: f64) {
        self.tokens += own.tokens;
        self.masked += own.masked as u64;
        self.loss += loss;
        let entry = self.tasks.entry(task).or_insert((0.0, 0.0));
        if own.weight != 0.0 {
            entry.0 += loss / (own.weight * share);
        }
        entry.1 += 1.0;
    }
}

/// A micro-batch of a step.
struct MicroBatch<'a> {
    sequences: &'a [Sequence],
    /// The index of its first row in the step.
    first_row: usize,
    /// The number of rows in the step.
    rows: usize,
    /// Its weight in the gradient of the step.
    share: f64,
}

impl MicroBatch<'_> {
    /// Adds the gradient of the micro-batch to the optimizer's accumulator.
    fn train(
        &self,
        backbone: &mut Backbone,
        optimizer: &mut AdamW,
        settings: &StepSettings,
        pause: &mut Pause<'_>,
    ) -> Result<Descended> {
        let sequences = self.sequences;
        let mask_token = backbone.config().mask_token_id;
        let noised: Vec<Noised> = sequences
            .iter()
            .enumerate()
            .map(|(number, sequence)| {
                noise(
                    sequence,
                    mask_token,
                    settings.block_noise,
                    settings.seed,
                    self.first_row + number,
                    self.rows,
                )
            })
            .collect();
        // The rows of all tasks share the passes through the backbone. The weights of the targets make the
        // sum equal to the sum of the tasks' losses.
        let shares: Vec<TaskShare> = TASKS
            .into_iter()
            .zip(settings.task_weights)
            .map(|(task, weight)| {
                TaskShare::of(task, weight, sequences, &noised).normalized(settings.loss_normalization)
            })
            .collect();
        let rows: Vec<LossRow> = sequences
            .iter()
            .zip(&noised)
            .map(|(sequence, noised)| shares[task_number(sequence.task)].row(sequence, noised, self.share))
            .collect();
        let tasks: Vec<usize> = sequences.iter().map(|one| task_number(one.task)).collect();
        let mut parts = threads::parts(backbone, &rows);
        let work = |backbone: &Backbone, part: &mut Vec<usize>, pause: &mut Pause<'_>| {
            let rows: Vec<LossRow> = part.iter().map(|&at| rows[at].clone()).collect();
            let tasks: Vec<usize> = part.iter().map(|&at| tasks[at]).collect();
            task_losses(backbone, &rows, &tasks, pause)
        };
        let losses = gradients::accumulate(backbone, optimizer, &mut parts, pause, (TASKS.len(), work))?;
        Ok(Descended {
            shares,
            share: self.share,
            losses,
        })
    }
}

/// Accumulates the gradient of the rows' weighted losses. Returns the sum for each task, [tasks] f64.
fn task_losses(
    backbone: &Backbone,
    rows: &[LossRow],
    tasks: &[usize],
    pause: &mut Pause<'_>,
) -> Result<Tensor> {
    let mut losses = Tensor::f_zeros([TASKS.len() as i64], (Kind::Double, backbone.device()))?;
    let groups = alike(rows, backbone.room().forward_tokens());
    let packed = |group: &Vec<usize>| {
        let mut packet = Packet::new();
        let of_target = group
            .iter()
            .flat_map(|&at| std::iter::repeat_n(tasks[at] as i64, rows[at].targets.len()));
        let of_target = packet.longs(of_target);
        let rows: Vec<LossRow> = group.iter().map(|&at| rows[at].clone()).collect();
        (rows, packet, of_target)
    };
    let head = |_: &Vec<usize>, (gathered, arrived): (Gathered, Arrived), of_target| {
        losses = losses.f_add(&group_losses(backbone, &gathered, &arrived.get(of_target))?)?;
        Ok(())
    };
    sweep::descend_each(backbone, &groups, packed, head, pause)?;
    Ok(losses)
}

/// Accumulates the gradient of a group's weighted loss. Returns the sum for each task, [tasks] f64.
fn group_losses(backbone: &Backbone, gathered: &Gathered, tasks_N: &Tensor) -> Result<Tensor> {
    let mut parts = Tensor::f_zeros([TASKS.len() as i64], (Kind::Double, backbone.device()))?;
    descend(backbone, gathered, |log_probs, at, length| {
        let weighted = log_probs
            .f_mul(&gathered.weights_N.f_narrow(0, at, length)?)?
            .f_neg()?;
        let own = weighted.f_detach()?.f_to_kind(Kind::Double)?;
        parts = parts.f_index_add(0, &tasks_N.f_narrow(0, at, length)?, &own)?;
        Ok(weighted.f_sum(Kind::Float)?)
    })?;
    Ok(parts)
}

/// A task's rows in a micro-batch, counted.
struct TaskShare {
    weight: f64,
    normalization: LossNormalization,
    rows: usize,
    /// The number of masked positions.
    masked: usize,
    /// The number of tokens in the answers.
    answers: usize,
    /// The number of tokens without padding.
    tokens: u64,
}

impl TaskShare {
    fn of(task: Task, weight: f64, sequences: &[Sequence], noised: &[Noised]) -> Self {
        let mut share = Self {
            weight,
            normalization: LossNormalization::default(),
            rows: 0,
            masked: 0,
            answers: 0,
            tokens: 0,
        };
        for (sequence, noised) in sequences.iter().zip(noised).filter(|(one, _)| one.task == task) {
            share.rows += 1;
            share.masked += noised.positions.len();
            share.answers += sequence.answer_len();
            share.tokens += (sequence.ids.len() - sequence.left_pad) as u64;
        }
        share
    }

    fn normalized(self, normalization: LossNormalization) -> Self {
        Self {
            normalization,
            ..self
        }
    }

    /// Builds the row of a sequence. `share` is the weight of the micro-batch in the gradient of the step.
    fn row(&self, sequence: &Sequence, noised: &Noised, share: f64) -> LossRow {
        let answers = answer_divisor(self.normalization, self.rows, sequence.answer_len(), self.answers);
        let at = position_weight(sequence.task, self.masked, noised.p, answers);
        #[allow(clippy::cast_possible_truncation)]
        let at = (at * self.weight * share) as f32;
        let target = |&position: &usize| (position, sequence.ids[position], at);
        LossRow {
            ids: noised.ids.clone(),
            left_pad: sequence.left_pad,
            targets: noised.positions.iter().map(target).collect(),
        }
    }
}

fn task_number(task: Task) -> usize {
    TASKS.iter().position(|&one| one == task).unwrap_or(0)
}
