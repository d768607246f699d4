"""Rooms: making, finding and changing them."""

from collections.abc import Sequence
from typing import Any

from msgspec import UNSET
from msgspec.structs import replace

from parley import permissions
from parley.errors import LimitReached, NameTaken, RoomFull, UserNotFound
from parley.ids import Time, as_id, to_ms
from parley.models import Role, Room, RoomChange, User
from parley.stores.redis import keys, lists, members, names, rows, scripts
from parley.stores.redis.append import refusal
from parley.stores.redis.servers import Command, Servers, script
from parley.stores.redis.standing import Standing, decided
from parley.stores.rules import is_left_alone, too_many

_HEADS_AT_ONCE = 1000
"""Rooms that one script looks at, so that other commands come in between."""


async def add_room(
    servers: Servers, room: Room, owner_id: str | None, peer_id: str | None, most: int | None
) -> None:
    """First the name and the lists of where to look, then the room: the package says what a crash leaves."""
    if await servers.one("EXISTS", keys.room(room.id)):
        raise NameTaken
    name = keys.ROOM_NAME + room.name if room.name is not None else None
    if name is not None:
        await names.claim(servers, name, room.id, keys.room)
    try:
        await _add_room(servers, room, [each for each in (owner_id, peer_id) if each is not None], most)
    except (LimitReached, NameTaken, RoomFull, UserNotFound):
        if name is not None:
            await names.release(servers, name, room.id)
        raise


async def _add_room(servers: Servers, room: Room, user_ids: Sequence[str], most: int | None) -> None:
    users = await _coming(servers, room, user_ids)
    await lists.note_coming(servers, f"room {room.id}")
    if most is not None and not await servers.one(*script(scripts.ENROL, [keys.ROOMS], room.id, most)):
        raise too_many("PARLEY_MAX_ROOMS", most)
    role = Role.OWNER if len(users) < 2 else Role.MEMBER
    memberships: list[str | bytes | int] = [len(users)]
    for user in users:
        stamped = room.kind != "public"
        room = replace(room, member_count=room.member_count + 1, revision=room.revision + stamped)
        revision = room.revision if stamped else 0
        memberships += user.id, role.value, rows.member_text(user, role, room.created_at), revision
    await servers.all(listing(room))
    room_keys = keys.of_room(room.id, "", "members", "member-revisions", "roles", "present")
    if not await servers.one(*script(scripts.CREATE, room_keys, *memberships, *rows.room_fields(room))):
        raise NameTaken
    await members.see_off(servers, room.id, user_ids)


async def _coming(servers: Servers, room: Room, user_ids: Sequence[str]) -> list[User]:
    """Those who are in a new room from its beginning. Notes it with whoever created it, and with them."""
    if room.created_by is not None:
        await servers.one(*script(scripts.REMEMBER, keys.of_user(room.created_by, "", "created"), room.id))
    noting = [script(scripts.REMEMBER, keys.of_user(each, "", "rooms"), room.id) for each in user_ids]
    await servers.all([lists.noting_move(each, room.created_at) for each in user_ids])
    found = [rows.user(value) for value in await servers.all(noting)]
    users = [user for user in found if user is not None]
    if len(users) < len(user_ids):
        raise UserNotFound
    if room.capacity is not None and len(users) > room.capacity:
        raise RoomFull
    return users


def listing(room: Room) -> list[Command]:
    """What puts an open room into the lists of where to look."""
    commands: list[Command] = [("ZADD", keys.ROOMS, 0, room.id), *places(room)]
    if is_left_alone(room):
        commands.append(lists.noting_due(room.id))
    return commands


def places(room: Room) -> list[Command]:
    """What puts an open room into the lists that its settings call for."""
    commands: list[Command] = []
    if room.kind == "public":
        commands.append(("ZADD", keys.PUBLIC_ROOMS, 0, room.id))
    if room.expires_at is not None:
        commands.append(("ZADD", keys.EXPIRING_ROOMS, to_ms(room.expires_at), room.id))
    return commands


def delisting(room_id: str) -> list[Command]:
    """What takes a room from the lists of those that are open."""
    return [("ZREM", key, room_id) for key in (keys.ROOMS, keys.PUBLIC_ROOMS)]


async def room(servers: Servers, key: str, user_id: str | None) -> Room | None:
    room_id = as_id(key) or await names.holder(servers, keys.ROOM_NAME + key)
    if room_id is None:
        return None
    reply = await servers.one(*look(room_id, user_id))
    (seen,) = await _seen(servers, [reply])
    return seen[1] if seen is not None else rows.room(reply[0])


async def rooms_of(servers: Servers, user_ids: Sequence[str]) -> dict[str, list[Room]]:
    """Three round trips, however many users: where they may be, how it is there, and the other ones in direct
    rooms."""
    noted = await servers.all([("ZRANGE", *keys.of_user(user_id, "rooms"), 0, -1) for user_id in user_ids])
    looks = [(who, each.decode()) for who, ids in zip(user_ids, noted, strict=True) for each in ids]
    replies = await servers.all([look(room_id, user_id) for user_id, room_id in looks])
    strange: dict[str, list[str]] = {}
    mine: dict[str, list[tuple[Time, Room]]] = {user_id: [] for user_id in user_ids}
    for (user_id, room_id), (_, value, *_), seen in zip(
        looks, replies, await _seen(servers, replies), strict=True
    ):
        if value is None:
            strange.setdefault(user_id, []).append(room_id)
        elif seen is not None:
            mine[user_id].append(seen)
    forgetting = [
        script(scripts.FORGET, keys.of_user(user_id, "rooms"), *ids) for user_id, ids in strange.items()
    ]
    await servers.all(forgetting)
    for found in mine.values():
        found.sort(key=lambda each: (each[0], each[1].id))
    return {user_id: [room for _, room in found] for user_id, found in mine.items()}


async def _seen(servers: Servers, replies: Sequence[Any]) -> list[tuple[Time, Room] | None]:
    """The rooms as those users see them, each with the time of joining; None where it is not open or the user
    is not in it. One round trip if there are direct ones among them."""
    peer_ids = [peer_id for *_, peer_id in replies if peer_id is not None]
    states = await servers.all([("GET", keys.user(peer_id.decode())) for peer_id in peer_ids])
    peers = dict(zip(peer_ids, map(rows.user_state, states), strict=True))
    seen: list[tuple[Time, Room] | None] = []
    for fields, value, mark, peer_id in replies:
        room = rows.room(fields)
        if room is None or value is None:
            seen.append(None)
            continue
        member = rows.member(room.id, b"", value, mark)
        peer = peers.get(peer_id)
        seen.append((member.joined_at, rows.room_of_member(room, member, peer.user if peer else UNSET)))
    return seen


async def public_rooms(servers: Servers, after: str | None, limit: int) -> list[Room]:
    """Reads on where ids lead to no open public room, until the page is full."""
    found: list[Room] = []
    begin = "-" if after is None else f"({after}"
    while len(found) < limit:
        ids = await servers.one("ZRANGEBYLEX", keys.PUBLIC_ROOMS, begin, "+", "LIMIT", 0, limit)
        replies = await servers.all([look(each.decode(), None) for each in ids])
        rooms = [rows.room(fields) for fields, *_ in replies]
        found += [room for room in rooms if room is not None and room.kind == "public"]
        if len(ids) < limit:
            break
        begin = f"({ids[-1].decode()}"
    return found[:limit]


def look(room_id: str, user_id: str | None) -> Command:
    """What tells a room's fields, that user's membership and mark, and the other one in a direct room."""
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


async def change_room(servers: Servers, room_id: str, change: RoomChange, by: str | None) -> Room | None:
    """First a note for whoever closes rooms, who also puts right what a crash leaves, and last the lists that
    the new settings call for. In others it stays until somebody looks there."""
    values, gone = rows.changed_fields(change)

    def rule(seen: Standing) -> None:
        permissions.may_change(seen.kind, seen.by)

    async def step(seen: str) -> Any:
        await servers.one(*lists.noting_due(room_id))
        parts = ("", "roles", "members", "member-revisions", "messages", "ids", "revisions")
        arguments = (by or "", seen, "", len(values), *values, *gone)
        return await servers.one(*script(scripts.CHANGE, keys.of_room(room_id, *parts), *arguments))

    answer = await decided(servers, room_id, by, "", rule, step)
    if isinstance(answer, bytes):
        raise refusal(answer)
    room = rows.room(answer or ())
    if room is not None:
        await servers.all(places(room))
    return room


async def owns_room(servers: Servers, user_id: str, closed_after: Time) -> bool:
    created = await servers.one("ZRANGE", *keys.of_user(user_id, "created"), 0, -1)
    looks = [("HMGET", keys.room(each.decode()), "kind", "closed_at") for each in created]
    states = await servers.all(looks)
    return any(kind and (not closed or closed.decode() > closed_after) for kind, closed in states)
