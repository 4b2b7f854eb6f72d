"""The scalars and arrays of numpy that a store keeps. numpy is imported only to read one of them."""

import re as _re

from ._literals import complex_text as _complex_text, read_complex as _complex
from ._typed import Opaque

UNIT = _re.compile(
    r"numpy\.(datetime64|timedelta64)\[((?:[0-9]{1,9})?(?:Y|M|W|D|h|m|s|ms|us|ns|ps|fs|as)|generic)\]"
)

_TEXTS = {
    "b": (lambda value: str(bool(value)), {"True": True, "False": False}.__getitem__),
    "i": (lambda value: str(int(value)), int),
    "u": (lambda value: str(int(value)), int),
    "f": (lambda value: float.__repr__(float(value)), float),
    "c": (lambda value: _complex_text(complex(value)), _complex),
}
_SCALARS = (
    "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64 complex64 complex128 str_ bytes_"
).split()


def encode(value, np):
    cls = type(value)
    if cls is np.ndarray:
        return _array(value, np)
    if cls is np.str_:
        return "numpy.str_", str.__str__(value)
    if cls is np.bytes_:
        return "numpy.bytes_", bytes(value)
    if cls is np.datetime64 or cls is np.timedelta64:
        unit, count = np.datetime_data(value.dtype)
        name = f"numpy.{cls.__name__}[{count if count != 1 else ''}{unit}]"
        return (name, str(int(value.view("int64")))) if UNIT.fullmatch(name) else None
    if (
        not issubclass(cls, np.generic)
        or value.dtype.name not in _SCALARS
        or np.dtype(value.dtype.name).type is not cls
    ):
        return None
    return f"numpy.{value.dtype.name}", _TEXTS[value.dtype.kind][0](value)


def _array(value, np):
    import io

    if value.dtype.hasobject:
        return None
    out = io.BytesIO()
    np.lib.format.write_array(out, np.asarray(value, order="C"), allow_pickle=False)
    return "numpy.ndarray", out.getvalue()


def _read_array(content, np):
    import io

    # The head says how long it is; an array of 1 GiB costs no more than its head.
    end = 10 + int.from_bytes(content[8:10], "little") if content[6:7] == b"\x01" else 1 << 20
    head = io.BytesIO(content[:end])
    version = np.lib.format.read_magic(head)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in read:
        return np.load(io.BytesIO(content), allow_pickle=False)
    shape, fortran, dtype = read[version](head)
    if dtype.hasobject or fortran:
        raise ValueError("an array of objects, or not in C order")
    count = 1
    for n in shape:
        count *= n
    if len(content) - head.tell() != count * dtype.itemsize:
        raise ValueError("an array of a wrong size")
    if count * dtype.itemsize == 0:
        array = np.zeros(shape, dtype)
    else:
        array = np.frombuffer(content, dtype, count, head.tell()).reshape(shape)
    array.setflags(write=False)
    return array


def decode(name, content):
    try:
        import numpy as np
    except ImportError:
        return Opaque(name, bytes(content) if type(content) is memoryview else content)
    if name == "numpy.ndarray":
        return _read_array(content, np)
    match = UNIT.fullmatch(name)
    if match is not None:
        kind, unit = match.groups()
        if kind == "datetime64" and unit == "generic":
            # No other datetime is without a unit.
            return np.datetime64("NaT")
        return getattr(np, kind)(int(content), unit)
    short = name[6:]
    if short in ("str_", "bytes_"):
        return getattr(np, short)(content)
    dtype = np.dtype(short)
    return dtype.type(_TEXTS[dtype.kind][1](content))


def is_name(name):
    """Return whether a name is that of a type of numpy that is read."""
    return name[:6] == "numpy." and (name[6:] in (*_SCALARS, "ndarray") or UNIT.fullmatch(name) is not None)
