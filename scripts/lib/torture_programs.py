"""Random programs over the Python API beside a model (tests/python/random_programs.py), in several processes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time

from torture_engine import ROOT, Result

# The share of the seconds of all parts.
SHARE = 0.1


def programs(seconds: float, seed: int) -> Result:
    """Run them for this long, with processes killed in half of the workers."""
    what = "random programs over the Python API; killed in the middle"
    print(f"== programs: {what}", flush=True)
    script, workers = ROOT / "tests/python/random_programs.py", max(2, os.cpu_count() or 1)
    begin, children = time.monotonic(), []
    for n in range(workers):
        argv = [sys.executable, str(script), str(max(2, seconds)), "--seed", str(seed * 1_000_000 + n)]
        argv += ["--every", str(workers)] + (["--kills"] if n % 2 else [])
        children.append(subprocess.Popen(argv, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT))
    totals, failed = [0, 0, 0], ""
    left_out: set[str] = set()
    for child in children:
        try:
            output = child.communicate(timeout=seconds + 900)[0]
        except subprocess.TimeoutExpired:
            child.kill()
            output, failed = child.communicate()[0], "it did not end"
        for found in re.findall(r"^(\d+) programs of (\d+) steps, (\d+) kills", output, re.M):
            totals = [total + int(n) for total, n in zip(totals, found)]
        left_out.update(re.findall(r"^not tried: (.*)", output, re.M))
        if child.returncode:
            print(output)
            failed = failed or "a program failed"
    for what_not in sorted(left_out):
        print(f"   not tried: {what_not}", flush=True)
    done = f"{totals[0]:,} programs, {totals[1]:,} steps, {totals[2]:,} kills"
    done += f", {len(left_out)} not tried" if left_out else ""
    return Result("programs", what, time.monotonic() - begin, done, failed)
