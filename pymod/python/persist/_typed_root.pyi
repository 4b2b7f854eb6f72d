"""The root of a store as an instance of a class. Use `persist.open(path, root=Class)`."""

from typing import Any, TypeVar

from ._persist import Dict, Object, Store

_R = TypeVar("_R", bound=Object)

def open_root(store: Store[Any], root: Dict[Any, Any], cls: type[_R]) -> _R: ...
