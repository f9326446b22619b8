//! The built `demask-engine` over its socket. Whatever a client sends, the engine answers or closes the
//! connection, and keeps running. The engine ends when it is asked to, and when its parent dies.
#![allow(clippy::unwrap_used, missing_docs)]

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use demask_api::{Answer, EngineError, PROTOCOL, Request, Sample, wire};
use demask_model::world::exit::FAULT;
use serde_json::json;

const PROGRAM: &str = env!("CARGO_BIN_EXE_demask-engine");

/// An engine in a temporary folder, which is also its working directory.
struct Engine {
    child: Child,
    place: tempfile::TempDir,
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Engine {
    fn start() -> Self {
        Self::started("exec \"$0\" --socket socket --device cpu --dtype f32 --threads 1")
    }

    /// Starts the engine by a shell script, in which `$0` is the path of the program.
    fn started(script: &str) -> Self {
        let place = tempfile::tempdir().unwrap();
        let child = Command::new("sh")
            .args(["-c", script, PROGRAM])
            .current_dir(place.path())
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut engine = Self { child, place };
        engine.wait_for_socket();
        engine
    }

    fn socket(&self) -> PathBuf {
        self.place.path().join("socket")
    }

    /// Waits until the socket accepts connections, and panics if the process ends first. There is no time
    /// limit.
    fn wait_for_socket(&mut self) {
        while UnixStream::connect(self.socket()).is_err() {
            assert!(
                self.child.try_wait().unwrap().is_none(),
                "the engine ended at once"
            );
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    fn connect(&self) -> UnixStream {
        UnixStream::connect(self.socket()).unwrap()
    }

    fn assert_alive(&self) {
        assert!(matches!(hello(&mut self.connect()), Answer::Hello(info) if info.protocol == PROTOCOL));
    }

    fn signal(&self, number: i32) {
        // SAFETY: the process was started by this test and has not been reaped.
        assert_eq!(unsafe { libc::kill(self.child.id() as i32, number) }, 0);
    }

    fn end(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }
}

fn ask(stream: &mut UnixStream, request: &Request) -> Answer {
    wire::write(stream, request).unwrap();
    wire::read(stream).unwrap().unwrap()
}

fn ask_json(stream: &mut UnixStream, request: serde_json::Value) -> Answer {
    wire::write(stream, &request).unwrap();
    wire::read(stream).unwrap().unwrap()
}

fn hello(stream: &mut UnixStream) -> Answer {
    ask(stream, &Request::Hello { protocol: PROTOCOL })
}

fn refusal(answer: Answer) -> String {
    match answer {
        Answer::Failed(EngineError::Refused { message }) => message,
        other => panic!("{other:?}"),
    }
}

fn frame(body: &[u8]) -> Vec<u8> {
    [&u32::try_from(body.len()).unwrap().to_le_bytes(), body].concat()
}

/// Loads the tiny model with an image tokenizer.
fn load(stream: &mut UnixStream) {
    let model = json!({
        "from": "fresh",
        "backbone": crate::common::config(),
        "image_tokenizer": crate::common::tokenizer_config(),
        "seed": 1,
    });
    let answer = ask_json(stream, json!({"ask": "load", "model": model}));
    assert!(matches!(answer, Answer::Loaded { step: 0, .. }), "{answer:?}");
}

fn save(stream: &mut UnixStream, dir: &str) -> Answer {
    ask_json(
        stream,
        json!({"ask": "save", "dir": dir, "attach": {}, "optimizer": true}),
    )
}

fn train(stream: &mut UnixStream, seed: u64) -> Answer {
    let (micro_batches, settings) = (vec![crate::common::ragged()], crate::common::settings(seed));
    ask(
        stream,
        &Request::Train {
            micro_batches,
            settings,
        },
    )
}

#[test]
fn garbage_is_answered_and_the_engine_lives() {
    let engine = Engine::start();
    let mut client = engine.connect();
    for (body, words) in [
        (&b""[..], "EOF"),
        (&b"\x00\xff\x17garbage"[..], "cannot be parsed"),
        (&b"{\"ask\": \"dance\"}"[..], "unknown variant `dance`"),
        (&b"{\"ask\": \"hello\"}"[..], "missing field `protocol`"),
        (&b"[1, 2"[..], "cannot be parsed"),
        (&b"null"[..], "cannot be parsed"),
    ] {
        client.write_all(&frame(body)).unwrap();
        let message = refusal(wire::read(&mut client).unwrap().unwrap());
        assert!(message.contains(words), "{message}");
    }
    assert!(
        matches!(hello(&mut client), Answer::Hello(_)),
        "the same connection goes on"
    );
}

#[test]
fn a_frame_that_is_too_long_is_refused_and_the_client_let_go() {
    let engine = Engine::start();
    let mut client = engine.connect();
    client.write_all(&u32::MAX.to_le_bytes()).unwrap();
    let message = refusal(wire::read(&mut client).unwrap().unwrap());
    assert!(
        message.contains("4294967295") && message.contains("268435456"),
        "{message}"
    );
    assert_eq!(client.read(&mut [0]).unwrap(), 0, "the connection is closed");
    engine.assert_alive();
}

#[test]
fn a_frame_that_is_cut_off_harms_only_its_client() {
    let engine = Engine::start();
    for (sent, words) in [
        (&b"\x10\x00"[..], "2 of 4 bytes"),
        (&b"\x10\x00\x00\x00{\"ask\""[..], "6 of 16 bytes"),
    ] {
        let mut client = engine.connect();
        client.write_all(sent).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let message = refusal(wire::read(&mut client).unwrap().unwrap());
        assert!(message.contains(words), "{message}");
        engine.assert_alive();
    }
    drop(engine.connect());
    engine.assert_alive();
}

#[test]
fn another_protocol_is_refused_with_both_numbers() {
    let engine = Engine::start();
    let mut client = engine.connect();
    let message = refusal(ask(&mut client, &Request::Hello { protocol: 77 }));
    assert_eq!(
        message,
        format!("the client speaks protocol 77, but this engine speaks {PROTOCOL}")
    );
    let message = refusal(ask(&mut client, &Request::SetReference { checkpoint: None }));
    assert!(message.contains("no model is loaded"), "{message}");
}

#[test]
fn exit_ends_it_and_takes_the_socket_away() {
    let mut engine = Engine::start();
    let mode = std::fs::metadata(engine.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(ask(&mut engine.connect(), &Request::Exit), Answer::Done);
    assert_eq!(engine.end().code(), Some(0));
    assert!(!engine.socket().exists());
}

/// SIGTERM ends the engine with exit code 0 and removes its socket, whatever its clients do, after the
/// request in progress is answered.
#[test]
fn sigterm_ends_it_after_the_present_request() {
    // The engine ends without a client, with a client that is silent, and with a client that has sent half a
    // frame.
    for begun in [None, Some(&b""[..]), Some(&b"\x10\x00\x00\x00{"[..])] {
        let mut engine = Engine::start();
        let client = begun.map(|begun| {
            let mut client = engine.connect();
            assert!(matches!(hello(&mut client), Answer::Hello(_)));
            client.write_all(begun).unwrap();
            client
        });
        engine.signal(libc::SIGTERM);
        assert_eq!(engine.end().code(), Some(0));
        assert!(!engine.socket().exists());
        drop(client);
    }
    // If a request is in progress, it is answered before the engine ends.
    let mut engine = Engine::start();
    let mut client = engine.connect();
    load(&mut client);
    let (micro_batches, settings) = (
        vec![vec![crate::common::sequence(1, 28, 0); 400]; 2],
        crate::common::settings(0),
    );
    wire::write(
        &mut client,
        &Request::Train {
            micro_batches,
            settings,
        },
    )
    .unwrap();
    wait_until_read(&client);
    engine.signal(libc::SIGTERM);
    let answer: Answer = wire::read(&mut client).unwrap().unwrap();
    assert!(matches!(answer, Answer::Trained(report) if report.step == 1));
    assert_eq!(engine.end().code(), Some(0));
}

/// Waits until the peer has read everything that was written.
fn wait_until_read(stream: &UnixStream) {
    use std::os::fd::AsRawFd as _;
    loop {
        let mut left: libc::c_int = 0;
        // SAFETY: `TIOCOUTQ` writes one int.
        assert_eq!(
            unsafe { libc::ioctl(stream.as_raw_fd(), libc::TIOCOUTQ, &raw mut left) },
            0
        );
        if left == 0 {
            return;
        }
        std::thread::yield_now();
    }
}

/// The engine dies with its parent: a shell starts the engine, reports its process id, and is killed.
#[test]
fn it_dies_with_its_parent() {
    let mut engine = Engine::started(
        "\"$0\" --socket socket --device cpu --threads 1 --die-with $$ & echo $! > pid; wait",
    );
    let Answer::Hello(info) = hello(&mut engine.connect()) else {
        panic!("no hello");
    };
    let pid = i32::try_from(info.pid).unwrap();
    assert_eq!(
        std::fs::read_to_string(engine.place.path().join("pid"))
            .unwrap()
            .trim(),
        pid.to_string()
    );
    let mut client = engine.connect();
    assert!(matches!(hello(&mut client), Answer::Hello(_)));
    engine.signal(libc::SIGKILL);
    engine.end();
    assert_eq!(
        client.read(&mut [0]).unwrap(),
        0,
        "the engine's end closes its connection"
    );
}

#[test]
fn two_engines_do_not_share_a_socket() {
    let engine = Engine::start();
    let second = |socket: &Path| {
        let ended = Command::new(PROGRAM)
            .arg("--socket")
            .arg(socket)
            .args(["--device", "cpu"])
            .output()
            .unwrap();
        assert_eq!(ended.status.code(), Some(1));
        String::from_utf8(ended.stderr).unwrap()
    };
    let message = second(&engine.socket());
    assert!(message.contains("another engine serves this socket"), "{message}");
    engine.assert_alive();
    let file = engine.place.path().join("precious");
    std::fs::write(&file, "kept").unwrap();
    assert!(second(&file).contains("not a socket"));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "kept");
}

/// A socket file that a killed engine left behind is taken over.
#[test]
fn a_socket_left_behind_is_taken_over() {
    let mut engine = Engine::start();
    engine.signal(libc::SIGKILL);
    engine.end();
    assert!(engine.socket().exists());
    engine.child = Command::new(PROGRAM)
        .args(["--socket", "socket", "--device", "cpu"])
        .current_dir(engine.place.path())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    engine.wait_for_socket();
    engine.assert_alive();
}

#[test]
fn a_checkpoint_of_a_bare_name_lands_in_the_working_folder() {
    let engine = Engine::start();
    let mut client = engine.connect();
    load(&mut client);
    let answer = save(&mut client, "first");
    assert!(matches!(answer, Answer::Saved { .. }), "{answer:?}");
    assert!(engine.place.path().join("first/manifest.json").is_file());
    let model = json!({"from": "checkpoint", "dir": "first", "resume": true});
    let answer = ask_json(&mut client, json!({"ask": "load", "model": model}));
    assert!(matches!(answer, Answer::Loaded { .. }), "{answer:?}");
}

/// A save that fails in the middle of a file leaves nothing behind, and the engine goes on training. A limit
/// on the file size stands in for a full disk.
#[test]
fn a_save_that_fails_leaves_nothing_and_the_engine_trains_on() {
    let engine = Engine::started(
        "trap '' XFSZ; ulimit -f 8; exec \"$0\" --socket socket --device cpu --dtype f32 --threads 1",
    );
    let mut client = engine.connect();
    load(&mut client);
    let answer = save(&mut client, "checkpoint");
    let Answer::Failed(EngineError::Io { path, .. }) = answer else {
        panic!("{answer:?}");
    };
    assert!(path.ends_with("model.safetensors"), "{path}");
    let left = std::fs::read_dir(engine.place.path()).unwrap();
    let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["socket"]);
    assert!(matches!(train(&mut client, 0), Answer::Trained(report) if report.finite));
}

/// A client that asks for frames and disconnects before the first frame does not disturb the engine.
#[test]
fn a_client_that_goes_away_in_the_middle_harms_nobody() {
    let engine = Engine::start();
    let mut client = engine.connect();
    load(&mut client);
    let request = json!({
        "id": 1, "ids": vec![crate::common::MASK; 32], "left_pad": 0, "target": {"start": 0, "end": 32},
        "sampler": {"text": {"steps": 32, "block": 32}}, "unconditional": null, "seed": 1, "watch": true
    });
    wire::write(&mut client, &json!({"ask": "sample", "requests": [request]})).unwrap();
    drop(client);
    engine.assert_alive();
    assert!(matches!(train(&mut engine.connect(), 0), Answer::Trained(report) if report.step == 1));
}

/// Work for hours is abandoned when its client disconnects, so the next client is answered.
#[test]
fn l10_log_likelihoods_that_nobody_waits_for_are_given_up() {
    let engine = Engine::start();
    let mut client = engine.connect();
    load(&mut client);
    let query = |samples: usize| {
        json!({"prompt": [1, 2, 3], "answer": (0..20).map(|at| at % 9).collect::<Vec<u32>>(), "seed": samples,
            "estimator": {"kind": "published", "samples": samples, "batch": 8}})
    };
    let ask = |queries: Vec<serde_json::Value>| json!({"ask": "log_likelihoods", "queries": queries});
    let answer = ask_json(&mut client, ask(vec![query(16), query(8)]));
    let Answer::LogLikelihoods { values, seconds } = answer else {
        panic!("{answer:?}")
    };
    assert!(
        values
            .iter()
            .all(|one| one.value < 0.0 && one.standard_error > Some(0.0))
    );
    assert_eq!((values[0].forwards, values[1].forwards), (16, 8));
    assert!(seconds > 0.0);
    wire::write(&mut client, &ask(vec![query(65_536); 400])).unwrap();
    wait_until_read(&client);
    drop(client);
    engine.assert_alive();
    let message = refusal(ask_json(&mut engine.connect(), ask(vec![query(8), query(12)])));
    assert_eq!(
        message,
        "answer 1: found 12 samples in batches of 8; expected a batch size that divides the samples"
    );
}

fn samples(stream: &mut UnixStream) -> Vec<(Vec<u32>, Vec<u16>)> {
    loop {
        match wire::read(stream).unwrap().unwrap() {
            Answer::Frame(_) => {}
            Answer::Samples { samples, .. } => {
                let drawn = |sample: Sample| (sample.ids, sample.commit_step);
                return samples.into_iter().map(drawn).collect();
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Returns a request for five rows whose seeds depend on `client`.
fn asked(client: u64, watch: bool) -> serde_json::Value {
    let requests: Vec<serde_json::Value> = (0..5)
        .map(|row| {
            json!({
                "id": row, "ids": vec![crate::common::MASK; 32], "left_pad": 0, "target": {"start": 0, "end": 32},
                "sampler": {"text": {"steps": 32, "block": 32, "temperature": 1.0}}, "unconditional": null,
                "seed": 100 * client + row, "watch": watch
            })
        })
        .collect();
    json!({"ask": "sample", "requests": requests})
}

/// Clients that sample at the same time get the samples that each gets alone, although they share one batch
/// and one of them leaves (L8).
#[test]
fn l8_clients_at_one_time_are_answered_as_each_alone() {
    let engine = Engine::start();
    let mut clients: Vec<UnixStream> = (0..4).map(|_| engine.connect()).collect();
    load(&mut clients[0]);
    let alone: Vec<_> = (0..3)
        .map(|client| {
            wire::write(&mut clients[0], &asked(client, false)).unwrap();
            samples(&mut clients[0])
        })
        .collect();
    // One client disconnects in the middle, and another one sends a request other than sampling.
    let mut leaving = clients.pop().unwrap();
    wire::write(&mut leaving, &asked(9, true)).unwrap();
    let first: Answer = wire::read(&mut leaving).unwrap().unwrap();
    assert!(matches!(first, Answer::Frame(_)));
    for (number, client) in clients.iter_mut().enumerate() {
        wire::write(client, &asked(number as u64, number == 1)).unwrap();
    }
    drop(leaving);
    assert!(matches!(hello(&mut engine.connect()), Answer::Hello(_)));
    for (client, alone) in clients.iter_mut().zip(&alone) {
        assert_eq!(&samples(client), alone);
    }
}

#[test]
fn l8_what_is_asked_aside_is_answered_in_the_middle_and_leaves_the_others_as_they_are() {
    let engine = Engine::start();
    let (mut client, mut person) = (engine.connect(), engine.connect());
    load(&mut client);
    let aside = json!({"ask": "aside", "request": asked(7, true)});
    let mut alone = |request: &serde_json::Value| {
        wire::write(&mut client, request).unwrap();
        samples(&mut client)
    };
    let (others, asked_alone) = (alone(&asked(1, false)), alone(&aside));
    assert_eq!(asked_alone, alone(&asked(7, false)));
    wire::write(&mut client, &asked(1, true)).unwrap();
    let first: Answer = wire::read(&mut client).unwrap().unwrap();
    assert!(matches!(first, Answer::Frame(_)));
    wire::write(&mut person, &aside).unwrap();
    assert_eq!(samples(&mut person), asked_alone);
    assert_eq!(samples(&mut client), others);
    let save = json!({"ask": "save", "dir": "x", "attach": {}, "optimizer": true});
    let refused = ask_json(&mut person, json!({"ask": "aside", "request": save}));
    assert!(refusal(refused).contains("only samples and picture codes"));
}

/// Returns a policy step that takes long enough to be interrupted.
fn long_step() -> Request {
    Request::Policy {
        groups: (0..2)
            .map(|_| crate::common::group(&[1.0, -0.5, 0.25, -1.5, 0.75]))
            .collect(),
        estimator: demask_api::EstimatorConfig::default(),
        objective: demask_api::ObjectiveConfig {
            inner_steps: 300,
            ..demask_api::ObjectiveConfig::default()
        },
        settings: crate::common::settings(5),
        behaviour: Vec::new(),
    }
}

/// Sample requests are answered during a long policy step (L10) and do not change its losses or weights
/// (L8). An answer that came only after the step would be drawn from other weights, which the last assertion
/// shows to differ.
#[test]
fn l8_l10_what_is_asked_aside_is_answered_in_the_middle_of_a_step_which_stays_the_same() {
    let saved = |stream: &mut UnixStream| match save(stream, "end") {
        Answer::Saved { hash, step, .. } => (hash, step),
        other => panic!("{other:?}"),
    };
    let calm = Engine::start();
    let mut client = calm.connect();
    load(&mut client);
    let Answer::PolicyTrained(report) = ask(&mut client, &long_step()) else {
        panic!("no report")
    };
    let expected = saved(&mut client);

    let engine = Engine::start();
    let (mut client, mut person, mut watch) = (engine.connect(), engine.connect(), engine.connect());
    load(&mut client);
    let aside = json!({"ask": "aside", "request": asked(7, false)});
    wire::write(&mut person, &aside).unwrap();
    let before = samples(&mut person);
    wire::write(&mut client, &long_step()).unwrap();
    while !matches!(
        ask(&mut watch, &Request::Heartbeat),
        Answer::Heartbeat { busy: true, .. }
    ) {}
    // Samples use the weights from before the policy step, also after its first inner step.
    for _ in 0..3 {
        wire::write(&mut person, &aside).unwrap();
        assert_eq!(samples(&mut person), before);
    }
    let Answer::PolicyTrained(asked_meanwhile) = wire::read(&mut client).unwrap().unwrap() else {
        panic!("no report")
    };
    assert_eq!(
        (asked_meanwhile.losses, asked_meanwhile.step),
        (report.losses, 300)
    );
    assert_eq!(saved(&mut client), expected);
    wire::write(&mut person, &aside).unwrap();
    assert_ne!(samples(&mut person), before, "the weights have moved");
}

/// A client that leaves in the middle of its aside request, or sends an invalid one, does not disturb the
/// samples of another client.
#[test]
fn who_asks_aside_and_goes_away_or_asks_wrongly_harms_nobody() {
    let engine = Engine::start();
    let (mut client, mut wrong, mut leaving) = (engine.connect(), engine.connect(), engine.connect());
    load(&mut client);
    wire::write(&mut client, &asked(1, false)).unwrap();
    let others = samples(&mut client);
    wire::write(&mut client, &asked(1, true)).unwrap();
    let first: Answer = wire::read(&mut client).unwrap().unwrap();
    assert!(matches!(first, Answer::Frame(_)));
    let aside = json!({"ask": "aside", "request": asked(7, true)});
    wire::write(&mut leaving, &aside).unwrap();
    let first: Answer = wire::read(&mut leaving).unwrap().unwrap();
    assert!(matches!(first, Answer::Frame(_)));
    drop(leaving);
    let mut beyond = asked(7, false);
    beyond["requests"][0]["target"]["end"] = json!(33);
    let refused = ask_json(&mut wrong, json!({"ask": "aside", "request": beyond}));
    assert!(
        matches!(refused, Answer::Failed(EngineError::Refused { .. })),
        "{refused:?}"
    );
    assert_eq!(samples(&mut client), others);
    assert!(matches!(hello(&mut wrong), Answer::Hello(_)));
}

/// A loss that overflows is reported with its value, the step is not counted, and training can continue.
#[test]
fn a_loss_that_is_no_number_is_reported() {
    let engine = Engine::start();
    let mut client = engine.connect();
    load(&mut client);
    let settings = demask_api::StepSettings {
        task_weights: [1e300; 4],
        loss_normalization: demask_api::LossNormalization::Sequence,
        recompute: demask_api::Recompute::Auto,
        block_noise: demask_api::BlockNoise::default(),
        ..crate::common::settings(0)
    };
    let micro_batches = vec![crate::common::ragged()];
    let answer = ask(
        &mut client,
        &Request::Train {
            micro_batches,
            settings,
        },
    );
    assert!(
        matches!(answer, Answer::Trained(report) if !report.finite && !report.loss.is_finite() && report.step == 0)
    );
    assert!(matches!(train(&mut client, 0), Answer::Trained(report) if report.finite && report.step == 1));
}

/// Starts an engine that reports a device error at request `at`, counting requests to train or to sample.
fn failing(at: u32) -> Engine {
    Engine::started(&format!(
        "echo device {at} > fault; export DEMASK_ENGINE_FAULT=fault; \
         exec \"$0\" --socket socket --device cpu --dtype f32 --threads 1"
    ))
}

#[test]
fn l1_a_device_that_failed_is_told_and_the_engine_ends_as_failed() {
    let mut engine = failing(2);
    let mut client = engine.connect();
    load(&mut client);
    assert!(matches!(train(&mut client, 1), Answer::Trained(_)));
    let Answer::Failed(EngineError::Device { message }) = train(&mut client, 2) else {
        panic!("the second step of training was to fail");
    };
    assert!(
        message.contains("CUDA error: an illegal memory access"),
        "{message}"
    );
    assert_eq!(client.read(&mut [0]).unwrap(), 0, "the connection is closed");
    assert_eq!(engine.end().code(), Some(FAULT));
    assert!(!engine.socket().exists(), "nobody is led to a dead engine");
    assert!(
        !engine.place.path().join("fault").exists(),
        "the next one computes"
    );
}

#[test]
fn l1_all_who_wait_for_samples_of_a_failed_device_are_told() {
    let mut engine = failing(1);
    let mut client = engine.connect();
    load(&mut client);
    let requests = vec![];
    let answer = ask(&mut client, &Request::Sample { requests });
    assert!(
        matches!(answer, Answer::Failed(EngineError::Device { .. })),
        "{answer:?}"
    );
    assert_eq!(engine.end().code(), Some(FAULT));
}

#[test]
fn a_fault_that_is_none_and_determinism_that_is_none_are_refused() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("fault");
    std::fs::write(&file, "explode\n").unwrap();
    let run = |arguments: &[&str]| {
        let out = Command::new(PROGRAM)
            .args(["--socket", "socket", "--device", "cpu"])
            .args(arguments)
            .env("DEMASK_ENGINE_FAULT", &file)
            .current_dir(place.path())
            .output()
            .unwrap();
        assert_eq!(out.status.code(), Some(1));
        String::from_utf8(out.stderr).unwrap()
    };
    assert!(run(&[]).contains("expected a file that says `device N`, `hang N` or `save N`, found 'explode'"));
    assert!(run(&["--deterministic", "maybe"]).contains("expected on or off"));
}
