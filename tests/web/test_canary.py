"""What is said in a room that is not public comes to nobody else, whatever they try."""

import pytest

from parley.models import Message, Room
from parley.realtime.feed import PlainFeed
from tests.frames import FEED
from tests.realtime.conftest import RecordingTransport
from tests.servers import until
from tests.web.snooping import CANARY, everything, heard_by, plain_feed, revisions_of, settled
from tests.web.world import Somebody, a_world


async def canary(author: Somebody, room: Room) -> Message:
    """Say what nobody else may hear, in new words and in those of an older message."""
    older = await author.says(room, "an older message")
    messages = author.world.core.messages
    edited = await messages.edit(author.user, room.id, older.id, f"an {CANARY} older message")
    told = await author.says(room, f"a {CANARY} in the room")
    assert edited.message.revision == told.revision - 1
    return told


@pytest.mark.parametrize("kind", ["private", "direct"])
async def test_nobody_outside_hears_what_is_said_in_a_room(kind: str) -> None:
    async with a_world() as world:
        ann, bob, cleo = await world.people("Ann", "Bob", "Cleo")
        dora = await world.person("Dora", "guest")
        if kind == "direct":
            room = await world.core.rooms.direct(ann.user, bob.user)
        else:
            room = await ann.makes("private")
            await ann.brings(room, bob)
        await cleo.makes("private")
        listening = [await outsider.connected() for outsider in (cleo, dora)]
        said = await canary(ann, room)
        # Who is in the room hears it, or this would prove nothing.
        assert CANARY.encode() in await everything(bob, room, said)
        for outsider in (cleo, dora):
            assert CANARY.encode() not in await everything(outsider, room, said)
        said = await canary(ann, room)
        await settled()
        assert CANARY.encode() not in heard_by(*listening)


async def test_who_was_removed_hears_nothing_that_is_said_later() -> None:
    async with a_world() as world:
        ann, bob, cleo = await world.people("Ann", "Bob", "Cleo")
        room = await ann.makes("private")
        await ann.brings(room, bob, cleo)
        await bob.says(room, "I am here")
        listening = [await bob.connected(), await bob.connected(since={room.id: 0})]
        opened = await listening[0].ask(op="room.open", room=room.id)
        assert "ok" in opened
        await ann.removes(room, bob)
        said = await canary(ann, room)
        assert CANARY.encode() not in await everything(bob, room, said)
        assert CANARY.encode() not in heard_by(*listening)
        assert CANARY.encode() in await everything(cleo, room, said)


async def test_whoever_was_removed_is_not_told_what_became_of_their_words() -> None:
    async with a_world() as world:
        ann, bob = await world.people("Ann", "Bob")
        room = await ann.makes("private")
        await ann.brings(room, bob)
        said = await bob.says(room, "my own words")
        await ann.removes(room, bob)
        [left] = [each for each in await world.core.store.memberships_of(bob.id) if each.room_id == room.id]
        await world.core.messages.react(ann.user, room.id, said.id, "👎", on=True)
        exported = await bob.does("GET", f"/me/export?cursor={room.id}_0")
        assert [each["text"] for each in exported["messages"]] == ["my own words"]
        assert "👎" not in str(exported)
        assert max(revisions_of(room.id, exported)) == left.revision


async def test_visitors_hear_nothing_after_a_room_has_become_private() -> None:
    async with a_world() as world:
        ann, bob, cleo, dora = await world.people("Ann", "Bob", "Cleo", "Dora")
        room = await ann.makes("public")
        await ann.brings(room, bob, dora)
        await world.core.rooms.leave(dora.user, room.id)
        for name in ("Passer-by", "Walker"):  # whom anybody may speak as
            said = {"user": name, "room": room.name, "text": "hello"}
            assert (await world.http.post("/messages", json=said)).status_code == 201
        visitor = await cleo.connected()
        assert "ok" in await visitor.ask(op="room.open", room=room.id)
        resumed = await dora.connected(since={room.id: 0})
        feed, lines = plain_feed(world, room)
        await until(lambda: feed._last_seq is not None)
        await ann.says(room, "in the open")
        for transport in (visitor.transport, resumed.transport, lines):
            await until(lambda heard=transport: b"in the open" in b"".join(heard.frames))
        await world.core.rooms.change(ann.user, room.id, kind="private")
        said_later = await canary(ann, room)
        await settled()
        assert CANARY.encode() not in heard_by(visitor, resumed) + b"".join(lines.frames)
        assert lines.closed_with is not None
        for outsider in (cleo, dora):
            assert CANARY.encode() not in await everything(outsider, room, said_later)
        assert CANARY.encode() in await everything(bob, room, said_later)


async def test_nobody_speaks_as_a_passer_by_where_not_everybody_may() -> None:
    async with a_world() as world:
        ann = await world.person("Ann")
        room = await ann.makes("public")
        line = {"user": "Walker", "room": room.name, "text": "hello"}
        walker = (await world.http.post("/messages", json=line)).json()["author_id"]
        await world.core.rooms.change(ann.user, room.id, kind="private")
        direct = await world.core.rooms.direct(ann.user, await world.core.accounts.see(walker))
        for key in (room.name, room.id, direct.id):
            refused = await world.http.post("/messages", json=line | {"room": key})
            assert (refused.status_code, refused.json()["code"]) == (404, "room_not_found")
            transport = RecordingTransport(FEED)
            feed = PlainFeed(world.node.realtime, transport, str(key), "Walker")
            feed.opened()
            feed.received("hello")
            await until(lambda heard=transport: heard.closed_with)
        assert [each.text for each in (await world.core.messages.page(ann.id, room.id)).items] == ["hello"]
        assert (await world.core.messages.page(ann.id, direct.id)).items == []
