"""The command line, end to end and with everything that it refuses."""

import json
import os
import re
import signal
import struct
import subprocess
import sys
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from labeldistill import load_distilled

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
    arguments = ["distill", "--target", "digits", "--base-examples", 10, "--iterations", 4, "--outer-batch", 64]
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
    assert (learned.source.name, learned.target.name, learned.network, learned.method) == ("digits", "digits", "lenet", "ridge")


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
def test_evaluate_takes_network_head_and_optimiser_from_the_file_or_the_options(command, labels_file, options, expected):
    done = command("evaluate", labels_file, "--models", 2, "--steps", 2, "--device", "cpu", "--json", *options)
    found = one_object(done.out)
    assert {key: found[key] for key in expected} == expected


def test_evaluate_trains_as_many_steps_as_the_file_says(command, labels_file, distilled):
    found = one_object(command("evaluate", labels_file, "--models", 1, "--device", "cpu", "--json").out)
    assert found["steps"] == distilled.steps and found["accuracy_std"] == 0


def test_evaluate_tests_on_another_data_set_when_told(command, labels_file, tmp_path, make_pixels):
    images, labels = make_pixels()
    np.savez(tmp_path / "other.npz", images=images[..., 0], labels=(labels + 1) % 3)  # all that was right is wrong there
    options = ["--models", 1, "--steps", 40, "--device", "cpu", "--json", "--network", "user_networks:plain"]
    own, other = (command("evaluate", labels_file, *options, *target) for target in ([], ["--target", tmp_path / "other.npz"]))
    assert one_object(own.out)["accuracy_mean"] > 60 and one_object(other.out)["accuracy_mean"] < 40


@pytest.mark.parametrize(("head", "smoothing"), [("linear", 0.1), ("ridge", 0)])
def test_baseline_prints_one_json_object_of_accuracies(command, bars_npz, head, smoothing):
    options = ["--base-examples", 6, "--label-smoothing", smoothing, "--head", head, "--models", 2, "--json", *QUICK]
    done = command("baseline", "--target", bars_npz, *options)
    found = one_object(done.out)
    assert done.status == 0 and found["models"] == 2 and found["head"] == head
    assert {"accuracy_mean", "accuracy_std", "accuracies", "steps"} <= found.keys() and found["accuracy_mean"] > 60


def test_baseline_runs_on_digits_with_letters_as_source(command):
    options = ["--base-examples", 10, "--models", 1, "--json", *QUICK]
    found = one_object(command("baseline", "--target", "digits", "--source", "letters", *options).out)
    assert found["models"] == 1 and 0 <= found["accuracy_mean"] < 40


def test_without_json_results_are_said_to_people(command, bars_npz, labels_file):
    said = command("baseline", "--target", bars_npz, "--base-examples", 3, "--models", 2, *QUICK)
    assert "±" in said.out and "2 x user_networks:plain" in said.out and said.out.count("\n") == 1
    assert "± " in command("evaluate", labels_file, "--models", 1, "--steps", 1, "--device", "cpu").out


@pytest.mark.parametrize("kind", ["png", "svg", "pdf", "PNG"])
def test_show_draws_a_picture(command, labels_file, tmp_path, kind):
    out = tmp_path / f"labels.{kind}"
    done = command("show", labels_file, "--out", out)
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
    options = ["--base-examples", 5, "--method", method, "--source", tmp_path / "source.npz", "--iterations", 3, "--with-images"]
    done = command("distill", "--target", bars_npz, *options, "--out", out, *QUICK)
    assert done.status == 0 and str(out) in done.out
    (tmp_path / "source.npz").unlink()
    learned = load_distilled(out)
    assert learned.labels.shape == (5, 3) and learned.source.classes == ("0", "1", "2", "3")
    assert (learned.method, learned.network) == (method, "user_networks:plain")
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
    start = ["distill", "--target", "fashion_mnist", "--base-examples", 10, "--iterations", 2, "--with-images", "--out", out]
    steps = [
        command(*start, *here, *QUICK),
        command("evaluate", out, "--models", 1, "--steps", 1, "--device", "cpu", *here),
        command("show", out, "--out", tmp_path / "labels.png", *here),
    ]
    assert [(step.status, step.err if step.status else "") for step in steps] == [(0, "")] * 3


def test_a_network_beside_the_user_is_found_by_the_installed_command(bars_npz, tmp_path):
    (tmp_path / "my_networks.py").write_text((Path(__file__).parent / "user_networks.py").read_text())
    options = ["--base-examples", 3, "--iterations", 1, "--network", "my_networks:plain", "--out", "labels.safetensors"]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}
    done = process("distill", "--target", bars_npz, *options, environment=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


# Interrupted and killed


def bombed(bars_npz, folder, environment, bomb, call=230):
    options = ["--base-examples", 6, "--iterations", 240, "--outer-batch", 84, "--checkpoint", folder / "kept"]
    arguments = ["distill", "--target", bars_npz, *options, "--out", folder / "labels.safetensors", "--device", "cpu"]
    environment = environment | {"BOMB_CALL": str(call), "BOMB_SIGNAL": bomb}
    return process(*arguments, "--network", "user_networks:exploding", environment=environment, cwd=folder), arguments


def test_control_c_ends_with_130_one_line_and_no_file(bars_npz, tmp_path, environment):
    done, _ = bombed(bars_npz, tmp_path, environment, "SIGINT", call=5)
    assert done.returncode == 130 and "Traceback" not in done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("error: interrupted")
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
    assert (resumed.steps, resumed.validation_accuracy) == (uninterrupted.steps, uninterrupted.validation_accuracy)


# What is refused


def check_refused(done, message):
    assert done.status == 2, (done.status, done.out, done.err)
    assert done.out == ""
    lines = [line for line in done.err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and done.err.endswith(lines[0] + "\n") and "Traceback" not in done.err
    assert re.search(message, lines[0]), lines[0]


DISTILL, EVALUATE, BASELINE, SHOW = "distill", "evaluate", "baseline", "show"
FEW = r"must be at least 1"
UNKNOWN = {
    "--method": r"--method 'nonsense': with --learn labels wanted ridge, second-order, unrolled, dd, expert",
    "--network": r"--network 'nonsense': wanted lenet, .* or package\.module:factory",
    "--optimizer": r"--optimizer 'nonsense': wanted adam, sgd, adamw",
    "--head": r"--head 'nonsense': wanted linear, ridge",
    "--device": r"--device 'nonsense': here are auto, cpu",
    "--target": r"--target: unknown data set or path 'nonsense'; wanted: digits, letters, mnist",
    "--source": r"--source: unknown data set or path 'nonsense'; wanted: digits, letters, mnist",
}
HAVE = {
    DISTILL: ["--method", "--network", "--device", "--target", "--source"],
    EVALUATE: ["--network", "--optimizer", "--head", "--device", "--target"],
    BASELINE: ["--network", "--optimizer", "--head", "--device", "--target", "--source"],
}
REFUSED = [
    *((verb, [option, "nonsense"], UNKNOWN[option]) for verb, options in HAVE.items() for option in options),
    *((verb, ["--device", "cuda:99"], r"--device 'cuda:99': here are auto, cpu") for verb in (DISTILL, EVALUATE, BASELINE)),
    *((verb, ["--base-examples", "0"], r"--base-examples 0: must be ") for verb in (DISTILL, BASELINE)),
    *((verb, ["--base-examples", "85"], r"--base-examples 85: must be 1 to 84") for verb in (DISTILL, BASELINE)),
    *((verb, ["--base-examples", "7"], r"--base-examples 7: .*multiple of the 3 classes") for verb in (DISTILL, BASELINE)),
    *((DISTILL, [option, n], f"{option} {n}: {FEW}") for option in ("--epochs", "--iterations") for n in ("0", "-1")),
    (DISTILL, ["--outer-batch", "0"], f"--outer-batch 0: {FEW}"),
    (DISTILL, ["--epochs", "1", "--iterations", "1"], r"--epochs and --iterations: give one of them"),
    *((verb, ["--models", "0"], f"--models 0: {FEW}") for verb in (EVALUATE, BASELINE)),
    (EVALUATE, ["--steps", "0"], f"--steps 0: {FEW}"),
    *((BASELINE, ["--label-smoothing", x], r"--label-smoothing .*: must be at least 0") for x in ("1", "-0.1", "nan")),
    (DISTILL, ["--image-size", "0"], f"--image-size 0: {FEW}"),
    (DISTILL, ["--image-size", "15", "--network", "lenet"], r"16 pixels or more, not 15"),
    (DISTILL, ["--source", "digits"], r"\(1, 28, 28\).*\(1, 16, 16\)"),
    (EVALUATE, ["--target", "digits"], r"--target 'digits'"),
    (DISTILL, ["--resume"], r"--resume: needs --checkpoint"),
    (DISTILL, ["--base-examples", "many"], r"--base-examples"),
    (DISTILL, ["--nonsense"], r"--nonsense"),
    *(
        (DISTILL, ["--network", name], rf"--network '{name}'")
        for name in (
            *("no_such_module:factory", "user_networks:no_such_factory", "user_networks:", ":plain", ".user_networks:plain"),
            *("user_networks:not_callable_dimensions", "user_networks:wrong_output", "user_networks:__doc__", "json:loads"),
        )
    ),
    (DISTILL, ["--network", "user_networks:no_linear"], "the network has no linear layer with 3 outputs; wanted: one"),
    (DISTILL, ["--last-layer", "1"], r"--last-layer '1': linear layers with 3 outputs are \['3'\]"),
]


@pytest.mark.parametrize(
    ("verb", "options", "message"), REFUSED, ids=[" ".join([verb, *options]) for verb, options, _ in REFUSED]
)
@pytest.mark.parametrize("existing", [False, True], ids=["no file", "an older file"])
def test_bad_options_are_refused_and_no_file_is_written_or_damaged(
    command, bars_npz, labels_file, tmp_path, monkeypatch, snapshot, verb, options, message, existing
):
    monkeypatch.chdir(tmp_path)
    if existing:
        (tmp_path / "out.safetensors").write_bytes(b"older labels")
    before = snapshot(tmp_path)
    start = {
        DISTILL: ["--target", bars_npz, "--base-examples", 6, "--out", "out.safetensors", *QUICK],
        EVALUATE: [labels_file, "--models", 1, "--steps", 1, *QUICK],
        BASELINE: ["--target", bars_npz, "--base-examples", 6, "--models", 1, *QUICK],
    }[verb]
    if verb == DISTILL and not {"--epochs", "--iterations"} & set(options):
        start += ["--iterations", 1]
    check_refused(command(verb, *start, *options), message)
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nonsense"], "nonsense"),
        (["distill", "--out", "x"], "--target"),
        (["distill", "--target", "digits"], "--out"),
        (["evaluate"], "(?i)file"),
        (["baseline"], "--target"),
        (["show", "none.safetensors", "--out", "x.png"], r"none\.safetensors' is not there"),
        (["evaluate", "none.safetensors"], r"none\.safetensors' is not there; wanted: a \.safetensors file"),
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
    done = command("distill", *options, "--iterations", 1, "--base-examples", 3, "--out", tmp_path / "out.safetensors", *QUICK)
    check_refused(done, rf"{option}: .*own\.npz")
    assert snapshot(tmp_path) == before


@pytest.fixture
def no_work(monkeypatch):
    "No iteration may be computed."
    from labeldistill.distillers import METHODS

    def forbidden(self, state, batch):
        raise AssertionError("an iteration was computed")

    for method in METHODS.values():
        monkeypatch.setattr(method, "step", forbidden)


@pytest.mark.parametrize("out", ["none/labels.safetensors", "folder", "file/labels.safetensors", "x" * 300, ""])
def test_an_out_that_cannot_be_written_is_refused_before_the_work(
    command, bars_npz, tmp_path, monkeypatch, snapshot, no_work, out
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir(), (tmp_path / "file").touch()
    before = snapshot(tmp_path)
    done = command("distill", "--target", bars_npz, "--base-examples", 3, "--iterations", 1, "--out", out, *QUICK)
    check_refused(done, r"--out '.*'")
    assert snapshot(tmp_path) == before and not (tmp_path / "none").exists()


def test_a_checkpoint_that_cannot_be_written_is_refused_before_the_work(command, bars_npz, tmp_path, snapshot, no_work):
    before, folder = snapshot(tmp_path), tmp_path / ("x" * 250)  # a folder may be called so, the file for the probe not
    options = ["--base-examples", 3, "--iterations", 1, "--out", tmp_path / "labels.safetensors", "--checkpoint", folder]
    check_refused(command("distill", "--target", bars_npz, *options), "--checkpoint '.*x': cannot be written")
    assert snapshot(tmp_path) == before


def test_studies_of_any_data_and_network(command, bars_npz, tmp_path, snapshot):
    where = ["--target", bars_npz, "--network", "user_networks:plain", "--image-size", 10, "--results", tmp_path]
    done = command("reproduce", "all", "--dry-run", *where)
    assert done.status == 0 and "head_to_head-" in done.out and not any(tmp_path.iterdir())
    done = command("report", "--scale", "smoke", "--json", *where)
    (folder,) = (tmp_path / "smoke").iterdir()
    assert json.loads(done.out) == {"out": str(folder)} and folder.name.startswith("report-bars-user_networks_plain-")
    assert f"({bars_npz}, user_networks:plain, 10 pixels)" in (folder / "index.html").read_text()
    before = snapshot(tmp_path)
    check_refused(command("reproduce", "tableA2", *where), "'tableA2' is of other data; with --target: tableA1")
    check_refused(command("reproduce", "figureA7", *where), "'figureA7' wants 9 classes or more")
    check_refused(command("report", "--network", "lenet", "--results", tmp_path), "--network: only with --target")
    assert snapshot(tmp_path) == before


def test_a_report_needs_runs_and_a_place(command, tmp_path, snapshot):
    (tmp_path / "file").touch()
    before = snapshot(tmp_path)
    check_refused(command("report", "--results", tmp_path / "nowhere"), "nowhere' is not there; wanted: the folder of all runs")
    check_refused(command("report", "--results", tmp_path, "--out", tmp_path / "file" / "report"), "file")
    assert snapshot(tmp_path) == before


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
    check_refused(command("distill", "--target", bars_npz, *options, *QUICK), r"--checkpoint|file'")
    assert snapshot(tmp_path) == before


def test_a_checkpoint_of_other_settings_is_refused_and_kept(command, bars_npz, tmp_path, snapshot):
    start = ["distill", "--target", bars_npz, "--base-examples", 3, "--iterations", 2, "--checkpoint", tmp_path / "kept", *QUICK]
    assert command(*start, "--out", tmp_path / "labels.safetensors").status == 0
    before = snapshot(tmp_path)
    again = [*start, "--out", tmp_path / "labels.safetensors"]
    check_refused(command(*again), r"holds a checkpoint.*--resume")
    check_refused(command(*again, "--method", "second-order", "--resume"), r"was made with method = ridge, not second-order")
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("method", ["ridge", "second-order"])
def test_labels_or_loss_that_become_nan_are_reported_with_the_iteration(command, bars_npz, tmp_path, method):
    options = ["--base-examples", 3, "--iterations", 3, "--method", method, "--out", tmp_path / "labels.safetensors"]
    done = command("distill", "--target", bars_npz, *options, "--device", "cpu", "--network", "user_networks:diverging")
    check_refused(done, r"NaN or infinite at iteration 1\b")
    assert list(tmp_path.iterdir()) == []


def test_changed_data_are_refused(command, bars_npz, tmp_path):
    own = tmp_path / "bars.npz"
    own.write_bytes(bars_npz.read_bytes())
    out = tmp_path / "labels.safetensors"
    assert command("distill", "--target", own, "--base-examples", 3, "--iterations", 1, "--out", out, *QUICK).status == 0
    with np.load(bars_npz) as file:
        np.savez(own, images=255 - file["images"], labels=file["labels"])
    check_refused(command("evaluate", out, "--models", 1, "--steps", 1), r"not the data the labels were made for")


def test_a_refusal_in_a_process_of_its_own_is_one_line_and_status_2(environment, tmp_path):
    done = process("distill", "--target", "nowhere", "--out", "labels.safetensors", environment=environment, cwd=tmp_path)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("error: --target: unknown data set") and done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


# Help


def test_help_names_every_command_and_comes_without_heavy_imports(environment, tmp_path):
    code = """
import sys
from labeldistill.cli import main
for verb in ([], ["distill"], ["evaluate"], ["baseline"], ["show"], ["datasets"]):
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
