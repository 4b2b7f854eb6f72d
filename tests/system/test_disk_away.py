"""The disk is detached and attached again in one boot, with the writes that had reached it: a store opens at its last
checkpoint or at a later whole state, and reports nothing else."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from acceptance import BIN
from disks import Missing, not_tried, run

# Count up two entries in one transaction each, with a checkpoint at 100, and report the number.
WRITER = """
import sys, persist
store = persist.open(sys.argv[1])
root = store.root
for i in range(100000):
    with store.transaction():
        root["a"] = i
        root["many"] = {str(n): i for n in range(50)}
        root["b"] = i
    if i == 100:
        store.sync()
    if i % 10 == 0:
        print(i, flush=True)
"""

# Open the store, check that it is one state, and close it.
READER = """
import sys, persist
store = persist.open(sys.argv[1])
root = store.root
a = root["a"]
assert root["b"] == a and dict(root["many"].items()) == {str(n): a for n in range(50)}, "torn"
root["after"] = a
store.close()
print(a)
"""


@contextlib.contextmanager
def attached(image: Path) -> Iterator[str]:
    """Attach an image to a loop device."""
    device = run("losetup", "--find", "--show", image).strip()
    try:
        yield device
    finally:
        subprocess.run(["losetup", "-d", device], check=False)


@contextlib.contextmanager
def mounted(device: str, point: Path) -> Iterator[None]:
    run("mount", device, point)
    try:
        yield
    finally:
        subprocess.run(["umount", str(point)], check=False)


def away_and_back(tmp: Path, make: list[str], *, flushed: bool) -> None:
    """Detach the disk, and attach its content at one moment, on the same device number if possible."""
    image, lost, point = tmp / "image", tmp / "lost", tmp / "point"
    point.mkdir()
    with image.open("wb") as f:
        f.truncate(400 << 20)
    run(*make, image)
    store = point / "a.store"
    with attached(image) as device, mounted(device, point):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(store)], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        for said in writer.stdout:
            if int(said) >= 300:
                break
        if flushed:
            # The sidecar reaches the disk as it is at some moment, and the writer continues.
            fd = os.open(f"{store}-shm", os.O_RDWR)
            os.fsync(fd)
            os.close(fd)
            for said in writer.stdout:
                if int(said) >= 600:
                    break
        # The disk is gone: later writes do not reach it.
        run("cp", "--sparse=always", image, lost)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
    with attached(lost) as device, mounted(device, point):
        for _ in range(2):
            opened = subprocess.run(
                [sys.executable, "-c", READER, str(store)], capture_output=True, text=True, check=False
            )
            assert opened.returncode == 0, opened.stderr
            assert int(opened.stdout) >= 100
        checked = subprocess.run([BIN / "persist", "check", store], capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("make", [["mkfs.ext4", "-q"], ["mkfs.xfs", "-q"]], ids=["ext4", "xfs"])
@pytest.mark.parametrize("flushed", [False, True])
def test_the_disk_goes_away_and_comes_back(tmp_path: Path, make: list[str], flushed: bool) -> None:
    try:
        away_and_back(tmp_path, make, flushed=flushed)
    except Missing as e:
        not_tried("a disk that goes away", e)
