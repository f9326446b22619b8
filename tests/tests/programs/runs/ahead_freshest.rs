//! Rollouts in mode `freshest` through the built programs: the newest weights draw a group when it is admitted, and
//! none is older than the bound.
#![allow(clippy::unwrap_used, missing_docs)]

use demask_storage::{ActorState, Record, RunState};
use demask_tests::processes::{sampling_engines, training_engines};
use demask_tests::profile::smoke_with_stages;
use demask_tests::store::rows_in;
use demask_tests::{Place, ended, said, start, subscribed, undisturbed, wait_for};
use serde_json::{Value, json};

const STALENESS: u64 = 2;

/// Returns a profile of policy steps from step 3 to step 22, whose groups one engine draws.
fn profile(mode: &str) -> String {
    smoke_with_stages(&format!(
        "[rollouts]\nsamplers = 1\nstaleness = {STALENESS}\nmode = \"{mode}\"\nthreads = 1\n\
         [[stage]]\nname = \"pretrain\"\nkind = \"pretrain\"\nsteps = 3\nbatch = 4\n\
         [[stage]]\nname = \"unigrpo\"\nkind = \"align\"\nsteps = 20\nbatch = 4\ngroup = 2\nlearning_rate = 1e-3\n\
         objective = {{ clip = 0.2, kl = 0.01, inner_steps = 2 }}\n"
    ))
}

/// Sends a signal to the training engine or to the sampling engine.
fn signal(place: &Place, sampler: bool, signal: i32) {
    let daemon = i32::try_from(place.pid().unwrap()).unwrap();
    let engines = if sampler {
        sampling_engines(daemon)
    } else {
        training_engines(daemon)
    };
    // SAFETY: the signal goes to a child of our child.
    assert_eq!(unsafe { libc::kill(engines[0], signal) }, 0);
}

fn number(place: &Place, sql: &str) -> u64 {
    rows_in(place.path(), sql)[0][0].as_u64().unwrap()
}

/// The training engine stands still for a while, so that the sampling engine comes as far ahead as it may. Then the
/// sampling engine stands still, so that the trainer comes as close to it as it can.
#[tokio::test]
async fn no_group_is_drawn_by_weights_older_than_the_bound() {
    let mut place = Place::default();
    let mut client = subscribed(&mut place).await;
    start(&mut client, &profile("freshest")).await;
    let saved =
        |at: u64| move |record: &Record| matches!(record, Record::Checkpoint(saved) if saved.step >= at);
    wait_for(&mut client, saved(6)).await;
    signal(&place, false, libc::SIGSTOP);
    // The Rollout has done what it was asked for and is asked for nothing more: the bound is reached.
    let mut seen = 0;
    wait_for(&mut client, |record| {
        if let Record::Actor(actor) = record
            && actor.name == "rollout"
        {
            let is_idle = actor.state == ActorState::Idle && actor.queue.0 == 0;
            seen = if is_idle { seen + 1 } else { 0 };
        }
        seen >= 3
    })
    .await;
    signal(&place, false, libc::SIGCONT);
    wait_for(&mut client, saved(9)).await;
    signal(&place, true, libc::SIGSTOP);
    wait_for(
        &mut client,
        |record| matches!(record, Record::Overview(overview) if overview.detail.starts_with("drawing")),
    )
    .await;
    signal(&place, true, libc::SIGCONT);
    assert_eq!(ended(&mut client).await, RunState::Done);
    let oldest = number(&place, "SELECT max(staleness) FROM v_rollout");
    assert!((1..=STALENESS).contains(&oldest), "{oldest}");
    let groups = "SELECT count(DISTINCT step || '/' || \"group\") FROM v_rollout";
    assert_eq!(number(&place, groups), 80, "no group was lost or drawn twice");
    // A step that trained on older groups weighs their tokens by the policies that drew them.
    let weighted = "SELECT count(*) FROM v_metric WHERE name = 'async/behaviour_weight' AND step IN
        (SELECT step FROM v_rollout WHERE staleness > 0)";
    let stale = "SELECT count(DISTINCT step) FROM v_rollout WHERE staleness > 0";
    assert_eq!(number(&place, weighted), number(&place, stale));
    assert_eq!(rows_in(place.path(), "SELECT reproducible FROM v_run"), [[0]]);
}

/// A group's version is that of the weights that its step began with so many steps before.
#[tokio::test]
async fn l1_a_group_names_the_weights_that_drew_it_also_after_a_kill() {
    let mut place = Place::default();
    let mut client = subscribed(&mut place).await;
    start(&mut client, &profile("freshest")).await;
    wait_for(
        &mut client,
        |record| matches!(record, Record::Checkpoint(saved) if saved.step >= 6),
    )
    .await;
    place.kill();
    client = subscribed(&mut place).await;
    assert_eq!(ended(&mut client).await, RunState::Done);
    // A pretraining step is one optimizer step, a policy step two.
    let wrong =
        "SELECT step, staleness, weights FROM v_rollout WHERE weights <> 3 + 2 * (step - 3 - staleness)";
    assert_eq!(rows_in(place.path(), wrong), Vec::<Vec<Value>>::new());
    assert!(number(&place, "SELECT max(staleness) FROM v_rollout") <= STALENESS);
}

#[tokio::test]
async fn l11_only_a_run_of_fixed_weights_says_that_it_is_reproducible() {
    let mut place = Place::default();
    undisturbed(&mut place, &profile("exact")).await;
    assert_eq!(rows_in(place.path(), "SELECT reproducible FROM v_run"), [[1]]);
}

#[test]
fn a_wrong_mode_or_staleness_is_refused_with_its_name_and_what_is_allowed() {
    let place = Place::default();
    let check = |set: &str, value: &str| {
        let text = profile("freshest").replace(set, value);
        let file = place.path().join("profile.toml");
        std::fs::write(&file, text).unwrap();
        let out = place.run(&["profile", "check", file.to_str().unwrap()]);
        (out.status.code(), said(&out))
    };
    for (set, value, words) in [
        ("\"freshest\"", "\"newest\"", ["newest", "`exact`", "`freshest`"]),
        ("staleness = 2", "staleness = 17", ["staleness", "17", "0 to 16"]),
        ("staleness = 2", "staleness = 0", ["mode", "freshest", "exact"]),
        (
            "samplers = 1",
            "samplers = 0",
            ["staleness", "no sampling engine", "samplers = 1"],
        ),
    ] {
        let (code, said) = check(set, value);
        assert_eq!(code, Some(2), "{said}");
        assert!(words.iter().all(|word| said.contains(word)), "{value}: {said}");
    }
    let (code, said) = check("staleness = 2", "staleness = 16");
    assert_eq!(code, Some(0), "{said}");
    let schema = place.run(&["profile", "schema"]);
    let schema: Value = serde_json::from_slice(&schema.stdout).unwrap();
    let staleness = &schema["properties"]["rollouts"]["properties"]["staleness"];
    assert_eq!(
        (&staleness["minimum"], &staleness["maximum"]),
        (&json!(0), &json!(16))
    );
}
