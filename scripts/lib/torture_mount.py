"""Random programs of system calls on the mount and on a tmpfs, with remounts and kills of the mount's process."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time

from torture_engine import ROOT, Result, environment

# The share of the seconds of all parts.
SHARE = 0.05
TEST = "tests/mount/test_differential.py"


def mount_torture(seconds: float, seed: int, mount: bool) -> Result:
    """Run programs from this seed on for about this long."""
    name, what = "mount", "random system calls by several processes: the mount beside a tmpfs, with kills and remounts"
    print(f"== {name}: {what}", flush=True)
    why = "--no-mount or no /dev/fuse" if not mount else "it needs root" if os.geteuid() != 0 else ""
    if why:
        return Result(name, what, 0, f"not tried: {why}", "")
    env = {**environment(), "PERSIST_TORTURE_SECONDS": str(seconds), "PERSIST_SEED": str(seed)}
    env["PERSIST_MOUNT_PATIENCE"] = str(seconds + 600)
    begin, failed = time.monotonic(), ""
    argv = [sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", TEST]
    try:
        ran = subprocess.run(
            argv, cwd=ROOT, env=env, text=True, timeout=1800 + 2 * seconds, errors="replace",
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip
        output, failed = ran.stdout, "" if ran.returncode == 0 else "a difference"
    except subprocess.TimeoutExpired as e:
        output = e.stdout.decode(errors="replace") if isinstance(e.stdout, bytes) else e.stdout or ""
        failed = "it did not end"
    if failed:
        print(output)
    steps = sum(int(n) for n in re.findall(r"(\d+) steps from seed", output))
    return Result(name, what, time.monotonic() - begin, f"{steps:,} system calls", failed)
