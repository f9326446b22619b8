//! The sampling rate of samplers on rows of one length with a checkpoint folder, for comparison with rivals that read
//! the same folder. It prints one line of JSON per sampler: the rate, the forward passes of a row, the peak memory of
//! the engine, and an FNV-1a hash of the answers' tokens, row by row. `tests/benches/sample_rate.py` prints the same
//! hash.

use std::time::Instant;

use anyhow::{Context as _, ensure};
use demask_actors::engine::options::EngineOptions;
use demask_actors::engine::process::{EngineProcess, unexpected};
use demask_api::{
    Answer, BackboneConfig, LoadOptions, ModelSource, Request, Sample, SampleRequest, Sampler, Span,
    published,
};
use serde_json::json;

use crate::options::Options;

/// Fills the rows with each sampler in turn.
///
/// # Errors
/// An error if the folder is not a checkpoint; any failure of the engine.
pub async fn run(options: &Options) -> anyhow::Result<()> {
    let path = options.folder.join("config.json");
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let config = published::read(&text)?;
    let engine = EngineProcess::start(&EngineOptions {
        dtype: options.dtype.clone(),
        threads: Some(options.threads),
        // A row with guidance counts twice.
        rows: Some(2 * options.batch),
        ..EngineOptions::default()
    })
    .await?;
    let model = ModelSource::Checkpoint {
        dir: std::path::absolute(&options.folder)?,
        resume: false,
        average: false,
        image_tokenizer: None,
        options: LoadOptions::sampling(),
    };
    engine.ask(&Request::Load { model }).await?;
    for sampler in &options.samplers {
        println!("{}", line(&engine, options, &config, sampler).await?);
    }
    engine.stop().await;
    Ok(())
}

async fn line(
    engine: &EngineProcess,
    options: &Options,
    config: &BackboneConfig,
    sampler: &Sampler,
) -> anyhow::Result<serde_json::Value> {
    let rows = rows(options, config, sampler)?;
    let made = fill(engine, rows.clone()).await?;
    let began = Instant::now();
    for _ in 0..options.rounds {
        fill(engine, rows.clone()).await?;
    }
    let seconds = began.elapsed().as_secs_f64();
    let answers: Vec<&[u32]> = made.iter().map(|sample| &sample.ids[options.prompt..]).collect();
    let rate = (options.rounds * options.batch) as f64 / seconds;
    let mut line = json!({
        "what": "demask",
        "dtype": engine.info().device.compute.split(':').next(),
        "batch": options.batch,
        "samples_per_s": (rate * 1e3).round() / 1e3,
        "passes": made.iter().map(|sample| sample.forwards).max(),
        "peak_mb": peak_megabytes(engine.pid()),
        "tokens": format!("{:016x}", hash(answers.iter().copied().flatten())),
        "sampler": sampler,
    });
    if options.show {
        line["shown"] = json!(answers);
    }
    Ok(line)
}

async fn fill(engine: &EngineProcess, requests: Vec<SampleRequest>) -> anyhow::Result<Vec<Sample>> {
    match engine.ask(&Request::Sample { requests }).await? {
        Answer::Samples { samples, .. } => Ok(samples),
        other => Err(unexpected("samples", &other).into()),
    }
}

/// Makes prompts from tokens that are spread over the text vocabulary, except a few at either end, where the special
/// tokens are.
fn rows(options: &Options, config: &BackboneConfig, sampler: &Sampler) -> anyhow::Result<Vec<SampleRequest>> {
    let end = if config.codebook_size > 0 {
        config.image_offset() as usize
    } else {
        config.rows()
    };
    ensure!(end > 64, "{end} tokens of text: expected more than 64");
    let mut sampler = sampler.clone();
    let guided = match &mut sampler {
        Sampler::Text(text) => {
            if text.steps == 0 {
                text.steps = options.length;
            }
            false
        }
        Sampler::Image(image) => image.guidance > 0.0,
    };
    let token = |row: usize, at: usize| 16 + (row * 7919 + at * 104_729) % (end - 32);
    let row = |row: usize| -> anyhow::Result<SampleRequest> {
        let mut ids = (0..options.prompt)
            .map(|at| u32::try_from(token(row, at)))
            .collect::<Result<Vec<_>, _>>()?;
        ids.resize(options.prompt + options.length, config.mask_token_id);
        // The unconditional prompt repeats one token.
        let unconditional = guided.then(|| {
            let mut ids = ids.clone();
            ids[..options.prompt].fill(16);
            ids
        });
        Ok(SampleRequest {
            id: row as u64,
            target: Span {
                start: options.prompt,
                end: ids.len(),
            },
            ids,
            left_pad: 0,
            sampler: sampler.clone(),
            grid: None,
            unconditional,
            unconditional_left_pad: 0,
            seed: row as u64,
            watch: false,
        })
    };
    (0..options.batch).map(row).collect()
}

/// Returns the FNV-1a hash of tokens, each as four bytes in little-endian order.
fn hash<'t>(tokens: impl Iterator<Item = &'t u32>) -> u64 {
    tokens
        .flat_map(|token| token.to_le_bytes())
        .fold(0xcbf2_9ce4_8422_2325, |state, byte| {
            (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
}

/// Returns the peak memory of a process in megabytes.
fn peak_megabytes(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = peak.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some((kilobytes + 512) / 1024)
}
