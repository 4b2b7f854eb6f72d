"""Shapes for people: pprint, rich, and notebooks. Imported by the first of them that meets a proxy."""

import html
import itertools
import sys
from collections import abc as _abc

from ._deques import Deque
from ._mappings import Counter, DefaultDict, OrderedDict
from ._persist import Dict, List, Object, _Wrapped
from ._sets import Set
from ._sorted import SortedDict

# The most entries of one container, levels, entries of all, and characters of a value in a tree of HTML.
_ENTRIES, _LEVELS, _ALL, _TEXT = 100, 4, 1000, 200


def _as_copy(shape):
    """Return the shape of the builtin type for a container, whose items stay proxies."""
    return lambda printer, of, *where: shape(printer, of.copy(), *where)


def _pprint_named(printer, of, stream, indent, allowance, context, level):
    """Write `SortedDict({...})`, and a DefaultDict as pprint writes a defaultdict."""
    if not of:
        stream.write(repr(of))
        return
    if isinstance(of, DefaultDict):
        # The factory may be one that this program does not have.
        indent += len("defaultdict(")
        stream.write(f"defaultdict({of._shown()},\n{' ' * indent}")
    else:
        indent += len("SortedDict(")
        stream.write("SortedDict(")
    printer._pprint_dict(of, stream, indent, allowance + 1, context, level)
    stream.write(")")


def shape_pprint():
    """Let pprint break the lines of containers as those of the builtin types."""
    printer = sys.modules["pprint"].PrettyPrinter
    printer._dispatch.update(
        {
            Dict.__repr__: printer._pprint_dict,
            List.__repr__: printer._pprint_list,
            Set.__repr__: _as_copy(printer._pprint_set),
            Deque.__repr__: _as_copy(printer._pprint_deque),
            OrderedDict.__repr__: printer._pprint_ordered_dict,
            Counter.__repr__: printer._pprint_counter,
            DefaultDict.__repr__: _pprint_named,
            SortedDict.__repr__: _pprint_named,
        }
    )


def _deque_braces(of):
    most = of.maxlen
    return (
        ("deque([", "])", "deque()")
        if most is None
        else ("deque([", f"], maxlen={most})", f"deque(maxlen={most})")
    )


def _default_dict_braces(of):
    factory = of._shown()
    return f"defaultdict({factory}, {{", "})", f"defaultdict({factory}, {{}})"


def shape_rich():
    """Let rich show containers as the builtin types."""
    pretty = sys.modules.get("rich.pretty")
    if pretty is None or Dict in pretty._BRACES:
        return
    # rich takes the first class that an object is an instance of: Dict is the last.
    pretty._BRACES.update(
        {
            Set: lambda _: ("{", "}", "set()"),
            Deque: _deque_braces,
            OrderedDict: lambda _: ("OrderedDict({", "})", "OrderedDict()"),
            Counter: lambda _: ("Counter({", "})", "Counter()"),
            DefaultDict: _default_dict_braces,
            SortedDict: lambda _: ("SortedDict({", "})", "SortedDict({})"),
            List: lambda _: ("[", "]", "[]"),
            Dict: lambda _: ("{", "}", "{}"),
        }
    )
    pretty._CONTAINERS = tuple(pretty._BRACES)
    pretty._MAPPING_CONTAINERS = (*pretty._MAPPING_CONTAINERS, Dict)


def _value(value, level, left, above):
    if isinstance(value, (Dict, List, Object, _Wrapped)):
        return _tree(value, level, left, above)
    return html.escape(_cut(repr(value)))


def _cut(text):
    return text if len(text) <= _TEXT else text[:_TEXT] + "..."


def _members(of):
    """Return the number of members of a container, and them with their names in HTML; those of a set have none."""
    if isinstance(of, Set):
        return len(of), ((None, member) for member in of)
    if isinstance(of, _abc.Sequence):
        return len(of), ((str(n), item) for n, item in enumerate(of))
    if isinstance(of, Object):
        found = vars(of)
        return len(found), ((html.escape(str(name)), value) for name, value in found.items())
    return len(of), ((html.escape(repr(key)[:_TEXT]), value) for key, value in of.items())


def _tree(of, level, left, above):
    kind = type(of).__name__
    if level == 0 or id(of) in above:
        return f"<i>{html.escape(kind)} ...</i>"
    size, members = _members(of)
    rows = []
    for name, value in itertools.islice(members, _ENTRIES):
        if left[0] == 0:
            break
        left[0] -= 1
        label = "" if name is None else f"<b>{name}</b>: "
        rows.append(f"<li>{label}{_value(value, level - 1, left, {*above, id(of)})}</li>")
    if len(rows) < size:
        rows.append(f"<li>... {size - len(rows)} more</li>")
    is_open = " open" if level == _LEVELS else ""
    return (
        f"<details{is_open}><summary>{html.escape(kind)}, {size}</summary><ul>{''.join(rows)}</ul></details>"
    )


def to_html(of):
    """Return a tree of a container or stored Object: bounded, whatever its size; None if it cannot be read."""
    try:
        return _tree(of, _LEVELS, [_ALL], frozenset())
    except Exception:
        return None


def keys(of):
    """Return keys for completion: no more than a person can choose from."""
    return list(itertools.islice(of, _ALL))
