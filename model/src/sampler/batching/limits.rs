//! The limits on how much is sampled at one time.

use demask_api::activations::place_bytes;
use demask_api::{BackboneConfig, memory};
use tch::Kind;

use crate::network::room::bytes_of;

/// The limits of a running batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The number of rows; a row with guidance counts twice.
    pub rows: usize,
    /// The number of tokens in all rows together, and of places in the cache. One row is always admitted, even beyond
    /// this.
    pub tokens: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            rows: 64,
            tokens: 65_536,
        }
    }
}

/// Lowers the token limit to what fits into `free` bytes of device memory.
///
/// A token costs two places in the cache, since the old and the new cache both exist while it grows, and the
/// activations of one transformer block in a pass over all places. Up to 8 GiB, but at most a quarter of `free`, is
/// left for the draw.
#[must_use]
pub fn sampling_limits(limits: Limits, free: u64, config: &BackboneConfig, kind: Kind) -> Limits {
    let block = (8 * config.d_model + 4 * config.hidden()) as u64 * bytes_of(kind);
    let draw = 1u64 << 33;
    let usable = memory::usable(free).saturating_sub(draw.min(free / 4));
    let tokens = usable / (2 * place_bytes(config, bytes_of(kind)) + block).max(1);
    Limits {
        tokens: usize::try_from(tokens)
            .unwrap_or(limits.tokens)
            .clamp(1, limits.tokens),
        ..limits
    }
}

#[cfg(test)]
mod tests {
    use demask_api::published;

    use super::*;

    fn eight_billion() -> BackboneConfig {
        let config = published::read(r#"{"model_type": "mmada"}"#);
        config.unwrap_or_default()
    }

    #[test]
    fn an_h100_samples_within_its_memory() {
        let config = eight_billion();
        let free = 85_000_000_000 - 16_800_000_000;
        let limits = sampling_limits(Limits::default(), free, &config, Kind::BFloat16);
        assert_eq!(place_bytes(&config, 2), 512 * 1024);
        assert!(limits.tokens >= 32 * 1024, "{limits:?}");
        assert!(limits.tokens as u64 * 2 * place_bytes(&config, 2) < free);
        let small = BackboneConfig {
            d_model: 64,
            n_heads: 4,
            n_layers: 2,
            ..config
        };
        assert_eq!(
            sampling_limits(Limits::default(), free, &small, Kind::BFloat16),
            Limits::default()
        );
    }
}
