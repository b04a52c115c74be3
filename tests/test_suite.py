"""A part of the paper and of the studies at smoke scale, from the command to the page."""

import json
import re

import pytest

from labeldistill.cli import main


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return tmp_path_factory.mktemp("results")


def reproduce(results, capsys, *more):
    "What the command prints."
    exhibits = ("table9", "figure3", "tableA5", "figureA8")
    main(["reproduce", *exhibits, "--scale", "smoke", "--jobs", "2", "--results", str(results), *more])
    return capsys.readouterr().out


def test_a_table_and_a_figure_are_computed_once_and_reported(results, capsys):
    assert reproduce(results, capsys, "--dry-run").startswith("15 runs: 15 to do") and not list(results.iterdir())
    assert reproduce(results, capsys).strip() == "15 runs: 15 done"
    assert reproduce(results, capsys).strip() == "15 runs: 15 kept"
    runs = [folder for folder in (results / "smoke").iterdir() if (folder / "result.json").exists()]
    assert len(runs) == 15 and all((folder / "run.ipynb").exists() and not (folder / "checkpoint").exists() for folder in runs)

    main(["report", "--scale", "smoke", "--results", str(results), "--out", str(results / "report"), "--json"])
    counts = json.loads(capsys.readouterr().out)
    assert sum(value for key, value in counts.items() if key != "out") == 456
    assert counts["reproduced"] + counts["better"] + counts["worse"] >= 32  # Table 9 at least
    page = (results / "report" / "index.html").read_text()
    assert not re.search(r'(src|href)="(https?:|/)', page.replace('href="https://arxiv.org', "")) and "Table 9" in page
    assert (results / "report" / "figures" / "figure3.png").stat().st_size > 10_000
    assert list((results / "report" / "figures").glob("figureA8*.png"))  # labels learned within a budget, beside a trace
    draws = (results / "report" / "tables" / "tableA5.md").read_text()
    assert len(re.findall(r"^\| Draw \d \|( \[\d+\.\d\d ± \d+\.\d\d \(2\)†?\]\(.*?\) \|){2}$", draws, re.MULTILINE)) == 6


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["reproduce", "table18"], "table18.*wanted: table1, .*figure9"),
        (["reproduce", "table1", "--scale", "huge"], "--scale 'huge': wanted smoke, short, paper"),
        (["reproduce", "table1", "--engine", "magic"], "--engine 'magic': wanted inline, snakemake"),
        (["reproduce", "table1", "--jobs", "0"], "--jobs 0: must be at least 1"),
        (["report", "--scale", "huge"], "--scale 'huge': wanted"),
    ],
)
def test_what_cannot_be_reproduced_is_refused_in_one_line(arguments, message, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    said = capsys.readouterr().err.strip()
    assert stop.value.code == 2 and re.search(message, said) and "\n" not in said
