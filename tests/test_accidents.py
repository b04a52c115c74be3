"""What happens to a command: signals, full disks, closed streams, strange environments. Each in a process of its own."""

import os
import re
import resource
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch

from labeldistill import load_distilled

COMMAND = Path(sys.executable).with_name("labeldistill")


def first_quickly(*values):
    "Values to test with, of which all but the first are slow: each starts a process of its own."
    return [values[0], *(pytest.param(value, marks=pytest.mark.slow) for value in values[1:])]


TEST = ["--models", "1", "--steps", "2", "--device", "cpu"]


def learn(data, out, *more, iterations=3, outer_batch=84, network="plain"):
    options = ["--base-examples", "6", "--iterations", iterations, "--outer-batch", outer_batch, "--device", "cpu"]
    options += ["--network", f"user_networks:{network}", "--out", out]
    return ["distill", "ridge", "--target", data, *options, *more]


@pytest.fixture
def call(environment, tmp_path):
    "Runs the command: exit status, standard output, lines of standard error."

    def run(*arguments, prepare=lambda: None, without=(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, **variables):
        def begin():
            signal.signal(signal.SIGINT, signal.default_int_handler)  # also where the tests run in the background
            prepare()

        given = {name: value for name, value in environment.items() if name not in without} | variables
        how = {"stdout": stdout, "stderr": stderr, "env": given, "cwd": tmp_path, "preexec_fn": begin, "timeout": 300}
        done = subprocess.run([COMMAND, *map(str, arguments)], **how)
        said = (done.stderr or b"").decode(errors="backslashreplace")
        assert "Traceback" not in said and "Exception ignored" not in said, said
        return done.returncode, (done.stdout or b"").decode(), said.splitlines()

    return run


def names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


# Signals


def bomb(call, *arguments, at, name="SIGINT"):
    "The command with a network that sends its process a signal."
    return call(*arguments, BOMB_CALL=str(at), BOMB_SIGNAL=name)


@pytest.mark.parametrize("name", first_quickly("SIGINT", "SIGTERM"))
def test_the_best_labels_of_an_interrupted_run_are_kept_and_marked(call, bars_npz, tmp_path, name, command):
    arguments = learn(bars_npz, "out.safetensors", "--quiet", iterations=300, network="exploding")
    status, out, err = bomb(call, *arguments, at=330, name=name)  # a hundred iterations, a student, some iterations
    assert (status, out, len(err)) == (130, "", 1) and names(tmp_path) == ["out.safetensors"]
    words = (
        r"error: interrupted at iteration (\d+) of 300; 'out.safetensors' holds the best so far, validation accuracy ([\d.]+) %"
    )
    done, accuracy = re.fullmatch(words, err[0]).groups()
    kept = load_distilled(tmp_path / "out.safetensors")
    assert kept.settings["interrupted at iteration"] == int(done) == len(kept.curve) and 100 < int(done) < 300
    assert kept.settings["best iteration"] == 100 and f"{kept.validation_accuracy:.2f}" == accuracy
    assert repr(kept).endswith(f"interrupted at iteration {done} of 300)")
    assert command("show", tmp_path / "out.safetensors", "--source", bars_npz, "--out", tmp_path / "out.svg").status == 0
    assert f"interrupted at iteration {done} of 300" in re.sub(r"<!--|-->", "", (tmp_path / "out.svg").read_text())


@pytest.mark.slow
def test_an_older_file_is_not_replaced_by_labels_of_an_interrupted_run(call, bars_npz, tmp_path):
    (tmp_path / "out.safetensors").write_text("older")
    arguments = learn(bars_npz, "out.safetensors", "--quiet", "--checkpoint", "kept", "--with-images", iterations=300)
    arguments[arguments.index("user_networks:plain")] = "user_networks:exploding"
    status, _, err = bomb(call, *arguments, at=330)
    assert status == 130 and len(err) == 1 and err[0].endswith("; --resume continues")
    assert "'out-interrupted.safetensors' holds the best so far" in err[0]
    assert names(tmp_path) == ["kept", "kept/checkpoint.safetensors", "out-interrupted.safetensors", "out.safetensors"]
    assert (tmp_path / "out.safetensors").read_text() == "older"
    assert load_distilled(tmp_path / "out-interrupted.safetensors").keeps_images
    status, _, err = call(*arguments, "--resume")
    assert (status, err) == (0, []) and not load_distilled(tmp_path / "out.safetensors").interruption


@pytest.mark.parametrize("options", [[], ["--checkpoint", "kept"]], ids=["", "checkpoint"])
def test_nothing_is_kept_before_the_first_validation(call, bars_npz, tmp_path, options):
    arguments = learn(bars_npz, "out.safetensors", "--quiet", *options, iterations=300, network="exploding")
    status, out, err = bomb(call, *arguments, at=9)
    assert (status, out, err) == (130, "", ["error: interrupted; nothing is kept yet"])
    assert names(tmp_path) == []


@pytest.mark.parametrize("name", first_quickly("SIGINT", "SIGTERM"))
def test_an_interrupted_test_ends_at_once(call, labels_file, bars_npz, tmp_path, name):
    how = [
        "--target",
        bars_npz,
        "--network",
        "user_networks:exploding",
        "--device",
        "cpu",
        "--models",
        2,
        "--steps",
        10**7,
        "--quiet",
        "--no-compile",
    ]
    assert bomb(call, "evaluate", labels_file, *how, at=50, name=name) == (130, "", ["error: interrupted"])


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on(call, bars_npz, environment, tmp_path):
    arguments = learn(bars_npz, "stopped.safetensors", iterations=150)
    how = {"cwd": tmp_path, "env": environment, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    with subprocess.Popen([COMMAND, *map(str, arguments)], **how) as process:
        process.stderr.read(1)  # it has begun
        process.send_signal(signal.SIGSTOP)
        assert os.WIFSTOPPED(os.waitpid(process.pid, os.WUNTRACED)[1])
        process.send_signal(signal.SIGCONT)
        process.communicate()
    assert process.returncode == 0 and call(*learn(bars_npz, "whole.safetensors", "--quiet", iterations=150))[0] == 0
    stopped, whole = (load_distilled(tmp_path / f"{name}.safetensors") for name in ("stopped", "whole"))
    assert torch.equal(stopped.labels, whole.labels) and torch.equal(stopped.curve, whole.curve)


# Full disks


def no_room(size=1000):
    "No file grows beyond so many bytes."
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


@pytest.mark.parametrize("verb", first_quickly("distill", "checkpoint", "show"))
def test_a_full_disk_is_said_in_one_line_and_leaves_what_was_there(call, bars_npz, labels_file, tmp_path, verb):
    out = tmp_path / ("out.png" if verb == "show" else "out.safetensors")
    out.write_text("older")
    kept = ["--checkpoint", "kept"] if verb == "checkpoint" else []
    arguments = (
        ["show", labels_file, "--source", bars_npz, "--out", out] if verb == "show" else learn(bars_npz, out, "--quiet", *kept)
    )
    status, said, err = call(*arguments, prepare=no_room)
    path = "kept/checkpoint.safetensors" if kept else out
    assert (status, said, err) == (2, "", [f"error: '{path}' cannot be written (File too large)"])
    assert [name for name in names(tmp_path) if name != "kept"] == [out.name] and out.read_text() == "older"


# Streams

VERBS = {
    "datasets": ["datasets"],
    "help": ["distill", "ridge", "--help"],
    "version": ["--version"],
    "show": ["show", "LABELS", "--source", "DATA", "--out", "out.png"],
    "evaluate": ["evaluate", "LABELS", "--target", "DATA", *TEST, "--json"],
    "baseline": ["baseline", "--target", "DATA", "--base-examples", "6", *TEST],
    "train-full": ["train-full", "--target", "DATA", "--epochs", "1", "--device", "cpu"],
    "distill": learn("DATA", "out.safetensors"),
}


@pytest.fixture
def verb(request, labels_file, bars_npz):
    return [{"LABELS": labels_file, "DATA": bars_npz}.get(word, word) for word in VERBS[request.param]]


@pytest.mark.parametrize("unbuffered", [{}, {"PYTHONUNBUFFERED": "1"}], ids=["buffered", "unbuffered"])
@pytest.mark.parametrize("verb", first_quickly(*VERBS), indirect=True)
def test_output_that_nobody_reads_is_no_error(call, verb, tmp_path, unbuffered):
    reader, writer = os.pipe()
    os.close(reader)
    status, _, err = call(*verb, stdout=writer, **unbuffered)
    os.close(writer)
    assert status in (0, 1) and not [line for line in err if line.startswith("error")]
    assert not [name for name in names(tmp_path) if name.endswith(".part")]
    if "distill" in verb and "--out" in verb:
        assert load_distilled(tmp_path / "out.safetensors").labels.shape == (6, 3)


@pytest.mark.slow
@pytest.mark.parametrize("verb", first_quickly("evaluate", "version", "datasets"), indirect=True)
def test_output_that_does_not_fit_on_the_disk_is_said_in_one_line(call, verb):
    with open("/dev/full", "w") as full:
        status, _, err = call(*verb, stdout=full)
    assert status == 2 and err[-1] == "error: [Errno 28] No space left on device"


@pytest.mark.slow
@pytest.mark.parametrize("closed", first_quickly((0, 1, 2), (1,), (2,)), ids=str)
def test_closed_streams_are_no_error_and_no_file_takes_their_place(call, bars_npz, tmp_path, closed):
    status, _, _ = call(*learn(bars_npz, "out.safetensors"), prepare=lambda: [os.close(number) for number in closed])
    assert status == 0 and names(tmp_path) == ["out.safetensors"]
    assert load_distilled(tmp_path / "out.safetensors").labels.shape == (6, 3)


ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("verb", "more", "said"),
    [("baseline", ["--models", "2"], r"[\d.]+ \\xb1 [\d.]+ % \("), ("help", [], r"Usage: "), ("datasets", [], "digits ")],
    indirect=["verb"],
)
def test_a_locale_without_unicode_shows_escapes(call, verb, more, said):
    status, out, err = call(*verb, *more, **ASCII)
    assert status == 0 and re.search(said, out), err


@pytest.mark.slow
def test_a_name_that_is_no_unicode_is_no_error(call, bars_npz, tmp_path):
    out = os.fsdecode(b"labels-\xff.safetensors")
    status, said, err = call(*learn(bars_npz, out, "--quiet"))
    assert (status, err) == (0, []) and said.startswith(r"labels-\udcff.safetensors: 6 labels")
    assert names(tmp_path) == [out]


# Environments


@pytest.mark.slow
def test_without_a_home_and_with_no_cache_to_write_to_all_is_well(call, bars_npz, tmp_path):
    nowhere = {name: "/proc/nowhere" for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "MPLCONFIGDIR", "TORCHINDUCTOR_CACHE_DIR")}
    how = {"without": ("HOME", "USER", "LOGNAME", "LABELDISTILL_DATA"), **nowhere}
    status, _, err = call(*learn(bars_npz, "out.safetensors", "--quiet"), **how)
    assert status == 0 and all(re.match("mkdir -p failed|Matplotlib created a temporary", line) for line in err)  # its own words
    assert call("show", "out.safetensors", "--source", bars_npz, "--out", "out.png", **how)[0] == 0
    status, _, err = call("distill", "ridge", "--target", "mnist", "--out", "new.safetensors", "--quiet", **how)
    assert status == 2 and err[-1].startswith("error: ") and "expected /proc/nowhere/labeldistill/MNIST" in err[-1]
    assert names(tmp_path) == ["out.png", "out.safetensors"]


@pytest.mark.slow
def test_the_home_of_nobody_is_refused(call, tmp_path):
    status, _, err = call("datasets", "--data-root", "~no-such-user/x")
    assert (status, err) == (2, ["error: --data-root '~no-such-user/x': there is no such home folder; expected a folder"])
    status, _, err = call(*learn("~no-such-user/x.npz", "out.safetensors"))
    assert status == 2 and err[0].startswith("error: --target: unknown data set or path '~no-such-user/x.npz'; expected ")
    assert names(tmp_path) == []


@pytest.mark.slow
def test_files_are_as_private_as_the_mask_says(call, bars_npz, tmp_path):
    assert call(*learn(bars_npz, "out.safetensors", "--checkpoint", "kept"), prepare=partial(os.umask, 0o077))[0] == 0
    modes = {name: (tmp_path / name).stat().st_mode & 0o777 for name in names(tmp_path)}
    assert modes == {"kept": 0o700, "kept/checkpoint.safetensors": 0o600, "out.safetensors": 0o600}
