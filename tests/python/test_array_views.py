"""Arrays and long bytes are copied out of a store once: what is read again, while it is held, is of the same memory."""

from __future__ import annotations

import collections
import copy
import gc
import os
import pickle
import threading
from pathlib import Path
from typing import Any, Callable

import persist
import pytest
from conftest import Script

np = pytest.importorskip("numpy")

LONG = 100_000  # bytes; memory is shared from 64 KiB on


def array(n: int, size: int = LONG) -> Any:
    return np.full(size // 8, n, dtype="int64")


def start(value: Any) -> int:
    """Return the address of the first byte of an array or a view."""
    return int(np.asarray(value).__array_interface__["data"][0])


def anonymous() -> int:
    """Return how many bytes of memory this process has that are of no file."""
    rows = Path("/proc/self/status").read_text().splitlines()
    return next(int(row.split()[1]) << 10 for row in rows if row.startswith("RssAnon"))


READS: dict[str, Callable[[Any], Any]] = {
    "[]": lambda root: root["d"]["a"],
    "get": lambda root: root["d"].get("a"),
    "values": lambda root: list(root["d"].values())[0],
    "items": lambda root: next(iter(root["d"].items()))[1],
    "dict": lambda root: dict(root["d"])["a"],
    "asarray": lambda root: np.asarray(root["d"]["a"]),
    "view": lambda root: root["d"].view("a"),
    "array of the view": lambda root: np.asarray(root["d"].view("a")),
}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_an_array_that_is_held_is_not_copied_again(root: Any, read: Callable[[Any], Any]) -> None:
    root["d"] = {"a": array(1)}
    held = root["d"]["a"]
    found = read(root)
    assert start(found) == start(held)
    assert bytes(found) == array(1).tobytes()
    for other in READS.values():
        assert start(other(root)) == start(held)


def test_items_and_attributes_share_memory(root: Any) -> None:
    root["l"] = [array(0), array(1)]
    held = root["l"][1]
    assert {start(root["l"][1]), start(root["l"][-1]), start(list(root["l"])[1]), start(root["l"][:][1])} == {
        start(held)
    }
    assert start(root["l"].view(1)) == start(root["l"].view(-1)) == start(held) != start(root["l"].view(0))
    o: Any = persist.Object()
    root["o"] = o
    o.a = array(2)
    held = o.a
    assert start(root["o"].a) == start(held)


def test_what_is_read_is_read_only(root: Any) -> None:
    root["a"] = array(1)
    root["b"] = b"x" * LONG
    found, view = root["a"], root.view("b")
    assert not found.flags.writeable and not found.flags.owndata and found.flags.aligned
    for change in (
        lambda: found.__setitem__(0, 5),
        lambda: found.setflags(write=True),
        lambda: np.frombuffer(found.base, "int64").setflags(write=True),
        lambda: np.frombuffer(view, "uint8").__setitem__(0, 5),
        lambda: view.__setitem__(0, 5),
        lambda: root.view("a").__setitem__(0, 5),
    ):
        with pytest.raises((ValueError, TypeError)):
            change()
    assert root["a"].tobytes() == array(1).tobytes() and root["b"] == b"x" * LONG


def test_each_read_has_a_shape_of_its_own(root: Any) -> None:
    root["a"] = np.zeros((100, 100))
    one, two = root["a"], root["a"]
    assert one is not two and np.shares_memory(one, two)
    assert one.T.base is not None and one.reshape(-1).shape == (10_000,) and two.shape == (100, 100)


def test_short_arrays_are_copies(root: Any) -> None:
    root["a"] = np.zeros(10)
    one, two = root["a"], root["a"]
    assert not np.shares_memory(one, two) and not one.flags.writeable


def test_a_changed_value_is_read_again(root: Any) -> None:
    root["a"] = array(1)
    old = root["a"]
    root["a"] = array(2)
    new = root["a"]
    assert (old == 1).all() and (new == 2).all() and start(old) != start(new)
    del root["a"]
    root["a"] = array(3)
    assert (root["a"] == 3).all() and (old == 1).all() and (new == 2).all()


def test_a_rollback_gives_the_old_memory_back(store: persist.Store) -> None:
    root: Any = store.root
    root["a"] = array(1)
    old = root["a"]
    for n in range(2, 5):
        with pytest.raises(ZeroDivisionError), store.transaction():
            root["a"] = array(n)
            inside = root["a"]
            assert (inside == n).all() and start(inside) != start(old)
            with pytest.raises(KeyError), store.transaction():
                root["a"] = array(-n)
                assert (root["a"] == -n).all()
                raise KeyError
            assert start(root["a"]) == start(inside)
            _ = 1 / 0
        assert start(root["a"]) == start(old) and (root["a"] == 1).all() and (inside == n).all()


def test_an_array_stays_while_another_process_changes_the_store(
    root: Any, path: Path, script: Script
) -> None:
    root["a"] = array(1, 1 << 20)
    root["b"] = b"1" * (1 << 20)
    old, view = root["a"], root.view("b")
    script.run(
        """
        import sys, persist, numpy as np
        with persist.open(sys.argv[1]) as store:
            for n in range(2, 30):
                store.root["a"] = np.full(1 << 17, n)
                store.root["b"] = b"%d" % (n % 10) * (1 << 20)
                store.sync()
            del store.root["b"]
            store.gc()
        """,
        path,
    )
    assert (old == 1).all() and view == b"1" * (1 << 20)
    assert (root["a"] == 29).all() and "b" not in root


def test_an_array_stays_after_close_and_after_the_file(path: Path) -> None:
    with persist.open(path) as store:
        root: Any = store.root
        root["a"] = array(7)
        root["b"] = b"7" * LONG
        held, view = root["a"], root.view("b")
    with pytest.raises(ValueError, match="closed"):
        root.view("a")
    with persist.open(path) as store:
        again: Any = store.root
        again.clear()
        again["a"] = array(8)
        assert (again["a"] == 8).all()
    os.unlink(path)
    gc.collect()
    assert (held == 7).all() and view == b"7" * LONG


def test_views_of_a_moment_share_memory_and_stay(store: persist.Store) -> None:
    root: Any = store.root
    root["a"] = array(1)
    root["b"] = b"1" * LONG
    with store.frozen() as then:
        held = then.root["a"]
        view = then.root.view("b")
        assert start(then.root["a"]) == start(held)
        root["a"], root["b"] = array(2), b"2" * LONG
        assert start(then.root["a"]) == start(held) and (root["a"] == 2).all()
        assert then.root.view("b") == b"1" * LONG and root.view("b") == b"2" * LONG
    assert (held == 1).all() and view == b"1" * LONG


def test_a_forked_child_keeps_what_it_has(root: Any, path: Path) -> None:
    root["a"] = array(1)
    held = root["a"]
    go, told = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(told)
        os.read(go, 1)
        good = bool((held == 1).all()) and bool((root["a"] == 2).all()) and bool((held == 1).all())
        os._exit(0 if good else 1)
    os.close(go)
    root["a"] = array(2)
    del held
    gc.collect()
    os.write(told, b"x")
    os.close(told)
    assert os.waitpid(child, 0)[1] == 0


def test_threads_never_see_a_mix(root: Any) -> None:
    root["a"] = array(0, 1 << 19)
    wrong: list[Any] = []
    done = threading.Event()

    def read() -> None:
        kept = []
        while not done.is_set():
            found = root["a"]
            kept.append((found, found[0]))
            del kept[:-3]
            wrong.extend((a[0], n) for a, n in kept if a.min() != n or a.max() != n)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for n in range(60):
        root["a"] = array(n, 1 << 19)
    done.set()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_any_number_of_views_and_contents(root: Any) -> None:
    root["l"] = [array(n) for n in range(300)]
    held = [root["l"].view(n) for n in range(300)]
    again = [root["l"][n] for n in range(300)]
    assert [start(view) for view in held] == [start(found) for found in again]
    assert len({start(view) for view in held}) == 300
    one = [root["l"].view(5) for _ in range(10_000)]
    assert {start(view) for view in one[::1000]} == {start(held[5])}
    del held, again
    gc.collect()
    assert [int(view[0]) for view in one[:2]] == [5, 5]


def test_a_view_of_a_part_keeps_the_content(root: Any) -> None:
    root["a"] = np.arange(LONG // 8)
    part = root["a"][5:8]
    gc.collect()
    assert np.shares_memory(part, root["a"]) and part.tolist() == [5, 6, 7]
    root["b"] = bytes(range(256)) * 400
    tail = root.view("b")[-3:]
    assert tail.tobytes() == b"\xfd\xfe\xff"


def test_neither_memory_nor_the_file_grows(store: persist.Store, path: Path) -> None:
    root: Any = store.root
    size = 4 << 20
    before = 0
    for n in range(80):
        root["a"] = array(n, size)
        root["b"] = b"%d" % (n % 10) * size
        held, view = root["a"], root.view("b")
        assert held[-1] == n and view[-1] == ord("0") + n % 10 and start(root["a"]) == start(held)
        if n == 10:
            before = anonymous()
    assert anonymous() - before < 100 << 20
    assert path.stat().st_size < (2 * 2 * size) + (64 << 20)


def test_copies_are_independent(root: Any) -> None:
    root["a"] = array(1)
    found = root["a"]
    for other in (copy.copy(found), copy.deepcopy(found), found.copy(), pickle.loads(pickle.dumps(found))):
        assert (other == 1).all() and not np.shares_memory(other, found)
        if other.flags.writeable:
            other[0] = 5
    assert (root["a"] == 1).all()
    root["again"] = found
    root["bytes"] = b"x" * LONG
    root["copy"] = root.view("bytes")
    assert (root["again"] == 1).all() and root["copy"] == b"x" * LONG


def test_views_of_bytes(root: Any) -> None:
    for n in (0, 1, 7, 5000, 65_535, 65_536, 65_537, 300_000):
        content = os.urandom(n)
        root["b"], root["ba"], root["l"] = content, bytearray(content), [content]
        views = [root.view("b"), root.view("ba"), root["l"].view(0), root["l"].view(np.int8(-1))]
        for view in views:
            assert type(view) is memoryview and view.readonly and view.format == "B" and view.nbytes == n
            assert view.tobytes() == content
        assert root["b"] == content and root["ba"] == bytearray(content)
        if n > 65_536:
            assert start(root.view("b")) == start(views[0]) and start(root.view("ba")) == start(views[1])
            # Read as they are, they are copies: a program may change its bytearray.
            root["ba"].clear()
            assert views[1].tobytes() == content


@pytest.mark.parametrize("shape", [(), (0,), (3,), (100, 200), (4, 0, 2), (2, 3, 4, 500)])
@pytest.mark.parametrize("kind", ["i1", ">i4", "<f8", "?", "S5", "c16", "i4,f8"])
def test_views_of_arrays_have_their_format_and_shape(root: Any, shape: tuple[int, ...], kind: str) -> None:
    value = np.zeros(shape, kind)
    root["a"] = value
    view = root.view("a")
    assert view.readonly and view.shape == shape and view.format == memoryview(value).format
    found = root["a"]
    assert found.dtype == value.dtype and found.shape == shape and (found == value).all()
    assert view.tobytes() == value.tobytes()


def test_what_has_no_view_is_named(root: Any) -> None:
    root["d"] = {
        "s": "text", "n": 1, "f": 0.5, "none": None, "long": "x" * LONG, "big": 1 << 999_999, "t": (1, 2),
        "l": [1, {}, b"x"], "o": persist.Opaque("app:bytes", b"x" * LONG), "when": np.zeros(20_000, "M8[s]"),
        "link": persist.Link("a"),
    }  # fmt: skip
    for key in root["d"]:
        with pytest.raises(TypeError) as raised:
            root["d"].view(key)
        assert f"root['d'][{key!r}]" in str(raised.value), str(raised.value)
    assert root["d"]["o"].value == b"x" * LONG
    for index in (0, 1, -2):
        with pytest.raises(TypeError, match=r"root\['d'\]\['l'\]\["):
            root["d"]["l"].view(index)
    for missing in ("missing", 5, (1, 2), None):
        with pytest.raises(KeyError) as lost:
            root["d"].view(missing)
        assert lost.value.args == (missing,)
    with pytest.raises(TypeError):
        root["d"].view([])
    for index in (3, -4, 10**18):
        with pytest.raises(IndexError):
            root["d"]["l"].view(index)
    for wrong in (slice(None), "0", None, 0.5):
        with pytest.raises(TypeError):
            root["d"]["l"].view(wrong)


def test_a_deque_has_views(root: Any, path: Path) -> None:
    root["q"] = collections.deque([array(0), b"x" * LONG, bytearray(b"abc"), "text"], 4)
    queue = root["q"]
    held = queue[0]
    assert start(queue.view(0)) == start(queue.view(np.int8(-4))) == start(held)
    views = [queue.view(1), queue.view(2)]
    assert [bytes(view) for view in views] == [b"x" * LONG, b"abc"]
    assert all(type(view) is memoryview and view.readonly for view in views)
    with pytest.raises(TypeError, match="there is no view of str"):
        queue.view(3)
    for index in (4, -5, 10**18):
        with pytest.raises(IndexError, match="deque index out of range"):
            queue.view(index)
    for wrong in (slice(None), "0", None, 0.5):
        with pytest.raises(TypeError, match="sequence index must be integer"):
            queue.view(wrong)
    queue.append(b"new")
    assert bytes(queue.view(0)) == b"x" * LONG and bytes(queue.view(-1)) == b"new"
    queue.clear()
    assert bytes(views[0]) == b"x" * LONG and (held == 0).all()


class Transient(persist.Dict):  # type: ignore[type-arg]
    pass


def test_a_dict_that_is_not_stored_yet_has_views(root: Any) -> None:
    value = Transient(a=bytearray(b"abc"))
    view = value.view("a")
    assert view.readonly and view == b"abc"
    with pytest.raises(KeyError):
        value.view("b")
    view.release()
    root["t"] = value
    assert root["t"].view("a") == b"abc"


def test_without_numpy_an_array_is_opaque(root: Any, path: Path, script: Script) -> None:
    root["a"] = array(1)
    root["b"] = b"x" * LONG
    told = script.run(
        """
        import sys
        sys.modules["numpy"] = None
        import persist
        root = persist.open(sys.argv[1], "r").root
        assert len(root.view("b")) == 100_000
        value = root["a"]
        assert type(value) is persist.Opaque and type(value.value) is bytes and len(value.value) > 100_000
        try:
            root.view("a")
        except TypeError as e:
            print(e)
        """,
        path,
    )
    assert "root['a']" in told
