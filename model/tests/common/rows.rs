//! Rows for the samplers, and a network that no rounding parts.

use demask_api::{BackboneConfig, Sample, SampleRequest, Sampler, Span};
use demask_model::Backbone;
use demask_model::sampler::sample;
use tch::{Device, Kind};

use super::{EOS, MASK};

/// Logits far enough apart that no rounding decides.
pub fn sharp(config: &BackboneConfig, seed: u64, (device, kind): (Device, Kind)) -> Backbone {
    let backbone = Backbone::fresh(config, seed, device, kind).unwrap();
    tch::no_grad(|| backbone.head_weight().unwrap().f_mul_scalar_(4.0).map(|_| ())).unwrap();
    backbone
}

/// Padding, a prompt that follows from the id, and an answer to be filled in.
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

/// All of them at one time.
pub fn draw(backbone: &Backbone, requests: &[SampleRequest]) -> Vec<Sample> {
    sample(backbone, requests, &mut |_, _, _| Ok(())).unwrap()
}

/// One alone.
pub fn one(backbone: &Backbone, request: &SampleRequest) -> Sample {
    draw(backbone, std::slice::from_ref(request)).remove(0)
}
