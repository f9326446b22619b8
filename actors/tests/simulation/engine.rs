//! A simulated engine that computes nothing. Its weights are the list of steps that were taken, which shows
//! whether a step was lost, repeated or reordered. It also checks the laws that are visible to an engine.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use demask_actors::engine::options::EngineOptions;
use demask_actors::engine::process::EngineFailure;
use demask_actors::engine::starter::{Asking, RunningEngine};
use demask_api::{
    Answer, DeviceInfo, EngineError, ModelSource, PolicyGroup, PolicyReport, Request, SampleFrame,
    SampleRequest, Sequence, StepSettings, TrainReport, ViewScores,
};

use crate::completion::filled;
use crate::faults::Hang;
use crate::laboratory::{Fate, Hanging, Role, SharedLaboratory};
use crate::vitals::Vitals;
use crate::weights::{TakenStep, WEIGHTS, Weights};

/// How long a hanging engine without a socket is waited for: normally, and when the user wants the run to end
/// (`engine/liveness.rs`).
const GIVEN_UP: [Duration; 2] = [Duration::from_secs(120), Duration::from_secs(3)];
/// Interval at which a hanging engine is checked.
const LOOK: Duration = Duration::from_millis(500);

/// A simulated engine.
pub struct ScriptedEngine {
    pub laboratory: SharedLaboratory,
    role: Role,
    options: EngineOptions,
    /// A lock that serves requests in the order in which they arrive.
    pub turn: tokio::sync::Mutex<()>,
    weights: RefCell<Option<Weights>>,
    dead: Cell<bool>,
    /// The vital signs of its process, if it is behind a socket.
    vitals: Option<Arc<Vitals>>,
}

impl RunningEngine for ScriptedEngine {
    fn ask<'a>(&'a self, request: &'a Request, _: &'a mut (dyn FnMut(SampleFrame) + Send)) -> Asking<'a> {
        Box::pin(async move {
            match self.in_turn(request).await {
                Ok(Answer::Failed(error)) => Err(error.into()),
                other => other,
            }
        })
    }

    fn who(&self) -> (u32, DeviceInfo) {
        (0, scripted_device())
    }

    fn stop(&self) -> Pin<Box<dyn Future<Output = ()> + '_>> {
        Box::pin(async { self.dead.set(true) })
    }
}

impl ScriptedEngine {
    pub fn new(
        laboratory: &SharedLaboratory,
        role: Role,
        options: &EngineOptions,
        vitals: Option<Arc<Vitals>>,
    ) -> Self {
        Self {
            laboratory: Arc::clone(laboratory),
            role,
            options: options.clone(),
            turn: tokio::sync::Mutex::new(()),
            weights: RefCell::new(None),
            dead: Cell::new(false),
            vitals,
        }
    }

    /// Answers a request in its turn. An aside request does not wait for one.
    pub async fn in_turn(&self, request: &Request) -> Result<Answer, EngineFailure> {
        match request {
            Request::Aside { request } => self.does(request).await,
            request => {
                let _turn = self.turn.lock().await;
                self.does(request).await
            }
        }
    }

    async fn does(&self, request: &Request) -> Result<Answer, EngineFailure> {
        if self.dead.get() {
            return Err(died("it had died before"));
        }
        let (delay, fate) = {
            let mut laboratory = self.laboratory.lock().unwrap();
            let delay = laboratory.delay();
            (delay, laboratory.fate(self.role, self.options.ranks, request))
        };
        tokio::time::sleep(delay).await;
        if let Some(vitals) = &self.vitals {
            // Nothing is computed while another request makes no progress.
            vitals.until(|state| !state.is_stuck()).await;
        }
        if self.dead.get() {
            return Err(died("it died of another request"));
        }
        match fate {
            Fate::Answered => Ok(self.answer(request)),
            Fate::Stalls(hang) => Ok(self.stalls(hang, request).await),
            Fate::Dies { done } => {
                if done {
                    self.answer(request);
                }
                self.dies("it was killed")
            }
            Fate::Hangs { until } => match self.hangs(until).await {
                true => self.dies("it hung and was given up"),
                false if self.dead.get() => Err(died("it died of another request")),
                false => Ok(self.answer(request)),
            },
            Fate::DiskFull { after } => {
                if !after.is_zero() {
                    tokio::time::sleep(after).await;
                }
                Ok(Answer::Failed(EngineError::Io {
                    path: "checkpoint".into(),
                    message: "no space left on device".into(),
                    full: true,
                }))
            }
        }
    }

    fn dies(&self, why: &str) -> Result<Answer, EngineFailure> {
        self.dead.set(true);
        self.laboratory
            .lock()
            .unwrap()
            .log
            .push(format!("the engine died: {why}"));
        Err(died(why))
    }

    /// Answers a request after what a fault does. An answer that is written while the engine is being killed was
    /// computed before.
    async fn stalls(&self, hang: Hang, request: &Request) -> Answer {
        let early = hang.ends_when_killed().then(|| self.answer(request));
        if let Some(vitals) = &self.vitals {
            vitals.stalls(hang).await;
        }
        early.unwrap_or_else(|| self.answer(request))
    }

    /// Hangs without a socket (L10): waits until the caller gives the engine up, after the time limits of the real
    /// watchdog, or until the engine goes on by itself. Returns whether it was given up. The limit is shorter when the
    /// user waits.
    async fn hangs(&self, until: Option<Duration>) -> bool {
        let _noted = Hanging::note(&self.laboratory);
        let mut hung = Duration::ZERO;
        while until.is_none_or(|until| hung < until) {
            if hung >= GIVEN_UP[usize::from(self.options.urgency.is_set())] {
                return true;
            }
            tokio::time::sleep(LOOK).await;
            hung += LOOK;
        }
        false
    }

    fn answer(&self, request: &Request) -> Answer {
        let samples = matches!(
            request,
            Request::Load { .. } | Request::Sample { .. } | Request::ScoreViews(_)
        );
        if self.role == Role::Samples && !samples {
            let violation = format!("L7: an engine that only samples is asked for {request:?}");
            self.laboratory.lock().unwrap().breaks(violation);
            return refused("this engine only samples");
        }
        match request {
            Request::Load { model } => self.load(model),
            Request::Train {
                micro_batches,
                settings,
            } => self.train(micro_batches, settings),
            Request::Policy {
                groups,
                objective,
                settings,
                behaviour,
                ..
            } => self.policy(groups, objective.inner_steps, settings, behaviour),
            Request::ScoreViews(views) => self.score_views(views),
            Request::SetReference { checkpoint } => match checkpoint {
                Some(dir) if !dir.join(WEIGHTS).is_file() => refused("there is no such checkpoint"),
                _ => Answer::Done,
            },
            Request::Sample { requests } => self.sample(requests),
            Request::Save { dir, attach, .. } => self.save(dir, attach),
            other => refused(&format!("{other:?} is not in the script")),
        }
    }

    fn load(&self, model: &ModelSource) -> Answer {
        let weights = match model {
            ModelSource::Checkpoint {
                dir, resume: true, ..
            } => match std::fs::read_to_string(dir.join(WEIGHTS)) {
                Ok(text) => serde_json::from_str(&text).unwrap(),
                Err(error) => {
                    let mut laboratory = self.laboratory.lock().unwrap();
                    laboratory.breaks(format!("L1: a checkpoint that has a row cannot be read: {error}"));
                    return refused("no checkpoint");
                }
            },
            // The folder of published weights may be gone if nobody waits for this request any more.
            ModelSource::Checkpoint { dir, .. } if self.role == Role::Samples => {
                match std::fs::read_to_string(dir.join(WEIGHTS)) {
                    Ok(text) => serde_json::from_str(&text).unwrap(),
                    Err(error) => return refused(&format!("{}: {error}", dir.display())),
                }
            }
            _ => Weights::default(),
        };
        let step = weights.version;
        self.weights.replace(Some(weights));
        Answer::Loaded {
            step,
            parameters: 1,
            backbone: None,
            image_tokenizer: false,
        }
    }

    /// Takes a step with the loaded weights.
    fn take(&self, settings: &StepSettings, count: u64, sequences: &[&Sequence]) -> Result<u64, Box<Answer>> {
        let mut weights = self.weights.borrow_mut();
        let Some(weights) = weights.as_mut() else {
            return Err(Box::new(refused("nothing is loaded")));
        };
        let mut laboratory = self.laboratory.lock().unwrap();
        let Some(&step) = laboratory.ground.steps.get(&settings.seed) else {
            laboratory.breaks(format!("L8: {} is no step's seed", settings.seed));
            return Err(Box::new(refused("no step's seed")));
        };
        laboratory.check_rate(step, settings.learning_rate);
        if let Some(before) = weights.taken.last().filter(|before| before.step >= step) {
            let before = before.step;
            laboratory.breaks(format!(
                "L1: step {step} is taken on weights that took step {before}"
            ));
        }
        if sequences.iter().any(|sequence| sequence.id.is_empty()) {
            laboratory.breaks(format!("L5: a sequence of step {step} has no name"));
        }
        let mut content = DefaultHasher::new();
        for sequence in sequences {
            sequence.ids.hash(&mut content);
        }
        weights.taken.push(TakenStep {
            step,
            learning_rate: settings.learning_rate,
            content: content.finish(),
            subjects: sequences.iter().map(|sequence| sequence.id.clone()).collect(),
        });
        weights.version += count;
        Ok(weights.version)
    }

    fn train(&self, micro_batches: &[Vec<Sequence>], settings: &StepSettings) -> Answer {
        let sequences: Vec<&Sequence> = micro_batches.iter().flatten().collect();
        match self.take(settings, 1, &sequences) {
            Err(refusal) => *refusal,
            Ok(step) => Answer::Trained(TrainReport {
                step,
                loss: 1.0,
                task_losses: Vec::new(),
                grad_norm: 1.0,
                tokens: 10,
                masked: 5,
                seconds: 0.0,
                finite: true,
                ranks: Vec::new(),
            }),
        }
    }

    fn policy(
        &self,
        groups: &[PolicyGroup],
        inner_steps: usize,
        settings: &StepSettings,
        behaviour: &[Vec<f32>],
    ) -> Answer {
        if let Some(weights) = &*self.weights.borrow() {
            let mut laboratory = self.laboratory.lock().unwrap();
            let step = laboratory.ground.steps.get(&settings.seed).copied();
            // A seed of no step is told by `take`.
            if let Some(step) = step {
                laboratory.check_drawn(weights, step, groups, behaviour);
            }
        }
        let samples = groups.iter().flat_map(|group| &group.samples);
        let sequences: Vec<&Sequence> = samples.map(|sample| &sample.sequence).collect();
        match self.take(settings, inner_steps as u64, &sequences) {
            Err(refusal) => *refusal,
            Ok(step) => Answer::PolicyTrained(PolicyReport {
                behaviour: None,
                step,
                losses: vec![1.0; inner_steps],
                kl: vec![0.0; inner_steps],
                ratio: vec![1.0; inner_steps],
                clipped: vec![0.0; inner_steps],
                grad_norm: vec![1.0; inner_steps],
                seconds: 0.0,
                finite: true,
                ranks: Vec::new(),
            }),
        }
    }

    fn sample(&self, requests: &[SampleRequest]) -> Answer {
        let weights = self.weights.borrow();
        let Some(weights) = weights.as_ref() else {
            return refused("nothing is loaded");
        };
        let mut laboratory = self.laboratory.lock().unwrap();
        let samples = requests.iter().map(|request| {
            let key = laboratory.draw(weights);
            filled(&laboratory.ground, request, key)
        });
        Answer::Samples {
            samples: samples.collect(),
            seconds: 0.0,
            step: weights.version,
        }
    }

    fn score_views(&self, views: &ViewScores) -> Answer {
        let weights = self.weights.borrow();
        let Some(weights) = weights.as_ref() else {
            return refused("nothing is loaded");
        };
        self.laboratory.lock().unwrap().check_views(weights, views);
        let samples: usize = views.groups.iter().map(|group| group.samples.len()).sum();
        Answer::ViewsScored {
            values: vec![weights.log_probabilities(); samples * views.inner_steps],
            seconds: 0.0,
        }
    }

    /// Saves the weights. The folder appears complete or not at all.
    fn save(&self, dir: &Path, attach: &BTreeMap<String, String>) -> Answer {
        let weights = self.weights.borrow();
        let Some(weights) = weights.as_ref() else {
            return refused("nothing is loaded");
        };
        let text = serde_json::to_string(weights).unwrap();
        let parent = dir.parent().unwrap();
        let name = dir.file_name().unwrap().to_string_lossy();
        let draft = parent.join(format!(".{name}.0.demask-saving"));
        std::fs::create_dir_all(&draft).unwrap();
        for (name, text) in attach {
            std::fs::write(draft.join(name), text).unwrap();
        }
        std::fs::write(draft.join(WEIGHTS), &text).unwrap();
        if let Err(error) = std::fs::rename(&draft, dir) {
            let mut laboratory = self.laboratory.lock().unwrap();
            laboratory.breaks(format!("L1: a checkpoint is written over another: {error}"));
        }
        let mut hash = DefaultHasher::new();
        text.hash(&mut hash);
        Answer::Saved {
            hash: format!("{:016x}", hash.finish()),
            bytes: text.len() as u64,
            step: weights.version,
            seconds: 0.0,
        }
    }
}

/// Returns the device of every simulated engine.
pub fn scripted_device() -> DeviceInfo {
    DeviceInfo {
        name: "scripted".into(),
        threads: 1,
        ..DeviceInfo::default()
    }
}

fn refused(message: &str) -> Answer {
    Answer::Failed(EngineError::Refused {
        message: message.to_owned(),
    })
}

fn died(why: &str) -> EngineFailure {
    EngineFailure::Died {
        status: why.to_owned(),
        tail: String::new(),
    }
}
