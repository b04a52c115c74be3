"""What several tests need: small loaded tasks with their distillers, and the label gradient as a textbook has it."""

import torch
from torch.nn.functional import cross_entropy

from labeldistill.api import prepare
from labeldistill.config import Compute, Ridge, Schedule, SecondOrder, Student, Task
from labeldistill.methods.loop import Loop, start
from labeldistill.methods.trees import map_tensors, named_tensors
from labeldistill.task import RunContext

CPU = Compute(device="cpu", compile=False)
TINY = Schedule(iterations=9, outer_batch=32)
PAPER = {"ridge": Ridge(), "second-order": SecondOrder()}  # the paper's methods


def tiny_task(target, base_examples, method, schedule=TINY, *, student=Student(), seed=1, context=RunContext(), **task):
    "A loaded task and the method's distiller, on a CPU; further options are fields of `Task`."
    return prepare(Task(target, base_examples, **task), method, student, schedule, seed, CPU, context)


def as_double(tree):
    "A tree with its floating-point tensors in float64."
    return map_tensors(lambda x: x.double() if x.is_floating_point() else x, tree)


def relative(a, b):
    "The relative difference of two tensors."
    return float((a - b).norm() / b.norm().clamp(min=1e-12))


def naive_second_order(function, theta, base, labels, real, targets, alpha):
    "Gradient of the outer loss with respect to the labels by double backward."
    theta, labels = theta.clone().requires_grad_(), labels.clone().requires_grad_()
    inner_loss = cross_entropy(function(theta, base), labels)
    (gradient,) = torch.autograd.grad(inner_loss, theta, create_graph=True)
    outer_loss = cross_entropy(function(theta - alpha * gradient, real), targets)
    return torch.autograd.grad(outer_loss, labels)[0]


def check_pure(distiller, state, batch):
    "Asserts that a step changes nothing it is given, repeats itself, and keeps no graph."
    before = {name: x.clone() for name, x in named_tensors(state).items()}
    results = []
    for _ in range(2):
        torch.manual_seed(0)
        results.append(named_tensors(distiller.step(state, batch, distiller.optimizer.update)[0]))
    assert all(torch.equal(x, before[name]) for name, x in named_tensors(state).items())
    assert all(torch.equal(x, results[1][name]) and not x.requires_grad for name, x in results[0].items())


class Silent:
    "A progress bar that shows nothing."

    def update(self):
        pass


def run_epochs(task, distiller, wrap=lambda iterate: iterate):
    "A run from its start to its end, without validation, its iterations wrapped."
    loop, progress = Loop(task, distiller, 5), start(task, distiller, 5)
    loop.iterate = wrap(loop.iterate)
    while len(progress.curve) < task.schedule.iterations:
        progress = loop.run_epoch(progress, Silent())
    return progress
