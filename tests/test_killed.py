"""Processes that are killed while they write: the old file or the new one is there whole, and the next call clears away."""

import os
import resource
import signal
import sys
from dataclasses import replace
from functools import partial
from importlib import import_module

import nbformat
import pytest
import torch
import user_networks
from PIL import Image
from safetensors import safe_open

from labeldistill import (
    Compute,
    DatasetDistillation,
    Expert,
    Ridge,
    Schedule,
    SecondOrder,
    Task,
    TrajectoryMatching,
    Unrolled,
    distill,
    show,
)
from labeldistill.data.known import _squashed
from labeldistill.methods.checkpoint import Checkpoint
from labeldistill.methods.experts import ExpertTrajectory, save_trajectory
from labeldistill.reproduce.records import write_json
from labeldistill.reproduce.render import write_notebook
from labeldistill.reproduce.runs import new_run, perform
from labeldistill.utils import check_writable, temporary_name


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def inside():
    "The next write ends the process at its hundredth byte."
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))


def deadly(when, at=1):
    "Makes the process die around its `at`-th rename, or inside the write before it."
    rename, count = os.replace, 0

    def renaming(source, target):
        nonlocal count
        count += 1
        if (count, when) == (at, "before"):
            die()
        rename(source, target)
        if (count, when) == (at, "after"):
            die()
        if (count, when) == (at - 1, "inside"):
            inside()

    os.replace = renaming
    if (at, when) == (1, "inside"):
        inside()


def child(work, prepare=lambda: None):
    "The exit status of a process that does some work; negative: the signal that killed it."
    process = os.fork()
    if not process:
        status = 1
        try:
            prepare()
            work()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


@pytest.fixture
def writers(distilled, tmp_path_factory):
    "What writes a file: by its name a function of the path and of a number that is to be in it."
    import_module("labeldistill.plots")  # `show` does it, where a child would each time, under its limits
    photos = tmp_path_factory.mktemp("photos")
    for number in (1, 2):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(photos / f"{number}.jpg")
    notebook = lambda number: nbformat.v4.new_notebook(metadata={"numbers": [number] * 99})  # noqa: E731
    trace = lambda number: ExpertTrajectory(torch.arange(3), torch.full((1, 3, 5, 4), number), torch.zeros(1, 3))  # noqa: E731
    return {
        "labels": lambda path, number: replace(distilled, seed=number).save(path),
        "checkpoint": lambda path, number: Checkpoint(path.parent, {"seed": number}, True, path.stem).save((torch.ones(9),)),
        "trajectory": lambda path, number: save_trajectory(trace(float(number)), path),
        "record": lambda path, number: write_json(path, [number] * 100),
        "picture": lambda path, number: show(replace(distilled, labels=distilled.labels / number), path),
        "notebook": lambda path, number: write_notebook(path, notebook(number)),
        "cache": lambda path, number: _squashed([photos / f"{number}.jpg"], 8, path),
    }


FILES = {
    **{"labels": "labels.safetensors", "checkpoint": "checkpoint.safetensors", "trajectory": "traces.safetensors"},
    **{"record": "result.json", "picture": "labels.png", "notebook": "run.ipynb", "cache": "cache.npz"},
}


def content(path):
    "What a file says: metadata of `.safetensors` are in any order."
    if path.suffix != ".safetensors":
        return path.read_bytes()
    with safe_open(path, framework="pt") as file:
        return file.metadata(), {name: file.get_tensor(name).tolist() for name in file.keys()}


@pytest.mark.parametrize("when", ["inside", "before", "after"])
@pytest.mark.parametrize("what", FILES)
def test_a_kill_leaves_the_old_file_or_the_new_one_whole(writers, tmp_path, what, when):
    folder, new = tmp_path / "here", tmp_path / "new" / FILES[what]
    path = folder / FILES[what]
    folder.mkdir(), new.parent.mkdir()
    writers[what](path, 1), writers[what](new, 2)
    old = content(path)
    assert old != content(new)
    status = child(lambda: writers[what](path, 2), lambda: deadly(when))
    assert status == -(signal.SIGXFSZ if when == "inside" else signal.SIGKILL)
    left = names(folder)
    assert len(left) == 1 + (when != "after") and FILES[what] in left
    assert content(path) == (content(new) if when == "after" else old)
    writers[what](path, 2)
    assert names(folder) == [FILES[what]] and content(path) == content(new)


def test_whoever_has_the_old_file_open_reads_it_to_its_end(writers, tmp_path):
    path = tmp_path / "labels.safetensors"
    writers["labels"](path, 1)
    old = path.read_bytes()
    with path.open("rb") as file:
        writers["labels"](path, 2)
        assert file.read() == old != path.read_bytes()


def test_only_what_killed_processes_left_is_cleared(tmp_path):
    gone = child(lambda: None, lambda: (tmp_path / "pid").write_text(str(os.getpid()))) or (tmp_path / "pid").read_text()
    (tmp_path / "pid").unlink()
    mine = temporary_name(tmp_path / "x")
    of = lambda machine, process: tmp_path / f".x.{machine}.{process}.part"  # noqa: E731
    machine = mine.name.split(".")[2]
    kept = [mine, of(machine, 1), of("elsewhere", gone), tmp_path / "x.part", tmp_path / ".x.part", of(machine, "9" * 30)]
    cleared = [of(machine, gone), of("elsewhere", "17")]
    for path in kept + cleared:
        path.touch()
    kept.append(of("elsewhere", "mp4"))  # a download of somebody else
    kept[-1].touch()
    for path in (cleared[1], kept[-1]):
        os.utime(path, (0, 0))
    check_writable(tmp_path / "labels.safetensors")
    assert sorted(tmp_path.iterdir()) == sorted(kept)


# Whole runs

METHODS = {
    "ridge": Ridge(),
    "second-order": SecondOrder(),
    "unrolled": Unrolled(window=2),
    "expert": Expert(ensemble=2, max_iterations=20),
    "dd": DatasetDistillation(learn="both"),
    "matching": TrajectoryMatching(student_steps=2, experts=1, trajectory_iterations=20, trajectory_every=10, segment=1),
    "ridge from experts": Ridge(init=Expert(iterations=10)),
}


@pytest.mark.parametrize("when", ["inside", "before", "after"])
@pytest.mark.parametrize("name", METHODS)
def test_a_run_killed_at_its_second_write_ends_like_one_that_was_not(bars, tmp_path, few_steps, name, when):
    task, method = Task(bars, 6, network=user_networks.plain), METHODS[name]
    schedule = Schedule(iterations=9, outer_batch=32, validate_every=1) if method.epochs else Schedule()
    run = partial(distill, task, method, schedule=schedule, compute=Compute("cpu"), progress=False)
    kept = tmp_path / "kept"
    status = child(lambda: run(checkpoint=kept), lambda: deadly(when, at=2))
    assert status == -(signal.SIGXFSZ if when == "inside" else signal.SIGKILL)
    resumed, whole = run(checkpoint=kept, resume=True), run()
    assert torch.equal(resumed.labels, whole.labels) and torch.equal(resumed.inputs, whole.inputs)
    assert (resumed.validation_accuracy, resumed.student) == (whole.validation_accuracy, whole.student)
    assert not [file for file in names(kept) if file.endswith(".part")]


@pytest.fixture
def tiny_run(bars_npz):
    task = {"target": str(bars_npz), "base_examples": 6, "network": "user_networks:plain"}
    return new_run("distill", "smoke", task=task, schedule={"iterations": 3, "outer_batch": 32}, test={"models": 1})


@pytest.mark.parametrize("when", ["inside", "before", "after"])
@pytest.mark.parametrize("at", [1, 2, 3, 4, 5], ids=["run.json", "attempts", "checkpoint", "labels", "result.json"])
def test_a_run_of_the_reproduction_killed_at_any_write_ends_like_one_that_was_not(tiny_run, tmp_path, at, when):
    folder = tmp_path / "run"
    status = child(lambda: perform(tiny_run, folder, "cpu", progress=False), lambda: deadly(when, at))
    if (at, when) == (2, "inside"):  # a file of fewer than a hundred bytes; the next one is bigger
        assert status == -signal.SIGXFSZ
    assert status < 0
    found = perform(tiny_run, folder, "cpu", progress=False)
    assert found == perform(tiny_run, tmp_path / "whole", "cpu", progress=False)
    assert names(folder) == names(tmp_path / "whole") == ["labels.safetensors", "result.json", "run.json"]
    assert content(folder / "labels.safetensors") == content(tmp_path / "whole" / "labels.safetensors")


def test_every_file_is_written_under_a_temporary_name(bars_npz, tiny_run, tmp_path):
    opened = tmp_path / "opened.txt"

    def listen():
        log = os.open(opened, os.O_WRONLY | os.O_CREAT)

        def hook(event, arguments):
            if event == "open" and str(arguments[0]).startswith(str(tmp_path)) and arguments[2] & (os.O_WRONLY | os.O_RDWR):
                os.write(log, f"{arguments[0]}\n".encode())

        sys.addaudithook(hook)

    def work():
        task = Task(bars_npz, 6)
        labels = distill(task, Ridge(), schedule=Schedule(iterations=2), checkpoint=tmp_path / "kept", progress=False)
        labels.save(tmp_path / "labels.safetensors")
        show(labels, tmp_path / "labels.png")
        perform(tiny_run, tmp_path / "run", "cpu", progress=False)

    assert child(work, listen) == 0
    written = opened.read_text().splitlines()
    assert len(written) > 5 and all(name.endswith(".part") for name in written)
    assert {"kept", "labels.safetensors", "labels.png", "run"} <= {*names(tmp_path)}
