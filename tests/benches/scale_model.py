#!/usr/bin/env python3
"""A model of a training step whose weights are sharded over ranks: where adding ranks stops paying, and why. No GPU is used.

    python3 tests/benches/scale_model.py            MMaDA-8B on 8, 64 and 512 ranks
    python3 tests/benches/scale_model.py --check    the model against the steps that LOG.md measured over a 400 Mbit/s link

A rank computes its units of work one after the other, block by block as `engine.shard = "weights"` does it: forward, and backward with
each block computed again. The weights of the next block arrive meanwhile, and the gradient of the block before leaves to its owners, in
pieces. One block is fetched ahead and at most two gradients are under way. Compute and network are two queues; a block begins when both
its weights and the block before are there.

Inputs, none of them measured on the hardware that they describe except with `--check`:
  shapes      scale.md's count of MMaDA-8B: 32 blocks of 218.1 M, embedding and head of 551.6 M each; weights and gradients in bf16
  compute     8 operations a weight and token (forward 2, again 2, backward 4) at 400 TFLOP/s, 40 % of an H100's bf16 rate
  NVLink      300 GB/s each way of 450 that NVIDIA names for an H100, within a machine of 8
  network     50 GB/s a GPU (a 400 Gbit/s port each) or 10 GB/s; rings over all ports gather, so a machine has eight times that
  latency     3 microseconds a step of a ring within a machine, 8 between machines; all-to-all posts its messages at 2 each
  jitter      each block takes up to 4 % longer on some rank, drawn anew, and every gather waits for the slowest
"""

import random
import sys
from dataclasses import dataclass

MACHINE = 8


@dataclass
class Net:
    """Sizes in numbers; a number has `width` bytes."""
    blocks: int = 32
    block: float = 218.1e6
    ends: float = 551.6e6
    width: int = 2
    operations: float = 8.0


@dataclass
class Links:
    ranks: int
    port: float
    inside: float = 300e9
    step_inside: float = 3e-6
    step_between: float = 8e-6
    post: float = 2e-6

    def machines(self):
        return max(1, self.ranks // MACHINE)

    def gather(self, size):
        """Seconds until every rank has all of `size` bytes, of which each has a part."""
        n, m = self.ranks, self.machines()
        inside = size * (n - 1) / n / self.inside
        between = size * (m - 1) / m / (self.port * MACHINE)
        return max(inside, between) + (n - m) * self.step_inside + (m - 1) * self.step_between

    def scatter(self, size):
        """Seconds until each rank's pieces of `size` bytes are with their owners: every rank has bytes of its own, so nothing is shared."""
        n, m = self.ranks, self.machines()
        return max(size * (n - 1) / n / self.inside, size * (m - 1) / m / self.port) + n * self.post


class Queue:
    """Does one thing after the other."""

    def __init__(self):
        self.free = self.busy = 0.0

    def do(self, ready, seconds):
        self.free = max(self.free, ready) + seconds
        self.busy += seconds
        return self.free


def unit(net, gather, scatter, seconds, jitter, dice, prefetch=True):
    """One unit's forward and backward pass: its seconds, and those that compute waited for the network. `seconds` is a forward pass of
    a block; computing it again and its backward pass take three."""
    compute, network = Queue(), Queue()
    late = lambda: 1.0 + jitter * dice()
    groups = [net.ends, *[net.block] * net.blocks, net.ends]
    cost = [g / net.block * seconds for g in groups]
    cost[0] = 0.0  # An embedding is looked up.
    order = [(i, cost[i], False) for i in range(len(groups))] + [(i, 3 * cost[i], True) for i in reversed(range(len(groups)))]
    arrived, ended, sent = {}, [0.0], []
    for place, (i, work, backward) in enumerate(order):
        ahead = range(place, min(place + 2, len(order))) if prefetch else [place]
        for other in ahead:
            if other not in arrived:
                group = order[other][0]
                kept = other == len(groups)  # The last group is still there when the backward pass begins.
                arrived[other] = network.do(ended[max(0, other - 1)] if not prefetch else ended[max(0, other - 2)],
                                            0.0 if kept else gather(groups[group] * net.width))
        room = sent[-2] if len(sent) > 1 else 0.0
        ended.append(compute.do(max(arrived[place], ended[-1], room), work * late()))
        if backward:
            sent.append(network.do(ended[-1], scatter(groups[i] * net.width)))
            if not prefetch:
                ended[-1] = max(ended[-1], sent[-1])
    end = max(ended[-1], sent[-1])
    return end, end - compute.busy


def row(ranks, port, batch, unit_tokens, net=Net(), rate=400e12, jitter=0.04):
    """A step of `batch` tokens in units of `unit_tokens`: seconds, the share of the ranks' compute that it is, and what is lost to what."""
    links, rng = Links(ranks, port), random.Random(7)
    # The slowest of N uniform draws lies at N / (N + 1).
    slowest = lambda: rng.random() ** (1.0 / ranks)
    seconds = net.block * net.operations / 4 * unit_tokens / rate
    units = round(batch / unit_tokens)
    rounds = -(-units // ranks)
    total, waited = 0.0, 0.0
    for _ in range(min(rounds, 4)):
        took, wait = unit(net, links.gather, links.scatter, seconds, jitter, slowest)
        total, waited = total + took, waited + wait
    total, waited = total * rounds / min(rounds, 4), waited * rounds / min(rounds, 4)
    ideal = (net.blocks + net.ends / net.block) * 4 * seconds * units / ranks
    idle = 1 - units / (rounds * ranks)
    parameters = net.blocks * net.block + 2 * net.ends
    update = 28 * parameters / ranks / 2.5e12  # Adam's reads and writes at 2.5 TB/s.
    return total + update, ideal / (total + update), idle, waited / total, 16 * parameters / ranks / 1e9


def table():
    print("| ranks | port GB/s | step's tokens | unit | s a step | tokens/s | share of all ranks' compute | idle ranks | waiting for the net | GB of state |")
    print("| --- " * 10 + "|")
    for batch in (1.475e6, 11.8e6):
        for unit_tokens in (18432, 2304):
            for port in (50e9, 10e9):
                for ranks in (8, 64, 512):
                    if ranks == 8 and port == 10e9:
                        continue
                    took, share, idle, waited, state = row(ranks, port, batch, unit_tokens)
                    print(f"| {ranks} | {'–' if ranks == 8 else f'{port / 1e9:.0f}'} | {batch / 1e6:.1f} M | {unit_tokens} | {took:.2f} | {batch / took:.3g} "
                          f"| {share:.2f} | {idle:.2f} | {waited:.2f} | {state:.1f} |")


def check():
    """LOG.md, 2026-11-29, `weights sharded over ranks`: two ranks in f32 over 400 Mbit/s, a network of width 256, 8 blocks, hidden 768,
    vocabulary 1024; sixteen rows are four units of four, two rounds a rank. Of the four steps measured there, the first gives the rate of
    the link (83 MB crossed in 2.82 s) and the waiting of those without prefetch gives what is computed; the others are predicted."""
    net = Net(blocks=8, block=4 * 256 * 256 + 3 * 256 * 768 + 2 * 256, ends=1024 * 256, width=4)
    half = lambda size: size / 2 / (83e6 / 2.82)
    weight, rounds = net.blocks + net.ends / net.block, 2
    for length, computed, measured in ((256, 4.27 - 2.82, (4.27, 2.99)), (512, 6.72 - 3.19, (6.72, 4.71))):
        seconds = computed / rounds / (4 * weight)
        for prefetch, found in zip((False, True), measured):
            took, _ = unit(net, half, half, seconds, 0.0, lambda: 0.0, prefetch)
            print(f"rows of {length}, {'with' if prefetch else 'without'} prefetch: {took * rounds:.2f} s a step, measured {found}")


if __name__ == "__main__":
    if sys.argv[1:] not in ([], ["--check"]):
        raise SystemExit(__doc__)
    check() if sys.argv[1:] else table()
