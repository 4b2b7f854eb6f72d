"""Symlinks that are not references: values, stored at once; and links whose target is removed or moved."""

from __future__ import annotations

import ctypes
import errno
import os
import subprocess
from pathlib import Path
from typing import Any

import persist
import pytest
from conftest import TYPE, Mount, need, run

EXCHANGE = 2


def exchange(one: Path, two: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(-100, os.fsencode(one), -100, os.fsencode(two), EXCHANGE) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), str(one))


def test_a_dangling_link_is_stored(mnt: Mount) -> None:
    mnt.sh("ln -s nowhere/at/all dangling; ln -s ../../.. out; ln -s /etc/passwd absolute")
    for again in (mnt.die, mnt.again):
        again()
        assert mnt.sh("ls; readlink dangling out absolute") == (
            "absolute\ndangling\nout\nnowhere/at/all\n../../..\n/etc/passwd\n"
        )
        assert mnt.sh("cat absolute") == Path("/etc/passwd").read_text()


def test_a_link_to_a_file(mnt: Mount, root: Any) -> None:
    mnt.sh("echo text > file; mkdir d; ln -s file link; ln -s ../file d/link; echo more >> link")
    assert mnt.sh("cat d/link; readlink link d/link") == "text\nmore\nfile\n../file\n"
    assert root["link"] == "file" and type(root["link"]) is persist.Link
    mnt.again()
    assert mnt.sh("rm file; readlink link; echo new > link; cat file") == "file\nnew\n"


def test_every_byte_of_a_text_is_kept(mnt: Mount) -> None:
    texts = [b"x", b"./d", b"d/", b"d//x", b" \n\t", b"\xff\xfe", b"\xed\xa0\x80", b"x" * 4024, b"y" * 4095]
    mnt.sh("mkdir d")
    for n, text in enumerate(texts):
        os.symlink(text, os.fsencode(mnt.path / str(n)))
    for n, text in enumerate(texts):
        path = os.fsencode(mnt.path / str(n))
        assert os.readlink(path) == text
        assert os.lstat(path).st_size == len(text)
    mnt.die()
    assert [os.readlink(os.fsencode(mnt.path / str(n))) for n in range(len(texts))] == texts
    with pytest.raises(OSError):
        os.symlink(b"z" * 4096, os.fsencode(mnt.path / "long"))


def test_python_stores_links_and_reads_them(mnt: Mount, root: Any) -> None:
    root["d"] = {"x": 1}
    root["l"] = persist.Link("d")
    root["list"] = [persist.Link("../d/x"), persist.Link("b\udcff")]
    assert mnt.sh("readlink l list/0; cat l/x list/0") == "d\n../d/x\n1\n1\n"
    assert os.readlink(os.fsencode(mnt.path / "list/1")) == b"b\xff"
    # A link that Python stored stays what it is while commands look at it.
    assert root["l"] == "d" and type(root["l"]) is persist.Link
    os.symlink(b"\xfe", os.fsencode(mnt.path / "bytes"))
    assert os.fsencode(root["bytes"]) == b"\xfe"


def test_attributes_of_links(mnt: Mount) -> None:
    mnt.sh("ln -s to/nothing link; mkdir d; ln -s d ref; echo x > file")
    for name, size in (("link", 10), ("ref", 1)):
        path = mnt.path / name
        found = path.lstat()
        assert (found.st_mode, found.st_size, found.st_nlink) == (0o120777, size, 1)
        mnt.sh(f"touch -h -d @1000000000 {name}; chown -h 1:2 {name}")
        assert path.lstat().st_mtime == 1_000_000_000
        assert (path.lstat().st_uid, path.lstat().st_gid) == (1, 2)
        for name_of in ("user.x", TYPE):
            # As on every filesystem of Linux: user attributes belong to files and directories.
            with pytest.raises(OSError) as refused:
                os.setxattr(path, name_of, b"link", follow_symlinks=False)
            assert refused.value.errno == errno.EPERM
        assert os.listxattr(path, follow_symlinks=False) == []
    assert mnt.sh("touch -h file; cat file") == "x\n"


def test_rm_r_of_a_tree_with_a_link_to_a_directory(mnt: Mount) -> None:
    mnt.sh("mkdir -p v/lib/site v/bin; ln -s lib v/lib64; ln -s lib v/a; ln -s ../lib v/bin/up; echo x > v/lib/site/m")
    mnt.sh("rm -rf v")
    assert os.listdir(mnt.path) == []


def test_a_directory_takes_the_place_of_a_file(mnt: Mount, root: Any) -> None:
    mnt.sh("echo f > f; ln -s f l; rm f; mkdir f; echo x > l/x")
    assert root["l"] is root["f"] and mnt.sh("readlink l") == "f\n"


def test_rmdir_of_a_target(mnt: Mount, root: Any) -> None:
    mnt.sh("mkdir -p d s; ln -s d l; ln -s ../d s/l; touch -h -d @1000000000 l; rmdir d")
    assert mnt.sh("ls; readlink l s/l") == "l\ns\nd\n../d\n"
    assert mnt.path.joinpath("l").lstat().st_mtime == 1_000_000_000
    mnt.fails("ls l/")
    mnt.fails("rmdir l")
    assert type(root["l"]) is persist.Link and root["s"]["l"] == "../d"
    mnt.again()
    assert mnt.sh("readlink l s/l") == "d\n../d\n"
    # A new directory of that name is the target again.
    mnt.sh("mkdir d; echo x > l/x; cat s/l/x")
    assert root["l"] is root["d"] and root["s"]["l"] is root["d"]


def test_mv_of_a_target(mnt: Mount, root: Any) -> None:
    mnt.sh("mkdir d s; echo x > d/x; ln -s d l; ln -s ../d s/l; ln -s . d/self; mv d e")
    assert mnt.sh("readlink l s/l e/self; cat e/x e/self/x") == "d\n../d\n.\nx\nx\n"
    mnt.fails("cat l/x")
    assert type(root["l"]) is persist.Link and root["e"]["self"] is root["e"]
    mnt.sh("mv e d")
    assert mnt.sh("cat l/x s/l/x") == "x\nx\n"
    assert root["l"] is root["d"] and root["s"]["l"] is root["d"]
    # Another directory takes the name.
    mnt.sh("mkdir n; echo n > n/x; mv d old; mv n d")
    assert mnt.sh("cat l/x old/x") == "n\nx\n"
    assert root["l"] is root["d"]
    mnt.sh("mkdir empty; ln -s empty to; mv d empty")
    assert mnt.sh("readlink to; ls to") == "empty\nd\n"
    mnt.sh("mkdir other; ln -s other o; echo y > src; mkdir w; echo y > w/y; mv -T w other; cat o/y")
    assert root["o"] is root["other"]


def test_a_directory_with_shared_content_keeps_it(mnt: Mount, root: Any) -> None:
    root["d"] = {"x": 1}
    root["again"] = root["d"]
    mnt.fails("rmdir d")
    assert root["again"] is root["d"]
    # What Python removes leaves the other reference, which is the directory now.
    del root["d"]
    assert mnt.sh("cat again/x") == "1\n"


def test_many_references_to_one_directory(mnt: Mount, root: Any) -> None:
    root["d"] = {}
    root["l"] = [root["d"]] * 2500
    root["m"] = {str(n): root["d"] for n in range(10)}
    mnt.sh("rmdir d")
    assert {os.readlink(mnt.path / "l" / n) for n in os.listdir(mnt.path / "l")} == {"../d"}
    assert all(type(x) is persist.Link for x in root["l"]) and len(root["l"]) == 2500
    mnt.sh("mkdir d")
    assert root["m"]["7"] is root["d"]


def test_unlink_and_rename_of_links(mnt: Mount) -> None:
    mnt.sh("ln -s nowhere a; echo f > f; mkdir d; mv a b; mv b d; readlink d/b; mv d/b f")
    assert mnt.sh("ls; readlink f") == "d\nf\nnowhere\n"
    mnt.fails("mkdir f")
    mnt.fails("ln -s x f")
    mnt.fails("mv -T d f")
    mnt.sh("ln -sfn other f; echo g > g; mv g f; cat f; ln -s x y; rm y f d -r")
    assert os.listdir(mnt.path) == []


def test_exchange_with_links(mnt: Mount, root: Any) -> None:
    mnt.sh("ln -s nowhere link; echo f > file; mkdir d e s; echo d > d/x; echo e > e/x; ln -s d l; ln -s .. s/up")
    at = mnt.path
    exchange(at / "link", at / "file")
    assert mnt.sh("cat link; readlink file") == "f\nnowhere\n"
    exchange(at / "file", at / "d")
    assert mnt.sh("readlink d; cat file/x; readlink l") == "nowhere\nd\nd\n"
    exchange(at / "file", at / "d")
    exchange(at / "d", at / "e")
    assert mnt.sh("cat d/x e/x l/x; readlink l") == "e\nd\ne\nd\n"
    assert root["l"] is root["d"]
    exchange(at / "s/up", at / "file")
    assert mnt.sh("cat d/x e/x; readlink s/up") == "e\nd\nnowhere\n"
    mnt.again()
    assert mnt.sh("cat d/x e/x l/x; readlink s/up") == "e\nd\ne\nnowhere\n"


def test_links_in_lists(mnt: Mount, root: Any) -> None:
    mnt.list("l", "zero")
    mnt.sh("ln -s 0 l/1; ln -s ../later l/4; ln -s 4 l/3; mkdir l/2; echo in > l/2/x; ln -s 2 l/5; readlink l/5")
    assert mnt.sh("readlink l/1 l/4 l/3; cat l/1 l/5/x") == "0\n../later\n4\nzero\nin\n"
    mnt.sh("mkdir later; rm -r l/2")
    assert root["l"][3] is root["later"]
    assert mnt.sh("readlink l/5 l/4") == "2\n../later\n"


def test_a_link_becomes_a_reference_after_a_remount(mnt: Mount, root: Any) -> None:
    mnt.sh("mkdir a; ln -s ../b/c a/l; ln -s b k")
    mnt.die()
    # What a command looked at before waits for its target.
    assert mnt.sh("readlink a/l k; mkdir -p b/c; echo x > a/l/x; cat b/c/x") == "../b/c\nb\nx\n"
    assert root["a"]["l"] is root["b"]["c"] and root["k"] is root["b"]
    mnt.again()
    assert mnt.sh("readlink a/l k") == "../b/c\nb\n"


TOOLS = {
    "cp": "cp -a {src}/. {dst}/",
    "rsync": "rsync -a {src}/ {dst}/",
    "tar": "tar -C {src} -cf - . | tar -C {dst} -xf -",
    "reversed": "cd {src} && find . -depth ! -name . -print0 | tac -s '' | "
    "LC_ALL=C sort -zr | tar --null --no-recursion -T - -cf - | tar -C {dst} -xf -",
}


@pytest.mark.parametrize("tool", TOOLS)
def test_trees_of_npm_and_git_restore_in_any_order(mnt: Mount, tmp_path: Path, tool: str) -> None:
    need("git", "rsync", "diff")
    src, dst = tmp_path / "src", mnt.path / "tree"
    src.mkdir()
    dst.mkdir()
    run(
        "mkdir -p node_modules/.bin node_modules/b/bin packages/own; echo js > node_modules/b/bin/cli.js;"
        "ln -s ../b/bin/cli.js node_modules/.bin/a; ln -s ../../packages/own node_modules/own;"
        "ln -s ../zz/missing.js node_modules/.bin/missing; ln -s zlib alib; mkdir zlib; echo l > zlib/l;"
        "ln -s ./zlib dotted; ln -s /usr/bin/env env; ln -s .. zlib/up;"
        "git init -q repo; cd repo; git config user.email a@b; git config user.name a; mkdir real;"
        "echo r > real/r; ln -s real/r rel; ln -s real dir; ln -s nowhere gone; git add .; git commit -qm one",
        src,
    )
    run(TOOLS[tool].format(src=src, dst=dst), src)
    for again in (None, mnt.die):
        if again:
            again()
        run(f"diff -r --no-dereference -x index {src} {dst}", src)
        assert run(f"rsync -rlcni --exclude index {src}/ {dst}/", src).stdout == ""
        assert run("git -c core.fileMode=false status --porcelain", dst / "repo").stdout == ""
    run("git clone -q repo copy && git -C copy status --porcelain", dst)
    run(f"rm -r copy && diff -r --no-dereference -x index {src} . && find -L . -maxdepth 2 > /dev/null; rm -rf *", dst)
    assert os.listdir(dst) == []


def test_a_virtual_environment(mnt: Mount, tmp_path: Path) -> None:
    mnt.sh("/usr/bin/env python3 -m venv --without-pip v; readlink v/lib64 || true")
    assert mnt.sh("v/bin/python -c 'import sys; print(sys.prefix)'") == f"{mnt.path}/v\n"
    mnt.again()
    assert mnt.sh("v/bin/python -c 'print(6 * 7)'; cp -a v w; diff -r --no-dereference v w") == "42\n"
    mnt.sh("rm -rf v w")
    assert os.listdir(mnt.path) == []


def test_links_are_seen_in_snapshots(mnt: Mount) -> None:
    said = mnt.sh("ln -s nowhere l; mkdir .persist/snapshots/s; rm l; readlink .persist/snapshots/s/l")
    assert said == "nowhere\n"


def test_a_link_with_a_locked_directory_waits(mnt: Mount, root: Any) -> None:
    """A directory is not removed from under a reference in a container that another program has locked."""
    mnt.sh("mkdir d s; ln -s ../d s/l")
    with root["s"].lock():
        child = subprocess.Popen(["rmdir", str(mnt.path / "d")])
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(0.2)
    assert child.wait(60) == 0
    assert mnt.sh("readlink s/l") == "../d\n"
