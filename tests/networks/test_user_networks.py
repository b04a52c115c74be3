"""Networks as users write them: each with each method, their factories' words, ready modules, lazy layers, last layers."""

from collections import UserDict
from copy import deepcopy
from functools import partial

import pytest
import torch
import user_networks
from helpers import CPU, naive_second_order, relative
from torch import nn
from torch.autograd.functional import jvp as reverse_jvp
from torch.utils.data import TensorDataset
from torchvision.models import resnet18

from labeldistill import (
    DatasetDistillation,
    Expert,
    Ridge,
    Schedule,
    SecondOrder,
    Student,
    TrajectoryMatching,
    Unrolled,
    distill,
    evaluate,
    train_full,
    true_labels,
)
from labeldistill import Task as LabelTask
from labeldistill.methods.gradients import second_order_label_gradient
from labeldistill.networks.functional import Functional, flat_parameters, plain_attention
from labeldistill.networks.network import Reinitialized, make_network
from labeldistill.utils import InputError

METHODS = {
    "ridge": (Ridge(), Schedule(iterations=2, outer_batch=8)),
    "second-order": (SecondOrder(), Schedule(iterations=2, outer_batch=8)),
    "unrolled": (Unrolled(window=2, init="uniform"), Schedule(iterations=2, outer_batch=8)),
    "expert": (Expert(iterations=3, temperature=1.0), Schedule()),
    "dd": (DatasetDistillation(), Schedule(epochs=1, outer_batch=8)),
    "matching": (TrajectoryMatching(), Schedule(epochs=1)),
}
NAMES = (
    "TwoHeads",
    "Summed",
    "InDictionary",
    "InObject",
    "own_operator",
    "lazy",
    "transformer",
    "hidden_words",
    "no_linear",
    "MODULE",
)
WITHOUT_LAYER = "Summed", "no_linear"


@pytest.fixture(scope="module")
def data():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(3).repeat_interleave(20)
    images = labels.view(-1, 1, 1, 1) / 3 + 0.2 * torch.rand(60, 3, 8, 8, generator=generator)
    return TensorDataset(images.clamp(0, 1), labels)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", NAMES)
def test_each_network_goes_with_each_method(data, name, method):
    network = getattr(user_networks, name)
    channels = 1 if name == "MODULE" else 3
    task = LabelTask(data, 6, network=network, channels=channels)
    config, schedule = METHODS[method]
    learn = partial(distill, task, config, schedule=schedule, student=Student(steps=2), compute=CPU, progress=False)
    if method == "ridge" and name in WITHOUT_LAYER:
        with pytest.raises(InputError, match="has no linear layer whose outputs are the 3 logits; expected one, or"):
            learn()
        return
    labels = learn()
    assert labels.labels.isfinite().all()
    evaluation = evaluate(labels, models=2, student=Student(steps=2), compute=CPU, progress=False, network=network)
    assert all(0 <= accuracy <= 100 for accuracy in evaluation.accuracies)
    assert (labels.last_layer is None) == (name in WITHOUT_LAYER)


@pytest.mark.parametrize("name", ["no_linear", "lazy", "InObject", "transformer"])
def test_the_other_doors_take_it_too(data, name, tmp_path):
    task = LabelTask(data, 6, network=getattr(user_networks, name))
    assert 0 <= train_full(task, epochs=1, compute=CPU, progress=False).accuracy <= 100
    labels = true_labels(task)
    labels.save(tmp_path / "labels.safetensors")
    assert evaluate(labels, models=1, student=Student(steps=2), compute=CPU, progress=False, network=task.network).steps == 2
    if name in WITHOUT_LAYER:
        with pytest.raises(InputError, match="expected one, or its name with --last-layer"):
            evaluate(labels, models=1, student=Student("ridge", steps=2), compute=CPU, progress=False, network=task.network)


# Derivatives


def network_of(name, channels=3, size=8, classes=3):
    return make_network(getattr(user_networks, name), channels, size, classes)


@pytest.mark.parametrize("name, forward", [("TwoHeads", True), ("transformer", True), ("own_operator", False)])
def test_the_label_gradient_is_exact_whatever_the_operators(name, forward):
    network = network_of(name)
    assert network.forward_mode == forward
    module = network.build(0).double()
    function, theta = Functional(module), flat_parameters(module) + 0.1
    torch.manual_seed(1)
    base, real = torch.randn(4, 3, 8, 8).double(), torch.randn(8, 3, 8, 8).double()
    labels, targets = torch.rand(4, 3).double().softmax(1), torch.arange(8) % 3
    with plain_attention():
        expected = naive_second_order(function, theta, base, labels, real, targets, 0.01)
    point = theta.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(nn.functional.cross_entropy(function(point, base), labels), point)
    ahead = (theta - 0.01 * gradient).detach().requires_grad_()
    (direction,) = torch.autograd.grad(nn.functional.cross_entropy(function(ahead, real), targets), ahead)
    ways = [reverse_jvp, *[torch.func.jvp] * forward]
    for way in ways:
        found = second_order_label_gradient(function, theta.detach(), direction, base, 0.01, way)
        assert relative(found, expected) < 1e-9


def test_what_cannot_be_transformed_is_not_compiled():
    from labeldistill.networks.compute import choose_computation

    network = network_of("own_operator")
    assert not choose_computation(network, torch.device("cpu"), calls=10**6).compile
    with pytest.raises(InputError, match=r"--compile: network .* has operators without forward mode; expected --no-compile$"):
        choose_computation(network, torch.device("cpu"), 10**6, compile=True)


# Factories


def test_a_factory_is_given_the_sizes_in_its_own_words():
    seen = {}

    def note(**sizes):
        seen.update(sizes)
        return nn.Sequential(nn.Flatten(), nn.Linear(192, 5))

    def timm(num_classes=1000, in_chans=3, img_size=224, **rest):
        return note(num_classes=num_classes, in_chans=in_chans, img_size=img_size, **rest)

    def mixed(channels, num_classes):
        return note(channels=channels, num_classes=num_classes)

    sizes = 3, 8, 5
    for factory, expected in {
        note: {"channels": 3, "image_size": 8, "classes": 5},
        timm: {"num_classes": 5, "in_chans": 3, "img_size": 8},
        mixed: {"channels": 3, "num_classes": 5},
        lambda: note(): {},
        lambda classes: note(classes=classes): {"classes": 5},
        partial(mixed, 3): {"channels": 3, "num_classes": 5},
    }.items():
        seen.clear()
        network = make_network(factory, *sizes)
        assert seen == expected
        assert network.build(0)(torch.zeros(2, 3, 8, 8)).shape == (2, 5)


@pytest.mark.parametrize(
    "factory, words, last",
    [
        (resnet18, ["num_classes"], "fc"),
        (user_networks.hidden_size, ["image_size", "num_classes"], "heads.head"),
        (user_networks.hidden_words, ["in_chans", "num_classes"], "3"),
    ],
)
def test_factories_that_hide_their_words_are_taken_as_they_are(factory, words, last):
    network = make_network(factory, 3, 16, 7)
    assert ([*network.arguments], network.last_layer) == (words, last)
    assert network.build(0).eval()(torch.zeros(2, 3, 16, 16)).shape == (2, 7)


def test_an_error_inside_a_factory_is_told_once():
    def broken(**sizes):
        raise TypeError("mine")

    with pytest.raises(InputError, match=r"fails on two 1x8x8 images: mine; expected a factory as in def network\("):
        make_network(broken, 1, 8, 3)


# Ready modules


def test_a_module_starts_afresh_as_its_constructor_would():
    given = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 16), nn.Linear(16, 3))
    before = deepcopy(given.state_dict())
    with torch.no_grad():
        given(torch.randn(8, 3, 8, 8))  # moves the running statistics
    moved = deepcopy(given.state_dict())
    network = make_network(given, 3, 8, 3)
    first, again, other = (network.build(seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["0.weight"], other["0.weight"]) and not torch.equal(first["0.weight"], before["0.weight"])
    assert torch.equal(first["1.running_mean"], before["1.running_mean"])
    assert all(torch.equal(given.state_dict()[name], moved[name]) for name in moved)
    assert first["0.weight"].std() == pytest.approx(before["0.weight"].std().item(), rel=0.4)


def test_frozen_layers_of_a_module_stay():
    given = nn.Sequential(nn.Flatten(), nn.Linear(192, 8).requires_grad_(False), nn.Linear(8, 3))
    built = make_network(given, 3, 8, 3).build(5)
    assert torch.equal(built[1].weight, given[1].weight) and not torch.equal(built[2].weight, given[2].weight)


def test_frozen_layers_stay_whatever_holds_them():
    class Body(nn.Sequential):
        def reset_parameters(self):
            for layer in self:
                layer.reset_parameters()

    given = nn.Sequential(nn.Flatten(), Body(nn.Linear(192, 8), nn.Linear(8, 8)).requires_grad_(False), nn.Linear(8, 3))
    built = make_network(given, 3, 8, 3).build(5)
    assert all(torch.equal(a, b) for a, b in zip(built[1].parameters(), given[1].parameters(), strict=True))


class Scaled(nn.Linear):
    "Has a parameter that `reset_parameters` does not know."

    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.gain = nn.Parameter(torch.ones(1))

    def forward(self, x):
        return super().forward(x) * self.gain


@pytest.mark.parametrize(
    ("make", "left"), [(Scaled, "1.gain"), (lambda *sizes: nn.utils.spectral_norm(nn.Linear(*sizes)), "1.weight_orig")]
)
def test_a_module_that_would_not_start_afresh_is_refused(make, left):
    given = nn.Sequential(nn.Flatten(), make(192, 8), nn.Linear(8, 3))
    with pytest.raises(InputError, match=rf"its parameter '{left}' is set by no reset_parameters\(\); expected a factory as in"):
        make_network(given, 3, 8, 3)
    assert all(parameter.isfinite().all() for parameter in given.parameters())


def test_attention_starts_with_the_biases_of_its_constructor():
    encoder = nn.TransformerEncoderLayer(8, 2, 16)
    nn.init.ones_(encoder.self_attn.out_proj.bias)
    fresh = Reinitialized(encoder)()
    assert not fresh.self_attn.out_proj.bias.any() and encoder.self_attn.out_proj.bias.all()


def test_a_lazy_module_is_given_its_sizes():
    module = user_networks.lazy(3)
    before = torch.get_rng_state()
    network = make_network(module, 1, 8, 3)
    assert torch.equal(before, torch.get_rng_state())
    assert module[-1].in_features == 144 and network.features == 144
    again = network.build(1)[1]
    assert not again.running_mean.any() and again.training


@pytest.mark.parametrize("name", ["lazy", "hidden_words"])
def test_lazy_and_hidden_networks_repeat(name):
    network = network_of(name)
    before = torch.get_rng_state()
    first, again, other = (flat_parameters(network.build(seed)) for seed in (3, 3, 4))
    assert torch.equal(first, again) and not torch.equal(first, other) and torch.equal(before, torch.get_rng_state())


# Last layers and outputs


def test_the_last_layer_is_found_by_use():
    found = {name: network_of(name).last_layer for name in (*NAMES, "bare", "plain") if name != "MODULE"}
    expected = {"TwoHeads": "head", "InDictionary": "head", "InObject": "head", "own_operator": "4", "lazy": "4"}
    expected |= {"transformer": "heads.head", "hidden_words": "3", "bare": "1", "plain": "3", "Summed": None, "no_linear": None}
    assert found == expected


@pytest.mark.parametrize("last", [nn.Softplus(), nn.ReLU(inplace=True), nn.LogSoftmax(1)], ids=lambda layer: type(layer).__name__)
def test_a_layer_that_is_followed_by_something_is_taken_only_if_it_is_named(last):
    def scaled(classes):
        return nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.Linear(8, classes), last)

    assert make_network(scaled, 3, 8, 3).last_layer is None
    assert make_network(scaled, 3, 8, 3, last_layer="2").last_layer == "2"


def test_a_named_layer_must_leave_features():
    class Asks(user_networks.TwoHeads):
        def forward(self, x):
            return nn.functional.linear(self.body(x), self.head.weight)

    with pytest.raises(InputError, match=r"--last-layer 'head': without it the network gives .*weight.*; expected features of"):
        make_network(Asks, 3, 8, 3, last_layer="head")
    with pytest.raises(InputError, match=r"--last-layer 'other': without it the network gives \(2, 3\); expected"):
        make_network(user_networks.TwoHeads, 3, 8, 3, last_layer="other")
    assert make_network(Asks, 3, 8, 3).last_layer is None


class Pair(nn.Linear):
    "Answers with more than its output."

    def forward(self, x):
        return super().forward(x), x


class Times(nn.Linear):
    "Asks for more than its input."

    def forward(self, x, factor):
        return super().forward(x) * factor


class Answers(user_networks.TwoHeads):
    "Has a head of another kind, and is particular about its output."

    def __init__(self, head, call):
        super().__init__(3, 8, 3)
        self.head, self.call = head(12, 3), call
        del self.other

    def forward(self, x):
        logits = self.call(self.head, self.body(x))
        assert logits.shape[1] == 3, "three"
        return logits


@pytest.mark.parametrize(
    ("head", "call"),
    [
        (Pair, lambda head, x: head(x)[0]),
        (Times, lambda head, x: head(x, 2)),
        (nn.Linear, lambda head, x: head(x)),
    ],
)
def test_a_layer_that_cannot_be_taken_away_is_no_last_layer(head, call):
    def factory():
        return Answers(head, call)

    assert make_network(factory, 3, 8, 3).last_layer is None
    with pytest.raises(InputError, match=r"--last-layer 'head': without it the network gives .*; expected features"):
        make_network(factory, 3, 8, 3, last_layer="head")


def test_a_network_that_memory_does_not_suffice_for_is_not_called_faulty():
    class Large(user_networks.TwoHeads):
        def forward(self, x):
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1610612736 bytes")

    with pytest.raises(InputError, match=r"^not enough memory: .* asked for 1,536 MiB; expected fewer or smaller images"):
        make_network(Large, 3, 8, 3)


def test_outputs_that_hold_no_logits_are_refused():
    class Holds(user_networks.TwoHeads):
        def forward(self, x):
            return UserDict(scores=super().forward(x))

    with pytest.raises(InputError, match=r"fails on two 3x8x8 images: its output, a UserDict, holds no logits"):
        make_network(Holds, 3, 8, 3)
