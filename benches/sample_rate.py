#!/usr/bin/env python3
"""The plain sampler in eager PyTorch, on a checkpoint of ours: one whole forward pass a step, one token a step, logits for every
position, as the published loop does it. Prints one JSON line. Needs PyTorch and safetensors; see benches/sample_rate.sh.

    python3 benches/sample_rate.py [--prompt TOKENS] [--length TOKENS] [--block TOKENS] [--batch ROWS] [--rounds N]
                                   [--dtype bf16|f32] [--threads N] [--checkpoint DIR]
"""

import argparse
import json
import math
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file

PREFIX = "model.transformer."


class Model:
    """LLaDA's forward pass with query and key norms and a scaled embedding where the configuration says so."""

    def __init__(self, folder, dtype):
        self.config = json.loads((folder / "config.json").read_text())
        tensors = load_file(folder / "model.safetensors")
        self.weights = {name.removeprefix(PREFIX): tensor.to(dtype) for name, tensor in tensors.items()}
        self.heads = self.config["n_heads"]
        self.width = self.config["d_model"] // self.heads
        frequency = self.config["rope_theta"] ** (-torch.arange(0, self.width, 2).float() / self.width)
        angle = torch.outer(torch.arange(self.config["max_sequence_length"]).float(), frequency)
        angle = torch.cat([angle, angle], -1)
        self.cos, self.sin = angle.cos(), angle.sin()

    def norm(self, x, name):
        wide = x.float()
        wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.config["rms_norm_eps"])
        return self.weights[name + ".weight"] * wide.to(x.dtype)

    def turn(self, x):
        wide, length = x.float(), x.shape[2]
        a, b = wide.chunk(2, -1)
        return (wide * self.cos[:length] + torch.cat([-b, a], -1) * self.sin[:length]).to(x.dtype)

    def __call__(self, ids):
        rows, length = ids.shape
        x = F.embedding(ids, self.weights["wte.weight"])
        if self.config["input_emb_norm"]:
            x = x * math.sqrt(self.config["d_model"])
        linear = lambda x, name: F.linear(x, self.weights[name + ".weight"])
        for block in range(self.config["n_layers"]):
            at = f"blocks.{block}."
            h = self.norm(x, at + "attn_norm")
            q, k, v = (linear(h, at + name) for name in ("q_proj", "k_proj", "v_proj"))
            if self.config["attention_layer_norm"]:
                q, k = self.norm(q, at + "q_norm"), self.norm(k, at + "k_norm")
            q, k, v = (t.view(rows, length, self.heads, self.width).transpose(1, 2) for t in (q, k, v))
            mixed = F.scaled_dot_product_attention(self.turn(q), self.turn(k), v)
            x = x + linear(mixed.transpose(1, 2).reshape(rows, length, -1), at + "attn_out")
            h = self.norm(x, at + "ff_norm")
            x = x + linear(F.silu(linear(h, at + "ff_proj")) * linear(h, at + "up_proj"), at + "ff_out")
        return F.linear(self.norm(x, "ln_f"), self.weights["ff_out.weight"])


@torch.no_grad()
def generate(model, prompt, length, block):
    """Greedy, low-confidence remasking, one token a step (the published loop, without the vocabulary in f64)."""
    mask = model.config["mask_token_id"]
    x = torch.cat([prompt, torch.full((len(prompt), length), mask)], 1)
    for start in range(prompt.shape[1], x.shape[1], block):
        for _ in range(block):
            p = model(x).float().softmax(-1)
            confidence, token = p.max(-1)
            inside = torch.zeros_like(x, dtype=torch.bool)
            inside[:, start : start + block] = True
            confidence = torch.where((x == mask) & inside, confidence, -math.inf)
            at = confidence.argmax(-1, keepdim=True)
            x.scatter_(1, at, token.gather(1, at))
    return x


def main():
    parser = argparse.ArgumentParser()
    for name, default in [("prompt", 30), ("length", 64), ("block", 4), ("batch", 1), ("rounds", 5), ("threads", 2)]:
        parser.add_argument("--" + name, type=int, default=default)
    parser.add_argument("--dtype", default="bf16", choices=["bf16", "f32"])
    shipped = Path(__file__).resolve().parent.parent / "model" / "shipped" / "tabletop"
    parser.add_argument("--checkpoint", type=Path, default=shipped)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    model = Model(given.checkpoint, {"bf16": torch.bfloat16, "f32": torch.float32}[given.dtype])
    prompt = torch.randint(100, 500, (given.batch, given.prompt))
    generate(model, prompt, 8, given.block)
    began = time.perf_counter()
    for _ in range(given.rounds):
        generate(model, prompt, given.length, given.block)
    seconds = time.perf_counter() - began
    rate = given.rounds * given.batch / seconds
    print(json.dumps({"what": "eager PyTorch", "dtype": given.dtype, "batch": given.batch, "samples_per_s": rate}))


if __name__ == "__main__":
    main()
