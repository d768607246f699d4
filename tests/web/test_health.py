"""A server that is probed says how it is, and never keeps the probe waiting."""

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import httpx2
import pytest
from yarl import URL

from parley.buses.memory import MemoryBus
from parley.buses.redis import RedisBus
from parley.config import Settings
from parley.errors import InternalError, ParleyError, StoreUnavailable
from parley.node import Node
from parley.stores.memory import MemoryStore
from parley.web import health
from tests.proxy import Proxy
from tests.redis_servers import the_redis
from tests.servers import ServerProcess, until
from tests.web.conftest import Person
from tests.web.world import _app, a_world

READY = {"status": "ready", "store": "ok", "bus": "ok"}


class FarBus(MemoryBus):
    """A bus that can be away."""

    away = False

    def healthy(self) -> bool:
        return not self.away and super().healthy()


class Patient(MemoryStore):
    """A store that refuses to answer, or hangs until it is let go on."""

    def __init__(self) -> None:
        super().__init__()
        self.refuses: ParleyError | None = None
        self.hangs = False
        self.answers = asyncio.Event()
        self.asked = self.cancelled = 0

    async def ping(self) -> None:
        self.asked += 1
        if self.refuses:
            raise self.refuses
        if self.hangs:
            try:
                await self.answers.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise


async def told(http: httpx2.AsyncClient) -> tuple[int, dict[str, Any]]:
    answer = await http.get("/readyz")
    return answer.status_code, answer.json()


@asynccontextmanager
async def asking(node: Node) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of a node that need not have started."""
    app = _app()
    app.state.node = node
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://parley") as http:
        yield http


@contextmanager
def within(seconds: float) -> Iterator[None]:
    begun = time.monotonic()
    yield
    assert time.monotonic() - begun < seconds


def test_health_is_told_outside_the_prefix_without_a_token(server: ServerProcess) -> None:
    assert httpx2.get(f"{server.url}/healthz").json() == {"status": "alive"}
    answer = httpx2.get(f"{server.url}/readyz")
    assert (answer.status_code, answer.json()) == (200, READY)


def test_health_is_no_part_of_the_api(ann: Person) -> None:
    paths = ann.http.get("/api/openapi.json").json()["paths"]
    assert not {"/healthz", "/readyz", "/metrics"} & set(paths)
    for path in ("/healthz", "/readyz", "/metrics"):
        assert ann.get(path).status_code == 404


async def test_a_server_whose_bus_is_away_is_ready_and_says_so() -> None:
    bus = FarBus()
    async with a_world(bus=bus) as world:
        assert await told(world.http) == (200, READY)
        bus.away = True
        assert await told(world.http) == (200, READY | {"bus": "degraded"})


@pytest.mark.servers
async def test_a_broken_bus_degrades_a_server_that_chats_on_until_it_is_back() -> None:
    async with Proxy(URL(the_redis()).port or 0) as proxy:
        bus = RedisBus(str(URL(the_redis()).with_host("127.0.0.1").with_port(proxy.port)))
        async with a_world(bus=bus) as world:
            assert await told(world.http) == (200, READY)
            await proxy.cut()
            await until(lambda: bus.breaks == 1)
            assert await told(world.http) == (200, READY | {"bus": "degraded"})
            assert b"\nparley_bus_healthy 0.0\n" in (await world.http.get("/metrics")).content
            [ann] = await world.people("Ann")
            await ann.says(await ann.makes(), "I can talk all the same")
            await proxy.restore()
            await until(bus.healthy)
            assert await told(world.http) == (200, READY)
            counted = (await world.http.get("/metrics")).content
            assert b"\nparley_bus_healthy 1.0\n" in counted
            assert b"\nparley_bus_breaks_total 1.0\n" in counted


async def test_a_server_without_its_store_is_not_ready() -> None:
    store = Patient()
    async with a_world(store) as world:
        for error in (StoreUnavailable(), InternalError()):
            store.refuses = error
            assert await told(world.http) == (
                503,
                {"status": error.code, "store": error.code, "bus": "ok"},
            )
        store.refuses = None
        assert await told(world.http) == (200, READY)


async def test_a_store_that_hangs_keeps_no_probe_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    assert health.STORE_SECONDS == 2  # what is documented
    monkeypatch.setattr(health, "STORE_SECONDS", 0.05)
    store = Patient()
    async with a_world(store) as world:
        store.hangs = True
        away = 503, {"status": "store_unavailable", "store": "store_unavailable", "bus": "ok"}
        with within(1):
            assert await told(world.http) == away
            assert await told(world.http) == away
        store.hangs = False
        # One that was asked and still hangs does not hold up those who ask anew.
        assert await told(world.http) == (200, READY)
        store.answers.set()
        await until(lambda: not health._pings)
        assert (store.asked, store.cancelled) == (3, 0)


async def test_a_late_error_of_the_store_is_nobodys_surprise(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(health, "STORE_SECONDS", 0.01)

    class Late(MemoryStore):
        async def ping(self) -> None:
            await asyncio.sleep(0.05)
            raise StoreUnavailable

    async with a_world(Late()) as world:
        assert (await told(world.http))[0] == 503
        await until(lambda: not health._pings)
    gc.collect()  # asyncio complains of an error that nobody took when its task is collected
    assert not caplog.records


async def test_a_node_that_starts_drains_or_has_stopped_is_not_ready_and_asks_no_store() -> None:
    store = Patient()
    node = Node(Settings(_env_file=None), store, MemoryBus())
    async with asking(node) as http:
        not_ready = {"store": "unknown", "bus": "ok"}
        assert await told(http) == (503, not_ready | {"status": "starting", "bus": "degraded"})
        await node.start()
        await node.drain()
        assert await told(http) == (503, not_ready | {"status": "draining"})
        await node.stop()
        assert await told(http) == (503, not_ready | {"status": "stopped", "bus": "degraded"})
        assert (await http.get("/healthz")).json() == {"status": "alive"}
    assert store.asked == 0


async def test_a_node_that_lost_a_part_of_itself_is_not_ready() -> None:
    async with a_world() as world:
        world.node._died("journal")
        assert await told(world.http) == (503, {"status": "broken", "store": "unknown", "bus": "ok"})


async def test_a_probe_is_answered_where_everybody_else_has_to_wait() -> None:
    async with a_world(rate_limit=0.001) as world:
        await world.http.get("/api/v1/limits")
        assert (await world.http.get("/api/v1/limits")).status_code == 429
        for path in ("/healthz", "/readyz", "/metrics"):
            assert (await world.http.get(path)).status_code == 200
