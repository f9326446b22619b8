//! `demask slurm`: runs a profile as a job of a Slurm cluster. The batch script is printed or passed to `sbatch`.
//!
//! On one node the daemon starts the ranks itself. Over several the ranks are a job step of their own that joins the
//! daemon on the first node, and that is started again when it loses a rank. The daemon itself starts the sampling
//! engines, on its own node. Every process sees all GPUs of its node, and chooses one by its number there
//! (`engine.device`).
//!
//! The job has a daemon and a home of its own, which a requeued job finds by its job number. Before the time
//! limit Slurm sends the script a signal. The daemon then finishes its step and writes a checkpoint, the job
//! is requeued, and the run is resumed in its next turn.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, bail};
use demask_actors::profile::Profile;
use demask_api::Shard;
use serde_json::json;

use crate::args::SlurmArgs;
use crate::commands::experiment::request::anchored;
use crate::exit::{STOPPED, UsageError};
use crate::terminal::print;

/// The number of seconds before the time limit at which Slurm sends the signal.
const NOTICE: u32 = 300;
/// The most starts of the ranks in one turn of a job.
const STARTS: u32 = 100;

/// Options of sbatch that the script sets itself, or that this command refuses or has flags for.
const OURS: [&str; 9] = [
    "nodes",
    "ntasks",
    "ntasks-per-node",
    "signal",
    "requeue",
    "no-requeue",
    "gpus",
    "gpus-per-node",
    "cpus-per-task",
];

/// Prints the script, or submits it.
///
/// # Errors
/// An error if the profile or a flag is wrong, if data or a checkpoint is missing, if the ranks cannot be divided over
/// the nodes, or if `sbatch` does not exist or refuses the job.
pub fn slurm(options: &SlurmArgs) -> anyhow::Result<ExitCode> {
    if options.output.json && !options.dry_run {
        bail!(UsageError(
            "--json: only with --dry-run; what a submission prints are sbatch's own words".to_owned()
        ));
    }
    let mut set = options.set.clone();
    set.extend(options.ranks.map(|ranks| format!("engine.ranks={ranks}")));
    set.extend(options.samplers.map(samplers));
    if options.nodes > 1 {
        refuse_division(options)?;
        set.push("engine.join=true".to_owned());
    }
    let (profile, _) = anchored(&options.name, &set, options.from_scratch)?;
    refuse(options, &profile)?;
    let program = std::env::current_exe().context("the path of this program")?;
    let script = script(options, &profile, &program)?;
    if !options.dry_run {
        return submit(&script);
    }
    if options.output.json {
        print::json(&json!({
            "script": script,
            "ranks": profile.engine.ranks,
            "samplers": profile.rollouts.samplers,
            "nodes": options.nodes,
        }))?;
    } else {
        std::io::stdout().lock().write_all(script.as_bytes())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns the assignment of the number of sampling engines.
fn samplers(count: u8) -> String {
    format!("rollouts.samplers={count}")
}

/// Refuses ranks that cannot be divided evenly over several nodes.
fn refuse_division(options: &SlurmArgs) -> Result<(), UsageError> {
    let (nodes, ranks) = (options.nodes, options.ranks.map_or(0, u16::from));
    if ranks > 0 && ranks.is_multiple_of(nodes) {
        return Ok(());
    }
    Err(UsageError(format!(
        "--nodes {nodes}: a run on several nodes needs ranks that can be divided evenly among them; add --ranks {}",
        ranks.next_multiple_of(nodes).max(nodes)
    )))
}

/// Refuses GPUs that are too few for the processes of a node, or that none of them would use.
fn refuse_gpus(options: &SlurmArgs, profile: &Profile) -> Result<(), UsageError> {
    let gpus = usize::from(options.gpus);
    let ranks = ranks_of_a_node(options, profile);
    let most = ranks + profile.rollouts.samplers;
    let wrong = |why: String| Err(UsageError(format!("--gpus {gpus}: {why}")));
    match profile.engine.device.as_str() {
        _ if gpus == 0 => Ok(()),
        "cpu" => wrong("engine.device is cpu; leave --gpus out, or add --set engine.device=cuda".to_owned()),
        device if device.starts_with("cuda:") && ranks > 1 => wrong(format!(
            "engine.device is {device}, the same GPU for all of the {ranks} ranks of a node; add --set engine.device=cuda"
        )),
        _ if ranks > gpus => wrong(format!(
            "each of the {ranks} ranks of a node needs a GPU of its own; use --gpus {ranks}"
        )),
        _ if gpus > most => wrong(format!(
            "a node uses at most {most}, one for each process; use --gpus {most}"
        )),
        _ => Ok(()),
    }
}

/// Returns the number of processes of a node that train.
fn ranks_of_a_node(options: &SlurmArgs, profile: &Profile) -> usize {
    profile.engine.ranks.unwrap_or(1) / usize::from(options.nodes)
}

/// Refuses what is not supported yet instead of printing a script that would fail.
fn refuse(options: &SlurmArgs, profile: &Profile) -> anyhow::Result<()> {
    refuse_gpus(options, profile)?;
    if profile.rollouts.join {
        bail!(UsageError(
            "rollouts.join is true, but the script starts no sampling engines that join: the daemon starts them \
             itself; add --set rollouts.join=false"
                .to_owned()
        ));
    }
    for given in &options.sbatch {
        let is_option = |key: &str| {
            key.chars()
                .all(|letter| letter.is_ascii_lowercase() || letter == '-')
        };
        // Characters that would start another option, a comment or a quotation in the line that Slurm reads.
        let is_special =
            |letter: char| letter.is_control() || letter.is_whitespace() || "#'\"\\".contains(letter);
        let wrong = |why: &str| {
            UsageError(format!(
                "--sbatch {given}: {why}, expected KEY=VALUE as in time=12:00:00"
            ))
        };
        match given.split_once('=') {
            Some((key, _)) if OURS.contains(&key) => bail!(wrong("the script sets it itself")),
            Some((key, value)) if !key.is_empty() && is_option(key) && !value.contains(is_special) => {}
            Some(_) => bail!(wrong("not an option of sbatch")),
            None => bail!(wrong("no value")),
        }
    }
    Ok(())
}

fn script(options: &SlurmArgs, profile: &Profile, program: &Path) -> anyhow::Result<String> {
    let mut script = head(options, profile);
    let named = if Path::new(&options.name).is_file() {
        std::path::absolute(&options.name)?.display().to_string()
    } else {
        options.name.clone()
    };
    let mut run = format!("run {} --headless", quoted(&named));
    if let Some(ranks) = options.ranks {
        let _ = write!(run, " --ranks {ranks}");
    }
    if options.nodes > 1 {
        run += " --join";
    }
    if options.from_scratch {
        run += " --from-scratch";
    }
    for set in options.set.iter().cloned().chain(options.samplers.map(samplers)) {
        let _ = write!(run, " --set {}", quoted(&set));
    }
    let world = if options.nodes > 1 {
        world(options, profile, program)
    } else {
        String::new()
    };
    let program = quoted(&program.display().to_string());
    let _ = write!(
        script,
        r#"
set -u
# A home of the job's own, which it finds again when it was requeued.
export DEMASK_HOME="${{DEMASK_HOME:-$PWD}}/demask-$SLURM_JOB_ID"
demask={program}

# {NOTICE} seconds before the limit: the step is finished and saved, and the job waits for its next turn, unless the run is done.
limit() {{
  trap '' TERM
  "$demask" daemon stop
  wait "$follower"
  code=$?
  if [ "$code" -eq {STOPPED} ]; then scontrol requeue "$SLURM_JOB_ID"; fi
  exit "$code"
}}
{world}
if [ "${{SLURM_RESTART_COUNT:-0}}" -gt 0 ] && "$demask" runs show latest > /dev/null 2>&1; then
  "$demask" resume latest --follow &
else
  "$demask" {run} &
fi
follower=$!
trap limit TERM
wait "$follower"
code=$?
"$demask" daemon stop
exit "$code"
"#
    );
    Ok(script)
}

/// Returns the part of the script of a run over several nodes: the daemon that the ranks join, and the step that starts
/// them, again whenever one is lost.
fn world(options: &SlurmArgs, profile: &Profile, program: &Path) -> String {
    let ranks = ranks_of_a_node(options, profile);
    let engine = program.with_file_name("demask-engine");
    let engine = quoted(&engine.display().to_string());
    let threads = profile.engine.threads.unwrap_or(1);
    let mut flags = format!(
        "--device {} --dtype {} --threads {threads}",
        quoted(&profile.engine.device),
        quoted(&profile.engine.dtype),
    );
    if profile.engine.shard == Shard::Weights {
        flags += " --shard weights";
    }
    format!(
        r#"
# The ranks of all nodes join the daemon on this one; on each node there are {ranks}, and sampling engines leave them their GPUs.
export DEMASK_RANKS_HERE={ranks}
# Since Slurm 22.05 srun does not know how many cores sbatch was asked for.
export SRUN_CPUS_PER_TASK="${{SLURM_CPUS_PER_TASK:-{threads}}}"
# DEMASK_LISTEN names the address of the network between the nodes, if that of the node's name is another.
join="$DEMASK_HOME/join"
mkdir -p "$DEMASK_HOME"
"$demask" daemon start --listen "${{DEMASK_LISTEN:-$(hostname)}}" --join-file "$join" || exit 1
ranks() {{
  for start in {{1..{STARTS}}}; do
    if srun --kill-on-bad-exit=1 {engine} --join "$join" --role train {flags}; then return; fi
  done
  "$demask" daemon stop
}}
ranks &
"#
    )
}

/// Returns the lines that Slurm reads.
fn head(options: &SlurmArgs, profile: &Profile) -> String {
    let plain = |letter: char| {
        if letter.is_ascii_alphanumeric() || "-_.".contains(letter) {
            letter
        } else {
            '-'
        }
    };
    let name: String = profile.name.chars().map(plain).collect();
    let ranks = profile.engine.ranks.unwrap_or(1);
    let nodes = usize::from(options.nodes);
    let cpus = options
        .cpus
        .map_or_else(|| cpus(profile, nodes), |cpus| usize::from(cpus) / nodes);
    let (tasks, cpus) = match nodes {
        1 => ("ntasks=1".to_owned(), cpus),
        _ => {
            let tasks = ranks / nodes;
            (format!("ntasks-per-node={tasks}"), (cpus / tasks).max(1))
        }
    };
    let mut lines = vec![
        format!("job-name=demask-{name}"),
        format!("nodes={nodes}"),
        tasks,
        format!("cpus-per-task={cpus}"),
    ];
    if options.gpus > 0 {
        lines.push(format!("gpus-per-node={}", options.gpus));
    }
    lines.extend([
        "requeue".to_owned(),
        format!("signal=B:TERM@{NOTICE}"),
        "open-mode=append".to_owned(),
        format!("output=demask-{name}-%j.log"),
    ]);
    lines.extend(options.sbatch.iter().cloned());
    let mut head = "#!/bin/bash\n".to_owned();
    for line in lines {
        let _ = writeln!(head, "#SBATCH --{line}");
    }
    head
}

/// Returns the CPU cores that a node needs. Sampling engines are all on the first node, but Slurm gives every node as
/// many cores.
fn cpus(profile: &Profile, nodes: usize) -> usize {
    let each = profile.engine.threads.unwrap_or(1);
    let ranks = profile.engine.ranks.unwrap_or(1) / nodes;
    let sampling = profile.rollouts.samplers * profile.rollouts.threads.unwrap_or(each);
    // Over several nodes each rank is a task, and all tasks get as many cores.
    let tasks = if nodes > 1 { ranks } else { 1 };
    ranks * each + sampling.next_multiple_of(tasks.max(1))
}

/// Quotes a word for a shell.
fn quoted(word: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./=,:@%+".contains(letter);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Passes the script to `sbatch`, whose output is printed.
fn submit(script: &str) -> anyhow::Result<ExitCode> {
    let started = Command::new("sbatch").stdin(Stdio::piped()).spawn();
    let mut sbatch =
        started.context("cannot start sbatch, which submits jobs; --dry-run prints the script")?;
    // An sbatch that refuses the job may end before it has read the script: its exit status says more than the pipe.
    let sent = sbatch
        .stdin
        .take()
        .map_or(Ok(()), |mut stdin| stdin.write_all(script.as_bytes()));
    let status = sbatch.wait().context("sbatch")?;
    if !status.success() {
        bail!("sbatch refused the job ({status}); --dry-run prints the script");
    }
    if let Err(error) = sent {
        bail!("sbatch did not read the whole script: {error}");
    }
    Ok(ExitCode::SUCCESS)
}
