//! The driver of a run: it goes from step boundary to step boundary, where commands take effect (law L3), and asks the
//! Trainer for the steps in between.

use std::cell::RefCell;
use std::rc::Rc;

use demask_storage::Knob;

use crate::control::knobs;
use crate::pipeline::run_error::RunError;
use crate::profile::Profile;
use crate::run::context::{Driving, Outcome, RunContext, RunDriver};
use crate::run::run_actors::{RunActors, Transports};
use crate::run::trainer::{Begin, Finish, SampleNow, Save, Step, Trainer};
use crate::runtime::fault_injection::FaultInjection;
use crate::runtime::supervisor::Address;

/// The driver that uses real actors and a real engine.
#[derive(Clone, Default)]
pub struct StageDriver {
    faults: FaultInjection,
    transports: Transports,
    /// The actors of the present run. They outlive its lives.
    run_actors: Rc<RefCell<Option<RunActors>>>,
}

impl StageDriver {
    /// Makes a driver whose actors panic at these places, once each, for tests of law L1.
    #[must_use]
    pub fn with_faults(faults: FaultInjection) -> Self {
        Self {
            faults,
            ..Self::default()
        }
    }

    /// Sets the ways in which the actors reach what is outside this program. A simulation scripts it.
    #[must_use]
    pub fn with_transports(self, transports: Transports) -> Self {
        Self { transports, ..self }
    }

    /// Returns the trainer of the run's actors, which are spawned first if there are none. The actors of the previous
    /// run were released at its end.
    fn trainer(&self, context: &RunContext) -> Result<Address<Trainer>, RunError> {
        let present = match self.run_actors.take() {
            Some(run_actors) => run_actors,
            None => RunActors::spawn(context, &self.faults, &self.transports)?,
        };
        let trainer = present.trainer.clone();
        self.run_actors.replace(Some(present));
        Ok(trainer)
    }
}

impl RunDriver for StageDriver {
    fn knobs(&self, profile: &Profile) -> Vec<Knob> {
        knobs::of(profile)
    }

    fn drive(&self, context: RunContext) -> Driving {
        let driver = self.clone();
        Box::pin(async move {
            let trainer = driver.trainer(&context)?;
            Ok(drive(&context, &trainer).await?)
        })
    }

    fn faults(&self) -> FaultInjection {
        self.faults.clone()
    }

    fn let_go(&self) {
        if let Some(run_actors) = self.run_actors.take() {
            run_actors.release();
        }
    }
}

async fn drive(context: &RunContext, trainer: &Address<Trainer>) -> Result<Outcome, RunError> {
    let total = context.profile.total_steps();
    let mut step = match trainer.ask_once(Begin(context.clone())).await? {
        // Reading large sources is abandoned when the daemon is ending. The next daemon begins the run again.
        Err(RunError::Ending) => return Ok(Outcome::Halted),
        begun => begun?,
    };
    while step < total {
        if let Some(outcome) = boundary(context, trainer, step).await? {
            return Ok(outcome);
        }
        step = trainer.ask_once(Step).await??;
    }
    while !trainer.ask_once(Finish).await?? {
        // What the run still owes is done by its next life, or when the user resumes it.
        if let Some(outcome) = boundary(context, trainer, total).await? {
            return Ok(outcome);
        }
    }
    Ok(Outcome::Done)
}

/// Applies waiting commands; law L3: nowhere else do they take effect. Returns an outcome if the run ends here.
async fn boundary(
    context: &RunContext,
    trainer: &Address<Trainer>,
    step: u64,
) -> Result<Option<Outcome>, RunError> {
    loop {
        let asked = context.control.boundary(&context.recorder, step).await?;
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
        // A paused run may be asked for a sample or a checkpoint, but not for a step, and one that must end for neither.
        if !context.control.is_paused() && !context.control.is_ending() {
            return Ok(None);
        }
    }
}
