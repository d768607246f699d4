"""Rooms and who is in them, as steps of one transaction."""

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec.structs import replace
from sqlalchemy import (
    JSON,
    Connection,
    Row,
    Text,
    bindparam,
    cast,
    column,
    delete,
    func,
    insert,
    literal,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

from parley.errors import NameTaken, RoomFull, RoomNotFound, UserNotFound
from parley.ids import Time, as_id, to_ms
from parley.models import Member, Role, Room
from parley.stores.sql import counters, rows
from parley.stores.sql.schema import members, messages, rooms, users

_OPEN = rooms.c.closed_at.is_(None)
_OPEN_ROOM = select(rooms).where(rooms.c.id == bindparam("room_id"), _OPEN)
_ROOM_SEEN = (
    select(rooms, members.c.role, members.c.read_seq)
    .outerjoin_from(rooms, members, rows.present(rooms.c.id, bindparam("user_id")))
    .where(_OPEN)
)
_ROOM_BY_ID = _ROOM_SEEN.where(rooms.c.id == bindparam("key"))
_ROOM_BY_NAME = _ROOM_SEEN.where(rooms.c.name == bindparam("key"))
_ROOMS_OF = (
    select(rooms, members.c.role, members.c.read_seq)
    .join_from(members, rooms)
    .where(_OPEN, members.c.user_id == bindparam("user_id"), members.c.left_at.is_(None))
    .order_by(members.c.joined_at, rooms.c.id)
)
_PUBLIC = (
    select(rooms)
    .where(_OPEN, rooms.c.kind == "public", rooms.c.id > bindparam("after"))
    .order_by(rooms.c.id)
    .limit(bindparam("limit"))
)
_LOCKED = select(rooms).where(rooms.c.id == bindparam("room_id")).with_for_update(key_share=True)
_MOVED = update(rooms).where(rooms.c.id == bindparam("moved"))
_USER_HELD = (
    select(users.c.id)
    .where(users.c.id == bindparam("user_id"), users.c.deleted_at.is_(None))
    .with_for_update(read=True, key_share=True)
)
_ROOMS_OF_ALL = (
    select(members.c.room_id)
    .where(members.c.user_id.in_(bindparam("user_ids", expanding=True)), members.c.left_at.is_(None))
    .distinct()
)
_LOCKED_ALL = select(rooms.c.id).where(rooms.c.id.in_(_ROOMS_OF_ALL)).order_by(rooms.c.id)
_LOCKED_ALL = _LOCKED_ALL.with_for_update(key_share=True)

_OF_USER = (members.c.room_id == bindparam("here")) & (members.c.user_id == bindparam("who"))
_LEFT_AT = select(members.c.left_at).where(_OF_USER)
_MEMBER = update(members).where(_OF_USER)
_MEMBERS = (
    rows.MEMBERS.where(members.c.room_id == bindparam("room_id"), members.c.left_at.is_(None))
    .where(members.c.user_id > bindparam("after"))
    .order_by(members.c.user_id)
    .limit(bindparam("limit"))
)


def open_room(connection: Connection, room_id: str) -> Row[Any]:
    """The row of an open room. Raises `RoomNotFound`."""
    row = connection.execute(_OPEN_ROOM, {"room_id": room_id}).first()
    if row is None:
        raise RoomNotFound
    return row


def add_room(connection: Connection, room: Room, owner_id: str | None) -> None:
    try:
        connection.execute(insert(rooms), rows.room_values(room))
    except IntegrityError:
        raise NameTaken from None
    if owner_id is not None:
        join(connection, room.id, owner_id, Role.OWNER, room.created_at)
    counters.add(connection, {"rooms": 1})


def room(connection: Connection, key: str, user_id: str | None) -> Room | None:
    id_ = as_id(key)
    statement = _ROOM_BY_ID if id_ else _ROOM_BY_NAME
    row = connection.execute(statement, {"key": id_ or key, "user_id": user_id}).first()
    return _seen(row) if row is not None else None


def rooms_of(connection: Connection, user_id: str) -> list[Room]:
    return [_seen(row) for row in connection.execute(_ROOMS_OF, {"user_id": user_id})]


def public_rooms(connection: Connection, after: str | None, limit: int) -> list[Room]:
    found = connection.execute(_PUBLIC, {"after": after or "", "limit": limit})
    return [rows.room(row) for row in found]


def heads(connection: Connection, room_ids: Sequence[str]) -> dict[str, int]:
    # One JSON text, because the number of parameters that a statement takes is limited.
    text = msgspec.json.encode(room_ids).decode()
    if connection.dialect.name == "sqlite":
        asked = func.json_each(text).table_valued("value")
    else:
        parsed = cast(literal(text, Text), JSON)
        asked = func.json_array_elements_text(parsed).table_valued(column("value", Text))
    statement = select(rooms.c.id, rooms.c.revision).where(_OPEN, rooms.c.id.in_(select(asked.c.value)))
    return {row.id: row.revision for row in connection.execute(statement)}


def limit_history(connection: Connection, room_id: str, history_limit: int) -> None:
    room = _locked(connection, room_id)
    if room is None or room.closed_at is not None:
        raise RoomNotFound
    if room.history_limit != history_limit:
        revision = room.revision + 1
        values = {"history_limit": history_limit, "revision": revision, "settings_revision": revision}
        first_seq = room.last_seq - history_limit + 1
        if first_seq > room.first_seq:
            surplus = (messages.c.room_id == room_id) & (messages.c.seq < first_seq)
            gone = connection.execute(delete(messages).where(surplus).returning(messages.c.revision))
            values["trimmed_revision"] = max(room.trimmed_revision, *gone.scalars())
            values["first_seq"] = first_seq
        connection.execute(_MOVED, {"moved": room_id, **values})
        counters.add(connection, {"messages": min(0, room.first_seq - first_seq)})


def owns_room(connection: Connection, user_id: str, closed_after: Time) -> bool:
    keeps = rooms.c.closed_at.is_(None) | (rooms.c.closed_at > to_ms(closed_after))
    mine = select(rooms.c.id).where(rooms.c.created_by == user_id, keeps).limit(1)
    return connection.execute(mine).first() is not None


def join(connection: Connection, room_id: str, user_id: str, role: Role, at: Time) -> bool:
    room = _locked(connection, room_id)
    if room is None or room.closed_at is not None:
        raise RoomNotFound
    hold_user(connection, user_id)
    membership = {"here": room_id, "who": user_id}
    former = connection.execute(_LEFT_AT, membership).first()
    if former is not None and former.left_at is None:
        return False
    if room.capacity is not None and room.member_count >= room.capacity:
        raise RoomFull
    revision = _moved(connection, room, 1)
    values = {"role": role.value, "joined_at": to_ms(at), "left_at": None, "revision": revision}
    if former is None:
        new = {"room_id": room_id, "user_id": user_id, "read_seq": 0}
        connection.execute(insert(members), {**new, **values})
    else:
        connection.execute(_MEMBER, {**membership, **values})
    return True


def hold_user(connection: Connection, user_id: str) -> None:
    """See to it that a user stays until this transaction ends. Raises `UserNotFound`."""
    if connection.execute(_USER_HELD, {"user_id": user_id}).first() is None:
        raise UserNotFound


def lock_rooms_of(connection: Connection, user_ids: Sequence[str]) -> Sequence[str]:
    """Lock all rooms that these users are in, in the order of the ids, and return those."""
    return connection.execute(_LOCKED_ALL, {"user_ids": user_ids}).scalars().all()


def leave(connection: Connection, room_id: str, user_id: str, at: Time) -> bool:
    room = _locked(connection, room_id)
    membership = {"here": room_id, "who": user_id}
    former = connection.execute(_LEFT_AT, membership).first()
    if room is None or former is None or former.left_at is not None:
        return False
    values = {"left_at": to_ms(at), "revision": _moved(connection, room, -1)}
    connection.execute(_MEMBER, {**membership, **values})
    return True


def list_members(connection: Connection, room_id: str, after: str | None, limit: int) -> list[Member]:
    found = connection.execute(_MEMBERS, {"room_id": room_id, "after": after or "", "limit": limit})
    return [rows.member(row) for row in found]


def _seen(row: Row[Any]) -> Room:
    """The room as the user of that membership sees it, or as a stranger where there is none."""
    room = rows.room(row)
    if row.role is None:
        return room
    unread = room.last_seq - row.read_seq
    return replace(room, role=Role(row.role), read_seq=row.read_seq, unread=unread)


def _locked(connection: Connection, room_id: str) -> Row[Any] | None:
    """The row of a room, open or closed, which nobody else changes until this transaction ends."""
    return connection.execute(_LOCKED, {"room_id": room_id}).first()


def _moved(connection: Connection, room: Row[Any], step: int) -> int:
    """Count one member more or less, and return the revision to stamp on the membership."""
    revision = room.revision if room.kind == "public" else room.revision + 1
    values = {"member_count": room.member_count + step, "revision": revision}
    connection.execute(_MOVED, {"moved": room.id, **values})
    return 0 if room.kind == "public" else revision
