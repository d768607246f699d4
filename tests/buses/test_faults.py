"""A broker goes away, hangs or is killed: the bus comes back by itself, and says what it could not say."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import make_url
from yarl import URL

from parley.buses.base import EVERYTHING, LOOK, Bus
from parley.buses.kafka import KafkaBus
from parley.buses.outbox import MAX_TOPICS
from parley.buses.postgres import PostgresBus
from parley.buses.rabbitmq import RabbitBus
from parley.buses.redis import RedisBus
from tests import backends
from tests.buses.nodes import World
from tests.kafka_server import KafkaServer
from tests.proxy import Proxy
from tests.rabbitmq_server import RabbitServer, own_rabbitmq
from tests.redis_servers import redis_cluster, redis_server, the_redis
from tests.servers import until

pytestmark = [pytest.mark.servers, pytest.mark.slow]

MAKERS: dict[str, Callable[[str], Bus]] = {
    "redis": RedisBus,
    "rabbitmq": RabbitBus,
    "postgresql": PostgresBus,
    "kafka": KafkaBus,
}
URLS: dict[str, Callable[[], str]] = {
    "redis": the_redis,
    "rabbitmq": lambda: own_rabbitmq().url,
    "postgresql": lambda: backends.postgres().url.render_as_string(hide_password=False),
}


@dataclass
class Shaky:
    """A world with one node whose way to the broker can be broken."""

    world: World
    kind: str
    url: str
    break_it: Callable[[], Awaitable[None]]
    mend_it: Callable[[], Awaitable[None]]

    def bus(self) -> Bus:
        return MAKERS[self.kind](self.url)


def through(url: str, port: int) -> str:
    """A URL that leads through a proxy."""
    if url.startswith("postgresql"):
        return make_url(url).set(host="127.0.0.1", port=port).render_as_string(hide_password=False)
    return str(URL(url).with_host("127.0.0.1").with_port(port))


@pytest.fixture(
    params=[(kind, how) for kind in ("redis", "rabbitmq", "postgresql") for how in ("cut", "drop")]
    + [("kafka", "pause")],
    ids="-".join,
)
async def shaky(request: pytest.FixtureRequest) -> AsyncIterator[Shaky]:
    kind, how = request.param
    async with AsyncExitStack() as stack:
        if kind == "kafka":
            # It tells its clients its address, so nothing comes between: everybody hangs together.
            server = KafkaServer().start()
            stack.callback(server.stop)
            url = near = server.url

            async def break_it() -> None:
                server.pause()

            async def mend_it() -> None:
                server.resume()
        else:
            near = URLS[kind]()
            target = make_url(near).port or 6379
            proxy = await stack.enter_async_context(Proxy(target))
            url = through(near, proxy.port)

            async def break_it() -> None:
                if how == "cut":
                    await proxy.cut()
                else:
                    proxy.drop()

            async def mend_it() -> None:
                await proxy.restore()

        world = World(lambda: MAKERS[kind](near))
        yield Shaky(world, kind, url, break_it, mend_it)
        await mend_it()
        await world.close()


async def test_a_bus_whose_broker_was_away_comes_back_with_all_it_wants(shaky: Shaky) -> None:
    world = shaky.world
    topics = [world.topic(f"room{number}") for number in range(1000)]
    left, new = world.topic("left"), world.topic("new")
    ann, bob = await world.node(), await world.node(shaky.bus())
    await bob.wanting(ann, left, *topics)
    await shaky.break_it()
    bob.bus.unwant(left)
    bob.bus.want(new)
    await until(lambda: not bob.bus.healthy() and bob.bus.breaks == 1)
    await shaky.mend_it()
    await until(bob.bus.healthy)
    await until(ann.bus.healthy)
    assert bob.bus.breaks == 1
    bob.heard.clear()
    ann.bus.publish(left, b"unheard")
    for topic in (*topics, new):
        ann.bus.publish(topic, b"hello")
    for topic in (*topics, new):
        await bob.hears(topic, b"hello")
    assert bob.on(left) == []


async def test_what_could_not_be_said_is_told_as_a_hint(shaky: Shaky) -> None:
    world = shaky.world
    kitchen, study = world.topic("kitchen"), world.topic("study")
    ann, bob = await world.node(), await world.node(shaky.bus())
    await ann.wanting(bob, kitchen, study)
    await shaky.break_it()
    bob.bus.publish(kitchen, b"into the void")
    await until(lambda: not bob.bus.healthy())
    for _ in range(3):
        bob.bus.publish(study, b"nobody hears")
    assert bob.bus.dropped_payloads >= 3
    await shaky.mend_it()
    await until(bob.bus.healthy)
    await until(ann.bus.healthy)
    bob.bus.publish(study, b"hello")
    await until(lambda: b"hello" in ann.on(study))
    if ann.bus.breaks:
        return  # Who was away too looks at everything anyway.
    assert ann.on(study) == [LOOK, b"hello"]
    await until(lambda: bool(ann.on(kitchen)))
    assert ann.on(kitchen) in ([LOOK], [b"into the void", LOOK], [b"into the void"])


async def test_publishing_into_an_outage_never_waits_and_ends_in_a_word_about_everything(
    shaky: Shaky,
) -> None:
    world = shaky.world
    ann, bob = await world.node(), await world.node(shaky.bus())
    await ann.wanting(bob, world.topic("kitchen"))
    await shaky.break_it()
    longest = 0.0
    for turn in range(20):
        for number in range(3 * MAX_TOPICS // 10):
            began = time.perf_counter()
            bob.bus.publish(f"room:{turn}-{number}", b"x" * 500)
            longest = max(longest, time.perf_counter() - began)
        await asyncio.sleep(0)
    await until(lambda: not bob.bus.healthy())
    assert longest < 0.2
    await shaky.mend_it()
    await until(bob.bus.healthy)
    await until(lambda: (EVERYTHING, LOOK) in ann.heard)


@pytest.mark.parametrize("kind", ["redis", "rabbitmq", "postgresql"])
async def test_the_shortest_break_is_counted(kind: str) -> None:
    url = URLS[kind]()
    world = World(lambda: MAKERS[kind](url))
    kitchen = world.topic("kitchen")
    async with Proxy(make_url(url).port or 6379) as proxy:
        ann, bob = await world.node(), await world.node(MAKERS[kind](through(url, proxy.port)))
        await bob.wanting(ann, kitchen)
        for count in (1, 2, 3):
            proxy.abort()
            await until(lambda count=count: bob.bus.breaks == count)
            await until(bob.bus.healthy)
        bob.heard.clear()
        ann.bus.publish(kitchen, b"hello")
        await bob.hears(kitchen, b"hello")
        await world.close()


@pytest.mark.parametrize("kind", ["redis", "rabbitmq", "postgresql"])
async def test_a_slow_way_gathers_more_into_each_message(kind: str) -> None:
    url = URLS[kind]()
    world = World(lambda: MAKERS[kind](url))
    kitchen = world.topic("kitchen")
    async with Proxy(make_url(url).port or 6379) as proxy:
        ann, bob = await world.node(MAKERS[kind](through(url, proxy.port))), await world.node()
        await bob.wanting(ann, kitchen)
        await until(lambda: not ann.bus._outbox and not ann.bus._sending)  # type: ignore[attr-defined]
        before = ann.bus.published_frames
        proxy.delay_seconds = 0.2
        for number in range(300):
            ann.bus.publish(kitchen, b"%d" % number)
            await asyncio.sleep(0.001)
        await until(lambda: len(bob.on(kitchen)) >= 300)
        assert bob.on(kitchen) == [b"%d" % number for number in range(300)]
        assert ann.bus.published_frames - before < 10
        proxy.delay_seconds = 0
        await world.close()


async def test_a_broker_that_hangs_at_the_start_is_told_in_time() -> None:
    for kind in ("redis", "rabbitmq", "postgresql"):
        url = URLS[kind]()
        async with Proxy(make_url(url).port or 6379) as proxy:
            proxy.drop()
            began = time.perf_counter()
            with pytest.raises(Exception, match="it does not answer; check host and port"):
                await MAKERS[kind](through(url, proxy.port)).start(lambda topic, payload: None)
            assert time.perf_counter() - began < 7


@contextmanager
def a_redis_to_kill(folder: Path) -> Iterator[tuple[str, Callable[[], None], Callable[[], object]]]:
    with redis_server() as server:
        yield server.url, server.kill, server.start


@contextmanager
def a_rabbitmq_to_kill(folder: Path) -> Iterator[tuple[str, Callable[[], None], Callable[[], object]]]:
    server = RabbitServer(folder).start()
    try:
        yield server.url, server.kill, server.start
    finally:
        server.stop()


@contextmanager
def a_postgresql_to_kill(folder: Path) -> Iterator[tuple[str, Callable[[], None], Callable[[], object]]]:
    server = backends.own_postgres()
    try:
        yield server.url.render_as_string(hide_password=False), server.kill, server.start
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("kind", "server"),
    [
        ("redis", a_redis_to_kill),
        ("rabbitmq", a_rabbitmq_to_kill),
        ("postgresql", a_postgresql_to_kill),
    ],
)
async def test_buses_outlive_a_broker_that_is_killed_and_started_again(
    tmp_path: Path, kind: str, server: object
) -> None:
    assert callable(server)
    with server(tmp_path) as (url, kill, start):
        world = World(lambda: MAKERS[kind](url))
        kitchen = world.topic("kitchen")
        ann, bob = await world.node(), await world.node()
        await bob.wanting(ann, kitchen)
        kill()
        await until(lambda: not ann.bus.healthy() and not bob.bus.healthy())
        ann.bus.publish(kitchen, b"nobody hears")
        bob.heard.clear()
        await asyncio.to_thread(start)
        await until(bob.bus.healthy)
        await until(ann.bus.healthy)
        ann.bus.publish(kitchen, b"hello")
        await until(lambda: b"hello" in bob.on(kitchen))
        # The hint comes to nobody, if Bob was back later than Ann.
        assert bob.on(kitchen) in ([LOOK, b"hello"], [b"hello"])
        assert ann.bus.breaks == bob.bus.breaks == 1
        await world.close()


async def test_a_bus_goes_to_another_server_of_the_cluster_when_its_own_is_gone() -> None:
    with redis_cluster() as servers:
        ann, bob = World(lambda: RedisBus(servers[0].url)), World(lambda: RedisBus(servers[1].url))
        kitchen = ann.topic("kitchen")
        one, other = await ann.node(), await bob.node()
        await one.wanting(other, kitchen)
        await other.wanting(one, kitchen)
        servers[0].kill()
        await until(lambda: one.bus.breaks == 1 and one.bus.healthy())
        assert other.bus.breaks == 0
        one.heard.clear()
        other.heard.clear()
        await one.reached_by(other, kitchen)
        await other.reached_by(one, kitchen)
        await ann.close()
        await bob.close()


async def test_a_redis_that_has_become_a_replica_is_left() -> None:
    with redis_server() as primary, redis_server() as replica:
        world = World(lambda: RedisBus(replica.url))
        ann = await world.node()
        with replica.client() as client:
            client.replicaof("127.0.0.1", str(primary.port))
            await until(lambda: ann.bus.breaks >= 1)
            client.replicaof("NO", "ONE")
        await until(ann.bus.healthy)
        await world.close()
