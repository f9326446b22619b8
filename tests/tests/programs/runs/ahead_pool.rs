//! The sampling engines draw the items of benchmarks and the traces of reasoning, through the built programs: the rows
//! are those of a run without them.
#![allow(clippy::unwrap_used, missing_docs)]

use demask_storage::{Record, RunState};
use demask_tests::processes::sampling_engines;
use demask_tests::profile::smoke_with_stages;
use demask_tests::store::rows_in;
use demask_tests::weights::{last_checkpoint, weights_hash};
use demask_tests::{Place, ended, start, subscribed, undisturbed, wait_for};
use serde_json::Value;

/// Returns a profile that proposes traces, trains on them and is judged: regularly by the gate, and by two stages at
/// the end.
fn profile(samplers: usize) -> String {
    let rollouts = match samplers {
        0 => String::new(),
        _ => format!("[rollouts]\nsamplers = {samplers}\nthreads = 1\n"),
    };
    smoke_with_stages(&format!(
        "{rollouts}\
         [gate]\nsuites = [\"tabletop-ask\"]\nlimit = 5\n\
         [[stage]]\nname = \"pretrain\"\nkind = \"pretrain\"\nsteps = 3\nbatch = 4\n\
         [[stage]]\nname = \"reason\"\nkind = \"reason\"\nsteps = 2\nbatch = 3\ngroup = 3\nsources = [\"sums\"]\n\
         [[stage]]\nname = \"few\"\nkind = \"evaluate\"\nsuites = [\"tabletop-draw\", \"tabletop-sums\"]\nlimit = 3\n\
         [[stage]]\nname = \"many\"\nkind = \"evaluate\"\nsuites = [\"tabletop-draw\", \"tabletop-ask\", \"tabletop-sums\"]\nlimit = 48\n"
    ))
}

/// Returns the rows of a run that what was drawn has: items, results and traces, without ids of the run and times.
fn drawn(place: &Place) -> Vec<Vec<Vec<Value>>> {
    [
        // On one processor with AVX2 alone, a byte of one picture in sixty was another one by 1 where it was drawn alone on one
        // thread, so not the bytes of pictures are compared but what is read from them.
        "SELECT step, suite, number, item, output, drawn IS NOT NULL, answer, credit, tokens, forwards FROM v_item ORDER BY step, suite, number",
        "SELECT step, suite, metric, value, low, high, n, parts, decision FROM v_eval ORDER BY step, suite",
        "SELECT substr(trace, instr(trace, '/')), round, example, generator, seed, prompt, text, gate, passed, reason FROM v_trace ORDER BY 1, gate",
    ]
    .map(|sql| rows_in(place.path(), sql))
    .to_vec()
}

/// Kills one of the two sampling engines.
fn kill_sampler(place: &Place) {
    let daemon = i32::try_from(place.pid().unwrap()).unwrap();
    let samplers = sampling_engines(daemon);
    assert_eq!(samplers.len(), 2, "the sampling engines were started to judge");
    // SAFETY: the signal goes to a child of our child.
    assert_eq!(unsafe { libc::kill(samplers[0], libc::SIGKILL) }, 0);
}

#[tokio::test]
async fn l8_benchmarks_and_traces_are_the_same_whoever_draws_them() {
    let mut place = Place::default();
    let weights = undisturbed(&mut place, &profile(0)).await;
    let alone = drawn(&place);
    assert!(alone.iter().all(|rows| !rows.is_empty()), "{alone:#?}");
    for samplers in [1, 3] {
        let mut place = Place::default();
        assert_eq!(weights, undisturbed(&mut place, &profile(samplers)).await);
        assert_eq!(alone, drawn(&place), "{samplers} sampling engines");
    }
    // An engine dies while the last stage is judged.
    let mut place = Place::default();
    let mut client = subscribed(&mut place).await;
    let run = start(&mut client, &profile(2)).await;
    wait_for(
        &mut client,
        |record| matches!(record, Record::Eval(eval) if eval.suite == "tabletop-sums"),
    )
    .await;
    kill_sampler(&place);
    assert_eq!(ended(&mut client).await, RunState::Done);
    assert_eq!(weights, weights_hash(&last_checkpoint(place.path(), &run)));
    assert_eq!(alone, drawn(&place), "an engine died");
    let died = "SELECT count(*) > 0 FROM v_event WHERE kind = 'lifecycle' AND body LIKE '%engine/%failed%'";
    assert_eq!(rows_in(place.path(), died), [[1]], "the death is told");
    let left = place.path().join("checkpoints").join(&run).join("policies");
    let left: Vec<_> = std::fs::read_dir(left).into_iter().flatten().collect();
    assert!(left.is_empty(), "what was lent is taken back: {left:?}");
}
