//! The least memory that a network takes, the free memory of this machine, and a process's resident memory (law L9). A
//! configuration of a few bytes may describe a network that is larger than any machine. A size that overflows 64 bits
//! is `None` and counts as too large.

use std::path::{Path, PathBuf};

use crate::network::config::{BackboneConfig, ImageTokenizerConfig, StackConfig};

/// The number of rotary tables of a backbone: cosines, sines, and sines with a sign.
const TABLES: u64 = 3;
/// The bytes of an f32.
const F32: u64 = 4;
/// The share of the free memory that stays unused, for fragmentation and for the needs of libraries.
const SPARE: f64 = 0.08;

/// The error for a network that takes more memory than is free.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("its weights need {needed} of memory, but {free} are free", needed = needed.map_or_else(|| "more than 16 EiB".to_owned(), |bytes| format!("at least {}", shown(bytes))), free = shown(*.free))]
pub struct TooLarge {
    /// The needed bytes, or `None` if they overflow 64 bits.
    pub needed: Option<u64>,
    /// The free bytes.
    pub free: u64,
}

/// Checks that the needed bytes are free. If the free memory is not known, they count as free.
///
/// # Errors
/// [`TooLarge`] if they are not.
pub fn fits(needed: Option<u64>, free: Option<u64>) -> Result<(), TooLarge> {
    let free = free.unwrap_or(u64::MAX);
    match needed {
        Some(needed) if needed <= free => Ok(()),
        needed => Err(TooLarge { needed, free }),
    }
}

/// Returns the part of the free memory that is used.
#[must_use]
pub fn usable(free: u64) -> u64 {
    (free as f64 * (1.0 - SPARE)) as u64
}

/// Returns the rows and columns of a block's linear layers, in the order of
/// [`LINEAR_LAYERS`](crate::network::loading::LINEAR_LAYERS).
#[must_use]
pub fn layer_shapes(config: &BackboneConfig) -> [(u64, u64); 7] {
    let [model, hidden] = [config.d_model, config.hidden()].map(|count| count as u64);
    let kv = (config.kv_heads() as u64).saturating_mul(config.head_dim() as u64);
    [
        (model, model),
        (kv, model),
        (kv, model),
        (model, model),
        (hidden, model),
        (hidden, model),
        (model, hidden),
    ]
}

/// Returns the number of parameters in the matrices of a block.
#[must_use]
pub fn block_numbers(config: &BackboneConfig) -> Option<u64> {
    let mut shapes = layer_shapes(config).into_iter();
    shapes.try_fold(0_u64, |sum, (rows, columns)| {
        sum.checked_add(rows.checked_mul(columns)?)
    })
}

/// Returns the number of parameters in the matrices, the embedding and the head of a backbone.
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

/// Returns the number of gradient elements that exist beside those of the parameters if a head whose weights are the
/// embedding's is trained. The backward pass computes the gradient of each of the two uses, first the head's and last
/// the embedding's, and adds them to each other at its end.
#[must_use]
pub fn tied_gradient_numbers(config: &BackboneConfig) -> u64 {
    if config.weight_tying {
        (config.rows() as u64).saturating_mul(config.d_model as u64)
    } else {
        0
    }
}

/// Returns the bytes of a backbone's weights, at `width` bytes per number, and of its rotary tables.
#[must_use]
pub fn backbone_bytes(config: &BackboneConfig, width: u64) -> Option<u64> {
    let angles = (config.max_sequence_length as u64).checked_mul(config.head_dim() as u64)?;
    backbone_numbers(config)?
        .checked_mul(width)?
        .checked_add(angles.checked_mul(TABLES * F32)?)
}

/// Returns the bytes of an image tokenizer's weights, which are always f32.
#[must_use]
pub fn image_tokenizer_bytes(config: &ImageTokenizerConfig) -> Option<u64> {
    let numbers = stack_numbers(&config.encoder)?.checked_add(stack_numbers(&config.decoder)?)?;
    numbers.checked_mul(F32)
}

/// Returns the number of parameters in the convolutions of an encoder or decoder, without biases, shortcuts,
/// downsampling and upsampling.
fn stack_numbers(config: &StackConfig) -> Option<u64> {
    let mut all = 0_u64;
    let mut widest = 0_u64;
    for (&multiple, &blocks) in config.ch_mult.iter().zip(&config.num_res_blocks) {
        let width = (config.ch as u64).checked_mul(multiple as u64)?;
        let convolution = width.checked_mul(width)?.checked_mul(9)?;
        // The first convolution of a level may have few input channels, so it is not counted.
        let convolutions = (2 * blocks as u64).saturating_sub(1);
        all = all.checked_add(convolution.checked_mul(convolutions)?)?;
        widest = convolution;
    }
    all.checked_add(widest.checked_mul(4)?)
}

/// Returns the bytes that this process can still allocate: the free memory of the machine including swap, or what its
/// control group's limit leaves, if that is less. Returns `None` if the system does not report them.
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

/// Returns the folders of a process's control group and of its ancestors.
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

/// Returns what the limit of a control group leaves. Its page cache counts as free, because it can be reclaimed.
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

/// Returns the resident memory of a process and its peak, in bytes; 0 where the system does not report it.
#[must_use]
pub fn resident(pid: u64) -> (u64, u64) {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let bytes = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key));
        let kib = line.and_then(|rest| rest.trim_end_matches("kB").trim().parse::<u64>().ok());
        kib.unwrap_or(0) * 1024
    };
    (bytes("VmRSS:"), bytes("VmHWM:"))
}

/// Formats a number of bytes with a binary unit.
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
    fn a_process_holds_some_memory_and_never_more_than_its_peak() {
        let (now, peak) = resident(u64::from(std::process::id()));
        assert!(now > 100_000 && now <= peak, "{now} {peak}");
        assert_eq!(resident(u64::MAX), (0, 0));
    }

    #[test]
    fn a_machine_says_how_much_is_free() {
        if Path::new("/proc/meminfo").exists() {
            assert!(free().unwrap() > 1 << 20);
        }
    }
}
