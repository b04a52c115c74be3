"""Ten minutes on one GPU that say whether everything runs there, how fast, and what of the paper fits into the rest.

    python benchmarks/gpu_check.py [--out gpu_check] [--device cuda] [--minutes 10] [--quick]

This script has not yet been run on a GPU: no number that CUDA made is in this repository.

One folder is written: `gpu_check.json`, `gpu_check.md` with the same as tables, and `results/`, the records of paper cells. Both
files are renewed after each part, and a part that fails says why and does not stop the others. The parts:

- `facts`: the device and the versions.
- `tests`: `pytest -m cuda`.
- `graph`: the loop as a CUDA graph against the plain one, from the same start: resets, largest difference of the labels.
- `precision`: whole runs on digits in fp32 and bf16 (benchmarks/runs.py).
- `rates`: iterations per second, N = 100, N_o = 1024, and their share of the rate of matrix products on this machine
  (benchmarks/iterations.py says what counts), not compiled.
- `students`: the test of labels, 20 networks (benchmarks/students.py): by the package, and with all networks in one computation.
- `cells`: numbers of the paper for CIFAR-10, those with N = 100 first, until the minutes are over. Data are looked for in
  $LABELDISTILL_DATA. A run that was stopped goes on with the next call.

`--quick` takes the smallest form of each part, with the bundled digits, for a trial on a CPU.
"""

from __future__ import annotations

import argparse
import itertools
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from pathlib import Path

import pandas as pd
import torch
from iterations import BENCHED, Setting, iteration, named, operations, products, repeated
from measure import alternate, call, machine
from runs import rows as whole_runs
from students import package_test, together_test
from tqdm import tqdm

from labeldistill.api import prepare
from labeldistill.config import METHODS, Compute, Schedule, Task
from labeldistill.methods.cuda_graph import CudaGraphStep
from labeldistill.methods.loop import Loop, Progress, start
from labeldistill.reproduce.exhibits import cells
from labeldistill.reproduce.records import write_json
from labeldistill.reproduce.runs import Run, finished_record, perform
from labeldistill.utils import first_line

NETWORKS = ("lenet", "alexnet", "resnet14", "convnet")
ROOT = Path(__file__).parent.parent
TOLERANCE = 1e-3  # of a label: one step of Adam


def facts(options: argparse.Namespace) -> Iterator[dict]:
    "The device and the versions."
    found = {"device": options.device} | machine(torch.get_num_threads())
    if torch.device(options.device).type == "cuda":
        device = torch.cuda.get_device_properties(options.device)
        found |= {"gpu": device.name, "memory_gb": device.total_memory / 1e9, "capability": f"{device.major}.{device.minor}"}
        found |= {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
        found |= {"tf32_convolutions": torch.backends.cudnn.allow_tf32, "tf32_products": torch.backends.cuda.matmul.allow_tf32}
    yield found


def tests(options: argparse.Namespace) -> Iterator[dict]:
    "Every test that needs a GPU."
    command = [sys.executable, "-m", "pytest", "-q", "-m", "cuda", "-p", "no:cacheprovider", *options.tests]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=left(options))
    failed = [line for line in said.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    yield {"status": said.returncode, "summary": said.stdout.strip().splitlines()[-1], "failed": "; ".join(failed)}


def learned(name: str, options: argparse.Namespace, graphed: bool) -> Progress:
    "A short run with many resets, without validation."
    own = {"window": 5} if name == "unrolled" else {"monitor_window": 3}
    schedule, compute = Schedule(iterations=options.iterations, outer_batch=256), Compute(options.device, "fp32", compile=False)
    task, distiller = prepare(Task("digits", 10), METHODS[name](**own), schedule=schedule, seed=1, compute=compute)
    run, progress = Loop(task, distiller, 1), start(task, distiller, 1)
    plain = getattr(run.iterate, "function", run.iterate)
    run.iterate = CudaGraphStep(plain) if graphed else plain
    with tqdm(disable=True) as bar:
        while len(progress.curve) < options.iterations:
            progress = run.run_epoch(progress, bar)
    return progress


def graph(options: argparse.Namespace) -> Iterator[dict]:
    "The graph against the plain loop."
    for name in (*BENCHED, "unrolled"):
        plain, graphed = (learned(name, options, way) for way in (False, True))
        distance = float((plain.state.params - graphed.state.params).abs().max())
        same = plain.resets.equal(graphed.resets)
        row = {"method": name, "iterations": options.iterations, "resets": len(plain.resets), "same_resets": same}
        yield row | {"largest_difference": distance, "equal": same and distance <= TOLERANCE}


def precision(options: argparse.Namespace) -> Iterator[dict]:
    "Whole runs in both precisions."
    given = {"target": "digits", "base_examples": 10, "epochs": None, "methods": list(BENCHED), "precisions": ["fp32", "bf16"]}
    more = {"seeds": [1], "models": options.models, "compile": False, "threads": torch.get_num_threads()}
    yield from whole_runs(argparse.Namespace(**given, **more, iterations=options.iterations, device=options.device))


def rates(options: argparse.Namespace) -> Iterator[dict]:
    "Iterations per second."
    for network, method, name in itertools.product(options.networks, BENCHED, ("fp32", "bf16")):
        channels, size = (1, 28) if network == "lenet" else (3, 32)
        shape = {"outer_batch": options.outer_batch, "image_size": size, "channels": channels, "device": options.device}
        setting = Setting(network, method, named(name), **shape)
        turn = repeated(options.turn, iteration, setting)
        product = repeated(options.turn, products, name, options.device, options.matrix)
        times = alternate({"iterations": lambda turn=turn: call(turn), "products": lambda it=product: call(it)}, rounds=2)
        rate, matmul = (options.turn / times[what].clock for what in ("iterations", "products"))
        count, most = operations(setting), 2 * options.matrix**3
        row = {"network": network, "method": method, "precision": name, "outer_batch": options.outer_batch}
        row |= {"first_s": times["iterations"].first, "iterations_per_s": rate, "tflop_per_s": count * rate / 1e12}
        yield row | {"matmul_tflop_per_s": most * matmul / 1e12, "share_of_matmul": count * rate / (most * matmul)}


def students(options: argparse.Namespace) -> Iterator[dict]:
    "The test of labels."
    size = options.models, options.steps, options.examples, options.device
    forms: dict[str, Callable[[], None]] = {name: package_test(named(name), *size) for name in ("fp32", "bf16")}
    forms["fp32, together"] = together_test(*size)
    for name, seen in alternate({name: lambda act=act: call(act) for name, act in forms.items()}, rounds=1).items():
        row = {"form": name, "models": options.models, "steps": options.steps, "examples": options.examples}
        yield row | {"first_s": seen.first, "clock_s": seen.clock}


def paper_runs(options: argparse.Namespace) -> list[Run]:
    "The runs of the paper's tables, N = 100 first."
    found = [cell.run for number in range(1, 18) for cell in cells(f"table{number}", options.scale) if cell.run]
    tasks = {run: run.spec["task"] for run in found if run.spec.get("task", {}).get("target") == options.target}
    return sorted(tasks, key=lambda run: (tasks[run]["base_examples"] != 100, tasks[run]["base_examples"]))[: options.cells]


def paper_cells(options: argparse.Namespace) -> Iterator[dict]:
    "As many of these runs as the minutes allow, each in a process of its own."
    for run in paper_runs(options):
        folder, began = run.folder(options.out / "results"), time.monotonic()
        if left(options) > 0:
            process = get_context("spawn").Process(target=perform, args=(run, folder, options.device, False))
            process.start()
            process.join(left(options))
            process.terminate()
            process.join()
        record = finished_record(run, options.out / "results")
        row = {"run": run.name, "seconds": time.monotonic() - began, "finished": record is not None}
        yield row | {"accuracy": record.results["accuracy"]["mean"] if record and "accuracy" in record.results else None}


PARTS = {
    "facts": facts, "tests": tests, "graph": graph, "precision": precision, "rates": rates, "students": students,
    "cells": paper_cells,
}  # fmt: skip


def left(options: argparse.Namespace) -> float:
    "Seconds that are left."
    return options.until - time.monotonic()


def markdown(rows: list[dict]) -> str:
    "A table of Markdown."
    frame = pd.DataFrame(rows).map(lambda x: f"{x:.4g}" if isinstance(x, float) else str(x))
    return "\n".join(f"| {' | '.join(line)} |" for line in [[*frame], ["---"] * frame.shape[1], *frame.values.tolist()])


def write(out: Path, found: dict[str, list[dict]]) -> None:
    "The folder's two files, as far as they go."
    write_json(out / "gpu_check.json", found)
    tables = [f"## {name}\n\n{markdown(rows)}\n" for name, rows in found.items()]
    (out / "gpu_check.md").write_text("\n".join(["# GPU check\n", *tables]))


def check(options: argparse.Namespace) -> dict[str, list[dict]]:
    "All parts, as long as there is time."
    found = {}
    for name, part in PARTS.items():
        rows = found[name] = []
        try:
            if left(options) <= 0:
                raise TimeoutError("not run: no minutes are left")
            for row in part(options):
                rows.append(row)
                write(options.out, found)
                if left(options) <= 0 and name != "cells":
                    raise TimeoutError("stopped: no minutes are left")
        except Exception as error:  # whatever a GPU that was never tried may raise
            rows.append({"error": f"{type(error).__name__}: {first_line(error)}"})
        write(options.out, found)
        print(pd.DataFrame(rows).to_string(index=False), flush=True)
    return found


FULL = {
    "iterations": 200, "models": 20, "steps": 245, "examples": 10_000, "networks": NETWORKS, "outer_batch": 1024, "turn": 20,
    "matrix": 8192, "scale": "paper", "target": "cifar10", "cells": None, "tests": ["tests"],
}  # fmt: skip
QUICK = FULL | {
    "iterations": 8, "models": 2, "steps": 2, "examples": 40, "networks": ("lenet",), "outer_batch": 32, "turn": 1,
    "matrix": 64, "scale": "smoke", "target": "digits", "cells": 1, "tests": ["tests/networks/test_networks.py"],
}  # fmt: skip


def main(arguments: list[str] | None = None) -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--out", type=Path, default=Path("gpu_check"), help="folder of the results")
    options.add_argument("--device", default="cuda", help="cuda, cuda:1; cpu for a trial")
    options.add_argument("--minutes", type=float, default=10, help="time for everything")
    options.add_argument("--quick", action="store_true", help="the smallest form of each part")
    given = options.parse_args(arguments)
    vars(given).update(QUICK if given.quick else FULL, until=time.monotonic() + 60 * given.minutes)
    given.out.mkdir(parents=True, exist_ok=True)
    check(given)


if __name__ == "__main__":
    main()
