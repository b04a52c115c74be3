"""Iterations of the package equal those of a textbook loop: modules, torch.optim, double backward, full graphs; step by step."""

import naive
import pytest
import torch
from helpers import PAPER, as_double, tiny_task

from labeldistill.methods.distiller import Batch
from labeldistill.methods.loop import start

COUNT, INNER, OUTER, CLASSES = 12, 5, 16, 4


@pytest.mark.parametrize("name", PAPER)
def test_thirty_iterations_give_the_labels_and_the_network_of_a_textbook_loop(name, make_dataset):
    task, distiller = tiny_task(make_dataset(classes=CLASSES, size=28), COUNT, PAPER[name])
    state, base, rng = as_double(start(task, distiller, 3).state), task.base_images.double(), torch.Generator().manual_seed(0)
    module = naive.textbook_lenet(1, 28, CLASSES).double()
    flat, own = state.train_state.theta, [p for p in module.parameters()]
    own = own if name == "second-order" else own[:-2]
    for parameter, part in zip(own, flat.split([p.numel() for p in own]), strict=True):
        parameter.data = part.view_as(parameter).clone()
    reference = naive.NAIVE[name](module, base, CLASSES, INNER)
    reference.labels.data = reference.labels.data.double()
    if name == "ridge":
        reference.weights, reference.scale.data = reference.weights.double(), reference.scale.data.double()

    for _ in range(30):
        rows = torch.randperm(COUNT, generator=rng)[:INNER]
        images = torch.randn(OUTER, 1, 28, 28, generator=rng, dtype=torch.float64)
        targets = torch.randint(0, CLASSES, (OUTER,), generator=rng)
        state, metrics = distiller.step(state, Batch(rows, base[rows], images, targets), distiller.optimizer.update)
        loss, logits = reference.learn(rows, images, targets)
        assert metrics[0].item() == pytest.approx(loss.item(), abs=1e-6)
        assert metrics[1].item() == pytest.approx(100 * (logits.argmax(1) != targets).double().mean().item())

    network, close = state.train_state, dict(rtol=0, atol=1e-6)
    assert (state.params - 1 / CLASSES).abs().max() > 0.01  # they have moved
    torch.testing.assert_close(state.params, reference.labels.detach(), **close)
    torch.testing.assert_close(network.theta, torch.cat([p.detach().flatten() for p in reference.module.parameters()]), **close)
    if name == "ridge":
        torch.testing.assert_close(network.aux.weights, reference.weights, **close)
        torch.testing.assert_close(network.aux.scale, reference.scale.detach(), **close)
