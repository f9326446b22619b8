//! The forward process: which tokens are masked, how often, and how that weights the loss.

use demask_api::{BlockNoise, LossNormalization, Sequence, Span, Task};
use demask_model::training::loss::{answer_divisor, position_weight};
use demask_model::training::mask_sampling::noise;
use proptest::prelude::*;

const MASK: u32 = 999;

fn sequence(prompt: usize, answer: usize) -> Sequence {
    Sequence {
        id: "one".into(),
        task: Task::Text,
        ids: (0..(prompt + answer) as u32).collect(),
        left_pad: 0,
        answer: vec![Span {
            start: prompt,
            end: prompt + answer,
        }],
    }
}

fn blocks(length: usize) -> BlockNoise {
    BlockNoise { share: 1.0, length }
}

proptest! {
    #[test]
    fn a_block_is_masked_in_part_with_clean_tokens_before_it_and_masks_behind(
        prompt in 1..6usize, answer in 1..40usize, length in 1..12usize, seed: u64, row in 0..8usize,
    ) {
        let noised = noise(&sequence(prompt, answer), MASK, blocks(length), seed, row, 8);
        prop_assert!(!noised.positions.is_empty());
        let block = (noised.positions[0] - prompt) / length;
        let (start, end) = (prompt + block * length, (prompt + (block + 1) * length).min(prompt + answer));
        for (at, &id) in noised.ids.iter().enumerate() {
            let learnt = noised.positions.contains(&at);
            prop_assert!(!learnt || (start..end).contains(&at));
            prop_assert_eq!(id == MASK, learnt || at >= end, "position {}", at);
        }
    }

    #[test]
    fn without_blocks_every_mask_is_learnt(prompt in 1..6usize, answer in 1..40usize, seed: u64) {
        let noised = noise(&sequence(prompt, answer), MASK, BlockNoise::default(), seed, 0, 1);
        let masks: Vec<usize> = (0..prompt + answer).filter(|&at| noised.ids[at] == MASK).collect();
        prop_assert_eq!(&noised.positions, &masks);
        prop_assert!((noised.p * answer as f64 - masks.len() as f64).abs() < 1e-9);
    }
}

/// Each position counts once in expectation, so the weighted loss bounds the likelihood of the whole answer.
#[test]
fn a_positions_weight_is_the_inverse_of_its_chance() {
    for (answer, noise_of) in [(12, BlockNoise::default()), (12, blocks(4)), (10, blocks(4))] {
        let (rows, mut counted) = (40_000, vec![0.0; answer]);
        for row in 0..rows {
            let noised = noise(&sequence(3, answer), MASK, noise_of, 7, row, rows);
            for at in noised.positions {
                counted[at - 3] += 1.0 / noised.p / rows as f64;
            }
        }
        assert!(
            counted.iter().all(|count| (count - 1.0).abs() < 0.12),
            "{noise_of:?}: {counted:?}"
        );
    }
}

#[test]
fn answers_weigh_alike_as_published_or_their_tokens_do() {
    // Answers of 4 and 36 tokens, fully masked.
    let weight = |normalization, answer| {
        let divisor = answer_divisor(normalization, 2, answer, 40);
        position_weight(Task::Text, answer, 1.0, divisor)
    };
    let by_sequence = LossNormalization::Sequence;
    assert!((weight(by_sequence, 4) - 1.0 / 8.0).abs() < 1e-12);
    assert!((weight(by_sequence, 36) - 1.0 / 72.0).abs() < 1e-12);
    let by_token = LossNormalization::Token;
    assert!((weight(by_token, 4) - 1.0 / 40.0).abs() < 1e-12);
    assert!((weight(by_token, 36) - 1.0 / 40.0).abs() < 1e-12);
}
