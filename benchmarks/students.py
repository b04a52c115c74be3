"""The test of distilled labels, 20 networks trained from scratch and tested: this package against the naive form, alternating.

    python benchmarks/students.py [--json] [--computations fp32,bf16,fp32+compile,bf16+compile] [--models 20] [--steps 245]
        [--examples 10000] [--rounds 1] [--threads 1]

LeNet on random images, N = 100, N_i = 50, ordinary heads trained by Adam. The naive form trains one network after the other,
decodes test images one by one and keeps graphs while it tests; "together" stacks the parameters of all networks and lets
torch.func.vmap run over them. Each form has a process of its own. `first_s` is the first test, compilation included (nothing is
taken from the compiler's cache), `clock_s` and `processor_s` are medians of the later ones.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import naive
import torch
from iterations import Setting, named, noise_task, textbook
from measure import alternate, own_process, parser, report, words
from torch import Tensor
from torch.func import grad, vmap
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

from labeldistill.methods.optimizers import adam_init, adam_update
from labeldistill.networks.compute import Computation, disable_malloc_trim
from labeldistill.networks.functional import Functional, flat_parameters
from labeldistill.task import LoadedTask
from labeldistill.training.evaluation import evaluate_students
from labeldistill.training.heads import HEADS
from labeldistill.training.training_set import TrainingSet, uniform_labels


def task_of(examples: int, device: str = "cpu") -> tuple[Setting, LoadedTask]:
    "Random images, so many of them to test on."
    setting = Setting("lenet", "second-order", outer_batch=-(-examples // 4), device=device)
    return setting, noise_task(setting)


def package_test(computation: Computation, models: int, steps: int, examples: int, device: str = "cpu") -> Callable[[], None]:
    "The test by the package."
    disable_malloc_trim()
    setting, task = task_of(examples, device)
    head = HEADS["linear"](task.network, device, computation)
    labels = uniform_labels(setting.base_examples, setting.classes).to(device)
    data = TrainingSet(task.base_images, labels, task.inner_batch)
    return lambda: evaluate_students(head, "adam", data, task.validation, steps, models, 0, show_progress=False)


def naive_test(models: int, steps: int, examples: int) -> Callable[[], None]:
    "The same in the naive form."
    setting, task = task_of(examples)
    pictures = naive.Pictures(task.train.images, task.train.labels, task.normalise)
    labels, loader = uniform_labels(setting.base_examples, setting.classes), DataLoader(pictures, batch_size=1024)
    inner = task.inner_batch

    def test() -> None:
        for _ in range(models):
            naive.test_model(textbook(setting), task.base_images, labels, inner, steps, loader)

    return test


def together_test(models: int, steps: int, examples: int, device: str = "cpu") -> Callable[[], None]:
    "The same with all networks in one computation, their parameters stacked."
    disable_malloc_trim()
    setting, task = task_of(examples, device)
    function, inner = Functional(task.network.build(0), device), task.inner_batch
    labels = uniform_labels(setting.base_examples, setting.classes).to(device)

    def loss(theta: Tensor, images: Tensor, targets: Tensor) -> Tensor:
        return cross_entropy(function(theta, images), targets)

    def test() -> None:
        thetas = torch.stack([flat_parameters(task.network.build(seed)) for seed in range(models)]).to(device)
        adam = adam_init(thetas)
        for rows in torch.rand(steps, models, setting.base_examples).argsort(dim=2)[:, :, :inner].to(device):
            gradients = vmap(grad(loss))(thetas, task.base_images[rows], labels[rows])
            step, adam = adam_update(gradients, adam)
            thetas = thetas + step
        with torch.no_grad():
            for images in task.train.images.split(1000):
                vmap(function, (0, None))(thetas, task.normalise(images)).argmax(2)

    return test


def rows(options: argparse.Namespace) -> Iterator[dict]:
    "One row for each form."
    size = options.models, options.steps, options.examples
    with ExitStack() as processes:
        begin = lambda *form: processes.enter_context(own_process(options.threads, *form, *size))  # noqa: E731
        functions = {"naive": begin(naive_test)}
        functions["fp32, together"] = begin(together_test)
        functions |= {name: begin(package_test, named(name)) for name in options.computations}
        times = alternate(functions, options.rounds)
    for name, seen in times.items():
        yield {
            "network": "lenet",
            "head": "linear",
            "computation": name,
            "threads": options.threads,
            "models": options.models,
            "steps": options.steps,
            "examples": options.examples,
            "first_s": seen.first,
            "clock_s": seen.clock,
            "processor_s": seen.processor,
            "clock_ratio": times["naive"].clock / seen.clock,
            "processor_ratio": times["naive"].processor / seen.processor,
        }


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--computations", type=words, default=["fp32", "bf16", "fp32+compile", "bf16+compile"], help="see above")
    options.add_argument("--models", type=int, default=20, help="networks to train and test")
    options.add_argument("--steps", type=int, default=245, help="training steps of each")
    options.add_argument("--examples", type=int, default=10_000, help="test images")
    options.add_argument("--rounds", type=int, default=1, help="tests of each form that count")
    report(rows, options.parse_args())


if __name__ == "__main__":
    main()
