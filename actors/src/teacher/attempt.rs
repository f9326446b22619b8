//! One request to a teacher, and the reading of its answer, which is trusted in nothing (law L9).

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::patience::seconds;
use super::{ChatResponse, Question, TeacherClient};

/// Most tokens that one answer can have cost. A server's larger number is reduced to this.
const MOST_TOKENS: u64 = 1 << 32;

/// The failure of one try.
pub(super) enum AttemptFailure {
    Refused(u16, String),
    Again {
        why: String,
        wait: Option<Duration>,
        /// Tokens that were paid for although the try failed.
        used: Option<u64>,
    },
}

#[derive(Deserialize)]
struct Body {
    choices: Vec<Choice>,
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Choice {
    message: Message,
}

#[derive(Deserialize)]
struct Message {
    content: Option<String>,
}

#[derive(Deserialize)]
struct Usage {
    total_tokens: u64,
}

impl TeacherClient {
    /// Sends a question once. Returns the text of the answer, and the tokens that it cost if the server says so.
    pub(super) async fn try_once(
        &self,
        question: &Question<'_>,
    ) -> Result<(String, Option<u64>), AttemptFailure> {
        let again = |why: String| AttemptFailure::Again {
            why,
            wait: None,
            used: None,
        };
        let body = json!({
            "model": self.teacher.model,
            "messages": messages(question),
            "temperature": question.temperature,
            "seed": question.seed,
            "max_tokens": question.max_tokens,
        });
        let limit = self.patience.limit;
        let response = tokio::time::timeout(limit, self.transport.post(&body)).await;
        let late = || again(format!("it sent no answer within {} s", limit.as_secs_f64()));
        let response = response.map_err(|_| late())?.map_err(again)?;
        let ChatResponse {
            status,
            retry_after,
            body: text,
        } = response;
        if !status.is_success() {
            let wait = retry_after.as_deref().and_then(seconds);
            return Err(failed(status, &text, wait));
        }
        let body: Body = serde_json::from_str(&text).map_err(|error| {
            again(format!(
                "the answer is not a chat completion ({error}): {}",
                beginning(&text)
            ))
        })?;
        let content = body
            .choices
            .into_iter()
            .next()
            .and_then(|choice| choice.message.content)
            .unwrap_or_default();
        // L9: the server states this number, so it is limited to what the store's sums and the cap's can hold.
        let used = body.usage.map(|usage| usage.total_tokens.min(MOST_TOKENS));
        if content.trim().is_empty() {
            return Err(AttemptFailure::Again {
                why: "the answer is empty".into(),
                wait: None,
                used,
            });
        }
        Ok((content, used))
    }
}

/// Builds the messages: a system message if there is one, then the text with its picture.
fn messages(question: &Question<'_>) -> Vec<Value> {
    let mut messages = Vec::new();
    if !question.system.is_empty() {
        messages.push(json!({ "role": "system", "content": question.system }));
    }
    let content = match question.picture {
        None => json!(question.prompt),
        Some(png) => {
            let url = format!("data:image/png;base64,{}", STANDARD.encode(png));
            json!([
                { "type": "text", "text": question.prompt },
                { "type": "image_url", "image_url": { "url": url } },
            ])
        }
    };
    messages.push(json!({ "role": "user", "content": content }));
    messages
}

fn failed(status: StatusCode, text: &str, wait: Option<Duration>) -> AttemptFailure {
    let passing = status.is_server_error()
        || matches!(
            status,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT | StatusCode::CONFLICT
        );
    if passing {
        return AttemptFailure::Again {
            why: format!("{status}: {}", beginning(text)),
            wait,
            used: None,
        };
    }
    AttemptFailure::Refused(status.as_u16(), beginning(text))
}

fn beginning(text: &str) -> String {
    text.chars().take(200).collect()
}
