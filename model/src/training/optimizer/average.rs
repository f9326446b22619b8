//! The moving average of the weights, flat like the master. It begins at the weights of the first step that keeps one.

use tch::Tensor;

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

    /// Memory for an average that is about to begin, taken before a step changes anything.
    ///
    /// # Errors
    /// libtorch's, out of memory among them.
    pub fn reserve(&self, decay: f64, master: &Tensor) -> Result<Option<Tensor>> {
        let begins = decay > 0.0 && self.0.is_none();
        Ok(begins.then(|| master.f_empty_like()).transpose()?)
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
            let _ = values.f_lerp_(master, 1.0 - decay)?;
        }
        Ok(())
    }
}
