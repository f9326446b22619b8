//! Group-relative advantages: the value of a rollout relative to the others of its prompt.

/// Computes group-relative advantages: the reward minus the group's mean, divided by the group's population standard
/// deviation (GRPO, dLLM-RL). All are zero if the rewards are equal.
#[must_use]
pub fn advantages(totals: &[f64]) -> Vec<f64> {
    let count = totals.len().max(1) as f64;
    let mean = totals.iter().sum::<f64>() / count;
    let deviation = (totals.iter().map(|total| (total - mean).powi(2)).sum::<f64>() / count).sqrt();
    if deviation < 1e-9 {
        return vec![0.0; totals.len()];
    }
    totals.iter().map(|total| (total - mean) / deviation).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn advantages_sum_to_zero(totals in proptest::collection::vec(-5.0..5.0f64, 1..12)) {
            let advantages = advantages(&totals);
            prop_assert!(advantages.iter().sum::<f64>().abs() < 1e-6);
            let square = advantages.iter().map(|advantage| advantage.powi(2)).sum::<f64>() / totals.len() as f64;
            prop_assert!(square == 0.0 || (square - 1.0).abs() < 1e-6);
        }
    }
}
