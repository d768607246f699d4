"""PostgreSQL is killed with -9 under load: nothing acknowledged is lost or doubled, and chat goes on."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack

import pytest
from structlog.testing import capture_logs

from parley.errors import ParleyError, StoreUnavailable
from parley.models import Applied, Send
from parley.stores.sql import SqlStore
from tests import backends
from tests.backends import OwnPostgres
from tests.contracts.kitchen import all_done, kitchen_in, send

pytestmark = [pytest.mark.servers, pytest.mark.slow]


@pytest.fixture
def doomed() -> Iterator[OwnPostgres]:
    """A server of its own for a test that breaks it."""
    server = backends.own_postgres()
    yield server
    server.stop()


async def test_nothing_acknowledged_is_lost_or_doubled_when_the_server_is_killed(doomed: OwnPostgres) -> None:
    url = doomed.address(doomed.new())
    async with AsyncExitStack() as stack:
        nodes = []
        for _ in range(2):
            nodes.append(SqlStore(url))
            await nodes[-1].open()
            stack.push_async_callback(nodes[-1].close)
        kitchen = await kitchen_in(nodes[0])
        acknowledged: dict[str, int] = {}
        refusals: list[ParleyError] = []
        written: set[str] = set()
        ended = asyncio.Event()

        async def talk(node: SqlStore) -> None:
            while not ended.is_set():
                batch = [send(kitchen.room, kitchen.ann, "x" * 100) for _ in range(20)]
                written.update(each.id for each in batch)
                for applied in await until_taken(node, batch):
                    assert acknowledged.setdefault(applied.message.id, applied.message.seq)

        async def until_taken(node: SqlStore, batch: list[Send]) -> list[Applied]:
            while True:
                began = time.monotonic()
                try:
                    return all_done(await node.apply(batch))
                except StoreUnavailable as error:
                    assert time.monotonic() - began < 11
                    refusals.append(error)
                    await asyncio.sleep(0.05)

        with capture_logs():
            async with asyncio.TaskGroup() as work:
                for node in nodes * 2:
                    work.create_task(talk(node))
                for _ in range(3):
                    before = len(acknowledged)
                    while len(acknowledged) < before + 500:
                        await asyncio.sleep(0.01)
                    await asyncio.to_thread(doomed.kill)
                    # A moment in which all who ask are told so.
                    with pytest.raises(StoreUnavailable):
                        while True:
                            await nodes[0].user("ann")
                    await asyncio.to_thread(doomed.start)
                    back, before = time.monotonic(), len(acknowledged)
                    while len(acknowledged) == before:
                        await asyncio.sleep(0.01)
                        assert time.monotonic() - back < 15
                    assert await nodes[0].user("ann") == kitchen.ann
                ended.set()
        assert refusals
        assert {each.retry_after for each in refusals} == {1}
        messages = await nodes[0].page(kitchen.room.id, limit=1_000_000)
        assert [each.seq for each in messages] == list(range(1, len(messages) + 1))
        assert {each.id: each.seq for each in messages} == acknowledged
        assert written == set(acknowledged)
        assert (await kitchen.now()).revision == len(messages)
