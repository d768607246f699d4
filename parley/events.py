"""What is told to clients when something has happened: plain data, encoded once for everybody.

The same bytes go to every connection of this node and onto the bus to the others. An event of a room's
history carries the room's `revision` after it; a client that sees revision 41 and then 43 knows that it
missed one.
"""

from typing import Literal

import msgspec

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


class MemberLeft(Model, tag_field="event", tag="member.left"):
    """Somebody is no longer in the room; where that is you, nothing more will be told to you."""

    room_id: str
    user_id: str


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


class SessionEnded(Model, tag_field="event", tag="session.ended"):
    """Your session is over; the connection closes after this."""

    reason: str


MessageEvent = MessageSent | MessageEdited | MessageDeleted | MessageReacted
RoomEvent = MessageEvent | RoomChanges
"""What moves a room from one revision to a later one."""

_decode = msgspec.json.Decoder(RoomEvent).decode

Event = (
    RoomEvent
    | RoomReset
    | RoomAdded
    | RoomClosed
    | MemberLeft
    | ReadMarked
    | TypingStarted
    | TypingStopped
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


def decode(line: bytes) -> RoomEvent:
    """Read an event that another node encoded. Raises `ValueError`."""
    event: RoomEvent = _decode(line)
    return event
