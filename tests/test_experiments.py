"""Runs: their names, their records, and what a kill costs."""

import inspect
import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from labeldistill import InputError, baseline, distill, evaluate, experiments, load_distilled, suite
from labeldistill.experiments import BASELINE, DISTILL, LEARNING, TIMING, Place, learn, open_scene, summary
from labeldistill.runs import begin, write_record
from labeldistill.suite import KINDS, Run, dependencies, new_run, perform, read_result
from labeldistill.tables import cells

NOTEBOOKS = Path(__file__).parents[1] / "nbs" / "experiments"
SMALL = {"base_examples": 6, "iterations": 3, "outer_batch": 32, "models": 2}
DD = {"learn": "images", "method": "dd"}  # two minibatches of three classes, three times


@pytest.fixture(scope="module")
def small(bars_npz):
    "Parameters of a distillation that takes no time."
    return {"target": str(bars_npz), **SMALL}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return tmp_path_factory.mktemp("results")


@pytest.fixture(scope="module")
def done(small, results):
    "A distill run that is done: the run, its folder, its record. Not to be changed."
    run = new_run("distill", "smoke", small)
    return run, run.folder(results), perform(run.kind, run.parameters, run.folder(results), "cpu", show_progress=False)


def go(kind, parameters, results):
    "Performs a run where the suite would."
    run = new_run(kind, "smoke", parameters)
    return perform(kind, parameters, run.folder(results), "cpu", show_progress=False)["results"]


def test_names_do_not_change():
    given = {"target": "mnist", "seed": 1}
    assert new_run("distill", "paper", given).name == "distill-2bd9d60cac73"
    assert Run("distill", "paper", given).name == "distill-2bd9d60cac73"  # a parameter that is new changes no names


def test_a_name_depends_on_kind_and_every_parameter_but_not_on_scale_or_order():
    parameters = LEARNING | {"seed": 1}
    run = Run("distill", "smoke", parameters)
    changed = [Run("distill", "smoke", parameters | {key: "other"}) for key in parameters]
    others = [*changed, Run("sensitivity", "smoke", parameters), new_run("distill", "smoke", {})]
    assert len({other.name for other in [run, *others]}) == 1 + len(others)
    assert run == Run("distill", "smoke", dict(reversed(parameters.items())))
    assert run.name == Run("distill", "paper", parameters).name
    assert re.fullmatch(r"distill-[0-9a-f]{12}", run.name)


def test_a_record_may_be_older_than_a_parameter(done, tmp_path):
    run, _, record = done
    parameters = dict(record["parameters"])
    del parameters["passes"]
    (tmp_path / "result.json").write_text(json.dumps(record | {"parameters": parameters}))
    other = new_run(run.kind, run.scale, run.parameters | {"passes": 5})
    assert read_result(tmp_path, run) and read_result(tmp_path, other) is None


def test_scales_have_folders_of_their_own():
    folders = {Run("distill", scale, {}).folder(Path("results")) for scale in ("smoke", "paper")}
    assert {folder.parent for folder in folders} == {Path("results/smoke"), Path("results/paper")}


def test_new_run_fills_in_all_defaults():
    run = new_run("baseline", "paper", {"target": "mnist", "label_smoothing": 0})
    assert run.parameters == BASELINE | {"target": "mnist", "label_smoothing": 0.0}
    assert json.dumps(run.parameters["label_smoothing"]) == "0.0"  # else its name would differ


@pytest.mark.parametrize("kind", KINDS)
def test_parameters_are_json_and_the_device_is_none_of_them(kind):
    defaults = KINDS[kind].defaults
    assert json.loads(json.dumps(defaults)) == defaults
    assert not {"device", "data_root", "folder", "checkpoint"} & defaults.keys()


@pytest.mark.parametrize("verb, options", [(distill, LEARNING), (baseline, BASELINE)])
def test_defaults_are_those_of_the_verbs(verb, options):
    own = {name: parameter.default for name, parameter in inspect.signature(verb).parameters.items()}
    elsewhere = {"device", "data_root", "checkpoint", "resume", "show_progress", "compile", "validate_every"}
    assert options.keys() == own.keys() - elsewhere
    stated = {"target": "digits", "epochs": 400, "outer_batch": 1024}
    assert {name: value for name, value in options.items() if own[name] != value}.items() <= stated.items()


@pytest.mark.parametrize("kind", KINDS)
def test_the_notebook_of_a_kind_has_its_parameters(kind):
    notebook = json.loads((NOTEBOOKS / KINDS[kind].notebook).read_text(encoding="utf-8"))
    (cell,) = [cell for cell in notebook["cells"] if "parameters" in cell["metadata"].get("tags", [])]
    found = {"__annotations__": {}}
    exec("".join(cell["source"]), {}, found)
    del found["__annotations__"]
    assert found.pop("device") == "auto" and found.pop("folder").endswith(kind)
    assert found == KINDS[kind].defaults
    assert all(re.match(r"\w+: (str|int|float|bool|list) = ", line) for line in cell["source"])


@pytest.mark.parametrize(
    "kind, parameters, message",
    [("distil", {}, "distill, baseline"), ("distill", {"epoch": 3}, "no parameter 'epoch'.*epochs")],
)
def test_bad_names_are_refused(kind, parameters, message, tmp_path):
    for act in (lambda: new_run(kind, "smoke", parameters), lambda: perform(kind, parameters, tmp_path / "run")):
        with pytest.raises(InputError, match=message) as error:
            act()
        assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_distill_gives_what_the_verbs_give(done, small):
    _, folder, record = done
    options = {name: value for name, value in small.items() if name not in ("models", "target")}
    learned = distill(small["target"], **options, device="cpu", show_progress=False)
    tested = evaluate(learned, models=2, device="cpu", show_progress=False)
    assert torch.equal(load_distilled(folder / "labels.safetensors").labels, learned.labels)
    assert record["results"]["accuracy"] == summary(tested.accuracies)
    assert record["results"]["validation_accuracy"] == learned.validation_accuracy
    assert record["results"]["steps"] == learned.steps


def test_a_finished_run_leaves_labels_and_record_alone(done):
    run, folder, record = done
    assert sorted(path.name for path in folder.iterdir()) == ["labels.safetensors", "result.json"]
    assert record["parameters"] == run.parameters and record["results"]["kind"] == "distill"
    assert read_result(folder, run) == read_result(folder) == record


def test_a_finished_run_is_not_repeated(done, monkeypatch, snapshot):
    run, folder, record = done
    before = snapshot(folder)
    monkeypatch.setitem(KINDS, "distill", replace(KINDS["distill"], body=None))
    assert perform("distill", run.parameters, folder) == record
    assert snapshot(folder) == before


def test_a_folder_with_another_run_is_refused_and_left_alone(done, small, snapshot):
    _, folder, _ = done
    before = snapshot(folder)
    with pytest.raises(InputError, match="another run"):
        perform("distill", small | {"seed": 5}, folder)
    assert snapshot(folder) == before


@pytest.mark.parametrize("other", [{"seed": 5}, {"models": 3}])
def test_a_record_of_other_parameters_is_not_accepted(done, small, other):
    _, folder, _ = done
    assert read_result(folder, new_run("distill", "smoke", small | other)) is None


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"results": {}}', '{"results": [], "parameters": {}}', "\x00\xff"])
def test_a_damaged_record_is_none_and_the_run_is_done_again(text, done, results, tmp_path, small):
    folder = tmp_path / "smoke" / "run"
    folder.mkdir(parents=True)
    (folder / "result.json").write_text(text, encoding="latin-1")
    assert read_result(folder) is None
    assert perform("distill", small, folder, "cpu", show_progress=False)["results"] == done[2]["results"]


def test_no_record_is_none(tmp_path):
    assert read_result(tmp_path) is None and read_result(tmp_path / "nowhere") is None


def test_the_record_comes_last_and_whole(small, tmp_path, monkeypatch):
    seen = {}

    def look(path, *arguments):
        seen["files"] = sorted(file.name for file in path.parent.iterdir())
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(suite, "write_record", look)
    folder = tmp_path / "run"
    with pytest.raises(OSError, match="No space"):
        perform("distill", small, folder, "cpu", show_progress=False)
    assert seen["files"] == ["checkpoint", "labels.safetensors"]
    assert sorted(path.name for path in folder.iterdir()) == ["checkpoint", "labels.safetensors"]  # to be continued
    monkeypatch.undo()
    perform("distill", small, folder, "cpu", show_progress=False)
    assert sorted(path.name for path in folder.iterdir()) == ["labels.safetensors", "result.json"]


def test_times_of_all_attempts_are_counted_and_the_code_is_that_of_the_beginning(tmp_path, monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr("labeldistill.runs.time", SimpleNamespace(time=lambda: clock[0]))
    monkeypatch.setattr("labeldistill.runs.git", lambda *arguments: "" if arguments[0] == "status" else "commit")
    kept = tmp_path / "checkpoint"
    assert begin(kept)[:4] == (1000.0, 0.0, 1, 1000.0)
    (kept / "checkpoint.safetensors").touch()
    os.utime(kept / "checkpoint.safetensors", (1060.0, 1060.0))  # a minute of work was saved, then it was killed
    clock[0] = 5000.0
    began = begin(kept)
    assert began[:4] == (1000.0, 60.0, 2, 5000.0) and began.commit == "commit" and began.dirty is False
    monkeypatch.setattr("labeldistill.runs.git", lambda *arguments: "another")  # the checkout goes on meanwhile
    clock[0] = 5030.0
    record = write_record(tmp_path / "result.json", {}, {}, began, "cpu")
    assert (record["seconds"], record["attempts"], record["git_commit"]) == (90.0, 2, "commit")
    assert record["began"] == "1970-01-01T00:16:40+00:00"
    clock[0] = 9000.0
    assert begin(kept)[1:3] == (60.0, 3)  # nothing was saved in the second attempt


def test_one_computation_has_one_name():
    whole, real = (new_run("head_to_head", "smoke", {"temperature": t, "marks": m}) for t, m in ((1, (5, 9)), (1.0, [5, 9])))
    assert whole == real and whole.name == real.name and whole.parameters["marks"] == [5, 9]


@pytest.mark.parametrize("method", ["ridge", "unrolled"])
def test_a_timed_distillation_is_as_long_as_an_untimed_one(method, small, monkeypatch):
    lengths = []

    def note(problem, learner, schedule, *arguments):
        lengths.append(schedule)
        raise KeyboardInterrupt

    parameters = TIMING | {"target": small["target"], "base_examples": 6, "method": method, "iterations": None}
    _, schedule = open_scene(parameters, Place(Path(), "cpu", False))
    monkeypatch.setattr("labeldistill.runs.distill_labels", note)
    with pytest.raises(KeyboardInterrupt):
        learn(DISTILL | parameters, Place(Path(), "cpu", False))
    assert lengths == [schedule]


def test_an_expert_is_not_timed(small, results):
    with pytest.raises(InputError, match="--method 'expert': wanted"):
        go("timing", {"target": small["target"], "method": "expert"}, results)


KILLED = """
import json, os, signal, sys
from labeldistill.distillers import Checkpoint
from labeldistill.suite import perform

save = Checkpoint.save
def save_and_die(self, progress):
    save(self, progress)
    os.kill(os.getpid(), signal.SIGKILL)
Checkpoint.save = save_and_die
perform("distill", json.loads(sys.argv[1]), sys.argv[2], "cpu", show_progress=False)
"""


def test_a_killed_run_continues_from_its_checkpoint_to_the_same_result(small, tmp_path, monkeypatch):
    parameters = small | {"iterations": 203, "outer_batch": 32}  # validated, and saved, after 102 iterations, 203
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.run([sys.executable, "-c", KILLED, json.dumps(parameters), killed], env=environment, capture_output=True)
    assert process.returncode == -signal.SIGKILL, process.stderr.decode()
    assert [path.name for path in killed.iterdir()] == ["checkpoint"] and read_result(killed) is None

    expected = perform("distill", parameters, whole, "cpu", show_progress=False)
    stepped = []
    step = experiments.METHODS["ridge"].step
    monkeypatch.setattr(experiments.METHODS["ridge"], "step", lambda *a: (stepped.append(1), step(*a))[1])
    record = perform("distill", parameters, killed, "cpu", show_progress=False)
    assert 0 < len(stepped) < 203
    assert record["results"] == expected["results"]
    labels = [load_distilled(folder / "labels.safetensors").labels for folder in (whole, killed)]
    assert torch.equal(*labels)
    assert not (killed / "checkpoint").exists()


def test_baseline_gives_what_the_verb_gives(small, results):
    found = go("baseline", {"target": small["target"], "base_examples": 6, "models": 1, "label_smoothing": 0.1}, results)
    options = {"label_smoothing": 0.1, "models": 1, "device": "cpu", "show_progress": False}
    tested = baseline(small["target"], 6, **options)
    assert found["accuracy"]["values"] == list(tested.accuracies) and found["steps"] == tested.steps


def test_a_baseline_chooses_among_the_steps_that_are_given(small, results):
    common = {"target": small["target"], "base_examples": 6, "models": 1}
    assert go("baseline", common | {"marks": [3, 7]}, results)["steps"] in (3, 7)
    for marks in ([], [7, 3], [0, 3], [3, 3]):
        with pytest.raises(InputError, match="must rise, from at least 1"):
            go("baseline", common | {"marks": marks}, results)


@pytest.mark.parametrize("method", ["expert", "unrolled"])
def test_the_papers_epochs_and_outer_batch_are_for_its_own_methods(method, monkeypatch):
    asked = {}
    monkeypatch.setattr("labeldistill.experiments.distill", lambda **options: asked.update(options))
    place = Place(Path(), "cpu", False)
    learn(LEARNING | {"method": method}, place)
    assert asked["epochs"] is None and asked["outer_batch"] is None
    learn(LEARNING | {"method": method, "epochs": 3, "outer_batch": 128}, place)
    assert asked["epochs"] == 3 and asked["outer_batch"] == 128
    learn(LEARNING, place)
    assert asked["epochs"] == 400 and asked["outer_batch"] == 1024


def test_dependencies_are_named_by_their_parameters(small):
    run = new_run("transfer", "short", small | {"test_head": "linear"})
    assert dependencies(run) == [new_run("distill", "short", small)]
    assert dependencies(new_run("distill", "short", small)) == []
    assert run.name != new_run("transfer", "short", small | {"test_head": "linear", "seed": 5}).name


def test_transfer_tests_the_labels_of_another_run(done, small, results):
    before = read_result(done[1])
    found = go("transfer", small | {"test_network": "convnet", "test_head": "linear", "test_optimizer": "sgd"}, results)
    options = {"models": 2, "device": "cpu", "show_progress": False}
    tested = evaluate(done[1] / "labels.safetensors", None, "convnet", "linear", "sgd", **options)
    assert found["accuracy"]["values"] == list(tested.accuracies)
    assert (found["network"], found["head"], found["optimizer"]) == ("convnet", "linear", "sgd")
    assert read_result(done[1]) == before


def test_a_run_whose_labels_are_not_there_has_them_made_first(small, tmp_path):
    go("transfer", small | {"seed": 6}, tmp_path)
    needed = new_run("distill", "smoke", small | {"seed": 6})
    assert read_result(needed.folder(tmp_path), needed)
    assert len(list((tmp_path / "smoke").iterdir())) == 2


def test_sensitivity_tests_around_the_estimated_steps(done, small, results):
    found = go("sensitivity", small | {"deviations": [-50, 0, 2]}, results)
    own = done[2]["results"]
    assert list(found["deviations"]) == ["-50", "+0", "+2"] and found["steps"] == own["steps"] == 3
    assert [tested["steps"] for tested in found["deviations"].values()] == [1, 3, 5]
    assert found["deviations"]["+0"]["accuracy"] == own["accuracy"]


@pytest.fixture(scope="module")
def images(small, results):
    "Where a dataset distillation of these parameters lies."
    run = new_run("distill", "smoke", small | DD)
    return run.folder(results), perform(run.kind, run.parameters, run.folder(results), "cpu", show_progress=False)["results"]


def test_images_are_tested_as_they_were_learned(images):
    _, found = images
    assert (found["steps"], found["optimizer"], found["order"]) == (6, "own", "learned")


@pytest.mark.parametrize(
    "way", [{"optimizer": "average"}, {"optimizer": "own", "order": "within"}, {"optimizer": "adam", "steps": 9}]
)
def test_images_can_be_trained_on_otherwise(way, images, small, results):
    found = go("transfer", small | DD | {f"test_{name}": value for name, value in way.items()}, results)
    tested = evaluate(images[0] / "labels.safetensors", **way, models=2, device="cpu", show_progress=False)
    assert found["accuracy"]["values"] == list(tested.accuracies)
    assert [found[name] for name in way] == [*way.values()] and found["steps"] == way.get("steps", 6)


def test_images_can_be_trained_on_for_other_numbers_of_steps(images, small, results):
    found = go("sensitivity", small | DD | {"deviations": [-4, 0, 2]}, results)
    assert [tested["steps"] for tested in found["deviations"].values()] == [2, 6, 8]
    assert found["deviations"]["+0"]["accuracy"] == images[1]["accuracy"]


def test_every_cell_of_table_9_is_in_one_record(small, results):
    record = go("sensitivity", small | {"models": 1}, results)
    for cell in cells("table9", "smoke"):
        found = record
        for key in cell.read.split("."):
            found = found[key]
        assert found.keys() == {"mean", "std", "n", "values"}


def test_gradient_variance_has_a_point_for_every_stretch(small, results):
    parameters = {name: value for name, value in small.items() if name != "models"}
    found = go("gradient_variance", parameters | {"iterations": 9, "draws": 3, "every": 1, "method": "second-order"}, results)
    assert found["iteration"] == [3, 6, 9]
    assert all(value > 0 for value in found["variance"]) and len(found["relative_variance"]) == 3


def test_timing_extrapolates_from_two_lengths(small, results, monkeypatch):
    lengths = []

    def learn(parameters, place, **options):
        lengths.append(options.pop("epochs"))
        assert options == {"precision": "bf16", "compile": False, "validate_every": 2}  # as the whole run, not the short ones

    monkeypatch.setattr(experiments, "learn", learn)
    clock = iter([0.0, 10.0, 10.0, 26.0])  # 10 s for one stretch, 16 s for two
    monkeypatch.setattr(experiments.time, "perf_counter", lambda: next(clock))
    parameters = {"target": small["target"], "base_examples": 6, "precision": "bf16"}
    found = go("timing", parameters | {"epochs": 20, "stretch": 2, "repeats": 1}, results)
    assert lengths == [2, 2, 4]  # the first warms up
    assert found["minutes"] == {"mean": pytest.approx((10 + 9 * 6) / 60), "std": 0.0, "n": 1, "values": [pytest.approx(64 / 60)]}


@pytest.mark.parametrize(("method", "precision"), [("dd", "fp32"), ("ridge", "bf16")])
def test_images_are_timed_as_they_would_be_learned(method, precision, small, results, monkeypatch):
    computed = []
    monkeypatch.setattr(experiments, "learn", lambda parameters, place, **options: computed.append(options["precision"]))
    monkeypatch.setattr("labeldistill.networks.bfloat16_is_native", lambda device: True)
    monkeypatch.setattr("labeldistill.networks.can_compile", lambda device: False)
    parameters = {"target": small["target"], "learn": "images", "method": method, "base_examples": 10**6}  # as many as one likes
    go("timing", parameters | {"epochs": 4000, "repeats": 1}, results)
    assert set(computed) == {precision}
