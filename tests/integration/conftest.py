"""Nodes that tell other services what happens, over real brokers."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import NamedTuple

import pytest
from yarl import URL

from parley import app
from parley.buses.memory import MemoryBus
from parley.config import Settings
from parley.node import Node
from parley.stores.base import Store
from parley.stores.memory import MemoryStore
from tests.integration.listeners import KafkaService, RabbitService, Service
from tests.kafka_server import KafkaServer, the_kafka
from tests.proxy import Proxy
from tests.rabbitmq_server import the_rabbitmq

MakeNode = Callable[..., Awaitable[Node]]


def settings_of(url: str, **given: object) -> Settings:
    return Settings(_env_file=None, bus=url, store="memory://", **given)  # type: ignore[arg-type]


async def goodbyes(node: Node) -> None:
    """What was given up may take a moment longer than the node, but nothing stays open for ever."""
    assert node.outside is not None
    lines = (node.outside.announcer._line, node.outside.posting._line)
    if closing := [task for line in lines for task in line._closing]:
        _, pending = await asyncio.wait(closing, timeout=15)
        assert not pending


@pytest.fixture
async def make_node() -> AsyncIterator[MakeNode]:
    """Starts nodes with the integration of a bus' address, without that bus; stops them in the end."""
    async with AsyncExitStack() as stack:

        async def make(url: str, store: Store | None = None, **given: object) -> Node:
            settings = settings_of(url, **given)
            node = Node(settings, store or MemoryStore(), MemoryBus(), app._outside(settings))
            await node.start()
            stack.push_async_callback(goodbyes, node)
            stack.push_async_callback(node.stop)
            return node

        yield make


BROKERS = [pytest.param(name, marks=pytest.mark.servers) for name in ("rabbitmq", "kafka")]


@pytest.fixture(params=BROKERS)
def broker(request: pytest.FixtureRequest) -> str:
    """The URL of a broker of each kind."""
    return the_rabbitmq() if request.param == "rabbitmq" else the_kafka()


def service_at(url: str) -> Service:
    return RabbitService(url) if url.startswith("amqp") else KafkaService(url)


@pytest.fixture
async def service(broker: str) -> AsyncIterator[Service]:
    """Another service at that broker."""
    service = service_at(broker)
    await service.start()
    yield service
    await service.stop()


@pytest.fixture
def rabbit_url() -> str:
    return the_rabbitmq()


@pytest.fixture
async def rabbit(rabbit_url: str) -> AsyncIterator[RabbitService]:
    """Another service at RabbitMQ."""
    service = RabbitService(rabbit_url)
    await service.start()
    yield service
    await service.stop()


class Breakable(NamedTuple):
    """A broker that can be away: `url` leads to it, `away` and `back` do what they say."""

    url: str
    service: Service
    away: Callable[[], Awaitable[None]]
    back: Callable[[], Awaitable[None]]


@asynccontextmanager
async def through_proxy(how: str) -> AsyncIterator[Breakable]:
    """RabbitMQ, of which we can be cut off, or with which the cable can be pulled."""
    url = URL(the_rabbitmq())
    async with Proxy(url.port or 5672) as proxy:

        async def drop() -> None:
            proxy.drop()

        service = RabbitService(str(url))
        away = drop if how == "drop" else proxy.cut
        yield Breakable(str(url.with_port(proxy.port)), service, away, proxy.restore)


@asynccontextmanager
async def that_hangs() -> AsyncIterator[Breakable]:
    """A Kafka that stops answering."""
    server = KafkaServer().start()

    async def pause() -> None:
        server.pause()

    async def resume() -> None:
        server.resume()

    try:
        yield Breakable(server.url, KafkaService(server.url), pause, resume)
    finally:
        server.resume()
        server.stop()


WAYS = {
    "rabbitmq-cut": lambda: through_proxy("cut"),
    "rabbitmq-drop": lambda: through_proxy("drop"),
    "kafka-hangs": that_hangs,
}


@pytest.fixture(params=[pytest.param(name, marks=pytest.mark.servers) for name in WAYS])
async def breakable(request: pytest.FixtureRequest) -> AsyncIterator[Breakable]:
    """A broker that can be away, in each way."""
    async with WAYS[request.param]() as breakable:
        await breakable.service.start()
        yield breakable
        await breakable.service.stop()
