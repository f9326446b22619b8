//! Both samplers against the reference loops, and properties that hold for any weights.
#![allow(clippy::unwrap_used, missing_docs)]

use crate::common::{EOS, MASK, backbone, numbers};
use demask_api::{
    Answer, ImageSampler, MaskSchedule, ModelSource, Remasking, Request, Sample, SampleFrame, SampleRequest,
    Sampler, Span, TextSampler,
};
use demask_model::engine::Engine;
use demask_model::engine::device_choice::Place;
use demask_model::sampler::schedule::mask_len;
use demask_model::sampler::{reference, sample};
use demask_model::{AttentionMask, Backbone};
use tch::{Kind, Tensor};

/// Returns a request with a prompt of 4 tokens after the padding, then masks up to `length`.
fn request(id: u64, left_pad: usize, length: usize, sampler: Sampler) -> SampleRequest {
    let start = left_pad + 4;
    let token = |at: usize| match at {
        at if at < left_pad => EOS,
        at if at < start => (at as u32 * 3 + id as u32) % 10,
        _ => MASK,
    };
    SampleRequest {
        id,
        ids: (0..length).map(token).collect(),
        left_pad,
        target: Span { start, end: length },
        sampler,
        grid: None,
        unconditional: None,
        unconditional_left_pad: left_pad,
        seed: id,
        watch: true,
    }
}

/// Returns one request's sample and its frames.
fn watched(backbone: &Backbone, request: &SampleRequest) -> (Sample, Vec<SampleFrame>) {
    let mut frames = Vec::new();
    let samples = sample(backbone, std::slice::from_ref(request), &mut |_, frame, _| {
        frames.push(frame);
        Ok(())
    });
    (samples.unwrap().remove(0), frames)
}

/// Returns the logits of one row, one list per position.
fn logits(backbone: &Backbone, ids: &[u32], left_pad: usize) -> Vec<Vec<f64>> {
    let ids_bl = Tensor::from_slice(&ids.iter().map(|&id| i64::from(id)).collect::<Vec<_>>()).unsqueeze(0);
    let mask = AttentionMask::from_left_pads(&[left_pad], ids.len()).unwrap();
    let logits = tch::no_grad(|| {
        backbone
            .head(&backbone.hidden(&ids_bl, &mask).unwrap(), None)
            .unwrap()
    });
    numbers(&logits).chunks(20).map(<[f64]>::to_vec).collect()
}

/// Returns rows of several paddings. Row 0 is watched, and row 1 has an unconditional row of its own.
fn rows(seed: u64, sampler: &Sampler) -> Vec<SampleRequest> {
    let row = |id: u64| {
        let pad = id as usize % 3;
        let mut row = request(10 * seed + id, pad, pad + 16, sampler.clone());
        row.watch = id == 0;
        row.unconditional = (id == 1).then(|| vec![id as u32; pad + 16]);
        row
    };
    (0..4).map(row).collect()
}

/// The text sampler gives the tokens of LLaDA's reference loop, with and without temperature and guidance,
/// alone and in a batch.
#[test]
fn the_text_is_the_one_of_the_reference_loop() {
    for seed in 0..3 {
        let backbone = backbone(seed);
        for (block, steps) in [(4, 12), (6, 4), (12, 5), (12, 12), (5, 9)] {
            for (temperature, guidance) in [(0.0, 0.0), (0.0, 1.5), (0.7, 0.0), (1.5, 0.5)] {
                let sampler = TextSampler {
                    steps,
                    block,
                    temperature,
                    guidance,
                    ..TextSampler::default()
                };
                let requests = rows(seed, &Sampler::Text(sampler.clone()));
                let together = sample(&backbone, &requests, &mut |_, _, _| Ok(())).unwrap();
                for (request, sample) in requests.iter().zip(together) {
                    let expected = reference::text(&backbone, request, &sampler).unwrap();
                    assert_eq!(sample.ids, expected, "seed {seed}, {sampler:?}");
                    assert_eq!(watched(&backbone, request).0.ids, expected);
                }
            }
        }
    }
}

/// The image sampler gives the codes of MaskGIT's reference loop, with and without guidance and noise on the
/// order, alone and in a batch.
#[test]
fn the_picture_is_the_one_of_the_reference_loop() {
    for seed in 0..3 {
        let backbone = backbone(seed);
        for (steps, schedule) in [
            (1, MaskSchedule::Cosine),
            (4, MaskSchedule::Cosine),
            (12, MaskSchedule::Linear),
        ] {
            for (temperature, guidance) in [(0.0, 0.0), (1.0, 2.0), (4.0, 0.0)] {
                let sampler = ImageSampler {
                    steps,
                    schedule,
                    temperature,
                    guidance,
                    ..ImageSampler::default()
                };
                let mut requests = rows(seed, &Sampler::Image(sampler.clone()));
                // In one image some codes are given.
                requests[2].ids[8..11].fill(13);
                for request in &mut requests {
                    request
                        .unconditional
                        .get_or_insert_with(|| vec![MASK; request.ids.len()]);
                }
                let together = sample(&backbone, &requests, &mut |_, _, _| Ok(())).unwrap();
                for (request, sample) in requests.iter().zip(together) {
                    let expected = reference::image(&backbone, request, &sampler).unwrap();
                    assert_eq!(sample.ids, expected, "seed {seed}, {sampler:?}");
                    assert_eq!(watched(&backbone, request).0.ids, expected);
                }
            }
        }
    }
}

/// Blocks are filled from left to right with half of a block per step. In every frame the earlier blocks are
/// complete and the later ones fully masked. Positions after an early end count as committed by the last
/// step.
#[test]
fn blocks_are_filled_from_left_to_right_and_every_mask_is() {
    let backbone = backbone(3);
    for (temperature, remasking) in [
        (0.0, Remasking::LowConfidence),
        (1.0, Remasking::Random),
        (2.0, Remasking::LowConfidence),
    ] {
        let sampler = TextSampler {
            steps: 8,
            block: 4,
            temperature,
            remasking,
            guidance: 0.5,
            ..TextSampler::default()
        };
        let request = request(7, 1, 21, Sampler::Text(sampler.clone()));
        let (sample, frames) = watched(&backbone, &request);
        let target = &sample.ids[5..];
        assert!(target.iter().all(|&id| id < 12 && id != MASK), "{target:?}");
        assert_eq!(sample.ids[..5], request.ids[..5]);
        for frame in &frames {
            let block = frame.step / 2;
            let masks =
                |range: std::ops::Range<usize>| frame.tokens[range].iter().filter(|&&id| id == MASK).count();
            assert_eq!(masks(0..4 * block), 0, "what is behind is whole");
            assert_eq!(
                masks(4 * block..4 * block + 4),
                2 * (1 - frame.step % 2),
                "half of a block a step"
            );
            assert_eq!(
                masks(4 * (block + 1)..16),
                4 * (3 - block),
                "what is ahead is masked"
            );
        }
        let done = frames.len();
        for (at, &step) in sample.commit_step.iter().enumerate() {
            let step = usize::from(step);
            assert!(
                step / 2 == at / 4 || (at / 4 >= done / 2 && step + 1 == done),
                "{at} at {step}"
            );
        }
    }
}

/// Tokens that are already in the target stay.
#[test]
fn tokens_that_are_given_stay() {
    let backbone = backbone(3);
    let sampler = TextSampler {
        steps: 4,
        block: 4,
        ..TextSampler::default()
    };
    let mut request = request(7, 0, 12, Sampler::Text(sampler.clone()));
    (request.ids[5], request.ids[9], request.ids[11]) = (EOS, 3, 8);
    let (sample, _) = watched(&backbone, &request);
    assert_eq!((sample.ids[5], sample.ids[9], sample.ids[11]), (EOS, 3, 8));
    assert!(!sample.ids.contains(&MASK));
}

/// After every step, the number of masked codes is the one that the schedule prescribes, also with more
/// steps than codes.
#[test]
fn a_picture_loses_its_masks_as_the_schedule_says() {
    let backbone = backbone(3);
    for (schedule, steps) in [
        (MaskSchedule::Cosine, 6),
        (MaskSchedule::Linear, 4),
        (MaskSchedule::Cosine, 1),
        (MaskSchedule::Cosine, 40),
    ] {
        let sampler = ImageSampler {
            steps,
            schedule,
            ..ImageSampler::default()
        };
        let request = request(7, 2, 22, Sampler::Image(sampler.clone()));
        let (sample, frames) = watched(&backbone, &request);
        assert!(
            sample.ids[6..].iter().all(|id| (12..20).contains(id)),
            "{:?}",
            sample.ids
        );
        assert_eq!(sample.ids[..6], request.ids[..6]);
        assert_eq!(frames.len(), steps.min(16), "a picture without masks is done");
        let mut left = 16;
        for frame in frames {
            // As in the published code, each step commits at least one token and keeps at least one masked,
            // until the last step.
            if left > 0 {
                left = mask_len(schedule, 16, frame.step, steps).max(1).min(left - 1);
            }
            let masks = frame.tokens.iter().filter(|&&id| id == MASK).count();
            assert_eq!(masks, left, "step {} of {steps}", frame.step);
            let known = frame.tokens.iter().filter(|&&id| id != MASK);
            assert!(known.zip(0..).all(|(id, _)| (12..20).contains(id)));
        }
    }
}

/// With a guidance scale of 0 the unconditional sequence has no influence; with another scale it has.
#[test]
fn guidance_zero_is_no_guidance() {
    let backbone = backbone(3);
    for guidance in [0.0, 3.0] {
        let words = TextSampler {
            steps: 4,
            block: 4,
            temperature: 1.0,
            guidance,
            ..TextSampler::default()
        };
        let codes = ImageSampler {
            steps: 4,
            guidance,
            ..ImageSampler::default()
        };
        let drawn = |unconditional: Option<Vec<u32>>| {
            let with = |sampler: Sampler| SampleRequest {
                unconditional: unconditional.clone(),
                ..request(7, 0, 20, sampler)
            };
            let (sample, _) = watched(&backbone, &with(Sampler::Text(words.clone())));
            let (picture, _) = watched(&backbone, &with(Sampler::Image(codes.clone())));
            (sample.ids, sample.confidence, picture.ids, picture.confidence)
        };
        let (one, other) = (drawn(Some(vec![1; 20])), drawn(Some(vec![2; 20])));
        assert_eq!(one == other, guidance == 0.0);
        if guidance == 0.0 {
            assert_eq!(one, drawn(None));
        }
    }
}

/// Rows of many lengths and kinds in one request have the samples that they have alone, in the order of the
/// request.
#[test]
fn l8_an_answer_does_not_depend_on_what_else_is_asked() {
    let mut engine = Engine::new(Place::choose("cpu", "f32", Some(1)).unwrap());
    let model: ModelSource = serde_json::from_value(serde_json::json!({
        "from": "fresh", "backbone": crate::common::config(), "image_tokenizer": null, "seed": 4
    }))
    .unwrap();
    engine.handle(Request::Load { model }, &mut |_| ()).unwrap();
    let mut draw =
        |requests: Vec<SampleRequest>| match engine.handle(Request::Sample { requests }, &mut |_| ()) {
            Ok(Answer::Samples { samples, .. }) => samples,
            other => panic!("{other:?}"),
        };
    let words = |temperature| {
        Sampler::Text(TextSampler {
            steps: 4,
            block: 4,
            temperature,
            ..TextSampler::default()
        })
    };
    let codes = Sampler::Image(ImageSampler {
        steps: 3,
        ..ImageSampler::default()
    });
    let requests: Vec<_> = (0..16)
        .map(|id| {
            let pad = id as usize % 3;
            let sampler = match id % 4 {
                0 => words(0.0),
                1 => words(0.9),
                _ => codes.clone(),
            };
            request(id, pad, pad + 12 + 8 * (id as usize / 8), sampler)
        })
        .collect();
    let together = draw(requests.clone());
    assert_eq!(
        together.iter().map(|sample| sample.id).collect::<Vec<_>>(),
        (0..16).collect::<Vec<_>>()
    );
    for (request, sample) in requests.into_iter().zip(&together) {
        let alone = draw(vec![request]).remove(0);
        assert_eq!(
            (&alone.ids, &alone.commit_step),
            (&sample.ids, &sample.commit_step)
        );
    }
}

/// Returns the chi-squared statistic of counts against shares.
fn chi_squared(counts: &[f64], shares: &[f64]) -> f64 {
    let (drawn, whole): (f64, f64) = (counts.iter().sum(), shares.iter().sum());
    counts
        .iter()
        .zip(shares)
        .map(|(count, share)| {
            let expected = drawn * share / whole;
            (count - expected).powi(2) / expected
        })
        .sum()
}

/// Both positions of one step are drawn from the softmax at its temperature. There are 11 words, so 10
/// degrees of freedom; the critical value is 29.6 at p = 0.001.
#[test]
fn a_word_is_drawn_from_the_softmax_at_its_temperature() {
    let backbone = backbone(3);
    for temperature in [0.5, 1.0, 2.0] {
        let sampler = TextSampler {
            steps: 1,
            block: 2,
            temperature,
            ..TextSampler::default()
        };
        let row = |seed| SampleRequest {
            seed,
            watch: false,
            ..request(7, 0, 6, Sampler::Text(sampler.clone()))
        };
        let requests: Vec<_> = (0..6000).map(row).collect();
        let samples = sample(&backbone, &requests, &mut |_, _, _| Ok(())).unwrap();
        let scores = logits(&backbone, &requests[0].ids, 0);
        let words: Vec<usize> = (0..12).filter(|&id| id != MASK as usize).collect();
        for at in [4, 5] {
            let count = |&id: &usize| {
                samples
                    .iter()
                    .filter(|sample| sample.ids[at] as usize == id)
                    .count() as f64
            };
            let counts: Vec<f64> = words.iter().map(count).collect();
            let shares: Vec<f64> = words
                .iter()
                .map(|&id| (scores[at][id] / temperature).exp())
                .collect();
            let chi2 = chi_squared(&counts, &shares);
            assert!(chi2 < 29.6, "temperature {temperature}, position {at}: {chi2}");
        }
    }
}

/// A code is drawn from the softmax over codes, and its confidence is its probability among codes. There are
/// 8 codes, so 7 degrees of freedom; the critical value is 24.3 at p = 0.001.
#[test]
fn a_code_is_drawn_from_the_softmax_over_codes() {
    let backbone = backbone(3);
    let sampler = ImageSampler {
        steps: 1,
        guidance: 0.0,
        ..ImageSampler::default()
    };
    let row = |seed| SampleRequest {
        seed,
        watch: false,
        ..request(7, 0, 6, Sampler::Image(sampler.clone()))
    };
    let requests: Vec<_> = (0..6000).map(row).collect();
    let samples = sample(&backbone, &requests, &mut |_, _, _| Ok(())).unwrap();
    let scores = logits(&backbone, &requests[0].ids, 0);
    for at in [4, 5] {
        let count = |id: u32| samples.iter().filter(|sample| sample.ids[at] == id).count() as f64;
        let counts: Vec<f64> = (12..20).map(count).collect();
        let shares: Vec<f64> = scores[at][12..].iter().map(|value| value.exp()).collect();
        let chi2 = chi_squared(&counts, &shares);
        assert!(chi2 < 24.3, "position {at}: {chi2}");
        let confidence = f64::from(samples[0].confidence[at - 4]);
        let expected = shares[samples[0].ids[at] as usize - 12] / shares.iter().sum::<f64>();
        assert!(
            (confidence - expected).abs() < 1e-5,
            "{confidence} and {expected}"
        );
    }
}

/// A draw at a tiny temperature equals the greedy one, also where the mask token, which may not be written,
/// has by far the largest logit.
#[test]
fn a_cold_draw_is_the_greedy_one_even_below_a_token_that_may_not_be_written() {
    let backbone = backbone(3);
    let sampler = |temperature| TextSampler {
        steps: 1,
        block: 1,
        temperature,
        ..TextSampler::default()
    };
    let asked = |temperature| request(7, 0, 5, Sampler::Text(sampler(temperature)));
    let ids: Vec<i64> = asked(0.0).ids.iter().map(|&id| i64::from(id)).collect();
    tch::no_grad(|| {
        let hidden = backbone
            .hidden(&Tensor::from_slice(&ids).unsqueeze(0), &AttentionMask::None)
            .unwrap();
        let head = backbone
            .parameters()
            .leaf("model.transformer.ff_out.weight")
            .unwrap();
        head.get(i64::from(MASK)).copy_(&(hidden.get(0).get(4) * 1000.0));
    });
    let scores = logits(&backbone, &asked(0.0).ids, 0);
    assert!(scores[4][MASK as usize] > 1000.0);
    let (greedy, _) = watched(&backbone, &asked(0.0));
    let (cold, _) = watched(&backbone, &asked(1e-3));
    assert_eq!(cold.ids, greedy.ids);
}

#[test]
fn broken_weights_are_refused_not_sampled_from() {
    let backbone = backbone(3);
    let broken = Tensor::full_like(backbone.parameters().master(), f64::NAN);
    backbone.parameters().set(&broken.to_kind(Kind::Float)).unwrap();
    let words = TextSampler {
        steps: 1,
        block: 1,
        ..TextSampler::default()
    };
    let asked = [request(7, 0, 5, Sampler::Text(words))];
    let error = sample(&backbone, &asked, &mut |_, _, _| Ok(())).unwrap_err();
    assert!(error.to_string().contains("not finite"), "{error}");
    let asked = [request(7, 0, 5, Sampler::Image(ImageSampler::default()))];
    let error = sample(&backbone, &asked, &mut |_, _, _| Ok(())).unwrap_err();
    assert!(error.to_string().contains("not finite"), "{error}");
}
