"""Studies of soft labels: recipes, students, budgets, and runs of the new kinds on a few digits."""

import json
import math
import shutil

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from labeldistill import InputError, load_distilled, studies
from labeldistill.distillers import Schedule
from labeldistill.evaluation import Exam, LinearHead, Student, TrainingSet, evaluate_students
from labeldistill.experiments import Place, lay_out
from labeldistill.experts import Trace, load_trace, soften
from labeldistill.runs import LEAST, Scene, Wish, make_exam
from labeldistill.studies import (
    AUGMENTATIONS,
    HEAD_TO_HEAD,
    SCENE,
    ChangingHead,
    ClassExam,
    LabelledPool,
    Prices,
    Recipe,
    affordable,
    choose_images,
    forward_passes,
    iteration_passes,
    learn_by_matching,
    learn_labels,
    learner_of,
    make_labels,
    of_decile,
    prepare,
    prices_of,
    read_recipe,
    shift,
    training_passes,
    without_class,
)
from labeldistill.study_tables import KMNIST
from labeldistill.suite import KINDS, dependencies, new_run, perform

QUICK = {"students": 2, "curves": 1, "marks": [5, 20]}
POOL = {"base_examples": 60, "experts": 2, "longest": 40, "points": 4}


@pytest.fixture(scope="module")
def trace():
    "Two experts, three points, forty images of four classes."
    rng = torch.Generator().manual_seed(0)
    return Trace(torch.tensor([1, 2, 3]), torch.randn(2, 3, 40, 4, generator=rng), torch.rand(2, 3, dtype=torch.float64))


CLASSES = torch.arange(4).repeat(10)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return tmp_path_factory.mktemp("results")


def go(kind, parameters, results):
    "Performs a run where the suite would; its results and its folder."
    run = new_run(kind, "smoke", parameters)
    folder = run.folder(results)
    return perform(kind, parameters, folder, "cpu", show_progress=False)["results"], folder


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


def test_labels_are_what_the_recipe_says(trace):
    whole = soften(trace.logits[0, 1])
    assert torch.equal(make_labels(Recipe(point=1), trace, CLASSES), whole)
    assert torch.allclose(make_labels(Recipe(point=1, first=1), trace, CLASSES), soften(trace.logits[1, 1]))
    assert torch.allclose(make_labels(Recipe(point=1, ensemble=2), trace, CLASSES), soften(trace.logits[:, 1].mean(0)))
    assert torch.allclose(make_labels(Recipe(point=1, temperature=2.0), trace, CLASSES), soften(trace.logits[0, 1] / 2))
    assert torch.equal(make_labels(Recipe(point=1, top_k=0), trace, CLASSES).argmax(1), whole.argmax(1))
    assert torch.equal(make_labels(Recipe(point=1, swap=1), trace, CLASSES).argmin(1), whole.argmax(1))
    assert torch.equal(make_labels(Recipe(), trace, CLASSES).argmax(1), CLASSES)
    assert make_labels(Recipe(smoothing=0.2), trace, CLASSES).amax(1).tolist() == pytest.approx([0.85] * 40)


def test_a_class_without_share_leaves_proportions():
    labels = torch.tensor([[0.5, 0.3, 0.2]])
    assert torch.allclose(without_class(labels, 0), torch.tensor([[0.0, 0.6, 0.4]]))


@pytest.mark.parametrize("recipe", [Recipe(point=3), Recipe(point=-1), Recipe(point=0, first=2), Recipe(point=0, ensemble=3)])
def test_points_and_experts_that_there_are_not_are_refused(recipe, trace):
    with pytest.raises(InputError, match="3 points, 2 experts"):
        make_labels(recipe, trace, CLASSES)


@pytest.mark.parametrize("faulty", [{"temp": 1.0}, {"augmentation": "blur"}])
def test_recipes_of_another_language_are_refused(faulty):
    with pytest.raises(InputError, match="wanted"):
        read_recipe(faulty)


# augmentation


@given(st.integers(1, 3), st.integers(0, 100))
def test_images_are_shifted_whole(most, seed):
    torch.manual_seed(seed)
    image = torch.arange(64.0).reshape(1, 1, 8, 8).expand(5, 2, 8, 8)
    for moved in shift(image, most):
        inner = moved[:, most:-most, most:-most]
        assert torch.equal(inner[0], inner[1])
        assert (inner[0].diff(dim=1) == 1).all() and (inner[0].diff(dim=0) == 8).all()
        steps = range(-most, most + 1)
        assert int(inner[0, 0, 0] - image[0, 0, most, most]) in {8 * down + right for down in steps for right in steps}


def test_colour_images_may_be_mirrored_and_labels_stay():
    images, labels = torch.rand(64, 3, 8, 1).expand(64, 3, 8, 8) * torch.arange(8.0), torch.eye(4).repeat(16, 1)
    moved, same = AUGMENTATIONS["move"](images, labels)
    rising = (moved[..., 7] > moved[..., 0]).flatten(1).all(1).sum()
    assert torch.equal(same, labels) and 10 < rising < 54


def test_cutmix_mixes_soft_labels():
    labels = torch.rand(8, 4).softmax(1)
    _, mixed = AUGMENTATIONS["cutmix"](torch.rand(8, 1, 16, 16), labels)
    assert torch.allclose(mixed.sum(1), torch.ones(8))


@pytest.fixture(scope="module")
def scene():
    return lay_out(SCENE, "cpu", 20)


def test_students_that_see_changed_images_repeat_and_differ_from_plain_ones(scene):
    data = TrainingSet(scene.inputs(), torch.eye(10)[scene.base.labels], 10)
    exam = make_exam(scene.target, scene.split.valid, scene.normalise, scene.device)
    heads = [ChangingHead(scene.network, "cpu", AUGMENTATIONS["move"]) for _ in range(2)] + [LinearHead(scene.network)]
    first, again, plain = (evaluate_students(head, "adam", data, exam, 40, 2, 1, False) for head in heads)
    assert first == again != plain


def test_recalls_agree_with_accuracy(scene):
    real = scene.exam("valid")
    data = TrainingSet(scene.inputs(), torch.eye(10)[scene.base.labels], 10)
    exam = ClassExam(real.images, real.labels, real.normalise, 10)
    plain, *recalls = evaluate_students(LinearHead(scene.network), "adam", data, exam, 30, 1, 1, False)
    usual, balanced = evaluate_students(LinearHead(scene.network), "adam", data, real, 30, 1, 1, False)
    assert plain == usual and sum(share[0] for share in recalls) / 10 == pytest.approx(balanced[0])
    few = ClassExam(real.images[real.labels < 9], real.labels[real.labels < 9], real.normalise, 10)
    _, *recalls = few.accuracies(Student(LinearHead(scene.network), "adam", 0))
    assert len(recalls) == 10 and recalls[9] == 0  # a class that does not occur


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
    ],
)
def test_recipes_with_impossible_values_are_refused(faulty):
    with pytest.raises(InputError, match=f"recipe: {next(iter(faulty))} .*: must be"):
        read_recipe(faulty)


def test_classes_that_there_are_not_cannot_be_left_out(trace):
    with pytest.raises(InputError, match="without_images 99: the pool has no image of that class"):
        choose_images(Recipe(2, without_images=99), torch.zeros(len(CLASSES)), CLASSES)
    with pytest.raises(InputError, match="without_label 99: must be 0 to"):
        make_labels(Recipe(without_label=99), trace, CLASSES)


# budget


def test_a_forward_pass_costs_one(scene):
    module = scene.network.build(0)
    assert forward_passes(scene.network, lambda: module(scene.inputs()[:7])) == pytest.approx(7)


def test_training_costs_two_to_three_passes_an_image(scene):
    assert 2 * 128 < training_passes(scene, 128) < 3 * 128


@pytest.mark.parametrize("method, least, most", [("second-order", 2, 4), ("ridge", 1, 2)])
def test_iterations_cost_what_their_real_images_cost_at_least(method, least, most, scene):
    schedule = Schedule(1, 256, scene.inner_batch)
    assert least * 256 < iteration_passes(scene, learner_of(scene, Wish("labels", method), schedule), schedule) < most * 256


def every_seventh(iterations):
    return iterations // 7


def fewer_when_longer(iterations):
    return 12 if iterations < 700 else 3


@pytest.mark.parametrize(
    "price",
    [
        {},
        {"experts": 30.0, "choice": 500.0},
        {"validation": 700.0, "validations": every_seventh},
        {"validation": 500.0, "validations": fewer_when_longer},
    ],
)
def test_the_budget_is_kept(price):
    prices = Prices(11.0, **price)
    count = affordable(10_000, prices)
    assert prices.total(count) <= 10_000 < min(prices.total(longer) for longer in range(count + 1, 1000))


def test_several_experts_cost_as_much_each(scene):
    one, three = (prices_of(scene, HEAD_TO_HEAD | {"method": "expert", "ensemble": n}) for n in (1, 3))
    assert three.iteration == pytest.approx(3 * one.iteration)
    start = HEAD_TO_HEAD | {"method": "unrolled", "label_init": "expert", "expert_iterations": 100}
    assert prices_of(scene, start | {"ensemble": 3}).experts == pytest.approx(300 * training_passes(scene, 128))


@pytest.mark.parametrize(
    "way",
    [
        {"method": "expert", "expert_iterations": 20, "ensemble": 2},
        {"method": "unrolled", "outer_batch": 64},
        {"method": "unrolled", "label_init": "expert", "outer_batch": 64},
        {"method": "unrolled", "label_init": "one-hot", "outer_batch": 64},
        {"method": "second-order", "outer_batch": 64},
        {"method": "ridge", "outer_batch": 64},
        {"method": "matching", "outer_batch": 64, "path_iterations": 40},
    ],
)
def test_what_is_charged_is_what_is_done(way, tmp_path, monkeypatch):
    for module in ("evaluation", "experts", "studies"):
        monkeypatch.setattr(f"labeldistill.{module}.candidate_steps", lambda count: [40, 80])
    monkeypatch.setitem(LEAST, "expert", 50)
    parameters = HEAD_TO_HEAD | {"base_examples": 10, "budget": 60_000} | way
    scene, learn = lay_out(parameters, "cpu", 10), learn_by_matching if way["method"] == "matching" else learn_labels
    told = []
    done = forward_passes(scene.network, lambda: told.append(learn(scene, parameters, Place(tmp_path, "cpu", False))))
    ((_, facts),) = told
    assert done == pytest.approx(sum(facts["passes"].values()), rel=0.1)  # asking for prices takes some steps too


def test_a_budget_for_nothing_is_refused():
    with pytest.raises(InputError, match="budget 10: one iteration and what comes with it cost 11 passes"):
        affordable(10, Prices(11.0))


# runs


def test_students_start_from_a_trace_that_is_made_once(results):
    recipes = [{"count": 20}, {"count": 20, "point": [0, 3]}, {"count": 10, "point": 1, "without_images": 3}]
    found, folder = go("students", {**POOL, **QUICK, "recipes": recipes}, results)
    (made,) = results.glob("smoke/trace-*/trace.safetensors")
    before = made.stat().st_mtime_ns
    hard, soft, fewer = found["found"]
    assert [one["recipe"] for one in found["found"]] == recipes and not (folder / "checkpoint").exists()
    assert hard["entropy"] == 0 and hard["point"] is None and "expert_accuracy" not in hard
    assert soft["point"] in (0, 3) and soft["iterations"] == load_trace(made).iterations[soft["point"]]
    assert all(one["accuracy"]["n"] == 2 and one["steps"] in (5, 20) and len(one["recalls"]) == 10 for one in found["found"])
    again, _ = go("students", {**POOL, **QUICK, "recipes": recipes[1:]}, results)
    assert again["found"] == [soft, fewer]  # a recipe does not depend on its neighbours
    assert made.stat().st_mtime_ns == before


def test_recipes_that_are_done_are_not_followed_again(results, monkeypatch):
    given = {**POOL, **QUICK, "recipes": [{"count": 10}, {"count": 20, "smoothing": 0.2}]}
    whole, folder = go("students", given, results)
    (folder / "result.json").unlink()
    follow, asked = studies.follow, []

    def killed_at_the_second(recipe, *more):
        asked.append(recipe.count)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return follow(recipe, *more)

    monkeypatch.setattr(studies, "follow", killed_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        go("students", given, results)
    other = given | {"marks": [3]}
    with pytest.raises(InputError, match="is of a run with other parameters"):
        (trace,) = (needed.folder(results) for needed in dependencies(new_run("students", "smoke", given)))
        studies.run_students(new_run("students", "smoke", other).parameters, Place(folder, "cpu", False, (trace,)))
    again, _ = go("students", given, results)
    assert asked == [10, 20, 20] and again == whole and not (folder / "checkpoint").exists()


@pytest.mark.parametrize("recipe", [Recipe(without_label=0), Recipe(count=4, point=0, top_k=0, without_label=0)])
def test_labels_of_nothing_are_refused(recipe, trace):
    pool = LabelledPool(None, torch.zeros(len(CLASSES), 1, 8, 8), CLASSES, trace)
    with pytest.raises(InputError, match="some label has no other class"):
        prepare(recipe._replace(count=20), pool)


def test_budgets_are_for_ways_to_make_labels(results):
    with pytest.raises(InputError, match="--method 'dd': wanted"):
        go("head_to_head", {"method": "dd"}, results)


@pytest.mark.parametrize(
    "faulty, message",
    [
        ({"students": 0}, "--students 0: must be at least 1"),
        ({"curves": 0}, "--curves 0: must be at least 1"),
        ({"marks": [5, 3]}, "must rise, from at least 1"),
        ({"budget": -1}, "--budget -1: must be above 0"),
        ({"method": "true", "label_smoothing": 3.0}, "--label-smoothing 3.0: must be at least 0 and below 1"),
    ],
)
def test_impossible_numbers_end_a_comparison_before_it_begins(faulty, message, results, monkeypatch):
    monkeypatch.setattr("labeldistill.studies.lay_out", None)
    with pytest.raises(InputError, match=message):
        go("head_to_head", {"base_examples": 10, "method": "expert"} | faulty, results)


def test_a_trace_of_other_images_is_not_used(bars_npz, results, tmp_path):
    parameters = {"target": str(tmp_path / "bars.npz"), "network": "user_networks:plain", "base_examples": 6}
    parameters |= {"experts": 1, "longest": 10, "points": 2}
    (tmp_path / "bars.npz").write_bytes(bars_npz.read_bytes())
    go("trace", parameters, tmp_path)
    arrays = dict(np.load(bars_npz))
    np.savez(tmp_path / "bars.npz", images=255 - arrays["images"], labels=arrays["labels"])
    with pytest.raises(InputError, match="is of other images: the data have changed"):
        go("students", {**parameters, **QUICK, "recipes": [{"count": 3}]}, tmp_path)


def test_of_several_points_the_best_on_validation_is_tested(results):
    recipes = [{"count": 20, "point": point} for point in (0, 1, 2, 3, [0, 1, 2, 3])]
    found, _ = go("students", {**POOL, **QUICK, "recipes": recipes}, results)
    *single, several = found["found"]
    best = max(single, key=lambda one: one["validation_accuracy"])
    assert all(several[key] == best[key] for key in ("point", "steps", "accuracy"))


def test_a_trace_tells_accuracies_and_entropies(results):
    found, folder = go("trace", POOL, results)
    trace = load_trace(folder / "trace.safetensors")
    assert trace.logits.shape == (2, len(found["iterations"]), 60, 10) and found["iterations"][-1] == 40
    assert found["expert_accuracy"] == trace.accuracies.tolist()
    assert found["entropy"][0][0] > found["entropy"][0][-1] and max(found["entropy"][0]) <= math.log2(10) + 1e-5
    assert len(found["rows"]) == len(found["classes"]) == 60


@pytest.mark.parametrize(
    "faulty, message", [({"count": 70}, "the pool has 60"), ({"count": 20, "point": [0, 99]}, "point 99, expert 0: there are")]
)
def test_recipes_beyond_the_pool_end_the_run_before_it_trains(faulty, message, results, monkeypatch):
    monkeypatch.setattr("labeldistill.studies.choose_steps_for", None)
    run = new_run("students", "smoke", {**POOL, **QUICK, "recipes": [{"count": 20}, faulty]})
    with pytest.raises(InputError, match=message):
        perform(run.kind, run.parameters, run.folder(results), "cpu", show_progress=False)
    assert not (run.folder(results) / "result.json").exists()


def test_labels_are_made_within_the_budget_and_tested_alike(results):
    common = {"base_examples": 10, "budget": 100_000, "outer_batch": 64, "augmentations": ["none", "move"], **QUICK}
    true, _ = go("head_to_head", common, results)
    learned, folder = go("head_to_head", common | {"method": "ridge"}, results)
    assert true["entropy"] == 0 and "iterations" not in true and true["tests"].keys() == {"none", "move"}
    distilled = load_distilled(folder / "labels.safetensors")
    assert learned["iterations"] == learned["settings"]["iterations"] > 100 and distilled.head == "linear"
    assert json.loads((folder / "result.json").read_text())["results"]["kind"] == "head_to_head"
    assert all(tested["steps"] in (5, 20) and tested["accuracy"]["n"] == 2 for tested in learned["tests"].values())


def test_label_sources_are_compared_on_a_file_below_the_data_root(results, bars_npz, tmp_path, monkeypatch):
    shutil.copy(bars_npz, tmp_path / KMNIST.target)
    monkeypatch.setenv("LABELDISTILL_DATA", str(tmp_path))
    given = KMNIST.part | {"network": "user_networks:plain", "base_examples": 6, "method": "expert", "budget": 40_000} | QUICK
    with monkeypatch.context() as patch:
        for module in ("evaluation", "experts", "studies"):
            patch.setattr(f"labeldistill.{module}.candidate_steps", lambda count: [5, 20])
        found, folder = go("head_to_head", given | {"expert_iterations": 10, "temperature": 1.0}, results)
    assert found["tests"]["none"]["steps"] in (5, 20) and load_distilled(folder / "labels.safetensors").labels.shape == (6, 3)


CHOOSING = {
    "expert": ("head_to_head", {"base_examples": 10, "budget": 40_000, "method": "expert"}),
    "learned": ("head_to_head", {"base_examples": 10, "budget": 20_000, "outer_batch": 64, "method": "ridge"}),
    "recipes": ("students", POOL | {"recipes": [{"count": 20, "point": [0, 1, 2, 3]}]}),
}


@pytest.mark.parametrize("kind, parameters", CHOOSING.values(), ids=CHOOSING)
def test_nothing_is_chosen_on_the_test_part(kind, parameters, tmp_path, monkeypatch):
    for module in ("evaluation", "experts", "studies"):
        monkeypatch.setattr(f"labeldistill.{module}.candidate_steps", lambda count: [40, 80])
    honest = Scene.exam

    def exam(scene, part):
        right = honest(scene, part)
        return Exam(right.images, (right.labels + 1) % scene.classes, right.normalise) if part == "test" else right

    def chosen(folder):
        results, _ = go(kind, parameters | QUICK, tmp_path / folder)
        for tested in (*results.get("tests", {}).values(), *results.get("found", [])):
            accuracies.append(tested.pop("accuracy")["mean"])
            tested.pop("recalls")
        return results

    accuracies = []
    plain = chosen("right")
    monkeypatch.setattr(Scene, "exam", exam)
    assert chosen("wrong") == plain
    assert accuracies[0] > accuracies[1]


def test_distilled_images_are_labelled_by_experts(results):
    own = {"base_examples": 10, "method": "ridge", "iterations": 5, "epochs": None, "outer_batch": 64, "models": 1}
    recipes = [{"count": 10}, {"count": 10, "point": 2}]
    found, _ = go("relabel", {**own, **POOL, "base_examples": 10, **QUICK, "recipes": recipes}, results)
    hard, soft = found["found"]
    assert hard["entropy"] == 0 < soft["entropy"] and len(list(results.glob("smoke/distill-*/labels.safetensors"))) == 1


def test_kinds_know_what_they_need():
    assert {kind: KINDS[kind].needs for kind in ("trace", "students", "relabel", "head_to_head")} == {
        "trace": (),
        "students": ("trace",),
        "relabel": ("distill",),
        "head_to_head": (),
    }
