//! A judge model at an OpenAI-compatible address. It is asked about an answer or a drawing until its reply can be read.
//!
//! It uses the teacher's client, with the same permits, waits, retries and token cap.

use futures_util::future::join_all;

use super::item_result::JudgeReply;
use crate::profile::Teacher;
use crate::teacher::{ChatOpener, HttpChat, Patience, Question, TeacherClient, TeacherError};

/// Times that a judge is asked if its replies cannot be read; WISE's script asks as often.
const TRIES: u64 = 3;

/// A judge model.
#[derive(Debug)]
pub struct JudgeModel {
    client: TeacherClient,
    name: String,
    max_tokens: u64,
}

/// A question to a judge model.
#[derive(Clone, Debug)]
pub struct JudgeQuestion {
    /// System prompt; may be empty.
    pub system: String,
    /// The question.
    pub prompt: String,
    /// The drawing, as PNG.
    pub picture: Option<Vec<u8>>,
}

impl JudgeModel {
    /// Makes a judge at an address.
    ///
    /// # Errors
    /// [`TeacherError::Setup`].
    pub fn new(judge: Teacher) -> Result<Self, TeacherError> {
        Self::opened_by(&HttpChat, judge)
    }

    /// Makes a judge as [`Self::new`] does, whose transport this opener opens.
    ///
    /// # Errors
    /// [`TeacherError::Setup`].
    pub fn opened_by(opener: &dyn ChatOpener, judge: Teacher) -> Result<Self, TeacherError> {
        let (name, max_tokens) = (judge.model.clone(), judge.max_tokens);
        Ok(Self {
            name,
            client: TeacherClient::opened_by(opener, judge, Patience::default())?,
            max_tokens,
        })
    }

    /// Returns the reply to each question. A question is repeated while `is_read` returns false for the reply. A judge
    /// that fails, or whose replies can never be read, is a [`JudgeReply`] of that kind and not an error; it is counted
    /// and reported.
    ///
    /// # Errors
    /// An error if the judge refuses, or if its token cap is reached, so that nothing more can be asked.
    pub async fn ask(
        &self,
        questions: &[JudgeQuestion],
        is_read: impl Fn(usize, &str) -> bool,
    ) -> Result<Vec<JudgeReply>, TeacherError> {
        let is_read = &is_read;
        let asked = questions.iter().enumerate().map(|(at, question)| async move {
            let mut last = JudgeReply::Silent(String::new());
            for seed in 0..TRIES {
                let question = Question {
                    system: &question.system,
                    prompt: &question.prompt,
                    picture: question.picture.as_deref(),
                    temperature: 0.0,
                    seed,
                    max_tokens: self.max_tokens,
                };
                last = match self.client.ask(&question).await {
                    Ok(said) if is_read(at, &said.text) => return Ok(JudgeReply::Said(said.text)),
                    Ok(said) => JudgeReply::Rambled(said.text),
                    Err(TeacherError::Failed { last, .. }) => return Ok(JudgeReply::Silent(last)),
                    Err(error) => return Err(error),
                };
            }
            Ok(last)
        });
        join_all(asked).await.into_iter().collect()
    }

    /// Returns the name of the model.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the tokens that were paid for.
    #[must_use]
    pub fn spent(&self) -> u64 {
        self.client.spent()
    }
}
