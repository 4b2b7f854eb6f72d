"""Many stores open at once in one process, each with its helper thread: the bound on loss holds for all of them, and
closing gives back threads, descriptors and mappings.

PERSIST_TORTURE makes them thousands.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

LONG = os.environ.get("PERSIST_TORTURE", "0") != "0"
STORES = 2000 if LONG else 300
# Descriptors for everything but the stores.
SPARE = 200

# A separate process: its threads, descriptors and mappings are its own.
PROGRAM = """
import gc, os, resource, shutil, sys, time
from pathlib import Path
import persist

home, count, spare = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
MAX_AGE = 0.2
_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def until(what, fact):
    deadline = time.monotonic() + 200
    while not fact():
        assert time.monotonic() < deadline, f"{what} never came: {facts()}"
        time.sleep(0.01)


def threads():
    names = []
    for task in Path("/proc/self/task").iterdir():
        try:
            names.append((task / "comm").read_text().strip())
        except OSError:
            continue  # It ended.
    return names


def helpers():
    return sum(name.startswith("persist-helper") for name in threads())


def descriptors():
    return len(os.listdir("/proc/self/fd"))


def shared():
    # Mappings of stores, and the empty memory that replaces them while handles of closed stores are there.
    lines = Path("/proc/self/maps").read_text().splitlines()
    return sum(line.split()[1][3] == "s" for line in lines)


def facts():
    return {"threads": len(threads()), "descriptors": descriptors(), "shared mappings": shared()}


def of_folder():
    found = Path("/proc/self/maps").read_text().splitlines()
    for fd in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{fd}"))
        except OSError:
            continue  # The descriptor of the listing itself.
    return [line for line in found if str(home) in line]


def open_one(n):
    return persist.open(home / f"{n}.store", max_age=MAX_AGE)


# What the first store leaves in the process is not counted.
with open_one(0) as store:
    store.root["first"] = True
del store
until("the end of the first helper", lambda: helpers() == 0)
before = facts()
with open_one(0) as store:
    store.root["first"] = True
    until("the first helper", lambda: helpers() == 1)
    each = descriptors() - before["descriptors"]
del store
if most != resource.RLIM_INFINITY and most < count * each + spare:
    print(f"not tried: {count} stores need {count * each} descriptors, the hard limit is {most}")
    sys.exit()
until("the end of the helper", lambda: facts() == before)

stores = [open_one(n) for n in range(count)]
for n, store in enumerate(stores):
    store.root["n"] = n
until("a helper for each store", lambda: helpers() == count)
for turn in range(3):
    checkpoints = [store.stat()["checkpoint"] for store in stores]
    for store in stores:
        store.root["turn"] = turn
    waiting = list(stores)

    def all_durable():
        waiting[:] = [store for store in waiting if store.stat()["undurable_age"] is not None]
        return not waiting

    until("the durability of all stores", all_durable)
    assert all(store.stat()["checkpoint"] > old for store, old in zip(stores, checkpoints))
assert helpers() == count, helpers()

# The file alone has the last change.
copy = home / "copy"
for n in 0, count // 2, count - 1:
    shutil.copyfile(home / f"{n}.store", copy)
    with persist.open(copy, "r") as cut:
        assert cut.root == {"n": n, "turn": 2} | ({"first": True} if n == 0 else {}), (n, cut.root)
    del cut
    for left in home.glob("copy*"):
        left.unlink()

for store in stores:
    store.close()
until("the end of all helpers", lambda: helpers() == 0)
until("the end of all threads", lambda: len(threads()) == before["threads"])
assert of_folder() == [], of_folder()[:10]
assert descriptors() == before["descriptors"], (facts(), before)
del store, stores, waiting
gc.collect()
assert facts() == before, (facts(), before)

for n in 0, count - 1:
    with open_one(n) as store:
        assert store.root["n"] == n and store.root["turn"] == 2
print("done", count)
"""


@pytest.mark.timeout(900)
def test_many_stores_in_one_process(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", PROGRAM, tmp_path, str(STORES), str(SPARE)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=800, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    if done.stdout.startswith("not tried"):
        pytest.skip(done.stdout.strip())
    assert done.stdout.split() == ["done", str(STORES)]
