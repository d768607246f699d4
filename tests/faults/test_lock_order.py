"""On PostgreSQL every step locks its rooms in the order of their ids, whatever plan the server takes: two
nodes never wait for each other in a circle."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import asyncpg
import pytest

from parley.ids import new_id
from parley.models import Room, User
from parley.stores.sql import SqlStore
from tests import backends
from tests.contracts.kitchen import a_room, a_user, all_done, send

pytestmark = pytest.mark.servers

ROOMS = 50
OTHER_PLANS = ("enable_indexscan", "enable_indexonlyscan", "enable_nestloop", "enable_mergejoin")

Step = Callable[[SqlStore, Sequence[Room], User], Awaitable[object]]


async def append(store: SqlStore, rooms: Sequence[Room], ann: User) -> None:
    all_done(await store.apply([send(room, ann, "hi") for room in rooms]))


async def join(store: SqlStore, rooms: Sequence[Room], ann: User) -> None:
    await store.add_user(a_user(new_id()), [room.id for room in rooms])


@pytest.fixture(params=[(), OTHER_PLANS], ids=["usual plans", "other plans"])
def database(request: pytest.FixtureRequest) -> str:
    """The URL of a new database; with other plans, one that reads its tables in the order of the rows."""
    server = backends.postgres()
    name = server.new()
    # Plans that are switched off count as so dear that they would be compiled.
    switched_off = (*request.param, "jit")
    server.execute(*(f"ALTER DATABASE {name} SET {each} = off" for each in switched_off))
    return server.address(name)


@pytest.fixture
async def store(database: str) -> AsyncIterator[SqlStore]:
    store = SqlStore(database)
    await store.open()
    yield store
    await store.close()


@pytest.mark.parametrize("step", [append, join])
@pytest.mark.parametrize("begin", [1, -1], ids=["first to last", "last to first"])
async def test_who_waits_for_a_room_holds_those_before_it_and_none_after(
    database: str, store: SqlStore, step: Step, begin: int
) -> None:
    await store.add_user(ann := a_user("ann"))
    rooms = sorted((a_room(f"room-{number}") for number in range(ROOMS)), key=lambda room: room.id)
    # The rows lie in the order in which they came, which is that of the ids or its opposite.
    for room in rooms[::begin]:
        await store.add_room(room, ann.id)
    middle = rooms[ROOMS // 2]
    after = {room.id for room in rooms[ROOMS // 2 + 1 :]}
    for batch in (rooms, rooms[::-1]):
        other, looking = await asyncpg.connect(database), await asyncpg.connect(database)
        try:
            async with other.transaction():
                await other.execute("SELECT FROM rooms WHERE id = $1 FOR UPDATE", middle.id)
                work = asyncio.create_task(_done(step, store, batch, ann))
                await _somebody_waits(looking)
                async with looking.transaction():
                    rows = await looking.fetch("SELECT id FROM rooms FOR NO KEY UPDATE SKIP LOCKED")
                assert {row["id"] for row in rows} == after
            await work
        finally:
            await other.close()
            await looking.close()


async def _done(step: Step, store: SqlStore, rooms: Sequence[Room], ann: User) -> None:
    await step(store, rooms, ann)


async def _somebody_waits(connection: asyncpg.Connection) -> None:
    waits = """
        SELECT 1 FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock' AND application_name = 'parley'
    """
    async with asyncio.timeout(10):
        while not await connection.fetch(waits):
            await asyncio.sleep(0.01)
