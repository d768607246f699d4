"""People with passwords, found by their names, signed in on several devices: in every store."""

import asyncio

import pytest

from parley.errors import NameTaken, UserNotFound
from parley.ids import new_id
from parley.models import Role, Session
from parley.stores.base import Store
from tests.contracts.kitchen import Kitchen, a_session, a_user, at

# Passwords


async def test_a_password_is_kept_and_changed(store: Store) -> None:
    ann, bob = a_user("ann"), a_user("bob")
    await store.add_user(ann, password_hash="$argon2id$one")
    await store.add_user(bob)
    assert await store.password_hash(ann.id) == "$argon2id$one"
    assert await store.password_hash(bob.id) is None
    assert await store.password_hash(new_id()) is None
    await store.change_password(ann.id, "$argon2id$two")
    assert await store.password_hash(ann.id) == "$argon2id$two"
    with pytest.raises(UserNotFound):
        await store.change_password(new_id(), "$argon2id$three")


async def test_a_name_that_is_taken_keeps_its_password(store: Store) -> None:
    ann = a_user("ann")
    await store.add_user(ann, password_hash="first")
    with pytest.raises(NameTaken):
        await store.add_user(a_user("ann"), password_hash="second")
    assert await store.password_hash(ann.id) == "first"


# Names


async def test_another_display_name_is_shown_everywhere(kitchen: Kitchen, store: Store) -> None:
    changed = await store.change_user(kitchen.ann.id, "Ann-Sophie 🌻")
    assert changed.display_name == "Ann-Sophie 🌻"
    assert changed.name == "ann"
    assert await store.user(kitchen.ann.id) == changed
    members = await store.members(kitchen.room.id, None, 10)
    assert "Ann-Sophie 🌻" in [member.display_name for member in members]
    assert (await kitchen.now()).revision == 0  # no change of the room
    with pytest.raises(UserNotFound):
        await store.change_user(new_id(), "Nobody")


async def test_people_are_found_by_the_beginning_of_either_name(store: Store) -> None:
    users = [
        a_user("ann", display_name="Ann"),
        a_user("annika", display_name="Queen"),
        a_user("bob", display_name="ANNA Bob"),
        a_user("strasse", display_name="Straße 1_%"),
        a_user("maria", display_name="Joanna"),
    ]
    for user in users:
        await store.add_user(user)

    async def found(text: str, after: str | None = None, limit: int = 10) -> list[str]:
        return [user.name for user in await store.find_users(text, after, limit)]

    assert await found("ann") == ["ann", "annika", "bob"]
    assert await found("ann", limit=2) == ["ann", "annika"]
    assert await found("ann", after=users[1].id) == ["bob"]
    assert await found("strasse 1") == ["strasse"]
    assert await found("strasse 1_%") == ["strasse"]
    assert await found("s%") == []
    assert await found("_nn") == []
    assert await found("nobody") == []
    await store.change_user(users[1].id, "Rex")
    assert await found("queen") == []
    assert await found("rex") == ["annika"]


# Devices


async def devices(store: Store, kitchen: Kitchen) -> list[Session]:
    sessions = [a_session(kitchen.ann, bytes([number]) * 32, at(100)) for number in range(3)]
    for session in sessions:
        await store.add_session(session)
    await store.add_session(a_session(kitchen.bob, b"b" * 32, at(100)))
    return sessions


async def test_somebody_may_be_signed_in_several_times(kitchen: Kitchen, store: Store) -> None:
    sessions = await devices(store, kitchen)
    assert await store.sessions_of(kitchen.ann.id) == sessions
    assert await store.sessions_of(kitchen.cleo.id) == []
    assert (await store.sessions([sessions[1].id])).get(sessions[1].id) == (sessions[1], kitchen.ann)
    assert await store.sessions([new_id()]) == {}
    await store.end_session(sessions[1].id)
    assert await store.sessions_of(kitchen.ann.id) == [sessions[0], sessions[2]]
    assert (await store.sessions([sessions[1].id])).get(sessions[1].id) is None


async def test_many_are_found_at_once(kitchen: Kitchen, store: Store) -> None:
    first, second, third = await devices(store, kitchen)
    found = await store.sessions([first.id, new_id(), third.id])
    assert found == {first.id: (first, kitchen.ann), third.id: (third, kitchen.ann)}
    assert await store.sessions([]) == {}
    await store.end_session(first.id)
    assert list(await store.sessions([first.id, second.id])) == [second.id]
    people = [kitchen.ann, kitchen.bob]
    assert await store.users([*(each.id for each in people), new_id()]) == {each.id: each for each in people}
    assert await store.users([]) == {}
    rooms = await store.rooms_of([kitchen.bob.id, kitchen.cleo.id, kitchen.ann.id])
    assert [room.id for room in rooms[kitchen.bob.id]] == [kitchen.room.id]
    assert rooms[kitchen.cleo.id] == []
    assert [room.role for room in rooms[kitchen.ann.id]] == [Role.OWNER]
    assert await store.rooms_of([]) == {}


async def test_a_session_goes_from_generation_to_generation(kitchen: Kitchen, store: Store) -> None:
    session = (await devices(store, kitchen))[0]
    assert session.generation == 0
    rotated = await store.rotate_session(session.id, 0, at(5), at(200))
    assert rotated is not None
    assert (rotated.generation, rotated.rotated_at, rotated.expires_at) == (1, at(5), at(200))
    assert (await store.sessions([session.id])).get(session.id) == (rotated, kitchen.ann)
    assert await store.rotate_session(session.id, 0, at(6), at(300)) is None
    assert await store.rotate_session(session.id, 2, at(6), at(300)) is None
    assert await store.rotate_session(new_id(), 0, at(6), at(300)) is None
    assert (await store.sessions([session.id])).get(session.id) == (rotated, kitchen.ann)
    while await store.purge(at(150), 10):
        pass
    assert (await store.sessions([session.id])).get(session.id) == (rotated, kitchen.ann)


async def test_of_many_who_rotate_at_once_one_does(kitchen: Kitchen, store: Store) -> None:
    session = (await devices(store, kitchen))[0]
    turns = await asyncio.gather(*(store.rotate_session(session.id, 0, at(5), at(200)) for _ in range(20)))
    assert len([turn for turn in turns if turn is not None]) == 1
