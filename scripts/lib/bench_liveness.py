"""Delays by other processes and by earlier work: stopped processes, the latch, contended locks, deferred freeing,
sidecars of killed processes.

Every figure is a ratio within one run, or the worst of several tries compared with the same operation without the
cause.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import persist
from bench_report import aim

READER = """import persist, sys
store = persist.open(sys.argv[1], lock_timeout=300)
d = store.root["d"]
print("ready", flush=True)
while True:
    for k in d:
        d[k]
"""
WRITER = """import persist, sys
store = persist.open(sys.argv[1], lock_timeout=300)
d = store.root["d"]
print("ready", flush=True)
n = 0
while True:
    with store.transaction():
        for k in range(20):
            d[k] = n
    d[7] = n = n + 1
"""
# Back-to-back transactions of about 0.2 ms; prints their length.
BUSY = """import persist, sys, time
store = persist.open(sys.argv[1], lock_timeout=300)
d = store.root["d"]
def transact():
    begin = time.perf_counter()
    with store.transaction():
        d[1] = 1
        while time.perf_counter() - begin < 0.0002:
            d[2] = 2
    return time.perf_counter() - begin
took = sorted(transact() for _ in range(500))
print(took[250], flush=True)
while True:
    transact()
"""
LOCKER = """import persist, sys, time
store = persist.open(sys.argv[1], lock_timeout=300)
d = store.root["d"]
print("ready", flush=True)
sys.stdin.readline()
n, end = 0, time.perf_counter() + float(sys.argv[2])
while time.perf_counter() < end:
    for _ in range(20):
        d.lockExcl()
        d[0] += 1
        d.unlock()
    n += 20
print(n)
"""
LEFT = """import os, persist, signal, sys
store = persist.open(sys.argv[1], max_age=None)
store.root["d"].update({k: "left" for k in range(1000)})
os.kill(os.getpid(), signal.SIGKILL)
"""


@contextlib.contextmanager
def running(program: str, *args: object) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start a process and wait for its first line."""
    argv = [sys.executable, "-c", program, *map(str, args)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout
        try:
            yield child, child.stdout.readline()
        finally:
            child.kill()


def worst(act: Callable[[], object], seconds: float) -> float:
    """Return the longest call within a time, in ms."""
    end, most = time.perf_counter() + seconds, 0.0
    while (begin := time.perf_counter()) < end:
        act()
        most = max(most, time.perf_counter() - begin)
    return most * 1000


def stopped(path: Path, program: str, act: Callable[[], object], tries: int) -> tuple[list[float], list[float]]:
    """Measure the longest call beside a running process, and beside the same process stopped at a random moment."""
    beside, behind = [], []
    with running(program, path) as (child, _):
        for _ in range(tries):
            beside.append(worst(act, 0.02))
            time.sleep(random.random() * 0.003)
            child.send_signal(signal.SIGSTOP)
            behind.append(worst(act, 0.15))
            child.send_signal(signal.SIGCONT)
    return beside, behind


def contended(path: Path, processes: int, seconds: float) -> list[int]:
    with contextlib.ExitStack() as stack:
        children = [stack.enter_context(running(LOCKER, path, seconds))[0] for _ in range(processes)]
        for child in children:
            assert child.stdin
            child.stdin.write("\n")
            child.stdin.flush()
        return [int(child.communicate()[0]) for child in children]


def _value(value: Any, start: Any, seconds: float, counts: Any, at: int) -> None:
    start.wait()
    n, end = 0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        for _ in range(20):
            with value.get_lock():
                value.value += 1
        n += 20
    counts[at] = n


def values(processes: int, seconds: float) -> list[int]:
    """Measure the same with multiprocessing.Value."""
    context = multiprocessing.get_context("fork")
    value, start, counts = context.Value("q", 0), context.Barrier(processes), context.Array("q", processes)
    children = [
        context.Process(target=_value, args=(value, start, seconds, counts, at)) for at in range(processes)
    ]
    for child in children:
        child.start()
    for child in children:
        child.join()
    return list(counts)


def liveness(quick: bool, aims: list[str]) -> None:
    """Return the rows about other processes."""
    home = Path(tempfile.mkdtemp(prefix="persist-bench-", dir="."))
    try:
        path = home / "liveness.store"
        with persist.open(path, lock_timeout=300) as store:
            store.root["d"] = {k: 0 for k in range(1000)}
            d = store.root["d"]
            print("\nbeside a process that runs, and beside the same process stopped (worst call, ms)")
            rows: tuple[tuple[str, str, Callable[[], object]], ...] = (
                ("a write beside a reader", READER, lambda: d.update({5: 5})),
                ("a read beside a writer", WRITER, lambda: d[7]),
            )
            for what, program, act in rows:
                beside, behind = stopped(path, program, act, 10 if quick else 30)
                ratio = max(behind) / max(beside)
                print(f"  {what:<28} runs {max(beside):>8.1f}   stopped {max(behind):>8.1f}   {ratio:>6.2f} x")
                aim(aims, f"{what} that is stopped, ms", max(behind), 100)
            fairness(path, d, quick, aims)
        locks(path, quick, aims)
        freed(home, quick, aims)
        left(home, quick)
    finally:
        shutil.rmtree(home)


def fairness(path: Path, d: Any, quick: bool, aims: list[str]) -> None:
    """Measure one write during another process's back-to-back transactions."""
    with running(BUSY, path) as (_, said):
        length, took = float(said), []
        for _ in range(200 if quick else 1000):
            time.sleep(random.random() * 0.001)
            begin = time.perf_counter()
            d[3] = 3
            took.append((time.perf_counter() - begin) / length)
    took.sort()
    median, high = took[len(took) // 2], took[len(took) * 99 // 100]
    print(f"\na write beside back-to-back transactions of {length * 1000:.2f} ms, in their length")
    print(f"  median {median:.2f}   p99 {high:.2f}   worst {took[-1]:.1f}")
    aim(aims, "a write beside back-to-back transactions: median, in their length", median, 2)
    # One per cent is allowed for delays by the machine itself.
    aim(aims, "a write beside back-to-back transactions: p99, in their length", high, 4)


def locks(path: Path, quick: bool, aims: list[str]) -> None:
    """Measure `lockExcl()`, contended, compared with multiprocessing.Value."""
    seconds, rounds = (0.5, 3) if quick else (1.0, 5)
    print("\na counter under a contended lock (thousand a second; the smallest and largest share of a process)")
    for processes in 2, 4:
        pairs = [(contended(path, processes, seconds), values(processes, seconds)) for _ in range(rounds)]
        ours, theirs = (statistics.median(sum(pair[i]) / seconds for pair in pairs) for i in (0, 1))
        shares = sorted(pair[0] for pair in pairs)
        low = statistics.median(min(n) / sum(n) for n in shares) * processes / 2
        high = statistics.median(max(n) / sum(n) for n in shares) * processes / 2
        rates = f"lockExcl {ours / 1000:>8.0f}   Value {theirs / 1000:>8.0f}"
        print(f"  {processes} processes: {rates}   {low:.2f} to {high:.2f}")
        aim(aims, f"lockExcl of {processes} processes / multiprocessing.Value", ours / theirs, 0.8, at_least=True)
        aim(aims, f"lockExcl of {processes}: the smallest share (0.5 is even)", low, 0.4, at_least=True)
        aim(aims, f"lockExcl of {processes}: the largest share (0.5 is even)", high, 0.6)


def freed(home: Path, quick: bool, aims: list[str]) -> None:
    """Measure small changes after a large dict was deleted, compared with the same before."""
    entries = 50_000 if quick else 300_000
    with persist.open(home / "freed.store", max_age=None) as store:
        root = store.root
        root.update(n=0, big={i: {"n": i} for i in range(entries)})

        def small() -> float:
            begin = time.perf_counter()
            for n in range(5000):
                root["n"] = n
            return (time.perf_counter() - begin) / 5000 * 1e6

        # What earlier measurements have written is on the disk: changes do not wait for it.
        os.sync()
        before = statistics.median(small() for _ in range(5))
        del root["big"]
        after = small()
    print(
        f"\na small change (us) before del of {entries:,} entries {before:.2f}, "
        f"5,000 of them after it {after:.2f}: {after / before:.2f} x"
    )
    aim(aims, f"a small change after del of {entries:,}: us more", after - before, 2)


def left(home: Path, quick: bool) -> None:
    """Measure opening a store that a killed process left, compared with a closed one."""
    path, took = home / "left.store", {"closed": [], "left": []}
    with persist.open(path) as store:
        store.root["d"] = {k: 0 for k in range(1000)}
    for _ in range(5 if quick else 20):
        for what in took:
            if what == "left":
                subprocess.run([sys.executable, "-c", LEFT, os.fspath(path)], check=False)
            begin = time.perf_counter()
            store = persist.open(path)
            store.root["d"][7]
            took[what].append((time.perf_counter() - begin) * 1000)
            store.close()
    medians = {what: statistics.median(times) for what, times in took.items()}
    ratio = medians["left"] / medians["closed"]
    figures = f"closed {medians['closed']:.2f}   left by a killed process {medians['left']:.2f}   {ratio:.1f} x"
    print(f"\nopening a store (ms): {figures}")
