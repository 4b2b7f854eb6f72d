"""Every example of fuse/SEMANTICS.md runs as printed, as those of README do, in one empty directory."""

from __future__ import annotations

from pathlib import Path

from acceptance import TOP, Processes, need_fuse
from test_readme import RUN, Reader, blocks, unmount

SEMANTICS = TOP / "fuse" / "SEMANTICS.md"


def test_every_rule_is_as_printed(tmp_path: Path, procs: Processes) -> None:
    need_fuse()
    home = tmp_path / "empty"
    home.mkdir()
    reader = Reader(home, procs, "fuse/SEMANTICS.md")
    found = blocks(SEMANTICS.read_text(encoding="utf-8"))
    assert {block.info for block in found} <= RUN and len(found) >= 8
    try:
        for block in found:
            getattr(reader, block.info)(block)
    finally:
        unmount(home / "mnt")
