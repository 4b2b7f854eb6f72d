"""A service that is configured in an editor while it runs.

    python live_config.py site.store      answers each line of its standard input
    mount.persist site.store mnt
    vim mnt/config/greeting               the service says that it has seen the change, and uses the new value
    echo 3 > mnt/config/repeat            a number stays a number: other text is refused

A read from a store costs less than a microsecond, so that the service reads the configuration each time, and keeps no
copy. `watch` is for what must be done at once when something changes: here a line in the log, elsewhere a new
connection or another number of threads. What belongs together is changed in one transaction, or under the lock of the
configuration.
"""

from __future__ import annotations

import sys
from typing import Any

import persist

DEFAULTS = {"greeting": "Hello", "repeat": 1}


def main(path: str) -> None:
    with persist.open(path) as store:
        config: persist.Dict[str, Any] = store.root.setdefault("config", DEFAULTS)

        def changed(change: persist.Change[Any]) -> None:
            """Run on a thread of its own, once for each change, whichever process has made it."""
            key = change.key
            print(f"{change.kind} {change.path}: {config.get(key)!r}", file=sys.stderr, flush=True)

        with config.watch(changed):
            for line in sys.stdin:
                for _ in range(config["repeat"]):
                    print(f"{config['greeting']}, {line.rstrip()}!", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
