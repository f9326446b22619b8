//! The prompt layouts equal the published code's, case by case.
#![allow(clippy::unwrap_used, missing_docs)]

use demask_datasets::layout::{self, Layout};
use demask_datasets::text_tokenizer::SpecialTokens;
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

/// What the published code returns as labels, from ours.
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

#[test]
fn every_published_case() {
    let golden: Golden = serde_json::from_str(include_str!("fixtures/layouts.json")).unwrap();
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
