"""What is particular to the store in an SQLite file: two threads, and what can go wrong in them."""

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection
from structlog.typing import EventDict

from parley.errors import InternalError, RoomNotFound, StartError, StoreUnavailable
from parley.models import Applied, Role
from parley.stores.base import Query
from parley.stores.sql import SqlStore, append, database
from tests.contracts.kitchen import Kitchen, a_room, a_session, all_done, at, marked, send
from tests.stores.conftest import sql, store_at

# Threads and deadlines


async def test_reading_goes_on_while_a_write_waits_for_the_disk(kitchen: Kitchen, store: SqlStore) -> None:
    slow = SlowStep()
    writing = asyncio.create_task(store._database.write(slow))
    await slow.begun()
    async with asyncio.timeout(5):
        assert (await kitchen.now()).name == "kitchen"
        assert await store.user("ann") == kitchen.ann
    slow.release.set()
    await writing


async def test_a_disk_that_hangs_does_not_hang_its_callers(
    kitchen: Kitchen, store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "DEADLINE_SECONDS", 0.05)
    slow = SlowStep()
    message = send(kitchen.room, kitchen.ann, "hi")
    results = await asyncio.gather(
        store._database.write(slow), store.apply([message]), return_exceptions=True
    )
    assert [type(result) for result in results] == [StoreUnavailable] * 2
    assert isinstance(results[0], StoreUnavailable)
    assert results[0].retry_after == 1
    monkeypatch.setattr(database, "DEADLINE_SECONDS", 5)
    slow.release.set()
    # The message was called off while it waited, so that it is new when it is sent again.
    (again,) = all_done(await store.apply([message]))
    assert again.fresh


async def test_more_steps_than_may_wait_are_refused(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "MAX_WAITING_STEPS", 2)
    slow = SlowStep()
    writing = asyncio.create_task(store._database.write(slow))
    await slow.begun()
    one, two, three = (asyncio.create_task(store.keep(name, "kept")) for name in ("1", "2", "3"))
    with pytest.raises(StoreUnavailable):
        await three
    slow.release.set()
    await writing
    assert (await one, await two) == ("kept", "kept")


async def test_closing_waits_for_the_steps_under_way(store: SqlStore, path: Path) -> None:
    slow = SlowStep()
    begun = asyncio.create_task(store._database.write(slow))
    await slow.begun()
    waiting = asyncio.create_task(store.keep("name", "value"))
    closing = asyncio.create_task(store.close())
    await asyncio.sleep(0)
    with pytest.raises(StoreUnavailable, match="closed"):
        await store.ping()
    with pytest.raises(StartError, match="in use"):
        await store_at(path).open()
    slow.release.set()
    await closing
    await begun
    assert await waiting == "value"
    await store.close()
    assert sql(path, "SELECT value FROM meta WHERE name = 'name'") == [("value",)]


async def test_a_write_has_the_file_for_itself_from_its_beginning(store: SqlStore, path: Path) -> None:
    def step(connection: Connection) -> None:
        other = sqlite3.connect(path, timeout=0, isolation_level=None)
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("BEGIN IMMEDIATE")
        other.close()

    await store._database.write(step)


async def test_a_read_sees_one_moment(kitchen: Kitchen, store: SqlStore, path: Path) -> None:
    def step(connection: Connection) -> list[Any]:
        revision = "SELECT revision FROM rooms"
        before = connection.exec_driver_sql(revision).scalar()
        sql(path, "UPDATE rooms SET revision = 41")
        return [before, connection.exec_driver_sql(revision).scalar()]

    assert await store._database.read(step) == [0, 0]
    assert (await kitchen.now()).revision == 41


class SlowStep:
    """A step that takes until it is released, as one does whose disk hangs."""

    def __init__(self) -> None:
        self.release = threading.Event()
        self._begun = threading.Event()

    def __call__(self, connection: Connection) -> None:
        self._begun.set()
        assert self.release.wait(10)

    async def begun(self) -> None:
        assert await asyncio.to_thread(self._begun.wait, 5)


# Errors


async def test_a_full_disk_is_not_for_ever(kitchen: Kitchen, store: SqlStore) -> None:
    await kitchen.says(kitchen.ann, "hi")
    limit = "PRAGMA max_page_count = {}"
    await store._database.write(lambda connection: connection.exec_driver_sql(limit.format(1)))
    long = [send(kitchen.room, kitchen.ann, "x" * 100_000) for _ in range(3)]
    with pytest.raises(StoreUnavailable) as raised:
        await store.apply(long)
    assert raised.value.retry_after == 1
    assert (await kitchen.now()).revision == 1
    await store._database.write(lambda connection: connection.exec_driver_sql(limit.format(2**30)))
    assert [applied.message.seq for applied in all_done(await store.apply(long))] == [2, 3, 4]


async def test_a_database_that_cannot_answer_is_unavailable(
    store: SqlStore, path: Path, logged: list[EventDict]
) -> None:
    sql(path, "DROP TABLE meta")
    with pytest.raises(StoreUnavailable):
        await store.ping()
    assert [entry["error"] for entry in logged] == ["no such table: meta"]


async def test_what_the_database_does_not_take_is_our_fault(
    kitchen: Kitchen, store: SqlStore, logged: list[EventDict]
) -> None:
    session = a_session(kitchen.ann, b"hash", at(60))
    await store.add_session(session)
    with pytest.raises(InternalError) as raised:
        await store.add_session(session)
    assert session.id not in str(raised.value.__cause__), "errors are logged, and values must not be"
    await store.ping()


async def test_a_commit_that_fails_does_not_fail_the_next(store: SqlStore, logged: list[EventDict]) -> None:
    def orphan(connection: Connection) -> None:
        # The reference to a user that is not there is found only by the commit.
        connection.exec_driver_sql("PRAGMA defer_foreign_keys = ON")
        columns = "id, user_id, token_hash, created_at, expires_at"
        connection.exec_driver_sql(f"INSERT INTO sessions ({columns}) VALUES ('id', 'nobody', x'00', 0, 0)")

    with pytest.raises(InternalError):
        await store._database.write(orphan)
    assert len(logged) == 1
    assert await store.keep("name", "value") == "value"
    assert await store.sessions_of("nobody") == []


@pytest.mark.parametrize("place", [0, 1, 4])
async def test_a_poisonous_change_fails_alone(
    kitchen: Kitchen, store: SqlStore, logged: list[EventDict], place: int
) -> None:
    texts = ["one", "two", "three", "four"]
    # Half a surrogate pair is no text; SQLite's driver refuses it.
    texts.insert(place, "\ud800")
    results = await store.apply([send(kitchen.room, kitchen.ann, text) for text in texts])
    assert isinstance(results.pop(place), InternalError)
    assert [applied.message.seq for applied in all_done(results)] == [1, 2, 3, 4]
    assert (await kitchen.now()).revision == 4
    assert logged


async def test_what_is_stored_is_told_even_if_the_store_goes_away_meanwhile(
    kitchen: Kitchen, store: SqlStore, logged: list[EventDict], monkeypatch: pytest.MonkeyPatch
) -> None:
    apply: Callable[..., Any] = append.apply
    steps = iter([apply, apply, _broken])
    monkeypatch.setattr(append, "apply", lambda *batch: next(steps)(*batch))  # noqa: PLW0108
    results = await store.apply([send(kitchen.room, kitchen.ann, text) for text in ("one", "\ud800")])
    assert [type(result) for result in results] == [Applied, StoreUnavailable]


def _broken(connection: Connection, changes: object) -> None:
    raise sqlite3.OperationalError("disk I/O error")


# Closed rooms


async def test_a_closed_room_is_gone_from_everything(kitchen: Kitchen, store: SqlStore, path: Path) -> None:
    room_id = kitchen.room.id
    sql(path, "UPDATE rooms SET closed_at = 1")
    assert await store.room(room_id) is None
    assert await store.room("kitchen") is None
    assert (await store.rooms_of([kitchen.ann.id]))[kitchen.ann.id] == []
    assert await store.public_rooms(None, 10) == []
    assert await store.heads([room_id]) == {}
    (result,) = await store.apply([send(kitchen.room, kitchen.ann, "hi")])
    assert isinstance(result, RoomNotFound)
    for step in (
        store.changes(room_id, 0, 10),
        store.join(room_id, kitchen.cleo.id, Role.MEMBER, at(7)),
        marked(store, room_id, kitchen.ann.id, 0),
    ):
        with pytest.raises(RoomNotFound):
            await step


async def test_the_name_of_a_closed_room_is_free_again(kitchen: Kitchen, store: SqlStore, path: Path) -> None:
    sql(path, "UPDATE rooms SET closed_at = 1")
    second = a_room("kitchen")
    await store.add_room(second)
    assert await store.room("kitchen") == second


async def test_a_search_says_that_it_was_not_complete_while_much_is_new(
    kitchen: Kitchen, store: SqlStore
) -> None:
    for _ in range(6):
        await store.apply([send(kitchen.room, kitchen.ann, "word") for _ in range(500)])
    query = Query(user_id=kitchen.ann.id, words=("word",), limit=5)
    assert (await store.search(query)).complete is False
    while await store.index():
        pass
    assert (await store.search(query)).complete is True


async def test_long_texts_are_indexed_a_few_at_a_time(kitchen: Kitchen, store: SqlStore) -> None:
    long = " ".join(f"word{number}" for number in range(2_000))
    await store.apply([send(kitchen.room, kitchen.ann, long) for _ in range(20)])
    steps = 1
    while await store.index():
        steps += 1
    assert steps > 2
    query = Query(user_id=kitchen.ann.id, words=("word1999",), limit=50)
    assert len((await store.search(query)).messages) == 20
