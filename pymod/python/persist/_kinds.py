"""Classes of objects that need more than a `__dict__`: frozen dataclasses, attrs, `__transient__`.

`prepare` is called once for each class, before its first instance exists. Imported by the first such class.
"""

from ._persist import Object

_NOTHING = object()
_attributes = Object.__dict__["__dict__"].__get__
# The attributes that dataclasses (before and since Python 3.10) and attrs let a frozen `__init__` set.
_CELLS = ("BUILTINS", "__dataclass_builtins_object__")
_SETATTR = "_cached_setattr_get"


class Transient:
    """An attribute that is not stored: it lives in the instance only."""

    __slots__ = ("_name", "_default", "_slot")

    def __init__(self, name, default, slot):
        self._name, self._default, self._slot = name, default, slot

    def __get__(self, obj, cls=None):
        if obj is not None:
            if self._slot is not None:
                try:
                    return self._slot.__get__(obj, cls)
                except AttributeError:
                    pass
            else:
                found = _attributes(obj).get(self._name, _NOTHING)
                if found is not _NOTHING:
                    return found
        if self._default is not _NOTHING:
            return self._default
        cls = type(obj) if obj is not None else cls
        raise AttributeError(f"'{cls.__name__}' object has no attribute '{self._name}'")

    def __set__(self, obj, value):
        if self._slot is not None:
            self._slot.__set__(obj, value)
        else:
            _attributes(obj)[self._name] = value

    def __delete__(self, obj):
        if self._slot is not None:
            self._slot.__delete__(obj)
        elif _attributes(obj).pop(self._name, _NOTHING) is _NOTHING:
            raise AttributeError(f"'{type(obj).__name__}' object has no attribute '{self._name}'")


def _found(cls, name):
    for base in cls.__mro__:
        if name in base.__dict__:
            return base.__dict__[name]
    return _NOTHING


def transient_names(cls):
    """Return the names of the attributes that are not stored."""
    names = set()
    for base in cls.__mro__:
        given = base.__dict__.get("__transient__", ())
        if isinstance(given, str):
            raise TypeError(f"__transient__ of class '{base.__name__}' must be a set of names, not a str")
        names.update(given)
    return frozenset(names)


def _transient(cls):
    for name in transient_names(cls):
        there = _found(cls, name)
        if type(there) is Transient:
            continue
        is_slot = type(there).__name__ == "member_descriptor"
        if not is_slot and hasattr(type(there), "__set__"):
            continue  # A property stores nothing by itself.
        setattr(cls, name, Transient(name, _NOTHING if is_slot else there, there if is_slot else None))


def _set(obj, name, value):
    """Set an attribute as `object.__setattr__`, which refuses instances of classes that derive from Object."""
    base = Object if issubclass(type(obj), Object) else object
    base.__setattr__(obj, name, value)


class _Setter:
    """What a generated `__init__` takes for `object`."""

    __setattr__ = staticmethod(_set)


class _Builtins:
    """What a frozen dataclass of Python 3.9 takes for `builtins`."""

    object = _Setter


def _setter(obj):
    return lambda name, value: _set(obj, name, value)


def _frozen(cls):
    """Let a generated `__init__` set attributes; instances of other classes may share it."""
    init = _found(cls, "__init__")
    code = getattr(init, "__code__", None)
    if code is None:
        return
    for name, cell in zip(code.co_freevars, init.__closure__ or ()):
        if name in _CELLS:
            cell.cell_contents = _Builtins if name == "BUILTINS" else _Setter
    if _SETATTR in init.__globals__ and hasattr(cls, "__attrs_attrs__"):
        init.__globals__[_SETATTR] = _setter


def _hooks(cls):
    """Let the hooks of attrs (converters, validators) store what they return."""
    own = _found(cls, "__setattr__")
    cells = dict(
        zip(getattr(own, "__code__", _hooks.__code__).co_freevars, getattr(own, "__closure__", None) or ())
    )
    if set(cells) != {"sa_attrs"}:
        return
    hooks = cells["sa_attrs"].cell_contents
    put = Object.__setattr__

    def __setattr__(self, name, value):
        try:
            attribute, hook = hooks[name]
        except KeyError:
            pass
        else:
            value = hook(self, attribute, value)
        put(self, name, value)

    __setattr__.__qualname__ = own.__qualname__
    cls.__setattr__ = __setattr__


def slots_of(cls):
    """Return the slots of a class and its bases: name to descriptor."""
    slots = {}
    for base in cls.__mro__:
        for name, member in base.__dict__.items():
            if type(member).__name__ == "member_descriptor":
                slots.setdefault(name, member)
    return slots


def _set_state(cls):
    """Let a generated `__setstate__` of a frozen class with slots set attributes, as `_frozen` does for `__init__`."""
    own = cls.__dict__.get("__setstate__")
    if getattr(own, "__module__", None) not in ("dataclasses", "attr._make"):
        return
    names = [field if isinstance(field, str) else field.name for field in _fields(cls)]

    def __setstate__(self, state):
        for name, value in state.items() if isinstance(state, dict) else zip(names, state):
            Object.__setattr__(self, name, value)

    cls.__setstate__ = __setstate__


def _fields(cls):
    fields = getattr(cls, "__dataclass_fields__", None)
    return cls.__attrs_attrs__ if fields is None else fields


def prepare(cls):
    """Prepare a class; return the names of its attributes that are not stored, and those of its slots."""
    names = transient_names(cls)
    _transient(cls)
    if hasattr(cls, "__dataclass_params__") or hasattr(cls, "__attrs_attrs__"):
        _frozen(cls)
        _set_state(cls)
        if _found(cls, "__attrs_own_setattr__") is True:
            _hooks(cls)
    return names, tuple(name for name in slots_of(cls) if name not in names)
