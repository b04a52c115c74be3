"""What the studies of soft labels are computed from."""

import json
import re
from copy import deepcopy
from dataclasses import replace

import pytest
import torch

from labeldistill import InputError
from labeldistill.config import settings_from_json
from labeldistill.data.catalog import KNOWN
from labeldistill.data.datasets import Dataset
from labeldistill.reproduce import budget
from labeldistill.reproduce.budget import max_iterations, price
from labeldistill.reproduce.exhibits import ANYWHERE, EXHIBITS, SCALES, STUDIES, all_runs, exhibit_runs, names_at, setting_of
from labeldistill.reproduce.recipes import Recipe, choose_images, variants_of
from labeldistill.reproduce.runs import EXPERIMENTS, dependencies, finished, new_run
from labeldistill.reproduce.soft_labels import DIGITS, EARLY, MNIST, Setting


def sections(run):
    "The sections of a run, without its kind."
    return {name: value for name, value in run.spec.items() if name != "kind"}


def test_every_study_is_a_table_or_a_figure_with_a_name_of_its_own():
    places = [re.fullmatch(r"(table|figure)([A-Z])(\d+)", name).groups() for name in STUDIES]
    assert places == sorted(places, key=lambda place: (place[0] != "table", place[1], int(place[2])))
    assert list(EXHIBITS)[-len(STUDIES) :] == list(STUDIES) and len({study.short for study in STUDIES.values()}) == len(STUDIES)


@pytest.mark.parametrize("scale", SCALES)
def test_runs_are_whole_unique_and_come_after_those_they_start_from(scale):
    runs = all_runs(STUDIES, scale)
    assert len({run.name for run in runs}) == len(runs)
    for i, run in enumerate(runs):
        assert run == new_run(run.kind, scale, **sections(run)) and json.loads(json.dumps(run.spec)) == run.spec
        assert all(needed in runs[:i] for needed in dependencies(run))


@pytest.mark.parametrize("setting", [None, Setting("letters", "lenet", 26)])
@pytest.mark.parametrize("scale", SCALES)
def test_every_recipe_can_be_tried(scale, setting):
    runs = [run for run in all_runs(ANYWHERE, scale, setting) if "recipes" in run.spec]
    assert len(runs) == 16
    for run in runs:
        images, experts, there = run.spec["task"]["base_examples"], run.spec["experts"], 26 if setting else 10
        assert images % there == 0
        classes = torch.arange(there).repeat(images // there)
        recipes = [settings_from_json(Recipe, given) for given in run.spec["recipes"]]
        assert len({json.dumps(given, sort_keys=True) for given in run.spec["recipes"]}) == len(recipes)
        for recipe in recipes:
            assert max(variant.point or 0 for variant in variants_of(recipe)) < experts["checkpoints"]
            assert recipe.first + recipe.ensemble <= experts["count"]
            assert len(choose_images(recipe, torch.rand(len(classes)), classes)) >= 0.9 * recipe.count


def test_smoke_needs_no_download_and_little_time():
    runs = all_runs(STUDIES, "smoke")
    assert len(runs) < 100 and {run.spec["task"]["target"] for run in runs} == {"digits"} <= set(KNOWN)
    assert all(run.spec.get("budget", 0) <= 130_000 for run in runs)
    assert all(run.spec["experts"]["max_iterations"] <= 120 for run in runs if "experts" in run.spec)


def test_label_sources_differ_in_nothing_but_the_labels():
    cells = exhibit_runs("tableA1", "paper")
    assert len(cells) == 8 * 4 * 3
    for count, seed in {(count, seed) for _, count, seed in cells}:
        rivals = [sections(run) for (_, n, s), run in cells.items() if (n, s) == (count, seed)]
        common = [{name: value for name, value in given.items() if name != "method"} for given in rivals]
        assert len(rivals) == 8 and all(given == common[0] for given in common)


def test_other_students_learn_from_labels_of_the_table_of_levers():
    cells, levers = exhibit_runs("tableB6", "paper"), {*exhibit_runs("tableB1", "paper").values()}
    assert len(cells) == 5 * 3 * 3 and all({*dependencies(run)} < levers for run in cells.values())
    for (name, count, _), run in cells.items():
        student, _, remark = name.partition(" (")
        assert student == f"{run.spec['test']['network']}, {run.spec['test']['optimizer']}"
        ((_, learned),) = run.spec["method"].items()
        assert (learned.get("students") is not None) == (remark == "labels of two networks)")
        assert count == 100 or not remark


def test_studies_share_their_experts_and_cells():
    experts = {run for name in STUDIES for run in all_runs([name], "paper") if run.kind == "experts"}
    assert len(experts) == 1
    kinds, sources = (exhibit_runs(name, "paper") for name in ("tableA3", "tableA1"))
    assert {key[0] for key in kinds.keys() - sources.keys()} == {"Matched trajectories"}
    assert all(sources[key] == kinds[key] for key in kinds.keys() & sources.keys())
    (ours,) = [run for run in all_runs(["figureA1"], "paper") if run.kind == "distill" and "ridge" in run.spec["method"]]
    assert ours.spec["method"]["ridge"]["learn"] == "images"
    assert (ours.spec["schedule"]["epochs"], ours.spec["test"]["models"]) == (400, 20)


@pytest.mark.parametrize("scale", ["short", "paper"])
def test_our_distilled_images_are_those_of_a_table_of_the_paper(scale):
    distilled = {run for run in all_runs(["figureA1"], scale) if run.kind == "distill" and "dd" not in run.spec["method"]}
    assert len(distilled) == 2 and distilled <= set(all_runs(["table17"], scale))


@pytest.mark.parametrize("scale", SCALES)
def test_all_sources_of_images_are_labelled_at_the_same_iterations(scale):
    experts = [run.spec["experts"] for run in exhibit_runs("figureA1", scale).values()]
    assert len({(given["max_iterations"], given["checkpoints"]) for given in experts}) == 1


def test_base_sets_have_seeds_of_their_own():
    runs = exhibit_runs("tableA1", "paper")
    assert all(run.spec["seed"] == seed and run.spec["task"]["base_seed"] is None for (_, _, seed), run in runs.items())


def iterations_of(run, validation, monkeypatch):
    "How many iterations a run's budget pays for with as many real images as MNIST has, and so many to validate with."
    honest = budget.prepare

    def prepare(*given):
        task, distiller = honest(*given)
        parts = type(task.split)(*(torch.zeros(n, dtype=torch.int64) for n in (50_000, validation, 10_000)))
        return replace(task, split=parts), distiller

    with monkeypatch.context() as patch:
        patch.setattr(budget, "prepare", prepare)
        *_, cost = price(run.spec, "cpu")
    return max_iterations(run.spec["budget"], cost)


@pytest.mark.parametrize("scale, least", [("short", 50), ("paper", 150)])
def test_the_budget_pays_for_every_way(scale, least, monkeypatch):
    for (_, count, seed), run in exhibit_runs("tableA1", scale, DIGITS).items():
        (name, options), *_ = run.spec["method"].items()
        if seed == 1234 and count == 500 and name in ("expert", "unrolled"):
            iterations = iterations_of(run, 10_000, monkeypatch)
            assert iterations >= ((options["iterations"] or 100) if name == "expert" else least)


@pytest.mark.parametrize("scale", SCALES)
def test_a_study_elsewhere_is_the_same_with_as_many_images_of_each_class(scale):
    for name in ANYWHERE:
        own, elsewhere = (exhibit_runs(name, scale, at) for at in (DIGITS, Setting("a.npz", "convnet", 20)))
        for (key, run), (other_key, other) in zip(own.items(), elsewhere.items(), strict=True):
            p, q = deepcopy(sections(run)), sections(other)
            task = {"target": "a.npz", "network": "convnet", "base_examples": 2 * p["task"]["base_examples"]}
            assert q["task"] == p["task"] | task
            for method in p.get("method", {}).values():  # students of the study's network, beside others
                beside = method.get("students") or []
                method |= {"students": ["convnet" if x == DIGITS.network else x for x in beside]} if beside else {}
            scaled = {"task", "recipes", "schedule"} | ({"budget"} if scale == "smoke" else set())
            assert {k: v for k, v in p.items() if k not in scaled} == {k: v for k, v in q.items() if k not in scaled}
            assert p.get("schedule", {}) | {"epochs": None} == q.get("schedule", {}) | {"epochs": None}
            twice = [recipe | {"count": 2 * recipe["count"]} for recipe in p.get("recipes", [])]
            assert twice == q.get("recipes", [])
            assert not isinstance(key, tuple) or (key[0], 2 * key[1], *key[2:]) == other_key


def test_a_setting_is_any_data_and_any_network(bars_npz, monkeypatch):
    assert setting_of(None) is None
    assert setting_of("cifar100") == Setting("cifar100", "lenet", 100)  # without a look at the data
    monkeypatch.chdir(bars_npz.parent)
    found = setting_of(f"../{bars_npz.parent.name}/{bars_npz.name}", "convnet", 16)
    assert found == Setting(str(bars_npz), "convnet", 3, 16)  # runs have another working folder
    heading = STUDIES["figureA2"].heading("paper", found)
    assert heading.endswith(f"({bars_npz}, convnet, 16 pixels, after Qin et al., their Figure 2)")
    tasks = [run.spec["task"] for run in exhibit_runs("tableA5", "short", found).values()]
    assert all(task["image_size"] == 16 and task["channels"] is None for task in tasks)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"target": None, "network": "convnet"}, "--network: only with --target"),
        ({"target": None, "channels": 1}, "--channels: only with --target"),
        ({"target": "mnist", "image_size": 0}, "--image-size 0: must be at least 1"),
        ({"target": "mnist", "channels": 2}, "--channels 2: expected 1"),
        ({"target": "nowhere"}, "unknown data set or path"),
        ({"target": ""}, "without a name"),
        ({"target": "digits", "network": "no"}, "--network 'no'"),
        ({"target": "cifar10", "network": "math:sqrt"}, "--network 'math:sqrt' fails on two 3x32x32 images"),
    ],
)
def test_bad_settings_are_refused(given, message):
    with pytest.raises(InputError, match=message) as error:
        setting_of(**given)
    assert "\n" not in str(error.value)


def test_few_classes_have_fewer_studies():
    few, many = (names_at(Setting("a.npz", "lenet", classes)) for classes in (8, 9))
    assert set(many) - set(few) == {"figureA3", "figureA7"} and set(many) == set(ANYWHERE)
    with pytest.raises(InputError, match="'figureA7' needs 9 classes or more"):
        exhibit_runs("figureA7", "paper", Setting("a.npz", "lenet", 8))
    (late,) = exhibit_runs("figureA11", "paper", Setting("a.npz", "lenet", 3)).values()
    assert {recipe["top_k"] for recipe in late.spec["recipes"]} == {0, 1, 2, 3}  # not what is the same as all


def test_titles_say_what_was_run():
    found = {scale: EXHIBITS["tableA2"].heading(scale) for scale in SCALES}
    assert found["paper"] == found["short"] == "Label sources within one budget (kmnist10k, lenet)"
    assert found["smoke"] == "Label sources within one budget (digits, lenet)"


def test_titles_of_the_papers_tables_say_where_runs_are_shorter():
    for name, exhibit in EXHIBITS.items():
        tail = " (a tenth of the iterations)"
        short = {scale for scale in SCALES if exhibit.heading(scale).endswith(tail)}
        assert short == ({"short"} if exhibit.table else set()), name
        assert exhibit.heading("short").removesuffix(tail) == exhibit.heading("paper"), name


def test_titles_say_where_stopping_points_come_from():
    with_points = {name for name, study in STUDIES.items() if "stopping points as for MNIST" in study.heading("paper", DIGITS)}
    assert not any("as for MNIST" in study.heading("paper") for study in STUDIES.values())
    for name, study in STUDIES.items():
        recipes = [recipe for part in study.parts(MNIST).values() for recipe in part.get("recipes", ())]
        points = {str(recipe["point"]) for recipe in recipes if "point" in recipe}
        at_early = bool(points) and points <= set(map(str, EARLY.values()))
        assert (name in with_points) == (at_early or name == "figureA6"), name  # the latter has later points too


def test_early_points_are_those_that_validation_picks(repository):
    (done,) = finished(exhibit_runs("figureA2", "paper"), repository / "papermill_runs" / "results").values()
    picked = {}
    for count in EARLY:
        tried = [one for one in done.results["found"] if one["recipe"]["count"] == 10 * count and one["point"] is not None]
        picked[count] = max(tried, key=lambda one: one["validation_accuracy"])["point"]
    assert picked == EARLY


@pytest.mark.parametrize("name", ["table1", "tableA2", "figure3"])
def test_what_has_other_data_is_not_computed_elsewhere(name):
    with pytest.raises(InputError, match=r"tableA1, .*figureA11"):
        all_runs([name], "smoke", DIGITS)


@pytest.mark.slow
@pytest.mark.parametrize(("classes", "validation"), [(3, 5000), (10, 10_000), (100, 5000)])
def test_the_budget_of_small_runs_pays_for_every_way_elsewhere(classes, validation, monkeypatch):
    labels = torch.arange(classes).repeat_interleave(20)
    images = torch.arange(len(labels), dtype=torch.int32).view(torch.uint8).view(-1, 1, 2, 2).repeat(1, 1, 14, 14)  # no two alike
    data = Dataset("made up", images, labels, tuple(map(str, range(classes))))
    monkeypatch.setattr("labeldistill.task.load", lambda *given, **named: data)
    for run in exhibit_runs("tableA1", "smoke", Setting("made up", "lenet", classes)).values():
        if {"expert", "unrolled"} & run.spec["method"].keys():
            assert iterations_of(run, validation, monkeypatch) >= 3


def test_studies_and_the_papers_tables_go_together():
    both = all_runs(["table5", "tableA6"], "smoke")
    assert {run.kind for run in both} == {"distill", "experts", "students"}


@pytest.mark.parametrize("name, scale, message", [("tableA9", "smoke", "figureA11"), ("tableA1", "tiny", "smoke, short, paper")])
def test_bad_names_are_refused(name, scale, message):
    with pytest.raises(InputError, match=message) as error:
        all_runs([name], scale)
    assert "\n" not in str(error.value)


def test_kinds_have_notebooks(repository):
    found = {EXPERIMENTS[run.kind].notebook for run in all_runs(STUDIES, "paper")}
    assert found >= {"experts.ipynb", "students.ipynb", "relabel.ipynb", "head_to_head.ipynb"}
    assert all((repository / "nbs" / "experiments" / name).exists() for name in found)
