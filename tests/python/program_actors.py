"""The actors of random programs: threads, and tasks of asyncio, trio and gevent.

1. An actor is an owner: a thread, or a thread with its running task or greenlet.
2. An actor runs a job only when it gets one, and the caller waits for the result.
3. trio and gevent are optional. Actors of a framework that is not installed are left out; `left_out` names it.
"""

from __future__ import annotations

import asyncio
import importlib.util
import math
import queue
import threading
from typing import Any, Callable, Union

# The kind of an actor and the number of its thread.
Actor = tuple[str, int]
Awaits = Union[Callable[[], Any], None]

# The time within which a step ends, unless it hangs.
STEP = 120.0

OPTIONAL = ("trio", "gevent")
# The kinds of tasks in a program.
SETS = [("asyncio",), ("trio",), ("gevent",), ("asyncio", "trio", "gevent")]


def kinds_of(seed: int) -> tuple[str, ...]:
    """Return the kinds of tasks of a seed's program: four successive seeds have all sets, and so have the seeds of a
    process that runs every second or fourth of them."""
    folded = 0
    while seed:
        seed, folded = seed // 4, folded ^ seed % 4
    return SETS[folded]


def left_out(seed: int) -> list[str]:
    """Return the frameworks of a seed's program that are not installed."""
    return [kind for kind in kinds_of(seed) if kind in OPTIONAL and importlib.util.find_spec(kind) is None]


def actors_of(seed: int) -> list[Actor]:
    """Return the actors of a seed's program: two threads, and two tasks of one loop for each kind of task."""
    kinds = [kind for kind in kinds_of(seed) if kind not in left_out(seed)]
    threads: list[Actor] = [("thread", 0), ("thread", 1)]
    return threads + [(kind, 2 + n) for n, kind in enumerate(kinds) for _ in range(2)]


def has_async_forms(kind: str) -> bool:
    """Return whether actors of this kind use the asynchronous forms of the API."""
    return kind in ("asyncio", "trio")


def outcome(job: Callable[[], Any]) -> tuple[Any, Exception | None]:
    try:
        return job(), None
    except Exception as e:
        return None, e.with_traceback(None)


class Threaded:
    """An actor that is a thread."""

    def __init__(self) -> None:
        self.jobs: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.results: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.thread = threading.Thread(target=self.body, daemon=True)
        self.thread.start()

    def body(self) -> None:
        while (job := self.jobs.get()) is not None:
            self.results.put(outcome(job))
            job = None

    def rest(self) -> None:
        """Let other tasks of the thread run."""

    def call(self, job: Callable[[], Any], _awaits: Awaits = None) -> Any:
        self.jobs.put(job)
        return self.results.get(timeout=STEP)

    def end(self) -> None:
        self.jobs.put(None)
        self.thread.join(STEP)


class Loop:
    """A thread that runs tasks of asyncio."""

    # An event of the framework.
    ended: Any

    def __init__(self) -> None:
        self.started = threading.Event()
        self.thread = threading.Thread(target=self.body, daemon=True)
        self.thread.start()
        assert self.started.wait(STEP), "the loop did not start"

    def body(self) -> None:
        async def main() -> None:
            self.loop, self.ended = asyncio.get_running_loop(), asyncio.Event()
            self.tasks: set[Any] = set()
            self.started.set()
            await self.ended.wait()

        asyncio.run(main())

    def soon(self, call: Callable[..., Any], *args: Any) -> None:
        """Call the function in the loop's thread."""
        self.loop.call_soon_threadsafe(call, *args)

    def channel(self) -> tuple[Any, Any]:
        """Return what puts a job, and what gets one."""
        jobs: asyncio.Queue[Any] = asyncio.Queue()
        return jobs.put_nowait, jobs.get

    def spawn(self, body: Callable[[], Any]) -> None:
        self.tasks.add(self.loop.create_task(body()))

    async def rest(self) -> None:
        await asyncio.sleep(0)

    def end(self) -> None:
        self.soon(self.ended.set)
        self.thread.join(STEP)


class TrioLoop(Loop):
    """A thread that runs tasks of trio."""

    def body(self) -> None:
        import trio

        async def main() -> None:
            self.token, self.ended = trio.lowlevel.current_trio_token(), trio.Event()
            async with trio.open_nursery() as self.nursery:
                self.started.set()
                await self.ended.wait()

        self.trio = trio
        trio.run(main)

    def soon(self, call: Callable[..., Any], *args: Any) -> None:
        self.token.run_sync_soon(call, *args)

    def channel(self) -> tuple[Any, Any]:
        puts, gets = self.trio.open_memory_channel(math.inf)
        return puts.send_nowait, gets.receive

    def spawn(self, body: Callable[[], Any]) -> None:
        self.nursery.start_soon(body)

    async def rest(self) -> None:
        await self.trio.lowlevel.checkpoint()


class GeventLoop(Loop):
    """A thread that runs greenlets of gevent."""

    def body(self) -> None:
        import gevent
        import gevent.event
        import gevent.queue

        self.gevent = gevent
        self.calls: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.ended = gevent.event.Event()
        hub = gevent.get_hub()
        # The only function of a loop that other threads may call.
        self.watcher = hub.loop.async_()
        self.watcher.start(self.drain)
        self.started.set()
        self.ended.wait()
        self.watcher.close()
        hub.destroy(destroy_loop=True)

    def drain(self) -> None:
        while not self.calls.empty():
            call, *args = self.calls.get()
            call(*args)

    def soon(self, call: Callable[..., Any], *args: Any) -> None:
        self.calls.put((call, *args))
        self.watcher.send()

    def channel(self) -> tuple[Any, Any]:
        jobs = self.gevent.queue.Queue()
        return jobs.put_nowait, jobs.get

    def spawn(self, body: Callable[[], Any]) -> None:
        self.gevent.spawn(body)


class Tasked:
    """An actor that is a task of a loop of asyncio or trio."""

    def __init__(self, loop: Any) -> None:
        self.loop = loop
        self.results: queue.SimpleQueue[Any] = queue.SimpleQueue()
        loop.soon(self.start)
        self.results.get(timeout=STEP)

    def start(self) -> None:
        self.put, self.get = self.loop.channel()
        self.loop.spawn(self.body)
        self.results.put(None)

    async def body(self) -> None:
        while (job := await self.get()) is not None:
            sync, awaits = job
            if awaits is None:
                self.results.put(outcome(sync))
            else:
                try:
                    self.results.put((await awaits(), None))
                except Exception as e:
                    self.results.put((None, e.with_traceback(None)))
            job = sync = awaits = None
        self.results.put((None, None))

    def rest(self) -> Any:
        """Let other tasks of the thread run: awaited in a task of asyncio or trio."""
        return self.loop.rest()

    def call(self, job: Callable[[], Any], awaits: Awaits = None) -> Any:
        self.loop.soon(self.put, (job, awaits))
        return self.results.get(timeout=STEP)

    def end(self) -> None:
        self.loop.soon(self.put, None)
        self.results.get(timeout=STEP)


class Greenlet(Tasked):
    """An actor that is a greenlet of gevent. It uses the blocking forms."""

    def body(self) -> None:  # type: ignore[override]
        while (job := self.get()) is not None:
            self.results.put(outcome(job[0]))
            job = None
        self.results.put((None, None))

    def rest(self) -> None:
        self.loop.gevent.sleep(0)


LOOPS: dict[str, type[Loop]] = {"asyncio": Loop, "trio": TrioLoop, "gevent": GeventLoop}


def start(actors: list[Actor]) -> tuple[list[Any], list[Loop]]:
    """Start the actors; return them and the loops that run some of them."""
    loops = {thread: LOOPS[kind]() for kind, thread in dict.fromkeys(actors) if kind in LOOPS}
    started: list[Any] = []
    for kind, thread in actors:
        if kind == "thread":
            started.append(Threaded())
        else:
            started.append((Greenlet if kind == "gevent" else Tasked)(loops[thread]))
    return started, list(loops.values())
