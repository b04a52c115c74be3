"""Runs: their names, their records, and what a kill costs."""

import inspect
import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from labeldistill import Compute, InputError, Ridge, Schedule, Student, Task, distill, evaluate, load_distilled, true_labels
from labeldistill.config import METHODS, Auto, Expert, Settings, setting, settings_to_json
from labeldistill.reproduce import experiments, records, runs
from labeldistill.reproduce.exhibits import cells
from labeldistill.reproduce.experiments import Experiment, Workspace, learn_as_asked, needed_labels, summary
from labeldistill.reproduce.records import TestSettings, read_record, start_record, write_json, write_record
from labeldistill.reproduce.runs import (
    EXPERIMENTS,
    Run,
    dependencies,
    finished_record,
    from_parameters,
    new_run,
    perform,
    to_parameters,
)

NOTEBOOKS = Path(__file__).parents[2] / "nbs" / "experiments"
DD = {"dd": {"learn": "images"}}  # two minibatches of three classes, three times
CPU = Compute(device="cpu")


@pytest.fixture(scope="module")
def small(bars_npz):
    "Sections of a distillation that takes no time."
    task = {"target": str(bars_npz), "base_examples": 6}
    return {"task": task, "schedule": {"iterations": 3, "outer_batch": 32}, "test": {"models": 2}}


def changed(sections, **changes):
    "Sections with other or more fields."
    return sections | {name: sections.get(name, {}) | new if isinstance(new, dict) else new for name, new in changes.items()}


def without(sections, *names):
    return {name: value for name, value in sections.items() if name not in names}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return tmp_path_factory.mktemp("results")


@pytest.fixture(scope="module")
def done(small, results):
    "A distill run that is done: the run, its folder, its results. Not to be changed."
    run = new_run("distill", "smoke", **small)
    return run, run.folder(results), perform(run, run.folder(results), "cpu", progress=False)


def go(kind, results, **sections):
    "Performs a run where the executor would."
    run = new_run(kind, "smoke", **sections)
    return perform(run, run.folder(results), "cpu", progress=False)


# Names


def test_names_do_not_change():
    expected = {
        "distill": "mnist-ridge-n100-lenet-s1-883247",
        "students": "mnist-n100-lenet-s1-students-c53371",
        "head_to_head": "mnist-ridge-n100-lenet-s1-head-to-head-78a57d",
    }
    found = {kind: new_run(kind, "paper", task={"target": "mnist"}, seed=1).name for kind in expected}
    assert found == expected


def test_a_name_depends_on_kind_and_every_field_but_not_on_scale_or_order(small):
    run = new_run("distill", "smoke", **small)
    others = [Run("smoke", run.spec | {"kind": "transfer"}), Run("smoke", run.spec | {"seed": 5})]
    for section in ("task", "student", "schedule", "compute", "test"):
        for name in run.spec[section]:
            others.append(Run("smoke", run.spec | {section: run.spec[section] | {name: "other"}}))
    for name in run.spec["method"]["ridge"]:
        others.append(Run("smoke", run.spec | {"method": {"ridge": run.spec["method"]["ridge"] | {name: "other"}}}))
    assert len({other.digest for other in [run, *others]}) == 1 + len(others) > 30
    assert run == Run("smoke", dict(reversed(run.spec.items())))
    assert run.name == Run("paper", run.spec).name and run != Run("paper", run.spec)
    assert re.fullmatch(r"bars-ridge-n6-lenet-s1234-[0-9a-f]{6}", run.name)


def test_scales_have_folders_of_their_own():
    folders = {new_run("distill", scale, task={"target": "mnist"}).folder("results").parent for scale in ("smoke", "paper")}
    assert folders == {Path("results/smoke"), Path("results/paper")}


@dataclass(frozen=True)
class Early(Settings):
    window: int = setting(20)


@dataclass(frozen=True)
class Late(Settings):
    window: int = setting(30)  # a default that has moved
    momentum: float = setting(0.9, absent=0.0)  # a field that is new


def test_a_field_that_is_new_and_a_default_that_moves_leave_old_records_where_they_are(tmp_path, monkeypatch):
    monkeypatch.setitem(EXPERIMENTS, "made up", Experiment("none.ipynb", None, {"section": Early}))
    old = new_run("made up", "smoke")
    folder = old.folder(tmp_path)
    folder.mkdir(parents=True)
    write_json(folder / "run.json", old.spec)
    write_json(folder / "result.json", {"results": {"found": 1}})
    monkeypatch.setitem(EXPERIMENTS, "made up", Experiment("none.ipynb", None, {"section": Late}))
    same, other = (new_run("made up", "smoke", section={"window": 20, "momentum": momentum}) for momentum in (0.0, 0.9))
    assert same.spec != old.spec and same.folder(tmp_path) == folder and finished_record(same, tmp_path).results == {"found": 1}
    assert finished_record(other, tmp_path) is None and finished_record(new_run("made up", "smoke"), tmp_path) is None


def test_a_new_field_of_experts_leaves_records_of_methods_that_start_from_them(monkeypatch):
    @dataclass(frozen=True)
    class Later(Expert):
        patience: int = setting(3, absent=0)

    given = {"task": {"target": "mnist"}, "method": {"unrolled": {"init": {"expert": {"ensemble": 3}}}}}
    old = new_run("distill", "paper", **given)
    monkeypatch.setitem(METHODS, "expert", Later)
    monkeypatch.setitem(records.RUN_METHODS, "expert", Later)
    later = new_run("distill", "paper", **given)
    assert later.spec["method"]["unrolled"]["init"]["expert"]["patience"] == 3 and later != old
    given["method"]["unrolled"]["init"]["expert"]["patience"] = 0
    assert new_run("distill", "paper", **given).name == old.name


# What a run is made of


def test_new_run_fills_in_all_defaults():
    run = new_run("baseline", "paper", task={"target": "mnist"}, method={"true": {"smoothing": 0}})
    assert run.spec["task"] == without(settings_to_json(Task("mnist")), "data_root")
    assert run.spec["test"] == settings_to_json(TestSettings()) and run.spec["compute"] == {"precision": "auto", "compile": None}
    assert json.dumps(run.spec["method"]) == '{"true": {"smoothing": 0.0}}'  # else its name would differ


@pytest.mark.parametrize("kind", EXPERIMENTS)
def test_settings_are_json_and_the_device_is_none_of_them(kind):
    spec = new_run(kind, "smoke", task={"target": "digits"}).spec
    assert json.loads(json.dumps(spec)) == spec
    names = {*spec, *(name for part in spec.values() if isinstance(part, dict) for name in part)}
    assert not {"device", "data_root", "folder", "checkpoint"} & names


def test_defaults_are_those_of_the_verbs():
    parameters = [each for verb in (evaluate, distill) for each in inspect.signature(verb).parameters.values()]
    own = {parameter.name: parameter.default for parameter in parameters}
    spec = new_run("distill", "smoke", task={"target": "digits"}).spec
    assert spec["method"] == {"ridge": settings_to_json(Ridge())} and own["method"] == Auto()  # a run names its method
    assert spec["student"] == settings_to_json(own["student"]) and spec["schedule"] == settings_to_json(own["schedule"])
    assert (spec["seed"], spec["test"]["models"]) == (own["seed"], own["models"])
    assert spec["compute"] == without(settings_to_json(own["compute"]), "device")


def test_one_computation_has_one_name():
    def run(temperature, steps):
        return new_run(
            "head_to_head", "smoke", task={"target": "digits"}, method={"expert": {"temperature": temperature}}, protocol=steps
        )

    whole, real = run(1, {"candidate_steps": (5, 9)}), run(1.0, {"candidate_steps": [5, 9]})
    assert whole == real and whole.name == real.name and whole.spec["protocol"]["candidate_steps"] == [5, 9]


@pytest.mark.parametrize(
    "kind, sections, message",
    [
        ("distil", {}, "distill, baseline"),
        ("distill", {"window": 3}, "no section 'window'.*schedule"),
        ("distill", {"schedule": {"epoch": 3}}, "no field 'epoch'.*epochs"),
        ("distill", {"schedule": {"epochs": 0}}, "--epochs 0: must be at least 1"),
        ("distill", {"method": {"ridge": {}, "dd": {}}}, "method 'ridge': expected one of auto, ridge, second-order"),
        ("distill", {"method": {"magic": {}}}, "method 'magic': expected one of auto, ridge"),
        ("head_to_head", {"budget": 8e6}, "8000000.0: expected int"),
        ("distill", {"task": {"target": torch.zeros(3)}}, "no torch.Tensor; expected a name, a path, module:factory"),
        ("distill", {"task": {"target": "digits", "network": torch.nn.Flatten}}, "no builtins.type; expected a name"),
        ("distill", {"method": {"dd": {"init": torch.eye(3)}}}, "no torch.Tensor; expected a name"),
    ],
)
def test_what_a_run_cannot_be_is_refused_in_one_line(kind, sections, message):
    with pytest.raises(InputError, match=message) as error:
        new_run(kind, "smoke", **{"task": {"target": "digits"}} | sections)
    assert "\n" not in str(error.value)


# As a notebook's parameters


def parameters_of(notebook):
    "The cell of parameters: its lines, and what they define."
    (cell,) = [cell for cell in json.loads(notebook.read_text())["cells"] if "parameters" in cell["metadata"].get("tags", [])]
    found = {"__annotations__": {}}
    exec("".join(cell["source"]), {}, found)
    del found["__annotations__"]
    return cell["source"], found


SHOWN = {  # where notebooks show something else than the defaults
    "baseline": {"method": {"true": {}}},
    "transfer": {"test": {"optimizer": "adam"}},
    "relabel": {"method": {"ridge": {"learn": "images"}}},
}


@pytest.mark.parametrize("kind", EXPERIMENTS)
def test_the_notebook_of_a_kind_has_its_parameters(kind):
    lines, found = parameters_of(NOTEBOOKS / EXPERIMENTS[kind].notebook)
    assert len(found) <= 14 and found.pop("device") == "auto" and found.pop("folder").endswith(kind)
    assert all(re.match(r"\w+: (str|int|float|bool|list|dict) = .*  # \w", line) for line in lines)
    default = new_run(kind, "smoke", task={"target": "digits"}, **SHOWN.get(kind, {}))
    assert found.keys() == to_parameters(default).keys()
    assert from_parameters(kind, "smoke", found) == default


@pytest.mark.parametrize("kind", EXPERIMENTS)
def test_a_run_survives_the_way_through_parameters(kind):
    given = {
        "task": {"target": "mnist", "base_examples": 20, "source": "letters", "network": "convnet", "balanced": False},
        "method": {"unrolled": {"window": 20, "init": {"expert": {"ensemble": 3, "temperature": 1e-05}}}},
        "schedule": {"iterations": 5},
        "test": {"models": 3, "order": "within"},
        "compute": {"precision": "fp32"},
        "recipes": [{"point": [2, 4]}, {}],
        "seed": 0,
    }
    run = new_run(kind, "smoke", **{name: value for name, value in given.items() if name in EXPERIMENTS[kind].sections})
    assert from_parameters(kind, "smoke", json.loads(json.dumps(to_parameters(run)))).spec == run.spec


# Performing


def test_distill_gives_what_the_verbs_give(done, small):
    _, folder, found = done
    task = Task(**small["task"])
    learned = distill(task, Ridge(), schedule=Schedule(**small["schedule"]), compute=CPU, progress=False)
    tested = evaluate(learned, models=2, compute=CPU, progress=False)
    assert torch.equal(load_distilled(folder / "labels.safetensors").labels, learned.labels)
    assert found["accuracy"] == summary(tested.accuracies)
    assert found["validation_accuracy"] == learned.validation_accuracy
    assert found["steps"] == learned.student.steps


def test_a_finished_run_leaves_labels_and_record_alone(done):
    run, folder, found = done
    assert sorted(path.name for path in folder.iterdir()) == ["labels.safetensors", "result.json", "run.json"]
    record = finished_record(run, folder.parents[1])
    assert json.loads((folder / "run.json").read_text()) == record.spec == run.spec
    assert record.results == found and found["kind"] == "distill"


def test_the_record_says_with_which_code_data_and_notebook(done):
    run, folder, _ = done
    facts = finished_record(run, folder.parents[1]).facts
    stated = {"began", "ended", "seconds", "attempts", "peak_memory_mb", "machine", "device", "versions", "python"}
    assert facts.keys() == stated | {"results", "git_commit", "git_dirty", "notebook_sha256", "data_sha256"}
    learned = load_distilled(folder / "labels.safetensors")
    assert facts["data_sha256"] == {"target": learned.target.sha256}
    assert facts["notebook_sha256"] == records.notebook_hash("distill.ipynb") and len(facts["notebook_sha256"]) == 64


def test_a_finished_run_is_not_repeated(done, monkeypatch, snapshot):
    run, folder, found = done
    before = snapshot(folder)
    monkeypatch.setitem(EXPERIMENTS, "distill", replace(EXPERIMENTS["distill"], run=None))
    assert perform(run, folder) == found
    assert snapshot(folder) == before


def test_a_folder_with_another_run_is_refused_and_left_alone(done, small, snapshot):
    _, folder, _ = done
    before = snapshot(folder)
    with pytest.raises(InputError, match="another run"):
        perform(new_run("distill", "smoke", **small | {"seed": 5}), folder)
    assert snapshot(folder) == before


@pytest.mark.parametrize("other", [{"seed": 5}, {"test": {"models": 3}}])
def test_a_record_of_another_run_is_not_accepted(done, small, other, tmp_path):
    _, folder, _ = done
    run = new_run("distill", "smoke", **small | other)
    run.folder(tmp_path).parent.mkdir()
    run.folder(tmp_path).symlink_to(folder)
    assert finished_record(run, tmp_path) is None


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("run.json", {"task": None}),
        ("run.json", {"task": []}),
        ("run.json", {"method": {}}),
        ("run.json", {"method": "ridge"}),
        ("run.json", {"kind": ["distill"]}),
        ("run.json", {"kind": None}),
        ("result.json", {"results": []}),
        ("result.json", {"seconds": None}),
        ("result.json", {"seconds": "12"}),
        ("result.json", {"peak_memory_mb": 10**400}),
        ("result.json", {"device": ["cpu"]}),
    ],
    ids=str,
)
def test_a_record_of_another_form_is_none(done, tmp_path, name, change):
    run, folder, _ = done
    place = run.folder(tmp_path)
    place.mkdir(parents=True)
    for file in ("run.json", "result.json"):
        write_json(place / file, json.loads((folder / file).read_text()) | (change if file == name else {}))
    assert finished_record(run, tmp_path) is None


def test_a_record_nested_deeply_is_none(done, tmp_path):
    run, folder, _ = done
    place = run.folder(tmp_path)
    place.mkdir(parents=True)
    (place / "run.json").write_text((folder / "run.json").read_text())
    (place / "result.json").write_text("[" * 100_000 + "]" * 100_000)
    assert read_record(place) is None


@pytest.mark.parametrize("name", ["result.json", "run.json"])
@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '{"results": []}', "\x00\xff"])
def test_a_damaged_record_is_none(name, text, done, tmp_path):
    run, folder, _ = done
    copied = run.folder(tmp_path)
    copied.mkdir(parents=True)
    for file in ("result.json", "run.json"):
        (copied / file).write_bytes((folder / file).read_bytes())
    assert finished_record(run, tmp_path)
    (copied / name).write_text(text, encoding="latin-1")
    assert finished_record(run, tmp_path) is None


def test_a_damaged_record_is_made_again(done, tmp_path):
    run, _, found = done
    run.folder(tmp_path).mkdir(parents=True)
    (run.folder(tmp_path) / "result.json").write_text('{"results": {')
    assert perform(run, run.folder(tmp_path), "cpu", progress=False) == found


def test_no_record_is_none(done, tmp_path):
    assert finished_record(done[0], tmp_path) is None and records.read_record(tmp_path) is None


def test_data_that_are_not_there_leave_no_folder(small, tmp_path):
    run = new_run("baseline", "smoke", task={"target": "nowhere.npz"}, method={"true": {}})
    with pytest.raises(InputError, match="nowhere"):
        perform(run, tmp_path / "run", "cpu", progress=False)
    assert not any(tmp_path.iterdir())


def test_the_record_comes_last_and_whole(done, tmp_path, monkeypatch):
    seen = {}

    def look(path, *arguments, **facts):
        seen["files"] = sorted(file.name for file in path.parent.iterdir())
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(runs.records, "write_record", look)
    folder = tmp_path / "run"
    with pytest.raises(OSError, match="No space"):
        perform(done[0], folder, "cpu", progress=False)
    assert seen["files"] == ["checkpoint", "labels.safetensors", "run.json"]
    assert sorted(path.name for path in folder.iterdir()) == seen["files"]  # to be continued
    monkeypatch.undo()
    perform(done[0], folder, "cpu", progress=False)
    assert sorted(path.name for path in folder.iterdir()) == ["labels.safetensors", "result.json", "run.json"]


def test_times_of_all_attempts_are_counted_and_the_code_is_that_of_the_beginning(tmp_path, monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr(records, "time", SimpleNamespace(time=lambda: clock[0]))
    monkeypatch.setattr(records, "git", lambda *arguments: "" if arguments[0] == "status" else "commit")
    kept = tmp_path / "checkpoint"
    assert start_record(kept)[:4] == (1000.0, 0.0, 1, 1000.0)
    (kept / "checkpoint.safetensors").touch()
    os.utime(kept / "checkpoint.safetensors", (1060.0, 1060.0))  # a minute of work was saved, then it was killed
    clock[0] = 5000.0
    began = start_record(kept)
    assert began[:4] == (1000.0, 60.0, 2, 5000.0) and began.commit == "commit" and began.dirty is False
    monkeypatch.setattr(records, "git", lambda *arguments: "another")  # the checkout goes on meanwhile
    clock[0] = 5030.0
    record = write_record(tmp_path / "result.json", {}, began, "cpu")
    assert (record["seconds"], record["attempts"], record["git_commit"]) == (90.0, 2, "commit")
    assert record["began"] == "1970-01-01T00:16:40+00:00"
    clock[0] = 9000.0
    assert start_record(kept)[1:3] == (60.0, 3)  # nothing was saved in the second attempt


KILLED = """
import json, os, signal, sys
from labeldistill.methods.checkpoint import Checkpoint
from labeldistill.reproduce.runs import Run, perform

save = Checkpoint.save
def save_and_die(self, tree):
    save(self, tree)
    os.kill(os.getpid(), signal.SIGKILL)
Checkpoint.save = save_and_die
perform(Run("smoke", json.loads(sys.argv[1])), sys.argv[2], "cpu", progress=False)
"""


def test_a_killed_run_continues_from_its_checkpoint_to_the_same_result(small, tmp_path, monkeypatch):
    run = new_run("distill", "smoke", **changed(small, schedule={"iterations": 203}))  # validated and saved after 102, 203
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", KILLED, json.dumps(run.spec), killed]
    process = subprocess.run(command, env=environment, capture_output=True)
    assert process.returncode == -signal.SIGKILL, process.stderr.decode()
    assert sorted(path.name for path in killed.iterdir()) == ["checkpoint", "run.json"] and records.read_record(killed) is None

    expected = perform(run, whole, "cpu", progress=False)
    stepped, build = [], Ridge.build

    def count_steps(self, task):
        distiller = build(self, task)
        step = distiller.step
        distiller.step = lambda *a: (stepped.append(1), step(*a))[1]
        return distiller

    monkeypatch.setattr(Ridge, "build", count_steps)
    assert perform(run, killed, "cpu", progress=False) == expected
    assert 0 < len(stepped) < 203
    labels = [load_distilled(folder / "labels.safetensors").labels for folder in (whole, killed)]
    assert torch.equal(*labels)
    assert not (killed / "checkpoint").exists()


# Base examples that several runs share


def test_optimised_base_examples_are_chosen_once_for_all_runs_on_them(small, tmp_path, monkeypatch):
    trained = []

    def look(pool, rows, validation, run):
        trained.append(rows.tolist())
        return torch.tensor([float(len(trained) % 150)])  # the last but one is the best

    monkeypatch.setattr("labeldistill.training.selection._learning_curve", look)
    given = changed(small, task={"selection": "optimised"})
    baseline = new_run("baseline", "smoke", task=given["task"], method={"true": {}}, test={"models": 1, "steps": 3})
    learned = new_run("distill", "smoke", **given)
    (selection,) = dependencies(learned)
    assert dependencies(baseline) == [selection] and selection.kind == "selection"
    for run in (baseline, learned):
        perform(run, run.folder(tmp_path), "cpu", progress=False)
    assert len(trained) == 150
    rows = finished_record(selection, tmp_path).results["rows"]
    labels = load_distilled(learned.folder(tmp_path) / "labels.safetensors")
    assert labels.rows.tolist() == rows == trained[-4] == true_labels(Task(**given["task"])).rows.tolist()
    again = distill(Task(**given["task"]), Ridge(), schedule=Schedule(**given["schedule"]), compute=CPU, progress=False)
    assert torch.equal(again.labels, labels.labels)


def test_a_selection_that_is_not_there_is_asked_for_in_a_line(small, tmp_path):
    run = new_run("baseline", "smoke", task=small["task"], method={"true": {}}, test={"models": 1})
    with pytest.raises(InputError, match="expected the record of the base examples' selection"):
        experiments.run_baseline(run.spec, Workspace(tmp_path, "cpu", needs=(tmp_path / "nothing",)))


# Baselines


def test_baseline_gives_what_the_verb_gives(small, results):
    found = go("baseline", results, task=small["task"], method={"true": {"smoothing": 0.1}}, test={"models": 1})
    tested = evaluate(true_labels(Task(**small["task"]), 0.1), models=1, compute=CPU, progress=False)
    assert found["accuracy"]["values"] == list(tested.accuracies) and found["steps"] == tested.steps


def test_a_baseline_trains_for_the_steps_that_are_given(small, results):
    assert go("baseline", results, task=small["task"], method={"true": {}}, test={"models": 1, "steps": 3})["steps"] == 3
    with pytest.raises(InputError, match="--steps 0: must be at least 1"):
        new_run("baseline", "smoke", task=small["task"], method={"true": {}}, test={"steps": 0})


@pytest.mark.parametrize("method", ["ridge", "expert", "unrolled"])
def test_a_schedule_that_is_not_stated_is_the_methods_own(method, monkeypatch):
    asked = {}
    monkeypatch.setattr(experiments, "distill", lambda **options: asked.update(options))
    run = new_run("distill", "paper", task={"target": "digits"}, method={method: {}})
    learn_as_asked(run.spec, Workspace(Path(), "cpu"))
    assert asked["schedule"] == Schedule() and asked["method"] == METHODS[method]()
    run = new_run("distill", "paper", task={"target": "digits"}, schedule={"epochs": 3, "outer_batch": 128})
    learn_as_asked(run.spec, Workspace(Path(), "cpu"))
    assert asked["schedule"] == Schedule(epochs=3, outer_batch=128)


# On another run's labels


def test_dependencies_are_named_by_their_sections(small):
    run = new_run("transfer", "short", **changed(small, test={"head": "linear"}))
    assert dependencies(run) == [new_run("distill", "short", **small)]
    assert dependencies(new_run("distill", "short", **small)) == []
    assert run.name != new_run("transfer", "short", **changed(small, test={"head": "linear"}, seed=5)).name


def test_transfer_tests_the_labels_of_another_run(done, small, results):
    before = records.read_record(done[1])
    way = {"network": "convnet", "head": "linear", "optimizer": "sgd"}
    found = go("transfer", results, **changed(small, test=way))
    how = {"network": "convnet", "student": Student(head="linear", optimizer="sgd"), "models": 2}
    tested = evaluate(done[1] / "labels.safetensors", small["task"]["target"], **how, compute=CPU, progress=False)
    assert found["accuracy"]["values"] == list(tested.accuracies)
    assert {name: found[name] for name in way} == way
    assert records.read_record(done[1]) == before


def test_what_labels_of_another_run_need_is_what_the_run_itself_names(small, tmp_path, bars):
    task = small["task"] | {"network": "user_networks:plain"}
    found = go("transfer", tmp_path, **small | {"task": task})
    assert found["network"] == "user_networks:plain"
    spec = new_run("transfer", "smoke", **small | {"task": task}).spec
    (made,) = (path for path in (tmp_path / "smoke").iterdir() if (path / "labels.safetensors").exists())
    labels = needed_labels(spec, Workspace(made, needs=(made,)))
    assert labels.from_file and torch.equal(labels.images, bars.images[labels.rows])
    with pytest.raises(InputError, match="'digits' is not the data the labels were made for"):
        needed_labels(spec | {"task": task | {"target": "digits"}}, Workspace(made, needs=(made,)))


def test_a_run_whose_labels_are_not_there_has_them_made_first(small, tmp_path):
    go("transfer", tmp_path, **small | {"seed": 6})
    assert finished_record(new_run("distill", "smoke", **small | {"seed": 6}), tmp_path)
    assert len(list((tmp_path / "smoke").iterdir())) == 2


def test_sensitivity_tests_around_the_estimated_steps(done, small, results):
    found = go("sensitivity", results, **small, deviations=[-50, 0, 2])
    own = done[2]
    assert list(found["deviations"]) == ["-50", "+0", "+2"] and found["steps"] == own["steps"] == 3
    assert [tested["steps"] for tested in found["deviations"].values()] == [1, 3, 5]
    assert found["deviations"]["+0"]["accuracy"] == own["accuracy"]


@pytest.fixture(scope="module")
def images(small, results):
    "Where a dataset distillation of these sections lies, and what it found."
    run = new_run("distill", "smoke", **small | {"method": DD})
    return run.folder(results), perform(run, run.folder(results), "cpu", progress=False)


def test_images_are_tested_as_they_were_learned(images):
    _, found = images
    assert (found["steps"], found["optimizer"], found["order"]) == (6, "own", "learned")


@pytest.mark.parametrize(
    "way", [{"optimizer": "average"}, {"optimizer": "own", "order": "within"}, {"optimizer": "adam", "steps": 9}]
)
def test_images_can_be_trained_on_otherwise(way, images, small, results):
    found = go("transfer", results, **changed(small, method=DD, test=way))
    file, how = images[0] / "labels.safetensors", {"student": Student(**way), "models": 2}
    tested = evaluate(file, small["task"]["target"], **how, compute=CPU, progress=False)
    assert found["accuracy"]["values"] == list(tested.accuracies)
    assert [found[name] for name in way] == [*way.values()] and found["steps"] == way.get("steps", 6)


def test_images_can_be_trained_on_for_other_numbers_of_steps(images, small, results):
    found = go("sensitivity", results, **small | {"method": DD}, deviations=[-4, 0, 2])
    assert [tested["steps"] for tested in found["deviations"].values()] == [2, 6, 8]
    assert found["deviations"]["+0"]["accuracy"] == images[1]["accuracy"]


def test_every_cell_of_table_9_is_in_one_record(small, results):
    record = go("sensitivity", results, **changed(small, test={"models": 1}))
    for cell in cells("table9", "smoke"):
        found = record
        for key in cell.read.split("."):
            found = found[key]
        assert found.keys() == {"mean", "std", "n", "values"}


# Noise and time


def test_gradient_variance_has_a_point_for_every_stretch(small, results):
    sections = changed(without(small, "test"), method={"second-order": {}}, schedule={"iterations": 9})
    found = go("gradient_variance", results, **sections, draws=3, every=1)
    assert found["iteration"] == [3, 6, 9]
    assert all(value > 0 for value in found["variance"]) and len(found["relative_variance"]) == 3
    for method in ({"dd": {"learn": "labels"}}, {"ridge": {"learn": "images"}}):
        with pytest.raises(InputError, match="has no label gradient"):
            go("gradient_variance", results, **sections | {"method": method}, draws=3, every=1)


@pytest.mark.parametrize("method", ["ridge", "unrolled"])
def test_a_timed_distillation_is_as_long_as_an_untimed_one(method, small, monkeypatch):
    lengths = []

    def note(task, *arguments):
        lengths.append(task.schedule)
        raise KeyboardInterrupt

    run = new_run("timing", "smoke", task=small["task"], method={method: {}})
    task, _ = experiments.prepare(**experiments.distill_arguments(run.spec, "cpu"))
    monkeypatch.setattr("labeldistill.api.learn", note)
    with pytest.raises(KeyboardInterrupt):
        learn_as_asked(run.spec, Workspace(Path(), "cpu"))
    assert lengths == [task.schedule]


def test_an_expert_is_not_timed(small, results):
    with pytest.raises(InputError, match="method 'expert': has no iterations to time"):
        go("timing", results, task=small["task"], method={"expert": {}})


def test_timing_extrapolates_from_two_lengths(small, results, monkeypatch):
    lengths = []

    def learn(spec, workspace, schedule, compute):
        lengths.append(schedule.epochs)
        assert (schedule.outer_batch, schedule.validate_every) == (32, 2)  # as the whole run, not the short ones
        assert compute == Compute("cpu", "bf16", False)

    monkeypatch.setattr(experiments, "learn_as_asked", learn)
    clock = iter([0.0, 7.0, 0.0, 10.0, 10.0, 26.0])  # 10 s for one stretch, 16 s for two
    monkeypatch.setattr(experiments.time, "perf_counter", lambda: next(clock))
    sections = {"task": small["task"], "schedule": {"epochs": 20, "outer_batch": 32}, "compute": {"precision": "bf16"}}
    found = go("timing", results, **sections, stretch=2, repeats=1)
    assert lengths == [2, 2, 4]  # the first warms up
    assert found["minutes"] == {"mean": pytest.approx((10 + 9 * 6) / 60), "std": 0.0, "n": 1, "values": [pytest.approx(64 / 60)]}


@pytest.mark.parametrize(
    ("method", "precision"), [({"dd": {}}, "fp32"), ({"ridge": {"learn": "images"}}, "bf16")], ids=["dd", "ridge"]
)
def test_images_are_timed_as_they_would_be_learned(method, precision, small, results, monkeypatch):
    computed = []
    note = lambda spec, workspace, schedule, compute: computed.append(compute.precision)  # noqa: E731
    monkeypatch.setattr(experiments, "learn_as_asked", note)
    monkeypatch.setattr("labeldistill.networks.compute.bfloat16_is_native", lambda device: True)
    monkeypatch.setattr("labeldistill.networks.compute.can_compile", lambda device: False)
    task = small["task"] | {"base_examples": 3 * 10**5}  # as many as one likes
    go("timing", results, task=task, method=method, schedule={"epochs": 4000}, repeats=1)
    assert set(computed) == {precision}
