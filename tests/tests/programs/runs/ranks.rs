//! Law L11: a run whose steps several processes compute together ends with the weights of a single process, bit for
//! bit, even if one of the processes is killed (L1).
#![allow(clippy::unwrap_used, missing_docs)]

use demask_storage::{Command as Ask, Record, RunState};
use demask_tests::processes::children;
use demask_tests::profile::smoke;
use demask_tests::store::rows_as_csv;
use demask_tests::weights::{last_checkpoint, tensor_hashes};
use demask_tests::{Place, start, wait_for};

/// Returns a profile whose network spans several chunks of parameters and whose batches have several units of
/// work.
fn profile(ranks: usize, shard: &str) -> String {
    let (ranks, shard) = (format!("engine.ranks={ranks}"), format!("engine.shard={shard}"));
    smoke(&[
        "model.d_model=128",
        "model.mlp_hidden_size=256",
        "stage.1.batch=21",
        "stage.3.batch=12",
        &ranks,
        &shard,
    ])
}

/// Kills a rank of the daemon's engine; false if there is none at the moment.
fn kill(daemon: i32, rank: usize) -> bool {
    let variable = format!("RANK={rank}");
    let is_it = |&pid: &i32| {
        let variables = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        variables
            .split(|&byte| byte == 0)
            .any(|one| one == variable.as_bytes())
    };
    let Some(pid) = children(daemon).into_iter().find(is_it) else {
        return false;
    };
    // SAFETY: sends a signal and touches no memory.
    unsafe { libc::kill(pid, libc::SIGKILL) == 0 }
}

/// Runs the profile on `ranks` ranks that shard the state or the weights, as `shard` says, and kills rank
/// `killed` after the first checkpoint if one is given. Returns the hashes of the final tensors, and the
/// events about engines that died.
async fn run(ranks: usize, shard: &str, killed: Option<usize>) -> (Vec<String>, String) {
    let mut place = Place::default();
    let mut client = place.serve().await;
    client.ask(Ask::Subscribe { since: 0 }).await.unwrap();
    let run = start(&mut client, &profile(ranks, shard)).await;
    if let Some(rank) = killed {
        wait_for(&mut client, |record| matches!(record, Record::Checkpoint(_)))
            .await
            .unwrap();
        assert!(
            kill(i32::try_from(place.pid().unwrap()).unwrap(), rank),
            "rank {rank}"
        );
    }
    let end = wait_for(&mut client, |record| matches!(record, Record::RunEnd(_)))
        .await
        .unwrap();
    assert!(
        matches!(&end.record, Record::RunEnd(end) if end.status == RunState::Done),
        "{end:?}"
    );
    assert_eq!(place.terminate(), Some(0), "SIGTERM exits 0");
    let sql = "SELECT body FROM v_event WHERE kind = 'lifecycle' AND body LIKE '%the engine died%'";
    (
        tensor_hashes(&last_checkpoint(place.path(), &run)),
        rows_as_csv(&place, sql),
    )
}

#[tokio::test]
async fn l1_l11_any_number_of_ranks_ends_in_the_same_weights_and_so_does_one_that_lost_a_rank() {
    let (alone, _) = run(1, "state", None).await;
    for (ranks, shard) in [(2, "state"), (3, "state"), (2, "weights"), (3, "weights")] {
        assert_eq!(run(ranks, shard, None).await.0, alone, "{ranks} ranks, {shard}");
    }
    for (killed, shard) in [(1, "state"), (0, "state"), (1, "weights")] {
        let (hashes, deaths) = run(2, shard, Some(killed)).await;
        assert_eq!(hashes, alone, "rank {killed} killed, {shard}");
        assert!(deaths.lines().count() > 1, "nobody died: {deaths}");
    }
}
