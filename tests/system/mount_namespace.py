"""A mount namespace for tests of mount(8): the installation in it changes nothing of the machine.

The helpers belong to /sbin, and fstab to /etc: both are overlaid. There is no systemd in the namespace: lines of fstab
are mounted by `mount DIR`, and options for systemd must only be accepted.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from acceptance import DEADLINE, TOP, clean_env, need_fuse

# What each test begins with: a place for the installation, a store, a directory to mount it on.
BEGIN = r"""
set -eu
cd "$1"
for dir in /usr/sbin /etc /usr/local; do
    name=${dir//\//_}
    mkdir -p layers/$name.upper layers/$name.work
    mount -t overlay -o "lowerdir=$dir,upperdir=layers/$name.upper,workdir=layers/$name.work" none $dir
done
"$2/scripts/install" >install.log 2>&1 || { cat install.log; exit 9; }
export PATH=/usr/local/bin:/usr/sbin:/sbin:$PATH
mkdir -p mnt
python -c "import persist; r = persist.root('s.store'); r['n'] = 5; r['t'] = 'text'; r['d'] = {}"
shown() { grep " $PWD/mnt " /proc/mounts; }
get() { persist get s.store "$1"; }
# fails CODE PATTERN COMMAND...: the command fails with this status, and says this.
fails() {
    code=0 wanted=$1 pattern=$2
    shift 2
    "$@" >said 2>&1 || code=$?
    if [ $code != "$wanted" ] || ! grep -qE -- "$pattern" said; then
        echo "$*: status $code, and said:"; cat said; exit 8
    fi
}
# fuse_for_all: other users may make mounts too.
fuse_for_all() { mknod -m 666 fuse c 10 229; mount --bind fuse /dev/fuse; }
end() { umount -l mnt 2>/dev/null || true; }
trap end EXIT
"""


def helped() -> None:
    need_fuse()
    if os.geteuid() != 0:
        pytest.skip("mount(8) needs root")


@contextmanager
def new_home(tmp_path: Path) -> Iterator[Path]:
    """Return a directory that other users can enter, on a filesystem of its own that can be overlaid."""
    helped()
    base = tmp_path / "home"
    base.mkdir()
    for directory in (base, *base.parents):
        if directory.owner() == "root" and directory != Path("/") and not directory.stat().st_mode & 0o1:
            directory.chmod(directory.stat().st_mode | 0o011)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "persist-test", base], check=True, timeout=DEADLINE)
    yield base
    subprocess.run(["umount", "-l", base], check=False, timeout=DEADLINE)


def inside(home: Path, script: str) -> str:
    """Run a script in namespaces of its own. Its processes, the mounts' included, end with it."""
    argv = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "bash", "-c", BEGIN + script]
    done = subprocess.run(
        [*argv, "bash", home, TOP], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, timeout=DEADLINE, env=clean_env(), cwd="/",
    )  # fmt: skip
    assert done.returncode == 0, f"ended with {done.returncode}\n{done.stdout}"
    return done.stdout
