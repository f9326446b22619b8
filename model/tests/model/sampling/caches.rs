//! What each cache guarantees: when it is exact, and that what is kept changes no sample.

use super::requests::{DUAL, sharp, text};
use crate::common::config;
use crate::common::rows::{draw, one, row};
use demask_api::{
    BackboneConfig, Commit, End, FeatureCache, ImageSampler, SampleRequest, Sampler, StepSettings, TextCache,
};
use demask_model::sampler::{Batch, Limits, Shelf, Stepping, WorkerPool};
use demask_model::training;
use tch::Kind;

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
