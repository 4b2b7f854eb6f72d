"""Deadlocks over two stores: found within a process, bounded across processes; and what `close()` releases."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import persist
import pytest
from conftest import Script, wait_until

LONG = 60


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[list[persist.Store]]:
    stores = [persist.open(tmp_path / f"{name}.store", lock_timeout=LONG) for name in "ab"]
    for store in stores:
        store.root["d"] = {}
    yield stores
    for store in stores:
        store.close()


def lock(store: persist.Store) -> AbstractContextManager[object]:
    return store.root["d"].lock()


def transaction(store: persist.Store) -> AbstractContextManager[object]:
    return store.transaction()


Step = Callable[[persist.Store], AbstractContextManager[object]]


@pytest.mark.parametrize(
    ("holds", "wants"),
    [
        ((lock, lock), (lock, lock)),
        ((transaction, lock), (lock, transaction)),
        ((transaction, transaction), (transaction, lock)),
    ],
)
def test_threads(pair: list[persist.Store], holds: list[Step], wants: list[Step]) -> None:
    both, ended = threading.Barrier(2), ["", ""]

    def play(i: int) -> None:
        try:
            with holds[i](pair[i]):
                both.wait(LONG)
                with wants[i](pair[1 - i]):
                    ended[i] = "went on"
        except persist.Deadlock as e:
            ended[i] = str(e)

    threads = [threading.Thread(target=play, args=(i,)) for i in range(2)]
    begun = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG)
    assert time.monotonic() - begun < LONG / 2
    assert ended.count("went on") == 1, ended
    told = next(e for e in ended if e != "went on")
    assert all(str(store.path) in told for store in pair), told


def test_tasks(pair: list[persist.Store]) -> None:
    async def main() -> list[str]:
        ended, there = ["", ""], 0

        async def play(i: int) -> None:
            nonlocal there
            try:
                async with pair[i].root["d"].lock_async():
                    there += 1
                    while there < 2:
                        await asyncio.sleep(0)
                    async with pair[1 - i].root["d"].lock_async():
                        ended[i] = "went on"
            except persist.Deadlock as e:
                ended[i] = str(e)

        await asyncio.wait_for(asyncio.gather(play(0), play(1)), LONG / 2)
        return ended

    ended = asyncio.run(main())
    assert ended.count("went on") == 1, ended
    told = next(e for e in ended if e != "went on")
    assert all(str(store.path) in told for store in pair), told


OTHER = """
    import sys, persist
    mine, theirs = (persist.open(p, lock_timeout=1.5) for p in sys.argv[1:3])
    with mine.root["d"].lock():
        print("held", flush=True)
        sys.stdin.readline()
        try:
            with theirs.root["d"].lock():
                print("went on")
        except TimeoutError as e:
            print(type(e).__name__, e)
"""


def test_processes(pair: list[persist.Store], script: Script) -> None:
    """Neither process knows of the other's wait: both waits are bounded, though no timeout was given."""
    paths = [store.path for store in pair]
    players = [script.start(OTHER, *order) for order in (paths, paths[::-1])]
    for player in players:
        assert player.stdout is not None and player.stdin is not None
        assert player.stdout.readline() == "held\n"
    for player in players:
        assert player.stdin is not None
        player.stdin.write("\n")
        player.stdin.flush()
    ended = [script.finish(player, LONG) for player in players]
    told = [e for e in ended if e != "went on\n"]
    assert told, ended
    for text in told:
        assert "deadlock" in text and all(f"of {p}" in text or f"in {p}" in text for p in paths), text
        assert any(str(player.pid) in text for player in players), text


def test_one_process_that_holds_nothing_elsewhere_waits_on(tmp_path: Path, script: Script) -> None:
    """The bound applies to owners with locks in another store: others wait without a limit, as requested."""
    names = [tmp_path / f"{name}.store" for name in "ab"]
    stores = [persist.open(name, lock_timeout=0.3) for name in names]
    stores[0].root["d"] = {}
    holder = script.start(
        """
        import sys, persist
        with persist.open(sys.argv[1]).root["d"].lock():
            print("held", flush=True)
            sys.stdin.readline()
        """,
        names[0],
    )
    assert holder.stdout is not None and holder.stdin is not None
    assert holder.stdout.readline() == "held\n"
    got = threading.Event()

    def wait() -> None:
        stores[1].root["x"] = 1
        with stores[0].root["d"].lock():
            got.set()

    thread = threading.Thread(target=wait)
    thread.start()
    assert not got.wait(1.5)
    assert thread.is_alive()
    script.finish(holder)
    thread.join(LONG)
    assert got.is_set()
    for store in stores:
        store.close()


def of_folder(folder: Path) -> list[str]:
    """Return descriptors and mappings of this process that name a file of the directory."""
    found = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{fd}"))
        except OSError:
            continue  # The descriptor of the listing itself.
    found += Path("/proc/self/maps").read_text().splitlines()
    return [line for line in found if str(folder) in line]


@pytest.mark.parametrize("durability", ["checkpoint", "commit", "none"])
def test_close_gives_back_what_it_has_though_proxies_are_there(tmp_path: Path, durability: str) -> None:
    path = tmp_path / "the.store"
    store = persist.open(path, durability=durability)
    root = store.root
    root["list"] = [1, 2, {"x": 3}]
    inner, items = root["list"][2], root["list"]
    iterator = iter(items)
    next(iterator)
    held = inner.lock()
    numbers = len(os.listdir("/proc/self/fd"))
    assert len(of_folder(tmp_path)) > 4
    store.close()
    assert of_folder(tmp_path) == []
    assert len(os.listdir("/proc/self/fd")) < numbers - 3
    for use in (
        lambda: root["list"],
        lambda: items.append(1),
        lambda: inner.update(x=1),
        lambda: next(iterator),
        lambda: len(items),
        lambda: inner.lock(),
        lambda: store.stat(),
        lambda: store.sync(),
    ):
        with pytest.raises(ValueError, match="closed"):
            use()
    held.release()
    with persist.open(path) as again:
        assert again.root == {"list": [1, 2, {"x": 3}]}
        assert again.root is not root


def turn(i: int, n: int, root: persist.Dict) -> None:
    """Use a store in one of several ways."""
    if i == 0:
        root["x"] += 1
    elif i == 1:
        assert root["list"][n % 100] == 0
    else:
        root[f"y{n % 50}"] = "z" * (n % 300)


def use(i: int, root: persist.Dict, ends: list[str], turns: list[int]) -> None:
    try:
        while True:
            turns[i] += 1
            turn(i, turns[i], root)
    except ValueError as e:
        ends.append(str(e))


def test_threads_that_read_and_write_while_it_is_closed(tmp_path: Path) -> None:
    for n in range(20):
        store = persist.open(tmp_path / f"{n}.store", durability="none")
        store.root["x"], store.root["list"] = 0, [0] * 100
        ends: list[str] = []
        turns = [0, 0, 0]
        threads = [threading.Thread(target=use, args=(i, store.root, ends, turns)) for i in range(3)]
        for thread in threads:
            thread.start()
        wait_until(lambda turns=turns: min(turns) > 20)
        store.close()
        for thread in threads:
            thread.join(LONG)
        assert len(ends) == 3 and all("closed" in e for e in ends), ends
        assert of_folder(tmp_path) == []
