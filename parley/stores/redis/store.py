"""The chat in Redis."""

import re
from collections.abc import AsyncIterator, Sequence

from parley.errors import ParleyError, StartError
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
from parley.security import masked
from parley.stores.base import Found, Query, Record
from parley.stores.redis import (
    append,
    copy,
    counters,
    guests,
    history,
    members,
    people,
    presence,
    rooms,
    search,
    sessions,
    start,
    upkeep,
)
from parley.stores.redis.servers import Servers

_URL = re.compile(r"rediss?://[^/?#]+(/\d*)?")


class RedisStore:
    """Keeps the promises of `Store`, at `redis://[user:password@]host:port/db`, or `rediss://` with TLS.

    Each step is a function in the module of its noun. Whether a cluster answers there is found out by `open`.
    Raises `StartError` for a URL that makes no sense.
    """

    epoch: str

    def __init__(self, url: str) -> None:
        self._shown_url = re.sub(r"//.*@", "//***@", masked(url))
        try:
            if not _URL.fullmatch(url):
                raise ValueError
            self._servers = Servers(url)
        except ValueError:
            # The driver repeats what it stumbled over, which may be a part of the password.
            raise StartError(
                f"{self._shown_url}: that is no URL; write redis://user:password@host:port/0"
            ) from None
        self._sent = counters.Sent(self._servers)

    async def open(self) -> None:
        try:
            await start.connect(self._servers, self._shown_url)
            self.epoch = await self.keep("epoch", new_id())
        except ParleyError as error:
            await self._servers.close()
            raise StartError(f"{self._shown_url}: {error.detail}") from None
        except BaseException:
            await self._servers.close()
            raise

    async def close(self) -> None:
        await self._sent.close()
        await self._servers.close()

    async def ping(self) -> None:
        await self.room("")

    async def keep(self, name: str, value: str) -> str:
        return await people.keep(self._servers, name, value)

    async def kept(self, name: str) -> str | None:
        return await people.kept(self._servers, name)

    # People

    async def add_user(
        self,
        user: User,
        rooms: Sequence[str] = (),
        password_hash: str | None = None,
        most: int | None = None,
    ) -> None:
        await people.add_user(self._servers, user, rooms, password_hash, most)

    async def user(self, key: str) -> User | None:
        return await people.user(self._servers, key)

    async def users(self, user_ids: Sequence[str]) -> dict[str, User]:
        return await people.users(self._servers, user_ids)

    async def password_hash(self, user_id: str) -> str | None:
        return await people.password_hash(self._servers, user_id)

    async def find_users(self, text: str, after: str | None, limit: int) -> list[User]:
        return await people.find_users(self._servers, text, after, limit)

    async def change_user(self, user_id: str, display_name: str) -> User:
        return await people.change_user(self._servers, user_id, display_name)

    async def change_password(self, user_id: str, password_hash: str) -> None:
        await people.change_password(self._servers, user_id, password_hash)

    async def remove_user(self, user_id: str, at: Time) -> None:
        await people.remove_user(self._servers, user_id, at)

    async def add_session(self, session: Session) -> None:
        await sessions.add_session(self._servers, session)

    async def sessions(self, session_ids: Sequence[str]) -> dict[str, tuple[Session, User]]:
        return await sessions.sessions(self._servers, session_ids)

    async def sessions_of(self, user_id: str) -> list[Session]:
        return await sessions.sessions_of(self._servers, user_id)

    async def rotate_session(
        self, session_id: str, generation: int, at: Time, expires_at: Time
    ) -> Session | None:
        return await sessions.rotate_session(self._servers, session_id, generation, at, expires_at)

    async def extend_sessions(self, expires_at: dict[str, Time]) -> None:
        await sessions.extend_sessions(self._servers, expires_at)

    async def end_session(self, session_id: str) -> None:
        await sessions.end_session(self._servers, session_id)

    async def saw(self, users: dict[str, Time]) -> None:
        await people.saw(self._servers, users)

    async def report(self, node_id: str, until: Time, came: Sequence[str], went: Sequence[str]) -> bool:
        return await presence.report(self._servers, node_id, until, came, went)

    async def online(self, at: Time, but: str) -> dict[str, set[str]]:
        return await presence.online(self._servers, at, but)

    async def expire_guests(self, at: Time, idle_since: Time, limit: int) -> list[str]:
        return await guests.expire_guests(self._servers, at, idle_since, limit)

    # Rooms

    async def add_room(
        self,
        room: Room,
        owner_id: str | None = None,
        peer_id: str | None = None,
        most: int | None = None,
    ) -> None:
        await rooms.add_room(self._servers, room, owner_id, peer_id, most)

    async def room(self, key: str, user_id: str | None = None) -> Room | None:
        return await rooms.room(self._servers, key, user_id)

    async def rooms_of(self, user_ids: Sequence[str]) -> dict[str, list[Room]]:
        return await rooms.rooms_of(self._servers, user_ids)

    async def public_rooms(self, after: str | None, limit: int) -> list[Room]:
        return await rooms.public_rooms(self._servers, after, limit)

    async def heads(self, room_ids: Sequence[str]) -> dict[str, int]:
        return await rooms.heads(self._servers, room_ids)

    async def change_room(self, room_id: str, change: RoomChange, by: str | None = None) -> Room | None:
        return await rooms.change_room(self._servers, room_id, change, by)

    async def close_room(
        self, room_id: str, at: Time, by: str | None = None, only_if_empty: bool = False
    ) -> Room | None:
        return await upkeep.close_room(self._servers, room_id, at, by, only_if_empty)

    async def owns_room(self, user_id: str, closed_after: Time) -> bool:
        return await rooms.owns_room(self._servers, user_id, closed_after)

    async def close_due_rooms(self, at: Time, limit: int) -> list[Room]:
        return await upkeep.close_due_rooms(self._servers, at, limit)

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
        return await members.join(self._servers, room_id, user_id, role, at, by, most)

    async def leave(self, room_id: str, user_id: str, at: Time, by: str | None = None) -> Member | None:
        return await members.leave(self._servers, room_id, user_id, at, by)

    async def change_role(
        self, room_id: str, user_id: str, role: Role, by: str | None = None
    ) -> Member | None:
        return await members.change_role(self._servers, room_id, user_id, role, by)

    async def moved(self, since: Time) -> set[str]:
        return await members.moved(self._servers, since)

    async def memberships_of(self, user_id: str) -> list[Member]:
        return await members.memberships_of(self._servers, user_id)

    async def members(self, room_id: str, after: str | None, limit: int) -> list[Member]:
        return await members.members(self._servers, room_id, after, limit)

    # History

    async def apply(self, changes: Sequence[Change]) -> list[Applied | ParleyError]:
        results = await append.apply(self._servers, changes)
        if messages := append.sent_now(changes, results):
            self._sent.add(messages)
        return results

    async def page(
        self, room_id: str, *, before: int | None = None, after: int | None = None, limit: int
    ) -> list[Message]:
        return await history.page(self._servers, room_id, before, after, limit)

    async def changes(self, room_id: str, since: int, limit: int) -> Changes:
        return await history.changes(self._servers, room_id, since, limit)

    async def mark_read(self, marks: Sequence[Mark]) -> list[Marked | ParleyError]:
        return await history.mark_read(self._servers, marks)

    async def disown(self, room_id: str, user_id: str, after: int, limit: int) -> int | None:
        return await history.disown(self._servers, room_id, user_id, after, limit)

    async def search(self, query: Query) -> Found:
        return await search.search(self._servers, query)

    # Upkeep

    async def index(self) -> bool:
        return False

    async def purge(self, before: Time, limit: int) -> int:
        return await upkeep.purge(self._servers, before, limit)

    async def stats(self, at: Time) -> Stats:
        await self._sent.tell()
        return await counters.stats(self._servers, at)

    def dump(self) -> AsyncIterator[Record]:
        return copy.dump(self._servers)

    async def load(self, records: Sequence[Record]) -> None:
        await copy.load(self._servers, records)
