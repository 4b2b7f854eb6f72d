"""The build backend (PEP 517): maturin builds the module, and the commands are added to the wheel.

1. An archive is a function of the files in it: they are sorted, and have one time (SOURCE_DATE_EPOCH) and one owner.
2. A wheel holds no links, so that umount.persist is a second copy of the program.
3. The platform tag of a wheel holds for everything in it.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import os
import re
import stat
import subprocess
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import maturin
from maturin import (  # noqa: F401
    get_requires_for_build_editable,
    get_requires_for_build_sdist,
    get_requires_for_build_wheel,
)

TOP = Path(__file__).resolve().parents[2]
# The earliest time that a zip file can hold.
EARLIEST = 315532800
# What the sources need not contain, where no git says so: results of builds.
BUILT = {"target", ".venv", "__pycache__", "dist"}
# The commands of a wheel, and the programs that cargo builds.
COMMANDS = {"persist": "persist", "mount.persist": "mount-persist", "umount.persist": "mount-persist"}
Settings = Mapping[str, Any]


def epoch() -> int:
    return max(EARLIEST, int(os.environ.get("SOURCE_DATE_EPOCH", EARLIEST)))


def described(metadata: bytes) -> bytes:
    """Add the URL of the changes to what maturin says: the address of the project is in Cargo.toml only.

    Metadata that was prepared before the wheel has it already, since maturin puts that into the wheel.
    """
    if b"\nProject-URL: Changelog, " in metadata:
        return metadata
    address = b"Project-URL: Source Code, "
    return re.sub(
        rb"^(" + address + rb"(.+)\n)",
        rb"\1Project-URL: Changelog, \2/blob/main/CHANGELOG.md\n",
        metadata,
        count=1,
        flags=re.MULTILINE,
    )


def prepare_metadata_for_build_wheel(directory: str, settings: Settings | None = None) -> str:
    return _prepare(maturin.prepare_metadata_for_build_wheel, directory, settings)


def prepare_metadata_for_build_editable(directory: str, settings: Settings | None = None) -> str:
    return _prepare(maturin.prepare_metadata_for_build_editable, directory, settings)


def _prepare(prepare: Any, directory: str, settings: Settings | None) -> str:
    made: str = prepare(directory, settings)
    file = Path(directory, made, "METADATA")
    file.write_bytes(described(file.read_bytes()))
    return made


def commands(home: Path) -> dict[str, bytes]:
    """Build the commands, and return the content of each. `home` is a directory for temporary files."""
    # The same call as in scripts/setup, whose results are used again.
    subprocess.run(
        ["cargo", "build", "--release", "--locked", "-q", "-p", "persist-core", "-p", "persist-fuse"],
        cwd=TOP,
        check=True,
    )
    target = TOP / os.environ.get("CARGO_TARGET_DIR", "target")
    content = {}
    for program in set(COMMANDS.values()):
        subprocess.run(["strip", "-o", home / program, target / "release" / program], check=True)
        content[program] = (home / program).read_bytes()
    return {command: content[program] for command, program in COMMANDS.items()}


def newest_glibc(program: bytes) -> int:
    """Return the minor version of the newest glibc that a program names."""
    return max(map(int, re.findall(rb"GLIBC_2\.(\d+)", program)), default=0)


def platform(tag: str, needed: int) -> str:
    """Return the platform tag of a wheel whose commands need this glibc."""
    stated = re.search(r"manylinux_2_(\d+)_(\w+)$", tag.split(".")[0])
    # A tag `linux` is for this machine.
    return tag if not stated or int(stated[1]) >= needed else f"manylinux_2_{needed}_{stated[2]}"


def record_row(name: str, content: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    return f"{name},sha256={digest},{len(content)}\n"


def complete(wheel: Path, programs: Mapping[str, bytes], directory: Path) -> Path:
    """Write a wheel of maturin into the directory, with the commands in it."""
    with zipfile.ZipFile(wheel) as archive:
        files = {name: archive.read(name) for name in archive.namelist() if not name.endswith("/")}
    (record,) = (name for name in files if name.endswith(".dist-info/RECORD"))
    info = record[: -len("RECORD")]
    head, old = wheel.stem.rsplit("-", 1)
    tag = platform(old, max(map(newest_glibc, programs.values()), default=0))
    rows = files[f"{info}WHEEL"].decode().splitlines()
    # One row for each platform; the sets of rows are equal for each.
    rows = [re.sub(r"^(Tag: .*-)[^-]*$", rf"\g<1>{one}", row) for row in rows for one in tag.split(".")]
    files[f"{info}WHEEL"] = "".join(f"{row}\n" for row in dict.fromkeys(rows)).encode()
    files[f"{info}METADATA"] = described(files[f"{info}METADATA"])
    # The list of components names the crates of this project by their directories.
    for name in filter(lambda name: name.startswith(f"{info}sboms/"), files):
        files[name] = files[name].replace(TOP.as_uri().encode(), b"file:///persist")
    data = info.replace(".dist-info/", ".data/")
    files.update({f"{data}scripts/{name}": content for name, content in programs.items()})
    del files[record]
    # The descriptions of the wheel are at its end, as the format recommends.
    names = sorted(files, key=lambda name: (name.startswith(info), name))
    listed = "".join(record_row(name, files[name]) for name in names) + f"{record},,\n"
    made = directory / f"{head}-{tag}.whl"
    moment = time.gmtime(epoch())[:6]
    with zipfile.ZipFile(made, "w") as archive:
        for name in [*names, record]:
            program = name.startswith(f"{data}scripts/") or name.endswith(".so")
            entry = zipfile.ZipInfo(name, moment)
            entry.create_system = 3
            entry.external_attr = (stat.S_IFREG | (0o755 if program else 0o644)) << 16
            content = listed.encode() if name == record else files[name]
            archive.writestr(entry, content, zipfile.ZIP_DEFLATED, 9)
    return made


def build_wheel(directory: str, settings: Settings | None = None, metadata: str | None = None) -> str:
    return _wheel(maturin.build_wheel, directory, settings, metadata)


def build_editable(directory: str, settings: Settings | None = None, metadata: str | None = None) -> str:
    return _wheel(maturin.build_editable, directory, settings, metadata)


def _wheel(build: Any, directory: str, settings: Settings | None, metadata: str | None) -> str:
    with tempfile.TemporaryDirectory() as home:
        programs = commands(Path(home))
        wheel = Path(home, build(home, settings, metadata))
        return complete(wheel, programs, Path(directory)).name


def sources() -> list[Path]:
    """Return the files of the sources, relative to their directory: those that git knows, or all of an sdist."""
    if (TOP / ".git").exists():
        argv = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        listed = subprocess.run(argv, cwd=TOP, check=True, capture_output=True, text=True).stdout
        found = [Path(name) for name in listed.split("\0") if name]
    else:
        found = [path.relative_to(TOP) for path in TOP.rglob("*")]
        found = [path for path in found if not BUILT & set(path.parts) and path.name != "PKG-INFO"]
    return sorted(path for path in found if (TOP / path).is_file())


def build_sdist(directory: str, settings: Settings | None = None) -> str:
    """Write all sources, with the tests. Cargo.toml and Cargo.lock are as they are, so that `--locked` holds."""
    with tempfile.TemporaryDirectory() as home:
        info = Path(home, prepare_metadata_for_build_wheel(home, settings))
        metadata = (info / "METADATA").read_bytes()
        name = info.name[: -len(".dist-info")]
    contents = {Path("PKG-INFO"): (metadata, 0o644)}
    for path in sources():
        mode = 0o755 if os.access(TOP / path, os.X_OK) else 0o644
        contents[path] = ((TOP / path).read_bytes(), mode)
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path, (content, mode) in sorted(contents.items()):
            entry = tarfile.TarInfo(f"{name}/{path}")
            entry.size, entry.mode, entry.mtime = len(content), mode, epoch()
            archive.addfile(entry, io.BytesIO(content))
    made = Path(directory, f"{name}.tar.gz")
    with open(made, "wb") as file, gzip.GzipFile("", "wb", 9, file, epoch()) as packed:
        packed.write(plain.getvalue())
    return made.name
