//! Judging with external judges, which judge what a suite cannot judge itself. Each is asked about a whole batch.

use std::collections::BTreeMap;
use std::sync::Arc;

use demask_datasets::pictures::file::png;
use demask_rewards::benchmarks::{Item, Response, Scoring, Suite, SuiteError, Verdict};
use demask_rewards::judge::{Completion, Judge};
use demask_rewards::networks::Pair;

use super::item_result::JudgeReply;
use super::judge_model::JudgeQuestion;
use super::trial::Trial;
use crate::engine::link::EngineLink;
use crate::inference::complete::CompletionRequest;
use crate::inference::error::WorkError;
use crate::pipeline::judgement;
use crate::pipeline::run_error::RunError;

/// A verdict, with the reply of an external judge if one was asked.
pub(super) type Judgement = (Verdict, Option<JudgeReply>);

/// The model's completions for a batch of items.
pub(super) struct Given<'a> {
    /// The suite and its own judge.
    pub suite: (&'a Suite, &'a Judge),
    /// The items with their numbers.
    pub items: &'a [(usize, Item)],
    /// Requests of the completions.
    pub wanted: &'a [CompletionRequest],
    /// The completions.
    pub said: &'a [&'a Completion],
}

/// Indices of the batch that wait for each kind of judge, with their questions.
#[derive(Default)]
struct Open {
    rewards: BTreeMap<String, Vec<usize>>,
    networks: Vec<(usize, &'static str, String)>,
    models: Vec<(usize, JudgeQuestion)>,
    detectors: Vec<(usize, String, Vec<String>)>,
}

impl Given<'_> {
    /// Returns the verdicts, in the order of the items.
    ///
    /// # Errors
    /// An error if a judge that the suite needs was not named, or if one fails for good; any failure of the engine.
    pub(super) async fn verdicts(
        &self,
        link: &dyn EngineLink,
        trial: &Trial,
    ) -> Result<Vec<Judgement>, RunError> {
        let (suite, judge) = self.suite;
        let mut verdicts: Vec<Judgement> = vec![(Verdict::default(), None); self.items.len()];
        let mut open = Open::default();
        for (at, ((_, item), said)) in self.items.iter().zip(self.said).enumerate() {
            match suite.score(item, &Response::Completion(said), judge.verifiers()) {
                Scoring::Done(verdict) => verdicts[at].0 = verdict,
                Scoring::AskReward { reward } => open.rewards.entry(reward).or_default().push(at),
                Scoring::AskNetwork { network, text } => open.networks.push((at, network, text)),
                Scoring::AskDetector { image, classes } => open.detectors.push((at, image, classes)),
                Scoring::AskJudge {
                    otherwise: Some(verdict),
                    ..
                } if trial.judges.model.is_none() => verdicts[at].0 = verdict,
                Scoring::AskJudge { system, prompt, .. } => {
                    let picture = said.picture.as_ref().map(png);
                    let question = JudgeQuestion {
                        system,
                        prompt,
                        picture,
                    };
                    open.models.push((at, question));
                }
            }
        }
        self.by_rewards(trial, open.rewards, &mut verdicts).await?;
        self.by_networks(link, trial, open.networks, &mut verdicts)
            .await?;
        self.by_model(trial, open.models, &mut verdicts).await?;
        self.by_detector(trial, open.detectors, &mut verdicts).await?;
        Ok(verdicts)
    }

    /// Returns the error that the suite needs a judge that was not named.
    fn lacks<T>(&self, what: &'static str) -> Result<T, RunError> {
        let suite = self.suite.0.name();
        Err(WorkError::from(SuiteError::Unsupported { suite, what }).into())
    }

    /// Returns the verdict of a reply. A reply that cannot be read gives no judgement.
    fn read(&self, at: usize, reply: JudgeReply) -> Judgement {
        let verdict = match &reply {
            JudgeReply::Said(said) => self.suite.0.score_reply(&self.items[at].1, said),
            JudgeReply::Rambled(_) | JudgeReply::Silent(_) => self.suite.0.unread_reply(&self.items[at].1),
        };
        let verdict = verdict.unwrap_or_else(|| Verdict::unjudged(&reply.to_string()));
        (verdict, Some(reply))
    }

    async fn by_rewards(
        &self,
        trial: &Trial,
        open: BTreeMap<String, Vec<usize>>,
        verdicts: &mut [Judgement],
    ) -> Result<(), RunError> {
        for (reward, places) in open {
            let Some(external) = &trial.external else {
                return self.lacks("an external reward, but the profile defines none");
            };
            let asked = |&at: &usize| judgement::JudgementItem {
                id: format!("{}/{}", self.suite.0.name(), self.items[at].0),
                example: self.wanted[at].example.clone(),
                mode: self.wanted[at].mode,
                completion: self.said[at].clone(),
                budget: usize::MAX,
            };
            let asked = Arc::new(places.iter().map(asked).collect());
            let credits = external.credits(&reward, asked).await?;
            for (at, credit) in places.into_iter().zip(credits) {
                verdicts[at] = (credit.into(), None);
            }
        }
        Ok(())
    }

    /// Judges drawings with reward networks. `open` has, for each drawing, the index of its item, the network (`clip`
    /// or `image_reward`) and the text to compare with. All drawings are sent in one request.
    async fn by_networks(
        &self,
        link: &dyn EngineLink,
        trial: &Trial,
        open: Vec<(usize, &'static str, String)>,
        verdicts: &mut [Judgement],
    ) -> Result<(), RunError> {
        let pairs: Vec<Pair> = open
            .iter()
            .filter_map(|(at, _, text)| {
                Some(Pair {
                    picture: self.said[*at].picture.clone()?,
                    text: text.clone(),
                    drawn: true,
                })
            })
            .collect();
        if open.is_empty() {
            return Ok(());
        }
        let Some(networks) = &trial.networks else {
            return self.lacks("a reward network: give its folder with --clip or --image-reward");
        };
        if pairs.len() != open.len() {
            return self.lacks("drawings, but none was drawn");
        }
        let said = networks.ask(link, pairs).await?;
        for ((at, network, _), said) in open.into_iter().zip(said) {
            let number = if network == "clip" {
                said.cosine
            } else {
                said.image_reward
            };
            let Some(number) = number else {
                return match network {
                    "clip" => self.lacks("a CLIP model: give its folder with --clip"),
                    _ => self.lacks("an ImageReward model: give its folder with --image-reward"),
                };
            };
            verdicts[at] = self.read(at, JudgeReply::Said(number.to_string()));
        }
        Ok(())
    }

    async fn by_model(
        &self,
        trial: &Trial,
        open: Vec<(usize, JudgeQuestion)>,
        verdicts: &mut [Judgement],
    ) -> Result<(), RunError> {
        if open.is_empty() {
            return Ok(());
        }
        let Some(model) = &trial.judges.model else {
            return self.lacks("a judge model: give its address with --judge URL --judge-model NAME");
        };
        let (places, questions): (Vec<usize>, Vec<JudgeQuestion>) = open.into_iter().unzip();
        let is_read = |at: usize, said: &str| {
            let item = &self.items[places[at]].1;
            self.suite.0.score_reply(item, said).is_some()
        };
        let replies = model.ask(&questions, is_read).await;
        let replies = replies.map_err(|error| RunError::about("the judge model", error))?;
        for (at, reply) in places.iter().zip(replies) {
            verdicts[*at] = self.read(*at, reply);
        }
        Ok(())
    }

    async fn by_detector(
        &self,
        trial: &Trial,
        open: Vec<(usize, String, Vec<String>)>,
        verdicts: &mut [Judgement],
    ) -> Result<(), RunError> {
        for (at, image, classes) in open {
            let Some(detector) = &trial.judges.detector else {
                return self.lacks(
                    "a detector: give its program with --detector, or its recorded answers with --detections FILE",
                );
            };
            let drawn = self.said[at].picture.as_ref().map(png).unwrap_or_default();
            let said = detector
                .detect(&image, &drawn, &classes)
                .await
                .map_err(RunError::Failed)?;
            let reply = match self.suite.0.score_reply(&self.items[at].1, &said) {
                Some(_) => JudgeReply::Said(said),
                None => JudgeReply::Rambled(said),
            };
            verdicts[at] = self.read(at, reply);
        }
        Ok(())
    }
}
