"""Lists: names that never mean two things, items in any order, temporary names."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import pytest
from conftest import Mount, need


def test_append_and_replace(mnt: Mount) -> None:
    mnt.list("l", "a", "b")
    mnt.sh("echo c > l/2; echo B > l/1")
    assert mnt.items("l") == ["a", "B", "c"]
    mnt.again()
    assert mnt.items("l") == ["a", "B", "c"]
    assert mnt.type("l") == "list"
    mnt.fails("echo x > l/name")
    mnt.fails("mkdir l/01")


def test_removing_all(mnt: Mount) -> None:
    mnt.list("l", *"abcdefghijklmnopqrstuvwxyz")
    mnt.sh("rm l/*")
    assert os.listdir(mnt.path / "l") == []
    for n in range(12):
        (mnt.path / "l" / str(n)).write_text(f"{n}\n")
    mnt.sh("rm l/3 l/4 l/10")
    assert mnt.items("l") == ["0", "1", "2", "5", "6", "7", "8", "9", "11"]
    mnt.sh("rm -r l")
    assert not (mnt.path / "l").exists()


def test_removing_one_by_one(mnt: Mount) -> None:
    mnt.list("l", *"abcdef")
    mnt.sh("rm l/0")
    assert "No such file" in mnt.fails("rm l/0")
    assert (mnt.names("l"), mnt.items("l")) == ([1, 2, 3, 4, 5], list("bcdef"))
    mnt.sh("for f in l/*; do rm $f; done")
    assert mnt.items("l") == []
    mnt.sh("echo g > l/6")
    mnt.again()
    assert (mnt.names("l"), mnt.items("l")) == ([0], ["g"])


# What a shell remembers of a list may be old: no command depends on being quick, or on what the shell's processes are.
@pytest.mark.parametrize(
    "command",
    [
        "cd l; names=$(ls); for f in $names; do setsid rm $f; done",
        "cd l; for f in *; do (ls > /dev/null; rm $f); done",
        "cd l; for f in *; do ls > /dev/null; unshare --fork --pid rm $f; done",
        "ls l | xargs -n 1 -I @ rm l/@",
        "find l -type f -exec rm {} ';'",
        "find l -type f -delete",
        "rm l/*",
    ],
)
def test_every_item_is_removed_once(mnt: Mount, command: str) -> None:
    mnt.list("l", *"abcdefghijkl")
    mnt.sh("set -e; " + command)
    assert mnt.items("l") == []


def test_names_from_before(mnt: Mount) -> None:
    mnt.list("l", *"abcdef")
    mnt.sh("ls l; rm l/0; rm l/2")
    assert mnt.items("l") == list("bdef")
    mnt.sh("grep -l [bd] l/* | xargs -n1 rm")
    assert mnt.items("l") == list("ef")
    mnt.sh("echo E > l/4; sed -i s/f/F/ l/5")
    assert (mnt.names("l"), mnt.items("l")) == ([4, 5], ["E", "F"])


def test_by_present_place(mnt: Mount) -> None:
    mnt.list("l", *"abcd")
    mnt.sh("rm l/1")
    assert mnt.sh("cat l/@0 l/@1 l/@-1") == "a\nc\nd\n"
    assert os.stat(mnt.path / "l/@1").st_ino == os.stat(mnt.path / "l/2").st_ino
    assert mnt.names("l") == [0, 2, 3]
    mnt.sh("echo D > l/@-1; rm l/@0; mv l/@0 out")
    assert (mnt.names("l"), mnt.items("l"), mnt.sh("cat out")) == ([3], ["D"], "c\n")
    for bad in ("@1", "@-2", "@-0", "@01", "@x"):
        assert not (mnt.path / "l" / bad).exists()
        mnt.fails(f"echo x > l/{bad}")


def test_a_large_list_is_removed_in_linear_time(mnt: Mount) -> None:
    """Four times the items take about four times as long, and not sixteen times."""
    times = []
    for n in (1000, 4000):
        (mnt.path / "l").mkdir()
        mnt.set_type("l", "list")
        for i in range(n):
            os.close(os.open(mnt.path / "l" / str(i), os.O_CREAT | os.O_WRONLY))
        begun = time.monotonic()
        for name in sorted(os.listdir(mnt.path / "l")):
            os.unlink(mnt.path / "l" / name)
        times.append(time.monotonic() - begun)
        os.rmdir(mnt.path / "l")
    assert times[1] < 10 * times[0], times


def test_a_loop_with_conditions(mnt: Mount) -> None:
    mnt.list("l", *"abababab")
    mnt.sh("for f in l/*; do if grep -q a $f; then rm $f; fi; done")
    assert (mnt.names("l"), mnt.items("l")) == ([1, 3, 5, 7], list("bbbb"))
    mnt.sh("find l -type f -delete")
    assert mnt.items("l") == []


def test_python_removes(mnt: Mount) -> None:
    mnt.list("l", *"abcdef")
    for name in sorted(os.listdir(mnt.path / "l")):
        if name in ("1", "3"):
            os.unlink(mnt.path / "l" / name)
    assert not (mnt.path / "l/3").exists()
    assert (mnt.path / "l/4").read_text() == "e\n"
    assert mnt.sh("cat l/*") == "a\nc\ne\nf\n"


def test_moving_items(mnt: Mount) -> None:
    mnt.list("l", *"abcd")
    mnt.sh("mv l/1 out; cat out")
    assert mnt.items("l") == list("acd")
    mnt.sh("mv out l/4")
    assert (mnt.names("l"), mnt.items("l")) == ([0, 2, 3, 4], list("acdb"))
    mnt.sh("mv l/4 l/0")
    assert (mnt.names("l"), mnt.items("l")) == ([0, 2, 3], list("bcd"))
    mnt.sh("mv l/0 l/5")
    assert (mnt.names("l"), mnt.items("l")) == ([2, 3, 5], list("cdb"))
    mnt.sh("mkdir d; echo 1 > d/x; mv d l/6; cat l/6/x; mv l/6 e; cat e/x")
    assert (mnt.names("l"), mnt.items("l")) == ([2, 3, 5], list("cdb"))
    # A hole is free for what is put there by name, at its place in the order.
    mnt.sh("mkdir d; echo 1 > d/x; mv d l/4")
    assert mnt.names("l") == [2, 3, 4, 5] and mnt.sh("cat l/4/x") == "1\n"


def test_taking_out_and_putting_back(mnt: Mount) -> None:
    mnt.list("l", *"abcd")
    os.rename(mnt.path / "l/1", mnt.path / "out")
    os.rename(mnt.path / "out", mnt.path / "l/1")
    assert (mnt.path / "l/1").read_text() == "b\n"
    assert mnt.sh("cat l/*") == "a\nb\nc\nd\n"


@pytest.mark.parametrize("order", ["0 1 2 3 4", "4 3 2 1 0", "2 0 4 1 3"])
def test_items_in_any_order(mnt: Mount, order: str) -> None:
    (mnt.path / "l").mkdir()
    mnt.set_type("l", "list")
    mnt.sh(f"for i in {order}; do echo item$i > l/$i; cat l/$i > /dev/null; done")
    assert mnt.items("l") == [f"item{n}" for n in range(5)]
    mnt.again()
    assert mnt.items("l") == [f"item{n}" for n in range(5)]


def test_nested_items_in_any_order(mnt: Mount) -> None:
    (mnt.path / "l").mkdir()
    mnt.set_type("l", "list")
    mnt.sh("mkdir l/1; echo x > l/1/x; ln -s 1 l/2; echo zero > l/0")
    assert mnt.sh("cat l/1/x l/2/x l/0; readlink l/2") == "x\nx\nzero\n1\n"
    mnt.again()
    assert mnt.sh("cat l/1/x l/2/x l/0; readlink l/2") == "x\nx\nzero\n1\n"


def test_items_after_a_missing_index(mnt: Mount) -> None:
    """They are in the store when their file is closed, and wait there under their names."""
    mnt.list("l", "a")
    mnt.sh("echo c > l/2; mkdir l/5; echo x > l/5/x; echo d > l/.7.AbCdEf; mv l/.7.AbCdEf l/7; cat l/2 l/7")
    for end in (mnt.again, mnt.die):
        end()
        assert mnt.names("l") == [0, 2, 5, 7]
        assert mnt.sh("cat l/0 l/2 l/5/x l/7") == "a\nc\nx\nd\n"
        mnt.fails("rmdir l")
    assert not (mnt.path / "l/@1").exists()
    mnt.sh("echo b > l/1; echo C > l/2")
    assert mnt.sh("cat l/@1 l/@2; rm l/7; echo e > l/3") == "b\nC\n"
    mnt.die()
    assert mnt.names("l") == [0, 1, 2, 3, 5]
    mnt.sh("echo f > l/4")
    assert mnt.sh("cat l/@-1/x l/@4") == "x\nf\n"
    mnt.sh("rm -r l")
    assert not (mnt.path / "l").exists()


def test_a_dict_becomes_a_list(mnt: Mount) -> None:
    mnt.sh("mkdir l; for i in 2 0 1; do echo item$i > l/$i; done")
    mnt.set_type("l", "list")
    assert mnt.items("l") == ["item0", "item1", "item2"]
    mnt.sh("mkdir m; echo 0 > m/0; echo 2 > m/2; ln -s ../late m/1")
    mnt.set_type("m", "list")
    assert mnt.type("m") == "list"
    mnt.sh("mkdir late; echo here > late/x")
    assert mnt.sh("cat m/0 m/1/x m/2") == "0\nhere\n2\n"
    mnt.again()
    assert mnt.sh("cat m/0 m/1/x m/2") == "0\nhere\n2\n"


@pytest.mark.parametrize(
    "edit",
    [
        "sed -i s/b/B/ l/1",
        "perl -i -pe s/b/B/ l/1",
        "vim -es -u NONE -c '%s/b/B/' -c wq l/1 < /dev/null",
        "vim -es -u NONE -c 'set backup backupcopy=no' -c '%s/b/B/' -c wq l/1 < /dev/null",
        "vim -es -u NONE -c 'set backupcopy=yes' -c '%s/b/B/' -c wq l/1 < /dev/null",
        "echo B > /tmp/$$.B; rsync -I --inplace /tmp/$$.B l/1; rm /tmp/$$.B",
        "echo B > /tmp/$$.B; rsync -I /tmp/$$.B l/1; rm /tmp/$$.B",
    ],
)
def test_editors(mnt: Mount, edit: str) -> None:
    need("sed", "perl", "vim", "rsync")
    mnt.list("l", *"abc")
    mnt.sh(edit)
    assert mnt.sh("ls l | grep -v '~'").split() == ["0", "1", "2"]
    assert mnt.sh("cat l/0 l/1 l/2") == "a\nB\nc\n"
    mnt.again()
    assert mnt.items("l") == list("aBc")


def test_temporary_names_live_beside(mnt: Mount) -> None:
    mnt.list("l", "a")
    mnt.sh("echo new > l/.1.AbCdEf; ls -A l; cat l/.1.AbCdEf; mv l/.1.AbCdEf l/1")
    assert mnt.items("l") == ["a", "new"]
    mnt.sh("echo new > l/.0.AbCdEf; rm l/.0.AbCdEf; mkdir l/.x.tmp; rmdir l/.x.tmp")
    assert mnt.items("l") == ["a", "new"]


def test_a_queue(mnt: Mount) -> None:
    """Names stay correct however often items are added and removed."""
    mnt.list("l", *"abc")
    for n in range(30):
        mnt.sh(f"rm l/{n}; echo {n} > l/{n + 3}")
    assert (mnt.names("l"), mnt.items("l")) == ([30, 31, 32], ["27", "28", "29"])


COPIES = [
    "for n in $(seq 11 -1 0); do cp -a {src}/$n {dst}/$n; done",
    "cp -a {src}/. {dst}",
    "tar -C {src} -cf - . | tar -C {dst} -xf -",
    "tar -C {src} -cf - $(seq 11 -1 0) | tar -C {dst} -xf -",
    "rsync -a {src}/ {dst}/",
]


@pytest.mark.parametrize("copy", COPIES)
def test_copied_in_any_order(mnt: Mount, tmp_path: Path, copy: str) -> None:
    need("rsync", "tar")
    src = tmp_path / "src"
    (src / "3").mkdir(parents=True)
    (src / "3/deep").write_text("down\n")
    for n in range(12):
        if n != 3:
            (src / str(n)).write_text(f"item{n}\n")
    mnt.list("l")
    mnt.sh(copy.format(src=src, dst=mnt.path / "l"))
    mnt.die()
    assert mnt.names("l") == list(range(12))
    # Nothing waits any more: they have places.
    assert mnt.sh("cat l/@3/deep l/@11") == "down\nitem11\n"
    assert mnt.sh("cat l/0 l/10") == "item0\nitem10\n"


def test_temporary_files_of_programs(mnt: Mount) -> None:
    mnt.list("l", *"abc")
    mnt.typed("l/1", "int", "5\n")
    mnt.sh("cd l; t=$(mktemp -p .); echo B > $t; mv $t 2; t=$(mktemp tmpXXXXXX); rm $t")
    with tempfile.NamedTemporaryFile("w", dir=mnt.path / "l", delete=False) as f:
        f.write("7\n")
    os.replace(f.name, mnt.path / "l/1")
    assert (mnt.items("l"), mnt.type("l/1")) == (["a", "7", "B"], "int")
    fd, path = tempfile.mkstemp(dir=mnt.path / "l")
    os.write(fd, b"kept\n")
    os.close(fd)
    mnt.die()
    assert Path(path).read_text() == "kept\n"
    os.replace(path, mnt.path / "l/3")
    assert mnt.items("l") == ["a", "7", "B", "kept"]
