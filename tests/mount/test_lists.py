"""Lists: names that stay stable under a running command, items in any order, temporary names."""

from __future__ import annotations

import os

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
    mnt.sh("rm l/0; rm l/0")
    assert mnt.items("l") == list("cdef")
    mnt.sh("for f in l/*; do rm $f; done")
    assert mnt.items("l") == []


def test_a_loop_with_conditions(mnt: Mount) -> None:
    mnt.list("l", *"abababab")
    mnt.sh("for f in l/*; do if grep -q a $f; then rm $f; fi; done")
    assert mnt.items("l") == list("bbbb")
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
    mnt.sh("mv out l/3")
    assert mnt.items("l") == list("acdb")
    mnt.sh("mv l/3 l/0")
    assert mnt.items("l") == list("bcd")
    mnt.sh("mv l/0 l/3")
    assert mnt.items("l") == list("cdb")
    mnt.sh("mkdir d; echo 1 > d/x; mv d l/3; cat l/3/x; mv l/3 e; cat e/x")
    assert mnt.items("l") == list("cdb")


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
    mnt.list("l", "a")
    mnt.sh("echo c > l/2; echo d > l/7; cat l/2 l/7")
    mnt.again()
    assert mnt.items("l") == ["a", "c", "d"]


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
        mnt.sh(f"rm l/0; echo {n} > l/2")
    assert mnt.items("l") == ["27", "28", "29"]
