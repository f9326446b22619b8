//! The special tokens by role, and their names and ids in each model family.
//!
//! A role's id is the one stated by `config.json` (mask and end). Otherwise it is that of the tokenizer's token with
//! one of the family's names, otherwise the family's published id. Missing tokens are added to Demask's own tokenizers
//! only.

use serde::{Deserialize, Serialize};

/// The number of roles, in the order of [`SpecialTokens`]' fields.
pub(crate) const ROLES: usize = 12;

/// Demask's names by role.
const OURS: [&str; ROLES] = [
    "<|startoftext|>",
    "<|endoftext|>",
    "<|soi|>",
    "<|eoi|>",
    "<|t2i|>",
    "<|mmu|>",
    "<|r2i|>",
    "[iPAD]",
    "<|mdm_mask|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
];
/// LLaDA's names by role. MMaDA uses reserved tokens for its tasks and picture marks (`mmada.md` 2.1).
const LLADAS: [&str; ROLES] = [
    "<|startoftext|>",
    "<|endoftext|>",
    "<|reserved_token_0|>",
    "<|reserved_token_1|>",
    "<|reserved_token_4|>",
    "<|reserved_token_5|>",
    "<|reserved_token_10|>",
    "<|reserved_token_9|>",
    "<|mdm_mask|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
];

/// The model family whose conventions a checkpoint follows: tokens, chat markup, padding, and how reasoning is
/// requested.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// Models that Demask trains from scratch.
    #[default]
    Tabletop,
    /// LLaDA as published: text only.
    Llada,
    /// MMaDA as published.
    Mmada,
}

impl Family {
    /// Returns the names of each role's token, the likeliest first.
    #[must_use]
    pub(crate) fn names(self) -> [[&'static str; 2]; ROLES] {
        let both = |at: usize| match self {
            Self::Tabletop => [OURS[at], LLADAS[at]],
            Self::Llada | Self::Mmada => [LLADAS[at], OURS[at]],
        };
        std::array::from_fn(both)
    }

    /// Returns the published ids; `None` for the family whose missing tokens are added.
    #[must_use]
    pub(crate) const fn published_ids(self) -> Option<SpecialTokens> {
        match self {
            Self::Tabletop => None,
            Self::Llada | Self::Mmada => Some(SpecialTokens::LLADA),
        }
    }

    /// Whether the role's token must exist. LLaDA has no pictures, so their tokens are never used.
    pub(crate) const fn needs(self, role: usize) -> bool {
        !matches!(self, Self::Llada) || !matches!(role, 2..=7)
    }
}

/// The ids of the special tokens, by role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpecialTokens {
    /// Begins every text; `<|sot|>` is the same token.
    pub bos: u32,
    /// Ends a text and fills it up to its length.
    pub eos: u32,
    /// Start of a picture.
    pub soi: u32,
    /// End of a picture.
    pub eoi: u32,
    /// Task token: text to image.
    pub t2i: u32,
    /// Task token: picture and text to text.
    pub mmu: u32,
    /// Task token: reasoning, then a picture.
    pub r2i: u32,
    /// Left padding.
    pub pad: u32,
    /// A masked token.
    pub mask: u32,
    /// Begins the role's name in a chat.
    pub start_header: u32,
    /// Ends the role's name in a chat.
    pub end_header: u32,
    /// Ends a turn.
    pub eot: u32,
}

impl SpecialTokens {
    /// LLaDA's ids, with the reserved tokens as MMaDA uses them.
    pub const LLADA: Self = Self {
        bos: 126_080,
        eos: 126_081,
        soi: 126_084,
        eoi: 126_085,
        t2i: 126_088,
        mmu: 126_089,
        r2i: 126_094,
        pad: 126_093,
        mask: 126_336,
        start_header: 126_346,
        end_header: 126_347,
        eot: 126_348,
    };

    /// Makes the tokens of ids in the order of the roles.
    pub(crate) const fn from_ids(
        [
            bos,
            eos,
            soi,
            eoi,
            t2i,
            mmu,
            r2i,
            pad,
            mask,
            start_header,
            end_header,
            eot,
        ]: [u32; ROLES],
    ) -> Self {
        Self {
            bos,
            eos,
            soi,
            eoi,
            t2i,
            mmu,
            r2i,
            pad,
            mask,
            start_header,
            end_header,
            eot,
        }
    }

    /// Returns the ids in the order of the roles.
    pub(crate) const fn ids(&self) -> [u32; ROLES] {
        [
            self.bos,
            self.eos,
            self.soi,
            self.eoi,
            self.t2i,
            self.mmu,
            self.r2i,
            self.pad,
            self.mask,
            self.start_header,
            self.end_header,
            self.eot,
        ]
    }
}

/// The special tokens that a `config.json` states.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stated {
    /// `mask_token_id`.
    pub mask: Option<u32>,
    /// `eos_token_id`.
    pub eos: Option<u32>,
}

impl Stated {
    /// Returns the id stated for a role, with the name of the field.
    pub(crate) fn of(&self, role: usize) -> Option<(u32, &'static str)> {
        match role {
            1 => self.eos.map(|id| (id, "eos_token_id")),
            8 => self.mask.map(|id| (id, "mask_token_id")),
            _ => None,
        }
    }
}
