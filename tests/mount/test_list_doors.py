"""Lists changed by Python while the mount shows them: a name means the item it was shown for, or nothing (P10)."""

from __future__ import annotations

import os
import random
from typing import Any

import pytest
from conftest import TYPE, Mount, wait_until


def shown(mnt: Mount, name: str = "l") -> dict[int, str]:
    return dict(zip(mnt.names(name), mnt.items(name)))


def test_python_appends_and_removes(mnt: Mount, root: Any) -> None:
    root["l"] = list("abcdef")
    assert shown(mnt) == dict(enumerate("abcdef"))
    root["l"].pop(0)
    root["l"][2] = "D"
    root["l"].append("g")
    del root["l"][3:5]
    assert shown(mnt) == {1: "b", 2: "c", 3: "D", 6: "g"}
    assert "No such file" in mnt.fails("rm l/0")
    mnt.sh("rm l/2; echo h > l/7")
    assert list(root["l"]) == ["b", "D", "g", "h"]


def test_python_inserts_while_the_shell_removes_by_name(mnt: Mount, root: Any) -> None:
    root["l"] = [f"old{n}" for n in range(8)]
    names = mnt.names("l")
    for n in names:
        if n % 2:
            root["l"].insert(0, f"new{n}")
        done = mnt.sh(f"rm l/{n} && echo done", check=False)
        assert done == ("done\n" if n == 0 else "")
    assert list(root["l"]) == ["new7", "new5", "new3", "new1"] + [f"old{n}" for n in range(1, 8)]
    assert min(mnt.names("l")) >= 8
    mnt.again()
    assert mnt.names("l") == list(range(11))


def test_a_change_of_order(mnt: Mount, root: Any) -> None:
    root["l"] = ["c", "a", "b"]
    assert mnt.sh("cat l/0") == "c\n"
    root["l"].sort()
    assert not (mnt.path / "l/0").exists()
    # A name of before is not made again for another item.
    mnt.fails("echo x > l/0")
    assert shown(mnt) == {3: "a", 4: "b", 5: "c"}
    # An open file whose item has another place fails: its write is neither lost silently nor applied to another item.
    fd = os.open(mnt.path / "l/5", os.O_RDWR)
    root["l"].reverse()
    with pytest.raises(OSError, match="Stale file handle"):
        os.write(fd, b"C\n")
    os.close(fd)
    assert list(root["l"]) == ["c", "b", "a"]


def test_python_fills_the_gap(mnt: Mount, root: Any) -> None:
    root["l"] = ["a"]
    mnt.sh("echo c > l/2; echo e > l/4")
    assert list(root["l"]) == ["a"]
    root["l"].append("b")
    assert shown(mnt) == {0: "a", 1: "b", 2: "c", 4: "e"}
    assert list(root["l"]) == ["a", "b", "c"]
    # More than the gap: what waits keeps its name, and so its place.
    root["l"].extend("dx")
    assert shown(mnt) == {0: "a", 1: "b", 2: "c", 3: "d", 4: "e", 5: "x"}
    assert list(root["l"]) == ["a", "b", "c", "d", "e", "x"]


def test_a_transaction_of_python(mnt: Mount, store: Any, root: Any) -> None:
    root["l"] = list("abc")
    assert shown(mnt) == {0: "a", 1: "b", 2: "c"}
    with pytest.raises(RuntimeError), store.transaction():
        root["l"].insert(0, "x")
        # Beside the transaction the mount shows what was committed.
        assert shown(mnt) == {0: "a", 1: "b", 2: "c"}
        raise RuntimeError
    assert shown(mnt) == {0: "a", 1: "b", 2: "c"}


def test_a_list_restored_with_its_type_last(mnt: Mount, root: Any) -> None:
    mnt.sh("mkdir l; echo 0 > l/0; echo 3 > l/3; mkdir l/2; echo x > l/2/x")
    os.setxattr(mnt.path / "l", TYPE, b"list")
    assert list(root["l"]) == ["0"] and mnt.names("l") == [0, 2, 3]
    os.setxattr(mnt.path / "l", TYPE, b"dict")
    assert sorted(root["l"]) == [0, 2, 3]
    os.setxattr(mnt.path / "l", TYPE, b"list")
    mnt.sh("echo 1 > l/1")
    wait_until(lambda: len(root["l"]) == 4)
    assert root["l"][2]["x"] == "x"


@pytest.mark.parametrize("seed", range(3))
def test_at_random_beside_a_model(mnt: Mount, root: Any, seed: int) -> None:
    """Both doors change one list. Every value is unique, so it tells which item a name means."""
    rng = random.Random(seed)
    model = [str(n) for n in range(6)]
    root["l"] = list(model)
    items, fresh = root["l"], 100
    known: dict[int, str] = {}
    made = removed = 0
    for _ in range(250):
        fresh += 1
        value = str(fresh)
        what = rng.randrange(10)
        at = rng.randrange(len(model) + 1)
        if what == 0:
            items.append(value)
            model.append(value)
        elif what == 1 and rng.random() < 0.3:
            items.insert(at, value)
            model.insert(at, value)
        elif what in (2, 3) and at < len(model):
            del items[at]
            del model[at]
        elif what in (4, 5) and known:
            name = rng.choice(sorted(known))
            try:
                os.unlink(mnt.path / "l" / str(name))
                model.remove(known[name])
                removed += 1
            except FileNotFoundError:
                assert name not in mnt.names("l")
            known.pop(name)
        elif what == 6:
            name = max([*known, *mnt.names("l"), -1]) + 1
            try:
                (mnt.path / "l" / str(name)).write_text(value + "\n")
            except OSError:
                # All names of before are dead.
                continue
            made += 1
            model.append(value)
        elif what == 7 and rng.random() < 0.2:
            items.reverse()
            model.reverse()
        assert list(items) == model
        now = shown(mnt)
        assert list(now.values()) == model
        for name, item in now.items():
            assert known.setdefault(name, item) == item, f"{name} meant {known[name]}"
    # Most steps are those of Python; the mount's must not all have been refused.
    assert made and removed
