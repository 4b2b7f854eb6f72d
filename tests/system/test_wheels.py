"""`scripts/wheels`: what a wheel and an sdist hold, that they install and work, and that they are reproducible.

The short form builds for the interpreter of the tests, without optimization. `PERSIST_TORTURE=1`: for every interpreter
that is here, as for users, and again from a copy of the sources in another directory, which must give the same bytes.
"""

from __future__ import annotations

import base64
import csv
import email
import email.policy
import hashlib
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import maturin
import packaging.metadata
import pytest
from acceptance import TOP, clean_env, mounted, need_fuse

sys.path.insert(0, str(TOP / "scripts/lib"))
sys.path.insert(0, str(TOP / "tests/python"))

import conformance
import wheels as script

LONG = os.environ.get("PERSIST_TORTURE", "0") != "0"
COMMANDS = ("persist", "mount.persist", "umount.persist")
# Half an hour: a build beside other work.
LIMIT = 1800
pytestmark = pytest.mark.timeout(3 * LIMIT)


TARGET = str(TOP / os.environ.get("CARGO_TARGET_DIR", "target") / ("wheels-long" if LONG else "wheels-short"))
QUICK = {"LTO": "off", "CODEGEN_UNITS": "16", "OPT_LEVEL": "0", "DEBUG": "0"}


def environment(**more: str) -> dict[str, str]:
    env = clean_env(CARGO_TARGET_DIR=TARGET)
    env.pop("SOURCE_DATE_EPOCH", None)
    if not LONG:
        env.update({f"CARGO_PROFILE_RELEASE_{k}": v for k, v in QUICK.items()})
    return {**env, **more}


def wheels(out: Path, *args: object, top: Path = TOP, **more: str) -> list[Path]:
    """Run the script, and return what it has made: the sdist first."""
    done = subprocess.run(
        [top / "scripts/wheels", out, *map(str, args)], env=environment(**more), cwd=out.parent,
        capture_output=True, text=True, timeout=LIMIT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    made = [line.split("  ", 1) for line in done.stdout.splitlines()]
    for digest, name in made:
        assert hashlib.sha256(Path(name).read_bytes()).hexdigest() == digest
    return [Path(name) for _, name in made]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    only = () if LONG else ("--python", sys.executable)
    return wheels(tmp_path_factory.mktemp("built") / "dist", *only)


def installed(home: Path, python: str, *what: object, **more: str) -> Path:
    """Install into a new virtual environment, without a package index, and return its directory of commands."""
    subprocess.run([python, "-m", "venv", "--without-pip", home], check=True, timeout=LIMIT)
    new = home / "bin" / "python"
    options = ["--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
    # An sdist is built there, without a package index: with the maturin of the tests.
    tools = home / "tools"
    tools.mkdir()
    (tools / "maturin").symlink_to(Path(maturin.__file__).parent)
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--python", new, "install", *options, *map(str, what)],
        env=environment(PYTHONPATH=str(tools), **more), capture_output=True, text=True, timeout=LIMIT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return home / "bin"


def works(bin: Path, home: Path) -> None:
    """Use the packages and the commands of an environment."""

    def run(*argv: object) -> str:
        env = {k: v for k, v in clean_env().items() if k != "VIRTUAL_ENV"}
        done = subprocess.run(
            [str(a) for a in argv], env=env, cwd=home, capture_output=True, text=True, timeout=100
        )
        assert done.returncode == 0, (argv, done.stderr)
        return done.stdout

    program = "import pbase, persist; persist.root('s.store')['x'] = 5; print(persist.__version__, persist.__file__)"
    version, file = run(bin / "python", "-c", program).split()
    assert Path(file).is_relative_to(bin.parent)
    assert run(bin / "persist", "get", "s.store", "x") == "5\n"
    for name in COMMANDS:
        assert run(bin / name, "--version").split() == [name, version]
    assert "Usage: umount.persist" in run(bin / "umount.persist", "--help")


def test_a_wheel_holds_packages_commands_and_descriptions(built: list[Path]) -> None:
    stated = re.search(r'^repository = "(https://.+)"$', (TOP / "Cargo.toml").read_text(), re.MULTILINE)
    assert stated
    wanted = {"Source Code": stated[1], "Changelog": f"{stated[1]}/blob/main/CHANGELOG.md"}
    for wheel in built[1:]:
        with zipfile.ZipFile(wheel) as archive:
            files = {entry.filename: archive.read(entry) for entry in archive.infolist()}
            modes = {entry.filename: entry.external_attr >> 16 & 0o777 for entry in archive.infolist()}
        name, version = wheel.name.split("-")[:2]
        base = f"{name}-{version}"
        assert name == "persist_graph"
        scripts = {f"{base}.data/scripts/{command}" for command in COMMANDS}
        top = {file.split("/")[0] for file in files}
        assert top == {"persist", "pbase", f"{base}.dist-info", f"{base}.data"}
        assert {file for file in files if file.startswith(f"{base}.data/")} == scripts
        programs = {file for file in files if file in scripts or file.endswith(".so")}
        assert len(programs) == 4 and all(files[file][:4] == b"\x7fELF" for file in programs)
        assert all(modes[file] == (0o755 if file in programs else 0o644) for file in files)
        sources = {
            str(p.relative_to(TOP / "pymod/python"))
            for p in (TOP / "pymod/python").rglob("*")
            if p.suffix in (".py", ".pyi", ".typed")
        }
        assert sources <= files.keys() and "persist/py.typed" in sources
        meta = email.message_from_bytes(files[f"{base}.dist-info/METADATA"], policy=email.policy.default)
        assert meta["License-Expression"] == "MIT" and (TOP / "README.md").read_text() in str(
            meta.get_payload()
        )
        # Every field is one that a package index takes.
        described = packaging.metadata.Metadata.from_email(files[f"{base}.dist-info/METADATA"], validate=True)
        assert described.license_expression == "MIT" and described.license_files == ["LICENSE"]
        urls = dict(row.split(", ", 1) for row in meta.get_all("Project-URL"))
        assert urls == wanted
        assert files[f"{base}.dist-info/licenses/LICENSE"] == (TOP / "LICENSE").read_bytes()
        # The record names every file, with its digest.
        rows = list(csv.reader(files[f"{base}.dist-info/RECORD"].decode().splitlines()))
        assert {row[0] for row in rows} == files.keys()
        for file, digest, size in rows:
            if digest:
                said = base64.urlsafe_b64encode(hashlib.sha256(files[file]).digest()).rstrip(b"=").decode()
                assert (digest, size) == (f"sha256={said}", str(len(files[file])))
        # The platform that the tag promises is enough for the module and the commands.
        tags = re.findall(r"^Tag: (\S+)$", files[f"{base}.dist-info/WHEEL"].decode(), re.MULTILINE)
        assert {tag.split("-")[2] for tag in tags} == set(wheel.stem.split("-")[4].split("."))
        promised = re.search(r"manylinux_2_(\d+)_", wheel.name)
        if promised:
            needed = {int(n) for file in programs for n in re.findall(rb"GLIBC_2\.(\d+)", files[file])}
            assert max(needed) <= int(promised[1])


def test_no_path_of_this_machine_is_in_a_wheel(built: list[Path]) -> None:
    places = {str(TOP), str(Path.home()), TARGET, sys.prefix, os.path.realpath(sys.executable)}
    for wheel in built[1:]:
        with zipfile.ZipFile(wheel) as archive:
            found = [
                (n, place)
                for n in archive.namelist()
                for place in places
                if place.encode() in archive.read(n)
            ]
        assert found == []


def test_a_wheel_installs_into_a_virtual_environment(built: list[Path], tmp_path: Path) -> None:
    excluded: set[str] = set()
    for n, wheel in enumerate(built[1:]):
        python = sys.executable
        if LONG:
            minor = re.search(r"-cp3(\d+)-", wheel.name)
            assert minor
            (python,) = (p for p in script.interpreters([]) if script.asked(p)[1][1] == int(minor[1]))
        bin = installed(tmp_path / f"env{n}", python, wheel)
        works(bin, bin.parent)
        if LONG:
            # CPython's own tests of this version, also the slow ones.
            argv = [bin / "python", TOP / "tests/python/conformance.py", "-v"]
            done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, timeout=LIMIT)
            assert done.returncode == 0, (wheel, done.stdout, done.stderr)
            excluded |= set(re.findall(r"^excluded: (\S+): ", done.stdout, re.MULTILINE))
    if LONG and len(built) > 5:
        # An exception that no version needs is none.
        assert [name for name in conformance.REASONS if name not in excluded] == []


def test_the_commands_of_a_wheel_mount_and_unmount(built: list[Path], tmp_path: Path) -> None:
    need_fuse()
    bin = installed(tmp_path / "env", sys.executable, built[-1])
    point = tmp_path / "mnt"
    point.mkdir()
    store = tmp_path / "s.store"
    for argv in ([bin / "mount.persist", "-o", "create", store, point], [bin / "umount.persist", point]):
        done = subprocess.run(argv, env=clean_env(), capture_output=True, text=True, timeout=100)
        assert done.returncode == 0, done.stderr
        if argv[0].name == "mount.persist":
            assert mounted(point)
            (point / "x").write_text("from a wheel\n")
    assert not mounted(point)
    said = subprocess.run([bin / "persist", "get", store, "x"], capture_output=True, text=True, timeout=100)
    assert said.stdout == "from a wheel\n", said.stderr


def test_the_same_commit_gives_the_same_bytes(built: list[Path], tmp_path: Path) -> None:
    if not LONG:
        again = wheels(tmp_path / "again", "--python", sys.executable)
    else:
        # Other directories of the sources and of the build, with nothing compiled in them.
        copy = tmp_path / "elsewhere" / "copy"
        copy.mkdir(parents=True)
        with tarfile.open(built[0]) as archive:
            archive.extractall(copy, filter="data")
        (top,) = copy.iterdir()
        (top / "PKG-INFO").unlink()
        (top / ".venv").symlink_to(TOP / ".venv")
        when = subprocess.run(
            ["git", "log", "-1", "--format=%ct"], cwd=TOP, capture_output=True, text=True, check=True
        )
        again = wheels(
            tmp_path / "again",
            top=top,
            SOURCE_DATE_EPOCH=when.stdout.strip(),
            CARGO_TARGET_DIR=str(tmp_path / "target"),
        )
    assert [p.name for p in again] == [p.name for p in built]
    assert [p.read_bytes() == q.read_bytes() for p, q in zip(again, built)] == [True] * len(built)


def test_the_sdist_holds_the_sources_and_installs(built: list[Path], tmp_path: Path) -> None:
    sdist = built[0]
    assert re.fullmatch(r"persist_graph-[\d.]+\.tar\.gz", sdist.name)
    with tarfile.open(sdist) as archive:
        entries = {entry.name.split("/", 1)[1]: entry for entry in archive.getmembers()}
        assert {entry.name.split("/")[0] for entry in archive.getmembers()} == {
            sdist.name.removesuffix(".tar.gz")
        }
    assert {
        "PKG-INFO",
        "Cargo.lock",
        "LICENSE",
        "scripts/setup",
        "tests/system/test_wheels.py",
    } <= entries.keys()
    assert not any(name.startswith(("target/", ".venv/", ".git/")) for name in entries)
    assert entries["scripts/setup"].mode == 0o755 and entries["Cargo.toml"].mode == 0o644
    # The directory and flags of the wheels, so that the compiled dependencies are used again.
    target = f"{TARGET}/dist"
    more = {"CARGO_TARGET_DIR": target, "CARGO_ENCODED_RUSTFLAGS": "\x1f".join(script.flags(target))}
    bin = installed(tmp_path / "env", sys.executable, sdist, **more)
    works(bin, bin.parent)
