"""The choice of device and computation: Apple's GPU, as far as a machine without it can tell; compilers that fail."""

import os
import subprocess
import sys
import warnings

import pytest
import torch

from labeldistill import load_distilled
from labeldistill.networks.compute import (
    COMPILE_FROM,
    PLAIN,
    bfloat16_is_native,
    can_compile,
    choose_computation,
    clear_torn,
    select_device,
    warn_of_short_run,
)
from labeldistill.networks.network import make_network
from labeldistill.utils import InputError

MPS = torch.device("mps")


@pytest.fixture(scope="module")
def lenet():
    return make_network("lenet", 1, 28, 10)


@pytest.mark.parametrize("there", [True, False])
def test_mps_is_accepted_where_pytorch_has_it_and_never_chosen(monkeypatch, there):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: there)
    assert select_device("auto").type in ("cpu", "cuda")
    if there:
        assert select_device("mps") == select_device(MPS) == MPS
    else:
        with pytest.raises(InputError, match=r"^--device 'mps': expected auto, cpu[^\n]*$"):
            select_device("mps")


def test_on_mps_networks_are_computed_in_plain_float32(lenet):
    assert not bfloat16_is_native(MPS) and not can_compile(MPS)
    for calls in (1, COMPILE_FROM, 10**6):
        assert choose_computation(lenet, MPS, calls) == choose_computation(lenet, MPS, calls, "fp32", False) == PLAIN


@pytest.mark.parametrize(
    ("precision", "compile", "message"),
    [
        ("bf16", None, "--precision bf16: not on mps; expected --precision fp32 --no-compile"),
        ("auto", True, "--compile: not on mps; expected --precision fp32 --no-compile"),
    ],
)
def test_bfloat16_and_the_compiler_are_refused_on_mps(lenet, precision, compile, message):
    with pytest.raises(InputError) as caught:
        choose_computation(lenet, MPS, 10**6, precision, compile)
    assert str(caught.value) == message


# The compiler


@pytest.mark.parametrize(("compiled", "steps", "heard"), [(True, 2999, 1), (True, 3000, 0), (False, 2, 0), (None, 2, 0)])
def test_compiling_a_short_run_is_done_and_said(compiled, steps, heard):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        warn_of_short_run(compiled, steps)
    assert [str(warning.message).partition(":")[0] for warning in said] == heard * ["--compile"]


@pytest.fixture(scope="module")
def eager(bars_npz, tmp_path_factory):
    "Learns labels of bars in a process of its own: the labels, and what was said."

    def run(environment, *options):
        folder = tmp_path_factory.mktemp("eager")
        command = [sys.executable, "-m", "labeldistill", "distill", "ridge", "--target", bars_npz, "--base-examples", "6"]
        command += [
            "--iterations",
            "3",
            "--device",
            "cpu",
            "--quiet",
            "--network",
            "user_networks:plain",
            "--out",
            "out.safetensors",
        ]
        done = subprocess.run([*map(str, command), *options], cwd=folder, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return load_distilled(folder / "out.safetensors").labels, [x for x in done.stderr.splitlines() if x.startswith("warning")]

    return run


BROKEN = {
    "a compiler that fails": {"CXX": "/bin/false"},
    "no compiler": {"CXX": "no-such-compiler"},
    "no headers": {"CXX": "HEADERLESS"},
    "no cache": {"TORCHINDUCTOR_CACHE_DIR": "/proc/nowhere"},
    "a file for a cache": {"TORCHINDUCTOR_CACHE_DIR": __file__},
}


@pytest.mark.slow
@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_compiler_is_done_without_and_said_once(eager, environment, tmp_path, how):
    headerless = tmp_path / "compiler"
    headerless.write_text('#!/bin/sh\nexec g++ -nostdinc "$@"\n')
    headerless.chmod(0o755)
    variables = {name: str(headerless) if value == "HEADERLESS" else value for name, value in BROKEN[how].items()}
    cache = {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    labels, said = eager(environment | cache | variables, "--compile")
    assert len(said) == 1 and said[0].startswith("warning: PyTorch's compiler does not work here: ")
    assert said[0].endswith("; networks are computed without it")
    assert torch.equal(labels, eager(environment)[0])


def test_empty_libraries_of_killed_compilers_are_removed(tmp_path):
    torn, whole, fresh = (tmp_path / "a" / f"{name}.main.so" for name in ("torn", "whole", "fresh"))
    torn.parent.mkdir()
    for library in (torn, whole, fresh):
        library.write_bytes(b"\x7fELF" if library is whole else b"")
    for library in (torn, whole):
        os.utime(library, (0, 0))
    clear_torn(tmp_path)
    assert sorted(path.name for path in torn.parent.iterdir()) == ["fresh.main.so", "whole.main.so"]
