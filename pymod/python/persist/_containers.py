"""What the classes of containers have in common (`_sets`, `_deques`, `_mappings`, `_sorted`).

1. A store holds the builtin type (`set`, `collections.deque`, ...) by a class name without a module. What is read is
   one of these classes, in place: no copy, and one object for each container.
2. Each method is one operation: what consists of several runs in a transaction.
3. Operators and `copy()` return the builtin type, as those of `Dict` and `List` do.
"""

import functools as _functools

from ._persist import _run


def _atomic(method):
    """Run a method in a transaction."""

    @_functools.wraps(method)
    def run(self, *args, **kwargs):
        return _run(self, method, self, *args, **kwargs)

    return run


def _not_made(cls, instead):
    raise TypeError(f"cannot create 'persist.{cls.__name__}' instances: store a {instead}")
