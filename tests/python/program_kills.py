"""Programs whose process is killed at a random moment: the changes of completed steps are present afterwards.

The process records each completed step in a file: one byte, which states whether the step was blocked. From the seed
and these bytes the model repeats the same history. The state found must be the committed one after the last recorded
step, or after the interrupted step.
"""

from __future__ import annotations

import contextlib
import copy
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import persist
from program_actors import actors_of
from program_machine import Machine, Unresolved
from program_real import Failure, Real, canonical, check_block, model_block, run_step
from program_steps import Maker, Step

DONE, BLOCKED, LEFT_OUT = b"o", b"b", b"u"


def shape(seed: int) -> tuple[random.Random, int, float | None]:
    """Return what a seed determines of a program before its first step."""
    rng = random.Random(seed)
    stores = 1 + rng.randrange(2)
    return rng, stores, rng.choice([None, 1.0, 0.001])


def durability_of(seed: int) -> str:
    return "commit" if seed % 3 == 2 else "checkpoint"


def child(home: Path, seed: int) -> None:
    """Run steps until the process is killed."""
    rng, stores, age = shape(seed)
    machine = Machine(stores, actors_of(seed))
    maker, real = Maker(rng, machine), Real(home, stores, actors_of(seed), age, durability_of(seed))
    fd = os.open(home / "acks", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    print("ready", flush=True)
    while True:
        step = maker.step()
        try:
            blocked = run_step(machine, real, step)
            os.write(fd, BLOCKED if blocked else DONE)
        except Unresolved:
            os.write(fd, LEFT_OUT)


def again(machine: Machine, step: Step, blocked: bool) -> None:
    """Run a step on the model alone, with the known outcome."""
    with contextlib.suppress(Unresolved):
        if step[1] == "block":
            check_block(machine, step)
            model_block(machine, step)
            return
        expected = machine.step(step)
        if blocked and expected.undo:
            expected.undo()


def kill_one(home: Path, seed: int, count: int) -> int:
    """Run a process and kill it once within about `count` steps; return the number of its steps."""
    dice = random.Random(seed + 1)
    rng, stores, _ = shape(seed)
    paths = [home / f"{n}.store" for n in range(stores)]
    argv = [sys.executable, str(Path(__file__).with_name("random_programs.py")), "--child", str(home)]
    argv += ["--seed", str(seed)]
    # Processes that have the store open find the same state as those that open it afterwards.
    survivors: list[persist.Store] = []
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(argv, text=True, **pipes)
    try:
        assert process.stdout and process.stderr
        if process.stdout.readline() != "ready\n":
            raise Failure(f"the process did not begin: {process.stderr.read()}")
        if dice.random() < 0.5:
            survivors = [persist.open(path, lock_timeout=60) for path in paths]
        acks, wanted, end = home / "acks", dice.randrange(1, count), time.monotonic() + 120
        while acks.stat().st_size < wanted:
            if process.poll() is not None:
                raise Failure(f"the process ended by itself: {process.stderr.read()}")
            if time.monotonic() > end:
                raise Failure("the process stands still")
            time.sleep(0.0005)
        time.sleep(dice.random() * 0.003)
        process.kill()
        process.wait()
        noted = acks.read_bytes()
    finally:
        process.kill()
        process.communicate()
    machine = Machine(stores, actors_of(seed))
    maker = Maker(rng, machine)
    for byte in noted:
        again(machine, maker.step(), byte == BLOCKED[0])
    states: list[list[Any]] = [[machine.committed(s)] for s in range(stores)]
    interrupted = maker.step()
    after = copy.deepcopy(machine)
    again(after, interrupted, False)
    for s in range(stores):
        states[s].append(after.committed(s))
    for s, path in enumerate(paths):
        opened = survivors[s] if survivors else persist.open(path, lock_timeout=60)
        with opened as store:
            got = canonical(store.root)
            if got not in states[s]:
                text = f"after a kill in step {len(noted) + 1}, {interrupted}, store {s} is"
                raise Failure(f"{text}\n  {got}\ninstead of\n  {states[s][0]}\nor\n  {states[s][1]}")
            # The dead process holds nothing.
            with store.root.lock(timeout=60):
                store.root["alive"] = True
        checked = subprocess.run(
            [Path(sys.executable).parent / "persist", "check", path], capture_output=True, text=True, check=False
        )
        if checked.returncode:
            raise Failure(f"after a kill in step {len(noted) + 1}, {interrupted}: {checked.stdout}{checked.stderr}")
    return len(noted)
