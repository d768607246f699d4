"""A room whose time is up: who is in it hears so, and a new one may take its name."""

import asyncio

from parley.node import Node
from tests.realtime.conftest import Client, guest, make_node, turn
from tests.servers import until


async def test_those_in_a_room_hear_that_it_is_closed(node: Node, ann: Client, bob: Client) -> None:
    room = (await ann.ask(op="room.create", name="short", ttl_seconds=1))["ok"]["room"]
    await bob.ask(op="room.join", room="short")
    sent = ann.send(op="message.send", room="short", text="last words")
    await until(lambda: bool(bob.events("room.closed")), 5)
    assert ann.answer(sent) is not None
    for client in (ann, bob):
        assert client.events("room.closed") == [{"event": "room.closed", "room_id": room["id"]}]
        told = [event["event"] for event in client.events() if event.get("room_id") == room["id"]]
        assert told[-2:] == ["message.sent", "room.closed"]
    assert room["id"] not in node.hub.feeds
    assert (await ann.ask(op="room.see", room="short"))["error"]["code"] == "room_not_found"
    late = await ann.ask(op="message.send", room="short", text="too late")
    assert late["error"]["code"] == "room_not_found"

    again = (await bob.ask(op="room.create", name="short"))["ok"]["room"]
    assert again["id"] != room["id"]
    await bob.ask(op="message.send", room="short", text="in the new one")
    await turn()
    assert [event["message"]["text"] for event in bob.events("message.sent")][-1] == "in the new one"


async def test_a_room_that_another_node_closed_is_noticed() -> None:
    node = await make_node()
    try:
        ann = await guest(node, "Ann")
        await ann.hello()
        room = (await ann.ask(op="room.create", name="short", ttl_seconds=1))["ok"]["room"]
        await asyncio.sleep(1.1)
        # As another node would: this one hears nothing of it.
        from parley.ids import now

        await node.store.close_due_rooms(now(), 10)
        await node.repair.compare(None)
        assert [event["room_id"] for event in ann.events("room.closed")] == [room["id"]]
        sent = await ann.ask(op="message.send", room="short", text="hello?")
        assert sent["error"]["code"] == "room_not_found"
        # The name is asked for again, as it may be another's by now.
        another = (await ann.ask(op="room.create", name="short"))["ok"]["room"]
        sent = await ann.ask(op="message.send", room="short", text="hello?")
        assert sent["ok"]["message"]["room_id"] == another["id"]
    finally:
        await node.stop()


async def test_an_unknown_closed_room_is_no_matter(node: Node, ann: Client) -> None:
    node.hub.closed("nowhere")
    assert ann.events() == []
