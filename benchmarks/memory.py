"""Peak memory of one iteration against ordinary training and inference on the same batches.

    python benchmarks/memory.py [--json] [--networks lenet,alexnet,resnet14] [--precisions fp32,bf16] [--outer-batch 1024]

N = 100, N_i = 50, 10 classes, random images. `iteration_mb` is the most that tensors took at one time during an iteration, beyond
what was there before it: PyTorch's profiler sees every allocation. `training_mb` is the same of an ordinary training step on the
outer batch and then one on the inner batch, forward and backward, `inference_mb` of inference on the outer batch while the inner
batch's graph waits for its backward pass. `limit` is what is to be kept: 1.2 of the former for second order, 1 of the latter for
ridge.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator

import torch
from iterations import BENCHED, Setting, noise_distiller
from measure import parser, peak_bytes, report, words
from naive import TEXTBOOK

from labeldistill.methods.loop import epoch_indices, make_batch, start
from labeldistill.networks.compute import PRECISIONS, Computation


def peaks(setting: Setting) -> tuple[int, int, int]:
    "Bytes at the peak of an iteration, of ordinary training on both batches, and of inference with the inner step."
    task, distiller = noise_distiller(setting)
    state, batch = start(task, distiller, 0).state, make_batch(task, epoch_indices(task, 0, 0, task.inner_batch)[0])
    theta = state.train_state.theta.clone().requires_grad_()

    def loss(images: torch.Tensor) -> torch.Tensor:
        return distiller.function(theta, images).square().mean()

    def training_step() -> tuple:
        return torch.autograd.grad(loss(batch.outer_images), theta), torch.autograd.grad(loss(batch.images), theta)

    def inference_and_inner_step() -> tuple:
        waiting = loss(batch.images)
        with torch.no_grad():
            loss(batch.outer_images)
        return torch.autograd.grad(waiting, theta)

    functions = (lambda: distiller.step(state, batch, distiller.optimizer.update)), training_step, inference_and_inner_step
    for function in functions:
        function()  # libraries set themselves up
    return tuple(map(peak_bytes, functions))


def rows(options: argparse.Namespace) -> Iterator[dict]:
    "One row for each network, method and precision."
    torch.set_num_threads(options.threads)
    for network, name, precision in itertools.product(options.networks, BENCHED, options.precisions):
        channels, size = (1, 28) if network == "lenet" else (3, 32)
        computation = Computation(precision)
        setting = Setting(network, name, computation, outer_batch=options.outer_batch, image_size=size, channels=channels)
        iteration, training, inference = peaks(setting)
        yield {
            "network": network,
            "method": name,
            "precision": precision,
            "outer_batch": options.outer_batch,
            "iteration_mb": iteration / 1e6,
            "training_mb": training / 1e6,
            "inference_mb": inference / 1e6,
            "ratio": iteration / (inference if name == "ridge" else training),
            "limit": 1.0 if name == "ridge" else 1.2,
        }


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--networks", type=words, default=list(TEXTBOOK), help="names, with commas between")
    options.add_argument("--precisions", type=words, default=list(PRECISIONS), help="names, with commas between")
    options.add_argument("--outer-batch", type=int, default=1024, help="N_o")
    report(rows, options.parse_args())


if __name__ == "__main__":
    main()
