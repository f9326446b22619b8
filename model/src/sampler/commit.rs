//! The choice of the drawn tokens that a step commits: the ranking by [`Remasking`] and the rules of [`Commit`].

use demask_api::{Commit, Remasking};

use super::draw::Drawn;

/// A token that was drawn at one position.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Draw {
    /// The position, counted from the target's start.
    pub at: usize,
    /// The token id.
    pub token: u32,
    /// The token's probability, without temperature.
    pub probability: f64,
    /// The rank from [`rank`]: a draw with a higher one is committed earlier.
    pub rank: f64,
}

/// Computes the rank of a draw. `chance` is a uniform random number, which [`Remasking::Random`] ranks by.
#[must_use]
pub fn rank(remasking: Remasking, drawn: &Drawn, chance: f32) -> f64 {
    match remasking {
        Remasking::LowConfidence => drawn.probability,
        Remasking::Random => f64::from(chance),
        Remasking::Margin => drawn.best - f64::from(drawn.next),
        Remasking::Entropy => -f64::from(drawn.entropy),
    }
}

/// Selects the draws to commit, highest rank first. Of two draws with the same rank, the earlier position comes first.
/// `scheduled` is the number of tokens that [`Commit::Schedule`] commits at this step.
#[must_use]
pub fn committed(rule: Commit, scheduled: usize, draws: &[Draw]) -> Vec<Draw> {
    let mut ranked = draws.to_vec();
    ranked.sort_by(|a, b| b.rank.total_cmp(&a.rank).then(a.at.cmp(&b.at)));
    match rule {
        Commit::Schedule => ranked.truncate(scheduled),
        Commit::Threshold { threshold } => keep(&mut ranked, |draw| draw.probability >= threshold),
        Commit::Factor { factor } => {
            let accepted = ranked
                .iter()
                .enumerate()
                .skip(1)
                .take_while(|(at, draw)| draw.probability >= 1.0 - factor / (*at as f64 + 2.0))
                .count();
            ranked.truncate(1 + accepted);
        }
        Commit::Hierarchical { high, low } => {
            let firsts = first_of_runs(&ranked);
            keep(&mut ranked, |draw| {
                draw.probability >= high || (draw.probability >= low && firsts.contains(&draw.at))
            });
        }
    }
    ranked
}

/// Keeps the first draw, and of the others those that satisfy `wanted`.
fn keep(ranked: &mut Vec<Draw>, wanted: impl Fn(&Draw) -> bool) {
    let mut first = true;
    ranked.retain(|draw| std::mem::take(&mut first) || wanted(draw));
}

/// Returns the highest-ranked position of each run of neighbouring positions.
fn first_of_runs(ranked: &[Draw]) -> Vec<usize> {
    let mut places: Vec<(usize, usize)> = ranked
        .iter()
        .enumerate()
        .map(|(rank, draw)| (draw.at, rank))
        .collect();
    places.sort_unstable();
    places
        .chunk_by(|a, b| a.0 + 1 == b.0)
        .filter_map(|run| run.iter().min_by_key(|(_, rank)| *rank))
        .map(|&(at, _)| at)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draws(probabilities: &[(usize, f64)]) -> Vec<Draw> {
        probabilities
            .iter()
            .map(|&(at, probability)| Draw {
                at,
                token: 0,
                probability,
                rank: probability,
            })
            .collect()
    }

    fn positions(rule: Commit, probabilities: &[(usize, f64)]) -> Vec<usize> {
        committed(rule, 2, &draws(probabilities))
            .iter()
            .map(|draw| draw.at)
            .collect()
    }

    #[test]
    fn each_rule_by_hand() {
        let some = [(0, 0.5), (1, 0.95), (2, 0.5), (5, 0.45), (6, 0.2), (9, 0.92)];
        assert_eq!(positions(Commit::Schedule, &some), [1, 9]);
        assert_eq!(positions(Commit::Threshold { threshold: 0.9 }, &some), [1, 9]);
        assert_eq!(positions(Commit::Threshold { threshold: 0.99 }, &some), [1]);
        // Rank 2 needs 1 - 1/3, rank 3 needs 1 - 1/4.
        assert_eq!(positions(Commit::Factor { factor: 1.0 }, &some), [1, 9]);
        assert_eq!(positions(Commit::Factor { factor: 2.0 }, &some), [1, 9, 0]);
        assert_eq!(positions(Commit::Factor { factor: 0.0 }, &some), [1]);
        let hierarchical = Commit::Hierarchical { high: 0.9, low: 0.4 };
        assert_eq!(positions(hierarchical, &some), [1, 9, 5]);
        assert!(positions(hierarchical, &[]).is_empty());
    }
}
