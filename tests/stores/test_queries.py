"""How often the database is asked, where that is promised."""

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event

from parley.ids import new_id
from parley.models import Room
from parley.stores.base import Store
from parley.stores.sql import SqlStore
from tests import backends
from tests.contracts.kitchen import a_room, a_user, at, done, kitchen_in, send

STORES = {
    "sqlite": lambda directory: SqlStore(f"sqlite:///{directory}/parley.db", synchronous="OFF"),
    "postgresql": lambda directory: SqlStore(backends.postgres().database(directory)),
}


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.servers)])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    store = STORES[request.param](tmp_path)
    await store.open()
    yield store
    await store.close()


@contextmanager
def queries() -> Iterator[list[str]]:
    """What is asked of any database meanwhile."""
    asked: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        asked.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield asked
    finally:
        event.remove(Engine, "before_cursor_execute", note)


async def test_all_rooms_of_somebody_are_one_query_however_many(store: Store) -> None:
    kitchen = await kitchen_in(store)
    ann = kitchen.ann
    for number in range(150):
        await store.add_room(room := a_room(f"room{number}"), ann.id)
        await done(store, send(room, ann, "unread"))
    for number in range(50):
        await store.add_user(peer := a_user(f"peer{number}"))
        direct = Room(id=new_id(), name=None, title="", kind="direct", created_by=None, created_at=at(1))
        await store.add_room(direct, ann.id, peer.id)
    with queries() as asked:
        rooms = (await store.rooms_of([ann.id]))[ann.id]
    assert len(rooms) == 201
    assert sum(statement.startswith("SELECT") for statement in asked) == 1
    assert sum(room.kind == "direct" and bool(room.peer) for room in rooms) == 50
    assert [room.unread for room in rooms if room.name == "room7"] == [1]
