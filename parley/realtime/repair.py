"""Reads from the store what a live room did not hear, so that a lost, late or repeated hint loses nothing."""

import asyncio
from collections.abc import Collection, Iterable, Set

import structlog

from parley import background
from parley.errors import ParleyError, RoomNotFound
from parley.models import Changes, Room
from parley.realtime.hub import Hub
from parley.realtime.live_room import Feed
from parley.services.rooms import MAX_CHANGES
from parley.services.together import Together
from parley.stores.base import Store

EARLY_SECONDS = 0.05
"""How long an early event waits for the ones before it."""
RETRY_SECONDS = 1.0
AT_ONCE = 16
"""Rooms that are read at the same time where many are behind."""
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
        self._rooms_of = Together(store.rooms_of)
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._mending: set[asyncio.Task[None]] = set()
        self.repairs = {"hole": 0, "audit": 0, "lost": 0}
        hub.on_hole = self._hole

    async def stop(self) -> None:
        """Leave everything as it is."""
        for timer in self._timers.values():
            timer.cancel()
        for task in list(self._mending):
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
        """What the store says of a room; one read for all who ask the same, until something happens there. It
        brings the room up to date here too.

        Raises `RoomNotFound`, `StoreUnavailable`.
        """
        feed = self._hub.feeds.get(room_id)
        if feed is not None and (answer := feed.answered(since)) is not None:
            return answer
        key = (room_id, since)
        reading = self._reading.get(key)
        if reading is None:
            reading = self._reading[key] = asyncio.create_task(self._read(room_id, since))
            reading.add_done_callback(lambda _: self._reading.pop(key))
        return await asyncio.shield(reading)

    async def look(self, room_ids: Set[str], user_id: str) -> dict[str, Room]:
        """These rooms as the store shows them to a user now; one query for all who are members and ask at
        about the same time. Raises `StoreUnavailable`."""
        found = {room.id: room for room in await self._rooms_of.get(user_id) or () if room.id in room_ids}
        for room_id in room_ids - found.keys():
            room = await self._store.room(room_id, user_id)
            if room is not None:
                found[room_id] = room
        return found

    async def _read(self, room_id: str, since: int) -> Changes:
        changes = await self._store.changes(room_id, since, MAX_CHANGES)
        self._hub.deliver_changes(room_id, since, changes)
        feed = self._hub.feeds.get(room_id)
        if feed is not None:
            feed.keep_answer(since, changes)
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

    async def compare(self, room_ids: Collection[str] | None) -> None:
        """Compare these live rooms with the store, or all, and mend what is behind. One query for all of
        them. Raises `StoreUnavailable`."""
        behind, ahead = await self._compared(room_ids)
        for feed in ahead:
            await self._begin_anew(feed)
        if behind:  # what was committed a moment ago is probably on its way
            await asyncio.sleep(EARLY_SECONDS)
        late = [feed for feed, head in behind if feed.revision is not None and feed.revision < head]
        for begin in range(0, len(late), AT_ONCE):
            await asyncio.gather(*(self._mend(feed, "audit") for feed in late[begin : begin + AT_ONCE]))

    async def _begin_anew(self, feed: Feed) -> None:
        log.error("a room has lost what was told of it: the store has another history", room=feed.room_id)
        try:
            changes = await self._store.changes(feed.room_id, AHEAD, MAX_CHANGES)
        except RoomNotFound:
            return
        self._hub.begin_anew(feed.room_id, changes)
        self.repairs["lost"] += 1

    async def _compared(self, room_ids: Collection[str] | None) -> tuple[list[tuple[Feed, int]], list[Feed]]:
        """The rooms where the store is further than this node, and those where it is not as far as it was."""
        live = self._hub.feeds
        asked = live.values() if room_ids is None else [live[each] for each in room_ids if each in live]
        feeds = [(feed, feed.revision) for feed in asked]
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
