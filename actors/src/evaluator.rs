//! The Evaluator: a suite's items through the workbench, judged.

use demask_datasets::example::{Example, Mode};
use demask_rewards::suites::{Suite, SuiteResult};

use crate::workbench::{Draws, EngineLink, Wanted, WorkError, Workbench};

/// Items that are completed at one time.
const BATCH: usize = 64;

/// How a suite is run.
#[derive(Clone, Debug)]
pub struct Trial {
    /// At most this many items.
    pub limit: Option<usize>,
    /// With reasoning or without.
    pub mode: Mode,
    /// The samplers.
    pub draws: Draws,
    /// Their seed.
    pub seed: u64,
}

/// Runs a suite. `progress` is told how many items are done; it ends the suite early by returning false.
///
/// # Errors
/// The engine's.
pub async fn run_suite(
    bench: &Workbench,
    link: &dyn EngineLink,
    suite: &Suite,
    trial: &Trial,
    progress: &mut dyn FnMut(usize, usize) -> bool,
) -> Result<SuiteResult, WorkError> {
    let items = suite.items(trial.limit)?;
    let judge = suite.judge()?;
    let mut judged: Vec<(Example, bool)> = Vec::with_capacity(items.len());
    for (number, batch) in items.chunks(BATCH).enumerate() {
        let wanted: Vec<Wanted> = batch
            .iter()
            .enumerate()
            .map(|(at, example)| Wanted {
                example: example.clone(),
                mode: if example.reasoning.is_some() {
                    trial.mode
                } else {
                    Mode::Direct
                },
                seed: trial
                    .seed
                    .wrapping_mul(1_000_003)
                    .wrapping_add((number * BATCH + at) as u64),
                watch: None,
            })
            .collect();
        let made = bench.complete(link, &wanted, &trial.draws, None).await?;
        judged.extend(batch.iter().zip(made).map(|(example, made)| {
            let right = judge.right(example, &made.completion);
            (example.clone(), right)
        }));
        if !progress(judged.len(), items.len()) {
            break;
        }
    }
    Ok(suite.result(&judged))
}
