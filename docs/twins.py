"""Writes a Markdown twin beside each page, and llms.txt, which lists them."""

import re
from pathlib import Path

import nbformat
from nbconvert import MarkdownExporter
from stage import FOLDERS, Page

CARD = re.compile(
    r"::::\{grid-item-card\} (.+)\n:link: /(.+)\n(?::.*\n)*\n(?::::\{card-header\}\n```text\n[^`]*```\n:::\n)?(.*)\n::::"
)
DIRECTIVE = re.compile(r"\A---\n.*?^---$|^(`{3,}|:{3,})\{(?:toctree|py:\w+)\}.*?^\1$\n*", re.MULTILINE | re.DOTALL)


def from_notebook(file: Path, twin: Path) -> str:
    "A notebook as Markdown, with its pictures in a folder beside it."
    notebook = nbformat.read(file, as_version=4)
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            output.get("data", {}).pop("text/html", None)  # the same stands there as text
    text, resources = MarkdownExporter().from_notebook_node(notebook, resources={"output_files_dir": f"{twin.stem}_files"})
    for name, picture in resources["outputs"].items():
        (twin.parent / name).parent.mkdir(exist_ok=True)
        (twin.parent / name).write_bytes(picture)
    return text


def plain(text: str, depth: int) -> str:
    "Markdown without Sphinx's directives: cards as a list, links to twins."
    text = CARD.sub(lambda card: f"- [{card[1]}]({'../' * depth}{card[2]}.md): {card[3]}", text)
    text = DIRECTIVE.sub("", re.sub(r"^:::::.*\n?(:gutter.*\n)?", "", text, flags=re.MULTILINE))
    text = re.sub(r"(\]\((?!\w+:)[^)\s]+)\.ipynb(#[^)]*)?\)", r"\1.md\2)", text)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def write(source: Path, site: Path, pages: list[Page], head: str) -> None:
    "Write the twin of each page that Sphinx read, and llms.txt, which begins with `head`."
    found: dict[str, list[str]] = {}
    said = {page.name: page.subtitle for page in pages}
    files = {
        file.relative_to(source).with_suffix("").as_posix(): file
        for file in source.rglob("*")
        if file.suffix in (".ipynb", ".md")
    }
    names = [page.name for page in pages]
    for name in [*names, *sorted({*files} - {*names})]:
        file = files[name]
        twin = site / f"{name}.md"
        text = plain(from_notebook(file, twin) if file.suffix == ".ipynb" else file.read_text("utf-8"), name.count("/"))
        twin.write_text(text, encoding="utf-8")
        title = re.search(r"^# (.+)$", text, re.MULTILINE)[1]
        folder = FOLDERS.get(name.split("/")[0], ("API" if name.startswith("api/") else "Pages",))[0]
        found.setdefault(folder, []).append(f"- [{title}]({name}.md)" + (f": {said[name]}" if said.get(name) else ""))
    sections = "\n\n".join(f"## {folder}\n\n" + "\n".join(lines) for folder, lines in found.items())
    (site / "llms.txt").write_text(f"{head}\n\n{sections}\n", encoding="utf-8")
