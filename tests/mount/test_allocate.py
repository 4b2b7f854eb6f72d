"""fallocate, beside the same calls on a tmpfs."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from conftest import Mount

CALLS = [
    "-o 0 -l 10",
    "-o 5 -l 3000000",
    "-n -o 2 -l 5",
    "-p -o 3 -l 4",
    "-p -o 100 -l 2000000",
    "-p -o 4 -l 9000000",
    "-z -o 1 -l 6",
    "-z -o 2 -l 5000000",
    "-z -n -o 2 -l 5",
]
CONTENTS = [b"short text\n", b"", b"0123456789" * 300_000, bytes(range(256)) * 10]


@pytest.mark.parametrize("call", CALLS)
def test_it_does_what_a_local_filesystem_does(mnt: Mount, call: str) -> None:
    local = Path("/dev/shm") / f"persist-allocate-{os.getpid()}"
    for content in CONTENTS:
        results = []
        for path in (local, mnt.path / "f"):
            path.write_bytes(content)
            done = subprocess.run(["fallocate", *call.split(), str(path)], capture_output=True, text=True)
            results.append((done.returncode, path.read_bytes()))
        local.unlink()
        # ext4 zeroes a range, a tmpfs does not. The mount keeps no space beyond the end of a file.
        if "-z" in call:
            begin, length = int(call.split()[-3]), int(call.split()[-1])
            zeroed = content + bytes(max(begin + length - len(content), 0) if "-n" not in call else 0)
            end = min(begin + length, len(zeroed))
            zeroed = zeroed[:begin] + bytes(max(end - begin, 0)) + zeroed[end:] if begin < end else zeroed
            results[0] = (0, zeroed)
        if "-n" in call and int(call.split()[-3]) + int(call.split()[-1]) > len(content):
            results[0] = (1, content)
        assert results[0] == results[1], (call, content[:12], results[0][0], results[1][0])


def test_what_cannot_be_done_is_refused(mnt: Mount) -> None:
    path = mnt.path / "f"
    path.write_text("text\n")
    for call in ("-n -o 0 -l 4096", "-c -o 0 -l 4096", "-i -o 0 -l 4096"):
        done = subprocess.run(["fallocate", *call.split(), str(path)], capture_output=True, text=True)
        assert done.returncode != 0 and "supported" in done.stderr, done.stderr
    done = subprocess.run(["fallocate", "-l", "5G", str(path)], capture_output=True, text=True)
    assert done.returncode != 0 and "too large" in done.stderr
    assert path.read_text() == "text\n"


def test_an_open_file_sees_it(mnt: Mount) -> None:
    """A new file, a file that is appended to, and a file with another reader."""
    path = mnt.path / "f"
    with open(path, "ab") as f, open(path, "rb") as reader:
        f.write(b"abc")
        f.flush()
        os.posix_fallocate(f.fileno(), 0, 6)
        assert os.fstat(f.fileno()).st_size == 6
        f.write(b"def")
        f.flush()
        assert reader.read() == b"abc\0\0\0def"
    with open(path, "r+b") as f:
        os.posix_fallocate(f.fileno(), 0, 4)
        assert f.read() == b"abc\0\0\0def"
