"""Several servers, one chat: what only they can get wrong. What people do on one does not concern the others
where nobody follows; a node that dies, or a broker that is away, is noticed and nobody has to do anything."""

import asyncio
import json
import re
import time
from itertools import count
from pathlib import Path

import httpx2
import pytest
from websockets.asyncio.client import ClientConnection, connect

from tests.acceptance.conftest import Member
from tests.acceptance.places import Nodes, Place, nodes_at
from tests.client.conftest import OpenConsole
from tests.servers import ServerProcess, until
from tests.web.conftest import SECONDS, Socket, socket

PLACES = [Place("postgresql", "own-redis"), Place("redis", "rabbitmq")]

GONE_SECONDS = 30
"""How soon everybody sees that a node has died without saying so."""
LATE_SECONDS = 2.0
"""How late is late while the broker is away: the store is asked every second, and takes a moment."""

pytestmark = pytest.mark.servers


def say(person: Member, room: str, text: str) -> None:
    person.post(f"/rooms/{room}/messages", json={"text": text}).raise_for_status()


def post(server: ServerProcess, room: str, text: str) -> None:
    line = {"user": "john", "room": room, "text": text}
    httpx2.post(f"{server.url}/messages", json=line).raise_for_status()


def told(server: ServerProcess, metric: str) -> float:
    """A number of the node's."""
    found = re.findall(
        rf"^{re.escape(metric)} (\S+)$", httpx2.get(f"{server.url}/metrics").text, re.MULTILINE
    )
    return float(found[0])


def repairs(nodes: Nodes) -> float:
    """How often a node has found in the store what it had not heard."""
    return sum(told(node, 'parley_repairs_total{cause="audit"}') for node in (nodes.one, nodes.two))


def received(server: ServerProcess) -> int:
    """How many frames the bus has brought to a node."""
    return int(told(server, "parley_bus_received_frames_total"))


async def lines(feed: ClientConnection, how_many: int) -> list[str]:
    """What `websocat` shows of a room: the next texts."""
    texts: list[str] = []
    async with asyncio.timeout(SECONDS):
        while len(texts) < how_many:
            texts += [json.loads(line)["text"] for line in str(await feed.recv()).split("\n")]
    return texts


async def is_quiet(server: ServerProcess) -> None:
    """Wait until the bus has brought everything that was on its way."""
    before, now = -1, received(server)
    while before != now:
        await asyncio.sleep(0.5)
        before, now = now, received(server)


# No work for nobody

FEW = 5
"""Frames: what is said in the lobby, and that the other node is still there, which it says every second."""


async def test_a_node_where_nobody_follows_a_room_is_brought_nothing_of_it(
    nodes: Nodes, room: str, ann: Member, bob: Member
) -> None:
    numbers = count(1)

    async def brought(in_between: int = 0) -> int:
        """How many frames node two is brought while so many messages are posted into the room, one by one,
        and then one into the lobby, which bob hears."""
        before = received(nodes.two)
        for _ in range(in_between):
            await asyncio.to_thread(post, nodes.one, room, f"number {next(numbers)}")
        await asyncio.to_thread(say, ann, "lobby", "done")
        assert (await bobs.event("message.sent"))["message"]["text"] == "done"
        return received(nodes.two) - before

    async with socket(bob) as bobs:
        await asyncio.to_thread(post, nodes.one, room, "first")
        await is_quiet(nodes.two)
        assert await brought(30) <= FEW
        async with connect(f"{nodes.two.ws}/updates/{room}", proxy=None) as listener:
            assert await lines(listener, 31) == ["first", *(f"number {each}" for each in range(1, 31))]
            await is_quiet(nodes.two)
            assert await brought(30) > FEW  # a busy node puts some into one frame
        await brought(10)  # the goodbye may still be on its way
        assert await brought(30) <= FEW


# A node dies


@pytest.mark.slow
async def test_the_people_of_a_node_that_is_killed_are_offline_within_half_a_minute(
    nodes: Nodes, ann: Member, bob: Member
) -> None:
    def is_listed() -> bool:
        return bob.id in [user["id"] for user in ann.get("/users", params={"limit": 200}).json()["items"]]

    async def moved(anns: Socket) -> bool:
        """Whether bob came or went, as ann is told."""
        while (event := await anns.event("presence.changed"))["user_id"] != bob.id:
            pass
        return bool(event["online"])

    async with socket(ann) as anns:
        async with socket(bob):
            assert await moved(anns) is True
            await asyncio.sleep(2.5)  # until the store was told, too
            assert is_listed()
            nodes.two.kill()
        killed = time.monotonic()
        try:
            await until(lambda: not is_listed(), GONE_SECONDS, "the end of what the node had reported")
            assert time.monotonic() - killed > 5, "it was no silence that ended it"
            assert await moved(anns) is False
            assert ann.get(f"/users/{bob.id}").json()["online"] is False
            back = Member(nodes.one, bob.name, path="/sessions")
            async with socket(back):
                assert await moved(anns) is True
            back.http.close()
        finally:
            await asyncio.to_thread(nodes.two.start)


# A broker is away


async def bus_is(state: str, nodes: Nodes) -> None:
    """Wait until both nodes say that the bus is so. They are ready all the while."""

    def says_so(node: ServerProcess) -> bool:
        answer = httpx2.get(f"{node.url}/readyz")
        assert (answer.status_code, answer.json()["status"]) == (200, "ready")
        return bool(answer.json()["bus"] == state)

    await until(lambda: says_so(nodes.one) and says_so(nodes.two), SECONDS, f"a bus that is {state}")


class Talk:
    """Ann and bob take turns in a room; everybody hears everything, once and in order."""

    def __init__(self, room: str, speakers: list[Member], listeners: list[Socket]) -> None:
        self.said: list[str] = []
        self._room = room
        self._speakers = speakers
        self._listeners = listeners

    async def goes_on(self, turns: int) -> float:
        """Returns how long the slowest message was on its way."""
        longest = 0.0
        for turn in range(turns):
            self.said.append(f"number {len(self.said)}")
            speaker = self._speakers[turn % len(self._speakers)]
            await asyncio.to_thread(say, speaker, self._room, self.said[-1])
            began = time.monotonic()
            for listener in self._listeners:
                assert (await listener.message())["text"] == self.said[-1]
            longest = max(longest, time.monotonic() - began)
        return longest


@pytest.mark.slow
async def test_while_the_broker_is_away_chat_goes_on_a_little_late_and_nobody_has_to_come_back(
    nodes: Nodes, room: str, ann: Member, bob: Member, cleo: Member
) -> None:
    assert nodes.broker is not None
    made = ann.post("/rooms", json={"name": room, "kind": "private"}).json()
    ann.put(f"/rooms/{room}/members/{bob.name}").raise_for_status()
    tablet = Member(nodes.two, bob.name, path="/sessions")
    async with socket(ann) as anns, socket(bob) as bobs, socket(tablet) as tablets:
        talk = Talk(room, [ann, bob], [anns, bobs])
        assert await talk.goes_on(10) < LATE_SECONDS
        nodes.broker.kill()
        try:
            await bus_is("degraded", nodes)
            assert await talk.goes_on(6) < LATE_SECONDS
            async with asyncio.timeout(LATE_SECONDS):
                cleo.post(f"/direct/{bob.name}/messages", json={"text": "psst"}).raise_for_status()
                assert (await bobs.event("room.added"))["room"]["kind"] == "direct"
            async with asyncio.timeout(LATE_SECONDS):
                sign_out = f"{nodes.one.url}/api/v1/sessions/current"
                httpx2.delete(sign_out, headers=tablet.http.headers).raise_for_status()
                await tablets.event("session.ended")
        finally:
            await asyncio.to_thread(nodes.broker.start)
        await bus_is("ok", nodes)
        await talk.goes_on(2)
        before = repairs(nodes)
        assert await talk.goes_on(20) < LATE_SECONDS
        assert repairs(nodes) - before <= 1, "it is the store that brings the news, and not the bus"
        ann.delete(f"/rooms/{room}/members/{bob.name}").raise_for_status()
        async with asyncio.timeout(LATE_SECONDS):
            assert (await bobs.event("member.left"))["room_id"] == made["id"]
        say(ann, room, "now that bob is gone")
        say(ann, "lobby", "good evening")
        assert (await bobs.message())["text"] == "good evening"
    page = ann.get(f"/rooms/{room}/messages").json()["items"]
    assert [each["text"] for each in page] == [*talk.said, "now that bob is gone"]
    tablet.http.close()


# Nothing but a database


async def test_a_database_is_all_that_two_nodes_need(tmp_path: Path, console: OpenConsole) -> None:
    with nodes_at(Place("postgresql", "the-store"), tmp_path) as (one, two, _):
        ann = await console("ann", "kitchen", one.url)
        await ann.write("anybody here?")
        assert await ann.read() == ["ann: anybody here?"]
        bob = await console("bob", "kitchen", two.url)
        assert await bob.read() == ["ann: anybody here?"]
        await bob.write("yes, me")
        assert await ann.read() == await bob.read() == ["bob: yes, me"]
        assert await asyncio.to_thread(two.stop) == 0
        assert "I keep trying" in await bob.complaint()
        await bob.write("and who are you?")
        await ann.write("I am on the other node")
        assert await ann.read() == ["ann: I am on the other node"]
        await asyncio.to_thread(two.start)
        assert await bob.read(2) == ["ann: I am on the other node", "bob: and who are you?"]
        assert await ann.read() == ["bob: and who are you?"]
        await ann.write("welcome back")
        assert await ann.read() == await bob.read() == ["ann: welcome back"]
        assert await ann.end() == (0, [], [])
        assert await bob.end() == (0, [], ["parley: connected again"])
