//! Writes a folder in the published layout with random weights.
//!
//! `random_folder DIR [SHAPE] [--seed N] [--gain G]`
//!
//! The folder stands in for a trained model in measurements of speed: `sample_rate folder DIR` and
//! `tests/benches/sample_rate.py DIR` read it. The output head's weights are multiplied by G (8 by default),
//! so that the network is confident of some tokens, as a trained model is, and a threshold commits several
//! tokens per forward pass.

mod shape;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use demask_model::Backbone;
use demask_model::weights::safetensors;
use shape::{Shape, USAGE};
use tch::{Device, Kind};

const HEAD: &str = "model.transformer.ff_out.weight";

fn main() -> anyhow::Result<()> {
    let (folder, shape, seed, gain) = parse()?;
    let mut backbone = Backbone::random(&shape.config()?, seed, Device::Cpu, Kind::Float)?;
    let _ = backbone.parameters_mut().value(HEAD)?.f_mul_scalar_(gain)?;
    write(&folder, &backbone)
}

fn parse() -> anyhow::Result<(PathBuf, Shape, i64, f64)> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments
        .next()
        .with_context(|| format!("expected DIR {USAGE} [--seed N] [--gain G]"))?;
    let (mut shape, mut seed, mut gain) = (Shape::default(), 1, 8.0);
    while let Some(flag) = arguments.next() {
        let value = arguments
            .next()
            .with_context(|| format!("{flag} needs a value"))?;
        let wrong = || format!("{flag} {value}: expected a number");
        match flag.as_str() {
            "--seed" => seed = value.parse().with_context(wrong)?,
            "--gain" => gain = value.parse().with_context(wrong)?,
            _ => ensure!(
                shape.take(&flag, &value)?,
                "unknown flag {flag}: expected {USAGE} [--seed N] [--gain G]"
            ),
        }
    }
    Ok((folder.into(), shape, seed, gain))
}

fn write(folder: &Path, backbone: &Backbone) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let config = serde_json::to_string_pretty(backbone.config())?;
    let path = folder.join("config.json");
    std::fs::write(&path, config).with_context(|| path.display().to_string())?;
    safetensors::write(
        &folder.join("model.safetensors"),
        &backbone.parameters().named()?,
        None,
    )?;
    Ok(())
}
