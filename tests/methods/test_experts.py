"Labels of experts: trajectories, what labels are made of, what is chosen and where, runs, and what is refused."

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
import user_networks
from helpers import CPU, tiny_task
from tqdm.auto import tqdm

from labeldistill import Expert, Ridge, Schedule, Student, Task, distill, evaluate, load_distilled
from labeldistill.data.streams import generator, stream
from labeldistill.methods.expert_selection import (
    STOPPING_POINTS,
    TEMPERATURES,
    choose_labels,
    select_expert_labels,
    stopping_points,
    trial_score,
    trial_steps,
)
from labeldistill.methods.experts import (
    ExpertTrajectory,
    entropy,
    expert_logits,
    keep_top,
    load_trajectory,
    log_spaced,
    save_trajectory,
    soften,
    swap_rank,
    trajectory_labels,
)
from labeldistill.training.evaluation import best_steps, mean_validation_curve, validation_curve
from labeldistill.training.heads import LinearHead, RidgeHead
from labeldistill.training.real_data import train_on_real
from labeldistill.training.trainer import Trainer
from labeldistill.training.training_set import TrainingSet
from labeldistill.utils import InputError

POINTS = [2, 5, 9]
pytestmark = pytest.mark.usefixtures("few_steps")


@pytest.fixture(scope="module")
def task(bars):
    return tiny_task(bars, 6, Expert(), Schedule(), network=user_networks.plain)[0]


@pytest.fixture(scope="module")
def trajectory(task):
    "Two experts, three checkpoints. Not to be changed."
    return expert_logits(task.network, task, POINTS, 2, seed=4, batch_size=16)


# Trajectories


@pytest.mark.parametrize(("first", "last", "count"), [(10, 2000, 12), (1, 6, 12), (7, 7, 5), (1, 1000, 4)])
def test_points_rise_from_the_first_to_the_last_by_about_the_same_factor(first, last, count):
    points = log_spaced(first, last, count)
    assert (points[0], points[-1]) == (first, last) and len(points) <= count
    assert points == sorted(set(points))
    if count == 4:
        assert points == [1, 10, 100, 1000]


def test_an_expert_at_a_checkpoint_is_one_that_stopped_there(task, trajectory):
    for number, steps in enumerate(POINTS):
        alone = Trainer(LinearHead(task.network), "adam", stream(4, "expert", 1))
        module = train_on_real(alone, task.train, steps, generator(4, "expert batches", 1), 16)
        with torch.no_grad():
            torch.testing.assert_close(trajectory.logits[1, number], module(task.base_images), rtol=0, atol=1e-6)
        assert trajectory.accuracies[1, number].item() == task.validation.accuracy(module)
    assert trajectory.logits.shape == (2, 3, 6, 3) and trajectory.iterations.tolist() == POINTS
    assert not torch.equal(*trajectory.logits)


def test_watching_a_training_changes_nothing_and_sees_every_step(task):
    seen, networks = [], []
    for watch in ({}, {"watch": seen.append}):
        networks.append(Trainer(LinearHead(task.network), "adam", 1))
        train_on_real(networks[-1], task.train, 14, generator(0, "x"), 16, **watch)
    assert seen == list(range(1, 15))
    assert torch.equal(networks[0].trained["theta"], networks[1].trained["theta"])


def test_a_trajectory_comes_back_from_its_file_and_another_file_is_refused(trajectory, tmp_path, labels_file):
    save_trajectory(trajectory, tmp_path / "trace.safetensors", "bars")
    read = load_trajectory(tmp_path / "trace.safetensors", "bars")
    assert all(torch.equal(*pair) for pair in zip(trajectory, read, strict=True))
    with pytest.raises(InputError, match="is of other images"):
        load_trajectory(tmp_path / "trace.safetensors", "stripes")
    for path in (labels_file, tmp_path / "nowhere", tmp_path):
        with pytest.raises(InputError) as caught:
            load_trajectory(path)
        assert "\n" not in str(caught.value)


# Labels


def test_temperature_one_is_the_softmax_and_heat_makes_labels_more_even():
    logits = torch.randn(5, 10, generator=generator(0, "x"))
    assert torch.equal(soften(logits), logits.softmax(1))
    bits = [entropy(soften(logits, t)).mean().item() for t in (0.1, 0.5, 1, 3, 1e6)]
    assert bits == sorted(bits) and bits[-1] == pytest.approx(math.log2(10), abs=1e-5)


def test_an_ensemble_speaks_with_the_mean_of_its_logits(trajectory):
    expected = ((trajectory.logits[0, 1] + trajectory.logits[1, 1]) / 2 / 3).softmax(1)
    torch.testing.assert_close(trajectory_labels(trajectory, 1, 3.0), expected)
    assert torch.equal(trajectory_labels(trajectory, 1, 3.0, 1), keep_top(trajectory_labels(trajectory, 1, 3.0), 1))


def test_top_k_keeps_the_largest_as_they_are():
    labels = torch.tensor([[0.1, 0.6, 0.3], [0.5, 0.2, 0.3]])
    assert keep_top(labels, 0).tolist() == [[0, 1, 0], [1, 0, 0]]
    assert torch.equal(keep_top(labels, 1), torch.tensor([[0, 0.6, 0], [0.5, 0, 0]]))
    assert torch.equal(keep_top(labels, 2), torch.tensor([[0, 0.6, 0.3], [0.5, 0, 0.3]]))
    assert torch.equal(keep_top(labels, 3), labels) and torch.equal(keep_top(labels, 9), labels)


def test_swapping_a_rank_exchanges_it_with_the_smallest():
    labels = torch.tensor([[0.1, 0.6, 0.3], [0.5, 0.2, 0.3]])
    assert torch.equal(swap_rank(labels, 1), torch.tensor([[0.6, 0.1, 0.3], [0.2, 0.5, 0.3]]))
    assert torch.equal(swap_rank(labels, 2), torch.tensor([[0.3, 0.6, 0.1], [0.5, 0.3, 0.2]]))
    assert torch.equal(swap_rank(labels, 3), labels)
    for rank in (0, 4):
        with pytest.raises(InputError, match="must be 1 to 3"):
            swap_rank(labels, rank)


# What is chosen


def made_up(points):
    "A trajectory whose labels tell checkpoint and temperature: logits log 1, log 2^(1 + point)."
    logits = torch.tensor([[0.0, (1 + point) * math.log(2)] for point in range(points)])
    return ExpertTrajectory(torch.arange(1, points + 1), logits[None, :, None], torch.zeros(1, points))


@pytest.mark.parametrize("expected", [(1, 1.0), (3, 5.0), (0, 0.5)])
def test_the_search_finds_the_checkpoint_and_then_the_temperature(expected):
    trajectory, asked = made_up(4), []
    best = trajectory_labels(trajectory, *expected)

    def score(labels):
        asked.append(labels)
        return -(entropy(labels) - entropy(best)).abs().item()

    point, temperature = choose_labels(trajectory, Expert(), score)
    torch.testing.assert_close(entropy(trajectory_labels(trajectory, point, temperature)), entropy(best), atol=0.05, rtol=0)
    assert len(asked) == 4 + len(TEMPERATURES) - 1


@pytest.mark.parametrize(
    ("expert", "points", "asked"),
    [
        (Expert(temperature=2.0), 4, 4),
        (Expert(iterations=3), 1, len(TEMPERATURES)),
        (Expert(iterations=3, temperature=2.0), 1, 0),
    ],
)
def test_what_is_given_is_not_searched_for_and_the_bar_fills(expert, points, asked, monkeypatch):
    scores = []

    def score(labels):
        scores.append(labels)
        return float(len(scores) == 2)

    bars = []
    monkeypatch.setattr("labeldistill.methods.expert_selection.tqdm", lambda **named: bars.append(tqdm(**named)) or bars[-1])
    point, temperature = choose_labels(made_up(points), expert, score, progress=True)
    assert [(bar.n, bar.total) for bar in bars] == ([(asked, asked)] if asked else [])
    assert len(scores) == asked and (expert.temperature is None or temperature == expert.temperature)
    if asked:
        assert torch.equal(trajectory_labels(made_up(points), point, temperature), scores[1])


def points_of(examples, **options):
    return stopping_points(Expert(**options), SimpleNamespace(split=SimpleNamespace(train=range(examples))))


def test_stopping_points_are_what_is_asked_for_or_spaced_evenly_by_factors():
    assert points_of(100, iterations=37) == [37]
    assert points_of(100, max_iterations=4) == [4]
    points = points_of(100, max_iterations=1955)
    assert len(points) == STOPPING_POINTS and (points[0], points[-1]) == (10, 1955)


def test_experts_train_for_five_epochs_and_at_least_1500_iterations():
    assert [points_of(examples)[-1] for examples in (84, 38_400, 50_000)] == [1500, 1500, 5 * 391]
    assert points_of(50_000, batch_size=1024)[-1] == 1500 and points_of(84, max_iterations=40)[-1] == 40


def test_a_mean_curve_is_the_mean_of_curves_and_the_first_of_equals_is_best(task):
    data = TrainingSet(task.base_images, torch.eye(3).repeat(2, 1), 4)
    head, steps = LinearHead(task.network), [2, 4, 7]
    curve = mean_validation_curve(head, "sgd", data, task.validation, 3, 2, steps)
    own = [stream(3, "curve", i) for i in range(2)]
    one, two = (validation_curve(Trainer(head, "sgd", s), data, task.validation, s, False, steps) for s in own)
    assert curve == {step: (one[step] + two[step]) / 2 for step in steps}
    assert best_steps({10: 5.0, 20: 7.0, 30: 7.0}) == (20, 7.0)
    whole = validation_curve(Trainer(head, "sgd", own[0]), data, task.validation, own[0], False)
    assert list(whole) == [10, 30, 60]


def test_students_of_the_search_train_for_the_steps_that_are_asked_for(task, monkeypatch):
    trained = []

    def look(head, optimizer, data, validation, seed, trials, steps):
        trained.append(steps)
        return dict.fromkeys(steps, 50.0)

    monkeypatch.setattr("labeldistill.methods.expert_selection.mean_validation_curve", look)
    for steps in (None, 7):
        assert trial_score(task, Student("linear", "adam", steps=steps), 0)(torch.eye(3).repeat(2, 1)) == 50.0
    assert trained == [trial_steps(6), [7]]


def test_a_temperature_that_logits_do_not_stand_is_refused():
    with pytest.raises(InputError, match="--expert-temperature 1e-40: too low for such logits"):
        trajectory_labels(made_up(1), 0, temperature=1e-40)


# Runs


def quick(target, source=None, seed=7, checkpoint=None, resume=False, **options):
    "Labels of experts of at most 30 iterations; further options are the method's."
    task, method = Task(target, 6, source=source, network=user_networks.plain), Expert(**{"max_iterations": 30} | options)
    return distill(task, method, seed=seed, compute=CPU, checkpoint=checkpoint, resume=resume, progress=False)


@pytest.fixture(scope="module")
def labels_of_experts(bars_npz, few_steps):
    "What two experts say about six bars. Not to be changed."
    return quick(bars_npz, ensemble=2)


def test_experts_labels_are_distilled_data_that_can_be_saved_and_tested(labels_of_experts, bars_npz, tmp_path):
    learned = labels_of_experts
    learned.save(tmp_path / "labels.safetensors")
    read = load_distilled(tmp_path / "labels.safetensors")
    assert torch.equal(read.labels, learned.labels) and read.settings == learned.settings
    assert (read.method_name, read.student.head, read.student.optimizer, read.rates) == ("expert", "linear", "adam", ())
    torch.testing.assert_close(read.labels.sum(1), torch.ones(6))
    found = evaluate(read, bars_npz, network=read.network, models=2, compute=CPU, progress=False)
    assert found.accuracy_mean > 60 and found.steps == read.student.steps in (10, 30, 60)


def test_experts_may_be_of_another_network_than_their_students(bars_npz, labels_of_experts):
    other = quick(bars_npz, ensemble=2, network="user_networks:normed")
    assert other.method["expert"]["network"] == "user_networks:normed" and not labels_of_experts.method["expert"]["network"]
    assert other.network == labels_of_experts.network and not torch.equal(other.labels, labels_of_experts.labels)
    same = quick(bars_npz, ensemble=2, network=user_networks.plain)
    assert torch.equal(same.labels, labels_of_experts.labels)


def test_the_artifact_says_what_was_asked_for_and_what_was_chosen(labels_of_experts):
    method, settings = labels_of_experts.method["expert"], labels_of_experts.settings
    assert method["iterations"] is method["temperature"] is method["top_k"] is None
    assert (method["ensemble"], method["max_iterations"]) == (2, 30)
    assert settings["stopping point"] in points_of(0, max_iterations=30) and settings["temperature"] in TEMPERATURES
    assert len(settings["expert accuracies"]) == 2


def test_the_choice_is_made_of_the_trajectory(bars):
    given = quick(bars, iterations=20, temperature=2, top_k=2, max_iterations=None)
    assert given.settings["stopping point"] == given.settings["best iteration"] == 20 and given.settings["temperature"] == 2
    assert ((given.labels > 0).sum(1) == 2).all() and (given.labels.sum(1) < 1).all()
    hard = quick(bars, iterations=20, temperature=2, top_k=0)
    assert torch.equal(hard.labels, keep_top(given.labels, 0))


def test_no_expert_looks_at_true_classes_of_base_examples(bars):
    source, options = replace(bars, name="source"), {"iterations": 20, "temperature": 1}
    clean, hidden = quick(bars, source, **options), quick(bars, replace(source, labels=(bars.labels + 1) % 3), **options)
    assert torch.equal(clean.labels, hidden.labels)


def test_the_same_seed_gives_the_same_labels_and_leaves_the_global_state(bars, random_states):
    before = random_states()
    first, second = (quick(bars, iterations=10) for _ in range(2))
    assert torch.equal(first.labels, second.labels) and first.settings == second.settings and random_states() == before
    assert not torch.equal(first.labels, quick(bars, iterations=10, seed=8).labels)


def test_a_resumed_run_trains_only_the_experts_that_are_missing(bars, tmp_path, monkeypatch):
    options = {"ensemble": 2, "iterations": 10, "temperature": 1}
    whole, trained = quick(bars, **options), []

    def watched(expert, *arguments):
        trained.append(expert)
        if len(trained) == 2:
            raise KeyboardInterrupt
        return train_on_real(expert, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr("labeldistill.methods.experts.train_on_real", watched)
        with pytest.raises(KeyboardInterrupt):
            quick(bars, checkpoint=tmp_path / "kept", **options)
        resumed = quick(bars, checkpoint=tmp_path / "kept", resume=True, **options)
    assert len(trained) == 3
    assert torch.equal(resumed.labels, whole.labels) and resumed.settings == whole.settings


def test_experts_that_are_there_serve_other_temperatures_and_ensembles(bars, tmp_path, monkeypatch):
    options = {"iterations": 10, "temperature": 1, "checkpoint": tmp_path / "kept"}
    quick(bars, ensemble=2, **options)
    trained = []

    def watched(*arguments):
        trained.append(arguments)
        return train_on_real(*arguments)

    monkeypatch.setattr("labeldistill.methods.experts.train_on_real", watched)
    for ensemble, missing in ((1, 0), (3, 1), (2, 0)):
        other = options | {"temperature": 2, "ensemble": ensemble}
        fresh = quick(bars, **(other | {"checkpoint": None}))
        trained.clear()
        again = quick(bars, resume=True, **other)
        assert torch.equal(again.labels, fresh.labels) and again.settings == fresh.settings and len(trained) == missing
    with pytest.raises(InputError, match=r"was made with checkpoints = .10., not .20."):
        quick(bars, resume=True, **(options | {"iterations": 20}))


def test_no_other_method_begins_in_the_folder_of_an_expert(bars, tmp_path):
    quick(bars, iterations=10, temperature=1, checkpoint=tmp_path)
    with pytest.raises(InputError, match="holds a checkpoint: resume it"):
        distill(Task(bars, 6, network=user_networks.plain), Ridge(), compute=CPU, checkpoint=tmp_path, progress=False)


def test_experts_whose_logits_become_nan_are_reported(task):
    with pytest.raises(InputError, match="an expert's logits became NaN"):
        expert_logits(task.network, task, [1], 1, 0, images=task.base_images * torch.nan)


def test_students_with_a_ridge_head_choose_too(task):
    found = select_expert_labels(Expert(iterations=20, temperature=1.0), task, 0, Student("ridge", "adam"))
    data = TrainingSet(task.base_images, found.labels, task.inner_batch)
    steps, accuracy = best_steps(mean_validation_curve(RidgeHead(task.network), "adam", data, task.validation, 0))
    assert steps in (10, 30, 60) and accuracy > 50 and found.iterations == 20
