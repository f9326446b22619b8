//! The Reasoner and a teacher that fails or answers while the run is ending.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::engine::address::EngineAddress;
use crate::engine::options::EngineOptions;
use crate::engine::starter::ProcessStarter;
use crate::pipeline::sampling_engines::SamplingEngines;
use crate::runtime::recorder::SimulatedDisk;
use crate::runtime::supervisor::RestartBudget;
use crate::teacher::tests::{GOOD, http, scripted};
use crate::teacher::{ChatAnswering, ChatResponse, ChatTransport, HttpChat, TeacherError};
use demask_datasets::example::{Kind, Split};
use demask_datasets::prompts::sequences::Budgets;
use demask_datasets::prompts::text_tokenizer::TextTokenizer;
use demask_datasets::tabletop::Tabletop;
use demask_rewards::judge::Judge;
use demask_storage::{Metric, journal, store};
use reqwest::StatusCode;
use serde_json::Value;
use std::time::Duration;

#[test]
fn the_teacher_has_its_share_of_any_number() {
    let share = |share: f64, count: usize| (0..count).filter(|&n| falls_to_teacher(n, share)).count();
    let shares = [share(0.0, 9), share(1.0, 9), share(0.5, 10), share(0.3, 10)];
    assert_eq!(shares, [0, 9, 5, 3]);
}

fn brief(url: String, recorder: &Recorder, database: PathBuf) -> ReasonerSettings {
    let short = Duration::from_millis(1);
    ReasonerSettings {
        run: "r".into(),
        seed: 1,
        recorder: recorder.clone(),
        database,
        teacher: Some(Teacher {
            url,
            model: "m".into(),
            key_variable: "DEMASK_NO_SUCH_KEY".into(),
            concurrency: 1,
            token_cap: 10_000,
            share: 1.0,
            max_tokens: 100,
        }),
        patience: Patience {
            tries: 2,
            first_wait: short,
            longest_wait: short,
            ..Patience::default()
        },
        opener: Arc::new(HttpChat),
    }
}

fn propose() -> Propose {
    let world = Tabletop::new(1);
    let tokenizer = TextTokenizer::train(&world.corpus(50), 320).unwrap();
    let mut problem = world.example(Kind::WordProblem, Split::Train, 0);
    problem.answer = Some("2".into());
    Propose {
        step: 4,
        round: 1,
        weights: 7,
        policy: None,
        inference: Arc::new(Inference::new(tokenizer, Budgets::default())),
        problems: Arc::new(vec![problem]),
        group: 3,
        samplers: SamplerSettings::default(),
        control: Arc::default(),
    }
}

/// Spawns a reasoner with a scorer, and with an engine that is never asked.
fn spawned(
    supervisor: &SupervisorHandle,
    brief: ReasonerSettings,
    faults: &FaultInjection,
) -> Address<Reasoner> {
    let starter = Arc::new(ProcessStarter { lobby: None });
    let engine = EngineAddress::spawn(supervisor, "engine/0", EngineOptions::default(), starter);
    let drawers = Drawers {
        engine,
        samplers: SamplingEngines::new(&[], None),
    };
    let judge = Judge::default();
    let scorer = Scorer::spawn(supervisor, judge, None, None, FaultInjection::default()).unwrap();
    Reasoner::spawn(supervisor, brief, drawers, scorer, faults.clone())
}

/// The teacher fails once in a passing way, answers, refuses, and answers wrongly; then the reasoner dies. Its next
/// life reads what was written and asks only for what is missing.
#[test]
fn l1_a_teacher_is_not_asked_twice_for_what_it_wrote() {
    let wrong = GOOD.replace("</think>2", "</think>3");
    let script = vec![
        http("503 Service Unavailable", "", "busy"),
        http("200 OK", "", GOOD),
        http("401 Unauthorized", "", "no"),
        http("200 OK", "", &wrong),
        http("401 Unauthorized", "", "still no"),
    ];
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("d.db");
    System::new().block_on(async {
        let (url, asked) = scripted(script).await;
        let (recorder, _thread) = Recorder::start(&database).unwrap();
        let supervisor = SupervisorHandle::open(recorder.clone(), RestartBudget::default());
        let faults = FaultInjection::at(&[("reasoner", 4)]);
        let brief = brief(url, &recorder, database.clone());
        let reasoner = spawned(&supervisor, brief, &faults);
        let proposals = reasoner.ask(propose()).await.unwrap().unwrap();
        let found: Vec<(&str, bool)> = proposals
            .iter()
            .map(|one| (one.id.as_str(), one.flaw.is_none()))
            .collect();
        assert_eq!(found, [("r/r1/0", true), ("r/r1/2", false)]);
        assert!(proposals.iter().all(|one| one.generator == "teacher:m"));
        assert_eq!((asked.lock().unwrap().len(), faults.left()), (5, 0));
        recorder.flush().await.unwrap();
        let store = store::open_read_only(&database).unwrap();
        assert_eq!(journal::taught(&store, "r", 1).unwrap().len(), 2);
        assert_eq!(journal::taught_tokens(&store, "r").unwrap(), 60);
        let views = supervisor.roster.views();
        let view = views.iter().find(|view| view.name == "reasoner").unwrap();
        assert_eq!(
            (view.restarts, view.recent[0].3.as_str()),
            (1, "panicked: asked to at step 4")
        );
    });
}

/// If a round is done again after a knob was turned, its first problem may be another one. What the teacher wrote about
/// the first problem is not taken for an answer to the other, and was paid for.
#[test]
fn l1_what_a_teacher_wrote_is_an_answer_to_its_own_problem_only() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("d.db");
    System::new().block_on(async {
        let (url, asked) = scripted(vec![http("200 OK", "", GOOD); 2]).await;
        let (recorder, _thread) = Recorder::start(&database).unwrap();
        let supervisor = SupervisorHandle::open(recorder.clone(), RestartBudget::default());
        let brief = brief(url, &recorder, database.clone());
        let reasoner = spawned(&supervisor, brief, &FaultInjection::default());
        let first = Propose {
            group: 1,
            ..propose()
        };
        let mut other = Tabletop::new(1).example(Kind::WordProblem, Split::Train, 1);
        other.answer = Some("2".into());
        assert_ne!(other.id, first.problems[0].id);
        let second = Propose {
            problems: Arc::new(vec![other.clone()]),
            ..first.clone()
        };
        for (round, requests) in [(first.clone(), 1), (first, 1), (second.clone(), 2), (second, 2)] {
            let proposals = reasoner.ask(round).await.unwrap().unwrap();
            assert_eq!((proposals.len(), asked.lock().unwrap().len()), (1, requests));
        }
        recorder.flush().await.unwrap();
        let store = store::open_read_only(&database).unwrap();
        assert_eq!(
            journal::taught(&store, "r", 1).unwrap()["r/r1/0"].example,
            other.id
        );
        assert_eq!(journal::taught_tokens(&store, "r").unwrap(), 60);
    });
}

/// A teacher whose answer comes when the recorder has no room and the run must end.
#[derive(Clone, Debug)]
struct LastMinuteTeacher {
    recorder: Recorder,
    control: Arc<Control>,
}

impl ChatOpener for LastMinuteTeacher {
    fn open(&self, _: &Teacher, _: &Patience) -> Result<Box<dyn ChatTransport>, TeacherError> {
        Ok(Box::new(self.clone()))
    }
}

impl ChatTransport for LastMinuteTeacher {
    fn post<'a>(&'a self, _: &'a Value) -> ChatAnswering<'a> {
        Box::pin(async move {
            while self.recorder.dropped() == 0 {
                self.recorder.offer(Record::Metric(Metric {
                    run: "r".into(),
                    step: 4,
                    values: Vec::new(),
                }));
            }
            self.control.halt();
            Ok(ChatResponse {
                status: StatusCode::OK,
                retry_after: None,
                body: GOOD.to_owned(),
            })
        })
    }
}

#[test]
fn l1_an_answer_that_came_before_the_run_must_end_is_recorded_and_no_other_question_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("d.db");
    let clock = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap()
    };
    System::with_tokio_rt(clock).block_on(async {
        let disk = SimulatedDisk {
            delay: Some(Box::new(|| Duration::from_secs(1))),
            acknowledges_early: false,
        };
        let recorder = Recorder::start_here(&database, disk).unwrap();
        let supervisor = SupervisorHandle::open(recorder.clone(), RestartBudget::default());
        let propose = propose();
        let teacher = LastMinuteTeacher {
            recorder: recorder.clone(),
            control: Arc::clone(&propose.control),
        };
        let brief = ReasonerSettings {
            opener: Arc::new(teacher),
            ..brief("http://127.0.0.1:9/v1".into(), &recorder, database.clone())
        };
        let reasoner = spawned(&supervisor, brief, &FaultInjection::default());
        let ended = reasoner.ask(propose).await.unwrap();
        assert!(matches!(ended, Err(RunError::Ending)), "{ended:?}");
        recorder.flush().await.unwrap();
        let store = store::open_read_only(&database).unwrap();
        assert_eq!(journal::taught(&store, "r", 1).unwrap().len(), 1);
        assert_eq!(journal::taught_tokens(&store, "r").unwrap(), 30);
    });
}
