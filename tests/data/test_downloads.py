"""Downloads from a server on this machine: resumed, checked, unpacked whole, and refused without a trace."""

import io
import os
import stat
import tarfile
import zipfile
from types import SimpleNamespace

import loopback
import pytest

from labeldistill.data import downloads
from labeldistill.data.downloads import Origin, fetch, obtain, unpack
from labeldistill.utils import InputError

CONTENT = bytes(range(251)) * 400  # 100,400 bytes


@pytest.fixture
def server(monkeypatch):
    with loopback.serving(monkeypatch) as server:
        yield server


@pytest.fixture
def published(server):
    return server.publish


def names_below(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def one_line(caught):
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Downloads


@pytest.mark.parametrize("algorithm", ["md5", "sha256"])
@pytest.mark.parametrize("patience", [1 << 30, 30_000, 1], ids=["in one piece", "in four pieces", "byte by byte"])
def test_a_file_arrives_whole_however_often_the_connection_breaks(server, published, tmp_path, algorithm, patience):
    content = CONTENT if patience > 1 else CONTENT[:20]
    server.patience = patience
    path = fetch(published("file", content, algorithm), tmp_path)
    assert path.read_bytes() == content and names_below(tmp_path) == ["file"]
    assert server.asked == list(range(0, len(content), patience))


def test_what_arrived_before_is_not_asked_for_again(server, published, tmp_path):
    (tmp_path / "file.part").write_bytes(CONTENT[:70_000])
    assert fetch(published("file", CONTENT), tmp_path).read_bytes() == CONTENT
    assert server.asked == [70_000] and names_below(tmp_path) == ["file"]


def test_what_has_arrived_stays_when_the_server_goes_away(server, published, tmp_path, monkeypatch):
    monkeypatch.setitem(downloads.ORIGINS, "toy", Origin(None, "", (published("file", CONTENT),)))
    server.patience = 60_000
    answered = downloads._receive

    def once(address, part):
        "The first attempt is answered, then the server is gone."
        if part.exists():
            raise ConnectionResetError("gone")
        return answered(address, part)

    monkeypatch.setattr(downloads, "_receive", once)
    with pytest.raises(InputError, match="gone"):
        obtain("toy", tmp_path)
    assert (tmp_path / "file.part").read_bytes() == CONTENT[:60_000] and names_below(tmp_path) == ["file.part"]
    monkeypatch.setattr(downloads, "_receive", answered)
    assert obtain("toy", tmp_path)[0].read_bytes() == CONTENT
    assert server.asked == [0, 60_000] and names_below(tmp_path) == ["file"]


def test_a_finished_part_is_taken_as_it_is(published, tmp_path):
    (tmp_path / "file.part").write_bytes(CONTENT)
    assert fetch(published("file", CONTENT), tmp_path).read_bytes() == CONTENT
    assert names_below(tmp_path) == ["file"]


def test_a_server_that_only_sends_whole_files_is_asked_for_one(server, published, tmp_path):
    server.ranges = False
    (tmp_path / "file.part").write_bytes(b"x" * 70_000)
    assert fetch(published("file", CONTENT), tmp_path).read_bytes() == CONTENT


def test_a_server_that_always_breaks_off_at_the_same_place_is_given_up(server, published, tmp_path, monkeypatch):
    server.ranges, server.patience = False, 5000
    monkeypatch.setitem(downloads.ORIGINS, "toy", Origin(None, "", (published("file", CONTENT),)))
    with pytest.raises(InputError, match=r"'toy' could not be downloaded \(the connection broke off"):
        obtain("toy", tmp_path)
    assert len(server.asked) == 2 and names_below(tmp_path) == ["file.part"]


def test_a_file_that_is_there_is_not_downloaded_again(server, published, tmp_path):
    (tmp_path / "file").write_bytes(CONTENT)
    assert fetch(published("file", CONTENT), tmp_path) == tmp_path / "file"
    assert server.asked == []


WRONG = [
    pytest.param({"checksum": "md5:" + "0" * 32}, r"has the md5 [0-9a-f]{32}, published is 0{32}", id="md5"),
    pytest.param({"checksum": "sha256:" + "0" * 64}, r"has the sha256 [0-9a-f]{64}, published is 0{64}", id="sha256"),
    pytest.param({"size": 100_401}, r"has 100,400 bytes, published are 100,401", id="size"),
]


@pytest.mark.parametrize(("changes", "message"), WRONG)
def test_a_file_that_is_not_the_published_one_is_refused_and_deleted(published, tmp_path, changes, message):
    with pytest.raises(InputError, match=message) as caught:
        fetch(published("file", CONTENT, **changes), tmp_path)
    assert "/file has" in one_line(caught) and names_below(tmp_path) == []


@pytest.mark.parametrize(("changes", "message"), WRONG)
def test_a_wrong_file_that_the_user_put_there_is_refused_and_kept(server, published, tmp_path, changes, message):
    (tmp_path / "file").write_bytes(CONTENT)
    with pytest.raises(InputError, match=message + ".*delete it") as caught:
        fetch(published("file", CONTENT, **changes), tmp_path)
    assert str(tmp_path / "file") in one_line(caught)
    assert names_below(tmp_path) == ["file"] and server.asked == []


def test_a_part_of_another_file_does_not_get_into_the_result(server, published, tmp_path):
    (tmp_path / "file.part").write_bytes(b"x" * 70_000)
    known = published("file", CONTENT)
    with pytest.raises(InputError, match="has the md5"):
        fetch(known, tmp_path)
    assert names_below(tmp_path) == []
    assert fetch(known, tmp_path).read_bytes() == CONTENT


def test_a_file_about_which_nothing_is_published_is_taken(published, tmp_path):
    assert fetch(published("file", CONTENT, size=None, checksum=None), tmp_path).read_bytes() == CONTENT


def test_one_line_says_which_files_are_expected_from_where_and_their_place(server, published, tmp_path, monkeypatch):
    here, gone = published("here", CONTENT), published("gone", CONTENT, file="deep/gone")
    del server.files["gone"]
    monkeypatch.setitem(downloads.ORIGINS, "toy", Origin(None, "", (here, gone)))
    with pytest.raises(InputError, match=r"'toy' could not be downloaded \(HTTP Error 404") as caught:
        obtain("toy", tmp_path)
    message = one_line(caught)
    assert f"expected {tmp_path / 'deep' / 'gone'} from {server.address}/gone (--data-root changes the folder)" in message
    assert names_below(tmp_path) == ["here"]


@pytest.mark.parametrize("name", ["kuzushiji49", "cub200"])
def test_offline_one_line_says_what_is_expected(tmp_path, no_network, name):
    with pytest.raises(InputError, match=f"'{name}' could not be downloaded") as caught:
        obtain(name, tmp_path)
    message = one_line(caught)
    for download in downloads.ORIGINS[name].downloads:
        assert f"{tmp_path / download.file} from {download.address}" in message
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_progress_goes_to_standard_error(published, tmp_path, capsys):
    fetch(published("file", CONTENT), tmp_path)
    out, err = capsys.readouterr()
    assert out == "" and "file" in err


# Archives


def tgz(path, *members):
    "An archive of (name, content) files and of ready-made members."
    with tarfile.open(path, "w:gz") as tar:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                tar.addfile(info, io.BytesIO(member[1]))
    return path


def zipped(path, *members):
    "The same as a zip; a ready-made member is a `ZipInfo`."
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for member in members:
            file.writestr(*((member, b"target") if isinstance(member, zipfile.ZipInfo) else member))
    return path


PACK = [pytest.param((tgz, "tree.tgz"), id="tgz"), pytest.param((zipped, "tree.zip"), id="zip")]
TREE = [("tree/a.txt", b"a" * 5000), ("tree/deep/b.txt", os.urandom(5000)), ("beside.txt", b"not asked for")]


@pytest.mark.parametrize("pack", PACK)
def test_the_named_folder_is_unpacked_and_nothing_else(tmp_path, pack):
    make, name = pack
    unpack(make(tmp_path / name, *TREE), tmp_path / "tree")
    assert names_below(tmp_path) == sorted([name, "tree", "tree/a.txt", "tree/deep", "tree/deep/b.txt"])
    assert (tmp_path / "tree" / "deep" / "b.txt").read_bytes() == TREE[1][1]


def special(name, kind, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def zip_link(name):
    info = zipfile.ZipInfo(name)
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


LEAVES = [pytest.param(name, id=name) for name in ("../out.txt", "tree/../../out.txt", "/out.txt", "..\\out.txt", "C:\\out.txt")]


@pytest.mark.parametrize("pack", PACK)
@pytest.mark.parametrize("name", LEAVES)
def test_an_archive_with_a_path_that_leaves_the_folder_is_refused(tmp_path, pack, name):
    make, file = pack
    folder = tmp_path / "root"
    folder.mkdir()
    archive = make(folder / file, TREE[0], (name, b"out"), TREE[1])
    with pytest.raises(InputError, match="leads out of the folder") as caught:
        unpack(archive, folder / "tree")
    assert str(archive) in one_line(caught)
    assert names_below(tmp_path) == ["root", f"root/{file}"]


def test_an_archive_of_a_whole_folder_is_unpacked(tmp_path):
    archive = tmp_path / "all.tgz"
    (tmp_path / "source" / "tree").mkdir(parents=True)
    (tmp_path / "source" / "tree" / "leaf").write_text("green")
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(tmp_path / "source", ".")
    unpack(archive, tmp_path / "tree")
    assert (tmp_path / "tree" / "leaf").read_text() == "green"


SPECIAL = [
    pytest.param(special("tree/link", tarfile.SYMTYPE, "a.txt"), id="link within"),
    pytest.param(special("tree/link", tarfile.SYMTYPE, "../../out"), id="link without"),
    pytest.param(special("tree/hard", tarfile.LNKTYPE, "tree/a.txt"), id="hard link"),
    pytest.param(special("tree/pipe", tarfile.FIFOTYPE), id="pipe"),
    pytest.param(special("tree/device", tarfile.CHRTYPE), id="device"),
]


@pytest.mark.parametrize("member", SPECIAL)
def test_an_archive_with_a_link_or_a_device_is_refused(tmp_path, member):
    archive = tgz(tmp_path / "tree.tgz", TREE[0], member)
    with pytest.raises(InputError, match="neither a file nor a folder") as caught:
        unpack(archive, tmp_path / "tree")
    assert one_line(caught) and names_below(tmp_path) == ["tree.tgz"]


def test_a_zip_with_a_link_is_refused(tmp_path):
    archive = zipped(tmp_path / "tree.zip", TREE[0], zip_link("tree/link"))
    with pytest.raises(InputError, match="'tree/link' is neither a file nor a folder"):
        unpack(archive, tmp_path / "tree")
    assert names_below(tmp_path) == ["tree.zip"]


@pytest.mark.parametrize("pack", PACK)
@pytest.mark.parametrize("keep", [0.0, 0.1, 0.5, 0.95])
def test_a_truncated_archive_is_refused(tmp_path, pack, keep):
    make, name = pack
    archive = make(tmp_path / name, *TREE)
    content = archive.read_bytes()
    archive.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(InputError, match="cannot be unpacked") as caught:
        unpack(archive, tmp_path / "tree")
    assert str(archive) in one_line(caught) and names_below(tmp_path) == [name]


@pytest.mark.parametrize("pack", PACK)
def test_an_archive_that_holds_something_else_is_refused(tmp_path, pack):
    make, name = pack
    archive = make(tmp_path / name, ("other/a.txt", b"a"))
    with pytest.raises(InputError, match="cannot be unpacked"):
        unpack(archive, tmp_path / "tree")
    assert names_below(tmp_path) == [name]


def test_a_folder_that_is_there_is_not_overwritten(tmp_path):
    archive = tgz(tmp_path / "tree.tgz", *TREE)
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="cannot be unpacked"):
        unpack(archive, tmp_path / "tree")
    assert names_below(tmp_path) == ["tree", "tree.tgz", "tree/mine.txt"]


# The table


def test_every_known_data_set_has_an_origin_and_the_reverse():
    from labeldistill.data.catalog import KNOWN

    assert KNOWN.keys() == downloads.ORIGINS.keys()
    assert all(origin.citation for origin in downloads.ORIGINS.values())


def test_addresses_files_and_checksums_are_well_formed():
    digits = SimpleNamespace(md5=32, sha256=64)
    for origin in downloads.ORIGINS.values():
        for address, file, size, checksum in origin.downloads:
            assert address.startswith("http") and address.rpartition("/")[2] == file.rpartition("/")[2]
            assert size is None or size > 0
            algorithm, _, number = checksum.partition(":")
            assert len(number) == getattr(digits, algorithm) and int(number, 16)
