"""Studies of soft labels: recipes, students, budgets, and runs of the new kinds on a few digits."""

import json
import math
import re
import shutil
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from labeldistill import InputError, Ridge, Schedule, SecondOrder, Task, TrajectoryMatching, Unrolled, load_distilled
from labeldistill.api import prepare
from labeldistill.config import Compute, Expert, settings_from_json
from labeldistill.data.datasets import split
from labeldistill.methods.experts import ExpertTrajectory, load_trajectory, soften
from labeldistill.reproduce import studies
from labeldistill.reproduce.budget import (
    Cost,
    cost_of,
    forward_passes,
    iteration_cost,
    learn_labels,
    max_iterations,
    search_cost,
    training_cost,
    without_experts,
)
from labeldistill.reproduce.experiments import Workspace
from labeldistill.reproduce.recipes import (
    STUDY_AUGMENTATIONS,
    AugmentingHead,
    Recipe,
    choose_images,
    make_labels,
    of_decile,
    shift_by,
    without_class,
)
from labeldistill.reproduce.runs import EXPERIMENTS, dependencies, new_run, perform
from labeldistill.reproduce.soft_labels import KMNIST
from labeldistill.reproduce.studies import LabelledPool, RecallSet, prepare_lesson
from labeldistill.task import image_set, load_task
from labeldistill.training.evaluation import ImageSet, evaluate_students
from labeldistill.training.heads import LinearHead
from labeldistill.training.trainer import Trainer
from labeldistill.training.training_set import TrainingSet

QUICK = {"protocol": {"students": 2, "validation_models": 1, "candidate_steps": [5, 20]}}
POOL = {"task": {"target": "digits", "base_examples": 60}, "experts": {"count": 2, "max_iterations": 40, "checkpoints": 4}}
TEN = {"task": {"target": "digits", "base_examples": 10}}


@pytest.fixture(scope="module")
def experts():
    "Two experts, three points, forty images of four classes."
    rng = torch.Generator().manual_seed(0)
    logits, accuracies = torch.randn(2, 3, 40, 4, generator=rng), torch.rand(2, 3, dtype=torch.float64)
    return ExpertTrajectory(torch.tensor([1, 2, 3]), logits, accuracies)


CLASSES = torch.arange(4).repeat(10)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return tmp_path_factory.mktemp("results")


def go(kind, sections, results):
    "Performs a run where the executor would; its results and its folder."
    run = new_run(kind, "smoke", **sections)
    folder = run.folder(results)
    return perform(run, folder, "cpu", progress=False), folder


# images


def test_deciles_are_tenths_of_each_class_from_easy_to_hard():
    hardness = torch.rand(40, generator=torch.Generator().manual_seed(1))
    rows = [of_decile(d, hardness, CLASSES) for d in range(1, 11)]
    assert sorted(torch.cat(rows).tolist()) == list(range(40))
    assert all(CLASSES[found].sort().values.tolist() == [0, 1, 2, 3] for found in rows)
    by_class = torch.stack([hardness[found[CLASSES[found].argsort()]] for found in rows])
    assert (by_class.diff(dim=0) > 0).all()


def test_draws_are_disjoint_and_balanced():
    draws = [choose_images(Recipe(8, draw=i), torch.zeros(40), CLASSES) for i in range(5)]
    assert len(torch.cat(draws).unique()) == 40
    assert all(CLASSES[rows].bincount().tolist() == [2, 2, 2, 2] for rows in draws)


def test_a_class_without_images_leaves_the_others_as_they_were():
    rows = choose_images(Recipe(8), torch.zeros(40), CLASSES)
    fewer = choose_images(Recipe(8, without_images=2), torch.zeros(40), CLASSES)
    assert fewer.tolist() == [row for row in rows.tolist() if CLASSES[row] != 2] and len(fewer) == 6


@pytest.mark.parametrize("recipe", [Recipe(41), Recipe(8, draw=5), Recipe(5, decile=1)])
def test_more_images_than_there_are_are_refused(recipe):
    with pytest.raises(InputError, match="the pool has"):
        choose_images(recipe, torch.zeros(40), CLASSES)


# labels


def test_labels_are_what_the_recipe_says(experts):
    whole = soften(experts.logits[0, 1])
    assert torch.equal(make_labels(Recipe(point=1), experts, CLASSES), whole)
    assert torch.allclose(make_labels(Recipe(point=1, first=1), experts, CLASSES), soften(experts.logits[1, 1]))
    assert torch.allclose(make_labels(Recipe(point=1, ensemble=2), experts, CLASSES), soften(experts.logits[:, 1].mean(0)))
    assert torch.allclose(make_labels(Recipe(point=1, temperature=2.0), experts, CLASSES), soften(experts.logits[0, 1] / 2))
    assert torch.equal(make_labels(Recipe(point=1, top_k=0), experts, CLASSES).argmax(1), whole.argmax(1))
    assert torch.equal(make_labels(Recipe(point=1, swap=1), experts, CLASSES).argmin(1), whole.argmax(1))
    assert torch.equal(make_labels(Recipe(), experts, CLASSES).argmax(1), CLASSES)
    assert make_labels(Recipe(smoothing=0.2), experts, CLASSES).amax(1).tolist() == pytest.approx([0.85] * 40)


def test_a_class_without_probability_leaves_proportions():
    labels = torch.tensor([[0.5, 0.3, 0.2]])
    assert torch.allclose(without_class(labels, 0), torch.tensor([[0.0, 0.6, 0.4]]))


@pytest.mark.parametrize("recipe", [Recipe(point=3), Recipe(point=0, first=2), Recipe(point=0, ensemble=3)])
def test_points_and_experts_that_there_are_not_are_refused(recipe, experts):
    with pytest.raises(InputError, match="3 points, 2 experts"):
        make_labels(recipe, experts, CLASSES)


@pytest.mark.parametrize("faulty", [{"temp": 1.0}, {"augmentation": "blur"}])
def test_recipes_of_another_language_are_refused(faulty):
    with pytest.raises(InputError, match="expected"):
        settings_from_json(Recipe, faulty)


# augmentation


@given(st.integers(1, 3), st.integers(0, 100))
def test_images_are_shifted_whole(most, seed):
    torch.manual_seed(seed)
    image = torch.arange(64.0).reshape(1, 1, 8, 8).expand(5, 2, 8, 8)
    for moved in shift_by(image, most):
        inner = moved[:, most:-most, most:-most]
        assert torch.equal(inner[0], inner[1])
        assert (inner[0].diff(dim=1) == 1).all() and (inner[0].diff(dim=0) == 8).all()
        steps = range(-most, most + 1)
        assert int(inner[0, 0, 0] - image[0, 0, most, most]) in {8 * down + right for down in steps for right in steps}


def test_color_images_may_be_mirrored_and_labels_stay():
    images, labels = torch.rand(64, 3, 8, 1).expand(64, 3, 8, 8) * torch.arange(8.0), torch.eye(4).repeat(16, 1)
    moved, same = STUDY_AUGMENTATIONS["move"](images, labels)
    rising = (moved[..., 7] > moved[..., 0]).flatten(1).all(1).sum()
    assert torch.equal(same, labels) and 10 < rising < 54


def test_cutmix_mixes_soft_labels():
    labels = torch.rand(8, 4).softmax(1)
    _, mixed = STUDY_AUGMENTATIONS["cutmix"](torch.rand(8, 1, 16, 16), labels)
    assert torch.allclose(mixed.sum(1), torch.ones(8))


@pytest.fixture(scope="module")
def task():
    return load_task(Task("digits", base_examples=20), 1234, "cpu")


def test_students_that_see_augmented_images_repeat_and_differ_from_plain_ones(task):
    data = TrainingSet(task.base_images, torch.eye(10)[task.base.labels], 10)
    heads = [AugmentingHead(task.network, "cpu", STUDY_AUGMENTATIONS["move"]) for _ in range(2)] + [LinearHead(task.network)]
    first, again, plain = (evaluate_students(head, "adam", data, task.validation, 40, 2, 1, False) for head in heads)
    assert first == again != plain


def test_recalls_agree_with_accuracy(task):
    real = task.validation
    data = TrainingSet(task.base_images, torch.eye(10)[task.base.labels], 10)
    images = RecallSet(real.images, real.labels, real.normalise, 10)
    plain, *recalls = evaluate_students(LinearHead(task.network), "adam", data, images, 30, 1, 1, False)
    usual, balanced = evaluate_students(LinearHead(task.network), "adam", data, real, 30, 1, 1, False)
    assert plain == usual and sum(share[0] for share in recalls) / 10 == pytest.approx(balanced[0])
    few = RecallSet(real.images[real.labels < 9], real.labels[real.labels < 9], real.normalise, 10)
    trainer = Trainer(LinearHead(task.network), "adam", 0)
    plain, *recalls = few.accuracies(trainer)
    assert len(recalls) == 10 and recalls[9] == 0  # a class that does not occur
    assert few.accuracies(trainer.classify) == (plain, *recalls)  # as one of a cohort is tested


@pytest.mark.parametrize(
    "faulty",
    [
        {"count": "a"},
        {"count": None},
        {"ensemble": True},
        {"point": "a"},
        {"point": []},
        {"point": [0, 1.5]},
        {"count": 0},
        {"draw": -1},
        {"decile": 0},
        {"swap": 0},
        {"top_k": 1.5},
        {"temperature": 0},
        {"temperature": "hot"},
        {"smoothing": 2},
        {"without_images": -1},
        {"point": -1},
        {"decile": 11},
    ],
)
def test_recipes_with_impossible_values_are_refused(faulty):
    option = "--recipe-" + next(iter(faulty)).replace("_", "-")
    with pytest.raises(InputError, match=f"{option} .*: (must be|expected)"):
        settings_from_json(Recipe, faulty)


def test_classes_that_there_are_not_cannot_be_left_out(experts):
    with pytest.raises(InputError, match="without_images 99: the pool has no image of that class"):
        choose_images(Recipe(2, without_images=99), torch.zeros(len(CLASSES)), CLASSES)
    with pytest.raises(InputError, match="without_label 99: must be 0 to"):
        make_labels(Recipe(without_label=99), experts, CLASSES)


# budget


def test_a_forward_pass_costs_one(task):
    module = task.network.build(0)
    assert forward_passes(task.network, lambda: module(task.base_images[:7])) == pytest.approx(7)


def test_training_costs_two_to_three_passes_an_image(task):
    assert 2 * 128 < training_cost(task, 128) < 3 * 128


def ready(method):
    "Twenty digits and a method, about to learn labels."
    schedule = Schedule(iterations=1, outer_batch=256)
    return prepare(Task("digits", base_examples=20), method, schedule=schedule, compute=Compute("cpu", "fp32", False))


@pytest.mark.parametrize("method, least, most", [(SecondOrder(), 2, 4), (Ridge(), 1, 2)])
def test_iterations_cost_what_their_real_images_cost_at_least(method, least, most):
    pair = ready(method)
    costs = [iteration_cost(*pair) for _ in range(2)]
    assert least * 256 < costs[0] < most * 256
    assert costs[0] == costs[1]  # what is found out about a network at first use is not counted


def every_seventh(iterations):
    return iterations // 7


def fewer_when_longer(iterations):
    return 12 if iterations < 700 else 3


@pytest.mark.parametrize(
    "parts",
    [
        {},
        {"experts": 30.0, "choice": 500.0},
        {"validation": 700.0, "validations": every_seventh},
        {"validation": 500.0, "validations": fewer_when_longer},
    ],
)
def test_the_budget_is_kept(parts):
    cost = Cost(11.0, **parts)
    count, total = max_iterations(10_000, cost), lambda iterations: sum(cost.parts(iterations).values())
    assert total(count) <= 10_000 < min(total(longer) for longer in range(count + 1, 1000))


def test_several_experts_cost_as_much_each(task):
    one, three = (cost_of(task, None, Expert(ensemble=n)) for n in (1, 3))
    assert three.iteration == pytest.approx(3 * one.iteration)
    method = Unrolled(init=Expert(iterations=100, ensemble=3))
    assert cost_of(*ready(without_experts(method)), method).experts == pytest.approx(300 * training_cost(task, 128))


def test_an_iteration_costs_the_same_without_experts():
    short, long = (TrajectoryMatching(experts=n, trajectory_iterations=40 * n) for n in (1, 2))
    costs = [cost_of(*ready(without_experts(method)), method) for method in (short, long)]
    assert costs[0].iteration == costs[1].iteration and costs[1].experts == pytest.approx(4 * costs[0].experts)
    assert without_experts(Unrolled(init=Expert(), window=3)) == Unrolled(window=3)


@pytest.mark.slow
def test_a_search_costs_what_is_counted(bars, monkeypatch):
    @contextmanager
    def in_turn(head):  # operations are counted in the thread that counts
        yield SimpleNamespace(map=map), None

    monkeypatch.setattr("labeldistill.training.search.workers", in_turn)
    options = {"network": "user_networks:plain", "search_students": 100}
    chosen, random = (load_task(Task(bars, 6, selection=name, **options), device="cpu") for name in ("searched", "random"))
    counted = forward_passes(chosen.network, lambda: chosen.base)
    assert 0.8 * search_cost(chosen) < counted <= search_cost(chosen)
    assert search_cost(random) == 0 < search_cost(chosen)


FEW_STEPS = ("training.evaluation", "methods.expert_selection", "methods.unrolled", "reproduce.budget")


def take_few_steps(monkeypatch, *steps):
    for module in FEW_STEPS:
        monkeypatch.setattr(f"labeldistill.{module}.candidate_steps", lambda count: list(steps))


@pytest.mark.parametrize(
    "method",
    [
        {"expert": {"iterations": 20, "max_iterations": 50, "ensemble": 2}},
        pytest.param({"unrolled": {}}, marks=pytest.mark.slow),
        pytest.param({"unrolled": {"init": {"expert": {"max_iterations": 50}}}}, marks=pytest.mark.slow),
        pytest.param({"unrolled": {"init": "one-hot"}}, marks=pytest.mark.slow),
        pytest.param({"second-order": {}}, marks=pytest.mark.slow),
        {"ridge": {}},
        pytest.param({"matching": {"trajectory_iterations": 40}}, marks=pytest.mark.slow),
    ],
    ids=lambda method: "-".join(re.findall(r"[a-z-]+", str(method))),
)
def test_what_is_charged_is_what_is_done(method, tmp_path, monkeypatch, task):
    take_few_steps(monkeypatch, 40, 80)
    budget = 30_000 if method in ({"unrolled": {}}, {"ridge": {}}) else 60_000
    spec = new_run("head_to_head", "smoke", **TEN, method=method, budget=budget, outer_batch=64).spec
    told = []
    done = forward_passes(task.network, lambda: told.append(learn_labels(spec, Workspace(tmp_path, "cpu"))))
    ((_, facts),) = told
    assert done == pytest.approx(sum(facts["passes"].values()), rel=0.1)  # asking for prices takes some steps too


def test_a_budget_for_nothing_is_refused():
    with pytest.raises(InputError, match="budget 10: one iteration and what comes with it cost 11 forward passes"):
        max_iterations(10, Cost(11.0))


# runs


def test_students_start_from_experts_that_are_trained_once(results):
    recipes = [{"count": 20}, {"count": 20, "point": [0, 3]}, {"count": 10, "point": 1, "without_images": 3}]
    found, folder = go("students", {**POOL, **QUICK, "recipes": recipes}, results)
    (made,) = results.glob("smoke/*-experts-*/trace.safetensors")
    before = made.stat().st_mtime_ns
    hard, soft, fewer = found["found"]
    assert [one["recipe"] for one in found["found"]] == recipes and not (folder / "checkpoint").exists()
    assert hard["entropy"] == 0 and hard["point"] is None and "expert_accuracy" not in hard
    assert soft["point"] in (0, 3) and soft["iterations"] == load_trajectory(made).iterations[soft["point"]]
    assert all(one["accuracy"]["n"] == 2 and one["steps"] in (5, 20) and len(one["recalls"]) == 10 for one in found["found"])
    again, _ = go("students", {**POOL, **QUICK, "recipes": recipes[1:]}, results)
    assert again["found"] == [soft, fewer]  # a recipe does not depend on its neighbours
    assert made.stat().st_mtime_ns == before


def test_recipes_that_are_done_are_not_tried_again(results, monkeypatch):
    given = {**POOL, **QUICK, "recipes": [{"count": 10}, {"count": 20, "smoothing": 0.2}]}
    whole, folder = go("students", given, results)
    (folder / "result.json").unlink()
    run_recipe, asked = studies.run_recipe, []

    def killed_at_the_second(recipe, *more):
        asked.append(recipe.count)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return run_recipe(recipe, *more)

    monkeypatch.setattr(studies, "run_recipe", killed_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        go("students", given, results)
    other = given | {"protocol": {"candidate_steps": [3]}}
    with pytest.raises(InputError, match="is of a run with other settings"):
        (asked_before,) = (needed.folder(results) for needed in dependencies(new_run("students", "smoke", **given)))
        studies.run_students(new_run("students", "smoke", **other).spec, Workspace(folder, "cpu", needs=(asked_before,)))
    again, _ = go("students", given, results)
    assert asked == [10, 20, 20] and again == whole and not (folder / "checkpoint").exists()


@pytest.mark.parametrize("recipe", [Recipe(without_label=0), Recipe(count=4, point=0, top_k=0, without_label=0)])
def test_labels_of_nothing_are_refused(recipe, experts):
    pool = LabelledPool(None, torch.zeros(len(CLASSES), 1, 8, 8), CLASSES, experts)
    with pytest.raises(InputError, match="some label has no other class"):
        prepare_lesson(replace(recipe, count=20), pool)


def test_budgets_are_for_ways_to_make_labels(results):
    for method in ({"dd": {"learn": "labels"}}, {"ridge": {"learn": "images"}}):
        with pytest.raises(InputError, match=r"method '\w+': expected one that learns nothing but labels"):
            go("head_to_head", TEN | {"method": method}, results)
    for method in ({"label-solve": {}}, {"unrolled": {"init": {"label-solve": {}}}}, {"expert": {"choice": "joint"}}):
        with pytest.raises(InputError, match="what it costs is not counted; expected another method or start"):
            go("head_to_head", TEN | {"method": method}, results)


@pytest.mark.parametrize(
    "faulty, message",
    [
        ({"protocol": {"students": 0}}, "--students 0: must be at least 1"),
        ({"protocol": {"validation_models": 0}}, "--validation-models 0: must be at least 1"),
        ({"protocol": {"candidate_steps": [5, 3]}}, "must rise, from at least 1"),
        ({"budget": -1}, "--budget -1: must be above 0"),
        ({"augmentations": ["blur"]}, "augmentation 'blur': expected none, move, cutmix"),
        ({"method": {"true": {"smoothing": 3.0}}}, "--smoothing 3.0: must be below 1"),
    ],
)
def test_impossible_numbers_end_a_comparison_before_it_begins(faulty, message, results, monkeypatch):
    monkeypatch.setattr("labeldistill.reproduce.budget.load_for", None)
    with pytest.raises(InputError, match=message):
        go("head_to_head", TEN | {"method": {"expert": {}}} | faulty, results)


def test_logits_of_other_images_are_not_used(bars_npz, results, tmp_path):
    given = {"task": {"target": str(tmp_path / "bars.npz"), "network": "user_networks:plain", "base_examples": 6}}
    given |= {"experts": {"count": 1, "max_iterations": 10, "checkpoints": 2}}
    (tmp_path / "bars.npz").write_bytes(bars_npz.read_bytes())
    go("experts", given, tmp_path)
    arrays = dict(np.load(bars_npz))
    np.savez(tmp_path / "bars.npz", images=255 - arrays["images"], labels=arrays["labels"])
    with pytest.raises(InputError, match="is of other images: the data have changed"):
        go("students", {**given, **QUICK, "recipes": [{"count": 3}]}, tmp_path)


def test_of_several_points_the_best_on_validation_is_tested(results):
    recipes = [{"count": 20, "point": point} for point in (0, 1, 2, 3, [0, 1, 2, 3])]
    found, _ = go("students", {**POOL, **QUICK, "recipes": recipes}, results)
    *single, several = found["found"]
    best = max(single, key=lambda one: one["validation_accuracy"])
    assert all(several[key] == best[key] for key in ("point", "steps", "accuracy"))


def test_experts_tell_accuracies_and_entropies(results):
    found, folder = go("experts", POOL, results)
    experts = load_trajectory(folder / "trace.safetensors")
    assert experts.logits.shape == (2, len(found["iterations"]), 60, 10) and found["iterations"][-1] == 40
    assert found["expert_accuracy"] == experts.accuracies.tolist()
    assert found["entropy"][0][0] > found["entropy"][0][-1] and max(found["entropy"][0]) <= math.log2(10) + 1e-5
    assert len(found["rows"]) == len(found["classes"]) == 60


@pytest.mark.parametrize(
    "faulty, message", [({"count": 70}, "the pool has 60"), ({"count": 20, "point": [0, 99]}, "point 99, expert 0: there are")]
)
def test_recipes_beyond_the_pool_end_the_run_before_it_trains(faulty, message, results, monkeypatch):
    monkeypatch.setattr("labeldistill.reproduce.studies.choose_steps_for", None)
    run = new_run("students", "smoke", **POOL, **QUICK, recipes=[{"count": 20}, faulty])
    with pytest.raises(InputError, match=message):
        perform(run, run.folder(results), "cpu", progress=False)
    assert not (run.folder(results) / "result.json").exists()


def test_labels_are_made_within_the_budget_and_tested_alike(results):
    common = {**TEN, "budget": 100_000, "outer_batch": 64, "augmentations": ["none", "move"], **QUICK}
    true, _ = go("head_to_head", common | {"method": {"true": {}}}, results)
    learned, folder = go("head_to_head", common | {"method": {"ridge": {}}}, results)
    assert true["entropy"] == 0 and "iterations" not in true and true["tests"].keys() == {"none", "move"}
    distilled = load_distilled(folder / "labels.safetensors")
    assert learned["iterations"] == learned["settings"]["iterations"] > 100 and distilled.student.head == "linear"
    assert json.loads((folder / "result.json").read_text())["results"]["kind"] == "head_to_head"
    assert all(tested["steps"] in (5, 20) and tested["accuracy"]["n"] == 2 for tested in learned["tests"].values())


def test_label_sources_are_compared_on_a_file_below_the_data_root(results, bars_npz, tmp_path, monkeypatch):
    shutil.copy(bars_npz, tmp_path / KMNIST.target)
    monkeypatch.setenv("LABELDISTILL_DATA", str(tmp_path))
    take_few_steps(monkeypatch, 5, 20)
    task = KMNIST.part | {"network": "user_networks:plain", "base_examples": 6}
    method = {"expert": {"iterations": 10, "temperature": 1.0}}
    found, folder = go("head_to_head", {"task": task, "method": method, "budget": 40_000} | QUICK, results)
    assert found["tests"]["none"]["steps"] in (5, 20) and load_distilled(folder / "labels.safetensors").labels.shape == (6, 3)


CHOOSING = {
    "expert": ("head_to_head", TEN | {"budget": 40_000, "method": {"expert": {}}}),
    "learned": ("head_to_head", TEN | {"budget": 20_000, "outer_batch": 64, "method": {"ridge": {}}}),
    "recipes": ("students", POOL | {"recipes": [{"count": 20, "point": [0, 1, 2, 3]}]}),
}


@pytest.mark.parametrize("kind, sections", CHOOSING.values(), ids=CHOOSING)
def test_nothing_is_chosen_on_the_test_part(kind, sections, tmp_path, monkeypatch):
    take_few_steps(monkeypatch, 40, 80)

    def wrong(dataset, rows, *more):
        right = image_set(dataset, rows, *more)
        labels = (right.labels + 1) % len(dataset.classes) if torch.equal(rows, split(dataset).test) else right.labels
        return ImageSet(right.images, labels, right.normalise)

    def chosen(folder):
        results, _ = go(kind, sections | QUICK, tmp_path / folder)
        for tested in (*results.get("tests", {}).values(), *results.get("found", [])):
            accuracies.append(tested.pop("accuracy")["mean"])
            tested.pop("recalls")
        return results

    accuracies = []
    plain = chosen("right")
    for module in ("task", "api", "reproduce.studies"):
        monkeypatch.setattr(f"labeldistill.{module}.image_set", wrong)
    assert chosen("wrong") == plain
    assert accuracies[0] > accuracies[1]


def test_distilled_images_are_labelled_by_experts(tmp_path):
    own = {"method": {"ridge": {"learn": "images"}}, "schedule": {"iterations": 5, "outer_batch": 64}, "test": {"models": 1}}
    recipes = [{"count": 10}, {"count": 10, "point": 2}]
    found, _ = go("relabel", {**own, **POOL, **TEN, **QUICK, "recipes": recipes}, tmp_path)
    hard, soft = found["found"]
    assert hard["entropy"] == 0 < soft["entropy"] and len(list(tmp_path.glob("smoke/digits-ridge-*/labels.safetensors"))) == 1


def test_kinds_know_what_they_need():
    assert {kind: EXPERIMENTS[kind].needs for kind in ("experts", "students", "relabel", "head_to_head")} == {
        "experts": (),
        "students": ("experts",),
        "relabel": ("distill",),
        "head_to_head": (),
    }
