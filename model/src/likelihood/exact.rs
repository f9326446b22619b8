//! The designs without randomness: every view of a short answer, and the chain rule from left to right.

use super::answer_mask::AnswerMask;
use super::design::ViewDesign;

/// Returns every masked view of an answer of l tokens. The value is exact and takes 2^l - 1 views.
pub(super) fn every_view(length: usize) -> ViewDesign {
    let mut design = ViewDesign::default();
    for count in 1..=length {
        let views = subsets(length, count)
            .into_iter()
            .map(|masked| design.view(masked))
            .collect();
        design.exact(1.0, views);
    }
    design
}

/// Returns the design of the chain rule: view i masks the positions from i on and counts position i. The value is the
/// sum.
pub(super) fn chain(length: usize) -> ViewDesign {
    let mut design = ViewDesign::default();
    for at in 0..length {
        let view = design.single(AnswerMask {
            masked: (at..length).collect(),
            counted: vec![at],
        });
        design.exact(1.0, vec![view]);
    }
    design
}

/// Returns all sets of `count` out of `length` positions, each ascending, in lexicographic order.
fn subsets(length: usize, count: usize) -> Vec<Vec<usize>> {
    let mut all = Vec::new();
    let mut set: Vec<usize> = (0..count).collect();
    loop {
        all.push(set.clone());
        // The next set moves the last position that still can move, and puts those after it directly behind it.
        let Some(moving) = (0..count).rev().find(|&at| set[at] < length - count + at) else {
            return all;
        };
        set[moving] += 1;
        for at in moving + 1..count {
            set[at] = set[at - 1] + 1;
        }
    }
}
