"""The stores that the contract is tested on. A new one is one more line in `STORES`."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from parley.stores.base import Store
from parley.stores.memory import MemoryStore
from parley.stores.sql import SqlStore
from tests.contracts.kitchen import Kitchen, kitchen_in

STORES: dict[str, Callable[[Path], Store]] = {
    "memory": lambda directory: MemoryStore(),
    "sqlite": lambda directory: SqlStore(f"sqlite:///{directory}/parley.db", synchronous="OFF"),
}

DURABLE = ["sqlite"]
"""Those that keep what they have when they are closed and opened again."""


@pytest.fixture(params=STORES)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """An empty store of each kind."""
    store = STORES[request.param](tmp_path)
    await store.open()
    yield store
    await store.close()


@pytest.fixture
async def kitchen(store: Store) -> Kitchen:
    """A store of each kind with the kitchen in it."""
    return await kitchen_in(store)


@pytest.fixture
async def study(store: Store) -> Kitchen:
    """As the kitchen, but private."""
    return await kitchen_in(store, kind="private")


@pytest.fixture(params=DURABLE)
def opened_at(request: pytest.FixtureRequest) -> Callable[[Path], Store]:
    """How to open a durable store in a directory."""
    return STORES[request.param]
