"""Classes that derive from Dict and List: stored with their class, in place, and read as instances of it."""

from __future__ import annotations

import copy
import gc
import sys
from pathlib import Path
from typing import Any

import persist
import pytest


class Inventory(persist.Dict[str, int]):
    """A dict with methods of its own."""

    made = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        Inventory.made += 1

    def add(self, name: str, n: int = 1) -> int:
        self[name] = self.get(name, 0) + n
        return self[name]

    @property
    def total(self) -> int:
        return sum(self.values())


class Line(persist.List[Any]):
    """A list that can only be served in turn."""

    def serve(self) -> Any:
        return self.pop(0)


class Counting(persist.Dict[str, int]):
    def __missing__(self, key: str) -> int:
        return 7

    def __setitem__(self, key: str, value: int) -> None:
        super().__setitem__(key, value * 2)


class Owned(persist.Dict[str, Any]):
    def __init__(self, owner: str) -> None:
        self["owner"] = owner


def test_an_instance_keeps_its_class_and_its_methods(root: persist.Dict) -> None:
    inventory = Inventory({"apple": 2}, pear=1)
    assert isinstance(inventory, dict) is False
    assert isinstance(inventory, persist.Dict)
    assert inventory == {"apple": 2, "pear": 1}
    inventory.add("apple", 3)
    made = Inventory.made
    root["i"] = inventory
    assert root["i"] is inventory
    assert type(root["i"]) is Inventory
    assert root["i"].add("plum") == 1
    assert inventory.total == 7
    assert inventory == {"apple": 5, "pear": 1, "plum": 1}
    assert persist.class_name(inventory) == f"{__name__}:Inventory"
    assert Inventory.made == made, "__init__ was called again"


def test_it_is_the_same_after_reopening(path: Path) -> None:
    with persist.open(path) as store:
        store.root["i"] = Inventory(a=1)
        store.root["l"] = Line([1, Inventory(b=2)])
        store.root["o"] = Owned("Joe")
    made = Inventory.made
    with persist.open(path) as store:
        i, line = store.root["i"], store.root["l"]
        assert (type(i), type(line), type(line[1])) == (Inventory, Line, Inventory)
        assert line.serve() == 1
        assert line[0].total == 2
        assert store.root["i"] is i
        assert type(store.root["o"]) is Owned
        assert store.root["o"] == {"owner": "Joe"}
        del i, line
        gc.collect()
        assert type(store.root["i"]) is Inventory
    assert Inventory.made == made


def test_a_list_of_a_class(root: persist.Dict) -> None:
    line = Line("abc")
    assert line == ["a", "b", "c"]
    line.append("d")
    line.insert(0, "z")
    line[1:3] = ["x"]
    line.reverse()
    line.sort()
    assert (line.index("x"), line.count("c"), "d" in line, len(line)) == (2, 1, True, 4)
    assert list(reversed(line)) == ["z", "x", "d", "c"]
    line += ["e"]
    line *= 1
    line.extend(["f"])
    line.remove("f")
    assert line.pop() == "e"
    del line[0]
    root["l"] = line
    assert root["l"] is line
    assert line == ["d", "x", "z"]
    assert line.serve() == "d"
    line.clear()
    assert root["l"] == []
    assert type(root["l"]) is Line


def test_a_transient_dict_is_a_dict(root: persist.Dict) -> None:
    d = Inventory(a=1)
    assert (d.get("a"), d.get("b"), d.get("b", 5), "a" in d, len(d)) == (1, None, 5, True, 1)
    assert d.setdefault("b", 2) == 2
    assert list(d) == list(d.keys()) == ["a", "b"]
    assert list(d.values()) == [1, 2]
    assert list(d.items()) == [("a", 1), ("b", 2)]
    assert list(reversed(d)) == ["b", "a"]
    assert d | {"c": 3} == {"a": 1, "b": 2, "c": 3}
    assert {"c": 3} | d == {"c": 3, "a": 1, "b": 2}
    d |= {"c": 3}
    assert d.popitem() == ("c", 3)
    assert d.pop("b") == 2
    assert d.pop("b", None) is None
    with pytest.raises(KeyError):
        d.pop("b")
    with pytest.raises(KeyError):
        d["b"]
    del d["a"]
    assert repr(d) == "{}"
    d.update({"x": 1}, y=2)
    assert d.copy() == {"x": 1, "y": 2}
    assert copy.deepcopy(d) == {"x": 1, "y": 2}
    d.clear()
    assert not d
    with pytest.raises(ValueError, match="not in a store yet"):
        d.lock()


def test_methods_of_the_class_come_first(root: persist.Dict) -> None:
    d = Counting()
    d["a"] = 1
    assert (d["a"], d["b"], d.get("b")) == (2, 7, None)
    root["d"] = d
    d["c"] = 5
    assert (d["c"], d["a"], d["b"], "b" in d) == (10, 2, 7, False)


def test_it_refers_to_itself_and_to_others(root: persist.Dict) -> None:
    a, b = Inventory(), Line()
    a["b"] = b  # type: ignore[assignment]
    b.append(a)
    b.append(b)
    root["a"] = a
    assert root["a"]["b"] is b
    assert b[0] is a
    assert b[1] is b
    assert type(root["a"]["b"]) is Line


def test_an_undone_transaction_leaves_it_transient(store: persist.Store) -> None:
    root, i, line = store.root, Inventory(a=1), Line([1])
    with pytest.raises(RuntimeError), store.transaction():
        root["i"], root["l"] = i, line
        assert root["i"] is i
        i["b"] = 2
        raise RuntimeError
    assert root == {}
    with pytest.raises(persist.Gone):
        i["a"]
    root["i"], root["l"] = i, line
    assert (root["i"], root["l"]) == ({"a": 1}, [1])
    assert root["i"] is i
    assert root["l"] is line
    with store.transaction():
        root["j"] = j = Inventory(c=1)
    assert root["j"] is j
    assert j == {"c": 1}


def test_attributes_are_refused(root: persist.Dict) -> None:
    i, line = Inventory(), Line()
    for obj in (i, line):
        with pytest.raises(AttributeError, match="not stored"):
            obj.owner = "Joe"
        with pytest.raises(AttributeError, match="not stored"):
            obj.__class__ = persist.Dict
        with pytest.raises(AttributeError):
            obj.total = 3
    root["i"] = i
    with pytest.raises(AttributeError, match="not stored"):
        i.owner = "Joe"


def test_a_class_that_no_import_finds_is_refused(root: persist.Dict) -> None:
    class Local(persist.Dict[str, int]):
        pass

    with pytest.raises(
        TypeError, match=r"cannot store 'Local' at value\['a'\]\[0\]; no import finds its class"
    ):
        root["x"] = {"a": [Local()]}
    assert root == {}


class Slotted(persist.Dict[str, int]):
    __slots__ = ("owner",)


class Bare(persist.Dict[str, int]):
    __slots__ = ()


def test_slots_are_refused(root: persist.Dict) -> None:
    slotted = Slotted(a=1)
    with pytest.raises(AttributeError, match="attributes of a 'Slotted' are not stored"):
        slotted.owner = "Joe"
    with pytest.raises(TypeError, match="keeps no __slots__ of class 'Slotted'"):
        root["x"] = [slotted]
    root["x"] = Bare(a=1)
    assert type(root["x"]) is Bare


def test_dict_and_list_themselves_are_not_made() -> None:
    for cls in (persist.Dict, persist.List):
        with pytest.raises(TypeError, match="cannot create"):
            cls()


SHOP = """
import persist
class Stock(persist.Dict):
    def total(self):
        return sum(self.values())
class Queue(persist.List):
    pass
class Wrong:
    pass
"""


def test_an_unknown_class_is_named(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shop_of_test.py").write_text(SHOP)
    monkeypatch.syspath_prepend(str(tmp_path))
    import shop_of_test  # type: ignore[import-not-found]

    with persist.open(path) as store:
        store.root["s"] = shop_of_test.Stock(a=1)
        store.root["q"] = shop_of_test.Queue([1])
    del sys.modules["shop_of_test"]
    with persist.open(path) as store:
        s, q = store.root["s"], store.root["q"]
        assert (type(s), type(q)) == (persist.Dict, persist.List)
        assert repr(s) == "<persist.Dict of class \"shop_of_test:Stock\": {'a': 1}>"
        assert repr(q) == '<persist.List of class "shop_of_test:Queue": [1]>'
        assert persist.class_name(s) == "shop_of_test:Stock"
        s["b"] = 2
        # A reference keeps it what it is, and so does a copy to another store.
        store.root["again"] = s
        with persist.open(tmp_path / "other") as other:
            other.root["s"] = s
            assert persist.class_name(other.root["s"]) == "shop_of_test:Stock"
        del s, q
        gc.collect()
        import shop_of_test

        assert store.root["s"].total() == 3
        assert type(store.root["q"]) is shop_of_test.Queue
    del sys.modules["shop_of_test"]


def test_a_stored_class_must_be_of_the_kind(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "kinds_of_test.py").write_text("import persist\nclass C(persist.Dict): pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import kinds_of_test  # type: ignore[import-not-found]

    with persist.open(path) as store:
        store.root["c"] = kinds_of_test.C(a=1)
    for text in ("class C(persist.List): pass", "class C(persist.Object): pass", "class C: pass", "C = 1"):
        (tmp_path / "kinds_of_test.py").write_text(f"import persist\n{text}\n# {len(text)}\n")
        del sys.modules["kinds_of_test"]
        exec(
            f"import persist\n{text}",
            sys.modules.setdefault("kinds_of_test", type(sys)("kinds_of_test")).__dict__,
        )
        with persist.open(path) as store:
            assert type(store.root["c"]) is persist.Dict
            assert store.root["c"] == {"a": 1}
    del sys.modules["kinds_of_test"]


def test_copies(root: persist.Dict, tmp_path: Path) -> None:
    root["i"] = Inventory(a=1)
    root["l"] = Line([root["i"], {"x": [1]}])
    out = persist.copy_out(root)
    assert (type(out["i"]), type(out["l"])) == (Inventory, Line)
    assert out["l"][0] is out["i"]
    assert out == {"i": {"a": 1}, "l": [{"a": 1}, {"x": [1]}]}
    out["i"]["a"] = 5
    assert root["i"]["a"] == 1
    root["copy"] = out["l"]
    assert type(root["copy"][0]) is Inventory
    assert root["copy"] == [{"a": 5}, {"x": [1]}]
    deep = copy.deepcopy(root["l"])
    assert type(deep) is Line
    assert deep == [{"a": 1}, {"x": [1]}]
    with persist.open(tmp_path / "other") as other:
        other.root["l"] = root["l"]
        assert (type(other.root["l"]), type(other.root["l"][0])) == (Line, Inventory)
        assert other.root["l"] == [{"a": 1}, {"x": [1]}]
    root["update"] = {}
    root["update"].update(root["i"])
    assert root["update"] == {"a": 1}


def test_a_subclass_of_an_unstored_value_is_refused_with_its_place(root: persist.Dict) -> None:
    i = Inventory(a=object())
    with pytest.raises(TypeError, match=r"cannot store 'object' at value\['a'\]"):
        root["i"] = i
    i["a"] = 1
    root["i"] = i
    assert root["i"] == {"a": 1}
