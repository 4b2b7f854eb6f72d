"""Waiting without blocking the thread. Use `Store.transaction_async()`, `Store.run_async()` and `lock_async()`."""

from collections.abc import Awaitable, Callable, Generator
from types import TracebackType
from typing import Any, Generic, Literal, TypeVar

from typing_extensions import Self

from ._persist import (
    Change,
    Dict,
    List,
    Lock as _Held,
    Store,
    Transaction as _Transaction,
    Watch,
    _LockRequest,
)

_T = TypeVar("_T")

class Transaction:
    """What `Store.transaction_async()` returns, for `async with`."""

    def __init__(self, transaction: _Transaction) -> None: ...
    async def __aenter__(self) -> Self: ...
    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> Literal[False]: ...

class Lock(Generic[_T]):
    """What `lock_async()` returns: `async with` it, or `await` it for a lock to be released."""

    def __init__(self, request: _LockRequest, timeout: float | None) -> None: ...
    def __await__(self) -> Generator[Any, Any, _Held[_T]]: ...
    async def __aenter__(self) -> _T: ...
    async def __aexit__(self, *exc: object) -> Literal[False]: ...

class Changes:
    """The changes of a `Watch`, for `async for`."""

    def __init__(self, watch: Watch[Any]) -> None: ...
    def __aiter__(self) -> Self: ...
    async def __anext__(self) -> Change[Any]: ...

async def next_change(watch: Watch[Any], timeout: float | None) -> Change[Any] | None: ...
async def wait_filled(
    items: Dict[Any, Any] | List[_T], timeout: float | None, pop: bool, index: int
) -> _T | None: ...
def wake(waiters: list[Any]) -> None: ...
async def run(
    store: Store, f: Callable[..., Awaitable[_T]], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> _T: ...
