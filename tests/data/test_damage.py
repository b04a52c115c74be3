"""Files of strangers: whatever they hold, they are read, or refused in one line with little memory."""

import io
import struct
import zipfile

import numpy as np
import pytest

from labeldistill import InputError, load, load_distilled

LABELS = np.arange(60, dtype=np.uint8) % 3


def npy(header, body=b""):
    "A file of one array with any header."
    head = header.encode("latin1")
    head += b" " * (-(10 + len(head) + 1) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + body


def archive(path, images, patch=None, compression=zipfile.ZIP_STORED):
    "An .npz file of these bytes and of whole labels; both headers of its members may be changed."
    buffer, labels = io.BytesIO(), io.BytesIO()
    np.save(labels, LABELS)
    with zipfile.ZipFile(buffer, "w", compression) as file:
        file.writestr("images.npy", images)
        file.writestr("labels.npy", labels.getvalue())
    raw = bytearray(buffer.getvalue())
    for at_local, at_central, value in [patch] if patch else []:
        for mark, at in ((b"PK\x03\x04", at_local), (b"PK\x01\x02", at_central)):
            i = raw.find(mark)
            while i >= 0:
                raw[i + at : i + at + 2] = struct.pack("<H", value)
                i = raw.find(mark, i + 4)
    path.write_bytes(raw)
    return path


WHOLE = npy("{'descr': '|u1', 'fortran_order': False, 'shape': (60, 8, 8), }", bytes(range(256)) * 15)


@pytest.mark.parametrize(
    ("images", "patch", "reason"),
    [
        (npy("{'descr': '|u1', 'fortran_order': False, 'shape': (60, 8, 8"), None, ""),
        (npy("{'descr': '|u1', 'fortran_order': False, 'shape': (1099511627776,), }"), None, "declares uint8"),
        (npy("{'descr': '|u1', 'fortran_order': False, 'shape': (60, 8, 9), }", bytes(3840)), None, "declares uint8"),
        (npy("{'descr': '|O', 'fortran_order': False, 'shape': (60, 8, 8), }", bytes(3840)), None, "it holds Python objects"),
        (b"no array at all", None, "magic string"),
        (WHOLE, (6, 8, 1), "encrypted"),
        (WHOLE, (8, 10, 97), "compression method"),
        (WHOLE, (4, 6, 99), "zip file version"),
    ],
)
def test_broken_archives_are_one_line(tmp_path, images, patch, reason):
    with pytest.raises(InputError, match=rf"own\.npz' is not an \.npz file that can be read \(.*{reason}") as caught:
        load(archive(tmp_path / "own.npz", images, patch))
    assert "\n" not in str(caught.value)


def test_what_is_said_of_a_broken_header_is_short(tmp_path):
    header = b"r" + WHOLE[10:].replace(b"\n", b" ") * 5  # longer than it was: NumPy's message quotes all of it
    raw = b"\x93NUMPY\x01\x00" + struct.pack("<H", 9000) + header
    with pytest.raises(InputError, match=r"Cannot parse header|source code string") as caught:
        load(archive(tmp_path / "own.npz", raw))
    assert len(str(caught.value)) < 600


def test_an_archive_that_would_grow_beyond_what_compression_can_do_is_not_unpacked(tmp_path):
    path = archive(tmp_path / "own.npz", WHOLE, compression=zipfile.ZIP_DEFLATED)
    raw = bytearray(path.read_bytes())
    i = raw.find(b"PK\x01\x02")
    raw[i + 24 : i + 28] = struct.pack("<I", 2**32 - 2)  # the size of the first member, unpacked
    path.write_bytes(raw)
    with pytest.raises(InputError, match="claims 4294967294 bytes"):
        load(path)


def test_a_whole_archive_is_read(tmp_path):
    assert load(archive(tmp_path / "own.npz", WHOLE)).images.shape == (60, 1, 8, 8)
    assert load(archive(tmp_path / "own.npz", WHOLE, compression=zipfile.ZIP_DEFLATED)).images.shape == (60, 1, 8, 8)


# Artifacts


@pytest.mark.parametrize(
    "change",
    [
        {"validation_accuracy": "/"},
        {"validation_accuracy": 101},
        {"validation_accuracy": float("nan")},
        {"resets": [1, ["a"]]},
        {"resets": [-1]},
        {"resets": ["a"]},
        {"settings": []},
        {"settings": {"a": [[[[[[[[1]]]]]]]]}},
        {"network": "x" * 1_000_000},
        {"network": "\ud800"},
        {"network": "two\nlines"},
        {"network": "\x1b[31mred"},
        {"method": {"\ud800": {}}},
        {"normalisation": [[10**18], [1]]},
        {"normalisation": [[0.1], [10**400]]},
        {"normalisation": [["a"], ["b"]]},
        {"init": []},
        {"seed": 10**30},
        {"fixed_init": -(10**30)},
        {"inner_batch": 10**12},
    ],
)
def test_facts_of_another_kind_are_refused_at_loading(damaged_copy, change):
    with pytest.raises(InputError, match=r"^[^\n]*damaged\.safetensors' is damaged[^\n]*$") as caught:
        load_distilled(damaged_copy(lambda tensors, facts: facts.update(change)))
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("change", [{"image_size": 0}, {"image_size": 10**9}, {"channels": 2}, {"raw": 5}, {"classes": [["a"]]}])
@pytest.mark.parametrize("data", ["source", "target"])
def test_references_of_another_kind_are_refused_at_loading(damaged_copy, change, data):
    with pytest.raises(InputError, match="is damaged"):
        load_distilled(damaged_copy(lambda tensors, facts: facts[data].update(change)))


def test_facts_that_are_nested_deeply_are_refused(damaged_copy):
    deep = "[" * 100_000 + "]" * 100_000
    with pytest.raises(InputError, match="is damaged"):
        load_distilled(damaged_copy(metadata={"format": "labeldistill/2", "labeldistill": deep}))
