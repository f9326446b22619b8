//! The update of moments and weights: a fused CPU kernel in one pass where it applies, and otherwise
//! libtorch's operators piece by piece, so that no temporary is as large as the model.

use demask_api::Adam;
use demask_api::plan::UPDATED_AT_ONCE;
use tch::Tensor;

use crate::error::Result;
use crate::training::optimizer::moments::{self, FlatRange, MomentLayout, Moments};
use crate::training::optimizer::muon::{self, Matrix};
use crate::training::ranks::Share;
use crate::weights::shards::Segment;

/// The number of elements that take Adam's update at one time.
const PIECE: i64 = UPDATED_AT_ONCE as i64;

/// One update of AdamW.
pub(super) struct Update<'a> {
    pub adam: &'a Adam,
    pub rate: f64,
    /// The factor that clips the gradient.
    pub clipped: f64,
    /// The number of the step, counted from 1.
    pub step: u64,
}

impl Update<'_> {
    /// Returns the bias corrections `1 - beta^step` of both moments.
    fn corrections(&self) -> (f64, f64) {
        let count = i32::try_from(self.step).unwrap_or(i32::MAX);
        (
            1.0 - self.adam.beta1.powi(count),
            1.0 - self.adam.beta2.powi(count),
        )
    }

    /// Updates moments and weights in one pass with the CPU kernel, and zeroes the gradient.
    #[cfg(fused)]
    pub fn fused(&self, grad: &Tensor, moments: &Moments, master: &Tensor) -> Result<()> {
        let (correct1, correct2) = self.corrections();
        let adam = self.adam;
        let rates = [
            self.clipped,
            1.0 - self.rate * adam.weight_decay,
            self.rate,
            1.0 - adam.beta1,
            1.0 - adam.beta2,
            1.0 / correct1,
            1.0 / correct2.sqrt(),
            adam.eps,
        ];
        kernel::adamw([grad, &moments.first, &moments.second, master], rates)
    }

    #[cfg(not(fused))]
    pub fn fused(&self, _: &Tensor, _: &Moments, _: &Tensor) -> Result<()> {
        Err(crate::error::ModelError::Refused(
            "this build has no CPU kernels".into(),
        ))
    }

    /// Updates moments and weights with libtorch's operators, with Muon's update of matrices if it is asked
    /// for, and zeroes the gradient. If several ranks train together, `share` has the parts of matrices that other
    /// ranks own.
    pub fn composed(
        &self,
        grad: &Tensor,
        moments: &Moments,
        master: &Tensor,
        (layout, share): (&MomentLayout, Option<&Share>),
    ) -> Result<()> {
        for run in layout.runs(self.adam.muon) {
            let mut done = 0;
            while done < run.count {
                let piece = FlatRange {
                    flat: run.flat + done,
                    count: PIECE.min(run.count - done),
                    second: run.second + done,
                    place: run.place + done,
                    second_place: run.second_place + done,
                };
                self.adam_piece(grad, moments, master, piece)?;
                done += piece.count;
            }
        }
        if self.adam.muon {
            let at_once = share.map_or(1, Share::ranks);
            for round in layout.batches.chunks(at_once) {
                self.muon_round(grad, moments, master, round, (layout, share))?;
            }
        }
        Ok(())
    }

    fn adam_piece(&self, grad: &Tensor, moments: &Moments, master: &Tensor, piece: FlatRange) -> Result<()> {
        let (adam, (correct1, correct2)) = (self.adam, self.corrections());
        let mut grad = grad.f_narrow(0, piece.flat, piece.count)?;
        let mut kept_first = moments.first.f_narrow(0, piece.flat, piece.count)?;
        let mut kept_second = moments.second.f_narrow(0, piece.second, piece.count)?;
        let fetched = |kept: &Tensor| moments::fetched(kept, adam.offload, master.device());
        let (mut first, mut second) = (fetched(&kept_first)?, fetched(&kept_second)?);
        if self.clipped < 1.0 {
            let _ = grad.f_mul_scalar_(self.clipped)?;
        }
        let _ = first.f_lerp_(&grad, 1.0 - adam.beta1)?;
        let _ = second.f_lerp_(&grad.f_square()?, 1.0 - adam.beta2)?;
        let mut denominator = second.f_sqrt()?;
        let _ = denominator
            .f_mul_scalar_(1.0 / correct2.sqrt())?
            .f_add_scalar_(adam.eps)?;
        let mut update = first.f_div(&denominator)?;
        drop(denominator);
        let _ = update.f_mul_scalar_(1.0 / correct1)?;
        moments::store(&first, &mut kept_first, (piece.place, self.step))?;
        moments::store(&second, &mut kept_second, (piece.second_place, self.step))?;
        self.moved(&mut master.f_narrow(0, piece.flat, piece.count)?, update)?;
        let _ = grad.f_zero_()?;
        Ok(())
    }

    /// Updates matrices by Muon: a batch of one shape for each rank.
    fn muon_round(
        &self,
        grad: &Tensor,
        moments: &Moments,
        master: &Tensor,
        round: &[Vec<Matrix>],
        (layout, share): (&MomentLayout, Option<&Share>),
    ) -> Result<()> {
        let beta1 = self.adam.beta1;
        let fetched = |kept: &Tensor| moments::fetched(kept, self.adam.offload, grad.device());
        let of = |flat: &Tensor, part: &Segment| flat.f_narrow(0, part.at, part.length);
        let momentum = |part: &Segment| -> Result<Tensor> {
            // Nesterov momentum: the updated momentum, moved once more towards the gradient.
            let slope = of(grad, part)?.f_mul_scalar(self.clipped)?;
            let first = fetched(&of(&moments.first, part)?)?;
            Ok(first.f_lerp(&slope, 1.0 - beta1.powi(2))?)
        };
        let parts: Vec<Vec<Segment>> = round.iter().map(|batch| layout.parts(batch)).collect();
        let of_batch = |parts: &Vec<Segment>| parts.iter().map(momentum).collect::<Result<Vec<_>>>();
        let momenta = parts.iter().map(of_batch).collect::<Result<Vec<_>>>()?;
        let directions = match share {
            Some(share) => share.directions(round, momenta)?,
            None => {
                let batches = round.iter().zip(momenta);
                let made = batches.map(|(batch, momenta)| muon::directions(batch, momenta));
                made.collect::<Result<_>>()?
            }
        };
        for (part, direction) in parts.iter().flatten().zip(directions.into_iter().flatten()) {
            let mut grad = of(grad, part)?;
            let mut kept = of(&moments.first, part)?;
            let mut first = fetched(&kept)?;
            if self.clipped < 1.0 {
                let _ = grad.f_mul_scalar_(self.clipped)?;
            }
            let _ = first.f_lerp_(&grad, 1.0 - beta1)?;
            moments::store(&first, &mut kept, (part.start, self.step))?;
            self.moved(&mut of(master, part)?, direction)?;
            let _ = grad.f_zero_()?;
        }
        Ok(())
    }

    /// Applies weight decay and moves the weights against a direction.
    fn moved(&self, weights: &mut Tensor, mut direction: Tensor) -> Result<()> {
        if self.adam.weight_decay != 0.0 {
            let _ = weights.f_mul_scalar_(1.0 - self.rate * self.adam.weight_decay)?;
        }
        let _ = weights.f_sub_(&direction.f_mul_scalar_(self.rate)?)?;
        Ok(())
    }
}

#[cfg(fused)]
mod kernel {
    use std::ffi::c_int;

    use tch::Tensor;

    use crate::device::kernels::ffi::{Handle, check, handle};
    use crate::error::Result;

    unsafe extern "C" {
        fn demask_adamw(
            grad: Handle,
            first: Handle,
            second: Handle,
            master: Handle,
            rates: *const f32,
        ) -> c_int;
    }

    /// Calls the kernel with the rates in the order of `AdamwRates` in `csrc/adamw.cpp`.
    pub(super) fn adamw([grad, first, second, master]: [&Tensor; 4], rates: [f64; 8]) -> Result<()> {
        #[allow(clippy::cast_possible_truncation)]
        let rates = rates.map(|rate| rate as f32);
        // SAFETY: the handles are live tensors, whose shapes, dtypes and device are checked before anything
        // is written; eight rates are read.
        check(unsafe {
            demask_adamw(
                handle(grad),
                handle(first),
                handle(second),
                handle(master),
                rates.as_ptr(),
            )
        })
    }
}
