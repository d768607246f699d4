"""One live room of a node: who follows it, how far it was told, and what it remembers of it."""

from collections import deque
from typing import Protocol

from parley import events
from parley.events import RoomEvent
from parley.models import Changes, RoomKind, User

MAX_RECENT = 256
"""Events that a live room remembers, to answer those who come back without asking the store."""
MAX_RECENT_BYTES = 256 * 1024
"""Text in those events, about."""

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

    def follow(self, room_id: str) -> None:
        """Begin to follow a room from where it stands now, if the user is in it."""

    def unfollow(self, room_id: str) -> None:
        """Stop following a room."""

    def shut_out(self, room_id: str) -> None:
        """The room is private from now on: say goodbye, unless the user is a member of it."""

    def renamed(self, user: User) -> None:
        """The user is shown under another name."""

    def end(self, reason: str) -> None:
        """The session is over: say so and close."""

    def restart(self) -> None:
        """The server cannot go on with this connection: the client is to come back."""


class Feed:
    """One live room on this node. `revision` is the last one told, None until the store was asked; `kind` is
    what the room was then, None until a session has entered it."""

    __slots__ = (
        "early",
        "entering",
        "followers",
        "kind",
        "online",
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
        self.kind: RoomKind | None = None
        self.followers: set[Follower] = set()
        self.plain: set[Follower] = set()
        self.online: int | None = 0
        self.untold: list[Told] = []
        self.recent: deque[RoomEvent] = deque()
        self.recent_bytes = 0
        self.early: dict[int, Told] = {}
        self.entering: set[Follower] = set()

    @property
    def in_use(self) -> bool:
        """Whether somebody follows the room or is about to."""
        return bool(self.followers or self.plain or self.entering)

    def users(self) -> int:
        """How many users follow the room, counted when somebody asks and somebody came or went."""
        if self.online is None:
            self.online = len({follower.user.id for follower in self.followers})
        return self.online

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
        begins = events.before(self.recent[0]) if self.recent else self.revision
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
        if not self.recent or events.before(self.recent[0]) > revision:
            return None
        later = [event for event in self.recent if event.revision > revision]
        if any(events.room_of(event) or events.members_of(event) for event in later):
            return None  # the store knows how these are now
        latest = {message.seq: message for event in later for message in events.messages_of(event)}
        changed = [message for message in latest.values() if message.revision > revision]
        changed.sort(key=lambda message: message.revision)
        return Changes(revision=self.revision, messages=changed)


def _bytes(event: RoomEvent) -> int:
    return 200 + sum(200 + len(message.text) for message in events.messages_of(event))
