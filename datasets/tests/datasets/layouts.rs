//! The prompt layouts equal the published code's, case by case.
#![allow(clippy::unwrap_used, missing_docs)]

use demask_datasets::prompts::layout::{self, Layout};
use demask_datasets::prompts::text_tokenizer::SpecialTokens;
use serde::Deserialize;

const SPECIALS: SpecialTokens = SpecialTokens::LLADA;

#[derive(Deserialize)]
struct Golden {
    ignore: i64,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    layout: String,
    max_text_len: Option<usize>,
    max_seq_len: Option<usize>,
    texts: Vec<Vec<u32>>,
    #[serde(default)]
    images: Vec<Vec<u32>>,
    #[serde(default)]
    labels_in: Vec<Vec<i64>>,
    sequence: Vec<Vec<u32>>,
    attention_mask: Option<Vec<Vec<u8>>>,
    prompt_mask: Option<Vec<Vec<u8>>>,
    labels: Option<Vec<Vec<i64>>>,
}

fn laid_out(case: &Case, row: usize) -> Layout {
    let text = &case.texts[row];
    match case.layout.as_str() {
        "t2i" | "t2i_gen" => layout::t2i(&SPECIALS, text, &case.images[row], case.max_text_len.unwrap()),
        "lm" => layout::lm(&SPECIALS, text, case.max_seq_len.unwrap()),
        "lm_chat" => layout::lm_chat(&SPECIALS, text, case.max_seq_len.unwrap()),
        "mmu" => layout::mmu(&SPECIALS, &case.images[row], text, case.max_text_len.unwrap()),
        other => panic!("no layout {other}"),
    }
}

/// Converts this crate's layout to the labels that the published code returns.
fn labels(case: &Case, row: usize, ours: &Layout, ignore: i64) -> Vec<i64> {
    let mut labels: Vec<i64> = ours.ids.iter().map(|&id| i64::from(id)).collect();
    match case.layout.as_str() {
        "t2i" => {
            labels[..ours.left_pad].fill(ignore);
            let image = &case.labels_in[row];
            let end = labels.len() - 1;
            labels[end - image.len()..end].copy_from_slice(image);
        }
        "mmu" => labels[..case.images[row].len() + 3].fill(ignore),
        _ => {}
    }
    labels
}

/// Ids, attention masks, prompt masks and labels equal those recorded from the published code, for all 30
/// rows.
#[test]
fn every_published_case() {
    let golden: Golden = serde_json::from_str(include_str!("../fixtures/layouts.json")).unwrap();
    let mut rows = 0;
    for case in &golden.cases {
        for row in 0..case.texts.len() {
            let ours = laid_out(case, row);
            let name = format!("{} row {row}", case.layout);
            assert_eq!(ours.ids, case.sequence[row], "{name}");
            if let Some(mask) = &case.attention_mask {
                let found: Vec<u8> = (0..ours.ids.len())
                    .map(|i| u8::from(i >= ours.left_pad))
                    .collect();
                assert_eq!(&found, &mask[row], "{name}");
            }
            if let Some(mask) = &case.prompt_mask {
                let found: Vec<u8> = ours.prompt.iter().map(|&prompt| u8::from(prompt)).collect();
                assert_eq!(&found, &mask[row], "{name}");
            }
            if let Some(expected) = &case.labels {
                assert_eq!(&labels(case, row, &ours, golden.ignore), &expected[row], "{name}");
            }
            rows += 1;
        }
    }
    assert_eq!(rows, 8 + 8 + 8 + 3 + 3);
}

#[test]
fn think_then_draw_masks_reasoning_and_picture() {
    let text = [126_346, 11, 126_347, 5, 126_348, 126_346, 12, 126_347, 7, 8];
    let laid = layout::r2i(&SPECIALS, &text, &[126_349, 126_350], 14);
    let answer: Vec<usize> = (0..laid.ids.len()).filter(|&i| !laid.prompt[i]).collect();
    assert_eq!(laid.ids.len(), 1 + 14 + 4);
    assert_eq!(laid.ids[..2], [SPECIALS.r2i, SPECIALS.bos]);
    assert_eq!(answer, vec![10, 11, 12, 13, 14, 16, 17]);
}

/// Text tokens of these tests.
const TEXT: [u32; 5] = [21, 22, 23, 24, 25];

#[test]
fn a_drawing_at_every_length_around_its_limit() {
    let s = SPECIALS;
    let image = [126_349, 126_999];
    for (budget, text, left, left_pad) in [
        (4, &TEXT[..0], vec![s.pad, s.pad, s.t2i, s.bos, s.eos], 2),
        (4, &TEXT[..1], vec![s.pad, s.t2i, s.bos, 21, s.eos], 1),
        (4, &TEXT[..2], vec![s.t2i, s.bos, 21, 22, s.eos], 0),
        (4, &TEXT[..3], vec![s.t2i, s.bos, 21, 22, s.eos], 0),
        (4, &[s.bos, 21, 22], vec![s.t2i, s.bos, 21, 22, s.eos], 0),
        (4, &[s.bos], vec![s.pad, s.pad, s.t2i, s.bos, s.eos], 2),
        (2, &TEXT[..5], vec![s.t2i, s.bos, s.eos], 0),
    ] {
        let laid = layout::t2i(&s, text, &image, budget);
        let expected = [left, vec![s.soi, image[0], image[1], s.eoi]].concat();
        assert_eq!(
            (laid.ids, laid.left_pad),
            (expected, left_pad),
            "{budget} {text:?}"
        );
    }
}

#[test]
fn a_text_at_every_length_around_its_limit() {
    let s = SPECIALS;
    for (len, text, expected) in [
        (4, &TEXT[..0], vec![s.bos, s.eos, s.eos, s.eos]),
        (4, &TEXT[..2], vec![s.bos, 21, 22, s.eos]),
        (4, &TEXT[..3], vec![s.bos, 21, 22, 23]),
        (4, &TEXT[..5], vec![s.bos, 21, 22, 23]),
        (4, &[s.bos, 21], vec![s.bos, 21, s.eos, s.eos]),
        (1, &TEXT[..2], vec![s.bos]),
    ] {
        let (plain, chat) = (layout::lm(&s, text, len), layout::lm_chat(&s, text, len));
        assert_eq!((&plain.ids, &chat.ids), (&expected, &expected), "{len} {text:?}");
        // Without a header every token belongs to the answer.
        assert!(!plain.prompt.contains(&true) && !chat.prompt.contains(&true));
    }
}

#[test]
fn a_prompt_reaches_through_the_last_header_that_is_left() {
    let s = SPECIALS;
    let text = [
        s.start_header,
        11,
        s.end_header,
        5,
        s.start_header,
        12,
        s.end_header,
        7,
    ];
    let prompt_len = |layout: Layout| layout.prompt.iter().filter(|&&prompt| prompt).count();
    assert_eq!(prompt_len(layout::lm_chat(&s, &text, 12)), 8);
    // The second header is truncated.
    assert_eq!(prompt_len(layout::lm_chat(&s, &text, 7)), 4);
    assert_eq!(prompt_len(layout::mmu(&s, &[126_349], &text, 12)), 4 + 8);
    assert_eq!(prompt_len(layout::mmu(&s, &[126_349], &text, 7)), 4 + 4);
    assert_eq!(prompt_len(layout::r2i(&s, &text, &[126_349], 12)), 1 + 8 + 2);
}

#[test]
fn a_question_at_every_length_around_its_limit() {
    let s = SPECIALS;
    for (budget, text, right) in [
        (4, &TEXT[..0], vec![s.bos, s.eos, s.eos, s.eos]),
        (4, &TEXT[..2], vec![s.bos, 21, 22, s.eos]),
        (4, &TEXT[..3], vec![s.bos, 21, 22, s.eos]),
        (4, &TEXT[..5], vec![s.bos, 21, 22, s.eos]),
        (4, &[s.bos, 21, 22], vec![s.bos, 21, 22, s.eos]),
    ] {
        let laid = layout::mmu(&s, &[126_349], text, budget);
        let expected = [vec![s.mmu, s.soi, 126_349, s.eoi], right].concat();
        assert_eq!(laid.ids, expected, "{budget} {text:?}");
        let prompt: Vec<bool> = (0..8).map(|at| at < 4).collect();
        assert_eq!(laid.prompt, prompt);
    }
}

proptest::proptest! {
    /// The three streams have the same length, so that they fit in one batch (`mmada.md` 2.3).
    #[test]
    fn every_stream_is_as_long(text in proptest::collection::vec(0u32..126_000, 0..40), budget in 3usize..30, codes in 1usize..9) {
        let image: Vec<u32> = (0..codes as u32).map(|code| 126_349 + code).collect();
        let length = budget + codes + 3;
        let streams = [
            layout::t2i(&SPECIALS, &text, &image, budget),
            layout::lm(&SPECIALS, &text, length),
            layout::lm_chat(&SPECIALS, &text, length),
            layout::mmu(&SPECIALS, &image, &text, budget),
            layout::r2i(&SPECIALS, &text, &image, budget),
        ];
        for stream in streams {
            proptest::prop_assert_eq!(stream.ids.len(), length);
            proptest::prop_assert_eq!(stream.prompt.len(), length);
        }
    }
}
