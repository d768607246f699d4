"""Messages that other services post through real brokers: stored once, answered, and none is lost."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import pytest
import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiormq.connection import Connection
from yarl import URL

from parley.node import Node
from parley.stores.memory import MemoryStore
from tests.integration.conftest import MakeNode
from tests.integration.listeners import KafkaService, RabbitService, Service, of
from tests.kafka_server import KafkaServer
from tests.rabbitmq_server import MUTE, RabbitServer
from tests.servers import ServerProcess, until


def post(room: str, text: str, user: str = "john", **more: str) -> bytes:
    return json.dumps({"user": user, "room": room, "text": text, **more}).encode()


@pytest.fixture
def room() -> str:
    """A room that nobody has used."""
    return f"kitchen-{uuid4().hex[:8]}"


async def said(node: Node, room: str) -> list[str]:
    page = await node.core.messages.page(None, room, limit=200)
    return [each.text for each in page.items]


async def posted(node: Node, count: int, seconds: float = 20) -> None:
    """Wait until so many were stored; joining a group of Kafka's takes a while."""
    assert node.outside is not None
    counted = node.outside.posting
    await until(lambda: counted.posted >= count, seconds, f"storing {count} posts")
    assert counted.posted == count


async def test_what_is_posted_is_stored_in_order_and_told(
    make_node: MakeNode, broker: str, service: Service, room: str
) -> None:
    node = await make_node(broker)
    await service.post(b"garbage")
    for number in range(100):
        await service.post(post(room, str(number)))
    await posted(node, 100)
    assert await said(node, room) == [str(number) for number in range(100)]
    room_id = (await node.core.rooms.see(room, None)).id
    await until(lambda: len(of(service, room_id)) == 100, what="hearing it")
    assert node.outside is not None
    assert node.outside.posting.refused == 1
    assert node.outside.healthy()


@pytest.mark.servers
async def test_rabbitmq_is_answered_where_it_asks(
    make_node: MakeNode, rabbit_url: str, rabbit: RabbitService, room: str
) -> None:
    node = await make_node(rabbit_url)
    id_ = str(uuid4())
    for _ in range(2):
        answer = await rabbit.answer_to(post(room, "hello", id=id_), "1")
        assert answer["ok"]["message"]["id"] == id_
        assert answer["ok"]["message"]["seq"] == 1
    refused = await rabbit.answer_to(post(room, "something else", id=id_), "2")
    assert refused["error"]["code"] == "id_taken"
    assert set(refused["error"]) >= {"code", "kind", "detail", "retryable"}
    assert (await rabbit.answer_to(b"garbage", "3"))["error"]["code"] == "invalid_json"
    for text in ("one", "one", "two"):
        await rabbit.answer_to(post(room, text), "4", message_id=f"the id of {text} in {room}")
    await rabbit.post(post(room, "three"), reply_to="nobody.is.there")
    await posted(node, 6)
    assert await said(node, room) == ["hello", "one", "two", "three"]


@pytest.mark.servers
async def test_a_node_that_may_not_answer_goes_on(
    make_node: MakeNode, rabbit_url: str, rabbit: RabbitService, room: str
) -> None:
    with structlog.testing.capture_logs() as log:
        node = await make_node(str(URL(rabbit_url).with_user(MUTE[0]).with_password(MUTE[1])))
        for number in range(5):
            await rabbit.post(post(room, str(number)), reply_to=rabbit.reply_to)
        await posted(node, 5)
        await asyncio.sleep(0.3)
    assert [each["event"] for each in log] == ["other services are not answered for now"]
    assert node.outside is not None
    assert (node.outside.posting.posted, node.outside.posting._line.breaks) == (5, 0)
    assert await said(node, room) == ["0", "1", "2", "3", "4"]


@pytest.mark.servers
async def test_what_was_refused_goes_where_dead_letters_go(tmp_path: Path) -> None:
    """A queue that an operator made, of whatever kind, is used as it is."""
    broker = await asyncio.to_thread(RabbitServer(tmp_path).start)
    try:
        connection = Connection(broker.url)
        await connection.connect()
        channel: Any = await connection.channel()
        await channel.queue_declare("dead", durable=True)
        dead = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}
        await channel.queue_declare(
            "parley.messages", durable=True, arguments={"x-queue-type": "quorum", **dead}
        )
        await channel.basic_publish(b"garbage", routing_key="parley.messages")
        await channel.basic_publish(post("kitchen", "hello"), routing_key="parley.messages")
        with ServerProcess(tmp_path, store="memory://", bus=broker.url) as server:
            await until(lambda: texts(server, "kitchen") == ["hello"], 20, "the post")
        found = await channel.basic_get("dead", no_ack=True)
        assert found.body == b"garbage"
        left = await channel.queue_declare("parley.messages", passive=True)
        assert left.message_count == 0
        await connection.close()
    finally:
        await asyncio.to_thread(broker.stop)


def texts(server: ServerProcess, room: str) -> list[str]:
    """What stands in a public room, as a guest reads it."""
    with httpx2.Client(base_url=f"{server.url}/api/v1") as http:
        token = http.post("/sessions/guest", json={"display_name": "reader"}).json()["token"]
        found: list[str] = []
        while True:
            after = len(found)
            page = http.get(
                f"/rooms/{room}/messages",
                params={"after": after, "limit": 200},
                headers={"authorization": f"Bearer {token}"},
            )
            items = page.json().get("items", [])
            found += [each["text"] for each in items]
            if not items:
                return found


@pytest.fixture(params=["rabbitmq", "kafka"])
async def own_service(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[str, Service]]:
    """A service at a broker of its own, where nobody else reads."""
    service: Service
    if request.param == "kafka":
        kafka = KafkaServer().start()
        service, url, stop = KafkaService(kafka.url), kafka.url, kafka.stop
    else:
        rabbit = await asyncio.to_thread(RabbitServer(tmp_path).start)
        service, url, stop = RabbitService(rabbit.url), rabbit.url, rabbit.stop
    await service.start()
    yield url, service
    await service.stop()
    await asyncio.to_thread(stop)


@pytest.mark.servers
@pytest.mark.slow
async def test_a_server_that_is_killed_in_the_midst_loses_and_doubles_nothing(
    own_service: tuple[str, Service], tmp_path: Path, room: str
) -> None:
    url, service = own_service
    server = await asyncio.to_thread(ServerProcess(tmp_path, bus=url).start)
    total = 400
    try:
        for number in range(total):
            await service.post(post(room, str(number)), message_id=f"{room} {number}")
        for _ in range(2):
            before = len(await asyncio.to_thread(texts, server, room))
            await until(lambda: len(texts(server, room)) >= before + 40, 30, "some of them")  # noqa: B023
            server.kill()
            await asyncio.to_thread(server.start)
        await until(lambda: len(texts(server, room)) >= total, 60, "all of them")
        assert texts(server, room) == [str(number) for number in range(total)]
        assert server.stop() == 0
    finally:
        server.kill()


@pytest.mark.slow
async def test_when_a_node_goes_the_next_one_reads_on(
    make_node: MakeNode, broker: str, service: Service, room: str
) -> None:
    store = MemoryStore()
    first = await make_node(broker, store)
    for number in range(20):
        await service.post(post(room, str(number)), message_id=f"{room} {number}")
    await posted(first, 20)
    second = await make_node(broker, store)
    await until(second.outside.posting.healthy, what="the other one")  # type: ignore[union-attr]
    going_on = asyncio.create_task(first.stop())
    for number in range(20, 60):
        await service.post(post(room, str(number)), message_id=f"{room} {number}")
        await asyncio.sleep(0.01)
    await going_on
    await until_said(second, room, 60)
    assert await said(second, room) == [str(number) for number in range(60)]


async def until_said(node: Node, room: str, count: int) -> None:
    for _ in range(300):
        if len(await said(node, room)) >= count:
            return
        await asyncio.sleep(0.1)


@pytest.mark.servers
async def test_kafka_is_told_how_far_was_read(make_node: MakeNode, room: str) -> None:
    kafka = KafkaServer().start()
    service = KafkaService(kafka.url)
    await service.start()
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka.url.removeprefix("kafka://"), group_id="parley")
    try:
        await service.post(post(room, "before anybody listens"))
        node = await make_node(kafka.url)
        for number in range(10):
            await service.post(post(room, str(number)))
        await posted(node, 11)
        await node.stop()
        await consumer.start()
        numbers = await service.producer.partitions_for("parley.messages")
        committed = [await consumer.committed(TopicPartition("parley.messages", each)) for each in numbers]
        assert sum(each or 0 for each in committed) == 11
    finally:
        await consumer.stop()
        await service.stop()
        kafka.stop()
