"""Keys of other types than str, bytes, numbers and None: which values can be keys, and what finds them.

A value can be a key if its equality depends on nothing but its text in the store: `core/src/object/canonical.rs` hashes
and compares these texts as Python does the values. What is looked up may also be of a derived class, or of another type
that equals one of these; what no stored key can equal is not there.
"""

import sys as _sys

from . import _codecs, _literals, _typed

_PLAIN = (type(None), bool, int, float, str, bytes)
# Of these types, each value that can be stored can be a key.
_EXACT = ("date", "timedelta", "uuid", "posixpath", "pureposixpath")
# Bounds of numbers that are not integral, or not of the type int: the work in the store is bounded.
_DIGITS = 308
_BITS = 1024
# An integral decimal of more digits equals no key that is looked for.
_MOST_DIGITS = 100_000


class _NoKey(Exception):
    """What cannot be in a key."""


def _is_small(value):
    """Return whether a decimal or fraction is within the bounds of the store."""
    if _codecs.named(type(value))[0] == "fraction":
        return max(abs(value.numerator).bit_length(), value.denominator.bit_length()) <= _BITS
    if not value.is_finite():
        return value.is_infinite()
    _, digits, exponent = value.as_tuple()
    if not value:
        return len(digits) <= _DIGITS
    return len(digits) <= _DIGITS and exponent >= -_DIGITS and value.adjusted() < _DIGITS


def _equal_number(value):
    """Return the int, float or small fraction that a finite decimal or fraction equals."""
    import fractions

    if type(value) is not fractions.Fraction:
        if value and not -2 * _BITS <= value.adjusted() < _MOST_DIGITS:
            raise _NoKey
        value = fractions.Fraction(value)
    if value.denominator == 1:
        return value.numerator
    try:
        near = float(value)
    except OverflowError:
        raise _NoKey from None
    if near == value:
        return near
    if not _is_small(value):
        raise _NoKey
    return value


def _number(value, stored):
    if _is_small(value):
        return value
    if stored or _codecs.named(type(value))[0] == "decimal" and not value.is_finite():
        raise _NoKey
    return _equal_number(value)


def _moment(value, stored):
    """Return a datetime or time without a zone, or with an offset that no rules of a zone change."""
    import datetime

    zone = value.tzinfo
    if zone is None or type(zone) is datetime.timezone:
        return value
    zoneinfo = _sys.modules.get("zoneinfo")
    if zoneinfo is not None and type(zone) is zoneinfo.ZoneInfo and zone.key == "UTC":
        return value
    if stored:
        raise _NoKey
    offset = value.utcoffset()
    if offset is None:
        return value.replace(tzinfo=None)
    # Python compares a datetime that a zone has twice, or not at all, only with those of the same zone.
    if offset != value.replace(fold=not value.fold).utcoffset():
        raise _NoKey
    try:
        return value.replace(tzinfo=datetime.timezone(offset))
    except ValueError:
        raise _NoKey from None


def _is_plain_class(cls, base):
    """Return whether instances of a class are compared as those of its base are."""
    return cls.__eq__ is base.__eq__ and cls.__hash__ is base.__hash__


def _member(value):
    """Return a member of an enumeration that equals nothing else."""
    import enum

    cls = type(value)
    if cls.__eq__ is not object.__eq__ or cls.__hash__ is not enum.Enum.__hash__:
        raise _NoKey
    return value


def _base(value):
    """Return the value of a plain type that one of another class equals."""
    for cls in (str, int, float, bytes):
        if isinstance(value, cls):
            return str.__str__(value) if cls is str else cls.__add__(value, cls())
    try:
        return type(value).__index__(value)
    except (AttributeError, TypeError):
        pass
    numpy = _sys.modules.get("numpy")
    if numpy is not None and isinstance(value, (numpy.bool_, numpy.floating, numpy.complexfloating)):
        item = value.item()
        if type(item) in (bool, float, complex):
            return item
    for module, name in (("decimal", "Decimal"), ("fractions", "Fraction")):
        cls = getattr(_sys.modules.get(module), name, None)
        if cls is not None and isinstance(value, cls) and _is_plain_class(type(value), cls):
            return _number(cls(value), False)
    raise _NoKey


def _items(value, cls, stored, depth):
    if depth >= _literals.DEPTH:
        raise _NoKey
    items = [_normal(item, stored, depth + 1) for item in cls.__iter__(value)]
    # A named tuple that is stored keeps its class.
    return cls.__new__(type(value) if stored else cls, items)


def _normal(value, stored, depth=0):
    """Return a value whose text in the store is compared as the value is in Python."""
    cls = type(value)
    if cls in _PLAIN:
        return value
    if isinstance(value, tuple):
        if _is_plain_class(cls, tuple) and (cls is tuple or not stored or _codecs.is_named_tuple(cls)):
            return _items(value, tuple, stored, depth)
        raise _NoKey
    if cls is frozenset or not stored and isinstance(value, frozenset) and _is_plain_class(cls, frozenset):
        return _items(value, frozenset, stored, depth)
    if cls is _typed.Opaque:
        # A key of a class that this program has not.
        if value.name.startswith(("enum:", "namedtuple:")) or not (stored or _codecs.is_builtin(value.name)):
            return value
        raise _NoKey
    name, _ = _codecs.named(cls) or ("", None)
    if name in _EXACT:
        return value
    if name in ("decimal", "fraction"):
        return _number(value, stored)
    if name in ("datetime", "time"):
        return _moment(value, stored)
    if name == "complex":
        if value != value:
            raise _NoKey
        return value
    if stored and isinstance(value, (str, int, float, bytes)):
        raise _NoKey
    if _codecs.is_enum(cls) and not isinstance(value, (str, int, float, bytes)):
        return _member(value)
    if stored:
        try:
            return cls.__index__(value)
        except (AttributeError, TypeError):
            raise _NoKey from None
    return _base(value)


def key(value, stored):
    """See `_typed.key`."""
    hash(value)
    try:
        value = _normal(value, stored)
    except _NoKey:
        return None
    return value if type(value) in (bool, int, float) else _typed.encode(value)
