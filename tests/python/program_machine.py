"""Steps on the model: the allowed and the actual results of each."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from program_actors import Actor, has_async_forms
from program_model import BUILTIN, WHOLE, Expected, Node, Store, Tx, Unresolved, children, plain
from program_steps import DICT, LIST, OBJECT, READS, Step

Path = tuple[Any, ...]
NO_EFFECT = {"sync", "gc", "stat", "reopen", "at", "snapshot", "drop snapshot"}


class Machine:
    """The model of several stores and the actors that use them."""

    def __init__(self, stores: int, actors: list[Actor]) -> None:
        self.stores = [Store() for _ in range(stores)]
        self.kinds = [kind for kind, _ in actors]
        self.threads = [thread for _, thread in actors]
        self.actors = list(range(len(actors)))
        self.handles: dict[int, tuple[int, Node]] = {}
        # Lock objects that the program keeps: store, container, key, owner.
        self.named: dict[int, tuple[int, Node, Any, int]] = {}
        self.paths: dict[int, Any] = {}

    # --- what an actor sees ----------------------------------------------------------------------

    def extra(self, store: int) -> list[Node]:
        return [node for s, node in self.handles.values() if s == store]

    def foreign(self, store: int, actor: int) -> bool:
        """Return whether another owner has a transaction open."""
        tx = self.stores[store].tx
        return tx is not None and tx.owner != actor

    def readable(self, store: int, actor: int) -> bool:
        """Return whether the present state can be read without a wait."""
        tx = self.stores[store].tx
        return actor not in self.stores[store].dead and (tx is None or tx.owner == actor)

    def visible(self, store: int, actor: int, node: Node) -> bool:
        """Return whether the actor may use a proxy: not one of a container that another's open transaction created."""
        return not self.foreign(store, actor) or id(node) in self.stores[store].tx.saves[0].nodes  # type: ignore[union-attr]

    @contextlib.contextmanager
    def view(self, store: int, actor: int) -> Iterator[None]:
        """Return the state as the actor sees it: during the transaction of another owner, the committed one."""
        if not self.foreign(store, actor):
            yield
            return
        saved = self.stores[store].tx.saves[0].nodes.values()  # type: ignore[union-attr]
        now = [(node, node.data) for node, _ in saved]
        for node, data in saved:
            node.data = data.copy()
        try:
            yield
        finally:
            for node, data in now:
                node.data = data

    def find(self, store: int, ref: Any) -> Node:
        if isinstance(ref, int):
            if ref not in self.handles or self.handles[ref][0] != store:
                raise Unresolved
            return self.handles[ref][1]
        node: Any = self.stores[store].root
        try:
            for key in ref:
                node = node.data[key]
                if not isinstance(node, Node):
                    raise Unresolved
        except (KeyError, IndexError, TypeError):
            raise Unresolved from None
        return node

    # --- values ----------------------------------------------------------------------------------

    def build(self, store: int, value: Any, actor: int) -> Any:
        """Return the model's form of a stored value."""
        copies: dict[int, Node] = {}

        def copy(node: Node) -> Node:
            if id(node) not in copies:
                made = copies[id(node)] = Node(node.kind, node.data.copy())
                entries = enumerate(made.data) if made.kind == "list" else list(made.data.items())
                for key, child in entries:
                    if isinstance(child, Node):
                        made.data[key] = copy(child)
            return copies[id(node)]

        def walk(v: Any) -> Any:
            if not isinstance(v, tuple):
                return v
            if v[0] == "R":
                if not self.readable(v[1], actor) and v[1] != store:
                    raise Unresolved
                node = self.find(v[1], v[2])
                if node.gone or not self.visible(v[1], actor, node):
                    raise Unresolved
                return node if v[1] == store else copy(node)
            if v[0] == "T":
                inner = walk(v[1])
                return Node("list", [inner, inner])
            if v[0] == "L":
                return Node("list", [walk(i) for i in v[1]])
            return Node("dict" if v[0] == "D" else "obj", {k: walk(i) for k, i in v[1]})

        return walk(value)

    def argument(self, store: int, name: str, at: int, value: Any, actor: int) -> Any:
        """Return an argument of an operation; arguments that are only iterated over are not stored themselves."""
        built = self.build(store, value, actor)
        loose = name in ("update", "|=", "extend", "+=") or name == "set slice" and at == 3
        return built.data if loose and isinstance(built, Node) else built

    # --- steps -----------------------------------------------------------------------------------

    def step(self, step: Step) -> Expected:
        """Return what the step may do, with the model changed as if nothing blocked it. `Expected.undo` reverts the
        change."""
        actor, name, s, ref, args = step
        store = self.stores[s]
        if name == "begin":
            return self.begin(s, actor, args[0])
        if name == "end":
            return self.end(s, actor, args[0])
        if name in NO_EFFECT:
            return self.whole(step)
        if name == "drop":
            self.handles.pop(args[0], None)
            return Expected(any=True)
        if name == "release":
            return self.release(args[0], actor)
        if name == "keep":
            return self.keep(s, ref, actor, args[0])
        with self.view(s, actor):
            node = self.find(s, ref)
            if not self.visible(s, actor, node):
                raise Unresolved
            dead = actor in store.dead
            # The path to the proxy, and the lookup of an object's method, are reads.
            if dead and name == "unlock" and (not isinstance(ref, int) or node.kind == "obj"):
                raise Unresolved
            if name == "unlock":
                return self.unlock(s, node, args[0], actor)
            if dead:
                # The arguments are created first, and may refer to what the transaction removed.
                return Expected(blocked=("TransactionAborted", "Gone"))
            if node.gone:
                return Expected(error="Gone")
            if name in ("lockExcl", "lockShared", "lock", "lock_async"):
                return self.lock(s, node, ref, step)
            return self.data(s, node, step)

    def keep(self, s: int, ref: Any, actor: int, number: int) -> Expected:
        """A proxy that the program keeps."""
        store = self.stores[s]
        with self.view(s, actor):
            node = self.find(s, ref)
            if node.gone or actor in store.dead or not self.visible(s, actor, node):
                raise Unresolved
        self.handles[number] = (s, node)
        # If the transaction of another owner had removed it, later saves do not contain it yet.
        for save in store.tx.saves if store.tx else []:
            todo = [node]
            while todo:
                at = todo.pop()
                if id(at) not in save.nodes and id(at) in store.tx.saves[0].nodes:  # type: ignore[union-attr]
                    save.nodes[id(at)] = (at, at.data.copy())
                    todo.extend(children(at))
        return Expected(any=True)

    def data(self, s: int, node: Node, step: Step) -> Expected:
        actor, name, _, _, args = step
        store = self.stores[s]
        built = [self.argument(s, name, i, v, actor) for i, v in enumerate(args)]
        before = node.data.copy()
        expected = Expected()
        try:
            result = operate(node, name, built)
            expected.value = answer(result)
        except BUILTIN as e:
            expected.error = type(e).__name__
            if list_of(node.data) != list_of(before):
                raise AssertionError(f"the model failed in the middle of {step}") from e
        if name in READS:
            return expected
        changed = changes(node, before)
        foreign = self.foreign(s, actor)
        if foreign:
            node.data = before
            expected.blocked = self.told(actor, {store.tx.owner})  # type: ignore[union-attr]
            expected.both = not changed
            return expected
        if node.kind == "list":
            definite = store.holders(node, WHOLE, "X", actor)
        else:
            definite = {o for key in changed for o in store.holders(node, key, "X", actor)}
        possible = store.holders(node, WHOLE, "X", actor)
        if not possible:
            return expected
        expected.both = not (changed and definite)
        mine = store.tx
        expected.blocked = ("Conflict",) if mine else self.told(actor, definite or possible)

        def undo() -> None:
            node.data = before
            if mine:
                self.die(s)

        expected.undo = undo
        return expected

    def told(self, actor: int, holders: set[int]) -> tuple[str, ...]:
        """Return the exceptions for locks of these holders: an error at once if one is a task of the same thread. A
        greenlet of gevent waits for those of its thread, too; `OtherTask` is a `LockTimeout`."""
        near = {self.threads[h] == self.threads[actor] for h in holders}
        if near == {False} or self.kinds[actor] == "gevent":
            return ("LockTimeout",)
        return ("OtherTask",) if near == {True} else ("LockTimeout", "OtherTask")

    def die(self, s: int) -> None:
        """Undo a transaction that met a lock. No operation can run in it any more."""
        store = self.stores[s]
        assert store.tx
        store.restore(store.tx.saves[0], self.extra(s))
        store.dead[store.tx.owner] = len(store.tx.saves)
        store.tx = None

    def begin(self, s: int, actor: int, waits: bool = False) -> Expected:
        store = self.stores[s]
        if actor in store.dead:
            return Expected(blocked=("TransactionAborted",))
        if self.foreign(s, actor):
            # The asynchronous form waits for other tasks, too.
            told = self.told(actor, {store.tx.owner})  # type: ignore[union-attr]
            return Expected(blocked=("LockTimeout",) if waits and has_async_forms(self.kinds[actor]) else told)
        save = store.save(self.extra(s))
        if store.tx:
            store.tx.saves.append(save)
        else:
            store.tx = Tx(actor, [save])
        return Expected(any=True)

    def end(self, s: int, actor: int, commit: bool) -> Expected:
        store = self.stores[s]
        tx = store.tx
        if actor in store.dead:
            store.dead[actor] -= 1
            if not store.dead[actor]:
                del store.dead[actor]
            return Expected(blocked=("TransactionAborted",)) if commit else Expected(any=True)
        if tx is None or tx.owner != actor:
            raise Unresolved
        save = tx.saves.pop()
        if not tx.saves:
            store.tx = None
        if not commit:
            store.restore(save, self.extra(s))
        return Expected(any=True)

    def crash(self) -> None:
        """Model the death of all processes: open transactions are undone, locks and proxies are gone."""
        for s, store in enumerate(self.stores):
            if store.tx:
                store.restore(store.tx.saves[0], self.extra(s))
            store.tx, store.dead = None, {}
            store.locks = {}
        self.handles, self.named = {}, {}

    def committed(self, s: int) -> Any:
        """Return the state that every other process must find."""
        store = self.stores[s]
        with self.view(s, -1):
            return plain(store.root)

    def whole(self, step: Step) -> Expected:
        """Steps that concern a store as a whole."""
        actor, name, s, _, args = step
        store = self.stores[s]
        tx = store.tx
        if name == "reopen":
            if any(st.tx or st.dead for st in self.stores):
                raise Unresolved
            store.locks = {}
            self.handles = {n: h for n, h in self.handles.items() if h[0] != s}
            self.named = {n: h for n, h in self.named.items() if h[0] != s}
            return Expected(any=True)
        if actor in store.dead:
            return Expected(any=True, blocked=("TransactionAborted", "ValueError", "NoSnapshot"), both=name == "at")
        if name == "at":
            if args[0] not in store.snapshots:
                return Expected(error="NoSnapshot")
            return Expected(value=store.snapshots[args[0]])
        if tx and tx.owner == actor:
            return Expected(any=True) if name in ("gc", "stat") else Expected(blocked=("ValueError",))
        if tx:
            if name == "stat":
                return Expected(any=True)
            missing = name == "drop snapshot" and args[0] not in store.snapshots
            return Expected(blocked=("LockTimeout", "NoSnapshot") if missing else ("LockTimeout",))
        if name == "snapshot":
            if args[0] in store.snapshots:
                raise Unresolved
            store.snapshots[args[0]] = plain(store.root)
        elif name == "drop snapshot":
            if args[0] not in store.snapshots:
                return Expected(error="NoSnapshot")
            del store.snapshots[args[0]]
        return Expected(any=True)

    # --- locks -----------------------------------------------------------------------------------

    def held(self, actor: int) -> list[tuple[int, Any, Any, int | None]]:
        """Return what the actor can release: the newest level of each of its locks."""
        found = []
        for s, store in enumerate(self.stores):
            for (node, key), owners in store.locks.items():
                levels = owners.get(actor, [])
                if levels:
                    found.append((s, self.paths.get(id(node)), key, levels[-1].name))
        return found

    def lock(self, s: int, node: Node, ref: Any, step: Step) -> Expected:
        actor, form, _, _, (key, shared, now, name) = step
        key = WHOLE if key == WHOLE else key
        store = self.stores[s]
        mode = "S" if shared else "X"
        # The transaction of another task of this thread does not block access to the table of locks.
        if self.foreign(s, actor) and self.threads[store.tx.owner] != self.threads[actor]:  # type: ignore[union-attr]
            return Expected(blocked=("LockTimeout",))
        others = store.holders(node, key, mode, actor)
        if others:
            if not store.tx or store.tx.owner != actor:
                return Expected(blocked=("LockTimeout", "OtherTask"))
            return Expected(blocked=("Conflict",), undo=lambda: self.die(s))
        kept = name if form in ("lock", "lock_async") else None
        store.take(node, key, mode, actor, kept)
        self.paths[id(node)] = ref
        if kept is not None:
            self.named[kept] = (s, node, key, actor)
        return Expected(any=True)

    def unlock(self, s: int, node: Node, key: Any, actor: int) -> Expected:
        store = self.stores[s]
        key = WHOLE if key == WHOLE else key
        if node.gone:
            return Expected(any=True, blocked=("Gone", "NotLocked"), both=True)
        levels = store.levels(node, key, actor)
        if not levels:
            return Expected(any=True, blocked=("NotLocked",), both=self.foreign(s, actor))
        level = levels.pop()
        if level.name is not None:
            self.named.pop(level.name, None)
        return Expected(any=True)

    def release(self, name: int, actor: int) -> Expected:
        if name not in self.named:
            raise Unresolved
        s, node, key, owner = self.named[name]
        if owner != actor:
            raise Unresolved
        levels = self.stores[s].levels(node, key, actor)
        if not levels or levels[-1].name != name:
            if node.gone:
                del self.named[name]
                return Expected(any=True)
            raise Unresolved
        levels.pop()
        del self.named[name]
        return Expected(any=True)


def list_of(data: Any) -> list[Any]:
    entries = enumerate(data) if isinstance(data, list) else data.items()
    return [(k, type(k), id(v)) for k, v in entries]


def changes(node: Node, before: Any) -> list[Any]:
    """Return the keys whose entries an operation changed (of a list: whether it changed)."""
    if node.kind == "list":
        return [0] if list_of(node.data) != list_of(before) else []
    old, new = dict(before), dict(node.data)
    return [k for k in {**old, **new} if k not in old or k not in new or old[k] is not new[k]]


def operate(node: Node, name: str, args: list[Any]) -> Any:
    """Return the operation of the builtin type."""
    if node.kind == "obj":
        if name not in OBJECT:
            raise Unresolved
        if name == "vars":
            return dict(node.data)
        try:
            if name == "setattr":
                node.data[args[0]] = args[1]
            elif name == "delattr":
                del node.data[args[0]]
            else:
                return node.data[args[0]]
        except KeyError:
            raise AttributeError(args[0]) from None
        return None
    table = DICT if node.kind == "dict" else LIST
    if name not in table:
        raise Unresolved
    result = table[name](node.data, *args)
    return list(result) if name == "popitem" else result


def answer(result: Any) -> Any:
    """Return the canonical form of an operation's result: of a list or dict of values, of each separately."""
    if isinstance(result, list):
        return [plain(v) for v in result]
    if isinstance(result, dict):
        return {k: plain(v) for k, v in result.items()}
    return plain(result)
