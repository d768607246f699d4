"""Rooms, and who is in them."""

from collections.abc import Sequence

from msgspec.structs import replace

from parley.errors import RoomFull, RoomNotFound, UserNotFound
from parley.ids import Time, as_id, to_ms
from parley.models import Member, Role, Room
from parley.stores.redis import keys, lists, names, rows, scripts
from parley.stores.redis.append import refusal
from parley.stores.redis.servers import Command, Servers, script

_MEMBERSHIP = ("", "members", "member-revisions", "roles", "present")

_HEADS_AT_ONCE = 1000
"""Rooms that one script looks at, so that other commands come in between."""


async def add_room(servers: Servers, room: Room, owner_id: str | None) -> None:
    """First the name and the lists of where to look, then the room: the package says what a crash leaves."""
    name = keys.ROOM_NAME + room.name if room.name is not None else None
    if name is not None:
        await names.claim(servers, name, room.id, keys.room)
    try:
        ownership = await _ownership(servers, room, owner_id)
    except (RoomFull, UserNotFound):
        if name is not None:
            await names.release(servers, name, room.id)
        raise
    if owner_id is not None:
        stamped = room.kind != "public"
        room = replace(room, member_count=room.member_count + 1, revision=room.revision + stamped)
    await lists.note_coming(servers, f"room {room.id}")
    await servers.all(listing(room))
    revision = room.revision if room.kind != "public" else 0
    owner = (owner_id or "", Role.OWNER.value, ownership, revision)
    room_keys = keys.of_room(room.id, *_MEMBERSHIP)
    await servers.one(*script(scripts.CREATE, room_keys, *owner, *rows.room_fields(room)))


def listing(room: Room) -> list[Command]:
    """What puts an open room into the lists of where to look."""
    commands: list[Command] = [("ZADD", keys.ROOMS, 0, room.id)]
    if room.kind == "public":
        commands.append(("ZADD", keys.PUBLIC_ROOMS, 0, room.id))
    if room.expires_at is not None:
        commands.append(("ZADD", keys.EXPIRING_ROOMS, to_ms(room.expires_at), room.id))
    return commands


def delisting(room_id: str) -> list[Command]:
    """What takes a room from the lists of those that are open."""
    return [("ZREM", key, room_id) for key in (keys.ROOMS, keys.PUBLIC_ROOMS)]


async def _ownership(servers: Servers, room: Room, owner_id: str | None) -> bytes:
    """The owner's membership, as it is kept. Notes the room with its owner, and with whoever created it."""
    if room.created_by is not None and room.created_by != owner_id:
        await servers.one(*script(scripts.REMEMBER, keys.of_user(room.created_by, "", "created"), room.id))
    if owner_id is None:
        return b""
    parts = ("", "rooms", "created") if room.created_by == owner_id else ("", "rooms")
    owner = rows.user(await servers.one(*script(scripts.REMEMBER, keys.of_user(owner_id, *parts), room.id)))
    if owner is None:
        raise UserNotFound
    if room.capacity is not None and room.member_count >= room.capacity:
        raise RoomFull
    return rows.member_text(owner, Role.OWNER, room.created_at)


async def room(servers: Servers, key: str, user_id: str | None) -> Room | None:
    room_id = as_id(key) or await names.holder(servers, keys.ROOM_NAME + key)
    if room_id is None:
        return None
    fields, member, mark = await servers.one(*look(room_id, user_id))
    room = rows.room(fields)
    if room is None or member is None:
        return room
    role = rows.member(room_id, b"", member, mark).role
    return rows.room_of_member(room, role, mark)


async def rooms_of(servers: Servers, user_id: str) -> list[Room]:
    noted = [each.decode() for each in await servers.one("ZRANGE", keys.of_user(user_id, "rooms")[0], 0, -1)]
    replies = await servers.all([look(room_id, user_id) for room_id in noted])
    found: list[tuple[Time, str, Room]] = []
    strange: list[str] = []
    for room_id, (fields, value, mark) in zip(noted, replies, strict=True):
        if value is None:
            strange.append(room_id)
            continue
        room, member = rows.room(fields), rows.member(room_id, b"", value, mark)
        if room is not None:
            found.append((member.joined_at, room_id, rows.room_of_member(room, member.role, mark)))
    if strange:
        await servers.one(*script(scripts.FORGET, keys.of_user(user_id, "rooms"), *strange))
    return [room for _, _, room in sorted(found, key=lambda each: each[:2])]


async def public_rooms(servers: Servers, after: str | None, limit: int) -> list[Room]:
    """Reads on where ids lead to no open room, until the page is full."""
    found: list[Room] = []
    begin = "-" if after is None else f"({after}"
    while len(found) < limit:
        ids = await servers.one("ZRANGEBYLEX", keys.PUBLIC_ROOMS, begin, "+", "LIMIT", 0, limit)
        replies = await servers.all([look(each.decode(), None) for each in ids])
        found += [room for fields, _, _ in replies if (room := rows.room(fields)) is not None]
        if len(ids) < limit:
            break
        begin = f"({ids[-1].decode()}"
    return found[:limit]


def look(room_id: str, user_id: str | None) -> Command:
    """What tells a room's fields, and the membership and the mark of that user."""
    return script(scripts.ROOM, keys.of_room(room_id, "", "roles", "members", "marks"), user_id or "")


async def heads(servers: Servers, room_ids: Sequence[str]) -> dict[str, int]:
    """One round trip."""
    parts = in_parts(servers, room_ids)
    replies = await servers.all([script(scripts.HEADS, [keys.room(each) for each in part]) for part in parts])
    return {
        room_id: int(revision)
        for part, reply in zip(parts, replies, strict=True)
        for room_id, revision in zip(part, reply, strict=True)
        if revision is not None
    }


def in_parts(servers: Servers, room_ids: Sequence[str]) -> list[Sequence[str]]:
    """The rooms that one script may look at: in a cluster one, because they lie in different slots."""
    size = 1 if servers.is_cluster else _HEADS_AT_ONCE
    return [room_ids[begin : begin + size] for begin in range(0, len(room_ids), size)]


async def limit_history(servers: Servers, room_id: str, history_limit: int) -> None:
    room_keys = keys.of_room(room_id, "", "messages", "ids", "revisions")
    if not await servers.one(*script(scripts.LIMIT, room_keys, history_limit)):
        raise RoomNotFound


async def owns_room(servers: Servers, user_id: str, closed_after: Time) -> bool:
    created = await servers.one("ZRANGE", *keys.of_user(user_id, "created"), 0, -1)
    looks = [("HMGET", keys.room(each.decode()), "kind", "closed_at") for each in created]
    states = await servers.all(looks)
    return any(kind and (not closed or closed.decode() > closed_after) for kind, closed in states)


async def join(servers: Servers, room_id: str, user_id: str, role: Role, at: Time) -> bool:
    noted = keys.of_user(user_id, "", "rooms")
    user = rows.user(await servers.one(*script(scripts.REMEMBER, noted, room_id)))
    if user is None:
        raise UserNotFound if await heads(servers, [room_id]) else RoomNotFound
    arguments = (user_id, role.value, rows.member_text(user, role, at))
    reply = await servers.one(*script(scripts.JOIN, keys.of_room(room_id, *_MEMBERSHIP), *arguments))
    if isinstance(reply, bytes):
        raise refusal(reply)
    if user.kind == "guest" and rows.user(await servers.one("GET", keys.user(user_id))) is None:
        # Removed meanwhile, and perhaps before the room could be left.
        await servers.one(*leaving(room_id, user_id, at, for_ever=True))
        raise UserNotFound
    return bool(reply)


async def leave(servers: Servers, room_id: str, user_id: str, at: Time) -> bool:
    await servers.one("SADD", *keys.of_user(user_id, "left"), room_id)
    return bool(await servers.one(*leaving(room_id, user_id, at, for_ever=False)))


def leaving(room_id: str, user_id: str, at: Time, *, for_ever: bool) -> Command:
    """What ends a membership. For ever means that a public room need not remember it."""
    return script(scripts.LEAVE, keys.of_room(room_id, *_MEMBERSHIP, "marks"), user_id, at, int(for_ever))


async def members(servers: Servers, room_id: str, after: str | None, limit: int) -> list[Member]:
    begin = "-" if after is None else f"({after}"
    room_keys = keys.of_room(room_id, "members", "present", "marks")
    return rows.members(room_id, await servers.one(*script(scripts.MEMBERS, room_keys, begin, limit)))
