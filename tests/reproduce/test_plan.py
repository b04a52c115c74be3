"""An evening that plans itself: order, times, what fits, what is shown, what is done, what is packed."""

import json
import zipfile
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from labeldistill import InputError
from labeldistill.reproduce import archive, plan, render
from labeldistill.reproduce.compare import compare
from labeldistill.reproduce.executor import Outcome, settle
from labeldistill.reproduce.exhibits import EXHIBITS, STUDIES, all_runs, cells
from labeldistill.reproduce.paper import PAPER_TABLES
from labeldistill.reproduce.records import write_json
from labeldistill.reproduce.runs import Run, dependencies, finished_record, new_run

pytest.importorskip("labeldistill.reproduce.render", exc_type=ImportError)
crates = pytest.mark.skipif(not find_spec("rocrate"), reason="rocrate is not installed")
ROOT = Path(__file__).parents[2]
COMMITTED = ROOT / "papermill_runs" / "results"


def learning(count=100, epochs=400, kind="distill", network="lenet", target="mnist", **more):
    task = {"target": target, "base_examples": count, "network": network, **more.pop("task", {})}
    return new_run(kind, "paper", task=task, schedule={"epochs": epochs}, **more)


def record(run, results, seconds, **facts):
    "Writes what a run might have left."
    folder = run.folder(results)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "run.json", run.spec)
    write_json(folder / "result.json", {"results": {}, "seconds": seconds, "peak_memory_mb": 1.0, "device": "cpu", **facts})
    return folder


# the order


def test_all_exhibits_come_once_table_1_first_and_studies_last():
    names = plan.by_importance(["table1", "all"], "paper")
    assert sorted(names) == sorted(EXHIBITS) and names[0] == "table1"
    assert set(names[:17]) == set(PAPER_TABLES) and set(names[-len(STUDIES) :]) == set(STUDIES)
    assert plan.by_importance(["figure3", "table7", "table17"], "smoke") == ["table17", "table7", "figure3"]


def test_an_unknown_name_or_scale_is_one_line():
    for asked in ((["table1", "nonsense"], "paper"), (["table1"], "huge")):
        with pytest.raises(InputError, match=r"^('nonsense' is no table|--scale 'huge': expected)"):
            plan.by_importance(*asked)


# times


@pytest.mark.parametrize(
    ("other", "alike"),
    [
        (learning(20), True),
        (learning(epochs=800), True),
        (learning(seed=7, task={"base_seed": 3}), True),
        (learning(task={"source": "emnist_letters_transposed"}), True),
        (learning(target="kmnist"), True),
        (learning(target="kuzushiji49"), False),
        (learning(target="cifar10"), False),
        (learning(network="alexnet"), False),
        (learning(task={"selection": "optimised"}), True),  # which is a run of its own
        (learning(task={"selection": "searched"}), False),
        (learning(method={"ridge": {"learn": "images"}}), False),
        (learning(method={"second-order": {}}), False),
        (learning(kind="transfer"), False),
        (new_run("distill", "paper", task={"target": "mnist", "network": "lenet"}, schedule={"iterations": 400}), False),
    ],
)
def test_runs_are_alike_that_cost_the_same_but_for_size_and_length(other, alike):
    assert (plan.likeness(learning().spec) == plan.likeness(other.spec)) == alike


def test_records_older_than_a_field_are_like_the_runs_of_today():
    old = {folder.name: json.loads((folder / "run.json").read_text()) for folder in plan.committed(ROOT)}
    today = {run.name: run for run in all_runs(EXHIBITS, "paper") if run.name in old}
    assert len(today) >= 215 and any(old[name] != run.spec for name, run in today.items())  # fields have come
    assert all(plan.likeness(old[name]) == plan.likeness(run.spec) for name, run in today.items())


def test_time_is_that_of_the_next_larger_record_and_grows_with_the_length(tmp_path):
    given = {(50, 400, 1): 400.0, (50, 400, 2): 800.0, (50, 800, 3): 1200.0, (200, 800, 1): 4000.0}
    folders = [record(learning(count, epochs, seed=seed), tmp_path, took) for (count, epochs, seed), took in given.items()]
    times = plan.read_times([*folders, tmp_path / "nowhere", record(learning(10), tmp_path, float("nan"))])
    expected = {run: plan.expected_seconds(run, times) for run in (learning(n, 400) for n in (10, 50, 51, 200, 500))}
    assert [*expected.values()] == [600.0, 600.0, 2000.0, 2000.0, 2000.0]  # 1.5 s an epoch is the median of three
    assert plan.expected_seconds(learning(50, 40), times) == 60.0
    assert plan.expected_seconds(learning(network="alexnet"), times) is None


def test_tests_and_timings_do_not_grow_with_the_schedule(tmp_path):
    for kind in ("transfer", "timing"):
        times = plan.read_times([record(learning(kind=kind), tmp_path / kind, 30.0)])
        assert plan.expected_seconds(learning(kind=kind, epochs=800), times) == 30.0


# the plan


def seconds(**known):
    "Times by kind of run."
    return lambda run: known.get(run.kind)


def test_what_is_more_important_has_its_time_first(tmp_path):
    names = ["table1", "table5", "table9"]
    rows = plan.make_plan(names, "paper", tmp_path, seconds(distill=100, baseline=10), 1000)
    first, second, third = ([*row.runs.values()] for row in rows)
    assert first.count("fits") * 10 < rows[0].seconds == 1000 and "too long" in first
    assert set(second) == {"too long"} and set(third) <= {"too long", "unknown"}
    assert not set(rows[0].runs) & set(rows[1].runs)  # what Table 1 has is not in Table 5 again
    assert sum(row.numbers.total() for row in rows) == sum(len(cells(name, "paper")) for name in names)
    twice = plan.make_plan(names, "paper", tmp_path, seconds(distill=100, baseline=10), 1000, workers=2)
    assert [*twice[0].runs.values()].count("fits") > first.count("fits") and twice[0].seconds == 1000


def test_a_small_run_fits_where_a_large_one_does_not_and_none_is_longer_than_the_time(tmp_path):
    (row,) = plan.make_plan(["table1"], "paper", tmp_path, seconds(distill=101, baseline=1), 100, workers=8)
    kinds = {state: {run.kind for run, found in row.runs.items() if found == state} for state in plan.STATES}
    assert kinds == {"fits": {"baseline"}, "too long": {"distill"}, "done": set(), "unknown": set(), "failed": set()}


def test_a_run_is_as_badly_off_as_what_it_starts_from(tmp_path):
    (row,) = plan.make_plan(["table9"], "paper", tmp_path, seconds(sensitivity=1), 1000)
    assert set(row.runs.values()) == {"unknown"} and row.seconds == 0
    (row,) = plan.make_plan(["table9"], "paper", tmp_path, seconds(distill=2000), 1000)
    assert set(row.runs.values()) == {"too long"}
    distilled, *_ = (run for run in row.runs if run.kind == "distill")
    (row,) = plan.make_plan(["table9"], "paper", tmp_path, seconds(distill=1, sensitivity=1), 1000, failed=[distilled])
    bad = {run for run, state in row.runs.items() if state == "failed"}
    assert bad == {distilled, *(run for run in row.runs if distilled in dependencies(run))} and len(bad) == 2
    record(distilled, tmp_path, 1.0)
    (row,) = plan.make_plan(["table9"], "paper", tmp_path, seconds(sensitivity=1), 1000, failed=[distilled])
    assert row.runs[distilled] == "done"


def test_a_chain_of_runs_takes_as_long_as_one_worker_takes_for_it(tmp_path):
    def states(seconds_known, most, workers):
        (row,) = plan.make_plan(["table9"], "paper", tmp_path, seconds_known, most, workers=workers)
        return row, {kind: [state for run, state in row.runs.items() if run.kind == kind] for kind in ("distill", "sensitivity")}

    _, found = states(seconds(distill=60, sensitivity=60), 100, 8)
    assert set(found["distill"]) == {"fits"} and set(found["sensitivity"]) == {"too long"}
    row, found = states(seconds(distill=40), 60, 3)
    assert found["distill"].count("fits") == 3 and row.seconds == 40


def evening(results, *names, scale="paper", slower=1.0, **how):
    "An evening on a CPU, calibrated already."
    made = plan.Evening(plan.by_importance(names, scale), scale, settle(scale, device="cpu", results=results, **how))
    vars(made)["slower"] = slower
    return made


def test_all_456_numbers_are_in_the_plan_of_the_committed_records():
    rows = evening(COMMITTED, "all").plan(4 * 3600)
    total = sum((row.numbers for row in rows), start=rows[0].numbers - rows[0].numbers)
    not_run = sum(found.verdict == "not run" for found in compare(COMMITTED, "paper"))
    assert total.total() == 456 and total["done"] == 456 - not_run
    text = plan.show_plan(rows, 4.0, 1.25)
    assert text.splitlines()[1].split()[:2] == ["Table", "1"]
    assert text.endswith("this machine takes 1.25 times as long as the committed records say")
    assert f"456 numbers of the paper, 4 h: {total['done']} done, " in text


def test_committed_times_are_scaled_and_own_ones_are_not(tmp_path):
    run = next(cell.run for cell in cells("table1", "paper") if (cell.row, cell.column) == ("Baseline", "100"))
    same, slow = (evening(tmp_path, "table1", slower=by).plan(1e9)[0] for by in (1.0, 3.0))
    assert slow.seconds == pytest.approx(3 * same.seconds) and same.numbers == slow.numbers
    took = json.loads((run.folder(COMMITTED) / "result.json").read_text())["seconds"]
    other = new_run("baseline", "paper", **{k: v for k, v in run.spec.items() if k not in ("kind", "seed")}, seed=1)
    record(other, tmp_path, took / 2)
    mine = evening(tmp_path, "table1", slower=3.0).plan(1e9)[0]
    alike = [one for one in mine.runs if plan.likeness(one.spec) == plan.likeness(run.spec)]
    assert run in alike and mine.seconds < slow.seconds - len(alike)


def test_no_calibration_is_needed_where_no_committed_record_tells_a_time(tmp_path):
    made = evening(tmp_path, "all", scale="smoke")
    del vars(made)["slower"]
    assert {state for row in made.plan(3600) for state in row.runs.values()} == {"unknown"} and "slower" not in vars(made)


# what comes next


def test_times_are_those_of_the_records_where_no_calibration_succeeds(tmp_path, monkeypatch):
    def run_timing(spec, workspace):
        raise RuntimeError("no compiler\nand more")

    monkeypatch.setattr(plan, "run_timing", run_timing)
    made = evening(tmp_path, "table1")
    del vars(made)["slower"]
    with pytest.warns(UserWarning, match=r"^--hours: calibration failed \(no compiler\); times are those of the committed"):
        rows = made.plan(1e9)
    assert rows[0].seconds == evening(tmp_path, "table1").plan(1e9)[0].seconds


def test_exhibits_without_numbers_count_their_runs(tmp_path):
    row = plan.make_plan(["figure2"], "paper", tmp_path, seconds(distill=1), 1e9)
    text = plan.show_plan(row, 1)
    assert int(text.splitlines()[1].split()[3]) == sum(state == "fits" for state in row[0].runs.values()) > 0
    assert text.endswith("0 numbers of the paper, 1 h: none in these exhibits")


def test_what_fits_comes_before_one_of_each_kind_of_unknown_time(tmp_path):
    known = evening(tmp_path, "table2", "table1").plan(1e9)
    name, batch = plan.next_batch(known, tmp_path)
    assert name == "table1" and {known[0].runs[run] for run in batch} == {"fits"}
    unknown = plan.make_plan(["table1", "table9"], "paper", tmp_path, seconds(), 3600)
    name, batch = plan.next_batch(unknown, tmp_path)
    assert name == "table1" and len(batch) == len({plan.likeness(run.spec) for run in unknown[0].runs}) < len(unknown[0].runs)
    assert batch[0] == next(iter(unknown[0].runs))
    (row,) = plan.make_plan(["table9"], "paper", tmp_path, seconds(), 3600)
    assert {run.kind for run in plan.next_batch([row], tmp_path)[1]} == {"distill"}  # what others start from
    assert plan.next_batch([row._replace(runs=dict.fromkeys(row.runs, "too long"))], tmp_path) == ("", [])


def test_data_that_cannot_be_had_is_named_before_any_run(no_network, bars_npz):
    def run(**task):
        return Run("smoke", {"kind": "baseline", "task": task})

    runs = [run(target="digits", source="letters"), run(target=str(bars_npz)), run(target="digits", source="cifar10")]
    missing = plan.find_missing_data([*runs, run(target="nowhere"), Run("smoke", {"kind": "tiny"})])
    assert [*missing] == [runs[2], run(target="nowhere")]
    assert "'cifar10' could not be read or downloaded" in missing[runs[2]] and "\n" not in "".join(missing.values())


# the command


def test_a_dry_run_shows_the_plan_and_leaves_nothing(command, tmp_path):
    done = command("reproduce", "table17", "table1", "--hours", "0.2", "--dry-run", "--device", "cpu", "--results", tmp_path)
    assert done.status == 0 and not any(tmp_path.iterdir()) and not done.err
    header, first, second, total = done.out.splitlines()
    assert header.split() == ["exhibit", *"done fits too long unknown failed runs hours shows".split()]
    assert first.split()[:2] == ["Table", "1"] and second.split()[:2] == ["Table", "17"]
    assert total.startswith("92 numbers of the paper, 0.2 h: 92 unknown")


def test_time_that_is_up_leaves_nothing_pending(tmp_path):
    made = evening(tmp_path, "tableA4", scale="smoke")
    plan.fill_hours(made, 0.0, progress=False)
    assert render.read_plan(tmp_path, "smoke") == {"pending": [], "failed": {}}
    assert not [*tmp_path.glob("smoke/*/run.json")]


def test_an_evening_that_is_interrupted_leaves_nothing_pending(tmp_path, monkeypatch):
    def run_inline(*given):
        assert render.read_plan(tmp_path, "smoke")["pending"]
        raise KeyboardInterrupt

    monkeypatch.setattr(plan, "run_inline", run_inline)
    with pytest.raises(KeyboardInterrupt):
        plan.fill_hours(evening(tmp_path, "tableA4", scale="smoke"), 60.0, progress=False)
    assert render.read_plan(tmp_path, "smoke")["pending"] == []


def test_without_rocrate_an_evening_does_not_begin(monkeypatch, tmp_path):
    monkeypatch.setattr(archive, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"rocrate; install with pip install 'labeldistill\[reproduce\]'"):
        plan.reproduce_within(1, ["tableA4"], "smoke", device="cpu", results=tmp_path)
    assert not any(tmp_path.iterdir())


# failures


def test_failures_share_a_line_with_their_reason(tmp_path):
    made = evening(tmp_path, "tableA4", scale="smoke")
    runs = [replace(run, scale="smoke") for run in (learning(n) for n in (10, 20, 30, 40, 50))]
    made.outcomes |= {run: Outcome(run, "failed", "exit status 1: no space") for run in runs[:4]}
    made.outcomes[runs[4]] = Outcome(runs[4], "done")
    assert str(made.summary).splitlines() == [
        "5 runs: 4 failed, 1 done",
        f"failed: {runs[0].name} and 3 more: exit status 1: no space",
    ]
    runs[0].folder(tmp_path).mkdir(parents=True)
    (runs[0].folder(tmp_path) / "log.txt").touch()  # a run without its data has none
    assert str(made.summary).endswith(f"no space ({runs[0].folder(tmp_path) / 'log.txt'})")
    assert made.summary.status == 1
    made.note([runs[4]])
    render.write_html(tmp_path / "smoke" / "report", {}, tmp_path, "smoke")
    page = (tmp_path / "smoke" / "report" / "index.html").read_text()
    assert page.index("exit status 1: no space") < page.index("When a number counts as reproduced")
    assert f'href="../{runs[0].name}/log.txt"' in page and f'href="../{runs[1].name}' not in page
    assert runs[1].name in page and "and 1 more" in page and runs[3].name not in page
    for run in runs[:4]:
        record(run, tmp_path, 1.0)  # a later call has done them
    render.write_html(tmp_path / "smoke" / "report", {}, tmp_path, "smoke")
    assert "no space" not in (tmp_path / "smoke" / "report" / "index.html").read_text()


def test_this_machine_is_compared_with_that_of_the_records(monkeypatch, tmp_path):
    "A slow cell of the notebook does it for real."
    (cell,) = [x for x in cells("table4", "paper") if (x.row, x.column) == ("LD (RR)", "MNIST")]
    theirs, timed = plan.read_record(cell.run.folder(ROOT / "papermill_runs" / "results")).results["minutes"]["mean"], []

    def run_timing(spec, workspace):
        timed.append(spec | {"threads": torch.get_num_threads()})
        return {"minutes": {"mean": 3 * theirs}}

    monkeypatch.setattr(plan, "run_timing", run_timing)
    before, config = torch.get_num_threads(), settle("paper", device="cpu", results=tmp_path)
    assert plan.calibrate(config) == pytest.approx(3)
    (spec,) = timed
    assert spec["method"] == cell.run.spec["method"] and spec["threads"] == config.threads and torch.get_num_threads() == before


def test_planned_numbers_are_pending_in_a_report_and_not_run_in_git(tmp_path):
    planned = [cell.run for cell in cells("table2", "paper")][:2]
    made = evening(tmp_path, "table2")
    made.note(planned)
    shown, kept = (render.Page(tmp_path, "paper", images=images).findings("table2") for images in (True, False))
    assert [f.verdict for f in shown] == ["pending"] * 2 + ["not run"] * 4 and {f.verdict for f in kept} == {"not run"}
    assert render.paper_table(shown, tmp_path).markdown().count("<br>pending") == 2
    found = render.write_html(tmp_path / "paper" / "report", {}, tmp_path, "paper")
    assert sum(f.verdict == "pending" for f in found) == 2
    made.note([])
    assert not [f for f in render.write_html(tmp_path / "paper" / "report", {}, tmp_path, "paper") if f.verdict == "pending"]


# the archive


@crates
def test_an_archive_holds_records_notebooks_report_versions_and_what_they_are(tmp_path):
    from rocrate.rocrate import ROCrate

    when = {"began": "2026-01-01T10:00:00+00:00", "ended": "2026-01-01T10:01:00+00:00"}
    run = record(learning(), tmp_path, 60.0, **when)
    (run / "run.ipynb").write_text("{}")
    (run / "checkpoint").mkdir()
    (run / "checkpoint" / "state.safetensors").touch()
    failed = learning(20).folder(tmp_path)
    failed.mkdir()
    (failed / "log.txt").write_text("=== no space")
    (tmp_path / "paper" / "report").mkdir()
    for name in ("index.html", "cost.ipynb", "verdicts.csv", "plan.json", "old.zip"):
        (tmp_path / "paper" / "report" / name).write_text(name)
    path = archive.write_archive(ROOT, tmp_path, "paper")
    assert path == tmp_path / "paper" / "report" / "labeldistill-paper.zip" and [*path.parent.glob(".*")] == []
    with zipfile.ZipFile(path) as packed:
        assert packed.testzip() is None
        names, lock = set(packed.namelist()), packed.read("environment.txt").decode().splitlines()
        assert packed.read("CITATION.cff") == (ROOT / "CITATION.cff").read_bytes()
        assert packed.read(f"paper/{run.name}/result.json") == (run / "result.json").read_bytes()
    runs = {f"paper/{run.name}/{name}" for name in ("run.json", "result.json", "run.ipynb")}
    pages = {f"paper/report/{name}" for name in ("index.html", "cost.ipynb", "verdicts.csv")}
    beside = {"CITATION.cff", "environment.txt", "ro-crate-metadata.json", f"paper/{failed.name}/log.txt"}
    assert names == runs | pages | beside
    assert lock == sorted(lock, key=lambda line: line.partition("==")[0].lower()) and any(x.startswith("torch==") for x in lock)
    crate = ROCrate(path)
    assert {entity.id for entity in crate.data_entities} == names - {"ro-crate-metadata.json"}
    (action,) = crate.get_by_type("CreateAction")
    assert (action["startTime"], action["endTime"]) == (*when.values(),)
    assert action["instrument"]["name"] == "labeldistill" and action["object"].id == f"paper/{run.name}/run.json"
    assert crate.root_dataset["mentions"] == [action] and "MIT" in str(crate.license)


# for real


@pytest.mark.slow
@crates
def test_an_evening_from_the_command_to_the_archive(command, tmp_path):
    where = ["--scale", "smoke", "--device", "cpu", "--results", tmp_path]
    done = command("reproduce", "tableA4", "figure5", "--hours", "1", *where)
    assert done.status == 0, done.err
    assert "Table A4: 1 of its runs, 1.00 h left" in done.out  # of two runs of unknown time, which are alike: one, then the other
    *_, page, packed, runs = done.out.splitlines()  # what a reader sees last
    assert page.startswith(str(tmp_path / "smoke" / "report" / "index.html")) and runs == "2 runs: 2 done"
    assert all(finished_record(run, tmp_path) for run in all_runs(["tableA4"], "smoke"))
    with zipfile.ZipFile(packed) as archived:
        assert sum(name.endswith("run.ipynb") for name in archived.namelist()) == 2
        assert {f"smoke/report/{name}.html" for name in render.PAGES} < set(archived.namelist())
