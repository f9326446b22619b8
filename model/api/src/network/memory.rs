//! How much memory a network takes at the least, and how much this machine has (law L9): a configuration of a few bytes may
//! describe more than there is. A product that is too large for a number is more than any machine has.

use std::path::{Path, PathBuf};

use crate::network::config::{BackboneConfig, ImageTokenizerConfig, StackConfig};

/// Rotary tables that a backbone keeps: cosines, sines, and sines with a sign.
const TABLES: u64 = 3;
/// Bytes of an f32.
const F32: u64 = 4;

/// A network that takes more memory than there is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("its weights take {needed} of memory at the least; {free} are free here", needed = needed.map_or_else(|| "more than 16 EiB".to_owned(), shown), free = shown(*.free))]
pub struct TooLarge {
    /// Bytes; none when a number of 64 bits does not hold them.
    pub needed: Option<u64>,
    /// Bytes that are free.
    pub free: u64,
}

/// Whether so many bytes are free; where it is not known how many are, they are taken to be.
///
/// # Errors
/// [`TooLarge`].
pub fn fits(needed: Option<u64>, free: Option<u64>) -> Result<(), TooLarge> {
    let free = free.unwrap_or(u64::MAX);
    match needed {
        Some(needed) if needed <= free => Ok(()),
        needed => Err(TooLarge { needed, free }),
    }
}

/// Numbers of a block's matrices.
#[must_use]
pub fn block_numbers(config: &BackboneConfig) -> Option<u64> {
    let [model, hidden] = [config.d_model, config.hidden()].map(|count| count as u64);
    let heads = (config.kv_heads() as u64).checked_mul(config.head_dim() as u64)?;
    let attention = model.checked_mul(model)?.checked_mul(2)?;
    let keys = heads.checked_mul(model)?.checked_mul(2)?;
    let forward = model.checked_mul(hidden)?.checked_mul(3)?;
    attention.checked_add(keys)?.checked_add(forward)
}

/// Numbers of a backbone's matrices, embedding and head.
#[must_use]
pub fn backbone_numbers(config: &BackboneConfig) -> Option<u64> {
    let tables = if config.weight_tying { 1 } else { 2 };
    let embedding = (config.rows() as u64)
        .checked_mul(config.d_model as u64)?
        .checked_mul(tables)?;
    block_numbers(config)?
        .checked_mul(config.n_layers as u64)?
        .checked_add(embedding)
}

/// Bytes of a backbone's weights, so many bytes a number, and of its rotary tables.
#[must_use]
pub fn backbone_bytes(config: &BackboneConfig, width: u64) -> Option<u64> {
    let angles = (config.max_sequence_length as u64).checked_mul(config.head_dim() as u64)?;
    backbone_numbers(config)?
        .checked_mul(width)?
        .checked_add(angles.checked_mul(TABLES * F32)?)
}

/// Bytes of an image tokenizer's weights, which are always f32.
#[must_use]
pub fn image_tokenizer_bytes(config: &ImageTokenizerConfig) -> Option<u64> {
    let numbers = stack_numbers(&config.encoder)?.checked_add(stack_numbers(&config.decoder)?)?;
    numbers.checked_mul(F32)
}

/// Numbers of the convolutions of a half, without biases, shortcuts and what halves or doubles the sides.
fn stack_numbers(config: &StackConfig) -> Option<u64> {
    let mut all = 0_u64;
    let mut widest = 0_u64;
    for (&multiple, &blocks) in config.ch_mult.iter().zip(&config.num_res_blocks) {
        let width = (config.ch as u64).checked_mul(multiple as u64)?;
        let convolution = width.checked_mul(width)?.checked_mul(9)?;
        // A level's first block may come from one channel.
        let convolutions = (2 * blocks as u64).saturating_sub(1);
        all = all.checked_add(convolution.checked_mul(convolutions)?)?;
        widest = convolution;
    }
    all.checked_add(widest.checked_mul(4)?)
}

/// Bytes that a process may still ask for: what the machine has free, swap included, or what is left of its control group's
/// limit where that is less. None where the system does not say.
#[must_use]
pub fn free() -> Option<u64> {
    let machine = machine_free(Path::new("/proc/meminfo"));
    let groups = groups(Path::new("/proc/self/cgroup"), Path::new("/sys/fs/cgroup"));
    let left = groups.iter().filter_map(|group| group_free(group));
    left.chain(machine).min()
}

fn machine_free(file: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(file).ok()?;
    let kib = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key))?;
        line.trim_end_matches("kB").trim().parse::<u64>().ok()
    };
    let swap = kib("SwapFree:").unwrap_or(0);
    Some(kib("MemAvailable:")?.saturating_add(swap).saturating_mul(1024))
}

/// The folders of a process's control group and of those around it.
fn groups(own: &Path, root: &Path) -> Vec<PathBuf> {
    let text = std::fs::read_to_string(own).unwrap_or_default();
    let named = text.lines().filter_map(|line| {
        let (_, rest) = line.split_once(':')?;
        match rest.split_once(':')? {
            ("", path) => Some(root.join(path.trim_start_matches('/'))),
            (kinds, path) if kinds.split(',').any(|kind| kind == "memory") => {
                Some(root.join("memory").join(path.trim_start_matches('/')))
            }
            _ => None,
        }
    });
    let mut all: Vec<PathBuf> = named
        .flat_map(|folder| {
            let around = folder.ancestors().take_while(|around| around.starts_with(root));
            around.map(Path::to_owned).collect::<Vec<_>>()
        })
        .collect();
    all.push(root.join("memory"));
    all
}

/// What is left of a control group's limit; what it keeps of files can be given back.
fn group_free(group: &Path) -> Option<u64> {
    let number = |name: &str| {
        let text = std::fs::read_to_string(group.join(name)).ok()?;
        text.trim().parse::<u64>().ok()
    };
    let either = |new: &str, old: &str| number(new).or_else(|| number(old));
    let limit = either("memory.max", "memory.limit_in_bytes")?;
    let used = either("memory.current", "memory.usage_in_bytes")?;
    let text = std::fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
    let files = ["inactive_file ", "active_file "]
        .iter()
        .filter_map(|key| text.lines().find_map(|line| line.strip_prefix(key)))
        .filter_map(|count| count.trim().parse::<u64>().ok())
        .fold(0, u64::saturating_add);
    Some(limit.saturating_sub(used.saturating_sub(files)))
}

/// Bytes as a person reads them.
fn shown(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let (mut number, mut unit) = (bytes as f64 / 1024.0, UNITS[0]);
    for next in &UNITS[1..] {
        if number < 1024.0 {
            break;
        }
        (number, unit) = (number / 1024.0, next);
    }
    format!("{number:.1} {unit}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn lladas_weights_are_counted_as_published() {
        let config = crate::published::read("{}").unwrap();
        let bytes = backbone_bytes(&config, 2).unwrap();
        assert!((16_000_000_000..16_100_000_000).contains(&bytes), "{bytes}");
    }

    #[test]
    fn l9_what_no_number_holds_is_more_than_there_is() {
        let config = BackboneConfig {
            d_model: 1 << 40,
            n_layers: 1 << 40,
            ..BackboneConfig::default()
        };
        let needed = backbone_bytes(&config, 2);
        assert_eq!(needed, None);
        let refused = fits(needed, Some(3 << 30)).unwrap_err().to_string();
        assert!(
            refused.contains("more than 16 EiB") && refused.contains("3.0 GiB"),
            "{refused}"
        );
        assert!(fits(Some(5), None).is_ok());
        let refused = fits(Some(5 << 40), Some(1 << 20)).unwrap_err().to_string();
        assert!(
            refused.contains("5.0 TiB") && refused.contains("1.0 MiB"),
            "{refused}"
        );
    }

    #[test]
    fn a_machine_says_how_much_is_free() {
        if Path::new("/proc/meminfo").exists() {
            assert!(free().unwrap() > 1 << 20);
        }
    }
}
