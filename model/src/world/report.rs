//! The report of each rank about itself and about a step, known to all ranks.

use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

use demask_api::machine::host_name;
use demask_api::{DistReport, RankReport, memory};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use super::group::{ProcessGroup, Reduce};
use crate::device::cuda;
use crate::error::{ModelError, Result};

/// The bytes of an identity as JSON, padded with spaces. A host name has at most 64 bytes, a GPU's identity 40.
const IDENTITY: usize = 256;
/// The number of values in a rank's report of a step: memory and its peak, the same for the device, the seconds, and
/// the three values of its communication.
const NUMBERS: usize = 8;

/// The properties of a rank that do not change while its world lives.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Identity {
    host: String,
    pid: u32,
    device: String,
    /// The identity of the GPU, if there is one that tells it.
    gpu: Option<String>,
    began_us: i64,
}

impl Identity {
    fn own(device: Device) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            host: host_name(),
            pid: std::process::id(),
            device: match device {
                Device::Cuda(number) => format!("cuda:{number}"),
                _ => "cpu".to_owned(),
            },
            gpu: cuda::identity(device),
            began_us: i64::try_from(since.as_micros()).unwrap_or(i64::MAX),
        }
    }

    /// Returns the name of the rank's machine.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Tells all ranks this rank's identity, and returns those of all in their order. All ranks call together.
    ///
    /// # Errors
    /// A peer that is gone; an identity that is not readable.
    pub fn exchange(group: &ProcessGroup, device: Device) -> Result<Vec<Self>> {
        let unreadable = |error: serde_json::Error| ModelError::World(format!("a rank's identity: {error}"));
        let mut own = serde_json::to_vec(&Self::own(device)).map_err(unreadable)?;
        own.resize(IDENTITY.max(own.len()), b' ');
        let own = Tensor::f_from_slice(&own[..IDENTITY])?;
        let pieces: Vec<Tensor> = (0..group.size())
            .map(|rank| match rank == group.rank() {
                true => Ok(own.shallow_clone()),
                false => Tensor::f_zeros([IDENTITY as i64], (Kind::Uint8, Device::Cpu)),
            })
            .collect::<std::result::Result<_, _>>()?;
        if group.size() > 1 {
            group.all_gather(&pieces)?;
        }
        let read = |piece: Tensor| -> Result<Self> {
            serde_json::from_slice(&Vec::<u8>::try_from(piece)?).map_err(unreadable)
        };
        pieces.into_iter().map(read).collect()
    }
}

/// Checks that each rank has a device of its own, and all have the same kind. NCCL, which only GPUs have, would wait for
/// the ranks on CPUs, and it refuses two ranks on one GPU. Every rank comes to the same result.
///
/// # Errors
/// Returns [`ModelError::Refused`] with two ranks that cannot train together.
pub(super) fn check_devices(identities: &[Identity]) -> Result<()> {
    let is_cpu = |rank: &Identity| rank.device == "cpu";
    if let Some(first) = identities.first()
        && let Some(other) = identities.iter().position(|rank| is_cpu(rank) != is_cpu(first))
    {
        let Identity { host, device, .. } = &identities[other];
        return Err(ModelError::Refused(format!(
            "rank 0 on {} computes on {}, but rank {other} on {host} computes on {device}; start all ranks with \
             --device cuda, or all with --device cpu",
            first.host, first.device
        )));
    }
    for (rank, own) in identities.iter().enumerate() {
        let mut earlier = identities[..rank].iter();
        let Some(before) = earlier.position(|other| own.gpu.is_some() && own.gpu == other.gpu) else {
            continue;
        };
        let here: Vec<&Identity> = identities.iter().filter(|other| other.host == own.host).collect();
        let gpus: BTreeSet<&String> = here.iter().filter_map(|other| other.gpu.as_ref()).collect();
        return Err(ModelError::Refused(format!(
            "ranks {before} and {rank} on {} have the same GPU ({}): {} ranks there chose {}, and each needs one of its \
             own; start no more ranks than there are GPUs, and with --device cuda rather than a numbered one",
            own.host,
            own.gpu.as_deref().unwrap_or_default(),
            here.len(),
            match gpus.len() {
                1 => "1 GPU".to_owned(),
                count => format!("{count} GPUs"),
            }
        )));
    }
    Ok(())
}

/// Returns the reports of all ranks of a group about a step that took this one so long, of which `dist` went between it
/// and its peers. All ranks call together.
///
/// # Errors
/// A peer that is gone.
pub(super) fn exchange_reports(
    group: &ProcessGroup,
    identities: &[Identity],
    device: Device,
    seconds: f64,
    dist: DistReport,
) -> Result<Vec<RankReport>> {
    let (resident, peak) = memory::resident(u64::from(std::process::id()));
    let on_device = cuda::memory(device).unwrap_or_default();
    let own: [f64; NUMBERS] = [
        resident as f64,
        peak as f64,
        on_device.used as f64,
        on_device.peak as f64,
        seconds,
        dist.wait_seconds,
        dist.seconds,
        dist.bytes as f64,
    ];
    let all = Tensor::f_zeros([group.size() as i64, NUMBERS as i64], (Kind::Double, Device::Cpu))?;
    all.f_select(0, group.rank() as i64)?
        .f_copy_(&Tensor::f_from_slice(&own)?)?;
    if group.size() > 1 {
        // At most one summand of each sum is not zero, so no order of the summands changes the sum.
        group.all_reduce(&all, Reduce::Sum)?;
    }
    let all = Vec::<f64>::try_from(all.f_reshape([-1])?)?;
    let ranks = identities.iter().zip(all.chunks_exact(NUMBERS));
    Ok(ranks.map(|(rank, numbers)| report(rank, numbers)).collect())
}

fn report(rank: &Identity, numbers: &[f64]) -> RankReport {
    // Counts of bytes below 2^53 are exact in f64.
    let bytes = |at: usize| numbers[at] as u64;
    RankReport {
        host: rank.host.clone(),
        pid: rank.pid,
        device: rank.device.clone(),
        began_us: rank.began_us,
        memory: bytes(0),
        peak: bytes(1),
        device_memory: bytes(2),
        device_peak: bytes(3),
        seconds: numbers[4],
        dist: DistReport {
            wait_seconds: numbers[5],
            seconds: numbers[6],
            bytes: bytes(7),
        },
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn rank(host: &str, device: &str, gpu: Option<&str>) -> Identity {
        Identity {
            host: host.to_owned(),
            pid: 1,
            device: device.to_owned(),
            gpu: gpu.map(str::to_owned),
            began_us: 0,
        }
    }

    #[test]
    fn ranks_with_gpus_of_their_own_may_train_together() {
        // Each of two ranks of a machine may see one device, which is cuda:0 to it.
        let own = [
            rank("a", "cuda:0", Some("1")),
            rank("a", "cuda:0", Some("2")),
            rank("b", "cuda:0", Some("3")),
        ];
        check_devices(&own).unwrap();
        check_devices(&[rank("a", "cpu", None), rank("a", "cpu", None)]).unwrap();
        // Of GPUs that are not told apart NCCL decides.
        check_devices(&[rank("a", "cuda:0", None), rank("a", "cuda:0", None)]).unwrap();
    }

    #[test]
    fn two_ranks_on_one_gpu_and_ranks_on_other_kinds_of_devices_are_refused() {
        let refused = |ranks: &[Identity]| check_devices(ranks).unwrap_err().to_string();
        let shared = refused(&[
            rank("b", "cuda:0", Some("9")),
            rank("a", "cuda:0", Some("1")),
            rank("a", "cuda:1", Some("2")),
            rank("a", "cuda:0", Some("1")),
        ]);
        for words in [
            "ranks 1 and 3 on a have the same GPU (1)",
            "3 ranks there chose 2 GPUs",
        ] {
            assert!(shared.contains(words), "{shared}");
        }
        let mixed = refused(&[rank("a", "cuda:0", Some("1")), rank("b", "cpu", None)]);
        let words = "rank 0 on a computes on cuda:0, but rank 1 on b computes on cpu";
        assert!(mixed.contains(words), "{mixed}");
    }

    #[test]
    fn an_identity_fits_into_its_bytes() {
        let longest = rank(
            &"h".repeat(64),
            "cuda:15",
            Some("GPU-f0f1f2f3-f4f5-f6f7-f8f9-fafbfcfdfeff"),
        );
        let longest = Identity {
            pid: u32::MAX,
            began_us: i64::MAX,
            ..longest
        };
        assert!(serde_json::to_vec(&longest).unwrap().len() <= IDENTITY);
    }
}
