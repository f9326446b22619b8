//! The interface to an engine, which an engine process and the actor that owns one both implement.

use demask_api::Request;

use super::actor::FrameSink;
use super::address::EngineAddress;
use super::process::EngineProcess;
use super::starter::Asking;

/// An interface to an engine: an engine process, or the actor that owns one.
pub trait EngineLink {
    /// Sends a request and returns the answer. Denoising frames on the way go to the sink.
    fn ask(&self, request: Request, frames: Option<FrameSink>) -> Asking<'_>;
}

impl EngineLink for EngineProcess {
    fn ask(&self, request: Request, frames: Option<FrameSink>) -> Asking<'_> {
        Box::pin(async move {
            let mut show = |frame| {
                if let Some(sink) = &frames {
                    sink(frame);
                }
            };
            self.ask_watched(&request, &mut show).await
        })
    }
}

impl EngineLink for EngineAddress {
    fn ask(&self, request: Request, frames: Option<FrameSink>) -> Asking<'_> {
        Box::pin(Self::ask(self, request, frames))
    }
}

/// A link to the same engine that samples and encodes aside, where the request permits it. The engine answers such a
/// request between two passes of its running batch, which stays unchanged (law L8).
pub struct AsideLink<'a>(pub &'a dyn EngineLink);

impl EngineLink for AsideLink<'_> {
    fn ask(&self, request: Request, frames: Option<FrameSink>) -> Asking<'_> {
        let request = match request {
            aside @ (Request::Sample { .. } | Request::Encode { .. }) => Request::Aside {
                request: Box::new(aside),
            },
            other => other,
        };
        self.0.ask(request, frames)
    }
}
