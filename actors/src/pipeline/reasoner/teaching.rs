//! The teacher's part of the Reasoner: its share of the traces, which are requested, recorded, and never paid for twice.

use std::collections::BTreeMap;

use demask_storage::journal::TeacherAnswer;
use demask_storage::{journal, store};
use futures_util::future::join_all;

use super::{Proposal, Propose, Work};
use crate::inference::complete::CompletionRequest;
use crate::pipeline::run_error::RunError;
use crate::runtime::disk::of_store;
use crate::runtime::fault_injection::SeededBug;
use crate::teacher::{Question, Taught, TeacherClient, TeacherError};

/// System prompt of the teacher. It describes the only format that the verifier accepts.
const SYSTEM: &str = "Solve the problem step by step. Answer with <think>, your reasoning, </think> and then only the \
result. In the reasoning write every calculation as `a + b = c.` (or -, *, /) and nothing after the result.";

impl Work {
    /// Asks the teacher for its share of the traces. Missing answers are skipped, with an alert that gives the reason.
    pub(super) async fn ask_teacher(
        &self,
        propose: &Propose,
        wanted: Vec<(usize, CompletionRequest)>,
    ) -> Result<BTreeMap<usize, Proposal>, RunError> {
        let mut proposals = BTreeMap::new();
        let Some(teacher) = self.teacher().await?.filter(|_| !wanted.is_empty()) else {
            return Ok(proposals);
        };
        let known = match self.faults.has(SeededBug::PaidTwice) {
            true => BTreeMap::new(),
            false => {
                // L1: an answer of an earlier life of the run may still be on its way to the disk. L10: a disk that does
                // not answer does not keep the run from ending.
                tokio::select! {
                    biased;
                    settled = self.brief.recorder.settle() => settled?,
                    () = propose.control.ends() => return Err(RunError::Ending),
                }
                let (path, run) = (self.brief.database.clone(), self.brief.run.clone());
                let round = propose.round;
                of_store(move || journal::taught(&store::open_read_only(&path)?, &run, round)).await?
            }
        };
        let asking = wanted.into_iter().map(|(number, wanted)| {
            let known = known.get(&self.id(propose.round, number)).cloned();
            async move {
                let answer = self.taught(teacher, propose, number, &wanted, known).await;
                (number, answer)
            }
        });
        let mut silent = (0, String::new(), false);
        for (number, answer) in join_all(asking).await {
            match answer? {
                Ok(proposal) => {
                    proposals.insert(number, proposal);
                }
                Err(why) => {
                    let capped = silent.2 || matches!(why, TeacherError::Cap { .. });
                    silent = (silent.0 + 1, why.to_string(), capped);
                }
            }
        }
        // If the cap is reached, the teacher has done what was paid for. If it answers nothing without that, it has to
        // be repaired.
        if silent.0 > 0 && proposals.is_empty() && !silent.2 {
            return Err(RunError::Failed(format!(
                "the teacher answered none of {} questions of round {}; the last failure: {}; fix [teacher] in the profile or \
                 start the teacher, then start the run again",
                silent.0, propose.round, silent.1
            )));
        }
        if silent.0 > 0 {
            let message = format!(
                "the teacher did not answer {} of {} traces of round {}; the last failure: {}",
                silent.0,
                silent.0 + proposals.len(),
                propose.round,
                silent.1
            );
            self.alert(propose.step, message).await?;
        }
        Ok(proposals)
    }

    async fn taught(
        &self,
        teacher: &TeacherClient,
        propose: &Propose,
        number: usize,
        wanted: &CompletionRequest,
        known: Option<TeacherAnswer>,
    ) -> Result<Result<Proposal, TeacherError>, RunError> {
        let question = Question {
            system: SYSTEM,
            prompt: &wanted.example.prompt,
            picture: None,
            temperature: propose.samplers.text.temperature,
            seed: wanted.seed,
            max_tokens: self
                .brief
                .teacher
                .as_ref()
                .map_or(0, |teacher| teacher.max_tokens),
        };
        // If the round is done again after a knob was turned, this number may be another problem.
        let (known, other): (Option<TeacherAnswer>, Option<TeacherAnswer>) = match known {
            Some(known) if known.example == wanted.example.id => (Some(known), None),
            other => (None, other),
        };
        let (text, sampler) = match known {
            Some(known) => (known.text, known.sampler),
            None => match answer(teacher, propose, &question).await? {
                Ok(taught) => {
                    // The row replaces that of the other problem, which was paid for too.
                    let before = other.and_then(|other| other.sampler["tokens"].as_u64());
                    let tokens = taught.tokens + before.unwrap_or(0);
                    let sampler = serde_json::json!({
                        "temperature": question.temperature, "max_tokens": question.max_tokens, "tokens": tokens,
                    });
                    (taught.text, sampler)
                }
                Err(error) => return Ok(Err(error)),
            },
        };
        let generator = teacher.name();
        self.recorded(propose, number, wanted, text, &generator, sampler)
            .await
            .map(Ok)
    }

    /// Returns the teacher's client. Tokens that earlier lives paid for count towards its cap.
    async fn teacher(&self) -> Result<Option<&TeacherClient>, RunError> {
        let make = || async {
            let Some(teacher) = self.brief.teacher.clone() else {
                return Ok(None);
            };
            let (opener, patience) = (&*self.brief.opener, self.brief.patience.clone());
            let client = TeacherClient::opened_by(opener, teacher, patience)
                .map_err(|error| RunError::Failed(error.to_string()))?;
            self.brief.recorder.flush().await?;
            let (path, run) = (self.brief.database.clone(), self.brief.run.clone());
            let spent = of_store(move || journal::taught_tokens(&store::open_read_only(&path)?, &run));
            client.already_spent(spent.await?);
            Ok::<_, RunError>(Some(client))
        };
        Ok(self.teacher.get_or_try_init(make).await?.as_ref())
    }
}

/// Asks the teacher. A silent one does not keep a run from ending (law L10), but an answer that has come is returned
/// even then, so that it is recorded and not paid for again (law L1).
///
/// # Errors
/// [`RunError::Ending`] if the run must end before there is an answer.
async fn answer(
    teacher: &TeacherClient,
    propose: &Propose,
    question: &Question<'_>,
) -> Result<Result<Taught, TeacherError>, RunError> {
    let turn = tokio::select! {
        biased;
        // First, so that the turn of a question that is given up does not begin another one.
        () = propose.control.ends() => return Err(RunError::Ending),
        turn = teacher.turn() => turn,
    };
    let turn = match turn {
        Ok(turn) => turn,
        Err(closed) => return Ok(Err(closed)),
    };
    tokio::select! {
        biased;
        answer = teacher.ask_in_turn(turn, question) => Ok(answer),
        () = propose.control.ends() => Err(RunError::Ending),
    }
}

/// Returns whether the teacher writes the trace of this number. The teacher's share of the first n numbers is right to
/// within one.
pub(super) fn falls_to_teacher(number: usize, share: f64) -> bool {
    let upto = |count: usize| (count as f64 * share + 1e-9).floor();
    upto(number + 1) > upto(number)
}
