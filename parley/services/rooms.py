"""Rooms: making, finding, joining and leaving them."""

from collections.abc import Sequence

from msgspec import UNSET
from msgspec.structs import replace

from parley.config import Settings
from parley.errors import InvalidField, NameTaken, NotAllowed, RoomNotFound
from parley.ids import as_id, from_ms, new_id, now, now_ms
from parley.models import LOBBY, MemberList, Role, Room, RoomList, User
from parley.services import names
from parley.services.live import Live
from parley.stores.base import Store

MAX_CACHED_NAMES = 10_000


class Rooms:
    """Rooms and who is in them. A room that a caller may not see does not exist for them."""

    def __init__(self, store: Store, settings: Settings, live: Live) -> None:
        self._store = store
        self._settings = settings
        self._live = live
        self._ids: dict[str, str] = {}
        self.lobby_id = ""

    async def open_lobby(self) -> Room:
        """The room that everybody is in, made at the first start."""
        lobby = await self._store.room(LOBBY)
        if lobby is None:
            lobby = Room(
                id=new_id(),
                name=LOBBY,
                title="Lobby",
                kind="public",
                created_by=None,
                created_at=now(),
                history_limit=self._settings.lobby_history,
            )
            await self._store.add_room(lobby)
        elif lobby.history_limit != self._settings.lobby_history:
            await self._store.limit_history(lobby.id, self._settings.lobby_history)
        self.lobby_id = lobby.id
        return lobby

    def known_id(self, key: str) -> str | None:
        """The room's id, if it can be told without asking the store. The room may be closed or hidden all the
        same."""
        return as_id(key) or self._ids.get(names.room_key(key))

    async def id_of(self, key: str, user_id: str | None) -> str:
        """The id of a room that the caller may see. Raises `RoomNotFound`."""
        return self.known_id(key) or (await self.see(key, user_id)).id

    async def see(self, key: str, user_id: str | None) -> Room:
        """A room that the caller may see: any public one, and those that they are in. Raises
        `RoomNotFound`."""
        room = await self._store.room(names.room_key(key), user_id)
        if room is None or not _may_see(room):
            raise RoomNotFound
        return self._shown(room)

    async def visible(self, room_ids: Sequence[str], user_id: str) -> list[Room]:
        """Those of these rooms that the caller may see; ids only."""
        found = [await self._store.room(each, user_id) for each in room_ids if as_id(each) == each]
        return [self._shown(room) for room in found if room and _may_see(room)]

    async def create(
        self,
        owner: User,
        *,
        name: str | None,
        title: str | None,
        history_limit: int | None = None,
        ttl_seconds: int | None = None,
    ) -> Room:
        """Make a public room and join it as its owner. Raises `NameTaken`, `InvalidField`."""
        room = self._new(name, title, owner.id)
        ends = from_ms(now_ms() + ttl_seconds * 1000) if ttl_seconds is not None else None
        room = replace(room, history_limit=history_limit, expires_at=ends)
        await self._store.add_room(room, owner.id)
        room = await self.see(room.id, owner.id)
        self._live.joined(owner.id, room)
        return room

    async def ensure(self, key: str, creator: User | None) -> Room:
        """The public room of that name, made on first use. Raises `RoomNotFound`, `InvalidField`."""
        try:
            return await self.see(key, creator.id if creator else None)
        except RoomNotFound:
            if as_id(key) is not None:
                raise
        room = self._new(key, None, creator.id if creator else None)
        try:
            await self._store.add_room(room, creator.id if creator else None)
        except NameTaken:  # made by somebody else at the same moment, or a room that is not for everybody
            pass
        return await self.see(key, creator.id if creator else None)

    async def mine(self, user_id: str) -> list[Room]:
        """All rooms that the user is in, with what they have not read."""
        return [self._shown(room) for room in await self._store.rooms_of(user_id)]

    async def listing(self, user_id: str, scope: str, cursor: str | None, limit: int) -> RoomList:
        """Rooms of a scope: `mine`, all at once, or `public`, page by page. Raises `InvalidField`."""
        if scope == "mine":
            return RoomList(items=await self.mine(user_id))
        if scope != "public":
            raise InvalidField("scope: `public` or `mine`.")
        found = await self._store.public_rooms(names.cursor(cursor), limit + 1)
        items = [self._shown(room) for room in found[:limit]]
        return RoomList(items=items, next=items[-1].id if len(found) > limit else None)

    async def join(self, user: User, key: str) -> Room:
        """Become a member of a public room. Raises `RoomNotFound`, `RoomFull`."""
        room = await self.see(key, user.id)
        if await self._store.join(room.id, user.id, Role.MEMBER, now()):
            room = await self.see(room.id, user.id)
            self._live.joined(user.id, room)
        return room

    async def leave(self, user: User, key: str) -> None:
        """Stop being a member. Nobody leaves the lobby. Raises `RoomNotFound`, `NotAllowed`."""
        room = await self.see(key, user.id)
        if room.id == self.lobby_id:
            raise NotAllowed("Everybody is in the lobby.")
        if await self._store.leave(room.id, user.id, now()):
            self._live.left(user.id, room.id)

    async def members(self, user_id: str, key: str, cursor: str | None, limit: int) -> MemberList:
        """The members of a room that the caller may see. Raises `RoomNotFound`."""
        room = await self.see(key, user_id)
        found = await self._store.members(room.id, names.cursor(cursor), limit + 1)
        return MemberList(items=found[:limit], next=found[limit - 1].user_id if len(found) > limit else None)

    def closed(self, room: Room) -> None:
        """A room was closed: tell who is in it, and forget its name."""
        self.forget(room.id)
        self._live.closed(room.id)

    def forget(self, room_id: str) -> None:
        """Ask the store again for the name under which this room was known: another may have it by now."""
        for name in [name for name, known in self._ids.items() if known == room_id]:
            del self._ids[name]

    def _new(self, name: str | None, title: str | None, created_by: str | None) -> Room:
        name = names.room_name(name) if name is not None else None
        title = names.display_name(title, "title") if title is not None else name
        if title is None:
            raise InvalidField("name or title: one of them is needed.")
        return Room(
            id=new_id(), name=name, title=title, kind="public", created_by=created_by, created_at=now()
        )

    def _shown(self, room: Room) -> Room:
        if room.name is not None and len(self._ids) < MAX_CACHED_NAMES:
            self._ids[room.name] = room.id
        return replace(room, online_count=self._live.online_count(room.id))


def _may_see(room: Room) -> bool:
    return room.kind == "public" or room.role is not UNSET
