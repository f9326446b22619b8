//! Every kind of stage and UniGRPO steps with the engine on the device, and recovery after the engine is killed.

use std::time::Instant;

use anyhow::{Context as _, ensure};

use super::daemon::{Daemon, LOOK, children};
use super::{ALIGN, SMOKE, on_device, settings_of};
use crate::figure::Teller;
use crate::options::Options;

/// Runs the smallest profile with all kinds of stages, and a short alignment.
///
/// # Errors
/// Returns an error with the output of a run that fails.
pub fn unigrpo(options: &Options, teller: &Teller) -> anyhow::Result<()> {
    let daemon = Daemon::start(options, "unigrpo")?;
    let seconds = daemon.run("smoke", &on_device(options, SMOKE), &["--from-scratch"])?;
    let steps = daemon.count(POLICY_STEPS)?;
    teller.check(
        "smoke: every kind of stage",
        steps == 2,
        &format!("{seconds:.1} s"),
    );
    let sandbox = daemon.sandbox();
    teller.check(
        "its engine computed in the sandbox",
        sandbox.contains("no network"),
        &sandbox,
    );
    let (wanted, batch, group) = if options.small { (1, 2, 2) } else { (6, 24, 8) };
    let stage = format!(
        "[[stage]]\nname = \"unigrpo\"\nkind = \"align\"\nsteps = {wanted}\nbatch = {batch}\ngroup = {group}\nsources = [\"sums\", \"draw\"]\n\
         learning_rate = 1e-4\nestimator = {{ kind = \"uni_grpo\", spacing = \"cyclic\" }}\n\
         objective = {{ clip = 0.2, kl = 0.01, inner_steps = 2 }}\n"
    );
    let profile = on_device(options, &format!("{}{stage}", settings_of(ALIGN)));
    let seconds = daemon.run("align", &profile, &[])?;
    let steps = daemon.count(POLICY_STEPS)? - steps;
    let note = format!("{steps} steps of {batch} groups of {group}, start and end of the run with them");
    teller.check("UniGRPO from the shipped model", steps == wanted, &note);
    teller.found(
        "a UniGRPO step of the tabletop",
        seconds / steps.max(1) as f64,
        "s",
        &note,
    );
    Ok(())
}

const POLICY_STEPS: &str = "SELECT count(*) FROM v_metric WHERE name = 'policy/kl'";

/// Sends SIGKILL to the engine while it works, and checks that the daemon starts another one and that the run
/// ends as done. The section measures the seconds from the kill to the next step.
///
/// # Errors
/// Returns an error with the output of a run that does not go on.
pub fn kill(options: &Options, teller: &Teller) -> anyhow::Result<()> {
    let daemon = Daemon::start(options, "kill")?;
    let steps = if options.small { 16 } else { 400 };
    let file = daemon.profile("kill", &on_device(options, SMOKE))?;
    // The second stage is the first that trains the model.
    let longer = format!("stage.1.steps={steps}");
    let mut run = daemon.follow(&file, &["--from-scratch", "--set", &longer])?;
    let learnt = "SELECT count(*) FROM v_metric WHERE name = 'train/loss'";
    while daemon.count(learnt)? < 5 {
        ensure!(
            run.try_wait()?.is_none(),
            "the run ended before it could be killed: {}",
            daemon.words()
        );
        std::thread::sleep(LOOK);
    }
    let engine = |daemon: &Daemon<'_>| children(daemon.pid()).into_iter().next();
    let first = engine(&daemon).context("no engine to kill")?;
    // SAFETY: the signal goes to the engine that this section's daemon started.
    ensure!(unsafe { libc::kill(first, libc::SIGKILL) } == 0, "kill");
    let began = Instant::now();
    // Metrics of the killed engine may still be on their way to the store when the new engine is already
    // there.
    while engine(&daemon).is_none_or(|engine| engine == first) && run.try_wait()?.is_none() {
        std::thread::sleep(LOOK);
    }
    let before = daemon.count(learnt)?;
    while daemon.count(learnt)? <= before && run.try_wait()?.is_none() {
        std::thread::sleep(LOOK);
    }
    let note = "another engine started, its device opened, the last checkpoint loaded";
    teller.found(
        "from the kill to the next step",
        began.elapsed().as_secs_f64(),
        "s",
        note,
    );
    let ended = run.wait()?;
    let deaths =
        daemon.count("SELECT count(*) FROM v_event WHERE kind = 'alert' AND body LIKE '%actor_failed%'")?;
    let done = daemon.count("SELECT count(*) FROM v_run WHERE status = 'done'")?;
    let note = format!("{ended}, {deaths} told, {}", daemon.words());
    let right = ended.success() && deaths >= 1 && done == 1;
    teller.check(
        "a run whose engine was killed ends",
        right,
        if right { "" } else { &note },
    );
    Ok(())
}
