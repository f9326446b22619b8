//! What a repeatedly killed daemon has acknowledged; at the end, the store must have all of it (law L1).

use std::collections::{BTreeMap, HashSet};

use demask_actors::control::client::Client;
use demask_storage::{Command as Ask, Record, Reply, events, store};

use crate::home::Place;
use crate::runs::next_event;
use crate::store::rows_as_csv;

/// What the daemon of a home has acknowledged so far.
#[derive(Debug, Default)]
pub struct Acknowledged {
    /// The sequence number of the last event.
    pub last: u64,
    /// Durable records in the store's serialisation.
    pub bodies: Vec<String>,
    /// The ids of accepted commands.
    pub orders: Vec<String>,
    /// The final states of the runs that have ended.
    pub ended: BTreeMap<String, String>,
    /// The number of runs that must end.
    runs: usize,
}

impl Acknowledged {
    /// Starts empty, for a home in which `runs` runs will end.
    #[must_use]
    pub fn of_runs(runs: usize) -> Self {
        Self {
            runs,
            ..Self::default()
        }
    }

    /// Whether all runs have ended.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.ended.len() >= self.runs
    }

    /// Reads events until `enough` returns true or all runs have ended.
    ///
    /// # Panics
    /// If the daemon goes away.
    pub async fn hear(&mut self, client: &mut Client, mut enough: impl FnMut(&Record) -> bool) {
        while !self.is_over() {
            let envelope = next_event(client).await.expect("the daemon went away by itself");
            if envelope.record.is_logged() {
                self.last = self.last.max(envelope.seq);
                self.bodies
                    .push(serde_json::to_string(&envelope.record).expect("a record is JSON"));
            }
            if let Record::RunEnd(end) = &envelope.record {
                self.ended
                    .insert(end.run.clone(), format!("{}: {}", end.status, end.reason));
            }
            if enough(&envelope.record) {
                return;
            }
        }
    }

    /// Commands a checkpoint, which changes no result. Once acknowledged, its row must survive any kill (L4).
    pub async fn order(&mut self, client: &mut Client) {
        let id = format!("order-{}", self.orders.len());
        if let Ok(Reply::Accepted { .. }) = client.ask_as(id.clone(), Ask::Checkpoint).await {
            self.orders.push(id);
        }
    }

    /// Returns the acknowledged items that the store does not have.
    ///
    /// # Panics
    /// If the store cannot be read.
    #[must_use]
    pub fn lost(&self, place: &Place) -> Vec<String> {
        let store = store::open_read_only(&place.home().database()).expect("a store");
        let kept: HashSet<String> = events::events_since(&store, 0, u64::MAX >> 1)
            .expect("events")
            .into_iter()
            .map(|envelope| serde_json::to_string(&envelope.record).expect("a record is JSON"))
            .collect();
        let lost = self.bodies.iter().filter(|body| !kept.contains(*body)).cloned();
        let no_row = |id: &&String| {
            let sql = format!("SELECT count(*) FROM v_steer WHERE id = '{id}' AND by LIKE '% (test)'");
            rows_as_csv(place, &sql).lines().nth(1) != Some("1")
        };
        let orders = self.orders.iter().filter(no_row);
        lost.chain(orders.map(|id| format!("the order {id}"))).collect()
    }
}
