"""Trouble with the disk, through Python and the mount: an exception or an errno that states the problem, never a dead
process. Durable content is present when the trouble is over."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
from collections.abc import Callable
from pathlib import Path

import persist
import pytest
from acceptance import BIN, Processes, finish, line, mounted, sh, tell
from disks import Missing, block_of, forget_pages, loop, mounted as mounting, not_tried, run

# Open a store, with Python's fault handler installed at a given time, wait, and then use it in every way.
USES = """
import faulthandler, os, sys, threading
handler, late = sys.argv[2], sys.argv[3] == "late"
if handler == "before":
    faulthandler.enable()
import persist
if handler == "after":
    faulthandler.enable()
if late:
    print("ready", flush=True)
    sys.stdin.readline()
try:
    store = persist.open(sys.argv[1], lock_timeout=100)
except OSError as e:
    print("open", e.errno, flush=True)
    os._exit(0)
if handler == "opened":
    faulthandler.enable()
root = store.root
if not late:
    print("ready", flush=True)
    sys.stdin.readline()

def use(name, f):
    try:
        said = f()
    except OSError as e:
        print(name, e.errno, str(e).replace("\\n", " "), flush=True)
    except persist.Error as e:
        print(name, type(e).__name__, flush=True)
    else:
        print(name, "ok", said, flush=True)

def change():
    for i in range(2000):
        root[f"new {i}"] = "y" * 100

def transaction():
    with store.transaction():
        change()

uses = {
    "read": lambda: sum(len(root[f"key {i}"]) for i in range(2000)),
    "list": lambda: len(list(root)),
    "copy": lambda: len(persist.copy_out(root)),
    "change": change,
    "transaction": transaction,
    "sync": store.sync,
    "snapshot": lambda: store.snapshot("s"),
}
for name, f in uses.items():
    use(name, f)
thread = threading.Thread(target=use, args=("thread", uses["read"]))
thread.start()
thread.join()
use("close", store.close)
print("alive", flush=True)
"""
VALUES = {f"key {i}": "x" * (50 + i % 900) for i in range(2000)}
LENGTHS = sum(map(len, VALUES.values()))
HANDLERS = ["none", "before", "after", "opened"]


def fill(path: Path) -> None:
    with persist.open(path) as opened:
        opened.root.update(VALUES)


def check(path: Path) -> None:
    with persist.open(path) as opened:
        assert persist.copy_out(opened.root) == VALUES
        opened.root["after"] = 1
        opened.sync()
        del opened.root["after"]


def answers(said: str) -> dict[str, list[str]]:
    """Return the result of each use; data that was read must be right, or the result an I/O error."""
    rows = [row.split(" ", 2) for row in said.splitlines()]
    got = {row[0]: row[1:] for row in rows}
    for name, right in ("read", LENGTHS), ("thread", LENGTHS), ("list", 2000), ("copy", 2000):
        if name in got and got[name][0] == "ok":
            assert got[name][1] == str(right), name
        elif name in got:
            assert got[name][0] in (str(errno.EIO), "Error", "Corrupt"), got[name]
    return got


@pytest.mark.parametrize("handler", HANDLERS)
@pytest.mark.parametrize("cut", ["store", "sidecar"])
def test_a_file_cut_short_is_an_error_in_python(
    store: Path, procs: Processes, handler: str, cut: str
) -> None:
    fill(store)
    whole = store.read_bytes()
    child = procs.python(USES, store, handler, "early")
    line(child, "ready")
    os.truncate(store if cut == "store" else f"{store}-shm", 5 * 4096)
    tell(child)
    said = answers(finish(child))
    assert "alive" in said, said
    # Not everything can have succeeded.
    eio = str(errno.EIO)
    assert said["change"][0] == eio and said["transaction"][0] == eio and said["sync"][0] == eio, said
    assert "cut short by another program" in said["change"][1]
    store.write_bytes(whole)
    if cut == "sidecar":
        # It held completed changes: they are not discarded without an error.
        with pytest.raises(persist.Error, match="the.store-shm was cut short"):
            persist.open(store)
        Path(f"{store}-shm").unlink()
    check(store)


@pytest.mark.parametrize("handler", ["before", "opened"])
def test_a_page_that_the_disk_cannot_read_is_an_error_in_python(
    tmp_path: Path, procs: Processes, handler: str
) -> None:
    image = tmp_path / "image"
    make = ["mkfs.ext4", "-q", "-O", "^has_journal", "-b", "4096"]
    try:
        with loop(image, tmp_path / "disk", 48, *make) as disk:
            store = disk / "a.store"
            fill(store)
            run("sync", "-f", store)
            whole = image.read_bytes()
            child = procs.python(USES, store, handler, "late")
            line(child, "ready")
            forget_pages(store)
            os.truncate(image, block_of(store, 40) * 4096)
            tell(child)
            said = answers(finish(child))
            if "open" in said:
                assert said["open"] == [str(errno.EIO)]
            else:
                assert "alive" in said, said
                assert said["read"][0] == str(errno.EIO), said
                assert "the disk reported an error" in said["read"][1]
            image.write_bytes(whole)
            forget_pages(store)
            check(store)
    except Missing as e:
        not_tried("a disk that cannot read", e)


def test_a_fault_that_is_not_a_stores_is_reported_by_the_fault_handler(store: Path, procs: Processes) -> None:
    code = """
import faulthandler, mmap, os, resource, sys
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
if sys.argv[2] == "before":
    faulthandler.enable()
import persist
store = persist.open(sys.argv[1])
if sys.argv[2] == "opened":
    faulthandler.enable()
# One of the store's own first.
os.truncate(sys.argv[1], 0)
try:
    persist.copy_out(store.root)
except OSError:
    print("survived", flush=True)
with open(sys.argv[1] + ".other", "w+b") as f:
    f.truncate(4096)
    m = mmap.mmap(f.fileno(), 4096)
    f.truncate(0)
    m[0]
"""
    for handler in "before", "opened":
        store.unlink(missing_ok=True)
        child = procs.python(code, store, handler)
        out, err = child.communicate(timeout=100)
        assert out == "survived\n", err
        assert child.returncode == -signal.SIGBUS, (child.returncode, err)
        assert "Fatal Python error: Bus error" in err, err


def test_a_store_cut_short_under_its_mount_is_an_error(
    store: Path, tmp_path: Path, mount: Callable[..., Path]
) -> None:
    fill(store)
    with persist.open(store) as opened:
        opened.root["dir"] = {"a": 1}
    whole = store.read_bytes()
    mnt = mount(store)
    assert (mnt / "dir" / "a").read_text() == "1\n"
    os.truncate(store, 5 * 4096)
    # The first access to a missing page, by whatever operation.
    met = 0
    for act in (
        lambda: [(mnt / key).read_text() for key in list(VALUES)[::7]],
        lambda: [p.stat() for p in mnt.iterdir()],
        lambda: [(mnt / f"new {i}").write_text("y" * 100) for i in range(500)],
        lambda: (mnt / "newdir").mkdir(),
        lambda: (mnt / "dir" / "a").unlink(),
        lambda: (mnt / "dir").rename(mnt / "dir2"),
        lambda: os.getxattr(mnt / "key 5", "user.persist.type"),
    ):
        try:
            act()
        except OSError as e:
            # Not ENOTCONN, which a dead daemon leaves.
            assert e.errno == errno.EIO, e
            met += 1
    assert met >= 3
    assert mounted(mnt)
    sh('umount "$1"', mnt)
    store.write_bytes(whole)
    again = mount(store, name="again")
    assert (again / "key 7").read_text() == VALUES["key 7"] + "\n"
    assert (again / "dir" / "a").read_text() == "1\n"
    (again / "new").write_text("z")
    assert (again / "new").read_text() == "z"


WRITER = """
import os, persist, sys
os.umask(0)
store = persist.open(sys.argv[1], lock_timeout=100, durability=sys.argv[2])
root = store.root
print("ready", flush=True)
for row in sys.stdin:
    try:
        if row.startswith("sync"):
            store.sync()
        else:
            key = row.split()[0]
            root[key] = root.get(key, 0) + 1
    except OSError as e:
        print("errno", e.errno, flush=True)
    else:
        print("ok", flush=True)
print("end", flush=True)
"""


@pytest.mark.parametrize("durability", ["checkpoint", "commit"])
def test_a_flush_that_fails_is_an_error_for_all_processes(
    tmp_path: Path, procs: Processes, durability: str
) -> None:
    """A disk without free memory of its own: it accepts allocations, and fails when they are written out."""
    try:
        with contextlib.ExitStack() as stack:
            below = stack.enter_context(
                mounting(tmp_path / "below", "-t", "tmpfs", "-o", "size=40m", "tmpfs")
            )
            make = ["mkfs.ext4", "-q", "-O", "^has_journal", "-b", "4096"]
            disk = stack.enter_context(loop(below / "image", tmp_path / "disk", 200, *make))
            store = disk / "a.store"
            with persist.open(store) as opened:
                opened.root.update(VALUES)
            children = [procs.python(WRITER, store, durability) for _ in range(2)]
            for child in children:
                line(child, "ready")
            with persist.open(store, durability=durability) as opened:
                for child in children:
                    tell(child, "kept")
                    line(child, "ok")
                opened.sync()
                ballast = below / "ballast"
                with ballast.open("wb", buffering=0) as f, contextlib.suppress(OSError):
                    while f.write(b"x" * 65536):
                        pass
                met = 0
                for i in range(400):
                    try:
                        opened.root[f"more {i}"] = os.urandom(20_000)
                        if i % 20 == 19:
                            opened.sync()
                    except OSError as e:
                        met = e.errno or 0
                        break
                assert met == errno.EIO, met
                # For all threads and processes, also when the disk has space again.
                for turn in range(2):
                    for child in children:
                        for what in "sync", "x":
                            tell(child, what)
                            line(child, f"errno {errno.EIO}")
                    for act in opened.sync, lambda: opened.root.update(x=1):
                        with pytest.raises(OSError) as caught:
                            act()
                        assert (caught.value.errno, caught.value.filename) == (errno.EIO, str(store))
                    assert opened.root["key 9"] == VALUES["key 9"]
                    if turn == 0:
                        ballast.unlink()
                with contextlib.suppress(OSError):
                    opened.close()
            for child in children:
                assert child.stdin is not None
                child.stdin.close()
                line(child, "end")
                child.wait()
            with persist.open(store) as opened:
                found = persist.copy_out(opened.root)
                assert {k: v for k, v in found.items() if k in VALUES} == VALUES
                assert found["kept"] == 2
                opened.root["after"] = 1
                opened.sync()
            sh('"$1" check "$2"', BIN / "persist", store)
    except Missing as e:
        not_tried("a flush that fails", e)


# Without a bound on loss: a flush that meets the quota would be final, and this test is about allocations.
QUOTA = """
import ctypes, errno, os, persist, sys
path, uid = sys.argv[1], int(sys.argv[2])
if uid:
    os.setgroups([]); os.setgid(uid); os.setuid(uid)
    # Else /proc/self/fd is root's.
    ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)
store = persist.open(path, max_age=None)
root = store.root
n = 0
try:
    while n < 20_000:
        root[f"key {n}"] = "x" * 4000
        n += 1
except OSError as e:
    print(e.errno, n, flush=True)
assert len(root) == n and (n == 0 or root[f"key {n - 1}"] == "x" * 4000)
try:
    with store.transaction():
        root["first"] = 1
        for i in range(6000):
            root[f"more {i}"] = "y" * 4000
except OSError as e:
    print(e.errno, flush=True)
assert len(root) == n
store.sync()
del root["key 0"]
sys.stdin.readline()
for i in range(200):
    root[f"after {i}"] = "z" * 4000
store.sync()
assert len(root) == n - 1 + 200
store.close()
print("done", flush=True)
"""


@contextlib.contextmanager
def ext4_quota(tmp_path: Path):
    """Return a disk, the user whose quota is used up after 16 MiB, and a function that raises the quota."""
    make = ["mkfs.ext4", "-q", "-O", "quota"]
    with loop(tmp_path / "image", tmp_path / "disk", 96, *make, options="usrquota") as disk:
        disk.chmod(0o777)

        def limit(mib: int) -> None:
            run("setquota", "-u", 65534, 0, mib << 10, 0, 0, disk)

        limit(16)
        yield disk, 65534, limit


@contextlib.contextmanager
def btrfs_quota(tmp_path: Path):
    make = ["mkfs.btrfs", "-q", "-f"]
    with loop(tmp_path / "image", tmp_path / "disk", 300, *make) as disk:
        run("btrfs", "quota", "enable", disk)
        run("btrfs", "subvolume", "create", disk / "sub")

        def limit(mib: int) -> None:
            run("btrfs", "qgroup", "limit", f"{mib}M", disk / "sub")

        limit(16)
        yield disk / "sub", 0, limit


@pytest.mark.parametrize("kind", [ext4_quota, btrfs_quota])
def test_a_quota_that_is_used_up_is_an_error_like_a_full_disk(
    tmp_path: Path, procs: Processes, kind: Callable[..., contextlib.AbstractContextManager[tuple]]
) -> None:
    try:
        with kind(tmp_path) as (disk, uid, limit):
            child = procs.python(QUOTA, disk / "a.store", uid)
            said = line(child).split()
            assert said[0] == str(errno.EDQUOT) and int(said[1]) > 100, (said, child.stderr)
            line(child, str(errno.EDQUOT))
            limit(64)
            tell(child)
            line(child, "done")
    except Missing as e:
        not_tried(kind.__name__.replace("_", ": "), e)


def test_a_read_only_filesystem(tmp_path: Path, mount: Callable[..., Path]) -> None:
    try:
        with mounting(tmp_path / "disk", "-t", "tmpfs", "-o", "size=64m", "tmpfs") as disk:
            store = disk / "a.store"
            fill(store)
            run("mount", "-o", "remount,ro", disk)
            with pytest.raises(OSError) as caught:
                persist.open(store)
            assert caught.value.errno == errno.EROFS
            with persist.open(store, mode="r") as opened:
                assert persist.copy_out(opened.root) == VALUES
                with pytest.raises(OSError) as caught:
                    opened.root["x"] = 1
                assert caught.value.errno == errno.EROFS
                with pytest.raises(OSError) as caught:
                    opened.sync()
                assert caught.value.errno == errno.EROFS
            mnt = mount(store, options="ro")
            assert (mnt / "key 3").read_text() == VALUES["key 3"] + "\n"
            with pytest.raises(OSError) as caught:
                (mnt / "new").write_text("x")
            assert caught.value.errno == errno.EROFS
            sh('umount "$1"', mnt)
            run("mount", "-o", "remount,rw", disk)
            check(store)
    except Missing as e:
        not_tried("a read-only filesystem", e)


LIMITS = """
import errno, persist, resource, sys
path, what = sys.argv[1:]
limit = lambda kind, n: resource.setrlimit(kind, (n, resource.RLIM_INFINITY))
if what == "file sizes":
    limit(resource.RLIMIT_FSIZE, 24 << 20)
    with persist.open(path) as store:
        n = 0
        try:
            while n < 1000:
                store.root[n] = b"x" * 100_000
                n += 1
        except OSError as e:
            assert e.errno == errno.EFBIG and "ulimit -f" in str(e), e
        assert 100 < n < 1000 and len(store.root) == n
        store.sync()
        for i in range(n // 2):
            del store.root[i]
        store.gc()
        for i in range(n // 4):
            store.root[i] = b"y" * 100_000
else:
    limit(resource.RLIMIT_AS, 1 << 30)
    try:
        persist.open(path)
    except OSError as e:
        assert e.errno == errno.ENOMEM and "ulimit -v" in str(e), e
    else:
        raise AssertionError("it was opened")
    limit(resource.RLIMIT_AS, 6 << 30)
    with persist.open(path) as store:
        for n in range(100):
            store.root[n] = b"x" * 100_000
        store.sync()
        del store.root[1]
# What was mapped goes with the last reference.
del store
with persist.open(path) as store:
    assert len(store.root) >= 99
print("done")
"""


@pytest.mark.parametrize("what", ["file sizes", "address space"])
def test_limits_of_the_process(store: Path, procs: Processes, what: str) -> None:
    assert finish(procs.python(LIMITS, store, what)) == "done\n"
