"""The chat in Redis."""

import re
from collections.abc import Sequence

from parley.errors import ParleyError, StartError
from parley.ids import Time, new_id
from parley.models import Applied, Change, Changes, Member, Message, Role, Room, Session, User
from parley.stores.redis import append, history, people, rooms, start
from parley.stores.redis.servers import Servers


class RedisStore:
    """Keeps the promises of `Store`, at `redis://[user:password@]host:port/db`, or `rediss://` with TLS.

    Each step is a function in `people`, `rooms`, `history` or `append`. Whether a cluster answers there is
    found out by `open`. Raises `StartError` for a URL that makes no sense.
    """

    epoch: str

    def __init__(self, url: str) -> None:
        self._shown_url = re.sub(r"//[^/]*@", "//***@", url)
        try:
            self._servers = Servers(url)
        except ValueError as error:
            raise StartError(f"{self._shown_url}: {error}") from None

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
        await self._servers.close()

    async def ping(self) -> None:
        await self.room("")

    async def keep(self, name: str, value: str) -> str:
        return await people.keep(self._servers, name, value)

    # People

    async def add_user(self, user: User, rooms: Sequence[str] = ()) -> None:
        await people.add_user(self._servers, user, rooms)

    async def user(self, key: str) -> User | None:
        return await people.user(self._servers, key)

    async def add_session(self, session: Session) -> None:
        await people.add_session(self._servers, session)

    async def session(self, token_hash: bytes) -> tuple[Session, User] | None:
        return await people.session(self._servers, token_hash)

    async def extend_sessions(self, expires_at: dict[str, Time]) -> None:
        await people.extend_sessions(self._servers, expires_at)

    async def end_session(self, session_id: str) -> None:
        await people.end_session(self._servers, session_id)

    # Rooms

    async def add_room(self, room: Room, owner_id: str | None = None) -> None:
        await rooms.add_room(self._servers, room, owner_id)

    async def room(self, key: str, user_id: str | None = None) -> Room | None:
        return await rooms.room(self._servers, key, user_id)

    async def rooms_of(self, user_id: str) -> list[Room]:
        return await rooms.rooms_of(self._servers, user_id)

    async def public_rooms(self, after: str | None, limit: int) -> list[Room]:
        return await rooms.public_rooms(self._servers, after, limit)

    async def heads(self, room_ids: Sequence[str]) -> dict[str, int]:
        return await rooms.heads(self._servers, room_ids)

    async def limit_history(self, room_id: str, history_limit: int) -> None:
        await rooms.limit_history(self._servers, room_id, history_limit)

    # Members

    async def join(self, room_id: str, user_id: str, role: Role, at: Time) -> bool:
        return await rooms.join(self._servers, room_id, user_id, role, at)

    async def leave(self, room_id: str, user_id: str, at: Time) -> bool:
        return await rooms.leave(self._servers, room_id, user_id, at)

    async def members(self, room_id: str, after: str | None, limit: int) -> list[Member]:
        return await rooms.members(self._servers, room_id, after, limit)

    # History

    async def apply(self, changes: Sequence[Change]) -> list[Applied | ParleyError]:
        return await append.apply(self._servers, changes)

    async def page(
        self, room_id: str, *, before: int | None = None, after: int | None = None, limit: int
    ) -> list[Message]:
        return await history.page(self._servers, room_id, before, after, limit)

    async def changes(self, room_id: str, since: int, limit: int) -> Changes:
        return await history.changes(self._servers, room_id, since, limit)

    async def mark_read(self, room_id: str, user_id: str, seq: int) -> int:
        return await history.mark_read(self._servers, room_id, user_id, seq)
