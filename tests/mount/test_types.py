"""Types: the xattr, and what overwriting and editors preserve."""

from __future__ import annotations

import errno
import os

import persist
import pytest
from conftest import CLASS, TYPE, Mount, need


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("int", "25\n"),
        ("int", "-123456789012345678901234567890\n"),
        ("float", "1.5\n"),
        ("float", "1e+16\n"),
        ("float", "nan\n"),
        ("bool", "True\n"),
        ("none", "None\n"),
        ("str", "25\n"),
        ("bytes", "25\n"),
    ],
)
def test_the_type_before_or_after_the_content(mnt: Mount, kind: str, text: str) -> None:
    mnt.sh(f"printf -- '{text}' > after; setfattr -n {TYPE} -v {kind} after")
    mnt.sh(f"touch before; setfattr -n {TYPE} -v {kind} before")
    if kind != "none":
        assert mnt.type("before") == kind
    mnt.sh(f"printf -- '{text}' > before; setfattr -n {TYPE} -v {kind} before")
    with open(mnt.path / "during", "w") as f:
        f.write(text)
        f.flush()
        os.setxattr(f.fileno(), TYPE, kind.encode())
    for name in ("after", "before", "during"):
        assert mnt.type(name) == kind
        assert (mnt.path / name).read_text() == text
    mnt.again()
    assert mnt.type("during") == kind
    assert mnt.sh(f"getfattr -d -m - during | grep -c {kind}") == "1\n"


def test_text_that_does_not_fit_is_refused(mnt: Mount) -> None:
    cases = (("i", "int", "25", "abc"), ("f", "float", "1.5", "x"), ("b", "bool", "True", "maybe"))
    for name, kind, text, bad in cases:
        mnt.typed(name, kind, text)
        # The error is reported where the writer checks: at the write.
        assert "Invalid argument" in mnt.fails(f"echo {bad} > {name}")
        assert mnt.sh(f"cat {name}") == f"{text}\n"
        with pytest.raises(OSError) as e:
            os.setxattr(mnt.path / name, TYPE, b"none")
        assert e.value.errno == errno.EINVAL
    # Digits that are not a number: at the close.
    with pytest.raises(OSError) as e:
        with open(mnt.path / "i", "w") as f:
            f.write("1+1")
    assert e.value.errno == errno.EINVAL
    assert mnt.sh("cat i") == "25\n"
    mnt.sh(": > i", check=False)
    assert mnt.sh("cat i") == "25\n"
    mnt.sh("echo ' 26 ' > i; echo 2 > f; echo false > b")
    assert mnt.sh("cat i f b") == "26\n2.0\nFalse\n"
    assert [mnt.type(n) for n in "ifb"] == ["int", "float", "bool"]


def test_none_takes_a_new_value(mnt: Mount) -> None:
    mnt.typed("n", "none", "None")
    mnt.sh("echo hello > n")
    assert mnt.type("n") == "str"
    assert mnt.sh("cat n") == "hello\n"


def test_types_of_directories(mnt: Mount) -> None:
    (mnt.path / "d").mkdir()
    assert mnt.type("d") == "dict"
    mnt.sh("echo Joe > d/name")
    os.setxattr(mnt.path / "d", CLASS, b"people:Person")
    assert mnt.type("d") == "object"
    assert os.getxattr(mnt.path / "d", CLASS) == b"people:Person"
    assert sorted(os.listxattr(mnt.path / "d")) == [CLASS, TYPE]
    mnt.set_type("d", "object")
    assert os.getxattr(mnt.path / "d", CLASS) == b"people:Person"
    assert mnt.sh("cat d/name") == "Joe\n"
    mnt.set_type("d", "dict")
    assert mnt.type("d") == "dict"
    os.setxattr(mnt.path / "d", CLASS, b"")
    assert mnt.type("d") == "object"
    with pytest.raises(OSError):
        os.setxattr(mnt.path / "d", TYPE, b"list")
    assert mnt.sh("cat d/name") == "Joe\n"


def test_foreign_attributes(mnt: Mount) -> None:
    mnt.sh("echo x > f")
    with pytest.raises(OSError) as e:
        os.getxattr(mnt.path / "f", "user.nothing")
    assert e.value.errno == errno.ENODATA
    with pytest.raises(OSError) as e:
        os.setxattr(mnt.path / "f", "trusted.mine", b"1")
    assert e.value.errno == errno.EOPNOTSUPP
    with pytest.raises(OSError):
        os.setxattr(mnt.path / "f", TYPE, b"nonsense")
    # rsync removes attributes that its source does not have; the type stays.
    os.removexattr(mnt.path / "f", TYPE)
    assert mnt.type("f") == "str"


@pytest.mark.parametrize(
    "edit",
    [
        "sed -i s/25/26/ age",
        "perl -i -pe s/25/26/ age",
        "vim -es -u NONE -c '%s/25/26/' -c wq age < /dev/null",
        "vim -es -u NONE -c 'set backup backupcopy=no' -c '%s/25/26/' -c wq age < /dev/null",
        "vim -es -u NONE -c 'set backupcopy=yes' -c '%s/25/26/' -c wq age < /dev/null",
        "printf '26\\n' > age.new && mv age.new age",
        "printf '26\\n' > .age.tmp && mv -f .age.tmp age",
    ],
)
def test_editors_keep_the_type(mnt: Mount, edit: str) -> None:
    need("sed", "perl", "vim")
    mnt.typed("age", "int", "25\n")
    mnt.sh(edit)
    assert mnt.sh("cat age") == "26\n"
    assert mnt.type("age") == "int"
    assert [n for n in os.listdir(mnt.path) if n != "age~"] == ["age"]


def test_an_editor_that_spoils_a_number(mnt: Mount) -> None:
    mnt.typed("age", "int", "25\n")
    mnt.sh("sed -i s/25/old/ age")
    assert (mnt.sh("cat age"), mnt.type("age")) == ("old\n", "str")


def test_moving_keeps_the_type(mnt: Mount) -> None:
    mnt.typed("age", "int", "25\n")
    mnt.again()
    mnt.sh("echo text > name; mv age name")
    assert (mnt.sh("cat name"), mnt.type("name")) == ("25\n", "int")


def test_exact(mounts) -> None:  # type: ignore[no-untyped-def]
    plain = mounts("a")
    exact = mounts("a", "exact", at="exact.mnt")
    (plain.path / "f").write_text("Joe\n")
    assert (exact.path / "f").read_text() == "Joe"
    (exact.path / "g").write_text("Ann")
    assert (plain.path / "g").read_text() == "Ann\n"
    (exact.path / "g").write_text("Ann\n")
    assert (plain.path / "g").read_text() == "Ann\n\n"
    plain.typed("i", "int", "5")
    assert (exact.path / "i").read_text() == "5"


def test_infer(mounts) -> None:  # type: ignore[no-untyped-def]
    mnt = mounts("a", "infer")
    for text, kind in (
        ("5", "int"),
        ("1.5", "float"),
        ("true", "bool"),
        ("null", "none"),
        ("05", "str"),
        ("x", "str"),
    ):
        mnt.sh(f"echo {text} > f; rm -f g; mv f g")
        assert mnt.type("g") == kind, text
    mnt.sh("echo 5 > n; echo 6 > n")
    assert (mnt.type("n"), mnt.sh("cat n")) == ("int", "6\n")


def test_huge_ints(mnt: Mount) -> None:
    """Ints beyond Python's limit of digits are written and read in hexadecimal."""
    (mnt.path / "i").write_text("0x1" + "0" * 200_000 + "\n")
    mnt.set_type("i", "int")
    assert (mnt.path / "i").read_text() == "0x1" + "0" * 200_000 + "\n"
    assert (mnt.path / "i").stat().st_size == 200_004


@pytest.mark.parametrize(
    ("tool", "command"),
    [
        ("sed", "sed -i.bak s/5/6/ {0}"),
        ("perl", "perl -pi.bak -e s/5/6/ {0}"),
        ("cp", "mv {0} {0}.bak; echo 6 > new; mv new {0}"),
        ("cp", "cp -p {0} {0}.bak; echo 6 > {0}"),
    ],
)
def test_a_number_stays_a_number_beside_its_backup(mnt: Mount, tool: str, command: str) -> None:
    need(tool)
    with persist.open(mnt.store) as store:
        store.root.update({"n": 5, "l": [1, 5, 9], "new": None})
        del store.root["new"]
        for name in ("n", "l/1"):
            mnt.sh(command.format(name))
        assert store.root["n"] == 6 and list(store.root["l"]) == [1, 6, 9]
        assert mnt.sh("cat n.bak l/1.bak") == "5\n5\n"
        # Text that is not a number becomes a str, and the type says so.
        if tool == "sed":
            mnt.sh("sed -i.bak s/6/six/ n")
            assert store.root["n"] == "six" and mnt.type("n") == "str"
