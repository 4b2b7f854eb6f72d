"""Power failures under real filesystems: ext4 and XFS on a disk that logs every write and flush.

Several processes work on a store on such a filesystem. Then images of the possible disk contents after a power failure
are made from the log, at any write. Each is mounted, so that the filesystem replays its own journal, and the store in
it

1. opens (with the remains of its sidecar and log) at a checkpoint no older than the last that was reported to a
   process, and passes `persist check`;
2. holds the model at one moment, no earlier than the last `sync()` or `snapshot()` that had returned; with durability
   "commit": with every acknowledged operation;
3. has exactly the snapshots that were taken and not dropped, each of them whole;
4. can be changed, synced, closed and checked again; with durability "checkpoint": all images that open at one
   checkpoint hold the same.

    torture_real.py SECONDS [--seed N] [--images N] [--work SECONDS] [--keep DIR] [--lie]

prints its progress, and as the last line JSON for `scripts/torture`. With `--lie` the disk loses recent flushes, and a
violation must be found.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

import torture_real_work as work
from torture_real_disk import KINDS, Image, Kind, Log, LoggedDisk, Refused, Trouble, run, why_not
from torture_writers import Violation

ROOT = Path(__file__).resolve().parents[2]
PERSIST = Path(sys.executable).parent / "persist"
# A filesystem may refuse an image (damaged where it has no copy): at most this many of a hundred.
REFUSED_MOST = 5
DURABILITIES = ("checkpoint", "commit")


class Round:
    """One store's life on one filesystem, and the images of it."""

    def __init__(self, home: Path, kind: Kind, durability: str, seed: int, program: Path, lie: bool) -> None:
        self.home, self.kind, self.durability, self.program = home, kind, durability, program
        self.rng = random.Random(seed)
        self.seed, self.lie = seed, lie
        self.images = self.refused = self.snapshots = self.unmade = 0
        # The state found at a checkpoint and in a snapshot: the same in every image.
        self.seen: dict[object, str] = {}

    def live(self, seconds: float) -> None:
        with LoggedDisk(self.home, self.program, self.kind) as disk:
            path = disk.point / "a.store"
            work.make(path)
            disk.tell("made")
            seeds = work.work(path, self.program, self.seed, self.durability, seconds, disk.mark)
            disk.tell("closed")
        self.log = Log(disk.log, self.home, self.kind.size, self.lie)
        marks = list(self.log.marks())
        self.first = next(i for i, what in marks if what == "begin")
        self.history = work.History(marks, seeds, self.durability == "commit")

    def cuts(self, n: int) -> list[int]:
        """Choose the places of power failures: anywhere, often just after a report to a process."""
        last = len(self.log.records)
        told = [i for i, what in self.history.marks if i > self.first]
        ended = [i for i, what in self.history.marks if " ended " in what or what in ("made", "closed")]
        made = next(i for i, what in self.history.marks if what == "made")
        cuts = [self.rng.randrange(self.first + 1, made + 1)]
        for _ in range(n - 1):
            lot = self.rng.random()
            if lot < 0.4:
                cuts.append(self.rng.randrange(self.first + 1, last + 1))
            else:
                at = self.rng.choice(told if lot < 0.7 else ended)
                cuts.append(min(last, at + 1 + self.rng.choice([0, 0, 1, 3, 10])))
        return sorted(cuts)

    def judge_all(self, n: int) -> None:
        for cut in self.cuts(n):
            self.history.advance(cut)
            file = self.home / "image"
            how = self.log.image(cut, file, self.rng)
            what = f"{self.kind.name}, {self.durability}, seed {self.seed}, cut at {cut}: {how}"
            faulthandler.dump_traceback_later(300, exit=True)
            try:
                with Image(file, self.kind, self.home / "image.mnt") as point:
                    self.judge(point / "a.store", what)
                self.images += 1
            except Refused as e:
                print(f"  {what}: not mounted: {e}", flush=True)
                self.refused += 1
            except (OSError, ValueError, KeyError) as e:
                raise Violation(f"{what}: {e!r}") from e
            finally:
                faulthandler.cancel_dump_traceback_later()
        if not self.lie and self.refused * 100 > max(self.images, 20) * REFUSED_MOST:
            raise Trouble(f"{self.kind.name} did not mount {self.refused} of {self.images + self.refused} images")

    def judge(self, path: Path, what: str) -> None:
        import persist

        history = self.history
        if not history.made:
            # The store was being created: if it exists it opens, with all or none of its first content.
            self.unmade += 1
            if path.exists():
                with persist.open(path) as store:
                    graph = persist.copy_out(store.root)
                    if graph:
                        history.compare(graph, history.sure, what)
                check(path, what)
            return
        durability = self.rng.choice(DURABILITIES)
        try:
            with persist.open(path, durability=durability) as store:
                number = store.stat()["checkpoint"]
                graph = persist.copy_out(store.root)
                history.compare(graph, history.sure, what)
                # An opening with durable commits begins with a checkpoint of the existing state: its number differs.
                if durability == "checkpoint":
                    if number < history.checkpoint:
                        raise Violation(f"{what}: opened at checkpoint {number}, {history.checkpoint} was synced")
                    if self.durability == "checkpoint":
                        self.same(number, graph, what)
                self.judge_snapshots(store, what)
                after = self.rng.random() < 0.5
                if after:
                    self.proceed(store)
        except persist.Error as e:
            raise Violation(f"{what}: {e!r}") from e
        check(path, what)
        with persist.open(path, mode="r") as store:
            again = persist.copy_out(store.root)
            if after != (again.pop("after", None) == {"the": "cut"}):
                raise Violation(f"{what}: what was written after the cut is wrong")
            if again != graph:
                raise Violation(f"{what}: closed and opened it is another")

    def same(self, key: object, graph: dict[str, Any], what: str) -> None:
        text = json.dumps(graph)
        if self.seen.setdefault(key, text) != text:
            raise Violation(f"{what}: {key} was another in another image")

    def judge_snapshots(self, store: Any, what: str) -> None:
        import persist

        history, found = self.history, {s.name for s in store.snapshots()}
        if not history.there <= found <= history.there | history.perhaps:
            raise Violation(
                f"{what}: snapshots {sorted(found)}, must be {sorted(history.there)}, may be {sorted(history.perhaps)}"
            )
        for name in sorted(found):
            with store.at(name) as kept:
                graph = persist.copy_out(kept.root)
            history.compare(graph, history.least[name], f"{what}: snapshot {name}")
            self.same(name, graph, what)
            self.snapshots += 1

    def proceed(self, store: Any) -> None:
        """The store works like any other."""
        store.gc()
        for s in store.snapshots():
            if self.rng.random() < 0.3:
                store.drop_snapshot(s.name)
        store.root["after"] = {"the": "cut"}
        store.sync()


def check(path: Path, what: str) -> None:
    done = subprocess.run([PERSIST, "check", path], capture_output=True, text=True, timeout=300, check=False)
    if done.returncode != 0:
        raise Violation(f"{what}: persist check: {done.stdout}{done.stderr}")


def another_boot(home: Path) -> None:
    """Change the boot for which the sidecar of an image was made: an image is opened in another boot."""
    fake = home / "boot_id"
    fake.write_text(f"{uuid.uuid4()}\n")
    run("mount", "--bind", fake, "/proc/sys/kernel/random/boot_id")


def same_boot() -> None:
    run("umount", "/proc/sys/kernel/random/boot_id")


def inside(a: argparse.Namespace) -> int:
    """Run everything, in separate namespaces."""
    home = Path(a.inside)
    # Images are copied as a whole: in memory, which is freed with the namespace.
    run("mount", "-t", "tmpfs", "-o", "size=75%", "persist-test", home)
    counts: dict[str, int] = {}
    failed = ""

    def count(what: str, n: int) -> None:
        counts[what] = counts.get(what, 0) + n

    kinds = [KINDS[name] for name, why in why_not().items() if not why]
    begin, number = time.monotonic(), 0
    while not failed and (number < 2 * len(kinds) or time.monotonic() < begin + a.seconds):
        kind, durability = kinds[number % len(kinds)], DURABILITIES[number // len(kinds) % 2]
        place = home / str(number)
        place.mkdir()
        r = Round(place, kind, durability, a.seed + number, Path(a.program), a.lie)
        try:
            r.live(a.work)
            another_boot(place)
            try:
                r.judge_all(a.images)
            finally:
                same_boot()
        except (Violation, Trouble) as e:
            failed = f"{type(e).__name__}: {e}"
            if a.keep:
                shutil.copytree(place, Path(a.keep) / f"real-{a.seed + number}", dirs_exist_ok=True)
        if hasattr(r, "history"):
            print(
                f"{kind.name}, {durability}: {r.history.total} operations, {r.history.syncs} syncs, "
                f"{len(r.log.records)} records; {r.images} images",
                flush=True,
            )
            count("images", r.images)
            count(f"on {kind.name}", r.images)
            count("operations", r.history.total)
            count("syncs", r.history.syncs)
            count("snapshots looked into", r.snapshots)
            count("cut while it was made", r.unmade)
            count("not mounted by the filesystem", r.refused)
        shutil.rmtree(place, ignore_errors=True)
        number += 1
    print(json.dumps({"counts": counts, "failed": failed}))
    return 1 if failed else 0


def build() -> Path:
    """Build the program that serves the disk and writes; cargo decides whether it is outdated."""
    # Without the engine's feature for tests: the program shares the store with the module, which does not have it.
    argv = ["cargo", "build", "--locked", "-q", "-p", "persist-fuse", "--example=logged_disk"]
    built = subprocess.run(
        argv, cwd=ROOT, text=True, timeout=3600, check=False, errors="replace",
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    if built.returncode != 0:
        raise Trouble(f"the logging disk could not be built:\n{built.stdout}")
    return Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).absolute() / "debug/examples/logged_disk"


def real_torture(
    seconds: float, seed: int, images: int, work_for: float, keep: str, lie: bool = False
) -> dict[str, Any]:
    """Run the torture; return `counts`, `failed` (empty if nothing was found), and `untried` (what was not tested, and
    why)."""
    missing = why_not()
    untried = "; ".join(f"{name}: {why}" for name, why in missing.items() if why)
    if untried:
        print(f"not tried: {untried}", flush=True)
    if all(missing.values()):
        return {"counts": {}, "failed": "", "untried": untried}
    program = build()
    home = tempfile.mkdtemp(prefix="persist-real-")
    # Mounts, loop devices and processes end with the process that starts this.
    argv: list[object] = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    argv += [sys.executable, __file__, seconds, "--seed", seed, "--images", images, "--work", work_for]
    argv += ["--inside", home, "--program", program, *(["--keep", keep] if keep else []), *(["--lie"] if lie else [])]
    lines: list[str] = []
    try:
        child = subprocess.Popen(
            [*map(str, argv)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, errors="replace"
        )
        try:
            assert child.stdout
            for line in child.stdout:
                lines.append(line)
                if not line.startswith('{"counts"'):
                    print(line, end="", flush=True)
            child.wait(timeout=60)
        finally:
            if child.poll() is None:
                child.kill()
                child.wait()
    finally:
        shutil.rmtree(home, ignore_errors=True)
    result: dict[str, Any] = {"counts": {}, "failed": f"it ended with {child.returncode}"}
    if lines and lines[-1].startswith('{"counts"'):
        result = json.loads(lines[-1])
    return {**result, "untried": untried}


def main() -> int:
    p = argparse.ArgumentParser(description="Power cuts under real filesystems.")
    p.add_argument("seconds", type=float)
    p.add_argument("--seed", type=int, default=int(time.time()))
    p.add_argument("--images", type=int, default=30, help="of each round")
    p.add_argument("--work", type=float, default=3, help="seconds of work in each round")
    p.add_argument("--keep", default="", help="where to keep the files of a round that failed")
    p.add_argument("--lie", action="store_true", help="a disk that does not flush what it is told to")
    p.add_argument("--inside", default="", help=argparse.SUPPRESS)
    p.add_argument("--program", default="", help=argparse.SUPPRESS)
    a = p.parse_args()
    if a.inside:
        return inside(a)
    # This lets it remove its directory.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    result = real_torture(a.seconds, a.seed, a.images, a.work, a.keep, a.lie)
    print(json.dumps(result))
    return 1 if result["failed"] else 0


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
    sys.exit(130)
