//! LLaDA's number with less variance from as many views.

use rand::Rng as _;
use rand_chacha::ChaCha8Rng;

use super::design::ViewDesign;
use super::exact::{every_view, subset_count, subsets};
use super::published::{self, positions};

/// At most so many views: all of them where there are no more.
pub(super) fn design(length: usize, samples: usize, rng: &mut ChaCha8Rng) -> ViewDesign {
    if length < 20 && (1 << length) - 1 <= samples {
        return every_view(length);
    }
    if samples < 4 {
        return published::design(length, samples, samples.max(1), rng);
    }
    let mut design = ViewDesign::default();
    let all = design.view((0..length).collect());
    design.exact(1.0, vec![all]);
    design.control_by(all);
    let (counts, views) = (length - 1, samples - 1);
    let strata = counts.min(views / 2);
    for number in 0..strata {
        let (first, end) = (1 + counts * number / strata, 1 + counts * (number + 1) / strata);
        let factor = (end - first) as f64;
        let share = views / strata + usize::from(number < views % strata);
        if end - first == 1 && subset_count(length, first, share + 1) <= share {
            let every = subsets(length, first)
                .into_iter()
                .map(|masked| design.view(masked));
            let every = every.collect();
            design.exact(factor, every);
            continue;
        }
        let units = (0..share)
            .map(|_| vec![design.view(positions(length, rng.random_range(first..end), rng))])
            .collect();
        design.sampled(factor, units, 1.0);
    }
    design
}
