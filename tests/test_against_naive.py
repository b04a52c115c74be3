"""Iterations of the package equal those of the naive form (double backward, full graphs), step by step."""

import naive
import pytest
import torch

from labeldistill.distillers import METHODS, Batch, State, map_tensors
from labeldistill.labels import adam_start, uniform_labels
from labeldistill.monitor import monitor_start
from labeldistill.networks import make_network

NAIVE = {"second-order": naive.SecondOrder, "ridge": naive.Ridge}
COUNT, INNER, OUTER, CLASSES = 12, 5, 16, 4


@pytest.mark.parametrize("name", METHODS)
def test_thirty_iterations_give_the_labels_and_the_network_of_the_naive_form(name):
    rng = torch.Generator().manual_seed(0)
    base = torch.randn(COUNT, 1, 28, 28, generator=rng, dtype=torch.float64)
    network = make_network("lenet", 1, 28, CLASSES)
    textbook = naive.textbook_lenet(1, 28, CLASSES)
    textbook.load_state_dict(dict(zip(textbook.state_dict(), network.build(seed=3).state_dict().values(), strict=True)))
    distiller = NAIVE[name](textbook.double(), base, CLASSES, INNER)
    if name == "ridge":
        distiller.weights, distiller.scale.data = distiller.weights.double(), distiller.scale.data.double()
    distiller.labels.data = distiller.labels.data.double()

    method, labels = METHODS[name](network), uniform_labels(COUNT, CLASSES)
    state = State(labels, adam_start(labels), method.start(seed=3), monitor_start(50))
    state = map_tensors(lambda x: x.double() if x.is_floating_point() else x, state)
    for _ in range(30):
        rows = torch.randperm(COUNT, generator=rng)[:INNER]
        images = torch.randn(OUTER, 1, 28, 28, generator=rng, dtype=torch.float64)
        targets = torch.randint(0, CLASSES, (OUTER,), generator=rng)
        state, _ = method.step(state, Batch(rows, base[rows], images, targets))
        distiller.learn(rows, images, targets)

    theirs = torch.cat([p.detach().flatten() for p in distiller.module.parameters()])
    assert (state.learned - 1 / CLASSES).abs().max() > 0.01
    torch.testing.assert_close(state.learned, distiller.labels.detach(), rtol=0, atol=1e-6)
    torch.testing.assert_close(state.learner.theta, theirs, rtol=0, atol=1e-6)
