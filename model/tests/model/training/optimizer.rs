//! AdamW against values computed by hand, and steps that fail, which must leave nothing behind.
#![allow(clippy::unwrap_used, missing_docs)]

use crate::common::{learner, numbers, ragged, sequence, settings, state};
use demask_api::{Adam, EstimatorConfig, MomentKind, ObjectiveConfig};
use demask_model::image_tokenizer::{ImageTokenizer, TokenizerTrainer};
use demask_model::training::optimizer::AdamW;
use demask_model::weights::parameters::Parameters;
use demask_model::weights::slot::Slot;
use demask_model::{Backbone, policy, training};
use tch::{Device, Kind, Tensor};

fn close(found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert!(
            (found - expected).abs() <= 2e-6 * expected.abs().max(0.1),
            "{found} and {expected}"
        );
    }
}

/// Two weights and three steps: weight decay 0.1, betas 0.9 and 0.99, and a third gradient of norm 5 that is
/// clipped to 2.
#[test]
fn three_steps_of_adamw_are_those_worked_out_by_hand() {
    let mut weights = Parameters::new(
        vec![Slot::new("w", &[2])],
        &[Tensor::from_slice(&[1.0f32, -2.0])],
        Device::Cpu,
        Kind::Float,
    )
    .unwrap();
    let mut optimizer = AdamW::new(&weights).unwrap();
    let adam = Adam {
        beta1: 0.9,
        beta2: 0.99,
        eps: 1e-8,
        weight_decay: 0.1,
        muon: false,
        moments: demask_api::MomentKind::F32,
        offload: false,
    };
    // Gradient, learning rate, gradient norm, weights, first moment, second moment.
    let steps = [
        (
            [0.3f32, -0.4],
            0.1,
            0.5,
            [0.890_000_003, -1.880_000_002],
            [0.03, -0.04],
            [0.0009, 0.0016],
        ),
        (
            [0.6, 0.8],
            0.1,
            1.0,
            [0.784_712_517, -1.897_760_773],
            [0.087, 0.044],
            [0.004_491, 0.007_984],
        ),
        (
            [-3.0, 4.0],
            0.05,
            5.0,
            [0.790_447_495, -1.922_945_448],
            [-0.041_699_976, 0.199_599_968],
            [0.018_846_084, 0.033_504_150],
        ),
    ];
    for (number, (gradient, rate, norm, values, first, second)) in steps.into_iter().enumerate() {
        (weights.leaf("w").unwrap() * Tensor::from_slice(&gradient))
            .sum(Kind::Float)
            .backward();
        optimizer.accumulate(&mut weights).unwrap();
        let stepped = optimizer.step(&weights, &adam, rate, 2.0, 0.0).unwrap();
        assert!(stepped.finite);
        close(&[stepped.grad_norm], &[norm]);
        close(&numbers(weights.master()), &values);
        let state = optimizer.state("o").unwrap();
        close(&numbers(&state["o.first"]), &first);
        close(&numbers(&state["o.second"]), &second);
        assert_eq!(optimizer.step_count(), number as u64 + 1);
    }
}

#[test]
fn gradients_accumulate_to_the_gradient_of_the_sum() {
    let (mut backbone, mut optimizer) = learner(1);
    let add = |backbone: &demask_model::Backbone, factor: f64| {
        let leaf = backbone
            .parameters()
            .leaf("model.transformer.ln_f.weight")
            .unwrap();
        (leaf * factor).sum(Kind::Float).backward();
    };
    for factor in [2.0, 3.0] {
        add(&backbone, factor);
        optimizer.accumulate(backbone.parameters_mut()).unwrap();
    }
    let grads = optimizer.named_grads(backbone.parameters()).unwrap();
    close(&numbers(&grads["model.transformer.ln_f.weight"]), &[5.0; 16]);
}

/// The moving average starts as the weights after the first step and follows them.
#[test]
fn the_moving_average_follows_the_weights() {
    let (mut backbone, mut optimizer) = learner(1);
    let mut expected: Vec<f64> = Vec::new();
    for step in 0..3 {
        let settings = demask_api::StepSettings {
            ema: 0.75,
            ..settings(step)
        };
        training::train(&mut backbone, &mut optimizer, &[ragged()], &settings).unwrap();
        let weights = numbers(backbone.parameters().master());
        expected = if step == 0 {
            weights
        } else {
            expected
                .iter()
                .zip(&weights)
                .map(|(old, new)| 0.75 * old + 0.25 * new)
                .collect()
        };
    }
    close(&numbers(&optimizer.state("o").unwrap()["o.average"]), &expected);
}

/// Checks that the next step of a model that has learnt nothing yet is the first step of a fresh one.
fn learns_as_fresh(mut learnt: (Backbone, AdamW)) {
    let mut fresh = learner(1);
    for (backbone, optimizer) in [&mut learnt, &mut fresh] {
        training::train(backbone, optimizer, &[ragged()], &settings(1)).unwrap();
    }
    let [learnt, fresh] =
        [learnt, fresh].map(|(backbone, optimizer)| state(backbone.parameters(), &optimizer));
    assert_eq!(learnt, fresh);
}

/// A step that is refused at its second micro-batch changes nothing, and the next step equals that of a
/// fresh model. A gradient left over from the first micro-batch would show there.
#[test]
fn a_refused_second_micro_batch_leaves_no_gradient_behind() {
    let (mut backbone, mut optimizer) = learner(1);
    let before = state(backbone.parameters(), &optimizer);
    let mut bad = sequence(9, 12, 0);
    bad.ids[5] = 20;
    let refused = training::train(
        &mut backbone,
        &mut optimizer,
        &[ragged(), vec![bad]],
        &settings(0),
    );
    let message = refused.unwrap_err().to_string();
    assert!(
        message.contains("row-9: the token at 5 is 20, but the vocabulary has 20"),
        "{message}"
    );
    assert_eq!(state(backbone.parameters(), &optimizer), before);
    learns_as_fresh((backbone, optimizer));
}

/// Discarding removes both the accumulated gradient of one micro-batch and the partial gradient in the
/// leaves, as needed when memory runs out in the second micro-batch.
#[test]
fn a_discarded_gradient_is_gone() {
    let (mut backbone, mut optimizer) = learner(1);
    for last in [false, true] {
        let leaf = backbone
            .parameters()
            .leaf("model.transformer.ln_f.weight")
            .unwrap();
        leaf.sum(Kind::Float).backward();
        if !last {
            optimizer.accumulate(backbone.parameters_mut()).unwrap();
        }
    }
    optimizer.discard(backbone.parameters_mut()).unwrap();
    learns_as_fresh((backbone, optimizer));
}

/// A loss that is not finite changes neither weights nor optimizer state, is reported, and leaves no
/// gradient behind, even if the gradient itself is finite.
#[test]
fn a_loss_that_is_not_finite_is_not_stepped_on() {
    let (mut backbone, mut optimizer) = learner(1);
    training::train(&mut backbone, &mut optimizer, &[ragged()], &settings(0)).unwrap();
    let before = state(backbone.parameters(), &optimizer);
    // A finite gradient with a loss that is not finite.
    let leaf = backbone
        .parameters()
        .leaf("model.transformer.ln_f.weight")
        .unwrap();
    leaf.sum(Kind::Float).backward();
    optimizer.accumulate(backbone.parameters_mut()).unwrap();
    let norm = optimizer.norm().unwrap().double_value(&[0]);
    let stepped = optimizer
        .step_on((f64::NAN, norm), backbone.parameters_mut(), &settings(1), 0.0)
        .unwrap();
    assert!(!stepped.finite && (stepped.grad_norm - 4.0).abs() < 1e-5);
    assert_eq!(state(backbone.parameters(), &optimizer), before);
    let grads = optimizer.named_grads(backbone.parameters()).unwrap();
    assert!(
        grads
            .values()
            .all(|grad| grad.abs().max().double_value(&[]) == 0.0)
    );
    // A loss that overflows in training.
    let huge = demask_api::StepSettings {
        task_weights: [1e300; 4],
        loss_normalization: demask_api::LossNormalization::Sequence,
        block_noise: demask_api::BlockNoise::default(),
        ..settings(1)
    };
    let report = training::train(&mut backbone, &mut optimizer, &[ragged()], &huge).unwrap();
    assert!(!report.finite && report.step == 1);
    assert_eq!(state(backbone.parameters(), &optimizer), before);
}

/// The first inner step is so long that the second one's loss is not finite. The whole policy step is undone.
#[test]
fn a_policy_step_that_is_not_finite_is_taken_back_whole() {
    let (mut backbone, mut optimizer) = learner(1);
    let ema = demask_api::StepSettings {
        ema: 0.5,
        ..settings(0)
    };
    training::train(&mut backbone, &mut optimizer, &[ragged()], &ema).unwrap();
    let before = state(backbone.parameters(), &optimizer);
    let objective = ObjectiveConfig {
        inner_steps: 3,
        ..ObjectiveConfig::default()
    };
    let long = demask_api::StepSettings {
        learning_rate: 1e30,
        ..ema
    };
    let report = policy::train(
        &mut backbone,
        &mut optimizer,
        None,
        &[crate::common::group(&[1.0, -1.0, 0.5, -0.5, 0.2])],
        &EstimatorConfig::default(),
        &objective,
        &long,
    )
    .unwrap();
    assert!(!report.finite && report.grad_norm.len() == 2, "{report:?}");
    assert!(report.grad_norm[0].is_finite());
    assert_eq!(report.step, 1);
    assert_eq!(state(backbone.parameters(), &optimizer), before);
}

/// A refused step of the image tokenizer changes neither weights nor optimizer state. A valid step must
/// change them, so that the comparison can fail.
#[test]
fn a_tokenizer_step_that_fails_leaves_everything_as_it_was() {
    let mut tokenizer = ImageTokenizer::fresh(&crate::common::tokenizer_config(), 1, Device::Cpu).unwrap();
    let mut trainer = TokenizerTrainer::new(&tokenizer).unwrap();
    let picture = |side| demask_api::Picture::filled(side, side, [200, 30, 90]);
    let all = |tokenizer: &ImageTokenizer, trainer: &TokenizerTrainer| {
        let mut state = trainer.state("t").unwrap();
        state.insert("weights".into(), tokenizer.parameters().master().shallow_clone());
        state
            .into_iter()
            .map(|(name, tensor)| (name, numbers(&tensor)))
            .collect::<Vec<_>>()
    };
    let before = all(&tokenizer, &trainer);
    for (pictures, words) in [
        (vec![], "at least one picture"),
        (
            vec![picture(5)],
            "5 x 5 pixels; both sides must be multiples of 2",
        ),
        (vec![picture(4), picture(8)], "8 x 8"),
    ] {
        let message = trainer
            .step(&mut tokenizer, &pictures, &settings(0))
            .unwrap_err()
            .to_string();
        assert!(message.contains(words), "{message}");
    }
    assert_eq!(all(&tokenizer, &trainer), before);
    assert!(
        trainer
            .step(&mut tokenizer, &[picture(4)], &settings(0))
            .unwrap()
            .finite
    );
    assert_ne!(all(&tokenizer, &trainer), before);
}

fn in_bf16(seed: u64) -> demask_api::StepSettings {
    demask_api::StepSettings {
        adam: Adam {
            moments: MomentKind::Bf16,
            ..Adam::default()
        },
        ..settings(seed)
    }
}

/// A bf16 second moment decays as an f32 one does. It changes by a thousandth per step, which is below bf16's
/// 8 bits of precision; stochastic rounding keeps it moving.
#[test]
fn a_second_moment_in_bf16_goes_down_as_it_should() {
    let values = Tensor::full([512], 0.5, (Kind::Float, Device::Cpu));
    let mut weights =
        Parameters::new(vec![Slot::new("w", &[512])], &[values], Device::Cpu, Kind::Float).unwrap();
    let mut optimizer = AdamW::new(&weights).unwrap();
    let adam = in_bf16(0).adam;
    let steps = 800;
    for step in 0..steps {
        let slope = if step == 0 { 1.0 } else { 0.0 };
        (weights.leaf("w").unwrap() * slope).sum(Kind::Float).backward();
        optimizer.accumulate(&mut weights).unwrap();
        assert!(optimizer.step(&weights, &adam, 1e-3, 0.0, 0.0).unwrap().finite);
    }
    let state = optimizer.state("o").unwrap();
    assert_eq!(state["o.second"].kind(), Kind::BFloat16);
    let expected = (1.0 - adam.beta2) * adam.beta2.powi(steps - 1);
    let mean = state["o.second"]
        .to_kind(Kind::Double)
        .mean(Kind::Double)
        .double_value(&[]);
    assert!((mean / expected - 1.0).abs() < 0.03, "{mean} and {expected}");
}

#[test]
fn moments_in_bf16_learn_as_moments_in_f32_do() {
    let learnt = |settings: fn(u64) -> demask_api::StepSettings| {
        let (mut backbone, mut optimizer) = learner(2);
        let losses: Vec<f64> = (0..60)
            .map(|seed| {
                let report = training::train(&mut backbone, &mut optimizer, &[ragged()], &settings(seed));
                report.unwrap().loss
            })
            .collect();
        let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
        (mean(&losses[..10]), mean(&losses[50..]))
    };
    let ((begun, full), (_, half)) = (learnt(settings), learnt(in_bf16));
    assert!(full < 0.7 * begun, "{begun} to {full}: nothing was learnt");
    assert!(
        (half - full).abs() < 0.1 * (begun - full),
        "{half}, in f32 {full}, from {begun}"
    );
}

/// Every way that moments are stored and updated; each is tested with a moving average.
const WAYS: [(MomentKind, bool); 4] = [
    (MomentKind::F32, false),
    (MomentKind::Bf16, false),
    (MomentKind::F32, true),
    (MomentKind::Bf16, true),
];

/// Offloaded moments give the same bits as moments that stay. Offloaded moments are copied from host memory
/// piece by piece and updated by libtorch's operators, the others by the fused kernel. Switching between both
/// during a run, and resuming, gives the same bits too.
#[test]
fn l8_offloaded_moments_come_to_the_same_bits_as_those_that_stay() {
    for (moments, muon) in WAYS {
        let learnt = |offloaded: fn(u64) -> bool, resumed: bool| {
            let (mut backbone, mut optimizer) = learner(2);
            for seed in 0..6 {
                if resumed && seed == 3 {
                    let kept = optimizer.state("o").unwrap();
                    optimizer = AdamW::new(backbone.parameters()).unwrap();
                    optimizer.restore("o", &kept).unwrap();
                }
                let adam = Adam {
                    moments,
                    muon,
                    offload: offloaded(seed),
                    ..Adam::default()
                };
                let settings = demask_api::StepSettings {
                    adam,
                    ema: 0.9,
                    ..settings(seed)
                };
                let report = training::train(&mut backbone, &mut optimizer, &[ragged()], &settings);
                assert!(report.unwrap().finite);
            }
            state(backbone.parameters(), &optimizer)
        };
        let expected = learnt(|_| false, false);
        for (offloaded, resumed) in [(|_| true) as fn(u64) -> bool, |seed| seed % 2 == 1]
            .into_iter()
            .zip([true, false])
        {
            assert!(learnt(offloaded, resumed) == expected, "{moments:?}, muon {muon}");
        }
    }
}

/// A run with bf16 moments resumes from its file with the same bits. A run whose moments were f32 continues
/// with bf16 moments.
#[test]
fn moments_in_bf16_are_resumed_to_the_same_bits() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("optimizer.safetensors");
    let (mut backbone, mut optimizer) = learner(2);
    let train = |backbone: &mut demask_model::Backbone, optimizer: &mut AdamW, settings| {
        training::train(backbone, optimizer, &[ragged()], &settings).unwrap();
    };
    train(&mut backbone, &mut optimizer, settings(1));
    train(&mut backbone, &mut optimizer, in_bf16(2));
    demask_model::weights::safetensors::write(&path, &optimizer.state("o").unwrap(), None).unwrap();
    let mut resumed = Backbone::fresh(&crate::common::config(), 9, Device::Cpu, Kind::Float).unwrap();
    resumed.parameters().set(backbone.parameters().master()).unwrap();
    let mut its_optimizer = AdamW::new(resumed.parameters()).unwrap();
    let stored = demask_model::weights::safetensors::read(&path).unwrap();
    its_optimizer.restore("o", &stored).unwrap();
    for seed in 3..6 {
        train(&mut backbone, &mut optimizer, in_bf16(seed));
        train(&mut resumed, &mut its_optimizer, in_bf16(seed));
    }
    let all = |backbone: &demask_model::Backbone, optimizer| state(backbone.parameters(), optimizer);
    assert!(all(&backbone, &optimizer) == all(&resumed, &its_optimizer));
}
