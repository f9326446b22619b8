//! Profiles a step: kernels and operators by time, launches and synchronizations by number. `profile.json`
//! has all of them, the output the most expensive ones.

use std::path::Path;

use anyhow::Context as _;
use demask_api::{LoraConfig, Purpose};
use demask_model::device::kernels::profiler::{self, ProfilerTable};
use demask_model::network::lora::Lora;
use demask_model::sampler::{Batch, Limits, Stepping};
use demask_model::training::optimizer::AdamW;
use demask_model::{ModelError, training};
use serde_json::{Value, json};
use tch::Device;

use crate::figure::Teller;
use crate::forward::{whole_pass, word};
use crate::options::Options;
use crate::sampling::draw;
use crate::shape::{Shape, network, rows, settings};

/// Number of lines that are printed.
const MOST: usize = 12;

/// Profiles a full forward pass, the steps of a cached block in each stepping mode, and a LoRA training step.
///
/// # Errors
/// Returns libtorch's errors, and an error if the build lacks the profiler.
pub fn profile(options: &Options, teller: &Teller) -> anyhow::Result<()> {
    let (shape, backbone) = network(options)?;
    let device = backbone.device();
    let mut all = Vec::new();
    let mut look = |what: &str, work: &mut dyn FnMut() -> anyhow::Result<()>| {
        all.push(seen(device, teller, what, work)?);
        anyhow::Ok(())
    };
    look("whole pass", &mut || {
        whole_pass(&backbone, shape.context, shape.block)
    })?;
    for stepping in [Stepping::HostDriven, Stepping::DeviceLoop, Stepping::Graph] {
        let mut batch = Batch::new(&backbone, Limits::default()).stepping(stepping);
        let what = format!(
            "whole pass and {} cached steps, {}",
            shape.block - 1,
            word(stepping)
        );
        look(&what, &mut || {
            draw(&mut batch, vec![shape.cached_block(shape.block)]).map(|_| ())
        })?;
    }
    let config = backbone.config().clone();
    let place = (device, backbone.kind());
    let adapter = Lora::fresh(
        &LoraConfig::default(),
        &config,
        Path::new("base"),
        place,
        Purpose::Train,
    )?;
    let mut backbone = backbone.adapted(adapter);
    let mut optimizer = AdamW::new(backbone.trained())?;
    let rows = rows(1, shape.context, Shape::words(&config));
    look("LoRA step", &mut || {
        training::train(
            &mut backbone,
            &mut optimizer,
            std::slice::from_ref(&rows),
            &settings(1),
        )?;
        Ok(())
    })?;
    let path = options.out.join("profile.json");
    let text = serde_json::to_string_pretty(&all)?;
    std::fs::write(&path, text).with_context(|| format!("{}", path.display()))
}

/// Runs `work` once as warm-up, then once under the profiler.
fn seen(
    device: Device,
    teller: &Teller,
    what: &str,
    work: &mut dyn FnMut() -> anyhow::Result<()>,
) -> anyhow::Result<Value> {
    work()?;
    let seen = || work().map_err(|error| ModelError::Refused(format!("{error:#}")));
    let ((), profile) = profiler::profile(device, seen)?;
    for (count, of) in [
        (profile.operators(), "operators"),
        (profile.kernels(), "kernels and copies"),
        (profile.launches(), "launches"),
        (profile.waits(), "waits"),
    ] {
        if count > 0 {
            teller.found(&format!("{what}: {of}"), count as f64, "", "");
        }
    }
    println!("{what}\n{}", table(&profile));
    Ok(
        json!({"what": what, "operators": profile.operators(), "kernels": profile.kernels(),
        "launches": profile.launches(), "waits": profile.waits(), "items": items(&profile)}),
    )
}

fn table(profile: &ProfilerTable) -> String {
    let line = |gpu: bool| {
        let own = profile.items.iter().filter(move |item| item.gpu == gpu);
        let all: f64 = own.clone().map(|item| item.micros).sum();
        own.take(MOST).map(move |item| {
            let (share, name) = (100.0 * item.micros / all.max(1e-9), &item.name);
            let name: String = name.chars().take(90).collect();
            let place = if gpu { "gpu" } else { "cpu" };
            format!(
                "  {place} {:>10.1} us {share:>5.1} % {:>6} x {name}",
                item.micros, item.calls
            )
        })
    };
    let lines: Vec<String> = line(true).chain(line(false)).collect();
    lines.join("\n")
}

fn items(profile: &ProfilerTable) -> Vec<Value> {
    let item = |item: &profiler::ProfilerItem| json!({"name": item.name, "gpu": item.gpu, "calls": item.calls, "us": item.micros});
    profile.items.iter().map(item).collect()
}
