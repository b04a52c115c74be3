"""Fast paths give what the plain path gives: compilation, bfloat16, captured iterations, threads; and memory stays small."""

from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import pytest
import torch
import user_networks
from helpers import PAPER, as_double, tiny_task
from iterations import Setting
from memory import peaks
from torch import nn
from torch.nn.functional import cross_entropy, dropout
from tqdm import tqdm

from labeldistill.config import Schedule
from labeldistill.methods.cuda_graph import CudaGraphStep
from labeldistill.methods.loop import Loop, epoch_indices, start
from labeldistill.methods.trees import map_tensors, named_tensors
from labeldistill.networks import compute as networks
from labeldistill.networks.compute import (
    COMPILE_FROM,
    PLAIN,
    Computation,
    bfloat16_is_native,
    can_compile,
    choose_computation,
    disable_malloc_trim,
)
from labeldistill.networks.functional import Functional, flat_parameters
from labeldistill.networks.network import make_network
from labeldistill.training.evaluation import evaluate_students
from labeldistill.training.heads import HEADS
from labeldistill.training.trainer import PLAIN_SGD, Trainer
from labeldistill.training.training_set import TrainingSet, smoothed_labels
from labeldistill.utils import InputError

CPU = torch.device("cpu")
FAST = Computation("bf16", False)
needs_compiler = pytest.mark.skipif(not can_compile(CPU), reason="PyTorch's compiler wants a C++ compiler")


def prepared(method, iterations, outer_batch, computation=PLAIN, network="lenet"):
    "Ten digits teaching digits, and the method's distiller, computed in this way."
    task, _ = tiny_task("digits", 10, method, Schedule(iterations=iterations, outer_batch=outer_batch), network=network)
    task = replace(task, computation=computation)
    return task, method.build(task)


def run(task, distiller, wrap=lambda iterate: iterate):
    "The progress of a run without validation."
    loop, progress = Loop(task, distiller, 5), start(task, distiller, 5)
    loop.iterate = wrap(loop.iterate)
    while len(progress.curve) < task.schedule.iterations:
        progress = loop.run_epoch(progress, tqdm(disable=True))
    return progress


# Compiled


def labels_in_float64(task, distiller):
    "Labels of a short run in float64, without the smaller last batches of epochs."
    real = task.normalise
    doubled = replace(task.train, normalise=lambda images: real(images).double())
    vars(task).update(base_images=task.base_images.double(), train=doubled)
    loop, state = Loop(task, distiller, 5), as_double(start(task, distiller, 5).state)
    fresh = as_double(loop.next_network(state))
    epochs = [indices for epoch in range(40) for indices in epoch_indices(task, 5, epoch, 10)]
    for indices in [indices for indices in epochs if len(indices.outer_rows) == 128][: task.schedule.iterations]:
        state, _ = loop.iterate(state, fresh, indices)
    return state.params


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize(("name", "iterations"), [("ridge", 100), ("second-order", 200)])
def test_labels_after_many_compiled_iterations_are_those_of_the_plain_path(name, iterations):
    # In float32 a change of 1e-7 in the first parameters moves labels by 0.01 to 0.1 in 200 iterations, whatever computes them.
    plain, fast = (
        labels_in_float64(*prepared(PAPER[name], iterations, 128, Computation("fp32", compiled))) for compiled in (False, True)
    )
    assert plain.dtype == torch.float64 and (plain - 0.1).abs().max() > 0.05
    torch.testing.assert_close(fast, plain, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", PAPER)
def test_an_iteration_is_one_graph_for_the_compiler_and_is_compiled_once(name):
    task, distiller = prepared(PAPER[name], 9, 64)
    loop, state, graphs = Loop(task, distiller, 5), start(task, distiller, 5).state, []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    iterate = torch.compile(loop.iterate, fullgraph=True, dynamic=False, backend=backend)
    for indices in epoch_indices(task, 5, 0, 10)[:4]:
        state, _ = iterate(state, loop.next_network(state), indices)
    assert len(graphs) == 1


@needs_compiler
@pytest.mark.parametrize("head", HEADS)
def test_compiled_students_in_threads_are_the_plain_ones(head):
    task, _ = prepared(PAPER["ridge"], 9, 64)
    data = TrainingSet(task.base_images, smoothed_labels(task.base.labels, 10), 10)
    heads = [HEADS[head](task.network, CPU, Computation("fp32", compiled)) for compiled in (False, True)]
    accuracies = [evaluate_students(own, "adam", data, task.validation, 30, 3, 1) for own in heads]
    assert accuracies[0][0] == pytest.approx(accuracies[1][0], abs=1.5) and len(set(accuracies[0][1])) > 1


# bfloat16


def test_only_the_network_is_computed_in_bfloat16():
    module, images = make_network("lenet", 1, 28, 10).build(0), torch.randn(10, 1, 28, 28)
    theta = flat_parameters(module)
    plain, fast = (Functional(module, CPU, precision)(theta, images) for precision in ("fp32", "bf16"))
    assert plain.dtype == fast.dtype == torch.float32 and not torch.equal(plain, fast)
    torch.testing.assert_close(fast, plain, rtol=0, atol=0.02)


@pytest.mark.parametrize("name", PAPER)
@pytest.mark.parametrize("network", ["lenet", user_networks.plain, "resnet14"], ids=["lenet", "own", "resnet14"])
def test_state_stays_float32_in_bfloat16(name, network):
    fast, plain = (run(*prepared(PAPER[name], 4, 64, computation, network)).state for computation in (FAST, PLAIN))
    for key, tensor in named_tensors(fast, "state").items():
        assert tensor.dtype != torch.bfloat16, key
    assert fast.params.isfinite().all() and not torch.equal(fast.train_state.theta, plain.train_state.theta)
    torch.testing.assert_close(fast.params, plain.params, rtol=0, atol=0.01)


# Captured


@pytest.mark.parametrize("name", PAPER)
def test_iterations_in_fixed_places_are_the_plain_ones_bit_for_bit_resets_included(name):
    task, distiller = prepared(replace(PAPER[name], monitor_window=4), 60, 200)  # the last batch of an epoch is smaller
    steps = []

    def captured(iterate):
        steps.append(CudaGraphStep(iterate))
        return steps[0]

    plain, fast = run(task, distiller), run(task, distiller, captured)
    assert len(plain.resets) > 1 and torch.equal(plain.resets, fast.resets)
    assert torch.equal(plain.curve, fast.curve)
    assert all(map(torch.equal, named_tensors(plain.state).values(), named_tensors(fast.state).values()))
    assert len(steps[0].steps) == 2 and fast.state is steps[0].state


def test_what_goes_into_a_captured_iteration_is_not_overwritten():
    task, distiller = prepared(PAPER["ridge"], 60, 500)
    loop, state = Loop(task, distiller, 5), start(task, distiller, 5).state
    before = map_tensors(torch.clone, state)
    captured, fresh, indices = CudaGraphStep(loop.iterate), loop.next_network(state), epoch_indices(task, 5, 0, 10)[0]
    first, seen = captured(state, fresh, indices)
    kept = seen.clone()
    again, _ = captured(first, fresh, indices)
    assert again is first and torch.equal(seen, kept)
    assert all(map(torch.equal, named_tensors(state).values(), named_tensors(before).values()))


# What is chosen


def test_short_runs_are_plain_and_long_ones_as_fast_as_the_device_allows():
    lenet, alexnet = make_network("lenet", 1, 28, 10), make_network("alexnet", 3, 32, 10)
    fast = "bf16" if bfloat16_is_native(CPU) else "fp32"
    assert choose_computation(lenet, CPU, COMPILE_FROM - 1) == PLAIN
    assert choose_computation(lenet, CPU, COMPILE_FROM) == (fast, can_compile(CPU))
    assert choose_computation(alexnet, CPU, COMPILE_FROM) == (fast, False)
    assert choose_computation(lenet, CPU, 1, "bf16") == ("bf16", False)
    assert choose_computation(lenet, CPU, 10**6, "fp32", False) == PLAIN


class Forgetful(nn.Module):
    "Dropout that is no module."

    def __init__(self, channels, image_size, classes):
        super().__init__()
        self.last = nn.Linear(channels * image_size**2, classes)

    def forward(self, images):
        return self.last(dropout(images.flatten(1), 0.5, self.training))


def test_networks_that_draw_random_numbers_are_recognised_and_never_compiled():
    forgetful = make_network(Forgetful, 1, 8, 3)
    assert forgetful.random and not make_network("lenet", 1, 28, 10).random
    assert not choose_computation(forgetful, CPU, 10**6).compile
    with pytest.raises(InputError, match=r"--compile: .*Forgetful.* draws random numbers; expected --no-compile"):
        choose_computation(forgetful, CPU, 10, compile=True)


class Stubborn(nn.Module):
    "A network with a float32 constant of its own."

    def __init__(self, channels, image_size, classes):
        super().__init__()
        self.last = nn.Linear(channels * image_size**2, classes)

    def forward(self, images):
        return self.last(images.flatten(1) @ torch.eye(images[0].numel()))


def test_a_network_that_cannot_be_computed_in_bfloat16_is_not():
    stubborn = make_network(Stubborn, 1, 8, 3)
    assert choose_computation(stubborn, CPU, 10**6).precision == "fp32"
    with pytest.raises(InputError, match=r"--precision bf16: network .* expected fp32"):
        choose_computation(stubborn, CPU, 1, "bf16")


def test_an_unknown_precision_is_refused_and_nothing_compiled_without_a_compiler(monkeypatch):
    lenet = make_network("lenet", 1, 28, 10)
    with pytest.raises(InputError, match="--precision 'fp16': expected auto, fp32, bf16"):
        choose_computation(lenet, CPU, 1, "fp16")
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert not choose_computation(lenet, CPU, 10**6).compile


# Students


def test_any_optimiser_sees_parameters_in_their_shapes_and_moves_the_student():
    network, seen = make_network("lenet", 1, 28, 10), []

    def make(parameters):
        seen.extend(parameters)
        return torch.optim.SGD(seen, lr=0.5)

    student = Trainer(HEADS["linear"](network), make, seed=3)
    module, images, labels = network.build(3), torch.randn(4, 1, 28, 28), torch.eye(10)[:4]
    assert [x.shape for x in seen] == [x.shape for x in module.parameters()]
    student.step(images, labels)
    cross_entropy(module(images), labels).backward()
    torch.optim.SGD(module.parameters(), lr=0.5).step()
    torch.testing.assert_close(student.trained["theta"], flat_parameters(module))
    torch.testing.assert_close(student.classify(images), module(images))
    torch.testing.assert_close(student.classifier()(images), module(images))


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("adam", partial(torch.optim.Adam, lr=1e-3)),
        ("sgd", partial(torch.optim.SGD, lr=1e-2, momentum=0.9)),
        ("adamw", partial(torch.optim.AdamW, lr=1e-3, weight_decay=1e-2)),
    ],
)
def test_optimizers_by_name_are_torchs_with_these_numbers(name, theirs):
    ours, reference = (Trainer(HEADS["linear"](make_network("lenet", 1, 28, 10)), optimizer, 3) for optimizer in (name, theirs))
    images, labels = torch.randn(4, 1, 28, 28), torch.eye(10)[:4]
    for _ in range(4):
        ours.step(images, labels), reference.step(images, labels)
    torch.testing.assert_close(ours.trained["theta"], reference.trained["theta"], rtol=0, atol=5e-7)


def test_a_step_takes_the_step_size_that_it_is_given():
    images, labels = torch.randn(4, 1, 28, 28), torch.eye(10)[:4]
    head = HEADS["linear"](make_network("lenet", 1, 28, 10))
    ours, reference = Trainer(head, PLAIN_SGD, 3), Trainer(head, partial(torch.optim.SGD, lr=0.5), 3)
    for rate in (0.5, 0.25):
        reference.optimizers[0].param_groups[0]["lr"] = rate
        ours.step(images, labels, rate), reference.step(images, labels)
        torch.testing.assert_close(ours.trained["theta"], reference.trained["theta"])


@pytest.mark.parametrize("rate", [0.01, 0.1])
def test_the_ridge_layers_scale_takes_the_steps_of_adam(rate):
    student = Trainer(HEADS["ridge"](make_network("lenet", 1, 28, 10), scale_lr=rate), "sgd", 3)
    for _ in range(2):  # weights are zero at first, and so is the gradient
        student.step(torch.randn(4, 1, 28, 28), torch.eye(10)[:4])
    moved = float(student.trained["scale"]) - 1
    assert 0.2 * rate < abs(moved) < 2.001 * rate


@pytest.mark.parametrize("head", HEADS)
def test_running_statistics_follow_training_and_serve_the_test(head):
    student = Trainer(HEADS[head](make_network("resnet14", 1, 28, 10)), "adam", seed=0)
    images, labels = torch.randn(8, 1, 28, 28) + 3, torch.eye(10)[:8]
    for _ in range(3):
        student.step(images, labels)
    module = student.classifier()
    assert module.norm.num_batches_tracked == 3 and not module.norm.running_mean.eq(0).all()
    torch.testing.assert_close(student.classify(images), module.eval()(images), rtol=1e-4, atol=1e-4)


# Memory


def test_a_second_order_iteration_takes_little_more_memory_than_a_training_step():
    iteration, training_step, _ = peaks(Setting("lenet", "second-order", outer_batch=512))
    assert iteration <= 1.2 * training_step


def test_a_ridge_iteration_takes_no_more_memory_than_inference_and_the_inner_step():
    iteration, _, inference = peaks(Setting("lenet", "ridge", outer_batch=512))
    assert iteration <= 1.01 * inference  # the label gradient's small matrices


def test_the_c_library_is_asked_to_keep_memory_where_it_can(monkeypatch):
    asked = {}
    libraries = iter([SimpleNamespace(mallopt=asked.__setitem__), SimpleNamespace()])
    monkeypatch.setattr(networks.sys, "platform", "linux")
    monkeypatch.setattr(networks.ctypes, "CDLL", lambda _: next(libraries))
    disable_malloc_trim()
    assert asked == {networks.M_MMAP_MAX: 0, networks.M_TRIM_THRESHOLD: 2**31 - 1}
    disable_malloc_trim()  # a C library without mallopt
