"""`watch()`: each committed change, in order, across threads and processes; and nothing of what was undone."""

from __future__ import annotations

import collections
import gc
import os
import signal
import threading
import time
import weakref
from pathlib import Path
from typing import Any

import persist
import pytest
from conftest import Script, wait_until

LONG = 100


def reported(watch: persist.Watch[Any]) -> list[tuple[Any, ...]]:
    """Return what is reported now."""
    found = []
    while (change := watch.poll()) is not None:
        where = change.key if change.index is None else change.index
        found.append((change.kind, where, change.removed, change.added))
    return found


def test_changes_of_a_dict_in_order(root: persist.Dict) -> None:
    root["d"] = {}
    d = root["d"]
    d["before"] = 0
    watch = d.watch()
    d["a"] = 1
    d["a"] = 2
    d[7] = d[None] = d[b"b"] = d[1.5] = d[True] = d[1 << 80] = 0
    del d["a"]
    d.update(x=1, y={"inner": 1})
    d["y"]["inner"] = 2
    root["elsewhere"] = 1
    assert reported(watch) == [
        ("insert", "a", 0, 1),
        ("update", "a", 1, 1),
        *[("insert", key, 0, 1) for key in (7, None, b"b", 1.5, True, 1 << 80)],
        ("delete", "a", 1, 0),
        ("insert", "x", 0, 1),
        ("insert", "y", 0, 1),
    ]
    d.clear()
    assert [kind for kind, *_ in reported(watch)] == ["any"]
    d["k" * 5000] = 1
    assert reported(watch) == [("any", None, 0, 0)]


def test_changes_of_a_list_and_an_object(root: persist.Dict) -> None:
    root["l"] = [0, 1, 2]
    root["o"] = persist.Object()
    items, thing = root["l"], root["o"]
    of_items, of_thing = items.watch(), thing.watch()
    items.append(3)
    items[0] = 9
    items.insert(0, 4)
    del items[0]
    del items[1:3]
    thing.x = 1
    thing.x += 1
    del thing.x
    assert reported(of_items) == [
        ("insert", 3, 0, 1),
        ("update", 0, 1, 1),
        ("insert", 0, 0, 1),
        ("delete", 0, 1, 0),
        ("delete", 1, 2, 0),
    ]
    # What is replaced may be reported in several parts: their order gives the list.
    items[1:2] = [5, 6, 7]
    items.extend([8, 9])
    items.reverse()
    reported(of_items)
    before, marks = len(items), list(items)
    items[1:4] = ["a"]
    items += ["b", "c"]
    while (change := of_items.poll()) is not None:
        marks[change.index : change.index + change.removed] = [None] * change.added
    assert len(marks) == len(items) == before
    assert all(mark is None or mark == item for mark, item in zip(marks, items))
    assert reported(of_thing) == [("insert", "x", 0, 1), ("update", "x", 1, 1), ("delete", "x", 1, 0)]


def test_what_a_change_says(root: persist.Dict) -> None:
    root["d"] = {"l": [1]}
    d = root["d"]
    watch, of_list = d.watch(), d["l"].watch()
    d["x"] = 1
    d["x"] = 2
    d["l"].append(2)
    change, again, of_item = watch.poll(), watch.poll(), of_list.poll()
    assert change is not None and again is not None and of_item is not None
    assert change.container is d and of_item.container is d["l"]
    assert (change.path, of_item.path) == ("root['d']['x']", "root['d']['l']")
    assert change.own and change.key == "x" and change.index is None
    assert repr(change) == "Change(kind='insert', path=\"root['d']['x']\", removed=0, added=1)"
    assert repr(of_item) == "Change(kind='insert', path=\"root['d']['l']\", index=1, removed=0, added=1)"
    assert change == change and change != again and change != 1 and hash(change) != hash(again)
    for name in ("kind", "key", "container", "path", "own"):
        with pytest.raises(AttributeError):
            setattr(change, name, 1)
    assert repr(watch) == "<persist.Watch of root['d']>"
    del root["d"]
    assert change.path is None
    assert repr(change) == "Change(kind='insert', key='x', removed=0, added=1)"


def test_a_transaction_is_reported_at_its_commit_and_what_was_undone_never(
    store: persist.Store, root: persist.Dict
) -> None:
    watch = root.watch()
    with store.transaction():
        root["a"] = 1
        with pytest.raises(ZeroDivisionError), store.transaction():
            root["undone"] = 1
            raise ZeroDivisionError
        with pytest.raises(TypeError):
            root.update({"refused": object()})
        root["b"] = 1
        assert watch.poll() is None
        with pytest.raises(persist.Error, match="inside a transaction"):
            watch.poll(LONG)
    with pytest.raises(ZeroDivisionError), store.transaction():
        root["never"] = 1
        raise ZeroDivisionError
    assert reported(watch) == [("insert", "a", 0, 1), ("insert", "b", 0, 1)]


def test_loops_end_by_time_by_close_and_with_the_store(path: Path) -> None:
    with persist.open(path) as store:
        root = store.root
        with root.watch(timeout=0.05) as watch:
            root["x"] = 1
            begun = time.monotonic()
            assert [change.key for change in watch] == ["x"]
            assert time.monotonic() - begun >= 0.05
            assert watch.poll(0.01) is None
        assert watch.closed and list(watch) == [] and repr(watch).endswith(", closed>")
        watch.close()
        for bad in (-1, "x"):
            with pytest.raises((ValueError, TypeError)):
                root.watch(timeout=bad)  # type: ignore[arg-type]

        endless = root.watch()
        found: list[Any] = []
        thread = threading.Thread(target=lambda: found.extend(endless))
        thread.start()
        root["y"] = 1
        wait_until(lambda: found)
        endless.close()
        thread.join(LONG)
        assert not thread.is_alive() and [change.key for change in found] == ["y"]

        last = root.watch()
        errors: list[BaseException] = []

        def follow() -> None:
            try:
                list(last)
            except ValueError as e:
                errors.append(e)

        thread = threading.Thread(target=follow)
        thread.start()
    thread.join(LONG)
    assert not thread.is_alive() and "closed store" in str(errors[0])
    with pytest.raises(ValueError, match="closed store"):
        last.poll()
    last.close()
    with pytest.raises(ValueError, match="closed store"):
        root.watch()


def test_a_callback_on_a_thread(root: persist.Dict, caplog: pytest.LogCaptureFixture) -> None:
    found: list[Any] = []
    threads = set()

    def note(change: persist.Change[Any]) -> None:
        threads.add(threading.current_thread())
        if change.key == "bad":
            raise ZeroDivisionError
        if change.key == "end":
            watch.close()
        found.append(change.key)

    watch = root.watch(note)
    for key in ("a", "bad", "b"):
        root[key] = 1
    wait_until(lambda: "b" in found)
    assert "the callback of" in caplog.text and "ZeroDivisionError" in caplog.text
    root["end"] = 1
    wait_until(lambda: found == ["a", "b", "end"])
    (thread,) = threads
    thread.join(LONG)
    assert not thread.is_alive() and thread is not threading.current_thread()
    with root.watch(callback=lambda change: found.append(change.key)):
        root["c"] = 1
        wait_until(lambda: found[-1] == "c")
    root["d"] = 1
    assert found[-1] == "c"
    with pytest.raises(TypeError, match="callable"):
        root.watch(5)  # type: ignore[arg-type]


def test_overflow_is_reported(root: persist.Dict) -> None:
    watch = root.watch()
    for n in range(8000):
        root["x"] = n
    change = watch.poll()
    assert change is not None and change.kind == "overflow"
    assert change.container is root and change.key is None and repr(change) == "Change(kind='overflow')"
    root["y"] = 1
    assert ("insert", "y", 0, 1) in reported(watch)


def test_a_watch_that_is_dropped_keeps_nothing(root: persist.Dict) -> None:
    root["d"] = {}
    d = root["d"]
    for change in d.watch(timeout=0):
        pytest.fail(repr(change))
    watch = d.watch()
    gone = weakref.ref(watch)
    del watch
    gc.collect()
    assert gone() is None
    other = d.watch()
    d["x"] = 1
    assert reported(other) == [("insert", "x", 0, 1)]


def test_everything_is_watched_by_the_store(store: persist.Store, root: persist.Dict) -> None:
    with store.watch() as watch:
        root["a"] = {"b": [1]}
        reported(watch)
        root["a"]["b"].append(2)
        root["a"]["c"] = 3
        found = [watch.poll(), watch.poll()]
        assert [change and (change.path, change.kind) for change in found] == [
            ("root['a']['b']", "insert"),
            ("root['a']['c']", "insert"),
        ]
        assert found[0] and found[0].container is root["a"]["b"]
        assert repr(watch) == "<persist.Watch of the store>"


def test_readers_and_snapshots(path: Path, script: Script) -> None:
    with persist.open(path) as store:
        store.root["x"] = 1
        store.snapshot("s")
        with store.at("s") as at, pytest.raises(ValueError, match="snapshot"):
            at.root.watch()
        text = """
            import persist, sys
            with persist.open(sys.argv[1], "r") as store:
                watch = store.root.watch()
                print("ready", flush=True)
                print(watch.poll(100).key)
        """
        reader = script.start(text, path)
        assert reader.stdout and reader.stdout.readline() == "ready\n"
        store.root["y"] = 1
        assert script.finish(reader) == "y\n"


WRITER = """
    import persist, sys
    with persist.open(sys.argv[1]) as store:
        for n in range(int(sys.argv[2])):
            with store.transaction():
                store.root["d"][n] = n
                store.root["d"]["last"] = n
"""


def test_changes_of_other_processes_come_in_order(path: Path, script: Script) -> None:
    with persist.open(path) as store:
        store.root["d"] = {}
        d = store.root["d"]
        watch = d.watch(timeout=LONG)
        writers = [script.start(WRITER, path, 100) for _ in range(2)]
        found: list[Any] = []
        for change in watch:
            assert not change.own
            if change.key == "last":
                found.append(change.kind)
                if len(found) == 200:
                    break
            elif change.kind == "insert":
                # The first of both writers: in the order of its loop.
                assert change.key == 0 or change.key - 1 in d
        for writer in writers:
            script.finish(writer)
        assert found == ["insert", *["update"] * 199]


def test_subscribers_that_are_killed_leave_nothing(path: Path, script: Script) -> None:
    text = """
        import persist, sys
        store = persist.open(sys.argv[1])
        watches = [store.root.watch(), store.watch()]
        print("ready", flush=True)
        for change in watches[0]:
            print(change.key, flush=True)
    """
    with persist.open(path) as store:
        for n in range(5):
            process = script.start(text, path)
            assert process.stdout and process.stdout.readline() == "ready\n"
            store.root["x"] = n
            assert process.stdout.readline() == "x\n"
            process.kill()
            process.wait()
        store.root["x"] = -1
        watch = store.root.watch()
        store.root["x"] = -2
        assert reported(watch) == [("update", "x", 1, 1)]


def test_a_wait_is_ended_by_a_signal_and_lets_other_threads_run(root: persist.Dict) -> None:
    watch = root.watch()
    turns = 0

    def other() -> None:
        nonlocal turns
        for _ in range(20):
            time.sleep(0.001)
            turns += 1
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=other)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        watch.poll(LONG)
    thread.join()
    assert turns == 20
    root["x"] = 1
    assert reported(watch) == [("insert", "x", 0, 1)]


def test_a_forked_child_watches_on(root: persist.Dict) -> None:
    watch = root.watch()
    pid = os.fork()
    if pid == 0:
        try:
            change = watch.poll(LONG)
            ok = change is not None and change.kind == "overflow"
            root["child"] = 1
            ok = ok and reported(watch) == [("insert", "child", 0, 1)]
            os._exit(0 if ok else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    change = watch.poll(LONG)
    assert change is not None and change.key == "child" and not change.own


def test_a_greenlet_that_waits_lets_others_run(path: Path, script: Script) -> None:
    pytest.importorskip("gevent")
    text = """
        import gevent.monkey; gevent.monkey.patch_all()
        import gevent, persist, sys
        root = persist.open(sys.argv[1]).root
        root["l"] = []
        found = []
        def follow():
            for change in root.watch(timeout=100):
                found.append(change.key)
                if change.key == "end":
                    return
        def take():
            found.append(root["l"].pop_wait(timeout=100))
        waiting = [gevent.spawn(follow), gevent.spawn(take)]
        gevent.sleep(0.01)
        root["a"] = 1
        gevent.sleep(0.01)
        root["l"].append("item")
        root["end"] = 1
        gevent.joinall(waiting, raise_error=True)
        assert sorted(found) == ["a", "end", "item"], found
    """
    script.run(text, path)


def test_a_program_that_watches_ends(path: Path, script: Script) -> None:
    text = """
        import persist, sys, threading, time
        store = persist.open(sys.argv[1])
        store.root.watch(print)
        store.root.watch(lambda change: time.sleep(1000))
        store.root["x"] = 1
        threading.Thread(target=lambda: list(store.root.watch()), daemon=True).start()
        time.sleep(0.05)
        print("end")
    """
    assert script.run(text, path).endswith("end\n")


def test_a_watch_that_begins_inside_a_transaction(store: persist.Store, root: persist.Dict) -> None:
    with store.transaction():
        root["before"] = 1
        watch = root.watch()
        root["after"] = 1
    kinds = [kind for kind, *_ in reported(watch)]
    assert kinds == ["overflow", "insert"]


def test_sets_and_deques(root: persist.Dict) -> None:
    root["s"], root["q"] = {1}, collections.deque([1])
    for stored, change in (root["s"], lambda s: s.add(2)), (root["q"], lambda q: q.append(2)):
        with stored.watch(timeout=60) as changes:
            change(stored)
            told = next(iter(changes))
        assert told.kind == "insert" and told.container is stored
