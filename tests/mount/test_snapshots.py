"""`.persist/snapshots`: taken with mkdir, dropped with rmdir, and each a read-only view."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import persist
import pytest
from conftest import CLASS, TYPE, Mount, binary, graph, need, run, wait_until

HERE = ".persist/snapshots"


@pytest.fixture
def store(mnt: Mount) -> Iterator[persist.Store]:
    """Open the mounted store from Python."""
    with persist.open(mnt.store) as store:
        yield store


def fill(root: Any) -> None:
    root["int"] = 5
    root["big"] = -(10**40)
    root["text"] = "Grüße"
    root["raw"] = bytes(range(256))
    root["long"] = "x" * 300_000
    root["none"] = None
    root["list"] = [1, [2.5, ["three", []]], {"deep": "down"}]
    root["keys"] = {1: "int", "1": "str", "a/b": "slash", "y" * 300: "long"}
    root["shared"] = {"is": "shared"}
    root["refs"] = [root["shared"], {"again": root["shared"]}]
    root["cycle"] = {"name": "cycle"}
    root["cycle"]["me"] = root["cycle"]
    root["cycle"]["list"] = [root["cycle"], root["shared"]]


def views_open(mnt: Mount) -> int:
    """Return how many snapshots the mount's process has open: each has a sidecar in memory."""
    sidecars = set()
    for pid in mnt.pids():
        for fd in Path(f"/proc/{pid}/fd").iterdir():
            try:
                if "memfd:" in os.readlink(fd):
                    sidecars.add(fd.stat().st_ino)
            except OSError:
                continue  # closed in between
    return len(sidecars)


def code(act: Callable[[], object]) -> int:
    """Return the errno of a call that must fail."""
    with pytest.raises(OSError) as e:
        act()
    return e.value.errno


def test_taken_listed_and_dropped(mnt: Mount, store: persist.Store) -> None:
    here = mnt.path / HERE
    assert os.listdir(here) == []
    mnt.sh("echo 1 > x")
    mnt.sh(f"mkdir {HERE}/one '{HERE}/zwei, à côté'")
    assert mnt.sh(f"ls {HERE}") == "one\nzwei, à côté\n"
    assert mnt.sh("ls -A") == "x\n"
    assert [s.name for s in store.snapshots()] == ["one", "zwei, à côté"]
    store.snapshot("three")
    assert sorted(os.listdir(here)) == ["one", "three", "zwei, à côté"]
    assert mnt.sh(f"cat {HERE}/*/x") == "1\n" * 3
    assert mnt.sh(f"find {HERE} | wc -l") == "7\n"
    assert all(entry.is_dir() and entry.stat().st_ino == entry.inode() for entry in os.scandir(here))
    mnt.sh(f"rmdir {HERE}/one")
    assert [s.name for s in store.snapshots()] == ["zwei, à côté", "three"]
    mnt.again()
    assert mnt.sh(f"ls {HERE}; cat {HERE}/three/x") == "three\nzwei, à côté\n1\n"
    mnt.sh(f"rmdir {HERE}/*")
    assert store.snapshots() == [] and os.listdir(here) == []


def test_mistakes(mnt: Mount) -> None:
    here = mnt.path / HERE
    os.mkdir(here / "s")
    assert code(lambda: os.mkdir(here / "s")) == errno.EEXIST
    assert code(lambda: os.rmdir(here / "none")) == errno.ENOENT
    assert code(lambda: os.listdir(here / "none")) == errno.ENOENT
    for name in [b"a\nb", b"\x01", b"\xff\xfe", "\u0085".encode()]:
        assert code(lambda n=name: os.mkdir(os.fsencode(here) + b"/" + n)) == errno.EINVAL  # type: ignore[misc]
    assert code(lambda: os.mkdir(here / ("x" * 256))) == errno.ENAMETOOLONG
    for act in [
        lambda: (here / "file").write_text("x"),
        lambda: os.symlink("s", here / "t"),
        lambda: os.rename(here / "s", here / "t"),
        lambda: os.rename(here / "s", mnt.path / "t"),
        lambda: os.unlink(here / "s"),
        lambda: os.rmdir(here),
        lambda: os.mkdir(mnt.path / ".persist/other"),
    ]:
        assert code(act) in (errno.EPERM, errno.EROFS, errno.EISDIR), act
    assert mnt.sh(f"ls {HERE}") == "s\n"


def test_a_view_stays_as_it_was(mnt: Mount, store: persist.Store) -> None:
    fill(store.root)
    view = mnt.path / HERE / "before"
    want = graph(mnt.path)
    store.snapshot("before")
    assert graph(view) == want
    root = store.root
    root["int"] = 6
    root["list"][1].append("new")
    root["list"].insert(0, "first")
    root["cycle"]["name"] = "other"
    del root["shared"], root["raw"]
    root["long"] = "y"
    mnt.sh("mkdir new; echo x > new/x; rm keys/1; mv text moved")
    assert graph(view) == want
    assert graph(mnt.path) != want
    # Symlinks refer to places inside the view.
    symlinks = 0
    for top, dirs, files in os.walk(view):
        for name in dirs + files:
            path = Path(top) / name
            if path.is_symlink():
                assert not os.readlink(path).startswith("/")
                assert os.path.realpath(path).startswith(str(view))
                symlinks += 1
    assert symlinks > 0
    # No inode of the view is also an inode of the store.
    inodes = [{p.lstat().st_ino for p in top.rglob("*")} for top in (mnt.path, view)]
    assert inodes[0].isdisjoint(inodes[1])
    assert os.getxattr(view / "list", TYPE) == b"list"


def test_classes(mnt: Mount) -> None:
    mnt.sh("mkdir Joe; echo Joe > Joe/name")
    os.setxattr(mnt.path / "Joe", CLASS, b"people:Person")
    mnt.sh(f"mkdir {HERE}/s; rm -r Joe")
    assert os.getxattr(mnt.path / HERE / "s/Joe", CLASS) == b"people:Person"


def test_nothing_in_a_view_can_be_changed(mnt: Mount) -> None:
    mnt.sh(f"mkdir d e; echo 1 > d/x; echo 2 > y; ln -s d ref; mkdir {HERE}/s")
    view = mnt.path / HERE / "s"
    before = graph(view)
    changes: list[Callable[[], object]] = [
        lambda: (view / "y").write_text("3"),
        lambda: (view / "new").write_text("3"),
        lambda: os.open(view / "y", os.O_RDWR),
        lambda: os.open(view / "y", os.O_WRONLY | os.O_APPEND),
        lambda: os.truncate(view / "y", 0),
        lambda: os.mkdir(view / "n"),
        lambda: os.rmdir(view / "e"),
        lambda: os.unlink(view / "y"),
        lambda: os.symlink("d", view / "link"),
        lambda: os.rename(view / "y", view / "z"),
        lambda: os.rename(view / "y", mnt.path / "z"),
        lambda: os.rename(mnt.path / "y", view / "z"),
        lambda: os.mknod(view / "n"),
        lambda: os.chmod(view / "y", 0o600),
        lambda: os.utime(view / "y", (1, 1)),
        lambda: os.utime(view, (1, 1)),
        lambda: os.setxattr(view / "y", TYPE, b"int"),
        lambda: os.removexattr(view / "y", TYPE),
    ]
    for n, change in enumerate(changes):
        assert code(change) == errno.EROFS, n
    assert not os.access(view / "y", os.W_OK) and os.access(view / "y", os.R_OK)
    assert graph(view) == before
    assert mnt.sh("cat y d/x") == "2\n1\n"


def test_locks_in_a_view(mnt: Mount) -> None:
    mnt.sh(f"mkdir d; echo 1 > x; mkdir {HERE}/s")
    for name in "x", ".persist.lock", "d/.persist.lock":
        with open(mnt.path / HERE / "s" / name) as one, open(mnt.path / HERE / "s" / name) as two:
            for f in one, two:
                fcntl.flock(f, fcntl.LOCK_SH | fcntl.LOCK_NB)
                fcntl.lockf(f, fcntl.LOCK_SH | fcntl.LOCK_NB)
                assert code(lambda f=f: fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)) == errno.EROFS  # type: ignore[misc]
                fcntl.flock(f, fcntl.LOCK_UN)
    # Locks in a view do not affect the store.
    with open(mnt.path / HERE / "s/x") as f:
        fcntl.flock(f, fcntl.LOCK_SH)
        assert mnt.sh("flock -n x echo locked; echo 2 > x; cat x") == "locked\n2\n"


def test_space(mnt: Mount) -> None:
    mnt.sh(f"head -c 4000000 /dev/zero > big; mkdir {HERE}/s")
    space = os.statvfs(mnt.path / HERE / "s")
    assert space.f_bsize == 4096 and space.f_blocks > 1000 and 0 < space.f_bfree <= space.f_blocks
    assert mnt.sh(f"df --output=target {HERE}/s | tail -n 1") == f"{mnt.path}\n"


CP = "cp -a {src}/. {dst}/"
RSYNC = "rsync -aX {src}/ {dst}/"
TAR = "tar --xattrs --xattrs-include='user.*' -C {src} -cf - . | tar --xattrs --xattrs-include='user.*' -C {dst} -xf -"

WRITER = """
import itertools, sys, persist
with persist.open(sys.argv[1]) as store:
    root = store.root
    for n in itertools.count(1):
        with store.transaction():
            root["a"] = n
            root["work"]["b"] = -n
            root["work"]["list"].append(n)
            root["work"]["list"].pop(0)
            root["work"][f"key{n}"] = {"n": n, "up": root["work"]}
            root["work"].pop(f"key{n - 50}", None)
        if n == 100:
            print("going", flush=True)
"""


@pytest.mark.parametrize("tool", [CP, RSYNC, TAR], ids=["cp", "rsync", "tar"])
def test_backup_beside_a_writer(mounts: Callable[..., Mount], tmp_path: Path, tool: str) -> None:
    need("cp", "rsync", "tar")
    src = mounts("src")
    with persist.open(src.store) as store:
        fill(store.root)
        store.root["a"] = 0
        store.root["work"] = {"b": 0, "list": list(range(20))}
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(src.store)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert writer.stdout and writer.stdout.readline() == "going\n"
        last = 0
        for turn in range(2):
            src.sh(f"mkdir {HERE}/s{turn}")
            view = src.path / HERE / f"s{turn}"
            want = graph(view)
            saved, dst = tmp_path / f"saved{turn}", mounts(f"dst{turn}")
            saved.mkdir()
            run(tool.format(src=view, dst=saved), tmp_path)
            run(tool.format(src=saved, dst=dst.path), tmp_path)
            assert graph(view) == want
            assert graph(dst.path) == want
            n = int((saved / "a").read_text())
            assert n > last
            last = n
            assert (saved / "work/b").read_text() == f"-{n}\n"
            assert int((saved / "work/list/19").read_text()) == n
            with persist.open(dst.store) as restored, persist.open(src.store) as store:
                with store.at(f"s{turn}") as at:
                    assert restored.root["work"]["list"] == at.root["work"]["list"]
                    assert restored.root["raw"] == at.root["raw"] and restored.root["big"] == -(10**40)
                root = restored.root
                assert root["refs"][0] is root["refs"][1]["again"] is root["cycle"]["list"][1]
                assert root["cycle"]["me"] is root["cycle"] is root["cycle"]["list"][0]
                assert root["work"][f"key{n}"]["up"] is root["work"]
            dst.down()
        assert writer.poll() is None
    finally:
        writer.kill()
        writer.communicate()


def test_a_second_rsync_moves_nothing(mnt: Mount, store: persist.Store, tmp_path: Path) -> None:
    need("rsync")
    fill(store.root)
    mnt.sh(f"mkdir {HERE}/s")
    run(f"rsync -aX {mnt.path}/{HERE}/s/ saved/", tmp_path)
    store.root["int"] = 6
    wait_until(lambda: views_open(mnt) == 0, "the views to be closed")
    assert run(f"rsync -aXi --delete {mnt.path}/{HERE}/s/ saved/", tmp_path).stdout == ""


def test_one_file_is_copied_back(mnt: Mount, store: persist.Store) -> None:
    store.root["n"] = 5
    store.root["d"] = {"x": [1, "two"]}
    mnt.sh(f"mkdir {HERE}/s; echo 6 > n; rm -r d")
    mnt.sh(f"cat {HERE}/s/n > n; cp -a {HERE}/s/d .")
    assert persist.copy_out(store.root) == {"n": 5, "d": {"x": [1, "two"]}}


def test_in_use(mnt: Mount, store: persist.Store) -> None:
    mnt.sh(f"mkdir d; echo 1 > d/x; mkdir {HERE}/s")
    view = mnt.path / HERE / "s"
    with open(view / "d/x") as f:
        assert code(lambda: os.rmdir(view)) == errno.EBUSY
        with pytest.raises(persist.InUse, match=f"process {mnt.pids()[0]}"):
            store.drop_snapshot("s")
        # However long it is open.
        end = time.monotonic() + 2.5
        wait_until(lambda: time.monotonic() > end)
        assert code(lambda: os.rmdir(view)) == errno.EBUSY
        assert f.read() == "1\n"
    fd = os.open(view / "d", os.O_RDONLY | os.O_DIRECTORY)
    try:
        assert code(lambda: os.rmdir(view)) == errno.EBUSY
        assert os.listdir(fd) == ["x"]
    finally:
        os.close(fd)
    with store.at("s") as at:
        assert code(lambda: os.rmdir(view)) == errno.EBUSY
        assert at.root["d"]["x"] == "1"
    # Nothing is open any more, whatever the kernel has cached.
    os.rmdir(view)
    assert store.snapshots() == []


def test_closed_when_idle(mnt: Mount, store: persist.Store, processes: Callable[..., Any]) -> None:
    mnt.sh(f"mkdir -p d/e; echo 1 > d/x; echo deep > d/e/y; mkdir {HERE}/s; echo 2 > d/x")
    # An idle shell inside.
    shell = processes(
        "cd d/e; cat y; read _; cat y ../x; ls ..; read _; cat y || echo gone", mnt.path / HERE / "s"
    )
    assert shell.stdout.readline() == "deep\n"
    wait_until(lambda: views_open(mnt) == 0, "the views to be closed")
    shell.stdin.write("\n")
    shell.stdin.flush()
    assert [shell.stdout.readline() for _ in range(4)] == ["deep\n", "1\n", "e\n", "x\n"]

    def dropped() -> bool:
        try:
            store.drop_snapshot("s")
        except persist.InUse:
            return False
        return True

    wait_until(dropped, "the snapshot to be dropped from Python")
    shell.stdin.write("\n")
    shell.stdin.flush()
    out, err = shell.communicate(timeout=100)
    assert out == "gone\n" and ("Stale" in err or "No such" in err)
    assert not (mnt.path / HERE / "s").exists()
    # Another snapshot of that name is another view.
    store.snapshot("s")
    assert mnt.sh(f"cat {HERE}/s/d/x") == "2\n"


def test_again_and_again_under_one_name(mnt: Mount) -> None:
    for n in range(20):
        mnt.sh(f"echo {n} > x; mkdir {HERE}/s")
        assert mnt.sh(f"cat {HERE}/s/x; ls {HERE}/s") == f"{n}\nx\n"
        mnt.sh(f"rmdir {HERE}/s")


def test_many_views(mnt: Mount, store: persist.Store) -> None:
    for n in range(60):
        store.root["n"] = n
        store.snapshot(f"{n:02}")
    for _ in range(2):
        assert mnt.sh(f"cat {HERE}/*/n") == "".join(f"{n}\n" for n in range(60))
        assert 0 < views_open(mnt) <= 33
    inodes = {(mnt.path / HERE / f"{n:02}").stat().st_ino for n in range(60)}
    assert len(inodes) == 60
    # Open files keep more views open.
    files = [open(mnt.path / HERE / f"{n:02}" / "n") for n in range(60)]
    assert [int(f.read()) for f in files] == list(range(60))
    for f in files:
        f.close()
    wait_until(lambda: views_open(mnt) == 0, "the views to be closed")
    mnt.sh(f"rmdir {HERE}/*")
    assert store.snapshots() == []


def test_mounted_by_itself(mounts: Callable[..., Mount]) -> None:
    mnt = mounts()
    with persist.open(mnt.store) as store:
        fill(store.root)
        want = graph(mnt.path)
        store.snapshot("s, t=1")
        store.root.clear()
        store.root["x"] = {"y": 1}
        store.snapshot("s")
        old = mounts("a", "snapshot=s", at="old.mnt")
        store.root["x"]["y"] = 2
        assert old.sh("cat x/y; ls -A; cat .persist/locks; ls .persist/snapshots") == "1\nx\ns\ns, t=1\n"
        assert graph(old.path / HERE / "s, t=1") == want
        assert old.sh("cat .persist/stat").startswith("path ")
        line = next(x for x in Path("/proc/mounts").read_text().splitlines() if f" {old.path} " in x)
        assert line.split()[3].startswith("ro,")
        for change in "echo 3 > x/y", "mkdir n", f"mkdir {HERE}/n", f"rmdir {HERE}/s", "rm -r x":
            assert "Read-only" in old.fails(change)
        old.sh("flock -s -n x/y true")
        assert "Read-only" in old.fails("flock -n x/y true")
        with pytest.raises(persist.InUse):
            store.drop_snapshot("s")
        old.down()
        store.drop_snapshot("s")
    command = [binary(), str(mnt.store), str(old.path), "-o", "snapshot=none"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 32 and '"none"' in done.stderr


def test_on_a_read_only_filesystem(mounts: Callable[..., Mount], tmp_path: Path) -> None:
    mnt = mounts()
    mnt.sh(f"echo 1 > x; mkdir {HERE}/s; echo 2 > x")
    mnt.down()
    (tmp_path / "ro").mkdir()
    home = tmp_path / "home"
    home.mkdir()
    os.rename(mnt.store, home / "a.store")
    run(f"mount --bind {home} ro && mount -o remount,ro,bind ro", tmp_path)
    try:
        there = mounts("ro/a", "ro", at="there.mnt")
        assert there.sh(f"cat x {HERE}/s/x; ls {HERE}; df . >&2") == "2\n1\ns\n"
        assert "Read-only" in there.fails("echo 3 > x")
        assert "Read-only" in there.fails(f"mkdir {HERE}/t")
        alone = mounts("ro/a", "ro,snapshot=s", at="alone.mnt")
        assert alone.sh("cat x") == "1\n"
        alone.down()
        there.down()
        assert sorted(os.listdir(home)) == ["a.store"]
    finally:
        for point in "there.mnt", "alone.mnt":
            subprocess.run(["umount", "-q", "-l", str(tmp_path / point)], check=False, capture_output=True)
        run("umount -l ro", tmp_path)


def test_the_kernel_may_write_again_but_no_other_process(mounts: Callable[..., Mount]) -> None:
    """`mount -o remount,rw` changes what the kernel permits, not what the mount does."""
    mnt = mounts()
    mnt.sh(f"echo 1 > x; mkdir {HERE}/s")
    old = mounts("a", "snapshot=s", at="old.mnt")
    if run(f"mount -i -o remount,rw {old.path}", Path("/"), check=False).returncode:
        pytest.skip("the kernel does not let this mount be changed")
    for change in "echo 2 > x", "echo 2 > y", "mkdir d", "rm x", f"mkdir {HERE}/t":
        assert "Read-only" in old.fails(change)
    assert old.sh("cat x") == "1\n"
