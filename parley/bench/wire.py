"""Bare TCP through a process that passes everything on: the floor beneath the figures of the buses."""

import asyncio
from typing import cast

from parley.buses.base import Deliver
from parley.buses.frames import new_head, packed

SCHEME = "wire://"


class Wire(asyncio.Protocol):
    """At `wire://host:port`. What is published in a turn of the loop goes out in one write, and comes back to
    all who are connected, this one too, as it does from a broker. It knows no topics, keeps no promises."""

    def __init__(self, url: str) -> None:
        self.published_frames = 0
        self.published_payloads = 0
        self._where = url.removeprefix(SCHEME).split(":")
        self._head = new_head()
        self._waiting: list[bytes] = []
        self._deliver: Deliver = lambda topic, payload: None
        self._transport: asyncio.Transport | None = None

    async def start(self, deliver: Deliver) -> None:
        self._deliver = deliver
        host, port = self._where
        await asyncio.get_running_loop().create_connection(lambda: self, host, int(port))

    async def stop(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def publish(self, topic: str, payload: bytes) -> None:
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._write, topic)
        self._waiting.append(payload)

    def want(self, topic: str) -> None:
        """Everything arrives anyway."""

    def _write(self, topic: str) -> None:
        payloads, self._waiting = self._waiting, []
        self.published_frames += 1
        self.published_payloads += len(payloads)
        if self._transport is not None:
            self._transport.write(packed(self._head, topic, payloads).body + b"\n")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own kind does not say that it is one

    def data_received(self, data: bytes) -> None:
        for line in data.split(b"\n"):
            if line.startswith(b"{"):
                self._deliver("", line)


class Relay:
    """What the wires lead to."""

    def __init__(self) -> None:
        self._ends: set[asyncio.Transport] = set()

    async def start(self) -> str:
        """Listen; returns the URL for a `Wire`."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Passing(self._ends), "127.0.0.1", 0)
        return f"{SCHEME}127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        self._server.close()
        for end in self._ends:
            end.close()


class _Passing(asyncio.Protocol):
    def __init__(self, ends: set[asyncio.Transport]) -> None:
        self._ends = ends

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._ends.add(cast(asyncio.Transport, transport))

    def data_received(self, data: bytes) -> None:
        for end in self._ends:
            end.write(data)
