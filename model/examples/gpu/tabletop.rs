//! The shipped model on the device and on the CPU: training steps, and texts sampled one at a time and
//! sixteen at a time.

use std::path::Path;
use std::time::Instant;

use anyhow::Context as _;
use demask_api::{End, Purpose, SampleRequest, Sampler, Span, TextSampler};
use demask_model::engine::device_choice::Place;
use demask_model::sampler::{Batch, Limits, Stepping, WorkerPool};
use demask_model::training::optimizer::AdamW;
use demask_model::{Backbone, training};

use crate::clock::{median, wait};
use crate::figure::Teller;
use crate::forward::word;
use crate::options::Options;
use crate::sampling::draw;
use crate::shape::{Shape, rows, settings};

/// The prompt "There are 4 cats. 8 join. How many cats?" with a chain of thought, tokenized for the shipped
/// model.
const PROMPT: [u32; 25] = [
    0, 9, 280, 10, 210, 407, 408, 232, 31, 436, 292, 35, 459, 292, 360, 296, 436, 302, 26, 276, 11, 9, 283,
    10, 210,
];
/// Tokens of an answer, all of which are sampled.
const ANSWER: usize = 32;

/// Measures rates on the device and on the CPU, and the steps of a block on the device in each stepping mode.
///
/// # Errors
/// Returns an error if there is no shipped model, and libtorch's errors.
pub fn tabletop(options: &Options, teller: &Teller) -> anyhow::Result<()> {
    let here = options.place("auto")?;
    rates(options, teller, &here)?;
    ways(options, teller, &here)?;
    if here.device.is_cuda() {
        rates(options, teller, &Place::choose("cpu", "auto", None)?)?;
    }
    Ok(())
}

fn rates(options: &Options, teller: &Teller, place: &Place) -> anyhow::Result<()> {
    let name = place.info().name;
    let load = |purpose| Backbone::load_for(&options.shipped, place.device, place.kind, purpose);
    let mut learner = load(Purpose::Train)?;
    let mut optimizer = AdamW::new(learner.parameters())?;
    let (count, length, times) = if options.small { (4, 64, 1) } else { (32, 96, 5) };
    let batch = rows(count, length, Shape::words(learner.config()));
    let ms = median(place.device, times, || {
        training::train(
            &mut learner,
            &mut optimizer,
            std::slice::from_ref(&batch),
            &settings(1),
        )?;
        Ok(())
    })?;
    let figure = format!("{name}: training, {count} x {length} tokens");
    teller.found(&figure, (count * length) as f64 / ms * 1e3, "tokens/s", "");
    let backbone = load(Purpose::Sample)?;
    let sampler = sampler(&options.shipped)?;
    for together in [1, 16] {
        let count = if options.small { together } else { 64 };
        let mut workers = WorkerPool::new(&backbone, Limits::default());
        let mut run = |count: usize| -> anyhow::Result<f64> {
            wait(place.device);
            let began = Instant::now();
            for first in (0..count).step_by(together) {
                let requests = (first..first + together).map(|row| request(&backbone, &sampler, row));
                workers.submit(requests.collect())?;
                while !workers.is_empty() {
                    workers.step(&mut |_, _, _| Ok(()))?;
                }
            }
            Ok(count as f64 / began.elapsed().as_secs_f64())
        };
        run(together)?;
        let figure = format!("{name}: texts of {ANSWER} tokens, {together} at one time");
        teller.found(&figure, run(count)?, "texts/s", "");
    }
    Ok(())
}

/// Measures a single text in each stepping mode.
fn ways(options: &Options, teller: &Teller, place: &Place) -> anyhow::Result<()> {
    let backbone = Backbone::load_for(&options.shipped, place.device, place.kind, Purpose::Sample)?;
    let sampler = sampler(&options.shipped)?;
    for stepping in [Stepping::HostDriven, Stepping::DeviceLoop, Stepping::Graph] {
        let mut batch = Batch::new(&backbone, Limits::default()).stepping(stepping);
        let ms = median(place.device, 5, || {
            draw(&mut batch, vec![request(&backbone, &sampler, 0)]).map(|_| ())
        })?;
        let figure = format!("{}: a text, {}", place.info().name, word(stepping));
        teller.found(&figure, ms, "ms", "");
    }
    Ok(())
}

/// Returns the shipped model's sampler without early stopping.
fn sampler(shipped: &Path) -> anyhow::Result<TextSampler> {
    let path = shipped.join("sampling.json");
    let text = std::fs::read_to_string(&path).with_context(|| format!("{}", path.display()))?;
    let draws: serde_json::Value = serde_json::from_str(&text)?;
    let sampler: TextSampler = serde_json::from_value(draws["text"].clone())?;
    Ok(TextSampler {
        steps: ANSWER,
        end: End::Never,
        ..sampler
    })
}

fn request(backbone: &Backbone, sampler: &TextSampler, row: usize) -> SampleRequest {
    let masks = std::iter::repeat_n(backbone.config().mask_token_id, ANSWER);
    SampleRequest {
        id: row as u64,
        ids: PROMPT.into_iter().chain(masks).collect(),
        left_pad: 0,
        target: Span {
            start: PROMPT.len(),
            end: PROMPT.len() + ANSWER,
        },
        sampler: Sampler::Text(sampler.clone()),
        grid: None,
        unconditional: None,
        unconditional_left_pad: 0,
        seed: row as u64,
        watch: false,
    }
}
