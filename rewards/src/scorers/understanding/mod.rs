//! Scorers of picture understanding.

mod answers;
mod gqa;
mod mmada;
mod mmbench;
mod mme;
mod mmmu;
mod mmmu_domains;
mod options;
mod pope;
pub(crate) mod prompts;
mod seed;
mod vqav2;

use super::{Scorer, official};

/// The scorers of this folder.
pub const SCORERS: &[Scorer] = &[
    Scorer {
        family: "pope",
        name: "pope.answer",
        official: official::POPE,
        about: "yes or no out of a reply",
        verdict: pope::answer,
    },
    Scorer {
        family: "pope",
        name: "pope.set",
        official: official::POPE,
        about: "accuracy, precision, recall, F1, share of yes of a run",
        verdict: pope::set,
    },
    Scorer {
        family: "pope",
        name: "pope.merged_set",
        official: official::POPE,
        about: "the same where a row belongs to several splits",
        verdict: pope::merged,
    },
    Scorer {
        family: "mme",
        name: "mme.answer",
        official: official::MME,
        about: "yes or no out of a reply",
        verdict: mme::answer,
    },
    Scorer {
        family: "mme",
        name: "mme.set",
        official: official::MME,
        about: "the fourteen tasks' scores, perception, cognition",
        verdict: mme::set,
    },
    Scorer {
        family: "vqav2",
        name: "vqav2.pair",
        official: official::VQA,
        about: "an answer against ten people's",
        verdict: vqav2::pair,
    },
    Scorer {
        family: "vqav2",
        name: "vqav2.set",
        official: official::VQA,
        about: "a run, by type of question and of answer",
        verdict: vqav2::set,
    },
    Scorer {
        family: "gqa",
        name: "gqa.pair",
        official: official::GQA,
        about: "an answer against the gold",
        verdict: gqa::pair,
    },
    Scorer {
        family: "gqa",
        name: "gqa.set",
        official: official::GQA,
        about: "a run: accuracy, consistency, validity, plausibility, distribution",
        verdict: gqa::set,
    },
    Scorer {
        family: "mmmu",
        name: "mmmu.choice",
        official: official::MMMU,
        about: "a letter out of a reply",
        verdict: mmmu::choice,
    },
    Scorer {
        family: "mmmu",
        name: "mmmu.open",
        official: official::MMMU,
        about: "an open answer against the gold",
        verdict: mmmu::open,
    },
    Scorer {
        family: "mmmu",
        name: "mmmu.numbers",
        official: official::MMMU,
        about: "the numbers in a text",
        verdict: mmmu::numbers,
    },
    Scorer {
        family: "mmmu",
        name: "mmmu.normalise",
        official: official::MMMU,
        about: "a text as it is compared",
        verdict: mmmu::normalised,
    },
    Scorer {
        family: "mmmu",
        name: "mmmu.aggregate",
        official: official::MMMU,
        about: "a run, by subject and domain",
        verdict: mmmu::aggregate,
    },
    Scorer {
        family: "mmbench",
        name: "mmbench.can_infer",
        official: official::MMBENCH,
        about: "an option out of a reply",
        verdict: mmbench::can_infer,
    },
    Scorer {
        family: "mmbench",
        name: "mmbench.circular",
        official: official::MMBENCH,
        about: "a run in which every rotation must be right",
        verdict: mmbench::circular,
    },
    Scorer {
        family: "mmbench",
        name: "mmbench.circularise",
        official: official::MMBENCH,
        about: "a table with all rotations of its options",
        verdict: mmbench::circularise,
    },
    Scorer {
        family: "seed",
        name: "seed.answer",
        official: official::SEED,
        about: "an option out of a reply",
        verdict: seed::answer,
    },
    Scorer {
        family: "seed",
        name: "seed.prompt",
        official: official::SEED,
        about: "lmms-eval's prompts of a question",
        verdict: seed::prompt,
    },
    Scorer {
        family: "seed",
        name: "seed.ranking",
        official: official::SEED,
        about: "the choice of least loss",
        verdict: seed::ranking,
    },
    Scorer {
        family: "seed",
        name: "seed.set",
        official: official::SEED,
        about: "a run, by dimension",
        verdict: seed::set,
    },
    Scorer {
        family: "understanding-prompts",
        name: "understanding-prompts.prompt",
        official: official::PROMPTS,
        about: "a row's prompt by MMaDA and VLMEvalKit",
        verdict: prompts::prompt,
    },
    Scorer {
        family: "understanding-prompts",
        name: "understanding-prompts.judge_choice",
        official: official::PROMPTS,
        about: "the judge's prompt for options",
        verdict: prompts::judge_choice,
    },
    Scorer {
        family: "understanding-prompts",
        name: "understanding-prompts.judge_yes_no",
        official: official::PROMPTS,
        about: "the judge's prompt for yes and no",
        verdict: prompts::judge_yes_or_no,
    },
];
