//! The moving average (EMA) of the weights, flat like the master weights. It starts from the weights after
//! the first step that keeps one.

use demask_api::plan::UPDATED_AT_ONCE;
use tch::{Device, Kind, Tensor};

use crate::error::Result;

/// The moving average, if there is one.
#[derive(Debug, Default)]
pub struct MovingAverage(Option<Tensor>);

impl MovingAverage {
    /// Returns an average with these values.
    #[must_use]
    pub fn of(values: Option<Tensor>) -> Self {
        Self(values)
    }

    /// Returns the values of the average, if there is one.
    #[must_use]
    pub fn values(&self) -> Option<&Tensor> {
        self.0.as_ref()
    }

    /// Allocates memory for an average that starts with this step, before the step changes anything. An
    /// existing average is moved to the device instead.
    ///
    /// # Errors
    /// Returns libtorch's errors, such as out of memory.
    pub fn reserve(&mut self, decay: f64, master: &Tensor, device: Device) -> Result<Option<Tensor>> {
        if let Some(values) = self.0.as_mut().filter(|values| values.device() != device) {
            *values = values.f_to_device(device)?;
        }
        let begins = decay > 0.0 && self.0.is_none();
        let numbers = master.numel() as i64;
        Ok(begins
            .then(|| Tensor::f_empty([numbers], (Kind::Float, device)))
            .transpose()?)
    }

    /// Updates the average after a step. `reserved` is the result of [`Self::reserve`] before that step.
    ///
    /// # Errors
    /// Returns libtorch's errors.
    pub fn follow(&mut self, decay: f64, master: &Tensor, reserved: Option<Tensor>) -> Result<()> {
        if let Some(mut values) = reserved {
            values.f_copy_(master)?;
            self.0 = Some(values);
        } else if let Some(values) = self.0.as_mut().filter(|_| decay > 0.0) {
            if values.device() == master.device() {
                let _ = values.f_lerp_(master, 1.0 - decay)?;
            } else {
                follow_afar(values, master, decay)?;
            }
        }
        Ok(())
    }
}

/// Updates an average in host memory: it is copied to the weights' device and back in pieces.
fn follow_afar(values: &Tensor, master: &Tensor, decay: f64) -> Result<()> {
    let (numbers, at_once) = (master.numel() as i64, UPDATED_AT_ONCE as i64);
    for first in (0..numbers).step_by(UPDATED_AT_ONCE as usize) {
        let piece = |flat: &Tensor| flat.f_narrow(0, first, at_once.min(numbers - first));
        let mut fetched = piece(values)?.f_to_device(master.device())?;
        let moved = fetched.f_lerp_(&piece(master)?, 1.0 - decay)?;
        piece(values)?.f_copy_(&moved)?;
    }
    Ok(())
}
