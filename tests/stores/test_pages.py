"""A page out of a million messages costs what a page out of a thousand does."""

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from parley.stores.base import NEWEST_PAGE
from parley.stores.sql import SqlStore, history
from tests import backends
from tests.contracts.kitchen import Kitchen, a_room, kitchen_in

SHORT, LONG = 1_000, 1_000_000
PAGES = {
    "the newest": (None, None),
    "one from the middle, backwards": (2, None),
    "one from the middle, forwards": (None, 2),
    "the oldest": (None, 0),
}
"""Where each begins: before and after such a part of the history."""

INSERT = """
    INSERT INTO messages (room_id, seq, id, revision, author_id, author_name, kind, text, sent_at)
    SELECT '{room}', n, '{room}-' || n, n, '{ann}', 'Ann', 'text', 'hi', n FROM {numbers}
"""


async def rooms_in(store: SqlStore) -> tuple[Kitchen, dict[int, str]]:
    """Two rooms for histories of different lengths."""
    kitchen = await kitchen_in(store)
    long = a_room("long")
    await store.add_room(long, kitchen.ann.id)
    return kitchen, {SHORT: kitchen.room.id, LONG: long.id}


def begins(count: int, part: int | None) -> int | None:
    return None if part is None else count // part if part else 0


async def pages_of(store: SqlStore, room_id: str, count: int, before: int | None, after: int | None) -> Any:
    bounds = {"before": begins(count, before), "after": begins(count, after)}
    page = await store.page(room_id, **bounds, limit=NEWEST_PAGE)
    assert len(page) == NEWEST_PAGE
    return bounds


@pytest.mark.slow
async def test_on_sqlite_it_takes_the_same_steps(tmp_path: Path) -> None:
    store = SqlStore(f"sqlite:///{tmp_path}/parley.db", synchronous="OFF")
    await store.open()
    kitchen, rooms = await rooms_in(store)
    up = "WITH RECURSIVE up (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM up WHERE n < {count})"
    numbers = f"({up} SELECT n FROM up)"

    def fill(connection: sa.Connection) -> None:
        for count, room_id in rooms.items():
            here = numbers.format(count=count)
            connection.exec_driver_sql(INSERT.format(room=room_id, ann=kitchen.ann.id, numbers=here))
            connection.exec_driver_sql(f"UPDATE rooms SET last_seq = {count} WHERE id = '{room_id}'")

    def steps(connection: sa.Connection, room_id: str, bounds: dict[str, int | None]) -> int:
        driver: Any = connection.connection.driver_connection
        taken = 0

        def step() -> int:
            nonlocal taken
            taken += 1
            return 0

        driver.set_progress_handler(step, 1)
        history.page(connection, room_id, bounds["before"], bounds["after"], NEWEST_PAGE)
        driver.set_progress_handler(None, 0)
        return taken

    try:
        await store._database.write(fill)
        for where, (before, after) in PAGES.items():
            taken = {}
            for count, room_id in rooms.items():
                bounds = await pages_of(store, room_id, count, before, after)
                taken[count] = await store._database.read(steps, room_id, bounds)
            assert 100 < taken[SHORT] == taken[LONG], where
    finally:
        await store.close()


@pytest.mark.slow
@pytest.mark.servers
async def test_on_postgresql_it_reads_as_much() -> None:
    server = backends.postgres()
    name = server.new()
    store = SqlStore(server.address(name))
    await store.open()
    kitchen, rooms = await rooms_in(store)
    server.execute(
        *(
            INSERT.format(room=room_id, ann=kitchen.ann.id, numbers=f"generate_series(1, {count}) AS n")
            for count, room_id in rooms.items()
        ),
        database=name,
    )

    def blocks(connection: sa.Connection, room_id: str, bounds: dict[str, int | None]) -> tuple[int, str]:
        """How many blocks a page is read from, and by which index."""
        statement, values = history._BEFORE, {"before": bounds["before"] or history._MAX_SEQ}
        if bounds["after"] is not None:
            statement, values = history._AFTER, {"after": bounds["after"], "before": history._MAX_SEQ}
        compiled = statement.compile(connection)
        given = {**compiled.params, "room_id": room_id, "limit": NEWEST_PAGE, **values}
        names = [each for each in compiled.positiontup or [] if each not in compiled.literal_execute_params]
        explained = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {compiled}"
        found: Any = connection.exec_driver_sql(explained, tuple(given[each] for each in names)).scalar()
        plan = found[0]["Plan"]
        return plan["Shared Hit Blocks"] + plan["Shared Read Blocks"], plan["Plans"][0]["Index Name"]

    try:
        for where, (before, after) in PAGES.items():
            read = {}
            for count, room_id in rooms.items():
                bounds = await pages_of(store, room_id, count, before, after)
                read[count], index = await store._database.read(blocks, room_id, bounds)
                assert index == "pk_messages", where
            # A longer history has a deeper index: one block more, whatever the page.
            assert read[LONG] <= read[SHORT] + 3, (where, read)
    finally:
        await store.close()
