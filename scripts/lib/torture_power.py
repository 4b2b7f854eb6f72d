"""The power torture: images that a disk may hold after a power failure, made from a store in use.

Everything that a checkpoint reaches was flushed before it, and is not written while it is one of the last two. Whatever
the disk holds of later writes, old, new or garbage in each sector, the store must therefore open at that checkpoint. An
image is built from two copies of the file in use: the first after a `sync()`, the second a moment later. Each sector
comes from either copy; where they differ it may be garbage instead.

1. The meta pages come from the first copy, so the image's newest checkpoint is the one that `sync()` made, or one up to
   the first copy. If more than one was made since, the image proves nothing: the pages may legally be in use again.
2. A torn newest meta page must lead to the checkpoint before it.
3. The graph in the image equals each writer's model at one number of operations: at least those acknowledged before the
   `sync()`, at most those begun by the end of the second copy.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import tempfile
import time
from pathlib import Path

from torture_writers import PYTHONS, Nothing, PythonWriter, Violation, act, fresh, row

SECTOR = 512
META = 2 * 4096
# The minimal number of judged images, however long they take.
LEAST = 12
# Few operations between two images, so that the model can be compared at each of them.
PAUSE = 0.001


class States:
    """A writer's model at every number of operations from the last relevant one."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.first = 0
        self.texts = [json.dumps(fresh())]
        self.model = fresh()

    def upto(self, last: int) -> None:
        while self.first + len(self.texts) <= last:
            act(self.seed, self.first + len(self.texts) - 1, self.model, Nothing())
            self.texts.append(json.dumps(self.model))

    def forget(self, before: int) -> None:
        drop = max(0, before - self.first)
        del self.texts[:drop]
        self.first += drop

    def find(self, text: str, lowest: int) -> bool:
        return text in self.texts[lowest - self.first :]


class Power:
    def __init__(self, home: Path, seed: int) -> None:
        import persist

        self.persist = persist
        self.rng = random.Random(seed)
        self.home = home
        self.path = home / "power.store"
        self.writers = [PythonWriter(home, self.path, i, seed, 1, PAUSE) for i in range(PYTHONS)]
        self.states = {w.name: States(w.seed) for w in self.writers}
        self.images = self.torn = self.void = self.garbage = 0
        self.store = persist.open(self.path)
        with self.store.transaction():
            root = self.store.root
            root["shared"] = {"total": 0}
            root["locked"] = {"n": 0}
            root["both"] = {"n": 0}
            for w in self.writers:
                root[w.name] = fresh()
        # Both meta pages describe a store that contains this.
        self.store.sync()
        self.store.root["begun"] = True
        self.store.sync()

    def done(self) -> dict[str, int]:
        return {w.name: w.acks()[0] for w in self.writers}

    def mix(self, old: bytes, new: bytes) -> bytearray:
        """Make each sector old, new or, where they differ, garbage; keep the meta pages old."""
        image = bytearray(new[: max(len(old), len(new))])
        image.extend(old[len(image) :])
        image[:META] = old[:META]
        for at in range(META, len(image), SECTOR):
            a, b = old[at : at + SECTOR], new[at : at + SECTOR]
            if a == b:
                continue
            choice = self.rng.randrange(5)
            if choice < 2 and len(a) == SECTOR:
                image[at : at + SECTOR] = a
            elif choice == 2:
                image[at : at + SECTOR] = self.rng.randbytes(len(image[at : at + SECTOR]))
                self.garbage += 1
        return image

    def judge(self, image: bytearray, lowest: dict[str, int]) -> None:
        path = self.home / "image.store"
        path.write_bytes(image)
        try:
            with self.persist.open(path) as store:
                graph = self.persist.copy_out(store.root)
                store.gc()
                # The store works like any other.
                store.root["after"] = {"the": "cut"}
        except (OSError, ValueError, KeyError, self.persist.Error) as e:
            raise Violation(f"an image could not be opened: {e!r}") from e
        finally:
            for name in os.listdir(self.home):
                if name.startswith("image.store"):
                    (self.home / name).unlink()
        for w in self.writers:
            got = json.dumps(graph.get(w.name))
            if not self.states[w.name].find(got, lowest[w.name]):
                raise Violation(f"{w.name} is at no state from {lowest[w.name]} on: {got[:2000]}")
        parts = [graph[w.name]["shared"] for w in self.writers]
        if graph["shared"]["total"] != sum(parts):
            raise Violation(f"shared total {graph['shared']['total']}, parts {parts}")

    def step(self, before: dict[str, int]) -> dict[str, int]:
        """Run one sync and judge the images after it. `before`: the state before the previous sync."""
        lowest = self.done()
        self.store.sync()
        number = self.store.stat()["checkpoint"]
        old = self.path.read_bytes()
        time.sleep(self.rng.choice([0, 0.005, 0.05, 0.15]))
        new = self.path.read_bytes()
        later = self.store.stat()["checkpoint"]
        for w, n in zip(self.writers, self.done().values()):
            self.states[w.name].upto(n + 1)
        if later > number + 1:
            self.void += 1
        else:
            for _ in range(3):
                self.judge(self.mix(old, new), lowest)
                self.images += 1
            if later == number:
                torn = self.mix(old, new)
                newest = 4096 * (number % 2)
                cut = SECTOR * self.rng.randrange(8)
                torn[newest + cut : newest + 4096] = self.rng.randbytes(4096 - cut)
                self.judge(torn, before)
                self.torn += 1
        for name, n in before.items():
            self.states[name].forget(n)
        return lowest

    def run(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        for w in self.writers:
            w.start()
        before = self.done()
        while self.images < LEAST or time.monotonic() < end:
            before = self.step(before)
            for w in self.writers:
                if w.child and w.child.poll() is not None:
                    raise Violation(f"{w.name} ended by itself with {w.child.returncode}")

    def stop(self) -> None:
        for w in self.writers:
            if w.child and w.child.poll() is None:
                with contextlib.suppress(Exception):
                    w.kill()
        self.store.close()


def power_torture(seconds: float, seed: int, keep: bool) -> int:
    home = Path(tempfile.mkdtemp(prefix="persist-torture-"))
    run = Power(home, seed)
    failed = ""
    try:
        run.run(seconds)
    except Violation as e:
        failed = str(e)
    finally:
        run.stop()
    print(f"power torture: {seconds:g} s, seed {seed}, {PYTHONS} Python writers")
    row("operations acknowledged", sum(run.done().values()))
    row("images opened and compared", run.images)
    row("of sectors in them made garbage", run.garbage)
    row("with a torn newest meta page", run.torn)
    row("rounds overtaken by checkpoints", run.void)
    row("violations", 1 if failed else 0)
    if failed:
        print(f"\nVIOLATION: {failed}")
    if failed and keep:
        print(f"kept: {home}")
    else:
        shutil.rmtree(home, ignore_errors=True)
    return 1 if failed else 0
