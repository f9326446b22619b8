//! Text-to-image scorers: GenEval and WISE.

mod classes;
mod geneval;
mod geneval_summary;
mod python_json;
mod wise;
mod wise_summary;

use super::{OfficialScorer, official};

/// The scorers of this folder.
pub const SCORERS: &[OfficialScorer] = &[
    OfficialScorer {
        family: "geneval",
        name: "geneval",
        official: official::GENEVAL,
        about: "a picture's detections and colours against its prompt",
        verdict: geneval::verdict,
    },
    OfficialScorer {
        family: "geneval",
        name: "geneval_summary",
        official: official::GENEVAL,
        about: "the summary of all pictures, as printed",
        verdict: geneval_summary::verdict,
    },
    OfficialScorer {
        family: "wise",
        name: "wise",
        official: official::WISE,
        about: "the legacy judge's three scores and WiScore",
        verdict: wise::legacy,
    },
    OfficialScorer {
        family: "wise",
        name: "wise_verified",
        official: official::WISE,
        about: "the verified judge's score",
        verdict: wise::verified,
    },
    OfficialScorer {
        family: "wise",
        name: "wise_summary",
        official: official::WISE,
        about: "the legacy report, as printed",
        verdict: wise_summary::legacy,
    },
    OfficialScorer {
        family: "wise",
        name: "wise_verified_summary",
        official: official::WISE,
        about: "the verified report, as printed",
        verdict: wise_summary::verified,
    },
    OfficialScorer {
        family: "wise",
        name: "wise_segment",
        official: official::WISE,
        about: "how the legacy script reads lines of scores",
        verdict: wise_summary::segment,
    },
];
