//! The image tokenizer: MAGVIT-v2 with look-up-free quantisation (`mmada.md` 7), trainable.
//!
//! - `stack.rs`: the encoder and the decoder, with their published parameter names;
//! - `quantizer.rs`: the conversion between signs and codes;
//! - `training.rs`: one training step, with reconstruction, commitment and entropy losses.
//!
//! Legend: B pictures, Z bits, R rows and C columns of the code grid, N = R x C codes, H height and W width in pixels.

#![allow(non_snake_case)]

mod quantizer;
mod stack;
mod training;

use std::collections::BTreeMap;
use std::path::Path;

use demask_api::{
    Grid, ImageTokenizerConfig, Picture, PictureSize, Purpose, TensorCheck, bounded_file, limits, validation,
};
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind, Tensor};

pub use quantizer::{codes_of, signs_of};
pub use training::{TokenizerTrainer, entropies};

use crate::error::{ModelError, Result};
use crate::weights::compare::{compare, compare_tokens};
use crate::weights::footprint;
use crate::weights::parameters::Parameters;
use crate::weights::slot::Slot;
use crate::weights::stored::StoredTensors;

/// The image tokenizer: its configuration and parameters. It always computes in f32, because rounding to bf16 would
/// flip the signs of latents near zero.
#[derive(Debug)]
pub struct ImageTokenizer {
    config: ImageTokenizerConfig,
    parameters: Parameters,
    device: Device,
}

impl ImageTokenizer {
    /// Creates a tokenizer with random weights from a seed.
    ///
    /// # Errors
    /// [`ModelError::Refused`] if the configuration is invalid or the weights do not fit into memory, or any error
    /// libtorch reports.
    pub fn fresh(config: &ImageTokenizerConfig, seed: u64, device: Device) -> Result<Self> {
        check(config)?;
        footprint::check_image_tokenizer(config, device)?;
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let slots = stack::slots(config);
        let fill = |slot: &Slot, into: &mut Tensor| Ok(into.f_copy_(&stack::initial(slot, &mut rng)?)?);
        let parameters = Parameters::build(slots, device, Kind::Float, Purpose::Train, fill)?;
        Ok(Self {
            config: config.clone(),
            parameters,
            device,
        })
    }

    /// Loads a folder for training: `config.json` and the weights.
    ///
    /// # Errors
    /// [`ModelError::Io`] if a file cannot be read. [`ModelError::Checkpoint`] if a file is broken or a tensor is
    /// missing, extra or misshapen. Any error libtorch reports.
    pub fn load(dir: &Path, device: Device) -> Result<Self> {
        Self::load_for(dir, device, Purpose::Train)
    }

    /// Loads a folder for training or for sampling.
    ///
    /// # Errors
    /// The errors of [`Self::load`].
    pub fn load_for(dir: &Path, device: Device, purpose: Purpose) -> Result<Self> {
        let path = dir.join(demask_api::checkpoint::CONFIG);
        let text = bounded_file::read_text(&path, limits::LONGEST_CONFIG)
            .map_err(|source| ModelError::io(&path, source))?;
        let config: ImageTokenizerConfig = serde_json::from_str(&text).map_err(|error| {
            ModelError::checkpoint(
                &path,
                format!("this is not the configuration of an image tokenizer: {error}"),
            )
        })?;
        let named = |error: ModelError| ModelError::checkpoint(&path, error.to_string());
        check(&config).map_err(named)?;
        footprint::check_image_tokenizer(&config, device).map_err(named)?;
        let stored = StoredTensors::in_folder(dir)?;
        // The published file contains constant tables of the quantiser, which follow from the number of bits.
        let ignored = ["quantize.embedding", "quantize.power_vals"];
        let (slots, kind) = (stack::slots(&config), Kind::Float);
        let parameters = Parameters::load(slots, &stored, str::to_owned, &ignored, device, kind, purpose)?;
        Ok(Self {
            config,
            parameters,
            device,
        })
    }

    /// Returns the configuration.
    #[must_use]
    pub fn config(&self) -> &ImageTokenizerConfig {
        &self.config
    }

    /// Returns the parameters.
    #[must_use]
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Encodes pixels in [-1, 1], [B, 3, H, W], to latents before the sign, [B, Z, R, C].
    ///
    /// # Errors
    /// Any error libtorch reports.
    pub fn latents(&self, pixels: &Tensor) -> Result<Tensor> {
        stack::encode(&self.config, &self.parameters, pixels)
    }

    /// Decodes latents after the sign, [B, Z, R, C], to pixels, [B, 3, H, W].
    ///
    /// # Errors
    /// Any error libtorch reports.
    pub fn pixels(&self, signs: &Tensor) -> Result<Tensor> {
        stack::decode(&self.config, &self.parameters, signs)
    }

    /// Encodes pictures of any sizes to codes, row by row. Pictures of the same size share a forward pass.
    ///
    /// # Errors
    /// [`ModelError::Refused`] if a side of a picture is not a multiple of the downscaling factor, or any error
    /// libtorch reports.
    pub fn encode(&self, pictures: &[Picture]) -> Result<Vec<Vec<u32>>> {
        self.check_sides(pictures)?;
        let mut by_size: BTreeMap<PictureSize, Vec<usize>> = BTreeMap::new();
        for (at, picture) in pictures.iter().enumerate() {
            by_size.entry(picture.size()).or_default().push(at);
        }
        let mut all = vec![Vec::new(); pictures.len()];
        for places in by_size.into_values() {
            let alike: Vec<Picture> = places.iter().map(|&at| pictures[at].clone()).collect();
            for (at, codes) in places.into_iter().zip(self.encode_alike(&alike)?) {
                all[at] = codes;
            }
        }
        Ok(all)
    }

    /// Encodes pictures of the same size.
    fn encode_alike(&self, pictures: &[Picture]) -> Result<Vec<Vec<u32>>> {
        let pixels = to_tensor(pictures, self.device)?;
        let latents = tch::no_grad(|| in_company(&pixels, |pixels| self.latents(pixels)))?;
        let codes_BN = codes_of(&latents)?;
        let flat: Vec<i64> = Vec::<i64>::try_from(codes_BN.f_to_device(Device::Cpu)?.f_reshape([-1])?)?;
        let each = flat.len() / pictures.len();
        Ok(flat
            .chunks(each.max(1))
            .map(|codes| codes.iter().map(|&code| code as u32).collect())
            .collect())
    }

    fn check_sides(&self, pictures: &[Picture]) -> Result<()> {
        let step = self.config.downscale();
        if let Some(bad) = pictures.iter().find(|p| {
            [p.width, p.height]
                .iter()
                .any(|&side| side == 0 || !side.is_multiple_of(step))
        }) {
            let message = format!(
                "the picture has {} x {} pixels; both sides must be multiples of {step}",
                bad.width, bad.height
            );
            return Err(ModelError::Refused(message));
        }
        Ok(())
    }

    /// Decodes codes, given row by row, to pictures. All pictures have the same grid; without one it is square.
    ///
    /// # Errors
    /// [`ModelError::Refused`] if the number of codes is not that of the grid or of a square, or a code is out of
    /// range; or any error libtorch reports.
    pub fn decode(&self, codes: &[Vec<u32>], grid: Option<Grid>) -> Result<Vec<Picture>> {
        let Some(first) = codes.first() else {
            return Ok(Vec::new());
        };
        let Some(grid) = grid.or_else(|| Grid::square(first.len())) else {
            let found = first.len();
            let message =
                format!("{found} picture codes do not form a square grid, and no other grid is given");
            return Err(ModelError::Refused(message));
        };
        if let Some(other) = codes.iter().find(|codes| codes.len() != grid.codes()) {
            let (expected, found) = (grid.codes(), other.len());
            let message = format!("found {found} picture codes, but the grid {grid} has {expected}");
            return Err(ModelError::Refused(message));
        }
        let limit = 1u32 << self.config.codebook_bits;
        if let Some(bad) = codes.iter().flatten().find(|&&code| code >= limit) {
            return Err(ModelError::Refused(format!(
                "found picture code {bad}, but the codebook has {limit} codes"
            )));
        }
        let flat: Vec<i64> = codes.iter().flatten().map(|&code| i64::from(code)).collect();
        let codes_BN = Tensor::f_from_slice(&flat)?
            .f_view([codes.len() as i64, -1])?
            .f_to_device(self.device)?;
        let (bits, shape) = (
            self.config.codebook_bits as i64,
            (grid.rows as i64, grid.columns as i64),
        );
        let signs = signs_of(&codes_BN, bits, shape)?;
        let pixels = tch::no_grad(|| in_company(&signs, |signs| self.pixels(signs)))?;
        to_pictures(&pixels)
    }
}

/// Computes a function of a batch, [B, ..], with at least two rows on a CPU. libtorch takes another convolution for one
/// row than for several, which rounds otherwise on some processors; so the result of a row would depend on whether it
/// came alone (L8).
fn in_company(batch: &Tensor, compute: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
    if batch.device() != Device::Cpu || batch.size()[0] != 1 {
        return compute(batch);
    }
    Ok(compute(&Tensor::f_cat(&[batch, batch], 0)?)?.f_narrow(0, 0, 1)?)
}

/// Converts pictures of the same size to pixels in [-1, 1], [B, 3, H, W].
///
/// # Errors
/// [`ModelError::Refused`] if the sizes differ, or any error libtorch reports.
pub fn to_tensor(pictures: &[Picture], device: Device) -> Result<Tensor> {
    let (width, height) = pictures
        .first()
        .map_or((0, 0), |picture| (picture.width, picture.height));
    if let Some(other) = pictures
        .iter()
        .find(|p| (p.width, p.height) != (width, height) || p.rgb.len() != 3 * width * height)
    {
        let message = format!(
            "a picture has {} x {} pixels, but others of the batch have {width} x {height}",
            other.width, other.height
        );
        return Err(ModelError::Refused(message));
    }
    let bytes: Vec<u8> = pictures
        .iter()
        .flat_map(|picture| picture.rgb.iter().copied())
        .collect();
    let shape = [pictures.len() as i64, height as i64, width as i64, 3];
    let pixels = Tensor::f_from_slice(&bytes)?
        .f_view(shape)?
        .f_to_device(device)?
        .f_permute([0, 3, 1, 2])?;
    Ok(pixels
        .f_to_kind(Kind::Float)?
        .f_div_scalar(127.5)?
        .f_sub_scalar(1.0)?
        .f_contiguous()?)
}

/// Converts pixels in [-1, 1] to pictures: clamps, then truncates (`mmada.md` 7.5).
///
/// # Errors
/// Any error libtorch reports.
pub fn to_pictures(pixels: &Tensor) -> Result<Vec<Picture>> {
    let (_, _, height, width) = pixels.size4()?;
    let bytes = pixels
        .f_add_scalar(1.0)?
        .f_mul_scalar(127.5)?
        .f_clamp(0.0, 255.0)?
        .f_to_kind(Kind::Uint8)?;
    let flat: Vec<u8> = Vec::<u8>::try_from(
        bytes
            .f_permute([0, 2, 3, 1])?
            .f_contiguous()?
            .f_to_device(Device::Cpu)?
            .f_reshape([-1])?,
    )?;
    let (width, height) = (width as usize, height as usize);
    Ok(flat
        .chunks(3 * width * height)
        .map(|rgb| Picture {
            width,
            height,
            rgb: rgb.to_vec(),
        })
        .collect())
}

/// Compares the outputs for recorded `pixels` with recorded `latents`, `codes` and `reconstruction`, as far as they are
/// there.
///
/// # Errors
/// [`ModelError::Refused`] if there are no recorded `pixels`, or any error libtorch reports.
pub fn verify(tokenizer: &ImageTokenizer, recorded: &BTreeMap<String, Tensor>) -> Result<Vec<TensorCheck>> {
    let mut checks = Vec::new();
    let Some(pixels) = recorded.get("pixels") else {
        return Err(ModelError::Refused(
            "the reference file lacks the tensor pixels, which the comparison of an image tokenizer needs"
                .into(),
        ));
    };
    tch::no_grad(|| {
        let latents = tokenizer.latents(&pixels.f_to_device(tokenizer.device)?)?;
        let codes = codes_of(&latents)?;
        if let Some(expected) = recorded.get("latents") {
            checks.push(compare("latents", &latents, expected)?);
        }
        if let Some(expected) = recorded.get("codes") {
            let found: Vec<i64> = Vec::<i64>::try_from(codes.f_to_device(Device::Cpu)?.f_reshape([-1])?)?;
            checks.push(compare_tokens("codes", &found, expected)?);
        }
        if let Some(expected) = recorded.get("reconstruction") {
            let (_, bits, rows, columns) = latents.size4()?;
            let signs = signs_of(&codes, bits, (rows, columns))?;
            checks.push(compare("reconstruction", &tokenizer.pixels(&signs)?, expected)?);
        }
        Ok(checks)
    })
}

fn check(config: &ImageTokenizerConfig) -> Result<()> {
    let refuse = |message: String| Err(ModelError::Refused(format!("image tokenizer: {message}")));
    if let Err(error) = validation::image_tokenizer(config) {
        return refuse(error.to_string());
    }
    for (name, half) in [("encoder", &config.encoder), ("decoder", &config.decoder)] {
        if half.ch_mult.is_empty() || half.ch_mult.len() != half.num_res_blocks.len() {
            let (levels, blocks) = (half.ch_mult.len(), half.num_res_blocks.len());
            return refuse(format!(
                "{name} has {levels} channel multiples for {blocks} numbers of blocks"
            ));
        }
        if half.z_channels != config.codebook_bits {
            return refuse(format!(
                "{name} has {} latent channels for {} bits",
                half.z_channels, config.codebook_bits
            ));
        }
        if let Some(mult) = half
            .ch_mult
            .iter()
            .find(|&&mult| !(half.ch * mult).is_multiple_of(config.norm_groups))
        {
            let channels = half.ch * mult;
            return refuse(format!(
                "{name}: {channels} channels are not a multiple of {} norm groups",
                config.norm_groups
            ));
        }
    }
    Ok(())
}
