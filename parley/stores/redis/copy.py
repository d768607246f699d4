"""A whole chat out of Redis and into it, some hundred records at a time."""

import time
from collections.abc import AsyncIterator, Sequence
from itertools import groupby
from typing import Any

from msgspec.structs import replace

from parley.errors import StartError
from parley.ids import to_ms
from parley.models import Member, Message, Session
from parley.stores.base import Record, RoomState, UserState
from parley.stores.redis import history, keys, lists, people, rooms, rows, sessions
from parley.stores.redis.servers import Command, Servers

AT_ONCE = 500


async def dump(servers: Servers) -> AsyncIterator[Record]:
    async for ids in lists.pages(servers, keys.PEOPLE):
        values = await servers.all([("GET", keys.user(user_id)) for user_id in ids])
        hashes = await servers.all([("GET", *keys.of_user(user_id, "password")) for user_id in ids])
        for value, password_hash in zip(values, hashes, strict=True):
            state = rows.user_state(value)
            if state is not None:
                known = str(password_hash, "utf-8") if password_hash is not None else None
                yield replace(state, password_hash=known)
    session_ids = [sessions.owned(each)[0] for each in await lists.everything(servers, keys.SESSIONS)]
    for begin in range(0, len(session_ids), AT_ONCE):
        for session in await sessions.read(servers, session_ids[begin : begin + AT_ONCE]):
            yield session
    async for ids in lists.pages(servers, keys.ROOMS):
        for room_id in ids:
            async for record in _room(servers, room_id):
                yield record


async def _room(servers: Servers, room_id: str) -> AsyncIterator[Record]:
    state = rows.room_state(await servers.one("HGETALL", keys.room(room_id)))
    if state is None or state.room.closed_at is not None:
        return
    yield state
    members, marks = keys.of_room(room_id, "members", "marks")
    ids = await lists.everything(servers, members, "HSCAN")
    for begin in range(0, len(ids), AT_ONCE):
        part = ids[begin : begin + AT_ONCE]
        values, read = await servers.all([("HMGET", members, *part), ("HMGET", marks, *part)])
        for user_id, value, mark in zip(part, values, read, strict=True):
            if value is not None:
                yield rows.member(room_id, user_id.encode(), value, mark)
    after = 0
    # Not on and on where others write as fast as this reads.
    while after < state.room.last_seq:
        page = await history.page(servers, room_id, None, after, AT_ONCE)
        if not page:
            break
        for message in page:
            yield message
        after = page[-1].seq
    revision = await servers.one("HGET", keys.room(room_id), "revision")
    if revision is None or int(revision) != state.room.revision:
        raise StartError(f"room {state.room.name or room_id} goes on meanwhile; stop all nodes first")


async def load(servers: Servers, records: Sequence[Record]) -> None:
    for begin in range(0, len(records), AT_ONCE):
        commands: list[Command] = []
        for _, group in groupby(records[begin : begin + AT_ONCE], _together):
            commands += _loading(list(group))
        await servers.all(commands)


def _together(record: Record) -> tuple[type, str | None]:
    """Messages of one room are written together, and everything else one by one."""
    return (Message, record.room_id) if isinstance(record, Message) else (type(record), None)


def _loading(records: Sequence[Any]) -> list[Command]:
    if isinstance(records[0], Message):
        return _messages(records[0].room_id, records)
    commands: list[Command] = []
    for record in records:
        if isinstance(record, UserState):
            commands += _user(record)
        elif isinstance(record, Session):
            commands += sessions.loading(record)
        elif isinstance(record, RoomState):
            commands += _settings(record)
        else:
            commands += _member(record)
    return commands


def _user(state: UserState) -> list[Command]:
    user = state.user
    record: list[Command] = [("SET", keys.user(user.id), rows.user_text(user, state.deleted_at))]
    if state.password_hash is not None:
        record.append(("SET", *keys.of_user(user.id, "password"), state.password_hash))
    if state.deleted_at is not None:
        removed_ms = to_ms(state.deleted_at)
        return [("ZADD", keys.PEOPLE, 0, user.id), ("ZADD", keys.REMOVED, removed_ms, user.id), *record]
    return [("SET", keys.USER_NAME + user.name, _holder(user.id)), people.listing(user), *record]


def _settings(state: RoomState) -> list[Command]:
    room = state.room
    commands: list[Command] = rooms.listing(room)
    if room.name is not None:
        commands.append(("SET", keys.ROOM_NAME + room.name, _holder(room.id)))
    if room.created_by is not None:
        created = keys.of_user(room.created_by, "created")
        commands.append(("ZADD", *created, int(time.time()), room.id))
    return [*commands, ("HSET", keys.room(room.id), *rows.state_fields(state))]


def _member(member: Member) -> list[Command]:
    room_id, user_id = member.room_id, member.user_id
    members, stamps, roles, present, marks = keys.of_room(
        room_id, "members", "member-revisions", "roles", "present", "marks"
    )
    joined, left = keys.of_user(user_id, "rooms", "left")
    commands: list[Command] = [("HSET", members, user_id, rows.member_value(member))]
    if member.left_at is None:
        commands += [
            ("ZADD", joined, int(time.time()), room_id),
            ("HSET", roles, user_id, member.role.value),
            ("ZADD", present, 0, user_id),
        ]
    else:
        commands.append(("SADD", left, room_id))
    if member.revision:
        commands.append(("ZADD", stamps, member.revision, user_id))
    if member.read_seq:
        commands.append(("HSET", marks, user_id, member.read_seq))
    return commands


def _messages(room_id: str, messages: Sequence[Message]) -> list[Command]:
    key, ids, revisions = keys.of_room(room_id, "messages", "ids", "revisions")
    return [
        ("HSET", key, *(word for each in messages for word in (each.seq, rows.message_value(each)))),
        ("HSET", ids, *(word for each in messages for word in (each.id, each.seq))),
        ("ZADD", revisions, *(word for each in messages for word in (each.revision, each.seq))),
    ]


def _holder(id_: str) -> str:
    return f"{id_} {int(time.time())}"
