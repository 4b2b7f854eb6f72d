"""Locks: between threads, between processes, on containers and on entries."""

from __future__ import annotations

import re
import signal
import threading
import time
from pathlib import Path
from typing import Any, Callable

import persist
import pytest


def elsewhere(call: Callable[[], Any]) -> Any:
    """Run a call in another thread, which is another owner. Raise its exception here."""
    result: list[Any] = []

    def body() -> None:
        try:
            result.append((call(), None))
        except BaseException as e:
            result.append((None, e))

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    value, error = result[0]
    if error is not None:
        raise error
    return value


def test_with_and_unlock(root: persist.Dict) -> None:
    held = root.lockExcl()
    assert isinstance(held, persist.Lock)
    assert "exclusive, held" in repr(held)
    root.unlock()
    with pytest.raises(persist.NotLocked):
        root.unlock()
    with root.lockExcl() as got:
        assert got is root
    with root.lockShared(), root.lock(shared=True) as got:
        assert got is root
    held = root.lock(key="x")
    held.release()
    held.release()
    with pytest.raises(RuntimeError):
        root.unlock(key="x")
    with pytest.raises(ZeroDivisionError), root.lockExcl():
        1 // 0  # noqa: B018
    elsewhere(lambda: root.lockExcl(timeout=0).release())


def test_exclusive_keeps_others_out(store: persist.Store, root: persist.Dict) -> None:
    root["d"] = {"x": 1}
    d = root["d"]
    with d.lockExcl():
        d["x"] = 2
        assert elsewhere(lambda: d["x"]) == 2  # reads never wait
        for timeout in [0, 0.05]:
            with pytest.raises(persist.LockTimeout):
                elsewhere(lambda timeout=timeout: d.lockExcl(timeout=timeout))
            with pytest.raises(TimeoutError):
                elsewhere(lambda timeout=timeout: d.lockShared(timeout=timeout))
        elsewhere(lambda: root.__setitem__("other", 1))  # another container
    elsewhere(lambda: d.__setitem__("x", 3))
    assert d["x"] == 3


def test_shared_locks_share_and_keep_changes_out(path: Path) -> None:
    with persist.open(path, lock_timeout=0.1) as store:
        root = store.root
        with root.lockShared():
            elsewhere(lambda: root.lockShared(timeout=0).release())
            with pytest.raises(persist.LockTimeout):
                elsewhere(lambda: root.lockExcl(timeout=0))
            with pytest.raises(persist.LockTimeout):
                elsewhere(lambda: root.__setitem__("x", 1))
        elsewhere(lambda: root.__setitem__("x", 1))


def test_entries_have_locks_of_their_own(path: Path) -> None:
    with persist.open(path, lock_timeout=0.1) as store:
        root = store.root
        root.update(x=1, y=2)
        for key in ["x", None, 1, b"k", 2**80]:
            with root.lock(key=key):
                with pytest.raises(persist.LockTimeout):
                    elsewhere(lambda key=key: root.lock(key=key, timeout=0))
                with pytest.raises(persist.LockTimeout):
                    elsewhere(lambda key=key: root.__setitem__(key, 5))
                with pytest.raises(persist.LockTimeout):
                    elsewhere(lambda: root.lockExcl(timeout=0))
                elsewhere(lambda: root.lock(key="y", timeout=0).release())
                elsewhere(lambda: root.__setitem__("y", 5))
        with pytest.raises(TypeError):
            root.lock(key=[])


def test_attributes_and_lists(path: Path) -> None:
    with persist.open(path, lock_timeout=0.1) as store:
        root = store.root
        o: Any = persist.Object()
        with pytest.raises(ValueError, match="not in a store"):
            o.lockExcl()
        root["o"] = o
        o.x = o.y = 1
        with o.lock(key="x"):
            with pytest.raises(persist.LockTimeout):
                elsewhere(lambda: setattr(o, "x", 2))
            elsewhere(lambda: setattr(o, "y", 2))
        with o.lockExcl():
            with pytest.raises(persist.LockTimeout):
                elsewhere(lambda: setattr(o, "y", 3))
        assert (o.x, o.y) == (1, 2)
        root["l"] = [1]
        with root["l"].lockExcl(), pytest.raises(persist.LockTimeout):
            elsewhere(lambda: root["l"].append(2))
        with pytest.raises(TypeError):
            root["l"].lock(key=0)
        assert root["l"] == [1]


def test_locks_are_counted_and_upgrade(root: persist.Dict) -> None:
    root.lockShared()
    root.lockExcl()
    root.lockExcl()
    root.unlock()
    root.unlock()
    with pytest.raises(persist.LockTimeout):
        elsewhere(lambda: root.lockExcl(timeout=0))
    root.unlock()
    elsewhere(lambda: root.lockExcl(timeout=0).release())


def test_a_lock_belongs_to_its_thread(root: persist.Dict) -> None:
    with root.lockExcl(), pytest.raises(persist.NotLocked):
        elsewhere(lambda: root.unlock())
    held = root.lockExcl()
    with pytest.raises(persist.NotLocked):
        elsewhere(held.release)
    assert "held" in repr(held)
    held.release()
    with pytest.raises(persist.NotLocked):
        root.unlock()


def test_waiting_lets_other_threads_run_and_ends(root: persist.Dict) -> None:
    ready, done = threading.Event(), []

    def holder() -> None:
        with root.lockExcl():
            ready.set()
            time.sleep(0.2)
            done.append(1)

    thread = threading.Thread(target=holder)
    thread.start()
    ready.wait()
    with root.lockExcl():
        assert done == [1]
    thread.join()


def test_bad_timeouts(root: persist.Dict) -> None:
    for timeout in [-1, float("nan")]:
        with pytest.raises(ValueError, match="timeout"):
            root.lockExcl(timeout=timeout)
    root.lockExcl(timeout=float("inf")).release()


def test_deadlock_of_threads_is_found(root: persist.Dict) -> None:
    root.update(a={}, b={})
    barrier, deadlocks = threading.Barrier(2), []

    def body(first: str, second: str) -> None:
        with root[first].lockExcl():
            barrier.wait()
            try:
                with root[second].lockExcl():
                    pass
            except persist.Deadlock as e:
                deadlocks.append(e)

    threads = [threading.Thread(target=body, args=pair) for pair in [("a", "b"), ("b", "a")]]
    for t in threads:
        t.start()
    # They do not end by a timeout: these requests wait without a limit.
    for t in threads:
        t.join()
    assert len(deadlocks) == 1
    expected = r"acquiring root\['[ab]'\] would deadlock with .+; release your locks and try again"
    assert re.fullmatch(expected, str(deadlocks[0])), deadlocks


def test_deadlock_of_processes_is_found(path: Path, root: persist.Dict, script: Any) -> None:
    root.update(a={}, b={})
    text = """
        import persist, sys
        root = persist.open(sys.argv[1]).root
        with root[sys.argv[2]].lockExcl():
            print("held", flush=True)
            sys.stdin.readline()
            try:
                with root[sys.argv[3]].lockExcl():
                    print("got it")
            except persist.Deadlock:
                print("deadlock")
    """
    one, two = script.start(text, path, "a", "b"), script.start(text, path, "b", "a")
    for p in (one, two):
        assert p.stdout.readline() == "held\n"
    for p in (one, two):
        p.stdin.write("\n")
        p.stdin.flush()
    assert sorted([script.finish(one), script.finish(two)]) == ["deadlock\n", "got it\n"]


def test_locks_between_processes(path: Path, root: persist.Dict, script: Any) -> None:
    holder = script.start(
        """
        import persist, sys
        root = persist.open(sys.argv[1]).root
        root.lockExcl()
        root['x'] = 'theirs'
        print("held", flush=True)
        sys.stdin.readline()
        root.unlock()
        print("free", flush=True)
        sys.stdin.readline()
        """,
        path,
    )
    assert holder.stdout.readline() == "held\n"
    assert root["x"] == "theirs"
    expected = rf"after 0\.\d s waiting for root: locked exclusively by a thread of process {holder.pid} \(\w+"
    with pytest.raises(persist.LockTimeout, match=expected):
        root.lockExcl(timeout=0.1)
    holder.stdin.write("\n")
    holder.stdin.flush()
    with root.lockExcl(timeout=100):
        root["x"] = "ours"
    script.finish(holder)


def test_a_dead_holders_locks_are_freed(path: Path, root: persist.Dict, script: Any) -> None:
    holder = script.start(
        """
        import persist, sys
        root = persist.open(sys.argv[1]).root
        root.lockExcl()
        print("held", flush=True)
        sys.stdin.readline()
        """,
        path,
    )
    assert holder.stdout.readline() == "held\n"
    timer = threading.Timer(0.2, lambda: holder.send_signal(signal.SIGKILL))
    timer.start()
    root["x"] = 1
    with root.lockExcl(timeout=100):
        pass
    timer.join()


def test_waiting_can_be_interrupted(path: Path, script: Any) -> None:
    text = """
        import persist, signal, sys, threading
        store = persist.open(sys.argv[1], lock_timeout=1000)
        root = store.root
        ready, leave = threading.Event(), threading.Event()

        def hold():
            with root.lockExcl():
                ready.set()
                leave.wait()

        thread = threading.Thread(target=hold)
        thread.start()
        ready.wait()
        for wait in (lambda: root.lockExcl(), lambda: root.update(x=1)):
            timer = threading.Timer(0.2, lambda: signal.raise_signal(signal.SIGINT))
            try:
                # On a slow machine the signal may come before the wait.
                timer.start()
                wait()
            except KeyboardInterrupt:
                print("interrupted")
            timer.join()
        leave.set()
        thread.join()
        with root.lockExcl(timeout=100):
            root['x'] = 1
    """
    assert script.run(text, path) == "interrupted\n" * 2
