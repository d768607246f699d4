"""Buses of several nodes in one test, and what each of them has heard."""

import asyncio
import time
from collections.abc import Callable
from secrets import token_hex

from parley.buses.base import Bus
from parley.buses.frames import Frame
from parley.buses.linked import LinkedBus
from parley.buses.memory import Exchange, MemoryBus
from tests.servers import until

PROBE = b"probe"


class Node:
    """One bus, and what it delivered."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self.heard: list[tuple[str, bytes]] = []

    async def start(self) -> "Node":
        await self.bus.start(lambda topic, payload: self.heard.append((topic, payload)))
        return self

    def on(self, topic: str) -> list[bytes]:
        """What was heard of a topic, without probes."""
        return [payload for each, payload in list(self.heard) if each == topic and payload != PROBE]

    async def hears(self, topic: str, *payloads: bytes, seconds: float = 10) -> None:
        """Wait until exactly that was heard of a topic."""
        await until(
            lambda: len(self.on(topic)) >= len(payloads), seconds, what=f"hearing {payloads!r} of {topic}"
        )
        assert self.on(topic) == list(payloads)

    async def reached_by(self, other: "Node", *topics: str, seconds: float = 10) -> None:
        """Wait until what another one publishes arrives here, as it does a moment after the want."""
        missing = set(topics)
        deadline = time.monotonic() + seconds
        while missing:
            assert time.monotonic() < deadline, f"{len(missing)} topics are not heard, {min(missing)} is one"
            for topic in missing:
                other.bus.publish(topic, PROBE)
            await asyncio.sleep(0.02 if len(missing) < 1000 else 0.3)
            missing -= {topic for topic, payload in self.heard if payload == PROBE}

    async def wanting(self, other: "Node", *topics: str) -> "Node":
        """Want topics, and wait until what another one publishes arrives."""
        for topic in topics:
            self.bus.want(topic)
        await self.reached_by(other, *topics)
        return self


class World:
    """Makes nodes that can reach each other, and stops them in the end."""

    def __init__(self, make: Callable[[], Bus]) -> None:
        self.make = make
        self._run = token_hex(4)
        self._nodes: list[Node] = []

    def topic(self, name: str) -> str:
        """A topic that no other test knows."""
        return f"room:{name}-{self._run}"

    async def node(self, bus: Bus | None = None) -> Node:
        node = await Node(bus or self.make()).start()
        self._nodes.append(node)
        return node

    def forget(self, node: Node) -> None:
        """It was stopped already."""
        self._nodes.remove(node)

    async def shout(self, topic: str, *bodies: bytes) -> None:
        """Send what is no frame, as another program would."""
        bus = self.make()
        assert isinstance(bus, LinkedBus)
        link = bus._new_link()
        try:
            await link.open()
            await link.send([Frame(topic, body, 1) for body in bodies])
        finally:
            await link.close()

    async def close(self) -> None:
        await asyncio.gather(*(node.bus.stop() for node in self._nodes))
        # What was given up for dead may take a moment longer, but nothing stays open for ever.
        closing = [task for node in self._nodes for task in getattr(node.bus, "_closing", ())]
        if closing:
            _, pending = await asyncio.wait(closing, timeout=15)
            assert not pending


def memory_world() -> World:
    exchange = Exchange()
    return World(lambda: MemoryBus(exchange))
