"""Lays out the repository's notebooks and pages for Sphinx: links resolved, hidden cells dropped, one index for each folder."""

import base64
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import nbformat
from nbformat import NotebookNode, v4

ROOT = Path(__file__).parents[1]
NBS = ROOT / "nbs"

# The order of reading. Notebooks of a folder that are not named follow in alphabetical order.
FOLDERS = {
    "tutorials": ("Tutorials", "Start here. Each page is a notebook that was run; you can run it too."),
    "core": ("Core", "What you write and what you get. In this book, cells with a blue edge make up the package."),
    "data": ("Data", "Data sets known by name, your own folders and arrays, downloads, and the choice of base examples."),
    "networks": ("Networks", "The networks that learn from labels, their functional form, devices and precision."),
    "training": ("Training", "How students are trained and tested, the ridge layer, and the choice of images."),
    "methods": ("Methods", "Label gradients in closed form, optimizers, resets, and the methods that are built from them."),
    "reproduce": ("Reproduce", "Records, runs, budgets, and the exhibits of the paper."),
    "experiments": ("Experiments", "One notebook for each kind of run, with its parameters. `labeldistill reproduce` runs them."),
    "results": ("Results", "The paper's numbers beside ours, each with its record."),
}
FIRST = {
    "tutorials": "quickstart which_method own_data own_network own_method use_the_labels data_cards determinism",
    "results": "head_to_head better_labels claims within_data_set cross_data_set soft_labels images_against_labels flexibility",
}
PAGES = ["CONTRIBUTING.md", "CHANGELOG.md", "papermill_runs/README.md"]
TREE = {  # captions of the sidebar
    "Try it": ["tutorials/quickstart", "tutorials/which_method"],
    "Tutorials": ["tutorials/index"],
    "Book": [f"{folder}/index" for folder in ("core", "data", "networks", "training", "methods", "reproduce", "experiments")],
    "Results": ["results/index", "papermill_runs/README"],
    "API": ["api/index"],
    "FAQ": ["tutorials/faq", "CONTRIBUTING", "CHANGELOG"],
}


class DeadLink(Exception):
    "A link to something that the repository does not have."


class Page(NamedTuple):
    "A notebook of the site."

    path: Path  # in the repository
    name: str  # on the site, without suffix
    title: str
    subtitle: str
    notebook: NotebookNode  # as it is shown


def staged(target: Path) -> str | None:
    "Where a file or folder of the repository is on the site, relative to its top. None: nowhere."
    if target.is_relative_to(NBS) and target != NBS:
        inside = target.relative_to(NBS).as_posix()
        return f"{inside}/index.md" if target.is_dir() else inside
    return "index.ipynb" if target == ROOT / "README.md" else target.relative_to(ROOT).as_posix() if target.is_file() else None


def slug(anchor: str) -> str:
    "The anchor of a heading, as MyST makes it from Jupyter's."
    return re.sub(r"[^\w-]", "", anchor.lower())


def relink(text: str, path: Path, used: set[Path]) -> str:
    "Markdown with its links as they are on the site. Raises `DeadLink`."

    def link(match: re.Match) -> str:
        place, _, anchor = match[1].partition("#")
        target = (path.parent / place).resolve() if place else path
        where = staged(target) if target.exists() and target.is_relative_to(ROOT) else None
        if where is None:
            raise DeadLink(f"{path.relative_to(ROOT)}: {match[1]}")
        used.add(target)
        up = "../" * staged(path).count("/") if place else ""
        return f"]({up + where if place else ''}{'#' + slug(anchor) if anchor else ''})"

    return re.sub(r"\]\((?!\w+:)([^)\s]+)\)", link, text)


def show(cell: NotebookNode) -> NotebookNode | None:
    "A cell as readers see it, without nbdev's directives. None: hidden."
    directives = re.findall(r"^#\| *(.*?)\n?$", cell.source, re.MULTILINE) if cell.cell_type == "code" else []
    if any(directive.startswith(("hide", "default_exp")) for directive in directives):
        return None
    cell.source = re.sub(r"^#\|.*\n?", "", cell.source, flags=re.MULTILINE)
    tags = {"export": "exported", "exporti": "exported", "echo: false": "remove-input"}
    cell.metadata.tags = [*cell.metadata.get("tags", []), *(tags[directive] for directive in directives if directive in tags)]
    return cell


def read(path: Path, used: set[Path]) -> Page:
    "A notebook as a page."
    notebook = nbformat.read(path, as_version=4)
    notebook.metadata = {"kernelspec": notebook.metadata.kernelspec, "language_info": {"name": "python"}}
    notebook.cells = [cell for cell in map(show, notebook.cells) if cell]
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = relink(cell.source, path, used)
        for output in cell.get("outputs", []):
            if "text/markdown" in output.get("data", {}):
                output.data["text/markdown"] = relink(output.data["text/markdown"], path, used)
    title, subtitle = re.match(r"# (.+)\n*(?:> (.+))?", notebook.cells[0].source).groups()
    return Page(path, path.relative_to(NBS).with_suffix("").as_posix(), title, subtitle or "", notebook)


def notebooks() -> Iterator[Path]:
    "Every notebook of the site, in reading order."
    yield NBS / "index.ipynb"
    for folder in FOLDERS:
        first = [NBS / folder / f"{name}.ipynb" for name in FIRST.get(folder, "").split()]
        yield from [*first, *sorted({*(NBS / folder).glob("*.ipynb")} - {*first})]
    yield NBS / "speed.ipynb"


def thumbnail(page: Page, source: Path) -> Path | None:
    "The page's first picture, in a file."
    for output in (output for cell in page.notebook.cells for output in cell.get("outputs", [])):
        if "image/png" in output.get("data", {}):
            file = source / "_thumbs" / f"{page.name}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(base64.b64decode(output.data["image/png"]))
            return file
    return None


def first_lines(page: Page) -> str:
    "The first lines that a page prints, else those of its first code."
    code = [cell for cell in page.notebook.cells if cell.cell_type == "code"]
    printed = [output.get("text") or output.get("data", {}).get("text/plain") for cell in code for output in cell.outputs]
    text = next(filter(None, printed), None) or next((cell.source for cell in code), "")
    return "\n".join(text.replace("`", "'").splitlines()[:9])


def grid(pages: list[Page], source: Path) -> str:
    "Cards that lead to pages."
    cards = []
    for page in pages:
        card = [f"::::{{grid-item-card}} {page.title}", f":link: /{page.name}", ":link-type: doc"]
        if thumbnail(page, source):
            card += [f":img-top: /_thumbs/{page.name}.png", f":img-alt: first picture of {page.title}", ""]
        else:
            card += ["", f":::{{card-header}}\n```text\n{first_lines(page)}\n```\n:::"]
        cards.append("\n".join([*card, page.subtitle, "::::"]))
    return "\n".join([":::::{grid} 1 2 3 3", ":gutter: 3", "", *cards, ":::::"])


def toctree(names: list[str], *options: str) -> str:
    "A hidden table of contents, for the sidebar."
    return "\n".join(["```{toctree}", ":hidden:", *options, "", *(f"/{name}" for name in names), "```", ""])


def index(folder: str, pages: list[Page], source: Path) -> str:
    "The page of a folder."
    title, text = FOLDERS[folder]
    return f"# {title}\n\n{text}\n\n{grid(pages, source)}\n\n{toctree([page.name for page in pages])}"


def copy(file: Path, to: Path) -> None:
    "Copy a file into folders that need not exist."
    to.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(file, to)


def stage(source: Path) -> tuple[list[Page], list[str]]:
    "Write the sources of the site; return its notebooks, and the other files that pages link to. Raises `DeadLink`."
    shutil.rmtree(source, ignore_errors=True)
    source.mkdir(parents=True)
    used: set[Path] = set()
    pages = [read(path, used) for path in notebooks()]
    for page in pages:
        if page.name == "index":
            trees = [toctree(names, f":caption: {caption}") for caption, names in TREE.items()]
            page.notebook.cells.append(v4.new_markdown_cell("\n".join(trees), id="tree"))
        file = source / f"{page.name}.ipynb"
        file.parent.mkdir(exist_ok=True)
        nbformat.write(page.notebook, file)
    for folder in FOLDERS:
        members = [page for page in pages if page.path.parent.name == folder]
        if folder == "tutorials":
            members = [page for page in members if page.path.stem not in ("quickstart", "which_method", "faq")]
        if folder == "results":
            members += [page for page in pages if page.name == "speed"]
        (source / folder / "index.md").write_text(index(folder, members, source), encoding="utf-8")
    for name in PAGES:
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).write_text(relink((ROOT / name).read_text(encoding="utf-8"), ROOT / name, used), encoding="utf-8")
    files = sorted({staged(target) for target in used if target.is_file() and target.suffix not in (".ipynb", ".md")})
    for name in files:
        copy(NBS / name if (NBS / name).exists() else ROOT / name, source / name)
    return pages, files
