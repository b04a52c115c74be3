"""The closed-form label gradients against double backward, the ridge solution, and LeNet against its textbook form."""

import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call, jvp
from torch.nn.functional import cross_entropy

from labeldistill.data import InputError
from labeldistill.distillers import INNER_LR, METHODS, Batch, SecondOrder, State, map_tensors
from labeldistill.gradients import ridge_label_gradient, second_order_label_gradient
from labeldistill.labels import adam_start, to_distribution, uniform_labels
from labeldistill.monitor import monitor_start
from labeldistill.networks import Functional, LeNet, Network, flat_parameters, make_network, without_layer
from labeldistill.ridge import PSEUDO_STEP, RIDGE_LAMBDA, SCALE_LR, add_ones, gram_factor, pseudo_step, ridge_solution

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


def relative(a, b):
    return float((a - b).norm() / b.norm().clamp(min=1e-12))


def naive_second_order(function, theta, base, labels, real, targets, alpha):
    "Gradient of the outer loss with respect to the labels by double backward."
    theta, labels = theta.clone().requires_grad_(), labels.clone().requires_grad_()
    inner_loss = cross_entropy(function(theta, base), labels)
    (gradient,) = torch.autograd.grad(inner_loss, theta, create_graph=True)
    outer_loss = cross_entropy(function(theta - alpha * gradient, real), targets)
    return torch.autograd.grad(outer_loss, labels)[0]


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


# One whole iteration, written as a textbook would: modules, torch.optim, double backward.


class TextbookRun:
    "Labels and a network that learn as in Algorithm 1, by torch's own optimisers and double backward."

    def __init__(self, module, last_layer, labels):
        self.module, self.labels = module, labels.clone().requires_grad_()
        self.label_optimizer = torch.optim.Adam([self.labels])
        self.optimizer = torch.optim.Adam(module.parameters())

    def step_labels(self, gradient):
        self.labels.grad = gradient
        self.label_optimizer.step()
        with torch.no_grad():
            self.labels.clamp_(0, 1)
            self.labels /= self.labels.sum(1, keepdim=True)

    def step_network(self, gradients):
        for parameter, gradient in zip(self.module.parameters(), gradients, strict=True):
            parameter.grad = gradient.detach()
        self.optimizer.step()


class TextbookSecondOrder(TextbookRun):
    def step(self, batch):
        names, parameters = zip(*self.module.named_parameters(), strict=True)
        inner_loss = cross_entropy(self.module(batch.images), self.labels[batch.rows])
        gradients = torch.autograd.grad(inner_loss, parameters, create_graph=True)
        ahead = {name: p - INNER_LR * g for name, p, g in zip(names, parameters, gradients, strict=True)}
        logits = functional_call(self.module, ahead, (batch.outer_images,))
        loss = cross_entropy(logits, batch.targets)
        self.step_labels(torch.autograd.grad(loss, self.labels, retain_graph=True)[0])
        self.step_network(gradients)
        return loss, logits


class TextbookRidge(TextbookRun):
    def __init__(self, module, last_layer, labels):
        width, classes = module.get_submodule(last_layer).in_features, labels.shape[1]
        super().__init__(without_layer(module, last_layer), last_layer, labels)
        self.weights = torch.zeros(width + 1, classes, dtype=labels.dtype)
        self.scale = torch.ones((), dtype=labels.dtype, requires_grad=True)
        self.scale_optimizer = torch.optim.Adam([self.scale], lr=SCALE_LR)

    def step(self, batch):
        features = add_ones(self.module(batch.images))
        local = naive_local_weights(features, self.labels[batch.rows], RIDGE_LAMBDA)
        weights = (1 - PSEUDO_STEP) * self.weights + PSEUDO_STEP * local
        logits = self.scale * add_ones(self.module(batch.outer_images)) @ weights
        loss = cross_entropy(logits, batch.targets)
        old = self.labels[batch.rows].detach()
        (label_gradient,) = torch.autograd.grad(loss, self.labels)
        self.step_labels(label_gradient)
        features = add_ones(self.module(batch.images))
        weights = (1 - PSEUDO_STEP) * self.weights + PSEUDO_STEP * naive_local_weights(features, old, RIDGE_LAMBDA)
        own_loss = cross_entropy(self.scale * features @ weights, self.labels[batch.rows].detach())
        *gradients, scale_gradient = torch.autograd.grad(own_loss, [*self.module.parameters(), self.scale])
        self.step_network(gradients)
        self.scale.grad = scale_gradient
        self.scale_optimizer.step()
        self.weights = weights.detach()
        return loss, logits


@pytest.mark.parametrize(("method", "textbook"), [("second-order", TextbookSecondOrder), ("ridge", TextbookRidge)])
def test_iterations_equal_those_of_a_textbook_loop_with_torch_optimisers(method, textbook):
    torch.manual_seed(3)
    count, inner, classes, size = 8, 5, 4, 5
    module, last = build("mlp", 1, size, classes)

    def factory(channels, image_size, classes):
        return build("mlp", channels, image_size, classes)[0]

    network = Network("mlp", factory, 1, size, classes, last, 7)
    base = torch.randn(count, 1, size, size, dtype=torch.float64)
    labels = torch.full((count, classes), 1 / classes, dtype=torch.float64)
    distiller = METHODS[method](network)

    module.load_state_dict(network.build(11).state_dict())
    reference = textbook(module, last, labels)
    learner = distiller.start(11)
    if method == "ridge":
        scale = learner.scale.double()
        learner = learner._replace(weights=learner.weights.double(), scale=scale, scale_adam=adam_start(scale))
    state = State(labels, adam_start(labels), learner, monitor_start(50))
    for _ in range(20):
        rows = torch.randperm(count)[:inner]
        real, targets = torch.randn(12, 1, size, size, dtype=torch.float64), torch.randint(classes, (12,))
        batch = Batch(rows, base[rows], real, targets)
        state, seen = distiller.step(state, batch)
        loss, logits = reference.step(batch)
        assert seen[0].item() == pytest.approx(loss.item(), abs=1e-6)
        assert seen[1].item() == pytest.approx(100 * (logits.argmax(1) != targets).double().mean().item())
    assert torch.allclose(state.learned, reference.labels.detach(), atol=1e-5)
    assert (state.learned - labels).abs().max() > 1e-3  # they have moved
    assert torch.allclose(state.learner.theta, flat_parameters(reference.module), atol=1e-5)
    if method == "ridge":
        assert torch.allclose(state.learner.weights, reference.weights, atol=1e-5)
        assert state.learner.scale.item() == pytest.approx(reference.scale.item(), abs=1e-4)


@given(inner=st.integers(1, 12), features=st.integers(1, 20), classes=st.integers(2, 8), lam=LAMBDAS, seed=SEEDS)
def test_ridge_solution_equals_the_normal_equations(inner, features, classes, lam, seed):
    rng = torch.Generator().manual_seed(seed)
    z = add_ones(torch.randn(inner, features, generator=rng, dtype=torch.float64))
    y = to_distribution(torch.rand(inner, classes, generator=rng, dtype=torch.float64))
    direct = torch.linalg.solve(z.T @ z + lam * torch.eye(features + 1, dtype=torch.float64), z.T @ y)
    assert relative(ridge_solution(z, y, gram_factor(z, lam)), direct) < 1e-9


def textbook_lenet(channels, size, classes):
    margin = 2 if size == 28 else 0
    side = ((size + 2 * margin - 4) // 2 - 4) // 2
    return nn.Sequential(
        *(nn.Conv2d(channels, 6, 5, padding=margin), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
        *(nn.Linear(16 * side**2, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, classes)),
    ).double()


LENET_SHAPES = [(1, 16), (1, 17), (3, 18), (1, 20), (1, 27), (1, 28), (3, 28), (2, 30), (3, 32), (1, 33), (1, 40)]


@pytest.fixture(params=LENET_SHAPES, ids=str)
def lenets(request):
    "LeNet and its textbook form with the same parameters, and images."
    channels, size = request.param
    torch.manual_seed(0)
    ours, textbook = LeNet(channels, size, 10).double(), textbook_lenet(channels, size, 10)
    textbook.load_state_dict(dict(zip(textbook.state_dict(), ours.state_dict().values(), strict=True)))
    return ours, textbook, torch.randn(5, channels, size, size, dtype=torch.float64)


def test_lenet_gives_the_logits_of_the_textbook_form(lenets):
    ours, textbook, images = lenets
    assert torch.allclose(ours(images), textbook(images), rtol=0, atol=1e-12)


def test_lenet_has_the_gradients_of_the_textbook_form(lenets):
    *networks, images = lenets
    images.requires_grad_()
    gradients = [torch.autograd.grad(net(images).sin().sum(), [*net.parameters(), images]) for net in networks]
    for ours, textbook in zip(*gradients, strict=True):
        assert torch.allclose(ours, textbook, rtol=1e-9, atol=1e-12)


def test_lenet_forward_mode_is_the_transpose_of_the_textbook_forms_backward(lenets):
    ours, textbook, images = lenets
    function, theta = Functional(ours), flat_parameters(ours)
    direction, cotangent = torch.randn_like(theta), torch.randn(len(images), 10, dtype=torch.float64)
    _, change = jvp(lambda point: function(point, images), (theta,), (direction,))
    gradients = torch.autograd.grad((textbook(images) * cotangent).sum(), textbook.parameters())
    gradient = torch.cat([g.flatten() for g in gradients])
    assert (change * cotangent).sum().item() == pytest.approx((gradient @ direction).item(), rel=1e-9)


@pytest.mark.parametrize(("channels", "size", "parameters"), [(1, 28, 61_706), (3, 32, 62_006)])
def test_lenet_has_as_many_parameters_as_in_the_paper(channels, size, parameters):
    assert sum(p.numel() for p in LeNet(channels, size, 10).parameters()) == parameters


def test_lenet_refuses_images_that_its_pooling_would_use_up():
    with pytest.raises(InputError, match="16 pixels or more, not 15"):
        LeNet(1, 15, 10)


def test_random_layers_draw_the_same_in_the_inner_step_and_in_the_label_gradient():
    network = make_network(dropping, 1, 28, 4)
    method, labels = SecondOrder(network), uniform_labels(6, 4).double()
    learner = map_tensors(torch.Tensor.double, method.start(0))
    state = State(labels, adam_start(labels), learner, monitor_start(5))
    rng = torch.Generator().manual_seed(0)
    base, outer = (torch.randn(n, 1, 28, 28, generator=rng, dtype=torch.float64) for n in (6, 8))
    targets = torch.arange(8) % 4
    torch.manual_seed(1)
    after, _ = method.step(state, Batch(torch.arange(6), base, outer, targets))
    torch.manual_seed(1)
    theta, leaf = state.learner.theta.requires_grad_(), labels.clone().requires_grad_()
    inner = torch.nn.functional.cross_entropy(method.function(theta, base), leaf)
    (gradient,) = torch.autograd.grad(inner, theta, create_graph=True)
    loss = torch.nn.functional.cross_entropy(method.function(theta - 0.01 * gradient, outer), targets)
    (expected,) = torch.autograd.grad(loss, leaf)
    torch.testing.assert_close(after.adam.mean, 0.1 * expected, rtol=1e-9, atol=1e-15)


def dropping(channels, image_size, classes):
    return torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(channels * image_size**2, 16), torch.nn.ReLU(), torch.nn.Dropout(0.5),
        torch.nn.Linear(16, classes),
    )  # fmt: skip


def test_frozen_parameters_are_not_learned():
    network = make_network(half_frozen, 1, 28, 4)
    theta = SecondOrder(network).start(0).theta
    assert len(theta) == 16 * 4 + 4


def half_frozen(channels, image_size, classes):
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(channels * image_size**2, 16), torch.nn.Linear(16, classes))
    module[1].requires_grad_(False)
    return module
