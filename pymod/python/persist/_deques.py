"""`Deque`: a `collections.deque` as it lives in a store. Imported when the first is met; see `_containers` for the
rules.
"""

import collections as _collections
import operator as _operator
import types as _types
from collections import abc as _abc

from ._containers import _atomic, _not_made
from ._persist import _Wrapped


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

    def view(self, index, /):
        """Return a read-only memoryview of an item that is bytes, a bytearray or an array: see `List.view`.

        >>> import collections
        >>> root['chunks'] = collections.deque([b'first', b'second'])
        >>> bytes(root['chunks'].view(-1)[:3])
        b'sec'
        """
        try:
            return self._entries.view(self._position(index))
        except IndexError:
            raise IndexError("deque index out of range") from None

    def wait(self, timeout=None):
        """Wait until the deque is not empty: see `List.wait`."""
        self._entries.wait(timeout)

    def wait_async(self, timeout=None):
        """Await what `wait` waits for, without blocking the event loop."""
        return self._entries.wait_async(timeout)

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
