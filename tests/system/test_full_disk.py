"""A full disk is an error that is rolled back, and the store continues when there is space again."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import persist
import pytest


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a filesystem of 8 MiB."""
    point = tmp_path / "disk"
    point.mkdir()
    if os.geteuid() != 0 or not shutil.which("mount"):
        pytest.skip("needs root, to mount a tmpfs")
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", point], capture_output=True, text=True
    )
    if made.returncode != 0:
        pytest.skip(f"no tmpfs can be mounted here: {made.stderr}")
    try:
        yield point
    finally:
        subprocess.run(["umount", "-l", point], check=False)


def fill_disk(path: Path) -> None:
    """Fill the rest of the disk."""
    with path.open("wb", buffering=0) as f:
        for size in 65536, 4096, 1:
            try:
                while True:
                    f.write(b"x" * size)
            except OSError as e:
                assert e.errno == errno.ENOSPC


def test_full_disk(disk: Path) -> None:
    with persist.open(disk / "s.store") as store:
        root = store.root
        root["kept"] = {"a": [1, 2, 3]}
        root["list"] = []
        fill_disk(disk / "ballast")
        # The store first uses its free pages; then the error comes.
        with pytest.raises(OSError) as caught:
            for i in range(100_000):
                root["list"].append(f"{i} " + "y" * 200)
        assert caught.value.errno == errno.ENOSPC
        assert caught.value.filename == str(disk / "s.store") and "try again" in str(caught.value)
        n = len(root["list"])
        assert n < 100_000
        with pytest.raises(OSError) as caught, store.transaction():
            root["kept"]["a"].append(4)
            root["big"] = "z" * 9_000_000
        assert caught.value.errno == errno.ENOSPC
        assert list(root["kept"]["a"]) == [1, 2, 3] and "big" not in root
        assert len(root["list"]) == n
        if n:
            assert root["list"][-1] == f"{n - 1} " + "y" * 200
        # Deleting works on a full disk.
        del root["list"]
        assert "list" not in root
        (disk / "ballast").unlink()
        root["big"] = "z" * 100_000
        store.sync()
    with persist.open(disk / "s.store") as store:
        assert persist.copy_out(store.root) == {"kept": {"a": [1, 2, 3]}, "big": "z" * 100_000}


def test_a_store_cannot_be_made_on_a_full_disk(disk: Path) -> None:
    fill_disk(disk / "ballast")
    with pytest.raises(OSError) as caught:
        persist.open(disk / "s.store")
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.filename == str(disk / "s.store")
    (disk / "ballast").unlink()
    with persist.open(disk / "s.store") as store:
        store.root["x"] = 1
