//! What can be asked as an engine is asked: an engine process, or the actor that owns one.

use demask_api::Request;

use super::actor::{EngineAddress, FrameSink};
use super::process::EngineProcess;
use super::starter::Asking;

/// Something that can be asked what an engine can be asked: an engine process, or the actor that owns one.
pub trait EngineLink {
    /// Asks; frames on the way go to the sink.
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

/// The same engine, asked aside where it can be: it answers between two passes of what it is sampling, which stays as it is
/// (law L8).
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
