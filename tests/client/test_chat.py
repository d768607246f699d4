"""Taking part, against the real server: people come, go, write and are cut off, and all see the same."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from parley.client import Chat, ChatEnded, Refused, events
from parley.client.guests import sign_in
from tests.servers import ServerProcess, server, until

SECONDS = 30


async def new_texts(listening: AsyncIterator[events.Event], count: int) -> list[str]:
    """The next new messages."""
    texts: list[str] = []
    async with asyncio.timeout(SECONDS):
        while len(texts) < count:
            event = await anext(listening)
            if isinstance(event, events.MessageSent):
                texts.append(event.message.text)
    return texts


async def stored_texts(chat: Chat) -> list[str]:
    """The whole history of the kitchen, as a stranger reads it."""
    texts: list[str] = []
    before = None
    while page := await chat.history("kitchen", before=before, limit=200):
        texts[:0] = [message.text for message in page]
        before = page[0].seq
    return texts


async def test_two_people_talk(running: ServerProcess) -> None:
    async with (
        Chat(running.url, name="ann", rooms=["kitchen"]) as ann,
        Chat(running.url, name="bob", rooms=["kitchen"]) as bob,
    ):
        to_ann, to_bob = ann.events(), bob.events()
        await asyncio.gather(ann.ready(), bob.ready())
        question = await ann.send("kitchen", "who has the salt?")
        assert await new_texts(to_bob, 1) == ["who has the salt?"]
        await bob.send("kitchen", "I do", reply_to=question.id)
        assert await new_texts(to_ann, 2) == ["who has the salt?", "I do"]
        assert ann.is_mine(question)
        assert not bob.is_mine(question)
        assert ann.state.shown(question.room_id) == bob.state.shown(question.room_id)
        assert sorted(member.display_name for member in await ann.members("kitchen")) == ["ann", "bob"]


async def test_the_same_id_again_is_the_same_message(running: ServerProcess) -> None:
    async with Chat(running.url, name="ann", rooms=["kitchen"]) as ann:
        once = await ann.send("kitchen", "hi")
        assert await ann.send("kitchen", "hi", id=once.id) == once
        with pytest.raises(Refused) as refused:
            await ann.send("kitchen", "something else", id=once.id)
        assert refused.value.code == "id_taken"


async def test_what_is_written_while_the_server_is_away_goes_out_once_and_in_order(
    running: ServerProcess,
) -> None:
    texts = [f"text {number}" for number in range(400)]
    async with (
        Chat(running.url, name="ann", rooms=["kitchen"]) as ann,
        Chat(running.url, name="bob", rooms=["kitchen"]) as bob,
    ):
        to_bob = bob.events()
        await asyncio.gather(ann.ready(), bob.ready())
        futures = [await ann.post("kitchen", text) for text in texts[:100]]
        await asyncio.to_thread(running.stop)
        futures += [await ann.post("kitchen", text) for text in texts[100:200]]
        await asyncio.to_thread(running.start)
        await ann.ready()
        futures += [await ann.post("kitchen", text) for text in texts[200:300]]
        await asyncio.to_thread(running.kill)
        futures += [await ann.post("kitchen", text) for text in texts[300:]]
        await asyncio.to_thread(running.start)
        stored = await asyncio.wait_for(asyncio.gather(*futures), SECONDS)
        assert [message.seq for message in stored] == list(range(1, 401))
        assert await new_texts(to_bob, 400) == texts
        assert await stored_texts(bob) == texts


async def test_who_comes_back_sees_what_a_newcomer_sees(running: ServerProcess) -> None:
    async with Chat(running.url, name="ann", rooms=["kitchen"]) as ann:
        await ann.ready()
        for number in range(30):
            _ = await ann.post("kitchen", f"text {number}")
        await ann.flush()
        first, second, third, *_ = await ann.history("kitchen", limit=200)
        async with Chat(running.url, name="bob", rooms=["kitchen"]) as bob:
            await bob.ready()
            await bob.history("kitchen", limit=200)
            await asyncio.to_thread(running.stop)
            await until(lambda: not bob.is_connected)
            await asyncio.to_thread(running.start)
            edit = {"room": "kitchen", "message": first.id, "text": "better"}
            await ann.request("message.edit", seconds=SECONDS, **edit)
            await ann.request("message.delete", room="kitchen", message=second.id)
            await ann.request("message.react", room="kitchen", message=third.id, emoji="👍")
            last = await ann.send("kitchen", "the last word")
            async with Chat(running.url, name="cleo", rooms=["kitchen"]) as cleo:
                await cleo.ready()
                await cleo.history("kitchen", limit=200)
                fresh = cleo.state.shown(first.room_id)
                assert [each.text for each in fresh[:2]] == ["better", ""]
                for chat in (ann, bob):
                    await until(lambda chat=chat: chat.state.since()[first.room_id] == last.revision)
                    assert chat.state.shown(first.room_id) == fresh


async def test_pages_join_the_window(running: ServerProcess) -> None:
    async with Chat(running.url, name="ann", rooms=["kitchen"]) as ann:
        for number in range(100):
            _ = await ann.post("kitchen", f"text {number}")
        await ann.flush()
        async with Chat(running.url, name="bob", rooms=["kitchen"]) as bob:
            await bob.ready()
            await bob.history("kitchen", limit=20)
            known = bob.state.find("Kitchen")
            assert known is not None
            assert known.begin == 81
            await bob.history("kitchen", before=known.begin, limit=30)
            await ann.send("kitchen", "text 100")
            await until(lambda: len(known.messages) == 51)
            assert [each.text for each in known.messages.values()] == [f"text {n}" for n in range(50, 101)]


async def test_a_server_that_forgot_everything_is_joined_anew(tmp_path: Path) -> None:
    told: list[str] = []
    async with (
        server(tmp_path, store="memory://") as forgetful,
        Chat(forgetful.url, name="ann", rooms=["kitchen"], on_status=lambda s, _: told.append(s)) as ann,
    ):
        await ann.send("kitchen", "before")
        before = ann.me
        await asyncio.to_thread(forgetful.stop)
        await until(lambda: not ann.is_connected)
        sending = await ann.post("kitchen", "after")
        await asyncio.to_thread(forgetful.start)
        after = await asyncio.wait_for(sending, SECONDS)
        assert after.seq == 1
        assert await stored_texts(ann) == ["after"]
        assert [each.text for each in ann.state.shown(after.room_id)] == ["after"]
        assert ann.me != before
        assert told == ["connected", "away", "renewed", "back"]


async def test_a_session_that_is_ended_ends_the_chat_of_its_token(running: ServerProcess) -> None:
    token = await sign_in(running.url, "ann")
    async with (
        Chat(running.url, token=token) as phone,
        Chat(running.url, token=token) as laptop,
    ):
        await asyncio.gather(phone.ready(), laptop.ready())
        await phone.request("session.end")
        for chat in (phone, laptop):
            with pytest.raises(ChatEnded):
                async with asyncio.timeout(SECONDS):
                    async for _ in chat.events():
                        pass


async def test_leaving_and_joining_a_room_is_seen_at_once(running: ServerProcess) -> None:
    async with Chat(running.url, name="ann") as ann:
        joined = await ann.join("kitchen")
        assert joined.id in ann.state.rooms
        assert (await ann.join("kitchen")).id == joined.id
        await ann.request("room.leave", room="kitchen")
        await until(lambda: joined.id not in ann.state.rooms)
        with pytest.raises(Refused) as refused:
            await ann.send("kitchen", "hi")
        assert refused.value.code == "not_a_member"


async def test_a_room_can_be_followed_without_joining_it_and_across_a_restart(
    running: ServerProcess,
) -> None:
    async with (
        Chat(running.url, name="ann", rooms=["kitchen"]) as ann,
        Chat(running.url, name="bob") as bob,
    ):
        to_bob = bob.events()
        await ann.send("kitchen", "one")
        kitchen = await bob.follow("kitchen")
        await ann.send("kitchen", "two")
        assert await new_texts(to_bob, 1) == ["two"]
        await asyncio.to_thread(running.stop)
        await until(lambda: not bob.is_connected)
        await asyncio.to_thread(running.start)
        await ann.send("kitchen", "three")
        assert await new_texts(to_bob, 1) == ["three"]
        assert [each.text for each in bob.state.shown(kitchen.id)] == ["two", "three"]
        assert [each.display_name for each in await bob.members("kitchen")] == ["ann"]


@pytest.mark.parametrize("bad", [{"name": "a\u202enn"}, {"name": "ann", "rooms": ["no good"]}])
async def test_a_name_that_is_refused_ends_the_chat_before_it_begins(
    running: ServerProcess, bad: dict[str, str]
) -> None:
    async with Chat(running.url, **bad) as ann:  # type: ignore[arg-type]
        with pytest.raises(ChatEnded) as ended:
            await asyncio.wait_for(ann.ready(), SECONDS)
        assert ended.value.refusal is not None
        assert ended.value.refusal.code == "invalid_field"
