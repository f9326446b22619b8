//! AdamW on the flat master (decoupled weight decay on every parameter, as published), clipping, a moving average; with
//! Muon the blocks' matrices take another update.

use std::collections::BTreeMap;

use demask_api::{Adam, StepSettings};
use tch::{Kind, Tensor};

use crate::device::kernels::fused;
use crate::device::transfer;
use crate::error::{ModelError, Result};
use crate::training::optimizer::muon;
use crate::training::ranks::Share;
use crate::weights::parameters::Parameters;

/// The optimiser's state for one network.
#[derive(Debug)]
pub struct AdamW {
    step: u64,
    first: Tensor,
    second: Tensor,
    /// Gradient accumulator; zero between steps.
    grad: Tensor,
    average: Option<Tensor>,
    /// The rank's part of the state, where several train together: all of the above is that part alone.
    share: Option<Share>,
}

/// The gradient norm of a step, and whether the step was taken.
#[derive(Clone, Copy, Debug)]
pub struct Stepped {
    /// Gradient norm before clipping.
    pub grad_norm: f64,
    /// False when it was not finite; nothing was changed then.
    pub finite: bool,
}

/// Weights and optimiser state at one moment.
#[derive(Debug)]
pub struct Snapshot {
    master: Tensor,
    step: u64,
    first: Tensor,
    second: Tensor,
    average: Option<Tensor>,
}

impl Snapshot {
    /// The weights, flat, f32.
    pub fn master(&self) -> &Tensor {
        &self.master
    }
}

impl AdamW {
    /// A fresh state.
    ///
    /// # Errors
    /// libtorch's.
    pub fn new(parameters: &Parameters) -> Result<Self> {
        let zeros = || parameters.master().f_zeros_like();
        Ok(Self {
            step: 0,
            first: zeros()?,
            second: zeros()?,
            grad: zeros()?,
            average: None,
            share: None,
        })
    }

    /// A fresh state of a rank's part of the parameters. What is taken from here on is taken by all ranks together.
    ///
    /// # Errors
    /// libtorch's.
    pub fn shared(share: Share, parameters: &Parameters) -> Result<Self> {
        let own = Self::new(&share.own(parameters)?)?;
        Ok(Self {
            share: Some(share),
            ..own
        })
    }

    /// The rank's part, where several train together.
    #[must_use]
    pub fn share(&self) -> Option<&Share> {
        self.share.as_ref()
    }

    /// The accumulator: of a rank that shares, of its part.
    pub(in crate::training) fn accumulator(&self) -> &Tensor {
        &self.grad
    }

    /// Steps so far.
    #[must_use]
    pub fn step_count(&self) -> u64 {
        self.step
    }

    /// How many numbers it works on.
    #[must_use]
    pub fn numbers(&self) -> u64 {
        self.share
            .as_ref()
            .map_or(self.grad.numel() as u64, Share::numbers)
    }

    /// Takes the leaves' gradients into the accumulator.
    ///
    /// # Errors
    /// libtorch's.
    pub fn accumulate(&mut self, parameters: &mut Parameters) -> Result<()> {
        parameters.gather_grads(&mut self.grad)
    }

    /// Drops what was accumulated, and what a backward pass that failed midway left in the leaves.
    ///
    /// # Errors
    /// libtorch's.
    pub fn discard(&mut self, parameters: &mut Parameters) -> Result<()> {
        parameters.clear_grads();
        let _ = self.grad.f_zero_()?;
        Ok(())
    }

    /// One step with what was accumulated for a `loss` whose gradient has that norm ([`Self::norm`]); when either is not
    /// finite, weights and state stay as they were. Either way nothing remains accumulated.
    ///
    /// # Errors
    /// libtorch's.
    pub fn step_on(
        &mut self,
        (loss, grad_norm): (f64, f64),
        parameters: &mut Parameters,
        settings: &StepSettings,
        ema: f64,
    ) -> Result<Stepped> {
        if loss.is_finite() {
            let (rate, clip) = (settings.learning_rate, settings.clip_norm);
            return tch::no_grad(|| {
                let figures = (clip, grad_norm);
                let Some(share) = self.share.clone() else {
                    return self.step_inner(parameters, &settings.adam, rate, figures, ema);
                };
                share.step(parameters, |own| {
                    self.step_inner(own, &settings.adam, rate, figures, ema)
                })
            });
        }
        self.discard(parameters)?;
        Ok(Stepped {
            grad_norm,
            finite: false,
        })
    }

    /// The norm of what was accumulated, [1] f64, still on its device: so that it is read together with the losses.
    ///
    /// # Errors
    /// libtorch's.
    pub fn norm(&self) -> Result<Tensor> {
        if let Some(share) = &self.share {
            return share.norm(&self.grad);
        }
        Ok(self.grad.f_norm()?.f_to_kind(Kind::Double)?.f_reshape([1])?)
    }

    /// One step with what was accumulated; leaves weights and state as they were when that is not finite.
    ///
    /// # Errors
    /// libtorch's; nothing was changed then.
    pub fn step(
        &mut self,
        parameters: &Parameters,
        adam: &Adam,
        learning_rate: f64,
        clip_norm: f64,
        ema: f64,
    ) -> Result<Stepped> {
        tch::no_grad(|| {
            let grad_norm = transfer::read(&self.norm()?)?[0];
            self.step_inner(parameters, adam, learning_rate, (clip_norm, grad_norm), ema)
        })
    }

    fn step_inner(
        &mut self,
        parameters: &Parameters,
        adam: &Adam,
        rate: f64,
        (clip, grad_norm): (f64, f64),
        ema: f64,
    ) -> Result<Stepped> {
        if !grad_norm.is_finite() {
            let _ = self.grad.f_zero_()?;
            return Ok(Stepped {
                grad_norm,
                finite: false,
            });
        }
        let clipped = if clip > 0.0 && grad_norm > clip {
            clip / (grad_norm + 1e-6)
        } else {
            1.0
        };
        // All memory is taken before anything changes: a device that has none left leaves the state whole.
        let first_average = (ema > 0.0 && self.average.is_none())
            .then(|| self.grad.f_empty_like())
            .transpose()?;
        if !adam.muon && fused::applies_to(self.grad.device(), self.grad.kind()) {
            self.update_fused(parameters.master(), adam, rate, clipped)?;
        } else {
            self.update(parameters, adam, rate, clipped)?;
        }
        let master = parameters.master();
        if let Some(mut average) = first_average {
            average.f_copy_(master)?;
            self.average = Some(average);
        } else if let Some(average) = self.average.as_mut().filter(|_| ema > 0.0) {
            let _ = average.f_lerp_(master, 1.0 - ema)?;
        }
        parameters.refresh()?;
        Ok(Stepped {
            grad_norm,
            finite: true,
        })
    }

    /// Moves state and weights by what was accumulated times `clipped`, in one pass over them: on a CPU. Nothing remains
    /// accumulated.
    #[cfg(fused)]
    fn update_fused(&mut self, master: &Tensor, adam: &Adam, rate: f64, clipped: f64) -> Result<()> {
        self.step += 1;
        let (correct1, correct2) = self.corrections(adam);
        let rates = [
            clipped,
            1.0 - rate * adam.weight_decay,
            rate,
            1.0 - adam.beta1,
            1.0 - adam.beta2,
            1.0 / correct1,
            1.0 / correct2.sqrt(),
            adam.eps,
        ];
        kernel::adamw([&self.grad, &self.first, &self.second, master], rates)
    }

    #[cfg(not(fused))]
    fn update_fused(&mut self, _: &Tensor, _: &Adam, _: f64, _: f64) -> Result<()> {
        Err(ModelError::Refused("this build has no CPU kernels".into()))
    }

    /// `1 - beta^step` of both moments.
    fn corrections(&self, adam: &Adam) -> (f64, f64) {
        let count = i32::try_from(self.step).unwrap_or(i32::MAX);
        (1.0 - adam.beta1.powi(count), 1.0 - adam.beta2.powi(count))
    }

    /// The same composed of libtorch's operators, with Muon's directions where they are asked for.
    fn update(&mut self, parameters: &Parameters, adam: &Adam, rate: f64, clipped: f64) -> Result<()> {
        let (scratch, mut update) = (self.grad.f_empty_like()?, self.grad.f_empty_like()?);
        let orthogonal = if adam.muon {
            // Nesterov's: the momentum after this gradient, moved on towards it once more.
            let momentum = self.grad.f_mul_scalar(clipped)?;
            let momentum = self.first.f_lerp(&momentum, 1.0 - adam.beta1.powi(2))?;
            muon::directions(parameters, &momentum)?
        } else {
            Vec::new()
        };
        if clipped < 1.0 {
            let _ = self.grad.f_mul_scalar_(clipped)?;
        }
        self.step += 1;
        let (correct1, correct2) = self.corrections(adam);
        let _ = self.first.f_lerp_(&self.grad, 1.0 - adam.beta1)?;
        let square = self.grad.f_square_out(&scratch)?;
        let _ = self.second.f_lerp_(&square, 1.0 - adam.beta2)?;
        let mut denominator = self.second.f_sqrt_out(&scratch)?;
        let _ = denominator
            .f_mul_scalar_(1.0 / correct2.sqrt())?
            .f_add_scalar_(adam.eps)?;
        let _ = self
            .first
            .f_div_out(&update, &denominator)?
            .f_mul_scalar_(1.0 / correct1)?;
        // The blocks' matrices take Muon's direction in place of Adam's.
        for (name, direction) in orthogonal {
            parameters.view(&update, &name)?.f_copy_(&direction)?;
        }
        let mut master = parameters.master().shallow_clone();
        if adam.weight_decay != 0.0 {
            let _ = master.f_mul_scalar_(1.0 - rate * adam.weight_decay)?;
        }
        let _ = master.f_sub_(&update.f_mul_scalar_(rate)?)?;
        let _ = self.grad.f_zero_()?;
        Ok(())
    }

    /// A copy of weights and state, for putting them back.
    ///
    /// # Errors
    /// libtorch's.
    pub fn snapshot(&self, parameters: &Parameters) -> Result<Snapshot> {
        let copy = |tensor: &Tensor| -> Result<Tensor> {
            let mut copy = tensor.f_empty_like()?;
            tch::no_grad(|| copy.f_copy_(tensor))?;
            Ok(copy)
        };
        Ok(Snapshot {
            master: copy(parameters.master())?,
            step: self.step,
            first: copy(&self.first)?,
            second: copy(&self.second)?,
            average: self.average.as_ref().map(copy).transpose()?,
        })
    }

    /// Weights and state as they were at the snapshot; nothing is accumulated then.
    ///
    /// # Errors
    /// libtorch's.
    pub fn put_back(&mut self, parameters: &mut Parameters, snapshot: Snapshot) -> Result<()> {
        self.discard(parameters)?;
        parameters.set(&snapshot.master)?;
        self.step = snapshot.step;
        (self.first, self.second) = (snapshot.first, snapshot.second);
        self.average = snapshot.average;
        Ok(())
    }

    /// What was accumulated, by parameter name.
    ///
    /// # Errors
    /// libtorch's.
    pub fn named_grads(&self, parameters: &Parameters) -> Result<BTreeMap<String, Tensor>> {
        parameters.named_like(&self.grad)
    }

    /// The state as named tensors; where several ranks train together, of all of them on rank 0, when all of them ask.
    ///
    /// # Errors
    /// libtorch's.
    pub fn state(&self, prefix: &str) -> Result<BTreeMap<String, Tensor>> {
        if let Some(share) = &self.share {
            return share.whole_state(self.own_state(prefix)?);
        }
        self.own_state(prefix)
    }

    fn own_state(&self, prefix: &str) -> Result<BTreeMap<String, Tensor>> {
        let step = i64::try_from(self.step).unwrap_or(i64::MAX);
        let mut state = BTreeMap::from([
            (format!("{prefix}.first"), self.first.shallow_clone()),
            (format!("{prefix}.second"), self.second.shallow_clone()),
            (format!("{prefix}.step"), Tensor::f_from_slice(&[step])?),
        ]);
        if let Some(average) = &self.average {
            state.insert(format!("{prefix}.average"), average.shallow_clone());
        }
        Ok(state)
    }

    /// Takes a state that [`Self::state`] gave.
    ///
    /// # Errors
    /// [`ModelError::Refused`] naming what is missing or has another length.
    pub fn restore(&mut self, prefix: &str, state: &BTreeMap<String, Tensor>) -> Result<()> {
        let get = |what: &str| {
            let name = format!("{prefix}.{what}");
            state
                .get(&name)
                .ok_or_else(|| ModelError::Refused(format!("the optimiser's state lacks {name}")))
        };
        let (expected, device) = (self.numbers(), self.first.device());
        let like = |tensor: &Tensor| -> Result<Tensor> {
            if tensor.numel() as u64 != expected {
                let found = tensor.numel();
                let message = format!("the optimiser's state has {found} numbers, expected {expected}");
                return Err(ModelError::Refused(message));
            }
            let tensor = match &self.share {
                Some(share) => &share.cut(tensor)?,
                None => tensor,
            };
            Ok(tensor.f_to_device(device)?.f_to_kind(Kind::Float)?.copy())
        };
        let (first, second) = (like(get("first")?)?, like(get("second")?)?);
        self.step = u64::try_from(get("step")?.f_int64_value(&[0])?).unwrap_or(0);
        (self.first, self.second) = (first, second);
        self.average = get("average").ok().map(like).transpose()?;
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

    /// Rates as `csrc/adamw.cpp` numbers them.
    pub(super) fn adamw([grad, first, second, master]: [&Tensor; 4], rates: [f64; 8]) -> Result<()> {
        #[allow(clippy::cast_possible_truncation)]
        let rates = rates.map(|rate| rate as f32);
        // SAFETY: the handles are live tensors, whose shapes, dtypes and device are checked before anything is written; eight rates
        // are read.
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
