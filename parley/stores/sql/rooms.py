"""Rooms and who is in them, as steps of one transaction."""

from collections.abc import Sequence
from typing import Any

from msgspec import UNSET
from msgspec.structs import asdict, replace
from sqlalchemy import (
    Connection,
    Row,
    bindparam,
    delete,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

from parley import permissions
from parley.errors import NameTaken, RoomFull, RoomNotFound, UserNotFound
from parley.ids import Time, as_id, to_ms
from parley.models import Member, Role, Room, RoomChange
from parley.stores.rules import is_left_alone, resettled, too_many
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
_other = members.alias("other")
_peer = users.alias("peer")
_PEER_NAMED = rows.as_peer(_peer)
_ROOMS_OF = (
    select(rooms, members.c.user_id.label("seen_by"), members.c.role, members.c.read_seq, *_PEER_NAMED)
    .join_from(members, rooms)
    .outerjoin(
        _other,
        (rooms.c.kind == "direct")
        & (_other.c.room_id == members.c.room_id)
        & (_other.c.user_id != members.c.user_id),
    )
    .outerjoin(_peer, _peer.c.id == _other.c.user_id)
    .where(_OPEN, members.c.left_at.is_(None))
    .order_by(members.c.joined_at, rooms.c.id)
)
_PEER = (
    select(*_PEER_NAMED)
    .join_from(_other, _peer, _peer.c.id == _other.c.user_id)
    .where(_other.c.room_id == bindparam("room_id"), _other.c.user_id != bindparam("user_id"))
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
_HERE = rows.MEMBERS.where(_OF_USER)
_OWNERS = select(func.count()).where(
    members.c.room_id == bindparam("here"), members.c.left_at.is_(None), members.c.role == Role.OWNER.value
)
_MEMBER = update(members).where(_OF_USER)
_OF_ROOM_PRESENT = (members.c.room_id == bindparam("here")) & members.c.left_at.is_(None)
_ALL_STAMPED = update(members).where(_OF_ROOM_PRESENT)
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


def add_room(
    connection: Connection, room: Room, owner_id: str | None, peer_id: str | None, most: int | None
) -> None:
    counters.make_room(connection, ("rooms",), "PARLEY_MAX_ROOMS", most)
    try:
        connection.execute(insert(rooms), rows.room_values(room))
    except IntegrityError:
        raise NameTaken from None
    for user_id in (owner_id, peer_id):
        if user_id is not None:
            role = Role.OWNER if peer_id is None else Role.MEMBER
            join(connection, room.id, user_id, role, room.created_at)
    counters.add(connection, {"rooms": 1})


def room(connection: Connection, key: str, user_id: str | None) -> Room | None:
    id_ = as_id(key)
    statement = _ROOM_BY_ID if id_ else _ROOM_BY_NAME
    row = connection.execute(statement, {"key": id_ or key, "user_id": user_id}).first()
    if row is None:
        return None
    if row.kind != "direct" or row.role is None:
        return _seen(row)
    return _seen(row, connection.execute(_PEER, {"room_id": row.id, "user_id": user_id}).first())


def rooms_of(connection: Connection, user_ids: Sequence[str]) -> dict[str, list[Room]]:
    mine: dict[str, list[Room]] = {user_id: [] for user_id in user_ids}
    asked = members.c.user_id.in_(rows.listed(connection, user_ids))
    for row in connection.execute(_ROOMS_OF.where(asked)):
        mine[row.seen_by].append(_seen(row, row if row.peer_id is not None else None))
    return mine


def public_rooms(connection: Connection, after: str | None, limit: int) -> list[Room]:
    found = connection.execute(_PUBLIC, {"after": after or "", "limit": limit})
    return [rows.room(row) for row in found]


def heads(connection: Connection, room_ids: Sequence[str]) -> dict[str, int]:
    asked = rooms.c.id.in_(rows.listed(connection, room_ids))
    statement = select(rooms.c.id, rooms.c.revision).where(_OPEN, asked)
    return {row.id: row.revision for row in connection.execute(statement)}


def change_room(connection: Connection, room_id: str, change: RoomChange, by: str | None) -> Room | None:
    row = _open_locked(connection, room_id)
    if by is not None:
        permissions.may_change(row.kind, _role(connection, room_id, by))
    was = rows.room(row)
    room = resettled(was, change)
    if room == was:
        return None
    revision = row.revision + 1
    values = {each: getattr(room, each) for each in asdict(change) if each != "expires_at"}
    values |= {
        "expires_at": rows.milliseconds(room.expires_at),
        "revision": revision,
        "settings_revision": revision,
    }
    connection.execute(_MOVED, {"moved": room_id, **values, **_trimmed(connection, row, room.history_limit)})
    if room.kind != was.kind == "public":
        connection.execute(_ALL_STAMPED, {"here": room_id, "revision": revision})
    return rows.room(open_room(connection, room_id))


def _trimmed(connection: Connection, room: Row[Any], history_limit: int | None) -> dict[str, int]:
    """Delete what is more than the room is to keep; what then has to be written down of it."""
    first_seq = room.first_seq if history_limit is None else room.last_seq - history_limit + 1
    if first_seq <= room.first_seq:
        return {}
    surplus = (messages.c.room_id == room.id) & (messages.c.seq < first_seq)
    gone = connection.execute(delete(messages).where(surplus).returning(messages.c.revision)).scalars()
    counters.add(connection, {"messages": room.first_seq - first_seq})
    return {"first_seq": first_seq, "trimmed_revision": max(room.trimmed_revision, *gone)}


def close_room(
    connection: Connection, room_id: str, at: Time, by: str | None, only_if_empty: bool
) -> Room | None:
    row = _open_locked(connection, room_id)
    if by is not None:
        permissions.may_close(row.kind, _role(connection, room_id, by))
    if only_if_empty and not is_left_alone(rows.room(row)):
        return None
    room = close(connection, row, at)
    counters.add(connection, {"rooms": -1, "messages": -room.message_count})
    return room


def close(connection: Connection, room: Row[Any], at: Time) -> Room:
    """Close a locked room. Its counts are the caller's to mend."""
    revision = room.revision + 1
    values = {"closed_at": to_ms(at), "revision": revision, "settings_revision": revision}
    connection.execute(_MOVED, {"moved": room.id, **values})
    return rows.room(connection.execute(select(rooms).where(rooms.c.id == room.id)).one())


def owns_room(connection: Connection, user_id: str, closed_after: Time) -> bool:
    keeps = rooms.c.closed_at.is_(None) | (rooms.c.closed_at > to_ms(closed_after))
    mine = select(rooms.c.id).where(rooms.c.created_by == user_id, keeps).limit(1)
    return connection.execute(mine).first() is not None


def join(
    connection: Connection,
    room_id: str,
    user_id: str,
    role: Role,
    at: Time,
    by: str | None = None,
    most: int | None = None,
) -> Member | None:
    room = _open_locked(connection, room_id)
    former = connection.execute(_HERE, {"here": room_id, "who": user_id}).first()
    is_in = former is not None and former.left_at is None
    if by == user_id and not is_in:
        permissions.may_join(room.kind, role)
    elif by is not None and by != user_id:
        permissions.may_add(room.kind, _role(connection, room_id, by), role)
    hold_user(connection, user_id)
    if is_in:
        return None
    if room.capacity is not None and room.member_count >= room.capacity:
        raise RoomFull
    if most is not None and room.member_count >= most:
        raise too_many("PARLEY_MAX_ROOM_MEMBERS", most)
    values = {"role": role.value, "joined_at": to_ms(at), "left_at": None}
    values |= _moved(connection, room, 1, stamped=room.kind != "public")
    if former is None:
        new = {"room_id": room_id, "user_id": user_id, "read_seq": 0, "revision": 0}
        connection.execute(insert(members), new | values)
    else:
        connection.execute(_MEMBER, {"here": room_id, "who": user_id, **values})
    return _member(connection, room_id, user_id)


def hold_user(connection: Connection, user_id: str) -> None:
    """See to it that a user stays until this transaction ends. Raises `UserNotFound`."""
    if connection.execute(_USER_HELD, {"user_id": user_id}).first() is None:
        raise UserNotFound


def lock_rooms_of(connection: Connection, user_ids: Sequence[str]) -> Sequence[str]:
    """Lock all rooms that these users are in, in the order of the ids, and return those."""
    return connection.execute(_LOCKED_ALL, {"user_ids": user_ids}).scalars().all()


def leave(
    connection: Connection, room_id: str, user_id: str, at: Time, by: str | None = None
) -> Member | None:
    room = _locked(connection, room_id)
    if by is not None and (room is None or room.closed_at is not None):
        raise RoomNotFound
    if room is None:
        return None
    found = connection.execute(_HERE, {"here": room_id, "who": user_id}).first()
    role = Role(found.role) if found is not None and found.left_at is None else None
    if by is not None and by != user_id:
        permissions.may_remove(room.kind, _role(connection, room_id, by), role)
    if role is None:
        return None
    if by == user_id:
        owners = _owners(connection, room_id)
        permissions.may_leave(room.kind, role, owners=owners, members=room.member_count)
    values = {"left_at": to_ms(at)} | _moved(connection, room, -1, stamped=room.kind != "public")
    connection.execute(_MEMBER, {"here": room_id, "who": user_id, **values})
    return _member(connection, room_id, user_id)


def change_role(
    connection: Connection, room_id: str, user_id: str, role: Role, by: str | None
) -> Member | None:
    room = _open_locked(connection, room_id)
    was = _role(connection, room_id, user_id)
    if by is not None:
        asks, owners = _role(connection, room_id, by), _owners(connection, room_id)
        permissions.may_change_role(room.kind, asks, was or role, role, owners=owners)
    if was is None:
        raise UserNotFound
    if was is role:
        return None
    values = {"role": role.value} | _moved(connection, room, 0, stamped=True)
    connection.execute(_MEMBER, {"here": room_id, "who": user_id, **values})
    return _member(connection, room_id, user_id)


def moved(connection: Connection, since: Time) -> set[str]:
    ms = to_ms(since)
    came, went = (
        select(members.c.user_id).where(moment >= ms) for moment in (members.c.joined_at, members.c.left_at)
    )
    return set(connection.execute(came.union(went)).scalars())


def memberships_of(connection: Connection, user_id: str) -> list[Member]:
    found = rows.MEMBERS.where(members.c.user_id == user_id).order_by(members.c.room_id)
    return [rows.member(row) for row in connection.execute(found)]


def list_members(connection: Connection, room_id: str, after: str | None, limit: int) -> list[Member]:
    found = connection.execute(_MEMBERS, {"room_id": room_id, "after": after or "", "limit": limit})
    return [rows.member(row) for row in found]


def _seen(row: Row[Any], peer: Row[Any] | None = None) -> Room:
    """The room as the user of that membership sees it, or as a stranger where there is none."""
    room = rows.room(row)
    if row.role is None:
        return room
    unread = room.last_seq - row.read_seq
    other = rows.peer(peer) if peer is not None else UNSET
    return replace(room, role=Role(row.role), read_seq=row.read_seq, unread=unread, peer=other)


def _member(connection: Connection, room_id: str, user_id: str) -> Member:
    return rows.member(connection.execute(_HERE, {"here": room_id, "who": user_id}).one())


def _role(connection: Connection, room_id: str, user_id: str) -> Role | None:
    """The role of a present member."""
    row = connection.execute(_HERE, {"here": room_id, "who": user_id}).first()
    return Role(row.role) if row is not None and row.left_at is None else None


def _owners(connection: Connection, room_id: str) -> int:
    return int(connection.execute(_OWNERS, {"here": room_id}).scalar_one())


def _locked(connection: Connection, room_id: str) -> Row[Any] | None:
    """The row of a room, open or closed, which nobody else changes until this transaction ends."""
    return connection.execute(_LOCKED, {"room_id": room_id}).first()


def _open_locked(connection: Connection, room_id: str) -> Row[Any]:
    room = _locked(connection, room_id)
    if room is None or room.closed_at is not None:
        raise RoomNotFound
    return room


def _moved(connection: Connection, room: Row[Any], step: int, *, stamped: bool) -> dict[str, int]:
    """Count one member more or less, and return the revision to stamp on the membership, if any."""
    revision = room.revision + stamped
    values = {"member_count": room.member_count + step, "revision": revision}
    connection.execute(_MOVED, {"moved": room.id, **values})
    return {"revision": revision} if stamped else {}
