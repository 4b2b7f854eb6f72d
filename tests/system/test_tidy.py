"""Rules of the source that no compiler checks. Needs nothing built."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rust_imports import Imports, Module

TOP = Path(__file__).resolve().parent.parent.parent
CODE = ("core", "fuse", "pymod", "tests", "scripts", "examples", ".ci")
TEXT = {".rs", ".py", ".pyi", ".toml", ".md", ".sh", ".ini", ""}
LINES = 500
WIDTH = 120
# The number of source files of one folder, which has one job.
FOLDER = 14

# A layer may use itself and earlier layers; `object` and `lock` do not depend on each other.
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

# The files that contain `unsafe`, and no others do: system calls and mapped memory, and the places of the page manager
# that know which pages no other thread writes.
UNSAFE = """
core/src/page/checkpoint/phases.rs
core/src/page/checkpoint/write_table.rs
core/src/page/format/image.rs
core/src/page/pages/cow.rs
core/src/page/pages/live_table.rs
core/src/page/recovery/replay.rs
core/src/page/redo/append.rs
core/src/page/section/in_place_store.rs
core/src/page/section/read.rs
core/src/page/section/write.rs
core/src/page/session/fork.rs
core/src/raw/boot.rs
core/src/raw/failpoint.rs
core/src/raw/fault.rs
core/src/raw/files/file.rs
core/src/raw/files/held.rs
core/src/raw/files/owner.rs
core/src/raw/files/place.rs
core/src/raw/files/unnamed.rs
core/src/raw/futex.rs
core/src/raw/map.rs
core/src/raw/map/tests.rs
core/src/raw/process.rs
core/tests/closing.rs
core/tests/descriptors.rs
core/tests/full_disk/main.rs
core/tests/hostile/worker.rs
core/tests/permissions/main.rs
core/tests/permissions/places.rs
core/tests/protocols/model.rs
core/tests/support/process.rs
core/tests/support/ptrace.rs
core/tests/support/sys.rs
core/tests/support/window.rs
fuse/src/kernel/lock_flags.rs
fuse/src/kernel/sys.rs
pymod/src/python/ffi.rs
""".split()


def files(*suffixes: str) -> Iterator[tuple[Path, str]]:
    tops = [TOP / name for name in CODE]
    paths = [p for top in tops for p in sorted(top.rglob("*"))] + sorted(TOP.glob("*"))
    for path in paths:
        inside = path.relative_to(TOP).parts
        # In a second working tree, `.git` is a file.
        if not path.is_file() or path.suffix not in suffixes or path.name == ".git":
            continue
        if {"target", "__pycache__", "corpus"} & set(inside) or any(p.endswith(".egg-info") for p in inside):
            continue
        try:
            yield path, path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue


def rust() -> list[tuple[str, list[str]]]:
    found = [(str(path.relative_to(TOP)), text.split("\n")) for path, text in files(".rs")]
    # A rule over no files would hold.
    assert len(found) > 400
    return found


def code_of(row: str) -> str:
    """Return a line of Rust without its comment and string literals."""
    return re.sub(r'"(\\.|[^"\\])*"', '""', row).split("//")[0]


def test_every_file_says_what_it_owns() -> None:
    assert [name for name, rows in rust() if not rows[0].startswith("//!")] == []


def test_files_are_short() -> None:
    code = {str(path.relative_to(TOP)): text.count("\n") for path, text in files(".rs", ".py", ".pyi", ".sh", "")}
    assert len(code) > 600
    # The text of a license is what it is.
    assert {name: lines for name, lines in code.items() if lines > LINES and name != "LICENSE"} == {}


def test_folders_are_small() -> None:
    folders = Counter(path.parent.relative_to(TOP) for top in CRATES.values() for path in (TOP / top).rglob("*.rs"))
    assert len(folders) > 50
    assert {str(folder): count for folder, count in folders.items() if count > FOLDER} == {}


def test_lines_are_short() -> None:
    # Lines that rustfmt does not break and that are more readable unbroken: rows of tables, attributes, strings.
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
        # A group, on one line or several.
        for group in re.findall(r"\bcrate::\{([^;]*);", "\n".join(map(code_of, rows))):
            used_in = set(re.findall(r"(?:^|[{,])\s*(\w+)", group))
            wrong += [f"{name}: {layer} uses {u}" for u in used_in & {*LAYERS} - allowed]
    assert wrong == []


# The crates whose files must not import each other in a cycle.
CRATES = {"core": "core/src", "fuse": "fuse/src", "pymod": "pymod/src"}
# The wings of `core/src/page`, from the lowest up; the first are the files of the folder itself.
WINGS = (
    "",
    "sync",
    "shared",
    "format",
    "pager",
    "pages",
    "redo",
    "section",
    "checkpoint",
    "durable",
    "recovery",
    "helper",
    "session",
)

# The folders of the interfaces, from the lowest up: a folder imports only folders before it.
FLOORS = {
    "fuse/src": ("kernel", "fs", "views", "protocol", "watch", "command"),
    "fuse/src/fs": ("error", "context", "text", "known", "tree", "requests"),
    "pymod/src": (
        *("python", "engine", "proxies", "values", "graphs", "locks", "watch", "dict", "list", "object", "store"),
        "wrapped",
    ),
}


def test_no_import_cycles_between_files() -> None:
    wrong = [
        (crate, cycle) for crate, sources in CRATES.items() for cycle in Imports(TOP / sources).cycles()
    ]
    assert wrong == []


def test_an_import_cycle_is_found(tmp_path: Path) -> None:
    """The check above detects cycles: each of these is one, except the last."""
    cases: list[tuple[dict[str, str], bool]] = [
        ({"a.rs": "use crate::b::B;", "b.rs": "use crate::a::A;"}, True),
        ({"a.rs": "use super::b::{B, C};", "b.rs": "fn f() { crate::a::f() }"}, True),
        ({"a/mod.rs": "pub mod b;\npub struct A;\nfn f() { b::f() }", "a/b.rs": "use super::A;"}, True),
        ({"a/mod.rs": "pub mod b;\npub use b::B;", "a/b.rs": "use super::c::C;", "a/c.rs": "use super::B;"}, True),
        ({"a/mod.rs": "pub mod b;\npub use b::B;\nuse crate::d::D;", "a/b.rs": "", "d.rs": "use crate::a::B;"}, False),
    ]
    for number, (content, expected) in enumerate(cases):
        top = tmp_path / str(number)
        for name, text in {"lib.rs": "", **content}.items():
            (top / name).parent.mkdir(parents=True, exist_ok=True)
            (top / name).write_text(text + "\n")
        assert bool(Imports(top).cycles()) == expected, content


def test_wings_import_downward_only() -> None:
    def wing(module: Module) -> int:
        return WINGS.index(module[1]) if len(module) > 1 and module[1] in WINGS else 0

    imports = Imports(TOP / "core/src")
    folders = {path.name for path in (TOP / "core/src/page").iterdir() if path.is_dir()}
    assert folders == set(WINGS[1:])
    wrong = [
        f"{'::'.join(module)} uses {'::'.join(used)}"
        for module, all_used in imports.edges.items()
        if module[:1] == ("page",) and len(module) > 1
        for used in sorted(all_used)
        if used[:1] == ("page",) and wing(used) > wing(module)
    ]
    assert wrong == []


def wing_of(name: str) -> int:
    """Return the height of the wing of a file, given by its path in `core/src/page`."""
    top = name.split("/")[0]
    return WINGS.index(top) if top in WINGS else 0


# The types that several wings add methods to, and the variables and fields that hold them.
PAGE_TYPES = {"Pager": "pager|held|still|other", "Shm": "shm"}
FS_TYPES = {"Fs": "fs|live"}


def upward_calls(
    files: list[tuple[str, str]], types: dict[str, str], height: Callable[[str], int]
) -> list[str]:
    """Return the calls of methods of these types that a file of a higher wing defines: no import shows them.

    A method is called on `self` in an `impl`, on a variable or field that holds a value of the type, or by its path.
    """
    wrong = []
    for kind, holders in types.items():
        blocks = {name: "\n".join(re.findall(rf"(?ms)^impl {kind} \{{\n(.*?)^\}}", code)) for name, code in files}
        method = re.compile(r"(?m)^    (?:pub(?:\([^)]*\))? )?fn (\w+)")
        defined = {fn: name for name, block in blocks.items() for fn in method.findall(block)}
        for name, code in files:
            called = set(re.findall(rf"\b(?:{holders})(?:\(\))?\s*\.\s*(\w+)\(", code))
            called |= set(re.findall(rf"\b{kind}::(\w+)\b", code))
            called |= set(re.findall(r"\bself\s*\.\s*(\w+)\(", blocks[name]))
            called |= set(re.findall(r"\bSelf::(\w+)\b", blocks[name]))
            wrong += [
                f"{name} calls {fn} of {defined[fn]}"
                for fn in sorted(called & set(defined))
                if height(defined[fn]) > height(name)
            ]
    return wrong


def calls_of_higher_wings(files: list[tuple[str, str]]) -> list[str]:
    return upward_calls(files, PAGE_TYPES, wing_of)


def height_in_fs(name: str) -> int:
    return FLOORS["fuse/src/fs"].index(name.split("/")[0].removesuffix(".rs"))


def test_folders_of_the_filesystem_call_downward_only() -> None:
    files = [(name, code) for name, code in code_files(TOP / "fuse/src/fs") if "/" in name]
    assert sum("impl Fs {" in code for _, code in files) > 20
    assert upward_calls(files, FS_TYPES, height_in_fs) == []
    wrong = ("tree/more.rs", "impl Fs {\n    fn f(&self) {\n        self.mkdir(1)\n    }\n}")
    assert upward_calls([*files, wrong], FS_TYPES, height_in_fs) != []


def test_wings_call_downward_only() -> None:
    files = [(name, code) for name, code in page_files() if "tests" not in name]
    assert sum("impl Pager {" in code for _, code in files) > 40
    assert sum("impl Shm {" in code for _, code in files) > 20
    assert calls_of_higher_wings(files) == []


@pytest.mark.parametrize(
    "code",
    [
        "impl Pager {\n    fn f(&self) {\n        self.checkpoint(wait)\n    }\n}",
        "fn f(pager: &Pager) {\n    pager\n        .checkpoint(wait)\n}",
        "fn f(section: &ReadSection) { section.pager().checkpoint(wait) }",
        "const F: fn(&Pager) = Pager::checkpoint;",
        "fn f(pager: &Pager) { pager.shm.forget_processes() }",
        "impl Shm {\n    fn f(&self) {\n        self.forget_processes()\n    }\n}",
    ],
)
def test_a_call_of_a_higher_wing_is_found(code: str) -> None:
    assert calls_of_higher_wings([*page_files(), ("section/more.rs", code)]) != []


# The parts of an open store (`pager::parts`) that only some wings use, with these wings.
PARTS = {
    "frozen": {"checkpoint", "session"},
    "has_pin": {"section"},
    "helper": {"section", "helper", "session"},
    "hold_pins": {"session"},
    "holder_of_leases": {"section"},
    "kept_index": {"section"},
    "lookups_of": {"section"},
    "membership": {"recovery", "session"},
    "openness": {"session"},
    "redo": {"redo", "durable"},
    "transactions": {"pages", "section", "recovery", "session"},
    "unleased": {"section"},
}


def fields_of_pager(code: str) -> list[str]:
    """Return the fields of `Pager` that other modules can use."""
    found = re.search(r"(?ms)^pub struct Pager \{\n(.*?)^\}", code)
    assert found is not None and found[1].count(":") > 15
    return re.findall(r"(?m)^    pub(?:\([^)]*\))? (\w+):", found[1])


def uses_of_parts(files: list[tuple[str, str]]) -> set[tuple[str, str]]:
    """Return which wing uses which part of an open store."""
    return {
        (part, name.split("/")[0])
        for name, code in files
        for part in re.findall(r"\b(?:pager|self|still)(?:\(\))?\s*\.\s*(\w+)\(", code)
        if part in PARTS and not name.startswith("pager/")
    }


def test_the_pager_only_composes_parts() -> None:
    """No field of `Pager` is visible outside its wing, and a wing uses only the parts that are its own matter."""
    code = dict(page_files())["pager/mod.rs"]
    assert fields_of_pager(code) == []
    assert fields_of_pager(code.replace("    redo: Redo,", "    pub(in crate::page) redo: Redo,")) == ["redo"]
    allowed = {(part, wing) for part, wings in PARTS.items() for wing in wings}
    files = [(name, code) for name, code in page_files() if "tests" not in name]
    assert uses_of_parts(files) == allowed
    wrong = ("redo/more.rs", "fn f(section: &ReadSection) { section.pager().transactions().end() }")
    assert uses_of_parts([*files, wrong]) == allowed | {("transactions", "redo")}


@pytest.mark.parametrize("floor", FLOORS)
def test_folders_of_the_doors_import_downward_only(floor: str) -> None:
    order = FLOORS[floor]
    assert {p.stem for p in (TOP / floor).iterdir()} - {"mod", "lib", "main"} == set(order)
    crate = next(top for top in CRATES.values() if floor.startswith(top))
    prefix = Path(floor).relative_to(crate).parts

    def height(module: Module) -> int:
        inside = module[: len(prefix)] == prefix and len(module) > len(prefix)
        return order.index(module[len(prefix)]) if inside else -1

    wrong = [
        f"{'::'.join(module)} uses {'::'.join(used)}"
        for module, all_used in Imports(TOP / crate).edges.items()
        for used in sorted(all_used)
        if height(used) > height(module) >= 0
    ]
    assert wrong == []


PAGE = TOP / "core/src/page"
# The regions of the sidecar beside its header (`layout`), each with the file that reads and writes its words. The seal
# is a checksum over the bytes of all of them.
REGIONS = {
    "META_IMAGE": "shared/header/next_checkpoint.rs",
    "THREADS": "shared/users/threads.rs",
    "PROCESSES": "shared/users/slots.rs",
    "MARKS": "shared/regions/dirty_set.rs",
    "LOCKS": "shared/regions/locks.rs",
    "LOCK_SIGNALS": "shared/regions/locks.rs",
    "LOCK_COUNTERS": "shared/regions/locks.rs",
    "REQUEST": "checkpoint/snapshot.rs",
    "DROPPED": "pages/dropped_slots.rs",
}


def code_files(folder: Path) -> list[tuple[str, str]]:
    """Return the files of a folder without their comments."""
    texts = {str(p.relative_to(folder)): p.read_text(encoding="utf-8") for p in sorted(folder.rglob("*.rs"))}
    return [(name, "\n".join(map(code_of, text.split("\n")))) for name, text in texts.items()]


def page_files() -> list[tuple[str, str]]:
    return code_files(PAGE)


def wrong_words(files: list[tuple[str, str]]) -> list[str]:
    """Return the places that name a word of the sidecar without owning it."""
    constant = re.compile(r"(?m)^const (\w+): Word = Word::at\(")
    words = {word for name, code in files if name != "shared/word.rs" for word in constant.findall(code)}
    wrong = []
    for name, code in files:
        own = constant.findall(code)
        if len(own) != len(re.findall(r"\bWord::at\b", code)) and name != "shared/word.rs":
            wrong.append(f"{name}: a word is a private constant of a file")
        used = set(re.findall(r"\b(?:word|word32|get|set|value)\(\s*([A-Z][A-Z_]+)\b", code))
        wrong += [f"{name}: {word} is another file's" for word in sorted((used & words) - set(own))]
        if name not in {"shared/layout.rs", "shared/header/seal.rs"}:
            named = " ".join(re.findall(r"\blayout::(?:\{[^}]*\}|\w+)", code))
            inside = set(re.findall(r"\b[A-Z][A-Z_]+\b", named)) & set(REGIONS)
            wrong += [f"{name}: the region {r} is another file's" for r in sorted(inside) if REGIONS[r] != name]
    return wrong


def test_words_of_the_sidecar_are_private_to_their_owners() -> None:
    assert wrong_words(page_files()) == []


@pytest.mark.parametrize(
    "code",
    [
        "pub(crate) const EPOCH: Word = Word::at(128);",
        "fn f(shm: &Shm) -> u64 { shm.get(Word::at(128)) }",
        "fn f(shm: &Shm) -> u64 { shm.get(EPOCH) }",
        "fn f(shm: &Shm) { shm.words(layout::THREADS, 8); }",
    ],
)
def test_a_word_of_another_owner_is_found(code: str) -> None:
    assert wrong_words([*page_files(), ("section/more.rs", code)]) != []


def test_the_table_of_words_is_right() -> None:
    """The table in `shared/word.rs` lists each word with its owner, and no two words overlap."""
    text = (PAGE / "shared/word.rs").read_text(encoding="utf-8")
    row = re.compile(r"(?m)^//! \| (\d+) \| (\d+) \| `(\w+)` \| `([\w:]+)` \|$")
    table = [(int(at), int(size), word, owner) for at, size, word, owner in row.findall(text)]
    constant = re.compile(r"(?m)^const (\w+): Word = Word::at\((\d+)\);(?: // (\d) words)?$")
    found = [
        (int(at), 8 * int(count or 1), word, str(path.relative_to(PAGE).with_suffix("")).replace("/", "::"))
        for path in PAGE.rglob("*.rs")
        for word, at, count in constant.findall(path.read_text(encoding="utf-8"))
    ]
    assert len(table) > 80 and table == sorted(found)
    assert [b for a, b in zip(table, table[1:]) if a[0] + a[1] > b[0]] == []
    assert table[-1][0] + table[-1][1] <= 4096 and all(at % 8 == 0 for at, *_ in table)


def test_doors_see_only_the_store() -> None:
    wrong, seen = [], 0
    for name, rows in rust():
        if not name.startswith(("fuse/src", "pymod/src")):
            continue
        for n, row in enumerate(rows, 1):
            for used in re.findall(r"\bpersist_core::(\w+)", code_of(row)):
                seen += 1
                if used not in {"store", "Error", "Result"}:
                    wrong.append(f"{name}:{n}: {used}")
        for group in re.findall(r"\bpersist_core::\{([^;]*);", "\n".join(map(code_of, rows))):
            wrong += [f"{name}: {u}" for u in set(re.findall(r"\w+", group)) - {"Error", "Result"}]
    assert seen > 100 and wrong == []


def test_unsafe_stays_where_it_belongs() -> None:
    found = {
        name
        for name, rows in rust()
        if any(re.search(r"\bunsafe\b", code_of(row)) and "unsafe_code" not in row for row in rows)
    }
    # A file that no longer needs `unsafe` leaves the list.
    assert sorted(found) == UNSAFE


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
