"""The model for random programs: dicts, lists and objects of plain Python, with the transactions, savepoints and locks
that a store promises.

1. A `Node` is a container with its own identity; its content is a plain dict or list of scalars and nodes.
2. `Save` is the content of every node at one moment. An undo restores it; nodes that were created later are gone.
3. An operation is applied first and judged afterwards: its changes determine which locks it had to meet.
4. If an operation changes nothing, or fails by itself, the promises do not determine whether it meets a lock:
   `Expected` then holds both outcomes, and the program continues with the store's choice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable

WHOLE = ("whole",)
# Exceptions that an operation raises by itself, like the builtin types.
BUILTIN = (KeyError, IndexError, ValueError, TypeError, AttributeError)


class Unresolved(Exception):
    """A step refers to something that does not exist: it is skipped (shortened programs have such steps)."""


class Node:
    """A dict, a list, or an object (its attributes)."""

    __slots__ = ("kind", "data", "gone")

    def __init__(self, kind: str, data: Any) -> None:
        self.kind, self.data = kind, data
        self.gone = False


@dataclass
class Save:
    """The content of all nodes at one moment."""

    nodes: dict[int, tuple[Node, Any]]


@dataclass
class Tx:
    """An open transaction: one save for each block."""

    owner: int
    saves: list[Save]


@dataclass
class Expected:
    """The allowed results of an operation: `value` (in canonical form), `error`, or blocked (`blocked` names the
    exceptions). Several are set where the promises allow them."""

    value: Any = None
    error: str | None = None
    blocked: tuple[str, ...] = ()
    both: bool = False
    # Applied to the model if the operation was blocked: the operation is undone, or the whole transaction.
    undo: Callable[[], None] | None = None
    any: bool = False


@dataclass
class Level:
    """One acquisition of a lock."""

    mode: str  # S or X
    name: int | None = None  # of the Lock object that the program keeps


class Store:
    """The model of one store."""

    def __init__(self) -> None:
        self.root = Node("dict", {})
        self.tx: Tx | None = None
        # Owners of dead transactions, and the number of blocks that they still have to leave. Other owners continue.
        self.dead: dict[int, int] = {}
        self.locks: dict[tuple[Node, Any], dict[int, list[Level]]] = {}
        self.snapshots: dict[str, Any] = {}

    # --- content ---------------------------------------------------------------------------------

    def reachable(self) -> list[Node]:
        found, todo, seen = [], [self.root], {id(self.root)}
        while todo:
            node = todo.pop()
            found.append(node)
            for child in children(node):
                if id(child) not in seen:
                    seen.add(id(child))
                    todo.append(child)
        return found

    def save(self, extra: list[Node]) -> Save:
        """Save all nodes. `extra`: nodes that the program holds and the root does not reach."""
        kept: dict[int, tuple[Node, Any]] = {}
        todo = [self.root, *(n for n in extra if not n.gone)]
        while todo:
            node = todo.pop()
            if id(node) not in kept:
                kept[id(node)] = (node, node.data.copy())
                todo.extend(children(node))
        return Save(kept)

    def restore(self, save: Save, extra: list[Node]) -> None:
        now = self.save(extra)
        for number, (node, _) in now.nodes.items():
            if number not in save.nodes:
                node.gone = True
                self.locks = {at: held for at, held in self.locks.items() if at[0] is not node}
        for node, data in save.nodes.values():
            node.data = data.copy()

    # --- locks -----------------------------------------------------------------------------------

    def holders(self, node: Node, key: Any, mode: str, owner: int) -> set[int]:
        """Return other owners whose locks exclude this one."""
        found = set()
        for (at, where), held in self.locks.items():
            if at is not node:
                continue
            if where is not WHOLE and key is not WHOLE and not same_key(where, key):
                continue
            for other, levels in held.items():
                if other != owner and levels and (mode == "X" or any(level.mode == "X" for level in levels)):
                    found.add(other)
        return found

    def take(self, node: Node, key: Any, mode: str, owner: int, name: int | None) -> None:
        for (at, where), held in self.locks.items():
            if at is node and (where is key or key is not WHOLE and where is not WHOLE and same_key(where, key)):
                held.setdefault(owner, []).append(Level(mode, name))
                return
        self.locks[node, key] = {owner: [Level(mode, name)]}

    def levels(self, node: Node, key: Any, owner: int) -> list[Level]:
        for (at, where), held in self.locks.items():
            if at is node and (where is key or key is not WHOLE and where is not WHOLE and same_key(where, key)):
                return held.get(owner, [])
        return []

    def forget(self, owner: int) -> None:
        """Remove an owner that ended."""
        for held in self.locks.values():
            held.pop(owner, None)


def same_key(a: Any, b: Any) -> bool:
    return a is not WHOLE and b is not WHOLE and hash(a) == hash(b) and a == b


def children(node: Node) -> list[Node]:
    values = node.data if node.kind == "list" else node.data.values()
    return [v for v in values if isinstance(v, Node)]


def plain(value: Any) -> Any:
    """Return a canonical form, which is equal exactly for equal graphs: types, order of keys, sharing and cycles."""
    seen: dict[int, int] = {}

    def scalar(v: Any) -> Any:
        return v if type(v) in (str, bytes) or v is None else (type(v).__name__, repr(v))

    def walk(v: Any) -> Any:
        if not isinstance(v, Node):
            return scalar(v)
        if id(v) in seen:
            return ("again", seen[id(v)])
        seen[id(v)] = len(seen)
        if v.kind == "list":
            return ("list", [walk(i) for i in v.data])
        return (v.kind, [(scalar(k), walk(i)) for k, i in v.data.items()])

    return walk(value)


def plain_real(value: Any, object_class: type) -> Any:
    """Return the same form of a value copied out of the store."""
    seen: dict[int, int] = {}
    # A numbered object must live as long as its number.
    kept: list[Any] = []

    def scalar(v: Any) -> Any:
        return v if type(v) in (str, bytes) or v is None else (type(v).__name__, repr(v))

    def walk(v: Any) -> Any:
        kind = "dict" if type(v) is dict else "list" if type(v) is list else "obj"
        if kind == "obj" and not isinstance(v, object_class):
            return scalar(v)
        if id(v) in seen:
            return ("again", seen[id(v)])
        seen[id(v)] = len(seen)
        kept.append(v)
        if kind == "list":
            return ("list", [walk(i) for i in v])
        entries = vars(v) if kind == "obj" else v
        return (kind, [(scalar(k), walk(i)) for k, i in entries.items()])

    return walk(value)
