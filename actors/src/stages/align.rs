//! UniGRPO on text, questions and pictures together: groups drawn, scored, trained on, let go.
//!
//! The reference policy is the weights at the stage's start, whatever happens between: a checkpoint of them stays on disk
//! while the stage lasts, and a life that begins in the middle reads them back (laws L1, L8).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use demask_api::sequence::Task;
use demask_api::{Answer, PolicyGroup, PolicyReport, PolicySample, Request, Sequence};
use demask_datasets::example::Mode;
use demask_rewards::combine::{Normalise, advantages};
use demask_storage::{Level, Record, RolloutSample, TrainUse};

use super::{After, StageRun, mean};
use crate::attend::aside;
use crate::checkpoints::folder;
use crate::curator::Picked;
use crate::engine::unexpected;
use crate::profile::Stage;
use crate::rollout::{Group, Roll};
use crate::run_error::RunError;
use crate::seeds::seed_of;
use crate::watch::png;
use crate::workbench::Wanted;

/// Steps between two watched samples.
const WATCH_EVERY: u64 = 4;

impl StageRun {
    pub(super) async fn align_step(&mut self, stage: &Stage, done: u64) -> Result<After, RunError> {
        self.set_reference(done).await?;
        let demand = self.demand(stage, stage.batch, true);
        let batch = self.batch(demand.clone(), false).await?;
        self.turned_away(&batch).await?;
        let picked = batch.used;
        if picked.is_empty() {
            return Ok(After::Next);
        }
        let began = Instant::now();
        let roll = Roll {
            step: self.cursor.step,
            weights: self.weights,
            bench: self.bench.clone(),
            groups: Arc::new(self.wanted(stage, &picked)),
            draws: self.draws(Some(self.temperature())),
            rewards: self.weights_of("reward", &self.job.profile.rewards),
        };
        let groups = self.crew.rollout.address.ask(roll).await??;
        let rollout_seconds = began.elapsed().as_secs_f64();
        let (policy, totals) = self.learn_from(&groups).await?;
        let mut objective = stage.objective.clone();
        objective.kl = self.job.control.value("kl").unwrap_or(objective.kl);
        let training = self.training(Request::Policy {
            groups: policy,
            estimator: stage.estimator.clone(),
            objective,
            settings: self.settings(stage, done),
        });
        self.make_ready(stage, done, demand, false);
        let report = match training.await? {
            Answer::PolicyTrained(report) => report,
            other => return Err(unexpected("policy trained", &other).into()),
        };
        // L2: used, so the next groups may be drawn.
        drop(groups);
        if !report.finite {
            return self.not_finite("policy").await;
        }
        self.weights = report.step;
        self.measure_policy(&report, &totals, rollout_seconds);
        if done.is_multiple_of(WATCH_EVERY) {
            self.watch_one(&picked, done / WATCH_EVERY).await?;
        }
        Ok(After::Next)
    }

    /// The reference is the weights at the stage's start: the present ones at its first step, else a checkpoint's.
    async fn set_reference(&mut self, done: u64) -> Result<(), RunError> {
        let start = self.cursor.step - done;
        if self.reference == Some(start) {
            return Ok(());
        }
        if done == 0 && self.last_checkpoint() != Some(start) {
            self.checkpoint("stage").await?;
        }
        let dir = folder(&self.job, start);
        let checkpoint = match done {
            0 => None,
            _ if dir.is_dir() => Some(dir),
            _ => {
                let message = format!(
                    "{} is gone; the present weights stand for the reference policy",
                    dir.display()
                );
                self.alert(Level::Warn, "reference", message).await?;
                None
            }
        };
        match self
            .job
            .engine
            .ask(Request::SetReference { checkpoint }, None)
            .await?
        {
            Answer::Done => self.reference = Some(start),
            other => return Err(unexpected("done", &other).into()),
        }
        Ok(())
    }

    fn wanted(&self, stage: &Stage, picked: &[Picked]) -> Vec<Vec<Wanted>> {
        let (seed, step) = (self.job.profile.seed, self.cursor.step);
        let one = |group: usize, number: usize, picked: &Picked| Wanted {
            example: picked.example.clone(),
            mode: if picked.example.reasoning.is_some() {
                Mode::Think
            } else {
                Mode::Direct
            },
            seed: seed_of(seed, step, 1000 + (group * stage.group + number) as u64),
            watch: None,
        };
        let groups = picked.iter().enumerate();
        groups
            .map(|(group, picked)| {
                (0..stage.group)
                    .map(|number| one(group, number, picked))
                    .collect()
            })
            .collect()
    }

    /// Groups as the engine trains on them, each sample recorded (law L5); and the totals by modality.
    async fn learn_from(
        &self,
        groups: &[Group],
    ) -> Result<(Vec<PolicyGroup>, BTreeMap<&'static str, Vec<f64>>), RunError> {
        let mut totals: BTreeMap<&'static str, Vec<f64>> = BTreeMap::new();
        let mut policy = Vec::new();
        let mut subjects = Vec::new();
        for (number, group) in groups.iter().enumerate() {
            let learned = self.learn_from_group(number, group, &mut totals).await?;
            subjects.extend(learned.samples.iter().map(|sample| sample.sequence.id.clone()));
            policy.push(learned);
        }
        let used = TrainUse {
            run: self.job.run.clone(),
            step: self.cursor.step,
            stage: self.place().0.name,
            subjects,
        };
        self.job.recorder.record(Record::TrainUse(used)).await?;
        Ok((policy, totals))
    }

    async fn learn_from_group(
        &self,
        number: usize,
        group: &Group,
        totals: &mut BTreeMap<&'static str, Vec<f64>>,
    ) -> Result<PolicyGroup, RunError> {
        let values: Vec<f64> = group.judged.iter().map(|judged| judged.scored.total()).collect();
        let relative = advantages(&values, Normalise::Deviation);
        let pictures = self.pictures(group).await?;
        let mut samples = Vec::new();
        for (at, (made, picture)) in group.made.iter().zip(pictures).enumerate() {
            let sample = self.sample_row(number, at, group, values[at], relative[at], picture);
            let id = sample.id.clone();
            self.job.recorder.record(Record::Sample(sample)).await?;
            #[allow(clippy::cast_possible_truncation)]
            let advantage = relative[at] as f32;
            samples.push(PolicySample {
                sequence: Sequence {
                    id,
                    ..made.sequence.clone()
                },
                advantage,
                commit_step: made.commit_step.clone(),
            });
        }
        if let Some(wanted) = group.wanted.first() {
            totals.entry(modality(wanted)).or_default().extend(values);
        }
        let id = format!("{}/{}/{number}", self.job.run, self.cursor.step);
        Ok(PolicyGroup { id, samples })
    }

    /// The drawn pictures of a group, kept as PNG; their blobs' hashes.
    async fn pictures(&self, group: &Group) -> Result<Vec<Option<String>>, RunError> {
        let pictures: Vec<_> = group
            .made
            .iter()
            .map(|made| made.completion.picture.clone())
            .collect();
        let blobs = self.blobs.clone();
        let kept = aside(move || {
            let keep = |picture| blobs.put(&png(&picture));
            pictures
                .into_iter()
                .map(|picture| picture.map(keep).transpose())
                .collect::<Result<Vec<_>, _>>()
        });
        Ok(kept.await??)
    }

    fn sample_row(
        &self,
        group_number: usize,
        at: usize,
        group: &Group,
        total: f64,
        advantage: f64,
        picture: Option<String>,
    ) -> RolloutSample {
        let (run, step) = (&self.job.run, self.cursor.step);
        let (wanted, judged) = (&group.wanted[at], &group.judged[at]);
        RolloutSample {
            id: format!("{run}/{step}/{group_number}/{at}"),
            run: run.clone(),
            step,
            group: group_number as u64,
            number: at as u64,
            example: wanted.example.id.clone(),
            modality: modality(wanted).to_owned(),
            weights: group.weights,
            prompt: wanted.example.prompt.clone(),
            text: judged.words.clone(),
            picture,
            parts: judged
                .scored
                .parts
                .iter()
                .map(|part| (part.name.clone(), part.value, part.weight))
                .collect(),
            total,
            advantage,
            trained: advantage != 0.0,
        }
    }

    fn measure_policy(
        &self,
        report: &PolicyReport,
        totals: &BTreeMap<&'static str, Vec<f64>>,
        rollout_seconds: f64,
    ) {
        let all: Vec<f64> = totals.values().flatten().copied().collect();
        let mut values = vec![
            ("policy/loss".to_owned(), mean(&report.losses)),
            ("policy/kl".to_owned(), mean(&report.kl)),
            ("policy/ratio".to_owned(), mean(&report.ratio)),
            ("policy/clipped".to_owned(), mean(&report.clipped)),
            ("policy/grad_norm".to_owned(), mean(&report.grad_norm)),
            ("rate/rollout_seconds".to_owned(), rollout_seconds),
            ("rate/policy_seconds".to_owned(), report.seconds),
            ("reward/total".to_owned(), mean(&all)),
        ];
        let by_modality = totals.iter();
        values.extend(by_modality.map(|(name, totals)| (format!("reward/{name}"), mean(totals))));
        self.metric(self.cursor.step, values);
    }
}

fn modality(wanted: &Wanted) -> &'static str {
    match wanted.example.task(wanted.mode) {
        Task::TextToImage => "draw",
        Task::Text => "text",
        Task::Understand => "ask",
        Task::ThinkThenDraw => "think_draw",
    }
}
