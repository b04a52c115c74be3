"""Where the time of an iteration goes, by kinds of operators.

    python benchmarks/operators.py [--json] [--networks lenet,alexnet,resnet14] [--precisions fp32,bf16] [--rounds 3]

The setting is that of iterations.py, without compilation. Columns are shares of the time that PyTorch's profiler sees in
operators themselves, not in those that they call; `other` is all that is neither convolution, matrix product nor copying:
activations, pooling, normalisation, optimiser.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator

import torch
from iterations import BENCHED, Setting, iteration
from measure import parser, report, words
from naive import TEXTBOOK

from labeldistill.networks.compute import PRECISIONS, Computation

KINDS = {  # words that occur in operators' names; the first kind that fits
    "convolutions": ("conv",),
    "products": ("mm", "linear"),
    "copies": ("copy", "cat", "clone", "index", "contiguous", "reorder"),
}


def kind(operator: str) -> str:
    "What an operator does."
    return next((name for name, parts in KINDS.items() if any(part in operator for part in parts)), "other")


def shares(setting: Setting, rounds: int) -> dict[str, float]:
    "Share of each kind."
    iterate = iteration(setting)
    iterate()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        for _ in range(rounds):
            iterate()
    seconds = dict.fromkeys((*KINDS, "other"), 0.0)
    for operator in profile.key_averages():
        seconds[kind(operator.key)] += operator.self_cpu_time_total
    return {name: part / sum(seconds.values()) for name, part in seconds.items()}


def rows(options: argparse.Namespace) -> Iterator[dict]:
    "One row for each network, method and precision."
    torch.set_num_threads(options.threads)
    for network, method, precision in itertools.product(options.networks, BENCHED, options.precisions):
        channels, size = (1, 28) if network == "lenet" else (3, 32)
        setting = Setting(network, method, Computation(precision), image_size=size, channels=channels)
        yield {"network": network, "method": method, "precision": precision, **shares(setting, options.rounds)}


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--networks", type=words, default=list(TEXTBOOK), help="names, with commas between")
    options.add_argument("--precisions", type=words, default=list(PRECISIONS), help="names, with commas between")
    options.add_argument("--rounds", type=int, default=3, help="iterations that count")
    report(rows, options.parse_args())


if __name__ == "__main__":
    main()
