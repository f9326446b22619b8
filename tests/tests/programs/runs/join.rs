//! Engines that the daemon did not start: ranks and sampling engines that join it by a join file, and strangers at its
//! door (laws L1, L9, L10, L11).
#![allow(clippy::unwrap_used, missing_docs)]

use std::io::Read as _;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use demask_actors::control::client::Client;
use demask_api::JoinFile;
use demask_api::join::{MOST_STRANGERS, hex};
use demask_storage::{Command as Ask, Record, Reply, RunState};
use demask_tests::patience::Patience;
use demask_tests::profile::{smoke, smoke_with_stages};
use demask_tests::store::rows_in;
use demask_tests::weights::{last_checkpoint, tensor_hashes};
use demask_tests::{Place, ended, programs, said, start, until, wait_for};

/// A profile whose batches have several units of work, on two ranks.
pub(super) fn profile(join: bool, shard: &str) -> String {
    let (join, shard) = (format!("engine.join={join}"), format!("engine.shard={shard}"));
    smoke(&["stage.1.batch=21", "engine.ranks=2", &join, &shard])
}

/// A policy stage whose groups two sampling engines draw ahead, and a profile that trains it.
fn rollouts(join: bool) -> String {
    smoke_with_stages(&format!(
        "[rollouts]\nsamplers = 2\nstaleness = 1\nthreads = 1\njoin = {join}\n\
         [[stage]]\nname = \"pretrain\"\nkind = \"pretrain\"\nsteps = 2\nbatch = 4\n\
         [[stage]]\nname = \"unigrpo\"\nkind = \"align\"\nsteps = 3\nbatch = 3\ngroup = 3\nlearning_rate = 1e-3\n"
    ))
}

/// How long the end of an engine is waited for. It is longer than engines wait for one another and for the daemon.
const LONGEST_END: Duration = Duration::from_secs(400);
/// Time between two looks whether it has ended.
const LOOK: Duration = Duration::from_millis(5);

/// Waits for the end of an engine. One that does not end in time is killed, and fails the test.
fn end_of(child: &mut Child) -> ExitStatus {
    let began = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if began.elapsed() > LONGEST_END {
            child.kill().ok();
            child.wait().ok();
            let (pid, seconds) = (child.id(), LONGEST_END.as_secs());
            panic!("engine {pid} did not end within {seconds} s and was killed");
        }
        std::thread::sleep(LOOK);
    }
}

/// Engines that were started by hand. Those that still run are killed when this value is dropped.
pub(super) struct ByHand(pub(super) Vec<Child>);

/// Returns the engine's program.
fn engine_program() -> Command {
    Command::new(programs().join("demask-engine"))
}

/// Returns the engine's program in a mount namespace where an empty file system hides this folder.
fn blind_to(folder: &Path) -> Command {
    let mut command = hiding(folder, "exec \"$0\" \"$@\"");
    command.arg(programs().join("demask-engine"));
    command
}

/// Returns a script that runs where an empty file system hides this folder.
fn hiding(folder: &Path, script: &str) -> Command {
    let script = format!("mount -t tmpfs tmpfs \"$HIDDEN\" && {script}");
    let mut command = Command::new("unshare");
    command.args(["-rm", "sh", "-c", &script]).env("HIDDEN", folder);
    command
}

impl ByHand {
    /// Starts an engine by a join file; its words go to `NAME.log` in the home.
    pub(super) fn engine(
        place: &Place,
        file: &Path,
        name: &str,
        arguments: &[&str],
        variables: &[(&str, &str)],
    ) -> Child {
        Self::engine_by(engine_program(), place, file, name, arguments, variables)
    }

    /// Like [`Self::engine`], by this program.
    fn engine_by(
        mut program: Command,
        place: &Place,
        file: &Path,
        name: &str,
        arguments: &[&str],
        variables: &[(&str, &str)],
    ) -> Child {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(place.path().join(format!("{name}.log")));
        program
            .arg("--join")
            .arg(file)
            .args(["--device", "cpu", "--dtype", "f32", "--threads", "1"])
            .args(arguments)
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stderr(log.unwrap())
            .spawn()
            .unwrap()
    }

    /// Starts a world of ranks with the variables that torchrun sets.
    pub(super) fn world(place: &Place, file: &Path, ranks: usize, arguments: &[&str]) -> Self {
        Self::world_by(&|_| engine_program(), place, file, ranks, arguments)
    }

    /// Like [`Self::world`], with this program for each rank.
    fn world_by(
        program: &dyn Fn(usize) -> Command,
        place: &Place,
        file: &Path,
        ranks: usize,
        arguments: &[&str],
    ) -> Self {
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let rank = |rank: usize| {
            let (number, size, port) = (rank.to_string(), ranks.to_string(), port.to_string());
            let variables = [
                ("RANK", number.as_str()),
                ("WORLD_SIZE", &size),
                ("MASTER_ADDR", "127.0.0.1"),
                ("MASTER_PORT", &port),
            ];
            let name = format!("rank-{rank}");
            Self::engine_by(program(rank), place, file, &name, arguments, &variables)
        };
        Self((0..ranks).map(rank).collect())
    }

    pub(super) fn kill(&mut self, which: usize) {
        self.0[which].kill().unwrap();
    }

    fn signal(&self, which: usize, signal: i32) {
        let pid = i32::try_from(self.0[which].id()).unwrap();
        // SAFETY: sends a signal to a child that has not been waited for.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
    }

    /// Waits for the end of all of them; returns their exit codes.
    pub(super) fn codes(&mut self) -> Vec<Option<i32>> {
        self.0.iter_mut().map(|child| end_of(child).code()).collect()
    }
}

impl Drop for ByHand {
    fn drop(&mut self) {
        for child in &mut self.0 {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

pub(super) fn log(place: &Place, name: &str) -> String {
    std::fs::read_to_string(place.path().join(name)).unwrap_or_default()
}

/// Waits until the daemon says that the run waits for this.
pub(super) async fn awaited(client: &mut Client, what: &str) {
    let patience = Patience::default();
    loop {
        let Reply::Status(status) = client.ask(Ask::Status).await.unwrap() else {
            panic!("no status")
        };
        if status.detail.contains(what) {
            return;
        }
        // A run that was just begun has not reported yet.
        assert!(
            matches!(
                status.state,
                RunState::Idle | RunState::Starting | RunState::Running
            ),
            "{}: {}",
            status.state,
            status.detail
        );
        patience
            .next_look(|| format!("{what}: {}: {}", status.state, status.detail))
            .await;
    }
}

/// Opens a second connection, for questions while events are read on the first.
pub(super) async fn subscribed(place: &mut Place) -> (Client, Client) {
    let mut events = place.serve_at_door().await;
    events.ask(Ask::Subscribe { since: 0 }).await.unwrap();
    let questions = Client::connect(&place.home(), "test").await.unwrap();
    (events, questions)
}

pub(super) async fn first_checkpoint(client: &mut Client) {
    wait_for(client, |record| matches!(record, Record::Checkpoint(_)))
        .await
        .unwrap();
}

/// Returns the hashes of the final tensors of a run whose engines the daemon starts itself.
pub(super) async fn by_the_daemon(profile: &str) -> Vec<String> {
    let mut place = Place::default();
    let mut client = demask_tests::subscribed(&mut place).await;
    let run = start(&mut client, profile).await;
    assert_eq!(ended(&mut client).await, RunState::Done);
    tensor_hashes(&last_checkpoint(place.path(), &run))
}

/// Waits until the run is done and its ranks have left.
pub(super) async fn done(place: &Place, events: &mut Client, world: &mut ByHand) {
    let words = || log(place, "daemon.out");
    assert_eq!(ended(events).await, RunState::Done, "{}", words());
    assert_eq!(world.codes(), [Some(0); 2], "{}", log(place, "rank-0.log"));
}

/// The peer that is lost after the first checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lost {
    Nobody,
    Rank(usize),
    /// A rank is suspended, until the others have left.
    Suspended(usize),
    Daemon,
}

/// Returns the hashes of the final tensors of a run whose ranks join.
async fn joined(shard: &str, lost: Lost) -> Vec<String> {
    let mut place = Place::default();
    let (mut events, mut questions) = subscribed(&mut place).await;
    let run = start(&mut events, &profile(true, shard)).await;
    awaited(
        &mut questions,
        "is waiting for a world of 2 ranks to join: demask-engine --join",
    )
    .await;
    let shown = said(&place.run(&["ps"]));
    assert!(shown.contains("is waiting for a world of 2 ranks"), "{shown}");
    let file = place.join_file();
    let limit = match lost {
        Lost::Suspended(_) => "10",
        _ => "120",
    };
    let mut world = ByHand::world(&place, &file, 2, &["--shard", shard, "--peer-limit", limit]);
    if lost != Lost::Nobody {
        first_checkpoint(&mut events).await;
    }
    match lost {
        Lost::Nobody => {}
        Lost::Rank(rank) => {
            world.kill(rank);
            let mut expected = [Some(75); 2];
            expected[rank] = None;
            assert_eq!(world.codes(), expected, "the other rank asks to be started again");
            awaited(&mut questions, "is waiting for a world of 2 ranks").await;
            world = ByHand::world(&place, &file, 2, &["--shard", shard]);
        }
        Lost::Suspended(rank) => {
            world.signal(rank, libc::SIGSTOP);
            let other = end_of(&mut world.0[1 - rank]);
            assert_eq!(other.code(), Some(75), "the other rank asks to be started again");
            awaited(&mut questions, "is waiting for a world of 2 ranks").await;
            world.signal(rank, libc::SIGCONT);
            assert_eq!(
                world.codes(),
                [Some(75); 2],
                "and so does the rank that was suspended"
            );
            world = ByHand::world(&place, &file, 2, &["--shard", shard]);
        }
        // The same ranks come back to the next daemon, by the file that it writes.
        Lost::Daemon => {
            place.kill();
            (events, _) = subscribed(&mut place).await;
        }
    }
    done(&place, &mut events, &mut world).await;
    assert!(file.exists());
    assert_eq!(place.terminate(), Some(0), "SIGTERM exits 0");
    assert!(!file.exists(), "the join file is removed at a clean end");
    let folder = place.path().join("checkpoints").join(&run);
    let left = std::fs::read_dir(folder).unwrap();
    let mut left = left.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(left.all(|name| !name.starts_with('.')), "a mark was left");
    tensor_hashes(&last_checkpoint(place.path(), &run))
}

#[tokio::test]
async fn l1_l11_ranks_that_join_end_in_the_weights_of_ranks_that_the_daemon_starts_whoever_is_lost() {
    let expected = by_the_daemon(&profile(false, "state")).await;
    for (shard, lost) in [
        ("state", Lost::Nobody),
        ("weights", Lost::Nobody),
        ("state", Lost::Rank(0)),
        ("state", Lost::Rank(1)),
        ("state", Lost::Suspended(0)),
        ("state", Lost::Suspended(1)),
        ("state", Lost::Daemon),
    ] {
        assert_eq!(joined(shard, lost).await, expected, "{shard}, {lost:?}");
    }
}

#[tokio::test]
async fn l1_l8_sampling_engines_that_join_draw_the_groups_of_those_that_the_daemon_starts() {
    let expected = by_the_daemon(&rollouts(false)).await;
    let mut place = Place::default();
    let (mut events, _) = subscribed(&mut place).await;
    let run = start(&mut events, &rollouts(true)).await;
    let file = place.join_file();
    let sampler = |name: &str| ByHand::engine(&place, &file, name, &["--role", "sample"], &[]);
    let mut engines = ByHand(vec![sampler("one"), sampler("two")]);
    first_checkpoint(&mut events).await;
    engines.kill(0);
    engines.0.push(sampler("three"));
    assert_eq!(
        ended(&mut events).await,
        RunState::Done,
        "{}",
        log(&place, "daemon.out")
    );
    assert_eq!(
        engines.codes(),
        [None, Some(0), Some(0)],
        "{}",
        log(&place, "two.log")
    );
    assert_eq!(place.terminate(), Some(0), "SIGTERM exits 0");
    assert_eq!(tensor_hashes(&last_checkpoint(place.path(), &run)), expected);
}

/// Returns the exit code of an engine that tries a join file for a second.
fn code_by(place: &Place, file: &Path, name: &str) -> Option<i32> {
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let port = port.to_string();
    let variables = [
        ("RANK", "0"),
        ("WORLD_SIZE", "1"),
        ("MASTER_ADDR", "127.0.0.1"),
        ("MASTER_PORT", port.as_str()),
    ];
    ByHand(vec![ByHand::engine(
        place,
        file,
        name,
        &["--patience", "1"],
        &variables,
    )])
    .codes()[0]
}

/// Writes another join file.
pub(super) fn altered(place: &Place, alter: impl FnOnce(&mut JoinFile)) -> std::path::PathBuf {
    let mut file = JoinFile::read(&place.join_file()).unwrap();
    alter(&mut file);
    let path = place.path().join("altered");
    std::fs::write(&path, serde_json::to_vec(&file).unwrap()).unwrap();
    path
}

/// One rank sees another folder at the path of the checkpoints. Nothing is trained: after a restart that world would
/// find no checkpoint.
#[tokio::test]
async fn l1_l11_a_rank_that_does_not_see_the_checkpoints_fails_the_run_with_its_name_and_the_folder() {
    let mut place = Place::default();
    let (mut events, mut questions) = subscribed(&mut place).await;
    let checkpoints = place.path().join("checkpoints");
    std::fs::create_dir_all(&checkpoints).unwrap();
    if !hiding(&checkpoints, "true")
        .status()
        .is_ok_and(|status| status.success())
    {
        println!("skipped: no file system can be mounted here");
        return;
    }
    let run = start(&mut events, &profile(true, "state")).await;
    awaited(&mut questions, "is waiting for a world of 2 ranks").await;
    let program = |rank| match rank {
        1 => blind_to(&checkpoints),
        _ => engine_program(),
    };
    let arguments = ["--peer-limit", "10"];
    let _world = ByHand::world_by(&program, &place, &place.join_file(), 2, &arguments);
    let end = wait_for(&mut events, |record| matches!(record, Record::RunEnd(_)))
        .await
        .unwrap();
    let Record::RunEnd(end) = end.record else {
        unreachable!()
    };
    let folder = checkpoints.join(&run).display().to_string();
    for words in ["rank 1", "does not see the folder", &folder] {
        assert!(end.reason.contains(words), "{words}: {}", end.reason);
    }
    assert_eq!(end.status, RunState::Failed);
    let trained = rows_in(place.path(), "SELECT step FROM v_checkpoint");
    assert!(trained.is_empty(), "{trained:?}");
}

#[tokio::test]
async fn l9_strangers_are_turned_away_and_the_daemon_goes_on() {
    let mut place = Place::default();
    let (mut events, mut questions) = subscribed(&mut place).await;
    start(&mut events, &profile(true, "state")).await;
    awaited(&mut questions, "is waiting for a world of 2 ranks").await;
    let file = JoinFile::read(&place.join_file()).unwrap();

    let wrong = altered(&place, |file| file.token = hex(&[1; 32]));
    assert_eq!(code_by(&place, &wrong, "token"), Some(75));
    let words = log(&place, "token.log");
    assert!(words.contains("the token in the join file is wrong"), "{words}");
    // The daemon's log is written by a thread of its own.
    let mut daemon = String::new();
    until("the daemon's log tells of the wrong token", || {
        daemon = log(&place, "daemon.out");
        daemon.contains("the peer's token is not the one in the join file")
    })
    .await;
    assert!(!daemon.contains(&file.token), "the log tells the token");

    let wrong = altered(&place, |file| file.certificate = hex(&[1; 32]));
    assert_eq!(code_by(&place, &wrong, "certificate"), Some(75));
    let words = log(&place, "certificate.log");
    assert!(
        words.contains("its certificate is not the one in the join file"),
        "{words}"
    );

    let code = code_by(&place, &place.join_file(), "size");
    assert_eq!(code, Some(1), "{}", log(&place, "size.log"));
    let words = log(&place, "size.log");
    assert!(
        words.contains("the run needs 2 ranks, but this world has 1"),
        "{words}"
    );

    let mut other = ByHand::world(&place, &place.join_file(), 2, &["--dtype", "bf16"]);
    assert_eq!(
        other.codes(),
        [Some(1), Some(75)],
        "{}",
        log(&place, "rank-0.log")
    );
    let words = log(&place, "rank-0.log");
    assert!(
        words.contains("the run computes in f32") && words.contains("this engine computes in bf16"),
        "{words}"
    );

    // More silent peers than may wait: those beyond are closed at once, the others when their time is over.
    let address = (file.host.as_str(), file.port);
    let silent = || {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream
    };
    let flood: Vec<TcpStream> = (0..MOST_STRANGERS * 3).map(|_| silent()).collect();
    assert!(matches!(questions.ask(Ask::Status).await, Ok(Reply::Status(_))));
    // Ranks that come meanwhile try again until there is room.
    let mut world = ByHand::world(&place, &place.join_file(), 2, &[]);
    for mut stream in flood {
        // A peer learns nothing: no byte comes before the end.
        assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0);
    }
    done(&place, &mut events, &mut world).await;
}

#[tokio::test]
async fn l10_a_run_that_waits_for_ranks_is_stopped_by_a_person_and_those_who_wait_for_a_run_leave_with_the_daemon()
 {
    let mut place = Place::default();
    let (mut events, mut questions) = subscribed(&mut place).await;
    start(&mut events, &profile(true, "state")).await;
    awaited(&mut questions, "is waiting for a world of 2 ranks").await;
    let out = place.run(&["stop"]);
    assert!(out.status.success(), "{}", said(&out));
    assert_eq!(ended(&mut events).await, RunState::Stopped);
    let mut world = ByHand::world(&place, &place.join_file(), 2, &[]);
    until("two ranks join", || {
        log(&place, "daemon.out").contains("joined to train: 2 ranks")
    })
    .await;
    assert_eq!(place.terminate(), Some(0), "SIGTERM exits 0");
    assert_eq!(world.codes(), [Some(0); 2], "{}", log(&place, "rank-0.log"));
}

/// Returns the number of TCP ports on which a process listens.
fn ports(pid: u32) -> usize {
    let listening: Vec<String> = ["tcp", "tcp6"]
        .iter()
        .flat_map(|kind| std::fs::read_to_string(format!("/proc/{pid}/net/{kind}")))
        .flat_map(|table| table.lines().map(ToOwned::to_owned).collect::<Vec<_>>())
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            (fields.get(3) == Some(&"0A")).then(|| format!("socket:[{}]", fields[9]))
        })
        .collect();
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let open = open.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    open.filter(|target| {
        listening
            .iter()
            .any(|socket| target.as_os_str() == socket.as_str())
    })
    .count()
}

#[tokio::test]
async fn l9_no_port_is_open_unless_a_person_names_one_and_then_a_run_that_waits_for_ranks_is_refused() {
    let mut place = Place::default();
    place.serve().await;
    assert_eq!(ports(place.pid().unwrap()), 0);
    let out = place.run(&[
        "run",
        "smoke",
        "--headless",
        "--from-scratch",
        "--ranks",
        "2",
        "--join",
    ]);
    assert_eq!(out.status.code(), Some(1), "{}", said(&out));
    assert!(
        said(&out).contains("this daemon does not listen for any"),
        "{}",
        said(&out)
    );
    assert_eq!(place.terminate(), Some(0), "SIGTERM exits 0");
    place.serve_at_door().await;
    assert_eq!(ports(place.pid().unwrap()), 1);

    for (arguments, words) in [
        (
            &["--listen", "0.0.0.0", "--join-file", "f"][..],
            "all networks of this machine",
        ),
        (&["--listen", "127.0.0.1"], "--join-file"),
        (&["--join-file", "f"], "--listen"),
    ] {
        let out = place.run(&[&["daemon", "start"], arguments].concat());
        assert_eq!(out.status.code(), Some(2), "{arguments:?}: {}", said(&out));
        assert!(said(&out).contains(words), "{words} is missing: {}", said(&out));
    }
    for (arguments, words) in [
        (
            &["--join", "f", "--role", "teach"][..],
            "expected train or sample",
        ),
        (
            &["--role", "sample", "--socket", "s"],
            "give the daemon's join file with --join FILE",
        ),
        (
            &["--join", "f", "--socket", "s"],
            "cannot be combined with --socket",
        ),
        (
            &["--join", "f", "--reduction", "fast"],
            "or with --reduction fast",
        ),
    ] {
        let out = Command::new(programs().join("demask-engine"))
            .args(arguments)
            .output()
            .unwrap();
        assert_eq!(out.status.code(), Some(1), "{arguments:?}: {}", said(&out));
        assert!(said(&out).contains(words), "{words} is missing: {}", said(&out));
    }
}
