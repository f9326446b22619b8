//! The dropout of an adapter: the position in a stream of masks, and the mask of each layer.

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use tch::Tensor;

use super::Lora;
use crate::error::Result;

/// A position in a stream of dropout masks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DropoutPosition {
    seed: u64,
    /// The number of masks that were drawn before.
    number: u64,
}

impl DropoutPosition {
    /// Returns the start of a seed's stream.
    fn start(seed: u64) -> Self {
        Self { seed, number: 0 }
    }

    /// Returns the position after this number of masks.
    pub fn after(self, masks: u64) -> Self {
        let number = self.number + masks;
        Self { number, ..self }
    }

    /// Returns the generator of the mask at this position.
    fn generator(self) -> ChaCha8Rng {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(self.number);
        rng
    }

    /// Returns the start of the stream of a unit of a batch that begins at this position. Its seed is a function of the
    /// position and the unit's number (law L11).
    pub fn of_unit(self, unit: usize) -> Self {
        let mut rng = self.generator();
        // A number of 64 bits takes two words.
        rng.set_word_pos(2 * unit as u128);
        Self::start(rng.random())
    }
}

impl Lora {
    /// Turns on dropout for a training step with a seed, or turns it off.
    pub fn set_dropout(&self, seed: Option<u64>) {
        let seed = seed.filter(|_| self.config.dropout > 0.0);
        self.noise.set(seed.map(DropoutPosition::start));
    }

    /// Returns the position of the dropout stream; `None` outside a training step.
    pub(crate) fn noise(&self) -> Option<DropoutPosition> {
        self.noise.get()
    }

    /// Returns the number of masks that a pass through the network draws, one for each adapted layer.
    pub(crate) fn masks(&self) -> u64 {
        let parts = self.products.values().flatten();
        parts.filter(|part| part.adapted.is_some()).count() as u64
    }

    /// Sets the position of the dropout stream.
    pub(crate) fn set_noise(&self, noise: Option<DropoutPosition>) {
        self.noise.set(noise);
    }

    /// Draws a dropout mask, scaled by the inverse of the share that is kept; `None` outside a training step.
    /// The mask is drawn on the device of x: a CPU takes the numbers one by one from the seed's stream, for
    /// which a GPU would have to wait.
    pub(super) fn kept(&self, x: &Tensor) -> Result<Option<Tensor>> {
        let Some(noise) = self.noise.get() else {
            return Ok(None);
        };
        self.noise.set(Some(noise.after(1)));
        let stays = 1.0 - self.config.dropout;
        let mut rng = noise.generator();
        if x.device().is_cuda() {
            // Nothing else draws from libtorch's global generator.
            tch::manual_seed(rng.random::<i64>());
            let mut kept = x.f_detach()?.f_empty_like()?;
            return Ok(Some(kept.f_bernoulli_float_(stays)?.f_mul_scalar(1.0 / stays)?));
        }
        #[allow(clippy::cast_possible_truncation)]
        let (scale, count) = ((1.0 / stays) as f32, x.numel());
        let draws = (0..count).map(|_| if rng.random::<f64>() < stays { scale } else { 0.0 });
        let kept = Tensor::f_from_slice(&draws.collect::<Vec<f32>>())?.f_view(&x.size()[..])?;
        Ok(Some(kept.f_to_kind(x.kind())?))
    }

    /// Returns a twin like [`Self::twin`] for another thread of a training step. Its dropout is seeded from
    /// this adapter's.
    ///
    /// # Errors
    /// Returns libtorch's errors.
    pub fn training_twin(&self) -> Result<Self> {
        let twin = self.twin()?;
        if let Some(noise) = self.noise.get() {
            self.noise.set(Some(noise.after(1)));
            let seed = noise.seed.rotate_left(32) ^ noise.number;
            twin.noise.set(Some(DropoutPosition::start(seed)));
        }
        Ok(twin)
    }
}
