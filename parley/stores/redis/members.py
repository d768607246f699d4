"""Who is in a room: coming, going, and their roles."""

from collections.abc import Sequence
from typing import Any

from parley import permissions
from parley.errors import RoomNotFound, UserNotFound
from parley.ids import Time, to_ms
from parley.models import Member, Role
from parley.stores.base import UserState
from parley.stores.redis import keys, lists, rows, scripts
from parley.stores.redis.append import refusal
from parley.stores.redis.servers import Command, Servers, script
from parley.stores.redis.standing import Standing, decided
from parley.stores.rules import too_many

_MEMBERSHIP = ("", "roles", "members", "member-revisions", "present", "marks")


async def join(
    servers: Servers,
    room_id: str,
    user_id: str,
    role: Role,
    at: Time,
    by: str | None = None,
    most: int | None = None,
) -> Member | None:
    def rule(seen: Standing) -> None:
        if by == user_id and seen.role is None:
            permissions.may_join(seen.kind, role)
        elif by != user_id:
            permissions.may_add(seen.kind, seen.by, role)

    async def step(seen: str) -> Any:
        noted = keys.of_user(user_id, "", "rooms")
        noting = [script(scripts.REMEMBER, noted, room_id), lists.noting_move(user_id, at)]
        user = rows.user((await servers.all(noting))[0])
        if user is None:
            (revision,) = await servers.one(*script(scripts.HEADS, [keys.room(room_id)]))
            raise UserNotFound if revision is not None else RoomNotFound
        text = rows.member_text(user, role, at)
        arguments = (by or "", seen, user_id, role.value, text, "" if most is None else most)
        return await servers.one(*script(scripts.JOIN, keys.of_room(room_id, *_MEMBERSHIP), *arguments))

    answer = await decided(servers, room_id, by, user_id, rule, step)
    if answer == b"too_many" and most is not None:
        raise too_many("PARLEY_MAX_ROOM_MEMBERS", most)
    member = _member(room_id, user_id, answer)
    if member is not None and await see_off(servers, room_id, [user_id]):
        raise UserNotFound
    return member


async def see_off(servers: Servers, room_id: str, user_ids: Sequence[str]) -> int:
    """End the memberships of those who were removed while they came in, perhaps before the room could be
    left; return how many there were."""
    states = await servers.all([("GET", keys.user(user_id)) for user_id in user_ids])
    gone = [state for state in map(rows.user_state, states) if state is not None and state.deleted_at]
    for state in gone:
        await leave_for_good(servers, [room_id], state, traceless=state.user.kind == "guest")
    return len(gone)


async def leave(servers: Servers, room_id: str, user_id: str, at: Time, by: str | None) -> Member | None:
    def rule(seen: Standing) -> None:
        if by != user_id:
            permissions.may_remove(seen.kind, seen.by, seen.role)
        elif seen.role is not None:
            permissions.may_leave(seen.kind, seen.role, owners=seen.owners, members=seen.members)

    async def step(seen: str) -> Any:
        left = ("SADD", *keys.of_user(user_id, "left"), room_id)
        await servers.all([left, lists.noting_move(user_id, at)])
        arguments = (by or "", seen, user_id, at)
        answer = await servers.one(*_leaving(room_id, arguments))
        if answer != b"note":
            return answer
        await servers.one(*lists.noting_due(room_id))
        return await servers.one(*_leaving(room_id, arguments, noted=True))

    return _member(room_id, user_id, await decided(servers, room_id, by, user_id, rule, step))


async def leave_for_good(
    servers: Servers, room_ids: Sequence[str], gone: UserState, *, traceless: bool
) -> None:
    """End the memberships of somebody who was removed, and show them there under the name that they have now;
    without trace where nobody was told that they were there. Can be repeated."""
    user = gone.user
    arguments = ("", "", user.id, gone.deleted_at or "")
    names = (user.name, user.display_name, int(traceless))
    replies = await servers.all([_leaving(room_id, arguments, names) for room_id in room_ids])
    last = [room_id for room_id, reply in zip(room_ids, replies, strict=True) if reply == b"note"]
    await servers.all([lists.noting_due(room_id) for room_id in last])
    await servers.all([_leaving(room_id, arguments, names, noted=True) for room_id in last])


def _leaving(
    room_id: str, arguments: Sequence[str], names: Sequence[str | int] = (), *, noted: bool = False
) -> Command:
    return script(scripts.LEAVE, keys.of_room(room_id, *_MEMBERSHIP), *arguments, int(noted), *names)


async def change_role(
    servers: Servers, room_id: str, user_id: str, role: Role, by: str | None
) -> Member | None:
    def rule(seen: Standing) -> None:
        was = seen.role or role
        permissions.may_change_role(seen.kind, seen.by, was, role, owners=seen.owners)

    async def step(seen: str) -> Any:
        room_keys = keys.of_room(room_id, "", "roles", "members", "member-revisions", "marks")
        return await servers.one(*script(scripts.ROLE, room_keys, by or "", seen, user_id, role.value))

    return _member(room_id, user_id, await decided(servers, room_id, by, user_id, rule, step))


def _member(room_id: str, user_id: str, answer: Any) -> Member | None:
    """The membership that a script answers with: {value, mark}, nothing, or the code of a refusal."""
    if isinstance(answer, bytes):
        raise refusal(answer)
    return rows.member(room_id, user_id.encode(), *answer) if answer else None


async def memberships_of(servers: Servers, user_id: str) -> list[Member]:
    room_ids = await places(servers, user_id)
    looks = [
        ("HGET", *keys.of_room(room_id, part), user_id)
        for part in ("members", "marks")
        for room_id in room_ids
    ]
    found = await servers.all(looks)
    values = zip(room_ids, found[: len(room_ids)], found[len(room_ids) :], strict=True)
    return [rows.member(room_id, user_id.encode(), value, mark) for room_id, value, mark in values if value]


async def moved(servers: Servers, since: Time) -> set[str]:
    found = await servers.one("ZRANGEBYSCORE", keys.MOVED, to_ms(since), "+inf")
    return {each.decode() for each in found}


async def places(servers: Servers, user_id: str) -> list[str]:
    """The rooms that a user may be in, or may have left."""
    joined, left = keys.of_user(user_id, "rooms", "left")
    found = await servers.all([("ZRANGE", joined, 0, -1), ("SMEMBERS", left)])
    return sorted({each.decode() for part in found for each in part})


async def members(servers: Servers, room_id: str, after: str | None, limit: int) -> list[Member]:
    begin = "-" if after is None else f"({after}"
    room_keys = keys.of_room(room_id, "members", "present", "marks")
    return rows.members(room_id, await servers.one(*script(scripts.MEMBERS, room_keys, begin, limit)))
