"""Arrays of numpy that several processes fill and read.

    python arrays.py [STORE]

An array is a value like a number or a text: what is read is an array, read-only, with its dtype and shape. A row is a
value of its own, so that processes that fill different rows do not wait for each other's rows, and each row is complete
or not there.
"""

from __future__ import annotations

import multiprocessing
import sys
from typing import Any

import numpy as np
import persist

ROWS, COLUMNS = 8, 100_000
Row = np.ndarray[Any, np.dtype[np.float64]]


def fill(path: str, row: int) -> None:
    """Stand for a process that computes a row."""
    rows: persist.Dict[int, Row] = persist.root(path)["rows"]
    rows[row] = np.arange(COLUMNS, dtype=np.float64) * row


def add_up(path: str, row: int) -> float:
    """Stand for a process that reads a row that another one has computed."""
    rows: persist.Dict[int, Row] = persist.root(path)["rows"]
    return float(rows[row].sum())


def main(path: str) -> None:
    root = persist.root(path)
    root["rows"] = {}
    arguments = [(path, row) for row in range(ROWS)]
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        pool.starmap(fill, arguments)
        sums = pool.starmap(add_up, arguments)
    table = np.stack([root["rows"][row] for row in range(ROWS)])
    print(table.shape, table.dtype, table.sum(axis=1).tolist() == sums, sums[-1])
    # What is read cannot be changed: a change is a new array, stored in its place.
    root["rows"][0] = root["rows"][0] + 1
    print(root["rows"][0][:3], root["rows"][0].flags.writeable)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "arrays.store")
