"""Other users: what they make is theirs, and modes hold against them, in views of snapshots too."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import persist
import pytest
from conftest import Mount, run

OTHER = "setpriv --reuid 1234 --regid 2345 --clear-groups"


@pytest.fixture
def shared(mounts: Callable[..., Mount], tmp_path: Path) -> Mount:
    """A mount that other users may use, with a directory that they may write to."""
    mnt = mounts("a", "allow_other,default_permissions")
    for directory in [tmp_path, *tmp_path.parents][:-1]:
        if directory.stat().st_uid == os.getuid() and directory != Path("/tmp"):
            directory.chmod(directory.stat().st_mode | 0o055)
    mnt.sh("mkdir -m 777 d")
    return mnt


def owner(path: Path) -> tuple[int, int]:
    return path.lstat().st_uid, path.lstat().st_gid


def test_what_another_user_makes_is_theirs(shared: Mount) -> None:
    d = shared.path / "d"
    run(f"{OTHER} sh -c 'echo x > f; mkdir e; ln -s nowhere s; ln -s e t; echo y > e/g'", d)
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(2345)
            os.setuid(1234)
            os.mknod(d / "n", 0o640)
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    shared.sh("echo x > d/mine")
    for _ in range(2):
        for name in ("f", "e", "s", "t", "e/g", "n"):
            assert owner(d / name) == (1234, 2345), name
        assert owner(d / "mine") == (os.getuid(), os.getgid())
        assert (d / "n").stat().st_mode & 0o7777 == 0o640
        shared.again()
    # The other user may change them, and the modes of the mounting user hold.
    run(f"{OTHER} sh -c 'chmod 600 f; echo z > f; mv f h; rm h'", d)
    shared.sh("chmod 755 d")
    assert "Permission denied" in run(f"{OTHER} sh -c '> d/new'", shared.path, check=False).stderr


def test_a_setgid_directory_hands_on_its_group(shared: Mount) -> None:
    shared.sh("chgrp 77 d; chmod 2777 d")
    d = shared.path / "d"
    run(f"{OTHER} sh -c 'echo x > f; mkdir e; echo y > e/g; mkdir e/k; ln -s x s'", d)
    shared.sh("echo z > d/mine")
    for name in ("f", "e", "e/g", "e/k", "s"):
        assert owner(d / name) == (1234, 77), name
    assert owner(d / "mine") == (os.getuid(), 77)
    assert [(d / name).stat().st_mode & 0o7777 for name in ("e", "e/k")] == [0o2755, 0o2755]
    assert (d / "f").stat().st_mode & 0o7777 == 0o644


def test_items_of_a_list_have_owners(shared: Mount) -> None:
    shared.list("d/l", "a")
    shared.sh("chmod 777 d/l")
    run(f"{OTHER} sh -c 'echo d > 3; echo b > 1; echo c > 2'", shared.path / "d/l")
    assert shared.items("d/l") == list("abcd")
    assert [owner(shared.path / "d/l" / n)[0] for n in "0123"] == [os.getuid(), 1234, 1234, 1234]


def test_modes_hold_in_views_of_snapshots(shared: Mount) -> None:
    shared.sh("echo secret > f; chmod 600 f; mkdir -m 700 p; echo secret > p/g; echo open > o")
    shared.sh("mkdir .persist/snapshots/s")
    for top in (".", ".persist/snapshots/s"):
        for name in ("f", "p/g"):
            done = run(f"{OTHER} cat {top}/{name}", shared.path, check=False)
            assert "Permission denied" in done.stderr and "secret" not in done.stdout
        assert run(f"{OTHER} cat {top}/o", shared.path).stdout == "open\n"


def test_the_record_comes_with_the_entry(shared: Mount) -> None:
    """No moment in which a private file is not private."""
    run(f"{OTHER} sh -c 'umask 077; for i in $(seq 50); do echo x > f$i; mkdir e$i; done'", shared.path / "d")
    shared.die()
    for n in range(1, 51):
        for name, mode in ((f"f{n}", 0o600), (f"e{n}", 0o700)):
            path = shared.path / "d" / name
            assert owner(path) == (1234, 2345) and path.stat().st_mode & 0o7777 == mode


def test_links_of_a_directory(mnt: Mount) -> None:
    def links(name: str) -> int:
        return (mnt.path / name).stat().st_nlink

    mnt.sh("mkdir d; touch d/f d/g")
    assert links("d") == 2
    mnt.sh("mkdir d/a d/b; ln -s a d/link; ln -s ../d d/a/up")
    assert links("d") == 4 and links("d/a") == 2
    mnt.sh("rmdir d/b")
    assert links("d") == 3
    mnt.sh("mv d/a .; rm d/link")
    assert links("d") == 2
    mnt.list("l", "x", "y")
    mnt.sh("mkdir l/2; mkdir l/5")
    assert links("l") == 4
    assert links(".") == 2 + len([e for e in os.scandir(mnt.path) if e.is_dir(follow_symlinks=False)])
    with persist.open(mnt.store) as store:
        store.root["d"]["new"] = {"x": {}}
        assert links("d") == 3 and links("d/new") == 3
        del store.root["d"]["new"]
        assert links("d") == 2
        # Of a large directory they are not counted: 1 stands for "not known".
        store.root["d"].update({f"k{n}": n for n in range(2000)})
        assert links("d") == 1
