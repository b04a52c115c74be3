"""Runs that take no time, for tests of the engine; and a coordinator of them, to be killed."""

import json
import sys
from pathlib import Path

from labeldistill.engine import Conditions, Step, compute_inline, compute_snakemake, write_manifest
from labeldistill.suite import Run

PARAMETERS = "folder, device, number, fails, free = '', 'cpu', 0, 0, 99"
WORK = """
import json, os, pathlib, time
folder = pathlib.Path(folder)
before = (folder / "began").read_text().split() if (folder / "began").exists() else []
with open(folder / "began", "a") as file:
    file.write("checkpointed\\n" if (folder / "checkpoint").exists() else "new\\n")
assert len(before) >= fails, f"failure {len(before) + 1}"
(folder / "checkpoint").touch()
began = time.time()
done = len(list(folder.parent.glob("*/result.json")))
while done >= free and not (folder.parent / "gate").exists():
    time.sleep(0.05)
with open(folder / "ended", "a") as file:
    file.write("once\\n")
results = {"kind": "tiny", "gpu": os.environ.get("CUDA_VISIBLE_DEVICES"), "threads": os.environ["OMP_NUM_THREADS"]}
record = {"parameters": {"number": number, "fails": fails, "free": free}, "results": {**results, "time": [began, time.time()]}}
(folder / ".part").write_text(json.dumps(record))
(folder / ".part").rename(folder / "result.json")
"""


def notebook(folder):
    "An experiment of two cells: fails a few times; waits for a file called gate unless fewer runs than are `free` are done."
    code = {"cell_type": "code", "execution_count": None, "outputs": []}
    cells = [
        {**code, "id": "told", "metadata": {"tags": ["parameters"]}, "source": PARAMETERS},
        {**code, "id": "work", "metadata": {}, "source": WORK},
    ]
    kernel = {"kernelspec": {"name": "python3", "display_name": "python3", "language": "python"}}
    path = Path(folder, "tiny.ipynb")
    path.write_text(json.dumps({"cells": cells, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}))
    return path


def step(folder, number, fails=0, free=99, needs=()):
    "A tiny run in a folder where the notebook is."
    run = Run("tiny", "smoke", {"number": number, "fails": fails, "free": free})
    return Step(run, Path(folder, "tiny.ipynb"), tuple(need.run.name for need in needs))


def twelve(folder):
    "Twelve runs: one fails once, one always, one needs another; when three are done, the others wait at the gate."
    fails, steps = {2: 1, 3: 99}, []
    for number in range(12):
        steps.append(step(folder, number, fails.get(number, 0), 3, steps[:1] if number == 7 else ()))
    return steps


def conditions(folder, **more):
    return Conditions(Path(folder), Path(folder), "cpu", **{"timeout_s": 120, **more})


def lines(folder, step, name):
    "What a run has written into its file."
    path = step.run.folder(Path(folder)) / name
    return path.read_text().split() if path.exists() else []


def coordinate(folder, engine, profile, jobs, steps):
    "Gets steps done as `reproduce` would."
    jobs = int(jobs)
    if engine == "inline":
        return compute_inline(steps, conditions(folder), jobs, show_progress=False)
    manifest = write_manifest(steps, {}, conditions(folder), "smoke", Path(folder, "smoke", ".engine"))
    return compute_snakemake(steps, manifest, conditions(folder), jobs, Path(profile) if profile else None, show_progress=False)


if __name__ == "__main__":
    coordinate(*sys.argv[1:], twelve(sys.argv[1]))
