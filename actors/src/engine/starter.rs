//! The traits of engines and of their starter. Production starts the engine's program; a simulation starts a scripted
//! engine.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use demask_api::{Answer, DeviceInfo, Request, SampleFrame};

use super::join::lobby::Lobby;
use super::options::EngineOptions;
use super::process::{EngineFailure, EngineProcess};

/// A pending answer.
pub type Asking<'a> = Pin<Box<dyn Future<Output = Result<Answer, EngineFailure>> + 'a>>;

/// A pending start of an engine.
pub type Starting<'a> = Pin<Box<dyn Future<Output = Result<Box<dyn RunningEngine>, EngineFailure>> + 'a>>;

/// An engine that has answered hello.
pub trait RunningEngine {
    /// Sends a request and returns the answer, or [`EngineFailure::Died`] if there is none. Each denoising frame is
    /// passed to `on_frame` as it arrives.
    fn ask<'a>(
        &'a self,
        request: &'a Request,
        on_frame: &'a mut (dyn FnMut(SampleFrame) + Send),
    ) -> Asking<'a>;

    /// Returns the process id and the device.
    fn who(&self) -> (u32, DeviceInfo);

    /// Ends the engine in an orderly way.
    fn stop(&self) -> Pin<Box<dyn Future<Output = ()> + '_>>;
}

/// A starter of engines.
pub trait EngineStarter: Send + Sync {
    /// Starts an engine.
    fn start<'a>(&'a self, options: &'a EngineOptions) -> Starting<'a>;

    /// Returns the lobby of engines that join; `None` if none can.
    fn lobby(&self) -> Option<&Lobby> {
        None
    }
}

/// The starter of processes of the engine's program, which also takes engines that join.
#[derive(Clone, Debug, Default)]
pub struct ProcessStarter {
    /// The lobby of engines that join; absent: the daemon listens for none.
    pub lobby: Option<Arc<Lobby>>,
}

impl EngineStarter for ProcessStarter {
    fn lobby(&self) -> Option<&Lobby> {
        self.lobby.as_deref()
    }

    fn start<'a>(&'a self, options: &'a EngineOptions) -> Starting<'a> {
        Box::pin(async move {
            let started = match options.joins {
                Some(role) => EngineProcess::join(options, role, self.lobby()).await?,
                None => EngineProcess::start(options).await?,
            };
            Ok(Box::new(started) as Box<dyn RunningEngine>)
        })
    }
}

impl RunningEngine for EngineProcess {
    fn ask<'a>(
        &'a self,
        request: &'a Request,
        on_frame: &'a mut (dyn FnMut(SampleFrame) + Send),
    ) -> Asking<'a> {
        Box::pin(self.ask_watched(request, on_frame))
    }

    fn who(&self) -> (u32, DeviceInfo) {
        let info = self.info();
        (info.pid, info.device.clone())
    }

    fn stop(&self) -> Pin<Box<dyn Future<Output = ()> + '_>> {
        Box::pin(Self::stop(self))
    }
}
