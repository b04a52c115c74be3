"""Renders README.md from index.ipynb: its text and outputs as they stand, links made relative to the repository."""

import re
from pathlib import Path

import nbformat
from nbconvert import MarkdownExporter

HERE = Path(__file__).parent


def render() -> str:
    "The text of README.md."
    notebook = nbformat.read(HERE / "index.ipynb", as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code" and cell.source.startswith("#| echo: false"):
            cell.source = ""
    text, _ = MarkdownExporter().from_notebook_node(notebook)
    text = re.sub(r"```(python)?\n+```\n", "", text)  # what an emptied cell leaves
    text = re.sub(r"\]\((?!https?:|#)([^)]+)\)", relink, text)
    return "<!-- Rendered from nbs/index.ipynb by `make prepare`. -->\n\n" + re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def relink(match: re.Match) -> str:
    "A link of the notebook, seen from the repository's root."
    target = (HERE / match[1]).resolve().relative_to(HERE.parent.resolve())
    return f"]({target.as_posix()})"


if __name__ == "__main__":
    (HERE.parent / "README.md").write_text(render(), encoding="utf-8")
