//! Questions to the model of a run: in the middle of a step, about a picture, or for a drawing, without any effect on
//! the run.
#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;

use demask_storage::{Command as Ask, Record, Reply, RunState};
use demask_tests::profile::smoke_with_stages;
use demask_tests::store::rows_as_json;
use demask_tests::weights::{last_checkpoint, weights_hash};
use demask_tests::{Place, SMOKE, start, undisturbed, wait_for, wait_until};
use serde_json::{Value, json};

fn said(place: &Place, arguments: &[&str]) -> Value {
    let out = place.run(&[&["ask", "--json"], arguments].concat());
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).unwrap()
}

/// Returns a profile whose first step of UniGRPO never ends, because its reward hangs.
fn hanging(place: &Place) -> String {
    fs::write(
        place.path().join("reward.py"),
        "import sys, time\nsys.stdin.readline()\nopen('asked', 'w').close()\ntime.sleep(3600)\n",
    )
    .unwrap();
    smoke_with_stages(&format!(
        "[[reward]]\nname = \"hangs\"\ncommand = [\"python3\", \"reward.py\"]\nfolder = {:?}\ntime_limit = 3600\n\
         [[stage]]\nname = \"codes\"\nkind = \"tokenizer\"\nbatch = 4\n\
         [[stage]]\nname = \"unigrpo\"\nkind = \"align\"\nbatch = 2\ngroup = 2\n",
        place.path().to_str().unwrap()
    ))
}

/// A user's question, drawing request and question about a picture are answered while the step waits for a
/// reward that never answers (L10). Each has a row with its step.
#[tokio::test]
async fn l10_a_question_is_answered_in_the_middle_of_a_step() {
    let mut place = Place::default();
    let none = place.run(&["ask", "What is 3 + 4?"]);
    assert_eq!(none.status.code(), Some(1));
    let text = hanging(&place);
    let mut client = place.serve().await;
    client.ask(Ask::Subscribe { since: 0 }).await.unwrap();
    let refused = place.run(&["ask", "What is 3 + 4?"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("no run is active"));
    start(&mut client, &text).await;
    let asked = place.path().join("asked");
    wait_until(&mut client, "its reward is asked", || asked.exists()).await;
    let answer = said(&place, &["What is 3 + 4?", "--reference", "7"]);
    assert_eq!((&answer["reply"], &answer["step"]), (&json!("said"), &json!(1)));
    let right = answer["answer"].as_str().unwrap().trim() == "7";
    assert_eq!(answer["right"], json!(right));
    // A drawing is a file, about which a question is then asked.
    let (drawing, file) = (place.path().join("now.png"), "now.png");
    let output = place.path().join(file);
    let drawn = said(
        &place,
        &["a red circle", "--draw", "--output", output.to_str().unwrap()],
    );
    let picture = image::open(&drawing).unwrap();
    assert_eq!((picture.width(), picture.height()), (32, 32));
    assert!(
        drawn["picture"].is_string() && drawn["right"].is_null(),
        "{drawn}"
    );
    let again = place.run(&[
        "ask",
        "a red circle",
        "--draw",
        "--output",
        output.to_str().unwrap(),
    ]);
    assert_eq!(again.status.code(), Some(2), "the file exists already");
    let seen = said(
        &place,
        &[
            "is there a circle?",
            "--image",
            drawing.to_str().unwrap(),
            "--no-think",
        ],
    );
    assert!(seen["picture"].is_null(), "{seen}");
    let rows = rows_as_json(
        &place,
        "SELECT action, key, new, applied_step FROM v_steer ORDER BY at_us",
    );
    let row = |key: &str, new: &str| json!({"action": "sample", "key": key, "new": new, "applied_step": 1});
    let expected = [
        row("text", "What is 3 + 4?"),
        row("picture", "a red circle"),
        row("text", "is there a circle?"),
    ];
    assert_eq!(rows, json!(expected));
    client.ask(Ask::Stop).await.unwrap();
    let end = wait_for(&mut client, |record| matches!(record, Record::RunEnd(_))).await;
    assert!(end.is_some());
}

/// Questions are answered while the engine computes a policy step (L10), not only between its requests.
#[tokio::test]
async fn l10_questions_are_answered_while_a_policy_step_is_computed() {
    let mut place = Place::default();
    let mut client = place.serve().await;
    // One step, whose inner steps take seconds.
    let text = smoke_with_stages(
        "[[stage]]\nname = \"codes\"\nkind = \"tokenizer\"\nbatch = 4\n\
         [[stage]]\nname = \"unigrpo\"\nkind = \"align\"\nsteps = 1\nbatch = 2\ngroup = 4\n\
         objective = { clip = 0.2, kl = 0.01, inner_steps = 800, normalization = \"sequence\" }\n",
    );
    start(&mut client, &text).await;
    let mut inside = 0;
    loop {
        let Reply::Status(before) = client.ask(Ask::Status).await.unwrap() else {
            panic!("no status")
        };
        if before.state == RunState::Done {
            break;
        }
        assert_ne!(before.state, RunState::Failed, "{}", before.detail);
        if !before.detail.starts_with("training on") {
            continue;
        }
        let question = Ask::Ask {
            prompt: "What is 3 + 4?".into(),
            draw: false,
            image: None,
            direct: true,
            reference: None,
        };
        let said = client.ask(question).await.unwrap();
        let Reply::Status(after) = client.ask(Ask::Status).await.unwrap() else {
            panic!("no status")
        };
        let answered = matches!(said, Reply::Said { .. });
        inside += usize::from(answered && (after.step, &after.detail) == (before.step, &before.detail));
    }
    // If questions were only answered between requests to the engine, at most one would be answered before the step is
    // reported as done.
    assert!(inside > 1, "{inside} answers in the middle of the step");
}

/// Constant questions and drawing requests do not change a run's final weights (L8).
#[tokio::test]
async fn l8_a_run_that_is_asked_all_the_time_ends_in_the_same_weights() {
    let expected = undisturbed(&mut Place::default(), SMOKE).await;

    let mut place = Place::default();
    let mut client = place.serve().await;
    let run = start(&mut client, SMOKE).await;
    let (mut answers, mut turn) = (0, 0);
    loop {
        let Reply::Status(status) = client.ask(Ask::Status).await.unwrap() else {
            panic!("no status")
        };
        if status.state == RunState::Done {
            break;
        }
        assert_ne!(status.state, RunState::Failed, "{}", status.detail);
        let question = Ask::Ask {
            prompt: "a red circle".into(),
            draw: turn % 2 == 0,
            image: None,
            direct: false,
            reference: None,
        };
        turn += 1;
        // Before the run has a model and after its end, a question is refused.
        answers += usize::from(matches!(client.ask(question).await.unwrap(), Reply::Said { .. }));
    }
    assert!(answers > 0);
    assert_eq!(weights_hash(&last_checkpoint(place.path(), &run)), expected);
}
