"""Commands, answers and events on the wire, against a server that does as the test says."""

import asyncio
from typing import Any

import pytest

from parley.client import Chat, ConnectionLost, Refused, events
from parley.client.connection import MAX_JOINED, MAX_JOINED_BYTES
from tests.client.fake_server import SECONDS, fake_server, kitchen, message, sent
from tests.servers import until

pytestmark = pytest.mark.usefixtures("quickly")


async def test_a_request_that_broke_is_asked_again_only_where_that_is_harmless() -> None:
    async with fake_server() as fake, Chat(fake.url, token="t") as ann:
        peer = await fake.peer()
        await ann.ready()
        harmless = asyncio.create_task(ann.request("room.see", room="kitchen"))
        await peer.heard("room.see")
        once = asyncio.create_task(ann.request("room.create", name="cellar"))
        await peer.heard("room.create")
        peer.break_off()
        peer = await fake.peer()
        await peer.answer(await peer.heard("room.see"), room=kitchen())
        assert (await asyncio.wait_for(harmless, SECONDS))["room"]["name"] == "kitchen"
        with pytest.raises(ConnectionLost):
            await once
        assert peer.unheard == 0


async def test_a_request_has_a_deadline_with_and_without_a_server() -> None:
    async with fake_server() as fake, Chat(fake.url, token="t") as ann, asyncio.timeout(SECONDS):
        with pytest.raises(TimeoutError, match=r"room\.see"):
            await ann.request("room.see", seconds=0.01, room="kitchen")
        peer = await fake.peer()
        await ann.ready()
        with pytest.raises(TimeoutError, match=r"room\.see"):
            await ann.request("room.see", seconds=0.05, room="kitchen")
        late = await peer.heard("room.see")
        await peer.answer(late, room=kitchen())
        asking = asyncio.create_task(ann.request("profile.see"))
        await peer.refuse(await peer.heard("profile.see"), "user_not_found", "not_found")
        with pytest.raises(Refused) as refused:
            await asking
        assert refused.value.code == "user_not_found"


async def test_unknown_events_and_fields_are_passed_over() -> None:
    async with fake_server() as fake, Chat(fake.url, token="t") as ann, asyncio.timeout(SECONDS):
        listening = ann.events()
        peer = await fake.peer(kitchen(colour="green"))
        typing = {"event": "typing.started", "room_id": "kitchen-id", "user_id": "bob-id"}
        await peer.say(typing, {"event": "weather.changed"}, sent(1, mood="good") | {"shade": 3})
        await peer.say({"ref": 999, "ok": {}}, {"hint": "read the docs"})
        assert isinstance(await anext(listening), events.RoomAdded)
        told = await anext(listening)
        assert isinstance(told, events.MessageSent)
        assert told.message.text == "hi"
        assert fake.count == 1


async def test_a_hole_is_filled_by_asking_once_and_told_in_order() -> None:
    async with fake_server() as fake, Chat(fake.url, token="t") as ann, asyncio.timeout(SECONDS):
        listening = ann.events()
        peer = await fake.peer()
        await peer.say(sent(1))
        await peer.say(sent(3), sent(4))
        asked = await peer.heard("message.changes")
        assert (asked["room"], asked["since"]) == ("kitchen-id", 1)
        missed = [message(seq) for seq in (2, 3, 4, 5)]
        changes = {"revision": 5, "messages": missed, "members": [], "room": None, "reset": False}
        # The next event comes in the same frame as the answer: there is no hole between them.
        await peer.say({"ref": asked["ref"], "ok": changes}, sent(6))
        seqs = []
        async for event in listening:
            if isinstance(event, events.MessageSent):
                seqs.append(event.message.seq)
            if seqs[-1:] == [6]:
                break
        assert seqs == [1, 2, 3, 4, 5, 6]
        assert peer.unheard == 0
        assert not ann.state.rooms["kitchen-id"].has_hole


async def test_a_change_that_cannot_be_read_is_asked_for() -> None:
    async with fake_server() as fake, Chat(fake.url, token="t") as ann:
        peer = await fake.peer()
        await peer.say({"event": "room.painted", "room_id": "kitchen-id", "revision": 1, "colour": "green"})
        asked = await peer.heard("message.changes")
        painted = kitchen(1, title="Green kitchen")
        await peer.answer(asked, revision=1, messages=[], members=[], room=painted, reset=False)
        await until(lambda: ann.state.rooms["kitchen-id"].room.title == "Green kitchen")


async def test_what_cannot_be_read_at_all_ends_that_connection_only() -> None:
    async with fake_server() as fake, Chat(fake.url, token="t"):
        peer = await fake.peer()
        await peer.socket.send("no JSON")
        await fake.peer()


async def test_another_epoch_replaces_what_was_known() -> None:
    async with fake_server() as fake, Chat(fake.url, token="t") as ann:
        peer = await fake.peer()
        await peer.say(sent(1, text="old"))
        await until(lambda: ann.state.since() == {"kitchen-id": 1})
        peer.break_off()
        peer = await fake.peer(kitchen(1, 1), epoch="e2")
        reset: dict[str, Any] = {"event": "room.reset", "room_id": "kitchen-id", "reason": "epoch"}
        page = {"revision": 1, "messages": [message(1, "new")], "members": [], "room": None, "reset": True}
        await peer.say(reset | page)
        await until(lambda: [each.text for each in ann.state.shown("kitchen-id")] == ["new"])


async def test_commands_of_one_moment_share_frames_of_bounded_size() -> None:
    async with fake_server() as fake, Chat(fake.url, token="t") as ann:
        peer = await fake.peer()
        await ann.ready()
        asking = [asyncio.create_task(ann.request("room.see", room="k" * 4000)) for _ in range(60)]
        for _ in asking:
            await peer.answer(await peer.heard("room.see"), room=kitchen())
        await asyncio.gather(*asking)
        assert len(peer.frames) < 10
        assert max(len(frame) for frame in peer.frames) <= MAX_JOINED_BYTES

        asking = [asyncio.create_task(ann.request("profile.see")) for _ in range(60)]
        sending = [asyncio.create_task(ann.send("kitchen", "hi")) for _ in range(60)]
        for _ in range(120):
            await peer.heard_any()
        assert max(frame.count("\n") + 1 for frame in peer.frames) == MAX_JOINED
        for task in (*asking, *sending):
            task.cancel()
        await asyncio.gather(*asking, *sending, return_exceptions=True)
