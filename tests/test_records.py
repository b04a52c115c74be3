"""Committed records: every `result.json` is listed with its hash, and no byte of any is changed or lost."""

import hashlib
import subprocess

import pytest

# SHA-256 of the sorted hashes of all records, joined by newlines
ALL = "a5fe697dc37846f6eeaf8265523f4f31196b2dcaf6e9e05186b24f9042013ea1"


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
    assert len(hashes) == 298
    assert hashlib.sha256("\n".join(sorted(hashes.values())).encode()).hexdigest() == ALL
