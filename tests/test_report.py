"""Verdicts, tables, the README's table and the page: with no results, with all, and with made-up ones in between."""

import hashlib
import json
import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from matplotlib.figure import Figure

from labeldistill import InputError, comparison, report
from labeldistill.comparison import Measurement, Spread, compare, count_verdicts, look_up, measurement, spreads, verdict
from labeldistill.evaluation import Evaluation
from labeldistill.experiments import SENSITIVITY, describe_evaluation
from labeldistill.figures import DRAWINGS, Panel, by_scenario, draw_panel, gather, losses, save_panels
from labeldistill.study_tables import EXHIBITS, STUDIES
from labeldistill.suite import defaults_of, new_run
from labeldistill.tables import NAMES, TABLES, Cell, cells, figure_runs

REPOSITORY = Path(__file__).parents[1]
FIGURES = [name for name in NAMES if name not in TABLES]


def a_cell(mean=80.0, std=2.0, category="measured", table="table1", section="MNIST", row="LD", run=None):
    return Cell(table, section, row, "100", mean, std, run, "accuracy", category)


def store(cell, results, mean, std=1.0, n=20):
    "Writes what a run of this cell might have found, beside what its record already says."
    path = cell.run.folder(results) / "result.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    record = json.loads(path.read_text()) if path.exists() else {"parameters": cell.run.parameters, "results": {}}
    record["results"]["kind"] = cell.run.kind
    *way, last = cell.read.split(".")
    place = record["results"]
    for key in way:
        place = place.setdefault(key, {})
    place[last] = {"mean": mean, "std": std, "n": n, "values": [mean] * n}
    path.write_text(json.dumps(record))


@pytest.fixture(scope="module")
def all_cells():
    return [cell for name in TABLES for cell in cells(name, "paper")]


@pytest.fixture(scope="module")
def full(tmp_path_factory, all_cells):
    "Results in which everything that can be run was found just as the paper says."
    results = tmp_path_factory.mktemp("full")
    for cell in all_cells:
        if cell.run is not None:
            store(cell, results, cell.mean)
    return results


# the rule


@pytest.mark.parametrize(
    ("mean", "expected"),
    [(84.0, "reproduced"), (84.01, "better"), (76.0, "reproduced"), (75.99, "worse"), (80.0, "reproduced")],
)
def test_the_border_counts_as_reproduced(mean, expected):
    ours = Measurement(mean, 0.0, 20)  # no noise but the spread over base sets: 2 * 2 points
    assert verdict(a_cell(std=0.0), ours, spread=2.0) == expected


@pytest.mark.parametrize(
    ("ours", "paper_std", "spread", "expected"),
    [
        (Measurement(0, 3.0, 9), 0.0, 0.0, 2.0),
        (Measurement(0, 0.0, 1), 20**0.5, 0.0, 2.0),
        (Measurement(0, 0.0, 1), 0.0, 1.5, 3.0),
        (Measurement(0, 4.0, 4), 3 * 20**0.5, 6.0, 14.0),
    ],
)
def test_tolerance_is_two_standard_deviations_of_the_difference(ours, paper_std, spread, expected):
    assert comparison.tolerance(ours, paper_std, spread) == pytest.approx(expected)


def test_two_hundred_networks_are_behind_the_tables_about_dd():
    ours, names = Measurement(0.0, 0.0, 20), ("table1", "table10", "table17")
    limits = {name: comparison.tolerated(a_cell(std=10.0, table=name), ours, 0.0) for name in names}
    assert limits == pytest.approx({"table1": 20 / 20**0.5, "table10": 20 / 200**0.5, "table17": 20 / 20**0.5})


@pytest.mark.parametrize("category", ["quoted", "time"])
def test_quoted_numbers_and_times_are_not_judged(category):
    assert verdict(a_cell(category=category, std=None), Measurement(1e6, 0.0, 1), 0.0) == category


@pytest.mark.parametrize("category", ["measured", "quoted", "time"])
def test_what_was_not_run_says_so(category):
    assert verdict(a_cell(category=category), None, 1.0) == "not run"


# measurements


def test_a_measurement_is_found_by_its_dotted_name():
    found = {"deviations": {"+10": {"accuracy": {"mean": 1.0, "std": 2.0, "n": 3, "values": []}}}}
    assert measurement(found, "deviations.+10.accuracy") == Measurement(1.0, 2.0, 3)


@pytest.mark.parametrize("read", ["precision", "accuracy.median.x", "accuracy.mean.x"])
def test_a_record_without_the_number_is_named(read, tmp_path, all_cells):
    cell = all_cells[0]
    store(cell, tmp_path, 50.0)
    with pytest.raises(InputError, match=f"{cell.run.name}.*'{re.escape(read)}'"):
        look_up(replace(cell, read=read), tmp_path)


def test_records_of_other_parameters_and_damaged_ones_are_no_measurement(tmp_path, all_cells):
    cell = all_cells[0]
    store(cell, tmp_path, 50.0)
    path = cell.run.folder(tmp_path) / "result.json"
    whole = path.read_text()
    assert look_up(cell, tmp_path).mean == 50.0
    path.write_text(whole.replace('"seed": 1234', '"seed": 4321'))
    assert look_up(cell, tmp_path) is None
    path.write_text(whole[:-20])
    assert look_up(cell, tmp_path) is None


@pytest.mark.parametrize("name", ["table1", "table9", "table16"])
def test_cells_are_read_from_what_runs_write(name, tmp_path):
    tested = describe_evaluation(Evaluation((80.0, 82.0), (80.0, 82.0), 200, "linear", "lenet", "adam", 1))
    steps = {f"{deviation:+d}": tested for deviation in SENSITIVITY["deviations"]}
    numbers = [cell for cell in cells(name, "paper") if cell.run is not None]
    for cell in numbers:
        results = {"kind": cell.run.kind, **({"steps": 200, "deviations": steps} if cell.run.kind == "sensitivity" else tested)}
        path = cell.run.folder(tmp_path) / "result.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"parameters": cell.run.parameters, "results": results}))
    assert numbers and {look_up(cell, tmp_path) for cell in numbers} == {Measurement(81.0, 2**0.5, 2)}


# spreads


def test_the_papers_spread_stands_in_until_three_sets_are_there(tmp_path):
    sets = [cell for cell in cells("table6", "paper") if cell.row == "MNIST (LD)"]
    assert [cell.mean for cell in sets] == [84.91, 87.38, 87.49, 87.12, 85.16]
    for done, cell in enumerate(sets[:3], 1):
        assert spreads(tmp_path, "paper")["MNIST (LD)"] == Spread(pytest.approx(1.2673, abs=1e-4), 5, "the paper's")
        store(cell, tmp_path, 80.0 + done)
    assert spreads(tmp_path, "paper")["MNIST (LD)"] == Spread(1.0, 3, "ours")
    assert spreads(tmp_path, "paper")["MNIST (LD RR)"].whose == "the paper's"


def test_sets_that_share_a_run_count_once(tmp_path):
    for cell in cells("table6", "smoke"):
        store(cell, tmp_path, 10.0)
    assert {spread.whose for spread in spreads(tmp_path, "smoke").values()} == {"the paper's"}


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        (a_cell(row="Baseline"), "MNIST (LD)"),
        (a_cell(section="CIFAR-10", row="Baseline RR LS"), "MNIST (LD RR)"),
        (a_cell(table="table3", section=None, row="B → C (LD)"), "E → M (LD)"),
        (a_cell(table="table13", section="CUB to CIFAR-10 LD", row="LeNet"), "E → M (LD)"),
        (a_cell(table="table14", section="CIFAR-10 baseline", row="LeNet"), "MNIST (LD RR)"),
        (a_cell(table="table16", section=None, row="E → K"), "E → M (LD RR)"),
        (a_cell(table="table17", section=None, row="MNIST (DD RR)"), None),
    ],
)
def test_spreads_are_those_of_rows_of_table_6(cell, expected):
    assert comparison.spread_row(cell) == expected


def test_every_row_of_table_6_is_the_spread_of_some_cell(all_cells):
    rows = {cell.row for cell in cells("table6", "paper")}
    assert {comparison.spread_row(cell) for cell in all_cells} == rows | {None}


# all cells


@pytest.mark.parametrize("scale", ["smoke", "short", "paper"])
def test_counts_sum_to_456(scale, tmp_path):
    found = compare(TABLES, tmp_path, scale)
    counts = count_verdicts(finding for findings in found.values() for finding in findings)
    assert tuple(counts) == comparison.VERDICTS and counts["not run"] == sum(counts.values()) == 456


def test_counts_of_full_results(full, all_cells):
    found = compare(TABLES, full, "paper")
    counts = count_verdicts(finding for findings in found.values() for finding in findings)
    assert sum(counts.values()) == 456 and counts["not run"] == 0
    for category, expected in (("quoted", 8), ("time", 10)):
        assert counts[category] == sum(cell.category == category for cell in all_cells) == expected
    assert counts["reproduced"] > 350  # where the paper has several numbers for one of our runs, some may differ


def test_scales_do_not_mix(full):
    found = compare(["table1"], full, "smoke")["table1"]
    assert count_verdicts(found)["not run"] == len(found)


def test_the_frame_has_every_number(full):
    found = compare(["table4", "table5"], full, "paper")
    frame = comparison.findings_frame(found["table4"] + found["table5"])
    assert len(frame) == 22 and frame["ours"].notna().all() and frame.loc[frame.table == "table4", "tolerance"].isna().all()
    assert (frame["verdict"].value_counts().to_dict()) == Counter(f.verdict for f in found["table4"] + found["table5"])


def test_shared_runs_are_told_where_the_papers_numbers_differ():
    shared = comparison.shared_cells("paper")
    together = shared[shared["cells"].str.contains("Table 1 MNIST LD 100")]
    assert len(together) == 1 and "Table 6 MNIST (LD) Set 3" in together["cells"].item()
    assert together["the paper's"].item().split(", ").count("87.27") >= 2 and "87.49" in together["the paper's"].item()


# renderings


@pytest.mark.parametrize("name", TABLES)
def test_every_table_renders_with_and_without_results(name, full, tmp_path):
    numbers = cells(name, "paper")
    for results in (tmp_path, full):
        text = report.table_markdown(name, results, "paper", tmp_path)
        lines = text.strip().splitlines()
        assert len({line.count("|") for line in lines}) == 1, "a ragged table"
        assert text.count("paper ") == len(numbers)
        ran = 0 if results is tmp_path else sum(cell.run is not None for cell in numbers)
        assert text.count("result.json") == ran and text.count("not run") == len(numbers) - ran
    assert lines[0].count("|") == len({cell.column for cell in numbers}) + 2


def test_a_table_keeps_the_papers_order(tmp_path):
    grid = report.arrange(compare(["table1"], tmp_path, "paper")["table1"], tmp_path, tmp_path)
    assert grid.columns == ["10", "20", "50", "100", "200", "500"]
    assert [section for section, _ in grid.sections] == ["MNIST", "CIFAR-10"]
    rows = dict(grid.sections[0][1])
    assert (*rows,) == ("LD", "Baseline", "Baseline LS", "LD RR", "Baseline RR", "Baseline RR LS", "DD", "SLDD")
    assert [entry and entry.paper for entry in rows["DD"]] == [None, None, None, "79.5 ± 8.1", None, None]
    assert rows["LD"][0].paper == "60.89 ± 3.20"


def test_entries_say_ours_difference_verdict_and_where(tmp_path):
    cell = cells("table1", "paper")[0]
    store(cell, tmp_path / "results", 58.5, 2.0, 20)
    finding = compare(["table1"], tmp_path / "results", "paper")["table1"][0]
    entry = report.as_entry(finding, tmp_path / "results", tmp_path / "report" / "tables")
    assert entry == ("58.50 ± 2.00", "60.89 ± 3.20", "\N{MINUS SIGN}2.39", "reproduced", entry.link)
    assert entry.link == f"../../results/paper/{cell.run.name}/result.json"


def test_quoted_numbers_stand_beside_ours(full):
    mnist = [f for f in compare(["table7"], full, "paper")["table7"] if f.cell.section == "MNIST"]
    found = {f.cell.row: f for f in mnist if f.verdict == "quoted"}
    assert found.keys() == {"DD", "SLDD"} and found["SLDD"].tolerance is None
    entry = report.as_entry(found["SLDD"], full, full)
    assert (entry.paper, entry.verdict) == ("82.7 ± 2.8", "quoted") and entry.ours.startswith("82.7 ") and entry.link


# labels against images


def test_contenders_are_all_that_learn_from_as_many_examples(tmp_path):
    six = {"LD", "LD RR", "DD", "SLDD", "Our DD", "Our DD RR"}
    found = comparison.contenders("MNIST", "100", tmp_path, "paper")
    assert found.keys() == six and found["Our DD RR"].cell.mean == 36.43 and found["SLDD"].cell.mean == 82.7
    assert comparison.contenders("CIFAR-10", "100", tmp_path, "paper")["DD"].cell.mean == 36.8
    assert comparison.contenders("MNIST", "10", tmp_path, "paper").keys() == six - {"DD", "SLDD"}


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
def test_labels_and_images_are_judged_by_our_own_numbers(labels, images, said, tmp_path):
    found = comparison.contenders("MNIST", "100", tmp_path, "paper")
    for system, mean in (("LD", labels), ("DD", images)):
        if mean is not None:
            store(found[system].cell, tmp_path, mean)
    found = comparison.contenders("MNIST", "100", tmp_path, "paper")
    judged = comparison.labels_against_images(found, {"LD": 1.0, "LD RR": 1.0})
    assert judged.better["LD", "DD"] == said
    assert len(judged) == 2 * (len(found) - 2) and judged.better["LD RR", "SLDD"] == "not run: LD RR, SLDD"


# the page


class Links(HTMLParser):
    "Every address in a page."

    def __init__(self, text):
        super().__init__()
        self.addresses, self.names = [], set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.addresses += [found[key] for key in ("href", "src") if key in found]
        self.names |= {found["id"]} if "id" in found else set()


@pytest.fixture(scope="module")
def pages(full, tmp_path_factory):
    "The page with all results and with none, with one drawing in it."
    figure = Figure(figsize=(1, 1))
    figure.subplots().plot([1, 2])
    drawn = {name: [Panel("<MNIST> & more", figure), Panel("E → K", None, "not run")] for name in FIGURES}
    empty, folder = tmp_path_factory.mktemp("empty"), full / "report"
    return {
        name: report.page(compare(TABLES, results, "paper"), drawn, results, "paper", folder)
        for name, results in {"full": full, "empty": empty}.items()
    }


@pytest.mark.parametrize("which", ["full", "empty"])
def test_the_page_is_well_formed(which, pages):
    body = pages[which].removeprefix("<!DOCTYPE html>")
    root = ElementTree.fromstring(body)
    ids = [element.get("id") for element in root.iter() if element.get("id")]
    assert len(ids) == len(set(ids)) and set(EXHIBITS) <= set(ids)
    assert len(root.findall(".//td/span[@class='paper']")) == 456


@pytest.mark.parametrize("which", ["full", "empty"])
def test_the_page_is_self_contained_and_its_links_lead_somewhere(which, pages, full):
    links = Links(pages[which])
    pictures = [address for address in links.addresses if address.startswith("data:image/png;base64,")]
    inside = [address for address in links.addresses if address.startswith("#")]
    outside = [address for address in links.addresses if not address.startswith(("data:", "#"))]
    assert len(pictures) == len(FIGURES) and {address[1:] for address in inside} <= links.names
    assert all((full / "report" / address).resolve().is_relative_to(full.resolve()) for address in outside)
    assert all((full / "report" / address).resolve().exists() for address in outside)
    assert "url(" not in pages[which] and "@import" not in pages[which] and "<script" not in pages[which]
    assert bool(outside) == (which == "full")


def test_the_page_states_rule_spreads_and_counts(pages):
    for text in ("≤ 2 √(s²/n + s<sub>paper</sub>²/20 + b²)", "ours, 5 sets", "of 456 numbers"):
        assert text in pages["full"]
    assert "the paper&#39;s Table 6, 5 sets" in pages["empty"].replace("'", "&#39;")


def test_small_scales_carry_a_warning(tmp_path):
    found = compare(TABLES, tmp_path, "smoke")
    assert 'class="note"' in report.page(found, {}, tmp_path, "smoke", tmp_path)
    assert 'class="note"' not in report.page(found, {}, tmp_path, "paper", tmp_path)


def test_every_table_and_figure_has_its_place():
    placed = [name for theme in report.THEMES for name in theme.names]
    assert sorted(placed) == sorted(EXHIBITS) == sorted([*report.HEADINGS, *STUDIES])


# figures


def test_figures_without_runs_say_so(tmp_path):
    drawn = {name: draw(tmp_path, "paper") for name, draw in DRAWINGS.items() if name != "figure4"}
    reasons = {name: {panel.reason for panel in panels} for name, panels in drawn.items()}
    assert reasons.pop("figure5") == {""} and set(DRAWINGS) >= set(FIGURES)
    assert all(found == {"not run"} for found in reasons.values())
    assert all((panel.figure is None) == bool(panel.reason) for panels in drawn.values() for panel in panels)


def test_what_a_change_costs_is_counted_from_each_systems_own_test(tmp_path):
    runs = figure_runs("figure2", "paper")
    found = {"LeNet: MNIST (DD)": 80.0, "sgd: MNIST (DD)": 70.5, "LeNet: MNIST (LD)": 87.0, "sgd: CIFAR-10 (LD)": 30.0}
    for key, mean in found.items():
        store(a_cell(run=runs[key]), tmp_path, mean)
    for steps in (-20, 0):
        store(replace(a_cell(run=runs["steps: MNIST (DD)"]), read=f"deviations.{steps:+d}.accuracy"), tmp_path, 80.0 + steps)
    lost = losses(gather("figure2", tmp_path, "paper"))
    assert lost["MNIST (DD)"].dropna().to_dict() == {"-20 steps": 20.0, "sgd": 9.5}
    assert [*lost.columns] == ["MNIST (DD)"]  # nothing was changed for the other
    assert losses(gather("figure2", tmp_path, "smoke")).empty


def test_figure_2_is_drawn_from_what_there_is(full, tmp_path):
    (panel,) = DRAWINGS["figure2"](full, "paper")
    titles = [axis.get_title()[:3] for axis in panel.figure.axes]
    assert titles == ["(a)", "(b)", "(c)", "(d)"]
    words = {text.get_text() for axis in panel.figure.axes for text in axis.get_legend().get_texts()}
    assert {"MNIST (LD)", "MNIST (DD)", "MNIST (SLDD)", "CIFAR-10 (DD)", "ours", "paper"} <= words
    assert DRAWINGS["figure2"](tmp_path, "paper")[0].reason == "not run"


def test_images_that_are_not_here_are_a_reason_not_an_error():
    def draw(runs):
        raise InputError("no such data")

    assert draw_panel("birds", draw, {}) == Panel("birds", None, "not drawn: no such data")


def test_no_data_set_is_downloaded_for_a_picture(no_network, tmp_path):
    reasons = {panel.title: panel.reason for panel in DRAWINGS["figure4"](tmp_path, "paper")}
    assert reasons.pop("digits") == reasons.pop("letters") == "" and "cub200" in reasons
    assert all(reason == f"not drawn: {name} not on disk" for name, reason in reasons.items())


def test_methods_of_a_scenario_go_together():
    runs = {"MNIST (LD)": 1, "MNIST (LD RR)": 2, "E → K (LD)": 3}
    assert by_scenario(runs) == {"MNIST": {"LD": 1, "LD RR": 2}, "E → K": {"LD": 3}}


def test_figures_are_saved_twice_and_old_ones_go(tmp_path):
    for old in ("figure1.png", "figure1b.svg", "figure12.png"):
        (tmp_path / old).touch()
    figure = Figure(figsize=(1, 1))
    stems = save_panels("figure1", [Panel("a", figure), Panel("b", None, "not run"), Panel("c", figure)], tmp_path)
    assert stems == [tmp_path / "figure1a", None, tmp_path / "figure1c"]
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"figure12.png", *(f"figure1{part}.{suffix}" for part in "ac" for suffix in ("png", "svg"))}
    assert (tmp_path / "figure1a.png").read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in (tmp_path / "figure1c.svg").read_bytes()


def test_notebooks_show_tables_and_figures_but_no_images_of_data_sets(tmp_path):
    (table,) = report.exhibits("table5", tmp_path, "paper")
    assert table._repr_markdown_().startswith("**Table 5. ") and "paper 87.27 ± 0.69<br>not run" in table
    networks = report.exhibits("figure5", tmp_path, "paper")
    assert [type(shown) for shown in networks] == [report.Text, *[report.Text, Figure] * 2]
    (note,) = report.exhibits("figure4", tmp_path, "paper")
    assert "not kept here" in note
    shown = report.exhibits("figure4", tmp_path, "paper", images=True)
    assert sum(isinstance(one, Figure) for one in shown) == 2  # of the data sets that are built in


def test_hours_are_summed_by_kind_and_device(tmp_path):
    for i, (kind, device) in enumerate([("distill", "cpu"), ("distill", "cpu"), ("distill", "GPU"), ("baseline", "cpu")]):
        folder = tmp_path / "paper" / f"{kind}-{i}"
        folder.mkdir(parents=True)
        facts = {"device": device, "seconds": 3600.0 * (i + 1), "peak_memory_mb": 500.0 * (i + 1)}
        (folder / "result.json").write_text(json.dumps({"parameters": {}, "results": {"kind": kind}, **facts}))
    frame = comparison.cost_frame(tmp_path, "paper")
    assert frame.loc[("distill", "cpu")].to_list() == [2, 3.0, 1.0] and frame.loc[("baseline", "cpu"), "hours"] == 4.0
    assert comparison.cost_frame(tmp_path, "short").empty


# the whole report


def test_a_report_writes_everything_and_renews_the_readme(full, tmp_path, monkeypatch):
    monkeypatch.setitem(DRAWINGS, "figure4", lambda results, scale: [Panel("digits", None, "not on disk")])
    checkout = tmp_path / "checkout"
    (checkout / "nbs").mkdir(parents=True)
    for name in ("README.md", "nbs/index.ipynb"):
        (checkout / name).write_bytes((REPOSITORY / name).read_bytes())
    counts = report.write_report(full, tmp_path / "out", "paper", checkout)
    assert sum(counts.values()) == 456
    names = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*")}
    assert {"index.html", "numbers.csv", *(f"tables/{name}.md" for name in TABLES), "figures/figure2.svg"} <= names
    notebook = json.loads((checkout / "nbs" / "index.ipynb").read_text(encoding="utf-8"))
    (home,) = [text for cell in notebook["cells"] if report.BEGIN in (text := "".join(cell["source"]))]
    readme = (checkout / "README.md").read_text(encoding="utf-8")
    for text, folder in ((home, checkout / "nbs"), (readme, checkout)):
        assert report.readme_block(full, folder, "results" if text is home else "nbs/results") in text
        assert str(counts["reproduced"]) in text and text.count(report.BEGIN) == 1


def test_a_text_without_markers_is_refused():
    with pytest.raises(InputError, match="made by `labeldistill report`"):
        report.between_markers("no place here", "block")


def test_an_unknown_scale_is_refused(tmp_path):
    with pytest.raises(InputError, match="--scale 'huge': wanted smoke, short, paper"):
        report.write_report(tmp_path, tmp_path, "huge")


def test_the_readme_is_current():
    results = REPOSITORY / "papermill_runs" / "results"
    home = json.loads((REPOSITORY / "nbs" / "index.ipynb").read_text(encoding="utf-8"))
    text = "".join("".join(cell["source"]) for cell in home["cells"])
    assert report.readme_block(results, REPOSITORY / "nbs", "results") in text, "run `labeldistill report --scale paper`"
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    assert report.readme_block(results, REPOSITORY, "nbs/results") in readme


def test_committed_records_are_of_the_parameters_they_state():
    records = sorted((REPOSITORY / "papermill_runs" / "results" / "paper").glob("*/result.json"))
    assert records
    for path in records:
        record = json.loads(path.read_text())
        text = json.dumps(record["parameters"], sort_keys=True)
        assert hashlib.sha256(text.encode()).hexdigest() == record["parameters_sha256"], path
        kind = record["results"]["kind"]
        known = {name: value for name, value in record["parameters"].items() if name in defaults_of(kind)}  # some are older
        assert new_run(kind, "paper", known).name == path.parent.name
