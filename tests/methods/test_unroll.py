"Gradients through whole training runs: exact, replayed, and small in memory."

from functools import partial

import pytest
import torch
import user_networks
from helpers import relative
from measure import peak_bytes
from torch import nn
from torch.nn.functional import cross_entropy

from labeldistill.methods.distiller import Batch
from labeldistill.methods.gradients import second_order_label_gradient
from labeldistill.methods.unroll import DIFFERENTIABLE, Minibatch, TrainingStep, Unroll, backward, grad, outer_gradient, rollout
from labeldistill.networks.functional import Functional, flat_parameters
from labeldistill.networks.network import make_network


def smooth(channels, image_size, classes):
    "A network without kinks, so that differences converge."
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * image_size**2, 12), nn.Tanh(), nn.Linear(12, classes))


NETWORKS = {"lenet": "lenet", "normed": user_networks.normed, "dropping": user_networks.dropping, "smooth": smooth}


class Case:
    "An engine with something to train on, in float64."

    def __init__(self, network="smooth", steps=5, size=6, lr=0.1, optimizer="sgd", **options):
        self.network, self.optimizer = make_network(NETWORKS[network], 1, 16, 4), optimizer
        self.function = Functional(self.network.build(0).double())
        self.theta = flat_parameters(self.network.build(0)).double()
        self.engine = Unroll(self.function, optimizer, random=self.network.random, **options)
        rng = torch.Generator().manual_seed(1)

        def noise(*shape):
            return torch.randn(*shape, generator=rng, dtype=torch.float64)

        lrs = lr * (1 + torch.rand(steps, generator=rng, dtype=torch.float64))
        self.minibatches = Minibatch(noise(steps, size, 1, 16, 16), noise(steps, size, 4), lrs)
        self.real = Batch(None, None, noise(20, 1, 16, 16), torch.randint(0, 4, (20,), generator=rng))

    def backward(self, trajectory):
        direction, _ = outer_gradient(self.function, trajectory.theta, self.real)
        return backward(self.engine, trajectory, direction)

    def adjoint(self):
        return self.backward(rollout(self.engine, self.theta, self.minibatches))

    def outer_loss(self, theta):
        return cross_entropy(self.function(theta, self.real.outer_images), self.real.targets)

    def naive(self):
        "By one graph of the whole run."
        minibatches = Minibatch(*(part.clone().requires_grad_() for part in self.minibatches))
        step = TrainingStep(self.function, DIFFERENTIABLE[self.optimizer])
        state = (self.theta.clone().requires_grad_(), *step.optimizer.init(self.theta))
        for t, lr in enumerate(minibatches.lr):
            gradient = grad(lambda theta, t=t: step.loss(theta, minibatches.at(t)), state[0])
            state = step.move(state, gradient, lr, torch.tensor(t + 1, dtype=torch.float64))
        found = torch.autograd.grad(self.outer_loss(state[0]), tuple(minibatches))
        return dict(zip(Minibatch._fields, found, strict=True))

    def loss_after(self, minibatches):
        return self.outer_loss(rollout(self.engine, self.theta, minibatches).theta).item()


@pytest.mark.parametrize("optimizer", DIFFERENTIABLE)
@pytest.mark.parametrize("network", NETWORKS)
def test_gradients_are_those_of_one_graph_of_the_whole_run(network, optimizer):
    case = Case(network, optimizer=optimizer)
    torch.manual_seed(7)
    ours, after = case.adjoint(), torch.get_rng_state()
    torch.manual_seed(7)
    theirs = case.naive()
    assert torch.equal(torch.get_rng_state(), after)  # random layers drew as often
    for name in Minibatch._fields:
        assert theirs[name].norm() > 0 and relative(ours[name], theirs[name]) < 1e-8, name


@pytest.mark.parametrize("optimizer", DIFFERENTIABLE)
@pytest.mark.parametrize("name", Minibatch._fields)
def test_gradients_are_the_limits_of_differences(name, optimizer):
    case, nudge = Case(optimizer=optimizer, lr=0.01), 1e-6
    given = getattr(case.minibatches, name)
    along = torch.randn(given.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    moved = (case.minibatches._replace(**{name: given + sign * nudge * along}) for sign in (1, -1))
    forth, back = (case.loss_after(minibatches) for minibatches in moved)
    assert (case.adjoint()[name] * along).sum().item() == pytest.approx((forth - back) / (2 * nudge), rel=1e-4)


@pytest.mark.parametrize(
    ("optimizer", "make"),
    [("sgd", torch.optim.SGD), ("momentum", partial(torch.optim.SGD, momentum=0.9)), ("adam", torch.optim.Adam)],
)
def test_the_forward_run_is_that_of_an_ordinary_optimizer(optimizer, make):
    case = Case("lenet", optimizer=optimizer, lr=0.01)
    module = case.network.build(0).double()
    ordinary = make(module.parameters(), lr=0.0)
    for images, labels, lr in zip(*case.minibatches, strict=True):
        ordinary.param_groups[0]["lr"] = lr.item()
        ordinary.zero_grad()
        cross_entropy(module(images), labels).backward()
        ordinary.step()
    after = rollout(case.engine, case.theta, case.minibatches).theta
    torch.testing.assert_close(after, flat_parameters(module), rtol=0, atol=1e-9)


@pytest.mark.parametrize("optimizer", DIFFERENTIABLE)
@pytest.mark.parametrize("window", [1, 3, 5])
def test_a_window_that_goes_on_gives_its_steps_the_gradients_of_the_whole(window, optimizer):
    case = Case(optimizer=optimizer)
    whole, begin = case.adjoint(), len(case.minibatches.lr) - window
    first = rollout(case.engine, case.theta, case.minibatches.at(slice(begin)))
    then = rollout(case.engine, first.theta, case.minibatches.at(slice(begin, None)), first.memory, begin)
    for name, gradient in case.backward(then).items():
        assert torch.equal(gradient, whole[name][begin:]), name


@pytest.mark.parametrize("learned", [("labels",), ("images", "lr"), ("lr",)])
def test_only_what_is_learned_gets_gradients_and_they_are_the_same(learned):
    whole, part = Case().adjoint(), Case(learned=learned).adjoint()
    assert tuple(part) == learned
    assert all(relative(part[name], whole[name]) < 1e-12 for name in learned)


def test_a_single_step_is_the_closed_form_of_the_label_methods():
    case = Case("lenet", steps=1)
    trajectory = rollout(case.engine, case.theta, case.minibatches)
    direction, _ = outer_gradient(case.function, trajectory.theta, case.real)
    images, _, lr = case.minibatches.at(0)
    closed = second_order_label_gradient(case.function, case.theta, direction, images, lr.item())
    assert relative(backward(case.engine, trajectory, direction)["labels"][0], closed) < 1e-10


def test_nothing_given_is_changed_and_nothing_keeps_a_graph():
    case = Case("lenet", optimizer="adam")
    before = [part.clone() for part in (case.theta, *case.minibatches)]
    trajectory = rollout(case.engine, case.theta, case.minibatches)
    gradients = case.adjoint()
    assert all(torch.equal(a, b) for a, b in zip(before, (case.theta, *case.minibatches), strict=True))
    kept = [part for state in trajectory.states for part in state] + list(gradients.values())
    assert not any(tensor.requires_grad for tensor in kept)


def test_units_that_are_dead_from_the_start_do_not_break_adam():
    case = Case("lenet", optimizer="adam")
    bias = sum(case.function.sizes[:-3])  # of fc2: all its units are off
    case.theta[bias : bias + 84] = -1e3
    gradients = case.adjoint()
    assert all(gradient.isfinite().all() for gradient in gradients.values()) and gradients["labels"].any()


def test_memory_is_at_most_half_of_that_of_the_graph_and_grows_by_the_parameters():
    bytes_of = {}
    for steps in (10, 20):
        case = Case("lenet", steps=steps)
        bytes_of["adjoint", steps], bytes_of["graph", steps] = peak_bytes(case.adjoint), peak_bytes(case.naive)
    assert bytes_of["adjoint", 20] < bytes_of["graph", 20] / 2
    learned = 2 * (6 * 16 * 16 + 6 * 4 + 1) * 8  # gradients of a step's images, labels and step size, and copies of them
    assert bytes_of["adjoint", 20] - bytes_of["adjoint", 10] < 10 * (1.1 * case.theta.nbytes + learned)
