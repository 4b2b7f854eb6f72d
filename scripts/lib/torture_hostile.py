"""Damaged stores through Python and through the mount, and a nesting a million deep: the long forms of tests."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import time

from torture_engine import CARGO, ROOT, Result, environment

# The share of the seconds of all parts.
SHARE = 0.06
TESTS = "tests/system/test_hostile.py"
DEPTH = "tests/python/test_depth.py"


def hostile_doors(seconds: float, mount: bool) -> Result:
    """Run them for about this long; the nested stores take additional time."""
    name, what = "doors", "damaged files through Python and the mount"
    print(f"== {name}: {what}", flush=True)
    tests = [TESTS if mount else f"{TESTS}::test_python", DEPTH]
    env = {
        **environment(),
        "PERSIST_TORTURE_SECONDS": str(max(2, round(seconds / (2 if mount else 1)))),
        "PERSIST_CARGO_TEST": shlex.join(CARGO),
    }
    argv = [sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", *tests]
    begin, failed = time.monotonic(), ""
    try:
        ran = subprocess.run(
            argv, cwd=ROOT, env=env, text=True, timeout=1800 + 8 * seconds, errors="replace",
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip
        output, failed = ran.stdout, "" if ran.returncode == 0 else "a test failed"
    except subprocess.TimeoutExpired as e:
        output = e.stdout.decode(errors="replace") if isinstance(e.stdout, bytes) else e.stdout or ""
        failed = "it did not end"
    if failed:
        print(output)
    passed = sum(int(n) for n in re.findall(r"(\d+) passed", output))
    doors = {door: int(n) for n, door in re.findall(r"(\d+) cases from seed \d+ through (\w.*)", output)}
    done = [f"{passed} tests", *(f"{n:,} through {door}" for door, n in doors.items())]
    if not mount:
        why = "--no-mount" if os.path.exists("/dev/fuse") else "there is no /dev/fuse"
        print(f"not tried: damaged files through the mount ({why})")
        done.append("the mount not tried")
    return Result(name, what, time.monotonic() - begin, ", ".join(done), failed)
