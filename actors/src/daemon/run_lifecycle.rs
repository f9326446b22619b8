//! The lives of a run: one after another, until the run is done, stopped, halted, or dies too often without progress
//! (law L1). If its ranks are what dies and the profile allows fewer, the run goes on with fewer (law L11), unless fewer
//! ranks have just failed in the same way.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use demask_storage::{Alert, Level, Lifecycle, Overview, Record, Run, RunState, Steer};

use super::failure_count::{FailureCount, LIVES};
use super::run_record::{end_run, newest_step, record_run, steers};
use crate::control::Control;
use crate::control::pending_order::PresentControl;
use crate::engine::process::EngineFailure;
use crate::pipeline::run_error::RunError;
use crate::run::context::{Outcome, RunContext, RunDriver};
use crate::runtime::disk::{on_disk, settled};
use crate::runtime::recorder::NotRecorded;

/// Wait before the second life; doubled each time.
const FIRST_WAIT: Duration = Duration::from_millis(50);
/// How long a run that must end may wait for something that is not an engine.
const GRACE: Duration = Duration::from_secs(4);
/// Number of checks in that time.
const GRACE_LOOKS: u32 = 16;

/// How a run's last life ended.
struct LastLife {
    outcome: Outcome,
    /// Rows about this end, which are recorded once the engines have ended.
    rows: Vec<Record>,
}

impl From<Outcome> for LastLife {
    fn from(outcome: Outcome) -> Self {
        let rows = Vec::new();
        Self { outcome, rows }
    }
}

/// Runs life after life of a run, until it is done, stopped, halted, or dies too often without progress. Its engine
/// ends with it in every case, because another run may follow. L10: it ends before anything waits for the disk. The
/// newest checkpoint of the run is of the step `saved`.
pub(super) async fn live(
    mut context: RunContext,
    driver: Rc<dyn RunDriver>,
    present: PresentControl,
    saved: u64,
) -> anyhow::Result<()> {
    context
        .control
        .report(|overview| prepare(overview, &context, saved));
    let last = lives(&mut context, &driver, &present).await;
    // L1: the driver drops the run's actors here. If it drove the run again with them, they would ask an engine that
    // has ended.
    driver.let_go();
    hurried_at_the_end(&context, context.finish()).await;
    let LastLife { outcome, rows } = last?;
    for row in rows {
        context.recorder.record(row).await?;
    }
    let from = unsaved(&context.control);
    let (status, reason) = match outcome {
        Outcome::Done => (RunState::Done, "all stages are done".to_owned()),
        Outcome::Stopped => (RunState::Stopped, format!("the user stopped it{from}")),
        Outcome::Halted => (
            RunState::Interrupted,
            format!("the daemon ended; the next daemon continues the run{from}"),
        ),
    };
    context.control.report_end(status);
    Ok(end_run(&context.recorder, &context.run, status, &reason).await?)
}

async fn lives(
    context: &mut RunContext,
    driver: &Rc<dyn RunDriver>,
    present: &PresentControl,
) -> anyhow::Result<LastLife> {
    let mut failures = FailureCount::default();
    loop {
        let life = Run {
            generation: context.generation,
            ..Run::clone(&context.begun)
        };
        let begins = async {
            record_run(&context.recorder, &life).await?;
            journal_of(context).await
        };
        let Some(begun) = unless_ending(&context.control, begins).await else {
            return Ok(given_up(context, Vec::new()));
        };
        let (orders, step) = begun?;
        let before = Arc::clone(&context.control);
        context.control = Arc::new(Control::new(&context.run, driver.knobs(&context.profile), orders));
        context.control.begin_at(step);
        context
            .control
            .report(|overview| prepare(overview, context, step));
        context.control.take_orders(&before);
        present.replace(Arc::clone(&context.control));
        if before.is_halting() {
            context.control.halt();
        }
        if context.control.must_end() {
            // L10: nothing is started and loaded to come to the first boundary. The run is at its last checkpoint.
            return Ok(given_up(context, Vec::new()));
        }
        let engines_lost = context.engine.deaths();
        let (why, started) = match driven(context, &**driver).await {
            // L10: the run had its whole grace period, and what it waits for does not come.
            Ok(Err(error)) if error.is::<GivenUp>() => {
                let step = context.control.place().1;
                let rows = death(context, step, &error.to_string()).into();
                return Ok(given_up(context, rows));
            }
            Ok(Ok(outcome)) => return Ok(outcome.into()),
            Ok(Err(error)) if !is_retryable(&error) => return Err(error),
            Ok(Err(error)) => (format!("{error:#}"), !is_failed_start(&error)),
            Err(panic) => (panic.to_string(), true),
        };
        let step = context.control.place().1;
        failures.note(step, started);
        let mut death = VecDeque::from(death(context, step, &why));
        if context.control.must_end() {
            // L1: whoever goes on with the run begins at the last checkpoint. Another life here would only load it, or do
            // the steps up to a stop again (L10).
            return Ok(given_up(context, death.into()));
        }
        while let Some(row) = death.pop_front() {
            let recorded = context.recorder.record(row.clone());
            let Some(recorded) = unless_ending(&context.control, recorded).await else {
                death.push_front(row);
                return Ok(given_up(context, death.into()));
            };
            recorded?;
        }
        let engine = &context.engine;
        let spent = engine.is_given_up() || failures.in_a_row >= LIVES && engine.deaths() > engines_lost;
        let smaller = fewer_ranks(context).filter(|_| spent);
        if let Some(ranks) = smaller.filter(|_| failures.may_depend_on_ranks()) {
            driver.let_go();
            use_ranks(context, ranks).await;
            let noted = note_smaller_world(context, ranks, step, &why);
            let Some(noted) = unless_ending(&context.control, noted).await else {
                return Ok(given_up(context, Vec::new()));
            };
            noted?;
            failures.begin_smaller_world();
        }
        let times = failures.in_a_row;
        let with_more = match smaller {
            Some(_) if times > 0 => "; it failed at this step with more ranks too, so fewer are not tried",
            _ => "",
        };
        anyhow::ensure!(
            times < LIVES,
            "the run failed {times} times in a row at step {step}: {why}{with_more}"
        );
        let wait = tokio::time::sleep(FIRST_WAIT * 2_u32.pow(times.saturating_sub(1)));
        tokio::select! {
            biased;
            () = context.control.ends() => return Ok(given_up(context, Vec::new())),
            () = wait => context.generation += 1,
        }
    }
}

/// The error of a run that must end and waits for something that does not come.
#[derive(Debug, thiserror::Error)]
#[error("the run had to end but was still waiting for something outside the engine; it was aborted")]
struct GivenUp;

/// Drives one life until it ends by itself, or until it must end and hangs (law L10).
async fn driven(
    context: &RunContext,
    driver: &dyn RunDriver,
) -> Result<anyhow::Result<Outcome>, tokio::task::JoinError> {
    let mut driving = actix::spawn(driver.drive(context.clone()));
    tokio::select! {
        biased;
        ended = &mut driving => ended,
        () = hangs_at_its_end(context) => {
            driving.abort();
            Ok(Err(GivenUp.into()))
        }
    }
}

/// Returns once the run must end and no engine has had work for it during [`GRACE`]. An engine that hangs is not judged
/// here: the caller that waits for its answer gives it up.
async fn hangs_at_its_end(context: &RunContext) {
    context.control.ends().await;
    context.hurry();
    let mut idle = 0;
    while idle < GRACE_LOOKS {
        tokio::time::sleep(GRACE / GRACE_LOOKS).await;
        idle = if context.asked() == 0 { idle + 1 } else { 0 };
    }
}

/// Waits until engines have ended. L10: if the run must end meanwhile, one that does not end is given up within seconds.
async fn hurried_at_the_end(context: &RunContext, finish: impl Future<Output = ()>) {
    let hurried = async {
        context.control.ends().await;
        context.hurry();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        biased;
        () = finish => {}
        () = hurried => {}
    }
}

/// Waits for the disk between two lives; `None` if the run must end meanwhile and the disk does not answer during
/// [`GRACE`] (law L10).
async fn unless_ending<T>(control: &Control, waits: impl Future<Output = T>) -> Option<T> {
    let gives_up = async {
        control.ends().await;
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        biased;
        done = waits => Some(done),
        () = gives_up => None,
    }
}

/// Reads what a life begins with: the orders so far, oldest first, and the step of the newest checkpoint. Removes what
/// killed processes have left in the run's folder.
async fn journal_of(context: &RunContext) -> anyhow::Result<(Vec<Steer>, u64)> {
    // L1: a life that was given up may have left work that moves or removes checkpoints.
    settled().await;
    let (home, run) = (context.home.clone(), context.run.clone());
    let read = move || {
        home.sweep(&run);
        let database = home.database();
        anyhow::Ok((steers(&database, &run)?, newest_step(&database, &run)?))
    };
    on_disk(read).await?
}

/// Ends a run that did not reach a step boundary. Its last checkpoint is where it continues.
fn given_up(context: &RunContext, mut rows: Vec<Record>) -> LastLife {
    let (is_stopped, stops) = context.control.stop_now();
    rows.extend(stops.into_iter().map(Record::Steer));
    let outcome = match is_stopped {
        true => Outcome::Stopped,
        false => Outcome::Halted,
    };
    LastLife { outcome, rows }
}

/// Says where a run goes on that has ended after its last checkpoint, because it hung, died, or found the disk full.
fn unsaved(control: &Control) -> String {
    let (step, saved) = (control.place().1, control.overview().last_checkpoint.unwrap_or(0));
    match saved < step {
        true => format!("; there is no checkpoint of step {step}, so it goes on from step {saved}"),
        false => String::new(),
    }
}

/// Reports a life that begins from the checkpoint of the step `saved`, 0 if there is none.
fn prepare(overview: &mut Overview, context: &RunContext, saved: u64) {
    overview.run.clone_from(&context.run);
    overview.profile.clone_from(&context.profile.name);
    overview.total_steps = context.profile.total_steps();
    overview.last_checkpoint = (saved > 0).then_some(saved);
    overview.state = RunState::Starting;
}

/// Returns whether another life may succeed: the engine died, or an actor that was asked.
fn is_retryable(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let engine = cause.downcast_ref::<EngineFailure>();
        cause
            .downcast_ref::<RunError>()
            .is_some_and(RunError::is_retryable)
            || matches!(
                engine,
                Some(EngineFailure::Died { .. } | EngineFailure::Start { .. })
            )
    })
}

/// Returns whether the engine could not be started.
fn is_failed_start(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let engine = match cause.downcast_ref::<RunError>() {
            Some(RunError::Engine(failure)) => Some(failure),
            _ => cause.downcast_ref::<EngineFailure>(),
        };
        matches!(engine, Some(EngineFailure::Start { .. }))
    })
}

/// Returns the number of ranks with which the run may go on, which is one less than before; `None` if the profile does
/// not allow it, or if ranks join: the person who starts them decides how many there are.
fn fewer_ranks(context: &RunContext) -> Option<usize> {
    let engine = &context.profile.engine;
    let least = engine.min_ranks.filter(|_| !engine.join)?;
    let ranks = context.engine.ranks()?;
    (ranks > least).then(|| ranks - 1)
}

/// L11: trains with this many ranks from now on. The bits of the run do not depend on it. The driver has dropped the
/// run's actors, because they would ask the engine that ends here.
async fn use_ranks(context: &mut RunContext, ranks: usize) {
    hurried_at_the_end(context, context.engine.finish()).await;
    context.engine = context.engine.with_ranks(&context.supervisor, ranks);
}

async fn note_smaller_world(
    context: &RunContext,
    ranks: usize,
    step: u64,
    why: &str,
) -> Result<(), NotRecorded> {
    let before = ranks + 1;
    let message = format!(
        "{before} ranks could not be kept alive, so the run goes on with {ranks} from its last checkpoint: {why}"
    );
    tracing::warn!("run {}: {message}", context.run);
    let alert = warning(context, step, "smaller_world", message);
    context.recorder.record(alert).await
}

/// Makes the rows of the death of a life.
fn death(context: &RunContext, step: u64, why: &str) -> [Record; 2] {
    let (run, actor) = (context.run.clone(), "trainer".to_owned());
    let (generation, reason) = (context.generation, why.to_owned());
    let failed = Record::Lifecycle(Lifecycle {
        run,
        actor,
        generation,
        what: "failed".into(),
        reason,
    });
    // A run that must end anyway has no next life by itself.
    let next = match context.control.must_end() {
        true => "what comes after the last checkpoint is lost",
        false => "the next one continues from the last checkpoint",
    };
    let message = format!("attempt {generation} of the run failed: {why}; {next}");
    [failed, warning(context, step, "actor_failed", message)]
}

/// Makes an alert that warns of something that the run survives.
fn warning(context: &RunContext, step: u64, kind: &str, message: String) -> Record {
    Record::Alert(Alert {
        run: context.run.clone(),
        step,
        level: Level::Warn,
        kind: kind.to_owned(),
        message,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::pending;

    #[tokio::test(start_paused = true)]
    async fn l10_a_run_that_must_end_does_not_wait_for_the_disk_between_two_lives() {
        let long = || async {
            tokio::time::sleep(10 * GRACE).await;
            "read"
        };
        let control = Control::default();
        assert_eq!(unless_ending(&control, long()).await, Some("read"));
        control.halt();
        assert_eq!(unless_ending(&control, long()).await, None);
        assert_eq!(unless_ending(&control, pending::<()>()).await, None);
        // A disk that is slow, but answers, is waited for.
        let short = tokio::time::sleep(GRACE / 2);
        assert_eq!(unless_ending(&control, short).await, Some(()));
    }
}
