"""Nested directories, deeper than any path: walked, read and removed by the usual tools (P6)."""

from __future__ import annotations

import errno
import os
from typing import Callable

import persist
import pytest
from conftest import Mount

LEVELS = 2200


def test_nested_deep(mounts: Callable[..., Mount]) -> None:
    mnt = mounts("deep")
    with persist.open(mnt.store) as store:
        inner: list[object] = ["the innermost"]
        for _ in range(LEVELS):
            inner = [inner]
        store.root["deep"] = inner
        store.root["beside"] = {"x": 1}
        assert int(mnt.sh("find deep -type d | wc -l")) == LEVELS + 1
        assert mnt.sh("find deep -type f -execdir cat {} +") == "the innermost\n"
        # References between the top and the bottom: the texts of such symlinks are too long for the kernel.
        bottom = store.root["deep"]
        while isinstance(bottom[0], persist.List):
            bottom = bottom[0]
        bottom.append(store.root["beside"])
        store.root["bottom"] = bottom
        # They are listed nevertheless.
        assert mnt.sh("ls") == "beside\nbottom\ndeep\n"
        assert mnt.sh("ls -l bottom; find . -maxdepth 1 -type l").endswith("./bottom\n")
        assert not os.path.exists(mnt.path / "bottom")
        with pytest.raises(OSError) as refused:
            os.readlink(mnt.path / "bottom")
        assert refused.value.errno in (errno.ELOOP, errno.ENAMETOOLONG)
        mnt.sh("rm -r deep")
        assert mnt.sh("ls") == "beside\nbottom\n"
        # The innermost directory had the references that were removed first.
        assert mnt.sh("cat beside/x; ls bottom") == "1\n"
        store.gc()
