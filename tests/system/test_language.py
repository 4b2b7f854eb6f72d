"""Plain English for users: documents, messages, help texts, docstrings. Needs nothing built.

The list contains banned phrases, and their replacements. The glossary of ARCHITECTURE.md explains technical terms.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_tidy import TOP

BANNED = {
    r"\blet(s|ting)? go of\b": "deletes, releases, closes",
    r"\bletting go\b": "releasing",
    r"\banew\b": "again",
    r"\b(whoever|nobody|somebody|everybody|everyone)\b": "a process, another process, no process, all processes",
    r"\bwhom?\b": "that, which; name the process, thread, task or waiter",
    r"\bas many (\w+ )?as (you )?like\b": "any number of",
    # "there is no x" and "is no longer" are plain.
    r"(?<!there )\bis no (?!longer\b|more than\b|room\b)\w+": "is not a",
    r"\btend(s|ed|ing)? (it|to it|a store)\b": "maintains",
    r"\b(bury|buries|buried|burial)\b": "recover, recovery",
    r"\bmeanwhile\b": "during this, in the same time",
    r"\bwholly\b": "completely",
    r"\bclos(e|es|ed|ing) a circle\b": "would deadlock",
    r"\bcircle of (waiters|locks)\b": "deadlock",
    r"\bat work\b": "active, busy",
    r"\bin vain\b": "without success",
    r"\bin silence\b": "silently",
    r"\bthe long way\b|\bthe short way\b": "slow path, fast path",
    r"\btells? the story\b": "describes",
    r"\bis not asked twice\b": "avoid a second",
    r"\bstands? in the way\b": "blocks, delays",
}
PHRASES = [(re.compile(pattern, re.IGNORECASE), instead) for pattern, instead in BANNED.items()]

# Words that no name contains, whole or as a part between underscores or capitals. In text, some of them are plain.
BANNED_IN_NAMES = {
    r"\b(settle[sd]?|unsettled)\b": "finish, wait, free_if_unused",
    r"\b(lone|alone)\b": "single, exclusive",
    r"\bis there\b": "exists, is_present",
    r"\bstands\b": "exists, is_stopped, remains",
    r"\b(are|is) no\b(?! longer\b)": "is_not",
    r"\bcircles?\b": "cycle, deadlock",
    r"\bhold(s)? up\b": "block, delay",
    r"\b(am|are|is|was) told\b": "reports, gets, is_distinguished",
    r"\bleft ?overs?\b": "stale",
    r"\b(glance|breaths?|breathe|patience|doom|look after|dealt|way back)\b": "the field's term",
    r"\bphys\b": "physical page",
    r"\bkids?\b": "child",
    r"\blets? go\b": "drop, close, release",
    r"\bgo(es)? on\b": "continue, resume",
}
NAMES = [(re.compile(pattern), instead) for pattern, instead in (*BANNED.items(), *BANNED_IN_NAMES.items())]

DOCUMENTS = [*sorted(TOP.glob("*.md")), *sorted((TOP / "docs").rglob("*.md"))]
STUBS = sorted((TOP / "pymod" / "python").rglob("*.py*"))
SOURCES = [
    path
    for folder in ("core/src", "fuse/src", "pymod/src")
    for path in sorted((TOP / folder).rglob("*.rs"))
    if "tests" not in path.parts and path.name not in ("tests.rs", "testing.rs")
]


def complaints(path: Path, line: int, text: str) -> Iterator[str]:
    plain = " ".join(text.split())
    for pattern, instead in PHRASES:
        found = pattern.search(plain)
        if found:
            yield f"{path.relative_to(TOP)}:{line}: {found[0]!r} (say: {instead}): {plain[:100]}"


def messages(source: str) -> Iterator[tuple[int, str]]:
    """Return the string literals of Rust that are longer than a word, and their lines; not those of unit tests."""
    code = source.split("#[cfg(test)]\nmod ")[0]
    # A comment ends with its line; `//` inside a literal follows a colon or a quote.
    code = re.sub(r"(?m)(?<![:\"])//.*$", "", code)
    for found in re.finditer(r'"((?:\\.|[^"\\])*)"', code, re.DOTALL):
        text = re.sub(r"\\\n\s*", "", found[1])
        if " " in text:
            yield code.count("\n", 0, found.start()) + 1, text


def shown_comments(path: Path, source: str) -> Iterator[tuple[int, str]]:
    """Return comments that become help texts (clap) or docstrings (PyO3)."""
    block: list[str] = []
    clap = path.parent.name == "persist"
    inside_methods = False
    for n, row in enumerate(source.split("\n"), 1):
        bare = row.strip()
        if bare.startswith("///"):
            block.append(bare[3:].strip())
            continue
        if bare.startswith(("#[pymethods]", "#[pyfunction]", "#[pyclass")):
            inside_methods = bare.startswith("#[pymethods]") or inside_methods
            if block and not bare.startswith("#[pymethods]"):
                yield n, " ".join(block)
        if block and not bare.startswith("#["):
            if clap or inside_methods:
                yield n, " ".join(block)
            block = []
        if row == "}":
            inside_methods = False


def comments(source: str) -> Iterator[tuple[int, str]]:
    """Return the blocks of comment lines of Rust, and the line in which each begins."""
    block: list[str] = []
    for n, row in enumerate([*source.split("\n"), ""], 1):
        found = re.match(r"\s*//[/!]?\s?(.*)", row)
        if found:
            block.append(found[1])
        elif block:
            yield n - len(block), " ".join(block)
            block = []


def names(path: Path) -> Iterator[tuple[int, str]]:
    """Return what a source file defines (modules, types, functions, constants), and the line of each."""
    rust = r"\b(?:fn|struct|enum|trait|mod|const|static|type|union|macro_rules!)\s+(?:mut\s+)?([A-Za-z_]\w+)"
    python = r"^\s*(?:async )?(?:def|class)\s+(\w+)|^([A-Z_]{3,})\b[^=\n]*="
    pattern = re.compile(rust if path.suffix == ".rs" else python)
    for n, row in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
        for found in pattern.finditer(row.split("//")[0]):
            yield n, found[1] or found[2]


def wrong_names(path: Path, line: int, name: str) -> Iterator[str]:
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower().replace("_", " ").strip()
    for pattern, instead in NAMES:
        found = pattern.search(words)
        if found:
            yield f"{path.relative_to(TOP)}:{line}: {name} has {found[0]!r} (say: {instead})"


def by_line(paths: list[Path]) -> list[str]:
    rows = ((path, n, row) for path in paths for n, row in enumerate(path.read_text().split("\n"), 1))
    return [c for path, n, row in rows for c in complaints(path, n, row)]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: str(p.relative_to(TOP)))
def test_documents(path: Path) -> None:
    paragraphs = re.split(r"(\n\s*\n|\n(?=[-|]))", path.read_text(encoding="utf-8"))
    line, wrong = 1, []
    for text in paragraphs:
        wrong += complaints(path, line, text)
        line += text.count("\n")
    assert wrong == []


def test_messages() -> None:
    tests = sorted((TOP / "core" / "tests").rglob("*.rs"))
    assert len(SOURCES) > 200 and len(tests) > 80
    paths = [*SOURCES, *tests]
    wrong = [c for path in paths for n, text in messages(path.read_text()) for c in complaints(path, n, text)]
    assert wrong == []


def test_comments() -> None:
    tops = (TOP / "core", TOP / "fuse", TOP / "pymod")
    paths = [p for top in tops for p in sorted(top.rglob("*.rs")) if "target" not in p.parts]
    assert len(paths) > 400
    wrong = [c for path in paths for n, text in comments(path.read_text()) for c in complaints(path, n, text)]
    assert wrong == []


def test_help_texts_and_docstrings() -> None:
    commands = [p for p in SOURCES if "bin" in p.parts or "pymod" in p.parts]
    assert len(commands) > 40 and len(STUBS) > 2
    wrong = [
        c for path in commands for n, text in shown_comments(path, path.read_text()) for c in complaints(path, n, text)
    ]
    assert wrong + by_line(STUBS) == []


def test_scripts_say_it_plainly() -> None:
    scripts = [p for p in sorted((TOP / "scripts").rglob("*")) if p.is_file() and "__pycache__" not in p.parts]
    assert len(scripts) >= 30
    assert by_line(scripts) == []


def test_tests_say_it_plainly() -> None:
    """Names, docstrings, comments and messages of the tests in Python; Rust's are among the comments above."""
    paths = [p for top in ("tests", "docs") for p in sorted((TOP / top).rglob("*.py")) if p != Path(__file__)]
    assert len(paths) > 90
    assert by_line(paths) == []


def test_names_are_the_terms_of_the_field() -> None:
    """Modules, types, functions, constants, tests and files avoid the banned words too."""
    tops = [TOP / name for name in ("core", "fuse", "pymod", "tests", "scripts", "docs")]
    paths = [
        p
        for top in tops
        for p in sorted(top.rglob("*"))
        if p.suffix in (".rs", ".py", ".pyi") and not {"target", "cases.egg-info"} & set(p.parts)
    ]
    assert len(paths) > 400
    defined = [(path, n, name) for path in paths for n, name in names(path)]
    defined += [(path, 1, path.stem) for path in paths]
    assert [c for path, n, name in defined for c in wrong_names(path, n, name)] == []


def test_the_search_finds_what_it_looks_for() -> None:
    source = 'let a = "somebody is \\\n    here"; // nobody\nlet b = "http://x y";\n'
    source += '#[cfg(test)]\nmod tests { "nobody is" }'
    assert list(messages(source)) == [(1, "somebody is here"), (3, "http://x y")]
    for text in ("x is no directory", "made anew", "as many processes as like", "tends it", "is buried", "lets go of"):
        assert list(complaints(TOP / "x", 1, text)), text
    for text in ("there is no snapshot", "it is no longer held", "there is none"):
        assert not list(complaints(TOP / "x", 1, text)), text
    assert list(comments("//! made\n//! anew\nfn a() {}\n    // b\n")) == [(1, "made anew"), (4, "b")]
    for name in ("who_waits", "settle_hold", "SettleMode", "CLOSE_ALONE", "is_there", "is_buried", "a_latch_let_go"):
        assert list(wrong_names(TOP / "x", 1, name)), name
    for name in ("is_no_longer_used", "whole", "finish_hold", "standing", "circular"):
        assert not list(wrong_names(TOP / "x", 1, name)), name
    clap = TOP / "core/src/bin/persist/main.rs"
    assert list(shown_comments(clap, "/// Let go of it.\nstore: PathBuf,\n")) == [(2, "Let go of it.")]
    pymod = TOP / "pymod/src/dict.rs"
    methods = "#[pymethods]\nimpl D {\n    /// A.\n    fn a() {}\n}\n/// B.\nfn b() {}\n"
    assert list(shown_comments(pymod, methods)) == [(4, "A.")]
