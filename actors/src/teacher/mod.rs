//! The client of a teacher model at an OpenAI-compatible `chat/completions` address. It limits its requests and trusts
//! no answer.
//!
//! Each request holds a permit (law L2) and has a time limit. Failed requests are repeated after doubling waits that
//! honour `Retry-After`. Requests stop at a cap on tokens; the tokens of a request are reserved before it is sent.
//!
//! - `attempt.rs`: one request; `transport.rs`: the trait of its transport, and the transport over HTTP;
//! - `patience.rs`: the limits on retries and sizes; `budget.rs`: the cap on tokens;
//! - `error.rs`: why there is no answer.

mod attempt;
mod budget;
mod error;
mod patience;
mod transport;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tokio::sync::{Semaphore, SemaphorePermit};

use attempt::AttemptFailure;
use budget::Aside;
pub use error::TeacherError;
pub use patience::Patience;
use patience::wait_before;
pub use transport::{ChatAnswering, ChatOpener, ChatResponse, ChatTransport, HttpChat};

use crate::profile::Teacher;

/// A request to the teacher.
#[derive(Clone, Debug)]
pub struct Question<'a> {
    /// System prompt.
    pub system: &'a str,
    /// The problem.
    pub prompt: &'a str,
    /// A picture for the problem, as PNG.
    pub picture: Option<&'a [u8]>,
    /// Sampling temperature.
    pub temperature: f64,
    /// Sampling seed.
    pub seed: u64,
    /// Most tokens in the answer.
    pub max_tokens: u64,
}

/// An answer of the teacher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taught {
    /// Text of the answer.
    pub text: String,
    /// Tokens that were paid for, also for useless answers before this one.
    pub tokens: u64,
    /// Number of tries.
    pub tries: u32,
}

/// The client of a teacher.
#[derive(Debug)]
pub struct TeacherClient {
    transport: Box<dyn ChatTransport>,
    teacher: Teacher,
    patience: Patience,
    permits: Semaphore,
    spent: AtomicU64,
}

impl TeacherClient {
    /// Makes the client of a profile's teacher. The key is read from the environment variable that the profile names.
    ///
    /// # Errors
    /// [`TeacherError::Setup`].
    pub fn new(teacher: Teacher, patience: Patience) -> Result<Self, TeacherError> {
        Self::opened_by(&HttpChat, teacher, patience)
    }

    /// Makes a client as [`Self::new`] does, whose transport this opener opens.
    ///
    /// # Errors
    /// [`TeacherError::Setup`].
    pub fn opened_by(
        opener: &dyn ChatOpener,
        teacher: Teacher,
        patience: Patience,
    ) -> Result<Self, TeacherError> {
        let transport = opener.open(&teacher, &patience)?;
        let permits = Semaphore::new(teacher.concurrency.max(1));
        Ok(Self {
            transport,
            teacher,
            patience,
            permits,
            spent: AtomicU64::new(0),
        })
    }

    /// Returns `teacher:MODEL`, under which the generator of its traces is recorded.
    #[must_use]
    pub fn name(&self) -> String {
        format!("teacher:{}", self.teacher.model)
    }

    /// Returns the tokens that are spent or reserved.
    #[must_use]
    pub fn spent(&self) -> u64 {
        self.spent.load(Relaxed)
    }

    /// Adds tokens that were spent before this process began, so that the cap holds across restarts.
    pub fn already_spent(&self, tokens: u64) {
        self.spent.fetch_add(tokens, Relaxed);
    }

    /// Sends a question, with as many tries as the limits allow.
    ///
    /// # Errors
    /// [`TeacherError::Cap`] before anything is sent; [`TeacherError::Refused`]; [`TeacherError::Failed`].
    pub async fn ask(&self, question: &Question<'_>) -> Result<Taught, TeacherError> {
        let turn = self.turn().await?;
        self.ask_in_turn(turn, question).await
    }

    /// Waits until a question may be sent, because few enough others are asked at a time (law L2).
    ///
    /// # Errors
    /// [`TeacherError::Failed`] if the client is being closed.
    pub async fn turn(&self) -> Result<SemaphorePermit<'_>, TeacherError> {
        let turn = self.permits.acquire().await;
        turn.map_err(|_| TeacherError::Failed {
            tries: 0,
            last: "the teacher is being closed".into(),
        })
    }

    /// Sends a question as [`Self::ask`] does, once it is its turn.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub async fn ask_in_turn(
        &self,
        _turn: SemaphorePermit<'_>,
        question: &Question<'_>,
    ) -> Result<Taught, TeacherError> {
        let (mut last, mut paid) = (String::new(), 0);
        for number in 0..self.patience.tries.max(1) {
            let aside = self.set_aside(question)?;
            match self.try_once(question).await {
                Ok((text, used)) => {
                    let tokens = used.unwrap_or(aside.tokens);
                    aside.settle(tokens);
                    return Ok(Taught {
                        text,
                        tokens: paid + tokens,
                        tries: number + 1,
                    });
                }
                Err(AttemptFailure::Refused(status, body)) => {
                    return Err(TeacherError::Refused { status, body });
                }
                Err(AttemptFailure::Again { why, wait, used }) => {
                    match used {
                        // A useless answer was paid for too.
                        Some(tokens) => {
                            aside.settle(tokens);
                            paid += tokens;
                        }
                        None => drop(aside),
                    }
                    tracing::debug!("teacher, try {}: {why}", number + 1);
                    last = why;
                    if number + 1 < self.patience.tries {
                        tokio::time::sleep(wait_before(&self.patience, number, wait)).await;
                    }
                }
            }
        }
        Err(TeacherError::Failed {
            tries: self.patience.tries.max(1),
            last,
        })
    }

    fn set_aside(&self, question: &Question<'_>) -> Result<Aside<'_>, TeacherError> {
        // A token has at least one byte, so the number of bytes of a prompt is an upper bound of its tokens.
        let wanted = question.max_tokens + (question.prompt.len() + question.system.len()) as u64;
        Aside::of(&self.spent, self.teacher.token_cap, wanted)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::patience::seconds;
    use super::*;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    pub(crate) const GOOD: &str =
        r#"{"choices":[{"message":{"content":"<think>1 + 1 = 2.</think>2"}}],"usage":{"total_tokens":30}}"#;

    pub(crate) fn http(status: &str, headers: &str, body: &str) -> String {
        format!(
            "HTTP/1.1 {status}\r\nconnection: close\r\n{headers}content-length: {}\r\n\r\n{body}",
            body.len()
        )
    }

    /// Answers each connection with the next entry of the script. An empty entry hangs until the client gives up.
    pub(crate) async fn scripted(script: Vec<String>) -> (String, Arc<Mutex<Vec<String>>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&asked);
        tokio::spawn(async move {
            for answer in script {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = vec![0; 8192];
                let read = stream.read(&mut request).await.unwrap();
                heard
                    .lock()
                    .unwrap()
                    .push(String::from_utf8_lossy(&request[..read]).into_owned());
                if answer.is_empty() {
                    tokio::spawn(async move { stream.read(&mut [0; 1]).await });
                } else {
                    stream.write_all(answer.as_bytes()).await.ok();
                }
            }
        });
        (url, asked)
    }

    fn client(url: String, token_cap: u64, tries: u32) -> TeacherClient {
        let key_variable = "DEMASK_NO_SUCH_KEY".into();
        let teacher = Teacher {
            url,
            model: "m".into(),
            key_variable,
            concurrency: 2,
            token_cap,
            share: 1.0,
            max_tokens: 100,
        };
        let short = Duration::from_millis(1);
        let limit = Duration::from_millis(300);
        TeacherClient::new(
            teacher,
            Patience {
                tries,
                first_wait: short,
                longest_wait: short,
                limit,
                longest_body: 4096,
            },
        )
        .unwrap()
    }

    const QUESTION: Question<'_> = Question {
        system: "s",
        prompt: "1 + 1?",
        picture: None,
        temperature: 0.5,
        seed: 1,
        max_tokens: 100,
    };

    #[tokio::test]
    async fn every_passing_failure_is_tried_again_and_only_the_answer_is_paid_for() {
        let good = http("200 OK", "", GOOD);
        let script = vec![
            http("429 Too Many Requests", "retry-after: 0\r\n", "slow down"),
            http("500 Internal Server Error", "", "oops"),
            good[..good.len() - 9].to_owned(),
            http("200 OK", "", "{not json"),
            http("200 OK", "", r#"{"choices":[{"message":{"content":""}}]}"#),
            http("200 OK", "", &"x".repeat(5000)),
            String::new(),
            good,
        ];
        let (url, asked) = scripted(script).await;
        let teacher = client(url, 1000, 8);
        let taught = teacher.ask(&QUESTION).await.unwrap();
        assert_eq!(
            taught,
            Taught {
                text: "<think>1 + 1 = 2.</think>2".into(),
                tokens: 30,
                tries: 8
            }
        );
        assert_eq!(teacher.spent(), 30);
        assert_eq!(asked.lock().unwrap().len(), 8);
        assert!(asked.lock().unwrap()[0].starts_with("POST /v1/chat/completions "));
    }

    #[tokio::test]
    async fn an_answer_of_no_use_is_paid_for_if_the_teacher_says_so() {
        let thought = r#"{"choices":[{"message":{"content":""}}],"usage":{"total_tokens":90}}"#;
        let (url, asked) = scripted(vec![http("200 OK", "", thought); 5]).await;
        let teacher = client(url, 250, 5);
        let error = teacher.ask(&QUESTION).await.unwrap_err();
        assert!(matches!(error, TeacherError::Cap { spent: 180, .. }), "{error}");
        assert_eq!((teacher.spent(), asked.lock().unwrap().len()), (180, 2));
    }

    #[tokio::test]
    async fn l1_an_answer_has_the_tokens_of_the_useless_ones_before_it_so_that_the_next_life_counts_them() {
        let thought = r#"{"choices":[{"message":{"content":""}}],"usage":{"total_tokens":90}}"#;
        let script = vec![http("200 OK", "", thought), http("200 OK", "", GOOD)];
        let (url, _) = scripted(script).await;
        let teacher = client(url, 1000, 5);
        let taught = teacher.ask(&QUESTION).await.unwrap();
        assert_eq!((taught.tokens, taught.tries, teacher.spent()), (120, 2, 120));
    }

    /// A larger number does not fit into a row, and a sum with it would wrap past the cap.
    #[tokio::test]
    async fn l9_a_count_of_tokens_beyond_all_measure_is_reduced_and_reaches_the_cap() {
        let body = GOOD.replace(":30", &format!(":{}", u64::MAX));
        let (url, asked) = scripted(vec![http("200 OK", "", &body)]).await;
        let teacher = client(url, 1000, 1);
        let taught = teacher.ask(&QUESTION).await.unwrap();
        assert_eq!((taught.tokens, teacher.spent()), (1 << 32, 1 << 32));
        let error = teacher.ask(&QUESTION).await.unwrap_err();
        assert!(matches!(error, TeacherError::Cap { .. }), "{error}");
        assert_eq!(asked.lock().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn a_refusal_is_not_tried_again_and_nothing_stays_set_aside() {
        let (url, asked) = scripted(vec![http("401 Unauthorized", "", "no key")]).await;
        let teacher = client(url, 1000, 5);
        let error = teacher.ask(&QUESTION).await.unwrap_err();
        assert!(
            matches!(error, TeacherError::Refused { status: 401, .. }),
            "{error}"
        );
        assert_eq!((teacher.spent(), asked.lock().unwrap().len()), (0, 1));
    }

    #[tokio::test]
    async fn the_cap_holds_before_anything_is_asked() {
        let (url, asked) = scripted(vec![http("200 OK", "", GOOD)]).await;
        let teacher = client(url, 110, 5);
        teacher.ask(&QUESTION).await.unwrap();
        assert!(matches!(
            teacher.ask(&QUESTION).await,
            Err(TeacherError::Cap {
                cap: 110,
                spent: 30,
                ..
            })
        ));
        assert_eq!(asked.lock().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn it_gives_up_with_the_last_reason() {
        let (url, _) = scripted(vec![http("503 Service Unavailable", "", "busy"); 2]).await;
        let error = client(url, 1000, 2).ask(&QUESTION).await.unwrap_err();
        assert!(
            error.to_string().contains("failed 2 times") && error.to_string().contains("busy"),
            "{error}"
        );
    }

    #[test]
    fn waits_double_and_honour_what_was_asked_up_to_the_longest() {
        let patience = Patience::default();
        let waits = [0, 1, 2, 20].map(|number| wait_before(&patience, number, None).as_millis());
        assert_eq!(waits, [500, 1000, 2000, 60_000]);
        assert_eq!(wait_before(&patience, 0, seconds("7")), Duration::from_secs(7));
        assert_eq!(
            wait_before(&patience, 0, seconds("7000")),
            Duration::from_secs(60)
        );
        assert_eq!(seconds("Wed, 21 Oct 2015 07:28:00 GMT"), None);
    }
}
