"""Two nodes on one store: what happens on one is told on the other, with the bus and, later, without it."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import msgspec
import pytest

from parley.buses.base import EVERYTHING, LOOK
from parley.buses.memory import Exchange, MemoryBus
from parley.config import Settings
from parley.ids import new_id
from parley.models import Room
from parley.node import Node
from parley.realtime import presence as presence_module
from parley.realtime import rounds
from parley.realtime.protocol import Close
from parley.stores.memory import MemoryStore
from parley.web import app as web
from tests.realtime.conftest import Client, guest, turn
from tests.servers import until


class Wire(MemoryBus):
    """A bus that can be cut: then nothing comes or goes, and it says so."""

    def __init__(self, exchange: Exchange) -> None:
        super().__init__(exchange)
        self.is_cut = False

    def publish(self, topic: str, payload: bytes) -> None:
        if not self.is_cut:
            super().publish(topic, payload)

    def healthy(self) -> bool:
        return not self.is_cut and super().healthy()

    def _arrived(self, topic: str, payload: bytes) -> None:
        if not self.is_cut:
            super()._arrived(topic, payload)


class Pair:
    """Two nodes, and clients of both."""

    def __init__(self, one: Node, two: Node) -> None:
        self.one, self.two = one, two

    def cut(self) -> None:
        for node in (self.one, self.two):
            assert isinstance(node.bus, Wire)
            node.bus.is_cut = True

    def restore(self) -> None:
        for node in (self.one, self.two):
            assert isinstance(node.bus, Wire)
            node.bus.is_cut = False
            node.bus.on_subscribed([EVERYTHING])


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    store, exchange = MemoryStore(), Exchange()
    nodes = [Node(Settings(_env_file=None), store, Wire(exchange)) for _ in range(2)]
    for node in nodes:
        await node.start()
    yield Pair(*nodes)
    for node in nodes:
        await node.stop()


@pytest.fixture(params=["with the bus", "without the bus"])
def is_cut(request: pytest.FixtureRequest, pair: Pair) -> bool:
    """Whether the nodes hear nothing of each other."""
    if request.param == "without the bus":
        pair.cut()
    return bool(request.param == "without the bus")


async def on(node: Node, name: str, token: str | None = None) -> Client:
    """A client of a node that has said hello."""
    client = Client(node, token) if token is not None else await guest(node, name)
    await client.hello()
    return client


def kinds(client: Client) -> list[str]:
    return [str(event["event"]) for event in client.events()]


async def test_people_on_different_nodes_talk(pair: Pair, is_cut: bool) -> None:
    ann, bob = await on(pair.one, "Ann"), await on(pair.two, "Bob")
    for number in range(3):
        await ann.ask(op="message.send", room="lobby", text=f"a{number}")
        await bob.ask(op="message.send", room="lobby", text=f"b{number}")
    for client in (ann, bob):
        await until(lambda client=client: len(texts(client)) == 6, seconds=3)
        assert len(set(texts(client))) == 6


def texts(client: Client) -> list[str]:
    """What a client was told, however it was told."""
    messages = [event["message"] for event in client.events("message.sent")]
    for event in client.events("room.changes"):
        messages += event["messages"]
    return [message["text"] for message in sorted(messages, key=lambda each: each["seq"])]


async def test_a_session_that_ends_elsewhere_ends_here_within_a_second(pair: Pair, is_cut: bool) -> None:
    ann = await on(pair.one, "Ann")
    other = await on(pair.two, "", ann.token)
    await ann.ask(op="session.end")
    await until(lambda: other.closed_with == Close.SESSION_ENDED, seconds=1.2)
    assert other.events("session.ended")


async def test_who_is_shut_out_elsewhere_hears_nothing_more_here(pair: Pair, is_cut: bool) -> None:
    ann, bob = await on(pair.one, "Ann"), await on(pair.two, "Bob")
    room = (await ann.ask(op="room.create", name="den", kind="private"))["ok"]["room"]
    await ann.ask(op="member.add", room="den", user=bob.session.user.id)
    await until(lambda: bob.events("room.added"), seconds=3)
    await ann.ask(op="member.remove", room="den", user=bob.session.user.id)
    await until(lambda: bob.events("member.left"), seconds=1.2)
    await ann.ask(op="message.send", room="den", text="secret")
    await asyncio.sleep(1.2 if is_cut else 0.1)
    assert "secret" not in str(bob.lines())
    assert room["id"] not in bob.session.rooms


async def test_coming_and_going_in_public_rooms_reaches_the_other_devices(pair: Pair, is_cut: bool) -> None:
    ann, bob = await on(pair.one, "Ann"), await on(pair.two, "Bob")
    bob_there = await on(pair.one, "", bob.token)
    room = (await ann.ask(op="room.create", name="hall"))["ok"]["room"]
    await bob_there.ask(op="room.join", room="hall")
    await until(lambda: [each["room_id"] for each in bob.events("room.added")] == [room["id"]], seconds=3)
    await ann.ask(op="message.send", room="hall", text="hello")
    await until(lambda: "hello" in texts(bob), seconds=3)
    await bob_there.ask(op="room.leave", room="hall")
    await until(lambda: bob.events("member.left"), seconds=3)
    assert room["id"] not in bob.session.rooms


async def test_a_room_that_is_closed_elsewhere_is_closed_here(pair: Pair, is_cut: bool) -> None:
    ann, bob = await on(pair.one, "Ann"), await on(pair.two, "Bob")
    await ann.ask(op="room.create", name="hall")
    await bob.ask(op="room.join", room="hall")
    await ann.ask(op="message.send", room="hall", text="the last")
    await ann.ask(op="room.close", room="hall")
    await until(lambda: bob.events("room.closed"), seconds=1.2)
    # The name is another room's by now, and whoever says it means that one.
    again = (await ann.ask(op="room.create", name="hall"))["ok"]["room"]
    assert (await bob.ask(op="room.see", room="hall"))["ok"]["room"]["id"] == again["id"]


async def test_a_room_that_is_missed_first_by_its_members_was_closed_and_not_left(pair: Pair) -> None:
    ann, bob = await on(pair.one, "Ann"), await on(pair.two, "Bob")
    await ann.ask(op="room.create", name="hall")
    await bob.ask(op="room.join", room="hall")
    await until(lambda: bob.events("room.added"))
    pair.cut()
    await ann.ask(op="room.close", room="hall")
    pair.two.everywhere.on_look(f"user:{bob.session.user.id}")
    await until(lambda: bob.events("room.closed"), seconds=1.2)
    assert bob.events("member.left") == []


async def test_who_is_renamed_elsewhere_speaks_here_under_the_new_name(pair: Pair, is_cut: bool) -> None:
    ann = await on(pair.one, "Ann")
    other, bob = await on(pair.two, "", ann.token), await on(pair.two, "Bob")
    await ann.ask(op="profile.change", display_name="Anna")
    await until(lambda: other.session.user.display_name == "Anna", seconds=3)
    sent = await other.ask(op="message.send", room="lobby", text="hi")
    assert sent["ok"]["message"]["author_name"] == "Anna"
    await until(lambda: "Anna" in [each["display_name"] for each in bob.events("presence.changed")])


async def test_others_are_told_of_another_name(
    pair: Pair, is_cut: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence_module, "LOOK_SECONDS", 0.5)
    ann, bob = await on(pair.one, "Ann"), await on(pair.two, "Bob")
    await until(lambda: seen(bob, ann) == [True], seconds=5)
    await ann.ask(op="profile.change", display_name="Anna")
    names = [(each["display_name"], each["online"]) for each in bob.events("presence.changed")]
    await until(lambda: ("Anna", True) in told_names(bob), seconds=3)
    assert names == [("Ann", True)]


def told_names(client: Client) -> list[tuple[str, bool]]:
    """What a client heard of others: how they are called, and whether they are online."""
    return [(each["display_name"], each["online"]) for each in client.events("presence.changed")]


async def test_a_name_that_was_missed_is_told_when_the_bus_is_back(pair: Pair) -> None:
    ann, bob = await on(pair.one, "Ann"), await on(pair.two, "Bob")
    await until(lambda: seen(bob, ann) == [True], seconds=5)
    pair.cut()
    await ann.ask(op="profile.change", display_name="Anna")
    await asyncio.sleep(2 * presence_module.TOLD_SECONDS)
    pair.restore()
    await until(lambda: ("Anna", True) in told_names(bob), seconds=3)


async def test_nodes_that_were_given_no_bus_in_common_notice_and_ask_the_store() -> None:
    """As when somebody forgets PARLEY_BUS: each of them believes itself alone."""
    store = MemoryStore()
    one, two = [Node(Settings(_env_file=None), store, MemoryBus()) for _ in range(2)]
    for node in (one, two):
        await node.start()
    ann = await on(one, "Ann")
    other, bob = await on(two, "", ann.token), await on(two, "Bob")
    await until(lambda: two.realtime.presence.unheard() == 1, seconds=8)
    health = {}
    async with httpx2.AsyncClient(
        transport=httpx2.ASGITransport(web.create(two)), base_url="http://parley"
    ) as http:
        health = (await http.get("/readyz")).json()
    assert health == {"status": "ready", "store": "ok", "bus": "degraded"}
    await ann.ask(op="message.send", room="lobby", text="hello?")
    await until(lambda: texts(bob) == ["hello?"], seconds=1.5)
    await ann.ask(op="session.end")
    await until(lambda: other.closed_with == Close.SESSION_ENDED, seconds=1.5)
    for node in (one, two):
        await node.stop()


async def test_typing_and_reading_are_told_on_the_other_node(pair: Pair) -> None:
    ann, bob = await on(pair.one, "Ann"), await on(pair.two, "Bob")
    bob_there = await on(pair.one, "", bob.token)
    await ann.ask(op="message.send", room="lobby", text="hello")
    await ann.ask(op="typing.start", room="lobby")
    await until(lambda: bob.events("typing.started"))
    assert ann.events("typing") == []
    await ann.ask(op="typing.stop", room="lobby")
    await until(lambda: bob.events("typing.stopped"))
    await bob.ask(op="read.mark", room="lobby", seq=1)
    for client in (ann, bob, bob_there):
        await until(lambda client=client: [each["seq"] for each in client.events("read.marked")] == [1])


async def test_in_a_large_room_only_my_own_devices_hear_what_i_read(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("parley.services.marks.MAX_RECEIPTS", 0)
    ann, bob = await on(pair.one, "Ann"), await on(pair.one, "Bob")
    bob_there = await on(pair.two, "", bob.token)
    await ann.ask(op="message.send", room="lobby", text="hello")
    await bob.ask(op="read.mark", room="lobby", seq=1)
    await until(lambda: bob_there.events("read.marked"))
    assert ann.events("read.marked") == []


# Presence


def seen(client: Client, of: Client) -> list[bool]:
    mine = [each for each in client.events("presence.changed") if each["user_id"] == of.session.user.id]
    return [each["online"] for each in mine]


async def test_who_comes_and_goes_on_another_node_is_seen_at_once(pair: Pair) -> None:
    ann, bob = await on(pair.one, "Ann"), await on(pair.two, "Bob")
    await until(lambda: seen(ann, bob) == [True] and seen(bob, ann) == [True], seconds=1)
    lobby = (await ann.ask(op="room.see", room="lobby"))["ok"]["room"]
    assert lobby["online_count"] == 2
    assert (await pair.one.core.stats.see()).online == 2
    second = await on(pair.one, "", bob.token)
    bob.session.closed()
    await asyncio.sleep(3 * presence_module.TOLD_SECONDS)
    assert seen(ann, bob) == [True]
    lobby = (await ann.ask(op="room.see", room="lobby"))["ok"]["room"]
    assert lobby["online_count"] == 2
    second.session.closed()
    await until(lambda: seen(ann, bob) == [True, False], seconds=1)
    assert (await ann.ask(op="room.see", room="lobby"))["ok"]["room"]["online_count"] == 1


async def test_rooms_that_are_followed_later_count_on_the_other_node_too(pair: Pair) -> None:
    ann, bob = await on(pair.one, "Ann"), await on(pair.two, "Bob")
    await ann.ask(op="room.create", name="hall")

    async def online() -> int:
        room = (await bob.ask(op="room.see", room="hall"))["ok"]["room"]
        return int(room["online_count"])

    await asyncio.sleep(2 * presence_module.TOLD_SECONDS)
    assert await online() == 1
    await ann.ask(op="room.open", room="hall")
    await bob.ask(op="room.join", room="hall")
    assert await online() == 2
    await ann.ask(op="room.close", room="hall")


async def test_what_the_bus_lost_of_presence_is_found_in_the_store(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence_module, "REPORT_SECONDS", 0.05)
    monkeypatch.setattr(presence_module, "LOOK_SECONDS", 0.05)
    pair.cut()
    ann, bob = await on(pair.one, "Ann"), await on(pair.two, "Bob")
    await until(lambda: seen(ann, bob) == [True] and seen(bob, ann) == [True], seconds=5)
    assert (await ann.ask(op="room.see", room="lobby"))["ok"]["room"]["online_count"] == 2
    bob.session.closed()
    await until(lambda: seen(ann, bob) == [True, False], seconds=5)
    assert (await ann.ask(op="room.see", room="lobby"))["ok"]["room"]["online_count"] == 1


async def test_a_node_that_ends_in_good_order_lets_nobody_flicker(pair: Pair) -> None:
    ann, bob = await on(pair.one, "Ann"), await on(pair.two, "Bob")
    await until(lambda: seen(ann, bob) == [True], seconds=1)
    await pair.two.drain()
    assert bob.closed_with == Close.RESTARTING
    again = await on(pair.one, "", bob.token)
    await asyncio.sleep(2 * presence_module.TOLD_SECONDS)
    assert seen(ann, bob) == [True]
    again.session.closed()


async def test_another_chat_on_the_same_broker_is_not_mixed_in() -> None:
    exchange = Exchange()
    nodes = [Node(Settings(_env_file=None), MemoryStore(), Wire(exchange)) for _ in range(2)]
    for node in nodes:
        await node.start()
    ann, bob = await on(nodes[0], "Ann"), await on(nodes[1], "Bob")
    await ann.ask(op="message.send", room="lobby", text="to mine")
    await asyncio.sleep(2 * presence_module.TOLD_SECONDS)
    assert texts(bob) == []
    assert (await nodes[1].core.stats.see()).online == 1
    assert (await bob.ask(op="room.see", room="lobby"))["ok"]["room"]["online_count"] == 1
    for node in nodes:
        await node.stop()


async def test_what_is_sent_again_after_another_node_changed_it_is_not_told_as_new(pair: Pair) -> None:
    ann, bob, cleo = await on(pair.one, "Ann"), await on(pair.two, "Bob"), await on(pair.one, "Cleo")
    sent = await ann.ask(op="message.send", room="lobby", text="hi", id=(id_ := new_id()))
    await until(lambda: texts(bob) == ["hi"])
    pair.cut()
    await bob.ask(op="message.react", room="lobby", message=id_, emoji="👍")
    again = await ann.ask(op="message.send", room="lobby", text="hi", id=id_)
    assert again["ok"]["message"]["seq"] == sent["ok"]["message"]["seq"]
    await until(lambda: cleo.events("room.changes"))
    assert len(cleo.events("message.sent")) == 1
    [told] = cleo.events("room.changes")
    assert (told["since"], told["revision"]) == (1, 2)
    assert list(told["messages"][0]["reactions"]) == ["👍"]


# What the bus says of itself


async def test_what_could_not_be_sent_is_looked_for_at_once(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds, "HEALTHY_SECONDS", 1000)
    ann, bob = await on(pair.one, "Ann"), await on(pair.two, "Bob")
    lobby = pair.one.core.rooms.lobby_id
    await turn()
    monkeypatch.setattr(pair.one.bus, "publish", lambda topic, payload: None)
    await ann.ask(op="message.send", room="lobby", text="lost")
    await asyncio.sleep(0.2)
    assert texts(bob) == []
    pair.two.everywhere.arrived(f"room:{lobby}", LOOK)
    await until(lambda: texts(bob) == ["lost"], seconds=1)
    await ann.ask(op="message.send", room="lobby", text="lost too")
    pair.two.bus.on_subscribed([f"room:{lobby}", f"user:{bob.session.user.id}"])
    await until(lambda: texts(bob) == ["lost", "lost too"], seconds=1)
    await ann.ask(op="message.send", room="lobby", text="and this")
    pair.two.everywhere.arrived(EVERYTHING, LOOK)
    await until(lambda: texts(bob) == ["lost", "lost too", "and this"], seconds=1)
    assert pair.two.repair.repairs["audit"] == 3


async def test_when_the_bus_returns_everything_is_looked_at_at_once(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann, bob = await on(pair.one, "Ann"), await on(pair.two, "Bob")
    monkeypatch.setattr(rounds, "AWAY_SECONDS", 1000)
    monkeypatch.setattr(rounds, "HEALTHY_SECONDS", 1000)
    await asyncio.sleep(1.0)  # the waits that were begun before are over
    pair.cut()
    await ann.ask(op="message.send", room="lobby", text="unheard")
    await asyncio.sleep(0.1)
    assert texts(bob) == []
    pair.restore()
    await until(lambda: texts(bob) == ["unheard"], seconds=1)


@pytest.mark.parametrize(
    "payload",
    [
        b"\xff\xfe",
        b"{}",
        b"[]",
        b"null",
        b'{"event":"message.sent"}',
        b'{"note":"ended"}',
        b'{"note":"nothing"}',
        b'{"node_id":7}',
        msgspec.json.encode([1]),
    ],
)
async def test_hints_that_make_no_sense_are_counted_and_left(pair: Pair, payload: bytes) -> None:
    ann = await on(pair.one, "Ann")
    lobby, whose = pair.one.core.rooms.lobby_id, ann.session.user.id
    for topic in (f"room:{lobby}", f"user:{whose}", "nodes"):
        pair.one.everywhere.arrived(topic, payload)
    pair.one.everywhere.arrived("nothing:that we know", payload)
    assert pair.one.everywhere.nonsense == 3
    assert ann.closed_with is None
    assert (await ann.ask(op="room.see", room="lobby"))["ok"]


async def test_a_room_is_told_nothing_of_another_one(pair: Pair) -> None:
    ann = await on(pair.one, "Ann")
    lobby = pair.one.core.rooms.lobby_id
    other: dict[str, Any] = {"event": "room.closed", "room_id": lobby}
    pair.one.everywhere.arrived("room:another", msgspec.json.encode(other))
    await turn()
    assert ann.events("room.closed") == []
    assert pair.one.everywhere.nonsense == 1


async def test_a_node_that_is_silent_is_noticed_by_the_others_which_ask_the_store(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds, "HEALTHY_SECONDS", 1000)
    ann, bob = await on(pair.one, "Ann"), await on(pair.two, "Bob")
    other = await on(pair.two, "", ann.token)
    presence = pair.two.realtime.presence
    await until(lambda: presence._heard_from and not presence.unheard(), what="hearing each other")
    assert isinstance(pair.one.bus, Wire)
    pair.one.bus.is_cut = True  # which the other node is not told
    await ann.ask(op="message.send", room="lobby", text="can you hear me?")
    await until(lambda: texts(bob) == ["can you hear me?"], seconds=4.2)
    assert presence.unheard() == 1
    await ann.ask(op="message.send", room="lobby", text="and now?")
    await until(lambda: texts(bob)[1:] == ["and now?"], seconds=1.2)
    await ann.ask(op="session.end")
    await until(lambda: other.closed_with == Close.SESSION_ENDED, seconds=1.2)
    pair.one.bus.is_cut = False
    await until(lambda: not presence.unheard(), seconds=2)


# Starting


class Hesitant(MemoryStore):
    """Another node may act between its answer and what is made of it."""

    async def room(self, key: str, user_id: str | None = None) -> Room | None:
        found = await super().room(key, user_id)
        await asyncio.sleep(0.01)
        return found


async def test_nodes_that_start_at_once_on_an_empty_store_share_one_lobby() -> None:
    store, exchange = Hesitant(), Exchange()
    nodes = [Node(Settings(_env_file=None), store, MemoryBus(exchange)) for _ in range(3)]
    await asyncio.gather(*(node.start() for node in nodes))
    assert len({node.core.rooms.lobby_id for node in nodes}) == 1
    for node in nodes:
        await node.stop()
