"Labels at the start: what they are, for whom they fit, and that every method that learns labels begins with them."

from dataclasses import replace
from functools import partial

import pytest
import torch
import user_networks
from helpers import CPU

from labeldistill import (
    DatasetDistillation,
    Expert,
    Ridge,
    Schedule,
    SecondOrder,
    Task,
    TrajectoryMatching,
    Unrolled,
    distill,
    true_labels,
)
from labeldistill.methods.labels import LABEL_INITS, initial_labels, resolve_init
from labeldistill.task import load_task
from labeldistill.utils import InputError

pytestmark = pytest.mark.usefixtures("few_steps")
METHODS = {
    "ridge": Ridge,
    "second-order": SecondOrder,
    "unrolled": partial(Unrolled, window=2),
    "dd": partial(DatasetDistillation, learn="labels"),
    "matching": partial(TrajectoryMatching, experts=1, trajectory_iterations=4, trajectory_every=2, segment=1, student_steps=2),
}
EXPERT = Expert(iterations=10, temperature=2.0)


def quick(bars, method, **options):
    task = Task(bars, 6, network=user_networks.plain, **options)
    schedule = Schedule() if isinstance(method, Expert) else Schedule(iterations=1, outer_batch=32)
    return distill(task, method, schedule=schedule, seed=7, compute=CPU, progress=False)


@pytest.fixture(scope="module")
def starts(bars, tmp_path_factory, few_steps):
    "Ways to begin, and the labels that they mean."
    path = tmp_path_factory.mktemp("starts") / "labels.safetensors"
    hard, smoothed, own = (true_labels(Task(bars, 6), share, seed=7) for share in (0.0, 0.1, 0.4))
    own.save(path)
    uniform, said = torch.full((6, 3), 1 / 3), quick(bars, EXPERT).labels
    known = {"uniform": ("uniform", uniform), "one-hot": ("one-hot", hard.labels), "smoothed": ("smoothed", smoothed.labels)}
    return known | {"expert": (EXPERT, said), "file": (path, own.labels), "tensor": (own.labels, own.labels)}


@pytest.mark.parametrize("init", ["uniform", "one-hot", "smoothed", "expert", "file", "tensor"])
@pytest.mark.parametrize("method", METHODS)
def test_every_method_that_learns_labels_begins_with_any(bars, starts, method, init):
    given, expected = starts[init]
    if method == "dd" and init == "expert":  # experts begin as students do
        expected = quick(bars, EXPERT, network_init="xavier").labels
    learned = quick(bars, METHODS[method](init=given))
    assert learned.student.steps > 0
    assert (learned.labels - expected).abs().max() < 0.03  # one iteration later
    if init == "expert":
        assert learned.settings["stopping point"] == 10 and learned.settings["temperature"] == 2


def test_labels_are_of_the_kind_that_is_named(bars):
    task = load_task(Task(bars, 6), 7, "cpu")
    begun = {name: initial_labels(name, task, 0)[0] for name in LABEL_INITS}
    assert torch.equal(begun["one-hot"], torch.eye(3)[task.base.labels])
    torch.testing.assert_close(begun["smoothed"], begun["one-hot"] * 0.9 + 0.1 / 3)
    assert (begun["uniform"] == 1 / 3).all() and begun["random"].min() < 0
    assert torch.equal(begun["random"], initial_labels("random", task, 0)[0])
    assert not torch.equal(begun["random"], initial_labels("random", task, 1)[0])


def test_true_classes_of_base_examples_are_known_only_to_labels_that_begin_there(bars):
    hidden, shown = replace(bars, name="source", labels=(bars.labels + 1) % 3), replace(bars, name="source")
    learned = []
    for source, init in ((hidden, None), (shown, None), (hidden, "one-hot")):
        method = DatasetDistillation(learn="labels", inner_steps=1, init=init)
        task, schedule = Task(bars, 5, source=source, network=user_networks.plain), Schedule(iterations=6, outer_batch=32)
        learned.append(distill(task, method, schedule=schedule, seed=7, compute=CPU, progress=False))
    assert torch.equal(learned[0].labels, learned[1].labels)
    told = learned[2].base_labels.tolist()
    numbers = {label: number for number, label in enumerate(dict.fromkeys(told))}
    assert learned[2].labels.argmax(1).tolist() == [numbers[label] for label in told]


@pytest.mark.parametrize(
    ("init", "options", "message"),
    [
        (torch.zeros(6, 2), {}, r"--init: labels are \(6, 2\); expected finite numbers, \(6, 3\)"),
        (torch.full((6, 3), torch.nan), {}, r"--init: labels are \(6, 3\); expected finite numbers"),
        ("random", {}, "--init 'random': expected uniform, one-hot, smoothed, expert, label-solve or a file of"),
        ("nowhere", {"random": True}, "--init 'nowhere': expected uniform, one-hot, smoothed, random, expert, label-solve or"),
        (Expert(), {"learns_images": True}, "--init expert: needs labels that are learned for base images"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused(bars, init, options, message):
    with pytest.raises(InputError, match=message):
        resolve_init(init, load_task(Task(bars, 6), 7, "cpu"), **options)


def test_methods_that_learn_probabilities_begin_with_probabilities(bars):
    real = 3 * torch.eye(3).repeat(2, 1) - 0.3
    few = Schedule(iterations=1, outer_batch=16)
    for method in (Ridge(init=real), SecondOrder(init=real), Ridge(init=-torch.rand(6, 3))):
        with pytest.raises(InputError, match=r"^--init: labels must be probabilities here, rows that sum to 1$"):
            distill(Task(bars, 6, network=user_networks.plain), method, schedule=few, compute=CPU)
