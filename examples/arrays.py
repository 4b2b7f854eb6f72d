"""Arrays of numpy that several processes fill and read.

    python arrays.py [STORE]

An array is kept as bytes, with its type and shape. A row is a value of its own, so that processes that fill different
rows do not wait for each other's rows, and each row is complete or not there.
"""

from __future__ import annotations

import multiprocessing
import sys
from typing import Any

import numpy as np
import persist

ROWS, COLUMNS = 8, 100_000


def save(array: np.ndarray[Any, Any]) -> dict[str, Any]:
    """Return what a store keeps of an array."""
    return {"dtype": array.dtype.str, "shape": list(array.shape), "data": array.tobytes()}


def load(kept: persist.Dict[str, Any]) -> np.ndarray[Any, Any]:
    """Return a read-only array of the stored bytes."""
    return np.frombuffer(kept["data"], kept["dtype"]).reshape(kept["shape"])


def fill(path: str, row: int) -> None:
    """Stand for a process that computes a row."""
    rows = persist.root(path)["rows"]
    rows[row] = save(np.arange(COLUMNS, dtype=np.float64) * row)


def main(path: str) -> None:
    root = persist.root(path)
    root["rows"] = {}
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        pool.starmap(fill, [(path, row) for row in range(ROWS)])
    table = np.stack([load(root["rows"][row]) for row in range(ROWS)])
    print(table.shape, table.dtype, table.sum(axis=1)[-1])


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "arrays.store")
