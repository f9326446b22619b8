//! The built `demask-engine` as several ranks: a checkpoint does not depend on the number of ranks, and all
//! ranks end together.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use demask_api::{
    Answer, DistReport, ModelSource, ObjectiveConfig, PROTOCOL, Request, Spacing, TrainReport, UniGrpo, wire,
};
use demask_model::engine::Engine;
use demask_model::engine::device_choice::Place;
use demask_model::world::exit::{FAULT, PEER_LOST};

use crate::common;
use crate::processes::{end_of, inherit};

const PROGRAM: &str = env!("CARGO_BIN_EXE_demask-engine");

/// The engines of one world. Rank 0 has the socket.
struct Engines {
    ranks: Vec<Child>,
    asked: UnixStream,
}

/// Command-line arguments that every rank gets.
const RANK: [&str; 8] = [
    "--device",
    "cpu",
    "--dtype",
    "f32",
    "--threads",
    "1",
    "--world",
    "env",
];

/// Rank 0 serves clients, so without a socket it is refused before it waits for the other ranks.
#[test]
fn rank_0_without_a_socket_is_refused() {
    let variables = [
        ("RANK", "0"),
        ("WORLD_SIZE", "2"),
        ("MASTER_ADDR", "127.0.0.1"),
        ("MASTER_PORT", "29500"),
    ];
    let out = Command::new(PROGRAM).args(RANK).envs(variables).output().unwrap();
    let words = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(1), "{words}");
    assert!(words.contains("--socket PATH is missing: rank 0"), "{words}");
}

/// Makes the command of a rank that finds the others over TCP, with a standard error that can be read.
fn member(place: &Path, rank: usize, size: usize, listener: &TcpListener) -> Command {
    let mut command = Command::new(PROGRAM);
    command
        .args(RANK)
        .arg("--socket")
        .arg(place.join("socket"))
        .env("RANK", rank.to_string())
        .env("WORLD_SIZE", size.to_string())
        .env("MASTER_ADDR", "127.0.0.1")
        .env("MASTER_PORT", listener.local_addr().unwrap().port().to_string())
        .stdin(Stdio::null())
        .stderr(Stdio::piped());
    if rank == 0 {
        // Rank 0 serves the store. When rank 0 ends the store ends, which the ranks that wait for an order notice.
        inherit(&mut command, listener.as_raw_fd());
    }
    command
}

/// Starts a rank with each of these options, and returns how each ended.
fn ends_of_ranks(place: &Path, options: &[[&str; 2]]) -> Vec<Output> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let rank = |(rank, option): (usize, &[&str; 2])| {
        let mut command = member(place, rank, options.len(), &listener);
        command.args(option).spawn().unwrap()
    };
    let ranks: Vec<Child> = options.iter().enumerate().map(rank).collect();
    drop(listener);
    let end = |rank: Child| rank.wait_with_output().unwrap();
    ranks.into_iter().map(end).collect()
}

/// Ranks that compute in different dtypes are refused with both, whichever word chose them.
#[test]
fn l11_ranks_of_different_dtypes_make_no_world() {
    let place = tempfile::tempdir().unwrap();
    let ends = ends_of_ranks(place.path(), &[["--dtype", "f32"], ["--dtype", "bf16"]]);
    let words = String::from_utf8_lossy(&ends[0].stderr);
    assert_eq!(ends[0].status.code(), Some(1), "{words}");
    assert!(
        words.contains("computes in f32, but rank 1 on ") && words.contains("computes in bf16"),
        "{words}"
    );
    assert!(!ends[1].status.success(), "{:?}", ends[1]);
}

/// Rank 1 has no such device; then rank 0, which serves the store. The others do not wait for it until the time limit.
#[test]
fn l10_the_other_ranks_are_told_which_rank_cannot_join_and_why() {
    for broken in [1, 0] {
        let place = tempfile::tempdir().unwrap();
        let mut options = [["--device", "cpu"]; 3];
        options[broken][1] = "cuda:99";
        for (rank, out) in ends_of_ranks(place.path(), &options).into_iter().enumerate() {
            let words = String::from_utf8_lossy(&out.stderr);
            let expected = if rank == broken { 1 } else { PEER_LOST };
            assert_eq!(out.status.code(), Some(expected), "rank {rank}: {words}");
            let host = demask_api::machine::host_name();
            let named = format!("rank {broken} on {host} cannot join: device cuda:99: ");
            assert_eq!(words.contains(&named), rank != broken, "rank {rank}: {words}");
        }
    }
}

impl Engines {
    /// Starts `size` ranks that shard what `shard` names: the optimizer state, or the weights too.
    fn start(size: usize, place: &Path, shard: &str) -> Self {
        Self::start_with(size, place, &["--shard", shard])
    }

    /// As [`Self::start`], with a fresh model.
    fn start_fresh(size: usize, place: &Path, shard: &str) -> Self {
        let mut engines = Self::start(size, place, shard);
        engines.load(fresh());
        engines
    }

    /// Starts `size` ranks with these arguments.
    fn start_with(size: usize, place: &Path, arguments: &[&str]) -> Self {
        Self::start_each(size, place, arguments, |_, _| ())
    }

    /// Starts `size` ranks with these arguments. `change` may change the command of each.
    fn start_each(
        size: usize,
        place: &Path,
        arguments: &[&str],
        change: impl Fn(usize, &mut Command),
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let rank = |rank: usize| {
            let mut command = member(place, rank, size, &listener);
            // A relative path is another place for each.
            let folder = place.join(format!("rank-{rank}"));
            std::fs::create_dir_all(&folder).unwrap();
            command
                .current_dir(folder)
                .args(arguments)
                .arg("--writes")
                .arg(place)
                .stderr(Stdio::null());
            change(rank, &mut command);
            command.spawn().unwrap()
        };
        let ranks: Vec<Child> = (0..size).map(rank).collect();
        drop(listener);
        Self::greeted(ranks, &place.join("socket"))
    }

    /// Starts the same world by torchrun, which is then the only direct child. Returns `None` where torchrun
    /// is not installed.
    fn by_torchrun(size: usize, place: &Path) -> Option<Self> {
        let there = Command::new("torchrun")
            .arg("--help")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if !there.is_ok_and(|status| status.success()) {
            return None;
        }
        let socket = place.join("socket");
        let mut command = Command::new("torchrun");
        command
            .args([
                "--standalone",
                "--no-python",
                "--nproc-per-node",
                &size.to_string(),
                PROGRAM,
            ])
            .args(RANK)
            .arg("--writes")
            .arg(place)
            .arg("--socket")
            .arg(&socket)
            .stdin(Stdio::null())
            .stderr(std::fs::File::create(place.join("torchrun.log")).unwrap());
        Some(Self::greeted(vec![command.spawn().unwrap()], &socket))
    }

    /// Waits until the socket of the first child, or of a process below it, accepts a connection and answers.
    fn greeted(mut ranks: Vec<Child>, socket: &Path) -> Self {
        let asked = loop {
            if let Ok(stream) = UnixStream::connect(socket) {
                break stream;
            }
            assert!(ranks[0].try_wait().unwrap().is_none(), "rank 0 ended at once");
            std::thread::sleep(std::time::Duration::from_millis(5));
        };
        let mut engines = Self { ranks, asked };
        let hello = engines.ask(&Request::Hello { protocol: PROTOCOL });
        assert!(matches!(hello, Some(Answer::Hello(_))), "{hello:?}");
        engines
    }

    /// Returns the answer, or `None` if the engine closed the connection.
    fn ask(&mut self, request: &Request) -> Option<Answer> {
        wire::write(&mut self.asked, request).ok()?;
        wire::read(&mut self.asked).ok().flatten()
    }

    fn load(&mut self, model: ModelSource) -> u64 {
        match self.ask(&Request::Load { model }) {
            Some(Answer::Loaded { step, .. }) => step,
            other => panic!("{other:?}"),
        }
    }

    fn train(&mut self, seed: u64) -> Option<Answer> {
        self.train_by(demask_api::Adam::default(), seed)
    }

    fn train_by(&mut self, adam: demask_api::Adam, seed: u64) -> Option<Answer> {
        let rows = (0..22).map(|row| common::sequence(row, 10 + row as usize % 9, 0));
        self.ask(&Request::Train {
            micro_batches: vec![rows.collect()],
            settings: demask_api::StepSettings {
                ema: 0.5,
                adam,
                ..common::settings(seed)
            },
        })
    }

    /// Takes a step that must succeed.
    fn trained(&mut self, seed: u64) -> TrainReport {
        self.trained_by(demask_api::Adam::default(), seed)
    }

    fn trained_by(&mut self, adam: demask_api::Adam, seed: u64) -> TrainReport {
        match self.train_by(adam, seed) {
            Some(Answer::Trained(report)) => report,
            other => panic!("{other:?}"),
        }
    }

    /// The log-probabilities of some tokens.
    fn scores(&mut self) -> Vec<Vec<f32>> {
        let answer = self.ask(&Request::LogProbs {
            sequences: vec![common::sequence(1, 14, 0)],
            masked: vec![vec![5, 7, 9]],
        });
        match answer {
            Some(Answer::LogProbs { values }) => values,
            other => panic!("{other:?}"),
        }
    }

    fn save(&mut self, dir: &Path) -> String {
        let save = Request::Save {
            dir: dir.into(),
            attach: [("cursor".to_owned(), "7".to_owned())].into(),
            optimizer: true,
        };
        match self.ask(&save) {
            Some(Answer::Saved { hash, .. }) => hash,
            other => panic!("{other:?}"),
        }
    }

    /// Asks rank 0 to exit, and asserts that every rank ends successfully.
    fn exit(mut self) {
        assert!(matches!(self.ask(&Request::Exit), Some(Answer::Done)));
        for rank in &mut self.ranks {
            assert!(end_of(rank).success());
        }
    }
}

impl Drop for Engines {
    fn drop(&mut self) {
        for rank in &mut self.ranks {
            rank.kill().ok();
            rank.wait().ok();
        }
    }
}

fn fresh() -> ModelSource {
    ModelSource::Fresh {
        backbone: demask_api::BackboneConfig {
            d_model: 128,
            ..common::config()
        },
        image_tokenizer: Some(common::tokenizer_config()),
        image_tokenizer_from: None,
        seed: 1,
    }
}

fn saved(dir: &Path) -> ModelSource {
    ModelSource::Checkpoint {
        dir: dir.into(),
        resume: true,
        average: false,
        image_tokenizer: None,
        options: demask_api::LoadOptions::default(),
    }
}

/// Each rank reports its own process, memory and waiting.
fn is_reported_by_each(report: &TrainReport, size: usize) {
    let ranks = &report.ranks;
    assert_eq!(ranks.len(), size, "{ranks:?}");
    let processes: BTreeSet<u32> = ranks.iter().map(|rank| rank.pid).collect();
    assert_eq!(processes.len(), size, "{ranks:?}");
    for rank in ranks {
        let DistReport {
            wait_seconds, bytes, ..
        } = rank.dist;
        assert!(0.0 <= wait_seconds && wait_seconds <= rank.seconds, "{rank:?}");
        assert_eq!(bytes > 0, size > 1, "{rank:?}");
        assert!(
            rank.device == "cpu" && rank.memory > 0 && rank.began_us > 0,
            "{rank:?}"
        );
    }
}

/// The hash of a model as one process alone, which is no rank, saves it before the first step.
fn saved_alone(dir: &Path) -> String {
    let mut engine = Engine::new(Place::choose("cpu", "f32", Some(1)).unwrap());
    let model = fresh();
    engine.handle(Request::Load { model }, &mut |_| ()).unwrap();
    let save = Request::Save {
        dir: dir.into(),
        attach: [("cursor".to_owned(), "7".to_owned())].into(),
        optimizer: true,
    };
    match engine.handle(save, &mut |_| ()).unwrap() {
        Answer::Saved { hash, .. } => hash,
        other => panic!("{other:?}"),
    }
}

#[test]
fn l11_a_checkpoint_has_the_same_bytes_from_any_number_of_ranks_and_goes_on_with_any_other() {
    let place = tempfile::tempdir().unwrap();
    let alone = saved_alone(&place.path().join("alone"));
    let mut hashes = Vec::new();
    let (state, weights) = ("state", "weights");
    for ((size, shard), (then, other_shard)) in [
        ((1, state), (4, state)),
        ((2, state), (1, state)),
        ((4, state), (2, weights)),
        ((2, weights), (3, weights)),
        ((3, weights), (2, state)),
        ((1, weights), (1, state)),
    ] {
        let folder = place.path().join(format!("of-{size}-{shard}"));
        let mut engines = Engines::start_fresh(size, &folder, shard);
        assert_eq!(
            engines.save(&folder.join("fresh")),
            alone,
            "{size} ranks that shard {shard}"
        );
        for seed in 0..2 {
            is_reported_by_each(&engines.trained(seed), size);
        }
        let first = engines.save(&folder.join("first"));
        // A save that is refused leaves all ranks in step.
        let dir = folder.join("first");
        let again = engines.ask(&Request::Save {
            dir,
            attach: [].into(),
            optimizer: true,
        });
        assert!(matches!(again, Some(Answer::Failed(_))), "{again:?}");
        engines.trained(2);
        let straight = engines.save(&folder.join("straight"));
        engines.exit();

        let other = folder.join("resumed");
        let mut engines = Engines::start(then, &other, other_shard);
        assert_eq!(engines.load(saved(&folder.join("first"))), 2);
        engines.trained(2);
        assert_eq!(
            engines.save(&other.join("second")),
            straight,
            "{size} ranks that shard {shard}, then {then} that shard {other_shard}"
        );
        engines.exit();
        hashes.push((first, straight));
    }
    hashes.dedup();
    assert_eq!(hashes.len(), 1, "{hashes:?}");
}

/// Moments in bf16, of which Muon's matrices have no second ones; and an adapter with dropout. Each resumes with
/// another number of ranks and another division, and the optimizer between the two steps may be another.
#[test]
fn l11_whatever_is_trained_goes_on_from_a_checkpoint_with_any_number_of_ranks() {
    let place = tempfile::tempdir().unwrap();
    let base = place.path().join("base");
    let muon = demask_api::Adam {
        muon: true,
        moments: demask_api::MomentKind::Bf16,
        ..demask_api::Adam::default()
    };
    saved_alone(&base);
    let adapted = || ModelSource::Checkpoint {
        dir: base.clone(),
        resume: false,
        average: false,
        image_tokenizer: None,
        options: demask_api::LoadOptions {
            lora: Some(demask_api::LoraConfig {
                rank: 4,
                dropout: 0.5,
                ..demask_api::LoraConfig::default()
            }),
            ..demask_api::LoadOptions::default()
        },
    };
    let (state, weights) = ("state", "weights");
    for is_adapter in [false, true] {
        let mut hashes = Vec::new();
        for ((size, shard), (then, other)) in [
            ((1, state), (3, weights)),
            ((4, state), (2, weights)),
            ((3, weights), (1, state)),
            ((2, weights), (4, weights)),
        ] {
            let folder = place.path().join(format!("of-{size}-{shard}-{is_adapter}"));
            let mut engines = Engines::start(size, &folder, shard);
            engines.load(if is_adapter { adapted() } else { fresh() });
            for seed in 0..2 {
                engines.trained_by(muon.clone(), seed);
            }
            let mut hash = vec![engines.save(&folder.join("first"))];
            engines.exit();
            let again = folder.join("again");
            let mut engines = Engines::start(then, &again, other);
            assert_eq!(engines.load(saved(&folder.join("first"))), 2);
            hash.push(engines.save(&again.join("same")));
            for (seed, adam) in [(2, muon.clone()), (3, demask_api::Adam::default())] {
                engines.trained_by(adam, seed);
                hash.push(engines.save(&again.join(format!("{seed}"))));
            }
            engines.exit();
            // The number of the attached file is the same, so a folder that was only loaded is saved as it was.
            assert_eq!(hash[0], hash[1], "{size} ranks that shard {shard}");
            hashes.push(hash);
        }
        hashes.dedup();
        assert_eq!(hashes.len(), 1, "{hashes:?}");
    }
}

/// A figure of a process's memory, in bytes.
fn memory(pid: u32, key: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap();
    line.trim_end_matches("kB").trim().parse::<u64>().unwrap() * 1024
}

/// Rank 0 writes what it has not as it comes, and holds a piece of it at a time.
#[test]
fn a_checkpoint_is_nowhere_whole_in_memory() {
    let place = tempfile::tempdir().unwrap();
    let mut engines = Engines::start(2, place.path(), "weights");
    engines.load(ModelSource::Fresh {
        backbone: demask_api::BackboneConfig {
            d_model: 512,
            n_layers: 4,
            mlp_hidden_size: Some(1024),
            ..common::config()
        },
        image_tokenizer: None,
        image_tokenizer_from: None,
        seed: 1,
    });
    engines.trained(0);
    let rank = engines.ranks[0].id();
    let before = memory(rank, "VmRSS:");
    // The peak begins anew.
    if let Err(error) = std::fs::write(format!("/proc/{rank}/clear_refs"), "5") {
        println!("skipped: the peak of a process's memory cannot be reset here: {error}");
        return;
    }
    let dir = place.path().join("saved");
    engines.save(&dir);
    let risen = memory(rank, "VmHWM:").saturating_sub(before);
    // Weights, both moments and the average are each as large.
    let weights = std::fs::metadata(dir.join("model.safetensors")).unwrap().len();
    println!("{risen} bytes for weights of {weights}");
    assert!(
        weights > 30_000_000 && risen < weights / 2,
        "{risen} bytes for weights of {weights}"
    );
    engines.exit();
}

/// torchrun starts the same world as the daemon, although torchrun serves the store itself and gives every
/// rank the same arguments. The saved bytes are equal.
#[test]
fn l11_torchrun_starts_a_world_that_ends_in_the_same_bytes() {
    let place = tempfile::tempdir().unwrap();
    let [by_torchrun, own] = ["torchrun", "own"].map(|name| place.path().join(name));
    std::fs::create_dir(&by_torchrun).unwrap();
    let Some(engines) = Engines::by_torchrun(2, &by_torchrun) else {
        println!("skipped: torchrun is not installed (it comes with PyTorch)");
        return;
    };
    let mut hashes = Vec::new();
    for (mut engines, folder) in [(engines, by_torchrun), (Engines::start(2, &own, "state"), own)] {
        engines.load(fresh());
        engines.trained(0);
        hashes.push(engines.save(&folder.join("saved")));
        engines.exit();
    }
    assert_eq!(hashes[0], hashes[1]);
}

/// Requests between two steps see whole weights although each rank stores only a shard. A reference model is
/// set on every rank. The steps that follow are those of ranks that hold all weights.
#[test]
fn l11_sharded_weights_are_whole_for_what_is_asked_between_steps() {
    let place = tempfile::tempdir().unwrap();
    let mut said = Vec::new();
    for (size, shard) in [(1, "state"), (2, "weights"), (3, "weights")] {
        let folder = place.path().join(format!("of-{size}-{shard}"));
        let mut engines = Engines::start_fresh(size, &folder, shard);
        let mut scores = vec![engines.scores()];
        engines.trained(0);
        // Scores twice after the step; the second request finds the weights already gathered.
        scores.extend([engines.scores(), engines.scores()]);
        assert_ne!(scores[0], scores[1]);
        assert_eq!(scores[1], scores[2]);
        let reference = engines.ask(&Request::SetReference { checkpoint: None });
        assert!(matches!(reference, Some(Answer::Done)), "{reference:?}");
        let groups = vec![common::group(&[1.0, -0.5, 0.0, 0.5, -1.0])];
        let policy = engines.ask(&Request::Policy {
            groups,
            estimator: UniGrpo {
                spacing: Spacing::Cyclic,
            }
            .into(),
            objective: ObjectiveConfig {
                inner_steps: 2,
                kl: 0.1,
                ..ObjectiveConfig::default()
            },
            settings: common::settings(4),
            behaviour: Vec::new(),
        });
        let Some(Answer::PolicyTrained(report)) = policy else {
            panic!("{policy:?}");
        };
        assert!(report.finite);
        scores.push(engines.scores());
        said.push((scores, report.losses, engines.save(&folder.join("saved"))));
        engines.exit();
    }
    assert!(said.iter().all(|one| *one == said[0]), "{said:?}");
}

/// A reference that one rank alone cannot read is no rank's, and the world lives; the moving average is each rank's
/// part of it.
#[test]
fn what_one_rank_cannot_read_none_takes() {
    let place = tempfile::tempdir().unwrap();
    let mut scores = Vec::new();
    for shard in ["state", "weights"] {
        let folder = place.path().join(shard);
        let mut engines = Engines::start_fresh(2, &folder, shard);
        for seed in 0..2 {
            engines.trained(seed);
        }
        engines.save(&folder.join("saved"));
        std::os::unix::fs::symlink(folder.join("saved"), folder.join("rank-0/here")).unwrap();
        let reference = |engines: &mut Engines, checkpoint: Option<&str>| {
            let checkpoint = checkpoint.map(Into::into);
            engines.ask(&Request::SetReference { checkpoint })
        };
        let Some(Answer::Failed(refused)) = reference(&mut engines, Some("here")) else {
            panic!("a reference that rank 1 has not");
        };
        assert!(refused.to_string().contains("rank 1"), "{refused}");
        std::os::unix::fs::symlink(folder.join("saved"), folder.join("rank-1/here")).unwrap();
        for checkpoint in [Some("here"), None] {
            assert!(matches!(reference(&mut engines, checkpoint), Some(Answer::Done)));
        }
        engines.trained(2);
        for average in [false, true] {
            engines.load(ModelSource::Checkpoint {
                dir: folder.join("saved"),
                resume: false,
                average,
                image_tokenizer: None,
                options: demask_api::LoadOptions::default(),
            });
            scores.push(engines.scores());
        }
        engines.exit();
    }
    assert_ne!(scores[0], scores[1], "the average");
    assert_eq!(scores[..2], scores[2..]);
}

/// A rank that does not see the folder in which the mark was written is named with its machine and the folder.
#[test]
fn every_rank_must_see_the_folder() {
    let place = tempfile::tempdir().unwrap();
    let mut engines = Engines::start_with(2, place.path(), &["--peer-limit", "10"]);
    // A relative path is another folder for each rank.
    let ask = |engines: &mut Engines| {
        engines.ask(&Request::ReadMark {
            path: "run/.mark".into(),
            token: "7".to_owned(),
        })
    };
    let write = |rank: usize| {
        let folder = place.path().join(format!("rank-{rank}/run"));
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join(".mark"), "7").unwrap();
    };
    write(0);
    let Some(Answer::Failed(refused)) = ask(&mut engines) else {
        panic!("a folder that rank 1 has not");
    };
    let words = format!(
        "rank 1: the engine on {} does not see the folder run",
        demask_api::machine::host_name()
    );
    assert!(refused.to_string().contains(&words), "{refused}");
    write(1);
    assert!(matches!(ask(&mut engines), Some(Answer::Done)));
    engines.exit();
}

#[test]
fn l1_a_rank_that_is_killed_ends_the_world_with_the_code_that_asks_for_another() {
    for (size, killed, shard) in [
        (2, 1, "state"),
        (4, 2, "state"),
        (3, 0, "state"),
        (2, 1, "weights"),
        (4, 2, "weights"),
        (3, 0, "weights"),
    ] {
        let place = tempfile::tempdir().unwrap();
        let mut engines = Engines::start_fresh(size, place.path(), shard);
        engines.trained(0);
        engines.ranks[killed].kill().unwrap();
        end_of(&mut engines.ranks[killed]);
        // If rank 0 is alive, it notices the loss of a peer at the next step.
        if killed > 0 {
            assert!(engines.train(1).is_none(), "{size} ranks");
        }
        for (rank, child) in engines.ranks.iter_mut().enumerate() {
            let expected = if rank == killed { None } else { Some(PEER_LOST) };
            assert_eq!(end_of(child).code(), expected, "rank {rank} of {size}");
        }
    }
}

/// Nothing is freed on a device that failed, so a rank that only follows rank 0 ends at once, too.
#[test]
fn l1_a_rank_whose_device_failed_ends_as_failed_and_the_others_as_having_lost_it() {
    let place = tempfile::tempdir().unwrap();
    let fault = place.path().join("fault");
    std::fs::write(&fault, "device 2\n").unwrap();
    let mut engines = Engines::start_each(2, place.path(), &[], |rank, command| {
        if rank == 1 {
            command.env("DEMASK_ENGINE_FAULT", &fault);
        }
    });
    engines.load(fresh());
    engines.trained(0);
    assert!(engines.train(1).is_none());
    let codes: Vec<_> = engines.ranks.iter_mut().map(|rank| end_of(rank).code()).collect();
    assert_eq!(codes, [Some(PEER_LOST), Some(FAULT)]);
    assert!(!fault.exists(), "the fault struck");
}

/// Rank 1 is suspended before a step. Rank 0 is suspended while rank 1 waits for an order, for which there is no time
/// limit; the store, which rank 0 serves, does not answer either.
#[test]
fn l10_a_rank_that_is_suspended_ends_the_world_with_the_code_that_asks_for_another() {
    for suspended in [1, 0] {
        let place = tempfile::tempdir().unwrap();
        let mut engines = Engines::start_with(2, place.path(), &["--peer-limit", "10"]);
        engines.load(fresh());
        engines.trained(0);
        let pid = i32::try_from(engines.ranks[suspended].id()).unwrap();
        // SAFETY: sends a signal to a child that has not been waited for.
        assert_eq!(unsafe { libc::kill(pid, libc::SIGSTOP) }, 0);
        if suspended == 1 {
            assert!(engines.train(1).is_none());
        }
        let other = end_of(&mut engines.ranks[1 - suspended]);
        assert_eq!(other.code(), Some(PEER_LOST), "rank {}", 1 - suspended);
    }
}

#[test]
fn a_plain_engine_joins_no_world_because_a_variable_is_left_in_the_shell() {
    let place = tempfile::tempdir().unwrap();
    let socket = place.path().join("socket");
    let mut engine = Command::new(PROGRAM)
        .args(["--device", "cpu", "--threads", "1", "--socket"])
        .arg(&socket)
        .envs([
            ("RANK", "0"),
            ("WORLD_SIZE", "2"),
            ("MASTER_ADDR", "127.0.0.1"),
            ("MASTER_PORT", "1"),
        ])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut asked = loop {
        match UnixStream::connect(&socket) {
            Ok(stream) => break stream,
            Err(_) => assert!(engine.try_wait().unwrap().is_none(), "it ended at once"),
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    };
    wire::write(&mut asked, &Request::Exit).unwrap();
    assert!(matches!(wire::read::<Answer>(&mut asked), Ok(Some(Answer::Done))));
    assert!(end_of(&mut engine).success());
}
