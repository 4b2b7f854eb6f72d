"""The kill torture: writers through Python and the mount are killed at random while the others continue.

After each kill the time to the survivors' next acknowledgement is measured, the dead writer's part of the store is
compared with its model, and the shared part is summed up.
"""

from __future__ import annotations

import contextlib
import random
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from torture_writers import PYTHONS, Mount, PythonWriter, ShellWriter, Violation, fresh, lock_of, row

# Seconds in which every writer makes progress, whatever else the machine does.
MAX_WAIT = 120


class Kills:
    """One run of the kill torture."""

    def __init__(self, home: Path, seed: int, shells: int) -> None:
        import persist

        self.persist = persist
        self.rng = random.Random(seed)
        self.path = home / "torture.store"
        self.mount = Mount(self.path, home / "mnt") if shells else None
        self.pythons = [PythonWriter(home, self.path, i, seed, 100, 0.005) for i in range(PYTHONS)]
        self.shells = [ShellWriter(home, home / "mnt", i) for i in range(shells)]
        self.kills = {"writer": 0, "shell": 0, "mount": 0, "all_processes": 0}
        self.waits: list[float] = []  # ms until a survivor acknowledged again after a kill
        self.idle: list[float] = []  # the same without kills: the delay of the machine itself
        self.checks = 0
        self.store = persist.open(self.path)
        with self.store.transaction():
            root = self.store.root
            root["shared"] = {"total": 0}
            root["locked"] = {"n": 0}
            root["both"] = {"n": 0}
            for w in self.pythons:
                root[w.name] = fresh()
            for s in self.shells:
                root[s.name] = {"n": 0, "m": 0}

    @property
    def measured(self) -> list[Any]:
        return [w for w in self.pythons if lock_of(w.name) == "locked"]

    @property
    def all_processes(self) -> list[Any]:
        return [*self.pythons, *self.shells]

    def start(self) -> None:
        if self.mount:
            self.mount.start()
        for w in self.all_processes:
            w.start()

    def time_survivors(self, survivors: list[Any], begin: float) -> list[float]:
        """Measure how long after `begin` each survivor acknowledges an operation, in ms."""
        before = [w.progress() for w in survivors]
        took: dict[int, float] = {}
        while len(took) < len(survivors):
            now = (time.monotonic() - begin) * 1000
            for i, w in enumerate(survivors):
                if i not in took and w.progress() != before[i]:
                    took[i] = now
            if now > MAX_WAIT * 1000:
                stuck = [w.name for i, w in enumerate(survivors) if i not in took]
                raise Violation(f"{stuck} did not go on within {MAX_WAIT} s of a kill")
            for w in survivors:
                if w.child.poll() is not None:
                    raise Violation(f"{w.name} ended by itself with {w.child.returncode}")
            time.sleep(0.0005)
        return list(took.values())

    def check_shared(self) -> None:
        """Check invariant 2, while all writers continue."""
        with self.store.transaction():
            root = self.store.root
            total = root["shared"]["total"]
            parts = [root[w.name]["shared"] for w in self.pythons]
        if total != sum(parts):
            raise Violation(f"shared total {total}, parts {parts}")
        self.checks += 1

    def check(self, victim: Any) -> None:
        victim.check(self.store.root, self.persist.copy_out)
        self.check_shared()

    def step(self) -> None:
        time.sleep(self.rng.uniform(0.005, 0.08))
        what = self.rng.random()
        if what < 0.2:
            self.idle += self.time_survivors(self.measured, time.monotonic())
            return
        if what < 0.90 or not self.mount:
            victim = self.rng.choice(self.all_processes)
            victim.kill()
            begin = time.monotonic()
            self.waits += self.time_survivors([w for w in self.measured if w is not victim], begin)
            self.kills["shell" if isinstance(victim, ShellWriter) else "writer"] += 1
            self.check(victim)
            victim.start()
        elif what < 0.96:
            self.mount.kill()
            begin = time.monotonic()
            self.waits += self.time_survivors(self.measured, begin)
            self.kills["mount"] += 1
            for s in self.shells:
                s.kill(must_live=False)
            for s in self.shells:
                self.check(s)
            self.mount.start()
            for s in self.shells:
                s.start()
        else:
            self.kill_all()
            self.start()

    def kill_all(self) -> None:
        """Kill all at once, then open the store in a process that had no part in it."""
        self.store.close()
        for w in self.all_processes:
            w.kill()
        if self.mount:
            self.mount.kill()
        self.kills["all_processes"] += 1
        self.store = self.persist.open(self.path)
        for w in self.all_processes:
            self.check(w)
        self.check_locked()

    def check_locked(self) -> None:
        for lock in "locked", "both":
            users = [w for w in self.all_processes if lock_of(w.name) == lock]
            n = self.store.root[lock]["n"]
            acked = sum(w.locked_acked() for w in users)
            doubts = sum(w.doubts for w in users)
            if not acked <= n <= acked + doubts:
                raise Violation(f"{lock}: {n} increments, {acked} acknowledged, {doubts} in doubt")
        self.checks += 1

    def run(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        self.start()
        # The first kill comes when all writers are running.
        self.time_survivors(self.all_processes, time.monotonic())
        while time.monotonic() < end:
            self.step()
        self.kill_all()
        self.store.gc()
        self.store.sync()
        for w in self.pythons:
            w.check(self.store.root, self.persist.copy_out)

    def stop(self) -> None:
        for w in self.all_processes:
            if w.child and w.child.poll() is None:
                with contextlib.suppress(Exception):
                    w.kill()
        if self.mount:
            self.mount.stop()
        self.store.close()


def kill_torture(seconds: float, seed: int, limit: float, late: float, shells: int, keep: bool) -> int:
    home = Path(tempfile.mkdtemp(prefix="persist-torture-"))
    run = Kills(home, seed, shells)
    failed = ""
    try:
        run.run(seconds)
    except Violation as e:
        failed = str(e)
    finally:
        run.stop()
    waits, idle = sorted(run.waits) or [0.0], sorted(run.idle) or [0.0]
    # Delays of all writers without a kill come from the machine, not from the store.
    limit = max(limit, 2 * idle[-1])
    slow = sum(ms > limit for ms in waits)
    too_slow = slow if slow > late * len(waits) else 0
    print(f"kill torture: {seconds:g} s, seed {seed}, {PYTHONS} Python writers, {shells} shells")
    row("operations acknowledged by Python", sum(w.acks()[0] for w in run.pythons))
    row("changes acknowledged by shells", sum(len(s.acked()["n"]) + len(s.acked()["m"]) for s in run.shells))
    row("kills", ", ".join(f"{k}: {v}" for k, v in run.kills.items()))
    row("interrupted operations found whole / absent",
        f"{sum(w.whole for w in run.all_processes)} / {sum(w.absent for w in run.all_processes)}")  # fmt: skip
    row("checks of what is shared", run.checks)
    row("others continued after (ms): median, worst", f"{waits[len(waits) // 2]:.1f}, {waits[-1]:.1f}")
    row("the same without a kill", f"{idle[len(idle) // 2]:.1f}, {idle[-1]:.1f}")
    row(f"waits over {limit:.0f} ms", slow)
    row("violations", (1 if failed else 0) + too_slow)
    if failed:
        print(f"\nVIOLATION: {failed}")
    if failed and keep:
        print(f"kept: {home}")
    else:
        shutil.rmtree(home, ignore_errors=True)
    return 1 if failed or too_slow else 0
