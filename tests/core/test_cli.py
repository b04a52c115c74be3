"""The command line, end to end and with everything that it refuses."""

import json
import os
import re
import signal
import struct
import subprocess
import sys
from dataclasses import fields
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from PIL import Image
from safetensors.torch import save_file

from labeldistill import evaluate, load_distilled, true_labels
from labeldistill.cli import app, method_command
from labeldistill.config import METHODS, Compute, Expert, LabelSolve, Schedule, Student, Task, option_name

QUICK = ("--network", "user_networks:plain", "--device", "cpu")


def process(*arguments, environment, cwd):
    "The command in a process of its own."
    command = [Path(sys.executable).with_name("labeldistill"), *map(str, arguments)]
    heed = partial(signal.signal, signal.SIGINT, signal.default_int_handler)  # also where the tests run in the background
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=cwd, timeout=300, preexec_fn=heed)


# End to end


@pytest.fixture(scope="session")
def digit_labels(tmp_path_factory):
    "Ten digits with labels learned in a process of its own; what it printed and the file."
    folder = tmp_path_factory.mktemp("digits")
    arguments = ["distill", "ridge", "--target", "digits", "--base-examples", 10, "--iterations", 4, "--outer-batch", 64]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = process(*arguments, "--device", "cpu", "--out", "labels.safetensors", "--json", environment=environment, cwd=folder)
    return done, folder / "labels.safetensors"


def one_object(text):
    "The JSON object that is all of the text."
    assert text.endswith("\n") and text.count("\n") == 1
    found = json.loads(text)
    assert isinstance(found, dict)
    return found


def test_distill_writes_one_file_and_prints_one_json_object_while_progress_goes_to_standard_error(digit_labels):
    done, file = digit_labels
    assert done.returncode == 0, done.stderr
    assert one_object(done.stdout)["out"] == "labels.safetensors" and "it/s" in done.stderr
    assert list(file.parent.iterdir()) == [file]
    learned = load_distilled(file)
    assert learned.labels.shape == (10, 10) and learned.base_labels.sort().values.tolist() == list(range(10))
    assert (learned.source.name, learned.target.name, learned.network) == ("digits", "digits", "lenet")
    assert learned.method_name == "ridge" and learned.task["base_examples"] == 10


def test_evaluate_prints_one_json_object_of_accuracies(digit_labels, environment, tmp_path):
    _, file = digit_labels
    options = ["--models", 2, "--steps", 3, "--device", "cpu", "--json"]
    done = process("evaluate", file, *options, environment=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = one_object(done.stdout)
    assert found["models"] == len(found["accuracies"]) == 2 and found["steps"] == 3 and found["head"] == "ridge"
    assert all(0 <= accuracy <= 100 for accuracy in found["accuracies"])
    assert found["accuracy_mean"] == pytest.approx(np.mean(found["accuracies"]))
    assert found["accuracy_std"] == pytest.approx(np.std(found["accuracies"], ddof=1))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], {"network": "lenet", "head": "ridge", "optimizer": "adam"}),
        (["--head", "linear", "--optimizer", "sgd"], {"head": "linear", "optimizer": "sgd"}),
        (["--optimizer", "adamw", "--network", "user_networks:plain"], {"network": "user_networks:plain", "optimizer": "adamw"}),
    ],
)
def test_evaluate_takes_its_recipe_from_the_file_or_the_options(command, labels_file, bars_npz, options, expected):
    own = ["--target", bars_npz, "--models", 2, "--steps", 2, "--device", "cpu", "--json"]
    done = command("evaluate", labels_file, *own, *options)
    found = one_object(done.out)
    assert {key: found[key] for key in expected} == expected


def test_evaluate_trains_as_many_steps_as_the_file_says(command, labels_file, bars_npz, distilled):
    options = ["--target", bars_npz, "--models", 1, "--device", "cpu", "--json"]
    found = one_object(command("evaluate", labels_file, *options).out)
    assert found["steps"] == distilled.student.steps and found["accuracy_std"] == 0


def test_evaluate_tests_on_another_data_set_when_told(command, labels_file, bars_npz, tmp_path, make_pixels):
    images, labels = make_pixels()
    np.savez(tmp_path / "other.npz", images=images[..., 0], labels=(labels + 1) % 3)  # all that was right is wrong there
    options = ["--models", 1, "--steps", 40, "--device", "cpu", "--json", "--network", "user_networks:plain"]
    targets = ["--target", bars_npz], ["--target", tmp_path / "other.npz", "--source", bars_npz]
    own, other = (command("evaluate", labels_file, *options, *target) for target in targets)
    assert one_object(own.out)["accuracy_mean"] > 60 and one_object(other.out)["accuracy_mean"] < 40


@pytest.mark.parametrize(("head", "smoothing"), [("linear", 0.1), ("ridge", 0)])
def test_baseline_prints_one_json_object_of_accuracies(command, bars_npz, head, smoothing):
    options = ["--base-examples", 6, "--label-smoothing", smoothing, "--head", head, "--models", 2, "--json", *QUICK]
    done = command("baseline", "--target", bars_npz, *options)
    found = one_object(done.out)
    assert done.status == 0 and found["models"] == 2 and found["head"] == head
    assert {"accuracy_mean", "accuracy_std", "accuracies", "steps"} <= found.keys() and found["accuracy_mean"] > 60


def test_a_seed_on_the_command_line_is_that_of_everything(command, bars_npz):
    options = ["--base-examples", 6, "--steps", 3, "--models", 4, "--seed", 5, "--json", *QUICK]
    found = one_object(command("baseline", "--target", bars_npz, *options).out)
    labels = true_labels(Task(bars_npz, 6, network="user_networks:plain"), seed=5)
    expected = evaluate(labels, student=Student(steps=3), models=4, seed=5, compute=Compute("cpu"), progress=False)
    assert found["accuracies"] == [*expected.accuracies]


def test_baseline_runs_on_digits_with_letters_as_source(command):
    options = ["--base-examples", 10, "--models", 1, "--json", *QUICK]
    found = one_object(command("baseline", "--target", "digits", "--source", "letters", *options).out)
    assert found["models"] == 1 and 0 <= found["accuracy_mean"] < 40


def test_without_json_results_are_said_to_people(command, bars_npz, labels_file):
    said = command("baseline", "--target", bars_npz, "--base-examples", 3, "--models", 2, *QUICK)
    assert "±" in said.out and "2 x user_networks:plain" in said.out and said.out.count("\n") == 1
    one = command("evaluate", labels_file, "--target", bars_npz, "--models", 1, "--steps", 1, "--device", "cpu").out
    assert " % (1 x lenet, adam, 1 steps, ridge head" in one and "±" not in one


@pytest.mark.parametrize("kind", ["png", "svg", "pdf", "PNG"])
def test_show_draws_a_picture(command, labels_file, bars_npz, tmp_path, kind):
    out = tmp_path / f"labels.{kind}"
    done = command("show", labels_file, "--source", bars_npz, "--out", out)
    assert done.status == 0 and done.out.strip() == str(out)
    assert out.read_bytes().lstrip().startswith({"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[kind.lower()])
    assert list(tmp_path.iterdir()) == [out]
    if kind == "png":
        assert np.asarray(Image.open(out).convert("L")).std() > 10


def test_datasets_lists_what_is_known_and_what_is_on_disk(command, tmp_path):
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for part in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        (raw / f"{part}-ubyte").touch()
    found = one_object(command("datasets", "--data-root", tmp_path, "--json").out)["datasets"]
    states = {row["name"]: row["state"] for row in found}
    assert states["digits"] == states["letters"] == "built in"
    assert states["fashion_mnist"] == "on disk" and states["mnist"] == states["kmnist"] == "not on disk"
    assert {row["name"]: row["classes"] for row in found}["letters"] == 26
    lines = command("datasets", "--data-root", tmp_path).out.splitlines()
    assert [line.split()[0] for line in lines] == list(states)


@pytest.mark.parametrize("method", ["ridge", "second-order"])
def test_distill_takes_a_source_a_network_and_stores_images(command, bars_npz, tmp_path, make_pixels, method):
    images, labels = make_pixels(60, classes=4, seed=9)
    np.savez(tmp_path / "source.npz", images=images, labels=labels)
    out = tmp_path / "labels.safetensors"
    options = ["--base-examples", 5, "--source", tmp_path / "source.npz", "--iterations", 3, "--with-images"]
    done = command("distill", method, "--target", bars_npz, *options, "--out", out, *QUICK)
    assert done.status == 0 and str(out) in done.out
    (tmp_path / "source.npz").unlink()
    learned = load_distilled(out)
    assert learned.labels.shape == (5, 3) and learned.source.classes == ("0", "1", "2", "3")
    assert (learned.method_name, learned.network) == (method, "user_networks:plain")
    assert torch.equal(learned.images, torch.from_numpy(images).permute(0, 3, 1, 2)[learned.rows])


def write_fashion(root, train=120, test=40):
    "Files in MNIST's format."
    raw = root / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    rng = np.random.default_rng(3)
    for part, n in (("train", train), ("t10k", test)):
        images = rng.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        (raw / f"{part}-images-idx3-ubyte").write_bytes(struct.pack(">4I", 2051, n, 28, 28) + images.tobytes())
        labels = (np.arange(n) % 10).astype(np.uint8)
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">2I", 2049, n) + labels.tobytes())


def test_every_command_finds_downloaded_data_under_the_data_root(command, tmp_path, no_network):
    write_fashion(tmp_path / "root")
    here, out = ("--data-root", tmp_path / "root"), tmp_path / "labels.safetensors"
    start = ["distill", "ridge", "--target", "fashion_mnist", "--base-examples", 10, "--iterations", 2]
    steps = [
        command(*start, "--with-images", "--out", out, *here, *QUICK),
        command("evaluate", out, "--models", 1, "--steps", 1, *QUICK, *here),
        command("show", out, "--out", tmp_path / "labels.png", *here),
    ]
    assert [(step.status, step.err if step.status else "") for step in steps] == [(0, "")] * 3


def test_a_network_beside_the_user_is_found_by_the_installed_command(bars_npz, tmp_path):
    (tmp_path / "my_networks.py").write_text((Path(__file__).parents[1] / "user_networks.py").read_text())
    options = ["--base-examples", 3, "--iterations", 1, "--network", "my_networks:plain", "--out", "labels.safetensors"]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}
    done = process("distill", "ridge", "--target", bars_npz, *options, environment=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


# Interrupted and killed


def bombed(bars_npz, folder, environment, bomb, call=230):
    options = ["--base-examples", 6, "--iterations", 240, "--outer-batch", 84, "--checkpoint", folder / "kept"]
    arguments = ["distill", "ridge", "--target", bars_npz, *options, "--out", folder / "labels.safetensors", "--device", "cpu"]
    environment = environment | {"BOMB_CALL": str(call), "BOMB_SIGNAL": bomb}
    return process(*arguments, "--network", "user_networks:exploding", environment=environment, cwd=folder), arguments


def test_control_c_ends_with_130_one_line_and_no_file(bars_npz, tmp_path, environment):
    done, _ = bombed(bars_npz, tmp_path, environment, "SIGINT", call=5)
    assert done.returncode == 130 and "Traceback" not in done.stderr
    assert done.stderr.strip().splitlines()[-1] == "error: interrupted; nothing is kept yet"
    assert done.stdout == "" and list(tmp_path.iterdir()) == []


def test_a_killed_run_resumes_to_the_same_labels_as_one_that_was_never_stopped(bars_npz, tmp_path, environment, command):
    died, arguments = bombed(bars_npz, tmp_path, environment, "SIGKILL", call=450)
    assert died.returncode == -signal.SIGKILL and sorted(path.name for path in tmp_path.iterdir()) == ["kept"]
    network = ["--network", "user_networks:exploding"]
    assert command(*arguments, *network, "--resume").status == 0
    resumed = load_distilled(tmp_path / "labels.safetensors")
    whole = [argument for argument in arguments if argument not in ("--checkpoint", tmp_path / "kept")]
    assert command(*whole, *network).status == 0
    uninterrupted = load_distilled(tmp_path / "labels.safetensors")
    assert torch.equal(resumed.labels, uninterrupted.labels) and torch.equal(resumed.curve, uninterrupted.curve)
    assert (resumed.student, resumed.validation_accuracy) == (uninterrupted.student, uninterrupted.validation_accuracy)


# What is refused


def check_refused(done, message):
    assert done.status == 2, (done.status, done.out, done.err)
    assert done.out == ""
    lines = [line for line in done.err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and done.err.endswith(lines[0] + "\n") and "Traceback" not in done.err
    assert re.search(message, lines[0]), lines[0]


DISTILL, EVALUATE, BASELINE, SHOW = "distill", "evaluate", "baseline", "show"
REFUSED = [  # the others: tests/refusals.py
    (DISTILL, ["--network", "nonsense"], r"--network 'nonsense': "),
    (DISTILL, ["--base-examples", "85"], r"--base-examples 85: must be 1 to 84"),
    (DISTILL, ["--lam", "0"], r"--lam 0\.0: must be above 0"),
    (DISTILL, ["--nonsense"], r"--nonsense"),
    (EVALUATE, ["--steps", "0"], r"--steps 0: must be at least 1"),
    (BASELINE, ["--label-smoothing", "1"], r"--label-smoothing 1\.0: must be below 1"),
]


@pytest.mark.parametrize(
    ("verb", "options", "message"), REFUSED, ids=[" ".join([verb, *options]) for verb, options, _ in REFUSED]
)
def test_a_file_that_is_there_stays_when_options_are_refused(
    command, bars_npz, labels_file, tmp_path, monkeypatch, snapshot, verb, options, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out.safetensors").write_bytes(b"older labels")
    before = snapshot(tmp_path)
    start = {
        DISTILL: ["ridge", "--target", bars_npz, "--base-examples", 6, "--iterations", 1, "--out", "out.safetensors", *QUICK],
        EVALUATE: [labels_file, "--models", 1, *QUICK],
        BASELINE: ["--target", bars_npz, "--base-examples", 6, "--models", 1, *QUICK],
    }[verb]
    check_refused(command(verb, *start, *options), message)
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nonsense"], "nonsense"),
        (["distill", "ridge", "--out", "x"], "--target"),
        (["distill", "ridge", "--target", "digits"], "--out"),
        (["evaluate"], "(?i)file"),
        (["baseline"], "--target"),
        (["show", "none.safetensors", "--out", "x.png"], r"none\.safetensors' is not there"),
        (["evaluate", "none.safetensors"], r"none\.safetensors' is not there; expected a \.safetensors file"),
    ],
    ids=" ".join,
)
def test_incomplete_and_unknown_commands_are_refused(command, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    check_refused(command(*arguments), message)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("verb", [EVALUATE, SHOW])
@pytest.mark.parametrize("kind", ["damaged", "foreign"])
def test_damaged_and_foreign_label_files_are_refused(command, labels_file, tmp_path, snapshot, verb, kind):
    path = tmp_path / "labels.safetensors"
    if kind == "damaged":
        path.write_bytes(labels_file.read_bytes()[:-50])
    else:
        save_file({"weight": torch.zeros(2)}, path)
    before = snapshot(tmp_path)
    done = command(verb, path, *(["--out", tmp_path / "labels.png"] if verb == SHOW else ["--models", 1, "--device", "cpu"]))
    check_refused(done, r"labels\.safetensors'")
    assert snapshot(tmp_path) == before


def wrong_keys(path):
    np.savez(path / "own.npz", x=np.zeros((9, 4, 4), np.uint8))


def not_a_number(path):
    np.savez(path / "own.npz", images=np.full((9, 4, 4), np.nan), labels=np.arange(9) % 3)


def out_of_range(path):
    np.savez(path / "own.npz", images=np.zeros((9, 4, 4), np.uint8), labels=np.arange(9) - 1)


def truncated(path):
    np.savez(path / "own.npz", images=np.zeros((9, 40, 40), np.uint8), labels=np.arange(9) % 3)
    (path / "own.npz").write_bytes((path / "own.npz").read_bytes()[:3000])


def empty_class(path):
    for name in "ab":
        (path / "own.npz" / name).mkdir(parents=True)
    Image.new("L", (4, 4)).save(path / "own.npz" / "a" / "1.png")


def nothing(path):
    pass


@pytest.mark.parametrize("option", ["--target", "--source"])
@pytest.mark.parametrize("make", [wrong_keys, not_a_number, out_of_range, truncated, empty_class, nothing])
def test_unusable_data_are_refused_by_the_option_that_names_them(command, bars_npz, tmp_path, snapshot, option, make):
    make(tmp_path)
    before = snapshot(tmp_path)
    data = {"--target": bars_npz} | {option: tmp_path / "own.npz"}
    options = [part for pair in data.items() for part in pair]
    options += ["--iterations", 1, "--base-examples", 3, "--out", tmp_path / "out.safetensors"]
    done = command("distill", "ridge", *options, *QUICK)
    check_refused(done, rf"{option}: .*own\.npz")
    assert snapshot(tmp_path) == before


@pytest.fixture
def no_work(monkeypatch):
    "No iteration may be computed."

    def forbidden(*arguments):
        raise AssertionError("an iteration was computed")

    monkeypatch.setattr("labeldistill.methods.loop.Loop.run_epoch", forbidden)


@pytest.mark.parametrize("out", ["none/labels.safetensors", "folder", "file/labels.safetensors", "x" * 300, ""])
def test_an_out_that_cannot_be_written_is_refused_before_the_work(
    command, bars_npz, tmp_path, monkeypatch, snapshot, no_work, out
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir(), (tmp_path / "file").touch()
    before = snapshot(tmp_path)
    done = command("distill", "ridge", "--target", bars_npz, "--base-examples", 3, "--iterations", 1, "--out", out, *QUICK)
    check_refused(done, r"--out '.*'")
    assert snapshot(tmp_path) == before and not (tmp_path / "none").exists()


def test_a_checkpoint_that_cannot_be_written_is_refused_before_the_work(command, bars_npz, tmp_path, snapshot, no_work):
    before, folder = snapshot(tmp_path), tmp_path / ("x" * 250)  # a folder may be called so, the file for the probe not
    options = ["--base-examples", 3, "--iterations", 1, "--out", tmp_path / "labels.safetensors", "--checkpoint", folder]
    check_refused(command("distill", "ridge", "--target", bars_npz, *options), "--checkpoint '.*x': cannot be written")
    assert snapshot(tmp_path) == before


@pytest.fixture
def reproduction():
    "The reproduction, if it can be imported."
    return pytest.importorskip("labeldistill.reproduce.render", exc_type=ImportError)


OWN_STUDIES = ["--network", "user_networks:plain", "--image-size", 10]


@pytest.mark.slow
def test_a_report_on_any_data_and_network(command, bars_npz, tmp_path, reproduction):
    done = command("report", "--scale", "smoke", "--json", "--target", bars_npz, *OWN_STUDIES, "--results", tmp_path)
    (folder,) = (tmp_path / "smoke").iterdir()
    assert json.loads(done.out) == {"out": str(folder)} and folder.name.startswith("report-bars-user_networks_plain-")
    assert f"({bars_npz}, user_networks:plain, 10 pixels)" in (folder / "index.html").read_text()


def test_studies_of_any_data_and_network(command, bars_npz, tmp_path, snapshot, reproduction):
    where = ["--target", bars_npz, *OWN_STUDIES, "--results", tmp_path]
    done = command("reproduce", "all", "--dry-run", *where)
    assert done.status == 0 and "head-to-head-" in done.out and not any(tmp_path.iterdir())
    before = snapshot(tmp_path)
    check_refused(command("reproduce", "tableA2", *where), "'tableA2' is of other data; with --target expected tableA1")
    check_refused(command("reproduce", "figureA7", *where), "'figureA7' needs 9 classes")
    check_refused(command("report", "--network", "lenet", "--results", tmp_path), "--network: only with --target")
    assert snapshot(tmp_path) == before


def test_a_report_needs_runs_and_a_place(command, tmp_path, snapshot, reproduction):
    (tmp_path / "file").touch()
    before = snapshot(tmp_path)
    check_refused(command("report", "--results", tmp_path / "nowhere"), "nowhere': expected the folder of all runs")
    check_refused(command("report", "--results", tmp_path, "--out", tmp_path / "file" / "report"), "file")
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("verb", ["reproduce", "report"])
def test_without_the_extra_one_line_says_how_to_install_it(command, monkeypatch, verb):
    monkeypatch.setattr("labeldistill.cli.find_spec", lambda name: None if name == "papermill" else True)
    done = command(verb, *(["table1"] if verb == "reproduce" else []))
    check_refused(done, r"needs papermill; install with pip install 'labeldistill\[reproduce\]'$")


def test_the_version_is_told(command):
    done = command("--version")
    assert done.status == 0 and done.out.strip() == version("labeldistill")


@pytest.mark.parametrize("out", ["none/labels.png", "folder", "labels.docx", "labels"])
def test_a_picture_that_cannot_be_written_is_refused(command, labels_file, tmp_path, monkeypatch, snapshot, out):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    check_refused(command("show", labels_file, "--out", out), r"--out '")
    assert snapshot(tmp_path) == {}


def test_a_checkpoint_folder_that_cannot_be_written_is_refused_before_the_work(command, bars_npz, tmp_path, snapshot, no_work):
    (tmp_path / "file").touch()
    before = snapshot(tmp_path)
    options = ["--base-examples", 3, "--iterations", 1, "--checkpoint", tmp_path / "file", "--out", tmp_path / "out.safetensors"]
    check_refused(command("distill", "ridge", "--target", bars_npz, *options, *QUICK), r"--checkpoint|file'")
    assert snapshot(tmp_path) == before


def test_a_checkpoint_of_other_settings_is_refused_and_kept(command, bars_npz, tmp_path, snapshot):
    start = ["distill", "ridge", "--target", bars_npz, "--base-examples", 3, "--iterations", 2, *QUICK]
    start += ["--checkpoint", tmp_path / "kept"]
    assert command(*start, "--out", tmp_path / "labels.safetensors").status == 0
    before = snapshot(tmp_path)
    again = [*start, "--out", tmp_path / "labels.safetensors"]
    check_refused(command(*again), r"holds a checkpoint.*--resume")
    other = ["distill", "second-order", *again[2:], "--resume"]
    check_refused(command(*other), r"was made with method = ridge, not second-order")
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("method", ["ridge", "second-order"])
def test_labels_or_loss_that_become_nan_are_reported_with_the_iteration(command, bars_npz, tmp_path, method):
    options = ["--base-examples", 3, "--iterations", 3, "--out", tmp_path / "labels.safetensors"]
    done = command("distill", method, "--target", bars_npz, *options, "--device", "cpu", "--network", "user_networks:diverging")
    check_refused(done, r"NaN or infinite at iteration 1\b")
    assert list(tmp_path.iterdir()) == []


def test_changed_data_are_refused(command, bars_npz, tmp_path):
    own = tmp_path / "bars.npz"
    own.write_bytes(bars_npz.read_bytes())
    out = tmp_path / "labels.safetensors"
    assert command("distill", "ridge", "--target", own, "--base-examples", 3, "--iterations", 1, "--out", out, *QUICK).status == 0
    with np.load(bars_npz) as file:
        np.savez(own, images=255 - file["images"], labels=file["labels"])
    refused = command("evaluate", out, "--target", own, "--source", own, "--models", 1, "--steps", 1)
    check_refused(refused, r"--source '.*': is not the data that the labels' base examples come from")


def test_a_refusal_in_a_process_of_its_own_is_one_line_and_status_2(environment, tmp_path):
    arguments = ["distill", "ridge", "--target", "nowhere", "--out", "labels.safetensors"]
    done = process(*arguments, environment=environment, cwd=tmp_path)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("error: --target: unknown data set") and done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


# Numbers


def test_numbers_are_written_as_python_writes_them(command, bars_npz, tmp_path):
    options = ["--target", bars_npz, "--base-examples", "1_2", "--iterations", "+3", "--scale-lr", "1_0e-3", "--seed", "1_000"]
    out = tmp_path / "labels.safetensors"
    assert command("distill", "ridge", *options, "--out", out, *QUICK).status == 0
    learned = load_distilled(out)
    assert (len(learned), learned.settings["iterations"], learned.seed) == (12, 3, 1_000)
    assert learned.method["ridge"]["scale_lr"] == 1_0e-3
    start = ["distill", "ridge", *options[:2], "--out", out]
    for text in ("1__0", "_10", "10_", "1_000_", "1,000", "0x10"):
        check_refused(command(*start, "--base-examples", text), f"--base-examples '{text}'")


def test_papermill_reads_numbers_as_the_command_line_does(repository, tmp_path):
    pytest.importorskip("papermill")
    given = ["-p", "base_examples", "1_000", "-y", "{seed: 1_234}"]
    notebook = repository / "nbs" / "experiments" / "distill.ipynb"
    run = [sys.executable, "-m", "papermill", notebook, tmp_path / "out.ipynb", "--prepare-only", *given]
    subprocess.run(run, check=True, capture_output=True)
    cells = json.loads((tmp_path / "out.ipynb").read_text())["cells"]
    (injected,) = ("".join(cell["source"]) for cell in cells if "injected-parameters" in cell["metadata"].get("tags", []))
    assert "base_examples = 1000\n" in injected and "seed = 1234" in injected


# Generated options

COMMON = {"--out", "--seed", "--with-images", "--checkpoint", "--resume", "--quiet", "--json"}


def names_of(verb, *more):
    "The options of a command."
    options = typer.main.get_command(app).commands[verb].params if verb != "distill" else method_command(*more).params
    return {name for option in options if option.param_type_name == "option" for name in option.opts}


def names_in(*settings):
    "The options that set fields."
    return {option_name(cls, f.name) for cls in settings for f in fields(cls)}


@pytest.mark.parametrize("name", METHODS)
def test_a_method_has_the_options_of_its_fields_and_no_others(name):
    method = METHODS[name]
    schedule, experts = [Schedule] if method.epochs else [], [Expert, LabelSolve] if hasattr(method, "init") else []
    assert names_of("distill", name) == COMMON | names_in(Task, Student, Compute, method, *schedule, *experts)


def test_other_verbs_have_the_options_of_their_settings():
    test = {"--models", "--seed", "--quiet", "--json"}
    data = {"--target", "--source", "--network", "--last-layer", "--data-root"}
    assert names_of("evaluate") == test | data | {"--match-classes-by-position"} | names_in(Student, Compute)
    assert names_of("baseline") == test | {"--label-smoothing"} | names_in(Task, Student, Compute)
    data = data - {"--source"} | {"--image-size", "--channels"}
    assert names_of("train-full") == data | {"--epochs", "--seed", "--device", "--quiet", "--json"}
    assert names_of("show") == {"--out", "--source", "--data-root"} and names_of("datasets") == {"--data-root", "--json"}


def test_every_option_has_help(command):
    for name in METHODS:
        assert all(option.help for option in method_command(name).params)


def test_known_networks_and_optimizers_stand_in_the_help():
    from labeldistill.networks.zoo import NETWORKS
    from labeldistill.training.trainer import OPTIMIZERS

    texts = {option.name: option.help for option in method_command("ridge").params}
    assert all(name in texts["network"] for name in NETWORKS) and all(name in texts["optimizer"] for name in OPTIMIZERS)


OWN = """
from dataclasses import dataclass

import torch

from labeldistill import Method, Ridge, setting


@dataclass(frozen=True)
class Nearest(Method):
    "Labels by the nearest class mean."

    epochs = None
    softness: float = setting(1.0, "temperature of the distances", above=0)

    def build(self, task):
        return self

    def init_params(self, task, seed):
        images, classes = task.train.normalise(task.train.images).flatten(1), task.train.labels
        means = torch.stack([images[classes == c].mean(0) for c in range(task.classes)])
        return (-torch.cdist(task.base_images.flatten(1), means) / self.softness).softmax(1)


@dataclass(frozen=True)
class Dummy(Ridge):
    "Ridge with one field more."

    name = ""
    dummy: int = setting(7, "a number that changes nothing", at_least=1)
"""


@pytest.fixture
def own_methods(tmp_path, monkeypatch):
    "The current folder with a module of a user's methods."
    (tmp_path / "own_methods.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("own_methods", None)


def test_a_method_of_a_user_is_a_subcommand(command, bars_npz, own_methods):
    start = ["distill", "own_methods:Nearest"]
    assert "--softness" in command(*start, "--help").out and "--epochs" not in command(*start, "--help").out
    options = ["--target", bars_npz, "--base-examples", 6, "--softness", 0.5, "--out", "labels.safetensors", "--quiet"]
    done = command(*start, *options, *QUICK)
    assert (done.status, done.err) == (0, "") and "6 labels" in done.out
    learned = load_distilled("labels.safetensors")
    assert learned.method == {"own_methods:Nearest": {"softness": 0.5}}
    assert learned.labels.argmax(1).tolist() == learned.base_labels.tolist()
    assert command("evaluate", "labels.safetensors", "--target", bars_npz, "--models", 1, *QUICK).status == 0


def test_one_line_makes_a_hyper_parameter(command, bars_npz, own_methods):
    start = ["distill", "own_methods:Dummy"]
    shown = " ".join(command(*start, "--help").out.replace("│", " ").split())
    assert "--dummy <int> a number that changes nothing; at least 1 [default: 7]" in shown  # its option
    options = ["--target", bars_npz, "--base-examples", 3, "--iterations", 2, "--out", "labels.safetensors", *QUICK]
    check_refused(command(*start, *options, "--dummy", 0), "--dummy 0: must be at least 1$")
    assert command(*start, *options, "--dummy", 8, "--checkpoint", "kept").status == 0
    assert load_distilled("labels.safetensors").method["own_methods:Dummy"]["dummy"] == 8  # in the record
    again = command(*start, *options, "--dummy", 9, "--checkpoint", "kept", "--resume")
    check_refused(again, r"was made with .*own_methods:Dummy\.dummy = 8, not 9$")  # in the checkpoint's identity


def test_experts_are_asked_with_their_options(command, bars_npz, tmp_path):
    out = tmp_path / "labels.safetensors"
    experts = ["--init", "expert", "--expert-iterations", 5, "--expert-temperature", 2, "--expert-ensemble", 2]
    options = ["--target", bars_npz, "--base-examples", 6, "--iterations", 2, *experts, "--out", out]
    assert command("distill", "second-order", *options, *QUICK).status == 0
    given = load_distilled(out).method["second-order"]["init"]["expert"]
    assert (given["iterations"], given["temperature"], given["ensemble"]) == (5, 2.0, 2)


# Help


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["distill", ""], [*METHODS]),
        (["distill", "ri"], ["ridge"]),
        (["distill", "ridge", "--lea"], ["--learn"]),
        (["distill", "ridge", "--learn", ""], ["labels", "images"]),
        (["distill", "nonsense", "--le"], []),
    ],
    ids=lambda words: " ".join(words),
)
def test_the_shell_completes(command, monkeypatch, words, expected):
    for name, value in {"_LABELDISTILL_COMPLETE": "complete_bash", "COMP_CWORD": str(len(words))}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("COMP_WORDS", " ".join(["labeldistill", *words]))
    done = command("")
    assert (done.status, done.out.split()) == (0, expected)


def test_the_module_is_the_command(environment, tmp_path):
    for options, word in ((["--version"], version("labeldistill")), (["-h"], "--show-completion")):
        done = subprocess.run([sys.executable, "-m", "labeldistill", *options], capture_output=True, text=True, env=environment)
        assert done.returncode == 0 and word in done.stdout


def test_help_lists_the_methods_with_their_titles(command):
    shown = " ".join(command("distill", "--help").out.replace("│", " ").split())
    assert all(f"{name} {' '.join(method.title.split())}" in shown for name, method in METHODS.items())


def test_help_names_every_command_and_comes_without_heavy_imports(environment, tmp_path):
    code = """
import sys
from labeldistill.cli import main
for verb in ([], ["distill"], ["distill", "ridge"], ["distill", "expert"], ["evaluate"], ["baseline"], ["show"], ["datasets"]):
    try:
        main([*verb, "--help"])
    except SystemExit as stop:
        assert not stop.code
heavy = {"torch", "torchvision", "numpy", "sklearn", "matplotlib", "pandas", "seaborn", "PIL"} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for word in ("distill", "evaluate", "baseline", "show", "datasets", "--base-examples", "--label-smoothing", "--checkpoint"):
        assert word in done.stdout


def test_no_arguments_show_the_help(command):
    done = command()
    assert done.status == 0 and "Usage" in done.out and "distill" in done.out
