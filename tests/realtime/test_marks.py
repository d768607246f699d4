"""Who has read, and who is writing."""

import asyncio
from uuid import uuid4

import pytest

from parley.node import Node
from parley.services import marks as marks_module
from parley.services import typing as typing_module
from tests.realtime.conftest import Client, guest, turn
from tests.servers import until


async def together(*clients: Client) -> str:
    """A room that all of them are in."""
    name = f"kitchen-{uuid4().hex[:6]}"
    await clients[0].ask(op="room.create", name=name)
    for client in clients[1:]:
        await client.ask(op="room.join", room=name)
    return name


async def test_everybody_in_a_small_room_sees_who_has_read(node: Node, ann: Client, bob: Client) -> None:
    room = await together(ann, bob)
    await ann.ask(op="message.send", room=room, text="read this")
    await bob.ask(op="read.mark", room=room, seq=1)
    for client in (ann, bob):
        await until(lambda client=client: bool(client.events("read.marked")))
        (event,) = client.events("read.marked")
        assert (event["user_id"], event["seq"]) == (bob.session.user.id, 1)
    await bob.ask(op="read.mark", room=room, seq=1)
    await turn()
    assert len(ann.events("read.marked")) == 1


async def test_in_a_large_room_only_my_devices_see_it(
    node: Node, ann: Client, bob: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(marks_module, "MAX_RECEIPTS", 1)
    room = await together(ann, bob)
    await ann.ask(op="message.send", room=room, text="read this")
    await bob.ask(op="read.mark", room=room, seq=1)
    await turn()
    assert bob.events("read.marked")
    assert not ann.events("read.marked")


async def test_the_others_see_who_is_writing(node: Node, ann: Client, bob: Client) -> None:
    room = await together(ann, bob)
    assert (await ann.ask(op="typing.start", room=room))["ok"] == {}
    await ann.ask(op="typing.start", room=room)
    (event,) = bob.events("typing.started")
    assert (event["user_id"], event["display_name"]) == (ann.session.user.id, "Ann")
    assert ann.events("typing") == []
    await ann.ask(op="typing.stop", room=room)
    await ann.ask(op="typing.stop", room=room)
    assert len(bob.events("typing.stopped")) == 1


async def test_writing_ends_with_the_message(node: Node, ann: Client, bob: Client) -> None:
    room = await together(ann, bob)
    await ann.ask(op="typing.start", room=room)
    await ann.ask(op="message.send", room=room, text="here it is")
    await ann.ask(op="typing.start", room=room)
    assert len(bob.events("typing.started")) == 2
    assert bob.events("typing.stopped") == []


async def test_writing_ends_by_itself(
    node: Node, ann: Client, bob: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(typing_module, "SECONDS", 0.05)
    room = await together(ann, bob)
    await ann.ask(op="typing.start", room=room)
    await until(lambda: bool(bob.events("typing.stopped")))
    await asyncio.sleep(0.1)
    assert len(bob.events("typing.stopped")) == 1


async def test_who_is_not_in_a_room_does_not_write_there(node: Node, ann: Client, bob: Client) -> None:
    room = await together(ann)
    assert (await bob.ask(op="typing.start", room=room))["error"]["code"] == "not_a_member"
    assert (await bob.ask(op="typing.start", room="nowhere"))["error"]["code"] == "room_not_found"
    assert ann.events("typing") == []


async def test_so_many_at_once_and_no_more(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(typing_module, "MAX_AT_ONCE", 1)
    ann, bob = await guest(node, "Ann"), await guest(node, "Bob")
    for client in (ann, bob):
        await client.hello()
    room = await together(ann, bob)
    await ann.ask(op="typing.start", room=room)
    assert (await bob.ask(op="typing.start", room=room))["error"]["code"] == "overloaded"
    assert (await ann.ask(op="typing.start", room=room))["ok"] == {}
