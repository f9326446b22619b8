//! A row of the running batch: one sequence that is being sampled.
//!
//! [`RowState`] is the state that every row has. [`SamplingRule`] is the interface of the two kinds of rows: text by
//! blocks (`text.rs`) and the codes of a picture (`image.rs`). The batch uses nothing but these two.

use demask_api::{Attention, Quirks, Sample, SampleFrame, SampleRequest};
use rand_chacha::ChaCha8Rng;

use super::draw::Drawn;
use super::forward_request::{Columns, ForwardRequest, RemainingSteps};
use crate::network::backbone::Backbone;
use crate::training::mask_sampling::row_rng;

/// A row of either kind.
pub(super) type SamplingRow = Box<dyn SamplingRule + Send>;

/// The state that every row has.
#[derive(Debug)]
pub(super) struct RowState {
    pub request: SampleRequest,
    /// The columns for which its logits are computed.
    pub columns: Columns,
    /// The token ids of the whole row, with the tokens committed so far.
    pub ids: Vec<u32>,
    pub mask_token: u32,
    /// The row's own random numbers, so that it gets the same sample in any batch (law L8).
    pub rng: ChaCha8Rng,
    /// The number of steps taken: in the active block for a text, in total for a picture.
    pub step: usize,
    /// For each target position, the step that committed it.
    pub commit_step: Vec<u16>,
    /// For each target position, the probability of its token when it was drawn.
    pub confidence: Vec<f32>,
    /// The number of forward passes that the row took part in.
    pub forwards: usize,
    /// Whether the row needs no further forward pass.
    pub done: bool,
}

impl RowState {
    /// Creates a row before its first step. `given` is the initial confidence of every target position, which the given
    /// tokens keep.
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

    /// Returns the token ids of the target.
    pub fn target(&self) -> &[u32] {
        &self.ids[self.request.target.start..self.request.target.end]
    }

    /// Converts the row into the finished sample.
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

/// A row as the network computes it.
#[derive(Clone, Debug)]
pub(super) struct RowTokens {
    /// The token ids, with padding in front.
    pub ids: Vec<u32>,
    /// The number of leading positions that no query attends to.
    pub pad: usize,
    /// The number of leading positions that are attended to with a lower weight (`Attention::Additive`).
    pub soft_pad: usize,
}

/// The steps of a row. Each step is a request for a forward pass, followed by the draws at the requested positions.
pub(super) trait SamplingRule: std::fmt::Debug {
    /// Returns the state that every row has.
    fn state(&self) -> &RowState;

    /// Returns the request for the next forward pass, or `None` when the row is done.
    fn forward_request(&mut self) -> Option<ForwardRequest>;

    /// Takes the draws, one for each position of the last request.
    fn take(&mut self, drawn: &[Drawn]);

    /// Returns the token ids of the unconditional half of guidance.
    fn unconditional(&self) -> Vec<u32>;

    /// Returns the guidance scale; 0 is off.
    fn guidance(&self) -> f64;

    /// Returns the switches for the behaviour of the published code.
    fn quirks(&self) -> &Quirks;

    /// Returns the frame of the last step.
    fn frame(&self) -> SampleFrame;

    /// Converts the row into the finished sample.
    fn finish(self: Box<Self>) -> Sample;

    /// Returns the current guess of every code, for pictures only.
    fn guess(&self) -> Option<&[u32]> {
        None
    }

    /// Returns the end of the positions that the network computes; it does not see the later ones yet.
    fn visible(&self) -> usize {
        self.state().ids.len()
    }

    /// Returns the steps that are left of the active block, if a device can run them without the host.
    fn remaining_steps(&self) -> Option<RemainingSteps> {
        None
    }

    /// Applies steps that the device ran by itself, each given as the draws at every position of the block. Stops at
    /// the end of the block and then returns the number of steps that the block took; `None` means that the block goes
    /// on.
    fn replay(
        &mut self,
        _remaining: &RemainingSteps,
        _steps: &mut dyn Iterator<Item = &[Drawn]>,
    ) -> Option<usize> {
        None
    }

    /// Returns whether credit raises the row's logits before the draw.
    fn has_credits(&self) -> bool {
        false
    }

    /// Returns, for each position of the request, the tokens whose logits are raised and by how much. `guesses` are the
    /// likeliest tokens without the raise.
    fn raises(&mut self, _guesses: &[Drawn]) -> Vec<Vec<(u32, f32)>> {
        Vec::new()
    }

    /// Returns the row with its current tokens.
    fn tokens(&self) -> RowTokens {
        let state = self.state();
        self.as_seen(state.ids.clone(), state.request.left_pad)
    }

    /// Returns the unconditional half of the row.
    fn unconditional_tokens(&self) -> RowTokens {
        self.as_seen(self.unconditional(), self.state().request.unconditional_left_pad)
    }

    /// Cuts the ids at [`Self::visible`] and classifies the padding by the attention mode of the quirks. Without a
    /// mask, padding counts as ordinary tokens.
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
