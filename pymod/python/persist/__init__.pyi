from os import PathLike
from typing import Any

from ._persist import (
    Conflict as Conflict,
)
from ._persist import (
    Corrupt as Corrupt,
)
from ._persist import (
    Deadlock as Deadlock,
)
from ._persist import (
    Dict as Dict,
)
from ._persist import (
    Error as Error,
)
from ._persist import (
    Gone as Gone,
)
from ._persist import (
    InUse as InUse,
)
from ._persist import (
    ItemsView as ItemsView,
)
from ._persist import (
    KeysView as KeysView,
)
from ._persist import (
    List as List,
)
from ._persist import (
    Lock as Lock,
)
from ._persist import (
    LockTimeout as LockTimeout,
)
from ._persist import (
    NoSnapshot as NoSnapshot,
)
from ._persist import (
    NotLocked as NotLocked,
)
from ._persist import (
    Object as Object,
)
from ._persist import (
    Snapshot as Snapshot,
)
from ._persist import (
    SnapshotExists as SnapshotExists,
)
from ._persist import (
    Store as Store,
)
from ._persist import (
    Transaction as Transaction,
)
from ._persist import (
    ValuesView as ValuesView,
)
from ._persist import (
    __version__ as __version__,
)
from ._persist import (
    allow_import as allow_import,
)
from ._persist import (
    class_name as class_name,
)
from ._persist import (
    copy_out as copy_out,
)
from ._persist import (
    open as open,
)

__all__ = [
    "Conflict",
    "Corrupt",
    "Deadlock",
    "Dict",
    "Error",
    "Gone",
    "InUse",
    "ItemsView",
    "KeysView",
    "List",
    "Lock",
    "LockTimeout",
    "NoSnapshot",
    "NotLocked",
    "Object",
    "Snapshot",
    "SnapshotExists",
    "Store",
    "Transaction",
    "ValuesView",
    "__version__",
    "allow_import",
    "class_name",
    "copy_out",
    "open",
    "root",
]

def root(path: str | bytes | PathLike[str] | PathLike[bytes] | None = None) -> Dict[Any, Any]: ...
