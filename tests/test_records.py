"""Committed records: every `result.json` is listed with its hash, and no byte of any is changed or lost."""

import hashlib
import re
import subprocess
from collections import Counter

import pytest

# SHA-256 of the sorted hashes of all records, joined by newlines
ALL = "1599ce8f1346d8840828ff021a02f7d3b2a4f84baa114ff6c51f6915524a8e79"


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
    assert len(hashes) == 320
    assert hashlib.sha256("\n".join(sorted(hashes.values())).encode()).hexdigest() == ALL


def test_the_page_of_runs_counts_the_folders_that_there_are(records):
    folder, hashes = records
    there = Counter(path.split("/")[1] for path in hashes)
    names = [path.split("/")[2] for path in hashes if path.startswith("results/sets/")]
    cards = sum(bool(re.search(r"-card-\w+$", name)) for name in names)
    lines = re.findall(r"^\| `(\w+)` \| (.*) \|$", (folder / "README.md").read_text(encoding="utf-8"), re.M)
    scales = {scale: text for scale, text in lines if scale in ("paper", "digits", "cross", "sets", "short")}
    assert len(scales) == 5
    counts = {scale: [int(n) for n in re.findall(r"\b(\d+) runs\b", text)] for scale, text in scales.items()}
    assert counts == {**{scale: [] for scale in scales}, "sets": [there["sets"]]}
    assert f"{there['sets'] - cards} label sets" in scales["sets"] and f"{cards} cards" in scales["sets"]
    assert ("empty so far" in scales["short"]) == (there["short"] == 0)
