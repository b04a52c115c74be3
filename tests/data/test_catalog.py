"""The loaders of the paper's data sets: on real files where they are, and on small files in their publishers' exact formats."""

import gzip
import hashlib
import io
import os
import pickle
import struct
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import loopback
import numpy as np
import pytest
import torch
import torchvision
from filelock import Timeout
from PIL import Image
from scipy.io import savemat

from labeldistill import artifact, distill, load, load_distilled
from labeldistill.artifact import refer_to, resolve
from labeldistill.config import Ridge, Schedule, Task
from labeldistill.data import catalog, downloads, known
from labeldistill.data.catalog import on_disk
from labeldistill.data.datasets import Dataset, Normalisation, normalisation, split
from labeldistill.data.images import convert_channels, luma
from labeldistill.data.known import COLOR, GRAY, KNOWN
from labeldistill.utils import InputError

TORCHVISION = ("mnist", "fashion_mnist", "kmnist", "emnist_letters", "emnist_letters_transposed", "cifar10", "cifar100", "svhn")
OWN = ("kuzushiji49", "tiny_imagenet", "cub200")


def random_images(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def md5(path):
    return hashlib.md5(path.read_bytes()).hexdigest()


def one_line(caught):
    assert "\n" not in str(caught.value)
    return str(caught.value)


def files_in(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def server(monkeypatch):
    with loopback.serving(monkeypatch) as server:
        yield server


# Real files


@pytest.fixture
def real_data():
    "The user's folder of downloaded data."
    if not os.environ.get("LABELDISTILL_DATA"):
        pytest.skip("LABELDISTILL_DATA is not set: there are no real files to read")
    return Path(os.environ["LABELDISTILL_DATA"])


@pytest.mark.parametrize("name", [*TORCHVISION, *OWN])
def test_real_files_are_what_the_table_says(real_data, no_network, name):
    known = KNOWN[name]
    if not on_disk(known.files, real_data):
        pytest.skip(f"{name} is not under LABELDISTILL_DATA: {known.files[0]}, ... are expected")
    data = load(name)
    assert data.images.shape == (known.examples, *known.shape) and len(data.classes) == known.classes
    assert data.name == name and data.labels.unique().tolist() == list(range(known.classes))
    if name in ("mnist", "cifar10", "cifar100"):  # the others are given these constants, as in the paper
        sample = data.images[: -data.test_size : 10].float().div(255).transpose(0, 1).flatten(1)
        assert sample.mean(1).tolist() == pytest.approx(data.constants.mean, abs=0.03)
        assert sample.std(1).tolist() == pytest.approx(data.constants.std, abs=0.03)
    if name == "cifar10":
        assert tuple(map(len, split(data))) == (45_000, 5000, 10_000) and data.classes[:2] == ("airplane", "automobile")
        assert data.labels[50_000:50_005].tolist() == [3, 8, 8, 0, 6]  # cat, ship, ship, airplane, frog


# EMNIST


def idx(array):
    "An array of bytes in the idx format."
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.fixture
def emnist(tmp_path):
    "EMNIST's four files of letters, unpacked below a data root; upright images and labels 0 ... 25, training part first."
    parts = []
    for part, count in (("train", 208), ("test", 52)):
        images, labels = random_images(count, 28, 28, seed=count), np.arange(count) % 26
        parts.append((images, labels))
        for kind, array in (("images-idx3", images.transpose(0, 2, 1)), ("labels-idx1", (labels + 1).astype(np.uint8))):
            path = tmp_path / "EMNIST" / "raw" / f"emnist-letters-{part}-{kind}-ubyte"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(idx(np.ascontiguousarray(array)))
    return [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]


def test_emnist_letters_stand_upright_and_count_from_zero(emnist, tmp_path, no_network):
    images, labels = emnist
    data = load("emnist_letters", tmp_path)
    assert np.array_equal(data.images.squeeze(1), images) and np.array_equal(data.labels, labels)
    assert data.classes[0] == "a" and data.classes[25] == "z" and len(data.classes) == 26
    assert (data.test_size, data.constants, data.name) == (52, GRAY, "emnist_letters")


def test_the_papers_view_of_emnist_is_transposed(emnist, tmp_path, no_network):
    images, labels = emnist
    data = load("emnist_letters_transposed", tmp_path)
    assert np.array_equal(data.images.squeeze(1), images.transpose(0, 2, 1)) and np.array_equal(data.labels, labels)
    assert (data.test_size, data.constants, data.name) == (52, GRAY, "emnist_letters_transposed")


def test_emnists_published_archive_is_unpacked_without_network(emnist, tmp_path, no_network, monkeypatch):
    raw = tmp_path / "EMNIST" / "raw"
    with zipfile.ZipFile(raw / "gzip.zip", "w") as archive:
        for path in sorted(raw.glob("emnist-*")):
            archive.writestr(f"gzip/{path.name}.gz", gzip.compress(path.read_bytes(), 1))
            path.unlink()
    monkeypatch.setattr(torchvision.datasets.EMNIST, "md5", md5(raw / "gzip.zip"))
    assert np.array_equal(load("emnist_letters", tmp_path).images.squeeze(1), emnist[0])


@pytest.mark.parametrize("length", [0, 6, 500])
def test_cut_files_of_emnist_are_refused(emnist, tmp_path, no_network, length):
    path = tmp_path / KNOWN["emnist_letters"].files[0]
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(InputError, match="'emnist_letters' could not be read or downloaded") as caught:
        load("emnist_letters", tmp_path)
    assert str(path) in one_line(caught)


# CIFAR


def write_pickle(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content, protocol=2))
    return [path.name, md5(path)]


@pytest.fixture
def cifar10(tmp_path, monkeypatch):
    "CIFAR-10's batches with 1,010 images each and the checksums of these; all images and labels."
    folder, kind = tmp_path / "cifar-10-batches-py", torchvision.datasets.CIFAR10
    images, labels = random_images(6 * 1010, 3, 32, 32), np.arange(6 * 1010) % 10
    sums = []
    for i, name in enumerate([*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]):
        rows = slice(1010 * i, 1010 * (i + 1))
        batch = {"batch_label": name, "data": images[rows].reshape(-1, 3072), "labels": labels[rows].tolist()}
        sums.append(write_pickle(folder / name, batch))
    names = [f"thing {c}" for c in range(10)]
    _, meta = write_pickle(folder / "batches.meta", {"label_names": names, "num_vis": 3072})
    monkeypatch.setattr(kind, "train_list", sums[:5])
    monkeypatch.setattr(kind, "test_list", sums[5:])
    monkeypatch.setattr(kind, "meta", {**kind.meta, "md5": meta})
    return images, labels


def test_cifar10s_pickles_are_read(cifar10, tmp_path, no_network):
    images, labels = cifar10
    data = load("cifar10", tmp_path)
    assert np.array_equal(data.images, images) and np.array_equal(data.labels, labels)
    assert tuple(map(len, split(data))) == (50, 5000, 1010)
    assert data.classes[3] == "thing 3" and data.constants == COLOR


def test_cifar100s_pickles_are_read_with_their_fine_labels(tmp_path, no_network, monkeypatch):
    folder, kind = tmp_path / "cifar-100-python", torchvision.datasets.CIFAR100
    images, labels, sums = random_images(5300, 3, 32, 32), np.arange(5300) % 100, []
    for name, rows in (("train", slice(0, 5100)), ("test", slice(5100, 5300))):
        fine, coarse = labels[rows].tolist(), (labels[rows] // 5).tolist()
        batch = {"data": images[rows].reshape(-1, 3072), "fine_labels": fine, "coarse_labels": coarse}
        sums.append(write_pickle(folder / name, batch))
    names = {"fine_label_names": [f"fine {c}" for c in range(100)], "coarse_label_names": [f"coarse {c}" for c in range(20)]}
    _, meta = write_pickle(folder / "meta", names)
    monkeypatch.setattr(kind, "train_list", sums[:1])
    monkeypatch.setattr(kind, "test_list", sums[1:])
    monkeypatch.setattr(kind, "meta", {**kind.meta, "md5": meta})
    data = load("cifar100", tmp_path)
    assert np.array_equal(data.images, images) and np.array_equal(data.labels, labels)
    assert tuple(map(len, split(data))) == (100, 5000, 200)
    assert data.classes[99] == "fine 99" and data.constants == COLOR


@pytest.mark.parametrize("file", ["data_batch_3", "batches.meta"])
def test_a_damaged_batch_of_cifar10_is_not_read(cifar10, tmp_path, no_network, file):
    path = tmp_path / "cifar-10-batches-py" / file
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match="'cifar10' could not be read or downloaded") as caught:
        load("cifar10", tmp_path)
    assert str(path) in one_line(caught)


# Street View house numbers


@pytest.fixture
def svhn(tmp_path, monkeypatch):
    "The two .mat files of house numbers and their checksums; all images and labels."
    images, digits = random_images(90, 3, 32, 32), np.arange(90) % 10
    splits = {}
    for part, rows in (("train", slice(0, 60)), ("test", slice(60, 90))):
        path = tmp_path / f"{part}_32x32.mat"
        stored = np.where(digits[rows] == 0, 10, digits[rows]).astype(np.uint8)[:, None]  # the digit 0 is class 10 there
        savemat(path, {"X": images[rows].transpose(2, 3, 1, 0), "y": stored}, do_compression=True)
        splits[part] = [f"http://127.0.0.1:9/{path.name}", path.name, md5(path)]
    monkeypatch.setattr(torchvision.datasets.SVHN, "split_list", splits)
    return images, digits


def test_house_numbers_are_read(svhn, tmp_path, no_network):
    images, digits = svhn
    data = load("svhn", tmp_path)
    assert np.array_equal(data.images, images) and np.array_equal(data.labels, digits)
    assert (data.test_size, data.constants, data.classes) == (30, COLOR, tuple("0123456789"))


def test_a_truncated_file_of_house_numbers_is_refused(svhn, tmp_path, no_network):
    path = tmp_path / "test_32x32.mat"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InputError, match="'svhn' could not be read or downloaded") as caught:
        load("svhn", tmp_path)
    assert str(path) in one_line(caught)


# Everything of torchvision's, offline


@pytest.mark.parametrize("name", TORCHVISION)
def test_offline_one_line_says_which_files_are_expected(tmp_path, no_network, name):
    root = tmp_path / "data"
    with pytest.raises(InputError, match=f"'{name}' could not be read or downloaded") as caught:
        load(name, root)
    message = one_line(caught)
    assert all(str(root / file) in message for file in KNOWN[name].files) and "--data-root" in message
    assert not root.exists()  # no empty folders


@pytest.mark.parametrize("name", [name for name, known in KNOWN.items() if known.files])
def test_a_refused_download_leaves_the_data_root_as_it_was(tmp_path, no_network, name):
    with pytest.raises(InputError):
        load(name, tmp_path)
    assert tmp_path.exists() and not any(tmp_path.iterdir())


# Kuzushiji-49


def npz(array):
    "What is in a file that `np.savez_compressed` writes of one nameless array."
    buffer = io.BytesIO()
    np.savez_compressed(buffer, array)
    return buffer.getvalue()


@pytest.fixture
def kuzushiji49(server, monkeypatch):
    "Kuzushiji-49's four files on the server, small and imbalanced; all images and labels."
    labels = np.concatenate([np.arange(49), np.zeros(51, int), np.arange(49)]).astype(np.uint8)
    images = random_images(149, 28, 28)
    contents = {"train-imgs": images[:100], "train-labels": labels[:100], "test-imgs": images[100:], "test-labels": labels[100:]}
    files = tuple(
        server.publish(f"k49-{name}.npz", npz(array), file=f"Kuzushiji-49/k49-{name}.npz") for name, array in contents.items()
    )
    origin = downloads.ORIGINS["kuzushiji49"]
    assert [file.file for file in files] == [file.file for file in origin.downloads] == list(KNOWN["kuzushiji49"].files)
    monkeypatch.setitem(downloads.ORIGINS, "kuzushiji49", origin._replace(downloads=files))
    return images, labels


def test_kuzushiji49_is_downloaded_with_its_pixels_right(kuzushiji49, server, tmp_path):
    images, labels = kuzushiji49
    server.patience = 20_000
    data = load("kuzushiji49", tmp_path)
    assert data.images.dtype == torch.uint8 and np.array_equal(data.images.squeeze(1), images)
    assert np.array_equal(data.labels, labels) and len(data.classes) == len(set(data.classes)) == 49
    assert (data.test_size, data.valid_size, data.constants) == (49, 23_237, GRAY)
    assert files_in(tmp_path) == sorted(KNOWN["kuzushiji49"].files)
    asked = len(server.asked)
    assert load("kuzushiji49", tmp_path).sha256 == data.sha256 and len(server.asked) == asked > 4


def test_a_path_is_never_a_known_name(tmp_path, monkeypatch, bars):
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two"):
        (tmp_path / "digits" / name).mkdir(parents=True)
        for i, image in enumerate(bars.images[:9]):
            Image.fromarray(image[0].numpy()).save(tmp_path / "digits" / name / f"{i}.png")
    assert len(load(Path("digits"))) == len(load("./digits")) == 18
    with pytest.warns(UserWarning, match="'digits' is the known data set, not the folder of this name here"):
        assert len(load("digits")) == 1797


def test_digits_are_those_of_scikit_learn():
    from sklearn.datasets import load_digits

    bunch, data = load_digits(), load("digits")
    assert np.array_equal(data.labels, bunch.target) and data.images.shape == (1797, 1, 28, 28)
    small = Image.fromarray((bunch.images[7] * 255 / 16).round().astype(np.uint8)).resize((20, 20), Image.Resampling.BICUBIC)
    assert np.array_equal(data.images[7, 0, 4:24, 4:24], small)


def test_one_process_at_a_time_reads_or_downloads_a_data_set(monkeypatch, tmp_path):
    def read(name, root):
        with pytest.raises(Timeout):
            catalog._lock(name, root).acquire(timeout=0)
        catalog._lock("kmnist", root).acquire(timeout=0).lock.release()
        return load("digits")

    monkeypatch.setitem(KNOWN, "kuzushiji49", KNOWN["kuzushiji49"]._replace(read=read))
    assert len(load("kuzushiji49", tmp_path)) == 1797 and files_in(tmp_path) == []
    catalog._lock("kuzushiji49", tmp_path).acquire(timeout=0).lock.release()


def test_a_wrong_file_of_kuzushiji49_is_refused_and_not_kept(kuzushiji49, server, tmp_path):
    server.files["k49-test-imgs.npz"] = npz(random_images(49, 28, 28, seed=1))
    with pytest.raises(InputError, match=r"k49-test-imgs\.npz has") as caught:
        load("kuzushiji49", tmp_path)
    assert one_line(caught)
    assert files_in(tmp_path) == ["Kuzushiji-49/k49-train-imgs.npz", "Kuzushiji-49/k49-train-labels.npz"]


@pytest.mark.parametrize("content", [b"no zip file", npz(np.zeros((49, 28, 28)))], ids=["no npz", "floats"])
def test_a_file_of_kuzushiji49_in_another_format_is_refused(kuzushiji49, server, tmp_path, monkeypatch, content):
    files = list(downloads.ORIGINS["kuzushiji49"].downloads)
    files[2] = server.publish("k49-test-imgs.npz", content, file=files[2].file)
    monkeypatch.setitem(downloads.ORIGINS, "kuzushiji49", downloads.Origin(None, "", tuple(files)))
    with pytest.raises(InputError, match=r"k49-test-imgs\.npz") as caught:
        load("kuzushiji49", tmp_path)
    assert one_line(caught)


# The birds

BIRDS = [
    ("001.Black_footed_Albatross", "Black_Footed_Albatross_0001_796111.jpg", "RGB", (50, 37)),
    ("001.Black_footed_Albatross", "Black_Footed_Albatross_0002_55.jpg", "RGB", (36, 50)),
    ("002.Laysan_Albatross", "Laysan_Albatross_0001_545.jpg", "L", (50, 40)),
    ("200.Common_Yellowthroat", "Common_Yellowthroat_0003_190521.jpg", "RGB", (32, 32)),
]


def photograph(mode, size):
    width, height = size
    array = random_images(height // 4 + 1, width // 4 + 1, *([3] if mode == "RGB" else [])).repeat(4, 0).repeat(4, 1)
    buffer = io.BytesIO()
    Image.fromarray(array[:height, :width], mode).save(buffer, "JPEG")
    return buffer.getvalue()


def bird_files():
    "The archive's files by path."
    files = {f"CUB_200_2011/images/{folder}/{name}": photograph(mode, size) for folder, name, mode, size in BIRDS}
    lines = [f"{i} {folder}/{name}\n" for i, (folder, name, *_) in enumerate(BIRDS, 1)]
    return {**files, "CUB_200_2011/images.txt": "".join(lines).encode(), "attributes.txt": b"1 has_bill_shape::curved\n"}


def bird_archive(files):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture
def publish_birds(server, monkeypatch):
    "Puts an archive of birds on the server under its checksum."

    def publish(content):
        origin = downloads.ORIGINS["cub200"]
        known = server.publish("CUB_200_2011.tgz", content)
        assert (known.file,) == KNOWN["cub200"].files
        monkeypatch.setitem(downloads.ORIGINS, "cub200", origin._replace(downloads=(known,)))

    return publish


def check_birds(data):
    assert data.images.shape == (4, 3, 32, 32) and data.labels.tolist() == [0, 0, 1, 2] and data.test_size == 0
    assert data.classes == ("Black footed Albatross", "Laysan Albatross", "Common Yellowthroat") and data.constants == COLOR
    for pixels, (_, _, mode, size) in zip(data.images, BIRDS, strict=True):
        image = Image.open(io.BytesIO(photograph(mode, size))).convert("RGB")
        assert np.array_equal(pixels.permute(1, 2, 0), image.resize((32, 32), Image.Resampling.BILINEAR))


def test_the_birds_archive_is_downloaded_unpacked_and_squashed(server, publish_birds, tmp_path):
    publish_birds(bird_archive(bird_files()))
    server.patience = 3000
    check_birds(load("cub200", tmp_path))
    unpacked = [name for name in bird_files() if name.startswith("CUB")]
    assert files_in(tmp_path) == sorted([*unpacked, "CUB_200_2011.tgz", "CUB_200_2011/images-32x32.npz"])


def write_birds(root):
    for name, content in bird_files().items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)


def test_an_unpacked_folder_of_birds_is_enough(tmp_path, no_network):
    write_birds(tmp_path)
    assert on_disk(KNOWN["cub200"].files, tmp_path)
    check_birds(load("cub200", tmp_path))


def test_birds_are_decoded_once(tmp_path, no_network, monkeypatch):
    write_birds(tmp_path)
    first = load("cub200", tmp_path)
    monkeypatch.setattr(known, "open_image", None)
    assert load("cub200", tmp_path).sha256 == first.sha256


def test_other_birds_are_decoded_again(tmp_path, no_network):
    write_birds(tmp_path)
    load("cub200", tmp_path)
    folder = tmp_path / "CUB_200_2011"
    (folder / "images.txt").unlink()
    (folder / "images" / BIRDS[0][0] / BIRDS[0][1]).unlink()
    assert load("cub200", tmp_path).labels.tolist() == [0, 1, 2]


def test_a_missing_bird_is_missed(tmp_path, no_network):
    write_birds(tmp_path)
    (tmp_path / "CUB_200_2011" / "images" / BIRDS[0][0] / BIRDS[0][1]).unlink()
    with pytest.raises(InputError, match="has 3 of 4 images") as caught:
        load("cub200", tmp_path)
    assert one_line(caught)


def test_a_folder_without_birds_is_refused(tmp_path, no_network):
    (tmp_path / "CUB_200_2011").mkdir()
    with pytest.raises(InputError, match="has 0 of the images"):
        load("cub200", tmp_path)


def test_a_damaged_bird_is_refused_and_nothing_is_cached(tmp_path, no_network):
    write_birds(tmp_path)
    path = tmp_path / "CUB_200_2011" / "images" / BIRDS[2][0] / BIRDS[2][1]
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(InputError, match=f"{BIRDS[2][1]}' is not an image") as caught:
        load("cub200", tmp_path)
    assert one_line(caught) and not (tmp_path / "CUB_200_2011" / "images-32x32.npz").exists()


@pytest.mark.parametrize(
    ("archive", "message"),
    [
        pytest.param(bird_archive(bird_files())[:-2000], "cannot be unpacked", id="truncated"),
        pytest.param(bird_archive({**bird_files(), "../cuckoo.jpg": b"egg"}), "leads out of the folder", id="leaves the folder"),
        pytest.param(bird_archive({"birds/wren.jpg": b"wren"}), "cannot be unpacked", id="something else"),
    ],
)
def test_an_unfit_archive_of_birds_is_refused_and_nothing_half_unpacked(publish_birds, tmp_path, archive, message):
    root = tmp_path / "root"
    publish_birds(archive)
    with pytest.raises(InputError, match=message) as caught:
        load("cub200", root)
    assert one_line(caught) and files_in(tmp_path) == ["root/CUB_200_2011.tgz"]
    assert [path.name for path in root.iterdir()] == ["CUB_200_2011.tgz"]


# Channels


def test_color_becomes_gray_as_in_pillow():
    images = random_images(1500, 4, 5, 3)
    expected = np.stack([np.asarray(Image.fromarray(image).convert("L")) for image in images])
    assert np.array_equal(luma(torch.from_numpy(images).permute(0, 3, 1, 2)).squeeze(1), expected)


def test_gray_becomes_color_by_repetition(bars_npz):
    gray, color = load(bars_npz), load(bars_npz, channels=3)
    assert color.images.shape == (120, 3, 16, 16) and color.images.is_contiguous()
    assert all(torch.equal(color.images[:, c], gray.images[:, 0]) for c in range(3))
    assert color.sha256 != gray.sha256


@pytest.mark.parametrize("channels", [None, 1])
def test_channels_as_they_are_change_nothing(bars_npz, channels):
    assert load(bars_npz, channels=channels).sha256 == load(bars_npz).sha256


@pytest.mark.parametrize("channels", [0, 2, 4, -1])
def test_other_numbers_of_channels_are_refused(channels):
    with pytest.raises(InputError, match=f"--channels {channels}: expected 1 .gray. or 3 .color."):
        load("digits", channels=channels)


def test_published_constants_follow_gray_into_color_but_not_the_other_way():
    images = torch.from_numpy(random_images(40, 3, 4, 4))
    labels = torch.arange(40) % 2
    color = Dataset("color", images, labels, ("a", "b"), constants=COLOR)
    gray = Dataset("gray", images[:, :1], labels, ("a", "b"), constants=GRAY)
    assert convert_channels(gray, 3).constants == Normalisation((0.1307,) * 3, (0.3081,) * 3)
    measured = convert_channels(color, 1)
    assert measured.constants is None and len(normalisation(measured, split(measured).train).mean) == 1


@pytest.mark.parametrize(("size", "channels"), [(None, None), (12, None), (None, 3), (12, 3)])
def test_a_converted_data_set_is_found_again(bars_npz, size, channels):
    data = load(bars_npz, image_size=size, channels=channels)
    reference = refer_to(data)
    assert reference.channels == (channels or 1)
    assert torch.equal(resolve(reference, trusted=True).images, data.images)


def test_labels_on_converted_images_find_them_again(distilled, bars_npz, tmp_path):
    source = load(bars_npz, image_size=12, channels=3)
    replace(distilled, source=refer_to(source)).save(tmp_path / "labels.safetensors")
    images = load_distilled(tmp_path / "labels.safetensors").with_images(bars_npz).images
    assert torch.equal(images, source.images[distilled.rows]) and images.shape[1:] == (3, 12, 12)


def test_files_from_before_channels_were_recorded_are_read(damaged_copy, distilled, bars_npz):
    def forget(tensors, facts):
        for part in ("source", "target"):
            del facts[part]["channels"]

    old = load_distilled(damaged_copy(forget))
    before = replace(distilled.source, name=bars_npz.name, channels=None)
    assert old.source == before and isinstance(old.source, artifact.DataReference)
    assert torch.equal(old.with_images(bars_npz).images, distilled.images)


# Small ImageNets

THINGS = {"n02": "goldfish, Carassius auratus", "n01": "tench"}


def write_things(root):
    "TinyImageNet's layout: three training images of each class, two others with their classes in a list."
    folder = root / "tiny-imagenet-200"
    for wnid in THINGS:
        (folder / "train" / wnid / "images").mkdir(parents=True)
        for i in range(3):
            Image.fromarray(random_images(64, 64, 3, seed=i)).save(folder / "train" / wnid / "images" / f"{wnid}_{i}.JPEG")
        (folder / "train" / wnid / f"{wnid}_boxes.txt").write_text("x")
    (folder / "val" / "images").mkdir(parents=True)
    for i in range(2):
        Image.fromarray(random_images(64, 64, seed=9 + i)).save(folder / "val" / "images" / f"val_{i}.JPEG")
    (folder / "val" / "val_annotations.txt").write_text("val_0.JPEG\tn01\t0\t0\t9\t9\nval_1.JPEG\tn02\t1\t1\t5\t5\n")
    (folder / "wnids.txt").write_text("n02\nn01\n")
    (folder / "words.txt").write_text("".join(f"{wnid}\t{words}\n" for wnid, words in [*THINGS.items(), ("n99", "entity")]))
    return folder


def test_tiny_imagenet_is_read_in_its_official_layout(tmp_path, no_network, monkeypatch):
    folder = write_things(tmp_path)
    assert on_disk(KNOWN["tiny_imagenet"].files, tmp_path)
    data = load("tiny_imagenet", tmp_path)
    assert data.images.shape == (8, 3, 64, 64) and data.classes == ("goldfish", "tench")
    assert data.labels.tolist() == [1, 1, 1, 0, 0, 0, 1, 0] and (data.test_size, data.valid_size) == (2, 2)
    first = np.asarray(Image.open(folder / "train" / "n01" / "images" / "n01_0.JPEG"))
    assert np.array_equal(data.images[0].permute(1, 2, 0), first)
    assert torch.equal(data.images[6, 0], data.images[6, 2])  # a gray one
    assert [len(part) for part in split(data)] == [4, 2, 2] and split(data).test.tolist() == [6, 7]
    monkeypatch.setattr(known, "open_image", None)
    assert load("tiny_imagenet", tmp_path).sha256 == data.sha256


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "wnids.txt").write_text("n02\n"), "is not complete; expected train/<wnid>/images/*.JPEG"),
        (lambda folder: (folder / "words.txt").unlink(), "words.txt' cannot be read"),
        (lambda folder: (folder / "val" / "val_annotations.txt").write_text(""), "is not complete"),
        (lambda folder: (folder / "val" / "images" / "val_0.JPEG").unlink(), "is not an image that can be read"),
    ],
)
def test_an_incomplete_tiny_imagenet_is_refused_in_one_line(tmp_path, no_network, damage, message):
    damage(write_things(tmp_path))
    with pytest.raises(InputError) as caught:
        load("tiny_imagenet", tmp_path)
    assert message in one_line(caught)


def write_batches(root, **change):
    (root / "imagenet64").mkdir()
    for number, file in enumerate(KNOWN["imagenet64"].files):
        arrays = {"data": random_images(2, 3 * 64 * 64, seed=number), "labels": np.array([1, 2]), "mean": np.zeros(3 * 64 * 64)}
        np.savez(root / file, **(arrays | change))


def test_imagenet_at_64_pixels_is_read_from_its_batches(tmp_path):
    write_batches(tmp_path)
    assert on_disk(KNOWN["imagenet64"].files, tmp_path)
    data = load("imagenet64", tmp_path)
    assert data.images.shape == (22, 3, 64, 64) and (data.test_size, data.valid_size) == (2, 2)
    assert data.labels.tolist() == [0, 1] * 11 and data.classes == ("0", "1")
    expected = random_images(2, 3 * 64 * 64, seed=10)[1].reshape(3, 64, 64)
    assert np.array_equal(data.images[21], expected)


@pytest.mark.parametrize("change", [{"labels": np.array([0, 1])}, {"data": random_images(2, 12)}])
def test_other_batches_are_refused_in_one_line(tmp_path, change):
    write_batches(tmp_path, **change)
    with pytest.raises(InputError) as caught:
        load("imagenet64", tmp_path)
    assert "expected 'data' (n, 12288) and 'labels' from 1" in one_line(caught)


def test_missing_batches_are_named(tmp_path):
    with pytest.raises(InputError) as caught:
        load("imagenet64", tmp_path)
    assert all(str(tmp_path / file) in one_line(caught) for file in KNOWN["imagenet64"].files)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"images": torch.rand(6, 1, 8, 8)}, "images are torch.float32"),
        ({"images": torch.zeros(6, 8, 8, dtype=torch.uint8)}, "expected uint8"),
        ({"images": torch.zeros(6, 1, 8, 8, dtype=torch.uint8, device="meta")}, "is on meta and cpu; expected cpu"),
        ({"images": torch.zeros(6, 1, 8, 8, dtype=torch.uint8, device="meta"), "test_size": 2}, "is on meta and cpu; expected"),
        ({"images": torch.zeros(6, 1, 8, 9, dtype=torch.uint8)}, "images are 8 x 9"),
        ({"labels": torch.tensor([0, 1, 2, 0, 1])}, r"labels are torch.int64 \(5,\)"),
        ({"labels": torch.tensor([0.0, 1, 2, 0, 1, 2])}, "labels are torch.float32"),
        ({"classes": ("a", "b")}, "labels from 0 to 2"),
    ],
)
def test_data_in_memory_that_do_not_fit_are_refused(change, message):
    mine = Dataset("mine", torch.zeros(6, 1, 8, 8, dtype=torch.uint8), torch.tensor([0, 1, 2, 0, 1, 2]), ("a", "b", "c"))
    with pytest.raises(InputError, match=f"--target: 'mine': .*{message}"):
        distill(Task(replace(mine, **change), base_examples=3), Ridge(), schedule=Schedule(iterations=1))


def test_folders_of_folders_are_refused(tmp_path, make_pixels):
    images, _ = make_pixels(4)
    for i, place in enumerate(("train/a", "train/b", "val/a", "val/b")):
        (tmp_path / place).mkdir(parents=True)
        Image.fromarray(images[i, 0]).save(tmp_path / place / "1.png")
    with pytest.raises(InputError, match="in 'train' there are folders only; expected one folder of images per class"):
        load(tmp_path)


def test_sizes_beyond_memory_and_empty_names_are_refused():
    with pytest.raises(InputError, match="--image-size 100000: must be at least 1, at most 1024"):
        load("digits", image_size=100_000)
    with pytest.raises(InputError, match="without a name"):
        load("")
