//! Reward networks: models that say how good a picture is for a text. Computed here, asked for through `demask-api`;
//! what their number means is decided in `demask-rewards`.
//!
//! - `clip.rs`: CLIP, how near a picture and a text are;
//! - `image_reward.rs`: ImageReward, how well people would like the picture for the text;
//! - `frozen.rs`: weights of a network that is only asked, and the layers that read them;
//! - `recorded.rs`: both against recorded tensors;
//! - `scoring.rs`: pictures and texts to scores; `texts.rs`: a network's tokenizer; `pixels.rs`: its preprocessing;
//!   `resample.rs`: Pillow's resizing, to the bit.

mod clip;
mod frozen;
mod image_reward;
mod pixels;
mod recorded;
mod resample;
mod scoring;
mod texts;

pub use clip::{Activation, Clip, ClipConfig};
pub use image_reward::{ImageRewardConfig, ImageRewardNetwork};
pub use recorded::{verify_clip, verify_image_reward};
pub use scoring::RewardNetworks;

/// The file that describes ImageReward's text encoder, published beside its weights; stands in for `config.json`.
pub const MED_CONFIG: &str = "med_config.json";

/// Which reward network a folder's `config.json` describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RewardKind {
    /// [`Clip`].
    Clip,
    /// [`ImageRewardNetwork`].
    ImageReward,
}

impl RewardKind {
    /// The kind of a configuration; none when it is that of something else.
    #[must_use]
    pub fn of(config: &serde_json::Value) -> Option<Self> {
        let has = |key: &str| config.get(key).is_some_and(serde_json::Value::is_object);
        if has("text_config") && has("vision_config") {
            return Some(Self::Clip);
        }
        (has("text") && has("vision")).then_some(Self::ImageReward)
    }
}
