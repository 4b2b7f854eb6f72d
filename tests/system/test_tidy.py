"""Rules of the source that no compiler checks. Needs nothing built."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent.parent
CODE = ("core", "fuse", "pymod", "tests", "scripts", ".ci")
TEXT = {".rs", ".py", ".pyi", ".toml", ".md", ".sh", ".ini", ""}
LINES = 600
TEST_LINES = 500
WIDTH = 120

# A layer may use itself and what stands before it; `object` and `lock` do not know each other.
LAYERS = {
    "raw": set(),
    "page": {"raw"},
    "heap": {"raw", "page"},
    "object": {"raw", "page", "heap"},
    "lock": {"raw", "page", "heap"},
    "store": {"raw", "page", "heap", "object", "lock"},
    "check": {"raw", "page", "heap", "object", "lock", "store"},
    "backup": {"raw", "page", "heap", "object", "lock", "store", "check"},
}
EVERYWHERE = {"ids", "error", "testing"}

# The only places where `unsafe` may stand (a folder stands for what is in it).
UNSAFE = (
    "core/src/raw/",
    "core/src/page/",
    "core/src/store/",
    "core/src/lock/",
    "core/tests/",
    "fuse/src/kernel/sys.rs",
    "pymod/src/python/ffi.rs",
)


def files(*suffixes: str) -> Iterator[tuple[Path, str]]:
    tops = [TOP / name for name in CODE]
    paths = [p for top in tops for p in sorted(top.rglob("*"))] + sorted(TOP.glob("*"))
    for path in paths:
        inside = path.relative_to(TOP).parts
        # Of a second working tree `.git` is a file.
        if not path.is_file() or path.suffix not in suffixes or path.name == ".git":
            continue
        if {"target", "__pycache__", "corpus"} & set(inside) or any(p.endswith(".egg-info") for p in inside):
            continue
        try:
            yield path, path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue


def rust() -> list[tuple[str, list[str]]]:
    return [(str(path.relative_to(TOP)), text.split("\n")) for path, text in files(".rs")]


def code_of(row: str) -> str:
    """A line of Rust without its comment and without what stands in quotes."""
    return re.sub(r'"(\\.|[^"\\])*"', '""', row).split("//")[0]


def test_every_file_says_what_it_owns() -> None:
    assert [name for name, rows in rust() if not rows[0].startswith("//!")] == []


def test_files_are_short() -> None:
    def most(name: str) -> int:
        return TEST_LINES if "/tests/" in name else LINES

    long = {name: len(rows) for name, rows in rust() if len(rows) > most(name)}
    assert long == {}


def test_lines_are_short() -> None:
    # What rustfmt does not break and nobody reads better broken: rows of tables, attributes, strings.
    unbroken = re.compile(r'^\s*(//[/!] \||#\[)|"[^"]{40,}')
    long = [
        f"{name}:{n}"
        for name, rows in rust()
        for n, row in enumerate(rows, 1)
        if len(row) > WIDTH and not unbroken.search(row)
    ]
    assert long == []


def test_layers_import_downward_only() -> None:
    wrong = []
    for name, rows in rust():
        parts = Path(name).parts
        if parts[:2] != ("core", "src") or len(parts) < 3:
            continue
        layer = parts[2].removesuffix(".rs")
        if layer not in LAYERS:
            continue
        allowed = LAYERS[layer] | {layer} | EVERYWHERE
        for n, row in enumerate(rows, 1):
            for used in re.findall(r"\bcrate::(\w+)", code_of(row)):
                if used not in allowed and used in {*LAYERS}:
                    wrong.append(f"{name}:{n}: {layer} uses {used}")
            for group in re.findall(r"\buse crate::\{([^}]*)", code_of(row)):
                used_in = {part.strip().split("::")[0] for part in group.split(",")}
                wrong += [f"{name}:{n}: {layer} uses {u}" for u in used_in & {*LAYERS} - allowed]
    assert wrong == []


def test_doors_see_only_the_store() -> None:
    wrong = []
    for name, rows in rust():
        if not name.startswith(("fuse/src", "pymod/src")):
            continue
        for n, row in enumerate(rows, 1):
            for used in re.findall(r"\bpersist_core::(\w+)", code_of(row)):
                if used not in {"store", "Error", "Result"}:
                    wrong.append(f"{name}:{n}: {used}")
    assert wrong == []


def test_unsafe_stays_where_it_belongs() -> None:
    wrong = [
        f"{name}:{n}"
        for name, rows in rust()
        if not name.startswith(UNSAFE)
        for n, row in enumerate(rows, 1)
        if re.search(r"\bunsafe\b", code_of(row)) and "unsafe_code" not in row
    ]
    assert wrong == []


def test_nothing_is_left_to_do() -> None:
    mark = re.compile(r"\b(?:todo|unimplemented)!|\b(?:TODO|FIXME|XXX)\b")
    wrong = [
        f"{path.relative_to(TOP)}:{n}"
        for path, text in files(*TEXT)
        if path.name != Path(__file__).name
        for n, row in enumerate(text.split("\n"), 1)
        if mark.search(row) and "XXXXXX" not in row
    ]
    assert wrong == []


def test_no_paths_of_one_machine() -> None:
    mark = re.compile(r"/(?:home|Users|work)/\w|/root/\.")
    wrong = [
        f"{path.relative_to(TOP)}:{n}"
        for path, text in files(*TEXT)
        if path.name != Path(__file__).name
        for n, row in enumerate(text.split("\n"), 1)
        if mark.search(row)
    ]
    assert wrong == []
