//! A lane of the running batch: one sequence on its way, and what it wants of the next pass.

use demask_api::{Attention, Quirks, Sample, SampleFrame, SampleRequest, Sampler};

use super::draw::Drawn;
use super::forward_request::{Columns, Need};
use super::image::ImageLane;
use super::text::{Steady, TextLane};
use crate::error::Result;
use crate::network::backbone::Backbone;

/// A sequence on its way.
#[derive(Debug)]
pub(super) enum Lane {
    /// Text by blocks.
    Text(Box<TextLane>),
    /// The codes of a picture.
    Image(Box<ImageLane>),
}

/// A row as the network sees it.
#[derive(Clone, Debug)]
pub(super) struct Row {
    /// Token ids, padding in front.
    pub ids: Vec<u32>,
    /// How much of it is shut out.
    pub pad: usize,
    /// How much of it is merely weaker.
    pub weak: usize,
}

impl Lane {
    /// # Errors
    /// Settings that do not fit the target.
    pub fn new(backbone: &Backbone, request: SampleRequest) -> Result<Self> {
        Ok(match request.sampler.clone() {
            Sampler::Text(sampler) => Self::Text(Box::new(TextLane::new(backbone, request, sampler)?)),
            Sampler::Image(sampler) => Self::Image(Box::new(ImageLane::new(backbone, request, sampler)?)),
        })
    }

    /// What it wants of the next pass; none when it is done.
    pub fn need(&mut self) -> Option<Need> {
        match self {
            Self::Text(lane) => lane.need(),
            Self::Image(lane) => lane.need(),
        }
    }

    /// The steps that are left of its block, if they can be done without asking.
    pub fn steady(&self) -> Option<Steady> {
        match self {
            Self::Text(lane) => lane.steady(),
            Self::Image(_) => None,
        }
    }

    /// Takes in what was drawn at every position of its block in such steps, as far as that goes; gives
    /// how many steps the block took if that is its end.
    pub fn replay<'d>(&mut self, steady: &Steady, steps: impl Iterator<Item = &'d [Drawn]>) -> Option<usize> {
        match self {
            Self::Text(lane) => lane.replay(steady, steps),
            Self::Image(_) => None,
        }
    }

    /// Whether it wants no pass any more.
    pub fn is_done(&self) -> bool {
        match self {
            Self::Text(lane) => lane.done,
            Self::Image(lane) => lane.done,
        }
    }

    /// Whether its logits are raised before they are drawn from.
    pub fn has_credits(&self) -> bool {
        match self {
            Self::Text(lane) => lane.has_credits(),
            Self::Image(_) => false,
        }
    }

    /// What each want's logits are raised by, token by token, once it is known what would be drawn without.
    pub fn raises(&mut self, guesses: &[Drawn]) -> Vec<Vec<(u32, f32)>> {
        match self {
            Self::Text(lane) => lane.raises(guesses),
            Self::Image(_) => Vec::new(),
        }
    }

    /// Takes what was drawn for each want.
    pub fn take(&mut self, drawn: &[Drawn]) {
        match self {
            Self::Text(lane) => lane.take(drawn),
            Self::Image(lane) => lane.take(drawn),
        }
    }

    /// The columns of its logits.
    pub fn columns(&self) -> Columns {
        match self {
            Self::Text(lane) => lane.columns,
            Self::Image(lane) => lane.columns,
        }
    }

    fn quirks(&self) -> &Quirks {
        match self {
            Self::Text(lane) => &lane.sampler.quirks,
            Self::Image(lane) => &lane.sampler.quirks,
        }
    }

    /// The request.
    pub fn request(&self) -> &SampleRequest {
        match self {
            Self::Text(lane) => &lane.request,
            Self::Image(lane) => &lane.request,
        }
    }

    /// Guidance scale; 0 is off.
    pub fn guidance(&self) -> f64 {
        match self {
            Self::Text(lane) => lane.sampler.guidance,
            Self::Image(lane) => lane.sampler.guidance,
        }
    }

    /// The row as it stands.
    pub fn row(&self) -> Row {
        match self {
            Self::Text(lane) => self.seen(lane.ids[..lane.visible()].to_vec(), lane.request.left_pad),
            Self::Image(lane) => self.seen(lane.ids.clone(), lane.request.left_pad),
        }
    }

    /// Its unconditional half.
    pub fn unconditional(&self) -> Row {
        match self {
            Self::Text(lane) => {
                let mut ids = lane.unconditional();
                ids.truncate(lane.visible());
                self.seen(ids, lane.request.unconditional_left_pad)
            }
            Self::Image(lane) => self.seen(lane.unconditional(), lane.request.unconditional_left_pad),
        }
    }

    /// Without a mask, padding is like any other token.
    fn seen(&self, ids: Vec<u32>, padding: usize) -> Row {
        let (pad, weak) = match self.quirks().attention {
            Attention::None => (0, 0),
            Attention::Hard => (padding, 0),
            Attention::Additive => (0, padding),
        };
        Row { ids, pad, weak }
    }

    /// A frame of the last step, and the guess of every code for pictures.
    pub fn frame(&self) -> (SampleFrame, Option<&[u32]>) {
        match self {
            Self::Text(lane) => (lane.frame(), None),
            Self::Image(lane) => (lane.frame(), Some(&lane.guess)),
        }
    }

    /// The finished sample.
    pub fn finish(self) -> Sample {
        match self {
            Self::Text(lane) => lane.finish(),
            Self::Image(lane) => lane.finish(),
        }
    }
}
