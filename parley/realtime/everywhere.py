"""All connections of the chat: those of this node at once, those of the other nodes through the bus.

What happens here is told here first, and then handed on; what other nodes hand on is told here. A hint that
is lost, repeated or late does no harm: `parley.realtime.repair` and `parley.realtime.recheck` ask the store.
"""

from collections.abc import Callable, Iterable

import structlog

from parley import events
from parley.buses.base import EVERYTHING, LOOK, Bus
from parley.events import Event, ReadMarked, RoomClosed, RoomEvent, TypingStarted, TypingStopped
from parley.models import Model, User
from parley.realtime import notes
from parley.realtime.hub import Hub
from parley.realtime.presence import NODES, Presence

ROOM = "room:"
USER = "user:"

log = structlog.get_logger()


class Everywhere:
    """What the services tell people, on whatever node these are; `parley.services.live` says it one by one.

    `on_look` is called with a topic of which something was missed, `on_closed` with a room that was closed on
    another node, `on_stored` with what is durable and was stored by this node.
    """

    def __init__(self, hub: Hub, bus: Bus, presence: Presence) -> None:
        self._hub = hub
        self._bus = bus
        self._presence = presence
        self.nonsense = 0
        """Hints that made no sense."""
        self.on_look: Callable[[str], None] = lambda topic: None
        self.on_closed: Callable[[str], None] = lambda room_id: None
        self.on_stored: Callable[[RoomEvent | RoomClosed, bytes], None] = lambda event, line: None
        hub.on_live = self._want

    # What happens here

    def announce(self, event: RoomEvent) -> None:
        """Tell all who are in a room what was just stored."""
        line = self._hub.announce(event)
        self._bus.publish(ROOM + event.room_id, line)
        self.on_stored(event, line)

    def closed(self, room_id: str) -> None:
        """Tell all who follow a room that it is closed, and nothing of it any more."""
        self._hub.closed(room_id)
        event = RoomClosed(room_id=room_id)
        self.on_stored(event, self._hand_on(event, room_id))

    def joined(self, user_id: str, room_id: str) -> None:
        """Tell the user's sessions that they are in a room now."""
        self._hub.joined(user_id, room_id)
        self._note(user_id, notes.Joined(room_id=room_id))

    def left(self, user_id: str, room_id: str) -> None:
        """Tell the user's sessions that they are no longer in a room."""
        self._hub.left(user_id, room_id)
        self._note(user_id, notes.Left(room_id=room_id))

    def read(self, user_id: str, room_id: str, seq: int, *, to_all: bool) -> None:
        """Tell the user's sessions, or all who are in the room, how far the user has read."""
        if to_all:
            event = ReadMarked(room_id=room_id, user_id=user_id, seq=seq)
            self._hub.tell_room(room_id, self._hand_on(event, room_id))
        else:
            self._hub.read(user_id, room_id, seq)
            self._note(user_id, notes.Read(room_id=room_id, seq=seq))

    def typing(self, user: User, room_id: str, on: bool) -> None:
        """Tell the others in a room that the user has begun or stopped to write."""
        event: Event = TypingStopped(room_id=room_id, user_id=user.id)
        if on:
            event = TypingStarted(room_id=room_id, user_id=user.id, display_name=user.display_name)
        self._hub.hint_room(room_id, self._hand_on(event, room_id), user.id)

    def ended(self, user_id: str, session_id: str | None, reason: str) -> None:
        """Tell the connections of a session, or of all of a user's, that it is over, and close them."""
        self._hub.ended(user_id, session_id, reason)
        self._note(user_id, notes.Ended(session_id=session_id, reason=reason))

    def renamed(self, user: User) -> None:
        """Let the user's connections go on under another name, and tell those who share a room with them."""
        self._hub.renamed(user)
        self._note(user.id, notes.Renamed(user=user))

    def moved(self, user: User, room_ids: Iterable[str]) -> None:
        """Tell those who are in these rooms whether the user is online."""
        self._presence.moved(user, room_ids)

    def is_online(self, user_id: str) -> bool:
        """Whether the user has a connection."""
        return self._presence.is_online(user_id)

    def who_is_online(self) -> list[str]:
        """The ids of all users with a connection, in order."""
        return self._presence.who_is_online()

    def users_online(self) -> int:
        """How many users have a connection."""
        return self._presence.users_online()

    def online_count(self, room_id: str) -> int:
        """How many users with a connection follow the room."""
        return self._presence.online_count(room_id)

    def _hand_on(self, event: Event, room_id: str) -> bytes:
        line = events.encode(event)
        self._bus.publish(ROOM + room_id, line)
        return line

    def _note(self, user_id: str, note: Model) -> None:
        self._bus.publish(USER + user_id, notes.encode(note))

    def _want(self, topic: str, live: bool) -> None:
        (self._bus.want if live else self._bus.unwant)(topic)

    # What other nodes hand on

    def arrived(self, topic: str, payload: bytes) -> None:
        """A hint came over the bus. What makes no sense is counted and left."""
        try:
            if payload == LOOK or topic == EVERYTHING:
                self.on_look(topic)
            elif topic.startswith(ROOM):
                self._of_room(topic.removeprefix(ROOM), payload)
            elif topic.startswith(USER):
                self._of_user(topic.removeprefix(USER), notes.user_note(payload))
            elif topic == NODES:
                self._presence.heard(notes.connected(payload))
        except ValueError as error:
            self.nonsense += 1
            log.debug("a hint made no sense", topic=topic, bytes=len(payload), error=str(error))

    def _of_room(self, room_id: str, line: bytes) -> None:
        event = events.decode(line)
        if event.room_id != room_id:
            raise ValueError("it is about another room")
        match event:
            case RoomClosed():
                self.on_closed(room_id)
                self._hub.closed(room_id)
            case ReadMarked():
                self._hub.tell_room(room_id, line)
            case TypingStarted() | TypingStopped():
                self._hub.hint_room(room_id, line, event.user_id)
            case _:
                self._hub.deliver(event, line)

    def _of_user(self, user_id: str, note: notes.UserNote) -> None:
        match note:
            case notes.Joined():
                self._hub.joined(user_id, note.room_id)
            case notes.Left():
                self._hub.left(user_id, note.room_id)
            case notes.Read():
                self._hub.read(user_id, note.room_id, note.seq)
            case notes.Renamed():
                self._hub.renamed(note.user)
            case notes.Ended():
                self._hub.ended(user_id, note.session_id, note.reason)
