"""Types of the public API: what a user's type checker finds."""

import ast
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import labeldistill

SCRIPT = """
import labeldistill as ld


def log(event: ld.Event) -> None:
    print(event.iteration, event.accuracy, event.labels.shape)


task = ld.Task("digits", base_examples=10)
method = ld.Unrolled(window=10, init=ld.Expert(ensemble=3))
short, plain = ld.Schedule(epochs=5), ld.Compute(device="cpu")
labels = ld.distill(task, method, schedule=short, student=ld.Student(head="ridge"), callback=log)
labels.save("labels.safetensors")
image, label = labels[0]
evaluation: ld.Evaluation = ld.evaluate(labels, network="resnet18", models=5, compute=plain)
mean: float = evaluation.accuracy_mean
baseline = ld.evaluate(ld.true_labels(task, smoothing=0.1)).accuracies
reveal_type((labels, image, label, baseline))
"""
WRONG = {
    'ld.distill("digits", "ridge")': 'incompatible type "str"; expected "Method"',
    "ld.Ridge(lamda=1)": 'Unexpected keyword argument "lamda" for "Ridge"',
    'ld.evaluate("labels.safetensors").accuracy': '"Evaluation" has no attribute "accuracy"',
}


def test_every_public_name_is_imported_for_type_checkers():
    tree = ast.parse(Path(labeldistill.__file__).read_text(encoding="utf-8"))
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module.startswith("labeldistill."):
            found |= {name.name: node.module.removeprefix("labeldistill.") for name in node.names}
    assert found == labeldistill.PUBLIC and set(labeldistill.__all__) == {"__version__", *found}


@pytest.mark.slow
@pytest.mark.skipif(not find_spec("mypy"), reason="mypy is not installed")
def test_a_type_checker_accepts_what_is_right_and_finds_what_is_wrong(repository, environment, tmp_path):
    (tmp_path / "user.py").write_text(SCRIPT + "\n".join(WRONG) + "\n")
    command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--no-incremental", "user.py"]
    given = environment | {"MYPYPATH": str(repository)}
    done = subprocess.run(command, capture_output=True, text=True, env=given, cwd=tmp_path)
    lines = done.stdout.splitlines()
    (said,) = [line for line in lines if "Revealed type" in line]
    assert '"tuple[labeldistill.artifact.DistilledDataset, Any, torch._tensor.Tensor, tuple[float, ...]]"' in said
    errors = [line for line in lines if ": error: " in line]
    assert len(errors) == len(WRONG), done.stdout
    assert all(text in error for text, error in zip(WRONG.values(), errors, strict=True)), done.stdout
