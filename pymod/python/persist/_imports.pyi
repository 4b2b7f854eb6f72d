"""Reading other stores. Use `persist.import_from()`."""

from os import PathLike
from typing import Any, Literal

from ._persist import Dict, List, Store

def import_from(
    source: str | bytes | PathLike[str] | PathLike[bytes],
    into: Dict[Any, Any] | List[Any] | Store,
    kind: Literal["shelve", "pickle", "json", "sqlite"] | None,
    allow_pickle: bool,
) -> int: ...
