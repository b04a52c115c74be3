"""Networks as a user might write them, named on the command line as `user_networks:factory`."""

import os
import signal
from dataclasses import dataclass
from types import SimpleNamespace

import torch
from torch import nn
from torchvision.models import VisionTransformer

from labeldistill import Method


def small(channels, image_size, classes, *layers):
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * image_size**2, 12), *layers, nn.ReLU(), nn.Linear(12, classes))


def plain(channels, image_size, classes):
    return small(channels, image_size, classes)


def normed(channels, image_size, classes):
    return small(channels, image_size, classes, nn.BatchNorm1d(12))


def dropping(channels, image_size, classes):
    return small(channels, image_size, classes, nn.Dropout(0.5))


def not_callable_dimensions(size):
    return nn.Identity()


def wrong_output(channels, image_size, classes):
    return small(channels, image_size, classes + 1)


def no_linear(channels, image_size, classes):
    return nn.Sequential(nn.Conv2d(channels, classes, image_size), nn.Flatten())


def bare(channels, image_size, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * image_size**2, classes))


class TwoHeads(nn.Module):
    "Has a second layer of as many outputs, which is not used."

    def __init__(self, channels, image_size, classes):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(channels * image_size**2, 12), nn.ReLU())
        self.head, self.other = nn.Linear(12, classes), nn.Linear(12, classes)

    def forward(self, x):
        return self.head(self.body(x))


class Summed(TwoHeads):
    "Uses both."

    def forward(self, x):
        features = self.body(x)
        return self.head(features) + self.other(features)


class InDictionary(TwoHeads):
    "Answers as models of Hugging Face do if asked for a dictionary."

    def forward(self, x):
        return {"loss": None, "logits": super().forward(x)}


class InObject(TwoHeads):
    "Answers as models of Hugging Face do."

    def forward(self, x):
        return SimpleNamespace(logits=super().forward(x))


class Tanh(torch.autograd.Function):
    "An operator without forward mode."

    @staticmethod
    def forward(context, x):
        context.save_for_backward(x)
        return x.tanh()

    @staticmethod
    def backward(context, gradient):
        return (1 - context.saved_tensors[0].tanh() ** 2) * gradient


class TanhLayer(nn.Module):
    def forward(self, x):
        return Tanh.apply(x)


def own_operator(channels, image_size, classes):
    return small(channels, image_size, classes, TanhLayer())


def lazy(classes):
    return nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d(), nn.ReLU(), nn.Flatten(), nn.LazyLinear(classes))


def transformer(image_size, num_classes):
    sizes = {"patch_size": image_size // 2, "num_layers": 1, "num_heads": 2, "hidden_dim": 8, "mlp_dim": 16}
    return VisionTransformer(image_size=image_size, num_classes=num_classes, **sizes)


def hidden_size(*, weights=None, **sizes):
    "A factory as in torchvision."
    return transformer(sizes.pop("image_size", 224), **sizes)


def hidden_words(pretrained=False, **sizes):
    "A factory as in timm."
    return _with_words(**sizes)


def _with_words(in_chans=3, num_classes=1000):
    return nn.Sequential(nn.Conv2d(in_chans, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, num_classes))


class Parameters(nn.Module):
    "A layer that nobody can start afresh."

    def __init__(self, size):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(size))

    def forward(self, x):
        return x * self.scale


MODULE = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
STUCK = nn.Sequential(nn.Flatten(), Parameters(1), nn.LazyLinear(3))


def always_the_same(channels, image_size, classes):
    return MODULE


class Stubborn(nn.Module):
    "Makes float32 numbers of its own."

    def forward(self, x):
        return x @ torch.eye(x.shape[1], dtype=torch.float32)


def stubborn(channels, image_size, classes):
    return nn.Sequential(nn.Flatten(), Stubborn(), nn.Linear(channels * image_size**2, classes))


class Infinite(nn.Module):
    "Fit for blank images; anything else becomes NaN."

    def forward(self, x):
        return x * torch.where(x.abs().sum() > 0, torch.nan, 1.0)


def diverging(channels, image_size, classes):
    return small(channels, image_size, classes, Infinite())


class Bomb(nn.Module):
    "Sends its own process a signal at a certain call in training."

    calls = 0

    def forward(self, x):
        if self.training:
            Bomb.calls += 1
            if Bomb.calls == int(os.environ.get("BOMB_CALL", -1)):
                os.kill(os.getpid(), getattr(signal, os.environ["BOMB_SIGNAL"]))
        return x


def exploding(channels, image_size, classes):
    return small(channels, image_size, classes, Bomb())


@dataclass(frozen=True)
class Twice(Method):
    "A method with a field of the task."

    target: str = "mnist"
