//! The limits on data from outside (law L9): the configurations of networks, the counts of a profile and of a command
//! line that cost memory, disk or time, and the small files beside weights. No published network comes near them. A
//! value beyond its limit is refused by name before anything is built.

/// The allowed range of a count, with both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CountRange {
    /// The smallest allowed value.
    pub least: u64,
    /// The largest allowed value.
    pub most: u64,
}

impl CountRange {
    /// Whether a number is in the range.
    #[must_use]
    pub fn contains(self, number: u64) -> bool {
        (self.least..=self.most).contains(&number)
    }
}

/// Creates a range with both ends included.
const fn range(least: u64, most: u64) -> CountRange {
    CountRange { least, most }
}

/// The width of a residual stream. The widest published networks have 16,384.
pub const WIDTH: CountRange = range(1, 65_536);
/// The number of heads of a layer.
pub const HEADS: CountRange = range(1, 1024);
/// The number of layers of a transformer. The deepest published networks have 126.
pub const LAYERS: CountRange = range(1, 1024);
/// The width of a feed-forward layer.
pub const HIDDEN: CountRange = range(1, 1_000_000);
/// The width of a feed-forward layer as a multiple of the residual stream's.
pub const HIDDEN_RATIO: CountRange = range(1, 1024);
/// The number of positions of a sequence. The rotary tables have a row for each.
pub const POSITIONS: CountRange = range(1, 1 << 24);
/// The size of a vocabulary. A drawn token is returned as an f32, which holds every integer up to here exactly.
pub const VOCABULARY: CountRange = range(1, 1 << 24);
/// The id of a token.
pub const TOKEN: CountRange = range(0, 1 << 24);
/// The number of picture codes in a vocabulary; 0 for a text model.
pub const CODEBOOK: CountRange = range(0, 1 << 18);
/// The number of channels of an image tokenizer's first level.
pub const CHANNELS: CountRange = range(1, 65_536);
/// The width of a level of an image tokenizer as a multiple of the first level's.
pub const CHANNEL_MULTIPLE: CountRange = range(1, 1024);
/// The number of levels of an image tokenizer. Each but the last halves the sides of a picture.
pub const LEVELS: CountRange = range(1, 10);
/// The number of residual blocks of a level. The published image tokenizer has at most 4.
pub const RESIDUAL_BLOCKS: CountRange = range(0, 64);
/// The number of channels of a picture.
pub const COLOURS: CountRange = range(3, 3);
/// The side of a picture in pixels.
pub const PIXELS: CountRange = range(1, 65_536);
/// The number of bits of a picture code.
pub const CODE_BITS: CountRange = range(1, 18);
/// The number of groups of a group norm.
pub const NORM_GROUPS: CountRange = range(1, 1024);
/// The rank of an adapter.
pub const RANK: CountRange = range(1, 65_536);

/// The number of steps by which the weights that draw a rollout may be older than those that are trained on it. A run
/// keeps up to twice as many folders of weights, and one.
pub const STALENESS: CountRange = range(0, 16);

/// The number of denoising steps. A sample stores the step of each token in two bytes.
pub const STEPS: CountRange = range(1, 65_535);
/// The number of samples of a prompt. Published studies of repeated sampling draw 10,000.
pub const SAMPLES: CountRange = range(1, 65_536);
/// The most samples of a step or round of a stage, with those drawn in place of others. The largest published steps have
/// 16,384.
pub const MOST_STEP_SAMPLES: usize = 1 << 18;
/// The number of samples of an item of an evaluation, all of which are held until the suite is judged.
pub const ITEM_SAMPLES: CountRange = range(1, 1024);
/// The number of items of a suite, all of which are held. The largest published benchmark, VQAv2, has 214,354.
pub const ITEMS: CountRange = range(1, 1_000_000);
/// The number of parts of an evaluation that is divided among machines.
pub const PARTS: CountRange = range(1, 65_536);
/// The number of samples, and of items, of each kind on a report's page, which has their pictures in it.
pub const SHOWN_SAMPLES: CountRange = range(0, 10_000);
/// The number of sequences that an engine samples at the same time.
pub const ROWS: CountRange = range(1, 65_536);
/// The number of CPU threads of a process.
pub const THREADS: CountRange = range(1, 1024);
/// The seconds for which a process may be told to wait: up to a day.
pub const SECONDS: CountRange = range(1, 86_400);
/// The most pixels of a picture that is written to a file: 200 MB without compression.
pub const MOST_WRITTEN_PIXELS: u64 = 1 << 26;

/// The most bytes of a `config.json`, a manifest, an index of weights, or a file of sampler settings or prompts. The
/// longest known one, an index of 200 files, has 10 MB.
pub const LONGEST_CONFIG: u64 = 64 << 20;
/// The most values of JSON in such a file. An index has one for each tensor.
pub const MOST_CONFIG_VALUES: usize = 1_000_000;
/// The most bytes of a `tokenizer.json`. The longest known ones have 35 MB.
pub const LONGEST_TOKENIZER: u64 = 256 << 20;
/// The most values of JSON in a `tokenizer.json`. 260,000 tokens with as many merges, as pairs, are a million.
pub const MOST_TOKENIZER_VALUES: usize = 8_000_000;
/// The most values of JSON in a row of a data set. A picture of 224 x 224 pixels, written as numbers, has 150,000.
pub const MOST_ROW_VALUES: usize = 500_000;
/// The most bytes of a profile, a study, a file of benchmarks or the settings of samplers that a user names. The
/// control socket takes no longer command.
pub const LONGEST_NAMED: u64 = 4 << 20;
/// The most bytes of a list of prompts, all of which is held.
pub const LONGEST_LIST: u64 = 1 << 30;
/// The most files that a manifest may list.
pub const MOST_FILES: usize = 100_000;
