"""Networks as a user might write them, named on the command line as `user_networks:factory`."""

import os
import signal
from dataclasses import dataclass

import torch
from torch import nn

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
