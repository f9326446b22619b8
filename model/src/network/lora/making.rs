//! Making an adapter, fresh or from files in PEFT's layout, and writing these files.

use std::collections::BTreeSet;
use std::path::Path;

use demask_api::checkpoint::{ADAPTER, ADAPTER_CONFIG, QUANTIZATION};
use demask_api::{BackboneConfig, LINEAR_LAYERS, LoraConfig, Purpose};
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind, Tensor};

use super::Lora;
use super::layers::{layers, slots, targets};
use crate::error::{ModelError, Result};
use crate::weights::init::uniform;
use crate::weights::parameters::Parameters;
use crate::weights::peft::{self, module_of};
use crate::weights::safetensors;
use crate::weights::slot::Slot;
use crate::weights::stored::StoredTensors;

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
