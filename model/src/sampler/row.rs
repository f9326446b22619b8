//! A row of the running batch: one sequence on its way, whatever fills it.
//!
//! What every row has is a [`RowState`]; how it goes on is a [`SamplingRule`]'s: text by blocks (`text.rs`) or a picture's codes
//! (`image.rs`). The batch knows rows by these two alone.

use demask_api::{Attention, Quirks, Sample, SampleFrame, SampleRequest};
use rand_chacha::ChaCha8Rng;

use super::draw::Drawn;
use super::forward_request::{Columns, ForwardRequest, RemainingSteps};
use crate::network::backbone::Backbone;
use crate::training::mask_sampling::row_rng;

/// A row on its way.
pub(super) type SamplingRow = Box<dyn SamplingRule + Send>;

/// What every row on its way has.
#[derive(Debug)]
pub(super) struct RowState {
    pub request: SampleRequest,
    /// The columns of its logits.
    pub columns: Columns,
    /// The whole row as it stands.
    pub ids: Vec<u32>,
    pub mask_token: u32,
    /// Its own noise, so that it is drawn as it would be alone (law L8).
    pub rng: ChaCha8Rng,
    /// Steps taken: in the active block for text, in all for a picture.
    pub step: usize,
    /// For each target position, the step that committed it.
    pub commit_step: Vec<u16>,
    /// For each target position, the probability of its token when it was drawn.
    pub confidence: Vec<f32>,
    /// Forward passes that it took part in.
    pub forwards: usize,
    /// Whether it wants no forward pass any more.
    pub done: bool,
}

impl RowState {
    /// A row at its start; positions that are given have that confidence.
    pub fn new(backbone: &Backbone, request: SampleRequest, columns: Columns, given: f32) -> Self {
        let length = request.target.len();
        Self {
            columns,
            ids: request.ids.clone(),
            mask_token: backbone.config().mask_token_id,
            rng: row_rng(request.seed, 0),
            step: 0,
            commit_step: vec![0; length],
            confidence: vec![given; length],
            forwards: 0,
            done: false,
            request,
        }
    }

    /// The target as it stands.
    pub fn target(&self) -> &[u32] {
        &self.ids[self.request.target.start..self.request.target.end]
    }

    /// The finished sample.
    pub fn finish(self) -> Sample {
        Sample {
            id: self.request.id,
            ids: self.ids,
            commit_step: self.commit_step,
            confidence: self.confidence,
            forwards: self.forwards,
            picture: None,
        }
    }
}

/// A row as the network sees it.
#[derive(Clone, Debug)]
pub(super) struct RowTokens {
    /// Token ids, padding in front.
    pub ids: Vec<u32>,
    /// How much of it is shut out.
    pub pad: usize,
    /// How much of it is padding that is merely weaker.
    pub soft_pad: usize,
}

/// How a row goes on, step by step: a request for a forward pass, then what was drawn at the positions that it named.
pub(super) trait SamplingRule: std::fmt::Debug {
    /// The state that every row has.
    fn state(&self) -> &RowState;

    /// What the row wants of the next forward pass; none when it is done.
    fn forward_request(&mut self) -> Option<ForwardRequest>;

    /// Takes what was drawn at each position of the request.
    fn take(&mut self, drawn: &[Drawn]);

    /// The token ids of the unconditional half of guidance.
    fn unconditional(&self) -> Vec<u32>;

    /// Guidance scale; 0 is off.
    fn guidance(&self) -> f64;

    /// Where the row does as the published code does.
    fn quirks(&self) -> &Quirks;

    /// A frame of the last step.
    fn frame(&self) -> SampleFrame;

    /// The finished sample.
    fn finish(self: Box<Self>) -> Sample;

    /// The present guess of every code, for pictures.
    fn guess(&self) -> Option<&[u32]> {
        None
    }

    /// Where the row ends for the network: what lies behind is not there yet.
    fn visible(&self) -> usize {
        self.state().ids.len()
    }

    /// The steps that are left of its block, if a device can do them without asking.
    fn remaining_steps(&self) -> Option<RemainingSteps> {
        None
    }

    /// Takes in what was drawn at every position of the block in such steps, as far as that goes; gives how many steps the
    /// block took if that is its end.
    fn replay(
        &mut self,
        _remaining: &RemainingSteps,
        _steps: &mut dyn Iterator<Item = &[Drawn]>,
    ) -> Option<usize> {
        None
    }

    /// Whether its logits are raised before they are drawn from.
    fn has_credits(&self) -> bool {
        false
    }

    /// What the logits of each position of the request are raised by, token by token, once it is known what would be drawn
    /// without.
    fn raises(&mut self, _guesses: &[Drawn]) -> Vec<Vec<(u32, f32)>> {
        Vec::new()
    }

    /// The row as it stands.
    fn tokens(&self) -> RowTokens {
        let state = self.state();
        self.as_seen(state.ids.clone(), state.request.left_pad)
    }

    /// Its unconditional half.
    fn unconditional_tokens(&self) -> RowTokens {
        self.as_seen(self.unconditional(), self.state().request.unconditional_left_pad)
    }

    /// Token ids and their padding as the attention of the quirks takes them. Without a mask, padding is like any other token.
    fn as_seen(&self, mut ids: Vec<u32>, padding: usize) -> RowTokens {
        ids.truncate(self.visible());
        let (pad, soft_pad) = match self.quirks().attention {
            Attention::None => (0, 0),
            Attention::Hard => (padding, 0),
            Attention::Additive => (0, padding),
        };
        RowTokens { ids, pad, soft_pad }
    }
}
