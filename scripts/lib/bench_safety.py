"""The cost of crash safety: updates in place with undo and without, and the delay of a writer by checkpoints.

The engine's own part is `persist-bench` (core/src/bin/bench): the same from Rust, without the interpreter.
"""

from __future__ import annotations

import json
import random
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import persist
from bench_report import aim

SETS = 20_000


def engine(program: str, *arguments: object) -> Any:
    argv = [program, *map(str, arguments)]
    return json.loads(subprocess.run(argv, check=True, stdout=subprocess.PIPE).stdout)


def undo(program: str, rounds: int) -> None:
    """Measure the same update with its undo record and without."""
    home = Path(tempfile.mkdtemp(prefix="persist-bench-", dir="."))
    try:
        pairs = {f"Rust: {k}": v for k, v in engine(program, "undo", home, "--rounds", rounds).items()}
        pairs["Python: d[key] = 7"] = python_sets(home / "sets.store", rounds)
    finally:
        shutil.rmtree(home)
    print("\nan update in place, with undo and without (ns)")
    for name, pair in pairs.items():
        ratio = pair["with"] / pair["without"]
        print(f"  {name:<30} with {pair['with']:>8.1f}   without {pair['without']:>8.1f}   {ratio:>5.2f} x")
    print("  (Python: without is a replacement of its own, with is one in a transaction of 1000)")


def python_sets(path: Path, rounds: int) -> dict[str, float]:
    took: dict[str, list[float]] = {"with": [], "without": []}
    with persist.open(path) as store:
        store.root["d"] = {f"key {i}": i for i in range(1000)}
        d, keys = store.root["d"], [f"key {i}" for i in range(1000)]
        for _ in range(rounds):
            begin = time.perf_counter_ns()
            for _ in range(SETS // 1000):
                for k in keys:
                    d[k] = 7
            took["without"].append((time.perf_counter_ns() - begin) / SETS)
            begin = time.perf_counter_ns()
            for _ in range(SETS // 1000):
                with store.transaction():
                    for k in keys:
                        d[k] = 7
            took["with"].append((time.perf_counter_ns() - begin) / SETS)
    return {k: statistics.median(v) for k, v in took.items()}


def stall(program: str, quick: bool, aims: list[str]) -> None:
    """Measure single updates of a large store during a checkpoint."""
    size, seconds = (100_000_000, 3) if quick else (1 << 30, 15)
    home = Path(tempfile.mkdtemp(prefix="persist-bench-", dir="."))
    try:
        rust = engine(program, "stall", home, "--bytes", size, "--seconds", seconds)
        python = python_stall(program, home / "stall.store", rust["records"], seconds)
    finally:
        shutil.rmtree(home)
    print(f"\nsingle updates of a store of {size / 1e6:,.0f} MB while it is checkpointed (us)")
    print(f"  {'':<52} {'p50':>9} {'p99':>9} {'p99.9':>9} {'max':>9}   of")
    for language, found in ("Rust", rust), ("Python", python):
        for part, what in (
            ("between", "no checkpoint under way"),
            ("during", f"another process makes them ({found['checkpoints']})"),
            ("without", "none is made by anybody"),
            ("own", f"the bound on loss brings them ({found['own checkpoints']})"),
        ):
            if part not in found:
                continue
            f = found[part]
            row = " ".join(f"{f[q] / 1000:>9,.1f}" for q in ("p50", "p99", "p99.9", "max"))
            print(f"  {language + ': ' + what:<52} {row}   {f['updates']:,}")
        print(f"    the longest checkpoint took {found['longest checkpoint'] / 1e6:,.0f} ms")
        if "without" in found:
            bound_on_loss(found, aims)
        for part, what in ("during", "another process's checkpoints"), ("own", "the bound's checkpoints"):
            # A small store does not reach the limit.
            if part == "during" or found["own checkpoints"]:
                took = found[part]["p99.9"] / 1e6
                aim(aims, f"{language}: p99.9 of an update during {what}, ms", took, 1)


def bound_on_loss(found: dict[str, Any], aims: list[str]) -> None:
    """Measure the cost of the bound on loss for a writer that changes all of a large store, in one run."""
    rates = found["updates a second"]
    ratio = rates["own"] / max(1, rates["without"])
    worst, rest = found["own"]["max"] / 1e6, found["without"]["max"] / 1e6
    print(f"    updates a second with the bound on loss: {ratio:.2f} of those without checkpoints")
    share = worst / rest
    print(f"    the worst update: {worst:.1f} ms with the bound, {rest:.1f} ms without checkpoints: {share:.1f} x")
    print(f"    the oldest change that was not durable: {found['oldest change'] / 1e9:.1f} s old")
    aim(aims, "Rust: updates with the bound / without checkpoints", ratio, 0.8, at_least=True)
    aim(aims, "Rust: worst update with the bound, ms", worst, 10)


def hot(program: str, rounds: int, aims: list[str]) -> None:
    """Measure repeated sets of few keys, with the bound on loss and without."""
    home = Path(tempfile.mkdtemp(prefix="persist-bench-", dir="."))
    try:
        pair = engine(program, "hot", home, "--rounds", rounds)
    finally:
        shutil.rmtree(home)
    ratio = pair["with"] / pair["without"]
    print("\nan update of hot keys, with the bound on loss and without (ns)")
    print(f"  Rust: {'':<24} with {pair['with']:>8.1f}   without {pair['without']:>8.1f}   {ratio:>5.2f} x")
    aim(aims, "Rust: hot keys with the bound / without", ratio, 1.05)


def python_stall(program: str, path: Path, records: int, seconds: float) -> dict[str, Any]:
    """Measure like core/src/bin/bench/stall.rs, from Python, in the store that it created."""
    with persist.open(path) as store:
        data = store.root["data"]
        before = store.stat()["checkpoint"]
        own = [took for _, took in updates(data, records, seconds)]
        own_checkpoints = store.stat()["checkpoint"] - before
        with subprocess.Popen(
            [program, "sync", str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as other:
            assert other.stdin and other.stdout and other.stdout.readline() == "ready\n"
            samples = updates(data, records, seconds)
            said = other.communicate()[0]
    spans = [tuple(map(int, line.split())) for line in said.splitlines()]
    during: list[int] = []
    between: list[int] = []
    at = 0
    for begin, took in samples:
        while at < len(spans) and spans[at][1] < begin:
            at += 1
        under_way = at < len(spans) and spans[at][0] <= begin + took
        (during if under_way else between).append(took)
    return {
        "between": figures(between),
        "during": figures(during),
        "own": figures(own),
        "checkpoints": len(spans),
        "own checkpoints": own_checkpoints,
        "longest checkpoint": max((end - begin for begin, end in spans), default=0),
    }


def updates(data: Any, records: int, seconds: float) -> list[tuple[int, int]]:
    """Return when each update began, and how long it took."""
    samples = []
    wall, clock = time.time_ns, time.perf_counter_ns
    end = clock() + int(seconds * 1e9)
    while clock() < end:
        record, number = data[random.randrange(records)], random.randrange(256)
        at, begin = wall(), clock()
        if number & 1:
            record["body"] = bytes([number]) * 900
        else:
            record["n"] = number
        samples.append((at, clock() - begin))
    return samples


def figures(took: list[int]) -> dict[str, int]:
    took.sort()
    n = len(took)
    return {
        "updates": n,
        **{f"p{100 * q:g}": took[min(int(n * q), n - 1)] if n else 0 for q in (0.5, 0.99, 0.999)},
        "max": took[-1] if n else 0,
    }
