"""The benchmarks run, measure what they say, and their naive networks are the package's."""

import json
from argparse import Namespace
from contextlib import contextmanager

import gpu_check
import growth
import iterations
import measure
import memory
import operators
import perturbation
import pytest
import runs
import students
import torch
from naive import TEXTBOOK

from labeldistill.data.streams import generator
from labeldistill.networks.compute import Computation
from labeldistill.networks.network import make_network


@contextmanager
def same_process(_threads, make, *arguments):
    "A stand-in for a process of its own."
    function = make(*arguments)
    yield lambda: measure.call(function)


@pytest.fixture(autouse=True)
def in_one_process(monkeypatch):
    for module in (iterations, students):
        monkeypatch.setattr(module, "own_process", same_process)


@pytest.mark.parametrize("name", TEXTBOOK)
def test_naive_networks_compute_what_the_package_computes(name):
    channels, size = (1, 28) if name == "lenet" else (3, 32)
    ours, naive = make_network(name, channels, size, 10).build(0), TEXTBOOK[name](channels, size, 10)
    naive.load_state_dict(dict(zip(naive.state_dict(), ours.state_dict().values(), strict=True)))
    images = torch.randn(4, channels, size, size, generator=generator(0, "images"))
    torch.testing.assert_close(ours.eval()(images), naive.eval()(images), rtol=1e-4, atol=1e-5)


def test_functions_take_turns_and_the_first_turn_does_not_count():
    calls, times = [], iter(range(100))

    def form(name):
        return lambda: (calls.append(name), (float(next(times)), 0.5))[1]

    seen = measure.alternate({"a": form("a"), "b": form("b")}, 3)
    assert "".join(calls) == "abababab" and seen == {"a": (0, 4, 0.5), "b": (1, 5, 0.5)}


def count_to(number):
    "What another process can be told to do."
    return lambda: sum(range(number))


def test_a_process_of_its_own_says_how_long_a_call_took():
    with measure.own_process(1, count_to, 1000) as function:
        (clock, processor), _ = function(), function()
    assert 0 < processor and 0 < clock < 10


def test_peak_of_memory_is_the_most_at_one_time():
    def two_then_one():
        first = torch.ones(1000, dtype=torch.float64)
        second = first + 1
        del first
        return second.add_(1)

    assert 16_000 <= measure.peak_bytes(two_then_one) < 17_000


def test_operations_are_those_of_the_textbook():
    ridge, second = (iterations.Setting("lenet", name) for name in ("ridge", "second-order"))
    macs = 28 * 28 * 6 * 25 + 10 * 10 * 16 * 150 + 400 * 120 + 120 * 84 + 84 * 10
    first_layer = 2 * 28 * 28 * 6 * 25  # no gradient of the images is needed
    training = 3 * 2 * macs - first_layer
    assert iterations.operations(ridge) == 1024 * 2 * macs + 50 * training
    assert iterations.operations(second) == 1074 * training + 50 * 3 * 2 * macs


def test_iterations_are_compared_with_the_naive_form():
    options = Namespace(networks=["lenet"], methods=["ridge"], computations=["fp32"], rounds=1, turn=1, threads=1)
    naive, ours = iterations.rows(options)
    assert (naive["computation"], ours["computation"]) == ("naive", "fp32") and naive["clock_ratio"] == 1
    assert ours["clock_ratio"] == pytest.approx(naive["clock_ms"] / ours["clock_ms"])
    assert all(0 < row["share_of_matmul"] for row in (naive, ours))
    assert iterations.named("bf16+compile") == Computation("bf16", True)


def test_memory_of_an_iteration_lies_near_that_of_training():
    ridge, second = memory.rows(Namespace(networks=["lenet"], precisions=["fp32"], outer_batch=128, threads=1))
    assert 0.5 < second["ratio"] < second["limit"] == 1.2
    assert ridge["iteration_mb"] == pytest.approx(ridge["inference_mb"], rel=0.05)


def test_growth_has_a_row_for_each_point(monkeypatch):
    monkeypatch.setattr(growth, "SERIES", {"outer_batch": [16, 64], "classes": [10, 200], "window": [1, 3], "ensemble": [1, 2]})
    rows = list(growth.rows(Namespace(series=growth.SERIES, precision="fp32", rounds=1, threads=1)))
    assert [row["value"] for row in rows] == [16, 64, 16, 64, 10, 200, 10, 200, 1, 3, 1, 2]
    assert rows[0]["peak_mb"] < rows[1]["peak_mb"] and rows[0]["gflop"] < rows[1]["gflop"]
    assert [row["method"] for row in rows[-4:]] == ["unrolled", "unrolled", "expert", "expert"]
    assert growth.point("ridge", "classes", 200, Computation()).base_examples == 200


def test_growth_has_a_row_for_each_step_with_a_file(monkeypatch):
    monkeypatch.setattr(growth, "SERIES", {"npz_images": [100_000]})
    rows = list(growth.rows(Namespace(series=["npz_images"], threads=1)))
    assert [row["method"] for row in rows] == ["read", "split", "task"] and {row["data_mb"] for row in rows} == {78.4}
    assert 70 < rows[0]["peak_mb"] < 110 and all(row["processor_ms"] > 0 for row in rows)  # once, and some


def test_students_are_timed_in_all_forms():
    rows = list(students.rows(Namespace(computations=["fp32"], models=1, steps=2, examples=40, rounds=1, threads=1)))
    assert [row["computation"] for row in rows] == ["naive", "fp32, together", "fp32"]
    assert all(row["clock_s"] > 0 for row in rows)


def test_operators_shares_add_up_to_one():
    row, *_ = operators.rows(Namespace(networks=["lenet"], precisions=["fp32"], rounds=1, threads=1))
    shares = [row[name] for name in (*operators.KINDS, "other")]
    assert sum(shares) == pytest.approx(1) and row["convolutions"] > 0.1
    kinds = {
        "aten::addmm": "products",
        "aten::mkldnn_convolution": "convolutions",
        "aten::copy_": "copies",
        "aten::relu": "other",
    }
    assert {name: operators.kind(name) for name in kinds} == kinds


def test_a_perturbation_is_seen_in_the_labels(monkeypatch):
    monkeypatch.setattr(perturbation, "LOOKS", [1, 3])
    rows = list(perturbation.rows(Namespace(size=1e-3, seeds=[1], threads=1)))
    assert len(rows) == 8 and all(0 < row["distance"] < 1 for row in rows)
    assert not any(row["distance"] for row in perturbation.rows(Namespace(size=0.0, seeds=[1], threads=1)))


def test_whole_runs_tell_time_and_accuracy():
    options = Namespace(
        target="digits", base_examples=10, iterations=2, epochs=None, compile=None, threads=1, device="cpu",
        methods=["ridge"], precisions=["fp32", "bf16"], seeds=[3], models=1,
    )  # fmt: skip
    rows = list(runs.rows(options))
    assert [row["precision"] for row in rows] == ["fp32", "bf16"] and {row["seed"] for row in rows} == {3}
    assert all(row["distill_s"] > 0 and 0 <= row["accuracy"] <= 100 for row in rows)


@pytest.fixture
def checked(monkeypatch, tmp_path):
    "What a quick check wrote, with some of its parts."

    def check(*parts, minutes="5"):
        monkeypatch.setattr(gpu_check, "PARTS", {name: gpu_check.PARTS[name] for name in parts})
        gpu_check.main(["--device", "cpu", "--quick", "--out", str(tmp_path), "--minutes", minutes])
        assert [line[3:] for line in (tmp_path / "gpu_check.md").read_text().splitlines() if line[:2] == "##"] == list(parts)
        return json.loads((tmp_path / "gpu_check.json").read_text())

    return check


def test_a_gpu_is_checked_in_all_parts(checked):
    found = checked("facts", "graph", "precision", "rates", "students")
    assert not [row["error"] for rows in found.values() for row in rows if "error" in row]
    assert all(row["equal"] and row["largest_difference"] == 0 for row in found["graph"]) and found["graph"][1]["resets"]
    assert [len(rows) for rows in found.values()] == [1, 3, 4, 4, 3] and all(0 < row["share_of_matmul"] for row in found["rates"])


def test_a_check_of_a_gpu_survives_a_part_that_fails(checked, monkeypatch):
    monkeypatch.setitem(gpu_check.PARTS, "graph", lambda options: 1 / 0)
    found = checked("graph", "facts")
    assert found["graph"] == [{"error": "ZeroDivisionError: division by zero"}] and found["facts"][0]["device"] == "cpu"


def test_a_check_of_a_gpu_stops_when_its_minutes_are_over(checked):
    assert checked("students", minutes="0") == {"students": [{"error": "TimeoutError: not run: no minutes are left"}]}


def test_cells_of_the_paper_come_with_a_hundred_images_first():
    runs = gpu_check.paper_runs(Namespace(**gpu_check.FULL))
    counts = [run.spec["task"]["base_examples"] for run in runs]
    assert {run.spec["task"]["target"] for run in runs} == {"cifar10"} and len(set(runs)) == len(runs) > 20
    assert counts[: counts.count(100)] == [100] * counts.count(100)


@pytest.mark.slow
def test_a_cell_of_the_paper_leaves_its_record(checked):
    ((row,),) = checked("cells").values()
    assert row["finished"] and 0 <= row["accuracy"] <= 100


def test_a_report_is_one_json_object_and_shows_rows_as_they_come(capsys):
    measure.report(lambda options: iter([{"a": options.threads}]), Namespace(json=True, threads=1))
    said = capsys.readouterr()
    assert json.loads(said.out)["rows"] == [{"a": 1}] and json.loads(said.out)["machine"]["threads"] == 1
    assert json.loads(said.err) == {"a": 1}
    measure.report(lambda options: iter([{"a": options.threads}]), Namespace(json=False, threads=1))
    assert capsys.readouterr().out.split() == ["a", "1"]
