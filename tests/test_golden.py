"""What small runs gave when their numbers were written down, method by method, through the public functions.

`python tests/test_golden.py` prints the numbers anew.
"""

import json
import sys
from pathlib import Path

import pytest
import torch

from labeldistill import (
    Compute,
    DatasetDistillation,
    Expert,
    Ridge,
    Schedule,
    SecondOrder,
    Student,
    Task,
    Unrolled,
    distill,
    evaluate,
    true_labels,
)

GOLDEN = Path(__file__).parent / "golden.json"
PLAIN = {"compute": Compute("cpu", compile=False), "progress": False}


def run(method, student=Student(), outer_batch=32, **task):
    "A task without its target, a method, a student and a schedule; the target is the conftest's bars unless it is named."
    schedule = Schedule() if isinstance(method, Expert) else Schedule(iterations=4, outer_batch=outer_batch)
    return {"base_examples": 6, "network": "user_networks:plain"} | task, method, student, schedule


DIGITS = {"target": "digits", "base_examples": 10}
FIVE, EXPERT = {"window": 5}, {"max_iterations": 40}
RUNS = {
    "ridge": run(Ridge()),
    "ridge on digits": run(Ridge(), network="lenet", outer_batch=256, **DIGITS),
    "ridge of letters": run(Ridge(), source="letters", outer_batch=256, **DIGITS),
    "ridge for a linear head": run(Ridge(), Student(head="linear")),
    "second-order": run(SecondOrder()),
    "second-order on digits": run(SecondOrder(), network="lenet", **DIGITS),
    "second-order, class-blind": run(SecondOrder(), balanced=False, base_examples=7),
    "second-order on few": run(SecondOrder(), target_size=50, base_seed=3),
    "second-order with running statistics": run(SecondOrder(), network="user_networks:normed"),
    "second-order with dropout": run(SecondOrder(), network="user_networks:dropping"),
    "unrolled": run(Unrolled(**FIVE)),
    "unrolled by sgd": run(Unrolled(**FIVE, inner_optimizer="sgd", label_lr=0.02)),
    "unrolled from smoothed": run(Unrolled(**FIVE, init="smoothed")),
    "unrolled from experts": run(Unrolled(**FIVE, init=Expert(iterations=20, temperature=2.0))),
    "expert": run(Expert(**EXPERT, iterations=20, temperature=2.0)),
    "expert, chosen": run(Expert(**EXPERT)),
    "experts, two labels kept": run(Expert(**EXPERT, iterations=20, temperature=1.0, ensemble=2, top_k=2)),
    "dd": run(DatasetDistillation(learn="labels")),
    "dd of images": run(DatasetDistillation(init="one-hot", inner_steps=2, inner_epochs=2)),
    "dd of both, fixed start": run(DatasetDistillation(learn="both", fixed_init=True, step_size=0.05)),
    "images by ridge": run(Ridge(learn="images")),
    "images by second-order": run(SecondOrder(learn="images")),
    **{f"ridge on {name} examples": run(Ridge(), selection=name) for name in ("k-center", "herding", "easy", "hard")},
}


def learn(bars, name):
    "A distilled data set."
    task, method, student, schedule = RUNS[name]
    return distill(Task(**{"target": bars} | task), method, student=student, schedule=schedule, seed=7, **PLAIN)


def test(distilled):
    "Accuracies of two students on the test part, after 30 steps."
    return evaluate(distilled, student=Student(steps=30), models=2, seed=7, **PLAIN).accuracies


test.__test__ = False


def numbers(bars, name):
    "What is written down of a run."
    found = learn(bars, name)
    return {
        "rows": found.rows.tolist(),
        "labels": [[round(x, 6) for x in row] for row in found.labels.tolist()],
        "inputs": [round(x, 5) for x in found.inputs.double().flatten(1).norm(dim=1).tolist()],
        "curve": [[round(x, 5) for x in row] for row in found.curve.tolist()],
        "resets": [*found.resets],
        "steps": found.student.steps,
        "inner_batch": found.inner_batch,
        "validation_accuracy": round(found.validation_accuracy, 4),
        "rates": [round(rate, 6) for rate in found.rates],
        "head": found.student.head,
        "optimizer": found.student.optimizer,
        "init": found.init,
        "fixed_init": found.fixed_init,
        "accuracies": [round(accuracy, 4) for accuracy in test(found)],
    }


def of_baseline(bars):
    "What is written down of a baseline."
    labels = true_labels(Task(bars, base_examples=6, network="user_networks:plain"), 0.1, seed=7)
    found = evaluate(labels, models=2, seed=7, **PLAIN)
    return {"steps": found.steps, "accuracies": [round(accuracy, 4) for accuracy in found.accuracies]}


@pytest.fixture(scope="module")
def golden():
    return json.loads(GOLDEN.read_text())


FLOATS = {"labels": 2e-4, "inputs": 1e-2, "curve": 1e-3, "rates": 1e-5}  # how much processors may differ
ONE_IMAGE = {"ridge on digits": 100 / 256}  # per cent: of many close calls, another processor may decide one differently
ONE_TESTED = {"ridge of letters": 100 / 270}  # likewise


@pytest.mark.parametrize("name", RUNS)
def test_runs_give_the_numbers_they_always_gave(name, bars, golden):
    found, before = numbers(bars, name), golden[name]
    (*_, errors), (*_, were) = (torch.tensor(run["curve"]).reshape(-1, 3).T for run in (found, before))
    off = (errors - were).abs()[(errors - were).abs() > FLOATS["curve"]].tolist()
    assert off in ([], [pytest.approx(ONE_IMAGE.get(name, 0), abs=1e-3)])
    pairs = zip(found.pop("accuracies"), before.pop("accuracies"), strict=True)
    assert [abs(x - y) for x, y in pairs if x != y] in ([], [pytest.approx(ONE_TESTED.get(name, 0), abs=1e-3)])
    for run in (found, before):
        run["curve"] = [point[:2] for point in run["curve"]]
    for key, tolerance in FLOATS.items():
        torch.testing.assert_close(torch.tensor(found.pop(key)), torch.tensor(before.pop(key)), rtol=1e-4, atol=tolerance)
    assert found == before


def test_a_baseline_gives_the_numbers_it_always_gave(bars, golden):
    assert of_baseline(bars) == golden["baseline"]


if __name__ == "__main__":
    from conftest import dataset

    bars = dataset()
    found = {name: numbers(bars, name) for name in RUNS} | {"baseline": of_baseline(bars)}
    sys.stdout.write("{\n" + ",\n".join(f"{json.dumps(name)}: {json.dumps(run)}" for name, run in found.items()) + "\n}\n")
