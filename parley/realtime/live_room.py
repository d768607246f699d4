"""One live room of a node: who follows it, how far it was told, and what it remembers of it."""

from collections import deque
from collections.abc import Set
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


class Listener(Protocol):
    """A connection that follows rooms. Nothing here waits or raises."""

    @property
    def user(self) -> User:
        """Who it is."""

    def expects(self, room_id: str) -> bool:
        """Whether the connection is open and still wants to hear of a room."""

    def shut_out(self, room_id: str) -> None:
        """The room is private from now on: say goodbye, unless the user is a member of it."""

    def end(self, reason: str) -> None:
        """It is over for good: say so and close."""

    def restart(self) -> None:
        """The server cannot go on with this connection: the client is to come back."""


class Plain(Listener, Protocol):
    """A plain feed, which follows one room."""

    def tell_events(self, told: list[RoomEvent]) -> None:
        """Send what it makes of these events."""


class Follower(Listener, Protocol):
    """A session, which hears of all the user's rooms."""

    @property
    def session_id(self) -> str:
        """By which session of the user's."""

    @property
    def rooms(self) -> Set[str]:
        """The rooms that it follows."""

    @property
    def member_of(self) -> Set[str]:
        """Those of them that the user is in."""

    @property
    def has_entered(self) -> bool:
        """Whether it follows what it came for."""

    async def drained(self) -> None:
        """Wait until most of what was told is on its way, or the connection is over."""

    def tell(self, frame: bytes) -> None:
        """Send lines of encoded events."""

    def hint(self, frame: bytes) -> None:
        """As `tell`, but what may be skipped where the client reads slowly."""

    def follow(self, room_id: str) -> None:
        """Begin to follow a room from where it stands now, if the user is in it."""

    def unfollow(self, room_id: str) -> None:
        """Stop following a room."""

    def renamed(self, user: User) -> None:
        """The user is shown under another name."""


class Feed:
    """One live room on this node. `revision` is the last one told, None until the store was asked; `kind` is
    what the room was then, None until a session has entered it."""

    __slots__ = (
        "answer",
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
        self.plain: set[Plain] = set()
        self.online: int | None = 0
        self.untold: list[Told] = []
        self.recent: deque[RoomEvent] = deque()
        self.answer: tuple[int, Changes] | None = None
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
        self.answer = None
        self.recent.append(event)
        self.recent_bytes += _bytes(event)
        while len(self.recent) > MAX_RECENT or self.recent_bytes > MAX_RECENT_BYTES:
            self.recent_bytes -= _bytes(self.recent.popleft())

    def forget(self) -> None:
        """Drop what was remembered and what was about to be told."""
        self.recent.clear()
        self.recent_bytes = 0
        self.answer = None
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

    def keep_answer(self, since: int, changes: Changes) -> None:
        """Keep what the store said for others who ask the same, until something happens."""
        # That nothing is new is asked anew each time: a hint may have been lost.
        is_new = changes.reset or changes.revision > since
        if is_new and changes.revision == self.revision and _size(changes) <= MAX_RECENT_BYTES:
            self.answer = since, changes

    def answered(self, since: int) -> Changes | None:
        """What the store said of the time after `since`, if nothing has happened since it did."""
        return self.answer[1] if self.answer is not None and self.answer[0] == since else None

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


def _size(changes: Changes) -> int:
    return 200 * len(changes.members) + sum(200 + len(message.text) for message in changes.messages)
