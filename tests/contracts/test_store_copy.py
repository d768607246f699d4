"""A whole chat goes from any store to any other, and is the same there."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from msgspec.structs import replace

from parley.errors import StartError
from parley.ids import now
from parley.models import Message, Role, Session
from parley.stores.base import Record, RoomState, Store
from tests.contracts.conftest import NAMES, STORES
from tests.contracts.kitchen import (
    Kitchen,
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


async def a_lively_chat(store: Store) -> Kitchen:
    """A chat with everything that a store keeps."""
    kitchen = await kitchen_in(store)
    ann, bob, cleo = kitchen.ann, kitchen.bob, kitchen.cleo
    guest = a_user("gone", kind="guest", last_seen_at=at(0))
    await store.add_user(guest)
    await store.add_session(a_session(ann, b"a" * 32, at(10_000)))
    study = a_room("study", kind="private", capacity=3, title="The study", read_only=True)
    await store.add_room(study, ann.id)
    await store.join(study.id, bob.id, Role.MODERATOR, at(1))
    await store.join(study.id, guest.id, Role.READER, at(1))
    await done(store, send(study, bob, "psst"))
    await marked(store, study.id, bob.id, 1)
    await store.leave(study.id, bob.id, at(4))
    await store.expire_guests(at(5), at(5), 10)
    direct = a_room(None, kind="direct", capacity=2)
    await store.add_room(direct, ann.id)
    short = a_room("short", history_limit=3, expires_at=at(99_999))
    await store.add_room(short, ann.id)
    for number in range(7):
        await done(store, send(short, ann, f"{number} \u2713 \U0001f600"))
    await store.add_room(a_room("closed", expires_at=at(1)), cleo.id)
    await store.close_due_rooms(at(1), 10)
    first = await kitchen.says(ann, "first")
    answer = await kitchen.says(bob, "an answer", reply_to=first.id)
    taken_back = await kitchen.says(bob, "oops")
    await done(store, edit(first, ann, "first, edited"))
    await done(store, delete(taken_back, bob))
    for user, emoji in ((bob, "🎉"), (ann, "👍"), (bob, "👍")):
        await done(store, react(answer, user, emoji))
    await marked(store, kitchen.room.id, ann.id, 2)
    return kitchen


async def dumped(store: Store) -> list[Record]:
    return [record async for record in store.dump()]


async def copied(records: Sequence[Record], store: Store) -> None:
    for begin in range(0, len(records), 5):
        await store.load(records[begin : begin + 5])


@pytest.mark.parametrize("target", NAMES)
async def test_a_copy_is_the_same_chat(tmp_path: Path, store: Store, target: str) -> None:
    kitchen = await a_lively_chat(store)
    records = await dumped(store)
    stats = await store.stats(now())
    rooms = [record for record in records if isinstance(record, RoomState)]
    assert sorted(state.room.name or "" for state in rooms) == ["", "kitchen", "short", "study"]
    assert len([record for record in records if isinstance(record, Message)]) == 7
    mine = (await store.rooms_of([kitchen.ann.id]))[kitchen.ann.id]

    (tmp_path / "other").mkdir()
    other = STORES[target](tmp_path / "other")
    await other.open()
    try:
        await copied(records, other)
        assert await dumped(other) == records
        assert (await other.rooms_of([kitchen.ann.id]))[kitchen.ann.id] == mine
        counted = await other.stats(now())
        assert replace(counted, messages_last_hour=0) == replace(stats, messages_last_hour=0)
        (session,) = [record for record in records if isinstance(record, Session)]
        assert await other.sessions([session.id]) == {session.id: (session, kitchen.ann)}
    finally:
        await other.close()


async def test_a_copy_goes_on_where_the_chat_was(store: Store, tmp_path: Path) -> None:
    kitchen = await a_lively_chat(store)
    records = await dumped(store)
    other = STORES["memory"](tmp_path)
    await copied(records, other)
    before = await kitchen.now()
    for each in (store, other):
        message = await done(each, send(kitchen.room, kitchen.ann, "and on it goes"))
        assert (message.seq, message.revision) == (before.last_seq + 1, before.revision + 1)
        changes = await each.changes(kitchen.room.id, before.revision, 10)
        assert changes.messages == [message]


async def test_a_chat_that_goes_on_cannot_be_dumped(kitchen: Kitchen, store: Store) -> None:
    await kitchen.says(kitchen.ann, "one")
    with pytest.raises(StartError, match="kitchen"):
        async for record in store.dump():
            if isinstance(record, Message):
                await kitchen.says(kitchen.ann, "meanwhile")
