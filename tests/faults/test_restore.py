"""A backup is put back: who forgets the epoch with it, as the guarantees say, has every client begin anew."""

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from redis import Redis
from redis.cluster import RedisCluster

from parley.client import Chat
from parley.stores.base import Store
from parley.stores.redis import RedisStore
from parley.stores.sql import SqlStore
from tests import backends
from tests.contracts.kitchen import a_room, a_user, done, send
from tests.redis_servers import a_redis, a_redis_cluster
from tests.servers import server, until

DOCUMENT = Path(__file__).parent.parent.parent / "docs" / "guarantees.md"
IN_SQL = "DELETE FROM meta WHERE name = 'epoch'"
IN_REDIS = "DEL parley:kept:epoch"


def in_a_file(path: Path) -> None:
    with closing(sqlite3.connect(path)) as file, file:
        assert file.execute(IN_SQL).rowcount == 1


def sqlite(folder: Path) -> tuple[Store, Callable[[], object]]:
    return SqlStore(f"sqlite:///{folder}/parley.db"), lambda: in_a_file(folder / "parley.db")


def postgresql(folder: Path) -> tuple[Store, Callable[[], object]]:
    database = backends.postgres()
    url = database.database(folder)
    return SqlStore(url), lambda: database.execute(IN_SQL, database=database.shared)


def redis(folder: Path) -> tuple[Store, Callable[[], object]]:
    def forget() -> None:
        with Redis.from_url(a_redis(folder)) as client:
            assert client.delete(IN_REDIS.split()[1]) == 1

    return RedisStore(a_redis(folder)), forget


def redis_cluster(folder: Path) -> tuple[Store, Callable[[], object]]:
    def forget() -> None:
        with closing(RedisCluster.from_url(a_redis_cluster(folder))) as client:
            assert client.delete(IN_REDIS.split()[1]) == 1

    return RedisStore(a_redis_cluster(folder)), forget


@pytest.mark.parametrize(
    "place",
    [sqlite, *(pytest.param(each, marks=pytest.mark.servers) for each in (postgresql, redis, redis_cluster))],
)
async def test_a_store_whose_epoch_was_forgotten_has_another_one_and_all_that_it_had(
    place: Callable[[Path], tuple[Store, Callable[[], object]]], tmp_path: Path
) -> None:
    store, forget = place(tmp_path)
    await store.open()
    await store.add_user(ann := a_user("ann"))
    await store.add_room(room := a_room("kitchen"), ann.id)
    message = await done(store, send(room, ann, "hi"))
    epoch = store.epoch
    await store.close()
    forget()
    again, _ = place(tmp_path)
    await again.open()
    assert again.epoch != epoch
    assert await again.page(room.id, limit=10) == [message]
    await again.close()


def test_the_guarantees_say_so() -> None:
    text = DOCUMENT.read_text()
    assert IN_SQL in text
    assert IN_REDIS in text


@pytest.mark.slow
async def test_nobody_mixes_a_history_that_was_put_back_with_what_came_after_it(tmp_path: Path) -> None:
    path = tmp_path / "parley.db"
    async with (
        server(tmp_path, store=f"sqlite:///{path}") as process,
        Chat(process.url, name="ann", rooms=["kitchen"]) as ann,
    ):
        kept = await ann.send("kitchen", "kept")
        process.stop()
        backup = path.read_bytes()
        await asyncio.to_thread(process.start)
        for number in range(3):
            await ann.send("kitchen", f"lost {number}")
        process.stop()
        await until(lambda: not ann.is_connected)
        path.write_bytes(backup)
        in_a_file(path)
        # Before ann finds the way back, the room is as long again as she knew it.
        texts = [f"after {number}" for number in range(3)]
        async with (
            server(tmp_path, store=f"sqlite:///{path}") as meanwhile,
            Chat(meanwhile.url, name="bob", rooms=["kitchen"]) as bob,
        ):
            for text in texts:
                await bob.send("kitchen", text)
        await asyncio.to_thread(process.start)
        await until(lambda: ann.is_connected, 15)
        await until(
            lambda: [each.text for each in ann.state.shown(kept.room_id)] == ["kept", *texts], 15, "the reset"
        )
