//! The storage of the gradient's moments, in f32 or bf16. Matrices that take Muon's update have no second
//! moment.
//!
//! A bf16 number has a significand of eight bits, so a second moment that changes by a thousandth per step
//! would never change. Values are therefore rounded up or down by a dither that runs evenly through all
//! fractions from step to step, and depends on nothing but position and step. On average nothing is lost;
//! each number is off by up to 0.8 %.

use std::borrow::Cow;

use demask_api::MomentKind;
use tch::{Device, Kind, Tensor};

use crate::error::Result;
use crate::training::optimizer::muon;
use crate::weights::parameters::Parameters;

/// The dither's increments per position and per step, in 65,536ths. They are odd and near the golden ratio's
/// fractions (0.618 and 0.382).
const DITHER: (i64, i64) = (40_503, 25_033);

/// A contiguous range of the flat master weights that takes Adam's update when Muon is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FlatRange {
    /// The offset in the master weights, and the length.
    pub flat: i64,
    pub count: i64,
    /// The offset among all numbers that have a second moment.
    pub second: i64,
}

/// The number of parameters, and the ranges that Muon leaves to Adam.
#[derive(Clone, Debug)]
pub(super) struct MomentLayout {
    pub numbers: i64,
    beside_muon: Vec<FlatRange>,
}

impl MomentLayout {
    pub fn new(parameters: &Parameters) -> Self {
        let (mut flat, mut second) = (0, 0);
        let mut runs: Vec<FlatRange> = Vec::new();
        for slot in parameters.slots() {
            let count = slot.len();
            if !muon::takes(slot) {
                match runs.last_mut().filter(|run| run.flat + run.count == flat) {
                    Some(run) => run.count += count,
                    None => runs.push(FlatRange { flat, count, second }),
                }
                second += count;
            }
            flat += count;
        }
        Self {
            numbers: flat,
            beside_muon: runs,
        }
    }

    /// Returns the ranges that take Adam's update.
    pub fn runs(&self, muon: bool) -> Cow<'_, [FlatRange]> {
        if muon {
            return Cow::Borrowed(&self.beside_muon);
        }
        Cow::Owned(vec![FlatRange {
            flat: 0,
            count: self.numbers,
            second: 0,
        }])
    }

    /// Returns how many numbers have a second moment.
    pub fn seconds(&self, muon: bool) -> i64 {
        self.runs(muon).iter().map(|run| run.count).sum()
    }
}

/// The first and second moments.
#[derive(Debug)]
pub(super) struct Moments {
    /// The first moment of every number.
    pub first: Tensor,
    /// The second moments of the numbers that take Adam's update, back to back.
    pub second: Tensor,
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
        let (kind, count) = (stored(kind), layout.seconds(muon));
        if self.first.kind() == kind && self.second.numel() as i64 == count {
            let elsewhere = self.first.device() != device;
            return elsewhere.then(|| self.moved(device)).transpose();
        }
        let have = self.second.numel() as i64;
        let second = if have == count {
            self.second.f_to_kind(kind)?
        } else if have > count {
            // All numbers had a second moment; those of the matrices are dropped.
            let of = |run: &FlatRange| self.second.f_narrow(0, run.flat, run.count);
            let kept = layout.runs(true).iter().map(of).collect::<Result<Vec<_>, _>>()?;
            Tensor::f_cat(&kept, 0)?.f_to_kind(kind)?
        } else {
            let all = self.first.f_to_kind(Kind::Float)?.f_square()?;
            for run in layout.runs(true).iter() {
                let own = self.second.f_narrow(0, run.second, run.count)?;
                all.f_narrow(0, run.flat, run.count)?.f_copy_(&own)?;
            }
            all.f_to_kind(kind)?
        };
        let made = Self {
            first: self.first.f_to_kind(kind)?,
            second,
        };
        made.moved(device).map(Some)
    }

    fn moved(&self, device: Device) -> Result<Self> {
        Ok(Self {
            first: self.first.f_to_device(device)?,
            second: self.second.f_to_device(device)?,
        })
    }

    /// Copies the moments.
    ///
    /// # Errors
    /// Returns libtorch's errors.
    pub fn copied(&self) -> Result<Self> {
        let copy = |tensor: &Tensor| -> Result<Tensor> {
            let mut copy = tensor.f_empty_like()?;
            copy.f_copy_(tensor)?;
            Ok(copy)
        };
        Ok(Self {
            first: copy(&self.first)?,
            second: copy(&self.second)?,
        })
    }
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
/// them among all moments.
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
