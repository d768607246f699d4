"""The hub tells every follower every event once, in order, and reads what it did not hear from the store."""

from copy import deepcopy

import msgspec
import pytest

from parley import events
from parley.buses.memory import Exchange
from parley.events import MessageSent
from parley.ids import new_id, now
from parley.models import Applied, Message, Send
from parley.node import Node
from parley.realtime import rounds
from parley.stores.memory import MemoryStore
from tests.realtime.conftest import Client, guest, make_node, turn
from tests.servers import until


def sent(room_id: str, number: int) -> MessageSent:
    message = Message(
        id=new_id(),
        room_id=room_id,
        seq=number,
        revision=number,
        author_id=new_id(),
        author_name="Cleo",
        kind="text",
        text=f"number {number}",
        sent_at=now(),
    )
    return MessageSent(room_id=room_id, revision=number, message=message)


def deliver(node: Node, event: MessageSent) -> None:
    node.hub.deliver(event, events.encode(event))


def told(client: Client) -> list[int]:
    return [line["revision"] for line in client.events("message.sent")]


async def write(node: Node, count: int) -> list[MessageSent]:
    """Messages in the store that no hub has heard of."""
    user = await node.core.accounts.walk_in("Cleo")
    told = []
    for _ in range(count):
        change = Send(
            room_id=node.core.rooms.lobby_id,
            id=new_id(),
            author_id=user.id,
            author_name="Cleo",
            kind="text",
            text="unheard",
            sent_at=now(),
        )
        [applied] = await node.store.apply([change])
        assert isinstance(applied, Applied)
        message = applied.message
        told.append(MessageSent(room_id=message.room_id, revision=message.revision, message=message))
    return told


async def test_events_that_come_out_of_order_are_told_in_order(node: Node, ann: Client) -> None:
    lobby = node.core.rooms.lobby_id
    for number in (2, 3, 1, 3, 2):
        deliver(node, sent(lobby, number))
    await turn()
    assert told(ann) == [1, 2, 3]


async def test_an_old_event_is_told_once(node: Node, ann: Client) -> None:
    lobby = node.core.rooms.lobby_id
    for number in (1, 1, 2, 1, 2):
        deliver(node, sent(lobby, number))
    await turn()
    assert told(ann) == [1, 2]


async def test_a_hole_is_read_from_the_store(node: Node, ann: Client) -> None:
    unheard = await write(node, 3)
    deliver(node, unheard[2])
    await turn()
    assert told(ann) == []
    await until(lambda: ann.events("room.changes"))
    [changes] = ann.events("room.changes")
    assert (changes["since"], changes["revision"]) == (0, 3)
    assert [message["seq"] for message in changes["messages"]] == [1, 2, 3]
    assert told(ann) == []
    assert node.repair.repairs == {"hole": 1, "audit": 0, "lost": 0}


async def test_the_last_event_of_a_burst_is_found_by_the_audit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "AWAY_SECONDS", 0.05)
    monkeypatch.setattr(rounds, "HEALTHY_SECONDS", 0.05)
    node = await make_node()
    ann = await guest(node, "Ann")
    await ann.hello()
    await write(node, 2)
    await until(lambda: ann.events("room.changes"))
    assert ann.events("room.changes")[-1]["revision"] == 2
    assert node.repair.repairs["audit"] == 1
    await node.stop()


async def test_a_room_that_the_store_has_lost_some_of_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "AWAY_SECONDS", 0.05)
    monkeypatch.setattr(rounds, "HEALTHY_SECONDS", 0.05)
    node = await make_node()
    ann = await guest(node, "Ann")
    await ann.hello()
    await write(node, 2)
    await until(lambda: ann.events("room.changes"))
    assert isinstance(node.store, MemoryStore)
    before = deepcopy(node.store._chat)
    await write(node, 3)
    await until(lambda: ann.events("room.changes")[-1]["revision"] == 5)
    # As a failover does to a replica that had not heard all.
    node.store._chat = before
    await until(lambda: ann.events("room.reset"))
    [reset] = ann.events("room.reset")
    assert (reset["reason"], reset["revision"]) == ("ahead", 2)
    assert [message["seq"] for message in reset["messages"]] == [1, 2]
    await write(node, 1)
    await until(lambda: ann.events("room.changes")[-1]["revision"] == 3)
    assert node.repair.repairs["lost"] == 1
    await node.stop()


async def test_one_event_for_a_thousand_connections_is_encoded_once(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    clients = [await guest(node, f"Guest {number}") for number in range(1000)]
    for client in clients:
        await client.hello()
        client.transport.frames.clear()
    encoded: list[object] = []
    encode = events.encode

    def counting(model: object) -> bytes:
        encoded.append(model)
        return encode(model)

    monkeypatch.setattr(events, "encode", counting)
    user = await node.core.accounts.walk_in("Cleo")
    await node.core.messages.send(user, node.core.rooms.lobby_id, "hello, everybody")
    await turn()
    assert sum(isinstance(model, MessageSent) for model in encoded) == 1
    frames = {id(client.transport.frames[0]) for client in clients}
    assert len(frames) == 1
    assert all(len(client.transport.frames) == 1 for client in clients)


async def test_what_a_room_tells_in_one_turn_is_one_frame(node: Node, ann: Client) -> None:
    before = len(ann.transport.frames)
    for number in range(1, 9):
        deliver(node, sent(node.core.rooms.lobby_id, number))
    await turn()
    assert len(ann.transport.frames) == before + 1
    assert told(ann) == list(range(1, 9))


async def test_who_comes_in_the_middle_of_a_turn_hears_nothing_twice(node: Node, ann: Client) -> None:
    lobby = node.core.rooms.lobby_id
    [first] = await write(node, 1)
    deliver(node, first)
    await turn()
    bob = await guest(node, "Bob")
    welcome = await bob.hello()
    deliver(node, sent(lobby, 2))
    await turn()
    assert welcome["rooms"][0]["revision"] == 1
    assert told(bob) == [2]
    assert told(ann) == [1, 2]


async def test_a_room_that_nobody_follows_is_forgotten(node: Node, ann: Client, bob: Client) -> None:
    assert set(node.hub.feeds) == {node.core.rooms.lobby_id}
    ann.session.closed()
    assert set(node.hub.feeds) == {node.core.rooms.lobby_id}
    bob.session.closed()
    assert node.hub.feeds == {}
    assert node.hub.sessions == {}


async def test_two_nodes_on_one_store_talk_as_one() -> None:
    store, exchange = MemoryStore(), Exchange()
    one, two = await make_node(store, exchange), await make_node(store, exchange)
    ann, bob = await guest(one, "Ann"), await guest(two, "Bob")
    await ann.hello()
    await bob.hello()
    for number in range(5):
        await (ann if number % 2 else bob).ask(op="message.send", room="lobby", text=str(number))
    for client in (ann, bob):
        await until(lambda client=client: told(client) == [1, 2, 3, 4, 5])
    assert one.repair.repairs["hole"] == two.repair.repairs["hole"] == 0
    for node in (one, two):
        await node.stop()


async def test_garbage_from_the_bus_is_ignored(node: Node, ann: Client) -> None:
    lobby = node.core.rooms.lobby_id
    for payload in (b"", b"\xff\xfe", b"{}", b'{"event":"message.sent"}', msgspec.json.encode([1])):
        node.everywhere.arrived(f"room:{lobby}", payload)
    deliver(node, sent(lobby, 1))
    await turn()
    assert told(ann) == [1]
