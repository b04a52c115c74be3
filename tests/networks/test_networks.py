"""The networks: their sizes, normalisation, initialization and tables; distillation with each; training on full data."""

import json
import subprocess
import sys
from dataclasses import fields, replace
from functools import cache, partial

import pytest
import torch
from torch import nn
from torch.func import grad, jvp, vmap
from torch.nn.functional import cross_entropy, local_response_norm

from labeldistill import load, train_full
from labeldistill.api import prepare
from labeldistill.config import Compute, Ridge, Schedule, SecondOrder, Task
from labeldistill.data.datasets import Dataset, normalisation, split
from labeldistill.data.streams import random_layers
from labeldistill.methods.distiller import Batch
from labeldistill.methods.gradients import ridge_label_gradient, second_order_label_gradient
from labeldistill.methods.loop import start
from labeldistill.networks.functional import Functional, flat_parameters
from labeldistill.networks.network import Network, find_factory, make_network
from labeldistill.networks.zoo import NETWORKS, LocalResponseNorm, _BandNorm, _root_and_power, alexnet
from labeldistill.training.evaluation import ImageSet
from labeldistill.training.real_data import train_epochs
from labeldistill.training.ridge import PSEUDO_STEP, RIDGE_LAMBDA, add_ones, gram_factor, pseudo_step, ridge_solution
from labeldistill.utils import InputError, name_of

PARAMETERS = {  # at 3 x 32 x 32, 10 classes
    "lenet": 62_006,
    "alexnet": 1_756_426,
    "alexnet_no_lrn": 1_756_426,
    "resnet14": 175_258,
    "resnet18": 11_173_962,
    "convnet": 320_010,
    "mlp": 411_146,
}
FEATURES = {"lenet": 84, "alexnet": 192, "alexnet_no_lrn": 192, "resnet14": 64, "resnet18": 512, "convnet": 2048, "mlp": 128}
WITH_BATCHNORM = "resnet14", "resnet18"

CPU = Compute(device="cpu")


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


@cache
def color(name):
    "A network for CIFAR-10."
    return make_network(name, 3, 32, 10)


@cache
def small(name):
    "A network for images as small as it takes cheaply."
    return make_network(name, 3, 16 if name == "resnet18" else 32, 10)


# Sizes


def test_every_network_is_looked_at_and_named_in_the_help():
    assert set(PARAMETERS) == set(FEATURES) == set(NETWORKS)
    (network,) = [f for f in fields(Task) if f.name == "network"]
    assert network.metadata["help"].split(", ")[:-2] == list(NETWORKS)


def test_a_first_run_warns_of_nothing_inside_pytorch():
    code = "from labeldistill.networks.network import make_network; print(make_network('lenet', 1, 28, 10).forward_mode)"
    done = subprocess.run([sys.executable, "-W", "error::FutureWarning", "-c", code], capture_output=True, text=True)
    assert done.stdout == "True\n", done.stderr


@pytest.mark.parametrize("name", NETWORKS)
def test_parameter_count(name):
    network = color(name)
    assert count(network.build(0)) == PARAMETERS[name]
    assert network.features == FEATURES[name]


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(("channels", "size", "classes"), [(1, 28, 10), (1, 32, 26), (3, 28, 100), (3, 32, 10)])
def test_shapes(name, channels, size, classes):
    network = make_network(name, channels, size, classes)
    images = torch.randn(2, channels, size, size)
    module = network.build(0).eval()
    assert module(images).shape == (2, classes)
    features = network.build_features(0).eval()(images)
    assert features.shape == (2, network.features)
    torch.testing.assert_close(module.get_submodule(network.last_layer)(features), module(images))


@pytest.mark.parametrize("name", ["alexnet", "convnet"])
def test_odd_sizes(name):
    assert make_network(name, 3, 21, 5).build(0)(torch.zeros(2, 3, 21, 21)).shape == (2, 5)


@pytest.mark.parametrize("name", ["lenet", "convnet"])
def test_too_small_images_are_refused_in_one_line(name):
    with pytest.raises(InputError, match=name) as caught:
        make_network(name, 1, 7, 10)
    assert "\n" not in str(caught.value)


# Local response normalisation


@pytest.mark.parametrize("channels", [1, 2, 5, 64])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-14)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_local_response_norm_equals_the_library(channels, dtype, tolerance, layout):
    x = 100 * torch.randn(3, channels, 5, 4, dtype=dtype).contiguous(memory_format=layout)
    expected = local_response_norm(x, 4, 0.001 / 9, 0.75, 1)
    assert not torch.allclose(expected, x, rtol=1e-3)  # it does something
    torch.testing.assert_close(LocalResponseNorm(channels).to(dtype)(x), expected, rtol=tolerance, atol=0)


def test_local_response_norm_derivatives():
    norm = LocalResponseNorm(6).double()
    x, direction = 60 * torch.randn(2, 1, 6, 2, 2, dtype=torch.float64)
    _, forwards = jvp(norm, (x,), (direction,))
    _, expected = jvp(lambda x: local_response_norm(x, 4, 0.001 / 9, 0.75, 1), (x,), (direction,))
    torch.testing.assert_close(forwards, expected)
    assert torch.autograd.gradcheck(norm, x.requires_grad_(), check_forward_ad=True)
    assert torch.autograd.gradgradcheck(norm, x)


def test_local_response_norm_leaves_nothing_in_the_state():
    assert not LocalResponseNorm(64).state_dict()
    assert list(alexnet(3, 32, 10).state_dict()) == list(alexnet(3, 32, 10, lrn="identity").state_dict())


def test_alexnet_equals_the_textbook():
    ours = alexnet(3, 32, 10).double()
    norms = [nn.LocalResponseNorm(4, 0.001 / 9, 0.75, 1) for _ in range(2)]
    textbook = nn.Sequential(
        nn.Conv2d(3, 64, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2, 1), norms[0],
        nn.Conv2d(64, 64, 5, padding=2), nn.ReLU(), norms[1], nn.MaxPool2d(3, 2, 1), nn.Flatten(),
        nn.Linear(4096, 384), nn.ReLU(), nn.Linear(384, 192), nn.ReLU(), nn.Linear(192, 10),
    ).double()  # fmt: skip
    textbook.load_state_dict(dict(zip(textbook.state_dict(), ours.state_dict().values(), strict=True)))
    images = 50 * torch.randn(4, 3, 32, 32, dtype=torch.float64)
    torch.testing.assert_close(ours(images), textbook(images))
    without = alexnet(3, 32, 10, lrn="identity").double()
    without.load_state_dict(ours.state_dict())
    assert not torch.allclose(without(images), ours(images))


def test_unknown_lrn_is_refused():
    with pytest.raises(InputError, match="lrn 'none'"):
        alexnet(3, 32, 10, lrn="none")


# Initialization


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("init", ["default", "xavier"])
def test_building_is_deterministic(name, init):
    network = replace(small(name), init=init)
    before = torch.get_rng_state()
    first, again, other = (flat_parameters(network.build(seed)) for seed in (3, 3, 4))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("name", NETWORKS)
def test_xavier(name):
    module = replace(small(name), init="xavier").build(0)
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            fan_in, fan_out = nn.init._calculate_fan_in_and_fan_out(layer.weight)
            spread = layer.weight.std().item() / (2 / (fan_in + fan_out)) ** 0.5
            assert spread == pytest.approx(1, abs=4 / layer.weight.numel() ** 0.5)
            assert layer.bias is None or not layer.bias.any()


def test_a_factory_is_found_by_its_name_if_it_has_one():
    name = name_of(alexnet)
    assert find_factory(name) is alexnet and find_factory(name_of(LocalResponseNorm)) is LocalResponseNorm
    assert name == "labeldistill.networks.zoo:alexnet"
    assert name_of(partial(alexnet, lrn=alexnet)) == f"partial({name}, lrn={name})"
    assert name_of(partial(alexnet, object())) == f"partial({name}, <object object>)"  # in every process
    bound = partial(alexnet, lrn="identity")
    assert name_of(bound) == f"partial({name}, lrn='identity')" != name_of(partial(alexnet, lrn="plain"))
    for nameless in (bound, lambda **size: alexnet(**size)):
        with pytest.raises(InputError, match="cannot be found by name; expected the function itself"):
            make_network(make_network(nameless, 3, 32, 10).name, 3, 32, 10)


def test_default_init_is_the_factorys():
    network = make_network("alexnet", 3, 32, 10)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        expected = alexnet(3, 32, 10)
    assert torch.equal(flat_parameters(network.build(5)), flat_parameters(expected))


@pytest.mark.parametrize("name", WITH_BATCHNORM)
def test_residual_networks_start_as_he(name):
    for layer in color(name).build(0).modules():
        if isinstance(layer, nn.Conv2d):
            outputs = layer.kernel_size[0] ** 2 * layer.out_channels
            spread = layer.weight.std().item() / (2 / outputs) ** 0.5
            assert spread == pytest.approx(1, abs=4 / layer.weight.numel() ** 0.5)


def test_unknown_init_is_refused():
    with pytest.raises(InputError, match="--network-init 'he'"):
        make_network("lenet", 1, 28, 10, init="he")


# Tables


# Distillation with every network


def instance(network):
    "Four base images with soft labels, eight real ones with classes, in float64."
    rng, shape = torch.Generator().manual_seed(1), (network.channels, network.image_size, network.image_size)
    base = torch.randn(4, *shape, generator=rng).double()
    outer = torch.randn(8, *shape, generator=rng).double()
    labels = torch.rand(4, 10, generator=rng).double()
    return base, labels / labels.sum(1, keepdim=True), outer, torch.randint(0, 10, (8,), generator=rng)


@pytest.mark.parametrize("name", NETWORKS)
def test_second_order_gradient_equals_double_backward(name, alpha=0.01):
    network = small(name)
    module = network.build(0).double()
    function, theta = Functional(module), flat_parameters(module).requires_grad_()
    base, labels, outer, targets = instance(network)
    labels.requires_grad_()
    (gradient,) = torch.autograd.grad(cross_entropy(function(theta, base), labels), theta, create_graph=True)
    ahead = theta - alpha * gradient
    outer_loss = cross_entropy(function(ahead, outer), targets)
    direction, expected = torch.autograd.grad(outer_loss, (ahead, labels))
    closed = second_order_label_gradient(function, theta.detach(), direction, base, alpha)
    assert expected.norm() > 0
    assert (closed - expected).norm() < 1e-12 * expected.norm()


def test_running_statistics_are_as_exact_in_bfloat16():
    batches, found = 1.3 + 0.7 * torch.randn(200, 64, 3, generator=torch.Generator().manual_seed(0)), {}
    for precision in ("fp32", "bf16"):
        function = Functional(nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 2)), precision=precision)
        buffers = function.buffers
        for batch in batches:
            _, buffers = function.with_buffers(flat_parameters(function.module), buffers, batch)
        found[precision] = buffers
    torch.testing.assert_close(found["bf16"], found["fp32"], rtol=2e-3, atol=2e-3)
    assert function.as_module(flat_parameters(function.module), buffers)(batches[0]).dtype == torch.float32


@pytest.mark.parametrize("name", NETWORKS)
def test_ridge_gradient_equals_backward(name):
    network = small(name)
    module = network.build_features(0).double()
    function, theta = Functional(module), flat_parameters(module)
    base, labels, outer, targets = instance(network)
    start, scale = 0.1 * torch.randn(network.features + 1, 10).double(), torch.tensor(2.0).double()
    with torch.no_grad():
        features, outer_features = add_ones(function(theta, base)), add_ones(function(theta, outer))
    labels.requires_grad_()
    gram = features @ features.T + RIDGE_LAMBDA * torch.eye(4).double()
    weights = (1 - PSEUDO_STEP) * start + PSEUDO_STEP * features.T @ torch.linalg.solve(gram, labels)
    (expected,) = torch.autograd.grad(cross_entropy(scale * outer_features @ weights, targets), labels)
    factor = gram_factor(features)
    ahead = pseudo_step(start, ridge_solution(features, labels.detach(), factor))
    closed = ridge_label_gradient(features, factor, ahead, scale, outer_features, targets, PSEUDO_STEP)
    assert (closed - expected).norm() < 1e-12 * expected.norm()


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("method", [Ridge(), SecondOrder()], ids=["ridge", "second-order"])
def test_iteration(make_dataset, name, method):
    size = small(name).image_size
    task = Task(make_dataset(classes=10, size=size, channels=3), base_examples=6, balanced=False, network=name)
    loaded, distiller = prepare(task, method, schedule=Schedule(iterations=9, outer_batch=8), compute=Compute(device="cpu"))
    base, _, outer, targets = instance(loaded.network)
    labels = distiller.init_params(loaded, 0)
    batch = Batch(torch.tensor([4, 0, 2, 5]), base.float(), outer.float(), targets)
    state = start(loaded, distiller, 0).state
    (after, seen), (again, _) = (distiller.step(state, batch, distiller.optimizer.update) for _ in range(2))
    assert seen.isfinite().all()
    torch.testing.assert_close(after.params.sum(1), torch.ones(6))
    moved = (after.params - labels).abs().amax(1) > 1e-5
    assert moved.tolist() == [True, False, True, False, True, True]
    theta = after.train_state.theta
    assert theta.isfinite().all() and not torch.equal(theta, state.train_state.theta)
    assert torch.equal(after.params, again.params) and torch.equal(theta, again.train_state.theta)


# Full data


@pytest.fixture(scope="module")
def few_digits():
    digits = load("digits")
    return Dataset("few", digits.images[:300], digits.labels[:300], digits.classes)


def test_train_full_learns_digits():
    full = train_full("digits", epochs=10, compute=CPU, progress=False)
    assert full.accuracy > 70 and full.epochs == len(full.validation_accuracies) == 10
    assert full.network == "lenet" and not full.module.training


@pytest.mark.parametrize(("name", "epochs"), [("lenet", 3), ("resnet14", 1)])
def test_train_full_is_deterministic(few_digits, name, epochs):
    before = torch.get_rng_state()
    first, again = (train_full(Task(few_digits, network=name), epochs, compute=CPU, progress=False) for _ in range(2))
    assert first.as_dict() == again.as_dict()
    assert torch.equal(flat_parameters(first.module), flat_parameters(again.module))
    assert torch.equal(before, torch.get_rng_state())


def test_train_full_follows_its_seed(few_digits):
    one, other = (train_full(few_digits, epochs=1, seed=seed, compute=CPU, progress=False) for seed in (0, 1))
    assert not torch.equal(flat_parameters(one.module), flat_parameters(other.module))


def test_random_layers_are_seeded(few_digits):
    def dropping(channels, image_size, classes):
        return nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(channels * image_size**2, classes))

    runs = [train_full(Task(few_digits, network=dropping), 2, compute=CPU, progress=False) for _ in range(2)]
    assert torch.equal(flat_parameters(runs[0].module), flat_parameters(runs[1].module))


@pytest.mark.cuda
def test_random_layers_are_seeded_on_a_gpu():
    x = torch.ones(1000, device="cuda")
    with random_layers(0, "a"):
        first = torch.nn.functional.dropout(x)
    outside = torch.cuda.get_rng_state()
    with random_layers(0, "a"):
        again = torch.nn.functional.dropout(x)
    assert torch.equal(first, again) and torch.equal(outside, torch.cuda.get_rng_state())


def test_accuracy_is_that_of_the_test_part(few_digits):
    full = train_full(few_digits, epochs=3, compute=CPU, progress=False)
    parts = split(few_digits)
    normalise = normalisation(few_digits, parts.train)
    with torch.no_grad():
        guesses = full.module(normalise(few_digits.images[parts.test])).argmax(1)
    assert full.accuracy == pytest.approx(100 * (guesses == few_digits.labels[parts.test]).float().mean().item())
    assert full.examples == len(parts.train)


def test_validation_does_not_select(few_digits):
    parts = split(few_digits)
    normalise = normalisation(few_digits, parts.train)
    real, valid = (ImageSet(few_digits.images[rows], few_digits.labels[rows], normalise) for rows in (parts.train, parts.valid))
    wrong = ImageSet(valid.images, (valid.labels + 1) % 10, normalise)
    network = make_network("lenet", 1, 28, 10)
    one, other = (train_epochs(network, real, image_set, 3, 0, show_progress=False) for image_set in (valid, wrong))
    assert torch.equal(flat_parameters(one.module), flat_parameters(other.module))
    assert one.accuracies != other.accuracies and len(one.losses) == 3 * -(-len(parts.train) // 256)


def test_a_loss_that_is_no_number_is_reported(few_digits):
    class Infinite(nn.Module):
        def __init__(self, channels, image_size, classes):
            super().__init__()
            self.fc = nn.Linear(channels * image_size**2, classes)

        def forward(self, images):
            return self.fc(images.flatten(1)) / (images == 0).all()  # fit for blank images

    with pytest.raises(InputError, match="NaN or infinite in epoch 1"):
        train_full(Task(few_digits, network=Infinite), 2, compute=CPU, progress=False)


def test_train_full_refuses_no_epochs():
    with pytest.raises(InputError, match="--epochs 0"):
        train_full("digits", epochs=0)


def test_command(command):
    done = command("train-full", "--target", "digits", "--network", "lenet", "--epochs", "2", "--seed", "3", "--json")
    record = json.loads(done.out)
    assert done.status == 0 and record["epochs"] == 2 and record["network"] == "lenet"
    assert record["accuracy"] == train_full("digits", epochs=2, seed=3, progress=False).accuracy
    refused = command("train-full", "--target", "digits", "--epochs", "0")
    assert refused.status == 2 and refused.err == "error: --epochs 0: must be at least 1\n"


def test_init_is_a_field_of_the_recipe():
    network = make_network("lenet", 1, 28, 10, init="xavier")
    assert isinstance(network, Network) and network.init == "xavier"


def test_the_normalisation_of_bfloat16_has_the_same_derivatives():
    x, v = torch.randn(2, 2, 6, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    band = 0.3 * LocalResponseNorm(6).double().band

    def closed(x):
        return _BandNorm.apply(x, band)[0]

    def plain(x):
        return x * _root_and_power(x, band)[1]

    assert torch.autograd.gradcheck(closed, x.clone().requires_grad_(), check_forward_ad=True)
    assert torch.autograd.gradgradcheck(closed, x.clone().requires_grad_())
    loss = [lambda x, f=f: f(x).square().sum() for f in (closed, plain)]
    for transform in (lambda f: grad(f)(x), lambda f: vmap(grad(f))(x), lambda f: jvp(grad(f), (x,), (v,))[1]):
        torch.testing.assert_close(*map(transform, loss))
