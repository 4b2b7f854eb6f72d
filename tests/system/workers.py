"""The processes that the whole-system tests run: `workers.py JOB STORE ARGS...`.

A worker says `ready` when it has the store open, then waits for a line where it says so.
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
    """The original's way: the lock of the root around read and write."""
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
    """No lock: each increment is a transaction."""
    with persist.open(path) as store:
        root = store.root
        ready()
        for _ in range(int(times)):
            with store.transaction():
                root["x"] += 1


def acknowledge(path: str, key: str) -> None:
    """Increments root[key] until killed, and says each number once it is there."""
    with persist.open(path) as store:
        root = store.root
        ready(wait=False)
        while True:
            with store.transaction():
                n = root[key] + 1
                root[key] = n
            say(n)


def hold(path: str, *route: str) -> None:
    """Takes the exclusive lock of the container at `route`, says `locked`, holds it until told."""
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
    """Takes the exclusive lock of one entry of the root, says `locked`, holds it until told."""
    with persist.open(path) as store:
        ready(wait=False)
        with store.root.lock(key=key):
            say("locked")
            sys.stdin.readline()
        say("unlocked")
        sys.stdin.readline()


def crosswise(path: str, first: str, second: str) -> None:
    """Locks one object, then on a line the other; says how that went."""
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
