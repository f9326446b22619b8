//! Reward networks: pretrained models that score how well a picture fits a text. They are never trained here.
//!
//! - `clip.rs`: CLIP, the similarity of a picture and a text;
//! - `image_reward.rs`: ImageReward, how much people would prefer the picture for the text;
//! - `frozen.rs`: the weights of a network that is not trained, and the layers that use them;
//! - `recorded.rs`: the comparison of both networks with recorded tensors;
//! - `scoring.rs`: the scores of pictures for texts; `texts.rs`: the tokenizer of a network; `pixels.rs`: its
//!   preprocessing of pictures; `resample.rs`: Pillow's resizing, bit for bit.
//!
//! Not here: the requests and answers (`demask-api`), and what a score means (`demask-rewards`).

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

/// The file with the configuration of ImageReward's text encoder, published beside its weights. It is read if there is
/// no `config.json`.
pub const MED_CONFIG: &str = "med_config.json";

/// The reward network that a folder's `config.json` describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RewardKind {
    /// [`Clip`].
    Clip,
    /// [`ImageRewardNetwork`].
    ImageReward,
}

impl RewardKind {
    /// Returns the kind of a configuration, or `None` if it describes no reward network.
    #[must_use]
    pub fn of(config: &serde_json::Value) -> Option<Self> {
        let has = |key: &str| config.get(key).is_some_and(serde_json::Value::is_object);
        if has("text_config") && has("vision_config") {
            return Some(Self::Clip);
        }
        (has("text") && has("vision")).then_some(Self::ImageReward)
    }
}
