//! Law L11: a run whose steps several processes compute together ends with the weights of a single process, bit for
//! bit, even if one of the processes is killed (L1) or cannot be started any more.
#![allow(clippy::unwrap_used, missing_docs)]

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use demask_actors::control::client::Client;
use demask_actors::profile::Profile;
use demask_storage::{Command as Ask, Record, RunState};
use demask_tests::processes::children;
use demask_tests::profile::smoke;
use demask_tests::store::{rows_as_csv, rows_as_json};
use demask_tests::weights::{last_checkpoint, tensor_hashes};
use demask_tests::{Place, finish, programs, said, start, wait_for};
use serde_json::{Value, json};

/// Returns a profile whose network spans several chunks of parameters and whose batches have several units of
/// work.
fn profile(ranks: usize, shard: &str) -> String {
    let (ranks, shard) = (format!("engine.ranks={ranks}"), format!("engine.shard={shard}"));
    smoke(&[
        "model.d_model=128",
        "model.mlp_hidden_size=256",
        "stage.1.batch=21",
        "stage.3.batch=12",
        &ranks,
        &shard,
    ])
}

/// Kills a rank of the daemon's engine; false if there is none at the moment.
fn kill(daemon: i32, rank: usize) -> bool {
    let variable = format!("RANK={rank}");
    let is_it = |&pid: &i32| {
        let variables = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        variables
            .split(|&byte| byte == 0)
            .any(|one| one == variable.as_bytes())
    };
    let Some(pid) = children(daemon).into_iter().find(is_it) else {
        return false;
    };
    // SAFETY: sends a signal and touches no memory.
    unsafe { libc::kill(pid, libc::SIGKILL) == 0 }
}

/// What the store tells of the ranks of a run that has ended: each with figures of its own, and how often all were
/// started again.
fn restarts(place: &Place, run: &str, ranks: usize) -> Value {
    let sql = format!(
        "SELECT *, (SELECT v_run.step FROM v_run WHERE v_run.run = v_rank.run) AS run_step FROM v_rank
         WHERE run = '{run}' ORDER BY rank"
    );
    let rows = rows_as_json(place, &sql);
    let rows = rows.as_array().unwrap();
    assert_eq!(rows.len(), ranks, "{rows:?}");
    let mut processes = Vec::new();
    for (number, row) in rows.iter().enumerate() {
        let figure = |name: &str| row[name].as_f64().unwrap_or_else(|| panic!("{name}: {row}"));
        assert_eq!(
            (figure("rank"), &row["device"]),
            (number as f64, &json!("cpu")),
            "{row}"
        );
        assert!(
            figure("memory") > 1e7 && figure("memory") <= figure("peak"),
            "{row}"
        );
        assert!(
            figure("wait_seconds") >= 0.0 && figure("wait_seconds") <= figure("seconds"),
            "{row}"
        );
        assert_eq!(figure("bytes") > 0.0, ranks > 1, "{row}");
        // The last steps of a run may train nothing.
        assert!(
            figure("step") > 0.0 && figure("step") <= figure("run_step"),
            "{row}"
        );
        assert_eq!(row["host"], json!(demask_api::machine::host_name()), "{row}");
        assert_eq!(row["restarts"], rows[0]["restarts"], "{rows:?}");
        processes.push(row["pid"].as_u64().unwrap());
    }
    processes.sort_unstable();
    processes.dedup();
    assert_eq!(processes.len(), ranks, "{rows:?}");
    rows[0]["restarts"].clone()
}

/// What `demask ps` prints of the ranks of a run that goes on, in both forms.
fn shown(place: &Place, ranks: usize) {
    let out = place.run(&["ps", "--json"]);
    let status: Value = serde_json::from_slice(&out.stdout).unwrap();
    let listed = status["overview"]["ranks"].as_array().unwrap();
    assert_eq!(listed.len(), ranks, "{status}");
    assert!(
        listed.iter().all(|rank| rank["seconds"].as_f64() > Some(0.0)),
        "{status}"
    );
    let out = said(&place.run(&["ps"]));
    let is_line = |line: &&str| line.contains(" cpu ") && line.contains(" GB ") && line.contains(" % ");
    assert_eq!(out.lines().filter(is_line).count(), ranks, "{out}");
}

/// Waits until the run has saved a checkpoint and its ranks have reported a step.
async fn saved_and_reported(client: &mut Client) {
    let (mut saved, mut reported) = (false, false);
    wait_for(client, |record| {
        saved |= matches!(record, Record::Checkpoint(_));
        reported |= matches!(record, Record::Ranks(_));
        saved && reported
    })
    .await
    .unwrap();
}

/// Runs the profile on `ranks` ranks that shard the state or the weights, as `shard` says, and kills rank
/// `killed` after the first checkpoint if one is given. Returns the hashes of the final tensors, and the
/// events about engines that died.
async fn run(ranks: usize, shard: &str, killed: Option<usize>) -> (Vec<String>, String) {
    let mut place = Place::default();
    let mut client = place.serve().await;
    client.ask(Ask::Subscribe { since: 0 }).await.unwrap();
    let run = start(&mut client, &profile(ranks, shard)).await;
    saved_and_reported(&mut client).await;
    if killed.is_none() {
        shown(&place, ranks);
    }
    if let Some(rank) = killed {
        assert!(
            kill(i32::try_from(place.pid().unwrap()).unwrap(), rank),
            "rank {rank}"
        );
    }
    let end = wait_for(&mut client, |record| matches!(record, Record::RunEnd(_)))
        .await
        .unwrap();
    assert!(
        matches!(&end.record, Record::RunEnd(end) if end.status == RunState::Done),
        "{end:?}"
    );
    assert_eq!(place.terminate(), Some(0), "SIGTERM exits 0");
    assert_eq!(
        restarts(&place, &run, ranks),
        json!(usize::from(killed.is_some()))
    );
    let sql = "SELECT body FROM v_event WHERE kind = 'lifecycle' AND body LIKE '%the engine died%'";
    (
        tensor_hashes(&last_checkpoint(place.path(), &run)),
        rows_as_csv(&place, sql),
    )
}

#[tokio::test]
async fn l1_l11_any_number_of_ranks_ends_in_the_same_weights_and_so_does_one_that_lost_a_rank() {
    let (alone, _) = run(1, "state", None).await;
    for (ranks, shard) in [(2, "state"), (3, "state"), (2, "weights"), (3, "weights")] {
        assert_eq!(run(ranks, shard, None).await.0, alone, "{ranks} ranks, {shard}");
    }
    for (killed, shard) in [(1, "state"), (0, "state"), (1, "weights")] {
        let (hashes, deaths) = run(2, shard, Some(killed)).await;
        assert_eq!(hashes, alone, "rank {killed} killed, {shard}");
        assert!(deaths.lines().count() > 1, "nobody died: {deaths}");
    }
}

/// A rank that dies before the first step of the ranks is reported counts too.
#[tokio::test]
async fn a_restart_before_the_first_reported_step_is_counted() {
    let mut place = Place::default();
    let mut client = place.serve().await;
    client.ask(Ask::Subscribe { since: 0 }).await.unwrap();
    // The steps of the image tokenizer report no ranks.
    let profile = Profile::set(&profile(2, "state"), "ranks", &["stage.0.steps=100".to_owned()]).unwrap();
    let run = start(&mut client, &profile).await;
    let first = wait_for(&mut client, |record| {
        matches!(record, Record::Metric(_) | Record::Ranks(_))
    });
    let first = first.await.unwrap();
    assert!(matches!(first.record, Record::Metric(_)), "{first:?}");
    assert!(kill(i32::try_from(place.pid().unwrap()).unwrap(), 1));
    wait_for(&mut client, |record| matches!(record, Record::RunEnd(_))).await;
    assert_eq!(place.terminate(), Some(0), "SIGTERM exits 0");
    let sql = format!("SELECT status, generation FROM v_run WHERE run = '{run}'");
    let lives = rows_as_json(&place, &sql);
    assert_eq!(lives[0]["status"], "done");
    let counted = restarts(&place, &run, 2);
    assert!(counted.as_u64() > Some(0), "{counted}");
    assert_eq!(counted, lives[0]["generation"]);
}

/// Writes a program that starts the engine, but fails as this rank once the file `mark` exists.
fn breakable_engine(place: &Place, rank: usize, mark: &Path) -> PathBuf {
    let (path, engine) = (place.path().join("engine.sh"), programs().join("demask-engine"));
    let (mark, engine) = (mark.display(), engine.display());
    let text = format!(
        "#!/bin/sh\nif [ \"$RANK\" = {rank} ] && [ -e '{mark}' ]; then exit 9; fi\nexec '{engine}' \"$@\"\n"
    );
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// Runs the profile on `ranks` ranks, of which at least `least` are needed if that is given. The last rank cannot be
/// started from the beginning if `at_once` is true, otherwise after the first checkpoint, when it is killed. Returns the
/// run and its final state.
async fn broken(place: &mut Place, ranks: usize, least: Option<usize>, at_once: bool) -> (String, RunState) {
    let mark = place.path().join("broken");
    let engine = breakable_engine(place, ranks - 1, &mark);
    if at_once {
        std::fs::write(&mark, "").unwrap();
    }
    let mut client = place.serve_with(&[("DEMASK_ENGINE", &engine)]).await;
    client.ask(Ask::Subscribe { since: 0 }).await.unwrap();
    let least: Vec<String> = least
        .iter()
        .map(|least| format!("engine.min_ranks={least}"))
        .collect();
    let profile = Profile::set(&profile(ranks, "state"), "ranks", &least).unwrap();
    let run = start(&mut client, &profile).await;
    if !at_once {
        saved_and_reported(&mut client).await;
        std::fs::write(&mark, "").unwrap();
        assert!(kill(i32::try_from(place.pid().unwrap()).unwrap(), ranks - 1));
    }
    let end = wait_for(&mut client, |record| matches!(record, Record::RunEnd(_)))
        .await
        .unwrap();
    assert_eq!(place.terminate(), Some(0), "SIGTERM exits 0");
    let Record::RunEnd(end) = end.record else {
        unreachable!()
    };
    (run, end.status)
}

#[tokio::test]
async fn l1_l11_a_run_that_loses_a_rank_for_good_goes_on_with_fewer_to_the_same_weights_where_it_may() {
    let (alone, _) = run(1, "state", None).await;
    for (ranks, at_once) in [(3, false), (2, true)] {
        let mut place = Place::default();
        let (run, state) = broken(&mut place, ranks, Some(ranks - 1), at_once).await;
        assert_eq!(state, RunState::Done, "{ranks} ranks");
        let hashes = tensor_hashes(&last_checkpoint(place.path(), &run));
        assert_eq!(hashes, alone, "{ranks} ranks");
        let counted = restarts(&place, &run, ranks - 1);
        assert!(counted.as_u64() > Some(0), "{counted}");
        let alerts = rows_as_json(&place, "SELECT message FROM v_alert WHERE kind = 'smaller_world'");
        assert_eq!(alerts.as_array().map(Vec::len), Some(1), "{alerts}");
        let message = alerts[0]["message"].as_str().unwrap();
        let words = format!(
            "{ranks} ranks could not be kept alive, so the run goes on with {}",
            ranks - 1
        );
        assert!(message.starts_with(&words), "{message}");
        assert!(
            message.contains(&format!("rank {} of its world", ranks - 1)),
            "{message}"
        );
    }
    let (_, state) = broken(&mut Place::default(), 2, None, true).await;
    assert_eq!(state, RunState::Failed, "fewer ranks were not allowed");
}

/// Returns the hashes of the final tensors of a profile.
async fn ended(profile: &str) -> Vec<String> {
    let mut place = Place::default();
    tensor_hashes(&finish(&mut place, profile, false).await)
}

/// An adapter with dropout on the shipped model, trained by Muon with moments in bf16, pretrained and aligned.
#[tokio::test]
async fn l11_an_adapter_with_dropout_by_muon_with_half_moments_ends_the_same_on_any_number_of_ranks() {
    let profile = |ranks: usize, shard: &str| {
        format!(
            "name = \"ranks\"\nseed = 4\nlora = {{ rank = 4, dropout = 0.3 }}\n\
             optimizer = {{ muon = true, moments = \"bf16\" }}\n\
             [engine]\ndevice = \"cpu\"\ndtype = \"f32\"\nthreads = 1\nranks = {ranks}\nshard = \"{shard}\"\n\
             [[source]]\nname = \"ask\"\nkind = \"tabletop_ask\"\n\
             [[stage]]\nname = \"fine\"\nkind = \"finetune\"\nsteps = 3\nbatch = 12\n\
             [[stage]]\nname = \"align\"\nkind = \"align\"\nsteps = 1\nbatch = 2\ngroup = 4\n"
        )
    };
    let alone = ended(&profile(1, "state")).await;
    assert!(
        alone.iter().any(|hash| hash.contains("adapter_model")),
        "{alone:?}"
    );
    for (ranks, shard) in [(3, "state"), (2, "weights")] {
        assert_eq!(
            ended(&profile(ranks, shard)).await,
            alone,
            "{ranks} ranks, {shard}"
        );
    }
}
