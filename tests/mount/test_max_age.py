"""The option max_age of the mount: what was written longer ago survives a power cut; `none` sets no bound."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import persist
import pytest
from conftest import Mount, binary, wait_until


def after_a_cut(mount: Mount) -> dict[object, object]:
    """Return what the store file alone holds."""
    copy = mount.store.with_suffix(".copy")
    shutil.copyfile(mount.store, copy)
    with persist.open(copy, "r") as store:
        found = dict(store.root)
    for left in copy.parent.glob(copy.name + "*"):
        left.unlink()
    return found


def age(mount: Mount) -> object:
    with persist.open(mount.store, "r") as store:
        return store.stat()["undurable_age"]


def test_what_is_older_than_max_age_survives(mounts: Callable[..., Mount]) -> None:
    mount = mounts(options="max_age=0.05")
    for n in range(3):
        (mount.path / "n").write_text(f"{n}\n")
        wait_until(lambda: age(mount) is None, "durability")
        assert after_a_cut(mount)["n"] == str(n)
    # A process that dies at once loses nothing of it.
    mount.kill()
    wait_until(lambda: not mount.pids(), "the mount's process to end")
    assert after_a_cut(mount)["n"] == "2"


def test_without_a_bound_only_sync_makes_durable(mounts: Callable[..., Mount]) -> None:
    mount = mounts(options="max_age=none")
    other = mounts("b", "max_age=0.05")
    (mount.path / "n").write_text("0\n")
    mount.sh("sync n")
    (mount.path / "n").write_text("1\n")
    for n in range(5):
        # Many times the other mount's bound.
        (other.path / "n").write_text(f"{n}\n")
        wait_until(lambda: age(other) is None, "durability elsewhere")
    assert after_a_cut(mount) == {"n": "0"}
    assert isinstance(age(mount), float)
    mount.sh("sync n")
    assert after_a_cut(mount) == {"n": "1"}
    assert age(mount) is None


@pytest.mark.parametrize("wrong", ["0", "-1", "nan", "soon", ""])
def test_wrong_bounds_are_refused(tmp_path: Path, wrong: str) -> None:
    (tmp_path / "mnt").mkdir()
    store = tmp_path / "a.store"
    argv = [binary(), str(store), str(tmp_path / "mnt"), "-o", f"create,max_age={wrong}"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=100)
    assert done.returncode != 0 and "max_age" in done.stderr, done.stderr
    assert not store.exists()
