"""Verdicts, tables, pages and the report: with no results, with all, and with made-up ones in between."""

import importlib.util
import json
import os
import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree

import nbformat
import pytest

from labeldistill import InputError
from labeldistill.reproduce import compare as comparison
from labeldistill.reproduce import render
from labeldistill.reproduce.compare import (
    Measurement,
    Spread,
    compare,
    count_verdicts,
    judge,
    look_up,
    measurement,
    repeats,
    spread_row,
    spreads,
)
from labeldistill.reproduce.exhibits import EXHIBITS, Cell, Setting, cells, exhibit_runs, with_nearest_data
from labeldistill.reproduce.experiments import summary
from labeldistill.reproduce.paper import PAPER_TABLES
from labeldistill.reproduce.records import write_json
from labeldistill.reproduce.render import Entry, Table

REPOSITORY = Path(__file__).parents[2]
PAGES = REPOSITORY / "nbs" / "results"


def a_cell(mean=80.0, std=2.0, category="measured", table="table1", section="MNIST", row="LD", run=None):
    return Cell(table, section, row, "100", mean, std, run, "accuracy", category)


def store(cell, results, mean, std=1.0, n=20):
    "Writes what a run of this cell might have found, beside what its record already says."
    folder = cell.run.folder(results)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "run.json", cell.run.spec)
    path = folder / "result.json"
    record = json.loads(path.read_text()) if path.exists() else {"results": {"kind": cell.run.kind}}
    *way, last = cell.read.split(".")
    place = record["results"]
    for key in way:
        place = place.setdefault(key, {})
    place[last] = {"mean": mean, "std": std, "n": n, "values": [mean] * n}
    path.write_text(json.dumps(record))


@pytest.fixture(scope="module")
def all_cells():
    return [cell for name in PAPER_TABLES for cell in cells(name, "paper")]


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
    assert judge(a_cell(std=0.0), ours, spread=2.0).verdict == expected


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
    limits = {name: judge(a_cell(std=10.0, table=name), ours, 0.0).tolerance for name in names}
    assert limits == pytest.approx({"table1": 20 / 20**0.5, "table10": 20 / 200**0.5, "table17": 20 / 20**0.5})


@pytest.mark.parametrize("category", ["quoted", "time", "substitute"])
def test_quoted_numbers_times_and_substitutes_are_not_judged(category):
    found = judge(a_cell(category=category, std=None), Measurement(1e6, 0.0, 1), 0.0)
    assert (found.verdict, found.tolerance) == (category, None)


@pytest.mark.parametrize("category", ["measured", "quoted", "time"])
def test_what_was_not_run_says_so(category):
    assert judge(a_cell(category=category), None, 1.0).verdict == "not run"


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


@pytest.mark.parametrize("change", [{"n": 0}, {"n": None}, {"mean": "80"}, {"mean": float("nan")}, {"std": 10**400}], ids=str)
def test_a_measurement_is_made_of_numbers(change):
    found = {"accuracy": {"mean": 80.0, "std": 1.0, "n": 2} | change}
    with pytest.raises(InputError, match="the record has no mean, std and n at 'accuracy'"):
        measurement(found, "accuracy")


def test_records_of_other_runs_and_damaged_ones_are_no_measurement(tmp_path, all_cells):
    cell = all_cells[0]
    store(cell, tmp_path, 50.0)
    spec, result = (cell.run.folder(tmp_path) / name for name in ("run.json", "result.json"))
    whole = spec.read_text()
    assert look_up(cell, tmp_path).mean == 50.0
    spec.write_text(whole.replace('"seed": 1234', '"seed": 4321'))
    assert look_up(cell, tmp_path) is None
    spec.write_text(whole)
    result.write_text(result.read_text()[:-20])
    assert look_up(cell, tmp_path) is None


@pytest.mark.parametrize("name", ["table1", "table9", "table16"])
def test_cells_are_read_from_what_runs_write(name, tmp_path):
    numbers = [cell for cell in cells(name, "paper") if cell.run is not None]
    tested = {"accuracy": summary((80.0, 82.0)), "steps": 200}
    for cell in numbers:
        folder, deviations = cell.run.folder(tmp_path), cell.run.spec.get("deviations", ())
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "run.json", cell.run.spec)
        found = {"deviations": {f"{steps:+d}": tested for steps in deviations}} if deviations else tested
        write_json(folder / "result.json", {"results": {"kind": cell.run.kind, **found}})
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


def test_learned_images_are_as_uncertain_as_their_seeds_show(tmp_path):
    again = exhibit_runs("table17", "paper")
    assert len(again) == 16 and {key[0] for key in again} == {"MNIST (DD)", "MNIST (DD RR)"}
    (own,) = (c for c in cells("table17", "paper") if (c.row, c.column) == ("MNIST (DD RR)", "100"))
    other = replace(own, row="CIFAR-10 (DD RR)")
    ours, row = Measurement(18.38, 1.0, 20), "MNIST (DD RR)"
    means = {1234: 20.0, 1: 10.0, 2: 40.0}
    for done, (seed, mean) in enumerate(means.items()):
        assert row not in spreads(tmp_path, "paper")
        store(own if seed == 1234 else replace(own, run=again[row, "100", seed]), tmp_path, mean)
        assert repeats(tmp_path, "paper") == ({(row, "100"): dict(list(means.items())[: done + 1])} if done else {})
    assert spreads(tmp_path, "paper")[row] == Spread(pytest.approx(15.2753, abs=1e-4), 3, "ours")
    assert spread_row(own) == spread_row(other) == row and spread_row(replace(own, row="MNIST (DD)")) == "MNIST (DD)"
    assert judge(own, ours, 0.0).verdict == "worse" and judge(own, ours, 15.2753).verdict == "reproduced"
    for seed, mean in zip((1, 2, 3), (5.0, 6.0, 7.0), strict=True):  # another column: the root of the mean variance
        store(replace(own, run=again[row, "10", seed]), tmp_path, mean)
    assert spreads(tmp_path, "paper")[row] == Spread(pytest.approx(((15.2753**2 + 1) / 2) ** 0.5, abs=1e-4), 3, "ours")


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
        (a_cell(table="table17", section=None, row="MNIST (DD RR)"), "MNIST (DD RR)"),
    ],
)
def test_spreads_are_those_of_rows_of_table_6(cell, expected):
    assert comparison.spread_row(cell) == expected


def test_every_row_of_table_6_is_the_spread_of_some_cell(all_cells):
    rows = {cell.row for cell in cells("table6", "paper")}
    assert {comparison.spread_row(cell) for cell in all_cells} == rows | {"MNIST (DD)", "MNIST (DD RR)", None}


# all cells


@pytest.mark.parametrize("scale", ["smoke", "short", "paper"])
def test_counts_sum_to_456(scale, tmp_path):
    counts = count_verdicts(compare(tmp_path, scale))
    assert tuple(counts) == comparison.VERDICTS and counts["not run"] == sum(counts.values()) == 456


def test_counts_of_full_results(full, all_cells):
    counts = count_verdicts(compare(full, "paper"))
    assert sum(counts.values()) == 456 and counts["not run"] == 0
    for category, expected in (("quoted", 8), ("time", 10)):
        assert counts[category] == sum(cell.category == category for cell in all_cells) == expected
    assert counts["reproduced"] > 350  # where the paper has several numbers for one of our runs, some may differ


def test_scales_do_not_mix(full):
    found = compare(full, "smoke", "table1")
    assert count_verdicts(found)["not run"] == len(found)


def test_the_frame_has_every_number(full):
    found = compare(full, "paper", "table4", "table5")
    frame = comparison.findings_frame(found)
    assert len(frame) == 22 and frame["ours"].notna().all() and frame.loc[frame.exhibit == "table4", "tolerance"].isna().all()
    assert (frame["verdict"].value_counts().to_dict()) == Counter(f.verdict for f in found)
    assert frame["difference"].tolist() == pytest.approx([f.ours.mean - f.cell.mean for f in found])


# renderings


@pytest.mark.parametrize("name", PAPER_TABLES)
def test_every_table_renders_with_and_without_results(name, full, tmp_path):
    numbers = cells(name, "paper")
    for results in (tmp_path, full):
        text = render.paper_table(compare(results, "paper", name), results).markdown(tmp_path)
        lines = text.strip().splitlines()
        assert len({line.count("|") for line in lines}) == 1, "a ragged table"
        assert text.count("paper ") == len(numbers)
        ran = 0 if results is tmp_path else sum(cell.run is not None for cell in numbers)
        assert text.count("result.json") == ran and text.count("not run") == len(numbers) - ran
    assert lines[0].count("|") == len({cell.column for cell in numbers}) + 2


def test_a_table_keeps_the_papers_order(tmp_path):
    table = render.paper_table(compare(tmp_path, "paper", "table1"), tmp_path)
    assert table.columns == ["10", "20", "50", "100", "200", "500"]
    assert [*dict.fromkeys(section for section, _ in table.rows)] == ["MNIST", "CIFAR-10"]
    rows = {row: cells for (section, row), cells in table.rows.items() if section == "MNIST"}
    assert (*rows,) == ("LD", "Baseline", "Baseline LS", "LD RR", "Baseline RR", "Baseline RR LS", "DD", "SLDD")
    assert [cell and cell[0].below for cell in rows["DD"]] == [(), (), (), "paper 79.5 ± 8.1<br>not run", (), ()]
    assert rows["LD"][0][0].below.startswith("paper 60.89 ± 3.20")


def test_entries_say_ours_difference_verdict_and_where(tmp_path):
    cell = cells("table1", "paper")[0]
    store(cell, tmp_path / "results", 58.5, 2.0, 20)
    entry = render.as_entry(compare(tmp_path / "results", "paper", "table1")[0], tmp_path / "results")
    assert entry[:2] == ("58.50 ± 2.00", cell.run.folder(tmp_path / "results"))
    assert entry.below == "paper 60.89 ± 3.20<br>\N{MINUS SIGN}2.39 reproduced"
    link = f"../../results/paper/{cell.run.name}/result.json"
    assert entry.markdown(tmp_path / "report" / "tables") == f"[58.50 ± 2.00]({link})<br>{entry.below}"


def test_a_substitute_fills_its_cell_until_the_papers_data_are_run(tmp_path):
    cell = next(c for c in cells("table3", "paper") if (c.row, c.column) == ("E → K (LD)", "100"))
    store(replace(cell, run=with_nearest_data(cell.run)), tmp_path, cell.mean)
    counts = count_verdicts(compare(tmp_path, "paper", "table3"))
    assert (counts["substitute"], counts["reproduced"], counts["not run"]) == (1, 0, 47)
    text = render.paper_table(compare(tmp_path, "paper", "table3"), tmp_path).markdown(tmp_path)
    assert "latin_letters-to-kmnist10k" in text and "0.00 substitute |" in text and text.endswith(render.SUBSTITUTE)
    store(cell, tmp_path, cell.mean)
    counts = count_verdicts(compare(tmp_path, "paper", "table3"))
    assert (counts["substitute"], counts["reproduced"], counts["not run"]) == (0, 1, 47)


def test_links_survive_folders_with_blanks(tmp_path):
    entry = Entry("1.00", tmp_path / "my runs" / "a (copy)")
    assert entry.markdown(tmp_path / "out") == "[1.00](../my%20runs/a%20%28copy%29/result.json)"


def test_several_entries_stand_side_by_side_and_an_empty_table_says_so():
    rows = {("", "a"): [(Entry("1", Path("x")), Entry("-")), ()]}
    assert Table("n", ["10", "20"], rows, "a remark").markdown().splitlines()[2:] == [
        "| a | [1](x/result.json), - |  |",
        "",
        "a remark",
    ]
    assert Table("n", ["10"], {("", "a"): [(render.NOT_RUN,)]}, "a remark").markdown() == "not run"


def test_quoted_numbers_stand_beside_ours(full):
    mnist = [f for f in compare(full, "paper", "table7") if f.cell.section == "MNIST"]
    found = {f.cell.row: f for f in mnist if f.verdict == "quoted"}
    assert found.keys() == {"DD", "SLDD"} and found["SLDD"].tolerance is None
    entry = render.as_entry(found["SLDD"], full)
    assert entry.text.startswith("82.7 ") and entry.run
    assert entry.below.startswith("paper 82.7 ± 2.8<br>") and entry.below.endswith(" quoted")


# verdicts.csv


def test_verdicts_have_a_line_for_each_number(full, tmp_path, all_cells):
    render.write_verdicts(tmp_path / "verdicts.csv", compare(full, "paper"), full)
    header, *lines = (tmp_path / "verdicts.csv").read_text().splitlines()
    assert header == "exhibit,row,column,paper,ours,verdict,record" and len(lines) == 456
    assert len({tuple(line.split(",")[:3]) for line in lines}) == 456
    assert lines[0].startswith("table1,MNIST: LD,10,60.89,")
    assert all((full.parent / line.split(",")[-1]).is_file() for line in lines)


# pages


class Links(HTMLParser):
    "Every address in a page, and every name that an address can lead to."

    def __init__(self, text):
        super().__init__()
        self.addresses, self.names = [], set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.addresses += [found[key] for key in ("href", "src") if key in found]
        self.names |= {found["id"]} if "id" in found else set()


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    "A report's HTML from the committed notebooks, copied to where they might be written."
    folder = REPOSITORY / "papermill_runs" / "results" / "paper" / "report"
    notebooks = {name: render.copied(page, PAGES, folder, True) for name, page in render.read_pages(PAGES).items()}
    out = tmp_path_factory.mktemp("report")
    render.write_html(out, notebooks, REPOSITORY / "papermill_runs" / "results", "paper")
    return folder, {path.name: path.read_text(encoding="utf-8") for path in out.iterdir()}


def test_the_overview_is_well_formed_and_leads_to_every_exhibit(pages):
    text = pages[1]["index.html"]
    root = ElementTree.fromstring(text.removeprefix("<!DOCTYPE html>"))
    links = {element.get("href") for element in root.iter("a")}
    assert {link.partition("#")[2] for link in links if "#" in link} == set(EXHIBITS)
    assert {f"{name}.html" for name in render.PAGES} | {"verdicts.csv"} <= links


def test_pages_are_self_contained_and_their_links_lead_somewhere(pages):
    folder, texts = pages
    links = {name: Links(text) for name, text in texts.items()}
    pictures = [x for page in links.values() for x in page.addresses if x.startswith("data:image/png;base64,")]
    assert len(pictures) >= 15
    for page in links.values():
        for address in page.addresses:
            path, _, anchor = address.partition("#")
            if path in links or not path:
                assert not anchor or anchor in (links[path] if path else page).names, address
            elif not re.match(r"data:|https?:|\w+\.ipynb$|verdicts\.csv$", address):  # committed outputs were made in PAGES
                places = [Path(os.path.normpath(place / unquote(path))) for place in (folder, PAGES)]
                assert any(place.exists() for place in places), address
    for text in texts.values():
        assert "url(" not in text and "@import" not in text and "<script" not in text


def test_the_overview_states_rule_spreads_and_counts(pages, full, tmp_path):
    render.write_html(tmp_path, {}, full, "paper")
    for text in ("≤ 2 √(s²/n + s<sub>paper</sub>²/20 + b²)", "ours, 5 sets", "of 456 numbers"):
        assert text in (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "the paper&#39;s Table 6, 5 sets" in pages[1]["index.html"].replace("'", "&#39;")


def test_small_scales_carry_a_warning(tmp_path):
    for scale, warned in (("smoke", True), ("short", True), ("paper", False)):
        render.write_html(tmp_path, {}, tmp_path, scale)
        assert ('class="note"' in (tmp_path / "index.html").read_text(encoding="utf-8")) == warned
        assert bool(render.WARNINGS[scale]) == warned and render.WARNINGS[scale] in render.Page(tmp_path, scale)._repr_markdown_()


def test_verdicts_are_marked_and_links_lead_to_pages():
    table = "| LD |\n|---|\n| 1.0<br>+0.1 not run |\n\n[cost](cost.ipynb#Cost), [elsewhere](../a.ipynb)"
    text = render.as_html(nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(table)]))
    assert '<i class="not run">not run</i></td>' in text
    assert 'href="cost.html#Cost"' in text and 'href="../a.ipynb"' in text


# executing


def test_a_notebook_is_executed_with_parameters_and_leaves_no_traces(tmp_path):
    code = nbformat.v4.new_code_cell
    made = [
        code("count = 1", metadata={"tags": ["parameters"]}),
        code("import sys, pathlib\nprint('no', file=sys.stderr)\nprint(pathlib.Path().resolve(), count)"),
        code("from IPython.display import display\ndisplay({'application/vnd.jupyter.widget-view+json': {}}, raw=True)"),
    ]
    done = render.execute_page(nbformat.v4.new_notebook(cells=made), tmp_path, {"count": 3})
    assert [cell.get("outputs") for cell in done.cells][:2] == [[], []] and done.cells[3].outputs == []
    (output,) = done.cells[2].outputs
    assert output["text"] == f"{tmp_path.resolve()} 3\n"
    assert set(done.metadata) == {"kernelspec"} and {"tags": ["parameters"]} in [dict(cell.metadata) for cell in done.cells]
    render.write_notebook(tmp_path / "done.ipynb", done)
    assert nbformat.read(tmp_path / "done.ipynb", 4) == done


def test_a_copy_drops_claims_and_keeps_its_links(tmp_path):
    cell = nbformat.v4.new_markdown_cell
    prose = cell("[a](../index.ipynb#x), [b](cost.ipynb#y), [c](#z), [d](https://example.org/)")
    made = nbformat.v4.new_notebook(cells=[prose, cell("41 per cent", metadata={"tags": ["paper"]})])
    for claims in (True, False):
        first, *more = render.copied(made, tmp_path / "nbs" / "results", tmp_path / "out", claims).cells
        assert first.source == "[a](../nbs/index.ipynb#x), [b](cost.ipynb#y), [c](#z), [d](https://example.org/)"
        assert len(more) == claims and made.cells[0] is prose and "(../index" in prose.source


def test_reports_of_settings_have_names_of_their_own():
    paths = [Setting(path, "lenet", 10) for path in ("digits", "/a/digits.npz", "/b/digits.npz")]
    names = [render.report_name(at) for at in paths]
    assert len(set(names)) == 3 and all(name.startswith("report-digits-lenet-") for name in names)
    assert render.report_name(None) == "report"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"scale": "huge"}, "--scale 'huge': expected smoke, short, paper"),
        ({"results": Path("nowhere")}, "--results '.*nowhere': expected the folder of all runs"),
        ({"out": Path(__file__)}, "--out '.*test_render.py': expected a folder"),
    ],
)
def test_bad_reports_are_refused_before_any_work(given, message, tmp_path, monkeypatch):
    monkeypatch.setattr(render, "execute_page", None)
    with pytest.raises(InputError, match=message) as error:
        render.write_report(REPOSITORY, **{"scale": "smoke", "results": tmp_path, "out": tmp_path / "out"} | given)
    assert "\n" not in str(error.value) and not (tmp_path / "out").exists()


def test_a_report_touches_nothing_but_its_folder(full, tmp_path, monkeypatch, snapshot):
    monkeypatch.setattr(render, "execute_page", lambda notebook, folder, parameters: notebook)
    before = snapshot(PAGES), (REPOSITORY / "papermill_runs" / "verdicts.csv").read_bytes()
    out, counts = render.write_report(REPOSITORY, "paper", results=full, out=tmp_path / "out")
    assert out == tmp_path / "out" and sum(counts.values()) == 456
    written = {f"{name}.{kind}" for name in render.PAGES for kind in ("ipynb", "html")}
    assert {path.name for path in out.iterdir()} == written | {"index.html", "verdicts.csv"}
    assert before == (snapshot(PAGES), (REPOSITORY / "papermill_runs" / "verdicts.csv").read_bytes())


# what is committed


@pytest.mark.parametrize("name", render.PAGES)
def test_every_link_of_a_committed_page_leads_somewhere(name):
    pages = {page: "\n".join(cell.source for cell in notebook.cells) for page, notebook in render.read_pages(PAGES).items()}
    for cell in nbformat.read(PAGES / f"{name}.ipynb", 4).cells:
        texts = [output.get("data", {}).get("text/markdown", "") for output in cell.get("outputs", [])]
        prose = cell.source if cell.cell_type == "markdown" else ""
        for link in re.findall(r"\]\((?!https?:)([^)]+)\)", "\n".join([prose, *texts])):
            path, _, anchor = link.partition("#")
            assert not path or (PAGES / unquote(path)).exists(), link
            if anchor:
                headings = re.findall(r"^#+ (.*)$", pages[Path(path).stem if path else name], re.M)
                assert anchor in [heading.replace(" ", "-") for heading in headings], link


def test_every_table_and_figure_is_shown_by_one_page():
    shown = [name for page in render.read_pages(PAGES).values() for name in render.exhibits_on(page)]
    assert sorted(shown) == sorted(EXHIBITS)
    assert {path.stem for path in PAGES.glob("*.ipynb")} == set(render.PAGES)


def test_committed_pages_have_pictures_but_no_images_of_data_sets():
    outputs = [output for page in render.read_pages(PAGES).values() for cell in page.cells for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 15
    assert sum(render.NOT_KEPT in output.get("data", {}).get("text/markdown", "") for output in outputs) == 5
    assert not [output for output in outputs if output.get("name") == "stderr" or render.WIDGET in output.get("data", {})]


@pytest.fixture(scope="module")
def renew():
    "The script that renews what is committed."
    spec = importlib.util.spec_from_file_location("renew", REPOSITORY / "nbs" / "renew.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_goes_between_the_markers_and_nowhere_else(renew, tmp_path):
    home, results = tmp_path / "index.ipynb", REPOSITORY / "papermill_runs" / "results"
    cell = nbformat.v4.new_markdown_cell
    render.write_notebook(home, nbformat.v4.new_notebook(cells=[cell("a"), cell(f"b\n{renew.BEGIN}\nold\n{renew.END}\nc")]))
    renew.renew_home(home, results)
    first, second = (cell.source for cell in nbformat.read(home, 4).cells)
    assert first == "a" and second.startswith(f"b\n{renew.BEGIN}\n\n| labels |") and second.endswith(f"{renew.END}\nc")
    assert "old" not in second
    render.write_notebook(home, nbformat.v4.new_notebook(cells=[cell("no place here")]))
    with pytest.raises(InputError, match="made by `make results`"):
        renew.renew_home(home, results)


def test_the_home_page_and_the_readme_are_current(renew):
    results = REPOSITORY / "papermill_runs" / "results"
    home = json.loads((REPOSITORY / "nbs" / "index.ipynb").read_text(encoding="utf-8"))
    text = "".join("".join(cell["source"]) for cell in home["cells"])
    assert renew.which_method(results).markdown(REPOSITORY / "nbs") in text, "run `make results`"
    assert renew.which_method(results).markdown(REPOSITORY) in (REPOSITORY / "README.md").read_text(encoding="utf-8")


def test_verdicts_are_current(tmp_path):
    results = REPOSITORY / "papermill_runs" / "results"
    render.write_verdicts(tmp_path / "verdicts.csv", compare(results, "paper"), results)
    assert (tmp_path / "verdicts.csv").read_bytes() == (results.parent / "verdicts.csv").read_bytes(), "run `make results`"
