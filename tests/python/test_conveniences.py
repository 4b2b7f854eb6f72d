"""Names, attributes of exceptions, the store as a mapping, JSON, and plain copies."""

from __future__ import annotations

import collections.abc
import dataclasses
import json
import threading
from typing import Any

import persist
import pytest


@dataclasses.dataclass
class Person(persist.Object):
    name: str = ""
    friends: Any = None


def test_locks_have_names_in_snake_case(root: persist.Dict) -> None:
    root["d"], root["l"], root["o"] = {}, [], persist.Object()
    for owner in (root["d"], root["l"], root["o"]):
        with owner.lock_exclusive() as entered:
            assert entered is owner
        with owner.lock_shared(timeout=5) as entered:
            assert entered is owner
    for owner in (root["d"], root["o"]):
        assert not owner.lock_exclusive("k").shared
        owner.unlock("k")
        assert owner.lock_shared(key="k").shared
        owner.unlock("k")


def in_thread(act: Any) -> None:
    """Run a function in another thread, which is another owner of locks."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            act()
        except BaseException as e:
            errors.append(e)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]


def test_a_timeout_says_what_was_waited_for(store: persist.Store) -> None:
    root = store.root
    root["a"] = {"b": [1]}
    with root["a"].lock():
        with pytest.raises(persist.LockTimeout) as e:
            in_thread(lambda: root["a"].lock(timeout=0.01).__enter__())
        assert e.value.path == "root['a']"
        assert e.value.key is None
        assert e.value.holder is not None
        assert e.value.holder in str(e.value) and e.value.path in str(e.value)
    with root["a"].lock("b"):
        for key in ("b",):
            with pytest.raises(persist.LockTimeout) as e:
                in_thread(lambda key=key: root["a"].lock(key, timeout=0).__enter__())
            assert e.value.path == "root['a']['b']"
            assert e.value.key == "b"
    with store.transaction(), pytest.raises(persist.LockTimeout) as e:
        in_thread(lambda: root["a"].lock(timeout=0.01).__enter__())
    assert e.value.key is None
    assert (persist.LockTimeout().holder, persist.Conflict().path, persist.Deadlock().key) == (None, None, None)


def test_a_conflict_says_what_it_met(store: persist.Store) -> None:
    root = store.root
    root["a"] = {"b": 1}

    def change() -> None:
        with store.transaction():
            root["a"]["b"] = 2

    with root["a"].lock(), pytest.raises(persist.Conflict) as e:
        in_thread(change)
    assert e.value.path is not None and e.value.path.startswith("root['a']")
    assert e.value.holder is not None and e.value.holder in str(e.value)


def test_exceptions_derive_from_builtin_ones() -> None:
    bases = {
        "LockTimeout": TimeoutError,
        "OtherTask": TimeoutError,
        "Deadlock": RuntimeError,
        "TransactionAborted": RuntimeError,
        "Conflict": RuntimeError,
        "TransactionTooLarge": RuntimeError,
        "Gone": ReferenceError,
        "NotLocked": RuntimeError,
        "NoSnapshot": LookupError,
        "SnapshotExists": FileExistsError,
        "InUse": OSError,
        "DurabilityUnknown": OSError,
        "ViewEnded": OSError,
        "Corrupt": OSError,
    }
    for name, base in bases.items():
        assert issubclass(getattr(persist, name), (persist.Error,))
        assert issubclass(getattr(persist, name), base)
    errors = {n for n in persist.__all__ if isinstance(getattr(persist, n), type)}
    errors = {n for n in errors if issubclass(getattr(persist, n), persist.Error)}
    assert errors == {"Error", *bases}
    # What code that searches lists and dicts catches must not hide damage.
    assert not issubclass(persist.Corrupt, (ValueError, LookupError, TypeError))


def test_a_store_is_a_mapping_of_its_root(store: persist.Store) -> None:
    assert isinstance(store, collections.abc.Mapping)
    assert len(store) == 0
    assert bool(store)
    store["x"] = [1]
    store.root["y"] = 2
    assert store["x"] is store.root["x"]
    assert store.get("x") is store["x"]
    assert (store.get("none"), store.get("none", 5)) == (None, 5)
    assert "x" in store and "none" not in store
    assert list(store) == list(store.keys()) == ["x", "y"]
    assert list(store.values()) == [[1], 2]
    assert dict(store) == dict(store.items()) == {"x": [1], "y": 2}
    assert len(store) == 2
    del store["x"]
    assert store.root == {"y": 2}
    with pytest.raises(KeyError):
        _ = store["x"]
    with pytest.raises(TypeError, match="cannot store"):
        store["x"] = object()
    store.snapshot("s")
    with store.at("s") as before:
        assert before["y"] == 2
        with pytest.raises(OSError):
            before["y"] = 3
    store.close()
    assert bool(store)
    for call in (lambda: store["y"], lambda: len(store), lambda: "y" in store, lambda: list(store)):
        with pytest.raises(ValueError, match="closed"):
            call()


def test_json_of_proxies(store: persist.Store) -> None:
    root = store.root
    root["Ann"] = Person("Ann", [])
    root["Ann"].friends.append(Person("Joe", {"n": None}))
    root["l"] = [1, 2.5, "x", True, {"deep": [{}]}]
    expected = {
        "Ann": {"name": "Ann", "friends": [{"name": "Joe", "friends": {"n": None}}]},
        "l": [1, 2.5, "x", True, {"deep": [{}]}],
    }
    for value in (root, store.root.copy()):
        for indent in (None, 2):
            assert json.loads(json.dumps(value, default=persist.to_json, indent=indent)) == expected
    assert json.dumps([root["l"].copy(), root["l"]], default=persist.to_json)
    assert json.dumps(root["Ann"].friends, default=persist.to_json) == json.dumps(expected["Ann"]["friends"])  # type: ignore[call-overload]
    assert json.dumps(root["l"][4].keys(), default=persist.to_json) == '["deep"]'
    assert json.dumps(Person("transient"), default=persist.to_json) == '{"name": "transient", "friends": null}'
    with pytest.raises(TypeError, match="Object of type bytes is not JSON serializable"):
        json.dumps({"b": b"x"}, default=persist.to_json)
    root["self"] = root
    with pytest.raises(ValueError, match="Circular"):
        json.dumps(root, default=persist.to_json)


def test_plain_copies_without_objects(root: persist.Dict) -> None:
    root["Ann"] = Person("Ann")
    root["Ann"].friends = [root["Ann"], {"x": Person("Joe")}]
    plain = persist.copy_out(root, objects=dict)
    ann = plain["Ann"]
    assert type(ann) is dict
    assert ann["name"] == "Ann"
    assert ann["friends"][0] is ann
    assert ann["friends"][1] == {"x": {"name": "Joe", "friends": None}}
    assert type(persist.copy_out(root["Ann"], objects=dict)) is dict
    assert type(persist.copy_out(root["Ann"])) is Person
    assert type(persist.copy_out(root["Ann"], objects=None)) is Person
    assert persist.copy_out(5, objects=dict) == 5
    wrong: Any = list
    with pytest.raises(TypeError, match="objects must be dict"):
        persist.copy_out(root, objects=wrong)
