"""What has to be done now and then: rooms whose time is up, guests who are gone, what is left of both.

Any number of nodes may do it at once; each step of the store gives a room or a guest to one of them only.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable

import structlog

from parley.config import Settings
from parley.errors import ParleyError
from parley.ids import from_ms, now, now_ms
from parley.models import Room
from parley.stores.base import Store

CLOSE_SECONDS = 1.0
INDEX_SECONDS = 10.0
EXPIRE_SECONDS = 10.0
PURGE_SECONDS = 60.0
"""How often each thing is done; it begins at a random moment, so that nodes do not do it together."""

AT_ONCE = 200
"""Rooms, or rows to delete, in one step."""

GUESTS_AT_ONCE = 25
"""Fewer, because the rooms that guests are in wait meanwhile, and all are in the lobby."""

PAUSE = 19
"""How many times as long as a step took its next one waits: it takes at most a twentieth of the time."""

GRACE_MS = 60_000
"""How much longer than they last guests are kept: nodes write down a moment later who has spoken."""

KEEP_CLOSED_MS = 24 * 3600 * 1000
"""How long closed rooms and ended sessions stay in the store."""

log = structlog.get_logger()


class Housekeeping:
    """The steps, each of which may be run by itself, and `run`, which does them all for ever."""

    def __init__(self, store: Store, settings: Settings, closed: Callable[[Room], None]) -> None:
        self._store = store
        self._guest_ms = settings.session_ttl * 1000
        self._closed = closed

    async def run(self) -> None:
        """Do everything in its turn until cancelled. What fails is tried again."""
        async with asyncio.TaskGroup() as turns:
            for step, seconds in (
                (self.close_rooms, CLOSE_SECONDS),
                (self.index, INDEX_SECONDS),
                (self.expire_guests, EXPIRE_SECONDS),
                (self.purge, PURGE_SECONDS),
            ):
                turns.create_task(self._repeat(step, seconds))

    async def close_rooms(self) -> bool:
        """Close rooms whose time is up and tell who is in them. True if there may be more."""
        closed = await self._store.close_due_rooms(now(), AT_ONCE)
        for room in closed:
            self._closed(room)
        return len(closed) == AT_ONCE

    async def index(self) -> bool:
        """Prepare what is new for searching."""
        return await self._store.index()

    async def expire_guests(self) -> bool:
        """Remove guests whom nothing keeps."""
        at = now_ms() - GRACE_MS
        gone = await self._store.expire_guests(from_ms(at), from_ms(at - self._guest_ms), GUESTS_AT_ONCE)
        return len(gone) == GUESTS_AT_ONCE

    async def purge(self) -> bool:
        """Delete what nobody can reach any more."""
        return await self._store.purge(from_ms(now_ms() - KEEP_CLOSED_MS), AT_ONCE) > 0

    async def _repeat(self, step: Callable[[], Awaitable[bool]], seconds: float) -> None:
        await asyncio.sleep(random.uniform(0, seconds))
        loop = asyncio.get_running_loop()
        while True:
            began, more = loop.time(), False
            try:
                more = await step()
            except ParleyError as error:
                log.warning("housekeeping will try again", code=error.code)
            took = loop.time() - began
            await asyncio.sleep(took * PAUSE if more else seconds)
