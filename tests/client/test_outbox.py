"""Messages on their way: none is lost, none is doubled, and their order holds."""

import asyncio
import uuid
from asyncio import Future
from typing import Any

import pytest

from parley.client import Chat, ChatEnded, Message, Refused
from parley.client.outbox import MAX_FLYING, MAX_INTERNAL_ERRORS
from tests.client.fake_server import SECONDS, Peer, fake_server, sent
from tests.servers import until

pytestmark = pytest.mark.usefixtures("quickly")


async def texts(peer: Peer, count: int) -> list[str]:
    return [(await peer.heard("message.send"))["text"] for _ in range(count)]


async def post(chat: Chat, *words: str) -> "list[Future[Message]]":
    return [await chat.post("kitchen", each) for each in words]


async def test_what_was_not_acknowledged_is_sent_again_under_its_id_and_before_anything_newer() -> None:
    async with fake_server() as fake, Chat(fake.url, token="t") as ann:
        peer = await fake.peer()
        first, *_ = futures = await post(ann, "one", "two", "three")
        before = [await peer.heard("message.send") for _ in range(3)]
        await peer.store(before[0], 1)
        assert (await asyncio.wait_for(first, SECONDS)).seq == 1
        peer.break_off()
        await until(lambda: not ann.is_connected)
        futures += await post(ann, "four")
        peer = await fake.peer()
        again = [await peer.heard("message.send") for _ in range(3)]
        assert [each["text"] for each in again] == ["two", "three", "four"]
        assert [each["id"] for each in again[:2]] == [each["id"] for each in before[1:]]
        for seq, command in enumerate(again, 2):
            await peer.store(command, seq)
        stored = await asyncio.wait_for(asyncio.gather(*futures), SECONDS)
        assert [message.seq for message in stored] == [1, 2, 3, 4]
        assert ann.state.pending == {}


async def test_a_message_that_the_server_cannot_take_now_holds_back_the_later_ones() -> None:
    async with fake_server() as fake, Chat(fake.url, token="t") as ann:
        peer = await fake.peer()
        await ann.ready()
        (one,) = await post(ann, "one")
        command = await peer.heard("message.send")
        await peer.refuse(command, "overloaded", "unavailable", retry_after=0.2)
        # An answer behind the refusal shows that the refusal was read.
        asking = asyncio.create_task(ann.request("profile.see"))
        await peer.answer(await peer.heard("profile.see"))
        await asking
        two, three = await post(ann, "two", "three")
        begun = asyncio.get_running_loop().time()
        again = await peer.heard("message.send")
        assert asyncio.get_running_loop().time() - begun > 0.1, "it waits as long as the server asks for"
        assert again["id"] == command["id"]
        assert peer.unheard == 0, "the later ones wait until it is stored"
        await peer.store(again, 1)
        assert await texts(peer, 2) == ["two", "three"]
        assert (await asyncio.wait_for(one, SECONDS)).seq == 1
        assert not two.done()
        assert not three.done()


@pytest.mark.parametrize("code", ["overloaded", "store_unavailable", "draining", "rate_limited"])
async def test_in_flight_messages_that_are_refused_together_are_stored_in_their_order(code: str) -> None:
    kind = "too_many" if code == "rate_limited" else "unavailable"
    async with fake_server() as fake, Chat(fake.url, token="t") as ann:
        peer = await fake.peer()
        words = [f"text {number}" for number in range(10)]
        futures = await post(ann, *words)
        for _ in words:
            await peer.refuse(await peer.heard("message.send"), code, kind)
        stored = []
        for seq in range(1, 11):
            command = await peer.heard("message.send")
            assert peer.unheard == 0, "one at a time, until all that was refused is stored"
            stored.append(command["text"])
            await peer.store(command, seq)
        assert stored == words
        await asyncio.wait_for(asyncio.gather(*futures), SECONDS)


async def test_a_fault_of_the_server_is_tried_again_but_not_for_ever() -> None:
    async with fake_server() as fake, Chat(fake.url, token="t") as ann:
        peer = await fake.peer()
        poison, next_one = await post(ann, "poison", "next")
        for number in range(MAX_INTERNAL_ERRORS):
            command = await peer.heard("message.send")
            assert command["text"] == "poison"
            if number == 0:
                other = await peer.heard("message.send")
            await peer.refuse(command, "internal_error", "unavailable")
            if number == 0:
                await peer.store(other, 1)
        with pytest.raises(Refused, match="internal_error"):
            await asyncio.wait_for(poison, SECONDS)
        assert (await asyncio.wait_for(next_one, SECONDS)).seq == 1


async def test_a_refusal_for_good_is_told_to_the_sender_and_to_nobody_else() -> None:
    async with fake_server() as fake, Chat(fake.url, token="t") as ann:
        peer = await fake.peer()
        await ann.ready()
        sending = asyncio.create_task(ann.send("kitchen", "one"))
        command = await peer.heard("message.send")
        (two,) = await post(ann, "two")
        assert len(ann.state.pending) == 2
        await peer.refuse(command, "read_only_room", "forbidden")
        with pytest.raises(Refused) as refused:
            await sending
        assert refused.value.code == "read_only_room"
        await peer.store(await peer.heard("message.send"), 1)
        assert (await asyncio.wait_for(two, SECONDS)).text == "two"
        assert ann.state.pending == {}


async def test_only_so_many_messages_are_in_flight() -> None:
    async with fake_server() as fake, Chat(fake.url, token="t") as ann:
        peer = await fake.peer()
        await post(ann, *map(str, range(MAX_FLYING + 10)))
        commands = [await peer.heard("message.send") for _ in range(MAX_FLYING)]
        asking = asyncio.create_task(ann.request("profile.see"))
        await peer.answer(await peer.heard("profile.see"))
        await asking
        assert peer.unheard == 0
        await peer.store(commands[0], 1)
        assert await texts(peer, 1) == [str(MAX_FLYING)]


async def test_who_writes_faster_than_the_server_stores_waits() -> None:
    async with fake_server() as fake, Chat(fake.url, token="t", max_outbox=3) as ann:
        peer = await fake.peer()
        await post(ann, "one", "two", "three")
        four = asyncio.create_task(ann.post("kitchen", "four"))
        five = asyncio.create_task(ann.post("kitchen", "five"))
        command = await peer.heard("message.send")
        assert await texts(peer, 2) == ["two", "three"]
        assert not four.done()
        await peer.store(command, 1)
        assert not (await asyncio.wait_for(four, SECONDS)).done()
        assert await texts(peer, 1) == ["four"]
        assert not five.done()
        await ann.close()
        with pytest.raises(ChatEnded):
            _ = await asyncio.wait_for(five, SECONDS)


async def test_a_message_of_mine_shows_before_it_is_stored_and_once_after() -> None:
    async with fake_server() as fake, Chat(fake.url, token="t") as ann:
        peer = await fake.peer()
        await ann.ready()
        await post(ann, "one")
        assert [(each.text, each.seq) for each in ann.state.shown("kitchen-id")] == [("one", 0)]
        command = await peer.heard("message.send")
        await peer.say(sent(1, text="one", author="ann", id=command["id"]))
        await until(lambda: [each.seq for each in ann.state.shown("kitchen-id")] == [1])
        await peer.store(command, 1)
        await ann.flush()
        assert [each.seq for each in ann.state.shown("kitchen-id")] == [1]


async def test_giving_up_waiting_does_not_give_up_the_message() -> None:
    async with fake_server() as fake, Chat(fake.url, token="t") as ann:
        peer = await fake.peer()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await ann.send("kitchen", "one")
        await peer.store(await peer.heard("message.send"), 1)
        await asyncio.wait_for(ann.flush(), SECONDS)


@pytest.mark.parametrize(
    "bad", [{"text": "\ud800"}, {"text": "hi", "id": "no uuid"}, {"text": "x" * 300_000}]
)
async def test_what_no_server_could_read_is_refused_at_once(bad: dict[str, Any]) -> None:
    async with fake_server() as fake, Chat(fake.url, token="t") as ann:
        await fake.peer()
        with pytest.raises((ValueError, Refused)):
            await asyncio.wait_for(ann.send("kitchen", **bad), SECONDS)
        await asyncio.wait_for(ann.flush(), SECONDS)


async def test_an_id_that_is_on_its_way_is_not_sent_twice() -> None:
    async with fake_server() as fake, Chat(fake.url, token="t") as ann:
        await fake.peer()
        same = str(uuid.uuid4())
        _ = await ann.post("kitchen", "one", id=same)
        with pytest.raises(ValueError, match=same):
            _ = await ann.post("kitchen", "two", id=same.upper())
