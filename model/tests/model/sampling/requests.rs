//! Requests of any samplers, caches and rules, and the network that answers them.

use crate::common::rows::{self, row};
use demask_api::{
    Attention, BackboneConfig, Commit, Credit, End, FeatureCache, ImageMethod, ImageSampler, Remasking,
    SampleRequest, Sampler, TextCache, TextSampler,
};
use demask_model::Backbone;
use proptest::prelude::*;
use tch::{Device, Kind};

pub(super) const DUAL: TextCache = TextCache::Dual {
    refresh: 1,
    vicinity: 0,
};

/// Returns [`rows::sharp`] on the CPU.
pub(super) fn sharp(config: &BackboneConfig, seed: u64, kind: Kind) -> Backbone {
    rows::sharp(config, seed, (Device::Cpu, kind))
}

pub(super) fn text(change: impl FnOnce(&mut TextSampler)) -> TextSampler {
    let mut sampler = TextSampler {
        steps: 12,
        block: 4,
        ..TextSampler::default()
    };
    change(&mut sampler);
    sampler
}

fn caches() -> impl Strategy<Value = TextCache> {
    prop_oneof![
        Just(TextCache::None),
        Just(TextCache::Prefix),
        (1usize..4, 0usize..3).prop_map(|(refresh, vicinity)| TextCache::Dual { refresh, vicinity }),
    ]
}

fn commits() -> impl Strategy<Value = Commit> {
    prop_oneof![
        Just(Commit::Schedule),
        (0.0..1.0).prop_map(|threshold| Commit::Threshold { threshold }),
        (0.0..2.0).prop_map(|factor| Commit::Factor { factor }),
        (0.3..1.0, 0.0..0.3).prop_map(|(high, low)| Commit::Hierarchical { high, low }),
    ]
}

fn samplers() -> impl Strategy<Value = Sampler> {
    let rank = prop_oneof![
        Just(Remasking::LowConfidence),
        Just(Remasking::Margin),
        Just(Remasking::Entropy),
        Just(Remasking::Random),
    ];
    let end = prop_oneof![
        Just(End::Block),
        Just(End::Never),
        Just(End::Token { threshold: 0.2 }),
    ];
    let words = (
        proptest::option::of(0usize..6),
        caches(),
        commits(),
        rank,
        end,
        any::<bool>(),
        prop_oneof![3 => Just(0.0), 1 => Just(0.7)],
        prop_oneof![3 => Just(0.0), 1 => Just(0.8)],
        prop_oneof![3 => Just(Attention::Hard), 1 => Just(Attention::Additive)],
    )
        .prop_map(
            |(horizon, cache, commit, remasking, end, credit, guidance, temperature, attention)| {
                Sampler::Text(text(|sampler| {
                    (sampler.cache, sampler.commit, sampler.remasking, sampler.end) =
                        (cache, commit, remasking, end);
                    sampler.credit = credit.then(Credit::default);
                    sampler.horizon = horizon;
                    sampler.temperature = temperature;
                    sampler.guidance = guidance;
                    sampler.quirks.attention = attention;
                }))
            },
        );
    let codes = (1usize..6, any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
        |(steps, emerge, cached, guided)| {
            Sampler::Image(ImageSampler {
                steps,
                method: if emerge {
                    ImageMethod::Emerge
                } else {
                    ImageMethod::MaskGit
                },
                accept: 0.4,
                surprise: if emerge { 0.0 } else { 0.1 },
                cache: cached.then(|| FeatureCache {
                    interval: 2,
                    ratio: 0.4,
                    ..FeatureCache::default()
                }),
                guidance: if guided { 1.0 } else { 0.0 },
                ..ImageSampler::default()
            })
        },
    );
    prop_oneof![3 => words, 1 => codes]
}

pub(super) fn requests() -> impl Strategy<Value = Vec<SampleRequest>> {
    // `cut` makes the last block shorter.
    let one = (0usize..4, 1usize..9, 1usize..4, 0usize..3, samplers());
    proptest::collection::vec(one, 1..9).prop_map(|rows| {
        rows.iter()
            .enumerate()
            .map(|(id, (pad, prompt, blocks, cut, sampler))| {
                let mut sampler = sampler.clone();
                if let Sampler::Text(text) = &mut sampler {
                    text.steps = 4 * blocks;
                }
                row(id as u64, *pad, *prompt, 4 * blocks - cut, &sampler)
            })
            .collect()
    })
}
