"""Methods of a user's own: what is missing is said in one line, before or instead of wrong labels."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import ClassVar, Literal

import pytest
import torch

from labeldistill import Compute, InputError, Method, Ridge, Schedule, Student, Task, distill, evaluate, load_distilled, setting
from labeldistill.api import prepare
from labeldistill.methods.distiller import Distiller, as_distiller
from labeldistill.methods.optimizers import adam, optimizer

QUIET = {"compute": Compute("cpu"), "progress": False}


def labels_of(init_params, **parts):
    "A method without an outer loop, or with one if it has a step."

    @dataclass(frozen=True)
    class Own(Method):
        name: ClassVar[str] = "own"
        epochs: ClassVar[int | None] = 1 if "loops" in parts else None

        strength: float = setting(1.0, "of nothing", above=0)

        def build(self, task):
            own = {"init_params": init_params} | {name: part for name, part in parts.items() if name != "loops"}
            return type("Own", (Distiller,), own)(self, task)

    return Own()


def uniform(self, task, seed):
    return torch.full((task.count, task.classes), 1 / task.classes)


def run(method, **options):
    return distill(Task("digits", 10), method, student=Student(steps=2), **options, **QUIET)


def test_a_method_of_one_function_makes_labels_that_can_be_tested():
    labels = run(labels_of(uniform))
    assert labels.method == {"own": {"strength": 1.0}} and len(evaluate(labels, models=1, **QUIET).accuracies) == 1


def test_labels_of_twice_the_precision_are_saved_in_that_of_a_file(tmp_path):
    labels = run(labels_of(lambda self, task, seed: uniform(self, task, seed).double()))
    labels.save(tmp_path / "labels.safetensors")
    assert torch.equal(load_distilled(tmp_path / "labels.safetensors").labels, labels.labels)


def test_a_choice_may_be_a_number():
    @dataclass(frozen=True)
    class Own(Method):
        order: Literal[1, 3] = setting(1, "of nothing")

    assert (Own().order, Own(order=3).order) == (1, 3)
    for wrong in (2, True, "1"):
        with pytest.raises(InputError, match=f"--order '{wrong}': expected 1, 3"):
            Own(order=wrong)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.full((10, 10), torch.nan), "its labels are NaN or infinite"),
        (torch.full((10, 10), torch.inf), "its labels are NaN or infinite"),
        (torch.eye(10, dtype=torch.int64), "its labels are of type torch.int64"),
        (torch.eye(3), r"its labels are of shape \(3, 3\); expected finite numbers of shape \(10, 10\)"),
    ],
)
def test_labels_that_are_none_are_refused_before_anybody_trains_on_them(labels, message, monkeypatch):
    trained = "labeldistill.methods.loop.mean_validation_curve"
    monkeypatch.setattr(trained, lambda *given, **named: pytest.fail("students were trained"))
    with pytest.raises(InputError, match=f"method own: {message}"):
        run(labels_of(lambda self, task, seed: labels))


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"loops": True}, "expected a step, or epochs = None"),
        ({"step": lambda *given: given}, "expected a step, or epochs = None"),
        ({"loops": True, "step": lambda *given: given}, "expected init_state, an optimizer and a rule for resets"),
        (
            {"loops": True, "step": lambda *given: given, "optimizer": optimizer(adam(0.1))},
            "expected init_state, an optimizer and a rule for resets",
        ),
        (
            {"loops": True, "step": lambda *given: given, "optimizer": optimizer(adam(0.1))}
            | {"init_state": lambda self, seed: seed, "resets": SimpleNamespace(init=int, update=int, training_steps=int)},
            "its rule for resets lacks window, fixed; expected what `ResetWhen` has",
        ),
    ],
)
def test_a_method_without_a_part_that_it_needs_is_refused(parts, message):
    with pytest.raises(InputError, match=f"method own: {message}"):
        run(labels_of(uniform, **parts), schedule=Schedule(iterations=1) if "loops" in parts else Schedule())


def test_a_method_without_build_is_refused():
    @dataclass(frozen=True)
    class Nothing(Method):
        pass

    with pytest.raises(InputError, match=r"method .*Nothing: has no build"):
        run(Nothing())


def test_an_object_with_some_functions_is_built_for_the_method_whatever_else_it_has():
    @dataclass(frozen=True)
    class Plain(Method):
        epochs: ClassVar[int | None] = None

        def build(self, task):
            return self

        def init(self):  # no start of labels
            raise AssertionError

        def init_params(self, task, seed):
            return torch.eye(10)

    assert torch.equal(run(Plain()).labels, torch.eye(10))


def test_all_parts_of_such_an_object_count():
    parts = {"head": "ridge", "loss": "mse", "real_labels": True, "most_steps": 7, "learns_rates": True, "augments": True}
    task, _ = prepare(Task("digits", 10), Ridge(), compute=Compute("cpu"))
    built = as_distiller(SimpleNamespace(init_params=uniform, **parts), task)
    assert {name: getattr(built, name) for name in parts} == parts and built.init_params is uniform
