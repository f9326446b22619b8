#!/usr/bin/env python3
"""Log-likelihoods of choices as LLaDA's `eval_llada.py` computes them under lm-eval, in eager PyTorch: the rival of `demask eval`.

    python3 tests/benches/eval_rate.py ARC.jsonl [FOLDER] [--samples 128] [--batch 32] [--dtype auto|f32|bf16] [--threads N]

Rows are those of ARC's files, in ASCII; the folder's own byte-pair tokenizer splits them. As there, an item's choices are asked
one after the other, `samples / batch` forward passes of `batch` masked views each, the whole head, a softmax over the
vocabulary, `item()` a pass. Prints a JSON line: items a second.
"""

import argparse
import json
import re
import time
from pathlib import Path

import torch
import torch.nn.functional as F

from rivals.decode import Words
from rivals.model import Model, good_dtype, peak_megabytes


PIECES = re.compile(r"</?think>| ?[+\-*=] ?|[0-9]| ?[A-Za-z]+|[.,:;?!]+ ?|\s+|[^\sA-Za-z0-9]+")


class Tokenizer:
    """A byte-pair tokenizer.json whose text is split as the shipped model's, for ASCII."""

    def __init__(self, folder):
        model = json.loads((folder / "tokenizer.json").read_text())["model"]
        pairs = [pair.split(" ") if isinstance(pair, str) else pair for pair in model["merges"]]
        self.ranks, self.ids = {tuple(pair): rank for rank, pair in enumerate(pairs)}, model["vocab"]

    def encode(self, text):
        ids = []
        for piece in PIECES.findall(text):
            parts = list(piece.replace(" ", "\u0120").replace("\n", "\u010a"))
            while len(parts) > 1:
                rank, at = min((self.ranks.get(pair, 1 << 30), at) for at, pair in enumerate(zip(parts, parts[1:])))
                if rank == 1 << 30:
                    break
                parts[at : at + 2] = ["".join(parts[at : at + 2])]
            ids += [self.ids[part] for part in parts]
        return torch.tensor(ids)


def views(answer, batch, mask):
    """`_forward_process`: one random start, evenly spread counts; the masked answers and 1 / share of masks."""
    length = len(answer)
    start = torch.randint(1, length + 1, ())
    counts = torch.round(torch.linspace(float(start), start + (batch - 1) * (length / batch), steps=batch)).long()
    counts = (counts - 1) % length + 1
    masked = torch.arange(length).repeat(batch, 1) < counts[:, None]
    for row in range(batch):
        masked[row] = masked[row][torch.randperm(length)]
    return torch.where(masked, mask, answer[None]), masked, counts / length


def log_likelihood(model, prompt, answer, samples, batch, mask):
    """`get_loglikelihood`."""
    losses = []
    for _ in range(samples // batch):
        noisy, masked, share = views(answer, batch, mask)
        logits = model(torch.cat((prompt.repeat(batch, 1), noisy), 1))[:, len(prompt) :]
        loss = F.cross_entropy(logits[masked].float(), answer.repeat(batch, 1)[masked], reduction="none")
        losses.append((loss / share[:, None].expand_as(masked)[masked]).sum().item() / batch)
    return -sum(losses) / len(losses)


@torch.inference_mode()
def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shipped = Path(__file__).resolve().parents[2] / "model" / "shipped" / "tabletop"
    parser.add_argument("arc", type=Path)
    parser.add_argument("folder", type=Path, nargs="?", default=shipped)
    for name, default in {"samples": 128, "batch": 32, "threads": 2}.items():
        parser.add_argument("--" + name, type=int, default=default)
    parser.add_argument("--dtype", default="auto", choices=["auto", "f32", "bf16"])
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(1234)
    dtype = good_dtype(given.dtype)
    model = Model.load(given.folder, dtype)
    mask, tokenizer = Words(model.config).mask, Tokenizer(given.folder)
    items = []
    for line in given.arc.read_text().splitlines():
        row = json.loads(line)
        prompt = tokenizer.encode(f"Question: {row['question']}\nAnswer:")
        items.append((prompt, [tokenizer.encode(" " + choice) for choice in row["choices"]["text"]]))
    ask = lambda item: [log_likelihood(model, item[0], one, given.samples, given.batch, mask) for one in item[1]]
    ask(items[0])
    began = time.perf_counter()
    for item in items:
        ask(item)
    seconds = time.perf_counter() - began
    told = {"loop": "lm-eval + eval_llada", "items": len(items), "items/s": round(len(items) / seconds, 3)}
    print(json.dumps(told | {"dtype": dtype, "peak_mb": peak_megabytes()}))


if __name__ == "__main__":
    main()
