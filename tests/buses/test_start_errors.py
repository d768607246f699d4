"""A bus that cannot start says why in one line, which holds no password."""

from collections.abc import Callable

import pytest
from redis import Redis
from sqlalchemy import make_url

from parley.app import node_from
from parley.buses.base import Bus
from parley.buses.kafka import KafkaBus
from parley.buses.postgres import PostgresBus
from parley.buses.rabbitmq import RabbitBus
from parley.buses.redis import RedisBus
from parley.config import Settings, read
from parley.errors import StartError
from tests import backends
from tests.kafka_server import own_kafka
from tests.rabbitmq_server import STRANGER, own_rabbitmq
from tests.redis_servers import redis_server, the_redis
from tests.servers import free_port

HUSH = "hush-hush"


async def refusal(make: Callable[[str], Bus], url: str) -> str:
    """The line that the operator reads."""
    with pytest.raises(StartError) as refused:
        await make(url).start(lambda topic, payload: None)
    line = str(refused.value)
    assert "\n" not in line
    assert HUSH not in line
    return line


@pytest.mark.parametrize(
    ("make", "url", "reason"),
    [
        (RedisBus, f"redis://:{HUSH}@", "write redis://user:password@host:port/0"),
        (RedisBus, f"redis://:{HUSH}@host:port", "write redis://user:password@host:port/0"),
        (RedisBus, f"redis://:{HUSH}@host/zero", "write redis://user:password@host:port/0"),
        (RabbitBus, f"amqp://ann:{HUSH}@", "write amqp://user:password@host:5672/vhost"),
        (RabbitBus, f"amqp://ann:{HUSH}@host:port", "write amqp://user:password@host:5672/vhost"),
        (RabbitBus, f"amqp://ann:{HUSH}@host/a/b", "write amqp://user:password@host:5672/vhost"),
        (KafkaBus, "kafka://", "write kafka://host:9092"),
        (KafkaBus, f"kafka://ann:{HUSH}@host:9092", "write kafka://host:9092"),
        (KafkaBus, "kafka://host:9092/topic", "write kafka://host:9092"),
        (KafkaBus, "kafka://host:port", "write kafka://host:9092"),
        (PostgresBus, f"postgresql://ann:{HUSH}@db", "write postgresql://user:password@host/database"),
        (PostgresBus, f"postgresql://ann:{HUSH}@db:port/parley", "write postgresql://user:password@host"),
        (RedisBus, f"redis://:{HUSH}@nowhere.invalid", "nowhere.invalid: there is no such host"),
        (RabbitBus, f"amqp://ann:{HUSH}@nowhere.invalid", "nowhere.invalid: there is no such host"),
        (KafkaBus, "kafka://nowhere.invalid:9092", "check hosts and ports"),
        (PostgresBus, f"postgresql://ann:{HUSH}@nowhere.invalid/parley", "there is no such host"),
    ],
)
async def test_a_url_that_leads_nowhere(make: Callable[[str], Bus], url: str, reason: str) -> None:
    assert reason in await refusal(make, url)


@pytest.mark.parametrize(
    ("make", "url", "reason"),
    [
        (RedisBus, "redis://:{hush}@127.0.0.1:{port}/0", "nobody answers there; start the server"),
        (RabbitBus, "amqp://ann:{hush}@127.0.0.1:{port}/", "nobody answers there; start the server"),
        (KafkaBus, "kafka://127.0.0.1:{port}", "no broker answers there; start it"),
        (PostgresBus, "postgresql://ann:{hush}@127.0.0.1:{port}/parley", "nobody answers there"),
    ],
)
async def test_a_broker_that_is_away(make: Callable[[str], Bus], url: str, reason: str) -> None:
    port = free_port()
    line = await refusal(make, url.format(hush=HUSH, port=port))
    assert reason in line
    assert f"127.0.0.1:{port}" in line


@pytest.mark.servers
async def test_a_redis_that_does_not_let_us_in() -> None:
    with (
        redis_server("--requirepass", "right") as server,
        Redis(port=server.port, password="right") as client,
    ):
        client.acl_setuser("ann", enabled=True, passwords=[f"+{HUSH}"], commands=["+@all"], keys=["*"])
        for who in (f":{HUSH}@", f"bob:{HUSH}@", "", f"ann:{HUSH}@"):
            line = await refusal(RedisBus, f"redis://{who}127.0.0.1:{server.port}/0")
            assert "check user and password" in line, who
        assert "take database 0" in await refusal(RedisBus, f"redis://:right@127.0.0.1:{server.port}/99")


@pytest.mark.servers
@pytest.mark.parametrize(
    ("who", "vhost", "reason"),
    [
        (f"guest:{HUSH}", "", "it refuses that user or password; check both"),
        (f"nobody:{HUSH}", "", "it refuses that user or password; check both"),
        ("guest:guest", "nowhere", "there is no such vhost, or that user may not use it"),
        (STRANGER, "", "that user may not do everything with parley and parley.*; permit it"),
    ],
)
async def test_a_rabbitmq_that_does_not_let_us_in(who: str, vhost: str, reason: str) -> None:
    assert reason in await refusal(RabbitBus, f"amqp://{who}@127.0.0.1:{own_rabbitmq().port}/{vhost}")


@pytest.mark.servers
@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"password": HUSH}, "it refuses that user or password; check both"),
        ({"username": "mallory", "password": HUSH}, "it refuses that user or password; check both"),
        ({"database": "nowhere"}, "there is no such database"),
    ],
)
async def test_a_postgresql_that_does_not_let_us_in(wrong: dict[str, str], reason: str) -> None:
    url = backends.postgres().url.set(**wrong)  # type: ignore[arg-type]
    line = await refusal(PostgresBus, url.render_as_string(hide_password=False))
    assert reason in line
    assert backends.PASSWORD not in line


@pytest.mark.servers
async def test_another_server_than_the_url_says() -> None:
    redis, rabbit = make_url(the_redis()).port, own_rabbitmq().port
    kafka = own_kafka().url.rpartition(":")[2]
    for make, url in (
        (RedisBus, f"redis://127.0.0.1:{rabbit}/0"),
        (RabbitBus, f"amqp://ann:{HUSH}@127.0.0.1:{redis}/"),
        (KafkaBus, f"kafka://127.0.0.1:{rabbit}"),
        (RabbitBus, f"amqp://ann:{HUSH}@127.0.0.1:{kafka}/"),
        (PostgresBus, f"postgresql://ann:{HUSH}@127.0.0.1:{rabbit}/parley"),
    ):
        assert "cannot use" in await refusal(make, url)


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("memory://", "MemoryBus"),
        ("redis://host", "RedisBus"),
        ("rediss://host", "RedisBus"),
        ("amqp://host", "RabbitBus"),
        ("amqps://host/chat", "RabbitBus"),
        ("kafka://one:9092,other:9092", "KafkaBus"),
        ("postgresql://host/parley", "PostgresBus"),
    ],
)
def test_the_scheme_chooses_the_bus(url: str, kind: str) -> None:
    settings = Settings(_env_file=None, store="memory://", bus=url)
    assert type(node_from(settings).bus).__name__ == kind


@pytest.mark.parametrize("url", ["memory://two", "nats://host", "host", ""])
def test_a_bus_that_is_not_known_is_named(url: str) -> None:
    with pytest.raises(StartError, match="PARLEY_BUS: must be"):
        read(bus=url)
