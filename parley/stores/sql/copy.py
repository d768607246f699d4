"""A whole chat out of one database and into another, a thousand rows at a time."""

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, TypeVar

from sqlalchemy import Connection, insert, select

from parley.errors import StartError
from parley.ids import to_ms
from parley.models import Member, Message, Session
from parley.stores.base import Record, RoomState, UserState
from parley.stores.sql import counters, history, rows
from parley.stores.sql.database import Database
from parley.stores.sql.schema import members, messages, rooms, sessions, users

AT_ONCE = 1000

T = TypeVar("T")


async def dump(database: Database) -> AsyncIterator[Record]:
    async for user in _all(database, _users, lambda state: state.user.id):
        yield user
    async for session in _all(database, _sessions, lambda session: session.id):
        yield session
    async for room in _all(database, _rooms, lambda state: state.room.id):
        yield room
        async for record in _history(database, room):
            yield record


async def _history(database: Database, state: RoomState) -> AsyncIterator[Record]:
    room_id = state.room.id
    async for member in _all(database, _members, lambda member: member.user_id, room_id):
        yield member
    after, end = 0, state.room.last_seq + 1
    while page := await database.read(history.page, room_id, end, after, AT_ONCE):
        for message in page:
            yield message
        after = page[-1].seq
    if await database.read(_revision, room_id) != state.room.revision:
        raise StartError(f"room {state.room.name or room_id} goes on meanwhile; stop all nodes first")


async def _all(
    database: Database,
    step: Callable[..., list[T]],
    key: Callable[[T], str],
    *args: Any,
) -> AsyncIterator[T]:
    """What a step finds, page by page, in the order of a key that it is told to go on after."""
    after = ""
    while page := await database.read(step, *args, after):
        for each in page:
            yield each
        after = key(page[-1])


def _users(connection: Connection, after: str) -> list[UserState]:
    found = select(users).where(users.c.id > after).order_by(users.c.id).limit(AT_ONCE)
    return [
        UserState(
            user=rows.user(row),
            deleted_at=rows.instant(row.deleted_at),
            password_hash=row.password_hash,
        )
        for row in connection.execute(found)
    ]


def _sessions(connection: Connection, after: str) -> list[Session]:
    found = select(sessions).where(sessions.c.id > after).order_by(sessions.c.id).limit(AT_ONCE)
    return [rows.session(row) for row in connection.execute(found)]


def _rooms(connection: Connection, after: str) -> list[RoomState]:
    found = select(rooms).where(rooms.c.id > after, rooms.c.closed_at.is_(None))
    return [
        RoomState(
            room=rows.room(row),
            first_seq=row.first_seq,
            trimmed_revision=row.trimmed_revision,
            settings_revision=row.settings_revision,
        )
        for row in connection.execute(found.order_by(rooms.c.id).limit(AT_ONCE))
    ]


def _members(connection: Connection, room_id: str, after: str) -> list[Member]:
    here = (members.c.room_id == room_id) & (members.c.user_id > after)
    found = rows.MEMBERS.where(here).order_by(members.c.user_id).limit(AT_ONCE)
    return [rows.member(row) for row in connection.execute(found)]


def _revision(connection: Connection, room_id: str) -> int | None:
    return connection.execute(select(rooms.c.revision).where(rooms.c.id == room_id)).scalar()


def load(connection: Connection, records: Sequence[Record]) -> None:
    counted = {"users": 0, "guests": 0, "rooms": 0, "messages": 0}
    waiting: list[dict[str, Any]] = []
    table = None
    for record in records:
        into, values = _row(record)
        if into is not table:
            _insert(connection, table, waiting)
            table, waiting = into, []
        waiting.append(values)
        if isinstance(record, UserState) and record.deleted_at is None:
            counted["guests" if record.user.kind == "guest" else "users"] += 1
        elif isinstance(record, RoomState):
            counted["rooms"] += 1
            counted["messages"] += record.room.last_seq - record.first_seq + 1
    _insert(connection, table, waiting)
    counters.add(connection, counted)


def _insert(connection: Connection, table: Any, values: list[dict[str, Any]]) -> None:
    if values:
        connection.execute(insert(table), values)


def _row(record: Record) -> tuple[Any, dict[str, Any]]:
    """The table that a record goes into, and its columns."""
    if isinstance(record, UserState):
        return users, rows.user_values(record.user) | {
            "deleted_at": rows.milliseconds(record.deleted_at),
            "password_hash": record.password_hash,
        }
    if isinstance(record, Session):
        return sessions, rows.session_values(record)
    if isinstance(record, RoomState):
        room = record.room
        return rooms, rows.room_values(room) | {
            "member_count": room.member_count,
            "first_seq": record.first_seq,
            "trimmed_revision": record.trimmed_revision,
            "settings_revision": record.settings_revision,
        }
    if isinstance(record, Message):
        return messages, rows.message_values(record)
    return members, {
        "room_id": record.room_id,
        "user_id": record.user_id,
        "role": record.role.value,
        "joined_at": to_ms(record.joined_at),
        "left_at": rows.milliseconds(record.left_at),
        "read_seq": record.read_seq,
        "revision": record.revision,
    }
