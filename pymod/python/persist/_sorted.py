"""`SortedDict`: a dict in a store whose keys are in order. Imported at its first use.

1. The store keeps the order, and changes it in the operation that adds or removes a key.
2. An iterator goes on from the key that it has returned last, so that a change beside it neither hides a key that
   stays nor shows one twice.
"""

import sys as _sys
from collections import abc as _abc

from ._containers import _atomic
from ._persist import Dict, _sorted_keys, _sorted_position

_CHUNK = 128


class SortedDict(Dict):
    """A dict that lives in a store, with its keys in ascending order: all numbers (also Decimal and Fraction), all str,
    all bytes, or all of one type of `datetime`.

    One that the program makes is in no store until it is stored, and is the stored one from then on.

    >>> root['log'] = persist.SortedDict({30: 'c', 10: 'a', 20: 'b'})
    >>> list(root['log'].irange(15))
    [20, 30]
    >>> root['log'].peekitem(0)
    (10, 'a')
    """

    __module__ = "persist"
    __slots__ = ()

    def __init_subclass__(cls, **kwargs):
        raise TypeError("a class cannot derive from persist.SortedDict")

    def __iter__(self):
        return self._walk(None, None, (True, True), False)

    def __reversed__(self):
        return self._walk(None, None, (True, True), True)

    def _range(self, minimum, maximum, inclusive):
        low = 0 if minimum is None else _sorted_position(self, minimum, not inclusive[0])
        return low, len(self) if maximum is None else _sorted_position(self, maximum, inclusive[1])

    def _walk(self, minimum, maximum, inclusive, reverse):
        while True:
            low, high = self._range(minimum, maximum, inclusive)
            if low >= high:
                return
            start = max(high - _CHUNK, low) if reverse else low
            keys = _sorted_keys(self, start, min(_CHUNK, high - low))
            if not keys:
                return
            yield from reversed(keys) if reverse else keys
            if reverse:
                maximum, inclusive = keys[0], (inclusive[0], False)
            else:
                minimum, inclusive = keys[-1], (False, inclusive[1])

    def irange(self, minimum=None, maximum=None, inclusive=(True, True), reverse=False):
        """Return an iterator over the keys from minimum to maximum; None means no limit.

        >>> root['log'] = persist.SortedDict({30: 'c', 10: 'a', 20: 'b'})
        >>> list(root['log'].irange(10, 30, inclusive=(False, True), reverse=True))
        [30, 20]
        """
        # An error of a limit comes at once.
        self._range(minimum, maximum, inclusive)
        return self._walk(minimum, maximum, inclusive, reverse)

    def islice(self, start=None, stop=None, reverse=False):
        """Return an iterator over the keys at the positions from start to stop.

        >>> root['log'] = persist.SortedDict({30: 'c', 10: 'a', 20: 'b'})
        >>> list(root['log'].islice(1))
        [20, 30]
        """
        keys = self._slice(slice(start, stop))
        return reversed(keys) if reverse else iter(keys)

    def _slice(self, part):
        start, stop, step = part.indices(len(self))
        if step == 1:
            return _sorted_keys(self, start, max(stop - start, 0))
        return _sorted_keys(self, 0, len(self))[part]

    def _at(self, index):
        index = index.__index__()
        keys = _sorted_keys(self, index if index >= 0 else max(len(self) + index, 0), 1)
        if not keys or index < -len(self):
            raise IndexError("list index out of range")
        return keys[0]

    def bisect_left(self, key):
        """Return the position at which the key is, or would be inserted.

        >>> root['log'] = persist.SortedDict({30: 'c', 10: 'a', 20: 'b'})
        >>> root['log'].bisect_left(20), root['log'].bisect_left(25)
        (1, 2)
        """
        return _sorted_position(self, key, False)

    def bisect_right(self, key):
        """Return the position after the key, or at which it would be inserted.

        >>> root['log'] = persist.SortedDict({30: 'c', 10: 'a', 20: 'b'})
        >>> root['log'].bisect_right(20)
        2
        """
        return _sorted_position(self, key, True)

    bisect = bisect_right

    def index(self, key, start=None, stop=None):
        """Return the position of a key; raise ValueError if it is missing.

        >>> root['log'] = persist.SortedDict({30: 'c', 10: 'a', 20: 'b'})
        >>> root['log'].index(20)
        1
        """
        start, stop, _ = slice(start, stop).indices(len(self))
        at = _sorted_position(self, key, False) if len(self) else stop
        if start <= at < stop and key in self:
            return at
        raise ValueError(f"{key!r} is not in list")

    def peekitem(self, index=-1):
        """Return the key and the value at a position.

        >>> root['log'] = persist.SortedDict({30: 'c', 10: 'a', 20: 'b'})
        >>> root['log'].peekitem(), root['log'].peekitem(0)
        ((30, 'c'), (10, 'a'))
        """
        return self._peek(index)

    @_atomic
    def _peek(self, index):
        key = self._at(index)
        return key, self[key]

    @_atomic
    def popitem(self, index=-1):
        """Remove and return the key and the value at a position.

        >>> root['log'] = persist.SortedDict({30: 'c', 10: 'a', 20: 'b'})
        >>> root['log'].popitem(0)
        (10, 'a')
        """
        if not self:
            raise KeyError("popitem(): dictionary is empty")
        key = self._at(index)
        return key, self.pop(key)

    def keys(self):
        """Return a view of the keys, in order; it has positions: `keys()[0]`.

        >>> root['log'] = persist.SortedDict({30: 'c', 10: 'a', 20: 'b'})
        >>> root['log'].keys()[0], root['log'].keys()[-2:]
        (10, [20, 30])
        """
        return SortedKeysView(self)

    def values(self):
        """Return a view of the values, in the order of their keys; it has positions.

        >>> root['log'] = persist.SortedDict({30: 'c', 10: 'a', 20: 'b'})
        >>> root['log'].values()[0]
        'a'
        """
        return SortedValuesView(self)

    def items(self):
        """Return a view of the entries, in order; it has positions.

        >>> root['log'] = persist.SortedDict({30: 'c', 10: 'a', 20: 'b'})
        >>> root['log'].items()[0]
        (10, 'a')
        """
        return SortedItemsView(self)

    def copy(self):
        """Return a plain dict with the same entries, in order."""
        plain = super().copy()
        return {key: plain[key] for key in sorted(plain)}

    __copy__ = copy

    def __or__(self, other):
        both = super().__or__(other)
        return both if both is NotImplemented else {key: both[key] for key in sorted(both)}

    def __repr__(self):
        if "pprint" in _sys.modules:
            # pprint calls this before it looks for a shape.
            from ._pretty import shape_pprint

            shape_pprint()
        try:
            return f"SortedDict({{{self._shown()}}})"
        except Exception:
            return super().__repr__()

    def _shown(self):
        parts, left = [], 10_000
        for key, value in self.items():
            if left <= 0:
                parts.append("...")
                break
            inner = "{...}" if value is self else repr(value)
            parts.append(f"{key!r}: {inner}")
            left -= len(parts[-1]) + 2
        return ", ".join(parts)


class _View(_abc.Sequence):
    __module__ = "persist"
    __slots__ = ()

    def __len__(self):
        return len(self._mapping)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self._of(key) for key in self._mapping._slice(index)]
        return self._of(self._mapping._at(index))

    def __iter__(self):
        return map(self._of, self._mapping)

    def __reversed__(self):
        return map(self._of, reversed(self._mapping))

    def __repr__(self):
        return f"{type(self).__name__}({self._mapping!r})"


class SortedKeysView(_View, _abc.KeysView):
    """The keys of a SortedDict: a live view, with the operations of a set and with positions."""

    __slots__ = ()
    _from_iterable = set

    def _of(self, key):
        return key

    def __contains__(self, key):
        return key in self._mapping

    def index(self, key, start=0, stop=None):
        """Return the position of a key; raise ValueError if it is missing."""
        return self._mapping.index(key, start, stop)

    def count(self, key):
        """Return 1 if the key is there, else 0."""
        return int(key in self._mapping)


class SortedValuesView(_View, _abc.ValuesView):
    """The values of a SortedDict, in the order of their keys: a live view with positions."""

    __slots__ = ()

    def _of(self, key):
        return self._mapping[key]

    def __contains__(self, value):
        return any(value is there or value == there for there in self)


class SortedItemsView(_View, _abc.ItemsView):
    """The entries of a SortedDict, in order: a live view with positions."""

    __slots__ = ()
    _from_iterable = set

    def _of(self, key):
        return key, self._mapping[key]

    def __contains__(self, item):
        if not isinstance(item, tuple) or len(item) != 2 or item[0] not in self._mapping:
            return False
        return self._mapping[item[0]] == item[1]
