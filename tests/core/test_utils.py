"""Memory that runs out ends in one line that says what asked for how much, whoever noticed it."""

import errno
import re
import subprocess
import sys

import numpy as np
import pytest
import torch

from labeldistill import InputError, Ridge, distill, evaluate, show, train_full, true_labels
from labeldistill.utils import enough_memory

SMALLER = "; expected fewer or smaller images (--base-examples, --image-size), smaller batches, or more memory"
CUDA = "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 139.81 GiB of which 1.0 GiB is free."


def fail(error):
    raise error


@pytest.mark.parametrize(
    ("demand", "size"),
    [
        (lambda: torch.empty(10**15), "3,814,697,266 MiB"),
        (lambda: np.empty(10**15), "7.11 PiB"),
        (lambda: fail(torch.OutOfMemoryError(CUDA)), "20.00 GiB"),
        (lambda: fail(OSError(errno.ENOMEM, "Cannot allocate memory")), "more than there is"),
        (lambda: fail(ImportError("libtorch.so: failed to map segment from shared object")), "more than there is"),
        (lambda: fail(RuntimeError("std::bad_alloc")), "more than there is"),
        (lambda: fail(MemoryError()), "more than there is"),
    ],
    ids=["torch", "numpy", "CUDA", "system", "import", "C++", "Python"],
)
def test_every_library_that_gets_no_memory_ends_in_one_line(demand, size):
    with pytest.raises(InputError, match=re.escape(f"asked for {size}{SMALLER}") + "$") as caught, enough_memory():
        demand()
    assert str(caught.value).startswith("not enough memory: labeldistill.utils.enough_memory asked")


@pytest.mark.parametrize(
    "error", [RuntimeError("shapes differ"), OSError(errno.ENOSPC, "No space left on device"), KeyError("a")]
)
def test_other_errors_stay_what_they_are(error):
    with pytest.raises(type(error)) as caught, enough_memory():
        raise error
    assert caught.value is error


class Greedy(torch.utils.data.Dataset):
    "Images that are too large for any machine."

    def __len__(self):
        return 10

    def __getitem__(self, index):
        return torch.empty(1, 10**7, 10**8), index % 2


@pytest.mark.parametrize(
    "verb",
    [
        lambda greedy, labels: distill(greedy, Ridge()),
        lambda greedy, labels: evaluate(labels, greedy),
        lambda greedy, labels: show(labels, source=greedy),
        lambda greedy, labels: true_labels(greedy),
        lambda greedy, labels: train_full(greedy),
    ],
    ids=["distill", "evaluate", "show", "true_labels", "train_full"],
)
def test_every_verb_in_python_ends_so(verb, labels_file):
    with pytest.raises(
        InputError, match=r"not enough memory: labeldistill\.data\.images\._read_items asked for 3,814,697,266 MiB"
    ):
        verb(Greedy(), labels_file)


LIMITED = """
import resource, sys

import labeldistill.api, torchvision.transforms.functional
from labeldistill.cli import main

pages = int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 2**30,) * 2)
main(sys.argv[1:])
"""
TRAJECTORIES = "matching --experts 1000 --trajectory-iterations 2 --trajectory-every 1"
GREEDY = {
    "ridge --image-size 1024": "--target: not enough memory: labeldistill.data.images._convert asked for 1,797 MiB",
    TRAJECTORIES: "not enough memory: labeldistill.methods.matching.expert_trajectories asked for 2,119 MiB",
}


@pytest.mark.skipif(sys.platform != "linux", reason="limits of Linux")
@pytest.mark.parametrize("options", ["ridge --image-size 1024", pytest.param(TRAJECTORIES, marks=pytest.mark.slow)])
def test_a_command_beyond_the_memory_of_its_process_ends_in_one_line(options, environment, tmp_path):
    given = ["distill", *options.split(), "--target", "digits", "--device", "cpu", "--quiet", "--out", "labels.safetensors"]
    done = subprocess.run([sys.executable, "-c", LIMITED, *given], capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert (done.returncode, done.stdout, list(tmp_path.iterdir())) == (2, "", [])
    assert done.stderr == f"error: {GREEDY[options]}{SMALLER}\n"
