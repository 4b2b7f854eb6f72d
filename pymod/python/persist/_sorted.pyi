"""`SortedDict`: a dict in a store whose keys are in order."""

from collections.abc import (
    ItemsView as _ItemsViewABC,
    Iterator,
    KeysView as _KeysViewABC,
    Mapping,
    Sequence,
    ValuesView as _ValuesViewABC,
)
from typing import Any, TypeVar, final, overload

from ._persist import Dict

_K = TypeVar("_K")
_V = TypeVar("_V")
_T = TypeVar("_T")

@final
class SortedDict(Dict[_K, _V]):
    """A dict that lives in a store, with its keys in ascending order."""

    __slots__ = ()
    def __or__(self, other: Mapping[_K, _V]) -> dict[_K, _V]: ...
    def __copy__(self) -> dict[_K, _V]: ...
    def irange(
        self,
        minimum: _K | None = None,
        maximum: _K | None = None,
        inclusive: tuple[bool, bool] = (True, True),
        reverse: bool = False,
    ) -> Iterator[_K]: ...
    def islice(
        self, start: int | None = None, stop: int | None = None, reverse: bool = False
    ) -> Iterator[_K]: ...
    def bisect_left(self, key: _K) -> int: ...
    def bisect_right(self, key: _K) -> int: ...
    def bisect(self, key: _K) -> int: ...
    def index(self, key: _K, start: int | None = None, stop: int | None = None) -> int: ...
    def peekitem(self, index: int = -1) -> tuple[_K, _V]: ...
    def popitem(self, index: int = -1) -> tuple[_K, _V]: ...
    def keys(self) -> SortedKeysView[_K]: ...  # type: ignore[override]
    def values(self) -> SortedValuesView[_V]: ...  # type: ignore[override]
    def items(self) -> SortedItemsView[_K, _V]: ...  # type: ignore[override]
    def copy(self) -> dict[_K, _V]: ...

class _View(Sequence[_T]):
    __slots__ = ()
    def __len__(self) -> int: ...
    @overload
    def __getitem__(self, index: int) -> _T: ...
    @overload
    def __getitem__(self, index: slice) -> list[_T]: ...
    def __iter__(self) -> Iterator[_T]: ...
    def __reversed__(self) -> Iterator[_T]: ...
    def __contains__(self, value: object) -> bool: ...

class SortedKeysView(_View[_K], _KeysViewABC[_K]):
    """The keys of a SortedDict: a live view, with the operations of a set and with positions."""

    __slots__ = ()
    def __contains__(self, key: object) -> bool: ...
    def index(self, key: Any, start: int = 0, stop: int | None = None) -> int: ...
    def count(self, key: Any) -> int: ...

class SortedValuesView(_View[_V], _ValuesViewABC[_V]):
    """The values of a SortedDict, in the order of their keys: a live view with positions."""

    __slots__ = ()
    def __contains__(self, value: object) -> bool: ...

class SortedItemsView(_View[tuple[_K, _V]], _ItemsViewABC[_K, _V]):
    """The entries of a SortedDict, in order: a live view with positions."""

    __slots__ = ()
    def __contains__(self, item: object) -> bool: ...
