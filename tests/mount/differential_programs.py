"""The programs of the differential test: random ones, and the shortest ones that show faults."""

from __future__ import annotations

import fcntl
import os
import random
from typing import Any

from differential import EXCHANGE, NOREPLACE, Differences, Step

# Most files have names of files, and most directories those of directories; the rest are the mistakes.
NAMES = ("a", "b", "e e", "\u00e9", "%41", ".f")
FOLDERS = ("d", "0", "e")
LISTS = ("l", "m", "0", "1")
ITEMS = ("0", "1", "2", "3", "4", "6", "0~", "tmpabcd_123")
MODES = (0o644, 0o600, 0o755, 0o444, 0o777, 0o4755, 0o1777, 0o000)
XATTRS = ("user.a", "user.b", "user.long-name.with.dots")
SIZES = (0, 1, 5, 100, 4095, 4096, 4097, 10_000, 70_000, 200_000)
LOCKS = (fcntl.LOCK_SH, fcntl.LOCK_EX, fcntl.LOCK_UN)
PLACES = ((0, 0), (0, 10), (5, 10), (10, 10), (0, 100), (100, 0))
FLAGS = (os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_APPEND, os.O_RDWR | os.O_APPEND)
SLOTS = 2


class Chance(random.Random):
    """The random choices of a program. One with `links` to directories renames only files; another one has no directory
    under the name of a file, so that no link leads to one. One with `lists` has lists, no locks, and
    no links that lead anywhere: a directory of such a program may be anywhere, and its name may change with a remount.
    """

    links = lists = False


def name_of(rng: Chance, names: tuple[str, ...]) -> str:
    if rng.lists and rng.random() < 0.7:
        return rng.choice(ITEMS if names is NAMES or rng.random() < 0.3 else LISTS)
    return rng.choice(NAMES + FOLDERS if rng.links and rng.random() < 0.15 else names)


def path_of(rng: Chance, names: tuple[str, ...] = NAMES) -> str:
    if rng.lists and rng.random() < 0.5:
        return f"{rng.choice(LISTS[:2])}/{rng.choice(ITEMS)}"
    depth = rng.choice((0, 0, 0, 1, 1, 2))
    return "/".join([*(name_of(rng, FOLDERS) for _ in range(depth)), name_of(rng, names)])


def flags_of(rng: Chance) -> int:
    return rng.choice((0, 0, 0, NOREPLACE, EXCHANGE, 8))


def pair_of(rng: Chance) -> tuple[str, str]:
    names = rng.choice((NAMES, NAMES, FOLDERS))
    return path_of(rng, names), path_of(rng, names)


def text_of(rng: Chance, size: int) -> bytes:
    return bytes(rng.choices(Differences.TEXT, k=min(size, 64))) * (size // 64 + 1)


def content_of(rng: Chance) -> bytes:
    size = rng.choice(SIZES)
    body = text_of(rng, size)[:size]
    return Differences.BYTES + body if rng.random() < 0.2 else body


def target_of(rng: Chance) -> str:
    if rng.lists:
        return rng.choice(("nowhere", "/nowhere/at/all", "x" * 300))
    kind = rng.randrange(4)
    if kind == 0:
        return path_of(rng)
    if kind == 1:
        return "../" * rng.randrange(1, 3) + path_of(rng)
    directories = (".", "..", "d", "../d", "/d", "0/e") if rng.links else ()
    return rng.choice(("nowhere", "a", "b", "/nowhere/at/all", "a/b/c", "x" * 300, *directories))


def step(rng: Chance) -> Step:
    """Return one random step."""
    where, slot, folder = path_of(rng), rng.randrange(SLOTS), path_of(rng, FOLDERS)
    either = rng.choice((where, where, folder))
    kinds: tuple[tuple[int, Any], ...] = (
        (12, lambda: ("make", where, content_of(rng), rng.choice(MODES), rng.random() < 0.3)),
        (6, lambda: ("overwrite", where, content_of(rng), rng.random() < 0.2)),
        (8, lambda: ("mkdir", folder, rng.choice(MODES))),
        (4, lambda: ("rmdir", folder)),
        (18 if rng.lists else 6, lambda: ("unlink", where)),
        (12, lambda: ("rename", *pair_of(rng), flags_of(rng), rng.links)),
        (5, lambda: ("symlink", target_of(rng), where)),
        (4, lambda: ("readlink", where)),
        (24, lambda: ("open", slot, where, rng.choice(FLAGS) | rng.choice((0, 0, 0, os.O_NOFOLLOW)))),
        (1, lambda: ("open", slot, folder, os.O_RDONLY | os.O_DIRECTORY)),
        (
            10,
            lambda: ("write", slot, text_of(rng, 80)[: rng.choice((0, 1, 7, 80))] * rng.choice((1, 1, 100))),
        ),
        (8, lambda: ("pwrite", slot, text_of(rng, 60)[:60], rng.choice((0, 3, 50, 4090, 5000, 66_000)))),
        (8, lambda: ("read", slot, rng.choice((1, 10, 5000, 300_000)))),
        (6, lambda: ("pread", slot, rng.choice((1, 10, 5000)), rng.choice((0, 3, 4090, 66_000)))),
        (
            4,
            lambda: (
                "seek",
                slot,
                rng.choice((0, 5, 4096)),
                rng.choice((os.SEEK_SET, os.SEEK_CUR, os.SEEK_END)),
            ),
        ),
        (5, lambda: ("ftruncate", slot, rng.choice(SIZES))),
        (3, lambda: ("fsync", slot)),
        (4, lambda: ("mapped", slot, rng.randrange(5000), text_of(rng, 50)[:50])),
        (4, lambda: ("copy", slot, rng.randrange(SLOTS), rng.choice((1, 100, 5000)))),
        (12 if rng.lists else 0, lambda: ("mklist", rng.choice((folder, "l", "m")))),
        (12 if rng.lists else 0, lambda: ("replace", folder, rng.choice(ITEMS), content_of(rng))),
        (0 if rng.lists else 6, lambda: ("flock", slot, rng.choice(LOCKS))),
        (0 if rng.lists else 9, lambda: ("range", slot, rng.choice(LOCKS), *rng.choice(PLACES))),
        (5, lambda: ("fstat", slot)),
        (2, lambda: ("fchmod", slot, rng.choice(MODES))),
        (2, lambda: ("fsetxattr", slot, rng.choice(XATTRS), text_of(rng, 50)[:9], rng.choice((0, 0, 1, 2)))),
        (2, lambda: ("fgetxattr", slot, rng.choice(XATTRS))),
        (3, lambda: ("close", slot)),
        (6, lambda: ("truncate", where, rng.choice(SIZES))),
        (5, lambda: ("chmod", either, rng.choice(MODES))),
        (2, lambda: ("chown", either, rng.choice((0, 7)), rng.choice((0, 8)))),
        (4, lambda: ("utime", either, rng.randrange(1, 2**31), rng.randrange(10**9), rng.random() < 0.2)),
        (5, lambda: ("setxattr", either, rng.choice(XATTRS), text_of(rng, 50)[:9], rng.choice((0, 0, 1, 2)))),
        (4, lambda: ("getxattr", either, rng.choice(XATTRS))),
        (3, lambda: ("listxattr", either)),
        (3, lambda: ("removexattr", either, rng.choice(XATTRS))),
        (8, lambda: ("stat", either)),
        (6, lambda: ("lstat", either)),
        (6, lambda: ("listdir", folder)),
        (3, lambda: ("access", where, rng.choice((os.R_OK, os.W_OK, os.X_OK, os.F_OK)))),
        (6, lambda: ("cat", where)),
    )
    weights = [weight for weight, _ in kinds]
    made: Step = rng.choices([make for _, make in kinds], weights)[0]()
    return made


def program(seed: int, steps: int, processes: int, ends: float) -> list[tuple[int, Step]]:
    """Return a program: (process, step) for each step. `ends` is the share of remounts and kills of the daemon."""
    rng = Chance(seed)
    rng.lists = seed % 3 == 0
    rng.links = seed % 2 == 0 and not rng.lists
    made: list[tuple[int, Step]] = []
    for _ in range(steps):
        if rng.random() < ends:
            made.append((-1, (rng.choice(("remount", "kill")),)))
        else:
            made.append((rng.randrange(processes), step(rng)))
    return made


TEXT = b"0123456789" * 50
APPEND = os.O_RDWR | os.O_APPEND
# Short programs: of faults that were mended, and of the rules of lists.
SHORT: dict[str, list[tuple[int, Step]]] = {
    "a list after a remount": [(0, ("mklist", "l")),
                      *[(0, ("make", f"l/{n}", b"%d" % n, 0o600, False)) for n in range(4)],
                      (0, ("setxattr", "l/2", "user.a", b"2", 0)), (0, ("unlink", "l/1")), (0, ("unlink", "l/0")),
                      (0, ("make", "l/7", b"7", 0o644, False)), (0, ("mkdir", "l/9", 0o755)),
                      (0, ("make", "l/0~", b"x", 0o644, False)), (-1, ("remount",)), (0, ("listdir", "l")),
                      (0, ("getxattr", "l/0", "user.a")), (0, ("make", "l/2", b"new", 0o644, False)), (-1, ("kill",))],
    "items that waited": [(0, ("mklist", "l")), (0, ("make", "l/3", b"3", 0o644, False)),
                      (0, ("make", "l/1", b"1", 0o644, False)), (0, ("rename", "l/1", "l/0", 0, False)),
                      (0, ("make", "l/1", b"1", 0o644, False)), (0, ("replace", "l", "2", b"2")),
                      (0, ("unlink", "l/1")), (-1, ("kill",)), (0, ("cat", "l/1"))],
    "items that move": [(0, ("mklist", "l")), (0, ("mklist", "m")), (0, ("make", "a", b"a", 0o600, False)),
                      *[(0, ("make", f"l/{n}", b"%d" % n, 0o644, False)) for n in range(4)],
                      (1, ("open", 0, "l/1", os.O_RDWR)), (0, ("rename", "l/1", "m/0", 0, False)),
                      (0, ("rename", "l/0", "l/6", 0, False)), (0, ("rename", "a", "l/1", 0, False)),
                      (0, ("rename", "l/3", "l/2", 0, False)), (0, ("rename", "l/2", "m/0", EXCHANGE, False)),
                      (1, ("pwrite", 0, b"xyz", 0)), (0, ("cat", "l/2")), (0, ("cat", "m/0")),
                      (0, ("replace", "l", "2", b"new")), (1, ("fstat", 0)), (1, ("pread", 0, 9, 0)),
                      (0, ("unlink", "l/1")), (1, ("close", 0)), (-1, ("remount",))],
    "the mode of a removed file": [(0, ("make", "a", TEXT, 0o600, False)), (1, ("open", 0, "a", os.O_RDONLY)),
                      (0, ("unlink", "a")), (1, ("fstat", 0))],
    "the content of a removed file": [(0, ("make", "a", TEXT, 0o644, False)), (1, ("open", 0, "a", os.O_RDONLY)),
                      (1, ("open", 1, "a", os.O_WRONLY)), (0, ("unlink", "a")), (1, ("ftruncate", 1, 5)),
                      (1, ("pread", 0, 500, 0)), (1, ("pwrite", 1, b"\xff", 700)), (1, ("fstat", 0))],
    "a replaced file": [(0, ("make", "a", TEXT, 0o600, False)), (0, ("make", "b", b"new", 0o644, False)),
                      (1, ("open", 0, "a", os.O_RDONLY)), (1, ("open", 1, "a", os.O_RDWR)),
                      (0, ("rename", "b", "a", 0, False)), (1, ("fsetxattr", 1, "user.a", b"x", 0)),
                      (1, ("pwrite", 1, b"y", 0)), (1, ("fgetxattr", 0, "user.a")), (1, ("pread", 0, 5, 0)),
                      (1, ("fchmod", 0, 0o640)), (1, ("fstat", 1)), (0, ("cat", "a")), (0, ("stat", "a"))],
    "locks of exchanged files": [(0, ("make", "a", TEXT, 0o644, False)), (0, ("make", "b", TEXT, 0o644, False)),
                      (0, ("open", 0, "a", os.O_RDWR)), (0, ("range", 0, fcntl.LOCK_EX, 0, 0)),
                      (1, ("open", 0, "b", os.O_RDWR)), (2, ("rename", "a", "b", EXCHANGE, False)),
                      (1, ("range", 0, fcntl.LOCK_EX, 0, 0)), (2, ("open", 0, "b", os.O_RDWR)),
                      (2, ("range", 0, fcntl.LOCK_EX, 0, 0))],
    "a locked file whose name is used again": [(0, ("make", "a", TEXT, 0o644, False)),
                      (0, ("open", 0, "a", os.O_RDWR)), (0, ("range", 0, fcntl.LOCK_EX, 0, 10)),
                      (2, ("rename", "a", "b", 0, False)), (2, ("make", "a", TEXT, 0o644, False)),
                      (1, ("open", 0, "a", os.O_RDWR)), (1, ("range", 0, fcntl.LOCK_EX, 0, 10)),
                      (2, ("rename", "b", "a", 0, False)), (2, ("open", 0, "a", os.O_RDWR)),
                      (2, ("range", 0, fcntl.LOCK_EX, 0, 10)), (1, ("range", 0, fcntl.LOCK_UN, 0, 10)),
                      (2, ("range", 0, fcntl.LOCK_SH, 0, 10)), (2, ("range", 0, fcntl.LOCK_EX, 10, 10))],
    "a removed directory": [(0, ("mkdir", "e", 0o700)), (1, ("open", 0, "e", os.O_DIRECTORY)), (0, ("rmdir", "e")),
                      (1, ("fstat", 0))],
    "a mapping with O_APPEND": [(0, ("make", "a", TEXT, 0o644, False)), (0, ("open", 0, "a", APPEND)),
                      (0, ("mapped", 0, 3, b"abc")), (0, ("close", 0)), (0, ("cat", "a"))],
    "read on after truncate": [(0, ("make", "a", TEXT, 0o644, False)), (1, ("open", 0, "a", os.O_RDONLY)),
                           (1, ("read", 0, 500)), (0, ("truncate", "a", 4096)), (1, ("read", 0, 1))],
    "read on after write": [(0, ("make", "a", TEXT, 0o644, False)), (0, ("open", 0, "a", os.O_RDWR)),
                        (1, ("open", 0, "a", os.O_RDONLY)), (1, ("read", 0, 1)), (0, ("pwrite", 0, b"x", 400)),
                        (1, ("read", 0, 499))],
    "locks on two ranges": [(0, ("make", "a", TEXT, 0o644, False)), (0, ("open", 0, "a", os.O_RDWR)),
                    (1, ("open", 0, "a", os.O_RDWR)), (0, ("range", 0, fcntl.LOCK_EX, 0, 10)),
                    (1, ("range", 0, fcntl.LOCK_EX, 10, 10))],
    "a flock beside a lock on a range": [(0, ("make", "a", TEXT, 0o644, False)), (0, ("open", 0, "a", os.O_RDWR)),
                      (1, ("open", 0, "a", os.O_RDWR)), (0, ("flock", 0, fcntl.LOCK_EX)),
                      (1, ("range", 0, fcntl.LOCK_EX, 0, 10))],
    "a lock of a file that is renamed": [(0, ("make", "a", TEXT, 0o644, False)), (0, ("open", 0, "a", os.O_RDWR)),
                    (0, ("flock", 0, fcntl.LOCK_EX)), (1, ("open", 0, "a", os.O_RDWR)),
                    (2, ("rename", "a", "b", 0, False)), (1, ("flock", 0, fcntl.LOCK_EX))],
}  # fmt: skip
