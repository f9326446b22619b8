//! The seat of a process among those of its machine, by which the devices `auto` and `cuda` are divided among them.
//!
//! A device that is named with its number is taken whatever the seat, also by every rank of a world. Each rank may see
//! devices of its own, because `CUDA_VISIBLE_DEVICES` or Slurm (`--gpus-per-task`) gives each of them others. Whether
//! two ranks have the same GPU is therefore decided in the world, by the GPUs' identities (`world/report.rs`).

use std::num::NonZeroUsize;
use std::str::FromStr;

use crate::error::{ModelError, Result};
use crate::world::Membership;

/// The seat of a process among those of its machine that compute for one run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Seat {
    /// No other process is known of.
    #[default]
    Alone,
    /// A rank of a world, which has a GPU of its own.
    Rank {
        /// The number of the rank on its machine, from 0.
        number: usize,
        /// The number of ranks on its machine, if it is known.
        count: Option<usize>,
    },
    /// An engine that samples beside the processes that train. Several engines may have the same GPU.
    Sampler {
        /// The number of the engine on its machine, from 0.
        number: usize,
        /// The number of processes that train on its machine.
        trainers: usize,
    },
}

impl Seat {
    /// Returns the seat of a member of a world.
    #[must_use]
    pub fn of(member: &Membership) -> Self {
        Self::Rank {
            number: member.local_rank,
            count: member.local_size,
        }
    }

    /// Returns the number of the device for this seat among `devices` that the process sees. A sampling engine takes
    /// a device that no training process has, in turn, or shares theirs in turn if there is none.
    ///
    /// # Errors
    /// Refuses a rank for which there is no device. A single device is taken by every rank, because each of them may
    /// see another one.
    pub fn device(self, devices: NonZeroUsize) -> Result<usize> {
        let count = devices.get();
        match self {
            Self::Alone => Ok(0),
            Self::Rank { .. } if count == 1 => Ok(0),
            Self::Rank { number, count: ranks } => {
                let needed = ranks.unwrap_or(0).max(number + 1);
                if needed <= count {
                    return Ok(number);
                }
                Err(ModelError::Refused(format!(
                    "{needed} ranks on this machine, but only {count} GPUs (cuda:0 to cuda:{}): each rank needs one of its \
                     own; start at most {count} ranks here, or train on the CPU (--device cpu)",
                    count - 1
                )))
            }
            Self::Sampler { number, trainers } if trainers < count => {
                Ok(trainers + number % (count - trainers))
            }
            Self::Sampler { number, .. } => Ok(number % count),
        }
    }
}

/// The words `TRAINERS,NUMBER` of a sampling engine's command line.
impl FromStr for Seat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "expected TRAINERS,NUMBER, two numbers as in 1,0".to_owned();
        let (trainers, number) = text.split_once(',').ok_or_else(wrong)?;
        Ok(Self::Sampler {
            number: number.parse().map_err(|_| wrong())?,
            trainers: trainers.parse().map_err(|_| wrong())?,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn among(seat: Seat, devices: usize) -> Result<usize> {
        seat.device(NonZeroUsize::new(devices).unwrap())
    }

    #[test]
    fn ranks_take_the_devices_of_their_numbers() {
        let rank = |number, count| Seat::Rank { number, count };
        for number in 0..4 {
            assert_eq!(among(rank(number, Some(4)), 4).unwrap(), number);
            assert_eq!(among(rank(number, None), 8).unwrap(), number);
            // Each may see another device under the number 0.
            assert_eq!(among(rank(number, Some(4)), 1).unwrap(), 0);
        }
        assert_eq!(among(Seat::Alone, 4).unwrap(), 0);
    }

    #[test]
    fn more_ranks_than_devices_are_refused_with_both_numbers() {
        let rank = |number, count| Seat::Rank { number, count };
        // Every rank knows it where their number is known, and else the first one without a device.
        for seat in [rank(0, Some(3)), rank(2, Some(3)), rank(2, None)] {
            let message = among(seat, 2).unwrap_err().to_string();
            for words in [
                "3 ranks on this machine",
                "only 2 GPUs (cuda:0 to cuda:1)",
                "at most 2 ranks",
            ] {
                assert!(message.contains(words), "{seat:?}: {message}");
            }
        }
        assert_eq!(among(rank(1, None), 2).unwrap(), 1);
    }

    #[test]
    fn samplers_take_the_devices_that_no_rank_has_and_share_in_turn_if_there_is_none() {
        let devices = |trainers, devices| -> Vec<usize> {
            let seats = (0..5).map(|number| Seat::Sampler { number, trainers });
            seats.map(|seat| among(seat, devices).unwrap()).collect()
        };
        assert_eq!(devices(1, 1), [0, 0, 0, 0, 0]);
        assert_eq!(devices(1, 2), [1, 1, 1, 1, 1]);
        assert_eq!(devices(1, 4), [1, 2, 3, 1, 2]);
        assert_eq!(devices(2, 2), [0, 1, 0, 1, 0]);
        assert_eq!(devices(4, 2), [0, 1, 0, 1, 0]);
        assert_eq!(devices(0, 2), [0, 1, 0, 1, 0]);
    }

    #[test]
    fn a_samplers_words_are_two_numbers() {
        let (number, trainers) = (3, 2);
        assert_eq!("2,3".parse(), Ok(Seat::Sampler { number, trainers }));
        for text in ["", "2", "2,", ",3", "2,3,4", "-1,0"] {
            assert!(text.parse::<Seat>().is_err(), "{text}");
        }
    }
}
