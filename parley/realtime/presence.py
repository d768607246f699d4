"""Who is connected: told to those who share a room with them, to the other nodes and to the store.

Connected means online, and whoever has closed their last connection is offline at once. The other nodes hear
of it over the bus. To the store a node reports, a moment later and many changes together, who is connected to
it, and until when that holds: what a node that died has reported runs out by itself, and what the bus has
lost is found there. Nothing of this happens for a message.
"""

import asyncio
from collections.abc import Iterable, Sequence

import structlog

from parley import events
from parley.buses.base import Bus
from parley.errors import ParleyError
from parley.events import PresenceChanged
from parley.ids import from_ms, now, now_ms
from parley.models import User
from parley.realtime import notes
from parley.realtime.abroad import Abroad, Place
from parley.realtime.hub import Hub
from parley.realtime.notes import Came, Connected
from parley.stores.base import Store

NODES = "nodes"
"""The topic of what nodes tell all others."""

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

SILENT_SECONDS = 2.7
"""How long nothing may come over the bus from a node, which says something with each report, until hints are
not relied on."""

LATE_SECONDS = 3.0
"""How long the store may know less than what was heard over the bus."""

AT_ONCE = 500
"""Users that are looked up together."""

ROOMS_IN_NOTE = 2_000
"""Rooms that one note names, about, so that it fits into a frame of any bus."""

log = structlog.get_logger()


class Presence:
    """Tells and reports who is connected to this node, and knows who is connected to the others."""

    def __init__(self, hub: Hub, store: Store, bus: Bus, node_id: str) -> None:
        self._hub = hub
        self._store = store
        self._bus = bus
        self._node_id = node_id
        self._loop = asyncio.get_running_loop()
        self._abroad = Abroad()
        self._heard: dict[tuple[str, str], tuple[bool, float]] = {}
        self._heard_from: dict[str, float] = {}
        """The other nodes, and when something came from them over the bus."""
        self._moved: dict[str, tuple[str, set[str]]] = {}
        self._shown: dict[str, str] = {}
        self._noted: dict[str, Came] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._reported: set[str] = set()
        self._renew_at = 0
        self._look_at = 0.0
        self._leaving = False
        self._in_doubt = False
        self._silent = 0

    # Who is there

    def is_online(self, user_id: str) -> bool:
        """Whether the user has a connection, here or to another node."""
        return user_id in self._hub.sessions or user_id in self._abroad

    def who_is_online(self) -> list[str]:
        """The ids of all users with a connection, in order."""
        return sorted(self._hub.sessions.keys() | self._abroad.users)

    def users_online(self) -> int:
        """How many users have a connection."""
        return len(self._hub.sessions.keys() | self._abroad.users)

    def online_count(self, room_id: str) -> int:
        """How many users with a connection follow the room."""
        there = self._abroad.in_room(room_id)
        return self._hub.online_count(room_id) + len(set(there).difference(self._hub.sessions))

    # What is told

    def moved(self, user: User, room_ids: Iterable[str]) -> None:
        """A user came into these rooms, left them with a connection, or has another name."""
        self._note_move(user.id, user.display_name, room_ids)

    def heard(self, note: Connected) -> None:
        """Another node says who came to it and who went."""
        if note.epoch != self._store.epoch:
            return
        at = self._heard_from[note.node_id] = self._loop.time()
        for each in note.came:
            self._heard[note.node_id, each.user_id] = True, at
            self._abroad.came(note.node_id, each.user_id, each.rooms)
            self._note_move(each.user_id, each.display_name, each.rooms)
        for user_id in note.went:
            self._heard[note.node_id, user_id] = False, at
            self._lost(note.node_id, user_id)

    @property
    def others(self) -> int:
        """How many other nodes are there, by the store."""
        return len(self._heard_from)

    def doubt(self) -> None:
        """Something may have been missed: look soon, and at the names of those elsewhere too."""
        self._in_doubt = True
        self._look_at = 0.0

    def unheard(self) -> int:
        """How many other nodes are there by the store and silent on the bus: one of us may be cut off."""
        since = self._loop.time() - SILENT_SECONDS
        return sum(at < since for at in self._heard_from.values())

    def leave(self) -> None:
        """This node ends: its clients come back to another one, and have not been away."""
        self._leaving = True

    def _lost(self, node_id: str, user_id: str) -> None:
        name = self._shown.get(user_id, "")
        self._note_move(user_id, name, self._abroad.went(node_id, user_id))

    def _note_move(self, user_id: str, display_name: str, room_ids: Iterable[str]) -> None:
        known = self._moved.get(user_id)
        rooms = known[1].union(room_ids) if known is not None else set(room_ids)
        self._moved[user_id] = display_name, rooms
        if self._timer is None:
            self._timer = self._loop.call_later(TOLD_SECONDS, self.tell)

    def tell(self) -> None:
        """Tell what has changed, one frame per room, and the other nodes what has changed here."""
        self._timer = None
        moved, self._moved = self._moved, {}
        if self._leaving:
            return
        self._tell_nodes(moved)
        lines: dict[str, dict[str, bytes]] = {}
        for user_id, (name, rooms) in moved.items():
            is_online = self.is_online(user_id)
            if self._shown.get(user_id) == (name if is_online else None):
                continue
            if is_online:
                self._shown[user_id] = name
            else:
                del self._shown[user_id]
            small = [room_id for room_id in rooms if self._is_told_in(room_id)]
            if not small:
                continue
            line = events.encode(
                PresenceChanged(user_id=user_id, display_name=name, online=is_online, last_seen_at=now())
            )
            for room_id in small:
                lines.setdefault(room_id, {})[user_id] = line
        for room_id, of_users in lines.items():
            self._tell_room(room_id, of_users)

    def _tell_nodes(self, user_ids: Iterable[str]) -> None:
        if self._bus.is_alone:
            return
        came, went, rooms = [], [], 0
        for user_id in user_ids:
            sessions = self._hub.sessions.get(user_id)
            if sessions:
                followed = sorted({room_id for session in sessions for room_id in session.rooms})
                display_name = next(iter(sessions)).user.display_name
                entry = Came(user_id=user_id, display_name=display_name, rooms=followed)
                if self._noted.get(user_id) == entry:
                    continue
                self._noted[user_id] = entry
                came.append(entry)
                rooms += len(followed) + 1
            elif self._noted.pop(user_id, None) is not None:
                went.append(user_id)
                rooms += 1
            if rooms > ROOMS_IN_NOTE:
                self._tell_all(came, went)
                came, went, rooms = [], [], 0
        if came or went:
            self._tell_all(came, went)

    def _tell_all(self, came: list[Came], went: list[str]) -> None:
        note = Connected(epoch=self._store.epoch, node_id=self._node_id, came=came, went=went)
        self._bus.publish(NODES, notes.encode(note))

    def _is_told_in(self, room_id: str) -> bool:
        feed = self._hub.feeds.get(room_id)
        return feed is not None and len(feed.followers) <= MAX_FOLLOWERS

    def _tell_room(self, room_id: str, lines: dict[str, bytes]) -> None:
        """Tell all who follow a room, each of the others (user id -> line)."""
        feed, frame = self._hub.feeds.get(room_id), b"\n".join(lines.values())
        for follower in list(feed.followers) if feed is not None else ():
            own = follower.user.id
            if own not in lines:
                follower.hint(frame)
            elif others := [line for user_id, line in lines.items() if user_id != own]:
                follower.hint(b"\n".join(others))

    # What the store is told, and says

    async def run(self) -> None:
        """Report for ever, and look who is connected elsewhere."""
        while True:
            await asyncio.sleep(REPORT_SECONDS)
            if not self._bus.is_alone:
                self._tell_all([], [])
            try:
                await self.report()
                if self._loop.time() >= self._look_at:
                    await self.look()
                    self._look_at = self._loop.time() + LOOK_SECONDS
            except ParleyError as error:
                log.warning("presence will be reported again", code=error.code)

    async def report(self) -> None:
        """Tell the store what has changed here."""
        here = set(self._hub.sessions)
        if self._leaving:  # those who were sent away are about to come to another node
            here |= self._reported
        came, went = here - self._reported, self._reported - here
        at = now_ms()
        if came or went or at >= self._renew_at:
            until = from_ms(at + HOLDS_MS)
            if not await self._store.report(self._node_id, until, list(came), list(went)):
                await self._store.report(self._node_id, until, list(here), [])
            self._reported = here
            self._renew_at = at + RENEW_MS

    async def look(self) -> None:
        """Learn from the store who is connected to the other nodes."""
        nodes = await self._store.online(now(), self._node_id)
        at = self._loop.time()
        self._heard_from = {node_id: self._heard_from.get(node_id, at) for node_id in nodes}
        self._add_what_was_heard(nodes)
        came, went = self._abroad.compared(nodes)
        for node_id, user_id in went:
            self._lost(node_id, user_id)
        for begin in range(0, len(came), AT_ONCE):
            await self._learn(came[begin : begin + AT_ONCE])
        self._mention_silence()
        if self._in_doubt or self._silent or not self._bus.healthy():
            self._in_doubt = False
            await self._learn_names()

    def _mention_silence(self) -> None:
        before, self._silent = self._silent, self.unheard()
        if self._silent > before:
            log.warning(
                "nodes on this store are not heard on the bus: another PARLEY_BUS, cut off, or dead",
                nodes=self._silent,
            )

    async def _learn_names(self) -> None:
        """Tell of those elsewhere who have another name by now."""
        user_ids = sorted(self._abroad.users)
        for begin in range(0, len(user_ids), AT_ONCE):
            users = await self._store.users(user_ids[begin : begin + AT_ONCE])
            for user in users.values():
                if self._shown.get(user.id, user.display_name) != user.display_name:
                    self._note_move(user.id, user.display_name, self._abroad.rooms_of(user.id))

    def _add_what_was_heard(self, nodes: dict[str, set[str]]) -> None:
        """What came over the bus a moment ago counts more than what the store was told before."""
        since = self._loop.time() - LATE_SECONDS
        self._heard = {key: heard for key, heard in self._heard.items() if heard[1] > since}
        for (node_id, user_id), (is_there, _) in self._heard.items():
            there = nodes.setdefault(node_id, set())
            (there.add if is_there else there.discard)(user_id)

    async def _learn(self, came: Sequence[Place]) -> None:
        user_ids = sorted({user_id for _, user_id in came})
        rooms, users = await self._store.rooms_of(user_ids), await self._store.users(user_ids)
        for node_id, user_id in came:
            is_there, _ = self._heard.get((node_id, user_id), (True, 0.0))  # it may have come meanwhile
            if user_id in users and is_there:
                followed = [room.id for room in rooms[user_id]]
                self._abroad.came(node_id, user_id, followed)
                self._note_move(user_id, users[user_id].display_name, followed)

    async def stop(self) -> None:
        """Take back what was reported: nobody is connected here any more."""
        if self._timer is not None:
            self._timer.cancel()
        try:
            await self._store.report(self._node_id, now(), [], list(self._reported))
        except ParleyError as error:
            log.warning("presence runs out by itself", code=error.code)
