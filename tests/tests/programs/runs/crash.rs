//! Laws L1 and L8: a run whose daemon and engine are killed with `kill -9` at any moment continues, loses nothing that
//! was acknowledged, does nothing twice, and ends with the weights of an uninterrupted one.
//!
//! `DEMASK_KILLS` sets the number of kills (6), `DEMASK_KILL_SEED` their moments (1); `tests/benches/kills.sh` kills in
//! more ways.
#![allow(clippy::unwrap_used, missing_docs)]

use std::time::Duration;

use demask_actors::control::client::Client;
use demask_storage::{Command as Ask, Record};
use demask_tests::acknowledged::Acknowledged;
use demask_tests::dice::Dice;
use demask_tests::likeness::{deeds, differences, litter};
use demask_tests::store::rows_as_csv;
use demask_tests::{Place, SMOKE, start, wait_for};

/// The most kills in one run; with more, it would never make progress.
const KILLS_A_RUN: u32 = 8;
/// The most events between two kills, not counting examples, which arrive in bulk.
const EVENTS: u64 = 14;
/// The most microseconds between the last event and the kill, so that kills also fall between commits.
const DELAY_US: u64 = 20_000;

fn from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

fn count(place: &Place, sql: &str) -> u64 {
    rows_as_csv(place, sql).lines().nth(1).unwrap().parse().unwrap()
}

async fn uninterrupted() -> (Place, String) {
    let mut place = Place::default();
    let mut client = place.serve().await;
    client.ask(Ask::Subscribe { since: 0 }).await.unwrap();
    let run = start(&mut client, SMOKE).await;
    let end = wait_for(&mut client, |record| matches!(record, Record::RunEnd(_)))
        .await
        .unwrap();
    assert!(
        matches!(&end.record, Record::RunEnd(end) if end.status == demask_storage::RunState::Done),
        "{end:?}"
    );
    assert_eq!(place.terminate(), Some(0), "SIGTERM exits 0");
    (place, run)
}

/// Kills the daemon, or only its engine; returns a connection to the daemon that serves afterwards.
async fn kill(place: &mut Place, mut client: Client, engine: bool, told: &mut Acknowledged) -> Client {
    if engine {
        // There is no engine between two engines; wait for the next one.
        loop {
            if place.kill_engine() {
                return client;
            }
            let mut looked = false;
            told.hear(&mut client, |_| std::mem::replace(&mut looked, true))
                .await;
            if told.is_over() {
                return client;
            }
        }
    }
    told.order(&mut client).await;
    place.kill();
    let mut client = place.serve().await;
    let since = told.last.max(1);
    client.ask(Ask::Subscribe { since }).await.unwrap();
    client
}

/// Executes a run with kills; returns the place, the run, what was acknowledged, and the number of kills.
async fn killed(dice: &mut Dice, kills: u32, first: u32) -> (Place, String, Acknowledged, u32) {
    let mut place = Place::default();
    let mut client = place.serve().await;
    client.ask(Ask::Subscribe { since: 0 }).await.unwrap();
    let run = start(&mut client, SMOKE).await;
    let (mut told, mut done) = (Acknowledged::of_runs(1), 0);
    while done < kills {
        let mut left = 1 + dice.below(EVENTS);
        told.hear(&mut client, |record| {
            left -= u64::from(record.is_durable() && !matches!(record, Record::Example(_)));
            left == 0
        })
        .await;
        if told.is_over() {
            break;
        }
        tokio::time::sleep(Duration::from_micros(dice.below(DELAY_US))).await;
        client = kill(&mut place, client, (first + done) % 2 == 1, &mut told).await;
        done += 1;
    }
    told.hear(&mut client, |_| false).await;
    assert!(
        told.ended.values().all(|end| end.starts_with("done")),
        "{:?}",
        told.ended
    );
    assert_eq!(place.terminate(), Some(0));
    (place, run, told, done)
}

/// Kills at pseudo-random moments lose no acknowledged record, change no row or weight, and leave no partial
/// checkpoint.
#[tokio::test(flavor = "current_thread")]
async fn l1_l8_a_killed_run_ends_in_the_weights_of_an_uninterrupted_one() {
    let wanted = u32::try_from(from_environment("DEMASK_KILLS", 6)).unwrap();
    let mut dice = Dice::new(from_environment("DEMASK_KILL_SEED", 1));
    let (calm, run) = uninterrupted().await;
    let calm = deeds(&calm, &run);
    let mut done = 0;
    while done < wanted {
        let kills = (wanted - done).min(KILLS_A_RUN);
        let (place, run, told, struck) = killed(&mut dice, kills, done).await;
        let lost = told.lost(&place);
        assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
        let differences = differences(&deeds(&place, &run), &calm);
        assert!(differences.is_empty(), "not as without a kill: {differences:?}");
        let litter = litter(place.path(), &run);
        assert!(
            litter.is_empty(),
            "half-written checkpoints were left: {litter:?}"
        );
        done += struck;
        println!(
            "{done} of {wanted} kills: {} records and {} orders acknowledged, none lost; the same weights, losses and rows",
            told.bodies.len(),
            told.orders.len()
        );
    }
}

#[tokio::test(flavor = "current_thread")]
async fn l5_every_trained_sequence_names_where_it_comes_from() {
    let (place, _) = uninterrupted().await;
    let trained = count(&place, "SELECT count(*) FROM v_lineage");
    assert!(trained > 50, "{trained} sequences were trained");
    let sql = "SELECT count(*) FROM v_lineage WHERE source IS NULL OR generator IS NULL OR verifier IS NULL";
    assert_eq!(count(&place, sql), 0);
    // The score of a rollout is its reward, that of anything else its verifier's; no score is made up for a missing
    // row.
    let sql = "SELECT count(*) FROM v_lineage WHERE subject NOT IN (SELECT id FROM example UNION SELECT id FROM trace UNION SELECT id FROM sample)";
    assert_eq!(count(&place, sql), 0);
}

/// A daemon that resumes after all training is done writes no further checkpoint.
#[tokio::test]
async fn l1_a_kill_behind_the_last_checkpoint_adds_none() {
    let (undisturbed, _) = uninterrupted().await;
    let checkpoints = |place: &Place| {
        rows_as_csv(
            place,
            "SELECT step, reason, hash FROM v_checkpoint ORDER BY step, at_us",
        )
    };
    let mut place = Place::default();
    let mut client = place.serve().await;
    client.ask(Ask::Subscribe { since: 0 }).await.unwrap();
    start(&mut client, SMOKE).await;
    let trained = rows_as_csv(&undisturbed, "SELECT max(step) FROM v_checkpoint");
    let trained: u64 = trained.lines().nth(1).unwrap().parse().unwrap();
    wait_for(
        &mut client,
        |record| matches!(record, Record::Eval(eval) if eval.step >= trained),
    )
    .await
    .unwrap();
    place.kill();
    let mut client = place.serve().await;
    client.ask(Ask::Subscribe { since: 0 }).await.unwrap();
    wait_for(&mut client, |record| matches!(record, Record::RunEnd(_)))
        .await
        .unwrap();
    assert_eq!(checkpoints(&place), checkpoints(&undisturbed));
    assert_eq!(place.terminate(), Some(0));
}
