"""Data sets by name and path, their splits and base sets, and every kind of data that is refused."""

import gzip
import hashlib
import os
import struct
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image

from labeldistill import load
from labeldistill.data.base import choose_base, inner_batch_size
from labeldistill.data.catalog import find_root
from labeldistill.data.datasets import Dataset, normalisation, split
from labeldistill.networks.compute import select_device
from labeldistill.utils import InputError

IDX_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def of_labels(labels, classes, **facts):
    "A data set of images that say nothing, no two of them alike."
    images = torch.arange(len(labels), dtype=torch.int32).view(torch.uint8).view(-1, 1, 2, 2)
    labels = torch.tensor(labels)
    return Dataset("blank", images, labels, tuple(map(str, range(classes))), **facts)


def proportions(labels, classes):
    return labels.bincount(minlength=classes) / len(labels)


# Splits


@st.composite
def labeled(draw):
    "Labels of two to six classes, each with at least ten examples, in random order, perhaps with an official test part."
    counts = draw(st.lists(st.integers(10, 60), min_size=2, max_size=6))
    labels = [c for c, count in enumerate(counts) for _ in range(count)]
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(draw(st.integers(0, 2**31))))
    test_size = draw(st.sampled_from([0, 0, 15]))
    return of_labels([labels[i] for i in order], len(counts), test_size=test_size)


@given(dataset=labeled(), seed=st.integers(0, 5))
def test_the_three_parts_are_disjoint_and_complete(dataset, seed):
    rows = torch.cat(list(split(dataset, seed)))
    assert rows.sort().values.tolist() == list(range(len(dataset)))


@given(dataset=labeled())
def test_parts_have_the_class_proportions_of_the_whole(dataset):
    parts, n = split(dataset), len(dataset) - dataset.test_size
    whole = proportions(dataset.labels[:n], len(dataset.classes))
    for part in parts[: 2 if dataset.test_size else 3]:
        expected = whole * len(part)
        found = dataset.labels[part].bincount(minlength=len(dataset.classes))
        assert (found - expected).abs().max() <= 2  # no class is off by more than rounding at the part's two ends


@pytest.mark.parametrize(
    ("n", "facts", "sizes"),
    [
        pytest.param(200, {}, (140, 30, 30), id="no split given: 70, 15, 15 per cent"),
        pytest.param(1797, {}, (1258, 269, 270), id="digits"),
        pytest.param(240, {"test_size": 40}, (170, 30, 40), id="test part given: 15 per cent of the rest validate"),
        pytest.param(240, {"test_size": 40, "valid_size": 50}, (150, 50, 40), id="fixed number of validation examples"),
    ],
)
def test_parts_have_the_promised_sizes(n, facts, sizes):
    assert tuple(map(len, split(of_labels([i % 10 for i in range(n)], 10, **facts)))) == sizes


def test_an_official_test_part_is_kept_as_it_is(bars):
    official = Dataset("bars", bars.images, bars.labels, bars.classes, test_size=20)
    assert split(official).test.tolist() == list(range(100, 120))
    assert split(official, seed=1).test.tolist() == list(range(100, 120))


@pytest.mark.parametrize("valid_size", [0, 90, 130])
def test_a_validation_part_that_leaves_nothing_or_is_nothing_is_refused(valid_size, bars):
    given = replace(bars, test_size=30, valid_size=valid_size)  # 90 of 120 remain
    with pytest.raises(InputError, match="too few for training, validation and test"):
        split(given)


def test_copies_in_a_test_part_that_is_given_are_told(bars):
    images = torch.cat([bars.images, bars.images[:3]])
    given = replace(bars, images=images, labels=torch.cat([bars.labels, bars.labels[:3]]), test_size=3)
    with pytest.warns(UserWarning, match="3 x a test image that is a copy of a training image"):
        load(given)


def test_copies_are_not_counted_as_examples(bars):
    with pytest.raises(InputError, match="has 120 examples, 1 of them different: too few"):
        split(replace(bars, images=torch.zeros_like(bars.images)))


def test_a_class_that_is_never_tested_is_named(recwarn):
    split(of_labels([0] * 60 + [1] * 40, 2))
    assert not recwarn
    with pytest.warns(UserWarning, match="the (validation|test) part has no image of class '1'") as said:
        split(of_labels([0] * 60 + [1], 2))
    assert len(said) == 2


def test_a_split_depends_on_its_seed_and_on_nothing_else(bars):
    before = torch.get_rng_state()
    first, again, other = split(bars), split(bars), split(bars, seed=1)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first.train, other.train)
    assert torch.equal(before, torch.get_rng_state())


def test_too_few_examples_for_three_parts_are_refused():
    with pytest.raises(InputError, match="too few"):
        split(of_labels([0, 1], 2))


# Base sets


@given(dataset=labeled(), seed=st.integers(0, 100))
def test_base_sets_are_balanced_nested_and_from_the_training_part(dataset, seed):
    classes, train = len(dataset.classes), set(split(dataset).train.tolist())
    most = int(dataset.labels[sorted(train)].bincount().min())
    sizes = (1, (most + 1) // 2, most)
    sets = [choose_base(dataset, per_class * classes, True, seed) for per_class in sizes]
    for per_class, base in zip(sizes, sets, strict=True):
        assert base.labels.bincount(minlength=classes).tolist() == [per_class] * classes
        assert set(base.rows.tolist()) <= train and len(set(base.rows.tolist())) == len(base)
    small, middle, large = (base.rows.tolist() for base in sets)
    assert large[: len(middle)] == middle and middle[: len(small)] == small


@given(dataset=labeled(), seed=st.integers(0, 100), counts=st.tuples(st.integers(1, 7), st.integers(7, 14)))
def test_class_blind_base_sets_are_nested_and_from_the_training_part(dataset, seed, counts):
    assume(counts[1] <= len(split(dataset).train))
    small, large = (choose_base(dataset, count, False, seed).rows.tolist() for count in counts)
    assert (len(small), len(large)) == counts and large[: len(small)] == small
    assert len(set(large)) == len(large) and set(large) <= set(split(dataset).train.tolist())


def test_class_blind_base_sets_follow_the_class_proportions_not_the_classes():
    dataset = of_labels([0] * 900 + [1] * 100, 2)
    labels = choose_base(dataset, 200, False, seed=0).labels
    assert 2 <= labels.sum() <= 50


@pytest.mark.parametrize("balanced", [True, False])
def test_base_sets_depend_on_their_seed(bars, balanced):
    first, again, other = (choose_base(bars, 12, balanced, seed).rows.tolist() for seed in (1, 1, 2))
    assert first == again != other


@pytest.mark.parametrize(
    ("count", "balanced", "message"),
    [
        (0, True, r"--base-examples 0: must be 1 to 84"),
        (-3, False, r"--base-examples -3: must be 1 to 84"),
        (85, False, r"--base-examples 85: must be 1 to 84"),
        (10, True, r"--base-examples 10: .*multiple of the 3 classes"),
    ],
)
def test_impossible_base_sets_are_refused(bars, count, balanced, message):
    with pytest.raises(InputError, match=message):
        choose_base(bars, count, balanced, seed=0)


def test_a_balanced_set_larger_than_the_smallest_class_allows_is_refused():
    with pytest.raises(InputError, match="--base-examples 40: the smallest class has 14, a balanced set reaches 28"):
        choose_base(of_labels([0] * 80 + [1] * 20, 2), 40, True, seed=0)


def test_the_inner_batch_follows_the_papers_rule():
    sizes = {1: 1, 7: 7, 10: 10, 20: 10, 50: 25, 100: 50, 200: 50, 500: 50, 30: 30, 64: 50}
    assert {count: inner_batch_size(count) for count in sizes} == sizes
    assert [inner_batch_size(100, classes) for classes in (49, 100, 200)] == [50, 100, 100]


# Normalisation and identity


def test_normalisation_is_the_mean_and_deviation_of_the_training_part_alone(make_dataset):
    dataset = make_dataset(channels=3)
    train = split(dataset).train
    norm = normalisation(dataset, train)
    inputs = norm(dataset.images[train])
    assert inputs.dtype == torch.float32
    assert torch.allclose(inputs.mean((0, 2, 3)), torch.zeros(3), atol=1e-4)
    assert torch.allclose(inputs.std((0, 2, 3)), torch.ones(3), atol=1e-4)
    dataset.images[split(dataset).test] = 255
    assert normalisation(dataset, train) == norm


def test_an_unvarying_channel_stays_finite():
    dataset = of_labels([0, 1] * 20, 2)
    assert normalisation(dataset, torch.arange(20))(dataset.images).isfinite().all()


def test_identity_tells_pixels_labels_and_shapes_apart(make_dataset):
    first = make_dataset()
    changed_pixel, changed_label, reshaped = (make_dataset() for _ in range(3))
    changed_pixel.images[3, 0, 1, 1] ^= 1
    changed_label.labels[5] = (changed_label.labels[5] + 1) % 3
    reshaped = Dataset("bars", reshaped.images.view(120, 1, 8, 32), reshaped.labels, reshaped.classes)
    assert make_dataset().sha256 == first.sha256
    assert len({data.sha256 for data in (first, changed_pixel, changed_label, reshaped)}) == 4


# Built in


@pytest.mark.parametrize(("name", "examples", "classes"), [("digits", 1797, 10), ("letters", 5200, 26)])
def test_built_in_data_are_the_same_each_time_and_leave_no_trace(name, examples, classes, random_states, no_network):
    data, before = load(name), random_states()  # taken after the first call, which imports what it needs
    again = load(name)
    assert data.images.shape == (examples, 1, 28, 28) and data.images.dtype == torch.uint8
    assert data.labels.dtype == torch.int64 and data.labels.unique().tolist() == list(range(classes))
    assert data.sha256 == again.sha256
    assert random_states() == before
    assert data.images.flatten(1).max(1).values.min() > 100  # no blank image


def test_image_size_resizes_known_data():
    assert load("digits", image_size=16).images.shape == (1797, 1, 16, 16)


# A user's own .npz


def save(path, **arrays):
    np.savez(path, **arrays)
    return path


LAYOUTS = [("images", "labels"), ("train_x", "train_y", "test_x", "test_y")]


@pytest.mark.parametrize("keys", LAYOUTS, ids=["one part", "with a test part"])
@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 1), (8, 8, 3)], ids=str)
@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64])
def test_npz_files_are_read(tmp_path, keys, shape, dtype):
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (60, *shape), dtype=np.uint8), np.arange(60).astype(dtype) % 4
    parts = (images, labels) if len(keys) == 2 else (images[:40], labels[:40], images[40:], labels[40:])
    data = load(save(tmp_path / "own.npz", **dict(zip(keys, parts, strict=True)), remark=np.array("kept out")))
    expected = images[:, None] if len(shape) == 2 else images.transpose(0, 3, 1, 2)
    assert np.array_equal(data.images.numpy(), expected) and np.array_equal(data.labels.numpy(), labels)
    assert data.classes == ("0", "1", "2", "3")
    assert data.test_size == (20 if len(keys) == 4 else 0)


def test_a_small_test_part_may_have_fewer_images_than_there_are_classes(tmp_path):
    x, y = np.zeros((120, 4, 4), np.uint8), np.arange(120) % 12
    data = load(save(tmp_path / "own.npz", train_x=x, train_y=y, test_x=x[:6], test_y=np.arange(6, 12)))
    assert data.test_size == 6 and len(data.classes) == 12


def test_a_path_with_a_tilde_is_the_home_folders(tmp_path, monkeypatch, bars_npz):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "bars.npz").write_bytes(bars_npz.read_bytes())
    assert len(load("~/bars.npz")) == 120


def test_image_size_resizes_a_users_images(tmp_path):
    path = save(tmp_path / "own.npz", images=np.full((10, 6, 9, 3), 77, np.uint8), labels=np.arange(10) % 2)
    data = load(path, image_size=5)
    assert data.images.shape == (10, 3, 5, 5) and data.images.eq(77).all()


X, Y = np.zeros((12, 4, 4), np.uint8), np.arange(12) % 3


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        pytest.param({"x": X, "y": Y}, r"holds \['x', 'y'\]; expected 'images' and 'labels', or 'train_x'", id="wrong keys"),
        pytest.param({"images": X}, r"expected 'images' and 'labels'", id="no labels"),
        pytest.param({"train_x": X, "train_y": Y, "test_x": X}, r"'test_y'", id="test labels missing"),
        pytest.param({"images": X[0], "labels": Y}, r"images has shape \(4, 4\); expected \(n, h, w\)", id="two dimensions"),
        pytest.param({"images": np.zeros((12, 3, 4, 4), np.uint8), "labels": Y}, r"\(12, 3, 4, 4\)", id="channels first"),
        pytest.param({"images": np.zeros((12, 4, 4, 2), np.uint8), "labels": Y}, r"1 or 3 channels", id="two channels"),
        pytest.param({"images": X[:0], "labels": Y[:0]}, "images holds no images", id="no images"),
        pytest.param({"images": X, "labels": Y[:11]}, r"labels is int64 \(11,\); expected 12 integers", id="too few labels"),
        pytest.param({"images": X, "labels": np.eye(3)[Y].astype(int)}, r"expected 12 integers", id="one-hot labels"),
        pytest.param({"images": X.astype(np.int64), "labels": Y}, r"images is int64; expected uint8", id="wide pixels"),
        pytest.param({"images": X / 255, "labels": Y}, r"images is float64; expected uint8", id="pixels from 0 to 1"),
        pytest.param({"images": np.full(X.shape, np.nan), "labels": Y}, r"float64 with NaN", id="NaN pixels"),
        pytest.param({"images": X, "labels": Y.astype(float)}, r"labels is float64", id="labels with a fraction"),
        pytest.param({"images": X, "labels": np.full(12, np.nan)}, r"labels is float64", id="NaN labels"),
        pytest.param({"images": X, "labels": Y > 0}, r"labels is bool", id="boolean labels"),
        pytest.param({"images": X, "labels": np.array(list("abc" * 4))}, r"expected 12 integers", id="labels that are names"),
        pytest.param({"images": X, "labels": Y - 1}, r"from -1 to 1; expected classes 0 \.\.\. C-1", id="negative label"),
        pytest.param({"images": X, "labels": Y + 250}, r"expected classes 0 \.\.\. C-1", id="labels out of range"),
        pytest.param({"images": X, "labels": np.full(12, 2**63, np.uint64)}, r"C-1", id="a label beyond int64"),
        pytest.param({"images": X, "labels": Y * 2}, r"classes without images: \['1', '3'\]", id="classes without images"),
        pytest.param({"images": X, "labels": Y * 0}, r"two or more", id="one class"),
        pytest.param({"train_x": X, "train_y": Y, "test_x": X[:, 1:, 1:], "test_y": Y}, r"differ in image shape", id="two sizes"),
        pytest.param({"images": X[:, :3], "labels": Y}, r"3 x 4; give --image-size", id="not square"),
        pytest.param({"images": np.array([{}] * 12), "labels": Y}, r"not an .npz file that can be read", id="objects"),
    ],
)
def test_unusable_npz_contents_are_refused(tmp_path, arrays, message):
    path = save(tmp_path / "own.npz", **arrays)
    with pytest.raises(InputError, match=message) as caught:
        load(path)
    assert "own.npz" in str(caught.value) and "\n" not in str(caught.value)


def npy_bytes(path):
    with open(path, "wb") as file:
        np.save(file, X)


def raw_members(path):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("images", b"pixels"), file.writestr("labels", b"labels")


@pytest.mark.parametrize(
    "write",
    [
        pytest.param(lambda path: path.write_bytes(b""), id="empty"),
        pytest.param(lambda path: path.write_bytes(b"images, labels"), id="text"),
        pytest.param(lambda path: path.write_bytes(b"\x80\x04N."), id="pickle"),
        pytest.param(npy_bytes, id="a single array"),
        pytest.param(raw_members, id="a zip of other things"),
    ],
)
def test_files_that_are_no_npz_are_refused(tmp_path, write):
    write(tmp_path / "own.npz")
    with pytest.raises(InputError, match=r"own\.npz"):
        load(tmp_path / "own.npz")


@pytest.mark.parametrize("fraction", [0.02, 0.3, 0.7, 0.99])
@pytest.mark.parametrize("writer", [np.savez, np.savez_compressed])
def test_truncated_npz_files_are_refused(tmp_path, bars_npz, writer, fraction):
    with np.load(bars_npz) as arrays:
        writer(tmp_path / "whole.npz", **arrays)
    whole = (tmp_path / "whole.npz").read_bytes()
    (tmp_path / "own.npz").write_bytes(whole[: int(fraction * len(whole))])
    with pytest.raises(InputError, match=r"own\.npz' is not an \.npz file that can be read"):
        load(tmp_path / "own.npz")


@pytest.mark.parametrize("writer", [np.savez, np.savez_compressed])
def test_npz_files_with_flipped_bytes_are_refused(tmp_path, bars_npz, writer):
    with np.load(bars_npz) as arrays:
        writer(tmp_path / "own.npz", **arrays)
    content = bytearray((tmp_path / "own.npz").read_bytes())
    content[len(content) // 2 : len(content) // 2 + 8] = b"\xff\x00" * 4
    (tmp_path / "own.npz").write_bytes(content)
    with pytest.raises(InputError, match=r"own\.npz' is not an \.npz file that can be read"):
        load(tmp_path / "own.npz")


# A user's own folder


def write_folder(root, mode="L", classes=("a", "b"), sizes=((6, 6),), count=8, suffix="png"):
    "Class folders of plain images whose brightness is their number."
    for c, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for i in range(count):
            value = 20 * c + i
            image = Image.new(mode, sizes[i % len(sizes)], value if mode in ("L", "P") else (value, 100, 200))
            image.save(root / name / f"{i:03}.{suffix}")
    return root


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGB", 3)])
def test_a_folder_of_class_folders_is_read(tmp_path, mode, channels):
    data = load(write_folder(tmp_path / "own", mode))
    assert data.images.shape == (16, channels, 6, 6) and data.classes == ("a", "b") and data.test_size == 0
    assert data.labels.tolist() == [0] * 8 + [1] * 8
    assert data.images[:, 0, 0, 0].tolist() == [*range(8), *range(20, 28)]
    assert data.name == str(tmp_path / "own")


def test_a_folder_with_one_color_image_is_color(tmp_path):
    root = write_folder(tmp_path / "own")
    Image.new("RGB", (6, 6), (255, 0, 0)).save(root / "b" / "999.png")
    data = load(root)
    assert data.images.shape == (17, 3, 6, 6) and data.images[-1, :, 0, 0].tolist() == [255, 0, 0]


def test_sixteen_bit_gray_images_are_read_or_refused_in_one_line(tmp_path):
    root = write_folder(tmp_path / "own")
    Image.fromarray(np.full((6, 6), 40_000, np.uint16)).save(root / "b" / "999.png")
    try:
        pixel = load(root).images[-1].float().mean()
    except InputError as error:
        assert "999.png" in str(error)
    else:
        assert pixel == pytest.approx(40_000 / 257, abs=1)


def test_other_files_in_class_folders_are_passed_over(tmp_path):
    root = write_folder(tmp_path / "own")
    (root / "a" / "notes.txt").write_text("from the attic")
    assert len(load(root)) == 16


def test_differing_sizes_are_refused_without_image_size_and_resized_with_it(tmp_path):
    root = write_folder(tmp_path / "own", sizes=((6, 6), (9, 7)))
    with pytest.raises(InputError, match=r"differ in size .*--image-size"):
        load(root)
    assert load(root, image_size=5).images.shape == (16, 1, 5, 5)


def test_an_oblong_image_needs_an_image_size(tmp_path):
    root = write_folder(tmp_path / "own", sizes=((9, 7),))
    with pytest.raises(InputError, match="7 x 9; give --image-size"):
        load(root)


def spoil_with_text(root):
    (root / "a" / "000.png").write_text("no picture")


def spoil_by_cutting(root):
    file = root / "a" / "000.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)).save(file)
    file.write_bytes(file.read_bytes()[:2000])


def spoil_by_emptying_a_class(root):
    (root / "c").mkdir()


def spoil_by_foreign_files_only(root):
    (root / "c").mkdir()
    (root / "c" / "notes.txt").write_text("none")


def spoil_by_removing_a_class(root):
    for file in (root / "b").iterdir():
        file.unlink()
    (root / "b").rmdir()


def spoil_by_removing_all(root):
    spoil_by_removing_a_class(root)
    for file in (root / "a").iterdir():
        file.rename(root / file.name)
    (root / "a").rmdir()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_with_text, r"000\.png' is not an image that can be read"),
        (spoil_by_cutting, r"000\.png' is not an image that can be read"),
        (spoil_by_emptying_a_class, r"\bc\b.*none empty"),
        (spoil_by_foreign_files_only, r"\bc\b.*none empty"),
        (spoil_by_removing_a_class, r"two or more"),
        (spoil_by_removing_all, r"one folder of images per class"),
    ],
)
def test_unusable_folders_are_refused(tmp_path, spoil, message):
    root = write_folder(tmp_path / "own")
    spoil(root)
    with pytest.raises(InputError, match=message) as caught:
        load(root)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere.npz", r"unknown data set or path 'nowhere\.npz'; expected digits, letters, mnist"),
        ("MNIST", r"unknown data set or path 'MNIST'; expected .*mnist"),
        ("notes.txt", r"neither a folder nor an \.npz file"),
        ("", r"expected "),
    ],
)
def test_names_and_paths_that_lead_nowhere_are_refused(tmp_path, monkeypatch, name, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").write_text("none")
    with pytest.raises(InputError, match=message):
        load(name)


@pytest.mark.parametrize("size", [0, -1])
def test_an_image_size_below_one_is_refused(size):
    with pytest.raises(InputError, match=f"--image-size {size}: must be at least 1"):
        load("digits", image_size=size)


# Data in MNIST's format


def idx(array):
    "An array of bytes in the idx format."
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def write_idx(root, kind, train=120, test=40, packed=False):
    "A small data set in MNIST's four files; its arrays."
    rng = np.random.default_rng(7)
    arrays = []
    for n in (train, test):
        arrays += [rng.integers(0, 256, (n, 28, 28), dtype=np.uint8), (np.arange(n) % 10).astype(np.uint8)]
    raw = root / kind / "raw"
    raw.mkdir(parents=True)
    for name, array in zip(IDX_FILES, arrays, strict=True):
        content = idx(array)
        (raw / (f"{name}.gz" if packed else name)).write_bytes(gzip.compress(content, 1) if packed else content)
    return arrays


@pytest.mark.parametrize(
    ("name", "kind", "train", "sizes"),
    [
        ("mnist", "MNIST", 10_100, (100, 10_000, 40)),
        ("kmnist", "KMNIST", 10_100, (100, 10_000, 40)),
        ("fashion_mnist", "FashionMNIST", 120, (102, 18, 40)),
    ],
)
def test_unpacked_files_in_mnists_format_are_read_without_network(tmp_path, no_network, name, kind, train, sizes):
    train_x, train_y, test_x, test_y = write_idx(tmp_path, kind, train)
    data = load(name, tmp_path)
    assert np.array_equal(data.images.squeeze(1).numpy(), np.concatenate([train_x, test_x]))
    assert np.array_equal(data.labels.numpy(), np.concatenate([train_y, test_y]))
    assert tuple(map(len, split(data))) == sizes and data.name == name and len(data.classes) == 10
    mean = normalisation(data, split(data).train).mean
    assert mean == (0.1307,) if name != "fashion_mnist" else abs(mean[0] - 0.5) < 0.01


def test_packed_files_in_mnists_format_are_unpacked_without_network(tmp_path, no_network, monkeypatch):
    import torchvision

    train_x, *_ = write_idx(tmp_path, "FashionMNIST", packed=True)
    files = [tmp_path / "FashionMNIST" / "raw" / f"{name}.gz" for name in IDX_FILES]
    sums = [(file.name, hashlib.md5(file.read_bytes()).hexdigest()) for file in files]
    monkeypatch.setattr(torchvision.datasets.FashionMNIST, "resources", sums)
    assert np.array_equal(load("fashion_mnist", tmp_path).images[:120, 0].numpy(), train_x)


def test_an_empty_variable_is_none(tmp_path, monkeypatch):
    monkeypatch.delenv("LABELDISTILL_DATA", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    usual = find_root()
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("LABELDISTILL_DATA", "")
    assert find_root() == usual and usual.is_absolute()


def test_the_data_root_is_taken_from_the_environment(tmp_path, monkeypatch, no_network):
    write_idx(tmp_path, "FashionMNIST")
    monkeypatch.setenv("LABELDISTILL_DATA", str(tmp_path))
    assert len(load("fashion_mnist")) == 160


@pytest.mark.parametrize(("name", "kind"), [("mnist", "MNIST"), ("fashion_mnist", "FashionMNIST"), ("kmnist", "KMNIST")])
def test_offline_one_line_says_which_files_are_expected_and_where(tmp_path, no_network, name, kind):
    with pytest.raises(InputError, match="--data-root") as caught:
        load(name, tmp_path)
    message = str(caught.value)
    assert "\n" not in message and message.startswith(f"'{name}' could not be read or downloaded")
    assert all(str(tmp_path / kind / "raw" / file) in message for file in IDX_FILES)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize("length", [0, 6, 500])
def test_cut_files_in_mnists_format_are_refused(tmp_path, no_network, length):
    write_idx(tmp_path, "FashionMNIST")
    file = tmp_path / "FashionMNIST" / "raw" / IDX_FILES[0]
    file.write_bytes(file.read_bytes()[:length])
    with pytest.raises(InputError, match="fashion_mnist"):
        load("fashion_mnist", tmp_path)


@pytest.fixture
def real_data():
    "The user's folder of downloaded data."
    root = os.environ.get("LABELDISTILL_DATA")
    if not root or not (Path(root) / "MNIST" / "raw").is_dir():
        pytest.skip("MNIST's files are not there: set LABELDISTILL_DATA to a folder that holds MNIST/raw")
    return root


def test_real_mnist_has_the_published_splits_and_statistics(real_data, no_network):
    data = load("mnist")
    parts = split(data)
    assert data.images.shape == (70_000, 1, 28, 28)
    assert tuple(map(len, parts)) == (50_000, 10_000, 10_000) and parts.test[0] == 60_000
    assert data.labels[60_000:60_004].tolist() == [7, 2, 1, 0]
    pixels = data.images[:60_000].float() / 255
    norm = normalisation(data, parts.train)
    assert pixels.mean().item() == pytest.approx(norm.mean[0], abs=1e-4)
    assert pixels.std().item() == pytest.approx(norm.std[0], abs=1e-4)


# Devices


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "", "CPU"])
def test_devices_that_are_not_there_are_refused(name):
    with pytest.raises(InputError, match=rf"--device '{name}': expected auto, cpu"):
        select_device(name)


def test_the_processor_is_always_there():
    assert select_device("cpu").type == "cpu"
    assert select_device("auto").type in ("cpu", "cuda")
