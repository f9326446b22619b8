//! The same run without ranks, on one rank in both ways of sharding, and on two: the final weights by their hashes.
//!
//! Ranks divide a batch into units, whatever their number, and one process without ranks does not. Therefore a run with
//! ranks ends in other bits than one without (`engine.ranks` in the profile's schema), while any number of ranks ends
//! in the same (law L11). On a GPU the last claim has not been checked yet, and this section checks it.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Context as _;
use serde_json::Value;

use super::daemon::Daemon;
use super::{SMOKE, on_device, settings_of};
use crate::figure::Teller;
use crate::options::Options;
use crate::ranks::{failed, pair};

/// The stages of the run: supervised steps of several units, and policy steps.
const STAGES: &str = "[[stage]]\nname = \"pretrain\"\nkind = \"pretrain\"\nsteps = 4\nbatch = 21\n\
     [[stage]]\nname = \"unigrpo\"\nkind = \"align\"\nsteps = 2\nbatch = 3\ngroup = 3\nlearning_rate = 1e-4\n\
     objective = { clip = 0.2, kl = 0.01, inner_steps = 2 }\n";
/// A network whose parameters fill several chunks, so that each rank owns some.
const WIDER: [&str; 5] = [
    "--from-scratch",
    "--set",
    "model.d_model=128",
    "--set",
    "model.mlp_hidden_size=256",
];
const ONE: [&str; 2] = ["--ranks", "1"];
const TWO: [&str; 2] = ["--ranks", "2"];
const CHOSEN: [&str; 2] = ["--set", "engine.device=cuda"];
const SHARDED: [&str; 2] = ["--set", "engine.shard=weights"];

/// How a run ended.
struct Ended {
    /// The hash of the weights.
    weights: String,
    /// The loss of the last supervised step.
    loss: f64,
}

/// Runs the profile in every way and compares the ends.
///
/// # Errors
/// Returns an error if the run on one rank fails, with which all others are compared.
pub fn ranks(options: &Options, teller: &Teller) -> anyhow::Result<()> {
    let daemon = Daemon::start(options, "ranks")?;
    let one = run(&daemon, options, teller, ("--ranks 1", &ONE))?;
    let again = run(&daemon, options, teller, ("--ranks 1 again", &ONE));
    equal(teller, "L8: one rank, the same bits again", &one, again);
    let sharded = [ONE, SHARDED].concat();
    let sharded = run(&daemon, options, teller, ("--ranks 1, weights sharded", &sharded));
    equal(teller, "L11: one rank, weights sharded", &one, sharded);
    match run(&daemon, options, teller, ("without ranks", &[])) {
        Ok(plain) => {
            let same = if plain.weights == one.weights {
                "the same"
            } else {
                "other"
            };
            let note = format!("{same} bits; other ones are expected, because units round otherwise");
            let apart = (plain.loss - one.loss).abs() / one.loss.abs();
            teller.found(
                "without ranks: the last loss differs by",
                apart,
                "relative",
                &note,
            );
        }
        Err(error) => failed(teller, "without ranks", &error),
    }
    drop(daemon);
    let Some([first, second]) = pair(options)? else {
        teller.skipped("L11: two ranks", "one GPU here, and two ranks need two");
        return Ok(());
    };
    let daemon = Daemon::start(options, "two")?;
    // Two ranks on GPUs have one each, which they choose themselves.
    let own: &[&str] = if first == second { &[] } else { &CHOSEN };
    let flags = [&TWO[..], own].concat();
    let two = run(&daemon, options, teller, ("--ranks 2", &flags));
    equal(teller, "L11: two ranks", &one, two);
    let devices = daemon.column("SELECT DISTINCT device FROM v_rank ORDER BY device")?;
    let expected = BTreeSet::from([first, second]);
    let right = devices.iter().eq(&expected);
    teller.check("the devices of two ranks", right, &devices.join(", "));
    let sharded = [&TWO[..], own, &SHARDED[..]].concat();
    let two = run(&daemon, options, teller, ("--ranks 2, weights sharded", &sharded));
    equal(teller, "L11: two ranks, weights sharded", &one, two);
    Ok(())
}

fn equal(teller: &Teller, figure: &str, one: &Ended, other: anyhow::Result<Ended>) {
    match other {
        Ok(other) => {
            let right = one.weights == other.weights;
            let losses = format!("last losses {} and {}", one.loss, other.loss);
            teller.check(figure, right, if right { "the same weights" } else { &losses });
        }
        Err(error) => failed(teller, figure, &error),
    }
}

/// Runs the profile with these flags.
fn run(
    daemon: &Daemon<'_>,
    options: &Options,
    teller: &Teller,
    (name, flags): (&str, &[&str]),
) -> anyhow::Result<Ended> {
    let profile = on_device(options, &format!("{}{STAGES}", settings_of(SMOKE)));
    // A CPU's threads would divide the batch of the run without ranks.
    let profile = format!("{profile}threads = 1\n");
    let flags = [&WIDER[..], flags].concat();
    let seconds = daemon.run("ranks", &profile, &flags)?;
    teller.found(&format!("{name}: the run"), seconds, "s", "");
    let run = daemon.column("SELECT run FROM v_run ORDER BY started_us DESC LIMIT 1")?;
    let run = run.into_iter().next().context("the store knows no run")?;
    let sql = format!(
        "SELECT value FROM v_metric WHERE run = '{run}' AND name = 'train/loss' ORDER BY step DESC LIMIT 1"
    );
    let loss = daemon.column(&sql)?.into_iter().next();
    let loss = loss.and_then(|loss| loss.parse().ok());
    Ok(Ended {
        weights: weights_hash(&daemon.home().join("checkpoints").join(&run))?,
        loss: loss.context("the store has no loss of the run")?,
    })
}

/// Returns the hash of the weights of a run's last checkpoint, as its manifest says.
fn weights_hash(checkpoints: &Path) -> anyhow::Result<String> {
    let kept = std::fs::read_dir(checkpoints).with_context(|| format!("{}", checkpoints.display()))?;
    let manifests = kept.flatten().map(|entry| entry.path().join("manifest.json"));
    let last = manifests.filter(|path| path.is_file()).max();
    let last = last.with_context(|| format!("{}: no checkpoint", checkpoints.display()))?;
    let manifest: Value = serde_json::from_str(&std::fs::read_to_string(&last)?)?;
    let files = manifest["files"].as_array();
    let mut files = files.into_iter().flatten();
    let weights = files.find(|file| file["name"] == "model.safetensors");
    let hash = weights.and_then(|file| file["blake3"].as_str());
    Ok(hash
        .with_context(|| format!("{}: no hash of the weights", last.display()))?
        .to_owned())
}
