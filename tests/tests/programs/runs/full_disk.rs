//! A truly full disk: a small file system in a mount namespace of this test, or a device on which nothing has room. Skipped
//! with a message where there is neither.
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::Path;
use std::process::{Command, Output};

use demask_actors::runtime::ids;
use demask_storage::{Command as Ask, Record, Reply, RunRequest, RunState};
use demask_tests::{Place, SMOKE, ended, programs, said, subscribed, wait_for};

/// Keeps every checkpoint, which is more than the small disk holds.
const FLAGS: &str = "--set checkpoint.every_steps=1 --set checkpoint.keep=100";

/// Runs a script as the root of a mount namespace, with a file system of `mib` MiB at `$DISK`.
fn on_a_disk_of(mib: u32, script: &str) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let profile = folder.path().join("smoke.toml");
    std::fs::write(&profile, SMOKE).unwrap();
    let disk = folder.path().join("disk");
    std::fs::create_dir(&disk).unwrap();
    let script = format!("set -e; mount -t tmpfs -o size={mib}m tmpfs \"$DISK\"; {script}");
    Command::new("unshare")
        .args(["-rm", "sh", "-c", &script])
        .env("DISK", &disk)
        .env("PROFILE", &profile)
        .env("DEMASK", programs().join("demask"))
        .env("DEMASK_HOME", disk.join("home"))
        .env("FLAGS", FLAGS)
        .output()
        .unwrap()
}

fn possible() -> bool {
    Command::new("unshare")
        .args(["-rm", "true"])
        .status()
        .is_ok_and(|status| status.success())
        && on_a_disk_of(1, "true").status.success()
}

/// Starts a daemon on a disk of 24 MiB and fills it. The store keeps its space: only what needs much is refused.
const FILLED: &str = r#"
    "$DEMASK" daemon start >/dev/null
    dd if=/dev/zero of="$DISK"/filler bs=1k count=22500 2>/dev/null
"#;

/// What a run leaves that must not depend on the disk.
const RESULT: &str = r#"
    "$DEMASK" query --format csv --limit 0 "SELECT step, name, value FROM v_metric WHERE name NOT LIKE 'rate/%' ORDER BY 2, 1"
    "$DEMASK" query --format csv --limit 0 "SELECT step, stage, source, score FROM v_lineage ORDER BY 1, 2, 3, 4"
    "$DEMASK" query --format csv "SELECT suite, value, n FROM v_eval ORDER BY 1"
    "$DEMASK" query --format csv "SELECT count(*) FROM v_rollout"
    "$DEMASK" query --format csv "SELECT step, bytes FROM v_checkpoint ORDER BY step"
    "$DEMASK" daemon stop
"#;

fn text(out: &Output) -> String {
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout.clone()).unwrap()
}

/// A run waits while the disk is full and then ends with the rows of a run on a large disk.
#[test]
fn a_full_disk_holds_the_run_until_there_is_room_and_nothing_is_lost() {
    if !possible() {
        println!("skipped: no file system can be mounted here");
        return;
    }
    let run = "\"$DEMASK\" run --headless --from-scratch --profile \"$PROFILE\" $FLAGS";
    let calm = text(&on_a_disk_of(64, &format!("{run} > \"$DISK\"/said; {RESULT}")));
    let full = text(&on_a_disk_of(
        5,
        &format!(
            "{run} | while read -r line; do
                 echo \"said: $line\"
                 case \"$line\" in *waiting_disk*) mount -o remount,size=64m \"$DISK\";; esac
             done
             echo ==
             {RESULT}"
        ),
    ));
    let (said, result) = full.split_once("==\n").unwrap();
    // How long it waited, and whether the message about it was printed, depends on when space was freed.
    assert!(said.contains("waiting_disk"), "{said}");
    assert!(said.contains("done: all stages are done"), "{said}");
    assert_eq!(result, calm);
}

/// A daemon whose run waits for disk space can be stopped, and the run is resumed when there is space.
#[test]
fn a_daemon_on_a_full_disk_can_be_ended_and_goes_on_later() {
    if !possible() {
        println!("skipped: no file system can be mounted here");
        return;
    }
    let out = on_a_disk_of(
        24,
        &[
            FILLED,
            "\"$DEMASK\" run --headless --from-scratch --profile \"$PROFILE\" $FLAGS | while read -r line; do
             case \"$line\" in *waiting_disk*) \"$DEMASK\" daemon stop; break;; esac
         done
         rm \"$DISK\"/filler
         \"$DEMASK\" query --format csv \"SELECT kind FROM v_alert\"
         \"$DEMASK\" daemon start >/dev/null
         \"$DEMASK\" daemon stop
         \"$DEMASK\" query --format csv \"SELECT status, generation FROM v_run\"",
        ]
        .concat(),
    );
    let said = text(&out);
    assert!(
        said.contains("daemon stopped") && said.contains("disk_full"),
        "{said}"
    );
    assert!(said.contains("interrupted,1"), "the run is to go on: {said}");
}

/// A run that waits for disk space can be stopped. It ends without the checkpoint that has no room, says so, and does the
/// same steps again when it is resumed.
#[test]
fn l10_a_run_on_a_full_disk_can_be_stopped_and_is_resumed_from_the_checkpoint_before() {
    if !possible() {
        println!("skipped: no file system can be mounted here");
        return;
    }
    // The filler stays until the run has ended. A run that waits for room would be ended here by `timeout`.
    let out = on_a_disk_of(
        24,
        &[
            FILLED,
            "timeout 120 \"$DEMASK\" run --headless --from-scratch --profile \"$PROFILE\" $FLAGS | while read -r line; do
             case \"$line\" in *waiting_disk*) \"$DEMASK\" stop >&2 || true;; esac
         done
         \"$DEMASK\" query --format csv \"SELECT status, reason FROM v_run\"
         \"$DEMASK\" query --format csv \"SELECT message FROM v_alert WHERE kind = 'disk_full'\"
         rm \"$DISK\"/filler
         mount -o remount,size=64m \"$DISK\"
         run=$(\"$DEMASK\" query --format csv \"SELECT run FROM v_run\" | tail -n 1)
         timeout 120 \"$DEMASK\" resume \"$run\" --follow >&2
         echo ==
         \"$DEMASK\" daemon stop
         \"$DEMASK\" query --format csv \"SELECT status, generation FROM v_run\"",
        ]
        .concat(),
    );
    let said = text(&out);
    let (stopped, resumed) = said.split_once("==\n").unwrap();
    assert!(
        stopped.contains("the user stopped it; there is no checkpoint of step"),
        "{stopped}"
    );
    let told = stopped.matches("so the run ends without a checkpoint of step");
    assert_eq!(told.count(), 1, "{stopped}");
    assert!(resumed.contains("done,1"), "{resumed}");
}

/// The last checkpoint has room, but not the marker that names it as the promoted one. A run that is stopped then is not
/// done, because nobody would write the marker any more. It writes it when it is resumed.
#[tokio::test]
async fn l1_a_run_is_not_done_before_the_marker_of_its_best_checkpoint_is_written() {
    let no_room = Path::new("/dev/full");
    if !no_room.exists() {
        println!("skipped: there is no /dev/full here");
        return;
    }
    let mut place = Place::default();
    let run = ids::of_run("run").to_string();
    let folder = place.home().checkpoints(&run);
    let mut client = subscribed(&mut place).await;
    let draft = folder.join("promoted.draft");
    std::fs::create_dir_all(&folder).unwrap();
    std::os::unix::fs::symlink(no_room, &draft).unwrap();
    let asked = Ask::Run(RunRequest {
        profile: SMOKE.to_owned(),
        origin: "test".to_owned(),
        from_scratch: true,
        ..RunRequest::default()
    });
    let started = client.ask_as("run".to_owned(), asked).await.unwrap();
    assert_eq!(started, Reply::Started { run: run.clone() });
    let waits = |record: &Record| matches!(record, Record::Alert(alert) if alert.kind == "disk_full");
    wait_for(&mut client, waits).await.unwrap();
    let stop = client.ask(Ask::Stop).await.unwrap();
    assert!(matches!(stop, Reply::Accepted { .. }), "{stop:?}");
    assert_eq!(ended(&mut client).await, RunState::Stopped);
    let marker = folder.join("promoted.json");
    assert!(!marker.exists());
    std::fs::remove_file(draft).unwrap();
    let resumed = place.run(&["resume", &run, "--follow"]);
    assert!(resumed.status.success(), "{}", said(&resumed));
    assert!(marker.is_file());
    assert_eq!(place.terminate(), Some(0));
}
