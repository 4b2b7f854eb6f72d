"""Memory of the mount's process."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import persist
import pytest
from conftest import Mount

COUNT = 100_000
MOST = 200  # bytes a name
LARGE = 64 << 20


def anonymous(mnt: Mount) -> int:
    """Return the bytes of memory of the mount's process that are not of a file."""
    lines = Path(f"/proc/{mnt.pids()[0]}/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("RssAnon:"))


VALUES: dict[str, Callable[[], Any]] = {
    "dict": lambda: {f"name {n}": n for n in range(COUNT)},
    "list": lambda: [str(n) for n in range(COUNT)],
}


@pytest.mark.parametrize("kind", VALUES)
def test_a_name_that_the_kernel_holds_takes_little(mounts: Callable[..., Mount], kind: str) -> None:
    mnt = mounts()
    with persist.open(mnt.store) as store:
        store.root["few"] = {f"name {n}": n for n in range(1000)}
        store.root["many"] = VALUES[kind]()
    mnt.sh("ls -l few > /dev/null")
    before = anonymous(mnt)
    for _ in range(2):
        assert mnt.sh("ls -l many | wc -l").strip() == str(COUNT + 1)
        took = (anonymous(mnt) - before) / COUNT
        assert took <= MOST, f"{took:.1f} bytes a name"


@pytest.mark.parametrize("append", [True, False])
def test_a_cut_character_does_not_load_the_text_before_it(mounts: Callable[..., Mount], append: bool) -> None:
    mnt = mounts()
    with persist.open(mnt.store) as store:
        store.root["f"] = "x" * LARGE
    path, text = mnt.path / "f", "ä€𐍈"
    fd = os.open(path, os.O_WRONLY | (os.O_APPEND if append else 0))
    os.lseek(fd, 0, os.SEEK_END)
    before = anonymous(mnt)
    for n, byte in enumerate(b"\n" + text.encode() + b"\n"):
        assert os.write(fd, bytes([byte])) == 1
        assert os.fstat(fd).st_size == LARGE + n + 2
        assert anonymous(mnt) - before < LARGE / 4
    os.close(fd)
    assert anonymous(mnt) - before < LARGE / 4
    with persist.open(mnt.store) as store:
        assert store.root["f"] == "x" * LARGE + "\n\n" + text
