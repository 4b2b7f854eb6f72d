"""persist.SortedDict beside `sortedcontainers.SortedDict`: random programs, and what only a store has."""

from __future__ import annotations

import copy
import datetime as dt
import gc
import itertools
import threading
import uuid
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import persist
import pytest
from hypothesis import given, settings, strategies as st

sortedcontainers = pytest.importorskip("sortedcontainers")


def entries(d: Any) -> list[tuple[Any, Any]]:
    return list(d.items())


def test_it_is_kept_in_order(path: Path, tmp_path: Path) -> None:
    with persist.open(path) as store:
        made = persist.SortedDict({3: "c", 1: "a"}, **{})
        made[2] = "b"
        assert list(made) == [1, 2, 3]
        store.root["s"] = made
        assert store.root["s"] is made
        made[2.5] = "x"
        assert entries(made) == [(1, "a"), (2, "b"), (2.5, "x"), (3, "c")]
    with persist.open(path) as store:
        s = store.root["s"]
        assert type(s) is persist.SortedDict
        assert persist.class_name(s) == "SortedDict"
        assert list(s) == [1, 2, 2.5, 3]
        assert s == {1: "a", 2: "b", 2.5: "x", 3: "c"}
        assert repr(s) == "SortedDict({1: 'a', 2: 'b', 2.5: 'x', 3: 'c'})"
        assert list(s.irange(1, 3, inclusive=(False, False))) == [2, 2.5]
        assert list(s.irange(maximum=2, reverse=True)) == [2, 1]
        assert (s.bisect_left(2), s.bisect(2), s.index(3)) == (1, 2, 3)
        assert (s.keys()[0], s.values()[-1], s.items()[1:3]) == (1, "c", [(2, "b"), (2.5, "x")])
        for out in (persist.copy_out(s), s.copy(), copy.copy(s), copy.deepcopy(s), s.todict()):
            assert type(out) is dict
            assert list(out) == [1, 2, 2.5, 3]
        with persist.open(tmp_path / "other") as other:
            other.root["s"] = s
            assert type(other.root["s"]) is persist.SortedDict
            assert list(other.root["s"]) == [1, 2, 2.5, 3]
        s.clear()
        assert list(s) == []
        s.update({"b": 1, "a": 2})
        assert list(s) == ["a", "b"]
        del s
        gc.collect()
        assert store.root["s"].popitem(0) == ("a", 2)


def test_keys_without_an_order_are_refused(store: persist.Store) -> None:
    root = store.root
    root["s"] = persist.SortedDict({1: 1})
    s = root["s"]
    for key in ("a", b"a", None, float("nan")):
        with pytest.raises(TypeError):
            s[key] = 1
        with pytest.raises(TypeError):
            s.bisect(key)
        with pytest.raises(TypeError):
            s.irange(key, key) if key is not None else s.bisect(key)
        assert key not in s
    with pytest.raises(TypeError):
        s.update({2: 2, "a": 1})
    assert entries(s) == [(1, 1)]
    with pytest.raises(TypeError):
        root["t"] = persist.SortedDict({1: 1, "a": 2})
    assert "t" not in root
    with pytest.raises(TypeError):

        class Other(persist.SortedDict):  # type: ignore[type-arg]
            pass


def test_an_undone_transaction_keeps_the_order(store: persist.Store) -> None:
    store.root["s"] = persist.SortedDict((n, n) for n in range(100))
    s = store.root["s"]
    with pytest.raises(RuntimeError), store.transaction():
        for n in range(0, 100, 2):
            del s[n]
        s[500] = 1
        assert list(s.irange(90)) == [91, 93, 95, 97, 99, 500]
        raise RuntimeError
    assert list(s) == list(range(100))


def test_an_iterator_beside_changes(root: persist.Dict) -> None:
    root["s"] = persist.SortedDict((n, n) for n in range(1000))
    s = root["s"]
    seen = []
    for key in s:
        seen.append(key)
        s.pop(key - 1, None)
        s[-key] = 0
    assert seen == list(range(1000))


def test_writers_in_threads_keep_one_order(root: persist.Dict) -> None:
    root["s"] = persist.SortedDict()
    s = root["s"]

    def write(first: int) -> None:
        for n in range(first, 400, 4):
            s[n * 7 % 400] = n
            if n % 3 == 0:
                s.popitem(0)
            s[n * 7 % 400] = n

    threads = [threading.Thread(target=write, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(s) == sorted(s.copy())
    assert len(s) == len(list(s)) == len(s.copy())


def test_repr_is_bounded_and_never_fails(path: Path) -> None:
    with persist.open(path) as store:
        s = store.root["s"] = persist.SortedDict((n, "x" * 20) for n in range(20_000))
        assert len(repr(s)) < 11_000
        assert repr(s).endswith("...})")
        s.clear()
        s["me"] = s
        assert repr(s) == "SortedDict({'me': {...}})"
    assert "closed" in repr(s)


OFFSET = dt.timezone(dt.timedelta(hours=5, minutes=30))
FAMILIES = {
    "numbers": st.one_of(
        st.integers(-4, 9),
        st.sampled_from(
            [0.5, -1.5, 2.0, 2**70, -(2**70), 2.0**70, True, False, float("inf"), 2**53 + 1, 2.0**53]
        ),
    ),
    "text": st.sampled_from(["", "a", "b", "aa", "é", "z", "\U0001f600", "\uffff", "\ud800"]),
    "bytes": st.sampled_from([b"", b"a", b"\xff", b"ab", b"b"]),
    "all numbers": st.one_of(
        st.integers(-3, 3),
        st.integers(-(2**70), 2**70),
        st.floats(allow_nan=False),
        st.decimals("-9", "9", places=2),
        st.decimals(allow_nan=False).filter(lambda d: not d.is_finite() or -300 < d.adjusted() < 300),
        st.fractions("-9", "9", max_denominator=12),
        st.sampled_from(
            [Decimal("0.1"), 0.1, Fraction(1, 10), Decimal("Infinity"), Decimal(2**53) + 1, 2.0**53]
        ),
    ),
    "dates": st.dates(),
    "aware": st.datetimes(timezones=st.sampled_from([OFFSET, dt.timezone.utc])),
    "naive": st.datetimes(),
    "times": st.times(),
    "timedeltas": st.timedeltas(),
    "uuids": st.uuids(),
}
TYPES = {
    "numbers": (int, float), "text": (str,), "bytes": (bytes,), "all numbers": (int, float, Decimal, Fraction),
    "dates": (dt.date,), "aware": (dt.datetime,), "naive": (dt.datetime,), "times": (dt.time,),
    "timedeltas": (dt.timedelta,), "uuids": (uuid.UUID,),
}  # fmt: skip
WRONG = st.sampled_from(["wrong", 10**6, None, b"wrong"])
ATTEMPTS = [
    *("__setitem__", "__getitem__", "__delitem__", "__contains__", "get", "pop", "setdefault", "popitem"),
    *(
        "peekitem",
        "bisect",
        "bisect_left",
        "bisect_right",
        "index",
        "irange",
        "islice",
        "keys",
        "values",
        "items",
    ),
    *("clear", "update", "reopen", "__eq__", "reversed", "kindex", "kslice", "vslice", "and"),
]


def attempt(d: Any, name: str, a: Any, b: Any, n: int, flags: tuple[bool, bool, bool]) -> Any:
    """Return what an operation gives, or the class of its exception."""
    one, two, three = flags
    calls: dict[str, Any] = {
        "__setitem__": lambda: d.__setitem__(a, n),
        "__getitem__": lambda: d[a],
        "__delitem__": lambda: d.__delitem__(a),
        "__contains__": lambda: a in d,
        "get": lambda: d.get(a, n),
        "pop": lambda: d.pop(a, n) if one else d.pop(a),
        "setdefault": lambda: d.setdefault(a, n),
        "popitem": lambda: d.popitem(n) if one else d.popitem(),
        "peekitem": lambda: d.peekitem(n) if one else d.peekitem(),
        "bisect": lambda: d.bisect(a),
        "bisect_left": lambda: d.bisect_left(a),
        "bisect_right": lambda: d.bisect_right(a),
        "index": lambda: d.index(a),
        "irange": lambda: list(d.irange(a, b, inclusive=(one, two), reverse=three)),
        "islice": lambda: list(d.islice(n, n + 2 if one else None, reverse=three)),
        "keys": lambda: list(d.keys()),
        "values": lambda: list(d.values()),
        "items": lambda: list(d.items()),
        "clear": lambda: d.clear(),
        "update": lambda: d.update({a: n, b: n}),
        "__eq__": lambda: d == {a: n},
        "reversed": lambda: list(reversed(d)),
        "kindex": lambda: (d.keys()[n], d.items()[n], d.values()[n]),
        "kslice": lambda: (list(d.keys()[:n]), list(d.keys()[n::2]), list(d.items()[-2:])),
        "vslice": lambda: list(d.values()[n:][::-1]),
        "and": lambda: sorted(d.keys() & {a, b}, key=repr),
    }
    try:
        return repr(calls[name]())
    except Exception as e:
        return type(e).__name__


@settings(deadline=None, max_examples=200)
@given(data=st.data(), family=st.sampled_from(sorted(FAMILIES)))
def test_random_programs(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, family: str) -> None:
    keys = FAMILIES[family]
    path = tmp_path_factory.mktemp("sorted") / "s"
    start = data.draw(st.dictionaries(keys, st.integers(0, 9), max_size=8))
    model = sortedcontainers.SortedDict(start)
    store = persist.open(path, durability="none")
    try:
        store.root["s"] = persist.SortedDict(start)
        for _ in range(data.draw(st.integers(0, 12))):
            name = data.draw(st.sampled_from(ATTEMPTS))
            if name == "reopen":
                store.close()
                store = persist.open(path, durability="none")
            else:
                a = data.draw(st.one_of(keys, keys, keys, WRONG)) if name != "update" else data.draw(keys)
                b, n = data.draw(keys), data.draw(st.integers(-3, 5))
                flags = data.draw(st.tuples(st.booleans(), st.booleans(), st.booleans()))
                if not model and not isinstance(a, TYPES[family]):
                    continue  # any key may be the first one there, and would break the order later
                before = sortedcontainers.SortedDict(model)
                expected = attempt(model, name, a, b, n, flags)
                if name in ("__setitem__", "setdefault") and expected == "TypeError":
                    model = before  # it keeps the entry without its place
                assert attempt(store.root["s"], name, a, b, n, flags) == expected, (name, a, b, n, flags)
            s = store.root["s"]
            assert repr(entries(s)) == repr(entries(model))
            assert s == dict(model)
            assert len(s) == len(model)
    finally:
        store.close()


AWARE, NAIVE = dt.datetime(2026, 1, 1, tzinfo=OFFSET), dt.datetime(2026, 1, 1)
# Of each kind two keys, ascending, and the name of its type in an error.
KINDS: dict[str, tuple[Any, Any]] = {
    "int": (1, 2),
    "float": (0.5, 1.5),
    "Decimal": (Decimal("0.1"), Decimal("0.2")),
    "Fraction": (Fraction(1, 3), Fraction(2, 3)),
    "str": ("a", "b"),
    "bytes": (b"a", b"b"),
    "date": (dt.date(1, 1, 1), dt.date(9999, 1, 1)),
    "datetime": (NAIVE, NAIVE.replace(hour=1)),
    "datetime with an offset": (AWARE, AWARE.astimezone(dt.timezone.utc) + dt.timedelta(seconds=1)),
    "time": (dt.time(1), dt.time(2)),
    "time with an offset": (dt.time(12, tzinfo=OFFSET), dt.time(11, tzinfo=dt.timezone.utc)),
    "timedelta": (dt.timedelta(-1), dt.timedelta(microseconds=1)),
    "UUID": (uuid.UUID(int=1), uuid.UUID(int=2**127)),
}
NUMBERS = {"int", "float", "Decimal", "Fraction"}


@pytest.mark.parametrize(("a", "b"), list(itertools.product(KINDS, KINDS)))
def test_what_python_orders_is_ordered_and_nothing_else(root: persist.Dict, a: str, b: str) -> None:
    (low, high), others = KINDS[a], KINDS[b]
    root["s"] = persist.SortedDict({high: 1})
    s = root["s"]
    s[low] = 2
    assert list(s) == [low, high]
    for other in others:
        if a == b or {a, b} <= NUMBERS:
            s[other] = 3
            assert list(s) == sorted({low, high, *KINDS[b]} & set(s.copy()))
            assert s.bisect_left(other) == list(s).index(other)
            continue
        with pytest.raises(TypeError):
            sorted([low, other])
        for call in (lambda key: s.update({key: 3}), s.bisect, s.irange):
            with pytest.raises(TypeError) as e:
                call(other)
            assert f"'{b}' and '{a}'" in str(e.value)
        assert other not in s and list(s) == [low, high]


def test_keys_that_nothing_orders(root: persist.Dict) -> None:
    for key, name in [
        (None, "NoneType"), (float("nan"), "NaN"), (1 + 2j, "complex"), ((1, 2), "tuple"), (frozenset(), "frozenset"),
    ]:  # fmt: skip
        root["s"] = persist.SortedDict()
        for there in (False, True):
            with pytest.raises(TypeError, match=name):
                root["s"][key] = 1
            if not there:
                root["s"][1] = 1
        assert list(root["s"]) == [1]


def test_numbers_are_compared_exactly(path: Path) -> None:
    keys = [
        Decimal("0.1"), 0.1, Fraction(1, 10) + Fraction(1, 10**30), Decimal("0.10000000000000001"),
        2**53, Decimal("9007199254740992.5"), 2**53 + 1, Fraction(2**54 + 3, 2), 2.0**54, Decimal(2**54) + 1,
        -(10**400), Decimal("-1E+300"), float("-inf"), 5e-324, Decimal("1E-308"), 10**400, Fraction(-1, 3), -1 / 3,
    ]  # fmt: skip
    with persist.open(path) as store:
        store.root["s"] = persist.SortedDict(dict.fromkeys(keys, 0))
    with persist.open(path) as store:
        s = store.root["s"]
        assert list(s) == sorted(keys) and [type(k) for k in s] == [type(k) for k in sorted(keys)]
        for n, key in enumerate(sorted(keys)):
            assert (s.bisect_left(key), s.bisect_right(key), s.index(key)) == (n, n + 1, n)
        for key in keys:
            del s[key]
        assert list(s) == []


def test_moments_in_a_zone_are_found(root: persist.Dict) -> None:
    zoneinfo = pytest.importorskip("zoneinfo")
    try:
        zone = zoneinfo.ZoneInfo("Europe/Berlin")
    except zoneinfo.ZoneInfoNotFoundError:
        zone = None
    hours = [dt.datetime(2026, 6, 1, hour, tzinfo=dt.timezone.utc) for hour in range(5)]
    root["s"] = persist.SortedDict(dict.fromkeys(hours, 0))
    limit = hours[2].astimezone(zone or OFFSET)
    assert list(root["s"].irange(limit)) == hours[2:]
    assert list(root["s"].irange(maximum=limit, inclusive=(True, False))) == hours[:2]
