//! Completions that the user watches while a run goes on: of its training examples, of its benchmarks, and of prompts
//! that the person asked for.

use demask_datasets::example::{Example, Kind, Mode};
use demask_storage::Level;

use super::state::StageRun;
use crate::engine::process::EngineFailure;
use crate::inference::complete::CompletionRequest;
use crate::inference::error::WorkError;
use crate::inference::settings::SamplerSettings;
use crate::inference::typed_prompt::plain_example;
use crate::inference::watched::Watched;
use crate::pipeline::curation::training_example::TrainingExample;
use crate::pipeline::run_error::RunError;
use crate::runtime::seeds::seed_of;

/// Kinds of examples that are watched in turn during training.
const TURNS: [Kind; 4] = [
    Kind::TextToImage,
    Kind::WordProblem,
    Kind::TextToImage,
    Kind::Question,
];

impl StageRun {
    /// Completes one example of a batch and publishes its frames, so that the user sees what the model makes of it now.
    pub(crate) async fn watch_one(&self, used: &[TrainingExample], turn: u64) -> Result<(), RunError> {
        let kind = TURNS[(turn % TURNS.len() as u64) as usize];
        let of_kind = used.iter().find(|picked| picked.example.kind == kind);
        let Some(picked) = of_kind.or(used.first()) else {
            return Ok(());
        };
        let id = format!("{}/{}/watch", self.context.run, self.cursor.step);
        self.complete_watched(&picked.example, picked.mode, &self.samplers(None), &id, "rollout")
            .await
    }

    /// Completes one item of each suite before the benchmarks begin, and publishes its frames. The item changes with
    /// the step.
    pub(crate) async fn watch_benchmarks(&self, suites: &[String], limit: usize) -> Result<(), RunError> {
        for name in suites {
            // An error of the suite is reported by its evaluation.
            let Some(items) = self
                .suites
                .find(name)
                .and_then(|suite| suite.examples(Some(limit)).ok())
            else {
                continue;
            };
            let at = self.cursor.step as usize % items.len().max(1);
            let Some(example) = items.get(at) else { continue };
            let mode = example.own_mode();
            if self.inference.fits(example, mode).is_err() {
                continue;
            }
            let id = format!("{}/{}/{name}", self.context.run, self.cursor.step);
            self.complete_watched(example, mode, &self.samplers(None), &id, "evaluation")
                .await?;
        }
        Ok(())
    }

    /// Completes a prompt that the user asked for, and publishes its frames. It samples for quality: one step per
    /// token, greedily.
    ///
    /// # Errors
    /// An error if the engine dies. Any other error becomes an alert.
    pub async fn sample_now(&self, order: &str, prompt: &str, picture: bool) -> Result<(), RunError> {
        let kind = if picture {
            Kind::TextToImage
        } else {
            Kind::WordProblem
        };
        let example = plain_example(kind, prompt, None);
        let id = format!("{}/asked/{order}", self.context.run);
        let mut samplers = self.samplers(None);
        (samplers.text.steps, samplers.text.temperature) = (0, 0.0);
        self.complete_watched(&example, Mode::Think, &samplers, &id, "person")
            .await
    }

    async fn complete_watched(
        &self,
        example: &Example,
        mode: Mode,
        samplers: &SamplerSettings,
        id: &str,
        origin: &str,
    ) -> Result<(), RunError> {
        let wanted = CompletionRequest {
            example: example.clone(),
            mode,
            seed: seed_of(self.context.profile.seed, self.cursor.step, 2),
            watch: None,
        };
        let watched = Watched {
            run: &self.context.run,
            id,
            origin,
            recorder: &self.context.recorder,
        };
        match watched
            .complete(&self.inference, &self.context.engine, wanted, samplers)
            .await
        {
            Ok(_) => Ok(()),
            Err(WorkError::Engine(failure @ EngineFailure::Died { .. })) => Err(failure.into()),
            Err(error) => self.alert(Level::Warn, "sample", error.to_string()).await,
        }
    }
}
