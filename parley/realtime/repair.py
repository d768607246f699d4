"""Reads from the store what a live room did not hear, so that a lost, late or repeated hint loses nothing."""

import asyncio
import random
from collections.abc import Callable, Iterable

import structlog

from parley import background
from parley.errors import ParleyError, RoomNotFound
from parley.models import Changes, Room
from parley.realtime.hub import Hub
from parley.realtime.live_room import Feed
from parley.services.rooms import MAX_CHANGES
from parley.stores.base import Store

EARLY_SECONDS = 0.05
"""How long an early event waits for the ones before it."""
AUDIT_SECONDS = 5.0
"""How often the live rooms are compared with the store: the last event of a burst leaves no hole to see."""
RETRY_SECONDS = 1.0
AHEAD = 2**53
"""Beyond every revision."""

log = structlog.get_logger()


class Repair:
    """Keeps the hub's rooms in step with the store. `repairs` counts what it mended, by cause."""

    def __init__(self, store: Store, hub: Hub) -> None:
        self._store = store
        self._hub = hub
        self._asking: asyncio.Task[None] | None = None
        self._unasked: set[str] = set()
        self._reading: dict[tuple[str, int], asyncio.Task[Changes]] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._mending: set[asyncio.Task[None]] = set()
        self._audit: asyncio.Task[None] | None = None
        self.repairs = {"hole": 0, "audit": 0, "lost": 0}
        hub.on_hole = self._hole

    def start(self, on_death: Callable[[str], None]) -> None:
        """Begin to compare; `on_death` hears if that ever ends by itself."""
        self._audit = background.start(self._run_audit(), "audit", on_death)

    async def stop(self) -> None:
        """Leave everything as it is."""
        for timer in self._timers.values():
            timer.cancel()
        for task in (self._audit, *self._mending):
            await background.stop(task)

    async def know(self, feeds: Iterable[Feed]) -> None:
        """Find out where rooms stand that have just become live: one query for all that ask in this turn of
        the loop.

        A room that is gone stays without a revision. Raises `StoreUnavailable`.
        """
        unknown = [feed.room_id for feed in feeds if feed.revision is None]
        if unknown:
            if self._asking is None:
                self._asking = asyncio.create_task(self._ask())
            self._unasked.update(unknown)
            await asyncio.shield(self._asking)

    async def _ask(self) -> None:
        room_ids, self._unasked, self._asking = self._unasked, set(), None
        for room_id, revision in (await self._store.heads(list(room_ids))).items():
            self._hub.learn(room_id, revision)

    async def read(self, room_id: str, since: int) -> Changes:
        """What the store says of a room; one read for all who ask the same. It brings the room up to date
        here too.

        Raises `RoomNotFound`, `StoreUnavailable`.
        """
        key = (room_id, since)
        reading = self._reading.get(key)
        if reading is None:
            reading = self._reading[key] = asyncio.create_task(self._read(room_id, since))
            reading.add_done_callback(lambda _: self._reading.pop(key))
        return await asyncio.shield(reading)

    async def look(self, room_id: str, user_id: str) -> Room | None:
        """A room as the store shows it to a user now. Raises `StoreUnavailable`."""
        return await self._store.room(room_id, user_id)

    async def _read(self, room_id: str, since: int) -> Changes:
        changes = await self._store.changes(room_id, since, MAX_CHANGES)
        self._hub.deliver_changes(room_id, since, changes)
        return changes

    def _hole(self, feed: Feed) -> None:
        self._look_again(feed, EARLY_SECONDS)

    def _look_again(self, feed: Feed, seconds: float) -> None:
        if feed.room_id not in self._timers:
            loop = asyncio.get_running_loop()
            self._timers[feed.room_id] = loop.call_later(seconds, self._late, feed.room_id)

    def _late(self, room_id: str) -> None:
        del self._timers[room_id]
        feed = self._hub.feeds.get(room_id)
        if feed is not None and feed.early:
            mending = asyncio.create_task(self._mend(feed, "hole"))
            self._mending.add(mending)
            mending.add_done_callback(self._mending.discard)

    async def _mend(self, feed: Feed, cause: str) -> None:
        if feed.revision is None:
            return
        try:
            await self.read(feed.room_id, feed.revision)
            self.repairs[cause] += 1
        except RoomNotFound:
            self._hub.closed(feed.room_id)
        except ParleyError as error:
            log.warning("a room could not be repaired yet", code=error.code)
            self._look_again(feed, RETRY_SECONDS)

    async def _run_audit(self) -> None:
        while True:
            await asyncio.sleep(AUDIT_SECONDS * random.uniform(0.8, 1.2))
            try:
                behind, ahead = await self._compared()
                for feed in ahead:
                    await self._begin_anew(feed)
                if behind:  # what was committed a moment ago is probably on its way
                    await asyncio.sleep(EARLY_SECONDS)
                    for feed, head in behind:
                        if feed.revision is not None and feed.revision < head:
                            await self._mend(feed, "audit")
            except ParleyError as error:
                log.warning("the rooms could not be compared with the store", code=error.code)

    async def _begin_anew(self, feed: Feed) -> None:
        log.error("a room has lost what was told of it: the store has another history", room=feed.room_id)
        try:
            changes = await self._store.changes(feed.room_id, AHEAD, MAX_CHANGES)
        except RoomNotFound:
            return
        self._hub.begin_anew(feed.room_id, changes)
        self.repairs["lost"] += 1

    async def _compared(self) -> tuple[list[tuple[Feed, int]], list[Feed]]:
        """The rooms where the store is further than this node, and those where it is not as far as it was."""
        feeds = [(feed, feed.revision) for feed in self._hub.feeds.values()]
        heads = await self._store.heads([feed.room_id for feed, _ in feeds]) if feeds else {}
        behind, ahead = [], []
        for feed, revision in feeds:
            head = heads.get(feed.room_id)
            if feed.revision is None:
                continue
            if head is None:
                self._hub.closed(feed.room_id)
            elif head > feed.revision:
                behind.append((feed, head))
            elif revision is not None and head < revision:
                ahead.append(feed)
        return behind, ahead
