"""Values of the standard library, of numpy and of registered types: exact after reopening, also in another process."""

from __future__ import annotations

import collections
import copy
import datetime as dt
import decimal
import enum
import fractions
import json
import pathlib
import pickle
import subprocess
import sys
import typing
import uuid
import zoneinfo
from pathlib import Path
from typing import Any

import persist
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

np = pytest.importorskip("numpy")

Point = collections.namedtuple("Point", "x y")


class Pair(typing.NamedTuple):
    first: Any
    second: Any = None


class Color(enum.Enum):
    RED = 1
    BLUE = "b"


class Level(enum.IntEnum):
    LOW = 1


class Kind(str, enum.Enum):
    A = "a"


if sys.version_info >= (3, 11):

    class Word(enum.StrEnum):
        A = "a"

    WORDS: list[Any] = [Word.A]
else:
    WORDS = []


class Access(enum.Flag):
    READ = 1
    WRITE = 2
    BOTH = 3


class Bits(enum.IntFlag):
    A = 1
    B = 4


class Outer:
    class Inner(enum.Enum):
        X = 1


BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")
FOLDED = dt.datetime(2026, 10, 25, 2, 30, fold=1)

VALUES: list[Any] = [
    (), (1,), (1, "a", None, True, 2.5, b"b", (), ((),)), ("it's", "a\nb", "\x00\x7f", "\udc80", "\u2028", 'q"'),
    (2**2047, 2**2048, -(2**5000), float("inf"), -0.0), (b"\x00\xff'\\",), tuple(range(1000)),
    (persist.Link("../a\udcff"), (persist.Link("b"),)),
    frozenset(), frozenset([1, "a", (1, 2), frozenset([3])]), bytearray(), bytearray(b"\x00\xff\n"),
    1 + 2j, complex(-0.0, -0.0), complex(0, float("inf")), complex(1e300, -1e-300),
    dt.date(1, 1, 1), dt.date(9999, 12, 31), dt.time(), dt.time(1, 2, 3, 4, fold=1), dt.time(1, tzinfo=dt.timezone.utc),
    dt.time(1, tzinfo=BERLIN), dt.datetime(2026, 11, 30, 12, 0, 0, 1), FOLDED, dt.datetime.min, dt.datetime.max,
    FOLDED.replace(tzinfo=BERLIN), FOLDED.replace(tzinfo=BERLIN, fold=0),
    dt.datetime(2026, 1, 1, tzinfo=dt.timezone.utc), dt.datetime(2026, 1, 1, tzinfo=zoneinfo.ZoneInfo("UTC")),
    dt.datetime(2026, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=-3, seconds=-7, microseconds=-1))),
    dt.datetime(2026, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=1), "CET")),
    dt.timedelta(), dt.timedelta.min, dt.timedelta.max, dt.timedelta(days=-1, microseconds=1),
    decimal.Decimal("1.50"), decimal.Decimal("-0E-10"), decimal.Decimal("NaN12"), decimal.Decimal("-sNaN"),
    decimal.Decimal("-Infinity"), decimal.Decimal("1E+999999"), decimal.Decimal(1) / 3 * 10**40,
    fractions.Fraction(1, 3), fractions.Fraction(-5), fractions.Fraction(1, 3**3000),
    uuid.UUID("12345678-1234-5678-1234-567812345678"), range(10), range(5, -5, -2), range(2**70), range(0, 2**3000),
    pathlib.PurePosixPath("/a/b"), pathlib.PosixPath("."), pathlib.PosixPath("a\udc80\nb"),
    pathlib.PureWindowsPath("C:\\x"),
    Color.RED, Color.BLUE, Level.LOW, Kind.A, *WORDS, Access.READ, Access.BOTH, Access(0), Bits.A | Bits.B, Bits(0),
    Outer.Inner.X,
    Point(1, (2, "b")), Pair(1), Pair(Color.RED, dt.date(2026, 1, 1)), (Point(1, 2), Color.RED, uuid.UUID(int=1)),
    np.bool_(True), np.int8(-1), np.uint64(2**64 - 1), np.int64(5), np.float16(0.1), np.float32(0.1), np.float64("nan"),
    np.complex64(1 + 2j), np.complex128(-0.0), np.str_("it's"), np.bytes_(b"\x00b"),
    np.datetime64("2026-11-30T12:00", "ns"), np.datetime64("NaT"), np.timedelta64(5, "25s"),
    np.arange(6).reshape(2, 3), np.arange(6)[::2], np.array(5.0), np.zeros((0, 3), "f4"), np.array(["a", "bc"]),
    np.arange(6, dtype=">i4").reshape(2, 3).T, np.array([(1, 2.5)], dtype=[("a", "i4"), ("b", "f8")]),
    np.array(["2026-01-01"], "M8[D]"), np.zeros(20_000), np.zeros(3, "S0"),
    persist.Opaque("app.thing", "text"), persist.Opaque("app:bytes", b"\x00"),
]  # fmt: skip


def form(value: Any) -> Any:
    """Return what is the same for the same values only: with types, bits and parts."""
    kind = type(value)
    if kind is np.ndarray:
        return kind, value.dtype, value.dtype.str, value.shape, value.tobytes()
    if kind in (tuple, Point, Pair):
        return kind, [form(item) for item in value]
    if kind is frozenset:
        return kind, {form(item) for item in value} if not any(
            type(i) in (tuple, frozenset) for i in value
        ) else value
    if kind is dt.datetime or kind is dt.time:
        name = value.tzinfo and (type(value.tzinfo), str(value.tzinfo), value.tzname())
        return kind, value.isoformat(), value.fold, name
    if isinstance(value, enum.Enum):
        return id(value)
    return kind, repr(value)


def key_of(value: Any) -> str:
    return f"{type(value).__name__}-{str(value)[:20]!a}".replace("/", "_")


@pytest.mark.parametrize("value", VALUES, ids=key_of)
def test_values_are_exact_after_reopening(path: Path, value: Any) -> None:
    with persist.open(path) as store:
        store.root["a"] = value
        store.root["l"] = [value, {"in": value}]
        o = store.root["o"] = persist.Object()
        o.attribute = value
        assert form(store.root["a"]) == form(value) == form(o.attribute)
        repr(store.root)
    with persist.open(path, "r") as store:
        for found in (
            store.root["a"],
            store.root["l"][0],
            store.root["l"][1]["in"],
            persist.copy_out(store.root["l"])[1]["in"],
            copy.deepcopy(store.root)["a"],
            dict(store.root)["a"],
            store.root["o"].attribute,
        ):
            assert form(found) == form(value)


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(st.characters(), max_size=30),
    st.binary(max_size=30),
)
ZONES = st.one_of(
    st.none(),
    st.timezone_keys().map(zoneinfo.ZoneInfo),
    st.timedeltas(dt.timedelta(hours=-23), dt.timedelta(hours=23)).map(dt.timezone),
)
LEAVES = st.one_of(
    SCALARS,
    st.binary(max_size=30).map(bytearray),
    st.complex_numbers(),
    st.dates(),
    st.builds(lambda t, fold: t.replace(fold=fold), st.times(timezones=ZONES), st.integers(0, 1)),
    st.builds(lambda t, fold: t.replace(fold=fold), st.datetimes(timezones=ZONES), st.integers(0, 1)),
    st.timedeltas(),
    st.decimals(),
    st.fractions(),
    st.uuids(),
    st.builds(range, st.integers(), st.integers(), st.integers(1)),
    st.text(st.characters(blacklist_characters="\0"), max_size=10).map(pathlib.PurePosixPath),
    st.sampled_from([Color.RED, Level.LOW, Access.BOTH, Bits.A | Bits.B]),
    st.floats(width=32).map(np.float32),
    st.integers(-(2**63), 2**63 - 1).map(np.int64),
)
NESTED = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4).map(tuple),
        st.builds(Point, inner, inner),
        st.frozensets(st.one_of(st.integers(), st.text(max_size=5), st.dates()), max_size=4),
    ),
    max_leaves=12,
)
FEW = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def exact(value: Any) -> Any:
    """Like `form`, with NaNs by their bits."""
    if type(value) is float:
        import struct

        return struct.pack("<d", value)
    if type(value) in (tuple, Point):
        return type(value), [exact(item) for item in value]
    return form(value)


@FEW
@given(value=NESTED)
def test_any_nested_value_survives(store: persist.Store, value: Any) -> None:
    store.root["v"] = value
    assert exact(store.root["v"]) == exact(value)


def test_another_process_reads_the_same(path: Path) -> None:
    plain = [value for value in VALUES if type(value).__module__ not in (__name__, "numpy")]
    plain = [value for value in plain if "test_typed" not in repr(value) and "Point" not in repr(value)]
    plain = [
        value
        for value in plain
        if not (isinstance(value, tuple) and any(isinstance(v, enum.Enum) for v in value))
    ]
    with persist.open(path) as store:
        store.root["all"] = plain
    code = (
        "import sys, pickle, persist\n"
        f"with persist.open({str(path)!r}, 'r') as store:\n"
        "    assert not {'numpy', 'decimal', 'uuid'} & set(sys.modules), sys.modules.keys()\n"
        "    sys.stdout.buffer.write(pickle.dumps(persist.copy_out(store.root['all'])))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    assert [form(v) for v in pickle.loads(done.stdout)] == [form(v) for v in plain]


def test_classes_that_are_not_imported_are_opaque_and_stay(path: Path) -> None:
    with persist.open(path) as store:
        store.root["e"], store.root["p"] = Color.RED, Point(1, 2)
    code = (
        "import persist\n"
        f"with persist.open({str(path)!r}) as store:\n"
        "    e, p = store.root['e'], store.root['p']\n"
        f"    assert e == persist.Opaque('enum:{__name__}:Color', 'RED'), e\n"
        f"    assert p == persist.Opaque('namedtuple:{__name__}:Point', '(1, 2)'), p\n"
        "    store.root['again'] = [e, p]\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    with persist.open(path) as store:
        assert store.root["again"][0] is Color.RED and form(store.root["again"][1]) == form(Point(1, 2))


# --- what is refused ----------------------------------------------------------------------------------


def refused(store: persist.Store, value: Any) -> str:
    with pytest.raises(TypeError, match="^cannot store ") as raised:
        store.root["a"] = value
    assert "a" not in store.root
    return str(raised.value)


def test_a_container_in_a_tuple_is_refused_with_its_path(store: persist.Store) -> None:
    said = refused(store, {"x": [0, (1, (2, []))]})
    assert (
        said.startswith("cannot store 'list' at value['x'][1][1][1]; ")
        and "list in place of the tuple" in said
    )
    assert "at value[0]; " in refused(store, ({},))
    assert "'set' at value[1]; store a frozenset" in refused(store, (1, {2}))
    assert "'deque' at value[0]; store a list" in refused(store, (collections.deque(),))
    assert "'object' at value[0]" in refused(store, Pair(object()))
    assert "'object' at value" in refused(store, frozenset([object()]))


def test_depth_is_bounded(store: persist.Store) -> None:
    value: Any = ()
    for _ in range(99):
        value = (value,)
    store.root["deep"] = value
    assert store.root["deep"] == value
    refused(store, (value,))
    refused(store, {"x": ((value,),)})


class Zone(dt.tzinfo):
    def utcoffset(self, _: Any) -> dt.timedelta:
        return dt.timedelta(0)

    def tzname(self, _: Any) -> str:
        return "x"

    def dst(self, _: Any) -> None:
        return None


class Derived:
    class Tuple(tuple):  # type: ignore[type-arg]
        pass

    class Date(dt.date):
        pass

    class Time(dt.datetime):
        pass

    class Number(decimal.Decimal):
        pass

    class Array(np.ndarray):  # type: ignore[misc]
        pass

    class Path(pathlib.PurePosixPath):
        pass


def test_derived_classes_and_local_ones_are_refused(store: persist.Store) -> None:
    Local = enum.Enum("Local", "A")
    Local.__qualname__ = "test.<locals>.Local"
    Hidden = collections.namedtuple("Hidden", "a")  # type: ignore[name-match]
    for value in [
        Derived.Tuple((1,)),
        Derived.Date(2026, 1, 1),
        Derived.Time(2026, 1, 1),
        Derived.Number(1),
        np.zeros(1).view(Derived.Array),
        Derived.Path("a"),
        dt.datetime(2026, 1, 1, tzinfo=Zone()),
        dt.datetime(2026, 1, 1, tzinfo=dt.timezone(dt.timedelta(0), "a]b")),
        Local["A"],
        Hidden(1),
        np.array([None]),
        np.longdouble(1),
        memoryview(np.arange(3)),
        sys.float_info,
    ]:
        refused(store, value)
        refused(store, [{"a": value}])


# --- as values ----------------------------------------------------------------------------------------


def test_mutable_ones_are_copies(store: persist.Store) -> None:
    value = store.root["a"] = bytearray(b"abc")
    value[0] = 0
    assert store.root["a"] == b"abc"
    store.root["a"][0] = 0
    assert store.root["a"] == bytearray(b"abc") and type(store.root["a"]) is bytearray
    array = store.root["n"] = np.zeros(3)
    array[0] = 1
    assert store.root["n"].tolist() == [0, 0, 0]
    with pytest.raises(ValueError):
        store.root["n"][0] = 1


def test_a_memoryview_is_stored_as_bytes(store: persist.Store) -> None:
    store.root["m"] = memoryview(b"abcd")[1:3]
    assert type(store.root["m"]) is bytes and store.root["m"] == b"bc"


def test_lists_find_them(store: persist.Store) -> None:
    day = dt.date(2026, 11, 30)
    store.root["l"] = [1, day, (1, 2), decimal.Decimal("1.5"), day, Color.RED]
    items = store.root["l"]
    assert day in items and (1, 2.0) in items and 1.5 in items and Color.BLUE not in items
    assert items.index((1, 2)) == 2 and items.count(day) == 2 and items.index(Color.RED) == 5
    items.remove(day)
    assert items == [1, (1, 2), decimal.Decimal("1.5"), day, Color.RED]
    store.root["s"] = [dt.date(2026, 1, n) for n in (3, 1, 2)]
    store.root["s"].sort()
    assert store.root["s"] == [dt.date(2026, 1, n) for n in (1, 2, 3)]


def test_repr_and_json(store: persist.Store) -> None:
    root = store.root
    root["d"] = dt.date(2026, 1, 2)
    root["t"] = (1, "a")
    assert repr(root) == "{'d': datetime.date(2026, 1, 2), 't': (1, 'a')}"
    root["n"] = np.zeros(20_000)
    assert "<numpy.ndarray of 160128 bytes>" in repr(root)
    del root["n"]
    root.update(u=uuid.UUID(int=1), x=decimal.Decimal("1.50"), e=Color.RED, a=np.arange(2), f=frozenset([1]))
    assert json.loads(json.dumps(root, default=persist.to_json)) == {
        "d": "2026-01-02", "t": [1, "a"], "u": str(uuid.UUID(int=1)), "x": "1.50", "e": 1, "a": [0, 1], "f": [1],
    }  # fmt: skip
    with pytest.raises(TypeError, match="not JSON serializable"):
        persist.to_json(object())
    with pytest.raises(TypeError, match="not JSON serializable"):
        persist.to_json(bytearray())


def test_snapshots_and_transactions_keep_them(store: persist.Store) -> None:
    store.root["a"] = (1, dt.date(2026, 1, 1))
    store.snapshot("kept")
    with pytest.raises(RuntimeError), store.transaction():
        store.root["a"] = np.zeros(20_000)
        assert store.root["a"].shape == (20_000,)
        raise RuntimeError
    store.root["b"] = store.root["a"]
    store.root["a"] = None
    with store.at("kept") as kept:
        assert kept.root["a"] == (1, dt.date(2026, 1, 1)) == store.root["b"]


def test_copies_between_stores(store: persist.Store, tmp_path: Path) -> None:
    store.root["all"] = VALUES
    with persist.open(tmp_path / "b.store") as other:
        other.root["all"] = store.root["all"]
        assert [form(v) for v in other.root["all"]] == [form(v) for v in VALUES]
    command = Path(sys.executable).parent / "persist"
    for argv in (
        ["check", store.path],
        ["backup", store.path, tmp_path / "full"],
        ["ls", store.path, "all"],
    ):
        done = subprocess.run([command, *argv], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
    with persist.open(tmp_path / "full") as restored:
        assert [form(v) for v in restored.root["all"]] == [form(v) for v in VALUES]


def test_importing_and_opening_import_nothing_more() -> None:
    code = (
        "import sys, persist, tempfile, os\n"
        "with tempfile.TemporaryDirectory() as d, persist.open(os.path.join(d, 'a')) as s:\n"
        "    s.root['a'] = {'b': [1, 'x', None, 2.5, b'', 2**80]}; s.root[1] = s.root['a']; dict(s.root)\n"
        "    print(sorted(m for m in sys.modules if m.startswith('persist.')))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "['persist._link', 'persist._persist', 'persist._typed']", (
        done.stdout + done.stderr
    )
