"""Round trips with the usual tools: types, classes, shared references and cycles survive."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from conftest import CLASS, Mount, graph, need, run, wait_until


def fill(mnt: Mount) -> None:
    """Create a graph with every kind of content."""
    mnt.sh(
        "echo Joe > name; printf bare > bare; printf '' > empty; head -c 300000 /dev/zero > big; echo '' > line"
    )
    mnt.typed("age", "int", "25\n")
    mnt.typed("long", "int", "1" * 60 + "\n")
    mnt.typed("pi", "float", "3.141592653589793\n")
    mnt.typed("yes", "bool", "True\n")
    mnt.typed("none", "none", "None\n")
    mnt.typed("raw", "bytes", "text\n")
    mnt.sh("mkdir -p a/b/c obj 'odd %2F name'; echo deep > a/b/c/x")
    os.setxattr(mnt.path / "obj", CLASS, b"people:Person")
    mnt.sh("echo Ann > obj/name; mkdir generic; ln -s ../obj generic/friend")
    os.setxattr(mnt.path / "generic", CLASS, b"")
    mnt.list("l", *(f"item{n}" for n in range(12)))
    mnt.sh("mkdir l/12; echo in > l/12/x")
    mnt.set_type("l/12", "dict")
    mnt.sh("mkdir l/13")
    mnt.set_type("l/13", "list")
    mnt.sh("echo nested > l/13/0; mkdir l/13/1")
    mnt.set_type("l/13/1", "list")
    mnt.typed("l/13/1/0", "int", "7\n")
    # Shared references, also backwards in the alphabet, into lists and out of them; cycles.
    mnt.sh(
        "ln -s z 0first; mkdir z; echo zed > z/x; ln -s l/13 again; ln -s ../a l/14; ln -s ../../a/b l/13/2"
    )
    mnt.sh("ln -s .. a/up; ln -s ../.. a/b/root; ln -s . self; ln -s ../l l/15; mkdir el")
    mnt.set_type("el", "list")
    mnt.sh("ln -s ../z el/0; echo one > el/1; ln -s ../z el/2")


def without_root(top: Path) -> object:
    return graph(top)


CP = "cp -a {src}/. {dst}/"
RSYNC = "rsync -aX {src}/ {dst}/"
TAR = "tar --xattrs --xattrs-include='user.*' -C {src} -cf - . | tar --xattrs --xattrs-include='user.*' -C {dst} -xf -"


@pytest.mark.parametrize("tool", [CP, RSYNC, TAR], ids=["cp", "rsync", "tar"])
def test_from_one_mount_to_another(mounts, tool: str) -> None:  # type: ignore[no-untyped-def]
    need("cp", "rsync", "tar")
    src, dst = mounts("src"), mounts("dst")
    fill(src)
    before = graph(src.path)
    run(tool.format(src=src.path, dst=dst.path), src.path)
    assert graph(dst.path) == before
    assert graph(src.path) == before
    dst.again()
    assert graph(dst.path) == before


@pytest.mark.parametrize("tool", [CP, RSYNC, TAR], ids=["cp", "rsync", "tar"])
def test_out_and_in(mounts, tmp_path: Path, tool: str) -> None:  # type: ignore[no-untyped-def]
    """Copy through an ordinary directory."""
    src, dst, disk = mounts("src"), mounts("dst"), tmp_path / "disk"
    disk.mkdir()
    fill(src)
    run(tool.format(src=src.path, dst=disk), tmp_path)
    run(tool.format(src=disk, dst=dst.path), tmp_path)
    assert graph(dst.path) == graph(src.path)
    dst.again()
    assert graph(dst.path) == graph(src.path)


def test_a_second_rsync_moves_nothing(mounts) -> None:  # type: ignore[no-untyped-def]
    src, dst = mounts("src"), mounts("dst")
    fill(src)
    run(RSYNC.format(src=src.path, dst=dst.path), src.path)
    said = run(f"rsync -aXi {src.path}/ {dst.path}/", src.path).stdout
    assert said == ""
    # rsync compares whole seconds; the clock of change times is some milliseconds behind.
    written = int((src.path / "l").stat().st_mtime)
    wait_until(lambda: time.time() > written + 1.1, "the next second")
    src.sh("echo changed > name; rm l/3")
    run(f"rsync -aX --delete {src.path}/ {dst.path}/", src.path)
    assert graph(dst.path) == graph(src.path)


def test_without_attributes_only_types_are_lost(mounts, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    src, disk = mounts("src"), tmp_path / "disk"
    fill(src)
    run(f"rm {src.path}/self {src.path}/a/up {src.path}/a/b/root {src.path}/l/15", tmp_path)
    run(f"cp -r {src.path} {disk}", tmp_path)
    run(f"diff -r {src.path} {disk}", tmp_path)


def test_links(mnt: Mount) -> None:
    mnt.sh("mkdir d; ln -s d e; mkdir sub; ln -s ../d sub/f; ln -s $PWD/d abs; echo x > d/x")
    assert mnt.sh("readlink e sub/f abs; cat e/x sub/f/x abs/x") == "d\n../d\nd\nx\nx\nx\n"
    mnt.sh("echo y > e/y; cat d/y")
    assert (mnt.path / "e").stat().st_ino == (mnt.path / "d").stat().st_ino
    # A link keeps its text when its target is moved away.
    assert mnt.sh("mv d moved; readlink e sub/f abs") == "d\n../d\nd\n"
    mnt.fails("cat e/x")
    assert mnt.sh("mv moved d; cat e/x sub/f/x abs/x") == "x\nx\nx\n"
    mnt.sh("rm e abs; ls")
    assert mnt.sh("cat sub/f/x") == "x\n"


def test_a_link_before_its_target(mnt: Mount) -> None:
    mnt.sh("ln -s later/deep early; ln -s early second")
    assert mnt.sh("ls; readlink early") == "early\nsecond\nlater/deep\n"
    mnt.sh("mkdir -p later/deep; echo x > later/deep/x")
    assert mnt.sh("cat early/x second/x") == "x\nx\n"
    mnt.again()
    assert mnt.sh("cat early/x second/x; readlink early second") == "x\nx\nlater/deep\nearly\n"


def test_a_link_whose_target_never_comes(mnt: Mount) -> None:
    mnt.sh("ln -s nowhere dangling")
    assert os.readlink(mnt.path / "dangling") == "nowhere"
    assert os.listdir(mnt.path) == ["dangling"]
    mnt.fails("cat dangling")
    mnt.fails("ln -s other dangling")
    mnt.sh("mv dangling renamed; rm renamed")
    assert os.listdir(mnt.path) == []


def test_cycles(mnt: Mount) -> None:
    mnt.sh("mkdir -p a/b; ln -s .. a/b/up; ln -s . self; ls a/b/up/b/up/b; ls -R > /dev/null")
    assert os.readlink(mnt.path / "a/b/up") == ".."
    assert os.readlink(mnt.path / "self") == "."
    mnt.sh("rm -r a")
    assert os.listdir(mnt.path) == ["self"]
