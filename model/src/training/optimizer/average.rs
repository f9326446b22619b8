//! The moving average of the weights, flat like the master. It begins at the weights of the first step that keeps one.

use demask_api::plan::UPDATED_AT_ONCE;
use tch::{Device, Kind, Tensor};

use crate::error::Result;

/// The average, once there is one.
#[derive(Debug, Default)]
pub struct MovingAverage(Option<Tensor>);

impl MovingAverage {
    /// One of these values.
    #[must_use]
    pub fn of(values: Option<Tensor>) -> Self {
        Self(values)
    }

    /// Its values, if there is one.
    #[must_use]
    pub fn values(&self) -> Option<&Tensor> {
        self.0.as_ref()
    }

    /// Memory for an average that is about to begin, taken before a step changes anything; one that is there is brought to that device.
    ///
    /// # Errors
    /// libtorch's, out of memory among them.
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

    /// Follows the weights after a step; `reserved`: what [`Self::reserve`] gave before it.
    ///
    /// # Errors
    /// libtorch's.
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

/// An average in host memory crosses to the weights' device and back, piece by piece.
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
