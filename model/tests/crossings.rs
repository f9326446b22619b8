//! Counts the transfers between host and device. Host-driven sampling makes one upload and one read per forward
//! pass. The device loop makes two of each per block: for its first pass, and for the remaining ones. A training
//! step reads once, and so does each inner step of a policy step.
//!
//! The tests run on the CPU in f64, which takes the same code path as a GPU (composed of libtorch's operators) and
//! counts the transfers that a GPU would make.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use common::{MASK, config, group, ragged, settings};
use demask_api::{
    Commit, End, EstimatorConfig, ImageSampler, ObjectiveConfig, SampleRequest, Sampler, Spacing, Span,
    TextCache, TextSampler, UniGrpo,
};
use demask_model::device::transfer::{Crossings, crossings};
use demask_model::sampler::{Batch, Limits, Stepping};
use demask_model::training::optimizer::AdamW;
use demask_model::{Backbone, policy, training};
use tch::{Device, Kind};

fn backbone() -> Backbone {
    Backbone::fresh(&config(), 3, Device::Cpu, Kind::Double).unwrap()
}

/// Returns the uploads and reads that `work` causes.
fn counted(work: impl FnOnce()) -> Crossings {
    let before = crossings();
    work();
    let after = crossings();
    Crossings {
        uploads: after.uploads - before.uploads,
        reads: after.reads - before.reads,
    }
}

fn request(id: u64, target: usize, sampler: Sampler) -> SampleRequest {
    let ids = (0..5).chain(std::iter::repeat_n(MASK, target));
    SampleRequest {
        id,
        ids: ids.collect(),
        left_pad: 0,
        target: Span {
            start: 5,
            end: 5 + target,
        },
        sampler,
        grid: None,
        unconditional: None,
        unconditional_left_pad: 0,
        seed: id,
        watch: false,
    }
}

fn text(cache: TextCache) -> Sampler {
    Sampler::Text(TextSampler {
        steps: 8,
        block: 4,
        cache,
        commit: Commit::Schedule,
        end: End::Never,
        ..TextSampler::default()
    })
}

/// A batch of text, cached text and guided images uploads once and reads once per forward pass.
#[test]
fn a_pass_uploads_once_and_reads_once() {
    let backbone = backbone();
    let guided = Sampler::Image(ImageSampler {
        steps: 3,
        guidance: 1.0,
        ..ImageSampler::default()
    });
    // Text and guided images share the forward passes, although they are drawn from different columns of the
    // logits.
    let requests = vec![
        request(1, 8, text(TextCache::None)),
        request(2, 8, text(TextCache::Prefix)),
        request(3, 4, guided),
    ];
    let mut batch = Batch::new(&backbone, Limits::default()).stepping(Stepping::HostDriven);
    batch.submit(requests).unwrap();
    let mut passes = 0;
    let crossings = counted(|| {
        while !batch.is_empty() {
            batch.step(&mut |_, _, _| Ok(())).unwrap();
            passes += 1;
        }
    });
    assert_eq!((crossings.uploads, crossings.reads), (passes, passes));
}

#[test]
fn steps_that_ask_nobody_upload_and_read_once_a_block() {
    let backbone = backbone();
    let mut batch = Batch::new(&backbone, Limits::default()).stepping(Stepping::DeviceLoop);
    batch
        .submit(vec![
            request(1, 8, text(TextCache::Prefix)),
            request(2, 8, text(TextCache::Prefix)),
        ])
        .unwrap();
    let crossings = counted(|| {
        while !batch.is_empty() {
            batch.step(&mut |_, _, _| Ok(())).unwrap();
        }
    });
    // Two blocks, each of one full forward pass and three steps over the block alone: two transfers per block.
    assert_eq!((crossings.uploads, crossings.reads), (4, 4));
}

#[test]
fn a_training_step_reads_once() {
    let mut backbone = backbone();
    let mut optimizer = AdamW::new(backbone.parameters()).unwrap();
    tch::set_num_threads(1);
    for micro_batches in [vec![ragged()], vec![ragged(), ragged(), ragged()]] {
        let crossings = counted(|| {
            let report =
                training::train(&mut backbone, &mut optimizer, &micro_batches, &settings(1)).unwrap();
            assert!(report.finite);
        });
        // Rows of these lengths form three groups, and each group needs one upload.
        assert_eq!((crossings.uploads, crossings.reads), (3 * micro_batches.len(), 1));
    }
}

/// A policy step with a reference model reads once per inner step.
#[test]
fn a_policy_step_reads_once_an_inner_step() {
    let mut backbone = backbone();
    let mut optimizer = AdamW::new(backbone.parameters()).unwrap();
    tch::set_num_threads(1);
    let reference = backbone.frozen_copy().unwrap();
    let estimator = EstimatorConfig::from(UniGrpo {
        spacing: Spacing::Cyclic,
    });
    let objective = ObjectiveConfig {
        inner_steps: 3,
        kl: 0.1,
        ..ObjectiveConfig::default()
    };
    let crossings = counted(|| {
        let groups = [group(&[1.0, -0.5, 0.5, 0.3, -1.0])];
        let report = policy::train(
            &mut backbone,
            &mut optimizer,
            Some(&reference),
            &groups,
            &estimator,
            &objective,
            &settings(9),
        );
        assert!(report.unwrap().finite);
    });
    assert_eq!(crossings.reads, 3);
}
