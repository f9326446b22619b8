//! Frames and what they carry, there and back.
#![allow(clippy::unwrap_used, missing_docs)]

use std::io::ErrorKind;

use demask_api::{
    Answer, Grid, LikelihoodEstimator, LogLikelihood, Request, SampleRequest, Task, TrainReport, wire,
};
use proptest::prelude::*;

fn report(loss: f64) -> TrainReport {
    TrainReport {
        step: 3,
        loss,
        task_losses: vec![(Task::Text, loss), (Task::TextToImage, 1.5)],
        grad_norm: loss,
        tokens: 1,
        masked: 1,
        seconds: 0.5,
        finite: loss.is_finite(),
        ranks: Vec::new(),
    }
}

#[test]
fn a_report_of_a_loss_that_is_no_number_arrives() {
    for loss in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let mut bytes = Vec::new();
        wire::write(&mut bytes, &Answer::Trained(report(loss))).unwrap();
        let Some(Answer::Trained(back)) = wire::read(&mut bytes.as_slice()).unwrap() else {
            panic!("no report");
        };
        assert!(back.loss.is_nan() && back.grad_norm.is_nan() && back.task_losses[0].1.is_nan());
        assert_eq!((back.task_losses[1].1, back.finite, back.step), (1.5, false, 3));
    }
    let values = Answer::LogProbs {
        values: vec![vec![-1.5, f32::NEG_INFINITY], vec![]],
    };
    let mut bytes = Vec::new();
    wire::write(&mut bytes, &values).unwrap();
    let Some(Answer::LogProbs { values }) = wire::read(&mut bytes.as_slice()).unwrap() else {
        panic!("no values");
    };
    assert!(values[0][0] == -1.5 && values[0][1].is_nan() && values[1].is_empty());
}

#[test]
fn log_likelihoods_arrive_with_what_is_not_known_of_them() {
    let one = |value, standard_error| LogLikelihood {
        value,
        standard_error,
        forwards: 3,
    };
    let said = Answer::LogLikelihoods {
        values: vec![
            one(-1.25, Some(0.5)),
            one(-2.0, None),
            one(f64::NEG_INFINITY, Some(f64::NAN)),
        ],
        seconds: 1.0,
    };
    let mut bytes = Vec::new();
    wire::write(&mut bytes, &said).unwrap();
    let Some(Answer::LogLikelihoods { values, .. }) = wire::read(&mut bytes.as_slice()).unwrap() else {
        panic!("no values");
    };
    assert_eq!(values[..2], [one(-1.25, Some(0.5)), one(-2.0, None)]);
    assert!(values[2].value.is_nan() && values[2].standard_error.is_none());
    let whole = LikelihoodEstimator::published(96);
    assert_eq!(
        whole,
        LikelihoodEstimator::Published {
            samples: 96,
            batch: 32
        }
    );
    let prime = LikelihoodEstimator::published(37);
    assert_eq!(
        prime,
        LikelihoodEstimator::Published {
            samples: 37,
            batch: 1
        }
    );
}

#[test]
fn the_body_of_a_frame_need_not_be_json() {
    let mut bytes = Vec::new();
    for body in [&b"\0\xff"[..], b""] {
        wire::write_frame(&mut bytes, body).unwrap();
    }
    let mut input = bytes.as_slice();
    assert_eq!(wire::read_frame(&mut input).unwrap(), Some(b"\0\xff".to_vec()));
    assert_eq!(wire::read_frame(&mut input).unwrap(), Some(Vec::new()));
    assert_eq!(wire::read_frame(&mut input).unwrap(), None);
    let long = vec![0_u8; wire::LONGEST + 1];
    let refused = wire::write_frame(&mut bytes, &long).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidData);
}

#[test]
fn a_finite_report_comes_back_as_it_was() {
    let mut bytes = Vec::new();
    wire::write(&mut bytes, &Answer::Trained(report(0.1 + 0.2))).unwrap();
    let back: Option<Answer> = wire::read(&mut bytes.as_slice()).unwrap();
    assert_eq!(back, Some(Answer::Trained(report(0.1 + 0.2))));
}

#[test]
fn a_request_of_an_older_caller_is_understood() {
    let text = r#"{"ask": "load", "model": {"from": "checkpoint", "dir": "x", "resume": false}}"#;
    let request: Request = wire::decode(text.as_bytes()).unwrap();
    assert!(matches!(request, Request::Load { .. }));
}

/// What is square is said as it always was; another shape is said.
#[test]
fn a_grid_travels_and_none_is_square() {
    let old = r#"{"id": 1, "ids": [1, 2, 3, 4], "left_pad": 0, "target": {"start": 0, "end": 4},
        "sampler": {"image": {"steps": 2}}, "unconditional": null, "seed": 5}"#;
    let mut request: SampleRequest = wire::decode(old.as_bytes()).unwrap();
    assert_eq!(request.grid, None);
    let said = serde_json::to_string(&request).unwrap();
    assert!(!said.contains("grid"), "{said}");
    request.grid = Some(Grid { rows: 1, columns: 4 });
    let back: SampleRequest = wire::decode(&serde_json::to_vec(&request).unwrap()).unwrap();
    assert_eq!(back, request);
    let decode: Request = wire::decode(br#"{"ask": "decode", "codes": [[1, 2, 3, 4]]}"#).unwrap();
    assert!(matches!(decode, Request::Decode { grid: None, .. }));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// A frame that ends anywhere but between frames is an error, not an end.
    #[test]
    fn a_frame_cut_off_anywhere_is_told_from_an_end(text in ".{0,40}", at in 0..60usize) {
        let mut bytes = Vec::new();
        wire::write(&mut bytes, &text).unwrap();
        let cut = at.min(bytes.len());
        match wire::read::<String>(&mut &bytes[..cut]) {
            Ok(None) => prop_assert_eq!(cut, 0),
            Ok(Some(back)) => prop_assert!(cut == bytes.len() && back == text),
            Err(error) => prop_assert!(cut < bytes.len() && error.kind() == ErrorKind::UnexpectedEof),
        }
    }

    /// Bytes from nowhere are an error or an end, never a panic and never a gigabyte.
    #[test]
    fn noise_is_not_understood(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let read = wire::read::<Request>(&mut bytes.as_slice());
        prop_assert!(matches!(read, Ok(None) | Err(_)));
    }
}
