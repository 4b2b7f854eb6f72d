"""The parts of the torture that are Rust tests of the engine: built once, run for a while, with their output collected.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Output of the test harness itself, not of the test.
HARNESS = re.compile(r"running \d+ tests?|test |test result|failures?:|$|seed \d+$|\d+/\d+$|\.+$")


@dataclass
class Part:
    """A torture by some of the engine's tests; `share` is its share of the seconds."""

    name: str
    what: str
    tests: list[str]
    share: float
    # Numbers to sum over all lines: the word after the number, and its name in the table.
    counts: dict[str, str] = field(default_factory=dict)
    # Its tests have a long form, which takes the seconds that it gets (PERSIST_TORTURE).
    long: bool = False
    # Tests through Python and the mount (files in tests/system) that belong to it.
    doors: list[str] = field(default_factory=list)


PARTS = [
    Part(
        "steps",
        "killed at every store, and at instructions drawn at random, of every operation",
        ["kill_steps", "compact"],
        0.1,
        {"recovered": "recovered", "instructions": "instructions", "kills": "kills"},
    ),
    Part(
        "random",
        "processes killed at random and at failpoints",
        ["kill_random", "kill_processes"],
        0.15,
        {"operations": "operations", "kills": "kills"},
    ),
    Part(
        "cut",
        "power cuts: images of the disk, by sector old, new or garbage",
        ["power"],
        0.15,
        {"images": "images"},
    ),
    Part(
        "durable",
        "power cuts with durable commits: images of store and log",
        ["power_log", "durable"],
        0.15,
        {"images": "images"},
    ),
    Part(
        "stopped",
        "readers and writers stopped at every step and at random moments",
        ["stopped"],
        0.05,
        {"stops": "stops", "reads": "reads"},
    ),
    Part("snapshots", "snapshots taken and dropped at random", ["snapshots"], 0.05, {"rounds": "rounds"}),
    Part("model", "random histories against a plain model", ["model", "remembered"], 0.1),
    Part(
        "disk",
        "full disks, quotas, failing flushes, files cut short, limits; sidecars, forks; thousands of stores",
        ["full_disk", "io_error", "faults", "limits", "sidecar", "forks"],
        0.05,
        {"runs": "refusals of space tried"},
        long=True,
        doors=["test_full_disk.py", "test_disk_trouble.py", "test_sidecar_life.py", "test_many_stores.py"],
    ),
    Part(
        "hostile",
        "damaged files; left sidecars word by word; failing calls of opening",
        ["hostile", "check", "salvage", "takeover"],
        0.1,
        {"cases": "mutations", "mutations": "changed words", "failures": "failed calls"},
        long=True,
    ),
    Part("protocols", "models of the protocols, also with a check removed", ["protocols"], 0),
]
FUZZ_SHARE = 0.05


@dataclass
class Result:
    """The result of a part."""

    name: str
    what: str
    seconds: float
    done: str
    failed: str


def is_available(test: str) -> bool:
    """Return whether the engine has this test."""
    tests = ROOT / "core" / "tests"
    return (tests / f"{test}.rs").exists() or (tests / test / "main.rs").exists()


def build(parts: list[Part]) -> None:
    """Build the tests, so that the build takes none of the time."""
    if not parts:
        return
    cargo(sorted({t for p in parts for t in p.tests if is_available(t)}), ["--no-run"], {}, 3600)


CARGO = ["cargo", "test", "--release", "--locked", "-q", "-p", "persist-core", "--all-features"]


def environment() -> dict[str, str]:
    """Return the environment of CARGO: a separate target directory, without the optimisation across crates that takes a
    minute for every test."""
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "torture"
    build = {"CARGO_PROFILE_RELEASE_LTO": "off", "CARGO_PROFILE_RELEASE_CODEGEN_UNITS": "16"}
    return {**os.environ, "CARGO_TARGET_DIR": str(target), **build}


def cargo(
    tests: list[str], more: list[str], env: dict[str, str], limit: float | None
) -> subprocess.CompletedProcess[str]:
    argv = [*CARGO, "--no-fail-fast", *(f"--test={t}" for t in tests), *more]
    return subprocess.run(
        argv, cwd=ROOT, env={**environment(), **env}, text=True, timeout=limit, errors="replace",
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def run(part: Part, seconds: float, every: bool) -> Result:
    """Run a part for about its share of the seconds. With `every`, all moments and all instructions of each operation
    and all sizes of a full disk are tested, and these parts take as long as they need."""
    endless = every and part.name in ("steps", "disk")
    env = {}
    if part.share and not endless:
        env["PERSIST_TORTURE_SECONDS"] = str(max(2, round(seconds * part.share)))
    if every or part.long:
        env["PERSIST_TORTURE"] = "1"
    limit = None if endless else 3600 + 4 * seconds
    begin, failed = time.monotonic(), ""
    try:
        ran = cargo([t for t in part.tests if is_available(t)], ["--", "--nocapture"], env, limit)
        output, failed = ran.stdout, "" if ran.returncode == 0 else "a test failed"
    except subprocess.TimeoutExpired as e:
        output = e.stdout.decode(errors="replace") if isinstance(e.stdout, bytes) else e.stdout or ""
        failed = "it did not end"
    if part.doors and not failed:
        ran = through_doors(part.doors, env, 600)
        output, failed = output + ran.stdout, "" if ran.returncode == 0 else "a test failed"
    lines = [line for line in output.splitlines() if line.strip() and not HARNESS.match(line)]
    tests = sum(int(n) for n in re.findall(r"(\d+) passed", output))
    done = [f"{tests} tests"]
    left_out = sorted({why.strip() for why in re.findall(r"not tried: (.*)", output)})
    if left_out:
        done.append(f"{len(left_out)} not tried")
    for why in left_out:
        print(f"   not tried: {why}", flush=True)
    for word, name in part.counts.items():
        n = sum(int(n) for line in lines for n in re.findall(rf"(\d+) {word}\b", line))
        if n:
            done.append(f"{n:,} {name}")
    for line in lines if failed else []:
        print(line)
    return Result(part.name, part.what, time.monotonic() - begin, ", ".join(done), failed)


def through_doors(files: list[str], more: dict[str, str], limit: float) -> subprocess.CompletedProcess[str]:
    """Run tests in Python that need the built module and the mount."""
    env = {**os.environ, **more}
    if not os.path.exists("/dev/fuse"):
        env["PERSIST_NO_FUSE"] = "1"
        print("   not tried: what needs a mount: there is no /dev/fuse", flush=True)
    with tempfile.TemporaryDirectory(prefix="persist-torture") as base:
        argv = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-rs",
            "-p",
            "no:cacheprovider",
            f"--basetemp={base}/tmp",
        ]
        return subprocess.run(
            argv + [str(ROOT / "tests" / "system" / f) for f in files], cwd=ROOT, env=env, text=True,
            timeout=limit, errors="replace", stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip


def fuzz(seconds: float) -> Result:
    """Run every fuzz target for a while."""
    home, what = ROOT / "core" / "fuzz", "fuzz targets"
    targets = sorted(p.stem for p in (home / "fuzz_targets").glob("*.rs"))
    if subprocess.run(["cargo", "fuzz", "--version"], capture_output=True, check=False).returncode != 0:
        return Result("fuzz", what, 0, "not tried: `cargo install cargo-fuzz`", "")
    begin, runs, failed = time.monotonic(), 0, []
    # A case that takes 20 s hangs; one that takes 1 GiB takes unbounded memory.
    limits = ["-timeout=20", "-rss_limit_mb=1024", "-max_len=800", "-len_control=0"]
    for target in targets:
        limit = f"-max_total_time={max(2, round(seconds / len(targets)))}"
        ran = subprocess.run(
            ["cargo", "fuzz", "run", target, "--", limit, *limits],
            cwd=home.parent, env={**os.environ, "RUSTC_BOOTSTRAP": "1"}, text=True, errors="replace",
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip
        runs += sum(int(n) for n in re.findall(r"Done (\d+) runs", ran.stdout))
        if ran.returncode != 0:
            failed.append(target)
            print("\n".join(ran.stdout.splitlines()[-40:]))
    return Result("fuzz", what, time.monotonic() - begin, f"{runs:,} inputs", ", ".join(failed))
