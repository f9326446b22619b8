//! A simulated teacher. Whether it refuses, rambles or answers well follows from the question's seed alone; faults that
//! pass come from the schedule. It checks that no question is asked again whose answer is known.

use std::fmt;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use demask_actors::profile::Teacher;
use demask_actors::teacher::{
    ChatAnswering, ChatOpener, ChatResponse, ChatTransport, Patience, TeacherError,
};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::faults::TeacherFault;
use crate::laboratory::{Hanging, SharedLaboratory};

/// How long a late answer takes; less than the client waits for one.
const LATE: Duration = Duration::from_secs(100);
/// Concurrent requests that the profile allows.
pub const CONCURRENCY: u32 = 2;

/// A simulated teacher.
pub struct ScriptedTeacher(pub SharedLaboratory);

impl fmt::Debug for ScriptedTeacher {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("ScriptedTeacher")
    }
}

impl ChatOpener for ScriptedTeacher {
    fn open(&self, _: &Teacher, _: &Patience) -> Result<Box<dyn ChatTransport>, TeacherError> {
        Ok(Box::new(Self(Arc::clone(&self.0))))
    }
}

/// A note that a question is being asked. Its drop takes the note back.
struct Asking(SharedLaboratory);

impl Asking {
    /// Checks L1 and L2 for a question.
    fn note(laboratory: &SharedLaboratory, seed: u64) -> Self {
        let mut inside = laboratory.lock().unwrap();
        inside.check_question(seed);
        inside.asked += 1;
        if inside.asked > CONCURRENCY {
            let violation = format!("L2: {} questions are asked at a time", inside.asked);
            inside.breaks(violation);
        }
        drop(inside);
        Self(Arc::clone(laboratory))
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).asked -= 1;
    }
}

impl ChatTransport for ScriptedTeacher {
    fn post<'a>(&'a self, body: &'a Value) -> ChatAnswering<'a> {
        Box::pin(async move {
            let seed = body["seed"].as_u64().unwrap();
            let _asking = Asking::note(&self.0, seed);
            let (delay, fault) = {
                let mut laboratory = self.0.lock().unwrap();
                let said = (laboratory.delay(), laboratory.teacher_fault());
                if let Some(fault) = said.1 {
                    laboratory
                        .log
                        .push(format!("the teacher, seed {seed}: {fault:?}"));
                }
                said
            };
            match fault {
                Some(TeacherFault::Silent) => {
                    let _noted = Hanging::note(&self.0);
                    return std::future::pending().await;
                }
                Some(TeacherFault::Late) => {
                    let _noted = Hanging::note(&self.0);
                    tokio::time::sleep(LATE).await;
                }
                _ => tokio::time::sleep(delay).await,
            }
            let fails = |status, body: &str| Ok(answer(status, body.to_owned()));
            match fault {
                Some(TeacherFault::Unreachable) => return Err("connection refused".to_owned()),
                Some(TeacherFault::CutOff) => return Err("the body breaks off".to_owned()),
                Some(TeacherFault::Busy) => return fails(StatusCode::SERVICE_UNAVAILABLE, "busy"),
                Some(TeacherFault::Limited) => return fails(StatusCode::TOO_MANY_REQUESTS, "slow down"),
                Some(TeacherFault::Broken) => return fails(StatusCode::OK, "{\"choices\": [{\"mess"),
                Some(TeacherFault::Empty) => return fails(StatusCode::OK, &chat("")),
                Some(TeacherFault::Silent | TeacherFault::Late) | None => {}
            }
            if seed.is_multiple_of(4) {
                return fails(StatusCode::BAD_REQUEST, "this question is not allowed");
            }
            self.0.lock().unwrap().taught(seed);
            let prompt = body["messages"].as_array().and_then(|all| all.last());
            let prompt = prompt.and_then(|last| last["content"].as_str()).unwrap();
            Ok(answer(StatusCode::OK, chat(&written(prompt, seed))))
        })
    }
}

fn answer(status: StatusCode, body: String) -> ChatResponse {
    ChatResponse {
        status,
        retry_after: (status == StatusCode::TOO_MANY_REQUESTS).then(|| "7".to_owned()),
        body,
    }
}

fn chat(text: &str) -> String {
    json!({ "choices": [{ "message": { "content": text } }], "usage": { "total_tokens": 30 } }).to_string()
}

/// Solves a problem, or rambles about it.
fn written(prompt: &str, seed: u64) -> String {
    if seed % 4 == 1 {
        return "Some of them were found, so there are more now than before.".to_owned();
    }
    let numbers: Vec<u64> = prompt
        .split(|letter: char| !letter.is_ascii_digit())
        .filter_map(|digits| digits.parse().ok())
        .collect();
    match numbers[..] {
        [first, second] => format!("<think>{first} + {second} = {0}.</think>{0}", first + second),
        _ => "<think>0 + 0 = 0.</think>0".to_owned(),
    }
}
