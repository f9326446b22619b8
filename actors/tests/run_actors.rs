//! The curator and the scorer as the supervisor creates them. After an actor dies, its successor gives the
//! same answers.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use demask_actors::pipeline::curation::curator::{
    Curator, CuratorSettings, Demand, Restore, Take, TraceOutcome,
};
use demask_actors::pipeline::curation::mixture::Accepted;
use demask_actors::pipeline::curation::training_example::TrainingExample;
use demask_actors::pipeline::run_error::RunError;
use demask_actors::pipeline::scorer::{Scorer, Verify};
use demask_actors::profile::Profile;
use demask_actors::runtime::fault_injection::FaultInjection;
use demask_actors::runtime::recorder::Recorder;
use demask_actors::runtime::supervisor::{Address, RestartBudget, SupervisorHandle};
use demask_rewards::benchmarks::Suite;
use demask_rewards::judge::Judge;

const PROFILE: &str = include_str!("../profiles/smoke.toml");

fn supervisor(test: impl AsyncFnOnce(SupervisorHandle, Recorder)) {
    office_with(RestartBudget::default(), test);
}

fn office_with(budget: RestartBudget, test: impl AsyncFnOnce(SupervisorHandle, Recorder)) {
    let folder = tempfile::tempdir().unwrap();
    actix::System::new().block_on(async {
        let (recorder, _thread) = Recorder::start(&folder.path().join("d.db")).unwrap();
        test(SupervisorHandle::open(recorder.clone(), budget), recorder).await;
    });
}

fn curator(supervisor: &SupervisorHandle, recorder: &Recorder, faults: &FaultInjection) -> Address<Curator> {
    let brief = CuratorSettings {
        profile: Arc::new(Profile::parse(PROFILE, "smoke").unwrap()),
        run: "r".into(),
        recorder: recorder.clone(),
        room: std::env::temp_dir(),
        control: Arc::default(),
    };
    Curator::spawn(supervisor, brief, faults.clone())
}

fn draw(step: u64) -> Demand {
    Demand {
        step,
        size: 6,
        mix: BTreeMap::from([("draw".into(), 0.0)]),
        only: Vec::new(),
        think_share: 0.5,
    }
}

async fn drawn(curator: &Address<Curator>, step: u64) -> Vec<String> {
    let picked = curator.ask(draw(step)).await.unwrap().unwrap();
    picked.into_iter().map(|picked| picked.example.id).collect()
}

fn accepted(picked: &TrainingExample) -> Accepted {
    Accepted {
        example: picked.example.clone(),
        generator: "weights:1".into(),
        trace: String::new(),
    }
}

fn restarts(supervisor: &SupervisorHandle, name: &str) -> u64 {
    let views = supervisor.roster.views();
    views.iter().find(|view| view.name == name).unwrap().restarts
}

#[test]
fn l1_l8_a_curator_that_died_is_followed_by_one_that_draws_the_same() {
    supervisor(async |supervisor, recorder| {
        let calm = curator(&supervisor, &recorder, &FaultInjection::default());
        let (first, third) = (drawn(&calm, 1).await, drawn(&calm, 3).await);
        assert_ne!(first, third);
        let faults = FaultInjection::at(&[("curator", 3)]);
        let fragile = curator(&supervisor, &recorder, &faults);
        assert_eq!(drawn(&fragile, 1).await, first);
        let before = restarts(&supervisor, "curator");
        assert_eq!(drawn(&fragile, 3).await, third);
        assert_eq!((faults.left(), restarts(&supervisor, "curator")), (0, before + 1));
    });
}

/// The pool of accepted traces survives the death of the curator at step 9. Repeated and duplicate traces
/// are taken once, so repeating a step gives the same outcomes.
#[test]
fn l1_the_pool_outlives_a_curator_and_the_same_traces_are_taken_once() {
    supervisor(async |supervisor, recorder| {
        let faults = FaultInjection::at(&[("curator", 9)]);
        let curator = curator(&supervisor, &recorder, &faults);
        let picked = curator.ask(draw(1)).await.unwrap().unwrap();
        curator
            .ask(Restore(vec![accepted(&picked[0])]))
            .await
            .unwrap()
            .unwrap();
        let take = |step| Take {
            step,
            after: 1,
            candidates: vec![accepted(&picked[1]), accepted(&picked[0]), accepted(&picked[1])],
        };
        for step in [8, 8, 9] {
            let taken = curator.ask(take(step)).await.unwrap().unwrap();
            assert_eq!(
                taken.outcomes,
                [TraceOutcome::Fresh, TraceOutcome::Known, TraceOutcome::Known],
                "step {step}"
            );
            assert_eq!(taken.pool.len(), 2);
        }
        assert_eq!(faults.left(), 0);
    });
}

#[test]
fn l6_a_trace_that_repeats_a_benchmark_is_not_taken() {
    supervisor(async |supervisor, recorder| {
        let curator = curator(&supervisor, &recorder, &FaultInjection::default());
        let picked = curator.ask(draw(1)).await.unwrap().unwrap();
        let tested = Suite::find("tabletop-sums").unwrap().examples(Some(1)).unwrap();
        let mut trace = accepted(&picked[0]);
        trace.example.reasoning = Some(tested[0].prompt.clone());
        let take = Take {
            step: 1,
            after: 0,
            candidates: vec![trace],
        };
        let taken = curator.ask(take).await.unwrap().unwrap();
        assert!(
            matches!(&taken.outcomes[..], [TraceOutcome::Overlaps(why)] if why.contains("tabletop-sums")),
            "{:?}",
            taken.outcomes
        );
        assert!(taken.pool.is_empty());
    });
}

#[test]
fn l1_a_scorer_that_died_is_followed_by_one_that_says_the_same() {
    supervisor(async |supervisor, _| {
        let faults = FaultInjection::at(&[("scorer", 2)]);
        let scorer = Scorer::spawn(&supervisor, Judge::default(), None, None, faults.clone()).unwrap();
        let traces = [
            "<think>1 + 1 = 2.</think>2",
            "<think>1 + 1 = 3.</think>2",
            "2",
            "<think>1 + 1 = 2.</think>5",
        ];
        let verify = Verify {
            step: 2,
            traces: Arc::new(traces.map(|text| (text.to_owned(), "2".to_owned())).to_vec()),
        };
        let flaws = scorer.ask(verify).await.unwrap().unwrap();
        let sound: Vec<bool> = flaws.iter().map(Option::is_none).collect();
        assert_eq!(sound, [true, false, false, false]);
        assert_eq!((faults.left(), restarts(&supervisor, "scorer")), (0, 1));
    });
}

#[test]
fn an_actor_that_keeps_dying_is_given_up_and_who_asks_is_told() {
    let budget = RestartBudget {
        restarts: 2,
        first_wait: Duration::from_millis(1),
        ..RestartBudget::default()
    };
    office_with(budget, async |supervisor, recorder| {
        let places: Vec<(&str, u64)> = vec![("curator", 1); 20];
        let faults = FaultInjection::at(&places);
        let curator = curator(&supervisor, &recorder, &faults);
        let error = RunError::from(curator.ask(draw(1)).await.unwrap_err());
        assert!(
            !error.is_retryable() && error.to_string().contains("curator"),
            "{error}"
        );
        assert_eq!((faults.left(), restarts(&supervisor, "curator")), (17, 2));
    });
}
