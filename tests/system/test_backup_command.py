"""`persist backup` and `persist restore`: the commands, while programs in Python write."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import persist
from acceptance import BIN, DEADLINE, Processes, line, sh, wait_until

# Move amounts: within a transaction the sum is not right. Report how often this was done.
MOVER = """
import random, sys
import persist
with persist.open(sys.argv[1]) as store:
    accounts = store.root['accounts']
    names = list(accounts)
    n = 0
    while True:
        a, b = random.sample(names, 2)
        with store.transaction():
            accounts[a] -= 1
            accounts[b] += 1
            store.root['n'] = n = n + 1
            store.root['log'].append({'n': n, 'text': 'x' * random.randrange(2000)})
            if n % 50 == 0:
                store.root['log'] = []
        if n == 1:
            print(n, flush=True)
"""


def fill(store: Path) -> None:
    with persist.open(store) as opened:
        opened.root["accounts"] = {f"account {i}": 100 for i in range(50)}
        opened.root["log"] = []
        opened.root["n"] = 0
        opened.root["ballast"] = [os.urandom(5000) for _ in range(400)]


def judge(path: Path) -> int:
    """Check that only whole transactions are present; return their number."""
    assert sh('persist check "$1"', path).endswith("sound\n")
    with persist.open(path) as opened:
        root = opened.root
        assert sum(root["accounts"].values()) == 5000
        n = root["n"]
        tail = [entry["n"] for entry in root["log"]]
        assert tail == list(range(n // 50 * 50 + 1, n + 1)) or (n == 0 and tail == [])
        return int(n)


def test_backups_beside_a_writer(store: Path, tmp_path: Path, procs: Processes) -> None:
    fill(store)
    mover = procs.python(MOVER, store, stderr=None)
    line(mover, "1")
    seen = []
    backups = []
    with persist.open(store, mode="r") as live:
        for day in range(4):
            backups.append(tmp_path / f"{day}.backup")
            since = ["--since", f"day {day - 1}"] if day else []
            before = live.root["n"]
            out = sh('persist backup "$@"', *since, "--snapshot", f"day {day}", store, backups[-1])
            after = live.root["n"]
            assert out.startswith("checkpoint ")
            copy = tmp_path / f"{day}.store"
            sh('persist restore "$@"', *backups, copy)
            seen.append(judge(copy))
            assert before <= seen[-1] <= after
            wait_until(lambda after=after: live.root["n"] > after, what="the writer to go on")
            if day:
                sh('persist drop-snapshot "$1" "$2"', store, f"day {day - 1}")
    assert seen == sorted(set(seen)), "the states follow each other"
    assert os.path.getsize(backups[1]) * 3 < os.path.getsize(backups[0]), "only what changed"
    # A full backup opens as a store; through a pipe, during writes.
    judge(backups[0])
    sh('persist backup "$1" - | persist restore --quiet - "$2"', store, tmp_path / "piped")
    assert judge(tmp_path / "piped") > seen[-1]
    mover.kill()
    mover.wait()
    assert sh('persist snapshots "$1"', store).startswith("day 3 ")
    judge(store)


def test_what_is_refused_says_why_and_makes_nothing(store: Path, tmp_path: Path) -> None:
    fill(store)
    full, inc, to = (tmp_path / name for name in ("full", "inc", "to"))
    sh('persist backup --quiet --snapshot one "$1" "$2"', store, full)
    with persist.open(store) as opened:
        opened.root["n"] = 7
    assert sh('persist backup --quiet --since one "$1" "$2"', store, inc) == ""

    def refused(script: str, *args: object) -> str:
        return sh(script + ' && echo "it worked"', *args, ok=False)

    for script, args, why in [
        ('persist backup "$1" "$2"', (store, full), "--force"),
        ('persist backup --since two "$1" "$2"', (store, to), f'persist: {store}: there is no snapshot "two"'),
        ('persist backup "$1" "$2"', (tmp_path / "none", to), "cannot open"),
        ('persist restore "$1" "$2"', (inc, to), "full one first"),
        ('persist restore "$1" "$1" "$2"', (full, to), "not an incremental backup"),
        ('head -c 100000 "$1" | persist restore - "$2"', (full, to), "cut short"),
        ('persist restore "$1" "$2" "$3"', (full, inc, full), "exists already"),
        ('persist backup "$1" - > /dev/full', (store,), "no space left"),
        ('script -qec "persist backup \'$1\' -" /dev/null', (store,), "not written to a terminal"),
    ]:
        said = refused(script, *args)
        assert why in said and "it worked" not in said, said
        assert not to.exists()
    sh('persist restore "$1" "$2" "$3"', full, inc, to)
    with persist.open(to) as opened:
        assert opened.root["n"] == 7
        assert "in use" in refused('persist restore --force "$1" "$2"', full, to)
    sh('persist restore --force "$1" "$2"', full, to)
    with persist.open(to) as opened:
        assert opened.root["n"] == 0
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []
    assert sh('persist snapshots "$1" | wc -l', store) == "1\n"


def test_a_killed_backup_and_the_next(store: Path, tmp_path: Path, procs: Processes) -> None:
    fill(store)
    dest = tmp_path / "dest"
    # The reader of the pipe takes nothing: the backup waits in the middle, with its snapshot.
    reading, writing = os.pipe()
    with persist.open(store) as opened:
        backup = procs.start("persist", "backup", store, "-", stdout=writing)
        os.close(writing)
        wait_until(lambda: ".backup-" in sh('persist snapshots "$1"', store), what="its snapshot")
        opened.root["n"] = 1
        # Another backup at the same time is not blocked.
        sh('persist backup "$1" "$2"', store, dest)
        assert sh('persist snapshots "$1" | grep -c backup-', store) == "1\n"
        os.kill(backup.pid, signal.SIGKILL)
        backup.wait()
        opened.root["n"] = 2
        sh('persist backup --force "$1" "$2"', store, dest)
        assert sh('persist snapshots "$1"', store) == ""
    os.close(reading)
    with persist.open(dest) as opened:
        assert opened.root["n"] == 2
    assert sh('persist check "$1"', store).endswith("sound\n")


def test_errors_with_closed_output(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    missing = [str(BIN / "persist"), "stat", str(tmp_path / "missing")]
    done = subprocess.run(missing, stdin=subprocess.DEVNULL, stderr=write, timeout=DEADLINE)
    os.close(write)
    assert done.returncode == 1
