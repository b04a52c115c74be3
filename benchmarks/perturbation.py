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
from iterations import BENCHED
from measure import numbers, parser, report

from labeldistill.config import METHODS, Schedule, Task
from labeldistill.methods.distiller import Distiller
from labeldistill.methods.loop import Loop, epoch_indices, start
from labeldistill.methods.trees import map_tensors
from labeldistill.task import LoadedTask, load_task

LOOKS = [1, 10, 20, 50, 100, 200]  # iterations after which labels are compared
OUTER, INNER = 128, 10


def in_type(tree, dtype: torch.dtype):
    "The tree with its float32 tensors in that type."
    return map_tensors(lambda x: x.to(dtype) if x.dtype == torch.float32 else x, tree)


def labels_at_looks(task: LoadedTask, distiller: Distiller, dtype: torch.dtype, seed: int, size: float) -> list[torch.Tensor]:
    "Labels after each of `LOOKS` iterations."
    loop, state = Loop(task, distiller, seed), in_type(start(task, distiller, seed).state, dtype)
    theta = state.train_state.theta
    noise = size * torch.randn(theta.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    state = state._replace(train_state=state.train_state._replace(theta=theta + noise.to(dtype)))
    fresh = in_type(loop.next_network(state), dtype)
    epochs = (epoch_indices(task, seed, epoch, INNER) for epoch in itertools.count())
    indices = (picked for picked in itertools.chain.from_iterable(epochs) if len(picked.outer_rows) == OUTER)
    seen = []
    for picked in itertools.islice(indices, LOOKS[-1]):
        state, _ = loop.iterate(state, fresh, picked)
        seen.append(state.params)
    return [seen[look - 1] for look in LOOKS]


def typed_task(seed: int, dtype: torch.dtype) -> LoadedTask:
    "Ten digits that teach digits, their images in that type."
    task = load_task(Task("digits", base_examples=INNER), seed, "cpu")
    normalise = task.normalise
    task = replace(task, schedule=Schedule(iterations=LOOKS[-1], outer_batch=OUTER))
    return replace(task, normalise=lambda images: normalise(images).to(dtype))


def rows(options: argparse.Namespace) -> Iterator[dict]:
    "One row for each seed, method, type and number of iterations."
    torch.set_num_threads(options.threads)
    for seed, name, dtype in itertools.product(options.seeds, BENCHED, (torch.float32, torch.float64)):
        task = typed_task(seed, dtype)
        distiller = METHODS[name]().build(task)
        runs = [labels_at_looks(task, distiller, dtype, seed, size) for size in (0.0, options.size)]
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
