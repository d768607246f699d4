"""RabbitMQ between the nodes: one exchange, and for each node a queue bound to the topics that it wants."""

import asyncio
import logging
import re
import secrets
from typing import Any

from aio_pika import RobustConnection
from aiormq.abc import DeliveredMessage
from aiormq.channel import Channel as RawChannel
from aiormq.exceptions import ChannelAccessRefused, ChannelPreconditionFailed
from faststream.rabbit import Channel, ExchangeType, RabbitBroker, RabbitExchange, RabbitQueue
from pamqp.commands import Basic
from yarl import URL

from parley.buses.frames import Frame
from parley.buses.linked import ANSWER_SECONDS, Arrived, Link, LinkedBus, reason
from parley.errors import StartError

EXCHANGE = RabbitExchange("parley", type=ExchangeType.DIRECT, durable=True, robust=False)
MAX_QUEUE_FRAMES = 20_000
MAX_QUEUE_BYTES = 64 * 1024 * 1024
"""What a node that is too slow leaves with the broker; the oldest is dropped then."""
HEARTBEAT_SECONDS = 10
"""After some of these, the broker parts with a node that says nothing."""

_PROPERTIES = Basic.Properties(delivery_mode=1, message_id="-")
"""Those of every frame, which is lost with the broker. Without an id, one would be drawn for each."""

_URL = re.compile(r"amqps?://[^/?#]+(/[^/?#]*)?")

for name in ("aio_pika", "aiormq"):
    # What goes wrong is raised, and said once by us.
    logging.getLogger(name).setLevel(logging.CRITICAL)


class RabbitBus(LinkedBus):
    """At `amqp://user:password@host:port/vhost`, or `amqps://` with TLS.

    Raises `StartError` for a URL that makes no sense.
    """

    def __init__(self, url: str) -> None:
        super().__init__(url)
        try:
            if not _URL.fullmatch(url) or not URL(url).host:
                raise ValueError
            self._url = str(URL(url).update_query(heartbeat=HEARTBEAT_SECONDS))
        except ValueError:
            raise StartError(
                f"{self.shown_url}: that is no URL; write amqp://user:password@host:5672/vhost"
            ) from None

    def _new_link(self) -> Link:
        return RabbitLink(self._url, self._arrived)

    def _reason(self, error: BaseException) -> str:
        text = str(error)
        if "ACCESS_REFUSED" in text and not isinstance(error, ChannelAccessRefused):
            return "it refuses that user or password; check both"
        if "NOT_ALLOWED" in text or "Connection.OpenOk" in text:
            return "there is no such vhost, or that user may not use it"
        if isinstance(error, ChannelAccessRefused):
            return f"that user may not do everything with {EXCHANGE.name} and {EXCHANGE.name}.*; permit it"
        if isinstance(error, ChannelPreconditionFailed):
            return f"there is another exchange named {EXCHANGE.name}; delete it, or take another vhost"
        return reason(error)


class RabbitLink:
    """One connection, which does not make itself anew: the next one begins with nothing that is wanted.

    FastStream connects and declares. Frames go straight to its channel and come from there: its own way takes
    five times as long, and does for each what we need once for many.
    """

    def __init__(self, url: str, arrived: Arrived) -> None:
        self._arrived = arrived
        self._ended = asyncio.Event()
        self._connection: RobustConnection | None = None
        self._broker = RabbitBroker(
            url,
            timeout=ANSWER_SECONDS,
            default_channel=Channel(publisher_confirms=False),
            on_close=[self._on_close],
            apply_types=False,
            logger=None,
        )
        self._queue = RabbitQueue(
            f"{EXCHANGE.name}.{secrets.token_hex(8)}",
            exclusive=True,
            auto_delete=True,
            durable=False,
            robust=False,
            arguments={
                "x-max-length": MAX_QUEUE_FRAMES,
                "x-max-length-bytes": MAX_QUEUE_BYTES,
                "x-overflow": "drop-head",
            },
        )

    async def open(self) -> None:
        self._connection = await self._broker.connect()
        await self._broker.declare_exchange(EXCHANGE)
        queue = await self._broker.declare_queue(self._queue)
        channel = await queue.channel.get_underlay_channel()
        assert isinstance(channel, RawChannel)
        self._channel = channel
        await self._channel.basic_consume(queue.name, self._received, no_ack=True)

    async def listen(self) -> None:
        await self._ended.wait()
        raise ConnectionError("the broker ended the connection")

    async def ping(self) -> None:
        await self._channel.exchange_declare(EXCHANGE.name, passive=True)

    async def send(self, frames: list[Frame]) -> None:
        for each in frames:
            await self._channel.basic_publish(
                each.body,
                exchange=EXCHANGE.name,
                routing_key=each.topic,
                properties=_PROPERTIES,
                wait=False,
            )
        # One answer for all: a channel is served in order, so the broker has what came before.
        await self.ping()

    async def subscribe(self, topics: list[str]) -> None:
        for topic in topics:
            await self._channel.queue_bind(self._queue.name, EXCHANGE.name, topic, nowait=True)
        await self.ping()

    async def unsubscribe(self, topics: list[str]) -> None:
        # There is no way to unbind without an answer to each.
        for topic in topics:
            await self._channel.queue_unbind(self._queue.name, EXCHANGE.name, topic)

    async def close(self) -> None:
        if self._connection is not None:
            await self._connection.close()
        await self._broker.stop()

    async def _received(self, message: DeliveredMessage) -> None:
        self._arrived(message.routing_key or "", message.body)

    def _on_close(self, *_: Any) -> None:
        self._ended.set()
