"""What benchmarks and tests measure with: medians of alternating turns, and the peak of memory."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch


def alternate(functions: dict[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    "Median seconds of each function; they take turns, so that a neighbour's load meets them all. The first turn does not count."
    seconds = {name: [] for name in functions}
    for turn in range(rounds + 1):
        for name, function in functions.items():
            began = time.perf_counter()
            function()
            if turn:
                seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(seen) for name, seen in seconds.items()}


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
