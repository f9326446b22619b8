//! Checkpoint folders: they are written completely or not at all, and checked when read.
//!
//! `demask_api::checkpoint` defines the layout. A folder is written beside its final name: every file is
//! flushed to disk, the manifest last, and then the folder is renamed. A crash at any instruction therefore
//! leaves no partial checkpoint under the final name (law L1).
//!
//! - `loading.rs`: reading a folder; `saving.rs`: writing one; `manifest.rs`: the list of its files, and their check.

mod loading;
mod manifest;
mod saving;

use std::rc::Rc;

use crate::error::Result;
use crate::image_tokenizer::{ImageTokenizer, TokenizerTrainer};
use crate::network::backbone::Backbone;
use crate::training::optimizer::AdamW;
use crate::training::ranks::{Reduction, Share};
use crate::world::World;

pub use loading::load_backbone;
pub use manifest::{Saved, check_manifest};

/// The name of the moving average of the weights in the optimizer's file.
const AVERAGE: &str = "backbone.average";

/// A model with its training state.
#[derive(Debug)]
pub struct LoadedModel {
    /// The backbone.
    pub backbone: Backbone,
    /// The backbone's optimizer.
    pub optimizer: AdamW,
    /// The image tokenizer and its trainer, if the model has one.
    pub tokenizer: Option<(ImageTokenizer, TokenizerTrainer)>,
}

impl LoadedModel {
    /// Joins the world: this rank keeps its shard of the optimizer state, and from then on all ranks train
    /// together.
    ///
    /// # Errors
    /// Returns [`ModelError::World`](crate::error::ModelError::World) if a peer is gone, and libtorch's errors.
    pub fn share(&mut self, world: &Rc<World>, reduction: Reduction) -> Result<()> {
        let share = Share::of(world, &self.backbone, reduction)?;
        if share.is_of_weights() {
            self.optimizer.join(share);
            return Ok(());
        }
        let whole = self.optimizer.state("backbone")?;
        let is_fresh = self.optimizer.step_count() == 0 && !whole.contains_key(AVERAGE);
        let whole = (!is_fresh).then_some(whole);
        // The optimizer state of a single process is freed before this rank's shard is allocated, to keep the
        // peak of memory low.
        self.optimizer = AdamW::new(&self.backbone.trained().range(0, 0)?)?;
        self.optimizer = AdamW::shared(share, self.backbone.trained())?;
        whole.map_or(Ok(()), |whole| self.optimizer.restore("backbone", &whole))
    }
}
