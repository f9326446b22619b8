//! Laws L1 and L8: a run whose daemon and engine are killed with `kill -9` at any moment goes on, loses nothing that was
//! acknowledged, does nothing twice, and ends in the weights of an uninterrupted one.
//!
//! `DEMASK_KILLS` says how many kills (6), `DEMASK_KILL_SEED` when they fall (1); `tests/benches/kills.sh` asks for fifty.
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::Path;
use std::time::Duration;

use demask_actors::control::client::Client;
use demask_storage::{Command as Ask, Record, Reply};
use demask_tests::store::rows_as_csv;
use demask_tests::weights::{last_checkpoint, weights_hash};
use demask_tests::{Place, SMOKE, next_event, start, wait_for};

/// Kills in one run: more would keep it from ever getting anywhere.
const KILLS_A_RUN: u32 = 8;
/// Events other than examples (which come in one heap) between two kills, at most.
const EVENTS: u64 = 14;
/// Microseconds between the last of them and the kill, at most: so that kills fall between commits too.
const DELAY_US: u64 = 20_000;

/// SplitMix64: when the kills fall.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }
}

fn from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// The BLAKE3 of the final weights.
fn final_weights(home: &Path, run: &str) -> String {
    weights_hash(&last_checkpoint(home, run))
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

/// What a killed run has told the world so far.
#[derive(Default)]
struct Told {
    last: u64,
    /// Durable records, as the store keeps them.
    bodies: Vec<String>,
    /// Ids of orders that were acknowledged.
    orders: Vec<String>,
    ended: Option<String>,
}

impl Told {
    /// Reads events until enough came or the run ended.
    async fn hear(&mut self, client: &mut Client, mut enough: impl FnMut(&Record) -> bool) {
        while self.ended.is_none() {
            let envelope = next_event(client).await.expect("the daemon went away by itself");
            if envelope.record.logged() {
                self.last = self.last.max(envelope.seq);
                self.bodies.push(serde_json::to_string(&envelope.record).unwrap());
            }
            if let Record::RunEnd(end) = &envelope.record {
                self.ended = Some(format!("{}: {}", end.status, end.reason));
            }
            if enough(&envelope.record) {
                return;
            }
        }
    }

    /// Orders a checkpoint, which changes no result; once acknowledged its row must outlive any kill (L4).
    async fn order(&mut self, client: &mut Client) {
        let id = format!("order-{}", self.orders.len());
        if let Ok(Reply::Accepted { .. }) = client.ask_as(id.clone(), Ask::Checkpoint).await {
            self.orders.push(id);
        }
    }
}

/// Kills the daemon, or its engine only; the connection to whoever is there then.
async fn kill(place: &mut Place, mut client: Client, engine: bool, told: &mut Told) -> Client {
    if engine {
        // Between two engines there is none: wait until there is.
        loop {
            if place.kill_engine() {
                return client;
            }
            let mut looked = false;
            told.hear(&mut client, |_| std::mem::replace(&mut looked, true))
                .await;
            if told.ended.is_some() {
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

/// One run under fire; the place, the run, what it told, how often it was killed.
async fn killed(dice: &mut Dice, kills: u32, first: u32) -> (Place, String, Told, u32) {
    let mut place = Place::default();
    let mut client = place.serve().await;
    client.ask(Ask::Subscribe { since: 0 }).await.unwrap();
    let run = start(&mut client, SMOKE).await;
    let (mut told, mut done) = (Told::default(), 0);
    while done < kills {
        let mut left = 1 + dice.below(EVENTS);
        told.hear(&mut client, |record| {
            left -= u64::from(record.durable() && !matches!(record, Record::Example(_)));
            left == 0
        })
        .await;
        if told.ended.is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_micros(dice.below(DELAY_US))).await;
        client = kill(&mut place, client, (first + done) % 2 == 1, &mut told).await;
        done += 1;
    }
    if !rows_as_csv(&place, "SELECT status FROM v_run").contains("done") {
        told.hear(&mut client, |_| false).await;
        assert!(
            told.ended.as_ref().is_some_and(|end| end.starts_with("done")),
            "{:?}",
            told.ended
        );
    }
    assert_eq!(place.terminate(), Some(0));
    (place, run, told, done)
}

/// Everything that was acknowledged is in the store.
fn nothing_is_lost(place: &Place, told: &Told) {
    let store = demask_storage::store::open_read_only(&place.home().database()).unwrap();
    let kept: std::collections::HashSet<String> =
        demask_storage::events::events_since(&store, 0, u64::MAX >> 1)
            .unwrap()
            .into_iter()
            .map(|envelope| serde_json::to_string(&envelope.record).unwrap())
            .collect();
    for body in &told.bodies {
        assert!(kept.contains(body), "it was acknowledged and is lost: {body}");
    }
    for id in &told.orders {
        let row = format!("SELECT count(*) FROM v_steer WHERE id = '{id}' AND by LIKE '% (test)'");
        assert_eq!(
            count(place, &row),
            1,
            "the order {id} was acknowledged and is lost"
        );
    }
}

/// Nothing was done twice or otherwise than by the uninterrupted run.
fn nothing_differs(place: &Place, run: &str, calm: &Place, calm_run: &str) {
    assert_eq!(
        final_weights(place.path(), run),
        final_weights(calm.path(), calm_run),
        "L8: the same final weights"
    );
    // Rates are the machine's, and ids begin with the run's.
    for sql in [
        "SELECT step, name, value FROM v_metric WHERE name NOT LIKE 'rate/%' ORDER BY name, step",
        "SELECT step, stage, replace(subject, run, '') AS subject, source, score FROM v_lineage ORDER BY 1, 2, 3",
        "SELECT step, number, prompt, text, picture, parts, total, advantage FROM v_rollout ORDER BY 1, replace(sample, run, '')",
        "SELECT round, prompt, text, gate, passed, reason FROM v_trace ORDER BY 1, replace(trace, run, '')",
        "SELECT suite, metric, value, n FROM v_eval ORDER BY 1, 2",
        "SELECT * FROM (SELECT round, source, gate, reason, passed, rejected FROM v_funnel) ORDER BY 1, 2, 3, 4",
    ] {
        assert_eq!(
            rows_as_csv(place, sql),
            rows_as_csv(calm, sql),
            "the same as without a kill: {sql}"
        );
    }
    let litter: Vec<_> = std::fs::read_dir(place.path().join("checkpoints").join(run))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with('.'))
        .collect();
    assert!(
        litter.is_empty(),
        "half-written checkpoints were left: {litter:?}"
    );
}

#[tokio::test(flavor = "current_thread")]
async fn l1_l8_a_killed_run_ends_in_the_weights_of_an_uninterrupted_one() {
    let wanted = u32::try_from(from_environment("DEMASK_KILLS", 6)).unwrap();
    let mut dice = Dice(from_environment("DEMASK_KILL_SEED", 1));
    let (calm, calm_run) = uninterrupted().await;
    let mut done = 0;
    while done < wanted {
        let kills = (wanted - done).min(KILLS_A_RUN);
        let (place, run, told, struck) = killed(&mut dice, kills, done).await;
        nothing_is_lost(&place, &told);
        nothing_differs(&place, &run, &calm, &calm_run);
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
    // The score of a rollout is its reward, that of all else its verifier's; none is made up for a row that is not there.
    let sql = "SELECT count(*) FROM v_lineage WHERE subject NOT IN (SELECT id FROM example UNION SELECT id FROM trace UNION SELECT id FROM sample)";
    assert_eq!(count(&place, sql), 0);
}
