"""The stores that the contract is tested on. A new one is one more line in `STORES`."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from parley.stores.base import Store
from parley.stores.memory import MemoryStore
from parley.stores.redis import RedisStore
from parley.stores.sql import SqlStore
from tests import backends
from tests.contracts.kitchen import Kitchen, kitchen_in
from tests.redis_servers import a_redis, a_redis_cluster

STORES: dict[str, Callable[[Path], Store]] = {
    "memory": lambda directory: MemoryStore(),
    "sqlite": lambda directory: SqlStore(f"sqlite:///{directory}/parley.db", synchronous="OFF"),
    "postgresql": lambda directory: SqlStore(backends.postgres().database(directory)),
    "redis": lambda directory: RedisStore(a_redis(directory)),
    "redis-cluster": lambda directory: RedisStore(a_redis_cluster(directory)),
}

SERVERS = {"postgresql", "redis", "redis-cluster"}
"""Those that need a server of their own."""

NAMES = [pytest.param(name, marks=[pytest.mark.servers] if name in SERVERS else []) for name in STORES]
DURABLE = [each for each in NAMES if each.values != ("memory",)]
"""Those that keep what they have when they are closed and opened again."""


@pytest.fixture(params=NAMES)
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
