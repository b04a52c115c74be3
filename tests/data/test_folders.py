"""People's folders: what lies in them, and what is made of it."""

import os
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from labeldistill import InputError, load
from labeldistill.data.datasets import Dataset, split

RNG = np.random.default_rng(0)


def picture(number=0, size=(6, 6)):
    return np.random.default_rng(number).integers(0, 255, (*size, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path):
    "Two classes of eight pictures each, all of them different."
    for c, name in enumerate("ab"):
        (tmp_path / "own" / name).mkdir(parents=True)
        for i in range(8):
            Image.fromarray(picture(10 * c + i)).save(tmp_path / "own" / name / f"{i}.png")
    return tmp_path / "own"


def remarks_on(folder, **options):
    "The data set, and the one line about its images."
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        data = load(folder, **options)
    assert len(caught) <= 1
    return data, str(caught[0].message) if caught else ""


def test_a_plain_folder_is_read_without_a_word(folder):
    data, said = remarks_on(folder)
    assert len(data) == 16 and said == ""
    assert torch.equal(data.images[3].permute(1, 2, 0), torch.from_numpy(picture(3)))


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
def test_pictures_stand_upright(folder, tmp_path, suffix):
    exif, upright = Image.Exif(), np.dstack([np.tile(np.arange(0, 240, 40, dtype=np.uint8)[:, None], 6)] * 3)
    exif[0x0112] = 6  # turn clockwise
    options = {"quality": 100} if suffix == "jpg" else {"lossless": True} if suffix == "webp" else {}
    Image.fromarray(np.ascontiguousarray(np.rot90(upright))).save(folder / "a" / f"x.{suffix}", exif=exif, **options)
    data, _ = remarks_on(folder)
    assert (data.images[8].permute(1, 2, 0).int() - torch.from_numpy(upright).int()).abs().max() <= 3


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L", "RGB"])
def test_colors_under_transparency_are_not_seen(folder, mode):
    pixels = np.full((6, 6), 200, np.uint8)
    pixels[0, 0] = 7  # hidden
    if mode in ("RGBA", "LA"):
        alpha = np.full((6, 6), 255, np.uint8)
        alpha[0, 0] = 0
        image, options = Image.fromarray(np.dstack([pixels] * (3 if mode == "RGBA" else 1) + [alpha])), {}
    elif mode == "P":
        image, options = Image.fromarray((pixels == 7).astype(np.uint8), "P"), {"transparency": 1}
        image.putpalette([200, 200, 200, 7, 7, 7])
    else:
        image = Image.fromarray(pixels if mode == "L" else np.dstack([pixels] * 3))
        options = {"transparency": 7 if mode == "L" else (7, 7, 7)}
    image.save(folder / "a" / "x.png", **options)
    data, said = remarks_on(folder)
    assert said.endswith("1 x transparency, composed on white")
    assert data.images[8, :, 0, 0].unique().tolist() == [255] and data.images[8, :, 1:].unique().tolist() == [200]


def test_transparent_gray_stays_gray(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        for i in range(4):
            Image.fromarray(np.dstack([picture(i)[..., 0], picture(i)[..., 1]])).save(tmp_path / name / f"{i}.png")
    assert remarks_on(tmp_path)[0].images.shape == (8, 1, 6, 6)


def test_other_kinds_of_pictures_are_decided_and_counted(folder):
    frames = [Image.fromarray(picture(n)[..., 0]) for n in (1, 2)]
    frames[0].save(folder / "a" / "x1.gif", save_all=True, append_images=frames[1:])
    frames[0].save(folder / "a" / "x2.tif", save_all=True, append_images=frames[1:])
    frames[0].save(folder / "a" / "x3.gif")
    Image.fromarray(picture(3)).convert("CMYK").save(folder / "b" / "x.tif")
    data, said = remarks_on(folder)
    assert len(data) == 20 and "2 x several frames, the first taken" in said
    assert "1 x CMYK, converted without a color profile" in said
    assert torch.equal(data.images[9, 0], torch.from_numpy(picture(1)[..., 0]))


def test_sixteen_bits_a_channel_are_cut_in_color_and_refused_in_gray(folder):
    import struct
    import zlib

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    wide = picture(5).astype(">u2") * 257
    rows = b"".join(b"\0" + row.tobytes() for row in wide)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 6, 6, 16, 2, 0, 0, 0))
    file = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    (folder / "a" / "x.png").write_bytes(file)
    data, said = remarks_on(folder)
    assert torch.equal(data.images[8].permute(1, 2, 0), torch.from_numpy(picture(5)))
    assert "1 x 16 bits a channel, the upper 8 taken" in said
    Image.fromarray(np.zeros((6, 6), np.uint16)).save(folder / "a" / "x.png")
    with pytest.raises(InputError, match=r"x\.png' has more than 8 bits a pixel"):
        load(folder)


def test_what_is_no_picture_is_passed_over_and_counted_unless_it_is_litter(folder):
    for name in ("._0.png", ".DS_Store", "Thumbs.db", "desktop.ini"):
        (folder / "a" / name).write_bytes(b"litter")
    (folder / ".ipynb_checkpoints").mkdir()
    (folder / "a" / ".cache").mkdir()
    Image.fromarray(picture(77)).save(folder / "a" / ".cache" / "0.png")
    data, said = remarks_on(folder)
    assert len(data) == 16 and said == ""
    (folder / "a" / "notes.txt").write_text("from the attic")
    assert remarks_on(folder)[1].endswith("1 x no image by its name, passed over")


def test_every_file_is_taken_once(folder, tmp_path):
    (folder / "a" / "again").symlink_to(folder / "a")
    (folder / "a" / "deeper").mkdir()
    Image.fromarray(picture(88)).save(folder / "a" / "deeper" / "x.png")
    (folder / "a" / "deeper" / "up").symlink_to(folder)
    os.link(folder / "b" / "0.png", folder / "b" / "other.png")
    (folder / "b" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (folder / "c").symlink_to(tmp_path / "nowhere")
    data, said = remarks_on(folder)
    assert data.labels.bincount().tolist() == [9, 8] and data.classes == ("a", "b")
    assert "x another name of a file, passed over" in said
    assert "2 x a link that leads nowhere, passed over" in said


def test_a_class_folder_may_be_a_link(folder, tmp_path):
    (folder / "b").rename(tmp_path / "elsewhere")
    (folder / "b").symlink_to(tmp_path / "elsewhere")
    data, _ = remarks_on(folder)
    assert len(data) == 16 and data.classes == ("a", "b")


def test_classes_stand_in_natural_order(tmp_path):
    for name in map(str, range(1, 12)):
        (tmp_path / name).mkdir()
        for i in range(3):
            Image.fromarray(picture(int(name) * 10 + i)).save(tmp_path / name / f"{i}.png")
    assert load(tmp_path).classes == tuple(map(str, range(1, 12)))


def test_a_folder_that_cannot_be_meant_is_not_walked(folder, monkeypatch):
    (folder / "a2").mkdir()
    (folder / "a2" / "deep").mkdir()
    monkeypatch.setattr("os.walk", lambda *given, **named: pytest.fail("the disk was walked"))
    with pytest.raises(InputError, match="in 'a2' there are folders only"):
        load(folder)


def test_a_picture_of_too_many_pixels_is_one_line(folder):
    Image.new("1", (14_000, 14_000)).save(folder / "a" / "bomb.png")
    with pytest.raises(InputError, match=r"bomb\.png' has more than 89478485 pixels, the limit of Pillow$"):
        load(folder, image_size=8)


# Copies


@pytest.mark.parametrize("copies", [1, 2, 5])
def test_copies_stay_on_one_side_of_the_split(copies):
    images = torch.arange(40, dtype=torch.uint8).repeat(copies).view(-1, 1, 1, 1).expand(-1, 1, 4, 4).contiguous()
    data = Dataset("twins", images, (images[:, 0, 0, 0] % 2).long(), ("even", "odd"))
    parts = [set(data.images[rows, 0, 0, 0].tolist()) for rows in split(data)]
    assert sum(map(len, parts)) == 40 == len(set.union(*parts))
    assert sorted(torch.cat(split(data)).tolist()) == list(range(40 * copies))


# The same files elsewhere


def test_pictures_that_are_decoded_otherwise_are_the_same_data(folder, monkeypatch):
    from labeldistill.artifact import refer_to

    reference = refer_to(load(folder, image_size=4))
    honest = torch.nn.functional.interpolate
    monkeypatch.setattr("labeldistill.data.images.resize", lambda images, size: honest(images[None], size)[0] ^ 1)
    elsewhere = load(folder, image_size=4)
    assert elsewhere.sha256 != reference.sha256 and reference.is_to(elsewhere)
    Image.fromarray(picture(99)).save(folder / "a" / "0.png")
    assert not reference.is_to(load(folder, image_size=4))
