#!/usr/bin/env bash
# Compares the speed of scoring with that of the published tools in Python: 200,000 answers of VQAv2, captions of
# 31,014 pictures (CIDEr, BLEU, ROUGE-L with the tokenizer in Java), 5,000 answers of MATH, 900 replies of MMMU and a
# hundred times as many. Demask's time is that of the whole command with start, reading and writing; theirs is the
# scoring alone, without imports.
#
#   tests/benches/score_rate.sh [TIMES, default 3] [captions|math|mmmu|vqav2 …]
#
# $PYTHON (default python3) needs pycocoevalcap, math-verify, lm_eval and lmms_eval (the last two without their
# dependencies: `pip install --no-deps`), antlr4-python3-runtime 4.11 and sympy; the captions need Java. A missing tool
# is reported and skipped.
set -euo pipefail
cd "$(dirname "$0")/../.."
[ -n "${DEMASK:-}" ] || cargo build --release --quiet --locked --workspace --bins
exec "${PYTHON:-python3}" tests/benches/score_rate.py "${DEMASK:-target/release/demask}" "$@"
