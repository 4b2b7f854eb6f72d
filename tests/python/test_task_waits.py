"""What waits for the transaction of another task of its thread, but has no asynchronous form: an error at once that can
be followed, or with gevent a wait."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import persist
import pytest
from conftest import Script


def test_snapshots_beside_another_task_do_not_block_the_loop(path: Path) -> None:
    """They waited 2 s for the checkpoint that `max_age` had begun, and that waited for the transaction."""
    store = persist.open(path, max_age=0.02)
    root = store.root
    store.snapshot("there")

    async def main() -> None:
        root["x"] = 0
        async with store.transaction_async():
            root["x"] = 1
            await asyncio.sleep(0.5)

            async def second() -> None:
                for n in range(5):
                    for call in (
                        lambda n=n: store.snapshot(f"s{n}"),
                        lambda: store.drop_snapshot("there"),
                        store.sync,
                        store.gc,
                    ):
                        with pytest.raises(persist.OtherTask, match="asyncio.to_thread"):
                            call()

            started = time.monotonic()
            await asyncio.gather(second())
            # At 2 s each: 15 waits.
            assert time.monotonic() - started < 20

    asyncio.run(main())
    assert [taken.name for taken in store.snapshots()] == ["there"]

    async def as_advised() -> None:
        async with store.transaction_async():
            root["x"] = 2
            taking = asyncio.ensure_future(asyncio.to_thread(store.snapshot, "later"))
            await asyncio.sleep(0.02)
            assert not taking.done()
        await taking

    asyncio.run(as_advised())
    with store.at("later") as later:
        assert later.root["x"] == 2
    store.close()


GREENLETS = """
    import sys
    GEVENT
    import persist
    store = persist.open(sys.argv[1], lock_timeout=100)
    root = store.root
    log = []

    def first():
        with store.transaction():
            root["x"] = 1
            for _ in range(10):
                PAUSE
            log.append("first")

    def second():
        for name in ("sync", "gc", "snapshot", "drop_snapshot"):
            getattr(store, name)(*["s"] * ("snapshot" in name))
            log.append(name)
"""


def test_greenlets_of_gevent_wait(path: Path, script: Script) -> None:
    pytest.importorskip("gevent")
    text = GREENLETS.replace("GEVENT", "import gevent.monkey; gevent.monkey.patch_all(); import gevent")
    text = text.replace("PAUSE", "gevent.sleep(0.002)")
    text += """
    gevent.joinall([gevent.spawn(first), gevent.spawn(second)], raise_error=True)
    assert log == ["first", "sync", "gc", "snapshot", "drop_snapshot"], log

    def late():
        with persist.open(sys.argv[1], lock_timeout=0.05) as short:
            for call in (short.sync, short.gc, lambda: short.root.update(x=2)):
                try:
                    call()
                except persist.OtherTask as e:
                    assert "timed out after" in str(e) and "greenlet" in str(e), e
                    assert "async" not in str(e), e
                else:
                    raise AssertionError("it did not wait")

    def holds():
        with store.transaction():
            root["x"] = 3
            gevent.joinall([gevent.spawn(late)], raise_error=True)

    gevent.joinall([gevent.spawn(holds)], raise_error=True)
    """
    script.run(text, path)


def test_plain_greenlets_get_advice_of_their_own(path: Path, script: Script) -> None:
    pytest.importorskip("greenlet")
    text = GREENLETS.replace("GEVENT", "import greenlet").replace("PAUSE", "main.switch()")
    text += """
    main = greenlet.getcurrent()
    holds, other = greenlet.greenlet(first), greenlet.greenlet(lambda: refused())

    def refused():
        for call in (store.sync, store.gc, lambda: root.update(x=2), store.transaction().__enter__):
            try:
                call()
            except persist.OtherTask as e:
                assert "switch to it" in str(e) and "async" not in str(e), e
            else:
                raise AssertionError(call)

    holds.switch()
    other.switch()
    while not holds.dead:
        holds.switch()
    assert log == ["first"]
    """
    script.run(text, path)
