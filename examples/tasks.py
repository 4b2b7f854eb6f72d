"""A task queue for several processes, without polling. A task is not lost when the worker that has it is killed.

    python tasks.py STORE serve 4         runs four workers, and a new one for each that dies
    python tasks.py STORE add 91 97       adds tasks, waits for their answers, and prints them

An idle worker sleeps in `wait`, and a program that waits for answers sleeps in `get`. A worker takes a task off the
queue and notes that it has it in one transaction; the answer and the end of the note are another. So each task is
answered once, also if workers are killed at any moment. A worker holds a lock as long as it lives. To wait for it
is to wait for the death of the worker, after which its task goes back to the queue.
"""

from __future__ import annotations

import collections
import multiprocessing
import multiprocessing.connection
import sys
import threading
import uuid
from typing import Any

import persist


def queues(store: persist.Store) -> tuple[persist.List[Any], persist.Dict[str, Any], persist.Dict[str, Any]]:
    """Return the waiting tasks, those that workers have taken, and the answers of each program that asked."""
    root = store.root
    return root.setdefault("waiting", []), root.setdefault("taken", {}), root.setdefault("answers", {})


def factors(number: int) -> tuple[int, ...]:
    """Stand for a task that takes a while."""
    found: list[int] = []
    n = 2
    while number > 1:
        while number % n == 0:
            found.append(n)
            number //= n
        n += 1
    return tuple(found)


def work(path: str, name: str) -> None:
    """Work on tasks until this process is ended."""
    with persist.open(path) as store:
        waiting, taken, _ = queues(store)
        with taken.lock(key=name):
            while True:
                waiting.wait()
                with store.transaction():
                    if not waiting:
                        # Another worker was quicker.
                        continue
                    task = taken[name] = waiting.pop(0)
                answer = factors(task["number"])
                with store.transaction():
                    task["answers"].append((task["number"], answer))
                    del taken[name]


def put_back(store: persist.Store, name: str) -> None:
    """Wait until a worker is dead, and put its task back to the head of the queue."""
    waiting, taken, _ = queues(store)
    with taken.lock(key=name), store.transaction():
        if name in taken:
            waiting.insert(0, taken.pop(name))


def serve(path: str, workers: int) -> None:
    """Run workers, and replace those that die, until this process is ended."""
    spawn = multiprocessing.get_context("spawn")
    running: dict[Any, Any] = {}
    with persist.open(path) as store:
        _, taken, _ = queues(store)
        for name in list(taken):
            # Of an earlier run: its worker is dead, or dies later.
            threading.Thread(target=put_back, args=(store, name), daemon=True).start()
        while True:
            while len(running) < workers:
                name = uuid.uuid4().hex
                worker = spawn.Process(target=work, args=(path, name), name=name, daemon=True)
                worker.start()
                running[worker.sentinel] = worker
            for sentinel in multiprocessing.connection.wait(list(running)):
                worker = running.pop(sentinel)
                worker.join()
                put_back(store, worker.name)


def add(path: str, numbers: list[int]) -> None:
    """Add tasks, and print their answers as they come."""
    me = uuid.uuid4().hex
    with persist.open(path) as store:
        waiting, _, boxes = queues(store)
        boxes[me] = collections.deque()
        # A task refers to the container of its answers, and holds no copy of it.
        box: persist.Deque[tuple[int, tuple[int, ...]]] = boxes[me]
        waiting.extend([{"number": number, "answers": box} for number in numbers])
        for _ in numbers:
            number, answer = box.get(timeout=600)
            print(f"{number} = {' * '.join(map(str, answer))}", flush=True)
        del boxes[me]


def main(path: str, command: str, *numbers: str) -> None:
    if command == "serve":
        serve(path, int(numbers[0]))
    elif command == "add":
        add(path, [int(number) for number in numbers])
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main(*sys.argv[1:])
