"""Fast paths give what the plain path gives: compilation, bfloat16, recorded iterations, threads; and memory stays small."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
import user_networks
from iterations import Setting
from memory import peaks
from torch import nn
from torch.nn.functional import cross_entropy, dropout

from labeldistill import distillers, networks
from labeldistill.data import InputError
from labeldistill.distillers import METHODS, InPlace, Loop, Schedule, epoch_draws, start
from labeldistill.evaluation import HEADS, Student, TrainingSet, evaluate_students
from labeldistill.labels import smoothed_labels
from labeldistill.networks import (
    COMPILE_FROM,
    PLAIN,
    Computation,
    Functional,
    bfloat16_is_native,
    can_compile,
    choose_computation,
    flat_parameters,
    keep_memory,
    make_network,
)
from labeldistill.runs import Opening, Scene

CPU = torch.device("cpu")
FAST = Computation("bf16", False)
needs_compiler = pytest.mark.skipif(not can_compile(CPU), reason="PyTorch's compiler wants a C++ compiler")


@pytest.fixture(scope="module")
def digits():
    "Ten digits teaching digits, LeNet."
    return Scene("digits", 10, None, True, "lenet", None, 1, "cpu", Opening(None))


class Silent:
    "A progress bar that shows nothing."

    def update(self):
        "Nothing."


def run(problem, method, schedule, wrap=lambda iterate: iterate):
    "The progress of a run without validation."
    loop, progress = Loop(problem, method, schedule, 5), start(problem, method, 5)
    loop.iterate = wrap(loop.iterate)
    while len(progress.curve) < schedule.iterations:
        progress = loop.run_epoch(progress, Silent())
    return progress


# Compiled


def labels_after_200_iterations(problem, method):
    "Labels of a short run in float64, without the smaller last batches of epochs."
    loop, state = Loop(problem, method, Schedule(200, 128, 10), 5), start(problem, method, 5).state
    state, fresh = (
        distillers.map_tensors(lambda x: x.double() if x.is_floating_point() else x, tree)
        for tree in (state, loop.next_learner(state))
    )
    draws = [draw for epoch in range(40) for draw in epoch_draws(problem, loop.schedule, 5, epoch) if len(draw.portion) == 128]
    for draw in draws[:200]:
        state, _ = loop.iterate(state, fresh, draw)
    return state.learned


@needs_compiler
@pytest.mark.parametrize("name", METHODS)
def test_labels_after_200_compiled_iterations_are_those_of_the_plain_path(name, digits):
    # In float32 a change of 1e-7 in the first parameters moves labels by 0.01 to 0.1 in 200 iterations, whatever computes them.
    problem = digits.problem()
    real = problem.normalise
    problem = replace(problem, base_images=problem.base_images.double(), normalise=lambda images: real(images).double())
    plain, fast = (
        labels_after_200_iterations(problem, METHODS[name](digits.network, computation=Computation("fp32", compile)))
        for compile in (False, True)
    )
    assert plain.dtype == torch.float64 and (plain - 0.1).abs().max() > 0.05
    torch.testing.assert_close(fast, plain, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", METHODS)
def test_an_iteration_is_one_graph_for_the_compiler_and_is_compiled_once(name, digits):
    problem, method = digits.problem(), METHODS[name](digits.network)
    loop, state, graphs = Loop(problem, method, Schedule(9, 64, 10), 5), start(problem, method, 5).state, []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    iterate = torch.compile(loop.iterate, fullgraph=True, dynamic=False, backend=backend)
    for draw in epoch_draws(problem, loop.schedule, 5, 0)[:4]:
        state, _ = iterate(state, loop.next_learner(state), draw)
    assert len(graphs) == 1


@needs_compiler
@pytest.mark.parametrize("head", HEADS)
def test_compiled_students_in_threads_are_the_plain_ones(head, digits):
    labels = smoothed_labels(digits.base.labels, 10)
    data = TrainingSet(digits.inputs(), labels, 10)
    accuracies = [
        evaluate_students(HEADS[head](digits.network, CPU, Computation("fp32", x)), "adam", data, digits.exam("valid"), 30, 3, 1)
        for x in (False, True)
    ]
    assert accuracies[0][0] == pytest.approx(accuracies[1][0], abs=1.5) and len(set(accuracies[0][1])) > 1


# bfloat16


def test_only_the_network_is_computed_in_bfloat16(digits):
    module, images = digits.network.build(0), digits.inputs()
    theta = flat_parameters(module)
    plain, fast = (Functional(module, CPU, precision)(theta, images) for precision in ("fp32", "bf16"))
    assert plain.dtype == fast.dtype == torch.float32 and not torch.equal(plain, fast)
    torch.testing.assert_close(fast, plain, rtol=0, atol=0.02)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("network", ["lenet", user_networks.plain, "resnet14"], ids=["lenet", "own", "resnet14"])
def test_state_stays_float32_in_bfloat16(name, network):
    scene = Scene("digits", 10, None, True, network, None, 1, "cpu", Opening(None))
    problem, schedule = scene.problem(), Schedule(4, 64, 10)
    progress = run(problem, METHODS[name](scene.network, computation=FAST), schedule)
    plain = run(problem, METHODS[name](scene.network), schedule)
    for key, tensor in distillers.named_tensors(progress.state, "state").items():
        assert tensor.dtype != torch.bfloat16, key
    assert progress.state.learned.isfinite().all() and not torch.equal(progress.state.learner.theta, plain.state.learner.theta)
    torch.testing.assert_close(progress.state.learned, plain.state.learned, rtol=0, atol=0.01)


# In place


@pytest.mark.parametrize("name", METHODS)
def test_iterations_in_fixed_places_are_the_plain_ones_bit_for_bit_resets_included(name, digits, monkeypatch):
    monkeypatch.setattr(distillers, "window_size", lambda *_: 4)
    problem, schedule = digits.problem(), Schedule(60, 500, 10)  # the last portion of an epoch is smaller
    method = METHODS[name](digits.network)
    places = []

    def in_place(iterate):
        places.append(InPlace(iterate))
        return places[0]

    plain, fast = run(problem, method, schedule), run(problem, method, schedule, in_place)
    assert len(plain.resets) > 1 and torch.equal(plain.resets, fast.resets)
    assert torch.equal(plain.curve, fast.curve)
    expected, found = (distillers.named_tensors(progress.state, "state") for progress in (plain, fast))
    assert all(torch.equal(tensor, found[key]) for key, tensor in expected.items())
    assert len(places[0].recordings) == 2 and fast.state is places[0].state


def test_what_goes_into_a_recorded_iteration_is_not_overwritten(digits):
    problem, schedule, method = digits.problem(), Schedule(60, 500, 10), METHODS["ridge"](digits.network)
    loop, state = Loop(problem, method, schedule, 5), start(problem, method, 5).state
    before = distillers.map_tensors(torch.clone, state)
    recorded, fresh, draw = InPlace(loop.iterate), loop.next_learner(state), epoch_draws(problem, schedule, 5, 0)[0]
    first, seen = recorded(state, fresh, draw)
    kept = seen.clone()
    again, _ = recorded(first, fresh, draw)
    assert again is first and torch.equal(seen, kept)
    assert all(map(torch.equal, distillers.named_tensors(state, "").values(), distillers.named_tensors(before, "").values()))


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
    with pytest.raises(InputError, match=r"--compile: .*Forgetful.* draws random numbers; wanted: --no-compile"):
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
    with pytest.raises(InputError, match=r"--precision bf16: network .* wanted: fp32"):
        choose_computation(stubborn, CPU, 1, "bf16")


def test_unknown_precision_and_a_missing_compiler_are_refused(monkeypatch):
    lenet = make_network("lenet", 1, 28, 10)
    with pytest.raises(InputError, match="--precision 'fp16': wanted auto, fp32, bf16"):
        choose_computation(lenet, CPU, 1, "fp16")
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert not choose_computation(lenet, CPU, 10**6).compile
    with pytest.raises(InputError, match="--compile: PyTorch needs a C\\+\\+ compiler"):
        choose_computation(lenet, CPU, 1, compile=True)


# Students


def test_any_optimiser_sees_parameters_in_their_shapes_and_moves_the_student():
    network, seen = make_network("lenet", 1, 28, 10), []

    def make(parameters):
        seen.extend(parameters)
        return torch.optim.SGD(seen, lr=0.5)

    student = Student(HEADS["linear"](network), make, seed=3)
    module, images, labels = network.build(3), torch.randn(4, 1, 28, 28), torch.eye(10)[:4]
    assert [x.shape for x in seen] == [x.shape for x in module.parameters()]
    student.step(images, labels)
    cross_entropy(module(images), labels).backward()
    torch.optim.SGD(module.parameters(), lr=0.5).step()
    torch.testing.assert_close(student.trained["theta"], flat_parameters(module))
    torch.testing.assert_close(student.classify(images), module(images))
    torch.testing.assert_close(student.classifier()(images), module(images))


@pytest.mark.parametrize("head", HEADS)
def test_running_statistics_follow_training_and_serve_the_test(head):
    student = Student(HEADS[head](make_network("resnet14", 1, 28, 10)), "adam", seed=0)
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
    keep_memory()
    assert asked == {networks.M_MMAP_MAX: 0, networks.M_TRIM_THRESHOLD: 2**31 - 1}
    keep_memory()  # a C library without mallopt
