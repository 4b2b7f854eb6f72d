"""The types of the standard library and of numpy that a store keeps: their names, and the texts of their values.

A type is kept exactly: instances of classes that derive from it are not of it. No module is imported to find out a
value's type; a module is imported to read a value of one of its types. A class that a value names (of an enumeration,
of a named tuple) is found as the classes of objects are, and never imported otherwise.
"""

import re as _re
import sys as _sys

from . import _arrays, _literals, _persist, _typed
from ._link import Link
from ._typed import Opaque

_fullmatch = _re.fullmatch

# Types by their modules, which need not be imported: `module.Class`, and the name in a store.
_PATHS = {"PurePosixPath": "pureposixpath", "PosixPath": "posixpath", "PureWindowsPath": "purewindowspath"}
_DELTA = _re.compile(r"P(-?[0-9]{1,9})DT([0-9]{1,5})(?:\.([0-9]{6}))?S")
_ZONED = _re.compile(r"([^\[\]]+)(?:\[([A-Za-z0-9_+/.-]+)\])?(?:\[name=([^\[\]]*)\])?(\[fold=1\])?")
_OFFSET = _re.compile(r"([+-])([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:\.([0-9]{6}))?)?")


class _NotThis(Exception):
    """A value that cannot be stored, though its type can."""


def _range_text(r):
    return f"range({', '.join(_literals.int_text(n) for n in (r.start, r.stop, r.step))})"


def _range(text):
    if not (text.startswith("range(") and text.endswith(")")):
        raise ValueError(text)
    return range(*(_literals.number(word) for word in text[6:-1].split(", ")))


# --- times ---------------------------------------------------------------------------------------


def _tags(value):
    """Return the offset, the name of the zone and the fold of a datetime or time, as text."""
    import datetime

    zone = value.tzinfo
    fold = "[fold=1]" if value.fold else ""
    if zone is None:
        return fold
    if type(zone) is datetime.timezone:
        bare = datetime.timezone(zone.utcoffset(None)).tzname(None)
        name = zone.tzname(None)
        if name == bare:
            return fold
        if any(sign in "[]" or not sign.isprintable() for sign in name):
            raise _NotThis
        return f"[name={name}]{fold}"
    zoneinfo = _sys.modules.get("zoneinfo")
    key = zone.key if zoneinfo is not None and type(zone) is zoneinfo.ZoneInfo else None
    if key is None or not _fullmatch(r"[A-Za-z0-9_+/.-]+", key):
        raise _NotThis
    return f"[{key}]{fold}"


def _zoned_text(value):
    tags = _tags(value)
    return type(value).isoformat(value) + tags


def _zoned(text, kind):
    """Read a datetime or time."""
    import datetime

    match = _ZONED.fullmatch(text)
    if match is None:
        raise ValueError(text)
    iso, key, name, fold = match.groups()
    offset = _OFFSET.search(iso[5:])
    cut = None if offset is None else 5 + offset.start()
    if cut is not None and 5 + offset.end() != len(iso):
        raise ValueError(text)
    value = getattr(datetime, kind).fromisoformat(iso[:cut])
    if value.tzinfo is not None or type(value).isoformat(value) != iso[:cut]:
        raise ValueError(text)
    zone = None
    if offset is not None:
        sign, hours, minutes, seconds, micros = offset.groups()
        delta = datetime.timedelta(
            hours=int(hours), minutes=int(minutes), seconds=int(seconds or 0), microseconds=int(micros or 0)
        )
        delta = -delta if sign == "-" else delta
        if name is not None:
            zone = datetime.timezone(delta, name)
        else:
            zone = datetime.timezone(delta) if delta else datetime.timezone.utc
    elif name is not None:
        raise ValueError(text)
    if key is not None:
        try:
            import zoneinfo

            zone = zoneinfo.ZoneInfo(key)
        except (ImportError, LookupError, ValueError, OSError):
            # The zone is not known here: the value is kept as it is.
            return Opaque(kind, text)
    return value.replace(tzinfo=zone, fold=1 if fold else 0)


def _date(text):
    import datetime

    if not _fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
        raise ValueError(text)
    return datetime.date.fromisoformat(text)


def _delta_text(delta):
    micros = f".{delta.microseconds:06}" if delta.microseconds else ""
    return f"P{delta.days}DT{delta.seconds}{micros}S"


def _delta(text):
    import datetime

    match = _DELTA.fullmatch(text)
    if match is None:
        raise ValueError(text)
    days, seconds, micros = match.groups()
    return datetime.timedelta(int(days), int(seconds), int(micros or 0))


# --- numbers and names ---------------------------------------------------------------------------


def _decimal(text):
    import decimal

    # By the class, so that the precision of the running context does not matter.
    with decimal.localcontext() as context:
        context.traps[decimal.InvalidOperation] = True
        return decimal.Decimal(text)


def _fraction_text(value):
    text = _literals.int_text(value.numerator)
    return text if value.denominator == 1 else f"{text}/{_literals.int_text(value.denominator)}"


def _fraction(text):
    import fractions

    numerator, _, denominator = text.partition("/")
    if "." in text or "e" in text and "x" not in text:
        raise ValueError(text)
    return fractions.Fraction(_literals.number(numerator), _literals.number(denominator or "1"))


def _uuid(text):
    import uuid

    if not _fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", text):
        raise ValueError(text)
    return uuid.UUID(text)


def _path(name):
    def read(text):
        import pathlib

        return getattr(pathlib, name)(text)

    return read


# --- classes of the program ----------------------------------------------------------------------


def _class_named(prefix, cls):
    """Return the type name for a class that reading can find; None for one that it cannot."""
    name = f"{prefix}:{cls.__module__}:{cls.__qualname__}"
    if not _persist._is_found(cls) or len(name.encode("utf-8", "surrogatepass")) > 255:
        return None
    return name


def is_enum(cls):
    enum = _sys.modules.get("enum")
    return enum is not None and issubclass(cls, enum.Enum)


def _enum(value):
    import enum

    cls = type(value)
    name = _class_named("enum", cls)
    if name is None:
        return None
    there = cls.__members__
    text = value._name_
    if text is not None and there.get(text) is value:
        return name, text
    if not isinstance(value, enum.Flag) or any("|" in member or member.isdigit() for member in there):
        return None
    rest, parts = value._value_, []
    for member, one in there.items():
        bits = one._value_
        if bits > 0 and bits & (bits - 1) == 0 and rest & bits:
            parts.append(member)
            rest &= ~bits
    if rest or not parts:
        parts.append(str(rest))
    text = "|".join(parts)
    return (name, text) if _enum_of(cls, text) is value else None


def _enum_of(cls, text):
    import enum

    there = cls.__members__
    if text in there:
        return there[text]
    if not issubclass(cls, enum.Flag):
        return None
    bits = 0
    for part in text.split("|"):
        if part in there:
            bits |= there[part]._value_
        elif _fullmatch(r"-?[0-9]{1,80}", part):
            bits |= int(part)
        else:
            return None
    try:
        return cls(bits)
    except ValueError:
        return None


def is_named_tuple(cls):
    fields = getattr(cls, "_fields", None)
    return issubclass(cls, tuple) and type(fields) is tuple


def _of_class(name, content):
    """Return the value of a class of the program; None if it is not there, or has no such value."""
    prefix, _, path = name.partition(":")
    cls = _persist._find_class(path)
    if cls is None or type(content) is not str:
        return None
    if prefix == "enum":
        return _enum_of(cls, content) if is_enum(cls) else None
    if not is_named_tuple(cls):
        return None
    items = _literals.read(content, _typed.decode)
    if type(items) is not tuple or len(items) != len(cls._fields):
        return None
    return tuple.__new__(cls, items)


# --- the tables ----------------------------------------------------------------------------------


def _text_of(value):
    return _literals.write(value, _typed.encode)


def _read_literal(kind):
    def read(text):
        value = _literals.read(text, _typed.decode)
        if type(value) is not kind:
            raise ValueError(text)
        return value

    return read


# Of the name in a store: the module and the class, how the content is made, and how it is read.
_KINDS = {
    "tuple": ("builtins", "tuple", _text_of, _read_literal(tuple)),
    "frozenset": ("builtins", "frozenset", _text_of, _read_literal(frozenset)),
    "bytearray": ("builtins", "bytearray", bytes, bytearray),
    "complex": ("builtins", "complex", _literals.complex_text, _literals.read_complex),
    "range": ("builtins", "range", _range_text, _range),
    "date": ("datetime", "date", lambda value: value.isoformat(), _date),
    "datetime": ("datetime", "datetime", _zoned_text, lambda text: _zoned(text, "datetime")),
    "time": ("datetime", "time", _zoned_text, lambda text: _zoned(text, "time")),
    "timedelta": ("datetime", "timedelta", _delta_text, _delta),
    "decimal": ("decimal", "Decimal", str, _decimal),
    "fraction": ("fractions", "Fraction", _fraction_text, _fraction),
    "uuid": ("uuid", "UUID", str, _uuid),
}
# In a tuple; by itself it is a kind of value of the store.
_KINDS["link"] = ("persist", "Link", str.__str__, Link)
for _class, _name in _PATHS.items():
    _KINDS[_name] = ("pathlib", _class, str, _path(_class))

_BINARY = ("bytearray", "numpy.ndarray", "numpy.bytes_")
_encoders: dict = {}
_told: set = set()
_MOST_TOLD = 1000


def is_builtin(name):
    """Return whether a name is one of persist's own."""
    # The last two are how the mount shows whether a content is text.
    return name in _KINDS or name.startswith(("enum:", "namedtuple:", "numpy.", "bytes:", "text:"))


def named(cls):
    """Return the name of a type of the tables, and how its content is made."""
    found = _encoders.get(cls)
    if found is None:
        for name, (module, short, text, _) in _KINDS.items():
            module = _sys.modules.get(module)
            if module is not None and getattr(module, short, None) is cls:
                found = _encoders[cls] = (name, text)
                break
    return found


def keeps(cls):
    """Return whether instances of a class are kept without a registration."""
    numpy = _sys.modules.get("numpy")
    return (
        cls in (type(None), bool, int, float, str, bytes, dict, list, Opaque, memoryview)
        or issubclass(cls, (_persist.Object, _persist.Dict, _persist.List))
        or named(cls) is not None
        or is_enum(cls)
        or (numpy is not None and getattr(numpy, cls.__name__, None) is cls)
    )


def _encode(value):
    cls = type(value)
    found = named(cls)
    if found is not None:
        try:
            return found[0], found[1](value)
        except _NotThis:
            return None
    if is_enum(cls):
        return _enum(value)
    if is_named_tuple(cls):
        name = _class_named("namedtuple", cls)
        return name and (name, _text_of(tuple(value)))
    if cls is memoryview and value.format in ("B", "b", "c"):
        return None, value.tobytes()
    numpy = _sys.modules.get("numpy")
    if numpy is not None and cls.__module__ == "numpy" and hasattr(numpy, "ndarray"):
        return _arrays.encode(value, numpy)
    return None


def encode(value):
    """Return the name of the type and the content of a value; None if it cannot be stored.

    The name None is that of bytes.
    """
    try:
        return _encode(value)
    except _literals.Refused:
        return None


def refusal(value):
    """Return what in a tuple or frozenset cannot be stored, and the steps to it; None if it can be."""
    try:
        _literals.write(tuple(value) if isinstance(value, tuple) else value, _typed.encode)
    except _literals.Refused as refused:
        return refused.item, refused.steps
    return None


def _opaque(name, content):
    """Return a value of a type that this program has not. Tell `logging` so, once for each type."""
    if name not in _told and len(_told) < _MOST_TOLD:
        _told.add(name)
        # A program that has not imported it does not listen.
        logging = _sys.modules.get("logging")
        if logging is not None:
            said = "the type %r is not registered in this program: its values are persist.Opaque"
            logging.getLogger("persist").info(said, name)
    return Opaque(name, content)


def decode(name, content):
    """Return the value of a name and a content: a str, bytes, or a memoryview of the bytes of an array."""
    if name.startswith(("enum:", "namedtuple:")):
        value = _of_class(name, content)
        return _opaque(name, content) if value is None else value
    found = _KINDS.get(name)
    is_numpy = _arrays.is_name(name)
    if found is None and not is_numpy:
        return _opaque(name, content)
    try:
        if (type(content) is str) is (name in _BINARY):
            raise ValueError("bytes in place of text, or text in place of bytes")
        return _arrays.decode(name, content) if found is None else found[3](content)
    except (ValueError, TypeError, LookupError, ArithmeticError) as e:
        if _typed.is_noted(e):
            # Of a registered type, in a tuple.
            raise
        start = content[:60]
        shown = repr(bytes(start) if type(start) is memoryview else start)
        raise _persist.Corrupt(f"the store has a value of type {name!r} that is none: {shown}") from e


def plain(value):
    """Return what JSON writes of a value. Raises LookupError for a type that is not kept, or has no text."""
    if is_enum(type(value)):
        return value.value
    if type(value) is frozenset:
        return list(value)
    numpy = _sys.modules.get("numpy")
    if numpy is not None and isinstance(value, (numpy.ndarray, numpy.generic)):
        return value.tolist()
    _, content = _typed.encode(value) or (None, None)
    if type(content) is not str:
        raise LookupError
    return content
