"""Data in memory: every form of the same pixels is the same data set, and everything else is refused in one line."""

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch.utils import data

from labeldistill.data.catalog import load
from labeldistill.data.datasets import Dataset, Normalisation
from labeldistill.utils import InputError


class Items(data.Dataset):
    "A map-style torch Dataset over a list."

    def __init__(self, items, **attributes):
        self.items = items
        vars(self).update(attributes)

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        return self.items[i]


def forms(pixels, labels, folder):
    "Images (n, h, w, c) and labels in every form that is accepted."
    nchw, targets = torch.from_numpy(pixels).permute(0, 3, 1, 2), torch.from_numpy(labels)
    plain = pixels.squeeze(3) if pixels.shape[3] == 1 else pixels
    pictures = [Image.fromarray(image) for image in plain]
    for c in np.unique(labels):
        (folder / "images" / str(c)).mkdir(parents=True)
    for i, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
        picture.save(folder / "images" / str(label) / f"{i:04}.png")
    order = np.argsort(labels, kind="stable")  # a folder is read class by class
    np.savez(folder / "own.npz", images=pixels, labels=labels)
    items = zip(nchw, labels.tolist(), strict=True)
    return {
        "npz": folder / "own.npz",
        "its name": str(folder / "own.npz"),
        "Dataset": Dataset("mine", nchw, targets, tuple(map(str, range(int(labels.max()) + 1)))),
        "arrays": (plain, labels),
        "list": [pixels, labels.astype(np.uint8)],
        "arrays, channels first": (np.ascontiguousarray(nchw.numpy()), labels.astype(">i2")),
        "Fortran order": (np.asfortranarray(pixels), labels),
        "read-only": (np.frombuffer(pixels.tobytes(), np.uint8).reshape(pixels.shape), labels),
        "reversed view": (np.ascontiguousarray(pixels[::-1])[::-1], labels),
        "tensors": (nchw, targets),
        "tensors, channels last": (torch.from_numpy(pixels), targets.int()),
        "mixed": (nchw.contiguous(memory_format=torch.channels_last), labels),
        "TensorDataset": data.TensorDataset(nchw, targets),
        "floats": data.TensorDataset(nchw / 255, targets.short()),
        "doubles": Items([(image.double() / 255, label) for image, label in items]),
        "PIL": Items([(picture, np.int64(label)) for picture, label in zip(pictures, labels, strict=True)]),
        "subset": data.Subset(data.TensorDataset(nchw.flip(0), targets.flip(0)), range(len(labels))[::-1]),
    }, {"folder": folder / "images", "sorted": (pixels[order], labels[order])}


@pytest.mark.parametrize("size, channels", [(None, None), (9, None), (None, 1), (None, 3), (9, 3), (32, 1)])
@pytest.mark.parametrize("depth", [1, 3])
def test_all_forms_of_the_same_pixels_are_the_same_data_set(tmp_path, make_pixels, recwarn, depth, size, channels):
    pixels, labels = make_pixels(30, channels=depth)
    same, in_order = forms(pixels, labels, tmp_path)
    expected = load(same["npz"], image_size=size, channels=channels)
    assert expected.images.shape == (30, channels or depth, size or 16, size or 16)
    for form, source in same.items():
        found = load(source, image_size=size, channels=channels)
        assert found.sha256 == expected.sha256, form
        assert found.classes == ("0", "1", "2") and found.images.is_contiguous(), form
    assert len({load(source, image_size=size, channels=channels).sha256 for source in in_order.values()}) == 1
    assert not list(recwarn)


def test_data_in_memory_are_named_after_their_content(make_pixels):
    pixels, labels = make_pixels(30)
    first = load((pixels, labels))
    assert first.name == f"in memory ({first.sha256[:8]})"
    other = pixels.copy()
    other[0, 0, 0] ^= 1
    assert load((other, labels)).name != first.name == load((torch.from_numpy(pixels), labels)).name


def test_a_data_set_keeps_its_own_copy_of_arrays(make_pixels):
    pixels, labels = make_pixels(30)
    dataset = load((pixels, labels))
    before = dataset.images.clone()
    pixels[:], labels[:] = 0, 0
    assert torch.equal(dataset.images, before) and dataset.labels.unique().tolist() == [0, 1, 2]


def test_classes_are_named_by_the_attribute_if_there_is_one(make_pixels):
    pixels, labels = make_pixels(30)
    items = [(Image.fromarray(image[..., 0]), int(label)) for image, label in zip(pixels, labels, strict=True)]
    assert load(Items(items, classes=["ant", "bee", 3])).classes == ("ant", "bee", "3")
    assert load(Items(items, classes=lambda: 3)).classes == ("0", "1", "2")
    with pytest.raises(InputError, match="'in memory': labels from 0 to 2; expected 0"):
        load(Items(items, classes=["ant", "bee"]))
    with pytest.raises(InputError, match=r"classes without images: \['cat'\]"):
        load(Items(items, classes=["ant", "bee", "wasp", "cat"]))


def test_a_data_set_of_ones_own_keeps_all_it_says(make_dataset):
    constants = Normalisation((0.5,), (0.25,))
    mine = make_dataset(test_size=20, valid_size=12, constants=constants)
    assert load(mine) is mine
    changed = load(mine, image_size=8, channels=3)
    assert (changed.name, changed.test_size, changed.valid_size, changed.classes) == ("bars", 20, 12, mine.classes)
    assert changed.images.shape == (120, 3, 8, 8) and changed.constants == Normalisation((0.5,) * 3, (0.25,) * 3)


def test_oblong_images_are_resized_in_every_form():
    pixels, labels = np.zeros((6, 8, 5), np.uint8), np.arange(6) % 2
    tensor, targets = torch.from_numpy(pixels)[:, None], torch.from_numpy(labels)
    for source in ((pixels, labels), Dataset("mine", tensor, targets, ("a", "b")), data.TensorDataset(tensor, targets)):
        assert load(source, image_size=7).images.shape == (6, 1, 7, 7)
        with pytest.raises(InputError, match="images are 8 x 5; give --image-size"):
            load(source)


def test_items_may_differ_in_size_and_color_if_they_are_resized():
    items = [(Image.new("L", (5, 6), 7), 0), (Image.new("RGB", (9, 4), (1, 2, 3)), 1), (torch.ones(1, 3, 3), 1)]
    found = load(Items(items), image_size=4)
    assert found.images[:, :, 0, 0].tolist() == [[7, 7, 7], [1, 2, 3], [255, 255, 255]]
    with pytest.raises(InputError, match=r"'in memory': images differ in size \(\(3, 3\), ... \(6, 5\)\): give --image-size"):
        load(Items(items))


def test_reading_draws_no_random_numbers(make_pixels, random_states):
    pixels, labels = make_pixels(30)
    before = random_states()
    load((pixels, labels), image_size=8)
    load(data.TensorDataset(torch.from_numpy(pixels).permute(0, 3, 1, 2), torch.from_numpy(labels)))
    assert random_states() == before


def test_names_and_paths_are_loaded_below_the_root_that_is_given(tmp_path, bars_npz):
    (tmp_path / "mine.npz").write_bytes(bars_npz.read_bytes())
    found = load("mine.npz", root=tmp_path, channels=3)
    assert found.name == "mine.npz" and found.sha256 == load("mine.npz", tmp_path, channels=3).sha256
    assert load("digits", image_size=8).images.shape == (1797, 1, 8, 8)


class Endless(data.IterableDataset):
    def __len__(self):
        return 3

    def __iter__(self):
        yield torch.zeros(1, 4, 4), 0


X, Y = np.zeros((12, 4, 4), np.uint8), np.arange(12) % 3
T = torch.zeros(1, 4, 4)
KINDS = "expected a known name, a path, (images, labels) or a torch Dataset"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        pytest.param(None, f"is a NoneType; {KINDS}", id="nothing"),
        pytest.param(X, f"is a ndarray; {KINDS}", id="images alone"),
        pytest.param((X,), f"is a tuple; {KINDS}", id="one array"),
        pytest.param((X, Y, Y), f"is a tuple; {KINDS}", id="three arrays"),
        pytest.param(("X", "Y"), f"is a tuple; {KINDS}", id="names"),
        pytest.param(([X[0], X[1, :2]], [0, 1]), "'in memory': images or labels cannot be read", id="images of several sizes"),
        pytest.param((X, [*"abcabcabcabc"]), "labels is <U1 (12,); expected 12 integers", id="names of classes"),
        pytest.param({"images": X, "labels": Y}, f"is a dict; {KINDS}", id="a dictionary"),
        pytest.param(Endless(), f"is a Endless; {KINDS}", id="an iterable data set"),
        pytest.param(data.Dataset(), f"is a Dataset; {KINDS}", id="a data set without length"),
        pytest.param((X[0], Y), "'in memory': images has shape (4, 4); expected (n, h, w)", id="one image"),
        pytest.param((X[:, None, None], Y), "images has shape (12, 1, 1, 4, 4)", id="five dimensions"),
        pytest.param((np.zeros((12, 2, 4, 4), np.uint8), Y), "with 1 or 3 channels", id="two channels"),
        pytest.param((X[:0], Y[:0]), "'in memory': images holds no images", id="no images"),
        pytest.param((X, Y[:11]), "labels is int64 (11,); expected 12 integers", id="too few labels"),
        pytest.param((X / 255, Y), "images is float64; expected uint8", id="floats"),
        pytest.param((X, torch.eye(3)[Y]), "labels is float32 (12, 3); expected 12 integers", id="one-hot labels"),
        pytest.param((X, Y > 0), "labels is bool", id="boolean labels"),
        pytest.param((X, Y - 1), "labels reaches from -1 to 1", id="a negative label"),
        pytest.param((X, Y + 10**9), "expected classes 0 ... C-1", id="a label beyond memory"),
        pytest.param((X, Y * 0), "two or more", id="one class"),
        pytest.param((torch.zeros(12, 4, 4, dtype=torch.uint8, device="meta"), Y), "labels cannot be read", id="meta"),
        pytest.param((torch.zeros(12, 4, 4, dtype=torch.bfloat16), Y), "images or labels cannot be read", id="bfloat16"),
        pytest.param(Items([]), "'in memory': images holds no images", id="no items"),
        pytest.param(Items([T]), "'in memory': item 0 is not (image, integer)", id="images without labels"),
        pytest.param(Items([(T, 0), (T, 0.5)]), "item 1 is not (image, integer)", id="a label with a fraction"),
        pytest.param(Items([(T, torch.eye(3)[0])]), "item 0 is not (image, integer)", id="a soft label"),
        pytest.param(Items([(T, "cat")]), "item 0 is not (image, integer)", id="a label that is a name"),
        pytest.param(Items([(T, 0), (T, 10**30)]), "labels is object (2,)", id="a label beyond int64"),
        pytest.param(Items([(T, 0), (T, 7)]), "labels reaches from 0 to 7", id="a label out of range"),
        pytest.param(Items([(T - 1, 0)]), "item 0 has values from -1 to -1; expected 0 to 1, not normalised", id="normalised"),
        pytest.param(Items([(T + torch.nan, 0)]), "item 0 has values from nan to nan", id="NaN"),
        pytest.param(Items([(T[0], 0)]), "item 0 is torch.uint8 (4, 4); expected a PIL image", id="two dimensions"),
        pytest.param(Items([(T.expand(2, 4, 4), 0)]), "item 0 is torch.uint8 (2, 4, 4)", id="two channels in an item"),
        pytest.param(Items([(T.long(), 0)]), "item 0 is torch.int64 (1, 4, 4)", id="wide pixels"),
        pytest.param(Items([(X[0], 0)]), "item 0 is a ndarray; expected a PIL image", id="an array"),
        pytest.param(Items([(Image.new("I;16", (4, 4)), 0)]), "item 0 has more than 8 bits a pixel", id="sixteen bits"),
        pytest.param("nowhere", "unknown data set or path 'nowhere'; expected digits, letters", id="an unknown name"),
        pytest.param(Dataset("mine", T[None], torch.zeros(1).long(), ("a", "b")), "images are torch.float32", id="float Dataset"),
        pytest.param(Dataset("mine", T[None, :0].byte(), torch.zeros(1).long(), ("a",)), "(1, 0, 4, 4)", id="no channels"),
        pytest.param(Dataset("mine", T[:0, None].byte(), torch.zeros(0).long(), ("a",)), "there are no images", id="no rows"),
    ],
)
@pytest.mark.parametrize("size", [None, 8])
def test_everything_else_is_refused_in_one_line(source, message, size):
    with pytest.raises(InputError) as caught:
        load(source, image_size=size)
    assert message in str(caught.value) and "\n" not in str(caught.value)


MINE = Dataset("mine", torch.tensor(X)[:, None], torch.tensor(Y), ("a", "b", "c"))


@pytest.mark.parametrize(("choices", "message"), [({"image_size": 0}, "--image-size 0: must"), ({"channels": 2}, "--channels 2")])
@pytest.mark.parametrize("source", ["digits", (X, Y), MINE])
def test_impossible_sizes_and_channels_are_refused_for_every_form(source, choices, message):
    with pytest.raises(InputError, match=message):
        load(source, **choices)


def test_an_error_in_the_users_own_data_set_is_not_hidden():
    class Broken(Items):
        def __getitem__(self, i):
            raise KeyError("the user's own mistake")

    with pytest.raises(KeyError, match="own mistake"):
        load(Broken([1, 2]))


def test_lists_and_series_are_arrays(bars):
    images, labels = bars.images.squeeze(1), bars.labels
    given = [(images, labels.tolist()), ([*images.numpy()], labels), (images.numpy(), pd.Series(labels.numpy()))]
    assert {load(data).sha256 for data in given} == {load((images, labels)).sha256}
