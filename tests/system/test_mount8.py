"""mount(8), umount(8), fstab and the installation, with the helpers that scripts/install installs.

The helpers belong to /sbin, and fstab to /etc: each test runs in a mount namespace of its own, in which these are
overlaid, so that the machine is not changed. There is no systemd in the namespace: lines of fstab are mounted by
`mount DIR`, and options for systemd must only be accepted.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from acceptance import BIN, DEADLINE, TOP, clean_env, need_fuse

PROGRAMS = ("persist", "mount.persist")
HELPERS = ("mount.persist", "umount.persist", "mount.fuse.persist", "umount.fuse.persist")
# What each test begins with: a place for the installation, a store, a directory to mount it on.
BEGIN = r"""
set -eu
cd "$1"
for dir in /usr/sbin /etc /usr/local; do
    name=${dir//\//_}
    mkdir -p layers/$name.upper layers/$name.work
    mount -t overlay -o "lowerdir=$dir,upperdir=layers/$name.upper,workdir=layers/$name.work" none $dir
done
"$2/scripts/install" >install.log 2>&1 || { cat install.log; exit 9; }
export PATH=/usr/local/bin:/usr/sbin:/sbin:$PATH
mkdir -p mnt
python -c "import persist; r = persist.root('s.store'); r['n'] = 5; r['t'] = 'text'; r['d'] = {}"
shown() { grep " $PWD/mnt " /proc/mounts; }
get() { persist get s.store "$1"; }
# fails CODE PATTERN COMMAND...: the command fails with this status, and says this.
fails() {
    code=0 wanted=$1 pattern=$2
    shift 2
    "$@" >said 2>&1 || code=$?
    if [ $code != "$wanted" ] || ! grep -qE -- "$pattern" said; then
        echo "$*: status $code, and said:"; cat said; exit 8
    fi
}
# fuse_for_all: other users may make mounts too.
fuse_for_all() { mknod -m 666 fuse c 10 229; mount --bind fuse /dev/fuse; }
end() { umount -l mnt 2>/dev/null || true; }
trap end EXIT
"""


def helped() -> None:
    need_fuse()
    if os.geteuid() != 0:
        pytest.skip("mount(8) needs root")


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """Return a directory that other users can enter, on a filesystem of its own that can be overlaid."""
    helped()
    base = tmp_path / "home"
    base.mkdir()
    for directory in (base, *base.parents):
        if directory.owner() == "root" and directory != Path("/") and not directory.stat().st_mode & 0o1:
            directory.chmod(directory.stat().st_mode | 0o011)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "persist-test", base], check=True, timeout=DEADLINE)
    yield base
    subprocess.run(["umount", "-l", base], check=False, timeout=DEADLINE)


def inside(home: Path, script: str) -> str:
    """Run a script in namespaces of its own. Its processes, the mounts' included, end with it."""
    argv = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "bash", "-c", BEGIN + script]
    done = subprocess.run(
        [*argv, "bash", home, TOP], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, timeout=DEADLINE, env=clean_env(), cwd="/",
    )  # fmt: skip
    assert done.returncode == 0, f"ended with {done.returncode}\n{done.stdout}"
    return done.stdout


# --- the installation --------------------------------------------------------------------------


def files(top: Path) -> set[str]:
    return {str(p.relative_to(top)) for p in top.rglob("*")}


def call(script: str, *args: object, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [TOP / "scripts" / script, *map(str, args)], capture_output=True, text=True, timeout=DEADLINE,
        env={**clean_env(), **env},
    )  # fmt: skip


def test_installation_into_a_prefix(tmp_path: Path) -> None:
    dest = tmp_path / "dest"
    dest.mkdir()
    before = files(dest)
    done = call("install", "--prefix", "/opt/persist", DESTDIR=str(dest))
    assert done.returncode == 0, done.stderr
    for name in PROGRAMS:
        path = dest / "opt/persist/bin" / name
        assert path.read_bytes() == (BIN / name).read_bytes() and path.stat().st_mode & 0o777 == 0o755
    sbin = "usr/sbin" if os.path.islink("/sbin") else "sbin"
    for name in HELPERS:
        assert os.readlink(dest / sbin / name) == "/opt/persist/bin/mount.persist"
    for page in ("man8/mount.persist.8", "man8/umount.persist.8", "man1/persist.1"):
        assert (dest / "opt/persist/share/man" / page).stat().st_mode & 0o777 == 0o644
    assert (dest / "opt/persist/share/doc/persist/SEMANTICS.md").exists()
    # The list names every file, and the scripts' help names the options.
    listed = (dest / "opt/persist/share/persist/installed").read_text()
    for path in files(dest):
        assert f"\t/{path}\t" in listed or path.endswith("share/persist/installed"), path
    # Once more: nothing is refused, nothing is added.
    there = files(dest)
    assert call("install", "--prefix=/opt/persist", DESTDIR=str(dest)).returncode == 0
    assert files(dest) == there
    done = call("uninstall", "--prefix", "/opt/persist", DESTDIR=str(dest))
    assert done.returncode == 0, done.stderr
    assert files(dest) == before


def test_what_others_put_there_stays(tmp_path: Path) -> None:
    dest = tmp_path / "dest"
    other = dest / "opt/persist/bin/persist"
    other.parent.mkdir(parents=True)
    (other.parent / "mine").touch()
    other.write_text("another program")
    done = call("install", "--prefix", "/opt/persist", DESTDIR=str(dest))
    assert done.returncode == 1 and f"{other} is there" in done.stderr and "--force" in done.stderr
    assert other.read_text() == "another program" and not (other.parent / "mount.persist").exists()
    assert call("install", "--prefix", "/opt/persist", "--force", DESTDIR=str(dest)).returncode == 0
    page = dest / "opt/persist/share/man/man1/persist.1"
    page.write_text("changed by hand")
    done = call("uninstall", "--prefix", "/opt/persist", DESTDIR=str(dest))
    assert done.returncode == 1 and str(page) in done.stderr
    left = {p for p in files(dest) if (dest / p).is_file() or (dest / p).is_symlink()}
    assert left == {"opt/persist/bin/mine", "opt/persist/share/man/man1/persist.1"}
    done = call("uninstall", "--prefix", "/opt/persist", DESTDIR=str(dest))
    assert done.returncode == 1 and "installed is missing" in done.stderr


@pytest.mark.parametrize("script", ["install", "uninstall"])
def test_help_and_mistakes_of_the_scripts(script: str, tmp_path: Path) -> None:
    done = call(script, "--help")
    assert done.returncode == 0 and f"scripts/{script} [--prefix DIR]" in done.stdout
    for args, part in ((["--prefx", "/x"], "--prefx"), (["--prefix"], "directory"), (["--prefix", "x"], "absolute")):
        done = call(script, *args, DESTDIR=str(tmp_path))
        assert done.returncode == 1 and part in done.stderr, (args, done)
    assert files(tmp_path) == set()


def test_man_finds_the_pages(home: Path) -> None:
    out = inside(
        home,
        """
export MANPAGER=cat
said() { man $1 | col -bx | tr -s ' ' >page; grep -qF -- "$2" page || { cat page; exit 7; }; }
said '8 mount.persist' 'mount.persist - '
said '8 umount.persist' 'umount.persist - '
said '1 persist' 'persist - '
man -w 8 mount.persist
for part in lockwait= SEMANTICS.md allow_root x-...; do said '8 mount.persist' $part; done
""",
    )
    assert "/man8/mount.persist.8" in out


def test_uninstalled_again(home: Path) -> None:
    inside(
        home,
        """
"$2/scripts/uninstall"
! ls /usr/sbin/*persist* 2>/dev/null
test -z "$(find /usr/local -name '*persist*')"
fails 32 'unknown filesystem type' mount -t persist s.store mnt
""",
    )


# --- mount(8) ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["persist", "fuse.persist"])
def test_mount_by_type(home: Path, kind: str) -> None:
    inside(
        home,
        f"""
mount -t {kind} s.store mnt
shown | grep -q "^$PWD/s.store $PWD/mnt fuse.persist rw,nosuid,nodev"
test "$(cat mnt/n)" = 5
echo 6 > mnt/n
umount mnt
# The helper has waited: no process has the store open.
test ! -e /proc/[0-9]*/fd/999 && ! ls -l /proc/[0-9]*/fd 2>/dev/null | grep -q s.store
test "$(get n)" = 6
mount -v -n -t {kind} -o ro,noexec s.store mnt
shown | grep -q " ro,nosuid,nodev,noexec"
fails 1 'Read-only' bash -c 'echo 7 > mnt/n'
umount -v mnt
""",
    )


def test_helpers_under_other_names(home: Path) -> None:
    inside(
        home,
        """
mount.fuse.persist s.store mnt -o rw
umount.persist mnt -v -n
mount.persist s.store "$PWD/mnt" -s -n -v -o rw,unknown=1 -t fuse.persist
umount.fuse.persist mnt -t fuse.persist
fails 32 mnt umount.persist mnt
fails 1 MOUNTPOINT umount.persist
umount.persist --help | grep -q 'Usage: umount.persist'
umount.persist --version | grep -q '^umount.persist 0'
mount.fuse.persist --version | grep -q '^mount.persist 0'
""",
    )


def test_exit_codes(home: Path) -> None:
    inside(
        home,
        """
fails 32 'missing.store does not exist; the mount option create' mount -t persist missing.store mnt
test ! -e missing.store
fails 1 "unknown mount option 'colour=red'; there are .*lockwait=SECONDS.*nodiratime" \
    mount -t persist -o colour=red s.store mnt
fails 1 "lockwait=SECONDS: 'soon' is not a number of seconds" mount -t persist -o lockwait=soon s.store mnt
fails 1 "uid=USER: 'no-such' is neither a number nor the name of a user" mount -t persist -o uid=no-such s.store mnt
fails 1 'exclude each other' mount -t persist -o allow_other,allow_root s.store mnt
fails 32 'not a directory' mount -t persist s.store "$PWD/said"
echo garbage > garbage; fails 32 'garbage' mount -t persist garbage mnt
mount -s -t persist -o colour=red s.store mnt; umount mnt
""",
    )


def test_fake(home: Path) -> None:
    inside(
        home,
        """
mount -f -t persist s.store mnt
mount.persist s.store mnt -f -o rw
! shown
fails 32 'does not exist' mount.persist missing.store mnt -f
fails 1 unknown mount.persist s.store mnt -f -o nonsense
mount.persist -o create missing.store mnt -f
test ! -e missing.store
""",
    )


def test_create(home: Path) -> None:
    inside(
        home,
        """
mount -t persist -o create new.store mnt
echo x > mnt/a; umount mnt; test "$(persist get new.store a)" = x
fails 32 'read-only mount makes no store' mount -t persist -o create,ro other.store mnt
mount -t persist -o create new.store mnt; test "$(cat mnt/a)" = x; umount mnt
""",
    )


def test_over_its_own_mount(home: Path) -> None:
    inside(
        home,
        """
mount -t persist s.store mnt
fails 32 "s.store is mounted on $PWD/mnt already" mount -t persist s.store mnt
ln s.store linked.store
fails 32 "linked.store is mounted on $PWD/mnt already" mount.persist linked.store mnt
rm linked.store
fails 32 "mnt/d belongs to the mount of .*s.store on $PWD/mnt" mount -t persist s.store mnt/d
test "$(shown | wc -l)" = 1
# Another store over it, and the same store elsewhere, are no mistakes.
mkdir second; mount -t persist s.store second; test "$(cat second/n)" = 5; umount second
mount -t persist -o create other.store mnt; umount mnt; test "$(cat mnt/n)" = 5
umount mnt
""",
    )


def test_remount(home: Path) -> None:
    inside(
        home,
        """
mount -t persist s.store mnt
echo 6 > mnt/n; printf long > mnt/new
exec 8<mnt/t
mount -o remount,ro mnt
shown | grep -q ' ro,nosuid,nodev'
for change in 'echo 7 > mnt/n' 'mkdir mnt/x' 'rm mnt/n' 'touch mnt/n' 'chmod 600 mnt/n' 'mv mnt/n mnt/m' \
    'setfattr -n user.a -v b mnt/n' 'ln -s n mnt/l' 'mkdir mnt/.persist/snapshots/s'; do
    fails 1 'Read-only file system' bash -c "$change"
done
# The store is closed for writing: the file alone has everything.
cp s.store copy.store
test "$(persist get copy.store n)" = 6 && test "$(persist get copy.store new)" = long
test "$(cat <&8)" = text; exec 8<&-
# Python changes it, and the mount shows that.
python -c "import persist; persist.root('s.store')['n'] = 8"; test "$(cat mnt/n)" = 8
mount -o remount,rw mnt
shown | grep -q ' rw,nosuid,nodev'
echo 9 > mnt/n; mkdir mnt/d/e
python -c "import persist; r = persist.root('s.store'); assert r['n'] == 9 and r['d'] == {'e': {}}, r; r['n'] = 10"
test "$(cat mnt/n)" = 10
# A writer keeps it from becoming read-only.
exec 9>>mnt/t
fails 32 busy mount -o remount,ro mnt
echo more >&9; exec 9>&-
mount -o remount,ro mnt; umount mnt
python -c "import persist; assert persist.root('s.store')['t'] == 'text\\nmore'"
""",
    )


def test_remount_of_a_mount_that_was_made_read_only(home: Path) -> None:
    inside(
        home,
        """
python -c "import persist; persist.root('s.store')['l'] = ['a', 'b', 'c']"
mount -t persist -o ro s.store mnt
cd mnt/d; ls ../l
mount -o remount,rw "$OLDPWD/mnt"
shown() { grep " $OLDPWD/mnt " /proc/mounts; }
shown | grep -q ' rw,'
# The names of items may have been dealt again, but none means another item.
echo x > file; rm "../l/$(grep -l b ../l/* | head -c 6 | tail -c 1)"
test "$(python -c "import persist; print(persist.root('$OLDPWD/s.store')['l'])")" = "['a', 'c']"
cd ../..
umount mnt; test "$(get d/file)" = x
mount -t persist -o ro s.store mnt
mv s.store away; cp away s.store
fails 32 'another file is at the path of the store' mount -o remount,rw mnt
rm s.store
fails 32 'another file|No such file' mount -o remount,rw mnt
shown() { grep " $PWD/mnt " /proc/mounts; }
mv away s.store; shown | grep -q ' ro,'; test "$(cat mnt/n)" = 5
umount mnt
persist snapshot s.store s
mount -t persist -o snapshot=s s.store mnt
fails 32 'Read-only' mount -o remount,rw mnt
shown | grep -q ' ro,'
""",
    )


def test_remount_mistakes(home: Path) -> None:
    inside(
        home,
        """
fails 32 'no store is mounted there' mount.persist s.store mnt -o remount,ro
mount -t persist s.store mnt
cp s.store other.store
fails 32 "the store there is $PWD/s.store, not $PWD/other.store" mount.persist other.store mnt -o remount,ro
fails 1 'user_id=0' mount.persist other.store mnt -o user_id=0
exec 9<mnt/t; flock -s 9
fails 32 'locks are held' mount -o remount,ro mnt
shown | grep -q ' rw,'
flock -u 9
mount -o remount,ro mnt; shown | grep -q ' ro,'
# Other options stay as they were named.
mount -o remount,rw,noexec mnt; shown | grep -q ' rw,nosuid,nodev,noexec'
exec 9<&-
fails 1 'only root' setpriv --reuid 1234 --clear-groups mount.persist s.store / -o remount,ro
""",
    )


def test_sync_is_durable_at_close(home: Path) -> None:
    """With max_age=none nothing but `sync` makes changes durable. What is there after the death of all processes and
    without the shared memory is what a power cut leaves.
    """
    inside(
        home,
        """
cut() { kill -9 $(sed -n 's/^pid //p' mnt/.persist/stat); umount -l mnt; rm -f s.store-shm; }
mount -t persist -o max_age=none s.store mnt
echo 6 > mnt/n; cut
test "$(get n)" = 5
mount -t persist -o max_age=none s.store mnt
mount -o remount,sync mnt
shown | grep -q ' rw,sync,'
echo 7 > mnt/n; printf new > mnt/new; cut
test "$(get n)" = 7 && test "$(get new)" = new
mount -t persist -o sync,durability=none s.store mnt
shown | grep -q ' rw,sync,'
echo 8 > mnt/n; cut
test "$(get n)" = 8
mount -t persist -o sync,max_age=none s.store mnt
mount -o remount,async mnt; shown | grep -q ' rw,nosuid'
echo 9 > mnt/n; cut
test "$(get n)" = 8
""",
    )


def test_owners_by_name_and_other_users(home: Path) -> None:
    inside(
        home,
        """
fuse_for_all
useradd -u 4321 -M joe; groupadd -g 4444 friends; useradd -u 4322 -M ann
mount -t persist -o uid=joe,gid=friends,allow_root s.store mnt
test "$(stat -c '%U %G' mnt/n)" = 'joe friends'
fails 1 'Permission denied' setpriv --reuid ann --clear-groups cat mnt/n
umount mnt
# allow_root: of a mount that another user made, root reads, and a third user does not.
chown -R joe: s.store* mnt; mkdir own; cp -a s.store own/; chown -R joe: own mnt
echo user_allow_other >> /etc/fuse.conf; chmod u+s "$(command -v fusermount3)" || true
setpriv --reuid joe --regid joe --clear-groups mount.persist own/s.store mnt -o allow_root
test "$(cat mnt/n)" = 5
test "$(setpriv --reuid joe --clear-groups cat mnt/n)" = 5
fails 1 'Permission denied' setpriv --reuid ann --clear-groups cat mnt/n
umount mnt
setpriv --reuid joe --regid joe --clear-groups mount.persist own/s.store mnt
fails 1 'Permission denied' cat mnt/n
umount mnt
""",
    )


def test_lines_of_fstab(home: Path) -> None:
    inside(
        home,
        """
line() { printf '%s\\n' "$PWD/$1 $PWD/mnt persist $2 0 0" > /etc/fstab; }
for options in noauto,user nofail _netdev,nofail,noatime defaults x-systemd.automount,x-systemd.idle-timeout=5 \
    allow_other,max_age=2,nofail auto,users,exec owner group,comment=mine create,sync,x-mount.mkdir; do
    line s.store $options
    mount mnt
    test "$(cat mnt/n)" = 5
    umount mnt
done
# nofail hides only that a store does not exist, from `mount -a`; it is then told, and boot goes on.
line missing.store nofail; mount -a || true; ! shown
line s.store nofail; mount -a; shown >/dev/null; umount mnt
fuse_for_all
mkdir own; cp s.store own/; useradd -u 4321 -M joe; chown -R joe: own mnt
line own/s.store noauto,user
setpriv --reuid joe --regid joe --clear-groups mount mnt
shown | grep -q 'nosuid,nodev,noexec.*user_id=4321'
test "$(setpriv --reuid joe --regid joe --clear-groups cat mnt/n)" = 5
setpriv --reuid joe --regid joe --clear-groups umount mnt
! shown
""",
    )


# --- the end of a mount ------------------------------------------------------------------------

WRITERS = """
mount -t persist s.store mnt
exec 5>mnt/fresh; printf fresh >&5
exec 6>>mnt/t; printf more >&6
exec 7>mnt/n; printf 77 >&7
python -c "
import os, sys, time
f = open('mnt/d/big', 'wb'); f.write(b'x' * 3000000); f.flush()
g = open('mnt/t2', 'w'); g.write('half'); g.flush()
print('written', flush=True)
time.sleep(1000)" >python.log & child=$!
until grep -q written python.log; do sleep 0.01; done
"""
READ = """
python -c "
import persist
r = persist.root('s.store')
assert r['fresh'] == 'fresh' and r['t'] == 'text\\nmore' and r['n'] == 77, [r['fresh'], r['t'], r['n']]
assert r['d']['big'] == 'x' * 3000000, len(r['d']['big'])
assert r['t2'] == 'half', r['t2']"
"""


@pytest.mark.parametrize("signal", ["TERM", "INT", "HUP"])
def test_a_signal_stores_what_open_files_hold(home: Path, signal: str) -> None:
    inside(
        home,
        f"""{WRITERS}
daemon=$(sed -n 's/^pid //p' mnt/.persist/stat)
kill -{signal} $daemon
while kill -0 $daemon 2>/dev/null; do sleep 0.01; done
! shown
kill $child; exec 5>&- 6>&- 7>&- || true
{READ}""",
    )


def test_umount_while_files_are_open(home: Path) -> None:
    inside(
        home,
        f"""{WRITERS}
daemon=$(sed -n 's/^pid //p' mnt/.persist/stat)
fails 32 busy umount mnt
umount -l mnt
! shown
printf e >&6; kill $child; exec 5>&- 6>&- 7>&-
while kill -0 $daemon 2>/dev/null; do sleep 0.01; done
{READ.replace("more", "moree")}""",
    )


def test_umount_by_force_beside_a_stopped_process(home: Path) -> None:
    inside(
        home,
        """
mount -t persist s.store mnt
echo 6 > mnt/n
daemon=$(sed -n 's/^pid //p' mnt/.persist/stat)
kill -STOP $daemon
cat mnt/t >/dev/null 2>&1 & reader=$!
timeout 20 umount -f mnt || timeout 20 umount -l mnt
wait $reader && exit 7
! shown
kill -CONT $daemon
while kill -0 $daemon 2>/dev/null; do sleep 0.01; done
test "$(get n)" = 6
""",
    )


LOG = """
import os, socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind('/dev/log')
os.chmod('/dev/log', 0o666)
print('ready', flush=True)
while True:
    print(s.recv(65536).decode(), flush=True)
"""


def test_what_fails_at_close_is_logged_with_path_and_reason(home: Path) -> None:
    """In the background messages go to the system log, which is a socket: here one that the test reads."""
    (home / "log.py").write_text(LOG)
    out = inside(
        home,
        """
mkdir dev; mount -t tmpfs none dev
for node in fuse null zero urandom; do touch dev/$node; mount --bind /dev/$node dev/$node; done
mkdir dev/shm; mount --rbind dev /dev
python log.py >log & until grep -q ready log; do sleep 0.01; done
python -c "import persist; r = persist.root('s.store'); r['l'] = [1, 2]; r['a b'] = {'deep': 1.5}"
mount -t persist s.store mnt
(echo six > mnt/n) 2>/dev/null || true
(echo six > mnt/l/1) 2>/dev/null || true
(echo six > 'mnt/a b/deep') 2>/dev/null || true
for name in n l/1 'a b/deep'; do
    until grep -qF "$PWD/mnt/$name: " log; do sleep 0.01; done
done
cat log
umount mnt
mount.persist s.store mnt --foreground 2>front & daemon=$!
until shown; do sleep 0.01; done
(echo six > mnt/n) 2>/dev/null || true
until grep -qF "$PWD/mnt/n: what was written is not stored: " front; do sleep 0.01; done
umount mnt; wait $daemon
""",
    )
    lines = re.findall(r"mount\.persist: (\S.*): what was written is not stored: (.*)", out)
    assert [reason for _, reason in lines] and all("EINVAL" in reason for _, reason in lines), out


def test_every_option_is_explained(home: Path) -> None:
    """`--help` and the manual page name every option of the table, and README's table is the same."""
    readme = (TOP / "README.md").read_text(encoding="utf-8")
    table = readme.split("<!-- mount options: generated")[1].split("<!-- end of mount options")[0]
    rows = re.findall(r"^\| `([a-z_]+)", table, re.M)
    assert {"create", "allow_root", "sync", "uid", "remount", "lockwait"} <= set(rows)
    done = subprocess.run([BIN / "mount.persist", "--help"], capture_output=True, text=True, timeout=DEADLINE)
    page = (TOP / "fuse/mount.persist.8").read_text(encoding="utf-8").replace(r"\-", "-")
    assert done.returncode == 0 and done.stderr == ""
    for option in rows:
        assert re.search(rf"^  (.*\b)?{option}\b", done.stdout, re.M), option
        assert re.search(rf"\\fB(.*\b)?{option}\b", page), option
    for accepted in ("noauto", "user", "nofail", "_netdev", "x-..."):
        assert accepted in done.stdout and accepted in page
