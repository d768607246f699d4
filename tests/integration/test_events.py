"""Other services hear everything that is stored, once where nothing breaks, without a hole where it does."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import structlog
from aiormq.connection import Connection

from parley import app
from parley.buses.memory import MemoryBus
from parley.events import RoomClosed, RoomEvent
from parley.integration import backlog
from parley.integration.announcer import Announcer
from parley.models import User
from parley.node import Node
from parley.stores.memory import MemoryStore
from tests.frames import Conversation
from tests.integration.conftest import Breakable, MakeNode, settings_of
from tests.integration.listeners import Service, hears_up_to, of
from tests.rabbitmq_server import STRANGER, RabbitServer, own_rabbitmq
from tests.servers import free_port, until


def announcer_of(node: Node) -> Announcer:
    assert node.outside is not None
    return node.outside.announcer


async def person(node: Node, name: str) -> User:
    return (await node.core.accounts.guest(name)).user


async def say(node: Node, user: User, room_id: str, *texts: str) -> int:
    """Say something and return the room's revision after it."""
    sent = await asyncio.gather(*(node.core.messages.send(user, room_id, text) for text in texts))
    return max(applied.message.revision for applied in sent)


async def test_everything_that_is_stored_is_told_once_and_in_order(
    make_node: MakeNode, broker: str, service: Service
) -> None:
    node = await make_node(broker)
    core = node.core
    lines: list[bytes] = []
    told = node.everywhere.on_stored

    def stored(event: RoomEvent | RoomClosed, line: bytes) -> None:
        lines.append(line)
        told(event, line)

    node.everywhere.on_stored = stored
    ann, bob, cleo = [await person(node, name) for name in ("Ann", "Bob", "Cleo")]
    room = await core.rooms.create(ann, name=None, title="Kitchen", kind="private")
    await core.rooms.add_member(ann, room.id, bob.id, "member")
    await core.rooms.add_member(ann, room.id, cleo.id, "member")
    message = (await core.messages.send(bob, room.id, "soup")).message
    await core.messages.edit(bob, room.id, message.id, "soup!")
    await core.messages.react(ann, room.id, message.id, "👍", on=True)
    await core.messages.delete(bob, room.id, message.id)
    await core.rooms.change_role(ann, room.id, bob.id, "moderator")
    await core.rooms.change(ann, room.id, title="The kitchen")
    await core.rooms.leave(cleo, room.id)
    await core.rooms.change(ann, room.id, kind="public")
    revision = await say(node, bob, room.id, "one", "two", "three")
    await core.rooms.close(ann, room.id)
    await until(lambda: of(service, room.id)[-1:] and of(service, room.id)[-1].key == "room.closed", 15)
    heard = of(service, room.id)
    assert [each.key for each in heard] == [
        "member.joined", "member.joined", "message.sent", "message.edited", "message.reacted",
        "message.deleted", "member.changed", "room.changed", "member.left", "room.changes",
        "message.sent", "message.sent", "message.sent", "room.closed",
    ]  # fmt: skip
    numbers = [each.body["revision"] for each in heard[:-1]]
    assert numbers == list(range(numbers[0], revision + 1))
    assert [each.line for each in heard] == lines, "the very lines that clients are told"
    assert all(each.headers["event"] == each.body["event"] == each.key for each in heard)
    assert {each.headers["epoch"] for each in heard} == {node.store.epoch}
    assert len({each.id for each in heard}) == len(heard)
    assert heard[2].id == f"{node.store.epoch}:{room.id}:{numbers[2]}"
    for each in heard:
        Conversation().heard(each.line)
    assert announcer_of(node).repeated == announcer_of(node).refused == 0


async def test_what_is_said_while_the_broker_is_away_arrives_afterwards(
    make_node: MakeNode, breakable: Breakable
) -> None:
    service = breakable.service
    node = await make_node(breakable.url)
    announcer = announcer_of(node)
    ann = await person(node, "Ann")
    room = await node.core.rooms.create(ann, name=None, title="Kitchen")
    first = await say(node, ann, room.id, "before")
    await hears_up_to(service, room.id, first, since=first - 1)
    await breakable.away()
    for number in range(30):
        await say(node, ann, room.id, f"meanwhile {number}")
        await asyncio.sleep(0.05)
    await until(lambda: not announcer.healthy(), 30, "noticing")
    await breakable.back()
    last = await say(node, ann, room.id, "after")
    heard = await hears_up_to(service, room.id, last, since=first - 1)
    assert {each.key for each in heard} == {"message.sent"}
    assert {each.body["revision"] for each in heard} == set(range(first, last + 1))
    await until(lambda: not announcer.backlog, what="confirmation")
    assert announcer.backlog.forgotten == 0
    assert announcer.healthy()


async def test_rooms_of_which_too_much_waited_are_read_from_the_store(
    make_node: MakeNode, breakable: Breakable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backlog, "MAX_WAITING", 8)
    service = breakable.service
    node = await make_node(breakable.url)
    announcer = announcer_of(node)
    ann = await person(node, "Ann")
    kitchen, hall, attic = [
        await node.core.rooms.create(ann, name=None, title=title) for title in ("Kitchen", "Hall", "Attic")
    ]
    first = await say(node, ann, kitchen.id, "before")
    await hears_up_to(service, kitchen.id, first, since=first - 1)
    await breakable.away()
    for number in range(20):
        await say(node, ann, kitchen.id, f"meanwhile {number}")
        await say(node, ann, hall.id, f"meanwhile {number}")
    await say(node, ann, attic.id, "too late")
    await node.core.rooms.close(ann, attic.id)
    assert len(announcer.backlog) == 8
    assert announcer.backlog.gaps == 3
    await until(lambda: not announcer.healthy(), 30, "noticing")
    await breakable.back()
    await until(lambda: not announcer.backlog.gaps and not announcer.backlog, 15, "catching up")
    for room in (kitchen, hall):
        last = await say(node, ann, room.id, "after")
        heard = await hears_up_to(service, room.id, last, since=first - 1)
        assert "room.changes" in {each.key for each in heard}
        told = {
            message["seq"]: message["text"]
            for each in heard
            for message in each.body.get("messages", [each.body.get("message")])
        }
        stored = (await node.core.messages.page(ann.id, room.id, limit=200)).items
        assert told == {each.seq: each.text for each in stored}
    assert [each.key for each in of(service, attic.id)] == ["room.closed"]
    assert announcer.rooms_read == 3
    assert announcer.backlog.lost == 0


async def test_who_stops_hands_over_what_waits(make_node: MakeNode, broker: str, service: Service) -> None:
    node = await make_node(broker)
    ann = await person(node, "Ann")
    room = await node.core.rooms.create(ann, name=None, title="Kitchen")
    last = await say(node, ann, room.id, *map(str, range(700)))
    assert announcer_of(node).backlog
    await node.stop()
    assert not announcer_of(node).backlog
    await hears_up_to(service, room.id, last, since=last - 700)


async def test_what_could_not_be_handed_over_is_said(make_node: MakeNode) -> None:
    node = await make_node(f"amqp://127.0.0.1:{free_port()}/")
    ann = await person(node, "Ann")
    room = await node.core.rooms.create(ann, name=None, title="Kitchen")
    await say(node, ann, room.id, "one", "two")
    with structlog.testing.capture_logs() as log:
        await node.stop()
    assert [each for each in log if each["log_level"] == "error"] == [
        {"event": "other services were not told everything", "lines": 2, "rooms": 0, "log_level": "error"}
    ]
    assert announcer_of(node).published == 0


@pytest.mark.servers
async def test_a_second_node_tells_what_it_stored_and_nothing_else(
    make_node: MakeNode, rabbit_url: str, rabbit: Service
) -> None:
    store = MemoryStore()
    nodes = [await make_node(rabbit_url, store) for _ in range(2)]
    ann = await person(nodes[0], "Ann")
    room = await nodes[0].core.rooms.create(ann, name=None, title="Kitchen")
    first = await say(nodes[0], ann, room.id, "one")
    last = await say(nodes[1], ann, room.id, "two")
    await until(lambda: len(of(rabbit, room.id)) == 2, what="both")
    assert sorted(each.body["revision"] for each in of(rabbit, room.id)) == [first, last]
    assert [announcer_of(node).published for node in nodes] == [1, 1]


@pytest.mark.servers
async def test_that_a_room_is_closed_is_told_once_by_whoever_closed_it(
    make_node: MakeNode, rabbit_url: str, rabbit: Service
) -> None:
    store = MemoryStore()
    nodes = [await make_node(rabbit_url, store) for _ in range(2)]
    ann = await person(nodes[0], "Ann")
    by_hand = await nodes[0].core.rooms.create(ann, name=None, title="Kitchen")
    in_time = await nodes[0].core.rooms.create(ann, name=None, title="Tent", ttl_seconds=1)
    await nodes[0].core.rooms.close(ann, by_hand.id)
    for node in nodes:  # as the audit says where the store has no such room
        node.hub.closed(by_hand.id)
    await until(lambda: of(rabbit, by_hand.id) and of(rabbit, in_time.id), what="both")
    await asyncio.sleep(1.5)
    for room in (by_hand, in_time):
        assert [each.body for each in of(rabbit, room.id)] == [{"event": "room.closed", "room_id": room.id}]


async def refusal(node: Node, log: list[Any]) -> str:
    """What an operator reads of RabbitMQ, while people chat."""
    await until(lambda: any("reason" in each for each in log), 15, "a reason")
    ann = await person(node, "Ann")
    room = await node.core.rooms.create(ann, name=None, title="Kitchen")
    await say(node, ann, room.id, "never mind")
    await asyncio.sleep(0.5)
    (reason,) = {each["reason"] for each in log if "reason" in each and each["over"] == "parley.events"}
    assert sum("reason" in each and each["over"] == "parley.events" for each in log) == 1, "said once"
    assert node.state == "ready"
    return str(reason)


@pytest.mark.servers
async def test_another_exchange_of_that_name_is_said_and_chat_goes_on(
    make_node: MakeNode, rabbit_url: str
) -> None:
    connection = Connection(rabbit_url)
    await connection.connect()
    channel: Any = await connection.channel()
    await channel.exchange_delete("parley.events")
    await channel.exchange_declare("parley.events", exchange_type="fanout", durable=True)
    try:
        with structlog.testing.capture_logs() as log:
            node = await make_node(rabbit_url)
            assert "there is another exchange named parley.events" in await refusal(node, log)
            assert len(announcer_of(node).backlog) == 1
        assert node.outside is not None
        await until(node.outside.posting.healthy, what="what has no trouble")
    finally:
        await channel.exchange_delete("parley.events")
        await connection.close()


@pytest.mark.servers
async def test_who_may_not_make_the_exchange_is_told_so_and_chat_goes_on(make_node: MakeNode) -> None:
    with structlog.testing.capture_logs() as log:
        node = await make_node(f"amqp://{STRANGER}@127.0.0.1:{own_rabbitmq().port}/")
        assert "that user may not make and write to the exchange parley.events" in await refusal(node, log)
    assert "hush-hush" not in str(log)


@pytest.mark.servers
async def test_the_exchange_and_what_waits_in_queues_survive_the_broker(tmp_path: Path) -> None:
    """Everything is durable: what was confirmed is there after a power cut."""
    server = await asyncio.to_thread(RabbitServer(tmp_path).start)
    try:
        settings = settings_of(server.url)
        node = Node(settings, MemoryStore(), MemoryBus(), app._outside(settings))
        await node.start()
        connection = Connection(server.url)
        await connection.connect()
        channel: Any = await connection.channel()
        await until(announcer_of(node).healthy, what="the exchange")
        await channel.queue_declare("mine", durable=True)
        await channel.queue_bind("mine", "parley.events", "message.*")
        ann = await person(node, "Ann")
        room = await node.core.rooms.create(ann, name=None, title="Kitchen")
        last = await say(node, ann, room.id, *map(str, range(50)))
        await until(lambda: announcer_of(node).published == 50, what="confirmation")
        await connection.close()
        await asyncio.to_thread(server.kill)
        last = await say(node, ann, room.id, "while it is dead")
        await asyncio.to_thread(server.start)
        await until(lambda: announcer_of(node).published == 51, 20, "confirmation")
        connection = Connection(server.url)
        await connection.connect()
        channel = await connection.channel()
        revisions = []
        while (message := await channel.basic_get("mine", no_ack=True)).body:
            revisions.append(json.loads(message.body)["revision"])
        assert revisions == list(range(last - 50, last + 1))
        await connection.close()
        await node.stop()
    finally:
        await asyncio.to_thread(server.stop)
