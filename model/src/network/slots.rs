//! The published names and shapes of the backbone's parameters (`mmada.md` 1.2), and their initial values
//! (1.4).

use demask_api::BackboneConfig;
use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind, Tensor};

use crate::error::Result;
use crate::weights::init::{normal, truncated_normal};
use crate::weights::slot::Slot;

/// The prefix of the published names.
pub(crate) const PREFIX: &str = "model.transformer";

/// The parameter names of one block, built once.
#[derive(Debug)]
pub(crate) struct BlockNames {
    pub attn_norm: String,
    /// The stacked projection of q, k and v, by the name of its first part.
    pub q: String,
    pub attn_out: String,
    pub ff_norm: String,
    /// The stacked projection of the gate and of what it multiplies, by the name of its first part.
    pub gate: String,
    pub down: String,
    pub q_norm: String,
    pub k_norm: String,
}

impl BlockNames {
    pub fn new(block: usize) -> Self {
        let name = |what: &str| format!("{PREFIX}.blocks.{block}.{what}");
        Self {
            attn_norm: name("attn_norm"),
            q: name("q_proj"),
            attn_out: name("attn_out"),
            ff_norm: name("ff_norm"),
            gate: name("ff_proj"),
            down: name("ff_out"),
            q_norm: name("q_norm"),
            k_norm: name("k_norm"),
        }
    }
}

/// Adds layers that share an input. Their weights, and then their biases, are stacked in memory, so that one
/// product computes all of them.
fn stacked(slots: &mut Vec<Slot>, layers: &[(String, i64)], ins: i64, bias: bool) {
    let mut push = |at: usize, slot: Slot| slots.push(if at == 0 { slot } else { slot.stack() });
    for (at, (name, outs)) in layers.iter().enumerate() {
        push(at, Slot::new(format!("{name}.weight"), &[*outs, ins]));
    }
    for (at, (name, outs)) in layers.iter().enumerate().filter(|_| bias) {
        push(at, Slot::new(format!("{name}.bias"), &[*outs]));
    }
}

/// Returns the published name and shape of every parameter, in order.
#[must_use]
pub fn slots(config: &BackboneConfig) -> Vec<Slot> {
    let (width, hidden, rows) = (
        config.d_model as i64,
        config.hidden() as i64,
        config.rows() as i64,
    );
    let kv_width = (config.kv_heads() * config.head_dim()) as i64;
    let all = config.include_bias;
    let qkv = all || config.include_qkv_bias.unwrap_or(false);
    let norm_bias = config.bias_for_layer_norm.unwrap_or(all);
    let mut slots = vec![Slot::new(format!("{PREFIX}.wte.weight"), &[rows, width])];
    let linear = |slots: &mut Vec<Slot>, name: &str, outs: i64, ins: i64, bias: bool| {
        slots.push(Slot::new(format!("{name}.weight"), &[outs, ins]));
        if bias {
            slots.push(Slot::new(format!("{name}.bias"), &[outs]));
        }
    };
    let norm = |slots: &mut Vec<Slot>, name: &str, width: i64| {
        slots.push(Slot::new(format!("{name}.weight"), &[width]));
        if norm_bias {
            slots.push(Slot::new(format!("{name}.bias"), &[width]));
        }
    };
    for block in 0..config.n_layers {
        let names = BlockNames::new(block);
        norm(&mut slots, &names.attn_norm, width);
        if config.attention_layer_norm {
            norm(&mut slots, &names.q_norm, width);
            norm(&mut slots, &names.k_norm, kv_width);
        }
        let layer = |what: &str| format!("{PREFIX}.blocks.{block}.{what}");
        // Layers with the same input are stacked, so that one matrix product computes them.
        let qkv_outs = [("q_proj", width), ("k_proj", kv_width), ("v_proj", kv_width)];
        stacked(
            &mut slots,
            &qkv_outs.map(|(what, outs)| (layer(what), outs)),
            width,
            qkv,
        );
        linear(&mut slots, &names.attn_out, width, width, all);
        norm(&mut slots, &names.ff_norm, width);
        let gate_outs = [("ff_proj", hidden), ("up_proj", hidden)];
        stacked(
            &mut slots,
            &gate_outs.map(|(what, outs)| (layer(what), outs)),
            width,
            all,
        );
        linear(&mut slots, &names.down, width, hidden, all);
    }
    norm(&mut slots, &format!("{PREFIX}.ln_f"), width);
    if !config.weight_tying {
        linear(&mut slots, &format!("{PREFIX}.ff_out"), rows, width, all);
    }
    slots
}

/// Returns whether this is the weight of a linear layer of a block, which an adapter can adapt.
pub(crate) fn is_block_layer(slot: &Slot) -> bool {
    slot.shape.len() == 2 && slot.name.contains(".blocks.") && slot.name.ends_with(".weight")
}

/// Returns the number of parameters of each group that is used together: the embedding, each block, and the
/// final norm with the head.
#[must_use]
pub(crate) fn groups(slots: &[Slot]) -> Vec<i64> {
    let block = |name: &str| -> Option<String> {
        let rest = name.strip_prefix(PREFIX)?.strip_prefix(".blocks.")?;
        rest.split('.').next().map(str::to_owned)
    };
    let mut lengths: Vec<i64> = Vec::new();
    let mut last = None;
    for slot in slots {
        let own = Some(block(&slot.name));
        match lengths.last_mut().filter(|_| own == last) {
            Some(length) => *length += slot.len(),
            None => lengths.push(slot.len()),
        }
        last = own;
    }
    lengths
}

/// Draws the initial values of a parameter (LLaDA's `mitchell` initialisation).
pub(crate) fn initial(config: &BackboneConfig, slot: &Slot, rng: &mut ChaCha8Rng) -> Result<Tensor> {
    let name = slot.name.as_str();
    if name.ends_with(".bias") {
        return Ok(Tensor::f_zeros(&slot.shape[..], (Kind::Float, Device::Cpu))?);
    }
    if slot.shape.len() == 1 {
        return Ok(Tensor::f_ones(&slot.shape[..], (Kind::Float, Device::Cpu))?);
    }
    if name.ends_with("wte.weight") {
        return normal(&slot.shape, 1.0 / (config.d_model as f64).sqrt(), rng);
    }
    let mut deviation = 1.0 / (slot.shape[1] as f64).sqrt();
    let block = name
        .strip_prefix(PREFIX)
        .and_then(|rest| rest.strip_prefix(".blocks."));
    if let Some(block) =
        block.filter(|rest| rest.ends_with("attn_out.weight") || rest.ends_with("ff_out.weight"))
    {
        let number: f64 = block
            .split('.')
            .next()
            .and_then(|number| number.parse().ok())
            .unwrap_or(0.0);
        deviation /= (2.0 * (number + 1.0)).sqrt();
    }
    truncated_normal(&slot.shape, deviation, rng)
}
