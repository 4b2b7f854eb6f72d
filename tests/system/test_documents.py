"""The documents name existing things: paths, functions, links. Needs nothing built."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
DECISIONS = TOP / "docs" / "decisions"
DOCUMENTS = [TOP / "README.md", TOP / "ARCHITECTURE.md", TOP / "CONTRIBUTING.md", *sorted((TOP / "docs").rglob("*.md"))]
# The beginnings of paths in backticks.
PATH = re.compile(r"^(?:core|fuse|pymod|tests|scripts|examples|docs|\.ci)(?:/[\w.*-]+)+/?$")
SECTIONS = {"Context", "Decision", "Figures", "Alternatives", "Consequences"}


def quoted(text: str) -> Iterator[tuple[int, str]]:
    """Return the texts in backticks, outside blocks of code, with their lines."""
    inside = False
    for n, row in enumerate(text.split("\n"), 1):
        if row.startswith("```"):
            inside = not inside
        elif not inside:
            yield from ((n, found) for found in re.findall(r"`([^`]+)`", row))


def test_every_path_exists() -> None:
    named = [
        (f"{document.relative_to(TOP)}:{n}: {name}", name)
        for document in DOCUMENTS
        for n, name in quoted(document.read_text(encoding="utf-8"))
        if PATH.match(name) and "*" not in name
    ]
    assert len(named) > 200
    assert [place for place, name in named if not (TOP / name).exists()] == []


def test_every_link_leads_somewhere() -> None:
    links = [
        (document, target)
        for document in DOCUMENTS
        for target in re.findall(r"\]\(([^)#]+)\)", document.read_text(encoding="utf-8"))
        if "://" not in target
    ]
    assert len(links) > 50
    missing = [f"{document.name}: {target}" for document, target in links if not (document.parent / target).exists()]
    assert missing == []


def test_the_traced_functions_are_where_the_map_says() -> None:
    rows = re.findall(r"^\| \d+ \| `([^`]+)` \| ([^|]+) \|", (TOP / "ARCHITECTURE.md").read_text(), re.MULTILINE)
    assert len(rows) > 15
    missing = [
        f"{file}: {name}"
        for file, names in rows
        for name in re.findall(r"`(\w+)`", names)
        if not (TOP / file).is_file() or not re.search(rf"\bfn {name}\b", (TOP / file).read_text(encoding="utf-8"))
    ]
    assert missing == []


def test_the_map_is_short() -> None:
    assert len((TOP / "ARCHITECTURE.md").read_text().splitlines()) <= 250


def test_decisions_have_one_form_and_are_listed() -> None:
    pages = sorted(DECISIONS.glob("[0-9]*.md"))
    index = (DECISIONS / "README.md").read_text(encoding="utf-8")
    assert len(pages) > 40
    wrong = []
    for number, page in enumerate(pages, 1):
        text = page.read_text(encoding="utf-8")
        title = text.split("\n", 1)[0]
        headings = re.findall(r"^## (.*)$", text, re.MULTILINE)
        if not page.name.startswith(f"{number:03}-") or not title.startswith(f"# {number:03}. "):
            wrong.append(f"{page.name}: its number")
        if not {"Context", "Decision", "Consequences"} <= set(headings) <= SECTIONS:
            wrong.append(f"{page.name}: {headings}")
        if f"]({page.name}) | {title[7:]} |" not in index:
            wrong.append(f"{page.name}: not in the index")
        if len(text.splitlines()) > 45:
            wrong.append(f"{page.name}: longer than half a page")
    assert wrong == []
