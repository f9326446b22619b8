//! AdamW on the flat master (decoupled weight decay on every parameter, as published), clipping, a moving average.

use std::collections::BTreeMap;

use demask_api::Adam;
use tch::{Kind, Tensor};

use crate::error::{ModelError, Result};
use crate::parameters::Parameters;

/// The optimiser's state for one network.
#[derive(Debug)]
pub struct AdamW {
    step: u64,
    first: Tensor,
    second: Tensor,
    /// Gradient accumulator; zero between steps.
    grad: Tensor,
    average: Option<Tensor>,
}

/// What a step did.
#[derive(Clone, Copy, Debug)]
pub struct Stepped {
    /// Gradient norm before clipping.
    pub grad_norm: f64,
    /// False when it was not finite; nothing was changed then.
    pub finite: bool,
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
        })
    }

    /// Steps so far.
    #[must_use]
    pub fn step_count(&self) -> u64 {
        self.step
    }

    /// Takes the leaves' gradients into the accumulator.
    ///
    /// # Errors
    /// libtorch's.
    pub fn accumulate(&mut self, parameters: &mut Parameters) -> Result<()> {
        parameters.gather_grads(&mut self.grad)
    }

    /// One step with what was accumulated; leaves weights and state as they were when that is not finite.
    ///
    /// # Errors
    /// libtorch's.
    pub fn step(
        &mut self,
        parameters: &Parameters,
        adam: &Adam,
        learning_rate: f64,
        clip_norm: f64,
        ema: f64,
    ) -> Result<Stepped> {
        tch::no_grad(|| self.step_inner(parameters, adam, learning_rate, clip_norm, ema))
    }

    fn step_inner(
        &mut self,
        parameters: &Parameters,
        adam: &Adam,
        rate: f64,
        clip: f64,
        ema: f64,
    ) -> Result<Stepped> {
        let grad_norm = self.grad.f_norm()?.f_double_value(&[])?;
        if !grad_norm.is_finite() {
            let _ = self.grad.f_zero_()?;
            return Ok(Stepped {
                grad_norm,
                finite: false,
            });
        }
        if clip > 0.0 && grad_norm > clip {
            let _ = self.grad.f_mul_scalar_(clip / (grad_norm + 1e-6))?;
        }
        self.step += 1;
        let count = i32::try_from(self.step).unwrap_or(i32::MAX);
        let (correct1, correct2) = (1.0 - adam.beta1.powi(count), 1.0 - adam.beta2.powi(count));
        let _ = self.first.f_lerp_(&self.grad, 1.0 - adam.beta1)?;
        let _ = self.second.f_lerp_(&self.grad.f_square()?, 1.0 - adam.beta2)?;
        let mut denominator = self.second.f_sqrt()?;
        let _ = denominator
            .f_mul_scalar_(1.0 / correct2.sqrt())?
            .f_add_scalar_(adam.eps)?;
        let mut update = self.first.f_div(&denominator)?;
        let mut master = parameters.master().shallow_clone();
        if adam.weight_decay != 0.0 {
            let _ = master.f_mul_scalar_(1.0 - rate * adam.weight_decay)?;
        }
        let _ = master.f_sub_(&update.f_mul_scalar_(rate / correct1)?)?;
        if ema > 0.0 {
            match &mut self.average {
                Some(average) => drop(average.f_lerp_(&master, 1.0 - ema)?),
                None => self.average = Some(master.copy()),
            }
        }
        let _ = self.grad.f_zero_()?;
        parameters.refresh()?;
        Ok(Stepped {
            grad_norm,
            finite: true,
        })
    }

    /// What was accumulated, by parameter name.
    ///
    /// # Errors
    /// libtorch's.
    pub fn named_grads(&self, parameters: &Parameters) -> Result<BTreeMap<String, Tensor>> {
        parameters.named_like(&self.grad)
    }

    /// The state as named tensors.
    ///
    /// # Errors
    /// libtorch's.
    pub fn state(&self, prefix: &str) -> Result<BTreeMap<String, Tensor>> {
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
        let (expected, device) = (self.first.numel(), self.first.device());
        let like = |tensor: &Tensor| -> Result<Tensor> {
            if tensor.numel() != expected {
                let found = tensor.numel();
                let message = format!("the optimiser's state has {found} numbers, expected {expected}");
                return Err(ModelError::Refused(message));
            }
            Ok(tensor.f_to_device(device)?.f_to_kind(Kind::Float)?.copy())
        };
        let (first, second) = (like(get("first")?)?, like(get("second")?)?);
        self.step = u64::try_from(get("step")?.f_int64_value(&[0])?).unwrap_or(0);
        (self.first, self.second) = (first, second);
        self.average = get("average").ok().map(like).transpose()?;
        Ok(())
    }
}
