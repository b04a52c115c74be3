"""What the committed records say about each of the paper's numbers: value, verdict and the record that it was read from.

`python tests/test_verdicts.py` prints the table anew. Only `findings` knows how records are gathered.
"""

import csv
import hashlib
import json
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]
RUNS = ROOT / "papermill_runs"
GOLDEN = Path(__file__).with_name("verdicts.csv")
HEADER = ["exhibit", "section", "row", "column", "paper", "ours", "tolerance", "verdict", "record"]


def findings():
    "A line for each number; records by the SHA-256 of their content, so that they may be moved."
    from labeldistill.reproduce.compare import compare

    results = RUNS / "results"
    for cell, ours, tolerance, verdict in compare(results, "paper"):
        record = cell.run and cell.run.folder(results) / "result.json"
        digest = hashlib.sha256(record.read_bytes()).hexdigest()[:16] if record and record.is_file() else ""
        numbers = ("" if number is None else f"{number:.6g}" for number in (cell.mean, ours and ours.mean, tolerance))
        yield [cell.table, cell.section or "nan", cell.row, cell.column, *numbers, verdict, digest]


def test_every_number_has_the_value_verdict_and_record_it_always_had():
    with GOLDEN.open(newline="", encoding="utf-8") as file:
        header, *lines = csv.reader(file)
    assert header == HEADER and len(lines) == 456
    assert sorted([str(x) for x in line] for line in findings()) == sorted(lines)


def test_every_measured_number_leads_to_a_record():
    with GOLDEN.open(newline="", encoding="utf-8") as file:
        lines = [*csv.DictReader(file)]
    assert all(line["record"] for line in lines if line["ours"])
    assert Counter(line["verdict"] for line in lines) == {
        **{"reproduced": 52, "better": 27, "worse": 10},
        **{"quoted": 4, "time": 5, "not run": 358},
    }


def test_the_committed_list_of_verdicts_says_the_same():
    with GOLDEN.open(newline="", encoding="utf-8") as golden, (RUNS / "verdicts.csv").open(newline="", encoding="utf-8") as file:
        pairs = [*zip(csv.DictReader(golden), csv.DictReader(file), strict=True)]
    assert len(pairs) == 456
    for old, new in pairs:
        row = old["row"] if old["section"] == "nan" else f"{old['section']}: {old['row']}"
        place = (old["exhibit"], row, old["column"])
        assert (new["exhibit"], new["row"], new["column"]) == place
        assert (new["paper"], new["ours"], new["verdict"]) == (old["paper"], old["ours"], old["verdict"])
        digests = [hashlib.sha256((RUNS / path).read_bytes()).hexdigest()[:16] for path in new["record"].split()]
        assert digests == ([old["record"]] if old["record"] else []), place


def test_the_page_of_deviations_lists_every_number_beyond_the_rule():
    (page,) = (path for path in (ROOT / "nbs").rglob("deviations.ipynb") if ".ipynb_checkpoints" not in path.parts)
    outputs = [output for cell in json.loads(page.read_text(encoding="utf-8"))["cells"] for output in cell.get("outputs", [])]
    text = "".join("".join(output.get("data", {}).get("text/html", "")) for output in outputs)
    assert Counter(verdict for verdict in ("better", "worse") for _ in range(text.count(f"<td>{verdict}</td>"))) == {
        **{"better": 27, "worse": 10},
    }


if __name__ == "__main__":
    csv.writer(sys.stdout, lineterminator="\n").writerows([HEADER, *findings()])
