"""Redis Pub/Sub between the nodes: a channel for each topic, on one server or on any server of a cluster."""

import asyncio
import itertools
import math
import random
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import hiredis
from redis.asyncio import Connection
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, NoPermissionError, ResponseError

from parley.buses.frames import Frame
from parley.buses.linked import ANSWER_SECONDS, Arrived, Link, LinkedBus, reason
from parley.errors import StartError

_URL = re.compile(r"rediss?://[^/?#]+(/\d*)?")


class RedisBus(LinkedBus):
    """At `redis://[user:password@]host:port/db`, or `rediss://` with TLS. Each db is a bus of its own.

    A cluster passes everything on to all its servers, so one connection to any of them will do: the one that
    the URL names, or, when that is gone, another one. Raises `StartError` for a URL that makes no sense.
    """

    def __init__(self, url: str) -> None:
        super().__init__(url)
        try:
            if not _URL.fullmatch(url) or not urlsplit(url).hostname:
                raise ValueError
            options: dict[str, Any] = {**parse_url(url)}
        except ValueError:
            # The driver repeats what it stumbled over, which may be a part of the password.
            raise StartError(
                f"{self.shown_url}: that is no URL; write redis://user:password@host:port/0"
            ) from None
        self._kind = options.pop("connection_class", Connection)
        self._named = (options.pop("host", "localhost"), options.pop("port", 6379))
        self._others: list[tuple[str, int]] = []
        self._prefix = b"parley:%d:" % options.get("db", 0)
        self._options = options | {
            "protocol": 2,
            "retry": Retry(NoBackoff(), 0),
            "socket_connect_timeout": ANSWER_SECONDS,
            "socket_timeout": ANSWER_SECONDS,
        }
        self._turns = itertools.count()

    def _new_link(self) -> Link:
        # Now the named one, now another one: if that worked, nobody asks for long.
        address = self._named
        if next(self._turns) % 2 and self._others:
            address = random.choice(self._others)
        sending, listening = (self._kind(host=address[0], port=address[1], **self._options) for _ in range(2))
        return RedisLink(sending, listening, self._prefix, self._arrived, self._found)

    def _found(self, servers: list[tuple[str, int]]) -> None:
        self._others = servers

    def _reason(self, error: BaseException) -> str:
        if isinstance(error, AuthenticationError | NoPermissionError):
            return f"{reason(ResponseError(*error.args))}: check user and password, and what that user may do"
        if isinstance(error, ResponseError) and "DB index" in str(error):
            return f"{reason(error)}: take database 0"
        return reason(error)


class RedisLink:
    """A connection to send on, and one to listen on."""

    def __init__(
        self,
        sending: Connection,
        listening: Connection,
        prefix: bytes,
        arrived: Arrived,
        found: Callable[[list[tuple[str, int]]], None],
    ) -> None:
        self._sending = sending
        self._listening = listening
        self._prefix = prefix
        self._arrived = arrived
        self._found = found
        self._in_cluster = False
        self._asking = asyncio.Lock()
        self._talking = asyncio.Lock()
        self._unheard = 0
        self._heard = asyncio.Event()

    async def open(self) -> None:
        for connection in (self._sending, self._listening):
            await connection.connect()  # type: ignore[no-untyped-call]
        try:
            (slots,) = await self._ask(("CLUSTER", "SLOTS"))
        except ResponseError:
            return  # It is alone, or as good as that if it does not tell.
        self._in_cluster = True
        servers = {(str(each[0] or b"", "utf-8"), int(each[1])) for part in slots for each in part[2:]}
        self._found(sorted(each for each in servers if each[0]))

    async def close(self) -> None:
        await self._sending.disconnect(nowait=True)
        await self._listening.disconnect(nowait=True)

    async def listen(self) -> None:
        prefix = len(self._prefix)
        while True:
            reply = await self._listening.read_response(timeout=math.inf)
            if reply[0] == b"message":
                self._arrived(str(reply[1][prefix:], "utf-8", "replace"), reply[2])
            else:
                self._unheard -= 1
                if self._unheard == 0:
                    self._heard.set()

    async def ping(self) -> None:
        await self._tell(1, "PING")
        if self._in_cluster:
            await self._ask(("PING",))
            return
        try:
            (role,) = await self._ask(("ROLE",))
        except ResponseError:
            return  # Not everybody may ask, but it answers.
        if role[0] != b"master":
            # What is published on a replica is heard by nobody else.
            raise ConnectionError("it has become a replica")

    async def send(self, frames: list[Frame]) -> None:
        await self._ask(*(("PUBLISH", self._prefix + each.topic.encode(), each.body) for each in frames))

    async def subscribe(self, topics: list[str]) -> None:
        await self._tell(len(topics), "SUBSCRIBE", *(self._prefix + each.encode() for each in topics))

    async def unsubscribe(self, topics: list[str]) -> None:
        await self._tell(len(topics), "UNSUBSCRIBE", *(self._prefix + each.encode() for each in topics))

    async def _ask(self, *commands: tuple[Any, ...]) -> list[Any]:
        """Send commands together and return the answers. Raises the first error among them."""
        async with self._asking:
            await self._sending.send_packed_command(b"".join(map(hiredis.pack_command, commands)))
            return [await self._sending.read_response() for _ in commands]

    async def _tell(self, answers: int, *command: Any) -> None:
        """Send a command where we listen, and wait until so many answers were heard there."""
        async with self._talking:
            self._unheard = answers
            self._heard.clear()
            await self._listening.send_packed_command(hiredis.pack_command(command))
            await self._heard.wait()
