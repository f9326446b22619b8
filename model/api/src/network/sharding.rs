//! Training on several ranks: what is divided among them, and the buffers that a rank needs to exchange it.

use crate::network::config::BackboneConfig;
use crate::network::memory::block_numbers;
use crate::training::step_settings::Shard;

/// The most gradient elements per owner that one collective call transfers (`training/ranks/share.rs` in the engine).
pub const BUCKET: u64 = 16 * 65_536;

/// The division of a model among several ranks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ranks {
    /// The number of ranks.
    pub count: u64,
    /// What is divided among these ranks.
    pub shard: Shard,
}

impl Default for Ranks {
    fn default() -> Self {
        Self {
            count: 1,
            shard: Shard::State,
        }
    }
}

impl Ranks {
    /// Returns the largest part that a rank has of `bytes` divided bytes.
    #[must_use]
    pub fn part(self, bytes: u64) -> u64 {
        bytes.div_ceil(self.count.max(1))
    }

    /// Returns whether weights are divided. The only rank of a world owns every part, but it gathers a group when it
    /// needs it, as any other rank does.
    #[must_use]
    pub fn has_divided_weights(self) -> bool {
        self.shard == Shard::Weights
    }

    /// Returns the bytes of the buffers for the exchange of `numbers` gradient elements in a step, if every rank has
    /// all weights: one buffer to send and one to receive, each with an f32 bucket per rank.
    #[must_use]
    pub fn exchanged_bytes(self, numbers: u64) -> u64 {
        if self.count < 2 {
            return 0;
        }
        2 * 4 * self.count * BUCKET.min(self.part(numbers))
    }
}

/// The number of elements of each kind of group of a backbone. A group is gathered as a whole.
#[derive(Clone, Copy, Debug)]
pub struct GatheredGroups {
    /// Elements of a block.
    pub block: u64,
    /// Elements of the embedding.
    pub embedding: u64,
    /// Elements of the head; 0 if it shares the weights of the embedding.
    pub head: u64,
}

impl GatheredGroups {
    /// Returns the numbers of elements of the groups of a backbone.
    #[must_use]
    pub fn of(config: &BackboneConfig) -> Self {
        let table = (config.rows() as u64).saturating_mul(config.d_model as u64);
        Self {
            block: block_numbers(config).unwrap_or(u64::MAX),
            embedding: table,
            head: if config.weight_tying { 0 } else { table },
        }
    }

    /// Returns the most elements that are gathered at one time: the current block and the next, the embedding and the
    /// head.
    #[must_use]
    pub fn gathered(self) -> u64 {
        self.block
            .saturating_mul(2)
            .saturating_add(self.embedding)
            .saturating_add(self.head)
    }

    /// Returns the most gradient elements that are in transfer at one time: two of the largest group, and those
    /// received of one group.
    #[must_use]
    pub fn in_flight(self) -> u64 {
        self.block.max(self.embedding).saturating_mul(3)
    }
}
