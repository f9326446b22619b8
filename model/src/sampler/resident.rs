//! Steps of a block that a device does by itself: it works out what is committed and goes on, and tells all of it afterwards.
//!
//! A step that asks the host what to commit waits for it; on a GPU that is time in which nothing is computed. Here what is
//! drawn at each step stays on the device until the last; the host then takes it in as if it had asked each time
//! (`text.rs`), so that there is one account of what a sampler does. Where they are asked for, all kernels of a step are one
//! launch (`cuda_graph.rs`), and serve every block of the same shape. Legend: R rows, Q places of each that a step
//! computes, T = R Q, S steps at most.

#![allow(non_snake_case)]

use tch::{Cuda, Device, Kind, Tensor};

use super::draw::{Drawn, Writable, fetched, likeliest};
use super::text::{Rule, Steady};
use crate::backbone::Backbone;
use crate::chunk::Chunk;
use crate::cuda_graph::{self, CudaGraph};
use crate::error::Result;
use crate::kv_cache::{KvCache, Pass};

/// How the steps of a block are done that ask for nothing but what is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stepping {
    /// Each reads what was drawn from the device: a CPU has it at hand.
    Asks,
    /// The device goes on by itself.
    Resident,
    /// And launches a step's kernels together, where it can.
    Graph,
}

impl Stepping {
    /// What a network's device gains by.
    pub(super) fn of(backbone: &Backbone) -> Self {
        match backbone.device() {
            Device::Cuda(_) if cuda_graph::asked_for() => Self::Graph,
            Device::Cuda(_) => Self::Resident,
            _ => Self::Asks,
        }
    }
}

/// Above every probability.
const NEVER: f64 = 2.0;

/// What the device knows of a block.
#[derive(Debug)]
pub(super) struct Board {
    rows: i64,
    places: i64,
    mask_token: i64,
    writable: Writable,
    graph: Recording,
    /// Holds the tokens of the computed places, which the steps fill in.
    pass: Pass,
    /// Which places are the active block's, [T].
    window_T: Tensor,
    /// How many each row commits at each step, [S, R].
    counts_SR: Tensor,
    /// From which probability on it commits all, [R, 1].
    threshold_R1: Tensor,
    /// The step, [1].
    step_1: Tensor,
    tokens_ST: Tensor,
    measures_ST6: Tensor,
}

/// A step as one launch.
#[derive(Debug)]
enum Recording {
    /// Nobody asked for it, or it cannot be.
    Off,
    /// Not yet: a step is done once by itself before.
    Wanted,
    Made(CudaGraph),
}

impl Board {
    /// For rows in `chunks` of as many places each, with what is left of their blocks.
    ///
    /// # Errors
    /// As [`Backbone::cached`].
    pub fn new(
        backbone: &Backbone,
        cache: &KvCache,
        chunks: &[Chunk],
        rows: &[Steady],
        writable: Writable,
        stepping: Stepping,
    ) -> Result<Self> {
        let device = backbone.device();
        let of =
            |values: &[i64]| -> Result<Tensor> { Ok(Tensor::f_from_slice(values)?.f_to_device(device)?) };
        let within = rows.iter().flat_map(|row| {
            let inside = |place| i64::from(row.window.contains(&place));
            row.computed.clone().map(inside)
        });
        let (count, places) = (rows.len(), rows.first().map_or(0, |row| row.computed.len()));
        let counts: Vec<i64> = (0..places)
            .flat_map(|step| rows.iter().map(move |row| row.rule.count(step)))
            .collect();
        let thresholds: Vec<f64> = rows.iter().map(|row| row.rule.threshold()).collect();
        let (count, places) = (count as i64, places as i64);
        let total = count * places;
        Ok(Self {
            rows: count,
            places,
            mask_token: i64::from(backbone.config().mask_token_id),
            writable,
            graph: if device.is_cuda() && stepping == Stepping::Graph {
                Recording::Wanted
            } else {
                Recording::Off
            },
            pass: backbone.pass(cache, chunks)?,
            window_T: of(&within.collect::<Vec<i64>>())?.f_to_kind(Kind::Bool)?,
            counts_SR: of(&counts)?.f_view([places, count])?,
            threshold_R1: Tensor::f_from_slice(&thresholds)?
                .f_to_device(device)?
                .f_unsqueeze(1)?,
            step_1: Tensor::f_zeros([1], (Kind::Int64, device))?,
            tokens_ST: Tensor::f_zeros([places, total], (Kind::Int64, device))?,
            measures_ST6: Tensor::f_zeros([places, total, 6], (Kind::Float, device))?,
        })
    }

    /// The board for the next block: this one with the other's contents where that has the same shape, else the other.
    ///
    /// # Errors
    /// libtorch's.
    pub fn or_like(mut self, next: Self) -> Result<Self> {
        let shape = |board: &Self| (board.rows, board.places, board.mask_token, board.writable);
        if shape(&self) != shape(&next) || !self.pass.refill(&next.pass)? {
            return Ok(next);
        }
        let parts = |board: &Self| {
            [
                &board.window_T,
                &board.counts_SR,
                &board.threshold_R1,
                &board.step_1,
            ]
            .map(Tensor::shallow_clone)
        };
        for (mut mine, other) in parts(&self).into_iter().zip(parts(&next)) {
            mine.f_copy_(&other)?;
        }
        Ok(self)
    }

    /// One step; nothing is read back.
    fn step(&mut self, backbone: &Backbone, cache: &KvCache) -> Result<()> {
        let hidden_TD = backbone.run(cache, &self.pass)?;
        let (tokens_T, measures_T6) = likeliest(&backbone.head(&hidden_TD, None)?, self.writable)?;
        let mut ids_T = self.pass.ids_T.shallow_clone();
        let masked_T = ids_T.f_eq(self.mask_token)?.f_logical_and(&self.window_T)?;
        let committed_T = self.committed(&masked_T, &measures_T6)?;
        ids_T.f_copy_(&tokens_T.f_where_self(&committed_T, &ids_T)?)?;
        let _ = self
            .tokens_ST
            .f_index_copy_(0, &self.step_1, &tokens_T.f_unsqueeze(0)?)?;
        let _ = self
            .measures_ST6
            .f_index_copy_(0, &self.step_1, &measures_T6.f_unsqueeze(0)?)?;
        let _ = self.step_1.f_add_scalar_(1)?;
        Ok(())
    }

    /// Of the masked places of each row the surest, as many as the step says, and all that are sure enough: what
    /// `commit.rs` does.
    fn committed(&self, masked_T: &Tensor, measures_T6: &Tensor) -> Result<Tensor> {
        let column = |number: i64| measures_T6.f_select(1, number);
        let (share_T, rest_T) = (column(0)?, column(4)?.f_to_kind(Kind::Double)?);
        let exact_T = rest_T
            .f_neg()?
            .f_add_scalar(1.0)?
            .f_where_self(&share_T.f_gt(0.5)?, &share_T.f_to_kind(Kind::Double)?)?;
        let shape = [self.rows, self.places];
        let rank_RQ = exact_T
            .f_masked_fill(&masked_T.f_logical_not()?, -1.0)?
            .f_view(shape)?;
        let (_, order_RQ) = rank_RQ.f_sort_stable(true, -1, true)?;
        let number_Q = Tensor::f_arange(self.places, (Kind::Int64, rank_RQ.device()))?;
        let number_RQ = number_Q.f_unsqueeze(0)?.f_expand(shape, false)?;
        let place_RQ = order_RQ.f_zeros_like()?.f_scatter(1, &order_RQ, &number_RQ)?;
        let count_R1 = self
            .counts_SR
            .f_index_select(0, &self.step_1)?
            .f_view([self.rows, 1])?;
        let first_RQ = place_RQ.f_lt_tensor(&count_R1)?;
        let sure_RQ = rank_RQ.f_ge_tensor(&self.threshold_R1)?;
        let committed_RQ = first_RQ.f_logical_or(&sure_RQ)?;
        Ok(committed_RQ.f_view([-1])?.f_logical_and(masked_T)?)
    }

    /// Does so many steps; gives for each what was drawn at every place, row by row.
    ///
    /// # Errors
    /// Logits that are no numbers; libtorch's.
    pub fn run(&mut self, backbone: &Backbone, cache: &KvCache, steps: usize) -> Result<Vec<Vec<Drawn>>> {
        tch::no_grad(|| {
            for step in 0..steps {
                match &self.graph {
                    Recording::Made(graph) => graph.replay()?,
                    Recording::Off => self.step(backbone, cache)?,
                    Recording::Wanted => {
                        self.step(backbone, cache)?;
                        if step + 1 < steps {
                            self.record(backbone, cache);
                        }
                    }
                }
            }
            let of = |history: &Tensor| history.f_narrow(0, 0, steps as i64);
            let (tokens, measures) = (of(&self.tokens_ST)?, of(&self.measures_ST6)?);
            let drawn = fetched(&tokens.f_reshape([-1])?, &measures.f_reshape([-1, 6])?)?;
            let total = (self.rows * self.places) as usize;
            Ok(drawn.chunks(total.max(1)).map(<[Drawn]>::to_vec).collect())
        })
    }

    /// Records a step, which is not done; without that steps go on one launch after the other.
    fn record(&mut self, backbone: &Backbone, cache: &KvCache) {
        let Device::Cuda(device) = backbone.device() else {
            return;
        };
        Cuda::synchronize(device as i64);
        self.graph = match CudaGraph::record(device, || self.step(backbone, cache)) {
            Ok(graph) => Recording::Made(graph),
            Err(error) => {
                tracing::warn!("{error}; kernels are launched one by one");
                Recording::Off
            }
        };
    }
}

impl Rule {
    fn count(&self, step: usize) -> i64 {
        match self {
            Self::Counts(counts) => counts.get(step).copied().unwrap_or(0) as i64,
            Self::Threshold(_) => 1,
        }
    }

    fn threshold(&self) -> f64 {
        match self {
            Self::Counts(_) => NEVER,
            Self::Threshold(threshold) => *threshold,
        }
    }
}

impl Steady {
    /// How many steps to do before the host looks: all that the schedule has; else as many as would be left if the block took
    /// as many as the last one (0: there was none), and two at least, unless fewer are masked.
    pub fn steps(&self, lately: usize) -> usize {
        let steps = match &self.rule {
            Rule::Counts(counts) => counts.len(),
            Rule::Threshold(_) if lately == 0 => self.masked.div_ceil(2),
            Rule::Threshold(_) => lately.saturating_sub(self.taken).max(2).min(self.masked),
        };
        steps.min(self.computed.len())
    }
}
