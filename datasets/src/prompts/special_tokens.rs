//! The special tokens by role, and where each family of models keeps them.
//!
//! A role's id is what `config.json` states (mask and end), else that of the token which the tokenizer has under one of
//! the family's names, else the family's published id. Only for our own tokenizers is a missing one added.

use serde::{Deserialize, Serialize};

/// Roles, in the order of [`SpecialTokens`]' fields.
pub(crate) const ROLES: usize = 12;

/// Our names.
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
/// LLaDA's: MMaDA's tasks and picture marks have reserved tokens (`mmada.md` 2.1).
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

/// Whose conventions a checkpoint follows: tokens, chat markup, padding, how reasoning is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// Ours: what our own runs train.
    #[default]
    Tabletop,
    /// LLaDA as published: text alone.
    Llada,
    /// MMaDA as published.
    Mmada,
}

impl Family {
    /// The names of each role's token, the likeliest first.
    #[must_use]
    pub(crate) fn names(self) -> [[&'static str; 2]; ROLES] {
        let both = |at: usize| match self {
            Self::Tabletop => [OURS[at], LLADAS[at]],
            Self::Llada | Self::Mmada => [LLADAS[at], OURS[at]],
        };
        std::array::from_fn(both)
    }

    /// The published ids; none where tokens are added as they are needed.
    #[must_use]
    pub(crate) const fn published_ids(self) -> Option<SpecialTokens> {
        match self {
            Self::Tabletop => None,
            Self::Llada | Self::Mmada => Some(SpecialTokens::LLADA),
        }
    }

    /// Whether a role's token must exist: LLaDA knows no pictures, so that its tokens for them are never used.
    pub(crate) const fn needs(self, role: usize) -> bool {
        !matches!(self, Self::Llada) || !matches!(role, 2..=7)
    }
}

/// The ids of the special tokens, by role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpecialTokens {
    /// Begins every text (`<|sot|>` is the same).
    pub bos: u32,
    /// Ends a text and fills it up.
    pub eos: u32,
    /// Start of a picture.
    pub soi: u32,
    /// End of a picture.
    pub eoi: u32,
    /// The task: text to picture.
    pub t2i: u32,
    /// The task: picture and text to text.
    pub mmu: u32,
    /// The task: reasoning, then a picture.
    pub r2i: u32,
    /// Left padding.
    pub pad: u32,
    /// A masked token.
    pub mask: u32,
    /// Begins a role's name in a chat.
    pub start_header: u32,
    /// Ends it.
    pub end_header: u32,
    /// Ends a turn.
    pub eot: u32,
}

impl SpecialTokens {
    /// LLaDA's reserved ids, as MMaDA uses them.
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

    /// By role.
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

    /// By role.
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

/// What a `config.json` states of special tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stated {
    /// `mask_token_id`.
    pub mask: Option<u32>,
    /// `eos_token_id`.
    pub eos: Option<u32>,
}

impl Stated {
    /// The id stated for a role and the field that states it.
    pub(crate) fn of(&self, role: usize) -> Option<(u32, &'static str)> {
        match role {
            1 => self.eos.map(|id| (id, "eos_token_id")),
            8 => self.mask.map(|id| (id, "mask_token_id")),
            _ => None,
        }
    }
}
