//! Low-rank adapters (LoRA, arXiv 2106.09685): trained beside frozen weights, saved in PEFT's layout, and
//! merged.
//!
//! Legend: I inputs of a layer, O outputs, R rank, T tokens; A is [R, I], B is [O, R].

#![allow(non_snake_case)]

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use demask_api::checkpoint::{ADAPTER, ADAPTER_CONFIG, QUANTIZATION};
use demask_api::{BackboneConfig, LINEAR_LAYERS, LoraConfig, Purpose};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind, Tensor};

use crate::error::{ModelError, Result};
use crate::network::slots::is_block_layer;
use crate::weights::init::uniform;
use crate::weights::parameters::Parameters;
use crate::weights::peft::{self, module_of, tensor_name};
use crate::weights::safetensors;
use crate::weights::slot::Slot;
use crate::weights::stored::StoredTensors;

/// An adapter on the linear layers of a backbone.
#[derive(Debug)]
pub struct Lora {
    config: LoraConfig,
    /// The base's name in the saved configuration.
    base: String,
    /// The adapted modules as the saved configuration lists them.
    targets: Vec<String>,
    parameters: Parameters,
    /// The backbone's products that the adapter changes, by name, each with its layers and their A and B.
    products: BTreeMap<String, Vec<AdapterPart>>,
    /// The dropout of the present step.
    noise: Cell<Option<DropoutPosition>>,
}

/// A position in a stream of dropout masks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DropoutPosition {
    seed: u64,
    /// The number of masks that were drawn before.
    number: u64,
}

impl DropoutPosition {
    /// Returns the start of a seed's stream.
    fn start(seed: u64) -> Self {
        Self { seed, number: 0 }
    }

    /// Returns the position after this number of masks.
    pub fn after(self, masks: u64) -> Self {
        let number = self.number + masks;
        Self { number, ..self }
    }

    /// Returns the generator of the mask at this position.
    fn generator(self) -> ChaCha8Rng {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(self.number);
        rng
    }

    /// Returns the start of the stream of a unit of a batch that begins at this position. Its seed is a function of the
    /// position and the unit's number (law L11).
    pub fn of_unit(self, unit: usize) -> Self {
        let mut rng = self.generator();
        // A number of 64 bits takes two words.
        rng.set_word_pos(2 * unit as u128);
        Self::start(rng.random())
    }
}

/// One linear layer of a product.
#[derive(Clone, Debug)]
struct AdapterPart {
    module: String,
    outs: i64,
    /// The names of A and B, if the layer is adapted.
    adapted: Option<(String, String)>,
}

impl Lora {
    /// Initialises an adapter as PEFT does: A uniform in ±1/sqrt(I), B zero.
    ///
    /// # Errors
    /// Refuses a rank of 0, a dropout outside 0..1, and a layer that no block has.
    pub fn fresh(
        config: &LoraConfig,
        backbone: &BackboneConfig,
        base: &Path,
        place: (Device, Kind),
        purpose: Purpose,
    ) -> Result<Self> {
        check(config)?;
        let wanted = |module: &&str| {
            let end = module.rsplit('.').next().unwrap_or_default();
            config.target_modules.iter().any(|target| target == end)
        };
        let layers = layers(backbone);
        let modules: BTreeSet<&str> = layers
            .iter()
            .map(|layer| layer.module.as_str())
            .filter(wanted)
            .collect();
        let mut rng = ChaCha8Rng::seed_from_u64(config.seed);
        let fill = |slot: &Slot, into: &mut Tensor| {
            let _ = into.f_zero_()?;
            if slot.name.ends_with("lora_A.weight") {
                let bound = 1.0 / (slot.shape[1] as f64).sqrt();
                into.f_copy_(&uniform(&slot.shape, bound, &mut rng)?)?;
            }
            Ok(())
        };
        let slots = slots(&layers, &modules, config.rank);
        let parameters = Parameters::build(slots, place.0, place.1, purpose, fill)?;
        Ok(Self::assemble(
            config.clone(),
            whole(base),
            &layers,
            &modules,
            parameters,
        ))
    }

    /// Reads an adapter in PEFT's layout for the base in folder `base`. When it is saved again, it names that
    /// folder as its base, whatever the file says.
    ///
    /// # Errors
    /// Returns an error for a missing or damaged file and for another kind of adapter, and an error that
    /// names a module that no block has, or a missing, extra or misshapen tensor.
    pub fn load(
        dir: &Path,
        backbone: &BackboneConfig,
        base: &Path,
        place: (Device, Kind),
        purpose: Purpose,
    ) -> Result<Self> {
        let mut config = peft::read(dir)?;
        let stored = StoredTensors::in_file(&dir.join(ADAPTER))?;
        let layers = layers(backbone);
        let named: BTreeSet<&str> = stored.names().filter_map(module_of).collect();
        let known = layers.iter().map(|layer| layer.module.as_str());
        let modules: BTreeSet<&str> = known.filter(|module| named.contains(module)).collect();
        known_alone(&named, &modules, backbone)
            .map_err(|message| ModelError::checkpoint(stored.path(), message))?;
        let slots = slots(&layers, &modules, config.rank);
        let parameters = Parameters::load(slots, &stored, str::to_owned, &[], place.0, place.1, purpose)?;
        config.target_modules = targets(&layers, &modules);
        Ok(Self::assemble(config, whole(base), &layers, &modules, parameters))
    }

    fn assemble(
        config: LoraConfig,
        base: String,
        layers: &[Layer],
        modules: &BTreeSet<&str>,
        parameters: Parameters,
    ) -> Self {
        let mut products: BTreeMap<String, Vec<AdapterPart>> = BTreeMap::new();
        for layer in layers {
            let names = || (tensor_name(&layer.module, 'A'), tensor_name(&layer.module, 'B'));
            products
                .entry(layer.product.clone())
                .or_default()
                .push(AdapterPart {
                    module: layer.module.clone(),
                    outs: layer.outs,
                    adapted: modules.contains(layer.module.as_str()).then(names),
                });
        }
        products.retain(|_, parts| parts.iter().any(|part| part.adapted.is_some()));
        Self {
            config,
            base,
            targets: targets(layers, modules),
            parameters,
            products,
            noise: Cell::new(None),
        }
    }

    /// Returns the rank, the scale and the dropout.
    #[must_use]
    pub fn config(&self) -> &LoraConfig {
        &self.config
    }

    /// Returns A and B of every adapted layer.
    #[must_use]
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Returns the parameters mutably, for an optimiser.
    pub fn parameters_mut(&mut self) -> &mut Parameters {
        &mut self.parameters
    }

    /// Turns on dropout for a training step with a seed, or turns it off.
    pub fn set_dropout(&self, seed: Option<u64>) {
        let seed = seed.filter(|_| self.config.dropout > 0.0);
        self.noise.set(seed.map(DropoutPosition::start));
    }

    /// Returns the position of the dropout stream; `None` outside a training step.
    pub(crate) fn noise(&self) -> Option<DropoutPosition> {
        self.noise.get()
    }

    /// Returns the number of masks that a pass through the network draws, one for each adapted layer.
    pub(crate) fn masks(&self) -> u64 {
        let parts = self.products.values().flatten();
        parts.filter(|part| part.adapted.is_some()).count() as u64
    }

    /// Sets the position of the dropout stream.
    pub(crate) fn set_noise(&self, noise: Option<DropoutPosition>) {
        self.noise.set(noise);
    }

    /// Returns whether the adapter adapts a layer of the named product.
    #[must_use]
    pub fn adapts(&self, product: &str) -> bool {
        self.products.contains_key(product)
    }

    /// Adds `scale · drop(x) Aᵀ Bᵀ` of every adapted layer of a product to `y` in place: x [T, I], y [T, O].
    ///
    /// The outputs of a product's layers are concatenated in y. Their B form a block-diagonal matrix, so that
    /// one product adds all of them and no part of y is copied.
    ///
    /// # Errors
    /// Returns libtorch's errors.
    pub fn add(&self, product: &str, x: &Tensor, mut y: Tensor) -> Result<Tensor> {
        let Some(parts) = self.products.get(product) else {
            return Ok(y);
        };
        let adapted = || parts.iter().filter_map(|part| part.adapted.as_ref());
        let a_all = adapted()
            .map(|(a, _)| self.parameters.leaf(a))
            .collect::<Result<Vec<_>>>()?;
        let low = self.low(x, &a_all)?.f_mul_scalar(self.config.scale())?;
        let b_all = match parts.as_slice() {
            [
                AdapterPart {
                    adapted: Some((_, b)),
                    ..
                },
            ] => self.parameters.leaf(b)?.shallow_clone(),
            parts => Tensor::f_block_diag(&self.beside(parts)?)?,
        };
        let _ = y.f_addmm_(&low, &b_all.f_tr()?)?;
        Ok(y)
    }

    /// Computes `drop(x) Aᵀ` of several layers, concatenated.
    fn low(&self, x: &Tensor, a_all: &[&Tensor]) -> Result<Tensor> {
        let dropped = self.noise.get().is_some();
        if let ([a_RI], false) = (a_all, dropped) {
            return Ok(x.f_linear(a_RI, None::<&Tensor>)?);
        }
        if !dropped {
            return Ok(x.f_linear(&Tensor::f_cat(a_all, 0)?, None::<&Tensor>)?);
        }
        // Each layer has a dropout mask of its own.
        let one = |a_RI: &&Tensor| -> Result<Tensor> {
            let x = match self.kept(x)? {
                Some(kept) => x.f_mul(&kept)?,
                None => x.shallow_clone(),
            };
            Ok(x.f_linear(a_RI, None::<&Tensor>)?)
        };
        Ok(Tensor::f_cat(
            &a_all.iter().map(one).collect::<Result<Vec<_>>>()?,
            1,
        )?)
    }

    /// Returns the B of each layer; [O, 0] for a layer that is not adapted.
    fn beside(&self, parts: &[AdapterPart]) -> Result<Vec<Tensor>> {
        let parts = parts.iter().map(|part| match &part.adapted {
            Some((_, b)) => Ok(self.parameters.leaf(b)?.shallow_clone()),
            None => {
                let like = self.parameters.leaves_like();
                Ok(Tensor::f_zeros([part.outs, 0], like)?)
            }
        });
        parts.collect()
    }

    /// Draws a dropout mask, scaled by the inverse of the share that is kept; `None` outside a training step.
    /// The mask is drawn on the device of x: a CPU takes the numbers one by one from the seed's stream, for
    /// which a GPU would have to wait.
    fn kept(&self, x: &Tensor) -> Result<Option<Tensor>> {
        let Some(noise) = self.noise.get() else {
            return Ok(None);
        };
        self.noise.set(Some(noise.after(1)));
        let stays = 1.0 - self.config.dropout;
        let mut rng = noise.generator();
        if x.device().is_cuda() {
            // Nothing else draws from libtorch's global generator.
            tch::manual_seed(rng.random::<i64>());
            let mut kept = x.f_detach()?.f_empty_like()?;
            return Ok(Some(kept.f_bernoulli_float_(stays)?.f_mul_scalar(1.0 / stays)?));
        }
        #[allow(clippy::cast_possible_truncation)]
        let (scale, count) = ((1.0 / stays) as f32, x.numel());
        let draws = (0..count).map(|_| if rng.random::<f64>() < stays { scale } else { 0.0 });
        let kept = Tensor::f_from_slice(&draws.collect::<Vec<f32>>())?.f_view(&x.size()[..])?;
        Ok(Some(kept.f_to_kind(x.kind())?))
    }

    /// Adds the product of B and A to the weights of the adapted layers.
    ///
    /// # Errors
    /// Returns libtorch's errors.
    pub fn merge_into(&self, base: &Parameters) -> Result<()> {
        let named = self.parameters.named()?;
        tch::no_grad(|| {
            for part in self.products.values().flatten() {
                let Some((a, b)) = &part.adapted else { continue };
                let [a_RI, b_OR] = [a, b].map(|name| named[name].f_to_kind(Kind::Float));
                let product = b_OR?.f_matmul(&a_RI?)?.f_mul_scalar(self.config.scale())?;
                let mut weight = base.value(&format!("{}.weight", part.module))?;
                weight.f_copy_(&weight.f_to_kind(Kind::Float)?.f_add(&product)?)?;
            }
            base.refresh()
        })
    }

    /// Writes `adapter_config.json`, `adapter_model.safetensors` and, for a quantised base, its format.
    /// Returns the names of the files.
    ///
    /// # Errors
    /// Returns the file system's errors.
    pub fn write(&self, dir: &Path) -> Result<Vec<&'static str>> {
        let path = dir.join(ADAPTER_CONFIG);
        let text = peft::text(&self.config, &self.targets, &self.base);
        std::fs::write(&path, text).map_err(|source| ModelError::io(&path, source))?;
        safetensors::write(&dir.join(ADAPTER), &self.parameters.named()?, None)?;
        let mut names = vec![ADAPTER_CONFIG, ADAPTER];
        if let Some(text) = self.config.frozen_base().text() {
            let path = dir.join(QUANTIZATION);
            std::fs::write(&path, text).map_err(|source| ModelError::io(&path, source))?;
            names.push(QUANTIZATION);
        }
        Ok(names)
    }

    /// Returns an adapter that shares the values and has gradients of its own, without dropout. This adapter
    /// does not change.
    ///
    /// # Errors
    /// Returns libtorch's errors.
    pub fn twin(&self) -> Result<Self> {
        Ok(self.with(self.parameters.twin()?))
    }

    /// Returns a twin like [`Self::twin`] for another thread of a training step. Its dropout is seeded from
    /// this adapter's.
    ///
    /// # Errors
    /// Returns libtorch's errors.
    pub fn training_twin(&self) -> Result<Self> {
        let twin = self.twin()?;
        if let Some(noise) = self.noise.get() {
            self.noise.set(Some(noise.after(1)));
            let seed = noise.seed.rotate_left(32) ^ noise.number;
            twin.noise.set(Some(DropoutPosition::start(seed)));
        }
        Ok(twin)
    }

    /// Copies the adapter for sampling; later changes of this adapter do not affect the copy.
    ///
    /// # Errors
    /// Returns libtorch's errors.
    pub fn frozen_copy(&self) -> Result<Self> {
        Ok(self.with(self.parameters.frozen_copy()?))
    }

    fn with(&self, parameters: Parameters) -> Self {
        Self {
            config: self.config.clone(),
            base: self.base.clone(),
            targets: self.targets.clone(),
            parameters,
            products: self.products.clone(),
            noise: Cell::new(None),
        }
    }
}

/// Returns the absolute path of a folder.
fn whole(folder: &Path) -> String {
    let whole = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    whole.display().to_string()
}

/// Checks that a file adapts at least one module, and only modules that the base has.
fn known_alone(
    named: &BTreeSet<&str>,
    known: &BTreeSet<&str>,
    backbone: &BackboneConfig,
) -> std::result::Result<(), String> {
    let places = || {
        let (layers, last) = (LINEAR_LAYERS.join(", "), backbone.n_layers - 1);
        format!("expected modules of model.transformer.blocks.0 to .{last}: {layers}")
    };
    if named.is_empty() {
        return Err(format!("it contains no adapted module, {}", places()));
    }
    let strange: Vec<&str> = named.difference(known).copied().collect();
    match strange.first() {
        None => Ok(()),
        Some(first) => {
            let count = strange.len();
            let modules = if count == 1 {
                first.to_string()
            } else {
                format!("{first} and {} more", count - 1)
            };
            Err(format!(
                "it adapts {modules}, which the base does not have, {}",
                places()
            ))
        }
    }
}

fn check(config: &LoraConfig) -> Result<()> {
    let refuse = |message: String| Err(ModelError::Refused(format!("lora: {message}")));
    if config.rank == 0 {
        return refuse("rank is 0, expected at least 1".into());
    }
    if !(0.0..1.0).contains(&config.dropout) || !config.alpha.is_finite() {
        let (dropout, alpha) = (config.dropout, config.alpha);
        return refuse(format!(
            "dropout is {dropout} and alpha {alpha}, expected a dropout in 0..1 and a finite alpha"
        ));
    }
    let strange = |target: &&String| !LINEAR_LAYERS.contains(&target.as_str());
    if let Some(target) = config.target_modules.iter().find(strange) {
        let known = LINEAR_LAYERS.join(", ");
        return refuse(format!("target module {target:?}, expected one of {known}"));
    }
    if config.target_modules.is_empty() {
        return refuse("target_modules is empty, expected at least one".into());
    }
    Ok(())
}

/// A linear layer of a block.
struct Layer {
    module: String,
    /// The first module of the product that the layer belongs to.
    product: String,
    ins: i64,
    outs: i64,
}

/// Returns the linear layers of all blocks, in the order of their products.
fn layers(config: &BackboneConfig) -> Vec<Layer> {
    let mut layers: Vec<Layer> = Vec::new();
    for slot in crate::network::slots::slots(config) {
        let Some(module) = slot.name.strip_suffix(".weight") else {
            continue;
        };
        if !is_block_layer(&slot) {
            continue;
        }
        let product = match layers.last().filter(|_| slot.stacked) {
            Some(before) => before.product.clone(),
            None => module.to_owned(),
        };
        layers.push(Layer {
            module: module.to_owned(),
            product,
            ins: slot.shape[1],
            outs: slot.shape[0],
        });
    }
    layers
}

fn slots(layers: &[Layer], modules: &BTreeSet<&str>, rank: usize) -> Vec<Slot> {
    let rank = rank as i64;
    let adapted = layers
        .iter()
        .filter(|layer| modules.contains(layer.module.as_str()));
    adapted
        .flat_map(|layer| {
            [
                Slot::new(tensor_name(&layer.module, 'A'), &[rank, layer.ins]),
                Slot::new(tensor_name(&layer.module, 'B'), &[layer.outs, rank]),
            ]
        })
        .collect()
}

/// Returns the last parts of the modules' names if each of these is adapted in every block, and the full
/// names otherwise.
fn targets(layers: &[Layer], modules: &BTreeSet<&str>) -> Vec<String> {
    let end = |module: &str| module.rsplit('.').next().unwrap_or_default().to_owned();
    let ends: BTreeSet<String> = modules.iter().map(|module| end(module)).collect();
    let meant = layers.iter().filter(|layer| ends.contains(&end(&layer.module)));
    if meant.count() == modules.len() {
        return LINEAR_LAYERS
            .map(str::to_owned)
            .into_iter()
            .filter(|name| ends.contains(name))
            .collect();
    }
    modules.iter().map(|&module| module.to_owned()).collect()
}
