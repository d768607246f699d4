"""Kafka for other services: a topic with events by room, a topic with messages to be posted."""

import asyncio
import logging
from collections import deque
from collections.abc import Collection

import structlog
from aiokafka import (
    AIOKafkaConsumer,
    AIOKafkaProducer,
    ConsumerRebalanceListener,
    ConsumerRecord,
    TopicPartition,
)
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import (
    CommitFailedError,
    IllegalStateError,
    KafkaConnectionError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    RequestTimedOutError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
)

from parley.buses import linked
from parley.integration import EVENTS, GROUP, MESSAGES
from parley.integration.backlog import Letter
from parley.integration.line import Refused
from parley.integration.posting import AT_ONCE

REQUEST_MILLISECONDS = 3000
POLL_MILLISECONDS = 1000
COMMIT_SECONDS = 0.2
JOIN_MILLISECONDS = 30_000
"""How long it may take until all others of the group have joined as well."""
MAX_REQUEST_BYTES = 8 * 1024 * 1024
PATIENCE_MILLISECONDS = 24 * 3600 * 1000
"""How long what was taken may wait for the store before others should try; they have the same store."""

log = structlog.get_logger()

# What goes wrong is raised, and said once by us.
logging.getLogger("aiokafka").setLevel(logging.CRITICAL)


def servers_of(url: str) -> list[str]:
    """The brokers in the address of the bus."""
    return url.removeprefix("kafka://").rstrip("/").split(",")


def reason(error: BaseException) -> str:
    """Why it does not work, for an operator."""
    if isinstance(error, Refused):
        return str(error)
    if isinstance(error, KafkaConnectionError):
        return "no broker answers there; start it, or check hosts and ports"
    if isinstance(error, RequestTimedOutError | KafkaTimeoutError):
        return "it does not answer; check hosts and ports"
    if isinstance(error, TopicAuthorizationFailedError):
        return f"we may not write to the topic {EVENTS} and read the topic {MESSAGES}; permit it"
    return linked.reason(error)


class KafkaLink:
    """One connection. The driver makes it anew by itself, unless that takes too long."""

    def __init__(self, servers: list[str]) -> None:
        self._servers = servers
        self._client = AIOKafkaClient(bootstrap_servers=servers, request_timeout_ms=REQUEST_MILLISECONDS)

    async def ended(self) -> None:
        await asyncio.Event().wait()  # what is asked of it finds out

    async def ping(self) -> None:
        if not await self._client.fetch_all_metadata():
            raise KafkaConnectionError

    async def close(self) -> None:
        await self._client.close()

    async def _find(self, topic: str) -> None:
        """Connect, and look for a topic; where brokers make topics by themselves, they do so now. Raises
        `Refused`."""
        await self._client.bootstrap()
        try:
            async with asyncio.timeout(REQUEST_MILLISECONDS / 1000):
                await self._client._wait_on_metadata(topic)
        except (TimeoutError, UnknownTopicOrPartitionError):
            raise Refused(f"the topic {topic} is not there; make it") from None
        except TopicAuthorizationFailedError:
            raise Refused(f"we may not use the topic {topic}; permit it") from None


class KafkaEvents(KafkaLink):
    """Events into the topic `parley.events`; their keys are the rooms, so that each is in one partition."""

    def __init__(self, servers: list[str]) -> None:
        super().__init__(servers)
        self._producer = AIOKafkaProducer(
            bootstrap_servers=servers,
            acks="all",
            request_timeout_ms=REQUEST_MILLISECONDS,
            max_request_size=MAX_REQUEST_BYTES,
        )

    async def open(self) -> None:
        await self._find(EVENTS)
        await self._producer.start()

    async def send(self, letters: list[Letter], epoch: str) -> list[Letter]:
        sent = [await self._put(each, epoch) for each in letters]
        outcomes = await asyncio.gather(*sent, return_exceptions=True)
        refused = []
        for letter, outcome in zip(letters, outcomes, strict=True):
            if isinstance(outcome, MessageSizeTooLargeError):
                refused.append(letter)
            elif isinstance(outcome, BaseException):
                raise outcome
        return refused

    async def close(self) -> None:
        await self._producer.stop()
        await super().close()

    async def _put(self, letter: Letter, epoch: str) -> "asyncio.Future[object]":
        headers = [
            ("event", letter.event.encode()),
            ("epoch", epoch.encode()),
            ("message_id", letter.id(epoch).encode()),
            ("content_type", b"application/json"),
        ]
        put: asyncio.Future[object] = await self._producer.send(
            EVENTS, letter.body, key=letter.room_id.encode(), headers=headers
        )
        return put


class KafkaDelivery:
    """A record of the topic."""

    def __init__(self, record: ConsumerRecord, progress: "Progress") -> None:
        self.body: bytes = record.value or b""
        self._progress = progress
        self._offset: int = record.offset
        # A topic that is made anew counts from zero again, but its times are others.
        self.identity: str | None = (
            f"kafka:{record.topic}/{record.partition}/{record.offset}/{record.timestamp}"
        )

    async def settle(self, answer: bytes, *, stored: bool) -> None:
        self._progress.done(self._offset)


class Progress:
    """How far a partition is read since it is ours: everything before `next_offset` is settled."""

    def __init__(self) -> None:
        self.next_offset: int | None = None
        self.committed: int | None = None
        self._taken: deque[int] = deque()
        self._done: set[int] = set()

    def took(self, offset: int) -> None:
        """A record is under way."""
        self._taken.append(offset)

    def done(self, offset: int) -> None:
        """A record is settled."""
        self._done.add(offset)
        while self._taken and self._taken[0] in self._done:
            self._done.discard(self._taken[0])
            self.next_offset = self._taken.popleft() + 1


class KafkaPosts(KafkaLink, ConsumerRebalanceListener):  # type: ignore[misc]
    """Messages from the topic `parley.messages`, as one of the group `parley`: each partition is read by one
    node."""

    def __init__(self, servers: list[str]) -> None:
        super().__init__(servers)
        self._started = asyncio.Event()
        self._arrived: deque[KafkaDelivery] = deque()
        self._progress: dict[TopicPartition, Progress] = {}
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=servers,
            group_id=GROUP,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_poll_interval_ms=PATIENCE_MILLISECONDS,
            request_timeout_ms=JOIN_MILLISECONDS,
        )

    async def open(self) -> None:
        await self._find(MESSAGES)

    async def ended(self) -> None:
        # Joining the group takes longer than connecting may.
        self._consumer.subscribe([MESSAGES], listener=self)
        await self._consumer.start()
        self._started.set()
        while True:
            await asyncio.sleep(COMMIT_SECONDS)
            await self._commit()

    async def take(self) -> KafkaDelivery:
        while not self._arrived:
            await self._fetch()
        return self._arrived.popleft()

    async def close(self) -> None:
        try:
            if self._started.is_set():
                await self._commit()
        finally:
            await self._consumer.stop()
            # Where it is stopped while it asks for records, it leaves its connections open.
            await self._consumer._client.close()
            await super().close()

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        """Others may get them now. What was taken of them is posted all the same, and known by its id to
        whoever takes it again."""
        await self._commit()
        self._progress.clear()
        self._arrived.clear()

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        """They are read from where they were committed."""

    async def _fetch(self) -> None:
        await self._started.wait()
        partitions = await self._consumer.getmany(timeout_ms=POLL_MILLISECONDS, max_records=AT_ONCE)
        for partition, records in partitions.items():
            progress = self._progress.setdefault(partition, Progress())
            for record in records:
                progress.took(record.offset)
                self._arrived.append(KafkaDelivery(record, progress))

    async def _commit(self) -> None:
        new = {
            partition: progress.next_offset
            for partition, progress in self._progress.items()
            if progress.next_offset != progress.committed
        }
        if not new:
            return
        try:
            await self._consumer.commit(new)
        except (CommitFailedError, IllegalStateError) as error:
            log.debug("others read these partitions now", error=str(error))
        for partition, offset in new.items():
            self._progress.setdefault(partition, Progress()).committed = offset
