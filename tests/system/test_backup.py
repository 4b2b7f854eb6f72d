"""The graph survives tools that copy trees (P8): from one mount into another."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import persist
import pytest
from acceptance import TOP, sh
from pbase import pbase


class Person(pbase):
    def __init__(self, name: str = "", age: int = 0) -> None:
        pbase.__init__(self)
        self.name = name
        self.age = age


def fill(root: persist.Dict) -> None:
    root["int"] = 5
    root["big"] = -(10**40)
    root["float"] = 0.1
    root["inf"] = float("-inf")
    root["true"] = True
    root["none"] = None
    root["str"] = "Grüße"
    root["empty"] = ""
    root["lines"] = "a\nb\n"
    root["digits"] = "5"
    root["bytes"] = bytes(range(256))
    root["text bytes"] = b"looks like text\n"
    root["Joe"] = Person("Joe", 27)
    root["nested"] = [1, [2.5, ["three", []], {"four": [None, False]}], []]
    root["keys"] = {1: "int", "1": "str", "a/b": "slash", "": "empty", ".": "dot", "..": "dots", b"b": "bytes",
                    None: "none", 2.5: "float", "%41": "escape", "ä\n": "control", "x" * 300: "long"}  # fmt: skip
    root["shared one"] = {"is": "shared"}
    root["shared two"] = [root["shared one"], {"again": root["shared one"]}]
    root["cycle"] = {"name": "cycle"}
    root["cycle"]["me"] = root["cycle"]
    root["cycle"]["list"] = [root["cycle"]]
    root["Joe"].friend = Person("John", 29)
    root["Joe"].friend.friend = root["Joe"]


def describe(value: Any, seen: dict[int, str], path: str, alive: list[object]) -> Any:
    """Return the graph as plain data: types, classes, keys with their types, and shared containers. Entries are sorted,
    because a tree of files has no order. `alive` keeps the proxies, so that each has a unique id()."""
    if not isinstance(value, (persist.Dict, persist.List, persist.Object)):
        return type(value).__name__, repr(value)
    if id(value) in seen:
        return "shared with", seen[id(value)]
    seen[id(value)] = path
    alive.append(value)
    if isinstance(value, persist.List):
        return "list", [describe(v, seen, f"{path}/{i}", alive) for i, v in enumerate(value)]
    entries = value if isinstance(value, persist.Dict) else vars(value)
    items = sorted(entries.items(), key=lambda item: (type(item[0]).__name__, repr(item[0])))
    return type(value).__qualname__, [
        (type(k).__name__, k, describe(v, seen, f"{path}/{k!r}", alive)) for k, v in items
    ]


def graph(root: persist.Dict) -> Any:
    return describe(root, {}, "", [])


@pytest.mark.parametrize("copy", ["cp -a '{}/.' '{}/'", "rsync -aX '{}/' '{}/'"], ids=["cp", "rsync"])
def test_backup_and_restore(copy: str, tmp_path: Path, mount: Callable[..., Path]) -> None:
    backup = tmp_path / "backup"
    backup.mkdir()
    if subprocess.run(["setfattr", "-n", "user.t", "-v", "1", backup], capture_output=True).returncode:
        # Some directories for temporary files do not support user xattrs; the project's own disk does.
        backup = TOP / "target" / f"backup-{tmp_path.name}"
        backup.mkdir(parents=True)
    with persist.open(tmp_path / "one.store") as one, persist.open(tmp_path / "two.store") as two:
        fill(one.root)
        want = graph(one.root)
        first = mount(tmp_path / "one.store", "mnt one")
        second = mount(tmp_path / "two.store", "mnt two")
        sh(copy.format(first, backup))
        sh(copy.format(backup, second))
        assert graph(two.root) == want
        assert two.root["shared two"][0] is two.root["shared one"]
        assert two.root["cycle"]["me"] is two.root["cycle"]
        assert type(two.root["Joe"]) is Person and two.root["Joe"].friend.friend is two.root["Joe"]
        # The restored tree looks the same from the shell, and a second rsync copies nothing.
        sh("diff -r --no-dereference '{}' '{}'".format(first, second))  # noqa: UP032
        if copy.startswith("rsync"):
            again = sh(f"rsync -aXi '{first}/' '{backup}/'")
            assert again == ""


def test_plain_cp_loses_nothing_but_types(tmp_path: Path, mount: Callable[..., Path]) -> None:
    with persist.open(tmp_path / "one.store") as one, persist.open(tmp_path / "two.store") as two:
        one.root["s"] = "text"
        one.root["n"] = 5
        one.root["d"] = {"k": b"\xff\x00"}
        first = mount(tmp_path / "one.store", "one")
        second = mount(tmp_path / "two.store", "two")
        sh(f"cp -r '{first}/.' '{second}/'")
        assert persist.copy_out(two.root) == {"s": "text", "n": "5", "d": {"k": b"\xff\x00"}}


def test_tar(tmp_path: Path, mount: Callable[..., Path]) -> None:
    with persist.open(tmp_path / "one.store") as one, persist.open(tmp_path / "two.store") as two:
        fill(one.root)
        want = graph(one.root)
        first = mount(tmp_path / "one.store", "one")
        second = mount(tmp_path / "two.store", "two")
        sh(f"tar --xattrs --xattrs-include='user.*' -C '{first}' -cf '{tmp_path}/t.tar' .")
        sh(f"tar --xattrs --xattrs-include='user.*' -C '{second}' -xf '{tmp_path}/t.tar'")
        assert graph(two.root) == want
