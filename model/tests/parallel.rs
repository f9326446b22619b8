//! A batch that is split over several threads gives the same gradients as on one thread, and the same bits
//! each time.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use demask_api::{EstimatorConfig, ObjectiveConfig, Sequence, Spacing, UniGrpo};
use demask_model::{policy, training};
use tch::{Kind, Tensor};

use common::{learner, sequence, settings};

fn rows() -> Vec<Sequence> {
    (0..13)
        .map(|row| sequence(row, 10 + row as usize % 4, row as usize % 3))
        .collect()
}

/// Returns the weights after three training steps and one policy step, and all losses.
fn learnt(threads: i32) -> (Tensor, Vec<f64>) {
    tch::set_num_threads(threads);
    let (mut backbone, mut optimizer) = learner(2);
    let mut losses = Vec::new();
    for step in 0..3 {
        let report = training::train(&mut backbone, &mut optimizer, &[rows()], &settings(step)).unwrap();
        losses.push(report.loss);
        losses.extend(report.task_losses.into_iter().map(|(_, loss)| loss));
    }
    let groups = [
        common::group(&[1.0, -0.5, 0.0, 0.5, -1.0]),
        common::group(&[0.3, 0.3, -0.6, 0.1, -0.1]),
    ];
    let estimator = EstimatorConfig::from(UniGrpo {
        spacing: Spacing::Cyclic,
    });
    let objective = ObjectiveConfig {
        inner_steps: 2,
        ..ObjectiveConfig::default()
    };
    let report = policy::train(
        &mut backbone,
        &mut optimizer,
        None,
        &groups,
        &estimator,
        &objective,
        &settings(9),
    )
    .unwrap();
    losses.extend(report.losses);
    (backbone.parameters().master().copy(), losses)
}

#[test]
fn l8_parts_give_the_gradient_of_the_whole_and_the_same_bits_each_time() {
    let (alone, its_losses) = learnt(1);
    let (apart, losses) = learnt(3);
    assert_eq!(tch::get_num_threads(), 3);
    let (again, losses_again) = learnt(3);
    tch::set_num_threads(1);
    assert_eq!(losses, losses_again);
    assert!(apart.equal(&again));
    for (a, b) in its_losses.iter().zip(&losses) {
        assert!(
            (a - b).abs() <= 1e-4 * a.abs().max(1.0),
            "{its_losses:?} {losses:?}"
        );
    }
    let away = (&alone - &apart)
        .abs()
        .max()
        .to_kind(Kind::Double)
        .double_value(&[]);
    // Adam's first steps have the size of the learning rate whatever the size of the gradient, so rounding of
    // a gradient close to zero shows in the weights.
    assert!(away < 2e-3, "{away}");
}
