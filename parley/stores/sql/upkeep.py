"""What runs out: rooms whose time is up, guests whom nothing keeps, and what is left of both.

Any number of nodes may run these steps at once: each takes what no other has locked. Rooms are locked first
and in the order of their ids, users after them, so that nobody waits in a circle.
"""

from sqlalchemy import ColumnElement, Connection, delete, exists, or_, select, update

from parley.ids import Time, to_ms
from parley.models import Room
from parley.stores.base import DELETED
from parley.stores.sql import counters, rooms, search
from parley.stores.sql.schema import connected, left_alone, members, messages, nodes, sessions, users
from parley.stores.sql.schema import rooms as rooms_table


def close_due_rooms(connection: Connection, at: Time, limit: int) -> list[Room]:
    closed: list[Room] = []
    # One after the other, as each has an index of its own.
    for due in (rooms_table.c.closed_at.is_(None) & (rooms_table.c.expires_at <= to_ms(at)), left_alone):
        some = select(rooms_table).where(due).order_by(rooms_table.c.id).limit(limit - len(closed))
        found = connection.execute(some.with_for_update(key_share=True, skip_locked=True)).all()
        closed += [rooms.close(connection, room, at) for room in found]
    gone = sum(room.message_count for room in closed)
    counters.add(connection, {"rooms": -len(closed), "messages": -gone})
    return closed


def expire_guests(connection: Connection, at: Time, idle_since: Time, limit: int) -> list[str]:
    idle = select(users.c.id).where(_nothing_keeps(at, idle_since))
    due = connection.execute(idle.order_by(users.c.last_seen_at).limit(limit)).scalars().all()
    if not due:
        return []
    locked = set(rooms.lock_rooms_of(connection, due))
    mine = idle.where(users.c.id.in_(due)).with_for_update(skip_locked=True)
    gone = [
        user_id for user_id in connection.execute(mine).scalars() if _leaves(connection, user_id, locked, at)
    ]
    if gone:
        # Nobody is told of changes in public rooms, so that no tombstones are needed there.
        connection.execute(delete(members).where(members.c.user_id.in_(gone), members.c.revision == 0))
        connection.execute(delete(sessions).where(sessions.c.user_id.in_(gone)))
        connection.execute(update(users).where(users.c.id.in_(gone)).values(deleted_at=to_ms(at)))
        counters.add(connection, {"guests": -len(gone)})
    return gone


def remove_user(connection: Connection, user_id: str, at: Time) -> None:
    locked: set[str] = set()
    while not _leaves(connection, user_id, locked, at):
        locked |= set(rooms.lock_rooms_of(connection, [user_id]))
    there = (users.c.id == user_id) & users.c.deleted_at.is_(None)
    kind = connection.execute(select(users.c.kind).where(there).with_for_update()).scalar()
    if kind is None:
        return
    connection.execute(delete(members).where(members.c.user_id == user_id, members.c.revision == 0))
    connection.execute(delete(sessions).where(sessions.c.user_id == user_id))
    unnamed = {"name": user_id, "display_name": DELETED, "folded_name": DELETED, "password_hash": None}
    connection.execute(update(users).where(there).values(deleted_at=to_ms(at), **unnamed))
    counters.add(connection, {"guests" if kind == "guest" else "users": -1})


def _nothing_keeps(at: Time, idle_since: Time) -> ColumnElement[bool]:
    idle_ms = to_ms(idle_since)
    session = exists().where(sessions.c.user_id == users.c.id, sessions.c.expires_at > to_ms(at))
    room = exists().where(
        rooms_table.c.created_by == users.c.id,
        or_(rooms_table.c.closed_at.is_(None), rooms_table.c.closed_at > idle_ms),
    )
    guest = (users.c.kind == "guest") & users.c.deleted_at.is_(None) & (users.c.last_seen_at <= idle_ms)
    return guest & ~session & ~room


def _leaves(connection: Connection, user_id: str, locked: set[str], at: Time) -> bool:
    """Leave all rooms; False, and nothing is done, if the user has come into another one meanwhile."""
    mine = select(members.c.room_id).where(members.c.user_id == user_id, members.c.left_at.is_(None))
    room_ids = connection.execute(mine).scalars().all()
    if not locked.issuperset(room_ids):
        return False
    for room_id in room_ids:
        rooms.leave(connection, room_id, user_id, at)
    return True


def purge(connection: Connection, before: Time, limit: int) -> int:
    counters.forget(connection, before)
    dead = select(nodes.c.id).where(nodes.c.expires_at <= to_ms(before))
    connection.execute(delete(connected).where(connected.c.node_id.in_(dead)))
    connection.execute(delete(nodes).where(nodes.c.expires_at <= to_ms(before)))
    return (
        _purge_sessions(connection, before, limit)
        + _purge_users(connection, before, limit)
        + _purge_room(connection, before, limit)
    )


def _purge_sessions(connection: Connection, before: Time, limit: int) -> int:
    a_guest = exists().where(users.c.id == sessions.c.user_id, users.c.kind == "guest")
    ended = select(sessions.c.id).where(sessions.c.expires_at <= to_ms(before), ~a_guest)
    ended = ended.limit(limit).with_for_update(skip_locked=True)
    return connection.execute(delete(sessions).where(sessions.c.id.in_(ended))).rowcount


def _purge_users(connection: Connection, before: Time, limit: int) -> int:
    """Those whom no tombstone names any more."""
    gone = (
        select(users.c.id)
        .where(users.c.deleted_at <= to_ms(before))
        .where(~exists().where(members.c.user_id == users.c.id))
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    return connection.execute(delete(users).where(users.c.id.in_(gone))).rowcount


def _purge_room(connection: Connection, before: Time, limit: int) -> int:
    """One room; first its messages, some at a time, and then the rest of it."""
    closed = (
        select(rooms_table.c.id)
        .where(rooms_table.c.closed_at <= to_ms(before))
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    room_id = connection.execute(closed).scalar()
    if room_id is None:
        return 0
    oldest = select(messages.c.seq).where(messages.c.room_id == room_id).order_by(messages.c.seq).limit(limit)
    some = (messages.c.room_id == room_id) & (messages.c.seq.in_(oldest.scalar_subquery()))
    gone = connection.execute(delete(messages).where(some)).rowcount
    if gone < limit:
        search.forget(connection, room_id)
        gone += connection.execute(delete(members).where(members.c.room_id == room_id)).rowcount
        gone += connection.execute(delete(rooms_table).where(rooms_table.c.id == room_id)).rowcount
    return gone
