//! The Trainer: walks a run's stages, step by step, as a function of (profile, seed, commands).
//!
//! Step k's batch, noise and rollouts follow from the seed and k alone, commands take effect at step boundaries (law L3)
//! and are recorded with the step, and the weights are reloaded from a checkpoint after a crash: what is done again is done
//! the same, and the rows that it writes are the same rows (laws L1, L4, L8).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use demask_api::sequence::Task;
use demask_api::{
    Answer, EngineError, ModelSource, PolicyGroup, PolicySample, Request, Sequence, StepSettings, checkpoint,
};
use demask_datasets::example::{Example, Kind, Mode};
use demask_datasets::text_tokenizer::TextTokenizer;
use demask_rewards::combine::{Normalise, advantages};
use demask_rewards::judge::Judge;
use demask_rewards::suites::Suite;
use demask_rewards::trace;
use demask_storage::{
    Alert, Blobs, Checkpoint, Eval, Frame, Level, Metric, Record, RolloutSample, StageView, Trace, TrainUse,
    Verdict, journal, store,
};
use serde::{Deserialize, Serialize};

use crate::control::KnobRange;
use crate::curator::{Accepted, Curator, Picked};
use crate::daemon::{self, Job, Outcome};
use crate::engine::{EngineFailure, unexpected};
use crate::engine_host::FrameSink;
use crate::evaluator::{Trial, run_suite};
use crate::profile::{Profile, Stage, StageKind};
use crate::shipped;
use crate::workbench::{BUDGETS, Draws, Made, Wanted, WorkError, Workbench};

/// Why a run could not go on.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The engine died: start another and walk again.
    #[error(transparent)]
    Engine(#[from] EngineFailure),
    /// A request could not be made.
    #[error(transparent)]
    Work(WorkError),
    /// The store.
    #[error(transparent)]
    Store(#[from] demask_storage::StoreError),
    /// Commands that could not be taken or recorded.
    #[error(transparent)]
    Control(#[from] anyhow::Error),
    /// Anything else, in words.
    #[error("{0}")]
    Failed(String),
}

impl From<WorkError> for RunError {
    fn from(error: WorkError) -> Self {
        match error {
            WorkError::Engine(failure) => Self::Engine(failure),
            other => Self::Work(other),
        }
    }
}

impl From<crate::recorder::RecorderGone> for RunError {
    fn from(error: crate::recorder::RecorderGone) -> Self {
        Self::Failed(error.to_string())
    }
}

/// What a checkpoint says of the run: `state.json`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Cursor {
    /// Steps done.
    step: u64,
    /// Accepted traces.
    traces: Vec<Accepted>,
    /// Halvings of the learning rate after losses that were not finite.
    halvings: u32,
}

/// Walks a run through its stages.
#[derive(Clone, Copy, Debug, Default)]
pub struct StageWalker;

impl daemon::Walker for StageWalker {
    fn knobs(&self, profile: &Profile) -> Vec<KnobRange> {
        let knob = |key: String, value: f64, high: f64, help: &str| KnobRange {
            key,
            value,
            low: 0.0,
            high,
            help: help.to_owned(),
        };
        let first = profile
            .stages
            .iter()
            .map(|stage| stage.learning_rate)
            .fold(0.0, f64::max);
        let kl = profile
            .stages
            .iter()
            .map(|stage| stage.objective.kl)
            .fold(0.0, f64::max);
        let temperature = profile.sampling.rollout_temperature.unwrap_or(1.0);
        let mut knobs = vec![
            knob(
                "learning_rate".into(),
                first,
                1.0,
                "highest learning rate of the stages; their schedules keep their shape",
            ),
            knob("temperature".into(), temperature, 10.0, "temperature of rollouts"),
            knob(
                "kl".into(),
                kl,
                100.0,
                "weight of the penalty on leaving the reference policy",
            ),
        ];
        knobs.extend(profile.sources.iter().map(|source| {
            knob(
                format!("mix.{}", source.name),
                source.weight,
                1e6,
                "weight of the source in the mix",
            )
        }));
        knobs.extend(profile.rewards.iter().map(|(name, weight)| {
            knob(
                format!("reward.{name}"),
                *weight,
                100.0,
                "weight of the reward in the sum",
            )
        }));
        knobs
    }

    fn walk(&self, job: Job) -> daemon::Walk {
        Box::pin(async move { Ok(StageRun::open(job).await?.run().await?) })
    }
}

struct StageRun {
    job: Job,
    bench: Workbench,
    curator: Curator,
    judge: Judge,
    cursor: Cursor,
    blobs: Blobs,
    weights: u64,
    rate: f64,
    started: Instant,
    has_reference: bool,
}

impl StageRun {
    async fn open(job: Job) -> Result<Self, RunError> {
        let connection = store::open_read_only(&job.home.database())?;
        let kept = journal::checkpoints(&connection, &job.run)?;
        drop(connection);
        let mut curator = Curator::open(&job.profile).map_err(|error| RunError::Failed(error.to_string()))?;
        let (bench, cursor, weights) = load(&job, &curator, &kept).await?;
        curator.traces.clone_from(&cursor.traces);
        let blobs = Blobs::new(job.home.blobs());
        let (pid, device) = job.engine.who().await?;
        job.control.report(|overview| {
            overview.last_checkpoint = (cursor.step > 0).then_some(cursor.step);
            overview.devices = vec![demask_storage::DeviceView {
                name: device.name.clone(),
                compute: device.compute.clone(),
                threads: device.threads as u64,
                pid: u64::from(pid),
                memory: resident(u64::from(pid)),
                busy: 0.0,
            }];
        });
        let started = Instant::now();
        Ok(Self {
            job,
            bench,
            curator,
            judge: Judge::default(),
            cursor,
            blobs,
            weights,
            rate: 0.0,
            started,
            has_reference: false,
        })
    }

    async fn run(&mut self) -> Result<Outcome, RunError> {
        let total = self.job.profile.total_steps();
        while self.cursor.step < total {
            if let Some(outcome) = self.boundary().await? {
                return Ok(outcome);
            }
            let (stage, done) = self.place();
            let started = Instant::now();
            match self.step(&stage, done).await {
                Ok(()) => {}
                Err(RunError::Engine(EngineFailure::Engine(EngineError::Io {
                    path,
                    message,
                    full: true,
                }))) => {
                    self.wait_for_disk(&format!("{path}: {message}")).await;
                    continue;
                }
                Err(error) => return Err(error),
            }
            self.cursor.step += 1;
            let ends = done + 1 == stage.steps;
            let due = self
                .cursor
                .step
                .is_multiple_of(self.job.profile.checkpoint.every_steps);
            if due || (ends && stage.kind != StageKind::Evaluate) {
                self.checkpoint(if ends { "stage" } else { "interval" }).await?;
            }
            self.metric(vec![(
                "rate/step_seconds".into(),
                started.elapsed().as_secs_f64(),
            )]);
            self.overview("", "running");
        }
        if self.last_checkpoint() != Some(self.cursor.step) {
            self.checkpoint("stage").await?;
        }
        self.overview("", "done");
        Ok(Outcome::Done)
    }

    fn last_checkpoint(&self) -> Option<u64> {
        self.job.control.overview().last_checkpoint
    }

    /// The stage of the present step, and the steps done in it.
    fn place(&self) -> (Stage, u64) {
        let mut left = self.cursor.step;
        for stage in &self.job.profile.stages {
            if left < stage.steps {
                return (stage.clone(), left);
            }
            left -= stage.steps;
        }
        let last = self.job.profile.stages.last().cloned();
        last.map_or_else(
            || unreachable!("a profile has a stage"),
            |stage| (stage.clone(), stage.steps - 1),
        )
    }

    /// Law L3: the only place where commands take effect. Some outcome when the run shall end here.
    async fn boundary(&mut self) -> Result<Option<Outcome>, RunError> {
        loop {
            let asked = self
                .job
                .control
                .boundary(&self.job.recorder, self.cursor.step)
                .await;
            let asked = asked.map_err(anyhow::Error::from)?;
            for (id, prompt, picture) in asked.samples {
                self.sample_now(&id, &prompt, picture).await?;
            }
            if asked.stop {
                if self.last_checkpoint() != Some(self.cursor.step) {
                    self.checkpoint("stop").await?;
                }
                return Ok(Some(if self.job.control.halting() {
                    Outcome::Halted
                } else {
                    Outcome::Stopped
                }));
            }
            if asked.checkpoint {
                self.checkpoint("asked").await?;
            }
            // A held run may be asked for a sample or a checkpoint, but not for a step.
            if !self.job.control.paused() {
                return Ok(None);
            }
        }
    }

    /// The present weights of knobs named `PREFIX.NAME`.
    fn weights_of(&self, prefix: &str, given: &BTreeMap<String, f64>) -> BTreeMap<String, f64> {
        let now = |name: &String, weight: f64| {
            self.job
                .control
                .value(&format!("{prefix}.{name}"))
                .unwrap_or(weight)
        };
        given
            .iter()
            .map(|(name, &weight)| (name.clone(), now(name, weight)))
            .collect()
    }

    fn mix(&self) -> BTreeMap<String, f64> {
        let given = self
            .job
            .profile
            .sources
            .iter()
            .map(|source| (source.name.clone(), source.weight))
            .collect();
        self.weights_of("mix", &given)
    }

    async fn step(&mut self, stage: &Stage, done: u64) -> Result<(), RunError> {
        match stage.kind {
            StageKind::Tokenizer => self.tokenizer_step(stage, done).await,
            StageKind::Pretrain => self.train_step(stage, done, false).await,
            StageKind::Finetune => self.train_step(stage, done, true).await,
            StageKind::Reason => self.reason_step(stage, done).await,
            StageKind::Align => self.align_step(stage, done).await,
            StageKind::Evaluate => self.evaluate_step(stage).await,
        }
    }

    fn settings(&self, stage: &Stage, done: u64) -> StepSettings {
        let profile = &self.job.profile;
        let highest = profile
            .stages
            .iter()
            .map(|stage| stage.learning_rate)
            .fold(0.0, f64::max);
        let scale = self
            .job
            .control
            .value("learning_rate")
            .map_or(1.0, |now| now / highest.max(f64::MIN_POSITIVE));
        let rate = learning_rate(stage, done) * scale;
        StepSettings {
            learning_rate: rate * 0.5f64.powi(i32::try_from(self.cursor.halvings).unwrap_or(0)),
            clip_norm: profile.clip_norm,
            adam: profile.optimizer.clone(),
            task_weights: profile.task_weights,
            seed: seed_of(profile.seed, self.cursor.step, 1),
            ema: profile.ema,
        }
    }

    async fn tokenizer_step(&mut self, stage: &Stage, done: u64) -> Result<(), RunError> {
        let picked = self.curator.batch(
            self.cursor.step,
            2 * stage.batch,
            &self.mix(),
            &stage.sources,
            false,
        );
        let pictures = picked
            .into_iter()
            .filter_map(|picked| picked.example.picture)
            .take(stage.batch)
            .collect();
        let settings = self.settings(stage, done);
        match self
            .job
            .engine
            .ask(Request::TrainTokenizer { pictures, settings }, None)
            .await?
        {
            Answer::TokenizerTrained(report) => {
                self.metric(vec![
                    ("tokenizer/loss".into(), report.loss),
                    ("tokenizer/reconstruction".into(), report.reconstruction),
                    ("tokenizer/usage".into(), report.usage),
                ]);
                Ok(())
            }
            other => Err(unexpected("tokenizer trained", &other).into()),
        }
    }

    async fn train_step(&mut self, stage: &Stage, done: u64, thinking: bool) -> Result<(), RunError> {
        let began = Instant::now();
        let picked = self.curator.batch(
            self.cursor.step,
            stage.batch,
            &self.mix(),
            &stage.sources,
            thinking,
        );
        let asked: Vec<(Example, Mode, bool)> = picked
            .iter()
            .map(|picked| (picked.example.clone(), picked.mode, picked.drop_condition))
            .collect();
        let made = self.bench.sequences(&self.job.engine, &asked).await?;
        let (mut sequences, mut used) = (Vec::new(), Vec::new());
        for (picked, made) in picked.into_iter().zip(made) {
            match made {
                Ok(sequence) => {
                    sequences.push(sequence);
                    used.push(picked);
                }
                Err(error) => self.reject(&picked.example, "parse", &error.to_string()).await?,
            }
        }
        self.record_use(stage, &used).await?;
        let settings = self.settings(stage, done);
        let learning_rate = settings.learning_rate;
        let request = Request::Train {
            micro_batches: vec![sequences],
            settings,
        };
        let Answer::Trained(report) = self.job.engine.ask(request, None).await? else {
            return Err(RunError::Failed("the engine did not train".into()));
        };
        if !report.finite {
            return self.not_finite("loss").await;
        }
        self.weights = report.step;
        let seconds = began.elapsed().as_secs_f64();
        let tokens_per_s = report.tokens as f64 / seconds;
        self.rate = if self.rate == 0.0 {
            tokens_per_s
        } else {
            0.9 * self.rate + 0.1 * tokens_per_s
        };
        let mut values = vec![
            ("train/loss".to_owned(), report.loss),
            ("train/grad_norm".to_owned(), report.grad_norm),
            ("train/learning_rate".to_owned(), learning_rate),
            ("rate/tokens_per_s".to_owned(), tokens_per_s),
            ("rate/overhead".to_owned(), 1.0 - report.seconds / seconds),
        ];
        values.extend(
            report
                .task_losses
                .iter()
                .map(|(task, loss)| (format!("train/loss_{}", task_word(*task)), *loss)),
        );
        self.metric(values);
        if self.cursor.step.is_multiple_of(WATCH_EVERY) {
            self.watch_one(&used).await?;
        }
        Ok(())
    }

    /// One example of the batch, completed and watched, so that a person sees what the model makes of it now.
    async fn watch_one(&mut self, used: &[Picked]) -> Result<(), RunError> {
        let turn = (self.cursor.step / WATCH_EVERY) as usize;
        let kinds = [
            Kind::TextToImage,
            Kind::WordProblem,
            Kind::TextToImage,
            Kind::Question,
        ];
        let wanted_kind = kinds[turn % kinds.len()];
        let Some(picked) = used
            .iter()
            .find(|picked| picked.example.kind == wanted_kind)
            .or(used.first())
        else {
            return Ok(());
        };
        let id = format!("{}/{}/watch", self.job.run, self.cursor.step);
        self.complete_watched(&picked.example.clone(), picked.mode, &id, "rollout")
            .await
    }

    async fn complete_watched(
        &self,
        example: &Example,
        mode: Mode,
        id: &str,
        origin: &str,
    ) -> Result<(), RunError> {
        let seed = seed_of(self.job.profile.seed, self.cursor.step, 2);
        let wanted = [Wanted {
            example: example.clone(),
            mode,
            seed,
            watch: Some(1),
        }];
        let (sink, frames) = collect_frames();
        let made = self
            .bench
            .complete(&self.job.engine, &wanted, &self.draws(None), Some(sink))
            .await;
        match made {
            Ok(_) => {}
            Err(WorkError::Engine(failure @ EngineFailure::Died { .. })) => return Err(failure.into()),
            Err(error) => {
                self.alert(Level::Warn, "sample", error.to_string()).await?;
                return Ok(());
            }
        }
        let frames: Vec<demask_api::SampleFrame> = std::mem::take(&mut *lock(&frames));
        let last = frames.len() as u64;
        for (number, frame) in frames.into_iter().enumerate() {
            let is_picture = frame.picture.is_some();
            self.job.recorder.offer(Record::Frame(Frame {
                run: self.job.run.clone(),
                sample: id.to_owned(),
                origin: origin.to_owned(),
                prompt: example.prompt.clone(),
                kind: if is_picture { "picture" } else { "text" }.to_owned(),
                step: number as u64,
                steps: last,
                grid: if is_picture {
                    frame.tokens.len().isqrt() as u64
                } else {
                    0
                },
                tokens: if is_picture {
                    self.code_words(&frame.tokens)
                } else {
                    self.bench.words(&frame.tokens)
                },
                confidence: frame.confidence,
                picture: frame
                    .picture
                    .map(|picture| (picture.width as u64, picture.height as u64, hex(&picture.rgb))),
            }));
        }
        Ok(())
    }

    fn code_words(&self, tokens: &[u32]) -> Vec<String> {
        let mask = self.bench.builder().tokenizer().specials().mask;
        let codes = self.bench.builder().codes(tokens);
        let word = |(&id, code): (&u32, u32)| {
            if id == mask {
                String::new()
            } else {
                code.to_string()
            }
        };
        tokens.iter().zip(codes).map(word).collect()
    }

    async fn sample_now(&mut self, order: &str, prompt: &str, picture: bool) -> Result<(), RunError> {
        let kind = if picture {
            Kind::TextToImage
        } else {
            Kind::WordProblem
        };
        let example = plain_example(kind, prompt, None);
        let id = format!("{}/asked/{order}", self.job.run);
        self.complete_watched(&example, Mode::Think, &id, "person").await
    }

    fn draws(&self, temperature: Option<f64>) -> Draws {
        let sampling = &self.job.profile.sampling;
        let mut text = sampling.text.clone();
        if let Some(temperature) = temperature {
            text.temperature = temperature;
        }
        Draws {
            text,
            image: sampling.image.clone(),
        }
    }

    async fn evaluate_step(&mut self, stage: &Stage) -> Result<(), RunError> {
        for name in &stage.suites {
            let suite = Suite::find(name)
                .ok_or_else(|| RunError::Failed(format!("no suite {name}; see `demask eval --list`")))?;
            self.overview(&format!("benchmark {name}"), "running");
            let control = Arc::clone(&self.job.control);
            let trial = Trial {
                limit: Some(stage.limit),
                mode: Mode::Think,
                draws: self.draws(Some(0.0)),
                seed: 0,
            };
            let go_on = &mut |_, _| !control.halting();
            let result = run_suite(&self.bench, &self.job.engine, &suite, &trial, go_on).await?;
            self.metric(vec![(format!("eval/{name}"), result.value)]);
            let eval = Eval {
                run: self.job.run.clone(),
                step: self.cursor.step,
                checkpoint: format!("weights:{}", self.weights),
                suite: result.suite,
                metric: result.metric,
                value: result.value,
                low: result.low,
                high: result.high,
                n: result.n as u64,
                parts: result.parts.into_iter().collect(),
                decision: String::new(),
            };
            self.job.recorder.record(Record::Eval(eval)).await?;
        }
        Ok(())
    }

    /// One round of the self-improving loop: propose, verify, remove duplicates, keep.
    async fn reason_step(&mut self, stage: &Stage, done: u64) -> Result<(), RunError> {
        let round = done + 1;
        let problems: Vec<Example> = self
            .curator
            .batch(
                self.cursor.step,
                4 * stage.batch,
                &self.mix(),
                &stage.sources,
                false,
            )
            .into_iter()
            .map(|picked| picked.example)
            .filter(|example| example.kind == Kind::WordProblem && example.answer.is_some())
            .take(stage.batch)
            .collect();
        let wanted: Vec<Wanted> = problems
            .iter()
            .enumerate()
            .flat_map(|(number, example)| (0..stage.group).map(move |draw| (number, draw, example)))
            .map(|(number, draw, example)| Wanted {
                example: example.clone(),
                mode: Mode::Think,
                seed: seed_of(
                    self.job.profile.seed,
                    self.cursor.step,
                    1000 + (number * stage.group + draw) as u64,
                ),
                watch: None,
            })
            .collect();
        let temperature = self.temperature();
        let made = self
            .bench
            .complete(&self.job.engine, &wanted, &self.draws(Some(temperature)), None)
            .await?;
        let mut kept = 0.0;
        for (number, (wanted, made)) in wanted.iter().zip(&made).enumerate() {
            kept += f64::from(u8::from(self.curate_trace(round, number, wanted, made).await?));
        }
        self.metric(vec![
            ("reason/proposed".into(), made.len() as f64),
            ("reason/accepted".into(), kept),
            ("reason/pool".into(), self.curator.traces.len() as f64),
        ]);
        Ok(())
    }

    async fn curate_trace(
        &mut self,
        round: u64,
        number: usize,
        wanted: &Wanted,
        made: &Made,
    ) -> Result<bool, RunError> {
        let id = format!("{}/r{round}/{number}", self.job.run);
        let generator = format!("weights:{}", self.weights);
        let recorder = self.job.recorder.clone();
        let text = &made.completion.text;
        recorder
            .record(Record::Trace(Trace {
                id: id.clone(),
                run: self.job.run.clone(),
                round,
                example: wanted.example.id.clone(),
                generator: generator.clone(),
                sampler: serde_json::to_value(&self.draws(Some(self.temperature())).text).unwrap_or_default(),
                seed: wanted.seed,
                prompt: wanted.example.prompt.clone(),
                text: text.clone(),
            }))
            .await?;
        let verdict = |gate: &str, passed: bool, reason: String| {
            Record::Verdict(Verdict {
                subject: id.clone(),
                run: self.job.run.clone(),
                round,
                gate: gate.to_owned(),
                passed,
                reason,
                source: "reasoner".to_owned(),
            })
        };
        let expected = wanted.example.answer.clone().unwrap_or_default();
        if let Err(flaw) = trace::verify(text, &expected) {
            recorder
                .record(verdict("verify", false, flaw_word(&flaw).to_owned()))
                .await?;
            return Ok(false);
        }
        recorder.record(verdict("verify", true, String::new())).await?;
        let reasoning = demask_rewards::thought::split(text)
            .reasoning
            .unwrap_or_default()
            .to_owned();
        let mut example = Example {
            reasoning: Some(reasoning),
            source: "reasoner".into(),
            ..wanted.example.clone()
        }
        .with_id();
        let same = |accepted: &Accepted| accepted.example.id == example.id;
        if self.curator.traces.iter().any(same) {
            recorder
                .record(verdict(
                    "dedup",
                    false,
                    "an equal trace was accepted before".into(),
                ))
                .await?;
            return Ok(false);
        }
        recorder.record(verdict("dedup", true, String::new())).await?;
        recorder.record(verdict("accept", true, String::new())).await?;
        example.source = "reasoner".into();
        self.curator.traces.push(Accepted { example, generator });
        Ok(true)
    }

    fn temperature(&self) -> f64 {
        self.job
            .control
            .value("temperature")
            .or(self.job.profile.sampling.rollout_temperature)
            .unwrap_or(1.0)
    }

    /// One UniGRPO step on text, questions and pictures together.
    async fn align_step(&mut self, stage: &Stage, done: u64) -> Result<(), RunError> {
        if !self.has_reference {
            self.job.engine.ask(Request::SetReference, None).await?;
            self.has_reference = true;
        }
        let picked = self
            .curator
            .batch(self.cursor.step, stage.batch, &self.mix(), &stage.sources, true);
        let wanted: Vec<Wanted> = picked
            .iter()
            .enumerate()
            .flat_map(|(group, picked)| (0..stage.group).map(move |number| (group, number, picked)))
            .map(|(group, number, picked)| Wanted {
                example: picked.example.clone(),
                mode: if picked.example.reasoning.is_some() {
                    Mode::Think
                } else {
                    Mode::Direct
                },
                seed: seed_of(
                    self.job.profile.seed,
                    self.cursor.step,
                    1000 + (group * stage.group + number) as u64,
                ),
                watch: None,
            })
            .collect();
        let began = Instant::now();
        let made = self
            .bench
            .complete(
                &self.job.engine,
                &wanted,
                &self.draws(Some(self.temperature())),
                None,
            )
            .await?;
        let rollout_seconds = began.elapsed().as_secs_f64();
        let mut groups = Vec::new();
        let mut by_modality: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
        for (number, (wanted, made)) in wanted
            .chunks(stage.group)
            .zip(made.chunks(stage.group))
            .enumerate()
        {
            let (group, totals) = self.score_group(number, wanted, made).await?;
            by_modality
                .entry(modality(&wanted[0]))
                .or_default()
                .extend(totals);
            groups.push(group);
        }
        let mut objective = stage.objective.clone();
        objective.kl = self.job.control.value("kl").unwrap_or(objective.kl);
        let request = Request::Policy {
            groups,
            estimator: stage.estimator.clone(),
            objective,
            settings: self.settings(stage, done),
        };
        let Answer::PolicyTrained(report) = self.job.engine.ask(request, None).await? else {
            return Err(RunError::Failed("the engine did not train the policy".into()));
        };
        if !report.finite {
            return self.not_finite("policy").await;
        }
        self.weights = report.step;
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
        let mut values = vec![
            ("policy/loss".to_owned(), mean(&report.losses)),
            ("policy/kl".to_owned(), mean(&report.kl)),
            ("policy/ratio".to_owned(), mean(&report.ratio)),
            ("policy/clipped".to_owned(), mean(&report.clipped)),
            ("policy/grad_norm".to_owned(), mean(&report.grad_norm)),
            ("rate/rollout_seconds".to_owned(), rollout_seconds),
            ("rate/policy_seconds".to_owned(), report.seconds),
        ];
        let all: Vec<f64> = by_modality.values().flatten().copied().collect();
        values.push(("reward/total".to_owned(), mean(&all)));
        values.extend(
            by_modality
                .iter()
                .map(|(name, totals)| (format!("reward/{name}"), mean(totals))),
        );
        self.metric(values);
        if done.is_multiple_of(4) {
            self.watch_one(&picked).await?;
        }
        Ok(())
    }

    async fn score_group(
        &self,
        group: usize,
        wanted: &[Wanted],
        made: &[Made],
    ) -> Result<(PolicyGroup, Vec<f64>), RunError> {
        let run = &self.job.run;
        let scored: Vec<_> = wanted
            .iter()
            .zip(made)
            .map(|(wanted, made)| {
                let budget = self
                    .bench
                    .builder()
                    .budgets()
                    .of(wanted.example.task(wanted.mode))
                    .answer;
                self.judge.score(
                    &wanted.example,
                    wanted.mode,
                    &made.completion,
                    &self.weights_of("reward", &self.job.profile.rewards),
                    budget,
                )
            })
            .collect();
        let totals: Vec<f64> = scored
            .iter()
            .map(demask_rewards::combine::Scored::total)
            .collect();
        let relative = advantages(&totals, Normalise::Deviation);
        let mut samples = Vec::new();
        for (number, ((wanted, made), scored)) in wanted.iter().zip(made).zip(&scored).enumerate() {
            let id = format!("{run}/{}/{group}/{number}", self.cursor.step);
            let picture = match &made.completion.picture {
                Some(picture) => Some(self.blobs.put(&png(picture))?),
                None => None,
            };
            let sample = RolloutSample {
                id: id.clone(),
                run: run.clone(),
                step: self.cursor.step,
                group: group as u64,
                number: number as u64,
                example: wanted.example.id.clone(),
                modality: modality(wanted).to_owned(),
                weights: self.weights,
                prompt: wanted.example.prompt.clone(),
                text: self.judge.words(&made.completion),
                picture,
                parts: scored
                    .parts
                    .iter()
                    .map(|part| (part.name.clone(), part.value, part.weight))
                    .collect(),
                total: totals[number],
                advantage: relative[number],
                trained: relative[number] != 0.0,
            };
            self.job.recorder.record(Record::Sample(sample)).await?;
            #[allow(clippy::cast_possible_truncation)]
            let advantage = relative[number] as f32;
            let sequence = Sequence {
                id,
                ..made.sequence.clone()
            };
            samples.push(PolicySample {
                sequence,
                advantage,
                commit_step: made.commit_step.clone(),
            });
        }
        let subjects = samples.iter().map(|sample| sample.sequence.id.clone()).collect();
        let used = TrainUse {
            run: run.clone(),
            step: self.cursor.step,
            stage: format!("align/{group}"),
            subjects,
        };
        self.job.recorder.record(Record::TrainUse(used)).await?;
        Ok((
            PolicyGroup {
                id: format!("{run}/{}/{group}", self.cursor.step),
                samples,
            },
            totals,
        ))
    }

    /// Law L5: before a batch is trained, every sequence in it has named its source, generator, verifier and score.
    async fn record_use(&self, stage: &Stage, used: &[Picked]) -> Result<(), RunError> {
        for picked in used {
            if picked.example.id.is_empty() || picked.generator.is_empty() || picked.verifier.is_empty() {
                return Err(RunError::Failed(format!(
                    "L5: an example of {} cannot say where it comes from",
                    picked.example.source
                )));
            }
            let record = demask_storage::Example {
                id: picked.example.id.clone(),
                run: self.job.run.clone(),
                source: picked.example.source.clone(),
                split: picked.example.split.name().to_owned(),
                modality: picked.example.kind.name().to_owned(),
                generator: picked.generator.clone(),
                verifier: picked.verifier.clone(),
                score: picked.score,
                text: format!(
                    "{} ⇒ {}",
                    picked.example.prompt,
                    picked.example.completion(picked.mode)
                ),
                picture: None,
                licence: picked.example.licence.clone(),
            };
            self.job.recorder.record(Record::Example(record)).await?;
        }
        let subjects = used.iter().map(|picked| picked.example.id.clone()).collect();
        let used = TrainUse {
            run: self.job.run.clone(),
            step: self.cursor.step,
            stage: stage.name.clone(),
            subjects,
        };
        Ok(self.job.recorder.record(Record::TrainUse(used)).await?)
    }

    async fn reject(&self, example: &Example, gate: &str, reason: &str) -> Result<(), RunError> {
        let verdict = Verdict {
            subject: example.id.clone(),
            run: self.job.run.clone(),
            round: 0,
            gate: gate.to_owned(),
            passed: false,
            reason: reason.to_owned(),
            source: example.source.clone(),
        };
        Ok(self.job.recorder.record(Record::Verdict(verdict)).await?)
    }

    /// Back to the last checkpoint with the learning rate halved, a few times at most.
    async fn not_finite(&mut self, what: &str) -> Result<(), RunError> {
        let limit = self.job.profile.limits.not_finite;
        if self.cursor.halvings >= limit {
            let message = format!("the {what} was not finite again after {limit} returns to a checkpoint");
            self.alert(Level::Error, "not_finite", message.clone()).await?;
            return Err(RunError::Failed(message));
        }
        let halvings = self.cursor.halvings + 1;
        let connection = store::open_read_only(&self.job.home.database())?;
        let kept = journal::checkpoints(&connection, &self.job.run)?;
        drop(connection);
        let message = format!(
            "the {what} was not finite at step {}; back to the last checkpoint, learning rate halved",
            self.cursor.step
        );
        self.alert(Level::Warn, "not_finite", message).await?;
        let (bench, cursor, weights) = load(&self.job, &self.curator, &kept).await?;
        (self.bench, self.cursor, self.weights) = (bench, cursor, weights);
        self.curator.traces.clone_from(&self.cursor.traces);
        self.cursor.halvings = halvings;
        // The engine dropped the reference policy with the old weights.
        self.has_reference = false;
        // The step that is counted after this one is not done.
        self.cursor.step = self.cursor.step.wrapping_sub(1);
        Ok(())
    }

    async fn wait_for_disk(&self, why: &str) {
        self.overview(
            &format!("the disk is full ({why}); waiting for room"),
            "waiting_disk",
        );
        tokio::time::sleep(DISK_RETRY).await;
    }

    async fn checkpoint(&mut self, reason: &str) -> Result<(), RunError> {
        self.cursor.traces.clone_from(&self.curator.traces);
        let name = format!("step-{:08}", self.cursor.step);
        let dir = self.job.home.checkpoints(&self.job.run).join(&name);
        // Left by an earlier life of this run that died before its row was written: the same step, so the same weights.
        if dir.exists() {
            std::fs::remove_dir_all(&dir)
                .map_err(|error| RunError::Failed(format!("{}: {error}", dir.display())))?;
        }
        let text = |error: serde_json::Error| RunError::Failed(error.to_string());
        let tokenizer = self
            .bench
            .builder()
            .tokenizer()
            .to_json()
            .map_err(|error| RunError::Failed(error.to_string()))?;
        let attach = BTreeMap::from([
            (checkpoint::TOKENIZER.to_owned(), tokenizer),
            (
                BUDGETS.to_owned(),
                serde_json::to_string(self.bench.builder().budgets()).map_err(text)?,
            ),
            (
                checkpoint::STATE.to_owned(),
                serde_json::to_string(&self.cursor).map_err(text)?,
            ),
        ]);
        let request = || Request::Save {
            dir: dir.clone(),
            attach: attach.clone(),
            optimizer: true,
        };
        let (hash, bytes) = loop {
            match self.job.engine.ask(request(), None).await {
                Ok(Answer::Saved { hash, bytes, .. }) => break (hash, bytes),
                Ok(other) => return Err(unexpected("saved", &other).into()),
                Err(EngineFailure::Engine(EngineError::Io {
                    path,
                    message,
                    full: true,
                })) => {
                    self.wait_for_disk(&format!("{path}: {message}")).await;
                }
                Err(error) => return Err(error.into()),
            }
        };
        let record = Checkpoint {
            hash,
            run: self.job.run.clone(),
            step: self.cursor.step,
            weights: self.weights,
            path: format!("checkpoints/{}/{name}", self.job.run),
            reason: reason.to_owned(),
            bytes,
            kept: true,
        };
        self.job.recorder.record(Record::Checkpoint(record)).await?;
        // Acknowledged means on disk: only then may an older one go.
        self.job.recorder.flush().await?;
        let step = self.cursor.step;
        self.job
            .control
            .report(|overview| overview.last_checkpoint = Some(step));
        self.prune().await
    }

    async fn prune(&self) -> Result<(), RunError> {
        let connection = store::open_read_only(&self.job.home.database())?;
        let kept = journal::checkpoints(&connection, &self.job.run)?;
        drop(connection);
        for old in kept.into_iter().skip(self.job.profile.checkpoint.keep) {
            std::fs::remove_dir_all(self.job.home.root().join(&old.path)).ok();
            self.job
                .recorder
                .record(Record::Checkpoint(Checkpoint { kept: false, ..old }))
                .await?;
        }
        Ok(())
    }

    async fn alert(&self, level: Level, kind: &str, message: String) -> Result<(), RunError> {
        let (run, step, kind) = (self.job.run.clone(), self.cursor.step, kind.to_owned());
        Ok(self
            .job
            .recorder
            .record(Record::Alert(Alert {
                run,
                step,
                level,
                kind,
                message,
            }))
            .await?)
    }

    fn metric(&self, values: Vec<(String, f64)>) {
        let (run, step) = (self.job.run.clone(), self.cursor.step);
        self.job
            .recorder
            .offer(Record::Metric(Metric { run, step, values }));
    }

    fn overview(&self, detail: &str, state: &str) {
        let mut left = self.cursor.step;
        let stages: Vec<StageView> = self
            .job
            .profile
            .stages
            .iter()
            .map(|stage| {
                let done = left.min(stage.steps);
                left -= done;
                StageView {
                    name: stage.name.clone(),
                    kind: stage.kind.word().to_owned(),
                    done,
                    total: stage.steps,
                }
            })
            .collect();
        let stage = stages
            .iter()
            .position(|stage| stage.done < stage.total)
            .unwrap_or(stages.len().saturating_sub(1));
        self.job.control.report(|overview| {
            state.clone_into(&mut overview.state);
            detail.clone_into(&mut overview.detail);
            overview.step = self.cursor.step;
            overview.stages = stages;
            overview.stage = stage;
            overview.tokens_per_s = self.rate;
            overview.elapsed_s = self.started.elapsed().as_secs_f64();
        });
    }
}

/// Steps between two watched samples while training.
const WATCH_EVERY: u64 = 25;
/// How long to wait before a full disk is tried again.
const DISK_RETRY: std::time::Duration = std::time::Duration::from_secs(2);

type Frames = Arc<std::sync::Mutex<Vec<demask_api::SampleFrame>>>;

fn lock(frames: &Frames) -> std::sync::MutexGuard<'_, Vec<demask_api::SampleFrame>> {
    frames.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn collect_frames() -> (FrameSink, Frames) {
    let frames = Frames::default();
    let into = Arc::clone(&frames);
    (Arc::new(move |frame| lock(&into).push(frame)), frames)
}

/// A seed for a purpose of a step: all of them differ, and follow from the run's.
#[must_use]
pub fn seed_of(seed: u64, step: u64, purpose: u64) -> u64 {
    let mut hasher = blake3::Hasher::new();
    for part in [seed, step, purpose] {
        hasher.update(&part.to_le_bytes());
    }
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    // Kept below 2^53, so that a seed in JSON is the same seed everywhere.
    u64::from_le_bytes(bytes) >> 11
}

/// Linear warm-up, then a cosine down to `final_rate` of the highest rate.
#[must_use]
pub fn learning_rate(stage: &Stage, done: u64) -> f64 {
    if done < stage.warmup {
        return stage.learning_rate * (done + 1) as f64 / stage.warmup as f64;
    }
    let span = (stage.steps - stage.warmup.min(stage.steps)).max(1) as f64;
    let progress = ((done - stage.warmup) as f64 / span).min(1.0);
    let cosine = 0.5 * (1.0 + (std::f64::consts::PI * progress).cos());
    stage.learning_rate * (stage.final_rate + (1.0 - stage.final_rate) * cosine)
}

/// The newest checkpoint that is whole; else the shipped one, or random weights.
async fn load(
    job: &Job,
    curator: &Curator,
    kept: &[Checkpoint],
) -> Result<(Workbench, Cursor, u64), RunError> {
    for saved in kept {
        let dir = job.home.root().join(&saved.path);
        match load_checkpoint(job, &dir).await {
            Ok(loaded) => return Ok(loaded),
            Err(RunError::Engine(EngineFailure::Died { status, tail })) => {
                return Err(EngineFailure::Died { status, tail }.into());
            }
            Err(error) => {
                let message = format!(
                    "checkpoint at step {} cannot be used: {error}; trying the one before",
                    saved.step
                );
                let (run, kind) = (job.run.clone(), "broken_checkpoint".to_owned());
                let alert = Alert {
                    run,
                    step: saved.step,
                    level: Level::Warn,
                    kind,
                    message,
                };
                job.recorder.record(Record::Alert(alert)).await?;
            }
        }
    }
    if job.from_scratch {
        fresh(job, curator).await
    } else {
        from_shipped(job).await
    }
}

async fn load_checkpoint(job: &Job, dir: &std::path::Path) -> Result<(Workbench, Cursor, u64), RunError> {
    let model = ModelSource::Checkpoint {
        dir: dir.to_owned(),
        resume: true,
        average: false,
    };
    let Answer::Loaded { step, .. } = job.engine.ask(Request::Load { model }, None).await? else {
        return Err(RunError::Failed("the engine did not load".into()));
    };
    let path = dir.join(checkpoint::STATE);
    let text = std::fs::read_to_string(&path)
        .map_err(|error| RunError::Failed(format!("{}: {error}", path.display())))?;
    let cursor = serde_json::from_str(&text)
        .map_err(|error| RunError::Failed(format!("{}: {error}", path.display())))?;
    Ok((Workbench::of_checkpoint(dir)?, cursor, step))
}

async fn from_shipped(job: &Job) -> Result<(Workbench, Cursor, u64), RunError> {
    let dir: PathBuf = shipped::folder(&job.home).map_err(|error| RunError::Failed(error.to_string()))?;
    let model = ModelSource::Checkpoint {
        dir: dir.clone(),
        resume: false,
        average: false,
    };
    job.engine.ask(Request::Load { model }, None).await?;
    Ok((Workbench::of_checkpoint(&dir)?, Cursor::default(), 0))
}

async fn fresh(job: &Job, curator: &Curator) -> Result<(Workbench, Cursor, u64), RunError> {
    let profile = &job.profile;
    let failed = |error: String| RunError::Failed(error);
    let tokenizer = TextTokenizer::train(&curator.corpus(), profile.text_vocabulary)
        .map_err(|error| failed(error.to_string()))?;
    let specials = tokenizer.specials();
    let mut backbone = profile.model.clone();
    let image_tokenizer_from = match &profile.image_tokenizer_from {
        Some(named) if named.as_os_str() == "shipped" => {
            Some(shipped::folder(&job.home).map_err(|error| failed(error.to_string()))?)
        }
        named => named.clone(),
    };
    let image_tokenizer = match &image_tokenizer_from {
        Some(dir) => Some(image_tokenizer_config(dir)?),
        None => profile.image_tokenizer.clone(),
    };
    backbone.codebook_size = image_tokenizer
        .as_ref()
        .map_or(0, |config| 1 << config.codebook_bits);
    backbone.image_token_offset = u32::try_from(tokenizer.len()).ok();
    backbone.vocab_size = tokenizer.len() + backbone.codebook_size;
    backbone.embedding_size = None;
    (
        backbone.mask_token_id,
        backbone.eos_token_id,
        backbone.pad_token_id,
    ) = (specials.mask, specials.eos, specials.pad);
    let model = ModelSource::Fresh {
        backbone,
        image_tokenizer,
        image_tokenizer_from,
        seed: profile.seed,
    };
    job.engine.ask(Request::Load { model }, None).await?;
    Ok((Workbench::new(tokenizer, profile.budgets)?, Cursor::default(), 0))
}

/// The shape of a checkpoint's image tokenizer.
fn image_tokenizer_config(dir: &std::path::Path) -> Result<demask_api::ImageTokenizerConfig, RunError> {
    let path = dir.join(checkpoint::IMAGE_TOKENIZER).join(checkpoint::CONFIG);
    let text = std::fs::read_to_string(&path)
        .map_err(|error| RunError::Failed(format!("image_tokenizer_from: {}: {error}", path.display())))?;
    serde_json::from_str(&text)
        .map_err(|error| RunError::Failed(format!("image_tokenizer_from: {}: {error}", path.display())))
}

/// An example that is only a prompt: what a person typed.
#[must_use]
pub fn plain_example(kind: Kind, prompt: &str, picture: Option<demask_api::Picture>) -> Example {
    Example {
        id: String::new(),
        source: "person".into(),
        licence: String::new(),
        split: demask_datasets::example::Split::Test,
        kind,
        category: String::new(),
        held_out: false,
        prompt: prompt.to_owned(),
        picture,
        reasoning: None,
        answer: None,
        check: demask_datasets::example::Check::None,
    }
    .with_id()
}

fn task_word(task: Task) -> &'static str {
    match task {
        Task::TextToImage => "t2i",
        Task::Text => "lm",
        Task::Understand => "mmu",
        Task::ThinkThenDraw => "r2i",
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

fn flaw_word(flaw: &trace::Flaw) -> &'static str {
    match flaw {
        trace::Flaw::Format => "not in the reasoning format",
        trace::Flaw::Step(_) => "a written step is not true",
        trace::Flaw::Answer { .. } => "the result is wrong",
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            write!(text, "{byte:02x}").ok();
            text
        })
}

/// A picture as PNG; empty when it cannot be written, which a picture of the right size always can.
#[must_use]
pub fn png(picture: &demask_api::Picture) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    let (width, height) = (picture.width as u32, picture.height as u32);
    if let Some(image) = image::RgbImage::from_raw(width, height, picture.rgb.clone()) {
        image.write_to(&mut bytes, image::ImageFormat::Png).ok();
    }
    bytes.into_inner()
}

/// Resident memory of a process in bytes; 0 where it is not known.
fn resident(pid: u64) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    text.split_whitespace()
        .nth(1)
        .and_then(|pages| pages.parse::<u64>().ok())
        .unwrap_or(0)
        * 4096
}
