"""What every store promises about pages, what was missed, trimmed histories and read marks."""

import asyncio

import pytest

from parley.errors import MessageNotFound, NotAMember, RoomNotFound
from parley.ids import new_id
from parley.models import Change, Changes, Message, RoomChange
from parley.stores.base import MAX_TOLD_BYTES, NEWEST_PAGE, Store
from tests.contracts.kitchen import (
    Kitchen,
    all_done,
    at,
    delete,
    done,
    edit,
    kitchen_in,
    marked,
    react,
    refused,
    send,
)


async def said(kitchen: Kitchen, count: int) -> list[Message]:
    """Some messages from ann, sent together."""
    sends = [send(kitchen.room, kitchen.ann, str(number)) for number in range(1, count + 1)]
    return [applied.message for applied in all_done(await kitchen.store.apply(sends))]


# Pages


async def test_a_page_is_the_newest_unless_asked_otherwise(kitchen: Kitchen) -> None:
    messages = await said(kitchen, 5)
    room_id, page = kitchen.room.id, kitchen.store.page
    assert await page(room_id, limit=2) == messages[3:]
    assert await page(room_id, before=4, limit=2) == messages[1:3]
    assert await page(room_id, after=1, limit=2) == messages[1:3]
    assert await page(room_id, after=1, before=3, limit=5) == messages[1:2]
    assert await page(room_id, before=1, limit=5) == []
    assert await page(room_id, after=5, limit=5) == []
    assert await page(room_id, after=0, limit=99) == messages


async def test_a_page_may_be_asked_for_with_any_number(kitchen: Kitchen) -> None:
    messages = await said(kitchen, 2)
    assert await kitchen.store.page(kitchen.room.id, before=2**80, limit=5) == messages
    assert await kitchen.store.page(kitchen.room.id, after=2**80, limit=5) == []


async def test_a_room_that_does_not_exist_has_empty_pages(store: Store) -> None:
    assert await store.page(new_id(), limit=5) == []


# What was missed


async def test_changes_are_what_was_stamped_since_as_it_is_now(kitchen: Kitchen) -> None:
    one, two, three = await said(kitchen, 3)
    two = await done(kitchen.store, edit(two, kitchen.ann, "zwei"))
    one = await done(kitchen.store, react(one, kitchen.bob, "👍"))
    one = await done(kitchen.store, react(one, kitchen.ann, "👍"))
    changes = kitchen.store.changes
    assert await changes(kitchen.room.id, 0, 10) == Changes(revision=6, messages=[three, two, one])
    assert await changes(kitchen.room.id, 3, 10) == Changes(revision=6, messages=[two, one])
    assert await changes(kitchen.room.id, 4, 10) == Changes(revision=6, messages=[one])
    assert await changes(kitchen.room.id, 6, 10) == Changes(revision=6)


async def test_a_deletion_is_a_change_like_any_other(kitchen: Kitchen) -> None:
    one, _ = await said(kitchen, 2)
    gone = await done(kitchen.store, delete(one, kitchen.ann))
    assert await kitchen.store.changes(kitchen.room.id, 2, 10) == Changes(revision=3, messages=[gone])


async def test_a_room_that_does_not_exist_has_no_changes(store: Store) -> None:
    with pytest.raises(RoomNotFound):
        await store.changes(new_id(), 0, 10)


async def test_too_many_changes_are_told_as_a_reset(kitchen: Kitchen) -> None:
    messages = await said(kitchen, NEWEST_PAGE + 5)
    everything = await kitchen.store.changes(kitchen.room.id, 0, NEWEST_PAGE + 5)
    assert everything == Changes(revision=NEWEST_PAGE + 5, messages=messages)
    assert await kitchen.store.changes(kitchen.room.id, 0, NEWEST_PAGE + 4) == Changes(
        revision=NEWEST_PAGE + 5, messages=messages[5:], room=await kitchen.now(), reset=True
    )


async def test_too_much_text_is_told_as_a_reset_that_is_bounded_too(kitchen: Kitchen) -> None:
    text = "x" * (MAX_TOLD_BYTES // 10)
    messages = [await kitchen.says(kitchen.ann, text) for _ in range(11)]
    all_but_one = await kitchen.store.changes(kitchen.room.id, 1, 100)
    assert (all_but_one.reset, all_but_one.messages) == (False, messages[1:])
    everything = await kitchen.store.changes(kitchen.room.id, 0, 100)
    assert (everything.reset, everything.messages) == (True, messages[1:])


@pytest.mark.parametrize("since", [3, 2**80])
async def test_a_revision_ahead_of_the_room_is_answered_by_a_reset(kitchen: Kitchen, since: int) -> None:
    messages = await said(kitchen, 2)
    expected = Changes(revision=2, messages=messages, room=await kitchen.now(), reset=True)
    assert await kitchen.store.changes(kitchen.room.id, since, 10) == expected


async def test_in_a_private_room_changes_tell_who_came_and_went(study: Kitchen) -> None:
    store, room_id = study.store, study.room.id
    ann, bob = await store.members(room_id, None, 10)
    message = await study.says(study.ann, "hi")
    assert await store.changes(room_id, 0, 10) == Changes(revision=3, messages=[message], members=[ann, bob])
    await store.leave(room_id, study.bob.id, at(7))
    changes = await store.changes(room_id, 3, 10)
    (tombstone,) = changes.members
    assert (tombstone.user_id, tombstone.left_at, tombstone.revision) == (bob.user_id, at(7), 4)
    assert (changes.revision, changes.messages, changes.room) == (4, [], None)
    reset = await store.changes(room_id, 5, 10)
    assert (reset.members, reset.room) == ([ann], await study.now())


async def test_a_public_room_tells_nobody_who_came_and_went(kitchen: Kitchen) -> None:
    await kitchen.store.leave(kitchen.room.id, kitchen.bob.id, at(7))
    assert await kitchen.store.changes(kitchen.room.id, 0, 10) == Changes(revision=0)
    assert (await kitchen.store.changes(kitchen.room.id, 1, 10)).members == []


async def test_changes_are_one_picture_while_others_write(kitchen: Kitchen) -> None:
    async def write() -> None:
        for _ in range(30):
            await kitchen.store.apply([send(kitchen.room, kitchen.ann, "hi") for _ in range(3)])

    writing = asyncio.create_task(write())
    while not writing.done():
        changes = await kitchen.store.changes(kitchen.room.id, 0, 1000)
        assert [message.revision for message in changes.messages] == list(range(1, changes.revision + 1))
        assert changes.revision % 3 == 0
        await asyncio.sleep(0)
    await writing


# Trimmed histories


async def test_older_messages_are_gone_when_a_batch_is_applied(store: Store) -> None:
    kitchen = await kitchen_in(store, history_limit=3)
    assert len(await said(kitchen, 2)) == 2
    messages = await said(kitchen, 5)
    assert await store.page(kitchen.room.id, limit=10) == messages[2:]
    room = await kitchen.now()
    assert (room.message_count, room.last_seq, room.revision) == (3, 7, 7)
    newest = await kitchen.says(kitchen.bob, "one more")
    assert await store.page(kitchen.room.id, limit=10) == [*messages[3:], newest]


async def test_a_trimmed_message_is_not_there(store: Store) -> None:
    kitchen = await kitchen_in(store, history_limit=2)
    first, *_ = await said(kitchen, 3)
    assert await refused(store, edit(first, kitchen.ann, "ho")) is MessageNotFound
    assert (
        await refused(store, send(kitchen.room, kitchen.ann, "what?", reply_to=first.id)) is MessageNotFound
    )
    anew = await kitchen.says(kitchen.bob, "mine now", id=first.id)
    assert (anew.seq, anew.revision) == (4, 4)


async def test_within_its_batch_a_message_is_there_however_many_follow(store: Store) -> None:
    kitchen = await kitchen_in(store, history_limit=1)
    first = send(kitchen.room, kitchen.ann, "one")
    batch: list[Change] = [first, send(kitchen.room, kitchen.ann, "two"), first]
    batch.append(send(kitchen.room, kitchen.bob, "three", reply_to=first.id))
    results = all_done(await store.apply(batch))
    assert [result.message.seq for result in results] == [1, 2, 1, 3]
    assert await store.page(kitchen.room.id, limit=10) == [results[3].message]


async def test_changes_since_before_the_trimmed_ones_are_a_reset(store: Store) -> None:
    kitchen = await kitchen_in(store, history_limit=3)
    messages = await said(kitchen, 5)
    assert await store.changes(kitchen.room.id, 2, 10) == Changes(revision=5, messages=messages[2:])
    assert await store.changes(kitchen.room.id, 1, 10) == Changes(
        revision=5, messages=messages[2:], room=await kitchen.now(), reset=True
    )


async def test_a_late_edit_of_a_trimmed_message_counts(store: Store) -> None:
    kitchen = await kitchen_in(store, history_limit=3)
    first, *_ = await said(kitchen, 3)
    await done(store, edit(first, kitchen.ann, "eins"))
    # Two are trimmed, and the one that went first has the later revision.
    await said(kitchen, 2)
    assert (await store.changes(kitchen.room.id, 3, 10)).reset
    assert not (await store.changes(kitchen.room.id, 4, 10)).reset


async def test_every_room_is_trimmed_by_its_own_limit(kitchen: Kitchen) -> None:
    messages = await said(kitchen, 10)
    assert await kitchen.store.page(kitchen.room.id, limit=20) == messages


# Read marks


async def test_a_read_mark_moves_forward_and_not_past_the_last_message(kitchen: Kitchen) -> None:
    await said(kitchen, 5)
    marks = []
    for seq in (3, 2, 2**80, -1):
        marks.append(await marked(kitchen.store, kitchen.room.id, kitchen.bob.id, seq))
        room = await kitchen.now(kitchen.bob)
        assert (room.read_seq, room.unread) == (marks[-1], 5 - marks[-1])
    assert marks == [3, 3, 5, 5]
    assert (await kitchen.now(kitchen.ann)).unread == 5
    assert (await kitchen.now()).revision == 5


async def test_only_members_have_a_read_mark(kitchen: Kitchen) -> None:
    with pytest.raises(NotAMember):
        await marked(kitchen.store, kitchen.room.id, kitchen.cleo.id, 1)
    with pytest.raises(RoomNotFound):
        await marked(kitchen.store, new_id(), kitchen.cleo.id, 1)


async def test_a_private_room_has_no_read_marks_for_strangers(study: Kitchen) -> None:
    with pytest.raises(RoomNotFound):
        await marked(study.store, study.room.id, study.cleo.id, 1)


async def test_another_history_limit_is_a_change_of_the_room(kitchen: Kitchen) -> None:
    messages = await said(kitchen, 5)
    await kitchen.store.change_room(kitchen.room.id, RoomChange(history_limit=3))
    changes = await kitchen.store.changes(kitchen.room.id, 5, 10)
    assert (changes.revision, changes.messages) == (6, [])
    assert changes.room is not None
    assert changes.room.history_limit == 3
    assert await kitchen.store.page(kitchen.room.id, limit=10) == messages[2:]
    assert (await kitchen.store.changes(kitchen.room.id, 1, 10)).reset
    newest = await kitchen.says(kitchen.ann, "hi")
    assert await kitchen.store.page(kitchen.room.id, limit=10) == [*messages[3:], newest]


async def test_the_same_history_limit_is_no_change(kitchen: Kitchen) -> None:
    await kitchen.store.change_room(kitchen.room.id, RoomChange(history_limit=3))
    await kitchen.store.change_room(kitchen.room.id, RoomChange(history_limit=3))
    assert (await kitchen.now()).revision == 1
    with pytest.raises(RoomNotFound):
        await kitchen.store.change_room(new_id(), RoomChange(history_limit=3))
