"""Events that wait: none is lost, and who does not take them is not buried under them."""

import asyncio

import pytest

from parley.client import Chat, EventsUnread, events, inbox
from tests.client.fake_server import SECONDS, fake_server, sent
from tests.servers import until


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox, "MAX_EVENTS", 10)
    monkeypatch.setattr(inbox, "MAX_EVENTS_BEFORE_ANSWERS", 100)
    monkeypatch.setattr(inbox, "STALL_SECONDS", 0.05)


async def test_who_does_not_take_events_is_read_no_further_and_misses_none() -> None:
    async with fake_server() as fake, Chat(fake.url, token="t") as ann, asyncio.timeout(SECONDS):
        listening = ann.events()
        peer = await fake.peer()
        await ann.ready()
        await peer.say(*[sent(seq) for seq in range(1, 500)])
        await until(lambda: ann.state.rooms["kitchen-id"].revision >= 9)
        for _ in range(1000):  # all of them came in one frame: reading on would need nothing but turns
            await asyncio.sleep(0)
        assert ann.state.rooms["kitchen-id"].revision < 20
        seqs: list[int] = []
        async with asyncio.timeout(SECONDS):
            async for event in listening:
                if isinstance(event, events.MessageSent):
                    seqs.append(event.message.seq)
                if seqs[-1:] == [499]:
                    break
        assert seqs == list(range(1, 500))


async def test_nobody_has_to_take_events() -> None:
    async with fake_server() as fake, Chat(fake.url, token="t") as ann, asyncio.timeout(SECONDS):
        peer = await fake.peer()
        await peer.say(*[sent(seq) for seq in range(1, 500)])
        await until(lambda: ann.state.since() == {"kitchen-id": 499})


async def test_one_may_send_from_within_the_loop_over_the_events() -> None:
    async with fake_server() as fake, Chat(fake.url, token="t") as ann, asyncio.timeout(SECONDS):
        listening = ann.events()
        peer = await fake.peer()
        await anext(listening)
        await peer.say(*[sent(seq) for seq in range(1, 50)])
        await until(lambda: ann.state.rooms["kitchen-id"].revision >= 9)
        sending = asyncio.create_task(ann.send("kitchen", "hi"))
        command = await peer.heard("message.send")
        await peer.store(command, 50)
        assert (await asyncio.wait_for(sending, SECONDS)).seq == 50


async def test_an_answer_behind_too_many_events_is_not_waited_for_in_vain() -> None:
    async with fake_server() as fake, Chat(fake.url, token="t") as ann, asyncio.timeout(SECONDS):
        listening = ann.events()
        peer = await fake.peer()
        await anext(listening)
        sending = asyncio.create_task(ann.send("kitchen", "hi"))
        command = await peer.heard("message.send")
        await peer.say(*[sent(seq) for seq in range(1, 200)])
        await peer.store(command, 200)
        with pytest.raises(EventsUnread):
            await asyncio.wait_for(sending, SECONDS)
        async with asyncio.timeout(SECONDS):
            for _ in range(199):
                await anext(listening)
        await asyncio.wait_for(ann.flush(), SECONDS)
        assert ann.state.pending == {}


async def test_the_events_end_with_the_chat() -> None:
    async with fake_server() as fake:
        async with Chat(fake.url, token="t") as ann:
            listening = ann.events()
            peer = await fake.peer()
            await peer.say(sent(1))
            await until(lambda: ann.state.since() == {"kitchen-id": 1})
        assert [type(event) async for event in listening] == [events.RoomAdded, events.MessageSent]
