//! The device loop: several steps of a block that a GPU runs by itself, without the host choosing what is committed.
//!
//! If the host chooses the tokens to commit, the GPU is idle while it waits for the choice. Here the device chooses
//! them, and the draws of all steps stay on the device until the last step. The host then replays the draws through the
//! same code as for single steps (`text.rs`), so that the rules of a sampler are written once.
//!
//! On request (`DEMASK_CUDA_GRAPHS`), a CUDA graph launches all kernels of a step at once (`device/cuda/graph.rs`). The
//! graph is reused for every block of the same shape.
//!
//! Legend: R rows, T computed places of all rows in a step, W positions of a row's block, N = R W, S the most steps.

#![allow(non_snake_case)]

use tch::{Device, Kind, Tensor};

use crate::device::cuda::graph::{self, CudaGraph};
use crate::device::kernels::columns::measure;
use crate::device::kernels::ragged::flash_takes;
use crate::device::transfer::Packet;
use crate::error::Result;
use crate::network::backbone::Backbone;
use crate::network::chunk::Chunk;
use crate::network::kv_cache::{KvCache, Pass};
use crate::sampler::draw::{Drawn, MEASURES, Writable, fetched, likeliest};
use crate::sampler::forward_request::RemainingSteps;

/// The way in which the remaining steps of a block run, where a row allows all three.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stepping {
    /// The host reads the draws of each step and commits. This is the default on a CPU, where reading costs nothing.
    HostDriven,
    /// The device commits by itself and the host reads the draws of all steps at the end.
    DeviceLoop,
    /// Like `DeviceLoop`, but the kernels of a step are launched as one CUDA graph, if it can be recorded.
    Graph,
}

impl Stepping {
    /// Returns the default for a network's device.
    pub(super) fn of(backbone: &Backbone) -> Self {
        match backbone.device() {
            Device::Cuda(_) if graph::asked_for() => Self::Graph,
            Device::Cuda(_) => Self::DeviceLoop,
            _ => Self::HostDriven,
        }
    }
}

/// The state of a block on the device.
#[derive(Debug)]
pub(super) struct DeviceBlock {
    rows: i64,
    /// The number of tokens of a block, W.
    block: i64,
    mask_token: i64,
    writable: Writable,
    graph: GraphRecording,
    /// The tables of the forward pass, with the token ids of the computed places, which the steps update.
    pass: Pass,
    /// The indices of the active blocks' positions among T, [N].
    window_N: Tensor,
    /// The least number of tokens that each row commits at each step, [S, R].
    counts_SR: Tensor,
    /// The probability from which on a row commits every token, [R, 1].
    threshold_R1: Tensor,
    /// The index of the step, [1].
    step_1: Tensor,
    /// The measures of all draws, [S, N, 7].
    measures_SN7: Tensor,
}

/// The CUDA graph of a step.
#[derive(Debug)]
enum GraphRecording {
    /// There is none: it was not requested, or recording failed.
    Off,
    /// It will be recorded, after one step without it.
    Wanted,
    /// It is recorded.
    Made(CudaGraph),
}

impl DeviceBlock {
    /// Builds the state for rows, each with its chunk and the remaining steps of its block. All chunks must have the
    /// same number of places and all blocks the same length.
    ///
    /// # Errors
    /// An error if a row is longer than the model's longest sequence or than the cache, or any error libtorch reports.
    pub fn new(
        backbone: &Backbone,
        cache: &KvCache,
        rows: &[(Chunk, RemainingSteps)],
        writable: Writable,
        stepping: Stepping,
    ) -> Result<Self> {
        let device = backbone.device();
        let (mut window, mut first) = (Vec::new(), 0);
        for (chunk, remaining) in rows {
            // Counted from the end of the chunk, because leading padding is not among its places.
            let behind = remaining.computed.end - remaining.window.start;
            let start = first + chunk.places.len() - behind;
            window.extend((start..start + remaining.window.len()).map(|place| place as i64));
            first += chunk.places.len();
        }
        let block = rows.first().map_or(0, |(_, remaining)| remaining.window.len());
        let counts = (0..block).flat_map(|step| {
            rows.iter()
                .map(move |(_, remaining)| remaining.commits.count(step))
        });
        let chunks: Vec<Chunk> = rows.iter().map(|(chunk, _)| chunk.clone()).collect();
        let mut packet = Packet::new();
        let planned = backbone.plan_pass(cache, &chunks, &mut packet)?;
        let window = packet.longs(window);
        let counts = packet.longs(counts);
        let thresholds = packet.doubles(rows.iter().map(|(_, remaining)| remaining.commits.threshold()));
        let arrived = packet.send(device)?;
        let (count, block) = (rows.len() as i64, block as i64);
        Ok(Self {
            rows: count,
            block,
            mask_token: i64::from(backbone.config().mask_token_id),
            writable,
            graph: if device.is_cuda() && stepping == Stepping::Graph {
                GraphRecording::Wanted
            } else {
                GraphRecording::Off
            },
            pass: planned.arrive(&arrived, backbone.rotary())?,
            window_N: arrived.get(window),
            counts_SR: arrived.get(counts).f_view([block, count])?,
            threshold_R1: arrived.get(thresholds).f_unsqueeze(1)?,
            step_1: Tensor::f_zeros([1], (Kind::Int64, device))?,
            measures_SN7: Tensor::f_zeros([block, count * block, MEASURES], (Kind::Float, device))?,
        })
    }

    /// Returns the state for the next block: this one, refilled with the contents of `next`, if both have the same
    /// shape, and `next` otherwise. Refilling keeps the recorded graph valid.
    ///
    /// # Errors
    /// Any error libtorch reports.
    pub fn or_like(mut self, next: Self, backbone: &Backbone) -> Result<Self> {
        let shape = |device_block: &Self| {
            (
                device_block.rows,
                device_block.block,
                device_block.mask_token,
                device_block.writable,
            )
        };
        let width = backbone.config().head_dim() as i64;
        let in_tables = flash_takes(backbone.device(), backbone.kind(), width);
        if shape(&self) != shape(&next) || !self.pass.refill(&next.pass, in_tables)? {
            return Ok(next);
        }
        let parts = |device_block: &Self| {
            [
                &device_block.window_N,
                &device_block.counts_SR,
                &device_block.threshold_R1,
                &device_block.step_1,
            ]
            .map(Tensor::shallow_clone)
        };
        for (mut mine, other) in parts(&self).into_iter().zip(parts(&next)) {
            mine.f_copy_(&other)?;
        }
        Ok(self)
    }

    /// Runs one step. Nothing is read back.
    fn step(&mut self, backbone: &Backbone, cache: &KvCache) -> Result<()> {
        let hidden_ND = backbone.run(cache, &self.pass, Some(&self.window_N))?;
        let (tokens_N, measures_N7) = likeliest(&backbone.sampled_head(&hidden_ND, None)?, self.writable)?;
        let mut ids_T = self.pass.ids_T.shallow_clone();
        let ids_N = ids_T.f_index_select(0, &self.window_N)?;
        let masked_N = ids_N.f_eq(self.mask_token)?;
        let committed_N = self.committed(&masked_N, &measures_N7)?;
        let ids_N = tokens_N.f_where_self(&committed_N, &ids_N)?;
        let _ = ids_T.f_index_copy_(0, &self.window_N, &ids_N)?;
        let _ = self
            .measures_SN7
            .f_index_copy_(0, &self.step_1, &measures_N7.f_unsqueeze(0)?)?;
        let _ = self.step_1.f_add_scalar_(1)?;
        Ok(())
    }

    /// Selects the masked positions that a step commits: in each row the most probable ones, as many as the step's
    /// count, and all at or above the threshold. This is the rule of `commit.rs`.
    fn committed(&self, masked_N: &Tensor, measures_N7: &Tensor) -> Result<Tensor> {
        let column = |number: usize| measures_N7.f_select(1, number as i64);
        let (share_N, rest_N) = (
            column(measure::PROBABILITY)?,
            column(measure::REST)?.f_to_kind(Kind::Double)?,
        );
        let exact_N = rest_N
            .f_neg()?
            .f_add_scalar(1.0)?
            .f_where_self(&share_N.f_gt(0.5)?, &share_N.f_to_kind(Kind::Double)?)?;
        let shape = [self.rows, self.block];
        let rank_RW = exact_N
            .f_masked_fill(&masked_N.f_logical_not()?, -1.0)?
            .f_view(shape)?;
        let (_, order_RW) = rank_RW.f_sort_stable(true, -1, true)?;
        let number_W = Tensor::f_arange(self.block, (Kind::Int64, rank_RW.device()))?;
        let number_RW = number_W.f_unsqueeze(0)?.f_expand(shape, false)?;
        let place_RW = order_RW.f_zeros_like()?.f_scatter(1, &order_RW, &number_RW)?;
        let count_R1 = self
            .counts_SR
            .f_index_select(0, &self.step_1)?
            .f_view([self.rows, 1])?;
        let first_RW = place_RW.f_lt_tensor(&count_R1)?;
        let sure_RW = rank_RW.f_ge_tensor(&self.threshold_R1)?;
        let committed_RW = first_RW.f_logical_or(&sure_RW)?;
        Ok(committed_RW.f_view([-1])?.f_logical_and(masked_N)?)
    }

    /// Runs `steps` steps and returns, for each, the draws at every position of the blocks, row by row.
    ///
    /// # Errors
    /// [`ModelError::Refused`](crate::ModelError::Refused) if logits are not finite, or any error libtorch reports.
    pub fn run(&mut self, backbone: &Backbone, cache: &KvCache, steps: usize) -> Result<Vec<Vec<Drawn>>> {
        tch::no_grad(|| {
            for step in 0..steps {
                match &self.graph {
                    GraphRecording::Made(graph) => graph.replay()?,
                    GraphRecording::Off => self.step(backbone, cache)?,
                    GraphRecording::Wanted if step + 1 < steps => self.step_and_record(backbone, cache)?,
                    GraphRecording::Wanted => self.step(backbone, cache)?,
                }
            }
            let drawn = fetched(&self.measures_SN7.f_narrow(0, 0, steps as i64)?)?;
            let total = (self.rows * self.block) as usize;
            Ok(drawn.chunks(total.max(1)).map(<[Drawn]>::to_vec).collect())
        })
    }

    /// Runs one step and then records the graph of the next, without running it. If recording fails, later steps launch
    /// their kernels one by one.
    fn step_and_record(&mut self, backbone: &Backbone, cache: &KvCache) -> Result<()> {
        let Device::Cuda(device) = backbone.device() else {
            return self.step(backbone, cache);
        };
        CudaGraph::warm(device, || self.step(backbone, cache))?;
        self.graph = match CudaGraph::record(device, || self.step(backbone, cache)) {
            Ok(graph) => GraphRecording::Made(graph),
            Err(error) if error.is_device_fault() => return Err(error),
            Err(error) => {
                tracing::warn!("{error}; kernels are launched one by one instead");
                GraphRecording::Off
            }
        };
        Ok(())
    }
}
