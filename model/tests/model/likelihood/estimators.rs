//! Log-likelihoods of answers: the published formula, bias against enumeration, the chain rule, batching
//! (L8), and guidance.

use std::collections::BTreeSet;

use demask_api::{LikelihoodEstimator, LikelihoodQuery, LogLikelihood};
use demask_model::likelihood::published::counts;
use demask_model::likelihood::{Company, design, log_likelihoods};
use demask_model::{AttentionMask, Backbone, ModelError};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind, Tensor};

use crate::common::{MASK, config, numbers};

/// Returns a random f64 network whose output weights are scaled by 12, so that its logits differ
/// considerably.
fn network(seed: u64) -> Backbone {
    let backbone = Backbone::fresh(&config(), seed, Device::Cpu, Kind::Double).unwrap();
    tch::no_grad(|| backbone.head_weight().unwrap().f_mul_scalar_(12.0).map(|_| ())).unwrap();
    backbone
}

fn query(length: usize, estimator: LikelihoodEstimator, seed: u64) -> LikelihoodQuery {
    LikelihoodQuery {
        prompt: vec![1, 7, 3, 12],
        answer: [4, 9, 2, 0, 15, 8, 5, 1][..length].to_vec(),
        estimator,
        guidance: 0.0,
        seed,
    }
}

fn scored(backbone: &Backbone, queries: &[LikelihoodQuery], tokens: usize) -> Vec<LogLikelihood> {
    let company = Company {
        tokens,
        is_gone: &|| false,
    };
    log_likelihoods(backbone, queries, &company).unwrap()
}

fn value(backbone: &Backbone, query: &LikelihoodQuery) -> f64 {
    scored(backbone, std::slice::from_ref(query), 4096)[0].value
}

/// Returns the logits of every position of a row, `[L][V]`, from a plain forward pass.
fn logits(backbone: &Backbone, ids: &[u32]) -> Vec<Vec<f64>> {
    let ids: Vec<i64> = ids.iter().map(|&id| i64::from(id)).collect();
    tch::no_grad(|| {
        let ids = Tensor::from_slice(&ids).unsqueeze(0);
        let hidden = backbone
            .hidden(&ids, &AttentionMask::None)
            .unwrap()
            .squeeze_dim(0);
        let logits = backbone.head(&hidden, None).unwrap();
        let columns = logits.size()[1] as usize;
        numbers(&logits).chunks(columns).map(<[f64]>::to_vec).collect()
    })
}

fn log_softmax(logits: &[f64], at: u32) -> f64 {
    let most = logits.iter().copied().fold(f64::MIN, f64::max);
    let sum: f64 = logits.iter().map(|logit| (logit - most).exp()).sum();
    logits[at as usize] - most - sum.ln()
}

/// Returns the log-probabilities of the answer's tokens at the positions `at` while the positions `masked`
/// are masked.
fn masked_log_probs(
    backbone: &Backbone,
    query: &LikelihoodQuery,
    masked: &[usize],
    at: &[usize],
) -> Vec<f64> {
    let (start, w) = (query.prompt.len(), f64::from(query.guidance));
    let behind = |prompt: Vec<u32>| {
        let mut ids = [prompt, query.answer.clone()].concat();
        masked.iter().for_each(|&at| ids[start + at] = MASK);
        logits(backbone, &ids)
    };
    let conditional = behind(query.prompt.clone());
    let unconditional = behind(vec![MASK; start]);
    let one = |&at: &usize| {
        let pairs = unconditional[start + at].iter().zip(&conditional[start + at]);
        let guided: Vec<f64> = pairs.map(|(u, c)| u + (w + 1.0) * (c - u)).collect();
        log_softmax(&guided, query.answer[at])
    };
    at.iter().map(one).collect()
}

/// Computes the expectation exactly: the mean over mask counts m of the mean over all sets of m positions of
/// (l / m) times the summed log-probabilities.
fn by_enumeration(backbone: &Backbone, query: &LikelihoodQuery) -> f64 {
    let length = query.answer.len();
    let mut by_count = vec![Vec::new(); length + 1];
    for bits in 1_usize..1 << length {
        let masked: Vec<usize> = (0..length).filter(|at| bits >> at & 1 == 1).collect();
        let sum: f64 = masked_log_probs(backbone, query, &masked, &masked).iter().sum();
        by_count[masked.len()].push(length as f64 / masked.len() as f64 * sum);
    }
    let means = by_count[1..]
        .iter()
        .map(|sums| sums.iter().sum::<f64>() / sums.len() as f64);
    means.sum::<f64>() / length as f64
}

fn published(samples: usize, batch: usize) -> LikelihoodEstimator {
    LikelihoodEstimator::Published { samples, batch }
}

/// The mask counts equal `torch.round(torch.linspace(k, k + (b - 1) * (l / b), steps=b)).long()`, then `((x -
/// 1) % l) + 1`, as libtorch itself computes them.
#[test]
fn counts_are_those_that_torch_rounds() {
    for length in 1..=40_usize {
        for batch in [1, 2, 3, 4, 5, 8, 16, 32, 64] {
            for start in 1..=length {
                let end = start as f64 + (batch - 1) as f64 * (length as f64 / batch as f64);
                let spread = Tensor::linspace(start as f64, end, batch as i64, (Kind::Float, Device::Cpu));
                let expected: Vec<usize> = numbers(&spread.round())
                    .into_iter()
                    .map(|x| (x as usize - 1) % length + 1)
                    .collect();
                assert_eq!(
                    counts(start, length, batch),
                    expected,
                    "l {length} b {batch} k {start}"
                );
            }
        }
    }
}

#[test]
fn a_batch_as_long_as_the_answer_has_each_count_once() {
    for length in 1..=30 {
        for start in 1..=length {
            let drawn: BTreeSet<usize> = counts(start, length, length).into_iter().collect();
            assert_eq!(drawn, (1..=length).collect());
        }
    }
}

/// The estimate equals the published loop, written out again here with the same random generator.
#[test]
fn the_value_is_the_published_formula_s_for_the_same_draws() {
    let backbone = network(1);
    for (length, samples, batch, seed) in [(5, 6, 2, 3), (8, 12, 4, 9), (2, 3, 3, 1), (7, 8, 8, 77)] {
        let query = query(length, published(samples, batch), seed);
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut losses = Vec::new();
        for _ in 0..samples / batch {
            let k = rng.random_range(1..=length);
            let mut loss = 0.0;
            for count in counts(k, length, batch) {
                let mut order: Vec<usize> = (0..length).collect();
                for at in (1..length).rev() {
                    order.swap(at, rng.random_range(0..=at));
                }
                let masked = &order[..count];
                let sum: f64 = masked_log_probs(&backbone, &query, masked, masked).iter().sum();
                loss -= length as f64 / count as f64 * sum / batch as f64;
            }
            losses.push(loss);
        }
        let expected = -losses.iter().sum::<f64>() / losses.len() as f64;
        let found = value(&backbone, &query);
        assert!(
            (found - expected).abs() < 1e-5 * expected.abs(),
            "{found} {expected}"
        );
    }
}

#[test]
fn one_token_is_exact_at_one_forward_by_every_estimator() {
    let backbone = network(2);
    for estimator in [
        published(128, 32),
        LikelihoodEstimator::Reduced { samples: 9 },
        LikelihoodEstimator::Chain,
    ] {
        let query = query(1, estimator, 5);
        let expected = masked_log_probs(&backbone, &query, &[0], &[0])[0];
        let found = scored(&backbone, std::slice::from_ref(&query), 64)[0];
        assert!((found.value - expected).abs() < 1e-5, "{found:?} {expected}");
        assert_eq!((found.standard_error, found.forwards), (Some(0.0), 1));
    }
}

/// For a short answer every view is computed. The value is then that of the enumeration, and its standard
/// error is zero.
#[test]
fn every_view_of_a_short_answer_is_the_expectation_itself() {
    let backbone = network(3);
    for length in 2..=4 {
        let query = query(length, LikelihoodEstimator::Reduced { samples: 16 }, 0);
        let found = scored(&backbone, std::slice::from_ref(&query), 4096)[0];
        let expected = by_enumeration(&backbone, &query);
        assert!((found.value - expected).abs() < 1e-5, "{found:?} {expected}");
        assert_eq!(found.standard_error, Some(0.0));
        assert_eq!(found.forwards, (1 << length) - 1);
    }
}

/// With 400 seeds per estimator, the mean lies within four of its standard errors of the enumerated value,
/// and the scatter matches the reported standard errors.
#[test]
fn estimators_are_without_bias_and_know_their_error() {
    let backbone = network(4);
    for (length, estimator) in [
        (4, published(6, 2)),
        (6, published(8, 4)),
        (5, published(3, 1)),
        (6, LikelihoodEstimator::Reduced { samples: 12 }),
        (7, LikelihoodEstimator::Reduced { samples: 20 }),
        (7, LikelihoodEstimator::Reduced { samples: 5 }),
        (8, LikelihoodEstimator::Reduced { samples: 42 }),
    ] {
        let seeds = 400;
        let queries: Vec<_> = (0..seeds).map(|seed| query(length, estimator, seed)).collect();
        let found = scored(&backbone, &queries, 1 << 16);
        let mean = found.iter().map(|one| one.value).sum::<f64>() / seeds as f64;
        let squares: f64 = found.iter().map(|one| (one.value - mean).powi(2)).sum();
        let variance = squares / (seeds - 1) as f64;
        let expected = by_enumeration(&backbone, &query(length, estimator, 0));
        let off = (mean - expected) / (variance / seeds as f64).sqrt();
        assert!(
            off.abs() < 4.0,
            "{estimator:?}: {mean} for {expected}, {off} standard errors"
        );
        let said = found
            .iter()
            .map(|one| one.standard_error.unwrap().powi(2))
            .sum::<f64>()
            / seeds as f64;
        let ratio = said / variance;
        assert!(
            (0.7..1.4).contains(&ratio),
            "{estimator:?}: variance {variance}, said {said}"
        );
    }
}

#[test]
fn one_sample_says_nothing_of_its_error() {
    let found = scored(&network(1), &[query(5, published(1, 1), 1)], 64)[0];
    assert_eq!((found.standard_error, found.forwards), (None, 1));
}

#[test]
fn the_chain_is_the_product_from_left_to_right() {
    let backbone = network(5);
    for length in 1..=8 {
        let query = query(length, LikelihoodEstimator::Chain, 0);
        let terms = (0..length).map(|at| {
            let masked: Vec<usize> = (at..length).collect();
            masked_log_probs(&backbone, &query, &masked, &[at])[0]
        });
        let expected: f64 = terms.sum();
        let found = scored(&backbone, std::slice::from_ref(&query), 4096)[0];
        assert!((found.value - expected).abs() < 1e-5, "{found:?} {expected}");
        assert_eq!((found.standard_error, found.forwards), (Some(0.0), length));
    }
}

#[test]
fn guidance_goes_away_from_the_prompt_that_is_masked() {
    let backbone = network(6);
    let plain = query(5, published(6, 3), 2);
    for w in [0.0_f32, 0.5, 2.0] {
        let guided = LikelihoodQuery {
            guidance: w,
            ..plain.clone()
        };
        let masks = design(guided.estimator, 5, guided.seed);
        let log_probs: Vec<Vec<f64>> = masks
            .masks()
            .iter()
            .map(|mask| masked_log_probs(&backbone, &guided, &mask.masked, &mask.counted))
            .collect();
        let (expected, _) = masks.estimate(&log_probs);
        let found = scored(&backbone, std::slice::from_ref(&guided), 64)[0];
        assert!((found.value - expected).abs() < 1e-5, "{w}: {found:?} {expected}");
        let rows = masks.masks().len() * if w == 0.0 { 1 } else { 2 };
        assert_eq!(found.forwards, rows);
    }
}

/// Answers of all lengths and settings in one call, with any token limit and in any order, have the values
/// that they have alone.
#[test]
fn l8_an_answer_has_the_same_value_in_any_company() {
    let backbone = Backbone::fresh(&config(), 7, Device::Cpu, Kind::Float).unwrap();
    let estimators = [
        published(16, 8),
        LikelihoodEstimator::Reduced { samples: 20 },
        LikelihoodEstimator::Chain,
    ];
    let mut queries = Vec::new();
    for (number, length) in (1..=8).chain([3, 8, 5]).enumerate() {
        let mut one = query(length, estimators[number % 3], number as u64);
        one.prompt.truncate(number % 5);
        one.guidance = if number.is_multiple_of(4) { 1.5 } else { 0.0 };
        queries.push(one);
    }
    let alone: Vec<LogLikelihood> = queries
        .iter()
        .map(|one| scored(&backbone, std::slice::from_ref(one), 1)[0])
        .collect();
    for tokens in [1, 100, 1 << 20] {
        let forth = scored(&backbone, &queries, tokens);
        queries.reverse();
        let back = scored(&backbone, &queries, tokens);
        queries.reverse();
        for ((one, other), alone) in forth.iter().zip(back.iter().rev()).zip(&alone) {
            for found in [one, other] {
                assert!(
                    (found.value - alone.value).abs() < 1e-5 * alone.value.abs(),
                    "{found:?} {alone:?}"
                );
                assert_eq!(found.forwards, alone.forwards);
            }
        }
    }
}

/// On a CPU in f32, views are computed with the sampler's KV cache. Their values agree with full forward
/// passes in f64, also with guidance, and with those of each query alone. Asking again gives the same bits.
#[test]
fn views_computed_as_a_sampler_does_have_the_values_of_whole_passes() {
    let mut shape = config();
    // More than one transformer block, so that keys and values depend on the masks.
    shape.n_layers = 3;
    let build = |kind| {
        let backbone = Backbone::fresh(&shape, 5, Device::Cpu, kind).unwrap();
        tch::no_grad(|| backbone.head_weight().unwrap().f_mul_scalar_(12.0).map(|_| ())).unwrap();
        backbone
    };
    let (narrow, wide) = (build(Kind::Float), build(Kind::Double));
    let mut queries: Vec<LikelihoodQuery> = (1..=8)
        .map(|length| query(length, published(32, 8), length as u64))
        .collect();
    queries.extend((1..=8).map(|length| LikelihoodQuery {
        guidance: 1.5,
        prompt: vec![3; 5 + length],
        ..query(length, LikelihoodEstimator::Reduced { samples: 12 }, 9)
    }));
    let exact = scored(&wide, &queries, 4096);
    let found = scored(&narrow, &queries, 4096);
    for (one, other) in found.iter().zip(&exact) {
        assert!(
            (one.value - other.value).abs() < 2e-4 * other.value.abs().max(1.0),
            "{one:?} {other:?}"
        );
        assert_eq!(one.forwards, other.forwards);
    }
    assert_eq!(scored(&narrow, &queries, 4096), found);
    for (query, together) in queries.iter().zip(&found) {
        let alone = value(&narrow, query);
        assert!(
            (alone - together.value).abs() < 1e-5 * alone.abs().max(1.0),
            "{alone} {together:?}"
        );
    }
}

/// Computing stops when the client has gone, and a view that is drawn several times is computed once.
#[test]
fn nothing_is_computed_in_vain() {
    let backbone = network(8);
    let waves = std::cell::Cell::new(0);
    let company = Company {
        tokens: 40,
        is_gone: &|| {
            waves.set(waves.get() + 1);
            waves.get() > 3
        },
    };
    let queries = vec![query(8, published(64, 8), 0); 4];
    let gone = log_likelihoods(&backbone, &queries, &company);
    assert!(matches!(gone, Err(ModelError::Refused(message)) if message.contains("was cancelled")));
    assert_eq!(waves.get(), 4);
    let short = scored(&backbone, &[query(2, published(128, 32), 0)], 4096)[0];
    assert_eq!(short.forwards, 3);
}

/// An invalid query is refused with its fault, although a valid one precedes it. The message of the first
/// case also names the query's number.
#[test]
fn a_query_without_sense_is_refused_by_its_number() {
    let backbone = network(9);
    let usual = || query(3, published(8, 4), 0);
    let change = |change: fn(&mut LikelihoodQuery)| {
        let mut one = usual();
        change(&mut one);
        one
    };
    let spoilt = [
        (
            change(|it| it.answer.clear()),
            "answer 1: the answer has no tokens",
        ),
        (
            change(|it| it.prompt.resize(30, 1)),
            "the prompt has 30 and the answer 3 tokens; the model takes at most 32",
        ),
        (
            change(|it| it.answer[1] = 20),
            "answer: the token at 1 is 20, but the vocabulary has 20",
        ),
        (change(|it| it.prompt[0] = 99), "prompt: the token at 0 is 99"),
        (
            change(|it| it.answer[2] = MASK),
            "position 2 of the answer is the mask token",
        ),
        (change(|it| it.guidance = f32::NAN), "guidance is NaN"),
        (
            change(|it| it.estimator = published(9, 4)),
            "9 samples in batches of 4; expected a batch size",
        ),
        (change(|it| it.estimator = published(9, 0)), "batches of 0"),
        (
            change(|it| it.estimator = LikelihoodEstimator::Reduced { samples: 0 }),
            "0 samples of 3 tokens; expected 1 to",
        ),
        (
            change(|it| it.estimator = published(1 << 40, 1 << 40)),
            "expected 1 to 65536",
        ),
    ];
    for (one, words) in spoilt {
        let company = Company {
            tokens: 4096,
            is_gone: &|| false,
        };
        match log_likelihoods(&backbone, &[usual(), one], &company) {
            Err(ModelError::Refused(message)) => assert!(message.contains(words), "{message}"),
            other => panic!("{other:?} where {words} was expected"),
        }
    }
}
