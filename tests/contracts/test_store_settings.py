"""What every store promises of direct rooms, of settings and of closing."""

import asyncio

import pytest
from msgspec import UNSET

from parley.errors import (
    NameTaken,
    NotAllowed,
    RoomNotFound,
)
from parley.ids import from_ms, new_id
from parley.models import Role, Room, RoomChange
from tests.contracts.kitchen import Kitchen, a_room, at, refused, send

PAST, FAR = from_ms(0), from_ms(10**13)


# Direct rooms


async def a_direct_room(kitchen: Kitchen) -> Room:
    room = Room(
        id=new_id(), name=None, title="Ann, Bob", kind="direct", created_by=None, created_at=at(1), capacity=2
    )
    await kitchen.store.add_room(room, kitchen.ann.id, kitchen.bob.id)
    return room


async def test_a_direct_room_shows_each_the_other(kitchen: Kitchen) -> None:
    room, store = await a_direct_room(kitchen), kitchen.store
    seen = await store.room(room.id, kitchen.ann.id)
    assert seen is not None
    assert (seen.role, seen.member_count, seen.revision) == (Role.MEMBER, 2, 2)
    assert seen.peer == kitchen.bob
    assert [each.peer for each in (await store.rooms_of([kitchen.bob.id]))[kitchen.bob.id]] == [
        UNSET,
        kitchen.ann,
    ]
    stranger = await store.room(room.id, kitchen.cleo.id)
    assert stranger is not None
    assert stranger.peer is UNSET
    with pytest.raises(NameTaken):
        await kitchen.store.add_room(room, kitchen.ann.id, kitchen.bob.id)


async def test_a_direct_room_stays_as_it_is(kitchen: Kitchen) -> None:
    room, store = await a_direct_room(kitchen), kitchen.store
    ann, bob, cleo = kitchen.ann.id, kitchen.bob.id, kitchen.cleo.id
    for step in (
        lambda: store.leave(room.id, ann, at(2), by=ann),
        lambda: store.leave(room.id, bob, at(2), by=ann),
        lambda: store.join(room.id, cleo, Role.MEMBER, at(2), by=ann),
        lambda: store.change_role(room.id, bob, Role.READER, by=ann),
        lambda: store.change_room(room.id, RoomChange(title="Us"), by=ann),
        lambda: store.close_room(room.id, at(2), by=ann),
    ):
        with pytest.raises(NotAllowed):
            await step()
    for step in (
        lambda: store.join(room.id, cleo, Role.MEMBER, at(2), by=cleo),
        lambda: store.leave(room.id, bob, at(2), by=cleo),
        lambda: store.change_room(room.id, RoomChange(title="Us"), by=cleo),
        lambda: store.close_room(room.id, at(2), by=cleo),
    ):
        with pytest.raises(RoomNotFound):
            await step()
    seen = await store.room(room.id)
    assert seen is not None
    assert seen.revision == 2


async def test_a_direct_room_is_made_once(kitchen: Kitchen) -> None:
    room = Room(id=new_id(), name=None, title="", kind="direct", created_by=None, created_at=at(1))
    pairs = [(kitchen.ann.id, kitchen.bob.id), (kitchen.bob.id, kitchen.ann.id)] * 5
    made = [kitchen.store.add_room(room, *pair) for pair in pairs]
    outcomes = await asyncio.gather(*made, return_exceptions=True)
    assert outcomes.count(None) == 1
    assert sum(isinstance(each, NameTaken) for each in outcomes) == 9
    assert len(await kitchen.store.members(room.id, None, 10)) == 2
    assert [each.id for each in (await kitchen.store.rooms_of([kitchen.bob.id]))[kitchen.bob.id]].count(
        room.id
    ) == 1
    stats = await kitchen.store.stats(at(2))
    assert stats.rooms == 2


# Settings and closing


async def test_settings_are_changed_by_an_owner(kitchen: Kitchen) -> None:
    store, room_id, ann, bob, cleo = kitchen.store, kitchen.room.id, kitchen.ann, kitchen.bob, kitchen.cleo
    change = RoomChange(
        title="The galley",
        kind="private",
        capacity=5,
        history_limit=9,
        read_only=True,
        expires_at=at(100),
        close_when_empty=True,
    )
    for somebody in (bob, cleo):
        with pytest.raises(NotAllowed):
            await store.change_room(room_id, change, by=somebody.id)
    room = await store.change_room(room_id, change, by=ann.id)
    assert room == await store.room(room_id)
    assert room is not None
    assert (room.name, room.title, room.kind, room.capacity) == ("kitchen", "The galley", "private", 5)
    assert (room.history_limit, room.read_only, room.expires_at) == (9, True, at(100))
    assert (room.close_when_empty, room.revision) == (True, 1)
    assert await store.change_room(room_id, change, by=ann.id) is None
    assert (await store.changes(room_id, 0, 10)).room == room
    assert [each.id for each in await store.public_rooms(None, 10)] == []
    none = RoomChange(capacity=None, history_limit=None, expires_at=None)
    room = await store.change_room(room_id, none, by=ann.id)
    assert room is not None
    assert (room.capacity, room.history_limit, room.expires_at) == (None, None, None)
    assert await store.close_due_rooms(at(200), 10) == []
    with pytest.raises(RoomNotFound):
        await store.change_room(room_id, change, by=cleo.id)
    assert await store.change_room(room_id, RoomChange(kind="public"))
    assert [each.id for each in await store.public_rooms(None, 10)] == [room_id]


async def test_who_was_there_when_a_room_became_private_is_told_as_a_change(kitchen: Kitchen) -> None:
    store, room_id = kitchen.store, kitchen.room.id
    await store.join(room_id, kitchen.cleo.id, Role.MEMBER, at(3))
    await store.leave(room_id, kitchen.cleo.id, at(4))
    message = await kitchen.says(kitchen.ann, "hi")
    await store.change_room(room_id, RoomChange(kind="private"), by=kitchen.ann.id)
    changes = await store.changes(room_id, 0, 10)
    assert (changes.revision, changes.messages) == (2, [message])
    there = {(member.user_id, member.left_at, member.revision) for member in changes.members}
    assert there == {(kitchen.ann.id, None, 2), (kitchen.bob.id, None, 2)}
    assert (await kitchen.store.members(room_id, None, 10))[0].revision == 2


async def test_another_end_is_kept_to(kitchen: Kitchen) -> None:
    store, room_id = kitchen.store, kitchen.room.id
    await store.change_room(room_id, RoomChange(expires_at=at(100)))
    await store.change_room(room_id, RoomChange(expires_at=at(50)))
    assert await store.close_due_rooms(at(49), 10) == []
    [closed] = await store.close_due_rooms(at(50), 10)
    assert (closed.id, closed.closed_at, closed.revision) == (room_id, at(50), 3)


async def test_a_room_is_closed_by_its_owner(kitchen: Kitchen) -> None:
    store, room_id, ann, bob = kitchen.store, kitchen.room.id, kitchen.ann, kitchen.bob
    await kitchen.says(ann, "hi")
    with pytest.raises(NotAllowed):
        await store.close_room(room_id, at(7), by=bob.id)
    assert await store.close_room(room_id, at(7), by=ann.id, only_if_empty=True) is None
    closed = await store.close_room(room_id, at(7), by=ann.id)
    assert closed is not None
    assert (closed.closed_at, closed.revision) == (at(7), 2)
    with pytest.raises(RoomNotFound):
        await store.close_room(room_id, at(8), by=ann.id)
    assert await refused(store, send(kitchen.room, ann, "hello?")) is RoomNotFound
    assert (await store.rooms_of([ann.id]))[ann.id] == []
    assert await store.room("kitchen") is None
    assert (await store.stats(at(8))).rooms == 0
    assert (await store.stats(at(8))).messages == 0
    await store.add_room(a_room("kitchen"), ann.id)


async def test_a_room_that_everybody_has_left_closes_if_it_is_to(kitchen: Kitchen) -> None:
    store, ann = kitchen.store, kitchen.ann
    brief, cell, hall = a_room("brief", close_when_empty=True), a_room("cell", kind="private"), a_room("hall")
    for room in (brief, cell, hall):
        await store.add_room(room, ann.id)
    assert await store.close_room(brief.id, at(5), only_if_empty=True) is None
    assert await store.close_due_rooms(at(5), 10) == []
    for room in (brief, cell, hall):
        await store.leave(room.id, ann.id, at(6), by=ann.id)
    assert await store.close_room(hall.id, at(7), only_if_empty=True) is None
    closed = await store.close_room(brief.id, at(7), only_if_empty=True)
    assert closed is not None
    assert closed.closed_at == at(7)
    assert [each.id for each in await store.close_due_rooms(at(8), 10)] == [cell.id]
    assert (await store.stats(at(8))).rooms == 2
    assert {each.name for each in await store.public_rooms(None, 10)} == {"kitchen", "hall"}
