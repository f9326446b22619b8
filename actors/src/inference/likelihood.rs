//! How likely each choice is as the answer to an example: tokens to the engine, log-likelihoods back.

use demask_api::{Answer, LikelihoodEstimator, LikelihoodQuery, LogLikelihood, Request};
use demask_datasets::example::{Example, Mode};
use demask_datasets::prompts::choices::ChoiceTokens;
use demask_datasets::prompts::sequences::SequenceError;

use super::complete::{Inference, asked_about};
use super::error::WorkError;
use crate::engine::link::EngineLink;
use crate::engine::process::unexpected;

/// Tokens that one request to the engine carries, at most (but always a query).
const TOKENS: usize = 4 << 20;

/// Choices whose log-likelihoods as the answer to an example are asked.
#[derive(Clone, Debug)]
pub struct LikelihoodRequest {
    /// What is asked, written as for a direct answer; plain text is read as it is.
    pub example: Example,
    /// What may answer it, each exactly as it would be written, a leading space too.
    pub choices: Vec<String>,
    /// How the log-likelihood is worked out.
    pub estimator: LikelihoodEstimator,
    /// Classifier-free guidance scale; 0 is off.
    pub guidance: f32,
    /// The masks' noise: choices of one length share their masks, so that what differs is the choice.
    pub seed: u64,
}

impl Inference {
    /// Whether an example and its choices fit their budgets.
    ///
    /// # Errors
    /// They do not, with both numbers.
    pub fn choices_fit(&self, example: &Example, choices: &[String]) -> Result<(), SequenceError> {
        let codes = self.placeholder_codes(example, Mode::Direct);
        self.builder().choices(example, choices, &codes).map(|_| ())
    }

    /// The log-likelihood of each choice of each request, in their order.
    ///
    /// # Errors
    /// The engine's; a request that does not fit, with both numbers.
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

/// A query for each choice.
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

/// How many of the first queries go into one request, at least one.
fn fitting(queries: &[LikelihoodQuery]) -> usize {
    let mut tokens = 0;
    let fits = |query: &&LikelihoodQuery| {
        tokens += query.prompt.len() + query.answer.len();
        tokens <= TOKENS
    };
    queries.iter().take_while(fits).count().max(1)
}

/// Log-likelihoods beside their choices, a line each: `A -3.21 ± 0.04`; no error where none is known.
#[must_use]
pub fn in_words(choices: &[String], values: &[LogLikelihood]) -> String {
    let line = |(choice, said): (&String, &LogLikelihood)| match said.standard_error {
        Some(error) => format!("{} {:.2} ± {error:.2}", choice.trim(), said.value),
        None => format!("{} {:.2}", choice.trim(), said.value),
    };
    let lines: Vec<String> = choices.iter().zip(values).map(line).collect();
    lines.join("\n")
}
