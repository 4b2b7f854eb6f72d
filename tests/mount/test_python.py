"""Python and the mount at once: the next command sees what Python changed, and the reverse."""

from __future__ import annotations

import fcntl
import math
import os
import subprocess
import time
from typing import Any, Callable

import persist
import pytest
from conftest import CLASS, TYPE, Mount, wait_until

CP = "cp -a {src}/. {dst}/"
TAR = "tar --xattrs --xattrs-include='user.*' -C {src} -cf - . | tar --xattrs --xattrs-include='user.*' -C {dst} -xf -"


def test_values(mnt: Mount, root: Any) -> None:
    root["name"] = "Joe"
    root["age"] = 25
    root["pi"] = 3.5
    root["yes"] = True
    root["none"] = None
    root["raw"] = b"\0\xff"
    root["lines"] = "a\nb\n"
    assert mnt.sh("cat name age pi yes none lines") == "Joe\n25\n3.5\nTrue\nNone\na\nb\n\n"
    assert (mnt.path / "raw").read_bytes() == b"\0\xff"
    assert [mnt.type(n) for n in root] == ["str", "int", "float", "bool", "none", "bytes", "str"]
    mnt.sh(
        "echo Ann > name; echo 26 > age; echo 4 > pi; echo False > yes; printf '\\1' > raw; echo new > fresh"
    )
    assert dict(root.items()) == {
        "name": "Ann", "age": 26, "pi": 4.0, "yes": False, "none": None,
        "raw": b"\x01",
        "lines": "a\nb\n", "fresh": "new",
    }  # fmt: skip
    assert type(root["pi"]) is float and root["yes"] is False
    mnt.sh("rm name; mv age years")
    assert "name" not in root and root["years"] == 26
    mnt.sh("printf bare > bare; : > empty")
    assert (root["bare"], root["empty"]) == ("bare", "")


def test_a_view_of_bytes_stays_while_the_file_is_changed_in_place(mnt: Mount, root: Any) -> None:
    content = bytes(range(256)) * 4096
    root["b"] = content
    held = [(root.view("b"), content)]
    for at, new in ((0, b"first"), (4032 * 3 - 1, b"two pieces"), (5, b""), (len(content), b"more" * 5000)):
        with open(mnt.path / "b", "r+b") as file:
            file.seek(at)
            file.write(new)
        content = content[:at] + new + content[at + len(new) :]
        held.append((root.view("b"), content))
        assert root["b"] == content
    os.truncate(mnt.path / "b", 70_000)
    assert root.view("b") == content[:70_000] == root["b"]
    assert [view == was for view, was in held] == [True] * 5


def test_floats_and_ints(mnt: Mount, root: Any) -> None:
    values = [0.1, -0.0, 1e16, 1e-5, 5e-324, math.inf, -math.inf, 10**30, -(2**63), 2**64, 10**4299, 10**5000]
    for n, value in enumerate(values):
        root[f"v{n}"] = value
    for n, value in enumerate(values):
        text = (mnt.path / f"v{n}").read_text()
        expected = hex(value) if isinstance(value, int) and value >= 10**4300 else repr(value)
        assert text == expected + "\n"
        assert (mnt.path / f"v{n}").stat().st_size == len(text)
        root[f"v{n}"] = type(value)(0)
        (mnt.path / f"v{n}").write_text(text)
        assert root[f"v{n}"] == value and type(root[f"v{n}"]) is type(value)


def test_keys(mnt: Mount, root: Any) -> None:
    keys: list[Any] = [
        "", ".", "..", "a/b", "a\0b", ".persist", ".persist.lock", "%2F", "100%", "\ud800", "\udcff", "é", "%i:5",
        5, -1, 10**40, 1.5, math.inf, None, b"", b"ab", b"\xff\xfe", "x" * 300, "é" * 200, b"\xff" * 300, "x" * 255,
    ]  # fmt: skip
    for n, key in enumerate(keys):
        root[key] = n
    top = os.fsencode(mnt.path)
    names = os.listdir(top)
    assert len(set(names)) == len(keys)
    for n, name in enumerate(names):
        with open(top + b"/" + name) as f:
            assert int(f.read()) == n
        with open(top + b"/" + name, "w") as f:
            f.write(str(n + 1000))
    assert [root[key] for key in keys] == [n + 1000 for n in range(len(keys))]
    for name in names:
        os.unlink(top + b"/" + name)
    assert len(root) == 0


@pytest.mark.parametrize("tool", [CP, TAR], ids=["cp", "tar"])
def test_keys_survive_a_copy(mounts: Callable[..., Mount], tool: str) -> None:
    src, dst = mounts("src"), mounts("dst")
    keys: list[Any] = [
        "",
        ".",
        "a/b",
        "\ud800",
        5,
        1.5,
        None,
        True,
        b"ab",
        b"\xff",
        "x" * 300,
        b"y" * 300,
        "é" * 200,
    ]
    with persist.open(src.store) as store:
        store.root["d"] = {key: n for n, key in enumerate(keys)}
        store.root["dirs"] = {key: {"n": n} for n, key in enumerate(keys)}
    subprocess.run(["bash", "-c", tool.format(src=src.path, dst=dst.path)], check=True, timeout=100)
    with persist.open(dst.store) as store:
        got = store.root["d"]
        assert {(type(k), k): v for k, v in got.items()} == {(type(k), k): n for n, k in enumerate(keys)}
        assert {(type(k), k): v["n"] for k, v in store.root["dirs"].items()} == {
            (type(k), k): n for n, k in enumerate(keys)
        }


def test_containers(mnt: Mount, root: Any) -> None:
    root["d"] = {"x": 1, "l": ["a", ["b", {"c": "deep"}]]}
    assert mnt.sh("cat d/x d/l/0 d/l/1/0 d/l/1/1/c") == "1\na\nb\ndeep\n"
    assert [mnt.type(n) for n in ("d", "d/l", "d/l/1", "d/l/1/1")] == ["dict", "list", "list", "dict"]
    root["again"] = root["d"]["l"]
    assert os.readlink(mnt.path / "again") == "d/l"
    root["d"]["up"] = root
    assert os.readlink(mnt.path / "d/up") == ".."
    mnt.sh("echo z >> again/2; mkdir d/sub; ln -s d/sub ref; echo v > ref/k")
    assert list(root["d"]["l"])[2] == "z"
    assert root["ref"] is root["d"]["sub"]
    assert dict(root["d"]["sub"].items()) == {"k": "v"}
    mnt.sh("rm d/l/0")
    assert root["again"][1] == "z"
    root["again"].insert(0, "first")
    assert mnt.sh("cat again/@0") == "first\n"
    # The home entry is removed; the remaining reference becomes the home.
    del root["d"]["l"]
    assert (mnt.path / "again").is_dir() and not (mnt.path / "again").is_symlink()


def test_objects(mnt: Mount, root: Any) -> None:
    mnt.sh("mkdir p; echo Joe > p/name")
    os.setxattr(mnt.path / "p", CLASS, b"nowhere:Person")
    assert root["p"].name == "Joe"
    root["p"].age = 25
    assert mnt.sh("cat p/age") == "25\n"
    assert mnt.type("p") == "object"
    with pytest.raises(OSError):
        (mnt.path / "p/%i:5").write_text("no")


def test_a_list_restored_out_of_order(mnt: Mount, root: Any) -> None:
    (mnt.path / "l").mkdir()
    os.setxattr(mnt.path / "l", TYPE, b"list")
    mnt.sh("for i in 3 1 2; do echo $i > l/$i; done")
    assert list(root["l"]) == []
    mnt.sh("echo 0 > l/0")
    assert list(root["l"]) == ["0", "1", "2", "3"]
    mnt.sh("sed -i s/2/two/ l/2; rm l/0 l/1")
    assert list(root["l"]) == ["two", "3"]


def test_changes_are_seen_at_once(mnt: Mount, root: Any) -> None:
    root["n"] = 0
    with open(mnt.path / "n", "rb", buffering=0) as f:
        for n in range(200):
            root["n"] = n
            assert os.pread(f.fileno(), 100, 0) == b"%d\n" % n
            assert (mnt.path / "n").read_text() == f"{n}\n"
            root[f"k{n}"] = n
            assert (mnt.path / f"k{n}").exists()
            assert len(os.listdir(mnt.path)) == 2
            del root[f"k{n}"]
            assert not (mnt.path / f"k{n}").exists()
            (mnt.path / "n").write_text(f"{n + 1000}\n")
            assert root["n"] == n + 1000


def test_a_kind_that_changes(mnt: Mount, root: Any) -> None:
    for _ in range(20):
        root["x"] = "text"
        assert mnt.sh("cat x") == "text\n"
        root["x"] = {"in": "side"}
        assert mnt.sh("cat x/in") == "side\n"
        root["y"] = root["x"]
        del root["x"]
        assert mnt.sh("cat y/in") == "side\n"
        del root["y"]


def test_a_value_deleted_while_open(mnt: Mount, root: Any) -> None:
    root["d"] = {"x": "text"}
    with open(mnt.path / "d/x", "r+") as f:
        del root["d"]
        assert f.read() == "text\n"
        f.write("more")
    assert len(root) == 0
    assert os.listdir(mnt.path) == []


def test_python_locks_keep_commands_out(mnt: Mount, store: Any, mounts: Callable[..., Mount]) -> None:
    quick = mounts("a", "lockwait=0.2", at="quick.mnt")
    patient = mounts("a", "lockwait=100", at="patient.mnt")
    root = store.root
    root["d"] = {"x": "old"}
    with root["d"].lock():
        # Reading does not wait.
        assert quick.sh("cat d/x") == "old\n"
        assert quick.sh("ls d") == "x\n"
        begin = time.monotonic()
        with pytest.raises(BlockingIOError):
            (quick.path / "d/new").mkdir()
        assert time.monotonic() - begin > 0.1
        with pytest.raises(BlockingIOError):
            os.unlink(quick.path / "d/x")
        with pytest.raises(BlockingIOError):
            (quick.path / "d/x").write_text("new\n")
        with open(quick.path / "d/x", "r+") as f, pytest.raises(BlockingIOError):
            fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # A mount with a longer wait gets the lock; other requests are served in between.
        child = subprocess.Popen(["bash", "-c", "echo new > d/x"], cwd=patient.path)
        patient.sh("echo other > f; cat f")
        assert child.poll() is None
    assert child.wait(100) == 0
    wait_until(lambda: root["d"]["x"] == "new", "the change that waited")


def test_commands_locks_keep_python_out(mnt: Mount, store: Any) -> None:
    root = store.root
    root["d"] = {"x": "old", "y": "other"}
    with open(mnt.path / "d/x", "r+") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        with pytest.raises(persist.LockTimeout):
            root["d"].lock(timeout=0.1).__enter__()
        root["d"]["y"] = "free"
    with root["d"].lock(timeout=100):
        pass


def test_transactions_are_seen_whole(mnt: Mount, store: Any) -> None:
    root = store.root
    root["a"] = root["b"] = 0
    for n in range(30):
        with store.transaction():
            root["a"] = n
            root["b"] = n
        a, b = mnt.sh("cat a b").split()
        assert a == b == str(n)


def test_what_is_large(mnt: Mount, root: Any) -> None:
    root["t"] = "é" * 1_000_000
    assert (mnt.path / "t").read_text() == "é" * 1_000_000 + "\n"
    (mnt.path / "b").write_bytes(bytes(range(256)) * 20_000)
    assert root["b"] == bytes(range(256)) * 20_000
    with open(mnt.path / "t", "rb", buffering=0) as f:
        assert f.read(3) == "é".encode() + b"\xc3"
        root["t"] = "short"
        f.seek(0)
        assert f.read() == b"short\n"


def test_a_lock_blocks_the_write(mounts: Callable[..., Mount]) -> None:
    """A lock is reported at the write, where the shell's own echo checks."""
    mnt = mounts("a", "lockwait=0.2")
    with persist.open(mnt.store) as store:
        store.root["d"] = {"x": "old"}
        with store.root["d"].lock():
            assert "Resource temporarily unavailable" in mnt.fails("echo new > d/x")
            assert "Resource temporarily unavailable" in mnt.fails("echo more >> d/x")
        assert store.root["d"]["x"] == "old"
        mnt.sh("echo more >> d/x")
        assert store.root["d"]["x"] == "old\nmore"
