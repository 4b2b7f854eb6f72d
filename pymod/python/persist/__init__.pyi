from os import PathLike
from typing import Any, Literal, TypeVar

from ._deques import Deque
from ._link import Link
from ._mappings import Counter, DefaultDict, OrderedDict
from ._persist import (
    Change,
    Conflict,
    Corrupt,
    Deadlock,
    Dict,
    DurabilityUnknown,
    Error,
    Gone,
    InUse,
    ItemsView,
    KeysView,
    List,
    Lock,
    LockTimeout,
    NoSnapshot,
    NotLocked,
    Object,
    OtherTask,
    Snapshot,
    SnapshotExists,
    Store,
    Transaction,
    TransactionAborted,
    TransactionTooLarge,
    ValuesView,
    ViewEnded,
    Watch,
    __version__,
    alias,
    allow_import,
    class_name,
    copy_out,
    open,
)
from ._sets import Set
from ._sorted import SortedDict
from ._typed import Opaque, register

_T = TypeVar("_T")

__all__ = [
    "Change",
    "Conflict",
    "Corrupt",
    "Counter",
    "Deadlock",
    "DefaultDict",
    "Deque",
    "Dict",
    "DurabilityUnknown",
    "Error",
    "Gone",
    "InUse",
    "ItemsView",
    "KeysView",
    "Link",
    "List",
    "Lock",
    "LockTimeout",
    "NoSnapshot",
    "NotLocked",
    "Object",
    "Opaque",
    "OrderedDict",
    "OtherTask",
    "Set",
    "Snapshot",
    "SnapshotExists",
    "SortedDict",
    "Store",
    "Transaction",
    "TransactionAborted",
    "TransactionTooLarge",
    "ValuesView",
    "ViewEnded",
    "Watch",
    "__version__",
    "alias",
    "allow_import",
    "class_name",
    "copy_out",
    "import_from",
    "open",
    "register",
    "register_dataclass",
    "root",
    "to_json",
]

def root(path: str | bytes | PathLike[str] | PathLike[bytes] | None = None) -> Dict[Any, Any]: ...
def import_from(
    source: str | bytes | PathLike[str] | PathLike[bytes],
    into: Dict[Any, Any] | List[Any] | Store,
    *,
    kind: Literal["shelve", "pickle", "json", "sqlite"] | None = None,
    allow_pickle: bool = False,
) -> int: ...
def register_dataclass(cls: type[_T], /) -> type[_T]: ...
def to_json(value: object) -> Any: ...
