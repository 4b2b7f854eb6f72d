"""Values of other types than a store has of its own: each is the name of its type, and a content (str or bytes).

Types of the standard library and of numpy are in `_codecs`, which is imported when a value is first met that is neither
plain nor a container.
"""

import sys as _sys

# The beginnings of notes of exceptions; the place of the value follows.
_READING = "persist: reading a value of type "
_STORING = "persist: storing a value of type "

# A type: its name and `encode`. A name: its type and `decode`.
_types = {}
_names = {}


class Opaque:
    """A value of a type that is not registered in this program: the name of the type, and the content.

    It is stored back as it is. Two are equal if their names and contents are.

    >>> root['price'] = persist.Opaque('app.Money', '12.50 EUR')
    >>> root['price'].name, root['price'].value
    ('app.Money', '12.50 EUR')
    """

    __slots__ = ("name", "value", "__weakref__")
    __module__ = "persist"

    def __init__(self, name, value):
        """Make a value of the type `name`; `value` is the content, a str or bytes."""
        if type(name) is not str or type(value) not in (str, bytes):
            raise TypeError("Opaque takes the name of a type as a str, and its content as a str or bytes")
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "value", value)

    def __setattr__(self, name, value):
        raise AttributeError("a persist.Opaque cannot be changed")

    def __delattr__(self, name):
        raise AttributeError("a persist.Opaque cannot be changed")

    def __eq__(self, other):
        if type(other) is not Opaque:
            return NotImplemented
        return (self.name, self.value) == (other.name, other.value)

    def __hash__(self):
        return hash((Opaque, self.name, self.value))

    def __repr__(self):
        return f"persist.Opaque({self.name!r}, {self.value!r})"

    def __reduce__(self):
        return Opaque, (self.name, self.value)


def register(type, encode, decode, *, name=None):
    """Keep values of a class: `encode(value)` gives a str or bytes, and `decode` of that gives the value.

    The type has a name in stores: `name`, or the module and the name of the class. It has a dot, a slash or a colon
    in it, and may end with a version: values that are stored under an old name are read by what is registered under it.
    A value whose name is not registered in a program is a `persist.Opaque` there. Instances of classes that derive from
    it are refused, unless they are registered as well.

    >>> class Money:
    ...     def __init__(self, text):
    ...         self.text = text
    >>> persist.register(Money, lambda money: money.text, Money, name='app.Money/1')
    >>> root['price'] = Money('12.50 EUR')
    """
    from . import _codecs

    if not isinstance(type, _sys.modules["builtins"].type):
        raise TypeError("register() takes a class")
    if name is None:
        name = f"{type.__module__}:{type.__qualname__}"
    if not isinstance(name, str) or not 1 <= len(name.encode()) <= 255:
        raise ValueError("the name of a type must have 1 to 255 bytes of UTF-8")
    if not any(sign in name for sign in "./:") or _codecs.is_builtin(name):
        raise ValueError(
            f"the name of a type must have a dot, a slash or a colon, and be no name of persist: {name!r}"
        )
    if any(ord(sign) < 32 or ord(sign) == 127 for sign in name):
        raise ValueError("the name of a type must have no control characters")
    if _codecs.keeps(type):
        raise ValueError(f"persist keeps '{type.__name__}' without a registration")
    there = _names.get(name)
    if there is not None and there[0] is not type:
        raise ValueError(f"another class is registered as {name!r}: '{there[0].__qualname__}'")
    _types[type] = (name, encode)
    _names[name] = (type, decode)


def encode(value):
    """Return the name of the type and the content of a value; None if it cannot be stored."""
    found = _types.get(type(value))
    if found is None:
        if type(value) is not Opaque:
            from . import _codecs

            return _codecs.encode(value)
        name, content = value.name, value.value
        decode(name, content)
        return name, content
    name = found[0]
    try:
        content = found[1](value)
        if type(content) not in (str, bytes):
            raise TypeError(
                f"the encoder of {name!r} returned '{type(content).__name__}', and not a str or bytes"
            )
    except Exception as e:
        note(e, f"{_STORING}{name!r}")
        raise
    return name, content


def decode(name, content):
    """Return the value of a type name and a content."""
    found = _names.get(name)
    try:
        if found is not None:
            return found[1](content)
        from . import _codecs

        return _codecs.decode(name, content)
    except Exception as e:
        if not is_noted(e):
            note(e, f"{_READING}{name!r}")
        raise


def refusal(value):
    """Return what in a tuple or frozenset cannot be stored, and the steps to it; None if it can be."""
    from . import _codecs

    return _codecs.refusal(value)


def key(value, stored):
    """Return the name and content of a value as a key, or the plain number that it is; None if it can be none.

    With `stored`, the key is to be stored: the types of what is in it are kept. Else it is looked up.
    """
    from . import _typed_keys

    return _typed_keys.key(value, stored)


# --- notes of exceptions ---------------------------------------------------------------------------


def note(e, text):
    """Add a note to an exception, unless its class does not let it."""
    try:
        if hasattr(e, "add_note"):
            e.add_note(text)
        else:
            # Python before 3.11 keeps no notes, and shows none.
            e.__notes__ = [*getattr(e, "__notes__", ()), text]
    except Exception:
        pass


def is_noted(e):
    """Return whether the last note of an exception is that of a value, without its place."""
    try:
        last = e.__notes__[-1]
        return last.startswith((_READING, _STORING)) and last[-1] in "'\""
    except Exception:
        return False


def place(e, where):
    """Complete the last note of an exception: ` at root['a'][2]`."""
    e.__notes__[-1] += where
