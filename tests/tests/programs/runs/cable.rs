//! Engines that joined, behind a cable that falls silent: no connection closes, and nothing arrives; and a machine that is
//! gone for good (laws L1, L10, L11). `benches/cable.sh` pulls the cables of whole nodes, which needs root.
#![allow(clippy::unwrap_used, missing_docs)]

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;

use demask_actors::profile::Profile;
use demask_api::JoinFile;
use demask_storage::RunState;
use demask_tests::profile::smoke_with_stages;
use demask_tests::weights::{last_checkpoint, tensor_hashes};
use demask_tests::{Place, ended, start, until};

use super::join::{
    ByHand, altered, awaited, by_the_daemon, done, first_checkpoint, log, profile, subscribed,
};

/// A cable between engines and the daemon. Connections that were open when it fell silent stay silent for ever, as they
/// do where a firewall has forgotten them.
struct Cable {
    port: u16,
    /// The number of changes: odd while it is silent.
    changes: Arc<AtomicUsize>,
}

impl Cable {
    /// Lays a cable to the daemon of a join file.
    fn to(file: &JoinFile) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let changes = Arc::new(AtomicUsize::new(0));
        let (host, daemon, seen) = (file.host.clone(), file.port, Arc::clone(&changes));
        thread::spawn(move || {
            for near in listener.incoming() {
                let born = seen.load(SeqCst);
                let (Ok(near), Ok(far)) = (near, TcpStream::connect((host.as_str(), daemon))) else {
                    return;
                };
                for (from, to) in [(&near, &far), (&far, &near)] {
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    let seen = Arc::clone(&seen);
                    thread::spawn(move || pass(from, to, || born & 1 == 0 && seen.load(SeqCst) == born));
                }
            }
        });
        Self { port, changes }
    }

    /// Makes it silent, or lets new connections pass again.
    fn change(&self) {
        self.changes.fetch_add(1, SeqCst);
    }
}

/// Passes bytes on while the cable carries them, and swallows them afterwards, with the end of the connection.
fn pass(mut from: TcpStream, mut to: TcpStream, is_whole: impl Fn() -> bool) {
    let mut bytes = [0; 16 * 1024];
    loop {
        let count = from.read(&mut bytes).unwrap_or(0);
        if count == 0 {
            if is_whole() {
                to.shutdown(Shutdown::Both).ok();
                from.shutdown(Shutdown::Both).ok();
            }
            return;
        }
        if is_whole() && to.write_all(&bytes[..count]).is_err() {
            return;
        }
    }
}

/// Returns a cable to the daemon of a place, and the join file of engines behind it.
fn laid(place: &Place) -> (Cable, std::path::PathBuf) {
    let cable = Cable::to(&JoinFile::read(&place.join_file()).unwrap());
    let file = altered(place, |file| {
        file.host = "127.0.0.1".to_owned();
        file.port = cable.port;
    });
    (cable, file)
}

#[tokio::test]
async fn l1_l10_l11_a_world_behind_a_silent_cable_leaves_by_itself_and_the_run_goes_on_with_the_next() {
    let expected = by_the_daemon(&profile(false, "state")).await;
    let mut place = Place::default();
    let (mut events, mut questions) = subscribed(&mut place).await;
    let run = start(&mut events, &profile(true, "state")).await;
    awaited(&mut questions, "is waiting for a world of 2 ranks").await;
    let (cable, file) = laid(&place);
    let mut world = ByHand::world(&place, &file, 2, &["--patience", "10"]);
    first_checkpoint(&mut events).await;
    cable.change();
    awaited(&mut questions, "is waiting for a world of 2 ranks").await;
    assert_eq!(world.codes(), [Some(75); 2], "both ask to be started again");
    let words = log(&place, "rank-0.log");
    assert!(words.contains("could not be reached within 10 s"), "{words}");
    let mut world = ByHand::world(&place, &place.join_file(), 2, &[]);
    done(&place, &mut events, &mut world).await;
    assert_eq!(place.terminate(), Some(0), "SIGTERM exits 0");
    assert_eq!(tensor_hashes(&last_checkpoint(place.path(), &run)), expected);
}

#[tokio::test]
async fn l1_l8_l10_a_sampling_engine_behind_a_silent_cable_comes_back_by_itself() {
    let rollouts = |join: bool| {
        smoke_with_stages(&format!(
            "[rollouts]\nsamplers = 1\nstaleness = 1\nthreads = 1\njoin = {join}\n\
             [[stage]]\nname = \"pretrain\"\nkind = \"pretrain\"\nsteps = 2\nbatch = 4\n\
             [[stage]]\nname = \"unigrpo\"\nkind = \"align\"\nsteps = 9\nbatch = 3\ngroup = 3\nlearning_rate = 1e-3\n"
        ))
    };
    let expected = by_the_daemon(&rollouts(false)).await;
    let mut place = Place::default();
    let (mut events, _) = subscribed(&mut place).await;
    let run = start(&mut events, &rollouts(true)).await;
    let (cable, file) = laid(&place);
    let engine = ByHand::engine(&place, &file, "sampler", &["--role", "sample"], &[]);
    let mut engines = ByHand(vec![engine]);
    first_checkpoint(&mut events).await;
    cable.change();
    let waits = "the run is waiting for a sampling engine to join";
    until("the sampling engine is missed", || {
        log(&place, "daemon.out").matches(waits).count() >= 2
    })
    .await;
    cable.change();
    let words = || [log(&place, "daemon.out"), log(&place, "sampler.log")].concat();
    assert_eq!(ended(&mut events).await, RunState::Done, "{}", words());
    assert_eq!(engines.codes(), [Some(0)], "{}", words());
    let joined = log(&place, "sampler.log").matches("joined the daemon at").count();
    assert_eq!(joined, 2, "{}", words());
    assert_eq!(place.terminate(), Some(0), "SIGTERM exits 0");
    assert_eq!(tensor_hashes(&last_checkpoint(place.path(), &run)), expected);
}

#[tokio::test]
async fn l11_a_run_whose_machine_is_gone_for_good_goes_on_with_a_smaller_world_where_it_may() {
    let expected = by_the_daemon(&profile(false, "state")).await;
    let least = ["engine.min_ranks=1".to_owned()];
    let profile = Profile::set(&profile(true, "state"), "smaller", &least).unwrap();
    let mut place = Place::default();
    let (mut events, mut questions) = subscribed(&mut place).await;
    let run = start(&mut events, &profile).await;
    let waits = "is waiting for a world of 1 to 2 ranks";
    awaited(&mut questions, waits).await;
    let file = place.join_file();
    let mut world = ByHand::world(&place, &file, 2, &[]);
    first_checkpoint(&mut events).await;
    world.kill(1);
    assert_eq!(world.codes(), [Some(75), None]);
    awaited(&mut questions, waits).await;
    let mut world = ByHand::world(&place, &file, 1, &[]);
    let words = || log(&place, "daemon.out");
    assert_eq!(ended(&mut events).await, RunState::Done, "{}", words());
    assert_eq!(world.codes(), [Some(0)], "{}", words());
    assert!(words().contains("has 1 of 2 ranks"), "{}", words());
    assert_eq!(place.terminate(), Some(0), "SIGTERM exits 0");
    assert_eq!(tensor_hashes(&last_checkpoint(place.path(), &run)), expected);
}
