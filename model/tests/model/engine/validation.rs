//! Invalid requests are refused with what was expected and what was found. No request that can be expressed
//! in the protocol reaches libtorch as an error.
#![allow(clippy::unwrap_used, missing_docs)]

use crate::common::{group, ragged, sequence, settings};
use demask_api::{
    Answer, Coupled, DiffuGrpo, EstimatorConfig, LikelihoodEstimator, LikelihoodQuery, ModelSource,
    ObjectiveConfig, PolicyGroup, PolicySample, Request, SampleRequest, Sequence, Span, StepSettings, Task,
    TraceRl,
};
use demask_model::ModelError;
use demask_model::engine::Engine;
use demask_model::engine::device_choice::Place;
use proptest::prelude::*;
use serde_json::{Value, json};

fn engine() -> Engine {
    let mut engine = Engine::new(Place::choose("cpu", "f32", Some(1)).unwrap());
    handle(&mut engine, &json!({"ask": "load", "model": fresh(&json!({}))})).unwrap();
    engine
}

/// Returns a model source: the tiny model with some configuration fields changed.
fn fresh(changes: &Value) -> Value {
    let mut backbone = serde_json::to_value(crate::common::config()).unwrap();
    for (name, value) in changes.as_object().unwrap() {
        backbone[name] = value.clone();
    }
    json!({"from": "fresh", "backbone": backbone, "image_tokenizer": crate::common::tokenizer_config(), "seed": 4})
}

fn handle(engine: &mut Engine, request: &Value) -> Result<Answer, ModelError> {
    engine.handle(serde_json::from_value(request.clone()).unwrap(), &mut |_| ())
}

#[track_caller]
fn refused(engine: &mut Engine, request: Request, words: &str) {
    let shown = format!("{request:?}");
    match engine.handle(request, &mut |_| ()) {
        Err(ModelError::Refused(message)) => assert!(message.contains(words), "{message}"),
        other => panic!("{other:?} for {shown}"),
    }
}

type Spoil<T> = fn(&mut T);

/// Ways to make a sequence invalid. The sequence has 16 tokens, of which 3 are padding, and its answer is
/// 7..16.
const SPOILT: [(Spoil<Sequence>, &str); 8] = [
    (
        |one| one.ids[8] = 20,
        "row-2: the token at 8 is 20, but the vocabulary has 20",
    ),
    (|one| one.ids[8] = u32::MAX, "row-2: the token at 8 is 4294967295"),
    (|one| one.left_pad = 16, "16 tokens, of which 16 are padding"),
    (|one| one.ids.clear(), "0 tokens"),
    (
        |one| one.answer[0].end = 17,
        "an answer is at 7..17, but the tokens are at 3..16",
    ),
    (
        |one| one.answer[0].start = 2,
        "an answer is at 2..16, but the tokens are at 3..16",
    ),
    (
        |one| one.answer.push(Span { start: 12, end: 13 }),
        "answers at 7..16 and 12..13 overlap",
    ),
    (
        |one| one.ids.resize(40, 1),
        "37 tokens; the model takes at most 32",
    ),
];

/// An invalid sequence is refused with the same message by scoring, training (in a second micro-batch) and
/// policy steps.
#[test]
fn spoilt_sequences_are_refused_wherever_they_come() {
    let mut engine = engine();
    for (spoil, words) in SPOILT {
        let mut sequences = ragged();
        spoil(&mut sequences[1]);
        let masked = vec![Vec::new(); sequences.len()];
        let scores = Request::LogProbs {
            sequences: sequences.clone(),
            masked,
        };
        refused(&mut engine, scores, words);
        let micro_batches = vec![ragged(), sequences.clone()];
        refused(
            &mut engine,
            Request::Train {
                micro_batches,
                settings: settings(0),
            },
            words,
        );
        let mut groups = vec![group(&[1.0, -1.0, 1.0, -1.0, 1.0])];
        spoil(&mut groups[0].samples[1].sequence);
        refused(
            &mut engine,
            policy(groups, EstimatorConfig::default(), ObjectiveConfig::default()),
            words,
        );
    }
}

fn policy(groups: Vec<PolicyGroup>, estimator: EstimatorConfig, objective: ObjectiveConfig) -> Request {
    Request::Policy {
        groups,
        estimator,
        objective,
        settings: settings(0),
        behaviour: Vec::new(),
    }
}

/// A policy step is refused with the invalid setting, or with the sample and its fault: no samples, no inner
/// steps, a negative clip range, an infinite KL weight, a mask probability above 1, a NaN advantage, an
/// empty answer.
#[test]
fn a_policy_step_without_sense_is_refused() {
    let mut engine = engine();
    let whole = || vec![group(&[1.0, -1.0, 1.0, -1.0, 1.0])];
    let (usual, plain) = (EstimatorConfig::default, ObjectiveConfig::default);
    refused(&mut engine, policy(vec![], usual(), plain()), "0 samples");
    let none = ObjectiveConfig {
        inner_steps: 0,
        ..plain()
    };
    refused(&mut engine, policy(whole(), usual(), none), "0 inner steps");
    let negative = ObjectiveConfig {
        clip: -0.1,
        ..plain()
    };
    refused(
        &mut engine,
        policy(whole(), usual(), negative),
        "clip is -0.1, expected a finite number, at least 0",
    );
    let endless = ObjectiveConfig {
        kl: f64::INFINITY,
        ..plain()
    };
    refused(&mut engine, policy(whole(), usual(), endless), "kl is inf");
    let sure = EstimatorConfig::from(DiffuGrpo { prompt_mask: 1.5 });
    refused(
        &mut engine,
        policy(whole(), sure, plain()),
        "prompt_mask is 1.5, expected a finite number, 0 to 1",
    );
    let mut groups = whole();
    groups[0].samples[3].advantage = f32::NAN;
    refused(
        &mut engine,
        policy(groups, usual(), plain()),
        "row-4: the advantage is NaN",
    );
    let mut groups = whole();
    groups[0].samples[3].sequence.answer.clear();
    refused(
        &mut engine,
        policy(groups, usual(), plain()),
        "row-4: it has no answer position",
    );
}

/// Masked positions must exist, be real tokens and be distinct, with one list per sequence. Valid positions
/// in any order give a log-probability each.
#[test]
fn log_probabilities_of_impossible_positions_are_refused() {
    let mut engine = engine();
    let ask = |masked: Vec<Vec<usize>>| Request::LogProbs {
        sequences: vec![sequence(2, 16, 3)],
        masked,
    };
    refused(
        &mut engine,
        ask(vec![]),
        "0 lists of masked positions for 1 sequences",
    );
    refused(&mut engine, ask(vec![vec![5], vec![5]]), "2 lists");
    refused(
        &mut engine,
        ask(vec![vec![2]]),
        "position 2 is masked, but the tokens are at 3..16",
    );
    refused(&mut engine, ask(vec![vec![16]]), "position 16 is masked");
    refused(
        &mut engine,
        ask(vec![vec![7, 9, 7]]),
        "position 7 is masked twice",
    );
    let answer = engine.handle(ask(vec![vec![9, 7]]), &mut |_| ()).unwrap();
    let Answer::LogProbs { values } = answer else {
        panic!("{answer:?}")
    };
    assert!(values.len() == 1 && values[0].len() == 2 && values[0].iter().all(|value| *value < 0.0));
}

/// Step settings that are out of range, and an empty micro-batch, are refused by name.
#[test]
fn settings_out_of_range_are_refused() {
    let mut engine = engine();
    let spoilt: [(Spoil<StepSettings>, &str); 7] = [
        (|it| it.learning_rate = f64::NAN, "learning_rate is NaN"),
        (|it| it.learning_rate = -1.0, "learning_rate is -1"),
        (|it| it.clip_norm = f64::INFINITY, "clip_norm is inf"),
        (|it| it.ema = 1.0, "ema is 1"),
        (|it| it.adam.beta2 = 1.0, "beta2 is 1"),
        (|it| it.adam.eps = 0.0, "eps is 0"),
        (|it| it.task_weights[2] = -0.5, "task_weights is -0.5"),
    ];
    for (spoil, words) in spoilt {
        let mut settings = settings(0);
        spoil(&mut settings);
        refused(
            &mut engine,
            Request::Train {
                micro_batches: vec![ragged()],
                settings,
            },
            words,
        );
    }
    refused(
        &mut engine,
        Request::Train {
            micro_batches: vec![vec![]],
            settings: settings(0),
        },
        "at least one sequence",
    );
}

fn sample(changes: &Value) -> Request {
    let mut request = json!({
        "id": 3, "ids": [1, 2, 10, 10], "left_pad": 0, "target": {"start": 2, "end": 4},
        "sampler": {"text": {"steps": 2, "block": 2}}, "unconditional": null, "seed": 1
    });
    for (name, value) in changes.as_object().unwrap() {
        request[name] = value.clone();
    }
    let request: SampleRequest = serde_json::from_value(request).unwrap();
    Request::Sample {
        requests: vec![request],
    }
}

/// Every field of a sample request is checked against the tokens, the model's limits and its sampler's
/// ranges. The unchanged request must succeed, so that no refusal comes from the base request.
#[test]
fn samples_without_sense_are_refused() {
    let mut engine = engine();
    for (changes, words) in [
        (
            json!({"ids": vec![1; 33]}),
            "request 3: prompt and answer have 33 tokens; the model takes at most 32",
        ),
        (
            json!({"ids": [1, 2, 99, 10]}),
            "the token at 2 is 99, but the vocabulary has 20",
        ),
        (
            json!({"target": {"start": 2, "end": 5}}),
            "a target 2..5 in 4 tokens",
        ),
        (json!({"target": {"start": 3, "end": 2}}), "a target 3..2"),
        (
            json!({"grid": {"rows": 2, "columns": 3}}),
            "the grid 2 rows of 3 has 6 picture codes, but the target has 2 positions",
        ),
        (
            json!({"left_pad": 3}),
            "3 positions of padding, but the target begins at 2",
        ),
        (
            json!({"unconditional": [1, 2]}),
            "the unconditional sequence has 2 tokens, but the conditional one has 4",
        ),
        (
            json!({"unconditional": [1, 2, 3, 20]}),
            "unconditional: the token at 3 is 20",
        ),
        (
            json!({"unconditional_left_pad": 9}),
            "9 positions of unconditional padding",
        ),
        (
            json!({"sampler": {"text": {"steps": 2_000_000_000_000u64, "block": 2}}}),
            "steps is 2000000000000",
        ),
        (
            json!({"sampler": {"text": {"steps": 2, "block": 0}}}),
            "blocks of 0 tokens in a text of 2",
        ),
        (
            json!({"sampler": {"text": {"steps": 3, "block": 1}}}),
            "3 steps cannot be divided evenly among 2 blocks",
        ),
        (
            json!({"sampler": {"text": {"block": 2, "commit": {"rule": "threshold", "threshold": 1.5}}}}),
            "commit.threshold is 1.5",
        ),
        (
            json!({"sampler": {"text": {"block": 2, "cache": {"keep": "dual", "refresh": 0}}}}),
            "cache.refresh is 0",
        ),
        (
            json!({"sampler": {"image": {"steps": 2, "surprise": 1.5}}}),
            "surprise is 1.5",
        ),
        (
            json!({"sampler": {"image": {"steps": 2, "accept": -0.5}}}),
            "accept is -0.5",
        ),
        (
            json!({"sampler": {"text": {"steps": 2, "block": 2, "temperature": -1.0}}}),
            "temperature is -1",
        ),
        (json!({"sampler": {"image": {"steps": 0}}}), "0 steps"),
    ] {
        refused(&mut engine, sample(&changes), words);
    }
    assert!(engine.handle(sample(&json!({})), &mut |_| ()).is_ok());
}

/// Loading an invalid configuration is refused and leaves the previous model loaded, which can still be
/// trained.
#[test]
fn a_configuration_whose_tokens_do_not_fit_is_refused_and_the_model_stays() {
    let mut engine = engine();
    for (changes, words) in [
        (
            json!({"mask_token_id": 20}),
            "mask_token_id is 20, but the vocabulary has 20",
        ),
        (json!({"pad_token_id": 4000}), "pad_token_id is 4000"),
        (
            json!({"image_token_offset": 13}),
            "picture codes go up to token 21, but the vocabulary has 20",
        ),
        (
            json!({"n_heads": 3}),
            "d_model 16 cannot be split evenly into 3 heads",
        ),
        (
            json!({"n_layers": 0}),
            "n_layers is 0; allowed is a whole number from 1 to 1024",
        ),
        (
            json!({"n_layers": 4_000_000_000u64}),
            "n_layers is 4000000000; allowed is a whole number from 1 to 1024",
        ),
    ] {
        let load = json!({"ask": "load", "model": fresh(&changes)});
        let model: ModelSource = serde_json::from_value(load["model"].clone()).unwrap();
        refused(&mut engine, Request::Load { model }, words);
    }
    let micro_batches = vec![ragged()];
    let answer = engine.handle(
        Request::Train {
            micro_batches,
            settings: settings(0),
        },
        &mut |_| (),
    );
    assert!(
        matches!(answer, Ok(Answer::Trained(_))),
        "the model of before is still there"
    );
}

fn any_sequence() -> impl Strategy<Value = Sequence> {
    let span = (0..14usize, 0..14usize).prop_map(|(start, end)| Span { start, end });
    let task = prop::sample::select(vec![
        Task::TextToImage,
        Task::Text,
        Task::Understand,
        Task::ThinkThenDraw,
    ]);
    (
        prop::collection::vec(0..21u32, 0..14),
        0..5usize,
        prop::collection::vec(span, 0..3),
        task,
    )
        .prop_map(|(ids, left_pad, answer, task)| Sequence {
            id: "any".into(),
            task,
            ids,
            left_pad,
            answer,
        })
}

fn any_estimator() -> impl Strategy<Value = EstimatorConfig> {
    prop::sample::select(vec![
        EstimatorConfig::default(),
        EstimatorConfig::from(DiffuGrpo { prompt_mask: 0.5 }),
        EstimatorConfig::from(Coupled {}),
        EstimatorConfig::from(TraceRl { merge: 0, views: 1 }),
    ])
}

fn any_request() -> impl Strategy<Value = Request> {
    let rows = || prop::collection::vec(any_sequence(), 0..3);
    let train = prop::collection::vec(rows(), 0..3).prop_map(|micro_batches| Request::Train {
        micro_batches,
        settings: settings(1),
    });
    let scores = (
        rows(),
        prop::collection::vec(prop::collection::vec(0..14usize, 0..4), 0..3),
    )
        .prop_map(|(sequences, masked)| Request::LogProbs { sequences, masked });
    let policy = (rows(), any_estimator(), 0..3usize).prop_map(|(rows, estimator, inner_steps)| {
        let sample = |sequence| PolicySample {
            sequence,
            advantage: 0.5,
            commit_step: vec![],
        };
        let group = PolicyGroup {
            id: "any".into(),
            samples: rows.into_iter().map(sample).collect(),
        };
        policy(
            vec![group],
            estimator,
            ObjectiveConfig {
                inner_steps,
                ..ObjectiveConfig::default()
            },
        )
    });
    let sampler = prop::sample::select(vec![
        json!({"text": {"steps": 2, "block": 2}}),
        json!({"text": {"steps": 2, "block": 1, "guidance": 1.0, "temperature": 1.0}}),
        json!({"text": {"block": 1, "commit": {"rule": "threshold", "threshold": 0.2}, "horizon": 1, "guidance": 1.0,
            "cache": {"keep": "dual", "refresh": 9, "vicinity": 1}, "credit": {}}}),
        json!({"text": {"block": 2, "commit": {"rule": "factor", "factor": 1.0}, "cache": {"keep": "prefix"},
            "end": {"when": "token", "threshold": 0.1}, "quirks": {"attention": "none"}}}),
        json!({"text": {"block": 1, "commit": {"rule": "hierarchical", "high": 0.9, "low": 0.1}, "guidance": 1.0,
            "cache": {"keep": "dual"}, "quirks": {"attention": "additive", "whole_vocabulary": true}}}),
        json!({"image": {"steps": 2}}),
        json!({"image": {"steps": 3, "method": "emerge", "guidance": 1.0, "quirks": {"unconditional_prefix": 3}}}),
        json!({"image": {"steps": 4, "accept": 0.2, "cache": {"warmup": 0.0}, "guidance": 0.5,
            "quirks": {"count_whole_picture": true, "compounding_temperature": true}}}),
    ]);
    let sampling = (
        any_sequence(),
        sampler,
        prop::option::of(prop::collection::vec(0..21u32, 0..14)),
        0..5usize,
    )
        .prop_map(|(one, sampler, unconditional, pad)| {
            let target = one.answer.first().copied().unwrap_or(Span { start: 0, end: 2 });
            sample(&json!({
                "ids": one.ids, "left_pad": one.left_pad, "target": target, "sampler": sampler,
                "unconditional": unconditional, "unconditional_left_pad": pad
            }))
        });
    let estimator = prop::sample::select(vec![
        LikelihoodEstimator::published(4),
        LikelihoodEstimator::Published { samples: 3, batch: 2 },
        LikelihoodEstimator::Reduced { samples: 20 },
        LikelihoodEstimator::Chain,
    ]);
    let tokens = || prop::collection::vec(0..21u32, 0..20);
    let guidance = prop::sample::select(vec![0.0, 1.5, f32::INFINITY]);
    let query =
        (tokens(), tokens(), estimator, guidance).prop_map(|(prompt, answer, estimator, guidance)| {
            LikelihoodQuery {
                prompt,
                answer,
                estimator,
                guidance,
                seed: 3,
            }
        });
    let likelihoods =
        prop::collection::vec(query, 0..3).prop_map(|queries| Request::LogLikelihoods { queries });
    prop_oneof![train, scores, policy, sampling, likelihoods]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Every request is executed or refused. None panics, and none causes an error of libtorch.
    #[test]
    fn whatever_is_asked_is_done_or_refused(requests in prop::collection::vec(any_request(), 1..6)) {
        let mut engine = engine();
        for request in requests {
            let answer = engine.handle(request, &mut |_| ());
            prop_assert!(matches!(answer, Ok(_) | Err(ModelError::Refused(_))), "{answer:?}");
        }
    }
}
