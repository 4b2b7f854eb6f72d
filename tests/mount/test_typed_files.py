"""Values of other types as files: their texts and types, what is written into them, and copies by the usual tools."""

from __future__ import annotations

import collections
import datetime as dt
import decimal
import enum
import errno
import fractions
import os
import pathlib
import uuid
import zoneinfo
from typing import Any, Callable

import persist
import pytest
from conftest import TYPE, Mount, graph, need, run

np = pytest.importorskip("numpy")

BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")
Point = collections.namedtuple("Point", "x y")


class Color(enum.Enum):
    RED = 1


class Access(enum.Flag):
    READ = 1
    WRITE = 2


# Of each value: the type in the xattr, and the text.
VALUES: dict[str, tuple[Any, str, str]] = {
    "tuple": ((1, "it's", (None, 2.5), b"\xff"), "tuple", "(1, 'it\\'s', (None, 2.5), b'\\xff')"),
    "nested": (
        (dt.date(2026, 1, 1), Color.RED),
        "tuple",
        f"(date('2026-01-01'), 'enum:{__name__}:Color'('RED'))",
    ),
    "frozenset": (frozenset([2, 1]), "frozenset", "{1, 2}"),
    "complex": (1 - 2.5j, "complex", "1.0-2.5j"),
    "range": (range(5), "range", "range(0, 5, 1)"),
    "date": (dt.date(2026, 11, 30), "date", "2026-11-30"),
    "time": (dt.time(1, 2, 3, 4), "time", "01:02:03.000004"),
    "aware": (
        dt.datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN, fold=1),
        "datetime",
        "2026-10-25T02:30:00+01:00[Europe/Berlin][fold=1]",
    ),
    "utc": (dt.datetime(2026, 1, 1, tzinfo=dt.timezone.utc), "datetime", "2026-01-01T00:00:00+00:00"),
    "delta": (dt.timedelta(days=-1, microseconds=1), "timedelta", "P-1DT0.000001S"),
    "decimal": (decimal.Decimal("1.50"), "decimal", "1.50"),
    "fraction": (fractions.Fraction(-1, 3), "fraction", "-1/3"),
    "uuid": (uuid.UUID(int=5), "uuid", "00000000-0000-0000-0000-000000000005"),
    "path": (pathlib.PosixPath("a/b"), "posixpath", "a/b"),
    "enum": (Color.RED, f"enum:{__name__}:Color", "RED"),
    "flags": (Access.READ | Access.WRITE, f"enum:{__name__}:Access", "READ|WRITE"),
    "point": (Point(1, 2), f"namedtuple:{__name__}:Point", "(1, 2)"),
    "f32": (np.float32(0.5), "numpy.float32", "0.5"),
    "i64": (np.int64(-5), "numpy.int64", "-5"),
    "opaque": (persist.Opaque("app.Money", "12.50 EUR"), "app.Money", "12.50 EUR"),
}
BYTES: dict[str, tuple[Any, str]] = {
    "bytearray": (bytearray(b"\x00\n"), "bytearray"),
    "array": (np.arange(6.0).reshape(2, 3), "numpy.ndarray"),
    "large": (np.arange(50_000), "numpy.ndarray"),
    "none": (np.zeros(0, "<U3"), "numpy.ndarray"),
    "records": (np.array([(1, [2.5, 3])], np.dtype([("a", "i4"), ("b", "f8", (2,))], align=True)), "numpy.ndarray"),
    "days": (np.array(["2026-01-01"], "M8[D]"), "numpy.ndarray"),
    "blob": (persist.Opaque("app.Blob", b"\x00text\n"), "bytes:app.Blob"),
    "text blob": (persist.Opaque("app.Blob", b"text\n"), "bytes:app.Blob"),
    "long text": (persist.Opaque("app.Text", "x" * 100_000 + "\n"), "app.Text"),
}


def same(a: Any, b: Any) -> bool:
    if isinstance(b, np.ndarray):
        return type(a) is type(b) and a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    return type(a) is type(b) and bool(a == b) and repr(a) == repr(b)


def fill(root: Any) -> None:
    for name, (value, *_) in (*VALUES.items(), *BYTES.items()):
        root[name] = value
    root["list"] = [value for value, *_ in VALUES.values()]
    root["keys"] = {
        (1, "a/b", (None, b"%")): 1,
        dt.date(2026, 1, 1): 2,
        uuid.UUID(int=7): {"in": 3},
        ("x" * 400,): 4,
    }


def judge(root: Any) -> None:
    for name, (value, *_) in (*VALUES.items(), *BYTES.items()):
        assert same(root[name], value), name
    assert all(same(a, b) for a, (b, *_) in zip(root["list"], VALUES.values()))
    keys = root["keys"]
    assert list(map(type, keys)) and set(keys) == {
        (1, "a/b", (None, b"%")), dt.date(2026, 1, 1), uuid.UUID(int=7), ("x" * 400,),
    }  # fmt: skip
    assert (
        keys[(1, "a/b", (None, b"%"))] == 1 and keys[uuid.UUID(int=7)]["in"] == 3 and keys[("x" * 400,)] == 4
    )


def test_texts_and_types(mnt: Mount, root: Any) -> None:
    fill(root)
    for name, (_, kind, text) in VALUES.items():
        assert (mnt.type(name), (mnt.path / name).read_text()) == (kind, text + "\n")
        assert (mnt.path / name).stat().st_size == len(text.encode()) + 1
    for name, (value, kind) in BYTES.items():
        assert mnt.type(name) == kind
        content = (mnt.path / name).read_bytes()
        assert len(content) == (mnt.path / name).stat().st_size
        if type(value) is bytearray:
            assert content == bytes(value)
    assert np.load(mnt.path / "array").tolist() == [[0, 1, 2], [3, 4, 5]]
    assert mnt.sh("tail -c 3 'long text' | od -c -An | tr -d ' '") == "x\\n\\n\n"


CP = "cp -a {src}/. {dst}/"
RSYNC = "rsync -aX {src}/ {dst}/"
TAR = "tar --xattrs --xattrs-include='user.*' -C {src} -cf - . | tar --xattrs --xattrs-include='user.*' -C {dst} -xf -"


@pytest.mark.parametrize("tool", [CP, RSYNC, TAR], ids=["cp", "rsync", "tar"])
def test_copies_are_equal(mounts: Callable[..., Mount], tool: str) -> None:
    need("cp", "rsync", "tar")
    src, dst = mounts("src"), mounts("dst")
    with persist.open(src.store) as store:
        fill(store.root)
    run(tool.format(src=src.path, dst=dst.path), src.path)
    assert graph(dst.path) == graph(src.path)
    with persist.open(dst.store) as store:
        judge(store.root)


def test_overwriting_keeps_the_type(mnt: Mount, root: Any) -> None:
    root["d"], root["x"], root["t"], root["m"] = (
        dt.date(2026, 1, 1),
        decimal.Decimal(1),
        (1,),
        VALUES["opaque"][0],
    )
    root["e"], root["b"] = Color.RED, bytearray(b"a")
    mnt.sh(
        "echo 2026-02-03 > d; echo ' 2.50 ' > x; echo \"(1, 'b')\" > t; echo '5 USD' > m; printf 'xy\\n' > b"
    )
    assert root["d"] == dt.date(2026, 2, 3) and str(root["x"]) == "2.50" and root["t"] == (1, "b")
    assert root["m"] == persist.Opaque("app.Money", "5 USD") and root["b"] == bytearray(b"xy\n")
    mnt.sh("echo BLUE > e")
    assert root["e"] == persist.Opaque(f"enum:{__name__}:Color", "BLUE")
    mnt.sh("echo RED > e; sed -i s/2026/2027/ d")
    assert root["e"] is Color.RED and root["d"] == dt.date(2027, 2, 3)
    mnt.sh("printf 2028-01-01 > d")
    assert root["d"] == dt.date(2028, 1, 1)
    mnt.sh("printf 2029 > d.new; printf -- '-01-01\\n' >> d.new; mv d.new d")
    assert root["d"] == dt.date(2029, 1, 1) and mnt.type("d") == "date"


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        ("date", "2026-11-30", "2026-02-30"),
        ("time", "12:00:00", "25:00:00"),
        ("datetime", "2026-11-30T12:00:00+01:00[Europe/Berlin]", "2026-11-30"),
        ("timedelta", "P1DT0S", "1 day"),
        ("decimal", "1.5", "x"),
        ("fraction", "1/3", "1/0"),
        ("uuid", "00000000-0000-0000-0000-000000000005", "5"),
        ("complex", "1.0+2.0j", "1"),
        ("range", "range(0, 5, 1)", "range(5)"),
        ("tuple", "(1, 'a')", "(1, 2"),
        ("tuple", "(date('2026-01-01'),)", "(date('x'),)"),
        ("frozenset", "{1, 2}", "{2, 1}"),
        ("numpy.uint8", "255", "256"),
        ("namedtuple:a:B", "(1,)", "1"),
    ],
)
def test_text_that_does_not_fit_is_refused(mnt: Mount, root: Any, kind: str, good: str, bad: str) -> None:
    mnt.typed("v", kind, good + "\n")
    before = root["v"]
    assert mnt.type("v") == kind and type(before) is not str
    # The error is reported at the write.
    assert "Invalid argument" in mnt.fails(f"echo {bad!r} > v" if "'" not in bad else f'echo "{bad}" > v')
    assert mnt.sh("cat v") == f"{good}\n" and mnt.type("v") == kind
    with pytest.raises(OSError) as refused:
        with open(mnt.path / "v", "w") as f:
            f.write(bad)
    assert refused.value.errno == errno.EINVAL
    assert mnt.sh("cat v") == f"{good}\n" and repr(root["v"]) == repr(before)
    (mnt.path / "s").write_text(bad + "\n")
    with pytest.raises(OSError) as refused:
        mnt.set_type("s", kind)
    assert refused.value.errno == errno.EINVAL and mnt.type("s") == "str"


def test_the_type_can_be_set_before_the_content_and_taken_away(mnt: Mount, root: Any) -> None:
    mnt.sh(f"touch d; setfattr -n {TYPE} -v date d; echo 2026-01-01 > d")
    assert root["d"] == dt.date(2026, 1, 1)
    mnt.set_type("d", "str")
    assert root["d"] == "2026-01-01"
    mnt.typed("m", "app.Money", "5 EUR\n")
    assert root["m"] == persist.Opaque("app.Money", "5 EUR")
    mnt.set_type("m", "bytes")
    assert root["m"] == b"5 EUR\n"
    for wrong in ["foo", "", "bytes:", "a." * 200, "text:date"]:
        with pytest.raises(OSError) as refused:
            os.setxattr(mnt.path / "m", TYPE, wrong.encode())
        assert refused.value.errno == errno.EINVAL
    mnt.typed("a", "bytearray", "xyz")
    assert root["a"] == bytearray(b"xyz")
    with pytest.raises(OSError):
        mnt.set_type("a", "numpy.ndarray")


def test_what_the_mount_accepts_of_an_array_is_one(mnt: Mount, root: Any, tmp_path: Any) -> None:
    array = np.arange(100_000).reshape(10, -1)
    np.save(tmp_path / "a.npy", array)
    mnt.sh(f"cp {tmp_path}/a.npy a; setfattr -n {TYPE} -v numpy.ndarray a")
    assert same(root["a"], array)
    with pytest.raises(OSError):
        os.truncate(mnt.path / "a", 1000)
    assert same(root["a"], array)


def test_names_of_keys(mnt: Mount, root: Any) -> None:
    root[(1, "a/b")], root[dt.date(2026, 1, 1)], root["%t:tuple:(1,)"] = 1, 2, 3
    names = sorted(os.listdir(mnt.path))
    assert names == ["%25t:tuple:(1,)", "%t:date:2026-01-01", "%t:tuple:(1, 'a%2Fb')"]
    assert mnt.sh("cat \"%t:tuple:(1, 'a%2Fb')\" %t:date:2026-01-01") == "1\n2\n"
    mnt.sh(
        "mkdir '%t:tuple:(2,)'; mkdir '%t:tuple:( 2,)'; mkdir %t:date:2026-13-01; mv %t:date:2026-01-01 '%t:tuple:()'"
    )
    assert set(root) == {(1, "a/b"), "%t:tuple:(1,)", (2,), "%t:tuple:( 2,)", "%t:date:2026-13-01", ()}
    mnt.sh("rm -r '%t:tuple:(2,)'")
    assert (2,) not in root


TYPED_KEYS: list[Any] = [
    decimal.Decimal("1.50"), decimal.Decimal("1E+30"), fractions.Fraction(1, 3), 1j, dt.time(1, 2), dt.timedelta(1),
    dt.datetime(2026, 11, 30, 12, tzinfo=dt.timezone.utc), pathlib.PurePosixPath("/a/%b"), uuid.UUID(int=5), Color.RED,
    Point(1, "a/b"), frozenset([1, "x", (2, decimal.Decimal("0.1"))]), (Color.RED, Point(2, 3)), frozenset(),
    pathlib.PurePosixPath("a\udc80"), (("long " * 100),),
]  # fmt: skip


def test_typed_keys_are_copied_with_their_types(mnt: Mount, root: Any) -> None:
    root["d"] = {key: n for n, key in enumerate(TYPED_KEYS)}
    root["d"][decimal.Decimal(7)] = {"below": 1}
    names = os.listdir(mnt.path / "d")
    for name in ["decimal:1.50", "fraction:1%2F3", "time:01:02:00", "pureposixpath:%2Fa%2F%25b", "frozenset:{}"]:
        assert f"%t:{name}" in names
    assert f"%t:enum:{__name__}:Color:RED" in names and f"%t:namedtuple:{__name__}:Point:(1, 'a%2Fb')" in names
    mnt.sh("cp -a d copy; mkdir tarred")
    mnt.sh("tar --xattrs -C d -cf - . | tar --xattrs --xattrs-include='user.*' -C tarred -xf -")
    wanted = {key: (type(key), value) for key, value in root["d"].items()}
    for name in ("copy", "tarred"):
        assert {key: (type(key), value) for key, value in root[name].items()} == wanted
        assert all(root[name][key] == n for n, key in enumerate(TYPED_KEYS))
    # Names of equal keys lead to the entry, as `%f:7.0` does to that of 7.
    assert "%t:decimal:7" in names and "%i:7" not in names
    for equal in ["%t:decimal:7", "%i:7", "%f:7.0", "%t:decimal:7.0", "%t:fraction:7"]:
        assert mnt.sh(f"cat d/{equal}/below") == "1\n"


def test_snapshots_show_them(mnt: Mount, root: Any) -> None:
    fill(root)
    mnt.sh("mkdir .persist/snapshots/s")
    del root["date"]
    assert mnt.sh("cat .persist/snapshots/s/date") == "2026-11-30\n"
    assert os.getxattr(mnt.path / ".persist/snapshots/s/decimal", TYPE) == b"decimal"
