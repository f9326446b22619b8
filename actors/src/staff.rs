//! Who works on a run: the actors that the supervisor is asked to make for it, and how they reach each other.
//!
//! ```text
//! Curator ──batch──▶ Trainer ══▶ engine          each line is a bounded mailbox: who asks, waits (L2)
//!    ▲ traces           ▲ groups, a permit in each
//! Reasoner            Rollout ══▶ engine         Evaluator ══▶ engine
//!    └──────▶ Scorer ◀───┘
//! ```

use std::sync::Arc;

use demask_rewards::judge::Judge;

use crate::attend::Faults;
use crate::crew::Crew;
use crate::curating::{self, Curator};
use crate::evaluator::EvaluatorDesk;
use crate::job::Job;
use crate::profile::{Profile, StageKind};
use crate::reasoner::{self, Reasoner};
use crate::reward_networks::{Networks, in_profile};
use crate::rollout::RolloutDesk;
use crate::run_error::RunError;
use crate::scorer::Scorer;
use crate::sources;
use crate::supervisor::{Address, Office};
use crate::teacher::Patience;
use crate::trainer::Trainer;

/// The names under which they are employed.
const NAMES: [&str; 6] = ["curator", "scorer", "reasoner", "rollout", "evaluator", "trainer"];

/// All of a run's actors.
pub struct Staff {
    /// The run.
    pub run: String,
    /// Who walks the stages.
    pub trainer: Address<Trainer>,
    office: Office,
}

impl Staff {
    /// Has all of them made.
    ///
    /// # Errors
    /// [`RunError::Failed`] when the system gives no threads.
    pub fn employ(job: &Job, faults: &Faults) -> Result<Self, RunError> {
        let office = &job.office;
        let brief = curating::Brief {
            profile: Arc::clone(&job.profile),
            run: job.run.clone(),
            recorder: job.recorder.clone(),
        };
        let curator = Curator::employ(office, brief, faults.clone());
        let networks = Networks::of(&job.profile.reward_networks, in_profile)?;
        let scorer = Scorer::employ(
            office,
            Judge::with_classes(sources::classes(&job.profile)),
            networks.map(|networks| (networks, job.engine.clone())),
            faults.clone(),
        )?;
        let brief = reasoner::Brief {
            run: job.run.clone(),
            seed: job.profile.seed,
            recorder: job.recorder.clone(),
            database: job.home.database(),
            teacher: job.profile.teacher.clone(),
            patience: Patience::default(),
        };
        let engine = || job.engine.clone();
        let reasoner = Reasoner::employ(office, brief, engine(), scorer.clone(), faults.clone());
        let room = most_groups(&job.profile);
        let rollout = RolloutDesk::employ(office, engine(), scorer, room, faults.clone());
        let evaluator = EvaluatorDesk::employ(office, engine(), faults.clone());
        let crew = Crew {
            curator,
            reasoner,
            rollout,
            evaluator,
        };
        let trainer = Trainer::employ(office, crew, faults.clone());
        Ok(Self {
            run: job.run.clone(),
            trainer,
            office: office.clone(),
        })
    }

    /// Lets all of them go.
    pub async fn dismiss(self) {
        self.office.dismiss(&NAMES).await;
    }
}

/// The groups of the largest step.
fn most_groups(profile: &Profile) -> usize {
    let align = profile
        .stages
        .iter()
        .filter(|stage| stage.kind == StageKind::Align);
    align.map(|stage| stage.batch).max().unwrap_or(1)
}
