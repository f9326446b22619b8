//! The address of an engine, which leads to the present one whichever died before, with counts of what engines have
//! done for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use actix::Addr;
use demask_api::{Answer, DeviceInfo, Request};
use tokio::sync::oneshot;

use super::actor::{Ask, EngineHost, FinishEngine, FrameSink, Who, dead};
use crate::engine::options::EngineOptions;
use crate::engine::process::EngineFailure;
use crate::engine::starter::EngineStarter;
use crate::runtime::supervisor::{Address, SupervisorHandle};

/// The address of the present engine, with a count of the time that engines have computed for it.
#[derive(Clone)]
pub struct EngineAddress {
    host: Address<EngineHost>,
    name: String,
    options: EngineOptions,
    starter: Arc<dyn EngineStarter>,
    /// Number of engines of this address that died or could not be started.
    deaths: Arc<AtomicU64>,
    /// Computing time in microseconds.
    computed: Arc<AtomicU64>,
    /// Requests that are not answered yet.
    asked: Arc<AtomicUsize>,
}

impl EngineAddress {
    /// Spawns an engine host under the supervisor.
    #[must_use]
    pub fn spawn(
        supervisor: &SupervisorHandle,
        name: &str,
        options: EngineOptions,
        starter: Arc<dyn EngineStarter>,
    ) -> Self {
        let deaths = Arc::default();
        Self {
            host: spawn_host(supervisor, name, &options, &starter, &deaths),
            name: name.to_owned(),
            options,
            starter,
            deaths,
            computed: Arc::default(),
            asked: Arc::default(),
        }
    }

    /// Spawns a host for engines of this many ranks in place of the present one, with a restart budget of its own. The
    /// counts go on. The present engine must have ended, and earlier addresses must not be used any more.
    #[must_use]
    pub fn with_ranks(&self, supervisor: &SupervisorHandle, ranks: usize) -> Self {
        let options = EngineOptions {
            ranks: Some(ranks),
            ..self.options.clone()
        };
        Self {
            host: spawn_host(supervisor, &self.name, &options, &self.starter, &self.deaths),
            options,
            ..self.clone()
        }
    }

    /// Returns the number of processes that train together; `None` for one process without ranks.
    #[must_use]
    pub fn ranks(&self) -> Option<usize> {
        self.options.ranks
    }

    /// Returns how often an engine of this address died or could not be started.
    #[must_use]
    pub fn deaths(&self) -> u64 {
        self.deaths.load(Relaxed)
    }

    /// Returns whether engines died so often that the supervisor starts no other one.
    #[must_use]
    pub fn is_given_up(&self) -> bool {
        self.host.is_given_up()
    }

    /// Notes that the user wants the run to end. From now on an engine that hangs is given up within seconds (law L10).
    pub fn hurry(&self) {
        self.options.urgency.set();
    }

    /// Returns whether [`Self::hurry`] was called.
    #[must_use]
    pub fn is_hurried(&self) -> bool {
        self.options.urgency.is_set()
    }

    /// Returns the number of requests that are not answered yet.
    #[must_use]
    pub fn asked(&self) -> usize {
        self.asked.load(Relaxed)
    }

    /// Returns the seconds that engines have computed for this address, by the engines' own clocks. Transport and
    /// queueing are not counted.
    #[must_use]
    pub fn computed(&self) -> f64 {
        self.computed.load(Relaxed) as f64 * 1e-6
    }

    /// Sends a request to the present engine. Waits while the host is restarted.
    ///
    /// # Errors
    /// Any [`EngineFailure`]; [`EngineFailure::Died`] also if the host died or the supervisor gave it up.
    pub async fn ask(&self, request: Request, frames: Option<FrameSink>) -> Result<Answer, EngineFailure> {
        let (_waiting, waited_for) = oneshot::channel();
        let _counted = Counted::new(&self.asked);
        let ask = Ask {
            request,
            frames,
            waited_for,
        };
        let answer = self
            .host()
            .await?
            .send(ask)
            .await
            .map_err(|error| dead(&error.to_string()))??;
        let seconds = own_seconds(&answer);
        self.computed.fetch_add((seconds * 1e6) as u64, Relaxed);
        Ok(answer)
    }

    /// Returns the process id and the device of the present engine.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub async fn who(&self) -> Result<(u32, DeviceInfo), EngineFailure> {
        self.host()
            .await?
            .send(Who)
            .await
            .map_err(|error| dead(&error.to_string()))?
    }

    /// Ends the engine in an orderly way.
    pub async fn finish(&self) {
        if let Ok(host) = self.host().await {
            host.send(FinishEngine).await.ok();
        }
    }

    async fn host(&self) -> Result<Addr<EngineHost>, EngineFailure> {
        self.host
            .get()
            .await
            .ok_or_else(|| dead("no engine stayed alive"))
    }
}

fn spawn_host(
    supervisor: &SupervisorHandle,
    name: &str,
    options: &EngineOptions,
    starter: &Arc<dyn EngineStarter>,
    deaths: &Arc<AtomicU64>,
) -> Address<EngineHost> {
    let (options, starter, deaths) = (options.clone(), Arc::clone(starter), Arc::clone(deaths));
    supervisor.spawn(name, "supervisor", move |life| {
        EngineHost::new(life, options.clone(), Arc::clone(&starter), Arc::clone(&deaths))
    })
}

/// A guard that counts one request while it lives.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Relaxed);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// Returns the computing time that the engine reports in its answer; 0 for quick requests, which report none.
fn own_seconds(answer: &Answer) -> f64 {
    match answer {
        Answer::Trained(report) => report.seconds,
        Answer::PolicyTrained(report) => report.seconds,
        Answer::TokenizerTrained(report) => report.seconds,
        Answer::Samples { seconds, .. }
        | Answer::LogLikelihoods { seconds, .. }
        | Answer::Codes { seconds, .. }
        | Answer::ViewsScored { seconds, .. }
        | Answer::Saved { seconds, .. }
        | Answer::Scores { seconds, .. } => *seconds,
        _ => 0.0,
    }
}
