"""What studies are computed from, and how they are shown: with no results, and with made-up ones."""

import json
import random
import re
from pathlib import Path

import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure

from labeldistill import InputError, report
from labeldistill.catalogue import KNOWN
from labeldistill.data import Dataset, Split
from labeldistill.experiments import lay_out
from labeldistill.experts import Trace, load_trace, save_trace
from labeldistill.studies import Recipe, affordable, choose_images, prices_of, read_recipe
from labeldistill.study_figures import STUDY_DRAWINGS, distances, draw_frontier, draw_study, frontier, relative_to
from labeldistill.study_sheets import SHEETS, gather_study, head_to_head_sheet, make_sheet, picked, recipe_frame
from labeldistill.study_tables import (
    ANYWHERE,
    DIGITS,
    EARLY,
    EXHIBITS,
    IMAGES,
    MNIST,
    SCALES,
    STUDIES,
    Setting,
    all_runs,
    names_at,
    setting_of,
    study_runs,
)
from labeldistill.suite import KINDS, Done, Run, dependencies, new_run
from labeldistill.tables import NAMES

REPOSITORY = Path(__file__).parents[1]

# what is computed


def test_every_study_is_a_table_or_a_figure_with_a_name_of_its_own():
    assert list(STUDIES) == sorted(STUDIES, key=lambda name: (name[:1] != "t", int(name.split("A")[1])))
    assert set(STUDIES) == {*SHEETS, *STUDY_DRAWINGS} and not set(STUDIES) & set(NAMES) and EXHIBITS == (*NAMES, *STUDIES)


@pytest.mark.parametrize("scale", SCALES)
def test_runs_are_whole_unique_and_come_after_those_they_start_from(scale):
    runs = all_runs(STUDIES, scale)
    assert len({run.name for run in runs}) == len(runs)
    for i, run in enumerate(runs):
        assert run == new_run(run.kind, scale, run.parameters) and json.loads(json.dumps(run.parameters)) == run.parameters
        assert all(needed in runs[:i] for needed in dependencies(run))


@pytest.mark.parametrize("setting", [None, Setting("letters", "lenet", 26)])
@pytest.mark.parametrize("scale", SCALES)
def test_every_recipe_can_be_followed(scale, setting):
    runs = [run for run in all_runs(ANYWHERE, scale, setting) if "recipes" in run.parameters]
    assert len(runs) == 16
    for run in runs:
        p, there = run.parameters, 26 if setting else 10
        assert p["base_examples"] % there == 0
        classes = torch.arange(there).repeat(p["base_examples"] // there)
        recipes = [read_recipe(given) for given in p["recipes"]]
        assert len({json.dumps(given, sort_keys=True) for given in p["recipes"]}) == len(recipes)
        for recipe in recipes:
            points = recipe.point if isinstance(recipe.point, tuple) else (recipe.point or 0,)
            assert max(points) < p["points"] and recipe.first + recipe.ensemble <= p["experts"]
            assert len(choose_images(recipe, torch.rand(len(classes)), classes)) >= 0.9 * recipe.count


def test_smoke_needs_no_download_and_little_time():
    runs = all_runs(STUDIES, "smoke")
    assert len(runs) < 35 and {run.parameters["target"] for run in runs} == {"digits"} <= set(KNOWN)
    assert all(run.parameters.get("budget", 0) <= 130_000 and run.parameters.get("longest", 0) <= 120 for run in runs)


def test_label_sources_differ_in_nothing_but_the_labels():
    cells = study_runs("tableA1", "paper")
    assert len(cells) == 8 * 4 * 3
    source = ("method", "label_smoothing", "label_init", "ensemble")
    for count, seed in {(count, seed) for _, count, seed in cells}:
        rivals = [run.parameters for (_, n, s), run in cells.items() if (n, s) == (count, seed)]
        common = [{name: value for name, value in p.items() if name not in source} for p in rivals]
        assert len(rivals) == 8 and all(p == common[0] for p in common)


def test_studies_share_their_traces_and_cells():
    traces = {run for name in STUDIES for run in all_runs([name], "paper") if run.kind == "trace"}
    assert len(traces) == 1
    kinds, sources = (study_runs(name, "paper") for name in ("tableA3", "tableA1"))
    assert {key[0] for key in kinds.keys() - sources.keys()} == {"Matched paths"}
    assert all(sources[key] == kinds[key] for key in kinds.keys() & sources.keys())
    distilled = [run for run in all_runs(["figureA1"], "paper") if run.kind == "distill"]
    (ours,) = [run for run in distilled if run.parameters["method"] == "ridge"]
    assert (ours.parameters["learn"], ours.parameters["epochs"], ours.parameters["models"]) == ("images", 400, 20)


@pytest.mark.parametrize("scale", ["short", "paper"])
def test_our_distilled_images_are_those_of_a_table_of_the_paper(scale):
    distilled = {run for run in all_runs(["figureA1"], scale) if run.kind == "distill" and run.parameters["method"] != "dd"}
    assert len(distilled) == 2 and distilled <= set(all_runs(["table17"], scale))


@pytest.mark.parametrize("scale", SCALES)
def test_all_sources_of_images_are_labelled_at_the_same_iterations(scale):
    experts = {tuple(run.parameters[name] for name in ("longest", "points")) for run in study_runs("figureA1", scale).values()}
    assert len(experts) == 1


def test_base_sets_have_seeds_of_their_own():
    runs = study_runs("tableA1", "paper")
    assert all(run.parameters["seed"] == seed and run.parameters["base_seed"] is None for (_, _, seed), run in runs.items())


@pytest.mark.parametrize("scale, least", [("short", 50), ("paper", 150)])
def test_the_budget_pays_for_every_way(scale, least):
    for (_, count, seed), run in study_runs("tableA1", scale).items():
        method = run.parameters["method"]
        if seed == 1234 and count == 500 and method in ("expert", "unrolled"):
            scene = lay_out(run.parameters | {"target": "digits"}, "cpu", count)
            scene.split = Split(*(torch.zeros(n, dtype=torch.int64) for n in (50_000, 10_000, 10_000)))  # as MNIST
            p, iterations = run.parameters, affordable(run.parameters["budget"], prices_of(scene, run.parameters))
            assert iterations >= ((p["expert_iterations"] or 100) if method == "expert" else least)


@pytest.mark.parametrize("scale", SCALES)
def test_a_study_elsewhere_is_the_same_with_as_many_images_of_each_class(scale):
    for name in ANYWHERE:
        own, elsewhere = (study_runs(name, scale, at) for at in (Setting("digits", "lenet", 10), Setting("a.npz", "convnet", 20)))
        for (key, run), (other_key, other) in zip(own.items(), elsewhere.items(), strict=True):
            p, q = run.parameters, other.parameters
            assert (q["target"], q["network"], q["base_examples"]) == ("a.npz", "convnet", 2 * p["base_examples"])
            scaled = {"target", "network", "base_examples", "recipes", "epochs"} | ({"budget"} if scale == "smoke" else set())
            assert {k: v for k, v in p.items() if k not in scaled} == {k: v for k, v in q.items() if k not in scaled}
            twice = [recipe | {"count": 2 * recipe["count"]} for recipe in p.get("recipes", [])]
            assert twice == q.get("recipes", [])
            assert not isinstance(key, tuple) or (key[0], 2 * key[1], *key[2:]) == other_key


def test_a_setting_is_any_data_and_any_network(bars_npz, monkeypatch):
    assert setting_of(None) is None
    assert setting_of("cifar100") == Setting("cifar100", "lenet", 100)  # without a look at the data
    monkeypatch.chdir(bars_npz.parent)
    found = setting_of(f"../{bars_npz.parent.name}/{bars_npz.name}", "convnet", 16)
    assert found == Setting(str(bars_npz), "convnet", 3, 16)  # runs have another working folder
    assert STUDIES["figureA2"].title(found).endswith(f"({bars_npz}, convnet, 16 pixels, after Qin et al., their Figure 2)")
    runs = study_runs("tableA5", "short", found).values()
    assert all(run.parameters["image_size"] == 16 and run.parameters["channels"] is None for run in runs)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({"target": None, "network": "convnet"}, "--network: only with --target"),
        ({"target": None, "channels": 1}, "--channels: only with --target"),
        ({"target": "mnist", "image_size": 0}, "--image-size 0: must be at least 1"),
        ({"target": "mnist", "channels": 2}, "--channels 2: wanted 1"),
        ({"target": "nowhere"}, "unknown data set or path"),
        ({"target": ""}, "without a name"),
        ({"target": "digits", "network": "no"}, "--network 'no'"),
        ({"target": "cifar10", "network": "math:sqrt"}, "--network 'math:sqrt' fails on two 3x32x32 images"),
    ],
)
def test_bad_settings_are_refused(given, wanted):
    with pytest.raises(InputError, match=wanted) as error:
        setting_of(**given)
    assert "\n" not in str(error.value)


def test_few_classes_have_fewer_studies():
    few, many = (names_at(Setting("a.npz", "lenet", classes)) for classes in (8, 9))
    assert set(many) - set(few) == {"figureA3", "figureA7"} and set(many) == set(ANYWHERE)
    with pytest.raises(InputError, match="'figureA7' wants 9 classes or more"):
        study_runs("figureA7", "paper", Setting("a.npz", "lenet", 8))
    (late,) = study_runs("figureA11", "paper", Setting("a.npz", "lenet", 3)).values()
    assert {recipe["top_k"] for recipe in late.parameters["recipes"]} == {0, 1, 2, 3}  # not what is the same as all


def test_titles_say_what_was_run():
    found = {scale: report.heading_of("tableA2", scale).title for scale in SCALES}
    assert found["paper"] == found["short"] == "Label sources within one budget (kmnist10k.npz, lenet)"
    assert found["smoke"] == "Label sources within one budget (digits, lenet)"


@pytest.mark.parametrize("name", ["table1", "tableA2", "figure3"])
def test_what_has_other_data_is_not_computed_elsewhere(name):
    with pytest.raises(InputError, match=r"tableA1, .*figureA11"):
        all_runs([name], "smoke", Setting("digits", "lenet", 10))


@pytest.mark.parametrize(("classes", "validation"), [(3, 5000), (10, 10_000), (100, 5000)])
def test_the_budget_of_small_runs_pays_for_every_way_elsewhere(classes, validation, monkeypatch):
    labels = torch.arange(classes).repeat_interleave(20)
    data = Dataset("made up", torch.zeros(len(labels), 1, 28, 28, dtype=torch.uint8), labels, tuple(map(str, range(classes))))
    monkeypatch.setattr("labeldistill.runs.load", lambda *more, **named: data)
    for run in study_runs("tableA1", "smoke", Setting("made up", "lenet", classes)).values():
        if run.parameters["method"] in ("expert", "unrolled"):
            scene = lay_out(run.parameters, "cpu", classes)
            scene.split = Split(*(torch.zeros(n, dtype=torch.int64) for n in (50_000, validation, 10_000)))
            assert affordable(run.parameters["budget"], prices_of(scene, run.parameters)) >= 3


def test_studies_and_the_papers_tables_go_together():
    both = all_runs(["table5", "tableA6"], "smoke")
    assert {run.kind for run in both} == {"distill", "trace", "students"}


@pytest.mark.parametrize("name, scale, wanted", [("tableA9", "smoke", "figureA11"), ("tableA1", "tiny", "smoke, short, paper")])
def test_bad_names_are_refused(name, scale, wanted):
    with pytest.raises(InputError, match=wanted) as error:
        all_runs([name], scale)
    assert "\n" not in str(error.value)


# made-up results


def store(run: Run, results: Path, found: dict) -> Path:
    folder = run.folder(results)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "result.json").write_text(json.dumps({"parameters": run.parameters, "results": {"kind": run.kind, **found}}))
    return folder


def accuracy(mean):
    return {"mean": mean, "std": 1.0, "n": 2, "values": [mean - 1, mean + 1]}


def follow(given: dict) -> dict:
    "What a recipe might have given."
    rng, recipe = random.Random(json.dumps(given)), Recipe(**given)
    found = {"recipe": given, "steps": 50, "entropy": rng.random(), "validation_accuracy": 50.0}
    found["recalls"] = [100 * rng.random() for _ in range(10)]
    point = recipe.point[0] if isinstance(recipe.point, list) else recipe.point
    expert = {} if point is None else {"iterations": 2 ** (point + 3), "expert_accuracy": 50.0 + min(point, 10)}
    return {**found, "point": point, **expert, "accuracy": accuracy(50 + 10 * rng.random())}


@pytest.fixture(scope="module")
def made_up(tmp_path_factory, distilled):
    "Results of all studies at the smoke scale."
    results, rng = tmp_path_factory.mktemp("results"), torch.Generator().manual_seed(0)
    for run in all_runs(STUDIES, "smoke"):
        if "recipes" in run.parameters:
            store(run, results, {"found": [follow(given) for given in run.parameters["recipes"]]})
        elif run.kind == "head_to_head":
            tested = {"accuracy": accuracy(60.0), "validation_accuracy": 60.0, "steps": 3}
            folder = store(run, results, {"tests": {name: tested for name in run.parameters["augmentations"]}})
            distilled.save(folder / "labels.safetensors")
        elif run.kind == "trace":
            rows = distilled.rows.tolist() + list(range(1000, 1394))
            found = {"iterations": [1], "rows": rows, "classes": [i % distilled.labels.shape[1] for i in range(400)]}
            logits = torch.randn(5, 14, 400, distilled.labels.shape[1], generator=rng)
            trace = Trace(2 ** torch.arange(14), logits, torch.rand(5, 14, dtype=torch.float64))
            save_trace(trace, store(run, results, found) / "trace.safetensors")
    return results


@pytest.mark.parametrize("name", STUDY_DRAWINGS)
def test_figures_are_drawn_from_records(name, made_up, monkeypatch):
    monkeypatch.setattr("labeldistill.study_figures.dataset_of", lambda done: Digits)
    (panel,) = draw_study(name, made_up, "smoke")
    assert (panel.title, panel.reason) == ("", "")
    axes = panel.figure.axes
    more = {"figureA2": 3, "figureA4": 2, "figureA5": 7, "figureA6": 2, "figureA8": 4, "figureA10": 4}
    assert len(axes) == more.get(name, 1)
    assert all(axis.lines or axis.collections or axis.patches or axis.images for axis in axes)


def recipe(name, made_up, **wanted):
    "The mean accuracy and the recalls of the one recipe of a study that has these entries."
    found = [one for done in gather_study(name, made_up, "smoke").values() for one in done.results.get("found", [])]
    (one,) = [one for one in found if {key: one["recipe"].get(key) for key in (*wanted, "draw")} == {"draw": None, **wanted}]
    return one["accuracy"]["mean"], one["recalls"]


def test_figures_show_what_records_say(made_up):
    names = ("figureA3", "figureA4", "figureA7", "figureA9")
    drawn = {name: draw_study(name, made_up, "smoke")[0].figure.axes[0] for name in names}
    line = drawn["figureA3"].lines[0].get_ydata()  # ten images
    control = recipe("figureA3", made_up, count=10, swap=None)[0]
    assert line == pytest.approx([100 * recipe("figureA3", made_up, count=10, swap=i)[0] / control for i in range(1, 10)])

    values = drawn["figureA4"].collections[0].get_array().reshape(6, 9)
    points = (1, 3, 4, 5, 6, 7, 8, 10, 12)
    for i, t in enumerate((0.5, 1.0, 1.5, 2.0, 3.0, 5.0)):
        assert values[i].tolist() == pytest.approx([recipe("figureA4", made_up, point=p, temperature=t)[0] for p in points])

    bars = [bar.get_height() for bar in drawn["figureA7"].containers[1]]  # without images
    without = [[recipe("figureA7", made_up, count=n, without_images=c)[1][c] for c in (3, 8)] for n in (10, 40, 80)]
    assert bars == pytest.approx([sum(pair) / 2 for pair in without])

    line = drawn["figureA9"].lines[0].get_ydata()
    draws = [recipe("figureA9", made_up, count=10, draw=i)[0] for i in range(6)]
    gains = [recipe("figureA9", made_up, count=10, decile=i)[0] - sum(draws) / 6 for i in range(1, 11)]
    assert line == pytest.approx(gains)


def test_more_figures_show_what_records_say(made_up):
    first = draw_study("figureA1", made_up, "smoke")[0].figure.axes[0]
    done = gather_study("figureA1", made_up, "smoke")
    means = [[one["accuracy"]["mean"] for one in done[source].results["found"]] for source in ("Random", *IMAGES)]  # hard, soft
    bars = [[bar.get_height() for bar in container] for container in first.containers if len(container) == 4]
    assert [pytest.approx(list(kind)) for kind in zip(*means, strict=True)] == bars

    second = draw_study("figureA2", made_up, "smoke")[0].figure.axes[0]
    drawn = {line.get_label(): line.lines[0].get_ydata() for line in second.containers}
    for n in (10, 40, 80):
        assert drawn[str(n)] == pytest.approx([recipe("figureA2", made_up, count=n, point=i)[0] for i in range(14)])

    last = draw_study("figureA11", made_up, "smoke")[0].figure.axes[0]
    hard = recipe("figureA11", made_up, count=100, top_k=0)[0]  # the most images
    assert last.lines[0].get_ydata()[-1] == pytest.approx(hard)


def test_like_classes_are_those_that_labels_name(made_up):
    done = gather_study("figureA10", made_up, "smoke")["trace"]
    trace, classes = load_trace(done.folder / "trace.safetensors"), torch.tensor(done.results["classes"])
    early = draw_study("figureA10", made_up, "smoke")[0].figure.axes[0].collections[0].get_array()
    labels = trace.logits[:, EARLY[10]].mean(0).softmax(1)
    size = labels.shape[1]
    assert early.reshape(size, size)[2, 1] == pytest.approx(float(labels[classes == 2][:, 1].mean()), rel=1e-4)


@pytest.mark.parametrize(
    ("name", "row", "wanted"),
    [
        ("tableA4", "Expert, CutMix", {"point": [3, 4, 5, 6, 7, 8, 10], "augmentation": "cutmix"}),
        ("tableA4", "True labels", {"point": None, "augmentation": "none"}),
        ("tableA5", "Draw 3", {"draw": 2}),
        ("tableA6", "Expert 4", {"first": 3}),
    ],
)
def test_tables_show_what_records_say(name, row, wanted, made_up):
    (_, rows), *_ = make_sheet(name, made_up, "smoke", made_up).sections
    mean = recipe(name, made_up, count=10, **wanted)[0]
    assert dict(rows)[row][0].text.startswith(f"{mean:.2f} ±")


def test_step_sizes_are_compared_on_the_validation_part():
    done = [cell("Unrolled", seed, [50.0], 60.0 + seed) for seed in (1, 2)]
    evidence = {("Unrolled", 10, 0.1): done[0], ("Unrolled", 10, 0.02): done[1], ("Unrolled", 100, 0.1): None}
    ((_, rows),) = SHEETS["tableA8"](evidence | {("Unrolled", 100, 0.02): None}, Path()).sections
    assert [(row, [note.text for note in notes]) for row, notes in rows] == [
        ("Unrolled, 0.1", ["61.00", "not run"]),
        ("Unrolled, 0.02", ["62.00", "not run"]),
    ]


class Digits:
    images, classes = torch.zeros(2000, 1, 8, 8, dtype=torch.uint8), tuple("0123456789")


@pytest.mark.parametrize("name", STUDY_DRAWINGS)
def test_figures_without_runs_say_so(name, tmp_path):
    assert [(panel.figure, panel.reason) for panel in draw_study(name, tmp_path, "paper")] == [(None, "not run")]


def test_the_first_figure_is_drawn_from_what_there_is(made_up, tmp_path):
    run = study_runs("figureA1", "smoke")["Random"]
    store(run, tmp_path, {"found": [follow(given) for given in run.parameters["recipes"]]})
    (panel,) = draw_study("figureA1", tmp_path, "smoke")
    assert panel.figure and panel.title == "not run: DD, Our DD, Our DD (RR)"


def test_the_frontier_has_what_nothing_cheaper_beats():
    costs, gains = torch.rand(2, 50, generator=torch.Generator().manual_seed(0)).numpy()
    rows = frontier(costs, gains)
    beaten = [any(costs[j] <= costs[i] and gains[j] > gains[i] for j in range(50)) for i in range(50)]
    assert sorted(rows) == [i for i in range(50) if not beaten[i]] and (costs[rows][1:] > costs[rows][:-1]).all()


def test_the_frontier_is_chosen_on_the_validation_part():
    columns = {"count": [10, 20, 50], "top_k": [1, 1, 1], "iterations": [10, 20, 30]}
    frame = pd.DataFrame({**columns, "values": [60.0, 50.0, 70.0], "validation_accuracy": [60.0, 70.0, 65.0]})
    axis = Figure().subplots()
    draw_frontier(axis, frame)
    (line,) = (line for line in axis.lines if len(line.get_xdata()))
    assert (line.get_xdata().tolist(), line.get_ydata().tolist()) == ([10, 20], [60.0, 50.0])


def test_every_stopping_point_is_drawn_also_where_experts_are_as_accurate(made_up):
    (panel,) = draw_study("figureA2", made_up, "smoke")
    assert {len(container[0].get_xdata()) for axis in panel.figure.axes for container in axis.containers} == {14}


def test_early_points_are_those_that_validation_picks():
    (done,) = gather_study("figureA2", REPOSITORY / "papermill_runs" / "results", "paper").values()
    frame = recipe_frame(done).dropna(subset="point").set_index("point")
    assert frame.groupby("count")["validation_accuracy"].idxmax().to_dict() == {
        10 * count: point for count, point in EARLY.items()
    }


def test_gains_are_over_the_control_with_as_many_images(made_up):
    from labeldistill.study_figures import frame_of

    frame = frame_of(gather_study("figureA9", made_up, "smoke"))
    random = frame["run"] == "draws"
    gains = relative_to(frame[frame["decile"].notna()], frame[random])
    control = frame[random & (frame["count"] == 10)]["values"].mean()
    own = gains[(gains["count"] == 10) & (gains["decile"] == 3)]
    assert own["difference"].tolist() == pytest.approx((own["values"] - control).tolist()) and len(own) == 2


def test_labels_are_no_distance_from_the_experts_they_come_from():
    trace = Trace(torch.tensor([1, 2]), torch.randn(3, 2, 8, 4), torch.zeros(3, 2))
    apart = distances(trace.logits[:, 1, :5].mean(0).softmax(1), trace)
    assert apart.shape == (2, 5) and apart[1].max() < 1e-3 < apart[0].min()


# sheets


def cell(way, seed, accuracies, validation, steps=100):
    run = new_run("head_to_head", "paper", {"base_seed": seed, "label_smoothing": sum(map(ord, way)) / 1e6})
    mean = sum(accuracies) / len(accuracies)
    tests = {"none": {"accuracy": {"values": accuracies, "mean": mean}, "validation_accuracy": validation, "steps": steps}}
    return Done(run, {"tests": tests}, Path(run.name))


def test_all_students_of_all_base_sets_count_and_validation_picks():
    evidence = {
        ("LD", 10, 0): cell("LD", 0, [60.0, 62.0], 70.0),
        ("LD", 10, 1): cell("LD", 1, [64.0, 66.0], 71.0),
        ("Expert", 10, 0): cell("Expert", 0, [80.0, 80.0], 69.0),
        ("Expert", 10, 1): cell("Expert", 1, [80.0, 80.0], 71.5),
    }
    rows = dict(head_to_head_sheet(evidence, Path()).sections[0][1])
    assert rows["LD"][0].text == "63.00 ± 2.58 (4)" and rows["Expert"][0].text == "80.00 ± 0.00 (4)"
    assert rows["Picked by validation"][0].text == "LD: 63.00 ± 2.58 (4)"  # whatever the test says


def test_ways_are_compared_on_the_base_sets_that_all_were_run_on():
    evidence = {("LD", 10, seed): cell("LD", seed, [60.0], accuracy) for seed, accuracy in ((0, 70.0), (1, 70.0))}
    evidence |= {("Expert", 10, seed): cell("Expert", seed, [60.0], accuracy) for seed, accuracy in ((0, 69.0), (1, 75.0))}
    lacking = evidence | {("LD", 10, 1): None}  # the base set that would let the other way win
    assert [picked(cells, 10, "none")[0] for cells in (evidence, lacking)] == ["Expert", "LD"]
    rows = dict(head_to_head_sheet(lacking | {("Expert", 10, 0): cell("Expert", 0, [60.0], 71.0)}, Path()).sections[0][1])
    assert rows["Expert"][0].text.endswith("(2)") and rows["Picked by validation"][0].text.endswith("(1)")
    assert picked(evidence | dict.fromkeys([("Unrolled", 10, 0), ("Unrolled", 10, 1)]), 10, "none") is None


def test_base_sets_stand_one_by_one_with_their_records(tmp_path):
    first, second = (cell("LD", seed, [50.0 + seed, 52.0 + seed], 70.0) for seed in (0, 1))
    evidence = {("LD", 10, 0): first, ("LD", 10, 1): None, ("LD", 10, 2): second, ("Expert", 10, 0): None}
    sections = dict(head_to_head_sheet(evidence, tmp_path).sections)
    rows = dict(sections["plain images: means of base sets 0, 1, 2"])
    assert [part.text for part in rows["LD"][0].parts] == ["51.00", "-", "52.00"] and rows["Expert"][0].text == "not run"
    links = [part.link for part in rows["LD"][0].parts]
    assert links[1] is None and [(tmp_path / links[i]).resolve() for i in (0, 2)] == [
        (done.folder / "result.json").resolve() for done in (first, second)
    ]


def test_what_labels_cost_is_the_mean_over_base_sets():
    cells = [cell("LD", seed, [60.0], 70.0) for seed in (0, 1)]
    for done, passes in zip(cells, (6e6, 7e6), strict=True):
        done.results["passes"] = {"making": passes, "choosing": 1e6}
    sheet = head_to_head_sheet(
        {("LD", 10, 0): cells[0], ("LD", 10, 1): cells[1], ("True labels", 10, 0): cell("", 0, [9.0], 9.0)}, Path()
    )
    costs = dict(sheet.sections[-1][1])
    assert costs["LD"][0].text == "6.50 + 1.00" and costs["True labels"][0].text == "0.00 + 0.00"


def test_cells_whose_students_took_the_most_steps_that_were_tried_are_marked():
    few, most = {("LD", 10, 0): cell("LD", 0, [60.0], 70.0)}, {("LD", 10, 1): cell("LD", 1, [64.0], 71.0, steps=1000)}
    plain, marked = head_to_head_sheet(few, Path()), head_to_head_sheet(few | most, Path())
    assert plain.remark == "" and "most steps" in marked.remark
    texts = [dict(sheet.sections[0][1])["LD"][0].text for sheet in (plain, marked)]
    assert texts == ["60.00 ± 0.00 (1)", "62.00 ± 2.83 (2)†"]


def test_a_report_of_a_setting_has_its_studies_and_no_others(made_up, tmp_path):
    here, elsewhere = Setting("digits", "lenet", 10), Setting("letters", "lenet", 26)
    paths = [Setting(path, "lenet", 10) for path in ("digits", "/a/digits.npz", "/b/digits.npz")]
    assert len({report.report_name(at) for at in paths}) == 3 and all("digits-lenet" in report.report_name(at) for at in paths)
    for at, was_run in ((here, True), (elsewhere, False)):
        out = tmp_path / at.target
        assert report.write_report(made_up, out, "smoke", setting=at) == {}
        tables = [table.read_text() for table in (out / "tables").iterdir()]
        assert all(("result.json" in table) == was_run and (table == "not run\n") != was_run for table in tables)
        text = (out / "index.html").read_text()
        assert f"({at.target}, lenet)" in text and "Figure 1" not in text.replace("their Figure 1", "")
        assert {path.stem for path in (out / "tables").iterdir()} == {name for name in ANYWHERE if name in SHEETS}
        assert bool(list((out / "figures").glob("*"))) == was_run and not (out / "numbers.csv").exists()
        assert ('class="ours"' in text, "of 456 numbers" in text) == (False, False)


@pytest.mark.parametrize("name", SHEETS)
def test_sheets_say_what_was_run(name, made_up, tmp_path):
    full, empty = (make_sheet(name, results, "smoke", results / "report") for results in (made_up, tmp_path))
    assert full.was_run and not empty.was_run
    links = [note.link for _, rows in full.sections for _, notes in rows for note in notes if note.link]
    assert links and all((made_up / "report" / link).resolve().exists() for link in links)
    assert report.any_table(name, tmp_path, "smoke", tmp_path) == "not run\n"
    text = report.any_table(name, made_up, "smoke", made_up / "report")
    rows = [line for line in text.splitlines() if line.startswith("|")]
    number = r"\[\d+\.\d\d\]" if name == "tableA8" else r"\d ± \d"  # on validation there is one number a cell
    assert len({row.count("|") for row in rows}) == 1 and re.search(number, text)


def test_the_home_page_shows_label_sources_once_there_are_any(made_up, tmp_path):
    def block(results):
        return report.readme_block(results, Path(), "results")

    assert "Soft labels" not in block(tmp_path)
    run = study_runs("tableA1", "paper")["LD", 10, 1234]
    store(run, tmp_path, {"tests": {"none": {"accuracy": accuracy(60.0), "validation_accuracy": 60.0, "steps": 50}}})
    assert "### Soft labels" in block(tmp_path) and "[60.00 ± 1.41 (2)]" in block(tmp_path)


def test_kinds_have_notebooks():
    assert {KINDS[run.kind].notebook for run in all_runs(STUDIES, "paper")} >= {"trace.ipynb", "students.ipynb", "relabel.ipynb"}


def test_titles_say_where_stopping_points_come_from():
    with_points = {name for name, study in STUDIES.items() if "stopping points as for MNIST" in study.title(DIGITS)}
    assert not any("as for MNIST" in study.title(study.setting) for study in STUDIES.values())
    for name, study in STUDIES.items():
        recipes = [recipe for part in study.parts(MNIST).values() for recipe in part.get("recipes", ())]
        points = {str(recipe["point"]) for recipe in recipes if "point" in recipe}
        at_early = bool(points) and points <= set(map(str, EARLY.values()))
        assert (name in with_points) == (at_early or name == "figureA6"), name  # the latter has later points too
