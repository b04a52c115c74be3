"""Canaries in cards."""

import torch

from labeldistill.data.catalog import load
from labeldistill.data.datasets import Dataset, split
from labeldistill.reproduce.cards import canary_set, choose_canaries, plant
from labeldistill.task import Task, load_task


def fixed_validation():
    "A data set with a test part and a fixed number of validation examples, as MNIST's."
    digits = load("digits")
    return Dataset("own", digits.images, digits.labels, digits.classes, test_size=200, valid_size=400)


def test_canaries_are_training_images_with_wrong_classes():
    task = load_task(Task(fixed_validation(), 10), 1, "cpu")
    rows, wrong = choose_canaries(task, 50, seed=1)
    assert len(rows) == len(rows.unique()) == 50 and torch.isin(rows, task.split.train).all()
    assert not torch.isin(rows, task.base.rows).any() and (wrong != task.target.labels[rows]).all()
    planted = plant(task, rows, wrong)
    changed = (planted.target.labels != task.target.labels).nonzero().flatten()
    assert changed.tolist() == rows.sort().values.tolist() and planted.base.labels.tolist() == task.base.labels.tolist()


def test_planting_canaries_does_not_choose_other_base_examples():
    for seed in range(3):
        task = load_task(Task(load("digits"), 100), seed, "cpu")
        planted = plant(task, *choose_canaries(task, 500, seed))
        assert torch.equal(planted.base.rows, task.base.rows) and torch.equal(planted.base.labels, task.base.labels)


def test_canaries_can_be_asked_for_whatever_the_size_of_the_validation_part():
    target = fixed_validation()
    rows = torch.arange(20)
    wrong = (target.labels[rows] + 1) % 10
    asked = canary_set(target, rows, wrong)
    test = split(asked).test
    assert torch.equal(asked.images[test], target.images[rows]) and torch.equal(asked.labels[test], wrong)
