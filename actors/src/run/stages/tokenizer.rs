//! The `tokenizer` stage: training of the image tokenizer on the sources' pictures.

use demask_api::{Answer, Request};

use super::state::{After, StageRun};
use crate::engine::process::unexpected;
use crate::pipeline::run_error::RunError;
use crate::profile::Stage;

impl StageRun {
    pub(super) async fn tokenizer_step(&mut self, stage: &Stage, done: u64) -> Result<After, RunError> {
        // Not every example has a picture, so twice as many are drawn.
        let demand = self.demand(stage, 2 * stage.batch, 0.0);
        let batch = self.batch(demand.clone(), false).await?;
        let pictures = batch
            .used
            .into_iter()
            .filter_map(|picked| picked.example.picture)
            .take(stage.batch)
            .collect();
        let settings = self.settings(stage, done);
        let training = self.training(Request::TrainTokenizer { pictures, settings });
        self.begin_prefetch(stage, done, demand, false);
        // When the tokenizer changes, the codes of every picture change.
        self.inference.forget_codes();
        match training.await? {
            Answer::TokenizerTrained(report) if !report.finite => self.not_finite("tokenizer's loss").await,
            Answer::TokenizerTrained(report) => {
                self.metric(
                    self.cursor.step,
                    vec![
                        ("tokenizer/loss".into(), report.loss),
                        ("tokenizer/reconstruction".into(), report.reconstruction),
                        ("tokenizer/usage".into(), report.usage),
                    ],
                );
                Ok(After::Next)
            }
            other => Err(unexpected("tokenizer trained", &other).into()),
        }
    }
}
