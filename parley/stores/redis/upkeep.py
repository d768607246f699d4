"""Closing rooms, and deleting what is left of them and what crashes have left."""

from collections.abc import Sequence
from typing import Any

from parley import permissions
from parley.errors import ParleyError, RoomNotFound
from parley.ids import Time, to_ms
from parley.models import Room
from parley.stores.base import RoomState
from parley.stores.redis import guests, keys, lists, names, people, rooms, rows, scripts, sessions
from parley.stores.redis.faults import note, translated
from parley.stores.redis.servers import Command, Servers, script
from parley.stores.redis.standing import Standing, decided

AT_ONCE = 100


async def close_due_rooms(servers: Servers, at: Time, limit: int) -> list[Room]:
    """A script closes each room for one caller. Whoever finds one in a list that is closed already, be it
    another caller's at this moment or one that a crash has left, gives its name back and takes it from the
    lists."""
    closed: list[Room] = []
    failure: ParleyError | None = None
    for key, until in ((keys.EXPIRING_ROOMS, to_ms(at)), (keys.DUE_ROOMS, "+inf")):
        try:
            await _close_listed(servers, key, until, at, limit, closed)
        except ParleyError as error:
            failure = error
    if failure is not None and not closed:
        raise failure
    return closed


async def _close_listed(
    servers: Servers, key: str, until: int | str, at: Time, limit: int, closed: list[Room]
) -> None:
    """Close those of a list that are due, until enough are closed."""
    passed = 0
    while len(closed) < limit:
        size = min(AT_ONCE, limit - len(closed))
        ids = await lists.up_to(servers, key, until, size, passed)
        if not ids:
            break
        replies = await servers.ask([_closing(room_id, at, "due") for room_id in ids])
        errors = [reply for reply in replies if isinstance(reply, Exception)]
        note(errors)
        for room_id, reply in zip(ids, replies, strict=True):
            mine, fields = reply if isinstance(reply, list) else (0, [])
            state = rows.room_state(fields)
            if mine and state is not None:
                closed.append(state.room)
            # What stays in the list, or did not answer, is passed over when it is read on.
            passed += isinstance(reply, Exception) or not await _put_right(servers, key, room_id, state)
        if errors:
            raise translated(errors[0])


async def close_room(
    servers: Servers, room_id: str, at: Time, by: str | None, only_if_empty: bool
) -> Room | None:
    def rule(seen: Standing) -> None:
        permissions.may_close(seen.kind, seen.by)

    async def step(seen: str) -> Any:
        await servers.one(*lists.noting_due(room_id))
        return await servers.one(*_closing(room_id, at, "empty" if only_if_empty else "all", by or "", seen))

    mine, fields = await decided(servers, room_id, by, "", rule, step) or (0, [])
    state = rows.room_state(fields)
    if state is None or (state.room.closed_at is not None and not mine):
        raise RoomNotFound
    if not mine:
        return None
    await _put_right(servers, keys.DUE_ROOMS, room_id, state)
    return state.room


def _closing(room_id: str, at: Time, which: str, by: str = "", seen: str = "") -> Command:
    return script(scripts.CLOSE, keys.of_room(room_id, "", "roles"), by, seen, "", at, which)


async def _put_right(servers: Servers, key: str, room_id: str, state: RoomState | None) -> bool:
    """Whether a room is out of the list in which it was found. If it is closed and could not be finished, it
    is closed all the same, and the next one goes on."""
    try:
        if state is None or state.room.closed_at is None:
            return await _put_back(servers, key, room_id, state)
        await _finish(servers, state.room, state.room.closed_at)
    except ParleyError:
        return False
    return True


async def _put_back(servers: Servers, key: str, room_id: str, state: RoomState | None) -> bool:
    """Give one that is not due the places that it has by its own record, whatever the list said."""
    if state is not None:
        await servers.all(rooms.places(state.room))
    if key == keys.DUE_ROOMS:
        return bool(await servers.one(*script(scripts.FORGET, [key], room_id)))
    if state is not None and state.room.expires_at is None:
        await servers.one("ZREM", key, room_id)
    return state is not None  # Else it is just coming, or `purge` cleans up.


async def _finish(servers: Servers, room: Room, closed_at: Time) -> None:
    """Do what follows from a room's being closed. Last the lists by which it was found."""
    if room.name is not None:
        await names.release(servers, keys.ROOM_NAME + room.name, room.id)
    await servers.one("ZADD", keys.CLOSED_ROOMS, to_ms(closed_at), room.id)
    await servers.all(rooms.delisting(room.id))
    await servers.all([("ZREM", key, room.id) for key in (keys.EXPIRING_ROOMS, keys.DUE_ROOMS)])


async def purge(servers: Servers, before: Time, limit: int) -> int:
    await servers.one("ZREMRANGEBYSCORE", keys.MOVED, "-inf", to_ms(before))
    return (
        await sessions.purge(servers, before, limit)
        + await _purge_rooms(servers, before, limit)
        + await guests.purge(servers, before, limit)
        + await _clean_up(servers, limit)
    )


async def _purge_rooms(servers: Servers, before: Time, limit: int) -> int:
    """Room by room, until it is about enough."""
    gone = 0
    while gone < limit:
        ids = await lists.up_to(servers, keys.CLOSED_ROOMS, to_ms(before), 1)
        if not ids:
            break
        gone += await _purge_room(servers, ids[0])
    return gone


async def _purge_room(servers: Servers, room_id: str) -> int:
    """First what names the room elsewhere, and last the list by which it was found."""
    state = rows.room_state(await servers.one("HGETALL", keys.room(room_id)))
    rows_gone = 0
    if state is not None:
        (members_key,) = keys.of_room(room_id, "members")
        members = await lists.everything(servers, members_key, "HSCAN")
        for begin in range(0, len(members), AT_ONCE):
            await servers.all(_forgetting(room_id, members[begin : begin + AT_ONCE]))
        if state.room.created_by is not None:
            await servers.one("ZREM", *keys.of_user(state.room.created_by, "created"), room_id)
        await servers.one("UNLINK", *keys.of_room(room_id, *keys.ROOM_PARTS))
        rows_gone = 1 + state.room.message_count + len(members)
        # Now that their tombstones are gone; earlier ones would be looked at in vain.
        for begin in range(0, len(members), AT_ONCE):
            here = members[begin : begin + AT_ONCE]
            await servers.all([("ZADD", keys.REMOVED, "XX", 0, user_id) for user_id in here])
    await servers.one("ZREM", keys.CLOSED_ROOMS, room_id)
    return rows_gone


def _forgetting(room_id: str, user_ids: Sequence[str]) -> list[Command]:
    """What takes a room from its members' lists."""
    commands: list[Command] = []
    for user_id in user_ids:
        joined, left = keys.of_user(user_id, "rooms", "left")
        commands += [("ZREM", joined, room_id), ("SREM", left, room_id)]
    return commands


async def _clean_up(servers: Servers, limit: int) -> int:
    """Strike out what was noted as coming or going a minute ago. What did not come is taken from the lists
    first, and who went is looked for once more: a room or another name may have come in between."""
    noted = await servers.one(*script(scripts.OVERDUE, [keys.COMING], limit))
    for text in noted:
        kind, id_ = text.decode().split()
        if kind == "user":
            value = await servers.one("GET", keys.user(id_))
            if value is None:
                await servers.one(*script(scripts.DELIST, [keys.PEOPLE, keys.GUESTS, keys.REMOVED], id_))
            await people.finish_removal(servers, value)
        elif not await servers.one("EXISTS", keys.room(id_)):
            listed = [("ZREM", key, id_) for key in (keys.EXPIRING_ROOMS, keys.DUE_ROOMS)]
            await servers.all([*rooms.delisting(id_), *listed])
    if noted:
        await servers.one("ZREM", keys.COMING, *noted)
    return len(noted)
