"""What every store promises about applying changes: order, repeated ids, rules and limits."""

import asyncio

import pytest
from msgspec.structs import replace

from parley.errors import (
    IdTaken,
    LimitReached,
    MessageNotFound,
    NotAMember,
    NotYourMessage,
    ParleyError,
    ReadOnlyRoom,
    RoomNotFound,
)
from parley.ids import new_id
from parley.models import Applied, Change, Message, Role
from parley.stores.base import MAX_REACTIONS, Store
from tests.contracts.kitchen import (
    Kitchen,
    a_room,
    a_user,
    all_done,
    at,
    delete,
    done,
    edit,
    kitchen_in,
    outcome,
    react,
    refused,
    send,
)


async def test_messages_are_numbered_in_the_order_of_the_batch(kitchen: Kitchen) -> None:
    sends = [send(kitchen.room, author, "hi") for author in (kitchen.ann, kitchen.bob, kitchen.ann)]
    results = all_done(await kitchen.store.apply(sends))
    assert [(r.message.id, r.message.seq, r.message.revision) for r in results] == [
        (each.id, number, number) for number, each in enumerate(sends, 1)
    ]
    assert all(result.fresh for result in results)
    assert await kitchen.store.page(kitchen.room.id, limit=10) == [result.message for result in results]


async def test_an_empty_batch_is_nothing(kitchen: Kitchen) -> None:
    assert await kitchen.store.apply([]) == []


async def test_a_message_is_stored_as_it_was_sent(kitchen: Kitchen) -> None:
    first = await kitchen.says(kitchen.bob, "Grüße 👋", kind="agent", sent_at=at(1.5))
    answer = await kitchen.says(kitchen.ann, "'; --", reply_to=first.id)
    assert first == Message(
        id=first.id,
        room_id=kitchen.room.id,
        seq=1,
        revision=1,
        author_id=kitchen.bob.id,
        author_name="Bob",
        kind="agent",
        text="Grüße 👋",
        sent_at=at(1.5),
    )
    assert answer.reply_to == first.id
    assert await kitchen.store.page(kitchen.room.id, limit=10) == [first, answer]


async def test_every_room_has_numbers_of_its_own(kitchen: Kitchen) -> None:
    hall = a_room("hall")
    await kitchen.store.add_room(hall, kitchen.ann.id)
    rooms = [kitchen.room, hall, kitchen.room, kitchen.room, hall]
    results = all_done(await kitchen.store.apply([send(room, kitchen.ann, "hi") for room in rooms]))
    assert [result.message.seq for result in results] == [1, 1, 2, 3, 2]
    assert await kitchen.store.heads([kitchen.room.id, hall.id]) == {kitchen.room.id: 3, hall.id: 2}


async def test_batches_at_the_same_time_leave_no_holes(kitchen: Kitchen) -> None:
    batches = [[send(kitchen.room, kitchen.ann, str(n)) for n in range(5)] for _ in range(20)]
    results = await asyncio.gather(*(kitchen.store.apply(batch) for batch in batches))
    seqs = [[applied.message.seq for applied in all_done(result)] for result in results]
    assert sorted(seq for batch in seqs for seq in batch) == list(range(1, 101))
    assert all(batch == list(range(batch[0], batch[0] + 5)) for batch in seqs)


async def test_a_room_tells_what_its_history_has_become(kitchen: Kitchen) -> None:
    message = await kitchen.says(kitchen.ann, "one")
    await kitchen.says(kitchen.ann, "two", sent_at=at(9))
    await done(kitchen.store, edit(message, kitchen.ann, "eins"))
    room = await kitchen.now()
    assert (room.last_seq, room.revision, room.message_count, room.last_message_at) == (
        2,
        3,
        2,
        at(9),
    )


# The same id again


async def test_the_same_id_sent_twice_is_stored_once(kitchen: Kitchen) -> None:
    first = send(kitchen.room, kitchen.ann, "hi")
    stored = await done(kitchen.store, first)
    await kitchen.says(kitchen.bob, "hello")
    assert await outcome(kitchen.store, first) == Applied(message=stored, fresh=False)
    assert (await kitchen.now()).revision == 2


async def test_copies_of_one_id_in_one_batch_are_stored_once(kitchen: Kitchen) -> None:
    first, other = send(kitchen.room, kitchen.ann, "hi"), send(kitchen.room, kitchen.bob, "hello")
    results = all_done(await kitchen.store.apply([first, first, other, first]))
    assert [result.fresh for result in results] == [True, False, True, False]
    assert [result.message.seq for result in results] == [1, 1, 2, 1]
    assert len(await kitchen.store.page(kitchen.room.id, limit=10)) == 2


async def test_an_id_of_another_message_is_taken(kitchen: Kitchen) -> None:
    first = await kitchen.says(kitchen.ann, "hi")
    others = [
        send(kitchen.room, kitchen.ann, "ho", id=first.id),
        send(kitchen.room, kitchen.bob, "hi", id=first.id),
    ]
    assert [type(result) for result in await kitchen.store.apply(others)] == [IdTaken, IdTaken]
    twin = send(kitchen.room, kitchen.ann, "a")
    results = await kitchen.store.apply(
        [twin, replace(twin, text="b"), replace(twin, author_id=kitchen.bob.id)]
    )
    assert [type(result) for result in results] == [Applied, IdTaken, IdTaken]
    assert (await kitchen.says(kitchen.ann, "next")).seq == 3


async def test_an_id_is_unique_in_its_room_only(kitchen: Kitchen) -> None:
    hall = a_room("hall")
    await kitchen.store.add_room(hall, kitchen.ann.id)
    first = await kitchen.says(kitchen.ann, "hi")
    same = await done(kitchen.store, send(hall, kitchen.ann, "ho", id=first.id))
    assert (same.room_id, same.seq) == (hall.id, 1)


async def test_a_repeated_id_gives_the_message_as_it_has_become(kitchen: Kitchen) -> None:
    first = send(kitchen.room, kitchen.ann, "hi")
    edited = await done(kitchen.store, edit(await done(kitchen.store, first), kitchen.ann, "hello"))
    assert await outcome(kitchen.store, first) == Applied(message=edited, fresh=False)
    deleted = await done(kitchen.store, delete(edited, kitchen.ann))
    assert await outcome(kitchen.store, first) == Applied(message=deleted, fresh=False)


async def test_a_repeated_id_is_answered_even_after_leaving(kitchen: Kitchen) -> None:
    first = send(kitchen.room, kitchen.bob, "hi")
    stored = await done(kitchen.store, first)
    await kitchen.store.leave(kitchen.room.id, kitchen.bob.id, at(7))
    assert await outcome(kitchen.store, first) == Applied(message=stored, fresh=False)
    assert await refused(kitchen.store, send(kitchen.room, kitchen.bob, "again")) is NotAMember


# Editing, deleting, reacting


async def test_an_edit_changes_the_words_and_keeps_the_place(kitchen: Kitchen) -> None:
    first = await kitchen.says(kitchen.ann, "hi")
    await kitchen.says(kitchen.bob, "hello")
    edited = await done(kitchen.store, edit(first, kitchen.ann, "hey"))
    assert (edited.text, edited.seq, edited.revision, edited.edited_at) == ("hey", 1, 3, at(2))
    assert (await kitchen.store.page(kitchen.room.id, limit=10))[0] == edited


async def test_a_deleted_message_keeps_its_place_without_its_text(kitchen: Kitchen) -> None:
    first = await kitchen.says(kitchen.bob, "hi")
    await done(kitchen.store, react(first, kitchen.ann, "👍"))
    deleted = await done(kitchen.store, delete(first, kitchen.bob))
    assert (deleted.text, deleted.reactions, deleted.seq, deleted.deleted_at) == ("", {}, 1, at(3))
    assert await kitchen.store.page(kitchen.room.id, limit=10) == [deleted]
    assert (await kitchen.now()).message_count == 1


async def test_whoever_keeps_order_deletes_what_others_wrote(kitchen: Kitchen) -> None:
    await kitchen.store.join(kitchen.room.id, kitchen.cleo.id, Role.MODERATOR, at(7))
    one, two = await kitchen.says(kitchen.bob, "one"), await kitchen.says(kitchen.ann, "two")
    assert await refused(kitchen.store, delete(one, kitchen.ann)) is None
    assert await refused(kitchen.store, delete(two, kitchen.cleo)) is None


async def test_reactions_keep_their_order(kitchen: Kitchen) -> None:
    first = await kitchen.says(kitchen.ann, "hi")
    for user, emoji in ((kitchen.bob, "👍"), (kitchen.ann, "🎉"), (kitchen.ann, "👍")):
        await done(kitchen.store, react(first, user, emoji))
    (stored,) = await kitchen.store.page(kitchen.room.id, limit=10)
    expected = {"👍": [kitchen.bob.id, kitchen.ann.id], "🎉": [kitchen.ann.id]}
    assert list(stored.reactions.items()) == list(expected.items())
    await done(kitchen.store, react(first, kitchen.ann, "🎉", on=False))
    await done(kitchen.store, react(first, kitchen.bob, "👍", on=False))
    (stored,) = await kitchen.store.page(kitchen.room.id, limit=10)
    assert (stored.reactions, stored.revision) == ({"👍": [kitchen.ann.id]}, 6)


async def test_what_is_so_already_takes_no_revision(kitchen: Kitchen) -> None:
    ann, bob, store = kitchen.ann, kitchen.bob, kitchen.store
    one, two = await kitchen.says(ann, "one"), await kitchen.says(ann, "two")
    one = await done(store, react(one, bob, "👍"))
    two = await done(store, delete(two, ann))
    idle: list[Change] = [
        edit(one, ann, "one"),
        react(one, bob, "👍"),
        react(one, ann, "👍", on=False),
        delete(two, ann),
    ]
    assert await store.apply(idle) == [Applied(message=each, fresh=False) for each in (one, one, one, two)]
    assert (await kitchen.now()).revision == 4


async def test_a_message_may_go_through_everything_in_one_batch(kitchen: Kitchen) -> None:
    seed = await kitchen.says(kitchen.bob, "seed")
    first = send(kitchen.room, kitchen.ann, "hi")
    changes: list[Change] = [
        first,
        send(kitchen.room, kitchen.bob, "yes", reply_to=first.id),
        edit(first, kitchen.ann, "hey"),
        react(first, kitchen.bob, "👍"),
        delete(first, kitchen.ann),
        first,
    ]
    results = all_done(await kitchen.store.apply(changes))
    assert [result.message.revision for result in results] == [2, 3, 4, 5, 6, 6]
    assert [result.message.text for result in results] == ["hi", "yes", "hey", "hey", "", ""]
    page = await kitchen.store.page(kitchen.room.id, limit=10)
    assert page == [seed, results[5].message, results[1].message]


# Refusals


async def test_only_members_write(kitchen: Kitchen) -> None:
    first = await kitchen.says(kitchen.ann, "hi")
    changes: list[Change] = [
        send(kitchen.room, kitchen.cleo, "hi"),
        edit(first, kitchen.cleo, "ho"),
        delete(first, kitchen.cleo),
        react(first, kitchen.cleo, "👍"),
    ]
    assert [type(result) for result in await kitchen.store.apply(changes)] == [NotAMember] * 4


async def test_a_private_room_does_not_exist_for_strangers(study: Kitchen) -> None:
    first = await study.says(study.ann, "hi")
    hidden = await outcome(study.store, send(study.room, study.cleo, "hi"))
    missing = await outcome(study.store, send(a_room("attic"), study.cleo, "hi"))
    assert isinstance(hidden, RoomNotFound)
    assert isinstance(missing, RoomNotFound)
    assert hidden.detail == missing.detail
    assert await refused(study.store, react(first, study.cleo, "👍")) is RoomNotFound


async def test_a_reader_reads_and_reacts(kitchen: Kitchen) -> None:
    await kitchen.store.join(kitchen.room.id, kitchen.cleo.id, Role.READER, at(7))
    first = await kitchen.says(kitchen.ann, "hi")
    assert await refused(kitchen.store, send(kitchen.room, kitchen.cleo, "hi")) is ReadOnlyRoom
    assert await refused(kitchen.store, react(first, kitchen.cleo, "👍")) is None


async def test_in_a_read_only_room_only_its_keepers_write(store: Store) -> None:
    kitchen = await kitchen_in(store, read_only=True)
    await store.join(kitchen.room.id, kitchen.cleo.id, Role.MODERATOR, at(7))
    authors = (kitchen.ann, kitchen.bob, kitchen.cleo)
    results = await store.apply([send(kitchen.room, author, "hi") for author in authors])
    assert [type(result) for result in results] == [Applied, ReadOnlyRoom, Applied]


async def test_only_its_author_changes_a_message(kitchen: Kitchen) -> None:
    first = await kitchen.says(kitchen.ann, "hi")
    assert await refused(kitchen.store, edit(first, kitchen.bob, "ho")) is NotYourMessage
    assert await refused(kitchen.store, delete(first, kitchen.bob)) is NotYourMessage
    second = await kitchen.says(kitchen.bob, "hi")
    assert await refused(kitchen.store, edit(second, kitchen.ann, "ho")) is NotYourMessage


async def test_what_is_not_there_cannot_be_changed(kitchen: Kitchen) -> None:
    first = await kitchen.says(kitchen.ann, "hi")
    await done(kitchen.store, delete(first, kitchen.ann))
    assert await refused(kitchen.store, edit(first, kitchen.ann, "ho")) is MessageNotFound
    assert await refused(kitchen.store, react(first, kitchen.ann, "👍")) is MessageNotFound
    hall = a_room("hall")
    await kitchen.store.add_room(hall, kitchen.ann.id)
    elsewhere = await done(kitchen.store, send(hall, kitchen.ann, "hi"))
    for change in (edit(elsewhere, kitchen.ann, "ho"), delete(elsewhere, kitchen.ann)):
        assert await refused(kitchen.store, replace(change, room_id=kitchen.room.id)) is MessageNotFound


async def test_an_answer_needs_its_question(kitchen: Kitchen) -> None:
    lost = send(kitchen.room, kitchen.ann, "what?", reply_to=new_id())
    assert await refused(kitchen.store, lost) is MessageNotFound
    first = await kitchen.says(kitchen.ann, "hi")
    await done(kitchen.store, delete(first, kitchen.ann))
    assert await refused(kitchen.store, send(kitchen.room, kitchen.bob, "why?", reply_to=first.id)) is None


async def test_a_message_takes_a_limited_number_of_reactions(kitchen: Kitchen) -> None:
    first = await kitchen.says(kitchen.ann, "hi")
    reactions = [react(first, kitchen.ann, f"{number}") for number in range(MAX_REACTIONS + 1)]
    results = await kitchen.store.apply(reactions)
    all_done(results[:-1])
    assert isinstance(results[-1], LimitReached)
    assert await refused(kitchen.store, react(first, kitchen.bob, "0")) is None


async def test_a_refused_change_does_not_touch_the_others(kitchen: Kitchen) -> None:
    first = await kitchen.says(kitchen.ann, "hi")
    changes: list[Change] = [
        send(kitchen.room, kitchen.bob, "one"),
        send(kitchen.room, kitchen.cleo, "refused"),
        edit(first, kitchen.bob, "refused"),
        send(a_room("attic"), kitchen.ann, "refused"),
        send(kitchen.room, kitchen.ann, "refused", id=first.id),
        edit(first, kitchen.ann, "hey"),
        send(kitchen.room, kitchen.ann, "refused", reply_to=new_id()),
        send(kitchen.room, kitchen.bob, "two"),
    ]
    results = await kitchen.store.apply(changes)
    assert [isinstance(result, ParleyError) for result in results] == [0, 1, 1, 1, 1, 0, 1, 0]
    stamps = [(r.message.seq, r.message.revision) for r in results if isinstance(r, Applied)]
    assert stamps == [(2, 2), (1, 3), (3, 4)]
    assert [m.text for m in await kitchen.store.page(kitchen.room.id, limit=10)] == [
        "hey",
        "one",
        "two",
    ]
    assert (await kitchen.now()).revision == 4


async def test_roles_are_those_of_the_moment(kitchen: Kitchen) -> None:
    dan = a_user("dan")
    await kitchen.store.add_user(dan)
    assert await refused(kitchen.store, send(kitchen.room, dan, "hi")) is NotAMember
    await kitchen.store.join(kitchen.room.id, dan.id, Role.MEMBER, at(7))
    assert await refused(kitchen.store, send(kitchen.room, dan, "hi")) is None
    await kitchen.store.leave(kitchen.room.id, dan.id, at(8))
    assert await refused(kitchen.store, send(kitchen.room, dan, "hi")) is NotAMember


@pytest.mark.parametrize("size", [1, 7])
async def test_refusals_alone_change_nothing(kitchen: Kitchen, size: int) -> None:
    await kitchen.says(kitchen.ann, "hi")
    before = await kitchen.now()
    results = await kitchen.store.apply([send(kitchen.room, kitchen.cleo, "no")] * size)
    assert [type(result) for result in results] == [NotAMember] * size
    assert await kitchen.now() == before


async def test_who_was_shown_the_door_is_not_told_of_their_messages_by_their_ids(study: Kitchen) -> None:
    message = await study.says(study.bob, "mine")
    again = send(study.room, study.bob, "mine", id=message.id)
    stranger = send(study.room, study.cleo, "guess", id=message.id)
    assert await refused(study.store, stranger) is RoomNotFound
    await study.store.leave(study.room.id, study.bob.id, at(7))
    assert await refused(study.store, again) is RoomNotFound
    await study.store.join(study.room.id, study.bob.id, Role.READER, at(8))
    [result] = all_done(await study.store.apply([again]))
    assert (result.message, result.fresh) == (message, False)
