//! The instruction set of the CPU's kernels for attention over the KV cache and for products with packed weights: the
//! widest of the processor, unless [`KERNELS`] names a narrower one.
//!
//! Each set has its own tile size (`csrc/register_tiles.h`) and its own rounding. All give the same tokens, unless
//! two tokens are almost equally likely.

use std::sync::OnceLock;

/// The environment variable that names an instruction set.
pub const KERNELS: &str = "DEMASK_KERNELS";

/// An instruction set of the kernels. The numbers are those of `csrc/attention_tiles.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i64)]
pub enum KernelSet {
    /// AVX-512, with the tiles of AMX for products in bf16.
    Amx,
    /// AVX-512, with its dot products for products in bf16.
    Avx512Bf16,
    /// AVX-512: 32 registers of 16 numbers.
    Avx512,
    /// AVX2 with FMA: 16 registers of 8 numbers.
    Avx2,
    /// The baseline of every processor: registers of 4 numbers.
    Plain,
}

static CHOSEN: OnceLock<Option<KernelSet>> = OnceLock::new();

impl KernelSet {
    /// Returns the name of the set in [`KERNELS`].
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Amx => "amx",
            Self::Avx512Bf16 => "avx512bf16",
            Self::Avx512 => "avx512",
            Self::Avx2 => "avx2",
            Self::Plain => "plain",
        }
    }

    /// Returns whether the set has instructions for products in bf16.
    #[must_use]
    pub fn multiplies_bf16(self) -> bool {
        matches!(self, Self::Amx | Self::Avx512Bf16)
    }

    /// Returns the sets that this processor and this build support, the widest first.
    #[must_use]
    pub fn here() -> Vec<Self> {
        let mut sets = vec![Self::Amx, Self::Avx512Bf16, Self::Avx512, Self::Avx2, Self::Plain];
        sets.retain(|&set| has(set));
        sets
    }

    /// Returns the set that this process uses, or `None` in a build without kernels. The first call chooses it.
    #[must_use]
    pub fn chosen() -> Option<Self> {
        *CHOSEN.get_or_init(|| {
            let asked = std::env::var(KERNELS).ok();
            let (set, complaint) = choose(asked.as_deref(), &Self::here());
            if let Some(complaint) = complaint {
                tracing::warn!("{complaint}");
            }
            set
        })
    }
}

#[cfg(fused)]
fn has(set: KernelSet) -> bool {
    unsafe extern "C" {
        fn demask_has_kernels(set: i64) -> bool;
    }
    // SAFETY: the function takes a number and queries the processor.
    unsafe { demask_has_kernels(set as i64) }
}

#[cfg(not(fused))]
fn has(_: KernelSet) -> bool {
    false
}

/// Chooses the requested set if it is supported, otherwise the widest. Returns it with a warning if the request failed.
fn choose(asked: Option<&str>, here: &[KernelSet]) -> (Option<KernelSet>, Option<String>) {
    let best = here.first().copied();
    let asked = asked.map(str::trim).filter(|asked| !asked.is_empty());
    let Some(asked) = asked else {
        return (best, None);
    };
    if let Some(&set) = here.iter().find(|set| set.name() == asked) {
        return (Some(set), None);
    }
    let Some(used) = best else {
        return (
            None,
            Some(format!("{KERNELS}={asked}: this build has no CPU kernels")),
        );
    };
    let names: Vec<&str> = here.iter().map(|set| set.name()).collect();
    let complaint = format!(
        "{KERNELS}={asked}: expected one that this processor has ({}); {} is used",
        names.join(", "),
        used.name()
    );
    (best, Some(complaint))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const BOTH: [KernelSet; 2] = [KernelSet::Avx2, KernelSet::Plain];

    #[test]
    fn a_set_that_is_here_is_taken_and_the_best_where_none_is_named() {
        for (asked, set) in [
            (None, KernelSet::Avx2),
            (Some(" "), KernelSet::Avx2),
            (Some("plain"), KernelSet::Plain),
        ] {
            assert_eq!(choose(asked, &BOTH), (Some(set), None));
        }
    }

    #[test]
    fn a_set_that_is_not_here_is_complained_of_with_those_that_are() {
        for asked in ["avx512", "fast"] {
            let (set, complaint) = choose(Some(asked), &BOTH);
            assert_eq!(set, Some(KernelSet::Avx2));
            let expected = format!(
                "DEMASK_KERNELS={asked}: expected one that this processor has (avx2, plain); avx2 is used"
            );
            assert_eq!(complaint.unwrap(), expected);
        }
        let (set, complaint) = choose(Some("avx2"), &[]);
        assert!(set.is_none() && complaint.unwrap().contains("no CPU kernels"));
    }
}
