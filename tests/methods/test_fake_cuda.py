"""All that runs on a GPU, on one that computes nothing: no tensor of another device slips in, nothing is read or copied."""

from contextlib import contextmanager, nullcontext
from dataclasses import fields, replace
from functools import partial
from types import SimpleNamespace
from typing import get_args, get_type_hints

import pytest
import torch
from fake_gpu import CUDA, Crossing, FakeGpu
from helpers import Silent, run_epochs
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorDeviceMismatchError

from labeldistill import Compute, Ridge, Schedule, SecondOrder, Student, Task, distill, evaluate, train_full, true_labels
from labeldistill.api import prepare
from labeldistill.config import METHODS
from labeldistill.data.streams import generator
from labeldistill.methods import cuda_graph, loop
from labeldistill.methods.ridge import RidgeLabels
from labeldistill.networks.compute import Computation
from labeldistill.networks.network import make_network
from labeldistill.networks.zoo import NETWORKS
from labeldistill.reproduce import records
from labeldistill.reproduce.recipes import AugmentingHead, shift_and_mirror
from labeldistill.reproduce.runs import EXPERIMENTS, new_run, perform
from labeldistill.training import evaluation, search, selection
from labeldistill.training.heads import HEADS
from labeldistill.training.trainer import Cohort, Trainer, train, train_together
from labeldistill.training.training_set import AUGMENTATIONS, TrainingSet, uniform_labels

QUICK = {
    "window": 2, "student_steps": 2, "experts": 1, "trajectory_iterations": 4, "trajectory_every": 2, "segment": 1,
    "ensemble": 2, "iterations": 3, "temperature": 1.0, "networks": 2, "lam": 1.0, "scale": 1.0, "inner_epochs": 1,
}  # fmt: skip
METHODS_RUN = [name for name in METHODS if name != "auto"]  # it becomes one of the others
LOOPS = [name for name in METHODS_RUN if METHODS[name].epochs]
VARIANTS = [(name, what) for name in METHODS_RUN for what in get_args(get_type_hints(METHODS[name]).get("learn")) or [None]]
GPU = Compute("cuda", "fp32", compile=False)


def tiny(channels, image_size, classes, *more):
    "A network of few operators for images of 16 x 16."
    return nn.Sequential(nn.Conv2d(channels, 4, 5, stride=4), nn.ReLU(), *more, nn.Flatten(), nn.Linear(36, classes))


def dropping(channels, image_size, classes):
    return tiny(channels, image_size, classes, nn.Dropout(0.5))


def quick(name, learn=None):
    "The method with what it learns, as short as it can be."
    own = {field.name for field in fields(METHODS[name])}
    return METHODS[name](**{key: value for key, value in QUICK.items() if key in own}, **({"learn": learn} if learn else {}))


def learned(data, method, compute=GPU, network=tiny, **recipe):
    "Labels of a whole run, which is short."
    schedule = Schedule() if method.epochs is None else Schedule(iterations=3, outer_batch=32)
    student = Student(steps=None if method.name == "dd" else 2, **recipe)
    task = Task(data, 6, network=network)
    return distill(task, method, student=student, schedule=schedule, compute=compute, progress=False)


class SameThread:
    "A stand-in for threads, which have no fake GPU."

    def __init__(self, *_, **__):
        self.map, self.shutdown = map, lambda **_: None


@pytest.fixture
def gpu(monkeypatch):
    "A fake GPU. Nothing may cross within an iteration, in a step of a student or an expert, or in the networks that are tested."
    with FakeGpu() as fake:

        def closed(function):
            def call(*args, **named):
                with fake.close():
                    return function(*args, **named)

            return call

        def capture(call, _state):
            call = closed(call)
            call()
            return call

        make = loop._iteration
        monkeypatch.setattr(loop, "_iteration", lambda *args: closed(make(*args)))
        for owner, name in ((Trainer, "step"), (Trainer, "classify"), (Cohort, "step")):
            monkeypatch.setattr(owner, name, closed(getattr(owner, name)))
        monkeypatch.setattr(cuda_graph, "_capture", capture)
        monkeypatch.setattr(evaluation, "ThreadPoolExecutor", SameThread)
        monkeypatch.setattr("labeldistill.task.select_device", torch.device)
        monkeypatch.setattr(torch.cuda, "get_rng_state", torch.get_rng_state)
        monkeypatch.setattr(torch.cuda, "set_rng_state", torch.set_rng_state)
        yield fake


def test_what_cannot_be_a_graph_runs_without_one(monkeypatch):
    "A mock: there is no GPU to refuse a capture. Tensors are of no device that computes."

    @contextmanager
    def refused(graph):
        raise RuntimeError("operation not permitted when stream is capturing")
        yield

    here = SimpleNamespace(wait_stream=lambda other: None)
    for name in ("CUDAGraph", "synchronize"):
        monkeypatch.setattr(torch.cuda, name, lambda: None)
    for name in ("Stream", "current_stream"):
        monkeypatch.setattr(torch.cuda, name, lambda: here)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    monkeypatch.setattr(torch.cuda, "graph", refused)
    calls, state = [], torch.zeros(3, device="meta")
    with pytest.warns(UserWarning, match="^iterations run without a CUDA graph: operation not permitted"):
        replay = cuda_graph._capture(lambda: calls.append(1), state)
    replay()
    assert len(calls) == 3  # two before the capture, and one now


@pytest.mark.parametrize(("name", "learn"), VARIANTS)
def test_a_whole_run_and_the_test_of_what_it_learned(name, learn, gpu, bars):
    labels = learned(bars, quick(name, learn))
    assert len(evaluate(labels, bars, models=2, compute=GPU, progress=False).accuracies) == 2 and gpu.crossings


def test_students_of_a_test_train_side_by_side(gpu, bars, monkeypatch):
    seen = []

    def noted(head, optimizer, seeds):
        seen.append(len(seeds))
        return Cohort(head, optimizer, seeds)

    monkeypatch.setattr(evaluation, "Cohort", noted)
    for optimizer in ("adam", partial(torch.optim.Adam, amsgrad=True)):
        student = Student(optimizer=optimizer, steps=2, augment="shift")
        evaluate(true_labels(Task(bars, 6, network=tiny)), bars, student=student, models=4, compute=GPU, progress=False)
    assert seen == [4], "of an optimizer that has a name"


@pytest.mark.parametrize(("method", "changes"), [
    (SecondOrder(), {"network": dropping}),
    (Ridge(learn="images"), {"network": dropping}),
    (SecondOrder(), {"compute": replace(GPU, precision="bf16")}),
    (Ridge(), {"compute": replace(GPU, precision="bf16")}),
    (quick("unrolled"), {"augment": "shift", "ema": 0.9, "lr_schedule": "cosine"}),
    (replace(quick("unrolled"), label_space="real", inner_optimizer="sgd"), {"loss": "mse"}),
    (Ridge(init=quick("expert")), {}),
], ids=str)  # fmt: skip
def test_a_run_with_its_options(method, changes, gpu, bars):
    assert learned(bars, method, **changes).labels.shape == (6, 3)


@pytest.mark.parametrize("name", LOOPS)
def test_more_iterations_of_an_epoch_copy_no_more(name, gpu, bars):
    given = {"student": Student(), "schedule": Schedule(iterations=6, outer_batch=14), "compute": GPU}
    task, distiller = prepare(Task(bars, 6, network=tiny), quick(name), **given)
    progress, counts = loop.start(task, distiller, 0), []
    for iterations in (2, 6):
        run = loop.Loop(replace(task, schedule=replace(task.schedule, iterations=iterations)), distiller, 0)
        before = len(gpu.crossings)
        run.run_epoch(progress, Silent())
        counts.append(len(gpu.crossings) - before)
    looks = 4 if distiller.resets.window == 1 else 0  # at the number of resets
    assert counts[1] - counts[0] == looks


RECIPES = [{}, {"ema": 0.9}, {"lr_schedule": "cosine"}, {"augment": "shift"}, {"augment": "shift+flip"}]


@pytest.fixture
def data(bars):
    "Six images on the GPU; call it with the fields of a recipe."
    images, labels = bars.images[:6].float(), uniform_labels(6, 3)
    return lambda **recipe: TrainingSet(images.to(CUDA), labels.to(CUDA), 2).for_student(Student(steps=9, **recipe))


def crossings(fake, function, *args):
    "What crosses in a call."
    before = len(fake.crossings)
    function(*args)
    return fake.crossings[before:]


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("recipe", RECIPES, ids=str)
def test_more_steps_of_a_student_copy_no_more(head, recipe, gpu, data):
    made = HEADS[head](make_network(tiny, 1, 16, 3), CUDA)
    few, more = (crossings(gpu, train, Trainer(made, "adam", 0), data(**recipe), n, generator(0, "rows")) for n in (2, 9))
    assert few == [line.replace("[(9,", "[(2,") for line in more]


@pytest.mark.parametrize("recipe", RECIPES, ids=str)
def test_more_steps_of_students_side_by_side_copy_no_more(recipe, gpu, data):
    head, rngs = HEADS["linear"](make_network(tiny, 1, 16, 3), CUDA), [generator(0, i) for i in range(3)]
    few, more = (crossings(gpu, train_together, Cohort(head, "adam", range(3)), data(**recipe), n, rngs) for n in (2, 9))
    assert len(few) == len(more) == 3 + 3 * ("augment" in recipe), "rows, and the numbers of changes"
    assert evaluation._cohort_size(head, "adam", data(**recipe), 20) == 20
    assert evaluation._cohort_size(AugmentingHead(head.network, CUDA, shift_and_mirror), "adam", data(), 20) == 1


def test_dsa_decides_on_the_cpu(gpu, bars):
    change, count = AUGMENTATIONS["dsa"]
    images = bars.images[:6].float().to(CUDA)
    for kind in torch.arange(0.05, 1, 0.1):
        said = crossings(gpu, change, images, kind.expand(6, count))
        assert all(line.startswith("aten._to_copy") for line in said) and len(said) <= 2  # torchvision's matrices


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", sorted({*NETWORKS} - {"resnet18"}))  # which has no operator that resnet14 lacks
def test_networks_learn_and_are_tested(name, precision, gpu):
    channels, size = (1, 28) if name == "lenet" else (3, 32)
    head = HEADS["linear"](make_network(name, channels, size, 3), CUDA, Computation(precision))
    one, images = Trainer(head, "adam", 0), torch.ones(2, channels, size, size, device="cuda")
    one.step(images, torch.ones(2, 3, device="cuda"))
    assert one.classify(images).device == CUDA


def test_a_network_trained_on_all_images(gpu, bars):
    assert train_full(Task(bars, network=tiny), epochs=1, compute=GPU, progress=False).epochs == 1


@pytest.mark.parametrize("name", [name for name in search.SELECTIONS if name != "random"])
def test_base_examples_are_chosen(name, gpu, bars, monkeypatch):
    monkeypatch.setattr(search, "EXPERT_STOPS", (2, 3))
    for module in (search, evaluation):
        monkeypatch.setattr(module, "candidate_steps", lambda *_: [2])
    monkeypatch.setitem(search.SELECTIONS, "optimised", partial(selection.best_of_random, sets=1, runs=1))
    task, _ = prepare(Task(bars, 6, network=tiny, selection=name, search_students=60), Ridge(), compute=GPU)
    assert len(replace(task, pool=replace(task.pool, steps=2)).base.rows) == 6


TINY = {
    "schedule": {"iterations": 3, "outer_batch": 32}, "test": {"models": 2, "steps": 2}, "method": {"ridge": {}},
    "budget": 20_000, "protocol": {"students": 2, "validation_models": 1, "candidate_steps": [2, 3]},
    "experts": {"count": 1, "max_iterations": 20, "checkpoints": 3},
    "recipes": [{"count": 3, "augmentation": "move"}, {"count": 3, "point": [0, 1]}],
    "deviations": [-1, 0], "draws": 2, "every": 1, "repeats": 1, "stretch": 2,
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("kind", [kind for kind in EXPERIMENTS if kind != "card"])  # which distills and evaluates
def test_an_experiment_leaves_its_record(kind, gpu, bars_npz, tmp_path, monkeypatch):
    monkeypatch.setattr(records, "select_device", torch.device)
    monkeypatch.setattr(torch.cuda, "get_device_name", str)
    task = {"target": str(bars_npz), "base_examples": 6, "network": f"{__name__}:tiny"}
    given = TINY | {"task": task} | ({"method": {"true": {}}} if kind == "baseline" else {})
    run = new_run(kind, "smoke", **{name: value for name, value in given.items() if name in EXPERIMENTS[kind].sections})
    assert perform(run, tmp_path / run.name, "cuda", progress=False)["kind"] == kind


FAULTS = {
    "a tensor of the CPU": lambda params: params + torch.ones(3),
    "a number of the CPU": lambda params: params * torch.tensor(2.0),
    "rows of the CPU": lambda params: params[torch.tensor([0, 1])],
    "a copy to the GPU": lambda params: torch.ones(3).to(params.device),
    "a copy to the CPU": lambda params: params.cpu(),
    "a copy into a tensor of the CPU": lambda params: torch.zeros(6, 3).copy_(params),
    "a number": lambda params: params.sum().item(),
    "a branch": lambda params: 1 if params.sum() > 0 else 0,
    "a list": lambda params: params.tolist(),
    "a shape that depends on numbers": lambda params: params[params > 0],
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_an_iteration_is_found(fault, gpu, bars, monkeypatch):
    step = RidgeLabels.step

    def faulty(self, state, batch, update):
        FAULTS[fault](state.params)
        return step(self, state, batch, update)

    monkeypatch.setattr(RidgeLabels, "step", faulty)
    with pytest.raises(Crossing):
        learned(bars, Ridge())


def test_two_devices_in_one_operation_are_refused_anywhere(gpu):
    with pytest.raises(FakeTensorDeviceMismatchError):
        torch.ones(3, device="cuda") + torch.ones(3)


@pytest.mark.cuda
@pytest.mark.parametrize(("name", "learn"), VARIANTS)
def test_a_gpu_learns_what_the_cpu_learns(name, learn, bars):
    labels = [learned(bars, quick(name, learn), Compute(device, "fp32", compile=False)).labels for device in ("cpu", "cuda")]
    torch.testing.assert_close(*labels, rtol=0, atol=1e-2)


@pytest.mark.cuda
@pytest.mark.parametrize("name", LOOPS)
def test_a_graph_does_what_the_plain_loop_does(name, bars):
    schedule = Schedule(iterations=30, outer_batch=14)
    task, distiller = prepare(Task(bars, 6, network=tiny), quick(name), schedule=schedule, compute=GPU)
    graph, plain = (run_epochs(task, distiller, wrap) for wrap in (lambda iterate: iterate, lambda iterate: iterate.function))
    assert graph.resets.equal(plain.resets)
    torch.testing.assert_close(graph.curve, plain.curve, rtol=1e-3, atol=1e-3)
