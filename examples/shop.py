"""A shop with FastAPI and asynchronous locks: the last piece is never sold twice, by any number of server processes.

    PERSIST_STORE=shop.store uvicorn --workers 4 shop:app

    curl -X PUT 'localhost:8000/stock/apple?count=3'
    curl -X POST localhost:8000/buy/apple

`lock_async` waits without blocking the event loop: other requests of the process go on. The lock is held over an
`await`, which a transaction should not be: while it is open, no other process can change anything in the store.
"""

from __future__ import annotations

import asyncio

import persist
from fastapi import FastAPI, HTTPException

app = FastAPI()
stock: persist.Dict[str, int] = persist.root().setdefault("stock", {})


async def pay() -> None:
    """Stand for a call of another service."""
    await asyncio.sleep(0.01)


@app.get("/stock/{item}")
async def look(item: str) -> int:
    # Reads need no lock, and never wait for one.
    return stock.get(item, 0)


@app.put("/stock/{item}")
async def fill(item: str, count: int) -> int:
    async with stock.lock_async(key=item):
        stock[item] = count
    return count


@app.post("/buy/{item}")
async def buy(item: str) -> int:
    try:
        async with stock.lock_async(key=item, timeout=30):
            left = stock.get(item, 0)
            if not left:
                raise HTTPException(409, "sold out")
            await pay()
            stock[item] = left - 1
            return left - 1
    except persist.LockTimeout as e:
        raise HTTPException(503, str(e)) from e
