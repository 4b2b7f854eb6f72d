"""Long runs: ten steady workloads, in which nothing may grow: file, sidecar, memory, descriptors, threads, mappings,
latency.

The second half of a run is compared with its first half (without the first fifth, in which the store fills). For sizes
and counts: the largest value of each half. For latency: the best window of each half, in units of a piece of plain
Python that the same process runs all the time, so that the result does not depend on the machine's speed or on its
other work.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torture_engine import Result
from torture_long_work import MIB, WORKLOADS
from torture_writers import Mount, Violation

# The share of the seconds of all parts; the minimal seconds of a workload.
SHARE, LEAST = 0.1, 3.0
DEFAULT = 600.0
SAMPLES = 60

# The allowed increase of the second half: a factor and an amount.
TOLERANCE = {
    "file": (1.1, 16 * MIB),
    "sidecar": (1.1, 4 * MIB),
    "rss": (1.1, 8 * MIB),
    "fds": (1.0, 2),
    "threads": (1.0, 2),
    "maps": (1.1, 16),
    "p50": (1.5, 0),
    "p99": (2.0, 0),
}
# With fewer seconds and rounds the store is still filling: only the bound of P7 is then required. A 99th percentile
# needs this many rounds in a window.
TIMED, ROUNDS, ENOUGH = 20.0, 200, 100


@dataclass
class Run:
    """The result of one workload."""

    name: str
    samples: list[dict[str, int]] = field(default_factory=list)
    windows: list[dict[str, float]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    rounds: int = 0


def blocks(path: Path) -> int:
    try:
        return path.stat().st_blocks * 512
    except FileNotFoundError:
        return 0


def most_descriptors(pid: int) -> int:
    """Return the most descriptors that a process has during some of its rounds, which may open and close a store."""
    most, end = 0, time.monotonic() + 0.05
    while time.monotonic() < end:
        most = max(most, len(os.listdir(f"/proc/{pid}/fd")))
    return most


def sample(store: Path, pids: list[int]) -> dict[str, int]:
    """Return the current sizes; of several processes the sum."""
    found = dict.fromkeys(("rss", "fds", "threads", "maps"), 0)
    found.update(file=blocks(store), sidecar=blocks(Path(f"{store}-shm")))
    for pid in pids:
        try:
            status = Path(f"/proc/{pid}/status").read_text()
            fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
            # Private memory of the process; its mappings of the store are counted as the file.
            found["rss"] += int(fields.get("RssAnon", "0 kB").split()[0]) * 1024
            found["threads"] += int(fields.get("Threads", "0"))
            found["fds"] += most_descriptors(pid)
            found["maps"] += Path(f"/proc/{pid}/maps").read_text().count("\n")
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def workload(name: str, seconds: float) -> Run:
    """Run one of the workloads, and sample it all the time."""
    run, (_, live, processes) = Run(name), WORKLOADS[name]
    home = Path(tempfile.mkdtemp(prefix="persist-long-"))
    store, mount, children = home / "long.store", None, []
    try:
        if name == "mount":
            mount = Mount(store, home / "mnt")
            mount.start()
        argv = [sys.executable, str(Path(__file__).with_name("torture_long_work.py")), name, str(store), str(seconds)]
        argv += [str(home / "mnt")] if mount else []
        for _ in range(processes):
            child = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            children.append(child)
            assert child.stdout
            if child.stdout.readline() != "ready\n":
                raise Violation(f"{name}: a worker did not begin")
        for child in children:
            assert child.stdin
            child.stdin.write("\n")
            child.stdin.flush()
        pids = [child.pid for child in children]
        if mount and mount.child:
            pids.append(mount.child.pid)
        while any(child.poll() is None for child in children):
            time.sleep(seconds / SAMPLES)
            if all(child.poll() is None for child in children):
                run.samples.append(sample(store, pids))
        for child in children:
            # The lines of all windows fit into a pipe.
            lines = [json.loads(line) for line in child.communicate()[0].splitlines()]
            run.rounds += sum(line["n"] for line in lines)
            if child is children[0]:
                run.windows = lines
            if child.returncode:
                raise Violation(f"{name}: a worker ended with {child.returncode}")
    except Violation as e:
        run.failures.append(str(e))
    finally:
        for child in children:
            if child.poll() is None:
                child.kill()
            child.wait()
        if mount:
            mount.stop()
        shutil.rmtree(home, ignore_errors=True)
    judge(run, live, seconds)
    return run


def halves(values: list[Any]) -> tuple[list[Any], list[Any]]:
    kept = values[len(values) // 5 :]
    return kept[: len(kept) // 2], kept[len(kept) // 2 :]


def pairs(run: Run) -> dict[str, tuple[float, float]]:
    """Return each figure in the first half and in the second."""
    first, second = halves(run.samples)
    found = {k: (max(s[k] for s in first), max(s[k] for s in second)) for k in first[0]} if first and second else {}
    early, late = halves(run.windows)
    for k in "p50", "p99":
        if early and late:
            found[k] = (min(w[k] / w["plain"] for w in early), min(w[k] / w["plain"] for w in late))
    return found


def judge(run: Run, live: int, seconds: float) -> None:
    for what, (first, second) in pairs(run).items():
        if what in ("file", "sidecar", "p50", "p99") and (seconds < TIMED or run.rounds < ROUNDS):
            continue
        if what == "p99":
            if min(window["n"] for window in run.windows) < ENOUGH:
                continue
            # A delay of plain Python in the same window comes from the machine, not from the store.
            second = min(w["p99"] / w["plain99"] for w in halves(run.windows)[1])
        factor, amount = TOLERANCE[what]
        if second > first * factor + amount:
            run.failures.append(f"{run.name}: {what} grows from {first:,.1f} to {second:,.1f}")
    most = max((s["file"] for s in run.samples), default=0)
    if most > 2 * live + 64 * MIB:
        text = f"the file has {most / MIB:.0f} MiB, with {live / MIB:.0f} MiB of data"
        run.failures.append(f"{run.name}: {text} (P7: twice that and 64 MiB)")


def table(runs: list[Run]) -> None:
    """Return the first and second half of all figures."""
    heads = [("file MiB", "file", MIB), ("sidecar MiB", "sidecar", MIB), ("memory MiB", "rss", MIB)]
    heads += [("descr.", "fds", 1)]
    heads += [("threads", "threads", 1), ("maps", "maps", 1), ("p50 x plain", "p50", 1), ("p99 x plain", "p99", 1)]
    print(f"\n  {'workload':<11}{'rounds':>10} " + "".join(f"{head:>16}" for head, _, _ in heads))
    for run in runs:
        found, cells = pairs(run), []
        for _, key, unit in heads:
            first, second = found.get(key, (0.0, 0.0))
            cells.append(f"{first / unit:.4g} > {second / unit:.4g}")
        print(f"  {run.name:<11}{run.rounds:>10,} " + "".join(f"{cell:>16}" for cell in cells))


def long_runs(seconds: float, mount: bool) -> Result:
    """Run each workload for this long."""
    what = "ten steady workloads: size, memory, descriptors, latency flat"
    seconds = max(LEAST, seconds)
    print(f"== long: {what}, {seconds:.0f} s each", flush=True)
    begin, runs = time.monotonic(), []
    for name in WORKLOADS:
        if name == "mount" and not mount:
            print("   not tried: the workload on the mount", flush=True)
            continue
        runs.append(workload(name, seconds))
        for failure in runs[-1].failures:
            print(f"   VIOLATION: {failure}", flush=True)
    table(runs)
    failed = [run.name for run in runs if run.failures]
    done = f"{len(runs)} workloads, {sum(len(run.samples) for run in runs):,} samples"
    return Result("long", what, time.monotonic() - begin, done, f"grows: {', '.join(failed)}" if failed else "")
