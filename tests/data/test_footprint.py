"""How much memory data sets need: their uint8 pixels once, whatever is done to them on the way."""

import hashlib
import os
import zipfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context

import numpy as np
import pytest
import torch

from labeldistill import InputError
from labeldistill.data.catalog import load
from labeldistill.data.datasets import Dataset, normalisation, split
from labeldistill.data.images import luma, resize, stack

MB = 2**20
linux = pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="Linux alone tells a process's peak of memory")


def random_images(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def train_test(images):
    n, labels = len(images) * 6 // 7, np.arange(len(images)) % 10
    return {"train_x": images[:n], "train_y": labels[:n], "test_x": images[n:], "test_y": labels[n:]}


def peaks(folder):
    "In a fresh process: bytes added at most, over those of the pixels, by each step with a data set."
    from measure import peak_resident

    gray, color = random_images(120_000, 28, 28), random_images(40_000, 28, 28, 3)
    forms = {
        "gray": {"images": gray, "labels": np.arange(len(gray)) % 10},
        "parts": train_test(gray),
        "color": train_test(color),
    }
    for name, arrays in forms.items():
        np.savez(folder / f"{name}.npz", **arrays)
    np.savez(folder / "few.npz", images=color[:100], labels=np.arange(100) % 10)
    load(folder / "few.npz", image_size=8, channels=1)  # libraries set themselves up
    del gray, color, forms, arrays
    found = {}
    for name, options in {
        "gray": {},
        "parts": {},
        "color": {},
        "shrunk": {"image_size": 14},
        "made gray": {"channels": 1},
    }.items():
        path = folder / f"{name if not options else 'color'}.npz"
        data, peak = peak_resident(lambda path=path, options=options: load(path, **options))
        found[name] = peak, data.images.nbytes
        _, peak = peak_resident(lambda data=data: normalisation(data, split(data).train))
        found[f"{name}, split and normalised"] = peak, 0
        del data
    return found


@linux
@pytest.mark.slow
def test_images_of_a_file_are_in_memory_once(tmp_path):
    with ProcessPoolExecutor(1, get_context("spawn")) as fresh:
        found = fresh.submit(peaks, tmp_path).result()
    pixels = 120_000 * 28 * 28
    for name, (peak, data) in found.items():
        beside = pixels if name in ("shrunk", "made gray") else 0  # what was in the file
        assert peak <= data + beside + 20 * MB, (name, peak / MB, data / MB)


@pytest.mark.parametrize("writer", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("shape", [(3000, 50, 50), (1200, 40, 40, 3)], ids=str)  # more than a portion
@pytest.mark.parametrize("order", ["C", "F"])
def test_portions_of_a_file_add_up_to_its_images(tmp_path, writer, shape, order):
    images = random_images(*shape)
    writer(tmp_path / "own.npz", **{name: np.asarray(x, order=order) for name, x in train_test(images).items()})
    expected = images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2)
    assert np.array_equal(load(tmp_path / "own.npz").images.numpy(), expected)


def test_a_member_that_ends_early_is_refused(tmp_path):
    np.savez_compressed(tmp_path / "whole.npz", images=random_images(5000, 40, 40), labels=np.arange(5000) % 2)
    with zipfile.ZipFile(tmp_path / "whole.npz") as archive:
        start = archive.getinfo("images.npy").header_offset
    raw = bytearray((tmp_path / "whole.npz").read_bytes())
    raw[start + 4_000_000 : start + 4_000_400] = bytes(400)
    (tmp_path / "own.npz").write_bytes(raw)
    with pytest.raises(InputError, match=r"own\.npz' is not an \.npz file that can be read"):
        load(tmp_path / "own.npz")


def test_conversions_by_portions_are_those_of_all_images_at_once():
    from torchvision.transforms.functional import resize as bilinear

    color = torch.from_numpy(random_images(513, 3, 12, 12))
    assert torch.equal(resize(color, 7), bilinear(color, [7, 7], antialias=True))
    assert torch.equal(resize(color[:, :1], 30), bilinear(color[:, :1], [30, 30], antialias=True))
    weights = torch.tensor([19595, 38470, 7471]).view(1, 3, 1, 1)
    assert torch.equal(luma(color), ((color * weights).sum(1, keepdim=True) + 2**15 >> 16).to(torch.uint8))


def test_gray_images_before_and_after_a_color_one_become_color():
    gray, red = (
        torch.full((1, 4, 4), 9, dtype=torch.uint8),
        torch.tensor([255, 0, 0], dtype=torch.uint8).view(3, 1, 1).expand(3, 4, 4),
    )
    images = stack("mixed", [(gray, 0), (red, 1), (gray + 1, 0)], 3, None).images
    assert torch.equal(images, torch.stack([gray.expand(3, -1, -1), red, (gray + 1).expand(3, -1, -1)]))


def test_the_normalisation_is_exact():
    pixels = torch.tensor([0, 0, 255, 51] * 500, dtype=torch.uint8).view(500, 1, 2, 2)
    data = Dataset("levels", pixels, torch.arange(500) % 2, ("a", "b"))
    norm = normalisation(data, torch.arange(500))
    assert norm.mean == (0.3,)
    assert norm.std[0] == pytest.approx((2000 / 1999 * ((2 * 0.09 + 0.49 + 0.01) / 4)) ** 0.5, rel=1e-15)
    assert normalisation(replace(data, images=pixels.fill_(77)), torch.arange(500)) == ((77 / 255,), (1.0,))


def test_copies_are_the_rows_with_the_same_pixels():
    pixels = torch.from_numpy(random_images(400, 1, 5, 5))
    pixels[[7, 300, 301]] = pixels[2].clone()
    first = {}
    expected = [first.setdefault(hashlib.sha256(image).digest(), row) for row, image in enumerate(pixels.numpy())]
    assert Dataset("some", pixels, torch.arange(400) % 2, ("a", "b")).originals.tolist() == expected
    assert expected[300] == 2
