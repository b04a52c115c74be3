"""Time of one iteration: this package, in all ways it can compute, against the naive form, alternating in one run.

    python benchmarks/iterations.py [--json] [--networks lenet] [--methods second-order,ridge]
        [--computations fp32,bf16,fp32+compile,bf16+compile] [--rounds 7] [--turn 1] [--threads 1]

N = 100, N_i = 50, N_o = 1024, 10 classes, random images: 1 x 28 x 28 for LeNet, 3 x 32 x 32 for the others. Each form has a
process of its own and they take turns of `--turn` iterations; drawing a batch and normalising or decoding it counts. The first
turn, with compilation, is `first_s` and counts for nothing else. `clock_ms` and `processor_ms` are medians for one iteration;
beside busy neighbours the processor's time is the one to compare, as long as there is one thread.

Floating-point operations are those of the textbook form of the network, counted by torch.utils.flop_counter: convolutions and
matrix products, a multiply-add as two. Second order: N_o + N_i images forward and backward, N_i images forward with their
derivative (three products where the forward pass has one). Ridge: N_o forward, N_i forward and backward. `share_of_matmul` is
their number per second of the processor over that of products of 1024 x 1024 matrices in the same precision, which take their
turns in the same run.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import NamedTuple

import naive
import torch
from measure import alternate, own_process, parser, report, words
from torch import nn
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from labeldistill.config import METHODS, Schedule, Task
from labeldistill.data.base import BaseSet, inner_batch_size
from labeldistill.data.datasets import Dataset, Normalisation, Split
from labeldistill.methods.distiller import Distiller
from labeldistill.methods.loop import Loop, epoch_indices, start
from labeldistill.networks.compute import Computation, disable_malloc_trim
from labeldistill.networks.network import make_network
from labeldistill.task import LoadedTask

BENCHED = ("ridge", "second-order")  # the paper's methods, whose naive forms are in naive.py


class Setting(NamedTuple):
    "What is to be iterated."

    network: str
    method: str
    computation: Computation = Computation()
    base_examples: int = 100  # N
    outer_batch: int = 1024  # N_o
    classes: int = 10  # C
    image_size: int = 28
    channels: int = 1
    device: str = "cpu"

    @property
    def inner_batch(self) -> int:
        return inner_batch_size(self.base_examples, self.classes)


def noise_task(setting: Setting) -> LoadedTask:
    "Random images, four outer batches of them, and random base images."
    rng, shape = torch.Generator().manual_seed(0), (setting.channels, setting.image_size, setting.image_size)
    count, base = 4 * setting.outer_batch, setting.base_examples
    images = torch.randint(0, 256, (count + base, *shape), dtype=torch.uint8, generator=rng)
    labels = torch.randint(0, setting.classes, (count + base,), generator=rng)
    data = Dataset("noise", images, labels, tuple(map(str, range(setting.classes))))
    normalise = Normalisation((0.5,) * setting.channels, (0.25,) * setting.channels)
    return LoadedTask(
        config=Task(data),
        target=data,
        split=Split(torch.arange(count), torch.arange(count), torch.arange(0)),
        pool=BaseSet(data, torch.arange(count, count + base)),
        network=make_network(setting.network, setting.channels, setting.image_size, setting.classes),
        normalise=normalise,
        device=torch.device(setting.device),
        count=base,
        schedule=Schedule(iterations=10**9, outer_batch=setting.outer_batch),
        computation=setting.computation,
    )


def noise_distiller(setting: Setting, **options: int) -> tuple[LoadedTask, Distiller]:  # options: of the method
    "Random images, and the method built for them."
    task = noise_task(setting)
    return task, METHODS[setting.method](**options).build(task)


def iteration(setting: Setting, **options: int) -> Callable[[], None]:  # options: of the method
    "One iteration of the package, with all that `labeldistill distill` does around it."
    disable_malloc_trim()
    task, distiller = noise_distiller(setting, **options)
    loop, state = Loop(task, distiller, 0), start(task, distiller, 0).state
    sizes = distiller.inner_batch, distiller.inner_steps
    indices = itertools.chain.from_iterable(epoch_indices(task, 0, epoch, *sizes) for epoch in itertools.count())

    def iterate() -> None:
        nonlocal state
        state, _ = loop.iterate(state, loop.next_network(state), next(indices))

    return iterate


def textbook(setting: Setting) -> nn.Module:
    "The network as one would first write it; the package's own where that is how it is written."
    shape = setting.channels, setting.image_size, setting.classes
    if setting.network in naive.TEXTBOOK:
        return naive.TEXTBOOK[setting.network](*shape)
    return make_network(setting.network, *shape).build(0)


def naive_iteration(setting: Setting) -> Callable[[], None]:
    "One iteration of the naive form, with its loader that decodes image by image."
    task = noise_task(setting)
    pictures = naive.Pictures(task.train.images, task.train.labels, task.normalise)
    batches = naive.endless(DataLoader(pictures, batch_size=setting.outer_batch, shuffle=True))
    form = naive.NAIVE[setting.method]
    distiller = form(textbook(setting), task.base_images, setting.classes, task.inner_batch)
    return lambda: distiller.step(*next(batches))


def products(precision: str, device: str = "cpu", size: int = 1024) -> Callable[[], None]:
    "A product of two matrices."
    a, b = torch.randn(2, size, size, dtype=torch.bfloat16 if precision == "bf16" else torch.float32, device=device)
    return lambda: a @ b


def repeated(times: int, make: Callable[..., Callable[[], None]], *arguments: object) -> Callable[[], None]:
    "A function that calls what is made `times` times."
    function = make(*arguments)

    def turn() -> None:
        for _ in range(times):
            function()

    return turn


def operations(setting: Setting) -> float:
    "Floating-point operations of one iteration, see above."
    module, images = textbook(setting), torch.zeros(1, setting.channels, setting.image_size, setting.image_size)
    with FlopCounterMode(display=False) as forward:
        output = module.eval()(images)
    with FlopCounterMode(display=False) as backward:
        output.sum().backward()
    once, training = forward.get_total_flops(), forward.get_total_flops() + backward.get_total_flops()
    outer, inner = setting.outer_batch, setting.inner_batch
    if setting.method == "ridge":
        return outer * once + inner * training
    return (outer + inner) * training + inner * 3 * once


def named(computation: str) -> Computation:
    'The computation called "bf16+compile".'
    precision, _, compiled = computation.partition("+")
    return Computation(precision, bool(compiled))


def compare(setting: Setting, options: argparse.Namespace) -> Iterator[dict]:
    "Rows of one network and method."
    own = {name: setting._replace(computation=named(name)) for name in options.computations}
    with ExitStack() as processes:
        begin = lambda times, *form: processes.enter_context(own_process(options.threads, repeated, times, *form))  # noqa: E731
        functions = {"naive": begin(options.turn, naive_iteration, setting)}
        functions |= {name: begin(options.turn, iteration, which) for name, which in own.items()}
        precisions = {"fp32", *(which.computation.precision for which in own.values())}  # some machines take a minute for bf16
        functions |= {f"product {precision}": begin(20, products, precision) for precision in sorted(precisions)}
        times = alternate(functions, options.rounds)
    count, plain = operations(setting), times["naive"]
    for name in ("naive", *own):
        precision = own[name].computation.precision if name in own else "fp32"
        product = times[f"product {precision}"]
        rate, matmul = count * options.turn / times[name].processor, 20 * 2 * 1024**3 / product.processor
        yield {
            "network": setting.network,
            "method": setting.method,
            "computation": name,
            "threads": options.threads,
            "rounds": options.rounds,
            "turn": options.turn,
            "first_s": times[name].first,
            "clock_ms": 1e3 * times[name].clock / options.turn,
            "processor_ms": 1e3 * times[name].processor / options.turn,
            "clock_ratio": plain.clock / times[name].clock,
            "processor_ratio": plain.processor / times[name].processor,
            "gflop": count / 1e9,
            "gflop_per_s": rate / 1e9,
            "matmul_gflop_per_s": matmul / 1e9,
            "share_of_matmul": rate / matmul,
        }


def rows(options: argparse.Namespace) -> Iterator[dict]:
    "Rows of all networks and methods."
    for network, method in itertools.product(options.networks, options.methods):
        channels, size = (1, 28) if network == "lenet" else (3, 32)
        yield from compare(Setting(network, method, image_size=size, channels=channels), options)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--networks", type=words, default=["lenet"], help=f"of {', '.join(naive.TEXTBOOK)}, with commas between")
    options.add_argument("--methods", type=words, default=list(BENCHED), help="names, with commas between")
    options.add_argument("--computations", type=words, default=["fp32", "bf16", "fp32+compile", "bf16+compile"], help="see above")
    options.add_argument("--rounds", type=int, default=7, help="turns of each form that count")
    options.add_argument("--turn", type=int, default=1, help="iterations in a turn")
    report(rows, options.parse_args())


if __name__ == "__main__":
    main()
