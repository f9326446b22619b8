//! Requests that join and leave a running batch, or fail in it.

use crate::common::rows::{draw, row};
use demask_api::{Answer, ImageSampler, Sample, SampleRequest, Sampler, TextSampler};
use demask_model::engine::checkpoint::LoadedModel;
use demask_model::engine::sample_requests::RunningRequests;
use demask_model::image_tokenizer::{ImageTokenizer, TokenizerTrainer};
use demask_model::sampler::Limits;
use tch::Device;

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
