"""Three nodes are restarted one after the other while two thousand people are connected and talk goes on."""

import asyncio
import random
import time
from asyncio import Future
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from parley.client import Chat, Message
from parley.models import Room
from parley.realtime.protocol import Close
from parley.stores.sql import SqlStore
from tests import backends
from tests.contracts.kitchen import a_room
from tests.faults.crowd import Closed, Crowd, Person, fill, guests, many_files, room_of
from tests.redis_servers import a_redis
from tests.servers import Forwarder, ServerProcess, server, until

pytestmark = [pytest.mark.servers, pytest.mark.slow]

PEOPLE = 2000
ROOMS = 20
WRITERS = 3
PER_SECOND = 30
PART_SECONDS, AT_LEAST = 0.05, 20
"""How the clients of a node are sent away, as `parley.node` has it."""


@pytest.fixture(autouse=True)
def files() -> Iterator[None]:
    with many_files():
        yield


class Writers:
    """A few clients as programs have them, behind an address that leads to one node or another."""

    def __init__(self, rooms: list[Room]) -> None:
        self.acknowledged: dict[str, Message] = {}
        self.posted = 0
        self._rooms = rooms

    async def write(self, chat: Chat, enough: asyncio.Event) -> None:
        while not enough.is_set():
            self.posted += 1
            future = await chat.post(random.choice(self._rooms).name or "", f"message {self.posted}")
            future.add_done_callback(self._heard)
            await asyncio.sleep(WRITERS / PER_SECOND)

    def _heard(self, future: Future[Message]) -> None:
        message = future.result()
        self.acknowledged[message.id] = message


async def test_nothing_is_lost_and_nobody_comes_back_twice_when_all_nodes_are_restarted(
    tmp_path: Path,
) -> None:
    store = SqlStore(backends.postgres().database(tmp_path))
    settings = {"store": backends.postgres().database(tmp_path), "bus": a_redis(tmp_path)}
    async with AsyncExitStack() as stack:
        await store.open()
        stack.push_async_callback(store.close)
        found, records = guests(PEOPLE)
        rooms = [a_room(f"room{number}") for number in range(ROOMS)]
        for number, room in enumerate(rooms):
            there = [guest.user for guest in found[number::ROOMS]]
            records += room_of(room, there, there[0])
        await fill(store, records)
        nodes = []
        for number in range(3):
            (folder := tmp_path / str(number)).mkdir()
            nodes.append(await stack.enter_async_context(server(folder, **settings)))

        crowd, urls = Crowd(), [node.ws for node in nodes]
        for number, guest in enumerate(found):
            first = urls[number % 3]

            def choose(before: str, first: str = first) -> str:
                return random.choice([url for url in urls if url != before]) if before else first

            Person(crowd, guest, choose).come()

        async def leave() -> None:
            await asyncio.gather(*(person.leave() for person in crowd.people))

        stack.push_async_callback(leave)
        writers, enough = Writers(rooms), asyncio.Event()
        balancer = await stack.enter_async_context(Forwarder(nodes[0].port))
        chats = []
        for number in range(WRITERS):
            address = f"http://127.0.0.1:{balancer.port}"
            names = [room.id for room in rooms]
            chats.append(await stack.enter_async_context(Chat(address, name=f"W{number}", rooms=names)))
            await chats[-1].ready()
        await until(lambda: crowd.connected() == PEOPLE, 40, "everybody's arrival")
        writing = [asyncio.create_task(writers.write(chat, enough)) for chat in chats]
        restarts = []
        for number, node in enumerate(nodes):
            await asyncio.sleep(0.5)
            balancer.switch(nodes[(number + 1) % 3].port, cut=False)
            here = {person for person in crowd.people if person.server == node.ws}
            began = time.monotonic()
            assert await asyncio.to_thread(node.stop) == 0
            took = time.monotonic() - began
            closed = [each for each in crowd.closed if each.at >= began]
            restarts.append((node, here, closed, took))
            await until(lambda: crowd.connected() == PEOPLE, 20, "everybody's return")
            await asyncio.to_thread(node.start)
        enough.set()
        await asyncio.gather(*writing)
        async with asyncio.timeout(20):
            await asyncio.gather(*(chat.flush() for chat in chats))
        heads = await store.heads([room.id for room in rooms])
        await until(lambda: crowd.behind(heads) == 0, 10, "everybody's knowing of everything")

        assert crowd.faults == {}
        for node, here, closed, took in restarts:
            print(f"{len(here)} clients sent away over {spread(closed):.2f} s; stopped after {took:.2f} s")
            assert_spread(node, here, closed)
        assert crowd.refused == 0
        assert len(crowd.closed) == sum(len(here) for _, here, _, _ in restarts)
        assert sum(person.welcomes for person in crowd.people) == PEOPLE + len(crowd.closed)

        assert len(writers.acknowledged) == writers.posted > 100
        stored: dict[str, tuple[str, int, str]] = {}
        for room in rooms:
            messages = await store.page(room.id, after=0, limit=100_000)
            assert [each.revision for each in messages] == list(range(1, heads[room.id] + 1))
            assert crowd.said.get(room.id, {}) == {each.seq: each.id for each in messages}
            stored |= {each.id: (each.room_id, each.seq, each.text) for each in messages}
        told = {each.id: (each.room_id, each.seq, each.text) for each in writers.acknowledged.values()}
        assert told == stored


def spread(closed: list[Closed]) -> float:
    """Seconds from the first to the last."""
    return max(each.at for each in closed) - min(each.at for each in closed)


def assert_spread(node: ServerProcess, here: set[Person], closed: list[Closed]) -> None:
    """All who were there, and nobody else, were sent away once, and not all at once."""
    assert {each.code for each in closed} == {Close.RESTARTING}
    assert {each.server for each in closed} == {node.ws}
    assert sorted(map(id, here)) == sorted(id(each.person) for each in closed)
    expected = PART_SECONDS * len(here) / AT_LEAST
    assert 0.7 * expected < spread(closed) < 5 + 1
    in_slices: dict[int, int] = {}
    for each in closed:
        slice_ = int(each.at / 0.25)
        in_slices[slice_] = in_slices.get(slice_, 0) + 1
    assert max(in_slices.values()) < len(here) / 2
