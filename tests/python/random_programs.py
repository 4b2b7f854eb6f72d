"""Random programs over the whole Python API beside a model: random_programs.py [SECONDS] [--seed N] [--kills].

A failing program is reported by its seed and its shortest failing prefix, then reduced to the necessary steps.
"""

from __future__ import annotations

import argparse
import gc
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import persist
from program_actors import actors_of, left_out
from program_kills import child, durability_of, kill_one, shape
from program_machine import Machine, Unresolved
from program_real import Failure, Real, canonical, run_step
from program_steps import Maker, Step

STEPS = 250
# Seconds for reducing a failing program.
CUTTING = 20.0


@dataclass
class Ran:
    """The result of a program."""

    steps: list[Step] = field(default_factory=list)
    failure: str = ""
    count: int = 0


def run(steps: list[Step] | None, seed: int, count: int) -> Ran:
    """Run the steps, or generate `count` of them from the seed."""
    rng, stores, age = shape(seed)
    home = Path(tempfile.mkdtemp(prefix="persist-programs-"))
    machine, ran = Machine(stores, actors_of(seed)), Ran()
    maker = Maker(rng, machine)
    try:
        real = Real(home, stores, actors_of(seed), age, durability_of(seed))
        ended = False
        try:
            for n in range(count if steps is None else len(steps)):
                step = maker.step() if steps is None else steps[n]
                try:
                    run_step(machine, real, step)
                except Unresolved:
                    continue
                finally:
                    ran.steps.append(step)
            ended = True
        finally:
            try:
                real.close()
            except Exception:
                if ended:
                    raise
        final(machine, real)
    except Failure as e:
        ran.failure = str(e)
    except Exception:
        ran.failure = traceback.format_exc()
    finally:
        shutil.rmtree(home, ignore_errors=True)
    return ran


def final(machine: Machine, real: Real) -> None:
    """Check the state after the last close: open transactions are undone."""
    machine.crash()
    for s, path in enumerate(real.paths):
        compare(machine, s, path)


def compare(machine: Machine, s: int, path: Path) -> None:
    """Check that a store, opened now, equals the model."""
    with persist.open(path) as store:
        got, wanted = canonical(store.root), machine.committed(s)
        if got != wanted:
            raise Failure(f"after closing, store {s} is\n  {got}\ninstead of\n  {wanted}")


def cut_down(steps: list[Step], seed: int) -> list[Step]:
    """Remove the steps that the failure does not need, as far as the time allows."""
    end = time.monotonic() + CUTTING
    size = max(1, len(steps) // 2)
    while size:
        at = 0
        while at < len(steps) and time.monotonic() < end:
            fewer = steps[:at] + steps[at + size :]
            if run(fewer, seed, 0).failure:
                steps = fewer
            else:
                at += size
        size //= 2
    return steps


def tell(ran: Ran, seed: int) -> str:
    """Print a failing program."""
    fewer = cut_down(ran.steps, seed)
    again = run(fewer, seed, 0)
    lines = [f"seed {seed} fails at step {len(ran.steps)}: {ran.failure}", "", "the shortest failing prefix ends with"]
    lines += [f"  {step}" for step in ran.steps[-8:]]
    lines += ["", f"{len(fewer)} steps of it are enough:", *(f"  {step}" for step in fewer)]
    lines += [f"with {again.failure}" if again.failure else "(but not each time)"]
    return "\n".join(lines)


def killed(seed: int, count: int) -> Ran:
    """Run a program whose process is killed. The history depends on the moment, so it is not reduced."""
    home, ran = Path(tempfile.mkdtemp(prefix="persist-programs-")), Ran()
    try:
        ran.count = kill_one(home, seed, count)
    except Failure as e:
        ran.failure = f"seed {seed}: {e}"
    finally:
        shutil.rmtree(home, ignore_errors=True)
    return ran


def main() -> int:
    p = argparse.ArgumentParser(prog="random_programs")
    p.add_argument("seconds", nargs="?", type=float, default=10)
    p.add_argument("--seed", type=int, default=0, help="of the first program")
    p.add_argument("--every", type=int, default=1, help="step from one seed to the next")
    p.add_argument("--steps", type=int, default=STEPS)
    p.add_argument("--kills", action="store_true", help="kill every second program's process")
    p.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    a = p.parse_args()
    warnings.simplefilter("ignore", ResourceWarning)
    if a.child:
        child(a.child, a.seed)
    end, seed, programs, steps, kills = time.monotonic() + a.seconds, a.seed, 0, 0, 0
    missing: set[str] = set()
    while time.monotonic() < end or not programs:
        kill = a.kills and programs % 2 == 0
        ran = killed(seed, a.steps) if kill else run(None, seed, a.steps)
        missing.update(left_out(seed))
        programs, steps, kills = programs + 1, steps + len(ran.steps) + ran.count, kills + kill
        if ran.failure:
            print(ran.failure if kill else tell(ran, seed), flush=True)
            return 1
        seed += a.every
        gc.collect()
    for framework in sorted(missing):
        print(f"not tried: actors of {framework}, which is not installed", flush=True)
    print(f"{programs} programs of {steps} steps, {kills} kills", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
