//! The rules of text: how many tokens are committed, where a text ends, what padding counts.

use super::requests::{sharp, text};
use crate::common::rows::{one, row};
use crate::common::{EOS, config, numbers};
use demask_api::{Attention, Commit, End, Quirks, Sampler, TextSampler};
use demask_model::AttentionMask;
use tch::{Kind, Tensor};

/// Tokens beyond the horizon have no influence: the row behaves as if it ended there.
#[test]
fn beyond_the_horizon_there_is_nothing() {
    let backbone = sharp(&config(), 5, Kind::Float);
    for id in 0..6 {
        let with = |horizon, answer, steps| {
            let sampler = text(|sampler| {
                (sampler.horizon, sampler.steps, sampler.end) = (horizon, steps, End::Never);
            });
            one(&backbone, &row(id, 1, 5, answer, &Sampler::Text(sampler))).ids
        };
        assert_eq!(with(Some(0), 12, 12)[..10], with(None, 4, 4)[..10]);
        assert_eq!(with(Some(4), 12, 12)[..10], with(None, 8, 8)[..10]);
        assert_eq!(with(Some(99), 12, 12), with(None, 12, 12));
    }
}

/// The number of forward passes shows how many tokens a commit rule takes per pass, at the extremes of its
/// parameters.
#[test]
fn a_rule_commits_as_many_as_it_says() {
    let backbone = sharp(&config(), 7, Kind::Float);
    let forwards = |commit| {
        let sampler = text(|sampler| (sampler.commit, sampler.end) = (commit, End::Never));
        one(&backbone, &row(2, 0, 5, 12, &Sampler::Text(sampler))).forwards
    };
    assert_eq!(
        forwards(Commit::Threshold { threshold: 0.0 }),
        3,
        "a block at once"
    );
    assert_eq!(
        forwards(Commit::Threshold { threshold: 1.1 }),
        12,
        "one at a time"
    );
    assert_eq!(forwards(Commit::Factor { factor: 0.0 }), 12);
    assert_eq!(forwards(Commit::Hierarchical { high: 1.1, low: 1.1 }), 12);
    let parted = forwards(Commit::Hierarchical { high: 1.1, low: 0.0 });
    assert!(
        (6..12).contains(&parted),
        "{parted}: one token of each run, and a token in the middle parts a run"
    );
}

/// Text generation ends where the `end` rule says. The logits are scaled down so that the network is
/// confident of nothing, an end of text is given at the second answer position, and blocks have one token.
#[test]
fn a_text_ends_where_it_is_told_to() {
    let backbone = sharp(&config(), 7, Kind::Float);
    tch::no_grad(|| {
        let mut head = backbone.head_weight().unwrap();
        let _ = head.f_mul_scalar_(0.01).unwrap();
    });
    let ended = |end| {
        let sampler = text(|sampler| (sampler.end, sampler.block) = (end, 1));
        let mut request = row(2, 0, 5, 12, &Sampler::Text(sampler));
        request.ids[6] = EOS;
        one(&backbone, &request)
    };
    assert_eq!(ended(End::Never).forwards, 11);
    let early = ended(End::Token { threshold: 0.0 });
    assert_eq!(
        early.forwards, 1,
        "the token before the given end is drawn, and that is all"
    );
    assert!(early.ids[6..].iter().all(|&id| id == EOS));
    assert_eq!(
        ended(End::Token { threshold: 0.9 }).forwards,
        11,
        "not sure enough"
    );
}

/// The three attention quirks, by the confidences of a first step against a plain forward pass under the same
/// mask.
#[test]
fn padding_counts_as_the_quirk_says() {
    let backbone = sharp(&config(), 11, Kind::Float);
    let mut request = row(3, 3, 4, 4, &Sampler::Text(TextSampler::default()));
    let ids: Vec<i64> = request.ids.iter().map(|&id| i64::from(id)).collect();
    let real = Tensor::from_slice(&[0f32, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]).unsqueeze(0);
    let masks = [
        (Attention::Hard, AttentionMask::Hard(real.shallow_clone())),
        (Attention::None, AttentionMask::None),
        (Attention::Additive, AttentionMask::LegacyPlusOne(real)),
    ];
    let mut seen = Vec::new();
    for (attention, mask) in masks {
        request.sampler = Sampler::Text(text(|sampler| {
            (sampler.steps, sampler.end) = (1, End::Never);
            sampler.quirks = Quirks {
                attention,
                ..Quirks::default()
            };
        }));
        let sample = one(&backbone, &request);
        let ids_bl = Tensor::from_slice(&ids).unsqueeze(0);
        let logits = tch::no_grad(|| {
            backbone
                .head(&backbone.hidden(&ids_bl, &mask).unwrap(), None)
                .unwrap()
        });
        let shares = numbers(&logits.softmax(-1, Kind::Double));
        for (at, confidence) in sample.confidence.iter().enumerate() {
            let expected = shares[(7 + at) * 20 + sample.ids[7 + at] as usize];
            assert!(
                (f64::from(*confidence) - expected).abs() < 1e-4,
                "{attention:?}: {confidence} {expected}"
            );
        }
        seen.push(sample.confidence);
    }
    assert!(seen[0] != seen[1] && seen[1] != seen[2] && seen[0] != seen[2]);
}
