//! The Trainer as an actor: it holds one life of a run and does a step of it when it is told to.
//!
//! It dies of a panic in a step, and with it goes everything that it knew; the next one begins at the last checkpoint
//! and does the same steps again (laws L1, L8).

use std::sync::Arc;

use actix::prelude::*;
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::pipeline::addresses::Addresses;
use crate::pipeline::run_error::RunError;
use crate::run::context::RunContext;
use crate::run::stages::state::StageRun;
use crate::runtime::actor::{Supervised, handle_message};
use crate::runtime::fault_injection::FaultInjection;
use crate::runtime::supervisor::{Address, Life, SupervisorHandle};

/// Messages that may wait: whoever walks the run asks for one thing at a time.
const MAILBOX: usize = 1;

/// Load the last checkpoint; the steps done.
#[derive(Message)]
#[rtype(result = "Result<u64, RunError>")]
pub struct Begin(pub RunContext);

/// Do the present step; the step that comes next.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "Result<u64, RunError>")]
pub struct Step;

/// Complete a prompt, watched.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<(), RunError>")]
pub struct SampleNow {
    /// The order's id.
    pub order: String,
    /// The prompt.
    pub prompt: String,
    /// Draw rather than write.
    pub picture: bool,
}

/// Write a checkpoint, for this reason, unless the last one is of this step and `anew` is false.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<(), RunError>")]
pub struct Save {
    /// Why.
    pub reason: &'static str,
    /// Even if there is one of this step.
    pub anew: bool,
}

/// All steps are done: the last checkpoint.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "Result<(), RunError>")]
pub struct Finish;

/// The actor.
pub struct Trainer {
    life: Life,
    addresses: Addresses,
    faults: FaultInjection,
    run: Arc<Mutex<Option<StageRun>>>,
}

impl Trainer {
    /// Asks the supervisor for a trainer.
    #[must_use]
    pub fn spawn(
        supervisor: &SupervisorHandle,
        addresses: Addresses,
        faults: FaultInjection,
    ) -> Address<Self> {
        supervisor.spawn("trainer", "supervisor", move |life| Self {
            life,
            addresses: addresses.clone(),
            faults: faults.clone(),
            run: Arc::default(),
        })
    }

    fn hold(&self) -> impl Future<Output = OwnedMutexGuard<Option<StageRun>>> + 'static {
        Arc::clone(&self.run).lock_owned()
    }
}

fn begun(run: &mut Option<StageRun>) -> Result<&mut StageRun, RunError> {
    run.as_mut()
        .ok_or_else(|| RunError::Failed("the trainer has not begun".into()))
}

impl Actor for Trainer {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        self.life.probe.queue(0, MAILBOX as u64);
    }
}

impl Supervised for Trainer {
    fn life(&mut self) -> &mut Life {
        &mut self.life
    }
}

impl Handler<Begin> for Trainer {
    type Result = AtomicResponse<Self, Result<u64, RunError>>;

    fn handle(&mut self, begin: Begin, _: &mut Self::Context) -> Self::Result {
        let (hold, addresses) = (self.hold(), self.addresses.clone());
        handle_message(self, "Begin", async move {
            let mut run = hold.await;
            // What an earlier life of the run made ready is let go first.
            *run = None;
            let opened = StageRun::open(begin.0, addresses).await?;
            let step = opened.at();
            *run = Some(opened);
            Ok(step)
        })
    }
}

impl Handler<Step> for Trainer {
    type Result = AtomicResponse<Self, Result<u64, RunError>>;

    fn handle(&mut self, _: Step, _: &mut Self::Context) -> Self::Result {
        let (hold, faults) = (self.hold(), self.faults.clone());
        handle_message(self, "Step", async move {
            let mut run = hold.await;
            let run = begun(&mut run)?;
            let step = run.at();
            let next = run.step().await?;
            // After the engine has trained and before anybody knows: the worst moment.
            faults.strike("trainer", step);
            Ok(next)
        })
    }
}

impl Handler<SampleNow> for Trainer {
    type Result = AtomicResponse<Self, Result<(), RunError>>;

    fn handle(&mut self, asked: SampleNow, _: &mut Self::Context) -> Self::Result {
        let hold = self.hold();
        handle_message(self, "SampleNow", async move {
            let mut run = hold.await;
            let run = begun(&mut run)?;
            run.sample_now(&asked.order, &asked.prompt, asked.picture).await
        })
    }
}

impl Handler<Save> for Trainer {
    type Result = AtomicResponse<Self, Result<(), RunError>>;

    fn handle(&mut self, save: Save, _: &mut Self::Context) -> Self::Result {
        let hold = self.hold();
        handle_message(self, "Save", async move {
            let mut run = hold.await;
            let run = begun(&mut run)?;
            if !save.anew && run.last_checkpoint() == Some(run.at()) {
                return Ok(());
            }
            run.checkpoint(save.reason).await
        })
    }
}

impl Handler<Finish> for Trainer {
    type Result = AtomicResponse<Self, Result<(), RunError>>;

    fn handle(&mut self, _: Finish, _: &mut Self::Context) -> Self::Result {
        let hold = self.hold();
        handle_message(self, "Finish", async move {
            let mut run = hold.await;
            begun(&mut run)?.finish().await
        })
    }
}
