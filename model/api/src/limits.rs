//! What comes from outside has limits (law L9): those of networks' configurations and of the small files beside weights, in one
//! place. No published network comes near them; what passes one is refused by name before anything is built.

/// The least and the most that a count may be, both allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CountRange {
    /// The least.
    pub least: u64,
    /// The most.
    pub most: u64,
}

/// From one number to another, both allowed.
const fn range(least: u64, most: u64) -> CountRange {
    CountRange { least, most }
}

/// Width of a residual stream; the widest published ones have 16,384.
pub const WIDTH: CountRange = range(1, 65_536);
/// Heads of a layer.
pub const HEADS: CountRange = range(1, 1024);
/// Layers of a transformer; the deepest published ones have 126.
pub const LAYERS: CountRange = range(1, 1024);
/// Width of a feed-forward.
pub const HIDDEN: CountRange = range(1, 1_000_000);
/// Width of a feed-forward as a multiple of the residual stream's.
pub const HIDDEN_RATIO: CountRange = range(1, 1024);
/// Positions of a sequence: as many pairs of angles are kept in memory.
pub const POSITIONS: CountRange = range(1, 1 << 24);
/// Rows of a vocabulary: a drawn token is told as an f32, which holds every number up to here exactly.
pub const VOCABULARY: CountRange = range(1, 1 << 24);
/// A token's id.
pub const TOKEN: CountRange = range(0, 1 << 24);
/// Picture codes of a vocabulary; none for a model of text.
pub const CODEBOOK: CountRange = range(0, 1 << 18);
/// Channels of an image tokenizer's first level.
pub const CHANNELS: CountRange = range(1, 65_536);
/// By how much a level of an image tokenizer is wider than the first.
pub const CHANNEL_MULTIPLE: CountRange = range(1, 1024);
/// Levels of an image tokenizer: each halves the sides of a picture.
pub const LEVELS: CountRange = range(1, 10);
/// Residual blocks of a level; the published image tokenizer has 4.
pub const RESIDUAL_BLOCKS: CountRange = range(0, 64);
/// Channels of a picture.
pub const COLOURS: CountRange = range(3, 3);
/// Side of a picture in pixels.
pub const PIXELS: CountRange = range(1, 65_536);
/// Bits of a picture code.
pub const CODE_BITS: CountRange = range(1, 18);
/// Groups of a group norm.
pub const NORM_GROUPS: CountRange = range(1, 1024);
/// Rank of an adapter.
pub const RANK: CountRange = range(1, 65_536);

/// Bytes of a `config.json`, a manifest, an index of weights, settings of samplers or prompts. The longest known one, an index
/// of 200 files, has 10 MB.
pub const LONGEST_CONFIG: u64 = 64 << 20;
/// Bytes of a `tokenizer.json`; the longest known ones have 35 MB.
pub const LONGEST_TOKENIZER: u64 = 256 << 20;
/// Files that a manifest lists.
pub const MOST_FILES: usize = 100_000;
