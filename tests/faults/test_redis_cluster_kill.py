"""A server of a Redis Cluster is killed with -9 and started again, under load: its rooms wait for it, the
others go on, and nothing acknowledged is lost or doubled."""

import asyncio
import time
from collections.abc import Callable

import pytest
from redis.crc import key_slot
from structlog.testing import capture_logs

from parley.errors import StoreUnavailable
from parley.models import Room, Send, User
from parley.stores.redis import RedisStore
from parley.stores.redis.keys import of_room
from tests.contracts.kitchen import a_room, a_user, all_done, send
from tests.redis_servers import SLOTS, redis_cluster
from tests.servers import until

pytestmark = [pytest.mark.servers, pytest.mark.slow]

ROUNDS = 2
NODES = 3
ROOMS_OF_EACH = 2
BACK_SECONDS = 15


class Talk:
    """Writes into one room, a few messages at a time, each until it is acknowledged."""

    def __init__(self, store: RedisStore, room: Room, author: User) -> None:
        self.room = room
        self.acknowledged: dict[str, int] = {}
        self.refusals = 0
        self._store = store
        self._author = author

    async def go_on(self, ended: asyncio.Event) -> None:
        while not ended.is_set():
            waiting = [send(self.room, self._author, "x" * 100) for _ in range(5)]
            while waiting:
                waiting = await self._still_waiting(waiting)

    async def _still_waiting(self, batch: list[Send]) -> list[Send]:
        results = await self._store.apply(batch)
        refused = [each for each in results if isinstance(each, StoreUnavailable)]
        for each in refused:
            assert each.retry_after == 1
        for applied in all_done([each for each in results if not isinstance(each, StoreUnavailable)]):
            seq = applied.message.seq
            assert self.acknowledged.setdefault(applied.message.id, seq) == seq
        if refused:
            self.refusals += 1
            await asyncio.sleep(0.05)
        return [each for each, result in zip(batch, results, strict=True) if result in refused]


async def test_nothing_acknowledged_is_lost_or_doubled_when_a_server_of_a_cluster_is_killed() -> None:
    with redis_cluster() as servers:
        doomed = servers[0]
        node, other = RedisStore(doomed.url), RedisStore(servers[1].url)
        await node.open()
        await other.open()
        await node.add_user(ann := a_user("ann"))
        rooms = _rooms_on_every_server()
        for room in rooms:
            await node.add_room(room, ann.id)
        talks = [Talk(store, room, ann) for room in rooms for store in (node, other)]
        hurt = [each for each in talks if _server_of(each.room) == 0]
        spared = [each for each in talks if _server_of(each.room) != 0]
        ended = asyncio.Event()
        with capture_logs():
            async with asyncio.TaskGroup() as work:
                for each in talks:
                    work.create_task(each.go_on(ended))
                for _ in range(ROUNDS):
                    await _everybody(talks, lambda each: len(each.acknowledged), 50, 30)
                    await asyncio.to_thread(doomed.kill)
                    await _everybody(hurt, lambda each: each.refusals, 1, 10)
                    # The cluster has not given up the others yet.
                    await _everybody(spared, lambda each: len(each.acknowledged), 10, 4)
                    await asyncio.to_thread(doomed.start)
                    back = time.monotonic()
                    await _everybody(talks, lambda each: len(each.acknowledged), 10, BACK_SECONDS)
                    assert time.monotonic() - back < BACK_SECONDS
                ended.set()
        for room in rooms:
            stored = await other.page(room.id, limit=1_000_000)
            assert [each.seq for each in stored] == list(range(1, len(stored) + 1))
            assert [each.revision for each in stored] == list(range(1, len(stored) + 1))
            acknowledged = {
                id_: seq for each in talks if each.room is room for id_, seq in each.acknowledged.items()
            }
            assert {each.id: each.seq for each in stored} == acknowledged
            now = await node.room(room.id)
            assert now is not None
            assert now.revision == now.last_seq == len(stored)
        await node.close()
        await other.close()


def _rooms_on_every_server() -> list[Room]:
    rooms: dict[int, list[Room]] = {number: [] for number in range(NODES)}
    while any(len(each) < ROOMS_OF_EACH for each in rooms.values()):
        room = a_room(f"room-{sum(map(len, rooms.values()))}")
        rooms[_server_of(room)].append(room)
    return [room for each in rooms.values() for room in each]


def _server_of(room: Room) -> int:
    """Which of the cluster's servers has the room."""
    (key,) = of_room(room.id, "")
    bounds = [SLOTS * number // NODES for number in range(1, NODES + 1)]
    slot = key_slot(key.encode())
    return next(number for number, bound in enumerate(bounds) if slot < bound)


async def _everybody(talks: list[Talk], count: Callable[[Talk], int], more: int, seconds: float) -> None:
    """Wait until every talk has got so many more of something."""
    before = [count(each) for each in talks]
    await until(
        lambda: all(count(each) >= had + more for each, had in zip(talks, before, strict=True)), seconds
    )
