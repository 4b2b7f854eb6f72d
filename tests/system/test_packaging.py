"""`pip install .` in the project's directory installs the module and the commands, with what a package index shows."""

from __future__ import annotations

import email
import email.policy
import os
import re
import subprocess
import sys
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]


def test_pip_installs_the_directory(tmp_path: Path) -> None:
    site = tmp_path / "site"
    # The build tools of .venv: nothing is fetched, and what scripts/setup has compiled is used again.
    options = ["--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check", "--target", str(site)]
    scripts = Path(sys.executable).parent
    env = {**os.environ, "PATH": f"{scripts}:{os.environ['PATH']}"}
    env.setdefault("CARGO_TARGET_DIR", str(TOP / "target"))
    command = [sys.executable, "-m", "pip", "install", *options, str(TOP)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=1500)
    assert done.returncode == 0, done.stdout + done.stderr
    program = "import persist, pbase; persist.root('s')['x'] = 1; print(persist.__version__, persist.__file__)"
    ran = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(site)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert ran.returncode == 0, ran.stderr
    version, file = ran.stdout.split()
    assert Path(file).is_relative_to(site)
    for name in ("persist/py.typed", "persist/__init__.pyi", "persist/_persist.pyi", "pbase/py.typed"):
        assert (site / name).is_file()
    for command in ("persist", "mount.persist", "umount.persist"):
        said = subprocess.run([site / "bin" / command, "--version"], capture_output=True, text=True, timeout=100)
        assert said.stdout == f"{command} {version}\n", said.stderr
    (info,) = site.glob("persist_graph-*.dist-info")
    meta = email.message_from_string((info / "METADATA").read_text(), policy=email.policy.default)
    assert (meta["Name"], meta["Version"]) == ("persist-graph", version)
    assert meta["License-Expression"] == "MIT"
    assert meta["Requires-Python"] == ">=3.9"
    assert [row.split(", ")[0] for row in meta.get_all("Project-URL")] == ["Source Code", "Changelog"]
    assert (TOP / "README.md").read_text().splitlines()[0] in meta.get_payload()
    assert [p.read_text() for p in info.rglob("LICENSE")] == [(TOP / "LICENSE").read_text()]


def test_the_address_of_the_project_is_in_one_place() -> None:
    stated = re.search(r'^repository = "(https://[^"]+)"$', (TOP / "Cargo.toml").read_text(), re.MULTILINE)
    assert stated
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=TOP, capture_output=True, text=True, check=True).stdout
    found = [
        name
        for name in listed.split("\0")
        if name and (TOP / name).is_file() and stated[1].encode() in (TOP / name).read_bytes()
    ]
    assert found == ["Cargo.toml"]
    # The metadata of every crate takes it from there.
    for crate in ("core", "fuse", "pymod"):
        assert "\nrepository.workspace = true\n" in (TOP / crate / "Cargo.toml").read_text()
