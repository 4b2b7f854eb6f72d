"""A process that locks as it is told: one command a line on standard input, one result a line on standard output.

Each command acts on the same slot of two files, one of the mount and one of tmpfs, or on one of them.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import struct
import sys
from typing import Any

FORM = "hhqqi4x"
OFD = {fcntl.F_GETLK: 36, fcntl.F_SETLK: 37, fcntl.F_SETLKW: 38}
KINDS = {"r": fcntl.F_RDLCK, "w": fcntl.F_WRLCK, "u": fcntl.F_UNLCK}
FLOCKS = {"r": fcntl.LOCK_SH, "w": fcntl.LOCK_EX, "u": fcntl.LOCK_UN}

files: dict[tuple[int, str], int] = {}


def answer(what: Any) -> None:
    print(json.dumps(what), flush=True)


def locked(fd: int, call: int, kind: str, start: int, length: int, ofd: bool) -> Any:
    record = struct.pack(FORM, KINDS[kind], os.SEEK_SET, start, length, 0)
    got = fcntl.fcntl(fd, OFD[call] if ofd else call, record)
    if call != fcntl.F_GETLK:
        return 0
    found, _, start, length, pid = struct.unpack(FORM, got)
    if found == fcntl.F_UNLCK:
        return ["free"]
    return ["r" if found == fcntl.F_RDLCK else "w", start, length, pid]


def run(name: str, fd: int, args: list[Any]) -> Any:
    if name == "flock":
        kind, wait = args
        fcntl.flock(fd, FLOCKS[kind] | (0 if wait else fcntl.LOCK_NB))
        return 0
    if name == "set":
        kind, start, length, wait, ofd = args
        return locked(fd, fcntl.F_SETLKW if wait else fcntl.F_SETLK, kind, start, length, ofd)
    if name == "get":
        kind, start, length, ofd = args
        return locked(fd, fcntl.F_GETLK, kind, start, length, ofd)
    raise ValueError(name)


def main() -> None:
    signal.signal(signal.SIGALRM, lambda *_: (_ for _ in ()).throw(InterruptedError(errno.EINTR, "alarm")))
    for line in sys.stdin:
        name, slot, *args = json.loads(line)
        results = []
        sides = args.pop(0)
        for side in sides:
            key = (slot, side)
            try:
                if name == "open":
                    files[key] = os.open(args[0][side], os.O_RDWR)
                    results.append(0)
                elif name == "dup":
                    files[args[0], side] = os.dup(files[key])
                    results.append(0)
                elif name == "close":
                    os.close(files.pop(key))
                    results.append(0)
                elif name == "touch":
                    os.close(os.open(args[0][side], os.O_RDONLY))
                    results.append(0)
                elif name == "alarm":
                    signal.setitimer(signal.ITIMER_REAL, args[0])
                    results.append(0)
                elif name == "fork":
                    # The child holds the inherited descriptors until it is killed.
                    child = os.fork()
                    if child == 0:
                        signal.pause()
                        os._exit(0)
                    results.append(child)
                else:
                    results.append(run(name, files[key], args))
            except OSError as e:
                results.append(errno.errorcode[e.errno or 0])
        answer(results)


main()
