//! Asynchronous rollouts through the built programs: sampling engines draw groups while a step is trained.
#![allow(clippy::unwrap_used, missing_docs)]

use demask_storage::{Command as Ask, Record, RunState};
use demask_tests::processes::sampling_engines;
use demask_tests::profile::smoke_with_stages;
use demask_tests::store::{rows_as_csv, rows_in};
use demask_tests::weights::{last_checkpoint, weights_hash};
use demask_tests::{Place, ended, said, start, subscribed, undisturbed, wait_for};

/// The step at which the stage of policy steps begins, and its number of steps.
const ALIGN: (u64, u64) = (3, 7);

/// Returns a profile of policy steps with checkpoints; `samplers` engines draw groups from weights up to `staleness`
/// steps old.
fn profile(samplers: usize, staleness: u64) -> String {
    smoke_with_stages(&format!(
        "[rollouts]\nsamplers = {samplers}\nstaleness = {staleness}\nthreads = 1\n\
         [[stage]]\nname = \"pretrain\"\nkind = \"pretrain\"\nsteps = 3\nbatch = 4\n\
         [[stage]]\nname = \"unigrpo\"\nkind = \"align\"\nsteps = 7\nbatch = 3\ngroup = 3\nlearning_rate = 1e-3\n\
         objective = {{ clip = 0.2, kl = 0.01, inner_steps = 2 }}\n"
    ))
}

/// The process that is killed during the run.
#[derive(Clone, Copy, Debug)]
enum Killed {
    Daemon,
    /// The engine that only samples.
    Sampler,
}

/// Sends a signal to the daemon's sampling engine.
fn signal_sampler(place: &Place, signal: i32) {
    let daemon = i32::try_from(place.pid().unwrap()).unwrap();
    let sampler = sampling_engines(daemon)[0];
    // SAFETY: the signal goes to a child of our child.
    assert_eq!(unsafe { libc::kill(sampler, signal) }, 0);
}

/// Returns the number of folders of published weights.
fn published(place: &Place) -> usize {
    let runs = std::fs::read_dir(place.path().join("checkpoints"))
        .unwrap()
        .flatten();
    let policies = runs.filter_map(|run| std::fs::read_dir(run.path().join("policies")).ok());
    policies.flatten().count()
}

/// Returns the hash of the final weights of a run in which a process was killed. Asserts that every step's groups were
/// drawn with the weights of `staleness` steps before, or of the stage's start.
async fn killed(whom: Killed, after: u64, staleness: u64) -> String {
    let mut place = Place::default();
    let mut client = subscribed(&mut place).await;
    let run = start(&mut client, &profile(1, staleness)).await;
    wait_for(
        &mut client,
        |record| matches!(record, Record::Checkpoint(saved) if saved.step >= after),
    )
    .await;
    match whom {
        Killed::Daemon => {
            place.kill();
            let count = published(&place) as u64;
            assert!(
                count >= staleness && count <= 2 * staleness + 1,
                "{count} folders"
            );
            client = subscribed(&mut place).await;
        }
        Killed::Sampler => signal_sampler(&place, libc::SIGKILL),
    }
    assert_eq!(ended(&mut client).await, RunState::Done, "{whom:?}");
    let (start, steps) = ALIGN;
    let wanted: Vec<Vec<serde_json::Value>> = (0..steps)
        .map(|done| vec![(start + done).into(), done.min(staleness).into()])
        .collect();
    let groups = "SELECT DISTINCT step, staleness FROM v_rollout ORDER BY step";
    assert_eq!(rows_in(place.path(), groups), wanted, "{whom:?}");
    let steps =
        "SELECT step, CAST(value AS INTEGER) FROM v_metric WHERE name = 'async/staleness' ORDER BY step";
    assert_eq!(rows_in(place.path(), steps), wanted, "{whom:?}");
    weights_hash(&last_checkpoint(place.path(), &run))
}

#[tokio::test]
async fn l8_groups_are_the_same_whoever_draws_them() {
    let mut place = Place::default();
    let alone = undisturbed(&mut place, &profile(0, 0)).await;
    for samplers in [1, 2] {
        let mut place = Place::default();
        let beside = undisturbed(&mut place, &profile(samplers, 0)).await;
        assert_eq!(beside, alone, "{samplers} sampling engines");
    }
}

#[tokio::test]
async fn l1_l8_groups_that_are_drawn_ahead_are_the_same_for_any_number_of_engines_and_through_kills() {
    let mut place = Place::default();
    let one = undisturbed(&mut place, &profile(1, 1)).await;
    assert_eq!(published(&place), 0, "what was published is removed at the end");
    assert_ne!(
        one,
        undisturbed(&mut Place::default(), &profile(0, 0)).await,
        "older weights draw other groups"
    );
    assert_eq!(
        one,
        undisturbed(&mut Place::default(), &profile(2, 1)).await,
        "two engines"
    );
    for (whom, after) in [(Killed::Daemon, 6), (Killed::Sampler, 6)] {
        assert_eq!(one, killed(whom, after, 1).await, "{whom:?}");
    }
}

#[tokio::test]
async fn l1_l8_groups_of_several_steps_ahead_are_the_same_for_any_number_of_engines_and_through_kills() {
    let one = undisturbed(&mut Place::default(), &profile(1, 1)).await;
    let three = undisturbed(&mut Place::default(), &profile(1, 3)).await;
    assert_ne!(three, one, "older weights draw other groups");
    assert_eq!(
        three,
        undisturbed(&mut Place::default(), &profile(2, 3)).await,
        "two engines"
    );
    // After checkpoint 6 the groups of the steps 6 to 8 are drawn again by the weights of the steps 3 to 5.
    for whom in [Killed::Daemon, Killed::Sampler] {
        assert_eq!(three, killed(whom, 6, 3).await, "{whom:?}");
    }
}

/// With resampling a step draws further groups itself, with the same older weights, while those of later steps are
/// drawn.
#[tokio::test]
async fn l8_prompts_in_place_of_others_are_drawn_by_the_same_older_weights() {
    let profile = |samplers| profile(samplers, 2).replace("group = 3", "group = 2\nresample = 2");
    let one = undisturbed(&mut Place::default(), &profile(1)).await;
    let mut place = Place::default();
    assert_eq!(one, undisturbed(&mut place, &profile(2)).await);
    let mixed =
        "SELECT count(*) FROM (SELECT step FROM v_rollout GROUP BY step HAVING count(DISTINCT weights) > 1)";
    assert_eq!(rows_in(place.path(), mixed), [[0]], "one policy a step");
    let more =
        "SELECT count(*) > 0 FROM (SELECT step FROM v_rollout GROUP BY step HAVING max(\"group\") > 2)";
    assert_eq!(
        rows_in(place.path(), more),
        [[1]],
        "some prompts were drawn in place of others"
    );
}

#[tokio::test]
async fn l3_a_knob_that_turns_has_what_was_drawn_ahead_drawn_again() {
    for staleness in [1, 3] {
        a_knob_turns(staleness).await;
    }
}

/// Groups that were drawn ahead are drawn again when a knob of sampling changes, so that the change takes
/// effect at the step that its row names (L3).
async fn a_knob_turns(staleness: u64) {
    let mut place = Place::default();
    let mut client = subscribed(&mut place).await;
    start(&mut client, &profile(1, staleness)).await;
    wait_for(
        &mut client,
        |record| matches!(record, Record::Checkpoint(saved) if saved.step >= 6),
    )
    .await;
    let turned = Ask::Set {
        key: "temperature".into(),
        value: 0.5,
    };
    client.ask(turned).await.unwrap();
    assert_eq!(ended(&mut client).await, RunState::Done);
    let steps = "SELECT count(DISTINCT step) FROM v_rollout";
    assert!(rows_as_csv(&place, steps).contains("\n7"), "a group a step");
    // Until a command takes effect, the weights are those of an undisturbed run. The first groups that differ
    // are therefore the first ones drawn at the new temperature.
    let mut undisturbed_place = Place::default();
    undisturbed(&mut undisturbed_place, &profile(1, staleness)).await;
    let drawn = |place: &Place| {
        let rows = rows_as_csv(
            place,
            "SELECT step, text, picture FROM v_rollout ORDER BY step, \"group\", number",
        );
        rows.lines().skip(1).map(str::to_owned).collect::<Vec<_>>()
    };
    let (here, there) = (drawn(&place), drawn(&undisturbed_place));
    let first = here.iter().zip(&there).find(|(here, there)| here != there);
    let first = first.map(|(here, _)| here.split(',').next().unwrap().to_owned());
    let applied = rows_as_csv(
        &place,
        "SELECT applied_step FROM v_steer WHERE key = 'temperature'",
    );
    assert_eq!(first.as_deref(), applied.lines().nth(1), "{here:#?} {there:#?}");
}

/// A suspended sampling engine does not respond, so the run's next groups never arrive. The user can still
/// stop the run.
#[tokio::test]
async fn l10_a_run_whose_sampling_engine_hangs_can_be_stopped_and_goes_on_to_the_same_weights() {
    let mut place = Place::default();
    let mut client = subscribed(&mut place).await;
    let run = start(&mut client, &profile(1, 1)).await;
    wait_for(
        &mut client,
        |record| matches!(record, Record::Checkpoint(saved) if saved.step >= 4),
    )
    .await;
    signal_sampler(&place, libc::SIGSTOP);
    let stopped = place.run(&["stop"]);
    assert!(stopped.status.success(), "{}", said(&stopped));
    assert_eq!(ended(&mut client).await, RunState::Stopped);
    let resumed = place.run(&["resume", &run, "--follow"]);
    assert!(resumed.status.success(), "{}", said(&resumed));
    assert_eq!(
        weights_hash(&last_checkpoint(place.path(), &run)),
        undisturbed(&mut Place::default(), &profile(1, 1)).await
    );
    assert_eq!(place.terminate(), Some(0));
}
