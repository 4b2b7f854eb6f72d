"""The mount helper: arguments, early failures, umount, signals."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

from conftest import Mount, binary, run, wait_until


def attempt(*args: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([binary(), *map(str, args)], capture_output=True, text=True, timeout=100)


def test_failures_are_reported_at_once(tmp_path: Path) -> None:
    (tmp_path / "mnt").mkdir()
    (tmp_path / "garbage").write_bytes(b"no store" * 1000)
    for args, code, why in (
        ((), 1, "Usage"),
        (("x",), 1, "Usage"),
        ((tmp_path / "s", tmp_path / "mnt", "-o", "nonsense"), 1, "unknown mount option 'nonsense'"),
        ((tmp_path / "s", tmp_path / "missing", "-o", "create"), 32, "/missing does not exist: make this directory"),
        ((tmp_path / "garbage", tmp_path / "mnt"), 32, "/garbage: not a persist store"),
        ((tmp_path / "none/s", tmp_path / "mnt", "-o", "create"), 32, "/none/s"),
        ((tmp_path / "missing", tmp_path / "mnt"), 32, "/missing does not exist; the mount option create"),
        ((tmp_path / "missing", tmp_path / "mnt", "-o", "ro,create"), 32, "/missing does not exist, and a read-only"),
        ((tmp_path / "s", tmp_path / "garbage", "-o", "create"), 32, "/garbage is not a directory: choose"),
    ):
        done = attempt(*args)
        assert done.returncode == code, (args, done)
        assert why in done.stderr, (args, done.stderr)
        assert not os.path.ismount(tmp_path / "mnt")


def test_help_and_version() -> None:
    for arg, part in (
        ("--help", "lockwait=SECONDS"),
        ("-h", "durability=commit"),
        ("--version", "mount.persist 0."),
    ):
        done = subprocess.run([binary(), arg], capture_output=True, text=True, timeout=100)
        assert done.returncode == 0 and part in done.stdout and not done.stderr, done


def test_mistakes_are_named(tmp_path: Path) -> None:
    for option, parts in (
        ("colour=red", ("'colour=red'", "lockwait=SECONDS", "exact", "noatime")),
        ("lockwait=soon", ("lockwait=SECONDS", "'soon'")),
        ("snapshot", ("snapshot=NAME",)),
    ):
        done = attempt(tmp_path / "s", tmp_path, "-o", option)
        assert done.returncode == 1 and all(part in done.stderr for part in parts), done
        assert not (tmp_path / "s").exists()


def test_failures_with_closed_output(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [binary(), str(tmp_path / "s"), str(tmp_path / "missing")], stderr=write, timeout=100
    )
    os.close(write)
    assert done.returncode == 32


def test_what_is_mounted(mnt: Mount) -> None:
    line = next(x for x in Path("/proc/mounts").read_text().splitlines() if f" {mnt.path} " in x)
    assert line.split()[0] == str(mnt.store)
    assert line.split()[2] == "fuse.persist"
    assert "nosuid" in line and "nodev" in line


def test_umount_keeps_everything(mnt: Mount) -> None:
    mnt.sh("mkdir d; for i in $(seq 200); do echo $i > d/$i; done")
    mnt.again()
    assert mnt.sh("cat d/200; ls d | wc -l") == "200\n200\n"


def test_umount_again_and_again(mnt: Mount) -> None:
    for n in range(5):
        mnt.sh(f"echo {n} > f")
        mnt.again()
        assert mnt.sh("cat f") == f"{n}\n"


def test_sigterm_unmounts(mnt: Mount) -> None:
    mnt.sh("echo x > f")
    for pid in mnt.pids():
        os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not mnt.pids(), "the process to end")
    assert not os.path.ismount(mnt.path)
    mnt.up()
    assert mnt.sh("cat f") == "x\n"


def test_sigterm_while_in_use(mnt: Mount) -> None:
    with open(mnt.path / "f", "w") as f:
        f.write("written\n")
        f.flush()
        for pid in mnt.pids():
            os.kill(pid, signal.SIGTERM)
        wait_until(lambda: not mnt.pids(), "the process to end")
        assert not os.path.ismount(mnt.path)
        # Only the mount process can report that it failed.
        try:
            f.close()
        except OSError:
            pass
    mnt.up()
    assert mnt.sh("cat f") == "written\n"


def test_kill_9_keeps_what_was_closed(mnt: Mount) -> None:
    mnt.sh("for i in $(seq 100); do echo $i > k$i; done")
    for pid in mnt.pids():
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not mnt.pids(), "the process to end")
    again = attempt(mnt.store, mnt.path)
    assert again.returncode == 32
    assert f"{mnt.path}: the process of the mount that is there has died: umount it first" in again.stderr
    subprocess.run(["umount", str(mnt.path)], check=True, timeout=100)
    mnt.up()
    assert mnt.sh("ls | wc -l; cat k100") == "100\n100\n"


def test_foreground(tmp_path: Path) -> None:
    (tmp_path / "mnt").mkdir()
    child = subprocess.Popen(
        [binary(), str(tmp_path / "s"), str(tmp_path / "mnt"), "--foreground", "-o", "create"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        wait_until(lambda: os.path.ismount(tmp_path / "mnt"), "the mount")
        subprocess.run(["umount", str(tmp_path / "mnt")], check=True, timeout=100)
        assert child.wait(20) == 0
    finally:
        child.kill()
        child.communicate()


def test_read_only(mounts) -> None:  # type: ignore[no-untyped-def]
    mnt = mounts()
    mnt.sh("echo x > f")
    mnt.down()
    mnt.options = "ro"
    mnt.up()
    assert mnt.sh("cat f; ls") == "x\nf\n"
    assert "Read-only" in mnt.fails("echo y > f")


def test_owner_options(mounts) -> None:  # type: ignore[no-untyped-def]
    mnt = mounts("a", "uid=12,gid=34,umask=077")
    mnt.sh("mkdir d; (umask 077; echo x > f)")
    status = (mnt.path / "f").stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (12, 34, 0o600)


def test_others_are_kept_out(mnt: Mount) -> None:
    mnt.sh("echo x > f")
    done = run(f"setpriv --reuid 1234 --clear-groups cat {mnt.path}/f", Path("/"), check=False)
    assert done.returncode != 0 and "Permission denied" in done.stderr


def test_allow_other(mounts, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    mnt = mounts("a", "allow_other")
    mnt.sh("echo x > f; chmod 600 f; echo y > g")
    for directory in [tmp_path, *tmp_path.parents][:3]:
        directory.chmod(0o755)
    as_other = "setpriv --reuid 1234 --clear-groups"
    assert run(f"{as_other} cat {mnt.path}/g", Path("/")).stdout == "y\n"
    done = run(
        f"{as_other} cat {mnt.path}/f || {as_other} sh -c 'echo z > {mnt.path}/g'", Path("/"), check=False
    )
    assert done.returncode != 0


def test_umount_helper_mount8(mnt: Mount) -> None:
    """mount(8)'s own umount succeeds."""
    mnt.sh("ls")
    done = run(f"umount {mnt.path} && ! mountpoint -q {mnt.path}", Path("/"), check=False)
    assert done.returncode == 0, done.stderr


def test_the_umount_helper_waits(mnt: Mount, tmp_path: Path) -> None:
    helper = tmp_path / "umount.persist"
    helper.symlink_to(binary())
    mnt.sh("head -c 3000000 /dev/urandom > big")
    done = subprocess.run([str(helper), str(mnt.path)], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert not mnt.pids() and not mnt.mounted()
    done = subprocess.run([str(helper), str(mnt.path)], capture_output=True, text=True, timeout=100)
    assert done.returncode == 32 and done.stderr
    mnt.up()
