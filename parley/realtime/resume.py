"""How a connection enters rooms: it is given what it missed, and then everything, with no hole in between."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import structlog
from msgspec import UNSET
from msgspec.structs import replace

from parley import events
from parley.errors import ParleyError, RoomNotFound
from parley.events import ResetReason, RoomChanges, RoomReset
from parley.models import Changes, Room
from parley.permissions import may_see
from parley.realtime.hub import Hub
from parley.realtime.live_room import Feed, Follower
from parley.realtime.repair import Repair

ANOTHER_HISTORY = 2**53
"""A cursor that lies ahead of every room: what the client knows is not of this store."""

log = structlog.get_logger()


class Resume:
    """Brings followers into rooms."""

    def __init__(self, hub: Hub, repair: Repair) -> None:
        self._hub = hub
        self._repair = repair

    async def enter(
        self,
        follower: Follower,
        rooms: Sequence[Room],
        since: Mapping[str, int],
        begin: Callable[[list[Room]], bool],
    ) -> None:
        """Follow `rooms`, each from the client's revision in `since` or else from where it stands.

        `begin` is called once with the rooms that are still there, before anything is told of them; if it
        returns False, that is the end. Room by room the follower is then told what it missed and follows, in
        one turn of the loop, and is waited for where it reads slowly. Raises `StoreUnavailable`.
        """
        feeds = {room.id: self._hub.feed(room.id) for room in rooms}
        for feed in feeds.values():
            feed.entering.add(follower)
        try:
            await self._repair.know(feeds.values())
            shown, cursors = [], {}
            for room in await self._still_open_to(follower, rooms, feeds):
                head = feeds[room.id].revision
                if head is not None:
                    begins = min(room.revision, head)
                    cursors[room.id] = since.get(room.id, begins)
                    shown.append(replace(room, revision=head if room.id in since else begins))
            if begin(shown):
                for room in shown:
                    await self._bridge(follower, feeds[room.id], room, cursors[room.id])
        finally:
            for feed in feeds.values():
                feed.entering.discard(follower)
                self._hub.release(feed)

    async def _still_open_to(
        self, follower: Follower, rooms: Sequence[Room], feeds: Mapping[str, Feed]
    ) -> list[Room]:
        """The rooms but those that the follower was shut out of after they were looked at and before they
        were live; of what happens from then on the hub tells."""
        doubtful = {room.id for room in rooms if _may_have_shut(room, feeds[room.id])}
        again = await self._repair.look(doubtful, follower.user.id) if doubtful else {}
        still = []
        for room in rooms:
            now = again.get(room.id) if room.id in doubtful else room
            if now is not None and may_see(now):
                still.append(room)
                if feeds[room.id].kind is None:
                    feeds[room.id].kind = now.kind
        return still

    async def know(self, feeds: Iterable[Feed]) -> None:
        """Find out where these rooms stand. Raises `StoreUnavailable`."""
        await self._repair.know(feeds)

    async def _bridge(self, follower: Follower, feed: Feed, room: Room, cursor: int) -> None:
        try:
            while (recent := _kept(room, feed.since(cursor))) is None:
                if not follower.expects(feed.room_id):
                    return
                told = await self._read(feed, cursor)
                if told is None:
                    continue  # only this node was behind, and no longer is
                event, cursor = told
                if not await self._is_for(follower, event):
                    return
                if follower.expects(feed.room_id):  # it may have been shut out meanwhile
                    follower.tell(events.encode(event))
                    await follower.drained()
        except RoomNotFound:
            return
        except ParleyError as error:
            log.warning("a connection could not be told what it missed", code=error.code)
            follower.restart()
            return
        # Nothing awaits from here on: what is told now joins what is told next.
        if follower.expects(feed.room_id):
            if recent.revision > cursor:
                follower.tell(events.encode(events.of_changes(feed.room_id, cursor, recent)))
            self._hub.follow(feed, follower)

    async def _is_for(self, follower: Follower, event: RoomChanges | RoomReset) -> bool:
        """Whether what was just read is the follower's to hear. Of a reset the hub may not have told yet that
        it shuts them out; of changes it has."""
        if isinstance(event, RoomChanges) or event.room is None or event.room.kind == "public":
            return True
        if any(member.user_id == follower.user.id for member in event.members):
            return True
        again = await self._repair.look({event.room_id}, follower.user.id)
        return event.room_id in again and may_see(again[event.room_id])

    async def _read(self, feed: Feed, cursor: int) -> tuple[RoomChanges | RoomReset, int] | None:
        """What the store says of the time after `cursor`, and where that ends. None if the client knew more
        than this node, which now knows as much."""
        reason: ResetReason = "epoch" if cursor == ANOTHER_HISTORY else "behind"
        head = feed.revision or 0
        if head < cursor < ANOTHER_HISTORY:
            # The client may have heard more from another node; only the store knows.
            if (await self._repair.read(feed.room_id, head)).revision >= cursor:
                return None
            reason = "ahead"
            changes = await self._repair.read(feed.room_id, ANOTHER_HISTORY)
        else:
            changes = await self._repair.read(feed.room_id, cursor)
        if changes.reset:
            return events.of_reset(feed.room_id, changes, reason), changes.revision
        return events.of_changes(feed.room_id, cursor, changes), changes.revision


def _may_have_shut(room: Room, feed: Feed) -> bool:
    """Whether the room has gone on since it was looked at, in a way that may concern who may see it."""
    moved = feed.revision is not None and feed.revision > room.revision
    return moved and (room.kind != "public" or room.role is UNSET or feed.kind != "public")


def _kept(room: Room, recent: Changes | None) -> Changes | None:
    """The recent events, unless some of their messages are no longer kept: then the store's answer counts."""
    if recent is not None and recent.messages and room.history_limit is not None:
        newest = max(room.last_seq, *(message.seq for message in recent.messages))
        if any(message.seq <= newest - room.history_limit for message in recent.messages):
            return None
    return recent
