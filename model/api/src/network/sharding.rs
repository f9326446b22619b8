//! Several ranks: what each of them has alone, and what it makes on its way because the rest is elsewhere.

use crate::network::config::BackboneConfig;
use crate::network::memory::block_numbers;
use crate::training::step_settings::Shard;

/// Numbers of a range of the gradient that cross at one time (`training/ranks/share.rs` in the engine).
pub const BUCKET: u64 = 16 * 65_536;

/// How a model lies on several ranks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ranks {
    /// How many there are.
    pub count: u64,
    /// What is divided over them.
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
    /// A rank's part of so many bytes, the largest one.
    #[must_use]
    pub fn part(self, bytes: u64) -> u64 {
        bytes.div_ceil(self.count.max(1))
    }

    /// Whether weights are divided: there is somebody to divide them with.
    #[must_use]
    pub fn divides_weights(self) -> bool {
        self.count > 1 && self.shard == Shard::Weights
    }

    /// What a step's exchange of gradients makes on its way where weights are everywhere: what is sent to every owner and what comes back,
    /// in f32, a bucket at a time.
    #[must_use]
    pub fn exchanged_bytes(self, numbers: u64) -> u64 {
        if self.count < 2 {
            return 0;
        }
        2 * 4 * self.count * BUCKET.min(self.part(numbers))
    }
}

/// Numbers of a backbone's groups, each of which is gathered whole.
#[derive(Clone, Copy, Debug)]
pub struct GatheredGroups {
    /// A block's.
    pub block: u64,
    /// The embedding's.
    pub embedding: u64,
    /// The head's, where it is not the embedding.
    pub head: u64,
}

impl GatheredGroups {
    /// Those of a shape.
    #[must_use]
    pub fn of(config: &BackboneConfig) -> Self {
        let table = (config.rows() as u64).saturating_mul(config.d_model as u64);
        Self {
            block: block_numbers(config).unwrap_or(u64::MAX),
            embedding: table,
            head: if config.weight_tying { 0 } else { table },
        }
    }

    /// Numbers that are gathered at one time, at most: the block at hand and the next, embedding and head.
    #[must_use]
    pub fn gathered(self) -> u64 {
        self.block
            .saturating_mul(2)
            .saturating_add(self.embedding)
            .saturating_add(self.head)
    }

    /// Numbers of gradients that are on their way at one time, at most: two of the largest group, and what arrives of one.
    #[must_use]
    pub fn in_flight(self) -> u64 {
        self.block.max(self.embedding).saturating_mul(3)
    }
}
