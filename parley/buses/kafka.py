"""Kafka between the nodes: one topic of Kafka's for all of ours, which every node reads as a whole."""

import asyncio
import logging
import re

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import (
    KafkaConnectionError,
    KafkaError,
    RequestTimedOutError,
    TopicAuthorizationFailedError,
)
from faststream.kafka import KafkaBroker

from parley.buses.frames import Frame
from parley.buses.linked import Arrived, Link, LinkedBus, reason
from parley.errors import StartError

TOPIC = "parley.rooms"
REQUEST_MILLISECONDS = 2500
FETCH_MILLISECONDS = 10
"""How long a broker may keep back an answer that is empty. A partition that was just read is asked again only
after that answer, so this is what a frame may have to wait."""
POLL_MILLISECONDS = 1000
MAX_BATCH_BYTES = 256 * 1024

_URL = re.compile(r"kafka://{0}(,{0})*/?".format(r"[^/?#@,:]+(:\d+)?"))

# What goes wrong is raised, and said once by us.
logging.getLogger("aiokafka").setLevel(logging.CRITICAL)


class KafkaBus(LinkedBus):
    """At `kafka://host:port[,host:port]`. Raises `StartError` for a URL that makes no sense.

    Our topics are the keys of the records, so that each is in one partition, in order. Whoever is not wanted
    is read and dropped: a node costs what the whole chat says.
    """

    def __init__(self, url: str) -> None:
        super().__init__(url)
        if not _URL.fullmatch(url):
            raise StartError(f"{self.shown_url}: that is no URL; write kafka://host:9092[,host:9092]")
        self._servers = url.removeprefix("kafka://").rstrip("/").split(",")

    def _new_link(self) -> Link:
        return KafkaLink(self._servers, self._arrived)

    def _reason(self, error: BaseException) -> str:
        if isinstance(error, KafkaConnectionError):
            return "no broker answers there; start it, or check hosts and ports"
        if isinstance(error, RequestTimedOutError):
            return "it does not answer; check hosts and ports"
        if isinstance(error, TopicAuthorizationFailedError):
            return f"we may not read and write the topic {TOPIC}; permit it"
        return reason(error)


class KafkaLink:
    """A producer and a consumer. They connect again by themselves and miss nothing then; when the brokers are
    away for longer, both are made anew, and begin with what is published from then on."""

    def __init__(self, servers: list[str], arrived: Arrived) -> None:
        self._servers = servers
        self._arrived = arrived
        self._broker = KafkaBroker(
            servers,
            request_timeout_ms=REQUEST_MILLISECONDS,
            max_batch_size=MAX_BATCH_BYTES,
            acks=1,
            apply_types=False,
            logger=None,
        )
        # Without a handler it only makes the consumer, from which we read many records at a time.
        # Without a group there is nothing to wait for before it may read.
        self._subscriber = self._broker.subscriber(
            TOPIC, auto_offset_reset="latest", fetch_max_wait_ms=FETCH_MILLISECONDS
        )

    async def open(self) -> None:
        # FastStream leaves open what it made, where nobody answers.
        client = AIOKafkaClient(bootstrap_servers=self._servers, request_timeout_ms=REQUEST_MILLISECONDS)
        try:
            await client.bootstrap()
        finally:
            await client.close()
        await self._broker.connect()
        # Where brokers make topics by themselves, they do so for those who write.
        await self._broker.publish(b"", TOPIC)
        await self._broker.start()
        for partition in self._consumer.assignment():
            await self._consumer.position(partition)

    @property
    def _consumer(self) -> AIOKafkaConsumer:
        consumer = self._subscriber.consumer
        if consumer is None or not consumer.assignment():
            raise KafkaError(f"the topic {TOPIC} is not there; make it")
        return consumer

    @property
    def _producer(self) -> AIOKafkaProducer:
        # FastStream's own way makes an id and headers for each record: half as much work again.
        return self._broker.config.producer._producer.producer  # type: ignore[attr-defined]

    async def listen(self) -> None:
        while True:
            partitions = await self._consumer.getmany(timeout_ms=POLL_MILLISECONDS)
            for records in partitions.values():
                for record in records:
                    if record.key is not None:
                        self._arrived(str(record.key, "utf-8", "replace"), record.value or b"")

    async def ping(self) -> None:
        await self._consumer.end_offsets(self._consumer.assignment())

    async def send(self, frames: list[Frame]) -> None:
        sent = [await self._producer.send(TOPIC, each.body, key=each.topic.encode()) for each in frames]
        await asyncio.gather(*sent)

    async def subscribe(self, topics: list[str]) -> None:
        """Everything arrives anyway."""

    async def unsubscribe(self, topics: list[str]) -> None:
        """It goes on arriving."""

    async def close(self) -> None:
        consumer = self._subscriber.consumer
        try:
            await self._broker.stop()
        finally:
            if consumer is not None:
                # Where it is stopped while it asks for records, it leaves its connections open.
                await consumer._client.close()
