//! Log-likelihoods of choices as answers to an example: tokens go to the engine, log-likelihoods come back.

use demask_api::{Answer, LikelihoodEstimator, LikelihoodQuery, LogLikelihood, Request};
use demask_datasets::example::{Example, Mode};
use demask_datasets::prompts::choices::ChoiceTokens;
use demask_datasets::prompts::sequences::SequenceError;

use super::complete::{Inference, asked_about};
use super::error::WorkError;
use crate::engine::link::EngineLink;
use crate::engine::process::unexpected;

/// Most tokens in one request to the engine, which carries at least one query.
const TOKENS: usize = 4 << 20;

/// A request for the log-likelihoods of an example's choices.
#[derive(Clone, Debug)]
pub struct LikelihoodRequest {
    /// The example, prompted as for a direct answer. A plain text is used as it is.
    pub example: Example,
    /// The choices, each exactly as it would be written, including a leading space.
    pub choices: Vec<String>,
    /// Estimator of the log-likelihood.
    pub estimator: LikelihoodEstimator,
    /// Classifier-free guidance scale; 0 turns guidance off.
    pub guidance: f32,
    /// Seed of the masks. Choices of the same length get the same masks, so that only the choices differ.
    pub seed: u64,
}

impl Inference {
    /// Checks that an example and its choices fit their budgets.
    ///
    /// # Errors
    /// An error with both lengths if they do not fit.
    pub fn choices_fit(&self, example: &Example, choices: &[String]) -> Result<(), SequenceError> {
        let codes = self.placeholder_codes(example, Mode::Direct);
        self.builder().choices(example, choices, &codes).map(|_| ())
    }

    /// Returns the log-likelihood of each choice of each request, in order.
    ///
    /// # Errors
    /// Any failure of the engine; an error with both lengths if a request does not fit.
    pub async fn log_likelihoods(
        &self,
        link: &dyn EngineLink,
        wanted: &[LikelihoodRequest],
    ) -> Result<Vec<Vec<LogLikelihood>>, WorkError> {
        let asked: Vec<Example> = wanted.iter().map(|wanted| asked_about(&wanted.example)).collect();
        let codes = self.codes_of(link, &asked.iter().collect::<Vec<_>>()).await?;
        let mut queries = Vec::new();
        for (wanted, codes) in wanted.iter().zip(&codes) {
            let tokens = self.builder().choices(&wanted.example, &wanted.choices, codes)?;
            queries.extend(queries_of(wanted, tokens));
        }
        let mut values = Vec::with_capacity(queries.len());
        while !queries.is_empty() {
            let behind = queries.split_off(fitting(&queries));
            match link.ask(Request::LogLikelihoods { queries }, None).await? {
                Answer::LogLikelihoods { values: found, .. } => values.extend(found),
                other => return Err(unexpected("log_likelihoods", &other).into()),
            }
            queries = behind;
        }
        let mut values = values.into_iter();
        let own = |wanted: &LikelihoodRequest| values.by_ref().take(wanted.choices.len()).collect();
        Ok(wanted.iter().map(own).collect())
    }
}

/// Makes one query per choice.
fn queries_of(wanted: &LikelihoodRequest, tokens: ChoiceTokens) -> impl Iterator<Item = LikelihoodQuery> {
    let ChoiceTokens { prompt, choices } = tokens;
    choices.into_iter().map(move |answer| LikelihoodQuery {
        prompt: prompt.clone(),
        answer,
        estimator: wanted.estimator,
        guidance: wanted.guidance,
        seed: wanted.seed,
    })
}

/// Returns how many of the first queries go into one request; at least one.
fn fitting(queries: &[LikelihoodQuery]) -> usize {
    let mut tokens = 0;
    let fits = |query: &&LikelihoodQuery| {
        tokens += query.prompt.len() + query.answer.len();
        tokens <= TOKENS
    };
    queries.iter().take_while(fits).count().max(1)
}

/// Formats log-likelihoods beside their choices, one per line: `A -3.21 ± 0.04`; without the error where none is known.
#[must_use]
pub fn in_words(choices: &[String], values: &[LogLikelihood]) -> String {
    let line = |(choice, said): (&String, &LogLikelihood)| match said.standard_error {
        Some(error) => format!("{} {:.2} ± {error:.2}", choice.trim(), said.value),
        None => format!("{} {:.2}", choice.trim(), said.value),
    };
    let lines: Vec<String> = choices.iter().zip(values).map(line).collect();
    lines.join("\n")
}
