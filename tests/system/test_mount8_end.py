"""mount(8): what is stored when a mount ends, and what is logged."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from mount_namespace import inside

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


def test_an_error_of_the_store_is_logged_with_its_path(home: Path) -> None:
    inside(
        home,
        """
mkdir small; mount -t tmpfs -o size=8m none small
mount.persist small/s.store mnt -o create --foreground 2>front & daemon=$!
until shown; do sleep 0.01; done
touch mnt/big
head -c 20M /dev/zero >small/ballast 2>/dev/null || true
(head -c 900000 /dev/urandom >mnt/big) 2>/dev/null || true
line="$PWD/mnt/big: what was written is not stored: $PWD/small/s.store: no space left for the store"
until grep -qF "$line" front; do sleep 0.01; done
rm small/ballast
umount mnt; wait $daemon
""",
    )
