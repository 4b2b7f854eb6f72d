"""Transactions: completely or not at all, for every reader."""

from __future__ import annotations

import gc
import threading
from pathlib import Path
from typing import Any, Callable

import persist
import pytest
from conftest import wait_until


class Account(persist.Object):
    def __init__(self, balance: int) -> None:
        self.balance = balance


class Stop(Exception):
    pass


def test_commit_and_rollback(store: persist.Store, root: persist.Dict) -> None:
    root.update(a=1, d={"x": [1]}, gone=[1, 2])
    before = persist.copy_out(root)
    with pytest.raises(Stop), store.transaction():
        assert store.in_transaction
        root["a"] = 2
        root["new"] = {"deep": [1]}
        del root["gone"]
        root["d"]["x"].append("text" * 1000)
        root["d"]["x"].insert(0, {})
        raise Stop
    assert not store.in_transaction
    assert root == before
    with store.transaction():
        root["a"] = 2
        del root["gone"]
    assert root == {"a": 2, "d": {"x": [1]}}


def test_what_a_rolled_back_transaction_made_is_gone(store: persist.Store, root: persist.Dict) -> None:
    with pytest.raises(Stop), store.transaction():
        root["d"], root["l"] = {"x": 1}, [1]
        d, l = root["d"], root["l"]  # noqa: E741
        o = root["o"] = Account(5)
        raise Stop
    for use in [
        lambda: d["x"],
        lambda: d.update(x=2),
        lambda: len(l),
        lambda: l.append(1),
        lambda: o.balance,
        lambda: setattr(o, "balance", 1),
        lambda: root.__setitem__("again", d),
        lambda: d.lockExcl(timeout=0),
    ]:
        with pytest.raises(persist.Gone):
            use()
    with pytest.raises(ReferenceError):
        d["x"]
    assert root == {}
    # An instance can be stored again: as it was when it was first stored.
    root["o"] = o
    assert root["o"] is o
    assert o.balance == 5
    d = l = o = None  # type: ignore[assignment] # noqa: E741
    gc.collect()
    for n in range(100):
        root[n] = {"n": [n]}
    assert root[50] == {"n": [50]}
    assert root["o"].balance == 5


def test_instances_survive_a_commit(store: persist.Store, root: persist.Dict) -> None:
    with store.transaction():
        a = root["a"] = Account(1)
        a.balance += 1
        assert root["a"] is a
    assert a.balance == 2
    root["b"] = a
    assert root["b"] is a


def test_nesting_joins_the_outermost(store: persist.Store, root: persist.Dict) -> None:
    with pytest.raises(Stop), store.transaction():
        with store.transaction():
            root["x"] = 1
        assert store.in_transaction
        raise Stop
    assert root == {}
    with store.transaction():
        with store.transaction():
            root["x"] = 1
        root["y"] = 2
    assert root == {"x": 1, "y": 2}


def test_an_inner_block_is_a_savepoint(store: persist.Store, root: persist.Dict) -> None:
    root.update(l=[1], gone={"x": 1}, b=b"x" * 100_000)
    gone = root["gone"]
    with store.transaction():
        root["l"].append(2)
        del root["b"]
        with pytest.raises(Stop), store.transaction():
            root["l"].append(3)
            del root["gone"]
            root["new"] = {"deep": [1]}
            made = root["new"]
            with store.transaction():
                root["l"].append(4)
            raise Stop
        assert root == {"l": [1, 2], "gone": {"x": 1}}
        assert root["gone"] is gone
        with pytest.raises(persist.Gone):
            made["deep"]
        with store.transaction():
            root["l"].append(5)
        root["after"] = {}
    assert root == {"l": [1, 2, 5], "gone": {"x": 1}, "after": {}}
    assert not store.in_transaction


def test_instances_of_an_inner_block(store: persist.Store, root: persist.Dict) -> None:
    with store.transaction():
        kept = root["kept"] = Account(1)
        with pytest.raises(Stop), store.transaction():
            undone = root["undone"] = Account(2)
            kept.balance = 10
            raise Stop
        assert kept.balance == 1
        with pytest.raises(persist.Gone):
            undone.balance  # noqa: B018
        root["again"] = undone
        with store.transaction():
            joined = root["joined"] = Account(3)
        joined.balance += 1
    assert root["again"] is undone
    assert (kept.balance, undone.balance, joined.balance) == (1, 2, 4)
    with pytest.raises(Stop), store.transaction():
        with store.transaction():
            last = root["last"] = Account(4)
        last.balance = 5
        raise Stop
    root["last"] = last
    assert (last.balance, set(root)) == (4, {"kept", "again", "joined", "last"})


def test_locks_outlive_the_block_they_were_taken_in(store: persist.Store, root: persist.Dict) -> None:
    root["d"] = {}
    with store.transaction():
        with pytest.raises(Stop), store.transaction():
            root["d"].lockExcl()
            raise Stop
        root["d"]["x"] = 1
    root["d"].unlock()
    with pytest.raises(persist.NotLocked):
        root["d"].unlock()


def hold_lock(lock: Callable[[], persist.Lock], leave: threading.Event) -> threading.Thread:
    ready = threading.Event()

    def hold() -> None:
        with lock():
            ready.set()
            leave.wait(100)

    thread = threading.Thread(target=hold)
    thread.start()
    ready.wait(100)
    return thread


def test_a_dead_transaction_refuses_everything(store: persist.Store, root: persist.Dict) -> None:
    root.update(d={}, l=[1], o=Account(1), x=0)
    d, l, o = root["d"], root["l"], root["o"]  # noqa: E741
    leave = threading.Event()
    thread = hold_lock(d.lockExcl, leave)
    uses = [
        lambda: root["x"],
        lambda: root.get("x"),
        lambda: "x" in root,
        lambda: len(root),
        lambda: list(root),
        lambda: root.update(x=1),
        lambda: root.__setitem__("x", 1),
        lambda: root.__setitem__("x", [1, 2]),
        lambda: root.__delitem__("x"),
        lambda: l[0],
        lambda: l.__setitem__(0, 5),
        lambda: l.append(1),
        lambda: o.balance,
        lambda: setattr(o, "balance", 7),
        lambda: l.lockExcl(),
        lambda: store.transaction().__enter__(),
        lambda: store.run(lambda: 1),
        lambda: store.sync(),
        lambda: store.gc(),
        lambda: store.stat(),
        lambda: store.root,
    ]
    try:
        with pytest.raises(persist.Conflict, match="outermost"), store.transaction():
            root["x"] = 1
            with pytest.raises(persist.Conflict), store.transaction():
                with pytest.raises(persist.Conflict, match="lock"):
                    d["y"] = 1
                for use in uses:
                    with pytest.raises((persist.TransactionAborted, ValueError)):
                        use()
            for use in uses:
                with pytest.raises((persist.TransactionAborted, ValueError)):
                    use()
            assert store.in_transaction
            # Other owners continue.
            other = threading.Thread(target=lambda: root.update(other=1))
            other.start()
            other.join(100)
        assert not store.in_transaction
        assert root == {"d": {}, "l": [1], "o": o, "x": 0, "other": 1}
        assert o.balance == 1
        root["x"] = 2
    finally:
        leave.set()
        thread.join()
    with store.transaction():
        d["y"] = 1
    assert root["d"] == {"y": 1}


@pytest.mark.parametrize("timeout", [0, 0.02, None])
def test_an_unavailable_lock_ends_the_transaction_with_a_conflict(
    path: Path, timeout: float | None
) -> None:
    """Whatever the timeout: another exception would suggest that the transaction continues."""
    with persist.open(path, lock_timeout=0.05) as store:
        root = store.root
        root["d"] = {}
        leave = threading.Event()
        thread = hold_lock(root["d"].lockExcl, leave)
        try:
            with pytest.raises(persist.Conflict, match="outermost"), store.transaction():
                root["x"] = 1
                with pytest.raises(persist.Conflict, match="lock"):
                    root["d"].lock(timeout=timeout)
            assert root == {"d": {}}
        finally:
            leave.set()
            thread.join()


def test_run_does_not_repeat_what_fails_by_itself(store: persist.Store, root: persist.Dict) -> None:
    calls = []

    def change() -> None:
        calls.append(1)
        root["x"] = len(calls)
        with pytest.raises(Stop), store.transaction():
            root["x"] = 100
            raise Stop

    store.run(change)
    assert calls == [1]
    assert root == {"x": 1}
    with store.transaction():
        with pytest.raises(Stop):
            store.run(lambda: (root.update(x=5), (_ for _ in ()).throw(Stop)))
        assert root == {"x": 1}


def test_run_retries_as_soon_as_the_lock_is_free(store: persist.Store, root: persist.Dict) -> None:
    root["d"] = {"n": 0}
    leave, calls = threading.Event(), []
    thread = hold_lock(root["d"].lockExcl, leave)

    def change() -> None:
        calls.append(1)
        with pytest.raises(Stop), store.transaction():
            raise Stop
        try:
            root["d"]["n"] += 1
        except persist.Conflict:
            leave.set()

    store.run(change)
    thread.join()
    # It waits for the lock, not for a fixed time; there are a few more calls if the machine is busy.
    assert 2 <= len(calls) < 10
    assert root["d"]["n"] == 1


def test_run(store: persist.Store, root: persist.Dict) -> None:
    def add(n: int, *, key: str = "x") -> int:
        root[key] = root.get(key, 0) + n
        return int(root[key])

    assert store.run(add, 2) == 2
    assert store.run(add, 3, key="x") == 5
    with pytest.raises(Stop):
        store.run(lambda: (add(1), (_ for _ in ()).throw(Stop)))
    assert root == {"x": 5}
    with store.transaction():
        assert store.run(add, 1) == 6


def test_run_waits_for_a_foreign_lock(store: persist.Store, root: persist.Dict) -> None:
    root["d"] = {"n": 0}
    ready, calls = threading.Event(), []
    fresh = Account(1)

    def hold() -> None:
        with root["d"].lockExcl():
            ready.set()
            # Until the first try has failed.
            wait_until(lambda: calls)
            root["d"]["n"] += 1

    def change() -> None:
        calls.append(1)
        root["first"] = len(calls)
        root["account"] = fresh
        root["d"]["n"] += 1

    thread = threading.Thread(target=hold)
    thread.start()
    ready.wait()
    store.run(change)
    thread.join()
    assert root["d"]["n"] == 2
    assert len(calls) > 1
    assert root["first"] == len(calls)
    assert root["account"] is fresh
    assert fresh.balance == 1


def test_conflict_rolls_back(store: persist.Store, root: persist.Dict) -> None:
    root["d"] = {}
    ready, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with root["d"].lockExcl():
            ready.set()
            leave.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    ready.wait()
    try:
        with pytest.raises(persist.Conflict), store.transaction():
            root["x"] = 1
            root["d"]["y"] = 1
        assert root == {"d": {}}
    finally:
        leave.set()
        thread.join()


def test_others_see_all_or_nothing(path: Path, root: persist.Dict, script: Any) -> None:
    root.update(a=0, b=0)
    writer = script.start(
        """
        import persist, sys
        with persist.open(sys.argv[1]) as store:
            root = store.root
            print("go", flush=True)
            for _ in range(2000):
                with store.transaction():
                    root['a'] += 1
                    root['b'] -= 1
        """,
        path,
    )
    assert writer.stdout.readline() == "go\n"
    while writer.poll() is None:
        both = root.copy()
        assert both["a"] + both["b"] == 0
    script.finish(writer)
    assert (root["a"], root["b"]) == (2000, -2000)


def test_readers_beside_a_transaction_see_what_was_committed(store: persist.Store, root: persist.Dict) -> None:
    root["x"] = 0
    seen = []

    def read() -> None:
        seen.append(root["x"])

    def read_elsewhere() -> None:
        thread = threading.Thread(target=read)
        thread.start()
        thread.join(100)

    with store.transaction():
        root["x"] = 1
        read_elsewhere()
        try:
            with store.transaction():
                root["x"] = 2
                read_elsewhere()
                raise ZeroDivisionError
        except ZeroDivisionError:
            read_elsewhere()
        assert seen == [0, 0, 0]
        assert root["x"] == 1
        root["x"] = 3
    read_elsewhere()
    assert seen == [0, 0, 0, 3]


@pytest.mark.parametrize("large", [5_000, 500_000])
def test_large_values_that_a_transaction_replaces_are_read_as_before_it(
    store: persist.Store, root: persist.Dict, large: int
) -> None:
    text, data, number = "é" * large, b"x" * large, 7 ** (large // 10)
    root.update(text=text, data=data, number=number, items=[text, data], inner={"text": text})
    before = persist.copy_out(root)
    looked, leave = threading.Event(), threading.Event()

    def change() -> None:
        with pytest.raises(Stop), store.transaction():
            root["text"] = "short"
            del root["data"]
            root["number"] = number + 1
            root["items"].pop()
            root["items"][0] = b"y" * large
            root["inner"].clear()
            looked.set()
            assert leave.wait(100)
            raise Stop

    thread = threading.Thread(target=change)
    thread.start()
    try:
        assert looked.wait(100)
        for _ in range(3):
            assert root["text"] == text and root["data"] == data and root["number"] == number
            assert dict(root.items())["text"] == text
            assert list(root["items"]) == [text, data] and root["items"][1] == data
            assert list(root["inner"].values()) == [text] and str(root["inner"]).count("é") > 100
            assert persist.copy_out(root) == before
    finally:
        leave.set()
        thread.join()
    assert persist.copy_out(root) == before


def test_a_killed_writer_leaves_nothing_half_done(path: Path, root: persist.Dict, script: Any) -> None:
    root.update(a=0, b=0)
    for _ in range(3):
        writer = script.start(
            """
            import persist, sys
            store = persist.open(sys.argv[1])
            print("go", flush=True)
            while True:
                with store.transaction():
                    store.root['a'] += 1
                    store.root['l'] = ["x" * 100] * 50
                    store.root['b'] -= 1
            """,
            path,
        )
        assert writer.stdout.readline() == "go\n"
        before = root["a"]
        wait_until(lambda before=before: root["a"] > before + 10)
        writer.kill()
        writer.wait()
        assert root["a"] + root["b"] == 0
        root["after"] = 1
