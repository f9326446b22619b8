//! The memory plan of a run: that of its stage that needs the most, on one of its ranks.

use demask_actors::profile::{Profile, Stage};
use demask_api::plan::TrainingPlan;
use demask_api::sharding::Ranks;
use demask_api::{BackboneConfig, LoraConfig, Recompute, memory};

use super::stage;

/// A run as far as its memory depends on it.
#[derive(Clone, Copy)]
pub(super) struct PlannedRun<'a> {
    pub profile: &'a Profile,
    pub config: &'a BackboneConfig,
    /// The memory of the GPU that it runs on; `None` if it runs on the CPU.
    pub device_memory: Option<u64>,
}

impl<'a> PlannedRun<'a> {
    /// Returns the stage that needs the most memory, with its plan; `None` if no stage trains the model. `lora` is the
    /// adapter that is trained in place of the weights.
    pub fn largest(
        &self,
        lora: Option<&'a LoraConfig>,
        ranks: Ranks,
    ) -> Option<(&'a Stage, TrainingPlan<'a>)> {
        let memory = self.memory(ranks);
        let planned = self.profile.stages.iter().filter_map(|stage| {
            let place = (self.device_memory, ranks);
            let mut plan = stage::plan(self.profile, self.config, stage, place)?;
            plan.lora = lora;
            if self.profile.recompute == Recompute::Auto && fits(plan.bytes(), memory) == Some(false) {
                plan.recomputed = true;
            }
            Some((stage, plan))
        });
        planned.max_by_key(|(_, plan)| plan.bytes())
    }

    /// Returns the memory available to a rank: all memory of a GPU, or an equal part of the machine's free memory;
    /// `None` if that is unknown.
    pub fn memory(&self, ranks: Ranks) -> Option<u64> {
        self.device_memory
            .or_else(|| Some(memory::free()? / ranks.count.max(1)))
    }
}

/// Returns whether `bytes` fit into the available memory; `None` if that is unknown.
pub(super) fn fits(bytes: u64, memory: Option<u64>) -> Option<bool> {
    memory.map(|memory| bytes <= memory::usable(memory))
}
