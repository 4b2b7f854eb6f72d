"""Damaged stores of every shape, read and changed through Python and through the mount (P6).

The engine's test `hostile` (`write_cases`) creates the files, one for each seed. Whatever the damage, the result is
right data or an error: never a crash, a panic, more memory than twice the file and a stated rest, or a wait without an
end.

PERSIST_TORTURE_SECONDS makes it longer, with a new seed; PERSIST_SEED selects the seed. A failure names its seed and
keeps its file.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import hostile
import pytest
from acceptance import MOUNT, TOP, clean_env, mounted, need_fuse, wait_until

SECONDS = float(os.environ.get("PERSIST_TORTURE_SECONDS") or 6)
LONG = "PERSIST_TORTURE_SECONDS" in os.environ
SEED = int(os.environ.get("PERSIST_SEED") or (time.time_ns() >> 10 if LONG else 1))
# The number of cases that are written at a time, the number that run at once, and the minimal number, however long they
# take.
BATCH = 100
WORKERS = 2
LEAST = 10
# Built like all other tests here; scripts/torture sets another command.
CARGO = os.environ.get("PERSIST_CARGO_TEST") or (
    "cargo test --locked -q --workspace --exclude persist-py --all-features"
)

# A path of a thousand names is a thousand requests: only the first walk goes down completely.
WALK = """
cd "$1" || exit 0
find . 2>/dev/null | head -n 2000 | tail -n 1 >"$2"
find . -maxdepth 40 -type f -print0 2>/dev/null | head -z -n 2000 |
    xargs -0 -r cat 2>/dev/null | head -c 20000000 >/dev/null
find . -maxdepth 40 -print0 2>/dev/null | head -z -n 2000 | xargs -0 -r getfattr -h -d -m - >/dev/null 2>&1
cat .persist/stat .persist/locks >/dev/null 2>&1
ls .persist/snapshots/*/ 2>/dev/null | head -n 500 >/dev/null
"$3" -S -E -c "$4"
find . -mindepth 1 -maxdepth 1 2>/dev/null | head -n 3 | while read -r name; do timeout 3 rm -rf "$name"; done
sync -f .
exit 0
"""

# The work of a shell and its tools, in one process: starting each tool takes longer than its work.
CHANGE = """
import os
from itertools import islice

def attempt(act, *args):
    try:
        return act(*args)
    except (OSError, ValueError):
        return None

def write(name, flags, text):
    fd = os.open(name, os.O_WRONLY | flags, 0o644)
    try:
        os.write(fd, text)
    finally:
        os.close(fd)

def change(top):
    with os.scandir(top) as entries:
        names = [os.path.join(top, e.name) for e in islice(entries, 8)]
    at = lambda name: os.path.join(top, name)
    attempt(write, at("new"), os.O_CREAT | os.O_TRUNC, b"new")
    attempt(write, at("0"), os.O_CREAT, b"7")
    attempt(os.mkdir, at("new dir"))
    attempt(os.setxattr, at("new dir"), "user.persist.type", b"object")
    attempt(os.setxattr, at("new dir"), "user.persist.class", b"os:system")
    attempt(os.symlink, "..", at("link"))
    for n, name in enumerate(names):
        for key in attempt(os.listxattr, name) or ():
            attempt(os.getxattr, name, key)
        attempt(write, name, os.O_APPEND, b"more")
        if n % 3 == 0:
            attempt(os.rename, name, at("moved"))
        elif n % 3 == 1:
            attempt(os.truncate, name, 3)
            attempt(os.utime, name)
        else:
            attempt(os.unlink, name)
            attempt(os.rmdir, name)

for top, _, _ in islice(os.walk("."), 60):
    attempt(change, top)
"""


class Failures(list[str]):
    """Failures, and the files that caused them, which are kept."""

    def note(self, case: Path, before: bytes, log: bytes | None, what: str) -> None:
        kept = Path(tempfile.gettempdir()) / f"persist-hostile-{case.name}"
        kept.write_bytes(before)
        if log is not None:
            Path(f"{kept}-wal").write_bytes(log)
        self.append(f"seed {case.stem}, file kept as {kept}: {what}")


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """Return a directory in memory for the cases."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None, prefix="persist-hostile-") as d:
        yield Path(d)


def write_cases(home: Path, seed: int, n: int) -> list[Path]:
    home.mkdir()
    env = {
        **os.environ, "PERSIST_HOSTILE_DIR": str(home), "PERSIST_SEED": str(seed), "PERSIST_CASES": str(n),
    }  # fmt: skip
    argv = [*shlex.split(CARGO), "--test", "hostile", "write_cases", "--", "--exact", "--ignored"]
    done = subprocess.run(
        argv, cwd=TOP, env=env, text=True, timeout=1200, check=False,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    cases = [home / f"{(seed + i) % 2**64}.store" for i in range(n)]
    assert all(case.exists() for case in cases)
    return cases


def files_of(case: Path) -> list[Path]:
    return [Path(f"{case}{end}") for end in ("", "-wal", "-shm")]


def run_all(home: Path, door: str, run: Callable[[int, Path], str]) -> None:
    """Run cases for a while, on several threads; fail with all failures."""
    failures, begun, mutex = Failures(), 0, threading.Lock()
    # Before the time begins: this may build the program that writes them.
    queue = write_cases(home / f"{door}-{SEED}", SEED, BATCH)
    written = SEED + BATCH
    end = time.monotonic() + SECONDS

    def work(worker: int) -> None:
        nonlocal begun, written
        while len(failures) < 10:
            with mutex:
                if begun >= LEAST and time.monotonic() >= end:
                    return
                begun += 1
                if not queue:
                    queue.extend(write_cases(home / f"{door}-{written}", written, BATCH))
                    written += BATCH
                case = queue.pop(0)
            before, log = case.read_bytes(), files_of(case)[1]
            its_log = log.read_bytes() if log.exists() else None
            what = run(worker, case)
            if what:
                with mutex:
                    failures.note(case, before, its_log, what)
            for path in files_of(case):
                path.unlink(missing_ok=True)

    with ThreadPoolExecutor(WORKERS) as pool:
        for done in [pool.submit(work, n) for n in range(WORKERS)]:
            done.result()
    print(f"{begun} cases from seed {SEED} through {door}")
    assert not failures, f"{len(failures)} failures:\n" + "\n\n".join(failures)


@pytest.mark.timeout(1800 + 3 * SECONDS)
def test_python(home: Path) -> None:
    with contextlib.ExitStack() as stack:
        readers = []
        for _ in range(WORKERS):
            reader = subprocess.Popen(
                [sys.executable, hostile.__file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            stack.enter_context(reader)
            stack.callback(reader.kill)
            readers.append(reader)

        def run(worker: int, case: Path) -> str:
            stdin, stdout = readers[worker].stdin, readers[worker].stdout
            assert stdin and stdout
            stdin.write(f"{case}\n")
            stdin.flush()
            return str(json.loads(stdout.readline()))

        run_all(home, "python", run)


@functools.cache
def data_of_a_mount() -> int:
    """Return the bytes of memory that the process of a mount has when nothing was requested: buffers and stacks."""
    with tempfile.TemporaryDirectory(prefix="persist-hostile-") as home:
        point = Path(home, "mnt")
        point.mkdir()
        command = [MOUNT, f"{home}/sound.store", str(point), "-o", "create", "--foreground"]
        daemon = subprocess.Popen(command, env=clean_env(), stdin=subprocess.DEVNULL)
        try:
            wait_until(lambda: mounted(point) and hostile.data_of(daemon.pid) > hostile.BUFFERS)
            os.listdir(point)
            return hostile.data_of(daemon.pid)
        finally:
            subprocess.run(["umount", "-l", str(point)], check=False, capture_output=True)
            daemon.wait(hostile.CLOCK)


def through_the_mount(case: Path, point: Path) -> str:
    """Return the failure of a case; empty if it succeeded."""
    point.mkdir(exist_ok=True)
    said = case.with_suffix(".log")
    most = data_of_a_mount() + hostile.MOUNT_ALLOWANCE + 2 * case.stat().st_size

    def limits() -> None:
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))
        # The sum over thousands of requests.
        resource.setrlimit(resource.RLIMIT_CPU, (2 * hostile.CPU, 2 * hostile.CPU + 1))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    what = ""
    with said.open("w+") as log:
        daemon = subprocess.Popen(
            [MOUNT, str(case), str(point), "--foreground"], preexec_fn=limits, env=clean_env(RUST_BACKTRACE="1"),
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
        try:
            end = time.monotonic() + hostile.CLOCK
            while not mounted(point) and daemon.poll() is None and time.monotonic() < end:
                time.sleep(0.002)
            if daemon.poll() is None:
                what = "mounting hangs" if not mounted(point) else walk(point, daemon)
        finally:
            if mounted(point):
                subprocess.run(["umount", "-l", str(point)], check=False, capture_output=True)
            try:
                code = daemon.wait(hostile.CLOCK)
            except subprocess.TimeoutExpired:
                code, what = 0, what or "it does not end after the umount"
                daemon.kill()
                daemon.wait()
        log.seek(0)
        text = log.read()
    said.unlink()
    # 1 and 2 are errors of the command line and of the system; a panic is 101.
    if code not in (0, 2, 32):
        what = what or f"it ended with {code}"
    if "panicked" in text:
        what = what or "it panicked"
    return f"{what}\n{text[-4000:]}" if what else ""


def walk(point: Path, daemon: subprocess.Popen[bytes]) -> str:
    walker = subprocess.Popen(
        ["bash", "-c", WALK, "bash", point, f"{point}.out", sys.executable, CHANGE], start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=clean_env(),
    )  # fmt: skip
    try:
        walker.wait(hostile.CLOCK)
    except subprocess.TimeoutExpired:
        # A process in a request without an answer ends only with the daemon.
        daemon.kill()
        os.killpg(walker.pid, signal.SIGKILL)
        walker.wait()
        return "walking hangs"
    return ""


@pytest.mark.timeout(1800 + 3 * SECONDS)
def test_mount(home: Path) -> None:
    need_fuse()
    assert shutil.which("getfattr"), "install attr"
    run_all(home, "the mount", lambda worker, case: through_the_mount(case, home / f"mnt{worker}"))
