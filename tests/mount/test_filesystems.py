"""A store on a FUSE mount: refused, unless the environment states that it shares memory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from conftest import DEADLINE, Mount

OPEN = """
import sys
import persist
store = persist.open(sys.argv[1])
store.root["n"] = 1
store.close()
print(persist.open(sys.argv[1]).root["n"])
"""


def try_open(path: Path, any_filesystem: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PERSIST_ANY_FILESYSTEM": any_filesystem}
    return subprocess.run(
        [sys.executable, "-c", OPEN, str(path)], capture_output=True, text=True, timeout=DEADLINE, env=env
    )


def test_a_store_on_a_mount_is_refused(mnt: Mount) -> None:
    path = mnt.path / "inner.store"
    done = try_open(path, "0")
    assert done.returncode != 0
    assert "FUSE" in done.stderr and "any_filesystem" in done.stderr, done.stderr
    assert not (mnt.path / "inner.store-lock").exists()
    assert not path.exists() or path.stat().st_size == 0
    path.unlink(missing_ok=True)
    # The user takes responsibility. Whether it works depends on the filesystem: it does not promise shared memory.
    done = try_open(path, "1")
    assert "any_filesystem" not in done.stderr, done.stderr
