"""Random steps of programs: operations, their arguments, and their generation from a seed.

A step is a plain tuple (actor, name, store, reference, arguments), so that programs can be printed, shortened and run
again. A reference is a path from the root, or the number of a proxy that the program keeps. A value is a scalar or ("D"
| "L" | "O", entries), ("R", store, reference): a container that is already in a store, or ("T", value): a list that
holds the same container twice.
"""

from __future__ import annotations

import datetime
import decimal
import random
from typing import Any, Callable

import persist
from program_model import WHOLE, Node, Unresolved, children

Step = tuple[Any, ...]


def _del(c: Any, k: Any) -> None:
    del c[k]


def _set(c: Any, k: Any, v: Any) -> None:
    c[k] = v


def _ior(c: Any, v: Any) -> None:
    c |= v


def _iadd(c: Any, v: Any) -> None:
    c += v


def _imul(c: Any, n: int) -> None:
    c *= n


def _slice(c: Any, i: int, j: int, step: Any, v: Any) -> None:
    c[i:j:step] = v


def _del_slice(c: Any, i: int, j: int, step: Any) -> None:
    del c[i:j:step]


def _order(v: Any) -> str:
    """Return a key to sort by: containers are equal, scalars follow their text."""
    return repr(v) if v is None or isinstance(v, (bool, int, float, str, bytes)) else ""


def _views(c: Any, k: Any, other: Any, v: Any) -> list[Any]:
    """Return what the views of a dict say; sets as their lengths, since equal keys may have different types."""
    keys, some = c.keys(), {k, other}
    sets = [keys & some, keys | some, keys - some, keys ^ some, some & keys, some - keys]
    facts = [k in keys, (k, v) in c.items(), v in c.values(), keys.isdisjoint(some), keys >= some, keys == set(c)]
    return [len(keys), len(c.values()), len(c.items()), *map(len, sets), *facts]


# The operations of a dict and of a list: the same function for the builtin type and the proxy.
DICT: dict[str, Callable[..., Any]] = {
    "set": _set,
    "del": _del,
    "getitem": lambda c, k: c[k],
    "get": lambda c, k: c.get(k),
    "in": lambda c, k: k in c,
    "len": len,
    "keys": list,
    "reversed": lambda c: list(reversed(c)),
    "values": lambda c: list(c.values()),
    "items": lambda c: [part for pair in c.items() for part in pair],
    "items reversed": lambda c: [part for pair in reversed(c.items()) for part in pair],
    "views": _views,
    "pop": lambda c, k: c.pop(k),
    "pop default": lambda c, k: c.pop(k, None),
    "popitem": lambda c: c.popitem(),
    "setdefault": lambda c, k, v: c.setdefault(k, v),
    "update": lambda c, v: c.update(v),
    "|=": _ior,
    "clear": lambda c: c.clear(),
}
LIST: dict[str, Callable[..., Any]] = {
    "set": _set,
    "del": _del,
    "getitem": lambda c, i: c[i],
    "len": len,
    "slice": lambda c, i, j: c[i:j],
    "append": lambda c, v: c.append(v),
    "extend": lambda c, v: c.extend(v),
    "+=": _iadd,
    "*=": _imul,
    "insert": lambda c, i, v: c.insert(i, v),
    "pop": lambda c: c.pop(),
    "pop at": lambda c, i: c.pop(i),
    "set slice": _slice,
    "del slice": _del_slice,
    "reverse": lambda c: c.reverse(),
    "sort": lambda c, backward: c.sort(key=_order, reverse=backward),
    "iter": list,
    "list reversed": lambda c: list(reversed(c)),
    "holds": lambda c, v: v in c,
    "clear": lambda c: c.clear(),
    "count": lambda c, v: c.count(v),
    "index": lambda c, v: c.index(v),
    "remove": lambda c, v: c.remove(v),
}
OBJECT = ("setattr", "delattr", "getattr", "vars")
READS = {"getitem", "get", "in", "len", "keys", "reversed", "slice", "count", "index", "getattr", "vars"}
READS |= {"values", "items", "items reversed", "views", "iter", "list reversed", "holds"}

KEYS = ["a", "b", "c", "d", "e", "f", "g", "a longer key", 0, 1, 2, True, 1.0, 2.5, None, b"a", "", "1", 2**80,
        datetime.date(2026, 1, 1)]  # fmt: skip
# Tuples are steps' own.
OTHERS: list[Any] = [
    frozenset([(1, ("x", b"", None, 2.5), ("long",) * 3000)]),
    datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc),
    decimal.Decimal("1.50"),
    complex(1, -0.0),
    range(3),
    persist.Opaque("app.blob", bytes(100_000)),
]
NAMES = ["name", "age", "x", "y", "friends"]
# With more containers than this, the program removes some.
MANY = 60


def scalar(rng: random.Random) -> Any:
    kind = rng.randrange(13)
    if kind < 4:
        return rng.randrange(100)
    if kind == 4:
        return rng.choice([None, True, False, 0.0, -0.0, 1.5, float("inf"), -1, 2**63, -(2**100)])
    if kind < 8:
        return "xyz"[rng.randrange(3)] * rng.choice([0, 1, 5, 7, 8, 30])
    if kind == 8:
        return chr(rng.choice([97, 233, 0x4E2D, 0x1F600])) * rng.choice([1, 40, 3000, 20_000])
    if kind == 9 and rng.random() < 0.3:
        return persist.Link(rng.choice(["../x", "/nowhere", "ü" * 50]))
    if kind == 9:
        return bytes([rng.randrange(256)]) * rng.choice([0, 3, 300, 9_000, 70_000])
    if kind == 12:
        return rng.choice(OTHERS)
    return rng.random()


def new_value(rng: random.Random, depth: int = 0) -> Any:
    """Return a value without references."""
    kind = rng.random()
    if kind < 0.6 or depth > 2:
        return scalar(rng)
    n = rng.choice([0, 1, 2, 3, 3, 5])
    if kind < 0.76:
        return ("D", [(rng.choice(KEYS), new_value(rng, depth + 1)) for _ in range(n)])
    if kind < 0.9:
        return ("L", [new_value(rng, depth + 1) for _ in range(n)])
    if kind < 0.93:
        return ("T", ("D", [("n", scalar(rng))]))
    return ("O", [(name, new_value(rng, depth + 1)) for name in rng.sample(NAMES, min(n, 3))])


class Maker:
    """Generates the next step for a model in its present state."""

    def __init__(self, rng: random.Random, machine: Any) -> None:
        self.rng, self.machine = rng, machine
        self.numbers = 0

    def references(self, store: int, actor: int) -> list[tuple[Any, Node]]:
        """Return a path to each container that the actor can see."""
        m = self.machine
        found: list[tuple[Any, Node]] = []
        seen, todo = set(), [((), m.stores[store].root)]
        while todo:
            path, node = todo.pop(0)
            if id(node) in seen:
                continue
            seen.add(id(node))
            found.append((path, node))
            entries = enumerate(node.data) if node.kind == "list" else node.data.items()
            todo += [((*path, k), v) for k, v in entries if isinstance(v, Node)]
        found += [(n, node) for n, (s, node) in m.handles.items() if s == store and m.visible(store, actor, node)]
        return found

    def value(self, store: int, actor: int) -> Any:
        rng, m = self.rng, self.machine
        if rng.random() < 0.15:
            other = rng.randrange(len(m.stores))
            if other == store or m.readable(other, actor):
                with m.view(other, actor):
                    path, node = rng.choice(self.references(other, actor))
                    # Copies between stores stay small, and a root is not copied into another store.
                    if not node.gone and (path != () or other == store) and self.weight(node) < 30:
                        return ("R", other, path)
        return new_value(rng)

    def weight(self, node: Node) -> int:
        seen, todo = {id(node)}, [node]
        while todo:
            for child in children(todo.pop()):
                if id(child) not in seen:
                    seen.add(id(child))
                    todo.append(child)
        return len(seen)

    def step(self) -> Step:
        rng, m = self.rng, self.machine
        actor = rng.choice(m.actors)
        store = rng.randrange(len(m.stores))
        tx = m.stores[store].tx
        if tx and rng.random() < 0.8:
            actor = tx.owner
        dead = m.stores[store].dead.get(actor, 0)
        blocks = dead or (len(tx.saves) if tx is not None and tx.owner == actor else 0)
        inside = blocks > 0
        dice = rng.random()
        if inside and rng.random() < (0.35 if dead else 0.12) or not inside and dice < 0.05:
            if inside and (rng.random() < 0.7 or blocks > 4):
                return (actor, "end", store, (), (rng.random() < 0.6,))
            return (actor, "begin", store, (), (rng.random() < 0.5,))
        if dice < 0.15:
            return self.lock_step(actor, store)
        if dice < 0.2:
            return self.handle_step(actor, store)
        if dice < 0.24 and not inside:
            return self.store_step(actor, store)
        if dice < 0.3:
            return self.block_step(actor, store)
        with m.view(store, actor):
            return self.data_step(actor, store)

    def data_step(self, actor: int, store: int) -> Step:
        rng = self.rng
        ref, node = rng.choice(self.references(store, actor))
        full = len(self.machine.stores[store].reachable()) > MANY
        value = lambda: scalar(rng) if full else self.value(store, actor)  # noqa: E731
        if node.kind == "obj":
            name = rng.choice(OBJECT)
            args: tuple[Any, ...] = () if name == "vars" else (rng.choice(NAMES),)
            return (actor, name, store, ref, args + ((value(),) if name == "setattr" else ()))
        if node.kind == "dict":
            name = rng.choice(["set"] * 8 + ["del"] * 2 + list(DICT))
            if name == "clear" and not full and rng.random() < 0.8:
                name = "set"
            key = rng.choice(list(node.data) or KEYS) if rng.random() < 0.5 else rng.choice(KEYS)
            args = {
                "set": lambda: (key, value()), "setdefault": lambda: (key, value()),
                "update": lambda: (("D", [(rng.choice(KEYS), value()) for _ in range(rng.randrange(4))]),),
                "|=": lambda: (("D", [(rng.choice(KEYS), value()) for _ in range(rng.randrange(4))]),),
                "len": tuple, "keys": tuple, "reversed": tuple, "popitem": tuple, "clear": tuple,
                "values": tuple, "items": tuple, "items reversed": tuple,
                "views": lambda: (key, rng.choice(KEYS), scalar(rng)),
            }.get(name, lambda: (key,))()  # fmt: skip
            return (actor, name, store, ref, args)
        name = rng.choice(["append"] * 6 + list(LIST))
        n = len(node.data)
        if name == "*=" and n > 20 or name in ("clear", "*=") and rng.random() < 0.7:
            name = "append"
        some = lambda: ("L", [value() for _ in range(rng.randrange(4))])  # noqa: E731
        at = lambda: rng.randrange(-n - 1, n + 2)  # noqa: E731
        args = {
            "set": lambda: (at(), value()), "del": lambda: (at(),), "getitem": lambda: (at(),),
            "slice": lambda: (at(), at()), "append": lambda: (value(),), "extend": lambda: (some(),),
            "+=": lambda: (some(),), "*=": lambda: (rng.randrange(3),), "insert": lambda: (at(), value()),
            "pop at": lambda: (at(),), "set slice": lambda: (at(), at(), rng.choice([None, None, None, 2, -1]), some()),
            "del slice": lambda: (at(), at(), rng.choice([None, None, 2, -1])),
            "sort": lambda: (rng.random() < 0.5,), "holds": lambda: (scalar(rng),),
            "count": lambda: (scalar(rng),), "index": lambda: (scalar(rng),), "remove": lambda: (scalar(rng),),
        }.get(name, tuple)()  # fmt: skip
        return (actor, name, store, ref, args)

    def lock_step(self, actor: int, store: int) -> Step:
        rng, m = self.rng, self.machine
        held = m.held(actor)
        if held and rng.random() < 0.6:
            s, ref, key, name = rng.choice(held)
            if name is not None:
                return (actor, "release", s, (), (name,))
            if ref is not None and self.takes(s, actor, ref, key):
                return (actor, "unlock", s, ref, (key,))
        with m.view(store, actor):
            ref, node = rng.choice(self.references(store, actor))
        key: Any = ("whole",)
        if node.kind != "list" and rng.random() < 0.5:
            key = rng.choice(NAMES) if node.kind == "obj" else rng.choice(KEYS)
        if rng.random() < 0.1:
            return (actor, "unlock", store, ref, (key,))
        self.numbers += 1
        form = rng.choice(["lockExcl", "lockShared", "lock", "lock", "lock_async"])
        shared = form == "lockShared" or form in ("lock", "lock_async") and rng.random() < 0.4
        return (actor, form, store, ref, (key, shared, rng.random() < 0.5, self.numbers))

    def takes(self, store: int, actor: int, ref: Any, key: Any) -> bool:
        """Return whether the value at the reference can now be locked by that key: a list has no keys."""
        with self.machine.view(store, actor):
            try:
                return key == WHOLE or self.machine.find(store, ref).kind != "list"
            except Unresolved:
                return False

    def handle_step(self, actor: int, store: int) -> Step:
        rng, m = self.rng, self.machine
        if len(m.handles) > 8:
            n = rng.choice(list(m.handles))
            return (actor, "drop", m.handles[n][0], (), (n,))
        with m.view(store, actor):
            ref, _ = rng.choice(self.references(store, actor))
        self.numbers += 1
        return (actor, "keep", store, ref, (self.numbers,))

    def store_step(self, actor: int, store: int) -> Step:
        rng, m = self.rng, self.machine
        name = rng.choice(["sync", "gc", "stat", "snapshot", "at", "drop snapshot", "reopen", "reopen"])
        there = list(m.stores[store].snapshots)
        if name == "snapshot" and len(there) > 3:
            name = "drop snapshot"
        if name == "snapshot":
            self.numbers += 1
            return (actor, name, store, (), (f"s{self.numbers}",))
        if name in ("at", "drop snapshot"):
            return (actor, name, store, (), (rng.choice([*there, "none"]),))
        return (actor, name, store, (), ())

    def block_step(self, actor: int, store: int) -> Step:
        """Return a block with blocks inside it, as a program writes them: `with`, `store.run`, exceptions caught."""
        rng = self.rng

        def block(depth: int) -> tuple[Any, ...]:
            body: list[Any] = []
            for _ in range(rng.randrange(1, 4)):
                if depth < 3 and rng.random() < 0.4:
                    body.append(block(depth + 1))
                else:
                    with self.machine.view(store, actor):
                        body.append(self.data_step(actor, store))
            return ("block", rng.choice(["with", "with", "run", "async"]), rng.random() < 0.4, body)

        return (actor, "block", store, (), (block(0),))
