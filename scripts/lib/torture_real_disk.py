"""A disk whose every write and flush is logged, with a real filesystem on it, and its possible contents after a power
failure.

1. The disk is a file of a FUSE filesystem (`logged_disk serve`); a loop device over it carries the filesystem. The
   server is a separate process that sees only its own mount, so a process that dies never waits for itself.
2. For a power failure at record R of the log, everything up to the last flush before R is on the disk. Of the writes
   since then, each sector of 512 bytes has its old content or that of any of them: of none, all, or a random part of
   them, in a random order, some of them torn.
3. All this needs root, and runs in its own mount and pid namespaces: mounts and processes that are left end with the
   last process. Loop devices end with their last user.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import struct
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SECTOR = 512
RECORD = struct.Struct("<QQQ")
WRITE, ZERO, FLUSH, MARK = range(4)
FORGETS = 12  # flushes that a lying disk has skipped
LIMIT = 300  # seconds for any one command


@dataclass(frozen=True)
class Kind:
    """A kind of filesystem."""

    name: str
    size: int
    mkfs: list[str]
    mount: str


KINDS = {
    "ext4": Kind(
        "ext4", 64 << 20,
        ["mkfs.ext4", "-q", "-F", "-b", "4096", "-J", "size=8", "-E", "lazy_itable_init=0,nodiscard"],
        "noatime",
    ),
    # The smallest size that its tools accept.
    "xfs": Kind("xfs", 300 << 20, ["mkfs.xfs", "-q", "-f", "-K"], "noatime,nouuid"),
}  # fmt: skip


class Trouble(Exception):
    """A failure of the machine, not of the store."""


class Refused(Exception):
    """A filesystem rejects a possible content of its own disk."""


def run(*argv: object, **more: object) -> str:
    words = [str(a) for a in argv]
    done = subprocess.run(
        words, capture_output=True, text=True, timeout=LIMIT, check=False,
        **{"stdin": subprocess.DEVNULL, **more},  # type: ignore[call-overload]
    )  # fmt: skip
    if done.returncode != 0:
        raise Trouble(f"{' '.join(words)}: {done.returncode}: {done.stderr.strip() or done.stdout.strip()}")
    return str(done.stdout)


def why_not() -> dict[str, str]:
    """Return what is missing here for each kind of filesystem; empty if it can be tested."""
    common = ""
    if os.geteuid() != 0:
        common = "needs root"
    for path in "/dev/fuse", "/dev/loop-control":
        if not common and not os.path.exists(path):
            common = f"no {path}"
    for tool in "losetup", "mount", "umount", "unshare":
        if not common and not shutil.which(tool):
            common = f"no {tool} (util-linux)"
    known = Path("/proc/filesystems").read_text().split()
    missing = {}
    for kind in KINDS.values():
        why = common
        if not why and not shutil.which(kind.mkfs[0]):
            why = f"no {kind.mkfs[0]}"
        if not why and kind.name not in known:
            # It may be a module.
            subprocess.run(["modprobe", kind.name], capture_output=True, check=False)
            if kind.name not in Path("/proc/filesystems").read_text().split():
                why = f"the kernel has no {kind.name}"
        missing[kind.name] = why
    return missing


def mount_loop(device: str, kind: Kind, point: Path) -> None:
    run("mount", "-i", "-t", kind.name, "-o", kind.mount, device, point)


class LoggedDisk:
    """A mounted filesystem on a disk that logs, as long as a `with` block runs."""

    def __init__(self, home: Path, program: Path, kind: Kind) -> None:
        self.kind, self.program = kind, program
        self.served, self.point, self.log = home / "served", home / "mnt", home / "log"
        self.mark = self.served / "mark"
        self.server: subprocess.Popen[bytes] | None = None
        self.device = ""
        for d in self.served, self.point:
            d.mkdir(exist_ok=True)

    def __enter__(self) -> LoggedDisk:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stop()

    def start(self) -> None:
        fd = os.open("/dev/fuse", os.O_RDWR)
        try:
            options = "fd=0,rootmode=40700,user_id=0,group_id=0"
            run("mount", "-i", "-t", "fuse.persist-test", "-o", options, "persist-test", self.served, stdin=fd)
            argv = ["unshare", "--mount", self.program, "serve", self.log, self.kind.size]
            self.server = subprocess.Popen([*map(str, argv)], stdin=fd)
        finally:
            # Without the server there is no answer, and requests get an error.
            os.close(fd)
        argv = ["losetup", "--find", "--show", "--direct-io=on", self.served / "disk"]
        self.device = run(*argv).strip()
        run(*self.kind.mkfs, self.device)
        mount_loop(self.device, self.kind, self.point)
        # From now on it is removed with its last user.
        run("losetup", "--detach", self.device)
        self.tell("begin")

    def tell(self, what: str) -> None:
        """Write a mark into the log."""
        fd = os.open(self.mark, os.O_WRONLY)
        try:
            os.write(fd, what.encode())
        finally:
            os.close(fd)

    def stop(self) -> None:
        """Remove everything, in the order of dependence."""
        self.unmount(self.point)
        if self.device:
            subprocess.run(["losetup", "--detach", self.device], capture_output=True, check=False)
        ended = False
        if self.server and self.server.poll() is None:
            with contextlib.suppress(OSError):
                self.tell("end")
                ended = True
        self.unmount(self.served)
        if self.server:
            # Its namespace still has the mount, so it does not end by itself.
            self.server.kill()
            self.server.wait()
            self.server = None
            if not ended:
                raise Trouble("the logging disk ended early")

    def unmount(self, point: Path) -> None:
        end = time.monotonic() + 100
        while os.path.ismount(point):
            late = time.monotonic() > end
            if late and self.server:
                # No process waits for it any more.
                self.server.kill()
            how = ["-l"] if late else []
            subprocess.run(["umount", *how, point], capture_output=True, timeout=LIMIT, check=False)
            time.sleep(0.01)


@dataclass
class Record:
    kind: int
    offset: int
    length: int
    at: int  # where its content lies in the log


class Log:
    """A log that is read; the certain content of the disk, advanced through it."""

    def __init__(self, path: Path, home: Path, size: int, lie: bool) -> None:
        self.lie = lie
        self.data = path.read_bytes()
        self.records: list[Record] = []
        at = 0
        while at < len(self.data):
            kind, offset, length = RECORD.unpack_from(self.data, at)
            at += RECORD.size
            self.records.append(Record(kind, offset, length, at))
            at += length if kind in (WRITE, MARK) else 0
        if at != len(self.data):
            raise Trouble("the log ends within a record")
        self.size = size
        self.sure = home / "sure"
        with self.sure.open("wb") as f:
            f.truncate(size)
        self.upto = 0  # records that `sure` holds
        if not self.records or self.content(self.records[-1]) != b"end":
            raise Trouble("the log has no end")
        self.records.pop()

    def content(self, r: Record) -> bytes:
        return self.data[r.at : r.at + r.length]

    def marks(self) -> Iterator[tuple[int, str]]:
        for i, r in enumerate(self.records):
            if r.kind == MARK:
                yield i, self.content(r).decode()

    def apply(self, fd: int, r: Record) -> None:
        if r.kind == WRITE:
            os.pwrite(fd, self.content(r), r.offset)
        elif r.kind == ZERO:
            zero(fd, r.offset, r.length)

    def advance(self, cut: int) -> int:
        """Bring `sure` to the last flush before a power failure (in ascending order); return the flush."""
        flushes = [i for i in range(self.upto, cut) if self.records[i].kind == FLUSH]
        if self.lie:
            del flushes[-FORGETS:]
        last = flushes[-1] if flushes else self.upto
        fd = os.open(self.sure, os.O_WRONLY)
        try:
            for r in self.records[self.upto : last]:
                self.apply(fd, r)
        finally:
            os.close(fd)
        self.upto = last
        return last

    def image(self, cut: int, to: Path, rng: random.Random) -> str:
        """Return a possible content of the disk if the power fails at a record, and how it was made."""
        begin = self.advance(cut)
        copy_sparse(self.sure, to)
        fresh = [r for r in self.records[begin:cut] if r.kind in (WRITE, ZERO)]
        fd = os.open(to, os.O_WRONLY)
        try:
            how = rng.choice(["all", "none", "some", "torn", "torn"]) if fresh else "all"
            if how == "all":
                for r in fresh:
                    self.apply(fd, r)
            elif how != "none":
                rng.shuffle(fresh)
                likely = rng.choice([0.1, 0.5, 0.9])
                for r in fresh:
                    if rng.random() > likely:
                        continue
                    if how == "torn" and rng.random() < 0.5:
                        self.tear(fd, r, rng)
                    else:
                        self.apply(fd, r)
        finally:
            os.close(fd)
        return f"{how} of {len(fresh)} writes since the flush at {begin}"

    def tear(self, fd: int, r: Record, rng: random.Random) -> None:
        """Return some sectors of a write: its beginning, its end, or any."""
        sectors = range(0, r.length, SECTOR)
        edge = rng.randrange(len(sectors) + 1)
        which = rng.choice(["head", "tail", "any"])
        for i, at in enumerate(sectors):
            if not {"head": i < edge, "tail": i >= edge, "any": rng.random() < 0.5}[which]:
                continue
            length = min(SECTOR, r.length - at)
            self.apply(fd, Record(r.kind, r.offset + at, length, r.at + at))


def zero(fd: int, offset: int, length: int) -> None:
    """Zero a range; all but its edges becomes a hole, or stays one."""
    end, piece = offset + length, 1 << 20
    while offset < end:
        try:
            hole = os.lseek(fd, offset, os.SEEK_DATA)
        except OSError:
            return  # a hole up to the end
        if hole >= end:
            return
        offset = max(offset, hole)
        n = min(piece, end - offset)
        os.pwrite(fd, bytes(n), offset)
        offset += n


def copy_sparse(source: Path, to: Path) -> None:
    """Copy everything except holes."""
    with source.open("rb") as a, to.open("wb") as b:
        size = os.fstat(a.fileno()).st_size
        b.truncate(size)
        at = end = 0
        while at < size:
            if at == end:
                try:
                    at = os.lseek(a.fileno(), at, os.SEEK_DATA)
                except OSError:
                    return  # a hole up to the end
                end = os.lseek(a.fileno(), at, os.SEEK_HOLE)
            at += os.pwrite(b.fileno(), os.pread(a.fileno(), min(end - at, 1 << 20), at), at)


class Image:
    """An image, mounted as long as a `with` block runs: the filesystem replays its journal."""

    def __init__(self, file: Path, kind: Kind, point: Path) -> None:
        self.file, self.kind, self.point = file, kind, point

    def __enter__(self) -> Path:
        self.point.mkdir(exist_ok=True)
        argv = ["mount", "-i", "-t", self.kind.name, "-o", f"loop,{self.kind.mount}"]
        argv += [str(self.file), str(self.point)]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=LIMIT, check=False)
        if done.returncode != 0:
            raise Refused(done.stderr.strip())
        return self.point

    def __exit__(self, kind: object, *_exc: object) -> None:
        end = time.monotonic() + 100
        while True:
            # After a failure it may still be in use, and that failure is the one to report.
            argv = ["umount", *(["-l"] if kind else []), str(self.point)]
            done = subprocess.run(argv, capture_output=True, text=True, timeout=LIMIT, check=False)
            if done.returncode == 0:
                return
            if time.monotonic() > end:
                raise Trouble(f"an image could not be unmounted: {done.stderr.strip()}")
            time.sleep(0.02)
