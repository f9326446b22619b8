//! The running batch of the sampler. A row's sample does not depend on the other rows or on the threads (L8).

use super::requests::{requests, sharp, text};
use crate::common::rows::{draw, one, row};
use crate::common::{MASK, config};
use demask_api::{BackboneConfig, Commit, Remasking, Sample, Sampler};
use demask_model::sampler::{Batch, Limits, Stepping, WorkerPool};
use proptest::prelude::*;
use tch::Kind;

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
