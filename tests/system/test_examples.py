"""Every program in examples/ runs as its first lines say: with servers and requests, kills, editors and notebooks.

Packages of other projects are in scripts/lib/requirements-test.txt. Without one of them its test is skipped.
"""

from __future__ import annotations

import contextlib
import http.client
import importlib.util
import json
import os
import pickle
import re
import shelve
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import persist
import pytest
from acceptance import DEADLINE, TOP, Processes, clean_env, finish, line, sh, tell, wait_until

EXAMPLES = TOP / "examples"


def need(*modules: str) -> None:
    for module in modules:
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed: pip install -r scripts/lib/requirements-test.txt")


class Connection(http.client.HTTPConnection):
    """A connection to a server on a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=DEADLINE)
        self.path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def ask(path: Path, method: str, url: str) -> tuple[int, str]:
    with contextlib.closing(Connection(path)) as connection:
        connection.request(method, url)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def children(pid: int) -> list[int]:
    """Return the child processes of a server."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError):
            if int(entry.read_text().rsplit(")", 1)[1].split()[1]) == pid:
                found.append(int(entry.parent.name))
    return found


def is_worker(pid: int) -> bool:
    """Return whether a process is one that multiprocessing has spawned to work, and not its tracker of resources."""
    with contextlib.suppress(OSError):
        return b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


@contextlib.contextmanager
def server(procs: Processes, home: Path, socket_at: Path, *argv: object) -> Iterator[subprocess.Popen[str]]:
    """Start a server with the examples, and wait until it answers."""
    with open(home / "log", "w") as log:
        env = clean_env(PERSIST_STORE=str(home / "the.store"), PYTHONPATH=str(EXAMPLES))
        child = procs.start(sys.executable, "-m", *argv, env=env, cwd=home, stdout=log, stderr=log)

    def answers() -> bool:
        assert child.poll() is None, (home / "log").read_text()
        with contextlib.suppress(OSError, http.client.HTTPException):
            return ask(socket_at, "GET", "/stock/nothing")[0] == 200
        return False

    wait_until(answers, what="the server")
    try:
        yield child
    finally:
        child.send_signal(signal.SIGTERM)
        child.wait(DEADLINE)


@pytest.mark.parametrize("kind", ["sync", "gthread", "gevent"])
def test_no_visitor_is_lost_when_workers_are_killed(kind: str, procs: Processes, tmp_path: Path) -> None:
    need("gunicorn", *["gevent"] * (kind == "gevent"))
    at, answered, sent, wanted = tmp_path / "s", [], [0] * 4, 60

    def visit(n: int) -> None:
        mine = 0
        while mine < wanted:
            sent[n] += 1
            # A killed worker does not answer: its visitor may have been counted or not.
            with contextlib.suppress(OSError, http.client.HTTPException):
                status, text = ask(at, "GET", "/home")
                assert status == 200, text
                answered.append(int(re.findall(r"\d+", text)[0]))
                mine += 1

    options = ["--workers", 3, "--worker-class", kind, "--threads", 4, "--bind", f"unix:{at}"]
    with server(procs, tmp_path, at, "gunicorn", *options, "visitors:application") as master:
        clients = [threading.Thread(target=visit, args=(n,)) for n in range(len(sent))]
        for client in clients:
            client.start()
        killed: list[int] = []
        while any(client.is_alive() for client in clients):
            # One for every twenty answers.
            wait_until(lambda: len(answered) // 20 > len(killed) or not any(c.is_alive() for c in clients))
            workers = wait_until(lambda: children(master.pid), what="a worker")
            killed.append(workers[len(killed) % len(workers)])
            with contextlib.suppress(ProcessLookupError):
                os.kill(killed[-1], signal.SIGKILL)
        for client in clients:
            client.join()
    assert len(killed) >= 5
    with persist.open(tmp_path / "the.store") as store:
        count = store.root["pages"]["/home"]
    # Each answer has a number of its own, and everything that was answered is counted.
    assert len(answered) == len(set(answered)) == wanted * len(sent)
    assert max(answered) <= count <= sum(sent)


def test_a_shop_sells_each_piece_once(procs: Processes, tmp_path: Path) -> None:
    need("fastapi", "uvicorn")
    at, answers = tmp_path / "s", []
    with server(procs, tmp_path, at, "uvicorn", "--workers", 2, "--uds", at, "shop:app"):
        assert ask(at, "PUT", "/stock/apple?count=20") == (200, "20")

        def buy() -> None:
            for _ in range(6):
                answers.append(ask(at, "POST", "/buy/apple"))

        buyers = [threading.Thread(target=buy) for _ in range(5)]
        for buyer in buyers:
            buyer.start()
        for buyer in buyers:
            buyer.join()
        assert ask(at, "GET", "/stock/apple") == (200, "0")
    assert sorted(int(text) for status, text in answers if status == 200) == list(range(20))
    assert sorted(status for status, _ in answers) == [200] * 20 + [409] * 10


def run(home: Path, name: str, *args: object) -> str:
    done = subprocess.run(
        [sys.executable, EXAMPLES / name, *map(str, args)], cwd=home, env=clean_env(), capture_output=True,
        text=True, timeout=DEADLINE,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_sessions_expire(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(tmp_path, "sessions.py") == "60 visits\nNone 10 purged 0 left\n"
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import sessions

    now = [1000.0]
    with persist.open(tmp_path / "other.store") as store:
        all = sessions.Sessions(store.root, 10, lambda: now[0])
        first, second = all.create(user="Joe"), all.create()
        now[0] += 9
        values = all.get(first)
        assert values is not None and values["user"] == "Joe"
        now[0] += 9
        # The second has not been used for 18 seconds.
        assert all.get(second) is None and all.get(first) == {"user": "Joe"}
        assert all.purge() == 1 and list(all.all) == [first]
        all.end(first)
        assert all.get(first) is None and all.purge() == 0


def test_a_service_follows_its_configuration(
    procs: Processes, mount: Callable[..., Path], tmp_path: Path
) -> None:
    store, log = tmp_path / "site.store", tmp_path / "log"
    with open(log, "w") as err:
        service = procs.start(sys.executable, EXAMPLES / "live_config.py", store, stderr=err)

    def said(*lines: str) -> None:
        tell(service, "Joe")
        for text in lines:
            line(service, text)

    def noticed(text: str) -> None:
        # Without a request in between: the service waits for changes, and does not look for them.
        wait_until(lambda: text in log.read_text().splitlines(), what=text)

    said("Hello, Joe!")
    config = mount(store) / "config"
    vim = "vim -es -u NONE -i NONE -c '%s/Hello/Good day/' -c wq \"$1\" </dev/null"
    sh(vim, config / "greeting")
    noticed("update root['config']['greeting']: 'Good day'")
    said("Good day, Joe!")
    sh('echo 2 >"$1"', config / "repeat")
    noticed("update root['config']['repeat']: 2")
    said("Good day, Joe!", "Good day, Joe!")
    # What is not a number is refused, and the service goes on with the old one.
    assert "Invalid argument" in sh('echo two >"$1"', config / "repeat", ok=False)
    said("Good day, Joe!", "Good day, Joe!")
    assert service.stdin is not None
    finish(service)


def test_no_task_is_lost_when_workers_are_killed(procs: Processes, tmp_path: Path) -> None:
    store, env = tmp_path / "the.store", clean_env(PYTHONPATH=str(EXAMPLES))
    # Each takes a fraction of a second, so that a worker that has one is killed in the middle of it.
    numbers = [
        2 * prime for prime in (2000003, 2000029, 2000039, 2000081, 2000083, 2000093, 2000107, 2000113)
    ]

    def start(*args: object) -> subprocess.Popen[str]:
        return procs.start(sys.executable, EXAMPLES / "tasks.py", store, *args, env=env)

    with persist.open(store) as opened:
        root = opened.root
        master = start("serve", 3)
        # The workers that are killed, each time while all three are in a task; at last the master, too.
        for victims in ([0], [1], [2, 0], [0, 1, 2], None):
            asking = start("add", *numbers)
            wait_until(lambda: len(root.get("taken", ())) == 3, what="three busy workers")
            workers = [pid for pid in children(master.pid) if is_worker(pid)]
            assert len(workers) == 3
            if victims is None:
                os.killpg(master.pid, signal.SIGKILL)
                master.wait(DEADLINE)
                master = start("serve", 2)
            for n in victims or ():
                os.kill(workers[n], signal.SIGKILL)
            assert sorted(finish(asking).splitlines()) == [f"{n} = 2 * {n // 2}" for n in numbers]
            assert (root["waiting"], root["taken"], root["answers"]) == ([], {}, {})
        assert master.poll() is None


def test_the_address_book_keeps_objects(tmp_path: Path) -> None:
    def book(*args: str) -> str:
        return run(tmp_path, "address_book.py", "people.store", *args)

    book("add", "Joe", "1 High Street", "Leeds")
    book("add", "Ann", "", "", "Joe")
    book("add", "Bob", "9 Low Road", "York")
    book("befriend", "Joe", "Bob")
    book("move", "Ann", "2 Hill", "Hull")
    assert book("list").splitlines() == [
        "Ann: 2 Hill, Hull",
        "Bob: 9 Low Road, York (friends: Joe)",
        "Joe: 2 Hill, Hull (friends: Bob)",
    ]


def test_files_of_other_stores_are_moved(tmp_path: Path) -> None:
    with shelve.open(str(tmp_path / "shelf")) as shelf:
        shelf["a"] = [1]
    (tmp_path / "cache.pickle").write_bytes(pickle.dumps({"b": b"2"}))
    (tmp_path / "list.json").write_text(json.dumps([1, 2]))
    with contextlib.closing(sqlite3.connect(tmp_path / "old.db")) as old, old:
        old.execute("CREATE TABLE t (k TEXT PRIMARY KEY, v)")
        old.execute("INSERT INTO t VALUES ('x', 1)")
    files = ("shelf", "cache.pickle", "list.json", "old.db")
    said = run(tmp_path, "move.py", "--allow-pickle", "new.store", *files)
    assert said == "shelf: 1\ncache.pickle: 1\nlist.json: 2\nold.db: 1\n"
    with persist.open(tmp_path / "new.store") as store:
        assert persist.copy_out(store.root) == {
            "shelf": {"a": [1]},
            "cache": {"b": b"2"},
            "list": [1, 2],
            "old": {"t": {"x": {"k": "x", "v": 1}}},
        }
    # Without the permission nothing at all is stored.
    done = subprocess.run(
        [sys.executable, EXAMPLES / "move.py", "other.store", "list.json", "cache.pickle"],
        cwd=tmp_path, env=clean_env(), capture_output=True, text=True, timeout=DEADLINE,
    )  # fmt: skip
    assert done.returncode == 1 and "allow_pickle=True" in done.stderr
    with persist.open(tmp_path / "other.store") as store:
        assert len(store.root) == 0


def test_arrays_are_shared_by_processes(tmp_path: Path) -> None:
    need("numpy")
    said = run(tmp_path, "arrays.py").splitlines()
    assert said == [f"(8, 100000) float64 True {float(7 * sum(range(100000)))}", "[1. 1. 1.] False"]
    import numpy as np

    with persist.open(tmp_path / "arrays.store") as store:
        # Arrays themselves, and not bytes with a description beside them.
        assert {type(row) for row in store.root["rows"].values()} == {np.ndarray}
        assert store.root["rows"][3].tolist() == [3.0 * n for n in range(100_000)]


EXECUTE = """
import json, sys, nbclient, nbformat
book = nbformat.read(sys.argv[1], 4)
nbclient.NotebookClient(book, timeout=100, kernel_name='python3', resources={'metadata': {'path': '.'}}).execute()
print(json.dumps([cell.outputs[-1].data['text/plain'] for cell in book.cells if cell.get('outputs')]))
"""


def test_the_notebook_runs(tmp_path: Path) -> None:
    need("nbclient", "nbformat", "ipykernel")
    done = subprocess.run(
        [sys.executable, "-c", EXECUTE, EXAMPLES / "tour.ipynb"], cwd=tmp_path, env=clean_env(), capture_output=True,
        text=True, timeout=2 * DEADLINE,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    days = ", ".join(f"{{'day': {n}, 'value': {5 if n == 2 else n * n}}}" for n in range(5))
    assert json.loads(done.stdout.splitlines()[-1]) == [f"[{days}]", "5", "42", "(5, 3)"]
    # No output is in the file itself.
    book = json.loads((EXAMPLES / "tour.ipynb").read_text())
    assert all(not cell.get("outputs") and not cell.get("execution_count") for cell in book["cells"])


def test_every_example_has_a_test_and_is_in_readme() -> None:
    here, readme = Path(__file__).read_text(), (TOP / "README.md").read_text()
    for path in EXAMPLES.iterdir():
        if path.suffix in (".py", ".ipynb"):
            assert re.search(rf"\b{path.stem}\b", here), path
            assert f"examples/{path.name}" in readme, path
            assert path.suffix == ".ipynb" or path.read_text().startswith('"""'), path
