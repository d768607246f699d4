"""PostgreSQL's LISTEN and NOTIFY between the nodes, in the database that the URL names.

A notification belongs to one of 64 channels, after a hash of its topic; its first line is the topic.
"""

import asyncio
import zlib
from collections import Counter

import asyncpg
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from parley.buses.frames import Frame
from parley.buses.linked import Arrived, Link, LinkedBus, reason
from parley.errors import StartError
from parley.stores.sql.server import Server

CHANNELS = 64
MAX_NOTIFICATION_BYTES = 7999
"""PostgreSQL takes no more."""
MAX_TOPIC_BYTES = 200

_NOTIFY = "SELECT pg_notify(channel, frame) FROM unnest($1::text[], $2::text[]) AS sent (channel, frame)"


class PostgresBus(LinkedBus):
    """At `postgresql://user:password@host/database`, over two connections.

    Raises `StartError` for a URL that makes no sense.
    """

    def __init__(self, url: str) -> None:
        super().__init__(url, max_frame_bytes=MAX_NOTIFICATION_BYTES - MAX_TOPIC_BYTES - 1)
        try:
            self._server = Server(make_url(url))
        except (ArgumentError, ValueError):
            raise StartError(
                f"cannot use {self.shown_url}: write postgresql://user:password@host/database"
            ) from None

    def _new_link(self) -> Link:
        return PostgresLink(self._server, self._arrived)

    def _reason(self, error: BaseException) -> str:
        try:
            with self._server.explained():
                raise error
        except StartError as refusal:
            return str(refusal).removeprefix(f"cannot use {self._server.name}: ")
        except BaseException as other:
            return reason(other)


class PostgresLink:
    """A connection to send on, and one to listen on."""

    def __init__(self, server: Server, arrived: Arrived) -> None:
        self._server = server
        self._arrived = arrived
        self._connections: list[asyncpg.Connection] = []
        self._topics_of = Counter[str]()
        self._using = asyncio.Lock()
        self._talking = asyncio.Lock()
        self._ended = asyncio.Event()

    async def open(self) -> None:
        for _ in range(2):
            connection = await self._server.connect()
            self._connections.append(connection)
            connection.add_termination_listener(self._on_end)
        self._sending, self._listening = self._connections

    async def listen(self) -> None:
        await self._ended.wait()
        raise ConnectionError("the server ended the connection")

    async def ping(self) -> None:
        async with self._talking:
            await self._listening.execute("SELECT 1")
        async with self._using:
            await self._sending.execute("SELECT 1")

    async def send(self, frames: list[Frame]) -> None:
        channels = [_channel(each.topic) for each in frames]
        texts = [_text(each) for each in frames]
        async with self._using:
            await self._sending.execute(_NOTIFY, channels, texts)

    async def subscribe(self, topics: list[str]) -> None:
        new = []
        for channel in map(_channel, topics):
            self._topics_of[channel] += 1
            if self._topics_of[channel] == 1:
                new.append(channel)
        async with self._talking:
            for channel in new:
                await self._listening.add_listener(channel, self._notified)

    async def unsubscribe(self, topics: list[str]) -> None:
        async with self._talking:
            for channel in map(_channel, topics):
                self._topics_of[channel] -= 1
                if self._topics_of[channel] == 0:
                    await self._listening.remove_listener(channel, self._notified)

    async def close(self) -> None:
        for connection in self._connections:
            connection.remove_termination_listener(self._on_end)
            connection.terminate()

    def _notified(self, connection: object, process: int, channel: str, text: str) -> None:
        topic, _, body = text.partition("\n")
        self._arrived(topic, body.encode())

    def _on_end(self, connection: object) -> None:
        self._ended.set()


def _text(frame: Frame) -> str:
    """A notification is text without zeros, and so are payloads; one that is not must not stop the others."""
    return f"{frame.topic}\n{str(frame.body, 'utf-8', 'replace')}".replace("\0", "\ufffd")


def _channel(topic: str) -> str:
    return f"parley_{zlib.crc32(topic.encode()) % CHANNELS}"
