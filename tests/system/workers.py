"""The processes of the whole-system tests: `workers.py JOB STORE ARGS...`.

A worker prints `ready` when it has the store open; in some jobs it then waits for a line.
"""

from __future__ import annotations

import sys

import persist


def say(text: object) -> None:
    print(text, flush=True)


def ready(wait: bool = True) -> None:
    say("ready")
    if wait:
        sys.stdin.readline()


def increment(path: str, times: str) -> None:
    """Increment as in the original: the lock of the root around read and write."""
    with persist.open(path) as store:
        root = store.root
        ready()
        for _ in range(int(times)):
            root.lockExcl()
            try:
                root["x"] += 1
            finally:
                root.unlock()


def increment_tx(path: str, times: str) -> None:
    """Increment without a lock: each increment is a transaction."""
    with persist.open(path) as store:
        root = store.root
        ready()
        for _ in range(int(times)):
            with store.transaction():
                root["x"] += 1


def acknowledge(path: str, key: str) -> None:
    """Increment root[key] until killed, and report each completed number."""
    with persist.open(path) as store:
        root = store.root
        ready(wait=False)
        while True:
            with store.transaction():
                n = root[key] + 1
                root[key] = n
            say(n)


def hold(path: str, *route: str) -> None:
    """Take the exclusive lock of the container at `route`, print `locked`, and hold it until a line comes."""
    with persist.open(path) as store:
        obj = store.root
        for key in route:
            obj = obj[key]
        ready(wait=False)
        obj.lockExcl()
        say("locked")
        sys.stdin.readline()
        obj.unlock()
        say("unlocked")
        sys.stdin.readline()


def hold_key(path: str, key: str) -> None:
    """Take the exclusive lock of one entry of the root, print `locked`, and hold it until a line comes."""
    with persist.open(path) as store:
        ready(wait=False)
        with store.root.lock(key=key):
            say("locked")
            sys.stdin.readline()
        say("unlocked")
        sys.stdin.readline()


def crosswise(path: str, first: str, second: str) -> None:
    """Lock one object, then, after a line, the other; report the result."""
    with persist.open(path) as store:
        a, b = store.root[first], store.root[second]
        ready(wait=False)
        a.lockExcl()
        say("locked")
        sys.stdin.readline()
        try:
            b.lockExcl()
        except persist.Deadlock:
            say("deadlock")
            a.unlock()
        else:
            say("both")
            b.unlock()
            a.unlock()


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
