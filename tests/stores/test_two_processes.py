"""Two processes write into the same rooms: no number is left out or given twice, and nothing acknowledged is
lost."""

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from parley.ids import new_id
from parley.stores.base import Store
from tests import backends
from tests.contracts.kitchen import a_room, a_user
from tests.faults.writer import store_at
from tests.redis_servers import a_redis, a_redis_cluster

pytestmark = [pytest.mark.servers, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
ROOMS = 10
SECONDS = 10
PATIENCE_SECONDS = 60
"""A start, an answer or an end that takes longer is none."""
ROUNDS = 30
COPIES = 10

STORES: dict[str, Callable[[Path], str]] = {
    "postgresql": lambda folder: backends.postgres().database(folder),
    "redis": a_redis,
    "redis-cluster": a_redis_cluster,
}


@pytest.fixture(params=STORES)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A store that several nodes may share."""
    return STORES[request.param](tmp_path)


@pytest.fixture
async def store(url: str) -> AsyncIterator[Store]:
    """That store, to look at what the others have written."""
    store = store_at(url)
    await store.open()
    yield store
    await store.close()


class Writer:
    """A process that does what it is told; see `tests/faults/writer.py`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def ask(self, order: str, **fields: Any) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"order": order, **fields}).encode() + b"\n")
        return await self.answer()

    async def answer(self) -> Any:
        assert self._process.stdout is not None
        async with asyncio.timeout(SECONDS + PATIENCE_SECONDS):
            line = await self._process.stdout.readline()
        assert line, "the writer has ended; it says why on stderr"
        return json.loads(line)


@asynccontextmanager
async def a_writer(url: str) -> AsyncIterator[Writer]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.faults.writer", url),
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        writer = Writer(process)
        assert await writer.answer() == "ready"
        yield writer
        assert process.stdin is not None
        process.stdin.close()
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_two_processes_leave_no_hole_and_lose_nothing_in_the_rooms_they_share(
    url: str, store: Store, tmp_path: Path
) -> None:
    before = deadlocks(url, connections=1)
    await store.add_user(ann := a_user("ann"))
    rooms = [a_room(f"room-{number}") for number in range(ROOMS)]
    for room in rooms:
        await store.add_room(room, ann.id)
    records = [tmp_path / "one", tmp_path / "two"]
    async with a_writer(url) as one, a_writer(url) as two:
        order = {"rooms": [room.id for room in rooms], "user": ann.id, "seconds": SECONDS}
        told = await asyncio.gather(
            *(
                writer.ask("write", record=str(record), **order)
                for writer, record in zip((one, two), records, strict=True)
            )
        )
    for each in told:
        assert each["sent"] > 100
        assert each["logged"] == [], "nothing was tried again"

    lines = [json.loads(line) for record in records for line in record.read_text().splitlines()]
    for room in rooms:
        here = [line for line in lines if line[1] == room.id]
        fresh = [line for line in here if line[-1]]
        now = await store.room(room.id)
        assert now is not None
        revisions = sorted(revision for *_, revision, _ in fresh)
        assert revisions == list(range(1, now.revision + 1)), "each was given once, and to somebody"
        stored = await store.page(room.id, limit=1_000_000)
        assert [each.seq for each in stored] == list(range(1, now.last_seq + 1))
        places = {each.id: each.seq for each in stored}
        assert len(places) == len(stored)
        assert {id_: seq for what, _, id_, seq, _, is_fresh in here if what == "send" and is_fresh} == places
        assert all(places[id_] == seq for _, _, id_, seq, *_ in here)
        last: dict[str, int] = {}
        for _, _, id_, _, revision, _ in here:
            last[id_] = max(last.get(id_, 0), revision)
        assert {each.id: each.revision for each in stored} == last
    await store.close()
    assert deadlocks(url) == before


async def test_ten_copies_of_one_message_through_two_processes_are_stored_once(
    url: str, store: Store
) -> None:
    await store.add_user(ann := a_user("ann"))
    await store.add_room(room := a_room("kitchen"), ann.id)
    async with a_writer(url) as one, a_writer(url) as two:
        for turn in range(1, ROUNDS + 1):
            order = {"room": room.id, "user": ann.id, "id": new_id(), "count": COPIES // 2}
            told = await asyncio.gather(one.ask("copies", **order), two.ask("copies", **order))
            answers = [answer for answers in told for answer in answers]
            assert len(answers) == COPIES
            assert {(seq, revision) for seq, revision, _ in answers} == {(turn, turn)}
            assert [fresh for *_, fresh in answers].count(True) == 1
    stored = await store.page(room.id, limit=1000)
    assert [each.seq for each in stored] == list(range(1, ROUNDS + 1))
    now = await store.room(room.id)
    assert now is not None
    assert (now.last_seq, now.revision) == (ROUNDS, ROUNDS)


def deadlocks(url: str, connections: int = 0) -> object:
    """How many PostgreSQL has met in that database.

    A connection tells at its end what it has counted: no more than so many of ours may be left.
    """
    if not url.startswith("postgresql"):
        return None
    server = backends.postgres()
    here = "datname = current_database()"
    ours = f"SELECT 1 FROM pg_stat_activity WHERE {here} AND application_name = 'parley'"
    deadline = time.monotonic() + PATIENCE_SECONDS
    while len(server.execute(ours, database=server.shared)) > connections:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return server.execute(f"SELECT deadlocks FROM pg_stat_database WHERE {here}", database=server.shared)
