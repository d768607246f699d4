"""The chat in an SQL database: an SQLite file, or a PostgreSQL server that many nodes share."""

import re
from collections.abc import AsyncIterator, Sequence

from msgspec.structs import replace
from sqlalchemy import Connection, make_url, select
from sqlalchemy.exc import ArgumentError

from parley.errors import InternalError, ParleyError, StartError, StoreUnavailable
from parley.ids import Time, new_id
from parley.models import (
    Applied,
    Change,
    Changes,
    Mark,
    Marked,
    Member,
    Message,
    Role,
    Room,
    RoomChange,
    Session,
    Stats,
    User,
)
from parley.stores.base import Found, Query, Record
from parley.stores.sql import copy, counters, history, migrate, people, rooms, search, upkeep
from parley.stores.sql.database import Database
from parley.stores.sql.schema import meta


class SqlStore:
    """Keeps the promises of `Store`.

    Each step is one transaction, a function in the module of its noun; how they run, and the append, are
    the database's. `synchronous` is SQLite's: with `FULL` what is acknowledged outlives a
    power cut, with `NORMAL` only a crash of the process, and with `OFF` a power cut may damage the
    file. Raises `StartError` for a URL that makes no sense.
    """

    epoch: str

    def __init__(self, url: str, *, synchronous: str = "FULL") -> None:
        self._database = _database(url, synchronous)

    async def open(self) -> None:
        await self._database.open()
        self.epoch = await self.keep("epoch", new_id())

    async def migrate(self) -> tuple[str | None, str]:
        """Bring the schema up to date instead of opening. Returns its revision of before, None for an
        empty database, and the one of now. Raises `StartError`."""
        return await self._database.migrate(), migrate.HEAD

    async def close(self) -> None:
        await self._database.close()

    async def ping(self) -> None:
        await self._database.read(_ping)

    async def keep(self, name: str, value: str) -> str:
        return await self._database.write(people.keep, name, value)

    async def kept(self, name: str) -> str | None:
        return await self._database.read(people.kept, name)

    # People

    async def add_user(
        self,
        user: User,
        rooms: Sequence[str] = (),
        password_hash: str | None = None,
        most: int | None = None,
    ) -> None:
        await self._database.write(people.add_user, user, rooms, password_hash, most)

    async def user(self, key: str) -> User | None:
        return await self._database.read(people.user, key)

    async def users(self, user_ids: Sequence[str]) -> dict[str, User]:
        return await self._database.read(people.users_of, user_ids)

    async def password_hash(self, user_id: str) -> str | None:
        return await self._database.read(people.password_hash, user_id)

    async def find_users(self, text: str, after: str | None, limit: int) -> list[User]:
        return await self._database.read(people.find_users, text, after, limit)

    async def change_user(self, user_id: str, display_name: str) -> User:
        return await self._database.write(people.change_user, user_id, display_name)

    async def change_password(self, user_id: str, password_hash: str) -> None:
        await self._database.write(people.change_password, user_id, password_hash)

    async def remove_user(self, user_id: str, at: Time) -> None:
        await self._database.write(upkeep.remove_user, user_id, at)

    async def add_session(self, session: Session) -> None:
        await self._database.write(people.add_session, session)

    async def sessions(self, session_ids: Sequence[str]) -> dict[str, tuple[Session, User]]:
        return await self._database.read(people.sessions_by_id, session_ids)

    async def sessions_of(self, user_id: str) -> list[Session]:
        return await self._database.read(people.sessions_of, user_id)

    async def rotate_session(
        self, session_id: str, generation: int, at: Time, expires_at: Time
    ) -> Session | None:
        return await self._database.write(people.rotate_session, session_id, generation, at, expires_at)

    async def extend_sessions(self, expires_at: dict[str, Time]) -> None:
        await self._database.write(people.extend_sessions, expires_at)

    async def end_session(self, session_id: str) -> None:
        await self._database.write(people.end_session, session_id)

    async def saw(self, users: dict[str, Time]) -> None:
        await self._database.write(people.saw, users)

    async def expire_guests(self, at: Time, idle_since: Time, limit: int) -> list[str]:
        return await self._database.write(upkeep.expire_guests, at, idle_since, limit)

    async def report(self, node_id: str, until: Time, came: Sequence[str], went: Sequence[str]) -> bool:
        return await self._database.write(people.report, node_id, until, came, went)

    async def online(self, at: Time, but: str) -> dict[str, set[str]]:
        return await self._database.read(people.online, at, but)

    # Rooms

    async def add_room(
        self,
        room: Room,
        owner_id: str | None = None,
        peer_id: str | None = None,
        most: int | None = None,
    ) -> None:
        await self._database.write(rooms.add_room, room, owner_id, peer_id, most)

    async def room(self, key: str, user_id: str | None = None) -> Room | None:
        return await self._database.read(rooms.room, key, user_id)

    async def rooms_of(self, user_ids: Sequence[str]) -> dict[str, list[Room]]:
        return await self._database.read(rooms.rooms_of, user_ids)

    async def public_rooms(self, after: str | None, limit: int) -> list[Room]:
        return await self._database.read(rooms.public_rooms, after, limit)

    async def heads(self, room_ids: Sequence[str]) -> dict[str, int]:
        return await self._database.read(rooms.heads, room_ids)

    async def change_room(self, room_id: str, change: RoomChange, by: str | None = None) -> Room | None:
        return await self._database.write(rooms.change_room, room_id, change, by)

    async def close_room(
        self, room_id: str, at: Time, by: str | None = None, only_if_empty: bool = False
    ) -> Room | None:
        return await self._database.write(rooms.close_room, room_id, at, by, only_if_empty)

    async def owns_room(self, user_id: str, closed_after: Time) -> bool:
        return await self._database.read(rooms.owns_room, user_id, closed_after)

    async def close_due_rooms(self, at: Time, limit: int) -> list[Room]:
        return await self._database.write(upkeep.close_due_rooms, at, limit)

    # Members

    async def join(
        self,
        room_id: str,
        user_id: str,
        role: Role,
        at: Time,
        by: str | None = None,
        most: int | None = None,
    ) -> Member | None:
        return await self._database.write(rooms.join, room_id, user_id, role, at, by, most)

    async def leave(self, room_id: str, user_id: str, at: Time, by: str | None = None) -> Member | None:
        return await self._database.write(rooms.leave, room_id, user_id, at, by)

    async def change_role(
        self, room_id: str, user_id: str, role: Role, by: str | None = None
    ) -> Member | None:
        return await self._database.write(rooms.change_role, room_id, user_id, role, by)

    async def moved(self, since: Time) -> set[str]:
        return await self._database.read(rooms.moved, since)

    async def memberships_of(self, user_id: str) -> list[Member]:
        return await self._database.read(rooms.memberships_of, user_id)

    async def members(self, room_id: str, after: str | None, limit: int) -> list[Member]:
        return await self._database.read(rooms.list_members, room_id, after, limit)

    # History

    async def apply(self, changes: Sequence[Change]) -> list[Applied | ParleyError]:
        try:
            return await self._database.apply(changes)
        except InternalError as error:
            # Something in the batch cannot be stored. Halving finds it, so that it fails alone.
            if len(changes) == 1:
                return [error]
            middle = len(changes) // 2
            return [*await self._half(changes[:middle]), *await self._half(changes[middle:])]

    async def _half(self, changes: Sequence[Change]) -> list[Applied | ParleyError]:
        try:
            return await self.apply(changes)
        except StoreUnavailable as error:
            # The other half may be stored already, and must be told so.
            return [error] * len(changes)

    async def page(
        self, room_id: str, *, before: int | None = None, after: int | None = None, limit: int
    ) -> list[Message]:
        return await self._database.read(history.page, room_id, before, after, limit)

    async def changes(self, room_id: str, since: int, limit: int) -> Changes:
        return await self._database.read(history.changes, room_id, since, limit)

    async def mark_read(self, marks: Sequence[Mark]) -> list[Marked | ParleyError]:
        return await self._database.write(history.mark_read, marks)

    async def disown(self, room_id: str, user_id: str, after: int, limit: int) -> int | None:
        return await self._database.write(history.disown, room_id, user_id, after, limit)

    async def search(self, query: Query) -> Found:
        is_behind = True
        for _ in range(search.CATCH_UP_STEPS):
            is_behind = await self.index()
            if not is_behind:
                break
        found = await self._database.search(search.search, query)
        return replace(found, complete=not is_behind)

    # Upkeep

    async def index(self) -> bool:
        return await self._database.write(search.index)

    async def purge(self, before: Time, limit: int) -> int:
        return await self._database.write(upkeep.purge, before, limit)

    async def stats(self, at: Time) -> Stats:
        return await self._database.read(counters.stats, at)

    def dump(self) -> AsyncIterator[Record]:
        return copy.dump(self._database)

    async def load(self, records: Sequence[Record]) -> None:
        await self._database.write(copy.load, records)


def _database(url: str, synchronous: str) -> Database:
    try:
        parts = make_url(url)
    except (ArgumentError, ValueError):
        raise _useless(url, "that is no URL; write sqlite:///parley.db") from None
    # Each driver is loaded only where it is used.
    if parts.drivername == "postgresql":
        from parley.stores.sql.postgres import PostgresDatabase  # noqa: PLC0415
        from parley.stores.sql.server import Server  # noqa: PLC0415

        return PostgresDatabase(Server(parts))
    from parley.stores.sql.sqlite import SqliteDatabase  # noqa: PLC0415

    if parts.drivername != "sqlite" or parts.host or parts.query:
        raise _useless(url, "write sqlite:/// and the path of a file")
    if not parts.database or parts.database == ":memory:":
        raise _useless(url, "name a file, or write memory:// to keep nothing")
    return SqliteDatabase(parts.database, synchronous)


def _useless(url: str, reason: str) -> StartError:
    without_password = re.sub("(?<=://).*@", "***@", url)
    return StartError(f"cannot use the store {without_password}: {reason}")


def _ping(connection: Connection) -> None:
    connection.execute(select(meta.c.value).limit(1))
