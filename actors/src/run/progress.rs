//! The speed of the present stage, smoothed over its steps.

/// Weight of the past in a smoothed value.
const SMOOTHING: f64 = 0.9;

/// The rates of the present stage. A new stage begins without any.
#[derive(Default)]
pub(crate) struct Progress {
    stage: Option<usize>,
    tokens_per_s: Option<f64>,
    step_seconds: Option<f64>,
}

impl Progress {
    /// Notes that a step of this stage begins.
    pub(crate) fn enter(&mut self, stage: usize) {
        if self.stage != Some(stage) {
            *self = Self {
                stage: Some(stage),
                ..Self::default()
            };
        }
    }

    /// Notes the training tokens per second of a step.
    pub(crate) fn trained(&mut self, tokens_per_s: f64) {
        smooth(&mut self.tokens_per_s, tokens_per_s);
    }

    /// Notes the duration of a step in seconds.
    pub(crate) fn stepped(&mut self, seconds: f64) {
        smooth(&mut self.step_seconds, seconds);
    }

    /// Returns the training tokens per second; 0 if the stage has none.
    pub(crate) fn tokens_per_s(&self) -> f64 {
        self.tokens_per_s.unwrap_or(0.0)
    }

    /// Returns the estimated seconds for this many steps of this stage; `None` for another stage.
    pub(crate) fn eta_s(&self, stage: usize, steps: u64) -> Option<f64> {
        let seconds = self.step_seconds.filter(|_| self.stage == Some(stage))?;
        Some(seconds * steps as f64)
    }
}

fn smooth(past: &mut Option<f64>, now: f64) {
    *past = Some(past.map_or(now, |past| SMOOTHING * past + (1.0 - SMOOTHING) * now));
}
