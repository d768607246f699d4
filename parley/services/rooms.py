"""Rooms: making, finding, changing, joining, leaving and closing them."""

import asyncio
import hashlib
from collections.abc import Sequence
from typing import Any

from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from parley import events
from parley.config import Settings
from parley.errors import InvalidField, NameTaken, NotAllowed, RoomNotFound, UserNotFound
from parley.ids import Time, as_id, from_ms, made_ms, new_id, now, now_ms, uuid7_of
from parley.models import LOBBY, Member, MemberList, Role, Room, RoomChange, RoomKind, RoomList, User
from parley.permissions import may_see
from parley.services import names
from parley.services.live import Live
from parley.services.together import Together
from parley.stores.base import Store
from parley.stores.rules import too_many

MAX_CACHED_NAMES = 10_000
MAX_HEIRS = 1000
"""Members among whom another owner is looked for."""
MAX_CHANGES = 1000
"""Changed messages that are told one by one; who missed more is given the newest page."""


class Rooms:
    """Rooms and who is in them. A room that a caller may not see does not exist for them."""

    def __init__(self, store: Store, settings: Settings, live: Live) -> None:
        self._store = store
        self._settings = settings
        self._live = live
        self._mine = Together(store.rooms_of)
        self._seen = Together(self._see_all)
        self._ids: dict[str, str] = {}
        self._direct: set[str] = set()
        self.lobby_id = ""

    async def open_lobby(self) -> Room:
        """The room that everybody is in, made at the first start."""
        lobby = await self._store.room(LOBBY)
        if lobby is None:
            lobby = await self._make_lobby()
        else:
            await self._store.change_room(lobby.id, RoomChange(history_limit=self._settings.lobby_history))
        self.lobby_id = lobby.id
        return lobby

    async def _make_lobby(self) -> Room:
        lobby = replace(self._new(LOBBY, "Lobby", None), history_limit=self._settings.lobby_history)
        try:
            await self._store.add_room(lobby)
        except NameTaken:  # by another node that starts at the same moment
            return await self.see(LOBBY, None)
        return lobby

    # Finding

    def known_id(self, key: str) -> str | None:
        """The room's id, if it can be told without asking the store. The room may be closed or hidden all the
        same. Names are known of public rooms only: who may not see a room is told, whatever they ask, that
        there is none of that name."""
        return as_id(key) or self._ids.get(names.room_key(key))

    def known_direct(self, user_id: str, peer: str) -> str | None:
        """The id of the room of two people, if it is known that there is one; `peer` by id."""
        peer_id = as_id(peer)
        room_id = direct_id(user_id, peer_id) if peer_id not in (None, user_id) else None
        return room_id if room_id in self._direct else None

    async def id_of(self, key: str, user_id: str | None) -> str:
        """The id of a room that the caller may see. Raises `RoomNotFound`."""
        return self.known_id(key) or (await self.see(key, user_id)).id

    async def see(self, key: str, user_id: str | None) -> Room:
        """A room that the caller may see: any public one, and those that they are in. Raises
        `RoomNotFound`."""
        room = await self._store.room(names.room_key(key), user_id)
        if room is None or not may_see(room):
            raise RoomNotFound
        return self._shown(room)

    async def visible(self, room_id: str, user_id: str) -> Room | None:
        """A room as `see` shows it, or None."""
        room = await self._store.room(room_id, user_id)
        return self._shown(room) if room and may_see(room) else None

    async def open_to_all(self, room_ids: Sequence[str]) -> list[Room]:
        """Those of these rooms that everybody may see; ids only. Each is read once for all who ask."""
        found = await asyncio.gather(*(self._seen.get(each) for each in room_ids if as_id(each) == each))
        return [self._shown(room) for room in found if room and may_see(room)]

    async def _see_all(self, room_ids: list[str]) -> dict[str, Room]:
        found = [await self._store.room(each) for each in room_ids]
        return {room.id: room for room in found if room is not None}

    async def mine(self, user_id: str) -> list[Room]:
        """All rooms that the user is in, with what they have not read."""
        return [self._shown(room) for room in await self._mine.get(user_id) or ()]

    async def listing(self, user_id: str, scope: str, cursor: str | None, limit: int) -> RoomList:
        """Rooms of a scope: `mine`, all at once, or `public`, page by page. Raises `InvalidField`."""
        if scope == "mine":
            return RoomList(items=await self.mine(user_id))
        if scope != "public":
            raise InvalidField("scope: `public` or `mine`.")
        found = await self._store.public_rooms(names.cursor(cursor), limit + 1)
        items = [self._shown(room) for room in found[:limit]]
        return RoomList(items=items, next=items[-1].id if len(found) > limit else None)

    async def members(self, user_id: str, key: str, cursor: str | None, limit: int) -> MemberList:
        """The members of a room that the caller may see, and which of them are online. Raises
        `RoomNotFound`."""
        room_id = await self.id_of(key, user_id)
        found = await self._store.members(room_id, names.cursor(cursor), limit + 1)
        await self.see(room_id, user_id)  # afterwards: whoever was shut out meanwhile is told nothing
        items = [replace(each, online=self._live.is_online(each.user_id)) for each in found[:limit]]
        return MemberList(items=items, next=items[-1].user_id if len(found) > limit else None)

    # Making, changing, closing

    async def create(
        self,
        owner: User,
        *,
        name: str | None,
        title: str | None,
        kind: str = "public",
        capacity: int | None = None,
        history_limit: int | None = None,
        read_only: bool = False,
        ttl_seconds: int | None = None,
        close_when_empty: bool = False,
    ) -> Room:
        """Make a room and join it as its owner. Raises `NameTaken`, `InvalidField`, `LimitReached`."""
        room = replace(
            self._new(name, title, owner.id),
            kind=_kind(kind),
            capacity=self._capacity(capacity),
            history_limit=self._history(history_limit),
            read_only=read_only,
            expires_at=_end(ttl_seconds),
            close_when_empty=close_when_empty,
        )
        await self._store.add_room(room, owner.id, most=self._settings.max_rooms)
        self._live.joined(owner.id, room.id)
        return await self.see(room.id, owner.id)

    async def ensure(self, key: str, creator: User | None) -> Room:
        """The public room of that name, made on first use, and no other room: anybody may speak as a guest of
        the one-liners. Raises `RoomNotFound`, `InvalidField`, `LimitReached`."""
        try:
            return await self.see(key, None)
        except RoomNotFound:
            if as_id(key) is not None:
                raise
        creator_id = creator.id if creator else None
        room = replace(self._new(key, None, creator_id), history_limit=self._history(None))
        try:
            await self._store.add_room(room, creator_id, most=self._settings.max_rooms)
        except NameTaken:  # not for everybody, or made at the same moment, and perhaps not there yet
            for _ in range(10):
                if await self._store.room(names.room_key(key)) is not None:
                    break
                await asyncio.sleep(0.05)
        return await self.see(key, None)

    async def direct(self, user: User, peer: User) -> Room:
        """The room of two people, made on first use. Raises `InvalidField`, `LimitReached`."""
        return await self.see(await self.direct_id(user, peer), user.id)

    async def direct_id(self, user: User, peer: User) -> str:
        """The id of the room of two people, made on first use. Raises `InvalidField`, `LimitReached`."""
        room_id = direct_id(user.id, peer.id)
        if room_id in self._direct:
            return room_id
        if await self._store.room(room_id) is None:
            room = Room(
                id=room_id,
                name=None,
                title=f"{user.display_name}, {peer.display_name}",
                kind="direct",
                created_by=None,  # nobody's: it keeps no guest here
                created_at=now(),
                capacity=2,
                history_limit=self._history(None),
            )
            try:
                await self._store.add_room(room, user.id, peer.id, self._settings.max_rooms)
            except NameTaken:  # both wrote to each other at the same moment
                pass
            else:
                for each in (user.id, peer.id):
                    self._live.joined(each, room_id)
        if len(self._direct) < MAX_CACHED_NAMES:
            self._direct.add(room_id)
        return room_id

    async def change(
        self,
        user: User,
        key: str,
        *,
        title: str | UnsetType = UNSET,
        kind: str | UnsetType = UNSET,
        capacity: int | UnsetType | None = UNSET,
        history_limit: int | UnsetType | None = UNSET,
        read_only: bool | UnsetType = UNSET,
        ttl_seconds: int | UnsetType | None = UNSET,
        close_when_empty: bool | UnsetType = UNSET,
    ) -> Room:
        """Change a room's settings; None takes a limit away. Raises `RoomNotFound`, `NotAllowed`,
        `InvalidField`, `LimitReached`."""
        room = await self.see(key, user.id)
        if room.id == self.lobby_id:
            raise NotAllowed("The lobby stays as it is.")
        change = RoomChange(
            title=title if title is UNSET else names.display_name(title, "title"),
            kind=kind if kind is UNSET else _kind(kind),
            capacity=capacity if capacity is UNSET else self._capacity(capacity),
            history_limit=history_limit if history_limit is UNSET else self._history(history_limit),
            read_only=read_only,
            expires_at=ttl_seconds if ttl_seconds is UNSET else _end(ttl_seconds),
            close_when_empty=close_when_empty,
        )
        changed = await self._store.change_room(room.id, change, user.id)
        if changed is not None and changed.kind != room.kind:
            # Its members are stamped as well: tell all of it, as to somebody who comes back. Where that would
            # be a reset, what has come since leaves a hole, and whoever tells it reads the store.
            since = changed.revision - 1
            changes = await self._store.changes(room.id, since, MAX_CHANGES)
            if not changes.reset:
                self._live.announce(events.of_changes(room.id, since, changes))
        elif changed is not None:
            told = events.RoomChanged(room_id=room.id, revision=changed.revision, room=changed)
            self._live.announce(told)
        return await self.see(room.id, user.id)

    async def close(self, user: User, key: str) -> None:
        """Close a room: it is gone for everybody. Raises `RoomNotFound`, `NotAllowed`."""
        room = await self.see(key, user.id)
        if room.id == self.lobby_id:
            raise NotAllowed("The lobby stays open.")
        closed = await self._store.close_room(room.id, now(), user.id)
        if closed is not None:
            self.closed(closed)

    def closed(self, room: Room) -> None:
        """A room was closed: tell who is in it, and forget its name."""
        self.forget(room.id)
        self._live.closed(room.id)

    def forget(self, room_id: str) -> None:
        """Ask the store again for the name under which this room was known: another may have it by now."""
        self._direct.discard(room_id)
        for name in [name for name, known in self._ids.items() if known == room_id]:
            del self._ids[name]

    # Members

    async def join(self, user: User, key: str) -> Room:
        """Become a member of a public room. Raises `RoomNotFound`, `RoomFull`, `LimitReached`."""
        return await self._add(user.id, await self.see(key, user.id), user.id, Role.MEMBER)

    async def add_member(self, user: User, key: str, member_id: str, role: str) -> Room:
        """Bring somebody into a room; who brings themselves joins it as a member. Raises
        `RoomNotFound`, `UserNotFound`, `NotAllowed`, `RoomFull`, `LimitReached`, `InvalidField`."""
        room, wanted = await self.see(key, user.id), _role(role)
        return await self._add(user.id, room, member_id, wanted if member_id != user.id else Role.MEMBER)

    async def _add(self, by: str, room: Room, user_id: str, role: Role) -> Room:
        most = self._settings.max_room_members if room.id != self.lobby_id else None
        member = await self._store.join(room.id, user_id, role, now(), by, most)
        if member is not None:
            if member.revision and room.kind != "public":
                told = events.MemberJoined(room_id=room.id, revision=member.revision, member=member)
                self._live.announce(told)
            self._live.joined(user_id, room.id)
        return await self.see(room.id, by)

    async def leave(self, user: User, key: str) -> None:
        """Stop being a member. Nobody leaves the lobby. Raises `RoomNotFound`, `NotAllowed`."""
        await self.remove_member(user, key, user.id)

    async def remove_member(self, user: User, key: str, member_id: str) -> None:
        """Show somebody the door, or leave oneself. Raises `RoomNotFound`, `NotAllowed`."""
        room = await self.see(key, user.id)
        if room.id == self.lobby_id:
            raise NotAllowed("Everybody is in the lobby.")
        gone = await self._store.leave(room.id, member_id, now(), user.id)
        if gone is not None:
            await self.left(gone)

    async def left(self, member: Member) -> None:
        """A membership has ended: tell those who must know, and close the room if it was the last one."""
        room = await self._store.room(member.room_id)
        if room is None:
            return
        if room.kind != "public" and member.revision:
            told = events.MemberLeft(
                room_id=room.id, user_id=member.user_id, revision=member.revision, member=member
            )
            self._live.announce(told)
        self._live.left(member.user_id, room.id)
        if member.role is Role.OWNER and room.member_count:
            await self._hand_over(room.id)
        if not room.member_count:
            closed = await self._store.close_room(room.id, now(), only_if_empty=True)
            if closed is not None:
                self.closed(closed)

    async def _hand_over(self, room_id: str) -> None:
        """Where the last owner has gone for good, the one who is there longest becomes owner, moderators
        first."""
        there = await self._store.members(room_id, None, MAX_HEIRS)
        if there and all(each.role is not Role.OWNER for each in there):
            heir = min(there, key=lambda each: (list(Role).index(each.role), each.joined_at))
            changed = await self._store.change_role(room_id, heir.user_id, Role.OWNER)
            if changed is not None:
                told = events.MemberChanged(room_id=room_id, revision=changed.revision, member=changed)
                self._live.announce(told)

    async def change_role(self, user: User, key: str, member_id: str, role: str) -> Member:
        """Give a member another role. Raises `RoomNotFound`, `UserNotFound`, `NotAllowed`, `InvalidField`."""
        room = await self.see(key, user.id)
        wanted = _role(role)
        changed = await self._store.change_role(room.id, member_id, wanted, user.id)
        if changed is not None:
            told = events.MemberChanged(room_id=room.id, revision=changed.revision, member=changed)
            self._live.announce(told)
            return changed
        found = await self._store.memberships_of(member_id)
        member = next((each for each in found if each.room_id == room.id), None)
        if member is None:
            raise UserNotFound
        return member

    # What is common to them

    def _new(self, name: str | None, title: str | None, created_by: str | None) -> Room:
        name = names.room_name(name) if name is not None else None
        title = names.display_name(title, "title") if title is not None else name
        if title is None:
            raise InvalidField("name or title: one of them is needed.")
        return Room(
            id=new_id(), name=name, title=title, kind="public", created_by=created_by, created_at=now()
        )

    def _capacity(self, wanted: int | None) -> int | None:
        most = self._settings.max_room_members
        if wanted is not None and most is not None and wanted > most:
            raise too_many("PARLEY_MAX_ROOM_MEMBERS", most)
        return wanted

    def _history(self, wanted: int | None) -> int | None:
        most = self._settings.max_history
        if wanted is not None and most is not None and wanted > most:
            raise too_many("PARLEY_MAX_HISTORY", most)
        return most if wanted is None else wanted

    def _shown(self, room: Room) -> Room:
        if room.name is not None and room.kind != "public":
            self._ids.pop(room.name, None)
        elif room.name is not None and len(self._ids) < MAX_CACHED_NAMES:
            self._ids[room.name] = room.id
        shown: dict[str, Any] = {"online_count": self._live.online_count(room.id)}
        if room.peer is not UNSET:
            peer = replace(room.peer, online=self._live.is_online(room.peer.id))
            shown |= {"peer": peer, "title": peer.display_name}
        return replace(room, **shown)


def direct_id(one: str, other: str) -> str:
    """The id of the room of two people: always the same, so that there is one per pair. A UUIDv7 of the
    moment when the later of the two came. Raises `InvalidField`."""
    if one == other:
        raise InvalidField("user: nobody has a room with only themselves.")
    pair = "\n".join(sorted((one, other)))
    return uuid7_of(max(made_ms(one), made_ms(other)), hashlib.sha256(pair.encode()).digest())


def _kind(text: str) -> RoomKind:
    if text not in ("public", "private"):
        raise InvalidField("kind: `public` or `private`; a direct room comes with the first message.")
    return "private" if text == "private" else "public"


def _role(text: str) -> Role:
    try:
        return Role(text)
    except ValueError:
        raise InvalidField(f"role: {', '.join(Role)}.") from None


def _end(ttl_seconds: int | None) -> Time | None:
    return from_ms(now_ms() + ttl_seconds * 1000) if ttl_seconds is not None else None
