"""Power failures under real filesystems, in short form: `scripts/torture real` is the long form."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

LIB = Path(__file__).resolve().parents[2] / "scripts" / "lib"
sys.path.insert(0, str(LIB))

import torture_real  # noqa: E402
import torture_real_disk  # noqa: E402

MISSING = {name: why for name, why in torture_real_disk.why_not().items() if why}
IMAGES = 7  # of each of two stores on each filesystem; one of each may be refused by it


def tried(*argv: object) -> dict[str, Any]:
    """Run the torture; return its last line."""
    done = subprocess.run(
        [sys.executable, LIB / "torture_real.py", *map(str, argv)],
        capture_output=True, text=True, timeout=800, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    print(done.stdout, done.stderr)
    assert done.stdout, done.stderr
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert done.returncode == (1 if result["failed"] else 0)
    return result


@pytest.fixture(scope="module")
def built() -> None:
    if len(MISSING) == len(torture_real_disk.KINDS):
        pytest.skip(f"not tried: {MISSING}")
    torture_real.build()


@pytest.mark.timeout(1800)
@pytest.mark.usefixtures("built")
def test_nothing_is_lost_under_ext4_and_xfs() -> None:
    result = tried(1, "--images", IMAGES, "--work", 0.5)
    assert result["failed"] == ""
    for name in torture_real_disk.KINDS:
        assert name in MISSING or result["counts"][f"on {name}"] >= 2 * (IMAGES - 1)
    if MISSING:
        pytest.skip(f"not tried: {MISSING}")


@pytest.mark.timeout(1800)
@pytest.mark.usefixtures("built")
def test_a_disk_that_does_not_flush_is_noticed() -> None:
    # The other test would thus detect a missing flush. It ends with the first violation.
    result = tried(200, "--images", 40, "--work", 0.4, "--lie")
    assert result["failed"].startswith("Violation")
