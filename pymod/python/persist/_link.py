"""The type of a symbolic link that is not a reference to a container."""


class Link(str):
    """The target of a symbolic link, as a str.

    A symlink of the mount that refers to a dict, list or object is a further reference to it. Every
    other one (to a file, to nothing yet, out of the mount) is a Link, and a Link that is stored is
    such a symlink. It equals a str of its text. Bytes that are not UTF-8 are in it as
    `os.fsdecode` returns them. A target has 1 to 4095 bytes and no NUL.

    >>> root['latest'] = persist.Link('logs/2026-11-29')
    """

    __slots__ = ()
    __module__ = "persist"

    def __repr__(self):
        return f"persist.Link({str.__repr__(self)})"
