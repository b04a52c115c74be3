"""Whole runs, their time and their accuracy: labels are distilled, then test networks trained on them.

    python benchmarks/runs.py [--json] [--device cpu] [--target digits] [--base-examples 10] [--iterations 1000 | --epochs 400]
        [--methods second-order,ridge] [--precisions fp32,bf16] [--seeds 1,2,3,4,5] [--models 5] [--threads 1] [--no-compile]

One row for each seed, method and precision, in this order, so that the precisions to be compared run one after the other. The
seed decides base examples, distillation and tests. `distill_s` holds everything between a data set in memory and the best labels,
validation included; `test_s` is the training and testing of the `--models` networks; `..._processor_s` is what they took of the
processor. Real data sets are looked for in $LABELDISTILL_DATA.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Iterator

import torch
from iterations import BENCHED
from measure import numbers, parser, report, words

from labeldistill.api import distill, evaluate
from labeldistill.config import METHODS, Compute, Schedule, Task
from labeldistill.data.catalog import load
from labeldistill.networks.compute import PRECISIONS


def rows(options: argparse.Namespace) -> Iterator[dict]:
    "One row per run."
    torch.set_num_threads(options.threads)
    target = load(options.target)
    for seed, method, precision in itertools.product(options.seeds, options.methods, options.precisions):
        same = {"compute": Compute(options.device, precision, options.compile), "seed": seed, "progress": False}
        task, schedule = Task(target, options.base_examples), Schedule(epochs=options.epochs, iterations=options.iterations)
        began = time.perf_counter(), time.process_time()
        labels = distill(task, METHODS[method](), schedule=schedule, **same)
        learned = time.perf_counter(), time.process_time()
        evaluation = evaluate(labels, target, models=options.models, **same)
        yield {
            "target": options.target,
            "base_examples": options.base_examples,
            "method": method,
            "precision": labels.settings["precision"],
            "seed": seed,
            "iterations": labels.settings["iterations"],
            "distill_s": learned[0] - began[0],
            "distill_processor_s": learned[1] - began[1],
            "test_s": time.perf_counter() - learned[0],
            "test_processor_s": time.process_time() - learned[1],
            "steps": labels.student.steps,
            "models": options.models,
            "accuracy": evaluation.accuracy_mean,
            "accuracy_std": evaluation.accuracy_std,
        }


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, mps")
    options.add_argument("--target", default="digits", help="name of a known data set")
    options.add_argument("--base-examples", type=int, default=10, help="N")
    options.add_argument("--iterations", type=int, help="length of a distillation")
    options.add_argument("--epochs", type=int, help="the same in passes over the training part")
    options.add_argument("--methods", type=words, default=list(BENCHED), help="names, with commas between")
    options.add_argument("--precisions", type=words, default=list(PRECISIONS), help="fp32, bf16, auto")
    options.add_argument("--seeds", type=numbers, default=[1], help="numbers, with commas between")
    options.add_argument("--models", type=int, default=5, help="test networks of each run")
    options.add_argument("--compile", action=argparse.BooleanOptionalAction, help="default: if the run is long")
    report(rows, options.parse_args())


if __name__ == "__main__":
    main()
