//! Each fault of an engine behind a socket by itself, outside a run: after which time the watchdog gives the engine up,
//! that it waits for one which makes progress, and that no answer is used which comes later.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use demask_actors::engine::options::EngineOptions;
use demask_actors::engine::starter::{EngineStarter as _, RunningEngine};
use demask_actors::runtime::fault_injection::FaultInjection;
use demask_api::Request;
use tokio::time::{Instant, sleep};

use crate::faults::{HANGS, Hang, LAST_ACTS, LastAct};
use crate::ground::Ground;
use crate::laboratory::Laboratory;
use crate::schedule::{Schedule, Setting};
use crate::starter::ScriptedStarter;
use crate::world::on_a_clock;

/// Seeds of each fault. Which of two requests hangs depends on it.
const SEEDS: u64 = 6;
/// Time between two requests that wait together; less than the watchdog's interval, more than a request takes.
const OFFSET: Duration = Duration::from_millis(200);
/// A time that only a request with a fault takes.
const LONG: Duration = Duration::from_secs(1);

/// Seconds within which an engine is given up that is asked to exit or hangs, when the user wants the run to end.
const URGENT: RangeInclusive<u64> = 0..=5;

/// Starts an engine with a fault, does some work with it in simulated time, and checks the laws that it sees.
fn with_engine<T>(
    ground: &Arc<Ground>,
    schedule: &Schedule,
    is_urgent: bool,
    work: impl AsyncFnOnce(&dyn RunningEngine) -> T,
) -> T {
    let folder = tempfile::tempdir_in(ground.room()).unwrap();
    let laboratory = Laboratory::of(schedule, ground, folder.path().join("simulated.db"));
    let starter = ScriptedStarter {
        laboratory: Arc::clone(&laboratory),
        faults: FaultInjection::default(),
    };
    let options = EngineOptions::default();
    if is_urgent {
        options.urgency.set();
    }
    let done = on_a_clock(async {
        let engine = starter.start(&options).await.unwrap();
        work(&*engine).await
    });
    let laboratory = laboratory.lock().unwrap();
    assert!(
        laboratory.violations.is_empty(),
        "{schedule:?}, urgent: {is_urgent}: {:?}\n{}",
        laboratory.violations,
        laboratory.log.join("\n")
    );
    done
}

/// How long a request took, and whether it was answered, or else why not.
type Outcome = (Duration, Result<(), String>);

async fn asked(engine: &dyn RunningEngine) -> Outcome {
    let began = Instant::now();
    let request = Request::SetReference { checkpoint: None };
    let answer = engine.ask(&request, &mut |_| ()).await;
    let answer = answer.map(drop).map_err(|failure| failure.to_string());
    (began.elapsed(), answer)
}

/// Asks an engine for two answers at a time until a request takes long, and returns both outcomes.
async fn until_it_hangs(engine: &dyn RunningEngine) -> [Outcome; 2] {
    for _ in 0..1_000 {
        let later = async {
            sleep(OFFSET).await;
            asked(engine).await
        };
        let (first, second) = tokio::join!(asked(engine), later);
        if first.0.max(second.0) > LONG {
            return [first, second];
        }
    }
    panic!("it never hangs")
}

/// Returns the seconds within which an engine is given up that nobody stops; `None` if it is waited for.
fn given_up_within(hang: Hang) -> Option<RangeInclusive<u64>> {
    match hang {
        Hang::Silent => Some(28..=34),
        Hang::SilentUntilKilled | Hang::Unkillable => Some(28..=37),
        Hang::Endless | Hang::EndlessUntilKilled => Some(118..=125),
        Hang::Slow | Hang::Pauses => None,
    }
}

#[test]
fn l10_each_way_to_hang_is_given_up_in_time_and_no_later_answer_is_used() {
    let ground = Ground::prepare(Setting::Watched);
    for (hang, is_urgent) in HANGS.into_iter().flat_map(|hang| [(hang, false), (hang, true)]) {
        let within = match is_urgent {
            true => (hang != Hang::Slow).then_some(URGENT),
            false => given_up_within(hang),
        };
        for seed in 0..SEEDS {
            let schedule = Schedule {
                seed,
                hangs: vec![hang],
                ..Schedule::calm(Setting::Watched)
            };
            let both = with_engine(&ground, &schedule, is_urgent, until_it_hangs);
            let told = format!("{hang:?}, urgent: {is_urgent}, seed {seed}: {both:?}");
            let long = both.iter().filter(|(took, _)| *took > LONG);
            let Some(within) = &within else {
                assert!(both.iter().all(|(_, answer)| answer.is_ok()), "{told}");
                continue;
            };
            assert!(long.clone().all(|(_, answer)| answer.is_err()), "{told}");
            let first = long.clone().map(|(took, _)| took.as_secs()).min().unwrap();
            assert!(within.contains(&first), "{told}, expected {within:?} s");
            let mut reasons = long.filter_map(|(_, answer)| answer.as_ref().err());
            assert!(reasons.any(|why| why.contains("it was abandoned")), "{told}");
        }
    }
}

/// An engine that does not exit is killed, and a stop waits for none of them.
#[test]
fn l10_an_engine_that_does_not_exit_when_it_is_asked_is_killed_in_time() {
    let ground = Ground::prepare(Setting::Watched);
    for act in LAST_ACTS {
        let usual = match act {
            LastAct::Dies => 0..=0,
            LastAct::Stays => 10..=10,
            LastAct::Silent => 28..=34,
            LastAct::Endless => 118..=124,
        };
        for (is_urgent, within) in [(false, usual), (true, URGENT)] {
            let schedule = Schedule {
                last_acts: vec![act],
                ..Schedule::calm(Setting::Watched)
            };
            let took = with_engine(&ground, &schedule, is_urgent, async |engine| {
                let began = Instant::now();
                engine.stop().await;
                began.elapsed()
            });
            let is_kept = within.contains(&took.as_secs());
            assert!(
                is_kept,
                "{act:?}, urgent: {is_urgent}: {took:?}, expected {within:?} s"
            );
        }
    }
}
