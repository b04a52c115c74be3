"""All of the paper's numbers, and which run answers each."""

import csv
import json
import re
from collections import Counter

import pytest

from labeldistill import InputError
from labeldistill.catalogue import KNOWN
from labeldistill.suite import KINDS, dependencies, new_run
from labeldistill.tables import FIGURE_NAMES, NAMES, SCALES, TABLES, cells, figure_runs, paper_numbers, runs_for

QUOTED = {"table1": 4, "table7": 4}


@pytest.fixture(scope="module")
def every():
    "All cells of all tables at each scale."
    return {scale: [cell for name in TABLES for cell in cells(name, scale)] for scale in SCALES}


@pytest.fixture(scope="module")
def at():
    "The cell of a table at `paper`."

    def find(table, row, column, section=None, scale="paper"):
        (found,) = [c for c in cells(table, scale) if (c.section, c.row, c.column) == (section, row, column)]
        return found

    return find


def test_every_number_of_the_paper_has_one_cell(every, repository):
    lines = list(csv.DictReader((repository / "labeldistill/assets/paper_tables.csv").read_text(encoding="utf-8").splitlines()))
    wanted = [(f"table{x['table']}", x["section"], x["row"], x["column"], float(x["mean"]), x["std"]) for x in lines]
    assert len(wanted) == len(set(wanted)) == 456
    for found in every.values():
        assert [(c.table, c.section or "", c.row, c.column, c.mean) for c in found] == [line[:5] for line in wanted]
        assert [c.std for c in found] == [float(line[5]) if line[5] else None for line in wanted]


@pytest.mark.parametrize("scale", SCALES)
def test_every_number_has_a_run_and_some_are_quoted_or_times(every, scale):
    assert [c for c in every[scale] if c.run is None] == []
    assert Counter(c.table for c in every[scale] if c.category == "quoted") == QUOTED
    assert {c.row for c in every[scale] if c.category == "quoted"} == {"DD", "SLDD"}
    assert {c.table for c in every[scale] if c.category == "time"} == {"table4"}
    assert {c.category for c in every[scale]} == {"measured", "quoted", "time"}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_has_no_row_or_column_that_the_paper_has_not(name):
    found = cells(name, "paper")
    assert TABLES[name].rows.keys() <= {(c.section, c.row) for c in found}
    assert TABLES[name].columns.keys() <= {c.column for c in found}


@pytest.mark.parametrize("scale", SCALES)
def test_runs_are_whole_and_of_one_scale(scale):
    for run in runs_for(NAMES, scale):
        assert run.scale == scale and run.parameters.keys() == KINDS[run.kind].defaults.keys()
        assert run == new_run(run.kind, scale, run.parameters)
        assert json.loads(json.dumps(run.parameters)) == run.parameters
        assert {run.parameters["target"], run.parameters["source"]} <= {*KNOWN, None}


@pytest.mark.parametrize("scale", SCALES)
def test_runs_are_unique_and_come_after_those_they_start_from(scale):
    runs = runs_for(NAMES, scale)
    assert len({run.name for run in runs}) == len(runs) == len(set(runs))
    for i, run in enumerate(runs):
        assert all(needed in runs[:i] for needed in dependencies(run))
    wanted = [c.run for name in TABLES for c in cells(name, scale) if c.run]
    wanted += [run for name in NAMES for run in figure_runs(name, scale).values()]
    assert {*wanted, *(needed for run in wanted for needed in dependencies(run))} == set(runs)


def test_scales_share_no_folder(tmp_path):
    folders = [run.folder(tmp_path) for scale in SCALES for run in runs_for(NAMES, scale)]
    assert len(folders) == len(set(folders))


def test_names_do_not_change(at):
    names = {
        at("table1", "LD RR", "100", "MNIST").run.name: "distill-11b50e3a50d3",
        at("table3", "E → K (LD)", "10").run.name: "distill-8a4020a76b82",
        at("table1", "Baseline LS", "500", "CIFAR-10").run.name: "baseline-b0a0003b02df",
        at("table14", "LeNet", "200", "CIFAR-10 LD").run.name: "transfer-ceb6f85dd702",
        at("table9", "MNIST (LD)", "- 50").run.name: "sensitivity-5fdde7743bc8",
        at("table4", "LD", "MNIST").run.name: "timing-57ab999942be",
        at("table1", "DD", "100", "MNIST").run.name: "distill-7824f3f8eaad",
    }
    assert {found: stated for found, stated in names.items() if found != stated} == {}


def test_equal_runs_are_shared(at):
    ours = at("table1", "LD", "100", "MNIST").run
    assert at("table5", "MNIST (LD)", "Trial 1").run == at("table6", "MNIST (LD)", "Set 3").run == ours
    assert ours in figure_runs("figure7", "paper").values() and ours in figure_runs("figure8", "paper").values()
    assert dependencies(at("table9", "MNIST (LD)", "- 50").run) == [ours]
    across = at("table3", "E → M (LD RR)", "100").run
    assert at("table8", "E → M (LD RR)", "All").run == at("table5", "E → M (LD RR)", "Trial 1").run == across
    steps = [at("table9", "E → M (LD RR)", column) for column in ("- 50", "+ 0", "+ 100")]
    assert len({c.run for c in steps}) == 1
    assert [c.read for c in steps] == ["deviations.-50.accuracy", "deviations.+0.accuracy", "deviations.+100.accuracy"]
    baseline = at("table1", "Baseline RR", "50", "CIFAR-10").run
    assert at("table14", "AlexNet", "50", "CIFAR-10 baseline").run == baseline
    assert at("table13", "AlexNet", "100", "CUB to CIFAR-10 LD").run == at("table3", "B → C (LD)", "100").run


def test_images_are_learned_once_and_used_everywhere(at):
    ours = at("table1", "DD", "100", "MNIST").run
    given = {"target": "mnist", "network": "lenet", "learn": "images", "method": "dd", "epochs": 100}
    assert ours.parameters == KINDS["distill"].defaults | given
    assert at("table1", "SLDD", "100", "MNIST").run.parameters == ours.parameters | {"learn": "both"}
    same = [("table7", "DD", "100"), ("table11", "MNIST", "Optimized"), ("table12", "MNIST", "Original")]
    assert {at(table, row, column, "MNIST" if row == "DD" else None).run for table, row, column in same} == {ours}
    others = [("table10", "35"), ("table11", "Average of optimized"), ("table12", "Shuffled within epoch")]
    assert [dependencies(at(table, "MNIST", column).run) for table, column in others] == [[ours]] * 3
    coloured = at("table15", "CIFAR-10", "AlexNet").run
    assert coloured == at("table1", "DD", "100", "CIFAR-10").run and coloured.parameters["step_size"] == 0.001
    assert dependencies(at("table15", "CIFAR-10", "LeNet").run) == [coloured]


def test_other_ways_to_train_on_images_are_told_apart(at):
    told = ("test_optimizer", "test_order", "test_network", "test_steps")
    ways = {
        ("table11", "Average of optimized"): ("average", None, None, None),
        ("table12", "Shuffled within epoch"): ("own", "within", None, None),
        ("table12", "Shuffled across epochs"): ("own", "across", None, None),
        ("table15", "LeNet"): ("own", None, "lenet", None),
    }
    for (table, column), way in ways.items():
        assert tuple(at(table, "CIFAR-10", column).run.parameters[name] for name in told) == way


def test_table_10_counts_steps_and_its_run_deviations(at):
    found = [at("table10", "MNIST", column) for column in ("10", "30", "35")]
    assert [cell.read for cell in found] == [f"deviations.{steps}.accuracy" for steps in ("-20", "+0", "+5")]
    assert {tuple(cell.run.parameters["deviations"]) for cell in found} == {(-20, -15, -10, -5, 0, 5)}


def test_times_are_of_the_published_lengths(at):
    rows = {"DD": "dd", "LD": "second-order", "LD (RR)": "ridge", "Our DD": "second-order", "Our DD (RR)": "ridge"}
    for row, method in rows.items():
        run = at("table4", row, "MNIST").run
        assert (run.kind, run.parameters["epochs"], run.parameters["method"]) == ("timing", 400, method)
        assert run.parameters["learn"] == ("images" if "DD" in row else "labels")


def test_table_17_learns_images_by_the_papers_methods(at):
    run = at("table17", "CIFAR-10 (DD RR)", "50").run
    given = {"learn": "images", "method": "ridge", "target": "cifar10", "network": "alexnet", "base_examples": 50, "epochs": 400}
    assert run.parameters == KINDS["distill"].defaults | given


def test_every_system_has_every_change_that_makes_sense():
    changes = {}
    for key, run in figure_runs("figure2", "paper").items():
        change, _, data = key.partition(": ")
        changes.setdefault(data, {})[change] = run
    common = {"steps", "LeNet", "AlexNet", "ResNet-18", "adam", "sgd", "adamw"}
    for system in ("LD", "LD RR"):
        assert changes[f"MNIST ({system})"].keys() == common
    for system in ("DD", "SLDD"):
        found = changes[f"MNIST ({system})"]
        assert found.keys() == common | {"own", "average", "within", "across", "adam, 300 steps"}
        assert {run for name in found for run in dependencies(found[name])} == {found["own"]} and found["LeNet"] == found["own"]


def test_trials_and_sets_are_runs_of_their_own(at):
    trials = [at("table5", "MNIST (LD)", f"Trial {i}").run.parameters for i in (1, 2, 3)]
    assert len({p["seed"] for p in trials}) == 3
    assert {p["base_seed"] if p["base_seed"] is not None else p["seed"] for p in trials} == {1234}  # the same base examples
    sets = [at("table6", "MNIST (LD)", f"Set {i}").run.parameters for i in range(1, 6)]
    assert [p["seed"] for p in sets] == [0, 465, 1234, 5439, 89432] and {p["base_seed"] for p in sets} == {None}


@pytest.mark.parametrize(
    "table, section, row, column, epochs",
    [
        ("table1", "MNIST", "LD", "100", 400),
        ("table1", "CIFAR-10", "LD RR", "200", 800),
        ("table2", "CIFAR-100", "LD", "100", 800),
        ("table3", None, "E → K-49 (LD)", "50", 100),
        ("table3", None, "E → K-49 (LD RR)", "500", 200),
        ("table8", None, "E → M (LD)", "1000", 400),
        ("table13", "CIFAR-10 LD", "LeNet", "500", 400),
        ("table13", "CUB to CIFAR-10 LD", "AlexNet", "500", 400),
        ("table16", None, "CIFAR-100", "RR model", 800),
    ],
)
def test_the_budget_is_the_papers_and_a_tenth_at_short(at, table, section, row, column, epochs):
    run = at(table, row, column, section).run
    assert run.parameters["epochs"] == epochs and run.parameters["iterations"] is None
    assert (run.parameters["outer_batch"], run.parameters["models"], run.parameters["selection"]) == (1024, 20, "random")
    short = at(table, row, column, section, "short").run
    assert short.parameters == run.parameters | {"epochs": epochs // 10}


@pytest.mark.parametrize("row", ["CIFAR-10 LD", "CUB to CIFAR-10 LD"])
def test_labels_move_from_alexnet_to_other_networks(at, row):
    for name, network in (("LeNet", "lenet"), ("ResNet-18", "resnet14")):
        run = at("table14", name, "200", row).run
        assert (run.kind, run.parameters["test_network"], run.parameters["method"]) == ("transfer", network, "ridge")
        assert dependencies(run) == [at("table14", "AlexNet", "200", row).run]


def test_table_16_tests_one_set_of_labels_in_two_ways(at):
    for name in ("MNIST", "B → C"):
        standard, ridge = (at("table16", name, column).run for column in ("Standard model", "RR model"))
        assert dependencies(ridge) == [standard] and ridge.parameters["test_head"] == "ridge"
        assert (standard.parameters["method"], standard.parameters["head"]) == ("ridge", "linear")


def test_table_7_chooses_its_base_examples(at):
    for row in ("LD", "Baseline RR LS"):
        found, random = (at(table, row, "50", "MNIST").run.parameters for table in ("table7", "table1"))
        assert found == random | {"selection": "optimised"}


def test_table_8_has_runs_of_equal_length_beside_its_cells():
    runs = figure_runs("table8", "paper").values()
    assert len(runs) == 12 and {run.parameters["iterations"] for run in runs} == {19_600}
    assert {run.parameters["epochs"] for run in runs} == {None}
    assert {run.parameters["iterations"] for run in figure_runs("table8", "short").values()} == {1960}


def test_smoke_needs_no_download_and_little_time():
    runs = runs_for(NAMES, "smoke")
    assert len(runs) < 140
    for run in runs:
        p = run.parameters
        assert p["target"] == "digits" and p["source"] in (None, "letters") and p["base_examples"] in (10, 20)
        assert (p["seed"], p["base_seed"], p["selection"]) == (1234, None, "random")
        assert p.get("models", 2) == 2 and p.get("outer_batch", 64) == 64
        assert p.get("epochs") in (None, 1, 2) and p.get("iterations") in (None, 40)
        assert p["channels"] == (3 if p["network"] == "alexnet" or p["image_size"] else None)


@pytest.mark.parametrize("name", FIGURE_NAMES)
def test_figures_have_their_runs_and_no_cells(name):
    assert cells(name, "smoke") == []
    kinds = {run.kind for run in figure_runs(name, "smoke").values()}
    assert kinds == {
        "figure2": {"distill", "transfer", "sensitivity"},
        "figure3": {"gradient_variance"},
        "figure4": set(),
        "figure5": set(),
    }.get(name, {"distill"})


def test_names_are_the_papers():
    assert NAMES == (*(f"table{i}" for i in range(1, 18)), *(f"figure{i}" for i in range(1, 10)))
    assert len(paper_numbers()) == 456


@pytest.mark.parametrize("act", [cells, figure_runs, lambda name, scale: runs_for([name], scale)])
@pytest.mark.parametrize(
    "name, scale, message",
    [("table18", "smoke", "table17, figure1"), ("", "paper", "table1, table2"), ("table1", "tiny", "smoke, short, paper")],
)
def test_bad_names_are_refused(act, name, scale, message):
    with pytest.raises(InputError, match=re.escape(message)) as error:
        act(name, scale)
    assert "\n" not in str(error.value)
