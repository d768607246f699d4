"""Guests whom nothing keeps any more are removed.

A guest's own record and the lists of their sessions and of the rooms that they created lie in one slot, so
that one script removes only whom nothing keeps, and only for one caller. What follows (leaving rooms, ending
sessions, giving the name back) may be done twice, and is done again by whoever still finds the guest in the
list of guests.
"""

from collections.abc import Sequence

from parley.errors import ParleyError
from parley.ids import Time, to_ms
from parley.models import User
from parley.stores.base import UserState
from parley.stores.redis import keys, lists, members, names, rows, scripts, sessions
from parley.stores.redis.faults import note, translated
from parley.stores.redis.servers import Servers, script

AT_ONCE = 100


async def expire_guests(servers: Servers, at: Time, idle_since: Time, limit: int) -> list[str]:
    """Looks at all idle guests, some at a time, until enough are found."""
    gone: list[str] = []
    passed = 0
    while len(gone) < limit:
        ids = await lists.up_to(servers, keys.GUESTS, to_ms(idle_since), AT_ONCE, passed)
        if not ids:
            break
        idle, stay = await _idle(servers, ids, idle_since)
        while idle and len(gone) < limit:
            part, idle = idle[: limit - len(gone)], idle[limit - len(gone) :]
            removed = await _remove(servers, part, at, idle_since)
            gone += removed
            stay += len(part) - len(removed)
        # Those who stay in the list are passed over when it is read on.
        passed += stay
    return gone


async def _idle(servers: Servers, ids: Sequence[str], idle_since: Time) -> tuple[list[User], int]:
    """Those who are idle, and how many others stay in the list. Puts right what the list has wrong."""
    values = await servers.all([("GET", keys.user(user_id)) for user_id in ids])
    idle: list[User] = []
    stay = 0
    for user_id, state in zip(ids, map(rows.user_state, values), strict=True):
        if state is None:
            stay += 1  # Just coming, or `purge` cleans up.
        elif state.deleted_at is not None:
            stay += not await _finished(servers, state)
        elif state.user.last_seen_at is None or state.user.last_seen_at > idle_since:
            await servers.one("ZADD", keys.GUESTS, "XX", place(state.user), user_id)
        else:
            idle.append(state.user)
    return idle, stay


def place(user: User) -> int | str:
    """Where a guest stands in the list of guests; one who was never seen never expires."""
    return to_ms(user.last_seen_at) if user.last_seen_at is not None else "+inf"


async def _remove(servers: Servers, users: Sequence[User], at: Time, idle_since: Time) -> list[str]:
    """Remove those of these users whom nothing keeps, and return the ids of whom this call removed."""
    closed = await _closed_rooms(servers, users, idle_since)
    commands = [
        script(
            scripts.REMOVE,
            keys.of_user(user.id, "", "sessions", "created"),
            *(at, to_ms(at), idle_since, *closed[user.id]),
        )
        for user in users
    ]
    replies = await servers.ask(commands)
    errors = [reply for reply in replies if isinstance(reply, Exception)]
    note(errors)
    gone = [user for user, reply in zip(users, replies, strict=True) if reply == 1]
    if errors and not gone:
        raise translated(errors[0])
    for user in gone:
        await _finished(servers, UserState(user=user, deleted_at=at))
    return [user.id for user in gone]


async def _finished(servers: Servers, gone: UserState) -> bool:
    """Whether it could be finished. If not, the user is gone all the same, and the next one goes on."""
    try:
        await finish(servers, gone, gone.user.name)
    except ParleyError:
        return False
    return True


async def _closed_rooms(servers: Servers, users: Sequence[User], idle_since: Time) -> dict[str, list[str]]:
    """For each user, the rooms that they created and that do not keep them."""
    lists_ = [keys.of_user(user.id, "created")[0] for user in users]
    created = await servers.all([("ZRANGE", key, 0, -1) for key in lists_])
    looks = [("HMGET", keys.room(each.decode()), "kind", "closed_at") for ids in created for each in ids]
    found = iter(await servers.all(looks))
    closed: dict[str, list[str]] = {}
    for user, key, ids in zip(users, lists_, created, strict=True):
        states = [(each.decode(), *next(found)) for each in ids]
        # One that is not there was purged, or is about to be made: then it stays in the list, and keeps.
        missing = [room_id for room_id, kind, _ in states if kind is None]
        if missing:
            await servers.one(*script(scripts.FORGET, [key], *missing))
        closed[user.id] = [
            room_id for room_id, _, closed_at in states if closed_at and closed_at.decode() <= idle_since
        ]
    return closed


async def finish(servers: Servers, gone: UserState, name: str, *, traceless: bool = True) -> None:
    """Do what follows from a user's being marked as removed, who had that name. Until the lists, it can be
    repeated."""
    user = gone.user
    room_ids = await members.places(servers, user.id)
    if room_ids:
        await servers.one("SADD", *keys.of_user(user.id, "left"), *room_ids)
    await members.leave_for_good(servers, room_ids, gone, traceless=traceless)
    ended = await servers.one("ZRANGE", *keys.of_user(user.id, "sessions"), 0, -1)
    await sessions.end_sessions(servers, [sessions.listed(each.decode(), user.id) for each in ended])
    await names.release(servers, keys.USER_NAME + name, user.id)
    removed_ms = to_ms(gone.deleted_at) if gone.deleted_at is not None else 0
    await servers.one(*script(scripts.RETIRE, [keys.PEOPLE, keys.GUESTS, keys.REMOVED], user.id, removed_ms))


async def purge(servers: Servers, before: Time, limit: int) -> int:
    """Delete users who were removed, except those whom a tombstone still names.

    These go to the end of the list, until a room that may have had it is deleted.
    """
    ids = await lists.up_to(servers, keys.REMOVED, to_ms(before), limit)
    states = await servers.all([("GET", keys.user(user_id)) for user_id in ids])
    gone = 0
    for user_id, state in zip(ids, map(rows.user_state, states), strict=True):
        deleted_at = state.deleted_at if state is not None else None
        if deleted_at is not None and deleted_at > before:
            await servers.one("ZADD", keys.REMOVED, "XX", to_ms(deleted_at), user_id)
            continue
        left = await servers.one("SMEMBERS", keys.of_user(user_id, "left")[0])
        looks = [("HEXISTS", *keys.of_room(each.decode(), "members"), user_id) for each in left]
        if any(await servers.all(looks)):
            await servers.one("ZADD", keys.REMOVED, "XX", "+inf", user_id)
            continue
        await servers.one("UNLINK", *keys.of_user(user_id, *keys.USER_PARTS))
        await servers.one(*script(scripts.DELIST, [keys.PEOPLE, keys.GUESTS, keys.REMOVED], user_id))
        gone += 1
    return gone
