"""No increment is lost: Python under a lock, in a transaction, or a shell."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import persist
import pytest
from acceptance import Processes, finish, line, tell

SHELL = """
exec 9<>"$1/.persist.lock" || exit 1
echo ready; read -r _
for ((i = 0; i < $2; i++)); do
    flock 9 || exit 1
    n=$(cat "$1/x") && echo $((n + 1)) >"$1/x" || exit 1
    flock -u 9
done
"""

FLOCK_EACH = """
echo ready; read -r _
for ((i = 0; i < $2; i++)); do
    flock "$1/.persist.lock" bash -c 'n=$(cat "$0/x") && echo $((n + 1)) >"$0/x"' "$1" || exit 1
done
"""


def make(path: Path) -> None:
    with persist.open(path) as store:
        store.root["x"] = 0


def value(path: Path) -> int:
    with persist.open(path, mode="r") as store:
        x = store.root["x"]
    assert type(x) is int
    return x


def go(children: list) -> None:
    for child in children:
        line(child, "ready")
    for child in children:
        tell(child)
    for child in children:
        finish(child, timeout=800)


@pytest.mark.timeout(900)
def test_eight_processes_under_the_lock(procs: Processes, store: Path) -> None:
    make(store)
    go([procs.worker("increment", store, 10_000) for _ in range(8)])
    assert value(store) == 80_000


@pytest.mark.timeout(900)
def test_eight_processes_without_a_lock_in_transactions(procs: Processes, store: Path) -> None:
    make(store)
    go([procs.worker("increment_tx", store, 10_000) for _ in range(8)])
    assert value(store) == 80_000


@pytest.mark.timeout(900)
def test_four_processes_and_four_shells(procs: Processes, store: Path, mount: Callable[..., Path]) -> None:
    make(store)
    mnt = mount(store)
    pythons = [procs.worker("increment", store, 10_000) for _ in range(4)]
    shells = [procs.bash(SHELL, mnt, 200) for _ in range(3)] + [procs.bash(FLOCK_EACH, mnt, 200)]
    go(pythons + shells)
    assert value(store) == 4 * 10_000 + 4 * 200
    assert (mnt / "x").read_text() == f"{4 * 10_000 + 4 * 200}\n"
