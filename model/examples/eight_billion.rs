//! How fast the published 8B shape samples with random weights on this machine's device, and how fast it is loaded.
//!
//! `cargo run --release -p demask-model --example eight_billion -- [--layers N] [--folder DIR]`: of 32 layers only N, where
//! there is less memory (16.2 GB in bf16 for all of them); DIR for 16.2 GB of weights, written and read back twice, left out
//! without it. Prints a JSON line for each figure; times are medians in milliseconds of the wall. Steps of a cached block three
//! ways: the host asked at each, the device by itself, and that as CUDA graphs (on a CPU the same as by itself).

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context as _;
use demask_api::{
    BackboneConfig, Commit, End, ImageSampler, Purpose, SampleRequest, Sampler, Span, TextCache, TextSampler,
    published,
};
use demask_model::device::Place;
use demask_model::sampler::{Batch, Limits, Stepping};
use demask_model::{AttentionMask, Backbone, weights};
use serde_json::json;
use tch::{Cuda, Device, Kind, Tensor};

const CONTEXT: usize = 1024;
const BLOCK: usize = 32;
/// A picture of 512 x 512 pixels.
const CODES: usize = 1024;
const STEPS: usize = 15;
const PROMPT: usize = 128;

fn main() -> anyhow::Result<()> {
    let (layers, folder) = arguments()?;
    let place = Place::choose("auto", "auto", None)?;
    let mut config = published::read(r#"{"model_type": "mmada"}"#)?;
    config.n_layers = layers.unwrap_or(config.n_layers);
    config.max_sequence_length = 2048;
    let backbone = Backbone::random(&config, 1, place.device, place.kind)?;
    say(
        "network",
        json!({"parameters": backbone.parameters().count(), "layers": config.n_layers, "device": place.info().name,
            "dtype": format!("{:?}", place.kind)}),
    );
    for length in [CONTEXT, 2 * CONTEXT] {
        let ms = median(5, || whole_pass(&backbone, length))?;
        say(
            "whole pass, logits of a block",
            json!({"tokens": length, "ms": ms}),
        );
    }
    for stepping in [Stepping::Asks, Stepping::Resident, Stepping::Graph] {
        // Kept, so that what is recorded is recorded once.
        let mut batch = Batch::new(&backbone, Limits::default()).stepping(stepping);
        let mut steps = |steps: usize| median(3, || draw(&mut batch, &text(&config, steps)));
        let (one, all) = (steps(1)?, steps(BLOCK)?);
        say(
            "step of a cached block",
            json!({"context": CONTEXT, "block": BLOCK, "stepping": format!("{stepping:?}"),
                "ms": (all - one) / (BLOCK - 1) as f64}),
        );
    }
    let mut batch = Batch::new(&backbone, Limits::default());
    let ms = median(3, || draw(&mut batch, &picture(&config)))?;
    drop(batch);
    say(
        "picture without decoding",
        json!({"codes": CODES, "steps": STEPS, "guided": true, "ms": ms}),
    );
    if let Some(folder) = folder {
        load(backbone, &folder, &place)?;
    }
    Ok(())
}

fn say(what: &str, figures: serde_json::Value) {
    println!("{}", json!({"what": what, "figures": figures}));
}

fn arguments() -> anyhow::Result<(Option<usize>, Option<PathBuf>)> {
    let (mut layers, mut folder) = (None, None);
    let mut arguments = std::env::args().skip(1);
    while let Some(flag) = arguments.next() {
        let value = arguments
            .next()
            .with_context(|| format!("{flag} needs a value"))?;
        match flag.as_str() {
            "--layers" => layers = Some(value.parse().context("--layers: expected a number")?),
            "--folder" => folder = Some(value.into()),
            other => anyhow::bail!("unknown argument {other}: expected --layers N or --folder DIR"),
        }
    }
    Ok((layers, folder))
}

/// Milliseconds of the middle run, after one that is not counted.
fn median(runs: usize, mut work: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<f64> {
    work()?;
    let mut times = Vec::with_capacity(runs);
    for _ in 0..runs {
        let began = Instant::now();
        work()?;
        times.push(began.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    Ok(times[runs / 2])
}

fn whole_pass(backbone: &Backbone, length: usize) -> anyhow::Result<()> {
    tch::no_grad(|| {
        let ids = Tensor::f_arange(length as i64, (Kind::Int64, backbone.device()))?.f_unsqueeze(0)?;
        let hidden = backbone.hidden(&ids, &AttentionMask::None)?.f_squeeze_dim(0)?;
        let logits = backbone.head(&hidden.f_narrow(0, 0, BLOCK as i64)?, None)?;
        // Waits for the device.
        let _ = logits.f_argmax(-1, false)?.f_to_device(Device::Cpu)?;
        Ok(())
    })
}

fn draw(batch: &mut Batch<'_>, request: &SampleRequest) -> anyhow::Result<()> {
    batch.submit(vec![request.clone()])?;
    while !batch.is_empty() {
        batch.step(&mut |_, _, _| Ok(()))?;
    }
    Ok(())
}

fn request(prompt: usize, target: usize, mask: u32, sampler: Sampler) -> SampleRequest {
    let ids = (0..prompt as u32).chain(std::iter::repeat_n(mask, target));
    SampleRequest {
        id: 1,
        ids: ids.collect(),
        left_pad: 0,
        target: Span {
            start: prompt,
            end: prompt + target,
        },
        sampler,
        grid: None,
        unconditional: None,
        unconditional_left_pad: 0,
        seed: 1,
        watch: false,
    }
}

/// One block at the end of the context: a whole pass, then passes of the block alone.
fn text(config: &BackboneConfig, steps: usize) -> SampleRequest {
    let sampler = TextSampler {
        steps,
        block: BLOCK,
        commit: Commit::Schedule,
        cache: TextCache::Prefix,
        end: End::Never,
        ..TextSampler::default()
    };
    request(
        CONTEXT - BLOCK,
        BLOCK,
        config.mask_token_id,
        Sampler::Text(sampler),
    )
}

fn picture(config: &BackboneConfig) -> SampleRequest {
    let sampler = ImageSampler {
        steps: STEPS,
        guidance: 2.0,
        ..ImageSampler::default()
    };
    request(PROMPT, CODES, config.mask_token_id, Sampler::Image(sampler))
}

/// Writes the weights, lets go of them, and reads them from the page cache.
fn load(backbone: Backbone, folder: &Path, place: &Place) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder)?;
    let config = serde_json::to_string_pretty(backbone.config())?;
    std::fs::write(folder.join("config.json"), config)?;
    let file = folder.join("model.safetensors");
    weights::write(&file, &backbone.parameters().named()?, None)?;
    drop(backbone);
    let bytes = std::fs::metadata(&file)?.len() as f64;
    let ms = median(2, || {
        let loaded = Backbone::load_for(folder, place.device, place.kind, Purpose::Sample)?;
        if let Device::Cuda(index) = loaded.device() {
            Cuda::synchronize(index as i64);
        }
        Ok(())
    })?;
    say(
        "loading from the page cache",
        json!({"bytes": bytes, "ms": ms, "gb_per_s": bytes / ms / 1e6}),
    );
    Ok(())
}
