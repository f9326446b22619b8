//! The reports of a life of a run to its watchers: alerts, metrics of a step, and the run's position.

use demask_api::RankReport;
use demask_storage::{Alert, DeviceView, Level, Metric, RankView, Record, RunState, StageView, StepRanks};

use super::state::StageRun;
use crate::pipeline::run_error::RunError;
use crate::profile::{Profile, Stage};

impl StageRun {
    /// Reports the engine's process and device to watchers.
    pub(super) async fn introduce(&self) -> Result<(), RunError> {
        let (pid, device) = self.context.engine.who().await?;
        let pid = u64::from(pid);
        self.context.control.report(|overview| {
            overview.last_checkpoint = (self.cursor.step > 0).then_some(self.cursor.step);
            overview.devices = vec![DeviceView {
                name: device.name.clone(),
                compute: device.compute.clone(),
                threads: device.threads as u64,
                pid,
                memory: 0,
                peak: 0,
                busy: 0.0,
            }];
        });
        Ok(())
    }

    /// Records an alert about the present step.
    pub(crate) async fn alert(&self, level: Level, kind: &str, message: String) -> Result<(), RunError> {
        let alert = Alert {
            run: self.context.run.clone(),
            step: self.cursor.step,
            level,
            kind: kind.to_owned(),
            message,
        };
        Ok(self.context.recorder.record(Record::Alert(alert)).await?)
    }

    /// Offers metrics of a step to the store. They may be thinned under pressure.
    pub(super) fn metric(&self, step: u64, values: Vec<(String, f64)>) {
        let run = self.context.run.clone();
        self.context
            .recorder
            .offer(Record::Metric(Metric { run, step, values }));
    }

    /// Reports the ranks of the present step to the store and to watchers.
    pub(super) fn ranks(&mut self, reports: &[RankReport]) {
        let Some(first) = reports.first() else { return };
        let restarts = match self.world {
            Some((began_us, restarts)) => restarts + u64::from(began_us != first.began_us),
            // No step was reported so far. A life that ended otherwise than by the loss of its ranks kept them.
            None => self.context.lives_before + self.context.engine.deaths(),
        };
        self.world = Some((first.began_us, restarts));
        let ranks: Vec<RankView> = reports.iter().map(|report| rank_view(report, restarts)).collect();
        self.context
            .control
            .report(|overview| overview.ranks.clone_from(&ranks));
        let (run, step) = (self.context.run.clone(), self.cursor.step);
        self.context
            .recorder
            .offer(Record::Ranks(StepRanks { run, step, ranks }));
    }

    /// Reports what the present step is doing, in words.
    pub(super) fn doing(&self, what: &str) {
        self.context
            .control
            .report(|overview| what.clone_into(&mut overview.detail));
    }

    /// Reports the run's position to watchers, with this detail and state.
    pub(super) fn overview(&self, detail: &str, state: RunState) {
        let stages = stage_views(&self.context.profile, self.cursor.step);
        let present = stages.iter().position(|stage| stage.done < stage.total);
        let stage = present.unwrap_or(stages.len().saturating_sub(1));
        let eta = stages
            .get(stage)
            .and_then(|view| self.progress.eta_s(stage, view.total - view.done));
        self.context.control.report(|overview| {
            overview.state = state;
            detail.clone_into(&mut overview.detail);
            overview.step = self.cursor.step;
            overview.stages = stages;
            overview.stage = stage;
            overview.tokens_per_s = self.progress.tokens_per_s();
            overview.eta_s = eta;
            overview.elapsed_s = self.started.elapsed().as_secs_f64();
        });
    }
}

fn stage_views(profile: &Profile, step: u64) -> Vec<StageView> {
    let mut left = step;
    let view = |stage: &Stage| {
        let done = left.min(stage.steps);
        left -= done;
        StageView {
            name: stage.name.clone(),
            kind: stage.kind.word().to_owned(),
            done,
            total: stage.steps,
        }
    };
    profile.stages.iter().map(view).collect()
}

fn rank_view(report: &RankReport, restarts: u64) -> RankView {
    RankView {
        device: report.device.clone(),
        host: report.host.clone(),
        pid: report.pid,
        memory: report.memory,
        peak: report.peak,
        device_memory: report.device_memory,
        device_peak: report.device_peak,
        seconds: report.seconds,
        wait_seconds: report.dist.wait_seconds,
        bytes: report.dist.bytes,
        restarts,
        began_us: report.began_us,
    }
}

/// Measures what rank 0 and its peers exchanged in a step; empty if one process trains alone.
pub(super) fn exchanged(ranks: &[RankReport]) -> Vec<(String, f64)> {
    let Some(first) = ranks.first() else {
        return Vec::new();
    };
    vec![
        ("dist/wait_seconds".to_owned(), first.dist.wait_seconds),
        ("dist/seconds".to_owned(), first.dist.seconds),
        ("dist/bytes".to_owned(), first.dist.bytes as f64),
    ]
}

/// Returns the arithmetic mean; 0 for no values.
pub(super) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}
