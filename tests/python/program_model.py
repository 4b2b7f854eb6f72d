"""The model that random programs are compared with: dicts, lists and objects of plain Python, with the transactions,
savepoints and locks that a store promises.

1. A `Node` is a container with an identity of its own; its content is a plain dict or list of scalars and nodes.
2. `Save` is the content of every node at one moment. Undoing puts it back in place; what was made later is gone.
3. An operation is applied first and judged afterwards: what it changed says which locks it had to meet.
4. Where an operation changes nothing, or fails by itself, the promises do not say whether it meets a lock:
   `Expected` holds both outcomes then, and the program goes on with the one that the store chose.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable

WHOLE = ("whole",)
# Exceptions that an operation raises by itself, as the builtin types do.
BUILTIN = (KeyError, IndexError, ValueError, TypeError, AttributeError)


class Unresolved(Exception):
    """A step names what is not there: it is left out (programs that are cut down have such)."""


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
    """What an operation may do: give `value` (its canonical form), raise `error`, be blocked (`blocked` names the
    exceptions), with both where the promises leave it open."""

    value: Any = None
    error: str | None = None
    blocked: tuple[str, ...] = ()
    both: bool = False
    # To be done with the model if the operation was blocked: it is undone, or the whole transaction is.
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
        # Owners of transactions that died, and the blocks they have still to leave: others go on.
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
        """`extra`: nodes that the program holds though the root does not reach them."""
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
        """Other owners whose locks exclude this one."""
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
        """An owner ended."""
        for held in self.locks.values():
            held.pop(owner, None)


def same_key(a: Any, b: Any) -> bool:
    return a is not WHOLE and b is not WHOLE and hash(a) == hash(b) and a == b


def children(node: Node) -> list[Node]:
    values = node.data if node.kind == "list" else node.data.values()
    return [v for v in values if isinstance(v, Node)]


def plain(value: Any) -> Any:
    """A canonical form, equal exactly for equal graphs: types, order of keys, sharing and cycles."""
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
    """The same of what the store gave, copied out."""
    seen: dict[int, int] = {}
    # What is numbered must live as long as its number.
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
