"""`Set` and `Deque`: a set and a `collections.deque` as they live in a store. Imported when the first is met.

1. A store holds the builtin type (`set`, `collections.deque`, ...) by a class name without a module. What is read is
   one of these classes, in place: no copy, and one object for each container.
2. Each method is one operation: what consists of several runs in a transaction.
3. Operators and `copy()` return the builtin type, as those of `Dict` and `List` do.
"""

import collections as _collections
import functools as _functools
import operator as _operator
import types as _types
from collections import abc as _abc

from ._persist import _run, _Wrapped


def _atomic(method):
    """Run a method in a transaction."""

    @_functools.wraps(method)
    def run(self, *args, **kwargs):
        return _run(self, method, self, *args, **kwargs)

    return run


def _not_made(cls, instead):
    raise TypeError(f"cannot create 'persist.{cls.__name__}' instances: store a {instead}")


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


class Deque(_Wrapped, _abc.MutableSequence):
    """A `collections.deque` that lives in a store, with its `maxlen`.

    >>> import collections
    >>> root['q'] = collections.deque(maxlen=3)
    >>> root['q'].extend([1, 2, 3, 4])
    >>> root['q'].popleft()
    2
    """

    __module__ = "persist"
    __slots__ = ()
    __class_getitem__ = classmethod(_types.GenericAlias)

    def __new__(cls, *args, **kwargs):
        _not_made(cls, "collections.deque")

    @property
    def maxlen(self):
        """The most items, or None."""
        _, _, text = self._class.partition("[")
        return int(text[:-1]) if text else None

    def _plain(self):
        return _collections.deque(self._entries.copy(), self.maxlen)

    def __len__(self):
        return len(self._entries)

    def __iter__(self):
        return iter(self._entries)

    def __reversed__(self):
        return reversed(self._entries)

    def __contains__(self, item):
        return item in self._entries

    def _position(self, index):
        if isinstance(index, slice) or not hasattr(index, "__index__"):
            raise TypeError(f"sequence index must be integer, not '{type(index).__name__}'")
        return index

    def __getitem__(self, index):
        try:
            return self._entries[self._position(index)]
        except IndexError:
            raise IndexError("deque index out of range") from None

    def __setitem__(self, index, item):
        try:
            self._entries[self._position(index)] = item
        except IndexError:
            raise IndexError("deque index out of range") from None

    def __delitem__(self, index):
        try:
            del self._entries[self._position(index)]
        except IndexError:
            raise IndexError("deque index out of range") from None

    def __repr__(self):
        end = "" if self.maxlen is None else f", maxlen={self.maxlen}"
        text = repr(self._entries)
        if text.startswith("<"):
            return text.replace("persist.List", "persist.Deque")
        return f"deque({text}{end})"

    def _compared(self, other, how):
        if not isinstance(other, (_collections.deque, Deque)):
            return NotImplemented
        return how(self._entries.copy(), list(other))

    def __eq__(self, other):
        return self._compared(other, _operator.eq)

    def __ne__(self, other):
        return self._compared(other, _operator.ne)

    def __lt__(self, other):
        return self._compared(other, _operator.lt)

    def __le__(self, other):
        return self._compared(other, _operator.le)

    def __gt__(self, other):
        return self._compared(other, _operator.gt)

    def __ge__(self, other):
        return self._compared(other, _operator.ge)

    __hash__ = None

    def __add__(self, other):
        if not isinstance(other, (_collections.deque, Deque)):
            return NotImplemented
        return self._plain() + _collections.deque(other)

    def __radd__(self, other):
        if not isinstance(other, _collections.deque):
            return NotImplemented
        return other + self._plain()

    def __iadd__(self, other):
        self.extend(other)
        return self

    def __mul__(self, n):
        return self._plain() * n

    __rmul__ = __mul__

    def __imul__(self, n):
        items = self._plain()
        items *= n
        self._entries[:] = list(items)
        return self

    def get(self, timeout=None):
        """Remove and return the item on the left; wait until there is one: see `List.pop_wait`."""
        return self._entries.pop_wait(0, timeout)

    def get_async(self, timeout=None):
        """Await what `get` returns, without blocking the event loop."""
        return self._entries.pop_wait_async(0, timeout)

    def append(self, item, /):
        """Add an item on the right."""
        if self.maxlen is None:
            self._entries.append(item)
        else:
            self.extend([item])

    def appendleft(self, item, /):
        """Add an item on the left."""
        if self.maxlen is None:
            self._entries.insert(0, item)
        else:
            self.extendleft([item])

    def extend(self, items, /):
        """Add items on the right, in one operation."""
        items = list(items)
        if self.maxlen is None:
            self._entries.extend(items)
        elif items:
            self._extend(items)

    @_atomic
    def _extend(self, items):
        most = self.maxlen
        self._entries.extend(items[max(len(items) - most, 0) :])
        if len(self._entries) > most:
            del self._entries[: len(self._entries) - most]

    def extendleft(self, items, /):
        """Add items on the left one by one, which reverses them, in one operation."""
        items = list(items)[::-1]
        if self.maxlen is None:
            self._entries[0:0] = items
        elif items:
            self._extendleft(items)

    @_atomic
    def _extendleft(self, items):
        most = self.maxlen
        self._entries[0:0] = items[:most]
        if len(self._entries) > most:
            del self._entries[most:]

    def pop(self):
        """Remove and return the rightmost item."""
        return self._popped(-1)

    def popleft(self):
        """Remove and return the leftmost item."""
        return self._popped(0)

    def _popped(self, index):
        try:
            return self._entries.pop(index)
        except IndexError:
            raise IndexError("pop from an empty deque") from None

    def remove(self, item, /):
        """Remove the first item equal to this one."""
        try:
            self._entries.remove(item)
        except ValueError:
            raise ValueError(f"{item!r} is not in deque") from None

    def index(self, item, start=0, stop=None, /):
        """Return the first position of an item."""
        try:
            return self._entries.index(item, start, *(() if stop is None else (stop,)))
        except ValueError:
            raise ValueError(f"{item!r} is not in deque") from None

    def count(self, item, /):
        """Return the number of items equal to this one."""
        return self._entries.count(item)

    def insert(self, index, item, /):
        """Insert an item before a position."""
        if self.maxlen is None:
            self._entries.insert(index, item)
        else:
            self._insert(index, item)

    @_atomic
    def _insert(self, index, item):
        if len(self._entries) >= self.maxlen:
            raise IndexError("deque already at its maximum size")
        self._entries.insert(index, item)

    @_atomic
    def rotate(self, n=1, /):
        """Move n items from the right to the left, in one operation."""
        n = _operator.index(n)
        length = len(self._entries)
        if length < 2 or n % length == 0:
            return
        right, left = n % length, length - n % length
        if right <= left:
            moved = self._entries[left:]
            del self._entries[left:]
            self._entries[0:0] = moved
        else:
            moved = self._entries[:left]
            del self._entries[:left]
            self._entries.extend(moved)

    def reverse(self):
        """Reverse the order, in place."""
        self._entries.reverse()

    def clear(self):
        """Remove everything."""
        self._entries.clear()

    def copy(self):
        """Return a plain `collections.deque` with the same items; the containers among them stay in the store."""
        return self._plain()

    __copy__ = copy
