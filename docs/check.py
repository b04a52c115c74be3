"""Finds dead links, in the site and in the repository's own pages, and whatever a page would fetch from elsewhere."""

import re
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

FETCHED = {("img", "src"), ("script", "src"), ("link", "href"), ("iframe", "src"), ("source", "src"), ("video", "src")}


class References(HTMLParser):
    "The anchors of a page, where its links go, and what it fetches."

    def __init__(self, text: str):
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for key, value in attrs:
            if key in ("id", "name") and value:
                self.anchors.add(value)
            elif (tag, key) in FETCHED and value and dict(attrs).get("rel") not in ("canonical", "alternate"):
                self.fetched.append(value)
            elif key == "href" and value:
                self.links.append(value)


@cache
def references(page: Path) -> References:
    "What a page of the site refers to."
    return References(page.read_text(encoding="utf-8"))


def is_dead(link: str, page: Path) -> bool:
    "Whether a link of a page leads nowhere within the site. Links to elsewhere are not followed."
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return False
    target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
    if not target.is_file():
        return True
    anchored = parts.fragment and target.suffix == ".html" and not parts.query
    return bool(anchored) and unquote(parts.fragment) not in references(target).anchors


def slugs(text: str) -> set[str]:
    "The anchors of a Markdown page's headings."
    return {
        re.sub(r"[^\w-]", "", line.strip().lower().replace(" ", "-")) for line in re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    }


def dead_markdown(page: Path) -> list[str]:
    "The dead links of a Markdown page of the repository or of the site."
    text = page.read_text(encoding="utf-8")
    prose = re.sub(r"```.*?```|^    .*$|`[^`\n]*`", "", text, flags=re.DOTALL | re.MULTILINE)  # no code
    dead = []
    for link in re.findall(r"\]\((?!\w+:)([^)\s]+)\)", prose):
        place, _, anchor = link.partition("#")
        target = page.parent / unquote(place) if place else page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in slugs(target.read_text(encoding="utf-8"))):
            dead.append(link)
    return dead


def faults(site: Path, root: Path) -> list[str]:
    "One line for each dead link, and for each thing that a page would fetch from elsewhere."
    pages = sorted(site.rglob("*.html"))
    found = [
        f"{page.relative_to(site)}: dead link {link}" for page in pages for link in references(page).links if is_dead(link, page)
    ]
    fetched = [(page, link) for page in pages for link in references(page).fetched if not link.startswith("data:")]
    found += [
        f"{page.relative_to(site)}: fetches {link}" for page, link in fetched if urlsplit(link).netloc or is_dead(link, page)
    ]
    for style in site.rglob("*.css"):
        links = re.findall(r"url\([\"']?((?:https?:)?//[^)\"']+)", style.read_text(encoding="utf-8"))
        found += [f"{style.relative_to(site)}: fetches {link}" for link in links]
    for page in [*root.glob("*.md"), *(root / "papermill_runs").glob("*.md")]:
        found += [f"{page.relative_to(root)}: dead link {link}" for link in dead_markdown(page)]
    found += [
        f"{page.relative_to(site)}: dead link {link}" for page in sorted(site.rglob("*.md")) for link in dead_markdown(page)
    ]
    return found
