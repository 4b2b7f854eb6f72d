"""The use of damaged stores from Python, each in a separate process: see `test_hostile`.

Run as a program, it reads paths of stores, one a line, and reports the result of each, as JSON.

1. Right data and errors are accepted: errors of persist, of the system, and those that containers raise (KeyError...).
   Not accepted: MemoryError, SystemError, a panic, a signal, too much processor time.
2. Memory that may be allocated (not mapped from the file): what the process had, ALLOWANCE, twice the file.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import re
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import persist

ALLOWANCE = 96 << 20
# Of the process of a mount: the buffers of requests count as what it had.
MOUNT_ALLOWANCE = 16 << 20
# The buffers of a mount's four workers.
BUFFERS = 4 * (16 << 20)
# Seconds of processor time and of elapsed time for a case: many times what a case takes on a slow and busy machine.
CPU = 20
CLOCK = 200.0


class Person(persist.Object):
    """The class of stored objects."""


def data_of(pid: int) -> int:
    """Return the bytes of memory that a process has allocated."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.findall(r"VmData:\s+(\d+) kB", status)[0]) << 10


def limit(path: Path, processor: int) -> None:
    """Limit this process to what a case with this file may take."""
    most = data_of(os.getpid()) + ALLOWANCE + 2 * path.stat().st_size
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    resource.setrlimit(resource.RLIMIT_CPU, (processor, processor + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


class Reading:
    """One opening of a damaged store."""

    def __init__(self, store: persist.Store, most: int) -> None:
        self.store = store
        self.left = most
        self.all: list[Any] = []
        self.is_tree = True

    def entries(self, obj: Any) -> Iterator[Any]:
        if isinstance(obj, persist.List):
            return iter(obj)
        items = obj.items() if isinstance(obj, persist.Dict) else obj.__dict__.items()
        return (part for item in items for part in item)

    def walk(self) -> None:
        """Visit every reachable container; read entries up to a number, as a file can claim any number."""
        met = {}
        waiting: list[Any] = []
        with fine():
            waiting.append(self.store.root)
        while waiting and self.left > 0:
            obj = waiting.pop()
            met[id(obj)] = obj
            self.all.append(obj)
            with fine():
                for value in islice(self.entries(obj), self.left):
                    self.left -= 1
                    if isinstance(value, (persist.Dict, persist.List, persist.Object)):
                        if id(value) in met:
                            self.is_tree = False
                        else:
                            met[id(value)] = value
                            waiting.append(value)
                    elif isinstance(value, (str, bytes)):
                        self.left -= len(value) // 64

    def look(self) -> None:
        """Run operations on containers as wholes."""
        attempt(lambda: persist.copy_out(self.store.root))
        for obj in self.all[:50]:
            # Shared containers are printed and compared once for each path to them, which takes too long, as in Python
            # itself.
            if self.is_tree:
                attempt(repr, obj)
                attempt(lambda obj=obj: obj == persist.copy_out(obj))
            if isinstance(obj, persist.Dict):
                for act in (len, list, dict.fromkeys, lambda d: list(reversed(d)), lambda d: "before" in d):
                    attempt(act, obj)
            elif isinstance(obj, persist.List):
                for act in (len, list, lambda x: x[-1], lambda x: x[1:9:2], lambda x: x.index("x"), sorted):
                    attempt(act, obj)
            else:
                for act in (dir, persist.class_name, lambda o: o.name, lambda o: o.__getstate__()):
                    attempt(act, obj)

    def change(self) -> None:
        """Change the store in some places."""
        step = max(1, len(self.all) // 40)
        for n, obj in enumerate(self.all[::step]):
            other = self.all[n * 7 % len(self.all)]
            with contextlib.ExitStack() as stack, fine():
                if n % 5 == 0:
                    stack.enter_context(self.store.transaction())
                if isinstance(obj, persist.List):
                    obj.append("a text that needs a segment")
                    obj.insert(n % 3, other)
                    obj[0] = {"new": [1, 2, n]}
                    del obj[n % 4 : n % 4 + n]
                    if n % 3 == 0:
                        obj.reverse()
                    if n % 7 == 0:
                        obj.clear()
                elif isinstance(obj, persist.Dict):
                    obj["a key that needs a segment"] = other
                    obj[n] = b"x" * 5000
                    obj["person"] = Person()
                    obj.pop("before", None)
                    obj.popitem()
                    if n % 4 == 1:
                        obj.update({f"key {i}": i for i in range(40)})
                    if n % 7 == 1:
                        obj.clear()
                else:
                    obj.name = other
                    obj.another = n
                    del obj.name
                if n % 10 == 0:
                    raise persist.Error("so that it is rolled back")


@contextlib.contextmanager
def fine() -> Iterator[None]:
    """Accept the allowed errors of damaged data, and no others."""
    try:
        yield
    except (MemoryError, SystemError):
        raise
    except Exception:
        pass


def attempt(act: Callable[..., object], *args: object) -> None:
    with fine():
        act(*args)


def exercise(path: Path) -> None:
    """Open a store, read all of it, write, delete, collect, close; then repeat."""
    most = path.stat().st_size // 4 + 10_000
    for again in (False, True):
        with fine():
            store = persist.open(path, lock_timeout=3, durability="commit" if again else "checkpoint")
            with contextlib.closing(store):
                reading = Reading(store, most)
                reading.walk()
                if reading.left > 0:
                    reading.look()
                snapshots: list[persist.Snapshot] = []
                with fine():
                    snapshots = store.snapshots()
                for snapshot in snapshots:
                    with fine(), store.at(snapshot.name) as kept:
                        Reading(kept, most).walk()
                reading.change()
                for act in (store.gc, store.stat, store.sync):
                    attempt(act)
                attempt(store.snapshot, "another")
                for snapshot in snapshots[:1]:
                    attempt(store.drop_snapshot, snapshot.name)
                # Without references the pins are released, and unreachable containers are freed.
                reading.all.clear()
                attempt(store.gc)


def case(path: Path) -> str:
    """Return the failure of a case; empty if it succeeded. Runs in a separate process."""
    log = path.with_suffix(".log")
    begin = time.monotonic()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            os.dup2(out, 2)
            faulthandler.enable()
            faulthandler.register(signal.SIGXCPU, chain=True)
            faulthandler.dump_traceback_later(CLOCK - 5, exit=True)
            limit(path, CPU)
            exercise(path)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            break
        if time.monotonic() - begin > CLOCK:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            status = -1
            break
        time.sleep(0.002)
    said = log.read_text(errors="replace")
    log.unlink()
    if status == 0 and "panicked" not in said:
        return ""
    how = "it hangs" if status == -1 else f"it ended with {os.waitstatus_to_exitcode(status)}"
    return f"{how}\n{said[-4000:]}"


def main() -> None:
    for line in sys.stdin:
        print(json.dumps(case(Path(line.rstrip("\n")))), flush=True)


if __name__ == "__main__":
    main()
