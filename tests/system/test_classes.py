"""A store names classes and never runs code (P6): whatever it names, reading it imports and instantiates only classes
derived from persist.Object that the program itself has imported or allowed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import persist
from acceptance import Processes, finish, sh

# The attributes read of every object, in a separate process, with the names of the modules that this imported.
READER = """
import sys
import persist

class NotOurs:
    def __new__(cls, *args):
        print("made")
        return super().__new__(cls)
    def __init__(self, *args):
        print("made")
    def __setattr__(self, name, value):
        print("set")
    x = property(lambda self: print("got"))

class Meta(type):
    def __subclasscheck__(cls, other):
        print("asked")
        return True
    def __instancecheck__(cls, other):
        print("asked")
        return True

class Lying(metaclass=Meta):
    @property
    def __class__(self):
        print("asked")
        return persist.Object

class Ours(persist.Object):
    def __new__(cls, *args):
        print("made")
        return super().__new__(cls)
    def __init__(self, *args):
        print("made")

instance = Ours()
function = lambda *args: print("called")
print("--")
before = set(sys.modules)
with persist.open(sys.argv[1], mode=sys.argv[2]) as store:
    for key, o in store.root.items():
        repr(o), str(o), dir(o), hash(o), o == o, persist.class_name(o), o.__dict__, o.__getstate__(), o.x
        persist.copy_out(o)
        wanted = Ours if persist.class_name(o) == "__main__:Ours" else persist.Object
        assert type(o) is wanted, (key, type(o))
        assert persist.class_name(o) == key, (key, persist.class_name(o))
    persist.copy_out(store.root)
    repr(store.root), store.root == persist.copy_out(store.root)
    if sys.argv[2] == "rw":
        # Copied within the store, they keep their names; and nothing is made.
        for key in list(store.root):
            store.root[key + " again"] = store.root[key]
            del store.root[key], store.root[key + " again"]
        store.gc()
print(*sorted(set(sys.modules) - before))
"""

# A module that leaves a mark when it is imported, or when its attributes are read.
MARKING = """
import os, persist
open(os.environ["MARK"], "w").close()
class C(persist.Object):
    def __init__(self):
        open(os.environ["MARK"], "w").close()
def __getattr__(name):
    open(os.environ["MARK"], "w").close()
    raise AttributeError(name)
"""

NAMES = [
    "os:system", "posix:system", "builtins:eval", "builtins:object", "subprocess:Popen", "sys:exit",
    "antigravity:x", "this:s", "marking:C", "marking:D", "marking.sub:C", "marking", "marking:", ":C", ":", "",
    "__main__:NotOurs", "__main__:Lying", "__main__:Meta", "__main__:instance", "__main__:function", "__main__:Ours",
    "__main__:Ours.__init__", "__main__:Ours.__class__", "__main__:NotOurs.__new__", "__main__:__builtins__",
    "persist:Dict", "persist:List", "persist:Store", "persist:open", "persist._persist:Object.__class__",
    "../marking:C", "marking/C:C", "a" * 200 + ":" + "B" * 200, "ä:ö", "marking:C\x00:D",
]  # fmt: skip


def names_of(path: Path) -> list[str]:
    with persist.open(path, mode="r") as store:
        return [persist.class_name(o) for o in store.root.values()]


def read(procs: Processes, home: Path, path: Path, mode: str) -> None:
    """Read all of a store beside a module `marking`, which must not be imported."""
    (home / "marking.py").write_text(MARKING)
    mark = home / "mark"
    env = {**os.environ, "MARK": str(mark), "PYTHONPATH": str(home)}
    said = finish(procs.python(READER, path, mode, env=env, cwd=home))
    before, _, after = said.partition("--\n")
    assert before == "made\nmade\n"
    # Nothing was called, and nothing imported.
    assert after == "\n", after
    assert not mark.exists()
    # The reader would notice an import: the module does leave a mark.
    finish(procs.python("import marking", env=env, cwd=home))
    assert mark.exists()
    mark.unlink()


def test_names_that_came_through_the_mount(
    procs: Processes, tmp_path: Path, store: Path, mount: Callable[..., Path]
) -> None:
    mnt = mount(store)
    made = []
    for n, name in enumerate(NAMES):
        top = mnt / f"o{n}"
        top.mkdir()
        os.setxattr(top, "user.persist.type", b"object")
        try:
            os.setxattr(top, "user.persist.class", name.encode())
        except OSError:
            os.rmdir(top)
            continue
        (top / "x").write_text("1\n")
        assert os.getxattr(top, "user.persist.class").decode() == name
        made.append((f"o{n}", name))
    assert {"os:system", "marking:C", "builtins:eval", "__main__:NotOurs"} <= {name for _, name in made}
    with persist.open(store) as opened:
        for key, name in made:
            opened.root[name] = opened.root.pop(key)
        assert names_of(store) == [name for _, name in made]
    # While it is mounted, and afterwards.
    read(procs, tmp_path, store, "r")
    sh('find "$1" -print0 | xargs -0 getfattr -d -m - >/dev/null', mnt)
    sh('umount "$1"', mnt)
    read(procs, tmp_path, store, "rw")
