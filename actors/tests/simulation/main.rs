//! The daemon and all its actors in simulated time: a scripted engine, a slow disk, users who steer the run,
//! and kills, all determined by a seed. The laws are then checked on what is left. Of L2, only a lost permit
//! is detected, as a run that does not end. L9 is not tested here.
//!
//! The clock is tokio's paused clock. When every task waits, the clock jumps to the next one to wake, so
//! hours take milliseconds. Everything runs on one thread, so the schedule of a seed is the same each time.
//!
//! A setting is what a run uses beside its engine; each has a profile, faults and an undisturbed run of its own:
//!
//! - `Alone`: one engine does everything;
//! - `Disk`: as `Alone`, on a disk that does not answer, or is full, for a while when the user stops the run or the daemon;
//! - `Samplers`: two engines only sample, one step ahead of the engine that trains;
//! - `Freshest`: two engines only sample, with the newest weights, up to two steps ahead;
//! - `Rewards`: an external reward scores rollouts and a benchmark;
//! - `Teacher`: a teacher writes most of the traces;
//! - `Ranks`: three ranks train, one of them may be lost for good, and the run goes on with two;
//! - `Watched`: as `Alone`, with the engine behind a socket, where it falls silent, computes without end, is slow or
//!   pauses, answers while it is being killed, cannot be killed at once, or does not exit when it is asked.
//!
//! In the setting `Watched` the client of an engine, its watchdog and the end of its process are the real ones. Nobody
//! is waited for in real time, because both ends of the socket are on the simulation's thread. In the other settings
//! an engine that hangs is given up by its double, after the limits of the watchdog. Outside both: a process that is
//! seen to be suspended (`/proc`), the start of a process, its last words, other ranks, and engines that join.
//!
//! Processes and sockets of rewards and teachers wait in real time, so each is scripted behind the trait of its
//! transport. `external_rewards/process.rs`, `external_rewards/address.rs` and `teacher/transport.rs` are tested with
//! real ones elsewhere. `judge.rs` has a judge model outside a run, which is asked by the teacher's client.
//!
//! `DEMASK_SCHEDULES=100000 cargo test --release --test simulation` runs more schedules. `DEMASK_SCHEDULE=41`
//! runs a single one of each setting and prints everything that the daemon logs. The name of a test chooses a setting.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod completion;
mod drawn;
mod engine;
mod faults;
mod ground;
mod hangs;
mod judge;
mod laboratory;
mod laws;
mod people;
mod rewards;
mod schedule;
mod served;
mod starter;
mod teacher;
mod vitals;
mod weights;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use demask_actors::runtime::fault_injection::SeededBug;

use ground::Ground;
use laboratory::SMALLER;
use schedule::{Bug, LEAST_RANKS, Schedule, Setting};
use world::Story;

/// Number of schedules of a run with one engine in an ordinary test run.
const SCHEDULES: u64 = 1_000;
/// Number of schedules of each other setting in an ordinary test run.
const FEWER_SCHEDULES: u64 = 300;
/// Number of schedules within which a seeded bug must be found.
const FOUND_WITHIN: u64 = 50;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// Runs the schedules of these seeds on as many threads as there are processors, until three have violated a
/// law. Returns those that did, and the total number of daemon lives.
fn live_through(ground: &Arc<Ground>, seeds: std::ops::Range<u64>, bug: Option<Bug>) -> (Vec<Story>, u64) {
    let next = AtomicU64::new(seeds.start);
    let lives = AtomicU64::new(0);
    let broken = std::sync::Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Relaxed);
                    if seed >= seeds.end || broken.lock().unwrap().len() >= 3 {
                        return;
                    }
                    let lived = || world::live_through(&Schedule::of(seed, ground.setting, bug), ground);
                    let story =
                        catch_unwind(AssertUnwindSafe(lived)).unwrap_or_else(|_| Story::of_panic(seed));
                    lives.fetch_add(story.lives, Relaxed);
                    if !story.violations.is_empty() {
                        broken.lock().unwrap().push(story);
                    }
                }
            });
        }
    });
    (broken.into_inner().unwrap(), lives.into_inner())
}

fn told(stories: &[Story]) -> String {
    let one = |story: &Story| {
        format!(
            "schedule {} (DEMASK_SCHEDULE={0} lives through it again):\n  {}\n{}",
            story.seed,
            story.violations.join("\n  "),
            story.log.join("\n")
        )
    };
    stories.iter().map(one).collect::<Vec<_>>().join("\n\n")
}

/// Asserts that no schedule of a setting violates a law.
fn hold(setting: Setting, schedules: u64) {
    let ground = Ground::prepare(setting);
    let seeds = match number("DEMASK_SCHEDULE") {
        Some(seed) => {
            // Another test of this program may have set it already.
            tracing_subscriber::fmt()
                .with_writer(std::io::stderr)
                .try_init()
                .ok();
            seed..seed + 1
        }
        None => 0..number("DEMASK_SCHEDULES").unwrap_or(schedules),
    };
    let count = seeds.end - seeds.start;
    let (broken, lives) = live_through(&ground, seeds, None);
    assert!(broken.is_empty(), "{}", told(&broken));
    println!("{setting:?}: {count} schedules, {lives} lives of daemons, no law broken");
}

#[test]
fn l1_l3_to_l8_and_l10_hold_whatever_dies_waits_or_is_asked_and_whenever() {
    hold(Setting::Alone, SCHEDULES);
}

#[test]
fn l1_to_l8_and_l10_hold_when_sampling_engines_die_hang_or_answer_late_while_the_trainer_goes_on() {
    hold(Setting::Samplers, FEWER_SCHEDULES);
}

#[test]
fn l1_l3_to_l8_and_l10_hold_when_the_disk_is_silent_or_full_while_a_person_stops_the_run_or_the_daemon() {
    hold(Setting::Disk, FEWER_SCHEDULES);
}

/// Which weights draw a group depends on how fast the engines are; no group is staler than the bound, and everything
/// else is as in the undisturbed run.
#[test]
fn l1_to_l8_and_l10_hold_when_the_freshest_weights_draw_and_no_group_is_staler_than_the_bound() {
    hold(Setting::Freshest, FEWER_SCHEDULES);
}

#[test]
fn l1_to_l8_and_l10_hold_when_an_external_reward_dies_is_silent_or_answers_wrongly_and_comes_back() {
    hold(Setting::Rewards, FEWER_SCHEDULES);
}

#[test]
fn l1_to_l8_and_l10_hold_when_a_teacher_is_silent_late_failing_or_rambling() {
    hold(Setting::Teacher, FEWER_SCHEDULES);
}

#[test]
fn l1_l3_to_l8_l10_and_l11_hold_when_a_rank_is_lost_for_good_and_whatever_else_dies() {
    hold(Setting::Ranks, FEWER_SCHEDULES);
}

/// The engine is given up neither too early nor too late, and a stop takes effect within seconds. An engine that came
/// out of a long pause keeps the longer limits that `engine/liveness.rs` gives it.
#[test]
fn l1_l3_to_l8_and_l10_hold_when_the_watchdog_gives_up_an_engine_that_hangs_and_waits_for_one_that_is_slow() {
    hold(Setting::Watched, FEWER_SCHEDULES);
}

/// A rank that is lost in an otherwise calm run makes the world smaller by one, and nothing else changes.
#[test]
fn l11_a_run_that_loses_a_rank_for_good_goes_on_with_one_rank_less() {
    let ground = Ground::prepare(Setting::Ranks);
    let schedule = Schedule {
        lost_rank: Some(8),
        ..Schedule::calm(Setting::Ranks)
    };
    let story = world::live_through(&schedule, &ground);
    assert!(
        story.violations.is_empty(),
        "{}",
        told(std::slice::from_ref(&story))
    );
    let smaller = format!("{SMALLER} {LEAST_RANKS}");
    let begun = story.log.iter().filter(|line| **line == smaller).count();
    assert_eq!(begun, 1, "{}", story.log.join("\n"));
}

/// Asserts that the simulation finds a seeded bug, as a violation of `law`. A simulation that finds no bug
/// proves nothing.
fn finds(setting: Setting, bug: Bug, law: &str) {
    let ground = Ground::prepare(setting);
    let (broken, _) = live_through(&ground, 0..FOUND_WITHIN, Some(bug));
    let found = broken.iter().flat_map(|story| &story.violations);
    let found: Vec<&String> = found.filter(|violation| violation.starts_with(law)).collect();
    assert!(
        !found.is_empty(),
        "{bug:?} was not found as a violation of {law}: {}",
        told(&broken)
    );
}

#[test]
fn a_permit_that_is_lost_is_found() {
    finds(Setting::Alone, Bug::Actors(SeededBug::LostPermit), "L10");
    finds(Setting::Freshest, Bug::Actors(SeededBug::LostPermit), "L10");
}

#[test]
fn a_group_that_is_used_twice_is_found() {
    finds(Setting::Alone, Bug::Actors(SeededBug::DoubleUse), "L5");
    finds(Setting::Freshest, Bug::Actors(SeededBug::DoubleUse), "L5");
}

#[test]
fn a_stop_that_is_acknowledged_and_lost_is_found() {
    finds(Setting::Disk, Bug::Actors(SeededBug::LostStop), "L4");
}

#[test]
fn weights_that_draw_in_place_of_others_are_found() {
    finds(Setting::Samplers, Bug::Actors(SeededBug::OtherWeights), "L7");
}

#[test]
fn a_failed_reward_that_is_left_out_is_found() {
    finds(Setting::Rewards, Bug::Actors(SeededBug::SkippedReward), "L5");
}

#[test]
fn a_trace_that_is_paid_for_twice_is_found() {
    finds(Setting::Teacher, Bug::Actors(SeededBug::PaidTwice), "L1");
}

#[test]
fn a_watchdog_that_takes_any_heartbeat_for_progress_is_found() {
    let law = "L10: a stop waits for something that hangs";
    finds(Setting::Watched, Bug::Actors(SeededBug::AnyHeartbeat), law);
}

#[test]
fn an_audit_row_that_comes_late_is_found() {
    finds(Setting::Alone, Bug::LateRows, "L4");
    finds(Setting::Disk, Bug::LateRows, "L4");
}
