"""A writer in Python and a reader in the mount, in step (tests/system/steps.py), with the daemon stopped in between."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from torture_engine import ROOT, Result

# The share of the seconds of all parts.
SHARE = 0.05
# Rounds between two stops of the daemon.
STOPS = 2000


def stale(seconds: float, seed: int, rounds: int = 1_000_000) -> Result:
    """Run for this long, or this many rounds."""
    what = "a reader in the mount in step with a writer in Python; the daemon stopped in between"
    print(f"== stale: {what}", flush=True)
    sys.path.insert(0, str(ROOT / "tests/system"))
    import persist
    from steps import Steps

    begin, done, failed = time.monotonic(), 0, ""
    with tempfile.TemporaryDirectory() as place:
        store, mnt = Path(place) / "s.store", Path(place) / "mnt"
        mnt.mkdir()
        # Half of the time, what was wanted is leased again at once: more is kept, and less is skipped.
        argv = [str(Path(sys.executable).parent / "mount.persist"), "-F", str(store), str(mnt)]
        env = {**os.environ, "PERSIST_LEASES": "eager" if seed % 2 else ""}
        quiet = subprocess.DEVNULL
        with persist.open(store) as opened, subprocess.Popen(argv, env=env, stderr=quiet) as daemon:
            while not os.path.ismount(mnt):
                time.sleep(0.01)
            steps = Steps(opened, mnt, seed, daemon.pid)
            try:
                while done < rounds and time.monotonic() - begin < seconds:
                    done += 1
                    if done % STOPS == 0:
                        steps.stopped_round()
                    else:
                        steps.round()
            except AssertionError as e:
                print(f"VIOLATION: seed {seed}, round {done}: {e}")
                failed = "a violation"
            finally:
                steps.close()
                subprocess.run(["umount", str(mnt)], check=False)
        looks, slowest = steps.looks, steps.slowest
    told = f"{done:,} rounds, {looks:,} looks, slowest change {slowest:.2f} s"
    return Result("stale", what, time.monotonic() - begin, told, failed)
