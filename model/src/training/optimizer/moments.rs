//! The storage of the gradient's moments, in f32 or bf16. Matrices that take Muon's update have no second
//! moment.
//!
//! A bf16 number has a significand of eight bits, so a second moment that changes by a thousandth per step
//! would never change. Values are therefore rounded up or down by a dither that runs evenly through all
//! fractions from step to step, and depends on nothing but position and step. On average nothing is lost;
//! each number is off by up to 0.8 %.

use demask_api::MomentKind;
use tch::{Device, Kind, Tensor};

use crate::error::Result;
use crate::training::optimizer::muon::{self, Matrix};
use crate::weights::shards::{RankOf, Segment, ShardMap};
use crate::weights::slot::Slot;

/// The dither's increments per position and per step, in 65,536ths. They are odd and near the golden ratio's
/// fractions (0.618 and 0.382).
const DITHER: (i64, i64) = (40_503, 25_033);

/// A contiguous range of the numbers whose optimizer state a process owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FlatRange {
    /// The offset in the owned master weights, and the length.
    pub flat: i64,
    pub count: i64,
    /// The offset among the owned numbers that have a second moment.
    pub second: i64,
    /// The same two offsets among the numbers of all ranks. The dither depends on these, so that it does not depend
    /// on the number of ranks (law L11).
    pub place: i64,
    pub second_place: i64,
}

/// The numbers whose state a process owns, and how Adam and Muon share them.
#[derive(Clone, Debug)]
pub(super) struct MomentLayout {
    /// The number of owned parameters.
    pub numbers: i64,
    /// The owners of all parameters. A single process owns all of them.
    pub map: ShardMap,
    /// The owners of the second moments, if Muon's matrices have none.
    pub seconds_beside_muon: ShardMap,
    /// The ranges that take Adam's update without Muon, and with it.
    all: Vec<FlatRange>,
    beside_muon: Vec<FlatRange>,
    /// The matrices that take Muon's update, in batches, those that cost most first.
    pub batches: Vec<Vec<Matrix>>,
}

impl MomentLayout {
    /// Returns the layout of parameters that one process owns.
    pub fn alone(slots: &[Slot]) -> Self {
        let total = slots.iter().map(Slot::len).sum();
        Self::new(slots, ShardMap::in_ranges(total, RankOf { rank: 0, size: 1 }))
    }

    /// Returns the layout of this rank's part of the parameters.
    pub fn new(slots: &[Slot], map: ShardMap) -> Self {
        let runs = runs_beside_muon(slots);
        let (mut all, mut beside_muon) = (Vec::new(), Vec::new());
        let mut second = 0;
        for segment in map.own_segments() {
            all.push(FlatRange {
                flat: segment.at,
                count: segment.length,
                second: segment.at,
                place: segment.start,
                second_place: segment.start,
            });
            for run in &runs {
                let from = run.place.max(segment.start);
                let count = (run.place + run.count).min(segment.start + segment.length) - from;
                if count > 0 {
                    beside_muon.push(FlatRange {
                        flat: segment.at + from - segment.start,
                        count,
                        second,
                        place: from,
                        second_place: run.second_place + from - run.place,
                    });
                    second += count;
                }
            }
        }
        let before = |place: i64| -> i64 {
            let parts = runs.iter().map(|run| (place - run.place).clamp(0, run.count));
            parts.sum()
        };
        Self {
            numbers: map.owned(map.own().rank),
            seconds_beside_muon: map.thinned(before),
            map,
            all,
            beside_muon,
            batches: muon::batches(slots),
        }
    }

    /// Returns the ranges that take Adam's update.
    pub fn runs(&self, muon: bool) -> &[FlatRange] {
        if muon { &self.beside_muon } else { &self.all }
    }

    /// Returns how many of the owned numbers have a second moment.
    pub fn seconds(&self, muon: bool) -> i64 {
        self.runs(muon).iter().map(|run| run.count).sum()
    }

    /// Returns the owners of the second moments.
    pub fn seconds_map(&self, muon: bool) -> &ShardMap {
        if muon {
            &self.seconds_beside_muon
        } else {
            &self.map
        }
    }

    /// Returns the parts of a batch of matrices that this rank owns, one after the other.
    pub fn parts(&self, batch: &[Matrix]) -> Vec<Segment> {
        let rank = self.map.own().rank;
        let parts = batch.iter().flat_map(|matrix| self.map.within(matrix.range()));
        parts.filter(|part| part.rank == rank).collect()
    }
}

/// Returns the ranges of all parameters that Muon leaves to Adam.
fn runs_beside_muon(slots: &[Slot]) -> Vec<FlatRange> {
    let (mut flat, mut second) = (0, 0);
    let mut runs: Vec<FlatRange> = Vec::new();
    for slot in slots {
        let count = slot.len();
        if !muon::takes(slot) {
            match runs.last_mut().filter(|run| run.flat + run.count == flat) {
                Some(run) => run.count += count,
                None => runs.push(FlatRange {
                    flat,
                    count,
                    second,
                    place: flat,
                    second_place: second,
                }),
            }
            second += count;
        }
        flat += count;
    }
    runs
}

/// The first and second moments.
#[derive(Debug)]
pub(super) struct Moments {
    /// The first moment of every number.
    pub first: Tensor,
    /// The second moments, back to back.
    pub second: Tensor,
    /// Whether only the numbers that Muon leaves to Adam have a second moment.
    pub is_beside_muon: bool,
}

impl Moments {
    /// Returns moments of zero.
    ///
    /// # Errors
    /// Returns libtorch's errors.
    pub fn zeros(layout: &MomentLayout, (kind, muon): (MomentKind, bool), device: Device) -> Result<Self> {
        let place = (stored(kind), device);
        Ok(Self {
            first: Tensor::f_zeros([layout.numbers], place)?,
            second: Tensor::f_zeros([layout.seconds(muon)], place)?,
            is_beside_muon: muon,
        })
    }

    /// Converts the moments to the form that a step needs; `None` if they have it already. When Muon hands a
    /// matrix back to Adam, its second moment starts as the square of its first moment, which has the
    /// magnitude of its gradients.
    ///
    /// # Errors
    /// Returns libtorch's errors.
    pub fn wanted(
        &self,
        layout: &MomentLayout,
        (kind, muon): (MomentKind, bool),
        device: Device,
    ) -> Result<Option<Self>> {
        let kind = stored(kind);
        if self.first.kind() == kind && self.is_beside_muon == muon {
            let elsewhere = self.first.device() != device;
            return elsewhere.then(|| self.moved(device)).transpose();
        }
        let second = if self.is_beside_muon == muon {
            self.second.f_to_kind(kind)?
        } else if muon {
            // All numbers had a second moment; those of the matrices are dropped.
            let kept = Tensor::f_empty([layout.seconds(true)], (kind, self.second.device()))?;
            for run in layout.runs(true) {
                let own = self.second.f_narrow(0, run.flat, run.count)?;
                kept.f_narrow(0, run.second, run.count)?.f_copy_(&own)?;
            }
            kept
        } else {
            let all = self.first.f_to_kind(Kind::Float)?.f_square()?;
            for run in layout.runs(true) {
                let own = self.second.f_narrow(0, run.second, run.count)?;
                all.f_narrow(0, run.flat, run.count)?.f_copy_(&own)?;
            }
            all.f_to_kind(kind)?
        };
        let made = Self {
            first: self.first.f_to_kind(kind)?,
            second,
            is_beside_muon: muon,
        };
        made.moved(device).map(Some)
    }

    fn moved(&self, device: Device) -> Result<Self> {
        Ok(Self {
            first: self.first.f_to_device(device)?,
            second: self.second.f_to_device(device)?,
            is_beside_muon: self.is_beside_muon,
        })
    }

    /// Copies the moments.
    ///
    /// # Errors
    /// Returns libtorch's errors.
    pub fn copied(&self) -> Result<Self> {
        Ok(Self {
            first: copied(&self.first)?,
            second: copied(&self.second)?,
            is_beside_muon: self.is_beside_muon,
        })
    }
}

/// Copies a tensor.
///
/// # Errors
/// Returns libtorch's errors.
pub(super) fn copied(tensor: &Tensor) -> Result<Tensor> {
    let mut copy = tensor.f_empty_like()?;
    copy.f_copy_(tensor)?;
    Ok(copy)
}

/// Returns the dtype that moments are stored in.
pub(super) fn stored(kind: MomentKind) -> Kind {
    match kind {
        MomentKind::F32 => Kind::Float,
        MomentKind::Bf16 => Kind::BFloat16,
    }
}

/// Returns stored moments as f32 on the device of the update: the stored tensor itself if it is that already,
/// and a copy otherwise. Offloaded moments are copied on a CPU too, so that a CPU runs the same code as a
/// GPU.
///
/// # Errors
/// Returns libtorch's errors.
pub(super) fn fetched(kept: &Tensor, offloaded: bool, device: Device) -> Result<Tensor> {
    if !offloaded {
        return Ok(kept.f_to_kind(Kind::Float)?);
    }
    let mut own = Tensor::f_empty(&kept.size()[..], (kept.kind(), device))?;
    own.f_copy_(kept)?;
    Ok(own.f_to_kind(Kind::Float)?)
}

/// Stores f32 values as moments, with dither if they are stored in bf16. `at` is the index of the first of
/// them among the moments of all ranks.
///
/// # Errors
/// Returns libtorch's errors.
pub(super) fn store(values: &Tensor, into: &mut Tensor, (at, step): (i64, u64)) -> Result<()> {
    if into.kind() == Kind::Float {
        // The values are the stored tensor itself, or were copied from host memory.
        if values.data_ptr() != into.data_ptr() {
            into.f_copy_(values)?;
        }
        return Ok(());
    }
    let (count, device) = (values.numel() as i64, values.device());
    let begun = i64::try_from(step % (1 << 16)).unwrap_or(0) * DITHER.1;
    let mut places = Tensor::f_arange_start(at, at + count, (Kind::Int64, device))?;
    let _ = places
        .f_mul_scalar_(DITHER.0)?
        .f_add_scalar_(begun)?
        .f_bitwise_and_(0xffff)?;
    // The upper half of an f32 is a bf16. A number n added to the lower half carries over for n of the 65,536
    // lower halves.
    let mut bits = places.f_to_kind(Kind::Int)?;
    drop(places);
    let _ = bits
        .f_add_(&values.f_reshape([-1])?.f_view_dtype(Kind::Int)?)?
        .f_bitwise_and_(-0x1_0000)?;
    into.f_copy_(&bits.f_view_dtype(Kind::Float)?.f_reshape(into.size())?)?;
    Ok(())
}
