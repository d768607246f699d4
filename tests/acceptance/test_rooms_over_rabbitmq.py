"""Rooms over RabbitMQ: posted over HTTP, heard at `ws://…/ws/updates/<number>`, in rooms that take two and
are removed by hand or when they are empty."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import httpx2
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from parley.buses.memory import Exchange, MemoryBus
from parley.config import Settings
from parley.node import Node
from parley.realtime.everywhere import ROOM
from parley.realtime.feed import PlainFeed
from parley.stores.memory import MemoryStore
from parley.web import app as web
from tests import backends
from tests.acceptance.conftest import Member
from tests.acceptance.places import Place
from tests.frames import FEED
from tests.integration.listeners import RabbitService, hears_up_to
from tests.rabbitmq_server import another_rabbitmq
from tests.realtime.conftest import RecordingTransport, turn
from tests.servers import ServerProcess, until

PLACES = [Place("sqlite", "memory"), Place("postgresql", "rabbitmq"), Place("redis", "redis")]

NUMBERS = count(7)


@pytest.fixture
def number() -> str:
    """A room that nobody has used."""
    return str(next(NUMBERS))


class Feed:
    """What `websocat` shows, message by message."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self._lines: list[str] = []

    async def next(self) -> dict[str, Any]:
        if not self._lines:
            self._lines = str(await self.connection.recv()).split("\n")
        line: dict[str, Any] = json.loads(self._lines.pop(0))
        return line

    async def end(self) -> int:
        """The code with which the server closes it."""
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                await self.connection.recv()
        assert closed.value.rcvd is not None
        return closed.value.rcvd.code


@asynccontextmanager
async def feed(server: ServerProcess, room: str, name: str = "guest") -> AsyncIterator[Feed]:
    async with connect(f"{server.ws}/updates/{room}?name={name}", proxy=None) as connection:
        yield Feed(connection)


def post(server: ServerProcess, user: str, room: str, text: str) -> httpx2.Response:
    return httpx2.post(f"{server.url}/messages", json={"user": user, "room": room, "text": text})


async def test_what_is_posted_over_http_comes_out_where_its_room_is_listened_to(
    server: ServerProcess, elsewhere: ServerProcess, number: str
) -> None:
    other = str(next(NUMBERS))
    async with AsyncExitStack() as stack:
        nodes = (elsewhere, elsewhere, server)
        listeners = [await stack.enter_async_context(feed(node, number)) for node in nodes]
        of_another = await stack.enter_async_context(feed(elsewhere, other))
        for text in ("one", "two", "three"):
            assert (await asyncio.to_thread(post, server, "john", number, text)).status_code == 201
        await asyncio.to_thread(post, server, "mary", other, "alone")
        for each in listeners:
            told = [await each.next() for _ in range(3)]
            assert [(line["seq"], line["author_name"], line["text"]) for line in told] == [
                (1, "john", "one"),
                (2, "john", "two"),
                (3, "john", "three"),
            ]
        assert (await of_another.next())["text"] == "alone"
    async with feed(elsewhere, number) as later:
        assert [(await later.next())["text"] for _ in range(3)] == ["one", "two", "three"]


@pytest.mark.servers
async def test_what_is_posted_through_the_broker_comes_out_where_its_room_is_listened_to(
    number: str, tmp_path: Path
) -> None:
    """Two nodes, one chat: one of them takes it from the queue, both tell it, and so does the broker."""
    url = another_rabbitmq()
    settings = {"store": backends.postgres().database(number), "bus": url}
    other = RabbitService(url)
    await other.start()
    with ServerProcess(tmp_path, **settings) as one, ServerProcess(tmp_path, **settings) as two:
        async with feed(one, number) as here, feed(two, number) as there:
            for text in ("one", "two", "three"):
                post_it = {"user": "john", "room": number, "text": text}
                answer = await other.answer_to(json.dumps(post_it).encode(), text)
                assert answer["ok"]["message"]["text"] == text
            assert (await asyncio.to_thread(post, two, "mary", number, "over HTTP")).status_code == 201
            for each in (here, there):
                told = [await each.next() for _ in range(4)]
                assert [(line["seq"], line["author_name"], line["text"]) for line in told] == [
                    (1, "john", "one"),
                    (2, "john", "two"),
                    (3, "john", "three"),
                    (4, "mary", "over HTTP"),
                ]
        room_id = told[0]["room_id"]
        await hears_up_to(other, room_id, told[-1]["revision"], since=told[0]["revision"] - 1)
        refused = await other.answer_to(b'{"user": "john"}', "refused")
        assert refused["error"]["code"] == "invalid_field"
    await other.stop()


async def test_what_is_typed_into_a_feed_comes_out_of_the_others(
    server: ServerProcess, elsewhere: ServerProcess, number: str
) -> None:
    async with feed(server, number, "john") as johns, feed(elsewhere, number, "mary") as marys:
        await johns.connection.send("anybody here?")
        assert [(await each.next())["text"] for each in (johns, marys)] == ["anybody here?"] * 2
        await marys.connection.send("yes, me")
        told = [await each.next() for each in (johns, marys)]
        assert [(line["author_name"], line["text"]) for line in told] == [("mary", "yes, me")] * 2


async def test_a_room_for_two_refuses_the_third_on_every_node(
    server: ServerProcess, elsewhere: ServerProcess, number: str, ann: Member, bob: Member, cleo: Member
) -> None:
    made = ann.post("/rooms", json={"name": number, "capacity": 2}).json()
    assert (made["capacity"], made["member_count"]) == (2, 1)
    assert bob.put(f"/rooms/{number}/members/me").status_code == 200
    cleo_there = cleo.at(elsewhere)
    refused = [
        cleo.put(f"/rooms/{number}/members/me"),
        cleo_there.put(f"/rooms/{number}/members/me"),
        ann.put(f"/rooms/{number}/members/{cleo.name}"),
        post(server, "john", number, "me too"),
        post(elsewhere, "john", number, "me too"),
    ]
    assert [(each.status_code, each.json()["code"]) for each in refused] == [(409, "room_full")] * 5
    for node in (server, elsewhere):
        async with feed(node, number, "john") as johns:
            await johns.connection.send("me too")
            assert (await johns.next())["error"]["code"] == "room_full"
    assert bob.post(f"/rooms/{number}/messages", json={"text": "just us"}).status_code == 201
    assert bob.delete(f"/rooms/{number}/members/me").status_code == 204
    assert cleo.put(f"/rooms/{number}/members/me").status_code == 200
    cleo_there.http.close()


async def test_of_many_who_come_at_once_into_a_room_for_two_one_gets_in(
    number: str, ann: Member, bob: Member, cleo: Member
) -> None:
    ann.post("/rooms", json={"name": number, "capacity": 2}).raise_for_status()
    coming = [asyncio.to_thread(each.put, f"/rooms/{number}/members/me") for each in (bob, cleo)]
    assert sorted(answer.status_code for answer in await asyncio.gather(*coming)) == [200, 409]
    assert ann.get(f"/rooms/{number}").json()["member_count"] == 2


async def test_a_room_is_removed_by_hand(
    server: ServerProcess, elsewhere: ServerProcess, number: str, ann: Member, bob: Member
) -> None:
    ann.post("/rooms", json={"name": number}).raise_for_status()
    bob.put(f"/rooms/{number}/members/me").raise_for_status()
    assert bob.delete(f"/rooms/{number}").json()["code"] == "not_allowed"
    async with feed(elsewhere, number) as listening:
        await asyncio.to_thread(post, server, "john", number, "hello")
        assert (await listening.next())["text"] == "hello"
        assert ann.delete(f"/rooms/{number}").status_code == 204
        assert await listening.end() == 1000
    for person in (ann, bob):
        assert person.get(f"/rooms/{number}").json()["code"] == "room_not_found"
        for scope in ("public", "mine"):
            listed = person.get("/rooms", params={"scope": scope, "limit": 200}).json()["items"]
            assert number not in [room["name"] for room in listed]
    anew = bob.post("/rooms", json={"name": number})
    assert (anew.status_code, anew.json()["message_count"]) == (201, 0)
    for person in (ann, bob):
        assert person.get(f"/rooms/{number}").json()["id"] == anew.json()["id"]


async def test_a_room_is_removed_when_it_is_empty(number: str, ann: Member, bob: Member) -> None:
    ann.post("/rooms", json={"name": number, "close_when_empty": True}).raise_for_status()
    bob.put(f"/rooms/{number}/members/me").raise_for_status()
    assert bob.delete(f"/rooms/{number}/members/me").status_code == 204
    assert bob.get(f"/rooms/{number}").json()["member_count"] == 1
    assert ann.delete(f"/rooms/{number}/members/me").status_code == 204
    assert bob.get(f"/rooms/{number}").json()["code"] == "room_not_found"


def test_other_rooms_stay_when_they_are_empty(number: str, ann: Member, bob: Member) -> None:
    ann.post("/rooms", json={"name": number}).raise_for_status()
    ann.delete(f"/rooms/{number}/members/me").raise_for_status()
    assert bob.get(f"/rooms/{number}").json()["member_count"] == 0


# No work for nobody


class CountingBus(MemoryBus):
    """Notes which rooms it is asked to bring, and how much it brings."""

    def __init__(self, exchange: Exchange) -> None:
        super().__init__(exchange)
        self.wanted: set[str] = set()
        self.brought = 0

    def want(self, topic: str) -> None:
        if topic.startswith(ROOM):
            self.wanted.add(topic)
        super().want(topic)

    def unwant(self, topic: str) -> None:
        self.wanted.discard(topic)
        super().unwant(topic)

    def _arrived(self, topic: str, payload: bytes) -> None:
        self.brought += 1
        super()._arrived(topic, payload)


async def test_a_room_is_brought_to_a_node_only_while_somebody_listens_there(number: str) -> None:
    store, exchange = MemoryStore(), Exchange()
    bus = CountingBus(exchange)
    posting = Node(Settings(_env_file=None), store, MemoryBus(exchange))
    listening = Node(Settings(_env_file=None), store, bus)
    for node in (posting, listening):
        await node.start()
    api = httpx2.ASGITransport(web.create(posting))
    async with httpx2.AsyncClient(transport=api, base_url="http://parley") as http:

        async def say(text: str) -> None:
            line = {"user": "john", "room": number, "text": text}
            (await http.post("/messages", json=line)).raise_for_status()
            await turn()

        await say("nobody listens")
        assert (bus.wanted, bus.brought) == (set(), 0)
        transport = RecordingTransport(FEED)
        listener = PlainFeed(listening.realtime, transport, number, "guest")
        listener.opened()
        await until(lambda: transport.frames, what="the last messages")
        assert len(bus.wanted) == 1
        await say("somebody listens")
        await until(lambda: len(transport.frames) == 2, what="the next message")
        assert bus.brought == 1
        listener.closed()
        await until(lambda: not bus.wanted, what="letting go")
        await say("nobody listens again")
        assert bus.brought == 1
    texts = [json.loads(line)["text"] for frame in transport.frames for line in frame.split(b"\n")]
    assert texts == ["nobody listens", "somebody listens"]
    for node in (listening, posting):
        await node.stop()


# The page and the log


def test_the_api_page_is_where_it_was(elsewhere: ServerProcess) -> None:
    page = httpx2.get(f"{elsewhere.url}/api/openapi")
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "swagger-ui" in page.text
    paths = httpx2.get(f"{elsewhere.url}/api/openapi.json").json()["paths"]
    assert {"/messages", "/api/v1/rooms", "/api/v1/rooms/{room}"} <= set(paths)
    assert set(paths["/api/v1/rooms/{room}"]) == {"get", "patch", "delete"}


def test_every_line_of_the_log_is_an_event_and_none_tells_what_was_said(tmp_path: Path) -> None:
    with ServerProcess(tmp_path, store="memory://") as server:
        said = post(server, "john", "7", "a secret between us")
        assert said.status_code == 201
        log = server.log
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["event"] for line in lines] == [
        "parley is ready",
        "parley is stopping",
        "parley has stopped",
    ]
    assert all({"event", "level", "timestamp"} <= set(line) for line in lines)
    assert "secret" not in log.read_text()
