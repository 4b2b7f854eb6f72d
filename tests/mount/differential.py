"""The differential test's parts: random programs of system calls, and the processes that run them on two trees.

1. A program is a list of steps that derives from its seed alone. Each step is one system call (or a short fixed series
   of them), made by one of several processes, first on a tmpfs and then on the mount. Results and errnos must agree.
2. A process is confined by chroot to the tree in which it makes the call, so no link leads out, and a link means the
   same in both trees.
3. What the mount does differently by its rules (fuse/SEMANTICS.md) is left out in one place, `Differences`.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import mmap
import os
import pickle
import random
import signal
import stat
import struct
from pathlib import Path
from typing import Any

TREES = ("tmpfs", "mnt")
LIBC = ctypes.CDLL(None, use_errno=True)
NOREPLACE, EXCHANGE = 1, 2
AT_FDCWD = -100
Step = tuple[Any, ...]


class Differences:
    """What SEMANTICS.md documents, and how the test leaves it out."""

    # Files, rule 3: content that is built aside is seen by others when it is closed. A file is made and truncated by
    # an open in one step with its writes and its close.
    BUILT_ASIDE = ("make", "overwrite")
    # Files, rule 1: bytes that are no UTF-8 are no str. Texts are ASCII, and files of bytes begin as such.
    TEXT = b"abcdefghij \n0123456789"
    BYTES = b"\xff\xfe\x00"
    # Files, rule 7: a descriptor that reads on after the value was replaced reads the value that it began with.
    ONE_VALUE = "a read at the beginning, before each read"
    # Locks, rule 2: an exclusive flock needs a descriptor that is open for writing.
    EXCLUSIVE_NEEDS_WRITING = "left out: an exclusive flock without permission to write"
    # Symbolic links, rule 1: a link to a directory is a reference, whose text follows when the link or a directory is
    # renamed. Programs have links to directories, or renames of links and directories.
    REFERENCES = "left out: a rename of a directory or a link beside links to directories"
    # The sizes and blocks of directories, inode numbers and device numbers mean nothing elsewhere; times are those of
    # the change, unless a tool set them (rule 2 of modes, owners, times and attributes): they are compared right after
    # they are set.
    STAT = ("st_mode", "st_uid", "st_gid")
    # What the graph cannot hold: hard links, fifos, sockets, devices, attributes other than `user.`. They are not made.
    NOT_MADE = ("link", "mkfifo", "mknod", "trusted.", "security.")


class Faults:
    """Differences that are faults, and how the programs leave them out until they are mended. Each has a reproduction
    in `REPRODUCTIONS`. Empty a text to try the programs without it.
    """

    # A removed file that is open: each descriptor has a content of its own, and it loses its mode and size.
    REMOVED = "left out: the content and the attributes of a removed file"
    # A lock stays at the name when RENAME_EXCHANGE moves its file. Programs have locks or exchanges.
    EXCHANGED_LOCKS = "left out: exchanges beside locks"


# --- the steps ---------------------------------------------------------------------------------

# Most files have names of files, and most directories those of directories; the rest are the mistakes.
NAMES = ("a", "b", "e e", "\u00e9", "%41", ".f")
FOLDERS = ("d", "0", "e")
MODES = (0o644, 0o600, 0o755, 0o444, 0o777, 0o4755, 0o1777, 0o000)
XATTRS = ("user.a", "user.b", "user.long-name.with.dots")
SIZES = (0, 1, 5, 100, 4095, 4096, 4097, 10_000, 70_000, 200_000)
LOCKS = (fcntl.LOCK_SH, fcntl.LOCK_EX, fcntl.LOCK_UN)
PLACES = ((0, 0), (0, 10), (5, 10), (10, 10), (0, 100), (100, 0))
FLAGS = (os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_APPEND, os.O_RDWR | os.O_APPEND)
SLOTS = 2


class Chance(random.Random):
    """The random choices of a program. One with `links` to directories renames only files; another one has no directory
    under the name of a file, so that no link leads to one.
    """

    links = False
    locks = exchanges = True


def name_of(rng: Chance, names: tuple[str, ...]) -> str:
    return rng.choice(NAMES + FOLDERS if rng.links and rng.random() < 0.15 else names)


def path_of(rng: Chance, names: tuple[str, ...] = NAMES) -> str:
    depth = rng.choice((0, 0, 0, 1, 1, 2))
    return "/".join([*(name_of(rng, FOLDERS) for _ in range(depth)), name_of(rng, names)])


def flags_of(rng: Chance) -> int:
    return rng.choice((0, 0, 0, NOREPLACE, EXCHANGE if rng.exchanges else 0, 8))


def pair_of(rng: Chance) -> tuple[str, str]:
    names = rng.choice((NAMES, NAMES, FOLDERS))
    return path_of(rng, names), path_of(rng, names)


def text_of(rng: Chance, size: int) -> bytes:
    return bytes(rng.choices(Differences.TEXT, k=min(size, 64))) * (size // 64 + 1)


def content_of(rng: Chance) -> bytes:
    size = rng.choice(SIZES)
    body = text_of(rng, size)[:size]
    return Differences.BYTES + body if rng.random() < 0.2 else body


def target_of(rng: Chance) -> str:
    kind = rng.randrange(4)
    if kind == 0:
        return path_of(rng)
    if kind == 1:
        return "../" * rng.randrange(1, 3) + path_of(rng)
    directories = (".", "..", "d", "../d", "/d", "0/e") if rng.links else ()
    return rng.choice(("nowhere", "a", "b", "/nowhere/at/all", "a/b/c", "x" * 300, *directories))


def step(rng: Chance) -> Step:
    """Return one random step."""
    where, slot, folder = path_of(rng), rng.randrange(SLOTS), path_of(rng, FOLDERS)
    either = rng.choice((where, where, folder))
    kinds: tuple[tuple[int, Any], ...] = (
        (12, lambda: ("make", where, content_of(rng), rng.choice(MODES), rng.random() < 0.3)),
        (6, lambda: ("overwrite", where, content_of(rng), rng.random() < 0.2)),
        (8, lambda: ("mkdir", folder, rng.choice(MODES))),
        (4, lambda: ("rmdir", folder)),
        (6, lambda: ("unlink", where)),
        (12, lambda: ("rename", *pair_of(rng), flags_of(rng), rng.links)),
        (5, lambda: ("symlink", target_of(rng), where)),
        (4, lambda: ("readlink", where)),
        (24, lambda: ("open", slot, where, rng.choice(FLAGS) | rng.choice((0, 0, 0, os.O_NOFOLLOW)))),
        (1, lambda: ("open", slot, folder, os.O_RDONLY | os.O_DIRECTORY)),
        (10, lambda: ("write", slot, text_of(rng, 80)[: rng.choice((0, 1, 7, 80))] * rng.choice((1, 1, 100)))),
        (8, lambda: ("pwrite", slot, text_of(rng, 60)[:60], rng.choice((0, 3, 50, 4090, 5000, 66_000)))),
        (8, lambda: ("read", slot, rng.choice((1, 10, 5000, 300_000)))),
        (6, lambda: ("pread", slot, rng.choice((1, 10, 5000)), rng.choice((0, 3, 4090, 66_000)))),
        (4, lambda: ("seek", slot, rng.choice((0, 5, 4096)), rng.choice((os.SEEK_SET, os.SEEK_CUR, os.SEEK_END)))),
        (5, lambda: ("ftruncate", slot, rng.choice(SIZES))),
        (3, lambda: ("fsync", slot)),
        (4, lambda: ("mapped", slot, rng.randrange(5000), text_of(rng, 50)[:50])),
        (4, lambda: ("copy", slot, rng.randrange(SLOTS), rng.choice((1, 100, 5000)))),
        (6 if rng.locks else 0, lambda: ("flock", slot, rng.choice(LOCKS))),
        (9 if rng.locks else 0, lambda: ("range", slot, rng.choice(LOCKS), *rng.choice(PLACES))),
        (5, lambda: ("fstat", slot)),
        (3, lambda: ("close", slot)),
        (6, lambda: ("truncate", where, rng.choice(SIZES))),
        (5, lambda: ("chmod", either, rng.choice(MODES))),
        (2, lambda: ("chown", either, rng.choice((0, 7)), rng.choice((0, 8)))),
        (4, lambda: ("utime", either, rng.randrange(1, 2**31), rng.randrange(10**9), rng.random() < 0.2)),
        (5, lambda: ("setxattr", either, rng.choice(XATTRS), text_of(rng, 50)[:9], rng.choice((0, 0, 1, 2)))),
        (4, lambda: ("getxattr", either, rng.choice(XATTRS))),
        (3, lambda: ("listxattr", either)),
        (3, lambda: ("removexattr", either, rng.choice(XATTRS))),
        (8, lambda: ("stat", either)),
        (6, lambda: ("lstat", either)),
        (6, lambda: ("listdir", folder)),
        (3, lambda: ("access", where, rng.choice((os.R_OK, os.W_OK, os.X_OK, os.F_OK)))),
        (6, lambda: ("cat", where)),
    )
    weights = [weight for weight, _ in kinds]
    made: Step = rng.choices([make for _, make in kinds], weights)[0]()
    return made


def program(seed: int, steps: int, processes: int, ends: float) -> list[tuple[int, Step]]:
    """Return a program: (process, step) for each step. `ends` is the share of remounts and kills of the daemon."""
    rng = Chance(seed)
    rng.links = seed % 2 == 0
    if Faults.EXCHANGED_LOCKS:
        rng.locks = seed % 4 < 2
        rng.exchanges = not rng.locks
    made: list[tuple[int, Step]] = []
    for _ in range(steps):
        if rng.random() < ends:
            made.append((-1, (rng.choice(("remount", "kill")),)))
        else:
            made.append((rng.randrange(processes), step(rng)))
    return made


# The shortest programs that show the faults.
TEXT = b"0123456789" * 50
APPEND = os.O_RDWR | os.O_APPEND
REPRODUCTIONS: dict[str, list[tuple[int, Step]]] = {
    "REMOVED, mode": [(0, ("make", "a", TEXT, 0o600, False)), (1, ("open", 0, "a", os.O_RDONLY)), (0, ("unlink", "a")),
                      (1, ("fstat", 0))],
    "REMOVED, content": [(0, ("make", "a", TEXT, 0o644, False)), (1, ("open", 0, "a", os.O_RDONLY)),
                         (1, ("open", 1, "a", os.O_WRONLY)), (0, ("unlink", "a")), (1, ("ftruncate", 1, 5)),
                         (1, ("pread", 0, 500, 0))],
    "EXCHANGED_LOCKS": [(0, ("make", "a", TEXT, 0o644, False)), (0, ("make", "b", TEXT, 0o644, False)),
                        (0, ("open", 0, "a", os.O_RDWR)), (0, ("range", 0, fcntl.LOCK_EX, 0, 0)),
                        (1, ("open", 0, "b", os.O_RDWR)), (2, ("rename", "a", "b", EXCHANGE, False)),
                        (1, ("range", 0, fcntl.LOCK_EX, 0, 0))],
}  # fmt: skip
# The shortest programs of faults that were mended.
MENDED: dict[str, list[tuple[int, Step]]] = {
    "a mapping with O_APPEND": [(0, ("make", "a", TEXT, 0o644, False)), (0, ("open", 0, "a", APPEND)),
                      (0, ("mapped", 0, 3, b"abc")), (0, ("close", 0)), (0, ("cat", "a"))],
    "read on after truncate": [(0, ("make", "a", TEXT, 0o644, False)), (1, ("open", 0, "a", os.O_RDONLY)),
                           (1, ("read", 0, 500)), (0, ("truncate", "a", 4096)), (1, ("read", 0, 1))],
    "read on after write": [(0, ("make", "a", TEXT, 0o644, False)), (0, ("open", 0, "a", os.O_RDWR)),
                        (1, ("open", 0, "a", os.O_RDONLY)), (1, ("read", 0, 1)), (0, ("pwrite", 0, b"x", 400)),
                        (1, ("read", 0, 499))],
    "locks on two ranges": [(0, ("make", "a", TEXT, 0o644, False)), (0, ("open", 0, "a", os.O_RDWR)),
                    (1, ("open", 0, "a", os.O_RDWR)), (0, ("range", 0, fcntl.LOCK_EX, 0, 10)),
                    (1, ("range", 0, fcntl.LOCK_EX, 10, 10))],
    "a flock beside a lock on a range": [(0, ("make", "a", TEXT, 0o644, False)), (0, ("open", 0, "a", os.O_RDWR)),
                      (1, ("open", 0, "a", os.O_RDWR)), (0, ("flock", 0, fcntl.LOCK_EX)),
                      (1, ("range", 0, fcntl.LOCK_EX, 0, 10))],
    "a lock of a file that is renamed": [(0, ("make", "a", TEXT, 0o644, False)), (0, ("open", 0, "a", os.O_RDWR)),
                    (0, ("flock", 0, fcntl.LOCK_EX)), (1, ("open", 0, "a", os.O_RDWR)),
                    (2, ("rename", "a", "b", 0, False)), (1, ("flock", 0, fcntl.LOCK_EX))],
}  # fmt: skip


# --- one process -------------------------------------------------------------------------------


def renameat2(old: str, new: str, flags: int) -> None:
    if LIBC.renameat2(AT_FDCWD, os.fsencode(old), AT_FDCWD, os.fsencode(new), flags) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


def status(st: os.stat_result) -> Any:
    kept = [getattr(st, name) for name in Differences.STAT]
    if Faults.REMOVED and stat.S_ISREG(st.st_mode) and st.st_nlink == 0:
        return [Faults.REMOVED]
    if stat.S_ISREG(st.st_mode):
        kept += [st.st_size, st.st_nlink]
    elif stat.S_ISLNK(st.st_mode):
        kept += [st.st_size]
    return kept


class Worker:
    """One of the processes: it has open files in both trees."""

    def __init__(self, home: int) -> None:
        self.home = home
        self.files: list[dict[int, int]] = [{}, {}]

    def enter(self, tree: str) -> None:
        """Make a directory below the home the root."""
        os.fchdir(self.home)
        os.chroot(tree)
        os.chdir("/")

    def run(self, one: Step) -> list[Any]:
        """Run a step on both trees, and return both results."""
        results: list[Any] = []
        for n, tree in enumerate(TREES):
            self.enter(tree)
            try:
                results.append(("ok", getattr(self, one[0])(self.files[n], *one[1:])))
            except OSError as e:
                results.append(("error", errno.errorcode.get(e.errno or 0, str(e))))
        # A process whose root or working directory is in the mount would keep it busy.
        self.enter(".")
        return results

    def fd(self, files: dict[int, int], slot: int) -> int:
        if slot not in files:
            raise OSError(errno.EBADF, "the slot is empty")
        if Faults.REMOVED and os.fstat(files[slot]).st_nlink == 0:
            raise OSError(0, Faults.REMOVED)
        return files[slot]

    def to_read(self, files: dict[int, int], slot: int) -> int:
        """Return a descriptor that does not read on."""
        fd = self.fd(files, slot)
        if Differences.ONE_VALUE and stat.S_ISREG(os.fstat(fd).st_mode):
            os.pread(fd, 1, 0)
        return fd

    def make(self, _: Any, path: str, data: bytes, mode: int, exclusive: bool) -> None:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | (os.O_EXCL if exclusive else 0), mode)
        try:
            write_all(fd, data)
        finally:
            os.close(fd)

    def overwrite(self, _: Any, path: str, data: bytes, append: bool) -> None:
        fd = os.open(path, os.O_WRONLY | (os.O_APPEND if append else os.O_TRUNC))
        try:
            write_all(fd, data)
        finally:
            os.close(fd)

    def mkdir(self, _: Any, path: str, mode: int) -> None:
        os.mkdir(path, mode)

    def rmdir(self, _: Any, path: str) -> None:
        os.rmdir(path)

    def unlink(self, _: Any, path: str) -> None:
        os.unlink(path)

    def rename(self, _: Any, old: str, new: str, flags: int, files_only: bool) -> str:
        if files_only:
            for path in (old, new):
                with contextlib.suppress(OSError):
                    if not stat.S_ISREG(os.lstat(path).st_mode):
                        return Differences.REFERENCES
        renameat2(old, new, flags)
        return ""

    def symlink(self, _: Any, target: str, path: str) -> None:
        os.symlink(target, path)

    def readlink(self, _: Any, path: str) -> str:
        return os.readlink(path)

    def open(self, files: dict[int, int], slot: int, path: str, flags: int) -> None:
        fd = os.open(path, flags)
        if slot in files:
            os.close(files[slot])
        files[slot] = fd

    def write(self, files: dict[int, int], slot: int, data: bytes) -> int:
        return os.write(self.fd(files, slot), data)

    def pwrite(self, files: dict[int, int], slot: int, data: bytes, offset: int) -> int:
        return os.pwrite(self.fd(files, slot), data, offset)

    def read(self, files: dict[int, int], slot: int, size: int) -> bytes:
        return os.read(self.to_read(files, slot), size)

    def pread(self, files: dict[int, int], slot: int, size: int, offset: int) -> bytes:
        return os.pread(self.to_read(files, slot), size, offset)

    def seek(self, files: dict[int, int], slot: int, offset: int, whence: int) -> int:
        fd = self.fd(files, slot)
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            return 0
        return os.lseek(fd, offset, whence)

    def ftruncate(self, files: dict[int, int], slot: int, size: int) -> None:
        os.ftruncate(self.fd(files, slot), size)

    def fsync(self, files: dict[int, int], slot: int) -> None:
        os.fsync(self.fd(files, slot))

    def mapped(self, files: dict[int, int], slot: int, offset: int, data: bytes) -> bytes:
        fd = self.fd(files, slot)
        size = os.fstat(fd).st_size
        flags = fcntl.fcntl(fd, fcntl.F_GETFL)
        if not size or flags & os.O_ACCMODE != os.O_RDWR:
            return b""
        with mmap.mmap(fd, size) as shared:
            at = offset % size
            data = data[: size - at]
            shared[at : at + len(data)] = data
            shared.flush()
            return shared[max(0, at - 10) : at + len(data) + 10]

    def copy(self, files: dict[int, int], source: int, target: int, size: int) -> int:
        return os.copy_file_range(self.fd(files, source), self.fd(files, target), size)

    def flock(self, files: dict[int, int], slot: int, how: int) -> str:
        fd = self.fd(files, slot)
        if how == fcntl.LOCK_EX and fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            return Differences.EXCLUSIVE_NEEDS_WRITING
        fcntl.flock(fd, how | fcntl.LOCK_NB)
        return ""

    def range(self, files: dict[int, int], slot: int, how: int, start: int, length: int) -> None:
        fcntl.lockf(self.fd(files, slot), how if how == fcntl.LOCK_UN else how | fcntl.LOCK_NB, length, start)

    def fstat(self, files: dict[int, int], slot: int) -> Any:
        return status(os.fstat(self.fd(files, slot)))

    def close(self, files: dict[int, int], slot: int) -> None:
        if slot not in files:
            raise OSError(errno.EBADF, "the slot is empty")
        os.close(files.pop(slot))

    def close_all(self, files: dict[int, int]) -> None:
        while files:
            os.close(files.popitem()[1])

    def truncate(self, _: Any, path: str, size: int) -> None:
        os.truncate(path, size)

    def chmod(self, _: Any, path: str, mode: int) -> None:
        os.chmod(path, mode)

    def chown(self, _: Any, path: str, uid: int, gid: int) -> None:
        os.chown(path, uid, gid, follow_symlinks=False)

    def utime(self, _: Any, path: str, seconds: int, ns: int, is_link: bool) -> Any:
        time = seconds * 10**9 + ns
        os.utime(path, ns=(time, time), follow_symlinks=not is_link)
        return (os.lstat if is_link else os.stat)(path).st_mtime_ns

    def setxattr(self, _: Any, path: str, name: str, value: bytes, flags: int) -> None:
        os.setxattr(path, name, value, flags)

    def getxattr(self, _: Any, path: str, name: str) -> bytes:
        return os.getxattr(path, name)

    def listxattr(self, _: Any, path: str) -> list[str]:
        return sorted(name for name in os.listxattr(path) if not name.startswith("user.persist."))

    def removexattr(self, _: Any, path: str, name: str) -> None:
        os.removexattr(path, name)

    def stat(self, _: Any, path: str) -> Any:
        return status(os.stat(path))

    def lstat(self, _: Any, path: str) -> Any:
        return status(os.lstat(path))

    def listdir(self, _: Any, path: str) -> list[str]:
        return sorted(os.listdir(path))

    def access(self, _: Any, path: str, mode: int) -> bool:
        return os.access(path, mode)

    def cat(self, _: Any, path: str) -> bytes:
        fd = os.open(path, os.O_RDONLY)
        try:
            return os.read(fd, 1 << 20)
        finally:
            os.close(fd)

    def tree(self, _: Any) -> dict[str, Any]:
        """Return everything that is there, without following a link."""
        found: dict[str, Any] = {}
        for top, directories, names in os.walk("."):
            for name in sorted(directories + names):
                path = f"{top}/{name}"
                st = os.lstat(path)
                kept = status(st)
                if stat.S_ISLNK(st.st_mode):
                    kept.append(os.readlink(path))
                elif stat.S_ISREG(st.st_mode):
                    kept += [self.cat(_, path), self.attributes(path)]
                else:
                    kept.append(self.attributes(path))
                found[path] = kept
        return found

    def attributes(self, path: str) -> dict[str, bytes]:
        return {name: os.getxattr(path, name) for name in self.listxattr(None, path)}


class Process:
    """A worker in a process of its own, confined to a directory."""

    def __init__(self, home: Path) -> None:
        ask, self.ask = os.pipe()
        self.answer, answer = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.close(self.ask)
                os.close(self.answer)
                os.umask(0o022)
                serve(Worker(os.open(home, os.O_DIRECTORY)), ask, answer)
            finally:
                os._exit(0)
        os.close(ask)
        os.close(answer)

    def run(self, one: Step) -> Any:
        send(self.ask, one)
        return receive(self.answer)

    def end(self) -> None:
        os.close(self.ask)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.answer)


def serve(worker: Worker, ask: int, answer: int) -> None:
    while True:
        one = receive(ask)
        if one is None:
            return
        send(answer, worker.run(one))


def send(fd: int, what: Any) -> None:
    data = pickle.dumps(what)
    write_all(fd, struct.pack("<Q", len(data)) + data)


def receive(fd: int) -> Any:
    head = read_all(fd, 8)
    return pickle.loads(read_all(fd, struct.unpack("<Q", head)[0])) if head else None


def read_all(fd: int, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = os.read(fd, size - len(data))
        if not more:
            return b""
        data += more
    return data
