"""Who hears what on this node: for each live room, the sessions that follow it and how far it was told.

A room is live here while somebody follows it. Its events leave in the order of their revisions without holes:
the next one is told, an old one is dropped, an early one waits for the ones before it, and
`parley.realtime.repair` reads those from the store if they do not come. Everything that a room has to tell in
one turn of the event loop goes out as one frame, which is built once.
"""

import asyncio
from collections.abc import Callable
from typing import TypeVar

import structlog

from parley import events
from parley.events import MemberLeft, ReadMarked, ResetReason, RoomChanges, RoomClosed, RoomEvent
from parley.models import Changes, Member, Room, User
from parley.realtime.live_room import Feed, Follower, Listener, Plain

MAX_EARLY = 256
"""Events that wait for earlier ones; beyond that the store is read instead."""

T = TypeVar("T")
log = structlog.get_logger()


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
        self.on_live: Callable[[str, bool], None] = lambda topic, live: None
        """Called with `room:<id>` when a room becomes live and when it no longer is, and with `user:<id>`
        when a user's first connection comes and when their last one goes."""
        self._untold: list[Feed] = []

    # Rooms

    def feed(self, room_id: str) -> Feed:
        """The live room, made if nobody follows it yet; its revision is then unknown."""
        feed = self.feeds.get(room_id)
        if feed is None:
            feed = self.feeds[room_id] = Feed(room_id)
            self.on_live(f"room:{room_id}", True)
        return feed

    def follow(self, feed: Feed, follower: Follower) -> None:
        """Tell a session of all that happens from here on; what is still untold is not for it."""
        self._flush_feed(feed)
        feed.followers.add(follower)
        feed.online = None

    def follow_plainly(self, feed: Feed, plain: Plain) -> None:
        """As `follow`, but with events in place of frames."""
        self._flush_feed(feed)
        feed.plain.add(plain)

    def unfollow(self, room_id: str, listener: Listener) -> None:
        """Stop telling; a room that nobody follows is no longer live."""
        feed = self.feeds.get(room_id)
        if feed is not None:
            feed.followers.discard(listener)
            feed.plain.discard(listener)
            feed.online = None
            self.release(feed)

    def release(self, feed: Feed) -> None:
        """Let go of a room if nobody follows it."""
        if not feed.in_use and self.feeds.get(feed.room_id) is feed:
            del self.feeds[feed.room_id]
            self.on_live(f"room:{feed.room_id}", False)

    def learn(self, room_id: str, revision: int) -> None:
        """Where the room stood when the store was asked; counts only the first time."""
        feed = self.feeds.get(room_id)
        if feed is not None and feed.revision is None:
            feed.revision = revision
            self._tell_early(feed)

    def announce(self, event: RoomEvent) -> bytes:
        """Encode what has just happened in a room, tell it here, and return it for the other nodes."""
        line = events.encode(event)
        self.encoded += 1
        self.deliver(event, line)
        return line

    def deliver(self, event: RoomEvent, line: bytes) -> None:
        """Tell an event if it is the next one, drop it if it is old, keep it if it is early."""
        feed = self.feeds.get(event.room_id)
        if feed is None:
            return
        if feed.revision is None or events.before(event) > feed.revision:
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
                self.announce(events.of_changes(room_id, since, changes))
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
        self._shut_out(feed, changes.room, changes.members)
        frame = events.encode(events.of_reset(feed.room_id, changes, reason))
        told = events.of_changes(feed.room_id, changes.revision, changes)
        feed.forget()
        feed.revision = changes.revision
        for follower in list(feed.followers):
            follower.tell(frame)
        for plain in list(feed.plain):
            plain.tell_events([told])
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
        for plain in list(feed.plain):
            plain.end("the room is closed")

    def _tell_early(self, feed: Feed) -> None:
        for revision in sorted(feed.early):
            event, line = feed.early[revision]
            if feed.revision is not None and events.before(event) > feed.revision:
                self.on_hole(feed)
                return
            del feed.early[revision]
            if feed.revision is not None and revision > feed.revision:
                self._tell(feed, event, line)

    def _tell(self, feed: Feed, event: RoomEvent, line: bytes) -> None:
        gone = [member.user_id for member in events.members_of(event) if member.left_at is not None]
        room = events.room_of(event)
        if gone or room is not None:
            self._flush_feed(feed)
            for user_id in gone:
                self.left(user_id, feed.room_id)
            if room is not None and room.kind != "public":
                self._close_to_visitors(feed)
                if feed.kind == "public" and isinstance(event, RoomChanges):
                    self._part_with_all_but(feed, event.members)
            feed.kind = room.kind if room is not None else feed.kind
        feed.revision = event.revision
        feed.remember(event)
        if not feed.untold:
            if not self._untold:
                self._loop.call_soon(self._flush)
            self._untold.append(feed)
        feed.untold.append((event, line))

    def _part_with_all_but(self, feed: Feed, members: list[Member]) -> None:
        """The room has become private, and these are all that were in it then. Whoever else follows it left a
        moment before, which this node has not been told yet: they come back without it."""
        present = {member.user_id for member in members if member.left_at is None}
        for follower in (*feed.followers, *feed.entering):
            if follower.user.id not in present:
                follower.restart()

    def _shut_out(self, feed: Feed, room: Room | None, present: list[Member]) -> None:
        """Part with those who are not in a private room as the store shows it."""
        feed.kind = room.kind if room is not None else feed.kind
        if room is not None and room.kind != "public":
            self._close_to_visitors(feed)
            here = {member.user_id for member in present}
            for user_id in {each.user.id for each in (*feed.followers, *feed.entering)} - here:
                self.left(user_id, feed.room_id)

    def _close_to_visitors(self, feed: Feed) -> None:
        """The room is private: whoever follows it without being a member hears that it is closed to them."""
        for follower in (*feed.followers, *feed.entering, *feed.plain):
            follower.shut_out(feed.room_id)

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
        for plain in list(feed.plain):
            self._safely(plain, plain.tell_events, [event for event, _ in told])

    def _safely(self, listener: Listener, tell: Callable[[T], None], what: T) -> None:
        """One bad connection must not keep the others from hearing."""
        try:
            tell(what)
        except Exception:
            log.exception("a connection could not be told")
            listener.restart()

    # Users

    def connected(self, follower: Follower) -> None:
        """A user has one more connection here."""
        sessions = self.sessions.get(follower.user.id)
        if sessions is None:
            sessions = self.sessions[follower.user.id] = set()
            self.on_live(f"user:{follower.user.id}", True)
        sessions.add(follower)

    def disconnected(self, follower: Follower) -> None:
        """A user has one connection less."""
        sessions = self.sessions.get(follower.user.id)
        if sessions is not None:
            sessions.discard(follower)
            if not sessions:
                del self.sessions[follower.user.id]
                self.on_live(f"user:{follower.user.id}", False)

    def online_count(self, room_id: str) -> int:
        """How many users with a connection here follow the room."""
        feed = self.feeds.get(room_id)
        return feed.users() if feed is not None else 0

    def renamed(self, user: User) -> None:
        """The user's sessions go on under another name, and say so."""
        for session in list(self.sessions.get(user.id, ())):
            session.renamed(user)

    def joined(self, user_id: str, room_id: str) -> None:
        """The user's sessions begin to follow a room."""
        for session in list(self.sessions.get(user_id, ())):
            session.follow(room_id)

    def left(self, user_id: str, room_id: str) -> None:
        """The user's sessions hear that they left, and nothing more of that room."""
        line = events.encode(MemberLeft(room_id=room_id, user_id=user_id))
        for session in list(self.sessions.get(user_id, ())):
            if session.expects(room_id):
                session.tell(line)
            session.unfollow(room_id)
            session.follow(room_id)  # where they are back already, and were told so before this

    def read(self, user_id: str, room_id: str, seq: int) -> None:
        """The user's sessions hear how far the user has read."""
        line = events.encode(ReadMarked(room_id=room_id, user_id=user_id, seq=seq))
        for session in list(self.sessions.get(user_id, ())):
            if session.expects(room_id):  # or the user has left meanwhile, or is not there yet
                self._safely(session, session.tell, line)

    def tell_room(self, room_id: str, line: bytes) -> None:
        """All who follow a room hear what is no change of it."""
        feed = self.feeds.get(room_id)
        for follower in list(feed.followers) if feed is not None else ():
            if follower.expects(room_id):
                self._safely(follower, follower.tell, line)

    def hint_room(self, room_id: str, line: bytes, but: str) -> None:
        """The same of what may be skipped, and for all except one user."""
        feed = self.feeds.get(room_id)
        for follower in list(feed.followers) if feed is not None else ():
            if follower.user.id != but and follower.expects(room_id):
                self._safely(follower, follower.hint, line)

    def ended(self, user_id: str, session_id: str | None, reason: str) -> None:
        """The connections of a session, or of all of a user's, hear that it is over, and are closed."""
        for session in list(self.sessions.get(user_id, ())):
            if session_id in (None, session.session_id):
                session.end(reason)
