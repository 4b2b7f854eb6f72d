"""Changes through Python or the mount are visible through the other at once, with their types, while both stay open."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import persist
import pytest
from acceptance import sh


@pytest.fixture
def doors(store: Path, mount: Callable[..., Path]) -> Iterator[tuple[persist.Dict, Path]]:
    with persist.open(store) as opened:
        yield opened.root, mount(store)


def test_shell_changes_are_seen_in_python(doors: tuple[persist.Dict, Path]) -> None:
    root, mnt = doors
    root["n"] = 4
    root["f"] = 1.5
    root["b"] = True
    root["none"] = None
    root["s"] = "abc"
    root["bytes"] = b"\x00\xff"
    for key, text, want in [
        ("n", "5", 5),
        ("n", "-12345678901234567890123", -12345678901234567890123),
        ("f", "2.25", 2.25),
        ("b", "False", False),
        ("s", "Grüße 5", "Grüße 5"),
        ("s", "5", "5"),
    ]:
        sh('echo "$2" >"$1"', mnt / key, text)
        assert type(root[key]) is type(want) and root[key] == want, key
    sh('printf "\\x01\\xfe\\x00" >"$1"', mnt / "bytes")
    assert root["bytes"] == b"\x01\xfe\x00"
    assert root["none"] is None
    out = sh('echo five >"$1"', mnt / "n", ok=False)
    assert "Invalid argument" in out
    assert root["n"] == -12345678901234567890123

    sh('mkdir "$1/d" && echo hello >"$1/d/new" && printf x >"$1/d/bare" && echo 3 >>"$1/s"', mnt)
    assert isinstance(root["d"], persist.Dict)
    assert persist.copy_out(root["d"]) == {"new": "hello", "bare": "x"}
    assert root["s"] == "5\n3"
    sh('mv "$1/d/new" "$1/moved" && rm "$1/d/bare" && rmdir "$1/d" && rm "$1/none"', mnt)
    assert root["moved"] == "hello"
    assert "d" not in root and "none" not in root


def test_python_changes_are_seen_in_the_shell(doors: tuple[persist.Dict, Path]) -> None:
    root, mnt = doors
    for n in range(200):
        root["n"] = n
        assert (mnt / "n").read_text() == f"{n}\n"
        assert (mnt / "n").stat().st_size == len(f"{n}\n")
    root["list"] = [1, [2, 3], {"k": "v"}]
    assert sorted(os.listdir(mnt)) == ["list", "n"]
    assert sorted(os.listdir(mnt / "list")) == ["0", "1", "2"]
    assert (mnt / "list" / "1" / "1").read_text() == "3\n"
    root["list"].append("end")
    assert (mnt / "list" / "3").read_text() == "end\n"
    del root["list"][0]
    # A name that was shown means the same item or nothing (P10).
    assert sorted(os.listdir(mnt / "list")) == ["1", "2", "3"]
    assert (mnt / "list" / "3").read_text() == "end\n"
    assert (mnt / "list" / "@2").read_text() == "end\n"
    assert not (mnt / "list" / "0").exists()
    root["list"].clear()
    assert os.listdir(mnt / "list") == []
    del root["list"]
    assert not (mnt / "list").exists()
    root["again"] = {}
    assert (mnt / "again").is_dir()


def test_an_open_file_reads_the_new_value(doors: tuple[persist.Dict, Path]) -> None:
    root, mnt = doors
    root["n"] = 1
    fd = os.open(mnt / "n", os.O_RDONLY)
    try:
        assert os.pread(fd, 100, 0) == b"1\n"
        root["n"] = 22
        assert os.pread(fd, 100, 0) == b"22\n"
    finally:
        os.close(fd)


def test_types_and_classes_are_shown(doors: tuple[persist.Dict, Path]) -> None:
    root, mnt = doors
    root["v"] = {"i": 1, "f": 0.5, "t": True, "n": None, "s": "s", "y": b"y", "l": [], "d": {}}
    kinds = {name: os.getxattr(mnt / "v" / name, "user.persist.type") for name in root["v"]}
    assert kinds == {
        "i": b"int", "f": b"float", "t": b"bool", "n": b"none", "s": b"str", "y": b"bytes", "l": b"list", "d": b"dict",
    }  # fmt: skip
    sh('echo 7 >"$1/new" && setfattr -n user.persist.type -v int "$1/new"', mnt)
    assert root["new"] == 7 and type(root["new"]) is int


def test_symlinks_are_references(doors: tuple[persist.Dict, Path]) -> None:
    root, mnt = doors
    root["a"] = {"k": 1}
    sh('cd "$1" && ln -s a b && mkdir sub && ln -s ../a sub/c', mnt)
    assert root["b"] is root["a"] and root["sub"]["c"] is root["a"]
    root["list"] = [root["a"]]
    assert os.readlink(mnt / "list" / "0") == "../a"
    assert (mnt / "list" / "0" / "k").read_text() == "1\n"
    del root["a"]
    assert root["b"]["k"] == 1


def test_editors_and_sed_keep_types(doors: tuple[persist.Dict, Path]) -> None:
    root, mnt = doors
    root["age"] = 27
    root["name"] = "Joe"
    sh('sed -i s/27/28/ "$1/age" && sed -i s/Joe/Jim/ "$1/name"', mnt)
    assert root["age"] == 28 and type(root["age"]) is int
    assert root["name"] == "Jim"
    sh('vim -u NONE -es -c "%s/28/29/" -c wq "$1/age"', mnt)
    assert root["age"] == 29 and type(root["age"]) is int
    assert sorted(root) == ["age", "name"]
