"""The differential test's rules: what may differ between a tmpfs and the mount.

1. A program is a list of steps that derives from its seed alone (`differential_programs`). Each step is one system
   call (or a short fixed series of them), made by one of several processes (`differential_worker`), first on a tmpfs
   and then on the mount. Results and errnos must agree.
2. A process is confined by chroot to the tree in which it makes the call, so no link leads out, and a link means the
   same in both trees.
3. What the mount does differently by its rules (fuse/SEMANTICS.md) is left out in one place, `Differences`.
"""

from __future__ import annotations

from typing import Any

TREES = ("tmpfs", "mnt")
NOREPLACE, EXCHANGE = 1, 2
Step = tuple[Any, ...]


class Differences:
    """What SEMANTICS.md documents, and how the test leaves it out."""

    # Files, rule 3: content that is built aside is seen by others when it is closed. A file is made and truncated by
    # an open in one step with its writes and its close.
    BUILT_ASIDE = ("make", "overwrite")
    # Files, rule 1: bytes that are not UTF-8 are not a str. Texts are ASCII, and files of bytes begin as such.
    TEXT = b"abcdefghij \n0123456789"
    BYTES = b"\xff\xfe\x00"
    COPY = "left out: a copy out of a file of bytes"
    # Files, rule 7: a descriptor that reads on after the value was replaced reads the value that it began with.
    ONE_VALUE = "a read at the beginning, before each read"
    # Locks, rule 2: an exclusive flock needs a descriptor that is open for writing.
    EXCLUSIVE_NEEDS_WRITING = "left out: an exclusive flock without permission to write"
    # Symbolic links, rule 1: a link to a directory is a reference, whose text follows when the link or a directory is
    # renamed. Programs have links to directories, or renames of links and directories.
    REFERENCES = "left out: a rename of a directory or a link beside links to directories"
    # Lists, rules 2 and 5: a list has numbers and the names of temporary files and backups.
    NOT_IN_A_LIST = "left out: a name that a list cannot have"
    # Locks, rule 2: the items of a list count as one file. Programs have locks or lists.
    # The sizes and blocks of directories, inode numbers and device numbers mean nothing elsewhere; times are those of
    # the change, unless a tool set them (rule 2 of modes, owners, times and attributes): they are compared right after
    # they are set.
    STAT = ("st_mode", "st_uid", "st_gid")
    # What the graph cannot hold: hard links, fifos, sockets, devices, attributes other than `user.`. They are not made.
    NOT_MADE = ("link", "mkfifo", "mknod", "trusted.", "security.")
