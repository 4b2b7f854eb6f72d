"""When close returns, what was written is stored: with copied and inherited descriptors, and in every shell."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from typing import Any

import pytest
from conftest import Mount

SHELLS = [shell for shell in ("bash", "dash", "zsh", "busybox") if shutil.which(shell)]


def test_the_first_close_of_two_descriptors_stores(mnt: Mount, root: Any) -> None:
    root["f"] = "old"
    fd = os.open(mnt.path / "f", os.O_WRONLY | os.O_TRUNC)
    copy = os.dup(fd)
    os.write(copy, b"new\n")
    os.close(copy)
    assert root["f"] == "new"
    os.write(fd, b"more\n")
    os.close(fd)
    assert root["f"] == "new\nmore"


def test_a_close_stores_also_of_a_new_file(mnt: Mount, root: Any) -> None:
    fd = os.open(mnt.path / "f", os.O_WRONLY | os.O_CREAT)
    copy = os.dup(fd)
    os.write(fd, b"new\n")
    assert root["f"] == ""
    os.close(fd)
    assert root["f"] == "new"
    os.close(copy)


def test_a_file_that_is_cut_and_not_written_is_empty_after_its_close(mnt: Mount, root: Any) -> None:
    for _ in range(50):
        root["f"] = "old"
        os.close(os.open(mnt.path / "f", os.O_WRONLY | os.O_TRUNC))
        assert root["f"] == ""


def test_every_close_reports_what_does_not_fit(mnt: Mount, root: Any) -> None:
    root["n"] = 5
    fd = os.open(mnt.path / "n", os.O_WRONLY | os.O_TRUNC)
    copy = os.dup(fd)
    os.write(fd, b"-")
    for descriptor in (copy, os.dup(fd)):
        with pytest.raises(OSError) as e:
            os.close(descriptor)
        assert e.value.errno == errno.EINVAL
        assert root["n"] == 5
    os.write(fd, b"7\n")
    os.close(fd)
    assert root["n"] == -7


def test_a_parent_gets_the_error_of_its_child(mnt: Mount, root: Any) -> None:
    root["n"] = 5
    fd = os.open(mnt.path / "n", os.O_WRONLY | os.O_TRUNC)
    child = os.fork()
    if child == 0:
        os.write(fd, b"-")
        os._exit(0)
    os.waitpid(child, 0)
    with pytest.raises(OSError) as e:
        os.close(fd)
    assert e.value.errno == errno.EINVAL and root["n"] == 5


def test_a_child_that_writes_nothing_shows_nothing(mnt: Mount, root: Any) -> None:
    """A program that starts another one in the middle of its writing: the descriptor is closed there."""
    root["f"] = "old"
    fd = os.open(mnt.path / "f", os.O_WRONLY | os.O_TRUNC)
    os.write(fd, b"first half, ")
    subprocess.run(["true"], check=True)
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    assert root["f"] == "old"
    os.write(fd, b"second half\n")
    os.close(fd)
    assert root["f"] == "first half, second half"


def test_what_a_child_wrote_is_stored_at_its_end(mnt: Mount, root: Any) -> None:
    root["f"] = "old"
    fd = os.open(mnt.path / "f", os.O_WRONLY | os.O_TRUNC)
    subprocess.run(["echo", "child"], stdout=fd, check=True)
    assert root["f"] == "child"
    os.write(fd, b"parent\n")
    os.close(fd)
    assert root["f"] == "child\nparent"


@pytest.mark.parametrize("shell", SHELLS)
def test_shells(mnt: Mount, root: Any, shell: str) -> None:
    command = [shell, "sh"] if shell == "busybox" else [shell]
    seen = mnt.path.parent / "seen"

    def sh(script: str) -> str:
        """Run the script. `look` appends the content of f to the result."""
        seen.write_text("")
        script = f"look() {{ cat {mnt.path}/f >> {seen}; echo . >> {seen}; }}\n" + script
        done = subprocess.run(
            [*command, "-c", script], cwd=mnt.path, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0 and not done.stderr, (script, done.stderr)
        return seen.read_text()

    root["f"], root["n"] = "old", 1
    # The command of a redirection starts after the shell has closed the descriptor that it opened.
    assert sh("(look; echo new) > f") == "old\n.\n"
    assert root["f"] == "new"
    # Some shells close a copy here, after they have written through it.
    assert sh("{ echo 1; look; } > f; look") in ("new\n.\n1\n.\n", "1\n.\n1\n.\n")
    assert sh("exec 3> f; look; echo a >&3; look; echo b >&3; look; exec 3>&-; look") in (
        "1\n.\na\n.\na\nb\n.\na\nb\n.\n",
        # A shell that opens another descriptor first has closed one that it cut.
        ".\na\n.\na\nb\n.\na\nb\n.\n",
    )
    assert sh("exec 3> f; (echo a >&3; look); echo b >&3; look").endswith("a\n.\na\nb\n.\n")
    assert root["f"] == "a\nb"
    sh("{ printf 1; printf 2; } > n")
    assert root["n"] == 12
    sh("exec 3> n; (printf 3 >&3); printf 4 >&3")
    assert root["n"] == 34
    sh("for i in 1 2 3; do env echo $i; done > f")
    assert root["f"] == "1\n2\n3"
    sh(": > f")
    assert root["f"] == ""
    sh("echo x > f; > f")
    assert root["f"] == ""


def test_a_copy_that_is_closed_before_the_writing(mnt: Mount, root: Any) -> None:
    """As a shell does, which opens one descriptor and writes through a copy."""
    root["f"] = "old"
    code = """if True:
        import os
        with open("f", "w") as f:
            os.close(os.dup(f.fileno()))
            assert open("f").read() == "old\\n"
            f.write("new\\n")
            f.flush()
            assert open("f").read() == "old\\n"
        assert open("f").read() == "new\\n"
    """
    subprocess.run([sys.executable, "-c", code], cwd=mnt.path, check=True, timeout=60)
