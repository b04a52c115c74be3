"""Renews what is committed of the results: the pages of nbs/results, verdicts.csv, and the table on the home page."""

from pathlib import Path
from statistics import median

import nbformat

from labeldistill import InputError
from labeldistill.reproduce.compare import by_source, compare, picked, pooled
from labeldistill.reproduce.exhibits import exhibit_runs
from labeldistill.reproduce.records import read_record
from labeldistill.reproduce.render import NOT_RUN, Entry, Table, as_text, execute_page, read_pages, write_notebook, write_verdicts
from labeldistill.reproduce.runs import Done, finished

BEGIN, END = "<!-- results: made by `make results` -->", "<!-- results: end -->"
CALLS = {  # how the label sources are called
    **{"True labels": "`true_labels(task)`", "Label smoothing": "`true_labels(task, smoothing=0.1)`"},
    **{"Expert": "`Expert()`", "Three experts": "`Expert(ensemble=3)`"},
    **{"LD": "`SecondOrder()` (LD)", "LD RR": "`Ridge()` (LD RR)"},
    **{"Unrolled": "`Unrolled()`", "Unrolled from expert": "`Unrolled(init=Expert())`"},
}


def pooled_entry(group: list[Done]) -> Entry:  # group: base sets of one label source and number of images
    "Accuracy over all students of all base sets; the link leads to the first base set."
    return Entry(as_text(*pooled(group)[:2]), group[0].folder) if group else NOT_RUN


def minutes_entry(group: list[Done]) -> Entry:
    "Minutes of a run, median of the base sets."
    seconds = [read_record(done.folder).facts["seconds"] for done in group]
    return Entry(f"{median(seconds) / 60:.0f}") if seconds else NOT_RUN


def which_method(results: Path, scale: str = "paper") -> Table:
    "Accuracy for each label source and number of images, in bold what the validation part picks, and minutes with 100 images."
    runs, rows = finished(exhibit_runs("tableA1", scale), results), {}
    groups, counts = by_source(runs), sorted({count for _, count, _ in runs})
    best = {(found[0], count) for count in counts if (found := picked(runs, count))}
    for source, call in CALLS.items():
        entries = {(source, count): pooled_entry(groups.get((source, count), [])) for count in counts}
        cells = [(entry._replace(text=f"**{entry.text}**") if key in best else entry,) for key, entry in entries.items()]
        rows["", call] = [*cells, (minutes_entry(groups.get((source, counts[-2]), [])),)]
    return Table("labels", [*(f"{count} images" for count in counts), "minutes"], rows)


def renew_home(
    path: Path,  # index.ipynb
    results: Path,  # folder of all results
) -> None:
    "Renew the table between the markers of the home page. Raises `InputError` if there are none."
    home, block = nbformat.read(path, 4), f"{BEGIN}\n\n{which_method(results).markdown(path.parent)}\n\n{END}"
    for cell in home.cells:
        before, begin, rest = cell.source.partition(BEGIN)
        _, end, after = rest.partition(END)
        if begin and end:
            cell.source = before + block + after
            return write_notebook(path, home)
    raise InputError(f"'{path}' has no place for the table of results: expected a line '{BEGIN}' and a line '{END}'")


def renew(root: Path) -> None:  # root: of the repository
    "Execute the pages in place; renew verdicts.csv and the table on the home page."
    source, results = root / "nbs" / "results", root / "papermill_runs" / "results"
    for name, notebook in read_pages(source).items():
        write_notebook(source / f"{name}.ipynb", execute_page(notebook, source))
    write_verdicts(results.parent / "verdicts.csv", compare(results, "paper"), results)
    renew_home(root / "nbs" / "index.ipynb", results)


if __name__ == "__main__":
    renew(Path(__file__).parents[1])
