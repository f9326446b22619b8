#!/usr/bin/env python3
"""Training tokens a second in PyTorch: the rival of `train_rate`, the same shape.

    python3 tests/benches/train_rate.py [--width 192] [--layers 4] [--heads 4] [--hidden 512] [--vocabulary 1024] [--length 128]
        [--rows 32] [--steps 20] [--way eager|published|compile] [--dtype auto|f32|bf16] [--threads N]

The loss at masked positions, AdamW in one kernel, clipping at 1. `eager` applies the head to masked positions alone;
`published` to all, as LLaDA's code does; `compile` is `eager` with `torch.compile` on all but the head, whose rows are
other ones at each step; it needs a C++ compiler ($CXX, g++ or clang++) and exits with 3 where there is none. Prints a JSON line.
"""

import argparse
import json
import os
import shutil
import statistics
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn

from rivals.model import DTYPES, Model, good_dtype, peak_megabytes

WARM_UP = 3
NO_COMPILER = 3


def shape(given):
    return {
        "d_model": given.width, "n_layers": given.layers, "n_heads": given.heads, "mlp_hidden_size": given.hidden,
        "vocab_size": given.vocabulary, "max_sequence_length": given.length, "rms_norm_eps": 1e-5,
        "rope_theta": 500_000.0, "attention_layer_norm": False, "input_emb_norm": False,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    defaults = {"width": 192, "layers": 4, "heads": 4, "hidden": 512, "vocabulary": 1024, "length": 128, "rows": 32}
    for name, default in (defaults | {"steps": 20, "threads": 2}).items():
        parser.add_argument("--" + name, type=int, default=default)
    parser.add_argument("--way", default="eager", choices=["eager", "published", "compile"])
    parser.add_argument("--dtype", default="auto", choices=["auto", "f32", "bf16"])
    given = parser.parse_args()
    if given.way == "compile" and not any(map(shutil.which, (os.environ.get("CXX", "g++"), "clang++"))):
        print("no C++ compiler for torch.compile: expected $CXX, g++ or clang++", file=sys.stderr)
        raise SystemExit(NO_COMPILER)
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    dtype = good_dtype(given.dtype)
    model = Model(shape(given))
    # The scale of Demask's initial weights; PyTorch's default embedding is far larger.
    nn.init.normal_(model.embed.weight, std=given.width**-0.5)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    hidden = torch.compile(model.hidden) if given.way == "compile" else model.hidden
    mask, size = given.vocabulary - 1, (given.rows, given.length)
    seconds = []
    for _ in range(WARM_UP + given.steps):
        began = time.perf_counter()
        ids = torch.randint(0, min(1000, mask), size)
        p = torch.rand(given.rows, 1) * 0.999 + 0.001
        masked = torch.rand(size) < p
        with torch.autocast("cpu", dtype=DTYPES["bf16"], enabled=dtype == "bf16"):
            x = hidden(torch.where(masked, mask, ids))
            logits = model.head(x)[masked] if given.way == "published" else model.head(x[masked])
        each = F.cross_entropy(logits.float(), ids[masked], reduction="none")
        loss = (each / p.expand(size)[masked]).sum() / ids.numel()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.perf_counter() - began)
    print(json.dumps({
        "what": f"PyTorch {given.way}", "dtype": dtype, "tokens_per_s": round(ids.numel() / statistics.median(seconds[WARM_UP:])),
        "peak_mb": peak_megabytes(), "parameters": sum(p.numel() for p in model.parameters()),
    }))


if __name__ == "__main__":
    main()
