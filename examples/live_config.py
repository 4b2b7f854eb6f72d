"""A service that is configured in an editor while it runs.

    python live_config.py site.store      answers each line of its standard input
    mount.persist site.store mnt
    vim mnt/config/greeting               from the next line on, the service uses the new value
    echo 3 > mnt/config/repeat            a number stays a number: other text is refused

A read from a store costs less than a microsecond, so that the service reads the configuration each time, and keeps no
copy. What belongs together is changed in one transaction, or under the lock of the configuration.
"""

from __future__ import annotations

import sys
from typing import Any

import persist

DEFAULTS = {"greeting": "Hello", "repeat": 1}


def main(path: str) -> None:
    with persist.open(path) as store:
        config: persist.Dict[str, Any] = store.root.setdefault("config", DEFAULTS)
        for line in sys.stdin:
            for _ in range(config["repeat"]):
                print(f"{config['greeting']}, {line.rstrip()}!", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
