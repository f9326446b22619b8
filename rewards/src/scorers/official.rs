//! The published tools that the scorers reproduce, with their versions.

/// EleutherAI's evaluation harness.
pub const LM_EVAL: &str = "lm-eval 0.4.8 (LLaDA's pin)";
/// OpenCompass as LLaDA vendors it.
pub const OPENCOMPASS: &str = "OpenCompass in ML-GSAI/LLaDA b7e6c3f";
/// CPython's random number generator.
pub const PYTHON: &str = "CPython 3.11 random";
/// MATH's graders.
pub const MATH: &str = "lm-eval 0.4.8 and 4e7e0d4, sympy 1.13.3, math-verify 0.8.0, OpenCompass";
/// GenEval.
pub const GENEVAL: &str = "djghosh13/geneval af4902f";
/// WISE.
pub const WISE: &str = "PKU-YuanGroup/WISE eb51174";
/// POPE.
pub const POPE: &str = "RUCAIBox/POPE 3df3ba1, VLMEvalKit, lmms-eval";
/// MME.
pub const MME: &str = "MME eval_tool dd29509, VLMEvalKit, lmms-eval";
/// VQAv2.
pub const VQA: &str = "GT-Vision-Lab/VQA a013f00, VLMEvalKit, lmms-eval, LLaVA";
/// GQA.
pub const GQA: &str = "GQA eval.py 1.2, LLaVA c121f04, lmms-eval, VLMEvalKit";
/// MMMU.
pub const MMMU: &str = "MMMU-Benchmark/MMMU bb0b95a, lmms-eval 75571cf";
/// MMBench.
pub const MMBENCH: &str = "VLMEvalKit e8e78f0 and MMaDA's copy 3cdb870, lmms-eval";
/// SEED-Bench.
pub const SEED: &str = "AILab-CVC/SEED-Bench 991e849, LLaVA c121f04, lmms-eval, VLMEvalKit";
/// Captions.
pub const CAPTIONS: &str = "pycocoevalcap 1.2, Stanford CoreNLP 3.4.1";
/// Prompts of the understanding benchmarks.
pub const PROMPTS: &str = "Gen-Verse/MMaDA 3cdb870, VLMEvalKit e8e78f0";
