"""What the tests share: small data, quickly distilled labels, and the command line called in process."""

import os
from pathlib import Path
from types import SimpleNamespace

os.environ.setdefault("MPLBACKEND", "agg")

import numpy as np
import pytest
import torch
from hypothesis import settings

from labeldistill.data.datasets import Dataset

settings.register_profile("suite", deadline=None, max_examples=25, print_blob=True)
settings.load_profile("suite")
torch.set_num_threads(1)

TESTS = Path(__file__).parent


def pytest_runtest_setup(item):
    if item.get_closest_marker("cuda") and not torch.cuda.is_available():
        pytest.skip("there is no GPU")


@pytest.fixture(scope="session")
def repository():
    "The checkout's root folder."
    return TESTS.parent


@pytest.fixture(autouse=True)
def own_data_root(monkeypatch, tmp_path_factory, request):
    "No test finds downloaded data by accident, or leaves any behind: only those that ask for it see the user's."
    if "real_data" not in request.fixturenames:
        monkeypatch.setenv("LABELDISTILL_DATA", str(tmp_path_factory.getbasetemp() / "no-data"))


@pytest.fixture(autouse=True)
def own_random_numbers():
    "A test draws the same numbers whichever tests ran before it."
    torch.manual_seed(0)


@pytest.fixture
def no_network(monkeypatch):
    "Every connection is refused, at once and without leaving the machine."
    monkeypatch.setattr("urllib.request._opener", None)  # it remembers the proxies of its first use
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)


def pixels(count=120, classes=3, channels=1, size=16, seed=0):
    "Images (n, h, w, c) uint8 whose classes can be told apart: a bright bar at a class's own place, on noise; and their classes."
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(count) % classes)
    images = rng.integers(0, 120, (count, size, size, channels), dtype=np.uint8)
    width = size // classes
    for image, label in zip(images, labels, strict=True):
        image[:, label * width : (label + 1) * width] += 120
    return images, labels.astype(np.int64)


def dataset(count=120, classes=3, channels=1, size=16, seed=0, **facts):
    "`pixels` as a data set in memory."
    images, labels = pixels(count, classes, channels, size, seed)
    images = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
    return Dataset("bars", images, torch.from_numpy(labels), tuple("abcdefghijkl"[:classes]), **facts)


@pytest.fixture(scope="session")
def make_pixels():
    return pixels


@pytest.fixture(scope="session")
def make_dataset():
    return dataset


@pytest.fixture(scope="session")
def bars():
    "A small data set without an official test part."
    return dataset()


@pytest.fixture(scope="session")
def bars_npz(tmp_path_factory):
    "The same as a user's file. Not to be changed."
    path = tmp_path_factory.mktemp("own") / "bars.npz"
    images, labels = pixels()
    np.savez(path, images=images, labels=labels)
    return path


@pytest.fixture(scope="module")
def few_steps():
    "Validation looks at students up to 60 steps, not 1,000."
    from labeldistill.methods import unrolled  # noqa: F401, which would keep the shorter steps if it were imported later
    from labeldistill.reproduce import budget  # noqa: F401, likewise, with all that it imports

    with pytest.MonkeyPatch.context() as patch:
        for module in ("training.evaluation", "methods.expert_selection"):
            patch.setattr(f"labeldistill.{module}.candidate_steps", lambda count: [10, 30, 60])
        yield


@pytest.fixture(scope="session")
def distilled(bars_npz):
    "Labels for six bars, learned in a few ridge iterations. Not to be changed."
    from labeldistill import Compute, Ridge, Schedule, Task, distill

    schedule, compute = Schedule(iterations=8, outer_batch=32), Compute(device="cpu")
    return distill(Task(bars_npz, base_examples=6), Ridge(), schedule=schedule, compute=compute, progress=False)


@pytest.fixture(scope="session")
def labels_file(distilled, tmp_path_factory):
    "The same in a file. Not to be changed."
    path = tmp_path_factory.mktemp("labels") / "labels.safetensors"
    distilled.save(path)
    return path


@pytest.fixture
def damaged_copy(labels_file, tmp_path):
    "Makes a copy of the labels' file whose tensors and facts a function has changed; the metadata may be given outright."
    import json

    from safetensors import safe_open
    from safetensors.torch import save_file

    def make(change=lambda tensors, facts: None, metadata=None):
        with safe_open(labels_file, framework="pt") as file:
            tensors, text = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()
        facts = json.loads(text["labeldistill"])
        change(tensors, facts)
        path = tmp_path / "damaged.safetensors"
        save_file(tensors, path, metadata if metadata is not None else text | {"labeldistill": json.dumps(facts)})
        return path

    return make


@pytest.fixture
def command(capsys, monkeypatch):
    "Calls the command line in process: status, standard output, standard error. Modules of this folder can be named."
    from labeldistill.cli import main

    monkeypatch.syspath_prepend(TESTS)

    def call(*arguments):
        capsys.readouterr()
        status = 0
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as stop:
            status = stop.code or 0
        out, err = capsys.readouterr()
        return SimpleNamespace(status=status, out=out, err=err)

    return call


@pytest.fixture
def environment():
    "The environment of a process that can import this folder's modules, on one thread."
    path = os.pathsep.join(filter(None, [str(TESTS), os.environ.get("PYTHONPATH")]))
    common = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}  # output is buffered, as usual
    return common | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}


def files_below(folder):
    "Every file below a folder with its content."
    return {path.relative_to(folder): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


@pytest.fixture
def snapshot():
    return files_below


@pytest.fixture
def random_states():
    "The global random states, to be compared."
    import random

    return lambda: (torch.get_rng_state().tolist(), str(np.random.get_state()), random.getstate())  # noqa: NPY002
