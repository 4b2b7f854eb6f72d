"""inotify from either door: what Python changes gives the events that the same change gives on tmpfs."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import persist
import pytest
from conftest import Mount, binary, need, wait_until
from watcher import Event, Watcher


@pytest.fixture
def tmpfs() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(dir="/dev/shm"))
    yield path
    shutil.rmtree(path)


class Watched:
    """A watched dict and the reader of its events."""

    def __init__(self, path: Path, entries: Any, name: str = "top") -> None:
        self.path, self.entries = path, entries
        self.watcher = Watcher()
        self.watcher.add(path, name)
        self.n = 0
        self.watcher.noticed(lambda: entries.__setitem__("probe", time.monotonic_ns()), "probe")
        del entries["probe"]
        self.watcher.until(lambda found: (name, "DELETE", "probe") in found)

    def events(self) -> list[Event]:
        """Return the events up to now: up to that of a change that is made now."""
        self.n += 1
        last = f"last{self.n}"
        self.entries[last] = 1
        found = self.watcher.until(lambda found: any(e[1:] == ("CLOSE_WRITE", last) for e in found))
        return [event for event in found if event[2] != last]


@pytest.fixture
def top(mnt: Mount, root: Any) -> Iterator[Watched]:
    watched = Watched(mnt.path, root)
    yield watched
    watched.watcher.close()


def helpers(mnt: Mount) -> list[int]:
    """Return the processes that replay for this mount."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if words[:2] == [b"persist-events", os.fsencode(mnt.path)]:
                found.append(int(entry.name))
    return found


def test_the_same_events_as_on_tmpfs(mnt: Mount, root: Any, top: Watched, tmpfs: Path) -> None:
    """Each change by Python, and the same by system calls on tmpfs; also to those that watch the entry itself."""
    other = Watcher()
    other.add(tmpfs, "top")

    def write(path: Path, text: str) -> None:
        with open(path, "r+" if path.exists() else "x") as file:
            file.write(text)

    steps: list[tuple[Callable[[], Any], Callable[[], Any]]] = [
        (lambda: root.__setitem__("file", "a"), lambda: write(tmpfs / "file", "a")),
        (lambda: root.__setitem__("file", "b"), lambda: write(tmpfs / "file", "b")),
        (lambda: root.__setitem__("dir", {"x": 1, "y": {}}), lambda: (tmpfs / "dir").mkdir()),
        (lambda: root.__setitem__("link", persist.Link("file")), lambda: (tmpfs / "link").symlink_to("file")),
        (lambda: root.__delitem__("link"), lambda: (tmpfs / "link").unlink()),
        (lambda: root.__setitem__("same", root["dir"]), lambda: (tmpfs / "same").symlink_to("dir")),
    ]
    for n, (here, there) in enumerate(steps):
        here()
        there()
        assert top.events() == other.read(1), n
    assert (mnt.path / "same").is_symlink() and (mnt.path / "dir/y").is_dir()
    del root["same"], root["dir"]["y"]
    # Those that watch a file or a directory itself see its end.
    write(tmpfs / "dir/x", "1")
    other.read(0.2)
    for path, watcher in ((mnt.path, top.watcher), (tmpfs, other)):
        for name in ("file", "dir", "dir/x"):
            watcher.add(path / name, name)
    inside = Watched(mnt.path / "dir", root["dir"], "inside")
    steps = [
        (lambda: root.__setitem__("file", "longer"), lambda: write(tmpfs / "file", "longer")),
        (lambda: root["dir"].__setitem__("x", 2), lambda: write(tmpfs / "dir/x", "2")),
        (lambda: root.__delitem__("file"), lambda: (tmpfs / "file").unlink()),
        (lambda: root["dir"].__delitem__("x"), lambda: (tmpfs / "dir/x").unlink()),
        (lambda: root.__delitem__("dir"), lambda: (tmpfs / "dir").rmdir()),
    ]
    top.events()
    for n, (here, there) in enumerate(steps):
        here()
        there()
        # The watches "dir" and "inside" are one.
        mine = [(w.replace("inside", "dir"), e, name) for w, e, name in top.events()]
        assert mine == other.read(1), n
    inside.watcher.close()
    other.close()


def test_a_change_by_a_command_has_its_events_once(mnt: Mount, top: Watched, tmpfs: Path) -> None:
    other = Watcher()
    other.add(tmpfs, "top")
    command = """echo 1 > a; echo 2 >> a; mv a b; rm b; mkdir d; mv d e; rmdir e; ln -s x l; rm l
        : > t; chmod 600 t; touch t; exec 3> u; echo one >&3; echo two >&3; exec 3>&-; sed -i s/one/1/ u; rm t u"""
    for path in (mnt.path, tmpfs):
        subprocess.run(["bash", "-c", command], cwd=path, check=True)

    def names(events: list[Event]) -> list[Event]:
        # A temporary file of sed has another name each time.
        return [(w, e, "sed" if name.startswith("sed") else name) for w, e, name in events]

    assert names(top.events()) == names(other.read(1))
    other.close()


def test_lists_have_events_of_names(mnt: Mount, root: Any, top: Watched) -> None:
    root["l"] = items = ["a", "b", "c"]
    items = root["l"]
    assert os.listdir(mnt.path / "l") == ["0", "1", "2"]
    watcher = Watcher(mnt.path / "l")
    watcher.noticed(lambda: items.__setitem__(0, str(time.monotonic_ns())), "0")

    def after(change: Callable[[], Any], last: tuple[str, str]) -> list[tuple[str, str]]:
        change()
        found = [event[1:] for event in watcher.until(lambda found: any(e[1:] == last for e in found))]
        return [event for event in found if event[0] in ("CREATE", "DELETE", "MODIFY")]

    made = [("CREATE", "3"), ("MODIFY", "3")]
    assert after(lambda: items.append("d"), ("CLOSE_WRITE", "3")) == made
    assert after(lambda: items.__setitem__(1, "B"), ("CLOSE_WRITE", "1")) == [("MODIFY", "1")]
    assert after(lambda: items.pop(0), ("DELETE", "0")) == [("DELETE", "0")]
    # By index this is the item of the name 2.
    assert after(lambda: items.__setitem__(1, "C"), ("CLOSE_WRITE", "2")) == [("MODIFY", "2")]
    # What a command removes and appends has events of the kernel, once, and moves the indices.
    mnt.sh("rm l/1; echo e > l/4")
    own = [e[1:] for e in watcher.until(lambda found: any(e[1:] == ("CLOSE_WRITE", "4") for e in found))]
    assert [e for e in own if e[0] in ("DELETE", "CREATE")] == [("DELETE", "1"), ("CREATE", "4")]
    assert after(lambda: items.__setitem__(1, "D"), ("CLOSE_WRITE", "3")) == [("MODIFY", "3")]
    # Names are renumbered.
    found = after(lambda: items.insert(0, "first"), ("CLOSE_WRITE", "8"))
    assert [e for e in found if e[0] != "MODIFY"] == [
        *(("DELETE", name) for name in "234"), *(("CREATE", name) for name in "5678"),
    ]  # fmt: skip
    assert mnt.names("l") == [5, 6, 7, 8]
    assert after(items.clear, ("DELETE", "8")) == [("DELETE", name) for name in "5678"]
    watcher.close()


def test_the_kernel_shows_what_there_is(mnt: Mount, root: Any, top: Watched) -> None:
    """After each event, and between them, a name means what Python has under it: replays leave nothing behind."""
    chance = random.Random(3)
    kinds: dict[str, Callable[[], Any]] = {
        "file": lambda: chance.randrange(1000),
        "dir": dict,
        "link": lambda: persist.Link("x"),
    }
    model: dict[str, str] = {}

    def look(name: str) -> None:
        path, kind = mnt.path / name, model.get(name)
        found = (
            "link" if path.is_symlink() else "dir" if path.is_dir() else "file" if path.is_file() else None
        )
        assert found == kind, name
        if kind == "file":
            assert path.read_text() == f"{root[name]}\n"
        if kind == "dir":
            (path / "new").write_text("1\n")
            assert root[name]["new"] == "1"

    for n in range(300):
        name = f"n{chance.randrange(4)}"
        if name in model and chance.random() < 0.4:
            del root[name], model[name]
        else:
            kind = chance.choice(list(kinds))
            root[name], model[name] = kinds[kind](), kind
        if chance.random() < 0.5:
            look(name)
        if n % 20 == 0:
            top.events()
            for other in ("n0", "n1", "n2", "n3"):
                look(other)
    top.events()
    assert sorted(n for n in os.listdir(mnt.path) if n.startswith("n")) == sorted(model)


def test_a_directory_that_comes_back_is_alive(mnt: Mount, root: Any, top: Watched) -> None:
    """A directory that a command has open is removed, and its container comes back under another name."""
    root["d"] = {"x": 1}
    fd = os.open(mnt.path / "d", os.O_RDONLY | os.O_DIRECTORY)
    try:
        top.watcher.add(mnt.path / "d", "d")
        again = root["d"]
        Watched(mnt.path / "d", again).watcher.close()
        del root["d"]
        assert ("top", "DELETE ISDIR", "d") in top.events()
        root["e"] = again
        assert ("top", "CREATE ISDIR", "e") in top.events()
        (mnt.path / "e" / "y").write_text("2\n")
        assert os.listdir(mnt.path / "e") and root["e"]["y"] == "2"
        assert sorted(os.listdir(fd)) == sorted(os.listdir(mnt.path / "e"))
    finally:
        os.close(fd)


def test_missing_changes_let_watchers_look_again(mnt: Mount, store: Any, root: Any, top: Watched) -> None:
    """One transaction with more changes than the feed holds."""
    root["d"] = entries = {str(n): n for n in range(20)}
    entries = root["d"]
    inside = Watched(mnt.path / "d", entries, "d")
    with store.transaction():
        for n in range(20_000):
            entries[str(n % 20)] = -n
        del entries["7"]
        entries["new"] = {}
    # In any order: what the entries were is compared with what they are.
    expected = {("d", "MODIFY", str(n)) for n in range(20) if n != 7}
    expected |= {("d", "DELETE", "7"), ("d", "CREATE ISDIR", "new")}
    inside.watcher.until(lambda found: expected <= set(found))
    inside.watcher.close()


def test_a_file_that_is_gone_delays_no_other(store: Any, root: Any, top: Watched) -> None:
    """Files are made, changed and removed before the first event is replayed."""
    with store.transaction():
        for n in range(100):
            root[f"k{n}"] = n
            root[f"k{n}"] = -n
            del root[f"k{n}"]
    found = [event[1:] for event in top.events() if event[1] in ("CREATE", "DELETE")]
    assert found == [(event, f"k{n}") for n in range(100) for event in ("CREATE", "DELETE")]


def test_a_dict_that_is_emptied(mnt: Mount, root: Any, top: Watched) -> None:
    root["d"] = {"a": 1, "b": {}}
    inside = Watched(mnt.path / "d", root["d"], "d")
    root["d"].clear()
    found = [event for event in inside.events() if not event[2].startswith("last")]
    assert sorted(found) == [("d", "DELETE", "a"), ("d", "DELETE ISDIR", "b")]
    inside.watcher.close()


def test_two_mounts(mounts: Callable[..., Mount], processes: Any) -> None:
    """What one mount changes, the watchers of the other are told, and its own once."""
    one, two = mounts("a", at="one"), mounts("a", at="two")
    with persist.open(one.store) as store:
        watched = [Watched(mount.path, store.root) for mount in (one, two)]
        for watch in watched:
            watch.events()
        one.sh("echo 1 > f; rm f; mkdir d; chmod 700 d; rmdir d")
        for watch in watched:
            found = watch.watcher.until(lambda found: any(e[1:] == ("DELETE ISDIR", "d") for e in found))
            both = [event[1:] for event in found if event[1].split()[0] in ("CREATE", "DELETE")]
            assert both == [("CREATE", "f"), ("DELETE", "f"), ("CREATE ISDIR", "d"), ("DELETE ISDIR", "d")]
        for watch in watched:
            watch.watcher.close()


def test_programs_that_watch(mnt: Mount, root: Any, processes: Any, tmp_path: Path) -> None:
    """tail, inotifywait and watchdog."""
    need("inotifywait", "tail")
    root["log"] = b"begin\n"
    root["d"] = {}
    tail = processes(f"tail -n +1 -f {mnt.path}/log > {tmp_path}/tail", tmp_path)
    wait = processes(
        f"inotifywait -m -r -q -e create,delete --format '%e %f' {mnt.path} > {tmp_path}/wait", tmp_path
    )
    script = f"""
import sys, time
from watchdog.events import FileSystemEventHandler
from watchdog.observers.inotify import InotifyObserver
class Handler(FileSystemEventHandler):
    def on_any_event(self, event):
        print(event.event_type, event.src_path, flush=True)
observer = InotifyObserver()
observer.schedule(Handler(), {str(mnt.path)!r}, recursive=True)
observer.start()
time.sleep(10000)
"""
    dog = processes(f"exec {sys.executable} - > {tmp_path}/dog <<'END'\n{script}\nEND", tmp_path)

    def said(name: str, *lines: str) -> bool:
        path = tmp_path / name
        return path.exists() and set(lines) <= set(path.read_text().splitlines())

    # Until the watches are known, new ones may go unnoticed.
    def until(change: Callable[[int], Any], fact: Callable[[int], bool]) -> None:
        tried = iter(range(10_000))

        def once() -> bool:
            n = next(tried)
            change(n)
            end = time.monotonic() + 0.2
            while time.monotonic() < end:
                if fact(n):
                    return True
                time.sleep(0.005)
            return False

        wait_until(once, "the events")

    until(
        lambda n: root["d"].__setitem__(f"k{n}", n),
        lambda n: said("wait", f"CREATE k{n}") and said("dog", f"created {mnt.path}/d/k{n}"),
    )
    root["log"] += b"more\n"
    root["d"]["sub"] = {}
    wait_until(lambda: said("tail", "begin", "more"), "tail")
    wait_until(lambda: said("wait", "CREATE,ISDIR sub"), "inotifywait")
    wait_until(lambda: said("dog", f"created {mnt.path}/d/sub"), "watchdog")
    # They watch the new directory as well.
    until(
        lambda n: root["d"]["sub"].__setitem__(f"s{n}", n),
        lambda n: said("wait", f"CREATE s{n}") and said("dog", f"created {mnt.path}/d/sub/s{n}"),
    )
    assert all(program.poll() is None for program in (tail, wait, dog))


def test_nothing_runs_while_nothing_is_watched(mnt: Mount, root: Any, top: Watched) -> None:
    """The process that replays exists only while there are watches, and holds nothing of the mount."""
    (helper,) = wait_until(lambda: helpers(mnt))

    def holds_nothing() -> bool:
        # A replay under way holds a descriptor of the mount for a moment.
        links = []
        for fd in os.listdir(f"/proc/{helper}/fd"):
            with contextlib.suppress(FileNotFoundError):
                links.append(os.readlink(f"/proc/{helper}/fd/{fd}"))
        return len(links) == 3 and not any("fuse" in link or str(mnt.path) in link for link in links)

    wait_until(holds_nothing, "the process to hold three descriptors, none of the mount")
    extra = Watcher(mnt.path)
    extra.close()
    keep = os.dup(top.watcher.fd)
    os.close(top.watcher.fd)
    top.watcher.fd = keep
    assert helpers(mnt) == [helper]
    os.close(keep)
    top.watcher.fd = os.open("/dev/null", os.O_RDONLY)
    wait_until(lambda: not helpers(mnt), "the process to end")


def test_an_unmount_while_a_directory_is_watched(mnt: Mount, root: Any, top: Watched) -> None:
    root["x"] = 1
    top.events()

    def unmounted() -> bool:
        # The last replay may be under way yet.
        return subprocess.run(["umount", str(mnt.path)], capture_output=True, timeout=60).returncode == 0

    wait_until(unmounted, "the unmount")
    found = top.watcher.until(lambda found: any("UNMOUNT" in event[1] for event in found))
    assert ("top", "UNMOUNT ISDIR", "") in found
    wait_until(lambda: not mnt.pids() and not helpers(mnt), "both processes to end")


def test_the_mount_is_killed_while_changes_are_replayed(mnt: Mount, root: Any, top: Watched) -> None:
    """Nothing is left that waits in the mount: it gives errors at once, and can be unmounted."""
    for n in range(2000):
        root[f"k{n}"] = n
    assert helpers(mnt)
    top.watcher.read(1)
    mnt.kill()
    wait_until(lambda: not mnt.pids() and not helpers(mnt), "both processes to end")
    with pytest.raises(OSError):
        os.listdir(mnt.path)
    mnt.die()
    assert (mnt.path / "k1999").read_text() == "1999\n"


def test_the_process_that_replays_is_killed(mnt: Mount, root: Any, top: Watched) -> None:
    for helper in wait_until(lambda: helpers(mnt)):
        os.kill(helper, 9)
    top.watcher.noticed(lambda: root.__setitem__("probe", time.monotonic_ns()), "probe")
    assert "x" not in root
    root["x"] = 1
    assert ("top", "CREATE", "x") in top.events()


def test_a_remount_while_changes_are_replayed(mnt: Mount, root: Any, top: Watched) -> None:
    """The mount opens its store again, and follows the changes of that."""
    for mode in ("ro", "rw"):
        for n in range(200):
            root[f"k{n}"] = n
        command = [binary(), str(mnt.store), str(mnt.path), "-o", f"remount,{mode}"]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
    top.watcher.noticed(lambda: root.__setitem__("probe", time.monotonic_ns()), "probe")
    root["x"] = 1
    assert ("top", "CREATE", "x") in top.events()


def test_a_mount_that_does_not_change(mounts: Callable[..., Mount]) -> None:
    mount = mounts()
    mount.down()
    mount.options = "ro"
    mount.up()
    watcher = Watcher(mount.path)
    assert watcher.read(1) == [] and not helpers(mount)
    watcher.close()


def wakes(mnt: Mount) -> int:
    """Return how often the thread that looks for watches has waited."""
    for task in Path(f"/proc/{mnt.pids()[0]}/task").iterdir():
        if (task / "comm").read_text() == "watches\n":
            lines = (task / "status").read_text().splitlines()
            return int(next(line.split()[1] for line in lines if line.startswith("voluntary_ctxt_switches:")))
    raise AssertionError("no thread looks for watches")


def test_a_mount_that_is_not_in_use_rests(mnt: Mount, root: Any) -> None:
    """It looks for watches each five seconds then, and finds one."""

    def rests() -> bool:
        before = wakes(mnt)
        time.sleep(6)
        return wakes(mnt) - before <= 12

    wait_until(rests, "the mount to rest")
    top = Watched(mnt.path, root)
    root["new"] = 1
    assert ("top", "CREATE", "new") in top.events()
    top.watcher.close()
    root["x"] = 1
    wait_until(rests, "the mount to rest again")
