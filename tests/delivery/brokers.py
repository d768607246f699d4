"""The brokers of the matrix, and what can be done to each of them and to the ways that lead to it."""

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Protocol

from sqlalchemy import make_url
from yarl import URL

from tests.backends import own_postgres
from tests.delivery.nodes import Nodes, Place
from tests.kafka_server import KafkaServer
from tests.proxy import Proxy
from tests.rabbitmq_server import RabbitServer
from tests.redis_servers import redis_server


class Broker:
    """What carries hints between the nodes of a run. This one is nobody's: there is but one node."""

    faults = ""
    """What `delay`, `reset`, `go_away` and `cut` do, in the letters of `table.FAULTS`."""
    may_delay = may_reset = may_go_away = may_cut = False

    def url(self, number: int) -> str:
        """Where a node finds it."""
        return "memory://"

    async def delay(self, seconds: float) -> None:
        """Be slow for that long."""

    async def reset(self) -> None:
        """End all connections; new ones may come at once."""

    async def go_away(self, nodes: Nodes) -> None:
        """Be there for nobody."""

    async def come_back(self, nodes: Nodes) -> None:
        """Be there again."""

    async def cut(self, number: int, node: Place) -> None:
        """Be there for all nodes but this one."""
        await node.cut()

    async def mend(self, number: int, node: Place) -> None:
        await node.mend()


class Server(Protocol):
    """A server that can be killed."""

    def start(self) -> object: ...

    def kill(self) -> None: ...


class ProxiedBroker(Broker):
    """A real server; each node reaches it by a way of its own."""

    may_delay = may_reset = may_go_away = may_cut = True
    faults = "F S R K H"

    def __init__(self, server: Server, near: str, ways: list[Proxy]) -> None:
        self._server = server
        self._near = near
        self._ways = ways

    def url(self, number: int) -> str:
        return through(self._near, self._ways[number].port)

    async def delay(self, seconds: float) -> None:
        for way in self._ways:
            way.delay_seconds = 0.05
        await asyncio.sleep(seconds)
        for way in self._ways:
            way.delay_seconds = 0

    async def reset(self) -> None:
        for way in self._ways:
            way.abort()

    async def go_away(self, nodes: Nodes) -> None:
        await asyncio.to_thread(self._server.kill)

    async def come_back(self, nodes: Nodes) -> None:
        await asyncio.to_thread(self._server.start)

    async def cut(self, number: int, node: Place) -> None:
        self._ways[number].drop()

    async def mend(self, number: int, node: Place) -> None:
        await self._ways[number].restore()


class PausedKafka(Broker):
    """librdkafka's mock. It tells its clients its own address, so that no proxy comes between, and a killed
    one would come back elsewhere: so it hangs instead, and a node is cut off by its own wrapper."""

    may_delay = may_go_away = may_cut = True
    faults = "F S P I"

    def __init__(self, server: KafkaServer) -> None:
        self._server = server

    def url(self, number: int) -> str:
        return self._server.url

    async def delay(self, seconds: float) -> None:
        for _ in range(round(seconds / 0.2)):
            self._server.pause()
            await asyncio.sleep(0.1)
            self._server.resume()
            await asyncio.sleep(0.1)

    async def go_away(self, nodes: Nodes) -> None:
        self._server.pause()

    async def come_back(self, nodes: Nodes) -> None:
        self._server.resume()


class CutOff(Broker):
    """One that cannot be touched, because it is somebody else's or no process at all: all nodes cut
    themselves off."""

    may_go_away = may_cut = True
    faults = "F C I"

    def __init__(self, url: str) -> None:
        self._url = url

    def url(self, number: int) -> str:
        return self._url

    async def go_away(self, nodes: Nodes) -> None:
        for node in nodes:
            await node.cut()

    async def come_back(self, nodes: Nodes) -> None:
        for node in nodes:
            await node.mend()


def through(url: str, port: int) -> str:
    """A URL that leads through a proxy."""
    if url.startswith("postgresql"):
        return make_url(url).set(host="127.0.0.1", port=port).render_as_string(hide_password=False)
    return str(URL(url).with_host("127.0.0.1").with_port(port))


class Brokers:
    """Makes brokers, and keeps those that take long to make."""

    def __init__(self) -> None:
        self._servers: dict[str, tuple[Server, str, int]] = {}
        self._ending = ExitStack()

    @asynccontextmanager
    async def broker(self, kind: str, nodes: int) -> AsyncIterator[Broker]:
        """A broker for so many nodes."""
        async with AsyncExitStack() as stack:
            if kind == "memory":
                yield CutOff("memory://") if nodes > 1 else Broker()
            elif kind == "kafka":
                given = os.environ.get("PARLEY_TEST_KAFKA")
                yield CutOff(given) if given else PausedKafka(stack.enter_context(_mock_of_kafka()))
            else:
                if kind not in self._servers:
                    self._servers[kind] = await asyncio.to_thread(_MAKERS[kind], self._ending)
                server, near, port = self._servers[kind]
                ways = [await stack.enter_async_context(Proxy(port)) for _ in range(nodes)]
                yield ProxiedBroker(server, near, ways)

    def close(self) -> None:
        self._ending.close()


@contextmanager
def _mock_of_kafka() -> Iterator[KafkaServer]:
    server = KafkaServer().start()
    try:
        yield server
    finally:
        server.stop()


def _redis(stack: ExitStack) -> tuple[Server, str, int]:
    server = stack.enter_context(redis_server())
    return server, server.url, server.port


def _rabbitmq(stack: ExitStack) -> tuple[Server, str, int]:
    server = RabbitServer(Path(stack.enter_context(tempfile.TemporaryDirectory())))
    stack.callback(server.stop)
    server.start()
    return server, server.url, server.port


def _postgresql(stack: ExitStack) -> tuple[Server, str, int]:
    server = own_postgres()
    stack.callback(server.stop)
    return server, server.url.render_as_string(hide_password=False), server.port


_MAKERS: dict[str, Callable[[ExitStack], tuple[Server, str, int]]] = {
    "redis": _redis,
    "rabbitmq": _rabbitmq,
    "postgresql": _postgresql,
}
