"""Published loops that fill masks in, greedy, written from the papers' descriptions.

`llada` is LLaDA's loop with low-confidence remasking: each step a whole forward pass, logits of every position, their
softmax over the whole vocabulary in f64, and the surest masked token of the active block of each row is committed.
`plain` commits the same tokens and computes less: the head at the masked positions of the block alone, and one
log-sum-exp of their logits in place of a softmax in f64.
`maskgit` is the picture loop of MMaDA: each step a whole pass over the rows and their unconditional halves, logits of the
picture's positions and codes, a code drawn for each position, and as many of the least sure masked again as the cosine
schedule says; `mmada` is the same with logits of everything. `prefix` and `dual` are Fast-dLLM's: at the first step of a block a whole pass that keeps keys and values; then passes over
the block and all behind it (`prefix`), or over the block alone (`dual`), until no mask is left in it. Committed is every
token that is at least as probable as a threshold, and always the surest of a row. The head is applied to the block alone.

None writes the mask token or a picture code, as Demask's samplers; a confidence is over the whole vocabulary.
Each gives the tokens and the number of its forward passes.
"""

import math

import torch


class Words:
    """Which tokens may be written."""

    def __init__(self, config):
        self.mask = config["mask_token_id"]
        pictures = config.get("codebook_size") or 0
        rows = config.get("embedding_size") or config["vocab_size"]
        offset = config.get("image_token_offset")
        self.end = rows if not pictures else offset if offset is not None else config["vocab_size"] - pictures

    def best(self, logits):
        """The likeliest token of each row of logits, and its probability. Changes the logits."""
        logits = logits.float()
        total = logits.logsumexp(-1)
        logits[..., self.mask] = -math.inf
        best, token = logits[..., : self.end].max(-1)
        return token, (best - total).exp()

    def best_as_published(self, logits):
        """The same by a softmax of everything in f64."""
        probability = logits.double().softmax(-1)
        logits[..., self.mask] = -math.inf
        token = logits[..., : self.end].argmax(-1)
        return token, probability.gather(-1, token[..., None]).squeeze(-1)


def begin(model, prompt, length):
    words = Words(model.config)
    return words, torch.nn.functional.pad(prompt, (0, length), value=words.mask)


@torch.inference_mode()
def llada(model, prompt, length, block, threshold=None):
    """One token a step. `threshold` is for the others."""
    words, x = begin(model, prompt, length)
    passes = 0
    for start in range(prompt.shape[1], x.shape[1], block):
        end = min(start + block, x.shape[1])
        for _ in range(start, end):
            masked = x == words.mask
            token, confidence = words.best_as_published(model(x))
            passes += 1
            confidence[:, end:] = -math.inf
            confidence = torch.where(masked, confidence, -math.inf)
            at = confidence.argmax(-1, keepdim=True)
            x.scatter_(1, at, token.gather(1, at))
    return x, passes


@torch.inference_mode()
def plain(model, prompt, length, block, threshold=None):
    """`llada` that computes what it needs."""
    words, x = begin(model, prompt, length)
    passes = 0
    for start in range(prompt.shape[1], x.shape[1], block):
        window = x[:, start : start + block]
        for _ in range(window.shape[1]):
            # Every row has the same number of masks, because each step commits one token per row.
            at = (window == words.mask).nonzero()[:, 1].view(len(x), -1)
            hidden = model.hidden(x)[:, start : start + block]
            passes += 1
            wanted = hidden.gather(1, at[..., None].expand(-1, -1, hidden.shape[-1]))
            token, confidence = words.best(model.head(wanted))
            first = confidence.argmax(-1, keepdim=True)
            window.scatter_(1, at.gather(1, first), token.gather(1, first))
    return x, passes


def commit(words, window, logits, threshold):
    """Writes what is sure enough into a block, [B, L]."""
    masked = window == words.mask
    token, confidence = words.best(logits)
    confidence = torch.where(masked, confidence, -math.inf)
    sure = confidence >= threshold
    sure.scatter_(1, confidence.argmax(-1, keepdim=True), True)
    window.copy_(torch.where(sure & masked, token, window))


def cached(model, prompt, length, block, threshold, behind):
    """Blocks with a cache; the passes between compute what stands `behind` the block too, or not."""
    words, x = begin(model, prompt, length)
    kept, passes = model.room(*x.shape), 0
    for start in range(prompt.shape[1], x.shape[1], block):
        window = x[:, start : start + block]
        size = window.shape[1]
        hidden = model.hidden(x, kept)[:, start : start + size]
        passes += 1
        commit(words, window, model.head(hidden), threshold)
        while (window == words.mask).any():
            again = x[:, start:] if behind else window
            hidden = model.hidden(again, kept, start)[:, :size]
            passes += 1
            commit(words, window, model.head(hidden), threshold)
    return x, passes


@torch.inference_mode()
def prefix(model, prompt, length, block, threshold):
    """Fast-dLLM's prefix cache."""
    return cached(model, prompt, length, block, threshold, behind=True)


@torch.inference_mode()
def dual(model, prompt, length, block, threshold):
    """Fast-dLLM's dual cache."""
    return cached(model, prompt, length, block, threshold, behind=False)


@torch.inference_mode()
def maskgit(model, prompt, length, block, threshold, guidance=1.0, published=False):
    """A picture of `length` codes in `block` steps."""
    config, rows = model.config, len(prompt)
    words, x = begin(model, prompt, length)
    empty = x.clone()
    empty[:, : prompt.shape[1]] = 16
    codes, temperature, start = config["codebook_size"], 1.0, prompt.shape[1]
    table = model.head.weight[words.end : words.end + codes]
    for step in range(block):
        empty[:, start:] = x[:, start:]
        both = torch.cat((x, empty))
        if published:
            logits = model(both)[:, start:, words.end : words.end + codes]
        else:
            logits = model.hidden(both)[:, start:] @ table.T
        wanted, unwanted = logits.float().chunk(2)
        chances = ((1 + guidance) * wanted - guidance * unwanted).softmax(-1)
        drawn = torch.multinomial(chances.view(-1, codes), 1).view(rows, length)
        known = x[:, start:] != words.mask
        drawn = torch.where(known, x[:, start:] - words.end, drawn)
        share = (step + 1) / block
        sure = torch.where(known, math.inf, chances.gather(-1, drawn[..., None]).squeeze(-1).clamp_min(1e-20).log())
        temperature *= 1 - share
        noise = torch.rand_like(sure).clamp_min(1e-20).log().neg().clamp_min(1e-20).log().neg()
        left = (~known).sum(-1, keepdim=True)
        again = torch.full_like(left, int(length * math.cos(math.pi / 2 * share))).minimum(left - 1).clamp_min(1)
        noisy = sure + temperature * noise
        cut = noisy.sort(-1).values.gather(-1, again)
        x[:, start:] = torch.where(noisy < cut, words.mask, drawn + words.end)
    x[:, start:] = drawn + words.end
    return x, block


def mmada(model, prompt, length, block, threshold):
    """`maskgit` with logits of every position and token, as MMaDA's code has it."""
    return maskgit(model, prompt, length, block, threshold, published=True)


LOOPS = {"mmada": mmada, "maskgit": maskgit, "llada": llada, "plain": plain, "prefix": prefix, "dual": dual}
