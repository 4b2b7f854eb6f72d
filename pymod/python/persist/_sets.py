"""`Set`: a set as it lives in a store. Imported when the first is met; see `_containers` for the rules."""

import operator as _operator
import types as _types
from collections import abc as _abc

from ._containers import _atomic, _not_made
from ._persist import _Wrapped


class Set(_Wrapped, _abc.MutableSet):
    """A set that lives in a store. It behaves as a set does, and every change is in the store at once.

    >>> root['s'] = {1, 2}
    >>> root['s'].add(3)
    >>> root['s'] | {4}
    {1, 2, 3, 4}
    """

    __module__ = "persist"
    __slots__ = ()
    __class_getitem__ = classmethod(_types.GenericAlias)

    def __new__(cls, *args, **kwargs):
        _not_made(cls, "set")

    def _plain(self):
        return set(self._entries.copy())

    @classmethod
    def _from_iterable(cls, it):
        return set(it)

    def __contains__(self, item):
        if isinstance(item, (set, Set)):
            item = frozenset(item)
        return item in self._entries

    def __iter__(self):
        return iter(self._entries)

    def __len__(self):
        return len(self._entries)

    def __repr__(self):
        text = repr(self._entries.keys())
        if not text.startswith("dict_keys("):
            return text.replace("persist.KeysView", "persist.Set")
        inner = text[len("dict_keys([") : -len("])")]
        return f"{{{inner}}}" if inner else "set()"

    def _compared(self, other, how):
        if not isinstance(other, (set, frozenset, Set)):
            return NotImplemented
        return how(self._plain(), _builtin(other))

    def __eq__(self, other):
        return self._compared(other, _operator.eq)

    def __ne__(self, other):
        return self._compared(other, _operator.ne)

    def __le__(self, other):
        return self._compared(other, _operator.le)

    def __lt__(self, other):
        return self._compared(other, _operator.lt)

    def __ge__(self, other):
        return self._compared(other, _operator.ge)

    def __gt__(self, other):
        return self._compared(other, _operator.gt)

    __hash__ = None

    def __and__(self, other):
        return self._compared(other, _operator.and_)

    def __or__(self, other):
        return self._compared(other, _operator.or_)

    def __sub__(self, other):
        return self._compared(other, _operator.sub)

    def __xor__(self, other):
        return self._compared(other, _operator.xor)

    def _reflected(self, other, how):
        if not isinstance(other, (set, frozenset)):
            return NotImplemented
        return how(other, self._plain())

    def __rand__(self, other):
        return self._reflected(other, _operator.and_)

    def __ror__(self, other):
        return self._reflected(other, _operator.or_)

    def __rsub__(self, other):
        return self._reflected(other, _operator.sub)

    def __rxor__(self, other):
        return self._reflected(other, _operator.xor)

    def _changed(self, other, how):
        if not isinstance(other, (set, frozenset, Set)):
            return NotImplemented
        how(other)
        return self

    def __ior__(self, other):
        return self._changed(other, self.update)

    def __iand__(self, other):
        return self._changed(other, self.intersection_update)

    def __isub__(self, other):
        return self._changed(other, self.difference_update)

    def __ixor__(self, other):
        return self._changed(other, self.symmetric_difference_update)

    def add(self, item, /):
        """Add an element."""
        self._entries.setdefault(item, None)

    def discard(self, item, /):
        """Remove an element if it is there."""
        if isinstance(item, (set, Set)):
            item = frozenset(item)
        self._entries.pop(item, None)

    def remove(self, item, /):
        """Remove an element; raise KeyError if it is missing."""
        key = frozenset(item) if isinstance(item, (set, Set)) else item
        try:
            del self._entries[key]
        except KeyError:
            raise KeyError(item) from None

    def pop(self):
        """Remove and return some element; raise KeyError if there is none."""
        try:
            return self._entries.popitem()[0]
        except KeyError:
            raise KeyError("pop from an empty set") from None

    def wait(self, timeout=None):
        """Wait until the set is not empty: see `Dict.wait`."""
        self._entries.wait(timeout)

    def wait_async(self, timeout=None):
        """Await what `wait` waits for, without blocking the event loop."""
        return self._entries.wait_async(timeout)

    def clear(self):
        """Remove everything."""
        self._entries.clear()

    def copy(self):
        """Return a plain set with the same elements."""
        return self._plain()

    __copy__ = copy

    def update(self, *others):
        """Add the elements of all others, in one operation."""
        new = {}
        for other in others:
            new.update(dict.fromkeys(other))
        there = self._entries
        new = {key: None for key in new if key not in there}
        there.update(new)

    def difference_update(self, *others):
        """Remove the elements of all others, in one operation."""
        self._drop([_builtin(other) for other in others])

    @_atomic
    def _drop(self, others):
        for key in self._plain().intersection(set().union(*others)):
            del self._entries[key]

    def intersection_update(self, *others):
        """Keep only what all others have, in one operation."""
        self._keep([_builtin(other) for other in others])

    @_atomic
    def _keep(self, others):
        plain = self._plain()
        for key in plain - plain.intersection(*others):
            del self._entries[key]

    def symmetric_difference_update(self, other, /):
        """Remove what is in both, and add what is in the other only, in one operation."""
        self._toggle(_builtin(other))

    @_atomic
    def _toggle(self, other):
        plain = self._plain()
        for key in plain & other:
            del self._entries[key]
        self._entries.update(dict.fromkeys(other - plain))

    def union(self, *others):
        """Return a plain set with the elements of all."""
        return self._plain().union(*others)

    def intersection(self, *others):
        """Return a plain set with what all have."""
        return self._plain().intersection(*others)

    def difference(self, *others):
        """Return a plain set with what none of the others has."""
        return self._plain().difference(*others)

    def symmetric_difference(self, other, /):
        """Return a plain set with what one of both has."""
        return self._plain().symmetric_difference(other)

    def issubset(self, other, /):
        """Return whether the other has all elements."""
        return self._plain().issubset(other)

    def issuperset(self, other, /):
        """Return whether the set has all elements of the other."""
        return self._plain().issuperset(other)

    def isdisjoint(self, other, /):
        """Return whether both have nothing in common."""
        return self._plain().isdisjoint(other)


def _builtin(other):
    """Return the elements of an iterable as a set."""
    if isinstance(other, Set):
        return other._plain()
    return other if isinstance(other, (set, frozenset)) else set(other)
