"Gradients through whole training runs: exact, replayed, and small in memory."

import pytest
import torch
import user_networks
from measure import peak_bytes
from torch import nn
from torch.nn.functional import cross_entropy

from labeldistill.gradients import second_order_label_gradient
from labeldistill.networks import Functional, differentiate, flat_parameters, make_network
from labeldistill.unroll import RULES, Lesson, Unroll, slope


def smooth(channels, image_size, classes):
    "A network without kinks, so that differences converge."
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * image_size**2, 12), nn.Tanh(), nn.Linear(12, classes))


NETWORKS = {"lenet": "lenet", "normed": user_networks.normed, "dropping": user_networks.dropping, "smooth": smooth}


class Case:
    "An engine with something to train on, in float64."

    def __init__(self, network="smooth", steps=5, size=6, rate=0.1, **options):
        self.network = make_network(NETWORKS[network], 1, 16, 4)
        self.function = Functional(self.network.build(0).double())
        self.theta = flat_parameters(self.network.build(0)).double()
        self.engine = Unroll(self.function, random=self.network.random, **options)
        rng = torch.Generator().manual_seed(1)

        def noise(*shape):
            return torch.randn(*shape, generator=rng, dtype=torch.float64)

        rates = rate * (1 + torch.rand(steps, generator=rng, dtype=torch.float64))
        self.lessons = Lesson(noise(steps, size, 1, 16, 16), noise(steps, size, 4), rates)
        self.real, self.targets = noise(20, 1, 16, 16), torch.randint(0, 4, (20,), generator=rng)

    def outer(self, theta):
        return cross_entropy(self.function(theta, self.real), self.targets)

    def adjoint(self):
        trail = self.engine.forward(self.theta, self.lessons)
        (direction,), _, _ = differentiate(lambda theta: (self.outer(theta), None), trail.theta)
        return self.engine.backward(trail, self.lessons, direction)

    def naive(self):
        "By one graph of the whole run."
        lessons = Lesson(*(part.clone().requires_grad_() for part in self.lessons))
        slots = self.engine.rule.start(self.theta.clone().requires_grad_())
        for t, number in enumerate(self.engine.numbers(lessons)):
            lesson = Lesson(*(part[t] for part in lessons))
            gradient = slope(lambda theta, lesson=lesson: self.engine.loss(theta, lesson), slots[0])
            slots = self.engine.rule.update(slots, gradient, lesson.rates, number)
        return dict(zip(Lesson._fields, torch.autograd.grad(self.outer(slots[0]), tuple(lessons)), strict=True))

    def loss_after(self, lessons):
        return self.outer(self.engine.forward(self.theta, lessons).theta).item()


def relative(a, b):
    return ((a - b).norm() / b.norm()).item()


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("network", NETWORKS)
def test_gradients_are_those_of_one_graph_of_the_whole_run(network, rule):
    case = Case(network, rule=rule)
    torch.manual_seed(7)
    ours, after = case.adjoint(), torch.get_rng_state()
    torch.manual_seed(7)
    theirs = case.naive()
    assert torch.equal(torch.get_rng_state(), after)  # random layers drew as often
    for name in Lesson._fields:
        assert theirs[name].norm() > 0 and relative(ours[name], theirs[name]) < 1e-8, name


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", Lesson._fields)
def test_gradients_are_the_limits_of_differences(name, rule):
    case, nudge = Case(rule=rule, rate=0.01), 1e-6
    along = torch.randn(getattr(case.lessons, name).shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    moved = (case.lessons._replace(**{name: getattr(case.lessons, name) + sign * nudge * along}) for sign in (1, -1))
    forth, back = (case.loss_after(lessons) for lessons in moved)
    assert (case.adjoint()[name] * along).sum().item() == pytest.approx((forth - back) / (2 * nudge), rel=1e-4)


@pytest.mark.parametrize(("rule", "make"), [("sgd", torch.optim.SGD), ("adam", torch.optim.Adam)])
def test_the_forward_run_is_that_of_an_ordinary_optimizer(rule, make):
    case = Case("lenet", rule=rule, rate=0.01)
    module = case.network.build(0).double()
    optimizer = make(module.parameters(), lr=0.0)
    for images, labels, rate in zip(*case.lessons, strict=True):
        optimizer.param_groups[0]["lr"] = rate.item()
        optimizer.zero_grad()
        cross_entropy(module(images), labels).backward()
        optimizer.step()
    torch.testing.assert_close(case.engine.forward(case.theta, case.lessons).theta, flat_parameters(module), rtol=0, atol=1e-9)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("window", [1, 3, 5])
def test_a_window_that_goes_on_gives_its_steps_the_gradients_of_the_whole(window, rule):
    case = Case(rule=rule)
    whole, begin = case.adjoint(), len(case.lessons.rates) - window
    before, after = (Lesson(*(part[rows] for part in case.lessons)) for rows in (slice(begin), slice(begin, None)))
    slots = case.engine.forward(case.theta, before).states[-1] if begin else case.engine.rule.start(case.theta)
    trail = case.engine.proceed(slots, after, begin)
    (direction,), _, _ = differentiate(lambda theta: (case.outer(theta), None), trail.theta)
    for name, gradient in case.engine.backward(trail, after, direction).items():
        assert torch.equal(gradient, whole[name][begin:]), name


@pytest.mark.parametrize("learned", [("labels",), ("images", "rates"), ("rates",)])
def test_only_what_is_learned_gets_gradients_and_they_are_the_same(learned):
    whole, part = Case().adjoint(), Case(learned=learned).adjoint()
    assert tuple(part) == learned
    assert all(relative(part[name], whole[name]) < 1e-12 for name in learned)


def test_a_single_step_is_the_closed_form_of_the_label_methods():
    case = Case("lenet", steps=1)
    images, _, rate = (part[0] for part in case.lessons)
    trail = case.engine.forward(case.theta, case.lessons)
    (direction,), _, _ = differentiate(lambda theta: (case.outer(theta), None), trail.theta)
    closed = second_order_label_gradient(case.function, case.theta, direction, images, rate.item())
    assert relative(case.engine.backward(trail, case.lessons, direction)["labels"][0], closed) < 1e-10


def test_nothing_given_is_changed_and_nothing_keeps_a_graph():
    case = Case("lenet", rule="adam")
    before = [part.clone() for part in (case.theta, *case.lessons)]
    trail = case.engine.forward(case.theta, case.lessons)
    gradients = case.adjoint()
    assert all(torch.equal(a, b) for a, b in zip(before, (case.theta, *case.lessons), strict=True))
    kept = [slot for slots in trail.states for slot in slots] + list(gradients.values())
    assert not any(tensor.requires_grad for tensor in kept)


def test_units_that_are_dead_from_the_start_do_not_break_adam():
    case = Case("lenet", rule="adam")
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
    lessons = 2 * (6 * 16 * 16 + 6 * 4 + 1) * 8  # gradients of a step's images, labels and rate, and copies of them
    assert bytes_of["adjoint", 20] - bytes_of["adjoint", 10] < 10 * (1.1 * case.theta.nbytes + lessons)
