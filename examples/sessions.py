"""A session store with expiry, for any number of server processes.

    python sessions.py [STORE]        runs a demonstration

A session is a dict in the store: what a request changes in it is stored at once, for the next request in any process.
"""

from __future__ import annotations

import multiprocessing
import secrets
import sys
import time
from collections.abc import Callable
from typing import Any

import persist


class Sessions:
    """Sessions that end a number of seconds after their last use."""

    def __init__(
        self, root: persist.Dict[str, Any], seconds: float, clock: Callable[[], float] = time.time
    ) -> None:
        self.all: persist.Dict[str, Any] = root.setdefault("sessions", {})
        self.seconds = seconds
        self.clock = clock

    def create(self, **values: Any) -> str:
        """Begin a session, and return its key."""
        key = secrets.token_urlsafe(16)
        self.all[key] = {"expires": self.clock() + self.seconds, "values": values}
        return key

    def get(self, key: str) -> persist.Dict[str, Any] | None:
        """Return the values of a session, to read and change in place, and prolong it; None if it has expired."""
        with self.all.lock(key=key):
            session = self.all.get(key)
            if session is None or session["expires"] <= self.clock():
                return None
            session["expires"] = self.clock() + self.seconds
            values: persist.Dict[str, Any] = session["values"]
            return values

    def end(self, key: str) -> None:
        with self.all.lock(key=key):
            self.all.pop(key, None)

    def purge(self) -> int:
        """Remove the expired sessions, and return their number. Any process may do this, at any time."""
        removed = 0
        for key in list(self.all):
            # Under the lock, because the session may be prolonged or removed at this moment.
            with self.all.lock(key=key):
                session = self.all.get(key)
                if session is not None and session["expires"] <= self.clock():
                    del self.all[key]
                    removed += 1
        return removed


def visit(path: str, keys: list[str]) -> None:
    """Stand for a server process: count a visit in each session."""
    sessions = Sessions(persist.root(path), 3600)
    for key in keys:
        values = sessions.get(key)
        if values is not None:
            with values.lock(key="visits"):
                values["visits"] += 1


def main(path: str) -> None:
    root = persist.root(path)
    sessions = Sessions(root, 3600)
    keys = [sessions.create(user=f"user {n}", visits=0) for n in range(10)]
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        pool.starmap(visit, [(path, keys)] * 6)
    print(sum(sessions.all[key]["values"]["visits"] for key in keys), "visits")
    # A clock that is two hours ahead: all have expired.
    late = Sessions(root, 3600, lambda: time.time() + 7200)
    print(late.get(keys[0]), late.purge(), "purged", len(late.all), "left")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "sessions.store")
