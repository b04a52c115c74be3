"""A file of labels is data: no place that it names is opened, and no address asked, because the file says so."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

WATCHED = """
import json, os, sys

planted, commands = sys.argv[1], json.loads(sys.argv[2])


def watch(event, arguments):
    "Ends the process where something planted is opened or listed, or another machine is asked."
    touched = event in ("open", "os.listdir", "os.scandir") and planted in os.path.abspath(str(arguments[0]))
    if touched or event in ("socket.connect", "socket.getaddrinfo"):
        print(event, arguments[:1], file=sys.stderr, flush=True)
        os._exit(97)


import labeldistill.api
from labeldistill.cli import main

sys.addaudithook(watch)
for command in commands:
    try:
        main(command)
        print("done", file=sys.stderr)
    except SystemExit as stop:
        assert stop.code == 2
"""


@pytest.fixture
def planted(tmp_path, make_pixels):
    "The current folder: class folders and an archive that would do as source and as target, and other data."
    images, labels = make_pixels()
    np.savez(tmp_path / "planted.npz", images=images, labels=labels)
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        (tmp_path / "planted" / f"{label}").mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[..., 0]).save(tmp_path / "planted" / f"{label}" / f"{i}.png")
    images, labels = make_pixels(seed=3)
    np.savez(tmp_path / "other.npz", images=images, labels=labels)
    return tmp_path


@pytest.fixture
def naming(damaged_copy, planted):
    "Makes a file of labels whose source and target, and all else that may be a place, have a name."

    def make(name, file):
        def change(tensors, facts):
            facts["source"]["name"] = facts["target"]["name"] = facts["task"]["target"] = facts["task"]["source"] = name
            facts["method"]["ridge"]["init"] = name

        return shutil.move(damaged_copy(change), planted / file)

    return make


def run(planted, environment, commands):
    "Commands in one process that does not survive if it opens what is planted."
    given = [sys.executable, "-c", WATCHED, "planted", json.dumps([[str(word) for word in command] for command in commands])]
    environment = environment | {"HOME": str(planted), "LABELDISTILL_DATA": str(planted)}
    return subprocess.run(given, capture_output=True, text=True, cwd=planted, env=environment)


def test_no_place_is_opened_because_a_file_names_it(naming, planted, environment, bars_npz):
    names, commands, refused = ["planted.npz", "planted", "~/planted", "https://planted.org/planted.npz"], [], []
    for i, name in enumerate(names):
        file = naming(name, f"{i}.safetensors")
        commands += [["evaluate", file], ["show", file, "--out", "a.png"], ["evaluate", file, "--target", "other.npz"]]
        remark = "a place that a file names is not opened; give it with"
        source = "source=... or labels.with_images(PLACE)"
        for option, python in (("target", "target=..."), ("source", source), ("source", source)):
            refused.append(f"error: the labels' {option} is '{name}': {remark} --{option} PLACE ({python})")
    quick, own = ["--network", "user_networks:plain", "--quiet"], ["--target", bars_npz]
    commands += [
        ["distill", "ridge", *own, "--base-examples", 6, "--iterations", 1, "--init", file, "--out", "own.safetensors", *quick],
        ["evaluate", file, *own, "--models", 1, "--steps", 1, *quick],
        ["show", file, "--source", bars_npz, "--out", "a.png"],
    ]
    done = run(planted, environment, commands)
    assert done.returncode == 0 and done.stderr.splitlines() == [*refused, *["done"] * 3], done.stderr


def test_a_place_that_the_user_names_is_opened(naming, planted, environment):
    "The trap works."
    done = run(planted, environment, [["evaluate", naming("digits", "a.safetensors"), "--target", "planted.npz"]])
    assert done.returncode == 97 and done.stderr.startswith("open")
