"""Made-up files and command lines: each is refused in one line, or accepted and right.

`make fuzz MINUTES=30` makes them up for that long, and prints how many there were of each outcome; `test_fuzz.py` has a fixed
choice of them. What is wrong (a traceback, a hang, several lines, half a file) is shown in its shortest form.
"""

import argparse
import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
import traceback
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import torch
import typer
from conftest import pixels
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

from labeldistill import Compute, InputError, Ridge, Schedule, Student, Task, distill, evaluate, load, load_distilled
from labeldistill.cli import app, main, method_command
from labeldistill.config import METHODS
from labeldistill.reproduce.compare import judge, look_up
from labeldistill.reproduce.exhibits import Cell, cells
from labeldistill.reproduce.records import read_record, write_json
from labeldistill.reproduce.runs import perform

TESTS = Path(__file__).resolve().parent
LONGEST = 60  # seconds of one case; more is a hang
PLAIN = {"network": "user_networks:plain"}
ONE = {"compute": Compute("cpu"), "progress": False}

# What a case comes to


class Hang(Exception):
    "A case that does not end."


@contextlib.contextmanager
def ending() -> Iterator[None]:
    "A block that raises `Hang` if it takes too long."

    def stop(number: int, frame: Any) -> None:
        raise Hang(f"no end within {LONGEST} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(LONGEST)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def refused(act: Callable[[], Any]) -> bool:
    "Whether an act is refused in one line. Anything it raises but an `InputError` goes on, and is wrong."
    with ending(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            act()
        except InputError as error:
            assert len(str(error).splitlines()) == 1 and len(str(error)) < 5000, error
            return True
    return False


# What cases are made of


class Materials(NamedTuple):
    "Whole files to begin with. Not to be changed."

    folder: Path
    npz: Path
    labels: Path
    checkpoint: Path
    pictures: dict[str, bytes]  # by suffix


def distil(target: Path, **options: Any) -> Any:
    "Labels for six bars in two short iterations."
    schedule = Schedule(iterations=4, outer_batch=32, validate_every=1)
    return distill(Task(target, 6, **PLAIN), Ridge(), schedule=schedule, student=Student(steps=2), **options, **ONE)


@cache
def picture_files() -> dict[str, bytes]:
    "Small pictures of many kinds."
    color = np.random.default_rng(0).integers(0, 255, (6, 6, 4), dtype=np.uint8)
    found = {}
    for mode in ("L", "RGB", "RGBA", "LA", "P", "1", "CMYK", "I;16"):
        image = Image.fromarray(color[..., 0].astype(np.uint16)) if mode == "I;16" else Image.fromarray(color).convert(mode)
        for suffix in ("png", "jpg", "gif", "bmp", "tif", "webp", "ppm"):
            with contextlib.suppress(OSError, ValueError), io.BytesIO() as file:  # not every format has every mode
                image.save(file, Image.registered_extensions()[f".{suffix}"])
                found[f"{mode.replace(';', '')}.{suffix}"] = file.getvalue()
    return found


def prepare(folder: Path) -> Materials:
    "Whole files in a folder."
    images, labels = pixels()
    np.savez(folder / "bars.npz", images=images, labels=labels)
    distil(folder / "bars.npz", checkpoint=folder / "kept").save(folder / "labels.safetensors")
    for c in "abc":
        (folder / "own" / c).mkdir(parents=True)
        for i in range(10):
            Image.fromarray(images[labels == "abc".index(c)][i, :, :, 0]).save(folder / "own" / c / f"{i}.png")
    return Materials(
        folder, folder / "bars.npz", folder / "labels.safetensors", folder / "kept" / "checkpoint.safetensors", picture_files()
    )


PLACES = st.one_of(st.integers(0, 400), st.integers(0, 2**20))
EDITS = st.lists(
    st.tuples(PLACES, st.sampled_from(["set", "flip", "cut", "double"]), st.integers(0, 255)), min_size=1, max_size=20
)


def edited(whole: bytes, edits: list[tuple[int, str, int]]) -> bytes:
    "Bytes with some of them changed, cut out or doubled."
    raw = bytearray(whole)
    for place, kind, value in edits:
        at = place % max(1, len(raw))
        if kind == "cut":
            del raw[at : at + 1 + value]
        elif kind == "double":
            raw[at:at] = raw[at : at + 1 + value % 64]
        elif raw:
            raw[at] = value if kind == "set" else raw[at] ^ 1 << value % 8
    return bytes(raw)


NASTY = [
    "",
    " ",
    "\ud800",
    "x" * 2000,
    "two\nlines",
    "\x1b[31m",
    "nan",
    "-1",
    "1_0",
    "~",
    "none/none",
    "ü",
    "\u202e",
    10**30,
    -1,
    1e308,
]
LEAVES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=6), st.sampled_from(NASTY))
JSON = st.recursive(LEAVES, lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(max_size=4), x, max_size=3), max_leaves=6)
CHANGES = st.lists(
    st.tuples(st.lists(st.integers(0, 30), min_size=1, max_size=5), st.sampled_from(["set", "set", "drop", "add"]), JSON),
    min_size=1,
    max_size=3,
)


def altered(tree: Any, changes: list[tuple[list[int], str, Any]]) -> Any:
    "A copy of a JSON value with some of its parts set, dropped or added."
    tree = json.loads(json.dumps(tree))
    for way, kind, value in changes:
        at = tree
        for depth, number in enumerate(way):
            if not isinstance(at, dict | list) or not at:
                break
            keys = [*at] if isinstance(at, dict) else [*range(len(at))]
            key = keys[number % len(keys)]
            if depth < len(way) - 1 and isinstance(at[key], dict | list) and at[key]:
                at = at[key]
                continue
            if kind == "drop":
                del at[key]
            elif kind == "add" and isinstance(at, dict):
                at["more"] = value
            else:
                at[key] = value
            break
    return tree


# Loaders


def check_dataset(data: Any, image_size: int | None, channels: int | None) -> None:
    "What any data set is like that was read as asked."
    n, c, h, w = data.images.shape
    assert data.images.dtype == torch.uint8 and data.labels.shape == (n,) and h == w
    assert c in ((channels,) if channels else (1, 3)) and h == (image_size or h)
    assert data.labels.unique().tolist() == [*range(len(data.classes))] and len(data.classes) > 1


SIZES = st.none() | st.just(8) | st.none() | st.just(8) | st.sampled_from([1, 0, 10**6])
CHANNELS = st.none() | st.just(1) | st.just(3) | st.just(2)
NAMES = st.one_of(st.sampled_from(["a", "b", "10", "2", ".hidden", "ü", "a b"]), st.text("ab0é", min_size=1, max_size=3))
FILES = st.tuples(
    NAMES,
    st.sampled_from(["png", "jpg", "PNG", "gif", "tif", "webp", "txt", ""]),
    st.sampled_from(sorted(picture_files())),
    EDITS,
)
FOLDERS = st.dictionaries(NAMES, st.lists(FILES, min_size=1, max_size=4), min_size=2, max_size=4) | st.dictionaries(
    NAMES, st.lists(FILES, max_size=2), max_size=2
)


def of_folders(at: Materials, folder: Path, tree: dict, whole: bool, size: int | None, channels: int | None) -> bool:
    "Class folders of pictures, most of them whole."
    for name, files in tree.items():
        if not re.fullmatch(r"\.*", name):
            (folder / "own" / name).mkdir(parents=True, exist_ok=True)
            for number, (file, suffix, kind, edits) in enumerate(files):
                content = at.pictures[kind] if whole or number else edited(at.pictures[kind], edits)
                (folder / "own" / name / f"{file}{number}.{suffix}").write_bytes(content)

    def act() -> None:
        data = load(folder / "own", image_size=size, channels=channels)
        check_dataset(data, size, channels)
        assert len(data) <= sum(map(len, tree.values()))
        assert load(folder / "own", image_size=size, channels=channels).sha256 == data.sha256

    return refused(act)


def of_archives(at: Materials, folder: Path, edits: list, deflated: bool, size: int | None, channels: int | None) -> bool:
    "Archives with bytes that are not as they were."
    with zipfile.ZipFile(at.npz) as old, zipfile.ZipFile(folder / "own.npz", "w", 8 if deflated else 0) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    (folder / "own.npz").write_bytes(edited((folder / "own.npz").read_bytes(), edits))
    return refused(lambda: check_dataset(load(folder / "own.npz", image_size=size, channels=channels), size, channels))


ANY = npst.arrays(
    npst.scalar_dtypes() | npst.unicode_string_dtypes(), npst.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=6)
)


def fitting(count: int) -> st.SearchStrategy:
    "Images, and classes for as many."
    images = npst.arrays(np.uint8, st.sampled_from([(count, 4, 4), (count, 4, 4, 3), (count, 3, 4)]))
    classes = st.builds(
        lambda order, kind: (np.array(order) % 3).astype(kind), st.permutations(range(count)), st.sampled_from("lBb")
    )
    return st.tuples(images, classes)


FITTING = st.integers(6, 12).flatmap(fitting)


def of_arrays(at: Materials, folder: Path, arrays: dict) -> bool:
    "Archives of any arrays."
    np.savez(folder / "own.npz", **arrays)

    def act() -> None:
        data = load(folder / "own.npz")
        check_dataset(data, None, None)
        if "images" in arrays:
            images = arrays["images"]
            assert np.array_equal(data.images.numpy(), images[:, None] if images.ndim == 3 else np.moveaxis(images, 3, 1))
            assert data.labels.tolist() == arrays["labels"].tolist()

    return refused(act)


ARRAYS = st.one_of(
    FITTING.map(lambda pair: dict(zip(("images", "labels"), pair, strict=True))),
    st.tuples(FITTING, FITTING).map(lambda x: dict(zip(("train_x", "train_y", "test_x", "test_y"), (*x[0], *x[1]), strict=True))),
    st.fixed_dictionaries({"images": ANY, "labels": ANY}),
    st.dictionaries(st.sampled_from(["images", "labels", "x", "train_x"]), ANY, max_size=3),
)

# Files of ours


@cache
def contents(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    "Tensors and metadata of a file."
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()


TENSORS = (
    st.none()
    | st.none()
    | st.tuples(
        st.integers(0, 20),
        st.sampled_from([torch.float32, torch.int64, torch.uint8, torch.bool, torch.float64, torch.bfloat16]),
        st.lists(st.integers(0, 7), max_size=4),
    )
)


def rewritten(whole: Path, key: str, changes: list, tensor: tuple | None, path: Path) -> None:
    "A file with other facts below a key of its metadata, and perhaps another tensor."
    tensors, metadata = contents(whole)
    tensors, facts = dict(tensors), altered(json.loads(metadata[key]), changes)
    if tensor:
        number, dtype, shape = tensor
        tensors[sorted(tensors)[number % len(tensors)]] = torch.zeros(shape, dtype=dtype)
    save_file(tensors, path, metadata | {key: json.dumps(facts)})


def use_labels(path: Path, folder: Path, target: Path) -> None:
    "What is done with labels that are accepted."
    labels = load_distilled(path)
    assert len(repr(labels)) < 5000 and labels.labels.isfinite().all()
    labels.save(folder / "again.safetensors")
    assert torch.equal(load_distilled(folder / "again.safetensors").labels, labels.labels)
    found = evaluate(labels, target, models=1, student=Student(steps=1), **PLAIN, **ONE)
    assert 0 <= found.accuracy_mean <= 100 and len(str(found).splitlines()) == 1


def of_artifact_bytes(at: Materials, folder: Path, edits: list) -> bool:
    "Artifacts with bytes that are not as they were."
    (folder / "labels.safetensors").write_bytes(edited(at.labels.read_bytes(), edits))
    return refused(lambda: use_labels(folder / "labels.safetensors", folder, at.npz))


def of_artifacts(at: Materials, folder: Path, changes: list, tensor: tuple | None) -> bool:
    "Artifacts with other facts or another tensor."
    rewritten(at.labels, "labeldistill", changes, tensor, folder / "labels.safetensors")
    return refused(lambda: use_labels(folder / "labels.safetensors", folder, at.npz))


def resume(at: Materials, folder: Path) -> bool:
    "Whether a checkpoint is refused; else its run ends with labels."
    path = folder / "checkpoint.safetensors"
    before = path.read_bytes()

    def act() -> None:
        assert distil(at.npz, checkpoint=folder, resume=True).labels.isfinite().all()

    was_refused = refused(act)
    assert [*folder.iterdir()] == [path] and (not was_refused or path.read_bytes() == before)
    return was_refused


def of_checkpoint_bytes(at: Materials, folder: Path, edits: list) -> bool:
    "Checkpoints with bytes that are not as they were."
    (folder / "checkpoint.safetensors").write_bytes(edited(at.checkpoint.read_bytes(), edits))
    return resume(at, folder)


def of_checkpoints(at: Materials, folder: Path, changes: list, tensor: tuple | None, whole: bool) -> bool:
    "Checkpoints with another description or another tensor."
    rewritten(at.checkpoint, "run", [] if whole else changes, tensor, folder / "checkpoint.safetensors")
    return resume(at, folder)


@cache
def measured() -> Cell:
    "A number of the paper that is measured."
    return next(cell for cell in cells("table1", "smoke") if cell.run)


def of_records(at: Materials, folder: Path, changes: dict[str, list], edits: dict[str, list]) -> bool:
    "Records whose files are not as they were: of another run, none, or whole."
    cell, place = measured(), measured().run.folder(folder)
    place.mkdir(parents=True)
    facts = {"results": {"kind": "distill", cell.read: {"mean": 50.0, "std": 1.0, "n": 2}}, "seconds": 1.0, "device": "cpu"}
    for name, content in {"run.json": cell.run.spec, "result.json": facts | {"peak_memory_mb": 1.0}}.items():
        write_json(place / name, altered(content, changes[name]))
        (place / name).write_bytes(edited((place / name).read_bytes(), edits[name]))

    record = read_record(place)

    def act() -> None:
        found = look_up(cell, folder)
        assert (found is None or record is not None) and judge(cell, found, 1.0)
        if record is not None:
            assert perform(cell.run, place, "cpu", False) == record.results

    return refused(act) or record is None


PER_FILE = {name: st.just([]) for name in ("run.json", "result.json")}
SOME_CHANGES = st.fixed_dictionaries({name: x | CHANGES for name, x in PER_FILE.items()})
SOME_EDITS = st.fixed_dictionaries({name: x | x | EDITS for name, x in PER_FILE.items()})

# Command lines

USUAL = {  # commands that would succeed
    "ridge": "distill ridge --target bars.npz --base-examples 6 --iterations 2 --out out.safetensors",
    "second-order": "distill second-order --target bars.npz --base-examples 6 --iterations 2 --out out.safetensors",
    "unrolled": "distill unrolled --target bars.npz --base-examples 6 --iterations 1 --window 2 --steps 2 --out out.safetensors",
    "dd": "distill dd --target bars.npz --base-examples 3 --iterations 1 --inner-epochs 1 --out out.safetensors",
    "matching": "distill matching --target bars.npz --base-examples 3 --iterations 1 --steps 2 --student-steps 2 "
    "--experts 1 --trajectory-iterations 2 --trajectory-every 1 --segment 1 --out out.safetensors",
    "expert": "distill expert --target bars.npz --base-examples 3 --steps 2 --expert-iterations 2 --expert-temperature 1 "
    "--out out.safetensors",
    "label-solve": "distill label-solve --target bars.npz --base-examples 3 --steps 2 --solve-networks 1 --out out.safetensors",
    "evaluate": "evaluate labels.safetensors --target bars.npz --models 1 --steps 1",
    "baseline": "baseline --target bars.npz --base-examples 6 --models 1 --steps 1",
    "train-full": "train-full --target bars.npz --epochs 1",
    "show": "show labels.safetensors --out out.png",
    "datasets": "datasets",
    "sets": "sets",
    "reproduce": "reproduce table1",
    "report": "report --scale smoke --out report",
}
UNTRAINED = ("show", "datasets", "sets", "reproduce", "report")  # that train nothing
TRAINING = ("--quiet", "--device", "cpu", "--network", "user_networks:plain")
USUAL = {name: [*words.split(), *(() if name in UNTRAINED else TRAINING)] for name, words in USUAL.items()}
ENDS = {"reproduce": ["--dry-run", "--results", "results"], "report": ["--results", "results"]}  # whatever was said before
LIKELY = {  # values that have a chance to be taken
    "--target": ["bars.npz", "own", "digits", "mnist", "labels.safetensors", "none.npz"],
    "--source": ["bars.npz", "own", "letters"],
    "--network": ["user_networks:plain", "user_networks:normed", "user_networks:nothing", "lenet", "convnet"],
    "--init": ["uniform", "one-hot", "smoothed", "expert", "random", "labels.safetensors", "bars.npz"],
    "--learn": ["labels", "images", "both"],
    "--out": ["out.safetensors", "out.png", "own", "none/out.png", "bars.npz", "out.pdf"],
    "--checkpoint": ["kept", "new", "own", "bars.npz", "none/new"],
    "--device": ["cpu", "auto", "cuda", "cuda:1", "mps"],
    "--scale": ["smoke", "paper", "short"],
    "--engine": ["inline", "snakemake"],
    "--selection": ["random", "easy", "hard", "k-center", "herding"],
    "--optimizer": ["adam", "sgd", "adamw", "own", "average", "user_networks:plain"],
    "--head": ["linear", "ridge"],
    "--order": ["random", "learned", "within", "across"],
    "--precision": ["fp32", "bf16", "auto"],
    "--results": ["results", "own", "none"],
    "--image-size": ["8", "16", "1", "0", "1000000"],
    "--models": ["1", "2", "0", "-1"],
    "--epochs": ["1", "2", "0"],
    "--validate-every": ["1", "100000"],
}
LEFT_OUT = {"--install-completion", "--show-completion", "--compile", "--dry-run", "--hours", "--help", "-h"}
WORDS = st.one_of(
    st.sampled_from(["0", "1", "2", "3", "-1", "0.1", "1e-3", "1.5", "nan", "inf", "1e400", "1_0", "0x1", "٣", "1,5", "10" * 20]),
    st.sampled_from(
        ["", " ", "-", "--", "=", "~", "~none", "None", "\udcff", "two\nlines", "x" * 300, "own", "a:b", "os:system"]
    ),
    st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\0/."), max_size=5),
)


@cache
def options(command: str) -> list[tuple[str, bool]]:
    "The options of a command, and whether they take a value."
    known = method_command(command) if command in METHODS else typer.main.get_command(app).commands[command]
    names = [(name, x.is_flag) for x in known.params for name in (*x.opts, *x.secondary_opts) if name.startswith("--")]
    return [(name, not flag) for name, flag in names if name not in LEFT_OUT]


@st.composite
def lines(draw: Any) -> list[str]:
    "Command lines that would succeed, with up to four options added, replaced or broken."
    command = draw(st.sampled_from(sorted(USUAL)))
    words = [*USUAL[command]]
    for _ in range(draw(st.integers(0, 4))):
        name, valued = draw(st.sampled_from(options(command)))
        value = draw(st.sampled_from(LIKELY[name]) | WORDS if name in LIKELY else WORDS)
        match draw(st.sampled_from(["set", "set", "set", "joined", "bare", "word", "drop"])):
            case "set":
                words += [name, value] if valued else [name]
            case "joined":
                words.append(f"{name}={value}")
            case "bare":
                words.append(name)
            case "word":
                words.append(draw(WORDS))
            case "drop":
                at = draw(st.integers(0, len(words) - 1))
                if at and words[at] not in ("--quiet", "--dry-run", "--models", "--iterations", "1"):
                    del words[at]
    return words + ENDS.get(command, [])


def lay_out(at: Materials, folder: Path) -> None:
    "Files of a user in a folder."
    for name in ("bars.npz", "labels.safetensors", "own", "kept"):
        source = at.folder / name
        if source.is_dir():
            (folder / name).mkdir()
            for path in sorted(source.rglob("*")):
                (folder / name / path.relative_to(source)).mkdir() if path.is_dir() else os.link(
                    path, folder / name / path.relative_to(source)
                )
        else:
            os.link(source, folder / name)


def states(folder: Path) -> dict[Path, Any]:
    "All that is in a folder."
    return {path: path.stat().st_mtime_ns if path.is_file() else None for path in folder.rglob("*")}


def judged(words: list[str], status: int, out: str, err: str, folder: Path, before: dict[Path, Any]) -> bool:
    "Whether a command was refused, and as it should be; or else did what it says."
    said = [line for line in err.splitlines() if not line.startswith("warning: ") and not line.startswith("no checkpoint in ")]
    assert status in (0, 1, 2), (status, out, err)
    assert not [*folder.rglob("*.part")], [*folder.rglob("*.part")]
    if status:
        assert len(said) == 1 and said[0].startswith("error: ") and err.endswith(said[0] + "\n"), err
        assert out == "" or status == 1, out
        assert states(folder) == before, {*states(folder).items()} ^ {*before.items()}
        return True
    assert not said or "--help" in words, err
    if "--json" in words and "--help" not in words:
        assert isinstance(json.loads(out), dict), out
    return False


def of_commands(at: Materials, folder: Path, words: list[str]) -> bool:
    "Command lines, in this process."
    lay_out(at, folder)
    before, out, err, here, status = states(folder), io.StringIO(), io.StringIO(), Path.cwd(), 0
    path, environment = [*sys.path], dict(os.environ)
    os.chdir(folder)
    try:
        with ending(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main(words)
    except SystemExit as stop:
        status = stop.code or 0
    finally:
        os.chdir(here)
        sys.path[:] = path
        os.environ.clear()
        os.environ.update(environment)
    return judged(words, status, out.getvalue(), err.getvalue(), folder, before)


def of_processes(at: Materials, folder: Path, words: list[str]) -> bool:
    "Command lines, in a process of their own."
    lay_out(at, folder)
    before, command = states(folder), [sys.executable, "-m", "labeldistill", *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=3 * LONGEST, errors="surrogateescape")
    return judged(words, done.returncode, done.stdout, done.stderr, folder, before)


# Rounds


class Target(NamedTuple):
    "A kind of cases."

    check: Callable[..., bool]  # (materials, folder, *drawn) -> whether it was refused
    drawn: tuple[st.SearchStrategy, ...]
    share: int  # cases in a round, relative to others; 0: a single one


TARGETS = {
    "image folders": Target(of_folders, (FOLDERS, st.sampled_from([True, True, False]), SIZES, CHANNELS), 6),
    "archives": Target(of_archives, (EDITS, st.booleans(), SIZES, CHANNELS), 15),
    "arrays": Target(of_arrays, (ARRAYS,), 8),
    "artifacts' bytes": Target(of_artifact_bytes, (EDITS,), 15),
    "artifacts": Target(of_artifacts, (st.just([]) | st.just([]) | CHANGES, TENSORS), 6),
    "checkpoints' bytes": Target(of_checkpoint_bytes, (EDITS,), 5),
    "checkpoints": Target(of_checkpoints, (CHANGES, TENSORS, st.booleans()), 3),
    "records": Target(of_records, (SOME_CHANGES, SOME_EDITS), 3),
    "commands": Target(of_commands, (lines(),), 2),
    "processes": Target(of_processes, (lines(),), 0),
}


def run(name: str, at: Materials, times: int, number: int) -> Counter[str]:
    "Cases of a target from a seed, and how many came to what. Raises what is wrong, in its shortest form."
    target, counts = TARGETS[name], Counter()
    cases = times * target.share or 1

    @seed(number)
    @settings(max_examples=cases, deadline=None, database=None, suppress_health_check=[*HealthCheck], print_blob=False)
    @given(st.tuples(*target.drawn))
    def case(drawn: tuple[Any, ...]) -> None:
        with TemporaryDirectory(prefix="fuzz-") as folder:
            counts["refused" if target.check(at, Path(folder).resolve(), *drawn) else "accepted"] += 1

    case()
    return counts


@contextlib.contextmanager
def secluded() -> Iterator[Materials]:
    "Whole files, while there is no network, no data root and no home of the user's."
    with TemporaryDirectory(prefix="fuzz-") as name:
        folder = Path(name).resolve()
        (folder / "home").mkdir()
        own = {"HOME": str(folder / "home"), "LABELDISTILL_DATA": str(folder / "home"), "PYTHONPATH": f"{TESTS.parent}:{TESTS}"}
        own |= dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
        before = dict(os.environ)
        os.environ.update(own | {"MPLBACKEND": "agg", "OMP_NUM_THREADS": "1"})
        try:
            yield prepare(folder)
        finally:
            os.environ.clear()
            os.environ.update(before)


def describe(error: BaseException) -> Iterator[str]:
    "What was wrong, where, and for which input."
    for one in getattr(error, "exceptions", [error]):
        place = traceback.extract_tb(one.__traceback__)[-1]
        yield f"{type(one).__name__}: {str(one)[:500]} ({place.filename}:{place.lineno})"
        yield from (note[:2000] for note in getattr(one, "__notes__", []))


def fuzz(minutes: float, names: list[str]) -> int:
    "Rounds of all targets until the time is over; the status is 1 if anything was wrong."
    torch.set_num_threads(1)
    end, first, counts, wrong = time.monotonic() + 60 * minutes, time.time_ns() % 10**9, Counter(), Counter()
    with secluded() as at:
        number = first
        while time.monotonic() < end:
            for name in names or TARGETS:
                try:
                    counts += Counter({(name, outcome): n for outcome, n in run(name, at, 20, number).items()})
                except (Exception, SystemExit) as error:
                    wrong[name] += 1
                    print(f"{name}, seed {number}", *describe(error), sep="\n", flush=True)
            number += 1
    for name in names or TARGETS:
        refusals, accepted = counts[name, "refused"], counts[name, "accepted"]
        print(f"{name:20} {refusals + accepted:7} cases {refusals:7} refused {accepted:7} accepted {wrong[name]:4} wrong")
    print(f"{counts.total() + wrong.total()} cases, {wrong.total()} wrong, seeds {first} to {number - 1}")
    return int(wrong.total() > 0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help=f"targets: {', '.join(TARGETS)}; default: all")
    parser.add_argument("--minutes", type=float, default=30)
    arguments = parser.parse_args()
    sys.exit(fuzz(arguments.minutes, arguments.names))
