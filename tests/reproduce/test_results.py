"""The results notebooks: their cells on no records, on made-up ones, and on the committed ones; the report that executes them."""

import json
import random
import re
from dataclasses import replace
from pathlib import Path

import nbformat
import pandas as pd
import pytest
import torch
import user_networks
from IPython.display import Markdown
from matplotlib.figure import Figure
from scipy.spatial.distance import jensenshannon

from labeldistill.data.base import choose_base
from labeldistill.data.catalog import load
from labeldistill.methods.experts import ExpertTrajectory, load_trajectory, save_trajectory
from labeldistill.networks.network import make_network
from labeldistill.networks.zoo import NETWORKS
from labeldistill.reproduce import render
from labeldistill.reproduce.compare import by_source, picked
from labeldistill.reproduce.exhibits import (
    ANYWHERE,
    EXHIBITS,
    STUDIES,
    all_runs,
    cells,
    exhibit_runs,
    names_at,
)
from labeldistill.reproduce.records import Record, write_json
from labeldistill.reproduce.runs import Done, finished, new_run
from labeldistill.reproduce.soft_labels import EARLY, IMAGES, Setting

REPOSITORY = Path(__file__).parents[2]
PAGES = render.read_pages(REPOSITORY / "nbs" / "results")
COMMITTED = REPOSITORY / "papermill_runs" / "results"
PARAMETERS = ["results", "scale", "target", "network", "image_size", "channels", "images"]


class Shown:
    "What a page shows when its code is executed in this process, by table and figure; and the functions that it defines."

    def __init__(self, name, results, scale, monkeypatch, **parameters):
        self.by_name, self.scope, self.last = {"": []}, {}, ""
        for module in ("IPython.display", "labeldistill.reproduce.render"):
            monkeypatch.setattr(f"{module}.display", self.display)
        for cell in PAGES[name].cells:
            if cell.cell_type == "code":
                exec("\n".join(line for line in cell.source.splitlines() if not line.startswith("%")), self.scope)
            if "parameters" in cell.metadata.get("tags", []):
                self.scope |= {"results": str(results), "scale": scale, **parameters}

    def display(self, *things):
        for thing in things:
            title = isinstance(thing, Markdown) and re.match(r'<a id="(\w+)">', thing.data)
            if title:
                self.last = title[1]
            self.by_name.setdefault(self.last, []).append(thing)

    def figures(self, name):
        return [thing for thing in self.by_name[name] if isinstance(thing, Figure)]

    def axes(self, name):
        (figure,) = self.figures(name)
        return figure.axes

    def table(self, name):
        (table,) = [thing for thing in self.by_name[name] if isinstance(thing, render.Table)]
        return table

    def texts(self, name):
        "What stands under the title."
        return [thing.data for thing in self.by_name[name][1:] if isinstance(thing, Markdown)]


# parameters


def test_every_page_has_one_cell_of_parameters():
    for name, page in PAGES.items():
        (cell,) = [cell for cell in page.cells if "parameters" in cell.metadata.get("tags", [])]
        assert re.findall(r"^(\w+): ", cell.source, re.M) == PARAMETERS, name
        scope = {}
        exec(cell.source, scope)
        values = [scope[parameter] for parameter in PARAMETERS]
        assert values == ["../../papermill_runs/results", "paper", None, None, None, None, False]


# without records


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("scale", ["smoke", "paper"])
def test_pages_without_records_say_so(scale, name, tmp_path, monkeypatch, no_network, capsys):
    shown = Shown(name, tmp_path, scale, monkeypatch, images=True)
    for exhibit in render.exhibits_on(PAGES[name]):
        drawn, texts = shown.figures(exhibit), shown.texts(exhibit)
        if exhibit in ("figure4", "figure5"):  # no runs; images of data sets that are not here are not downloaded
            reasons = {text for text in texts if text.startswith("not drawn")}
            assert len(drawn) == 2 and all("not on disk" in reason for reason in reasons)
        elif exhibit.startswith("figure"):
            assert "not run" in texts and (not drawn or exhibit == "figure7"), exhibit
        else:
            assert "not run" in shown.table(exhibit).markdown() and "result.json" not in shown.table(exhibit).markdown()
    if name in ("cost", "flexibility", "deviations"):
        assert "not run" in capsys.readouterr().out


@pytest.mark.parametrize("name", PAGES)
def test_pages_of_another_setting_have_its_studies_and_no_others(name, tmp_path, monkeypatch):
    shown = Shown(name, tmp_path, "smoke", monkeypatch, target="letters", network="convnet")
    for exhibit in render.exhibits_on(PAGES[name]):
        title = shown.by_name[exhibit][0].data
        assert ("(letters, convnet" in title) == (exhibit in ANYWHERE)
        assert title.endswith("not of this data") == (exhibit not in ANYWHERE)
        assert len(shown.by_name[exhibit]) == 1 or exhibit in ANYWHERE


# made-up records


def store(run, results, found):
    "Writes what a run might have found."
    folder = run.folder(results)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "run.json", run.spec)
    facts = {"device": "cpu", "seconds": 60.0, "peak_memory_mb": 500.0}
    write_json(folder / "result.json", {"results": {"kind": run.kind, **found}, **facts})
    return folder


def accuracy(mean):
    return {"mean": mean, "std": 1.0, "n": 2, "values": [mean - 1, mean + 1]}


def follow(given):
    "What a recipe might have given."
    rng = random.Random(json.dumps(given))
    found = {"recipe": given, "steps": 50, "entropy": rng.random(), "validation_accuracy": 50.0}
    found["recalls"] = [100 * rng.random() for _ in range(10)]
    point = given.get("point")
    point = point[0] if isinstance(point, list) else point
    expert = {} if point is None else {"iterations": 2 ** (point + 3), "expert_accuracy": 50.0 + min(point, 10)}
    return {**found, "point": point, **expert, "accuracy": accuracy(50 + 10 * rng.random())}


@pytest.fixture(scope="module")
def made_up(tmp_path_factory, distilled):
    "Results of everything at the smoke scale."
    results, rng = tmp_path_factory.mktemp("results"), torch.Generator().manual_seed(0)
    steps = {f"{n:+d}": {"accuracy": accuracy(60.0 + n / 10)} for n in (-50, -20, -15, -10, -5, 0, 5, 10, 20, 50, 100)}
    for run in all_runs(EXHIBITS, "smoke"):
        if "recipes" in run.spec:
            store(run, results, {"found": [follow(given) for given in run.spec["recipes"]]})
        elif run.kind == "head_to_head":
            tested = {"accuracy": accuracy(60.0), "validation_accuracy": 60.0, "steps": 3}
            folder = store(run, results, {"tests": {name: tested for name in run.spec["augmentations"]}})
            distilled.save(folder / "labels.safetensors")
        elif run.kind == "experts":
            rows = distilled.rows.tolist() + list(range(1000, 1394))
            found = {"iterations": [1], "rows": rows, "classes": [i % distilled.labels.shape[1] for i in range(400)]}
            logits = torch.randn(5, 14, 400, distilled.labels.shape[1], generator=rng)
            trajectory = ExpertTrajectory(2 ** torch.arange(14), logits, torch.rand(5, 14, dtype=torch.float64))
            save_trajectory(trajectory, store(run, results, found) / "trace.safetensors")
        elif run.kind == "gradient_variance":
            store(run, results, {"iteration": [1, 2], "variance": [1.0, 2.0], "relative_variance": [3.0, None]})
        else:
            found = {"accuracy": accuracy(70.0), "validation_accuracy": 70.0, "minutes": accuracy(2.0)}
            found |= {"deviations": steps, "steps": 50}
            images = {"learned_images": distilled.inputs, "rates": (0.1,) * 6, "rows": distilled.rows[:0]}
            labels = replace(distilled, **images) if "dd" in run.spec.get("method", ()) else distilled
            labels.save(store(run, results, found) / "labels.safetensors")
    return results


@pytest.fixture(scope="module")
def soft(made_up):
    "The page of soft labels on made-up records."
    with pytest.MonkeyPatch.context() as monkeypatch:
        yield Shown("soft_labels", made_up, "smoke", monkeypatch, images=True)


@pytest.fixture(scope="module")
def sources():
    "The functions of the page of label sources."
    with pytest.MonkeyPatch.context() as monkeypatch:
        yield Shown("head_to_head", "nowhere", "paper", monkeypatch).scope


@pytest.mark.parametrize("name", [name for name in STUDIES if name.startswith("figure")])
def test_figures_of_studies_are_drawn_from_records(name, soft):
    axes, more = soft.axes(name), {"figureA2": 3, "figureA4": 2, "figureA5": 7, "figureA6": 2, "figureA8": 4, "figureA10": 4}
    assert soft.texts(name) == [] and len(axes) == more.get(name, 1)
    assert all(axis.lines or axis.collections or axis.patches or axis.images for axis in axes)


def test_figure_2_is_drawn_from_what_there_is(made_up, monkeypatch):
    shown = Shown("flexibility", made_up, "smoke", monkeypatch)
    axes = shown.axes("figure2")
    assert [axis.get_title()[:3] for axis in axes] == ["(a)", "(b)", "(c)", "(d)"]
    words = {text.get_text() for axis in axes for text in axis.get_legend().get_texts()}
    assert {"MNIST (LD)", "MNIST (DD)", "MNIST (SLDD)", "CIFAR-10 (DD)", "ours", "paper"} <= words
    assert all(sum(len(line.get_xdata()) for line in axis.lines) > 4 for axis in axes)


@pytest.mark.parametrize("name", ["within_data_set", "cross_data_set", "images_against_labels", "analysis", "cost", "deviations"])
def test_the_other_pages_run_on_records(name, made_up, monkeypatch, no_network):
    shown = Shown(name, made_up, "smoke", monkeypatch, images=name != "analysis")
    tables = [x for x in render.exhibits_on(PAGES[name]) if x.startswith("table")]
    assert all("not run" not in shown.table(x).markdown().replace("quoted", "") or x == "table2" for x in tables[:1])
    assert sum(isinstance(thing, Figure) for things in shown.by_name.values() for thing in things) >= 1
    if name == "analysis":
        assert len(shown.figures("figure3")) == 1 and len(shown.figures("figure7")) == 3 and shown.figures("figure8") == []
        assert shown.texts("figure8") == [render.NOT_KEPT]


def test_stretching_uses_all_grays_and_bears_a_blank_image(tmp_path, monkeypatch):
    stretch = Shown("cross_data_set", tmp_path, "smoke", monkeypatch).scope["stretch"]
    image = torch.randint(90, 110, (1, 4, 4), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    assert (stretch(image).min(), stretch(image).max()) == (0, 255)
    assert stretch(torch.full((1, 4, 4), 7, dtype=torch.uint8)).eq(0).all()


def test_images_are_reconstructed_once_for_all_classes(tmp_path, monkeypatch):
    calls, scope = [], Shown("cross_data_set", tmp_path, "smoke", monkeypatch).scope
    reconstruct, digits = scope["reconstruct"], load("digits")
    scope["reconstruct"] = lambda *given: (calls.append(given), reconstruct(*given))[1]
    scope["draw_reconstructions"](digits.images[:10], torch.eye(10), digits, examples=2).savefig(tmp_path / "a.png")
    assert len(calls) == 1


def test_labels_are_drawn_as_maps_and_beside_their_images(tmp_path, monkeypatch):
    scope = Shown("analysis", tmp_path, "smoke", monkeypatch).scope
    base, digits, axis = choose_base(load("letters"), 10, balanced=False, seed=0), load("digits"), Figure().subplots()
    labels = torch.rand(10, 10, generator=torch.Generator().manual_seed(0)).softmax(1)
    figure = scope["draw_examples"](base.images[:3], ["a", "b", "c"], {"ridge": labels[:3]}, digits.classes)
    figure.savefig(tmp_path / "b.png")
    scope["draw_mean_labels"](axis, labels, base.labels, base.dataset.classes, digits.classes)
    assert [tick.get_text() for tick in axis.get_yticklabels()] == [base.dataset.classes[c] for c in base.labels.unique()]


def test_layers_of_networks_are_listed_in_order_of_use(tmp_path, monkeypatch):
    layer_table = Shown("analysis", tmp_path, "smoke", monkeypatch).scope["layer_table"]
    for name in NETWORKS:
        network = make_network(name, 3, 32, 10)
        table, parameters = layer_table(network), network.build(0).parameters()
        assert table["parameters"].sum() == sum(parameter.numel() for parameter in parameters)
        assert table.index[-1] == network.last_layer and table["output"].iloc[-1] == "10"
        assert table["multiply-adds"].iloc[-1] == 10 * network.features
    by_hand = 28 * 28 * 6 * 25, 10 * 10 * 16 * 6 * 25, 400 * 120, 120 * 84, 84 * 10
    assert layer_table(make_network("lenet", 1, 28, 10))["multiply-adds"].tolist() == [*by_hand]
    table = layer_table(make_network(user_networks.transformer, 3, 8, 3))
    assert table.loc["heads.head", "output"] == "3" and table.loc["conv_proj", "multiply-adds"] > 0


def test_contenders_are_all_that_learn_from_as_many_examples(tmp_path, monkeypatch):
    contenders = Shown("images_against_labels", tmp_path, "paper", monkeypatch).scope["contenders"]
    six = {"LD", "LD RR", "DD", "SLDD", "Our DD", "Our DD RR"}
    found = contenders("MNIST", "100", tmp_path, "paper")
    assert found.keys() == six and found["Our DD RR"].cell.mean == 36.43 and found["SLDD"].cell.mean == 82.7
    assert contenders("CIFAR-10", "100", tmp_path, "paper")["DD"].cell.mean == 36.8
    assert contenders("MNIST", "10", tmp_path, "paper").keys() == six - {"DD", "SLDD"}


@pytest.mark.parametrize(
    "labels, images, said",
    [
        (88.0, 80.0, "labels"),
        (70.0, 80.0, "images"),
        (88.0, 87.0, "no difference beyond chance"),
        (88.0, None, "not run: DD"),
        (None, 80.0, "not run: LD"),
        (None, None, "not run: LD, DD"),
    ],
)
def test_labels_and_images_are_judged_by_our_own_numbers(labels, images, said, tmp_path, monkeypatch):
    scope = Shown("images_against_labels", tmp_path, "paper", monkeypatch).scope
    for system, mean in (("LD", labels), ("DD", images)):
        if mean is not None:
            store(scope["rivals"][system].cell.run, tmp_path, {"accuracy": accuracy(mean)})
    found = scope["contenders"]("MNIST", "100", tmp_path, "paper")
    judged = scope["labels_against_images"](found, {"LD": 1.0, "LD RR": 1.0})
    assert judged.better["LD", "DD"] == said
    assert len(judged) == 2 * (len(found) - 2) and judged.better["LD RR", "SLDD"] == "not run: LD RR, SLDD"


def test_hours_are_summed_by_kind_and_device(tmp_path, monkeypatch):
    for i, (kind, device) in enumerate([("distill", "cpu"), ("distill", "cpu"), ("distill", "GPU"), ("baseline", "cpu")]):
        folder = tmp_path / "paper" / f"{kind}-{i}"
        folder.mkdir(parents=True)
        facts = {"device": device, "seconds": 3600.0 * (i + 1), "peak_memory_mb": 500.0 * (i + 1)}
        write_json(folder / "run.json", {"kind": kind})
        write_json(folder / "result.json", {"results": {"kind": "as it was called"}, **facts})
    scope = Shown("cost", tmp_path, "paper", monkeypatch).scope
    frame = scope["cost"]
    assert frame.loc[("distill", "cpu")].to_list() == [2, 3.0, 1.0] and frame.loc[("baseline", "cpu"), "hours"] == 4.0
    assert scope["cost_frame"](tmp_path, "short").empty


def test_claims_have_a_command_minutes_and_a_tolerance(made_up, monkeypatch):
    table, costs = Shown("claims", made_up, "smoke", monkeypatch).by_name[""]
    rows = {line.split(".**")[0].strip("| *"): line.split(" | ") for line in table.data.splitlines()[2:]}
    assert len(rows) == len(EXHIBITS) - 2 and next(iter(rows)) == "Table 1"
    _, command, minutes, runs, hours, tolerance, verdicts = rows["Table 1"]
    assert hours == "" and len(costs.data.splitlines()) == 2  # nothing is left to do
    assert command == "`labeldistill reproduce table1 --scale smoke`" and runs == "28 of 28" and "46 better" in verdicts
    assert minutes and [float(limit) >= 0 for limit in tolerance.split(" to ")] == [True, True]


def recipe(name, made_up, **wanted):
    "The mean accuracy and the recalls of the one recipe of a study that has these entries."
    runs = finished(exhibit_runs(name, "smoke"), made_up).values()
    found = [one for done in runs for one in done.results.get("found", [])]
    (one,) = [one for one in found if {key: one["recipe"].get(key) for key in (*wanted, "draw")} == {"draw": None, **wanted}]
    return one["accuracy"]["mean"], one["recalls"]


def test_figures_show_what_records_say(soft, made_up):
    drawn = {name: soft.axes(name)[0] for name in ("figureA3", "figureA4", "figureA7", "figureA9")}
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


def test_more_figures_show_what_records_say(soft, made_up):
    first = soft.axes("figureA1")[0]
    done = finished(exhibit_runs("figureA1", "smoke"), made_up)
    means = [[one["accuracy"]["mean"] for one in done[source].results["found"]] for source in ("Random", *IMAGES)]  # hard, soft
    bars = [[bar.get_height() for bar in container] for container in first.containers if len(container) == 4]
    assert [pytest.approx(list(kind)) for kind in zip(*means, strict=True)] == bars

    second = soft.axes("figureA2")[0]
    drawn = {line.get_label(): line.lines[0].get_ydata() for line in second.containers}
    for n in (10, 40, 80):
        assert drawn[str(n)] == pytest.approx([recipe("figureA2", made_up, count=n, point=i)[0] for i in range(14)])

    last = soft.axes("figureA11")[0]
    hard = recipe("figureA11", made_up, count=100, top_k=0)[0]  # the most images
    assert last.lines[0].get_ydata()[-1] == pytest.approx(hard)


def test_every_stopping_point_is_drawn_also_where_experts_are_as_accurate(soft):
    axes = soft.axes("figureA2")
    assert {len(container[0].get_xdata()) for axis in axes for container in axis.containers} == {14}


def test_like_classes_are_those_that_labels_name(soft, made_up):
    done = finished(exhibit_runs("figureA10", "smoke"), made_up)["experts"]
    trajectory, classes = load_trajectory(done.folder / "trace.safetensors"), torch.tensor(done.results["classes"])
    early = soft.axes("figureA10")[0].collections[0].get_array()
    labels = trajectory.logits[:, EARLY[10]].mean(0).softmax(1)
    size = labels.shape[1]
    assert early.reshape(size, size)[2, 1] == pytest.approx(float(labels[classes == 2][:, 1].mean()), rel=1e-4)


def test_the_first_figure_is_drawn_from_what_there_is(tmp_path, monkeypatch):
    run = exhibit_runs("figureA1", "smoke")["Random"]
    store(run, tmp_path, {"found": [follow(given) for given in run.spec["recipes"]]})
    shown = Shown("soft_labels", tmp_path, "smoke", monkeypatch)
    assert shown.figures("figureA1") and shown.texts("figureA1") == ["not run: DD, Our DD, Our DD (RR)"]


def test_the_frontier_has_what_nothing_cheaper_beats(soft):
    costs, gains = torch.rand(2, 50, generator=torch.Generator().manual_seed(0)).numpy()
    rows = soft.scope["frontier"](costs, gains)
    beaten = [any(costs[j] <= costs[i] and gains[j] > gains[i] for j in range(50)) for i in range(50)]
    assert sorted(rows) == [i for i in range(50) if not beaten[i]] and (costs[rows][1:] > costs[rows][:-1]).all()


def test_the_frontier_is_chosen_on_the_validation_part(soft):
    columns = {"count": [10, 20, 50], "top_k": [1, 1, 1], "iterations": [10, 20, 30]}
    frame = pd.DataFrame({**columns, "values": [60.0, 50.0, 70.0], "validation_accuracy": [60.0, 70.0, 65.0]})
    axis = Figure().subplots()
    soft.scope["draw_frontier"](axis, frame)
    (line,) = (line for line in axis.lines if len(line.get_xdata()))
    assert (line.get_xdata().tolist(), line.get_ydata().tolist()) == ([10, 20], [60.0, 50.0])


def test_gains_are_over_the_control_with_as_many_images(soft, made_up):
    frame = soft.scope["student_frame"](finished(exhibit_runs("figureA9", "smoke"), made_up))
    control = frame[frame["run"] == "draws"]
    gains = soft.scope["relative_to"](frame[frame["decile"].notna()], control)
    own = gains[(gains["count"] == 10) & (gains["decile"] == 3)]
    mean = control[control["count"] == 10]["values"].mean()
    assert own["difference"].tolist() == pytest.approx((own["values"] - mean).tolist()) and len(own) == 2


def test_the_jensen_shannon_distance_is_scipys(soft):
    distance = soft.scope["jensen_shannon"]
    a, b = torch.randn(2, 20, 7, generator=torch.Generator().manual_seed(0)).double().mul(3).softmax(-1)
    expected = torch.from_numpy(jensenshannon(a.numpy(), b.numpy(), base=2, axis=1))
    torch.testing.assert_close(distance(a, b), expected, rtol=1e-9, atol=0)
    assert (distance(a, a) < 1e-6).all()


def test_labels_are_no_distance_from_the_experts_they_come_from(soft):
    trajectory = ExpertTrajectory(torch.tensor([1, 2]), torch.randn(3, 2, 8, 4), torch.zeros(3, 2))
    apart = soft.scope["distances"](trajectory.logits[:, 1, :5].mean(0).softmax(1), trajectory)
    assert apart.shape == (2, 5) and apart[1].max() < 1e-3 < apart[0].min()


def test_early_points_are_those_that_validation_picks(soft):
    (done,) = finished(exhibit_runs("figureA2", "paper"), COMMITTED).values()
    frame = soft.scope["recipe_frame"](done).dropna(subset="point").set_index("point")
    assert frame.groupby("count")["validation_accuracy"].idxmax().to_dict() == {
        10 * count: point for count, point in EARLY.items()
    }


@pytest.mark.parametrize(
    ("name", "row", "wanted"),
    [
        ("tableA4", "Expert, CutMix", {"point": [3, 4, 5, 6, 7, 8, 10], "augmentation": "cutmix"}),
        ("tableA4", "True labels", {"point": None, "augmentation": "none"}),
        ("tableA5", "Draw 3", {"draw": 2}),
        ("tableA6", "Expert 4", {"first": 3}),
    ],
)
def test_tables_show_what_records_say(name, row, wanted, soft, made_up):
    mean = recipe(name, made_up, count=10, **wanted)[0]
    assert soft.table(name).rows["", row][0][0].text.startswith(f"{mean:.2f} ±")


# what changes cost


def test_what_a_change_costs_is_counted_from_each_systems_own_test(tmp_path, monkeypatch):
    runs = exhibit_runs("figure2", "paper")
    found = {"LeNet: MNIST (DD)": 80.0, "sgd: MNIST (DD)": 70.5, "LeNet: MNIST (LD)": 87.0, "sgd: CIFAR-10 (LD)": 30.0}
    for key, mean in found.items():
        store(runs[key], tmp_path, {"accuracy": accuracy(mean)})
    deviations = {f"{steps:+d}": {"accuracy": accuracy(80.0 + steps)} for steps in (-20, 0)}
    store(runs["steps: MNIST (DD)"], tmp_path, {"deviations": deviations})
    shown = Shown("flexibility", tmp_path, "paper", monkeypatch)
    lost = shown.scope["lost"]
    assert lost["MNIST (DD)"].dropna().to_dict() == {"-20 steps": 20.0, "sgd": 9.5}
    assert [*lost.columns] == ["MNIST (DD)"]  # nothing was changed for the other
    assert "-15.accuracy" in shown.texts("figure2")[0]  # a record without a number is named


def test_shared_runs_are_told_where_the_papers_numbers_differ(monkeypatch, tmp_path):
    shared = Shown("deviations", tmp_path, "paper", monkeypatch).scope["shared_cells"]("paper")
    together = shared[shared["cells"].str.contains("Table 1 MNIST LD 100")]
    assert len(together) == 1 and "Table 6 MNIST (LD) Set 3" in together["cells"].item()
    assert together["the paper's"].item().split(", ").count("87.27") >= 2 and "87.49" in together["the paper's"].item()


def test_methods_of_a_scenario_go_together(monkeypatch, tmp_path):
    by_scenario = Shown("analysis", tmp_path, "paper", monkeypatch).scope["by_scenario"]
    runs = {"MNIST (LD)": 1, "MNIST (LD RR)": 2, "E → K (LD)": 3}
    assert by_scenario(runs) == {"MNIST": {"LD": 1, "LD RR": 2}, "E → K": {"LD": 3}}


# label sources


def cell(source, seed, accuracies, validation, steps=100):
    method = {"true": {"smoothing": sum(map(ord, source)) / 1e6}}
    run = new_run("head_to_head", "paper", task={"target": "mnist", "base_examples": 10}, method=method, seed=seed)
    mean = sum(accuracies) / len(accuracies)
    tests = {"none": {"accuracy": {"values": accuracies, "mean": mean}, "validation_accuracy": validation, "steps": steps}}
    return Done(run, {"tests": tests}, Path(run.name))


def rows_of(table, section=""):
    return {row: cells for (own, row), cells in table.rows.items() if own == section}


def test_all_students_of_all_base_sets_count_and_validation_picks(sources):
    runs = {
        ("LD", 10, 0): cell("LD", 0, [60.0, 62.0], 70.0),
        ("LD", 10, 1): cell("LD", 1, [64.0, 66.0], 71.0),
        ("Expert", 10, 0): cell("Expert", 0, [80.0, 80.0], 69.0),
        ("Expert", 10, 1): cell("Expert", 1, [80.0, 80.0], 71.5),
    }
    rows = rows_of(sources["head_to_head_table"](runs))
    assert rows["LD"][0][0].text == "63.00 ± 2.58 (4)" and rows["Expert"][0][0].text == "80.00 ± 0.00 (4)"
    assert rows["Picked by validation"][0][0].text == "LD: 63.00 ± 2.58 (4)"  # whatever the test says


def test_sources_are_compared_on_the_base_sets_that_all_were_run_on(sources):
    runs = {("LD", 10, seed): cell("LD", seed, [60.0], accuracy) for seed, accuracy in ((0, 70.0), (1, 70.0))}
    runs |= {("Expert", 10, seed): cell("Expert", seed, [60.0], accuracy) for seed, accuracy in ((0, 69.0), (1, 75.0))}
    lacking = runs | {("LD", 10, 1): None}  # the base set that would let the other source win
    assert [picked(cells, 10, "none")[0] for cells in (runs, lacking)] == ["Expert", "LD"]
    rows = rows_of(sources["head_to_head_table"](lacking | {("Expert", 10, 0): cell("Expert", 0, [60.0], 71.0)}))
    assert rows["Expert"][0][0].text.endswith("(2)") and rows["Picked by validation"][0][0].text.endswith("(1)")
    assert picked(runs | dict.fromkeys([("Unrolled", 10, 0), ("Unrolled", 10, 1)]), 10, "none") is None


def test_base_sets_that_share_a_run_count_once():
    done = cell("LD", 0, [60.0], 70.0)
    assert by_source({("LD", 10, 0): done, ("LD", 10, 1): replace_run(done), ("LD", 50, 0): None}) == {("LD", 10): [done]}


def replace_run(done):
    "The same run, made anew."
    return done._replace(run=replace(done.run))


def test_base_sets_stand_one_by_one_with_their_records(sources, tmp_path):
    first, second = (cell("LD", seed, [50.0 + seed, 52.0 + seed], 70.0) for seed in (0, 1))
    runs = {("LD", 10, 0): first, ("LD", 10, 1): None, ("LD", 10, 2): second, ("Expert", 10, 0): None}
    rows = rows_of(sources["head_to_head_table"](runs), "plain images: means of base sets 0, 1, 2")
    assert [entry.text for entry in rows["LD"][0]] == ["51.00", "-", "52.00"] and rows["Expert"][0][0].text == "not run"
    assert [entry.run for entry in rows["LD"][0]] == [first.folder, None, second.folder]


def test_what_labels_cost_is_the_mean_over_base_sets(sources):
    cells = [cell("LD", seed, [60.0], 70.0) for seed in (0, 1)]
    for done, passes in zip(cells, (6e6, 7e6), strict=True):
        done.results["passes"] = {"making": passes, "choosing": 1e6}
    runs = {("LD", 10, 0): cells[0], ("LD", 10, 1): cells[1], ("True labels", 10, 0): cell("", 0, [9.0], 9.0)}
    rows = rows_of(sources["head_to_head_table"](runs), "millions of forward passes: making + choosing")
    assert rows["LD"][0][0].text == "6.50 + 1.00" and rows["True labels"][0][0].text == "0.00 + 0.00"


def test_cells_whose_students_took_the_most_steps_that_were_offered_are_marked(sources):
    few, most = {("LD", 10, 0): cell("LD", 0, [60.0], 70.0)}, {("LD", 10, 1): cell("LD", 1, [64.0], 71.0, steps=1000)}
    plain, marked = sources["head_to_head_table"](few), sources["head_to_head_table"](few | most)
    assert plain.remark == "" and "most steps" in marked.remark
    assert [rows_of(table)["LD"][0][0].text for table in (plain, marked)] == ["60.00 ± 0.00 (1)", "62.00 ± 2.83 (2)†"]


def test_learning_rates_are_compared_on_the_validation_part(sources):
    done = [cell("Unrolled", seed, [50.0], 60.0 + seed) for seed in (1, 2)]
    runs = {("Unrolled", 10, 0.1): done[0], ("Unrolled", 10, 0.02): done[1], ("Unrolled", 100, 0.1): None}
    table = sources["learning_rate_table"](runs | {("Unrolled", 100, 0.02): None})
    assert [(row, [entry.text for (entry,) in cells]) for (_, row), cells in table.rows.items()] == [
        ("Unrolled, 0.1", ["61.00", "not run"]),
        ("Unrolled, 0.02", ["62.00", "not run"]),
    ]


@pytest.mark.parametrize("name", ["tableA1", "tableA2", "tableA3", "tableA7", "tableA8"])
def test_tables_of_sources_say_what_was_run(name, made_up, monkeypatch):
    shown = Shown("head_to_head", made_up, "smoke", monkeypatch)
    text = shown.table(name).markdown(made_up / "report")
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert links and all((made_up / "report" / link).resolve().exists() for link in links)
    rows = [line for line in text.splitlines() if line.startswith("|")]
    number = r"\[\d+\.\d\d\]" if name == "tableA8" else r"\d ± \d"  # on validation there is one number a cell
    assert len({row.count("|") for row in rows}) == 1 and re.search(number, text)


def test_students_of_committed_records_are_as_many_as_their_runs_say():
    runs = [done for done in finished(exhibit_runs("tableA1", "paper"), COMMITTED).values() if done]
    assert len(runs) == 96
    for done in runs:
        tested = done.results["tests"]["none"]
        assert len(tested["accuracy"]["values"]) == done.run.spec["protocol"]["students"] == 5
        assert done.run.spec["protocol"]["candidate_steps"] is None


# better labels


def test_aims_are_judged_by_what_validation_picks(tmp_path, monkeypatch):
    reached = Shown("better_labels", tmp_path, "paper", monkeypatch).scope["reached"]
    spec = {"task": {"selection": "searched"}, "student": {"augment": None, "loss": "mse"}, "method": {"unrolled": {}}}
    made = [
        (Path(str(validation)), Record(spec, {"validation_accuracy": validation, "accuracy": accuracy(mean)}, {}))
        for validation, mean in ((70.0, 69.0), (71.0, 68.0))
    ]
    words = "searched, unrolled, squared error"
    assert reached(made, 68) == render.Entry("68.00 ± 1.00 (2)", Path("71.0"), f"aim 68, +0.00: met<br>{words}")
    assert reached(made, 69).below == f"aim 69, \N{MINUS SIGN}1.00: missed<br>{words}"
    assert reached([], 69).below == "aim 69<br>not run" and reached([], None).text == "-"


def test_the_page_counts_its_aims_as_its_table_does():
    outputs = [output for cell in PAGES["better_labels"].cells for output in cell.get("outputs", [])]
    (table,) = (text for output in outputs if "aim 81" in (text := output.get("data", {}).get("text/markdown", "")))
    here = next(line for line in table.splitlines() if "aim 83" in line)
    lenet = "".join(line for line in table.splitlines() if line.startswith("| **here, LeNet"))
    assert (lenet.count(": met"), lenet.count(": missed"), lenet.count("<br>not run")) == (4, 4, 1)
    assert "met" not in here and here.count("not run") == 3
    text = "".join(cell.source for cell in PAGES["better_labels"].cells if cell.cell_type == "markdown")
    assert "Four aims were met and four missed with LeNet, one was not run." in text


# the whole report


@pytest.mark.slow
def test_a_report_has_executed_pages(made_up, tmp_path):
    out, counts = render.write_report(REPOSITORY, "smoke", results=made_up, out=tmp_path / "out")
    assert sum(counts.values()) == 456 and counts["not run"] < 456
    for name in render.PAGES:
        page = nbformat.read(out / f"{name}.ipynb", 4)
        assert not [cell for cell in page.cells if "paper" in cell.metadata.get("tags", [])]  # claims about other numbers
        text = (out / f"{name}.html").read_text(encoding="utf-8")
        assert "These are smoke runs" in text and all(f'id="{x}"' in text for x in render.exhibits_on(page))
    assert (out / "soft_labels.html").read_text(encoding="utf-8").count("data:image/png") == 11


@pytest.mark.slow
def test_a_report_of_a_setting_has_its_studies_and_no_others(made_up, tmp_path):
    for at, was_run in ((Setting("digits", "lenet", 10), True), (Setting("letters", "lenet", 26), False)):
        out, counts = render.write_report(REPOSITORY, "smoke", at, made_up, tmp_path / at.target)
        pages = {path.stem for path in out.glob("*.html")}
        assert counts == {} and pages == {"index", "soft_labels", "head_to_head", "better_labels"}
        assert not (out / "verdicts.csv").exists()
        texts = {page: (out / f"{page}.html").read_text(encoding="utf-8") for page in pages}
        assert f"({at.target}, lenet" in texts["soft_labels"] and ("result.json" in texts["head_to_head"]) == was_run
        assert "of 456 numbers" not in texts["index"]
        shown = {name for name in names_at(at) if f"#{name}" in texts["index"]}
        assert shown == set(ANYWHERE) and "#tableA2" not in texts["index"]


def test_cells_of_the_paper_have_runs_at_all_scales():
    assert all(cell.run is None or cell.run.scale == "smoke" for cell in cells("table1", "smoke"))
