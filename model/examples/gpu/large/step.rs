//! A training step of all weights of the 8B shape by the only rank of a world that shards them. Every group of weights
//! is cast from the f32 master when it is needed, every block is computed again in the backward pass, and the head's
//! logits exist for a part of the positions at a time. It is the step of one of many ranks without its communication.

use std::rc::Rc;

use anyhow::{Context as _, ensure};
use demask_api::plan::LEAST_ROWS;
use demask_api::{Adam, BackboneConfig, MomentKind, Purpose, Recompute, Sequence, StepSettings, memory};
use demask_model::Backbone;
use demask_model::device::cuda;
use demask_model::training::optimizer::AdamW;
use demask_model::training::ranks::{Reduction, Share};
use demask_model::weights::shards::RankOf;
use demask_model::world::World;
use tch::{Device, Kind};

use super::memory::{AtOnce, layers_that_fit, sharded};
use super::tell_memory;
use crate::clock;
use crate::figure::Teller;
use crate::options::Options;
use crate::programs::Home;
use crate::ranks::join_alone;
use crate::shape::{Shape, rows, settings};
use crate::sizes::training_flops;
use crate::training::{Stepped, product_rate, steps};

/// How often a network is tried whose planned memory was there but did not suffice.
const TRIES: usize = 3;

/// Measures the step, with as many layers as fit.
///
/// # Errors
/// Returns an error if not even one layer fits, and libtorch's errors.
pub fn sharded_step(options: &Options, teller: &Teller) -> anyhow::Result<()> {
    let place = options.place("auto")?;
    let (device, kind) = (place.device, place.kind);
    let shape = Shape::of(options)?;
    let rate = product_rate(device, kind, if options.small { 256 } else { 8192 })?;
    let now = AtOnce {
        gpu: cuda::memory(device).map(|memory| memory.total),
        number: kind.elt_size_in_bytes() as u64,
        threads: 1,
        rows: LEAST_ROWS,
        length: shape.context as u64,
    };
    let free = cuda::memory(device).map(|memory| memory.available());
    let free = free.or_else(memory::free).unwrap_or(u64::MAX);
    let whole = shape.config.n_layers;
    let mut layers = layers_that_fit(&shape.config, free, now).context("not even one layer fits")?;
    let home = Home::fresh("sharded")?;
    let world = Rc::new(join_alone(home.path(), device)?);
    let batch = rows(shape.many, shape.context, Shape::words(&shape.config));
    let mut tries = 1;
    let (config, stepped, taken) = loop {
        let config = BackboneConfig {
            n_layers: layers,
            ..shape.config.clone()
        };
        match measured(&world, &config, &batch, (device, kind)) {
            Ok((stepped, taken)) => break (config, stepped, taken),
            Err(error) if is_out_of_memory(&error) && layers > 1 && tries < TRIES => {
                let words: String = format!("{error:#}").chars().take(100).collect();
                teller.found("layers that did not fit as planned", layers as f64, "", &words);
                cuda::release(device);
                layers = (layers * 7 / 8).max(1);
                tries += 1;
            }
            Err(error) => return Err(error),
        }
    };
    let note = format!("of {whole}; {:.0} GB were free", free as f64 / 1e9);
    teller.found("layers that fit", layers as f64, "", &note);
    tell_speed(teller, options, (&shape, &config), &stepped, rate);
    tell_memory(teller, "sharded step", taken.as_ref(), &sharded(&config, now));
    Ok(())
}

/// Makes the network of random weights and takes its steps.
fn measured(
    world: &Rc<World>,
    config: &BackboneConfig,
    batch: &[Sequence],
    (device, kind): (Device, Kind),
) -> anyhow::Result<(Stepped, Option<clock::Memory>)> {
    cuda::forget_peak(device);
    let own = RankOf { rank: 0, size: 1 };
    let mut backbone = Backbone::random_on(config, 1, (device, kind), (Purpose::Train, Some(own)))?;
    let share = Share::of(world, &backbone, Reduction::Exact)?;
    ensure!(share.is_of_weights(), "the weights are not sharded");
    let mut optimizer = AdamW::new(backbone.parameters())?;
    optimizer.join(share);
    let settings = |seed| StepSettings {
        adam: Adam {
            moments: MomentKind::Bf16,
            ..Adam::default()
        },
        recompute: Recompute::Always,
        ..settings(seed)
    };
    let stepped = steps(&mut backbone, &mut optimizer, batch, &settings)?;
    Ok((stepped, clock::memory(device)))
}

/// Prints the time of a step, its tokens per second and its share of the device's matrix-product rate. Where fewer
/// layers than those of the shape were measured, the figures of the whole shape are scaled by the number of operations.
fn tell_speed(
    teller: &Teller,
    options: &Options,
    (shape, config): (&Shape, &BackboneConfig),
    stepped: &Stepped,
    rate: f64,
) {
    let length = shape.context as f64;
    let tokens = shape.many as f64 * length;
    let counted = |config: &BackboneConfig| training_flops(config, tokens, length, stepped.masked);
    let (flops, seconds) = (counted(config), stepped.seconds);
    let figure = format!(
        "sharded step of {} x {} tokens, {} layers",
        shape.many, shape.context, config.n_layers
    );
    teller.found(&figure, seconds, "s", "AdamW, moments in bf16, blocks recomputed");
    teller.found("its tokens", tokens / seconds, "tokens/s", "");
    let is_whole = config.n_layers == shape.config.n_layers;
    if !is_whole {
        let scaled = seconds * counted(&shape.config) / flops;
        let note = format!("scaled to {} layers, not measured", shape.config.n_layers);
        teller.found("its tokens with all layers", tokens / scaled, "tokens/s", &note);
    }
    teller.found("a large matrix product's", rate / 1e12, "TFLOP/s", "");
    let asked = (options.asked() && is_whole).then_some((45.0, 60.0));
    let share = |flops: f64| 100.0 * flops / seconds / rate;
    teller.at_least("model operations, of that rate", share(flops), "%", asked);
    // The blocks are computed forward twice and backward once, which is four thirds of the counted operations.
    let blocks = training_flops(config, tokens, length, 0.0);
    let note = "with those of the recomputation";
    teller.found(
        "all operations, of that rate",
        share(flops + blocks / 3.0),
        "%",
        note,
    );
}

fn is_out_of_memory(error: &anyhow::Error) -> bool {
    format!("{error:#}").contains("out of memory")
}
