"""What benchmarks and tests measure with: medians of alternating turns, processes of their own, the peak of memory, reports."""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import pandas as pd
import torch


class Times(NamedTuple):
    "How long a function took, in seconds."

    first: float  # by the clock, with all that is done only once
    clock: float  # median of the later calls
    processor: float  # median of what these took of the processor; a busy neighbour disturbs it less


def call(function: Callable[[], object]) -> tuple[float, float]:
    "Seconds of one call by the clock, and of the processor."
    began, began_processor = time.perf_counter(), time.process_time()
    function()
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter() - began, time.process_time() - began_processor


def alternate(functions: dict[str, Callable[[], tuple[float, float]]], rounds: int) -> dict[str, Times]:
    "Times of functions that say how long they took. They take turns, so that a neighbour's load meets them all."
    seconds = {name: [] for name in functions}
    for _ in range(rounds + 1):
        for name, function in functions.items():
            seconds[name].append(function())
    medians = {name: [statistics.median(part) for part in zip(*seen[1:], strict=True)] for name, seen in seconds.items()}
    return {name: Times(seconds[name][0][0], *medians[name]) for name in functions}


def serve(pipe, cache: str, threads: int, make: Callable, arguments: tuple) -> None:
    "What a process of its own does: makes the function, calls it when it is told to, says how long that took."
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache
    torch.set_num_threads(threads)
    function = make(*arguments)
    pipe.send("ready")
    while pipe.recv() == "go":
        pipe.send(call(function))


@contextmanager
def own_process(threads: int, make: Callable, *arguments: object) -> Iterator[Callable[[], tuple[float, float]]]:
    "`make(*arguments)` in a process with its own settings, memory and compiler's cache; a call returns its seconds."
    cache = TemporaryDirectory(prefix="benchmark-")
    ours, theirs = get_context("spawn").Pipe()
    process = get_context("spawn").Process(target=serve, args=(theirs, cache.name, threads, make, arguments))
    process.start()
    theirs.close()
    ours.recv()

    def turn() -> tuple[float, float]:
        ours.send("go")
        return ours.recv()

    try:
        yield turn
    finally:
        process.terminate()
        process.join()
        cache.cleanup()


def peak_bytes(function: Callable[[], object]) -> int:
    "Most bytes that tensors took at one time during a call, beyond those that were there before."
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        kept = function()
    changes = [
        (event.start_ns(), event.nbytes()) for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"
    ]
    del kept
    level = peak = 0
    for _, change in sorted(changes):
        level += change
        peak = max(peak, level)
    return peak


def resident(fact: str) -> int:
    "Bytes of memory that this process holds: VmRSS now, VmHWM at most since its peak was last forgotten. Linux only."
    return 1024 * int(re.search(rf"{fact}:\s+(\d+)", Path("/proc/self/status").read_text())[1])


def peak_resident(function: Callable[[], object]) -> tuple[object, int]:
    "What a function returns, and the most bytes that the process held during the call beyond those before. Linux only."
    Path("/proc/self/clear_refs").write_text("5")  # the peak is forgotten
    before = resident("VmRSS")
    return function(), resident("VmHWM") - before


def words(text: str) -> list[str]:
    "An option's value: words with commas between."
    return text.split(",")


def numbers(text: str) -> list[int]:
    "An option's value: whole numbers with commas between."
    return [int(word) for word in words(text)]


def parser(description: str) -> argparse.ArgumentParser:
    "A command line with what all benchmarks know."
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--json", action="store_true", help="print one JSON object")
    made.add_argument("--threads", type=int, default=torch.get_num_threads(), help="threads of PyTorch")
    return made


def machine(threads: int) -> dict:
    "What the figures depend on."
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    features = [name for name in ("avx2", "avx512_f", "avx512_bf16", "amx_bf16") if capabilities.get(name)]
    return {
        "processor": platform.machine(),
        "features": features,
        "threads": threads,
        "torch": version("torch"),
        "labeldistill": version("labeldistill"),
        "python": platform.python_version(),
    }


def report(rows: Callable[[argparse.Namespace], Iterator[dict]], options: argparse.Namespace) -> None:
    "Prints the rows as a table or as JSON; to standard error also one by one, as they are made."
    made = []
    for row in rows(options):
        made.append(row)
        print(json.dumps(row), file=sys.stderr)
    if options.json:
        print(json.dumps({"machine": machine(options.threads), "rows": made}, indent=1))
    else:
        print(pd.DataFrame(made).to_string(index=False, float_format="{:.4g}".format))
