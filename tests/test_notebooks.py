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
from labeldistill.suite import KINDS

REPOSITORY = Path(__file__).parents[1]
EXPERIMENTS = sorted((REPOSITORY / "nbs" / "experiments").glob("*.ipynb"))


def parameter_cells(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if "parameters" in cell["metadata"].get("tags", [])]


def test_there_are_experiment_notebooks():
    assert {"quickstart.ipynb", *(kind.notebook for kind in KINDS.values())} == {path.name for path in EXPERIMENTS}


def test_no_notebook_keeps_warnings_which_name_folders_of_the_machine_that_ran_it():
    paths = sorted((REPOSITORY / "nbs").rglob("*.ipynb"))
    cells = [(path.name, cell) for path in paths for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]]
    outputs = [(name, output) for name, cell in cells for output in cell.get("outputs", [])]
    assert len(outputs) > 100 and [name for name, output in outputs if output.get("name") == "stderr"] == []


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
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
    assert len(copies) == len(EXPERIMENTS)
    for copy, original in zip(copies, EXPERIMENTS, strict=True):
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
        given = {"folder": self.results, "models": 1, **parameters}
        options = [part for key, value in given.items() for part in ("-p", key, str(value))]
        notebooks = REPOSITORY / "nbs" / "experiments" / f"{name}.ipynb", self.results / "run.ipynb"
        private = {"IPYTHONDIR": str(folder / "ipython"), "JUPYTER_RUNTIME_DIR": str(folder / "runtime")}
        self.said = open(folder / "said.txt", "w+")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "papermill", "--no-progress-bar", "--start-timeout", "300", *notebooks, *options],
            **{"stdout": self.said, "stderr": subprocess.STDOUT, "cwd": folder, "env": environment | private},
        )

    def record(self):
        "What it wrote as its last act."
        status = self.process.wait(timeout=600)
        self.said.seek(0)
        assert status == 0, self.said.read()[-3000:]
        return json.loads((self.results / "result.json").read_text())

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.said.close()


@pytest.fixture(scope="module")
def running(bars_npz, tmp_path_factory):
    "Quickstart and two kinds of run, side by side."
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    own = {"target": bars_npz, "base_examples": 6}
    experiments = {
        "quickstart": {"iterations": 3, "outer_batch": 32},
        "distill": {**own, "iterations": 3, "outer_batch": 32, "method": "second-order"},
        "baseline": {**own, "label_smoothing": 0.1},
    }
    started = {
        name: Running(name, tmp_path_factory.mktemp(name), environment, **parameters) for name, parameters in experiments.items()
    }
    yield started
    for experiment in started.values():
        experiment.end()


def check_record(record, **parameters):
    assert parameters.items() <= record["parameters"].items()
    assert len(record["parameters_sha256"]) == 64 and record["seconds"] > 0
    assert {"labeldistill", "torch", "torchvision"} <= record["versions"].keys()


def test_quickstart_writes_table_pictures_labels_and_record(running):
    record, folder = running["quickstart"].record(), running["quickstart"].results
    check_record(record, iterations=3, outer_batch=32, models=1)
    rows = record["results"]["rows"]
    assert [row["labels"] for row in rows] == [*["true", "true, smoothed"] * 2, "learned, second-order", *["learned, ridge"] * 2]
    assert all(len(row["accuracies"]) == 1 for row in rows)
    table = (folder / "table.txt").read_text()
    assert table.count("±") == len(rows) and "Better than any true labels" in table and str(folder) in table
    for run in ("digits-ridge", "digits-second-order", "letters-ridge"):
        assert load_distilled(folder / f"{run}.safetensors").labels.shape == (10, 10)
        assert (folder / f"{run}.png").stat().st_size > 10_000


def test_distill_writes_labels_and_record_and_clears_its_checkpoint(running, bars_npz):
    record, folder = running["distill"].record(), running["distill"].results
    check_record(record, target=str(bars_npz), base_examples=6, method="second-order")
    results, learned = record["results"], load_distilled(folder / "labels.safetensors")
    assert learned.labels.shape == (6, 3) and learned.method == "second-order"
    assert results["accuracy"]["n"] == 1 and results["steps"] >= 1 and 0 <= results["validation_accuracy"] <= 100
    assert sorted(path.name for path in folder.iterdir()) == ["labels.safetensors", "result.json", "run.ipynb"]


@pytest.mark.parametrize("kind", KINDS.keys() - {"distill", "baseline"})
def test_the_other_kinds_run_too(kind, bars_npz, tmp_path, monkeypatch):
    monkeypatch.setattr("matplotlib.pyplot.show", lambda: None)
    own = {"target": str(bars_npz), "base_examples": 6, "outer_batch": 32, "epochs": 2, "models": 1}
    own |= {"draws": 2, "every": 1, "stretch": 1}
    own |= {"longest": 20, "points": 4, "experts": 1, "recipes": [{"count": 6}], "marks": [5], "curves": 1, "students": 1}
    given = {name: value for name, value in own.items() if name in KINDS[kind].defaults}
    cells = json.loads((REPOSITORY / "nbs" / "experiments" / KINDS[kind].notebook).read_text(encoding="utf-8"))["cells"]
    scope = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            exec("".join(line for line in cell["source"] if not line.startswith("%")), scope)
        if "parameters" in cell["metadata"].get("tags", []):
            scope |= {"folder": tmp_path / "smoke" / kind, "device": "cpu", **given}
    check_record(json.loads((tmp_path / "smoke" / kind / "result.json").read_text()), **given)


def test_baseline_writes_its_record(running, bars_npz):
    record = running["baseline"].record()
    check_record(record, target=str(bars_npz), base_examples=6, label_smoothing=0.1)
    assert record["results"]["accuracy"]["n"] == 1 and record["results"]["steps"] >= 10
