//! The Scorer: it judges completions and traces on a pool of CPU threads, one message at a time, with a bounded mailbox
//! (law L2). The engine evaluates reward networks, and external rewards run in their own processes. The Scorer has no
//! state, so a restarted one gives the same answers.

use std::collections::BTreeMap;
use std::sync::Arc;

use actix::prelude::*;
use demask_rewards::judge::Judge;
use demask_rewards::verifiers::trace::{self, TraceFlaw};
use rayon::prelude::*;

use crate::engine::address::EngineAddress;
use crate::pipeline::external_rewards::ExternalRewards;
use crate::pipeline::judgement::{JudgeCompletions, JudgedCompletion, JudgementItem};
use crate::pipeline::reward_networks::Networks;
use crate::pipeline::run_error::RunError;
use crate::runtime::actor::{Supervised, handle_message, offload};
use crate::runtime::fault_injection::{FaultInjection, SeededBug};
use crate::runtime::supervisor::{Address, Life, SupervisorHandle};

/// Capacity of the mailbox.
const MAILBOX: usize = 4;
/// Threads of the pool; few, because judging must not take the processor from the engine.
const THREADS: usize = 2;

/// The request to verify reasoning traces.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<Vec<Option<TraceFlaw>>, RunError>")]
pub struct Verify {
    /// The step.
    pub step: u64,
    /// Texts of the traces with the right answers.
    pub traces: Arc<Vec<(String, String)>>,
}

/// The Scorer actor.
pub struct Scorer {
    life: Life,
    faults: FaultInjection,
    judge: Judge,
    networks: Option<(Networks, EngineAddress)>,
    external: Option<ExternalRewards>,
    pool: Arc<rayon::ThreadPool>,
}

impl Scorer {
    /// Spawns a Scorer under the supervisor, with this judge, the reward networks of this engine, and these external
    /// rewards.
    ///
    /// # Errors
    /// [`RunError::Failed`] if the system cannot start threads.
    pub fn spawn(
        supervisor: &SupervisorHandle,
        judge: Judge,
        networks: Option<(Networks, EngineAddress)>,
        external: Option<ExternalRewards>,
        faults: FaultInjection,
    ) -> Result<Address<Self>, RunError> {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(THREADS)
            .thread_name(|number| format!("scorer-{number}"))
            .build()
            .map_err(|error| RunError::about("the scorer's threads", error))?;
        let pool = Arc::new(pool);
        Ok(supervisor.spawn("scorer", "supervisor", move |life| Self {
            life,
            faults: faults.clone(),
            judge: judge.clone(),
            networks: networks.clone(),
            external: external.clone(),
            pool: Arc::clone(&pool),
        }))
    }
}

impl Actor for Scorer {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        self.life.probe.queue(0, MAILBOX as u64);
    }
}

impl Supervised for Scorer {
    fn life(&mut self) -> &mut Life {
        &mut self.life
    }
}

impl Handler<JudgeCompletions> for Scorer {
    type Result = AtomicResponse<Self, Result<Vec<JudgedCompletion>, RunError>>;

    fn handle(&mut self, score: JudgeCompletions, _: &mut Self::Context) -> Self::Result {
        let (judge, pool, faults) = (self.judge.clone(), Arc::clone(&self.pool), self.faults.clone());
        let (networks, external) = (self.networks.clone(), self.external.clone());
        handle_message(self, "Score", async move {
            let asked = score.clone();
            let skips = faults.has(SeededBug::SkippedReward);
            let judged = move || {
                faults.strike("scorer", asked.step);
                pool.install(|| {
                    asked
                        .items
                        .par_iter()
                        .map(|item| judged(&judge, item, &asked.weights))
                        .collect()
                })
            };
            let mut judged: Vec<JudgedCompletion> = offload(judged).await?;
            if let Some((networks, engine)) = networks {
                networks.add(&engine, &score, &mut judged).await?;
            }
            if let Some(external) = external {
                tokio::select! {
                    added = external.add(&score, &mut judged) => match added {
                        Err(_) if skips => {}
                        added => added?,
                    },
                    // L10: a silent external reward does not keep a run from ending.
                    () = score.control.ends() => return Err(RunError::Ending),
                }
            }
            Ok(judged)
        })
    }
}

fn judged(judge: &Judge, item: &JudgementItem, weights: &BTreeMap<String, f64>) -> JudgedCompletion {
    JudgedCompletion {
        scored: judge.score(&item.example, item.mode, &item.completion, weights, item.budget),
        words: judge.words(&item.completion),
    }
}

impl Handler<Verify> for Scorer {
    type Result = AtomicResponse<Self, Result<Vec<Option<TraceFlaw>>, RunError>>;

    fn handle(&mut self, verify: Verify, _: &mut Self::Context) -> Self::Result {
        let (pool, faults) = (Arc::clone(&self.pool), self.faults.clone());
        let verified = move || {
            faults.strike("scorer", verify.step);
            let one = |(text, right): &(String, String)| trace::verify(text, right).err();
            pool.install(|| verify.traces.par_iter().map(one).collect())
        };
        handle_message(self, "Verify", async move { Ok(offload(verified).await?) })
    }
}
