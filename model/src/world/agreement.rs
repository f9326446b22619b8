//! The agreement of all ranks of a world: that each of them is ready, on the result of a piece of work, and on the dtype
//! that they compute in.

use tch::{Device, Kind, Tensor};

use super::group::{ProcessGroup, Reduce};
use super::member::World;
use crate::error::{ModelError, Result};

/// The length in bytes of a rank's failure message.
const WORDS: usize = 400;

impl World {
    /// Makes all ranks agree that each of them is ready. A rank that is not returns its own error, also one of its device,
    /// and takes part in no later call. All ranks call together.
    ///
    /// # Errors
    /// The error in `own`; [`ModelError::World`] with the lowest rank that is not ready and its reason, or if a peer is
    /// gone.
    pub(super) fn all_ready<T>(&self, own: Result<T>) -> Result<T> {
        match (first_failure(self.group(Device::Cpu), own.as_ref().err()), own) {
            (_, Err(own)) => Err(own),
            (Err(lost), Ok(_)) => Err(lost),
            (Ok(Some(words)), Ok(_)) => Err(ModelError::World(words)),
            (Ok(None), Ok(done)) => Ok(done),
        }
    }

    /// Makes all ranks agree on the result of a piece of work that each has done its part of. Returns this
    /// rank's value if every rank succeeded. Otherwise every rank returns the same message, that of the
    /// lowest failed rank, so that all continue alike.
    ///
    /// # Errors
    /// Returns [`ModelError::Refused`] if a rank failed, and [`ModelError::World`] if a peer is gone.
    pub fn agree<T>(&self, own: Result<T>) -> Result<T> {
        // A rank whose device failed or that lost a peer cannot take part in further calls. The others notice
        // when it leaves.
        if let Err(error) = &own
            && (error.is_device_fault() || matches!(error, ModelError::World(_)))
        {
            return own;
        }
        if self.size() == 1 {
            return own;
        }
        match first_failure(self.group(Device::Cpu), own.as_ref().err())? {
            None => own,
            Some(words) => Err(ModelError::Refused(words)),
        }
    }

    /// Checks that all ranks compute in the same dtype. Otherwise the bits would depend on which rank computes what
    /// (law L11). All ranks call together.
    ///
    /// # Errors
    /// Returns [`ModelError::Refused`] with two ranks whose dtypes differ, and [`ModelError::World`] if a peer is
    /// gone.
    pub fn check_dtype(&self, kind: Kind) -> Result<()> {
        if self.size() == 1 {
            return Ok(());
        }
        let mut halves = vec![0_i64; self.size()];
        halves[self.rank()] = i64::from(kind == Kind::BFloat16);
        let halves = Tensor::f_from_slice(&halves)?;
        self.group(Device::Cpu).all_reduce(&halves, Reduce::Sum)?;
        let halves = Vec::<i64>::try_from(halves)?;
        let Some(other) = halves.iter().position(|half| *half != halves[0]) else {
            return Ok(());
        };
        let names = |rank: usize| {
            let dtype = if halves[rank] == 0 { "f32" } else { "bf16" };
            (self.identities[rank].host(), dtype)
        };
        let ((host, dtype), (other_host, other_dtype)) = (names(0), names(other));
        Err(ModelError::Refused(format!(
            "rank 0 on {host} computes in {dtype}, but rank {other} on {other_host} computes in {other_dtype}; start \
             all ranks with the same --dtype"
        )))
    }
}

/// Returns the lowest rank with an error and the error's words; `None` if no rank has one. All ranks of the group, which
/// is over the CPU, call together.
fn first_failure(group: &ProcessGroup, own: Option<&ModelError>) -> Result<Option<String>> {
    let (rank, size) = (group.rank() as i64, group.size() as i64);
    let first = Tensor::f_from_slice(&[if own.is_none() { size } else { rank }])?;
    group.all_reduce(&first, Reduce::Least)?;
    let first = first.f_int64_value(&[0])?;
    if first == size {
        return Ok(None);
    }
    let mut words = own.map_or_else(String::new, ToString::to_string).into_bytes();
    words.resize(WORDS, 0);
    let words = Tensor::f_from_slice(&words)?;
    group.broadcast(&words, usize::try_from(first).unwrap_or(0))?;
    let words = Vec::<u8>::try_from(words)?;
    let words = String::from_utf8_lossy(&words);
    Ok(Some(format!("rank {first}: {}", words.trim_end_matches('\0'))))
}
