"""Every example of README.md runs as printed, from top to bottom, in one empty directory.

The info string of a block determines its kind:

- `python`: one program. The comments after its `print(...)` lines are its expected output. With `# file: NAME` as its
  first line it is the content of that file.
- `console`: commands after `$ `, each followed by exactly its output.
- `sh`: a script that must succeed.
- `text`: not run, since it needs root, the network, another host, or a package that the tests do not have.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from acceptance import DEADLINE, TOP, Processes, clean_env, finish, mounted, need_fuse, wait_until

README = TOP / "README.md"
PICTURE = TOP / "docs" / "picture.py"
RUN = {"python", "console", "sh"}


class Block(NamedTuple):
    line: int
    info: str
    text: str


def blocks(text: str) -> list[Block]:
    found: list[Block] = []
    rows = text.split("\n")
    begin = None
    for n, row in enumerate(rows, 1):
        if not row.startswith("```"):
            continue
        if begin is None:
            begin = n
        else:
            found.append(Block(begin, rows[begin - 1][3:], "".join(f"{r}\n" for r in rows[begin : n - 1])))
            begin = None
    assert begin is None, f"the block of line {begin} has no end"
    return found


def expected(program: str) -> str:
    """Return the output of a program according to its comments after `print(...)`."""
    return "".join(f"{said}\n" for said in re.findall(r"^ *print\(.*\) +# (.*)$", program, re.MULTILINE))


def commands(block: str) -> Iterator[tuple[str, str]]:
    """Return the commands of a console block, and the output of each."""
    command, printed = "", ""
    for row in block.splitlines(keepends=True):
        if row.startswith("$ "):
            if command:
                yield command, printed
            command, printed = row[2:], ""
        else:
            assert command, f"output before the first command: {row}"
            printed += row
    yield command, printed


class Reader:
    """A reader of README that pastes each block, in one directory."""

    def __init__(self, home: Path, procs: Processes, name: str = "README.md") -> None:
        self.home, self.procs, self.name = home, procs, name
        self.env = clean_env(LC_ALL="C.UTF-8")

    def python(self, block: Block) -> None:
        named = re.match(r"# file: (\S+)\n", block.text)
        if named:
            (self.home / named[1]).write_text(block.text)
            return
        program = self.home / f"line{block.line}.py"
        program.write_text(block.text)
        out = finish(self.procs.start(sys.executable, program, cwd=self.home, env=self.env))
        assert out == expected(block.text), f"{self.name}:{block.line} printed {out!r}"

    def console(self, block: Block) -> None:
        for command, want in commands(block.text):
            # Into a file: the process of a mount outlives the command.
            with open(self.home.parent / "printed", "w+") as printed:
                done = subprocess.run(
                    ["bash", "-c", command], cwd=self.home, env=self.env, stdin=subprocess.DEVNULL, stdout=printed,
                    stderr=subprocess.STDOUT, timeout=DEADLINE,
                )  # fmt: skip
                printed.seek(0)
                out = printed.read()
            # `diff` reports differences by its exit status.
            ok = done.returncode == (1 if command.startswith("diff ") and want else 0)
            assert ok, f"{self.name}:{block.line}: {command} ended with {done.returncode}: {out}"
            assert out == want, f"{self.name}:{block.line}: {command} printed {out!r}"

    def sh(self, block: Block) -> None:
        finish(self.procs.start("bash", "-euc", block.text, cwd=self.home, env=self.env))


def unmount(point: Path) -> None:
    if mounted(point):
        subprocess.run(["umount", "-l", str(point)], check=False)
        wait_until(lambda: not mounted(point), what=f"the umount of {point}")


ALL = blocks(README.read_text(encoding="utf-8"))
# What later blocks need of a block that cannot run here, since there is no FUSE: the same change through Python.
STAND_IN = {
    "sed -i s/29/30/ mnt/Joe/age": "root['Joe'].age = 30",
    "echo 31 > mnt/Joe/age": "root['Joe'].age = 31",
}


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """Return the reader of all blocks, which are run in their order."""
    home = tmp_path_factory.mktemp("readme") / "empty"
    home.mkdir()
    procs = Processes()
    yield Reader(home, procs)
    unmount(home / "mnt")
    procs.close()


def need_what_it_uses(block: Block, reader: Reader) -> None:
    """Skip a block that uses what is missing here, after making the changes that later blocks build on."""
    if "gevent" in block.text:
        pytest.importorskip("gevent", reason="this recipe uses gevent (scripts/lib/requirements-test.txt)")
    if "mount.persist" in block.text:
        try:
            need_fuse()
        except pytest.skip.Exception:
            for command, change in STAND_IN.items():
                if command in block.text:
                    program = f"import persist, people; root = persist.root('site.store'); {change}"
                    finish(reader.procs.start(sys.executable, "-c", program, cwd=reader.home, env=reader.env))
            raise


@pytest.mark.parametrize("block", [b for b in ALL if b.info in RUN], ids=lambda b: f"line{b.line}")
def test_every_block_runs_as_printed(block: Block, reader: Reader) -> None:
    need_what_it_uses(block, reader)
    getattr(reader, block.info)(block)


def test_there_are_many_blocks() -> None:
    assert len([b for b in ALL if b.info in RUN]) > 20
    for command in STAND_IN:
        assert len([b for b in ALL if command in b.text]) == 1, command


def test_a_block_that_is_not_run_is_marked() -> None:
    assert {block.info for block in ALL} <= RUN | {"text"}


def test_what_is_printed_is_read_from_comments() -> None:
    assert expected("print(1)    # 1\nx = 2  # two\n    print('#')  # #\nprint(x)\n") == "1\n#\n"
    assert list(commands("$ a\nb\n$ c\n")) == [("a\n", "b\n"), ("c\n", "")]


def test_the_picture_is_what_its_script_draws(tmp_path: Path) -> None:
    copy = tmp_path / PICTURE.name
    copy.write_bytes(PICTURE.read_bytes())
    subprocess.run([sys.executable, str(copy)], check=True, timeout=DEADLINE)
    assert (tmp_path / "two-doors.svg").read_bytes() == (TOP / "docs" / "two-doors.svg").read_bytes()
