//! One external reward in use: it is started at its first batch, and restarted after a failure, within a budget.

use std::sync::Arc;
use std::time::Duration;

use demask_storage::Blobs;
use tokio::sync::Mutex;

use super::batch;
use super::transport::{RewardOpener, RewardTransport};
use super::values::{self, ExternalValue};
use crate::pipeline::judgement::JudgementItem;
use crate::pipeline::run_error::RewardFailure;
use crate::profile::ExternalReward;
use crate::runtime::actor::offload;

/// Wait before the first restart; doubled before each further one.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// Longest wait before a restart.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// The open transport, and the number of batches sent.
#[derive(Debug, Default)]
struct Present {
    line: Option<Box<dyn RewardTransport>>,
    batches: u64,
}

/// One external reward of a run.
#[derive(Debug)]
pub(super) struct AskedReward {
    pub(super) reward: ExternalReward,
    run: String,
    blobs: Blobs,
    opener: Arc<dyn RewardOpener>,
    present: Mutex<Present>,
}

impl AskedReward {
    pub(super) fn new(
        reward: ExternalReward,
        run: &str,
        blobs: Blobs,
        opener: Arc<dyn RewardOpener>,
    ) -> Self {
        Self {
            reward,
            run: run.to_owned(),
            blobs,
            opener,
            present: Mutex::default(),
        }
    }

    /// Returns the values of the items at these indices, in order. The items are sent in batches.
    ///
    /// # Errors
    /// [`RewardFailure`] if a batch failed more often than the budget allows.
    pub(super) async fn values(
        self: &Arc<Self>,
        items: &Arc<Vec<JudgementItem>>,
        places: &[usize],
    ) -> Result<Vec<Option<ExternalValue>>, RewardFailure> {
        let mut present = self.present.lock().await;
        let mut values = Vec::with_capacity(places.len());
        for places in places.chunks(self.reward.batch) {
            values.extend(self.batch(&mut present, items, places).await?);
        }
        Ok(values)
    }

    async fn batch(
        self: &Arc<Self>,
        present: &mut Present,
        items: &Arc<Vec<JudgementItem>>,
        places: &[usize],
    ) -> Result<Vec<Option<ExternalValue>>, RewardFailure> {
        let (mut tries, mut wait) = (0, FIRST_WAIT);
        loop {
            tries += 1;
            let why = match self.once(present, items, places).await {
                Ok(values) => return Ok(values),
                Err(why) => why,
            };
            tracing::warn!("reward {}, try {tries}: {why}", self.reward.name);
            if tries > self.reward.restarts {
                let name = self.reward.name.clone();
                return Err(RewardFailure { name, tries, why });
            }
            tokio::time::sleep(wait).await;
            wait = (2 * wait).min(LONGEST_WAIT);
        }
    }

    async fn once(
        self: &Arc<Self>,
        present: &mut Present,
        items: &Arc<Vec<JudgementItem>>,
        places: &[usize],
    ) -> Result<Vec<Option<ExternalValue>>, String> {
        present.batches += 1;
        let number = present.batches;
        let line = self.line(number, items, places).await?;
        // The transport is put back only with its answer. If the answer is abandoned, the transport is dropped;
        // otherwise the next batch would read it.
        let mut to = match present.line.take() {
            Some(to) => to,
            None => self.opener.open(&self.reward, &self.run)?,
        };
        let limit = Duration::from_secs_f64(self.reward.time_limit);
        let answered = tokio::time::timeout(limit, to.ask(&line)).await;
        let silent = |_| {
            let said = to.said_last();
            format!(
                "it sent no answer within {} s (time_limit){said}",
                self.reward.time_limit
            )
        };
        let text = answered.unwrap_or_else(|late| Err(silent(late)))?;
        let ids: Vec<&str> = places
            .iter()
            .filter_map(|&at| Some(items.get(at)?.id.as_str()))
            .collect();
        let values = values::read(&text, &ids, number, self.reward.range)?;
        present.line = Some(to);
        Ok(values)
    }

    /// Makes the JSON of a batch on a thread of its own, because encoding pictures takes time.
    async fn line(
        self: &Arc<Self>,
        number: u64,
        items: &Arc<Vec<JudgementItem>>,
        places: &[usize],
    ) -> Result<Vec<u8>, String> {
        let (own, items, places) = (Arc::clone(self), Arc::clone(items), places.to_vec());
        let made = offload(move || {
            let told: Vec<&JudgementItem> = places.iter().filter_map(|&at| items.get(at)).collect();
            batch::line(&own.reward, (&own.run, number), &told, &own.blobs)
        });
        made.await.map_err(|error| error.to_string())?
    }
}
