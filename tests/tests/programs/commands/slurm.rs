//! `demask slurm`: the job script is valid shell, executes the run and continues it after a requeue. What the
//! script does not support is refused.
#![allow(clippy::unwrap_used)]

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use demask_tests::profile::smoke;
use demask_tests::weights::{last_checkpoint, tensor_hashes};
use demask_tests::{Place, said};
use serde_json::Value;

fn script(place: &Place, arguments: &[&str]) -> String {
    let out = place.run(&[&["slurm"], arguments, &["--dry-run"]].concat());
    assert!(out.status.success(), "{}", said(&out));
    String::from_utf8(out.stdout).unwrap()
}

/// The job script requests the processors, GPUs and requeueing that the run needs, and passes the run's
/// flags on with shell quoting.
#[test]
fn the_script_asks_for_what_the_run_takes() {
    let place = Place::default();
    let text = script(
        &place,
        &[
            "tabletop",
            "--ranks",
            "4",
            "--sbatch",
            "time=12:00:00",
            "--set",
            "engine.threads=3",
            "--set",
            "name=it's mine",
        ],
    );
    for line in [
        "#!/bin/bash",
        "#SBATCH --job-name=demask-it-s-mine",
        "#SBATCH --nodes=1",
        "#SBATCH --cpus-per-task=12",
        "#SBATCH --requeue",
        "#SBATCH --signal=B:TERM@300",
        "#SBATCH --time=12:00:00",
    ] {
        assert!(
            text.lines().any(|found| found == line),
            "{line} is missing: {text}"
        );
    }
    assert!(
        text.contains(r"run tabletop --headless --ranks 4 --set engine.threads=3 --set 'name=it'\''s mine'"),
        "{text}"
    );
    assert!(script(&place, &["tabletop", "--gpus", "1"]).contains("#SBATCH --gpus-per-node=1\n"));
    let told = place.run(&["slurm", "tabletop", "--dry-run", "--json"]);
    let told: Value = serde_json::from_slice(&told.stdout).unwrap();
    assert!(
        told["script"]
            .as_str()
            .unwrap()
            .starts_with("#!/bin/bash\n#SBATCH")
    );
}

#[test]
fn what_is_not_there_is_refused() {
    let place = Place::default();
    for (arguments, words) in [
        (&["--nodes", "2"][..], "divided evenly among them; add --ranks 2"),
        (
            &["--nodes", "2", "--ranks", "5"],
            "divided evenly among them; add --ranks 6",
        ),
        (&["--gpus", "2"], "a node uses at most 1, one for each process"),
        (
            &["--gpus", "1", "--ranks", "2"],
            "each of the 2 ranks of a node needs a GPU of its own; use --gpus 2",
        ),
        (
            &["--gpus-per-node", "2", "--ranks", "6", "--nodes", "2"],
            "each of the 3 ranks of a node needs a GPU of its own; use --gpus 3",
        ),
        (
            &["--gpus", "1", "--set", "engine.device=cpu"],
            "engine.device is cpu",
        ),
        (
            &["--gpus", "2", "--ranks", "2", "--set", "engine.device=cuda:0"],
            "the same GPU for all of the 2 ranks of a node",
        ),
        (
            &["--samplers", "1", "--set", "rollouts.join=true"],
            "add --set rollouts.join=false",
        ),
        (&["--sbatch", "ntasks-per-node=2"], "the script sets it itself"),
        (&["--sbatch", "nodes=2"], "the script sets it itself"),
        (&["--sbatch", "comment=x --nodes=2"], "not an option of sbatch"),
        (&["--sbatch", "time"], "expected KEY=VALUE"),
        (&["--sbatch", "ti me=1"], "not an option of sbatch"),
        (&["--sbatch", "time=1\nrm -r /"], "not an option of sbatch"),
        (&["--set", "seed=-1"], "seed"),
        (&["--set", "start_from=nowhere"], "start_from is nowhere"),
    ] {
        let out = place.run(&[&["slurm", "tabletop", "--dry-run"], arguments].concat());
        assert_eq!(out.status.code(), Some(2), "{arguments:?}: {}", said(&out));
        assert!(said(&out).contains(words), "{words} is missing: {}", said(&out));
    }
    // What sbatch prints of a submission is no JSON.
    let submitted = place.run(&["slurm", "tabletop", "--json"]);
    assert_eq!(submitted.status.code(), Some(2), "{}", said(&submitted));
    assert!(
        said(&submitted).contains("--json: only with --dry-run"),
        "{}",
        said(&submitted)
    );
}

/// An sbatch that ends without having read the script is a failure, as is one that says so after it.
#[test]
fn an_sbatch_that_does_not_take_the_job_is_told() {
    let place = Place::default();
    let sbatch = place.path().join("sbatch");
    // The script is longer than a pipe holds, so that writing it fails once sbatch has ended.
    let long = format!("comment={}", "a".repeat(100_000));
    for (says, words) in [
        ("exec <&-; exit 3", "sbatch refused the job (exit status: 3)"),
        ("exec <&-; exit 0", "did not read the whole script"),
        (
            "cat > /dev/null; exit 4",
            "sbatch refused the job (exit status: 4)",
        ),
    ] {
        std::fs::write(&sbatch, format!("#!/bin/sh\n{says}\n")).unwrap();
        std::fs::set_permissions(&sbatch, std::fs::Permissions::from_mode(0o755)).unwrap();
        let path = format!("{}:{}", place.path().display(), std::env::var("PATH").unwrap());
        let out = place
            .demask(&["slurm", "tabletop", "--sbatch", &long])
            .env("PATH", path)
            .output()
            .unwrap();
        assert_eq!(out.status.code(), Some(1), "{says}: {}", said(&out));
        assert!(said(&out).contains(words), "{says}: {}", said(&out));
    }
}

/// Over several nodes the ranks are tasks of a step that joins the daemon on the first node.
#[test]
fn the_script_of_several_nodes_starts_ranks_that_join() {
    let place = Place::default();
    let nodes = [
        "tabletop",
        "--nodes",
        "2",
        "--ranks",
        "8",
        "--set",
        "engine.threads=3",
    ];
    let text = script(&place, &[&nodes[..], &["--set", "engine.shard=weights"]].concat());
    for line in [
        "#SBATCH --nodes=2",
        "#SBATCH --ntasks-per-node=4",
        "#SBATCH --cpus-per-task=3",
        // Without it each rank would have a single core.
        r#"export SRUN_CPUS_PER_TASK="${SLURM_CPUS_PER_TASK:-3}""#,
        r#"join="$DEMASK_HOME/join""#,
        r#""$demask" daemon start --listen "${DEMASK_LISTEN:-$(hostname)}" --join-file "$join" || exit 1"#,
    ] {
        assert!(
            text.lines().any(|found| found == line),
            "{line} is missing: {text}"
        );
    }
    for part in [
        "if srun --kill-on-bad-exit=1 ",
        r#"/demask-engine --join "$join" --role train --device auto --dtype auto --threads 3 --shard weights;"#,
        "run tabletop --headless --ranks 8 --join --set engine.threads=3",
    ] {
        assert!(text.contains(part), "{part} is missing: {text}");
    }
    assert!(!script(&place, &["tabletop", "--ranks", "8"]).contains("join"));
}

/// A node has a GPU for each of its ranks, and those for sampling engines besides. Each process chooses its own by its
/// number, so the script divides nothing.
#[test]
fn the_script_asks_for_the_gpus_of_a_node() {
    let place = Place::default();
    for (arguments, lines) in [
        (
            &["--ranks", "4", "--gpus", "4"][..],
            &["#SBATCH --ntasks=1", "#SBATCH --gpus-per-node=4"][..],
        ),
        (
            &["--ranks", "8", "--nodes", "2", "--gpus-per-node", "4"],
            &[
                "#SBATCH --ntasks-per-node=4",
                "#SBATCH --gpus-per-node=4",
                "export DEMASK_RANKS_HERE=4",
            ],
        ),
        (
            &["--ranks", "8", "--nodes", "2", "--samplers", "2", "--gpus", "6"],
            &["#SBATCH --ntasks-per-node=4", "#SBATCH --gpus-per-node=6"],
        ),
        (
            &["--samplers", "2", "--gpus", "3"],
            &["#SBATCH --gpus-per-node=3"],
        ),
    ] {
        let text = script(&place, &[&["tabletop"][..], arguments].concat());
        for line in lines {
            assert!(
                text.lines().any(|found| found == *line),
                "{line} is missing: {text}"
            );
        }
        assert!(!text.contains("CUDA_VISIBLE_DEVICES"), "{text}");
    }
    assert!(!script(&place, &["tabletop", "--ranks", "4"]).contains("gpus-per-node"));
}

/// The daemon starts the sampling engines, on its node, so the job needs cores for them and the run their number.
#[test]
fn the_script_samples_with_as_many_engines_as_asked() {
    let place = Place::default();
    let asked = ["tabletop", "--samplers", "3", "--set", "engine.threads=2"];
    for (arguments, lines, run) in [
        (
            &[] as &[&str],
            ["#SBATCH --ntasks=1", "#SBATCH --cpus-per-task=8"],
            "run tabletop --headless --set engine.threads=2 --set rollouts.samplers=3",
        ),
        (
            &["--ranks", "4", "--set", "rollouts.threads=1"],
            ["#SBATCH --ntasks=1", "#SBATCH --cpus-per-task=11"],
            "--set rollouts.threads=1 --set rollouts.samplers=3",
        ),
        (
            &["--ranks", "4", "--nodes", "2"],
            ["#SBATCH --ntasks-per-node=2", "#SBATCH --cpus-per-task=5"],
            "run tabletop --headless --ranks 4 --join --set engine.threads=2 --set rollouts.samplers=3",
        ),
    ] {
        let text = script(&place, &[&asked[..], arguments].concat());
        for line in lines {
            assert!(
                text.lines().any(|found| found == line),
                "{line} is missing: {text}"
            );
        }
        assert!(text.contains(run), "{run} is missing: {text}");
        assert!(!text.contains("--role sample"), "{text}");
    }
}

/// The number of the job. Ranks that srun starts meet at a port that is derived from it.
fn job_id() -> u32 {
    std::process::id()
}

/// Starts the job script in a simulated cluster environment: the job's number, the number of requeues, and an
/// `scontrol` that logs its arguments.
fn job(folder: &Path, restarts: u32) -> Child {
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
    Command::new("bash")
        .arg(folder.join("job.sh"))
        .current_dir(folder)
        .env("DEMASK_HOME", folder)
        .envs([
            ("PATH", path.as_str()),
            ("SLURM_JOB_ID", &job_id().to_string()),
            ("SLURM_RESTART_COUNT", &restarts.to_string()),
            ("DEMASK_LISTEN", "127.0.0.1"),
        ])
        .stdin(Stdio::null())
        .stdout(
            std::fs::File::options()
                .create(true)
                .append(true)
                .open(folder.join("job.log"))
                .unwrap(),
        )
        .stderr(
            std::fs::File::options()
                .create(true)
                .append(true)
                .open(folder.join("job.log"))
                .unwrap(),
        )
        .spawn()
        .unwrap()
}

/// An `srun` that starts two tasks on this machine, as if each were on a node of its own.
const SRUN: &str = r#"#!/bin/bash
shift
tasks=()
for rank in 0 1; do
  SLURM_PROCID=$rank SLURM_NTASKS=2 SLURM_LOCALID=0 SLURM_JOB_NODELIST=127.0.0.1 "$@" &
  tasks+=($!)
done
code=0
for task in "${tasks[@]}"; do wait "$task" || code=$?; done
exit "$code"
"#;

fn prepared(place: &Place, nodes: &str, more: &[&str]) {
    let profile = place.path().join("smoke.toml");
    std::fs::write(&profile, smoke(&["stage.0.steps=6", "checkpoint.every_steps=2"])).unwrap();
    let arguments = [
        profile.to_str().unwrap(),
        "--nodes",
        nodes,
        "--ranks",
        "2",
        "--from-scratch",
    ];
    let text = script(place, &[&arguments[..], more].concat());
    std::fs::write(place.path().join("job.sh"), text).unwrap();
    for (name, program) in [
        ("scontrol", "#!/bin/sh\necho \"$@\" >> scontrol.log\n"),
        ("srun", SRUN),
    ] {
        let path = place.path().join(name);
        std::fs::write(&path, program).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
}

fn home(place: &Place) -> std::path::PathBuf {
    place.path().join(format!("demask-{}", job_id()))
}

/// Returns the hashes of the tensors in the last checkpoint of the job's home.
fn ended(place: &Place) -> Vec<String> {
    let home = home(place);
    let runs = home.join("checkpoints");
    let run = std::fs::read_dir(runs)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .file_name();
    tensor_hashes(&last_checkpoint(&home, run.to_str().unwrap()))
}

fn log(place: &Place) -> String {
    std::fs::read_to_string(place.path().join("job.log")).unwrap_or_default()
}

/// A job that gets SIGTERM before its time limit saves, requeues itself, and continues in its next start to
/// the tensors of an uninterrupted job (L1, L8).
#[test]
fn l1_l8_a_job_that_meets_its_time_limit_goes_on_behind_it_as_if_there_had_been_none() {
    let place = Place::default();
    prepared(&place, "1", &[]);
    assert!(job(place.path(), 0).wait().unwrap().success(), "{}", log(&place));
    for nodes in ["1", "2"] {
        assert_eq!(limited(nodes), ended(&place), "{nodes} nodes");
    }
}

/// Runs a job over so many nodes that meets its time limit, and its next turn. A sampling engine draws its groups.
/// Returns the hashes of the final tensors.
fn limited(nodes: &str) -> Vec<String> {
    let other = Place::default();
    prepared(&other, nodes, &["--samplers", "1"]);
    let mut first = job(other.path(), 0);
    // The time limit is reached once something is saved.
    let home = home(&other).join("checkpoints");
    let is_saved = || {
        std::fs::read_dir(&home)
            .into_iter()
            .flatten()
            .flatten()
            .any(|run| {
                let kept = std::fs::read_dir(run.path()).into_iter().flatten().flatten();
                kept.into_iter()
                    .any(|folder| folder.path().join("manifest.json").is_file())
            })
    };
    while !is_saved() {
        assert!(
            first.try_wait().unwrap().is_none(),
            "it ended before: {}",
            log(&other)
        );
        std::thread::yield_now();
    }
    let pid = i32::try_from(first.id()).unwrap();
    // SAFETY: sends a signal and touches no memory.
    assert_eq!(unsafe { libc::kill(pid, libc::SIGTERM) }, 0);
    assert_eq!(first.wait().unwrap().code(), Some(3), "{}", log(&other));
    assert_eq!(
        std::fs::read_to_string(other.path().join("scontrol.log")).unwrap(),
        format!("requeue {}\n", job_id()),
        "{}",
        log(&other)
    );
    assert!(job(other.path(), 1).wait().unwrap().success(), "{}", log(&other));
    ended(&other)
}
