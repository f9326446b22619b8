//! The `pretrain` and `finetune` stages: one optimizer step on a batch, while the next batch is made.

use std::future::Future;
use std::time::Instant;

use demask_api::sequence::Task;
use demask_api::{Answer, Request, TrainReport};

use super::reports::exchanged;
use super::state::{After, StageRun};
use crate::engine::process::{EngineFailure, unexpected};
use crate::pipeline::curation::curator::Demand;
use crate::pipeline::curation::training_example::location;
use crate::pipeline::run_error::RunError;
use crate::profile::Stage;
use crate::run::lineage;
use crate::run::prefetch::{BatchMaker, Prefetch, TrainingBatch};

/// Steps between two watched samples during training.
const WATCH_EVERY: u64 = 25;
/// Consecutive batches without a fitting example that end a run.
const EMPTY_BATCHES: u64 = 10;

impl StageRun {
    /// Takes one step of a `pretrain` or `finetune` stage. What the step trains on is recorded before the optimizer
    /// step (law L5). The next batch is made while the engine trains.
    pub(super) async fn train_step(
        &mut self,
        stage: &Stage,
        done: u64,
        think_share: f64,
    ) -> Result<After, RunError> {
        let began = Instant::now();
        let demand = self.demand(stage, stage.batch, think_share);
        let batch = self.batch(demand.clone(), true).await?;
        self.turned_away(stage, &batch).await?;
        if batch.used.is_empty() {
            return Ok(After::Next);
        }
        lineage::used(
            &self.context,
            &self.pictures,
            self.cursor.step,
            &stage.name,
            &batch.used,
        )
        .await?;
        let settings = self.settings(stage, done);
        let learning_rate = settings.learning_rate;
        let training = self.training(Request::Train {
            micro_batches: vec![batch.sequences],
            settings,
        });
        self.begin_prefetch(stage, done, demand, true);
        let report = match training.await? {
            Answer::Trained(report) => report,
            other => return Err(unexpected("trained", &other).into()),
        };
        if !report.finite {
            return self.not_finite("loss").await;
        }
        self.weights = report.step;
        self.measure(&report, learning_rate, began.elapsed().as_secs_f64());
        if self.cursor.step.is_multiple_of(WATCH_EVERY) {
            self.watch_one(&batch.used, self.cursor.step / WATCH_EVERY)
                .await?;
        }
        Ok(After::Next)
    }

    /// Returns the batch of a step: the prefetched one, if it was made for this demand, or a new one.
    pub(super) async fn batch(&mut self, demand: Demand, written: bool) -> Result<TrainingBatch, RunError> {
        if let Some(ready) = self.ready.take()
            && let Some(batch) = ready.take(&demand).await?
        {
            return Ok(batch);
        }
        self.maker().make(demand, written).await
    }

    /// Records the examples of a batch that do not fit.
    ///
    /// # Errors
    /// An error if [`EMPTY_BATCHES`] batches in a row had no fitting example, because a run that has learnt nothing
    /// must not end as done.
    pub(super) async fn turned_away(&mut self, stage: &Stage, batch: &TrainingBatch) -> Result<(), RunError> {
        for (example, why) in &batch.rejected {
            lineage::rejected(&self.context, &stage.name, example, why).await?;
        }
        let Some((example, why)) = batch.rejected.first().filter(|_| batch.used.is_empty()) else {
            self.empty_batches = 0;
            return Ok(());
        };
        self.empty_batches += 1;
        if self.empty_batches < EMPTY_BATCHES {
            return Ok(());
        }
        Err(RunError::Failed(format!(
            "no example of the last {EMPTY_BATCHES} batches fits (`budgets` in the profile); source {}, {}: {why}",
            example.source,
            location(example)
        )))
    }

    /// Starts to make the next step's batch, within a stage. Across stages, the codes or the pool may change.
    pub(super) fn begin_prefetch(&mut self, stage: &Stage, done: u64, demand: Demand, written: bool) {
        if done + 1 < stage.steps {
            let step = demand.step + 1;
            let (maker, demand) = (self.maker(), Demand { step, ..demand });
            let asked = demand.clone();
            self.ready = Some(Prefetch::begin(demand, async move {
                maker.make(asked, written).await
            }));
        }
    }

    pub(super) fn maker(&self) -> BatchMaker {
        BatchMaker {
            curator: self.addresses.curator.clone(),
            engine: self.context.engine.clone(),
            inference: self.inference.clone(),
        }
    }

    /// Sends a request to the engine at once, and returns a future of its answer. Requests that are sent later queue
    /// behind it.
    pub(super) fn training(
        &self,
        request: Request,
    ) -> impl Future<Output = Result<Answer, EngineFailure>> + 'static {
        let engine = self.context.engine.clone();
        let asked = actix::spawn(async move { engine.ask(request, None).await });
        async move {
            asked.await.unwrap_or_else(|error| {
                Err(EngineFailure::Died {
                    status: error.to_string(),
                    tail: String::new(),
                })
            })
        }
    }

    fn measure(&mut self, report: &TrainReport, learning_rate: f64, seconds: f64) {
        let tokens_per_s = report.tokens as f64 / seconds;
        self.progress.trained(tokens_per_s);
        let mut values = vec![
            ("train/loss".to_owned(), report.loss),
            ("train/grad_norm".to_owned(), report.grad_norm),
            ("train/learning_rate".to_owned(), learning_rate),
            ("rate/tokens_per_s".to_owned(), tokens_per_s),
        ];
        values.extend(exchanged(&report.ranks));
        self.ranks(&report.ranks);
        let losses = report.task_losses.iter();
        values.extend(losses.map(|(task, loss)| (format!("train/loss_{}", task_word(*task)), *loss)));
        self.metric(self.cursor.step, values);
    }
}

fn task_word(task: Task) -> &'static str {
    match task {
        Task::TextToImage => "t2i",
        Task::Text => "lm",
        Task::Understand => "mmu",
        Task::ThinkThenDraw => "r2i",
    }
}
