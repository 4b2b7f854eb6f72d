"""Filesystems of one test: small, read-only, with quotas, on failing devices."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

SBIN = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


class Missing(Exception):
    """This system cannot do what the test needs."""


def not_tried(what: str, why: object) -> NoReturn:
    """Skip a test visibly: it appears in the table of the torture."""
    pytest.skip(f"not tried: {what}: {' '.join(str(why).split())}")


def run(*argv: object) -> str:
    program = shutil.which(str(argv[0]), path=SBIN)
    if program is None:
        raise Missing(f"there is no {argv[0]}")
    done = subprocess.run([program, *map(str, argv[1:])], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Missing(f"{argv[0]}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


@contextlib.contextmanager
def mounted(point: Path, *argv: object) -> Iterator[Path]:
    """Run `mount ARGV POINT`, and unmount at the end."""
    if os.geteuid() != 0:
        raise Missing("mounting needs root")
    point.mkdir(parents=True, exist_ok=True)
    run("mount", *argv, point)
    try:
        yield point
    finally:
        subprocess.run(["umount", "-l", str(point)], check=False)


@contextlib.contextmanager
def loop(image: Path, point: Path, mib: int, *make: object, options: str = "") -> Iterator[Path]:
    """Create a filesystem in a sparse file with the command `make`."""
    with image.open("wb") as f:
        f.truncate(mib << 20)
    run(*make, image)
    with mounted(point, "-o", ",".join(filter(None, ["loop", options])), image):
        yield point


def block_of(path: Path, block: int) -> int:
    """Return the place of a file's block on its device (FIBMAP)."""
    with path.open("rb") as f:
        return int(struct.unpack("i", fcntl.ioctl(f, 1, struct.pack("i", block)))[0])


def forget_pages(path: Path) -> None:
    """Drop from the page cache a file that no process has mapped."""
    with path.open("rb") as f:
        os.fsync(f.fileno())
        os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
