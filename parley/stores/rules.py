"""What every store decides in the same way: pure functions, so that the rules are written once."""

from collections.abc import Sequence

from msgspec import UNSET
from msgspec.structs import asdict, replace

from parley import permissions
from parley.errors import (
    IdTaken,
    LimitReached,
    MessageNotFound,
    NotAMember,
    ParleyError,
    RoomNotFound,
)
from parley.ids import Time
from parley.models import (
    Applied,
    Delete,
    Edit,
    Message,
    React,
    Role,
    Room,
    RoomChange,
    RoomKind,
    Send,
    User,
)
from parley.stores.base import MAX_REACTIONS, MAX_TOLD_BYTES


def is_named(user: User, text: str) -> bool:
    """Whether a user's name or display name begins with a casefolded text."""
    return user.name.startswith(text) or user.display_name.casefold().startswith(text)


def can_be_told(messages: Sequence[Message], limit: int) -> bool:
    """Whether so many changed messages are told one by one rather than by a reset."""
    return len(messages) <= limit and sum(len(each.text) for each in messages) <= MAX_TOLD_BYTES


def newest_first(message: Message) -> tuple[Time, str, int]:
    """The key by which search orders messages, descending."""
    return message.sent_at, message.room_id, message.seq


def newest_that_fit(messages: list[Message]) -> list[Message]:
    """The last of these messages, as many as a reset carries."""
    size, begin = 0, len(messages)
    while begin and size + len(messages[begin - 1].text) <= MAX_TOLD_BYTES:
        begin -= 1
        size += len(messages[begin].text)
    return messages[begin:]


def resettled(room: Room, change: RoomChange) -> Room:
    """The room with other settings."""
    return replace(room, **{name: value for name, value in asdict(change).items() if value is not UNSET})


def is_left_alone(room: Room) -> bool:
    """Whether a room is empty and to be closed therefore."""
    return room.member_count == 0 and (room.close_when_empty or room.kind != "public")


def too_many(what: str, most: int) -> LimitReached:
    """The error of a server that has as many of something as it takes; `what` is the setting's name."""
    return LimitReached(f"{what}: this server takes at most {most}.")


def strange(kind: RoomKind) -> ParleyError:
    """What somebody who is not in a room is told: of one that is not public, not even that it exists."""
    return NotAMember() if kind == "public" else RoomNotFound()


def sent(send: Send, seq: int, revision: int) -> Message:
    """The message that a `Send` becomes."""
    return Message(
        id=send.id,
        room_id=send.room_id,
        seq=seq,
        revision=revision,
        author_id=send.author_id,
        author_name=send.author_name,
        kind=send.kind,
        text=send.text,
        sent_at=send.sent_at,
        reply_to=send.reply_to,
    )


def resent(send: Send, stored: Message) -> Applied:
    """The answer to an id that the room has already. Raises `IdTaken` if it was another message.

    The words are compared only while they are the first ones: after an edit the original is not kept.
    """
    untouched = stored.edited_at is None and stored.deleted_at is None
    if stored.author_id != send.author_id or (untouched and stored.text != send.text):
        raise IdTaken
    return Applied(message=stored, fresh=False)


def revised(change: Edit | Delete | React, stored: Message | None, role: Role, revision: int) -> Message:
    """The message after a change, stamped with `revision`; `stored` itself if there is nothing left to do.

    Raises `MessageNotFound`, `NotYourMessage`, `LimitReached`.
    """
    if isinstance(change, Delete):
        if stored is None:
            raise MessageNotFound
        permissions.may_delete(stored, change.user_id, role)
        if stored.deleted_at is not None:
            return stored
        return replace(stored, revision=revision, text="", deleted_at=change.at, reactions={})
    if stored is None or stored.deleted_at is not None:
        raise MessageNotFound
    if isinstance(change, Edit):
        permissions.may_edit(stored, change.user_id)
        if stored.text == change.text:
            return stored
        return replace(stored, revision=revision, text=change.text, edited_at=change.at)
    return _reacted(change, stored, revision)


def _reacted(change: React, stored: Message, revision: int) -> Message:
    reactions = {emoji: list(users) for emoji, users in stored.reactions.items()}
    users = reactions.setdefault(change.emoji, [])
    if change.on == (change.user_id in users):
        return stored
    if not change.on:
        users.remove(change.user_id)
        if not users:
            del reactions[change.emoji]
    elif len(reactions) > MAX_REACTIONS:
        raise LimitReached(f"A message takes at most {MAX_REACTIONS} different reactions.")
    else:
        users.append(change.user_id)
    return replace(stored, revision=revision, reactions=reactions)
