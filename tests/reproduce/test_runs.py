"""Committed records by their folders; a part of the paper and of the studies at smoke scale, from the command to the page."""

import json
import re

import pytest

from labeldistill.cli import main
from labeldistill.reproduce.executor import reproduce
from labeldistill.reproduce.runs import EXPERIMENTS, Run, dependencies, finished_record, from_parameters, new_run, to_parameters


def committed(repository):
    "Every committed run.json: its folder, and the run."
    for path in sorted((repository / "papermill_runs" / "results").glob("*/*/run.json")):
        if path.parents[1].name != "smoke":
            yield path.parent, Run(path.parents[1].name, json.loads(path.read_text()))


def test_every_committed_folder_has_the_name_of_its_run_and_its_record_is_found(repository):
    found = list(committed(repository))
    files = (repository / "papermill_runs" / "results").glob("*/*/result.json")
    assert len(found) == len([file for file in files if file.parts[-3] not in ("smoke", "short")]) == 320
    for folder, run in found:
        assert run.name == folder.name
        assert finished_record(run, folder.parents[1]).spec == run.spec


def is_part(old, new):
    "Whether all values are there again; fields may have come, which `Run` counts only if they are not as before."
    if isinstance(old, dict) and isinstance(new, dict):
        return all(name in new and is_part(value, new[name]) for name, value in old.items())
    return old == new


def test_what_is_committed_spells_out_all_values(repository):
    for folder, run in committed(repository):
        if run.kind != "quickstart":
            sections = {name: value for name, value in run.spec.items() if name != "kind"}
            filled = new_run(run.kind, run.scale, **sections)
            assert filled == run and is_part(run.spec, filled.spec), folder
            assert from_parameters(run.kind, run.scale, to_parameters(run)) == run, folder


def test_runs_that_committed_runs_start_from_are_committed_too(repository):
    known = {folder.name for folder, _ in committed(repository)}
    needed = {need.name for _, run in committed(repository) if run.kind in EXPERIMENTS for need in dependencies(run)}
    assert len(needed) >= 7 and needed <= known


def test_runs_of_a_table_are_computed_once(tmp_path):
    todo = reproduce(["tableA4"], "smoke", dry_run=True, results=tmp_path)
    assert str(todo).startswith("2 runs: 2 to do") and not list(tmp_path.iterdir())
    done = reproduce(["tableA4"], "smoke", jobs=2, device="cpu", results=tmp_path, progress=False)
    assert str(done) == "2 runs: 2 done"
    for run, _, _ in done.outcomes:
        names = {path.name for path in run.folder(tmp_path).iterdir()}
        assert {"run.json", "result.json", "run.ipynb", "log.txt"} <= names and not {"checkpoint", ".lock"} & names
    assert str(reproduce(["tableA4"], "smoke", device="cpu", results=tmp_path, progress=False)) == "2 runs: 2 kept"


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return tmp_path_factory.mktemp("results")


def say(results, capsys, *more):
    "What the command prints."
    exhibits = ("table9", "figure3", "tableA5", "figureA8")
    try:
        main(["reproduce", *exhibits, "--scale", "smoke", "--jobs", "2", "--results", str(results), *more])
    except SystemExit as stop:
        assert not stop.code
    return capsys.readouterr().out


@pytest.mark.slow
def test_a_table_and_a_figure_are_computed_once_and_reported(results, capsys):
    assert say(results, capsys, "--dry-run").startswith("15 runs: 15 to do") and not list(results.iterdir())
    assert say(results, capsys).strip() == "15 runs: 15 done"
    assert say(results, capsys).strip() == "15 runs: 15 kept"
    runs = [folder for folder in (results / "smoke").iterdir() if (folder / "result.json").exists()]
    assert len(runs) == 15 and all((folder / "run.ipynb").exists() and not (folder / "checkpoint").exists() for folder in runs)

    main(["report", "--scale", "smoke", "--results", str(results), "--out", str(results / "report"), "--json"])
    counts = json.loads(capsys.readouterr().out)
    assert sum(value for key, value in counts.items() if key != "out") == 456
    assert counts["reproduced"] + counts["better"] + counts["worse"] >= 32  # Table 9 at least
    page = (results / "report" / "index.html").read_text()
    assert not re.search(r'(src|href)="(https?:|/)', page.replace('href="https://arxiv.org', "")) and "Table 9" in page
