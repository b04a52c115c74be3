"""The file of distilled labels: complete, checked, written whole or not at all, and good for an ordinary training loop."""

import json
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from torch.utils.data import DataLoader, Subset, TensorDataset
from torchvision.transforms import RandomHorizontalFlip

from labeldistill import Compute, Ridge, Schedule, Student, Task, artifact, distill, evaluate, load, load_distilled
from labeldistill.api import thin_curve
from labeldistill.data.datasets import Normalisation
from labeldistill.utils import InputError

CPU = {"compute": Compute("cpu"), "progress": False}


def test_a_curve_counts_iterations_from_one_and_averages_between():
    curve = torch.stack([torch.arange(10.0), 100 - torch.arange(10.0)], dim=1)
    assert thin_curve(curve).tolist() == [[i + 1, i, 100 - i] for i in range(10)]
    assert thin_curve(curve, most=4).tolist() == [[3, 1, 99], [6, 4, 96], [8, 6.5, 93.5], [10, 8.5, 91.5]]


def test_normalised_images_become_the_pixels_that_they_were(make_dataset):
    images = make_dataset(channels=3).images
    norm = Normalisation((0.1, 0.4, 0.7), (0.5, 0.2, 0.3))
    assert torch.equal(artifact.as_pixels(norm(images), norm), images)
    assert artifact.as_pixels(torch.tensor([[-9.0, 9.0]] * 3)[None, :, None], norm).unique().tolist() == [0, 255]


def test_all_that_is_saved_is_loaded(distilled, labels_file, bars_npz):
    loaded = load_distilled(labels_file)
    for name, value in vars(distilled).items():
        if name in ("images", "inputs", "data_root", "base_images", "target_data", "from_file", "transform"):  # not saved
            continue
        if name in ("source", "target"):  # places are saved by their last names
            value = replace(value, name=Path(value.name).name)
        if name == "task":
            value = value | {"target": Path(value["target"]).name}
        if isinstance(value, torch.Tensor):
            assert torch.equal(getattr(loaded, name), value), name
        else:
            assert getattr(loaded, name) == value, name
    assert torch.equal(loaded.with_images(bars_npz).images, distilled.images) and not loaded.keeps_images


def test_a_file_does_not_tell_where_it_was_made(bars_npz, labels_file, tmp_path):
    place = tmp_path / "secret" / "bars.npz"
    place.parent.mkdir()
    shutil.copy(bars_npz, place)
    again = place.with_name("again.safetensors")
    method = Ridge(init=str(labels_file))
    made = distill(Task(place, 6, source=place, balanced=True), method, schedule=Schedule(iterations=2, outer_batch=32), **CPU)
    made.save(again)
    assert str(tmp_path).encode() not in again.read_bytes() and b"secret" not in again.read_bytes()
    assert evaluate(made, models=2, **CPU).steps  # here the place is known
    loaded = load_distilled(again)
    assert loaded.target.name == loaded.task["source"] == "bars.npz" and loaded.method["ridge"]["init"] == labels_file.name
    with pytest.raises(InputError, match=r"target is 'bars\.npz': a place that a file names is not opened"):
        evaluate(loaded, models=2, **CPU)
    assert evaluate(loaded, place, models=2, **CPU).accuracies == evaluate(made, models=2, **CPU).accuracies


def test_a_path_is_no_known_name(make_dataset):
    own = replace(artifact.refer_to(make_dataset()), name="/home/me/mnist")
    assert artifact._last_names(own.name) == "mnist (a path)" and artifact._last_names("mnist") == "mnist"
    parts = {"parts": [own.name, {"from": r"C:\me\a.npz"}, 3]}  # of a method of your own
    assert artifact._last_names(parts) == {"parts": ["mnist (a path)", {"from": "a.npz"}, 3]}


def test_the_file_names_all_that_belongs_to_the_labels(labels_file, bars_npz):
    with safe_open(labels_file, framework="pt") as file:
        facts = json.loads(file.metadata()["labeldistill"])
        shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}
    assert shapes["labels"] == [6, 3] and shapes["rows"] == [6] and "images" not in shapes
    assert facts["source"]["name"] == facts["target"]["name"] == bars_npz.name
    assert facts["target"]["sha256"] == load(bars_npz).sha256
    assert facts["method"]["ridge"] == vars(Ridge()) and (facts["network"], facts["seed"]) == ("lenet", 1234)
    assert facts["student"].items() >= {"head": "ridge", "optimizer": "adam", "order": "random", "steps": 8}.items()
    assert facts["student"]["loss"] == "cross-entropy"
    assert facts["task"].items() >= {"target": bars_npz.name, "base_examples": 6, "selection": "random"}.items()
    assert facts["settings"].items() >= {"iterations": 8, "outer batch": 32, "training examples": 84}.items()
    assert 0 <= facts["validation_accuracy"] <= 100
    assert len(facts["normalisation"]) == 2 and {"labeldistill", "torch", "torchvision"} <= facts["versions"].keys()


def test_labels_belong_to_images_of_the_training_part(distilled, bars_npz):
    from labeldistill.data.datasets import split

    data = load(bars_npz)
    assert set(distilled.rows.tolist()) <= set(split(data).train.tolist())
    assert torch.equal(distilled.images, data.images[distilled.rows])
    assert torch.equal(distilled.base_labels, data.labels[distilled.rows])


def copy_of_bars(bars_npz, folder):
    path = folder / "bars.npz"
    path.write_bytes(bars_npz.read_bytes())
    return path


def change_a_pixel(path):
    with np.load(path) as file:
        images, labels = file["images"].copy(), file["labels"]
    images[0, 0, 0, 0] ^= 1
    np.savez(path, images=images, labels=labels)


def learn(data):
    return distill(Task(data, base_examples=3), Ridge(), schedule=Schedule(iterations=2, outer_batch=64), **CPU)


def test_changed_data_are_refused(bars_npz, tmp_path):
    path = copy_of_bars(bars_npz, tmp_path)
    learned = learn(path)
    learned.save(tmp_path / "labels.safetensors")
    change_a_pixel(path)
    with pytest.raises(InputError, match=r"--source '.*bars\.npz': is not the data that the labels' base examples come from"):
        load_distilled(tmp_path / "labels.safetensors").with_images(path)
    with pytest.raises(InputError, match=r"not the data the labels were made for: its SHA-256 is"):
        evaluate(learned, models=1, student=Student(steps=1), **CPU)


def test_stored_images_make_the_source_needless(bars_npz, tmp_path):
    path = copy_of_bars(bars_npz, tmp_path)
    learned = learn(path).with_images()
    learned.save(tmp_path / "labels.safetensors")
    path.unlink()
    loaded = load_distilled(tmp_path / "labels.safetensors")
    assert torch.equal(loaded.images, load(bars_npz).images[learned.rows])
    assert torch.equal(loaded.inputs, learned.inputs)


def test_missing_data_are_named(bars_npz, tmp_path):
    path = copy_of_bars(bars_npz, tmp_path)
    learned = learn(path)
    path.unlink()
    with pytest.raises(InputError, match=r"unknown data set or path .*bars\.npz.*evaluate takes another --target"):
        evaluate(learned, models=1, student=Student(steps=1), **CPU)


def test_labels_for_data_in_memory_can_be_evaluated_on_them(bars, tmp_path):
    learned, one = learn((bars.images, bars.labels)), {"models": 1, "student": Student(steps=1), **CPU}
    found = evaluate(learned, **one)
    learned.save(tmp_path / "labels.safetensors")
    with pytest.raises(InputError, match="the labels were made for data in memory; expected these data again"):
        evaluate(tmp_path / "labels.safetensors", **one)
    for data in ((bars.images.numpy(), bars.labels.numpy()), TensorDataset(bars.images, bars.labels)):
        assert evaluate(tmp_path / "labels.safetensors", data, network=learned.network, **one) == found


def test_an_ordinary_training_loop_learns_from_it(distilled, bars_npz):
    torch.manual_seed(0)
    assert isinstance(distilled, torch.utils.data.Dataset)
    labels = torch.eye(3)[distilled.base_labels] * 0.8 + 0.2 / 3  # as good labels as there are, to see whether they are learned
    data = replace(distilled, labels=labels)
    network = nn.Sequential(nn.Flatten(), nn.Linear(256, 3))
    optimizer, loss = torch.optim.SGD(network.parameters(), lr=0.1), nn.CrossEntropyLoss()
    losses = []
    for _ in range(20):
        for images, soft_labels in DataLoader(data, batch_size=4, shuffle=True):
            assert images.shape[1:] == (1, 16, 16) and images.dtype == soft_labels.dtype == torch.float32
            optimizer.zero_grad()
            value = loss(network(images), soft_labels)
            value.backward()
            optimizer.step()
            losses.append(value.item())
    assert losses[-1] < 0.7 * losses[0]
    images, labels = zip(*distilled, strict=True)  # plain iteration ends
    assert len(images) == len(distilled) == 6
    real = load(bars_npz)
    with torch.no_grad():
        accuracy = (network(distilled.normalisation(real.images)).argmax(1) == real.labels).float().mean()
    assert accuracy > 0.9


@pytest.mark.parametrize("workers", [0, 1])
def test_a_data_loader_takes_labels_parts_of_them_and_pickled_ones(distilled, workers):
    again = pickle.loads(pickle.dumps(distilled))
    for data, rows in ((distilled, range(6)), (Subset(distilled, [4, 1]), [4, 1]), (again, range(6))):
        images, labels = next(iter(DataLoader(data, batch_size=6, num_workers=workers)))
        assert torch.equal(images, distilled.inputs[list(rows)]) and torch.equal(labels, distilled.labels[list(rows)])


def test_examples_are_taken_out_by_index_as_from_a_list(distilled):
    assert torch.equal(distilled[-1][0], distilled.inputs[5]) and torch.equal(distilled[np.int64(2)][1], distilled.labels[2])
    images, labels = distilled[1:3]
    assert images.shape == (2, 1, 16, 16) and labels.shape == (2, 3)
    with pytest.raises(IndexError):
        distilled[6]


def test_classes_are_those_of_the_labels(bars, make_dataset):
    across = distill(Task(bars, 4, source=make_dataset(classes=4)), Ridge(), schedule=Schedule(iterations=1), **CPU)
    assert across.classes == bars.classes and len(across.classes) == across.labels.shape[1]


def test_a_transform_is_applied_to_images_that_are_taken_out_and_to_nothing_else(distilled, tmp_path):
    turned = distilled.with_transform(RandomHorizontalFlip(1.0))
    assert torch.equal(turned[2][0], distilled[2][0].flip(2)) and torch.equal(turned[2][1], distilled[2][1])
    assert torch.equal(next(iter(DataLoader(turned, 6)))[0], distilled.inputs.flip(3))
    assert torch.equal(turned.images, distilled.images) and turned.with_transform(None)[2][0].equal(distilled[2][0])
    one = {"models": 1, "student": Student(steps=1), **CPU}
    assert evaluate(turned, **one) == evaluate(distilled, **one)
    turned.save(tmp_path / "labels.safetensors")
    assert load_distilled(tmp_path / "labels.safetensors").transform is None
    with pytest.raises(InputError, match="transform: is a str; expected a function of an image"):
        distilled.with_transform("flip")


@pytest.mark.parametrize("learned", [False, True])
def test_images_and_labels_go_to_a_device_together(distilled, monkeypatch, learned):
    data = replace(distilled, learned_images=distilled.inputs) if learned else distilled
    assert torch.equal(data.to("cpu").inputs, data.inputs)
    with pytest.raises(InputError, match="--device 'cuda:99': expected auto, cpu"):
        data.to("cuda:99")
    monkeypatch.setattr(artifact, "select_device", torch.device)
    there = data.to("meta")
    assert {x.device.type for x in (*there[0], there.images, there.inputs)} == {"meta"} and there.rows.device.type == "cpu"
    late = replace(distilled, base_images=None).to("meta")  # images that are looked up later follow
    assert late.inputs.device == late.labels.device


def test_labels_of_another_place_learn_from_images_that_are_given(labels_file, distilled, bars_npz, bars):
    read = load_distilled(labels_file)
    for source in (bars_npz, str(bars_npz), (bars.images, bars.labels)):
        assert torch.equal(read.with_images(source).inputs, distilled.inputs)
    with pytest.raises(InputError, match=r"the labels' source is .*: a place that a file names is not opened; give it with --so"):
        next(iter(DataLoader(read)))


def test_pickles_are_no_way_around_the_checks_of_a_file(distilled, tmp_path):
    torch.save(distilled, tmp_path / "labels.pt")
    with pytest.raises(pickle.UnpicklingError, match=r"labeldistill\.artifact\.DistilledDataset"):
        torch.load(tmp_path / "labels.pt")
    torch.save(distilled.labels, tmp_path / "labels.pt")
    with pytest.raises(InputError, match=r"; expected what labels.save\(\) writes, not torch.save\(\)$"):
        load_distilled(tmp_path / "labels.pt")
    assert not [x for x in torch.serialization.get_safe_globals() if "labeldistill" in str(x)]


# Files that are not what they should be


@pytest.mark.parametrize("share", [0, 0.01, 0.3, 0.9, 0.999])
def test_truncated_files_are_refused(labels_file, tmp_path, share):
    content = labels_file.read_bytes()
    path = tmp_path / "cut.safetensors"
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(InputError, match=r"cut\.safetensors' is not a \.safetensors file that can be read"):
        load_distilled(path)


@pytest.mark.parametrize("content", [b"", b"labels", b"\x80\x04N.", b"\xff" * 64], ids=["empty", "text", "pickle", "bytes"])
def test_files_of_another_kind_are_refused(tmp_path, content):
    path = tmp_path / "other.safetensors"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"other\.safetensors' is not a \.safetensors file"):
        load_distilled(path)


@pytest.mark.parametrize(
    "metadata",
    [
        pytest.param(None, id="without metadata"),
        pytest.param({"format": "pt"}, id="a network's weights"),
        pytest.param({"format": "labeldistill/0", "labeldistill": "{}"}, id="a version that never was"),
    ],
)
def test_safetensors_files_of_others_are_refused(tmp_path, metadata):
    path = tmp_path / "weights.safetensors"
    save_file({"weight": torch.zeros(3)}, path, metadata)
    with pytest.raises(InputError, match=r"weights\.safetensors' was not written by labeldistill"):
        load_distilled(path)


def test_a_file_of_a_newer_version_is_refused_in_one_line(tmp_path):
    path = tmp_path / "new.safetensors"
    save_file({"labels": torch.zeros(3)}, path, {"format": "labeldistill/3", "labeldistill": "{}"})
    with pytest.raises(InputError, match=r"^'.*new.safetensors' was written by a newer version of labeldistill; expected .*/2"):
        load_distilled(path)


def without(name):
    def change(tensors, facts):
        (tensors if name in tensors else facts).pop(name)

    return pytest.param(change, id=f"without {name}")


def with_tensor(what, name, make):
    def change(tensors, facts):
        tensors[name] = make(tensors[name]).contiguous()

    return pytest.param(change, id=what)


def with_fact(what, name, value):
    return pytest.param(lambda tensors, facts: facts.update({name: value}), id=what)


def with_student(what, **fields):
    return pytest.param(lambda tensors, facts: facts["student"].update(fields), id=what)


@pytest.mark.parametrize(
    "change",
    [
        *(without(name) for name in (*artifact._TENSORS, *artifact._FACTS)),
        with_tensor("a label is NaN", "labels", lambda x: x.index_fill(0, torch.tensor(2), torch.nan)),
        with_tensor("a label row is missing", "labels", lambda x: x[:-1]),
        with_tensor("a class is missing", "labels", lambda x: x[:, :-1]),
        with_tensor("labels without classes", "labels", lambda x: x[:, 0]),
        with_tensor("a base class is missing", "base_labels", lambda x: x[:-1]),
        with_tensor("rows beyond the source", "rows", lambda x: x + 10**6),
        with_tensor("rows that are no integers", "rows", lambda x: x.float()),
        with_fact("normalisation that is a number", "normalisation", 3),
        with_fact("source that is a name", "source", "mnist"),
        with_student("no training steps", steps=0),
        with_student("training steps that are text", steps="many"),
        with_student("an optimizer that is a list", optimizer=[1]),
        with_student("an unknown head", head="cubic"),
        with_student("a field that does not exist", width=3),
        with_fact("a student that is a name", "student", "ridge"),
        with_fact("a method that is a name", "method", "ridge"),
        with_fact("no method", "method", {}),
        with_fact("two methods", "method", {"ridge": {}, "dd": {}}),
        with_fact("a method without fields", "method", {"ridge": 3}),
        with_fact("a task that is a name", "task", "mnist"),
        with_fact("a network that is a number", "network", 5),
        with_fact("a seed that is text", "seed", "x"),
        with_fact("an initialization that is text", "fixed_init", "x"),
        with_fact("no examples in a step", "inner_batch", 0),
        with_fact("normalisation of another number of channels", "normalisation", [[0.5, 0.5], [0.2, 0.2]]),
        with_fact("normalisation that is no number", "normalisation", [[float("nan")], [0.2]]),
        pytest.param(lambda tensors, facts: facts["settings"].update(iterations=[1] * 9), id="iterations that are a list"),
        pytest.param(
            lambda tensors, facts: facts["settings"].update({"interrupted at iteration": {"a": 1}}), id="an interruption nowhere"
        ),
        pytest.param(lambda tensors, facts: facts["target"].update(name=5), id="a target whose name is a number"),
        pytest.param(lambda tensors, facts: facts["source"].update(image_size="x"), id="a source whose size is text"),
        pytest.param(lambda tensors, facts: facts["source"].update(sha256="ab/cd"), id="a source whose hash is a word"),
        pytest.param(lambda tensors, facts: facts["task"].update(base_examples="x"), id="a task whose number is text"),
        with_fact("a method whose number is text", "method", {"ridge": {"lam": "x"}}),
        with_fact("a method whose number is out of its limits", "method", {"ridge": {"lam": -1.0}}),
    ],
)
def test_damaged_contents_are_refused_before_they_are_used(damaged_copy, change, bars_npz):
    with pytest.raises(InputError, match=r"^[^\n]*damaged[^\n]*$"):  # one line
        load_distilled(damaged_copy(change)).with_images(bars_npz)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("facts", [None, "", "{", "{}", "[]", "3", '{"settings": 3, "method": "ridge", "head": 1, "steps": 1}'])
def test_damaged_metadata_are_refused(damaged_copy, facts, version):
    metadata = {"format": f"labeldistill/{version}"} | ({} if facts is None else {"labeldistill": facts})
    with pytest.raises(InputError, match=r"^[^\n]*damaged\.safetensors' is damaged[^\n]*$"):
        load_distilled(damaged_copy(metadata=metadata))


def test_labels_that_began_with_a_tensor_are_saved(bars_npz, tmp_path):
    start = torch.eye(3)[[0, 1, 2]]
    task, schedule = Task(bars_npz, base_examples=3), Schedule(iterations=1, validate_every=1)
    distill(task, Ridge(init=start), schedule=schedule).save(tmp_path / "labels.safetensors")
    assert "sha256" in load_distilled(tmp_path / "labels.safetensors").method["ridge"]["init"]


# Files of version 0.1


def first_format(facts, **more):
    "The same facts as files of format 1 have them."
    shared = ("source", "target", "normalisation", "network", "last_layer", "inner_batch", "seed")
    old = {"method": "ridge", "settings": {}, "head": "ridge", "steps": 8}
    return {name: facts[name] for name in (*shared, "validation_accuracy", "resets")} | old | more


@pytest.fixture
def old_copy(damaged_copy, labels_file):
    "Makes a file of format 1 of the same labels."
    with safe_open(labels_file, framework="pt") as file:
        facts = json.loads(file.metadata()["labeldistill"])

    def make(without=None, **more):
        kept = {name: fact for name, fact in first_format(facts, **more).items() if name != without}
        return damaged_copy(metadata={"format": "labeldistill/1", "labeldistill": json.dumps(kept)})

    return make


def test_files_of_the_first_format_are_read(old_copy, distilled):
    early = load_distilled(old_copy())
    late = load_distilled(old_copy(fixed_start=7, optimizer="sgd", settings={"learn": "images"}))
    assert torch.equal(early.labels, distilled.labels) and early.student == distilled.student
    assert (early.method, early.task, early.rates, early.init) == ({"ridge": {"learn": "labels"}}, {}, (), "default")
    assert (late.fixed_init, late.student.optimizer, late.method) == (7, "sgd", {"ridge": {"learn": "images"}})
    steps = load_distilled(old_copy(rates=[0.1, 0.2], method="dd"))
    assert (steps.student.optimizer, steps.student.order, steps.rates) == ("own", "learned", (0.1, 0.2))


def test_a_file_of_the_first_format_becomes_one_of_the_second(old_copy, tmp_path):
    old = load_distilled(old_copy())
    old.save(tmp_path / "labels.safetensors")
    new = load_distilled(tmp_path / "labels.safetensors")
    assert (new.method, new.student, new.source) == (old.method, old.student, old.source)


@pytest.mark.parametrize("name", [*first_format({name: 0 for name in artifact._FACTS})])
def test_incomplete_files_of_the_first_format_are_refused(old_copy, name):
    with pytest.raises(InputError, match="is damaged"):
        load_distilled(old_copy(without=name))


def test_a_path_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"none\.safetensors' is not there; expected a \.safetensors file"):
        load_distilled(tmp_path / "none.safetensors")


# Saving


@pytest.mark.parametrize("name", ["labels", "labels.pt", "labels.safetensors.bak"])
def test_a_name_of_another_kind_is_refused(distilled, tmp_path, name):
    with pytest.raises(InputError, match=rf"{name}': expected a name that ends in \.safetensors$"):
        distilled.save(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_read_is_not_written(distilled, tmp_path):
    out = tmp_path / "labels.safetensors"
    labels, settings = distilled.labels.double(), {"x": float("nan")}
    for change in ({"labels": labels}, {"seed": 2**63}, {"network": "a\0b"}, {"settings": settings}):
        with pytest.raises(InputError, match=r"^labels: cannot be saved"):
            replace(distilled, **change).save(out)
    assert not any(tmp_path.iterdir())


def test_class_names_of_all_scripts_are_read_back(distilled, tmp_path):
    names = ("no\u00a0break", "\u0915\u094d\u200d\u0937", "plain")
    replace(distilled, target=replace(distilled.target, classes=names)).save(tmp_path / "labels.safetensors")
    assert load_distilled(tmp_path / "labels.safetensors").classes == names


def test_no_file_is_no_name():
    with pytest.raises(InputError, match=r"^labels: is a NoneType; expected a DistilledDataset or the path of its file"):
        load_distilled(None)


def test_real_numbers_are_said_to_be_such(distilled):
    assert "6 labels for" in repr(distilled)
    assert "6 real-valued labels for" in repr(replace(distilled, labels=distilled.labels - 0.5))


def test_saving_replaces_an_older_file_whole(distilled, tmp_path):
    path = tmp_path / "labels.safetensors"
    path.write_bytes(b"x" * 10**6)
    distilled.save(path)
    assert torch.equal(load_distilled(path).labels, distilled.labels)
    assert list(tmp_path.iterdir()) == [path]
