"""The original programs, many processes at once, killed processes and forks."""

from __future__ import annotations

import multiprocessing
import os
import threading
from pathlib import Path
from typing import Any

import persist
import pytest
from conftest import wait_until

PROGRAMS = Path(__file__).resolve().parent.parent / "programs"


def test_the_counter(script: Any) -> None:
    program = (PROGRAMS / "counter.py").read_text()
    for n in (1, 2, 3):
        assert f" visitor {n} to " in script.run(program)
    assert (script.home / "persist.store").exists()


def test_the_people(script: Any) -> None:
    program = script.write("people.py", (PROGRAMS / "people.py").read_text())
    for _ in range(2):
        said = script.finish(script.start_file(program, PERSIST_STORE="people.store"))
        assert said.endswith("<p>Joe is 27 years old</p>\n<p>John is 29 years old</p>\n")
    assert not (script.home / "persist.store").exists()
    with persist.open(script.home / "people.store") as store:
        joe = store.root["Joe"]  # the class belongs to another program
        assert type(joe) is persist.Object
        assert (joe.name, joe.age) == ("Joe", 27)
        assert persist.class_name(joe).startswith("__main__:person@/")


INCREMENT = """
    import persist, sys
    store = persist.open(sys.argv[1])
    root, n = store.root, int(sys.argv[2])
    for _ in range(n):
        if sys.argv[3] == "lock":
            root.lockExcl()
            root['x'] += 1
            root.unlock()
        elif sys.argv[3] == "with":
            with root.lock(key='x'):
                root['x'] += 1
        elif sys.argv[3] == "transaction":
            with store.transaction():
                root['x'] += 1
        else:
            def add():
                root['x'] += 1
            store.run(add)
"""


@pytest.mark.parametrize("how", ["lock", "with", "transaction", "run"])
def test_eight_processes_count(path: Path, root: persist.Dict, script: Any, how: str) -> None:
    each = int(os.environ.get("PERSIST_TEST_INCREMENTS", "1000"))
    root["x"] = 0
    processes = [script.start(INCREMENT, path, each, how) for _ in range(8)]
    for p in processes:
        script.finish(p, timeout=280)
    assert root["x"] == 8 * each


def test_threads_count(store: persist.Store, root: persist.Dict) -> None:
    root.update(x=0, y=0, l=[])

    def bump() -> None:
        root["y"] += 1

    def body() -> None:
        for n in range(200):
            with root.lockExcl():
                root["x"] += 1
            # Another thread's lock may block it: then it runs again.
            store.run(bump)
            root["l"].append({"n": n})

    threads = [threading.Thread(target=body) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert (root["x"], root["y"], len(root["l"])) == (1600, 1600, 1600)


def test_threads_share_identity(root: persist.Dict) -> None:
    root["d"] = {str(n): {"n": n} for n in range(20)}
    failures = []

    def body() -> None:
        for _ in range(200):
            for key in root["d"]:
                a, b = root["d"][key], root["d"][key]
                if a is not b or a["n"] != int(key):
                    failures.append(key)

    threads = [threading.Thread(target=body) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert failures == []


def test_kill_in_the_middle_of_a_loop(path: Path, root: persist.Dict, script: Any) -> None:
    for _ in range(3):
        writer = script.start(
            """
            import persist, sys
            root = persist.open(sys.argv[1]).root
            l = root.setdefault('l', [])
            n = len(l)
            print("go", flush=True)
            while True:
                with root.lockExcl():
                    l.append({'n': n, 'text': 'x' * (n % 5000)})
                    root['n'] = n
                n += 1
            """,
            path,
        )
        assert writer.stdout.readline() == "go\n"
        before = len(root["l"])
        wait_until(lambda before=before: len(root["l"]) > before + 20)
        writer.kill()
        writer.wait()
        with root.lockExcl(timeout=100):
            items = root["l"]
            assert len(items) in (root["n"] + 1, root["n"] + 2)
            assert [item["n"] for item in items] == list(range(len(items)))
            assert items[-1]["text"] == "x" * ((len(items) - 1) % 5000)
            while len(items) > root["n"] + 1:
                items.pop()


def child(path: str, n: int) -> None:
    with persist.open(path) as store:
        for _ in range(n):
            with store.root.lockExcl():
                store.root["x"] += 1


def test_fork(path: Path, store: persist.Store, root: persist.Dict) -> None:
    root.update(x=0, d={"a": 1})
    d = root["d"]
    root.lockExcl()
    tried, tell = os.pipe()
    pids = []
    for _ in range(3):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                # The parent's proxies work here; the parent's lock does not belong to the child.
                with pytest.raises(persist.LockTimeout):
                    root.lockExcl(timeout=0)
                os.write(tell, b".")
                with root.lockExcl(timeout=100):
                    root["x"] += 1
                    d["a"] += 1
                    root["child"] = {"pid": os.getpid()}
                status = 0
            finally:
                os._exit(status)
        pids.append(pid)
    for _ in pids:
        assert os.read(tried, 1) == b"."
    root["x"] += 1
    root.unlock()
    os.close(tried)
    os.close(tell)
    for pid in pids:
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert root["x"] == 4
    assert d["a"] == 4
    assert root["d"] is d
    assert root["child"]["pid"] in pids


def test_multiprocessing_fork(path: Path, root: persist.Dict) -> None:
    root["x"] = 0
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=child, args=(str(path), 200)) for _ in range(4)]
    for p in processes:
        p.start()
    for p in processes:
        p.join()
        assert p.exitcode == 0
    assert root["x"] == 800


def test_an_instance_outlives_the_store_at_exit(script: Any) -> None:
    program = script.start(
        """
        import persist

        class Last(persist.Object):
            def __del__(self):
                print(self.x)

        last = persist.root()['last'] = Last()
        """
    )
    out, err = program.communicate(timeout=60)
    assert (program.returncode, out) == (0, "")
    assert "ValueError: I/O operation on closed store" in err
    assert "panic" not in err.lower()


def test_importing_is_cheap(script: Any) -> None:
    out = script.run(
        """
        import sys, os
        before = set(sys.modules)
        import persist
        print(sorted(set(sys.modules) - before))
        """
    )
    loaded = eval(out)
    assert "persist._persist" in loaded
    for heavy in ["typing", "collections", "pickle", "re", "weakref", "threading", "logging"]:
        assert heavy not in loaded
