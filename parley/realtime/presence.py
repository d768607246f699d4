"""Who is connected: told to those who share a room with them, and reported to the store for other nodes.

Connected means online, and whoever has closed their last connection is offline at once. A node reports to the
store, a moment later and many changes together, who is connected to it, and until when that holds: what a
node that died has reported runs out by itself. Nothing of this happens for a message.
"""

import asyncio
from collections.abc import Iterable

import structlog

from parley import events
from parley.errors import ParleyError
from parley.events import PresenceChanged
from parley.ids import from_ms, now, now_ms
from parley.models import User
from parley.realtime.hub import Hub
from parley.stores.base import Store

TOLD_SECONDS = 0.2
"""How long changes are gathered before they are told; who was away for less has not been away."""

MAX_FOLLOWERS = 100
"""Connections that follow a room in which everybody hears who comes and goes; in a larger one it would be
told too often, and clients ask."""

REPORT_SECONDS = 1.0
HOLDS_MS = 25_000
"""How long a report holds; with the time between two looks it is gone for everybody after 30 s."""

RENEW_MS = 10_000
"""How often a report is repeated."""

LOOK_SECONDS = 4.0
"""How often a node looks who is connected to the others."""

log = structlog.get_logger()


class Presence:
    """Tells and reports who is connected to this node."""

    def __init__(self, hub: Hub, store: Store, node_id: str) -> None:
        self._hub = hub
        self._store = store
        self._node_id = node_id
        self._loop = asyncio.get_running_loop()
        self._moved: dict[str, tuple[User, set[str]]] = {}
        self._shown: dict[str, str] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._reported: set[str] = set()
        self._renew_at = 0
        self._look_at = 0.0

    def moved(self, user: User, room_ids: Iterable[str]) -> None:
        """A user came into these rooms, left them with a connection, or has another name."""
        known = self._moved.get(user.id)
        rooms = known[1].union(room_ids) if known is not None else set(room_ids)
        self._moved[user.id] = user, rooms
        if self._timer is None:
            self._timer = self._loop.call_later(TOLD_SECONDS, self.tell)

    def tell(self) -> None:
        """Tell what has changed, one frame per room."""
        self._timer = None
        moved, self._moved = self._moved, {}
        lines: dict[str, dict[str, bytes]] = {}
        for user, rooms in moved.values():
            is_here = self._hub.is_online(user.id)
            shown = user.display_name if is_here else None
            if self._shown.get(user.id) == shown:
                continue
            if shown is not None:
                self._shown[user.id] = shown
            else:
                del self._shown[user.id]
            small = [room_id for room_id in rooms if self._is_told_in(room_id)]
            if not small:
                continue
            line = events.encode(
                PresenceChanged(
                    user_id=user.id, display_name=user.display_name, online=is_here, last_seen_at=now()
                )
            )
            for room_id in small:
                lines.setdefault(room_id, {})[user.id] = line
        for room_id, of_users in lines.items():
            self._tell_room(room_id, of_users)

    def _is_told_in(self, room_id: str) -> bool:
        feed = self._hub.feeds.get(room_id)
        return feed is not None and len(feed.followers) <= MAX_FOLLOWERS

    def _tell_room(self, room_id: str, lines: dict[str, bytes]) -> None:
        """Tell all who follow a room, each of the others (user id -> line)."""
        feed, frame = self._hub.feeds.get(room_id), b"\n".join(lines.values())
        for follower in list(feed.followers) if feed is not None else ():
            own = follower.user.id
            if own not in lines:
                follower.tell(frame)
            elif others := [line for user_id, line in lines.items() if user_id != own]:
                follower.tell(b"\n".join(others))

    async def run(self) -> None:
        """Report for ever, and look who is connected elsewhere."""
        while True:
            await asyncio.sleep(REPORT_SECONDS)
            try:
                await self.report()
            except ParleyError as error:
                log.warning("presence will be reported again", code=error.code)

    async def report(self) -> None:
        """Tell the store what has changed here, and learn from it what has elsewhere."""
        here = set(self._hub.sessions)
        came, went = here - self._reported, self._reported - here
        at = now_ms()
        if came or went or at >= self._renew_at:
            until = from_ms(at + HOLDS_MS)
            if not await self._store.report(self._node_id, until, list(came), list(went)):
                await self._store.report(self._node_id, until, list(here), [])
            self._reported = here
            self._renew_at = at + RENEW_MS
        if self._loop.time() >= self._look_at:
            self._hub.elsewhere = await self._store.online(from_ms(at), self._node_id)
            self._look_at = self._loop.time() + LOOK_SECONDS

    async def stop(self) -> None:
        """Take back what was reported: nobody is connected here any more."""
        if self._timer is not None:
            self._timer.cancel()
        try:
            await self._store.report(self._node_id, now(), [], list(self._reported))
        except ParleyError as error:
            log.warning("presence runs out by itself", code=error.code)
