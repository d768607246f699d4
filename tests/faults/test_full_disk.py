"""The disk is full, or the database says so: nothing is acknowledged that is not stored, senders are told to
come back, reading goes on, and so does writing once there is space."""

import asyncio
import resource
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest
from sqlalchemy import Connection
from structlog.testing import capture_logs

from parley.errors import ParleyError, StoreUnavailable
from parley.ids import new_id
from parley.models import Change
from parley.stores.base import Store
from parley.stores.redis import RedisStore
from parley.stores.sql import SqlStore
from tests import backends
from tests.contracts.kitchen import a_room, a_session, a_user, all_done, at, edit, kitchen_in, react, send
from tests.redis_servers import redis_cluster, redis_server
from tests.servers import ServerProcess, server

SENDERS = 8
TEXT = "x" * 8000
CHECKPOINT_BYTES = 4096 * 4096


# SQLite under a running server


def limit_files(process: ServerProcess, size: int) -> None:
    """From now on no file of the server grows beyond that size, which it finds out as it would that the disk
    is full: writes fail. It could be lifted again."""
    _, hard = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size, hard))


class Kitchens:
    """The kitchen of a server as its guests use it, over HTTP."""

    def __init__(self, process: ServerProcess, http: httpx2.AsyncClient) -> None:
        self.process = process
        self.acknowledged: dict[str, int] = {}
        self._http = http

    async def enter(self) -> None:
        guest = (await self._http.post("/sessions/guest", json={"display_name": "Ann"})).json()
        self._http.headers["authorization"] = f"Bearer {guest['token']}"
        assert (await self._http.post("/rooms", json={"name": "kitchen"})).status_code == 201

    async def send(self, id_: str) -> bool:
        """Whether it was acknowledged. If not, the answer was the right one."""
        answer = await self._http.post("/rooms/kitchen/messages", json={"id": id_, "text": f"{id_} {TEXT}"})
        said = answer.json()
        if answer.status_code in {200, 201}:
            assert self.acknowledged.setdefault(id_, said["seq"]) == said["seq"]
            return True
        assert (answer.status_code, said["code"]) == (503, "store_unavailable")
        assert int(answer.headers["retry-after"]) > 0
        return False

    async def send_until_refused(self) -> list[str]:
        """Several at once, each until it is refused; the ids that were."""

        async def one() -> str:
            while await self.send(id_ := new_id()):
                pass
            return id_

        async with asyncio.timeout(60):
            return list(await asyncio.gather(*(one() for _ in range(SENDERS))))

    async def has_what_was_acknowledged(self) -> None:
        """All of it, once, whole and without holes; and nothing else."""
        stored: dict[str, int] = {}
        while True:
            page = await self._http.get(
                "/rooms/kitchen/messages", params={"after": len(stored), "limit": 200}
            )
            assert page.status_code == 200
            if not page.json()["items"]:
                break
            for each in page.json()["items"]:
                assert each["text"] == f"{each['id']} {TEXT}"
                assert each["seq"] == each["revision"] == len(stored) + 1
                stored[each["id"]] = each["seq"]
        assert stored == self.acknowledged
        room = (await self._http.get("/rooms/kitchen")).json()
        assert room["last_seq"] == room["revision"] == len(stored)


@pytest.fixture
async def kitchens(tmp_path: Path) -> AsyncIterator[Kitchens]:
    async with (
        server(tmp_path) as process,
        httpx2.AsyncClient(base_url=f"{process.url}/api/v1", timeout=20) as http,
    ):
        kitchens = Kitchens(process, http)
        await kitchens.enter()
        yield kitchens


@pytest.mark.slow
async def test_a_server_on_a_full_disk_refuses_to_write_and_goes_on_when_there_is_space(
    kitchens: Kitchens,
) -> None:
    process, log = kitchens.process, kitchens.process.folder / "parley.db-wal"
    for _ in range(3):
        before = len(kitchens.acknowledged)
        # Somewhere in the midst of a page.
        limit_files(process, log.stat().st_size + 300_001)
        refused = await kitchens.send_until_refused()
        assert len(kitchens.acknowledged) > before
        await kitchens.has_what_was_acknowledged()
        # A smaller commit than the one that failed may still have found its place.
        while any(taken := await asyncio.gather(*map(kitchens.send, refused))):
            refused = [each for each, stored in zip(refused, taken, strict=True) if not stored]
            assert refused
        await kitchens.has_what_was_acknowledged()
        limit_files(process, resource.RLIM_INFINITY)
        assert all(await asyncio.gather(*map(kitchens.send, refused)))
        await kitchens.has_what_was_acknowledged()


@pytest.mark.slow
async def test_a_server_that_is_killed_on_a_full_disk_starts_cleanly_with_all_it_acknowledged(
    kitchens: Kitchens,
) -> None:
    process, log = kitchens.process, kitchens.process.folder / "parley.db-wal"
    limit_files(process, log.stat().st_size + 300_001)
    refused = await kitchens.send_until_refused()
    process.kill()
    with closing(sqlite3.connect(process.folder / "parley.db")) as file:
        assert file.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    await asyncio.to_thread(process.start)
    await kitchens.has_what_was_acknowledged()
    assert all(await asyncio.gather(*map(kitchens.send, refused)))
    await kitchens.has_what_was_acknowledged()


@pytest.mark.slow
async def test_a_log_that_cannot_be_emptied_into_the_file_loses_nothing(kitchens: Kitchens) -> None:
    process, log = kitchens.process, kitchens.process.folder / "parley.db-wal"
    # First the file is at its end, so that the log grows beyond where it is emptied, and then the log is.
    limit_files(process, CHECKPOINT_BYTES + 1_000_001)
    refused = await kitchens.send_until_refused()
    assert log.stat().st_size > CHECKPOINT_BYTES + 900_000
    await kitchens.has_what_was_acknowledged()
    limit_files(process, resource.RLIM_INFINITY)
    assert all(await asyncio.gather(*map(kitchens.send, refused)))
    await kitchens.has_what_was_acknowledged()


@pytest.mark.slow
async def test_a_disk_without_space_even_for_the_log_stops_nobody(kitchens: Kitchens) -> None:
    assert await kitchens.send(new_id())
    limit_files(kitchens.process, 0)
    refused = await kitchens.send_until_refused()
    await kitchens.has_what_was_acknowledged()
    assert not any(await asyncio.gather(*map(kitchens.send, refused)))
    limit_files(kitchens.process, resource.RLIM_INFINITY)
    assert all(await asyncio.gather(*map(kitchens.send, refused)))
    await kitchens.has_what_was_acknowledged()


# What SQLite, PostgreSQL and Redis say themselves


@dataclass(frozen=True)
class Filling:
    """A store, and how to fill the place where it is and to empty it again."""

    store: Store
    fill: Callable[[], Awaitable[object]]
    empty: Callable[[], Awaitable[object]]


@asynccontextmanager
async def a_file(folder: Path) -> AsyncIterator[Filling]:
    store = SqlStore(f"sqlite:///{folder}/parley.db", synchronous="OFF")

    def limit(connection: Connection, pages: int) -> None:
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")

    # It never becomes less than what is there.
    yield Filling(
        store, lambda: store._database.write(limit, 1), lambda: store._database.write(limit, 1_000_000)
    )


@asynccontextmanager
async def a_postgres(folder: Path) -> AsyncIterator[Filling]:
    database = backends.postgres()
    name = database.new()
    full = """
        CREATE FUNCTION disk_full() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE 'could not extend file' USING ERRCODE = 'disk_full'; END $$
    """
    triggers = [
        f"CREATE TRIGGER full_disk BEFORE INSERT ON {table} EXECUTE FUNCTION disk_full()"
        for table in ("messages", "users")
    ]
    drop = "DROP FUNCTION disk_full CASCADE"
    yield Filling(
        SqlStore(database.address(name)),
        lambda: asyncio.to_thread(database.execute, full, *triggers, database=name),
        lambda: asyncio.to_thread(database.execute, drop, database=name),
    )


@asynccontextmanager
async def a_redis_server(folder: Path) -> AsyncIterator[Filling]:
    with redis_server() as database, database.client() as client:

        async def limit(size: int) -> None:
            client.config_set("maxmemory", size)

        yield Filling(RedisStore(database.url), lambda: limit(1), lambda: limit(0))


@asynccontextmanager
async def a_cluster(folder: Path) -> AsyncIterator[Filling]:
    with redis_cluster() as servers, ExitStack() as stack:
        clients = [stack.enter_context(each.client()) for each in servers]

        async def limit(size: int) -> None:
            for client in clients:
                client.config_set("maxmemory", size)

        yield Filling(RedisStore(servers[0].url), lambda: limit(1), lambda: limit(0))


@pytest.mark.parametrize(
    "place",
    [
        a_file,
        pytest.param(a_postgres, marks=pytest.mark.servers),
        pytest.param(a_redis_server, marks=pytest.mark.servers),
        pytest.param(a_cluster, marks=[pytest.mark.servers, pytest.mark.slow]),
    ],
)
async def test_a_full_store_is_unavailable_for_writing_and_can_be_read(
    place: Callable[[Path], AbstractAsyncContextManager[Filling]], tmp_path: Path
) -> None:
    async with place(tmp_path) as filling:
        store = filling.store
        await store.open()
        kitchen = await kitchen_in(store)
        await store.add_room(hall := a_room("hall"), kitchen.ann.id)
        await store.add_session(session := a_session(kitchen.ann, b"hash", at(60)))
        first = await kitchen.says(kitchen.ann, "first")
        batch: list[Change] = [
            one := send(kitchen.room, kitchen.ann, TEXT * 10),
            send(hall, kitchen.ann, TEXT * 10),
            edit(one, kitchen.ann, "one"),
            react(one, kitchen.bob, "👍"),
        ]
        with capture_logs() as logged:
            await filling.fill()
            for error in await refusals(store, batch):
                assert type(error) is StoreUnavailable
                assert error.retry_after == 1
            with pytest.raises(StoreUnavailable) as raised:
                await store.add_user(a_user("dora", display_name=TEXT * 10))
            assert raised.value.retry_after == 1

            await store.ping()
            assert await store.page(kitchen.room.id, limit=10) == [first]
            assert await store.page(hall.id, limit=10) == []
            assert (await store.changes(kitchen.room.id, 0, 10)).messages == [first]
            assert await store.heads([kitchen.room.id, hall.id]) == {kitchen.room.id: 1, hall.id: 0}
            assert await store.sessions([session.id]) == {session.id: (session, kitchen.ann)}
            assert len((await store.rooms_of([kitchen.ann.id]))[kitchen.ann.id]) == 2
            assert await store.user("dora") is None
            await filling.empty()
        assert {each["log_level"] for each in logged} == {"warning"}, "it is no fault of ours"

        applied = all_done(await store.apply(batch))
        assert [(each.message.seq, each.message.revision) for each in applied] == [
            (2, 2),
            (1, 1),
            (2, 3),
            (2, 4),
        ]
        assert all(each.fresh for each in applied)
        assert (await kitchen.now()).revision == 4
        await store.add_user(a_user("dora", display_name=TEXT * 10))
        await store.close()


async def refusals(store: Store, batch: list[Change]) -> list[ParleyError]:
    """What a batch got, none of which may have been applied."""
    try:
        results = await store.apply(batch)
    except ParleyError as error:
        return [error]
    refused = [each for each in results if isinstance(each, ParleyError)]
    assert len(refused) == len(batch)
    return refused
