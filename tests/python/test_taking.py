"""What takes a value out of a container leaves it there if its decoder raises."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import dataclasses
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import persist
import pytest

COMMAND = Path(sys.executable).parent / "persist"


class Failing:
    """A type whose decoder raises while `broken` is set."""

    broken = False

    def __init__(self, text: str) -> None:
        if Failing.broken:
            raise ValueError(f"cannot read {text!r}")
        self.text = text

    def __eq__(self, other: object) -> bool:
        return type(other) is Failing and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(persist._typed, "_types", {})  # type: ignore[attr-defined]
    monkeypatch.setattr(persist._typed, "_names", {})  # type: ignore[attr-defined]
    monkeypatch.setattr(Failing, "broken", False)
    persist.register(Failing, lambda f: f.text, Failing, name="app.Failing")


def taking(loop: Any) -> dict[str, tuple[Any, Any]]:
    """Return what takes a value out: what is stored under "c", and the call."""
    f = Failing
    return {
        "dict pop": ({"a": f("1"), "b": 2}, lambda c: c.pop("a")),
        "dict pop default": ({"a": f("1"), "b": 2}, lambda c: c.pop("a", None)),
        "dict pop in a tuple": ({"a": (1, f("1"))}, lambda c: c.pop("a")),
        "dict popitem": ({"b": 2, "a": f("1")}, lambda c: c.popitem()),
        "dict large": ({"a": f("1" * 5_000_000)}, lambda c: c.pop("a")),
        "list pop": ([2, f("1")], lambda c: c.pop()),
        "list pop first": ([f("1"), 2, 3], lambda c: c.pop(0)),
        "list pop_wait": ([f("1"), 2], lambda c: c.pop_wait(timeout=1)),
        "list pop_wait_async": ([f("1"), 2], lambda c: loop.run_until_complete(c.pop_wait_async(timeout=1))),
        "deque pop": (collections.deque([1, f("1")]), lambda c: c.pop()),
        "deque popleft": (collections.deque([f("1"), 2], 3), lambda c: c.popleft()),
        "deque get": (collections.deque([f("1"), 2]), lambda c: c.get(timeout=1)),
        "deque get_async": (collections.deque([f("1")]), lambda c: loop.run_until_complete(c.get_async(timeout=1))),
        "deque rotate": (collections.deque([f("1"), 2, 3]), lambda c: c.rotate(-1)),
        "sorted dict popitem": (persist.SortedDict({1: f("1"), 2: 3}), lambda c: c.popitem(0)),
        "sorted dict pop": (persist.SortedDict({1: f("1"), 2: 3}), lambda c: c.pop(1)),
        "ordered dict popitem": (collections.OrderedDict(a=f("1"), b=2), lambda c: c.popitem(last=False)),
        "ordered dict move_to_end": (collections.OrderedDict(a=f("1"), b=2), lambda c: c.move_to_end("a")),
        "list sort": ([3, f("1"), 2], lambda c: c.sort(key=str)),
        "list remove": ([f("1"), 2], lambda c: c.remove(2)),
        "frozen dataclass": ({"a": Frozen(f("1"))}, lambda c: c.pop("a")),
        "frozen dataclass in a list": ([Frozen(f("1"))], lambda c: c.pop()),
    }  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Frozen:
    held: Any


TAKING = list(taking(None))


# Inside a transaction, a task of its own waits for it.
CASES = [(what, block) for what in TAKING for block in (False, True) if not (block and "async" in what)]


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@pytest.mark.parametrize(("what", "block"), CASES)
def test_a_value_that_cannot_be_read_stays(
    failing: None, path: Path, loop: asyncio.AbstractEventLoop, what: str, block: bool
) -> None:
    persist.register_dataclass(Frozen)
    value, take = taking(loop)[what]
    with persist.open(path) as store:
        store.root["c"] = value
        before = persist.copy_out(store.root["c"])
        order = list(before)
        Failing.broken = True
        with store.transaction() if block else contextlib.nullcontext():
            store.root["other"] = 1
            with pytest.raises(ValueError, match="cannot read '1"):
                take(store.root["c"])
            assert len(store.root["c"]) == len(order)
        Failing.broken = False
        assert (
            persist.copy_out(store.root["c"]) == before and list(persist.copy_out(store.root["c"])) == order
        )
        assert store.root["other"] == 1
    with persist.open(path) as store:
        assert (
            persist.copy_out(store.root["c"]) == before and list(persist.copy_out(store.root["c"])) == order
        )
        # It is taken once it can be read.
        take(store.root["c"])
        stay = what in ("deque rotate", "ordered dict move_to_end", "list sort")
        assert len(store.root["c"]) == len(order) - (not stay)
    done = subprocess.run([COMMAND, "check", path], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr


def test_two_threads_take_each_value_once(failing: None, path: Path) -> None:
    with persist.open(path) as store:
        store.root["l"] = [Failing(str(n)) for n in range(200)]
        items, got = store.root["l"], [[], []]  # type: list[Any], list[list[str]]

        def work(mine: list[str]) -> None:
            while True:
                try:
                    mine.append(items.pop().text)
                except IndexError:
                    return

        threads = [threading.Thread(target=work, args=(mine,)) for mine in got]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(100)
        assert sorted(got[0] + got[1], key=int) == [str(n) for n in range(200)]


@pytest.mark.parametrize("rolled_back", [False, True])
def test_each_call_takes_one_also_inside_a_transaction(failing: None, path: Path, rolled_back: bool) -> None:
    with persist.open(path) as store:
        root = store.root
        root["l"] = [Failing(str(n)) for n in range(4)]
        root["d"] = {n: Failing(str(n)) for n in range(4)}
        with contextlib.suppress(KeyError), store.transaction():
            assert root["l"].pop() == Failing("3") and len(root["l"]) == 3
            assert root["l"].pop_wait(timeout=1) == Failing("0") and len(root["l"]) == 2
            assert root["d"].pop(1) == Failing("1") and list(root["d"]) == [0, 2, 3]
            assert root["d"].popitem() == (3, Failing("3")) and list(root["d"]) == [0, 2]
            if rolled_back:
                raise KeyError
        assert [f.text for f in root["l"]] == (["0", "1", "2", "3"] if rolled_back else ["1", "2"])
        assert list(root["d"]) == ([0, 1, 2, 3] if rolled_back else [0, 2])


def test_a_lock_is_waited_for_as_before_any_change(failing: None, path: Path) -> None:
    with persist.open(path, lock_timeout=0.3) as store:
        root = store.root
        root["d"], root["l"] = {"a": Failing("1")}, [Failing("1")]
        locked, ends = threading.Event(), threading.Event()

        def hold() -> None:
            with root["d"].lock(), root["l"].lock():
                locked.set()
                ends.wait(100)

        thread = threading.Thread(target=hold)
        thread.start()
        assert locked.wait(100)
        calls: list[Any] = [root["d"].popitem, root["l"].pop, lambda: root["d"].pop("a"), root["l"].pop_wait]
        for call in calls:
            with pytest.raises(persist.LockTimeout, match="locked exclusively"):
                call()
        ends.set()
        thread.join(100)
        assert root["d"].pop("a") == root["l"].pop() == Failing("1")
