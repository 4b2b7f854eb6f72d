"""Opening, closing, modes, several stores, and files that are not stores."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import persist
import pytest


def test_open_and_close(path: Path) -> None:
    store = persist.open(path)
    assert (store.path, store.closed, store.mode) == (path, False, "rw")
    assert str(path) in repr(store)
    root = store.root
    assert store.root is root
    root["d"] = d = {"x": 1}
    d = root["d"]
    store.close()
    store.close()
    assert store.closed
    assert "closed" in repr(store)
    for use in [
        lambda: store.root,
        lambda: store.sync(),
        lambda: store.transaction(),
        lambda: root["d"],
        lambda: d.update(x=2),
        lambda: len(d),
        lambda: root.lockExcl(),
    ]:
        with pytest.raises(ValueError, match="closed store"):
            use()
    with persist.open(os.fsencode(path)) as again:
        assert again.path == path
        assert again.root == {"d": {"x": 1}}
        assert again.root is not root


def test_one_file_is_one_store(path: Path, tmp_path: Path) -> None:
    one = persist.open(path)
    link = tmp_path / "link.store"
    link.symlink_to(path)
    for other in [path, str(path), link, Path(os.path.relpath(path))]:
        two = persist.open(other)
        assert two.root is one.root
        two.close()
        one.root["still"] = "open"
    one.close()


def test_a_dropped_handle_leaves_its_proxies_working(path: Path) -> None:
    root = persist.open(path).root
    root["x"] = 1
    with persist.open(path) as store:
        assert store.root is root
    assert root["x"] == 1
    del root
    with persist.open(path) as store:
        assert store.root == {"x": 1}


def test_read_only(path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        persist.open(path, "r")
    assert not path.exists()
    with persist.open(path) as store:
        store.root["d"] = {"x": [1]}
        with persist.open(path, mode="r") as reader:  # beside it, in one process
            assert reader.root["d"]["x"] == [1]
            with pytest.raises(OSError, match="read-only") as e:
                reader.root["y"] = 1
            assert e.value.errno == errno.EROFS
    with persist.open(path, mode="r") as reader:
        assert reader.mode == "r"
        assert reader.root == {"d": {"x": [1]}}
        for change in [
            lambda: reader.root.update(a=1),
            lambda: reader.root["d"]["x"].append(1),
            lambda: reader.transaction().__enter__(),
        ]:
            with pytest.raises(OSError, match="read-only"):
                change()
        with pytest.raises(persist.Error, match="mode"):
            persist.open(path)


def test_bad_arguments(path: Path) -> None:
    for arguments in [{"mode": "w"}, {"durability": "always"}, {"lock_timeout": -1}]:
        with pytest.raises(ValueError, match="must be"):
            persist.open(path, **arguments)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        persist.open(5)  # type: ignore[arg-type]
    with pytest.raises(OSError):
        persist.open(path / "no" / "such" / "directory")
    with pytest.raises((OSError, persist.Error)):
        persist.open(path.parent)
    for cls in [persist.Store, persist.Dict, persist.List, persist.Lock]:
        with pytest.raises(TypeError):
            cls()


def test_files_that_are_not_stores(tmp_path: Path) -> None:
    for n, content in enumerate([b"hello", b"x" * 4096, b"\0" * 8192 + b"x", os.urandom(20000)]):
        file = tmp_path / f"file{n}"
        file.write_bytes(content)
        with pytest.raises(persist.Error):
            persist.open(file)
        assert file.read_bytes() == content


def test_three_stores_at_once(tmp_path: Path) -> None:
    stores = [persist.open(tmp_path / f"{n}.store") for n in range(3)]
    for n, store in enumerate(stores):
        store.root["n"] = n
        store.root["d"] = {"n": [n]}
    for n, store in enumerate(stores):
        assert store.root["d"]["n"] == [n]
    stores[0].root["copy"] = stores[1].root["d"]
    stores[1].root["d"]["n"].append("later")
    assert stores[0].root["copy"] == {"n": [1]}
    with stores[0].transaction(), stores[1].transaction():
        stores[0].root["n"], stores[1].root["n"] = stores[1].root["n"], stores[0].root["n"]
    assert [s.root["n"] for s in stores] == [1, 0, 2]
    for store in stores:
        store.close()


@pytest.mark.parametrize("durability", ["checkpoint", "commit", "none"])
def test_durability(path: Path, durability: str) -> None:
    with persist.open(path, durability=durability) as store:
        for n in range(20):
            store.root[n] = [n]
        store.sync()
        with store.transaction():
            store.root["x"] = 1
    with persist.open(path) as store:
        assert len(store.root) == 21


def test_a_stricter_durability_is_not_forgotten(path: Path) -> None:
    with persist.open(path), pytest.raises(persist.Error, match="durability"):
        persist.open(path, durability="commit")


def test_stat_sync_gc(store: persist.Store, root: persist.Dict) -> None:
    cycle: dict[str, Any] = {}
    cycle["self"] = cycle
    # More than an operation frees in passing.
    for n in range(200):
        root[n] = cycle
    root.clear()
    assert store.gc() > 0
    assert store.gc() == 0
    before = store.stat()
    age = before.pop("undurable_age")
    assert age is None or type(age) is float
    assert all(type(v) is int for v in before.values())
    root["x"] = 1
    store.sync()
    assert store.stat()["checkpoint"] > before["checkpoint"]
    assert store.stat()["processes"] == 1


def test_the_default_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PERSIST_STORE", raising=False)
    root = persist.root()
    assert root is persist.root() is persist.root("persist.store") is persist.root(tmp_path / "persist.store")
    monkeypatch.setenv("PERSIST_STORE", str(tmp_path / "named.store"))
    assert persist.root() is not root
    assert (tmp_path / "named.store").exists()
    with persist.open(tmp_path / "persist.store") as store:
        assert store.root is root
    root["x"] = 1


def test_exceptions() -> None:
    for name in ["LockTimeout", "Deadlock", "Conflict", "Gone", "Corrupt", "NotLocked"]:
        error = getattr(persist, name)
        assert issubclass(error, persist.Error)
        assert error.__module__ == "persist"
        assert error.__doc__
        assert str(error("text")) == "text"
    assert issubclass(persist.LockTimeout, TimeoutError)
    assert issubclass(persist.Gone, ReferenceError)
    assert issubclass(persist.NotLocked, RuntimeError)


def test_an_os_error_carries_the_file_and_says_its_number_once(tmp_path: Path) -> None:
    for path, error in [(tmp_path / "none" / "a.store", FileNotFoundError), (tmp_path, IsADirectoryError)]:
        with pytest.raises(error) as raised:
            persist.open(path)
        with pytest.raises(error) as of_open:
            open(path)
        assert str(raised.value) == str(of_open.value)
        assert raised.value.filename == str(path)
    with persist.open(tmp_path / "a.store"):
        pass
    with persist.open(tmp_path / "a.store", "r") as store, pytest.raises(OSError, match="read-only") as changed:
        store.root["x"] = 1
    assert "os error" not in str(changed.value)
