//! The schedules: the number of text tokens that each step commits, and the number of codes that stay masked after it.

use demask_api::MaskSchedule;

/// Divides the masked positions evenly among the steps; the remainder goes to the first steps (`mmada.md` 6.1).
#[must_use]
pub fn transfer_counts(masked: usize, steps: usize) -> Vec<usize> {
    (0..steps)
        .map(|step| masked / steps + usize::from(step < masked % steps))
        .collect()
}

/// Computes the share of the codes that are masked at a progress from 0 to 1.
#[must_use]
pub fn mask_ratio(schedule: MaskSchedule, progress: f64) -> f64 {
    match schedule {
        MaskSchedule::Cosine => (std::f64::consts::FRAC_PI_2 * progress).cos(),
        MaskSchedule::Linear => 1.0 - progress,
    }
}

/// Computes how many of `unknown` codes stay masked after step `step` (from 0) of `steps` (`mmada.md` 6.2).
#[must_use]
pub fn mask_len(schedule: MaskSchedule, unknown: usize, step: usize, steps: usize) -> usize {
    let progress = (step + 1) as f64 / steps.max(1) as f64;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let count = (unknown as f64 * mask_ratio(schedule, progress)).floor().max(0.0) as usize;
    count
}
