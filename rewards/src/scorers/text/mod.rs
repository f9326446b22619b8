//! Scorers of text: arithmetic, mathematics, letters, likelihoods, and the draws of few-shot examples.

mod choices;
mod fewshot;
mod first_option;
mod gsm8k;
mod letters;
mod math;

use super::{Scorer, official};

/// The scorers of this folder.
pub const SCORERS: &[Scorer] = &[
    Scorer {
        family: "gsm8k",
        name: "gsm8k",
        official: official::LM_EVAL,
        about: "GSM8K: strict and flexible extraction, exact match; OpenCompass",
        verdict: gsm8k::verdict,
    },
    Scorer {
        family: "math",
        name: "math.answer",
        official: official::MATH,
        about: "a bare final answer by four graders",
        verdict: math::answer,
    },
    Scorer {
        family: "math",
        name: "math.completion",
        official: official::MATH,
        about: "a whole output against a solution",
        verdict: math::completion,
    },
    Scorer {
        family: "choices",
        name: "arc_challenge",
        official: official::LM_EVAL,
        about: "ARC from log-likelihoods: acc, acc_norm",
        verdict: choices::arc,
    },
    Scorer {
        family: "choices",
        name: "mmlu",
        official: official::LM_EVAL,
        about: "MMLU from log-likelihoods: acc",
        verdict: choices::mmlu,
    },
    Scorer {
        family: "choices",
        name: "gpqa_n_shot",
        official: official::LM_EVAL,
        about: "GPQA from log-likelihoods: acc, acc_norm",
        verdict: choices::gpqa,
    },
    Scorer {
        family: "choices",
        name: "truthfulqa_mc1",
        official: official::LM_EVAL,
        about: "TruthfulQA from log-likelihoods, one right answer",
        verdict: choices::truthful_one,
    },
    Scorer {
        family: "choices",
        name: "truthfulqa_mc2",
        official: official::LM_EVAL,
        about: "TruthfulQA from log-likelihoods, several right answers",
        verdict: choices::truthful_many,
    },
    Scorer {
        family: "choices",
        name: "group",
        official: official::LM_EVAL,
        about: "means and standard errors of a group of subtasks",
        verdict: choices::group,
    },
    Scorer {
        family: "letters",
        name: "gpqa_generative",
        official: official::LM_EVAL,
        about: "GPQA's letter out of a generated answer",
        verdict: letters::gpqa,
    },
    Scorer {
        family: "letters",
        name: "arc_challenge_chat",
        official: official::LM_EVAL,
        about: "ARC's letter out of a chat answer",
        verdict: letters::arc,
    },
    Scorer {
        family: "letters",
        name: "opencompass_first_option",
        official: official::OPENCOMPASS,
        about: "the first option letter, for MMLU and ARC of instruct models",
        verdict: first_option::verdict,
    },
    Scorer {
        family: "letters",
        name: "gpqa_preprocess",
        official: official::LM_EVAL,
        about: "GPQA's clean-up of questions and choices",
        verdict: letters::preprocess,
    },
    Scorer {
        family: "fewshot",
        name: "fewshot_gsm8k",
        official: official::PYTHON,
        about: "the rows shown before a GSM8K question",
        verdict: fewshot::gsm8k,
    },
    Scorer {
        family: "fewshot",
        name: "gpqa_shuffle_rng42",
        official: official::PYTHON,
        about: "the order of a GPQA row's choices in lm-eval",
        verdict: fewshot::gpqa,
    },
    Scorer {
        family: "fewshot",
        name: "gpqa_shuffle_opencompass_seed0",
        official: official::PYTHON,
        about: "the order of a GPQA row's choices in OpenCompass",
        verdict: fewshot::gpqa_opencompass,
    },
];
