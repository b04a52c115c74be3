"""When students are looked at, what they see, and which of them train side by side."""

from dataclasses import replace
from functools import partial

import pytest
import torch

from labeldistill.networks.compute import Computation
from labeldistill.networks.network import make_network
from labeldistill.training.evaluation import (
    Evaluation,
    ImageSet,
    _cohort_size,
    candidate_steps,
    evaluate_students,
    fresh_trainer,
)
from labeldistill.training.heads import HEADS
from labeldistill.training.trainer import can_train_together
from labeldistill.training.training_set import TrainingSet, minibatches


def test_students_are_looked_at_where_the_authors_looked():
    few, many = (candidate_steps(count) for count in (100, 101))
    assert (len(few), few[:5], few[-2:]) == (23, [10, 25, 50, 75, 100], [950, 1000])
    assert (many[0], many[-1]) == (10, 1701)


@pytest.mark.parametrize(("count", "size", "steps"), [(10, 10, 1), (7, 3, 200), (100, 50, 64), (100, 50, 245)])
def test_minibatches_are_those_of_one_draw(count, size, steps):
    at_once = torch.rand(steps, count, generator=torch.Generator().manual_seed(3)).argsort(dim=1)[:, :size]
    assert torch.equal(minibatches(count, size, steps, torch.Generator().manual_seed(3)), at_once)


@pytest.mark.parametrize(
    ("head", "optimizer", "order", "rates", "models", "expected"),
    [
        ("bf16", "adam", "random", (), 20, 5),
        ("bf16", "sgd", "random", (), 7, 1),
        ("bf16", "adamw", "random", (), 6, 3),
        ("bf16", torch.optim.Adam, "random", (), 20, 1),  # it might not treat every number by itself
        ("bf16", "adam", "learned", (), 20, 1),
        ("bf16", "adam", "random", (0.1,), 20, 1),
        ("fp32", "adam", "random", (), 20, 1),
    ],
)
def test_students_train_side_by_side_where_each_learns_what_it_would_alone(head, optimizer, order, rates, models, expected):
    made = HEADS["linear"](make_network("lenet", 1, 28, 10), computation=Computation(head, compile=True))
    data = TrainingSet(torch.zeros(4, 1, 28, 28), torch.eye(4), 2, order, rates)
    assert _cohort_size(made, optimizer, data, models) == expected


def test_a_line_tells_what_is_unusual():
    one = Evaluation((80.0,), (80.0,), 10, "linear", "lenet", "adam", 1)
    assert str(one) == "80.0 % (1 x lenet, adam, 10 steps)"
    other = replace(one, accuracies=(80.0, 82.0), head="ridge", precision="bf16")
    assert str(other) == "81.0 ± 1.4 % (2 x lenet, adam, 10 steps, ridge head, bf16)"


def test_students_that_diverge_are_told_of():
    head, images = HEADS["linear"](make_network("mlp", 1, 8, 3)), torch.randint(0, 256, (9, 1, 8, 8), dtype=torch.uint8)
    data, rng = TrainingSet(torch.randn(3, 1, 8, 8), torch.eye(3), 3), partial(torch.optim.SGD, lr=1e30)
    with pytest.warns(UserWarning, match="2 of 2 networks have weights that are NaN or infinite"):
        evaluate_students(head, rng, data, ImageSet(images, torch.arange(9) % 3, torch.Tensor.float), 30, 2, 0, False)


class Branches(torch.nn.Sequential):
    "Looks at the values that it computes."

    def forward(self, images):
        return super().forward(images if images.sum() > -1 else -images)


def test_what_cannot_be_stacked_trains_alone():
    def factory(channels, image_size, classes):
        return Branches(torch.nn.Flatten(), torch.nn.Linear(channels * image_size**2, classes))

    assert not can_train_together(HEADS["linear"](make_network(factory, 1, 8, 3)))
    assert can_train_together(HEADS["ridge"](make_network("convnet", 1, 8, 3)))


@pytest.mark.parametrize("head", HEADS)
def test_students_in_threads_share_no_module(head):
    own = HEADS[head](make_network("lenet", 1, 28, 10), computation=Computation(compile=True))
    first, second = (fresh_trainer(own, "adam", seed) for seed in range(2))
    modules = {id(part.module) for x in (own, first.head, second.head) for part in (x.function, x.tested)}
    assert len(modules) == 6
