"""A reader of inotify for tests, through ctypes: events as (path, event, name), as the kernel gives them."""

from __future__ import annotations

import ctypes
import os
import select
import struct
import time
from pathlib import Path
from typing import Any, Callable

Event = tuple[str, str, str]

LIBC = ctypes.CDLL(None, use_errno=True)
EVENTS = {
    0x2: "MODIFY", 0x4: "ATTRIB", 0x8: "CLOSE_WRITE", 0x20: "OPEN", 0x40: "MOVED_FROM", 0x80: "MOVED_TO",
    0x100: "CREATE", 0x200: "DELETE", 0x400: "DELETE_SELF", 0x800: "MOVE_SELF",
    0x2000: "UNMOUNT", 0x4000: "OVERFLOW", 0x8000: "IGNORED",
}  # fmt: skip
ISDIR = 0x40000000
HEAD = struct.Struct("iIII")
# Without those of reading.
ALL = 0xFEE
DEADLINE = 60.0


class Watcher:
    """An inotify descriptor."""

    def __init__(self, *paths: Path) -> None:
        self.fd = LIBC.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        assert self.fd >= 0
        self.names: dict[int, str] = {}
        for path in paths:
            self.add(path)

    def add(self, path: Path, name: str = "") -> None:
        number = LIBC.inotify_add_watch(self.fd, os.fsencode(path), ALL)
        assert number >= 0, os.strerror(ctypes.get_errno())
        self.names[number] = name or path.name

    def close(self) -> None:
        os.close(self.fd)

    def read(self, wait: float) -> list[Event]:
        """Return the events that are there, or come in that time."""
        if not select.select([self.fd], [], [], wait)[0]:
            return []
        data = os.read(self.fd, 1 << 16)
        found = []
        while data:
            number, mask, _, length = HEAD.unpack_from(data)
            name = data[HEAD.size : HEAD.size + length].rstrip(b"\0").decode()
            data = data[HEAD.size + length :]
            event = " ".join(text for bit, text in EVENTS.items() if mask & bit)
            if mask & ISDIR:
                event += " ISDIR"
            found.append((self.names.get(number, "?"), event, name))
        return found

    def until(self, last: Callable[[list[Event]], Any]) -> list[Event]:
        """Return the events up to the moment in which `last` is true of them."""
        end, found = time.monotonic() + DEADLINE, list[Event]()
        while not last(found):
            assert time.monotonic() < end, found
            found += self.read(0.1)
        return found

    def noticed(self, change: Callable[[], Any], name: str) -> None:
        """Make changes until the first gives an event: the watch is known from then on. Read what belongs to them."""
        end = time.monotonic() + DEADLINE
        while not any(event[2] == name for event in self.read(0.05)):
            assert time.monotonic() < end, "the watch is not noticed"
            change()
        # Events of the changes after the first may come yet.
        while self.read(0.5):
            pass
