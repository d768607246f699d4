"""Two thousand people lose their connections at the same moment, and all come back at once."""

import asyncio
import random
import re
import time
from asyncio import Future
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import httpx2
import pytest

from parley.client import Chat, Message
from parley.ids import now
from parley.models import Role, Room, Send, User
from parley.stores.sql import SqlStore
from tests import backends
from tests.backends import OwnPostgres
from tests.contracts.kitchen import a_room, a_user, send
from tests.faults.crowd import Crowd, Guest, Person, fill, guests, many_files, room_of
from tests.servers import ServerProcess, server, until

pytestmark = [pytest.mark.servers, pytest.mark.slow]

PEOPLE = 2000
ROOMS = 200
ROOMS_EACH = 5
MISSED = 20
BACK_SECONDS = 30
PER_SECOND = 30
"""Messages that are sent while everybody comes back."""

_LINE = re.compile(r"\[(\d+)\] LOG:  (?:execute \S+|statement): (.*)")
_FRAME = ("BEGIN", "COMMIT", "ROLLBACK", "SET")


@pytest.fixture(autouse=True)
def files() -> Iterator[None]:
    with many_files():
        yield


@pytest.fixture
def postgres() -> Iterator[OwnPostgres]:
    """A server of its own, which tells all that it is asked."""
    database = backends.own_postgres()
    yield database
    database.stop()


class Storm(NamedTuple):
    """Who is there, before it breaks. Half of the rooms are private; `author` owns them all."""

    store: SqlStore
    process: ServerProcess
    crowd: Crowd
    rooms: list[Room]
    author: Guest
    newcomer: User


@asynccontextmanager
async def calm(postgres: OwnPostgres, folder: Path) -> AsyncIterator[Storm]:
    """Everybody is connected and in their rooms."""
    url = postgres.address(postgres.new())
    store = SqlStore(url)
    await store.open()
    (author, *found), records = guests(1 + PEOPLE)
    rooms = [
        a_room(f"room{number}", kind="private" if number % 2 else "public", created_by=author.user.id)
        for number in range(ROOMS)
    ]
    for number, room in enumerate(rooms):
        there = [guest.user for place, guest in enumerate(found) if (number - place) % ROOMS < ROOMS_EACH]
        records += room_of(room, there, author.user)
    await fill(store, records)
    await store.add_user(newcomer := a_user("newcomer"))
    async with server(folder, store=url) as process:
        crowd = Crowd()
        for guest in found:
            Person(crowd, guest, lambda before: process.ws).come()
        try:
            await until(lambda: crowd.connected() == PEOPLE, 40, "everybody's arrival")
            yield Storm(store, process, crowd, rooms, author, newcomer)
        finally:
            await asyncio.gather(*(person.leave() for person in crowd.people))
            await store.close()


@asynccontextmanager
async def counted(postgres: OwnPostgres, told: list[str]) -> AsyncIterator[None]:
    """Collects what the database is asked meanwhile."""
    await asyncio.to_thread(switch, postgres, "all")
    begin = postgres.log.stat().st_size
    yield
    await asyncio.to_thread(switch, postgres, "none")
    with postgres.log.open() as log:
        log.seek(begin)
        told += queries(log.read())


def switch(postgres: OwnPostgres, statements: str) -> None:
    postgres.execute(f"ALTER SYSTEM SET log_statement = '{statements}'")
    postgres.execute("ALTER SYSTEM SET log_parameter_max_length = 0", "SELECT pg_reload_conf()")


def queries(log: str) -> list[str]:
    """The queries of a log. One that is sent with many rows of values at once is one."""
    last: dict[str, str] = {}
    found = []
    for process, statement in _LINE.findall(log):
        is_repeated = last.get(process) == statement and not statement.startswith("SELECT")
        last[process] = statement
        if not is_repeated and not statement.startswith(_FRAME):
            found.append(statement)
    return found


def wait_for_silence(storm: Storm) -> None:
    """Return when the node has noticed that nobody is connected any more."""
    headers = {"authorization": f"Bearer {storm.author.token}"}
    deadline = time.monotonic() + 10
    while httpx2.get(f"{storm.process.url}/api/v1/stats", headers=headers).json()["online"]:
        assert time.monotonic() < deadline
        time.sleep(0.05)


async def all_back(storm: Storm, began: float) -> None:
    """Wait until everybody has heard all that they missed, and say how long it took."""
    crowd = storm.crowd
    await until(lambda: crowd.connected() == PEOPLE, BACK_SECONDS, "everybody's return")
    welcomed = time.monotonic() - began
    heads = await storm.store.heads([room.id for room in storm.rooms])
    await until(
        lambda: crowd.behind(heads) == 0, BACK_SECONDS - welcomed, "everybody's knowing of everything"
    )
    print(f"all welcomed after {welcomed:.1f} s, all up to date after {time.monotonic() - began:.1f} s")


async def test_all_come_back_to_a_node_that_stayed_up(postgres: OwnPostgres, tmp_path: Path) -> None:
    asked: list[str] = []
    posted: list[Future[Message]] = []
    async with calm(postgres, tmp_path) as storm:
        crowd = storm.crowd
        for person in crowd.people:
            person.may_go.clear()
            person.cut()
        # Whoever is in all rooms is told of all who went; that they missed nothing is not the question here.
        await asyncio.to_thread(wait_for_silence, storm)
        async with Chat(storm.process.url, token=storm.author.token) as author:

            async def talk() -> None:
                while crowd.connected() < PEOPLE:
                    posted.append(await author.post(random.choice(storm.rooms).id, "welcome"))
                    await asyncio.sleep(1 / PER_SECOND)
                await author.flush()

            await author.ready()
            for room in storm.rooms:
                posted += [await author.post(room.id, f"{number}") for number in range(MISSED)]
                if room.kind == "private":
                    await author.request("member.add", room=room.id, user=storm.newcomer.id)
            await author.flush()
            async with counted(postgres, asked):
                began = time.monotonic()
                for person in crowd.people:
                    person.may_go.set()
                await talk()
                await all_back(storm, began)
        assert_back(storm, asked, {message.result().id for message in posted})


async def test_all_come_back_to_a_node_that_was_killed(postgres: OwnPostgres, tmp_path: Path) -> None:
    asked: list[str] = []
    posted: list[Send] = []
    async with calm(postgres, tmp_path) as storm:
        for person in storm.crowd.people:
            person.may_go.clear()
        storm.process.kill()
        for room in storm.rooms:
            missed = [send(room, storm.author.user, f"{number}") for number in range(MISSED)]
            await storm.store.apply(missed)
            posted += missed
            if room.kind == "private":
                await storm.store.join(room.id, storm.newcomer.id, Role.MEMBER, now())
        async with counted(postgres, asked):
            await asyncio.to_thread(storm.process.start)
            began = time.monotonic()
            for person in storm.crowd.people:
                person.may_go.set()
            await all_back(storm, began)
        assert_back(storm, asked, {message.id for message in posted})


def assert_back(storm: Storm, asked: list[str], posted: set[str]) -> None:
    """Everybody is there and was told everything once, and the store was hardly bothered."""
    kinds = Counter(statement[:60] for statement in asked)
    print(f"{len(asked)} queries:", *kinds.most_common(8), sep="\n  ")
    assert storm.crowd.faults == {}
    assert {id_ for said in storm.crowd.said.values() for id_ in said.values()} == posted
    assert len(posted) >= ROOMS * MISSED
    assert sum(person.welcomes for person in storm.crowd.people) == 2 * PEOPLE
    assert len(asked) <= PEOPLE
