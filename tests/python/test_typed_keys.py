"""Tuples, dates, decimals and the like as keys: equal as in a dict, and exact after reopening."""

from __future__ import annotations

import collections
import datetime as dt
import decimal
import enum
import fractions
import itertools
import pathlib
import subprocess
import sys
import threading
import uuid
import zoneinfo
from pathlib import Path
from typing import Any

import persist
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

np = pytest.importorskip("numpy")

Point = collections.namedtuple("Point", "x y")


class Color(enum.Enum):
    RED = 1
    BLUE = "b"


class Access(enum.Flag):
    READ = 1
    WRITE = 2


class Level(enum.IntEnum):
    LOW = 1


class Money(decimal.Decimal):
    pass


class Local:
    """Members of classes that no import finds."""

    class Inner(enum.Enum):
        A = 1

    Inner.__qualname__ = "Local.<locals>.Inner"
    A = Inner.A


LocalPair = collections.namedtuple("LocalPair", "x y")
LocalPair.__qualname__ = "Local.<locals>.LocalPair"


class Odd(Point):
    """Compared in a way of its own."""

    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = object.__hash__


def checked(path: Path) -> None:
    command = pathlib.Path(sys.executable).parent / "persist"
    done = subprocess.run([command, "check", path], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout


NAIVE = st.datetimes()


FEW = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
D, F, UTC = decimal.Decimal, fractions.Fraction, dt.timezone.utc
CET = dt.timezone(dt.timedelta(hours=1), "CET")
BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")


def form(key: Any) -> Any:
    """Return what is the same for the same keys only, with their types."""
    if isinstance(key, tuple):
        return type(key), [form(item) for item in key]
    if type(key) is frozenset:
        return frozenset, sorted(repr(form(item)) for item in key)
    return type(key), repr(key)


# Values that equal others of the list, and values that nearly do.
LEAVES: list[Any] = [
    None, False, True, 0, 1, -1, 2, 0.0, -0.0, 1.0, 0.5, 0.1, 1e30, 10**30, float("inf"), 2**53 + 1, 1e300, 10**300,
    D(0), D("-0"), D("0E-10"), D(1), D("1.00"), D("10E-1"), D("0.5"), D("0.1"), D("1E+30"), D("Infinity"),
    D("-Infinity"), D(0.1), D(2**53 + 1), D("1E+300"), D("1E-300"), D("0." + "3" * 300),
    F(0), F(1), F(-1), F(1, 2), F(1, 10), F(1, 3), F(10**30), F(0.1), F(2**53 + 1, 2), F(3, 2**1000), F(2**1023),
    0j, complex(0, -0.0), 1 + 0j, 0.5 + 0j, 1j, complex(-0.0, 1), complex(0, 1), 1 + 1j,
    "", "a", "1", "(1,)", "RED", b"", b"a", b"1", b"(1,)",
    dt.date(2026, 1, 1), dt.datetime(2026, 1, 1), dt.datetime(2026, 1, 1, fold=1), dt.datetime(2026, 1, 1, tzinfo=UTC),
    dt.datetime(2026, 1, 1, 1, tzinfo=CET), dt.datetime(2026, 1, 1, 0, 0, 0, 1, tzinfo=UTC),
    dt.datetime(2026, 1, 1, tzinfo=zoneinfo.ZoneInfo("UTC")), dt.datetime(2024, 2, 29), dt.datetime.min,
    dt.datetime.max,
    dt.datetime(2026, 1, 1, tzinfo=dt.timezone(dt.timedelta(seconds=-7, microseconds=-1))), dt.time(), dt.time(1),
    dt.time(1, fold=1), dt.time(1, tzinfo=UTC), dt.time(2, tzinfo=CET), dt.timedelta(1), dt.timedelta(0, 86400, 1),
    uuid.UUID(int=1), uuid.UUID(int=2**127), pathlib.PurePosixPath("a"), pathlib.PosixPath("a"), pathlib.Path("a/b"),
    pathlib.PosixPath("."), pathlib.PosixPath("/"), pathlib.PurePosixPath("//a"), pathlib.PurePosixPath("a\udc80/%"),
    Color.RED, Color.BLUE, Access.READ, Access.READ | Access.WRITE, Access(0),
    (), (1,), (1.0,), (D(1),), (F(1),), ((1,),), (1, 2), Point(1, 2), Point(D(1), 2.0), Point("a", "b"), (Point(1, 2),),
    ((1, 2),), (Color.RED,), ("RED",), (dt.date(2026, 1, 1), dt.time(1)),
    frozenset(), frozenset([1]), frozenset([1.0]), frozenset([D(1), "a"]), frozenset([1, "a"]), frozenset([(1, 2)]),
    frozenset([Point(1, 2)]), frozenset([frozenset([1]), 0]), frozenset([0, frozenset([True])]), (frozenset([1]),),
]  # fmt: skip
# What is only looked for: it equals keys of the list, and cannot be one, or has another type in a store.
SOUGHT: list[Any] = [
    *LEAVES, np.float32(0.5), np.bool_(True), np.int8(1), np.float64(0.1), np.complex64(1j), np.str_("a"), Level.LOW,
    (np.float32(0.5), Level.LOW), frozenset([np.int64(1)]), Money("0.50"), D("1E+400"), D("1E-400"), D("1E+999999"),
    D("1E-999999999"), F(5e-324), F(2**2000), F(1, 3**2000), D("1." + "0" * 400), D("NaN"), complex("nan"),
    dt.datetime(2026, 1, 1, 1, tzinfo=BERLIN), dt.datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN),
    dt.time(1, tzinfo=BERLIN), pathlib.PureWindowsPath("a"), range(3), object(), Local.A, (object(),), len,
    LocalPair(1, 2), Odd(1, 2),
]  # fmt: skip


def leaf(n: int) -> Any:
    return LEAVES[n]


KEYS = st.recursive(
    st.integers(0, len(LEAVES) - 1).map(leaf),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(tuple),
        st.builds(Point, inner, inner),
        st.frozensets(inner, max_size=3),
    ),
    max_leaves=6,
)


def check_like(d: Any, model: dict[Any, Any]) -> None:
    assert dict(d) == model and [form(key) for key in d] == [form(key) for key in model]


def test_every_pair_of_keys_is_equal_as_in_a_dict(path: Path) -> None:
    models: list[dict[Any, Any]] = []
    with persist.open(path) as store:
        for n, key in enumerate(LEAVES):
            store.root[f"d{n}"] = {key: n}
            model = {key: n}
            models.append(model)
            d = store.root[f"d{n}"]
            for asked in SOUGHT:
                if type(key) is D and isinstance(asked, np.integer):
                    # Their comparison is a TypeError.
                    assert (asked in d) == (int(asked) in model)
                    continue
                assert (asked in d) == (asked in model), (key, asked)
                assert d.get(asked) == model.get(asked)
            check_like(d, model)
    with persist.open(path) as store:
        for n, model in enumerate(models):
            check_like(store.root[f"d{n}"], model)
    checked(path)


def test_all_keys_in_one_dict(path: Path) -> None:
    with persist.open(path) as store:
        store.root["d"] = {}
        d = store.root["d"]
        model: dict[Any, Any] = {}
        for order in (LEAVES, LEAVES[::-1], LEAVES[::3]):
            for n, key in enumerate(order):
                d[key] = model[key] = n
                if n % 5 == 0:
                    assert d.pop(order[n // 2], None) == model.pop(order[n // 2], None)
            check_like(d, model)
        for asked in SOUGHT:
            wanted = int(asked) if isinstance(asked, np.integer) else asked
            assert d.get(asked) == model.get(wanted), asked
        s = set(LEAVES)
        store.root["s"] = s
        assert store.root["s"] == s and all((asked in store.root["s"]) == (asked in s) for asked in SOUGHT)
    with persist.open(path) as store:
        check_like(store.root["d"], model)
        assert persist.copy_out(store.root["d"]) == model
    checked(path)


@FEW
@given(
    pairs=st.lists(
        st.tuples(
            st.one_of(KEYS, st.dates(), st.uuids(), st.decimals(-1000, 1000, places=3), st.fractions(), NAIVE),
            st.integers(),
        ),
        max_size=20,
    ),
    asked=KEYS,
)
def test_keys_are_those_of_dict(store: persist.Store, pairs: list[Any], asked: Any) -> None:
    pairs = [pair for pair in pairs if pair[0] == pair[0]]
    store.root["d"] = {}
    d, model = store.root["d"], {}
    for key, value in pairs:
        d[key] = value
        model[key] = value
    check_like(d, model)
    assert (asked in d) == (asked in model) and d.get(asked) == model.get(asked)
    for key in list(model)[::2]:
        assert d.pop(key) == model.pop(key)
    assert dict(d) == model


def test_many_tuple_keys(path: Path) -> None:
    keys = list(itertools.product(range(20), "abcde", (True, None, b"x")))
    with persist.open(path) as store:
        store.root["d"] = {key: n for n, key in enumerate(keys)}
        store.root["d"][("long " * 2000, 1)] = "long"
    with persist.open(path) as store:
        d = store.root["d"]
        assert all(d[key] == n for n, key in enumerate(keys)) and len(d) == len(keys) + 1
        assert d[(1.0, "a", True)] == d[(True, "a", 1)] == d[(1, "a", True)]
        assert d[("long " * 2000, True)] == "long"
    checked(path)


def test_a_key_that_is_too_long_is_refused(store: persist.Store) -> None:
    key = ("x" * 70_000,)
    assert key not in store.root
    for store_it in (lambda: store.root.__setitem__(key, 1), lambda: store.root.update(a={key: 1})):
        with pytest.raises(ValueError, match="the key is too long"):
            store_it()
    assert list(store.root) == []


def test_what_is_like_a_key_finds_it(store: persist.Store) -> None:
    store.root["d"] = {(1, 2): "a", ("RED", 1): "b"}
    d = store.root["d"]
    for like in [(np.int64(1), 2), Point(1, 2.0), (Level.LOW, 2), (True, np.uint8(2))]:
        assert d[like] == "a"
    assert d[(np.str_("RED"), 1)] == "b"


@pytest.mark.parametrize(
    ("key", "advice"),
    [
        ((1, range(3)), ""),
        ((frozenset([len]),), ""),
        (decimal.Decimal("NaN"), ""),
        (decimal.Decimal("1E+400"), ""),
        (fractions.Fraction(1, 3**2000), ""),
        (complex("nan"), ""),
        (Level.LOW, "; use key.value"),
        ((Level.LOW,), ""),
        (Local.A, "; use key.value"),
        (LocalPair(1, 2), "; use tuple(key)"),
        (Odd(1, 2), "; use tuple(key)"),
        (range(3), "; use tuple(key)"),
        (pathlib.PureWindowsPath("a"), "; use str(key)"),
        (dt.datetime(2026, 1, 1, tzinfo=BERLIN), "; use key.astimezone(datetime.timezone.utc)"),
        (persist.Opaque("app.x", ""), ""),
    ],
)
def test_a_key_that_cannot_be_stored_is_not_there_and_storing_says_what_is_allowed(
    store: persist.Store, key: Any, advice: str
) -> None:
    d = store.root
    assert key not in d and d.get(key, 5) == 5 and d.pop(key, 6) == 6
    for store_it in (
        lambda: d.__setitem__(key, 1),
        lambda: d.update({key: 1}),
        lambda: d.__setitem__("x", {key: 1}),
    ):
        with pytest.raises(
            TypeError, match="keys in a store must be .*tuples or frozensets of these"
        ) as raised:
            store_it()
        assert str(raised.value).endswith(advice)
        if advice:
            import datetime

            d[eval(advice[6:], {"key": key, "datetime": datetime})] = 1
            d.clear()
    assert list(d) == []


def test_keys_of_classes_that_are_not_imported_are_opaque_and_stay(path: Path) -> None:
    with persist.open(path) as store:
        store.root["d"] = {Color.RED: 1, Point(1, 2): 2, (Color.BLUE, Point(3, 4)): 3}
    code = (
        "import persist\n"
        f"with persist.open({str(path)!r}) as store:\n"
        "    d = store.root['d']\n"
        "    assert [d[key] for key in d] == [1, 2, 3] and d[(1, 2.0)] == 2\n"
        f"    assert d[persist.Opaque('enum:{__name__}:Color', 'RED')] == 1\n"
        "    store.root['again'] = dict(d)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    with persist.open(path) as store:
        assert store.root["again"] == {Color.RED: 1, Point(1, 2): 2, (Color.BLUE, Point(3, 4)): 3}
        assert {type(key) for key in store.root["again"]} == {Color, Point, tuple}


def test_locks_of_equal_keys_are_one(store: persist.Store) -> None:
    store.root["d"] = {decimal.Decimal(1): "x"}
    d = store.root["d"]
    with d.lock(1), pytest.raises(persist.LockTimeout):
        run_in_thread(lambda: d.lock(fractions.Fraction(1), timeout=0))


def run_in_thread(f: Any) -> None:
    raised: list[BaseException] = []

    def run() -> None:
        try:
            f()
        except BaseException as e:
            raised.append(e)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if raised:
        raise raised[0]


def test_an_unhashable_key_raises_as_in_a_dict(store: persist.Store) -> None:
    for key in [([],), ((1, {}),)]:
        with pytest.raises(TypeError, match="unhashable type"):
            store.root.get(key)
        with pytest.raises(TypeError, match="unhashable type"):
            store.root[key] = 1
