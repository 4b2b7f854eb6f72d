"""Names: every name denotes one key, and every key has a name."""

from __future__ import annotations

import os

import pytest
from conftest import Mount

NAMES = [
    b"plain", b"with space", b"-dash", b"100%", b"%41", b"%2f", b"%i:x", b"\xc3\xa9", b"a\nb", b"\xff\xfe", b"%",
    b"a%2Fb", b"%00", b"%2E", b"%2Epersist", b"%i:5", b"%f:1.5", b"%c:None", b"%b:00ff", b"%s:", b"%25i:5", b"~", b"*",
    b"x" * 255, "é".encode() * 127,
]  # fmt: skip


def test_names_come_back(mnt: Mount) -> None:
    top = os.fsencode(mnt.path)
    for name in NAMES:
        with open(top + b"/" + name, "wb") as f:
            f.write(name)
    assert sorted(os.listdir(top)) == sorted(NAMES)
    mnt.again()
    assert sorted(os.listdir(top)) == sorted(NAMES)
    for name in NAMES:
        with open(top + b"/" + name, "rb") as f:
            assert f.read() == name
        os.unlink(top + b"/" + name)
    assert os.listdir(top) == []


def test_too_long(mnt: Mount) -> None:
    with pytest.raises(OSError):
        (mnt.path / ("x" * 256)).write_text("")


def test_control_names(mnt: Mount) -> None:
    assert os.listdir(mnt.path) == []
    for name in (".persist", ".persist.lock"):
        with pytest.raises(OSError):
            os.mkdir(mnt.path / name)
        mnt.sh("echo x > f")
        with pytest.raises(OSError):
            os.rename(mnt.path / "f", mnt.path / name)
        with pytest.raises(OSError):
            os.rename(mnt.path / name, mnt.path / "g")
    mnt.sh("mkdir d; : > d/.persist.lock; test -e d/.persist.lock")
    assert os.listdir(mnt.path / "d") == []
    mnt.fails("echo x > d/.persist")
    assert "checkpoint" in mnt.sh("cat .persist/stat")
    assert mnt.sh("cat .persist/locks") == ""
    assert mnt.sh("ls .persist; ls .persist/snapshots").split() == ["locks", "snapshots", "stat"]
    mnt.fails("touch .persist/new")
    mnt.fails("rm .persist/stat")


def test_a_long_key_restored(mnt: Mount) -> None:
    """The name of a long key contains a hash; the xattr holds the key."""
    import hashlib

    key = "k" * 400
    name = "k" * 221 + "%~" + hashlib.sha256(key.encode()).hexdigest()[:32]
    (mnt.path / name).write_text("v\n")
    os.setxattr(mnt.path / name, "user.persist.key", b"s:" + key.encode())
    assert os.listdir(mnt.path) == [name]
    mnt.again()
    assert os.listdir(mnt.path) == [name]
    assert os.getxattr(mnt.path / name, "user.persist.key") == b"s:" + key.encode()
    assert (mnt.path / name).read_text() == "v\n"
    (mnt.path / name).unlink()
    assert os.listdir(mnt.path) == []
