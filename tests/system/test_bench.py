"""`scripts/bench python` in its smallest sizes: every row is there, so that what is measured still exists."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from acceptance import TOP, clean_env

# The tables, and what persist is compared with in each. Sizes are not a part of the titles here.
TABLES = {
    "in, a set": {"persist", "set", "set, pickled", "sqlite3 table"},
    "discard and add, a set": {"persist", "set", "set, pickled", "sqlite3 table"},
    "append and popleft, a deque": {"persist", "deque", "sqlite3 table"},
    "get": {"persist", "sortedcontainers", "sqlite3"},
    "del and set": {"persist", "sortedcontainers", "sqlite3"},
    "irange": {"persist", "sortedcontainers", "sqlite3"},
    "bisect and peekitem": {"persist", "sortedcontainers", "sqlite3"},
    "a plain copy": {"persist", "copy.deepcopy", "pickle.loads"},
    "read an array of 100 floats": {"persist", "np.load", "sqlite3, pickled"},
    "write an array of 100 floats": {"persist", "np.save", "sqlite3, pickled"},
    "read an array of 1,024 floats": {"persist", "np.load", "sqlite3, pickled"},
    "write an array of 1,024 floats": {"persist", "np.save", "sqlite3, pickled"},
    "from a change to the wake-up": {"watch", "watch, asyncio", "pop_wait", "a pipe"},
    "frozen: time to take a view (us)": {"10 entries", "100 entries"},
    "set (ns)": {"not watched", "another is", "this is"},
}


def test_the_bench_of_python_runs(tmp_path: Path) -> None:
    pytest.importorskip("numpy")
    pytest.importorskip("sortedcontainers")
    argv = [sys.executable, TOP / "scripts/lib/bench.py", "python", "--tiny"]
    for option in ("--others", "--engine", "--ceiling"):
        argv += [option, tmp_path / "not here"]
    done = subprocess.run(argv, env=clean_env(), cwd=tmp_path, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    shown: dict[str, dict[str, float]] = {}
    for paragraph in done.stdout.split("\n\n")[1:-1]:
        title, *rows = paragraph.splitlines()
        for row in rows:
            # name, figure, and the ratio to what the table compares with
            match = re.fullmatch(r"  (\S.*?) +([\d,.]+) +([\d.]+) x .*", row)
            assert match, row
            shown.setdefault(title, {})[match[1]] = float(match[2].replace(",", ""))
    for start, names in TABLES.items():
        found = [rows for title, rows in shown.items() if title.startswith(start)]
        assert found and all(names <= rows.keys() for rows in found), (start, shown)
        assert all(figure > 0 for rows in found for figure in rows.values()), found
    aims = done.stdout.split("\n\n")[-1].splitlines()
    assert aims[0] == "aims" and len(aims) > 8 and all(re.match("  (PASS|MISS)  ", row) for row in aims[1:])
