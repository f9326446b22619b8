//! Checks that the networks of a profile can be built, and that pictures and budgets fit them.

use demask_api::sequence::Task;
use demask_api::{BackboneConfig, Growth, ImageTokenizerConfig, StackConfig, validation};
use demask_datasets::prompts::sequences::MARKS;

use super::wrong::{Wrong, wrong};
use super::{Profile, schema};

/// Side in pixels of the tabletop's pictures; `pixels` does not change it.
const TABLETOP_PIXELS: usize = 32;

impl Profile {
    pub(super) fn check_shapes(&self) -> Result<(), Wrong> {
        check_backbone(&self.model)?;
        if let Some(tokenizer) = &self.image_tokenizer {
            check_image_tokenizer(tokenizer)?;
            self.check_codes(tokenizer)?;
        }
        self.check_lengths()
    }

    /// Checks for every task that prompt, picture and answer together fit into a sequence.
    fn check_lengths(&self) -> Result<(), Wrong> {
        let longest = self.model.max_sequence_length;
        for (path, task) in TASKS {
            let budget = self.budgets.of(task);
            let picture = if budget.codes > 0 { budget.codes + MARKS } else { 0 };
            let length = budget.prompt + picture + budget.answer.max(budget.direct_answer); // each within its range
            if length > longest {
                let message = format!("takes {length} positions, but model.max_sequence_length is {longest}");
                return wrong(path, &message);
            }
        }
        Ok(())
    }

    /// Returns the side in pixels of the run's pictures.
    pub(crate) fn side(&self) -> usize {
        let reads = self.sources.iter().any(|source| source.kind.reads());
        if reads { self.pixels } else { TABLETOP_PIXELS }
    }

    /// Returns the number of codes per picture for a text model that grows to use an image tokenizer.
    pub(crate) fn codes_of_growth(
        &self,
        growth: &Growth,
        tokenizer: &ImageTokenizerConfig,
    ) -> Result<usize, Wrong> {
        let bits = u32::try_from(tokenizer.codebook_bits).unwrap_or(u32::MAX);
        let (found, expected) = (growth.codebook_size, 2usize.saturating_pow(bits));
        if found != expected {
            let message = format!("is {found}, but the image tokenizer has {expected} codes");
            return wrong("grow.codebook_size", &message);
        }
        self.codes(tokenizer)
    }

    /// Returns the number of codes that an image tokenizer makes of one picture.
    fn codes(&self, tokenizer: &ImageTokenizerConfig) -> Result<usize, Wrong> {
        let (side, shrinks) = (self.side(), tokenizer.downscale());
        if side.is_multiple_of(shrinks) {
            return Ok((side / shrinks).pow(2));
        }
        let message = format!("is {side}; the image tokenizer needs a multiple of {shrinks}");
        wrong("pixels", &message)
    }

    /// Checks that the budgets have room for exactly the codes that the image tokenizer makes of a picture.
    fn check_codes(&self, tokenizer: &ImageTokenizerConfig) -> Result<(), Wrong> {
        let (side, codes) = (self.side(), self.codes(tokenizer)?);
        for (path, task) in TASKS {
            let found = self.budgets.of(task).codes;
            if found != 0 && found != codes {
                let message = format!(
                    "is {found}, but the image tokenizer makes {codes} codes of a picture of {side} by {side} pixels"
                );
                return wrong(&format!("{path}.codes"), &message);
            }
        }
        Ok(())
    }
}

const TASKS: [(&str, Task); 4] = [
    ("budgets.text_to_image", Task::TextToImage),
    ("budgets.text", Task::Text),
    ("budgets.understand", Task::Understand),
    ("budgets.think_then_draw", Task::ThinkThenDraw),
];

fn check_backbone(model: &BackboneConfig) -> Result<(), Wrong> {
    let (width, heads, kv_heads) = (model.d_model, model.n_heads, model.kv_heads());
    schema::check_range("model.mlp_hidden_size", model.hidden() as f64)?;
    if !width.is_multiple_of(2 * heads) {
        let message = format!(
            "is {width}; expected a multiple of {} (heads of even width, n_heads {heads})",
            2 * heads
        );
        return wrong("model.d_model", &message);
    }
    if kv_heads == 0 || !heads.is_multiple_of(kv_heads) {
        let message = format!("is {kv_heads}; expected a divisor of n_heads {heads}");
        return wrong("model.n_kv_heads", &message);
    }
    Ok(())
}

fn check_image_tokenizer(tokenizer: &ImageTokenizerConfig) -> Result<(), Wrong> {
    validation::image_tokenizer(tokenizer).or_else(|error| {
        let message = format!("is {}; allowed is {}", error.found, error.allowed);
        wrong(&format!("image_tokenizer.{}", error.field), &message)
    })?;
    for (name, stack) in [("encoder", &tokenizer.encoder), ("decoder", &tokenizer.decoder)] {
        check_stack(&format!("image_tokenizer.{name}"), stack, tokenizer)?;
    }
    let (down, up) = (tokenizer.encoder.ch_mult.len(), tokenizer.decoder.ch_mult.len());
    if down != up {
        let message = format!("has {up} levels, but the encoder has {down}");
        return wrong("image_tokenizer.decoder.ch_mult", &message);
    }
    Ok(())
}

fn check_stack(path: &str, stack: &StackConfig, tokenizer: &ImageTokenizerConfig) -> Result<(), Wrong> {
    let at = |key: &str| format!("{path}.{key}");
    let (bits, groups) = (tokenizer.codebook_bits, tokenizer.norm_groups);
    if stack.num_res_blocks.len() != stack.ch_mult.len() {
        let (levels, blocks) = (stack.ch_mult.len(), stack.num_res_blocks.len());
        return wrong(
            &at("num_res_blocks"),
            &format!("has {blocks} numbers, but ch_mult has {levels} levels"),
        );
    }
    if stack.z_channels != bits {
        let message = format!(
            "is {}, but must equal codebook_bits, which is {bits}",
            stack.z_channels
        );
        return wrong(&at("z_channels"), &message);
    }
    let channels = stack.ch_mult.iter().map(|mult| stack.ch * mult);
    match channels
        .into_iter()
        .find(|&width| width == 0 || !width.is_multiple_of(groups))
    {
        None => Ok(()),
        Some(width) => {
            let message =
                format!("times ch is {width} channels; expected a multiple of norm_groups {groups}");
            wrong(&at("ch_mult"), &message)
        }
    }
}
