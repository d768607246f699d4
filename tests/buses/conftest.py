"""The buses that the contract is tested on. A new one is one more line in `WORLDS`."""

from collections.abc import AsyncIterator, Callable

import pytest

from parley.buses.base import Bus
from parley.buses.kafka import KafkaBus
from parley.buses.postgres import PostgresBus
from parley.buses.rabbitmq import RabbitBus
from parley.buses.redis import RedisBus
from tests import backends
from tests.buses.nodes import World, memory_world
from tests.kafka_server import the_kafka
from tests.rabbitmq_server import the_rabbitmq
from tests.redis_servers import the_redis, the_redis_cluster


def the_postgres() -> str:
    return backends.postgres().url.render_as_string(hide_password=False)


BUSES: dict[str, Callable[[], Bus]] = {
    "redis": lambda: RedisBus(the_redis()),
    "redis-cluster": lambda: RedisBus(the_redis_cluster()),
    "rabbitmq": lambda: RabbitBus(the_rabbitmq()),
    "kafka": lambda: KafkaBus(the_kafka()),
    "postgresql": lambda: PostgresBus(the_postgres()),
}

WITH_BROKER = [pytest.param(name, marks=pytest.mark.servers) for name in BUSES]


@pytest.fixture(params=["memory", *WITH_BROKER])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    """Where nodes with a bus of each kind can be made."""
    world = memory_world() if request.param == "memory" else World(BUSES[request.param])
    yield world
    await world.close()


@pytest.fixture(params=WITH_BROKER)
async def brokered(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    """As `world`, but only those with a broker."""
    world = World(BUSES[request.param])
    yield world
    await world.close()
