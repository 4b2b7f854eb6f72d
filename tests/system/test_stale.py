"""What the kernel keeps of the mount is never stale: a change that was acknowledged through either door is seen by the
next system call (P9). And it keeps something: else these tests would test nothing.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import persist
import pytest
from acceptance import BIN, best_of, clean_env, mounted, wait_until
from steps import Reader, Steps

Mount = Callable[..., Path]


@contextlib.contextmanager
def daemon(store: Path, point: Path, leases: str) -> Iterator[subprocess.Popen[bytes]]:
    """A mount whose daemon can be stopped."""
    point.mkdir(exist_ok=True)
    argv = [str(BIN / "mount.persist"), "-F", str(store), str(point)]
    null = subprocess.DEVNULL
    process = subprocess.Popen(argv, env=clean_env(PERSIST_LEASES=leases), stdin=null, stderr=null)
    try:
        wait_until(lambda: mounted(point) and os.listdir(point) is not None, what="the mount")
        yield process
    finally:
        process.send_signal(signal.SIGCONT)
        subprocess.run(["umount", str(point)], check=False)
        process.send_signal(signal.SIGTERM)
        process.wait()


@pytest.mark.parametrize("leases", ["eager", ""])
def test_a_reader_in_step_sees_each_change(
    store: Path, mount: Mount, leases: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PERSIST_LEASES", leases)
    with persist.open(store) as opened:
        steps = Steps(opened, mount(store), seed=len(leases))
        try:
            for _ in range(1500):
                steps.round()
        finally:
            steps.close()


def test_a_stopped_daemon_delays_a_change_and_hides_none(store: Path, tmp_path: Path) -> None:
    with persist.open(store) as opened, daemon(store, tmp_path / "mnt", "eager") as process:
        steps = Steps(opened, tmp_path / "mnt", 1, process.pid)
        try:
            for _ in range(6):
                for _ in range(20):
                    steps.round()
                steps.stopped_round()
        finally:
            steps.close()
        assert steps.slowest < 10, "a change waits for a stopped daemon once, for a second"


def test_a_caller_that_waits_for_no_lock_waits_for_a_lease(store: Path, tmp_path: Path) -> None:
    """With lock_timeout=0, a change of what the kernel of a stopped mount keeps waits until that has expired."""
    done = 0
    with persist.open(store, lock_timeout=0) as opened, daemon(store, tmp_path / "mnt", "eager") as process:
        opened.root["x"] = "text"
        for turn in range(100):
            (tmp_path / "mnt" / "x").stat()
            process.send_signal(signal.SIGSTOP)
            try:
                opened.root["x"] = f"text {turn}"
            except persist.LockTimeout as e:
                # The daemon was stopped in the middle of a change of its own: that is a lock.
                assert "a writer" in str(e), e
                continue
            finally:
                process.send_signal(signal.SIGCONT)
            assert (tmp_path / "mnt" / "x").read_text() == f"text {turn}\n"
            done += 1
            if done == 5:
                break
    assert done == 5


def test_the_kernel_keeps_what_does_not_change(store: Path, tmp_path: Path) -> None:
    """While the daemon is stopped, the kernel answers by itself what it was asked just before."""
    with persist.open(store) as opened:
        opened.root["d"] = {"x": "text", "e": {"y": 1}}
    point = tmp_path / "mnt"
    with daemon(store, point, "") as process:

        def one() -> float:
            looks = [point / "d" / "x", point / "d" / "e", point / "d" / "e" / "y"]
            for path in looks:
                path.stat()
            assert not (point / "d" / "none").exists()
            process.send_signal(signal.SIGSTOP)
            waker = subprocess.Popen(["sh", "-c", f"sleep 2; kill -CONT {process.pid}"])
            begun = time.monotonic()
            try:
                assert [path.stat().st_size for path in looks] == [5, 1, 2]
                assert not (point / "d" / "none").exists()
                return time.monotonic() - begun
            finally:
                process.send_signal(signal.SIGCONT)
                waker.kill()
                waker.wait()

        best_of(20, 0.5, one)


def changes(root: persist.Dict, store: persist.Store, other: Path) -> dict[str, Callable[[], object]]:
    """Each changes `d`: x is longer, `new` exists, `gone` does not."""
    d = root["d"]

    def each() -> None:
        d["x"] = "longer"
        d["new"] = "new"
        del d["gone"]

    def transaction() -> None:
        with store.transaction():
            each()

    def replaced() -> None:
        root["d"] = {"x": "longer", "new": "new", "list": [1, 2], "ln": persist.Link("t")}

    def moved() -> None:
        root["kept"] = {"x": "longer", "new": "new", "list": [1, 2], "ln": persist.Link("t")}
        root["d"] = root.pop("kept")

    def cleared() -> None:
        d.clear()
        d.update({"x": "longer", "new": "new", "list": [1, 2], "ln": persist.Link("t")})

    def in_the_other_mount() -> None:
        (other / "d" / "x").write_text("longer\n")
        (other / "d" / "new").write_text("new\n")
        (other / "d" / "gone").unlink()

    def by_rename_there() -> None:
        (other / "d" / "tmp").write_text("longer\n")
        os.rename(other / "d" / "tmp", other / "d" / "x")
        os.rename(other / "d" / "gone", other / "d" / "new")
        (other / "d" / "new").write_text("new\n")

    return {
        f.__name__: f
        for f in (each, transaction, replaced, moved, cleared, in_the_other_mount, by_rename_there)
    }


KINDS = ("each", "transaction", "replaced", "moved", "cleared", "in_the_other_mount", "by_rename_there")


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_change_is_seen(
    store: Path, mount: Mount, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PERSIST_LEASES", "eager")
    with persist.open(store) as opened:
        root = opened.root
        mnt, other = mount(store), mount(store, "other")
        reader = Reader()
        try:
            for turn in range(20):
                root["d"] = {"x": "x", "gone": "old", "list": [1, 2], "ln": persist.Link("t")}

                def sees(what: str, path: str, want: object) -> None:
                    assert reader.look(what, mnt / path) == want, (kind, what, path)

                for path, there in (("d/x", True), ("d/gone", True), ("d/new", False)):
                    sees("exists", path, there)
                sees("size", "d/x", 2)
                sees("size", "d", 4)
                sees("read", "d/x", "x\n")
                sees("sizes", "d", [["gone", 4], ["ln", 1], ["x", 2]])
                changes(root, opened, other)[kind]()
                looks = [
                    ("size", "d/x", 7),
                    ("exists", "d/gone", False),
                    ("exists", "d/new", True),
                    ("size", "d", 4),
                    ("read", "d/x", "longer\n"),
                    ("mapped", "d/x", "longer\n"),
                    ("listed", "d", ["list", "ln", "new", "x"]),
                    ("sizes", "d", [["ln", 1], ["new", 4], ["x", 7]]),
                    ("link", "d/ln", "t"),
                ]
                turned = turn % len(looks)
                for what, path, want in looks[turned:] + looks[:turned]:
                    sees(what, path, want)
        finally:
            reader.close()


def test_what_a_command_changes_besides_its_own_entry_is_seen(
    store: Path, mount: Mount, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel does not know these: the text of a number, a moved entry's new name, the names of a list."""
    monkeypatch.setenv("PERSIST_LEASES", "eager")
    with persist.open(store) as opened:
        root = opened.root
        mnt = mount(store)
        for turn in range(50):
            root["d"] = {"n": 5, "a": "a", "sub": {"x": "x"}}
            root["list"] = ["a", "b", "c"]
            for name in ("n", "a", "sub", "sub/x", "none"):
                with contextlib.suppress(FileNotFoundError):
                    os.stat(mnt / "d" / name)
            (mnt / "d" / "n").write_text("  0006 \n")
            assert os.stat(mnt / "d" / "n").st_size == 2 and root["d"]["n"] == 6
            # The name that an entry has got belongs to it until Python changes that name.
            os.rename(mnt / "d" / "a", mnt / "d" / "b")
            root["d"]["b"] = "longer"
            assert os.stat(mnt / "d" / "b").st_size == 7, turn
            os.rename(mnt / "d" / "sub", mnt / "moved")
            root["other"] = root.pop("moved")
            assert not os.path.exists(mnt / "moved"), turn
            assert os.stat(mnt / "other" / "x").st_size == 2
            assert [os.stat(mnt / "list" / name).st_size for name in "012"] == [2, 2, 2]
            os.unlink(mnt / "list" / "1")
            assert not os.path.exists(mnt / "list" / "1") and os.stat(mnt / "list").st_size == 2
            root["list"][1] = "longer"
            assert os.stat(mnt / "list" / "2").st_size == 7
            os.chmod(mnt / "d" / "b", 0o600)
            assert os.stat(mnt / "d" / "b").st_mode & 0o777 == 0o600
            os.setxattr(mnt / "d" / "n", "user.persist.type", b"str")
            assert root["d"]["n"] == "6"
            os.rmdir(mnt / "other") if not os.listdir(mnt / "other") else None
            assert sorted(os.listdir(mnt)) == ["d", "list", "other"]
            del root["other"]


def test_a_command_sees_its_own_changes_beside_readers(store: Path, mount: Mount) -> None:
    """Replies to the readers are under way when the entries change, and bring what was before."""
    mnt = mount(store)
    os.mkdir(mnt / "d")
    reader = (
        "import os, sys\nos.chdir(sys.argv[1])\nprint(flush=True)\nwhile True:\n"
        "    for name in 'abc':\n"
        "        try:\n            os.stat('d/' + name)\n        except FileNotFoundError:\n            pass\n"
        "    try:\n        [e.stat() for e in os.scandir('d')]\n    except FileNotFoundError:\n        pass\n"
    )
    command = [os.environ.get("PYTHON", "python3"), "-S", "-c", reader, str(mnt)]
    readers = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(3)]
    a, b, c = (mnt / "d" / name for name in "abc")
    try:
        for process in readers:
            assert process.stdout and process.stdout.readline()
        for turn in range(300):
            a.write_text("x" * (turn + 1))
            assert a.stat().st_size == turn + 1, turn
            os.truncate(a, 5)
            assert a.stat().st_size == 5, turn
            os.rename(a, b)
            assert not a.exists() and b.stat().st_size == 5, turn
            os.mkdir(a)
            assert a.is_dir() and (mnt / "d").stat().st_size == 2, turn
            os.rename(a, c)
            assert not a.exists() and c.is_dir(), turn
            os.unlink(b)
            os.rmdir(c)
            assert not b.exists() and not c.exists() and (mnt / "d").stat().st_size == 0, turn
    finally:
        for process in readers:
            process.kill()
            process.communicate()


def test_a_look_while_the_kernel_stores_a_reply_is_not_old(store: Path, mount: Mount) -> None:
    """The kernel marks attributes as valid before it has stored all of them, and answers others from them."""
    mnt = mount(store)
    os.mkdir(mnt / "d")
    looker = "import os, sys\nos.chdir(sys.argv[1])\nprint(flush=True)\nwhile True:\n    os.stat('d')\n"
    command = [os.environ.get("PYTHON", "python3"), "-S", "-c", looker, str(mnt)]
    lookers = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(2)]
    directory, entry = str(mnt / "d"), str(mnt / "d" / "a")

    def shown() -> tuple[int, int]:
        seen = os.stat(directory)
        return seen.st_size, seen.st_nlink

    try:
        for process in lookers:
            assert process.stdout and process.stdout.readline()
        for turn in range(6000):
            os.mkdir(entry)
            assert shown() == (1, 3), turn
            os.rmdir(entry)
            assert shown() == (0, 2), turn
    finally:
        for process in lookers:
            process.kill()
            process.communicate()


def test_a_directory_that_python_removes_is_not_shown_to_the_next_look(
    store: Path, mount: Mount, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread that runs late with its reply would extend the life of the name in the kernel."""
    monkeypatch.setenv("PERSIST_LEASES", "eager")
    mnt = mount(store)
    looker = (
        "import os, sys\nos.chdir(sys.argv[1])\nprint(flush=True)\nwhile True:\n"
        "    try:\n        os.stat('d')\n    except FileNotFoundError:\n        pass\n"
    )
    command = [os.environ.get("PYTHON", "python3"), "-S", "-c", looker, str(mnt)]
    lookers = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(2)]
    try:
        for process in lookers:
            assert process.stdout and process.stdout.readline()
        with persist.open(store) as opened:
            root = opened.root
            for turn in range(600):
                root["d"] = {"turn": turn}
                assert (mnt / "d" / "turn").read_text() == f"{turn}\n"
                del root["d"]
                assert not os.path.exists(mnt / "d"), turn
    finally:
        for process in lookers:
            process.kill()
            process.communicate()


def test_two_mounts_see_each_other(store: Path, mount: Mount, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERSIST_LEASES", "eager")
    one, two = mount(store, "one"), mount(store, "two")
    for turn in range(200):
        here, there = (one, two) if turn % 2 else (two, one)
        text = "x" * (turn % 17) + "\n"
        (here / "f").write_text(text)
        assert (there / "f").stat().st_size == len(text), turn
        assert (there / "f").read_text() == text
        os.rename(here / "f", here / "g")
        assert not (there / "f").exists() and (there / "g").exists()
        os.unlink(there / "g")
        assert not (here / "g").exists()


def test_python_changes_at_nearly_its_speed_what_the_mount_reads_all_the_time(
    store: Path, mount: Mount, capsys: pytest.CaptureFixture[str]
) -> None:
    """`+=` of an entry that another process stats without a pause, against the same with the mount idle."""
    mnt = mount(store)
    reader = "import os, sys\nwhile True:\n    os.stat(sys.argv[1])\n"
    with persist.open(store) as opened:
        root = opened.root
        root["n"] = 0

        def rate() -> float:
            begun, done = time.monotonic(), 0
            while time.monotonic() - begun < 0.3:
                for _ in range(1000):
                    root["n"] += 1
                done += 1000
            return done / (time.monotonic() - begun)

        idle = max(rate() for _ in range(3))
        command = [os.environ.get("PYTHON", "python3"), "-S", "-c", reader, str(mnt / "n")]
        process = subprocess.Popen(command)
        try:
            time.sleep(0)
            busy = max(rate() for _ in range(3))
        finally:
            process.kill()
            process.wait()
    with capsys.disabled():
        print(
            f"\n+= beside a reading mount: {busy / idle:.2f} of the idle one ({busy:,.0f}/s, {idle:,.0f}/s)"
        )
    assert busy > 0.2 * idle


def test_unchanged_files_are_faster_than_without_leases(
    store: Path, mount: Mount, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PERSIST_LEASES", "off")
    without = mount(store, "without")
    monkeypatch.setenv("PERSIST_LEASES", "")
    leased = mount(store, "leased")
    deep = "/".join("abcdefghij")
    with persist.open(store) as opened:
        opened.root.update({"files": {f"f{n}": f"text {n}" for n in range(1000)}, "a": {}})
    (leased / deep).mkdir(parents=True)
    (leased / deep / "x").write_text("text\n")

    def stat(top: Path) -> None:
        for n in range(1000):
            os.stat(top / "files" / f"f{n}")

    def read(top: Path) -> None:
        for n in range(1000):
            (top / "files" / f"f{n}").read_bytes()

    def in_the_deep(top: Path) -> None:
        for _ in range(300):
            os.stat(top / deep / "x")

    def listed(top: Path) -> None:
        with os.scandir(top / "files") as entries:
            assert sum(entry.stat().st_size for entry in entries) > 0

    def took(work: Callable[[Path], None], top: Path) -> float:
        begun = time.monotonic()
        work(top)
        return time.monotonic() - begun

    told = []
    for work in (stat, in_the_deep, read, listed):
        pairs = [(took(work, without), took(work, leased)) for _ in range(5)]
        ratio = min(p[0] for p in pairs) / min(p[1] for p in pairs)
        told.append(f"{work.__name__} {ratio:.1f}")
        assert ratio > 1 or work in (read, listed), told
    with capsys.disabled():
        print(f"\nas fast as without leases, times: {', '.join(told)}")
