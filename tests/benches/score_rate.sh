#!/usr/bin/env bash
# Scoring against the published tools in Python, in one run: VQAv2 200,000 answers, captions of 31,014 pictures (CIDEr, BLEU, ROUGE-L with the
# tokenizer in Java), MATH 5,000, MMMU 900 replies and a hundred times as many. The whole command of ours, start, reading and
# writing included, against the scoring alone of theirs, imports left out:
#
#   tests/benches/score_rate.sh [TIMES, default 3] [captions|math|mmmu|vqav2 …]
#
# $PYTHON (default python3) needs pycocoevalcap, math-verify, lm_eval and lmms_eval (the last two without what they depend on:
# `pip install --no-deps`), antlr4-python3-runtime 4.11, sympy; Java for the captions. What is not there is told and left out.
set -euo pipefail
cd "$(dirname "$0")/../.."
[ -n "${DEMASK:-}" ] || cargo build --release --quiet --locked --workspace --bins
exec "${PYTHON:-python3}" tests/benches/score_rate.py "${DEMASK:-target/release/demask}" "$@"
