"""Stores that earlier versions of persist have written, kept in `old_stores` as those versions wrote them: a version
that only lacks additions is read and written; each other one is refused by every command and door with both version
numbers and a remedy, and nothing is changed or created."""

from __future__ import annotations

import lzma
import subprocess
import sys
from pathlib import Path

import persist
import pytest

OLD = sorted((Path(__file__).parent / "old_stores").glob("v*.store.xz"))
COMMAND = Path(sys.executable).parent / "persist"
NOW = 5
READ = 4
REFUSED = [path for path in OLD if int(path.name[1]) < READ]


@pytest.fixture(params=REFUSED, ids=lambda path: path.name.split(".")[0])
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
    for argv in (
        ["check", path],
        ["stat", path],
        ["backup", path, new],
        ["restore", path, new],
        ["compact", path],
    ):
        done = subprocess.run([COMMAND, *argv], capture_output=True, text=True, timeout=100)
        assert done.returncode != 0, argv
        refusal(done.stderr + done.stdout, version)
    assert path.read_bytes() == before
    left = {p.name for p in path.parent.iterdir()}
    # The lock file is all that an opening creates.
    assert left <= {"old.store", "old.store-lock"}, left


def version_of(path: Path) -> int:
    """Return the format version of the newest of the two meta pages."""
    content = path.read_bytes()[: 2 * 4096]
    pages = (content[:4096], content[4096:])
    newest = max(pages, key=lambda page: int.from_bytes(page[32:40], "little"))
    return int.from_bytes(newest[8:12], "little")


@pytest.fixture
def before(tmp_path: Path) -> Path:
    """Return a store of version 4."""
    path = tmp_path / "old.store"
    path.write_bytes(lzma.decompress(next(p for p in OLD if p.name[1] == "4").read_bytes()))
    return path


def judge(store: persist.Store, n: int) -> None:
    """Fail unless the store has what version 4 wrote, with `n` under "n"."""
    root = store.root
    assert root["n"] == n
    assert (root["big"], root["neg"], root["none"], root["x"]) == (1 << 100, -(1 << 90), None, 0.1)
    assert (root["s"], root["long"]) == ("text", "\u00e9" * 3000)
    assert (root["bytes"], root["blob"]) == (b"\x00\xff", b"0123456789" * 2000)
    assert root["link"] == persist.Link("../elsewhere")
    assert dict(root["d"]) == {i: str(i) for i in range(100)} and root["again"] is root["d"]
    assert persist.copy_out(root[1]) == {b"k": 2.5, "nested": [1, [2, {"three": 3}]]}
    assert list(root["l"][:50]) == list(range(50)) and root["l"][50] is root


def test_a_store_of_version_4_is_read_and_stays_as_it_is(before: Path) -> None:
    content = before.read_bytes()
    with persist.open(before, "r") as store:
        judge(store, 8)
    with persist.open(before) as store:
        judge(store, 8)
        with persist.open(before, "r", snapshot="kept") as kept:
            judge(kept, 7)
            assert kept.root["yes"] is True
    assert before.read_bytes() == content and version_of(before) == READ


def test_a_store_of_version_4_is_written_and_is_then_of_this_version(before: Path) -> None:
    with persist.open(before) as store:
        store.root["n"] = 9
        store.root["d"]["new"] = ["added"]
        del store.root["d"]["new"]
    assert version_of(before) == NOW
    with persist.open(before) as store:
        judge(store, 9)
        with persist.open(before, "r", snapshot="kept") as kept:
            judge(kept, 7)
    done = subprocess.run([COMMAND, "check", before], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr


def test_commands_take_a_store_of_version_4(before: Path) -> None:
    def run(*argv: object) -> None:
        done = subprocess.run([COMMAND, *map(str, argv)], capture_output=True, text=True, timeout=100)
        assert done.returncode == 0, (argv, done.stdout + done.stderr)

    full, new = before.with_name("full.store"), before.with_name("new.store")
    run("check", before)
    run("stat", before)
    run("backup", before, full)
    run("restore", full, new)
    with persist.open(new) as store:
        judge(store, 8)
    assert version_of(new) == NOW
    run("compact", before)
    with persist.open(before) as store:
        judge(store, 8)
