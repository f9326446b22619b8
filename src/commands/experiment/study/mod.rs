//! `demask study`: settings by seeds. `plan.rs` reads the file and lists the runs, and `state.rs` finds the state of
//! each. `outcome.rs` computes means, intervals and differences of the finished runs, and `plot.rs` draws them.

mod outcome;
mod plan;
mod plot;
mod state;

use std::path::Path;
use std::process::ExitCode;

use demask_actors::home::Home;
use demask_storage::{Command, Record, Reply, RunState};

use self::plan::{StudyPlan, StudyRun};
use self::plot::StudyPicture;
use self::state::{StudyRunState, StudyRunStates};
use crate::args::{Study, StudyAction};
use crate::commands::experiment::daemon;
use crate::connection::line::{Line, connect};
use crate::terminal::print;

/// Runs `demask study` or its subcommand.
///
/// # Errors
/// An error if the study or a profile is wrong, before anything is queued; an error if the daemon goes away, or if a
/// run failed.
pub fn study(home: &Home, options: &Study) -> anyhow::Result<ExitCode> {
    if let Some(action) = &options.action {
        show(home, action)?;
        return Ok(ExitCode::SUCCESS);
    }
    let file = options.file.as_deref().unwrap_or(Path::new(""));
    let plan = StudyPlan::read(home, file)?;
    if options.dry_run {
        say(&plan, &StudyRunStates::read(home, &plan)?, options.output.json)?;
        return Ok(ExitCode::SUCCESS);
    }
    daemon::ensure(home)?;
    // The subscription starts before runs are queued, so that no end of a run is missed.
    let mut watch = connect(home)?;
    watch.subscribe(0)?;
    queue(home, &plan)?;
    if options.detach {
        say(&plan, &StudyRunStates::read(home, &plan)?, options.output.json)?;
        return Ok(ExitCode::SUCCESS);
    }
    let states = wait(home, &plan, &mut watch)?;
    outcome::show(home, &plan, options.output.json)?;
    let unfinished = plan
        .runs
        .iter()
        .filter(|run| states.of(run) != StudyRunState::Done)
        .count();
    if unfinished > 0 {
        print::note(&format!(
            "{unfinished} of {} runs did not finish; the same command runs them again",
            plan.runs.len()
        ));
        return Ok(ExitCode::from(crate::exit::FAILED));
    }
    Ok(ExitCode::SUCCESS)
}

/// Shows what the runs of a study have come to, and draws it if a file is named.
fn show(home: &Home, action: &StudyAction) -> anyhow::Result<()> {
    let StudyAction::Show {
        file,
        plot,
        smooth,
        size,
        force,
        output,
    } = action;
    let plan = StudyPlan::read(home, file)?;
    if let Some(picture) = plot {
        let picture = StudyPicture {
            file: picture,
            size: *size,
            smooth: *smooth,
            force: *force,
        };
        let count = picture.draw(home, &plan)?;
        print::note(&format!("{}: {count} values", picture.file.display()));
    }
    outcome::show(home, &plan, output.json)
}

/// Queues the runs that are neither done, waiting nor running.
fn queue(home: &Home, plan: &StudyPlan) -> anyhow::Result<()> {
    let states = StudyRunStates::read(home, plan)?;
    let mut client = connect(home)?;
    for run in &plan.runs {
        if matches!(
            states.of(run),
            StudyRunState::Done | StudyRunState::Running | StudyRunState::Waiting
        ) {
            continue;
        }
        match client.ask(Command::Enqueue(run.request.clone()))? {
            Reply::Queued { .. } => {}
            Reply::Refused { message } => anyhow::bail!("{}: {message}", run.title()),
            other => anyhow::bail!("unexpected answer of the daemon: {other:?}"),
        }
    }
    Ok(())
}

/// Waits until none of the study's runs is waiting or running, and reports each end.
fn wait(home: &Home, plan: &StudyPlan, watch: &mut Line) -> anyhow::Result<StudyRunStates> {
    let mut states = StudyRunStates::read(home, plan)?;
    let open = |states: &StudyRunStates| {
        let is_open =
            |run: &&StudyRun| matches!(states.of(run), StudyRunState::Running | StudyRunState::Waiting);
        plan.runs.iter().filter(is_open).count()
    };
    print::note(&format!(
        "{} runs, {} of them unfinished; Ctrl-C stops waiting, and the daemon continues them",
        plan.runs.len(),
        open(&states)
    ));
    while open(&states) > 0 {
        let event = watch.event()?;
        let Record::RunEnd(end) = &event.record else {
            // A cancelled run is not waited for.
            if matches!(event.record, Record::Queue(_)) {
                states = StudyRunStates::read(home, plan)?;
            }
            continue;
        };
        states = StudyRunStates::read(home, plan)?;
        if let Some(run) = states.study_run(plan, &end.run) {
            let left = open(&states);
            let why = match end.status {
                RunState::Failed => format!(" ({})", end.reason),
                _ => String::new(),
            };
            print::note(&format!("{}: {}{why}, {left} left", run.title(), end.status));
        }
    }
    Ok(states)
}

/// Prints the state of each run of the study.
fn say(plan: &StudyPlan, states: &StudyRunStates, json: bool) -> anyhow::Result<()> {
    if json {
        let all: Vec<_> = plan
            .runs
            .iter()
            .map(|run| {
                serde_json::json!({
                    "setting": run.setting, "seed": run.seed, "state": states.of(run), "run": states.id(run),
                    "config_hash": run.hash,
                })
            })
            .collect();
        return print::json(&all);
    }
    let rows: Vec<Vec<String>> = plan
        .runs
        .iter()
        .map(|run| {
            vec![
                run.setting.clone(),
                run.seed.to_string(),
                states.of(run).word().to_owned(),
                states.id(run).unwrap_or("-").to_owned(),
            ]
        })
        .collect();
    print::table(&["setting", "seed", "state", "run"], &rows)
}
