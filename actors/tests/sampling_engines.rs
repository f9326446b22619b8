//! Several sampling engines as one: what is divided among them comes back in order, whichever engines die. Those that
//! join show that they see the run's folder.
#![allow(clippy::unwrap_used, missing_docs)]

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use demask_actors::engine::address::EngineAddress;
use demask_actors::engine::options::EngineOptions;
use demask_actors::engine::process::EngineFailure;
use demask_actors::engine::starter::{Asking, EngineStarter, RunningEngine, Starting};
use demask_actors::pipeline::sampling_engines::{Drawers, PublishedPolicy, SamplingEngines};
use demask_actors::runtime::recorder::Recorder;
use demask_actors::runtime::supervisor::{RestartBudget, SupervisorHandle};
use demask_api::{
    Answer, DeviceInfo, EngineError, LikelihoodEstimator, LikelihoodQuery, LogLikelihood, ModelSource,
    PictureScore, Request, SampleFrame,
};
use futures_util::future::join_all;

/// The weights of the policy, by which a scripted engine multiplies a query's seed.
const POLICY: u64 = 3;
const QUERIES: u64 = 7;

/// Engines by name (their `device`): how many requests each may still die of, the seeds that each answered, and how
/// often each showed that it sees a folder.
#[derive(Default)]
struct Laboratory {
    deaths: BTreeMap<String, u32>,
    answered: BTreeMap<String, Vec<u64>>,
    seen: BTreeMap<String, u32>,
    /// An engine that sees no folder.
    blind: Option<String>,
}

#[derive(Clone, Default)]
struct Scripted(Arc<Mutex<Laboratory>>);

/// An engine that answers a query with its seed times the version of the weights that it loaded.
struct ScriptedSampler {
    name: String,
    laboratory: Arc<Mutex<Laboratory>>,
    weights: Cell<Option<u64>>,
}

impl EngineStarter for Scripted {
    fn start<'a>(&'a self, options: &'a EngineOptions) -> Starting<'a> {
        let engine = ScriptedSampler {
            name: options.device.clone(),
            laboratory: Arc::clone(&self.0),
            weights: Cell::new(None),
        };
        Box::pin(async { Ok(Box::new(engine) as Box<dyn RunningEngine>) })
    }
}

impl RunningEngine for ScriptedSampler {
    fn ask<'a>(&'a self, request: &'a Request, _: &'a mut (dyn FnMut(SampleFrame) + Send)) -> Asking<'a> {
        Box::pin(async move { self.answer(request) })
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
        Box::pin(async {})
    }
}

impl ScriptedSampler {
    fn answer(&self, request: &Request) -> Result<Answer, EngineFailure> {
        match request {
            Request::Load {
                model: ModelSource::Checkpoint { dir, .. },
            } => {
                let version = dir.file_name().unwrap().to_str().unwrap().parse().unwrap();
                self.weights.set(Some(version));
                Ok(Answer::Loaded {
                    step: version,
                    parameters: 0,
                    backbone: None,
                    image_tokenizer: false,
                })
            }
            Request::LogLikelihoods { queries } => self.log_likelihoods(queries),
            Request::ReadMark { path, token } => {
                let mut laboratory = self.laboratory.lock().unwrap();
                if laboratory.blind.as_ref() == Some(&self.name) {
                    let message = format!("{} does not see the folder", self.name);
                    return Err(EngineError::Refused { message }.into());
                }
                assert_eq!(std::fs::read_to_string(path).unwrap(), *token);
                *laboratory.seen.entry(self.name.clone()).or_default() += 1;
                Ok(Answer::Done)
            }
            // Only the training engine is asked this.
            Request::Score { .. } if self.name == "training" => Ok(Answer::Scores {
                scores: vec![PictureScore {
                    cosine: None,
                    image_reward: None,
                }],
                seconds: 0.0,
            }),
            other => Err(EngineError::Refused {
                message: format!("{other:?}"),
            }
            .into()),
        }
    }

    fn log_likelihoods(&self, queries: &[LikelihoodQuery]) -> Result<Answer, EngineFailure> {
        let mut laboratory = self.laboratory.lock().unwrap();
        if let Some(left) = laboratory.deaths.get_mut(&self.name).filter(|left| **left > 0) {
            *left -= 1;
            return Err(EngineFailure::Died {
                status: "killed".into(),
                tail: String::new(),
            });
        }
        let seeds = queries.iter().map(|query| query.seed);
        laboratory
            .answered
            .entry(self.name.clone())
            .or_default()
            .extend(seeds.clone());
        let weights = self.weights.get().expect("the weights were loaded first");
        let value = |seed: u64| LogLikelihood {
            value: (seed * weights) as f64,
            standard_error: None,
            forwards: 1,
        };
        Ok(Answer::LogLikelihoods {
            values: seeds.map(value).collect(),
            seconds: 0.5,
        })
    }
}

/// Spawns sampling engines beside a training engine. They must see the folder `shared`.
fn spawned(
    supervisor: &SupervisorHandle,
    scripted: &Scripted,
    engines: usize,
    shared: Option<PathBuf>,
) -> Drawers {
    let spawn = |name: &str| {
        let options = EngineOptions {
            device: name.to_owned(),
            ..EngineOptions::default()
        };
        EngineAddress::spawn(supervisor, name, options, Arc::new(scripted.clone()))
    };
    let samplers: Vec<EngineAddress> = (0..engines)
        .map(|number| spawn(&format!("sampler {number}")))
        .collect();
    Drawers {
        engine: spawn("training"),
        samplers: SamplingEngines::new(&samplers, shared),
    }
}

fn policy(weights: u64) -> PublishedPolicy {
    PublishedPolicy {
        dir: weights.to_string().into(),
        weights,
        step: 0,
    }
}

/// Asks for the log-likelihoods of all queries under these weights.
async fn likelihoods(drawers: &Drawers, weights: u64) -> Vec<f64> {
    match asked_for(drawers, weights).await.unwrap() {
        Answer::LogLikelihoods { values, .. } => values.iter().map(|value| value.value).collect(),
        other => panic!("{other:?}"),
    }
}

async fn asked_for(drawers: &Drawers, weights: u64) -> Result<Answer, EngineFailure> {
    let queries = (0..QUERIES).map(|seed| LikelihoodQuery {
        prompt: Vec::new(),
        answer: Vec::new(),
        estimator: LikelihoodEstimator::Chain,
        guidance: 0.0,
        seed,
    });
    let queries = queries.collect();
    let policy = policy(weights);
    let link = drawers.link(Some(&policy));
    link.ask(Request::LogLikelihoods { queries }, None).await
}

/// Asks `engines` sampling engines for the log-likelihoods of all queries. Engine k dies of the first `deaths[k]`
/// requests. Returns the values, and the seeds that each engine answered.
fn asked(engines: usize, deaths: &[u32]) -> (Vec<f64>, BTreeMap<String, Vec<u64>>) {
    let folder = tempfile::tempdir().unwrap();
    let scripted = Scripted::default();
    scripted.0.lock().unwrap().deaths = deaths
        .iter()
        .enumerate()
        .map(|(number, deaths)| (format!("sampler {number}"), *deaths))
        .collect();
    let values = actix::System::new().block_on(async {
        let (recorder, _thread) = Recorder::start(&folder.path().join("d.db")).unwrap();
        let budget = RestartBudget {
            first_wait: Duration::from_millis(1),
            ..RestartBudget::default()
        };
        let supervisor = SupervisorHandle::open(recorder, budget);
        let drawers = spawned(&supervisor, &scripted, engines, None);
        let alone = Request::Score {
            pictures: Vec::new(),
            texts: Vec::new(),
        };
        let answer = drawers.link(Some(&policy(POLICY))).ask(alone, None).await;
        assert!(matches!(answer.unwrap(), Answer::Scores { .. }));
        likelihoods(&drawers, POLICY).await
    });
    let answered = scripted.0.lock().unwrap().answered.clone();
    (values, answered)
}

/// The actors of a run may be spawned again while those before them still ask. Each gets the weights that it asked for.
#[test]
fn l7_clones_of_a_set_load_no_weights_between_the_load_and_the_request_of_one_another() {
    let folder = tempfile::tempdir().unwrap();
    actix::System::new().block_on(async {
        let (recorder, _thread) = Recorder::start(&folder.path().join("d.db")).unwrap();
        let supervisor = SupervisorHandle::open(recorder, RestartBudget::default());
        let before = spawned(&supervisor, &Scripted::default(), 2, None);
        let after = before.clone();
        let asking = (0..20).map(|number| {
            let (drawers, weights) = match number % 2 {
                0 => (&before, POLICY),
                _ => (&after, POLICY + 2),
            };
            async move { (weights, likelihoods(drawers, weights).await) }
        });
        for (weights, found) in join_all(asking).await {
            let wanted: Vec<f64> = (0..QUERIES).map(|seed| (seed * weights) as f64).collect();
            assert_eq!(found, wanted, "weights {weights}");
        }
    });
}

#[test]
fn l8_what_is_divided_among_engines_comes_back_in_order() {
    let wanted: Vec<f64> = (0..QUERIES).map(|seed| (seed * POLICY) as f64).collect();
    for engines in [1, 2, 3, 9] {
        let (values, answered) = asked(engines, &[]);
        assert_eq!(values, wanted, "{engines} engines");
        assert_eq!(
            answered.len(),
            engines.min(usize::try_from(QUERIES).unwrap()),
            "each engine has a part: {answered:?}"
        );
        let sizes = answered.values().map(Vec::len);
        assert!(
            sizes.clone().max().unwrap() - sizes.min().unwrap() <= 1,
            "{answered:?}"
        );
    }
}

#[test]
fn l1_another_life_or_another_engine_answers_for_one_that_dies() {
    let wanted: Vec<f64> = (0..QUERIES).map(|seed| (seed * POLICY) as f64).collect();
    for deaths in [[1, 0], [0, 2], [2, 1]] {
        let (values, answered) = asked(2, &deaths);
        assert_eq!(values, wanted, "{deaths:?}");
        assert_eq!(answered.len(), 2, "the next life answers: {answered:?}");
    }
    let (values, answered) = asked(2, &[3, 0]);
    assert_eq!(values, wanted);
    assert_eq!(
        answered["sampler 1"].len() as u64,
        QUERIES,
        "the other engine answers"
    );
}

/// An engine that joined shows once that it sees the folder, and so does the one that comes when it has died.
#[test]
fn l1_every_engine_that_must_see_a_folder_shows_it_before_it_loads() {
    let folder = tempfile::tempdir().unwrap();
    let shared = folder.path().join("run");
    let scripted = Scripted::default();
    scripted.0.lock().unwrap().deaths = BTreeMap::from([("sampler 0".to_owned(), 1)]);
    actix::System::new().block_on(async {
        let (recorder, _thread) = Recorder::start(&folder.path().join("d.db")).unwrap();
        let budget = RestartBudget {
            first_wait: Duration::from_millis(1),
            ..RestartBudget::default()
        };
        let supervisor = SupervisorHandle::open(recorder, budget);
        let drawers = spawned(&supervisor, &scripted, 2, Some(shared.clone()));
        for weights in [POLICY, POLICY + 1] {
            let wanted: Vec<f64> = (0..QUERIES).map(|seed| (seed * weights) as f64).collect();
            assert_eq!(likelihoods(&drawers, weights).await, wanted);
        }
        let seen = scripted.0.lock().unwrap().seen.clone();
        let wanted = BTreeMap::from([("sampler 0".to_owned(), 2), ("sampler 1".to_owned(), 1)]);
        assert_eq!(seen, wanted);
        assert!(!shared.exists(), "a mark was left");

        scripted.0.lock().unwrap().blind = Some("sampler 1".to_owned());
        scripted.0.lock().unwrap().deaths = BTreeMap::from([("sampler 1".to_owned(), 1)]);
        let refused = asked_for(&drawers, POLICY).await.unwrap_err().to_string();
        assert!(refused.contains("sampler 1 does not see the folder"), "{refused}");
    });
}
