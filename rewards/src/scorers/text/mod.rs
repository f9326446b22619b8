//! Text scorers: arithmetic, mathematics, letters, likelihoods, and few-shot draws.

mod choices;
mod fewshot;
mod first_option;
mod gsm8k;
mod letters;
mod math;

use super::{OfficialScorer, official};

/// The scorers of this folder.
pub const SCORERS: &[OfficialScorer] = &[
    OfficialScorer {
        family: "gsm8k",
        name: "gsm8k",
        official: official::LM_EVAL,
        about: "GSM8K: strict and flexible extraction, exact match; OpenCompass",
        verdict: gsm8k::verdict,
    },
    OfficialScorer {
        family: "math",
        name: "math.answer",
        official: official::MATH,
        about: "a bare final answer by four graders",
        verdict: math::answer,
    },
    OfficialScorer {
        family: "math",
        name: "math.completion",
        official: official::MATH,
        about: "a whole output against a solution",
        verdict: math::completion,
    },
    OfficialScorer {
        family: "choices",
        name: "arc_challenge",
        official: official::LM_EVAL,
        about: "ARC from log-likelihoods: acc, acc_norm",
        verdict: choices::arc,
    },
    OfficialScorer {
        family: "choices",
        name: "mmlu",
        official: official::LM_EVAL,
        about: "MMLU from log-likelihoods: acc",
        verdict: choices::mmlu,
    },
    OfficialScorer {
        family: "choices",
        name: "gpqa_n_shot",
        official: official::LM_EVAL,
        about: "GPQA from log-likelihoods: acc, acc_norm",
        verdict: choices::gpqa,
    },
    OfficialScorer {
        family: "choices",
        name: "truthfulqa_mc1",
        official: official::LM_EVAL,
        about: "TruthfulQA from log-likelihoods, one right answer",
        verdict: choices::truthful_one,
    },
    OfficialScorer {
        family: "choices",
        name: "truthfulqa_mc2",
        official: official::LM_EVAL,
        about: "TruthfulQA from log-likelihoods, several right answers",
        verdict: choices::truthful_many,
    },
    OfficialScorer {
        family: "choices",
        name: "group",
        official: official::LM_EVAL,
        about: "means and standard errors of a group of subtasks",
        verdict: choices::group,
    },
    OfficialScorer {
        family: "letters",
        name: "gpqa_generative",
        official: official::LM_EVAL,
        about: "GPQA's letter out of a generated answer",
        verdict: letters::gpqa,
    },
    OfficialScorer {
        family: "letters",
        name: "arc_challenge_chat",
        official: official::LM_EVAL,
        about: "ARC's letter out of a chat answer",
        verdict: letters::arc,
    },
    OfficialScorer {
        family: "letters",
        name: "opencompass_first_option",
        official: official::OPENCOMPASS,
        about: "the first option letter, for MMLU and ARC of instruct models",
        verdict: first_option::verdict,
    },
    OfficialScorer {
        family: "letters",
        name: "gpqa_preprocess",
        official: official::LM_EVAL,
        about: "GPQA's clean-up of questions and choices",
        verdict: letters::preprocess,
    },
    OfficialScorer {
        family: "fewshot",
        name: "fewshot_gsm8k",
        official: official::PYTHON,
        about: "the rows shown before a GSM8K question",
        verdict: fewshot::gsm8k,
    },
    OfficialScorer {
        family: "fewshot",
        name: "gpqa_shuffle_rng42",
        official: official::PYTHON,
        about: "the order of a GPQA row's choices in lm-eval",
        verdict: fewshot::gpqa,
    },
    OfficialScorer {
        family: "fewshot",
        name: "gpqa_shuffle_opencompass_seed0",
        official: official::PYTHON,
        about: "the order of a GPQA row's choices in OpenCompass",
        verdict: fewshot::gpqa_opencompass,
    },
];
