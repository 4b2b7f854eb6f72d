"""Shared code of the whole-system tests: processes, mounts, and waiting for events.

1. No test relies on a sleep: every wait polls for a condition and ends at a deadline.
2. Processes and mounts of a test are ended when the test ends, however it ends.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
TOP = HERE.parent.parent
BIN = Path(sys.executable).parent
MOUNT = BIN / "mount.persist"
WORKERS = HERE / "workers.py"
DEADLINE = 100.0


def wait_until(fact: Callable[[], Any], timeout: float = DEADLINE, what: str = "") -> Any:
    """Poll until `fact()` is true and return its result; fail the test at the deadline."""
    end = time.monotonic() + timeout
    while True:
        said = fact()
        if said:
            return said
        if time.monotonic() > end:
            pytest.fail(f"waited {timeout} s without success for {what or fact}")
        time.sleep(0.002)


def best_of(tries: int, promised: float, one: Callable[[], float]) -> None:
    """Fail unless one of several tries is as quick as promised: delays by other work of the machine are not the
    store's. After the first quick try, the others are skipped."""
    took: list[float] = []
    while not took or min(took) >= promised:
        assert len(took) < tries, f"not within {promised} s: {took}"
        took.append(one())


def clean_env(**more: str) -> dict[str, str]:
    env = {k: v for k, v in os.environ.items() if k not in ("PERSIST_STORE", "PYTHONPATH")}
    env["PATH"] = f"{BIN}:{env.get('PATH', '')}:/usr/sbin:/sbin"
    env.update(more)
    return env


class Processes:
    """Child processes of one test: each in its own session, all killed at the end."""

    def __init__(self) -> None:
        self.all: list[subprocess.Popen[str]] = []

    def start(self, *argv: object, **kw: Any) -> subprocess.Popen[str]:
        kw.setdefault("stdout", subprocess.PIPE)
        kw.setdefault("stderr", subprocess.PIPE)
        kw.setdefault("env", clean_env())
        child = subprocess.Popen(
            [str(a) for a in argv], stdin=subprocess.PIPE, text=True, start_new_session=True, **kw
        )
        self.all.append(child)
        return child

    def python(self, code: str, *args: object, **kw: Any) -> subprocess.Popen[str]:
        return self.start(sys.executable, "-c", code, *args, **kw)

    def worker(self, job: str, *args: object, **kw: Any) -> subprocess.Popen[str]:
        return self.start(sys.executable, WORKERS, job, *args, **kw)

    def bash(self, script: str, *args: object, **kw: Any) -> subprocess.Popen[str]:
        return self.start("bash", "-c", script, "bash", *args, **kw)

    def close(self) -> None:
        for child in self.all:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
        for child in self.all:
            child.wait()
            for stream in (child.stdin, child.stdout, child.stderr):
                if stream:
                    with contextlib.suppress(OSError):
                        stream.close()


def finish(child: subprocess.Popen[str], timeout: float = DEADLINE) -> str:
    """Wait for a child that must succeed, and return its output."""
    out, err = child.communicate(timeout=timeout)
    assert child.returncode == 0, f"{child.args} ended with {child.returncode}\n{out}\n{err}"
    return out


def line(child: subprocess.Popen[str], want: str | None = None) -> str:
    """Return the child's next line (bounded by the test's own timeout)."""
    assert child.stdout is not None
    got = child.stdout.readline().rstrip("\n")
    if want is not None and got != want:
        rest = child.stderr.read() if child.poll() is not None and child.stderr else ""
        pytest.fail(f"{child.args}: expected the line {want!r}, got {got!r}\n{rest}")
    return got


def tell(child: subprocess.Popen[str], text: str = "") -> None:
    """Let a child continue that waits for a line."""
    assert child.stdin is not None
    child.stdin.write(text + "\n")
    child.stdin.flush()


def sh(script: str, *args: object, ok: bool = True, timeout: float = DEADLINE) -> str:
    """Run a bash script to its end; return its output (with stderr if it may fail)."""
    done = subprocess.run(
        ["bash", "-c", script, "bash", *map(str, args)],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, timeout=timeout, env=clean_env(),
    )  # fmt: skip
    if ok:
        assert done.returncode == 0, f"{script}: ended with {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout
    return done.stdout + done.stderr


def mounted(point: Path) -> bool:
    # The kernel writes blanks and similar characters as octal escapes.
    name = re.sub(r"[ \t\n\\]", lambda m: f"\\{ord(m[0]):03o}", str(point))
    with open("/proc/self/mountinfo") as f:
        return any(row.split()[4] == name for row in f)


def need_fuse() -> None:
    if not os.path.exists("/dev/fuse"):
        if os.environ.get("PERSIST_NO_FUSE") == "1":
            pytest.skip("no /dev/fuse")
        pytest.fail("no /dev/fuse: the mount cannot be tested here (PERSIST_NO_FUSE=1 skips this)")


@contextlib.contextmanager
def mount(store: Path, point: Path, options: str = "") -> Iterator[Path]:
    """Mount `store` on `point`; unmount at the end, by force if necessary."""
    need_fuse()
    point.mkdir(parents=True, exist_ok=True)
    argv = [str(MOUNT), str(store), str(point), "-o", options or "rw"]
    if not store.exists():
        argv += ["-o", "create"]
    # Files, not pipes: the daemon may keep its descriptors.
    with open(point.parent / f"{point.name}.mount-log", "w+") as log:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, timeout=DEADLINE, env=clean_env()
        )
        log.seek(0)
        assert done.returncode == 0, f"{argv} ended with {done.returncode}: {log.read()}"
    assert mounted(point), "mount.persist said that it had mounted, but had not"
    try:
        yield point
    finally:
        if mounted(point) and subprocess.run(["umount", str(point)], capture_output=True).returncode != 0:
            subprocess.run(["umount", "-l", str(point)], capture_output=True, check=False)
        wait_until(lambda: not mounted(point), what=f"the umount of {point}")
