"""All of the paper's numbers, and which run answers each."""

import csv
import json
import re
from collections import Counter

import pytest

from labeldistill import InputError
from labeldistill.data.catalog import KNOWN
from labeldistill.reproduce.exhibits import (
    EXHIBITS,
    SCALES,
    STUDIES,
    all_runs,
    cells,
    exhibit_runs,
    to_sections,
    with_data_at_hand,
    with_nearest_data,
)
from labeldistill.reproduce.paper import NEAREST, PAPER_TABLES, paper_numbers
from labeldistill.reproduce.runs import EXPERIMENTS, dependencies, new_run

QUOTED = {"table1": 4, "table7": 4}
NAMES = [name for name in EXHIBITS if name not in STUDIES]
FIGURES = [name for name in NAMES if name not in PAPER_TABLES]


def sections(run):
    "The sections of a run, without its kind."
    return {name: value for name, value in run.spec.items() if name != "kind"}


def changed(run, **others):
    "What a run is made of, with other fields in some sections."
    return {name: value | others[name] if name in others else value for name, value in run.spec.items()}


@pytest.fixture(scope="module")
def every():
    "All cells of all tables at each scale."
    return {scale: [cell for name in PAPER_TABLES for cell in cells(name, scale)] for scale in SCALES}


@pytest.fixture(scope="module")
def at():
    "The cell of a table at `paper`."

    def find(table, row, column, section=None, scale="paper"):
        (found,) = [c for c in cells(table, scale) if (c.section, c.row, c.column) == (section, row, column)]
        return found

    return find


def test_every_number_of_the_paper_has_one_cell(every, repository):
    lines = list(csv.DictReader((repository / "labeldistill/assets/paper_tables.csv").read_text(encoding="utf-8").splitlines()))
    stated = [(f"table{x['table']}", x["section"], x["row"], x["column"], float(x["mean"]), x["std"]) for x in lines]
    assert len(stated) == len(set(stated)) == 456
    for found in every.values():
        assert [(c.table, c.section or "", c.row, c.column, c.mean) for c in found] == [line[:5] for line in stated]
        assert [c.std for c in found] == [float(line[5]) if line[5] else None for line in stated]


@pytest.mark.parametrize("scale", SCALES)
def test_every_number_has_a_run_and_some_are_quoted_or_times(every, scale):
    assert [c for c in every[scale] if c.run is None] == []
    assert Counter(c.table for c in every[scale] if c.category == "quoted") == QUOTED
    assert {c.row for c in every[scale] if c.category == "quoted"} == {"DD", "SLDD"}
    assert {c.table for c in every[scale] if c.category == "time"} == {"table4"}
    assert {c.category for c in every[scale]} == {"measured", "quoted", "time"}


@pytest.mark.parametrize("name", PAPER_TABLES)
def test_a_table_has_no_row_or_column_that_the_paper_has_not(name):
    found = cells(name, "paper")
    assert PAPER_TABLES[name].rows.keys() <= {(c.section, c.row) if c.section else c.row for c in found}
    assert PAPER_TABLES[name].columns.keys() <= {c.column for c in found}


@pytest.mark.parametrize("scale, count", [("smoke", 231), ("short", 1832), ("paper", 1832)])
def test_all_exhibits_need_so_many_runs_and_each_has_a_name_of_its_own(scale, count):
    runs = all_runs(EXHIBITS, scale)
    assert len({run.name for run in runs}) == len({run.digest for run in runs}) == len(runs) == count


def test_every_committed_record_of_the_paper_is_a_run_of_some_exhibit(repository):
    folders = {path.parent.name for path in (repository / "papermill_runs/results/paper").glob("*/result.json")}
    assert len(folders) == 282 and folders <= {run.name for run in all_runs(EXHIBITS, "paper")}


@pytest.mark.parametrize("scale", SCALES)
def test_runs_are_whole_and_of_one_scale(scale):
    for run in all_runs(NAMES, scale):
        assert run.scale == scale and sections(run).keys() == EXPERIMENTS[run.kind].sections.keys()
        assert run == new_run(run.kind, scale, **sections(run))
        assert json.loads(json.dumps(run.spec)) == run.spec
        assert {run.spec["task"]["target"], run.spec["task"]["source"]} <= {*KNOWN, None}


@pytest.mark.parametrize("scale", SCALES)
def test_runs_are_unique_and_come_after_those_they_start_from(scale):
    runs = all_runs(NAMES, scale)
    assert len({run.name for run in runs}) == len(runs) == len(set(runs))
    for i, run in enumerate(runs):
        assert all(needed in runs[:i] for needed in dependencies(run))
    asked = [c.run for name in PAPER_TABLES for c in cells(name, scale) if c.run]
    asked += [run for name in NAMES for run in exhibit_runs(name, scale).values()]
    assert {*asked, *(needed for run in asked for needed in dependencies(run))} == set(runs)


def test_scales_share_no_folder(tmp_path):
    folders = [run.folder(tmp_path) for scale in SCALES for run in all_runs(NAMES, scale)]
    assert len(folders) == len(set(folders))


def test_names_do_not_change(at):
    names = {
        at("table1", "LD RR", "100", "MNIST").run.name: "mnist-ridge-n100-lenet-s1234-a8df1c",
        at("table3", "E → K (LD)", "10").run.name: "emnist_letters_transposed-to-kmnist-second-order-n10-lenet-s1234-1a9def",
        at("table1", "Baseline LS", "500", "CIFAR-10").run.name: "cifar10-true-n500-alexnet-s1234-fe2316",
        at("table14", "LeNet", "200", "CIFAR-10 LD").run.name: "cifar10-ridge-n200-alexnet-s1234-transfer-0c8f7d",
        at("table9", "MNIST (LD)", "- 50").run.name: "mnist-second-order-n100-lenet-s1234-sensitivity-901fd4",
        at("table4", "LD", "MNIST").run.name: "mnist-second-order-n100-lenet-s1234-timing-37d9ff",
        at("table1", "DD", "100", "MNIST").run.name: "mnist-dd-n100-lenet-s1234-292146",
    }
    assert {found: stated for found, stated in names.items() if found != stated} == {}


def test_each_setting_of_a_part_finds_its_section():
    part = {"kind": "transfer", "target": "mnist", "head": "linear", "test_head": "ridge", "epochs": 4, "seed": 3}
    given = {"task": {"target": "mnist"}, "student": {"head": "linear"}, "test": {"head": "ridge"}, "schedule": {"epochs": 4}}
    assert to_sections(part) == given | {"seed": 3}
    with pytest.raises(InputError, match="kind 'baseline' has no setting 'epochs'"):
        to_sections({"kind": "baseline", "target": "mnist", "epochs": 4})


def test_equal_runs_are_shared(at):
    ours = at("table1", "LD", "100", "MNIST").run
    assert at("table5", "MNIST (LD)", "Trial 1").run == at("table6", "MNIST (LD)", "Set 3").run == ours
    assert ours in exhibit_runs("figure7", "paper").values() and ours in exhibit_runs("figure8", "paper").values()
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
    task, method = {"target": "mnist", "base_examples": 100, "network": "lenet"}, {"dd": {"learn": "images"}}
    assert ours == new_run("distill", "paper", task=task, method=method, schedule={"epochs": 100})
    both = new_run("distill", "paper", task=task, method={"dd": {"learn": "both"}}, schedule={"epochs": 100})
    assert at("table1", "SLDD", "100", "MNIST").run == both
    same = [("table7", "DD", "100"), ("table11", "MNIST", "Optimized"), ("table12", "MNIST", "Original")]
    assert {at(table, row, column, "MNIST" if row == "DD" else None).run for table, row, column in same} == {ours}
    others = [("table10", "35"), ("table11", "Average of optimized"), ("table12", "Shuffled within epoch")]
    assert [dependencies(at(table, "MNIST", column).run) for table, column in others] == [[ours]] * 3
    colored = at("table15", "CIFAR-10", "AlexNet").run
    assert colored == at("table1", "DD", "100", "CIFAR-10").run and colored.spec["method"]["dd"]["step_size"] == 0.001
    assert dependencies(at("table15", "CIFAR-10", "LeNet").run) == [colored]


def test_other_ways_to_train_on_images_are_told_apart(at):
    ways = {
        ("table11", "Average of optimized"): {"optimizer": "average"},
        ("table12", "Shuffled within epoch"): {"optimizer": "own", "order": "within"},
        ("table12", "Shuffled across epochs"): {"optimizer": "own", "order": "across"},
        ("table15", "LeNet"): {"optimizer": "own", "network": "lenet"},
    }
    nothing = dict.fromkeys(("optimizer", "order", "network", "steps"))
    for (table, column), way in ways.items():
        test = at(table, "CIFAR-10", column).run.spec["test"]
        assert {name: test[name] for name in nothing} == nothing | way


def test_table_10_counts_steps_and_its_run_deviations(at):
    found = [at("table10", "MNIST", column) for column in ("10", "30", "35")]
    assert [cell.read for cell in found] == [f"deviations.{steps}.accuracy" for steps in ("-20", "+0", "+5")]
    assert {tuple(cell.run.spec["deviations"]) for cell in found} == {(-20, -15, -10, -5, 0, 5)}


def test_times_are_of_the_published_lengths(at):
    rows = {"DD": "dd", "LD": "second-order", "LD (RR)": "ridge", "Our DD": "second-order", "Our DD (RR)": "ridge"}
    for row, method in rows.items():
        run = at("table4", row, "MNIST").run
        assert (run.kind, run.spec["schedule"]["epochs"], [*run.spec["method"]]) == ("timing", 400, [method])
        assert run.spec["method"][method]["learn"] == ("images" if "DD" in row else "labels")


def test_table_17_learns_images_by_the_papers_methods(at):
    run = at("table17", "CIFAR-10 (DD RR)", "50").run
    task, method = {"target": "cifar10", "network": "alexnet", "base_examples": 50}, {"ridge": {"learn": "images"}}
    assert run == new_run("distill", "paper", task=task, method=method, schedule={"epochs": 400})


def test_every_system_has_every_change_that_makes_sense():
    changes = {}
    for key, run in exhibit_runs("figure2", "paper").items():
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
    trials = [at("table5", "MNIST (LD)", f"Trial {i}").run.spec for i in (1, 2, 3)]
    assert len({spec["seed"] for spec in trials}) == 3
    base = {spec["seed"] if spec["task"]["base_seed"] is None else spec["task"]["base_seed"] for spec in trials}
    assert base == {1234}  # the same base examples
    sets = [at("table6", "MNIST (LD)", f"Set {i}").run.spec for i in range(1, 6)]
    assert [spec["seed"] for spec in sets] == [0, 465, 1234, 5439, 89432]
    assert {spec["task"]["base_seed"] for spec in sets} == {None}


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
    assert run.spec["schedule"] == dict.fromkeys(("iterations", "outer_batch", "validate_every")) | {"epochs": epochs}
    assert (run.spec["test"]["models"], run.spec["task"]["selection"]) == (20, "random")
    assert at(table, row, column, section, "short").run.spec == changed(run, schedule={"epochs": epochs // 10})


@pytest.mark.parametrize("row", ["CIFAR-10 LD", "CUB to CIFAR-10 LD"])
def test_labels_move_from_alexnet_to_other_networks(at, row):
    for name, network in (("LeNet", "lenet"), ("ResNet-18", "resnet14")):
        run = at("table14", name, "200", row).run
        assert (run.kind, run.spec["test"]["network"], [*run.spec["method"]]) == ("transfer", network, ["ridge"])
        assert dependencies(run) == [at("table14", "AlexNet", "200", row).run]


def test_table_16_tests_one_set_of_labels_in_two_ways(at):
    for name in ("MNIST", "B → C"):
        standard, ridge = (at("table16", name, column).run for column in ("Standard model", "RR model"))
        assert dependencies(ridge) == [standard] and ridge.spec["test"]["head"] == "ridge"
        assert ([*standard.spec["method"]], standard.spec["student"]["head"]) == (["ridge"], "linear")


def test_table_7_chooses_its_base_examples(at):
    for row in ("LD", "Baseline RR LS"):
        found, random = (at(table, row, "50", "MNIST").run for table in ("table7", "table1"))
        assert found.spec == changed(random, task={"selection": "optimised"})


def test_table_8_has_runs_of_equal_length_beside_its_cells():
    schedules = [run.spec["schedule"] for run in exhibit_runs("table8", "paper").values()]
    assert len(schedules) == 12 and {(given["iterations"], given["epochs"]) for given in schedules} == {(19_600, None)}
    assert {run.spec["schedule"]["iterations"] for run in exhibit_runs("table8", "short").values()} == {1960}


def test_smoke_needs_no_download_and_little_time():
    runs = all_runs(NAMES, "smoke")
    assert len(runs) < 140
    for run in runs:
        task, test, schedule = (run.spec.get(name, {}) for name in ("task", "test", "schedule"))
        assert task["target"] == "digits" and task["source"] in (None, "letters") and task["base_examples"] in (10, 20)
        assert (run.spec["seed"], task["base_seed"], task["selection"]) == (1234, None, "random")
        assert test.get("models", 2) == 2 and schedule.get("outer_batch", 64) == 64
        assert schedule.get("epochs") in (None, 1, 2) and schedule.get("iterations") in (None, 40)
        assert task["channels"] == (3 if task["network"] == "alexnet" or task["image_size"] else None)


@pytest.mark.parametrize("name", FIGURES)
def test_figures_have_their_runs_and_no_cells(name):
    assert cells(name, "smoke") == []
    kinds = {run.kind for run in exhibit_runs(name, "smoke").values()}
    assert kinds == {
        "figure2": {"distill", "transfer", "sensitivity"},
        "figure3": {"gradient_variance"},
        "figure4": set(),
        "figure5": set(),
    }.get(name, {"distill"})


def test_names_are_the_papers():
    assert NAMES == [*(f"table{i}" for i in range(1, 18)), *(f"figure{i}" for i in range(1, 10))]
    assert len(paper_numbers()) == 456


@pytest.mark.parametrize("act", [cells, exhibit_runs, lambda name, scale: all_runs([name], scale)])
@pytest.mark.parametrize(
    "name, scale, message",
    [("table18", "smoke", "table17, figure1"), ("", "paper", "table1, table2"), ("table1", "tiny", "smoke, short, paper")],
)
def test_bad_names_are_refused(act, name, scale, message):
    with pytest.raises(InputError, match=re.escape(message)) as error:
        act(name, scale)
    assert "\n" not in str(error.value)


def test_what_stands_in_for_data_changes_nothing_else(at, every):
    run = at("table9", "E → M (LD)", "+ 10").run
    near = with_nearest_data(run)
    assert near.spec == changed(run, task={"source": "latin-letters"}) and near.digest != run.digest
    assert [need.spec["task"]["source"] for need in dependencies(near)] == ["latin-letters"]
    within = [cell for cell in every["paper"] if with_nearest_data(cell.run) is None]
    assert {cell.run.spec["task"]["target"] for cell in within} == {"mnist", "cifar10"}
    assert [cell for cell in every["smoke"] if with_nearest_data(cell.run)] == []
    assert NEAREST.keys() <= KNOWN.keys()


def test_runs_use_the_nearest_data_only_where_their_own_are_missing(at, tmp_path, monkeypatch):
    monkeypatch.setenv("LABELDISTILL_DATA", str(tmp_path))
    run, birds = at("table3", "E → K (LD)", "10").run, at("table3", "B → C (LD)", "10").run
    assert with_data_at_hand(run) is run, "nothing is there"
    for file in ("latin-letters", *KNOWN["kmnist10k"].files):
        (tmp_path / file).mkdir(parents=True)
    assert with_data_at_hand(run) == with_nearest_data(run) and with_data_at_hand(birds) is birds
    for file in (*KNOWN["emnist_letters_transposed"].files, *KNOWN["kmnist"].files):
        (tmp_path / file).mkdir(parents=True, exist_ok=True)
    assert with_data_at_hand(run) is run
