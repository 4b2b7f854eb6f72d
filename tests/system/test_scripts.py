"""The first scripts of a user: what they refuse, what they request, and where they work. Needs nothing built.

Setup runs in a copy of the scripts, with replacements for the system's commands.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
# The commands that the scripts themselves use.
COREUTILS = (
    "bash basename cat chmod cmp cp cut dirname env find grep id install mkdir mktemp mv printf rm sed sha256sum "
    "sort tail touch uname xargs"
).split()


def test_a_newer_compiler_builds_the_project_whatever_it_warns_of() -> None:
    """Lints only warn in the manifest. The step `clippy` of scripts/test denies every warning."""
    manifest = (TOP / "Cargo.toml").read_text()
    assert "[workspace.lints" in manifest
    assert not re.search(r"\b(deny|forbid)\b", re.sub(r"#.*", "", manifest))
    sources = list(TOP.glob("*/src/**/*.rs"))
    assert sources and not [s for s in sources if re.search(r"(deny|forbid)\(warnings", s.read_text())]
    assert "-D warnings" in (TOP / "scripts/lib/step.sh").read_text()


class Machine:
    """A project with its scripts, and a PATH with selected commands only."""

    def __init__(self, home: Path) -> None:
        self.top, self.bin, self.log = home / "project", home / "bin", home / "log"
        shutil.copytree(TOP / "scripts", self.top / "scripts")
        shutil.copy(TOP / "Cargo.toml", self.top)
        self.bin.mkdir()
        for name in COREUTILS:
            found = shutil.which(name)
            assert found, name
            (self.bin / name).symlink_to(found)
        for name in ("cargo", "rustc"):
            self.put(name, f"echo '{name} 1.95.0 (abc 2026-03-21)'")
        self.put("cc", f'PATH="$CC_PATH" exec {shutil.which("cc")} "$@"')
        self.put("python3", f'exec {sys.executable} "$@"')
        for name in ("fusermount3", "umount", "git"):
            self.put(name, "exit 0")
        self.put("apt-get", "exit 0")
        self.put("id", "echo 0")

    def put(self, name: str, script: str) -> None:
        """Create a command that records its call and runs `script`."""
        path = self.bin / name
        path.unlink(missing_ok=True)
        path.write_text(f'#!{self.bin}/bash\nprintf "%s\\n" "{name} $*" >>"{self.log}"\n{script}\n')
        path.chmod(0o755)

    def remove(self, name: str) -> None:
        (self.bin / name).unlink()

    def run(self, script: str, *args: str, cwd: str = "/", **more: str) -> subprocess.CompletedProcess[str]:
        env = {"PATH": str(self.bin), "HOME": str(self.top), "CC_PATH": os.environ["PATH"], **more}
        return subprocess.run(
            [str(self.bin / "bash"), str(self.top / "scripts" / script), *args], env=env, cwd=cwd, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120,
        )  # fmt: skip

    def asked_for(self) -> list[str]:
        """Return the packages that apt-get should have installed."""
        calls = self.log.read_text().splitlines() if self.log.exists() else []
        return [
            word
            for c in calls
            if " install " in c
            for word in c.split(" --no-install-recommends ")[1].split()
        ]

    def fetched(self) -> bool:
        return self.log.exists() and "apt-get" in self.log.read_text()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


NO_HEADERS = "echo 'a.c:1:10: fatal error: stdio.h: No such file or directory' >&2; exit 1"


def test_a_compiler_that_cannot_compile_is_missing(machine: Machine) -> None:
    machine.put("cc", NO_HEADERS)
    done = machine.run("setup")
    assert machine.asked_for() == ["gcc", "libc6-dev"]
    # An installed package is checked again, and its message is shown.
    assert done.returncode == 1
    assert "stdio.h: No such file" in done.stdout and "error: gcc libc6-dev" in done.stdout


@pytest.mark.parametrize(
    ("name", "packages"),
    [
        ("fusermount3", ["fuse3"]),
        ("umount", ["mount"]),
    ],
)
def test_what_does_not_run_is_missing(machine: Machine, name: str, packages: list[str]) -> None:
    machine.put(name, "exit 1")
    machine.run("setup")
    assert machine.asked_for() == packages


def test_a_python_that_makes_no_venv_is_missing(machine: Machine) -> None:
    machine.put("python3.11", "case $* in *ensurepip*) exit 1;; esac")
    done = machine.run("setup", PERSIST_PYTHON="python3.11")
    assert machine.asked_for() == ["python3", "python3-venv"]
    assert done.returncode == 1 and "still this does not work" in done.stdout


def test_nothing_is_fetched_that_only_tests_need(machine: Machine) -> None:
    # The build fails here, because cargo builds nothing; before that, nothing was missing.
    machine.put("cargo", "case $1 in --version) echo 'cargo 1.95.0';; *) exit 1;; esac")
    machine.put("python3", "case $* in *-m*venv*) exit 7;; esac; exit 0")
    done = machine.run("setup")
    assert "making .venv" in done.stdout and done.returncode == 1
    assert not machine.fetched()
    wanted = (TOP / "scripts/lib/requirements.txt").read_text()
    assert [row.split(">")[0] for row in wanted.split()] == ["maturin"]


@pytest.mark.parametrize("missing", [True, False])
def test_rust_is_looked_at_before_anything_is_fetched(machine: Machine, missing: bool) -> None:
    machine.put("cc", NO_HEADERS)
    if missing:
        machine.remove("cargo")
    else:
        machine.put("rustc", "echo 'rustc 1.63.0 (4b91a6ea7 2022-08-08)'")
    done = machine.run("setup")
    assert done.returncode == 1
    assert not machine.fetched()
    assert "with rustup" in done.stdout and "1.88" in done.stdout
    assert ("there is no cargo" if missing else "1.63.0") in done.stdout


@pytest.mark.parametrize(
    "version", ["1.88.0 (abc 2025-06-23)", "1.100.1 (abc 2027-01-01)", "1.89.0-nightly (abc)"]
)
def test_newer_rust_is_taken(machine: Machine, version: str) -> None:
    for name in ("cargo", "rustc"):
        machine.put(name, f"echo '{name} {version}'")
    machine.put("cc", NO_HEADERS)
    machine.run("setup")
    assert machine.fetched()


def test_an_ordinary_user_needs_no_sudo(machine: Machine) -> None:
    machine.put("id", "echo 1000")
    machine.put("python3", "case $* in *-m*venv*) exit 7;; esac; exit 0")
    done = machine.run("setup")
    assert "making .venv" in done.stdout
    machine.put("fusermount3", "exit 1")
    done = machine.run("setup")
    assert done.returncode == 1 and not machine.fetched()
    assert "as root: apt-get install fuse3" in done.stdout


def test_bench_builds_from_any_folder(machine: Machine) -> None:
    (machine.top / "scripts/setup").write_text("#!/usr/bin/env bash\n")
    python = machine.top / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.symlink_to(machine.bin / "true")
    machine.put("true", 'case $* in *bench.py*) printf "measured\\n";; esac')
    machine.put(
        "cargo",
        "while [ $# -gt 0 ]; do [ $1 != --manifest-path ] || manifest=$2; shift; done\n"
        '[ -f "${manifest:-Cargo.toml}" ] || { echo "could not find Cargo.toml"; exit 101; }',
    )
    for cwd, part in ("/", "all"), (str(machine.top), "mount"):
        done = machine.run("bench", part, "--quick", cwd=cwd)
        assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "measured"), done.stdout


@pytest.mark.parametrize("script", ["bench", "torture", "test"])
def test_help_is_printed_before_anything_is_built(machine: Machine, script: str) -> None:
    """The copied project has no sources: setup, or any other build, would fail."""
    for args in (["--help"], ["-h"]):
        done = machine.run(script, *args)
        assert done.returncode == 0 and f"scripts/{script} --help" in done.stdout, done.stdout
    assert not machine.log.exists()


@pytest.mark.parametrize("args", [["--quik"], ["saftey"], ["--quick", "safety", "more"], ["mont"]])
def test_bench_refuses_an_unknown_option_before_it_builds(machine: Machine, args: list[str]) -> None:
    done = machine.run("bench", *args)
    assert done.returncode == 2 and "scripts/bench mount" in done.stdout, done.stdout
    assert not machine.log.exists()


def test_fuzz_targets_are_left_out_only_without_a_compiler(machine: Machine) -> None:
    done = machine.run("lib/step.sh", "fuzz_targets")
    assert done.returncode == 0 and done.stdout.startswith("1 ignored: there is no C++ compiler"), done.stdout
    machine.put("c++", "exit 0")
    machine.put("cargo", 'case $* in *"check"*core/fuzz/Cargo.toml*) exit 0;; *) exit 1;; esac')
    done = machine.run("lib/step.sh", "fuzz_targets")
    assert (done.returncode, done.stdout) == (0, "1 passed: the fuzz targets compile\n")
    machine.put("cargo", "exit 101")
    done = machine.run("lib/step.sh", "fuzz_targets")
    assert (done.returncode, done.stdout) == (1, "1 failed: the fuzz targets do not compile\n")


PYTEST = "python -m pytest -q -p no:cacheprovider"
CARGO_TEST = "cargo test --workspace --exclude persist-py --all-features --locked --no-fail-fast"


def steps() -> list[str]:
    done = subprocess.run([TOP / "scripts/test", "--help"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    return done.stdout.splitlines()[-1].removeprefix("steps: ").split()


def test_help_lists_every_step() -> None:
    text = (TOP / "scripts/test").read_text()
    called = {row.split()[1] for row in text.splitlines() if row.startswith("step ")} | {
        "python",
        "mount",
        "system",
    }
    assert set(steps()) == called


def test_the_summary_says_why_a_step_failed(tmp_path: Path) -> None:
    text = (TOP / "scripts/test").read_text()
    why = text[text.index("why() {") : text.index("\n}\n", text.index("why() {")) + 3]
    log = tmp_path / "log"
    log.write_text(
        "test a ... FAILED\n---- a stdout ----\nseed 4\nthread 'a' panicked at a.rs:5:\nno such word\n"
        "stack backtrace:\n   0: x\n\nfailures:\n    a\nerror: 1 target failed:\n"
    )
    done = subprocess.run(
        ["bash", "-c", f"{why} why cargo {log}"], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines() == [
        "---- a stdout ----",
        "thread 'a' panicked at a.rs:5:",
        "no such word",
        "error: 1 target failed:",
    ]
    log.write_text("E   assert 1 == 2\n----\nFAILED test_a.py::a - assert 1 == 2\n1 failed\n")
    done = subprocess.run(
        ["bash", "-c", f"{why} why pytest {log}"], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines() == ["E   assert 1 == 2", "FAILED test_a.py::a - assert 1 == 2"]


@pytest.mark.parametrize(
    "args",
    [
        ["pyhton"],
        ["python", "moutn"],
        ["cargo", "ruff", "kill_steps"],
        ["-k", "x"],
        ["ruff", "-q"],
        ["python", "mount", "-k", "x"],
    ],
)
def test_an_unknown_step_is_refused(args: list[str]) -> None:
    done = subprocess.run([TOP / "scripts/test", *args], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "steps: setup" in done.stderr and done.stdout == ""


@pytest.mark.parametrize(
    ("args", "call"),
    [
        (["python", "-k", "some name"], f"{PYTEST} tests/python -k some name"),
        (["python", "tests/python/test_dict.py::test_x"], f"{PYTEST} tests/python/test_dict.py::test_x"),
        (["cargo", "depth"], f"{CARGO_TEST} depth"),
        (["cargo", "--", "mount"], f"{CARGO_TEST} mount"),
        (
            ["cargo", "-p", "persist-core"],
            "cargo test --all-features --locked --no-fail-fast -p persist-core",
        ),
    ],
)
def test_a_selection_reaches_the_tests(machine: Machine, args: list[str], call: str) -> None:
    for name in ("awk", "timeout", "tee", "seq"):
        (machine.bin / name).symlink_to(shutil.which(name) or "")
    (machine.top / "scripts/lib/step.sh").write_text("#!/usr/bin/env bash\n")
    machine.put("cargo", "echo 1 passed")
    python = machine.top / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    machine.put("python", "echo 1 passed")
    python.symlink_to(machine.bin / "python")
    (machine.top / "tests/python").mkdir(parents=True)
    (machine.top / "tests/python/test_dict.py").touch()
    done = machine.run("test", *args)
    assert done.returncode == 0, done.stdout
    calls = [re.sub(r" --basetemp=\S+", "", row) for row in machine.log.read_text().splitlines()]
    assert call in calls
