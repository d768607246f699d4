"""A server of a Redis Cluster is killed with -9 and started again, under load: its rooms wait for it, the
others go on, and nothing acknowledged is lost or doubled."""

import asyncio
import time

import pytest
from structlog.testing import capture_logs

from parley.models import Room
from parley.stores.redis import RedisStore
from tests.contracts.kitchen import a_room, a_user
from tests.faults.talk import BACK_SECONDS, Talk, everybody, said, stored_once
from tests.redis_servers import PRIMARIES, redis_cluster, server_of

pytestmark = [pytest.mark.servers, pytest.mark.slow]

ROUNDS = 2
ROOMS_OF_EACH = 2


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
        hurt = [each for each in talks if server_of(each.room) == 0]
        spared = [each for each in talks if server_of(each.room) != 0]
        ended = asyncio.Event()
        with capture_logs():
            async with asyncio.TaskGroup() as work:
                for each in talks:
                    work.create_task(each.go_on(ended))
                for _ in range(ROUNDS):
                    await everybody(talks, said, 50, 30)
                    await asyncio.to_thread(doomed.kill)
                    await everybody(hurt, lambda each: each.refusals, 1, 10)
                    # The cluster has not given up the others yet.
                    await everybody(spared, said, 10, 4)
                    await asyncio.to_thread(doomed.start)
                    back = time.monotonic()
                    await everybody(talks, said, 10, BACK_SECONDS)
                    assert time.monotonic() - back < BACK_SECONDS
                ended.set()
        for room in rooms:
            await stored_once(other, room, talks)
        await node.close()
        await other.close()


def _rooms_on_every_server() -> list[Room]:
    rooms: dict[int, list[Room]] = {number: [] for number in range(PRIMARIES)}
    while any(len(each) < ROOMS_OF_EACH for each in rooms.values()):
        room = a_room(f"room-{sum(map(len, rooms.values()))}")
        rooms[server_of(room)].append(room)
    return [room for each in rooms.values() for room in each]
