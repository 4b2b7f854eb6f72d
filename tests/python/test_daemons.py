"""Programs that become daemons or drop privileges after they have opened a store."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import persist
import pytest


def test_closerange_after_opening(path: Path, script: Any) -> None:
    """The program's own files get the numbers of the store's descriptors: neither they nor the store are damaged."""
    out = script.run(
        """
        import os, persist, sys
        durability = sys.argv[2]
        store = persist.open(sys.argv[1], durability=durability, lock_timeout=100)
        root = store.root
        root.update(n=1, big=b"")
        store.sync()
        os.closerange(3, 200)
        files = [open(f"own{i}", "w+b", buffering=0) for i in range(60)]
        for file in files:
            file.write(b"f" * 18_000)
        assert min(file.fileno() for file in files) == 3
        done = 1
        try:
            for n in range(2, 200):
                # Grows the store, and is flushed.
                root["big"] = b"x" * (n * 20_000)
                root["n"] = n
                done = n
                store.sync()
        except OSError as e:
            print(type(e).__name__, e)
        else:
            print("no error")
        try:
            store.close()
        except OSError as e:
            print(type(e).__name__, e)
        for file in files:
            assert os.fstat(file.fileno()).st_size == 18_000
            file.seek(0)
            assert file.read() == b"f" * 18_000
        files[0].write(b"still mine")
        print(done)
        """,
        path,
        "checkpoint",
    )
    *errors, done = out.splitlines()
    assert "its descriptor was closed by this program" in errors[0], out
    with persist.open(path) as store:
        # What was acknowledged, and at most the change that the error concerns.
        assert store.root["n"] == int(done)
        assert len(store.root["big"]) in [0] + [n * 20_000 for n in (int(done), int(done) + 1)]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can drop privileges")
@pytest.mark.parametrize("durability", ["checkpoint", "commit"])
def test_privileges_dropped_after_opening(path: Path, script: Any, durability: str) -> None:
    """Root opens the store and drops its privileges: changes, checkpoints, the log, another process's death and the
    close go on as before."""
    unprivileged = """
        import os, persist, signal, sys
        path, durability = sys.argv[1:3]
        store = persist.open(path, durability=durability, lock_timeout=100)
        root = store.root
        root["n"] = 0
        os.setgroups([]); os.setgid(65534); os.setuid(65534)
        try:
            open(path, "r+b").close()
            raise SystemExit("it may still open the file")
        except PermissionError:
            pass
        for n in range(1, 50):
            root["n"] = n
            root[f"text {n}"] = "x" * 100_000
            if n % 10 == 0:
                store.sync()
            if n == 25:
                print("half", flush=True)
                assert sys.stdin.readline() == "dead\\n"
                assert root["other"] == 1
        with root.lock(), store.transaction():
            root["done"] = True
        store.sync()
        root["last"] = durability
        print("done", flush=True)
        if sys.stdin.readline() == "close\\n":
            store.close()
        else:
            os.kill(os.getpid(), signal.SIGKILL)
        """
    other = """
        import os, persist, signal, sys
        root = persist.open(sys.argv[1]).root
        root["other"] = 1
        root.lockExcl()
        store = root
        os.kill(os.getpid(), signal.SIGKILL)
        """
    for end in ("close", "die"):
        process = script.start(unprivileged, path, durability)
        assert process.stdout.readline() == "half\n", process.stderr.read()
        killed = script.start(other, path)
        killed.wait(100)
        process.stdin.write("dead\n")
        process.stdin.flush()
        assert process.stdout.readline() == "done\n", process.stderr.read()
        process.stdin.write(end + "\n")
        process.stdin.flush()
        _, errors = process.communicate(timeout=100)
        assert process.returncode == (0 if end == "close" else -9), errors
        with persist.open(path, lock_timeout=100) as store:
            root = store.root
            assert (root["n"], root["done"], root["last"]) == (49, True, durability)
            assert len(root["text 49"]) == 100_000
            root.clear()
