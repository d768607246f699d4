"""What every store promises about people, rooms and who is in them."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from parley.errors import NameTaken, NotAMember, RoomFull, RoomNotFound, UserNotFound
from parley.ids import new_id
from parley.models import Member, Role, User
from parley.stores.base import Store
from parley.stores.memory import MemoryStore
from tests.contracts.kitchen import (
    Kitchen,
    a_room,
    a_session,
    a_user,
    all_done,
    at,
    edit,
    kitchen_in,
    marked,
    react,
    send,
)


async def test_an_open_store_answers(store: Store) -> None:
    await store.ping()


async def test_what_is_kept_first_stays(store: Store) -> None:
    assert await store.keep("secret", "first") == "first"
    assert await store.keep("secret", "second") == "first"
    assert await store.keep("other", "second") == "second"


async def test_every_store_has_an_epoch_of_its_own(store: Store) -> None:
    assert len(store.epoch) == 36
    assert store.epoch != MemoryStore().epoch


# People


async def test_a_user_is_found_by_id_and_by_name(store: Store) -> None:
    ann = a_user("ann", kind="guest", last_seen_at=at(5))
    await store.add_user(ann)
    assert await store.user(ann.id) == ann
    assert await store.user(ann.id.upper()) == ann
    assert await store.user("ann") == ann


@pytest.mark.parametrize("key", ["bob", new_id(), ""])
async def test_nobody_is_found_under_another_key(store: Store, key: str) -> None:
    await store.add_user(a_user("ann"))
    assert await store.user(key) is None


async def test_a_name_belongs_to_one_user(kitchen: Kitchen) -> None:
    second = a_user("ann")
    with pytest.raises(NameTaken):
        await kitchen.store.add_user(second, [kitchen.room.id])
    assert await kitchen.store.user(second.id) is None
    assert await kitchen.store.user("ann") == kitchen.ann
    assert (await kitchen.now()).member_count == 2


async def test_of_two_who_want_a_name_at_once_one_gets_it(store: Store) -> None:
    results = await asyncio.gather(*(store.add_user(a_user("ann")) for _ in range(5)), return_exceptions=True)
    assert [type(result) for result in results if result is not None] == [NameTaken] * 4


async def test_a_new_user_is_a_member_of_the_rooms_named(kitchen: Kitchen) -> None:
    dan = a_user("dan")
    await kitchen.store.add_user(dan, [kitchen.room.id])
    room = await kitchen.now(dan)
    assert (room.role, room.member_count) == (Role.MEMBER, 3)


async def test_a_user_who_cannot_come_into_a_room_is_not_added(store: Store) -> None:
    hall, closet = a_room("hall"), a_room("closet", capacity=0)
    await store.add_room(hall)
    await store.add_room(closet)
    ann = a_user("ann")
    with pytest.raises(RoomFull):
        await store.add_user(ann, [hall.id, closet.id])
    with pytest.raises(RoomNotFound):
        await store.add_user(ann, [hall.id, new_id()])
    assert await store.user("ann") is None
    assert await store.members(hall.id, None, 10) == []


# Sessions


async def test_a_session_is_found_by_its_id(kitchen: Kitchen) -> None:
    session = a_session(kitchen.ann, b"\x00hash", at(60))
    await kitchen.store.add_session(session)
    await kitchen.store.add_session(a_session(kitchen.bob, b"other", at(60)))
    assert await kitchen.store.sessions([session.id]) == {session.id: (session, kitchen.ann)}
    assert await kitchen.store.sessions([new_id()]) == {}


async def test_a_session_belongs_to_somebody(store: Store) -> None:
    with pytest.raises(UserNotFound):
        await store.add_session(session := a_session(a_user("ann"), b"hash", at(60)))
    assert await store.sessions([session.id]) == {}


async def test_sessions_are_extended_and_never_cut_short(kitchen: Kitchen) -> None:
    short, long = a_session(kitchen.ann, b"short", at(60)), a_session(kitchen.ann, b"long", at(120))
    await kitchen.store.add_session(short)
    await kitchen.store.add_session(long)
    await kitchen.store.extend_sessions({short.id: at(90), long.id: at(90), new_id(): at(90)})
    await kitchen.store.extend_sessions({})
    found = await kitchen.store.sessions([short.id, long.id])
    assert [found[each.id][0].expires_at for each in (short, long)] == [at(90), at(120)]


async def test_an_ended_session_is_forgotten(kitchen: Kitchen) -> None:
    session = a_session(kitchen.ann, b"hash", at(60))
    await kitchen.store.add_session(session)
    await kitchen.store.end_session(session.id)
    await kitchen.store.end_session(session.id)
    assert await kitchen.store.sessions([session.id]) == {}


# Rooms


async def test_a_room_is_found_by_id_and_by_name_with_all_its_settings(store: Store) -> None:
    room = a_room(
        "7",
        title="Room seven",
        created_by=new_id(),
        created_at=at(1.234),
        expires_at=at(3600),
        capacity=2,
        history_limit=50,
        read_only=True,
        close_when_empty=True,
    )
    await store.add_room(room)
    assert await store.room(room.id) == room
    assert await store.room(room.id.upper()) == room
    assert await store.room("7") == room


@pytest.mark.parametrize("key", ["hall", new_id(), ""])
async def test_no_room_is_found_under_another_key(kitchen: Kitchen, key: str) -> None:
    assert await kitchen.store.room(key) is None
    assert await kitchen.store.members(key, None, 10) == []


async def test_the_owner_of_a_room_is_its_first_member(kitchen: Kitchen) -> None:
    owner, *_ = await kitchen.store.members(kitchen.room.id, None, 10)
    assert (owner.user_id, owner.role, owner.joined_at) == (kitchen.ann.id, Role.OWNER, at(0))
    assert (await kitchen.now(kitchen.ann)).role is Role.OWNER


async def test_a_stranger_sees_a_room_without_role_and_marks(kitchen: Kitchen) -> None:
    assert await kitchen.now(kitchen.cleo) == await kitchen.now()
    assert await kitchen.now(kitchen.bob) != await kitchen.now()


async def test_a_name_belongs_to_one_room(kitchen: Kitchen) -> None:
    second = a_room("kitchen")
    with pytest.raises(NameTaken):
        await kitchen.store.add_room(second, kitchen.cleo.id)
    assert await kitchen.store.room(second.id) is None
    assert (await kitchen.store.rooms_of([kitchen.cleo.id]))[kitchen.cleo.id] == []


async def test_many_rooms_may_have_no_name(store: Store) -> None:
    rooms = [a_room(None), a_room(None)]
    for room in rooms:
        await store.add_room(room)
    assert await store.public_rooms(None, 10) == rooms


async def test_a_room_that_its_owner_cannot_join_is_not_added(kitchen: Kitchen) -> None:
    hall = a_room("hall")
    with pytest.raises(UserNotFound):
        await kitchen.store.add_room(hall, new_id())
    with pytest.raises(RoomFull):
        await kitchen.store.add_room(a_room("hall", capacity=0), kitchen.ann.id)
    await kitchen.store.add_room(hall, kitchen.ann.id)


async def test_my_rooms_come_with_the_oldest_membership_first(kitchen: Kitchen) -> None:
    store, cleo = kitchen.store, kitchen.cleo
    first, second, third = (
        a_room("first"),
        a_room("second", kind="direct"),
        a_room("third", kind="private"),
    )
    for room, seconds in ((third, 9), (second, 9), (first, 10)):
        await store.add_room(room)
        await store.join(room.id, cleo.id, Role.READER, at(seconds))
    rooms = (await store.rooms_of([cleo.id]))[cleo.id]
    assert [room.id for room in rooms] == [second.id, third.id, first.id]
    assert rooms == [await store.room(room.id, cleo.id) for room in (second, third, first)]
    assert {(room.role, room.read_seq, room.unread) for room in rooms} == {(Role.READER, 0, 0)}


async def test_public_rooms_are_listed_page_by_page(kitchen: Kitchen) -> None:
    rooms = [a_room(f"room{number}") for number in range(3)]
    for room in (*reversed(rooms), a_room("cellar", kind="private"), a_room(None, kind="direct")):
        await kitchen.store.add_room(room)
    everything = [await kitchen.now(), *rooms]
    assert await kitchen.store.public_rooms(None, 10) == everything
    assert await kitchen.store.public_rooms(None, 2) == everything[:2]
    assert await kitchen.store.public_rooms(everything[1].id, 10) == everything[2:]


async def test_heads_are_the_revisions_of_the_rooms_that_exist(kitchen: Kitchen) -> None:
    hall = a_room("hall")
    await kitchen.store.add_room(hall)
    await kitchen.says(kitchen.ann, "hello")
    assert await kitchen.store.heads([kitchen.room.id, hall.id, new_id()]) == {
        kitchen.room.id: 1,
        hall.id: 0,
    }
    assert await kitchen.store.heads([]) == {}


async def test_heads_may_be_asked_for_forty_thousand_rooms(kitchen: Kitchen) -> None:
    strangers = [f"room {number}" for number in range(40_000)]
    assert await kitchen.store.heads([*strangers, kitchen.room.id]) == {kitchen.room.id: 0}


# Members


async def test_one_joins_once(kitchen: Kitchen) -> None:
    room_id, cleo = kitchen.room.id, kitchen.cleo
    assert await kitchen.store.join(room_id, cleo.id, Role.MODERATOR, at(7))
    assert await kitchen.store.join(room_id, cleo.id, Role.MEMBER, at(8)) is None
    room = await kitchen.now(cleo)
    assert (room.role, room.member_count) == (Role.MODERATOR, 3)


async def test_the_open_door_of_a_public_room_is_no_change_of_it(kitchen: Kitchen) -> None:
    await kitchen.store.leave(kitchen.room.id, kitchen.bob.id, at(7))
    assert (await kitchen.now()).revision == 0
    assert {member.revision for member in await kitchen.store.members(kitchen.room.id, None, 10)} == {0}


async def test_in_a_private_room_coming_and_going_are_changes(study: Kitchen) -> None:
    store, room_id = study.store, study.room.id
    assert [member.revision for member in await store.members(room_id, None, 10)] == [1, 2]
    assert (await study.now()).revision == 2
    assert await store.leave(room_id, study.bob.id, at(7))
    await study.says(study.ann, "alone")
    assert await store.join(room_id, study.bob.id, Role.READER, at(8))
    assert not await store.join(room_id, study.bob.id, Role.READER, at(9))
    assert [member.revision for member in await store.members(room_id, None, 10)] == [1, 5]
    assert (await study.now()).revision == 5


async def test_members_are_listed_page_by_page_with_their_names(kitchen: Kitchen) -> None:
    store, room_id = kitchen.store, kitchen.room.id
    await store.join(room_id, kitchen.cleo.id, Role.READER, at(7))
    everybody = await store.members(room_id, None, 10)
    assert [member.name for member in everybody] == ["ann", "bob", "cleo"]
    assert [member.display_name for member in everybody] == ["Ann", "Bob", "Cleo"]
    assert [member.role for member in everybody] == [Role.OWNER, Role.MEMBER, Role.READER]
    assert (everybody[2].joined_at, everybody[2].left_at, everybody[2].read_seq) == (at(7), None, 0)
    assert await store.members(room_id, None, 2) == everybody[:2]
    assert await store.members(room_id, everybody[0].user_id, 10) == everybody[1:]


async def test_who_leaves_is_gone_from_the_room(kitchen: Kitchen) -> None:
    store, room_id = kitchen.store, kitchen.room.id
    assert await store.leave(room_id, kitchen.bob.id, at(7))
    assert await store.leave(room_id, kitchen.bob.id, at(8)) is None
    assert await store.leave(room_id, kitchen.cleo.id, at(8)) is None
    assert await store.leave(new_id(), kitchen.bob.id, at(8)) is None
    assert [member.name for member in await store.members(room_id, None, 10)] == ["ann"]
    assert (await kitchen.now(kitchen.bob)) == (await kitchen.now())
    assert (await kitchen.now()).member_count == 1
    assert (await store.rooms_of([kitchen.bob.id]))[kitchen.bob.id] == []


async def test_who_comes_back_finds_the_old_read_mark(kitchen: Kitchen) -> None:
    store, bob = kitchen.store, kitchen.bob
    await kitchen.says(kitchen.ann, "hello")
    await kitchen.says(kitchen.ann, "anybody?")
    await marked(store, kitchen.room.id, bob.id, 1)
    await store.leave(kitchen.room.id, bob.id, at(7))
    await store.join(kitchen.room.id, bob.id, Role.READER, at(8))
    room = await kitchen.now(bob)
    assert (room.role, room.read_seq, room.unread, room.member_count) == (Role.READER, 1, 1, 2)


async def test_a_room_takes_no_more_than_its_capacity(store: Store) -> None:
    kitchen = await kitchen_in(store, capacity=3)
    guests = [a_user(f"guest{number}") for number in range(5)]
    for guest in guests:
        await store.add_user(guest)
    results = await asyncio.gather(
        *(store.join(kitchen.room.id, guest.id, Role.MEMBER, at(7)) for guest in guests),
        return_exceptions=True,
    )
    assert sum(isinstance(each, Member) for each in results) == 1
    assert [type(result) for result in results if not isinstance(result, Member)] == [RoomFull] * 4
    assert (await kitchen.now()).member_count == 3
    await store.leave(kitchen.room.id, kitchen.ann.id, at(8))
    assert await store.join(kitchen.room.id, kitchen.cleo.id, Role.MEMBER, at(9))


async def test_nobody_joins_what_does_not_exist_and_nobody_is_no_member(kitchen: Kitchen) -> None:
    with pytest.raises(RoomNotFound):
        await kitchen.store.join(new_id(), kitchen.cleo.id, Role.MEMBER, at(7))
    with pytest.raises(UserNotFound):
        await kitchen.store.join(kitchen.room.id, new_id(), Role.MEMBER, at(7))
    assert (await kitchen.now()).member_count == 2


# Durable stores


async def test_what_was_acknowledged_is_there_after_reopening(
    opened_at: Callable[[Path], Store], tmp_path: Path
) -> None:
    store = opened_at(tmp_path)
    await store.open()
    kitchen = await kitchen_in(store, history_limit=2)
    first, second, third = (send(kitchen.room, kitchen.ann, text) for text in ("one", "two", "three"))
    applied = all_done(await store.apply([first, second, third]))[2].message
    await store.apply([edit(applied, kitchen.ann, "drei"), react(applied, kitchen.bob, "👍")])
    await marked(store, kitchen.room.id, kitchen.bob.id, 2)
    await store.leave(kitchen.room.id, kitchen.ann.id, at(7))
    session = a_session(kitchen.ann, b"hash", at(60))
    await store.add_session(session)
    await store.keep("secret", "first")
    before = await _everything(store, kitchen)
    await store.close()

    again = opened_at(tmp_path)
    await again.open()
    assert again.epoch == store.epoch
    assert await again.keep("secret", "second") == "first"
    assert await _everything(again, kitchen) == before
    repeated, trimmed = await again.apply([second, first])
    assert all_done([repeated])[0].fresh is False
    # Ann has left, and an id that is trimmed is a new one.
    assert isinstance(trimmed, NotAMember)
    await again.close()


async def _everything(store: Store, kitchen: Kitchen) -> list[object]:
    people: list[User | None] = [await store.user(name) for name in ("ann", "bob", "cleo")]
    room_id = kitchen.room.id
    return [
        people,
        await store.sessions([each.id for each in await store.sessions_of(kitchen.ann.id)]),
        await store.room("kitchen"),
        (await store.rooms_of([kitchen.bob.id]))[kitchen.bob.id],
        await store.members(room_id, None, 10),
        await store.page(room_id, limit=10),
        await store.changes(room_id, 0, 10),
        await store.changes(room_id, 4, 10),
        await store.heads([room_id]),
    ]
