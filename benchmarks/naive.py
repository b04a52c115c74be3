"""The algorithms as one would first write them (and as the paper's code does), for comparison in benchmarks and tests.

Images are decoded one by one through PIL, the second-order gradient is taken by double backward, the ridge gradient runs backward
through the network on the whole outer batch, evaluation keeps graphs.
"""

from __future__ import annotations

import torch
from PIL import Image
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader
from torchvision import transforms

from labeldistill.data.datasets import Normalisation
from labeldistill.methods.optimizers import to_distribution
from labeldistill.networks.zoo import resnet14


def textbook_lenet(channels: int, image_size: int, classes: int) -> nn.Sequential:
    side = ((image_size + (4 if image_size == 28 else 0) - 4) // 2 - 4) // 2
    return nn.Sequential(
        nn.Conv2d(channels, 6, 5, padding=2 if image_size == 28 else 0), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(16 * side * side, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, classes),
    )  # fmt: skip


def textbook_alexnet(channels: int, image_size: int, classes: int) -> nn.Sequential:
    side = (image_size + 3) // 4
    return nn.Sequential(
        nn.Conv2d(channels, 64, 5, padding=2), nn.MaxPool2d(3, 2, 1), nn.ReLU(), nn.LocalResponseNorm(4, 0.001 / 9, 0.75, 1),
        nn.Conv2d(64, 64, 5, padding=2), nn.ReLU(), nn.LocalResponseNorm(4, 0.001 / 9, 0.75, 1), nn.MaxPool2d(3, 2, 1),
        nn.Flatten(), nn.Linear(64 * side * side, 384), nn.ReLU(), nn.Linear(384, 192), nn.ReLU(), nn.Linear(192, classes),
    )  # fmt: skip


def textbook_resnet14(channels: int, image_size: int, classes: int) -> nn.Sequential:
    module = resnet14(channels, image_size, classes)
    module.layout = nn.Identity()
    return module


TEXTBOOK = {"lenet": textbook_lenet, "alexnet": textbook_alexnet, "resnet14": textbook_resnet14}


class Pictures(torch.utils.data.Dataset):
    "Decodes and transforms image by image, as torchvision's data sets do."

    def __init__(self, images: Tensor, labels: Tensor, normalise: Normalisation):
        self.images, self.labels = images.permute(0, 2, 3, 1).squeeze(3).numpy(), labels.tolist()
        self.transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize(*normalise)])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), self.labels[index]


def endless(loader: DataLoader):
    while True:
        yield from loader


class Distiller:
    "What both methods have in common: a network, labels, two Adams."

    def __init__(self, module: nn.Module, base: Tensor, classes: int, inner_batch: int):
        self.module, self.base, self.inner_batch = module, base, inner_batch
        self.labels = torch.full((len(base), classes), 1 / classes, requires_grad=True)
        self.label_adam = torch.optim.Adam([self.labels])
        self.model_adam = torch.optim.Adam(module.parameters())

    def pick(self) -> Tensor:
        return torch.randperm(len(self.base))[: self.inner_batch]

    def step(self, images: Tensor, targets: Tensor) -> None:
        self.learn(self.pick(), images, targets)

    def step_labels(self, loss: Tensor) -> None:
        self.label_adam.zero_grad()
        loss.backward(retain_graph=True)
        self.label_adam.step()
        self.labels.data = to_distribution(self.labels.data)


class SecondOrder(Distiller):
    def learn(self, rows: Tensor, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:  # loss and logits on these images
        parameters = dict(self.module.named_parameters())
        inner = cross_entropy(self.module(self.base[rows]), self.labels[rows])
        gradients = torch.autograd.grad(inner, parameters.values(), create_graph=True)
        ahead = {name: p - 0.01 * g for (name, p), g in zip(parameters.items(), gradients, strict=True)}
        logits = functional_call(self.module, ahead, (images,))
        loss = cross_entropy(logits, targets)
        self.step_labels(loss)
        self.model_adam.zero_grad()
        inner.backward()
        self.model_adam.step()
        return loss, logits


class Ridge(Distiller):
    def __init__(self, module: nn.Module, base: Tensor, classes: int, inner_batch: int):
        super().__init__(module[:-1], base, classes, inner_batch)
        self.weights = torch.zeros(module[-1].in_features + 1, classes)
        self.scale = torch.ones((), requires_grad=True)
        self.scale_adam = torch.optim.Adam([self.scale], lr=0.01)

    def features(self, images: Tensor) -> Tensor:
        z = self.module(images)
        return torch.cat([z, z.new_ones(len(z), 1)], dim=1)

    def learn(self, rows: Tensor, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:  # loss and logits on these images
        z = self.features(self.base[rows])
        local = z.T @ torch.inverse(z @ z.T + torch.eye(len(z), dtype=z.dtype)) @ self.labels[rows]
        weights = 0.99 * self.weights + 0.01 * local
        logits = self.scale * self.features(images) @ weights
        loss = cross_entropy(logits, targets)
        self.step_labels(loss)
        self.model_adam.zero_grad()
        self.scale_adam.zero_grad()
        cross_entropy(self.scale * self.features(self.base[rows]) @ weights, self.labels[rows].detach()).backward()
        self.model_adam.step()
        self.scale_adam.step()
        self.weights = weights.detach()
        return loss, logits


NAIVE = {"second-order": SecondOrder, "ridge": Ridge}


def test_model(module: nn.Module, base: Tensor, labels: Tensor, inner_batch: int, steps: int, test: DataLoader) -> float:
    "Trains one network on labeled base images and returns its test accuracy in per cent; graphs are kept while testing."
    adam = torch.optim.Adam(module.parameters())
    for _ in range(steps):
        rows = torch.randperm(len(base))[:inner_batch]
        adam.zero_grad()
        cross_entropy(module(base[rows]), labels[rows]).backward()
        adam.step()
    correct = sum((module(images).argmax(1) == targets).sum().item() for images, targets in test)
    return 100 * correct / len(test.dataset)
