"""What is called: tasks, seeds, selections, sizes, students, checkpoints and callbacks through the public functions."""

import inspect
import json
import warnings
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import TensorDataset

from labeldistill import (
    Auto,
    Compute,
    Dataset,
    DatasetDistillation,
    Evaluation,
    Expert,
    InputError,
    Interrupted,
    LabelSolve,
    Ridge,
    Schedule,
    SecondOrder,
    Student,
    Task,
    TrajectoryMatching,
    Unrolled,
    api,
    distill,
    evaluate,
    load,
    load_distilled,
    show,
    train_full,
    true_labels,
)
from labeldistill import task as tasks
from labeldistill.api import _match_classes
from labeldistill.config import METHODS
from labeldistill.data.base import BaseSet
from labeldistill.data.datasets import Normalisation, Split, split
from labeldistill.methods import experts, loop
from labeldistill.methods.checkpoint import Checkpoint, save_tree
from labeldistill.methods.labels import resolve_init
from labeldistill.reproduce.runs import new_run
from labeldistill.task import OUTER_BATCH, load_task, resolve_schedule, shorten
from labeldistill.training.evaluation import ImageSet
from labeldistill.training.ridge import gram_factor


def tiny(channels, image_size, classes):
    hidden = nn.Linear(channels * image_size**2, 24)
    return nn.Sequential(nn.Flatten(), hidden, nn.Tanh(), nn.Linear(24, classes))


CPU = {"compute": Compute("cpu"), "progress": False}
SCHEDULE = ("epochs", "iterations", "outer_batch", "validate_every")
RUN = ("seed", "student", "checkpoint", "resume", "callback")


def quick(base=10, method=Ridge(), target="digits", **options):
    "Labels of three iterations with a tiny network; fields of `Schedule` and `Task` are options."
    lengths = {"outer_batch": 64} | {name: options.pop(name) for name in SCHEDULE if name in options}
    lengths = lengths if "epochs" in lengths else {"iterations": 3} | lengths
    run = {name: options.pop(name) for name in RUN if name in options}
    task = Task(target, base, **{"network": tiny} | options)
    return distill(task, method, schedule=Schedule(**lengths), **run, **CPU)


def test_no_verb_has_more_than_fourteen_parameters():
    assert all(len(inspect.signature(verb).parameters) <= 14 for verb in (distill, evaluate, true_labels, train_full))


# Plain and class-balanced accuracy


class Answers(nn.Module):
    "A network that reads its answer off the first pixel."

    def forward(self, images):
        return nn.functional.one_hot((images[:, 0, 0, 0] * 255).round().long(), 10).float()


def image_set(answers, labels):
    images = torch.as_tensor(answers, dtype=torch.uint8).view(-1, 1, 1, 1)
    return ImageSet(images, torch.as_tensor(labels), Normalisation((0.0,), (1.0,)))


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=50))
def test_accuracies_are_the_share_of_right_answers_and_the_mean_of_those_of_the_classes(pairs):
    answers, labels = zip(*pairs, strict=True)
    asked = image_set(answers, labels)
    plain, balanced = asked.accuracies(Answers())
    right = [a == b for a, b in pairs]
    of_class = [[r for r, b in zip(right, labels, strict=True) if b == c] for c in set(labels)]
    assert plain == asked.accuracy(Answers()) == pytest.approx(100 * sum(right) / len(right))
    assert balanced == pytest.approx(100 * sum(sum(c) / len(c) for c in of_class) / len(of_class))


def test_an_evaluation_reports_both_and_reads_as_one_line():
    evaluation = Evaluation((80.0, 90.0), (50.0, 70.0), 10, "linear", "lenet", "adam", 0)
    record = evaluation.as_dict()
    assert record["accuracy_mean"] == 85 and record["balanced_accuracy_mean"] == 60
    assert record["balanced_accuracy_std"] == pytest.approx(200**0.5)
    assert json.loads(json.dumps(record)) == record
    assert str(evaluation) == "85.0 ± 7.1 % (2 x lenet, adam, 10 steps)"
    assert str(replace(evaluation, loss="mse", ema=0.9)).endswith("10 steps, mse, ema 0.9)")


def test_a_test_states_the_whole_recipe_of_its_students():
    given = Student(head="linear", steps=2, augment="shift", lr_schedule="cosine", ema=0.5)
    evaluation = evaluate(quick(), models=1, student=given, **CPU)
    stated = {name: getattr(evaluation, name) for name in vars(given)}
    assert stated == {"head": "linear", "optimizer": "adam", "order": "random", "loss": "cross-entropy"} | {
        name: value for name, value in vars(given).items() if value is not None
    }
    assert str(evaluation).endswith(", adam, 2 steps, shift, cosine, ema 0.5)")


def test_runs_report_both():
    evaluation = evaluate(quick(), models=2, student=Student(steps=2), **CPU)
    assert len(evaluation.accuracies) == len(evaluation.balanced_accuracies) == 2


def test_imbalance_tells_them_apart():
    digits = load("digits")
    rows = torch.cat([(digits.labels == 0).nonzero().flatten()[:150], (digits.labels == 1).nonzero().flatten()[:20]])
    two = Dataset("two", digits.images[rows], digits.labels[rows], ("zero", "one"))
    test = split(two).test
    zeros = ImageSet(two.images[test], two.labels[test], Normalisation((0.0,), (1.0,)))

    class Zero(nn.Module):
        def forward(self, images):
            return torch.eye(2)[torch.zeros(len(images), dtype=torch.long)]

    plain, balanced = zeros.accuracies(Zero())
    assert plain > 80 and balanced == 50


# The size of the target


@given(st.integers(1, 60), st.integers(1, 20), st.booleans(), st.data())
def test_a_shorter_split_is_the_beginning_of_the_longer_and_keeps_the_test_part(train, valid, counted, data):
    whole = Split(*torch.arange(train + valid + 5).split([train, valid, 5]))
    low, high = (2, train + valid) if counted else (1, train)
    size = data.draw(st.integers(low, high))
    short = shorten(whole, size, counted)
    assert all(torch.equal(a, b[: len(a)]) for a, b in zip(short, whole, strict=True))
    assert len(short.test) == 5 and len(short.train) > 0 and len(short.valid) > 0
    assert len(short.train) + counted * len(short.valid) == size
    for impossible in (low - 1, high + 1):
        with pytest.raises(InputError, match=f"--target-size {impossible}: must be {low} to {high}"):
            shorten(whole, impossible, counted)


def test_a_smaller_training_part_keeps_the_class_proportions():
    digits = load("digits")
    counts = digits.labels[shorten(split(digits), 100, False).train].bincount(minlength=10)
    assert counts.min() >= 8 and counts.max() <= 12


def test_with_epochs_fewer_examples_mean_fewer_iterations():
    runs = [quick(epochs=2, target_size=size) for size in (None, 256, 64)]
    assert [run.settings["iterations"] for run in runs] == [2 * 20, 2 * 4, 2 * 1]
    assert [run.settings["training examples"] for run in runs] == [1258, 256, 64]
    assert len({run.settings["validation examples"] for run in runs}) == 1


def test_with_iterations_validation_examples_are_counted():
    run = quick(iterations=3, target_size=120)
    assert run.settings["iterations"] == 3
    assert run.settings["training examples"] + run.settings["validation examples"] == run.task["target_size"] == 120


def test_only_the_examples_that_count_are_seen():
    digits = load("digits")
    run = quick(target=digits, target_size=64, epochs=1)
    seen = {*split(digits).train[:64].tolist(), *split(digits).valid.tolist()}
    assert set(run.rows.tolist()) <= seen
    unseen = torch.tensor(sorted(set(range(len(digits))) - seen))
    digits.images[unseen] = 255 - digits.images[unseen]
    assert torch.equal(quick(target=digits, target_size=64, epochs=1).labels, run.labels)


def test_an_iteration_takes_1024_real_images_unless_told_and_an_expert_has_no_such_iterations():
    assert quick(outer_batch=None, iterations=1).settings["outer batch"] == OUTER_BATCH == 1024
    with pytest.raises(InputError, match="--outer-batch: method 'expert' has no outer loop; expected no schedule"):
        distill(Task("digits", network=tiny), Expert(), schedule=Schedule(outer_batch=64), **CPU)


@pytest.mark.parametrize(("method", "least"), [(Unrolled(), 600), (Ridge(), 800)])
def test_few_data_do_not_mean_few_iterations(method, least):
    examples = len(load_task(Task("digits", network=tiny), device="cpu").split.train)
    assert examples == 1258
    assert resolve_schedule(Schedule(), method, examples).iterations == least  # of ridge 400 epochs of two
    assert resolve_schedule(Schedule(epochs=3), method, examples).iterations == 3 * -(-1258 // 1024)
    assert resolve_schedule(Schedule(iterations=7), method, examples).iterations == 7


# Students

HALF = {"auto": "fp32", "fp32": "fp32", "bf16": "bf16"}  # what is asked for, and what it is


@pytest.fixture(scope="module")
def labels():
    return quick()


def test_networks_are_tested_in_float32_however_many_there_are(labels, monkeypatch):
    monkeypatch.setattr("labeldistill.networks.compute.bfloat16_is_native", lambda device: True)
    network = load_task(Task("digits", 10, network=tiny), device="cpu").network
    for calls in (1, 10**6):
        assert tasks.testing_computation(network, torch.device("cpu"), calls, Compute(compile=False)).precision == "fp32"
    found = {x: evaluate(labels, models=1, student=Student(steps=2), compute=Compute("cpu", x), progress=False) for x in HALF}
    assert {x: evaluation.precision for x, evaluation in found.items()} == HALF


def test_the_layer_that_was_named_is_remembered():
    learned = quick(last_layer="3")
    assert learned.last_layer == "3"
    seen, build = [], api.network_for

    def note(*arguments):
        seen.append(arguments)
        return build(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(api, "network_for", note)
        for network, layer in ((None, "3"), (learned.network, "3"), (tiny, "3"), ("lenet", None)):
            evaluate(learned, network=network, models=1, **CPU)
            assert seen.pop()[2] == layer


@pytest.mark.parametrize(
    "options, message",
    [
        ({"student": Student(order="learned")}, "--order learned: none was learned here; expected random"),
        ({"student": Student(optimizer="own")}, "--optimizer own: no step sizes were learned here; expected adam, sgd, adamw"),
        ({"student": Student(optimizer=lambda parameters: None)}, "--optimizer: made a NoneType; expected"),
        ({"student": Student(optimizer=torch.optim.LBFGS)}, "--optimizer: made a LBFGS; expected .* without a closure"),
        ({"seed": "a"}, "--seed 'a': expected a whole number"),
        ({"models": True}, "--models True: expected a whole number"),
        ({"models": 0}, "--models 0: must be at least 1"),
        ({"last_layer": "nope"}, r"--last-layer 'nope': linear layers with 10 outputs are \['3'\]$"),
        ({"target": torch.zeros(3)}, "--target: is a Tensor; expected a known name"),
        ({"target": "letters"}, "--target 'letters': has 26 classes, the labels 10$"),
        ({"source": "letters"}, "--source 'letters': is not the data that the labels' base examples come from$"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(options, message, labels):
    with pytest.raises(InputError, match=message):
        evaluate(labels, **{"models": 1} | CPU | options)


def test_labels_of_a_network_without_a_name_say_so():
    learned = quick(network=lambda *size, **sizes: tiny(*size, **sizes))
    with pytest.raises(InputError, match=r"cannot be found by name.* \(the labels' own; give it again: network="):
        evaluate(learned, models=1, **CPU)


def test_students_of_the_test_are_those_of_the_labels_unless_told(bars_npz):
    learned = quick(6, target=bars_npz, student=Student("linear", "sgd", steps=7))
    assert learned.student == Student("linear", "sgd", "random", 7, loss="cross-entropy")
    own = evaluate(learned, models=2, **CPU)
    assert (own.head, own.optimizer, own.steps, own.order) == ("linear", "sgd", 7, "random")
    other = evaluate(learned, models=2, student=Student(optimizer="adamw", steps=3), **CPU)
    assert (other.head, other.optimizer, other.steps) == ("linear", "adamw", 3)


@pytest.mark.parametrize("init", [None, Expert(max_iterations=10)])
def test_ridge_students_have_the_numbers_of_the_ridge_method(bars_npz, init, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "labeldistill.training.heads.gram_factor", lambda features, lam: seen.append(lam) or gram_factor(features, lam)
    )
    steps, plain = Student(steps=2), {"compute": Compute("cpu", compile=False), "progress": False}
    learned = quick(6, Ridge(lam=0.25, init=init), bars_npz, student=steps)
    assert seen and {*seen} == {0.25}  # in validation, and where experts' labels were chosen
    seen.clear()
    evaluate(learned, models=1, **plain)
    assert seen == [0.25] * 2
    seen.clear()
    evaluate(quick(6, SecondOrder(), bars_npz, student=replace(steps, head="ridge")), models=1, **plain)
    assert {*seen} == {1.0}


def test_other_numbers_of_the_ridge_layer_make_other_students(bars_npz):
    learned = quick(6, target=bars_npz, iterations=1)
    other = replace(learned, method={"ridge": {"lam": 30.0, "pseudo_step": 0.5, "scale_lr": 0.1}})
    early = replace(learned, method={"ridge": {"learn": "labels"}})  # a file of version 0.1 does not say
    curves = [api.evaluate(x, models=1, student=Student(steps=3), **CPU) for x in (learned, early, other)]
    assert curves[0] == curves[1]
    heads = [api.make_head("ridge", load_task(Task(bars_npz, 6)).network, ridge=x.method["ridge"]) for x in (learned, other)]
    assert [(head.lam, head.pseudo_step, head.scale_lr) for head in heads] == [(1.0, 0.01, 0.01), (30.0, 0.5, 0.1)]


@pytest.mark.parametrize("number", [None, "1", 0, [1.0]], ids=repr)
def test_numbers_of_the_ridge_layer_that_are_none_are_refused(bars_npz, number):
    learned = replace(quick(6, target=bars_npz, iterations=1), method={"ridge": {"lam": number}})
    with pytest.raises(InputError, match="--lam"):
        evaluate(learned, models=1, student=Student(steps=3), **CPU)


# Seeds and selection


@pytest.mark.parametrize(
    ("option", "run"),
    [
        ("seed", lambda: distill("digits", seed=1.5)),
        ("seed", lambda: true_labels("digits", seed=1.5)),
        ("seed", lambda: train_full("digits", seed=1.5)),
        ("base-seed", lambda: Task("digits", base_seed="a")),
        ("base-examples", lambda: Task("digits", True)),
    ],
)
def test_seeds_and_numbers_are_whole(option, run):
    with pytest.raises(InputError, match=f"--{option} .*: expected a whole number"):
        run()


def test_the_seed_of_the_base_examples_stands_apart():
    one, two, three = (quick(seed=seed, base_seed=base) for seed, base in ((1, None), (2, 1), (1, 5)))
    assert torch.equal(one.rows, two.rows) and not torch.equal(one.labels, two.labels)
    assert not torch.equal(one.rows, three.rows)
    assert [run.task["base_seed"] for run in (one, two, three)] == [None, 1, 5]
    assert [run.seed for run in (one, two, three)] == [1, 2, 1]


@pytest.mark.parametrize("method", [Ridge(), SecondOrder()])
def test_labels_are_learned_for_selected_examples(method, tmp_path):
    run = quick(10, method, selection="easy")
    run.save(tmp_path / "labels.safetensors")
    assert load_distilled(tmp_path / "labels.safetensors").task["selection"] == "easy"
    assert not torch.equal(run.rows, quick(10, method).rows)


def test_a_checkpoint_of_another_selection_is_refused(tmp_path):
    quick(checkpoint=tmp_path)
    with pytest.raises(InputError, match="base rows"):
        quick(checkpoint=tmp_path, resume=True, selection="easy")


def test_unknown_selections_are_refused():
    with pytest.raises(InputError, match="--selection 'best': expected random, optimised"):
        Task("digits", 10, selection="best")


def test_a_shortened_target_named_as_source_lends_no_images_from_outside():
    learned = quick(20, source="digits", target_size=30)
    assert set(learned.rows.tolist()) <= set(split(load("digits")).train[:30].tolist())


# True labels


def test_true_labels_are_those_of_the_images_that_distill_would_use():
    for options in ({}, {"selection": "hard"}, {"base_seed": 5}, {"source": "letters"}):
        true, learned = true_labels(Task("digits", 10, network=tiny, **options)), quick(iterations=1, **options)
        assert torch.equal(true.rows, learned.rows) and torch.equal(true.images, learned.images)
        assert torch.equal(true.base_labels, learned.base_labels)
    assert not torch.equal(true_labels(Task("digits", 10), seed=1).rows, true_labels(Task("digits", 10), seed=2).rows)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_true_labels_are_smoothed(smoothing, tmp_path):
    true = true_labels(Task("digits", 20), smoothing)
    assert torch.allclose(true.labels, (1 - smoothing) * torch.eye(10)[true.base_labels] + smoothing / 10)
    true.save(tmp_path / "true.safetensors")
    again = load_distilled(tmp_path / "true.safetensors")
    assert again.method == {"true": {"smoothing": smoothing}} and again.student.loss == "cross-entropy"
    assert again.student == replace(Student("linear", "adam", "random"), loss="cross-entropy")
    assert torch.equal(again.labels, true.labels)


def test_true_labels_of_another_source_are_numbered_by_first_appearance():
    true = true_labels(Task("digits", 8, source="letters"))
    seen = list(dict.fromkeys(true.base_labels.tolist()))
    assert true.labels.argmax(1).tolist() == [seen.index(label) for label in true.base_labels.tolist()]
    with pytest.raises(InputError, match="the base examples have 26 classes, more than the 10 of 'digits'"):
        true_labels(Task("digits", 300, source="letters"))


@pytest.mark.parametrize(
    ("smoothing", "message"),
    [
        (1, "1: must be below 1$"),
        (-0.1, "-0.1: must be at least 0$"),
        (float("nan"), "nan: expected a number"),
        (True, "True: expected a number"),
        ("much", "'much': expected a number"),
    ],
)
def test_what_is_no_smoothing_is_refused(smoothing, message):
    with pytest.raises(InputError, match=f"--label-smoothing {message}"):
        true_labels("digits", smoothing)


def test_steps_of_true_labels_are_chosen_on_validation_unless_given(bars_npz, monkeypatch):
    monkeypatch.setattr("labeldistill.training.evaluation.candidate_steps", lambda count: [2, 4])
    true = true_labels(Task(bars_npz, 6))
    assert true.student.steps is None and evaluate(true, models=1, **CPU).steps in (2, 4)
    assert evaluate(true, models=1, student=Student(steps=3), **CPU).steps == 3


def test_a_source_that_is_the_target_by_name_keeps_its_true_classes(bars_npz):
    within, named = (true_labels(Task(bars_npz, 6, source, balanced=True)) for source in (None, bars_npz))
    assert torch.equal(within.labels, named.labels) and torch.equal(within.rows, named.rows)


# Fewer examples than classes


@pytest.mark.parametrize("method", [Ridge(), SecondOrder()])
@pytest.mark.parametrize(("count", "network"), [(10, "lenet"), (20, tiny)])
def test_fewer_examples_than_classes(method, count, network):
    run = quick(count, method, "letters", source="digits", iterations=5, network=network)
    assert run.labels.shape == (count, 26)
    assert torch.allclose(run.labels.sum(1), torch.ones(count))
    assert evaluate(run, models=1, student=Student(steps=5), **CPU).accuracies[0] >= 0
    within = quick(count, method, "letters", balanced=False)
    assert within.labels.shape == (count, 26)


def test_fewer_examples_than_classes_learn_more_classes_than_there_are_examples():
    run = quick(10, Ridge(), "letters", balanced=False, iterations=150, seed=1)
    chance = 100 / 26
    assert evaluate(run, models=1, **CPU).accuracy_mean > 2 * chance


# Where data come from


def test_labels_for_standard_networks_are_validated_with_them(bars_npz):
    learned = quick(6, target=bars_npz, student=Student(head="linear"))
    assert learned.student.head == "linear"


def test_moved_data_given_as_target_supply_the_base_images_too(bars_npz, tmp_path):
    here, there = tmp_path / "here.npz", tmp_path / "there.npz"
    one = {"models": 1, "student": Student(steps=3), "network": tiny, **CPU}
    here.write_bytes(bars_npz.read_bytes())
    learned = quick(6, target=here)
    learned.save(tmp_path / "labels.safetensors")
    here.rename(there)
    with pytest.raises(InputError, match="--target"):
        evaluate(tmp_path / "labels.safetensors", **one)
    assert evaluate(tmp_path / "labels.safetensors", there, **one) == evaluate(learned, there, **one)


def test_a_moved_source_is_given(bars_npz, tmp_path, make_dataset):
    here, there = tmp_path / "here.npz", tmp_path / "there.npz"
    one = {"models": 1, "student": Student(steps=3), "network": tiny, **CPU}
    here.write_bytes(bars_npz.read_bytes())
    target = make_dataset(seed=1)
    learned = quick(6, target=target, source=here)
    learned.save(tmp_path / "labels.safetensors")
    here.rename(there)
    with pytest.raises(InputError, match=r"the labels' source is .*here\.npz': a place that a file names is not opened"):
        evaluate(tmp_path / "labels.safetensors", target, **one)
    with pytest.raises(InputError, match="--source 'bars': is not the data that the labels' base examples come from"):
        evaluate(tmp_path / "labels.safetensors", target, source=target, **one)
    assert evaluate(tmp_path / "labels.safetensors", target, source=there, **one) == evaluate(learned, **one)


def test_data_in_memory_are_known_by_their_content(bars):
    forms = {
        "tensors": (bars.images, bars.labels),
        "arrays": (bars.images.permute(0, 2, 3, 1).numpy(), bars.labels.numpy()),
        "items": TensorDataset(bars.images, bars.labels),
    }
    learned = [quick(6, target=form) for form in forms.values()]
    assert len({one.target.name for one in learned}) == 1 and len({one.target.sha256 for one in learned}) == 1
    assert all(torch.equal(one.labels, learned[0].labels) for one in learned)
    assert all(one.task["target"] == {"sha256": one.target.sha256} for one in learned)
    across = [quick(6, target="digits", source=form, image_size=28) for form in (bars, forms["items"])]
    assert torch.equal(across[0].labels, across[1].labels) and across[0].source.sha256 == across[1].source.sha256


def test_labels_of_data_in_memory_are_evaluated_as_long_as_these_are_there(bars):
    learned, one = quick(6, target=(bars.images, bars.labels)), {"models": 1, "student": Student(steps=3), **CPU}
    assert evaluate(learned, **one) == evaluate(learned, (bars.images, bars.labels), **one)
    assert evaluate(true_labels(Task(bars, 6)), **one).accuracies


def counting(monkeypatch, module, name):
    "The calls of a module's function from now on, each with its arguments."
    calls, function = [], getattr(module, name)
    monkeypatch.setattr(module, name, lambda *given: (calls.append(given), function(*given))[1])
    return calls


def test_an_evaluation_takes_the_test_part_alone_and_the_validation_part_if_it_chooses_steps(bars, monkeypatch, few_steps):
    labels, made, parts = true_labels(Task(bars, 6)), counting(monkeypatch, api, "image_set"), split(bars)
    evaluate(labels, models=1, student=Student(steps=3), **CPU)
    assert [rows.tolist() for _, rows, *_ in made] == [parts.test.tolist()]
    evaluate(labels, models=1, **CPU)
    assert [rows.tolist() for _, rows, *_ in made[1:]] == [parts.valid.tolist(), parts.test.tolist()]


def test_a_task_splits_its_target_once(bars, monkeypatch):
    splits = counting(monkeypatch, tasks, "split")
    load_task(Task(bars, 6), device="cpu")
    assert len(splits) == 1


def test_base_classes_are_numbered_by_their_first_appearance(bars):
    many = Dataset("many", torch.zeros(6, 1, 4, 4, dtype=torch.uint8), torch.tensor([4, 2, 4, 0, 2, 4]), tuple("abcde"))
    assert tasks.target_classes(BaseSet(many, torch.tensor([1, 0, 3, 2, 4])), bars).tolist() == [0, 1, 2, 1, 0]


def test_data_below_the_data_root_keep_a_name_that_holds_elsewhere(bars_npz, tmp_path, monkeypatch):
    (tmp_path / "bars.npz").write_bytes(bars_npz.read_bytes())
    monkeypatch.setenv("LABELDISTILL_DATA", str(tmp_path))
    assert load("bars.npz").name == "bars.npz"


def test_gray_and_color_go_together_when_converted(bars_npz):
    learned = quick(5, target=bars_npz, source="letters", channels=3, image_size=28, iterations=2, outer_batch=8)
    assert learned.images.shape == (5, 3, 28, 28) and learned.target.channels == 3


# Callbacks and checkpoints


class Stop(Exception):
    "The run is killed."


SHORT = {
    "ridge": Ridge(monitor_window=3),
    "second-order": SecondOrder(init="smoothed"),
    "unrolled": Unrolled(window=3, init=Expert(iterations=5, temperature=2)),
    "dd": DatasetDistillation(learn="both"),
    "matching": TrajectoryMatching(student_steps=3, experts=1, trajectory_every=2, segment=1),
    "expert": Expert(iterations=10, ensemble=2, temperature=2),
    "label-solve": LabelSolve(networks=1, lam=0.1, scale=1.0),
}


def test_each_method_is_stopped_below():
    assert SHORT.keys() | {"auto"} == METHODS.keys()  # auto becomes another one


@pytest.mark.parametrize("name", SHORT)
def test_a_run_that_is_stopped_at_a_validation_and_resumed_ends_like_one_that_is_not(name, bars_npz, tmp_path):
    schedule = Schedule() if name in ("expert", "label-solve") else Schedule(iterations=12, outer_batch=32, validate_every=1)
    heard, resumed, steps = [], [], Student(steps=4)
    task = Task(bars_npz, 6, network="user_networks:plain")

    def run(callback, **options):
        return distill(task, SHORT[name], student=steps, schedule=schedule, callback=callback, **options, **CPU)

    def stop(event):
        if event.iteration >= 6 or name in ("expert", "label-solve"):
            raise Stop

    whole = run(heard.append)
    with pytest.raises(Stop):
        run(stop, checkpoint=tmp_path / "run")
    again = run(resumed.append, checkpoint=tmp_path / "run", resume=True)
    assert torch.equal(again.labels, whole.labels) and torch.equal(again.inputs, whole.inputs)
    assert (again.student, again.settings, again.resets) == (whole.student, whole.settings, whole.resets)
    assert again.validation_accuracy == whole.validation_accuracy
    assert whole.validation_accuracy == pytest.approx(max(event.accuracy for event in heard))
    told = [[(event.iteration, event.accuracy) for event in events] for events in (heard, resumed)]
    assert told[1] and told[0][-len(told[1]) :] == told[1]
    assert all(torch.equal(a.labels, b.labels) for a, b in zip(heard[-len(resumed) :], resumed, strict=True))
    assert all(event.labels.shape == whole.labels.shape for event in heard)


def test_a_callback_is_told_the_labels_as_they_are_then(bars_npz):
    heard = []
    learned = quick(6, target=bars_npz, iterations=9, validate_every=1, outer_batch=32, callback=heard.append)
    assert [event.iteration for event in heard] == [3, 6, 9]
    best = learned.settings["best iteration"]
    assert torch.equal(next(event.labels for event in heard if event.iteration == best), learned.labels)


# Recipes and starts


@pytest.mark.parametrize("recipe", [{"optimizer": "own"}, {"optimizer": "average"}, {"order": "learned"}, {"order": "across"}])
def test_recipes_of_learned_step_sizes_are_refused_where_none_are_learned_before_any_work(recipe, monkeypatch):
    monkeypatch.setattr("labeldistill.api.learn", lambda *given: pytest.fail("work began"))
    with pytest.raises(InputError, match=r"none was learned here|no step sizes were learned here"):
        quick(student=Student(**recipe))


@pytest.mark.parametrize(
    ("recipe", "order", "rates"),
    [
        ({}, "learned", 3),
        ({"optimizer": "own"}, "learned", 3),
        ({"optimizer": "average", "order": "across"}, "across", 1),
        ({"optimizer": "adam"}, "learned", 0),
    ],
)
def test_students_of_learned_images_are_validated_as_they_are_tested(recipe, order, rates, monkeypatch):
    seen, train = [], loop.train
    monkeypatch.setattr(loop, "train", lambda student, data, *given: seen.append(data) or train(student, data, *given))
    labels = quick(method=DatasetDistillation(inner_epochs=3), iterations=1, student=Student(**recipe))
    assert {(data.order, len(data.rates)) for data in seen} == {(order, rates)} and len(labels.rates) == 3
    assert labels.student.optimizer == recipe.get("optimizer", "own") and labels.student.order == order


def test_labels_of_an_optimizer_function_are_tested_with_it_and_ask_for_it_once_they_were_saved(tmp_path):
    labels = quick(student=Student(optimizer=partial(torch.optim.SGD, lr=0.1)))
    assert evaluate(labels, models=1, **CPU).optimizer.startswith("partial(torch.optim")
    labels.save(tmp_path / "labels.safetensors")
    with pytest.raises(InputError, match=r"--optimizer partial\(.*give it again \(student=Student\(optimizer="):
        evaluate(tmp_path / "labels.safetensors", models=1, network=tiny, **CPU)
    again = evaluate(tmp_path / "labels.safetensors", models=1, network=tiny, student=Student(optimizer="sgd"), **CPU)
    assert again.optimizer == "sgd"


def test_labels_begin_with_a_distilled_data_set_or_with_an_expert_by_its_name():
    given, task = quick(), load_task(Task("digits", 10, network=tiny))
    assert torch.equal(resolve_init(given, task), given.labels) and resolve_init("expert", task) == Expert()
    assert quick(method=Ridge(init=given)).labels.shape == given.labels.shape


def test_labels_of_other_images_are_no_start_of_these_in_memory_either():
    with pytest.raises(InputError, match=r"--init: its labels are of other images; expected labels of these base examples$"):
        quick(method=Ridge(init=quick(base_seed=7)))


def test_a_distilled_data_set_to_begin_with_is_known_by_its_labels(tmp_path):
    plain, smoothed = (true_labels(Task("digits", 10, network=tiny), smoothing) for smoothing in (0.0, 0.5))
    quick(method=Ridge(init=plain), checkpoint=tmp_path / "run")
    with pytest.raises(InputError, match="init"):
        quick(method=Ridge(init=smoothed), checkpoint=tmp_path / "run", resume=True)


def test_labels_to_begin_with_bring_no_graph():
    start = torch.full((10, 10), 0.1, requires_grad=True)
    assert not quick(method=Unrolled(window=2, init=start)).labels.requires_grad


def test_solved_labels_to_begin_with_are_probabilities_where_labels_are():
    task, solved = Task("digits", 10, network=tiny), LabelSolve(networks=1, label_space="probabilities")
    common = {"student": Student(loss="mse", steps=20), **CPU}
    expected = distill(task, solved, **common).labels
    learned = Unrolled(window=2, init=LabelSolve(networks=1), label_space="probabilities", label_lr=1e-9)
    found = distill(task, learned, schedule=Schedule(iterations=1), **common).labels
    torch.testing.assert_close(found, expected.clamp(min=1e-3) / expected.clamp(min=1e-3).sum(1, keepdim=True), atol=1e-5, rtol=0)
    with pytest.raises(InputError, match="--solve-label-space real: labels must be probabilities here"):
        distill(task, replace(learned, init=LabelSolve(networks=1, label_space="real")), **common)


@contextmanager
def made_on_meta():
    torch.set_default_device("meta")
    try:
        yield
    finally:
        torch.set_default_device(None)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, made_on_meta])
def test_networks_learn_whatever_mode_they_are_called_in(mode):
    task = Task("digits", 10, network=tiny, selection="herding")
    with mode():
        quick()
        found = evaluate(true_labels(task, **CPU), models=1, student=Student(steps=20), **CPU)
        full = train_full(Task("digits", network=tiny), epochs=1, **CPU)
    assert found.accuracies == evaluate(true_labels(task, **CPU), models=1, student=Student(steps=20), **CPU).accuracies
    assert full.accuracy > 25


def test_an_optimizer_of_yours_needs_no_hash():
    @dataclass
    class Sgd:
        lr: float

        def __call__(self, parameters):
            return torch.optim.SGD(parameters, self.lr)

    labels = quick(student=Student(optimizer=Sgd(0.1)))
    assert len(evaluate(labels, models=2, **CPU).accuracies) == 2


def test_paths_may_begin_at_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    labels = quick(checkpoint="~/run")
    labels.save("~/labels.safetensors")
    labels.to_npz("~/labels.npz")
    show(labels, "~/labels.png")
    assert torch.equal(load_distilled("~/labels.safetensors").labels, labels.labels)
    again = quick(method=Ridge(init="~/labels.safetensors"), checkpoint="~/run2")
    assert torch.equal(again.labels, quick(method=Ridge(init=labels)).labels)
    assert {path.name for path in tmp_path.iterdir()} >= {"run", "run2", "labels.safetensors", "labels.npz", "labels.png"}


def test_examples_that_are_taken_out_are_copies():
    labels = quick()
    before = labels.inputs.clone(), labels.labels.clone()
    for part in labels[0]:
        part.zero_()
    assert torch.equal(labels.inputs, before[0]) and torch.equal(labels.labels, before[1])


@pytest.mark.parametrize(
    ("init", "message"),
    [
        (Ridge(), "--init ridge: labels begin as those of expert, label-solve"),
        (["a"], "--init: is a list"),
        (torch.eye(3), "--init: labels are"),
    ],
)
def test_starts_that_are_none_are_refused(init, message):
    with pytest.raises(InputError, match=message):
        quick(method=Ridge(init=init))


@pytest.mark.parametrize(
    ("name", "given"), [("student", "ridge"), ("schedule", 5), ("compute", "cpu"), ("callback", 5), ("checkpoint", "")]
)
def test_settings_of_another_kind_are_refused(name, given):
    with pytest.raises(InputError, match=rf"{name}.*; expected|--{name} '': expected"):
        distill("digits", Ridge(), **{name: given})


@pytest.mark.parametrize("make", [lambda: Task(5, network=5), lambda: Expert(network=5), lambda: Student(head=torch.zeros(3))])
def test_fields_of_another_kind_are_refused_in_one_line(make):
    with pytest.raises(InputError, match=r"--(network|expert-network|head)") as caught:
        make()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("labels", [5, None, torch.eye(10)])
def test_what_are_no_labels_is_refused(labels):
    with pytest.raises(InputError, match=r"labels: is a .*; expected a DistilledDataset"):
        evaluate(labels)


def test_learned_images_come_from_no_source():
    images = quick(method=Ridge(learn="images"))
    with pytest.raises(InputError, match="--source: these images were learned"):
        evaluate(images, source="digits")


@pytest.mark.parametrize("unused", [{"source": "letters"}, {"target_size": 100}, {"balanced": False}, {"selection": "easy"}])
def test_full_training_refuses_what_it_does_not_use(unused):
    option = next(iter(unused)).replace("_", "-")
    with pytest.raises(InputError, match=f"--{option}: not used here"):
        train_full(Task("digits", **unused), epochs=1, **CPU)


def test_base_examples_of_a_smaller_target_depend_on_no_schedule():
    rows = [quick(10, target_size=300, **length).rows.tolist() for length in ({"iterations": 1}, {"epochs": 1})]
    assert rows[0] == rows[1] == true_labels(Task("digits", 10, target_size=300)).rows.tolist()


def test_no_progress_is_no_progress(capsys, monkeypatch):
    monkeypatch.setattr("labeldistill.training.selection._learning_curve", lambda *given: torch.zeros(1))
    distill(Task("digits", 10, selection="optimised", network=tiny), Ridge(), schedule=Schedule(iterations=1), **CPU)
    assert capsys.readouterr().err == ""


def test_experts_that_a_killed_run_left_are_not_those_of_another_network(tmp_path):
    def stop(event):
        raise Stop

    method = Unrolled(init=Expert(iterations=5, temperature=1.0))
    with pytest.raises(Stop):
        quick(method=method, iterations=1, checkpoint=tmp_path, callback=stop)
    (tmp_path / "checkpoint.safetensors").unlink(missing_ok=True)
    assert (tmp_path / "experts.safetensors").exists()
    with pytest.raises(InputError, match=r"experts\.safetensors' was made with network = .*tiny, not lenet"):
        quick(method=method, iterations=1, checkpoint=tmp_path, resume=True, network="lenet")


# Another target


def of_classes(bars, *classes, changed=1):
    "The same images with other names of classes, and one pixel changed, so that they are other data."
    images = bars.images.clone()
    images[0, 0, 0, 0] ^= changed
    return replace(bars, name="other", images=images, classes=classes)


def test_classes_in_another_order_are_put_into_that_of_the_labels(bars):
    labels, one = quick(6, target=bars), {"models": 1, "student": Student(steps=30), **CPU}
    a, b, c = bars.classes
    straight = evaluate(labels, of_classes(bars, a, b, c), **one)
    turned = replace(of_classes(bars, c, a, b), labels=(bars.labels + 1) % 3)
    assert evaluate(labels, turned, **one).accuracies == straight.accuracies
    assert _match_classes(turned, bars.classes, False).labels.tolist() == bars.labels.tolist()


def test_classes_of_other_names_go_by_position_only_where_that_is_said(bars):
    labels, one = quick(6, target=bars), {"models": 1, "student": Student(steps=3), **CPU}
    a, b, c = bars.classes
    other = of_classes(bars, a, b, "z")
    with pytest.raises(InputError, match=f"--target 'other': class 2 is 'z', that of the labels '{c}'; expected the same names"):
        evaluate(labels, other, **one)
    found = evaluate(labels, other, match_classes_by_position=True, **one)
    assert found.tested_on == "other data: other" and str(found).endswith("3 steps, ridge head, other data: other)")


def test_the_labels_own_target_at_another_place_is_told_apart_from_other_data(bars_npz, tmp_path):
    labels, one = quick(6, target=bars_npz), {"models": 1, "student": Student(steps=3), **CPU}
    (tmp_path / "moved.npz").write_bytes(bars_npz.read_bytes())
    assert evaluate(labels, **one).tested_on == ""
    assert evaluate(labels, tmp_path / "moved.npz", **one).tested_on == "the labels' own test part"


def test_fewer_images_of_the_same_files_are_not_taken_for_the_labels_own(bars_npz):
    resized = {"image_size": 12}  # so that the files' hash counts, not only the pixels'
    labels, one = quick(6, target=bars_npz, **resized), {"models": 1, "student": Student(steps=3), **CPU}
    whole = load(bars_npz, image_size=12)
    assert evaluate(labels, whole, **one).tested_on == "the labels' own test part"
    less = replace(whole, images=whole.images[::2], labels=whole.labels[::2], test_size=0, name="less")
    assert evaluate(labels, less, source=bars_npz, **one).tested_on == "other data: less"


def test_the_same_images_under_other_names_of_classes_are_not_taken_for_the_labels_own(bars):
    labels, one = quick(6, target=bars), {"models": 1, "student": Student(steps=3), **CPU}
    with pytest.raises(InputError, match="--match-classes-by-position"):
        evaluate(labels, of_classes(bars, *bars.classes[:2], "z", changed=0), **one)
    with pytest.raises(InputError, match="holds the labels' own images under other names of classes; expected"):
        evaluate(labels, of_classes(bars, *reversed(bars.classes), changed=0), **one)
    unnamed = (bars.images, bars.labels)
    assert evaluate(labels, unnamed, **one).tested_on == "the labels' own test part"


def test_code_that_a_file_names_is_not_run_unless_the_user_names_it_too(tmp_path, monkeypatch):
    (tmp_path / "planted.py").write_text(f"open({str(tmp_path / 'trace')!r}, 'w')\nfrom labeldistill import LeNet as net\n")
    monkeypatch.syspath_prepend(tmp_path)
    one = {"models": 1, "student": Student(steps=1), **CPU}
    labels = replace(quick(network="lenet"), network="planted:net", method={"planted:Method": {}})
    labels.save(tmp_path / "labels.safetensors")
    read = load_distilled(tmp_path / "labels.safetensors")
    with pytest.raises(InputError, match=r"'planted:net': code that a file names is not run; .* with --network"):
        evaluate(tmp_path / "labels.safetensors", **one)
    assert repr(read) and evaluate(read, network="lenet", **one).network == "lenet" and not (tmp_path / "trace").exists()
    assert evaluate(read, network="planted:net", **one).network == "planted:net" and (tmp_path / "trace").exists()


# What a callback stops


@pytest.mark.parametrize("method", [Ridge(), Expert(iterations=5, temperature=1.0)], ids=["ridge", "expert"])
def test_a_callback_that_stops_the_run_keeps_what_it_was_told(bars, method):
    def stop(event):
        told.append(event)
        raise KeyboardInterrupt

    told, length = [], Schedule() if isinstance(method, Expert) else Schedule(iterations=4, outer_batch=16, validate_every=1)
    with pytest.raises(Interrupted) as stopped:
        distill(Task(bars, 6, network=tiny), method, student=Student(steps=30), schedule=length, callback=stop, **CPU)
    assert torch.equal(stopped.value.labels.labels, told[0].labels) and len(told) == 1
    assert stopped.value.labels.validation_accuracy == told[0].accuracy


# Numbers


def test_seeds_may_be_numpys_and_have_limits(bars, tmp_path):
    labels = true_labels(Task(bars, 6, network=tiny), seed=np.int64(3))
    labels.save(tmp_path / "labels.safetensors")
    assert load_distilled(tmp_path / "labels.safetensors").seed == 3
    found = evaluate(labels, models=np.int64(1), seed=np.int64(3), student=Student(steps=2), **CPU)
    assert json.loads(json.dumps(found.as_dict()))["seed"] == 3
    for seed in (2**63, 10**400):
        with pytest.raises(InputError, match=r"^--seed [0-9]+: must be at most 9223372036854775807$"):
            true_labels(Task(bars, 6, network=tiny), seed=seed)


def test_balanced_accuracy_of_balanced_classes_is_the_plain_one():
    labels = torch.arange(9).repeat(30)
    images = ImageSet(torch.zeros(270, 1, 2, 2, dtype=torch.uint8), labels, Normalisation((0.0,), (1.0,)))
    plain, balanced = images.accuracies(lambda x: torch.eye(9)[torch.zeros(len(x), dtype=torch.int64)])
    assert balanced == pytest.approx(plain, abs=1e-12)


# Other data that are not new


def test_base_images_in_the_test_part_are_told(bars_npz, distilled):
    data = load(str(bars_npz))
    known = replace(data, images=data.images.index_copy(0, split(data).test[:6], distilled.images))
    with pytest.warns(UserWarning, match="base images are in the test part, so the accuracy is not that of new images"):
        evaluate(distilled, known, models=1, student=Student(steps=1), **CPU)
    with warnings.catch_warnings(action="error"):
        evaluate(distilled, data, models=1, student=Student(steps=1), **CPU)


def test_base_images_of_a_source_that_holds_the_test_part_are_told(bars):
    source = replace(bars, name="other", images=bars.images[split(bars).test], labels=bars.labels[split(bars).test])
    with pytest.warns(UserWarning, match="base images are in the test part"):
        evaluate(true_labels(Task(bars, 6, source=source, network=tiny)), models=1, student=Student(steps=1), **CPU)


def test_names_that_no_file_can_hold_are_refused_before_any_work(bars, monkeypatch):
    monkeypatch.setattr(api, "learn", None)
    for name in ("a\tb", "a\u202eb", "x" * 1001):
        with pytest.raises(InputError, match=r"^data set 'bars': its name or that of a class is a word that is too long"):
            distill(Task(replace(bars, classes=(name, "b", "c")), 6, network=tiny), Ridge(), **CPU)


# The method that is chosen


def test_without_a_method_it_is_the_one_that_fits_the_number_of_examples(monkeypatch, bars):
    chosen = {}
    monkeypatch.setattr(api, "take", lambda loaded, *more: chosen.update(method=loaded.method, student=loaded.student) or 1 / 0)
    for method in ((), (Auto(),)):
        chosen.clear()
        with pytest.raises(ZeroDivisionError):
            distill(Task("letters", 260), *method, **CPU)
        assert chosen == {"method": Expert(ensemble=3), "student": Student(augment="none")}  # the first of two trials
    learned = Unrolled(init=Expert(ensemble=3))
    assert Auto().resolve(Task("letters", 20), Student()) == (learned, Student(loss="mse"))
    assert Auto().resolve(Task("letters", 21), Student()) == (learned, Student(loss="mse", augment="auto"))


def test_the_validation_part_chooses_between_plain_and_shifted_images(bars, tmp_path):
    task, method, events = Task(bars, 6), Expert(iterations=5, temperature=1.0), []
    how = {"checkpoint": tmp_path, "callback": events.append, **CPU}
    both = {name: distill(task, method, student=Student(steps=30, augment=name), **CPU) for name in ("none", "shift")}
    best = max(both.values(), key=lambda labels: labels.validation_accuracy)
    found = distill(task, method, student=Student(steps=30, augment="auto"), **how)
    assert found.student == best.student and torch.equal(found.labels, best.labels)
    assert [event.accuracy for event in events] == [best.validation_accuracy]
    assert [path.name for path in tmp_path.iterdir()] == ["traces.safetensors"]
    with pytest.raises(InputError, match="--augment auto: chosen where labels are made; expected none, shift"):
        evaluate(found, student=Student(augment="auto"), **CPU)


def test_labels_that_a_method_begins_with_say_whether_images_are_shifted(bars, tmp_path):
    start, short = Expert(iterations=5, temperature=1.0), Schedule(iterations=2, outer_batch=16)
    both = [distill(Task(bars, 6), start, student=Student(steps=30, augment=name), **CPU) for name in ("none", "shift")]
    best = max(both, key=lambda labels: labels.validation_accuracy).student.augment
    how, files = {"schedule": short, "checkpoint": tmp_path / "new", **CPU}, ["checkpoint", "experts", "traces"]
    found = distill(Task(bars, 6), Unrolled(init=start), student=Student(steps=30, loss="mse", augment="auto"), **how)
    assert (found.method_name, found.student.loss, found.student.augment) == ("unrolled", "mse", best)
    assert found.settings["iterations"] == 2 and sorted(path.stem for path in (tmp_path / "new").iterdir()) == files


LENGTH = Schedule(iterations=12, outer_batch=16, validate_every=1)
OPEN = {"student": Student(steps=30, loss="mse", augment="auto"), "schedule": LENGTH}


def test_experts_are_trained_once_for_all_that_is_tried(bars, monkeypatch):
    trained, train = [], experts._train_expert
    monkeypatch.setattr(experts, "_train_expert", lambda *more: trained.append(1) or train(*more))
    distill(Task(bars, 6), Unrolled(window=2, init=Expert(iterations=5, ensemble=2)), **OPEN, **CPU)
    assert len(trained) == 2


def test_a_resumed_run_keeps_the_choice_of_images(bars, tmp_path, monkeypatch):
    def stop(event):
        if event.iteration:
            raise KeyboardInterrupt

    method = Unrolled(window=2, init=Expert(iterations=5, temperature=1.0))
    whole = distill(Task(bars, 6), method, **OPEN, **CPU)
    with pytest.raises(Interrupted):
        distill(Task(bars, 6), method, checkpoint=tmp_path, callback=stop, **OPEN, **CPU)
    monkeypatch.setattr(api, "_choose_augmentation", None)
    resumed = distill(Task(bars, 6), method, checkpoint=tmp_path, resume=True, **OPEN, **CPU)
    assert torch.equal(resumed.labels, whole.labels) and resumed.student == whole.student


def test_an_open_choice_of_images_gives_what_the_chosen_one_gives_alone(bars):
    method = Ridge(init=Expert(max_iterations=20), lam=100.0)  # which students of the search have too, in the run itself
    how = {"schedule": Schedule(iterations=2, outer_batch=16), **CPU}
    task, student = Task(bars, 6, network=tiny), Student("ridge", steps=20, augment="auto")
    found = distill(task, method, student=student, **how)
    alone = distill(task, method, student=replace(student, augment=found.student.augment), **how)
    assert torch.equal(found.labels, alone.labels) and found.settings == alone.settings


def test_labels_may_begin_by_a_methods_name_where_images_are_open(bars):
    method, short = Unrolled(window=2, init="label-solve"), {"schedule": Schedule(iterations=1, outer_batch=16), **CPU}
    assert distill(Task(bars, 6), method, student=OPEN["student"], **short).student.augment in ("none", "shift")


def test_another_runs_checkpoint_is_refused_where_images_are_open(bars, tmp_path):
    distill(Task(bars, 6, network=tiny), Ridge(), schedule=Schedule(iterations=1, outer_batch=16), checkpoint=tmp_path, **CPU)
    saved = Checkpoint(tmp_path, {"seed": 0}, resume=True)
    saved.save((torch.zeros(2),))
    with pytest.raises(InputError, match="was made with"):
        distill(Task(bars, 6), Unrolled(window=2, init=Expert(iterations=5)), checkpoint=tmp_path, resume=True, **OPEN, **CPU)


@pytest.mark.parametrize("run", ["x", {"student": "x"}, {"task": ["x"]}])
def test_a_checkpoint_whose_run_is_none_is_refused(run, bars, tmp_path):
    save_tree((torch.zeros(2),), tmp_path / "checkpoint.safetensors", run=json.dumps(run))
    with pytest.raises(InputError, match="is not a checkpoint that can be read"):
        distill(Task(bars, 6), Unrolled(window=2, init=Expert(iterations=5)), checkpoint=tmp_path, resume=True, **OPEN, **CPU)


@pytest.mark.parametrize("network", [5, ["lenet", "mlp"]])
def test_a_test_network_that_is_none_is_refused(network, distilled):
    with pytest.raises(InputError, match=r"--network: is a \w+; expected a name, package.module:factory, a factory or a module"):
        evaluate(distilled, network=network, **CPU)


def test_labels_that_are_no_numbers_are_refused(distilled):
    for labels in (distilled.labels * torch.nan, distilled.labels[:5]):
        with pytest.raises(InputError, match="labels: expected 6 rows of finite numbers"):
            evaluate(replace(distilled, labels=labels), **CPU)


def test_a_path_may_begin_at_home(distilled, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    distilled.save("~/labels.safetensors")
    assert (tmp_path / "labels.safetensors").exists()


def test_labels_are_learned_where_gradients_are_off(bars):
    how = {"schedule": Schedule(iterations=2, outer_batch=16), **CPU}
    expected = distill(Task(bars, 6, network=tiny), Ridge(), **how).labels
    for off in (torch.no_grad(), torch.inference_mode()):
        with off:
            assert torch.equal(distill(Task(bars, 6, network=tiny), Ridge(), **how).labels, expected)


def test_what_does_not_fit_is_refused_before_experts_train(bars, monkeypatch):
    monkeypatch.setattr(experts, "_train_expert", None)
    student = Student(augment="auto", lr_schedule="cosine", steps=10)
    with pytest.raises(InputError, match="--window 20: must be at most 10"):
        distill(Task(bars, 6), Unrolled(window=20, init=Expert(iterations=5)), student=student, **CPU)
    with pytest.raises(InputError, match="--augment auto: tries labels that a method begins with"):
        distill(Task(bars, 6), Ridge(), student=Student(augment="auto"), **CPU)
    for method in (Expert(iterations=5, views=2), Unrolled(init=Expert(iterations=5, views=2))):
        with pytest.raises(InputError, match="--expert-views 2: of images that students may not see; expected --augment shift"):
            distill(Task(bars, 6), method, student=Student(augment="auto"), **CPU)
    with pytest.raises(InputError, match="--checkpoint 5: expected a folder"):
        distill(Task(bars, 6), Auto(), student=Student(augment="auto"), checkpoint=5, **CPU)


def test_what_is_said_of_students_is_left_to_them():
    for student in (Student(loss="cross-entropy"), Student(head="ridge")):
        assert Auto().resolve(Task("letters", 10), student)[1] == student
    plain = Student(augment="none", loss="cross-entropy")
    assert Auto().resolve(Task("letters", 100), plain)[1] == plain


@pytest.mark.slow
def test_labels_and_records_state_the_method_that_was_chosen():
    short = Schedule(iterations=1, outer_batch=16)
    learned = distill(Task("digits", 10), Auto(), student=Student(steps=3), schedule=short, **CPU)
    assert learned.method_name == "unrolled" and learned.method["unrolled"]["init"]["expert"]["ensemble"] == 3
    for count, name, chosen in ((10, "unrolled", {"loss": "mse"}), (50, "unrolled", {"loss": "mse", "augment": "auto"})):
        task = {"target": "digits", "base_examples": count}
        run = new_run("distill", "smoke", task=task, method={"auto": {}})
        assert [*run.spec["method"]] == [name] and chosen.items() <= run.spec["student"].items()
        assert [*new_run("head_to_head", "smoke", task=task, method={"auto": {}}).spec["method"]] == [name]
