"""Dicts and lists with a class on the mount: the xattrs, and tools that copy them."""

from __future__ import annotations

import collections
import errno
import os
import sys
from pathlib import Path

import persist
import pytest
from conftest import CLASS, TYPE, Mount, need, run

sys.path.insert(0, os.path.dirname(__file__))


class Inventory(persist.Dict):  # type: ignore[type-arg]
    pass


class Line(persist.List):  # type: ignore[type-arg]
    pass


NAME = f"{__name__}:Inventory".encode()


def get(mnt: Mount, path: str, name: str) -> bytes | None:
    try:
        return os.getxattr(mnt.path / path, name)
    except OSError as e:
        assert e.errno == errno.ENODATA
        return None


def kinds(mnt: Mount) -> dict[str, tuple[bytes | None, bytes | None]]:
    """Return type and class of each directory."""
    found = {}
    for here, names, _ in os.walk(mnt.path):
        for name in names:
            path = os.path.relpath(os.path.join(here, name), mnt.path)
            if not os.path.islink(mnt.path / path):
                found[path] = (get(mnt, path, TYPE), get(mnt, path, CLASS))
    return found


def fill(mnt: Mount) -> None:
    with persist.open(mnt.store) as store:
        store.root["i"] = Inventory(a=1, b={"x": 1})
        store.root["l"] = Line([Inventory(c=3), [1, 2], "text"])
        store.root["plain"] = {"d": {}, "l": [1]}


EXPECTED = {
    "i": (b"dict-subclass", NAME),
    "i/b": (b"dict", None),
    "l": (b"list-subclass", NAME.replace(b"Inventory", b"Line")),
    "l/0": (b"dict-subclass", NAME),
    "l/1": (b"list", None),
    "plain": (b"dict", None),
    "plain/d": (b"dict", None),
    "plain/l": (b"list", None),
}


def test_the_attributes_show_the_class(mnt: Mount) -> None:
    fill(mnt)
    assert kinds(mnt) == EXPECTED
    assert sorted(os.listxattr(mnt.path / "i")) == [CLASS, TYPE]
    assert os.listxattr(mnt.path / "plain") == [TYPE]
    mnt.again()
    assert kinds(mnt) == EXPECTED


@pytest.mark.parametrize("order", [(TYPE, CLASS), (CLASS, TYPE)])
@pytest.mark.parametrize("kind", ["dict", "list"])
def test_both_orders_of_the_attributes(mnt: Mount, order: tuple[str, str], kind: str) -> None:
    mnt.sh("mkdir c; echo one > c/0")
    values = {TYPE: f"{kind}-subclass".encode(), CLASS: NAME}
    for name in order:
        os.setxattr(mnt.path / "c", name, values[name])
    assert {n: get(mnt, "c", n) for n in values} == values
    with persist.open(mnt.store) as store:
        assert persist.class_name(store.root["c"]) == NAME.decode()
        assert store.root["c"] == (["one"] if kind == "list" else {"0": "one"})
        if kind == "dict":
            assert type(store.root["c"]) is Inventory
    # Again, another, and none.
    os.setxattr(mnt.path / "c", CLASS, b"other:Class")
    assert kinds(mnt)["c"] == (values[TYPE], b"other:Class")
    os.setxattr(mnt.path / "c", TYPE, kind.encode())
    assert kinds(mnt)["c"] == (kind.encode(), None)
    # The class of a plain directory makes it an object, as ever.
    os.setxattr(mnt.path / "c", CLASS, NAME)
    assert kinds(mnt)["c"] == (b"object", NAME)


def test_another_text_is_refused(mnt: Mount) -> None:
    mnt.sh("mkdir c")
    for value in (b"dict-subclas", b"set[", b"", b"\xff"):
        with pytest.raises(OSError, match="Invalid argument"):
            os.setxattr(mnt.path / "c", TYPE, value)
    os.setxattr(mnt.path / "c", TYPE, b"dict-subclass")
    for value in (b"set", b"\xff"):
        with pytest.raises(OSError, match="Invalid argument"):
            os.setxattr(mnt.path / "c", CLASS, value)
    assert kinds(mnt)["c"] == (b"dict-subclass", b"")


BUILTIN = {
    "set": b"set",
    "deque": b"deque",
    "bound": b"deque[2]",
    "ordered": b"OrderedDict",
    "counter": b"Counter",
    "default": b"defaultdict[builtins:list]",
    "sorted": b"SortedDict",
}


def fill_builtin(mnt: Mount) -> None:
    with persist.open(mnt.store) as store:
        root = store.root
        root["set"] = {1, "a", b"b"}
        root["deque"] = collections.deque([1, {"x": 1}, {"s"}])
        root["bound"] = collections.deque([1, 2, 3], 2)
        root["ordered"] = collections.OrderedDict([("b", 1), ("a", 2)])
        root["counter"] = collections.Counter("aab")
        root["default"] = collections.defaultdict(list, a=[1])
        root["sorted"] = persist.SortedDict({"c": 3, "a": 1, "b": 2})


def test_python_containers_are_directories(mnt: Mount) -> None:
    fill_builtin(mnt)
    assert {name: get(mnt, name, TYPE) for name in BUILTIN} == BUILTIN
    assert os.listxattr(mnt.path / "set") == [TYPE]
    assert sorted(os.listdir(mnt.path / "set")) == sorted(["a", "%i:1", "%b:62"])
    assert (mnt.path / "deque/0").read_text() == "1\n"
    with pytest.raises(OSError, match="Invalid argument"):
        os.setxattr(mnt.path / "set", CLASS, b"shop:Inventory")
    with persist.open(mnt.store) as store:
        # The mount keeps the order of a sorted dict, and adds to a set.
        mnt.sh("echo 0 > sorted/0; mv sorted/c sorted/bb; rm sorted/a; touch set/new")
        assert list(store.root["sorted"]) == ["0", "b", "bb"]
        assert store.root["set"] == {1, "a", b"b", "new"}
        os.setxattr(mnt.path / "set", TYPE, b"dict")
        assert type(store.root["set"]) is persist.Dict
        os.setxattr(mnt.path / "set", TYPE, b"set")
        assert store.root["set"] == {1, "a", b"b", "new"}
        with pytest.raises(OSError, match="Invalid argument"):
            os.setxattr(mnt.path / "set", TYPE, b"SortedDict")
        assert get(mnt, "set", TYPE) == b"set"


CP = "cp -a {src}/. {dst}/"
RSYNC = "rsync -aX {src}/ {dst}/"
TAR = "tar --xattrs --xattrs-include='user.*' -C {src} -cf - . | tar --xattrs --xattrs-include='user.*' -C {dst} -xf -"


@pytest.mark.parametrize("tool", [CP, RSYNC, TAR], ids=["cp", "rsync", "tar"])
def test_tools_keep_the_class(mounts, tmp_path: Path, tool: str) -> None:  # type: ignore[no-untyped-def]
    need("cp", "rsync", "tar")
    src, dst, disk = mounts("src"), mounts("dst"), tmp_path / "disk"
    disk.mkdir()
    fill(src)
    run(tool.format(src=src.path, dst=disk), tmp_path)
    run(tool.format(src=disk, dst=dst.path), tmp_path)
    run(tool.format(src=src.path, dst=dst.path), tmp_path)
    assert kinds(dst) == EXPECTED
    dst.again()
    assert kinds(dst) == EXPECTED
    with persist.open(dst.store) as store:
        assert type(store.root["i"]) is Inventory
        assert type(store.root["l"]) is Line
        assert store.root["l"][0] == {"c": 3}


@pytest.mark.parametrize("tool", [CP, RSYNC, TAR], ids=["cp", "rsync", "tar"])
def test_tools_keep_python_containers(mounts, tmp_path: Path, tool: str) -> None:  # type: ignore[no-untyped-def]
    need("cp", "rsync", "tar")
    src, dst, disk = mounts("src"), mounts("dst"), tmp_path / "disk"
    disk.mkdir()
    fill_builtin(src)
    run(tool.format(src=src.path, dst=disk), tmp_path)
    run(tool.format(src=disk, dst=dst.path), tmp_path)
    with persist.open(src.store) as store:
        before = persist.copy_out(store.root)
    with persist.open(dst.store) as store:
        after = persist.copy_out(store.root)
    # Tools make files in an order of their own.
    after["ordered"].move_to_end(next(iter(before["ordered"])), last=False)
    assert after == before
    assert {name: type(value) for name, value in after.items()} == {n: type(v) for n, v in before.items()}
    assert after["bound"].maxlen == 2
    assert after["default"].default_factory is list


def test_tar_keeps_the_order_of_entries(mounts, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    need("tar")
    src, dst = mounts("src"), mounts("dst")
    names = [f"k{n * 7919 % 31}" for n in range(31)]
    content = {
        "o": collections.OrderedDict((name, n) for n, name in enumerate(names)),
        "d": dict.fromkeys(names, 1),
    }
    with persist.open(src.store) as store:
        store.root.update(content)
        store.root["o"].move_to_end(names[3])
        content["o"].move_to_end(names[3])
    assert os.listdir(src.path / "o") == list(content["o"])
    run(TAR.format(src=src.path, dst=dst.path), tmp_path)
    with persist.open(dst.store) as store:
        assert persist.copy_out(store.root) == content
        assert [list(store.root[name]) for name in content] == [list(value) for value in content.values()]
