//! Policy optimization on scored groups: law L7, and properties of every estimator.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeSet;

use crate::common::{MASK, group, learner, numbers, ragged, settings, state};
use demask_api::estimators::{Estimator as _, InnerStep, MaskedView};
use demask_api::{
    Adam, Coupled, DiffuGrpo, EstimatorConfig, LossNormalization, ObjectiveConfig, PolicyGroup, PolicyReport,
    PolicySample, SampleRequest, Sampler, Sequence, Spacing, Span, StepSettings, TextSampler, TraceRl,
    UniGrpo, ViewScores,
};
use demask_model::Backbone;
use demask_model::policy::{self, step::PolicyRequest};
use demask_model::sampler::sample;
use demask_model::training::interlude::{Interlude, Uninterrupted};
use demask_model::training::loss::{LossRow, alike, backward_chunks, gather};
use demask_model::training::mask_sampling::masked;
use demask_model::training::optimizer::AdamW;
use tch::Kind;

const ADVANTAGES: [f32; 5] = [1.0, -0.5, 0.25, -1.5, 0.75];

fn estimators() -> Vec<EstimatorConfig> {
    vec![
        EstimatorConfig::from(UniGrpo {
            spacing: Spacing::Cyclic,
        }),
        EstimatorConfig::from(UniGrpo {
            spacing: Spacing::ToEnd,
        }),
        EstimatorConfig::from(DiffuGrpo { prompt_mask: 0.15 }),
        EstimatorConfig::from(Coupled {}),
        EstimatorConfig::from(TraceRl { merge: 2, views: 2 }),
        EstimatorConfig::from(TraceRl { merge: 1, views: 0 }),
    ]
}

/// Returns the views of a sample at inner step `number` of `count`.
fn views(
    config: &EstimatorConfig,
    sample: &PolicySample,
    (number, count): (usize, usize),
    seed: u64,
) -> Vec<MaskedView> {
    let step = InnerStep { number, count, seed };
    config.views(sample, MASK, step)
}

fn objective(kl: f64, inner_steps: usize) -> ObjectiveConfig {
    ObjectiveConfig {
        clip: 0.2,
        kl,
        inner_steps,
        normalization: LossNormalization::Sequence,
        ..ObjectiveConfig::default()
    }
}

/// Returns settings without clipping and with beta1 = 0, so that the first moment is the last gradient.
fn plain(learning_rate: f64) -> StepSettings {
    StepSettings {
        learning_rate,
        clip_norm: 0.0,
        adam: Adam {
            beta1: 0.0,
            weight_decay: 0.0,
            muon: false,
            moments: demask_api::MomentKind::F32,
            ..Adam::default()
        },
        ..settings(3)
    }
}

fn train(
    learner: &mut (Backbone, AdamW),
    reference: Option<&Backbone>,
    groups: &[PolicyGroup],
    estimator: &EstimatorConfig,
    objective: &ObjectiveConfig,
    settings: &StepSettings,
) -> PolicyReport {
    let (backbone, optimizer) = learner;
    policy::train(
        backbone, optimizer, reference, groups, estimator, objective, settings,
    )
    .unwrap()
}

fn gradient(learner: &(Backbone, AdamW)) -> Vec<f64> {
    numbers(&learner.1.state("o").unwrap()["o.first"])
}

#[test]
fn l7_without_an_update_every_ratio_is_exactly_one() {
    for estimator in estimators() {
        let mut learner = learner(1);
        // Four inner steps at learning rate 0, so the weights never move.
        let report = train(
            &mut learner,
            None,
            &[group(&ADVANTAGES)],
            &estimator,
            &objective(0.0, 4),
            &plain(0.0),
        );
        assert_eq!(report.ratio, [1.0; 4], "{estimator:?}");
        assert_eq!(report.clipped, [0.0; 4]);
    }
}

/// Takes one policy step with samples that another policy drew, whose log-probabilities are the present ones
/// minus `less`. Returns the optimizer's first moment and the step's report.
fn drawn_by(less: Option<f32>, estimator: &EstimatorConfig) -> (Vec<f64>, PolicyReport) {
    let (mut learner, groups) = (learner(1), [group(&ADVANTAGES)]);
    let (objective, settings) = (objective(0.0, 1), plain(1e-3));
    let behaviour: Option<Vec<Vec<f32>>> = less.map(|less| {
        let asked = ViewScores {
            groups: groups.to_vec(),
            numbers: Vec::new(),
            estimator: estimator.clone(),
            inner_steps: 1,
            seed: settings.seed,
        };
        let scores = policy::score_views(&learner.0, &asked).unwrap();
        scores
            .into_iter()
            .map(|views| views.iter().map(|at| at - less).collect())
            .collect()
    });
    let asked = PolicyRequest {
        groups: &groups,
        estimator,
        objective: &objective,
        settings: &settings,
        behaviour: &behaviour.unwrap_or_default(),
    };
    let (backbone, optimizer) = &mut learner;
    let report = policy::train_with(backbone, optimizer, None, asked, &mut Uninterrupted).unwrap();
    (gradient(&learner), report)
}

/// The behaviour policy's importance weight is the probability ratio of present to behaviour policy, capped at 5.
/// It scales the gradient. Its mean is reported, and so is the largest gap of the log-probabilities.
#[test]
fn a_token_weighs_as_much_more_as_it_became_likelier_since_it_was_drawn_up_to_the_cap() {
    for estimator in estimators() {
        let (plain, none) = drawn_by(None, &estimator);
        assert_eq!(none.behaviour, None);
        // Samples drawn by the present policy give the same bits.
        let (same, report) = drawn_by(Some(0.0), &estimator);
        assert_eq!(
            (same, report.losses),
            (plain.clone(), none.losses),
            "{estimator:?}"
        );
        for (less, times) in [(2.0_f32.ln(), 2.0), (0.5_f32.ln(), 0.5), (8.0_f32.ln(), 5.0)] {
            let (found, report) = drawn_by(Some(less), &estimator);
            let behaviour = report.behaviour.unwrap();
            assert!(
                (behaviour.weight - times).abs() < 1e-4,
                "{estimator:?}: {behaviour:?}"
            );
            assert!(
                (behaviour.gap - f64::from(less.abs())).abs() < 1e-4,
                "{estimator:?}: {behaviour:?}"
            );
            let largest = plain.iter().fold(0.0, |most: f64, one| most.max(one.abs()));
            for (found, plain) in found.iter().zip(&plain) {
                assert!(
                    (found - times * plain).abs() < 1e-4 * largest,
                    "{estimator:?}: {found} of {plain}"
                );
            }
        }
    }
}

/// Where several policies drew the groups of a step, each scores its own samples alone, by the views that they have
/// among all samples.
#[test]
fn samples_that_are_scored_alone_have_the_views_that_they_have_among_all() {
    let (learner, groups, inner_steps) = (learner(1), [group(&ADVANTAGES), group(&ADVANTAGES)], 2);
    let size = ADVANTAGES.len();
    for estimator in estimators() {
        let scored = |groups: &[PolicyGroup], numbers: Vec<usize>| {
            let asked = ViewScores {
                groups: groups.to_vec(),
                numbers,
                estimator: estimator.clone(),
                inner_steps,
                seed: 5,
            };
            policy::score_views(&learner.0, &asked)
        };
        let all = scored(&groups, Vec::new()).unwrap();
        let own = scored(&groups[1..], (size..2 * size).collect()).unwrap();
        assert_eq!(own.len(), size * inner_steps);
        for (place, own) in own.iter().enumerate() {
            let (inner, sample) = (place / size, place % size);
            let among = &all[inner * 2 * size + size + sample];
            assert_eq!(own.len(), among.len(), "{estimator:?}");
            let near = own
                .iter()
                .zip(among)
                .all(|(own, among)| (own - among).abs() < 1e-5);
            assert!(near, "{estimator:?}: {own:?}, among all {among:?}");
        }
        let refused = scored(&groups, vec![0]).unwrap_err().to_string();
        assert!(refused.contains("numbers of 1 samples"), "{refused}");
    }
}

#[test]
fn l9_what_is_said_of_who_drew_must_fit_the_samples() {
    let (mut learner, groups) = (learner(1), [group(&ADVANTAGES)]);
    let (estimator, objective, settings) = (EstimatorConfig::default(), objective(0.0, 2), plain(1e-3));
    for behaviour in [vec![vec![-1.0]; 3], vec![vec![f32::NAN]; 2 * ADVANTAGES.len()]] {
        let asked = PolicyRequest {
            groups: &groups,
            estimator: &estimator,
            objective: &objective,
            settings: &settings,
            behaviour: &behaviour,
        };
        let refused = policy::train_with(&mut learner.0, &mut learner.1, None, asked, &mut Uninterrupted);
        assert!(refused.unwrap_err().to_string().contains("policy that drew"));
    }
}

/// Rows of many lengths are split over several forward passes. The old log-probabilities come from the same
/// passes, so every ratio is one.
#[test]
fn l7_holds_beyond_one_forward_pass() {
    let long = |number: u32| PolicySample {
        sequence: crate::common::sequence(number, 9 + number as usize % 24, number as usize % 3),
        advantage: if number.is_multiple_of(2) { 1.0 } else { -1.0 },
        commit_step: Vec::new(),
    };
    let group = PolicyGroup {
        id: "long".into(),
        samples: (0..1500).map(long).collect(),
    };
    let rows: Vec<LossRow> = group
        .samples
        .iter()
        .map(|sample| row(&sample.sequence, &[]))
        .collect();
    assert!(alike(&rows, demask_model::network::room::FORWARD_TOKENS).len() > 3);
    let mut learner = learner(1);
    let report = train(
        &mut learner,
        None,
        &[group],
        &EstimatorConfig::default(),
        &objective(0.0, 1),
        &plain(0.0),
    );
    assert_eq!(report.ratio, [1.0]);
}

/// A text that is drawn in one step is drawn from a fully masked answer, so its confidences are the
/// probabilities that training computes.
#[test]
fn l7_sampling_and_training_give_the_same_log_probabilities() {
    let (backbone, _) = learner(1);
    let sampler = TextSampler {
        steps: 1,
        block: 8,
        temperature: 1.0,
        ..TextSampler::default()
    };
    let requests: Vec<SampleRequest> = (0..4)
        .map(|number| {
            let pad = number as usize;
            let mut sequence = crate::common::sequence(number, 16, pad);
            sequence.ids[8..].fill(MASK);
            SampleRequest {
                id: u64::from(number),
                ids: sequence.ids,
                left_pad: pad,
                target: Span { start: 8, end: 16 },
                sampler: Sampler::Text(sampler.clone()),
                grid: None,
                unconditional: None,
                unconditional_left_pad: 0,
                seed: 5,
                watch: false,
            }
        })
        .collect();
    let samples = sample(&backbone, &requests, &mut |_, _, _| Ok(())).unwrap();
    let rows: Vec<LossRow> = requests
        .iter()
        .zip(&samples)
        .map(|(request, sample)| LossRow {
            ids: request.ids.clone(),
            left_pad: request.left_pad,
            targets: (8..16).map(|at| (at, sample.ids[at], 1.0)).collect(),
        })
        .collect();
    let drawn = samples
        .iter()
        .flat_map(|sample| sample.confidence.iter().map(|p| f64::from(p.ln())));
    let alone: Vec<f64> = rows
        .iter()
        .flat_map(|row| numbers(&policy::score(&backbone, std::slice::from_ref(row)).unwrap()))
        .collect();
    let together = numbers(&policy::score(&backbone, &rows).unwrap());
    for ((drawn, alone), together) in drawn.zip(&alone).zip(&together) {
        assert!((drawn - alone).abs() < 2e-5, "{drawn} and {alone}");
        assert!((alone - together).abs() < 2e-5, "{alone} and {together}");
    }
}

fn row(sequence: &Sequence, weights: &[(usize, f32)]) -> LossRow {
    LossRow {
        ids: sequence.ids.clone(),
        left_pad: sequence.left_pad,
        targets: weights
            .iter()
            .map(|&(at, weight)| (at, sequence.ids[at], weight))
            .collect(),
    }
}

#[test]
fn without_advantage_nothing_is_learnt() {
    for estimator in estimators() {
        for kl in [0.0, 0.5] {
            let mut learner = learner(1);
            let reference = learner.0.frozen_copy().unwrap();
            let before = numbers(learner.0.parameters().master());
            let zero = group(&[0.0; 5]);
            let report = train(
                &mut learner,
                Some(&reference),
                &[zero],
                &estimator,
                &objective(kl, 2),
                &plain(1e-2),
            );
            assert_eq!(report.grad_norm, [0.0; 2], "{estimator:?}, kl {kl}");
            assert_eq!(numbers(learner.0.parameters().master()), before);
        }
    }
}

/// At the first inner step the objective's gradient is that of the advantage-weighted log-likelihood of the
/// views.
#[test]
fn the_first_gradient_is_that_of_the_advantage_weighted_masked_loss() {
    for (estimator, normalization) in estimators().into_iter().flat_map(|estimator| {
        [LossNormalization::Sequence, LossNormalization::Token].map(|one| (estimator.clone(), one))
    }) {
        let mut learner = learner(1);
        let objective = ObjectiveConfig {
            normalization,
            ..objective(0.0, 1)
        };
        let report = train(
            &mut learner,
            None,
            &[group(&ADVANTAGES)],
            &estimator,
            &objective,
            &plain(0.0),
        );
        assert!(report.clipped == [0.0] && report.grad_norm[0] > 0.0);
        let found = gradient(&learner);
        let expected = weighted_gradient(&estimator, &group(&ADVANTAGES), normalization);
        let largest = expected
            .iter()
            .fold(0.0, |most: f64, value| most.max(value.abs()));
        for (found, expected) in found.iter().zip(&expected) {
            assert!(
                (found - expected).abs() < 2e-5 * largest,
                "{estimator:?}, {normalization:?}: {found} and {expected}"
            );
        }
    }
}

/// Computes the expected gradient sample by sample: the loss of a sample's counted tokens times its advantage,
/// averaged over its tokens and then over samples, or averaged over all tokens.
fn weighted_gradient(
    estimator: &EstimatorConfig,
    group: &PolicyGroup,
    normalization: LossNormalization,
) -> Vec<f64> {
    let (mut backbone, _) = learner(1);
    let mut sum = backbone.parameters().master().zeros_like();
    let plans: Vec<Vec<MaskedView>> = (0..)
        .zip(&group.samples)
        .map(|(number, sample)| views(estimator, sample, (0, 1), 3 ^ number << 20))
        .collect();
    let tokens = |views: &[MaskedView]| -> usize { views.iter().map(|view| view.counted.len()).sum() };
    let all: usize = plans.iter().map(|views| tokens(views)).sum();
    for (sample, views) in group.samples.iter().zip(plans) {
        let divisor = match normalization {
            LossNormalization::Sequence => tokens(&views) * group.samples.len(),
            LossNormalization::Token => all,
        };
        for view in views {
            let weight = sample.advantage / divisor as f32;
            let weights: Vec<_> = view.counted.iter().map(|&(at, _)| (at, weight)).collect();
            let rows = [LossRow {
                ids: view.ids,
                ..row(&sample.sequence, &weights)
            }];
            let gathered = gather(&backbone, &rows).unwrap();
            backward_chunks(&backbone, &gathered, |logp, at, length| {
                Ok(-(logp * gathered.weights_N.narrow(0, at, length)).sum(Kind::Float))
            })
            .unwrap();
            backbone.parameters_mut().gather_grads(&mut sum).unwrap();
        }
    }
    numbers(&sum)
}

/// The divergence is zero at the first inner step of the reference itself and positive after the weights
/// have moved.
#[test]
fn the_divergence_is_zero_at_the_reference_and_positive_away_from_it() {
    for estimator in estimators() {
        let mut learner = learner(1);
        let reference = learner.0.frozen_copy().unwrap();
        let report = train(
            &mut learner,
            Some(&reference),
            &[group(&ADVANTAGES)],
            &estimator,
            &objective(0.1, 3),
            &plain(1e-2),
        );
        assert_eq!(report.kl[0], 0.0, "{estimator:?}");
        assert!(report.kl[1] > 0.0 && report.kl[2] > 0.0, "{:?}", report.kl);
        // The divergence from another model is positive, and a step on it alone moves the weights towards the
        // reference.
        let mut away = crate::common::learner(2);
        let zero = group(&[0.0; 5]);
        let mut last = f64::INFINITY;
        for _ in 0..3 {
            let report = train(
                &mut away,
                Some(&reference),
                std::slice::from_ref(&zero),
                &estimator,
                &objective(1.0, 1),
                &plain(3e-3),
            );
            assert!(
                report.kl[0] > 0.0 && report.kl[0] < last,
                "{} after {last}",
                report.kl[0]
            );
            last = report.kl[0];
        }
    }
}

/// Tokens whose ratio is beyond the clip range in the direction of the advantage contribute no gradient.
#[test]
fn clipped_tokens_have_no_gradient() {
    let all_good = group(&[1.0; 5]);
    let mut learner = learner(1);
    let sharp = ObjectiveConfig {
        clip: 0.0,
        kl: 0.0,
        inner_steps: 4,
        ..ObjectiveConfig::default()
    };
    // Every inner step has the same views, so tokens that became more likely are clipped after the first.
    let same = EstimatorConfig::from(DiffuGrpo { prompt_mask: 0.0 });
    let report = train(&mut learner, None, &[all_good], &same, &sharp, &plain(1e-3));
    assert!(report.clipped[0] == 0.0 && report.clipped[3] > 0.5, "{report:?}");
    assert!(report.grad_norm[3] < report.grad_norm[0], "{report:?}");
}

#[test]
fn l8_the_same_step_is_the_same_bits() {
    for estimator in estimators() {
        let step = || {
            let mut learner = learner(1);
            let reference = learner.0.frozen_copy().unwrap();
            train(
                &mut learner,
                Some(&reference),
                &[group(&ADVANTAGES)],
                &estimator,
                &objective(0.1, 3),
                &settings(9),
            );
            state(learner.0.parameters(), &learner.1)
        };
        assert_eq!(step(), step());
    }
}

/// With every estimator, ten policy steps increase the advantage-weighted log-likelihood of whole answers,
/// which no estimator computes directly.
#[test]
fn a_policy_step_makes_the_better_samples_likelier() {
    for estimator in estimators() {
        let mut learner = learner(1);
        let likelihood = |backbone: &Backbone| -> Vec<f64> {
            let whole = |sequence: &Sequence| {
                let at: Vec<usize> = (sequence.answer[0].start..sequence.answer[0].end).collect();
                let weights: Vec<_> = at.iter().map(|&at| (at, 1.0)).collect();
                let row = LossRow {
                    ids: masked(&sequence.ids, &at, MASK),
                    ..row(sequence, &weights)
                };
                let scores = numbers(&policy::score(backbone, &[row]).unwrap());
                scores.iter().sum::<f64>() / scores.len() as f64
            };
            ragged().iter().map(whole).collect()
        };
        let before = likelihood(&learner.0);
        for seed in 0..10 {
            let settings = StepSettings { seed, ..plain(3e-3) };
            train(
                &mut learner,
                None,
                &[group(&ADVANTAGES)],
                &estimator,
                &objective(0.0, 2),
                &settings,
            );
        }
        let after = likelihood(&learner.0);
        let gain: f64 = ADVANTAGES
            .iter()
            .zip(before.iter().zip(&after))
            .map(|(&advantage, (before, after))| f64::from(advantage) * (after - before))
            .sum();
        assert!(gain > 0.1, "{estimator:?}: {gain}");
    }
}

/// Every view counts tokens of the answer only, and only tokens that it masks. It masks nothing else, except
/// prompt tokens in diffu-GRPO and later answer tokens in TraceRL.
#[test]
fn every_view_masks_what_it_counts() {
    for estimator in estimators() {
        for (number, sample) in group(&ADVANTAGES).samples.iter().enumerate() {
            for inner in 0..4 {
                let found = views(&estimator, sample, (inner, 4), number as u64);
                assert_eq!(found, views(&estimator, sample, (inner, 4), number as u64));
                check_views(&estimator, &sample.sequence, &found);
            }
        }
    }
}

fn check_views(estimator: &EstimatorConfig, sequence: &Sequence, views: &[MaskedView]) {
    let answer = sequence.answer[0].start..sequence.answer[0].end;
    let mut counted = Vec::new();
    for view in views {
        for &(at, weight) in &view.counted {
            assert!(answer.contains(&at) && view.ids[at] == MASK && weight == 1.0);
            counted.push(at);
        }
        assert!(!view.counted.is_empty());
        for (at, (&seen, &clean)) in view.ids.iter().zip(&sequence.ids).enumerate() {
            let hidden = view.counted.iter().any(|&(counted, _)| counted == at);
            let prompt = estimator.name() == DiffuGrpo::NAME && !answer.contains(&at);
            let later = estimator.name() == TraceRl::NAME && answer.contains(&at);
            assert!(
                seen == clean || hidden || ((prompt || later) && at >= sequence.left_pad && seen == MASK)
            );
        }
    }
    let every_moment = EstimatorConfig::from(TraceRl { merge: 1, views: 0 });
    let is_whole = [Coupled::NAME, DiffuGrpo::NAME].contains(&estimator.name());
    let whole = is_whole || *estimator == every_moment;
    counted.sort_unstable();
    assert!(
        counted.windows(2).all(|pair| pair[0] < pair[1]),
        "no position counts twice"
    );
    assert!(
        !whole || counted == answer.collect::<Vec<_>>(),
        "every position counts once"
    );
}

/// TraceRL's views are the sampler's own states: tokens it had committed are present, the others are masked.
#[test]
fn a_trace_view_is_what_the_sampler_saw() {
    for sample in group(&ADVANTAGES).samples {
        let answer = sample.sequence.answer[0].start..sample.sequence.answer[0].end;
        let every_moment = EstimatorConfig::from(TraceRl { merge: 1, views: 0 });
        let found = views(&every_moment, &sample, (0, 2), 1);
        let steps: BTreeSet<u16> = sample.commit_step.iter().copied().collect();
        assert_eq!(found.len(), steps.len());
        for (view, now) in found.iter().zip(steps) {
            for (at, &step) in answer.clone().zip(&sample.commit_step) {
                assert_eq!(view.ids[at] == MASK, step >= now);
                assert_eq!(view.counted.contains(&(at, 1.0)), step == now);
            }
        }
        // Two inner steps with one view each look at different moments.
        let one_moment = EstimatorConfig::from(TraceRl { merge: 1, views: 1 });
        let of = |inner| views(&one_moment, &sample, (inner, 2), 1);
        assert!(found.len() < 2 || of(0) != of(1));
    }
}

/// An observer that records the weights whenever it is called.
#[derive(Default)]
struct Looking {
    seen: Vec<Vec<f64>>,
}

impl Interlude for Looking {
    fn is_wanted(&mut self) -> bool {
        true
    }

    fn take(&mut self, begun_with: &Backbone) -> demask_model::Result<()> {
        let named = begun_with.trained().named()?;
        self.seen.push(named.values().flat_map(numbers).collect());
        Ok(())
    }

    fn give_up(&mut self, error: demask_model::ModelError) -> demask_model::Result<()> {
        Err(error)
    }
}

/// Requests that are served during a policy step see the weights from before the step, at every pause of
/// every inner step, and do not change the step's result.
#[test]
fn l8_an_interlude_sees_the_weights_that_the_step_began_with_and_changes_nothing() {
    for inner_steps in [1, 3] {
        let (groups, estimator) = (
            [group(&ADVANTAGES), group(&ADVANTAGES)],
            EstimatorConfig::default(),
        );
        let (objective, settings) = (objective(0.0, inner_steps), settings(3));
        let mut calm = learner(1);
        let began: Vec<f64> = calm
            .0
            .trained()
            .named()
            .unwrap()
            .values()
            .flat_map(numbers)
            .collect();
        train(&mut calm, None, &groups, &estimator, &objective, &settings);
        let (mut backbone, mut optimizer) = learner(1);
        let asked = PolicyRequest {
            groups: &groups,
            estimator: &estimator,
            objective: &objective,
            settings: &settings,
            behaviour: &[],
        };
        let mut looking = Looking::default();
        policy::train_with(&mut backbone, &mut optimizer, None, asked, &mut looking).unwrap();
        assert!(looking.seen.len() >= 2 * inner_steps, "scores and gradients");
        assert!(looking.seen.iter().all(|seen| *seen == began));
        assert_eq!(
            state(backbone.parameters(), &optimizer),
            state(calm.0.parameters(), &calm.1)
        );
    }
}
