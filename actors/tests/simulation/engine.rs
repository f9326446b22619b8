//! A simulated engine that computes nothing. Its weights are the list of steps that were taken, which shows
//! whether a step was lost, repeated or reordered. It also checks the laws that are visible to an engine.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use demask_actors::engine::process::{EngineFailure, EngineOptions};
use demask_actors::engine::starter::{Asking, EngineStarter, RunningEngine, Starting};
use demask_api::{
    Answer, DeviceInfo, EngineError, ModelSource, PolicyGroup, PolicyReport, Request, Sample, SampleFrame,
    SampleRequest, Sequence, StepSettings, TrainReport,
};
use demask_datasets::example::{Example, Mode};
use demask_storage::{journal, store};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::ground::{Ground, LEARNING_RATE};
use crate::schedule::{EngineFaults, Schedule};

/// The file name of the weights.
pub const WEIGHTS: &str = "weights.json";
/// How long a hanging engine is waited for: normally, and when the user wants the run to end
/// (`engine/liveness.rs`).
const GIVEN_UP: [Duration; 2] = [Duration::from_secs(120), Duration::from_secs(3)];
/// Interval at which a hanging engine is checked.
const LOOK: Duration = Duration::from_millis(500);

/// An optimizer step that was taken.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TakenStep {
    /// The run's step.
    pub step: u64,
    pub learning_rate: f64,
    /// A hash of all token ids, in order.
    pub content: u64,
    /// The lineage ids of the sequences.
    pub subjects: Vec<String>,
}

/// The weights: all steps that were taken.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Weights {
    pub taken: Vec<TakenStep>,
    /// Number of optimizer steps.
    pub version: u64,
}

/// What is remembered of a drawn sample: the weights that drew it, and whether it was trained on. Its key is its first
/// four commit steps.
#[derive(Debug)]
struct Drawn {
    weights: Weights,
    used: bool,
}

/// State that outlives engines: the faults to come, the samples that were drawn, and the violations of laws.
pub struct Laboratory {
    ground: Arc<Ground>,
    database: PathBuf,
    rng: ChaCha8Rng,
    faults: EngineFaults,
    slowest: Duration,
    drawn: HashMap<[u16; 4], Drawn>,
    /// Whether an engine hangs at this moment.
    pub hanging: bool,
    pub violations: Vec<String>,
    pub log: Vec<String>,
}

/// The laboratory, shared by all engines of a schedule.
pub type SharedLaboratory = Arc<Mutex<Laboratory>>;

/// What happens to a request.
enum Fate {
    Answered,
    /// The engine dies, before (`done` is false) or after it has executed the request.
    Dies {
        done: bool,
    },
    Hangs,
    DiskFull,
}

impl Laboratory {
    pub fn of(schedule: &Schedule, ground: &Arc<Ground>, database: PathBuf) -> SharedLaboratory {
        Arc::new(Mutex::new(Self {
            ground: Arc::clone(ground),
            database,
            rng: ChaCha8Rng::seed_from_u64(schedule.seed ^ 0x00e9_6123),
            faults: schedule.engine.clone(),
            slowest: schedule.slowest,
            drawn: HashMap::new(),
            hanging: false,
            violations: Vec::new(),
            log: Vec::new(),
        }))
    }

    fn breaks(&mut self, violation: String) {
        self.violations.push(violation);
    }

    fn delay(&mut self) -> Duration {
        let share = self.rng.random::<f64>().powi(3);
        // One request in 40 is slow.
        let times = if self.rng.random_ratio(1, 40) { 6.0 } else { 1.0 };
        self.slowest.mul_f64(share * times)
    }

    fn fate(&mut self, request: &Request) -> Fate {
        let faults = &mut self.faults;
        let dice = self.rng.random_range(0..24);
        if dice == 0 && faults.deaths > 0 {
            faults.deaths -= 1;
            return Fate::Dies {
                done: self.rng.random(),
            };
        }
        if dice == 1 && faults.hangs > 0 {
            faults.hangs -= 1;
            return Fate::Hangs;
        }
        if dice < 12 && faults.full_disks > 0 && matches!(request, Request::Save { .. }) {
            faults.full_disks -= 1;
            return Fate::DiskFull;
        }
        Fate::Answered
    }

    fn starts(&mut self) -> bool {
        let fails = self.faults.failed_starts > 0 && self.rng.random();
        self.faults.failed_starts -= u32::from(fails);
        !fails
    }

    /// Checks L3 and L4: the learning rate of a step is the one that the rows on disk give for it at this moment.
    fn check_rate(&mut self, step: u64, rate: f64) {
        let found = store::open_read_only(&self.database)
            .and_then(|connection| {
                let run = journal::unfinished(&connection)?
                    .map(|run| run.id)
                    .unwrap_or_default();
                journal::steers(&connection, &run)
            })
            .unwrap();
        let wanted = rate_at(step, found.iter());
        if (wanted - rate).abs() > 1e-12 {
            self.breaks(format!(
                "L4: step {step} is computed with the learning rate {rate}, the rows on the disk say {wanted}"
            ));
        }
    }

    /// Checks L5 and L7: the training samples were drawn by these very weights, and each is used once.
    fn check_drawn(&mut self, weights: &Weights, group: &PolicyGroup) {
        for sample in &group.samples {
            let key = key_of(&sample.commit_step);
            let said = match self.drawn.get_mut(&key) {
                None => Some("L5: was never drawn"),
                Some(drawn) if drawn.used => Some("L5: is used a second time"),
                Some(drawn) if drawn.weights != *weights => Some("L7: was drawn by other weights"),
                Some(drawn) => {
                    drawn.used = true;
                    None
                }
            };
            if let Some(said) = said {
                let (law, rest) = said.split_at(3);
                self.breaks(format!("{law} sample {}{rest}", sample.sequence.id));
            }
        }
    }
}

/// Returns the learning rate of a step according to the steers that took effect.
pub fn rate_at<'a>(step: u64, steers: impl Iterator<Item = &'a demask_storage::Steer>) -> f64 {
    let mut rate = LEARNING_RATE;
    for steer in steers {
        let applies = steer.applied_step.is_some_and(|at| at <= step);
        if applies && steer.key.as_deref() == Some("learning_rate") {
            rate = steer
                .new
                .as_ref()
                .and_then(|new| new.parse().ok())
                .unwrap_or(rate);
        }
    }
    rate
}

fn key_of(commit_step: &[u16]) -> [u16; 4] {
    let mut key = [0; 4];
    key.iter_mut().zip(commit_step).for_each(|(to, from)| *to = *from);
    key
}

/// Starts simulated engines.
pub struct ScriptedStarter(pub SharedLaboratory);

impl EngineStarter for ScriptedStarter {
    fn start<'a>(&'a self, options: &'a EngineOptions) -> Starting<'a> {
        Box::pin(async move {
            let (delay, starts) = {
                let mut laboratory = self.0.lock().unwrap();
                (laboratory.delay(), laboratory.starts())
            };
            tokio::time::sleep(delay).await;
            if !starts {
                return Err(EngineFailure::Start {
                    program: "scripted".into(),
                    message: "no descriptor is left".into(),
                });
            }
            Ok(Box::new(ScriptedEngine {
                laboratory: Arc::clone(&self.0),
                options: options.clone(),
                turn: tokio::sync::Mutex::new(()),
                weights: RefCell::new(None),
                dead: Cell::new(false),
            }) as Box<dyn RunningEngine>)
        })
    }
}

/// A simulated engine.
struct ScriptedEngine {
    laboratory: SharedLaboratory,
    options: EngineOptions,
    /// A lock that serves requests in the order in which they arrive.
    turn: tokio::sync::Mutex<()>,
    weights: RefCell<Option<Weights>>,
    dead: Cell<bool>,
}

impl RunningEngine for ScriptedEngine {
    fn ask<'a>(&'a self, request: &'a Request, _: &'a mut (dyn FnMut(SampleFrame) + Send)) -> Asking<'a> {
        Box::pin(async move {
            let answer = match request {
                Request::Aside { request } => self.does(request).await,
                request => {
                    let _turn = self.turn.lock().await;
                    self.does(request).await
                }
            };
            match answer {
                Ok(Answer::Failed(error)) => Err(error.into()),
                other => other,
            }
        })
    }

    fn who(&self) -> (u32, DeviceInfo) {
        let device = DeviceInfo {
            name: "scripted".into(),
            threads: 1,
            ..DeviceInfo::default()
        };
        (0, device)
    }

    fn stop(&self) -> Pin<Box<dyn Future<Output = ()> + '_>> {
        Box::pin(async { self.dead.set(true) })
    }
}

impl ScriptedEngine {
    async fn does(&self, request: &Request) -> Result<Answer, EngineFailure> {
        if self.dead.get() {
            return Err(died("it had died before"));
        }
        let (delay, fate) = {
            let mut laboratory = self.laboratory.lock().unwrap();
            (laboratory.delay(), laboratory.fate(request))
        };
        tokio::time::sleep(delay).await;
        if self.dead.get() {
            return Err(died("it died of another request"));
        }
        match fate {
            Fate::Answered => Ok(self.answer(request)),
            Fate::Dies { done } => {
                if done {
                    self.answer(request);
                }
                self.dies("it was killed")
            }
            Fate::Hangs => self.hangs().await,
            Fate::DiskFull => Ok(Answer::Failed(EngineError::Io {
                path: "checkpoint".into(),
                message: "no space left on device".into(),
                full: true,
            })),
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

    /// Hangs (L10): waits until the caller gives the engine up, after the time limits of the real watchdog. The limit
    /// is shorter when the user waits. The real watchdog observes a socket, which does not exist here; it has
    /// tests of its own.
    async fn hangs(&self) -> Result<Answer, EngineFailure> {
        self.laboratory.lock().unwrap().hanging = true;
        let mut hung = Duration::ZERO;
        while hung < GIVEN_UP[usize::from(self.options.urgency.is_set())] {
            tokio::time::sleep(LOOK).await;
            hung += LOOK;
        }
        self.laboratory.lock().unwrap().hanging = false;
        self.dies("it hung and was given up")
    }

    fn answer(&self, request: &Request) -> Answer {
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
                ..
            } => self.policy(groups, objective.inner_steps, settings),
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

    fn policy(&self, groups: &[PolicyGroup], inner_steps: usize, settings: &StepSettings) -> Answer {
        if let Some(weights) = &*self.weights.borrow() {
            let mut laboratory = self.laboratory.lock().unwrap();
            groups
                .iter()
                .for_each(|group| laboratory.check_drawn(weights, group));
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
            let number = laboratory.drawn.len() as u64;
            let key = [number as u16, (number >> 16) as u16, 0, 1];
            let drawn = Drawn {
                weights: weights.clone(),
                used: false,
            };
            laboratory.drawn.insert(key, drawn);
            filled(&laboratory.ground, request, key)
        });
        Answer::Samples {
            samples: samples.collect(),
            seconds: 0.0,
            step: weights.version,
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

/// Answers a request: the sum of two numbers in its text, right or wrong depending on the seed, or 0 for any
/// other text.
fn filled(ground: &Ground, request: &SampleRequest, key: [u16; 4]) -> Sample {
    let builder = ground.inference.builder();
    let asked = &request.ids[request.left_pad..request.target.start];
    let text = builder.tokenizer().decode(asked).unwrap_or_default();
    let numbers: Vec<u64> = text
        .split(|letter: char| !letter.is_ascii_digit())
        .filter_map(|digits| digits.parse().ok())
        .collect();
    let (reasoning, result) = match numbers[..] {
        [first, second] => {
            let sum = first + second + u64::from(request.seed.is_multiple_of(3));
            (format!("{first} + {second} = {sum}."), sum.to_string())
        }
        _ => ("0 + 0 = 0.".to_owned(), "0".to_owned()),
    };
    let example = problem(&reasoning, &result);
    let modes = [Mode::Think, Mode::Direct].into_iter();
    let written = modes
        .filter_map(|mode| builder.train(&example, mode, &[], false).ok())
        .find(|written| written.answer_len() == request.target.len());
    let mut ids = request.ids.clone();
    if let Some(written) = written {
        let span = written.answer[0];
        ids[request.target.start..request.target.end].copy_from_slice(&written.ids[span.start..span.end]);
    }
    let length = request.target.len();
    let mut commit_step = vec![0; length];
    commit_step.iter_mut().zip(key).for_each(|(to, from)| *to = from);
    Sample {
        id: request.id,
        ids,
        commit_step,
        confidence: vec![0.5; length],
        forwards: 1,
        picture: None,
    }
}

/// Returns a word problem with this reasoning and result.
fn problem(reasoning: &str, result: &str) -> Example {
    let fields = serde_json::json!({
        "id": "", "source": "", "licence": "", "split": "train", "kind": "word_problem", "category": "",
        "prompt": "?", "picture": null, "reasoning": reasoning, "answer": result, "check": { "check": "none" },
    });
    serde_json::from_value(fields).unwrap()
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
