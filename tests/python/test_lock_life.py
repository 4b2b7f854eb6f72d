"""Locks end when they should: collected, interrupted, released during a transaction, at exit."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import persist
import pytest
from conftest import Script, wait_until


def held(store: persist.Store) -> int:
    """Return the number of locks on the root or its entries, as another thread sees it."""
    refused = 0
    for mode in ["whole", "x", "y"]:

        def attempt(mode: str = mode) -> None:
            nonlocal refused
            try:
                key = ... if mode == "whole" else mode
                with store.root.lock(key, timeout=0):
                    pass
            except persist.LockTimeout:
                refused += 1

        thread = threading.Thread(target=attempt)
        thread.start()
        thread.join()
    return refused


def test_a_dropped_lock_is_released_with_a_warning(store: persist.Store) -> None:
    with pytest.warns(ResourceWarning, match="with block"):
        store.root.lock()
        gc.collect()
    assert held(store) == 0


def test_a_dropped_lock_of_a_task_is_released_with_a_warning(store: persist.Store) -> None:
    async def main() -> None:
        # One that was never awaited holds nothing.
        store.root.lock_async()
        gc.collect()
        assert held(store) == 0
        with pytest.warns(ResourceWarning, match="with block"):
            await store.root.lock_async()
            gc.collect()
        assert held(store) == 0
        lock = await store.root.lock_async("x")
        assert held(store) == 2
        # A task that ends with a lock, and one that is cancelled while it waits for one.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)

            async def forget() -> None:
                await store.root.lock_async("y", timeout=100)

            await asyncio.create_task(forget())
            gc.collect()
            assert held(store) == 2

            async def wait() -> None:
                async with store.root.lock_async("x", timeout=100):
                    raise AssertionError("two tasks have the lock")

            waiting = asyncio.create_task(wait())
            await asyncio.sleep(0.01)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            del lock, waiting
            gc.collect()
        assert held(store) == 0

    asyncio.run(main())


def test_a_lock_dropped_by_another_thread_is_released(store: persist.Store) -> None:
    box = [store.root.lock("x")]
    assert held(store) == 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        thread = threading.Thread(target=box.clear)
        thread.start()
        thread.join()
    assert held(store) == 0


def test_a_lock_of_a_thread_that_ended_takes_no_lock_from_its_successor(store: persist.Store) -> None:
    box: list[object] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        for _ in range(5):
            thread = threading.Thread(target=lambda: box.append(store.root.lock("x")))
            thread.start()
            thread.join()
        locked, end = threading.Event(), threading.Event()

        def successor() -> None:
            with store.root.lock("x"):
                locked.set()
                end.wait(100)

        thread = threading.Thread(target=successor)
        thread.start()
        assert locked.wait(100)
        box.clear()
        gc.collect()
        assert held(store) == 2
        end.set()
        thread.join()
    assert held(store) == 0


def test_lockexcl_keeps_a_lock_until_unlock(store: persist.Store) -> None:
    root = store.root
    root.lockExcl()
    gc.collect()
    assert held(store) == 3
    root.unlock()
    assert held(store) == 0
    root.lockShared("x")
    gc.collect()
    assert held(store) == 2
    root.unlock("x")
    assert held(store) == 0


def test_a_lock_of_a_closed_store_is_released(path: Path) -> None:
    store = persist.open(path)
    kept, other = store.root.lockExcl(), store.root.lock("x")
    assert "held" in repr(kept) and "held" in repr(other)
    store.close()
    assert "released" in repr(kept) and "released" in repr(other)
    kept.release()
    with pytest.raises(ValueError, match="closed"):
        other.__enter__()


def test_unlock_ends_the_lock_that_lock_returned(store: persist.Store) -> None:
    root = store.root
    first = root.lock()
    root.unlock()
    assert "released" in repr(first)
    with root.lock():
        del first
        gc.collect()
        assert held(store) == 3
    assert held(store) == 0


def test_unlock_ends_the_newest_level_and_no_other(store: persist.Store) -> None:
    root = store.root
    with root.lock():
        root.lockExcl()
        root.unlock()
        assert held(store) == 3
    assert held(store) == 0
    first = root.lock("x")
    root.lockShared("x")
    second = root.lock("x")
    root.unlock("x")
    assert "released" in repr(second)
    root.unlock("x")
    assert "held" in repr(first)
    first.release()
    assert held(store) == 0


def test_a_lock_is_used_again(store: persist.Store) -> None:
    lock = store.root.lock("x")
    lock.release()
    for _ in range(3):
        with lock as root:
            assert root is store.root
            assert held(store) == 2
        assert held(store) == 0


def test_timeouts_are_keywords(store: persist.Store, path: Path) -> None:
    root = store.root
    root["l"] = []
    root.lockExcl(5).release()  # the key 5
    with root.lock(5):
        assert held(store) == 1
    for call in [
        lambda: root.lock("x", False),
        lambda: root.lockExcl("x", 0.5),
        lambda: root.lockShared("x", 0.5),
        lambda: root["l"].lockExcl(0.5),
        lambda: root["l"].lock(True),
        lambda: persist.open(path, "rw", "checkpoint", 0.5),
    ]:
        with pytest.raises(TypeError):
            call()


@pytest.mark.parametrize("framework", ["none", "trio", "gevent"])
def test_a_signal_leaves_no_lock_behind(store: persist.Store, framework: str) -> None:
    """A timer raises in and around `lock()`, contended and not, like Ctrl-C at any moment.

    A function of trio that tells the running task is written in Python: a signal handler may raise in it.
    """
    if framework != "none":
        pytest.importorskip(framework)
    root = store.root

    class Alarm(Exception):
        pass

    def raises(_signum: int, _frame: object) -> None:
        raise Alarm

    end = threading.Event()

    def other() -> None:
        while not end.is_set():
            with root.lock("x"):
                time.sleep(0.0002)

    thread = threading.Thread(target=other)
    before = signal.signal(signal.SIGALRM, raises)
    interrupted = 0
    thread.start()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            deadline = time.monotonic() + 60
            while interrupted < 300 and time.monotonic() < deadline:
                try:
                    signal.setitimer(signal.ITIMER_REAL, 0.0001 + interrupted % 17 * 0.00005)
                    for _ in range(1000):
                        with root.lock("x"):
                            pass
                    time.sleep(60)  # the timer ends it
                    pytest.fail(f"the exception of a signal handler was lost after {interrupted}")
                except Alarm:
                    interrupted += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        end.set()
        thread.join()
    assert interrupted >= 20
    gc.collect()
    assert held(store) == 0


BUSY = """
    import sys, persist
    with persist.open(sys.argv[1]) as store:
        with store.transaction():
            store.root['other'] = 1
            print('busy', flush=True)
            sys.stdin.read()
"""


def test_release_does_not_wait_for_a_transaction_elsewhere(path: Path, script: Script) -> None:
    with persist.open(path, lock_timeout=0.05) as store:
        root = store.root
        root["x"] = 0
        lock = root.lock("x")
        busy = script.start(BUSY, path)
        assert busy.stdout is not None and busy.stdout.readline() == "busy\n"
        lock.release()
        assert "released" in repr(lock)
        busy.communicate("")
        assert held(store) == 0
        lock = root.lock("x")
        busy = script.start(BUSY, path)
        assert busy.stdout is not None and busy.stdout.readline() == "busy\n"
        root.unlock("x")
        busy.communicate("")
        with persist.open(path, lock_timeout=100) as patient:
            patient.root["x"] += 1
        assert held(store) == 0


@pytest.mark.parametrize("call", ["sync()", "gc()", "snapshot('s')", "root.update(a=1)"])
def test_long_calls_answer_ctrl_c(path: Path, script: Script, call: str) -> None:
    with persist.open(path) as store:
        store.root["x"] = 1
        busy = script.start(BUSY, path)
        assert busy.stdout is not None and busy.stdout.readline() == "busy\n"
        waiting = script.start(
            f"""
            import os, sys, persist
            store = persist.open(sys.argv[1], lock_timeout=1000)
            try:
                print('calling', flush=True)
                store.{call}
                print('done', flush=True)
            except KeyboardInterrupt:
                print('interrupted', flush=True)
            os._exit(0)
            """,
            path,
        )
        assert waiting.stdout is not None and waiting.stdout.readline() == "calling\n"
        time.sleep(0.2)  # most likely it waits by now; the answer is the same if it does not yet
        waiting.send_signal(signal.SIGINT)
        waiting.wait(timeout=100)
        assert waiting.stdout.read() == "interrupted\n"
        busy.communicate("")


def test_a_daemon_thread_in_a_transaction_does_not_delay_exit(path: Path, script: Script) -> None:
    program = script.start(
        """
        import sys, threading, time, persist
        store = persist.open(sys.argv[1], lock_timeout=1000)
        store.root['kept'] = 1
        begun = threading.Event()
        def transact():
            with store.transaction():
                store.root['undone'] = 1
                begun.set()
                time.sleep(1000)
        threading.Thread(target=transact, daemon=True).start()
        begun.wait()
        """,
        path,
    )
    assert program.wait(timeout=100) == 0
    with persist.open(path) as store:
        assert dict(store.root) == {"kept": 1}


def test_lock_timeout_belongs_to_the_opening_that_named_it(path: Path) -> None:
    with persist.open(path, lock_timeout=1000) as patient:
        patient.root["x"] = 1
        with persist.open(path, lock_timeout=0.01) as hasty:
            assert patient.root == hasty.root
            locked, end = threading.Event(), threading.Event()

            def hold() -> None:
                with patient.root.lock("x"):
                    locked.set()
                    end.wait(100)

            thread = threading.Thread(target=hold)
            thread.start()
            assert locked.wait(100)
            with pytest.raises(persist.LockTimeout):
                hasty.root["x"] = 2
            writer = threading.Thread(target=lambda: patient.root.__setitem__("x", 3))
            writer.start()
            writer.join(0.3)
            assert writer.is_alive(), "the patient opening waits"
            end.set()
            writer.join(100)
            thread.join(100)
            assert hasty.root["x"] == 3


def test_lock_timeout_of_an_opening_bounds_what_concerns_the_whole_store(path: Path) -> None:
    with persist.open(path, lock_timeout=1000) as patient, persist.open(path, lock_timeout=0.02) as hasty:
        ended: list[str] = []

        def attempt() -> None:
            for call in [hasty.sync, hasty.gc, lambda: hasty.snapshot("s")]:
                try:
                    call()
                except persist.LockTimeout as e:
                    ended.append(str(e))

        with patient.transaction():
            patient.root["x"] = 1
            thread = threading.Thread(target=attempt, daemon=True)
            thread.start()
            thread.join(100)
            assert len(ended) == 3, "it waits as long as the other opening would"
        hasty.sync()


def test_subinterpreters_are_refused_and_do_not_touch_the_stores(path: Path) -> None:
    program = """
import sys, persist
store = persist.open(sys.argv[1])
store.root['x'] = 1
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
code = '''
try:
    import persist
except ImportError as e:
    assert "subinterpreter" in str(e), e
else:
    raise SystemExit("the import was not refused")
'''
sub = interpreters.create()
failed = interpreters.exec(sub, code) if hasattr(interpreters, "exec") else interpreters.run_string(sub, code)
assert failed is None, failed
interpreters.destroy(sub)
store.root['x'] += 1
print(store.root['x'])
"""
    done = subprocess.run(
        [sys.executable, "-c", program, os.fspath(path)], capture_output=True, text=True, timeout=100
    )
    assert (done.returncode, done.stdout) == (0, "2\n"), done.stderr


def test_forked_children_keep_their_parents_locks(store: persist.Store) -> None:
    lock = store.root.lock("x")
    child = os.fork()
    if child == 0:
        del lock
        gc.collect()
        os._exit(0)
    os.waitpid(child, 0)
    assert held(store) == 2
    lock.release()
    wait_until(lambda: held(store) == 0)


def test_locks_are_released_in_any_order(store: persist.Store) -> None:
    """The end of an older level does not affect a newer one."""
    r = store.root
    older = r.lock(shared=True)
    newer = r.lock()
    older.release()
    seen: list[bool] = []

    def ask() -> None:
        try:
            with r.lock(shared=True, timeout=0):
                seen.append(True)
        except persist.LockTimeout:
            seen.append(False)

    for expected in (False, True):
        thread = threading.Thread(target=ask)
        thread.start()
        thread.join(100)
        assert seen.pop() is expected
        if not expected:
            newer.release()
