//! Steps of a block that a device does by itself: it works out what is committed and goes on, and tells all of it afterwards.
//!
//! A step that asks the host what to commit waits for it; on a GPU that is time in which nothing is computed. Here what is
//! drawn at each step stays on the device until the last; the host then takes it in as if it had asked each time
//! (`text.rs`), so that there is one account of what a sampler does. Where they are asked for, all kernels of a step are one
//! launch (`device/cuda/graph.rs`), and serve every block of the same shape. Legend: R rows, T places of them that a step computes, W
//! positions of a row's block, N = R W, S steps at most.

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

/// How the steps of a block are done that ask for nothing but what is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stepping {
    /// Each reads what was drawn from the device: a CPU has it at hand.
    HostDriven,
    /// The device goes on by itself.
    DeviceLoop,
    /// And launches a step's kernels together, where it can.
    Graph,
}

impl Stepping {
    /// What a network's device gains by.
    pub(super) fn of(backbone: &Backbone) -> Self {
        match backbone.device() {
            Device::Cuda(_) if graph::asked_for() => Self::Graph,
            Device::Cuda(_) => Self::DeviceLoop,
            _ => Self::HostDriven,
        }
    }
}

/// What the device knows of a block.
#[derive(Debug)]
pub(super) struct DeviceBlock {
    rows: i64,
    /// W.
    block: i64,
    mask_token: i64,
    writable: Writable,
    graph: GraphRecording,
    /// Holds the tokens of the computed places, which the steps fill in.
    pass: Pass,
    /// Which of T are the active blocks' positions, [N].
    window_N: Tensor,
    /// How many each row commits at each step, [S, R].
    counts_SR: Tensor,
    /// From which probability on it commits all, [R, 1].
    threshold_R1: Tensor,
    /// The step, [1].
    step_1: Tensor,
    measures_SN7: Tensor,
}

/// A step as one launch.
#[derive(Debug)]
enum GraphRecording {
    /// Nobody asked for it, or it cannot be.
    Off,
    /// Not yet: a step is done once by itself before.
    Wanted,
    Made(CudaGraph),
}

impl DeviceBlock {
    /// For rows, each with its chunk and what is left of its block, all of as many places and blocks of one length.
    ///
    /// # Errors
    /// A row longer than the model's longest sequence or than the cache; libtorch's.
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
            // The computed places are the last ones before what is behind them: padding in front is not among them.
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

    /// The device block for the next block of that network: this one with the other's contents where that has the same shape, else
    /// the other.
    ///
    /// # Errors
    /// libtorch's.
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

    /// One step; nothing is read back.
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

    /// Of the masked positions of each row the surest, as many as the step says, and all that are sure enough: what
    /// `commit.rs` does.
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

    /// Does so many steps; gives for each what was drawn at every position of the blocks, row by row.
    ///
    /// # Errors
    /// Logits that are no numbers; libtorch's.
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

    /// A step, and the next one recorded, which is not done; where that fails steps go on one launch after the other.
    fn step_and_record(&mut self, backbone: &Backbone, cache: &KvCache) -> Result<()> {
        let Device::Cuda(device) = backbone.device() else {
            return self.step(backbone, cache);
        };
        CudaGraph::warm(device, || self.step(backbone, cache))?;
        self.graph = match CudaGraph::record(device, || self.step(backbone, cache)) {
            Ok(graph) => GraphRecording::Made(graph),
            Err(error) if error.is_device_fault() => return Err(error),
            Err(error) => {
                tracing::warn!("{error}; kernels are launched one by one");
                GraphRecording::Off
            }
        };
        Ok(())
    }
}
