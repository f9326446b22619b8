//! Scorers of picture understanding.

mod answers;
mod gqa;
mod mmada;
mod mmbench;
mod mme;
mod mmmu;
pub(crate) mod mmmu_domains;
mod options;
mod pope;
pub(crate) mod prompts;
mod seed;
mod vqav2;

use super::{OfficialScorer, official};

/// The scorers of this folder.
pub const SCORERS: &[OfficialScorer] = &[
    OfficialScorer {
        family: "pope",
        name: "pope.answer",
        official: official::POPE,
        about: "yes or no out of a reply",
        verdict: pope::answer,
    },
    OfficialScorer {
        family: "pope",
        name: "pope.set",
        official: official::POPE,
        about: "accuracy, precision, recall, F1, share of yes of a run",
        verdict: pope::set,
    },
    OfficialScorer {
        family: "pope",
        name: "pope.merged_set",
        official: official::POPE,
        about: "the same where a row belongs to several splits",
        verdict: pope::merged,
    },
    OfficialScorer {
        family: "mme",
        name: "mme.answer",
        official: official::MME,
        about: "yes or no out of a reply",
        verdict: mme::answer,
    },
    OfficialScorer {
        family: "mme",
        name: "mme.set",
        official: official::MME,
        about: "the fourteen tasks' scores, perception, cognition",
        verdict: mme::set,
    },
    OfficialScorer {
        family: "vqav2",
        name: "vqav2.pair",
        official: official::VQA,
        about: "an answer against ten people's",
        verdict: vqav2::pair,
    },
    OfficialScorer {
        family: "vqav2",
        name: "vqav2.set",
        official: official::VQA,
        about: "a run, by type of question and of answer",
        verdict: vqav2::set,
    },
    OfficialScorer {
        family: "gqa",
        name: "gqa.pair",
        official: official::GQA,
        about: "an answer against the gold",
        verdict: gqa::pair,
    },
    OfficialScorer {
        family: "gqa",
        name: "gqa.set",
        official: official::GQA,
        about: "a run: accuracy, consistency, validity, plausibility, distribution",
        verdict: gqa::set,
    },
    OfficialScorer {
        family: "mmmu",
        name: "mmmu.choice",
        official: official::MMMU,
        about: "a letter out of a reply",
        verdict: mmmu::choice,
    },
    OfficialScorer {
        family: "mmmu",
        name: "mmmu.open",
        official: official::MMMU,
        about: "an open answer against the gold",
        verdict: mmmu::open,
    },
    OfficialScorer {
        family: "mmmu",
        name: "mmmu.numbers",
        official: official::MMMU,
        about: "the numbers in a text",
        verdict: mmmu::numbers,
    },
    OfficialScorer {
        family: "mmmu",
        name: "mmmu.normalise",
        official: official::MMMU,
        about: "a text as it is compared",
        verdict: mmmu::normalised,
    },
    OfficialScorer {
        family: "mmmu",
        name: "mmmu.aggregate",
        official: official::MMMU,
        about: "a run, by subject and domain",
        verdict: mmmu_domains::aggregate,
    },
    OfficialScorer {
        family: "mmbench",
        name: "mmbench.can_infer",
        official: official::MMBENCH,
        about: "an option out of a reply",
        verdict: mmbench::can_infer,
    },
    OfficialScorer {
        family: "mmbench",
        name: "mmbench.circular",
        official: official::MMBENCH,
        about: "a run in which every rotation must be right",
        verdict: mmbench::circular,
    },
    OfficialScorer {
        family: "mmbench",
        name: "mmbench.circularise",
        official: official::MMBENCH,
        about: "a table with all rotations of its options",
        verdict: mmbench::circularise,
    },
    OfficialScorer {
        family: "seed",
        name: "seed.answer",
        official: official::SEED,
        about: "an option out of a reply",
        verdict: seed::answer,
    },
    OfficialScorer {
        family: "seed",
        name: "seed.prompt",
        official: official::SEED,
        about: "lmms-eval's prompts of a question",
        verdict: seed::prompt,
    },
    OfficialScorer {
        family: "seed",
        name: "seed.ranking",
        official: official::SEED,
        about: "the choice of least loss",
        verdict: seed::ranking,
    },
    OfficialScorer {
        family: "seed",
        name: "seed.set",
        official: official::SEED,
        about: "a run, by dimension",
        verdict: seed::set,
    },
    OfficialScorer {
        family: "understanding-prompts",
        name: "understanding-prompts.prompt",
        official: official::PROMPTS,
        about: "a row's prompt by MMaDA and VLMEvalKit",
        verdict: prompts::prompt,
    },
    OfficialScorer {
        family: "understanding-prompts",
        name: "understanding-prompts.judge_choice",
        official: official::PROMPTS,
        about: "the judge's prompt for options",
        verdict: prompts::judge_choice,
    },
    OfficialScorer {
        family: "understanding-prompts",
        name: "understanding-prompts.judge_yes_no",
        official: official::PROMPTS,
        about: "the judge's prompt for yes and no",
        verdict: prompts::judge_yes_or_no,
    },
];
