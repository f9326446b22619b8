//! The context of a life of a run, the outcome of a life, and the trait of run drivers.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use demask_storage::{Knob, Run};
use futures_util::future::join_all;

use crate::control::Control;
use crate::engine::address::EngineAddress;
use crate::home::Home;
use crate::pipeline::sampling_engines::SamplingEngines;
use crate::profile::Profile;
use crate::runtime::fault_injection::FaultInjection;
use crate::runtime::recorder::Recorder;
use crate::runtime::supervisor::SupervisorHandle;

/// The context of a life of a run.
#[derive(Clone)]
pub struct RunContext {
    /// Home of the daemon.
    pub home: Home,
    /// Recorder of the daemon.
    pub recorder: Recorder,
    /// Orders and present state of the run.
    pub control: Arc<Control>,
    /// Engine that trains.
    pub engine: EngineAddress,
    /// Engines that only sample; empty if the training engine also samples. They outlive the run's actors, which are
    /// spawned again for fewer ranks.
    pub samplers: SamplingEngines,
    /// Supervisor that spawns the actors.
    pub supervisor: SupervisorHandle,
    /// Configuration of the run.
    pub profile: Arc<Profile>,
    /// Id of the run.
    pub run: String,
    /// Row of the run's first life.
    pub begun: Arc<Run>,
    /// Number of this life.
    pub generation: u64,
    /// Number of lives before the engines of this context were spawned. Their engines ended with them.
    pub lives_before: u64,
    /// Whether the run starts from random weights.
    pub from_scratch: bool,
}

impl RunContext {
    fn engines(&self) -> impl Iterator<Item = &EngineAddress> {
        std::iter::once(&self.engine).chain(self.samplers.addresses())
    }

    /// Notes that the user wants the run to end. From now on an engine that hangs is given up within seconds (law L10).
    pub fn hurry(&self) {
        self.engines().for_each(EngineAddress::hurry);
    }

    /// Returns the number of requests that engines have not answered yet.
    #[must_use]
    pub fn asked(&self) -> usize {
        self.engines().map(EngineAddress::asked).sum()
    }

    /// Ends all engines in an orderly way, at the same time (L10: each may need a while).
    pub async fn finish(&self) {
        join_all(self.engines().map(EngineAddress::finish)).await;
    }
}

/// The outcome of a life of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All stages are done.
    Done,
    /// The user stopped the run.
    Stopped,
    /// The daemon is ending. The next daemon continues the run.
    Halted,
}

/// A pending life of a run.
pub type Driving = Pin<Box<dyn Future<Output = anyhow::Result<Outcome>>>>;

/// A driver that takes a run through its stages.
pub trait RunDriver {
    /// Returns the knobs of a run of this profile.
    fn knobs(&self, profile: &Profile) -> Vec<Knob>;
    /// Drives a life of a run from its last checkpoint, or from the start.
    fn drive(&self, context: RunContext) -> Driving;
    /// Releases the actors of a run that has ended.
    fn let_go(&self) {}
    /// Returns the faults that a test injects into the daemon.
    fn faults(&self) -> FaultInjection {
        FaultInjection::default()
    }
}
