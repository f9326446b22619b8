//! Storms: runs, evaluations and whole homes are killed, suspended and starved of disk space again and again. Nothing
//! acknowledged may be lost, nothing may be done twice, and the result must be that of an undisturbed run (laws L1, L8,
//! L10).
//!
//! `tests/benches/kills.sh` builds and starts this program. A round is determined by the seed, the kind and the round's
//! number.

mod disk;
mod evaluation;
mod fire;
mod kinds;
mod stopped;

use std::process::ExitCode;
use std::time::Instant;

use demask_tests::dice::Dice;

use crate::kinds::{KINDS, Kind};

const HELP: &str = "storms [--seed N] [--first ROUND] KIND[=COUNT]...

Kinds, each 20 times unless a count is given; a line of COUNT is a kill, a stop, a full disk:
  plain             the daemon or its engine is killed at any moment of a smoke run
  lora              the same of an adapter on the shipped model
  grow              the same of a text model that is given picture codes
  promotion         the same of a run whose gate promotes and rolls back
  rewards           the same with a reward in Python, which is killed too
  ranks             the same of a run on two ranks, which are killed too
  samplers          the same of a run whose groups two sampling engines draw, which are killed too
  queue             the same of three runs that wait for one another
  first-checkpoint  killed while the first checkpoint is written
  save              killed while any checkpoint is written
  resume            killed while the run is being gone on with
  evaluation        `demask eval`, or its engine, is killed
  stop              engine, reward or daemon is stopped or hangs, and a person stops the run
  disk              the disk is full, and has room again; now and then the daemon is killed meanwhile
--first begins with a later round: `--seed 7 --first 12 save=1` does round 12 of seed 7 again.";

/// The seconds within which a user's stop must take effect, whatever hangs (law L10).
const STOP: f64 = 5.0;
/// The most rounds per requested attack; a kind that attacks nothing in so many rounds is broken.
const MOST_ROUNDS: u64 = 20;

/// The outcome of rounds.
#[derive(Debug, Default)]
pub struct Struck {
    /// The number of kills, suspensions and full disks.
    pub blows: u32,
    /// The number of acknowledged records and commands.
    pub acknowledged: usize,
    /// The peak memory of a daemon in bytes.
    pub peak: u64,
    /// The seconds from each stop to its effect.
    pub stops: Vec<f64>,
}

struct Storm {
    seed: u64,
    first: u64,
    kinds: Vec<(Kind, u32)>,
}

fn main() -> ExitCode {
    let storm = match asked(std::env::args().skip(1)) {
        Ok(storm) => storm,
        Err(wrong) => {
            eprintln!("storms: {wrong}\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    println!("seed {}", storm.seed);
    let mut failed = 0;
    for &(kind, count) in &storm.kinds {
        failed += if kind == Kind::Disk && !disk::is_inside() {
            disk::inside(storm.seed, storm.first, count)
        } else {
            rage(&storm, kind, count)
        };
    }
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Executes rounds of a kind until there were enough attacks; returns the number of failures.
fn rage(storm: &Storm, kind: Kind, count: u32) -> u32 {
    let begun = Instant::now();
    let calm = kinds::calm(kind);
    let (mut total, mut failed, mut round) = (Struck::default(), 0, storm.first);
    while total.blows < count {
        if round - storm.first >= MOST_ROUNDS * u64::from(count) {
            println!("{}: {round} rounds struck too little", kind.name());
            failed += 1;
            break;
        }
        let left = count - total.blows;
        let did = std::panic::catch_unwind(|| {
            let mut dice = Dice::new(storm.seed ^ (round << 32) ^ ((kind as u64) << 56));
            kinds::round(kind, &mut dice, left, &calm)
        });
        let Ok(did) = did else {
            println!("{} round {round}: FAILED", kind.name());
            // A broken kind may attack nothing; it must not run endlessly.
            (failed, total.blows, round) = (failed + 1, total.blows + 1, round + 1);
            continue;
        };
        total.blows += did.blows;
        total.acknowledged += did.acknowledged;
        total.peak = total.peak.max(did.peak);
        total.stops.extend(did.stops);
        round += 1;
    }
    total.stops.sort_by(f64::total_cmp);
    let stops = match (total.stops.first(), total.stops.last()) {
        (Some(least), Some(most)) => {
            let within = total.stops.iter().filter(|&&seconds| seconds <= STOP).count();
            // L10: a stop that takes effect late is a failure.
            failed += u32::try_from(total.stops.len() - within).unwrap_or(u32::MAX);
            let median = total.stops[total.stops.len() / 2];
            format!(
                "; {within} of {} stops within {STOP} s: {least:.2} to {most:.2} s, median {median:.2}",
                total.stops.len()
            )
        }
        _ => String::new(),
    };
    println!(
        "{}: {} of {count} blows in {} rounds, {failed} failed; {} records and orders acknowledged; daemon at most {:.0} MB; {:.0} s{stops}",
        kind.name(),
        total.blows,
        round - storm.first,
        total.acknowledged,
        total.peak as f64 / 1e6,
        begun.elapsed().as_secs_f64(),
    );
    failed
}

fn asked(mut arguments: impl Iterator<Item = String>) -> Result<Storm, String> {
    let mut storm = Storm {
        seed: 1,
        first: 0,
        kinds: Vec::new(),
    };
    while let Some(word) = arguments.next() {
        let number = |text: &str| {
            text.parse::<u64>()
                .map_err(|_| format!("{text}: expected a number"))
        };
        let mut value = || arguments.next().ok_or(format!("{word} needs a number"));
        match word.as_str() {
            "--help" => {
                println!("{HELP}");
                std::process::exit(0);
            }
            "--seed" => storm.seed = number(&value()?)?,
            "--first" => storm.first = number(&value()?)?,
            _ => {
                let (name, count) = word.split_once('=').unwrap_or((&word, "20"));
                let kind = KINDS.into_iter().find(|kind| kind.name() == name);
                let kind = kind.ok_or(format!("{name}: no such kind"))?;
                let count = u32::try_from(number(count)?).map_err(|error| error.to_string())?;
                storm.kinds.push((kind, count));
            }
        }
    }
    if storm.kinds.is_empty() {
        return Err("which kind?".into());
    }
    Ok(storm)
}
