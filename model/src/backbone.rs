//! The language backbone: a LLaDA-shaped bidirectional transformer (`mmada.md` 1.1 to 1.5).
//!
//! Pre-norm blocks with rotary attention and a gated feed-forward; no causal mask; position i predicts token i.
//! Legend: B rows, L positions, D width, H heads, E head width, F feed-forward width, V vocabulary, N chosen positions.

#![allow(non_snake_case)]

use std::path::Path;

use demask_api::checkpoint::{CONFIG, TOKENIZER};
use demask_api::config::{LLADA_TOKENIZER, LLADA_VOCABULARY};
use demask_api::{BackboneConfig, Growth, Purpose, published};
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind, Tensor};

use crate::attention_mask::{AttentionMask, Packing};
use crate::error::{ModelError, Result};
use crate::fit;
use crate::fused;
use crate::growth;
use crate::init::{normal, truncated_normal};
use crate::kv_cache::{Chunk, KvCache, Pass};
use crate::lora::Lora;
use crate::parameters::{Parameters, Slot};
use crate::rotary::Rotary;
use crate::stored::StoredTensors;

/// Where the published names begin.
const PREFIX: &str = "model.transformer";

/// The backbone: configuration and parameters.
#[derive(Debug)]
pub struct Backbone {
    config: BackboneConfig,
    parameters: Parameters,
    lora: Option<Lora>,
    rotary: Rotary,
    names: Vec<BlockNames>,
    device: Device,
    kind: Kind,
}

/// The parameter names of one block, made once.
#[derive(Debug)]
struct BlockNames {
    attn_norm: String,
    /// q, k and v in one product.
    q: String,
    attn_out: String,
    ff_norm: String,
    /// The gate and what it multiplies, in one product.
    gate: String,
    down: String,
    q_norm: String,
    k_norm: String,
}

impl BlockNames {
    fn new(block: usize) -> Self {
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

impl Backbone {
    /// Random weights from a seed (LLaDA's `mitchell` initialisation, `mmada.md` 1.4).
    ///
    /// # Errors
    /// A configuration that makes no network.
    pub fn fresh(config: &BackboneConfig, seed: u64, device: Device, kind: Kind) -> Result<Self> {
        check(config)?;
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let fill = |slot: &Slot, into: &mut Tensor| Ok(into.f_copy_(&initial(config, slot, &mut rng)?)?);
        let parameters = Parameters::build(slots(config), device, kind, Purpose::Train, fill)?;
        Self::assemble(config.clone(), parameters, device, kind)
    }

    /// Random weights for sampling alone, drawn where they are kept, with nothing beside them: a network to measure.
    ///
    /// # Errors
    /// A configuration that makes no network; libtorch's, out of memory among them.
    pub fn random(config: &BackboneConfig, seed: i64, device: Device, kind: Kind) -> Result<Self> {
        check(config)?;
        tch::manual_seed(seed);
        let deviation = 1.0 / (config.d_model as f64).sqrt();
        let fill = |slot: &Slot, into: &mut Tensor| {
            let _ = match slot.shape.len() {
                1 => into.f_fill_(1.0)?,
                _ => into.f_normal_(0.0, deviation)?,
            };
            Ok(())
        };
        let parameters = Parameters::build(slots(config), device, kind, Purpose::Sample, fill)?;
        Self::assemble(config.clone(), parameters, device, kind)
    }

    /// Reads a folder, published or ours, for training: `config.json` and its weights, in one file or several.
    ///
    /// # Errors
    /// A broken file, missing, extra and misshapen tensors, each named.
    pub fn load(dir: &Path, device: Device, kind: Kind) -> Result<Self> {
        Self::load_for(dir, device, kind, Purpose::Train)
    }

    /// The same for training or for sampling, where nothing is kept beside the weights in `kind`.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn load_for(dir: &Path, device: Device, kind: Kind, purpose: Purpose) -> Result<Self> {
        Self::load_grown(dir, device, kind, purpose, None)
    }

    /// The same, with picture codes added where that is asked for.
    ///
    /// # Errors
    /// As [`Self::load`]; those of [`growth::grown`].
    pub fn load_grown(
        dir: &Path,
        device: Device,
        kind: Kind,
        purpose: Purpose,
        growth: Option<&Growth>,
    ) -> Result<Self> {
        let stored_config = read_config(dir)?;
        let config = match growth {
            Some(growth) => growth::grown(&stored_config, growth, text_tokens(dir, &stored_config)?)?,
            None => stored_config.clone(),
        };
        let stored = StoredTensors::in_folder(dir)?;
        let source = source(&stored_config, &stored);
        fit::check(&slots(&stored_config), &stored, &source, &ignored(&stored_config))?;
        let mut rng = ChaCha8Rng::seed_from_u64(growth.map_or(0, |growth| growth.seed));
        let parameters = Parameters::build(slots(&config), device, kind, purpose, |slot, into| {
            let name = source(&slot.name);
            let old = stored.shape(&name).map_or(0, |shape| shape[0]);
            if old == slot.shape[0] {
                return stored.copy_to(&name, into);
            }
            stored.copy_to(&name, &mut into.f_narrow(0, 0, old)?)?;
            growth::fill(into, old, &mut rng)
        })?;
        Self::assemble(config, parameters, device, kind)
    }

    fn assemble(config: BackboneConfig, parameters: Parameters, device: Device, kind: Kind) -> Result<Self> {
        let rotary = Rotary::new(
            config.head_dim(),
            config.max_sequence_length,
            config.rope_theta,
            device,
        )?;
        let names = (0..config.n_layers).map(BlockNames::new).collect();
        Ok(Self {
            config,
            parameters,
            lora: None,
            rotary,
            names,
            device,
            kind,
        })
    }

    /// A copy whose weights do not change and ask for no gradient: the old or the reference policy.
    ///
    /// # Errors
    /// libtorch's.
    pub fn frozen_copy(&self) -> Result<Self> {
        let parameters = self.parameters.frozen_copy()?;
        let mut copy = Self::assemble(self.config.clone(), parameters, self.device, self.kind)?;
        copy.lora = self.lora.as_ref().map(Lora::frozen_copy).transpose()?;
        Ok(copy)
    }

    /// The same weights, whose gradients are taken apart from these: for another thread.
    ///
    /// # Errors
    /// libtorch's.
    pub fn twin(&self) -> Result<Self> {
        let parameters = self.parameters.twin()?;
        let mut twin = Self::assemble(self.config.clone(), parameters, self.device, self.kind)?;
        twin.lora = self.lora.as_ref().map(Lora::twin).transpose()?;
        Ok(twin)
    }

    /// The same with an adapter on it, which is what is trained then.
    #[must_use]
    pub fn adapted(mut self, lora: Lora) -> Self {
        self.lora = Some(lora);
        self
    }

    /// Its adapter, if it has one.
    #[must_use]
    pub fn lora(&self) -> Option<&Lora> {
        self.lora.as_ref()
    }

    /// Adds the adapter's product to the weights and drops the adapter.
    ///
    /// # Errors
    /// libtorch's.
    pub fn merge(&mut self) -> Result<()> {
        match self.lora.take() {
            Some(lora) => lora.merge_into(&self.parameters),
            None => Ok(()),
        }
    }

    /// What an optimiser works on: the adapter's parameters where there is one, else the network's own.
    #[must_use]
    pub fn trained(&self) -> &Parameters {
        self.lora.as_ref().map_or(&self.parameters, Lora::parameters)
    }

    /// The same, to be changed.
    pub fn trained_mut(&mut self) -> &mut Parameters {
        match &mut self.lora {
            Some(lora) => lora.parameters_mut(),
            None => &mut self.parameters,
        }
    }

    /// Turns the adapter's dropout on for a training step, drawn from a seed, or off.
    pub fn set_dropout(&self, seed: Option<u64>) {
        if let Some(lora) = &self.lora {
            lora.set_dropout(seed);
        }
    }

    /// The shape.
    #[must_use]
    pub fn config(&self) -> &BackboneConfig {
        &self.config
    }

    /// The parameters.
    #[must_use]
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// The parameters, to be changed by an optimiser.
    pub fn parameters_mut(&mut self) -> &mut Parameters {
        &mut self.parameters
    }

    /// Where it computes.
    #[must_use]
    pub fn device(&self) -> Device {
        self.device
    }

    /// What it computes in.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Hidden states after the last norm: [B, L] token ids to [B, L, D].
    ///
    /// # Errors
    /// A sequence longer than the model's, with both numbers; libtorch's.
    pub fn hidden(&self, ids_BL: &Tensor, mask: &AttentionMask) -> Result<Tensor> {
        let (_, length) = ids_BL.size2()?;
        let longest = self.config.max_sequence_length;
        if length as usize > longest {
            return Err(ModelError::Refused(format!(
                "a sequence of {length} tokens; the model takes at most {longest}"
            )));
        }
        if let AttentionMask::LeftPads { pads, length } = mask
            && fused::packs(self.device, self.kind, *length)
        {
            return self.packed(ids_BL, &Packing::new(pads, *length)?);
        }
        let bias = mask.bias(self.kind, self.device)?;
        self.whole(ids_BL, length, bias.as_ref(), None)
    }

    /// The same on the real tokens alone; the hidden states of padding are zero.
    fn packed(&self, ids_BL: &Tensor, packing: &Packing) -> Result<Tensor> {
        let ids_T = ids_BL.f_flatten(0, 1)?.f_index_select(0, &packing.index_t)?;
        let x_TD = self
            .whole(&ids_T.f_unsqueeze(0)?, packing.length, None, Some(packing))?
            .f_squeeze_dim(0)?;
        let (count, width) = (packing.batch * packing.length, x_TD.size()[1]);
        Ok(Tensor::f_zeros([count, width], (self.kind, self.device))?
            .f_index_copy(0, &packing.index_t, &x_TD)?
            .f_view([packing.batch, packing.length, width])?)
    }

    /// Every position of every row, keys and values kept nowhere.
    fn whole(
        &self,
        ids_BL: &Tensor,
        length: i64,
        bias: Option<&Tensor>,
        packing: Option<&Packing>,
    ) -> Result<Tensor> {
        let tables = self.rotary.at(length)?;
        self.blocks(ids_BL, |_, joined| self.attend(joined, &tables, bias, packing))
    }

    /// Hidden states after the last norm of the chosen places of some rows, chunk by chunk: [T, D]. Keys and values of
    /// those places are written to the cache, all others are read from it.
    ///
    /// # Errors
    /// A row longer than the model's longest sequence or than the cache, with both numbers; libtorch's.
    pub fn cached(&self, cache: &KvCache, chunks: &[Chunk]) -> Result<Tensor> {
        let longest = self.config.max_sequence_length;
        for chunk in chunks {
            let (end, room) = (chunk.offset + chunk.keys, cache.capacity());
            if end > longest || chunk.keys > room {
                return Err(ModelError::Refused(format!(
                    "a sequence of {end} tokens; the model takes at most {longest}, the cache {room}"
                )));
            }
        }
        let pass = Pass::new(chunks, self.device)?;
        let tables = self.rotary.at(longest as i64)?;
        let (tables, heads) = ((&tables.0, &tables.1), self.config.n_heads as i64);
        tch::no_grad(|| {
            self.blocks(&pass.ids_T, |block, joined| {
                cache.attend(block, &joined, tables, heads, &pass)
            })
        })
    }

    /// The blocks; `mix` is given each block's number and stacked projection and attends.
    fn blocks(&self, ids: &Tensor, mix: impl Fn(usize, Tensor) -> Result<Tensor>) -> Result<Tensor> {
        let mut x_BLD = Tensor::f_embedding(self.leaf("wte")?, ids, -1, false, false)?;
        if self.config.input_emb_norm {
            x_BLD = x_BLD.f_mul_scalar((self.config.d_model as f64).sqrt())?;
        }
        // What the layer before adds to the stream is summed where the next norm reads it.
        let (mut delta_BLD, mut h_BLD): (Option<Tensor>, Tensor);
        delta_BLD = None;
        for (number, names) in self.names.iter().enumerate() {
            (x_BLD, h_BLD) = self.sum_norm(x_BLD, delta_BLD.as_ref(), &names.attn_norm)?;
            let mixed_BLD = mix(number, self.joined(names, &h_BLD)?)?;
            let mixed_BLD = self.linear(&mixed_BLD, &names.attn_out)?;
            (x_BLD, h_BLD) = self.sum_norm(x_BLD, Some(&mixed_BLD), &names.ff_norm)?;
            delta_BLD = Some(self.feed_forward(names, &h_BLD)?);
        }
        Ok(self
            .sum_norm(x_BLD, delta_BLD.as_ref(), &format!("{PREFIX}.ln_f"))?
            .1)
    }

    /// Logits of chosen hidden states: [N, D] to [N, V], or to the columns `start..end` of V.
    ///
    /// # Errors
    /// libtorch's.
    pub fn head(&self, x_ND: &Tensor, columns: Option<(i64, i64)>) -> Result<Tensor> {
        let table_VD = self.head_weight()?;
        let bias_V = self.parameters.leaf(&format!("{PREFIX}.ff_out.bias")).ok();
        let logits = match columns {
            None => x_ND.f_linear(&table_VD, bias_V)?,
            Some((start, end)) => {
                let bias = bias_V
                    .map(|bias| bias.f_narrow(0, start, end - start))
                    .transpose()?;
                x_ND.f_linear(&table_VD.f_narrow(0, start, end - start)?, bias)?
            }
        };
        if self.config.scale_logits {
            return Ok(logits.f_mul_scalar(1.0 / (self.config.d_model as f64).sqrt())?);
        }
        Ok(logits)
    }

    /// The head's weight, [V, D]: the embedding where the two are tied.
    ///
    /// # Errors
    /// A backbone without one (a fault of this crate).
    pub fn head_weight(&self) -> Result<Tensor> {
        let leaf = self.leaf(if self.config.weight_tying { "wte" } else { "ff_out" })?;
        Ok(leaf.shallow_clone())
    }

    fn leaf(&self, what: &str) -> Result<&Tensor> {
        self.parameters.leaf(&format!("{PREFIX}.{what}.weight"))
    }

    fn linear(&self, x: &Tensor, name: &str) -> Result<Tensor> {
        let weight = self.parameters.leaf(&format!("{name}.weight"))?;
        let bias = self.parameters.leaf(&format!("{name}.bias")).ok();
        let y = x.f_linear(weight, bias)?;
        match &self.lora {
            Some(lora) => lora.add(name, x, y),
            None => Ok(y),
        }
    }

    /// The stream with `delta` added, and its norm.
    fn sum_norm(&self, x: Tensor, delta: Option<&Tensor>, name: &str) -> Result<(Tensor, Tensor)> {
        let gain = self.parameters.leaf(&format!("{name}.weight"))?;
        let (x, y) = fused::sum_norm(x, delta, gain, self.config.rms_norm_eps)?;
        Ok(match self.parameters.leaf(&format!("{name}.bias")) {
            Ok(bias) => (x, y.f_add(bias)?),
            Err(_) => (x, y),
        })
    }

    /// Queries, keys and values in one product, q and k normalised where the model does that: [.., (H + 2K) E].
    fn joined(&self, names: &BlockNames, h_BLD: &Tensor) -> Result<Tensor> {
        let joined = self.linear(h_BLD, &names.q)?;
        if !self.config.attention_layer_norm {
            return Ok(joined);
        }
        let width = self.config.d_model as i64;
        let kv_width = (self.config.kv_heads() * self.config.head_dim()) as i64;
        let mut parts = joined.f_split_with_sizes([width, kv_width, kv_width], -1)?;
        for (part, name) in parts.iter_mut().zip([&names.q_norm, &names.k_norm]) {
            *part = self.sum_norm(part.shallow_clone(), None, name)?.1;
        }
        Ok(Tensor::f_cat(&parts, -1)?)
    }

    fn attend(
        &self,
        joined: Tensor,
        tables: &(Tensor, Tensor),
        bias: Option<&Tensor>,
        packing: Option<&Packing>,
    ) -> Result<Tensor> {
        let (heads, kv_heads) = (self.config.n_heads as i64, self.config.kv_heads() as i64);
        let head_width = self.config.head_dim() as i64;
        let tables = (&tables.0, &tables.1);
        let [q_BHLE, mut k_BHLE, mut v_BHLE] =
            fused::split_turn(&joined, tables, heads, kv_heads, head_width, packing)?;
        if kv_heads != heads {
            k_BHLE = k_BHLE.f_repeat_interleave_self_int(heads / kv_heads, 1, None)?;
            v_BHLE = v_BHLE.f_repeat_interleave_self_int(heads / kv_heads, 1, None)?;
        }
        fused::attend(&q_BHLE, &k_BHLE, &v_BHLE, bias, packing)
    }

    fn feed_forward(&self, names: &BlockNames, h_BLD: &Tensor) -> Result<Tensor> {
        let gated_BLF = fused::gate(&self.linear(h_BLD, &names.gate)?)?;
        self.linear(&gated_BLF, &names.down)
    }
}

/// The configuration of a folder. Where the picture codes begin is asked of the folder's tokenizer, if the file does not
/// say and there is one.
///
/// # Errors
/// A missing or broken file, options that are not computed here, a configuration that makes no network.
pub fn read_config(dir: &Path) -> Result<BackboneConfig> {
    let path = dir.join(CONFIG);
    let text = std::fs::read_to_string(&path).map_err(|source| ModelError::io(&path, source))?;
    let mut config =
        published::read(&text).map_err(|error| ModelError::checkpoint(&path, error.to_string()))?;
    check(&config)?;
    let tokenizer = dir.join(TOKENIZER);
    if config.codebook_size > 0 && config.image_token_offset.is_none() && tokenizer.is_file() {
        config.image_token_offset = Some(tokenizer_length(&tokenizer)?);
    }
    Ok(config)
}

/// Tokens of a `tokenizer.json`, the added ones too.
fn tokenizer_length(path: &Path) -> Result<u32> {
    let tokenizer = tokenizers::Tokenizer::from_file(path)
        .map_err(|error| ModelError::checkpoint(path, format!("not a tokenizer: {error}")))?;
    Ok(u32::try_from(tokenizer.get_vocab_size(true)).unwrap_or(u32::MAX))
}

/// Tokens of a folder's text tokenizer: what its file says, or LLaDA's for LLaDA's vocabulary.
fn text_tokens(dir: &Path, config: &BackboneConfig) -> Result<u32> {
    let path = dir.join(TOKENIZER);
    if path.is_file() {
        return tokenizer_length(&path);
    }
    match config.image_token_offset {
        Some(offset) => Ok(offset),
        None if config.vocab_size == LLADA_VOCABULARY => Ok(LLADA_TOKENIZER),
        None => Err(ModelError::checkpoint(
            &path,
            "missing: its length says where picture codes begin",
        )),
    }
}

/// Under which name a parameter is stored: a tied head lies beside the embedding, or alone under its own name.
fn source(config: &BackboneConfig, stored: &StoredTensors) -> impl Fn(&str) -> String {
    let (table, head) = (format!("{PREFIX}.wte.weight"), format!("{PREFIX}.ff_out.weight"));
    let is_there = |name: &str| stored.shape(name).is_some();
    let renamed = config.weight_tying && !is_there(&table) && is_there(&head);
    move |name| match name {
        name if renamed && name == table => head.clone(),
        name => name.to_owned(),
    }
}

/// Stored tensors that are not needed.
fn ignored(config: &BackboneConfig) -> Vec<&'static str> {
    if config.weight_tying {
        return vec!["model.transformer.ff_out.weight"];
    }
    Vec::new()
}

fn check(config: &BackboneConfig) -> Result<()> {
    let refuse = |message: String| Err(ModelError::Refused(format!("config.json: {message}")));
    let (width, heads, kv_heads) = (config.d_model, config.n_heads, config.kv_heads());
    if heads == 0 || !width.is_multiple_of(heads) || !(width / heads).is_multiple_of(2) {
        return refuse(format!(
            "d_model {width} cannot be split evenly into {heads} heads of even width"
        ));
    }
    if kv_heads == 0 || !heads.is_multiple_of(kv_heads) {
        return refuse(format!(
            "n_heads {heads} is not a multiple of n_kv_heads {kv_heads}"
        ));
    }
    if config.rows() == 0 || config.n_layers == 0 {
        return refuse("vocab_size and n_layers must be at least 1".into());
    }
    Ok(())
}

/// Layers of one input, their weights and then their biases one under the other, so that they are one product.
fn stacked(slots: &mut Vec<Slot>, layers: &[(String, i64)], ins: i64, bias: bool) {
    let mut push = |at: usize, slot: Slot| slots.push(if at == 0 { slot } else { slot.stack() });
    for (at, (name, outs)) in layers.iter().enumerate() {
        push(at, Slot::new(format!("{name}.weight"), &[*outs, ins]));
    }
    for (at, (name, outs)) in layers.iter().enumerate().filter(|_| bias) {
        push(at, Slot::new(format!("{name}.bias"), &[*outs]));
    }
}

/// Every parameter's published name and shape, in order.
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

fn initial(config: &BackboneConfig, slot: &Slot, rng: &mut ChaCha8Rng) -> Result<Tensor> {
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
