//! Where a backbone's weights come from: random numbers, or a folder.

use std::path::Path;

use demask_api::checkpoint::CONFIG;
use demask_api::{BackboneConfig, FrozenBase, Growth, Purpose};
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind, Tensor};

use super::Backbone;
use crate::error::{ModelError, Result};
use crate::network::folder_config::{check, ignored, read_config, source, text_tokens};
use crate::network::growth;
use crate::network::slots::{groups, initial, is_block_layer, slots};
use crate::weights::fit;
use crate::weights::footprint;
use crate::weights::parameters::Parameters;
use crate::weights::quantized::leaves::QuantizedLeaves;
use crate::weights::shards::{RankOf, ShardMap};
use crate::weights::slot::Slot;
use crate::weights::stored::StoredTensors;

impl Backbone {
    /// Initialises random weights from a seed (LLaDA's `mitchell` initialisation, `mmada.md` 1.4).
    ///
    /// # Errors
    /// Refuses an invalid configuration.
    pub fn fresh(config: &BackboneConfig, seed: u64, device: Device, kind: Kind) -> Result<Self> {
        Self::fresh_on(config, seed, (device, kind), None)
    }

    /// Initialises the same weights as [`Self::fresh`]; with `part`, only this rank's shard of them is kept.
    ///
    /// # Errors
    /// Returns the errors of [`Self::fresh`].
    pub fn fresh_on(
        config: &BackboneConfig,
        seed: u64,
        (device, kind): (Device, Kind),
        part: Option<RankOf>,
    ) -> Result<Self> {
        check(config)?;
        let map = part.map(|own| cut(config, own, (device, kind), Purpose::Train));
        let map = map.transpose()?;
        if map.is_none() {
            footprint::check(config, device, kind, Purpose::Train)?;
        }
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let fill = |slot: &Slot, into: &mut Tensor| Ok(into.f_copy_(&initial(config, slot, &mut rng)?)?);
        let parameters = match map {
            None => Parameters::build(slots(config), device, kind, Purpose::Train, fill)?,
            Some(map) => Parameters::build_part(slots(config), device, kind, (map, Purpose::Train), fill)?,
        };
        Self::assemble(config.clone(), parameters, device, kind)
    }

    /// Initialises random weights for sampling only, directly on the device and without master weights. This
    /// serves performance measurements.
    ///
    /// # Errors
    /// Refuses an invalid configuration, and returns libtorch's errors, such as out of memory.
    pub fn random(config: &BackboneConfig, seed: i64, device: Device, kind: Kind) -> Result<Self> {
        Self::random_on(config, seed, (device, kind), (Purpose::Sample, None))
    }

    /// Initialises random weights directly on the device, for training or for sampling; with `part`, only this rank's
    /// shard is kept. It takes seconds for billions of weights, where [`Self::fresh_on`] takes minutes, because that
    /// one draws them on the host. This serves performance measurements.
    ///
    /// # Errors
    /// Returns the errors of [`Self::random`].
    pub fn random_on(
        config: &BackboneConfig,
        seed: i64,
        (device, kind): (Device, Kind),
        (purpose, part): (Purpose, Option<RankOf>),
    ) -> Result<Self> {
        check(config)?;
        let map = part.map(|own| cut(config, own, (device, kind), purpose));
        let map = map.transpose()?;
        if map.is_none() {
            footprint::check(config, device, kind, purpose)?;
        }
        tch::manual_seed(seed);
        let fill = |slot: &Slot, into: &mut Tensor| at_random(config, slot, into);
        let parameters = match map {
            None => Parameters::build(slots(config), device, kind, purpose, fill)?,
            Some(map) => Parameters::build_part(slots(config), device, kind, (map, purpose), fill)?,
        };
        Self::assemble(config.clone(), parameters, device, kind)
    }

    /// Initialises random weights directly on the device as the frozen base of an adapter, in the given format. This
    /// serves performance measurements.
    ///
    /// # Errors
    /// Returns the errors of [`Self::random`].
    pub fn random_frozen(
        config: &BackboneConfig,
        seed: i64,
        place: (Device, Kind),
        form: FrozenBase,
    ) -> Result<Self> {
        if !form.is_quantized() {
            return Self::random_on(config, seed, place, (Purpose::Sample, None));
        }
        check(config)?;
        footprint::check_frozen(config, place.0, place.1, form)?;
        tch::manual_seed(seed);
        let fill = |slot: &Slot, into: &mut Tensor| at_random(config, slot, into);
        Self::over_quantized(config, place, form, fill)
    }

    /// Reads a folder, published or of this project, for training: `config.json` and the weights in one or
    /// several files.
    ///
    /// # Errors
    /// Returns an error that names the damaged file, or the missing, extra or misshapen tensor.
    pub fn load(dir: &Path, device: Device, kind: Kind) -> Result<Self> {
        Self::load_for(dir, device, kind, Purpose::Train)
    }

    /// Reads a folder for training or for sampling. For sampling only the weights in `kind` are kept.
    ///
    /// # Errors
    /// Returns the errors of [`Self::load`].
    pub fn load_for(dir: &Path, device: Device, kind: Kind, purpose: Purpose) -> Result<Self> {
        Self::load_grown(dir, (device, kind), purpose, None, None)
    }

    /// Reads a folder and adds picture codes as `growth` asks. With `part`, only this rank's shard of the weights is
    /// kept.
    ///
    /// # Errors
    /// Returns the errors of [`Self::load`] and of [`growth::grown`].
    pub fn load_grown(
        dir: &Path,
        (device, kind): (Device, Kind),
        purpose: Purpose,
        growth: Option<&Growth>,
        part: Option<RankOf>,
    ) -> Result<Self> {
        let stored_config = read_config(dir)?;
        let config = match growth {
            Some(growth) => growth::grown(&stored_config, growth, text_tokens(dir, &stored_config)?)?,
            None => stored_config.clone(),
        };
        check(&config)?;
        let map = part.map(|own| cut(&config, own, (device, kind), purpose));
        let map = map.transpose()?;
        if map.is_none() {
            footprint::check(&config, device, kind, purpose)
                .map_err(|error| ModelError::checkpoint(&dir.join(CONFIG), error.to_string()))?;
        }
        let stored = StoredTensors::in_folder(dir)?;
        let source = source(&stored_config, &stored);
        fit::check(&slots(&stored_config), &stored, &source, &ignored(&stored_config))?;
        let mut rng = ChaCha8Rng::seed_from_u64(growth.map_or(0, |growth| growth.seed));
        let fill = |slot: &Slot, into: &mut Tensor| {
            let name = source(&slot.name);
            let old = stored.shape(&name).map_or(0, |shape| shape[0]);
            if old == slot.shape[0] {
                return stored.copy_to(&name, into);
            }
            stored.copy_to(&name, &mut into.f_narrow(0, 0, old)?)?;
            growth::fill(into, old, &mut rng)
        };
        let parameters = match map {
            None => Parameters::build(slots(&config), device, kind, purpose, fill)?,
            Some(map) => Parameters::build_part(slots(&config), device, kind, (map, purpose), fill)?,
        };
        Self::assemble(config, parameters, device, kind)
    }

    /// Reads a folder as the frozen base of an adapter, with the blocks' linear layers in the given format. With `part`,
    /// only this rank's shard is kept of a base that is not quantised.
    ///
    /// # Errors
    /// Returns the errors of [`Self::load`].
    pub fn load_frozen(
        dir: &Path,
        (device, kind): (Device, Kind),
        form: FrozenBase,
        part: Option<RankOf>,
    ) -> Result<Self> {
        if !form.is_quantized() {
            return Self::load_grown(dir, (device, kind), Purpose::Sample, None, part);
        }
        let config = read_config(dir)?;
        check(&config)?;
        footprint::check_frozen(&config, device, kind, form)
            .map_err(|error| ModelError::checkpoint(&dir.join(CONFIG), error.to_string()))?;
        let stored = StoredTensors::in_folder(dir)?;
        let source = source(&config, &stored);
        fit::check(&slots(&config), &stored, &source, &ignored(&config))?;
        let fill = |slot: &Slot, into: &mut Tensor| stored.copy_to(&source(&slot.name), into);
        Self::over_quantized(&config, (device, kind), form, fill)
    }

    /// Builds a frozen base whose blocks' linear layers are quantised one after another. `fill` writes the values of a
    /// slot.
    fn over_quantized(
        config: &BackboneConfig,
        (device, kind): (Device, Kind),
        form: FrozenBase,
        mut fill: impl FnMut(&Slot, &mut Tensor) -> Result<()>,
    ) -> Result<Self> {
        let (layers, others): (Vec<Slot>, Vec<Slot>) = slots(config).into_iter().partition(is_block_layer);
        let quantized = QuantizedLeaves::build(&layers, form, (device, kind), &mut fill)?;
        let parameters = Parameters::build(others, device, kind, Purpose::Sample, fill)?;
        let mut backbone = Self::assemble(config.clone(), parameters, device, kind)?;
        backbone.quantized = quantized;
        Ok(backbone)
    }
}

/// Fills a slot on its device: matrices with normal numbers whose products keep their size, vectors with ones.
fn at_random(config: &BackboneConfig, slot: &Slot, into: &mut Tensor) -> Result<()> {
    let _ = match slot.shape.len() {
        1 => into.f_fill_(1.0)?,
        _ => into.f_normal_(0.0, 1.0 / (config.d_model as f64).sqrt())?,
    };
    Ok(())
}

/// Computes which rank owns which of the network's weights if every group is sharded.
fn cut(config: &BackboneConfig, own: RankOf, place: (Device, Kind), purpose: Purpose) -> Result<ShardMap> {
    footprint::check_part(config, place, purpose, own.size)?;
    Ok(ShardMap::of_groups(&groups(&slots(config)), own))
}
