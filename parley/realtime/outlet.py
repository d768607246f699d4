"""What goes out to one client: answers that came up in one turn of the loop leave as one frame."""

import asyncio
from collections.abc import Callable

from parley.realtime.transport import MAX_PENDING_BYTES, Transport

DRAIN_SECONDS = 30
"""How long a client that asked for much may take to read it."""


class Outlet:
    """Sends lines in their order; `too_slow` is called once the client does not keep up."""

    __slots__ = ("_lines", "_loop", "_too_slow", "_transport", "is_shut")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, transport: Transport, too_slow: Callable[[], None]
    ) -> None:
        self._loop = loop
        self._transport = transport
        self._too_slow = too_slow
        self._lines: list[bytes] = []
        self.is_shut = False

    def reply(self, line: bytes) -> None:
        """Send a line with the others of this turn."""
        if not self._lines:
            self._loop.call_soon(self.flush)
        self._lines.append(line)

    def tell(self, frame: bytes) -> None:
        """Send lines after those that are due."""
        if self._lines:
            self.flush()
        self._send(frame)

    def hint(self, frame: bytes) -> None:
        """As `tell`, but skipped where the client reads slowly: nothing of it is missed later."""
        if self._transport.pending <= MAX_PENDING_BYTES // 4:
            self.tell(frame)

    def flush(self) -> None:
        """Send what is due now."""
        if self._lines:
            frame, self._lines = b"\n".join(self._lines), []
            self._send(frame)

    async def drained(self) -> None:
        """Wait for a client that reads slowly, but not for ever."""
        if self._transport.pending > MAX_PENDING_BYTES // 4:
            try:
                async with asyncio.timeout(DRAIN_SECONDS):
                    await self._transport.drained()
            except TimeoutError:
                self._too_slow()

    def _send(self, frame: bytes) -> None:
        if self.is_shut:
            return
        # One large answer may pass; what must not happen is that frames pile up behind each other.
        if self._transport.pending > MAX_PENDING_BYTES:
            self._too_slow()
        else:
            self._transport.send(frame)
