"""Messages say what is wrong, where, and what to do; an OSError carries its errno and file as Python's own do."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import threading
from pathlib import Path
from typing import Any, Callable

import persist
import pytest


def test_a_read_only_store_is_named_as_by_open(path: Path) -> None:
    persist.open(path).close()
    with persist.open(path, "r") as store:
        changes: list[Callable[[], object]] = [
            lambda: store.root.update(x=1),
            lambda: store.transaction().__enter__(),
            lambda: store.snapshot("s"),
            lambda: store.drop_snapshot("s"),
        ]
        for change in changes:
            with pytest.raises(OSError) as e:
                change()
            assert (e.value.errno, e.value.filename) == (errno.EROFS, str(path))
            text = "the store is open read-only; open it for writing to change it"
            assert str(e.value) == f"[Errno {errno.EROFS}] {text}: {str(path)!r}"


def test_a_file_that_cannot_be_opened_is_named_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for path in (tmp_path / "a.store", "a.store", "no/../a.store"):
        with pytest.raises(FileNotFoundError) as e:
            persist.open(path, "r")
        assert str(e.value) == f"[Errno 2] No such file or directory: {str(path)!r}"
    with pytest.raises(IsADirectoryError) as directory:
        persist.open(".")
    assert str(directory.value) == "[Errno 21] Is a directory: '.'"


def test_a_closed_store_is_named(path: Path) -> None:
    store = persist.open(path)
    root = store.root
    store.close()
    uses: list[Callable[[], object]] = [lambda: store.root, store.sync, lambda: root["x"], lambda: root.update(x=1)]
    for use in uses:
        with pytest.raises(ValueError) as e:
            use()
        assert str(e.value) == f"I/O operation on closed store {path}; open it again"


def test_snapshots_name_the_store_and_the_remedy(path: Path, store: persist.Store) -> None:
    with pytest.raises(persist.NoSnapshot) as missing:
        store.at("s")
    assert str(missing.value).startswith(f'{path}: there is no snapshot "s"; `persist snapshots')
    store.snapshot("s")
    with pytest.raises(persist.SnapshotExists) as present:
        store.snapshot("s")
    assert str(present.value).startswith(f'{path}: there is a snapshot "s" already; drop it first')
    with store.at("s"), pytest.raises(persist.InUse) as used:
        store.drop_snapshot("s")
    assert str(used.value).startswith(f"{path}: ") and "close it there and try again" in str(used.value)


def test_damage_names_the_store_and_the_remedy(path: Path) -> None:
    with persist.open(path) as store:
        store.root.update({f"key {n}": "x" * 500 for n in range(500)})
    for side in path.parent.glob("the.store-*"):
        side.unlink()
    size = path.stat().st_size
    with path.open("r+b") as file:
        for page in range(2 * 4096, size, 4096):
            file.seek(page + 8)
            file.write(os.urandom(4000))
    with pytest.raises(persist.Corrupt) as e, persist.open(path) as store:
        persist.copy_out(store.root)
    assert str(e.value).startswith(f"{path}: the store is damaged: ") and "`persist check`" in str(e.value)


def test_the_holding_thread_is_named(store: persist.Store) -> None:
    store.root["x"] = 0
    held, end = threading.Event(), threading.Event()

    def hold() -> None:
        with store.root.lock(key="x"):
            held.set()
            end.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        held.wait()
        with pytest.raises(persist.LockTimeout) as late:
            store.root.lock(key="x", timeout=0.05)
    finally:
        end.set()
        thread.join()
    # The kernel's name of the thread follows if it is not that of the process.
    name = rf"a thread of process {os.getpid()} \([^)]+\), thread {thread.native_id}( \".+\")?"
    holder = late.value.holder
    assert holder is not None and re.fullmatch(name, holder), holder
    assert str(late.value).endswith(holder)


def test_a_conflict_names_the_path_and_the_holder(path: Path, store: persist.Store, script: Any) -> None:
    store.root["x"] = 0
    holder = script.start(
        """
        import persist, sys
        root = persist.open(sys.argv[1]).root
        with root.lock(key='x'):
            print("held", flush=True)
            sys.stdin.readline()
        """,
        path,
    )
    assert holder.stdout.readline() == "held\n"
    held = rf"locked exclusively by a thread of process {holder.pid} \([\w.]+\), its main thread"
    with pytest.raises(persist.LockTimeout) as late:
        store.root.lock(key="x", timeout=0.1)
    assert re.fullmatch(rf"timed out after 0\.\d s waiting for root\['x'\]: {held}", str(late.value)), late.value
    with pytest.raises(persist.Conflict) as conflict, store.transaction():
        store.root["x"] = 1
    assert "a lock on root['x'] held by" in str(conflict.value) and "run it again" in str(conflict.value)
    assert f"process {holder.pid} (" in str(conflict.value)
    script.finish(holder)


def test_the_holding_task_is_named(path: Path, store: persist.Store, script: Any) -> None:
    """Of this process and of another, for a lock and for a transaction."""
    store.root.update(x=0, y=0)
    holder = script.start(
        """
        import asyncio, persist, sys
        root = persist.open(sys.argv[1]).root
        async def hold():
            async with root.lock_async(key='x'):
                print("held", flush=True)
                sys.stdin.readline()
        async def main():
            await asyncio.create_task(hold(), name='fetch "prices"')
        asyncio.run(main())
        """,
        path,
    )
    assert holder.stdout.readline() == "held\n"
    there = re.escape(rf'task "fetch \"prices\"" of process {holder.pid} (')

    async def late(**lock: Any) -> str:
        with pytest.raises(persist.LockTimeout) as e:
            await store.root.lock_async(timeout=0.05, **lock)
        assert e.value.holder is not None and e.value.holder in str(e.value)
        return e.value.holder

    async def main() -> None:
        assert re.match(there, await late(key="x"))
        held, end = asyncio.Event(), asyncio.Event()

        async def keep() -> None:
            async with store.root.lock_async(key="y"):
                held.set()
                await end.wait()
            async with store.transaction_async():
                held.set()
                await end.wait()

        task = asyncio.create_task(keep(), name="keeper")
        here = f'task "keeper" of process {os.getpid()} ('
        await held.wait()
        assert (await late(key="y")).startswith(here)
        held.clear()
        end.set()
        end.clear()
        await held.wait()
        with pytest.raises(persist.LockTimeout) as e:
            await asyncio.to_thread(store.root.lock, timeout=0.05)
        assert e.value.holder is not None and e.value.holder.startswith(here), e.value
        end.set()
        await task

    asyncio.run(main())
    script.finish(holder)


def test_a_task_without_a_name_is_a_task(store: persist.Store) -> None:
    """A name that cannot be read counts as none."""

    class Unnamed(asyncio.Task[None]):
        def get_name(self) -> str:
            raise ValueError("no name")

    async def main() -> str:
        loop = asyncio.get_running_loop()
        held, end = asyncio.Event(), asyncio.Event()

        async def keep() -> None:
            async with store.root.lock_async():
                held.set()
                await end.wait()

        task = Unnamed(keep(), loop=loop)
        await held.wait()
        with pytest.raises(persist.LockTimeout) as e:
            await store.root.lock_async(timeout=0.05)
        end.set()
        await task
        return str(e.value.holder)

    assert asyncio.run(main()).startswith(f"a task of process {os.getpid()} (")


def test_the_holding_greenlet_of_gevent_is_named(path: Path, script: Any) -> None:
    pytest.importorskip("gevent")
    holder = script.start(
        """
        import gevent, gevent.event, persist, sys
        store = persist.open(sys.argv[1])
        held, end = gevent.event.Event(), gevent.event.Event()
        def hold():
            with store.root.lock():
                held.set()
                end.wait()
        def late():
            try:
                store.root.lock(timeout=0.05)
            except persist.LockTimeout as e:
                return e.holder
        first = gevent.spawn(hold)
        first.name = 'first'
        held.wait()
        print(gevent.spawn(late).get(), flush=True)
        end.set()
        first.join()
        """,
        path,
    )
    out = holder.stdout.readline()
    script.finish(holder)
    assert out.startswith(f'task "first" of process {holder.pid} ('), out


def test_the_holding_task_of_trio_is_named(store: persist.Store) -> None:
    trio = pytest.importorskip("trio")

    async def main() -> str:
        held, end = trio.Event(), trio.Event()

        async def keep() -> None:
            async with store.root.lock_async():
                held.set()
                await end.wait()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(keep, name="keeper")
            await held.wait()
            with pytest.raises(persist.LockTimeout) as e:
                await store.root.lock_async(timeout=0.05)
            end.set()
        return str(e.value.holder)

    holder = trio.run(main)
    assert holder.startswith(f'task "keeper" of process {os.getpid()} ('), holder
