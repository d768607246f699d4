"""RabbitMQ for other services: a topic exchange with events, a queue with messages to be posted."""

import asyncio
import logging

import structlog
from aiormq.abc import DeliveredMessage
from aiormq.channel import Channel
from aiormq.connection import Connection
from aiormq.exceptions import (
    ChannelAccessRefused,
    ChannelNotFoundEntity,
    ChannelPreconditionFailed,
)
from pamqp.commands import Basic
from yarl import URL

from parley.buses import linked
from parley.buses.rabbitmq import HEARTBEAT_SECONDS
from parley.integration import EVENTS, MESSAGES
from parley.integration.backlog import Letter
from parley.integration.line import Refused
from parley.integration.posting import AT_ONCE

PERSISTENT = 2

log = structlog.get_logger()

for name in ("aio_pika", "aiormq"):
    # What goes wrong is raised, and said once by us.
    logging.getLogger(name).setLevel(logging.CRITICAL)


def reason(error: BaseException) -> str:
    """Why it does not work, for an operator."""
    if isinstance(error, Refused):
        return str(error)
    text = str(error)
    if isinstance(error, ChannelAccessRefused):
        return f"that user may not use {EVENTS} and {MESSAGES} as it must; permit it"
    if "ACCESS_REFUSED" in text:
        return "it refuses that user or password; check both"
    if isinstance(error, ChannelPreconditionFailed):
        return "it does not take what we send; is its `max_message_size` less than 4 MiB?"
    return linked.reason(error)


class RabbitLink:
    """One connection, which does not make itself anew. What ends a channel ends the link."""

    def __init__(self, url: str) -> None:
        self._connection = Connection(URL(url).update_query(heartbeat=HEARTBEAT_SECONDS))
        self._over = asyncio.Event()
        self._channel: Channel

    async def ended(self) -> None:
        await self._over.wait()
        for each in (self._channel.closing, self._connection.closing):
            if each.done() and not each.cancelled() and (error := each.exception()) is not None:
                if isinstance(error, ChannelAccessRefused | ChannelPreconditionFailed):
                    raise Refused(reason(error))
                raise error
        raise ConnectionError("the broker ended the connection")

    async def close(self) -> None:
        await self._connection.close()

    async def _connect(self, *, publisher_confirms: bool) -> None:
        await self._connection.connect()
        self._channel = await self._new_channel(publisher_confirms=publisher_confirms)
        for each in (self._connection, self._channel):
            each.closing.add_done_callback(lambda _: self._over.set())

    async def _new_channel(self, *, publisher_confirms: bool = False) -> Channel:
        channel = await self._connection.channel(publisher_confirms=publisher_confirms)
        assert isinstance(channel, Channel)
        return channel


class RabbitEvents(RabbitLink):
    """Events into the exchange `parley.events`, with their names as routing keys."""

    async def open(self) -> None:
        await self._connect(publisher_confirms=True)
        try:
            await self._channel.exchange_declare(EVENTS, exchange_type="topic", durable=True)
        except ChannelPreconditionFailed:
            raise Refused(
                f"there is another exchange named {EVENTS}; it must be a durable one of type topic: "
                "delete it, or take another vhost"
            ) from None
        except ChannelAccessRefused:
            raise Refused(f"that user may not make and write to the exchange {EVENTS}; permit it") from None

    async def ping(self) -> None:
        await self._channel.exchange_declare(EVENTS, passive=True)

    async def send(self, letters: list[Letter], epoch: str) -> list[Letter]:
        # Tasks begin in their order, and each takes its place in the channel's queue before it waits.
        await asyncio.gather(*(self._publish(each, epoch) for each in letters))
        return []

    async def _publish(self, letter: Letter, epoch: str) -> None:
        properties = Basic.Properties(
            content_type="application/json",
            delivery_mode=PERSISTENT,
            message_id=letter.id(epoch),
            message_type=letter.event,
            app_id="parley",
            headers={"event": letter.event, "epoch": epoch},
        )
        await self._channel.basic_publish(
            letter.body, exchange=EVENTS, routing_key=letter.event, properties=properties, wait=False
        )


class RabbitDelivery:
    """A message of the queue."""

    def __init__(self, message: DeliveredMessage, link: "RabbitPosts") -> None:
        self.body = message.body
        self._link = link
        self._tag = message.delivery_tag or 0
        properties = message.header.properties
        self._reply_to = properties.reply_to
        self._correlation_id = properties.correlation_id or properties.message_id
        self.identity = f"amqp:{properties.message_id}" if properties.message_id else None

    async def settle(self, answer: bytes, *, stored: bool) -> None:
        if self._reply_to:
            await self._link.reply(self._reply_to, self._correlation_id, answer)
        await self._link.settle(self._tag, stored=stored)


class RabbitPosts(RabbitLink):
    """Messages from the queue `parley.messages`. One node at a time takes them, so that they stay in order;
    when it is gone, the next one does."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._arrived: asyncio.Queue[DeliveredMessage] = asyncio.Queue()
        self._replies: Channel | None = None
        self._is_mute = False

    async def open(self) -> None:
        await self._connect(publisher_confirms=False)
        try:
            await self._make_queue()
            await self._channel.basic_qos(prefetch_count=AT_ONCE)
            self._channel.on_consumer_cancel_callbacks.add(lambda *_: self._over.set())
            await self._channel.basic_consume(MESSAGES, self._arrived.put)
        except ChannelPreconditionFailed:
            raise Refused(
                f"the queue {MESSAGES} is of a kind that cannot be read like that; delete it"
            ) from None
        except ChannelAccessRefused:
            raise Refused(f"that user may not make and read the queue {MESSAGES}; permit it") from None

    async def ping(self) -> None:
        await self._channel.queue_declare(MESSAGES, passive=True)

    async def take(self) -> RabbitDelivery:
        return RabbitDelivery(await self._arrived.get(), self)

    async def settle(self, tag: int, *, stored: bool) -> None:
        """Let the broker forget a message, or pass what was refused on to where dead letters go."""
        if stored:
            await self._channel.basic_ack(tag)
        else:
            await self._channel.basic_reject(tag, requeue=False)

    async def reply(self, queue: str, correlation_id: str | None, body: bytes) -> None:
        """Answer, if that queue is there. On a channel of its own, because not being allowed to ends it; then
        nobody is answered any more over this link."""
        if self._is_mute:
            return
        properties = Basic.Properties(
            content_type="application/json", correlation_id=correlation_id, app_id="parley"
        )
        try:
            if self._replies is None or self._replies.is_closed:
                self._replies = await self._new_channel(publisher_confirms=True)
            await self._replies.basic_publish(body, routing_key=queue, properties=properties)
        except (Exception, asyncio.CancelledError):
            # The driver calls off whoever waits for a channel that ends.
            task = asyncio.current_task()
            if self._over.is_set() or (task is not None and task.cancelling()):
                raise
            self._is_mute = True
            log.warning(
                "other services are not answered for now", reason="that user may not write to amq.default"
            )

    async def _make_queue(self) -> None:
        """Make the queue unless there is one: an operator may have chosen another kind, such as a quorum."""
        look = await self._new_channel()
        try:
            await look.queue_declare(MESSAGES, passive=True)
            await look.close()
        except ChannelNotFoundEntity:
            await self._channel.queue_declare(
                MESSAGES, durable=True, arguments={"x-single-active-consumer": True}
            )
