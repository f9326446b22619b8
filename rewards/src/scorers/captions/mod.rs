//! Caption scorers: the tokenizer, CIDEr, BLEU, ROUGE-L.

mod abbreviations;
mod batch;
mod corpus;
mod overlap;
mod runs;
mod tokens;
mod vocabulary;

use super::{OfficialScorer, official};

/// The scorers of this folder.
pub const SCORERS: &[OfficialScorer] = &[
    OfficialScorer {
        family: "flickr30k",
        name: "flickr30k.tokenise",
        official: official::CAPTIONS,
        about: "a caption's tokens",
        verdict: tokens::tokenise,
    },
    OfficialScorer {
        family: "flickr30k",
        name: "flickr30k.corpus",
        official: official::CAPTIONS,
        about: "BLEU, ROUGE-L and CIDEr of a set of captions",
        verdict: corpus::corpus,
    },
];
