"""The classes of address_book.py: in a module, because a store holds the names of classes and not their code."""

from __future__ import annotations

import persist


class Address(persist.Object):
    def __init__(self, street: str, city: str) -> None:
        self.street = street
        self.city = city

    def __str__(self) -> str:
        return f"{self.street}, {self.city}"


class Person(persist.Object):
    def __init__(self, name: str, address: Address) -> None:
        self.name = name
        self.address = address
        self.friends: list[Person] = []

    def befriend(self, other: Person) -> None:
        self.friends.append(other)
        other.friends.append(self)
