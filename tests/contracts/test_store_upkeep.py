"""What every store does with what runs out, and how it counts what there is."""

import asyncio

import pytest

from parley.errors import NotAMember, RoomNotFound, UserNotFound
from parley.ids import Time, from_ms, new_id, now, now_ms
from parley.models import Role, RoomChange, Stats, User
from parley.stores.base import Store
from tests.contracts.kitchen import Kitchen, a_room, a_session, a_user, at, done, marked, refused, send

# Rooms whose time is up


async def test_a_room_is_closed_when_its_time_is_up(kitchen: Kitchen, store: Store) -> None:
    soon = a_room("soon", expires_at=at(10))
    later = a_room("later", expires_at=at(11))
    for room in (soon, later):
        await store.add_room(room, kitchen.ann.id)
    said = await done(store, send(soon, kitchen.ann, "hello"))
    assert await store.close_due_rooms(at(9.999), 10) == []
    (closed,) = await store.close_due_rooms(at(10), 10)
    assert (closed.id, closed.closed_at, closed.revision) == (soon.id, at(10), said.revision + 1)
    assert closed.name == "soon"

    assert await store.close_due_rooms(at(10), 10) == []
    assert await store.room(soon.id, kitchen.ann.id) is None
    assert await store.room("soon") is None
    assert soon.id not in [room.id for room in (await store.rooms_of([kitchen.ann.id]))[kitchen.ann.id]]
    assert soon.id not in [room.id for room in await store.public_rooms(None, 10)]
    assert await store.heads([soon.id, later.id]) == {later.id: 0}
    assert await refused(store, send(soon, kitchen.ann, "too late")) is RoomNotFound
    for step in (
        store.join(soon.id, kitchen.bob.id, Role.MEMBER, at(10)),
        store.changes(soon.id, 0, 10),
        marked(store, soon.id, kitchen.ann.id, 1),
        store.change_room(soon.id, RoomChange(history_limit=5)),
    ):
        with pytest.raises(RoomNotFound):
            await step


async def test_the_name_of_a_closed_room_is_free(kitchen: Kitchen, store: Store) -> None:
    await store.add_room(a_room("soon", expires_at=at(10)), kitchen.ann.id)
    await store.close_due_rooms(at(10), 10)
    again = a_room("soon")
    await store.add_room(again, kitchen.bob.id)
    found = await store.room("soon")
    assert found is not None
    assert found.id == again.id


async def test_many_who_close_at_once_close_each_room_once(kitchen: Kitchen, store: Store) -> None:
    rooms = [a_room(f"soon-{number}", expires_at=at(number)) for number in range(20)]
    for room in rooms:
        await store.add_room(room, kitchen.ann.id)
    closed = await asyncio.gather(*(store.close_due_rooms(at(30), 7) for _ in range(10)))
    rest = await store.close_due_rooms(at(30), 100)
    ids = [room.id for part in (*closed, rest) for room in part]
    assert all(len(part) <= 7 for part in closed)
    assert sorted(ids) == sorted(room.id for room in rooms)


# Guests


def a_guest(name: str, seen: Time) -> User:
    return a_user(name, kind="guest", last_seen_at=seen)


async def test_a_guest_whom_nothing_keeps_is_gone(kitchen: Kitchen, store: Store) -> None:
    dora = a_guest("dora", at(0))
    await store.add_user(dora, [kitchen.room.id])
    await store.add_session(session := a_session(dora, b"d" * 32, at(5)))
    message = await kitchen.says(dora, "remember me")
    before = (await kitchen.now()).member_count
    assert await store.expire_guests(at(4), at(1), 10) == []  # the session
    assert await store.expire_guests(at(5), at(-1), 10) == []  # seen a moment ago
    assert await store.expire_guests(at(5), at(0), 10) == [dora.id]

    assert await store.expire_guests(at(5), at(0), 10) == []
    assert await store.user(dora.id) is None
    assert await store.user("dora") is None
    assert await store.sessions([session.id]) == {}
    assert (await kitchen.now()).member_count == before - 1
    assert dora.id not in [member.user_id for member in await store.members(kitchen.room.id, None, 10)]
    assert (await store.rooms_of([dora.id]))[dora.id] == []
    assert await store.page(kitchen.room.id, limit=10) == [message]
    assert await refused(store, send(kitchen.room, dora, "hello?")) is NotAMember
    with pytest.raises(UserNotFound):
        await store.join(kitchen.room.id, dora.id, Role.MEMBER, at(6))
    with pytest.raises(UserNotFound):
        await store.add_session(a_session(dora, b"e" * 32, at(50)))
    another = a_guest("dora", at(6))
    await store.add_user(another, [kitchen.room.id])
    assert await store.user("dora") == another


async def test_only_guests_expire(kitchen: Kitchen, store: Store) -> None:
    await store.add_user(a_user("rob", kind="agent", last_seen_at=at(0)))
    await store.add_user(a_user("pia", last_seen_at=at(0)))
    await store.add_user(a_user("eve", kind="guest"))  # nobody knows since when
    assert await store.expire_guests(at(100), at(100), 10) == []


async def test_a_guest_is_kept_by_the_rooms_that_they_made(kitchen: Kitchen, store: Store) -> None:
    dora = a_guest("dora", at(0))
    await store.add_user(dora)
    room = a_room("doras", created_by=dora.id, expires_at=at(100))
    await store.add_room(room, dora.id)
    await store.leave(room.id, dora.id, at(1))
    assert await store.expire_guests(at(90), at(80), 10) == []
    await store.close_due_rooms(at(100), 10)
    assert await store.expire_guests(at(110), at(99), 10) == []
    assert await store.expire_guests(at(111), at(100), 10) == [dora.id]


async def test_whose_room_is_open_or_has_just_closed(kitchen: Kitchen, store: Store) -> None:
    dora = a_guest("dora", at(0))
    await store.add_user(dora)
    assert not await store.owns_room(dora.id, at(0))
    await store.add_room(a_room("doras", created_by=dora.id, expires_at=at(100)), dora.id)
    assert await store.owns_room(dora.id, at(1000))
    await store.close_due_rooms(at(100), 10)
    assert await store.owns_room(dora.id, at(99))
    assert not await store.owns_room(dora.id, at(100))
    assert not await store.owns_room(kitchen.bob.id, at(0))


async def test_a_guest_who_was_seen_again_stays(kitchen: Kitchen, store: Store) -> None:
    dora = a_guest("dora", at(0))
    await store.add_user(dora)
    await store.saw({dora.id: at(7), new_id(): at(7)})
    assert await store.expire_guests(at(10), at(6), 10) == []
    await store.saw({dora.id: at(3)})
    seen = await store.user(dora.id)
    assert seen is not None
    assert seen.last_seen_at == at(7)
    assert await store.expire_guests(at(10), at(7), 10) == [dora.id]


async def test_a_guest_who_goes_is_a_change_of_a_private_room(study: Kitchen, store: Store) -> None:
    dora = a_guest("dora", at(0))
    await store.add_user(dora)
    await store.join(study.room.id, dora.id, Role.MEMBER, at(1))
    since = (await study.now()).revision
    assert await store.expire_guests(at(9), at(0), 10) == [dora.id]
    changes = await store.changes(study.room.id, since, 10)
    assert changes.revision == since + 1
    (member,) = changes.members
    assert (member.user_id, member.name, member.left_at) == (dora.id, "dora", at(9))


async def test_many_who_expire_at_once_expire_each_guest_once(kitchen: Kitchen, store: Store) -> None:
    guests = [a_guest(f"guest-{number}", at(0)) for number in range(20)]
    for guest in guests:
        await store.add_user(guest, [kitchen.room.id])
    gone = await asyncio.gather(*(store.expire_guests(at(1), at(0), 6) for _ in range(10)))
    rest = await store.expire_guests(at(1), at(0), 100)
    assert all(len(part) <= 6 for part in gone)
    assert sorted(id_ for part in (*gone, rest) for id_ in part) == sorted(guest.id for guest in guests)
    assert (await kitchen.now()).member_count == 2


# What is left of both


async def test_what_is_left_of_a_closed_room_goes(kitchen: Kitchen, store: Store) -> None:
    room = a_room("soon", expires_at=at(10))
    await store.add_room(room, kitchen.ann.id)
    said = [await done(store, send(room, kitchen.ann, str(number))) for number in range(25)]
    await store.index()
    await store.close_due_rooms(at(10), 10)
    assert await store.purge(at(9), 10) == 0
    assert await store.page(room.id, limit=50) == said
    rounds = 0
    while await store.purge(at(10), 10):
        rounds += 1
        assert rounds < 20
    assert await store.page(room.id, limit=50) == []
    assert await kitchen.now() is not None
    assert (await kitchen.says(kitchen.ann, "still here")).seq == 1


async def test_sessions_that_ended_go(kitchen: Kitchen, store: Store) -> None:
    await store.add_session(first := a_session(kitchen.ann, b"a" * 32, at(10)))
    await store.add_session(second := a_session(kitchen.ann, b"b" * 32, at(10)))
    await store.extend_sessions({second.id: at(20)})
    assert await store.purge(at(9), 10) == 0
    while await store.purge(at(10), 10):
        pass
    assert list(await store.sessions([first.id, second.id])) == [second.id]


async def test_a_guests_session_goes_with_the_guest(kitchen: Kitchen, store: Store) -> None:
    dora = a_guest("dora", at(0))
    await store.add_user(dora)
    await store.add_session(doras := a_session(dora, b"d" * 32, at(1)))
    await store.add_session(anns := a_session(kitchen.ann, b"a" * 32, at(2)))
    while await store.purge(at(50), 1):
        pass
    assert list(await store.sessions([doras.id, anns.id])) == [doras.id]
    assert await store.expire_guests(at(50), at(40), 10) == [dora.id]
    assert await store.sessions([doras.id]) == {}


async def test_guests_who_went_leave_nothing_behind(kitchen: Kitchen, store: Store) -> None:
    dora = a_guest("dora", at(0))
    await store.add_user(dora, [kitchen.room.id])
    await store.expire_guests(at(1), at(0), 10)
    for _ in range(20):
        if not await store.purge(at(2), 10):
            break
    else:
        raise AssertionError("there is always more to purge")


# What is kept by name


async def test_what_is_kept_can_be_looked_at_without_being_set(store: Store) -> None:
    assert await store.kept("colour") is None
    assert await store.keep("colour", "blue") == "blue"
    assert await store.keep("colour", "red") == "blue"
    assert await store.kept("colour") == "blue"
    assert await store.kept("epoch") == store.epoch


# Counts


async def counted(store: Store) -> Stats:
    return await store.stats(now())


async def test_everything_is_counted(kitchen: Kitchen, store: Store) -> None:
    assert await counted(store) == Stats(users=3, guests=0, rooms=1, messages=0, messages_last_hour=0)
    await store.add_user(a_guest("dora", at(0)), [kitchen.room.id])
    await store.add_room(a_room("hall", expires_at=at(1)), kitchen.ann.id)
    hall = await store.room("hall")
    assert hall is not None
    again = send(kitchen.room, kitchen.ann, "one")
    nowhere = send(a_room("nowhere"), kitchen.ann, "lost")
    await store.apply([again, again, nowhere, send(hall, kitchen.ann, "two"), send(hall, kitchen.bob, "no")])
    assert await counted(store) == Stats(users=3, guests=1, rooms=2, messages=2, messages_last_hour=2)
    await store.close_due_rooms(at(1), 10)
    assert await counted(store) == Stats(users=3, guests=1, rooms=1, messages=1, messages_last_hour=2)
    await store.expire_guests(at(1), at(0), 10)
    while await store.purge(at(1), 10):
        pass
    assert await counted(store) == Stats(users=3, guests=0, rooms=1, messages=1, messages_last_hour=2)


async def test_messages_that_a_limit_deleted_are_not_counted(kitchen: Kitchen, store: Store) -> None:
    await store.change_room(kitchen.room.id, RoomChange(history_limit=3))
    await store.apply([send(kitchen.room, kitchen.ann, str(number)) for number in range(10)])
    assert (await counted(store)).messages == 3
    await store.change_room(kitchen.room.id, RoomChange(history_limit=2))
    stats = await counted(store)
    assert (stats.messages, stats.messages_last_hour) == (2, 10)


async def test_after_an_hour_a_message_is_not_of_the_last_hour(kitchen: Kitchen, store: Store) -> None:
    await kitchen.says(kitchen.ann, "one")
    from_now = now_ms()
    assert (await store.stats(from_ms(from_now + 58 * 60_000))).messages_last_hour == 1
    assert (await store.stats(from_ms(from_now + 61 * 60_000))).messages_last_hour == 0


async def test_a_refused_user_or_room_is_not_counted(kitchen: Kitchen, store: Store) -> None:
    before = await counted(store)
    for step in (
        store.add_user(a_user("ann")),
        store.add_user(a_user("new"), [new_id()]),
        store.add_room(a_room("kitchen")),
        store.add_room(a_room("new"), new_id()),
    ):
        with pytest.raises(Exception, match=r"."):
            await step
    assert await counted(store) == before
