"""Rows of the tables as models, and models as rows."""

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import (
    JSON,
    ColumnElement,
    Connection,
    FromClause,
    Label,
    Row,
    Select,
    Text,
    and_,
    cast,
    column,
    func,
    literal,
    select,
)

from parley.ids import Time, from_ms, made_ms, to_ms
from parley.models import Member, Message, Role, Room, Session, User
from parley.stores.sql.schema import members, messages, users

MESSAGES = select(messages)
MEMBERS = select(members, users.c.name, users.c.display_name).join_from(members, users)

_reactions = msgspec.json.Decoder(dict[str, list[str]]).decode
_encode = msgspec.json.Encoder().encode


def listed(connection: Connection, ids: Sequence[str]) -> Select[tuple[str]]:
    """These ids as a table. One JSON text, because the number of parameters of a statement is limited."""
    text = _encode(ids).decode()
    if connection.dialect.name == "sqlite":
        table = func.json_each(text).table_valued("value")
    else:
        parsed = cast(literal(text, Text), JSON)
        table = func.json_array_elements_text(parsed).table_valued(column("value", Text))
    return select(table.c.value)


def message(row: Sequence[Any]) -> Message:
    """A row of `messages`, all columns in the table's order, from any driver."""
    (
        room_id,
        seq,
        id_,
        revision,
        author_id,
        author_name,
        kind,
        text,
        reply_to,
        sent_at,
        edited_at,
        deleted_at,
        reactions,
    ) = row
    return Message(
        id=id_,
        room_id=room_id,
        seq=seq,
        revision=revision,
        author_id=author_id,
        author_name=author_name,
        kind=kind,
        text=text,
        sent_at=from_ms(sent_at),
        reply_to=reply_to,
        edited_at=instant(edited_at),
        deleted_at=instant(deleted_at),
        reactions=_reactions(reactions) if reactions else {},
    )


def reactions_text(reactions: dict[str, list[str]]) -> str | None:
    """Reactions as their column keeps them."""
    return _encode(reactions).decode() if reactions else None


def member(row: Row[Any]) -> Member:
    """A row of `MEMBERS`."""
    return Member(
        room_id=row.room_id,
        user_id=row.user_id,
        name=row.name,
        display_name=row.display_name,
        role=Role(row.role),
        joined_at=from_ms(row.joined_at),
        left_at=instant(row.left_at),
        read_seq=row.read_seq,
        revision=row.revision,
    )


def room(row: Row[Any]) -> Room:
    """A row of `rooms`."""
    return Room(
        id=row.id,
        name=row.name,
        title=row.title,
        kind=row.kind,
        created_by=row.created_by,
        created_at=from_ms(row.created_at),
        expires_at=instant(row.expires_at),
        capacity=row.capacity,
        history_limit=row.history_limit,
        read_only=row.read_only,
        close_when_empty=row.close_when_empty,
        member_count=row.member_count,
        message_count=row.last_seq - row.first_seq + 1,
        last_message_at=instant(row.last_message_at),
        last_seq=row.last_seq,
        revision=row.revision,
        closed_at=instant(row.closed_at),
    )


def room_values(room: Room) -> dict[str, Any]:
    """A new room, without messages, as a row."""
    return {
        "id": room.id,
        "name": room.name,
        "title": room.title,
        "kind": room.kind,
        "created_by": room.created_by,
        "created_at": to_ms(room.created_at),
        "expires_at": milliseconds(room.expires_at),
        "capacity": room.capacity,
        "history_limit": room.history_limit,
        "read_only": room.read_only,
        "close_when_empty": room.close_when_empty,
        "member_count": 0,
        "first_seq": room.last_seq + 1,
        "last_seq": room.last_seq,
        "last_message_at": milliseconds(room.last_message_at),
        "revision": room.revision,
        "trimmed_revision": 0,
        "settings_revision": 0,
        "closed_at": None,
    }


def user(row: Row[Any]) -> User:
    """A row of `users`."""
    return User(
        id=row.id,
        name=row.name,
        display_name=row.display_name,
        kind=row.kind,
        last_seen_at=instant(row.last_seen_at),
    )


def as_peer(table: FromClause) -> list[Label[Any]]:
    """The columns of `users` that `peer` reads, called so that they can stand beside those of others."""
    return [
        table.c[each].label(f"peer_{each}") for each in ("id", "name", "display_name", "kind", "last_seen_at")
    ]


def peer(row: Row[Any]) -> User:
    """A user whose columns are called `peer_id` and so on."""
    return User(
        id=row.peer_id,
        name=row.peer_name,
        display_name=row.peer_display_name,
        kind=row.peer_kind,
        last_seen_at=instant(row.peer_last_seen_at),
    )


def user_values(user: User) -> dict[str, Any]:
    """A user as a row."""
    return {
        "id": user.id,
        "name": user.name,
        "display_name": user.display_name,
        "kind": user.kind,
        "created_at": made_ms(user.id),
        "last_seen_at": milliseconds(user.last_seen_at),
        "deleted_at": None,
        "folded_name": user.display_name.casefold(),
    }


def session_values(session: Session) -> dict[str, Any]:
    """A session as a row."""
    return {
        "id": session.id,
        "user_id": session.user_id,
        "token_hash": session.token_hash,
        "created_at": to_ms(session.created_at),
        "expires_at": to_ms(session.expires_at),
        "label": session.label,
        "generation": session.generation,
        "rotated_at": milliseconds(session.rotated_at),
    }


def message_values(message: Message) -> dict[str, Any]:
    """A message as a row."""
    return {
        "room_id": message.room_id,
        "seq": message.seq,
        "id": message.id,
        "revision": message.revision,
        "author_id": message.author_id,
        "author_name": message.author_name,
        "kind": message.kind,
        "text": message.text,
        "reply_to": message.reply_to,
        "sent_at": to_ms(message.sent_at),
        "edited_at": milliseconds(message.edited_at),
        "deleted_at": milliseconds(message.deleted_at),
        "reactions": reactions_text(message.reactions),
    }


def session(row: Row[Any]) -> Session:
    """A row of `sessions`."""
    return Session(
        id=row.id,
        user_id=row.user_id,
        token_hash=row.token_hash,
        created_at=from_ms(row.created_at),
        expires_at=from_ms(row.expires_at),
        label=row.label,
        generation=row.generation,
        rotated_at=instant(row.rotated_at),
    )


def present(room_id: Any, user_id: Any) -> ColumnElement[bool]:
    """Whether a row of `members` is that user's membership of that room, and has not ended."""
    return and_(members.c.room_id == room_id, members.c.user_id == user_id, members.c.left_at.is_(None))


def instant(ms: int | None) -> Time | None:
    """A column that may be empty, as a time."""
    return None if ms is None else from_ms(ms)


def milliseconds(at: Time | None) -> int | None:
    """A time that may be missing, as a column."""
    return None if at is None else to_ms(at)
