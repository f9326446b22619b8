//! The Trainer: the actor that holds one life of a run and does one step of it per request.
//!
//! A panic in a step ends the Trainer, and its state is lost. The next Trainer begins at the last checkpoint and does
//! the same steps again (laws L1, L8).

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

/// Capacity of the mailbox. The driver sends one request at a time.
const MAILBOX: usize = 1;

/// The request to load the last checkpoint. The answer is the number of steps done.
#[derive(Message)]
#[rtype(result = "Result<u64, RunError>")]
pub struct Begin(pub RunContext);

/// The request to do the present step. The answer is the step that comes next.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "Result<u64, RunError>")]
pub struct Step;

/// The request to complete a prompt and to publish the frames.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<(), RunError>")]
pub struct SampleNow {
    /// Id of the order.
    pub order: String,
    /// The prompt.
    pub prompt: String,
    /// Whether to draw a picture rather than to write text.
    pub picture: bool,
}

/// The request to save a checkpoint. If the last checkpoint is of this step and `anew` is false, nothing is saved.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<(), RunError>")]
pub struct Save {
    /// Reason, as the checkpoint's row states it.
    pub reason: &'static str,
    /// Whether to save even if there is a checkpoint of this step.
    pub anew: bool,
}

/// The request to conclude the run, after all steps. The answer is whether it is done; if not, it must end before that,
/// or it is paused.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "Result<bool, RunError>")]
pub struct Finish;

/// The Trainer actor.
pub struct Trainer {
    life: Life,
    addresses: Addresses,
    faults: FaultInjection,
    run: Arc<Mutex<Option<StageRun>>>,
}

impl Trainer {
    /// Spawns a trainer under the supervisor.
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
        .ok_or_else(|| RunError::Failed("the trainer has not started".into()))
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
            // Work that an earlier life prefetched is dropped first.
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
            // The injected panic comes at the worst moment: the engine has trained, and nobody knows it yet.
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
            let is_saved = run.checkpoint(save.reason).await?;
            // A run that ends asks once more, after one that was asked for.
            if !is_saved && !save.anew {
                run.tell_of_no_checkpoint().await?;
            }
            Ok(())
        })
    }
}

impl Handler<Finish> for Trainer {
    type Result = AtomicResponse<Self, Result<bool, RunError>>;

    fn handle(&mut self, _: Finish, _: &mut Self::Context) -> Self::Result {
        let hold = self.hold();
        handle_message(self, "Finish", async move {
            let mut run = hold.await;
            begun(&mut run)?.finish().await
        })
    }
}
