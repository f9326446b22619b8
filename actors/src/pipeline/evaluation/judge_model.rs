//! A judge model behind an OpenAI-compatible address: asked about an answer or a drawing until what it says can be read.
//!
//! The client is the teacher's: permits, waits, retries and a cap on tokens are the same.

use futures_util::future::join_all;

use super::item_result::JudgeReply;
use crate::profile::Teacher;
use crate::teacher::{Patience, Question, TeacherClient, TeacherError};

/// How often one is asked that rambles; WISE's script asks as often.
const TRIES: u64 = 3;

/// A judge.
#[derive(Debug)]
pub struct JudgeModel {
    client: TeacherClient,
    name: String,
    max_tokens: u64,
}

/// What it is asked.
#[derive(Clone, Debug)]
pub struct JudgeQuestion {
    /// What it is told first; may be empty.
    pub system: String,
    /// The question.
    pub prompt: String,
    /// The drawing, as PNG.
    pub picture: Option<Vec<u8>>,
}

impl JudgeModel {
    /// The judge at an address.
    ///
    /// # Errors
    /// [`TeacherError::Setup`].
    pub fn new(judge: Teacher) -> Result<Self, TeacherError> {
        let (name, max_tokens) = (judge.model.clone(), judge.max_tokens);
        Ok(Self {
            name,
            client: TeacherClient::new(judge, Patience::default())?,
            max_tokens,
        })
    }

    /// What it says of each question, asked again while `is_read` finds nothing in it; a judge that fails, or never says what
    /// can be read, is a reply of that kind and no error: it is counted and told.
    ///
    /// # Errors
    /// It refuses, or its cap on tokens is reached: nothing more can be asked.
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

    /// The model's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Tokens that were paid for.
    #[must_use]
    pub fn spent(&self) -> u64 {
        self.client.spent()
    }
}
