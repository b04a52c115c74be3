"""Runs that take no time, for tests of the executor; and a coordinator of them, to be killed."""

import json
import sys
from pathlib import Path

from labeldistill.reproduce.executor import ExecutorConfig, Job, run_inline, run_snakemake, write_manifest
from labeldistill.reproduce.runs import Run

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
results = {"gpu": os.environ.get("CUDA_VISIBLE_DEVICES"), "threads": os.environ["OMP_NUM_THREADS"]}
(folder / "run.json").write_text(json.dumps({"kind": "tiny", "number": number, "fails": fails, "free": free}))
(folder / ".part").write_text(json.dumps({"results": {**results, "time": [began, time.time()]}}))
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


def job(folder, number, fails=0, free=99, needs=()):
    "A tiny run in a folder where the notebook is."
    run = Run("smoke", {"kind": "tiny", "number": number, "fails": fails, "free": free})
    return Job(run, Path(folder, "tiny.ipynb"), tuple(need.run.name for need in needs))


def twelve(folder):
    "Twelve runs: one fails once, one always, one needs another; when three are done, the others wait at the gate."
    fails, jobs = {2: 1, 3: 99}, []
    for number in range(12):
        jobs.append(job(folder, number, fails.get(number, 0), 3, jobs[:1] if number == 7 else ()))
    return jobs


def configure(folder, **more):
    return ExecutorConfig(Path(folder), Path(folder), "cpu", **{"timeout_s": 120, **more})


def lines(folder, job, name):
    "What a run has written into its file."
    path = job.run.folder(folder) / name
    return path.read_text().split() if path.exists() else []


def coordinate(folder, engine, profile, workers, jobs):
    "Gets jobs done as `reproduce` would."
    workers, config = int(workers), configure(folder)
    if engine == "inline":
        return run_inline(jobs, config, workers, progress=False)
    manifest = write_manifest(jobs, config, "smoke", Path(folder, "smoke", ".engine"))
    return run_snakemake(jobs, manifest, config, workers, Path(profile) if profile else None, progress=False)


if __name__ == "__main__":
    coordinate(*sys.argv[1:], twelve(sys.argv[1]))
