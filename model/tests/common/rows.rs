//! Requests for the sampler tests, and a network whose samples do not depend on rounding.

use demask_api::{BackboneConfig, Sample, SampleRequest, Sampler, Span};
use demask_model::Backbone;
use demask_model::sampler::sample;
use tch::{Device, Kind};

use super::{EOS, MASK};

/// Returns a network whose output weights are scaled by 4, so that the logits differ by more than rounding
/// error.
pub fn sharp(config: &BackboneConfig, seed: u64, (device, kind): (Device, Kind)) -> Backbone {
    let backbone = Backbone::fresh(config, seed, device, kind).unwrap();
    tch::no_grad(|| backbone.head_weight().unwrap().f_mul_scalar_(4.0).map(|_| ())).unwrap();
    backbone
}

/// Returns a request: `pad` padding tokens, a prompt whose tokens depend on `id`, and a masked answer.
pub fn row(id: u64, pad: usize, prompt: usize, answer: usize, sampler: &Sampler) -> SampleRequest {
    let start = pad + prompt;
    let token = |at: usize| match at {
        at if at < pad => EOS,
        at if at < start => (at as u32 * 3 + id as u32 * 5) % 10,
        _ => MASK,
    };
    SampleRequest {
        id,
        ids: (0..start + answer).map(token).collect(),
        left_pad: pad,
        target: Span {
            start,
            end: start + answer,
        },
        sampler: sampler.clone(),
        grid: None,
        unconditional: None,
        unconditional_left_pad: pad,
        seed: id,
        watch: false,
    }
}

/// Samples all requests in one batch.
pub fn draw(backbone: &Backbone, requests: &[SampleRequest]) -> Vec<Sample> {
    sample(backbone, requests, &mut |_, _, _| Ok(())).unwrap()
}

/// Samples a single request by itself.
pub fn one(backbone: &Backbone, request: &SampleRequest) -> Sample {
    draw(backbone, std::slice::from_ref(request)).remove(0)
}
