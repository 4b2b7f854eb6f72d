"""The demonstration: each step prints its purpose, runs on a real store, and checks the result.

The main process holds the store open all the time; other programs and shells start and end.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import persist

PROGRAMS = Path(__file__).resolve().parents[2] / "tests" / "programs"

HOLD = """\
import sys, persist
store = persist.open(sys.argv[1])
obj = store.root[sys.argv[2]] if len(sys.argv) > 2 else store.root
obj.lockExcl()
print("locked", flush=True)
sys.stdin.readline()
if len(sys.argv) > 3:
    try:
        store.root[sys.argv[3]].lockExcl()
        print("both", flush=True)
    except persist.Deadlock as e:
        print("Deadlock", flush=True)
"""

failures: list[str] = []
checks = 0


def title(text: str) -> None:
    print(f"\n=== {text}", flush=True)


def check(what: str, fact: object) -> None:
    global checks
    checks += 1
    print(f"    {'ok' if fact else 'FAILED':<8}{what}", flush=True)
    if not fact:
        failures.append(what)


def indent(text: str) -> None:
    for row in text.rstrip("\n").split("\n"):
        print(f"    | {row}", flush=True)


class Demo:
    def __init__(self, home: Path) -> None:
        self.home = home
        self.path = home / "site.store"
        self.mnt = home / "mnt"
        self.env = {**os.environ, "PERSIST_STORE": str(self.path)}
        self.children: list[subprocess.Popen[str]] = []

    def sh(self, script: str, show: bool = True) -> str:
        """Run a shell command in the mount, and print it with its output."""
        if show:
            print(f"    $ {script}", flush=True)
        done = subprocess.run(
            ["bash", "-c", script], cwd=self.mnt if os.path.ismount(self.mnt) else self.home, env=self.env,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60,
        )  # fmt: skip
        if show and done.stdout:
            indent(done.stdout)
        return done.stdout

    def start(self, *argv: object) -> subprocess.Popen[str]:
        child = subprocess.Popen(
            [str(a) for a in argv], env=self.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            start_new_session=True,
        )  # fmt: skip
        self.children.append(child)
        return child

    def holder(self, *args: object) -> subprocess.Popen[str]:
        """Return a process that holds the exclusive lock of a container."""
        child = self.start(sys.executable, "-c", HOLD, self.path, *args)
        assert child.stdout and child.stdout.readline() == "locked\n"
        return child

    def mount(self, store: Path, point: Path) -> bool:
        point.mkdir(exist_ok=True)
        create = [] if store.exists() else ["-o", "create"]
        print(f"    $ {' '.join(['mount.persist', *create])} {store.name} {point.name}", flush=True)
        with tempfile.TemporaryFile("w+") as log:
            code = subprocess.run(
                ["mount.persist", *create, str(store), str(point)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                timeout=30,
            ).returncode
            log.seek(0)
            if code:
                indent(log.read())
        return code == 0 and os.path.ismount(point)

    def close(self) -> None:
        for child in self.children:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        for point in self.mnt, self.home / "mnt2":
            if os.path.ismount(point):
                subprocess.run(["umount", "-l", str(point)], check=False)


def waited(act: Callable[[], Any]) -> tuple[threading.Thread, list[float]]:
    """Start `act` in a thread; the list receives the time of its end."""
    done: list[float] = []

    def run() -> None:
        act()
        done.append(time.monotonic())

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, done


@contextlib.contextmanager
def stage() -> Iterator[Demo]:
    with tempfile.TemporaryDirectory(prefix="persist-demo-") as home:
        demo = Demo(Path(home))
        try:
            yield demo
        finally:
            demo.close()


def programs(demo: Demo) -> None:
    title("Two programs, each run twice, each time in a new process")
    outs = []
    for name in "counter.py", "people.py":
        (demo.home / name).write_text((PROGRAMS / name).read_text())
        for _ in range(2):
            outs.append(demo.sh(f"python {name}"))
    check("the counter counts across processes", "visitor 1 to" in outs[0] and "visitor 2 to" in outs[1])
    people = "Content-type: text/html\n\n<p>Joe is 27 years old</p>\n<p>John is 29 years old</p>\n"
    check("the people are still there the second time", outs[2] == outs[3] == people)


def filesystem(demo: Demo, root: Any) -> None:
    title("The same store as a filesystem, while a Python process holds it open")
    check("the store is mounted", demo.mount(demo.path, demo.mnt))
    if failures:
        sys.exit("the store cannot be mounted here: the rest is not shown")
    demo.sh("ls -l . Joe")
    check("the shell reads what Python wrote", demo.sh("cat x Joe/age") == "2\n27\n")
    demo.sh("echo 5 > x")
    check("Python sees 5, an int", root["x"] == 5 and type(root["x"]) is int)
    demo.sh("sed -i s/27/28/ Joe/age")
    check("Python sees that Joe is 28, an int", root["Joe"].age == 28 and type(root["Joe"].age) is int)
    demo.sh("mkdir pets && echo Rex > pets/dog && mv pets/dog pets/hound")
    check("Python sees the new dict", persist.copy_out(root["pets"]) == {"hound": "Rex"})
    demo.sh("ln -s ../Joe pets/owner")
    check("a symlink is a reference to the same object", root["pets"]["owner"] is root["Joe"])
    demo.sh("rm -r pets")
    check("Python sees that the pets are gone", "pets" not in root and root["Joe"].name == "Joe")
    check(
        "text that is not an int is refused",
        "Invalid argument" in demo.sh("echo five > x") and root["x"] == 5,
    )
    print("    (Python) root['list'] = [1, [2, 3], {'deep': 'down'}]")
    root["list"] = [1, [2, 3], {"deep": "down"}]
    check("the shell sees a list at once", demo.sh("cat list/0 list/1/1 list/2/deep") == "1\n3\ndown\n")
    root["list"].append(4)
    check("and what is appended to it", demo.sh("ls list").split() == ["0", "1", "2", "3"])


def locks(demo: Demo, root: Any) -> None:
    title("One lock manager for Python and the shell")
    shell = demo.start("bash", "-c", f"exec 9<>'{demo.mnt}/x'; flock 9; echo locked; read -r _")
    assert shell.stdout and shell.stdin
    shell.stdout.readline()
    print("    (a shell holds the flock of x)")
    try:
        root.lockExcl(timeout=0.1)
        check("lockExcl(timeout=0.1) raises LockTimeout", False)
    except persist.LockTimeout as e:
        check(f"lockExcl(timeout=0.1) raises LockTimeout: {e}", True)
    with root.lock(key="list", timeout=1):
        check("another entry can be locked at the same time", True)
    thread, done = waited(lambda: root.__setitem__("x", 6))
    thread.join(0.2)
    check("a change of x waits", not done)
    shell.stdin.write("\n")
    shell.stdin.flush()
    thread.join(10)
    check("and is made when the shell releases the lock", done and root["x"] == 6)

    root.lockExcl()
    print("    (Python holds root.lockExcl())")
    check("flock -n in the shell fails", demo.sh("flock -n x true || echo busy") == "busy\n")
    writer = demo.start("bash", "-c", f"echo 7 > '{demo.mnt}/x'")
    check("cat never waits", demo.sh("cat x") == "6\n")
    check("echo 7 > x waits", writer.poll() is None and root["x"] == 6)
    root.unlock()
    writer.wait(10)
    check("and is made after unlock()", root["x"] == 7)

    child = demo.holder()
    thread, done = waited(lambda: (root.lockExcl(), root.unlock()))
    thread.join(0.2)
    check("a lock of another process makes us wait", not done)
    killed = time.monotonic()
    child.kill()
    thread.join(10)
    took = (done[0] - killed) * 1000 if done else 1e9
    check(f"kill -9 of the holder frees it within 100 ms ({took:.1f} ms)", took < 100)

    one, two = demo.holder("Joe", "John"), demo.holder("John", "Joe")
    for child in one, two:
        assert child.stdin
        child.stdin.write("\n")
        child.stdin.flush()
    said = sorted(child.communicate(timeout=20)[0].strip() for child in (one, two))
    check("of two that lock crosswise one gets Deadlock, the other goes on", said == ["Deadlock", "both"])


def plain(value: Any, seen: dict[int, str], path: str, alive: list[Any]) -> Any:
    """Return the graph as plain data with its types, classes and shared containers."""
    if not isinstance(value, (persist.Dict, persist.List, persist.Object)):
        return type(value).__name__, repr(value)
    if id(value) in seen:
        return "shared with", seen[id(value)]
    seen[id(value)] = path
    alive.append(value)
    entries = (
        value
        if isinstance(value, persist.Dict)
        else vars(value)
        if isinstance(value, persist.Object)
        else None
    )
    if entries is None:
        return "list", [plain(v, seen, f"{path}/{i}", alive) for i, v in enumerate(value)]
    # A class that is not imported here opens as a generic object; its name is kept, and visible in the mount.
    rows = sorted(entries.items(), key=lambda item: (type(item[0]).__name__, repr(item[0])))
    return type(value).__name__, [(repr(k), plain(v, seen, f"{path}/{k!r}", alive)) for k, v in rows]


def backup(demo: Demo, store: persist.Store) -> None:
    title("Backup and restore with the tools of every system")
    root = store.root
    root["both"] = [root["Joe"], root["Joe"]]
    root["loop"] = {}
    root["loop"]["me"] = root["loop"]
    root["kinds"] = {
        "int": 1,
        "float": 1.5,
        "yes": True,
        "none": None,
        "bytes": b"\0\xff",
        "text": "Grüße",
        1: "one",
    }
    want = plain(root, {}, "", [])
    copies = ["cp -a '{0}/.' '{1}/'", "rsync -aX '{0}/' '{1}/'"]
    if shutil.which("rsync") is None:
        print("    (rsync is not installed here: not shown)")
        copies.pop()
    for n, copy in enumerate(copies):
        saved = demo.home / f"backup{n}"
        saved.mkdir()
        fresh = demo.home / f"restored{n}.store"
        point = demo.home / "mnt2"
        demo.sh(copy.format(".", saved))
        check("a fresh store is mounted", demo.mount(fresh, point))
        demo.sh(copy.format(saved, point))
        with persist.open(fresh) as restored:
            check(
                "types, keys, shared references and cycles are equal",
                plain(restored.root, {}, "", []) == want,
            )
            check("one Joe, not two", restored.root["both"][0] is restored.root["Joe"])
        classes = [os.getxattr(top / "Joe", "user.persist.class") for top in (demo.mnt, point)]
        check(f"classes are equal ({classes[0].decode()})", classes[0] == classes[1])
        check("the copy is unmounted", subprocess.run(["umount", str(point)]).returncode == 0)


def snapshots(demo: Demo, store: persist.Store) -> None:
    title("Snapshots: the state of now, kept by name")
    root = store.root
    here = ".persist/snapshots"
    print("    (Python) store.snapshot('before')")
    store.snapshot("before")
    demo.sh("echo 41 > Joe/age && rm -r list")
    root["both"].append("later")
    check("the shell lists it", demo.sh(f"ls {here}") == "before\n")
    differ = demo.sh(f"diff -rq --no-dereference {here}/before .")
    check("and compares it with what is there now", "Joe/age" in differ and "before: list" in differ)
    check("nothing in it can be changed", "Read-only" in demo.sh(f"echo 1 > {here}/before/x"))
    demo.sh(f"cp -a {here}/before/list . && cat {here}/before/Joe/age > Joe/age")
    back = root["Joe"].age == 28 and persist.copy_out(root["list"]) == [1, [2, 3], {"deep": "down"}, 4]
    check("what the shell copies back is there for Python", back)
    print("    (Python) with store.at('before') as before: root['both'] = before.root['both']")
    with store.at("before") as before:
        root["both"] = before.root["both"]
        check("Python sees both states at once", len(root["both"]) == len(before.root["both"]) == 2)
        check("it is not dropped while it is in use", "busy" in demo.sh(f"rmdir {here}/before"))
    # The mount closes a view one second after its last use; a drop through the mount does not have to wait for that.
    demo.sh(f"rmdir {here}/before")
    check("it is dropped", store.snapshots() == [])
    root["both"] = [root["Joe"], root["Joe"]]


def main() -> int:
    with stage() as demo:
        programs(demo)
        with persist.open(demo.path) as store:
            filesystem(demo, store.root)
            locks(demo, store.root)
            backup(demo, store)
            snapshots(demo, store)
        title("The end: unmount")
        done = subprocess.run(["umount", str(demo.mnt)]).returncode
        check("the mount ends cleanly", done == 0 and not os.path.ismount(demo.mnt))
        out = demo.sh("python counter.py")
        check("and the store goes on without it", "visitor 8 to" in out)
        demo.sh(f"persist ls {demo.path.name}")
    print(f"\n{checks - len(failures)} checks passed, {len(failures)} failed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
