"""The bus of a single node: there is nobody else to tell.

Several buses made with the same `Exchange` are as many nodes in one process, which is what the tests use.
"""

import asyncio
from collections.abc import Callable, Collection

from parley.buses.base import EVERYTHING, Deliver


class Exchange:
    """What connects the memory buses of one process."""

    def __init__(self) -> None:
        self.buses: list[MemoryBus] = []


class MemoryBus:
    """Keeps the promises of `Bus` within one process. Delivers in the next turn of the loop, in order."""

    def __init__(self, exchange: Exchange | None = None) -> None:
        self.breaks = self.garbage = self.received_frames = self.dropped_payloads = 0
        self.published_frames = self.published_payloads = self.published_bytes = 0
        self.on_subscribed: Callable[[Collection[str]], None] = lambda topics: None
        self._exchange = exchange or Exchange()
        self._wanted = {EVERYTHING}
        self._deliver: Deliver | None = None

    @property
    def is_alone(self) -> bool:
        return len(self._exchange.buses) < 2

    async def start(self, deliver: Deliver) -> None:
        self._deliver = deliver
        self._exchange.buses.append(self)

    async def stop(self) -> None:
        self._deliver = None
        self._exchange.buses.remove(self)

    def publish(self, topic: str, payload: bytes) -> None:
        if self._deliver is None:
            self.dropped_payloads += 1
            return
        self.published_frames += 1
        self.published_payloads += 1
        self.published_bytes += len(payload)
        for bus in self._exchange.buses:
            if bus is not self and topic in bus._wanted:
                asyncio.get_running_loop().call_soon(bus._arrived, topic, payload)

    def want(self, topic: str) -> None:
        self._wanted.add(topic)

    def unwant(self, topic: str) -> None:
        self._wanted.discard(topic)

    def healthy(self) -> bool:
        return self._deliver is not None

    def _arrived(self, topic: str, payload: bytes) -> None:
        self.received_frames += 1
        if self._deliver is not None and topic in self._wanted:
            self._deliver(topic, payload)
