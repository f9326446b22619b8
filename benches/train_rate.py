#!/usr/bin/env python3
"""The baseline of `train_rate.sh`: eager PyTorch training the same masked-diffusion transformer.

d 192, 4 layers, 4 heads, feed-forward 512, vocabulary 1024, length 128, batch 32: the loss at masked positions, AdamW,
clipping at 1. Prints one line of JSON: tokens a second over the timed steps.

    python3 benches/train_rate.py --steps 20 --dtype bf16 --threads 2
"""

import argparse
import json
import time

import torch
import torch.nn.functional as F
from torch import nn


class Norm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        scale = torch.rsqrt(x.float().pow(2).mean(-1, keepdim=True) + 1e-5)
        return self.weight * (x.float() * scale).to(x.dtype)


def rotate(x, cos, sin):
    a, b = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-b, a), dim=-1) * sin


class Block(nn.Module):
    def __init__(self, width, heads, hidden):
        super().__init__()
        self.heads = heads
        self.attn_norm, self.ff_norm = Norm(width), Norm(width)
        self.q, self.k, self.v, self.out = (nn.Linear(width, width, bias=False) for _ in range(4))
        self.gate, self.up = nn.Linear(width, hidden, bias=False), nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x, cos, sin):
        batch, length, width = x.shape
        h = self.attn_norm(x)
        q, k, v = (f(h).view(batch, length, self.heads, -1).transpose(1, 2) for f in (self.q, self.k, self.v))
        att = F.scaled_dot_product_attention(rotate(q, cos, sin), rotate(k, cos, sin), v)
        x = x + self.out(att.transpose(1, 2).reshape(batch, length, width))
        h = self.ff_norm(x)
        return x + self.down(F.silu(self.gate(h)) * self.up(h))


class Model(nn.Module):
    def __init__(self, vocabulary=1024, width=192, layers=4, heads=4, hidden=512):
        super().__init__()
        self.embed = nn.Embedding(vocabulary, width)
        self.blocks = nn.ModuleList(Block(width, heads, hidden) for _ in range(layers))
        self.norm = Norm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.half = width // heads // 2

    def forward(self, ids):
        length = ids.shape[1]
        angle = torch.arange(length)[:, None] * 500000.0 ** (-torch.arange(self.half) / self.half)[None, :]
        cos, sin = torch.cat((angle, angle), -1).cos(), torch.cat((angle, angle), -1).sin()
        x = self.embed(ids)
        for block in self.blocks:
            x = block(x, cos.to(x.dtype), sin.to(x.dtype))
        return self.head(self.norm(x))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dtype", choices=("f32", "bf16"), default="bf16")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    model = Model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    mask_id = 1023
    started = None
    for step in range(options.warmup + options.steps):
        if step == options.warmup:
            started = time.perf_counter()
        ids = torch.randint(0, 1000, (options.batch, options.length))
        p = torch.rand(options.batch, 1) * 0.999 + 0.001
        masked = torch.rand(options.batch, options.length) < p
        noisy = torch.where(masked, mask_id, ids)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=options.dtype == "bf16"):
            logits = model(noisy)
        loss = (F.cross_entropy(logits[masked].float(), ids[masked], reduction="none")
                / p.expand_as(ids)[masked]).sum() / ids.numel()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    seconds = time.perf_counter() - started
    tokens = options.steps * options.batch * options.length
    print(json.dumps({"what": "eager PyTorch", "dtype": options.dtype, "tokens_per_s": round(tokens / seconds),
                      "parameters": sum(p.numel() for p in model.parameters())}))


if __name__ == "__main__":
    main()
