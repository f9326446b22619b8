//! The published tools that the scorers reproduce, with their versions.

/// EleutherAI's evaluation harness.
pub const LM_EVAL: &str = "lm-eval 0.4.8 (LLaDA's pin)";
/// OpenCompass as LLaDA vendors it.
pub const OPENCOMPASS: &str = "OpenCompass in ML-GSAI/LLaDA b7e6c3f";
/// CPython's random number generator.
pub const PYTHON: &str = "CPython 3.11 random";
/// MATH's graders.
pub const MATH: &str = "lm-eval 0.4.8 and 4e7e0d4, sympy 1.13.3, math-verify 0.8.0, OpenCompass";
/// The sources of GenEval's scoring.
pub const GENEVAL: &str = "djghosh13/geneval af4902f";
/// The sources of WISE's scoring.
pub const WISE: &str = "PKU-YuanGroup/WISE eb51174";
/// The sources of POPE's scoring.
pub const POPE: &str = "RUCAIBox/POPE 3df3ba1, VLMEvalKit, lmms-eval";
/// The sources of MME's scoring.
pub const MME: &str = "MME eval_tool dd29509, VLMEvalKit, lmms-eval";
/// The sources of VQAv2's scoring.
pub const VQA: &str = "GT-Vision-Lab/VQA a013f00, VLMEvalKit, lmms-eval, LLaVA";
/// The sources of GQA's scoring.
pub const GQA: &str = "GQA eval.py 1.2, LLaVA c121f04, lmms-eval, VLMEvalKit";
/// The sources of MMMU's scoring.
pub const MMMU: &str = "MMMU-Benchmark/MMMU bb0b95a, lmms-eval 75571cf";
/// The sources of MMBench's scoring.
pub const MMBENCH: &str = "VLMEvalKit e8e78f0 and MMaDA's copy 3cdb870, lmms-eval";
/// The sources of SEED-Bench's scoring.
pub const SEED: &str = "AILab-CVC/SEED-Bench 991e849, LLaVA c121f04, lmms-eval, VLMEvalKit";
/// The sources of the caption metrics.
pub const CAPTIONS: &str = "pycocoevalcap 1.2, Stanford CoreNLP 3.4.1";
/// The sources of the prompts of the understanding benchmarks.
pub const PROMPTS: &str = "Gen-Verse/MMaDA 3cdb870, VLMEvalKit e8e78f0";
