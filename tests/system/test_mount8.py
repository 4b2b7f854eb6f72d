"""mount(8), umount(8) and fstab, with the helpers that scripts/install installs."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from acceptance import BIN, DEADLINE, TOP
from mount_namespace import inside


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
# Another store over it, and the same store elsewhere, are not mistakes.
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
# The names of items may have been renumbered, but none means another item.
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
