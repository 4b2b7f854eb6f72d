"""`OrderedDict`, `Counter` and `DefaultDict`: those of `collections` as they live in a store, and the table of all
classes that the store knows by themselves. Imported when the first of them is met; see `_containers` for the rules.
"""

import collections as _collections
import operator as _operator

from ._containers import _atomic, _not_made
from ._deques import Deque
from ._persist import Dict, List, Object, _find_container_class, _set_class, class_name as _class_name
from ._sets import Set
from ._sorted import SortedDict


class OrderedDict(Dict):
    """A `collections.OrderedDict` that lives in a store.

    >>> import collections
    >>> root['o'] = collections.OrderedDict(a=1, b=2)
    >>> root['o'].move_to_end('a')
    >>> list(root['o'])
    ['b', 'a']
    """

    __module__ = "persist"
    __slots__ = ()

    def __new__(cls, *args, **kwargs):
        _not_made(cls, "collections.OrderedDict")

    def __repr__(self):
        text = super().__repr__()
        return text if text.startswith("<") else f"OrderedDict({'' if text == '{}' else text})"

    def __eq__(self, other):
        same = super().__eq__(other)
        if same is True and isinstance(other, (_collections.OrderedDict, OrderedDict)):
            return list(self.copy()) == list(other)
        return same

    def __ne__(self, other):
        same = self.__eq__(other)
        return same if same is NotImplemented else not same

    __hash__ = None

    def __or__(self, other):
        both = super().__or__(other)
        return both if both is NotImplemented else _collections.OrderedDict(both)

    def __ror__(self, other):
        both = super().__ror__(other)
        return both if both is NotImplemented else _collections.OrderedDict(both)

    @_atomic
    def move_to_end(self, key, last=True):
        """Move an entry to the end, or with last=False to the beginning, which rewrites all entries."""
        if last:
            self[key] = self.pop(key)
            return
        plain = self.copy()
        first = {key: plain.pop(key)}
        self.clear()
        self.update({**first, **plain})

    @_atomic
    def popitem(self, last=True):
        """Remove and return the last entry, or the first."""
        if last:
            return super().popitem()
        for key in self:
            return key, self.pop(key)
        raise KeyError("dictionary is empty")

    def copy(self):
        """Return a plain `collections.OrderedDict` with the same entries."""
        return _collections.OrderedDict(super().copy())

    __copy__ = copy


class Counter(Dict):
    """A `collections.Counter` that lives in a store.

    >>> import collections
    >>> root['c'] = collections.Counter('abracadabra')
    >>> root['c'].update('aa')
    >>> root['c'].most_common(1)
    [('a', 7)]
    """

    __module__ = "persist"
    __slots__ = ()

    def __new__(cls, *args, **kwargs):
        _not_made(cls, "collections.Counter")

    def __missing__(self, key):
        return 0

    def __delitem__(self, key):
        self.pop(key, None)

    def __repr__(self):
        text = super().__repr__()
        return text if text.startswith("<") else f"Counter({'' if text == '{}' else text})"

    def copy(self):
        """Return a plain `collections.Counter` with the same counts."""
        return _collections.Counter(super().copy())

    __copy__ = copy

    @staticmethod
    def fromkeys(iterable, v=None):
        """Raise an error, as that of `collections.Counter` does."""
        return _collections.Counter.fromkeys(iterable, v)

    def most_common(self, n=None):
        """Return the n most common elements and their counts, from the most common to the least."""
        return self.copy().most_common(n)

    def elements(self):
        """Return an iterator over elements, each as often as its count."""
        return self.copy().elements()

    def total(self):
        """Return the sum of the counts."""
        return sum(super().copy().values())

    def update(self, iterable=None, /, **kwargs):
        """Add counts from an iterable, a mapping or keywords, in one operation."""
        self._add(_collections.Counter(_counts(iterable), **kwargs), _operator.add)

    def subtract(self, iterable=None, /, **kwargs):
        """Subtract counts from those that are there, in one operation."""
        self._add(_collections.Counter(_counts(iterable), **kwargs), _operator.sub)

    @_atomic
    def _add(self, counts, how):
        super().update({key: how(self[key], n) for key, n in counts.items()})

    @_atomic
    def _become(self, how, other):
        counts = how(self.copy(), _counts(other))
        for key in super().copy():
            if key not in counts:
                self.pop(key)
        super().update(counts)
        return self

    def _compared(self, other, how):
        if not isinstance(other, (_collections.Counter, Counter)):
            return NotImplemented
        return how(self.copy(), _counts(other))

    def __eq__(self, other):
        if isinstance(other, (_collections.Counter, Counter)):
            return self._compared(other, _equal)
        return super().__eq__(other)

    def __ne__(self, other):
        same = self.__eq__(other)
        return same if same is NotImplemented else not same

    __hash__ = None

    def __le__(self, other):
        return self._compared(other, _at_most)

    def __lt__(self, other):
        return self._compared(other, lambda a, b: _at_most(a, b) and not _equal(a, b))

    def __ge__(self, other):
        return self._compared(other, lambda a, b: _at_most(b, a))

    def __gt__(self, other):
        return self._compared(other, lambda a, b: _at_most(b, a) and not _equal(a, b))

    def __add__(self, other):
        return self._compared(other, _operator.add)

    def __sub__(self, other):
        return self._compared(other, _operator.sub)

    def __and__(self, other):
        return self._compared(other, _operator.and_)

    def __or__(self, other):
        both = self._compared(other, _operator.or_)
        return super().__or__(other) if both is NotImplemented else both

    def _reflected(self, other, how):
        return how(other, self.copy()) if isinstance(other, _collections.Counter) else NotImplemented

    def __radd__(self, other):
        return self._reflected(other, _operator.add)

    def __rsub__(self, other):
        return self._reflected(other, _operator.sub)

    def __rand__(self, other):
        return self._reflected(other, _operator.and_)

    def __ror__(self, other):
        both = self._reflected(other, _operator.or_)
        return super().__ror__(other) if both is NotImplemented else both

    def __pos__(self):
        return +self.copy()

    def __neg__(self):
        return -self.copy()

    def __iadd__(self, other):
        return self._become(_operator.iadd, other)

    def __isub__(self, other):
        return self._become(_operator.isub, other)

    def __iand__(self, other):
        return self._become(_operator.iand, other)

    def __ior__(self, other):
        return self._become(_operator.ior, other)


def _counts(other):
    return other.copy() if isinstance(other, Counter) else other


def _equal(a, b):
    return all(a[key] == b[key] for both in (a, b) for key in both)


def _at_most(a, b):
    return all(a[key] <= b[key] for both in (a, b) for key in both)


class DefaultDict(Dict):
    """A `collections.defaultdict` that lives in a store, with its factory.

    >>> import collections
    >>> root['d'] = collections.defaultdict(list)
    >>> root['d']['a'].append(1)
    >>> root['d']
    defaultdict(<class 'list'>, {'a': [1]})
    """

    __module__ = "persist"
    __slots__ = ()

    def __new__(cls, *args, **kwargs):
        _not_made(cls, "collections.defaultdict")

    @property
    def default_factory(self):
        """The class that makes a missing value, or None."""
        _, _, text = _class_name(self).partition("[")
        return _factory(text[:-1]) if text else None

    @default_factory.setter
    def default_factory(self, factory):
        _set_class(self, _with_factory(factory))

    def __missing__(self, key):
        factory = self.default_factory
        if factory is None:
            raise KeyError(key)
        return self.setdefault(key, factory())

    def __repr__(self):
        text = super().__repr__()
        return text if text.startswith("<") else f"defaultdict({self._shown()}, {text})"

    def _shown(self):
        try:
            return repr(self.default_factory)
        except TypeError as e:
            return f"<{e}>"

    def __or__(self, other):
        both = super().__or__(other)
        return both if both is NotImplemented else _collections.defaultdict(self.default_factory, both)

    def __ror__(self, other):
        both = super().__ror__(other)
        return both if both is NotImplemented else _collections.defaultdict(self.default_factory, both)

    def copy(self):
        """Return a plain `collections.defaultdict` with the same factory and entries."""
        return _collections.defaultdict(self.default_factory, super().copy())

    __copy__ = copy


# What a store may name as a factory: to call it runs no code of a program.
_FACTORIES = {
    f"{cls.__module__}:{cls.__qualname__}": cls
    for cls in (
        *(bool, bytes, complex, dict, float, frozenset, int, list, set, str, tuple),
        *(_collections.Counter, _collections.OrderedDict, _collections.defaultdict, _collections.deque),
    )
}


def _factory(name):
    """Return the factory of this name; raise TypeError if this program does not have it."""
    found = _FACTORIES.get(name) or _find_container_class(name)
    if found is None:
        raise TypeError(f"the factory {name!r} of a defaultdict is not imported")
    return found


def _with_factory(factory):
    """Return the class name of a defaultdict with this factory; raise TypeError if a store cannot name it."""
    if factory is None:
        return "defaultdict"
    name = f"{getattr(factory, '__module__', '')}:{getattr(factory, '__qualname__', '')}"
    if _FACTORIES.get(name) is factory:
        return f"defaultdict[{name}]"
    if (
        isinstance(factory, type)
        and issubclass(factory, (Dict, List, Object))
        and _find_container_class(name) is factory
    ):
        return f"defaultdict[{name}]"
    raise TypeError(
        "the factory of a defaultdict in a store must be a builtin class like list, dict, set or int, "
        "or a class derived from persist.Object, Dict or List that imports find"
    )


_CLASSES = {
    "set": Set,
    "deque": Deque,
    "OrderedDict": OrderedDict,
    "Counter": Counter,
    "defaultdict": DefaultDict,
    "SortedDict": SortedDict,
}


def _class(name):
    """Return the class of what a store names so, or None."""
    return _CLASSES.get(name.partition("[")[0])


def _name(value):
    """Return the class name of a value of a builtin class, or None for another value."""
    cls = type(value)
    if cls is set:
        return "set"
    if cls is _collections.deque:
        return "deque" if value.maxlen is None else f"deque[{value.maxlen}]"
    if cls is _collections.OrderedDict or cls is _collections.Counter:
        return cls.__name__
    return _with_factory(value.default_factory) if cls is _collections.defaultdict else None


def _entries(value):
    """Return the entries of a value of a builtin class, as a plain dict or list."""
    if isinstance(value, set):
        return dict.fromkeys(value)
    return list(value) if isinstance(value, _collections.deque) else dict(value.items())


def _made(name):
    """Return an empty instance of the builtin class of this name: what `copy_out` fills and returns."""
    kind, _, text = name.partition("[")
    if kind == "set":
        return set()
    if kind == "deque":
        return _collections.deque(maxlen=int(text[:-1]) if text else None)
    if kind == "SortedDict":
        return {}
    if kind == "defaultdict":
        return _collections.defaultdict(_factory(text[:-1]) if text else None)
    return getattr(_collections, kind)()


def _fill(made, entries):
    """Put entries, a plain dict or list, into what `_made` has returned."""
    if isinstance(made, _collections.Counter):
        dict.update(made, entries)
    elif isinstance(made, _collections.deque):
        made.extend(entries)
    else:
        made.update(entries)
