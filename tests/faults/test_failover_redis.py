"""A Redis server dies for good and its replica takes over: chat goes on by itself, and of what was
acknowledged as much is there as the replica had heard."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack

import pytest
from structlog.testing import capture_logs

from parley.errors import StoreUnavailable
from parley.models import Message, Room, User
from parley.stores.base import Store
from parley.stores.redis import RedisStore
from tests.contracts.kitchen import a_room, a_user, all_done, done, kitchen_in, outcome, send
from tests.faults.talk import BACK_SECONDS, Talk, everybody, said, stored_once
from tests.redis_servers import PRIMARIES, RedisServer, asked, redis_cluster, redis_server, server_of
from tests.servers import Forwarder

pytestmark = [pytest.mark.servers, pytest.mark.slow]

NODE_TIMEOUT_MS = 1000

Cluster = tuple[RedisServer, RedisServer, list[RedisServer]]
"""The first primary, its replica, and the other primaries."""


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with redis_cluster(replicas=1, node_timeout_ms=NODE_TIMEOUT_MS) as servers:
        yield servers[0], servers[PRIMARIES], servers[1:PRIMARIES]
        servers[0].kill()  # it may hang


@pytest.fixture
def two() -> Iterator[tuple[RedisServer, RedisServer]]:
    """A primary that writes nothing without its replica, and the replica."""
    with redis_server("--min-replicas-to-write", "1") as primary, redis_server() as replica:
        follow(replica, primary)
        yield primary, replica


def rooms_on_every_server() -> list[Room]:
    rooms: dict[int, Room] = {}
    while len(rooms) < PRIMARIES:
        room = a_room(f"room-{len(rooms)}")
        rooms.setdefault(server_of(room), room)
    return [rooms[number] for number in range(PRIMARIES)]


def has_taken_over(replica: RedisServer) -> bool:
    with replica.client() as client:
        return bool(client.info("replication")["role"] == "master")


async def takes_over(replica: RedisServer) -> None:
    deadline = time.monotonic() + 20
    while not await asyncio.to_thread(has_taken_over, replica):
        assert time.monotonic() < deadline, "the replica does not take over"
        await asyncio.sleep(0.05)


@pytest.fixture
async def stores() -> AsyncIterator[AsyncExitStack]:
    """Closes what was opened, before the servers end: name it after them."""
    async with AsyncExitStack() as stack:
        yield stack


async def opened(stack: AsyncExitStack, *urls: str) -> list[RedisStore]:
    nodes = [RedisStore(url) for url in urls]
    for node in nodes:
        await node.open()
        stack.push_async_callback(node.close)
    return nodes


@pytest.mark.parametrize("end", [RedisServer.kill, RedisServer.pause])
async def test_a_replica_of_a_redis_cluster_takes_over_with_all_that_it_had_heard(
    end: Callable[[RedisServer], None], cluster: Cluster, stores: AsyncExitStack
) -> None:
    # One that hangs, as one behind a broken cable, refuses no connection.
    doomed, replica, others = cluster
    nodes = await opened(stores, doomed.url, others[0].url)
    await nodes[0].add_user(ann := a_user("ann"))
    rooms = rooms_on_every_server()
    for room in rooms:
        await nodes[0].add_room(room, ann.id)
    talks = [Talk(node, room, ann) for node in nodes for room in rooms]
    hurt = [each for each in talks if each.room is rooms[0]]
    with capture_logs() as logged:
        ended = asyncio.Event()
        async with asyncio.TaskGroup() as work:
            for each in talks:
                work.create_task(each.go_on(ended))
            await everybody(talks, said, 50, 30)
            ended.set()
        # Replication lags behind the answers; here it is given the time to catch up.
        await asyncio.to_thread(catches_up, replica, doomed)
        ended = asyncio.Event()
        await asyncio.to_thread(end, doomed)
        killed = time.monotonic()
        async with asyncio.TaskGroup() as work:
            for each in talks:
                work.create_task(each.go_on(ended))
            await everybody(hurt, lambda each: each.refusals, 1, 10)
            await takes_over(replica)
            await everybody(talks, said, 50, BACK_SECONDS)
            print(f"chat went on {time.monotonic() - killed:.1f} s later")
            ended.set()
    assert {each["log_level"] for each in logged} == {"warning"}, "it is no fault of ours"
    for room in rooms:
        await stored_once(nodes[1], room, talks)


async def test_a_store_that_was_led_to_a_redis_replica_for_a_moment_does_not_stay_there(
    two: tuple[RedisServer, RedisServer], stores: AsyncExitStack
) -> None:
    primary, replica = two
    async with Forwarder(primary.port) as address:
        (node,) = await opened(stores, f"redis://127.0.0.1:{address.port}/0")
        kitchen = await kitchen_in(node)
        with capture_logs():
            address.switch(replica.port)
            for _ in range(3):
                result = await outcome(node, send(kitchen.room, kitchen.ann, "hi"))
                assert isinstance(result, StoreUnavailable)
            address.switch(primary.port, cut=False)
            deadline = time.monotonic() + BACK_SECONDS
            while isinstance(await outcome(node, send(kitchen.room, kitchen.ann, "hi")), StoreUnavailable):
                assert time.monotonic() < deadline
                await asyncio.sleep(0.05)
        assert len(await node.page(kitchen.room.id, limit=10)) == 1


def catches_up(replica: RedisServer, primary: RedisServer) -> None:
    """Wait until the replica has all that the primary has by now."""
    with replica.client() as client, primary.client() as other:
        end = other.info("replication")["master_repl_offset"]
        deadline = time.monotonic() + 20
        while client.info("replication")["slave_repl_offset"] < end:
            assert time.monotonic() < deadline, "the replica does not catch up"
            time.sleep(0.01)


def forbid_replication(primary: RedisServer) -> None:
    """End the link to its replicas, which cannot make a new one."""
    with primary.client() as client:
        asked(client, "ACL", "SETUSER", "default", "-psync", "-sync")
        asked(client, "CLIENT", "KILL", "TYPE", "replica")
        assert client.info("replication")["connected_slaves"] == 0


async def says(store: Store, room: Room, author: User, text: str) -> Message:
    return await done(store, send(room, author, text))


async def test_what_a_redis_replica_had_not_heard_is_lost_and_who_knows_of_it_is_told_to_begin_anew(
    cluster: Cluster, stores: AsyncExitStack
) -> None:
    doomed, replica, others = cluster
    nodes = await opened(stores, doomed.url, others[0].url)
    await nodes[0].add_user(ann := a_user("ann"))
    room = rooms_on_every_server()[0]
    await nodes[0].add_room(room, ann.id)
    heard = await says(nodes[0], room, ann, "heard")
    await asyncio.to_thread(catches_up, replica, doomed)
    await asyncio.to_thread(forbid_replication, doomed)
    lost = [send(room, ann, f"lost {number}") for number in range(3)]
    known = [each.message for each in all_done(await nodes[0].apply(lost))]
    assert [each.revision for each in known] == [2, 3, 4]
    with capture_logs():
        await asyncio.to_thread(doomed.kill)
        await takes_over(replica)
        for node in nodes:
            deadline = time.monotonic() + BACK_SECONDS
            while True:
                try:
                    stored = await node.page(room.id, limit=10)
                    break
                except StoreUnavailable:
                    assert time.monotonic() < deadline
                    await asyncio.sleep(0.05)
            assert stored == [heard]
            # The client that was told of revision 4 is told that there is no such thing.
            changes = await node.changes(room.id, since=known[-1].revision, limit=200)
            assert changes.reset
            assert (changes.revision, changes.messages) == (1, [heard])
    # Who still has the words may send them again, under the same ids: they are messages like any other.
    again = [each.message for each in all_done(await nodes[1].apply(lost))]
    assert [(each.seq, each.revision) for each in again] == [(2, 2), (3, 3), (4, 4)]


async def test_with_min_replicas_to_write_nothing_is_acknowledged_that_only_one_redis_has(
    two: tuple[RedisServer, RedisServer], stores: AsyncExitStack
) -> None:
    primary, replica = two
    (node,) = await opened(stores, primary.url)
    await node.add_user(ann := a_user("ann"))
    room = a_room("kitchen")
    await node.add_room(room, ann.id)
    first = await says(node, room, ann, "first")
    with capture_logs() as logged:
        await asyncio.to_thread(forbid_replication, primary)
        refused = send(room, ann, "second")
        error = await outcome(node, refused)
        assert isinstance(error, StoreUnavailable)
        assert error.retry_after == 1
        assert await node.page(room.id, limit=10) == [first]
    assert {each["log_level"] for each in logged} == {"warning"}, "it is no fault of ours"
    with primary.client() as client:
        asked(client, "ACL", "SETUSER", "default", "+psync", "+sync")
    await asyncio.to_thread(follow, replica, primary)
    assert (await done(node, refused)).seq == 2


def follow(replica: RedisServer, primary: RedisServer) -> None:
    with replica.client() as client, primary.client() as other:
        client.replicaof("127.0.0.1", str(primary.port))
        deadline = time.monotonic() + 20
        while other.info("replication").get("min_slaves_good_slaves") != 1:
            assert time.monotonic() < deadline, "the replica does not follow"
            time.sleep(0.05)
