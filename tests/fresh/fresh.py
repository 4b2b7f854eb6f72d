"""Test a fresh machine: a minimal Debian with git and Rust, in which scripts/setup and scripts/demo run.

In each Debian, in this order:

1. an ordinary user runs setup: it names what is missing, and changes nothing;
2. root runs setup and demo: setup installs exactly what it named;
3. the ordinary user, in a separate clone and without sudo, runs setup and demo.

The last commit is tested. The Debian lives in its own mount and process namespaces: when its last process ends, for any
reason, every mount is gone, and only then are its files removed.

    fresh.py [--suite SUITE]... [--keep]        as root; needs debootstrap and the network
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
SUITES = ("bookworm", "trixie")
USER = "joe"
# The program sets this for its part that runs inside the namespaces.
INSIDE = "PERSIST_FRESH_ROOT"
# Passed on to the machine: the settings for its registries, and settings for faster builds.
PASSED_ON = re.compile(r"(https?|no|all)_proxy$|PIP_|CARGO_(PROFILE|HTTP|NET|REGISTR)|SSL_CERT", re.IGNORECASE)
RUST = "/opt/rust"
LIMIT = 3600


class Failed(Exception):
    """A difference from the expected behaviour."""


def check(what: str, fact: object, output: str = "") -> None:
    print(f"    {'ok' if fact else 'FAILED':<8}{what}", flush=True)
    if not fact:
        raise Failed(f"{what}\n{output}")


def command(*argv: object, **more: object) -> str:
    """Run a command of the host and return its output."""
    done = subprocess.run(
        [str(a) for a in argv], text=True, errors="replace", timeout=LIMIT, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **more,
    )  # fmt: skip
    if done.returncode:
        raise Failed(f"{shlex.join(map(str, argv))}: exit status {done.returncode}\n{done.stdout}")
    return done.stdout


def why_not() -> str:
    """Return why the test is impossible here, or an empty string."""
    if os.geteuid() != 0:
        return "only root can make a Debian"
    missing = [name for name in ("debootstrap", "unshare", "chroot", "rustc", "git") if not shutil.which(name)]
    if missing:
        return f"{' and '.join(missing)} not installed"
    return "" if os.path.exists("/dev/fuse") else "there is no /dev/fuse"


class Machine:
    """A minimal Debian in a directory."""

    def __init__(self, root: Path, suite: str) -> None:
        self.root, self.suite = root, suite

    def make(self) -> None:
        print(f"    making {self.suite} with git and Rust", flush=True)
        mirror = mirror_of_host()
        command(
            "debootstrap", "--variant=minbase", "--include=git,ca-certificates", self.suite, self.root,
            *([mirror] if mirror else []),
        )  # fmt: skip
        self.mounts()
        self.registries()
        self.run("useradd --create-home --shell /bin/bash " + USER)
        for user in ("root", USER):
            self.clone(user)

    def mounts(self) -> None:
        for kind in ("proc", "sysfs"):
            command("mount", "-t", kind, kind, self.root / kind.removesuffix("fs"))
        self.devices()
        rust = self.root / RUST.lstrip("/")
        rust.mkdir(parents=True)
        sysroot = command("rustc", "--print", "sysroot").splitlines()[-1]
        command("mount", "--bind", sysroot, rust)
        command("mount", "-o", "remount,bind,ro", rust)

    def devices(self) -> None:
        """Create the usual devices with their usual modes: the host may be stricter."""
        dev = self.root / "dev"
        command("mount", "-t", "tmpfs", "-o", "mode=755,nosuid", "tmpfs", dev)
        for name, major, minor in (
            ("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0),
            ("fuse", 10, 229),
        ):  # fmt: skip
            command("mknod", "-m", "666", dev / name, "c", major, minor)
        (dev / "fd").symlink_to("/proc/self/fd")
        for name, kind, options in ("shm", "tmpfs", "mode=1777"), ("pts", "devpts", "newinstance,ptmxmode=666"):
            (dev / name).mkdir()
            command("mount", "-t", kind, "-o", options, kind, dev / name)
        (dev / "ptmx").symlink_to("pts/ptmx")

    def registries(self) -> None:
        """Copy the host's access to Debian's and Python's packages: proxies, certificates, settings."""
        settings = command("apt-config", "dump").splitlines()
        ways = [row for row in settings if re.match(r"Acquire::(https?|Check|Retries)", row) and '""' not in row]
        (self.root / "etc/apt/apt.conf.d/00host").write_text("".join(f"{row}\n" for row in ways))
        for name in ("etc/resolv.conf", "etc/hosts", "etc/pip.conf", "etc/ssl/certs/ca-certificates.crt"):
            if Path("/", name).exists():
                shutil.copy(Path("/", name), self.root / name)
        home = Path(os.environ.get("CARGO_HOME", Path.home() / ".cargo"))
        self.cargo = [home / name for name in ("config.toml", "registry/index", "registry/cache")]

    def clone(self, user: str) -> None:
        home = self.root / self.home(user).lstrip("/")
        command("git", "clone", "-q", "--no-hardlinks", "--no-local", TOP, home / "persist")
        # Settings, and earlier downloads, which need not be fetched again.
        for path in self.cargo:
            to = home / ".cargo" / path.relative_to(path.parents[1] if path.parent.name == "registry" else path.parent)
            if path.exists():
                to.parent.mkdir(parents=True, exist_ok=True)
                command("cp", "-a", path, to)
        self.run(f"chown -R {user}: {self.home(user)}")

    @staticmethod
    def home(user: str) -> str:
        return "/root" if user == "root" else f"/home/{user}"

    def try_run(self, script: str, user: str = "root") -> tuple[int, str]:
        env = {k: v for k, v in os.environ.items() if PASSED_ON.match(k)}
        env["PATH"] = f"{RUST}/bin:/usr/local/bin:/usr/bin:/bin" + (":/usr/sbin:/sbin" if user == "root" else "")
        env |= {"HOME": self.home(user), "USER": user, "LANG": "C.UTF-8"}
        chroot = shutil.which("chroot") or "chroot"
        argv = [chroot, f"--userspec={user}", str(self.root), "/bin/bash", "-c", f"cd; {script}"]
        done = subprocess.run(
            argv, env=env, text=True, errors="replace", timeout=LIMIT, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        return done.returncode, done.stdout

    def run(self, script: str, user: str = "root") -> str:
        code, output = self.try_run(script, user)
        if code:
            raise Failed(f"{self.suite}, as {user}: {script}: exit status {code}\n{output}")
        return output

    def packages(self) -> set[str]:
        return set(self.run("dpkg-query -W -f '${Package}\\n'").split())


def mirror_of_host() -> str:
    """Return the host's Debian mirror; empty if it is unknown (debootstrap has a default)."""
    try:
        rows = command("apt-get", "indextargets", "--format", "$(ORIGIN) $(COMPONENT) $(SITE)", "Created-By: Packages")
    except (Failed, OSError):
        return ""
    sites = [row.split()[2] for row in rows.splitlines() if row.startswith("Debian main ")]
    return next((site for site in sites if not site.rstrip("/").endswith("security")), "")


# Packages that tests need and users do not.
ONLY_TESTS = {"rsync", "vim", "quota", "xfsprogs", "btrfs-progs", "attr"}


def one(suite: str, root: Path) -> None:
    begin = time.monotonic()
    machine = Machine(root, suite)
    machine.make()
    before = machine.packages()
    check("neither libc6-dev nor Python nor fuse3 is there", not before & {"libc6-dev", "python3", "fuse3"})

    code, output = machine.try_run("persist/scripts/setup", USER)
    named = re.search(r"as root: apt-get install (.*)", output)
    check("an ordinary user is told what to install", code == 1 and named, output)
    wanted = set(named.group(1).split()) if named else set()
    check(f"that is {' '.join(sorted(wanted))}", {"gcc", "libc6-dev", "python3", "python3-venv", "fuse3"} <= wanted)

    for user in ("root", USER):
        code, output = machine.try_run("persist/scripts/setup", user)
        check(f"scripts/setup as {user} ({time.monotonic() - begin:.0f} s since the beginning)", code == 0, output)
        if user == "root":
            after = machine.packages()
            check("what it had named is installed", wanted <= after, " ".join(after))
            check("and nothing that only tests need", not (after - before) & ONLY_TESTS)
        code, output = machine.try_run("cd /; $HOME/persist/scripts/setup", user)
        check("a second time it has nothing to do, in another folder", (code, output) == (0, ""), output)
        code, output = machine.try_run("persist/scripts/demo", user)
        passed = re.search(r"(\d+) checks passed, 0 failed", output)
        check(f"scripts/demo as {user}: {passed.group(0) if passed else 'failed'}", code == 0 and passed, output)
        left = machine.try_run("persist/.venv/bin/python -c 'import pytest'", user)
        check("no test tools in .venv", "No module named 'pytest'" in left[1], left[1])
    check("the ordinary user has installed nothing", machine.packages() == after)
    mounts = Path("/proc/self/mountinfo").read_text()
    check("no mount is left", "fuse.persist" not in "".join(r for r in mounts.splitlines() if f" {root}/" in r))


def namespaced(suite: str, keep: bool) -> bool:
    """Run `one` in separate namespaces, and remove its files. Return whether it succeeded."""
    print(f"== {suite}", flush=True)
    home = Path(tempfile.mkdtemp(prefix="persist-fresh-"))
    argv = ["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc"]
    inside = subprocess.Popen(
        [*argv, sys.executable, __file__, "--suite", suite], env={**os.environ, INSIDE: str(home / "root")}
    )
    try:
        return inside.wait() == 0
    finally:
        inside.kill()
        inside.wait()
        if keep:
            print(f"    kept: {home}", flush=True)
        else:
            # The host has no mount of it; --one-file-system is a safeguard.
            command("rm", "-rf", "--one-file-system", home)


def main() -> int:
    p = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    p.add_argument("--suite", action="append", help=f"a release of Debian (default: {', '.join(SUITES)})")
    p.add_argument("--keep", action="store_true", help="keep the files of the machine")
    a = p.parse_args()
    if INSIDE in os.environ:
        root = Path(os.environ[INSIDE])
        root.mkdir()
        try:
            one(a.suite[0], root)
        except Failed as e:
            print(f"\n{e}", flush=True)
            return 1
        return 0
    if why := why_not():
        print(f"not tried: {why}")
        return 0
    done = {suite: namespaced(suite, a.keep) for suite in a.suite or SUITES}
    wrong = [suite for suite, right in done.items() if not right]
    print(f"\n{len(done) - len(wrong)} passed, {len(wrong)} failed{': ' if wrong else ''}{', '.join(wrong)}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
