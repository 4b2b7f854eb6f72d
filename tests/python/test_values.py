"""Every value and key is read back as it was stored: value, type and bits."""

from __future__ import annotations

import math
import random
import struct
import sys
import time
from pathlib import Path
from typing import Any

import persist
import pytest

INTS = [s * (2**b + d) for b in (0, 1, 31, 46, 47, 48, 62, 63, 64, 65, 127, 1000) for d in (-1, 0, 1) for s in (1, -1)]
FLOATS = [0.0, -0.0, 1.5, -1.5, math.inf, -math.inf, 5e-324, sys.float_info.max, 2.0**53, 1e100]
NANS = [0x7FF8000000000000, 0xFFF8000000000000, 0x7FF0000000000001, 0xFFFFFFFFFFFFFFFF, 0x7FF8000000000123]
TEXTS = ["", "a", "12345", "123456", "\0", "é", "€", "\U0001f600", "\ud800", "a\udcffb", "\udbff\udfff", "x" * 4000]
BYTES = [b"", b"\0", b"12345", b"123456", bytes(range(256)), b"\xff" * 5000]


@pytest.mark.parametrize("value", [None, True, False, *INTS, *FLOATS, *TEXTS, *BYTES], ids=lambda v: repr(v)[:20])
def test_scalars_come_back(path: Path, value: Any) -> None:
    with persist.open(path) as store:
        store.root["v"] = value
        store.root["l"] = [value]
        store.root[value] = "key"
        store.root["d"] = {value: value}
    with persist.open(path, mode="r") as store:
        root = store.root
        for got in [root["v"], root["l"][0], root["d"][value], next(iter(root["d"]))]:
            assert type(got) is type(value)
            assert repr(got) == repr(value)
        assert root[value] == "key"
        assert value in root


@pytest.mark.parametrize("bits", NANS, ids=hex)
def test_nan_payloads_are_kept(root: persist.Dict, bits: int) -> None:
    nan = struct.unpack("<d", struct.pack("<Q", bits))[0]
    kept = struct.unpack("<Q", struct.pack("<d", nan))[0]  # the result on this machine
    root["n"] = nan
    assert struct.unpack("<Q", struct.pack("<d", root["n"]))[0] == kept
    root[nan] = 1
    assert root[nan] == 1


def test_long_values(path: Path) -> None:
    digits = 10**10_000 + 7
    rng = random.Random(1)
    blob = rng.randbytes(3_000_001)
    text = "é\ud800x" * 200_000
    with persist.open(path) as store:
        store.root.update(int=digits, neg=-(3**100_000), blob=blob, text=text, inner=[blob, {"t": text}])
        store.root[text] = "long key"
        store.root[digits] = "big key"
    with persist.open(path) as store:
        root = store.root
        assert root["int"] == digits
        assert root["neg"] == -(3**100_000)
        assert root["blob"] == blob
        assert root["text"] == text
        assert root["inner"] == [blob, {"t": text}]
        assert root[text] == "long key"
        assert root[digits] == "big key"
        assert list(root)[-2:] == [text, digits]
        assert dict(root.items()) == root
        assert root.pop("blob") == blob
        assert root.popitem() == (digits, "big key")
        assert root.popitem() == (text, "long key")
        assert persist.copy_out(root)["inner"] == [blob, {"t": text}]


@pytest.mark.slow
def test_a_hundred_megabytes_of_text(path: Path) -> None:
    text = "0123456789" * 10_000_000
    with persist.open(path) as store:

        def there_and_back(values: list[str]) -> float:
            # The time of this thread: writing a large value also waits for the disk.
            start = time.thread_time()
            kept = []
            for n, value in enumerate(values):
                store.root[n] = value
                kept.append(store.root[n])
            took = time.thread_time() - start
            assert kept == values
            return took

        # The cost grows with the length, and not with its square (ten times that of ten tenths).
        tenths = min(there_and_back([text[:10_000_000]] * 10) for _ in range(3))
        assert min(there_and_back([text]) for _ in range(3)) < 6 * tenths
        store.root.clear()


@pytest.mark.slow
def test_a_million_entries(path: Path) -> None:
    n = 1_000_000
    with persist.open(path) as store:
        root = store.root
        root["list"] = list(range(n))
        root["dict"] = {f"key {i}": i for i in range(n)}
    with persist.open(path) as store:
        root = store.root
        assert len(root["list"]) == len(root["dict"]) == n
        assert root["list"][-1] == root["dict"]["key 999999"] == n - 1
        assert root["list"][n // 2 : n // 2 + 3] == [n // 2, n // 2 + 1, n // 2 + 2]
        root["list"].insert(n // 2, "here")
        assert root["list"][n // 2] == "here"
        assert root["dict"].popitem() == ("key 999999", n - 1)
        assert sum(root["dict"].values()) == (n - 1) * (n - 2) // 2
