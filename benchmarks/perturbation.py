"""How far labels move when the first parameters of the network move by almost nothing: what two computations can agree on.

    python benchmarks/perturbation.py [--json] [--size 1e-7] [--seeds 1,2,3] [--threads 1]

LeNet, ten digits that teach digits, N_o = 128, no compilation. Two runs draw the same batches; in the second, normal noise of
standard deviation `--size` has been added to the network's first parameters. `distance` is the largest difference of any label.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from dataclasses import replace

import torch
from measure import numbers, parser, report

from labeldistill.distillers import METHODS, Loop, Method, Problem, Schedule, epoch_draws, map_tensors, start
from labeldistill.runs import Opening, Scene

LOOKS = [1, 10, 20, 50, 100, 200]  # iterations after which labels are compared
OUTER, INNER = 128, 10


def in_type(tree, dtype: torch.dtype):
    "The tree with its float32 tensors in that type."
    return map_tensors(lambda x: x.to(dtype) if x.dtype == torch.float32 else x, tree)


def labels_at_looks(problem: Problem, method: Method, dtype: torch.dtype, seed: int, size: float) -> list[torch.Tensor]:
    "Labels after each of `LOOKS` iterations."
    loop = Loop(problem, method, Schedule(LOOKS[-1], OUTER, INNER), seed)
    state = in_type(start(problem, method, seed).state, dtype)
    noise = size * torch.randn(state.learner.theta.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    state = state._replace(learner=state.learner._replace(theta=state.learner.theta + noise.to(dtype)))
    fresh = in_type(loop.next_learner(state), dtype)
    epochs = (epoch_draws(problem, loop.schedule, seed, epoch) for epoch in itertools.count())
    draws = (draw for draw in itertools.chain.from_iterable(epochs) if len(draw.portion) == OUTER)
    seen = []
    for draw in itertools.islice(draws, LOOKS[-1]):
        state, _ = loop.iterate(state, fresh, draw)
        seen.append(state.learned)
    return [seen[look - 1] for look in LOOKS]


def rows(options: argparse.Namespace) -> Iterator[dict]:
    "One row for each seed, method, type and number of iterations."
    torch.set_num_threads(options.threads)
    for seed, name, dtype in itertools.product(options.seeds, METHODS, (torch.float32, torch.float64)):
        scene = Scene("digits", INNER, None, True, "lenet", None, seed, "cpu", Opening(None))
        problem, normalise = scene.problem(), scene.normalise
        problem = replace(
            problem,
            base_images=problem.base_images.to(dtype),
            normalise=lambda images, dtype=dtype, normalise=normalise: normalise(images).to(dtype),
        )
        method = METHODS[name](scene.network)
        runs = [labels_at_looks(problem, method, dtype, seed, size) for size in (0.0, options.size)]
        for look, a, b in zip(LOOKS, *runs, strict=True):
            yield {
                "method": name,
                "type": str(dtype).removeprefix("torch."),
                "seed": seed,
                "size": options.size,
                "iteration": look,
                "distance": (a - b).abs().max().item(),
            }


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--size", type=float, default=1e-7, help="standard deviation of the perturbation")
    options.add_argument("--seeds", type=numbers, default=[1, 2, 3], help="numbers, with commas between")
    report(rows, options.parse_args())


if __name__ == "__main__":
    main()
