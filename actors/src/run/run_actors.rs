//! The actors of a run, how they are spawned, and how they reach each other.
//!
//! ```text
//! Curator ──batch──▶ Trainer ══▶ engine          each line is a bounded mailbox: the sender waits (L2)
//!    ▲ traces           ▲ groups, a permit in each
//! Reasoner            Rollout ══▶ engine         Evaluator ══▶ engine
//!    └──────▶ Scorer ◀───┘
//! ```

use std::sync::Arc;

use demask_rewards::judge::Judge;
use demask_storage::Blobs;

use crate::pipeline::addresses::Addresses;
use crate::pipeline::curation::curator::{self, Curator};
use crate::pipeline::curation::sources;
use crate::pipeline::evaluation::evaluator::EvaluatorHandle;
use crate::pipeline::external_rewards::{ExternalRewards, NamedRewards, RewardOpener};
use crate::pipeline::reasoner::{self, Reasoner};
use crate::pipeline::reward_networks::{Networks, in_profile};
use crate::pipeline::rollout::RolloutHandle;
use crate::pipeline::run_error::RunError;
use crate::pipeline::sampling_engines::Drawers;
use crate::pipeline::scorer::Scorer;
use crate::profile::{Profile, StageKind};
use crate::run::context::RunContext;
use crate::run::trainer::Trainer;
use crate::runtime::fault_injection::FaultInjection;
use crate::runtime::supervisor::{Address, SupervisorHandle};
use crate::teacher::{ChatOpener, HttpChat, Patience};

/// Names under which the actors are spawned.
const NAMES: [&str; 6] = ["curator", "scorer", "reasoner", "rollout", "evaluator", "trainer"];

/// The ways in which the actors of a run reach what is outside this program, apart from engines.
#[derive(Clone, Debug)]
pub struct Transports {
    /// Opener of the transports to external rewards.
    pub rewards: Arc<dyn RewardOpener>,
    /// Opener of the transport to a teacher.
    pub teacher: Arc<dyn ChatOpener>,
}

impl Default for Transports {
    /// Returns the ways that the profile names: processes and addresses.
    fn default() -> Self {
        Self {
            rewards: Arc::new(NamedRewards),
            teacher: Arc::new(HttpChat),
        }
    }
}

/// The actors of a run.
pub struct RunActors {
    /// The run.
    pub run: String,
    /// The trainer, which runs the stages.
    pub trainer: Address<Trainer>,
    supervisor: SupervisorHandle,
}

impl RunActors {
    /// Spawns all of them.
    ///
    /// # Errors
    /// [`RunError::Failed`] if the system cannot start threads.
    pub fn spawn(
        context: &RunContext,
        faults: &FaultInjection,
        transports: &Transports,
    ) -> Result<Self, RunError> {
        let supervisor = &context.supervisor;
        let brief = curator::CuratorSettings {
            profile: Arc::clone(&context.profile),
            run: context.run.clone(),
            recorder: context.recorder.clone(),
            room: context.home.unpacked(),
            control: Arc::clone(&context.control),
        };
        let curator = Curator::spawn(supervisor, brief, faults.clone());
        let networks = Networks::of(&context.profile.reward_networks, in_profile)?;
        let blobs = Blobs::new(context.home.blobs());
        let rewards = &context.profile.external_rewards;
        let external = ExternalRewards::opened_by(&transports.rewards, rewards, &context.run, &blobs);
        let scorer = Scorer::spawn(
            supervisor,
            Judge::with_classes(sources::classes(&context.profile)),
            networks.map(|networks| (networks, context.engine.clone())),
            Some(external.clone()),
            faults.clone(),
        )?;
        let brief = reasoner::ReasonerSettings {
            run: context.run.clone(),
            seed: context.profile.seed,
            recorder: context.recorder.clone(),
            database: context.home.database(),
            teacher: context.profile.teacher.clone(),
            patience: Patience::default(),
            opener: Arc::clone(&transports.teacher),
        };
        let drawers = Drawers {
            engine: context.engine.clone(),
            samplers: context.samplers.clone(),
        };
        let reasoner = Reasoner::spawn(supervisor, brief, drawers.clone(), scorer.clone(), faults.clone());
        // If groups are drawn ahead, there is room for the next steps' groups beside the present ones.
        let room = context.profile.rollouts.steps_at_once() * most_groups(&context.profile);
        let rollout = RolloutHandle::spawn(supervisor, drawers.clone(), scorer, room, faults.clone());
        let evaluator = EvaluatorHandle::spawn(supervisor, drawers.clone(), Some(external), faults.clone());
        let addresses = Addresses {
            curator,
            reasoner,
            rollout,
            samplers: drawers.samplers,
            evaluator,
        };
        let trainer = Trainer::spawn(supervisor, addresses, faults.clone());
        Ok(Self {
            run: context.run.clone(),
            trainer,
            supervisor: supervisor.clone(),
        })
    }

    /// Releases all of them. Another run's actors may be spawned after this.
    pub fn release(self) {
        self.supervisor.release(&NAMES);
    }
}

/// Returns the number of groups of the largest step.
fn most_groups(profile: &Profile) -> usize {
    let align = profile
        .stages
        .iter()
        .filter(|stage| stage.kind == StageKind::Align);
    align.map(|stage| stage.batch).max().unwrap_or(1)
}
