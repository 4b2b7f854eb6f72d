"""Storing a graph of plain objects preserves its shape, and is one operation."""

from __future__ import annotations

import array
from pathlib import Path
from typing import Any

import persist
import pytest


class Thing(persist.Object):
    pass


class Node(persist.Object):
    pass


def test_shared_structure_stays_shared(root: persist.Dict) -> None:
    inner = [1]
    root["g"] = {"a": inner, "b": [inner, inner]}
    g = root["g"]
    assert g["a"] is g["b"][0] is g["b"][1]
    g["a"].append(2)
    assert g["b"][1] == [1, 2]
    out = persist.copy_out(g)
    assert out["a"] is out["b"][0]
    inner.append("not stored")
    assert g["a"] == [1, 2]


def test_two_stores_of_one_object_are_two_copies(root: persist.Dict) -> None:
    inner: list[int] = []
    root["a"] = inner
    root["b"] = inner
    assert root["a"] is not root["b"]
    root["b"] = root["a"]
    assert root["a"] is root["b"]


def test_cycles(root: persist.Dict) -> None:
    a: dict[str, Any] = {}
    b = [a]
    a["b"] = b
    a["self"] = a
    root["a"] = a
    x = root["a"]
    assert x["self"] is x
    assert x["b"][0] is x
    assert repr(x) == repr(a)
    out = persist.copy_out(x)
    assert out["self"] is out
    assert out["b"][0] is out
    root["a"]["up"] = root
    assert root["a"]["up"] is root


def test_deep_structures_need_no_stack(root: persist.Dict) -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    root["deep"] = deep
    out, n = persist.copy_out(root["deep"]), 0
    while out:
        out, n = out[0], n + 1
    assert n == 100_000
    while deep:  # take it apart: its own deallocation recurses
        deep = deep.pop()
    del root["deep"]


def test_all_or_nothing(root: persist.Dict) -> None:
    for bad in [{"x": [1, {"y": {1: len}}]}, {"x": {(1, range(2)): 3}}, [[[object()]]]]:
        with pytest.raises(TypeError):
            root["bad"] = bad
        with pytest.raises(TypeError):
            root.setdefault("bad", bad)
    assert root == {}
    root["l"] = [1]
    with pytest.raises(TypeError):
        root["l"].extend([2, object()])
    with pytest.raises(TypeError):
        root["l"][0:1] = [2, object()]
    assert root["l"] == [1]


def test_proxies_inside_plain_structures_are_references(root: persist.Dict) -> None:
    root["a"] = [1]
    root["b"] = {"x": root["a"], "y": [root["a"], root]}
    assert root["b"]["x"] is root["a"]
    assert root["b"]["y"][1] is root


def test_other_stores_graphs_are_copied(root: persist.Dict, tmp_path: Path) -> None:
    with persist.open(tmp_path / "other.store") as other:
        inner = [1, {"k": "v" * 100_000}]
        thing = Thing()
        thing.inner = inner  # type: ignore[attr-defined]
        other.root["g"] = {"a": inner, "b": inner, "t": thing}
        other.root["g"]["self"] = other.root["g"]
        root["g"] = other.root["g"]
        root["wrapped"] = {"list": [other.root["g"]["a"]]}
        assert other.root["g"]["t"] is thing
    g = root["g"]
    assert g["a"] is g["b"]
    assert g["self"] is g
    assert g["a"] == [1, {"k": "v" * 100_000}]
    assert root["wrapped"]["list"][0] == g["a"]
    assert persist.class_name(g["t"]).endswith("Thing")
    assert g["t"].inner == [1, {"k": "v" * 100_000}]


def test_identity(root: persist.Dict) -> None:
    root["a"] = {"b": [{}]}
    assert root["a"] is root["a"]
    assert root["a"]["b"][0] is next(iter(root["a"]["b"]))
    assert root["a"] is list(root.values())[0] is dict(root)["a"] is root.get("a") is list(root.items())[0][1]
    held = root["a"]
    del root["a"]
    assert held == {"b": [{}]}
    root["back"] = held
    assert root["back"] is held
    assert root.pop("back") is held


def test_attributes_mapping_is_copied_as_a_dict(root: persist.Dict) -> None:
    root["o"] = persist.Object()
    root["o"].x = [1]
    root["d"] = vars(root["o"])
    assert type(root["d"]) is persist.Dict
    assert root["d"] == {"x": [1]}
    assert root["d"]["x"] is root["o"].x
    root["d"]["y"] = 1
    assert not hasattr(root["o"], "y")


def test_an_error_names_the_place_of_what_cannot_be_stored(root: persist.Dict) -> None:
    node: Any = Node()
    node.edges = [0, {"to": object()}]
    inner = {"set": object()}
    cases: list[tuple[Any, str]] = [
        (object(), "cannot store 'object'"),
        ([1, 2, object()], r"cannot store 'object' at value\[2\]"),
        ({"deep": [0, object()]}, r"'object' at value\['deep'\]\[1\];"),
        ({1: {None: array.array("i")}}, r"'array' at value\[1\]\[None\]; store a list"),
        (node, r"'object' at value\.edges\[1\]\['to'\];"),
        ({"n": [node]}, r"'object' at value\['n'\]\[0\]\.edges\[1\]\['to'\];"),
        ([[], [inner], inner], r"'object' at value\[2\]\['set'\];"),
    ]
    for value, message in cases:
        with pytest.raises(TypeError, match=f"^.*{message}"):
            root["x"] = value
    with pytest.raises(TypeError, match=r"'object' at value\['b'\]\['c'\];"):
        root.update(a=1, b={"c": object()})
    root["list"] = []
    with pytest.raises(TypeError, match=r"'object' at value\[1\];"):
        root["list"].extend([1, object()])
    assert root == {"list": []}
