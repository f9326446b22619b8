//! A judge model in simulated time, outside a run: the commands that evaluate a checkpoint ask it. Every question has
//! one reply, which is its own; no more are asked at a time than allowed; and every wait ends.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use demask_actors::pipeline::evaluation::item_result::JudgeReply;
use demask_actors::pipeline::evaluation::judge_model::{JudgeModel, JudgeQuestion};
use demask_actors::profile::Teacher;
use demask_actors::teacher::{
    ChatAnswering, ChatOpener, ChatResponse, ChatTransport, Patience, TeacherError,
};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::time::Instant;

/// Questions of a schedule.
const QUESTIONS: usize = 12;
/// Questions that may be asked at a time.
const CONCURRENCY: usize = 3;
/// Longest time for a question: three replies that cannot be read, of five tries each, each with the client's time
/// limit and its longest wait.
const LONGEST_QUESTION: Duration = Duration::from_secs(3 * 5 * (120 + 60));

/// What all questions of a schedule share.
struct Desk {
    rng: ChaCha8Rng,
    /// How often of ten the judge fails in some way.
    failures: u32,
    asked: usize,
    most: usize,
}

/// A scripted judge.
#[derive(Clone)]
struct ScriptedJudge(Arc<Mutex<Desk>>);

impl fmt::Debug for ScriptedJudge {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("ScriptedJudge")
    }
}

impl ChatOpener for ScriptedJudge {
    fn open(&self, _: &Teacher, _: &Patience) -> Result<Box<dyn ChatTransport>, TeacherError> {
        Ok(Box::new(self.clone()))
    }
}

/// A question that is being asked. Its drop ends it.
struct Asked(Arc<Mutex<Desk>>);

impl Asked {
    fn begin(desk: &Arc<Mutex<Desk>>) -> Self {
        let mut inside = desk.lock().unwrap();
        inside.asked += 1;
        inside.most = inside.most.max(inside.asked);
        drop(inside);
        Self(Arc::clone(desk))
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).asked -= 1;
    }
}

impl ChatTransport for ScriptedJudge {
    fn post<'a>(&'a self, body: &'a Value) -> ChatAnswering<'a> {
        Box::pin(async move {
            let _asked = Asked::begin(&self.0);
            let (delay, fault) = {
                let mut desk = self.0.lock().unwrap();
                let delay = Duration::from_secs_f64(40.0 * desk.rng.random::<f64>().powi(4));
                let fails = desk.rng.random_range(0..10) < desk.failures;
                (delay, fails.then(|| desk.rng.random_range(0..6)))
            };
            tokio::time::sleep(delay).await;
            let prompt = body["messages"].as_array().and_then(|all| all.last());
            let prompt = prompt.and_then(|last| last["content"].as_str()).unwrap();
            let chat = |text: &str| {
                let message = json!({ "content": text });
                json!({ "choices": [{ "message": message }], "usage": { "total_tokens": 9 } })
            };
            let (status, body) = match fault {
                None => (StatusCode::OK, chat(&format!("score of {prompt}")).to_string()),
                Some(0) => return std::future::pending().await,
                Some(1) => return Err("connection refused".to_owned()),
                Some(2) => (StatusCode::TOO_MANY_REQUESTS, "slow down".to_owned()),
                Some(3) => (StatusCode::OK, "{\"choices\": [{\"mess".to_owned()),
                Some(4) => (StatusCode::OK, chat("").to_string()),
                Some(_) => (StatusCode::OK, chat("It is a fine answer.").to_string()),
            };
            Ok(ChatResponse {
                status,
                retry_after: (status == StatusCode::TOO_MANY_REQUESTS).then(|| "30".to_owned()),
                body,
            })
        })
    }
}

/// Asks a judge as the seed says. Returns the violations of laws.
async fn judged(seed: u64) -> Vec<String> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let failures = rng.random_range(0..=10);
    // A small cap is reached by some schedules.
    let token_cap = [400, 1_000_000][rng.random_range(0..2_usize)];
    let desk = Arc::new(Mutex::new(Desk {
        rng,
        failures,
        asked: 0,
        most: 0,
    }));
    let address = Teacher {
        url: "http://127.0.0.1:9/v1".into(),
        model: "judge".into(),
        key_variable: "DEMASK_NO_SUCH_KEY".into(),
        concurrency: CONCURRENCY,
        token_cap,
        share: 1.0,
        max_tokens: 20,
    };
    let judge = JudgeModel::opened_by(&ScriptedJudge(Arc::clone(&desk)), address).unwrap();
    let question = |number: usize| JudgeQuestion {
        system: "judge".into(),
        prompt: format!("question {number}"),
        picture: None,
    };
    let questions: Vec<JudgeQuestion> = (0..QUESTIONS).map(question).collect();
    let own = |number: usize| format!("score of question {number}");
    let began = Instant::now();
    let replies = judge.ask(&questions, |number, said| said == own(number)).await;
    let mut broken = Vec::new();
    let waited = began.elapsed();
    let rounds = u32::try_from(QUESTIONS.div_ceil(CONCURRENCY)).unwrap();
    // Questions with one permit follow one another, and a question gives its permit back between two replies.
    if waited > LONGEST_QUESTION * (rounds + 3) {
        broken.push(format!("L10: {QUESTIONS} questions took {waited:?}"));
    }
    match replies {
        Ok(replies) if replies.len() != QUESTIONS => {
            broken.push(format!("L1: {} replies to {QUESTIONS} questions", replies.len()));
        }
        Ok(replies) => broken.extend(
            replies
                .iter()
                .enumerate()
                .filter_map(|(number, reply)| match reply {
                    JudgeReply::Said(said) if *said != own(number) => {
                        Some(format!("L5: question {number} has the reply {said}"))
                    }
                    JudgeReply::Said(_) if failures == 10 => {
                        Some("L5: a judge that always fails replied".into())
                    }
                    _ if failures == 0 && *reply != JudgeReply::Said(own(number)) => {
                        Some(format!("L1: question {number} lost its reply: {reply}"))
                    }
                    _ => None,
                }),
        ),
        Err(TeacherError::Cap { .. }) if token_cap < 1_000_000 => {}
        Err(error) => broken.push(format!("L1: {error}")),
    }
    let desk = desk.lock().unwrap();
    if desk.most > CONCURRENCY || desk.asked > 0 {
        broken.push(format!(
            "L2: {} were asked at a time, {} still are",
            desk.most, desk.asked
        ));
    }
    if judge.spent() > token_cap {
        broken.push(format!("L9: {} tokens were spent of {token_cap}", judge.spent()));
    }
    broken
}

#[test]
fn l1_l2_l9_l10_hold_for_a_judge_that_is_silent_late_failing_or_rambling() {
    for seed in 0..crate::number("DEMASK_SCHEDULES").unwrap_or(1_000) {
        let clock = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        let broken = clock.block_on(judged(seed));
        assert!(broken.is_empty(), "judge, seed {seed}: {}", broken.join("\n"));
    }
}
