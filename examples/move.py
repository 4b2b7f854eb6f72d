"""Move from shelve, pickle, JSON and SQLite into one store.

    python move.py [--allow-pickle] NEW.store FILE...

Each file becomes an entry of the root, under its name without the suffix: a dict, or a list for JSON and pickle files
that hold one. All are moved in one transaction: after an error, nothing has been stored. Pickles and shelves can run
code when they are read: say `--allow-pickle` if you trust them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import persist


def move(store: persist.Store, file: Path, allow_pickle: bool) -> int:
    store.root[file.stem] = {}
    try:
        return persist.import_from(file, store.root[file.stem], allow_pickle=allow_pickle)
    except TypeError as e:
        if "import it into a List" not in str(e):
            raise
        store.root[file.stem] = []
        return persist.import_from(file, store.root[file.stem], allow_pickle=allow_pickle)


def main() -> None:
    p = argparse.ArgumentParser(description="Move from shelve, pickle, JSON and SQLite into one store.")
    p.add_argument("store")
    p.add_argument("files", nargs="+", type=Path, metavar="FILE")
    p.add_argument("--allow-pickle", action="store_true")
    a = p.parse_args()
    with persist.open(a.store) as store, store.transaction():
        for file in a.files:
            print(f"{file}: {move(store, file, a.allow_pickle)}")


if __name__ == "__main__":
    main()
