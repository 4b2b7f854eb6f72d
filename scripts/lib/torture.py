"""Torture: writers on one store, killed at random or with the power cut; everything is checked."""

from __future__ import annotations

import argparse
import os
import sys
import time

from torture_kill import kill_torture
from torture_power import power_torture

SHELLS = 2


def main() -> int:
    p = argparse.ArgumentParser(
        prog="torture", description="Writers on one store, killed or cut off at random."
    )
    p.add_argument("mode", nargs="?", choices=["kill", "power", "all"], default="all")
    p.add_argument("seconds", nargs="?", type=float, default=60, help="for each of them")
    p.add_argument("--seed", type=int, default=int(time.time()))
    p.add_argument("--limit", type=float, default=100, help="ms within which the others must go on")
    p.add_argument("--no-mount", action="store_true", help="Python writers only")
    p.add_argument("--keep", action="store_true", help="keep the store after a violation")
    a = p.parse_args()
    shells = 0 if a.no_mount or not os.path.exists("/dev/fuse") else SHELLS
    failed = 0
    if a.mode in ("kill", "all"):
        failed |= kill_torture(a.seconds, a.seed, a.limit, shells, a.keep)
    if a.mode in ("power", "all"):
        failed |= power_torture(a.seconds, a.seed, a.keep)
    return failed


if __name__ == "__main__":
    sys.exit(main())
