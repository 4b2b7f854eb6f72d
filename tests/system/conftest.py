"""Fixtures of the whole-system tests."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

import acceptance
import mount_namespace


@pytest.fixture
def procs() -> Iterator[acceptance.Processes]:
    processes = acceptance.Processes()
    yield processes
    processes.close()


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Return the path of a store that does not exist yet."""
    return tmp_path / "the.store"


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """mount(store, name="mnt", options="") -> the mountpoint; unmounted after the test."""
    with contextlib.ExitStack() as stack:

        def do(store: Path, name: str = "mnt", options: str = "") -> Path:
            return stack.enter_context(acceptance.mount(store, tmp_path / name, options))

        yield do


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """Return a directory for `mount_namespace.inside`."""
    with mount_namespace.new_home(tmp_path) as path:
        yield path
