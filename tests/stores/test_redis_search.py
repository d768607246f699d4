"""Searching in Redis, where there is no index of words."""

import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from parley.ids import new_id
from parley.models import Message, Role, RoomChange
from parley.stores.base import MAX_SCAN, Query, Store
from parley.stores.memory import MemoryStore
from parley.stores.redis import RedisStore
from parley.stores.rules import newest_first
from tests.contracts.kitchen import a_room, a_user, all_done, at, delete, done, edit, kitchen_in, send
from tests.redis_servers import a_redis, a_redis_cluster
from tests.stores.test_redis import opened


@pytest.fixture(params=[a_redis, a_redis_cluster])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[RedisStore]:
    async with opened(request.param(tmp_path)) as store:
        yield store


async def search_all(store: Store, query: Query) -> list[Message]:
    """Page by page."""
    found: list[Message] = []
    while True:
        page = await store.search(query)
        assert page.complete
        found += page.messages
        if len(page.messages) < query.limit:
            return found
        query = Query(
            user_id=query.user_id,
            words=query.words,
            room_id=query.room_id,
            limit=query.limit,
            before=newest_first(page.messages[-1]),
        )


async def test_it_finds_over_many_rooms_what_the_memory_finds(store: RedisStore) -> None:
    chance = random.Random(5)
    memory = MemoryStore()
    ann, bob = a_user("ann"), a_user("bob")
    rooms = [
        a_room(f"room{number}", kind=chance.choice(["public", "private"]), created_by=ann.id)
        for number in range(25)
    ]
    rooms += [a_room("gone", created_by=ann.id, expires_at=at(1))]
    sends = []
    for number in range(1500):
        # Mostly into few rooms, several in the same moment.
        room = rooms[min(chance.randrange(26), chance.randrange(26))]
        text = " ".join(chance.choices(["apple", "apples", "Birne", "kirsche", "七夕"], k=2))
        sends.append(send(room, ann, text, sent_at=at(number // 7)))
    for each in (store, memory):
        for user in (ann, bob):
            await each.add_user(user)
        for room in rooms:
            await each.add_room(room, ann.id)
        for room in rooms[:10]:
            await each.join(room.id, bob.id, Role.MEMBER, at(0))
        all_done(await each.apply(sends))
        await each.change_room(rooms[0].id, RoomChange(history_limit=40))
        await done(each, edit(sends[-1], ann, "apple pie"))
        await done(each, delete(sends[-2], ann))
        await each.close_due_rooms(at(1), 10)
    private = next(room for room in rooms[10:] if room.kind == "private")
    for words in (("apple",), ("apples", "kir"), ("七",), ("pie",), ("nothing",)):
        for user_id in (ann.id, bob.id, new_id()):
            for room_id in (None, rooms[1].id, private.id, rooms[-1].id, new_id()):
                query = Query(user_id=user_id, words=words, room_id=room_id, limit=chance.choice([20, 50]))
                assert await search_all(store, query) == await search_all(memory, query)


async def test_it_says_where_it_did_not_look(store: RedisStore) -> None:
    kitchen = await kitchen_in(store)
    hall = a_room("hall", created_by=kitchen.ann.id)
    await store.add_room(hall, kitchen.ann.id)
    await store.apply([send(hall, kitchen.ann, "old gold", sent_at=at(1))])
    await store.apply([send(kitchen.room, kitchen.ann, "gold", sent_at=at(2))])
    for begin in range(0, MAX_SCAN - 2, 1000):
        batch = range(begin, min(begin + 1000, MAX_SCAN - 2))
        all_done(await store.apply([send(kitchen.room, kitchen.ann, "dust", sent_at=at(3)) for _ in batch]))
    query = Query(user_id=kitchen.bob.id, words=("gold",), limit=10)
    found = await store.search(query)
    assert ([each.text for each in found.messages], found.complete) == (["gold", "old gold"], True)
    await store.apply([send(kitchen.room, kitchen.ann, "dust", sent_at=at(3))] * 1)
    await store.apply([send(kitchen.room, kitchen.ann, "dust", sent_at=at(3))] * 1)
    found = await store.search(query)
    assert (found.messages, found.complete) == ([], False)
    # Going on from a message is cheap, however much is newer.
    oldest = Query(user_id=kitchen.bob.id, words=("gold",), limit=10, before=(at(2), kitchen.room.id, 1))
    found = await store.search(oldest)
    assert ([each.text for each in found.messages], found.complete) == (["old gold"], True)
