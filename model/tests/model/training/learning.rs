//! Does training learn? A copying task that requires reading the prompt, compared with the loss that is
//! possible without reading it, for three seeds.
#![allow(clippy::unwrap_used, missing_docs)]

use demask_api::{Adam, BackboneConfig, Sequence, Span, StepSettings, Task};
use demask_model::training::optimizer::AdamW;
use demask_model::{Backbone, training};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind};

/// The number of symbols that may have to be copied.
const SYMBOLS: u32 = 40;
const MASK: u32 = 63;
const END: u32 = 62;

fn config() -> BackboneConfig {
    BackboneConfig {
        d_model: 64,
        n_heads: 4,
        n_layers: 2,
        mlp_hidden_size: Some(128),
        max_sequence_length: 64,
        rope_theta: 10_000.0,
        vocab_size: 64,
        mask_token_id: MASK,
        eos_token_id: END,
        pad_token_id: END,
        codebook_size: 0,
        input_emb_norm: true,
        attention_layer_norm: true,
        ..BackboneConfig::default()
    }
}

/// Returns a row: padding, six symbols, a separator, and the same six symbols as the answer.
fn row(rng: &mut ChaCha8Rng) -> Sequence {
    let left_pad = rng.random_range(0..8);
    let symbols: Vec<u32> = (0..6).map(|_| rng.random_range(0..SYMBOLS)).collect();
    let mut ids = vec![END; left_pad];
    ids.extend(&symbols);
    ids.push(50);
    let start = ids.len();
    ids.extend(&symbols);
    let answer = vec![Span {
        start,
        end: ids.len(),
    }];
    Sequence {
        id: String::new(),
        task: Task::Text,
        ids,
        left_pad,
        answer,
    }
}

/// After 220 steps the loss is below a tenth of ln 40, the loss of a model that cannot read the prompt.
#[test]
fn what_the_prompt_says_is_learnt() {
    for seed in 1..=3 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut backbone = Backbone::fresh(&config(), seed, Device::Cpu, Kind::Float).unwrap();
        let mut optimizer = AdamW::new(backbone.parameters()).unwrap();
        let mut last = 0.0;
        for step in 0..220 {
            let rows: Vec<Sequence> = (0..32).map(|_| row(&mut rng)).collect();
            let settings = StepSettings {
                learning_rate: 3e-3 * ((step + 1) as f64 / 20.0).min(1.0),
                clip_norm: 1.0,
                adam: Adam::default(),
                task_weights: [1.0; 4],
                loss_normalization: demask_api::LossNormalization::Sequence,
                recompute: demask_api::Recompute::Auto,
                block_noise: demask_api::BlockNoise::default(),
                seed: seed * 1000 + step,
                ema: 0.0,
            };
            let report = training::train(&mut backbone, &mut optimizer, &[rows], &settings).unwrap();
            last = if step == 0 {
                report.loss
            } else {
                0.9 * last + 0.1 * report.loss
            };
        }
        let blind = f64::from(SYMBOLS).ln();
        assert!(
            last < 0.1 * blind,
            "seed {seed}: {last} after training, {blind} without the prompt"
        );
    }
}
