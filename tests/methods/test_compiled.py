"""What is compiled is traced as a whole: a part that the compiler cannot trace would silently run step by step."""

from __future__ import annotations

import pytest
import torch
from torch._dynamo import reset

import labeldistill as ld
from labeldistill.api import prepare
from labeldistill.methods.loop import Loop, epoch_indices, start
from labeldistill.networks.compute import Computation
from labeldistill.networks.network import make_network
from labeldistill.training.heads import HEADS
from labeldistill.training.trainer import Cohort, Trainer

METHODS = {
    "second-order": ld.SecondOrder(),
    "ridge": ld.Ridge(),
    "second-order images": ld.SecondOrder(learn="images"),
    "ridge images": ld.Ridge(learn="images"),
    "unrolled": ld.Unrolled(window=2),
}


@pytest.fixture
def whole(monkeypatch):
    "The compiler raises where it would leave a part out, and stops after tracing."
    compile = torch.compile
    monkeypatch.setattr(torch, "compile", lambda f, **_: compile(f, dynamic=False, fullgraph=True, backend="eager"))
    yield
    reset()


@pytest.mark.parametrize("name", METHODS)
def test_an_iteration_is_traced_as_a_whole(whole, name):
    task, distiller = prepare(ld.Task("digits", base_examples=10), METHODS[name], compute=ld.Compute(device="cpu", compile=True))
    loop, progress = Loop(task, distiller, 0), start(task, distiller, 0)
    indices = epoch_indices(task, 0, 0, distiller.inner_batch, distiller.inner_steps)[0]
    _, metrics = loop.iterate(progress.state, loop.next_network(progress.state), indices)
    assert metrics.isfinite().all()


@pytest.mark.parametrize("head", HEADS)
# The ConvNet normalises maps of nine pixels: where they hardly vary, rounding grows to hundredths within two steps.
@pytest.mark.parametrize(
    ("network", "precision", "tolerance"), [("lenet", "bf16", 0.05), ("lenet", "fp32", 1e-4), ("convnet", "fp32", 0.05)]
)
def test_a_step_of_students_is_traced_as_a_whole(whole, network, head, precision, tolerance):
    made = HEADS[head](make_network(network, 1, 28, 3), computation=Computation(precision, compile=True))
    images, labels = torch.rand(4, 1, 28, 28), torch.eye(3)[[0, 1, 2, 0]]
    alone, cohort = Trainer(made, "adam", 1), Cohort(made, "adam", [0, 1])
    for _ in range(2):
        alone.step(images, labels)
        cohort.step(images.expand(2, -1, -1, -1, -1), labels.expand(2, -1, -1))
    expected, found = alone.classify(images), cohort.classifiers()[1](images)
    torch.testing.assert_close(found, expected, atol=tolerance, rtol=tolerance)
