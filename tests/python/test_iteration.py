"""Iterators over what another process empties and fills again raise RuntimeError: they never go on as if nothing had
happened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import persist
import pytest
from conftest import Script

REPLACE = """
    import persist, sys
    with persist.open(sys.argv[1]) as store:
        print("ready", flush=True)
        for line in sys.stdin:
            how, keys = eval(line)
            d = store.root["d"]
            if how == "clear":
                d.clear()
            while d:
                key = d.popitem()[0] if how == "popitem" else next(iter(d))
                if how == "del":
                    del d[key]
                elif how == "pop":
                    d.pop(key)
            d.update(dict.fromkeys(keys, "new"))
            print("done", flush=True)
"""

PARTS: dict[str, Any] = {
    "dict": lambda d: d,
    "keys": lambda d: d.keys(),
    "values": lambda d: d.values(),
    "items": lambda d: d.items(),
}


class Other:
    """Another process, which empties `root['d']` and fills it again."""

    def __init__(self, script: Script, path: Path) -> None:
        self.process = script.start(REPLACE, path)
        self.expect("ready\n")

    def expect(self, line: str) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == line

    def replace(self, how: str, keys: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{(how, list(keys))!r}\n")  # type: ignore[call-overload]
        self.process.stdin.flush()
        self.expect("done\n")


@pytest.fixture
def other(store: persist.Store, script: Script, path: Path) -> Other:
    store.root["d"] = {}
    return Other(script, path)


@pytest.mark.parametrize("how", ["clear", "popitem", "del", "pop"])
@pytest.mark.parametrize("n", [1, 2, 3, 8, 300])
def test_a_dict_that_another_process_replaces(root: persist.Dict, other: Other, n: int, how: str) -> None:
    for part in PARTS.values():
        for same in (True, False):
            for seen in {1, n // 2 + 1, n}:
                root["d"] = dict.fromkeys(range(n), "old")
                met = 0
                with pytest.raises(RuntimeError, match="dictionary keys changed during iteration"):
                    for _ in part(root["d"]):
                        met += 1
                        if met == seen:
                            other.replace(how, range(n) if same else range(n, 2 * n))
                # It met at most as many entries as the dict has.
                assert seen <= met <= n
        # An iterator that began after it is none of them.
        assert len(list(part(root["d"]))) == n


@pytest.mark.parametrize("n", [2, 3, 8, 300])
def test_backwards(root: persist.Dict, other: Other, n: int) -> None:
    for part in PARTS.values():
        for how in ("clear", "popitem"):
            root["d"] = dict.fromkeys(range(n), "old")
            it = reversed(part(root["d"]))
            next(it)
            other.replace(how, range(n))
            with pytest.raises(RuntimeError, match="dictionary keys changed during iteration"):
                for _ in it:
                    pass


def test_a_set_that_another_process_replaces(root: persist.Dict, script: Script, path: Path) -> None:
    root["d"] = {1, 2, 3}
    other = script.start(
        """
        import persist, sys
        with persist.open(sys.argv[1]) as store:
            store.root["d"].clear()
            store.root["d"].update([1, 2, 3])
        """,
        path,
    )
    it = iter(root["d"])
    next(it)
    script.finish(other)
    with pytest.raises(RuntimeError, match="changed during iteration"):
        list(it)


def test_many_times(root: persist.Dict, other: Other) -> None:
    root["d"] = {1: 1, 2: 2}
    for n in range(50):
        it = iter(root["d"])
        next(it)
        other.replace("clear", [n, n + 1])
        with pytest.raises(RuntimeError):
            list(it)


@pytest.mark.parametrize(
    ("reverse", "removed", "met"),
    [
        (False, 7, [0, 1, 2, 3, 4, 5, 6, 8, 9, "new"]),
        (True, 7, [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]),
        (True, 2, [9, 8, 7, 6, 5, 4, 3, 1, 0]),
    ],
)
def test_entries_that_go_and_come_beside_others(
    root: persist.Dict, reverse: bool, removed: int, met: list[Any]
) -> None:
    root["d"] = dict.fromkeys(range(10), 0)
    d, seen = root["d"], []
    for k in reversed(d) if reverse else d:
        seen.append(k)
        if k == 4:
            d.pop(removed)
            d["new"] = 1
    assert seen == met
