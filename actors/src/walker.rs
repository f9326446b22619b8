//! Walks a run through its stages: from step boundary to step boundary, where commands take effect (law L3), telling
//! the Trainer what to do in between.

use std::cell::RefCell;
use std::rc::Rc;

use crate::attend::Faults;
use crate::control::KnobRange;
use crate::job::{Job, Outcome, Walk, Walker};
use crate::profile::{Profile, Stage, StageKind};
use crate::run_error::RunError;
use crate::staff::Staff;
use crate::stages::highest_rate;
use crate::supervisor::Address;
use crate::trainer::{Begin, Finish, SampleNow, Save, Step, Trainer};

/// Walks runs with real actors and a real engine.
#[derive(Clone, Default)]
pub struct StageWalker {
    faults: Faults,
    /// The staff of the present run: it outlives the run's lives.
    staff: Rc<RefCell<Option<Staff>>>,
}

impl StageWalker {
    /// One whose actors panic at these places, once each: for tests of law L1.
    #[must_use]
    pub fn with_faults(faults: Faults) -> Self {
        Self {
            faults,
            staff: Rc::default(),
        }
    }

    /// The trainer of the run's staff, employed if need be; the staff of another run is to be let go.
    fn trainer(&self, job: &Job) -> Result<(Address<Trainer>, Option<Staff>), RunError> {
        let before = self.staff.take();
        let (present, other) = match before {
            Some(staff) if staff.run == job.run => (staff, None),
            other => (Staff::employ(job, &self.faults)?, other),
        };
        let trainer = present.trainer.clone();
        self.staff.replace(Some(present));
        Ok((trainer, other))
    }
}

impl Walker for StageWalker {
    fn knobs(&self, profile: &Profile) -> Vec<KnobRange> {
        knobs(profile)
    }

    fn walk(&self, job: Job) -> Walk {
        let walker = self.clone();
        Box::pin(async move {
            let (trainer, other) = walker.trainer(&job)?;
            if let Some(other) = other {
                other.dismiss().await;
            }
            let walked = walk(&job, &trainer).await;
            let again = matches!(&walked, Err(error) if error.mendable());
            let staff = if again { None } else { walker.staff.take() };
            if let Some(staff) = staff {
                staff.dismiss().await;
            }
            Ok(walked?)
        })
    }
}

async fn walk(job: &Job, trainer: &Address<Trainer>) -> Result<Outcome, RunError> {
    let total = job.profile.total_steps();
    let mut step = trainer.ask_once(Begin(job.clone())).await??;
    while step < total {
        if let Some(outcome) = boundary(job, trainer, step).await? {
            return Ok(outcome);
        }
        step = trainer.ask_once(Step).await??;
    }
    trainer.ask_once(Finish).await??;
    Ok(Outcome::Done)
}

/// Law L3: the only place where commands take effect. Some outcome when the run shall end here.
async fn boundary(job: &Job, trainer: &Address<Trainer>, step: u64) -> Result<Option<Outcome>, RunError> {
    loop {
        let asked = job.control.boundary(&job.recorder, step).await?;
        for (order, prompt, picture) in asked.samples {
            trainer
                .ask_once(SampleNow {
                    order,
                    prompt,
                    picture,
                })
                .await??;
        }
        if asked.stop || asked.halt {
            let (reason, anew) = ("stop", false);
            trainer.ask_once(Save { reason, anew }).await??;
            return Ok(Some(if asked.stop {
                Outcome::Stopped
            } else {
                Outcome::Halted
            }));
        }
        if asked.checkpoint {
            let (reason, anew) = ("asked", true);
            trainer.ask_once(Save { reason, anew }).await??;
        }
        // A held run may be asked for a sample or a checkpoint, but not for a step.
        if !job.control.paused() {
            return Ok(None);
        }
    }
}

/// What can be steered in a run of this profile.
fn knobs(profile: &Profile) -> Vec<KnobRange> {
    let knob = |key: String, value: f64, high: f64, help: &str| KnobRange {
        key,
        value,
        low: 0.0,
        high,
        help: help.to_owned(),
    };
    let aligns = |stage: &&Stage| stage.kind == StageKind::Align;
    let kl = profile
        .stages
        .iter()
        .filter(aligns)
        .map(|stage| stage.objective.kl);
    let temperature = profile.sampling.rollout_temperature.unwrap_or(1.0);
    let rate_help = "highest learning rate of the stages; their schedules keep their shape";
    let kl_help = "weight of the penalty on leaving the reference policy";
    let mut knobs = vec![
        knob("learning_rate".into(), highest_rate(profile), 1.0, rate_help),
        knob("temperature".into(), temperature, 10.0, "temperature of rollouts"),
        knob("kl".into(), kl.fold(0.0, f64::max), 100.0, kl_help),
    ];
    let mix_help = "weight of the source in the mix";
    let sources = profile.sources.iter();
    knobs.extend(sources.map(|source| knob(format!("mix.{}", source.name), source.weight, 1e6, mix_help)));
    let reward_help = "weight of the reward in the sum";
    let rewards = profile.rewards.iter();
    knobs.extend(rewards.map(|(name, weight)| knob(format!("reward.{name}"), *weight, 100.0, reward_help)));
    knobs
}
