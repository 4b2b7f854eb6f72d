"""An address book with classes of its own (people.py).

    python address_book.py STORE add NAME STREET CITY [HOUSEMATE]
    python address_book.py STORE befriend NAME NAME
    python address_book.py STORE move NAME STREET CITY
    python address_book.py STORE list

Housemates share one Address: when one of them moves the household, the other has the new address. Friends refer to
each other. Both are references between objects in the store, not copies.
"""

from __future__ import annotations

import sys
from typing import Any

import persist
from people import Address, Person


def main(path: str, command: str, *args: str) -> None:
    with persist.open(path) as store:
        people: persist.Dict[str, Any] = store.root.setdefault("people", {})
        # Completely or not at all, also if the process is killed in between.
        with store.transaction():
            if command == "add":
                name, street, city, *housemate = args
                address = people[housemate[0]].address if housemate else Address(street, city)
                people[name] = Person(name, address)
            elif command == "befriend":
                people[args[0]].befriend(people[args[1]])
            elif command == "move":
                address = people[args[0]].address
                address.street, address.city = args[1:]
        if command == "list":
            for name, person in sorted(people.items()):
                friends = ", ".join(friend.name for friend in person.friends)
                print(f"{name}: {person.address}" + (f" (friends: {friends})" if friends else ""))


if __name__ == "__main__":
    main(*sys.argv[1:])
