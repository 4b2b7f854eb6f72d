"""The wheels and the sdist of a commit. See scripts/wheels."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import build_backend
from build_backend import TOP

VERSIONS = [f"3.{minor}" for minor in range(9, 15)]
ASK = """
import platform, sysconfig
answers = platform.python_implementation(), platform.python_version(), sysconfig.get_config_var('Py_GIL_DISABLED') or 0
print(' '.join(map(str, answers)))
"""


def asked(python: str) -> tuple[str, tuple[int, ...], bool] | None:
    """Return the implementation, the version and whether it is free-threaded; None if it does not run."""
    try:
        done = subprocess.run([python, "-c", ASK], capture_output=True, text=True, timeout=60, check=False)
    except OSError:
        return None
    if done.returncode != 0:
        return None
    name, version, free = done.stdout.split()
    numbers = [int("".join(filter(str.isdigit, part)) or 0) for part in version.split(".")]
    return name, tuple(numbers), free == "1"


def interpreters(named: list[str]) -> list[str]:
    """Return one CPython of each version, the named ones or those that are found, and print which are missing."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv", "versions")
    found = named or [
        *map(str, sorted(pyenv.glob("*/bin/python"))),
        *(f"python{v}" for v in VERSIONS),
        "python3",
    ]
    best: dict[str, tuple[tuple[int, ...], str]] = {}
    for python in found:
        path = shutil.which(python)
        answer = asked(path) if path else None
        if path is None or answer is None:
            if named:
                sys.exit(f"error: {python} does not run")
            continue
        name, numbers, free = answer
        version = "{}.{}".format(*numbers)
        if name != "CPython" or version not in VERSIONS or free:
            why = f"Python {version}" + (", free-threaded: not tested" if free else "")
            print(f"left out: {path} ({why})", file=sys.stderr)
        elif version not in best or numbers > best[version][0]:
            best[version] = numbers, path
    missing = [v for v in VERSIONS if v not in best]
    if missing and not named:
        print(f"no interpreter here: {', '.join(missing)}", file=sys.stderr)
    if not best:
        sys.exit("error: there is no CPython to build for")
    return [best[v][1] for v in VERSIONS if v in best]


def flags(target: str) -> list[str]:
    """Return the flags of rustc that keep the paths of this machine out of what it writes."""
    sysroot = subprocess.run(
        ["rustc", "--print", "sysroot"], capture_output=True, text=True, check=True
    ).stdout.strip()
    cargo = os.environ.get("CARGO_HOME") or str(Path.home() / ".cargo")
    # The last one that fits is used: the longer ones come later.
    places = {str(TOP): "/persist", sysroot: "/rust", cargo: "/cargo", target: "/target"}
    return [f"--remap-path-prefix={path}={name}" for path, name in places.items()]


def prepare() -> None:
    """Set the environment of the builds."""
    # Apart from other builds, whose results have other paths in them.
    target = TOP / os.environ.get("CARGO_TARGET_DIR", "target") / "dist"
    os.environ["CARGO_TARGET_DIR"] = str(target)
    os.environ["CARGO_INCREMENTAL"] = "0"
    os.environ["CARGO_ENCODED_RUSTFLAGS"] = "\x1f".join(
        [*os.environ.get("RUSTFLAGS", "").split(), *flags(str(target))]
    )
    if "SOURCE_DATE_EPOCH" not in os.environ and (TOP / ".git").exists():
        argv = ["git", "log", "-1", "--format=%ct"]
        done = subprocess.run(argv, cwd=TOP, capture_output=True, text=True, check=True)
        os.environ["SOURCE_DATE_EPOCH"] = done.stdout.strip()


def main() -> int:
    p = argparse.ArgumentParser(prog="scripts/wheels", description="Build the wheels and the sdist.")
    p.add_argument("directory", nargs="?", default="dist", help="where the files are put (dist)")
    p.add_argument("--python", action="append", default=[], help="only this interpreter; can be repeated")
    p.add_argument("--no-sdist", action="store_true", help="only wheels")
    a = p.parse_args()
    directory = Path(a.directory).resolve()
    directory.mkdir(parents=True, exist_ok=True)
    pythons = interpreters(a.python)
    prepare()
    os.chdir(TOP)
    made = []
    if not a.no_sdist:
        # The output of this script is the list at its end.
        with contextlib.redirect_stdout(sys.stderr):
            made.append(directory / build_backend.build_sdist(str(directory)))
    with tempfile.TemporaryDirectory() as home:
        programs = build_backend.commands(Path(home))
        for n, python in enumerate(pythons):
            out = Path(home, str(n))
            argv = ["maturin", "build", "--release", "--locked", "-q", "-i", python, "-o", str(out)]
            subprocess.run(argv, check=True)
            (wheel,) = out.glob("*.whl")
            made.append(build_backend.complete(wheel, programs, directory))
            print(f"built {made[-1].name}", file=sys.stderr)
    for path in made:
        print(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
