"""Fixtures of the tests of the Python interface."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Callable

import persist
import pytest


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of a store that does not exist yet."""
    return tmp_path / "the.store"


@pytest.fixture
def store(path: Path) -> Iterator[persist.Store]:
    """Return an open store; changes wait at most 10 seconds for locks."""
    with persist.open(path, lock_timeout=100) as store:
        yield store


@pytest.fixture
def root(store: persist.Store) -> persist.Dict:
    return store.root


def wait_until(fact: Callable[[], object], timeout: float = 100) -> None:
    """Poll until `fact()` is true; fail the test at the deadline."""
    end = time.monotonic() + timeout
    while not fact():
        assert time.monotonic() < end, "waited without success"
        time.sleep(0.002)


class Script:
    """Programs in separate processes, in their own directory."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.running: list[subprocess.Popen[str]] = []

    def write(self, name: str, text: str) -> Path:
        file = self.home / name
        file.write_text(textwrap.dedent(text))
        return file

    def start(self, text: str, *args: object, **env: str) -> subprocess.Popen[str]:
        file = self.home / f"program{len(self.running)}.py"
        file.write_text(textwrap.dedent(text))
        return self.start_file(file, *args, **env)

    def start_file(self, file: Path, *args: object, **env: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, str(file), *map(str, args)],
            cwd=self.home,
            env={**os.environ, **env},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.running.append(process)
        return process

    def finish(self, process: subprocess.Popen[str], timeout: float = 100) -> str:
        out, err = process.communicate(timeout=timeout)
        assert process.returncode == 0, err
        return out

    def run(self, text: str, *args: object, **env: str) -> str:
        return self.finish(self.start(text, *args, **env))

    def close(self) -> None:
        for process in self.running:
            if process.poll() is None:
                process.kill()
            process.communicate()


@pytest.fixture
def script(tmp_path: Path) -> Iterator[Script]:
    script = Script(tmp_path)
    yield script
    script.close()


@pytest.fixture
def outcome() -> Callable[[Callable[[], object]], object]:
    """Return the result of a call in plain form, or the type (and text) of its exception."""

    def of(call: Callable[[], object]) -> object:
        try:
            return plain(call())
        except (KeyError, IndexError, ValueError, TypeError, RuntimeError) as e:
            return type(e), str(e)

    return of


def plain(value: object) -> object:
    """Return the value without proxies, so that it can be compared by type, too."""
    if isinstance(value, (persist.Dict, persist.List)):
        return persist.copy_out(value)
    if isinstance(value, tuple):
        return tuple(plain(v) for v in value)
    if isinstance(value, list):
        return [plain(v) for v in value]
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    return value
