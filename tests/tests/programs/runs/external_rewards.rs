//! External rewards, by Python processes and by address: asked, failing, repaired, and ended with the daemon.
#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};

use demask_actors::control::client::Client;
use demask_storage::{Command as Ask, Record, Reply, RunState};
use demask_tests::processes::{is_alive, wait_for_end};
use demask_tests::profile::smoke_with_stages;
use demask_tests::store::rows_as_json;
use demask_tests::weights::{last_checkpoint, weights_hash};
use demask_tests::{Place, ended, http, start, subscribed, undisturbed, wait_for, wait_until};
use serde_json::{Value, json};

/// Returns the folder of the shipped example: ten lines of Python, and the profile that uses them.
fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../actors/examples/rewards")
}

/// Writes a reward that measures the length of answers, as a user would write it, and logs every batch to a file beside
/// it. The code `behave` runs before a batch is answered.
fn script(behave: &str) -> String {
    format!(
        r#"
import json, os, sys, time
notes = open("batches.jsonl", "a")
with open("pids", "a") as pids:
    print(os.getpid(), file=pids)
for line in sys.stdin:
    batch = json.loads(line)
{behave}
    print(line.strip(), file=notes, flush=True)
    values = [min(len(item["answer"]), 40) / 40 for item in batch["items"]]
    print(json.dumps({{"batch": batch["batch"], "values": [{{"value": one, "letters": 40 * one}} for one in values]}}), flush=True)
"#
    )
}

/// Returns a profile of three UniGRPO steps with a reward that runs in a folder of the place.
fn profile(place: &Place, behave: &str, more: &str) -> String {
    fs::write(place.path().join("reward.py"), script(behave)).unwrap();
    smoke_with_stages(&format!(
        r#"
[rewards]
format = 0.1

[[reward]]
name = "letters"
command = ["python3", "{{folder}}/reward.py"]
folder = {:?}
tasks = ["text", "understand"]
{more}

[[stage]]
name = "codes"
kind = "tokenizer"
batch = 4

[[stage]]
name = "unigrpo"
kind = "align"
steps = 3
batch = 3
group = 2
learning_rate = 1e-3
"#,
        place.path().to_str().unwrap()
    ))
}

fn lines(place: &Place, file: &str) -> Vec<Value> {
    let text = fs::read_to_string(place.path().join(file)).unwrap_or_default();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// The shipped example of an external reward passes its check and runs. It scores texts only, as its profile
/// says.
#[test]
fn the_example_that_ships_is_checked_and_runs() {
    let place = Place::default();
    let file = shipped().join("exact-match.toml");
    let out = place.run(&["profile", "check", file.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{said}");
    assert!(
        said.contains("reward exact gives 1 for the right answer"),
        "{said}"
    );
    let out = place.run_profile(&file);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stdout));
    let parts = rows_as_json(
        &place,
        "SELECT DISTINCT modality FROM v_rollout WHERE parts LIKE '%\"exact\"%' ORDER BY 1",
    );
    assert!(!parts.as_array().unwrap().is_empty(), "{parts}");
    let drawn = json!({"modality": "draw"});
    assert!(!parts.as_array().unwrap().contains(&drawn), "{parts}");
    let measured = rows_as_json(
        &place,
        "SELECT count(*) > 0 AS any FROM v_metric WHERE name = 'reward_part/exact'",
    );
    assert_eq!(measured, json!([{"any": 1}]));
    assert!(place.run(&["daemon", "stop"]).status.success());
}

/// `profile check` executes an external reward and reports a process that ends, a score outside the range, a
/// missing program, and invalid names with their line.
#[test]
fn what_is_wrong_with_a_reward_is_told_before_a_run() {
    let place = Place::default();
    let check = |text: &str| {
        let file = place.path().join("wrong.toml");
        fs::write(&file, text).unwrap();
        let out = place.run(&["profile", "check", file.to_str().unwrap()]);
        let said = format!(
            "{}{}",
            String::from_utf8_lossy(&out.stdout),
            String::from_utf8_lossy(&out.stderr)
        );
        (out.status.code(), said)
    };
    let dies = "    print('no model here', file=sys.stderr); sys.exit(3)";
    let (code, said) = check(&profile(&place, dies, ""));
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("reward letters: it ended (exit status: 3); its last output: no model here"),
        "{said}"
    );
    let (code, said) = check(&profile(&place, "    pass", "range = [0.5, 1]"));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("outside 0.5 to 1"), "{said}");
    let right = profile(&place, "    pass", "");
    let cases = [
        (
            right.replace("python3", "no-such-program"),
            "there is no program no-such-program",
        ),
        (
            right.replace("name = \"letters\"", "name = \"correct\""),
            "name is correct, which is reserved",
        ),
        (
            right.replace("[rewards]", "[rewards]\nlenght = 1"),
            "lenght is not a reward; there are",
        ),
    ];
    for (text, expected) in cases {
        let (code, said) = check(&text);
        assert_eq!(code, Some(2), "{said}");
        assert!(
            said.contains(expected) && said.contains(", line "),
            "{expected}: {said}"
        );
    }
}

/// An external reward gets each completion's task, source, place, kept columns, and its picture as a file,
/// in batches of at most `batch` items. Its value is recorded as a metric.
#[tokio::test]
async fn a_reward_is_told_of_completions_pictures_and_kept_columns() {
    let mut place = Place::default();
    let rows = [(3, "easy"), (4, "hard"), (5, "easy")].map(|(count, level)| {
        json!({"question": format!("How many are {count} and 2?"), "answer": (count + 2).to_string(), "level": level})
    });
    let file = place.path().join("own.jsonl");
    fs::write(&file, rows.map(|row| format!("{row}\n")).concat()).unwrap();
    let own = format!(
        "[[source]]\nname = \"own\"\nkind = \"jsonl\"\npath = {:?}\nkeep = [\"level\"]\n[limits]\nnear_duplicate = 2.0\n",
        file.to_str().unwrap()
    );
    let text = profile(&place, "    pass", "picture = \"path\"\nbatch = 2")
        .replace("[rewards]", &format!("{own}[rewards]"));
    undisturbed(&mut place, &text).await;
    let batches = lines(&place, "batches.jsonl");
    let items: Vec<&Value> = batches
        .iter()
        .flat_map(|batch| batch["items"].as_array().unwrap())
        .collect();
    assert!(
        batches
            .iter()
            .all(|batch| batch["items"].as_array().unwrap().len() <= 2)
    );
    let of_own = items.iter().filter(|item| item["source"] == "own");
    assert!(of_own.clone().count() > 0, "{items:?}");
    for item in of_own {
        assert!(
            ["easy", "hard"].contains(&item["columns"]["level"].as_str().unwrap()),
            "{item}"
        );
        assert_eq!(item["task"], "text");
        assert!(item["place"].as_str().unwrap().contains("own.jsonl:"), "{item}");
    }
    let seen = items.iter().find(|item| item["task"] == "understand").unwrap();
    let picture = image::ImageReader::open(seen["picture"].as_str().unwrap()).unwrap();
    let picture = picture.with_guessed_format().unwrap().decode().unwrap();
    assert_eq!((picture.width(), picture.height()), (32, 32));
    let named = rows_as_json(
        &place,
        "SELECT count(*) > 0 AS any FROM v_metric WHERE name = 'reward_part/letters.letters'",
    );
    assert_eq!(named, json!([{"any": 1}]));
}

/// The second, third and fourth process each fail in another way.
const STUMBLES: &str = r#"
    life = sum(1 for _ in open("pids"))
    if life == 1 and batch["batch"] == 2: sys.exit(1)
    if life == 2: time.sleep(3600)
    if life == 3: print('{"values": [NaN]}', flush=True); continue
"#;

#[tokio::test]
async fn l1_crash_silence_and_a_bad_answer_within_the_budget_change_nothing() {
    let (mut calm, mut place) = (Place::default(), Place::default());
    let expected = profile(&calm, "    pass", "");
    let expected = undisturbed(&mut calm, &expected).await;
    // The time limit concerns only the process that never answers; others answer long before.
    let stumbling = profile(&place, STUMBLES, "time_limit = 10.0\nrestarts = 3");
    assert_eq!(undisturbed(&mut place, &stumbling).await, expected);
    assert_eq!(lines(&place, "pids").len(), 4);
    let alerts = rows_as_json(&place, "SELECT count(*) AS n FROM v_alert");
    assert_eq!(alerts, json!([{"n": 0}]));
}

/// A reward that exhausts its restarts pauses the run with an alert, again if it is still broken when the
/// run is resumed. Once repaired, the run ends with the weights of an undisturbed one.
#[tokio::test]
async fn l1_l8_a_reward_that_fails_for_good_pauses_the_run_and_mended_it_goes_on_to_the_same_weights() {
    let (mut calm, mut place) = (Place::default(), Place::default());
    let expected = profile(&calm, "    pass", "");
    let expected = undisturbed(&mut calm, &expected).await;
    let broken = r#"
    if batch["batch"] == 2 or sum(1 for _ in open("pids")) > 1:
        if not os.path.exists("mended"): print("broken", file=sys.stderr); sys.exit(1)
"#;
    let text = profile(&place, broken, "restarts = 1");
    let mut client = subscribed(&mut place).await;
    let run = start(&mut client, &text).await;
    let failed = |record: &Record| matches!(record, Record::Alert(alert) if alert.kind == "reward_failed");
    let told = wait_for(&mut client, failed).await.unwrap();
    let Record::Alert(alert) = told.record else {
        unreachable!()
    };
    assert!(
        alert.message.contains("reward letters failed 2 times in a row") && alert.message.contains("broken"),
        "{}",
        alert.message
    );
    let Reply::Status(status) = client.ask(Ask::Status).await.unwrap() else {
        panic!("no status")
    };
    assert_eq!(status.state, RunState::Paused);
    assert!(
        status
            .detail
            .contains("`demask resume`; `demask set reward.letters=0`"),
        "{}",
        status.detail
    );
    // Still broken: the run is paused again.
    client.ask(Ask::Resume).await.unwrap();
    wait_for(&mut client, failed).await.unwrap();
    fs::write(place.path().join("mended"), "").unwrap();
    client.ask(Ask::Resume).await.unwrap();
    assert_eq!(ended(&mut client).await, RunState::Done);
    assert_eq!(weights_hash(&last_checkpoint(place.path(), &run)), expected);
}

/// The gate of a run's last step needs a reward that fails. The run is paused, not done, and a daemon that is killed
/// meanwhile leaves the judgement to the next one, which makes it before the run is done.
#[tokio::test]
async fn l1_l8_a_run_is_not_done_before_its_last_weights_are_judged() {
    let mut place = Place::default();
    let items = r#"{"question": "Is the sea wet or dry?", "answer": "wet"}"#;
    fs::write(place.path().join("seas.jsonl"), items).unwrap();
    let broken = r#"
    if not os.path.exists("mended"): print("broken", file=sys.stderr); sys.exit(1)
"#;
    let more = format!(
        "restarts = 0\n[[benchmark]]\nname = \"seas\"\nfile = {:?}\nscorer = \"letters\"\n[gate]\nsuites = [\"seas\"]\n",
        place.path().join("seas.jsonl").to_str().unwrap()
    );
    let text = profile(&place, broken, &more);
    let (head, _) = text.split_once("[[stage]]").unwrap();
    // The smoke profile has a regular checkpoint after three steps.
    let text = format!("{head}[[stage]]\nname = \"codes\"\nkind = \"tokenizer\"\nsteps = 3\nbatch = 4\n");
    let mut client = subscribed(&mut place).await;
    start(&mut client, &text).await;
    let failed = |record: &Record| matches!(record, Record::Alert(alert) if alert.kind == "reward_failed");
    for _ in 0..2 {
        let told = wait_for(&mut client, |record| {
            failed(record) || matches!(record, Record::RunEnd(_))
        });
        let Record::Alert(alert) = told.await.unwrap().record else {
            panic!("the run ended")
        };
        assert!(
            alert.message.contains("`demask resume`") && !alert.message.contains("letters=0"),
            "a benchmark asks a reward without a weight too: {}",
            alert.message
        );
        client.ask(Ask::Resume).await.unwrap();
    }
    place.kill();
    fs::write(place.path().join("mended"), "").unwrap();
    let mut client = subscribed(&mut place).await;
    assert_eq!(ended(&mut client).await, RunState::Done);
    let judged = rows_as_json(&place, "SELECT step, suite, decision FROM v_eval");
    assert_eq!(
        judged,
        json!([{"step": 3, "suite": "seas", "decision": "baseline"}])
    );
}

/// Returns the process of a reward that hangs at its first batch.
async fn hanging(place: &mut Place) -> (Client, i32) {
    let text = profile(
        place,
        "    open('asked', 'w').close(); time.sleep(3600)",
        "time_limit = 3600.0",
    );
    let mut client = subscribed(place).await;
    start(&mut client, &text).await;
    let asked = place.path().join("asked");
    wait_until(&mut client, "its reward is asked", || asked.exists()).await;
    let pid = lines(place, "pids")[0].as_i64().unwrap().try_into().unwrap();
    assert!(is_alive(pid));
    (client, pid)
}

#[tokio::test]
async fn l10_a_stop_ends_a_run_whose_reward_is_silent() {
    let mut place = Place::default();
    let (mut client, pid) = hanging(&mut place).await;
    client.ask(Ask::Stop).await.unwrap();
    assert_eq!(ended(&mut client).await, RunState::Stopped);
    wait_for_end(pid).await;
    assert_eq!(place.terminate(), Some(0));
}

#[tokio::test]
async fn a_reward_does_not_outlive_a_daemon_that_is_killed() {
    let mut place = Place::default();
    let (_client, pid) = hanging(&mut place).await;
    place.kill();
    wait_for_end(pid).await;
}

/// Serves a reward at an address of this machine, which values each answer by the parity of its length; returns the
/// address.
fn address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            answer(&stream.unwrap());
        }
    });
    format!("http://{address}/score")
}

fn answer(stream: &TcpStream) {
    let body = http::request_body(stream);
    let batch: Value = serde_json::from_slice(&body).unwrap();
    let items = batch["items"].as_array().unwrap();
    let values: Vec<usize> = items
        .iter()
        .map(|item| item["answer"].as_str().unwrap().len() % 2)
        .collect();
    let reply = json!({ "values": values }).to_string();
    http::answer(stream, "200 OK", &reply);
}

/// A reward at an address is scored like a process, and its weight can be changed during the run.
#[tokio::test]
async fn a_reward_at_an_address_counts_and_its_weight_is_turned() {
    let mut place = Place::default();
    let text = profile(&place, "    pass", "");
    let (command, folder) = (text.find("command = [").unwrap(), text.find("folder = ").unwrap());
    let mut text = text.clone();
    text.replace_range(command..folder, &format!("url = \"{}\"\n", address()));
    let mut client = subscribed(&mut place).await;
    start(&mut client, &text).await;
    let set = Ask::Set {
        key: "reward.letters".into(),
        value: 0.5,
    };
    let taken = client.ask(set).await.unwrap();
    assert!(matches!(taken, Reply::Accepted { .. }), "{taken:?}");
    assert_eq!(ended(&mut client).await, RunState::Done);
    let weights = rows_as_json(
        &place,
        "SELECT DISTINCT json_extract(part.value, '$[2]') AS weight FROM v_rollout, json_each(v_rollout.parts) AS part \
         WHERE json_extract(part.value, '$[0]') = 'letters' ORDER BY 1",
    );
    assert!(
        weights.as_array().unwrap().contains(&json!({"weight": 0.5})),
        "{weights}"
    );
}
