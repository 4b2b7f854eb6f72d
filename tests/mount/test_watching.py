"""`watch()` in Python reports what commands change on the mount."""

from __future__ import annotations

import os
from typing import Any

import persist
from conftest import Mount, run


def reported(watch: persist.Watch[Any]) -> list[tuple[Any, ...]]:
    """Return what is reported now, without the repetitions of one write in several parts."""
    found: list[tuple[Any, ...]] = []
    while (change := watch.poll()) is not None:
        assert change.kind != "overflow" and not change.own
        said = (change.kind, change.key)
        if found[-1:] != [said]:
            found.append(said)
    return found


def test_commands_on_the_mount(mnt: Mount, root: Any) -> None:
    root["d"] = {"there": "text\n"}
    d = root["d"]
    watch = d.watch()
    run("echo more >> d/there; echo new > d/made; mkdir d/sub; ln -s made d/link", mnt.path)
    found = reported(watch)
    assert found[0] == ("update", "there")
    assert ("insert", "made") in found and ("insert", "sub") in found and ("insert", "link") in found
    assert d["made"] == "new"
    run("mv d/made d/moved; rm d/there; rmdir d/sub", mnt.path)
    found = reported(watch)
    for said in [("delete", "made"), ("insert", "moved"), ("delete", "there"), ("delete", "sub")]:
        assert said in found, found


def test_modes_and_attributes_are_not_reported(mnt: Mount, root: Any) -> None:
    root["d"] = {"x": "text"}
    with persist.open(mnt.store) as store, root["d"].watch() as watch, store.watch() as everything:
        run(
            "chmod 600 d/x; chmod 700 d; touch -d 2001-01-01 d/x; setfattr -n user.a -v 1 d/x || true",
            mnt.path,
        )
        assert watch.poll() is None
        assert everything.poll() is None
        run("echo other > d/x", mnt.path)
        assert watch.poll(100).key == "x"
        found = everything.poll(100)
        assert (found.path, found.container) == ("root['d']['x']", root["d"])


def test_a_service_reads_a_configuration_that_an_editor_writes(mnt: Mount, root: Any) -> None:
    root["config"] = {"level": "info"}
    config = root["config"]
    with config.watch(timeout=100) as watch:
        # As editors do: a new file is renamed over the old one.
        run("printf 'debug\n' > config/.level.swp; mv config/.level.swp config/level", mnt.path)
        for change in watch:
            if change.key == "level":
                break
        assert config["level"] == "debug"
        os.remove(mnt.path / "config/level")
        assert ("delete", "level") in reported(watch)
