//! What a life of a run is given, how it ends, and who walks it through its stages.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use demask_storage::{Knob, Run};

use crate::control::Control;
use crate::engine::actor::EngineAddress;
use crate::home::Home;
use crate::profile::Profile;
use crate::runtime::recorder::Recorder;
use crate::runtime::supervisor::SupervisorHandle;

/// What a life of a run is given.
#[derive(Clone)]
pub struct RunContext {
    /// The home.
    pub home: Home,
    /// The recorder.
    pub recorder: Recorder,
    /// Orders and state.
    pub control: Arc<Control>,
    /// The engine that trains.
    pub engine: EngineAddress,
    /// The engines that only sample; none where the one that trains does that too.
    pub samplers: Vec<EngineAddress>,
    /// Where actors are made.
    pub supervisor: SupervisorHandle,
    /// The configuration.
    pub profile: Arc<Profile>,
    /// The run.
    pub run: String,
    /// Its row, as it was begun.
    pub begun: Arc<Run>,
    /// Which life of it.
    pub generation: u64,
    /// From random weights.
    pub from_scratch: bool,
}

impl RunContext {
    fn engines(&self) -> impl Iterator<Item = &EngineAddress> {
        std::iter::once(&self.engine).chain(&self.samplers)
    }

    /// A person wants the run to end: an engine that hangs is given up within seconds from now on (law L10).
    pub fn hurry(&self) {
        self.engines().for_each(EngineAddress::hurry);
    }

    /// Requests that engines have not answered yet.
    #[must_use]
    pub fn asked(&self) -> usize {
        self.engines().map(EngineAddress::asked).sum()
    }

    /// Ends all engines in good order.
    pub async fn finish(&self) {
        for engine in self.engines() {
            engine.finish().await;
        }
    }
}

/// How a life of a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All stages are done.
    Done,
    /// A person stopped it.
    Stopped,
    /// The daemon is ending: the run goes on with the next one.
    Halted,
}

/// A life of a run, on its way.
pub type Driving = Pin<Box<dyn Future<Output = anyhow::Result<Outcome>>>>;

/// Who walks a run through its stages.
pub trait RunDriver {
    /// What can be steered in a run of this profile.
    fn knobs(&self, profile: &Profile) -> Vec<Knob>;
    /// Goes on from the run's last checkpoint, or from the start.
    fn drive(&self, context: RunContext) -> Driving;
    /// Lets go of the actors of a run that has ended, however it did.
    fn let_go(&self) {}
}
