"""The processes of the differential test, which make each call on both trees."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import mmap
import os
import pickle
import signal
import stat
import struct
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import differential_lists
from differential import TREES, Differences, Step

LIBC = ctypes.CDLL(None, use_errno=True)
AT_FDCWD = -100
# The paths of entries that a call uses.
PATHS: dict[str, Callable[[Step], list[str]]] = {
    **dict.fromkeys(
        "make overwrite mkdir mklist rmdir unlink readlink truncate chmod chown utime setxattr getxattr listxattr "
        "removexattr stat lstat listdir access cat".split(),
        lambda one: [one[1]],
    ),
    "rename": lambda one: [one[1], one[2]],
    "symlink": lambda one: [one[2]],
    "open": lambda one: [one[2]],
    "replace": lambda one: [f"{one[1]}/{one[2]}"],
}


def renameat2(old: str, new: str, flags: int) -> None:
    if LIBC.renameat2(AT_FDCWD, os.fsencode(old), AT_FDCWD, os.fsencode(new), flags) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


def status(st: os.stat_result) -> Any:
    kept = [getattr(st, name) for name in Differences.STAT]
    if stat.S_ISREG(st.st_mode):
        kept += [st.st_size, st.st_nlink]
    elif stat.S_ISLNK(st.st_mode):
        kept += [st.st_size]
    else:
        kept += [st.st_nlink == 0]
    return kept


class Worker:
    """One of the processes: it has open files in both trees."""

    def __init__(self, home: int) -> None:
        self.home = home
        self.tmpfs = os.stat(TREES[0], dir_fd=home).st_dev
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
            if any(differential_lists.cannot_be(path) for path in PATHS.get(one[0], lambda _: [])(one)):
                results.append(Differences.NOT_IN_A_LIST)
                continue
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

    def mklist(self, _: Any, path: str) -> None:
        """Make a directory that is a list on the mount."""
        os.mkdir(path)
        fd = os.open(".", os.O_PATH)
        name, value = (
            differential_lists.MARK if os.fstat(fd).st_dev == self.tmpfs else differential_lists.TYPE
        )
        os.close(fd)
        os.setxattr(path, name, value)

    def replace(self, _: Any, folder: str, name: str, data: bytes) -> None:
        """Replace a file as Python programs do: a temporary file beside it, and a rename."""
        path = f"{folder}/tmp0123abcd"
        self.make(_, path, data, 0o600, True)
        try:
            os.rename(path, f"{folder}/{name}")
        except OSError:
            os.unlink(path)
            raise

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

    def copy(self, files: dict[int, int], source: int, target: int, size: int) -> int | str:
        one, two = self.fd(files, source), self.fd(files, target)
        with contextlib.suppress(OSError):
            if not os.pread(one, size, os.lseek(one, 0, os.SEEK_CUR)).isascii():
                return Differences.COPY
        return os.copy_file_range(one, two, size)

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

    def fchmod(self, files: dict[int, int], slot: int, mode: int) -> None:
        os.fchmod(self.fd(files, slot), mode)

    def fsetxattr(self, files: dict[int, int], slot: int, name: str, value: bytes, flags: int) -> None:
        os.setxattr(self.fd(files, slot), name, value, flags)

    def fgetxattr(self, files: dict[int, int], slot: int, name: str) -> bytes:
        return os.getxattr(self.fd(files, slot), name)

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
        return sorted(
            name
            for name in os.listxattr(path)
            if name.startswith("user.") and not name.startswith("user.persist.")
        )

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
            except BaseException:
                traceback.print_exc()
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
