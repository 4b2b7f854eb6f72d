"""The installation: `scripts/install` and `scripts/uninstall`."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from acceptance import BIN, DEADLINE, TOP, clean_env
from mount_namespace import inside

PROGRAMS = ("persist", "mount.persist")
HELPERS = ("mount.persist", "umount.persist", "mount.fuse.persist", "umount.fuse.persist")


def files(top: Path) -> set[str]:
    return {str(p.relative_to(top)) for p in top.rglob("*")}


def call(script: str, *args: object, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [TOP / "scripts" / script, *map(str, args)], capture_output=True, text=True, timeout=DEADLINE,
        env={**clean_env(), **env},
    )  # fmt: skip


def test_installation_into_a_prefix(tmp_path: Path) -> None:
    dest = tmp_path / "dest"
    dest.mkdir()
    before = files(dest)
    done = call("install", "--prefix", "/opt/persist", DESTDIR=str(dest))
    assert done.returncode == 0, done.stderr
    for name in PROGRAMS:
        path = dest / "opt/persist/bin" / name
        assert path.read_bytes() == (BIN / name).read_bytes() and path.stat().st_mode & 0o777 == 0o755
    sbin = "usr/sbin" if os.path.islink("/sbin") else "sbin"
    for name in HELPERS:
        assert os.readlink(dest / sbin / name) == "/opt/persist/bin/mount.persist"
    for page in ("man8/mount.persist.8", "man8/umount.persist.8", "man1/persist.1"):
        assert (dest / "opt/persist/share/man" / page).stat().st_mode & 0o777 == 0o644
    assert (dest / "opt/persist/share/doc/persist/SEMANTICS.md").exists()
    # The list names every file, and the scripts' help names the options.
    listed = (dest / "opt/persist/share/persist/installed").read_text()
    for path in files(dest):
        assert f"\t/{path}\t" in listed or path.endswith("share/persist/installed"), path
    # Once more: nothing is refused, nothing is added.
    there = files(dest)
    assert call("install", "--prefix=/opt/persist", DESTDIR=str(dest)).returncode == 0
    assert files(dest) == there
    done = call("uninstall", "--prefix", "/opt/persist", DESTDIR=str(dest))
    assert done.returncode == 0, done.stderr
    assert files(dest) == before


def test_what_others_put_there_stays(tmp_path: Path) -> None:
    dest = tmp_path / "dest"
    other = dest / "opt/persist/bin/persist"
    other.parent.mkdir(parents=True)
    (other.parent / "mine").touch()
    other.write_text("another program")
    done = call("install", "--prefix", "/opt/persist", DESTDIR=str(dest))
    assert done.returncode == 1 and f"{other} is there" in done.stderr and "--force" in done.stderr
    assert other.read_text() == "another program" and not (other.parent / "mount.persist").exists()
    assert call("install", "--prefix", "/opt/persist", "--force", DESTDIR=str(dest)).returncode == 0
    page = dest / "opt/persist/share/man/man1/persist.1"
    page.write_text("changed by hand")
    done = call("uninstall", "--prefix", "/opt/persist", DESTDIR=str(dest))
    assert done.returncode == 1 and str(page) in done.stderr
    left = {p for p in files(dest) if (dest / p).is_file() or (dest / p).is_symlink()}
    assert left == {"opt/persist/bin/mine", "opt/persist/share/man/man1/persist.1"}
    done = call("uninstall", "--prefix", "/opt/persist", DESTDIR=str(dest))
    assert done.returncode == 1 and "installed is missing" in done.stderr


@pytest.mark.parametrize("script", ["install", "uninstall"])
def test_help_and_mistakes_of_the_scripts(script: str, tmp_path: Path) -> None:
    done = call(script, "--help")
    assert done.returncode == 0 and f"scripts/{script} [--prefix DIR]" in done.stdout
    for args, part in ((["--prefx", "/x"], "--prefx"), (["--prefix"], "directory"), (["--prefix", "x"], "absolute")):
        done = call(script, *args, DESTDIR=str(tmp_path))
        assert done.returncode == 1 and part in done.stderr, (args, done)
    assert files(tmp_path) == set()


def test_man_finds_the_pages(home: Path) -> None:
    out = inside(
        home,
        """
export MANPAGER=cat
said() { man $1 | col -bx | tr -s ' ' >page; grep -qF -- "$2" page || { cat page; exit 7; }; }
said '8 mount.persist' 'mount.persist - '
said '8 umount.persist' 'umount.persist - '
said '1 persist' 'persist - '
man -w 8 mount.persist
for part in lockwait= SEMANTICS.md allow_root x-...; do said '8 mount.persist' $part; done
""",
    )
    assert "/man8/mount.persist.8" in out


def test_uninstalled_again(home: Path) -> None:
    inside(
        home,
        """
"$2/scripts/uninstall"
! ls /usr/sbin/*persist* 2>/dev/null
test -z "$(find /usr/local -name '*persist*')"
fails 32 'unknown filesystem type' mount -t persist s.store mnt
""",
    )
