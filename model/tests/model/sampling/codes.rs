//! Pictures: ancestral sampling and surprises by enumeration, given codes, thresholds, and the published prefix.

use super::requests::sharp;
use crate::common::rows::{draw, one, row};
use crate::common::{EOS, MASK, config, numbers};
use demask_api::{ImageMethod, ImageSampler, Quirks, SampleRequest, Sampler};
use demask_model::{AttentionMask, Backbone};
use tch::{Kind, Tensor};

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
