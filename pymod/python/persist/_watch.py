"""The threads that call the callbacks of `watch(callback=...)`. Imported by the first of them."""

from __future__ import annotations

import atexit
import logging
import threading
import weakref

from ._persist import Change, Watch

__all__ = ["Change", "Watch", "follow", "join"]

_open = weakref.WeakSet()
# How long the end of the program waits for a callback that runs, in seconds.
_LONGEST = 1
_ends = False


def _run(watch, callback):
    try:
        for change in watch:
            try:
                callback(change)
            except Exception:
                logging.getLogger("persist").exception("the callback of %r raised", watch)
    except ValueError:  # The store was closed.
        pass
    except Exception:
        logging.getLogger("persist").exception("%r ends", watch)
    finally:
        watch.close()


def follow(watch, callback):
    """Start the thread that calls `callback` with each change, until the watch is closed."""
    if not callable(callback):
        raise TypeError(f"the callback must be callable, not {type(callback).__name__!r}")
    thread = threading.Thread(target=_run, args=(watch, callback), name="persist-watch", daemon=True)
    _open.add(watch)
    thread.start()
    return thread


def join(thread):
    """Wait for the end of the thread, unless it is the running one: no callback comes after that."""
    if thread is not threading.current_thread() and thread.is_alive():
        thread.join(_LONGEST if _ends else None)


@atexit.register
def _close_all():
    global _ends
    _ends = True
    for watch in list(_open):
        watch.close()
