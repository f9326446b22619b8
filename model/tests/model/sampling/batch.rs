//! The running batch of the sampler. A row's sample does not depend on the other rows or on kept caches (L8).
//! The tests also cover what each cache, commit rule and quirk guarantees.
#![allow(clippy::unwrap_used, missing_docs)]

use crate::common::rows::{self, draw, one, row};
use crate::common::{EOS, MASK, config, numbers};
use demask_api::{
    Answer, Attention, BackboneConfig, Commit, Credit, End, FeatureCache, ImageMethod, ImageSampler, Quirks,
    Remasking, Sample, SampleRequest, Sampler, StepSettings, TextCache, TextSampler,
};
use demask_model::engine::checkpoint::LoadedModel;
use demask_model::engine::sample_requests::RunningRequests;
use demask_model::image_tokenizer::{ImageTokenizer, TokenizerTrainer};
use demask_model::sampler::{Batch, Limits, Shelf, Stepping, WorkerPool};
use demask_model::{AttentionMask, Backbone, training};
use proptest::prelude::*;
use tch::{Device, Kind, Tensor};

const DUAL: TextCache = TextCache::Dual {
    refresh: 1,
    vicinity: 0,
};

/// Returns [`rows::sharp`] on the CPU.
fn sharp(config: &BackboneConfig, seed: u64, kind: Kind) -> Backbone {
    rows::sharp(config, seed, (Device::Cpu, kind))
}

fn text(change: impl FnOnce(&mut TextSampler)) -> TextSampler {
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

fn requests() -> impl Strategy<Value = Vec<SampleRequest>> {
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// In a ragged batch every row has the sample of a single run, for every sampler and cache, however many
    /// rows run at a time.
    #[test]
    fn l8_a_ragged_batch_gives_what_single_runs_give(requests in requests(), room in 1usize..6) {
        let backbone = sharp(&config(), 3, Kind::Float);
        let together = draw(&backbone, &requests);
        let mut batch = Batch::new(&backbone, Limits { rows: room, tokens: 1000 });
        prop_assert_eq!(batch.submit(requests.clone()).unwrap(), 0..requests.len());
        let mut squeezed: Vec<(usize, Sample)> = Vec::new();
        while !batch.is_empty() {
            squeezed.extend(batch.step(&mut |_, _, _| Ok(())).unwrap());
        }
        squeezed.sort_by_key(|(ticket, _)| *ticket);
        for ((request, sample), (_, squeezed)) in requests.iter().zip(&together).zip(&squeezed) {
            let alone = one(&backbone, request);
            for other in [sample, squeezed] {
                prop_assert_eq!(&alone.ids, &other.ids);
                prop_assert_eq!((&alone.commit_step, alone.forwards), (&other.commit_step, other.forwards));
            }
            prop_assert!(!sample.ids[request.target.start..].contains(&MASK));
        }
    }

    /// The device loop takes the same steps as host-driven stepping.
    #[test]
    fn steps_that_ask_nobody_are_the_same_steps(requests in requests(), schedule in any::<bool>(), cold in any::<bool>()) {
        let mut requests = requests;
        for request in &mut requests {
            if let Sampler::Text(text) = &mut request.sampler && cold {
                (text.temperature, text.guidance, text.credit) = (0.0, 0.0, None);
                text.remasking = Remasking::LowConfidence;
                text.commit = if schedule { Commit::Schedule } else { Commit::Threshold { threshold: 0.4 } };
                request.unconditional_left_pad = 0;
            }
        }
        // f64 takes libtorch's operators, f32 the CPU kernels.
        for kind in [Kind::Double, Kind::Float] {
            let backbone = sharp(&config(), 3, kind);
            let asking = draw(&backbone, &requests);
            for rows in [1, 64] {
                let mut batch = Batch::new(&backbone, Limits { rows, tokens: 1000 }).stepping(Stepping::DeviceLoop);
                batch.submit(requests.clone()).unwrap();
                let mut done = Vec::new();
                while !batch.is_empty() {
                    done.extend(batch.step(&mut |_, _, _| Ok(())).unwrap());
                }
                done.sort_by_key(|(ticket, _)| *ticket);
                for (asking, (_, resident)) in asking.iter().zip(&done) {
                    prop_assert_eq!(&asking.ids, &resident.ids);
                    prop_assert_eq!((&asking.commit_step, asking.forwards), (&resident.commit_step, resident.forwards));
                    for (a, b) in asking.confidence.iter().zip(&resident.confidence) {
                        prop_assert!((a - b).abs() < 1e-4, "{} and {}", a, b);
                    }
                }
            }
        }
    }

    /// Rows that a pool distributes over threads, submitted at once or while others run, have the samples
    /// that they have alone.
    #[test]
    fn l8_a_row_is_the_same_in_any_hands(requests in requests(), threads in 1usize..4, later in 0usize..5, room in 1usize..6) {
        let backbone = sharp(&config(), 3, Kind::Float);
        let mut workers = WorkerPool::on(&backbone, Limits { rows: room, tokens: 1000 }, threads);
        let (now, later) = requests.split_at(requests.len() - later.min(requests.len()));
        workers.submit(now.to_vec()).unwrap();
        let mut done = if workers.is_empty() { Vec::new() } else { workers.step(&mut |_, _, _| Ok(())).unwrap() };
        prop_assert_eq!(workers.submit(later.to_vec()).unwrap(), now.len()..requests.len());
        while !workers.is_empty() {
            done.extend(workers.step(&mut |_, _, _| Ok(())).unwrap());
        }
        prop_assert_eq!(workers.running().count(), 0);
        done.sort_by_key(|(ticket, _)| *ticket);
        prop_assert_eq!(done.len(), requests.len());
        for (request, (_, sample)) in requests.iter().zip(&done) {
            let alone = one(&backbone, request);
            prop_assert_eq!(&alone.ids, &sample.ids);
            prop_assert_eq!((&alone.commit_step, alone.forwards), (&sample.commit_step, sample.forwards));
        }
    }

    /// Attention composed of libtorch's operators, as on CUDA, samples what the CPU kernels sample.
    #[test]
    fn both_ways_of_attending_agree(requests in requests(), attention_layer_norm in any::<bool>()) {
        let config = BackboneConfig { attention_layer_norm, ..config() };
        let wide = sharp(&config, 3, Kind::Double);
        let ours = sharp(&config, 3, Kind::Float);
        for (a, b) in draw(&ours, &requests).iter().zip(draw(&wide, &requests)) {
            prop_assert_eq!(&a.ids, &b.ids);
            for (a, b) in a.confidence.iter().zip(&b.confidence) {
                prop_assert!((a - b).abs() < 1e-3, "{} and {}", a, b);
            }
        }
    }
}

/// A cache that is kept between runs does not change the samples of the next run.
#[test]
fn a_cache_that_is_kept_changes_no_sample() {
    let backbone = sharp(&config(), 3, Kind::Double);
    let shelf = Shelf::default();
    let prefix = text(|sampler| sampler.cache = TextCache::Prefix);
    let run = |shelf: &Shelf, requests: &[SampleRequest]| {
        let mut workers = WorkerPool::on(&backbone, Limits::default(), 1).keeping(shelf);
        workers.submit(requests.to_vec()).unwrap();
        let mut done = Vec::new();
        while !workers.is_empty() {
            done.extend(workers.step(&mut |_, _, _| Ok(())).unwrap());
        }
        done.sort_by_key(|(ticket, _)| *ticket);
        done
    };
    let first = [
        row(1, 0, 6, 12, &Sampler::Text(prefix.clone())),
        row(2, 1, 3, 12, &Sampler::Text(prefix.clone())),
    ];
    let second = [row(5, 2, 4, 12, &Sampler::Text(prefix))];
    run(&shelf, &first);
    let bytes = shelf.bytes();
    assert!(bytes > 0);
    for requests in [&first[..], &second[..]] {
        for ((_, kept), expected) in run(&shelf, requests).iter().zip(draw(&backbone, requests)) {
            assert_eq!(kept.ids, expected.ids);
            assert_eq!(kept.commit_step, expected.commit_step);
        }
        assert_eq!(shelf.bytes(), bytes, "it is the same cache");
    }
    shelf.clear_beyond(bytes);
    assert_eq!(shelf.bytes(), bytes);
    shelf.clear_beyond(bytes - 1);
    assert_eq!(shelf.bytes(), 0);
}

/// The weights that a sampler caches for its forward passes are refreshed when the weights change, whoever
/// changes them.
#[test]
fn a_sampler_meets_the_weights_as_they_are() {
    let (mut backbone, mut optimizer) = crate::common::learner(3);
    let requests = [
        row(1, 0, 6, 12, &Sampler::Text(text(|_| ()))),
        row(2, 2, 3, 8, &Sampler::Text(text(|_| ()))),
    ];
    let before = draw(&backbone, &requests);
    let settings = StepSettings {
        learning_rate: 0.3,
        ..crate::common::settings(1)
    };
    training::train(
        &mut backbone,
        &mut optimizer,
        &[crate::common::ragged()],
        &settings,
    )
    .unwrap();
    let after = draw(&backbone, &requests);
    let other = crate::common::backbone(5);
    other.parameters().set(backbone.parameters().master()).unwrap();
    for (kept, fresh) in after.iter().zip(draw(&other, &requests)) {
        assert_eq!(kept.ids, fresh.ids);
        assert_eq!(kept.confidence, fresh.confidence);
    }
    assert_ne!(
        before[0].confidence, after[0].confidence,
        "the step changed something"
    );
    // A twin shares the weights, so it sees the change too.
    let twin = backbone.twin().unwrap();
    tch::no_grad(|| backbone.head_weight().unwrap().f_mul_scalar_(-1.0).map(|_| ())).unwrap();
    let [one, other] = [draw(&backbone, &requests), draw(&twin, &requests)];
    assert_eq!(one[0].confidence, other[0].confidence);
    assert_ne!(one[0].confidence, after[0].confidence);
}

/// With a cache, a block takes two calls of `step`: one for its first forward pass, and one for all remaining
/// passes, which the device loop runs by itself. Without a cache every forward pass takes a call.
#[test]
fn a_block_asks_twice() {
    let backbone = sharp(&config(), 3, Kind::Double);
    for (cache, passes) in [(DUAL, 2 * 3), (TextCache::Prefix, 2 * 3), (TextCache::None, 12)] {
        let sampler = text(|sampler| (sampler.cache, sampler.end) = (cache, End::Never));
        let mut batch = Batch::new(&backbone, Limits::default()).stepping(Stepping::DeviceLoop);
        batch
            .submit(vec![row(1, 1, 5, 12, &Sampler::Text(sampler))])
            .unwrap();
        let (mut asked, mut forwards) = (0, 0);
        while !batch.is_empty() {
            asked += 1;
            forwards += batch
                .step(&mut |_, _, _| Ok(()))
                .unwrap()
                .first()
                .map_or(0, |(_, sample)| sample.forwards);
        }
        assert_eq!((asked, forwards), (passes, 12), "{cache:?}");
    }
}

/// With a single transformer layer, a key depends on its own token alone, and every changed token is computed
/// again, so every cache is exact.
#[test]
fn with_a_single_block_every_cache_is_exact() {
    let shallow = BackboneConfig {
        n_layers: 1,
        ..config()
    };
    let backbone = sharp(&shallow, 5, Kind::Float);
    let far = TextCache::Dual {
        refresh: 9,
        vicinity: 2,
    };
    for commit in [Commit::Schedule, Commit::Threshold { threshold: 0.3 }] {
        for id in 0..6 {
            let with = |cache| {
                let sampler = text(|sampler| (sampler.cache, sampler.commit) = (cache, commit));
                one(&backbone, &row(id, 1, 5, 12, &Sampler::Text(sampler)))
            };
            let exact = with(TextCache::None);
            for cache in [TextCache::Prefix, DUAL, far] {
                let cached = with(cache);
                assert_eq!(
                    (&cached.ids, cached.forwards),
                    (&exact.ids, exact.forwards),
                    "{cache:?}"
                );
            }
        }
        let all = FeatureCache {
            warmup: 0.0,
            interval: 99,
            ratio: 1.0,
        };
        let with = |cache| {
            let sampler = ImageSampler {
                steps: 5,
                cache,
                ..ImageSampler::default()
            };
            one(&backbone, &row(4, 1, 5, 12, &Sampler::Image(sampler)))
        };
        assert_eq!(with(Some(all)).ids, with(None).ids);
    }
}

/// A thread's failure is reported instead of blocking the caller, and requests that are withdrawn are not
/// waited for.
#[test]
fn hands_that_fail_say_so() {
    let request = |id| row(id, 0, 5, 12, &Sampler::Text(text(|_| {})));
    let limits = Limits::default();
    let backbone = sharp(&config(), 5, Kind::Float);
    let mut workers = WorkerPool::on(&backbone, limits, 2);
    let gone = workers.submit((0..4).map(request).collect()).unwrap();
    let kept = workers.submit(vec![request(4)]).unwrap();
    workers.withdraw(&gone);
    let mut done = Vec::new();
    while !workers.is_empty() {
        done.extend(workers.step(&mut |_, _, _| Ok(())).unwrap());
    }
    assert!(
        done.iter()
            .any(|(ticket, sample)| kept.contains(ticket) && sample.id == 4)
    );

    tch::no_grad(|| backbone.head_weight().unwrap().f_fill_(f64::NAN).map(|_| ())).unwrap();
    let mut workers = WorkerPool::on(&backbone, limits, 2);
    workers.submit((0..4).map(request).collect()).unwrap();
    let failed = loop {
        if let Err(error) = workers.step(&mut |_, _, _| Ok(())) {
            break error;
        }
    };
    assert!(failed.to_string().contains("not finite"), "{failed}");
}

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

/// A cache that is refreshed at every pass contains nothing stale, so the samples equal those without a
/// cache.
#[test]
fn a_cache_is_exact_at_the_first_pass_of_a_block() {
    let backbone = sharp(&config(), 7, Kind::Float);
    for id in 0..6 {
        let with = |cache| {
            let sampler = text(|sampler| (sampler.cache, sampler.steps) = (cache, 3));
            one(&backbone, &row(id, 0, 5, 12, &Sampler::Text(sampler)))
        };
        let exact = with(TextCache::None);
        assert_eq!(exact.forwards, 3);
        for cache in [TextCache::Prefix, DUAL] {
            assert_eq!(with(cache).ids, exact.ids, "{cache:?}");
        }
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

/// A network and a prompt, for the eight probabilities of each of two codes, of which one may be known.
struct TwoCodes {
    backbone: Backbone,
    start: Vec<u32>,
}

impl TwoCodes {
    fn new(sampler: &Sampler) -> Self {
        Self {
            backbone: sharp(&config(), 9, Kind::Float),
            start: row(1, 0, 4, 2, sampler).ids,
        }
    }

    fn shares(&self, known: Option<(usize, usize)>) -> [Vec<f64>; 2] {
        let mut ids: Vec<i64> = self.start.iter().map(|&id| i64::from(id)).collect();
        if let Some((at, code)) = known {
            ids[4 + at] = 12 + code as i64;
        }
        let ids = Tensor::from_slice(&ids).unsqueeze(0);
        let hidden = self.backbone.hidden(&ids, &AttentionMask::None).unwrap();
        let logits = tch::no_grad(|| {
            self.backbone
                .head(&hidden.squeeze_dim(0), Some((12, 20)))
                .unwrap()
        });
        let shares = numbers(&logits.softmax(-1, Kind::Double));
        [shares[32..40].to_vec(), shares[40..48].to_vec()]
    }

    /// Compares 20 000 samples with the expected share of each of the 64 images, by a chi-squared test.
    fn compare(&self, sampler: &Sampler, expected: &[f64]) {
        assert!((expected.iter().sum::<f64>() - 1.0).abs() < 1e-6);
        let asked = |seed| SampleRequest {
            seed,
            ..row(1, 0, 4, 2, sampler)
        };
        let requests: Vec<SampleRequest> = (0..20_000).map(asked).collect();
        let mut counts = vec![0.0; 64];
        for sample in draw(&self.backbone, &requests) {
            counts[(sample.ids[4] as usize - 12) * 8 + sample.ids[5] as usize - 12] += 1.0;
        }
        let often = |expected: f64| (expected * 20_000.0).max(1e-3);
        let chi2: f64 = counts
            .iter()
            .zip(expected)
            .map(|(count, &share)| (count - share * 20_000.0).powi(2) / often(share))
            .sum();
        assert!(chi2 < 103.4, "{chi2}: 63 degrees of freedom, p = 0.001");
    }
}

/// Ancestral sampling of two codes in two steps has the distribution that enumerating its paths gives.
#[test]
fn emerging_codes_have_the_distribution_of_their_paths() {
    let sampler = Sampler::Image(ImageSampler {
        steps: 2,
        guidance: 0.0,
        method: ImageMethod::Emerge,
        ..ImageSampler::default()
    });
    let network = TwoCodes::new(&sampler);
    let leaves = 1.0 - std::f64::consts::FRAC_PI_4.cos();
    let both = network.shares(None);
    let together = leaves * leaves + (1.0 - leaves) * (1.0 - leaves);
    let apart = leaves * (1.0 - leaves);
    let mut expected = vec![0.0; 64];
    for first in 0..8 {
        for second in 0..8 {
            expected[first * 8 + second] = together * both[0][first] * both[1][second]
                + apart * both[0][first] * network.shares(Some((0, first)))[1][second]
                + apart * both[1][second] * network.shares(Some((1, second)))[0][first];
        }
    }
    network.compare(&sampler, &expected);
}

/// A surprise is a drawn code that is not the likeliest at its position. Of two codes, the more probable surprise
/// is kept, or the more probable code if there is no surprise. The other code is drawn again.
#[test]
fn a_surprise_is_kept_before_what_is_sure() {
    let least = 0.05;
    let sampler = Sampler::Image(ImageSampler {
        steps: 2,
        guidance: 0.0,
        temperature: 0.0,
        surprise: least,
        ..ImageSampler::default()
    });
    let network = TwoCodes::new(&sampler);
    let both = network.shares(None);
    let best = [0, 1].map(|at: usize| both[at].iter().copied().fold(0.0, f64::max));
    let mut expected = vec![0.0; 64];
    let mut surprises = 0.0;
    for first in 0..8 {
        for second in 0..8 {
            let drawn = [both[0][first], both[1][second]];
            let surprising = [0, 1].map(|at: usize| drawn[at] < best[at] && drawn[at] >= least);
            surprises += if surprising == [false; 2] {
                0.0
            } else {
                drawn[0] * drawn[1]
            };
            let kept = match surprising {
                [true, false] => 0,
                [false, true] => 1,
                _ => usize::from(drawn[1] > drawn[0]),
            };
            let code = [first, second][kept];
            for (other, again) in network.shares(Some((kept, code)))[1 - kept].iter().enumerate() {
                let picture = if kept == 0 {
                    code * 8 + other
                } else {
                    other * 8 + code
                };
                expected[picture] += drawn[0] * drawn[1] * again;
            }
        }
    }
    assert!((0.1..0.9).contains(&surprises), "{surprises}");
    network.compare(&sampler, &expected);
}

#[test]
fn codes_that_are_given_stay_and_the_rest_is_drawn() {
    let backbone = sharp(&config(), 9, Kind::Float);
    for method in [ImageMethod::MaskGit, ImageMethod::Emerge] {
        let sampler = ImageSampler {
            steps: 4,
            method,
            ..ImageSampler::default()
        };
        let mut request = row(1, 2, 4, 9, &Sampler::Image(sampler));
        for (at, id) in [(6, 13), (9, 19), (14, 12)] {
            request.ids[at] = id;
        }
        let drawn = one(&backbone, &request);
        assert_eq!((drawn.ids[6], drawn.ids[9], drawn.ids[14]), (13, 19, 12));
        assert!(
            drawn.ids[6..].iter().all(|id| (12..20).contains(id)),
            "{:?}",
            drawn.ids
        );
    }
}

/// A threshold that no code reaches leaves the schedule unchanged.
#[test]
fn a_threshold_that_no_code_reaches_changes_nothing() {
    let backbone = sharp(&config(), 5, Kind::Float);
    for (temperature, steps) in [(0.0, 4), (1.0, 7), (1.0, 12)] {
        let with = |accept| {
            let sampler = Sampler::Image(ImageSampler {
                steps,
                temperature,
                accept,
                surprise: accept,
                guidance: 0.5,
                ..ImageSampler::default()
            });
            one(&backbone, &row(1, 1, 3, 12, &sampler))
        };
        assert_eq!(with(1.0), with(0.0));
    }
}

/// Surprises commit one code per step, but the schedule's share of committed codes is still reached at every
/// step.
#[test]
fn surprises_do_not_leave_the_schedule_behind() {
    let backbone = sharp(&config(), 9, Kind::Float);
    let left = |surprise: f64, step: u16, seed| {
        let sampler = ImageSampler {
            steps: 4,
            surprise,
            ..ImageSampler::default()
        };
        let request = SampleRequest {
            seed,
            ..row(1, 0, 4, 12, &Sampler::Image(sampler))
        };
        one(&backbone, &request)
            .commit_step
            .iter()
            .filter(|&&at| at > step)
            .count()
    };
    for step in 0..3 {
        let scheduled = left(0.0, step, 0);
        assert!((0..8).all(|seed| left(1e-6, step, seed) <= scheduled), "{step}");
    }
}

/// Codes whose probability reaches the threshold are committed at once, and sampling ends when no code is
/// masked.
#[test]
fn what_is_accepted_saves_passes() {
    let backbone = sharp(&config(), 9, Kind::Float);
    let forwards = |accept| {
        let sampler = ImageSampler {
            steps: 9,
            accept,
            ..ImageSampler::default()
        };
        one(&backbone, &row(1, 0, 4, 9, &Sampler::Image(sampler))).forwards
    };
    assert_eq!(forwards(0.0), 9);
    assert_eq!(forwards(1e-9), 1);
    assert!((1..=9).contains(&forwards(0.5)));
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

/// The quirk `unconditional_prefix`: a prefix that extends into the image freezes the unconditional image in
/// its initial state, which changes the confidences.
#[test]
fn the_published_prefix_is_a_switch() {
    let backbone = sharp(&config(), 13, Kind::Float);
    let drawn = |unconditional_prefix| {
        let sampler = ImageSampler {
            steps: 6,
            guidance: 3.0,
            quirks: Quirks {
                unconditional_prefix,
                ..Quirks::default()
            },
            ..ImageSampler::default()
        };
        let mut request = row(1, 0, 4, 9, &Sampler::Image(sampler));
        request.unconditional = Some([vec![EOS; 4], vec![MASK; 9]].concat());
        one(&backbone, &request).confidence
    };
    assert_eq!(drawn(0), drawn(4), "ours is all before the picture");
    assert_ne!(drawn(0), drawn(99), "the picture is frozen");
}

/// Returns tokens, commit steps and numbers of forward passes, none of which rounding may change.
fn drawn<'a>(samples: &'a [Sample]) -> Vec<(&'a [u32], &'a [u16], usize)> {
    let of = |sample: &'a Sample| {
        let Sample {
            ids,
            commit_step,
            forwards,
            ..
        } = sample;
        (&ids[..], &commit_step[..], *forwards)
    };
    samples.iter().map(of).collect()
}

/// Requests that join and leave a running batch are answered as if they ran alone. A small request is
/// answered before a large one that joined earlier.
#[test]
fn l8_a_request_that_joins_is_answered_as_it_would_be_alone() {
    let (backbone, optimizer) = crate::common::learner(3);
    let tokenizer = None;
    let model = LoadedModel {
        backbone,
        optimizer,
        tokenizer,
    };
    let sampler = Sampler::Text(TextSampler {
        steps: 6,
        block: 6,
        temperature: 0.7,
        ..TextSampler::default()
    });
    let rows = |first: u64, count: u64| -> Vec<SampleRequest> {
        (first..first + count)
            .map(|id| row(id, 0, 3 + id as usize % 4, 6, &sampler))
            .collect()
    };
    let (many, few, dropped) = (rows(0, 7), rows(20, 2), rows(40, 3));
    let mut sampling = RunningRequests::new(
        &model,
        Limits {
            rows: 2,
            tokens: 1000,
        },
    );
    let mut order = Vec::new();
    let mut step = |sampling: &mut RunningRequests| {
        for (number, answer) in sampling.step(&mut |_, _| ()).unwrap() {
            let Answer::Samples { samples, seconds, .. } = answer else {
                panic!("no samples");
            };
            assert!(seconds > 0.0);
            order.push((number, samples));
        }
    };
    sampling.join(1, many.clone()).unwrap();
    step(&mut sampling);
    sampling.join(2, dropped).unwrap();
    sampling.join(3, few.clone()).unwrap();
    assert!(
        sampling
            .join(4, vec![row(1, 0, 400, 6, &sampler)])
            .is_err_and(|error| error.to_string().contains("406"))
    );
    step(&mut sampling);
    sampling.leave(2);
    while !sampling.is_empty() {
        step(&mut sampling);
    }
    let numbers: Vec<usize> = order.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, [3, 1]);
    for ((_, together), asked) in order.iter().zip([&few, &many]) {
        assert_eq!(drawn(together), drawn(&draw(&model.backbone, asked)));
    }
}

/// An image that cannot be decoded fails its own request only.
#[test]
fn a_picture_that_cannot_be_decoded_fails_alone() {
    let (backbone, optimizer) = crate::common::learner(3);
    let tokenizer = ImageTokenizer::fresh(&crate::common::tokenizer_config(), 1, Device::Cpu).unwrap();
    let trainer = TokenizerTrainer::new(&tokenizer).unwrap();
    let model = LoadedModel {
        backbone,
        optimizer,
        tokenizer: Some((tokenizer, trainer)),
    };
    let image = Sampler::Image(ImageSampler::default());
    let mut sampling = RunningRequests::new(&model, Limits::default());
    let watched = SampleRequest {
        watch: true,
        ..row(1, 0, 3, 3, &image)
    };
    sampling.join(1, vec![watched]).unwrap();
    sampling
        .join(2, vec![row(2, 0, 3, 4, &image), row(3, 0, 3, 9, &image)])
        .unwrap();
    let mut answers = Vec::new();
    while !sampling.is_empty() {
        answers.extend(sampling.step(&mut |_, _| ()).unwrap());
    }
    answers.sort_by_key(|(number, _)| *number);
    assert!(matches!(&answers[0], (1, Answer::Failed(_))), "{answers:?}");
    let (2, Answer::Samples { samples, .. }) = &answers[1] else {
        panic!("{answers:?}");
    };
    let sides: Vec<usize> = samples
        .iter()
        .map(|sample| sample.picture.as_ref().unwrap().width)
        .collect();
    assert_eq!(sides, [4, 6]);
}
