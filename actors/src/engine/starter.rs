//! Who starts engines, and what a started one can do: the engine's program as a rule, something scripted in a simulation.

use std::future::Future;
use std::pin::Pin;

use demask_api::{Answer, DeviceInfo, Request, SampleFrame};

use super::process::{EngineFailure, EngineOptions, EngineProcess};

/// An answer on its way.
pub type Asking<'a> = Pin<Box<dyn Future<Output = Result<Answer, EngineFailure>> + 'a>>;

/// An engine that is being started.
pub type Starting<'a> = Pin<Box<dyn Future<Output = Result<Box<dyn RunningEngine>, EngineFailure>> + 'a>>;

/// An engine that has said hello.
pub trait RunningEngine {
    /// Asks, and hands each denoising frame on as it comes; the answer, or [`EngineFailure::Died`] where there is none.
    fn ask<'a>(
        &'a self,
        request: &'a Request,
        on_frame: &'a mut (dyn FnMut(SampleFrame) + Send),
    ) -> Asking<'a>;

    /// Its process and its device.
    fn who(&self) -> (u32, DeviceInfo);

    /// Ends it in good order.
    fn stop(&self) -> Pin<Box<dyn Future<Output = ()> + '_>>;
}

/// Starts engines.
pub trait EngineStarter: Send + Sync {
    /// One more engine.
    fn start<'a>(&'a self, options: &'a EngineOptions) -> Starting<'a>;
}

/// Starts processes of the engine's program.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProcessStarter;

impl EngineStarter for ProcessStarter {
    fn start<'a>(&'a self, options: &'a EngineOptions) -> Starting<'a> {
        Box::pin(async move {
            let started = EngineProcess::start(options).await?;
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
