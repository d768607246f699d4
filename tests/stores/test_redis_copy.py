"""Copying a chat out of Redis and into it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from parley.errors import StartError
from parley.models import Member, Message, Session
from parley.stores.base import Record, RoomState, Store, UserState
from parley.stores.memory import MemoryStore
from parley.stores.redis import RedisStore
from tests.contracts.kitchen import (
    a_room,
    a_session,
    a_user,
    at,
    delete,
    done,
    edit,
    kitchen_in,
    marked,
    react,
    send,
)
from tests.redis_servers import a_redis, a_redis_cluster
from tests.stores.test_redis import opened


@pytest.fixture(params=[a_redis, a_redis_cluster])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[RedisStore]:
    async with opened(request.param(tmp_path)) as store:
        yield store


async def all_of(store: Store) -> list[Record]:
    return [record async for record in store.dump()]


async def a_whole_chat(store: Store) -> None:
    kitchen = await kitchen_in(store, kind="private", history_limit=3, title='A "title" ü')
    for text in ("one", "two", "three", "four", "fünf \\ / 🦊"):
        last = await kitchen.says(kitchen.ann, text)
    await kitchen.says(kitchen.bob, "an answer", reply_to=last.id)
    for user, emoji in ((kitchen.bob, "🦊"), (kitchen.ann, "👍"), (kitchen.ann, "🦊")):
        await done(store, react(last, user, emoji))
    await done(store, edit(last, kitchen.ann, "six"))
    await marked(store, kitchen.room.id, kitchen.bob.id, 4)
    await store.leave(kitchen.room.id, kitchen.bob.id, at(9))
    hall, gone = a_room("hall", capacity=9, expires_at=at(9000)), a_room("gone", expires_at=at(1))
    for room in (hall, gone):
        await store.add_room(room, kitchen.ann.id)
    nameless = a_room(None, kind="direct", created_by=kitchen.bob.id)
    await store.add_room(nameless, kitchen.bob.id)
    guest = a_user("gil", kind="guest", last_seen_at=at(10))
    await store.add_user(guest, [hall.id, kitchen.room.id])
    await store.add_user(a_user("gus", kind="guest", last_seen_at=at(10)), [hall.id, kitchen.room.id])
    deleted = await done(store, send(hall, guest, "never mind"))
    await done(store, delete(deleted, guest))
    await store.leave(hall.id, kitchen.ann.id, at(8))
    await store.add_session(a_session(kitchen.ann, b"hash", at(60)))
    await store.add_session(a_session(guest, b"guest", at(60)))
    await store.close_due_rooms(at(1), 10)
    await store.saw({guest.id: at(9000)})
    assert len(await store.expire_guests(at(100), at(50), 10)) == 1


@pytest.mark.parametrize("first", ["memory", "redis"])
async def test_a_chat_that_is_copied_stays_as_it_was(store: RedisStore, first: str) -> None:
    stores: list[Store] = [MemoryStore(), store]
    source, copy = stores if first == "memory" else stores[::-1]
    await a_whole_chat(source)
    records = await all_of(source)
    assert {type(record) for record in records} == {UserState, Session, RoomState, Member, Message}
    await copy.load(records)
    assert await all_of(copy) == records
    await goes_on(copy)


async def goes_on(store: Store) -> None:
    """A copy works as the chat that it was made from."""
    kitchen = await store.room("kitchen")
    ann, hall, gil = await store.user("ann"), await store.room("hall"), await store.user("gil")
    assert kitchen
    assert ann
    assert hall
    assert gil
    assert await store.user("gus") is None
    await store.add_user(a_user("gus"))
    assert [room.name for room in (await store.rooms_of([ann.id]))[ann.id]] == ["kitchen"]
    assert [room.name for room in await store.public_rooms(None, 9)] == ["hall"]
    message = await done(store, send(kitchen, ann, "hi"))
    assert (message.seq, message.revision) == (kitchen.last_seq + 1, kitchen.revision + 1)
    told = await store.changes(kitchen.id, kitchen.revision, 10)
    assert (told.messages, told.reset) == ([message], False)
    assert (await store.changes(kitchen.id, 0, 10)).reset
    assert (await store.stats(at(0))).messages == 4
    (session,) = await store.sessions_of(ann.id)
    assert session.token_hash == b"hash"
    assert await store.sessions([session.id]) == {session.id: (session, ann)}
    assert [room.id for room in await store.close_due_rooms(at(9000), 9)] == [hall.id]
    assert await store.expire_guests(at(9500), at(9001), 9) == [gil.id]
    # Whom a tombstone names is there for a store that wants to look them up.
    while await store.purge(at(9999), 9):
        pass
    records = await all_of(store)
    users = {record.user.id for record in records if isinstance(record, UserState)}
    assert {record.user_id for record in records if isinstance(record, Member)} <= users


async def test_a_room_that_goes_on_meanwhile_stops_the_copying(store: RedisStore) -> None:
    kitchen = await kitchen_in(store)
    await kitchen.says(kitchen.ann, "one")
    with pytest.raises(StartError, match="room kitchen goes on meanwhile; stop all nodes first"):
        async for record in store.dump():
            if isinstance(record, Message):
                await kitchen.says(kitchen.ann, "two")
