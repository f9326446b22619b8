//! The learning-rate schedule within a stage: a linear warm-up, then a cosine.

use crate::profile::Stage;

/// Returns the learning rate of a stage's step after `done` steps of the stage: linear over `warmup` steps, then a
/// cosine down to `final_rate` times the stage's highest rate.
#[must_use]
pub fn learning_rate(stage: &Stage, done: u64) -> f64 {
    if done < stage.warmup {
        return stage.learning_rate * (done + 1) as f64 / stage.warmup as f64;
    }
    let span = (stage.steps - stage.warmup.min(stage.steps)).max(1) as f64;
    let progress = ((done - stage.warmup) as f64 / span).min(1.0);
    let cosine = 0.5 * (1.0 + (std::f64::consts::PI * progress).cos());
    stage.learning_rate * (stage.final_rate + (1.0 - stage.final_rate) * cosine)
}
