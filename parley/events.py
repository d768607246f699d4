"""What is told to clients when something has happened: plain data, encoded once for everybody.

The same bytes go to every connection of this node and onto the bus to the others. An event of a room's
history carries the room's `revision` after it; a client that sees revision 41 and then 43 knows that it
missed one.
"""

from collections.abc import Sequence
from typing import Literal

import msgspec

from parley.ids import Time
from parley.models import Change, Changes, Delete, Edit, Member, Message, Model, React, Room, Send

encode = msgspec.json.Encoder().encode
"""Any model, answer or event as JSON in UTF-8."""


ResetReason = Literal["behind", "ahead", "epoch"]
"""Too far behind what is kept, ahead of a store that was restored, or from another store altogether."""


class MessageSent(Model, tag_field="event", tag="message.sent"):
    """A message came into a room."""

    room_id: str
    revision: int
    message: Message


class MessageEdited(Model, tag_field="event", tag="message.edited"):
    """A message has new words."""

    room_id: str
    revision: int
    message: Message


class MessageDeleted(Model, tag_field="event", tag="message.deleted"):
    """A message was taken back."""

    room_id: str
    revision: int
    message: Message


class MessageReacted(Model, tag_field="event", tag="message.reacted"):
    """A message has other reactions."""

    room_id: str
    revision: int
    message: Message


class RoomChanges(Model, tag_field="event", tag="room.changes"):
    """Everything that a room has become between `since` and `revision`: several events told as one."""

    room_id: str
    since: int
    revision: int
    messages: list[Message]
    members: list[Member]
    room: Room | None
    reset: bool


class RoomReset(Model, tag_field="event", tag="room.reset"):
    """The room's history before is gone or is another one: forget it; here is the newest page of what is."""

    room_id: str
    revision: int
    messages: list[Message]
    members: list[Member]
    room: Room | None
    reset: bool
    reason: ResetReason


class RoomAdded(Model, tag_field="event", tag="room.added"):
    """You are in this room now; what happens there will be told to you."""

    room_id: str
    room: Room


class MemberJoined(Model, tag_field="event", tag="member.joined"):
    """Somebody came into a room that is not public."""

    room_id: str
    revision: int
    member: Member


class MemberLeft(Model, tag_field="event", tag="member.left"):
    """Somebody is no longer in the room. Where that is you, nothing more will be told to you, and there is no
    `revision` for you to remember: it is 0."""

    room_id: str
    user_id: str
    revision: int = 0
    member: Member | None = None


class MemberChanged(Model, tag_field="event", tag="member.changed"):
    """A member has another role."""

    room_id: str
    revision: int
    member: Member


class RoomChanged(Model, tag_field="event", tag="room.changed"):
    """A room has other settings."""

    room_id: str
    revision: int
    room: Room


class RoomClosed(Model, tag_field="event", tag="room.closed"):
    """The room is closed, and gone from every list; nothing more will be told of it."""

    room_id: str


class ReadMarked(Model, tag_field="event", tag="read.marked"):
    """Somebody has read the room up to `seq`. State, not a change: it has no revision."""

    room_id: str
    user_id: str
    seq: int


class TypingStarted(Model, tag_field="event", tag="typing.started"):
    """Somebody else is writing something. Not told again to those who come later."""

    room_id: str
    user_id: str
    display_name: str


class TypingStopped(Model, tag_field="event", tag="typing.stopped"):
    """They stopped without saying anything; a message of theirs says so as well."""

    room_id: str
    user_id: str


class PresenceChanged(Model, tag_field="event", tag="presence.changed"):
    """Somebody you share a room with came, went, or is shown under another name. State, which may be told
    more than once, and is not told in rooms that very many follow."""

    user_id: str
    display_name: str
    online: bool
    last_seen_at: Time | None


class SessionEnded(Model, tag_field="event", tag="session.ended"):
    """Your session is over; the connection closes after this."""

    reason: str


MessageEvent = MessageSent | MessageEdited | MessageDeleted | MessageReacted
RoomEvent = MessageEvent | MemberJoined | MemberLeft | MemberChanged | RoomChanged | RoomChanges
"""What moves a room from one revision to a later one."""

Event = (
    RoomEvent
    | RoomReset
    | RoomAdded
    | RoomClosed
    | ReadMarked
    | TypingStarted
    | TypingStopped
    | PresenceChanged
    | SessionEnded
)

_OF_CHANGE: dict[type[Change], type[MessageEvent]] = {
    Send: MessageSent,
    Edit: MessageEdited,
    Delete: MessageDeleted,
    React: MessageReacted,
}


def of_change(change: Change, message: Message) -> MessageEvent:
    """The event that tells of `change`, after which the message is as given."""
    return _OF_CHANGE[type(change)](room_id=message.room_id, revision=message.revision, message=message)


def again(message: Message) -> RoomChanges:
    """The event that tells of a message that was stored before, as it is now: somebody may have changed it
    meanwhile, and those who know it must not take it for a new one."""
    changes = Changes(revision=message.revision, messages=[message])
    return of_changes(message.room_id, message.revision - 1, changes)


def messages_of(event: RoomEvent) -> Sequence[Message]:
    """The messages that an event tells of."""
    if isinstance(event, RoomChanges):
        return event.messages
    return (event.message,) if isinstance(event, MessageEvent) else ()


def members_of(event: RoomEvent) -> Sequence[Member]:
    """The memberships that an event tells of, ended ones too."""
    if isinstance(event, RoomChanges):
        return event.members
    if isinstance(event, MemberJoined | MemberLeft | MemberChanged) and event.member is not None:
        return (event.member,)
    return ()


def room_of(event: RoomEvent) -> Room | None:
    """The room, where its settings are what an event tells of."""
    return event.room if isinstance(event, RoomChanged | RoomChanges) else None


def before(event: RoomEvent) -> int:
    """The revision that a room must have reached for the event to be the next one."""
    return event.since if isinstance(event, RoomChanges) else event.revision - 1


def of_changes(room_id: str, since: int, changes: Changes) -> RoomChanges:
    """The event that tells a client at revision `since` what it missed."""
    return RoomChanges(
        room_id=room_id,
        since=since,
        revision=changes.revision,
        messages=changes.messages,
        members=changes.members,
        room=changes.room,
        reset=False,
    )


def of_reset(room_id: str, changes: Changes, reason: ResetReason) -> RoomReset:
    """The event that replaces all that a client knew of a room."""
    return RoomReset(
        room_id=room_id,
        revision=changes.revision,
        messages=changes.messages,
        members=changes.members,
        room=changes.room,
        reset=True,
        reason=reason,
    )


HandedOn = RoomEvent | RoomClosed | ReadMarked | TypingStarted | TypingStopped
"""What nodes hand on to those who follow a room elsewhere."""

_decode = msgspec.json.Decoder(HandedOn).decode


def decode(line: bytes) -> HandedOn:
    """Read an event that another node handed on. Raises `ValueError`."""
    event: HandedOn = _decode(line)
    return event
