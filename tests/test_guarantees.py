"""Guarantees whatever the package looks like inside: help, artifacts of the first format, base sets, choices, memory."""

import hashlib
import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from labeldistill import (
    Compute,
    DatasetDistillation,
    Expert,
    LabelSolve,
    Ridge,
    Schedule,
    SecondOrder,
    Student,
    Task,
    Unrolled,
    distill,
    evaluate,
    load_distilled,
    true_labels,
)
from labeldistill.data.datasets import split

CPU = {"compute": Compute("cpu"), "progress": False}


def small(data, base_examples=6, **options):
    return Task(data, base_examples=base_examples, network="user_networks:plain", **options)


def quick(iterations=3):
    return Schedule(iterations=iterations, outer_batch=32)


# Help


@pytest.mark.parametrize("verb", [[], ["distill"], ["evaluate"], ["baseline"], ["reproduce"], ["report"]], ids=" ".join)
def test_help_comes_without_torch(verb, environment, tmp_path):
    code = f"""
import sys
from labeldistill.cli import main
try:
    main({[*verb, "--help"]})
except SystemExit as stop:
    assert not stop.code
assert not {{"torch", "numpy", "matplotlib"}} & {{*sys.modules}}
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 0 and "Usage" in done.stdout, done.stderr


def processor_time():
    "Seconds that finished subprocesses have computed."
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_help_takes_under_a_second(environment, tmp_path):
    command, times = [Path(sys.executable).with_name("labeldistill"), "--help"], []
    for _ in range(3):
        began = processor_time()
        subprocess.run(command, capture_output=True, check=True, env=environment, cwd=tmp_path)
        times.append(processor_time() - began)
    assert min(times) < 1  # of a processor, so that a busy machine does not count


# Artifacts of format labeldistill/1

ALL = "5c0f42d1dc988edd25d4da1b4360a602c656c0d32b2fb435338f01ebdc81b070"  # SHA-256 of the sorted hashes of all artifacts
OLD, NEW = (  # of digits, written before some facts were stored; of an expert
    "5cbea0d75575be1d521006f6032c7524600e934c429dcefb60a6d6ea2999629b",
    "dbcc6e70a1472abece17f77c75c7dbebf7782cb7f78981d8f7d63da282354164",
)


@pytest.fixture(scope="module")
def artifacts(repository):
    "Every committed artifact by the hash of its content, wherever it lies."
    names = ["git", "-C", repository, "ls-files", "-z", "--", "*labels.safetensors"]
    listed = subprocess.run(names, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    paths = [repository / path for path in listed.stdout.split("\0") if path]
    return {hashlib.sha256(path.read_bytes()).hexdigest(): path for path in paths}


def test_no_artifact_is_changed_or_lost_and_all_load(artifacts):
    assert len(artifacts) == 169 and hashlib.sha256("\n".join(sorted(artifacts)).encode()).hexdigest() == ALL
    for path in artifacts.values():
        learned = load_distilled(path)
        assert learned.labels.shape == (len(learned.base_labels), len(learned.target.classes)) and learned.labels.isfinite().all()
        assert learned.student.steps >= 1 and learned.inner_batch >= 1


def test_facts_of_an_artifact_are_read_as_they_were_written(artifacts):
    learned = load_distilled(artifacts[NEW])
    assert (learned.method_name, learned.student.head) == ("expert", "linear")
    assert (learned.network, learned.last_layer) == ("lenet", "fc3")
    assert (learned.source.name, learned.source.image_size, learned.source.channels) == ("kmnist10k.npz", 28, 1)
    assert (learned.student.steps, learned.inner_batch, learned.seed, learned.validation_accuracy) == (750, 10, 1234, 36.0)
    assert learned.normalisation == ((0.1844074301149031,), (0.3414435231122072,))
    assert (learned.settings["stopping point"], learned.settings["temperature"]) == (86, 3.0)


def test_an_older_artifact_is_completed_and_evaluated(artifacts):
    learned = load_distilled(artifacts[OLD])
    assert (learned.rates, learned.init, learned.student.optimizer, learned.fixed_init) == ((), "default", "adam", None)
    found = evaluate(learned, models=2, student=Student(steps=60), **CPU)
    assert found.accuracies == pytest.approx((77.407, 80.741), abs=1.5)


# Base sets


@pytest.mark.parametrize("options", [{}, {"balanced": False}, {"selection": "k-center"}, {"selection": "herding"}], ids=str)
def test_smaller_base_sets_are_parts_of_larger_ones(options, bars):
    few, more = (distill(small(bars, count, **options), Ridge(), schedule=quick(1), **CPU).rows.tolist() for count in (6, 12))
    assert len({*more}) == 12
    assert {*few} <= {*more} if options == {"selection": "herding"} else more[:6] == few


# Choices


def with_test_part(bars, change):
    "The bars with another test part."
    test, images, labels = split(bars).test, bars.images.clone(), bars.labels.clone()
    images[test], labels[test] = change(images[test], labels[test])
    return replace(bars, images=images, labels=labels)


WAYS = {  # method and options of the task
    "ridge": (Ridge(), {}),
    "second-order": (SecondOrder(), {}),
    "unrolled": (Unrolled(), {}),
    "dd": (DatasetDistillation(learn="both"), {}),
    "expert": (Expert(max_iterations=40), {}),
    "label-solve": (LabelSolve(networks=2), {}),
    "unrolled to real numbers": (Unrolled(label_space="real"), {}),
    "unrolled from experts": (Unrolled(init=Expert(iterations=10)), {}),
    **{f"on {name} examples": (Ridge(), {"selection": name}) for name in ("easy", "herding")},
}


@pytest.mark.parametrize("way", WAYS)
def test_a_poisoned_test_part_changes_nothing_that_is_distilled(way, bars):
    poisoned, (method, options) = with_test_part(bars, lambda images, labels: (255 - images.flip(0), labels)), WAYS[way]
    schedule = Schedule() if way in ("expert", "label-solve") else quick()
    clean, other = (distill(small(data, **options), method, schedule=schedule, **CPU) for data in (bars, poisoned))
    assert poisoned.sha256 != bars.sha256 and torch.equal(clean.labels, other.labels)
    assert torch.equal(clean.inputs, other.inputs) and torch.equal(clean.rows, other.rows)
    assert (clean.student, clean.validation_accuracy) == (other.student, other.validation_accuracy)


def test_a_baseline_chooses_its_steps_on_the_validation_part(bars):
    poisoned = with_test_part(bars, lambda images, labels: (255 - images.flip(0), labels))
    clean, other = (evaluate(true_labels(small(data)), models=1, **CPU) for data in (bars, poisoned))
    assert clean.steps == other.steps and clean.accuracies != other.accuracies


# Memory


def test_runs_on_a_cpu_keep_their_memory(bars, monkeypatch, distilled):
    kept = []
    monkeypatch.setattr("labeldistill.task.disable_malloc_trim", lambda: kept.append(True))
    distill(small(bars, 3), Ridge(), schedule=quick(1), **CPU)
    evaluate(distilled, models=1, student=Student(steps=1), **CPU)
    assert len(kept) == 2


# Compilation


@pytest.mark.parametrize(
    ("network", "calls", "compiled"), [("lenet", 2999, False), ("lenet", 3000, True), ("alexnet", 3000, False)]
)
def test_long_runs_of_small_networks_are_compiled(network, calls, compiled, monkeypatch):
    from labeldistill.networks import compute
    from labeldistill.networks.network import make_network

    monkeypatch.setattr(compute, "can_compile", lambda device: True)
    computation = compute.choose_computation(make_network(network, 3, 32, 10), torch.device("cpu"), calls, "fp32")
    assert (computation.precision, computation.compile) == ("fp32", compiled)
