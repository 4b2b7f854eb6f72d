"""The speed of the mount compared with what a filesystem in user space can reach.

The *ceiling* (`fuse/examples/ceiling`) is a filesystem in memory that does nothing but answer: the same names, sizes
and contents, the same library, capabilities, direct I/O and threads. It runs twice. With a long time to live the kernel
keeps its entries and attributes, as it keeps those of the mount under leases; contents it does not keep, since the
mount does not lease them (docs/decisions/066). With a time to live of 0 it keeps nothing: changes are compared with it.

All sides are measured in turn, the best of several turns counts, and a command runs twice in a row, so that the kernel
has what it may keep. The files of the store, the sources of copies and their targets are on a tmpfs where there is one:
the ceiling has no disk. All runs once on one CPU and once on all. A comparison with `ffs`, another filesystem of this
kind, is not made: it cannot be installed from a package.

The files of all sides, and of the sources, have the extended attributes that the mount shows (P8): `cp -a` and
`rsync -aX` ask for those of each file, and take away what the source does not have.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import persist
from bench_report import aim

LONG = 3600  # seconds
MANY = 1000  # files on which single calls are made
MOUNT, KEPT, PLAIN = "persist", "ceiling", "TTL 0"
CALLS = {
    "stat": ("stat", KEPT),
    "list": ("readdir with stat (an entry)", KEPT),
    "read": ("open-read-close", KEPT),
    "rewrite": ("open-truncate-write-close", PLAIN),
    "create": ("create", PLAIN),
    "unlink": ("unlink", PLAIN),
}
# What is run, and what undoes it untimed. `tree` is the tree on the side that is measured, `side` its root.
COMMANDS = {
    "ls -lR": ("ls -lR {tree}", ""),
    "read all": ("find {tree} -type f -exec cat {{}} +", ""),
    "cp -a out": ("cp -a {tree} {scratch}/copy", "rm -r {scratch}/copy"),
    "cp -a in": ("cp -a {source}/tree {side}/copy", "rm -r {side}/copy"),
    "rsync -aX in": ("rsync -aX {source}/tree/ {side}/synced", "rm -r {side}/synced"),
    "rsync -aX again": ("rsync -aX {source}/tree/ {side}/same", ""),
    "find": ("find {tree} -size +1G", ""),
    "grep -r": ("grep -r 'a text that is nowhere' {tree}; [ $? -eq 1 ]", ""),
    "git status": ("git -C {tree} --no-optional-locks status --porcelain", ""),
}


@dataclass
class Scale:
    """How much is measured."""

    files: int
    entries: int
    depth: int
    rounds: int
    seconds: float

    @classmethod
    def of(cls, quick: bool) -> Scale:
        return cls(1000, 10_000, 50, 2, 0.2) if quick else cls(10_000, 100_000, 200, 3, 1.0)


class Bench:
    """One run: where its files are, which programs it runs, and the rows that it prints."""

    def __init__(self, home: Path, program: str, scale: Scale, aims: list[str]) -> None:
        self.home, self.program, self.scale, self.aims = home, program, scale, aims
        self.source, self.large, self.scratch = home / "source", home / "large", home / "scratch"
        self.mode = ""

    def row(
        self, what: str, figures: dict[str, float], against: str, bound: float, at_least: bool = False
    ) -> None:
        """Print a row and record its aim: a ratio of speeds that is at least the bound, or of times, at most."""
        ours, theirs = figures[MOUNT], figures[against]
        ratio = theirs / ours if at_least else ours / theirs
        shown = " ".join(
            f"{figures[s]:>11,.4g}" if s in figures else " " * 11 for s in (MOUNT, KEPT, PLAIN, "tmpfs")
        )
        self.print_row(what, shown, ratio, bound, at_least)

    def print_row(self, what: str, shown: str, ratio: float, bound: float, at_least: bool) -> None:
        met = ratio >= bound if at_least else ratio <= bound
        wanted = f"{'>=' if at_least else '<='} {bound:g}"
        print(
            f"  {what:<32} {shown:<47} {ratio:>8.2f}   {wanted:<7} {'met' if met else 'missed'}", flush=True
        )
        aim(self.aims, f"mount, {self.mode}: {what}", ratio, bound, at_least)

    def header(self, title: str) -> None:
        columns = " ".join(f"{s:>11}" for s in (MOUNT, KEPT, PLAIN, "tmpfs"))
        print(f"\n{title}, {self.mode}\n  {'':<32} {columns} {'ratio':>8}   aim", flush=True)

    def leave_out(self, what: str, why: str) -> None:
        print(f"  {what:<32} left out: {why}", flush=True)
        self.aims.append(f"  LEFT OUT  mount, {self.mode}: {what}: {why}")

    # --- sides -----------------------------------------------------------------------------------

    @contextlib.contextmanager
    def serving(self, name: str, argv: list[str]) -> Iterator[tuple[Path, int]]:
        """Run a filesystem that is mounted at a new directory. Yields that, and the process."""
        path = self.home / f"mnt-{name.replace(' ', '-')}"
        path.mkdir(exist_ok=True)
        with subprocess.Popen([a.replace("MOUNTPOINT", str(path)) for a in argv]) as process:
            try:
                end = time.monotonic() + 60
                while not os.path.ismount(path):
                    if process.poll() is not None or time.monotonic() > end:
                        raise RuntimeError(f"{argv[0]} did not mount {path}")
                    time.sleep(0.01)
                yield path, process.pid
            finally:
                self.unmount(path)

    @staticmethod
    def unmount(path: Path) -> None:
        command = ["umount"] if os.geteuid() == 0 else ["fusermount3", "-u", "-q"]
        for _ in range(100):
            if not os.path.ismount(path):
                return
            if subprocess.run([*command, str(path)], stderr=subprocess.DEVNULL, check=False).returncode == 0:
                return
            time.sleep(0.05)
        subprocess.run([*command, "-l" if os.geteuid() == 0 else "-z", str(path)], check=True)

    def mounted(self, store: Path) -> contextlib.AbstractContextManager[tuple[Path, int]]:
        return self.serving(MOUNT, ["mount.persist", "-F", str(store), "MOUNTPOINT"])

    def ceiling(self, name: str, source: Path) -> contextlib.AbstractContextManager[tuple[Path, int]]:
        ttl = LONG if name == KEPT else 0
        return self.serving(name, [self.program, "serve", "MOUNTPOINT", str(ttl), str(source)])

    def turns(self, sides: dict[str, Path], rounds: int = 0) -> Iterator[tuple[str, Path]]:
        """Return the sides in turn, each round in the opposite order."""
        for n in range(rounds or self.scale.rounds):
            yield from sorted(sides.items(), reverse=n % 2 == 1)

    def drive(self, call: str, directory: Path, seconds: float) -> dict[str, float]:
        """Return the nanoseconds of each kind of call."""
        argv = [self.program, "drive", call, str(directory), str(seconds)]
        lines = subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
        return {kind: float(took) for kind, took in (line.split() for line in lines)}


def shell(command: str) -> float:
    """Run a command and return its seconds."""
    begin = time.perf_counter()
    done = subprocess.run(
        ["sh", "-c", f"{{ {command}; }} >/dev/null"], stderr=subprocess.PIPE, text=True, check=False
    )
    took = time.perf_counter() - begin
    if done.returncode != 0:
        raise RuntimeError(f"{command!r} gave {done.returncode}: {done.stderr[-2000:]}")
    return took


# --- what is stored ------------------------------------------------------------------------------


def text(i: int) -> str:
    return f"the text of number {i}"


def nested(depth: int) -> dict[str, Any]:
    inner: dict[str, Any] = {"f": text(depth)}
    for n in reversed(range(depth - 1)):
        inner = {"f": text(n), "d": inner}
    return inner


def write(directory: Path, values: dict[str, Any]) -> None:
    """Write values as the mount shows them."""
    directory.mkdir()
    for name, value in values.items():
        if isinstance(value, dict):
            write(directory / name, value)
        else:
            (directory / name).write_text(f"{value}\n")


def values() -> dict[str, Any]:
    return {"many": {f"name {i}": text(i) for i in range(MANY)}, "made": {}, "count": {"n": 0}}


def large_values(entries: int) -> dict[str, Any]:
    return {"big": {f"name {i}": text(i) for i in range(entries)}, "list": [text(i) for i in range(entries)]}


def make_sources(bench: Bench) -> None:
    """Write the files that the ceiling serves and that are copied into the mount."""
    scale, rng = bench.scale, random.Random(1)
    bench.scratch.mkdir()
    write(bench.source, {**values(), "deep": nested(scale.depth)})
    for n in range(scale.files):
        directory = bench.source / "tree" / f"part {n // 1000}" / f"directory {n // 50 % 20}"
        directory.mkdir(parents=True, exist_ok=True)
        (directory / f"file {n}.txt").write_text(f"{text(n)}\n" * rng.randrange(1, 60))
    if shutil.which("git"):
        # No collection begins by itself after the commit.
        config = ("user.name=bench", "user.email=bench@example.invalid", "gc.auto=0", "commit.gpgsign=false")
        git = f"git -C {bench.source}/tree " + " ".join(f"-c {setting}" for setting in config)
        shell(f"{git} init -q && {git} add -A && {git} commit -q -m all && {git} gc -q")
    content = large_values(scale.entries)
    write(bench.large, {"big": content["big"], "list": {str(i): t for i, t in enumerate(content["list"])}})


def show_attributes(shown: Path, others: list[Path]) -> None:
    """Give the files of other trees the extended attributes that one tree shows."""
    for at, directories, files in os.walk(shown):
        for path in (Path(at) / name for name in (*directories, *files)):
            for name in os.listxattr(path, follow_symlinks=False):
                value = os.getxattr(path, name, follow_symlinks=False)
                for other in others:
                    os.setxattr(other / path.relative_to(shown), name, value, follow_symlinks=False)


# --- rows ----------------------------------------------------------------------------------------


def calls(bench: Bench, sides: dict[str, Path]) -> None:
    took: dict[str, dict[str, list[float]]] = {call: {s: [] for s in sides} for call in CALLS}
    # Many short turns: on a busy machine, few are undisturbed.
    for side, root in bench.turns(sides, 4 * bench.scale.rounds):
        for call in ("stat", "list", "read", "rewrite", "make"):
            directory = root / ("made" if call == "make" else "many")
            for kind, ns in bench.drive(call, directory, bench.scale.seconds / 4).items():
                took[kind][side].append(ns / 1000)
    bench.header("system calls (us; ratio of speeds)")
    for call, (what, against) in CALLS.items():
        bench.row(what, {s: min(t) for s, t in took[call].items()}, against, 0.8, at_least=True)


def commands(bench: Bench, sides: dict[str, Path]) -> None:
    bench.header(f"commands on {bench.scale.files:,} files (s; ratio of times)")
    for what, (command, undo) in COMMANDS.items():
        tool = command.split()[0]
        if shutil.which(tool) is None:
            bench.leave_out(what, f"{tool} is not installed")
            continue
        took: dict[str, list[float]] = {s: [] for s in sides}

        def line(template: str, root: Path) -> str:
            return template.format(tree=root / "tree", side=root, source=bench.source, scratch=bench.scratch)

        if what in ("rsync -aX again", "git status"):
            for root in sides.values():
                # The first run copies, or brings the index up to date.
                shell(line(command.replace(" --no-optional-locks", ""), root))
        for side, root in bench.turns(sides):
            for _ in range(2):
                took[side].append(shell(line(command, root)))
                if undo:
                    shell(line(undo, root))
        bench.row(what, {s: min(t) for s, t in took.items()}, KEPT, 1.25)


def depth(bench: Bench, root: Path) -> None:
    """Copy nested directories out of the mount and into it, and from a tmpfs to itself."""
    for what, from_mount in ("out", True), ("in", False):
        took: dict[str, list[float]] = {MOUNT: [], "tmpfs": []}
        for side, at in bench.turns({MOUNT: root, "tmpfs": bench.source}):
            here, there = (at, bench.scratch) if from_mount else (bench.source, at)
            if side == "tmpfs":
                there = bench.scratch
            took[side].append(shell(f"cp -a {here}/deep {there}/deeper"))
            shell(f"rm -r {there}/deeper")
        bench.row(
            f"depth {bench.scale.depth}: cp -a {what}", {s: min(t) for s, t in took.items()}, "tmpfs", 3
        )


def many_entries(bench: Bench) -> None:
    """Measure large directories, and the memory of the mount's process for what the kernel holds."""
    n, store = bench.scale.entries, bench.home / "large.store"
    rows = {
        f"{n:,} entries: ls -l": "ls -l {root}/big",
        f"{n:,} entries: rm -r": "rm -r {root}/big",
        f"list of {n:,}: rm *": "cd {root}/list && rm *",
    }
    took: dict[str, dict[str, float]] = {what: {} for what in rows}
    memory = []
    for turn in range(max(1, bench.scale.rounds - 1)):
        for side in sorted((MOUNT, KEPT), reverse=turn % 2 == 1):
            if side == MOUNT:
                with persist.open(store) as filled:
                    filled.root.update(large_values(n))
            with bench.mounted(store) if side == MOUNT else bench.ceiling(side, bench.large) as (root, pid):
                assert len(os.listdir(root)) == 2
                before = anonymous(pid)
                for what, command in rows.items():
                    for again in range(2 if command.startswith("ls") else 1):
                        seconds = shell(command.format(root=root))
                        took[what][side] = min(took[what].get(side, seconds), seconds)
                        if side == MOUNT and command.startswith("ls") and not again:
                            memory.append((anonymous(pid) - before) / n)
    bench.header("large directories (s; ratio of times)")
    for what, figures in took.items():
        bench.row(what, figures, KEPT, 1.5)
    shown = f"{min(memory):>11,.4g}"
    bench.print_row("memory, bytes a name", shown, min(memory), 200, False)


def anonymous(pid: int) -> int:
    """Return the bytes of memory of a process that are not of a file."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("RssAnon:"))


def increments(bench: Bench) -> None:
    """Measure `+=` in Python beside a mount of the store, and without one.

    A reader takes its part of the CPUs, whatever it reads. So beside the mount that is read all the time stands the
    same reader of the ceiling, with the store not mounted.
    """
    path = bench.home / "count.store"
    fastest, ratios = {"without": 0.0, "idle": 0.0}, []
    with persist.open(path) as store:
        store.root.update(values())
        d = store.root["count"]

        def rate(seconds: float) -> float:
            n, begin = 0, time.perf_counter()
            while (took := time.perf_counter() - begin) < seconds:
                for _ in range(500):
                    d["n"] += 1
                n += 500
            return n / took

        def undisturbed(what: str) -> None:
            # Of many short turns, some are undisturbed also on a busy machine.
            for _ in range(100):
                fastest[what] = max(fastest[what], rate(bench.scale.seconds / 200))

        def beside_a_reader(root: Path) -> float:
            argv = [bench.program, "drive", "read", str(root / "count"), "3600"]
            with subprocess.Popen(argv) as reader:
                time.sleep(0.05)
                try:
                    return rate(bench.scale.seconds / 2)
                finally:
                    reader.kill()

        for _ in range(2 * bench.scale.rounds + 1):
            undisturbed("without")
            with bench.ceiling(PLAIN, bench.source) as (root, _):
                other = beside_a_reader(root)
            with bench.mounted(path) as (root, _):
                assert (root / "count/n").read_text() == f"{d['n']}\n"
                undisturbed("idle")
                ratios.append(beside_a_reader(root) / other)
    bench.header("+= of an entry in Python (ratio of speeds: beside the mount / without it)")
    bench.print_row("+=, the mount is idle", "", fastest["idle"] / fastest["without"], 0.97, True)
    bench.print_row("+=, the mount is read all the time", "", statistics.median(ratios), 0.7, True)


def one_mode(bench: Bench) -> None:
    store = bench.home / "small.store"
    if not store.exists():
        with persist.open(store) as new:
            new.root.update({**values(), "deep": nested(bench.scale.depth)})
    with contextlib.ExitStack() as stack:
        sides = {MOUNT: stack.enter_context(bench.mounted(store))[0]}
        for name in KEPT, PLAIN:
            sides[name] = stack.enter_context(bench.ceiling(name, bench.source))[0]
        if not (sides[MOUNT] / "tree").exists():
            shell(f"cp -a {bench.source}/tree {sides[MOUNT]}/tree")
            for root in sides.values():
                shell(f"diff -r --no-dereference {bench.source} {root}")
        others = [bench.source / "tree", *(root / "tree" for side, root in sides.items() if side != MOUNT)]
        try:
            show_attributes(sides[MOUNT] / "tree", others)
        except OSError as error:
            bench.leave_out("extended attributes of the sources", f"{bench.home}: {error.strerror}")
        calls(bench, sides)
        commands(bench, sides)
        bench.header("nested directories (s; ratio of times)")
        depth(bench, sides[MOUNT])
    many_entries(bench)
    increments(bench)


def mount(program: str, quick: bool, aims: list[str]) -> None:
    """Measure the mount on one CPU, then on all."""
    if not os.path.exists("/dev/fuse"):
        print("\nthe mount: left out: there is no /dev/fuse")
        aims.append("  LEFT OUT  mount: there is no /dev/fuse")
        return
    fast = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    home = Path(tempfile.mkdtemp(prefix="persist-bench-", dir=fast))
    cpus = os.sched_getaffinity(0)
    print(f"\nthe mount beside a filesystem that does nothing; files in {home.parent}")
    try:
        bench = Bench(home, program, Scale.of(quick), aims)
        make_sources(bench)
        for bench.mode, used in ("on one CPU", {max(cpus)}), (f"on {len(cpus)} CPUs", cpus):
            os.sched_setaffinity(0, used)
            one_mode(bench)
    finally:
        os.sched_setaffinity(0, cpus)
        # Only what is below no mount point may be removed.
        if not any(os.path.ismount(path) for path in home.glob("mnt-*")):
            shutil.rmtree(home)
