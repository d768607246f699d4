"""What only a store in Redis has to promise: several nodes, servers that die, names that span slots."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from parley.errors import NameTaken, ParleyError, StoreUnavailable
from parley.ids import new_id
from parley.models import Applied, Role, Room, Send, User
from parley.stores.redis import RedisStore
from tests.contracts.kitchen import a_room, a_session, a_user, all_done, at, edit, kitchen_in, marked, send
from tests.redis_servers import RedisServer, a_redis, a_redis_cluster, asked, redis_cluster, redis_server

RECOVERS_SECONDS = 15


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[RedisStore]:
    store = RedisStore(url)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


@pytest.fixture(params=["redis", "redis-cluster"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return a_redis(tmp_path) if request.param == "redis" else a_redis_cluster(tmp_path)


@pytest.fixture
async def store(url: str) -> AsyncIterator[RedisStore]:
    async with opened(url) as store:
        yield store


@pytest.fixture
async def own() -> AsyncIterator[RedisServer]:
    """A server that the test may break."""
    with redis_server() as server:
        yield server


async def rooms_of_ann(store: RedisStore, count: int) -> tuple[User, list[Room]]:
    ann = a_user("ann")
    await store.add_user(ann)
    rooms = [a_room(f"room{number}") for number in range(count)]
    for room in rooms:
        await store.add_room(room, ann.id)
    return ann, rooms


async def history(store: RedisStore, room: Room) -> list[str]:
    """The ids of all messages, whose numbers must be without holes."""
    messages = await store.page(room.id, limit=1_000_000)
    assert [message.seq for message in messages] == list(range(1, len(messages) + 1))
    assert [message.revision for message in messages] == list(range(1, len(messages) + 1))
    assert await store.heads([room.id]) == {room.id: len(messages)}
    ids = [message.id for message in messages]
    assert len(set(ids)) == len(ids)
    return ids


# Several nodes on one Redis


@pytest.mark.slow
async def test_two_nodes_write_into_the_same_rooms(store: RedisStore, url: str) -> None:
    async with opened(url) as other:
        ann, rooms = await rooms_of_ann(store, 10)
        acknowledged: dict[tuple[str, int], str] = {}
        ends = time.monotonic() + 3

        async def writes(through: RedisStore) -> None:
            while time.monotonic() < ends:
                batch = [send(room, ann, "hi") for room in rooms for _ in range(3)]
                for applied in all_done(await through.apply(batch)):
                    place = (applied.message.room_id, applied.message.seq)
                    assert place not in acknowledged
                    acknowledged[place] = applied.message.id

        await asyncio.gather(writes(store), writes(other), writes(other))
        assert len(acknowledged) > 100
        stored = {
            (room.id, seq): id_ for room in rooms for seq, id_ in enumerate(await history(other, room), 1)
        }
        assert stored == acknowledged


async def test_ten_copies_of_one_message_through_two_nodes_are_one(store: RedisStore, url: str) -> None:
    async with opened(url) as other:
        ann, (room,) = await rooms_of_ann(store, 1)
        message = send(room, ann, "once")
        nodes = [store, other] * 5
        results = [
            all_done(each) for each in await asyncio.gather(*(node.apply([message]) for node in nodes))
        ]
        assert sum(result.fresh for (result,) in results) == 1
        assert {result.message.seq for (result,) in results} == {1}
        assert await history(other, room) == [message.id]


async def test_of_two_nodes_that_want_a_name_at_once_one_gets_it(store: RedisStore, url: str) -> None:
    async with opened(url) as other:
        adding = [node.add_room(a_room("hall")) for node in (store, other) * 5]
        results = await asyncio.gather(*adding, return_exceptions=True)
        assert [type(result) for result in results if result is not None] == [NameTaken] * 9
        assert len(await store.public_rooms(None, 20)) == 1


# Keys


async def test_all_of_a_room_lies_in_one_slot(tmp_path: Path) -> None:
    server_url = a_redis(tmp_path)
    async with opened(server_url) as store:
        kitchen = await kitchen_in(store, kind="private", history_limit=2)
        for text in ("one", "two", "three"):
            await kitchen.says(kitchen.ann, text)
        await marked(store, kitchen.room.id, kitchen.bob.id, 2)
        await store.leave(kitchen.room.id, kitchen.bob.id, at(7))
        await store.add_session(a_session(kitchen.ann, b"hash", at(60)))
        (keys,) = await store._servers.on_every_server("KEYS", "*")
        names = {key.decode() for key in keys}
        of_room = {name for name in names if "room:" in name}
        tag = f"parley:{{room:{kitchen.room.id}}}"
        assert len(of_room) == 9
        assert {name.partition("}")[0] + "}" for name in of_room} == {tag}
        # Nothing else grows with the messages, and nothing is named by accident.
        kinds = {
            re.sub("[0-9a-f]{8}-[-0-9a-f]*|(?<=session:).*|(?<=name:).*", "", name)
            for name in names - of_room
        }
        assert kinds == {
            "parley:kept:epoch",
            "parley:{people}",
            "parley:{user:}",
            "parley:{user:}:created",
            "parley:{user:}:left",
            "parley:{user:}:rooms",
            "parley:{user:}:sessions",
            "parley:user-name:",
            "parley:room-name:",
            "parley:rooms",
            "parley:coming",
            "parley:moved",
            "parley:sessions",
            "parley:session:",
        }


# What a crash leaves


async def test_a_name_that_leads_nowhere_is_free_after_a_minute(store: RedisStore) -> None:
    now = int(time.time())
    for key in ("parley:user-name:ann", "parley:room-name:hall"):
        await store._servers.one("SET", key, f"{new_id()} {now - 50}")
    with pytest.raises(NameTaken):
        await store.add_user(a_user("ann"))
    with pytest.raises(NameTaken):
        await store.add_room(a_room("hall"))
    assert (await store.user("ann"), await store.room("hall")) == (None, None)
    for key in ("parley:user-name:ann", "parley:room-name:hall"):
        await store._servers.one("SET", key, f"{new_id()} {now - 70}")
    ann, hall = a_user("ann"), a_room("hall")
    await store.add_user(ann)
    await store.add_room(hall)
    assert (await store.user("ann"), await store.room("hall")) == (ann, hall)


async def test_an_old_name_of_somebody_who_exists_stays_taken(store: RedisStore) -> None:
    ann = a_user("ann")
    await store.add_user(ann)
    await store._servers.one("SET", "parley:user-name:ann", f"{ann.id} 1")
    with pytest.raises(NameTaken):
        await store.add_user(a_user("ann"))


async def test_places_to_look_that_lead_nowhere_are_passed_over(store: RedisStore) -> None:
    kitchen = await kitchen_in(store)
    rooms_key = f"parley:{{user:{kitchen.cleo.id}}}:rooms"
    # One older than a minute, and one whose joining may be under way.
    gone, coming = new_id(), new_id()
    await store._servers.one("ZADD", rooms_key, 1, gone, int(time.time()), coming)
    await store._servers.one("ZADD", "parley:public-rooms", 0, gone)
    await store.join(kitchen.room.id, kitchen.cleo.id, Role.MEMBER, at(7))
    assert [room.id for room in (await store.rooms_of([kitchen.cleo.id]))[kitchen.cleo.id]] == [
        kitchen.room.id
    ]
    noted = {each.decode() for each in await store._servers.one("ZRANGE", rooms_key, 0, -1)}
    assert noted == {coming, kitchen.room.id}
    assert await store.public_rooms(None, 1) == [await kitchen.now()]


# Servers that die, and come back


class Sender:
    """Writes messages one by one, and each again until it is acknowledged."""

    def __init__(self, store: RedisStore, room: Room, author: User) -> None:
        self.store, self.room, self.author = store, room, author
        self.acknowledged: list[str] = []
        self.refusals: list[ParleyError] = []
        self.last_at = 0.0

    async def write(self, enough: asyncio.Event) -> None:
        while not enough.is_set():
            await self.deliver(send(self.room, self.author, "hi"))

    async def deliver(self, message: Send) -> None:
        while True:
            (result,) = await self.store.apply([message])
            if isinstance(result, Applied):
                self.acknowledged.append(result.message.id)
                self.last_at = time.monotonic()
                return
            self.refusals.append(result)
            await asyncio.sleep(0.05)


@pytest.mark.slow
async def test_nothing_acknowledged_is_lost_when_redis_is_killed(own: RedisServer) -> None:
    async with opened(own.url) as store, opened(own.url) as other:
        ann, rooms = await rooms_of_ann(store, 5)
        senders = [Sender(node, room, ann) for node in (store, other) for room in rooms]
        enough = asyncio.Event()
        writing = [asyncio.create_task(sender.write(enough)) for sender in senders]
        for _ in range(3):
            await asyncio.sleep(0.7)
            own.kill()
            await asyncio.sleep(0.3)
            await asyncio.to_thread(own.start)
            back = time.monotonic()
            while min(sender.last_at for sender in senders) < back:
                assert time.monotonic() < back + RECOVERS_SECONDS
                await asyncio.sleep(0.01)
        enough.set()
        await asyncio.gather(*writing)
        refusals = [refusal for sender in senders for refusal in sender.refusals]
        assert refusals
        assert {type(refusal) for refusal in refusals} == {StoreUnavailable}
        assert {refusal.retry_after for refusal in refusals} == {1}
        for room in rooms:
            stored = await history(store, room)
            acknowledged = [id_ for each in senders if each.room is room for id_ in each.acknowledged]
            # Every message was sent until it was acknowledged: nothing more is there, and nothing twice.
            assert sorted(stored) == sorted(acknowledged)


async def test_every_step_says_that_redis_is_gone(own: RedisServer) -> None:
    async with opened(own.url) as store:
        kitchen = await kitchen_in(store)
        own.kill()
        for step in (
            store.ping(),
            store.heads([kitchen.room.id]),
            store.page(kitchen.room.id, limit=1),
            store.join(kitchen.room.id, kitchen.cleo.id, Role.MEMBER, at(7)),
            store.add_user(a_user("dan")),
        ):
            with pytest.raises(StoreUnavailable) as refusal:
                await step
            assert refusal.value.retry_after == 1


async def test_a_server_that_hangs_is_given_up(own: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("parley.stores.redis.servers.TIMEOUT_SECONDS", 0.3)
    async with opened(own.url) as store:
        kitchen = await kitchen_in(store)
        own.pause()
        message = send(kitchen.room, kitchen.ann, "hi")
        (result,) = await store.apply([message])
        assert isinstance(result, StoreUnavailable)
        own.resume()
        # It took place after all, and its late answer belongs to nobody.
        (again,) = all_done(await store.apply([message]))
        assert again.message.seq == 1
        assert await history(store, kitchen.room) == [message.id]


async def test_a_step_that_is_called_off_leaves_no_answer_behind(store: RedisStore) -> None:
    kitchen = await kitchen_in(store)
    for _ in range(50):
        step = asyncio.create_task(store.apply([send(kitchen.room, kitchen.ann, "hi")]))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        step.cancel()
        assert await store.heads([new_id()]) == {}
        assert await store.user("ann") == kitchen.ann


async def test_a_full_redis_refuses_and_recovers(own: RedisServer) -> None:
    async with opened(own.url) as store:
        kitchen = await kitchen_in(store)
        with own.client() as client:
            client.config_set("maxmemory", "1")
            (result,) = await store.apply([send(kitchen.room, kitchen.ann, "hi")])
            assert isinstance(result, StoreUnavailable)
            assert await store.page(kitchen.room.id, limit=1) == []
            client.config_set("maxmemory", "0")
        assert (await kitchen.says(kitchen.ann, "hi")).seq == 1


async def test_a_replica_refuses(own: RedisServer) -> None:
    async with opened(own.url) as store:
        kitchen = await kitchen_in(store)
        with own.client() as client, redis_server() as primary:
            client.replicaof("127.0.0.1", str(primary.port))
            results = await store.apply([send(kitchen.room, kitchen.ann, "hi")] * 2)
            assert {type(result) for result in results} <= {StoreUnavailable}


async def test_scripts_that_redis_forgot_are_told_again(own: RedisServer) -> None:
    async with opened(own.url) as store:
        ann, rooms = await rooms_of_ann(store, 3)
        for seq in (1, 2):
            with own.client() as client:
                client.script_flush()
            results = all_done(await store.apply([send(room, ann, "hi") for room in rooms]))
            assert [result.message.seq for result in results] == [seq] * 3


async def test_a_message_that_cannot_be_read_fails_alone(store: RedisStore) -> None:
    kitchen = await kitchen_in(store)
    broken, fine = [await kitchen.says(kitchen.ann, text) for text in ("one", "two")]
    key = f"parley:{{room:{kitchen.room.id}}}:messages"
    await store._servers.one("HSET", key, 1, f"1 {broken.id} [broken")
    results = await store.apply([edit(broken, kitchen.ann, "eins"), edit(fine, kitchen.ann, "zwei")])
    assert isinstance(results[0], ParleyError)
    assert isinstance(results[1], Applied)


# A cluster


@pytest.fixture
def cluster() -> Iterator[list[RedisServer]]:
    """A cluster that the test may break."""
    with redis_cluster() as servers:
        yield servers


@pytest.mark.slow
async def test_where_a_server_of_the_cluster_died_the_other_rooms_go_on(cluster: list[RedisServer]) -> None:
    for server in cluster:
        with server.client() as client:
            client.config_set("cluster-require-full-coverage", "no")
    async with opened(cluster[0].url) as store:
        ann, rooms = await rooms_of_ann(store, 30)
        cluster[1].kill()
        sends = [send(room, ann, "hi") for room in rooms]
        results = await store.apply(sends)
        stored = [result for result in results if isinstance(result, Applied)]
        assert 0 < len(stored) < len(rooms)
        assert {type(result) for result in results} == {Applied, StoreUnavailable}
        await asyncio.to_thread(cluster[1].start)
        back = time.monotonic()
        while not all(isinstance(result, Applied) for result in results):
            assert time.monotonic() < back + RECOVERS_SECONDS
            await asyncio.sleep(0.1)
            results = await store.apply(sends)
        for room, message in zip(rooms, sends, strict=True):
            assert await history(store, room) == [message.id]


@pytest.mark.slow
async def test_a_room_is_followed_to_another_server(cluster: list[RedisServer]) -> None:
    async with opened(cluster[0].url) as store:
        kitchen = await kitchen_in(store)
        first = await kitchen.says(kitchen.ann, "before")
        tag = f"parley:{{room:{kitchen.room.id}}}"
        with cluster[0].client() as client:
            slot = asked(client, "CLUSTER", "KEYSLOT", tag)
            numbers = [asked(server.client(), "CLUSTER", "MYID") for server in cluster]
        here = next(each for each in cluster if int(asked(each.client(), "CLUSTER", "COUNTKEYSINSLOT", slot)))
        there = next(each for each in cluster if each is not here)
        with here.client() as source, there.client() as target:
            ids = {id(server): number for server, number in zip(cluster, numbers, strict=True)}
            asked(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", ids[id(here)])
            asked(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", ids[id(there)])
            keys = asked(source, "CLUSTER", "GETKEYSINSLOT", slot, 100)
            # All at once: a room of which half has moved can do nothing for a moment.
            asked(source, "MIGRATE", "127.0.0.1", there.port, "", 0, 5000, "KEYS", *keys)
            second = await kitchen.says(kitchen.ann, "on the way")
            for client in (target, source):
                asked(client, "CLUSTER", "SETSLOT", slot, "NODE", ids[id(there)])
            third = await kitchen.says(kitchen.ann, "after")
        assert await history(store, kitchen.room) == [first.id, second.id, third.id]
        # And it is asked for there at once from now on.
        assert store._servers._cluster is not None
        node = store._servers._cluster.get_node_from_key(tag)
        assert node is not None
        assert node.port == there.port
