"""Tells other services what was stored: in order, confirmed by the broker, at least once."""

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

import structlog

from parley import events
from parley.errors import ParleyError, RoomNotFound
from parley.integration import EVENTS
from parley.integration.backlog import Backlog, Gap, Letter, Told, letter
from parley.integration.line import Line, Link
from parley.services.rooms import MAX_CHANGES
from parley.stores.base import Store

STOP_SECONDS = 2.0
STORE_RETRY_SECONDS = 1.0
CONFIRM_SECONDS = 10.0
"""How long the broker may take to confirm what was sent at once."""

log = structlog.get_logger()


class EventLink(Link, Protocol):
    """A connection over which events go out."""

    async def send(self, letters: list[Letter], epoch: str) -> list[Letter]:
        """Return when the broker has them, in this order. What is returned it will never take, such as what
        is too large."""


class Announcer:
    """Sends events in batches, and keeps them while the broker is away. What does not fit then is read from
    the store when it is back, and told as `room.changes`: while the process lives, nothing is missing."""

    def __init__(self, new_link: Callable[[], EventLink], reason: Callable[[BaseException], str]) -> None:
        self.published = 0
        self.repeated = 0
        """Lines that were sent once more, because nobody confirmed them the first time."""
        self.refused = 0
        """Lines that the broker will not take; whoever listens finds a hole and reads it."""
        self.rooms_read = 0
        """Rooms that were read from the store because lines did not fit."""
        self.backlog = Backlog()
        self._line = Line(EVENTS, new_link, reason, self._work)
        self._store: Store | None = None
        self._wake = asyncio.Event()
        self._tried = 0
        """Lines that were sent without being confirmed: the first ones that wait."""
        self._rest_until = 0.0

    def publish(self, event: Told, line: bytes) -> None:
        """Tell an event that was just stored. Never waits and never raises."""
        self.backlog.put(event, line)
        self._wake.set()

    async def run(self, store: Store) -> None:
        """Hand over what waits and what comes, for ever."""
        self._store = store
        await self._line.run()

    async def finish(self) -> None:
        """Hand over what waits, within a deadline; what takes longer is counted in the log."""
        deadline = time.monotonic() + STOP_SECONDS
        while (self.backlog or self.backlog.gaps) and time.monotonic() < deadline:
            await asyncio.sleep(0.01)

    async def stopped(self) -> None:
        """The task is gone: say what was not told."""
        await self._line.let_go()
        if self.backlog or self.backlog.gaps:
            log.error(
                "other services were not told everything", lines=len(self.backlog), rooms=self.backlog.gaps
            )

    def healthy(self) -> bool:
        """Whether the broker is there."""
        return self._line.is_linked

    async def _work(self, link: EventLink) -> None:
        while True:
            self._wake.clear()
            if letters := self.backlog.batch():
                await self._send(link, letters)
            gap = self.backlog.a_gap()
            if gap is not None and self.backlog.is_roomy and time.monotonic() >= self._rest_until:
                await self._read(*gap)
            elif not self.backlog:
                await self._wake.wait()

    async def _send(self, link: EventLink, letters: list[Letter]) -> None:
        assert self._store is not None
        self.repeated += min(self._tried, len(letters))
        self._tried = len(letters)
        async with asyncio.timeout(CONFIRM_SECONDS):
            refused = await link.send(letters, self._store.epoch)
        self._tried = 0
        self._line.works()
        for each in refused:
            log.error("the broker does not take a line", told=each.event, bytes=len(each.body))
        self.refused += len(refused)
        self.published += len(letters) - len(refused)
        self.backlog.sent(len(letters))

    async def _read(self, room_id: str, gap: Gap) -> None:
        """Tell a room of which lines were forgotten as it is now."""
        assert self._store is not None
        told: Told
        try:
            changes = await self._store.changes(room_id, gap.since, MAX_CHANGES)
        except RoomNotFound:
            told = events.RoomClosed(room_id=room_id)
            self.backlog.gone(room_id)
        except ParleyError as error:
            log.warning("a room could not be read for other services yet", code=error.code)
            self.backlog.postpone(room_id)
            self._rest_until = time.monotonic() + STORE_RETRY_SECONDS
            asyncio.get_running_loop().call_later(STORE_RETRY_SECONDS, self._wake.set)
            return
        else:
            told = events.of_changes(room_id, gap.since, changes)
            if changes.reset:
                told = events.of_reset(room_id, changes, "behind")
            self.backlog.read(room_id, changes.revision)
        self.rooms_read += 1
        self.backlog.append(letter(told, events.encode(told)))
