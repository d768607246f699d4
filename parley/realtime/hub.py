"""Who hears what on this node: for each live room, the sessions that follow it and how far it was told.

A room is live here while somebody follows it. Its events leave in the order of their revisions without holes:
the next one is told, an old one is dropped, an early one waits for the ones before it, and
`parley.realtime.repair` reads those from the store if they do not come. Everything that a room has to tell in
one turn of the event loop goes out as one frame, which is built once.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

import structlog

from parley import events
from parley.events import (
    Event,
    MemberLeft,
    ReadMarked,
    ResetReason,
    RoomChanges,
    RoomClosed,
    RoomEvent,
    TypingStarted,
    TypingStopped,
)
from parley.models import Changes, Message, Room, User

MAX_RECENT = 256
"""Events that a live room remembers, to answer those who come back without asking the store."""
MAX_RECENT_BYTES = 256 * 1024
"""Text in those events, about."""
MAX_EARLY = 256
"""Events that wait for earlier ones; beyond that the store is read instead."""


T = TypeVar("T")
log = structlog.get_logger()

Told = tuple[RoomEvent, bytes]
"""An event and its encoding, which is made once."""


class Follower(Protocol):
    """A connection that hears of rooms. Nothing here waits."""

    @property
    def user(self) -> User:
        """Who it is."""

    @property
    def session_id(self) -> str:
        """By which session."""

    def expects(self, room_id: str) -> bool:
        """Whether the connection is open and still wants to hear of a room."""

    async def drained(self) -> None:
        """Wait until most of what was told is on its way, or the connection is over."""

    def tell(self, frame: bytes) -> None:
        """Send lines of encoded events. Never raises."""

    def tell_events(self, told: list[RoomEvent]) -> None:
        """Send what a plain feed makes of these events. Never raises."""

    def follow(self, room: Room) -> None:
        """Begin to follow a room from where it stands now."""

    def unfollow(self, room_id: str) -> None:
        """Stop following a room."""

    def end(self, reason: str) -> None:
        """The session is over: say so and close."""

    def restart(self) -> None:
        """The server cannot go on with this connection: the client is to come back."""


class Feed:
    """One live room on this node. `revision` is the last one told, None until the store was asked."""

    __slots__ = (
        "early",
        "followers",
        "pins",
        "plain",
        "recent",
        "recent_bytes",
        "revision",
        "room_id",
        "untold",
    )

    def __init__(self, room_id: str) -> None:
        self.room_id = room_id
        self.revision: int | None = None
        self.followers: set[Follower] = set()
        self.plain: set[Follower] = set()
        self.untold: list[Told] = []
        self.recent: deque[RoomEvent] = deque()
        self.recent_bytes = 0
        self.early: dict[int, Told] = {}
        self.pins = 0

    @property
    def in_use(self) -> bool:
        """Whether somebody follows the room or is about to."""
        return bool(self.followers or self.plain or self.pins)

    def remember(self, event: RoomEvent) -> None:
        """Keep an event for those who come back."""
        self.recent.append(event)
        self.recent_bytes += _bytes(event)
        while len(self.recent) > MAX_RECENT or self.recent_bytes > MAX_RECENT_BYTES:
            self.recent_bytes -= _bytes(self.recent.popleft())

    def forget(self) -> None:
        """Drop what was remembered and what was about to be told."""
        self.recent.clear()
        self.recent_bytes = 0
        self.untold.clear()

    def reach_back(self, since: int, changes: Changes) -> None:
        """Keep what the store said of the time before the recent events, if it joins them without a hole."""
        begins = _before(self.recent[0]) if self.recent else self.revision
        if begins is None or changes.reset or not since < begins <= changes.revision:
            return
        event = events.of_changes(self.room_id, since, changes)
        if self.recent_bytes + _bytes(event) <= MAX_RECENT_BYTES:
            self.recent.appendleft(event)
            self.recent_bytes += _bytes(event)

    def since(self, revision: int) -> Changes | None:
        """What happened after `revision`, if the recent events reach back that far."""
        if self.revision is None or revision > self.revision:
            return None
        if revision == self.revision:
            return Changes(revision=revision)
        if not self.recent or _before(self.recent[0]) > revision:
            return None
        later = [event for event in self.recent if event.revision > revision]
        if any(isinstance(event, RoomChanges) and (event.room or event.members) for event in later):
            return None  # the store knows how these are now
        latest = {message.seq: message for event in later for message in _messages(event)}
        changed = [message for message in latest.values() if message.revision > revision]
        changed.sort(key=lambda message: message.revision)
        return Changes(revision=self.revision, messages=changed)


class Hub:
    """The live rooms and the connected users of this node.

    No method awaits. That is its whole concurrency argument: each call sees and leaves a consistent state.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.feeds: dict[str, Feed] = {}
        self.sessions: dict[str, set[Follower]] = {}
        self.encoded = 0
        self.on_hole: Callable[[Feed], None] = lambda feed: None
        self.on_live: Callable[[str, bool], None] = lambda room_id, live: None
        self._untold: list[Feed] = []

    # Rooms

    def feed(self, room_id: str) -> Feed:
        """The live room, made if nobody follows it yet; its revision is then unknown."""
        feed = self.feeds.get(room_id)
        if feed is None:
            feed = self.feeds[room_id] = Feed(room_id)
            self.on_live(room_id, True)
        return feed

    def follow(self, feed: Feed, follower: Follower, *, plain: bool = False) -> None:
        """Tell the follower of all that happens from here on; what is still untold is not for them."""
        self._flush_feed(feed)
        (feed.plain if plain else feed.followers).add(follower)

    def unfollow(self, room_id: str, follower: Follower) -> None:
        """Stop telling; a room that nobody follows is no longer live."""
        feed = self.feeds.get(room_id)
        if feed is not None:
            feed.followers.discard(follower)
            feed.plain.discard(follower)
            self.release(feed)

    def release(self, feed: Feed) -> None:
        """Let go of a room if nobody follows it."""
        if not feed.in_use and self.feeds.get(feed.room_id) is feed:
            del self.feeds[feed.room_id]
            self.on_live(feed.room_id, False)

    def learn(self, room_id: str, revision: int) -> None:
        """Where the room stood when the store was asked; counts only the first time."""
        feed = self.feeds.get(room_id)
        if feed is not None and feed.revision is None:
            feed.revision = revision
            self._tell_early(feed)

    def publish(self, event: RoomEvent) -> bytes:
        """Encode an event, tell it here and return its encoding for the other nodes."""
        line = events.encode(event)
        self.encoded += 1
        self.deliver(event, line)
        return line

    def deliver(self, event: RoomEvent, line: bytes) -> None:
        """Tell an event if it is the next one, drop it if it is old, keep it if it is early."""
        feed = self.feeds.get(event.room_id)
        if feed is None:
            return
        if feed.revision is None or _before(event) > feed.revision:
            if len(feed.early) < MAX_EARLY:
                feed.early[event.revision] = event, line
            if feed.revision is not None:
                self.on_hole(feed)
        elif event.revision > feed.revision:
            self._tell(feed, event, line)
            if feed.early:
                self._tell_early(feed)

    def deliver_changes(self, room_id: str, since: int, changes: Changes) -> None:
        """Tell what was read from the store, if it goes beyond what was told; keep it for those who come
        back."""
        feed = self.feeds.get(room_id)
        if feed is None or feed.revision is None or since > feed.revision:
            return
        if changes.revision > feed.revision:
            if not changes.reset:
                self.publish(events.of_changes(room_id, since, changes))
            elif since == feed.revision:
                self._reset(feed, changes, "behind")
        feed.reach_back(since, changes)

    def begin_anew(self, room_id: str, changes: Changes) -> None:
        """Tell everybody that what they know of a room is no longer so, because the store lost some of it."""
        feed = self.feeds.get(room_id)
        if feed is not None and feed.revision is not None:
            feed.early.clear()
            self._reset(feed, changes, "ahead")

    def _reset(self, feed: Feed, changes: Changes, reason: ResetReason) -> None:
        frame = events.encode(events.of_reset(feed.room_id, changes, reason))
        told = events.of_changes(feed.room_id, changes.revision, changes)
        feed.forget()
        feed.revision = changes.revision
        for follower in list(feed.followers):
            follower.tell(frame)
        for follower in list(feed.plain):
            follower.tell_events([told])
        self._tell_early(feed)

    def closed(self, room_id: str) -> None:
        """Those who follow a room hear that it is closed, after all that happened in it, and then no more."""
        feed = self.feeds.get(room_id)
        if feed is None:
            return
        self._flush_feed(feed)
        line = events.encode(RoomClosed(room_id=room_id))
        for follower in list(feed.followers):
            self._safely(follower, follower.tell, line)
            follower.unfollow(room_id)
        for follower in list(feed.plain):
            follower.end("the room is closed")

    def _tell_early(self, feed: Feed) -> None:
        for revision in sorted(feed.early):
            event, line = feed.early[revision]
            if feed.revision is not None and _before(event) > feed.revision:
                self.on_hole(feed)
                return
            del feed.early[revision]
            if feed.revision is not None and revision > feed.revision:
                self._tell(feed, event, line)

    def _tell(self, feed: Feed, event: RoomEvent, line: bytes) -> None:
        feed.revision = event.revision
        feed.remember(event)
        if not feed.untold:
            if not self._untold:
                self._loop.call_soon(self._flush)
            self._untold.append(feed)
        feed.untold.append((event, line))

    def _flush(self) -> None:
        feeds, self._untold = self._untold, []
        for feed in feeds:
            self._flush_feed(feed)

    def _flush_feed(self, feed: Feed) -> None:
        if not feed.untold:
            return
        told, feed.untold = feed.untold, []
        if feed.followers:
            frame = b"\n".join([line for _, line in told])
            # A follower that is found dead or too slow while being told leaves the set later, from a
            # callback of its own; the copy is for those who leave it now all the same.
            for follower in list(feed.followers):
                self._safely(follower, follower.tell, frame)
        for follower in list(feed.plain):
            self._safely(follower, follower.tell_events, [event for event, _ in told])

    def _safely(self, follower: Follower, tell: Callable[[T], None], what: T) -> None:
        """One bad connection must not keep the others from hearing."""
        try:
            tell(what)
        except Exception:
            log.exception("a connection could not be told")
            follower.restart()

    # Users

    def connected(self, follower: Follower) -> None:
        """A user has one more connection here."""
        self.sessions.setdefault(follower.user.id, set()).add(follower)

    def disconnected(self, follower: Follower) -> None:
        """A user has one connection less."""
        sessions = self.sessions.get(follower.user.id)
        if sessions is not None:
            sessions.discard(follower)
            if not sessions:
                del self.sessions[follower.user.id]

    def is_online(self, user_id: str) -> bool:
        """Whether the user has a connection here."""
        return user_id in self.sessions

    def users_online(self) -> int:
        """How many users have a connection here."""
        return len(self.sessions)

    def online_count(self, room_id: str) -> int:
        """How many users with a connection here follow the room."""
        feed = self.feeds.get(room_id)
        return len({follower.user.id for follower in feed.followers}) if feed else 0

    def joined(self, user_id: str, room: Room) -> None:
        """The user's sessions begin to follow a room."""
        for session in list(self.sessions.get(user_id, ())):
            session.follow(room)

    def left(self, user_id: str, room_id: str) -> None:
        """The user's sessions hear that they left, and nothing more of that room."""
        line = events.encode(MemberLeft(room_id=room_id, user_id=user_id))
        for session in list(self.sessions.get(user_id, ())):
            session.tell(line)
            session.unfollow(room_id)

    def read(self, user_id: str, room_id: str, seq: int, *, to_all: bool) -> None:
        """The user's sessions, or all who are in the room, hear how far the user has read."""
        line = events.encode(ReadMarked(room_id=room_id, user_id=user_id, seq=seq))
        feed = self.feeds.get(room_id) if to_all else None
        for session in list(feed.followers if feed is not None else self.sessions.get(user_id, ())):
            self._safely(session, session.tell, line)

    def typing(self, user: User, room_id: str, on: bool) -> None:
        """The others in a room hear that the user has begun or stopped to write."""
        feed = self.feeds.get(room_id)
        event: Event = TypingStopped(room_id=room_id, user_id=user.id)
        if on:
            event = TypingStarted(room_id=room_id, user_id=user.id, display_name=user.display_name)
        line = events.encode(event)
        for follower in list(feed.followers) if feed is not None else ():
            if follower.user.id != user.id:
                self._safely(follower, follower.tell, line)

    def ended(self, user_id: str, session_id: str, reason: str) -> None:
        """The connections of a session hear that it is over, and are closed."""
        for session in list(self.sessions.get(user_id, ())):
            if session.session_id == session_id:
                session.end(reason)


def _before(event: RoomEvent) -> int:
    """The revision that a room must have reached for the event to be the next one."""
    return event.since if isinstance(event, RoomChanges) else event.revision - 1


def _messages(event: RoomEvent) -> Sequence[Message]:
    return event.messages if isinstance(event, RoomChanges) else (event.message,)


def _bytes(event: RoomEvent) -> int:
    return 200 + sum(200 + len(message.text) for message in _messages(event))
