"""Shapes for people: pprint, rich, and notebooks. Imported by the first of them that meets a proxy."""

import html
import itertools
import sys

from ._persist import Dict, List, Object

# The most entries of one container, levels, entries of all, and characters of a value in a tree of HTML.
_ENTRIES, _LEVELS, _ALL, _TEXT = 100, 4, 1000, 200


def shape_pprint():
    """Let pprint break the lines of a Dict and List as those of a dict and list."""
    printer = sys.modules["pprint"].PrettyPrinter
    printer._dispatch[Dict.__repr__] = printer._pprint_dict
    printer._dispatch[List.__repr__] = printer._pprint_list


def shape_rich():
    """Let rich show a Dict and List as a dict and list."""
    pretty = sys.modules.get("rich.pretty")
    if pretty is None or Dict in pretty._BRACES:
        return
    pretty._BRACES[Dict] = lambda _: ("{", "}", "{}")
    pretty._BRACES[List] = lambda _: ("[", "]", "[]")
    pretty._CONTAINERS = tuple(pretty._BRACES)
    pretty._MAPPING_CONTAINERS = (*pretty._MAPPING_CONTAINERS, Dict)


def _value(value, level, left, above):
    if isinstance(value, (Dict, List, Object)):
        return _tree(value, level, left, above)
    text = repr(value)
    return html.escape(text if len(text) <= _TEXT else text[:_TEXT] + "...")


def _tree(of, level, left, above):
    kind = type(of).__name__
    if level == 0 or id(of) in above:
        return f"<i>{html.escape(kind)} ...</i>"
    if isinstance(of, List):
        size = len(of)
        entries = enumerate(itertools.islice(of, _ENTRIES))
    else:
        members = vars(of) if isinstance(of, Object) else of
        size = len(members)
        entries = itertools.islice(members.items(), _ENTRIES)
    rows = []
    for key, value in entries:
        if left[0] == 0:
            break
        left[0] -= 1
        name = html.escape(repr(key)[:_TEXT] if not isinstance(of, Object) else str(key))
        rows.append(f"<li><b>{name}</b>: {_value(value, level - 1, left, {*above, id(of)})}</li>")
    if len(rows) < size:
        rows.append(f"<li>... {size - len(rows)} more</li>")
    is_open = " open" if level == _LEVELS else ""
    return (
        f"<details{is_open}><summary>{html.escape(kind)}, {size}</summary><ul>{''.join(rows)}</ul></details>"
    )


def to_html(of):
    """Return a tree of a Dict, List or stored Object: bounded, whatever its size; None if it cannot be read."""
    try:
        return _tree(of, _LEVELS, [_ALL], frozenset())
    except Exception:
        return None


def keys(of):
    """Return keys for completion: no more than a person can choose from."""
    return list(itertools.islice(of, _ALL))
