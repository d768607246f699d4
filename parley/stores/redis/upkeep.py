"""What runs out: rooms whose time is up, what is left of them, and what crashes have left."""

from collections.abc import Sequence

from parley.errors import ParleyError
from parley.ids import Time, to_ms
from parley.models import Room
from parley.stores.redis import guests, keys, lists, names, rooms, rows, scripts, sessions
from parley.stores.redis.faults import note, translated
from parley.stores.redis.servers import Command, Servers, script

AT_ONCE = 100


async def close_due_rooms(servers: Servers, at: Time, limit: int) -> list[Room]:
    """A script closes each room for one caller. Whoever finds one in the list that is closed already, be it
    another caller's at this moment or one that a crash has left, gives its name back and takes it from the
    lists."""
    closed: list[Room] = []
    passed = 0
    while len(closed) < limit:
        size = min(AT_ONCE, limit - len(closed))
        ids = await lists.up_to(servers, keys.EXPIRING_ROOMS, to_ms(at), size, passed)
        if not ids:
            break
        replies = await servers.ask([script(scripts.CLOSE, [keys.room(room_id)], at) for room_id in ids])
        errors = [reply for reply in replies if isinstance(reply, Exception)]
        note(errors)
        for reply in replies:
            if not isinstance(reply, list):
                passed += 1  # Just coming, or `purge` cleans up; or its server is away.
                continue
            mine, fields = reply
            state = rows.room_state(fields)
            if state is None:
                continue
            if mine:
                closed.append(state.room)
            passed += not await _finished(servers, state.room)
        if errors and not closed:
            raise translated(errors[0])
    return closed


async def _finished(servers: Servers, room: Room) -> bool:
    """Whether it could be finished. If not, the room is closed all the same, and the next one goes on."""
    try:
        await _finish(servers, room)
    except ParleyError:
        return False
    return True


async def _finish(servers: Servers, room: Room) -> None:
    """Do what follows from a room's being closed. Last the list by which it was found."""
    if room.closed_at is None:
        # Not due, whatever the list said.
        ends = ("ZADD", keys.EXPIRING_ROOMS, "XX", to_ms(room.expires_at)) if room.expires_at else None
        await servers.one(*(ends or ("ZREM", keys.EXPIRING_ROOMS)), room.id)
        return
    if room.name is not None:
        await names.release(servers, keys.ROOM_NAME + room.name, room.id)
    await servers.one("ZADD", keys.CLOSED_ROOMS, to_ms(room.closed_at), room.id)
    await servers.all(rooms.delisting(room.id))
    await servers.one("ZREM", keys.EXPIRING_ROOMS, room.id)


async def purge(servers: Servers, before: Time, limit: int) -> int:
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
    """Strike out what was noted as coming a minute ago; what did not come is taken from the lists first."""
    noted = await servers.one(*script(scripts.OVERDUE, [keys.COMING], limit))
    for text in noted:
        kind, id_ = text.decode().split()
        if await servers.one("EXISTS", keys.user(id_) if kind == "user" else keys.room(id_)):
            continue
        if kind == "user":
            await servers.one(*script(scripts.DELIST, [keys.PEOPLE, keys.GUESTS, keys.REMOVED], id_))
        else:
            await servers.all([*rooms.delisting(id_), ("ZREM", keys.EXPIRING_ROOMS, id_)])
    if noted:
        await servers.one("ZREM", keys.COMING, *noted)
    return len(noted)
