"""A process that can start no thread: its tasks wait all the same."""

from __future__ import annotations

from pathlib import Path

from conftest import Script

PROGRAM = """
    import asyncio, os, persist, persist._aio, resource, sys, threading
    store = persist.open(sys.argv[1], durability="none", max_age=None)
    root = store.root
    root["l"] = []
    inside, leave = threading.Event(), threading.Event()

    def hold():
        with store.transaction():
            root["x"] = 1
            inside.set()
            leave.wait(100)

    holder = threading.Thread(target=hold, daemon=True)
    holder.start()
    inside.wait(100)
    # The limit does not hold for root.
    if os.getuid() == 0:
        os.setuid(65534)
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    try:
        threading.Thread(target=print).start()
    except RuntimeError:
        pass
    else:
        raise AssertionError("there is a thread")

    async def main():
        async def begin():
            async with store.transaction_async():
                root["y"] = 1

        async def follow():
            async for change in root.watch(timeout=100):
                return change.kind

        waiting = [asyncio.ensure_future(it) for it in (begin(), follow(), root["l"].pop_wait_async(timeout=100))]
        await asyncio.sleep(0.02)
        leave.set()
        await waiting[0]
        root["l"].append("item")
        return await asyncio.gather(*waiting[1:])

    print(asyncio.run(main()), flush=True)
    holder.join()
    # A close looks for files that this user cannot reach.
    os._exit(0)
"""


def test_without_a_thread(path: Path, script: Script) -> None:
    # The watch began beside a transaction.
    assert script.run(PROGRAM, path) == "['overflow', 'item']\n"
