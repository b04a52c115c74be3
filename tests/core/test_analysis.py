"""Analyses of learned labels: each number against its definition, each gradient against automatic differentiation."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import cross_entropy

from labeldistill.analysis import gradient_variance, label_gradient, mean_labels, reconstruct, variance
from labeldistill.api import prepare
from labeldistill.config import Compute, Ridge, Schedule, SecondOrder, Task, Unrolled
from labeldistill.methods.loop import epoch_indices, make_batch, start
from labeldistill.training.training_set import smoothed_labels


def rng(seed):
    return torch.Generator().manual_seed(seed)


def tiny(channels, image_size, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * image_size**2, 8), nn.Tanh(), nn.Linear(8, classes))


METHODS = {"ridge": Ridge(), "second-order": SecondOrder()}


def ready(method):
    "The task loaded for a method, and its distiller: two epochs of two iterations."
    task = Task("digits", 20, network=tiny, target_size=256 + 54)  # of them 54 for validation
    return prepare(task, method, schedule=Schedule(iterations=4, outer_batch=128), compute=Compute("cpu", compile=False))


# Labels against classes


@given(st.integers(1, 40), st.integers(2, 9), st.integers(0, 99))
def test_mean_labels_are_the_means_of_the_rows_of_each_class(count, classes, seed):
    labels = torch.rand(count, classes, generator=rng(seed)).softmax(1)
    base_labels = torch.randint(30, (count,), generator=rng(seed))
    own, means = mean_labels(labels, base_labels)
    assert own.tolist() == sorted(set(base_labels.tolist()))
    for c, mean in zip(own, means, strict=True):
        assert torch.allclose(mean, labels[base_labels == c].mean(0), atol=1e-6)


# Reconstructions


@given(st.integers(0, 99))
def test_a_reconstruction_is_the_mean_weighted_by_labels(seed):
    images = torch.randint(256, (6, 3, 4, 4), generator=rng(seed), dtype=torch.uint8)
    labels = torch.rand(6, 5, generator=rng(seed)).softmax(1)
    expected = torch.stack([(labels[:, c, None, None, None] * images).sum(0) / labels[:, c].sum() for c in range(5)])
    assert (reconstruct(images, labels).float() - expected).abs().max() <= 0.51


def test_one_hot_labels_give_the_means_of_the_classes_and_black_where_there_are_none():
    images = torch.randint(256, (6, 1, 4, 4), generator=rng(0), dtype=torch.uint8)
    mixed = reconstruct(images, smoothed_labels(torch.tensor([0, 0, 0, 2, 2, 2]), 3))
    assert (mixed[0].float() - images[:3].float().mean(0)).abs().max() <= 0.51
    assert mixed[1].eq(0).all()


# Noise of the gradients


@pytest.mark.parametrize("name", METHODS)
def test_the_gradient_that_a_step_records_is_that_of_automatic_differentiation(name):
    task, distiller = ready(METHODS[name])
    state = start(task, distiller, seed=0).state
    batch = make_batch(task, epoch_indices(task, 0, 0, distiller.inner_batch)[0])
    found = label_gradient(distiller, state, batch)
    labels, theta = state.params[batch.rows].requires_grad_(), state.train_state.theta.requires_grad_()
    if name == "second-order":
        inner = cross_entropy(distiller.function(theta, batch.images), labels)
        (gradient,) = torch.autograd.grad(inner, theta, create_graph=True)
        logits = distiller.function(theta - SecondOrder().inner_lr * gradient, batch.outer_images)
    else:
        z, outer = (distiller.features(theta, images) for images in (batch.images, batch.outer_images))
        local, alpha = z.T @ torch.inverse(z @ z.T + torch.eye(len(z))) @ labels, Ridge().pseudo_step
        logits = outer @ ((1 - alpha) * state.train_state.aux.weights + alpha * local)
    (exact,) = torch.autograd.grad(cross_entropy(logits, batch.targets), labels)
    assert torch.allclose(found[batch.rows], exact, rtol=1e-3, atol=1e-3 * exact.abs().max().item())
    assert found.isnan().any(1).sum() == len(found) - len(batch.rows)


def test_a_window_of_steps_has_a_gradient_in_each_row_that_it_has_seen():
    task, distiller = ready(Unrolled(window=2))
    state, rows = start(task, distiller, seed=0).state, epoch_indices(task, 0, 0, distiller.inner_batch, 2)[0]
    found = label_gradient(distiller, state, make_batch(task, rows))
    assert (~found.isnan().any(1)).nonzero().flatten().tolist() == rows.rows.unique().tolist() != [*range(20)]


def test_the_variance_is_that_of_the_draws_that_hold_a_row():
    gradients = torch.randn(30, 4, 3, generator=rng(0), dtype=torch.float64)
    assert variance(gradients)[0] == pytest.approx(gradients.var(0).mean().item())
    gradients[10:, 0] = torch.nan
    expected = torch.cat([gradients[:10, :1].var(0), gradients[:, 1:].var(0)]).mean()
    assert variance(gradients)[0] == pytest.approx(expected.item())
    gradients[1:, 0] = torch.nan  # a row that was seen once has no variance
    assert variance(gradients)[0] == pytest.approx(gradients[:, 1:].var(0).mean().item())


@given(st.floats(0.01, 100))
def test_the_relative_variance_does_not_depend_on_scale_and_is_noise_by_signal(scale):
    noise = torch.randn(2000, 1, 50, generator=rng(1), dtype=torch.float64)
    assert variance(scale * (2 + noise))[1] == pytest.approx(1 / 4, rel=0.05)
    assert variance(scale * torch.ones(5, 2, 3, dtype=torch.float64)) == pytest.approx((0, 0), abs=1e-12)


@pytest.mark.parametrize("name", METHODS)
def test_the_variance_along_a_run_is_finite_and_repeatable(name):
    curve = gradient_variance(*ready(METHODS[name]), seed=1, draws=6, show_progress=False)
    assert curve[:, 0].tolist() == [2, 4]
    assert (curve[:, 1] > 0).all() and not curve.isnan().any()
    assert torch.equal(curve, gradient_variance(*ready(METHODS[name]), seed=1, draws=6, show_progress=False))


def test_labels_that_speak_against_a_class_leave_it_out():
    images = torch.tensor([100, 200], dtype=torch.uint8)[:, None, None, None]
    assert reconstruct(images, torch.tensor([[0.5, -0.5], [-0.45, 0.45]])).flatten().tolist() == [100, 200]
