"""Deeply nested containers on small stacks: code that walks them works, and what Python itself does level by level
(printing, comparing) ends with RecursionError; the stack does not overflow (P6).

PERSIST_TORTURE_SECONDS (any) makes every kind a million levels deep.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

MILLION = 1_000_000
LONG = "PERSIST_TORTURE_SECONDS" in os.environ
# From 3.12 to 3.13 Python counts levels of its C code. The limit exceeds a smaller stack: plain dicts overflow it.
SMALL = 512 << 10 if sys.version_info < (3, 12) else 2 << 20

PROGRAM = """
import copy, faulthandler, pickle, sys, threading
import persist

faulthandler.enable()
path, kind, levels, stack = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])

class Node(persist.Object):
    pass

def nest():
    inner = [] if kind == "list" else {} if kind == "dict" else Node()
    for _ in range(levels):
        if kind == "list":
            inner = [inner]
        elif kind == "dict":
            inner = {"d": inner}
        else:
            outer = Node()
            outer.d = inner
            inner = outer
    return inner

def levels_of(x):
    n = 0
    while True:
        y = x if kind != "object" else x.__dict__
        if not len(y):
            return n
        x = y[0] if kind == "list" else y["d"]
        n += 1

def too_deep(act):
    try:
        act()
    except RecursionError:
        return
    raise AssertionError("no RecursionError")

def main():
    store = persist.open(path)
    root = store.root
    root["a"] = nest()
    a = root["a"]
    assert levels_of(a) == levels
    copied = persist.copy_out(a)
    assert levels_of(copied) == levels
    if kind == "object":
        assert repr(a) and a == root["a"] and a != copied
        if sys.version_info < (3, 11):
            # There a thousand levels of Python's own code are more than this stack, for plain objects too.
            sys.setrecursionlimit(500)
        too_deep(lambda: copy.deepcopy(a))
        too_deep(lambda: pickle.dumps(copied))
    else:
        root["b"] = copied
        b = root["b"]
        assert levels_of(copy.deepcopy(b)) == levels
        assert len(copy.copy(b)) == 1
        for act in (
            lambda: repr(a),
            lambda: str(root),
            lambda: a == b,
            lambda: a != b,
            lambda: a == copied,
            lambda: copied == a,
            lambda: root == {"a": b, "b": a},
            lambda: b in [a],
            lambda: pickle.dumps(copied),
        ):
            too_deep(act)
        # It stops where they differ.
        if kind == "list":
            b.insert(0, 1)
            assert a != b
            for act in (lambda: a < [copied[0], 1], lambda: a.index(copied[0]), lambda: a.count(copied[0])):
                too_deep(act)
            too_deep(lambda: a.remove(copied[0]))
        else:
            b["e"] = 1
            assert a != b
            too_deep(lambda: repr(a.items()))
            too_deep(lambda: repr(a.values()))
        del root["b"], b
    del copied
    with store.transaction():
        root["c"] = {"moved": a}
        del root["a"]
    del a
    del root["c"]
    assert store.gc() > 0
    assert list(root) == []
    # A cycle, which only the collector can free.
    root["a"] = [nest()]
    x = root["a"][0]
    while (y := (x.__dict__ if kind == "object" else x)):
        x = y[0] if kind == "list" else y["d"]
    if kind == "list":
        x.append(root["a"])
    elif kind == "dict":
        x["a"] = root["a"]
    else:
        x.a = root["a"]
    del root["a"], x, y
    assert store.gc() > 0
    store.close()
    print("done")

if stack:
    threading.stack_size(stack)
    thread = threading.Thread(target=main)
    thread.start()
    thread.join()
else:
    main()
"""


@pytest.mark.timeout(900 if LONG else 300)
@pytest.mark.parametrize(
    ("kind", "levels", "stack"),
    [
        ("list", MILLION if LONG else 200_000, 0),
        ("dict", MILLION if LONG else 20_000, 0),
        ("object", MILLION if LONG else 20_000, 0),
        ("list", 20_000, SMALL // 2),
        ("dict", 20_000, 8 << 20),
    ],
    ids=["lists", "dicts", "objects", "small thread", "usual thread"],
)
def test_nested_deep(kind: str, levels: int, stack: int, path: Path, tmp_path: Path) -> None:
    program = tmp_path / "deep.py"
    program.write_text(PROGRAM)

    def limits() -> None:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if not stack:
            resource.setrlimit(resource.RLIMIT_STACK, (SMALL, SMALL))

    done = subprocess.run(
        [sys.executable, str(program), str(path), kind, str(levels), str(stack)],
        capture_output=True, text=True, check=False, preexec_fn=limits,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr[-4000:]
