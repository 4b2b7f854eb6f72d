"""Random programs of system calls by several processes, on the mount and on a tmpfs: every result and errno agrees, and
so do the whole trees, also after remounts and kills of the mount's process.

The short form runs fixed seeds. `scripts/torture mount SECONDS` runs new ones: PERSIST_TORTURE_SECONDS says how long,
PERSIST_SEED with which first seed. A difference names its seed and the steps that led to it.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import differential
import pytest
from conftest import DEADLINE, Mount
from differential import TREES, Step
from differential_lists import Lists
from differential_programs import SHORT, program
from differential_worker import Process

STEPS, PROCESSES, ENDS = 250, 3, 0.01
# How many steps before a difference are printed.
SHOWN = 40
SECONDS = float(os.environ.get("PERSIST_TORTURE_SECONDS", "0"))
SEED = int(os.environ.get("PERSIST_SEED", "1"))
LONG = pytest.mark.skipif(SECONDS == 0, reason="the long form: scripts/torture mount")


class Pair:
    """A mount and a tmpfs, each of which begins empty."""

    def __init__(self, home: Path, mounts: Callable[..., Mount], name: str) -> None:
        self.home = home / name
        self.home.mkdir()
        self.tmpfs = self.home / TREES[0]
        self.tmpfs.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "persist-test", self.tmpfs], check=True, timeout=DEADLINE)
        # The kernel enforces modes only with this option (rule 5 of modes).
        self.mount = mounts(f"{name}-store", "default_permissions", at=f"{name}/{TREES[1]}")
        self.mount.path.chmod(0o1777)
        self.lists = Lists(self.tmpfs)
        self.processes: list[Process] = []
        try:
            self.processes += [Process(self.home) for _ in range(PROCESSES)]
        except BaseException:
            self.close()
            raise

    def run(self, steps: list[tuple[int, Step]]) -> str:
        """Run a program. Return the first difference, or an empty text."""
        has_lists = any(one[0] == "mklist" for _, one in steps)
        for n, (worker, one) in enumerate(steps):
            if worker < 0:
                for process in self.processes:
                    process.run(("close_all",))
                self.mount.die() if one[0] == "kill" else self.mount.again()
                self.lists.number()
                one, worker = ("tree",), 0
            result = self.processes[worker].run(one)
            if result is None:
                return f"step {n}: the process of {one} ended"
            if result[0] != result[1]:
                return explain(steps[: n + 1], one, *result)
            if has_lists:
                self.lists.see()
        return ""

    def close(self) -> None:
        while self.processes:
            self.processes.pop().end()
        self.mount.clean()
        if os.path.ismount(self.tmpfs):
            subprocess.run(["umount", "-l", self.tmpfs], check=True, timeout=DEADLINE)


def explain(steps: list[tuple[int, Step]], one: Step, right: Any, wrong: Any) -> str:
    if one[0] == "tree" and right[0] == wrong[0] == "ok":
        names = sorted(right[1].keys() | wrong[1].keys())
        right, wrong = (
            {name: short(tree[1].get(name)) for name in names if right[1].get(name) != wrong[1].get(name)}
            for tree in (right, wrong)
        )
    before = [f"  {worker} {short(done)}" for worker, done in steps[-SHOWN:]]
    return "\n".join([*before, f"tmpfs: {short(right)}", f"mount: {short(wrong)}"])


def short(what: Any) -> str:
    text = repr(what)
    return text if len(text) < 400 else f"{text[:300]} ... {text[-60:]} ({len(text)})"


@pytest.fixture
def pairs(tmp_path: Path, mounts: Callable[..., Mount]) -> Iterator[Callable[[str], Pair]]:
    if os.geteuid() != 0:
        pytest.skip("chroot and tmpfs need root")
    made: list[Pair] = []

    def make(name: str) -> Pair:
        made.append(Pair(tmp_path, mounts, name))
        return made[-1]

    yield make
    for pair in made:
        pair.close()


def compare(pairs: Callable[[str], Pair], seed: int, steps: int) -> None:
    pair = pairs(f"p{seed}")
    difference = pair.run([*program(seed, steps, PROCESSES, ENDS), (-1, ("remount",)), (-1, ("kill",))])
    assert not difference, f"seed {seed}:\n{difference}"
    pair.close()


@pytest.mark.parametrize("name", SHORT)
def test_short_programs(pairs: Callable[[str], Pair], monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(differential.Differences, "ONE_VALUE", "")
    difference = pairs("p").run(SHORT[name])
    assert not difference, difference


@pytest.mark.parametrize("seed", range(1, 9))
def test_the_mount_does_what_tmpfs_does(pairs: Callable[[str], Pair], seed: int) -> None:
    compare(pairs, seed, STEPS)


@LONG
@pytest.mark.timeout(0)
def test_for_a_long_time(pairs: Callable[[str], Pair]) -> None:
    end, seed = time.monotonic() + SECONDS, SEED
    while time.monotonic() < end:
        compare(pairs, seed, 4 * STEPS)
        seed += 1
    print(f"{(seed - SEED) * 4 * STEPS} steps from seed {SEED}")
