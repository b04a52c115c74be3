"""All that runs on a GPU, on one that computes nothing: no tensor of another device slips in, nothing is read or copied."""

from dataclasses import fields
from typing import get_args, get_type_hints

import pytest
import torch
from fake_gpu import CUDA, FakeGpu
from helpers import Silent

from labeldistill import Compute, Schedule, Student, Task, distill, evaluate
from labeldistill.api import prepare
from labeldistill.config import METHODS
from labeldistill.data.streams import generator
from labeldistill.methods import cuda_graph, loop
from labeldistill.networks.network import make_network
from labeldistill.training import evaluation, trainer
from labeldistill.training.heads import HEADS
from labeldistill.training.trainer import Trainer, train
from labeldistill.training.training_set import AUGMENTATIONS, TrainingSet, uniform_labels

QUICK = {
    "window": 3, "student_steps": 3, "experts": 1, "trajectory_iterations": 4, "trajectory_every": 2, "segment": 1,
    "ensemble": 2, "iterations": 3, "temperature": 1.0, "networks": 2, "lam": 1.0, "scale": 1.0, "inner_epochs": 2,
}  # fmt: skip
GPU = {"compute": Compute("cuda", "fp32", compile=False), "progress": False}


class SameThread:
    "A stand-in for threads, which have no fake GPU."

    def __init__(self, *_, **__):
        self.map, self.shutdown = map, lambda **_: None


@pytest.fixture
def gpu(monkeypatch):
    "A fake GPU, within which the hot loops are closed."
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

        makers = (loop, "_iteration"), (trainer, "recipe_step"), (evaluation, "recipe_step")
        for module, name in makers:
            make = getattr(module, name)
            monkeypatch.setattr(module, name, lambda *args, make=make: closed(make(*args)))
        for name in ("step", "classify"):
            monkeypatch.setattr(Trainer, name, closed(getattr(Trainer, name)))
        monkeypatch.setattr(cuda_graph, "_capture", capture)
        monkeypatch.setattr(evaluation, "ThreadPoolExecutor", SameThread)
        monkeypatch.setattr("labeldistill.task.select_device", lambda name: torch.device(name))
        yield fake


def crossings(fake, function, *args):
    "What crossed in a call."
    before = len(fake.crossings)
    function(*args)
    return fake.crossings[before:]


def quick(name, learn=None):
    "The method with what it learns, as short as it can be."
    own = {field.name for field in fields(METHODS[name])}
    settings = {key: value for key, value in QUICK.items() if key in own}
    return METHODS[name](**settings, **({"learn": learn} if learn else {}))


def variants():
    "All methods with all that they learn."
    for name, method in METHODS.items():
        if name != "auto":  # it becomes one of the others
            yield from ((name, what) for what in get_args(get_type_hints(method).get("learn")) or [None])


def student_of(name, **more):
    return Student(**more) if name == "dd" else Student(steps=2, **more)


@pytest.mark.parametrize(("name", "learn"), [*variants()])
def test_a_whole_run_and_the_test_of_its_labels(name, learn, gpu, bars):
    method = quick(name, learn)
    schedule = Schedule() if method.epochs is None else Schedule(iterations=4, outer_batch=32)
    labels = distill(Task(bars, 6), method, student=student_of(name), schedule=schedule, **GPU)
    assert len(evaluate(labels, bars, models=2, **GPU).accuracies) == 2 and gpu.crossings


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if name != "auto" and method.epochs])
def test_an_epoch_with_more_iterations_copies_no_more(name, gpu, bars):
    counts = []
    for outer_batch in (48, 16):
        task, distiller = prepare(
            Task(bars, 6), quick(name), student_of(name), Schedule(iterations=9, outer_batch=outer_batch), compute=GPU["compute"]
        )
        run, progress = loop.Loop(task, distiller, 0), loop.start(task, distiller, 0)
        run.next_network(progress.state)
        counts.append(crossings(gpu, run.run_epoch, progress, Silent()))
    print(*counts, sep="\n")
    assert len(counts[0]) == len(counts[1])


RECIPES = [{}, {"ema": 0.9}, {"lr_schedule": "cosine"}, *({"augment": name} for name in AUGMENTATIONS)]


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("recipe", RECIPES, ids=str)
def test_more_steps_of_a_student_copy_no_more(head, recipe, gpu, bars):
    made = HEADS[head](make_network("lenet", 1, 16, 3), CUDA)
    images = bars.images[:6].to(CUDA).float()
    data = TrainingSet(images, uniform_labels(6, 3).to(CUDA), 2).for_student(Student(steps=9, **recipe))
    few, more = (crossings(gpu, train, Trainer(made, "adam", 0), data, steps, generator(0, "rows")) for steps in (2, 9))
    print(few, more)
    assert len(few) == len(more)
