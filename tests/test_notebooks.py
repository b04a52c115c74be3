"""The experiment notebooks run and keep their parameters; README.md is what its notebook renders to."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from labeldistill import load_distilled
from labeldistill.reproduce.records import read_record
from labeldistill.reproduce.runs import EXPERIMENTS, new_run, to_parameters

REPOSITORY = Path(__file__).parents[1]
NOTEBOOKS = sorted((REPOSITORY / "nbs" / "experiments").glob("*.ipynb"))


def parameter_cells(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if "parameters" in cell["metadata"].get("tags", [])]


def test_there_are_experiment_notebooks():
    assert {"quickstart.ipynb", *(kind.notebook for kind in EXPERIMENTS.values())} == {path.name for path in NOTEBOOKS}


def test_no_notebook_keeps_errors_or_widgets_or_warnings_which_name_folders_of_the_machine_that_ran_it():
    paths = sorted((REPOSITORY / "nbs").rglob("*.ipynb"))
    cells = [(path.name, cell) for path in paths for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]]
    outputs = [(name, output) for name, cell in cells for output in cell.get("outputs", [])]
    assert len(outputs) > 100 and [name for name, output in outputs if output.get("name") == "stderr"] == []
    assert [name for name, output in outputs if output["output_type"] == "error"] == []
    assert [name for name, output in outputs if any("widget" in kind for kind in output.get("data", {}))] == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_experiment_has_one_cell_of_parameters(path):
    (cell,) = parameter_cells(path)
    assert cell["cell_type"] == "code" and "folder: str" in "".join(cell["source"])


def test_the_parameters_tag_survives_nbdev_clean(tmp_path, environment):
    shutil.copy(REPOSITORY / "settings.ini", tmp_path)
    shutil.copytree(REPOSITORY / "nbs" / "experiments", tmp_path / "nbs" / "experiments")
    copies = sorted((tmp_path / "nbs" / "experiments").glob("*.ipynb"))
    for copy in copies:  # something for the cleaner to do, to see that it came by
        notebook = json.loads(copy.read_text(encoding="utf-8"))
        notebook["cells"][0]["metadata"]["dirt"] = True
        copy.write_text(json.dumps(notebook), encoding="utf-8")
    cleaner = Path(sys.executable).with_name("nbdev_clean")
    done = subprocess.run([cleaner, "--fname", "nbs/experiments"], capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    assert len(copies) == len(NOTEBOOKS)
    for copy, original in zip(copies, NOTEBOOKS, strict=True):
        assert "dirt" not in copy.read_text(encoding="utf-8")
        assert [cell["source"] for cell in parameter_cells(copy)] == [cell["source"] for cell in parameter_cells(original)]


def test_readme_equals_its_render():
    spec = importlib.util.spec_from_file_location("readme", REPOSITORY / "nbs" / "readme.py")
    readme = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(readme)
    assert (REPOSITORY / "README.md").read_text(encoding="utf-8") == readme.render()


class Running:
    "An experiment notebook on its way through papermill, in a folder of its own."

    def __init__(self, name, folder, environment, **parameters):
        self.results = folder / "results"
        self.results.mkdir()
        given = json.dumps({"folder": str(self.results), **parameters})
        notebooks = REPOSITORY / "nbs" / "experiments" / f"{name}.ipynb", self.results / "run.ipynb"
        private = {"IPYTHONDIR": str(folder / "ipython"), "JUPYTER_RUNTIME_DIR": str(folder / "runtime")}
        self.said = open(folder / "said.txt", "w+")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "papermill", "--no-progress-bar", "--start-timeout", "300", *notebooks, "-y", given],
            **{"stdout": self.said, "stderr": subprocess.STDOUT, "cwd": folder, "env": environment | private},
        )

    def record(self):
        "What it is, and what it wrote as its last act."
        status = self.process.wait(timeout=600)
        self.said.seek(0)
        assert status == 0, self.said.read()[-3000:]
        return read_record(self.results)

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.said.close()


@pytest.fixture(scope="module")
def running(bars_npz, tmp_path_factory):
    "Quickstart and two kinds of run, side by side."
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    own = {"target": str(bars_npz), "base_examples": 6, "test": {"models": 1}}
    experiments = {
        "quickstart": {"iterations": 3, "outer_batch": 32, "models": 1},
        "distill": {
            **own,
            "schedule": {"iterations": 3, "outer_batch": 32},
            "method": "second-order",
            "options": {"inner_lr": 0.001},
        },
        "baseline": {**own, "options": {"smoothing": 0.1}},
    }
    started = {
        name: Running(name, tmp_path_factory.mktemp(name), environment, **parameters) for name, parameters in experiments.items()
    }
    yield started
    for experiment in started.values():
        experiment.end()


def check_record(record, **sections):
    assert sections.items() <= record.spec.items()
    assert record.facts["seconds"] > 0 and len(record.facts["notebook_sha256"]) == 64
    assert {"labeldistill", "torch", "torchvision"} <= record.facts["versions"].keys()


def test_quickstart_writes_table_pictures_labels_and_record(running):
    record, folder = running["quickstart"].record(), running["quickstart"].results
    check_record(record, kind="quickstart", iterations=3, outer_batch=32, models=1)
    rows = record.results["rows"]
    assert [row["labels"] for row in rows] == [*["true", "true, smoothed"] * 2, "learned, second-order", *["learned, ridge"] * 2]
    assert all(len(row["accuracies"]) == 1 for row in rows)
    table = (folder / "table.txt").read_text()
    assert table.count("±") == len(rows) and "Better than any true labels" in table and str(folder) in table
    for run in ("digits-ridge", "digits-second-order", "letters-ridge"):
        assert load_distilled(folder / f"{run}.safetensors").labels.shape == (10, 10)
        assert (folder / f"{run}.png").stat().st_size > 10_000


def test_distill_writes_labels_and_record_and_clears_its_checkpoint(running, bars_npz):
    record, folder = running["distill"].record(), running["distill"].results
    check_record(record, kind="distill", seed=1234)
    assert record.spec["task"]["target"] == str(bars_npz) and record.spec["method"]["second-order"]["inner_lr"] == 0.001
    results, learned = record.results, load_distilled(folder / "labels.safetensors")
    assert learned.labels.shape == (6, 3) and learned.method_name == "second-order"
    assert results["accuracy"]["n"] == 1 and results["steps"] >= 1 and 0 <= results["validation_accuracy"] <= 100
    assert sorted(path.name for path in folder.iterdir()) == ["labels.safetensors", "result.json", "run.ipynb", "run.json"]


SHORT = {"schedule": {"epochs": 2, "outer_batch": 32}, "test": {"models": 1}}
SMALL = SHORT | {
    "base_examples": 6,
    "draws": 2,
    "every": 1,
    "stretch": 1,
    "repeats": 1,
    "deviations": [-1, 2],
    "experts": {"count": 1, "max_iterations": 20, "checkpoints": 4},
    "recipes": [{"count": 6}],
    "protocol": {"students": 1, "validation_models": 1, "candidate_steps": [5]},
    "distillation": SHORT,
    "budget": 100_000,
    "outer_batch": 32,
    "students": 1,
    "others": [{"optimizer": "sgd"}],
    "canaries": 5,
    "canary_iterations": 1,
}


@pytest.mark.parametrize("kind", EXPERIMENTS.keys() - {"distill", "baseline"})
def test_the_other_kinds_run_too(kind, bars_npz, tmp_path, monkeypatch):
    monkeypatch.setattr("matplotlib.pyplot.show", lambda: None)
    names = to_parameters(new_run(kind, "smoke", task={"target": "digits"})).keys()
    given = {"target": str(bars_npz)} | {name: value for name, value in SMALL.items() if name in names}
    if "distillation" in given:
        given["distillation"] = {name: value for name, value in SHORT.items() if name in EXPERIMENTS[kind].sections}
    cells = json.loads((REPOSITORY / "nbs" / "experiments" / EXPERIMENTS[kind].notebook).read_text(encoding="utf-8"))["cells"]
    scope = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            exec("".join(line for line in cell["source"] if not line.startswith("%")), scope)
        if "parameters" in cell["metadata"].get("tags", []):
            scope |= {"folder": tmp_path / "smoke" / kind, "device": "cpu", **given}
    check_record(read_record(tmp_path / "smoke" / kind), kind=kind)
    assert scope["run"].scale == "smoke"


def test_baseline_writes_its_record(running, bars_npz):
    record = running["baseline"].record()
    check_record(record, kind="baseline", method={"true": {"smoothing": 0.1}})
    assert record.results["accuracy"]["n"] == 1 and record.results["steps"] >= 10
