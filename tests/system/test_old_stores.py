"""Stores that earlier versions of persist have written, kept in `old_stores` as those versions wrote them: each is
refused by every command and door with both version numbers and a remedy, and nothing is changed or created."""

from __future__ import annotations

import lzma
import subprocess
import sys
from pathlib import Path

import persist
import pytest

OLD = sorted((Path(__file__).parent / "old_stores").glob("v*.store.xz"))
COMMAND = Path(sys.executable).parent / "persist"
NOW = 4


@pytest.fixture(params=OLD, ids=lambda path: path.name.split(".")[0])
def old(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, int]:
    """Return a store of an old version, and the version."""
    path = tmp_path / "old.store"
    path.write_bytes(lzma.decompress(request.param.read_bytes()))
    return path, int(request.param.name[1])


def test_there_is_a_store_of_each_old_version() -> None:
    assert [path.name[1] for path in OLD] == [str(n) for n in range(1, NOW)]


def refusal(text: str, version: int) -> None:
    assert f"format version {version}" in text and f"of version {NOW}" in text, text
    # A full backup has the format of the store, so only the copy of a tree helps.
    assert "copy the tree" in text, text


def test_an_old_store_is_refused_by_name(old: tuple[Path, int]) -> None:
    path, version = old
    before = path.read_bytes()
    for mode in ("rw", "r"):
        with pytest.raises(persist.Error) as refused:
            persist.open(path, mode)
        refusal(str(refused.value), version)
    new = path.with_name("new.store")
    for argv in (["check", path], ["stat", path], ["backup", path, new], ["restore", path, new], ["compact", path]):
        done = subprocess.run([COMMAND, *argv], capture_output=True, text=True, timeout=100)
        assert done.returncode != 0, argv
        refusal(done.stderr + done.stdout, version)
    assert path.read_bytes() == before
    left = {p.name for p in path.parent.iterdir()}
    # The lock file is all that an opening creates.
    assert left <= {"old.store", "old.store-lock"}, left
