"""How time and memory grow: with base examples, outer batch, classes, image size, window, experts, and images in a file.

    python benchmarks/growth.py [--json] [--series base_examples,outer_batch,classes,image_size,window,ensemble,npz_images]
        [--precision fp32] [--rounds 7] [--threads 1]

LeNet on random images, N = 100, N_o = 1024, C = 10, 1 x 28 x 28, but for what is varied; with more than 100 classes there are as
many base examples as classes, and where images, windows or ensembles grow N_o is 256. N_i follows the paper's rule. All points
of one series and method take turns. A window is one iteration of `unrolled`: as many training steps and all the way back. An
ensemble is the labels of as many experts, of ten steps each. `peak_mb` is the most that tensors took at one time, beyond the data
and the state; for `gflop` see iterations.py.

`npz_images` are images 1 x 28 x 28 in an .npz file: `data_mb` of pixels. Its rows are three steps in one process, in this order:
the file is read, split and normalised, and made into a task with its training and validation part. There `peak_mb` is what the
step added at most to what the process holds, by Linux's account.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from iterations import BENCHED, Setting, iteration, noise_task, operations
from measure import alternate, call, parser, peak_bytes, peak_resident, report, words

from labeldistill.config import Expert, Task
from labeldistill.data.catalog import load
from labeldistill.data.datasets import normalisation, split
from labeldistill.methods.expert_selection import select_expert_labels
from labeldistill.networks.compute import PRECISIONS, Computation, disable_malloc_trim
from labeldistill.task import load_task

SERIES = {
    "base_examples": [10, 100, 500, 1000, 5000],
    "outer_batch": [64, 256, 1024, 4096, 8192],
    "classes": [10, 50, 100, 200, 1000],
    "image_size": [16, 28, 32, 64, 96, 224],
    "window": [5, 20, 50, 100, 200],
    "ensemble": [1, 5, 10, 20],
    "npz_images": [5_000, 50_000, 500_000],
}
METHODS_OF = {"window": ("unrolled",), "ensemble": ("expert",)}  # of the others `BENCHED`
FEW = ("image_size", "window", "ensemble")  # series with a small outer batch


def point(method: str, series: str, value: int, computation: Computation) -> Setting:
    "The setting at one point of a series."
    setting = Setting("lenet", method, computation, outer_batch=256 if series in FEW else 1024)
    setting = setting._replace(**{series: value}) if series in Setting._fields else setting
    return setting._replace(base_examples=max(setting.base_examples, setting.classes)) if series == "classes" else setting


def work(series: str, value: int, setting: Setting) -> Callable[[], object]:
    "What is measured at one point of a series."
    if series == "ensemble":
        disable_malloc_trim()
        task, expert = noise_task(setting), Expert(ensemble=value, iterations=10, temperature=1.0)
        return lambda: select_expert_labels(expert, task, 0)
    return iteration(setting, **({"window": value} if series == "window" else {}))


def file_steps(path: Path, threads: int) -> Iterator[tuple[str, float, float, int]]:
    "What is done with the images of a file before the first iteration: clock and processor's seconds, bytes added at most."
    torch.set_num_threads(threads)
    kept = {}

    def parts() -> None:
        kept["rows"] = split(kept["data"])
        normalisation(kept["data"], kept["rows"].train)

    def task() -> None:
        kept["task"] = load_task(Task(kept["data"]), device="cpu")
        kept["sets"] = kept["task"].train, kept["task"].validation

    for name, function in {"read": lambda: kept.update(data=load(path)), "split": parts, "task": task}.items():
        seconds, peak = peak_resident(partial(call, function))
        yield name, *seconds, peak


def in_process(path: Path, threads: int) -> list[tuple[str, float, float, int]]:
    "These steps, after others with few images, with which libraries set themselves up."
    few = path.with_name("few.npz")
    write_images(few, 500)
    return [list(file_steps(file, threads)) for file in (few, path)][1]


def write_images(path: Path, count: int) -> None:
    "A file of random images in ten classes."
    images = np.random.default_rng(0).integers(0, 256, (count, 28, 28), dtype=np.uint8)
    np.savez(path, images=images, labels=np.arange(count) % 10)


def file_rows(options: argparse.Namespace) -> Iterator[dict]:
    "One row for each step with each file."
    for count in SERIES["npz_images"]:
        with TemporaryDirectory() as folder, ProcessPoolExecutor(1, get_context("spawn")) as fresh:
            write_images(path := Path(folder, "images.npz"), count)
            steps = fresh.submit(in_process, path, options.threads).result()
        for step, clock, processor, peak in steps:
            yield {
                "series": "npz_images",
                "value": count,
                "method": step,
                "threads": options.threads,
                "clock_ms": 1e3 * clock,
                "processor_ms": 1e3 * processor,
                "peak_mb": peak / 1e6,
                "data_mb": count * 28 * 28 / 1e6,
            }


def series_rows(series: str, method: str, options: argparse.Namespace) -> Iterator[dict]:
    "One row for each point of a series with a method."
    settings = {value: point(method, series, value, Computation(options.precision)) for value in SERIES[series]}
    functions = {value: work(series, value, setting) for value, setting in settings.items()}
    times = alternate({value: partial(call, function) for value, function in functions.items()}, options.rounds)
    for value, setting in settings.items():
        yield {
            "series": series,
            "value": value,
            "method": method,
            "precision": options.precision,
            "threads": options.threads,
            "inner_batch": setting.inner_batch,
            "clock_ms": 1e3 * times[value].clock,
            "processor_ms": 1e3 * times[value].processor,
            "peak_mb": peak_bytes(functions[value]) / 1e6,
            "gflop": operations(setting) / 1e9 if method in BENCHED else None,
        }


def rows(options: argparse.Namespace) -> Iterator[dict]:
    "The rows of all series."
    torch.set_num_threads(options.threads)
    for series in options.series:
        if series == "npz_images":
            yield from file_rows(options)
            continue
        for method in METHODS_OF.get(series, BENCHED):
            yield from series_rows(series, method, options)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--series", type=words, default=list(SERIES), help="names, with commas between")
    options.add_argument("--precision", choices=PRECISIONS, default="fp32", help="of the network")
    options.add_argument("--rounds", type=int, default=7, help="turns of each point that count")
    report(rows, options.parse_args())


if __name__ == "__main__":
    main()
