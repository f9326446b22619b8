//! The engine of a run or a command may write only in its folder and has no network access; sockets of killed engines
//! are removed.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::net::UnixListener;

use demask_actors::engine::options::EngineOptions;
use demask_actors::engine::process::{EngineFailure, EngineProcess};
use demask_api::{BackboneConfig, EngineError, ModelSource, Request};
use demask_storage::{Record, RunState};
use demask_tests::processes::children;
use demask_tests::{Place, SMOKE, ended, start, subscribed, wait_for};

#[tokio::test]
async fn the_engine_of_a_run_is_held_by_the_kernel() {
    let mut place = Place::default();
    let mut client = subscribed(&mut place).await;
    start(&mut client, SMOKE).await;
    wait_for(&mut client, |record| matches!(record, Record::TrainUse(_)))
        .await
        .unwrap();
    let engine = children(i32::try_from(place.pid().unwrap()).unwrap())[0];
    let status = fs::read_to_string(format!("/proc/{engine}/status")).unwrap();
    let says = |key: &str, value: &str| {
        let mut lines = status.lines().filter_map(|line| line.split_once(':'));
        lines.any(|(name, said)| name == key && said.trim() == value)
    };
    assert!(says("NoNewPrivs", "1") && says("Seccomp", "2"), "{status}");
    assert_eq!(ended(&mut client).await, RunState::Done);
    assert_eq!(place.terminate(), Some(0));
}

/// A sandboxed engine saves below its folder; saving elsewhere fails with a permission error and creates
/// nothing. The second part is skipped where the kernel has no sandbox.
#[tokio::test]
async fn an_engine_saves_below_the_folder_that_is_named_and_nowhere_else() {
    let place = Place::default();
    let [own, other] = ["own", "other"].map(|name| place.path().join(name));
    fs::create_dir(&own).unwrap();
    fs::create_dir(&other).unwrap();
    let options = EngineOptions {
        socket_dir: place.home().make_socket_dir().unwrap(),
        device: "cpu".into(),
        writes: Some(vec![own.clone()]),
        ..EngineOptions::default()
    };
    let engine = EngineProcess::start(&options).await.unwrap();
    let backbone = BackboneConfig {
        d_model: 8,
        n_heads: 2,
        n_layers: 1,
        vocab_size: 16,
        codebook_size: 0,
        mask_token_id: 1,
        eos_token_id: 2,
        pad_token_id: 3,
        max_sequence_length: 8,
        ..BackboneConfig::default()
    };
    let model = ModelSource::Fresh {
        backbone,
        image_tokenizer: None,
        image_tokenizer_from: None,
        seed: 1,
    };
    engine.ask(&Request::Load { model }).await.unwrap();
    let save = |dir: std::path::PathBuf| Request::Save {
        dir,
        attach: BTreeMap::new(),
        optimizer: true,
    };
    engine.ask(&save(own.join("kept"))).await.unwrap();
    assert!(own.join("kept/manifest.json").is_file());
    if engine.info().sandbox.contains("writes everywhere") {
        println!("skipped: {}", engine.info().sandbox);
        return;
    }
    let refused = engine.ask(&save(other.join("kept"))).await.unwrap_err();
    let EngineFailure::Engine(EngineError::Io { message, .. }) = &refused else {
        panic!("{refused}");
    };
    assert!(message.contains("ermission denied"), "{message}");
    assert_eq!(fs::read_dir(&other).unwrap().count(), 0);
    engine.stop().await;
}

#[tokio::test]
async fn sockets_of_engines_that_were_killed_are_swept_away_at_the_daemons_start() {
    let mut place = Place::default();
    let folder = place.home().make_socket_dir().unwrap();
    let named = |kind: &str| folder.join(format!("engine-{kind}{}.sock", std::process::id()));
    let (left, open) = (named("left"), named("open"));
    drop(UnixListener::bind(&left).unwrap());
    let _listener = UnixListener::bind(&open).unwrap();
    drop(subscribed(&mut place).await);
    assert!(!left.exists() && open.exists());
    assert_eq!(place.terminate(), Some(0));
    fs::remove_file(open).unwrap();
}
