//! Scorers of text to image: GenEval's decisions and WISE's.

mod classes;
mod geneval;
mod geneval_summary;
mod wise;
mod wise_summary;

use super::{Scorer, official};

/// The scorers of this folder.
pub const SCORERS: &[Scorer] = &[
    Scorer {
        family: "geneval",
        name: "geneval",
        official: official::GENEVAL,
        about: "a picture's detections and colours against its prompt",
        verdict: geneval::verdict,
    },
    Scorer {
        family: "geneval",
        name: "geneval_summary",
        official: official::GENEVAL,
        about: "the summary of all pictures, as printed",
        verdict: geneval_summary::verdict,
    },
    Scorer {
        family: "wise",
        name: "wise",
        official: official::WISE,
        about: "the legacy judge's three scores and WiScore",
        verdict: wise::legacy,
    },
    Scorer {
        family: "wise",
        name: "wise_verified",
        official: official::WISE,
        about: "the verified judge's score",
        verdict: wise::verified,
    },
    Scorer {
        family: "wise",
        name: "wise_summary",
        official: official::WISE,
        about: "the legacy report, as printed",
        verdict: wise_summary::legacy,
    },
    Scorer {
        family: "wise",
        name: "wise_verified_summary",
        official: official::WISE,
        about: "the verified report, as printed",
        verdict: wise_summary::verified,
    },
    Scorer {
        family: "wise",
        name: "wise_segment",
        official: official::WISE,
        about: "how the legacy script reads lines of scores",
        verdict: wise_summary::segment,
    },
];
