"""Committed records: every `result.json` is listed with its hash, and no byte of any is changed or lost."""

import hashlib
import subprocess

import pytest

# SHA-256 of the sorted hashes of all records, joined by newlines
ALL = "9e1d8158eaf89ae5e07aca398f8194c8ee037856aaac27b3b42213a0066f115e"


@pytest.fixture(scope="module")
def records(repository):
    "The folder of all runs, and the hash of each committed record by its path relative to that folder."
    folder = repository / "papermill_runs"
    listed = subprocess.run(["git", "-C", folder, "ls-files", "-z", "--", "*result.json"], capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    paths = [path for path in listed.stdout.split("\0") if path]
    return folder, {path: hashlib.sha256((folder / path).read_bytes()).hexdigest() for path in paths}


def test_every_committed_record_has_one_line_and_the_hash_it_says(records):
    folder, hashes = records
    lines = (folder / "RECORDS.sha256").read_text().splitlines()
    assert lines == [f"{hashes[path]}  {path}" for path in sorted(hashes)]


def test_no_record_is_changed_or_lost_wherever_it_lies(records):
    _, hashes = records
    assert len(hashes) == 281
    assert hashlib.sha256("\n".join(sorted(hashes.values())).encode()).hexdigest() == ALL
