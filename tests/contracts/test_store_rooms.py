"""What every store promises of rooms: who may do what is decided in the step that does it."""

import asyncio

import pytest

from parley.errors import (
    LimitReached,
    NotAllowed,
    NotAMember,
    ParleyError,
    RoomFull,
    RoomNotFound,
    UserNotFound,
)
from parley.ids import from_ms, new_id
from parley.models import Mark, Marked, Member, Role, Room, RoomChange, User
from parley.stores.base import DELETED, Store
from tests.contracts.kitchen import Kitchen, a_room, a_user, at, done, send

PAST, FAR = from_ms(0), from_ms(10**13)


async def a_guest(store: Store, name: str) -> User:
    guest = a_user(name, kind="guest")
    await store.add_user(guest)
    return guest


# Coming and going by rule


async def test_everybody_joins_a_public_room_and_nobody_a_private_one(kitchen: Kitchen) -> None:
    store, cleo = kitchen.store, kitchen.cleo
    member = await store.join(kitchen.room.id, cleo.id, Role.MEMBER, at(7), by=cleo.id)
    assert member == Member(
        room_id=kitchen.room.id,
        user_id=cleo.id,
        name=cleo.name,
        display_name=cleo.display_name,
        role=Role.MEMBER,
        joined_at=at(7),
    )
    assert await store.join(kitchen.room.id, cleo.id, Role.MEMBER, at(8), by=cleo.id) is None
    dan = await a_guest(store, "dan")
    for role in (Role.OWNER, Role.MODERATOR):
        with pytest.raises(NotAllowed):
            await store.join(kitchen.room.id, dan.id, role, at(8), by=dan.id)
    assert await store.change_room(kitchen.room.id, RoomChange(kind="private"))
    with pytest.raises(RoomNotFound):
        await store.join(new_id(), cleo.id, Role.MEMBER, at(7), by=cleo.id)
    dora = await a_guest(store, "dora")
    with pytest.raises(RoomNotFound):
        await store.join(kitchen.room.id, dora.id, Role.MEMBER, at(9), by=dora.id)
    assert await store.join(kitchen.room.id, cleo.id, Role.MEMBER, at(9), by=cleo.id) is None


async def test_who_keeps_order_brings_others_in(study: Kitchen) -> None:
    store, room_id, ann, bob, cleo = study.store, study.room.id, study.ann, study.bob, study.cleo
    with pytest.raises(NotAllowed):
        await store.join(room_id, cleo.id, Role.MEMBER, at(1), by=bob.id)
    with pytest.raises(RoomNotFound):
        await store.join(room_id, bob.id, Role.MEMBER, at(1), by=cleo.id)
    assert (await study.now()).revision == 2
    assert await store.change_role(room_id, bob.id, Role.MODERATOR, by=ann.id)
    with pytest.raises(NotAllowed):
        await store.join(room_id, cleo.id, Role.OWNER, at(1), by=bob.id)
    member = await store.join(room_id, cleo.id, Role.READER, at(1), by=bob.id)
    assert member is not None
    assert (member.role, member.revision) == (Role.READER, 4)
    assert await store.join(room_id, cleo.id, Role.MEMBER, at(2), by=ann.id) is None
    with pytest.raises(UserNotFound):
        await store.join(room_id, new_id(), Role.MEMBER, at(2), by=ann.id)


async def test_who_keeps_order_shows_others_the_door(study: Kitchen) -> None:
    store, room_id, ann, bob, cleo = study.store, study.room.id, study.ann, study.bob, study.cleo
    await store.join(room_id, cleo.id, Role.MODERATOR, at(1), by=ann.id)
    with pytest.raises(NotAllowed):
        await store.leave(room_id, cleo.id, at(2), by=bob.id)
    with pytest.raises(NotAllowed):
        await store.leave(room_id, ann.id, at(2), by=cleo.id)
    gone = await store.leave(room_id, bob.id, at(2), by=cleo.id)
    assert gone is not None
    assert (gone.left_at, gone.revision, gone.display_name) == (at(2), 4, bob.display_name)
    assert await store.leave(room_id, bob.id, at(3), by=cleo.id) is None
    with pytest.raises(RoomNotFound):
        await store.leave(room_id, cleo.id, at(3), by=bob.id)
    assert await store.leave(room_id, cleo.id, at(3), by=ann.id)
    [told] = (await store.changes(room_id, 4, 10)).members
    assert (told.user_id, told.left_at, told.revision) == (cleo.id, at(3), 5)


async def test_the_last_owner_does_not_leave_others_alone(kitchen: Kitchen) -> None:
    store, room_id, ann, bob = kitchen.store, kitchen.room.id, kitchen.ann, kitchen.bob
    with pytest.raises(NotAllowed):
        await store.leave(room_id, ann.id, at(1), by=ann.id)
    with pytest.raises(NotAllowed):
        await store.change_role(room_id, ann.id, Role.MEMBER, by=ann.id)
    await store.change_role(room_id, bob.id, Role.OWNER, by=ann.id)
    assert await store.leave(room_id, ann.id, at(2), by=ann.id)
    assert await store.leave(room_id, bob.id, at(3), by=bob.id)  # there is nobody left to be alone
    assert (await kitchen.now()).member_count == 0


async def test_a_role_is_given_by_an_owner_and_is_a_change_of_any_room(kitchen: Kitchen) -> None:
    store, room_id, ann, bob, cleo = kitchen.store, kitchen.room.id, kitchen.ann, kitchen.bob, kitchen.cleo
    for somebody in (bob, cleo):
        with pytest.raises(NotAllowed):
            await store.change_role(room_id, bob.id, Role.OWNER, by=somebody.id)
    with pytest.raises(UserNotFound):
        await store.change_role(room_id, cleo.id, Role.READER, by=ann.id)
    with pytest.raises(RoomNotFound):
        await store.change_role(new_id(), bob.id, Role.READER, by=ann.id)
    changed = await store.change_role(room_id, bob.id, Role.READER, by=ann.id)
    assert changed is not None
    assert (changed.role, changed.revision) == (Role.READER, 1)
    assert await store.change_role(room_id, bob.id, Role.READER, by=ann.id) is None
    told = await store.changes(room_id, 0, 10)
    assert (told.revision, told.members) == (1, [changed])
    assert (await kitchen.now(bob)).role is Role.READER


async def test_two_owners_do_not_demote_each_other(kitchen: Kitchen) -> None:
    store, room_id, ann, bob = kitchen.store, kitchen.room.id, kitchen.ann, kitchen.bob
    for _ in range(5):
        await store.change_role(room_id, bob.id, Role.OWNER)
        await store.change_role(room_id, ann.id, Role.OWNER)
        outcomes = await asyncio.gather(
            store.change_role(room_id, bob.id, Role.MEMBER, by=ann.id),
            store.change_role(room_id, ann.id, Role.MEMBER, by=bob.id),
            return_exceptions=True,
        )
        assert sum(isinstance(each, NotAllowed) for each in outcomes) == 1
        roles = {member.role for member in await store.members(room_id, None, 10)}
        assert roles == {Role.OWNER, Role.MEMBER}


async def test_a_server_takes_so_many_members_in_one_room(kitchen: Kitchen) -> None:
    store, room_id, cleo = kitchen.store, kitchen.room.id, kitchen.cleo
    with pytest.raises(LimitReached, match="PARLEY_MAX_ROOM_MEMBERS"):
        await store.join(room_id, cleo.id, Role.MEMBER, at(7), by=cleo.id, most=2)
    assert await store.join(room_id, cleo.id, Role.MEMBER, at(7), by=cleo.id, most=3)
    assert await store.join(room_id, cleo.id, Role.MEMBER, at(7), by=cleo.id, most=3) is None


async def test_a_room_for_some_is_never_fuller(kitchen: Kitchen) -> None:
    store = kitchen.store
    await store.add_room(hall := a_room("hall", capacity=3), kitchen.ann.id)
    guests = [await a_guest(store, f"guest{number}") for number in range(8)]

    async def in_and_out(guest: User) -> None:
        for _ in range(5):
            try:
                await store.join(hall.id, guest.id, Role.MEMBER, at(1), by=guest.id)
                room = await store.room(hall.id)
                assert room is not None
                assert room.member_count <= 3
                await store.leave(hall.id, guest.id, at(2), by=guest.id)
            except RoomFull:
                pass

    await asyncio.gather(*map(in_and_out, guests))
    room = await store.room(hall.id)
    assert room is not None
    assert room.member_count == len(await store.members(hall.id, None, 10)) == 1


async def test_memberships_are_found_ended_ones_too(study: Kitchen) -> None:
    store, bob = study.store, study.bob
    await store.add_room(hall := a_room("hall"), bob.id)
    await store.leave(study.room.id, bob.id, at(5))
    found = {each.room_id: each for each in await store.memberships_of(bob.id)}
    assert set(found) == {study.room.id, hall.id}
    assert (found[study.room.id].left_at, found[hall.id].left_at) == (at(5), None)
    assert found[hall.id].role is Role.OWNER
    assert list(found) == sorted(found)
    assert await store.memberships_of(study.cleo.id) == []


# Limits of the server


async def test_a_server_takes_so_many_rooms(kitchen: Kitchen) -> None:
    store, ann = kitchen.store, kitchen.ann
    rooms = [a_room(f"room{number}") for number in range(9)]
    adding = [store.add_room(room, ann.id, most=4) for room in rooms]
    outcomes = await asyncio.gather(*adding, return_exceptions=True)
    assert outcomes.count(None) == 3
    assert sum(isinstance(each, LimitReached) for each in outcomes) == 6
    assert (await store.stats(at(1))).rooms == 4
    with pytest.raises(LimitReached, match="PARLEY_MAX_ROOMS"):
        await store.add_room(a_room("more"), ann.id, most=4)
    await store.close_room(rooms[outcomes.index(None)].id, at(2))
    await store.add_room(a_room("more"), ann.id, most=4)


async def test_a_server_takes_so_many_people(kitchen: Kitchen) -> None:
    store = kitchen.store
    adding = [store.add_user(a_user(f"user{number}", kind="guest"), most=5) for number in range(6)]
    outcomes = await asyncio.gather(*adding, return_exceptions=True)
    assert outcomes.count(None) == 2
    assert sum(isinstance(each, LimitReached) for each in outcomes) == 4
    with pytest.raises(LimitReached, match="PARLEY_MAX_USERS"):
        await store.add_user(a_user("more"), most=5)
    assert await store.user("more") is None
    await store.remove_user(kitchen.cleo.id, at(1))
    await store.add_user(a_user("more"), most=5)


# Read marks, many at once


async def test_marks_are_moved_together(kitchen: Kitchen, store: Store) -> None:
    study = a_room("study", kind="private")
    await store.add_room(study, kitchen.ann.id)
    for number in range(3):
        await kitchen.says(kitchen.ann, str(number))
        await done(store, send(study, kitchen.ann, str(number)))
    asked = [
        (kitchen.room.id, kitchen.ann.id, 2),
        (kitchen.room.id, kitchen.bob.id, 9),
        (kitchen.room.id, kitchen.ann.id, 1),
        (study.id, kitchen.ann.id, 1),
        (kitchen.room.id, kitchen.cleo.id, 1),
        (study.id, kitchen.bob.id, 1),
        (new_id(), kitchen.bob.id, 1),
    ]
    marks = [Mark(room_id=room, user_id=user, seq=seq) for room, user, seq in asked]
    results = await store.mark_read(marks)
    assert results[:4] == [
        Marked(seq=2, moved=True, member_count=2),
        Marked(seq=3, moved=True, member_count=2),
        Marked(seq=2, moved=False, member_count=2),
        Marked(seq=1, moved=True, member_count=1),
    ]
    refusals = [type(each) for each in results[4:]]
    assert refusals == [NotAMember, RoomNotFound, RoomNotFound]
    assert all(isinstance(each, ParleyError) for each in results[4:])
    assert (await kitchen.now(kitchen.ann)).read_seq == 2
    assert await store.mark_read([]) == []


# Going for good


async def test_who_goes_for_good_leaves_their_words(study: Kitchen) -> None:
    store, bob = study.store, study.bob
    message = await study.says(bob, "mine")
    await store.remove_user(bob.id, at(7))
    await store.remove_user(bob.id, at(8))
    assert await store.user(bob.id) is None
    assert await store.user("bob") is None
    assert await store.find_users("bob", None, 10) == []
    assert (await store.rooms_of([bob.id]))[bob.id] == []
    assert (await study.now()).member_count == 1
    [gone] = (await store.changes(study.room.id, 3, 10)).members
    assert (gone.user_id, gone.display_name, gone.left_at) == (bob.id, DELETED, at(7))
    assert bob.name not in (gone.name, gone.display_name)
    assert [each.id for each in await store.page(study.room.id, limit=9)] == [message.id]
    stats = await store.stats(at(9))
    assert stats.users == 2
    await store.add_user(a_user("bob"))


async def test_what_somebody_wrote_is_disowned_piece_by_piece(kitchen: Kitchen) -> None:
    store, room_id, ann, bob = kitchen.store, kitchen.room.id, kitchen.ann, kitchen.bob
    for number in range(6):
        await kitchen.says(bob if number % 2 else ann, str(number))
    steps, after = 0, 0
    while (following := await store.disown(room_id, bob.id, after, 4)) is not None:
        after, steps = following, steps + 1
    assert steps == 1
    names = [each.author_name for each in await store.page(room_id, limit=9)]
    assert names == [ann.display_name, DELETED] * 3
    assert (await kitchen.now()).revision == 8
    changes = await store.changes(room_id, 6, 10)
    assert (changes.reset, changes.revision) == (True, 8)
    assert not (await store.changes(room_id, 8, 10)).reset
    assert await store.disown(room_id, bob.id, 0, 100) is None
    assert (await kitchen.now()).revision == 8
    assert (await store.page(room_id, limit=1))[0].text == "5"
    assert (await kitchen.says(ann, "on")).revision == 9
    assert await store.disown(new_id(), bob.id, 0, 100) is None


# Who came and went


async def test_it_is_known_who_came_and_went_since(kitchen: Kitchen, store: Store) -> None:
    room, bob, cleo = kitchen.room, kitchen.bob, kitchen.cleo
    await store.join(room.id, cleo.id, Role.MEMBER, at(10))
    assert cleo.id in await store.moved(at(10))
    assert bob.id not in await store.moved(at(10))
    assert cleo.id not in await store.moved(at(11))
    await store.leave(room.id, bob.id, at(12))
    assert await store.moved(at(11)) == {bob.id}
    await store.join(room.id, bob.id, Role.MEMBER, at(13))
    assert await store.moved(at(13)) == {bob.id}
    other = Room(id=new_id(), name=None, title="", kind="direct", created_by=None, created_at=at(14))
    await store.add_room(other, cleo.id, kitchen.ann.id)
    assert await store.moved(at(14)) == {cleo.id, kitchen.ann.id}
    assert await store.moved(FAR) == set()


# Who is connected where


async def there(store: Store, but: str) -> dict[str, set[str]]:
    """Who is connected to the other nodes, without nodes to which nobody is."""
    return {node: users for node, users in (await store.online(at(0), but)).items() if users}


async def test_nodes_say_who_is_connected_to_them(store: Store) -> None:
    one, two = new_id(), new_id()
    ann, bob, cleo = new_id(), new_id(), new_id()
    assert await store.report(one, FAR, [ann, bob], []) is False
    assert await store.report(two, FAR, [bob, cleo], []) is False
    assert await there(store, but=one) == {two: {bob, cleo}}
    assert await there(store, but=new_id()) == {one: {ann, bob}, two: {bob, cleo}}
    assert await store.report(two, FAR, [ann], [bob, new_id()]) is True
    assert await store.report(two, FAR, [ann], []) is True
    assert await there(store, but=one) == {two: {ann, cleo}}
    assert await store.online(FAR, one) == {}


async def test_a_node_whose_time_ran_out_begins_anew(store: Store) -> None:
    node, other = new_id(), new_id()
    ann, bob = new_id(), new_id()
    await store.report(node, FAR, [ann], [])
    assert await store.report(node, PAST, [], []) is True
    assert await there(store, but=other) == {}
    assert await store.report(node, FAR, [bob], []) is False
    assert await there(store, but=other) == {node: {bob}}
    await store.report(other, PAST, [ann], [])
    while await store.purge(at(2), 100):
        pass
    assert await there(store, but=other) == {node: {bob}}
