"""A node in this process on the memory store, and clients that talk to it without sockets."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from parley.buses.memory import Exchange, MemoryBus
from parley.config import Settings
from parley.node import Node
from parley.realtime.session import Session
from parley.stores.memory import MemoryStore
from tests.frames import WS, Conversation, NotAsDocumented, undocumented
from tests.servers import until


class RecordingTransport:
    """Keeps what a session sends; `stuck` makes it a client that does not read."""

    def __init__(self, channel: str = WS) -> None:
        self.conversation = Conversation(channel)
        self.frames: list[bytes] = []
        self.closed_with: int | None = None
        self.stuck = False
        self.stuck_bytes = 0
        self.paused = False
        self.session: Session | None = None

    @property
    def pending(self) -> int:
        return self.stuck_bytes

    def send(self, frame: bytes) -> None:
        try:
            self.conversation.heard(frame)
        except NotAsDocumented as error:
            undocumented.append(error)
        self.frames.append(frame)
        if self.stuck:
            self.stuck_bytes += len(frame)

    def close(self, code: int, reason: str) -> None:
        self.closed_with = code

    async def drained(self) -> None:
        await until(lambda: not self.stuck)

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False


class Client:
    """One connected client of a node. `careless` lets it send what is not documented."""

    def __init__(self, node: Node, token: str | None = None) -> None:
        self.node = node
        self.token = token
        self.transport = RecordingTransport()
        self.session = Session(node.realtime, self.transport)
        self.session.opened()
        self.careless = False
        self._ref = 0

    @property
    def closed_with(self) -> int | None:
        return self.transport.closed_with

    def lines(self) -> list[dict[str, Any]]:
        return [msgspec.json.decode(line) for frame in self.transport.frames for line in frame.split(b"\n")]

    def events(self, kind: str = "") -> list[dict[str, Any]]:
        return [
            line for line in self.lines() if str(line.get("event", "")).startswith(kind) and "event" in line
        ]

    def send(self, **command: Any) -> int:
        self._ref += 1
        frame = msgspec.json.encode({"ref": self._ref, **command}).decode()
        conversation = self.transport.conversation
        (conversation.sent_wrong if self.careless else conversation.sent)(frame)
        self.session.received(frame)
        return self._ref

    def answer(self, ref: int) -> dict[str, Any] | None:
        return next((line for line in self.lines() if line.get("ref") == ref), None)

    async def ask(self, **command: Any) -> dict[str, Any]:
        ref = self.send(**command)
        await until(lambda: self.answer(ref) is not None, what=f"the answer to {command}")
        answer = self.answer(ref)
        assert answer is not None
        return answer

    async def hello(self, **more: Any) -> dict[str, Any]:
        answer = await self.ask(op="hello", token=self.token, **more)
        return dict(answer["ok"])


async def make_node(
    store: MemoryStore | None = None, exchange: Exchange | None = None, **settings: Any
) -> Node:
    node = Node(Settings(_env_file=None, **settings), store or MemoryStore(), MemoryBus(exchange))
    await node.start()
    return node


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    node = await make_node()
    yield node
    await node.stop()


async def guest(node: Node, name: str) -> Client:
    """A guest with a connection that has not said hello."""
    return Client(node, (await node.core.accounts.guest(name)).token)


@pytest.fixture
async def ann(node: Node) -> Client:
    client = await guest(node, "Ann")
    await client.hello()
    return client


@pytest.fixture
async def bob(node: Node) -> Client:
    client = await guest(node, "Bob")
    await client.hello()
    return client


async def turn() -> None:
    """Let the loop run what is due."""
    for _ in range(5):
        await asyncio.sleep(0)
