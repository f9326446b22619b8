//! The encoder and the decoder of MAGVIT-v2, with the published parameter names (`mmada.md` 7.1 to 7.3).

use demask_api::{ImageTokenizerConfig, StackConfig};
use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind, Tensor};

use crate::error::Result;
use crate::weights::init::uniform;
use crate::weights::parameters::Parameters;
use crate::weights::slot::Slot;

/// The epsilon of the group norms.
const EPS: f64 = 1e-6;

/// Returns the name and shape of every parameter, in order.
pub(super) fn slots(config: &ImageTokenizerConfig) -> Vec<Slot> {
    let mut slots = Vec::new();
    encoder_slots(&config.encoder, &mut slots);
    decoder_slots(&config.decoder, &mut slots);
    slots
}

fn channels(config: &StackConfig, level: usize) -> i64 {
    (config.ch * config.ch_mult[level]) as i64
}

fn encoder_slots(config: &StackConfig, slots: &mut Vec<Slot>) {
    let top = config.ch_mult.len() - 1;
    let mut width = config.ch as i64;
    conv(slots, "encoder.conv_in", config.in_ch as i64, width, 3);
    for level in 0..=top {
        for block in 0..config.num_res_blocks[level] {
            residual(
                slots,
                &format!("encoder.down.{level}.block.{block}"),
                width,
                channels(config, level),
            );
            width = channels(config, level);
        }
        if level < top {
            conv(
                slots,
                &format!("encoder.down.{level}.downsample.conv"),
                width,
                width,
                3,
            );
        }
    }
    middle(slots, "encoder.mid", width);
    norm(slots, "encoder.norm_out", width);
    let bits = config.z_channels as i64;
    conv(slots, "encoder.conv_out", width, bits, 3);
    conv(slots, "encoder.quant_conv", bits, bits, 1);
}

fn decoder_slots(config: &StackConfig, slots: &mut Vec<Slot>) {
    let top = config.ch_mult.len() - 1;
    let bits = config.z_channels as i64;
    let mut width = channels(config, top);
    conv(slots, "decoder.post_quant_conv", bits, bits, 1);
    conv(slots, "decoder.conv_in", bits, width, 3);
    middle(slots, "decoder.mid", width);
    for level in (0..=top).rev() {
        for block in 0..config.num_res_blocks[level] {
            residual(
                slots,
                &format!("decoder.up.{level}.block.{block}"),
                width,
                channels(config, level),
            );
            width = channels(config, level);
        }
        if level > 0 {
            conv(
                slots,
                &format!("decoder.up.{level}.upsample.conv"),
                width,
                width,
                3,
            );
        }
    }
    norm(slots, "decoder.norm_out", width);
    conv(slots, "decoder.conv_out", width, config.out_ch as i64, 3);
}

fn conv(slots: &mut Vec<Slot>, name: &str, ins: i64, outs: i64, kernel: i64) {
    slots.push(Slot::new(format!("{name}.weight"), &[outs, ins, kernel, kernel]));
    slots.push(Slot::new(format!("{name}.bias"), &[outs]));
}

fn norm(slots: &mut Vec<Slot>, name: &str, width: i64) {
    slots.push(Slot::new(format!("{name}.weight"), &[width]));
    slots.push(Slot::new(format!("{name}.bias"), &[width]));
}

fn residual(slots: &mut Vec<Slot>, name: &str, ins: i64, outs: i64) {
    norm(slots, &format!("{name}.norm1"), ins);
    conv(slots, &format!("{name}.conv1"), ins, outs, 3);
    norm(slots, &format!("{name}.norm2"), outs);
    conv(slots, &format!("{name}.conv2"), outs, outs, 3);
    if ins != outs {
        conv(slots, &format!("{name}.nin_shortcut"), ins, outs, 1);
    }
}

fn middle(slots: &mut Vec<Slot>, name: &str, width: i64) {
    residual(slots, &format!("{name}.block_1"), width, width);
    norm(slots, &format!("{name}.attn_1.norm"), width);
    for part in ["q", "k", "v", "proj_out"] {
        conv(slots, &format!("{name}.attn_1.{part}"), width, width, 1);
    }
    residual(slots, &format!("{name}.block_2"), width, width);
}

/// Returns the initial value of a parameter. Convolutions are uniform in ±1/sqrt(fan in), biases are 0 and norms are
/// the identity.
pub(super) fn initial(slot: &Slot, rng: &mut ChaCha8Rng) -> Result<Tensor> {
    if slot.shape.len() == 4 {
        let fan_in: i64 = slot.shape[1..].iter().product();
        return uniform(&slot.shape, 1.0 / (fan_in as f64).sqrt(), rng);
    }
    let options = (Kind::Float, Device::Cpu);
    let is_gain = slot.name.contains("norm") && slot.name.ends_with(".weight");
    Ok(if is_gain {
        Tensor::f_ones(&slot.shape[..], options)?
    } else {
        Tensor::f_zeros(&slot.shape[..], options)?
    })
}

/// Encodes pixels to latents before the sign.
pub(super) fn encode(
    config: &ImageTokenizerConfig,
    parameters: &Parameters,
    pixels: &Tensor,
) -> Result<Tensor> {
    let net = Net {
        parameters,
        groups: config.norm_groups as i64,
    };
    let stack = &config.encoder;
    let top = stack.ch_mult.len() - 1;
    let mut h = net.conv(pixels, "encoder.conv_in", 1, 1)?;
    for level in 0..=top {
        for block in 0..stack.num_res_blocks[level] {
            h = net.residual(&h, &format!("encoder.down.{level}.block.{block}"))?;
        }
        if level < top {
            let padded = h.f_constant_pad_nd([0, 1, 0, 1])?;
            h = net.conv(&padded, &format!("encoder.down.{level}.downsample.conv"), 2, 0)?;
        }
    }
    h = net.middle(&h, "encoder.mid")?;
    h = net.norm(&h, "encoder.norm_out")?.f_silu()?;
    h = net.conv(&h, "encoder.conv_out", 1, 1)?;
    net.conv(&h, "encoder.quant_conv", 1, 0)
}

/// Decodes signs to pixels.
pub(super) fn decode(
    config: &ImageTokenizerConfig,
    parameters: &Parameters,
    signs: &Tensor,
) -> Result<Tensor> {
    let net = Net {
        parameters,
        groups: config.norm_groups as i64,
    };
    let stack = &config.decoder;
    let mut h = net.conv(signs, "decoder.post_quant_conv", 1, 0)?;
    h = net.conv(&h, "decoder.conv_in", 1, 1)?;
    h = net.middle(&h, "decoder.mid")?;
    for level in (0..stack.ch_mult.len()).rev() {
        for block in 0..stack.num_res_blocks[level] {
            h = net.residual(&h, &format!("decoder.up.{level}.block.{block}"))?;
        }
        if level > 0 {
            let (_, _, height, width) = h.size4()?;
            h = h.f_upsample_nearest2d([2 * height, 2 * width], None, None)?;
            h = net.conv(&h, &format!("decoder.up.{level}.upsample.conv"), 1, 1)?;
        }
    }
    h = net.norm(&h, "decoder.norm_out")?.f_silu()?;
    net.conv(&h, "decoder.conv_out", 1, 1)
}

/// The layers of both stacks.
struct Net<'a> {
    parameters: &'a Parameters,
    groups: i64,
}

impl Net<'_> {
    fn conv(&self, x: &Tensor, name: &str, stride: i64, padding: i64) -> Result<Tensor> {
        let weight = self.parameters.leaf(&format!("{name}.weight"))?;
        let bias = self.parameters.leaf(&format!("{name}.bias"))?;
        Ok(x.f_conv2d(
            weight,
            Some(bias),
            [stride, stride],
            [padding, padding],
            [1, 1],
            1,
        )?)
    }

    fn norm(&self, x: &Tensor, name: &str) -> Result<Tensor> {
        let weight = self.parameters.leaf(&format!("{name}.weight"))?;
        let bias = self.parameters.leaf(&format!("{name}.bias"))?;
        Ok(x.f_group_norm(self.groups, Some(weight), Some(bias), EPS, false)?)
    }

    fn residual(&self, x: &Tensor, name: &str) -> Result<Tensor> {
        let h = self.norm(x, &format!("{name}.norm1"))?.f_silu()?;
        let h = self.conv(&h, &format!("{name}.conv1"), 1, 1)?;
        let h = self.norm(&h, &format!("{name}.norm2"))?.f_silu()?;
        let h = self.conv(&h, &format!("{name}.conv2"), 1, 1)?;
        if self
            .parameters
            .leaf(&format!("{name}.nin_shortcut.weight"))
            .is_ok()
        {
            return Ok(self.conv(x, &format!("{name}.nin_shortcut"), 1, 0)?.f_add(&h)?);
        }
        Ok(x.f_add(&h)?)
    }

    /// Applies single-head attention over the grid, with a residual connection.
    fn attention(&self, x: &Tensor, name: &str) -> Result<Tensor> {
        let (batch, width, rows, columns) = x.size4()?;
        let h = self.norm(x, &format!("{name}.norm"))?;
        let lines = |part: &str| -> Result<Tensor> {
            Ok(self
                .conv(&h, &format!("{name}.{part}"), 1, 0)?
                .f_flatten(2, 3)?
                .f_transpose(1, 2)?)
        };
        let scores = lines("q")?.f_matmul(&lines("k")?.f_transpose(1, 2)?)?;
        let weights = scores
            .f_mul_scalar(1.0 / (width as f64).sqrt())?
            .f_softmax(-1, Kind::Float)?;
        let mixed = weights
            .f_matmul(&lines("v")?)?
            .f_transpose(1, 2)?
            .f_reshape([batch, width, rows, columns])?
            // In its own memory layout libtorch's convolution depends on the number of threads on some processors (L8).
            .f_contiguous()?;
        Ok(x.f_add(&self.conv(&mixed, &format!("{name}.proj_out"), 1, 0)?)?)
    }

    fn middle(&self, x: &Tensor, name: &str) -> Result<Tensor> {
        let h = self.residual(x, &format!("{name}.block_1"))?;
        let h = self.attention(&h, &format!("{name}.attn_1"))?;
        self.residual(&h, &format!("{name}.block_2"))
    }
}
