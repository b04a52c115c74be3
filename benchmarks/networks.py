"""Time per iteration and peak memory of every network with either head.

    python benchmarks/networks.py [--json] [--networks lenet,alexnet,resnet14] [--rounds 3] [--threads 1]

N = 100, N_i = 50, N_o = 1024, float32, on the CPU; images of random noise, 3 x 32 x 32 (LeNet, as in the paper's grey
experiments: 1 x 28 x 28), 10 classes. Drawing and normalising a batch counts into the time, the first iteration does not.
`s` is the median by the clock, `cpu_s` the least processor time, which a busy neighbour disturbs less. Each row is a
process of its own, so that `peak_mb` is its largest resident size. `original_s` and `original_mb` are what the authors'
code takes, where that was measured (2 threads, another time: compare with care).
"""

from __future__ import annotations

import argparse
import itertools
import json
import resource
import statistics
import time
from multiprocessing import get_context

import torch

from labeldistill.data import Normalisation
from labeldistill.distillers import METHODS, Problem, Schedule, epoch_batches, start
from labeldistill.evaluation import Exam
from labeldistill.networks import NETWORKS, make_network

COUNT, INNER, OUTER, CLASSES = 100, 50, 1024, 10
ORIGINAL = {  # network, method: seconds per iteration, peak in MB
    ("lenet", "second-order"): (0.120, 654),
    ("lenet", "ridge"): (0.118, 653),
    ("alexnet", "second-order"): (4.5, 3300),
    ("alexnet", "ridge"): (3.2, 3100),
}


def noise_problem(channels: int, size: int) -> Problem:
    "Random images, enough for two outer batches."
    rng = torch.Generator().manual_seed(0)
    shape = (channels, size, size)
    images = torch.randint(0, 256, (2 * OUTER, *shape), dtype=torch.uint8, generator=rng)
    targets = torch.randint(0, CLASSES, (2 * OUTER,), generator=rng)
    normalise = Normalisation((0.5,) * channels, (0.25,) * channels)
    base = torch.randn(COUNT, *shape, generator=rng)
    return Problem(base, images, targets, normalise, Exam(images, targets, normalise), CLASSES)


def measure(name: str, method: str, rounds: int, threads: int) -> dict:
    "One row; to be called in a fresh process."
    torch.set_num_threads(threads)
    channels, size = (1, 28) if name == "lenet" else (3, 32)
    problem, schedule = noise_problem(channels, size), Schedule(10**6, OUTER, INNER)
    distiller = METHODS[method](make_network(name, channels, size, CLASSES))
    batches = itertools.chain.from_iterable(epoch_batches(problem, schedule, 0, epoch) for epoch in itertools.count())
    state, seconds, processor = start(problem, distiller, 0).state, [], []
    for _ in range(rounds + 1):
        began, began_processor = time.perf_counter(), time.process_time()
        state, _ = distiller.step(state, next(batches))
        seconds.append(time.perf_counter() - began)
        processor.append(time.process_time() - began_processor)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    original, original_peak = ORIGINAL.get((name, method), (None, None))
    return {
        "network": name,
        "method": method,
        "s": statistics.median(seconds[1:]),
        "cpu_s": min(processor[1:]),
        "peak_mb": peak,
        "original_s": original,
        "original_mb": original_peak,
        "rounds": rounds,
        "threads": threads,
    }


def cell(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--networks", default=",".join(NETWORKS), help="names, with commas between")
    parser.add_argument("--rounds", type=int, default=3, help="timed iterations of each")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="threads of PyTorch")
    arguments = parser.parse_args()
    rows = []
    for name, method in itertools.product(arguments.networks.split(","), METHODS):
        with get_context("spawn").Pool(1) as pool:
            rows.append(pool.apply(measure, (name, method, arguments.rounds, arguments.threads)))
    if arguments.json:
        print(json.dumps({"rows": rows}))
        return
    head = f"{'network':16}{'method':14}{'s':>8}{'cpu s':>9}{'peak MB':>9}{'original s':>12}{'MB':>7}"
    print(f"{head}   ({arguments.threads} threads)")
    for row in rows:
        print(
            f"{row['network']:16}{row['method']:14}{row['s']:8.3f}{row['cpu_s']:9.3f}{row['peak_mb']:9.0f}"
            f"{cell(row['original_s'], '.3f'):>12}{cell(row['original_mb'], '.0f'):>7}"
        )


if __name__ == "__main__":
    main()
