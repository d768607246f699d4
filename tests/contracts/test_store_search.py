"""Finding messages by their words, in every store."""

import pytest

from parley.ids import new_id
from parley.models import Message, RoomChange, User
from parley.stores.base import Found, Query, Store
from parley.stores.rules import newest_first
from parley.words import words_of
from tests.contracts.kitchen import Kitchen, a_room, at, delete, done, edit, send


async def found(store: Store, text: str, user: User, **fields: object) -> list[str]:
    """The texts of the messages that are found, the newest first."""
    return [message.text for message in (await search(store, text, user, **fields)).messages]


async def search(store: Store, text: str, user: User, **fields: object) -> Found:
    query = {"user_id": user.id, "words": words_of(text), "limit": 10, **fields}
    return await store.search(Query(**query))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("Hello, World!", "hello"),
        ("Hello, World!", "world hello"),
        ("Hello, World!", "wor hel"),
        ("see https://example.com/a_b?c=d", "example"),
        ("see https://example.com/a_b?c=d", "b c"),
        ("state-of-the-art", "ART"),
        ("it's 3.14", "14"),
        ("GROẞE Straße", "grosse strasse"),
        ("Привет, мир", "МИР"),
        ("e\u0301tude", "étud"),
        ("我在北京大学读书", "北京"),
        ("ﬁne", "fine"),
        ("a 👍 b", "b a"),
        ("'; DROP TABLE words; --", "drop'; table"),
        ("x AND NOT y", "not and"),
        ("tab\tand\nline", "line and"),
        ("a" * 200, "a" * 150),
    ],
)
async def test_a_message_is_found_by_the_beginnings_of_its_words(
    kitchen: Kitchen, store: Store, text: str, query: str
) -> None:
    await kitchen.says(kitchen.ann, "something else")
    await kitchen.says(kitchen.ann, text)
    assert await found(store, query, kitchen.ann) == [text]


@pytest.mark.parametrize("query", ["orld", "hello there", "helloworld", "hell0"])
async def test_other_messages_are_not_found(kitchen: Kitchen, store: Store, query: str) -> None:
    await kitchen.says(kitchen.ann, "hello world")
    assert await found(store, query, kitchen.ann) == []


async def test_the_newest_come_first_and_page_by_page(kitchen: Kitchen, store: Store) -> None:
    hall = a_room("hall")
    await store.add_room(hall, kitchen.ann.id)
    said: list[Message] = []
    for number in range(30):
        room = hall if number % 3 == 0 else kitchen.room
        said.append(await done(store, send(room, kitchen.ann, f"word {number}", sent_at=at(number // 2))))
    said.sort(key=newest_first, reverse=True)
    pages: list[Message] = []
    before = None
    while True:
        page = await search(store, "word", kitchen.ann, limit=7, before=before)
        assert page.complete
        pages += page.messages
        if len(page.messages) < 7:
            break
        before = newest_first(page.messages[-1])
    assert pages == said
    here = await search(store, "word", kitchen.ann, limit=100, room_id=hall.id)
    assert here.messages == [message for message in said if message.room_id == hall.id]


async def test_a_message_is_found_by_what_it_says_now(kitchen: Kitchen, store: Store) -> None:
    first = await kitchen.says(kitchen.ann, "apples")
    second = await kitchen.says(kitchen.ann, "apples and pears")
    assert await found(store, "apples", kitchen.ann) == ["apples and pears", "apples"]
    await done(store, edit(first, kitchen.ann, "plums"))
    await done(store, delete(second, kitchen.ann))
    assert await found(store, "apples", kitchen.ann) == []
    assert await found(store, "pears", kitchen.ann) == []
    assert await found(store, "plums", kitchen.ann) == ["plums"]


async def test_only_what_the_caller_may_read_is_found(kitchen: Kitchen, store: Store) -> None:
    study = a_room("study", kind="private")
    await store.add_room(study, kitchen.ann.id)
    await done(store, send(study, kitchen.ann, "secret plan"))
    await kitchen.says(kitchen.ann, "public plan")
    assert await found(store, "plan", kitchen.ann) != await found(store, "plan", kitchen.bob)
    assert sorted(await found(store, "plan", kitchen.ann)) == ["public plan", "secret plan"]
    assert await found(store, "plan", kitchen.cleo) == ["public plan"]
    assert await found(store, "plan", kitchen.bob, room_id=study.id) == []
    assert await found(store, "plan", kitchen.ann, room_id=study.id) == ["secret plan"]
    assert await found(store, "plan", kitchen.ann, room_id=new_id()) == []
    await store.leave(study.id, kitchen.ann.id, at(5))
    assert await found(store, "plan", kitchen.ann) == ["public plan"]


async def test_what_is_gone_is_not_found(kitchen: Kitchen, store: Store) -> None:
    soon = a_room("soon", expires_at=at(10))
    await store.add_room(soon, kitchen.ann.id)
    await done(store, send(soon, kitchen.ann, "word in a room that closes"))
    for number in range(3):
        await kitchen.says(kitchen.ann, f"word {number}")
    await search(store, "word", kitchen.ann)
    await store.close_due_rooms(at(10), 10)
    await store.change_room(kitchen.room.id, RoomChange(history_limit=1))
    assert await found(store, "word", kitchen.ann) == ["word 2"]
    await kitchen.says(kitchen.ann, "word 3")
    assert await found(store, "word", kitchen.ann) == ["word 3"]


async def test_much_that_is_new_is_indexed_step_by_step(kitchen: Kitchen, store: Store) -> None:
    for begin in range(0, 1500, 500):
        await store.apply([send(kitchen.room, kitchen.ann, f"new {begin + each}") for each in range(500)])
    for _ in range(10):
        if not await store.index():
            break
    else:
        raise AssertionError("there is always more to index")
    assert await found(store, "new 7", kitchen.ann, limit=3) == ["new 799", "new 798", "new 797"]
