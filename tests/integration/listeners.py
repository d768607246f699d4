"""Other services, as they would be written by somebody else: they hear events and post messages."""

import asyncio
import json
from typing import Any, NamedTuple, Protocol

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiormq.abc import DeliveredMessage
from aiormq.connection import Connection
from aiormq.exceptions import PublishError
from pamqp.commands import Basic

from tests.servers import until


class Heard(NamedTuple):
    """One event as the broker gives it."""

    key: str
    headers: dict[str, str]
    id: str
    line: bytes

    @property
    def body(self) -> dict[str, Any]:
        body: dict[str, Any] = json.loads(self.line)
        return body


class Service(Protocol):
    """Another service, at one broker."""

    heard: list[Heard]

    async def start(self) -> None: ...

    async def post(self, body: bytes, **properties: Any) -> None: ...

    async def stop(self) -> None: ...


def of(service: Service, room_id: str) -> list[Heard]:
    """What was heard of a room."""
    return [each for each in list(service.heard) if each.body["room_id"] == room_id]


def known_after(heard: list[Heard], revision: int = 0) -> int:
    """The revision that a consumer has come to that follows the rules; -1 where it found a hole."""
    for each in heard:
        body = each.body
        if body["event"] == "room.reset":
            revision = body["revision"]
        elif body.get("revision", 0) > revision:
            if body.get("since", body["revision"] - 1) > revision:
                return -1
            revision = body["revision"]
    return revision


async def hears_up_to(service: Service, room_id: str, revision: int, *, since: int = 0) -> list[Heard]:
    """Wait until a service knows of a room up to a revision, without a hole."""
    await until(
        lambda: known_after(of(service, room_id), since) == revision,
        15,
        f"knowing the room up to {revision}: {[each.body for each in of(service, room_id)][-3:]}",
    )
    return of(service, room_id)


class RabbitService:
    """A queue bound to `parley.events`, and answers to what it posts."""

    def __init__(self, url: str, key: str = "#") -> None:
        self.heard: list[Heard] = []
        self.answers: dict[str, dict[str, Any]] = {}
        self._url = url
        self._key = key

    async def start(self) -> None:
        self.connection = Connection(self._url)
        await self.connection.connect()
        self.channel: Any = await self.connection.channel(on_return_raises=True)
        await self.channel.exchange_declare("parley.events", exchange_type="topic", durable=True)
        queue = (await self.channel.queue_declare(exclusive=True)).queue or ""
        await self.channel.queue_bind(queue, "parley.events", self._key)
        await self.channel.basic_consume(queue, self._hear, no_ack=True)
        self.reply_to = (await self.channel.queue_declare(exclusive=True)).queue or ""
        await self.channel.basic_consume(self.reply_to, self._answered, no_ack=True)

    async def post(self, body: bytes, **properties: Any) -> None:
        """Post, again and again until there is a queue: before the very first start there is none."""
        while True:
            try:
                await self.channel.basic_publish(
                    body,
                    routing_key="parley.messages",
                    properties=Basic.Properties(delivery_mode=2, **properties),
                    mandatory=True,
                )
                return
            except PublishError:
                await asyncio.sleep(0.02)

    async def answer_to(self, body: bytes, number: str, **properties: Any) -> dict[str, Any]:
        """Post, and wait for the answer."""
        await self.post(body, reply_to=self.reply_to, correlation_id=number, **properties)
        await until(lambda: number in self.answers, what="an answer")
        return self.answers.pop(number)

    async def stop(self) -> None:
        await self.connection.close()

    async def _hear(self, message: DeliveredMessage) -> None:
        properties = message.header.properties
        assert properties.delivery_mode == 2
        assert properties.content_type == "application/json"
        headers = {name: str(value) for name, value in (properties.headers or {}).items()}
        self.heard.append(
            Heard(message.routing_key or "", headers, properties.message_id or "", message.body)
        )

    async def _answered(self, message: DeliveredMessage) -> None:
        self.answers[message.header.properties.correlation_id or ""] = json.loads(message.body)


class KafkaService:
    """A reader of `parley.events` from now on."""

    def __init__(self, url: str) -> None:
        self.heard: list[Heard] = []
        self._servers = url.removeprefix("kafka://")
        self._reading: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self.producer = AIOKafkaProducer(bootstrap_servers=self._servers)
        await self.producer.start()
        numbers = await self.producer.partitions_for("parley.events")
        self._consumer = AIOKafkaConsumer(bootstrap_servers=self._servers, fetch_max_wait_ms=10)
        await self._consumer.start()
        partitions = [TopicPartition("parley.events", number) for number in numbers]
        self._consumer.assign(partitions)
        await self._consumer.seek_to_end(*partitions)
        for partition in partitions:
            await self._consumer.position(partition)
        self._reading = asyncio.create_task(self._read())

    async def post(self, body: bytes, **properties: Any) -> None:
        await self.producer.send_and_wait("parley.messages", body, key=b"all")

    async def stop(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])
        await self._consumer.stop()
        await self._consumer._client.close()
        await self.producer.stop()

    async def _read(self) -> None:
        while True:
            for records in (await self._consumer.getmany(timeout_ms=200)).values():
                for record in records:
                    headers = {name: value.decode() for name, value in record.headers}
                    key = headers["event"]
                    assert record.key.decode() == json.loads(record.value)["room_id"]
                    self.heard.append(Heard(key, headers, headers["message_id"], record.value))
