"""A visitor counter for gunicorn: each answered request has been counted once.

    PERSIST_STORE=visitors.store gunicorn --workers 4 visitors:application
    gunicorn --workers 4 --worker-class gthread --threads 4 visitors:application
    gunicorn --workers 4 --worker-class gevent visitors:application

The workers are processes. `lock` makes the get and the set one step for all of them, for threads and for greenlets. A
worker that is killed loses nothing that it has counted, and its lock is free at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import persist

pages: persist.Dict[str, int] = persist.root().setdefault("pages", {})


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    page = environ["PATH_INFO"]
    with pages.lock(key=page):
        count = pages[page] = pages.get(page, 0) + 1
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"You are visitor {count}.\n".encode()]
