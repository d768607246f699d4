"""A TCP proxy for tests, between us and a server: it cuts, swallows or delays what goes through."""

import asyncio
from types import TracebackType
from typing import Self


class Proxy:
    """Listens on `port` and passes on to another one of this machine, both ways.

    `cut` ends all connections and takes no new ones; `drop` lets them hang, old ones and new ones, as a cable
    that was pulled does; `restore` is as it was: what was swallowed stays lost. `delay_seconds` is added on
    each way.
    """

    def __init__(self, target: int) -> None:
        self.port = 0
        self.delay_seconds = 0.0
        self.connections = 0
        """How many were made, ever."""
        self._target = target
        self._dropping = False
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._ways: set[asyncio.Task[None]] = set()

    async def cut(self) -> None:
        """End all connections, and refuse new ones."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.abort()

    def abort(self) -> None:
        """End all connections; new ones may come at once."""
        for writer in list(self._writers):
            writer.transport.abort()

    def drop(self) -> None:
        """From now on nothing passes, and nobody is told."""
        self._dropping = True

    async def restore(self) -> None:
        """Let everything pass again. What hung through a `drop` is ended: its stream has a hole."""
        if self._dropping:
            self._dropping = False
            self.abort()
        if self._server is None:
            self._server = await asyncio.start_server(self._take, "127.0.0.1", self.port)
            self.port = int(self._server.sockets[0].getsockname()[1])

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        ends = {writer}
        self._writers.add(writer)
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._target)
            ends.add(back)
            self._writers.add(back)
            both = self._pass(reader, back), self._pass(there, writer)
            ways = [asyncio.create_task(way) for way in both]
            self._ways.update(ways)
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in ways:
                way.cancel()
            await asyncio.wait(ways)
            self._ways.difference_update(ways)
        except OSError:
            pass  # nobody is there, which the caller learns by the end of the connection
        finally:
            self._writers -= ends
            for end in ends:
                end.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while some := await reader.read(65536):
                if self.delay_seconds:
                    await asyncio.sleep(self.delay_seconds)
                if not self._dropping:
                    writer.write(some)
                    await writer.drain()
        except OSError:
            pass

    async def __aenter__(self) -> Self:
        await self.restore()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        await self.cut()
        for way in list(self._ways):
            way.cancel()
        await asyncio.sleep(0)
