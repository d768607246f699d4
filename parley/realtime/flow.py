"""How many of a client's commands are under way: too many, and nothing more is read from it."""

import asyncio
from asyncio import Future

from parley.realtime.transport import Transport

PAUSE_AT = 256
"""Unanswered commands at which a connection is no longer read from; half of it starts reading again."""


class Flow:
    """Counts commands that wait for their answer, and among them the writes that are with the journal."""

    __slots__ = ("_loop", "_paused", "_settling", "_transport", "_unanswered", "_unwritten")

    def __init__(self, loop: asyncio.AbstractEventLoop, transport: Transport) -> None:
        self._loop = loop
        self._transport = transport
        self._unanswered = 0
        self._unwritten = 0
        self._settling: Future[None] | None = None
        self._paused = False

    def taken(self) -> None:
        """One command more waits."""
        self._unanswered += 1
        if not self._paused and self._unanswered >= PAUSE_AT:
            self._paused = True
            self._transport.pause()

    def answered(self) -> None:
        """One command less waits."""
        self._unanswered -= 1
        if self._paused and self._unanswered <= PAUSE_AT // 2:
            self._paused = False
            self._transport.resume()

    def writing(self) -> None:
        """One write more waits."""
        self._unwritten += 1
        self.taken()

    def written(self) -> None:
        """One write less waits."""
        self.answered()
        self._unwritten -= 1
        if self._settling is not None and not self._unwritten:
            self._settling.set_result(None)
            self._settling = None

    async def settled(self) -> None:
        """Wait for the writes that came before, so that a read sees them."""
        if self._unwritten:
            self._settling = self._loop.create_future()
            await self._settling
