//! The samples that were drawn in a schedule, and the laws on how they are trained on (L5, L7).

use std::collections::HashMap;

use demask_api::{PolicyGroup, ViewScores};

use crate::ground::Ground;
use crate::weights::{TakenStep, Weights, are_same};

/// What is remembered of a drawn sample: the weights that drew it, and whether it was trained on. Its key is its first
/// four commit steps.
#[derive(Debug)]
struct Drawn {
    weights: Weights,
    used: bool,
}

/// All samples that were drawn.
#[derive(Debug, Default)]
pub struct DrawnSamples(HashMap<[u16; 4], Drawn>);

impl DrawnSamples {
    /// Notes a sample that was drawn by these weights, and returns its first commit steps, which name it.
    pub fn draw(&mut self, weights: &Weights) -> [u16; 4] {
        let number = self.0.len() as u64;
        let key = [number as u16, (number >> 16) as u16, 0, 1];
        let drawn = Drawn {
            weights: weights.clone(),
            used: false,
        };
        self.0.insert(key, drawn);
        key
    }

    /// Checks L5 and L7: the training samples were drawn by the weights that the profile asks for, each is used once,
    /// and each has the log-probabilities of the weights that drew it. Returns the violations.
    pub fn check(
        &mut self,
        ground: &Ground,
        weights: &Weights,
        step: u64,
        groups: &[PolicyGroup],
        behaviour: &[Vec<f32>],
    ) -> Vec<String> {
        let samples: Vec<_> = groups.iter().flat_map(|group| &group.samples).collect();
        let (mut said, mut is_stale) = (Vec::new(), false);
        for sample in &samples {
            let wrong = match self.0.get_mut(&key_of(&sample.commit_step)) {
                None => Some("L5: was never drawn"),
                Some(drawn) if drawn.used => Some("L5: is used a second time"),
                Some(drawn) if !may_draw(ground, &drawn.weights, weights, step) => {
                    Some("L7: was drawn by other weights")
                }
                Some(drawn) => {
                    drawn.used = true;
                    is_stale |= drawn.weights.taken.len() < weights.taken.len();
                    None
                }
            };
            said.extend(wrong.map(|wrong| (sample.sequence.id.clone(), wrong)));
        }
        for (number, values) in behaviour.iter().enumerate() {
            let Some(sample) = samples.get(number % samples.len().max(1)) else {
                continue;
            };
            let drawn = self.0.get(&key_of(&sample.commit_step));
            if drawn.is_some_and(|drawn| drawn.weights.log_probabilities() != *values) {
                said.push((
                    sample.sequence.id.clone(),
                    "L7: is weighed by other weights than drew it",
                ));
            }
        }
        let told = said.into_iter().map(|(id, wrong)| {
            let (law, rest) = wrong.split_at(3);
            format!("{law} sample {id}{rest}")
        });
        let unweighed = (is_stale && behaviour.is_empty())
            .then(|| format!("L7: step {step} does not weigh its stale samples"));
        told.chain(unweighed).collect()
    }

    /// Checks L7: views are scored by the weights that drew their samples. Returns the violation.
    pub fn check_views(&self, weights: &Weights, views: &ViewScores) -> Option<String> {
        let samples = views.groups.iter().flat_map(|group| &group.samples);
        let others = samples
            .filter(|sample| {
                let drawn = self.0.get(&key_of(&sample.commit_step));
                drawn.is_none_or(|drawn| !are_same(&drawn.weights.taken, &weights.taken))
            })
            .count();
        (others > 0).then(|| format!("L7: {others} samples are scored by other weights than drew them"))
    }
}

/// Returns whether weights may have drawn the groups of a step that `present` trains: those of the start of the step
/// that the profile names, or, with the freshest weights, of a step from that one to the present one.
fn may_draw(ground: &Ground, drawn: &Weights, present: &Weights, step: u64) -> bool {
    let source = ground.source_of(step);
    let last = match ground.takes_freshest() {
        true => step,
        false => source,
    };
    (source..=last).any(|start| {
        let before: Vec<TakenStep> = present
            .taken
            .iter()
            .filter(|taken| taken.step < start)
            .cloned()
            .collect();
        are_same(&drawn.taken, &before)
    })
}

fn key_of(commit_step: &[u16]) -> [u16; 4] {
    let mut key = [0; 4];
    key.iter_mut().zip(commit_step).for_each(|(to, from)| *to = *from);
    key
}
