"""A PostgreSQL server dies for good and its standby takes over: chat goes on by itself, and of what was
acknowledged all is there."""

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack

import pytest
from structlog.testing import capture_logs

from parley.errors import StoreUnavailable
from parley.models import Send
from parley.stores.base import Store
from parley.stores.sql import SqlStore
from tests import backends
from tests.backends import OwnPostgres, Standby
from tests.contracts.kitchen import a_room, a_user, all_done, kitchen_in, outcome, send
from tests.faults.talk import BACK_SECONDS, Talk, everybody, said, stored_once
from tests.servers import Forwarder

pytestmark = [pytest.mark.servers, pytest.mark.slow]


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
