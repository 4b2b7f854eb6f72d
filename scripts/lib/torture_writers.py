"""Shared code of the tortures: the writers, the model that judges them, and how they are run.

1. A writer's operations derive from its seed and their number alone, and apply through one function to the store and to
   a plain model. At any time the store must therefore equal the model after the last acknowledged operation, or after
   the interrupted one: completely, or not at all.
2. The shared part is checked by sums. A transaction keeps `total` equal to the sum of its parts. The increments under a
   lock are at least the acknowledged ones, and exceed them at most by those in doubt.
3. Acknowledgements are kept outside the store, in files that outlive the writer.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

PYTHONS = 3
MOUNT = Path(sys.executable).parent / "mount.persist"
ACK = struct.Struct("<QQ")  # operations done, of which increments under the lock


def fresh() -> dict[str, Any]:
    return {"count": 0, "list": [], "dict": {}, "a": 1000, "b": 0, "tree": {}, "text": "", "shared": 0}


def act(seed: int, n: int, node: Any, world: Any) -> bool:
    """Run operation number `n` of a writer on its node. Return True if it was an increment under the lock. `world`
    applies the shared part; for the model it does nothing."""
    rng = random.Random(seed * 1_000_003 + n)
    kind = rng.randrange(14)
    if kind == 0:
        node["count"] = n
    elif kind == 1:
        node["list"].append([n, {"text": "x" * rng.randrange(50)}])
    elif kind == 2:
        if len(node["list"]) > 40:
            node["list"].pop(rng.randrange(len(node["list"])))
        else:
            node["list"].insert(0, n)
    elif kind == 3:
        at = rng.randrange(20)
        node["list"][at : at + rng.randrange(8)] = [n, [n]] * rng.randrange(4)
    elif kind == 4:
        node["dict"][f"k{rng.randrange(60)}"] = n
    elif kind == 5:
        node["dict"].pop(f"k{rng.randrange(60)}", None)
    elif kind == 6:
        node["dict"].update({f"u{i}": [n, i] for i in range(rng.randrange(10))})
    elif kind == 7:
        if rng.randrange(10) == 0:
            node["dict"].clear()
        else:
            node["dict"].setdefault(f"s{rng.randrange(5)}", {"n": n})
    elif kind == 8:
        node["tree"] = {f"t{i}": {"n": n, "list": list(range(i))} for i in range(rng.randrange(12))}
    elif kind == 9:
        node["text"] = chr(97 + n % 26) * rng.choice([0, 7, 200, 5000, 30_000])
    elif kind in (10, 11):
        with world.transaction():
            x = rng.randrange(50)
            node["a"] -= x
            node["b"] += x
            node["list"].append(x)
            node["tree"] = {"a": node["a"]}
            if kind == 11:
                del node["list"][30:]
    elif kind == 12:
        with world.transaction():
            node["shared"] += 1
            world.add_shared()
    else:
        world.locked_increment()
        return True
    return False


class Nothing:
    """The shared part for a model."""

    def transaction(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def add_shared(self) -> None:
        pass

    def locked_increment(self) -> None:
        pass


def lock_of(name: str) -> str:
    """Return the container whose lock a writer uses. The first writer shares one with the shells; the others do not
    wait for shells, so that their waits depend on the store only."""
    return "both" if name == "p0" or name.startswith("s") else "locked"


class World:
    """The shared part for a writer."""

    def __init__(self, store: Any, name: str) -> None:
        self.transaction = store.transaction
        self.shared = store.root["shared"]
        self.locked = store.root[lock_of(name)]

    def add_shared(self) -> None:
        self.shared["total"] += 1

    def locked_increment(self) -> None:
        self.locked.lockExcl()
        self.locked["n"] = self.locked["n"] + 1
        self.locked.unlock()


def writer(path: str, name: str, seed: int, ack: str, burst: int, pause: float) -> None:
    """Run a Python writer: continue after the state in its acknowledgement file, until killed. It pauses after each
    burst, since the model has to repeat every operation, and is not faster."""
    import persist

    store = persist.open(path)
    node = store.root[name]
    world = World(store, name)
    fd = os.open(ack, os.O_RDWR)
    n, locked = ACK.unpack(os.pread(fd, ACK.size, 0))
    while True:
        locked += act(seed, n, node, world)
        n += 1
        os.pwrite(fd, ACK.pack(n, locked), 0)
        if n % burst == 0:
            time.sleep(pause)


# A shell's own echo ignores the result of close(): /bin/echo does not.
SHELL = """
ulimit -c 0
mnt=$1 name=$2 ack=$3 n=$4
rm -f "$mnt/$name/.tmp" || exit 1
while :; do
    n=$((n + 1))
    /bin/echo $n >"$mnt/$name/n" || exit 1
    echo "n $n" >>"$ack"
    /bin/echo $n >"$mnt/$name/.tmp" && mv "$mnt/$name/.tmp" "$mnt/$name/m" || exit 1
    echo "m $n" >>"$ack"
    flock "$mnt/both/.persist.lock" bash -c '
        l=$(cat "$1/both/n") && /bin/echo $((l + 1)) >"$1/both/n" && echo "l 1" >>"$2"' bash "$mnt" "$ack" || exit 1
done
"""


class Violation(Exception):
    pass


class PythonWriter:
    def __init__(self, home: Path, store: Path, index: int, seed: int, burst: int, pause: float) -> None:
        self.pace = (burst, pause)
        self.name = f"p{index}"
        self.seed = seed * 100 + index
        self.store = store
        self.ack = home / f"{self.name}.ack"
        self.ack.write_bytes(ACK.pack(0, 0))
        self.model = fresh()
        self.modelled = 0
        self.doubts = 0  # kills during an increment under the lock
        self.whole = self.absent = 0
        self.child: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        argv = [sys.executable, __file__, self.store, self.name, self.seed, self.ack, *self.pace]
        self.child = subprocess.Popen([*map(str, argv)], stdin=subprocess.DEVNULL)

    def acks(self) -> tuple[int, int]:
        n, locked = ACK.unpack(self.ack.read_bytes())
        return n, locked

    def progress(self) -> int:
        return self.acks()[0]

    def kill(self) -> None:
        assert self.child
        if self.child.poll() is not None:
            raise Violation(f"{self.name} ended by itself with {self.child.returncode}")
        self.child.kill()
        self.child.wait()

    def check(self, root: Any, copy_out: Any) -> None:
        """Check invariant 1. The writer is dead."""
        n, locked = self.acks()
        while self.modelled < n:
            act(self.seed, self.modelled, self.model, Nothing())
            self.modelled += 1
        got = json.dumps(copy_out(root[self.name]))
        before = json.dumps(self.model)
        after_model = json.loads(before)
        was_locked = act(self.seed, n, after_model, Nothing())
        after = json.dumps(after_model)
        if got == before:
            self.absent += 1
            self.doubts += was_locked
        elif got == after:
            self.whole += 1
            self.model, self.modelled = after_model, n + 1
            self.ack.write_bytes(ACK.pack(n + 1, locked))
        else:
            raise Violation(
                f"{self.name} after {n}: got {got[:2000]}\nneither {before[:2000]}\nnor {after[:2000]}"
            )

    def locked_acked(self) -> int:
        return self.acks()[1]


class ShellWriter:
    def __init__(self, home: Path, mnt: Path, index: int) -> None:
        self.name = f"s{index}"
        self.mnt = mnt
        self.ack = home / f"{self.name}.ack"
        self.ack.touch()
        self.next = 0
        self.doubts = 0
        self.whole = self.absent = 0
        self.child: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.child = subprocess.Popen(
            ["bash", "-c", SHELL, "bash", str(self.mnt), self.name, str(self.ack), str(self.next)],
            stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip

    def acked(self) -> dict[str, list[int]]:
        rows = [row.split() for row in self.ack.read_text().split("\n")[:-1]]
        return {what: [int(n) for w, n in rows if w == what] for what in "nml"}

    def progress(self) -> int:
        return self.ack.stat().st_size

    def kill(self, must_live: bool = True) -> None:
        assert self.child
        if must_live and self.child.poll() is not None:
            raise Violation(f"the shell {self.name} failed by itself with {self.child.returncode}")
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.child.pid, signal.SIGKILL)
        self.child.wait()
        self.doubts += 1

    def check(self, root: Any, copy_out: Any) -> None:
        acked = self.acked()
        got = copy_out(root[self.name])
        n = acked["n"][-1] if acked["n"] else 0
        m = acked["m"][-1] if acked["m"] else 0
        for key, said in ("n", n), ("m", m):
            # A kill may fall between the change and its acknowledgement; a restart continues after both.
            if type(got[key]) is not int or not said <= got[key] <= max(said, self.next) + 1:
                raise Violation(f"{self.name}: {key} is {got[key]!r}, acknowledged was {said}")
        self.whole += got["n"] > n
        self.absent += got["n"] == n
        self.next = max(got["n"], got["m"])

    def locked_acked(self) -> int:
        return len(self.acked()["l"])


class Mount:
    def __init__(self, store: Path, point: Path) -> None:
        self.store, self.point = store, point
        self.child: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.point.mkdir(exist_ok=True)
        self.child = subprocess.Popen(
            # Shells wait for locks without a limit.
            [MOUNT, str(self.store), str(self.point), "--foreground", "-o", "create,lockwait=120"],
            stdin=subprocess.DEVNULL,
        )
        end = time.monotonic() + 100
        while not os.path.ismount(self.point):
            if self.child.poll() is not None or time.monotonic() > end:
                raise Violation("the store could not be mounted")
            time.sleep(0.01)

    def kill(self) -> None:
        assert self.child
        self.child.kill()
        self.child.wait()
        subprocess.run(["umount", "-l", str(self.point)], capture_output=True, check=False)

    def stop(self) -> None:
        if self.child and self.child.poll() is None:
            subprocess.run(["umount", "-l", str(self.point)], capture_output=True, check=False)
            try:
                self.child.wait(timeout=100)
            except subprocess.TimeoutExpired:
                self.kill()


def row(name: str, value: object) -> None:
    print(f"  {name:<46} {value}")


if __name__ == "__main__":
    writer(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4], int(sys.argv[5]), float(sys.argv[6]))
