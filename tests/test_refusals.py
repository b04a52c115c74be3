"""Everything that is refused in one line (`refusals.py`): in Python and on the command line, before any work, leaving nothing.

The two doors are the only places that know how verbs are called.
"""

import contextlib
import json
import re
import shutil
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from refusals import REFUSALS
from safetensors import safe_open
from safetensors.torch import save_file

from labeldistill.config import METHODS, Compute, Expert, LabelSolve, Schedule, Student, Task
from labeldistill.utils import InputError

DATA = {"target": "@bars.npz", "base_examples": 6, "network": "user_networks:plain", "device": "cpu"}
USUAL = {  # options of runs that would succeed
    "distill": DATA | {"method": "ridge", "iterations": 1, "out": "out.safetensors"},
    "evaluate": {name: DATA[name] for name in ("target", "network", "device")}
    | {"file": "@labels.safetensors", "models": 1, "steps": 1},
    "baseline": DATA | {"models": 1},
    "train-full": {name: DATA[name] for name in ("target", "network", "device")} | {"epochs": 1},
    "show": {"file": "@labels.safetensors", "source": "@bars.npz", "out": "out.png"},
    "reproduce": {"names": ["table1"], "results": "results"},
    "report": {"scale": "smoke", "results": "@runs", "out": "report"},
}
FIRST = {"evaluate": "file", "show": "file", "reproduce": "names"}  # given without its name

REPOSITORY = Path(__file__).parents[1]


def taken(options, settings):
    "A settings object of those options that are its fields; they are taken out."
    names = {settings.prefix + f.name: f.name for f in fields(settings)}
    return settings(**{names[name]: options.pop(name) for name in [*options] if name in names})


def method_of(options):
    "The method that options speak of, as a user of Python makes it."
    method = options.pop("method", "ridge")
    if type(method) is not str or method not in METHODS:
        return method
    for start in (Expert, LabelSolve):
        if options.get("init") == start.name:
            options["init"] = taken(options, start)
    return taken(options, METHODS[method])


def by_python(verb, options):
    "Calls a verb in Python; options of the command line that it has not are left out."
    from labeldistill import distill, evaluate, show, train_full, true_labels

    options = {name: value for name, value in options.items() if verb in ("show", "report") or name != "out"}
    first = [options.pop(FIRST[verb])] if verb in FIRST else []
    if verb == "show":
        return show(*first, **options)
    if verb in ("reproduce", "report"):
        return reproduce_by_python(verb, first, options)
    if verb == "distill":
        method = method_of(options)
        first = [taken(options, Task), method]
        options["schedule"] = taken(options, Schedule)
    if verb != "train-full":
        options["student"] = taken(options, Student)
    options |= {"compute": taken(options, Compute), "progress": False}
    if verb == "train-full":
        return train_full(taken(options, Task), **options)
    if verb == "baseline":
        smoothing = options.pop("label_smoothing", 0.0)
        return evaluate(true_labels(taken(options, Task), smoothing, seed=options.get("seed", 1234)), **options)
    return {"distill": distill, "evaluate": evaluate}[verb](*first, **options)


def reproduce_by_python(verb, first, options):
    "The same for the reproduction."
    from labeldistill.reproduce import executor, exhibits, render

    setting = exhibits.setting_of(*(options.pop(name, None) for name in ("target", "network", "image_size", "channels")))
    if verb == "report":
        folders = [Path(options[name]) if name in options else None for name in ("results", "out")]
        return render.write_report(REPOSITORY, options["scale"], setting, *folders)
    hours = options.pop("time_out", None)
    timeout_s = None if hours is None else 3600 * hours
    return executor.reproduce(*first, setting=setting, timeout_s=timeout_s, progress=False, **options)


def by_command(verb, options):
    "The words of a command line."
    options, words = dict(options), [verb]
    words += [options.pop("method")] if "method" in options else []
    first = options.pop(FIRST.get(verb), [])
    words += first if isinstance(first, list) else [first]
    surplus = options.pop("positional", [])
    switches = {("balanced", False): "--class-blind", ("compile", False): "--no-compile"}
    for name, value in options.items():
        switch = switches.get((name, value) if isinstance(value, bool) else None, f"--{name.replace('_', '-')}")
        words += [switch] if isinstance(value, bool) else [switch, value]
    return [*words, *surplus]


def options_of(row, materials):
    "All options of a row, with the prepared files in place of their names."

    def place(value):
        return str(materials / value[1:]) if isinstance(value, str) and value.startswith("@") else value

    options = USUAL.get(row.verb, {}) | row.options
    if ("epochs" in row.options or row.options.get("method") == "expert") and "iterations" not in row.options:
        options.pop("iterations", None)
    return {name: place(value) for name, value in options.items() if value is not None}


@pytest.fixture(autouse=True)
def no_work(request, monkeypatch):
    "No network may be trained, no iteration computed and no run begun, except for rows that are refused late."
    row = request.node.callspec.params["row"] if hasattr(request.node, "callspec") else None
    reproduction = row is not None and row.verb in ("reproduce", "report")
    if reproduction:
        pytest.importorskip("labeldistill.reproduce.render", exc_type=ImportError)
    if row is None or row.late:
        return

    def forbidden(*arguments, **named):
        pytest.fail("work began before the refusal")

    names = ["methods.loop.Loop.run_epoch", "training.trainer.Trainer.step", "api.train_epochs"]
    if reproduction:
        names = ["reproduce.executor.run_inline", "reproduce.executor.run_snakemake", "reproduce.render.compare"]
    for name in names:
        monkeypatch.setattr(f"labeldistill.{name}", forbidden)


# Files


X, Y = np.zeros((12, 4, 4), np.uint8), np.arange(12) % 3
ARRAYS = {
    "wrong_keys": {"x": X, "y": Y},
    "no_labels": {"images": X},
    "two_dimensions": {"images": X[0], "labels": Y},
    "channels_first": {"images": np.zeros((12, 3, 4, 4), np.uint8), "labels": Y},
    "no_images": {"images": X[:0], "labels": Y[:0]},
    "too_few_labels": {"images": X, "labels": Y[:11]},
    "wide_pixels": {"images": X.astype(np.int64), "labels": Y},
    "nan_pixels": {"images": np.full(X.shape, np.nan), "labels": Y},
    "float_labels": {"images": X, "labels": Y.astype(float)},
    "negative_label": {"images": X, "labels": Y - 1},
    "class_without_images": {"images": X, "labels": Y * 2},
    "one_class": {"images": X, "labels": Y * 0},
    "two_sizes": {"train_x": X, "train_y": Y, "test_x": X[:, 1:, 1:], "test_y": Y},
    "oblong": {"images": X[:, :3], "labels": Y},
    "objects": {"images": np.array([{}] * 12), "labels": Y},
    "few": {"images": np.zeros((2, 16, 16), np.uint8), "labels": np.arange(2)},
}


def write_data(folder, bars, make_pixels):
    "Data sets of a user, most of them unusable."
    for name, arrays in ARRAYS.items():
        np.savez(folder / f"{name}.npz", **arrays)
    shutil.copy(bars, folder / "bars.npz")
    (folder / "cut.npz").write_bytes(bars.read_bytes()[:3000])
    (folder / "text.npz").write_text("labels")
    (folder / "notes.txt").write_text("none")
    (folder / "empty.safetensors").touch()
    for name, options in {"other": {"seed": 3}, "four_classes": {"classes": 4, "seed": 9}}.items():
        images, labels = make_pixels(**options)
        np.savez(folder / f"{name}.npz", images=images, labels=labels)
    np.savez(folder / "imbalanced.npz", images=make_pixels(count=100)[0][..., 0], labels=np.arange(100) // 80)
    for name in ("runs", "folder.png"):
        (folder / name).mkdir()
    for name in ("empty_class", "no_picture", "folders_only/train", "differing_sizes", "sixteen_bit"):
        for label in "abc":
            (folder / name / label).mkdir(parents=True)
            kind, side = "I;16" if name == "sixteen_bit" else "L", 5 if name == "differing_sizes" and label == "c" else 16
            for i in range(4 if (name, label) != ("empty_class", "c") else 0):
                image = (
                    Image.fromarray(np.full((side, side), 1000, np.uint16)) if kind == "I;16" else Image.new("L", (side, side))
                )
                image.save(folder / name / label / f"{i}.png")
    (folder / "no_picture" / "a" / "0.png").write_text("no picture")


def rewrite(source, path, change=lambda tensors, facts: None, **metadata):
    "A copy of labels whose tensors, facts and metadata are changed."
    with safe_open(source, framework="pt") as file:
        tensors, text = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()
    facts = json.loads(text["labeldistill"])
    change(tensors, facts)
    save_file(tensors, path, text | {"labeldistill": json.dumps(facts)} | metadata)


def write_artifacts(folder, labels):
    "Labels, most of them damaged. They are of the folder's own bars."

    def at(name):
        def change(tensors, facts):
            for part in ("source", "target"):
                facts[part]["name"] = str(folder / name)

        return change

    rewrite(labels, folder / "labels.safetensors", at("bars.npz"))
    (folder / "cut.safetensors").write_bytes(labels.read_bytes()[:-50])
    save_file({"weight": torch.zeros(2)}, folder / "foreign.safetensors")
    own = folder / "labels.safetensors"
    for name, form in {"format": "labeldistill/0", "newer": "labeldistill/3"}.items():
        rewrite(own, folder / f"{name}.safetensors", format=form)
    rewrite(own, folder / "metadata.safetensors", labeldistill="{")
    with np.load(folder / "bars.npz") as file:
        np.savez(folder / "changed.npz", images=255 - file["images"], labels=file["labels"])
    changes = {
        "shape": lambda tensors, facts: tensors.update(labels=tensors["labels"][:, :2].contiguous()),
        "nan": lambda tensors, facts: tensors["labels"].fill_(torch.nan),
        "rows": lambda tensors, facts: tensors.pop("rows"),
        "far": lambda tensors, facts: tensors["rows"].fill_(999),
        "facts": lambda tensors, facts: facts.pop("network"),
        "network": lambda tensors, facts: facts.update(network="nonsense"),
    }
    for name, change in changes.items():
        rewrite(own, folder / f"{name}.safetensors", change)


@pytest.fixture(scope="session")
def materials(tmp_path_factory, bars_npz, labels_file, make_pixels):
    "The folder of all files that rows name."
    folder = tmp_path_factory.mktemp("materials")
    write_data(folder, bars_npz, make_pixels)
    write_artifacts(folder, labels_file)
    by_python("distill", DATA | {"target": str(folder / "bars.npz"), "iterations": 1, "checkpoint": str(folder / "kept")})
    (kept,) = (folder / "kept").iterdir()
    (folder / "damaged_checkpoint").mkdir()
    (folder / "damaged_checkpoint" / kept.name).write_bytes(kept.read_bytes()[:-50])
    return folder


# Both doors


def names(door):
    return [pytest.param(row, id=row.id) for row in REFUSALS if door in row.doors]


def kept_files(folder):
    "Everything below a folder; of files with the time of their last change."
    return {path: path.stat().st_mtime_ns if path.is_file() else None for path in folder.rglob("*")}


@pytest.fixture
def untouched(materials, tmp_path, monkeypatch, snapshot, no_network):
    "A block that leaves its working folder empty and the prepared files as they were."
    monkeypatch.chdir(tmp_path)
    before = kept_files(materials)

    @contextlib.contextmanager
    def watch():
        yield
        assert snapshot(tmp_path) == {} and list(tmp_path.iterdir()) == []
        assert kept_files(materials) == before

    return watch


@pytest.mark.parametrize("row", names("python"))
def test_python_refuses_in_one_line(row, materials, untouched):
    with untouched(), pytest.raises(InputError) as refused:
        by_python(row.verb, options_of(row, materials))
    assert "\n" not in str(refused.value) and re.search(row.message, str(refused.value)), refused.value


@pytest.mark.parametrize("row", names("command"))
def test_the_command_line_refuses_in_one_line(row, materials, untouched, command):
    with untouched():
        done = command(*by_command(row.verb, options_of(row, materials)))
    assert (done.status, done.out) == (2, ""), (done.status, done.out, done.err)
    lines = [line for line in re.split(r"[\r\n]+", done.err) if line.strip() and not re.match(BAR, line)]
    assert done.err.endswith(lines[-1] + "\n") and lines == [lines[-1]] and lines[0].startswith("error: "), done.err
    assert re.search(row.message, lines[0]), lines[0]


BAR = r".*\d+%\||.*\d+(it|unit|step|model)?/s\]|.*\?.*/s\]"  # progress of work that came before


def test_a_message_is_one_line_whatever_its_words_hold():
    for end in ("\n", "\r", "\r\n  ", "\x0b", "\x1c", "\x85", "\u2028"):
        assert str(InputError(f"'a{end}b': expected c")) == "'a b': expected c", repr(end)


def test_rows_have_names_of_their_own():
    assert len({row.id for row in REFUSALS}) == len(REFUSALS) >= 120
