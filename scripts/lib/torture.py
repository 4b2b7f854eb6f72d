"""Torture of every kind; every result is checked, and one table shows them all."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time

import torture_engine
from torture_engine import PARTS, Result
from torture_hostile import SHARE as HOSTILE_SHARE, hostile_doors
from torture_kill import kill_torture
from torture_long import DEFAULT as LONG, SHARE as LONG_SHARE, long_runs
from torture_long_work import WORKLOADS
from torture_mount import SHARE as MOUNT_SHARE, mount_torture
from torture_power import power_torture
from torture_programs import SHARE as PROGRAMS_SHARE, programs
from torture_real import real_torture
from torture_stale import SHARE as STALE_SHARE, stale

SHELLS = 2
# For each store on a real filesystem: the number of images after the work, and the seconds of work.
IMAGES, WORK = 25, 1
REAL_SHARE = 0.1
SHOWN = ("images", "not mounted by the filesystem")


def doors(a: argparse.Namespace, mode: str, seconds: float) -> Result:
    """Run the parts that use Python and the mount."""
    begin = time.monotonic()
    if mode == "kill":
        what = "writers through both doors, killed at random"
        shells = 0 if a.no_mount or not os.path.exists("/dev/fuse") else SHELLS
        failed = kill_torture(seconds, a.seed, a.limit, a.late, shells, a.keep)
    else:
        what = "power cuts under Python writers"
        failed = power_torture(seconds, a.seed, a.keep)
    took = time.monotonic() - begin
    return Result(mode, what, took, "see above", "a violation" if failed else "")


def verdict(result: Result) -> str:
    """Return the text for the column of violations: "0" only if something was tested."""
    return result.failed or ("not tried" if result.done.startswith("not tried") else "0")


def real(a: argparse.Namespace, seconds: float) -> Result:
    """Run power failures under real filesystems."""
    what = "power cuts under ext4 and XFS, on a disk that logs its writes and flushes"
    print(f"== real: {what}", flush=True)
    begin = time.monotonic()
    result = real_torture(seconds, a.seed, IMAGES, WORK, os.getcwd() if a.keep else "")
    counts, untried = result["counts"], result["untried"]
    done = [f"{n:,} {name}" for name, n in counts.items() if n and (name in SHOWN or name.startswith("on "))]
    done += [f"not tried: {untried}"] if untried else []
    if result["failed"]:
        print(f"\nVIOLATION: {result['failed']}")
    failed = "a violation" if result["failed"] else ""
    return Result("real", what, time.monotonic() - begin, ", ".join(done), failed)


def fresh() -> Result:
    """Run setup and the demonstration on fresh machines. Not a part of all: it downloads whole Debians."""
    what = "setup and demo in minimal Debians, as root and as a user"
    begin, argv = time.monotonic(), [sys.executable, str(torture_engine.ROOT / "tests/fresh/fresh.py")]
    with subprocess.Popen(argv, text=True, stdout=subprocess.PIPE) as child:
        lines = []
        for line in child.stdout or ():
            print(line, end="", flush=True)
            lines.append(line.strip())
    failed = "a step failed" if child.returncode else ""
    return Result("fresh", what, time.monotonic() - begin, lines[-1] if lines else "", failed)


def main() -> int:
    engine = {part.name: part for part in PARTS}
    p = argparse.ArgumentParser(prog="torture", description="Torture of every kind, told in one table.")
    p.add_argument(
        "mode",
        nargs="?",
        choices=["all", "engine", "kill", "power", "mount", "programs", "long", "real", "fuzz", "fresh", *engine],
        default="all",
    )
    p.add_argument("seconds", nargs="?", type=float, help="of all together (60); of each workload of long (600)")
    p.add_argument("--seed", type=int, default=int(time.time()))
    p.add_argument("--limit", type=float, default=100, help="ms within which the others must go on")
    p.add_argument("--late", type=float, default=0, help="share of waits that may be longer")
    p.add_argument("--no-mount", action="store_true", help="Python writers only")
    p.add_argument("--keep", action="store_true", help="keep the store after a violation")
    p.add_argument(
        "--every", action="store_true", help="every store (an hour) and instruction (days) of every operation"
    )
    a = p.parse_args()
    if a.seconds is None:
        a.seconds = LONG if a.mode == "long" else 60
    mount = not a.no_mount and os.path.exists("/dev/fuse")
    if a.mode in ("all", "engine"):
        parts = PARTS
    else:
        parts = [engine[a.mode]] if a.mode in engine else []
    seconds = a.seconds
    if len(parts) == 1 and parts[0].share:
        seconds /= parts[0].share
    if a.mode == "hostile":
        seconds /= 2
    torture_engine.build(parts)
    results = []
    for part in parts:
        print(f"== {part.name}: {part.what}", flush=True)
        results.append(torture_engine.run(part, seconds, a.every))
    if a.mode in ("all", "hostile"):
        share = 0.5 if a.mode == "hostile" else HOSTILE_SHARE
        results.append(hostile_doors(a.seconds * share, mount))
    if a.mode in ("all", "mount"):
        results.append(mount_torture(a.seconds if a.mode == "mount" else a.seconds * MOUNT_SHARE, a.seed, mount))
    if a.mode in ("all", "programs"):
        results.append(programs(a.seconds if a.mode == "programs" else a.seconds * PROGRAMS_SHARE, a.seed))
    if a.mode in ("all", "long"):
        each = a.seconds if a.mode == "long" else a.seconds * LONG_SHARE / len(WORKLOADS)
        results.append(long_runs(each, mount))
    if a.mode == "mount" or (a.mode == "all" and mount):
        results.append(stale(a.seconds if a.mode == "mount" else a.seconds * STALE_SHARE, a.seed))
    for mode in ("kill", "power"):
        if a.mode in ("all", mode):
            results.append(doors(a, mode, a.seconds if a.mode == mode else a.seconds * 0.1))
    if a.mode in ("all", "real"):
        results.append(real(a, a.seconds if a.mode == "real" else a.seconds * REAL_SHARE))
    if a.mode in ("all", "engine", "fuzz"):
        share = 1 if a.mode == "fuzz" else torture_engine.FUZZ_SHARE
        results.append(torture_engine.fuzz(a.seconds * share))
    if a.mode == "fresh":
        results.append(fresh())
    print(f"\n{'part':10} {'time':>7}  {'violations':<12} {'done':<44} what")
    for r in results:
        print(f"{r.name:10} {r.seconds:5.0f} s  {verdict(r):<12} {r.done:<44} {r.what}")
    failed = [r.name for r in results if r.failed]
    print(f"\nviolations: {', '.join(failed) if failed else 0}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
