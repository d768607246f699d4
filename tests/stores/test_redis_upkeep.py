"""Upkeep of a chat in Redis: several nodes that do it at once, and what a crash in the midst of it leaves."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from parley.errors import NameTaken, StoreUnavailable, UserNotFound
from parley.ids import from_ms, new_id, now, now_ms, to_ms
from parley.models import Member, Role, Session, User
from parley.stores.base import Record, Store, UserState
from parley.stores.redis import RedisStore, guests, keys, scripts, upkeep
from parley.stores.redis.servers import Command
from tests.contracts.kitchen import (
    a_room,
    a_session,
    a_user,
    all_done,
    at,
    done,
    kitchen_in,
    marked,
    send,
)
from tests.redis_servers import a_redis, a_redis_cluster
from tests.stores.test_redis import opened

IDLE = at(1000)


@pytest.fixture(params=["redis", "redis-cluster"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return a_redis(tmp_path) if request.param == "redis" else a_redis_cluster(tmp_path)


@pytest.fixture
async def store(url: str) -> AsyncIterator[RedisStore]:
    async with opened(url) as store:
        yield store


@pytest.fixture
async def other(url: str) -> AsyncIterator[RedisStore]:
    """Another node."""
    async with opened(url) as other:
        yield other


def a_guest(name: str, **fields: Any) -> User:
    return a_user(name, **{"kind": "guest", "last_seen_at": at(10), **fields})


async def some_guests(store: Store, count: int, rooms: list[str]) -> list[User]:
    found = [a_guest(f"guest{number}") for number in range(count)]
    for guest in found:
        await store.add_user(guest, rooms)
    return found


async def all_of(store: Store) -> list[Record]:
    return [record async for record in store.dump()]


async def in_list(store: RedisStore, key: str) -> set[str]:
    return {each.decode() for each in await store._servers.one("ZRANGE", key, 0, -1)}


def fails(monkeypatch: pytest.MonkeyPatch, module: Any, name: str) -> None:
    """Let a step of a module fail, as if the node had lost its servers there."""

    async def failing(*_: Any, **__: Any) -> None:
        raise StoreUnavailable

    monkeypatch.setattr(module, name, failing)


# Several nodes


async def test_of_two_nodes_that_close_rooms_each_gets_others(store: RedisStore, other: RedisStore) -> None:
    due = [a_room(f"room{number}", expires_at=at(number)) for number in range(230)]
    for room in due:
        await store.add_room(room)
    results = await asyncio.gather(*(node.close_due_rooms(at(500), 70) for node in (store, other) * 3))
    closed = [room for result in results for room in result]
    while more := await store.close_due_rooms(at(500), 70):
        closed += more
    assert sorted(room.id for room in closed) == sorted(room.id for room in due)
    assert {(room.closed_at, room.revision) for room in closed} == {(at(500), 1)}
    assert await store.public_rooms(None, 10) == []
    assert await in_list(store, keys.ROOMS) | await in_list(store, keys.EXPIRING_ROOMS) == set()
    await store.add_room(a_room("room7"))


async def test_of_two_nodes_that_expire_guests_each_gets_others(store: RedisStore, other: RedisStore) -> None:
    hall, study = a_room("hall"), a_room("study", kind="private")
    for room in (hall, study):
        await store.add_room(room)
    idle = await some_guests(store, 130, [hall.id, study.id])
    results = await asyncio.gather(*(node.expire_guests(at(2000), IDLE, 50) for node in (store, other) * 3))
    gone = [user_id for result in results for user_id in result]
    while more := await store.expire_guests(at(2000), IDLE, 50):
        gone += more
    assert sorted(gone) == sorted(guest.id for guest in idle)
    after = [await store.room(room.id) for room in (hall, study)]
    assert [(room.member_count, room.revision) for room in after if room] == [(0, 0), (0, 260)]
    members = [record for record in await all_of(store) if isinstance(record, Member)]
    assert {member.room_id for member in members} == {study.id}
    assert len(members) == 130
    await store.add_user(a_user("guest7"))


async def test_last_seen_never_moves_back_however_many_nodes_say_so(
    store: RedisStore, other: RedisStore
) -> None:
    guest = a_guest("gil", display_name='Gil "é/" 🦊')
    await store.add_user(guest)
    moments = list(range(20, 60))
    random.Random(1).shuffle(moments)
    await asyncio.gather(*((store, other)[n % 2].saw({guest.id: at(n), new_id(): at(n)}) for n in moments))
    seen = await store.user(guest.id)
    assert seen == User(
        id=guest.id, name="gil", display_name=guest.display_name, kind="guest", last_seen_at=at(59)
    )
    # Wherever the list stands now, the record has the say.
    await store._servers.one("ZADD", keys.GUESTS, to_ms(at(1)), guest.id)
    assert await store.expire_guests(at(2000), at(58), 10) == []
    assert await store._servers.one("ZSCORE", keys.GUESTS, guest.id) == str(to_ms(at(59))).encode()
    assert await store.expire_guests(at(2000), at(59), 10) == [guest.id]


async def test_a_guest_who_comes_back_at_that_moment_stays_or_goes_whole(
    store: RedisStore, other: RedisStore
) -> None:
    hall = a_room("hall", kind="private")
    await store.add_room(hall)
    idle = await some_guests(store, 40, [])
    sessions = [a_session(guest, b"hash", at(5000 + number)) for number, guest in enumerate(idle)]

    async def comes(guest: User, session: Session) -> None:
        try:
            await other.join(hall.id, guest.id, Role.MEMBER, at(7))
            await other.add_session(session)
        except UserNotFound:
            pass

    results = await asyncio.gather(
        *(comes(guest, session) for guest, session in zip(idle, sessions, strict=True)),
        *(store.expire_guests(at(2000), IDLE, 5) for _ in range(8)),
        return_exceptions=False,
    )
    gone = {user_id for result in results if result for user_id in result}
    members = {member.user_id for member in await store.members(hall.id, None, 100)}
    there = await store.sessions([session.id for session in sessions])
    for guest, session in zip(idle, sessions, strict=True):
        assert (await store.user(guest.id) is None) == (guest.id in gone) == (session.id not in there)
    assert {key for key in await everything(store) if key.startswith(keys.SESSION)} == {
        keys.SESSION + id_ for id_ in there
    }
    assert not members & gone
    room = await store.room(hall.id)
    assert room is not None
    assert room.member_count == len(members)


async def test_a_guest_who_is_removed_while_joining_does_not_stay_in_the_room(
    store: RedisStore, other: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    hall, study = a_room("hall"), a_room("study", kind="private")
    for number, room in enumerate((hall, study)):
        await store.add_room(room)
        guest = a_guest(f"guest{number}")
        await store.add_user(guest)
        one = store._servers.one

        async def in_between(*command: Any, gone: str = guest.id, one: Any = one) -> Any:
            if command[:2] == ("EVALSHA", scripts.JOIN):
                assert await other.expire_guests(at(2000), IDLE, 10) == [gone]
            return await one(*command)

        with monkeypatch.context() as patched:
            patched.setattr(store._servers, "one", in_between)
            with pytest.raises(UserNotFound):
                await store.join(room.id, guest.id, Role.MEMBER, at(7))
        assert await store.members(room.id, None, 10) == []


async def test_a_room_that_a_guest_is_just_making_keeps_them(store: RedisStore) -> None:
    guest = a_guest("gil")
    await store.add_user(guest)
    coming = new_id()
    created = f"parley:{{user:{guest.id}}}:created"
    await store._servers.one("ZADD", created, int(time.time()), coming)
    assert await store.expire_guests(at(2000), IDLE, 10) == []
    # But not if it has not come within a minute.
    await store._servers.one("ZADD", created, int(time.time()) - 70, coming)
    assert await store.expire_guests(at(2000), IDLE, 10) == [guest.id]


async def test_those_whom_something_keeps_are_passed_over(store: RedisStore) -> None:
    hall = a_room("hall")
    await store.add_room(hall)
    kept = await some_guests(store, 120, [])
    for number, guest in enumerate(kept):
        if number % 3 == 0:
            await store.add_session(a_session(guest, guest.id.encode(), at(5000)))
        elif number % 3 == 1:
            await store.add_room(a_room(None, created_by=guest.id), guest.id)
        else:
            await store.add_room(a_room(None, created_by=guest.id, expires_at=at(1500)))
    idle = [a_guest(f"idle{number}", last_seen_at=at(500)) for number in range(7)]
    for guest in idle:
        await store.add_user(guest)
    await store.close_due_rooms(at(1500), 1000)
    assert len(await store.expire_guests(at(2000), IDLE, 5)) == 5
    assert len(await store.expire_guests(at(2000), IDLE, 5)) == 2
    assert len(await store.expire_guests(at(2000), at(1499), 500)) == 0
    assert len(await store.expire_guests(at(2000), at(1500), 500)) == 40
    assert len(await store.expire_guests(at(5000), at(1500), 500)) == 40


# A crash in the midst


async def test_a_room_that_was_closed_but_not_cleaned_up_is_finished_by_the_next(
    store: RedisStore, other: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    hall = a_room("hall", expires_at=at(5))
    await store.add_room(hall)
    with monkeypatch.context() as patched:
        fails(patched, upkeep, "_finish")
        assert [room.id for room in await store.close_due_rooms(at(6), 10)] == [hall.id]
    assert (await store.room("hall"), await store.public_rooms(None, 10)) == (None, [])
    with pytest.raises(NameTaken):
        await other.add_room(a_room("hall"))
    assert await other.close_due_rooms(at(7), 10) == []
    await other.add_room(a_room("hall"))
    assert (await other.stats(at(7))).rooms == 1
    assert await other.purge(at(6), 10) > 0
    assert await store._servers.one("EXISTS", keys.room(hall.id)) == 0


async def test_a_guest_who_was_removed_but_is_still_in_rooms_is_finished_by_the_next(
    store: RedisStore, other: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = a_room("study", kind="private")
    await store.add_room(study)
    (guest,) = await some_guests(store, 1, [study.id])
    await store.add_session(session := a_session(guest, b"hash", at(20)))
    with monkeypatch.context() as patched:
        fails(patched, guests, "finish")
        assert await store.expire_guests(at(2000), IDLE, 10) == [guest.id]
    assert (await store.user(guest.id), await store.user(guest.name)) == (None, None)
    assert await store.sessions([session.id]) == {}
    with pytest.raises(UserNotFound):
        await store.join(study.id, guest.id, Role.MEMBER, at(7))
    with pytest.raises(UserNotFound):
        await store.add_session(a_session(guest, b"other", at(20)))
    assert await other.expire_guests(at(3000), IDLE, 10) == []
    assert await other.members(study.id, None, 10) == []
    (tombstone,) = (await other.changes(study.id, 1, 10)).members
    assert (tombstone.left_at, tombstone.revision) == (at(2000), 2)
    await other.add_user(a_user(guest.name))
    stats = await other.stats(at(3000))
    assert (stats.users, stats.guests) == (1, 0)
    assert await in_list(store, keys.SESSIONS) == set()


async def test_what_was_coming_but_never_came_is_counted_no_more(store: RedisStore) -> None:
    long_ago = int(time.time()) - 70
    for kind in ("user", "room"):
        await store._servers.one("ZADD", keys.COMING, long_ago, f"{kind} {new_id()}")
    lost, soon = new_id(), new_id()
    for user_id, since in ((lost, long_ago), (soon, int(time.time()))):
        await store._servers.one("ZADD", keys.COMING, since, f"user {user_id}")
        await store._servers.one("ZADD", keys.PEOPLE, 0, user_id)
        await store._servers.one("ZADD", keys.GUESTS, 5, user_id)
        await store._servers.one("ZADD", keys.COMING, since, f"room {user_id}")
        for key in (keys.ROOMS, keys.PUBLIC_ROOMS, keys.EXPIRING_ROOMS):
            await store._servers.one("ZADD", key, 0, user_id)
    assert (await store.stats(at(0))).guests == 2
    assert (await store.stats(at(0))).rooms == 0
    assert await store.close_due_rooms(at(5), 10) == []
    assert await store.expire_guests(at(5), at(5), 10) == []
    assert await all_of(store) == []
    assert await store.purge(at(0), 100) == 4
    for key in (keys.PEOPLE, keys.GUESTS, keys.ROOMS, keys.PUBLIC_ROOMS, keys.EXPIRING_ROOMS):
        assert await in_list(store, key) == {soon}


# Purging


async def test_nothing_stays_of_a_purged_room_and_of_whom_nothing_names(store: RedisStore) -> None:
    before = {key for key in await everything(store) if "kept" not in key}
    study = a_room("study", kind="private", expires_at=at(1500))
    hall = a_room("hall", expires_at=at(1500))
    for room in (study, hall):
        await store.add_room(room)
    guest, stranger = await some_guests(store, 2, [study.id, hall.id])
    await store.leave(study.id, stranger.id, at(30))
    await store.leave(hall.id, stranger.id, at(30))
    for room in (study, hall):
        for text in ("one", "two"):
            await done(store, send(room, guest, text))
        await marked(store, room.id, guest.id, 1)
    await store.add_session(a_session(guest, b"hash", at(20)))
    assert len(await store.expire_guests(at(2000), IDLE, 10)) == 2
    # A tombstone in the study names both.
    assert await store.purge(at(2000), 100) == 0
    states = [record for record in await all_of(store) if isinstance(record, UserState)]
    assert [state.deleted_at for state in states] == [at(2000)] * 2
    assert len(await store.close_due_rooms(at(2000), 10)) == 2
    assert await store.purge(at(1999), 100) == 0
    while await store.purge(at(2000), 1):
        pass
    left = {key for key in await everything(store) if "kept" not in key and "sent" not in key}
    assert left - {keys.COMING, keys.MOVED} == before


async def everything(store: RedisStore) -> set[str]:
    return {key.decode() for found in await store._servers.on_every_server("KEYS", "*") for key in found}


async def test_a_session_that_was_extended_is_not_purged(store: RedisStore) -> None:
    ann = a_user("ann")
    await store.add_user(ann)
    ends = [a_session(ann, name.encode(), at(20)) for name in ("one", "two", "three")]
    for session in ends:
        await store.add_session(session)
    await store.extend_sessions({ends[0].id: at(50), ends[1].id: at(10), new_id(): at(50)})
    await store.end_session(ends[2].id)
    await store.extend_sessions({ends[2].id: at(50)})
    assert await store.purge(at(20), 100) == 1
    assert list(await store.sessions([session.id for session in ends])) == [ends[0].id]
    assert await in_list(store, f"parley:{{user:{ann.id}}}:sessions") == {ends[0].id}
    assert await store.purge(at(50), 100) == 1
    assert [key for key in await everything(store) if "session" in key] == []


@pytest.mark.parametrize(("begins", "steps"), [(True, 1), (True, 2), (False, 1), (False, 2), (False, 3)])
async def test_what_a_crash_leaves_of_a_session_is_purged(
    store: RedisStore, monkeypatch: pytest.MonkeyPatch, begins: bool, steps: int
) -> None:
    ann = a_user("ann")
    await store.add_user(ann)
    session = a_session(ann, b"hash", at(20))
    if not begins:
        await store.add_session(session)
    with monkeypatch.context() as patched:
        meanwhile(patched, store, steps, lost)
        with pytest.raises(StoreUnavailable):
            await (store.add_session(session) if begins else store.end_session(session.id))
    there = [each.id for each in await store.sessions_of(ann.id)]
    assert there == ([] if begins or steps > 1 else [session.id])
    assert begins or there == list(await store.sessions([session.id])), "what works can be found and ended"
    assert await store.purge(at(20), 100) == 1
    assert [key for key in await everything(store) if "session" in key] == []


@pytest.mark.parametrize("steps", [0, 1, 2])
async def test_a_session_that_comes_while_its_user_is_removed_leaves_nothing(
    store: RedisStore, other: RedisStore, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    ann = a_user("ann")
    await store.add_user(ann)

    async def removed() -> None:
        await other.remove_user(ann.id, at(5))

    with monkeypatch.context() as patched:
        meanwhile(patched, store, steps, removed)
        with pytest.raises(UserNotFound):
            await store.add_session(a_session(ann, b"hash", at(20)))
    assert [key for key in await everything(store) if "session" in key] == []


async def lost() -> None:
    raise StoreUnavailable


def meanwhile(
    monkeypatch: pytest.MonkeyPatch, store: RedisStore, steps: int, happen: Callable[[], Awaitable[None]]
) -> None:
    """Let something happen when a node has taken so many steps."""
    ask = store._servers.ask
    taken = iter(range(99))

    async def asking(commands: Sequence[Command], **options: Any) -> list[Any]:
        if next(taken) == steps:
            await happen()
        return await ask(commands, **options)

    monkeypatch.setattr(store._servers, "ask", asking)


# Counting


async def test_messages_are_counted_by_the_minute_without_the_sender_waiting(
    store: RedisStore, other: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("parley.stores.redis.counters.TOLD_EVERY_SECONDS", 0.02)
    kitchen = await kitchen_in(store, history_limit=3)
    messages = [send(kitchen.room, kitchen.ann, "hi") for _ in range(5)]
    all_done(await store.apply(messages))
    all_done(await store.apply(messages[-1:]))
    ends = time.monotonic() + 5
    while (await other.stats(now())).messages_last_hour < 5:
        assert time.monotonic() < ends
        await asyncio.sleep(0.01)
    stats = await store.stats(now())
    assert (stats.users, stats.guests, stats.rooms, stats.messages) == (3, 0, 1, 3)
    assert stats.messages_last_hour == 5
    in_an_hour = now_ms() // 60_000 * 60_000 + 60 * 60_000
    assert (await store.stats(from_ms(in_an_hour + 60_000))).messages_last_hour == 0
    minute = keys.SENT + str(now_ms() // 60_000)
    assert 0 < await store._servers.one("TTL", minute) <= 7200


async def test_what_was_counted_last_is_told_when_the_store_is_closed(store: RedisStore, url: str) -> None:
    kitchen = await kitchen_in(store)
    async with opened(url) as other:
        all_done(await other.apply([send(kitchen.room, kitchen.ann, "hi")]))
    assert (await store.stats(now())).messages_last_hour == 1
