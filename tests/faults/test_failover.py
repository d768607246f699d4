"""The database's server dies for good and its replica takes over: chat goes on by itself, and of what was
acknowledged as much is there as the database had promised."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack

import pytest
from redis.crc import key_slot
from structlog.testing import capture_logs

from parley.errors import StoreUnavailable
from parley.models import Message, Room, Send, User
from parley.stores.base import Store
from parley.stores.redis import RedisStore
from parley.stores.redis.keys import of_room
from parley.stores.sql import SqlStore
from tests import backends
from tests.backends import OwnPostgres, Standby
from tests.contracts.kitchen import a_room, a_user, all_done, done, kitchen_in, outcome, send
from tests.redis_servers import PRIMARIES, SLOTS, RedisServer, asked, redis_cluster, redis_server
from tests.servers import Forwarder, until

pytestmark = [pytest.mark.servers, pytest.mark.slow]

BACK_SECONDS = 15
"""How soon everything works again once there is somebody who can take it."""

NODE_TIMEOUT_MS = 1000


class Talk:
    """Writes into one room, a few messages at a time, each until it is acknowledged."""

    def __init__(self, store: Store, room: Room, author: User) -> None:
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
        try:
            results = await self._store.apply(batch)
        except StoreUnavailable as error:
            results = [error] * len(batch)
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


async def everybody(talks: list[Talk], count: Callable[[Talk], int], more: int, seconds: float) -> None:
    """Wait until every talk has got so many more of something."""
    before = [count(each) for each in talks]
    await until(
        lambda: all(count(each) >= had + more for each, had in zip(talks, before, strict=True)), seconds
    )


def said(talk: Talk) -> int:
    return len(talk.acknowledged)


async def stored_once(store: Store, room: Room, talks: list[Talk]) -> None:
    """All that was acknowledged is there, in the place that was told, without holes; and nothing else."""
    stored = await store.page(room.id, limit=1_000_000)
    assert [each.seq for each in stored] == list(range(1, len(stored) + 1))
    assert [each.revision for each in stored] == list(range(1, len(stored) + 1))
    acknowledged = {id_: seq for each in talks if each.room is room for id_, seq in each.acknowledged.items()}
    assert {each.id: each.seq for each in stored} == acknowledged
    now = await store.room(room.id)
    assert now is not None
    assert now.revision == now.last_seq == len(stored)


# PostgreSQL


@pytest.fixture
def pair() -> Iterator[tuple[OwnPostgres, Standby]]:
    """A primary, and a standby without which it commits nothing."""
    primary = backends.own_postgres()
    try:
        standby = Standby(primary)
        try:
            standby.start()
            standby.be_waited_for()
            yield primary, standby
        finally:
            standby.stop()
    finally:
        primary.stop()


async def test_a_standby_that_commits_waited_for_takes_over_with_all_of_them(
    pair: tuple[OwnPostgres, Standby],
) -> None:
    primary, standby = pair
    async with AsyncExitStack() as stack:
        address = await stack.enter_async_context(Forwarder(primary.port))
        url = primary.url.set(port=address.port, database=primary.new())
        nodes = [SqlStore(url.render_as_string(hide_password=False)) for _ in range(2)]
        for node in nodes:
            await node.open()
            stack.push_async_callback(node.close)
        await nodes[0].add_user(ann := a_user("ann"))
        rooms = [a_room("kitchen"), a_room("hall")]
        for room in rooms:
            await nodes[0].add_room(room, ann.id)
        talks = [Talk(node, room, ann) for node in nodes for room in rooms]
        epoch, ended = nodes[0].epoch, asyncio.Event()
        with capture_logs() as logged:
            async with asyncio.TaskGroup() as work:
                for each in talks:
                    work.create_task(each.go_on(ended))
                await everybody(talks, said, 100, 30)
                await asyncio.to_thread(primary.kill)
                await everybody(talks, lambda each: each.refusals, 2, 15)
                # A proxy that is too early: for a moment everybody meets a server that only reads.
                address.switch(standby.port)
                await everybody(talks, lambda each: each.refusals, 5, 15)
                before = sum(map(said, talks))
                with pytest.raises(StoreUnavailable) as refusal:
                    await nodes[0].add_user(a_user("bob"))
                assert refusal.value.retry_after == 1
                assert sum(map(said, talks)) == before
                await asyncio.to_thread(standby.promote)
                back = time.monotonic()
                await everybody(talks, said, 100, BACK_SECONDS)
                assert time.monotonic() - back < BACK_SECONDS
                ended.set()
        assert {each["log_level"] for each in logged} == {"warning"}, "it is no fault of ours"
        for room in rooms:
            await stored_once(nodes[1], room, talks)
        await nodes[1].add_user(a_user("bob"))
        assert await nodes[0].keep("epoch", "another") == epoch


async def test_what_the_standby_has_not_is_not_acknowledged_even_when_it_is_sent_again(
    pair: tuple[OwnPostgres, Standby], monkeypatch: pytest.MonkeyPatch
) -> None:
    primary, standby = pair
    monkeypatch.setattr("parley.stores.sql.server.COMMAND_SECONDS", 1.0)
    node = SqlStore(primary.address(primary.new()))
    await node.open()
    await node.add_user(ann := a_user("ann"))
    await node.add_room(room := a_room("kitchen"), ann.id)
    message = send(room, ann, "hi")
    ((receiver,),) = await asyncio.to_thread(standby.execute, "SELECT pid FROM pg_stat_wal_receiver")
    os.kill(receiver, signal.SIGSTOP)
    try:
        with capture_logs():
            # The first transaction waits on where it is, for the room or for the standby, and so do the next.
            for _ in range(3):
                with pytest.raises(StoreUnavailable):
                    await node.apply([message])
    finally:
        os.kill(receiver, signal.SIGCONT)
    (applied,) = all_done(await node.apply([message]))
    assert await node.page(room.id, limit=10) == [applied.message]
    assert applied.message.seq == 1
    await node.close()


async def test_a_store_that_was_led_to_a_standby_for_a_moment_does_not_stay_there(
    pair: tuple[OwnPostgres, Standby],
) -> None:
    primary, standby = pair
    async with AsyncExitStack() as stack:
        address = await stack.enter_async_context(Forwarder(primary.port))
        url = primary.url.set(port=address.port, database=primary.new())
        node = SqlStore(url.render_as_string(hide_password=False))
        await node.open()
        stack.push_async_callback(node.close)
        kitchen = await kitchen_in(node)
        with capture_logs():
            address.switch(standby.port)
            with pytest.raises(StoreUnavailable):
                await node.apply([send(kitchen.room, kitchen.ann, "hi")])
            with pytest.raises(StoreUnavailable):
                await node.add_user(a_user("dora"))
            # As a name does that is looked up again, or a proxy that lets old connections be.
            address.switch(primary.port, cut=False)
            deadline = time.monotonic() + BACK_SECONDS
            while isinstance(await attempt(node, send(kitchen.room, kitchen.ann, "hi")), StoreUnavailable):
                assert time.monotonic() < deadline
                await asyncio.sleep(0.05)
            await node.add_user(a_user("dora"))


async def attempt(store: Store, change: Send) -> object:
    try:
        return await outcome(store, change)
    except StoreUnavailable as error:
        return error


# Redis


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


def server_of(room: Room) -> int:
    """Which of the cluster's primaries has the room."""
    (key,) = of_room(room.id, "")
    bounds = [SLOTS * number // PRIMARIES for number in range(1, PRIMARIES + 1)]
    slot = key_slot(key.encode())
    return next(number for number, bound in enumerate(bounds) if slot < bound)


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
