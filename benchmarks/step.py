"""Time per iteration and memory: this package against the naive form, alternating in one run.

    python benchmarks/step.py [--json] [--rounds 15]

LeNet, N = 100, N_i = 50, N_o = 1024, float32, on the CPU with as many threads as PyTorch chooses. The naive forms
(naive.py) are fed by a loader that decodes image by image, which counts into their time; the package's time includes
drawing and normalising its batch. `peak_mb` is the largest resident size of a process that does nothing but the row.
The images are handwritten digits, repeated.
"""

from __future__ import annotations

import argparse
import itertools
import json
import resource
import statistics
import time
from collections.abc import Callable
from multiprocessing import get_context

import naive
import torch
from torch.utils.data import DataLoader

from labeldistill.base import choose_base
from labeldistill.catalogue import load
from labeldistill.data import Dataset, normalisation, split
from labeldistill.distillers import METHODS, Problem, Schedule, epoch_batches, start
from labeldistill.evaluation import Exam, TrainingSet, evaluate_students, new_student
from labeldistill.labels import smoothed_labels
from labeldistill.networks import make_network

COUNT, INNER, OUTER, CLASSES, STEPS = 100, 50, 1024, 10, 245
NAIVE = {"second-order": naive.SecondOrder, "ridge": naive.Ridge}


class Bench:
    "Data and both forms of everything that is timed."

    def __init__(self):
        digits = load("digits")
        times = 20_000 // len(digits)
        tiled = Dataset("digits", digits.images.repeat(times, 1, 1, 1), digits.labels.repeat(times), digits.classes)
        self.parts = split(tiled)
        self.data = tiled
        self.normalise = normalisation(tiled, self.parts.train)
        self.base = choose_base(tiled, COUNT, balanced=True, seed=0)
        self.inputs = self.normalise(self.base.images)
        self.network = make_network("lenet", 1, 28, CLASSES)

    def exam(self, rows: torch.Tensor) -> Exam:
        return Exam(self.data.images[rows], self.data.labels[rows], self.normalise)

    def loader(self, rows: torch.Tensor, shuffle: bool) -> DataLoader:
        pictures = naive.Pictures(self.data.images[rows], self.data.labels[rows], self.normalise)
        return DataLoader(pictures, batch_size=OUTER, shuffle=shuffle, drop_last=shuffle)

    def ours(self, method: str) -> Callable[[], None]:
        "One iteration of the package."
        train = self.exam(self.parts.train)
        problem = Problem(self.inputs, train.images, train.labels, self.normalise, train, CLASSES)
        schedule, distiller = Schedule(10**6, OUTER, INNER), METHODS[method](self.network)
        batches = itertools.chain.from_iterable(epoch_batches(problem, schedule, 0, epoch) for epoch in itertools.count())
        state = start(problem, distiller, 0).state

        def step():
            nonlocal state
            state, _ = distiller.step(state, next(batches))

        return step

    def naive(self, method: str) -> Callable[[], None]:
        "One iteration of the naive form."
        batches = naive.endless(self.loader(self.parts.train, shuffle=True))
        distiller = NAIVE[method](naive.textbook_lenet(1, 28, CLASSES), self.inputs, CLASSES, INNER)
        return lambda: distiller.step(*next(batches))

    def ours_test(self, models: int, examples: int) -> Callable[[], None]:
        "Training and testing networks with the package."
        labels = smoothed_labels(self.base.labels, CLASSES)
        data, exam = TrainingSet(self.inputs, labels, INNER), self.exam(self.parts.train[:examples])
        cpu = torch.device("cpu")
        return lambda: evaluate_students(
            lambda seed: new_student("linear", self.network, "adam", seed, cpu), data, exam, STEPS, models, 0, show_progress=False
        )

    def naive_test(self, models: int, examples: int) -> Callable[[], None]:
        "Training and testing networks in the naive form."
        labels = smoothed_labels(self.base.labels, CLASSES)
        test = self.loader(self.parts.train[:examples], shuffle=False)

        def run():
            for _ in range(models):
                naive.test_model(naive.textbook_lenet(1, 28, CLASSES), self.inputs, labels, INNER, STEPS, test)

        return run


def alternate(ours: Callable[[], None], naive_form: Callable[[], None], rounds: int) -> tuple[float, float]:
    "Median milliseconds of both, taking turns."
    times = {ours: [], naive_form: []}
    for turn in range(rounds + 1):
        for function, seen in times.items():
            began = time.perf_counter()
            function()
            if turn:  # the first turn warms up
                seen.append(1e3 * (time.perf_counter() - began))
    return tuple(statistics.median(seen) for seen in times.values())


def peak_memory(method: str) -> float:
    "Largest resident size in MB of this process after a few iterations."
    step = Bench().ours(method)
    for _ in range(5):
        step()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def measure(rounds: int) -> list[dict]:
    bench, rows = Bench(), []
    for method in METHODS:
        ms, naive_ms = alternate(bench.ours(method), bench.naive(method), rounds)
        with get_context("spawn").Pool(1) as pool:
            peak = pool.apply(peak_memory, (method,))
        rows.append({"method": method, "ms": ms, "naive_ms": naive_ms, "peak_mb": peak})
    ms, naive_ms = alternate(bench.ours_test(20, 10_000), bench.naive_test(20, 10_000), 1)
    rows.append({"method": f"20-model test ({STEPS} steps, 10,000 images)", "ms": ms, "naive_ms": naive_ms, "peak_mb": None})
    common = {"network": "lenet", "device": "cpu", "precision": "fp32", "threads": torch.get_num_threads()}
    return [{**common, **row, "ratio": row["naive_ms"] / row["ms"]} for row in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--rounds", type=int, default=15, help="timed iterations of each form")
    arguments = parser.parse_args()
    rows = measure(arguments.rounds)
    if arguments.json:
        print(json.dumps({"rows": rows}))
        return
    print(f"{'method':45}{'ms':>9}{'naive ms':>10}{'ratio':>7}{'peak MB':>9}   ({rows[0]['threads']} threads)")
    for row in rows:
        peak = f"{row['peak_mb']:9.0f}" if row["peak_mb"] else f"{'-':>9}"
        print(f"{row['method']:45}{row['ms']:9.1f}{row['naive_ms']:10.1f}{row['ratio']:7.1f}{peak}")


if __name__ == "__main__":
    main()
