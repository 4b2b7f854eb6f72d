"""CPython's own tests of this Python pass on Dict and List; `conformance.py` lists the exceptions, with their reasons.

For other versions of Python, and with the slow ones: `PYTHON tests/python/conformance.py`, and the long form of
tests/system/test_wheels.py.
"""

from __future__ import annotations

import re
import subprocess
import sys
import unittest
from pathlib import Path

import conformance
import persist
import pytest

pytestmark = pytest.mark.timeout(1200)


def test_cpython_tests_pass() -> None:
    if not conformance.is_possible():
        pytest.skip("this Python has no package `test`")
    # In a process of its own: some of these tests change the interpreter.
    done = subprocess.run(
        [sys.executable, conformance.__file__, "--quick"],
        capture_output=True,
        text=True,
        timeout=1100,
        cwd=Path.home(),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    counts = {kind: int(n) for n, kind in re.findall(r"(\d+) (\w+)", done.stdout.splitlines()[-1])}
    assert counts["failed"] == 0 and counts["passed"] > 900 and counts["excluded"] < 150, counts


def test_a_failure_is_seen(root: persist.Dict[str, object]) -> None:
    """The displays of a rewritten module are in the store, and what fails there is reported."""
    if not conformance.is_possible():
        pytest.skip("this Python has no package `test`")
    maker = conformance.Maker(root)
    module = conformance.rewritten("test.test_list", maker, "list")
    case = module.ListTest("test_len")
    assert conformance.outcome(conformance.Case("x", case, maker, module)) == ("passed", "")
    assert isinstance(maker.display([1]), persist.List) and isinstance(maker.display([(x for x in ())]), list)

    def broken(self: unittest.TestCase) -> None:
        self.assertEqual(maker.display([1]), [2])

    module.ListTest.test_len = broken
    kind, why = conformance.outcome(conformance.Case("x", module.ListTest("test_len"), maker, module))
    assert (kind, why) == ("failed", "AssertionError: [1] != [2]")
