"""The closed-form label gradients against double backward, and the ridge solution against the normal equations."""

import pytest
import torch
import user_networks
from helpers import as_double, naive_second_order, relative, tiny_task
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import cross_entropy

from labeldistill.config import SecondOrder
from labeldistill.methods.distiller import Batch
from labeldistill.methods.gradients import ridge_label_gradient, second_order_label_gradient
from labeldistill.methods.loop import start
from labeldistill.methods.optimizers import recorder, to_distribution
from labeldistill.networks.functional import Functional, flat_parameters
from labeldistill.networks.network import without_layer
from labeldistill.networks.zoo import LeNet
from labeldistill.training.ridge import add_ones, gram_factor, pseudo_step, ridge_solution

SEEDS = st.integers(0, 2**31)
ALPHAS = st.floats(1e-3, 1.0)
LAMBDAS = st.floats(1e-2, 100.0)


def build(kind, channels, size, classes):
    "A network in float64, and the name of its last layer."
    inputs = channels * size**2
    if kind == "lenet":
        return LeNet(channels, size, classes).double(), "fc3"
    middle = {"mlp": (), "batchnorm": (nn.BatchNorm1d(7),), "layernorm": (nn.LayerNorm(7),)}[kind]
    layers = nn.Flatten(), nn.Linear(inputs, 7), *middle, nn.Tanh(), nn.Linear(7, classes)
    return nn.Sequential(*layers).double(), str(len(layers) - 1)


@st.composite
def problems(draw, kinds=("mlp", "batchnorm", "layernorm")):
    "A network's kind and shapes, with batch sizes; seeded."
    kind = draw(st.sampled_from(kinds))
    size = draw(st.sampled_from([16, 17, 20, 28])) if kind == "lenet" else draw(st.integers(2, 6))
    fewest = 2 if kind == "batchnorm" else 1
    return {
        "kind": kind,
        "channels": draw(st.sampled_from([1, 3])),
        "size": size,
        "classes": draw(st.integers(2, 12)),
        "inner": draw(st.integers(fewest, 9)),
        "outer": draw(st.integers(fewest, 12)),
        "seed": draw(SEEDS),
    }


def instance(kind, channels, size, classes, inner, outer, seed):
    "Network, its last layer, base images with soft labels, real images with classes."
    torch.manual_seed(seed)
    module, last = build(kind, channels, size, classes)
    base = torch.randn(inner, channels, size, size, dtype=torch.float64)
    real = torch.randn(outer, channels, size, size, dtype=torch.float64)
    labels = torch.rand(inner, classes, dtype=torch.float64)
    return module, last, base, labels / labels.sum(1, keepdim=True), real, torch.randint(classes, (outer,))


def closed_second_order(function, theta, base, labels, real, targets, alpha):
    theta = theta.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(cross_entropy(function(theta, base), labels), theta)
    ahead = (theta - alpha * gradient).detach().requires_grad_()
    (direction,) = torch.autograd.grad(cross_entropy(function(ahead, real), targets), ahead)
    return second_order_label_gradient(function, theta.detach(), direction, base, alpha)


def naive_local_weights(features, labels, lam):
    gram = features @ features.T + lam * torch.eye(len(features), dtype=features.dtype)
    return features.T @ torch.inverse(gram) @ labels


def check_second_order(problem, alpha):
    module, _, *data = instance(**problem)
    arguments = Functional(module), flat_parameters(module), *data, alpha
    assert relative(closed_second_order(*arguments), naive_second_order(*arguments)) < 1e-10


def check_ridge(problem, alpha, lam, scale):
    module, last, base, labels, real, targets = instance(**problem)
    width = module.get_submodule(last).in_features
    headless = without_layer(module, last)
    function, theta = Functional(headless), flat_parameters(headless)
    weights = 0.1 * torch.randn(width + 1, problem["classes"], dtype=torch.float64)
    scale = torch.tensor(scale, dtype=torch.float64)

    theta.requires_grad_(), labels.requires_grad_()
    ahead = (1 - alpha) * weights + alpha * naive_local_weights(add_ones(function(theta, base)), labels, lam)
    outer_loss = cross_entropy(scale * add_ones(function(theta, real)) @ ahead, targets)
    (naive,) = torch.autograd.grad(outer_loss, labels)

    with torch.no_grad():
        features, outer_features = (add_ones(function(theta, images)) for images in (base, real))
        factor = gram_factor(features, lam)
        ahead = pseudo_step(weights, ridge_solution(features, labels, factor), alpha)
        closed = ridge_label_gradient(features, factor, ahead, scale, outer_features, targets, alpha)
    assert relative(closed, naive) < 1e-10


@given(problem=problems(), alpha=ALPHAS)
def test_second_order_label_gradient_equals_double_backward_on_small_networks(problem, alpha):
    check_second_order(problem, alpha)


@hypothesis_settings(max_examples=8)
@given(problem=problems(["lenet"]), alpha=ALPHAS)
def test_second_order_label_gradient_equals_double_backward_on_lenet(problem, alpha):
    check_second_order(problem, alpha)


@given(problem=problems(), alpha=ALPHAS, lam=LAMBDAS, scale=st.floats(0.1, 10))
def test_ridge_label_gradient_equals_backward_through_everything_on_small_networks(problem, alpha, lam, scale):
    check_ridge(problem, alpha, lam, scale)


@hypothesis_settings(max_examples=8)
@given(problem=problems(["lenet"]), alpha=ALPHAS, lam=LAMBDAS, scale=st.floats(0.1, 10))
def test_ridge_label_gradient_equals_backward_through_everything_on_lenet(problem, alpha, lam, scale):
    check_ridge(problem, alpha, lam, scale)


def test_second_order_label_gradient_predicts_the_change_of_the_outer_loss():
    "An independent witness: finite differences of the loss itself, no automatic differentiation of second order."
    module, _, base, labels, real, targets = instance("batchnorm", 1, 4, 5, inner=6, outer=9, seed=1)
    function, theta, alpha = Functional(module), flat_parameters(module), 0.3

    def outer_loss(labels):
        point = theta.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(cross_entropy(function(point, base), labels), point)
        return cross_entropy(function(theta - alpha * gradient, real), targets).item()

    gradient = closed_second_order(function, theta, base, labels, real, targets, alpha)
    direction = torch.randn_like(labels)
    change = (outer_loss(labels + 1e-4 * direction) - outer_loss(labels - 1e-4 * direction)) / 2e-4
    assert change == pytest.approx(float((gradient * direction).sum()), rel=1e-6)


@given(inner=st.integers(1, 12), features=st.integers(1, 20), classes=st.integers(2, 8), lam=LAMBDAS, seed=SEEDS)
def test_ridge_solution_equals_the_normal_equations(inner, features, classes, lam, seed):
    rng = torch.Generator().manual_seed(seed)
    z = add_ones(torch.randn(inner, features, generator=rng, dtype=torch.float64))
    y = to_distribution(torch.rand(inner, classes, generator=rng, dtype=torch.float64))
    direct = torch.linalg.solve(z.T @ z + lam * torch.eye(features + 1, dtype=torch.float64), z.T @ y)
    assert relative(ridge_solution(z, y, gram_factor(z, lam)), direct) < 1e-9


def test_random_layers_draw_the_same_in_the_inner_step_and_in_the_label_gradient(bars):
    task, distiller = tiny_task(bars, 6, SecondOrder(), network=user_networks.dropping)
    state, base = as_double(start(task, distiller, 0).state), task.base_images.double()
    outer, targets = torch.randn(8, 1, 16, 16, dtype=torch.float64), torch.arange(8) % 3
    torch.manual_seed(1)
    after, _ = distiller.step(state, Batch(torch.arange(6), base, outer, targets), recorder().update)
    torch.manual_seed(1)
    expected = naive_second_order(distiller.function, state.train_state.theta, base, state.params, outer, targets, 0.01)
    torch.testing.assert_close(after.opt_state, expected, rtol=1e-9, atol=1e-15)


def half_frozen(channels, image_size, classes):
    module = nn.Sequential(nn.Flatten(), nn.Linear(channels * image_size**2, 16), nn.Linear(16, classes))
    module[1].requires_grad_(False)
    return module


def test_frozen_parameters_are_not_learned(bars):
    _, distiller = tiny_task(bars, 6, SecondOrder(), network=half_frozen)
    assert len(distiller.init_state(0).theta) == 16 * 3 + 3
