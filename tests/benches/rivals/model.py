"""The network in PyTorch, for what rivals Demask in the benchmarks: one checkpoint folder, the same weights.

Written from the papers' descriptions: a bidirectional transformer with RMS norms, half-split rotary positions, SiLU-gated
feed-forward, norms on whole queries and keys and a scaled embedding where the configuration says so. It is as fast as
careful eager Python can make it: queries, keys and values are one product, so are gate and feed-forward; attention is
`scaled_dot_product_attention`; rotary tables are made once; the head is applied to what its caller wants.

Legend: B rows, L positions, D width, H heads, E head width, V vocabulary.
"""

import json
import math
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

PREFIX = "model.transformer."
DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}
UNKNOWN = ("include_bias", "include_qkv_bias", "bias_for_layer_norm", "weight_tying", "scale_logits")


def good_dtype(asked="auto"):
    """What was asked for, or what the processor is good at: bf16 where it multiplies that natively, as Demask decides."""
    if asked != "auto":
        return asked
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        flags = ""
    return "bf16" if any(flag in flags for flag in ("amx_bf16", "avx512_bf16")) else "f32"


def peak_megabytes():
    """The most memory that this process has had."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return round(int(line.split()[1]) / 1024)
    raise SystemExit("/proc/self/status has no VmHWM: expected Linux")


def rotate(x, cos, sin):
    """Rotary positions: x [B, H, L, E], tables [L, E]."""
    left, right = x.chunk(2, -1)
    return x * cos + torch.cat((-right, left), -1) * sin


class Norm(nn.Module):
    """An RMS norm."""

    def __init__(self, width, eps):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(width)), eps

    def forward(self, x):
        return F.rms_norm(x, self.weight.shape, self.weight, self.eps)


class Block(nn.Module):
    """Attention and feed-forward."""

    def __init__(self, config):
        super().__init__()
        width, hidden, eps = config["d_model"], config["mlp_hidden_size"], config["rms_norm_eps"]
        self.heads, self.hidden = config["n_heads"], hidden
        self.attn_norm, self.ff_norm = Norm(width, eps), Norm(width, eps)
        self.normed = config["attention_layer_norm"]
        if self.normed:
            self.q_norm, self.k_norm = Norm(width, eps), Norm(width, eps)
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.gate_up, self.down = nn.Linear(width, 2 * hidden, bias=False), nn.Linear(hidden, width, bias=False)

    def forward(self, x, cos, sin, kept=None, start=0):
        """With `kept`, keys and values [B, H, places, E], those of x are written there from `start` on and all are attended to."""
        rows, length, width = x.shape
        q, k, v = self.qkv(self.attn_norm(x)).split(width, -1)
        if self.normed:
            q, k = self.q_norm(q), self.k_norm(k)
        q, k, v = (part.view(rows, length, self.heads, -1).transpose(1, 2) for part in (q, k, v))
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        if kept is not None:
            kept[0][:, :, start : start + length] = k
            kept[1][:, :, start : start + length] = v
            k, v = kept
        mixed = F.scaled_dot_product_attention(q, k, v)
        x = x + self.out(mixed.transpose(1, 2).reshape(rows, length, width))
        gate, up = self.gate_up(self.ff_norm(x)).split(self.hidden, -1)
        return x + self.down(F.silu(gate) * up)


class Model(nn.Module):
    """The network of a configuration, with random weights."""

    def __init__(self, config):
        super().__init__()
        wrong = [name for name in UNKNOWN if config.get(name)]
        if config.get("n_kv_heads") not in (None, config["n_heads"]):
            wrong.append("n_kv_heads")
        if wrong:
            raise SystemExit(f"config.json sets {', '.join(wrong)}: the rivals compute networks without")
        self.config = config
        rows, width = config.get("embedding_size") or config["vocab_size"], config["d_model"]
        self.embed, self.head = nn.Embedding(rows, width), nn.Linear(width, rows, bias=False)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config["n_layers"]))
        self.norm = Norm(width, config["rms_norm_eps"])
        self.scale = math.sqrt(width) if config["input_emb_norm"] else 1.0
        head_width = width // config["n_heads"]
        frequency = config["rope_theta"] ** (-torch.arange(0, head_width, 2).float() / head_width)
        angle = torch.outer(torch.arange(config["max_sequence_length"]).float(), frequency).repeat(1, 2)
        self.register_buffer("cos", angle.cos())
        self.register_buffer("sin", angle.sin())

    @classmethod
    def load(cls, folder, dtype="f32"):
        """That of a checkpoint folder, for sampling."""
        from safetensors.torch import load_file

        with torch.device("meta"):
            model = cls(json.loads((Path(folder) / "config.json").read_text()))
        stored = load_file(Path(folder) / "model.safetensors")
        taken = {"embed.weight": stored[PREFIX + "wte.weight"], "head.weight": stored[PREFIX + "ff_out.weight"]}
        taken["norm.weight"] = stored[PREFIX + "ln_f.weight"]
        for block in range(model.config["n_layers"]):
            here, there = f"blocks.{block}.", f"{PREFIX}blocks.{block}."
            joined = {"qkv": ("q_proj", "k_proj", "v_proj"), "gate_up": ("ff_proj", "up_proj")}
            alone = {"out": "attn_out", "down": "ff_out", "attn_norm": "attn_norm", "ff_norm": "ff_norm"}
            if model.config["attention_layer_norm"]:
                alone |= {"q_norm": "q_norm", "k_norm": "k_norm"}
            for name, parts in joined.items():
                taken[f"{here}{name}.weight"] = torch.cat([stored.pop(f"{there}{part}.weight") for part in parts])
            for name, part in alone.items():
                taken[f"{here}{name}.weight"] = stored[f"{there}{part}.weight"]
        taken = {name: tensor.to(DTYPES[dtype]) for name, tensor in taken.items()}
        tables = cls({**model.config, "n_layers": 0, "vocab_size": 1, "embedding_size": None})
        taken |= {"cos": tables.cos.to(DTYPES[dtype]), "sin": tables.sin.to(DTYPES[dtype])}
        model.load_state_dict(taken, assign=True)
        return model.requires_grad_(False)

    def room(self, rows, places):
        """Keys and values of so many rows and places, for each block."""
        config = self.config
        shape = (rows, config["n_heads"], places, config["d_model"] // config["n_heads"])
        new = lambda: torch.empty(shape, dtype=self.embed.weight.dtype)
        return [(new(), new()) for _ in self.blocks]

    def hidden(self, ids, kept=None, start=0):
        """Tokens [B, L], which stand at `start` and behind, to what the head is applied to, [B, L, D]."""
        x = self.embed(ids)
        if self.scale != 1.0:
            x = x * self.scale
        places = slice(start, start + ids.shape[1])
        cos, sin = self.cos[places].to(x.dtype), self.sin[places].to(x.dtype)
        for number, block in enumerate(self.blocks):
            x = block(x, cos, sin, kept and kept[number], start)
        return self.norm(x)

    def forward(self, ids):
        """Logits of every position, [B, L, V]."""
        return self.head(self.hidden(ids))
