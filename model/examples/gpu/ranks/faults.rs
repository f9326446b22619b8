//! How long it takes until a rank notices that a peer is missing, and how it ends.

use std::process::ExitStatus;
use std::time::{Duration, Instant};

use anyhow::bail;
use demask_model::world::{Membership, World, exit};

use super::peers::Peers;
use super::scenes::{BUSY, LATE, LEAVES, LIMIT, MEET, ROUNDS};
use super::{alone, failed, pair};
use crate::figure::Teller;
use crate::options::Options;
use crate::programs::Home;

/// How long a world of one waits for its second rank.
const ABSENT: Duration = Duration::from_secs(2);
/// How long a rank may take to start, with its device.
const STARTING: Duration = Duration::from_secs(60);
/// How long the end of a rank is waited for: the limit of its call, and what the system takes to end the process.
const ENDING: Duration = Duration::from_secs(45);

type Check = fn(&Options, &Teller) -> anyhow::Result<()>;

/// Runs every check. One that fails stops no other.
///
/// # Errors
/// Returns none: errors are figures.
pub fn peers(options: &Options, teller: &Teller) -> anyhow::Result<()> {
    let checks: [(&str, Check); 5] = [
        ("a peer that never comes", never_comes),
        ("a call behind endless work", late),
        ("a rank that leaves", leaves),
        ("two ranks on one GPU", one_device),
        ("a peer that is lost", lost),
    ];
    for (name, check) in checks {
        if let Err(error) = check(options, teller) {
            failed(teller, name, &error);
        }
    }
    Ok(())
}

fn never_comes(options: &Options, teller: &Teller) -> anyhow::Result<()> {
    let device = options.place("auto")?.device;
    let home = Home::fresh("absent")?;
    let member = Membership {
        size: 2,
        ..alone(home.path())
    };
    let began = Instant::now();
    let Err(error) = World::join_within(member, device, ABSENT, ABSENT) else {
        bail!("a process alone joined a world of two");
    };
    let note = format!("its limit is {} s", ABSENT.as_secs());
    let seconds = began.elapsed().as_secs_f64();
    teller.found("a peer that never comes, noticed after", seconds, "s", &note);
    let words = error.to_string();
    let right = words.contains("not all of 2 ranks joined");
    teller.check("it is told in words", right, &words);
    Ok(())
}

/// A world of one whose call waits for work that takes much longer than the call's time limit, as if for a peer that
/// hangs. It takes no second GPU to see whether the watch over NCCL's calls keeps the limit.
fn late(options: &Options, teller: &Teller) -> anyhow::Result<()> {
    const NAME: &str = "a call that is late ends its process";
    if options.device == "cpu" {
        teller.skipped(NAME, "a CPU has no queue of work");
        return Ok(());
    }
    let mut peers = Peers::start(options, LATE, std::slice::from_ref(&options.device))?;
    peers.wait_for_mark(0, STARTING)?;
    let began = Instant::now();
    let ended = peers.end(0, ENDING)?;
    let seconds = began.elapsed().as_secs_f64();
    let note = format!(
        "its limit is {} s, the work takes {} s",
        LIMIT.as_secs(),
        BUSY.as_secs()
    );
    teller.found("a call that is late, noticed after", seconds, "s", &note);
    let right = has_lost(ended);
    let how = ended.map_or("it did not end".to_owned(), |status| status.to_string());
    teller.check(NAME, right, &format!("{how}: {}", peers.words(0)));
    Ok(())
}

/// A rank that gives its world up ends at once, although its call and the work before it are under way.
fn leaves(options: &Options, teller: &Teller) -> anyhow::Result<()> {
    let mut peers = Peers::start(options, LEAVES, std::slice::from_ref(&options.device))?;
    peers.wait_for_mark(0, STARTING)?;
    let began = Instant::now();
    let ended = peers.end(0, ENDING)?;
    let seconds = began.elapsed().as_secs_f64();
    teller.found(
        "a rank that leaves, gone after",
        seconds,
        "s",
        "with a call under way",
    );
    let right = has_lost(ended);
    let how = ended.map_or("it did not end".to_owned(), |status| status.to_string());
    teller.check("its exit code says why", right, &how);
    Ok(())
}

/// Returns whether a rank ended with the code of a lost peer, which has its world started again.
fn has_lost(ended: Option<ExitStatus>) -> bool {
    ended.and_then(|status| status.code()) == Some(exit::PEER_LOST)
}

/// Two ranks on one GPU are refused by both, with the GPU's identity, before NCCL is asked.
fn one_device(options: &Options, teller: &Teller) -> anyhow::Result<()> {
    const NAME: &str = "two ranks on one GPU are refused";
    if options.device == "cpu" {
        teller.skipped(NAME, "ranks on a CPU share it");
        return Ok(());
    }
    let device = || options.device.clone();
    let mut peers = Peers::start(options, MEET, &[device(), device()])?;
    let began = Instant::now();
    let ends = [peers.end(0, STARTING)?, peers.end(1, ENDING)?];
    let seconds = began.elapsed().as_secs_f64();
    let note = peers.words(0);
    teller.found("two ranks on one GPU, ended after", seconds, "s", "");
    // A restart would not help, so the code is not that of a lost peer.
    let have_ended = ends.iter().flatten().filter(|status| !status.success()).count() == 2;
    let right = have_ended && note.contains("have the same GPU") && !ends.into_iter().any(has_lost);
    teller.check(NAME, right, &note);
    Ok(())
}

/// Two ranks make calls until one of them is killed or suspended. The other one is to end within its time limit.
fn lost(options: &Options, teller: &Teller) -> anyhow::Result<()> {
    for (word, signal) in [("killed", libc::SIGKILL), ("suspended", libc::SIGSTOP)] {
        let name = format!("a peer that is {word}");
        let Some(devices) = pair(options)? else {
            teller.skipped(&name, "one GPU here, and two ranks need two");
            continue;
        };
        let mut peers = Peers::start(options, ROUNDS, &devices)?;
        for rank in [0, 1] {
            peers.wait_for_mark(rank, STARTING)?;
        }
        peers.signal(1, signal)?;
        let began = Instant::now();
        let ended = peers.end(0, ENDING)?;
        let seconds = began.elapsed().as_secs_f64();
        let note = format!("the limit of a call is {} s", LIMIT.as_secs());
        teller.found(&format!("{name}, noticed after"), seconds, "s", &note);
        let how = ended.map_or("it did not end".to_owned(), |status| status.to_string());
        let right = has_lost(ended);
        teller.check(
            &format!("{name}: the other ends"),
            right,
            &format!("{how}: {}", peers.words(0)),
        );
    }
    Ok(())
}
