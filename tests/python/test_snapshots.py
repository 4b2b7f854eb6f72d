"""Snapshots from Python: taken, listed, read while the store changes, copied from, dropped."""

from __future__ import annotations

import errno
import gc
import os
import random
import subprocess
import time
from pathlib import Path
from typing import Any, Callable

import persist
import pytest
from conftest import Script, plain


class Person(persist.Object):
    def __init__(self, name: str, age: int) -> None:
        self.name, self.age = name, age


def fill(root: Any) -> None:
    root["n"] = 1
    root["text"] = "x" * 10000
    root["list"] = [1, [2, 3], {"deep": "down"}]
    root["Joe"] = Person("Joe", 27)
    root["both"] = [root["Joe"], root["Joe"]]
    root["loop"] = {}
    root["loop"]["me"] = root["loop"]


def test_taken_listed_and_dropped(store: persist.Store, root: Any) -> None:
    assert store.snapshots() == []
    before = time.time()
    root["n"] = 1
    one = store.snapshot("one")
    root["n"] = 2
    two = store.snapshot("zwei, à côté")
    assert store.snapshots() == [one, two]
    assert [s.name for s in store.snapshots()] == ["one", "zwei, à côté"]
    assert one.checkpoint < two.checkpoint <= store.stat()["checkpoint"]
    assert type(one.time) is float and before - 1 < one.time <= two.time < time.time() + 1
    assert one != two and len({one, two, *store.snapshots()}) == 2
    assert "one" in repr(one)
    with pytest.raises(AttributeError):
        one.name = "other"  # type: ignore[misc]
    store.drop_snapshot("one")
    assert store.snapshots() == [two]
    assert store.snapshot("one").checkpoint > two.checkpoint


def test_a_snapshot_stays_as_it_was(store: persist.Store, root: Any) -> None:
    fill(root)
    store.snapshot("before")
    root["n"] = 2
    root["list"][1].append(4)
    root["Joe"].age = 28
    del root["text"], root["loop"]
    with store.at("before") as before:
        old = before.root
        assert before.mode == "r" and not before.closed
        assert before.path == store.path and "before" in repr(before)
        assert before.opened_snapshot == store.snapshots()[0] and store.opened_snapshot is None
        assert old["n"] == 1 and old["text"] == "x" * 10000
        assert plain(old["list"]) == [1, [2, 3], {"deep": "down"}]
        assert type(old["Joe"]) is Person and old["Joe"].age == 27
        assert old["both"][0] is old["both"][1] is old["Joe"]
        assert old["loop"]["me"] is old["loop"]
        assert list(old) == ["n", "text", "list", "Joe", "both", "loop"]
        assert before.snapshots() == store.snapshots()
        assert before.stat()["checkpoint"] == store.snapshots()[0].checkpoint
    assert root["n"] == 2 and root["Joe"].age == 28


def test_thousands_of_operations_do_not_change_it(path: Path, script: Script) -> None:
    dice = random.Random(7)
    with persist.open(path) as store:
        root = store.root
        for n in range(300):
            root[n] = {"n": n, "list": list(range(n % 20)), "text": "t" * (n * 7 % 5000)}
        snapshots: dict[str, Any] = {}
        seen = [store.at(store.snapshot("0").name)]
        snapshots["0"] = persist.copy_out(root)
        for turn in range(1, 5):
            for _ in range(1500):
                n = dice.randrange(400)
                what = dice.randrange(4)
                if what == 0:
                    root[n] = {"n": dice.random(), "list": [], "text": "u" * dice.randrange(6000)}
                elif what == 1:
                    root.pop(n, None)
                elif n in root:
                    root[n]["list"].append(n)
                    root[n]["n"] = turn
            name = str(turn)
            store.snapshot(name)
            snapshots[name] = persist.copy_out(root)
            if turn % 2:
                seen.append(store.at(name))
        for at in seen:  # open all along
            assert persist.copy_out(at.root) == snapshots[at.opened_snapshot.name]  # type: ignore[union-attr]
            at.close()
        store.drop_snapshot("1")
        for n in range(2000):
            root[n] = n  # into the space of the dropped snapshot
        for name in "0", "2", "3", "4":
            with store.at(name) as at:
                assert persist.copy_out(at.root) == snapshots[name]
    # Also in a process that starts later.
    out = script.run(
        """
        import sys, persist
        with persist.open(sys.argv[1], "r", snapshot="2") as at:
            print(len(at.root), sum(len(v["text"]) for v in at.root.values()))
        """,
        path,
    )
    want = snapshots["2"]
    assert out.split() == [str(len(want)), str(sum(len(v["text"]) for v in want.values()))]


def test_opened_by_its_path(path: Path) -> None:
    with persist.open(path) as store:
        store.root["n"] = 1
        store.snapshot("one")
        store.root["n"] = 2
        with persist.open(path, mode="r", snapshot="one") as at:
            assert at.root["n"] == 1
            with store.at("one") as same:
                assert same.root is at.root  # one opening, as with stores
            assert at.root["n"] == 1
    with persist.open(path, mode="r", snapshot="one") as at:  # no process has the store open
        assert at.root["n"] == 1
        with persist.open(path) as store:
            assert store.root["n"] == 2
            store.root["n"] = 3
        assert at.root["n"] == 1
    with pytest.raises(ValueError, match="never changes"):
        persist.open(path, snapshot="one")
    for use in [
        lambda: persist.open(path, "r", snapshot="two"),
        lambda: persist.open(path, "r", snapshot=""),
        lambda: persist.open(path, "r", snapshot="../one"),
    ]:
        with pytest.raises(persist.NoSnapshot):
            use()
    with pytest.raises(OSError):
        persist.open(path.parent / "none", "r", snapshot="one")
    assert not (path.parent / "none").exists()


def test_live_and_old_objects_are_different(store: persist.Store, root: Any) -> None:
    fill(root)
    joe = root["Joe"]
    store.snapshot("s")
    store.snapshot("t")
    with store.at("s") as s, store.at("t") as t, store.at("s") as s2:
        assert s.root["Joe"] is not joe and s.root["Joe"] is not t.root["Joe"]
        assert s.root["Joe"] is s.root["Joe"] is s2.root["Joe"]
        assert root["Joe"] is joe
        joe.age = 99
        assert (s.root["Joe"].age, t.root["Joe"].age, root["Joe"].age) == (27, 27, 99)
        assert s.root["list"] == t.root["list"] == root["list"]


def test_nothing_in_it_can_be_changed(store: persist.Store, root: Any) -> None:
    fill(root)
    store.snapshot("s")
    with store.at("s") as s:
        old = s.root
        changes: list[Callable[[], object]] = [
            lambda: old.__setitem__("n", 2),
            lambda: old.__setitem__("new", {"a": [1]}),
            lambda: old.__delitem__("n"),
            lambda: old.pop("n"),
            lambda: old.clear(),
            lambda: old.setdefault("new", 1),
            lambda: old["list"].append(1),
            lambda: old["list"].__setitem__(0, 1),
            lambda: old["list"][1].clear(),
            lambda: old["list"].reverse(),
            lambda: setattr(old["Joe"], "age", 1),
            lambda: delattr(old["Joe"], "age"),
            lambda: vars(old["Joe"]).update(age=1),
            lambda: s.transaction(),
            lambda: s.run(lambda: None),
            lambda: s.snapshot("x"),
            lambda: s.drop_snapshot("s"),
            lambda: s.gc(),
        ]
        for n, change in enumerate(changes):
            with pytest.raises(OSError, match="read-only") as e:
                change()
            assert e.value.errno == errno.EROFS, n
        for lock in [
            lambda: old.lockExcl(),
            lambda: old.lockShared(),
            lambda: old.lock(key="n", timeout=0),
            lambda: old["list"].lockExcl(timeout=1),
            lambda: old["Joe"].lock(),
        ]:
            with pytest.raises(ValueError, match="cannot be locked"):
                lock()
        with pytest.raises(persist.NotLocked):
            old.unlock()
        assert list(old) == list(root) and (old["n"], old["Joe"].age) == (1, 27)
        assert plain(old["list"]) == [1, [2, 3], {"deep": "down"}]
    # A lock on the living object does not affect a snapshot.
    with root["list"].lock(timeout=1), store.at("s") as s:
        assert s.root["list"][0] == 1


def test_copied_back_as_a_graph(store: persist.Store, root: Any) -> None:
    fill(root)
    store.snapshot("s")
    root.clear()
    with store.at("s") as s:
        root["both"] = s.root["both"]
        root["loop"] = s.root["loop"]
        root["all"] = s.root
        everything = persist.copy_out(s.root)
    assert type(root["both"][0]) is Person and root["both"][0] is root["both"][1]
    assert root["loop"]["me"] is root["loop"]
    old = root["all"]
    assert old["both"][0] is old["Joe"] and old["loop"]["me"] is old["loop"] is not root["loop"]
    assert persist.copy_out(old["list"]) == everything["list"] == [1, [2, 3], {"deep": "down"}]
    root["both"][0].age += 1
    assert (root["both"][1].age, old["Joe"].age) == (28, 27)
    # Copies do not need the snapshot.
    store.drop_snapshot("s")
    assert old["text"] == "x" * 10000


def test_mistakes(store: persist.Store, root: Any) -> None:
    store.snapshot("s")
    with pytest.raises(persist.SnapshotExists, match='"s"') as exists:
        store.snapshot("s")
    assert isinstance(exists.value, FileExistsError)
    for use in [lambda: store.drop_snapshot("none"), lambda: store.at("none"), lambda: store.at("a/b")]:
        with pytest.raises(persist.NoSnapshot) as no:
            use()
        assert isinstance(no.value, LookupError)
    for name in ["", ".", "..", "a/b", "a\0b", "a\n", "x" * 256, "ü" * 128]:
        with pytest.raises(ValueError, match="name"):
            store.snapshot(name)
    for wrong in [None, 1, b"s"]:
        with pytest.raises(TypeError):
            store.snapshot(wrong)  # type: ignore[arg-type]
    with store.transaction():
        root["x"] = 1
        with pytest.raises(ValueError, match="transaction"):
            store.snapshot("inside")
        with pytest.raises(ValueError, match="transaction"):
            store.drop_snapshot("s")
    assert root["x"] == 1
    with persist.open(store.path, "r") as reader, pytest.raises(OSError, match="read-only"):
        reader.snapshot("by a reader")
    assert [s.name for s in store.snapshots()] == ["s"]
    for error in [persist.NoSnapshot, persist.SnapshotExists, persist.InUse]:
        assert issubclass(error, persist.Error) and error.__module__ == "persist" and error.__doc__


def test_closed(path: Path) -> None:
    store = persist.open(path)
    store.root["d"] = {"x": 1}
    store.snapshot("s")
    at = store.at("s")
    twice = store.at("s")
    d = at.root["d"]
    with pytest.raises(persist.InUse, match="open in this process"):
        store.drop_snapshot("s")
    at.close()
    assert at.closed and "closed" in repr(at)
    with pytest.raises(ValueError, match="closed store"):
        _ = at.root
    assert d["x"] == 1  # `twice` holds it open
    store.close()
    assert d["x"] == 1  # and does not need the store
    twice.close()
    uses: list[Callable[[], object]] = [
        lambda: d["x"],
        lambda: len(d),
        lambda: twice.snapshots(),
        lambda: twice.at("s"),
        lambda: twice.transaction(),
    ]
    for use in uses:
        with pytest.raises(ValueError, match="closed store"):
            use()
    with persist.open(path) as store:
        assert store.at("s").root["d"] == {"x": 1}
        gc.collect()  # an unreferenced handle and its objects hold nothing
        store.drop_snapshot("s")
        with pytest.raises(ValueError, match="closed store"):
            _ = d["x"]


def test_a_new_snapshot_of_an_old_name(store: persist.Store, root: Any) -> None:
    for n in range(5):
        root["n"] = n
        store.snapshot("s")
        with store.at("s") as s:
            assert s.root["n"] == n
        store.drop_snapshot("s")


HOLD = """
import sys, persist
with persist.open(sys.argv[1], "r", snapshot="s") as at:
    print(at.root["n"], flush=True)
    sys.stdin.readline()
    print(at.root["n"], flush=True)
"""


def test_in_use_by_another_process(store: persist.Store, root: Any, script: Script) -> None:
    root["n"] = 1
    store.snapshot("s")
    root["n"] = 2
    child = script.start(HOLD, store.path)
    assert child.stdout and child.stdout.readline() == "1\n"
    with pytest.raises(persist.InUse, match=f"process {child.pid}"):
        store.drop_snapshot("s")
    with store.at("s") as at:
        assert at.root["n"] == 1
    assert script.finish(child).split() == ["1"]
    store.drop_snapshot("s")
    assert store.snapshots() == []
    # A killed process does not hold the snapshot.
    store.snapshot("s")
    child = script.start(HOLD, store.path)
    assert child.stdout and child.stdout.readline() == "2\n"
    child.kill()
    child.wait()
    store.drop_snapshot("s")


def test_dropped_by_another_process(store: persist.Store, root: Any, script: Script) -> None:
    root["n"] = 1
    store.snapshot("s")
    drop = """
    import sys, persist
    with persist.open(sys.argv[1]) as store:
        try:
            store.drop_snapshot("s")
            print("dropped")
        except persist.InUse as e:
            print(e)
    """
    with store.at("s") as at:
        assert f"process {os.getpid()}" in script.run(drop, store.path)
        assert at.root["n"] == 1
    assert script.run(drop, store.path) == "dropped\n"
    assert store.snapshots() == []
    with pytest.raises(persist.NoSnapshot):
        store.at("s")


def test_a_child_has_a_right_of_its_own(store: persist.Store, root: Any) -> None:
    root["n"] = 1
    root["d"] = {"x": [1]}
    store.snapshot("s")
    root["n"] = 2
    at = store.at("s")
    d = at.root["d"]
    (ready, tell), (wait, go) = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            ok = at.root["n"] == 1 and d["x"] == [1] and store.root["n"] == 2
            os.write(tell, b"+" if ok else b"-")
            os.read(wait, 1)  # the parent has closed its own
            ok = at.root["n"] == 1 and persist.copy_out(d) == {"x": [1]}
            code = 0 if ok else 2
        finally:
            os._exit(code)
    try:
        assert os.read(ready, 1) == b"+"
        at.close()
        with pytest.raises(persist.InUse, match=f"process {pid}"):
            store.drop_snapshot("s")
    finally:
        os.write(go, b"x")
        status = os.waitpid(pid, 0)[1]
        for fd in ready, tell, wait, go:
            os.close(fd)
    assert os.waitstatus_to_exitcode(status) == 0
    store.drop_snapshot("s")


def test_threads_take_and_drop(store: persist.Store, root: Any) -> None:
    import threading

    errors: list[BaseException] = []

    def work(n: int) -> None:
        try:
            for turn in range(20):
                name = f"{n}.{turn}"
                root[n] = turn
                store.snapshot(name)
                with store.at(name) as at:
                    assert at.root[n] == turn
                store.drop_snapshot(name)
        except BaseException as e:
            errors.append(e)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert errors == [] and store.snapshots() == []


def test_a_file_that_may_only_be_read(path: Path, script: Script) -> None:
    """On a read-only filesystem: the store's last checkpoint, and its snapshots."""
    with persist.open(path) as store:
        store.root["n"] = 1
        store.snapshot("s")
        store.root["n"] = 2
    path.with_name(path.name + "-shm").unlink(missing_ok=True)
    point = path.parent / "ro"
    point.mkdir()
    bind = f"mount --bind '{path.parent}' '{point}' && mount -o remount,ro,bind '{point}'"
    done = subprocess.run(["bash", "-c", bind], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"mounting is not allowed here: {done.stderr.strip()}")
    try:
        out = script.run(
            """
            import sys, persist
            with persist.open(sys.argv[1], "r") as store, store.at("s") as at:
                print(store.root["n"], at.root["n"], [s.name for s in store.snapshots()])
                for change in lambda: store.root.clear(), lambda: store.snapshot("x"):
                    try:
                        change()
                    except OSError as e:
                        print(e.errno)
                try:
                    store.root.lockExcl()
                except ValueError as e:
                    print(e)
            try:
                persist.open(sys.argv[1])
            except OSError as e:
                print(e.errno)
            """,
            point / path.name,
        )
    finally:
        subprocess.run(["umount", str(point)], check=True)
    lines = out.splitlines()
    assert lines[0] == "2 1 ['s']"
    assert lines[1:3] == [str(errno.EROFS)] * 2
    assert "cannot be locked" in lines[3] and lines[4] == str(errno.EROFS)
    assert not path.with_name(path.name + "-shm").exists()
