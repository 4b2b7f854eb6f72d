"""Lists and Dicts in code that takes a sequence or a mapping: C code of the standard library, numpy, pandas."""

from __future__ import annotations

import array
import bisect
import collections.abc
import ctypes
import heapq
import operator
import os
import random
import sqlite3
import statistics
import struct
import subprocess
from typing import Any

import persist
import pytest


@pytest.fixture
def numbers(root: persist.Dict) -> Any:
    root["l"] = [1, 2, 3, 4]
    return root["l"]


def get_item(sequence: object, index: int) -> Any:
    """Call PySequence_GetItem, as C code does."""
    call = ctypes.pythonapi.PySequence_GetItem
    call.restype, call.argtypes = ctypes.py_object, [ctypes.py_object, ctypes.c_ssize_t]
    return call(sequence, index)


def set_item(sequence: object, index: int, value: object) -> None:
    call = ctypes.pythonapi.PySequence_SetItem
    call.restype, call.argtypes = ctypes.c_int, [ctypes.py_object, ctypes.c_ssize_t, ctypes.py_object]
    call(sequence, index, value)


def del_item(sequence: object, index: int) -> None:
    call = ctypes.pythonapi.PySequence_DelItem
    call.restype, call.argtypes = ctypes.c_int, [ctypes.py_object, ctypes.c_ssize_t]
    call(sequence, index)


def size(sequence: object) -> int:
    call = ctypes.pythonapi.PySequence_Size
    call.restype, call.argtypes = ctypes.c_ssize_t, [ctypes.py_object]
    return int(call(sequence))


def test_the_sequence_protocol_of_c_is_that_of_list(numbers: Any) -> None:
    plain = [1, 2, 3, 4]
    assert size(numbers) == 4
    for index in range(-12, 12):
        for call in (
            lambda x, i=index: get_item(x, i),
            lambda x, i=index: set_item(x, i, i),
            lambda x, i=index: x[i],
            lambda x, i=index: x[i : i + 3],
            lambda x, i=index: operator.getitem(x, i),
            lambda x, i=index: x.__getitem__(i),
        ):
            results = []
            for x in (numbers, plain):
                try:
                    results.append(call(x))
                except IndexError as e:
                    results.append(str(e))
            assert results[0] == results[1], index
        assert numbers == plain
    for index in (-9, -3, 2, 2, 0, -1, 0):
        deleted = []
        for x in (numbers, plain):
            try:
                del_item(x, index)
                deleted.append("deleted")
            except IndexError as e:
                deleted.append(str(e))
        assert deleted[0] == deleted[1]
        assert numbers == plain
    assert plain == []


def test_a_dict_is_not_a_sequence(root: persist.Dict) -> None:
    root[-1] = "x"
    for call in (lambda: get_item(root, -1), lambda: size(root)):
        with pytest.raises(TypeError):
            call()
    assert isinstance(root, collections.abc.MutableMapping)


def test_bisect_and_heapq(root: persist.Dict, numbers: Any) -> None:
    assert bisect.bisect(numbers, 3) == 3
    assert bisect.bisect_left(numbers, 3) == 2
    bisect.insort(numbers, 2.5)
    assert numbers == [1, 2, 2.5, 3, 4]
    assert heapq.nsmallest(2, numbers) == [1, 2]
    assert heapq.nlargest(2, numbers) == [4, 3]
    assert list(heapq.merge(numbers, numbers[:2])) == [1, 1, 2, 2, 2.5, 3, 4]
    # CPython's C code takes nothing but list here, and says so.
    with pytest.raises(TypeError, match="must be (a )?list"):
        heapq.heappush(numbers, 1)


def test_struct_array_and_bytes(numbers: Any) -> None:
    assert struct.pack("4b", *numbers) == b"\1\2\3\4"
    assert array.array("i", numbers).tolist() == [1, 2, 3, 4]
    assert bytes(numbers) == bytearray(numbers) == b"\1\2\3\4"
    assert "{}-{}".format(*numbers[:2]) == "1-2"
    assert [*numbers] == list(numbers) == sorted(numbers)
    assert b"".join([bytes(numbers)]) == b"\1\2\3\4"


def test_joining(root: persist.Dict) -> None:
    root["texts"], root["parts"] = ["a", "b"], [b"a", b"b"]
    assert ",".join(root["texts"]) == "a,b"
    assert b",".join(root["parts"]) == b"a,b"
    assert "".join(root) == "textsparts"


def test_parameters_of_sqlite(root: persist.Dict, numbers: Any) -> None:
    root["named"] = {"a": 1, "b": "two"}
    with sqlite3.connect(":memory:") as db:
        assert db.execute("select ?, ?, ?, ?", numbers).fetchone() == (1, 2, 3, 4)
        # Here CPython takes nothing but dict.
        assert db.execute("select :b, :a", dict(root["named"])).fetchone() == ("two", 1)
        db.execute("create table t (a, b)")
        root["rows"] = [[1, "x"], [2, "y"]]
        db.executemany("insert into t values (?, ?)", root["rows"])
        assert db.execute("select * from t order by a").fetchall() == [(1, "x"), (2, "y")]
    db.close()


def test_system_calls_with_vectors(root: persist.Dict) -> None:
    root["v"] = [b"one", b"two", b"x" * 5000]
    r, w = os.pipe()
    try:
        assert os.writev(w, root["v"]) == 5006
        assert os.read(r, 6000) == b"onetwo" + b"x" * 5000
    finally:
        os.close(r)
        os.close(w)
    root["command"] = ["sh", "-c", "exit $CODE"]
    root["env"] = {"CODE": "7"}
    assert subprocess.run(root["command"], env=root["env"]).returncode == 7


def test_statistics_and_random(root: persist.Dict, numbers: Any) -> None:
    assert statistics.mean(numbers) == 2.5
    assert statistics.median(numbers) == 2.5
    assert statistics.mode(numbers) == 1
    assert statistics.stdev(numbers) == statistics.stdev([1, 2, 3, 4])
    for seed in range(20):
        ours, theirs = random.Random(seed), random.Random(seed)
        plain = numbers[:]
        assert ours.choice(numbers) == theirs.choice(plain)
        assert ours.sample(numbers, 3) == theirs.sample(plain, 3)
        assert ours.choices(numbers, k=3) == theirs.choices(plain, k=3)
        assert ours.choices(plain, numbers, k=3) == theirs.choices(plain, plain, k=3)
        ours.shuffle(numbers)
        theirs.shuffle(plain)
        assert numbers == plain


def test_numpy_takes_lists(root: persist.Dict, numbers: Any) -> None:
    np = pytest.importorskip("numpy")
    root["m"] = [[1, 2], [3, 4]]
    root["text"] = ["a", "b"]
    assert np.isin([1, 9], numbers).tolist() == [True, False]
    for made in (np.array(numbers), np.asarray(numbers), np.array(root["m"]).reshape(4)):
        assert made.tolist() == [1, 2, 3, 4]
        assert made.dtype == np.array([1, 2, 3, 4]).dtype
    assert np.array(root["m"]).shape == (2, 2)
    assert np.array(root["text"]).tolist() == ["a", "b"]
    assert np.mean(numbers) == 2.5
    assert np.concatenate([numbers, numbers[:1]]).tolist() == [1, 2, 3, 4, 1]
    assert np.searchsorted(numbers, 3) == 2
    assert np.zeros(root["m"][0]).shape == (1, 2)
    assert np.arange(5)[numbers].tolist() == [1, 2, 3, 4]
    assert (np.array([1, 2, 3, 4]) == numbers).all()
    assert np.random.default_rng(1).permutation(numbers).tolist() != []


def test_pandas_takes_lists_and_dicts(root: persist.Dict, numbers: Any) -> None:
    pd = pytest.importorskip("pandas")
    root["columns"] = {"a": [1, 2], "b": ["x", "y"]}
    root["rows"] = [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]
    root["cells"] = [[1, "x"], [2, "y"]]
    expected = pd.DataFrame({"a": [1, 2], "b": ["x", "y"]})
    assert pd.Series(numbers).tolist() == [1, 2, 3, 4]
    assert pd.DataFrame(dict(root["columns"])).equals(expected)
    # Any class but dict is an iterable to pandas: the keys are the rows.
    assert pd.DataFrame(root["columns"]).equals(pd.DataFrame(["a", "b"]))
    assert pd.DataFrame(root["rows"]).equals(expected)
    assert pd.DataFrame(root["cells"], columns=["a", "b"]).equals(expected)
    assert pd.DataFrame({"a": numbers}).a.tolist() == [1, 2, 3, 4]
    assert pd.DataFrame.from_records(persist.copy_out(root["rows"])).equals(expected)
    assert pd.Series([1, 9]).isin(numbers).tolist() == [True, False]
    root["d"] = {"a": 1, "b": 2}
    assert pd.Series(root["d"]).equals(pd.Series({"a": 1, "b": 2}))
    assert pd.Series(["a", "b"]).map(root["d"]).tolist() == [1, 2]
    assert pd.DataFrame(persist.copy_out(root["columns"])).equals(expected)
    assert pd.DataFrame({"a": dict(root["d"])}).equals(pd.DataFrame({"a": {"a": 1, "b": 2}}))
